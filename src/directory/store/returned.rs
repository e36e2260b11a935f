//! The SQL of envelopes that nobody can open any more, because their recipient's key was replaced: they go back to their
//! senders, who are told which messages did not arrive.

use rusqlite::{Connection, Row, params};

use super::sqlite::{column, decoded, parsed};
use super::{Returned, StoreError};
use crate::wire::ids::{MessageId, PeerKey, PeerName, UnixMillis};
use crate::wire::limits::MAILBOX_MESSAGES_MAX;
use crate::wire::message::Envelope;

/// Gives the envelopes of an account that are sealed to another key than this back to their senders, and says to whom.
pub(super) fn give_back(
    sql: &Connection,
    recipient: &PeerName,
    key: PeerKey,
    now: UnixMillis,
) -> Result<Vec<PeerName>, StoreError> {
    let mut senders = Vec::new();
    for (number, sender, id) in sealed_to_others(sql, recipient, key)? {
        sql.prepare_cached("DELETE FROM envelope WHERE number = ?1")?.execute([number])?;
        // A sender whose account was deleted meanwhile is told nothing.
        sql.prepare_cached(
            "INSERT INTO returned (sender, recipient, id, returned_at)
             SELECT name, ?2, ?3, ?4 FROM account WHERE name = ?1",
        )?
        .execute(params![sender.as_str(), recipient.as_str(), id.as_bytes(), now.0.cast_signed()])?;
        if !senders.contains(&sender) {
            senders.push(sender);
        }
    }
    for sender in &senders {
        keep_newest(sql, sender)?;
    }
    Ok(senders)
}

/// Numbers, senders and message ids. A row that cannot be read stays where it is.
fn sealed_to_others(
    sql: &Connection,
    recipient: &PeerName,
    key: PeerKey,
) -> Result<Vec<(i64, PeerName, MessageId)>, StoreError> {
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

type Sealed = (PeerKey, (i64, PeerName, MessageId));

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
        "SELECT number, recipient, id FROM returned WHERE sender = ?1 AND number > ?2 ORDER BY number LIMIT ?3",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_and_then(params![sender.as_str(), after, limit], |row| {
        Ok(Returned {
            number: column(row, 0)?,
            to: parsed(&column::<String>(row, 1)?)?,
            id: MessageId::from_bytes(column(row, 2)?),
        })
    })?;
    rows.collect()
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
