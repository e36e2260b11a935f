//! The keys of the people this account has talked to: pinned on first conversation.

use rusqlite::{OptionalExtension, params};

use crate::database::{Database, DatabaseError};
use crate::wire::ids::{PeerKey, PeerName, UnixMillis};

/// What pinning a key came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pinned {
    /// The person had no key here.
    First,
    /// It is the key that was pinned before.
    Same,
    /// Another key was pinned before; it is replaced.
    Changed {
        /// The key before.
        old: PeerKey,
    },
}

/// Pins the key of a person, and says whether another one was pinned before.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be written.
pub async fn pin(database: &Database, name: &PeerName, key: PeerKey, now: UnixMillis) -> Result<Pinned, DatabaseError> {
    let name = name.clone();
    database
        .run(move |sql| {
            let old = sql
                .query_row("SELECT key FROM contact WHERE name = ?1", [name.as_str()], |row| row.get::<_, [u8; 32]>(0))
                .optional()?
                .map(PeerKey::from_bytes);
            if old == Some(key) {
                return Ok(Pinned::Same);
            }
            sql.execute(
                "INSERT INTO contact (name, key, pinned_at) VALUES (?1, ?2, ?3)
                 ON CONFLICT (name) DO UPDATE SET key = ?2, pinned_at = ?3",
                params![name.as_str(), key.as_bytes(), now.0.cast_signed()],
            )?;
            Ok(old.map_or(Pinned::First, |old| Pinned::Changed { old }))
        })
        .await
}

/// The pinned key of a person.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be read.
pub async fn pinned_key(database: &Database, name: &PeerName) -> Result<Option<PeerKey>, DatabaseError> {
    let name = name.clone();
    database
        .run(move |sql| {
            Ok(sql
                .query_row("SELECT key FROM contact WHERE name = ?1", [name.as_str()], |row| row.get::<_, [u8; 32]>(0))
                .optional()?
                .map(PeerKey::from_bytes))
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
