//! The files this account serves: published to everyone, or offered to one person. Each with the digest it had when it
//! was shared, so that a file that changes is noticed and never served as another.

use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _, Params, Row, params};
use rustix::buffer::spare_capacity;
use rustix::io::{pread, retry_on_intr};

use super::folder_shares::{self, FolderRoot, SharedFolder};
use crate::database::{Database, DatabaseError};
use crate::seal::digest::{HashTree, digest_of};
use crate::wire::catalog::EntryKind;
use crate::wire::ids::{FileDigest, FileName, FileSize, MessageId, PeerKey, PeerName, UnixMillis};
use crate::wire::transfer::{GROUP_BYTES, tree_bytes};

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
    pub(super) stamp: Stamp,
    /// The shared folder that it lies in: it is opened beneath that one, through no link.
    pub(super) beneath: Option<PathBuf>,
}

/// What changes when a file is written or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) size: u64,
    pub(super) modified_nanos: i64,
    pub(super) inode: u64,
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
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
    /// The file; of a folder, its manifest.
    pub file: HashedFile,
    /// The folder, if it is one.
    pub folder: Option<SharedFolder>,
}

impl SharedFile {
    /// Where it lies, and its bytes: of a folder, those of all files in it.
    #[must_use]
    pub fn place(&self) -> (&Path, FileSize) {
        match &self.folder {
            Some(folder) => (&folder.root, folder.bytes),
            None => (&self.file.path, self.file.size),
        }
    }

    /// What others are told that it is.
    #[must_use]
    pub fn kind(&self) -> EntryKind {
        self.folder.as_ref().map_or(EntryKind::File, |folder| EntryKind::Folder { files: folder.files })
    }
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
        let file = open(&path)?;
        Self::hash_open(path, file, progress)
    }

    /// Reads and hashes an open file.
    pub(super) fn hash_open(path: PathBuf, mut file: File, progress: &mut dyn FnMut(u64)) -> Result<Self, ShareError> {
        let read = |source| ShareError::Read { path: path.clone(), source };
        let stamp = Stamp::of(&file.metadata().map_err(read)?);
        let size = FileSize::try_from(stamp.size).map_err(|error| ShareError::TooLarge(path.clone(), error))?;
        let (digest, tree) = if size.bytes() <= GROUP_BYTES {
            let mut bytes = Vec::with_capacity(usize::try_from(size.bytes()).unwrap_or(usize::MAX));
            Read::by_ref(&mut file).take(size.bytes()).read_to_end(&mut bytes).map_err(read)?;
            progress(size.bytes());
            (digest_of(&bytes), Vec::new())
        } else {
            let (digest, tree) = HashTree::of_reader(&mut file, progress).map_err(read)?;
            (digest, tree.to_bytes())
        };
        if Stamp::of(&file.metadata().map_err(read)?) != stamp || tree.len() as u64 != tree_bytes(size.bytes()) {
            return Err(ShareError::Changed(path));
        }
        Ok(Self { path, size, digest, tree, stamp, beneath: None })
    }

    /// Opens the file for serving.
    ///
    /// # Errors
    /// [`ShareError::Changed`] when it is not the file that was hashed any more.
    pub fn open(&self) -> Result<ServedFile, ShareError> {
        let file = match &self.beneath {
            Some(root) => FolderRoot::open(root)?.open_file(self.path.strip_prefix(root).unwrap_or(&self.path))?,
            None => open(&self.path)?,
        };
        let served = ServedFile { file, path: self.path.clone(), stamp: self.stamp };
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
    /// Appends so many bytes from an offset. Blocks.
    ///
    /// # Errors
    /// [`ShareError::Read`] when the disk does not give the bytes, [`ShareError::Changed`] when the file has become shorter.
    pub fn read_at(&self, bytes: usize, offset: u64, out: &mut Vec<u8>) -> Result<(), ShareError> {
        out.reserve(bytes);
        let (before, end) = (out.len(), out.len() + bytes);
        while out.len() < end {
            let offset = offset + (out.len() - before) as u64;
            // As much as the buffer has room for, which may be a little more.
            let read = retry_on_intr(|| pread(&self.file, spare_capacity(out), offset));
            match read {
                Ok(0) => return Err(ShareError::Changed(self.path.clone())),
                Ok(_) => {}
                Err(source) => return Err(ShareError::Read { path: self.path.clone(), source: source.into() }),
            }
        }
        out.truncate(end);
        Ok(())
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
                 (recipient, name, path, size, modified, inode, digest, tree, offer, hides_address, folder)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
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
                    share.audience == Audience::Everyone { hides_address: true },
                    share.folder.as_ref().map(|folder| folder.id)
                ],
            )?;
            if let Some(folder) = &share.folder {
                sql.execute("UPDATE folder SET ready = 1 WHERE id = ?1", [folder.id])?;
            }
            // It may have taken the place of another.
            Ok(folder_shares::forget_unshared(sql)?)
        })
        .await
}

/// Takes a published file back. Says which one it was; `None` when there was none of that name.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be written.
pub async fn remove_published(database: &Database, name: &FileName) -> Result<Option<FileDigest>, DatabaseError> {
    let name = name.clone();
    database
        .run(move |sql| {
            let delete = "DELETE FROM shared_file WHERE recipient = x'' AND name = ?1 RETURNING digest";
            let digest = sql.query_row(delete, [name.as_str()], |row| row.get(0)).optional()?;
            folder_shares::forget_unshared(sql)?;
            Ok(digest.map(FileDigest::from_bytes))
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
            let offered = params![offer.as_bytes(), recipient.as_bytes()];
            let found = select(sql, "offer = ?1 AND recipient = ?2", offered)?.pop();
            sql.execute("DELETE FROM shared_file WHERE offer = ?1 AND recipient = ?2", offered)?;
            folder_shares::forget_unshared(sql)?;
            Ok(found)
        })
        .await
}

/// An offer of this account that was neither taken nor declined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnOffer {
    /// The offer.
    pub offer: MessageId,
    /// For whom.
    pub to: PeerName,
    /// Their key.
    pub recipient: PeerKey,
    /// When it was made.
    pub since: UnixMillis,
    /// What.
    pub share: SharedFile,
}

/// The open offers of this account, oldest first.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be read.
pub async fn offered(database: &Database) -> Result<Vec<OwnOffer>, DatabaseError> {
    database
        .run(|sql| {
            let mut rows = sql.prepare_cached(&format!(
                "SELECT {COLUMNS}, message.peer, message.sent_at
                 FROM {SHARES} JOIN message ON message.id = offer AND message.peer_key = recipient
                 WHERE recipient != x'' AND message.direction = 'out' ORDER BY message.number"
            ))?;
            let found =
                rows.query_map([], |row| Ok((read_row(row)?, row.get::<_, String>(15)?, row.get::<_, i64>(16)?)));
            let valid = |(share, to, since): (Option<SharedFile>, String, i64)| {
                let share = share?;
                let Audience::One { recipient, offer } = share.audience else { return None };
                let since = UnixMillis(since.cast_unsigned());
                Some(OwnOffer { offer, to: PeerName::parse(&to).ok()?, recipient, since, share })
            };
            Ok(found?.collect::<Result<Vec<_>, _>>()?.into_iter().filter_map(valid).collect())
        })
        .await
}

/// The published files by name.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be read.
pub async fn published(database: &Database) -> Result<Vec<SharedFile>, DatabaseError> {
    database.run(|sql| Ok(select(sql, "recipient = x'' ORDER BY name", [])?)).await
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
            let matches = "shared_file.digest = ?1 AND recipient IN (x'', ?2) ORDER BY recipient DESC";
            Ok(select(sql, matches, params![digest.as_bytes(), asker.as_bytes()])?)
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

/// What [`read_row`] reads, of [`SHARES`].
const COLUMNS: &str = "recipient, name, path, size, modified, inode, shared_file.digest, tree, offer, hides_address,
    folder.id, root, entries, files, bytes";
const SHARES: &str = "shared_file LEFT JOIN folder ON folder.id = shared_file.folder";

/// Reads the shares that match.
fn select(sql: &Connection, matches: &str, values: impl Params) -> rusqlite::Result<Vec<SharedFile>> {
    let mut rows = sql.prepare_cached(&format!("SELECT {COLUMNS} FROM {SHARES} WHERE {matches}"))?;
    let found = rows.query_map(values, read_row)?.collect::<Result<Vec<_>, _>>()?;
    Ok(found.into_iter().flatten().collect())
}

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
    let audience = audience_of(recipient, offer, row.get(9)?);
    let Ok(folder) = SharedFolder::read(row, 10)? else { return Ok(None) };
    let (Ok(name), Ok(size)) = (FileName::parse(&name), FileSize::try_from(size)) else { return Ok(None) };
    let file = HashedFile { path, size, digest, tree, stamp, beneath: None };
    Ok(Some(SharedFile { name, audience, file, folder }))
}

/// Who may fetch what a row shares: everyone, unless recipient and offer are named.
pub(super) fn audience_of(recipient: Vec<u8>, offer: Vec<u8>, hides_address: bool) -> Audience {
    match (<[u8; 32]>::try_from(recipient), <[u8; 16]>::try_from(offer)) {
        (Ok(key), Ok(offer)) => {
            Audience::One { recipient: PeerKey::from_bytes(key), offer: MessageId::from_bytes(offer) }
        }
        _ => Audience::Everyone { hides_address },
    }
}
