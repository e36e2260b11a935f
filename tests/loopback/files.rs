//! Files that people share and offer: equal at the other end, only to whom they are for, and resumed where they stopped.

use std::collections::BTreeMap;
use std::fs;

use qchat::peer::event::Event;
use qchat::peer::failure::{Failure, FailureKind};
use qchat::peer::handle::{Command, Source};
use qchat::storage::partial_file::Collision;
use qchat::storage::receive_tree::Executable;
use qchat::wire::ids::{FileDigest, MessageId};
use qchat::wire::refusal::Refusal;
use qchat::wire::rendezvous::Purpose;
use qchat::wire::transfer::{Fetch, FetchAnswer, FetchPart, PeerRequest};

use crate::world::{ERRAND, RawClient, TestDirectory, TestPeer, content, in_time, name, received};

const GROUP: usize = 256 * 1_024;

/// The next offer: its id and the file's digest.
fn offer(event: &Event) -> Option<(MessageId, FileDigest)> {
    match event {
        Event::Offer { id, digest, .. } => Some((*id, *digest)),
        _ => None,
    }
}

fn sent_for(event: &Event) -> Option<Option<MessageId>> {
    match event {
        Event::Sent { offer, .. } => Some(*offer),
        _ => None,
    }
}

async fn alice_and_bob(directory: &TestDirectory) -> (TestPeer, TestPeer) {
    (TestPeer::join(directory, "alice").await, TestPeer::join(directory, "bob").await)
}

async fn accept(peer: &TestPeer, offer: &str) -> Result<Vec<Event>, Failure> {
    let folder = peer.machine.downloads();
    peer.ask(Command::Accept {
        offer: offer.to_owned(),
        folder,
        collision: Collision::Refuse,
        executable: Default::default(),
    })
    .await
}

/// Names of everything in the folder of downloads.
fn downloaded(peer: &TestPeer) -> Vec<String> {
    let entries = fs::read_dir(peer.machine.downloads()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn files_of_every_size_come_over_equal() {
    let directory = TestDirectory::start();
    let (mut alice, bob) = alice_and_bob(&directory).await;
    for size in [0, 1, 199, 200, 201, GROUP, GROUP + 1, 3 * GROUP + 7] {
        let (name, content) = (format!("Grüße aus Köln, {size} 文.bin"), content(size));
        alice.share(&name, &content).await;
        let (path, resumed) = bob.get("alice", &name, Collision::Refuse).await.unwrap();
        assert_eq!(path, bob.machine.downloads().join(&name));
        assert!(fs::read(path).unwrap() == content, "the {size} bytes that came are others");
        assert_eq!(resumed, 0);
        assert_eq!(alice.until(sent_for).await, None);
    }
    assert_eq!(downloaded(&bob).len(), 8, "no part file is left");
}

#[tokio::test]
async fn an_existing_file_is_kept_replaced_or_stepped_aside_for() {
    let directory = TestDirectory::start();
    let (alice, bob) = alice_and_bob(&directory).await;
    alice.share("a.txt", b"new").await;
    let target = bob.machine.downloads().join("a.txt");
    fs::write(&target, "old").unwrap();
    let refused = bob.get("alice", "a.txt", Collision::Refuse).await.unwrap_err();
    assert!(refused.message.contains("exists already"), "{refused}");
    assert_eq!(fs::read(&target).unwrap(), b"old");

    let (beside, _) = bob.get("alice", "a.txt", Collision::Rename).await.unwrap();
    assert_eq!(beside, bob.machine.downloads().join("a (1).txt"));
    assert_eq!((fs::read(&beside).unwrap(), fs::read(&target).unwrap()), (b"new".to_vec(), b"old".to_vec()));

    bob.get("alice", "a.txt", Collision::Overwrite).await.unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"new");
    assert_eq!(downloaded(&bob), ["a (1).txt", "a.txt"]);
}

#[tokio::test]
async fn a_file_is_found_by_its_digest() {
    let directory = TestDirectory::start();
    let (alice, bob) = alice_and_bob(&directory).await;
    alice.share("by digest", b"whoever has it").await;
    let found = bob.ask(Command::Find { pattern: "DIGEST".to_owned() }).await.unwrap();
    let [Event::Found { digest, online: true, .. }] = found[..] else { panic!("{found:?}") };
    let folder = bob.machine.downloads();
    let get = Command::Get {
        source: Source::Digest { digest },
        folder,
        collision: Collision::Refuse,
        executable: Executable::Never,
        once: false,
    };
    let (path, _) = received(bob.ask(get).await.unwrap());
    assert_eq!(fs::read(path).unwrap(), b"whoever has it");
}

#[tokio::test]
async fn an_offer_is_accepted() {
    let directory = TestDirectory::start();
    let (alice, mut bob) = alice_and_bob(&directory).await;
    let path = alice.machine.file("for bob", &content(GROUP + 5));
    let mut sending = alice
        .handle
        .run(Command::Send { to: name("bob"), paths: vec![path], wait: true, filter: Default::default() })
        .await;
    let (id, _) = bob.until(offer).await;
    let (path, _) = received(accept(&bob, "").await.unwrap());
    assert!(fs::read(path).unwrap() == content(GROUP + 5));
    let mut rows = Vec::new();
    while let Some(row) = in_time(sending.recv()).await {
        rows.push(row);
    }
    assert!(matches!(rows.last(), Some(Event::Done)), "{rows:?}");
    assert_eq!(rows.iter().find_map(sent_for), Some(Some(id)));
    assert_eq!(bob.ask(Command::Offers).await, Ok(Vec::new()));
    assert_eq!(accept(&bob, "alice").await.unwrap_err().kind, FailureKind::Usage);
}

#[tokio::test]
async fn an_offer_is_declined_and_then_served_no_more() {
    let directory = TestDirectory::start();
    let (alice, mut bob) = alice_and_bob(&directory).await;
    let path = alice.machine.file("not for bob", b"unwanted");
    let (declined, digest) = tokio::join!(
        alice.ask(Command::Send { to: name("bob"), paths: vec![path], wait: true, filter: Default::default() }),
        async {
            let (id, digest) = bob.until(offer).await;
            bob.ask(Command::Decline { offer: id.to_string() }).await.unwrap();
            digest
        }
    );
    assert_eq!(declined.unwrap_err().kind, FailureKind::Declined);
    assert_eq!(bob.ask(Command::Offers).await, Ok(Vec::new()));
    let raw = bob.machine.raw_errand().await;
    let fetch = Purpose::Fetch { digest };
    assert_eq!(raw.ask_for_dial("alice", alice.key(), fetch, true).await, Err(Refusal::NotAccepted));
    assert_eq!(downloaded(&bob), [""; 0]);
}

/// Offers files of equal bytes to bob, and waits until he hears of both.
async fn offer_alike(alice: &TestPeer, bob: &mut TestPeer, names: [&str; 2]) -> BTreeMap<String, MessageId> {
    let paths = names.map(|name| alice.machine.file(name, b"the same")).to_vec();
    alice.ask(Command::Send { to: name("bob"), paths, wait: false, filter: Default::default() }).await.unwrap();
    let mut ids = BTreeMap::new();
    while ids.len() < names.len() {
        let offer = bob.until(|event| match event {
            Event::Offer { id, name, .. } => Some((name.to_string(), *id)),
            _ => None,
        });
        ids.extend([offer.await]);
    }
    ids
}

#[tokio::test]
async fn of_two_offers_of_the_same_bytes_each_is_answered_for_itself() {
    let directory = TestDirectory::start();
    let (mut alice, mut bob) = alice_and_bob(&directory).await;
    let ids = offer_alike(&alice, &mut bob, ["first", "second"]).await;
    bob.ask(Command::Decline { offer: ids["first"].to_string() }).await.unwrap();
    let declined =
        |event: &Event| matches!(event, Event::OfferDeclined { offer, .. } if *offer == ids["first"]).then_some(());
    alice.until(declined).await;
    let (path, _) = received(accept(&bob, &ids["second"].to_string()).await.unwrap());
    assert!(path.ends_with("second"), "{path:?}");
    assert_eq!(alice.until(sent_for).await, Some(ids["second"]));

    let ids = offer_alike(&alice, &mut bob, ["third", "fourth"]).await;
    for of in ["fourth", "third"] {
        received(accept(&bob, &ids[of].to_string()).await.unwrap());
        assert_eq!(alice.until(sent_for).await, Some(ids[of]), "{of}");
    }
}

#[tokio::test]
async fn an_offered_file_is_not_for_a_third_person() {
    let directory = TestDirectory::start();
    let (alice, mut bob) = alice_and_bob(&directory).await;
    let carol = RawClient::registered(&directory, "carol", ERRAND).await;
    let path = alice.machine.file("for bob only", b"between us");
    alice
        .ask(Command::Send { to: name("bob"), paths: vec![path], wait: false, filter: Default::default() })
        .await
        .unwrap();
    let (_, digest) = bob.until(offer).await;
    // She cannot even connect for it while nothing is shared with her, and gets no secret when something is.
    let fetch = Purpose::Fetch { digest };
    assert_eq!(carol.ask_for_dial("alice", alice.key(), fetch, true).await, Err(Refusal::NotAccepted));
    alice.share("for everyone", b"public").await;
    alice.allow("carol").await;
    let connection = carol.dial("alice", alice.key()).await;
    for part in [FetchPart::Tree, FetchPart::Groups { first: 0, count: 1 }] {
        let fetch = PeerRequest::Fetch(Fetch { digest, part });
        let answer: FetchAnswer = in_time(connection.request(&fetch)).await.unwrap();
        assert_eq!(answer.unwrap_err(), Refusal::UnknownFile);
    }
    let claim: Result<(), Refusal> =
        in_time(connection.request(&PeerRequest::Received { digest, offer: None })).await.unwrap();
    assert_eq!(claim, Err(Refusal::UnknownFile));
    let (path, _) = received(accept(&bob, "").await.unwrap());
    assert_eq!(fs::read(path).unwrap(), b"between us");
}

#[tokio::test]
async fn a_file_that_was_changed_is_not_served() {
    let directory = TestDirectory::start();
    let (alice, bob) = alice_and_bob(&directory).await;
    let path = alice.share("a.txt", &content(GROUP + 1)).await;
    let mut changed = content(GROUP + 1);
    changed[GROUP] ^= 1;
    fs::write(&path, changed).unwrap();
    let failure = bob.get("alice", "a.txt", Collision::Refuse).await.unwrap_err();
    assert_eq!((failure.kind, failure.refusal), (FailureKind::Integrity, Some(Refusal::FileChanged.number())));
    assert!(!bob.machine.downloads().join("a.txt").exists());
    // Shared again it is what it is now.
    alice.ask(Command::Share { path, hides_address: false, filter: Default::default() }).await.unwrap();
    bob.get("alice", "a.txt", Collision::Refuse).await.unwrap();
}

#[tokio::test]
async fn a_file_that_was_taken_back_is_not_found() {
    let directory = TestDirectory::start();
    let (alice, bob) = alice_and_bob(&directory).await;
    alice.share("gone", b"soon").await;
    alice.ask(Command::Unshare { name: crate::world::file_name("gone") }).await.unwrap();
    let failure = bob.get("alice", "gone", Collision::Refuse).await.unwrap_err();
    assert_eq!(failure.refusal, Some(Refusal::UnknownFile.number()));
}

#[tokio::test]
async fn what_is_right_of_an_interrupted_transfer_is_kept() {
    let directory = TestDirectory::start();
    let (alice, bob) = alice_and_bob(&directory).await;
    let content = content(3 * GROUP + 7);
    alice.share("big", &content).await;
    // Two groups are right, the third is damaged and the fourth is missing.
    let mut left = content[..2 * GROUP + 100].to_vec();
    left[2 * GROUP + 50] ^= 1;
    fs::write(bob.machine.downloads().join(".big.qpart"), left).unwrap();
    let (path, resumed) = bob.get("alice", "big", Collision::Refuse).await.unwrap();
    assert!(fs::read(path).unwrap() == content);
    assert_eq!(resumed, 2 * GROUP as u64);
    assert_eq!(downloaded(&bob), ["big"]);
}

#[tokio::test]
async fn many_files_at_once_come_over_equal() {
    let directory = TestDirectory::start();
    let (alice, bob) = alice_and_bob(&directory).await;
    let names: Vec<String> = (0..12).map(|number| format!("file {number}")).collect();
    for (number, name) in names.iter().enumerate() {
        alice.share(name, &content(GROUP + number)).await;
    }
    let mut gets = Vec::new();
    for name in &names {
        let source = Source::Named { owner: crate::world::name("alice"), name: crate::world::file_name(name) };
        let folder = bob.machine.downloads();
        gets.push(
            bob.handle
                .run(Command::Get {
                    source,
                    folder,
                    collision: Collision::Refuse,
                    executable: Executable::Never,
                    once: false,
                })
                .await,
        );
    }
    for (number, mut rows) in gets.into_iter().enumerate() {
        let mut last = None;
        while let Some(row) = in_time(rows.recv()).await {
            last = Some(row);
        }
        assert_eq!(last, Some(Event::Done));
        assert!(fs::read(bob.machine.downloads().join(&names[number])).unwrap() == content(GROUP + number));
    }
}
