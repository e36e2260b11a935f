//! Opens what lies below an open folder, whatever happens to the names in between: through no link, and never outside.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Opens a path of one name or several; `.` is the folder itself.
pub(super) fn open(folder: BorrowedFd<'_>, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(folder, path, flags, mode, resolve) {
        // An old kernel, a sandbox that does not know the call, or a rename that came between.
        Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN) => open_by_steps(folder, path, flags, mode),
        opened => Ok(opened?),
    }
}

/// Opens one name after the other, each without following a link: what `openat2` does at once.
fn open_by_steps(folder: BorrowedFd<'_>, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let is_below = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    if !path.components().all(is_below) {
        return Err(Errno::XDEV.into());
    }
    let (above, name) = (path.parent(), path.file_name().unwrap_or(".".as_ref()));
    let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut reached: Option<OwnedFd> = None;
    for part in above.into_iter().flat_map(Path::components) {
        let from = reached.as_ref().map_or(folder, AsFd::as_fd);
        reached = Some(rustix::fs::openat(from, part.as_os_str(), step, Mode::empty())?);
    }
    let from = reached.as_ref().map_or(folder, AsFd::as_fd);
    Ok(rustix::fs::openat(from, name, flags, mode)?)
}

/// Removes what has this name, a folder with all that is in it. Follows no link.
pub(super) fn remove_all(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        removed => return Ok(removed?),
    }
    let inner = open(folder, Path::new(name), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
    for found in Dir::read_from(&inner)? {
        let found = found?;
        let name = OsStr::from_bytes(found.file_name().to_bytes());
        if name != "." && name != ".." {
            remove_all(inner.as_fd(), name)?;
        }
    }
    Ok(rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR)?)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Read as _;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_removed_leaves_what_links_in_it_lead_to() {
        let folder = tempfile::tempdir().unwrap();
        let kept = folder.path().join("kept");
        fs::create_dir_all(folder.path().join("root/a/b")).unwrap();
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "stays").unwrap();
        fs::write(folder.path().join("root/a/b/c"), "goes").unwrap();
        symlink(&kept, folder.path().join("root/a/link")).unwrap();
        let handle = File::open(folder.path()).unwrap();
        remove_all(handle.as_fd(), OsStr::new("root")).unwrap();
        assert!(!folder.path().join("root").exists() && kept.join("file").exists());
    }

    #[test]
    fn nothing_outside_is_opened_by_either_way() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/c"), "inside").unwrap();
        fs::write(folder.path().join("secret"), "outside").unwrap();
        symlink(folder.path(), root.join("up")).unwrap();
        symlink(folder.path().join("secret"), root.join("a/link")).unwrap();
        symlink("b", root.join("a/alias")).unwrap();
        let handle = File::open(&root).unwrap();
        for way in [open, open_by_steps] {
            let read = |path: &str| {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW;
                let opened = way(handle.as_fd(), Path::new(path), flags, Mode::empty());
                opened.map(|opened| {
                    let mut text = String::new();
                    File::from(opened).read_to_string(&mut text).map(|_| text).unwrap_or_default()
                })
            };
            assert_eq!(read("a/b/c").unwrap(), "inside");
            assert!(read(".").is_ok() && read("a/b").is_ok());
            for bad in ["up/secret", "a/link", "a/alias/c", "../secret", "a/../../secret", "/etc/passwd", "a/b/none"] {
                assert!(read(bad).is_err(), "{bad} was opened");
            }
        }
    }
}
