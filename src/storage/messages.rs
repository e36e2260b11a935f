//! Messages of both directions: the outbox that survives a crash, what has come, and what is owed to its senders. The
//! rules are `protocol/conversation.rs`; here each of its decisions is one transaction.

use rusqlite::{Connection, OptionalExtension, params};

use super::records::{COLUMNS, SqlRecords, StoredRow, name_in, unsigned};
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
    /// Whether it was stored before, and is sent again.
    pub was_stored: bool,
    /// Whether an earlier message to the same key may still be on its way.
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

/// A message of ours that the directory said it had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreceipted {
    /// Its row.
    pub number: i64,
    /// For whom.
    pub to: PeerName,
    /// Their key.
    pub recipient: PeerKey,
    /// The message.
    pub id: MessageId,
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

/// The first message that waits for each recipient, with the numbers it names as skipped; who was written to first comes
/// first. An earlier message counts as under way while the directory has it, as far as anybody knows.
#[expect(clippy::missing_errors_doc, reason = "see `write`")]
pub async fn to_send(database: &Database, sender: PeerKey) -> Result<Vec<ToSend>, DatabaseError> {
    database
        .run(move |sql| {
            let mut first = Vec::new();
            let mut after = None;
            // From recipient to recipient, past all that wait behind the first.
            while let Some(recipient) = next_recipient(sql, after)? {
                first.extend(first_to(sql, sender, recipient)?);
                after = Some(recipient);
            }
            first.sort_by_key(|(place, _)| *place);
            Ok(first.into_iter().map(|(_, to_send)| to_send).collect())
        })
        .await
}

fn next_recipient(sql: &Connection, after: Option<PeerKey>) -> rusqlite::Result<Option<PeerKey>> {
    let query = "SELECT min(peer_key) FROM message WHERE waits AND peer_key > ?1";
    let after = after.as_ref().map_or(&[][..], |key| key.as_bytes());
    let key: Option<[u8; 32]> = sql.prepare_cached(query)?.query_row([after], |row| row.get(0))?;
    Ok(key.map(PeerKey::from_bytes))
}

/// The first message that waits for a recipient, and its place on the screen.
fn first_to(sql: &Connection, sender: PeerKey, recipient: PeerKey) -> rusqlite::Result<Option<(i64, ToSend)>> {
    let query = format!(
        "SELECT {COLUMNS}, attempt, place, state = 'stored', EXISTS (
             SELECT 1 FROM message AS earlier INDEXED BY message_under_way WHERE earlier.peer_key = message.peer_key
             AND earlier.state = 'stored' AND earlier.stored_at IS NOT NULL AND earlier.sequence < message.sequence
         ) FROM message WHERE waits AND peer_key = ?1 ORDER BY sequence"
    );
    let mut statement = sql.prepare_cached(&query)?;
    let mut rows = statement.query([recipient.as_bytes()])?;
    // One that is damaged does not stop those behind it.
    while let Some(row) = rows.next()? {
        let (attempt, place) = (row.get(6)?, row.get(7)?);
        let (was_stored, has_earlier_under_way) = (row.get(8)?, row.get(9)?);
        if let Some((to, message)) = StoredRow::read(row)?.outgoing(sender) {
            let message = conversation::name_skipped(&mut records(sql, UnixMillis(0)), message)?;
            let outgoing = Outgoing { to, message };
            return Ok(Some((place, ToSend { outgoing, attempt, was_stored, has_earlier_under_way })));
        }
    }
    Ok(None)
}

/// Notes what happened to a message of ours. The message and the stage it has come to, when that is another one.
/// `reason` is the number of a refusal.
#[expect(clippy::missing_errors_doc, reason = "see `write`")]
pub async fn settle(
    database: &Database,
    message: (PeerKey, MessageId),
    sender: PeerKey,
    fate: Fate,
    reason: Option<u16>,
    now: UnixMillis,
) -> Result<Option<(Outgoing, Stage)>, DatabaseError> {
    let (to, id) = message;
    database
        .run(move |sql| {
            let Some(stage) = conversation::settle(&mut records(sql, now), to, id, fate)? else { return Ok(None) };
            if let Some(reason) = reason {
                let update = "UPDATE message SET reason = ?3 WHERE direction = 'out' AND peer_key = ?1 AND id = ?2";
                sql.prepare_cached(update)?.execute(params![to.as_bytes(), id.as_bytes(), reason])?;
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
            let query = "SELECT peer_key FROM message INDEXED BY message_by_id
                 WHERE direction = 'out' AND peer = ?1 AND id = ?2";
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
                let update = "UPDATE message SET receipt = ?3, reason = coalesce(?4, reason)
                     WHERE direction = 'out' AND peer_key = ?1 AND id = ?2";
                let bytes = codec::encode(&signed).expect("a receipt that was decoded fits a frame");
                // Receipts refuse in one way only.
                let reason = (stage == Stage::Refused).then(|| Refusal::CannotOpen.number());
                let values = params![receipt.by.as_bytes(), receipt.id.as_bytes(), bytes, reason];
                sql.prepare_cached(update)?.execute(values)?;
                let outgoing = outgoing(sql, receipt.to, receipt.by, receipt.id)?;
                changed.extend(outgoing.map(|outgoing| (outgoing, stage)));
            }
            Ok(changed)
        })
        .await
}

/// Messages that the directory has taken and nobody has receipted, after one, in the order they were written.
#[expect(clippy::missing_errors_doc, reason = "see `write`")]
pub async fn unreceipted(database: &Database, after: i64, limit: usize) -> Result<Vec<Unreceipted>, DatabaseError> {
    database
        .run(move |sql| {
            let query = "SELECT number, peer, peer_key, id FROM message
                 WHERE state = 'stored' AND stored_at IS NOT NULL AND NOT waits AND number > ?1 ORDER BY number LIMIT ?2";
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let mut rows = sql.prepare_cached(query)?;
            let found = rows.query_and_then(params![after, limit], |row| {
                Ok(Unreceipted {
                    number: row.get(0)?,
                    to: name_in(row, 1)?,
                    recipient: PeerKey::from_bytes(row.get(2)?),
                    id: MessageId::from_bytes(row.get(3)?),
                })
            })?;
            found.collect()
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
            if let (Body::OfferWithdrawn { offer, .. }, false) = (&message.body, taken.is_known) {
                super::offers::withdraw(sql, &from, *offer)?;
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
                .query_row(params![sender.as_bytes(), id.as_bytes()], |row| Ok((name_in(row, 0)?, unsigned(row, 1)?)))
                .optional()?;
            let mut records = SqlRecords { sql, now: UnixMillis(0), is_direct };
            let Some((from, sequence)) = found else { return Ok(None) };
            records.came_again(sender, id)?;
            let highest = records.conversation(sender)?.highest;
            Ok(Some(Receipted { from, sender, id, sequence, highest }))
        })
        .await
}

/// Incoming messages that no screen has shown yet, in the order of the screen; each with whether it was about to be
/// shown.
#[expect(clippy::missing_errors_doc, reason = "see `write`")]
pub async fn not_shown(database: &Database, recipient: PeerKey) -> Result<Vec<(Incoming, bool)>, DatabaseError> {
    database
        .run(move |sql| {
            let query = format!(
                "SELECT {COLUMNS}, state = 'showing' FROM message WHERE state IN ('new', 'showing') ORDER BY place"
            );
            let mut rows = sql.prepare_cached(&query)?;
            let found = rows.query_map([], |row| Ok((StoredRow::read(row)?, row.get(6)?)))?;
            let found = found.collect::<Result<Vec<_>, _>>()?;
            Ok(found.into_iter().filter_map(|(row, showing)| Some((incoming(row, recipient)?, showing))).collect())
        })
        .await
}

/// Notes that a message is about to be shown. Says `false` when it was shown already, by somebody else.
#[expect(clippy::missing_errors_doc, reason = "see `write`")]
pub async fn begin_showing(database: &Database, id: MessageId) -> Result<bool, DatabaseError> {
    database
        .run(move |sql| {
            let update = "UPDATE message INDEXED BY message_by_id SET state = 'showing'
                 WHERE direction = 'in' AND id = ?1 AND state IN ('new', 'showing')";
            Ok(sql.prepare_cached(update)?.execute([id.as_bytes()])? > 0)
        })
        .await
}

/// Notes that a message was on the screen, and whether its sender is to be told.
#[expect(clippy::missing_errors_doc, reason = "see `write`")]
pub async fn mark_shown(database: &Database, id: MessageId, tells_sender: bool) -> Result<(), DatabaseError> {
    database
        .run(move |sql| {
            let update = "UPDATE message INDEXED BY message_by_id SET state = 'shown', read_due = ?2
                 WHERE direction = 'in' AND id = ?1 AND state IN ('new', 'showing')";
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
            let found = rows.query_and_then([limit], |row| {
                Ok(Receipted {
                    from: name_in(row, 0)?,
                    sender: PeerKey::from_bytes(row.get(1)?),
                    id: MessageId::from_bytes(row.get(2)?),
                    sequence: unsigned(row, 3)?,
                    highest: unsigned(row, 4)?,
                })
            })?;
            found.collect()
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
        Body::Text(_) | Body::OfferDeclined { .. } | Body::OfferWithdrawn { .. } => None,
    }
}

fn records(sql: &Connection, now: UnixMillis) -> SqlRecords<'_> {
    SqlRecords { sql, now, is_direct: false }
}

fn outgoing(sql: &Connection, sender: PeerKey, to: PeerKey, id: MessageId) -> rusqlite::Result<Option<Outgoing>> {
    let query = format!("SELECT {COLUMNS} FROM message WHERE direction = 'out' AND peer_key = ?1 AND id = ?2");
    let row =
        sql.prepare_cached(&query)?.query_row(params![to.as_bytes(), id.as_bytes()], StoredRow::read).optional()?;
    Ok(row.and_then(|row| row.outgoing(sender)).map(|(to, message)| Outgoing { to, message }))
}

fn incoming(row: StoredRow, recipient: PeerKey) -> Option<Incoming> {
    row.incoming(recipient).map(|(from, message)| Incoming { from, message })
}

fn released(
    sql: &Connection,
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
