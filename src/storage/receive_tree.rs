//! A folder while it is received: it grows in `.NAME.qpart/tree`, and gets its name as a whole, once every file is there,
//! verified and on disk. Part files of large files lie beside it, in `.NAME.qpart/parts`, under names of their own, so that
//! no name in the folder can be taken for one.
//!
//! ```text
//! open -> prepare (remove what does not belong, make folders) -> is_here / write / part + adopt -> finish
//! ```

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::beneath;
use super::partial_file::{Collision, PartialFile, ReceiveError};
use super::receive_folder::ReceiveFolder;
use super::safe_name::SafeName;
use crate::seal::digest::{HashTree, digest_of};
use crate::wire::ids::FileName;
use crate::wire::manifest::{Content, FileContent, Manifest, ManifestEntry};
use crate::wire::transfer::GROUP_BYTES;

/// Names that are tried for a file whose own is taken: a folder has no more files of one name.
const NUMBERS_MAX: u32 = 10_000;

/// Whether files that may be executed at their owner's may be so here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Executable {
    /// None is.
    #[default]
    Never,
    /// Those that are there.
    Kept,
}

/// A folder that is being received.
#[derive(Debug)]
pub struct ReceiveTree {
    /// The folder that it is to lie in.
    parent: ReceiveFolder,
    name: SafeName,
    collision: Collision,
    executable: Executable,
    manifest: Arc<Manifest>,
    /// `.NAME.qpart`, locked as long as it is open.
    outer: ReceiveFolder,
    tree: ReceiveFolder,
    parts: ReceiveFolder,
    /// The folder of that name which is here already, when it is to be overwritten.
    target: Option<ReceiveFolder>,
    /// Where entries lie whose path here is another one than at their owner's.
    moved: Mutex<HashMap<usize, PathBuf>>,
    /// Files that are right in the target already, and stay there.
    kept: Mutex<HashSet<usize>>,
    /// Inodes of files that were found right, so that two entries that are one name here do not count as both.
    claimed: Mutex<HashSet<u64>>,
}

impl ReceiveTree {
    /// Opens the folder's place, keeping what an interrupted transfer left in it.
    ///
    /// # Errors
    /// [`ReceiveError`] when the target exists and may not be replaced, or another transfer receives it.
    pub fn open(
        parent: &ReceiveFolder,
        name: &SafeName,
        manifest: Arc<Manifest>,
        collision: Collision,
        executable: Executable,
    ) -> Result<Self, ReceiveError> {
        let target = target(parent, name, collision)?;
        let outer = make(parent, &name.partial(), Mode::RWXU)?;
        match rustix::fs::flock(outer.handle(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(ReceiveError::InUse(parent.path().join(name.as_str()))),
            Err(error) => return Err(failed(outer.path(), error)),
        }
        let (tree, parts) = (make(&outer, TREE, ALL)?, make(&outer, PARTS, Mode::RWXU)?);
        let moved = Mutex::new(local_paths(&manifest));
        Ok(Self {
            parent: parent.clone(),
            name: name.clone(),
            collision,
            executable,
            manifest,
            outer,
            tree,
            parts,
            target,
            moved,
            kept: Mutex::default(),
            claimed: Mutex::default(),
        })
    }

    /// Removes what an earlier transfer of another version left, and makes all folders. Says whether any file may be here
    /// already. Blocks.
    ///
    /// # Errors
    /// [`ReceiveError::Write`] when the disk does not take it.
    pub fn prepare(&self) -> Result<bool, ReceiveError> {
        let is_fresh = names(&self.tree)?.is_empty();
        if !is_fresh {
            let is_folder = |index: usize| self.manifest.entries()[index].what == Content::Folder;
            let entries = 0..self.manifest.entries().len();
            let wanted = entries.map(|index| (self.place(index), is_folder(index))).collect();
            prune(&self.tree, Path::new(""), &wanted)?;
        }
        for (index, entry) in self.manifest.entries().iter().enumerate() {
            if entry.what == Content::Folder {
                self.make_folder(&self.place(index))?;
            }
        }
        Ok(!is_fresh || self.target.is_some())
    }

    fn make_folder(&self, path: &Path) -> Result<(), ReceiveError> {
        let (above, name) = split(path);
        let folder = self.tree.below(above)?;
        match rustix::fs::mkdirat(folder.handle(), name, ALL) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(failed(&self.tree.path().join(path), error)),
        }
    }

    /// Whether an entry's file is here, whole and right; what is here and wrong is removed. Blocks.
    ///
    /// # Errors
    /// [`ReceiveError::Write`] when it cannot be read.
    pub fn is_here(&self, index: usize) -> Result<bool, ReceiveError> {
        let Some(file) = self.file(index) else { return Ok(true) };
        let path = self.place(index);
        if let Some(found) = self.look(&self.tree, &path)? {
            let inode = found.metadata().map_err(|source| write_failed(&self.tree, &path, source))?.ino();
            // On a file system where both are one name, the file is the earlier entry's.
            if lock(&self.claimed).contains(&inode) {
                return Ok(false);
            }
            if is_right(found, file).map_err(|source| write_failed(&self.tree, &path, source))? {
                lock(&self.claimed).insert(inode);
                return Ok(true);
            }
            let (above, name) = split(&path);
            remove(&self.tree.below(above)?, name)?;
        }
        let Some(target) = &self.target else { return Ok(false) };
        let is_kept = match self.look(target, &path)? {
            Some(found) => is_right(found, file).map_err(|source| write_failed(target, &path, source))?,
            None => false,
        };
        if is_kept {
            lock(&self.kept).insert(index);
        }
        Ok(is_kept)
    }

    /// Opens a plain file of ours, if there is one at that path and no link leads to it.
    fn look(&self, folder: &ReceiveFolder, path: &Path) -> Result<Option<File>, ReceiveError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let found = match beneath::open(folder.handle(), path, flags, Mode::empty()) {
            Ok(found) => File::from(found),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO | Errno::ACCESS) => return Ok(None),
                Some(_) | None => return Err(write_failed(folder, path, error)),
            },
        };
        let metadata = found.metadata().map_err(|source| write_failed(folder, path, source))?;
        let is_ours = metadata.uid() == rustix::process::geteuid().as_raw() && metadata.nlink() == 1;
        Ok((metadata.is_file() && is_ours).then_some(found))
    }

    /// Checks that the folder's file system has room for what is missing.
    ///
    /// # Errors
    /// [`ReceiveError::NoSpace`] when it has not.
    pub fn check_room(&self, needed: u64) -> Result<(), ReceiveError> {
        let free = self.outer.free_bytes()?;
        if needed <= free {
            return Ok(());
        }
        Err(ReceiveError::NoSpace { name: self.name.clone(), needed, free, folder: self.parent.path().to_owned() })
    }

    /// Writes a small file that was verified, or an empty one. Blocks.
    ///
    /// # Errors
    /// [`ReceiveError::Write`] when the disk is full, for instance.
    pub fn write(&self, index: usize, bytes: &[u8]) -> Result<(), ReceiveError> {
        let Some(content) = self.file(index) else { return Ok(()) };
        let mode = if self.is_executable(content) { ALL } else { ALL.difference(EXECUTE) };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let (file, path) =
            self.at_free_name(index, |path| beneath::open(self.tree.handle(), path, flags, mode).map(File::from))?;
        let write = || {
            (&file).write_all(bytes)?;
            file.set_modified(modified(content))
        };
        write().map_err(|source| write_failed(&self.tree, &path, source))
    }

    /// Opens the part file of a large file.
    ///
    /// # Errors
    /// As [`PartialFile::open`].
    pub fn part(&self, file: &FileContent) -> Result<PartialFile, ReceiveError> {
        let mut partial = PartialFile::open(&self.parts, &part_name(file), file.size.bytes(), Collision::Overwrite)?;
        partial.set_executable(self.is_executable(file));
        partial.set_modified(modified(file));
        Ok(partial)
    }

    /// Gives a large file its place, once its part file is whole. Blocks.
    ///
    /// # Errors
    /// [`ReceiveError`] when somebody else wrote to the part file, or the disk does not take it.
    pub fn adopt(&self, index: usize, partial: PartialFile) -> Result<(), ReceiveError> {
        let Some(content) = self.file(index) else { return Ok(()) };
        let part = part_name(content);
        partial.complete_unsynced()?;
        let rename = |path: &Path| {
            let (above, name) = split(path);
            let folder = self.tree.below(above).map_err(|error| io::Error::other(error.to_string()))?;
            rename_to_new(&self.parts, part.as_str(), &folder, name)
        };
        self.at_free_name(index, rename).map(drop)
    }

    /// Makes a file at an entry's path, or at the next free one when the name is taken by another entry: on a file system
    /// that does not tell them apart.
    fn at_free_name<T>(
        &self,
        index: usize,
        mut make: impl FnMut(&Path) -> io::Result<T>,
    ) -> Result<(T, PathBuf), ReceiveError> {
        let first = self.place(index);
        let mut path = first.clone();
        for number in 1..NUMBERS_MAX {
            match make(&path) {
                Ok(made) => {
                    if path != first {
                        lock(&self.moved).insert(index, path.clone());
                    }
                    return Ok((made, path));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => path = numbered(&first, number),
                Err(source) => return Err(write_failed(&self.tree, &path, source)),
            }
        }
        Err(ReceiveError::Exists(self.tree.path().join(first)))
    }

    /// Puts everything on disk and gives the folder its name. Says where it lies.
    ///
    /// # Errors
    /// [`ReceiveError::Exists`] when somebody made something of that name meanwhile; what arrived is kept.
    pub fn finish(&self) -> Result<PathBuf, ReceiveError> {
        self.tree.sync_contents()?;
        let name = match (&self.target, self.collision) {
            (Some(target), _) => {
                self.merge_into(target)?;
                self.name.clone()
            }
            (None, Collision::Rename) => self.take_free_name()?,
            (None, Collision::Refuse | Collision::Overwrite) => {
                self.take_name(&self.name)?;
                self.name.clone()
            }
        };
        self.parent.sync()?;
        self.remove_rest();
        Ok(self.parent.path().join(name.as_str()))
    }

    fn take_name(&self, name: &SafeName) -> Result<(), ReceiveError> {
        rename_to_new(&self.outer, TREE, &self.parent, name.as_str()).map_err(|source| {
            let path = self.parent.path().join(name.as_str());
            match source.kind() {
                io::ErrorKind::AlreadyExists => ReceiveError::Exists(path),
                _ => ReceiveError::Write { path, source },
            }
        })
    }

    fn take_free_name(&self) -> Result<SafeName, ReceiveError> {
        let mut name = self.name.clone();
        for number in 1..NUMBERS_MAX {
            match self.take_name(&name) {
                Err(ReceiveError::Exists(_)) => name = self.name.numbered(number),
                Err(error) => return Err(error),
                Ok(()) => return Ok(name),
            }
        }
        Err(ReceiveError::Exists(self.parent.path().join(name.as_str())))
    }

    /// Moves every file into the folder that is there, in the place of what has its name.
    fn merge_into(&self, target: &ReceiveFolder) -> Result<(), ReceiveError> {
        for (index, entry) in self.manifest.entries().iter().enumerate() {
            let path = self.place(index);
            let (above, name) = split(&path);
            let into = target.below(above)?;
            let here = || target.path().join(&path);
            match &entry.what {
                Content::Folder => match rustix::fs::mkdirat(into.handle(), name, ALL) {
                    Ok(()) => {}
                    // What is no folder is found by opening it.
                    Err(Errno::EXIST) => drop(into.below(Path::new(name))?),
                    Err(error) => return Err(failed(&here(), error)),
                },
                Content::File(_) if lock(&self.kept).contains(&index) => {}
                Content::File(_) => {
                    let from = self.tree.below(above)?;
                    match rustix::fs::renameat(from.handle(), name, into.handle(), name) {
                        Ok(()) => {}
                        Err(Errno::ISDIR) => return Err(ReceiveError::InTheWay { path: here(), wanted: "file" }),
                        Err(error) => return Err(failed(&here(), error)),
                    }
                }
            }
        }
        target.sync_contents()
    }

    /// Removes what is left beside the folder that has its name now: it is complete whatever becomes of that.
    fn remove_rest(&self) {
        let parts = prune(&self.parts, Path::new(""), &HashMap::new());
        let tree = if self.target.is_some() { prune(&self.tree, Path::new(""), &HashMap::new()) } else { Ok(()) };
        let removed = parts.and(tree).and_then(|()| {
            for name in [PARTS, TREE] {
                remove_folder(&self.outer, name)?;
            }
            remove_folder(&self.parent, self.name.partial())
        });
        if let Err(error) = removed {
            tracing::warn!(%error, "what is left of a transfer could not be removed");
        }
    }

    /// Removes the place when nothing has arrived: there is nothing to go on from.
    pub fn discard_if_empty(&self) {
        let is_file = |index: usize| self.manifest.entries()[index].file().is_some();
        let any = (0..self.manifest.entries().len())
            .filter(|index| is_file(*index))
            .any(|index| self.look(&self.tree, &self.place(index)).is_ok_and(|found| found.is_some()));
        if !any && names(&self.parts).is_ok_and(|parts| parts.is_empty()) {
            if let Err(error) = prune(&self.tree, Path::new(""), &HashMap::new()) {
                tracing::debug!(%error, "an empty folder could not be removed");
            }
            self.remove_rest();
        }
    }

    /// Where an entry lies within the folder, here.
    fn place(&self, index: usize) -> PathBuf {
        let moved = lock(&self.moved).get(&index).cloned();
        moved.unwrap_or_else(|| PathBuf::from(self.manifest.entries()[index].path.as_str()))
    }

    fn file(&self, index: usize) -> Option<&FileContent> {
        self.manifest.entries().get(index).and_then(ManifestEntry::file)
    }

    fn is_executable(&self, file: &FileContent) -> bool {
        file.executable && self.executable == Executable::Kept
    }
}

/// The folder with the received files, in `.NAME.qpart`.
const TREE: &str = "tree";

/// The folder with the part files of large ones.
const PARTS: &str = "parts";

/// Permissions of what is received, less what the user's programs take from new files.
const ALL: Mode = Mode::RWXU.union(Mode::RWXG).union(Mode::RWXO);

/// What a file has not that nobody may execute.
const EXECUTE: Mode = Mode::XUSR.union(Mode::XGRP).union(Mode::XOTH);

/// The folder that has the name already, when it may be overwritten.
fn target(
    parent: &ReceiveFolder,
    name: &SafeName,
    collision: Collision,
) -> Result<Option<ReceiveFolder>, ReceiveError> {
    let path = || parent.path().join(name.as_str());
    let found = parent.look(name.as_str()).map_err(|source| ReceiveError::Write { path: path(), source })?;
    match (collision, found) {
        (_, None) | (Collision::Rename, Some(_)) => Ok(None),
        (Collision::Refuse, Some(_)) => Err(ReceiveError::Exists(path())),
        (Collision::Overwrite, Some(_)) => parent.below(Path::new(name.as_str())).map(Some),
    }
}

/// Makes a folder, or opens the one of ours that is there.
fn make(parent: &ReceiveFolder, name: &str, mode: Mode) -> Result<ReceiveFolder, ReceiveError> {
    match rustix::fs::mkdirat(parent.handle(), name, mode) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(failed(&parent.path().join(name), error)),
    }
    let made = parent.below(Path::new(name))?;
    let found = rustix::fs::fstat(made.handle()).map_err(|error| failed(made.path(), error))?;
    let is_ours = found.st_uid == rustix::process::geteuid().as_raw();
    if is_ours { Ok(made) } else { Err(ReceiveError::PartReplaced(made.path().to_owned())) }
}

/// The paths of entries that cannot have the one they have at their owner's: because a name is no name here, or because
/// another entry has it then.
fn local_paths(manifest: &Manifest) -> HashMap<usize, PathBuf> {
    let entries = manifest.entries();
    let is_kept = |entry: &ManifestEntry| {
        let name = entry.path.name();
        SafeName::from_remote(&name).as_str() == name.as_str()
    };
    if entries.iter().all(is_kept) {
        return HashMap::new();
    }
    let mut moved = HashMap::new();
    let mut folders: HashMap<&str, PathBuf> = HashMap::new();
    let mut taken: HashSet<PathBuf> = HashSet::new();
    for (index, entry) in entries.iter().enumerate() {
        let above = match entry.path.folder() {
            Some(folder) => folders.get(folder).cloned().unwrap_or_else(|| PathBuf::from(folder)),
            None => PathBuf::new(),
        };
        let first = above.join(SafeName::from_remote(&entry.path.name()).as_str());
        let others = (1..NUMBERS_MAX).map(|number| numbered(&first, number));
        let path = std::iter::once(first.clone()).chain(others).find(|path| !taken.contains(path)).unwrap_or(first);
        taken.insert(path.clone());
        if path.as_os_str() != entry.path.as_str() {
            if entry.what == Content::Folder {
                folders.insert(entry.path.as_str(), path.clone());
            }
            moved.insert(index, path);
        }
    }
    moved
}

/// A path whose last name has a number.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| FileName::parse(name).ok());
    match name {
        Some(name) => path.with_file_name(SafeName::from_remote(&name).numbered(number).as_str()),
        None => path.to_owned(),
    }
}

/// The folder that a path is in, and its last name.
fn split(path: &Path) -> (&Path, &OsStr) {
    let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    (above, path.file_name().unwrap_or_default())
}

/// The name that the part file of a large file belongs to: one that holds nothing of the file's own.
fn part_name(file: &FileContent) -> SafeName {
    SafeName::from_remote(&FileName::parse(&file.digest.to_string()).expect("64 hexadecimal digits are a name"))
}

fn modified(file: &FileContent) -> SystemTime {
    let since = Duration::from_nanos(file.modified_nanos.unsigned_abs());
    if file.modified_nanos < 0 { SystemTime::UNIX_EPOCH - since } else { SystemTime::UNIX_EPOCH + since }
}

/// Whether a file has the size and the digest that belong to it.
fn is_right(mut found: File, file: &FileContent) -> io::Result<bool> {
    if found.metadata()?.len() != file.size.bytes() {
        return Ok(false);
    }
    if file.size.bytes() <= GROUP_BYTES {
        let mut bytes = Vec::new();
        (&mut found).take(GROUP_BYTES + 1).read_to_end(&mut bytes)?;
        return Ok(digest_of(&bytes) == file.digest);
    }
    Ok(HashTree::of_reader(&mut found, &mut |_| {})?.0 == file.digest)
}

/// Renames in one step that replaces nothing; where the file system does not know that step, after a look.
fn rename_to_new(from: &ReceiveFolder, name: &str, to: &ReceiveFolder, new: impl AsRef<OsStr>) -> io::Result<()> {
    let new = new.as_ref();
    match rustix::fs::renameat_with(from.handle(), name, to.handle(), new, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) => match rustix::fs::statat(to.handle(), new, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(Errno::NOENT) => Ok(rustix::fs::renameat(from.handle(), name, to.handle(), new)?),
            Err(error) => Err(error.into()),
        },
        renamed => Ok(renamed?),
    }
}

/// Removes all but what is wanted: files and folders (`true`) by their paths.
fn prune(folder: &ReceiveFolder, path: &Path, wanted: &HashMap<PathBuf, bool>) -> Result<(), ReceiveError> {
    for (name, kind) in names(folder)? {
        let path = path.join(&name);
        match (wanted.get(&path), kind) {
            (Some(true), FileType::Directory) => prune(&folder.below(Path::new(&name))?, &path, wanted)?,
            (Some(false), FileType::RegularFile) => {}
            (_, FileType::Directory) => {
                prune(&folder.below(Path::new(&name))?, &path, &HashMap::new())?;
                remove_folder(folder, &name)?;
            }
            _ => remove(folder, &name)?,
        }
    }
    Ok(())
}

/// What is in a folder, by name and kind.
fn names(folder: &ReceiveFolder) -> Result<Vec<(OsString, FileType)>, ReceiveError> {
    let failed = |error| failed(folder.path(), error);
    let mut names = Vec::new();
    for found in Dir::read_from(folder.handle()).map_err(failed)? {
        let found = found.map_err(failed)?;
        let name = OsStr::from_bytes(found.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let kind = rustix::fs::statat(folder.handle(), name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        names.push((name.to_owned(), FileType::from_raw_mode(kind.st_mode)));
    }
    Ok(names)
}

fn remove(folder: &ReceiveFolder, name: &OsStr) -> Result<(), ReceiveError> {
    let removed = rustix::fs::unlinkat(folder.handle(), name, AtFlags::empty());
    removed.map_err(|error| failed(&folder.path().join(name), error))
}

fn remove_folder(folder: &ReceiveFolder, name: impl AsRef<OsStr>) -> Result<(), ReceiveError> {
    match rustix::fs::unlinkat(folder.handle(), name.as_ref(), AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(failed(&folder.path().join(name.as_ref()), error)),
    }
}

fn failed(path: &Path, error: Errno) -> ReceiveError {
    ReceiveError::Write { path: path.to_owned(), source: error.into() }
}

fn write_failed(folder: &ReceiveFolder, path: &Path, source: io::Error) -> ReceiveError {
    ReceiveError::Write { path: folder.path().join(path), source }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "receive_tree_tests.rs"]
mod tests;
