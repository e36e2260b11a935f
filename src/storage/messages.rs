//! Messages of both directions: the outbox that survives a crash, what has come, and what is owed to its senders. The
//! rules are `protocol/conversation.rs`; here each of its decisions is one transaction.

use rusqlite::{OptionalExtension, params};

use super::records::{COLUMNS, SqlRecords, StoredRow, unsigned};
use crate::database::{Database, DatabaseError};
use crate::protocol::conversation::{self, Draft, Fate, GivenUp, Records as _, Stage, Taken};
use crate::wire::codec;
use crate::wire::ids::{MessageId, PeerKey, PeerName, UnixMillis};
use crate::wire::message::{Body, InnerMessage, Offer, SignedReceipt};
use crate::wire::refusal::Refusal;

/// A message of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// For whom.
    pub to: PeerName,
    /// The message as it is signed.
    pub message: InnerMessage,
}

/// A message that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToSend {
    /// What.
    pub outgoing: Outgoing,
    /// Which attempt it is, for [`Fate::Stored`].
    pub attempt: u32,
    /// Whether an earlier message to the same key was stored since the time asked about, and not delivered yet.
    pub has_earlier_under_way: bool,
}

/// A message somebody sent to this account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// Who sent it.
    pub from: PeerName,
    /// The message as it was signed.
    pub message: InnerMessage,
}

/// What goes to the screen now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Released {
    /// Numbers that did not come; first and last of each run.
    pub missing: Vec<(u64, u64)>,
    /// Messages, in the order of the screen.
    pub messages: Vec<Incoming>,
}

/// A message that came, as its receipt describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipted {
    /// Who sent it.
    pub from: PeerName,
    /// Their key.
    pub sender: PeerKey,
    /// The message.
    pub id: MessageId,
    /// Its number.
    pub sequence: u64,
    /// The highest number that ever came from them.
    pub highest: u64,
}

/// Writes a message to the outbox, with the next number for its recipient.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be used, here and below; `Ok(None)` when the outbox is full.
pub async fn write(database: &Database, to: &PeerName, draft: Draft) -> Result<Option<InnerMessage>, DatabaseError> {
    let to = to.clone();
    let now = draft.sent_at;
    database.run(move |sql| Ok(conversation::write(&mut records(sql, now), &to, draft)?)).await
}

/// The first message that waits for each recipient, with the numbers it names as skipped; the oldest recipient first.
#[expect(clippy::missing_errors_doc, reason = "see `write`")]
pub async fn to_send(database: &Database, sender: PeerKey, since: UnixMillis) -> Result<Vec<ToSend>, DatabaseError> {
    database
        .run(move |sql| {
            let query = format!(
                "SELECT {COLUMNS}, attempt, min(sequence), EXISTS (
                     SELECT 1 FROM message AS earlier WHERE earlier.peer_key = message.peer_key
                     AND earlier.direction = 'out' AND earlier.sequence < message.sequence
                     AND earlier.state = 'stored' AND earlier.stored_at >= ?1
                 ) FROM message WHERE waits GROUP BY peer_key ORDER BY place"
            );
            let mut rows = sql.prepare_cached(&query)?;
            let found = rows.query_map([since.0.cast_signed()], |row| {
                Ok((StoredRow::read(row)?, row.get::<_, u32>(6)?, row.get::<_, bool>(8)?))
            })?;
            let mut to_send = Vec::new();
            for row in found {
                let (row, attempt, has_earlier_under_way) = row?;
                let Some((to, message)) = row.outgoing(sender) else { continue };
                let message = conversation::name_skipped(&mut records(sql, since), message)?;
                to_send.push(ToSend { outgoing: Outgoing { to, message }, attempt, has_earlier_under_way });
            }
            Ok(to_send)
        })
        .await
}

/// Notes what happened to a message of ours. The message and the stage it has come to, when that is another one.
#[expect(clippy::missing_errors_doc, reason = "see `write`")]
pub async fn settle(
    database: &Database,
    message: (PeerKey, MessageId),
    sender: PeerKey,
    fate: Fate,
    reason: Option<Refusal>,
    now: UnixMillis,
) -> Result<Option<(Outgoing, Stage)>, DatabaseError> {
    let (to, id) = message;
    database
        .run(move |sql| {
            let Some(stage) = conversation::settle(&mut records(sql, now), to, id, fate)? else { return Ok(None) };
            if let Some(reason) = reason {
                let update = "UPDATE message SET reason = ?3 WHERE direction = 'out' AND peer_key = ?1 AND id = ?2";
                sql.prepare_cached(update)?.execute(params![to.as_bytes(), id.as_bytes(), reason.number()])?;
            }
            Ok(outgoing(sql, sender, to, id)?.map(|outgoing| (outgoing, stage)))
        })
        .await
}

/// The key to which a message of ours went, by the name of its recipient.
#[expect(clippy::missing_errors_doc, reason = "see `write`")]
pub async fn recipient_of(database: &Database, to: &PeerName, id: MessageId) -> Result<Option<PeerKey>, DatabaseError> {
    let to = to.clone();
    database
        .run(move |sql| {
            let query = "SELECT peer_key FROM message WHERE direction = 'out' AND peer = ?1 AND id = ?2";
            let key = sql
                .prepare_cached(query)?
                .query_row(params![to.as_str(), id.as_bytes()], |row| row.get(0))
                .optional()?;
            Ok(key.map(PeerKey::from_bytes))
        })
        .await
}

/// Takes receipts, whose signatures the caller has checked. The messages that have come to another stage.
#[expect(clippy::missing_errors_doc, reason = "see `write`")]
pub async fn take_receipts(
    database: &Database,
    receipts: Vec<SignedReceipt>,
    now: UnixMillis,
) -> Result<Vec<(Outgoing, Stage)>, DatabaseError> {
    database
        .run(move |sql| {
            let mut changed = Vec::new();
            for signed in receipts {
                let receipt = &signed.receipt;
                let stage = conversation::take_receipt(&mut records(sql, now), receipt)?;
                let Some(stage) = stage else { continue };
                let update = "UPDATE message SET receipt = ?3 WHERE direction = 'out' AND peer_key = ?1 AND id = ?2";
                let bytes = codec::encode(&signed).expect("a receipt that was decoded fits a frame");
                sql.prepare_cached(update)?.execute(params![receipt.by.as_bytes(), receipt.id.as_bytes(), bytes])?;
                let outgoing = outgoing(sql, receipt.to, receipt.by, receipt.id)?;
                changed.extend(outgoing.map(|outgoing| (outgoing, stage)));
            }
            Ok(changed)
        })
        .await
}

/// Messages that the directory has taken and nobody has receipted, after one, in the order they were written: the number
/// to go on after, the recipient's name and key, and the id.
#[expect(clippy::missing_errors_doc, reason = "see `write`")]
pub async fn unreceipted(
    database: &Database,
    after: i64,
    limit: usize,
) -> Result<Vec<(i64, PeerName, PeerKey, MessageId)>, DatabaseError> {
    database
        .run(move |sql| {
            let query = "SELECT number, peer, peer_key, id FROM message
                 WHERE state = 'stored' AND NOT waits AND number > ?1 ORDER BY number LIMIT ?2";
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let mut rows = sql.prepare_cached(query)?;
            let found = rows.query_map(params![after, limit], |row| {
                Ok((row.get(0)?, row.get::<_, String>(1)?, row.get(2)?, row.get(3)?))
            })?;
            let found = found.collect::<Result<Vec<_>, _>>()?;
            let valid = found.into_iter().filter_map(|(number, name, key, id)| {
                Some((number, PeerName::parse(&name).ok()?, PeerKey::from_bytes(key), MessageId::from_bytes(id)))
            });
            Ok(valid.collect())
        })
        .await
}

/// Takes a message. What it came to, and what goes to the screen now.
#[expect(clippy::missing_errors_doc, reason = "see `write`")]
pub async fn take(
    database: &Database,
    incoming: Incoming,
    is_direct: bool,
    now: UnixMillis,
) -> Result<(Taken, Released), DatabaseError> {
    database
        .run(move |sql| {
            let Incoming { from, message } = incoming;
            let (sender, recipient) = (message.sender, message.recipient);
            let mut records = SqlRecords { sql, now, is_direct };
            let taken = conversation::take(&mut records, &from, &message)?;
            if let (Body::Offer(offer), false) = (&message.body, taken.is_known) {
                super::offers::add(sql, &from, message.id, offer)?;
            }
            let messages = released(sql, sender, recipient, &taken.released)?;
            let released = Released { missing: taken.missing.clone(), messages };
            Ok((taken, released))
        })
        .await
}

/// Waits no longer for what should have come before a held message of this number.
#[expect(clippy::missing_errors_doc, reason = "see `write`")]
pub async fn give_up(
    database: &Database,
    sender: PeerKey,
    recipient: PeerKey,
    sequence: u64,
) -> Result<Released, DatabaseError> {
    database
        .run(move |sql| {
            let GivenUp { missing, released: ids } =
                conversation::give_up(&mut records(sql, UnixMillis(0)), sender, sequence)?;
            Ok(Released { missing, messages: released(sql, sender, recipient, &ids)? })
        })
        .await
}

/// What is held of all senders: their keys and the numbers.
#[expect(clippy::missing_errors_doc, reason = "see `write`")]
pub async fn held(database: &Database) -> Result<Vec<(PeerKey, u64)>, DatabaseError> {
    database
        .run(|sql| {
            let query = "SELECT peer_key, sequence FROM message WHERE state = 'held' ORDER BY peer_key, sequence";
            let mut rows = sql.prepare_cached(query)?;
            let found = rows.query_map([], |row| Ok((PeerKey::from_bytes(row.get(0)?), unsigned(row, 1)?)))?;
            Ok(found.collect::<Result<Vec<_>, _>>()?)
        })
        .await
}

/// A message that came before, as its receipt describes it; notes that it came again.
#[expect(clippy::missing_errors_doc, reason = "see `write`")]
pub async fn come_again(
    database: &Database,
    sender: PeerKey,
    id: MessageId,
    is_direct: bool,
) -> Result<Option<Receipted>, DatabaseError> {
    database
        .run(move |sql| {
            let query = "SELECT peer, sequence FROM message WHERE direction = 'in' AND peer_key = ?1 AND id = ?2";
            let found = sql
                .prepare_cached(query)?
                .query_row(params![sender.as_bytes(), id.as_bytes()], |row| {
                    Ok((row.get::<_, String>(0)?, unsigned(row, 1)?))
                })
                .optional()?;
            let mut records = SqlRecords { sql, now: UnixMillis(0), is_direct };
            let Some((from, sequence)) = found else { return Ok(None) };
            records.came_again(sender, id)?;
            let highest = records.conversation(sender)?.highest;
            Ok(PeerName::parse(&from).ok().map(|from| Receipted { from, sender, id, sequence, highest }))
        })
        .await
}

/// Incoming messages that no screen has shown yet, in the order of the screen.
#[expect(clippy::missing_errors_doc, reason = "see `write`")]
pub async fn not_shown(database: &Database, recipient: PeerKey) -> Result<Vec<Incoming>, DatabaseError> {
    database
        .run(move |sql| {
            let query = format!("SELECT {COLUMNS} FROM message WHERE state = 'new' ORDER BY place");
            let mut rows = sql.prepare_cached(&query)?;
            let found = rows.query_map([], StoredRow::read)?.collect::<Result<Vec<_>, _>>()?;
            Ok(found.into_iter().filter_map(|row| incoming(row, recipient)).collect())
        })
        .await
}

/// Notes that a message was on the screen, and whether its sender is to be told.
#[expect(clippy::missing_errors_doc, reason = "see `write`")]
pub async fn mark_shown(database: &Database, id: MessageId, tells_sender: bool) -> Result<(), DatabaseError> {
    database
        .run(move |sql| {
            let update = "UPDATE message SET state = 'shown', read_due = ?2
                 WHERE direction = 'in' AND id = ?1 AND state = 'new'";
            sql.prepare_cached(update)?.execute(params![id.as_bytes(), tells_sender])?;
            Ok(())
        })
        .await
}

/// Messages that were on the screen and whose senders are still to be told, oldest first.
#[expect(clippy::missing_errors_doc, reason = "see `write`")]
pub async fn read_receipts_due(database: &Database, limit: usize) -> Result<Vec<Receipted>, DatabaseError> {
    database
        .run(move |sql| {
            let query = "SELECT peer, peer_key, id, sequence, highest FROM message
                 JOIN conversation USING (peer_key) WHERE read_due ORDER BY place LIMIT ?1";
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let mut rows = sql.prepare_cached(query)?;
            let found = rows.query_map([limit], |row| {
                Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?, unsigned(row, 3)?, unsigned(row, 4)?))
            })?;
            let found = found.collect::<Result<Vec<_>, _>>()?;
            let valid = found.into_iter().filter_map(|(from, key, id, sequence, highest)| {
                let (sender, id) = (PeerKey::from_bytes(key), MessageId::from_bytes(id));
                Some(Receipted { from: PeerName::parse(&from).ok()?, sender, id, sequence, highest })
            });
            Ok(valid.collect())
        })
        .await
}

/// Notes that the senders of these messages were told that they were read.
#[expect(clippy::missing_errors_doc, reason = "see `write`")]
pub async fn read_receipts_sent(database: &Database, messages: Vec<(PeerKey, MessageId)>) -> Result<(), DatabaseError> {
    database
        .run(move |sql| {
            let update = "UPDATE message SET read_due = 0 WHERE direction = 'in' AND peer_key = ?1 AND id = ?2";
            for (sender, id) in messages {
                sql.prepare_cached(update)?.execute(params![sender.as_bytes(), id.as_bytes()])?;
            }
            Ok(())
        })
        .await
}

/// The offer in a message of ours, if it is one.
#[must_use]
pub fn offer_in(outgoing: &Outgoing) -> Option<&Offer> {
    match &outgoing.message.body {
        Body::Offer(offer) => Some(offer),
        Body::Text(_) | Body::OfferDeclined { .. } => None,
    }
}

fn records(sql: &rusqlite::Connection, now: UnixMillis) -> SqlRecords<'_> {
    SqlRecords { sql, now, is_direct: false }
}

fn outgoing(
    sql: &rusqlite::Connection,
    sender: PeerKey,
    to: PeerKey,
    id: MessageId,
) -> rusqlite::Result<Option<Outgoing>> {
    let query = format!("SELECT {COLUMNS} FROM message WHERE direction = 'out' AND peer_key = ?1 AND id = ?2");
    let row =
        sql.prepare_cached(&query)?.query_row(params![to.as_bytes(), id.as_bytes()], StoredRow::read).optional()?;
    Ok(row.and_then(|row| row.outgoing(sender)).map(|(to, message)| Outgoing { to, message }))
}

fn incoming(row: StoredRow, recipient: PeerKey) -> Option<Incoming> {
    row.incoming(recipient).map(|(from, message)| Incoming { from, message })
}

fn released(
    sql: &rusqlite::Connection,
    sender: PeerKey,
    recipient: PeerKey,
    ids: &[MessageId],
) -> rusqlite::Result<Vec<Incoming>> {
    let query = format!("SELECT {COLUMNS} FROM message WHERE direction = 'in' AND peer_key = ?1 AND id = ?2");
    let mut row = sql.prepare_cached(&query)?;
    let mut messages = Vec::new();
    for id in ids {
        let found = row.query_row(params![sender.as_bytes(), id.as_bytes()], StoredRow::read)?;
        messages.extend(incoming(found, recipient));
    }
    Ok(messages)
}
