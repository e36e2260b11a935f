//! The files this account serves: published to everyone, or offered to one person. Each with the digest it had when it
//! was shared, so that a file that changes is noticed and never served as another.

use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rusqlite::{Row, params};

use crate::database::{Database, DatabaseError};
use crate::seal::digest::HashTree;
use crate::wire::ids::{FileDigest, FileName, FileSize, MessageId, PeerKey};

/// Who may fetch a shared file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Everyone at the directory.
    Everyone {
        /// Whether it is served through the relay only, so that nobody learns where this peer is.
        hides_address: bool,
    },
    /// The person it is offered to.
    One {
        /// Their key.
        recipient: PeerKey,
        /// The offer.
        offer: MessageId,
    },
}

/// A file on disk as it was when it was hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashedFile {
    /// Where it lies.
    pub path: PathBuf,
    /// Its size then.
    pub size: FileSize,
    /// Its BLAKE3 root then.
    pub digest: FileDigest,
    /// The hashes of its groups: what a receiver fetches first.
    pub tree: Vec<u8>,
    stamp: Stamp,
}

/// What changes when a file is written or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified_nanos: i64,
    inode: u64,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        let modified_nanos = metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
        Self { size: metadata.len(), modified_nanos, inode: metadata.ino() }
    }
}

/// A file under the name it is shared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedFile {
    /// Its name for others.
    pub name: FileName,
    /// Who may fetch it.
    pub audience: Audience,
    /// The file.
    pub file: HashedFile,
}

/// Why a file cannot be shared or served.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is a folder, device or socket.
    #[error("{0} is not a file")]
    NotAFile(PathBuf),
    /// It is larger than a transfer can be.
    #[error("{0} is too large: {1}")]
    TooLarge(PathBuf, crate::wire::ids::IdError),
    /// It was written to while it was hashed, or since.
    #[error("{0} changed while it was read")]
    Changed(PathBuf),
}

impl HashedFile {
    /// Reads and hashes a file; `progress` hears how many bytes are done.
    ///
    /// # Errors
    /// [`ShareError`] names the file and why it cannot be shared.
    pub fn hash(path: &Path, progress: &mut dyn FnMut(u64)) -> Result<Self, ShareError> {
        let read = |source| ShareError::Read { path: path.to_owned(), source };
        let path = std::path::absolute(path).map_err(read)?;
        let mut file = open(&path)?;
        let before = Stamp::of(&file.metadata().map_err(read)?);
        let size = FileSize::try_from(before.size).map_err(|error| ShareError::TooLarge(path.clone(), error))?;
        let (digest, tree) = HashTree::of_reader(&mut file, progress).map_err(read)?;
        if Stamp::of(&file.metadata().map_err(read)?) != before || tree.size() != before.size {
            return Err(ShareError::Changed(path));
        }
        Ok(Self { path, size, digest, tree: tree.to_bytes(), stamp: before })
    }

    /// Opens the file for serving.
    ///
    /// # Errors
    /// [`ShareError::Changed`] when it is not the file that was hashed any more.
    pub fn open(&self) -> Result<ServedFile, ShareError> {
        let served = ServedFile { file: open(&self.path)?, path: self.path.clone(), stamp: self.stamp };
        served.check_unchanged()?;
        Ok(served)
    }
}

/// A shared file that is open for serving.
#[derive(Debug)]
pub struct ServedFile {
    file: File,
    path: PathBuf,
    stamp: Stamp,
}

impl ServedFile {
    /// Fills a buffer from an offset. Blocks.
    ///
    /// # Errors
    /// [`ShareError::Read`] when the disk does not give the bytes, or the file has become shorter.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), ShareError> {
        self.file.read_exact_at(buffer, offset).map_err(|source| ShareError::Read { path: self.path.clone(), source })
    }

    /// Checks that the open file is still the one that was hashed.
    ///
    /// # Errors
    /// [`ShareError::Changed`] when it is not.
    pub fn check_unchanged(&self) -> Result<(), ShareError> {
        let metadata = self.file.metadata().map_err(|source| ShareError::Read { path: self.path.clone(), source })?;
        if Stamp::of(&metadata) == self.stamp { Ok(()) } else { Err(ShareError::Changed(self.path.clone())) }
    }
}

/// Opens a regular file without waiting on a pipe or device.
pub(super) fn open(path: &Path) -> Result<File, ShareError> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)
        .map_err(|source| ShareError::Read { path: path.to_owned(), source })?;
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(file),
        Ok(_) => Err(ShareError::NotAFile(path.to_owned())),
        Err(source) => Err(ShareError::Read { path: path.to_owned(), source }),
    }
}

/// Keeps a share; one of the same name and audience is replaced.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be written.
pub async fn put(database: &Database, share: SharedFile) -> Result<(), DatabaseError> {
    database
        .run(move |sql| {
            let (recipient, offer) = audience_columns(share.audience);
            let file = &share.file;
            sql.execute(
                "INSERT OR REPLACE INTO shared_file
                 (recipient, name, path, size, modified, inode, digest, tree, offer, hides_address)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                params![
                    recipient,
                    share.name.as_str(),
                    file.path.as_os_str().as_bytes(),
                    file.size.bytes().cast_signed(),
                    file.stamp.modified_nanos,
                    file.stamp.inode.cast_signed(),
                    file.digest.as_bytes(),
                    file.tree,
                    offer,
                    share.audience == Audience::Everyone { hides_address: true }
                ],
            )?;
            Ok(())
        })
        .await
}

/// Takes a published file back. Says `false` when there was none of that name.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be written.
pub async fn remove_published(database: &Database, name: &FileName) -> Result<bool, DatabaseError> {
    let name = name.clone();
    database
        .run(move |sql| {
            Ok(sql.execute("DELETE FROM shared_file WHERE recipient = x'' AND name = ?1", [name.as_str()])? > 0)
        })
        .await
}

/// Ends an offer: the file is not served to its recipient any more. `None` when this person was offered no such thing.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be written.
pub async fn remove_offered(
    database: &Database,
    offer: MessageId,
    recipient: PeerKey,
) -> Result<Option<SharedFile>, DatabaseError> {
    database
        .run(move |sql| {
            let mut rows = sql.prepare_cached(&format!(
                "DELETE FROM shared_file WHERE offer = ?1 AND recipient = ?2 RETURNING {COLUMNS}"
            ))?;
            let offered = params![offer.as_bytes(), recipient.as_bytes()];
            let mut found = rows.query_map(offered, read_row)?.collect::<Result<Vec<_>, _>>()?;
            Ok(found.pop().flatten())
        })
        .await
}

/// The published files by name.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be read.
pub async fn published(database: &Database) -> Result<Vec<SharedFile>, DatabaseError> {
    database
        .run(|sql| {
            let mut rows =
                sql.prepare_cached(&format!("SELECT {COLUMNS} FROM shared_file WHERE recipient = x'' ORDER BY name"))?;
            let found = rows.query_map([], read_row)?.collect::<Result<Vec<_>, _>>()?;
            Ok(found.into_iter().flatten().collect())
        })
        .await
}

/// The files of one digest that a person may fetch: those offered to them first.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be read.
pub async fn fetchable(
    database: &Database,
    digest: FileDigest,
    asker: PeerKey,
) -> Result<Vec<SharedFile>, DatabaseError> {
    database
        .run(move |sql| {
            let mut rows = sql.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM shared_file WHERE digest = ?1 AND recipient IN (x'', ?2) ORDER BY recipient DESC"
            ))?;
            let found = rows
                .query_map(params![digest.as_bytes(), asker.as_bytes()], read_row)?
                .collect::<Result<Vec<_>, _>>()?;
            Ok(found.into_iter().flatten().collect())
        })
        .await
}

/// Whether there is anything that a person may fetch.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be read.
pub async fn serves(database: &Database, asker: PeerKey) -> Result<bool, DatabaseError> {
    database
        .run(move |sql| {
            Ok(sql.query_row(
                "SELECT EXISTS (SELECT 1 FROM shared_file WHERE recipient IN (x'', ?1))",
                [asker.as_bytes()],
                |row| row.get(0),
            )?)
        })
        .await
}

/// Whether a file of this digest is published, and under no name with a hidden address.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be read.
pub async fn publishes_openly(database: &Database, digest: FileDigest) -> Result<bool, DatabaseError> {
    database
        .run(move |sql| {
            let hidden: Option<bool> = sql.query_row(
                "SELECT max(hides_address) FROM shared_file WHERE digest = ?1 AND recipient = x''",
                [digest.as_bytes()],
                |row| row.get(0),
            )?;
            Ok(hidden == Some(false))
        })
        .await
}

const COLUMNS: &str = "recipient, name, path, size, modified, inode, digest, tree, offer, hides_address";

fn audience_columns(audience: Audience) -> (Vec<u8>, Vec<u8>) {
    match audience {
        Audience::Everyone { .. } => (Vec::new(), Vec::new()),
        Audience::One { recipient, offer } => (recipient.as_bytes().to_vec(), offer.as_bytes().to_vec()),
    }
}

/// Reads a row; `None` when a part of it is damaged.
fn read_row(row: &Row<'_>) -> rusqlite::Result<Option<SharedFile>> {
    let (recipient, name): (Vec<u8>, String) = (row.get(0)?, row.get(1)?);
    let path = PathBuf::from(OsString::from_vec(row.get(2)?));
    let size = row.get::<_, i64>(3)?.cast_unsigned();
    let stamp = Stamp { size, modified_nanos: row.get(4)?, inode: row.get::<_, i64>(5)?.cast_unsigned() };
    let digest = FileDigest::from_bytes(row.get(6)?);
    let (tree, offer): (Vec<u8>, Vec<u8>) = (row.get(7)?, row.get(8)?);
    let audience = match (<[u8; 32]>::try_from(recipient), <[u8; 16]>::try_from(offer)) {
        (Ok(key), Ok(offer)) => {
            Audience::One { recipient: PeerKey::from_bytes(key), offer: MessageId::from_bytes(offer) }
        }
        _ => Audience::Everyone { hides_address: row.get(9)? },
    };
    let (Ok(name), Ok(size)) = (FileName::parse(&name), FileSize::try_from(size)) else { return Ok(None) };
    Ok(Some(SharedFile { name, audience, file: HashedFile { path, size, digest, tree, stamp } }))
}
