//! A file while it is received: `.NAME.qpart` beside its target, renamed once it is whole, verified and on disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, OFlags, RenameFlags};

use super::safe_name::SafeName;
use crate::seal::digest::{GroupHasher, HashTree};
use crate::wire::ids::FileName;
use crate::wire::transfer::{GROUP_BYTES, group_count};

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
    /// Another transfer writes the same file.
    #[error("another transfer is receiving {0}")]
    InUse(PathBuf),
    /// The part file was replaced or removed by somebody else, or is somebody else's.
    #[error("the part file {0} is not the one this transfer writes")]
    PartReplaced(PathBuf),
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
    path: PathBuf,
    folder: PathBuf,
    name: SafeName,
    collision: Collision,
    size: u64,
}

impl PartialFile {
    /// Opens the part file in a folder, keeping what an interrupted transfer left in it.
    ///
    /// # Errors
    /// [`ReceiveError`] when the target exists and may not be replaced, or the folder does not take the file.
    pub fn open(folder: &Path, name: &FileName, size: u64, collision: Collision) -> Result<Self, ReceiveError> {
        if !folder.is_dir() {
            return Err(ReceiveError::NoFolder(folder.to_owned()));
        }
        let name = SafeName::from_remote(name);
        let target = folder.join(name.as_str());
        if collision == Collision::Refuse && target.symlink_metadata().is_ok() {
            return Err(ReceiveError::Exists(target));
        }
        let path = folder.join(name.partial());
        let write = |source| ReceiveError::Write { path: path.clone(), source };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
            .open(&path)
            .map_err(write)?;
        if file.try_lock().is_err() {
            return Err(ReceiveError::InUse(target));
        }
        let partial = Self { file, path, folder: folder.to_owned(), name, collision, size };
        // Another transfer may have renamed or removed it between opening and locking.
        partial.check_in_place()?;
        if partial.file.metadata().map_err(|source| partial.failed(source))?.len() > size {
            partial.file.set_len(0).map_err(|source| partial.failed(source))?;
        }
        Ok(partial)
    }

    /// Hashes what an earlier transfer left and says which groups of it are right; `progress` hears the bytes read.
    ///
    /// # Errors
    /// [`ReceiveError::Write`] when the part file cannot be read.
    pub fn groups_here(&self, tree: &HashTree, progress: &mut dyn FnMut(u64)) -> Result<Vec<u64>, ReceiveError> {
        let mut reader = self.file.try_clone().map_err(|source| self.failed(source))?;
        let mut buffer = vec![0; usize::try_from(GROUP_BYTES).unwrap_or(usize::MAX)];
        let mut here = Vec::new();
        let (mut group, mut done) = (0, 0);
        while group < group_count(self.size) {
            let length = read_full(&mut reader, &mut buffer).map_err(|source| self.failed(source))?;
            if length == 0 {
                break;
            }
            let mut hasher = GroupHasher::new(group);
            hasher.update(&buffer[..length]);
            if tree.verifies(group, hasher) {
                here.push(group);
            }
            group += 1;
            done += length as u64;
            progress(done);
        }
        Ok(here)
    }

    /// Writes bytes at their place in the file.
    ///
    /// # Errors
    /// [`ReceiveError::Write`] when the disk is full, for instance.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), ReceiveError> {
        self.file.write_all_at(bytes, offset).map_err(|source| self.failed(source))
    }

    /// Removes the part file when nothing has arrived: there is nothing to go on from.
    pub fn discard_if_empty(self) {
        let is_empty = self.file.metadata().is_ok_and(|metadata| metadata.len() == 0);
        if is_empty
            && self.check_in_place().is_ok()
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!(%error, path = %self.path.display(), "an empty part file was gone already");
        }
    }

    /// Syncs the whole file to disk and gives it its name. Says where it lies.
    ///
    /// # Errors
    /// [`ReceiveError::Exists`] when somebody made a file of that name meanwhile; the part file is kept.
    pub fn complete(self) -> Result<PathBuf, ReceiveError> {
        let finish = || {
            self.file.set_len(self.size)?;
            self.file.sync_all()
        };
        finish().map_err(|source| self.failed(source))?;
        self.check_in_place()?;
        let target = self.take_name()?;
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|source| ReceiveError::Write { path: self.folder.clone(), source })?;
        Ok(target)
    }

    /// Checks that the open file is a plain file of ours, with one name, and that this name is still the part file's:
    /// what is renamed must be what was written and verified.
    fn check_in_place(&self) -> Result<(), ReceiveError> {
        let opened = self.file.metadata().map_err(|source| self.failed(source))?;
        let is_ours = opened.is_file() && opened.nlink() == 1 && opened.uid() == rustix::process::geteuid().as_raw();
        let in_place =
            self.path.symlink_metadata().is_ok_and(|named| (named.dev(), named.ino()) == (opened.dev(), opened.ino()));
        if is_ours && in_place { Ok(()) } else { Err(ReceiveError::PartReplaced(self.path.clone())) }
    }

    fn take_name(&self) -> Result<PathBuf, ReceiveError> {
        let target = self.folder.join(self.name.as_str());
        match self.collision {
            Collision::Overwrite => {
                fs::rename(&self.path, &target).map_err(|source| self.failed(source))?;
                Ok(target)
            }
            Collision::Refuse => match self.rename_to_new(&target) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(ReceiveError::Exists(target)),
                Err(source) => Err(self.failed(source)),
                Ok(()) => Ok(target),
            },
            Collision::Rename => self.take_free_name(target),
        }
    }

    fn take_free_name(&self, mut target: PathBuf) -> Result<PathBuf, ReceiveError> {
        for number in 1..10_000 {
            match self.rename_to_new(&target) {
                Ok(()) => return Ok(target),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    target = self.folder.join(self.name.numbered(number).as_str());
                }
                Err(source) => return Err(self.failed(source)),
            }
        }
        Err(ReceiveError::Exists(target))
    }

    /// Renames in one step that cannot replace a file made in between; by link and unlink where the file system does
    /// not know that step.
    fn rename_to_new(&self, target: &Path) -> io::Result<()> {
        match rustix::fs::renameat_with(CWD, &self.path, CWD, target, RenameFlags::NOREPLACE) {
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                fs::hard_link(&self.path, target)?;
                fs::remove_file(&self.path)
            }
            renamed => Ok(renamed?),
        }
    }

    fn failed(&self, source: io::Error) -> ReceiveError {
        ReceiveError::Write { path: self.path.clone(), source }
    }
}

fn read_full(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path, collision: Collision) -> Result<PartialFile, ReceiveError> {
        PartialFile::open(folder, &FileName::parse("file").unwrap(), 3, collision)
    }

    #[test]
    fn only_what_was_written_gets_the_final_name() {
        let folder = tempfile::tempdir().unwrap();
        let partial = open(folder.path(), Collision::Refuse).unwrap();
        partial.write_at(b"abc", 0).unwrap();
        fs::remove_file(folder.path().join(".file.qpart")).unwrap();
        let second = open(folder.path(), Collision::Refuse).unwrap();
        assert!(matches!(partial.complete(), Err(ReceiveError::PartReplaced(_))));
        assert!(!folder.path().join("file").exists(), "a half file has the final name");
        second.write_at(b"xyz", 0).unwrap();
        assert_eq!(fs::read(second.complete().unwrap()).unwrap(), b"xyz");
    }

    #[test]
    fn a_part_file_with_a_second_name_is_not_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        fs::hard_link(&victim, folder.path().join(".file.qpart")).unwrap();
        assert!(matches!(open(folder.path(), Collision::Refuse), Err(ReceiveError::PartReplaced(_))));
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
    }

    #[test]
    fn two_transfers_do_not_share_a_part_file() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path(), Collision::Rename).unwrap();
        assert!(matches!(open(folder.path(), Collision::Rename), Err(ReceiveError::InUse(_))));
        first.discard_if_empty();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
