//! What others do to a part file while it is received, and before: noticed, and never under the final name.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::wire::ids::FileName;

fn safe(name: &str) -> SafeName {
    SafeName::from_remote(&FileName::parse(name).unwrap())
}

fn open(folder: &Path, collision: Collision) -> Result<PartialFile, ReceiveError> {
    PartialFile::open(&ReceiveFolder::open(folder).unwrap(), &safe("file"), 3, collision)
}

/// A folder, and the path of the part file in it.
fn folder_and_part() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let part = folder.path().join(".file.qpart");
    (folder, part)
}

/// Opens the part file of an unfinished transfer of `abc` and writes it.
fn written(folder: &Path) -> PartialFile {
    let partial = open(folder, Collision::Refuse).unwrap();
    partial.write_at(b"abc", 0).unwrap();
    partial
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

/// Writes as somebody else, until the kernel's clock has moved: before 6.13 it stands still for milliseconds.
fn write_as_somebody_else(part: &Path, bytes: &[u8]) {
    let times = || Traces::of(&fs::metadata(part).unwrap());
    let before = times();
    while times() == before {
        fs::OpenOptions::new().write(true).open(part).unwrap().write_all_at(bytes, 0).unwrap();
    }
}

#[test]
fn only_what_was_written_gets_the_final_name() {
    let (folder, part) = folder_and_part();
    let partial = written(folder.path());
    fs::remove_file(&part).unwrap();
    let second = open(folder.path(), Collision::Refuse).unwrap();
    assert!(matches!(partial.complete(), Err(ReceiveError::PartReplaced(_))));
    assert!(!folder.path().join("file").exists(), "a half file has the final name");
    second.write_at(b"xyz", 0).unwrap();
    assert_eq!(fs::read(second.complete().unwrap()).unwrap(), b"xyz");
}

#[test]
fn a_part_file_that_is_removed_stops_its_transfer() {
    let (folder, part) = folder_and_part();
    let partial = written(folder.path());
    fs::remove_file(&part).unwrap();
    let failed = partial.write_at(b"d", 2).unwrap_err();
    assert!(matches!(&failed, ReceiveError::PartRemoved(path) if *path == part), "{failed}");
    assert!(matches!(partial.complete(), Err(ReceiveError::PartRemoved(_))));
}

#[test]
fn what_another_file_replaced_is_not_renamed() {
    let (folder, part) = folder_and_part();
    let partial = written(folder.path());
    fs::rename(&part, folder.path().join("kept")).unwrap();
    fs::write(&part, "xyz").unwrap();
    assert!(matches!(partial.complete(), Err(ReceiveError::PartReplaced(_))));
    assert!(!folder.path().join("file").exists());
}

/// What somebody put in the place of the part file, and how, beside a file of theirs.
type Plant = (&'static str, fn(&Path, &Path));

#[test]
fn only_a_plain_file_of_ours_is_written_to() {
    let plants: [Plant; 5] = [
        ("a link", |victim, part| symlink(victim, part).unwrap()),
        ("a link to nowhere", |_, part| symlink("/nowhere/at/all", part).unwrap()),
        ("a second name", |victim, part| fs::hard_link(victim, part).unwrap()),
        ("a folder", |_, part| fs::create_dir(part).unwrap()),
        ("a pipe", |_, part| rustix::fs::mknodat(rustix::fs::CWD, part, FileType::Fifo, Mode::RWXU, 0).unwrap()),
    ];
    for (what, plant) in plants {
        let (folder, part) = folder_and_part();
        let victim = folder.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        plant(&victim, &part);
        let refused = open(folder.path(), Collision::Refuse).unwrap_err();
        assert!(matches!(&refused, ReceiveError::PartReplaced(path) if *path == part), "{what}: {refused}");
        assert_eq!(fs::read(&victim).unwrap(), b"precious", "{what}");
        assert!(part.symlink_metadata().is_ok(), "{what} is not ours to remove");
    }
}

#[test]
fn a_part_file_of_somebody_else_is_not_written_to() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (folder, part) = folder_and_part();
    fs::write(&part, "ab").unwrap();
    std::os::unix::fs::chown(&part, Some(65_534), None).unwrap();
    assert!(matches!(open(folder.path(), Collision::Refuse), Err(ReceiveError::PartReplaced(_))));
    assert_eq!(fs::read(&part).unwrap(), b"ab");
}

#[test]
fn two_transfers_do_not_share_a_part_file() {
    let (folder, _) = folder_and_part();
    let first = open(folder.path(), Collision::Rename).unwrap();
    assert!(matches!(open(folder.path(), Collision::Rename), Err(ReceiveError::InUse(_))));
    first.discard_if_empty();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

fn tree_of(content: &[u8]) -> HashTree {
    HashTree::of_reader(&mut &*content, &mut |_| {}).unwrap().1
}

#[test]
fn what_somebody_else_wrote_to_never_gets_the_final_name_unread() {
    let (folder, part) = folder_and_part();
    let partial = written(folder.path());
    write_as_somebody_else(&part, b"X");
    // The time that is easy to set back is not the only one.
    File::open(&part).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    partial.write_at(b"bc", 1).unwrap();
    assert!(matches!(partial.complete(), Err(ReceiveError::PartTouched(_))));
    assert!(!folder.path().join("file").exists());
    assert!(part.exists(), "what is right of it is kept");
}

#[test]
fn wrong_bytes_of_somebody_else_are_found_and_come_again() {
    let (folder, part) = folder_and_part();
    let tree = tree_of(b"abc");
    let partial = open(folder.path(), Collision::Refuse).unwrap();
    assert!(partial.groups_here(&tree, &mut |_| true).unwrap().is_empty());
    partial.write_at(b"abc", 0).unwrap();
    write_as_somebody_else(&part, b"X");
    let found = partial.complete().unwrap_err();
    assert!(matches!(&found, ReceiveError::PartTouched(path) if *path == part), "{found}");
    let again = open(folder.path(), Collision::Refuse).unwrap();
    assert!(again.groups_here(&tree, &mut |_| true).unwrap().is_empty(), "the group is wrong");
    again.write_at(b"abc", 0).unwrap();
    assert_eq!(fs::read(again.complete().unwrap()).unwrap(), b"abc");
}

#[test]
fn whoever_writes_what_is_right_does_no_harm() {
    let (folder, part) = folder_and_part();
    let partial = open(folder.path(), Collision::Refuse).unwrap();
    assert!(partial.groups_here(&tree_of(b"abc"), &mut |_| true).unwrap().is_empty());
    partial.write_at(b"abc", 0).unwrap();
    write_as_somebody_else(&part, b"a");
    assert_eq!(fs::read(partial.complete().unwrap()).unwrap(), b"abc");
}

#[test]
fn holes_are_not_read() {
    let (folder, _) = folder_and_part();
    let content = vec![7; 5 * 256 * 1_024];
    let group = |number: usize| &content[number * 256 * 1_024..(number + 1) * 256 * 1_024];
    let target = ReceiveFolder::open(folder.path()).unwrap();
    let partial = PartialFile::open(&target, &safe("file"), content.len() as u64, Collision::Refuse).unwrap();
    for number in [1, 3] {
        partial.write_at(group(number), number as u64 * GROUP_BYTES).unwrap();
    }
    let mut read = Vec::new();
    let mut note = |done| {
        read.push(done / GROUP_BYTES);
        true
    };
    let here = partial.groups_here(&tree_of(&content), &mut note).unwrap();
    assert_eq!((here, read), (vec![1, 3], vec![2, 4]));
    let here = partial.groups_here(&tree_of(&content), &mut |_| false).unwrap();
    assert_eq!(here, [1], "more was read than anybody wants to know");
}

#[test]
fn a_folder_that_vanishes_is_named() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("folder");
    fs::create_dir(&folder).unwrap();
    let partial = written(&folder);
    fs::remove_dir_all(&folder).unwrap();
    let failed = partial.write_at(b"d", 2).unwrap_err();
    assert!(matches!(&failed, ReceiveError::NoFolder(gone) if *gone == folder), "{failed}");
    assert!(matches!(partial.complete(), Err(ReceiveError::NoFolder(_))));
}

#[test]
fn a_folder_that_becomes_a_link_leads_nowhere_else() {
    let root = tempfile::tempdir().unwrap();
    let (folder, moved, other) = (root.path().join("folder"), root.path().join("moved"), root.path().join("other"));
    fs::create_dir(&folder).unwrap();
    fs::create_dir(&other).unwrap();
    let partial = written(&folder);
    fs::rename(&folder, &moved).unwrap();
    symlink(&other, &folder).unwrap();
    partial.complete().unwrap();
    assert_eq!(fs::read(moved.join("file")).unwrap(), b"abc");
    assert_eq!(fs::read_dir(&other).unwrap().count(), 0);
}

#[test]
fn a_file_is_said_to_lie_where_its_folder_is_by_then() {
    for collision in [Collision::Refuse, Collision::Overwrite, Collision::Rename] {
        let root = tempfile::tempdir().unwrap();
        let (folder, moved, other) = (root.path().join("folder"), root.path().join("moved"), root.path().join("other"));
        fs::create_dir(&folder).unwrap();
        fs::create_dir(&other).unwrap();
        let partials = ["gone", "replaced"].map(|name| {
            let opened = ReceiveFolder::open(&folder).unwrap();
            PartialFile::open(&opened, &safe(name), 0, collision).unwrap()
        });
        let [gone, replaced] = partials;
        fs::rename(&folder, &moved).unwrap();
        let moved = moved.canonicalize().unwrap();
        assert_eq!(gone.complete().unwrap(), moved.join("gone"), "{collision:?}");
        symlink(&other, &folder).unwrap();
        assert_eq!(replaced.complete_unsynced().unwrap(), moved.join("replaced"), "{collision:?}");
        assert!(moved.join("gone").exists() && moved.join("replaced").exists());
    }
}

#[test]
fn a_file_is_for_this_user_alone_until_it_is_whole_and_executable_only_when_asked() {
    let (folder, part) = folder_and_part();
    fs::write(&part, "ab").unwrap();
    fs::set_permissions(&part, Permissions::from_mode(0o777)).unwrap();
    let mut partial = written(folder.path());
    assert_eq!(mode(&part), 0o600);
    let time = SystemTime::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 5);
    partial.set_modified(time);
    let whole = partial.complete().unwrap();
    fs::write(folder.path().join("ordinary"), "").unwrap();
    assert_eq!(mode(&whole), mode(&folder.path().join("ordinary")), "as the umask wants it");
    assert_eq!(fs::metadata(&whole).unwrap().modified().unwrap(), time);

    let folder = tempfile::tempdir().unwrap();
    let mut partial = written(folder.path());
    partial.set_executable(true);
    assert_eq!(mode(&partial.complete_unsynced().unwrap()) & 0o100, 0o100);
}

#[test]
fn a_file_without_room_is_refused_before_anything_of_it_is_here() {
    let (folder, part) = folder_and_part();
    let target = ReceiveFolder::open(folder.path()).unwrap();
    let free = target.free_bytes().unwrap();
    let refused = PartialFile::open(&target, &safe("file"), u64::MAX / 2, Collision::Refuse).unwrap_err();
    let ReceiveError::NoSpace { needed, .. } = refused else { panic!("{refused}") };
    assert!(needed > free);
    assert!(refused.to_string().starts_with("file needs 7.99 EiB, "), "{refused}");
    assert!(!part.exists());
}

#[test]
fn what_is_here_already_needs_no_room_and_holes_do() {
    let (folder, part) = folder_and_part();
    let target = ReceiveFolder::open(folder.path()).unwrap();
    let size = target.free_bytes().unwrap() + (1 << 30);
    let sparse = File::create(&part).unwrap();
    sparse.set_len(size).unwrap();
    let refused = PartialFile::open(&target, &safe("file"), size, Collision::Refuse).unwrap_err();
    assert!(matches!(refused, ReceiveError::NoSpace { needed, .. } if needed == size), "{refused}");
    assert!(part.exists(), "what an earlier transfer left is kept");
}

#[test]
fn only_a_file_is_overwritten() {
    let (folder, _) = folder_and_part();
    fs::create_dir(folder.path().join("file")).unwrap();
    assert!(matches!(open(folder.path(), Collision::Overwrite), Err(ReceiveError::InTheWay { .. })));
    let partial = open(folder.path(), Collision::Rename).unwrap();
    partial.write_at(b"abc", 0).unwrap();
    assert_eq!(partial.complete().unwrap(), folder.path().join("file (1)"));
}

#[test]
fn a_file_that_appears_meanwhile_stays() {
    for (collision, expected) in [(Collision::Refuse, None), (Collision::Rename, Some("file (1)"))] {
        let (folder, part) = folder_and_part();
        let partial = open(folder.path(), collision).unwrap();
        partial.write_at(b"abc", 0).unwrap();
        fs::write(folder.path().join("file"), "precious").unwrap();
        let completed = partial.complete();
        assert_eq!(completed.is_err(), part.exists(), "kept unless it has its name");
        assert_eq!(completed.ok(), expected.map(|name| folder.path().join(name)));
        assert_eq!(fs::read(folder.path().join("file")).unwrap(), b"precious");
    }
}

#[test]
fn amounts_read_as_people_say_them() {
    for (bytes, said) in [(0, "0 B"), (1_023, "1023 B"), (1_024, "1.00 KiB"), (1_610_612_736, "1.50 GiB")] {
        assert_eq!(Amount(bytes).to_string(), said);
    }
    assert_eq!(Amount(u64::MAX).to_string(), "15.99 EiB");
}
