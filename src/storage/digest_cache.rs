//! What was hashed before: by path, inode, size and times, so that nothing is hashed twice unless it has changed.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};

use super::shares::{self, HashedFile, ShareError, Stamp};
use crate::clock;
use crate::database::{Database, DatabaseError};
use crate::wire::ids::{FileDigest, FileSize};

/// Files whose digests are kept; the ones hashed longest ago make room.
const HASHED_FILES_MAX: i64 = 1_000_000;

/// Rows of one transaction: others who use the database do not wait long.
const ROWS_AT_ONCE: usize = 4_096;

/// A file that changed this recently may change again without another time, so its digest is not kept.
const SETTLED_NANOS: i64 = 100_000_000;

/// The digests of a file, or of all files below a folder.
#[derive(Debug, Default)]
pub struct DigestCache {
    known: HashMap<PathBuf, Known>,
    /// What was hashed now, to be kept.
    fresh: Vec<(PathBuf, Known)>,
}

/// A digest, and the file that had it.
#[derive(Debug, Clone)]
struct Known {
    stamp: Stamp,
    changed_nanos: i64,
    digest: FileDigest,
    tree: Vec<u8>,
}

impl DigestCache {
    /// Reads what is known of a path, and of all below it.
    ///
    /// # Errors
    /// [`DatabaseError`] when the profile cannot be read.
    pub async fn below(database: &Database, path: &Path) -> Result<Self, DatabaseError> {
        let path = path.as_os_str().as_bytes().to_vec();
        let known = database.run(move |sql| read(sql, &path).map_err(DatabaseError::from)).await?;
        Ok(Self { known, fresh: Vec::new() })
    }

    /// The digest of a file, which is read only when it is not the one that is known; `progress` hears how many bytes are
    /// done.
    ///
    /// # Errors
    /// [`ShareError`] names the file and why it cannot be shared.
    pub fn hash(&mut self, path: &Path, progress: &mut dyn FnMut(u64)) -> Result<HashedFile, ShareError> {
        let path = std::path::absolute(path).map_err(|source| ShareError::Read { path: path.to_owned(), source })?;
        let file = shares::open(&path)?;
        self.hash_open(path, file, progress).map(|(hashed, _)| hashed)
    }

    /// The digest of an open file, and what is known of the file.
    pub(super) fn hash_open(
        &mut self,
        path: PathBuf,
        file: File,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(HashedFile, Metadata), ShareError> {
        let metadata = file.metadata().map_err(|source| ShareError::Read { path: path.clone(), source })?;
        let (stamp, changed_nanos) = (Stamp::of(&metadata), changed_nanos(&metadata));
        let known = self.known.remove(&path);
        if let Some(Known { digest, tree, .. }) =
            known.filter(|known| (known.stamp, known.changed_nanos) == (stamp, changed_nanos))
            && let Ok(size) = FileSize::try_from(stamp.size)
        {
            progress(stamp.size);
            return Ok((HashedFile { path, size, digest, tree, stamp, beneath: None }, metadata));
        }
        let hashed = HashedFile::hash_open(path, file, progress)?;
        let now = i64::try_from(clock::now_millis().0).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        if now.saturating_sub(changed_nanos) > SETTLED_NANOS {
            let (digest, tree) = (hashed.digest, hashed.tree.clone());
            self.fresh.push((hashed.path.clone(), Known { stamp: hashed.stamp, changed_nanos, digest, tree }));
        }
        Ok((hashed, metadata))
    }

    /// Keeps what was hashed since the last time.
    ///
    /// # Errors
    /// [`DatabaseError`] when the profile cannot be written.
    pub async fn keep(&mut self, database: &Database) -> Result<(), DatabaseError> {
        while !self.fresh.is_empty() {
            let rest = self.fresh.split_off(self.fresh.len().min(ROWS_AT_ONCE));
            let rows = std::mem::replace(&mut self.fresh, rest);
            database.run(move |sql| write(sql, &rows).map_err(DatabaseError::from)).await?;
        }
        Ok(())
    }
}

fn changed_nanos(metadata: &Metadata) -> i64 {
    metadata.ctime().saturating_mul(1_000_000_000).saturating_add(metadata.ctime_nsec())
}

fn read(sql: &Connection, path: &[u8]) -> rusqlite::Result<HashMap<PathBuf, Known>> {
    // Whatever begins with the path and a slash, the byte after which is `0`.
    let (first, end) = ([path, b"/"].concat(), [path, b"0"].concat());
    let mut rows = sql.prepare_cached(
        "SELECT path, size, modified, changed, inode, digest, tree FROM hashed_file
         WHERE path = ?1 OR (path > ?2 AND path < ?3)",
    )?;
    let known = rows.query_map(params![path, first, end], |row| {
        let stamp = Stamp {
            size: row.get::<_, i64>(1)?.cast_unsigned(),
            modified_nanos: row.get(2)?,
            inode: row.get::<_, i64>(4)?.cast_unsigned(),
        };
        let digest = FileDigest::from_bytes(row.get(5)?);
        let known = Known { stamp, changed_nanos: row.get(3)?, digest, tree: row.get(6)? };
        Ok((PathBuf::from(OsString::from_vec(row.get(0)?)), known))
    })?;
    known.collect()
}

fn write(sql: &Connection, rows: &[(PathBuf, Known)]) -> rusqlite::Result<()> {
    let mut insert = sql.prepare_cached(
        "INSERT OR REPLACE INTO hashed_file (path, size, modified, changed, inode, digest, tree)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for (path, known) in rows {
        insert.execute(params![
            path.as_os_str().as_bytes(),
            known.stamp.size.cast_signed(),
            known.stamp.modified_nanos,
            known.changed_nanos,
            known.stamp.inode.cast_signed(),
            known.digest.as_bytes(),
            known.tree
        ])?;
    }
    let forget = "DELETE FROM hashed_file WHERE number <= (SELECT max(number) FROM hashed_file) - ?1";
    sql.execute(forget, [HASHED_FILES_MAX]).map(drop)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::seal::digest::digest_of;
    use crate::storage::schema::MIGRATIONS;

    /// A cache that was written and read again.
    async fn reread(cache: &mut DigestCache, database: &Database, path: &Path) -> DigestCache {
        cache.keep(database).await.unwrap();
        DigestCache::below(database, path).await.unwrap()
    }

    #[tokio::test]
    async fn only_what_changed_is_hashed_again() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("db"), MIGRATIONS).unwrap();
        let files = folder.path().join("files");
        fs::create_dir(&files).unwrap();
        let (one, other) = (files.join("one"), folder.path().join("files0"));
        fs::write(&one, "one").unwrap();
        fs::write(&other, "beside").unwrap();
        let mut cache = DigestCache::default();
        for path in [&one, &other] {
            cache.hash(path, &mut |_| {}).unwrap();
            // As if it had been written a while ago.
            let hashed = HashedFile::hash(path, &mut |_| {}).unwrap();
            let changed_nanos = changed_nanos(&path.metadata().unwrap());
            // A digest that the file has not: whoever sees it did not read the file.
            let digest = FileDigest::from_bytes([1; 32]);
            cache.fresh = vec![(path.clone(), Known { stamp: hashed.stamp, changed_nanos, digest, tree: Vec::new() })];
            cache.keep(&database).await.unwrap();
        }
        let mut cache = DigestCache::below(&database, &files).await.unwrap();
        assert_eq!(cache.known.len(), 1, "a file beside the folder was read");
        assert_eq!(cache.hash(&one, &mut |_| {}).unwrap().digest, FileDigest::from_bytes([1; 32]));
        let file = File::options().write(true).open(&one).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
        let mut cache = reread(&mut cache, &database, &files).await;
        assert_eq!(cache.hash(&one, &mut |_| {}).unwrap().digest, digest_of(b"one"));
    }

    #[tokio::test]
    async fn a_file_that_changed_just_now_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("db"), MIGRATIONS).unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "new").unwrap();
        let mut cache = DigestCache::default();
        cache.hash(&path, &mut |_| {}).unwrap();
        assert!(reread(&mut cache, &database, &path).await.known.is_empty());
    }
}
