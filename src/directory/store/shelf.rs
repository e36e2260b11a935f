//! The SQL of envelopes that wait, as `protocol::mailbox` wants it: the rules are there, the rows are here.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::sqlite::{account_key, column, current_prekey, decoded, encoded, parsed};
use super::{StoreError, Waiting, people, receipts, returned};
use crate::protocol::mailbox::{self, Load, Shelf};
use crate::protocol::people::Reception;
use crate::wire::ids::{MessageId, PeerKey, PeerName, PrekeyId, UnixMillis};
use crate::wire::message::{Delivery, Envelope, SignedReceipt};

/// One transaction of the database, at one moment.
struct SqliteShelf<'a> {
    sql: &'a Connection,
    /// The envelope that is being delivered, encoded once.
    blob: Vec<u8>,
    now: UnixMillis,
}

impl Shelf for SqliteShelf<'_> {
    type Error = StoreError;

    fn key_of(&mut self, account: &PeerName) -> Result<Option<PeerKey>, StoreError> {
        account_key(self.sql, account)
    }

    fn prekey_of(&mut self, account: &PeerName) -> Result<Option<PrekeyId>, StoreError> {
        current_prekey(self.sql, account)
    }

    fn reception(&mut self, to: &PeerName, from: &PeerName, now: UnixMillis) -> Result<Reception, StoreError> {
        people::reception(self.sql, to, from, now)
    }

    fn waiting_copy(
        &mut self,
        to: &PeerName,
        sender: PeerKey,
        id: MessageId,
    ) -> Result<Option<(i64, PrekeyId)>, StoreError> {
        let query = "SELECT number, prekey FROM envelope WHERE recipient = ?1 AND sender_key = ?2 AND id = ?3";
        let copy =
            self.sql.prepare_cached(query)?.query_row(params![to.as_str(), sender.as_bytes(), id.as_bytes()], |row| {
                Ok((row.get(0)?, PrekeyId::from_bytes(row.get(1)?)))
            });
        Ok(copy.optional()?)
    }

    fn load(&mut self, to: &PeerName, from: &PeerName) -> Result<Load, StoreError> {
        let query = "SELECT count(*), coalesce(sum(bytes), 0), coalesce(sum(sender = ?2), 0)
                     FROM envelope INDEXED BY envelope_quota WHERE recipient = ?1";
        let load = self.sql.prepare_cached(query)?.query_row([to.as_str(), from.as_str()], |row| {
            let number = |index| Ok::<_, rusqlite::Error>(row.get::<_, i64>(index)?.cast_unsigned());
            Ok(Load { messages: number(0)?, bytes: number(1)?, from_sender: number(2)? })
        });
        Ok(load?)
    }

    fn add(&mut self, to: &PeerName, from: &PeerName, envelope: &Envelope, now: UnixMillis) -> Result<(), StoreError> {
        let header = &envelope.header;
        self.sql
            .prepare_cached(
                "INSERT INTO envelope (recipient, sender, sender_key, id, prekey, bytes, stored_at, envelope)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                to.as_str(),
                from.as_str(),
                header.sender.as_bytes(),
                header.id.as_bytes(),
                header.prekey.as_bytes(),
                i64::try_from(self.blob.len()).unwrap_or(i64::MAX),
                now.0.cast_signed(),
                self.blob
            ])?;
        people::meet(self.sql, from, to)?;
        returned::take_off(self.sql, from, to, header.id)?;
        receipts::take_off(self.sql, from, header.recipient, header.id)
    }

    fn remove(&mut self, number: i64) -> Result<(), StoreError> {
        remove(self.sql, number)
    }

    fn add_receipt(&mut self, to: &PeerName, receipt: &SignedReceipt) -> Result<(), StoreError> {
        receipts::add(self.sql, to, receipt, self.now)?;
        receipts::keep_newest(self.sql, to)
    }
}

pub(super) fn deliver(
    sql: &Connection,
    to: &PeerName,
    from: &PeerName,
    envelope: &Envelope,
    now: UnixMillis,
) -> Result<(), StoreError> {
    let blob = encoded(envelope)?;
    let bytes = u64::try_from(blob.len()).unwrap_or(u64::MAX);
    mailbox::deliver(&mut SqliteShelf { sql, blob, now }, to, from, envelope, bytes, now)
}

pub(super) fn hand_over(
    sql: &Connection,
    number: i64,
    sender: &PeerName,
    receipt: &SignedReceipt,
    now: UnixMillis,
) -> Result<(), StoreError> {
    mailbox::hand_over(&mut SqliteShelf { sql, blob: Vec::new(), now }, number, sender, receipt)
}

pub(super) fn remove(sql: &Connection, number: i64) -> Result<(), StoreError> {
    sql.prepare_cached("DELETE FROM envelope WHERE number = ?1")?.execute([number])?;
    Ok(())
}

/// The next envelope that can be read.
pub(super) fn next_waiting(sql: &Connection, recipient: &PeerName, after: i64) -> Result<Option<Waiting>, StoreError> {
    let mut statement = sql.prepare_cached(
        "SELECT number, sender, envelope FROM envelope INDEXED BY envelope_waiting
         WHERE recipient = ?1 AND number > ?2 ORDER BY number",
    )?;
    let mut rows = statement.query(params![recipient.as_str(), after])?;
    while let Some(row) = rows.next()? {
        match waiting_row(row) {
            Ok(waiting) => return Ok(Some(waiting)),
            Err(error) => tracing::error!(%recipient, number = row.get(0).unwrap_or(0_i64), %error, "envelope skipped"),
        }
    }
    Ok(None)
}

fn waiting_row(row: &Row<'_>) -> Result<Waiting, StoreError> {
    let envelope = decoded("envelope", &column::<Vec<u8>>(row, 2)?)?;
    Ok(Waiting { number: column(row, 0)?, delivery: Delivery { from: parsed(&column::<String>(row, 1)?)?, envelope } })
}

/// Which of a sender's messages are neither waiting nor spoken of by what waits for the sender.
pub(super) fn missing(
    sql: &Connection,
    sender: &PeerName,
    sender_key: PeerKey,
    messages: Vec<(PeerName, MessageId)>,
) -> Result<Vec<MessageId>, StoreError> {
    // Whoever signed the receipt may have another key by now, so any key's will do: the sender looks at it.
    let mut is_here = sql.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM envelope WHERE recipient = ?1 AND sender_key = ?2 AND id = ?3)
             OR EXISTS (SELECT 1 FROM receipt WHERE recipient = ?4 AND id = ?3)
             OR EXISTS (SELECT 1 FROM returned WHERE sender = ?4 AND recipient = ?1 AND id = ?3)",
    )?;
    let mut missing = Vec::new();
    for (to, id) in messages {
        let values = params![to.as_str(), sender_key.as_bytes(), id.as_bytes(), sender.as_str()];
        if !is_here.query_row(values, |row| row.get(0))? {
            missing.push(id);
        }
    }
    Ok(missing)
}
