//! The rows of messages and conversations: what `protocol/conversation.rs` works on, inside one transaction.

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::protocol::conversation::{Conversation, Records, Sent, Stage};
use crate::wire::codec;
use crate::wire::ids::{MessageId, PeerKey, PeerName, UnixMillis};
use crate::wire::limits::REFUSED_READ_MAX;
use crate::wire::message::{Body, InnerMessage, Run, Skipped};

/// The records of one profile, as its database has them within a transaction.
pub(super) struct SqlRecords<'a> {
    pub(super) sql: &'a Connection,
    pub(super) now: UnixMillis,
    /// Whether what comes now comes straight from its sender.
    pub(super) is_direct: bool,
}

impl Records for SqlRecords<'_> {
    type Error = rusqlite::Error;

    fn conversation(&mut self, with: PeerKey) -> rusqlite::Result<Conversation> {
        let query = "SELECT last, released, highest, skipped FROM conversation WHERE peer_key = ?1";
        let found = self.sql.prepare_cached(query)?.query_row([with.as_bytes()], |row| {
            Ok(Conversation {
                last: unsigned(row, 0)?,
                released: unsigned(row, 1)?,
                highest: unsigned(row, 2)?,
                skipped: Skipped::newest_runs(runs_from(&row.get::<_, Vec<u8>>(3)?)),
            })
        });
        Ok(found.optional()?.unwrap_or_default())
    }

    fn keep_conversation(&mut self, with: PeerKey, conversation: &Conversation) -> rusqlite::Result<()> {
        let Conversation { last, released, highest, skipped } = conversation;
        let skipped: Vec<u8> =
            skipped.runs().iter().flat_map(|&(first, last)| [first, last]).flat_map(u64::to_le_bytes).collect();
        let upsert = "INSERT INTO conversation (peer_key, last, released, highest, skipped) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (peer_key) DO UPDATE SET last = ?2, released = ?3, highest = ?4, skipped = ?5";
        let values =
            params![with.as_bytes(), last.cast_signed(), released.cast_signed(), highest.cast_signed(), skipped];
        self.sql.prepare_cached(upsert)?.execute(values).map(drop)
    }

    fn outbox_length(&mut self) -> rusqlite::Result<u64> {
        let query = "SELECT count(*) FROM message WHERE waits";
        self.sql.prepare_cached(query)?.query_row([], |row| unsigned(row, 0))
    }

    fn add_sent(&mut self, to: &PeerName, message: &InnerMessage) -> rusqlite::Result<()> {
        let number = self.insert("out", stage_text(Stage::Sending), to, message.recipient, message)?;
        self.put_last(number)?;
        self.sql.prepare_cached("UPDATE message SET waits = 1 WHERE number = ?1")?.execute([number]).map(drop)
    }

    fn sent(&mut self, to: PeerKey, id: MessageId) -> rusqlite::Result<Option<Sent>> {
        let query = "SELECT sequence, state, waits, attempt FROM message
             WHERE direction = 'out' AND peer_key = ?1 AND id = ?2";
        let read = |row: &Row<'_>| {
            Ok(Sent {
                sequence: unsigned(row, 0)?,
                stage: stage_from(&row.get::<_, String>(1)?)?,
                waits: row.get(2)?,
                attempt: row.get(3)?,
            })
        };
        self.sql.prepare_cached(query)?.query_row(params![to.as_bytes(), id.as_bytes()], read).optional()
    }

    fn keep_sent(&mut self, to: PeerKey, id: MessageId, sent: Sent) -> rusqlite::Result<()> {
        let stored_at = (sent.stage == Stage::Stored).then_some(self.now.0.cast_signed());
        let update = "UPDATE message SET state = ?3, waits = ?4, attempt = ?5, stored_at = coalesce(stored_at, ?6)
             WHERE direction = 'out' AND peer_key = ?1 AND id = ?2";
        let values = params![to.as_bytes(), id.as_bytes(), stage_text(sent.stage), sent.waits, sent.attempt, stored_at];
        self.sql.prepare_cached(update)?.execute(values).map(drop)
    }

    fn refused_below(&mut self, to: PeerKey, sequence: u64) -> rusqlite::Result<Skipped> {
        // Only messages of ours are refused. The index has all that is asked, and the reading stops early.
        let query = "SELECT sequence FROM message INDEXED BY message_refused
             WHERE peer_key = ?1 AND sequence < ?2 AND state = 'refused' ORDER BY sequence DESC";
        let mut rows = self.sql.prepare_cached(query)?;
        let falling = rows.query_map(params![to.as_bytes(), sequence.cast_signed()], |row| unsigned(row, 0))?;
        Skipped::of_falling(falling.take(REFUSED_READ_MAX))
    }

    fn has_come(&mut self, from: PeerKey, id: MessageId) -> rusqlite::Result<bool> {
        let query = "SELECT 1 FROM message WHERE direction = 'in' AND peer_key = ?1 AND id = ?2";
        self.sql.prepare_cached(query)?.exists(params![from.as_bytes(), id.as_bytes()])
    }

    fn came_again(&mut self, from: PeerKey, id: MessageId) -> rusqlite::Result<()> {
        let update = "UPDATE message SET arrivals = arrivals + 1
             WHERE direction = 'in' AND peer_key = ?1 AND id = ?2 AND NOT ?3";
        let values = params![from.as_bytes(), id.as_bytes(), self.is_direct];
        self.sql.prepare_cached(update)?.execute(values).map(drop)
    }

    fn add_received(&mut self, from: &PeerName, message: &InnerMessage, is_late: bool) -> rusqlite::Result<()> {
        let number = self.insert("in", "held", from, message.sender, message)?;
        let update = "UPDATE message SET came_at = ?2, direct = ?3, arrivals = NOT ?3, late = ?4 WHERE number = ?1";
        let values = params![number, self.now.0.cast_signed(), self.is_direct, is_late];
        self.sql.prepare_cached(update)?.execute(values)?;
        self.note_skipped(message)
    }

    fn held(&mut self, from: PeerKey) -> rusqlite::Result<Vec<(u64, MessageId)>> {
        let query = "SELECT sequence, id FROM message INDEXED BY message_held WHERE peer_key = ?1 AND state = 'held'
             ORDER BY sequence, number";
        let mut rows = self.sql.prepare_cached(query)?;
        rows.query_map([from.as_bytes()], |row| Ok((unsigned(row, 0)?, MessageId::from_bytes(row.get(1)?))))?.collect()
    }

    fn release(&mut self, from: PeerKey, id: MessageId) -> rusqlite::Result<()> {
        let update = "UPDATE message SET state = 'new' WHERE direction = 'in' AND peer_key = ?1 AND id = ?2
             RETURNING number";
        let number = self
            .sql
            .prepare_cached(update)?
            .query_row(params![from.as_bytes(), id.as_bytes()], |row| row.get::<_, i64>(0))?;
        self.put_last(number)
    }
}

impl SqlRecords<'_> {
    fn insert(
        &self,
        direction: &str,
        state: &str,
        peer: &PeerName,
        peer_key: PeerKey,
        message: &InnerMessage,
    ) -> rusqlite::Result<i64> {
        let body = codec::encode(&message.body).expect("a body that was parsed or decoded fits a frame");
        let insert = "INSERT INTO message (direction, state, peer, peer_key, id, sequence, sent_at, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) RETURNING number";
        let values = params![
            direction,
            state,
            peer.as_str(),
            peer_key.as_bytes(),
            message.id.as_bytes(),
            message.sequence.cast_signed(),
            message.sent_at.0.cast_signed(),
            body
        ];
        let number = self.sql.prepare_cached(insert)?.query_row(values, |row| row.get(0))?;
        let words = "INSERT INTO message_words (rowid, text) VALUES (?1, ?2)";
        self.sql.prepare_cached(words)?.execute(params![number, words_of(&message.body)])?;
        Ok(number)
    }

    /// Remembers for the audit which numbers before this message will not come.
    fn note_skipped(&self, message: &InnerMessage) -> rusqlite::Result<()> {
        for &(first, last) in message.skipped.runs() {
            let last = last.min(message.sequence.saturating_sub(1));
            if first <= last {
                self.note_run(message.sender, (first, last))?;
            }
        }
        Ok(())
    }

    /// Joins a run to those it touches. A message adds 64 rows at most, less than the longest text takes: a sender who
    /// may write can fill no more of the disk with them, so their number needs no other bound.
    fn note_run(&self, sender: PeerKey, (mut first, mut last): Run) -> rusqlite::Result<()> {
        let begins_by = |number: u64| {
            let query = "SELECT first, last FROM skipped_run WHERE peer_key = ?1 AND first <= ?2
                 ORDER BY first DESC LIMIT 1";
            let values = params![sender.as_bytes(), number.cast_signed()];
            self.sql.prepare_cached(query)?.query_row(values, run_in).optional()
        };
        if let Some(below) = begins_by(first)? {
            if below.1 >= last {
                return Ok(());
            }
            first = if below.1 + 1 >= first { below.0 } else { first };
        }
        if let Some(above) = begins_by(last + 1)? {
            last = last.max(above.1);
        }
        let delete = "DELETE FROM skipped_run WHERE peer_key = ?1 AND first BETWEEN ?2 AND ?3";
        let insert = "INSERT INTO skipped_run (peer_key, first, last) VALUES (?1, ?2, ?3)";
        let run = params![sender.as_bytes(), first.cast_signed(), last.cast_signed()];
        self.sql.prepare_cached(delete)?.execute(run)?;
        self.sql.prepare_cached(insert)?.execute(run).map(drop)
    }

    /// Gives a message the last place on the screen.
    fn put_last(&self, number: i64) -> rusqlite::Result<()> {
        let update = "UPDATE message SET place = (SELECT coalesce(max(place), 0) + 1 FROM message) WHERE number = ?1";
        self.sql.prepare_cached(update)?.execute([number]).map(drop)
    }
}

/// What a search finds a message by.
fn words_of(body: &Body) -> &str {
    match body {
        Body::Text(text) => text.as_str(),
        Body::Offer(offer) => offer.name.as_str(),
        Body::OfferDeclined { name, .. } | Body::OfferWithdrawn { name, .. } => name.as_str(),
    }
}

/// The columns that [`StoredRow::read`] reads.
pub(super) const COLUMNS: &str = "peer, peer_key, id, sequence, sent_at, body";

/// A message as it lies in the table, before its parts are parsed.
pub(super) struct StoredRow {
    peer: String,
    peer_key: [u8; 32],
    id: [u8; 16],
    sequence: u64,
    sent_at: i64,
    body: Vec<u8>,
}

impl StoredRow {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            peer: row.get(0)?,
            peer_key: row.get(1)?,
            id: row.get(2)?,
            sequence: unsigned(row, 3)?,
            sent_at: row.get(4)?,
            body: row.get(5)?,
        })
    }

    /// Its recipient, and the message; `None` for one that is damaged, so that one bad row does not stall the rest.
    pub(super) fn outgoing(self, sender: PeerKey) -> Option<(PeerName, InnerMessage)> {
        let (to, recipient) = (PeerName::parse(&self.peer).ok()?, PeerKey::from_bytes(self.peer_key));
        Some((to, self.message(sender, recipient)?))
    }

    /// Its sender, and the message.
    pub(super) fn incoming(self, recipient: PeerKey) -> Option<(PeerName, InnerMessage)> {
        let (from, sender) = (PeerName::parse(&self.peer).ok()?, PeerKey::from_bytes(self.peer_key));
        Some((from, self.message(sender, recipient)?))
    }

    fn message(self, sender: PeerKey, recipient: PeerKey) -> Option<InnerMessage> {
        let body = codec::decode(&self.body)
            .inspect_err(|error| tracing::error!(%error, "a stored message is damaged and left out"))
            .ok()?;
        Some(InnerMessage {
            sender,
            recipient,
            id: MessageId::from_bytes(self.id),
            sequence: self.sequence,
            skipped: Skipped::default(),
            sent_at: UnixMillis(self.sent_at.cast_unsigned()),
            body,
        })
    }
}

/// The name of a stage in the table, and in `--json`.
pub(super) fn stage_text(stage: Stage) -> &'static str {
    match stage {
        Stage::Sending => "sending",
        Stage::Stored => "stored",
        Stage::Refused => "refused",
        Stage::Delivered => "delivered",
        Stage::Read => "read",
    }
}

pub(super) fn stage_from(text: &str) -> rusqlite::Result<Stage> {
    [Stage::Sending, Stage::Stored, Stage::Refused, Stage::Delivered, Stage::Read]
        .into_iter()
        .find(|stage| stage_text(*stage) == text)
        .ok_or_else(|| rusqlite::Error::InvalidColumnName(format!("a message has the unknown state {text:?}")))
}

pub(super) fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.cast_unsigned())
}

/// A name that was checked when it was written.
pub(super) fn name_in(row: &Row<'_>, column: usize) -> rusqlite::Result<PeerName> {
    let text: String = row.get(column)?;
    PeerName::parse(&text).map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into()))
}

fn run_in(row: &Row<'_>) -> rusqlite::Result<Run> {
    Ok((unsigned(row, 0)?, unsigned(row, 1)?))
}

fn runs_from(bytes: &[u8]) -> Vec<Run> {
    let numbers = bytes.as_chunks::<8>().0.iter().map(|chunk| u64::from_le_bytes(*chunk)).collect::<Vec<_>>();
    numbers.as_chunks::<2>().0.iter().map(|&[first, last]| (first, last)).collect()
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
