//! A file while it is received: `.NAME.qpart` beside its target, renamed once it is whole, verified and on disk. Until
//! then nobody else may read it, and what somebody else does to it is noticed.

use std::fmt;
use std::fs::{File, Metadata, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use rustix::fs::{FileType, Mode, SeekFrom, Stat};
use rustix::io::Errno;

use super::local_paths::NUMBERS_MAX;
use super::receive_folder::ReceiveFolder;
use super::safe_name::SafeName;
use crate::seal::digest::{GroupHasher, HashTree};
use crate::wire::transfer::{GROUP_BYTES, group_bytes, group_count};

/// What to do when the target exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Collision {
    /// Keep what is there and fail.
    #[default]
    Refuse,
    /// Replace it once the new file is whole.
    Overwrite,
    /// Take the next free `name (1)`.
    Rename,
}

/// Why a file could not be received here.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// A file of that name is there.
    #[error("{0} exists already")]
    Exists(PathBuf),
    /// The folder is not there.
    #[error("there is no folder {0}")]
    NoFolder(PathBuf),
    /// A name that is needed belongs to something of another kind: a link or folder, for instance.
    #[error("{path} is there already, and is no {wanted}")]
    InTheWay {
        /// Its name.
        path: PathBuf,
        /// What it would have to be.
        wanted: &'static str,
    },
    /// There is less room than what is missing needs.
    #[error("{name} needs {}, {} are free in {folder}", Amount(*needed), Amount(*free), name = name.as_str(), folder = folder.display())]
    NoSpace {
        /// Which file.
        name: SafeName,
        /// Bytes of it that are not here yet.
        needed: u64,
        /// Bytes that may be written.
        free: u64,
        /// Where.
        folder: PathBuf,
    },
    /// Another transfer writes the same file.
    #[error("another transfer is receiving {0}")]
    InUse(PathBuf),
    /// The part file was replaced or removed by somebody else, or is somebody else's.
    #[error("the part file {0} is not the one this transfer writes")]
    PartReplaced(PathBuf),
    /// The part file was removed, or its folder was.
    #[error("the part file {0} was removed while it was written")]
    PartRemoved(PathBuf),
    /// Somebody else wrote to the part file, so it may hold anything.
    #[error("somebody else wrote to the part file {0}")]
    PartTouched(PathBuf),
    /// The disk does not take it.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A file that is being received.
#[derive(Debug)]
pub struct PartialFile {
    file: File,
    folder: ReceiveFolder,
    name: SafeName,
    collision: Collision,
    size: u64,
    is_executable: bool,
    modified: Option<SystemTime>,
    traces: Mutex<Traces>,
}

/// By what others who write to the part file are noticed. Not noticed is what falls between a write of ours and the look
/// after it: some microseconds, and up to a tick of the kernel's clock where it is older than 6.13.
#[derive(Debug, Default)]
struct Traces {
    /// Time of the last write and of the last change, as they were after our last write.
    left: [(i64, i64); 2],
    /// Somebody else wrote since the file was opened or read.
    are_others: bool,
    /// By what the file is read again then.
    tree: Option<HashTree>,
}

impl Traces {
    fn of(file: &Metadata) -> [(i64, i64); 2] {
        [(file.mtime(), file.mtime_nsec()), (file.ctime(), file.ctime_nsec())]
    }
}

impl PartialFile {
    /// Opens the part file in a folder, keeping what an interrupted transfer left in it.
    ///
    /// # Errors
    /// [`ReceiveError`] when the target exists and may not be replaced, there is no room for what is missing, or the folder
    /// does not take the file.
    pub fn open(
        folder: &ReceiveFolder,
        name: &SafeName,
        size: u64,
        collision: Collision,
    ) -> Result<Self, ReceiveError> {
        check_target(folder, name, collision)?;
        let part = name.partial();
        let path = folder.path().join(&part);
        let write = |source| ReceiveError::Write { path: path.clone(), source };
        // Looked at before it is opened: opening a device can do something.
        if folder.look(&part).map_err(write)?.is_some_and(|found| !is_own_file(&found)) {
            return Err(ReceiveError::PartReplaced(path));
        }
        let file = folder.open_file(&part).map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => ReceiveError::PartReplaced(path.clone()),
            Some(_) | None => write(error),
        })?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ReceiveError::InUse(folder.path().join(name.as_str()))),
            Err(TryLockError::Error(source)) => return Err(write(source)),
        }
        let partial = Self {
            file,
            folder: folder.clone(),
            name: name.clone(),
            collision,
            size,
            is_executable: false,
            modified: None,
            traces: Mutex::default(),
        };
        partial.prepare()?;
        Ok(partial)
    }

    /// Makes sure that the file just opened is the part file, is for us alone and has room.
    fn prepare(&self) -> Result<(), ReceiveError> {
        // Another transfer may have renamed or removed it between opening and locking.
        self.check_in_place()?;
        let found = self.metadata()?;
        let mut here = found.blocks().saturating_mul(STAT_BLOCK_BYTES).min(self.size);
        if found.len() > self.size {
            self.file.set_len(0).map_err(|source| self.failed(source))?;
            here = 0;
        }
        let (needed, free) = (self.size - here, self.folder.free_bytes()?);
        if needed > free {
            self.remove_if_empty();
            let (name, folder) = (self.name.clone(), self.folder.path().to_owned());
            return Err(ReceiveError::NoSpace { name, needed, free, folder });
        }
        if found.mode() & 0o777 != PART_MODE {
            self.set_mode(PART_MODE).map_err(|source| self.failed(source))?;
        }
        self.note_traces(&mut self.traces())
    }

    /// Lets the file be executable once it is complete: never unless the user asked for it.
    pub fn set_executable(&mut self, is_executable: bool) {
        self.is_executable = is_executable;
    }

    /// Gives the complete file the time at which its owner last wrote to it.
    pub fn set_modified(&mut self, modified: SystemTime) {
        self.modified = Some(modified);
    }

    /// Hashes what an earlier transfer left, without its holes, and says which groups of it are right; `goes_on` hears the
    /// bytes read, and says whether anybody still wants to know. Blocks.
    ///
    /// # Errors
    /// [`ReceiveError::Write`] when the part file cannot be read.
    pub fn groups_here(&self, tree: &HashTree, goes_on: &mut dyn FnMut(u64) -> bool) -> Result<Vec<u64>, ReceiveError> {
        self.begin_again(tree)?;
        let mut buffer = Vec::new();
        let mut here = Vec::new();
        let mut next = 0;
        while let Some(group) = self.next_written(next)? {
            if self.is_right(tree, group, &mut buffer)? {
                here.push(group);
            }
            next = group + 1;
            if !goes_on((next * GROUP_BYTES).min(self.size)) {
                break;
            }
        }
        Ok(here)
    }

    /// Whether a group of the file has the bytes that it should have.
    fn is_right(&self, tree: &HashTree, group: u64, buffer: &mut Vec<u8>) -> Result<bool, ReceiveError> {
        buffer.resize(usize::try_from(group_bytes(self.size, group)).unwrap_or(usize::MAX), 0);
        let read = read_full_at(&self.file, buffer, group * GROUP_BYTES).map_err(|source| self.failed(source))?;
        let mut hasher = GroupHasher::new(group);
        hasher.update(&buffer[..read]);
        Ok(tree.verifies(group, hasher))
    }

    /// The first group from this one on of which anything was ever written.
    fn next_written(&self, group: u64) -> Result<Option<u64>, ReceiveError> {
        let written = match rustix::fs::seek(&self.file, SeekFrom::Data(group * GROUP_BYTES)) {
            Ok(offset) => Some(offset / GROUP_BYTES),
            Err(Errno::NXIO) => None,
            // The file system does not know of holes: then all of it was written.
            Err(Errno::INVAL | Errno::NOTSUP) => Some(group),
            Err(error) => return Err(self.failed(error.into())),
        };
        Ok(written.filter(|group| *group < group_count(self.size)))
    }

    /// Writes bytes at their place in the file.
    ///
    /// # Errors
    /// [`ReceiveError::Write`] when the disk is full, for instance; [`ReceiveError::PartRemoved`] when nobody could find the
    /// bytes any more.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), ReceiveError> {
        let mut traces = self.traces();
        self.look_for_others(&mut traces)?;
        self.file.write_all_at(bytes, offset).map_err(|source| self.failed(source))?;
        self.note_traces(&mut traces)
    }

    /// Removes the part file when nothing has arrived: there is nothing to go on from.
    pub fn discard_if_empty(self) {
        self.remove_if_empty();
    }

    fn remove_if_empty(&self) {
        let is_empty = self.file.metadata().is_ok_and(|metadata| metadata.len() == 0);
        if is_empty
            && self.check_in_place().is_ok()
            && let Err(error) = self.folder.remove(&self.name.partial())
        {
            tracing::debug!(%error, path = %self.path().display(), "an empty part file was gone already");
        }
    }

    /// Syncs the whole file to disk and gives it its name. Says where it lies.
    ///
    /// # Errors
    /// [`ReceiveError::Exists`] when somebody made a file of that name meanwhile; the part file is kept.
    pub fn complete(self) -> Result<PathBuf, ReceiveError> {
        self.finish_contents()?;
        self.file.sync_all().map_err(|source| self.failed(source))?;
        let target = self.take_name()?;
        self.folder.sync()?;
        Ok(target)
    }

    /// Gives the file its name and syncs nothing: for one of a batch, whose bytes are on disk since
    /// [`ReceiveFolder::sync_contents`], and whose names are once [`ReceiveFolder::sync`] was called.
    ///
    /// # Errors
    /// As [`Self::complete`].
    pub fn complete_unsynced(self) -> Result<PathBuf, ReceiveError> {
        self.finish_contents()?;
        self.take_name()
    }

    /// Gives the file its length, its permissions and its time.
    fn finish_contents(&self) -> Result<(), ReceiveError> {
        self.check_in_place()?;
        self.check_contents()?;
        let finish = || {
            self.file.set_len(self.size)?;
            let wanted = if self.is_executable { 0o777 } else { 0o666 };
            self.set_mode(wanted & !umask())?;
            self.modified.map_or(Ok(()), |modified| self.file.set_modified(modified))
        };
        finish().map_err(|source| self.failed(source))
    }

    /// Reads the file again when somebody else may have written to it.
    fn check_contents(&self) -> Result<(), ReceiveError> {
        let tree = {
            let mut traces = self.traces();
            self.look_for_others(&mut traces)?;
            if !traces.are_others {
                return Ok(());
            }
            traces.tree.take()
        };
        if let Some(tree) = tree {
            let mut buffer = Vec::new();
            self.begin_again(&tree)?;
            for group in 0..group_count(self.size) {
                if !self.is_right(&tree, group, &mut buffer)? {
                    return Err(ReceiveError::PartTouched(self.path()));
                }
            }
            let mut traces = self.traces();
            self.look_for_others(&mut traces)?;
            if !traces.are_others {
                return Ok(());
            }
        }
        Err(ReceiveError::PartTouched(self.path()))
    }

    /// Checks that the open file is a plain file of ours, with one name, and that this name is still the part file's:
    /// what is renamed must be what was written and verified.
    fn check_in_place(&self) -> Result<(), ReceiveError> {
        let opened = self.metadata()?;
        let is_same = |named: Stat| (named.st_dev, named.st_ino) == (opened.dev(), opened.ino()) && is_own_file(&named);
        match self.folder.look(&self.name.partial()).map_err(|source| self.failed(source))? {
            Some(named) if is_same(named) => Ok(()),
            Some(_) => Err(ReceiveError::PartReplaced(self.path())),
            None => Err(self.removed()),
        }
    }

    fn take_name(&self) -> Result<PathBuf, ReceiveError> {
        self.check_in_place()?;
        let (part, target) = (self.name.partial(), self.folder.path().join(self.name.as_str()));
        match self.collision {
            Collision::Overwrite => {
                self.folder.rename(&part, self.name.as_str()).map_err(|source| self.failed(source))?;
                Ok(self.named(&self.name))
            }
            Collision::Refuse => match self.folder.rename_to_new(&part, self.name.as_str()) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(ReceiveError::Exists(target)),
                Err(source) => Err(self.failed(source)),
                Ok(()) => Ok(self.named(&self.name)),
            },
            Collision::Rename => self.take_free_name(&part),
        }
    }

    fn take_free_name(&self, part: &str) -> Result<PathBuf, ReceiveError> {
        let mut name = self.name.clone();
        for number in 1..NUMBERS_MAX {
            match self.folder.rename_to_new(part, name.as_str()) {
                Ok(()) => return Ok(self.named(&name)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => name = self.name.numbered(number),
                Err(source) => return Err(self.failed(source)),
            }
        }
        Err(ReceiveError::Exists(self.folder.path().join(name.as_str())))
    }

    /// Where it lies now that it has this name.
    fn named(&self, name: &SafeName) -> PathBuf {
        self.folder.path_now().join(name.as_str())
    }

    fn traces(&self) -> MutexGuard<'_, Traces> {
        self.traces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes whether somebody else has written since our last write.
    fn look_for_others(&self, traces: &mut Traces) -> Result<(), ReceiveError> {
        let found = self.metadata()?;
        if found.nlink() == 0 {
            return Err(self.removed());
        }
        traces.are_others |= Traces::of(&found) != traces.left;
        Ok(())
    }

    fn note_traces(&self, traces: &mut Traces) -> Result<(), ReceiveError> {
        traces.left = Traces::of(&self.metadata()?);
        Ok(())
    }

    /// Whoever wrote before this moment is found by reading the file, and that by this tree.
    fn begin_again(&self, tree: &HashTree) -> Result<(), ReceiveError> {
        let mut traces = self.traces();
        *traces = Traces { tree: Some(tree.clone()), ..Traces::default() };
        self.note_traces(&mut traces)
    }

    fn metadata(&self) -> Result<Metadata, ReceiveError> {
        self.file.metadata().map_err(|source| self.failed(source))
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.file.set_permissions(Permissions::from_mode(mode))
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(self.name.partial())
    }

    fn removed(&self) -> ReceiveError {
        if self.folder.is_gone() {
            ReceiveError::NoFolder(self.folder.path().to_owned())
        } else {
            ReceiveError::PartRemoved(self.path())
        }
    }

    fn failed(&self, source: io::Error) -> ReceiveError {
        ReceiveError::Write { path: self.path(), source }
    }
}

/// Permissions of a part file: nobody else reads what is not verified, or writes to it.
const PART_MODE: u32 = 0o600;

/// What `st_blocks` counts, whatever the file system's own blocks are.
const STAT_BLOCK_BYTES: u64 = 512;

/// Whether the target's name is free, or may be taken from what has it.
fn check_target(folder: &ReceiveFolder, name: &SafeName, collision: Collision) -> Result<(), ReceiveError> {
    let path = || folder.path().join(name.as_str());
    let found = folder.look(name.as_str()).map_err(|source| ReceiveError::Write { path: path(), source })?;
    match (collision, found) {
        (_, None) | (Collision::Rename, Some(_)) => Ok(()),
        (Collision::Refuse, Some(_)) => Err(ReceiveError::Exists(path())),
        (Collision::Overwrite, Some(found)) => match FileType::from_raw_mode(found.st_mode) {
            FileType::RegularFile | FileType::Symlink => Ok(()),
            _ => Err(ReceiveError::InTheWay { path: path(), wanted: "file" }),
        },
    }
}

/// Whether this is a plain file of ours with no other name.
pub(super) fn is_own_file(found: &Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::RegularFile
        && found.st_nlink == 1
        && found.st_uid == rustix::process::geteuid().as_raw()
}

/// The permissions that this user's programs take from new files. They can only be read by setting them, so once, and to
/// the strictest: a file that another thread makes in this moment gets too few rather than too many.
fn umask() -> u32 {
    static UMASK: OnceLock<u32> = OnceLock::new();
    *UMASK.get_or_init(|| {
        let umask = rustix::process::umask(Mode::RWXG | Mode::RWXO);
        rustix::process::umask(umask);
        umask.as_raw_mode()
    })
}

/// Bytes as people read them: `1.50 GiB`.
struct Amount(u64);

impl fmt::Display for Amount {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let Some((power, name)) = (1..).zip(UNITS).take_while(|(power, _)| self.0 >> (10 * power) > 0).last() else {
            return write!(out, "{} B", self.0);
        };
        let hundredths = (u128::from(self.0) * 100) >> (10 * power);
        write!(out, "{}.{:02} {name}", hundredths / 100, hundredths % 100)
    }
}

fn read_full_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
#[path = "partial_file_tests.rs"]
mod tests;
