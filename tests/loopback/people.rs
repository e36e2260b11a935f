//! People who chat: online, away, twice, and with a directory that comes and goes.

use qchat::clock::now_millis;
use qchat::peer::directory_link::LoginFailure;
use qchat::peer::event::Event;
use qchat::peer::failure::FailureKind;
use qchat::peer::handle::Command;
use qchat::seal::receipt;
use qchat::storage::prekeys;
use qchat::wire::account::LoginKind;
use qchat::wire::directory::{DirectoryPush, PushAnswer, PushReply};
use qchat::wire::ids::MessageId;
use qchat::wire::message::{EnvelopeHeader, Receipt, ReceiptKind, SignedReceipt};
use qchat::wire::refusal::Refusal;

use crate::world::{ERRAND, Machine, PASSWORD, RawClient, TestDirectory, TestPeer, in_time, name};

fn line(from: &str, text: &str) -> (String, String) {
    (from.to_owned(), text.to_owned())
}

/// How many messages waited at a login.
fn waiting(event: &Event) -> Option<u64> {
    match event {
        Event::LoggedIn { waiting, .. } => Some(*waiting),
        _ => None,
    }
}

fn lost(event: &Event) -> Option<()> {
    matches!(event, Event::DirectoryLost { .. }).then_some(())
}

#[tokio::test]
async fn two_people_chat() {
    let directory = TestDirectory::start();
    let mut alice = TestPeer::join(&directory, "alice").await;
    let mut bob = TestPeer::join(&directory, "bob").await;
    alice.say("bob", "hello bob").await;
    assert_eq!(bob.next_line().await, line("alice", "hello bob"));
    bob.say("alice", "Grüße\nin two lines").await;
    assert_eq!(alice.next_line().await, line("bob", "Grüße\nin two lines"));
    assert_eq!(alice.ask(Command::Who { recent: false, pattern: String::new() }).await.unwrap().len(), 2);
}

#[tokio::test]
async fn what_is_said_meanwhile_arrives_once_and_in_order() {
    let directory = TestDirectory::start();
    let alice = TestPeer::join(&directory, "alice").await;
    let bob = TestPeer::join(&directory, "bob").await;
    // Of a stranger fewer would wait.
    bob.say("alice", "go on").await;
    let bobs = bob.stop().await;
    for number in 0..20 {
        alice.say("bob", &number.to_string()).await;
    }
    let mut bob = bobs.resident().await;
    assert_eq!(bob.until(waiting).await, 20);
    for number in 0..20 {
        assert_eq!(bob.next_line().await, line("alice", &number.to_string()));
    }
    // All twenty are settled before what is said now, so nothing may come between.
    alice.say("bob", "the last").await;
    assert_eq!(bob.next_line().await, line("alice", "the last"));
    alice.say("bob", "a marker").await;
    assert_eq!(bob.next_line().await, line("alice", "a marker"));
    let mut bob = bob.stop().await.resident().await;
    assert!(bob.until(waiting).await <= 1, "only the end of the last delivery may have been cut off");
    alice.say("bob", "again").await;
    assert_eq!(bob.next_line().await, line("alice", "again"));
}

#[tokio::test]
async fn a_second_peer_takes_over_and_the_first_stays_away() {
    let directory = TestDirectory::start();
    let bob = TestPeer::join(&directory, "bob").await;
    let mut first = TestPeer::join(&directory, "alice").await;
    let mut second = first.machine.twin().resident().await;
    first.until(|event| matches!(event, Event::LoggedInElsewhere).then_some(())).await;
    assert_eq!(first.ended().await.unwrap_err().kind, FailureKind::LoggedInElsewhere);
    // The other machine does not have the secret of the first one's prekey, so it has published its own.
    bob.say("alice", "where are you?").await;
    assert_eq!(second.next_line().await, line("bob", "where are you?"));
    assert_eq!(bob.ask(Command::Who { recent: false, pattern: String::new() }).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_directory_that_restarts_finds_everyone_back() {
    let directory = TestDirectory::start();
    let mut alice = TestPeer::join(&directory, "alice").await;
    let mut bob = TestPeer::join(&directory, "bob").await;
    let carols = TestPeer::join(&directory, "carol").await.stop().await;
    alice.say("bob", "we know each other").await;
    assert_eq!(bob.next_line().await, line("alice", "we know each other"));
    alice.say("carol", "kept over the restart").await;

    let stopped = directory.stop().await;
    alice.until(lost).await;
    bob.until(lost).await;
    let said = alice.handle.run(Command::Message { to: name("bob"), text: "said meanwhile".to_owned() }).await;
    alice.until(|event| matches!(event, Event::Queued { .. }).then_some(())).await;
    let _directory = stopped.start_again();

    alice.until(waiting).await;
    bob.until(waiting).await;
    assert_eq!(bob.next_line().await, line("alice", "said meanwhile"));
    drop(said);
    let mut carol = carols.resident().await;
    assert_eq!(carol.next_line().await, line("alice", "kept over the restart"));
}

#[tokio::test]
async fn a_key_or_the_password_lets_in_and_nothing_else() {
    let directory = TestDirectory::start();
    let mut alice = TestPeer::join(&directory, "alice").await;
    let bob = TestPeer::join(&directory, "bob").await;
    let refused = |result: Result<TestPeer, LoginFailure>| match result {
        Err(LoginFailure::Refused(refusal)) => refusal,
        Err(LoginFailure::Failed(failure)) => panic!("{failure}"),
        Ok(_) => panic!("it was let in"),
    };
    let thief = Machine::new(directory.place, "alice");
    let nobody = Machine::new(directory.place, "nemo");
    assert_eq!(refused(thief.start(LoginKind::Resident, None, false).await), Refusal::PasswordNeeded);
    let wrong = thief.start(LoginKind::Resident, Some("wrong"), false).await;
    assert_eq!(refused(wrong), Refusal::WrongPassword { tries_left: 2 });
    assert_eq!(refused(thief.start(ERRAND, Some(PASSWORD), true).await), Refusal::NameTaken);
    assert_eq!(refused(nobody.start(LoginKind::Resident, Some(PASSWORD), false).await), Refusal::UnknownName);
    // None of them has disturbed her.
    bob.say("alice", "all well?").await;
    assert_eq!(alice.next_line().await, line("bob", "all well?"));
}

#[tokio::test]
async fn an_errand_takes_nothing_over() {
    let directory = TestDirectory::start();
    let mut alice = TestPeer::join(&directory, "alice").await;
    let bob = TestPeer::join(&directory, "bob").await;
    let errand = alice.machine.start(LoginKind::Errand { collects: true }, None, false).await.unwrap();
    errand.say("bob", "from an errand").await;
    bob.say("alice", "for the resident").await;
    assert_eq!(alice.next_line().await, line("bob", "for the resident"));
    errand.stop().await;
    bob.say("alice", "still there?").await;
    assert_eq!(alice.next_line().await, line("bob", "still there?"));
}

#[tokio::test]
async fn a_message_is_sealed_again_when_the_prekey_has_changed() {
    let directory = TestDirectory::start();
    let alice = TestPeer::join(&directory, "alice").await;
    let mut bob = TestPeer::join(&directory, "bob").await;
    alice.say("bob", "sealed to the first").await;
    bob.next_line().await;
    let errand = bob.machine.raw_errand().await;
    let secret = errand.put_prekey("bob").await;
    prekeys::keep(bob.machine.profile().database(), &secret, now_millis()).await.unwrap();
    alice.say("bob", "sealed to the second").await;
    assert_eq!(bob.next_line().await, line("alice", "sealed to the second"));
}

#[tokio::test]
async fn a_message_to_nobody_or_too_long_fails_at_once() {
    let directory = TestDirectory::start();
    let alice = TestPeer::join(&directory, "alice").await;
    let say = |to, text: &str| alice.ask(Command::Message { to: name(to), text: text.to_owned() });
    let nobody = say("nemo", "hello").await.unwrap_err();
    assert_eq!(nobody.refusal, Some(Refusal::UnknownName.number()));
    assert_eq!(say("alice", "hello").await.unwrap_err().kind, FailureKind::Usage);
    assert_eq!(say("nemo", &"x".repeat(15 * 1_024 + 1)).await.unwrap_err().kind, FailureKind::Usage);
    assert_eq!(say("nemo", "").await.unwrap_err().kind, FailureKind::Usage);
}

#[tokio::test]
async fn the_longest_text_arrives() {
    let directory = TestDirectory::start();
    let alice = TestPeer::join(&directory, "alice").await;
    let mut bob = TestPeer::join(&directory, "bob").await;
    let long = "x".repeat(15 * 1_024);
    alice.say("bob", &long).await;
    assert_eq!(bob.next_line().await, line("alice", &long));
}

#[tokio::test]
async fn a_peer_that_is_dropped_is_gone_without_a_panic() {
    let directory = TestDirectory::start();
    let alice = TestPeer::join(&directory, "alice").await;
    let mut bob = TestPeer::join(&directory, "bob").await;
    assert!(alice.dropped().await.is_cancelled());
    bob.until(|event| matches!(event, Event::Presence { online: false, .. }).then_some(())).await;
}

/// Takes the next delivery that the directory pushes, or refuses it, and says which message it was.
async fn answer_delivery(client: &RawClient, refusal: Option<Refusal>) -> MessageId {
    loop {
        let mut stream = in_time(client.connection.accept_stream()).await.unwrap();
        let push: DirectoryPush = in_time(stream.read_frame()).await.unwrap();
        let delivered = match push {
            DirectoryPush::Delivery(delivery) => Some(delivery.envelope.header),
            _ => None,
        };
        let answer: PushAnswer = match (&delivered, refusal) {
            (Some(_), Some(refusal)) => Err(refusal),
            (Some(header), None) => Ok(PushReply::Receipt(Box::new(receipt_for(client, header)))),
            (None, _) => Ok(PushReply::Taken),
        };
        stream.write_frame(&answer).await.unwrap();
        stream.finish();
        if let Some(header) = delivered {
            return header.id;
        }
    }
}

fn receipt_for(client: &RawClient, header: &EnvelopeHeader) -> SignedReceipt {
    let EnvelopeHeader { sender, id, .. } = *header;
    let (by, kind, at) = (client.identity.public(), ReceiptKind::Delivered, now_millis());
    receipt::sign(&client.identity, Receipt { by, to: sender, id, sequence: 1, highest: 1, kind, at })
}

#[tokio::test]
async fn what_a_full_disk_cannot_take_comes_again_before_anything_later() {
    let directory = TestDirectory::start();
    let alice = TestPeer::join(&directory, "alice").await;
    let bob = RawClient::registered(&directory, "bob", LoginKind::Resident).await;
    bob.put_prekey("bob").await;
    alice.say("bob", "one").await;
    let first = answer_delivery(&bob, Some(Refusal::Storage)).await;
    alice.say("bob", "two").await;
    assert_eq!(answer_delivery(&bob, None).await, first, "it was overtaken");
    assert_ne!(answer_delivery(&bob, None).await, first);
}
