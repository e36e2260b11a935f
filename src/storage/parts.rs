//! The part of a transfer: the file or folder `.NAME.qpart` that what comes lies in until it is whole. Who holds its lock
//! writes it; nobody else may remove it.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat};

use super::beneath;
use super::partial_file::ReceiveError;
use super::receive_folder::{FolderId, ReceiveFolder};
use super::safe_name::SafeName;
use super::transfers::KeptTransfer;
use crate::wire::ids::FileName;

/// Why what came of a transfer is not removed although nobody wants it any more.
#[derive(Debug, thiserror::Error)]
pub enum Stays {
    /// Another transfer writes there.
    #[error("another transfer writes {0}, which stays")]
    InUse(PathBuf),
    /// Nothing says that it is this transfer's.
    #[error("{folder} may be another folder now; what came is still in the one it was received into, as {part}")]
    Elsewhere {
        /// Where it was received.
        folder: PathBuf,
        /// Its name there.
        part: String,
    },
    /// The disk does not let it go.
    #[error("{part} cannot be removed: {source}")]
    Write {
        /// Where it lies.
        part: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its folder cannot be opened.
    #[error(transparent)]
    Folder(ReceiveError),
}

/// Where a folder lies, whatever links lead to it, and which one it is; the path alone when there is none.
#[must_use]
pub fn find_folder(path: &Path) -> (PathBuf, Option<FolderId>) {
    let folder = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let id = ReceiveFolder::open(&folder).and_then(|folder| folder.id()).ok();
    (folder, id)
}

/// Whether something writes the part of a transfer: another one, or one that was stopped and is about to close it.
#[must_use]
pub fn is_being_written(folder: &Path, name: &FileName) -> bool {
    ReceiveFolder::open(folder).is_ok_and(|folder| matches!(hold(&folder, name), Err(Stays::InUse(_))))
}

/// Removes what has come of a transfer that nobody wants any more, if it lies where it was received and nobody writes it.
///
/// # Errors
/// [`Stays`] when it is not removed.
pub fn remove_of(kept: &KeptTransfer) -> Result<(), Stays> {
    let folder = match ReceiveFolder::open(&kept.folder) {
        Err(ReceiveError::NoFolder(_)) => return Ok(()),
        opened => opened.map_err(Stays::Folder)?,
    };
    if kept.folder_id != Some(folder.id().map_err(Stays::Folder)?) {
        let part = SafeName::from_remote(&kept.name).partial();
        return Err(Stays::Elsewhere { folder: kept.folder.clone(), part });
    }
    remove(&folder, &kept.name)
}

/// Removes the part of a file or folder, if nobody writes it.
///
/// # Errors
/// [`Stays`] when it is not removed.
pub fn remove(folder: &ReceiveFolder, name: &FileName) -> Result<(), Stays> {
    // Held until it is gone: whoever opens it meanwhile finds that it is in use.
    let Some(_held) = hold(folder, name)? else { return Ok(()) };
    let part = SafeName::from_remote(name).partial();
    let removed = beneath::remove_all(folder.handle(), part.as_ref());
    removed.map_err(|source| Stays::Write { part: folder.path().join(part), source })
}

/// Takes the lock of a part without waiting; `None` when there is no part of ours.
fn hold(folder: &ReceiveFolder, name: &FileName) -> Result<Option<File>, Stays> {
    let part = SafeName::from_remote(name).partial();
    let path = folder.path().join(&part);
    let failed = |source| Stays::Write { part: path.clone(), source };
    let Some(found) = folder.look(&part).map_err(failed)?.filter(is_ours) else { return Ok(None) };
    // Some file systems lock only what may be written, which a folder cannot be.
    let is_folder = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
    let access = if is_folder { OFlags::RDONLY | OFlags::DIRECTORY } else { OFlags::RDWR };
    // What somebody else has put there meanwhile may be a pipe.
    let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY;
    let held = match beneath::open(folder.handle(), Path::new(&part), flags, Mode::empty()) {
        Ok(opened) => File::from(opened),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    match held.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(Stays::InUse(path)),
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    let locked = rustix::fs::fstat(&held).map_err(|error| failed(error.into()))?;
    match folder.look(&part).map_err(failed)? {
        None => Ok(None),
        Some(named) if (named.st_dev, named.st_ino) == (locked.st_dev, locked.st_ino) => Ok(Some(held)),
        // Another transfer has made a new one before it was locked.
        Some(_) => Err(Stays::InUse(path)),
    }
}

/// Whether it can be a part that this user's programs have made.
fn is_ours(found: &Stat) -> bool {
    let is_part = match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => found.st_nlink == 1,
        FileType::Directory => true,
        _ => false,
    };
    is_part && found.st_uid == rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::storage::partial_file::{Collision, PartialFile};
    use crate::storage::receive_tree::{Executable, ReceiveTree};
    use crate::storage::transfers::KeptState;
    use crate::wire::catalog::EntryKind;
    use crate::wire::ids::{FileDigest, FileSize, TransferId, UnixMillis};
    use crate::wire::manifest::Manifest;

    fn big() -> FileName {
        FileName::parse("big").unwrap()
    }

    /// A transfer of `big` into a folder, as it is kept.
    fn kept(path: &Path) -> KeptTransfer {
        let (folder, folder_id) = find_folder(path);
        KeptTransfer {
            id: TransferId::from_bytes([1; 16]),
            begun_at: UnixMillis(1),
            sources: Vec::new(),
            name: big(),
            size: FileSize::try_from(3).unwrap(),
            digest: FileDigest::from_bytes([9; 32]),
            kind: EntryKind::File,
            folder,
            folder_id,
            collision: Collision::Refuse,
            executable: Executable::Never,
            offer: None,
            state: KeptState::Paused,
            reason: None,
            done: 0,
        }
    }

    fn writing(folder: &Path) -> PartialFile {
        let folder = ReceiveFolder::open(folder).unwrap();
        let partial = PartialFile::open(&folder, &SafeName::from_remote(&big()), 3, Collision::Refuse).unwrap();
        partial.write_at(b"ab", 0).unwrap();
        partial
    }

    #[test]
    fn a_part_that_another_transfer_writes_stays() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_being_written(folder.path(), &big()));
        let file = writing(folder.path());
        assert!(is_being_written(folder.path(), &big()));
        let stays = remove_of(&kept(folder.path())).unwrap_err();
        let part = folder.path().join(".big.qpart");
        assert_eq!(stays.to_string(), format!("another transfer writes {}, which stays", part.display()));
        file.write_at(b"c", 2).unwrap();
        drop(file);
        assert!(!is_being_written(folder.path(), &big()));
        for _ in 0..2 {
            remove_of(&kept(folder.path())).unwrap();
            assert!(!part.exists());
        }

        let parent = ReceiveFolder::open(folder.path()).unwrap();
        let manifest = Manifest::default().into();
        let name = SafeName::from_remote(&big());
        let tree = ReceiveTree::open(&parent, &name, manifest, Collision::Refuse, Executable::Never).unwrap();
        assert!(is_being_written(folder.path(), &big()));
        assert!(matches!(remove(&parent, &big()), Err(Stays::InUse(_))));
        assert!(part.join("tree").exists());
        drop(tree);
        remove(&parent, &big()).unwrap();
        assert!(!part.exists());
    }

    #[test]
    fn a_part_in_what_took_the_place_of_the_folder_stays() {
        let root = tempfile::tempdir().unwrap();
        let (folder, moved, other) = (root.path().join("o"), root.path().join("o2"), root.path().join("vict"));
        fs::create_dir(&folder).unwrap();
        fs::create_dir(&other).unwrap();
        drop((writing(&folder), writing(&other)));
        let wanted = kept(&folder);
        fs::rename(&folder, &moved).unwrap();
        remove_of(&wanted).unwrap();
        symlink(&other, &folder).unwrap();
        assert!(matches!(remove_of(&wanted), Err(Stays::Elsewhere { .. })));
        fs::remove_file(&folder).unwrap();
        fs::rename(&other, &folder).unwrap();
        assert!(matches!(remove_of(&wanted), Err(Stays::Elsewhere { .. })));
        assert!(folder.join(".big.qpart").exists() && moved.join(".big.qpart").exists());
        fs::rename(&folder, &other).unwrap();
        fs::rename(&moved, &folder).unwrap();
        remove_of(&wanted).unwrap();
        assert!(!folder.join(".big.qpart").exists());
    }

    #[test]
    fn a_folder_is_the_same_one_by_every_path() {
        let root = tempfile::tempdir().unwrap();
        let (folder, link) = (root.path().join("o"), root.path().join("L"));
        fs::create_dir(&folder).unwrap();
        symlink(&folder, &link).unwrap();
        assert_eq!(find_folder(&link), find_folder(&folder));
        let missing = root.path().join("none");
        assert_eq!(find_folder(&missing), (missing.clone(), None));
    }
}
