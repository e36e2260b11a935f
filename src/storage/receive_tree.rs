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
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use super::beneath;
use super::local_paths::{NUMBERS_MAX, local_paths, numbered};
use super::partial_file::{Collision, PartialFile, ReceiveError, is_own_file};
use super::receive_folder::ReceiveFolder;
use super::safe_name::SafeName;
use super::whole::{is_right, kind_below};
use crate::wire::ids::FileName;
use crate::wire::manifest::{Content, FileContent, Manifest, ManifestEntry};

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
    /// How the files that are here were left, by which others who write to them are noticed.
    traces: Mutex<HashMap<usize, Trace>>,
    /// Whose the files and folders are that are here, by inode: two entries that are one name here do not count as both,
    /// and what is nobody's has no place here.
    claimed: Mutex<HashMap<u64, usize>>,
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
            traces: Mutex::default(),
            claimed: Mutex::default(),
        })
    }

    /// Checks that a folder may have this name here, before anything of it is fetched. Blocks.
    ///
    /// # Errors
    /// [`ReceiveError::Exists`] when it is taken and stays so.
    pub fn check_name(parent: &ReceiveFolder, name: &SafeName, collision: Collision) -> Result<(), ReceiveError> {
        target(parent, name, collision).map(drop)
    }

    /// Removes what an earlier transfer of another version left, and makes all folders. Says whether any file may be here
    /// already. Blocks.
    ///
    /// # Errors
    /// [`ReceiveError::InTheWay`] when what is here already does not let the folder be merged into it,
    /// [`ReceiveError::Write`] when the disk does not take it.
    pub fn prepare(&self) -> Result<bool, ReceiveError> {
        self.target.as_ref().map_or(Ok(()), |target| self.check_target(target))?;
        let is_fresh = names(&self.tree)?.is_empty();
        if !is_fresh {
            self.tidy()?;
        }
        for (index, entry) in self.manifest.entries().iter().enumerate() {
            if entry.what == Content::Folder {
                self.make_folder(index)?;
            }
        }
        Ok(!is_fresh || self.target.is_some())
    }

    /// Checks that no folder is to take the place of anything else, and no file that of a folder: before any byte has come.
    fn check_target(&self, target: &ReceiveFolder) -> Result<(), ReceiveError> {
        for (index, entry) in self.manifest.entries().iter().enumerate() {
            let path = self.place(index);
            let (is_in_the_way, wanted) = match (&entry.what, kind_below(target, &path)?) {
                (_, None) => (false, ""),
                (Content::Folder, Some(kind)) => (kind != FileType::Directory, "folder"),
                (Content::File(_), Some(kind)) => (kind == FileType::Directory, "file"),
            };
            if is_in_the_way {
                return Err(ReceiveError::InTheWay { path: target.path().join(path), wanted });
            }
        }
        Ok(())
    }

    /// Removes what is no entry's: what an earlier transfer of another version left, and what others put here. A file that
    /// has another name elsewhere goes as well, for whoever has that one may write to it; it stays under that name.
    fn tidy(&self) -> Result<(), ReceiveError> {
        let is_folder = |index: usize| self.manifest.entries()[index].what == Content::Folder;
        let entries = 0..self.manifest.entries().len();
        let wanted: HashMap<PathBuf, bool> = entries.map(|index| (self.place(index), is_folder(index))).collect();
        let claimed = lock(&self.claimed);
        let belongs = |path: &Path, found: &Stat| match wanted.get(path) {
            Some(true) if is_directory(found) => true,
            Some(false) if is_own_file(found) => true,
            _ => self.owner(&claimed, found).is_some(),
        };
        prune(&self.tree, Path::new(""), &belongs)
    }

    /// The entry that something is: it was left as that, and lies where that belongs. On a file system that does not tell
    /// some names apart it is found under those of other entries, too.
    fn owner(&self, claimed: &HashMap<u64, usize>, found: &Stat) -> Option<usize> {
        let index = *claimed.get(&found.st_ino)?;
        let place = self.place(index);
        let (above, name) = split(&place);
        let lies = look(&self.tree.below(above).ok()?, name).ok()?;
        let is_same = (lies.st_dev, lies.st_ino) == (found.st_dev, found.st_ino);
        (is_same && (is_directory(found) || is_own_file(found))).then_some(index)
    }

    fn make_folder(&self, index: usize) -> Result<(), ReceiveError> {
        let path = self.place(index);
        let (above, name) = split(&path);
        let folder = self.tree.below(above)?;
        let make = || match rustix::fs::mkdirat(folder.handle(), name, ALL) {
            Ok(()) | Err(Errno::EXIST) => look(&folder, name),
            Err(error) => Err(error),
        };
        let failed = |error| failed(&self.tree.path().join(&path), error);
        let mut made = make().map_err(failed)?;
        if !is_directory(&made) {
            remove(&folder, name)?;
            made = make().map_err(failed)?;
        }
        lock(&self.claimed).insert(made.st_ino, index);
        Ok(())
    }

    /// Whether an entry's file is here, whole and right; what is here and wrong is removed. Blocks.
    ///
    /// # Errors
    /// [`ReceiveError::Write`] when it cannot be read.
    pub fn is_here(&self, index: usize) -> Result<bool, ReceiveError> {
        let Some(file) = self.file(index) else { return Ok(true) };
        let path = self.place(index);
        let (size, digest) = (file.size.bytes(), file.digest);
        if let Some(found) = self.tree.own_file(&path)? {
            // Before it is read: whoever writes to it from now on leaves another one.
            let trace = Trace::of_open(&found).map_err(|error| failed(&self.tree.path().join(&path), error))?;
            // On a file system where both are one name, the file is the earlier entry's.
            if lock(&self.claimed).contains_key(&trace.inode) {
                return Ok(false);
            }
            if is_right(found, size, digest).map_err(|source| write_failed(&self.tree, &path, source))? {
                lock(&self.claimed).insert(trace.inode, index);
                lock(&self.traces).insert(index, trace);
                return Ok(true);
            }
            let (above, name) = split(&path);
            remove(&self.tree.below(above)?, name)?;
        }
        let Some(target) = &self.target else { return Ok(false) };
        let is_kept = match target.own_file(&path)? {
            Some(found) => is_right(found, size, digest).map_err(|source| write_failed(target, &path, source))?,
            None => false,
        };
        if is_kept {
            lock(&self.kept).insert(index);
        }
        Ok(is_kept)
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
        let (file, path) = self.at_free_name(index, |path| {
            let file = File::from(beneath::open(self.tree.handle(), path, flags, mode)?);
            let inode = Trace::of_open(&file)?.inode;
            Ok((file, inode))
        })?;
        let write = || {
            (&file).write_all(bytes)?;
            file.set_modified(modified(content))
        };
        write().map_err(|source| write_failed(&self.tree, &path, source))?;
        let trace = Trace::of_open(&file).map_err(|error| failed(&self.tree.path().join(&path), error))?;
        lock(&self.traces).insert(index, trace);
        Ok(())
    }

    /// Opens the part file of a large file. What others put in its place is removed.
    ///
    /// # Errors
    /// As [`PartialFile::open`].
    pub fn part(&self, file: &FileContent) -> Result<PartialFile, ReceiveError> {
        let name = part_name(file);
        for name in [name.as_str(), &name.partial()] {
            let found = self.parts.look(name).map_err(|source| write_failed(&self.parts, Path::new(name), source))?;
            if found.is_some_and(|found| !is_own_file(&found)) {
                clear(&self.parts, name.as_ref())?;
            }
        }
        let mut partial = PartialFile::open(&self.parts, &name, file.size.bytes(), Collision::Overwrite)?;
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
            rename_to_new(&self.parts, part.as_str(), &folder, name)?;
            let trace = Trace::of(&look(&folder, name)?);
            Ok((trace, trace.inode))
        };
        let (trace, _) = self.at_free_name(index, rename)?;
        lock(&self.traces).insert(index, trace);
        Ok(())
    }

    /// Makes a file, and says its inode, at an entry's path, or at the next free one when the name is taken by another
    /// entry: on a file system that does not tell them apart. What somebody else put there is removed.
    fn at_free_name<T>(
        &self,
        index: usize,
        mut make: impl FnMut(&Path) -> io::Result<(T, u64)>,
    ) -> Result<(T, PathBuf), ReceiveError> {
        let first = self.place(index);
        let (mut path, mut number) = (first.clone(), 0);
        // Until the file is claimed: another thread would take it for somebody else's.
        let mut claimed = lock(&self.claimed);
        for _ in 1..NUMBERS_MAX {
            match make(&path) {
                Ok((made, inode)) => {
                    claimed.insert(inode, index);
                    if path != first {
                        lock(&self.moved).insert(index, path.clone());
                    }
                    return Ok((made, path));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let (above, name) = split(&path);
                    let folder = self.tree.below(above)?;
                    match look(&folder, name) {
                        Ok(found) if self.owner(&claimed, &found).is_some_and(|owner| owner != index) => {
                            number += 1;
                            path = numbered(&first, number);
                        }
                        Ok(_) => clear(&folder, name)?,
                        Err(Errno::NOENT) => {}
                        Err(error) => return Err(failed(&self.tree.path().join(&path), error)),
                    }
                }
                Err(source) => return Err(write_failed(&self.tree, &path, source)),
            }
        }
        Err(ReceiveError::Exists(self.tree.path().join(first)))
    }

    /// Puts everything on disk and gives the folder its name. Says where it lies.
    ///
    /// # Errors
    /// [`ReceiveError::Exists`] when somebody made something of that name meanwhile, [`ReceiveError::PartTouched`] when
    /// somebody else wrote to what is here; what arrived is kept.
    pub fn finish(&self) -> Result<PathBuf, ReceiveError> {
        self.tree.sync_contents()?;
        self.tidy()?;
        self.check_contents()?;
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
        Ok(self.parent.path_now().join(name.as_str()))
    }

    /// Reads again what is not as it was left: somebody else may have written to it.
    fn check_contents(&self) -> Result<(), ReceiveError> {
        let mut above = (PathBuf::from("."), self.tree.clone());
        for (index, entry) in self.manifest.entries().iter().enumerate() {
            if lock(&self.kept).contains(&index) {
                continue;
            }
            let path = self.place(index);
            let touched = || ReceiveError::PartTouched(self.tree.path().join(&path));
            let (folder, name) = split(&path);
            if folder != above.0 {
                above = (folder.to_owned(), self.tree.below(folder).map_err(|_| touched())?);
            }
            let found = look(&above.1, name).map_err(|_| touched())?;
            let is_right = match &entry.what {
                Content::Folder => is_directory(&found),
                Content::File(_) if lock(&self.traces).get(&index) == Some(&Trace::of(&found)) => true,
                Content::File(file) => match self.tree.own_file(&path)? {
                    Some(found) => is_right(found, file.size.bytes(), file.digest)
                        .map_err(|source| write_failed(&self.tree, &path, source))?,
                    None => false,
                },
            };
            if !is_right {
                return Err(touched());
            }
        }
        Ok(())
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
        let parts = prune(&self.parts, Path::new(""), &|_, _| false);
        let tree = if self.target.is_some() { prune(&self.tree, Path::new(""), &|_, _| false) } else { Ok(()) };
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
            .any(|index| self.tree.own_file(&self.place(index)).is_ok_and(|found| found.is_some()));
        if !any && names(&self.parts).is_ok_and(|parts| parts.is_empty()) {
            if let Err(error) = prune(&self.tree, Path::new(""), &|_, _| false) {
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

/// What changes when somebody writes to a file, or puts another one in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Trace {
    inode: u64,
    size: i64,
    /// Times of the last write and of the last change, in seconds and nanoseconds.
    written: (i64, u64),
    changed: (i64, u64),
}

impl Trace {
    fn of(file: &Stat) -> Self {
        Self {
            inode: file.st_ino,
            size: file.st_size,
            written: (file.st_mtime, file.st_mtime_nsec),
            changed: (file.st_ctime, file.st_ctime_nsec),
        }
    }

    fn of_open(file: &File) -> Result<Self, Errno> {
        rustix::fs::fstat(file).map(|found| Self::of(&found))
    }
}

/// The folder with the received files, in `.NAME.qpart`.
pub(super) const TREE: &str = "tree";

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

/// Removes all but what belongs there, which is said of each by its path.
fn prune(folder: &ReceiveFolder, path: &Path, belongs: &dyn Fn(&Path, &Stat) -> bool) -> Result<(), ReceiveError> {
    for (name, found) in names(folder)? {
        let path = path.join(&name);
        match (belongs(&path, &found), is_directory(&found)) {
            (true, true) => prune(&folder.below(Path::new(&name))?, &path, belongs)?,
            (true, false) => {}
            (false, _) => clear(folder, &name)?,
        }
    }
    Ok(())
}

/// Removes whatever has a name, with all that is in it.
fn clear(folder: &ReceiveFolder, name: &OsStr) -> Result<(), ReceiveError> {
    match look(folder, name) {
        Ok(found) if is_directory(&found) => {
            prune(&folder.below(Path::new(name))?, Path::new(""), &|_, _| false)?;
            remove_folder(folder, name)
        }
        Ok(_) => remove(folder, name),
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(failed(&folder.path().join(name), error)),
    }
}

/// What is in a folder, by name.
fn names(folder: &ReceiveFolder) -> Result<Vec<(OsString, Stat)>, ReceiveError> {
    let failed = |error| failed(folder.path(), error);
    let mut names = Vec::new();
    for found in Dir::read_from(folder.handle()).map_err(failed)? {
        let found = found.map_err(failed)?;
        let name = OsStr::from_bytes(found.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        match look(folder, name) {
            Ok(found) => names.push((name.to_owned(), found)),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(names)
}

/// What has a name: a link itself, not what it leads to.
fn look(folder: &ReceiveFolder, name: &OsStr) -> Result<Stat, Errno> {
    rustix::fs::statat(folder.handle(), name, AtFlags::SYMLINK_NOFOLLOW)
}

fn is_directory(found: &Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::Directory
}

fn remove(folder: &ReceiveFolder, name: &OsStr) -> Result<(), ReceiveError> {
    match rustix::fs::unlinkat(folder.handle(), name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(failed(&folder.path().join(name), error)),
    }
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
