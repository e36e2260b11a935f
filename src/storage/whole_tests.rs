//! Tests of what has its name already: it is found by its bytes, and nothing else is taken for it.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::wire::ids::{FileName, FileSize};
use crate::wire::manifest::{FileContent, ManifestEntry, RelativePath};

const ALL: [Collision; 3] = [Collision::Refuse, Collision::Overwrite, Collision::Rename];

fn safe(name: &str) -> SafeName {
    SafeName::from_remote(&FileName::parse(name).unwrap())
}

fn opened() -> (TempDir, ReceiveFolder) {
    let folder = tempfile::tempdir().unwrap();
    let opened = ReceiveFolder::open(folder.path()).unwrap();
    (folder, opened)
}

/// Looks for `a.txt` with the bytes `abc`. Gives the name that has them.
fn found(folder: &ReceiveFolder, collision: Collision) -> Option<String> {
    let path = find_file(folder, &safe("a.txt"), 3, digest_of(b"abc"), collision).unwrap()?;
    Some(path.strip_prefix(folder.path()).unwrap().to_str().unwrap().to_owned())
}

#[track_caller]
fn check(folder: &ReceiveFolder, collisions: &[Collision], expected: Option<&str>, why: &str) {
    for collision in collisions {
        assert_eq!(found(folder, *collision).as_deref(), expected, "{collision:?}: {why}");
    }
}

#[test]
fn a_file_that_has_its_name_is_found_and_no_other_one() {
    let (folder, opened) = opened();
    let at = |name: &str| folder.path().join(name);
    check(&opened, &ALL, None, "there is none");
    fs::write(at("a.txt"), "abc").unwrap();
    check(&opened, &ALL, Some("a.txt"), "it is there");
    fs::write(at("a.txt"), "abx").unwrap();
    check(&opened, &ALL, None, "it has other bytes");
    fs::write(at("a (2).txt"), "abc").unwrap();
    check(&opened, &ALL, None, "no name is passed over when one is taken");
    fs::write(at("a (1).txt"), "abcd").unwrap();
    check(&opened, &[Collision::Rename], Some("a (2).txt"), "it has a number");
    check(&opened, &[Collision::Refuse, Collision::Overwrite], None, "those are somebody else's");
}

#[test]
fn a_file_that_is_still_coming_has_not_come_whatever_has_its_name() {
    let (folder, opened) = opened();
    fs::write(folder.path().join("a.txt"), "abc").unwrap();
    fs::write(folder.path().join(".a.txt.qpart"), "a").unwrap();
    check(&opened, &ALL, None, "there is a part file");
}

#[test]
fn nothing_is_found_through_a_link() {
    let (folder, opened) = opened();
    fs::write(folder.path().join("elsewhere"), "abc").unwrap();
    symlink("elsewhere", folder.path().join("a.txt")).unwrap();
    check(&opened, &ALL, None, "that is a link");
}

/// `photos` with a folder, a file of more than one group and a name that is another one here.
fn photos() -> (Arc<Manifest>, Vec<u8>) {
    let large = vec![7; usize::try_from(GROUP_BYTES).unwrap() + 1];
    let file = |bytes: &[u8]| {
        let size = FileSize::try_from(bytes.len() as u64).unwrap();
        let (digest, _) = HashTree::of_reader(&mut &*bytes, &mut |_| {}).unwrap();
        Content::File(FileContent { size, digest, executable: false, modified_nanos: 0 })
    };
    let mut manifest = Manifest::default();
    let entries = [("a", Content::Folder), ("a/large", file(&large)), ("x:y", file(b"z"))];
    for (path, what) in entries {
        manifest.push(ManifestEntry { path: RelativePath::parse(path).unwrap(), what }).unwrap();
    }
    (Arc::new(manifest), large)
}

#[test]
fn a_folder_is_found_when_every_entry_is_in_its_place() {
    let (folder, opened) = opened();
    let (manifest, large) = photos();
    let find = |collision| find_folder(&opened, &safe("photos"), &manifest, collision).unwrap();
    let whole = folder.path().join("photos (1)");
    fs::create_dir_all(folder.path().join("photos")).unwrap();
    fs::create_dir_all(whole.join("a")).unwrap();
    fs::write(whole.join("a/large"), &large).unwrap();
    assert_eq!(find(Collision::Rename), None, "a file is missing");
    fs::write(whole.join("x_y"), "z").unwrap();
    assert_eq!(find(Collision::Rename).as_ref(), Some(&whole));
    assert_eq!(find(Collision::Refuse), None);
    // What is removed after the folder has its name.
    fs::create_dir_all(folder.path().join(".photos.qpart/parts")).unwrap();
    fs::write(whole.join("of its person"), "").unwrap();
    assert_eq!(find(Collision::Rename).as_ref(), Some(&whole));
    fs::create_dir(folder.path().join(".photos.qpart/tree")).unwrap();
    assert_eq!(find(Collision::Rename), None, "it is still coming");
    fs::remove_dir(folder.path().join(".photos.qpart/tree")).unwrap();
    fs::write(whole.join("a/large"), &large[1..]).unwrap();
    assert_eq!(find(Collision::Rename), None, "a file is another one");
}
