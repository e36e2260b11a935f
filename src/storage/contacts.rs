//! The keys of the people this account has talked to: pinned on first conversation, verified by comparing numbers.

use rusqlite::{Connection, OptionalExtension, params};

use crate::database::{Database, DatabaseError};
use crate::protocol::trust::{self, Trust, Verdict};
use crate::wire::ids::{PeerKey, PeerName, UnixMillis};

/// Judges a key that a person shows, and remembers it.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be written.
pub async fn meet(
    database: &Database,
    name: &PeerName,
    shown: PeerKey,
    now: UnixMillis,
) -> Result<Verdict, DatabaseError> {
    let name = name.clone();
    database
        .run(move |sql| {
            let known = read(sql, &name)?;
            let (trust, verdict) = trust::meet(known, shown);
            if known != Some(trust) {
                write(sql, &name, trust, now)?;
            }
            Ok(verdict)
        })
        .await
}

/// What is known of a person's key.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be read.
pub async fn known(database: &Database, name: &PeerName) -> Result<Option<Trust>, DatabaseError> {
    let name = name.clone();
    database.run(move |sql| Ok(read(sql, &name)?)).await
}

/// Changes what is known of a contact, and says what it was changed to; `None` from `change` leaves it.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be written.
pub async fn change(
    database: &Database,
    name: &PeerName,
    now: UnixMillis,
    change: impl FnOnce(Trust) -> Option<Trust> + Send + 'static,
) -> Result<Option<Trust>, DatabaseError> {
    let name = name.clone();
    database
        .run(move |sql| {
            let changed = read(sql, &name)?.and_then(change);
            if let Some(trust) = changed {
                write(sql, &name, trust, now)?;
            }
            Ok(changed)
        })
        .await
}

/// The names of all contacts.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be read.
pub async fn names(database: &Database) -> Result<Vec<PeerName>, DatabaseError> {
    database
        .run(|sql| {
            let mut rows = sql.prepare_cached("SELECT name FROM contact ORDER BY name")?;
            let names = rows.query_map([], |row| row.get::<_, String>(0))?;
            Ok(names.filter_map(|name| PeerName::parse(&name.ok()?).ok()).collect())
        })
        .await
}

fn read(sql: &Connection, name: &PeerName) -> rusqlite::Result<Option<Trust>> {
    sql.query_row("SELECT key, verified_at, offered_key FROM contact WHERE name = ?1", [name.as_str()], |row| {
        Ok(Trust {
            key: PeerKey::from_bytes(row.get(0)?),
            verified_at: row.get::<_, Option<i64>>(1)?.map(|millis| UnixMillis(millis.cast_unsigned())),
            offered: row.get::<_, Option<[u8; 32]>>(2)?.map(PeerKey::from_bytes),
        })
    })
    .optional()
}

/// `pinned_at` is when the key became the one that is talked to.
fn write(sql: &Connection, name: &PeerName, trust: Trust, now: UnixMillis) -> rusqlite::Result<()> {
    sql.execute(
        "INSERT INTO contact (name, key, pinned_at, verified_at, offered_key) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (name) DO UPDATE SET
         pinned_at = iif(key = ?2, pinned_at, ?3), key = ?2, verified_at = ?4, offered_key = ?5",
        params![
            name.as_str(),
            trust.key.as_bytes(),
            now.0.cast_signed(),
            trust.verified_at.map(|time| time.0.cast_signed()),
            trust.offered.as_ref().map(PeerKey::as_bytes)
        ],
    )?;
    Ok(())
}
