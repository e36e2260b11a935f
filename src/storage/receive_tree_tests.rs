//! Tests of folders that are received: nothing false under the final name, whatever was there before.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;
use crate::wire::ids::{FileDigest, FileSize};
use crate::wire::manifest::RelativePath;

/// A manifest of folders (`a/`) and files (`a/b=content`).
fn manifest(entries: &[&str]) -> Arc<Manifest> {
    let mut manifest = Manifest::default();
    for text in entries {
        let (path, what) = match text.split_once('=') {
            None => (text.trim_end_matches('/'), Content::Folder),
            Some((path, bytes)) => {
                let size = FileSize::try_from(bytes.len() as u64).unwrap();
                let digest: FileDigest = digest_of(bytes.as_bytes());
                (path, Content::File(FileContent { size, digest, executable: true, modified_nanos: -1 }))
            }
        };
        manifest.push(ManifestEntry { path: RelativePath::parse(path).unwrap(), what }).unwrap();
    }
    Arc::new(manifest)
}

fn open(folder: &Path, manifest: &Arc<Manifest>, collision: Collision) -> Result<ReceiveTree, ReceiveError> {
    let name = SafeName::from_remote(&FileName::parse("photos").unwrap());
    let parent = ReceiveFolder::open(folder).unwrap();
    ReceiveTree::open(&parent, &name, manifest.clone(), collision, Executable::Never)
}

/// Receives what is missing, as an honest source sends it. Gives the place, and how many files came.
fn receive(folder: &Path, entries: &[&str], collision: Collision) -> Result<(PathBuf, usize), ReceiveError> {
    let tree = open(folder, &manifest(entries), collision)?;
    tree.prepare()?;
    let mut came = 0;
    for (index, text) in entries.iter().enumerate() {
        let Some((_, bytes)) = text.split_once('=') else { continue };
        if !tree.is_here(index)? {
            tree.write(index, bytes.as_bytes())?;
            came += 1;
        }
    }
    Ok((tree.finish()?, came))
}

#[test]
fn a_folder_gets_its_name_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let entries = ["a/", "a/b=text", "c="];
    let tree = open(folder.path(), &manifest(&entries), Collision::Refuse).unwrap();
    assert!(!tree.prepare().unwrap());
    tree.write(1, b"text").unwrap();
    assert!(!folder.path().join("photos").exists());
    assert!(matches!(open(folder.path(), &manifest(&entries), Collision::Refuse), Err(ReceiveError::InUse(_))));
    drop(tree);
    let (path, came) = receive(folder.path(), &entries, Collision::Refuse).unwrap();
    assert_eq!((path, came), (folder.path().join("photos"), 1), "a file that was here was fetched again");
    assert_eq!(fs::read(folder.path().join("photos/a/b")).unwrap(), b"text");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let modified = fs::metadata(folder.path().join("photos/c")).unwrap().modified().unwrap();
    assert_eq!(modified, SystemTime::UNIX_EPOCH - Duration::from_nanos(1));
}

#[test]
fn a_name_that_is_taken_is_kept_or_numbered_or_merged_into() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("photos")).unwrap();
    fs::write(folder.path().join("photos/mine"), "mine").unwrap();
    fs::write(folder.path().join("photos/b"), "old").unwrap();
    assert!(matches!(receive(folder.path(), &["b=new"], Collision::Refuse), Err(ReceiveError::Exists(_))));
    let (path, _) = receive(folder.path(), &["b=new"], Collision::Rename).unwrap();
    assert_eq!(path, folder.path().join("photos (1)"));
    let (path, came) = receive(folder.path(), &["b=new", "mine=mine", "x/"], Collision::Overwrite).unwrap();
    assert_eq!((path, came), (folder.path().join("photos"), 1));
    assert_eq!(fs::read(folder.path().join("photos/b")).unwrap(), b"new");
    assert!(folder.path().join("photos/x").is_dir());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn nothing_is_merged_through_a_link_or_over_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("b"), "precious").unwrap();
    fs::create_dir_all(folder.path().join("photos/c")).unwrap();
    symlink(outside.path(), folder.path().join("photos/a")).unwrap();
    for entries in [&["a/", "a/b=new"][..], &["c=a file"][..]] {
        let refused = receive(folder.path(), entries, Collision::Overwrite);
        assert!(matches!(refused, Err(ReceiveError::InTheWay { .. })), "{refused:?}");
    }
    fs::remove_dir_all(folder.path().join("photos")).unwrap();
    symlink(outside.path(), folder.path().join("photos")).unwrap();
    let refused = receive(folder.path(), &["b=new"], Collision::Overwrite);
    assert!(matches!(refused, Err(ReceiveError::InTheWay { .. })), "{refused:?}");
    assert_eq!(fs::read(outside.path().join("b")).unwrap(), b"precious");
}

#[test]
fn links_planted_in_the_place_of_a_folder_lead_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let entries = ["a/", "a/b=new"];
    let tree = open(folder.path(), &manifest(&entries), Collision::Refuse).unwrap();
    tree.prepare().unwrap();
    let planted = folder.path().join(".photos.qpart/tree/a");
    fs::remove_dir(&planted).unwrap();
    symlink(outside.path(), &planted).unwrap();
    assert!(tree.write(1, b"new").is_err());
    drop(tree);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "a file got outside");
    receive(folder.path(), &entries, Collision::Refuse).unwrap();
    assert!(folder.path().join("photos/a").symlink_metadata().unwrap().is_dir());
}

#[test]
fn what_another_version_left_is_removed_and_the_wrong_is_fetched_again() {
    let folder = tempfile::tempdir().unwrap();
    let left = folder.path().join(".photos.qpart/tree");
    fs::create_dir_all(left.join("old/deep")).unwrap();
    fs::write(left.join("old/deep/file"), "x").unwrap();
    fs::write(left.join("same"), "same").unwrap();
    fs::write(left.join("wrong"), "gnorw").unwrap();
    symlink("/etc/passwd", left.join("link")).unwrap();
    let (path, came) = receive(folder.path(), &["link=link", "same=same", "wrong=wrong"], Collision::Refuse).unwrap();
    assert_eq!(came, 2);
    assert_eq!(fs::read_dir(&path).unwrap().count(), 3);
    assert_eq!(fs::read(path.join("wrong")).unwrap(), b"wrong");
    assert_eq!(fs::read(path.join("link")).unwrap(), b"link");
}

#[test]
fn names_that_become_one_name_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let entries = ["x:y/", "x:y/f=1", "x?y/", "x?y/f=2", "x_y=3"];
    let (path, _) = receive(folder.path(), &entries, Collision::Refuse).unwrap();
    for (name, bytes) in [("x_y/f", "1"), ("x_y (1)/f", "2"), ("x_y (2)", "3")] {
        assert_eq!(fs::read_to_string(path.join(name)).unwrap(), bytes);
    }
}

#[test]
fn a_folder_of_which_nothing_came_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let tree = open(folder.path(), &manifest(&["a/", "a/b=x"]), Collision::Refuse).unwrap();
    tree.prepare().unwrap();
    tree.discard_if_empty();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let tree = open(folder.path(), &manifest(&["a/", "a/b=x"]), Collision::Refuse).unwrap();
    tree.prepare().unwrap();
    tree.write(1, b"x").unwrap();
    tree.discard_if_empty();
    assert!(folder.path().join(".photos.qpart/tree/a/b").exists());
}

#[test]
fn there_must_be_room_for_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let tree = open(folder.path(), &manifest(&["b=x"]), Collision::Refuse).unwrap();
    tree.check_room(1).unwrap();
    assert!(matches!(tree.check_room(u64::MAX - 1), Err(ReceiveError::NoSpace { .. })));
}
