//! The folders this account serves: their manifests as files of the profile, and what was in them as rows, so that a part
//! of a folder is served without reading the manifest.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use rustix::fs::{CWD, Mode, OFlags};

use super::beneath;
use super::digest_cache::DigestCache;
use super::shares::{HashedFile, ShareError, SharedFile, Stamp, audience_of};
use super::walk::{Kind, Skipped, WalkError};
use crate::database::{Database, DatabaseError};
use crate::seal::digest::digest_of;
use crate::wire::codec::CodecError;
use crate::wire::ids::{FileDigest, FileSize, PeerKey};
use crate::wire::manifest::{Content, EntryFault, FileContent, Manifest, ManifestEntry, RelativePath};
use crate::wire::transfer::GROUP_BYTES;

/// Rows of one transaction: others who use the database do not wait long.
const ROWS_AT_ONCE: usize = 4_096;

/// Files of one digest that are looked at to serve it: more copies help nobody.
const COPIES_MAX: usize = 16;

/// Why a folder cannot be shared.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It cannot be walked.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// It cannot be opened.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// There is more in it than a manifest holds.
    #[error("{0}: {1}")]
    Entry(PathBuf, EntryFault),
    /// Its names are longer than a manifest holds.
    #[error("{0}: the list of its files is too long: {1}")]
    Manifest(PathBuf, CodecError),
    /// The profile's folder takes no manifest.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The profile cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// A folder that is shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedFolder {
    pub(super) id: i64,
    /// Where it lies.
    pub root: PathBuf,
    /// Entries of its manifest.
    pub entries: u64,
    /// Files in it.
    pub files: u64,
    /// Bytes of all of them.
    pub bytes: FileSize,
}

impl SharedFolder {
    /// Reads a folder's columns, which are NULL for a file; `Err` when they are damaged.
    pub(super) fn read(row: &Row<'_>, first: usize) -> rusqlite::Result<Result<Option<Self>, ()>> {
        let Some(id) = row.get::<_, Option<i64>>(first)? else { return Ok(Ok(None)) };
        let root = PathBuf::from(OsString::from_vec(row.get(first + 1)?));
        let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
        let (entries, files) = (number(first + 2)?, number(first + 3)?);
        let bytes = FileSize::try_from(number(first + 4)?).map_err(drop);
        Ok(bytes.map(|bytes| Some(Self { id, root, entries, files, bytes })))
    }
}

/// A shared folder that is open: what is in it is reached through no link, and never outside.
#[derive(Debug)]
pub struct FolderRoot {
    handle: OwnedFd,
    path: PathBuf,
}

impl FolderRoot {
    /// Opens a folder by the path that its owner gave.
    ///
    /// # Errors
    /// [`ShareError::Read`] when it is not there, or no folder.
    pub fn open(path: &Path) -> Result<Self, ShareError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
            Ok(handle) => Ok(Self { handle, path: path.to_owned() }),
            Err(error) => Err(ShareError::Read { path: path.to_owned(), source: error.into() }),
        }
    }

    /// Opens a regular file in it, without waiting on a pipe or device.
    pub(super) fn open_file(&self, path: &Path) -> Result<File, ShareError> {
        let read = |source| ShareError::Read { path: self.path.join(path), source };
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(beneath::open(self.handle.as_fd(), path, flags, Mode::empty()).map_err(read)?);
        let is_file = file.metadata().map_err(read)?.is_file();
        if is_file { Ok(file) } else { Err(ShareError::NotAFile(self.path.join(path))) }
    }

    /// Reads a small file as a whole. Blocks.
    ///
    /// # Errors
    /// [`ShareError::Changed`] when it is not the file that was hashed any more.
    pub fn read(&self, member: &Member, bytes: &mut Vec<u8>) -> Result<(), ShareError> {
        bytes.clear();
        let mut file = self.open_file(Path::new(&member.path))?;
        let read = |source| ShareError::Read { path: self.path.join(&member.path), source };
        (&mut file).take(GROUP_BYTES).read_to_end(bytes).map_err(read)?;
        // After reading: whatever was written before or meanwhile has left its mark.
        let is_same = Stamp::of(&file.metadata().map_err(read)?) == member.stamp;
        let is_whole = bytes.len() as u64 == member.stamp.size;
        if is_same && is_whole { Ok(()) } else { Err(ShareError::Changed(self.path.join(&member.path))) }
    }
}

/// A small file of a shared folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its path within the folder.
    pub path: String,
    stamp: Stamp,
}

impl Member {
    /// Its size.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.stamp.size
    }
}

/// Makes the manifest of a folder, file by file.
#[derive(Debug)]
pub struct FolderBuilder {
    root: FolderRoot,
    manifest: Manifest,
    /// What the rows say beside the manifest: of each file its number, stamp and tree.
    files: Vec<(u64, Stamp, Vec<u8>)>,
    /// What could not be read.
    pub skipped: Skipped,
}

impl FolderBuilder {
    /// Begins with an empty manifest.
    ///
    /// # Errors
    /// [`ShareError`] when the folder cannot be opened.
    pub fn new(root: &Path) -> Result<Self, ShareError> {
        let root = FolderRoot::open(root)?;
        Ok(Self { root, manifest: Manifest::default(), files: Vec::new(), skipped: Skipped::default() })
    }

    /// Adds what the walk has found, in its order; hashes a file unless its digest is known. What cannot be read is skipped
    /// with a word. Blocks.
    ///
    /// # Errors
    /// [`FolderError::Entry`] when a manifest cannot hold more.
    pub fn add(
        &mut self,
        path: RelativePath,
        kind: Kind,
        cache: &mut DigestCache,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), FolderError> {
        let what = match kind {
            Kind::Folder => Content::Folder,
            Kind::File => {
                let number = self.manifest.entries().len() as u64;
                match self.hash(&path, cache, progress) {
                    Ok((hashed, file)) => {
                        self.files.push((number, hashed.stamp, hashed.tree));
                        Content::File(file)
                    }
                    Err(error) => {
                        let why = match error {
                            ShareError::Read { source, .. } => format!("it cannot be read: {source}"),
                            ShareError::NotAFile(_) => "it is no file any more".to_owned(),
                            ShareError::TooLarge(..) => "it is too large".to_owned(),
                            ShareError::Changed(_) => "it changed while it was read".to_owned(),
                        };
                        self.skipped.add(&self.root.path.join(path.as_str()), &why);
                        return Ok(());
                    }
                }
            }
        };
        let added = self.manifest.push(ManifestEntry { path, what });
        added.map_err(|fault| FolderError::Entry(self.root.path.clone(), fault))
    }

    fn hash(
        &self,
        path: &RelativePath,
        cache: &mut DigestCache,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(HashedFile, FileContent), ShareError> {
        let file = self.root.open_file(Path::new(path.as_str()))?;
        let (hashed, metadata) = cache.hash_open(self.root.path.join(path.as_str()), file, progress)?;
        let content = FileContent {
            size: hashed.size,
            digest: hashed.digest,
            executable: metadata.permissions().mode() & 0o100 != 0,
            modified_nanos: hashed.stamp.modified_nanos,
        };
        Ok((hashed, content))
    }

    /// Keeps the folder in the profile: rows, and the manifest as a file. It is served once it is put among the shares. One
    /// folder at a time: what another call has begun and not put is forgotten.
    ///
    /// # Errors
    /// [`FolderError`] when the profile cannot be written.
    pub async fn keep(self, database: &Database, profile: &Path) -> Result<(HashedFile, SharedFolder), FolderError> {
        let Self { root, manifest, files, skipped: _ } = self;
        let bytes = manifest.to_bytes().map_err(|error| FolderError::Manifest(root.path.clone(), error))?;
        let size = FileSize::try_from(manifest.bytes()).expect("a manifest has no more bytes than a file may have");
        let entries = manifest.entries().len() as u64;
        let mut folder = SharedFolder { id: 0, root: root.path, entries, files: manifest.files(), bytes: size };
        let (digest, row) = (digest_of(&bytes), folder.clone());
        folder.id = database.run(move |sql| begin(sql, digest, &row).map_err(DatabaseError::from)).await?;
        let blob = write_manifest(profile, digest, &bytes)?;
        drop(bytes);
        keep_files(database, folder.id, manifest, files).await?;
        Ok((blob, folder))
    }
}

/// The row of a folder that is about to be shared; the one there is, when the same was shared before.
fn begin(sql: &Connection, digest: FileDigest, folder: &SharedFolder) -> rusqlite::Result<i64> {
    sql.execute("DELETE FROM folder_file WHERE folder IN (SELECT id FROM folder WHERE NOT ready)", [])?;
    sql.execute("DELETE FROM folder WHERE NOT ready", [])?;
    let root = folder.root.as_os_str().as_bytes();
    let same = "SELECT id FROM folder WHERE root = ?1 AND digest = ?2";
    let found = sql.query_row(same, params![root, digest.as_bytes()], |row| row.get(0)).optional()?;
    if let Some(id) = found {
        return Ok(id);
    }
    let (entries, files) = (folder.entries.cast_signed(), folder.files.cast_signed());
    sql.execute(
        "INSERT INTO folder (root, digest, entries, files, bytes) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![root, digest.as_bytes(), entries, files, folder.bytes.bytes().cast_signed()],
    )?;
    Ok(sql.last_insert_rowid())
}

async fn keep_files(
    database: &Database,
    folder: i64,
    manifest: Manifest,
    mut files: Vec<(u64, Stamp, Vec<u8>)>,
) -> Result<(), DatabaseError> {
    let manifest = std::sync::Arc::new(manifest);
    while !files.is_empty() {
        let rest = files.split_off(files.len().min(ROWS_AT_ONCE));
        let rows = std::mem::replace(&mut files, rest);
        let manifest = manifest.clone();
        database.run(move |sql| insert_files(sql, folder, &manifest, &rows).map_err(DatabaseError::from)).await?;
    }
    Ok(())
}

fn insert_files(
    sql: &Connection,
    folder: i64,
    manifest: &Manifest,
    rows: &[(u64, Stamp, Vec<u8>)],
) -> rusqlite::Result<()> {
    let mut insert = sql.prepare_cached(
        "INSERT OR REPLACE INTO folder_file (folder, number, path, size, modified, inode, digest, tree)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    for (number, stamp, tree) in rows {
        let entry = usize::try_from(*number).ok().and_then(|number| manifest.entries().get(number));
        let Some((entry, file)) = entry.and_then(|entry| Some((entry, entry.file()?))) else { continue };
        insert.execute(params![
            folder,
            number.cast_signed(),
            entry.path.as_str(),
            stamp.size.cast_signed(),
            stamp.modified_nanos,
            stamp.inode.cast_signed(),
            file.digest.as_bytes(),
            tree
        ])?;
    }
    Ok(())
}

/// Where the manifests of a profile lie.
fn manifests(profile: &Path) -> PathBuf {
    profile.join("manifests")
}

/// Writes a manifest beside its name first, so that a crash leaves no half one. One that is there stays as it is: other
/// shares of the same folder are served from it.
fn write_manifest(profile: &Path, digest: FileDigest, bytes: &[u8]) -> Result<HashedFile, FolderError> {
    let folder = manifests(profile);
    let path = folder.join(digest.to_string());
    if let Ok(there) = HashedFile::hash(&path, &mut |_| {})
        && there.digest == digest
    {
        return Ok(there);
    }
    let write = || {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let partial = path.with_extension("new");
        let mut file = File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(partial, &path)?;
        File::open(&folder)?.sync_all()
    };
    write().map_err(|source| FolderError::Write { path: path.clone(), source })?;
    Ok(HashedFile::hash(&path, &mut |_| {})?)
}

/// Forgets the folders that no share names any more.
pub(super) fn forget_unshared(sql: &Connection) -> rusqlite::Result<()> {
    let unshared = "ready AND id NOT IN (SELECT folder FROM shared_file WHERE folder IS NOT NULL)";
    sql.execute(&format!("DELETE FROM folder_file WHERE folder IN (SELECT id FROM folder WHERE {unshared})"), [])?;
    sql.execute(&format!("DELETE FROM folder WHERE {unshared}"), []).map(drop)
}

/// Removes the manifests of folders that are not shared any more.
///
/// # Errors
/// [`FolderError`] when the profile cannot be read or written.
pub async fn remove_old_manifests(database: &Database, profile: &Path) -> Result<(), FolderError> {
    let folder = manifests(profile);
    let failed = |source| FolderError::Write { path: folder.clone(), source };
    let found = match fs::read_dir(&folder) {
        Ok(found) => found.collect::<Result<Vec<_>, _>>().map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(failed(source)),
    };
    // Asked after the files were listed: a row is there before its file.
    let kept = database.run(|sql| digests(sql).map_err(DatabaseError::from)).await?;
    for file in found {
        let is_kept = file.file_name().to_str().is_some_and(|name| kept.contains(name.trim_end_matches(".new")));
        if !is_kept {
            fs::remove_file(file.path()).map_err(failed)?;
        }
    }
    Ok(())
}

/// The digests of all folders.
fn digests(sql: &Connection) -> rusqlite::Result<HashSet<String>> {
    let mut rows = sql.prepare_cached("SELECT digest FROM folder")?;
    let digests = rows.query_map([], |row| row.get(0).map(|bytes| FileDigest::from_bytes(bytes).to_string()))?;
    digests.collect()
}

/// The small files among a run of a folder's entries, in the order of the manifest: at most `limit`.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be read.
pub async fn small_files(
    database: &Database,
    folder: &SharedFolder,
    entries: std::ops::Range<u64>,
    limit: usize,
) -> Result<Vec<(u64, Member)>, DatabaseError> {
    let id = folder.id;
    database
        .run(move |sql| {
            let mut rows = sql.prepare_cached(
                "SELECT number, path, size, modified, inode FROM folder_file
                 WHERE folder = ?1 AND number >= ?2 AND number < ?3 AND size BETWEEN 1 AND ?4 ORDER BY number LIMIT ?5",
            )?;
            let (first, end) = (entries.start.cast_signed(), entries.end.cast_signed());
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let found = rows.query_map(params![id, first, end, GROUP_BYTES.cast_signed(), limit], |row| {
                let (path, stamp) = (row.get(1)?, stamp(row, 2)?);
                Ok((row.get::<_, i64>(0)?.cast_unsigned(), Member { path, stamp }))
            })?;
            Ok(found.collect::<Result<_, _>>()?)
        })
        .await
}

/// The files of one digest in folders that a person may fetch.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be read.
pub async fn members(
    database: &Database,
    digest: FileDigest,
    asker: PeerKey,
) -> Result<Vec<SharedFile>, DatabaseError> {
    database
        .run(move |sql| {
            let mut rows = sql.prepare_cached(
                "SELECT file.path, file.size, file.modified, file.inode, file.tree, root, recipient, offer, hides_address
                 FROM folder_file AS file JOIN folder ON folder.id = file.folder
                 JOIN shared_file ON shared_file.folder = file.folder
                 WHERE file.digest = ?1 AND recipient IN (x'', ?2) ORDER BY recipient DESC LIMIT ?3",
            )?;
            let limit = i64::try_from(COPIES_MAX).unwrap_or(i64::MAX);
            let found = rows.query_map(params![digest.as_bytes(), asker.as_bytes(), limit], |row| {
                read_member(row, digest)
            })?;
            Ok(found.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
        })
        .await
}

/// Reads a row; `None` when a part of it is damaged.
fn read_member(row: &Row<'_>, digest: FileDigest) -> rusqlite::Result<Option<SharedFile>> {
    let (stamp, tree) = (stamp(row, 1)?, row.get(4)?);
    let root = PathBuf::from(OsString::from_vec(row.get(5)?));
    let audience = audience_of(row.get(6)?, row.get(7)?, row.get(8)?);
    let path = RelativePath::parse(&row.get::<_, String>(0)?);
    let (Ok(path), Ok(size)) = (path, FileSize::try_from(stamp.size)) else { return Ok(None) };
    let (name, path) = (path.name(), root.join(path.as_str()));
    let file = HashedFile { path, size, digest, tree, stamp, beneath: Some(root) };
    Ok(Some(SharedFile { name, audience, file, folder: None }))
}

/// Reads size, time and inode, in this order.
fn stamp(row: &Row<'_>, first: usize) -> rusqlite::Result<Stamp> {
    Ok(Stamp {
        size: row.get::<_, i64>(first)?.cast_unsigned(),
        modified_nanos: row.get(first + 1)?,
        inode: row.get::<_, i64>(first + 2)?.cast_unsigned(),
    })
}

#[cfg(test)]
#[path = "folder_shares_tests.rs"]
mod tests;
