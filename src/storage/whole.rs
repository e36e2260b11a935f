//! What an earlier run of the program has received to its end: it has its name, and the program was ended before it could
//! note that. Whatever was to be done about a name that is taken: this is not somebody else's.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::beneath;
use super::local_paths::{NUMBERS_MAX, local_paths};
use super::partial_file::{Collision, ReceiveError};
use super::receive_folder::ReceiveFolder;
use super::receive_tree::TREE;
use super::safe_name::SafeName;
use crate::seal::digest::{HashTree, digest_of};
use crate::wire::ids::FileDigest;
use crate::wire::manifest::{Content, Manifest};
use crate::wire::transfer::GROUP_BYTES;

/// Looks for a file that has got its name already: there is no part file, and what has the name, or with
/// [`Collision::Rename`] one of those that may have been taken, is right. Reads what has the right size; blocks.
///
/// # Errors
/// [`ReceiveError::Write`] when the folder or what is in it cannot be read.
pub fn find_file(
    folder: &ReceiveFolder,
    name: &SafeName,
    size: u64,
    digest: FileDigest,
    collision: Collision,
) -> Result<Option<PathBuf>, ReceiveError> {
    if kind_below(folder, Path::new(&name.partial()))?.is_some() {
        return Ok(None);
    }
    first_name(folder, name, collision, |path| is_right_below(folder, path, size, digest))
}

/// The same for a folder: what it grows in is gone, and every entry is where it belongs. What else lies in it does not
/// matter. Blocks.
///
/// # Errors
/// As [`find_file`].
pub fn find_folder(
    parent: &ReceiveFolder,
    name: &SafeName,
    manifest: &Manifest,
    collision: Collision,
) -> Result<Option<PathBuf>, ReceiveError> {
    if kind_below(parent, &Path::new(&name.partial()).join(TREE))?.is_some() {
        return Ok(None);
    }
    let moved = local_paths(manifest);
    first_name(parent, name, collision, |path| {
        if kind_below(parent, path)? != Some(FileType::Directory) {
            return Ok(false);
        }
        let folder = parent.below(path)?;
        for (index, entry) in manifest.entries().iter().enumerate() {
            let place = moved.get(&index).map_or(Path::new(entry.path.as_str()), PathBuf::as_path);
            let is_here = match &entry.what {
                Content::Folder => kind_below(&folder, place)? == Some(FileType::Directory),
                Content::File(file) => is_right_below(&folder, place, file.size.bytes(), file.digest)?,
            };
            if !is_here {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

/// Of the names that it may have got, the first that has it.
fn first_name(
    folder: &ReceiveFolder,
    name: &SafeName,
    collision: Collision,
    mut has_it: impl FnMut(&Path) -> Result<bool, ReceiveError>,
) -> Result<Option<PathBuf>, ReceiveError> {
    let names = match collision {
        Collision::Refuse | Collision::Overwrite => 1,
        Collision::Rename => NUMBERS_MAX,
    };
    for number in 0..names {
        let tried = if number == 0 { name.clone() } else { name.numbered(number) };
        let path = Path::new(tried.as_str());
        if kind_below(folder, path)?.is_none() {
            return Ok(None);
        }
        if has_it(path)? {
            return Ok(Some(folder.path().join(path)));
        }
    }
    Ok(None)
}

fn is_right_below(folder: &ReceiveFolder, path: &Path, size: u64, digest: FileDigest) -> Result<bool, ReceiveError> {
    let Some(found) = folder.own_file(path)? else { return Ok(false) };
    is_right(found, size, digest).map_err(|source| ReceiveError::Write { path: folder.path().join(path), source })
}

/// Whether a file has the size and the digest that belong to it.
pub(super) fn is_right(mut found: File, size: u64, digest: FileDigest) -> io::Result<bool> {
    if found.metadata()?.len() != size {
        return Ok(false);
    }
    if size <= GROUP_BYTES {
        let mut bytes = Vec::new();
        (&mut found).take(GROUP_BYTES + 1).read_to_end(&mut bytes)?;
        return Ok(digest_of(&bytes) == digest);
    }
    Ok(HashTree::of_reader(&mut found, &mut |_| {})?.0 == digest)
}

/// What there is at a path below a folder: a link itself, not what it leads to.
pub(super) fn kind_below(folder: &ReceiveFolder, path: &Path) -> Result<Option<FileType>, ReceiveError> {
    let failed = |source: io::Error| ReceiveError::Write { path: folder.path().join(path), source };
    let found = match beneath::open(folder.handle(), path, OFlags::PATH, Mode::empty()) {
        Ok(found) => rustix::fs::fstat(found).map_err(|error| failed(error.into()))?,
        Err(error) => match Errno::from_io_error(&error) {
            // A link or a file above it: there is nothing at this path.
            Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Some(_) | None => return Err(failed(error)),
        },
    };
    Ok(Some(FileType::from_raw_mode(found.st_mode)))
}

#[cfg(test)]
#[path = "whole_tests.rs"]
mod tests;
