//! A folder that files are received into, held open by a handle: everything in it is reached by handle and name, so that
//! whatever takes the place of the folder, or of one above it, leads no write elsewhere.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use super::beneath;
use super::partial_file::ReceiveError;
use super::safe_name::SafeName;

/// An open folder; copies share the handle.
///
/// Each step opens one name, which holds no separator and is not `..`, and follows no link at it. That alone keeps
/// everything beneath the folder, on every kernel and in every race: `openat2` is for paths of several names.
#[derive(Debug, Clone)]
pub struct ReceiveFolder {
    handle: Arc<OwnedFd>,
    path: PathBuf,
}

/// Which folder it is, whatever path leads to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FolderId {
    /// The number of its file system.
    pub device: u64,
    /// Its number in there.
    pub inode: u64,
}

impl FolderId {
    fn of(found: &Stat) -> Self {
        Self { device: found.st_dev, inode: found.st_ino }
    }
}

impl ReceiveFolder {
    /// Opens a folder of the user's own choice, by any path and through any link.
    ///
    /// # Errors
    /// [`ReceiveError::NoFolder`] when it is not there, [`ReceiveError::Write`] when it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, ReceiveError> {
        match rustix::fs::openat(CWD, path, FOLDER, Mode::empty()) {
            Ok(handle) => Ok(Self { handle: Arc::new(handle), path: path.to_owned() }),
            Err(Errno::NOENT | Errno::NOTDIR) => Err(ReceiveError::NoFolder(path.to_owned())),
            Err(error) => Err(ReceiveError::Write { path: path.to_owned(), source: error.into() }),
        }
    }

    /// The folder of this name within it, made when it is not there.
    ///
    /// # Errors
    /// [`ReceiveError::InTheWay`] when the name is taken by a link, a file or anything else that is no folder.
    pub fn subfolder(&self, name: &SafeName) -> Result<Self, ReceiveError> {
        let path = self.path.join(name.as_str());
        let failed = |error: Errno| ReceiveError::Write { path: path.clone(), source: error.into() };
        match rustix::fs::mkdirat(&*self.handle, name.as_str(), Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(error)),
        }
        match rustix::fs::openat(&*self.handle, name.as_str(), FOLDER | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(handle) => Ok(Self { handle: Arc::new(handle), path }),
            Err(Errno::NOTDIR | Errno::LOOP) => Err(ReceiveError::InTheWay { path, wanted: "folder" }),
            Err(error) => Err(failed(error)),
        }
    }

    /// Where it was opened, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which folder it is.
    ///
    /// # Errors
    /// [`ReceiveError::Write`] when it cannot be asked.
    pub fn id(&self) -> Result<FolderId, ReceiveError> {
        let found = rustix::fs::fstat(&*self.handle).map_err(|error| self.failed(error))?;
        Ok(FolderId::of(&found))
    }

    /// Where it lies now: it, or one above it, may have been renamed since it was opened. Where it was opened, when the
    /// system does not say.
    pub(super) fn path_now(&self) -> PathBuf {
        let own = self.id().ok();
        let is_at = |path: &Path| {
            rustix::fs::statat(CWD, path, AtFlags::empty()).is_ok_and(|found| own == Some(FolderId::of(&found)))
        };
        if is_at(&self.path) {
            return self.path.clone();
        }
        let known = fs::read_link(format!("/proc/self/fd/{}", self.handle.as_raw_fd()));
        known.ok().filter(|path| is_at(path)).unwrap_or_else(|| self.path.clone())
    }

    /// Puts the names in it on disk: what was made, renamed and removed.
    ///
    /// # Errors
    /// [`ReceiveError::Write`] when the disk does not take it.
    pub fn sync(&self) -> Result<(), ReceiveError> {
        rustix::fs::fsync(&*self.handle).map_err(|error| self.failed(error))
    }

    /// Puts all that was written to its file system on disk, in one go: for a batch of small files before they get their
    /// names by [`PartialFile::complete_unsynced`](super::partial_file::PartialFile::complete_unsynced).
    ///
    /// # Errors
    /// [`ReceiveError::Write`] when the disk does not take it.
    pub fn sync_contents(&self) -> Result<(), ReceiveError> {
        rustix::fs::syncfs(&*self.handle).map_err(|error| self.failed(error))
    }

    /// How much may be written here; as much as can be where the file system does not say.
    ///
    /// # Errors
    /// [`ReceiveError::Write`] when it cannot be asked.
    pub fn free_bytes(&self) -> Result<u64, ReceiveError> {
        let found = rustix::fs::fstatvfs(&*self.handle).map_err(|error| self.failed(error))?;
        let is_known = found.f_blocks > 0;
        Ok(if is_known { found.f_bavail.saturating_mul(found.f_frsize) } else { u64::MAX })
    }

    /// What has this name, links themselves included.
    pub(super) fn look(&self, name: &str) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(&*self.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a file for reading and writing, made for this user alone when it is not there. Waits for no pipe.
    pub(super) fn open_file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(&*self.handle, name, flags | OFlags::NOCTTY, Mode::RUSR | Mode::WUSR)?;
        Ok(File::from(handle))
    }

    /// Opens a plain file of ours below it for reading, if there is one at that path and no link leads to it.
    pub(super) fn own_file(&self, path: &Path) -> Result<Option<File>, ReceiveError> {
        let failed = |source| ReceiveError::Write { path: self.path.join(path), source };
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let found = match beneath::open(self.handle(), path, flags, Mode::empty()) {
            Ok(found) => File::from(found),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO | Errno::ACCESS) => return Ok(None),
                Some(_) | None => return Err(failed(error)),
            },
        };
        let metadata = found.metadata().map_err(failed)?;
        let is_ours = metadata.uid() == rustix::process::geteuid().as_raw() && metadata.nlink() == 1;
        Ok((metadata.is_file() && is_ours).then_some(found))
    }

    /// Renames within the folder; what has the name is replaced.
    pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&*self.handle, from, &*self.handle, to)?)
    }

    /// Renames in one step that cannot replace a file made in between; by link and unlink where the file system does not
    /// know that step.
    pub(super) fn rename_to_new(&self, from: &str, to: &str) -> io::Result<()> {
        let folder = &*self.handle;
        match rustix::fs::renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS) => {
                rustix::fs::linkat(folder, from, folder, to, AtFlags::empty())?;
                self.remove(from)
            }
            renamed => Ok(renamed?),
        }
    }

    /// Removes a file.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&*self.handle, name, AtFlags::empty())?)
    }

    /// Whether the folder itself was removed meanwhile.
    pub(super) fn is_gone(&self) -> bool {
        rustix::fs::fstat(&*self.handle).is_ok_and(|found| found.st_nlink == 0)
    }

    /// The handle, to reach what lies deeper.
    pub(super) fn handle(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    /// The folder at a path below it, which no link may lead to.
    pub(super) fn below(&self, path: &Path) -> Result<Self, ReceiveError> {
        if path == Path::new(".") {
            return Ok(self.clone());
        }
        let opened = beneath::open(self.handle(), path, FOLDER, Mode::empty());
        let path = self.path.join(path);
        match opened {
            Ok(handle) => Ok(Self { handle: Arc::new(handle), path }),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::NOTDIR | Errno::LOOP) => Err(ReceiveError::InTheWay { path, wanted: "folder" }),
                Some(_) | None => Err(ReceiveError::Write { path, source: error }),
            },
        }
    }

    fn failed(&self, error: Errno) -> ReceiveError {
        ReceiveError::Write { path: self.path.clone(), source: error.into() }
    }
}

/// How folders are opened.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::wire::ids::FileName;

    fn safe(name: &str) -> SafeName {
        SafeName::from_remote(&FileName::parse(name).unwrap())
    }

    #[test]
    fn a_subfolder_is_made_once_and_is_never_a_link() {
        let root = tempfile::tempdir().unwrap();
        let folder = ReceiveFolder::open(root.path()).unwrap();
        for _ in 0..2 {
            assert_eq!(folder.subfolder(&safe("inner")).unwrap().path(), root.path().join("inner"));
        }
        fs::write(root.path().join("file"), "").unwrap();
        symlink(root.path().join("inner"), root.path().join("link")).unwrap();
        symlink("/nowhere/at/all", root.path().join("dangling")).unwrap();
        for name in ["file", "link", "dangling"] {
            let refused = folder.subfolder(&safe(name)).unwrap_err();
            assert!(matches!(refused, ReceiveError::InTheWay { .. }), "{name}: {refused}");
            assert_eq!(
                refused.to_string(),
                format!("{} is there already, and is no folder", root.path().join(name).display())
            );
        }
    }

    #[test]
    fn a_folder_of_the_users_choice_may_be_a_link_and_must_be_there() {
        let root = tempfile::tempdir().unwrap();
        symlink(root.path(), root.path().join("link")).unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        ReceiveFolder::open(&root.path().join("link")).unwrap();
        for name in ["nothing", "file"] {
            let missing = ReceiveFolder::open(&root.path().join(name)).unwrap_err();
            assert!(matches!(missing, ReceiveError::NoFolder(_)), "{name}: {missing}");
        }
    }
}
