//! Tests of the walk: what it lists, what it leaves out and says so, and that it is a manifest's order.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use rustix::fs::{CWD, FileType, Mode};

use super::*;
use crate::wire::ids::{FileDigest, FileSize};
use crate::wire::manifest::{Content, FileContent, Manifest, ManifestEntry};

fn tree(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if !file.ends_with('/') {
            fs::write(path, "x").unwrap();
        }
    }
    folder
}

fn listed(root: &Path, filter: &Filter) -> Vec<String> {
    walk(root, filter).unwrap().entries.into_iter().map(|(path, _)| path.to_string()).collect()
}

#[test]
fn a_walk_lists_files_and_folders_in_the_order_of_a_manifest() {
    let folder = tree(&["b/c/d", ".hidden", "a-b", "a/b", "b/.git/config", "ä"]);
    fs::create_dir(folder.path().join("empty")).unwrap();
    let walked = walk(folder.path(), &Filter::default()).unwrap();
    let paths: Vec<&str> = walked.entries.iter().map(|(path, _)| path.as_str()).collect();
    let expected = [".hidden", "a", "a-b", "a/b", "b", "b/.git", "b/.git/config", "b/c", "b/c/d", "empty", "ä"];
    assert_eq!(paths, expected);
    assert_eq!(walked.skipped, Skipped::default());
    let mut manifest = Manifest::default();
    let (size, digest) = (FileSize::try_from(1).unwrap(), FileDigest::from_bytes([0; 32]));
    for (path, kind) in walked.entries {
        let what = match kind {
            Kind::Folder => Content::Folder,
            Kind::File => Content::File(FileContent { size, digest, executable: false, modified_nanos: 0 }),
        };
        manifest.push(ManifestEntry { path, what }).unwrap();
    }
    assert_eq!(manifest.files(), 6);
}

#[test]
fn what_cannot_be_shared_is_skipped_with_a_word() {
    let folder = tree(&["plain", "bad\nname/inside", "back\\slash"]);
    let root = folder.path();
    symlink("/etc", root.join("folder link")).unwrap();
    symlink("plain", root.join("file link")).unwrap();
    symlink("nowhere", root.join("broken link")).unwrap();
    rustix::fs::mknodat(CWD, root.join("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    fs::write(root.join(OsStr::from_bytes(b"\xff")), "").unwrap();
    let deep = vec!["d"; 66].join("/");
    fs::create_dir_all(root.join(&deep)).unwrap();
    let walked = walk(root, &Filter::default()).unwrap();
    let deepest = walked.entries.iter().map(|(path, _)| path.as_str().split('/').count()).max();
    assert_eq!(deepest, Some(64));
    assert!(walked.entries.iter().any(|(path, _)| path.as_str() == "plain"));
    let mut words: Vec<(String, &str)> = walked
        .skipped
        .named()
        .iter()
        .map(|(path, why)| (path.strip_prefix(root).unwrap().to_string_lossy().into_owned(), why.as_str()))
        .collect();
    words.sort_unstable();
    let why = |name: &str| words.iter().find(|(path, _)| path == name).unwrap_or_else(|| panic!("{name}: {words:?}")).1;
    for link in ["folder link", "file link", "broken link"] {
        assert_eq!(why(link), "links are not followed");
    }
    assert_eq!(why("pipe"), "it is neither a file nor a folder");
    assert_eq!(why("\u{fffd}"), "its name is not UTF-8");
    assert!(why("bad\nname").contains("control"), "{words:?}");
    assert!(why("back\\slash").contains("separator"), "{words:?}");
    assert!(why(&vec!["d"; 65].join("/")).contains("64 names"), "{words:?}");
    assert_eq!(words.len(), 8, "{words:?}");
}

#[test]
fn many_skipped_files_are_counted() {
    let folder = tree(&[]);
    for number in 0..50 {
        symlink("x", folder.path().join(number.to_string())).unwrap();
    }
    let skipped = walk(folder.path(), &Filter::default()).unwrap().skipped;
    assert_eq!((skipped.named().len(), skipped.others()), (20, 30));
}

#[test]
fn a_folder_that_cannot_be_read_is_skipped_and_the_others_are_not() {
    if rustix::process::geteuid().is_root() {
        return;
    }
    let folder = tree(&["closed/inside", "open/inside"]);
    fs::set_permissions(folder.path().join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    let walked = walk(folder.path(), &Filter::default()).unwrap();
    fs::set_permissions(folder.path().join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(walked.entries.len(), 3);
    assert_eq!(walked.skipped.named().len(), 1);
}

#[test]
fn globs_and_gitignore_leave_out_what_they_name() {
    let files =
        ["a.o", "src/b.o", "src/main", "target/big", ".git/HEAD", "src/.gitignore", "src/secret", "keep/target"];
    let folder = tree(&files);
    fs::write(folder.path().join(".gitignore"), "/target/\n*.o\n").unwrap();
    fs::write(folder.path().join("src/.gitignore"), "secret\n!b.o\n").unwrap();
    let by = |exclude: &[&str], gitignore| {
        let exclude = exclude.iter().map(|&glob| glob.to_owned()).collect();
        listed(folder.path(), &Filter { exclude, gitignore })
    };
    assert_eq!(by(&[], false).len(), 13);
    let ignored = [".gitignore", "keep", "keep/target", "src", "src/.gitignore", "src/b.o", "src/main"];
    assert_eq!(by(&[], true), ignored);
    assert_eq!(by(&["*.o", "/target", ".git*", "src/secret"], false), ["keep", "keep/target", "src", "src/main"]);
    let wrong = walk(folder.path(), &Filter { exclude: vec!["a[".to_owned()], gitignore: false });
    assert!(matches!(wrong, Err(WalkError::Glob { .. })), "{wrong:?}");
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    let folder = tree(&[]);
    assert!(matches!(walk(&folder.path().join("none"), &Filter::default()), Err(WalkError::Read { .. })));
}
