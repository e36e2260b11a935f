//! The SQL of envelopes that will not arrive, because their recipient's key was replaced, does not take them any more, or
//! nobody came for them: they go back to their senders, who are told which messages and why.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row, params};

use super::sqlite::{column, decoded, parsed};
use super::{Expired, Returned, StoreError, people, shelf};
use crate::wire::ids::{MessageId, PeerKey, PeerName, UnixMillis};
use crate::wire::limits::MAILBOX_MESSAGES_MAX;
use crate::wire::message::Envelope;
use crate::wire::refusal::Refusal;

/// Why messages come back.
const REASONS: [Refusal; 3] = [Refusal::KeyChanged, Refusal::Expired, Refusal::NotAccepted];

/// An envelope: its number, its sender and its message.
type Sent = (i64, PeerName, MessageId);

/// Gives the envelopes of an account that are sealed to another key than this back to their senders, and says to whom.
pub(super) fn give_back(
    sql: &Connection,
    recipient: &PeerName,
    key: PeerKey,
    now: UnixMillis,
) -> Result<Vec<PeerName>, StoreError> {
    give(sql, recipient, sealed_to_others(sql, recipient, key)?, Refusal::KeyChanged, now)
}

/// Gives the envelopes of those who may not write to an account any more back to them, and says to whom.
pub(super) fn give_back_unwanted(
    sql: &Connection,
    recipient: &PeerName,
    now: UnixMillis,
) -> Result<Vec<PeerName>, StoreError> {
    let mut is_unwanted = BTreeMap::new();
    let mut unwanted = Vec::new();
    for sent in all(sql, recipient)? {
        if !is_unwanted.contains_key(&sent.1) {
            let is_open = people::relation(sql, recipient, &sent.1)?.is_open();
            is_unwanted.insert(sent.1.clone(), !is_open);
        }
        if is_unwanted.get(&sent.1) == Some(&true) {
            unwanted.push(sent);
        }
    }
    give(sql, recipient, unwanted, Refusal::NotAccepted, now)
}

/// Gives all envelopes of an account that is about to be deleted back to their senders, and says to whom.
pub(super) fn give_all_back(
    sql: &Connection,
    recipient: &PeerName,
    now: UnixMillis,
) -> Result<Vec<PeerName>, StoreError> {
    give(sql, recipient, all(sql, recipient)?, Refusal::UnknownName, now)
}

/// What waits for an account, in the order in which it came.
fn all(sql: &Connection, recipient: &PeerName) -> Result<Vec<Sent>, StoreError> {
    let query =
        "SELECT number, sender, id FROM envelope INDEXED BY envelope_waiting WHERE recipient = ?1 ORDER BY number";
    let mut statement = sql.prepare_cached(query)?;
    let waiting = statement.query_and_then([recipient.as_str()], |row| {
        Ok((column(row, 0)?, parsed(&column::<String>(row, 1)?)?, MessageId::from_bytes(column(row, 2)?)))
    })?;
    waiting.collect()
}

/// Takes envelopes of an account away and tells their senders why.
fn give(
    sql: &Connection,
    recipient: &PeerName,
    envelopes: Vec<Sent>,
    refusal: Refusal,
    now: UnixMillis,
) -> Result<Vec<PeerName>, StoreError> {
    let mut senders = Vec::new();
    for (number, sender, id) in envelopes {
        shelf::remove(sql, number)?;
        tell(sql, &sender, recipient, id, refusal, now)?;
        if !senders.contains(&sender) {
            senders.push(sender);
        }
    }
    for sender in &senders {
        keep_newest(sql, sender)?;
    }
    Ok(senders)
}

/// Gives envelopes that waited since before a time back to their senders, the oldest first and at most so many.
pub(super) fn expire(
    sql: &Connection,
    before: UnixMillis,
    limit: usize,
    now: UnixMillis,
) -> Result<Expired, StoreError> {
    let mut statement = sql.prepare_cached(
        "DELETE FROM envelope WHERE number IN
             (SELECT number FROM envelope WHERE stored_at < ?1 ORDER BY stored_at, number LIMIT ?2)
         RETURNING number, sender, recipient, id",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut expired = Expired::default();
    let mut rows = statement.query(params![before.0.cast_signed(), limit])?;
    let mut messages = Vec::new();
    while let Some(row) = rows.next()? {
        expired.count += 1;
        match (column::<i64>(row, 0), expired_row(row)) {
            (Ok(number), Ok((sender, recipient, id))) => messages.push((number, sender, recipient, id)),
            // There is nobody to tell of it.
            (_, Err(error)) | (Err(error), _) => tracing::error!(%error, "an expired envelope could not be read"),
        }
    }
    messages.sort_by_key(|(number, ..)| *number); // SQLite returns deleted rows in any order
    for (_, sender, recipient, id) in messages {
        tell(sql, &sender, &recipient, id, Refusal::Expired, now)?;
        if !expired.senders.contains(&sender) {
            expired.senders.push(sender);
        }
    }
    for sender in &expired.senders {
        keep_newest(sql, sender)?;
    }
    Ok(expired)
}

fn expired_row(row: &Row<'_>) -> Result<(PeerName, PeerName, MessageId), StoreError> {
    let sender = parsed(&column::<String>(row, 1)?)?;
    Ok((sender, parsed(&column::<String>(row, 2)?)?, MessageId::from_bytes(column(row, 3)?)))
}

/// Notes for a sender that a message will not arrive. One whose account was deleted meanwhile is told nothing.
fn tell(
    sql: &Connection,
    sender: &PeerName,
    recipient: &PeerName,
    id: MessageId,
    refusal: Refusal,
    now: UnixMillis,
) -> Result<(), StoreError> {
    sql.prepare_cached(
        "INSERT INTO returned (sender, recipient, id, returned_at, refusal)
         SELECT name, ?2, ?3, ?4, ?5 FROM account WHERE name = ?1",
    )?
    .execute(params![
        sender.as_str(),
        recipient.as_str(),
        id.as_bytes(),
        now.0.cast_signed(),
        refusal.number()
    ])?;
    Ok(())
}

/// Numbers, senders and message ids. A row that cannot be read stays where it is.
fn sealed_to_others(sql: &Connection, recipient: &PeerName, key: PeerKey) -> Result<Vec<Sent>, StoreError> {
    let mut statement =
        sql.prepare_cached("SELECT number, sender, envelope FROM envelope WHERE recipient = ?1 ORDER BY number")?;
    let mut rows = statement.query([recipient.as_str()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        match sealed(row) {
            Ok((to, _)) if to == key => {}
            Ok((_, envelope)) => found.push(envelope),
            Err(error) => tracing::error!(%recipient, %error, "envelope not given back"),
        }
    }
    Ok(found)
}

type Sealed = (PeerKey, Sent);

fn sealed(row: &Row<'_>) -> Result<Sealed, StoreError> {
    let header = decoded::<Envelope>("envelope", &column::<Vec<u8>>(row, 2)?)?.header;
    Ok((header.recipient, (column(row, 0)?, parsed(&column::<String>(row, 1)?)?, header.id)))
}

/// What one account is told of is bounded as its mailbox is; of more than that it hears of the newest.
fn keep_newest(sql: &Connection, sender: &PeerName) -> Result<(), StoreError> {
    let dropped = sql.execute(
        "DELETE FROM returned WHERE sender = ?1 AND number NOT IN
             (SELECT number FROM returned WHERE sender = ?1 ORDER BY number DESC LIMIT ?2)",
        params![sender.as_str(), MAILBOX_MESSAGES_MAX.cast_signed()],
    )?;
    if dropped > 0 {
        tracing::warn!(peer = %sender, dropped, "too many returned messages wait for this account");
    }
    Ok(())
}

pub(super) fn waiting(
    sql: &Connection,
    sender: &PeerName,
    after: i64,
    limit: usize,
) -> Result<Vec<Returned>, StoreError> {
    let mut statement = sql.prepare_cached(
        "SELECT number, recipient, id, refusal FROM returned WHERE sender = ?1 AND number > ?2 ORDER BY number LIMIT ?3",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_and_then(params![sender.as_str(), after, limit], |row| {
        Ok(Returned {
            number: column(row, 0)?,
            to: parsed(&column::<String>(row, 1)?)?,
            id: MessageId::from_bytes(column(row, 2)?),
            refusal: reason(column(row, 3)?),
        })
    })?;
    rows.collect()
}

fn reason(number: u16) -> Refusal {
    REASONS.into_iter().find(|refusal| refusal.number() == number).unwrap_or(Refusal::Unknown(number))
}

/// A message that is sent again under its id has not failed to arrive.
pub(super) fn take_off(
    sql: &Connection,
    sender: &PeerName,
    recipient: &PeerName,
    id: MessageId,
) -> Result<(), StoreError> {
    sql.prepare_cached("DELETE FROM returned WHERE sender = ?1 AND recipient = ?2 AND id = ?3")?.execute(params![
        sender.as_str(),
        recipient.as_str(),
        id.as_bytes()
    ])?;
    Ok(())
}
