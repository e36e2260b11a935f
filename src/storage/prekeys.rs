//! The secrets of the account's prekeys: the current one, and older ones while envelopes to them may still come.

use rusqlite::{OptionalExtension, params};
use zeroize::Zeroizing;

use crate::database::{Database, DatabaseError};
use crate::protocol::prekeys::Kept;
use crate::seal::prekey::PrekeySecret;
use crate::wire::ids::{PrekeyId, UnixMillis};
use crate::wire::limits::MAILBOX_DAYS;

/// How long an old secret is kept: envelopes sealed to it may wait that long in the mailbox.
const KEPT_MILLIS: u64 = (MAILBOX_DAYS + 1) * 24 * 3_600_000;

/// Keeps a new secret before its public half is published, and forgets those no envelope can need any more.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be written.
pub async fn keep(database: &Database, secret: &PrekeySecret, now: UnixMillis) -> Result<(), DatabaseError> {
    let (id, bytes) = (secret.id(), secret.to_bytes());
    database
        .run(move |sql| {
            sql.execute("DELETE FROM prekey WHERE created_at < ?1", [now.0.saturating_sub(KEPT_MILLIS).cast_signed()])?;
            sql.execute(
                "INSERT INTO prekey (id, secret, created_at) VALUES (?1, ?2, ?3)",
                params![id.as_bytes(), bytes.as_slice(), now.0.cast_signed()],
            )?;
            Ok(())
        })
        .await
}

/// The secret of a prekey.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be read.
pub async fn secret(database: &Database, id: PrekeyId) -> Result<Option<PrekeySecret>, DatabaseError> {
    let row = database
        .run(move |sql| -> Result<_, DatabaseError> {
            Ok(sql
                .query_row("SELECT secret FROM prekey WHERE id = ?1", [id.as_bytes()], |row| row.get::<_, Vec<u8>>(0))
                .optional()?)
        })
        .await?;
    Ok(row.map(Zeroizing::new).and_then(|bytes| PrekeySecret::from_bytes(&bytes).ok()))
}

/// Notes that a message was opened with a secret.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be written.
pub async fn mark_used(database: &Database, id: PrekeyId) -> Result<(), DatabaseError> {
    database
        .run(move |sql| {
            sql.prepare_cached("UPDATE prekey SET used = 1 WHERE id = ?1 AND NOT used")?.execute([id.as_bytes()])?;
            Ok(())
        })
        .await
}

/// What is kept, from the oldest to the newest.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be read.
pub async fn kept(database: &Database) -> Result<Vec<Kept>, DatabaseError> {
    database
        .run(|sql| {
            // In the order in which they were made, whatever the clock said.
            let mut rows = sql.prepare_cached("SELECT id, created_at, used FROM prekey ORDER BY rowid")?;
            let kept = rows.query_map([], |row| {
                Ok(Kept {
                    id: PrekeyId::from_bytes(row.get(0)?),
                    made: UnixMillis(row.get::<_, i64>(1)?.cast_unsigned()),
                    is_used: row.get(2)?,
                })
            })?;
            Ok(kept.collect::<Result<Vec<_>, _>>()?)
        })
        .await
}

/// Deletes secrets for good; SQLite overwrites what they were.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be written.
pub async fn delete(database: &Database, ids: Vec<PrekeyId>) -> Result<(), DatabaseError> {
    if ids.is_empty() {
        return Ok(());
    }
    database
        .run(move |sql| {
            for id in ids {
                sql.prepare_cached("DELETE FROM prekey WHERE id = ?1")?.execute([id.as_bytes()])?;
            }
            Ok(())
        })
        .await
}
