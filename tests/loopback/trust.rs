//! Two people make sure of each other at an honest directory: numbers, marks, and what cannot be verified.

use qchat::peer::event::Event;
use qchat::peer::failure::{Failure, FailureKind};
use qchat::peer::handle::Command;
use qchat::wire::refusal::Refusal;

use crate::world::{ERRAND, TestDirectory, TestPeer, name};

/// What a peer knows of somebody's key.
async fn verify(peer: &TestPeer, whose: &str, mark: bool) -> Result<Event, Failure> {
    peer.ask(Command::Verify { name: name(whose), mark }).await.map(|rows| rows[0].clone())
}

fn number(contact: &Event) -> &str {
    match contact {
        Event::Contact { safety_number, .. } => safety_number,
        other => panic!("{other:?}"),
    }
}

fn is_verified(contact: &Event) -> bool {
    matches!(contact, Event::Contact { verified_at: Some(_), .. })
}

#[tokio::test]
async fn both_see_the_same_number_and_somebody_else_another() {
    let directory = TestDirectory::start();
    let alice = TestPeer::join(&directory, "alice").await;
    let bob = TestPeer::join(&directory, "bob").await;
    let carol = TestPeer::join(&directory, "carol").await;
    let (hers, his) = (verify(&alice, "bob", false).await.unwrap(), verify(&bob, "alice", false).await.unwrap());
    assert_eq!(number(&hers), number(&his));
    assert_eq!(number(&hers).len(), 60);
    assert!(matches!(hers, Event::Contact { key, offered_key: None, .. } if key == bob.key()));
    assert_ne!(number(&verify(&alice, "carol", false).await.unwrap()), number(&hers));
    assert_ne!(number(&verify(&carol, "bob", false).await.unwrap()), number(&hers));
}

#[tokio::test]
async fn a_mark_stays_with_the_person_who_made_it() {
    let directory = TestDirectory::start();
    let alice = TestPeer::join(&directory, "alice").await;
    let mut bob = TestPeer::join(&directory, "bob").await;
    assert!(!is_verified(&verify(&alice, "bob", false).await.unwrap()));
    assert!(is_verified(&verify(&alice, "bob", true).await.unwrap()));
    assert!(!is_verified(&verify(&bob, "alice", false).await.unwrap()));
    alice.say("bob", "now I know it is you").await;
    bob.next_line().await;

    let alice = alice.stop().await.resident().await;
    assert!(is_verified(&verify(&alice, "bob", false).await.unwrap()), "it is kept over a restart");
    let bobs = bob.stop().await;
    assert!(is_verified(&verify(&alice, "bob", false).await.unwrap()), "nobody of theirs need be online");
    drop(bobs);
}

#[tokio::test]
async fn an_errand_verifies_as_well() {
    let directory = TestDirectory::start();
    let alice = TestPeer::join(&directory, "alice").await.stop().await;
    let _bob = TestPeer::join(&directory, "bob").await;
    let errand = alice.start(ERRAND, None, false).await.unwrap();
    assert!(is_verified(&verify(&errand, "bob", true).await.unwrap()));
}

#[tokio::test]
async fn oneself_and_nobody_cannot_be_verified() {
    let directory = TestDirectory::start();
    let alice = TestPeer::join(&directory, "alice").await;
    let _bob = TestPeer::join(&directory, "bob").await;
    assert_eq!(verify(&alice, "alice", false).await.unwrap_err().kind, FailureKind::Usage);
    let nobody = verify(&alice, "nemo", true).await.unwrap_err();
    assert_eq!(nobody.refusal, Some(Refusal::UnknownName.number()));
    assert!(nobody.message.contains("nemo"), "{nobody}");
    let nothing = alice.ask(Command::Trust { name: name("bob") }).await.unwrap_err();
    assert!(nothing.message.contains("no other key"), "{nothing}");
}
