//! Friends whose files are taken without asking, up to a size: what a person said in advance.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use rusqlite::{OptionalExtension as _, Row, params};

use crate::database::{Database, DatabaseError};
use crate::wire::ids::PeerName;
use crate::wire::limits::FRIENDS_MAX;

/// What of a friend is taken without asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// Whose.
    pub name: PeerName,
    /// Offers of at most so many bytes.
    pub bytes_max: u64,
    /// Into which folder; absolute.
    pub folder: PathBuf,
}

/// Takes a friend's files from now on, in the place of what was said before. Says `false` when that is said of too many.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be used, here and below.
pub async fn put(database: &Database, welcome: Welcome) -> Result<bool, DatabaseError> {
    database
        .run(move |sql| {
            let others = "SELECT count(*) FROM welcome WHERE name != ?1";
            let others: i64 = sql.prepare_cached(others)?.query_row([welcome.name.as_str()], |row| row.get(0))?;
            if others.cast_unsigned() >= FRIENDS_MAX {
                return Ok(false);
            }
            let insert = "INSERT OR REPLACE INTO welcome (name, bytes_max, folder) VALUES (?1, ?2, ?3)";
            let bytes_max = i64::try_from(welcome.bytes_max).unwrap_or(i64::MAX);
            let folder = welcome.folder.as_os_str().as_bytes();
            sql.prepare_cached(insert)?.execute(params![welcome.name.as_str(), bytes_max, folder])?;
            Ok(true)
        })
        .await
}

/// Takes that back. Says whether there was anything.
#[expect(clippy::missing_errors_doc, reason = "see `put`")]
pub async fn remove(database: &Database, name: &PeerName) -> Result<bool, DatabaseError> {
    let name = name.clone();
    database.run(move |sql| Ok(sql.execute("DELETE FROM welcome WHERE name = ?1", [name.as_str()])? > 0)).await
}

/// What was said of a person. Whether they are a friend is asked elsewhere.
#[expect(clippy::missing_errors_doc, reason = "see `put`")]
pub async fn of(database: &Database, name: &PeerName) -> Result<Option<Welcome>, DatabaseError> {
    let name = name.clone();
    database
        .run(move |sql| {
            let query = "SELECT name, bytes_max, folder FROM welcome WHERE name = ?1";
            Ok(sql.prepare_cached(query)?.query_row([name.as_str()], read_row).optional()?.flatten())
        })
        .await
}

/// Everybody of whom it was said.
#[expect(clippy::missing_errors_doc, reason = "see `put`")]
pub async fn all(database: &Database) -> Result<Vec<Welcome>, DatabaseError> {
    database
        .run(|sql| {
            let mut rows = sql.prepare_cached("SELECT name, bytes_max, folder FROM welcome ORDER BY name")?;
            let found = rows.query_map([], read_row)?.collect::<Result<Vec<_>, _>>()?;
            Ok(found.into_iter().flatten().collect())
        })
        .await
}

/// Reads a row; `None` when it is damaged, which takes nothing from anybody.
fn read_row(row: &Row<'_>) -> rusqlite::Result<Option<Welcome>> {
    let (name, bytes_max): (String, i64) = (row.get(0)?, row.get(1)?);
    let folder = PathBuf::from(OsString::from_vec(row.get(2)?));
    let name = PeerName::parse(&name).ok();
    Ok(name.and_then(|name| Some(Welcome { name, bytes_max: u64::try_from(bytes_max).ok()?, folder })))
}
