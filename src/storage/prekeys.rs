//! The secrets of the account's prekeys: the current one, and older ones while envelopes to them may still come.

use rusqlite::{OptionalExtension, params};
use zeroize::Zeroizing;

use crate::database::{Database, DatabaseError};
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

/// When the newest secret was made, and which it is.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be read.
pub async fn newest(database: &Database) -> Result<Option<(PrekeyId, UnixMillis)>, DatabaseError> {
    database
        .run(|sql| {
            Ok(sql
                .query_row("SELECT id, created_at FROM prekey ORDER BY created_at DESC LIMIT 1", [], |row| {
                    Ok((PrekeyId::from_bytes(row.get(0)?), UnixMillis(row.get::<_, i64>(1)?.cast_unsigned())))
                })
                .optional()?)
        })
        .await
}
