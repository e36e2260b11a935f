//! Transfers that an earlier run of the program has left: those whose end came just before it could be noted, and those that
//! are in the way of another one.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use qchat::peer::event::Event;
use qchat::peer::failure::FailureKind;
use qchat::peer::handle::Command;
use qchat::peer::rows::TransferState;
use qchat::storage::partial_file::Collision;
use qchat::storage::receive_tree::Executable;
use qchat::storage::transfers::{self, KeptState, KeptTransfer};
use qchat::wire::catalog::EntryKind;
use qchat::wire::ids::{FileDigest, FileSize, MessageId, TransferId, UnixMillis};

use crate::world::{Machine, TestDirectory, TestPeer, content, file_name, name};

const SIZE: usize = 3 * 256 * 1_024 + 5;

/// What alice has, as bob's profile says that it is to come.
struct Wanted {
    name: &'static str,
    size: u64,
    digest: FileDigest,
    kind: EntryKind,
    offer: Option<MessageId>,
}

impl Wanted {
    fn kept(&self, alice: &TestPeer, bob: &Machine, state: KeptState, collision: Collision) -> KeptTransfer {
        KeptTransfer {
            id: TransferId::from_bytes([7; 16]),
            begun_at: UnixMillis(1),
            sources: vec![(name("alice"), alice.key())],
            name: file_name(self.name),
            size: FileSize::try_from(self.size).unwrap(),
            digest: self.digest,
            kind: self.kind,
            folder: bob.downloads(),
            folder_id: None,
            collision,
            executable: Executable::Never,
            offer: self.offer,
            state,
            reason: None,
            done: 0,
        }
    }
}

/// Shares what lies at a path.
async fn shared(alice: &TestPeer, path: &Path, called: &'static str) -> Wanted {
    let share = Command::Share { path: path.to_owned(), hides_address: false, filter: Default::default() };
    let rows = alice.ask(share).await.unwrap();
    let Some(Event::Shared { size, digest, files, .. }) = rows.last() else { panic!("{rows:?}") };
    let kind = files.map_or(EntryKind::File, |files| EntryKind::Folder { files });
    Wanted { name: called, size: *size, digest: *digest, kind, offer: None }
}

async fn put(bob: &Machine, kept: KeptTransfer) {
    assert!(transfers::put(bob.profile().database(), kept).await.unwrap());
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Where what was received lies, and how much of it was here.
async fn received(peer: &mut TestPeer) -> (PathBuf, u64) {
    peer.until(|event| match event {
        Event::Received { path, resumed, .. } => Some((path.clone(), *resumed)),
        Event::Transfer(row) if row.state == TransferState::Failed => panic!("it stopped: {row:?}"),
        _ => None,
    })
    .await
}

async fn sent(peer: &mut TestPeer) -> (FileDigest, Option<MessageId>) {
    peer.until(|event| match event {
        Event::Sent { digest, offer, .. } => Some((*digest, *offer)),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn what_has_its_name_already_counts_as_received_whatever_was_to_be_done_about_a_name_that_is_taken() {
    let directory = TestDirectory::start();
    let (mut alice, bob) = (TestPeer::join(&directory, "alice").await, TestPeer::join(&directory, "bob").await);
    let mut machine = bob.stop().await;
    let file = alice.machine.file("file", &content(SIZE));
    let photos = alice.machine.file("one", b"").with_file_name("photos");
    fs::create_dir_all(photos.join("a/empty")).unwrap();
    fs::write(photos.join("a/small"), content(99)).unwrap();
    fs::write(photos.join("large"), content(SIZE)).unwrap();
    for wanted in [shared(&alice, &file, "file").await, shared(&alice, &photos, "photos").await] {
        for collision in [Collision::Refuse, Collision::Rename, Collision::Overwrite] {
            let target = machine.downloads().join(wanted.name);
            if wanted.kind == EntryKind::File {
                fs::write(&target, content(SIZE)).unwrap();
            } else {
                fs::create_dir_all(target.join("a/empty")).unwrap();
                fs::write(target.join("a/small"), content(99)).unwrap();
                fs::write(target.join("large"), content(SIZE)).unwrap();
                // Killed before that was removed.
                fs::create_dir_all(machine.downloads().join(".photos.qpart/parts")).unwrap();
            }
            let inode = fs::metadata(&target).unwrap().ino();
            put(&machine, wanted.kept(&alice, &machine, KeptState::Active, collision)).await;

            let mut bob = machine.resident().await;

            assert_eq!(received(&mut bob).await, (target.clone(), wanted.size), "{}, {collision:?}", wanted.name);
            assert_eq!(sent(&mut alice).await, (wanted.digest, None), "{}, {collision:?}", wanted.name);
            assert_eq!(names_in(&machine.downloads()), [wanted.name], "{collision:?}");
            assert_eq!(fs::metadata(&target).unwrap().ino(), inode, "it was fetched again");
            assert_eq!(bob.ask(Command::Transfers).await.unwrap(), []);
            machine = bob.stop().await;
            if target.is_dir() { fs::remove_dir_all(target).unwrap() } else { fs::remove_file(target).unwrap() }
        }
    }
}

#[tokio::test]
async fn an_offer_whose_file_has_its_name_already_is_answered_or_was_answered_before() {
    let directory = TestDirectory::start();
    let (mut alice, mut bob) = (TestPeer::join(&directory, "alice").await, TestPeer::join(&directory, "bob").await);
    let path = alice.machine.file("file", &content(SIZE));
    alice
        .ask(Command::Send { to: name("bob"), paths: vec![path], wait: false, filter: Default::default() })
        .await
        .unwrap();
    let offered = bob.until(|event| match event {
        Event::Offer { id, digest, .. } => Some((*id, *digest)),
        _ => None,
    });
    let (id, digest) = offered.await;
    let wanted = Wanted { name: "file", size: SIZE as u64, digest, kind: EntryKind::File, offer: Some(id) };
    let mut machine = bob.stop().await;
    let target = machine.downloads().join("file");
    fs::write(&target, content(SIZE)).unwrap();
    for is_told in [false, true] {
        put(&machine, wanted.kept(&alice, &machine, KeptState::Active, Collision::Refuse)).await;
        let mut bob = machine.resident().await;
        assert_eq!(received(&mut bob).await, (target.clone(), wanted.size), "told before: {is_told}");
        if !is_told {
            assert_eq!(sent(&mut alice).await, (digest, Some(id)));
        }
        assert_eq!(bob.ask(Command::Offers).await.unwrap(), [], "it is answered");
        machine = bob.stop().await;
    }
}

#[tokio::test]
async fn what_has_another_content_is_nobodys_end() {
    let directory = TestDirectory::start();
    let (alice, bob) = (TestPeer::join(&directory, "alice").await, TestPeer::join(&directory, "bob").await);
    let machine = bob.stop().await;
    let wanted = shared(&alice, &alice.machine.file("file", &content(SIZE)), "file").await;
    let mut other = content(SIZE);
    other[SIZE - 1] ^= 1;
    fs::write(machine.downloads().join("file"), &other).unwrap();
    put(&machine, wanted.kept(&alice, &machine, KeptState::Active, Collision::Rename)).await;
    let mut bob = machine.resident().await;
    assert_eq!(received(&mut bob).await, (machine.downloads().join("file (1)"), 0));
    assert!(fs::read(machine.downloads().join("file")).unwrap() == other, "what was there is another one now");
}

#[tokio::test]
async fn a_folder_that_was_changed_and_shared_again_is_named_and_what_came_of_it_is_kept() {
    let directory = TestDirectory::start();
    let (alice, bob) = (TestPeer::join(&directory, "alice").await, TestPeer::join(&directory, "bob").await);
    let machine = bob.stop().await;
    let photos = alice.machine.file("one", b"").with_file_name("photos");
    fs::create_dir(&photos).unwrap();
    fs::write(photos.join("same"), content(SIZE)).unwrap();
    fs::write(photos.join("other"), "before").unwrap();
    let before = shared(&alice, &photos, "photos").await;
    fs::write(photos.join("other"), "and after").unwrap();
    shared(&alice, &photos, "photos").await;
    let part = machine.downloads().join(".photos.qpart/tree");
    fs::create_dir_all(&part).unwrap();
    fs::write(part.join("same"), content(SIZE)).unwrap();
    put(&machine, before.kept(&alice, &machine, KeptState::Active, Collision::Refuse)).await;

    let mut bob = machine.resident().await;

    let reason = bob.until(|event| match event {
        Event::Transfer(row) if row.state == TransferState::Failed => row.reason.clone(),
        _ => None,
    });
    assert_eq!(reason.await, "alice has changed photos and shared it again");
    let failure = bob.ask(Command::Resume { which: "photos".to_owned() }).await.unwrap_err();
    assert!(failure.hint.as_deref().is_some_and(|hint| hint.starts_with("`get alice:photos`")), "{failure:?}");
    let (path, resumed) = bob.get("alice", "photos", Collision::Refuse).await.unwrap();
    assert_eq!(resumed, SIZE as u64);
    assert_eq!(fs::read(path.join("other")).unwrap(), b"and after");
    assert_eq!(bob.ask(Command::Transfers).await.unwrap(), []);
}

#[tokio::test]
async fn a_transfer_to_the_same_place_makes_way_when_it_has_ended_and_not_before() {
    let directory = TestDirectory::start();
    let (alice, bob) = (TestPeer::join(&directory, "alice").await, TestPeer::join(&directory, "bob").await);
    let mut machine = bob.stop().await;
    let another = Wanted {
        name: "file",
        size: 1 << 30,
        digest: FileDigest::from_bytes([9; 32]),
        kind: EntryKind::File,
        offer: None,
    };
    alice.share("file", &content(SIZE)).await;
    for (state, makes_way) in [(KeptState::Paused, false), (KeptState::Failed, true), (KeptState::Interrupted, true)] {
        put(&machine, another.kept(&alice, &machine, state, Collision::Refuse)).await;
        // What came of it: its first group is that of the file that is wanted now.
        fs::write(machine.downloads().join(".file.qpart"), &content(SIZE)[..256 * 1_024]).unwrap();
        let bob = machine.resident().await;
        let got = bob.get("alice", "file", Collision::Refuse).await;
        let left = bob.ask(Command::Transfers).await.unwrap();
        if makes_way {
            let (path, resumed) = got.unwrap();
            assert_eq!((resumed, left), (256 * 1_024, vec![]), "{state:?}");
            assert!(fs::read(&path).unwrap() == content(SIZE), "{state:?}");
            fs::remove_file(path).unwrap();
        } else {
            let failure = got.unwrap_err();
            assert_eq!(failure.kind, FailureKind::Other, "{failure}");
            assert!(failure.message.starts_with("another file is on its way to"), "{failure}");
            assert!(failure.hint.is_some_and(|hint| hint.contains("`cancel 07070707`")));
            assert_eq!(left.len(), 1, "{state:?}");
        }
        machine = bob.stop().await;
    }
}
