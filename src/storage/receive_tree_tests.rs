//! Tests of folders that are received: nothing false under the final name, whatever was there before.

use std::fs;
use std::os::unix::fs::symlink;

use rustix::fs::CWD;

use super::*;
use crate::seal::digest::digest_of;
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

/// Writes to a file as somebody else, until the kernel's clock has moved: before 6.13 it stands still for milliseconds.
fn write_as_somebody_else(path: &Path, bytes: &[u8]) {
    let trace = || Trace::of(&rustix::fs::stat(path).unwrap());
    let before = trace();
    while trace() == before {
        fs::write(path, bytes).unwrap();
    }
}

/// What somebody else does to `a/b`, which is here already, and whether the folder is still right.
type Deed = (&'static str, fn(&Path), bool);

#[test]
fn what_somebody_else_does_to_a_file_that_is_here_is_found_before_the_folder_has_its_name() {
    let deeds: [Deed; 6] = [
        ("writes", |file| write_as_somebody_else(file, b"x"), false),
        (
            "writes and sets the time back",
            |file| {
                let modified = fs::metadata(file).unwrap().modified().unwrap();
                write_as_somebody_else(file, b"x");
                File::options().write(true).open(file).unwrap().set_modified(modified).unwrap();
            },
            false,
        ),
        (
            "replaces it",
            |file| {
                fs::write(file.with_extension("new"), "x").unwrap();
                fs::rename(file.with_extension("new"), file).unwrap();
            },
            false,
        ),
        ("removes it", |file| fs::remove_file(file).unwrap(), false),
        (
            "puts a link in the place of its folder",
            |file| {
                let folder = file.parent().unwrap();
                fs::rename(folder, folder.with_extension("moved")).unwrap();
                symlink("a.moved", folder).unwrap();
            },
            false,
        ),
        ("writes what is there", |file| write_as_somebody_else(file, b"b"), true),
    ];
    for (what, deed, is_right) in deeds {
        let folder = tempfile::tempdir().unwrap();
        let entries = ["a/", "a/b=b", "c=c"];
        let tree = open(folder.path(), &manifest(&entries), Collision::Refuse).unwrap();
        tree.prepare().unwrap();
        tree.write(1, b"b").unwrap();
        tree.write(2, b"c").unwrap();
        let file = folder.path().join(".photos.qpart/tree/a/b");
        deed(&file);
        let finished = tree.finish();
        if is_right {
            assert_eq!(finished.unwrap(), folder.path().join("photos"), "somebody {what}");
            continue;
        }
        assert!(
            matches!(&finished, Err(ReceiveError::PartTouched(at)) if file.starts_with(at)),
            "somebody {what}: {finished:?}"
        );
        assert!(!folder.path().join("photos").exists(), "somebody {what}");
        drop(tree);
        let (path, came) = receive(folder.path(), &entries, Collision::Refuse).unwrap();
        assert_eq!((fs::read(path.join("a/b")).unwrap(), came), (b"b".to_vec(), 1), "somebody {what}");
    }
}

#[test]
fn a_large_file_and_one_of_an_earlier_run_are_looked_after_too() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = manifest(&["kept=kept", "large=large"]);
    let tree = open(folder.path(), &manifest, Collision::Refuse).unwrap();
    tree.prepare().unwrap();
    tree.write(0, b"kept").unwrap();
    drop(tree);
    for index in [0, 1] {
        let tree = open(folder.path(), &manifest, Collision::Refuse).unwrap();
        tree.prepare().unwrap();
        assert!(tree.is_here(0).unwrap());
        if !tree.is_here(1).unwrap() {
            let partial = tree.part(tree.file(1).unwrap()).unwrap();
            partial.write_at(b"large", 0).unwrap();
            tree.adopt(1, partial).unwrap();
        }
        let name = tree.place(index);
        let file = folder.path().join(".photos.qpart/tree").join(&name);
        let right = fs::read(&file).unwrap();
        write_as_somebody_else(&file, b"other");
        let finished = tree.finish();
        assert!(matches!(&finished, Err(ReceiveError::PartTouched(at)) if *at == file), "{finished:?}");
        fs::write(&file, right).unwrap();
    }
}

#[test]
fn what_cannot_be_merged_is_found_before_anything_has_come() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("photos/sub/folder")).unwrap();
    fs::write(folder.path().join("photos/file"), "mine").unwrap();
    for (entries, name, needed) in
        [(["sub/", "sub/folder=new"], "sub/folder", "file"), (["file/", "file/b=x"], "file", "folder")]
    {
        let tree = open(folder.path(), &manifest(&entries), Collision::Overwrite).unwrap();
        let refused = tree.prepare();
        let is_named = |path: &Path, wanted: &str| path.ends_with(name) && wanted == needed;
        assert!(
            matches!(&refused, Err(ReceiveError::InTheWay { path, wanted }) if is_named(path, wanted)),
            "{refused:?}"
        );
    }
    fs::remove_dir_all(folder.path().join("photos")).unwrap();
    fs::write(folder.path().join("photos"), "a file").unwrap();
    let refused = open(folder.path(), &manifest(&["b=x"]), Collision::Overwrite);
    assert!(matches!(&refused, Err(ReceiveError::InTheWay { wanted: "folder", .. })), "{refused:?}");
}

/// What somebody else has put in a file's place before it comes; `outside` is a file of theirs.
type Plant = (&'static str, fn(place: &Path, outside: &Path));

const PLANTS: [Plant; 5] = [
    ("a file", |place, _| fs::write(place, "EVIL").unwrap()),
    ("a pipe", |place, _| {
        rustix::fs::mknodat(CWD, place, FileType::Fifo, Mode::RWXU, 0).unwrap();
    }),
    ("a link", |place, outside| symlink(outside, place).unwrap()),
    ("another name of a file", |place, outside| fs::hard_link(outside, place).unwrap()),
    ("a folder", |place, outside| {
        fs::create_dir(place).unwrap();
        symlink(outside, place.join("link")).unwrap();
    }),
];

/// All that is in a folder, by path: files with what they hold, folders without anything.
fn contents(folder: &Path) -> Vec<(PathBuf, Option<String>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), PathBuf::from(entry.file_name()));
        if entry.file_type().unwrap().is_dir() {
            found.extend(contents(&path).into_iter().map(|(below, text)| (name.join(below), text)));
            found.push((name, None));
        } else {
            assert!(entry.file_type().unwrap().is_file(), "{name:?} is no file");
            found.push((name, Some(fs::read_to_string(path).unwrap())));
        }
    }
    found.sort();
    found
}

/// What [`contents`] are when these entries are there, and nothing else.
fn expected(entries: &[&str]) -> Vec<(PathBuf, Option<String>)> {
    let entry = |text: &&str| match text.split_once('=') {
        Some((path, bytes)) => (PathBuf::from(path), Some(bytes.to_owned())),
        None => (PathBuf::from(text.trim_end_matches('/')), None),
    };
    let mut entries: Vec<_> = entries.iter().map(entry).collect();
    entries.sort();
    entries
}

#[test]
fn what_others_put_into_the_folder_meanwhile_is_never_received() {
    let entries = ["a/", "a/small=small", "empty=", "large=large"];
    for (what, plant) in PLANTS {
        for collision in [Collision::Refuse, Collision::Overwrite] {
            let folder = tempfile::tempdir().unwrap();
            let (outside, kept) = (folder.path().join("outside"), folder.path().join("photos/mine"));
            fs::write(&outside, "precious").unwrap();
            let mut wanted = expected(&entries);
            if collision == Collision::Overwrite {
                fs::create_dir_all(folder.path().join("photos/a")).unwrap();
                fs::write(folder.path().join("photos/a/small"), "old").unwrap();
                fs::write(&kept, "mine").unwrap();
                wanted.push(("mine".into(), Some("mine".into())));
            }
            let tree = open(folder.path(), &manifest(&entries), collision).unwrap();
            tree.prepare().unwrap();
            let root = folder.path().join(".photos.qpart/tree");
            for name in ["a/small", "empty", "large", "a/small (1)", "EXTRA"] {
                plant(&root.join(name), &outside);
            }
            let partial = tree.part(tree.file(3).unwrap()).unwrap();
            partial.write_at(b"large", 0).unwrap();
            tree.adopt(3, partial).unwrap();
            tree.write(1, b"small").unwrap();
            tree.write(2, b"").unwrap();
            plant(&root.join("a/late"), &outside);
            assert_eq!(contents(&tree.finish().unwrap()), wanted, "{what}, {collision:?}");
            assert_eq!(fs::read_to_string(&outside).unwrap(), "precious", "{what}, {collision:?}");
        }
    }
}

#[test]
fn what_has_another_name_is_fetched_again_and_stays_under_that_one() {
    let folder = tempfile::tempdir().unwrap();
    let entries = ["a/", "a/b=right", "c=right too", "d=fine", "large=large"];
    let tree = open(folder.path(), &manifest(&entries), Collision::Refuse).unwrap();
    tree.prepare().unwrap();
    for (index, bytes) in [(1, "right"), (2, "right too"), (3, "fine")] {
        tree.write(index, bytes.as_bytes()).unwrap();
    }
    let large = |tree: &ReceiveTree| tree.part(tree.file(4).unwrap()).unwrap();
    large(&tree).write_at(b"lar", 0).unwrap();
    drop(tree);
    let (left, copies) = (folder.path().join(".photos.qpart"), folder.path().join("copies"));
    fs::create_dir(&copies).unwrap();
    fs::write(copies.join("foreign"), "gnorw").unwrap();
    fs::remove_file(left.join("tree/a/b")).unwrap();
    fs::hard_link(copies.join("foreign"), left.join("tree/a/b")).unwrap();
    fs::hard_link(left.join("tree/c"), copies.join("c")).unwrap();
    let part = fs::read_dir(left.join("parts")).unwrap().next().unwrap().unwrap().path();
    fs::hard_link(&part, copies.join("part")).unwrap();

    let tree = open(folder.path(), &manifest(&entries), Collision::Refuse).unwrap();
    tree.prepare().unwrap();
    let here: Vec<bool> = (1..5).map(|index| tree.is_here(index).unwrap()).collect();
    assert_eq!(here, [false, false, true, false]);
    tree.write(1, b"right").unwrap();
    tree.write(2, b"right too").unwrap();
    let partial = large(&tree);
    partial.write_at(b"large", 0).unwrap();
    tree.adopt(4, partial).unwrap();
    assert_eq!(contents(&tree.finish().unwrap()), expected(&entries));
    assert_eq!(contents(&copies), expected(&["c=right too", "foreign=gnorw", "part=lar"]));
    for name in ["a/b", "c", "large"] {
        let found = rustix::fs::stat(folder.path().join("photos").join(name)).unwrap();
        assert_eq!(found.st_nlink, 1, "somebody else can write to {name}");
    }
}

#[test]
fn a_file_that_gets_another_name_meanwhile_is_not_received() {
    let folder = tempfile::tempdir().unwrap();
    let entries = ["b=b", "c=c"];
    let tree = open(folder.path(), &manifest(&entries), Collision::Refuse).unwrap();
    tree.prepare().unwrap();
    tree.write(0, b"b").unwrap();
    let (file, other) = (folder.path().join(".photos.qpart/tree/b"), folder.path().join(".photos.qpart/tree/c"));
    fs::rename(&file, &other).unwrap();
    fs::write(&file, "x").unwrap();
    tree.write(1, b"c").unwrap();
    let finished = tree.finish();
    assert!(matches!(&finished, Err(ReceiveError::PartTouched(at)) if *at == file), "{finished:?}");
    assert_eq!(fs::read(&other).unwrap(), b"c", "a file was numbered that lies where another belongs");
    fs::hard_link(&other, folder.path().join("elsewhere")).unwrap();
    tree.write(0, b"b").unwrap();
    let finished = tree.finish();
    assert!(matches!(&finished, Err(ReceiveError::PartTouched(at)) if *at == other), "{finished:?}");
    assert!(!folder.path().join("photos").exists());
}

#[test]
fn a_file_in_the_place_of_a_folder_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = manifest(&["a/", "a/b=b"]);
    let tree = open(folder.path(), &manifest, Collision::Refuse).unwrap();
    fs::write(folder.path().join(".photos.qpart/tree/a"), "EVIL").unwrap();
    tree.make_folder(0).unwrap();
    tree.write(1, b"b").unwrap();
    assert_eq!(contents(&tree.finish().unwrap()), expected(&["a/", "a/b=b"]));
}
