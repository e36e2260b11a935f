//! What may happen to a file while it is received or served: wrong bits, a full disk, somebody else at the part file, an
//! owner who writes to it. Each ends with the right word, and never with wrong bytes under the final name.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command as Program;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use qchat::peer::event::Event;
use qchat::peer::failure::{Failure, FailureKind};
use qchat::seal::digest::HashTree;
use qchat::storage::partial_file::Collision;
use qchat::transport::stream::Stream;
use qchat::wire::chunk::{Decoder, Step};
use qchat::wire::codec;
use qchat::wire::ids::FileDigest;
use qchat::wire::refusal::Refusal;
use qchat::wire::transfer::{Fetch, FetchAnswer, FetchPart, PeerRequest};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::sync::oneshot;

use crate::chunks::{FILE_BYTES, GROUP, Lie, Owner};
use crate::world::{Dice, ERRAND, Fetched, RawClient, TestDirectory, TestPeer, content, in_time};

/// A bit of each kind of byte, and so many others.
const FLIPPED_BITS: usize = 30;

/// Far more writes than fit between two steps of a receiver.
const TAMPERINGS: usize = 2_000;

/// What a sender that nobody reads from cannot have sent.
const LARGE_GROUPS: usize = 96;

/// Fetches the owner's file while the owner does what it does.
async fn fetch_into(folder: &Path, peer: &TestPeer, owner: &mut Owner, lie: Lie) -> Fetched {
    tokio::select! {
        never = owner.serve(lie) => match never {},
        got = peer.get_into(folder.to_owned(), "mallory", "bait", Collision::Refuse) => got,
    }
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_flipped_bit_costs_its_group_and_no_other() {
    let directory = TestDirectory::start();
    let alice = TestPeer::join(&directory, "alice").await;
    let mut owner = Owner::publishing(&directory, content(FILE_BYTES)).await;
    // Three groups of chunks, and the end marker.
    let encoded_group = GROUP + GROUP.div_ceil(200);
    let all_bytes = 2 * encoded_group + 401 + 3 + 1;
    let mut dice = Dice(0xb17);
    let mut bits: Vec<usize> = (0..FLIPPED_BITS).map(|_| dice.below(all_bytes * 8)).collect();
    bits.extend([0, 7, 8, 201 * 8, encoded_group * 8, (all_bytes - 3) * 8, all_bytes * 8 - 1]);
    for bit in bits {
        let folder = tempfile::tempdir().unwrap();
        let failure = fetch_into(folder.path(), &alice, &mut owner, Lie::FlippedBit(bit)).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Integrity, "bit {bit}: {failure}");
        assert!(failure.message.contains("mallory"), "bit {bit}: {failure}");
        assert!(!folder.path().join("bait").exists(), "bit {bit} became a file");
        let (path, resumed) = fetch_into(folder.path(), &alice, &mut owner, Lie::None).await.unwrap();
        assert!(fs::read(path).unwrap() == content(FILE_BYTES), "bit {bit}");
        let groups_before = (bit / 8 / encoded_group).min(2);
        assert!(resumed >= (groups_before * GROUP) as u64, "bit {bit}: only {resumed} bytes were kept");
    }
}

#[tokio::test]
async fn a_file_larger_than_the_disk_is_not_begun() {
    let directory = TestDirectory::start();
    let alice = TestPeer::join(&directory, "alice").await;
    let mut owner = Owner::publishing_as(&directory, content(GROUP), 1 << 40).await;
    let folder = tempfile::tempdir().unwrap();
    let Some(_tmpfs) = Tmpfs::mount(folder.path()) else { return };
    let failure = fetch_into(folder.path(), &alice, &mut owner, Lie::None).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Disk);
    let said = format!("bait needs 1.00 TiB, 1.00 MiB are free in {}", folder.path().display());
    assert_eq!(failure.message, said);
    assert_eq!(names_in(folder.path()), [""; 0]);
}

#[tokio::test]
async fn a_disk_that_becomes_full_keeps_what_came_and_goes_on_when_there_is_room() {
    let directory = TestDirectory::start();
    let alice = TestPeer::join(&directory, "alice").await;
    let mut owner = Owner::publishing(&directory, content(FILE_BYTES)).await;
    let folder = tempfile::tempdir().unwrap();
    let Some(_tmpfs) = Tmpfs::mount(folder.path()) else { return };
    let ballast = folder.path().join("ballast");
    let fill = ballast.clone();
    owner.meanwhile = Some(Box::new(move || fs::write(fill, vec![1; 700 * 1_024]).unwrap()));

    let failure = fetch_into(folder.path(), &alice, &mut owner, Lie::None).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Disk, "{failure}");
    assert!(failure.message.contains("No space left"), "{failure}");
    assert!(failure.hint.unwrap().contains("free some space"));
    assert_eq!(names_in(folder.path()), [".bait.qpart", "ballast"]);

    fs::remove_file(ballast).unwrap();
    let (path, resumed) = fetch_into(folder.path(), &alice, &mut owner, Lie::None).await.unwrap();
    assert!(resumed >= GROUP as u64, "{resumed}");
    assert!(fs::read(path).unwrap() == content(FILE_BYTES));
}

/// What somebody else does in the target folder while a file comes, and how the transfer ends.
type Meanwhile = (&'static str, fn(&Path), FailureKind, &'static str);

#[tokio::test]
async fn whatever_is_done_to_the_folder_meanwhile_is_named() {
    let directory = TestDirectory::start();
    let alice = TestPeer::join(&directory, "alice").await;
    let mut owner = Owner::publishing(&directory, content(FILE_BYTES)).await;
    let cases: [Meanwhile; 4] = [
        ("removes it", |folder| fs::remove_dir_all(folder).unwrap(), FailureKind::Usage, "there is no folder"),
        ("removes the part file", |folder| fs::remove_file(part(folder)).unwrap(), FailureKind::Other, "was removed"),
        ("makes the file", |folder| fs::write(folder.join("bait"), "precious").unwrap(), FailureKind::Other, "exists"),
        ("replaces the part file", replace_part, FailureKind::Other, "is not the one this transfer writes"),
    ];
    for (what, act, kind, says) in cases {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("folder");
        fs::create_dir(&folder).unwrap();
        let acted_on = folder.clone();
        owner.meanwhile = Some(Box::new(move || act(&acted_on)));
        let failure = fetch_into(&folder, &alice, &mut owner, Lie::None).await.unwrap_err();
        assert_eq!(failure.kind, kind, "somebody {what}: {failure}");
        assert!(failure.message.contains(says), "somebody {what}: {failure}");
        let whole = fs::read(folder.join("bait")).unwrap_or_else(|_| b"precious".to_vec());
        assert_eq!(whole, b"precious", "somebody {what}");
    }
}

fn part(folder: &Path) -> PathBuf {
    folder.join(".bait.qpart")
}

fn replace_part(folder: &Path) {
    fs::rename(part(folder), folder.join("elsewhere")).unwrap();
    symlink("elsewhere", part(folder)).unwrap();
}

#[tokio::test]
async fn what_somebody_else_writes_into_the_part_file_meanwhile_is_found_and_comes_again() {
    let directory = TestDirectory::start();
    let alice = TestPeer::join(&directory, "alice").await;
    let mut owner = Owner::publishing(&directory, content(FILE_BYTES)).await;
    let folder = tempfile::tempdir().unwrap();
    let (has_begun, begun) = oneshot::channel();
    owner.held_until = Some(begun);
    let (path, is_over) = (part(folder.path()), Arc::new(AtomicBool::new(false)));
    let tampering = std::thread::spawn({
        let is_over = is_over.clone();
        move || tamper_until(&is_over, &path, has_begun)
    });

    let got = fetch_into(folder.path(), &alice, &mut owner, Lie::None).await;
    is_over.store(true, Ordering::Relaxed);
    tampering.join().unwrap();
    let failure = got.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Partial, "{failure}");
    assert!(failure.message.starts_with("somebody else wrote to the part file"), "{failure}");
    assert_eq!(names_in(folder.path()), [".bait.qpart"]);

    let (path, resumed) = fetch_into(folder.path(), &alice, &mut owner, Lie::None).await.unwrap();
    assert_eq!(resumed, (FILE_BYTES - GROUP) as u64, "only what is wrong comes again");
    assert!(fs::read(path).unwrap() == content(FILE_BYTES));
}

/// Waits for the first group, and writes to it without end: what falls between a write of the receiver and its look at the
/// file's times is the one thing that it cannot notice.
fn tamper_until(is_over: &AtomicBool, part: &Path, has_begun: oneshot::Sender<()>) {
    let mut has_begun = Some(has_begun);
    let mut writes = 0;
    while !is_over.load(Ordering::Relaxed) {
        if fs::metadata(part).map_or(0, |found| found.len()) < GROUP as u64 {
            std::thread::yield_now();
        } else if let Ok(mut file) = fs::OpenOptions::new().write(true).open(part) {
            file.write_all(b"XXXX").unwrap();
            writes += 1;
            if writes == TAMPERINGS {
                drop(has_begun.take());
            }
        }
    }
}

#[tokio::test]
async fn a_file_that_appeared_meanwhile_is_stepped_aside_for_later() {
    let directory = TestDirectory::start();
    let alice = TestPeer::join(&directory, "alice").await;
    let mut owner = Owner::publishing(&directory, content(FILE_BYTES)).await;
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("bait");
    let appears = target.clone();
    owner.meanwhile = Some(Box::new(move || fs::write(appears, "precious").unwrap()));
    fetch_into(folder.path(), &alice, &mut owner, Lie::None).await.unwrap_err();
    let (path, resumed) = tokio::select! {
        never = owner.serve(Lie::None) => match never {},
        got = alice.get_into(folder.path().to_owned(), "mallory", "bait", Collision::Rename) => got,
    }
    .unwrap();
    assert_eq!((path, resumed), (folder.path().join("bait (1)"), FILE_BYTES as u64));
    assert_eq!(fs::read(target).unwrap(), b"precious");
}

/// What somebody does to a file, or in a folder.
type Deed = (&'static str, fn(&Path));

#[tokio::test]
async fn what_lies_in_the_place_of_a_part_file_is_named_and_left_alone() {
    let directory = TestDirectory::start();
    let (alice, bob) = (TestPeer::join(&directory, "alice").await, TestPeer::join(&directory, "bob").await);
    alice.share("bait", b"small").await;
    let plants: [Deed; 4] = [
        ("a link", |folder| symlink("victim", part(folder)).unwrap()),
        ("a second name", |folder| fs::hard_link(folder.join("victim"), part(folder)).unwrap()),
        ("a folder", |folder| fs::create_dir(part(folder)).unwrap()),
        ("a pipe", |folder| mknodat(CWD, part(folder), FileType::Fifo, Mode::RWXU, 0).unwrap()),
    ];
    for (what, plant) in plants {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("victim"), "precious").unwrap();
        plant(folder.path());
        let failure = bob.get_into(folder.path().to_owned(), "alice", "bait", Collision::Refuse).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Other, "{what}: {failure}");
        assert!(failure.message.contains(".bait.qpart is not the one"), "{what}: {failure}");
        assert_eq!(fs::read(folder.path().join("victim")).unwrap(), b"precious", "{what}");
        assert_eq!(names_in(folder.path()), [".bait.qpart", "victim"], "{what}");
    }
}

/// 24 MiB without two equal groups.
fn large_content() -> Vec<u8> {
    let group = content(GROUP);
    let mut all = group.repeat(LARGE_GROUPS);
    for (number, group) in all.chunks_mut(GROUP).enumerate() {
        group[..8].copy_from_slice(&number.to_le_bytes());
    }
    all
}

/// Reads what is asked for, after `meanwhile` was done when its first bytes were here: its bytes, or the refusal.
async fn read_slowly(
    connection_to: (&TestDirectory, &TestPeer),
    digest: FileDigest,
    meanwhile: impl FnOnce(),
) -> Result<Vec<u8>, Refusal> {
    let (directory, owner) = connection_to;
    let carol = RawClient::registered(directory, "carol", ERRAND).await;
    owner.allow("carol").await;
    let connection = carol.dial("alice", owner.key()).await;
    let mut stream = connection.open_stream().await.unwrap();
    let part = FetchPart::Groups { first: 0, count: LARGE_GROUPS as u64 };
    stream.write_frame(&PeerRequest::Fetch(Fetch { digest, part })).await.unwrap();
    stream.finish();
    let answer: FetchAnswer = in_time(stream.read_frame()).await.unwrap();
    answer?;
    meanwhile();
    read_groups(&mut stream).await
}

async fn read_groups(stream: &mut Stream) -> Result<Vec<u8>, Refusal> {
    let mut encoded = Vec::new();
    while let Some(bytes) = in_time(stream.read()).await.unwrap() {
        encoded.extend_from_slice(&bytes);
    }
    let (mut input, mut out, mut decoder) = (&*encoded, Vec::new(), Decoder::default());
    for _ in 0..LARGE_GROUPS {
        decoder.expect_group(GROUP);
        match decoder.decode(&mut input, &mut out).unwrap() {
            Step::GroupComplete => {}
            Step::RefusalFollows => return Err(codec::decode(&input[codec::HEADER_BYTES..]).unwrap()),
            Step::NeedInput => panic!("the stream ended within a group"),
        }
    }
    Ok(out)
}

#[tokio::test]
async fn an_owner_who_writes_to_a_file_while_it_is_served_is_told_and_so_is_its_receiver() {
    let append: fn(&Path) = |path| fs::OpenOptions::new().append(true).open(path).unwrap().write_all(b"more").unwrap();
    let touch: fn(&Path) = |path| {
        fs::File::open(path).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    };
    let changes: [Deed; 4] = [
        ("grows", append),
        ("shrinks", |path| fs::OpenOptions::new().write(true).open(path).unwrap().set_len(1_000_000).unwrap()),
        ("is emptied", |path| fs::write(path, "").unwrap()),
        ("gets another time", touch),
    ];
    for (what, change) in changes {
        let directory = TestDirectory::start();
        let mut alice = TestPeer::join(&directory, "alice").await;
        let content = large_content();
        let path = alice.share("big", &content).await;
        let digest = HashTree::of_reader(&mut &*content, &mut |_| {}).unwrap().0;
        let read = read_slowly((&directory, &alice), digest, || change(&path)).await;
        assert_eq!(read.map(|bytes| bytes.len()), Err(Refusal::FileChanged), "a file that {what}");
        let told = alice.until(|event| match event {
            Event::Note { text } if text.contains("changed while") => Some(text.clone()),
            _ => None,
        });
        let told = told.await;
        assert!(told.contains("carol asked for big") && told.contains("share it again"), "{told}");
    }
}

#[tokio::test]
async fn a_file_that_is_replaced_while_it_is_served_comes_as_it_was() {
    let directory = TestDirectory::start();
    let alice = TestPeer::join(&directory, "alice").await;
    let content = large_content();
    let path = alice.share("big", &content).await;
    let digest = HashTree::of_reader(&mut &*content, &mut |_| {}).unwrap().0;
    let replace = || {
        fs::write(path.with_extension("new"), "another one").unwrap();
        fs::rename(path.with_extension("new"), &path).unwrap();
    };
    let read = read_slowly((&directory, &alice), digest, replace).await;
    assert!(read.unwrap() == content, "the open file is still the one that was shared");
    let bob = TestPeer::join(&directory, "bob").await;
    let failure: Failure = bob.get("alice", "big", Collision::Refuse).await.unwrap_err();
    assert_eq!((failure.kind, failure.refusal), (FailureKind::Integrity, Some(Refusal::FileChanged.number())));
}

#[tokio::test]
async fn other_bytes_of_equal_size_and_time_are_no_file_of_that_digest() {
    let directory = TestDirectory::start();
    let (alice, bob) = (TestPeer::join(&directory, "alice").await, TestPeer::join(&directory, "bob").await);
    let path = alice.share("bait", &content(3 * GROUP)).await;
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all(b"XXXX").unwrap();
    file.set_modified(modified).unwrap();
    let failure = bob.get("alice", "bait", Collision::Refuse).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Integrity);
    assert!(failure.message.contains("alice sent bytes that are not bait"), "{failure}");
    assert!(!bob.machine.downloads().join("bait").exists());
}

/// A file system of one megabyte; unmounted when it is dropped.
struct Tmpfs<'a>(&'a Path);

impl<'a> Tmpfs<'a> {
    /// `None` where the tests may not mount.
    fn mount(on: &'a Path) -> Option<Self> {
        let mut mount = Program::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(on);
        mount.output().is_ok_and(|output| output.status.success()).then_some(Self(on))
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        drop(Program::new("umount").arg(self.0).output());
    }
}
