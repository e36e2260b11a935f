//! Where the entries of a folder lie on this machine: under the names they have at their owner's wherever that can be.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::safe_name::SafeName;
use crate::wire::ids::FileName;
use crate::wire::manifest::{Content, Manifest, ManifestEntry};

/// Names that are tried for a file whose own is taken: a folder has no more files of one name.
pub(super) const NUMBERS_MAX: u32 = 10_000;

/// The paths of entries that cannot have the one they have at their owner's: because a name is no name here, or because
/// another entry has it then.
pub(super) fn local_paths(manifest: &Manifest) -> HashMap<usize, PathBuf> {
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
pub(super) fn numbered(path: &Path, number: u32) -> PathBuf {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| FileName::parse(name).ok());
    match name {
        Some(name) => path.with_file_name(SafeName::from_remote(&name).numbered(number).as_str()),
        None => path.to_owned(),
    }
}
