//! The SQL of receipts that wait for the senders of messages: one row for each message, the latest that was said of it.

use rusqlite::{Connection, Row, params};

use super::sqlite::{account_key, column, decoded, encoded, one, refused};
use super::{StoreError, WaitingReceipt, people};
use crate::wire::ids::{MessageId, PeerKey, PeerName, UnixMillis};
use crate::wire::limits::{RECEIPTS_PER_SENDER_MAX, RECEIPTS_WAITING_MAX};
use crate::wire::message::{ReceiptKind, SignedReceipt};
use crate::wire::refusal::Refusal;

/// Keeps a receipt. A later kind takes the place of an earlier one behind all others, so that a session that was pushed
/// the earlier one gets it too; what is no news changes nothing. Of two people one of whom keeps the other out, neither
/// hears anything of the other.
pub(super) fn add(sql: &Connection, to: &PeerName, signed: &SignedReceipt, now: UnixMillis) -> Result<(), StoreError> {
    let receipt = &signed.receipt;
    if people::are_apart(sql, to, receipt.by)? {
        return Ok(());
    }
    let message = params![to.as_str(), receipt.by.as_bytes(), receipt.id.as_bytes(), rank(receipt.kind)];
    sql.prepare_cached("DELETE FROM receipt WHERE recipient = ?1 AND by_key = ?2 AND id = ?3 AND kind < ?4")?
        .execute(message)?;
    sql.prepare_cached(
        "INSERT INTO receipt (recipient, by_key, id, kind, signed, stored_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (recipient, id, by_key) DO NOTHING",
    )?
    .execute(params![
        to.as_str(),
        receipt.by.as_bytes(),
        receipt.id.as_bytes(),
        rank(receipt.kind),
        encoded(signed)?,
        now.0.cast_signed()
    ])?;
    Ok(())
}

/// What a database keeps for a kind: the later, the higher.
fn rank(kind: ReceiptKind) -> i64 {
    match kind {
        ReceiptKind::CannotOpen => 0,
        ReceiptKind::Delivered => 1,
        ReceiptKind::Read => 2,
    }
}

/// Keeps receipts of one key for an account, as far as they are for the account's key. Refused with `MailboxFull` when
/// too many of that key wait: nobody crowds out the receipts of others.
pub(super) fn put(
    sql: &Connection,
    to: &PeerName,
    by: PeerKey,
    receipts: &[SignedReceipt],
    now: UnixMillis,
) -> Result<(), StoreError> {
    let Some(key) = account_key(sql, to)? else { return refused(Refusal::UnknownName) };
    let kept = "SELECT count(*) FROM receipt WHERE recipient = ?1 AND by_key = ?2";
    let kept: Option<i64> = one(sql, kept, params![to.as_str(), by.as_bytes()])?;
    if kept.is_some_and(|kept| kept.cast_unsigned() >= RECEIPTS_PER_SENDER_MAX) {
        return refused(Refusal::MailboxFull);
    }
    for signed in receipts {
        if (signed.receipt.by, signed.receipt.to) == (by, key) {
            add(sql, to, signed, now)?;
        }
    }
    keep_newest(sql, to)
}

/// The oldest make room: what they said is found out again by asking what is missing.
pub(super) fn keep_newest(sql: &Connection, to: &PeerName) -> Result<(), StoreError> {
    let dropped = sql
        .prepare_cached(
            "DELETE FROM receipt WHERE recipient = ?1 AND number <=
                 (SELECT number FROM receipt WHERE recipient = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)",
        )?
        .execute(params![to.as_str(), RECEIPTS_WAITING_MAX.cast_signed()])?;
    if dropped > 0 {
        tracing::warn!(peer = %to, dropped, "too many receipts wait for this account");
    }
    Ok(())
}

pub(super) fn waiting(
    sql: &Connection,
    recipient: &PeerName,
    after: i64,
    limit: usize,
) -> Result<Vec<WaitingReceipt>, StoreError> {
    let mut statement =
        sql.prepare_cached("SELECT number, signed FROM receipt WHERE recipient = ?1 AND number > ?2 ORDER BY number")?;
    let mut rows = statement.query(params![recipient.as_str(), after])?;
    let mut waiting = Vec::new();
    while waiting.len() < limit
        && let Some(row) = rows.next()?
    {
        match waiting_row(row) {
            Ok(receipt) => waiting.push(receipt),
            Err(error) => tracing::error!(%recipient, number = row.get(0).unwrap_or(0_i64), %error, "receipt skipped"),
        }
    }
    Ok(waiting)
}

fn waiting_row(row: &Row<'_>) -> Result<WaitingReceipt, StoreError> {
    Ok(WaitingReceipt { number: column(row, 0)?, receipt: decoded("receipt", &column::<Vec<u8>>(row, 1)?)? })
}

pub(super) fn delete(sql: &Connection, numbers: &[i64]) -> Result<(), StoreError> {
    let mut delete = sql.prepare_cached("DELETE FROM receipt WHERE number = ?1")?;
    for number in numbers {
        delete.execute([number])?;
    }
    Ok(())
}

/// A message that was sealed again may be opened: that it could not be is news no more, and would hide it if it cannot
/// be opened again.
pub(super) fn take_off(sql: &Connection, sender: &PeerName, by: PeerKey, id: MessageId) -> Result<(), StoreError> {
    sql.prepare_cached("DELETE FROM receipt WHERE recipient = ?1 AND by_key = ?2 AND id = ?3 AND kind = ?4")?
        .execute(params![sender.as_str(), by.as_bytes(), id.as_bytes(), rank(ReceiptKind::CannotOpen)])?;
    Ok(())
}

#[cfg(test)]
#[path = "receipts_tests.rs"]
mod tests;
