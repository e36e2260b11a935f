//! A folder to receive into, with precious things beside it, and what they look like before and after.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A root folder with `inside`, the target of all transfers, and `outside`, which nothing may change.
pub(crate) struct Arena {
    root: TempDir,
}

/// What somebody would notice of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    kind: &'static str,
    inode: u64,
    /// Nothing of a folder, whose times and size change with what is in it.
    rest: Option<Rest>,
}

/// Mode, number of names, times of change, content.
type Rest = (u32, u64, [(i64, i64); 2], Vec<u8>);

impl Seen {
    /// Whether it is a file with one name.
    pub(crate) fn is_plain_file(&self) -> bool {
        self.kind == "file" && self.rest.as_ref().is_some_and(|(_, names, ..)| *names == 1)
    }
}

impl Arena {
    /// In memory where there is such a place: a million cases would wear out a disk.
    pub(crate) fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let mut builder = tempfile::Builder::new();
        builder.prefix("qchat-attack-");
        let root = if memory.is_dir() { builder.tempdir_in(memory) } else { builder.tempdir() };
        let arena = Self { root: root.expect("a temporary folder") };
        fs::create_dir_all(arena.outside().join("folder")).expect("a folder of our own");
        fs::create_dir(arena.inside()).expect("a folder of our own");
        for name in ["canary", "folder/canary"] {
            fs::write(arena.outside().join(name), "precious").expect("a file of our own");
        }
        arena
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn inside(&self) -> PathBuf {
        self.root().join("inside")
    }

    pub(crate) fn outside(&self) -> PathBuf {
        self.root().join("outside")
    }

    /// Empties the target folder.
    pub(crate) fn clear(&self) {
        empty(&self.inside());
    }

    /// Everything beside the target folder; `except` is left out too.
    pub(crate) fn look_outside(&self, except: &Path) -> BTreeMap<PathBuf, Seen> {
        let mut seen = BTreeMap::new();
        look(self.root(), &[&self.inside(), except], &mut seen);
        seen
    }

    /// Everything in the target folder.
    pub(crate) fn look_inside(&self) -> BTreeMap<PathBuf, Seen> {
        let mut seen = BTreeMap::new();
        look(&self.inside(), &[], &mut seen);
        seen
    }
}

/// Removes what is in a folder, and no folder behind a link.
pub(crate) fn empty(folder: &Path) {
    for entry in fs::read_dir(folder).expect("our own folder") {
        let path = entry.expect("our own folder").path();
        let is_folder = path.symlink_metadata().expect("it was listed").is_dir();
        if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect("it is ours");
    }
}

fn look(folder: &Path, except: &[&Path], seen: &mut BTreeMap<PathBuf, Seen>) {
    for entry in fs::read_dir(folder).expect("our own folder") {
        let path = entry.expect("our own folder").path();
        if except.contains(&&*path) {
            continue;
        }
        let found = path.symlink_metadata().expect("it was listed");
        let (kind, content) = if found.is_dir() {
            look(&path, except, seen);
            ("folder", None)
        } else if found.is_symlink() {
            ("link", Some(fs::read_link(&path).expect("it is a link").into_os_string().into_encoded_bytes()))
        } else if found.file_type().is_fifo() {
            ("pipe", Some(Vec::new()))
        } else {
            ("file", Some(fs::read(&path).expect("it is ours")))
        };
        let times = [(found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec())];
        let rest = content.map(|content| (found.mode(), found.nlink(), times, content));
        seen.insert(path, Seen { kind, inode: found.ino(), rest });
    }
}
