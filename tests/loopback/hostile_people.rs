//! What a peer takes from a directory that lies about blocks and friendships, or forgets them.

use std::pin::pin as pinned;
use std::time::Duration;

use qchat::clock::now_millis;
use qchat::peer::event::Event;
use qchat::peer::failure::FailureKind;
use qchat::peer::handle::{Command, Source, Term};
use qchat::peer::rows::MessageState;
use qchat::seal::identity::IdentityKey;
use qchat::seal::receipt;
use qchat::storage::partial_file::Collision;
use qchat::storage::receive_tree::Executable;
use qchat::wire::directory::{DirectoryPush, PushAnswer, PushReply};
use qchat::wire::ids::{DialId, PeerKey};
use qchat::wire::message::{Delivery, Receipt, ReceiptKind};
use qchat::wire::people::{Friend, FriendAnswer, FriendState, Presence};
use qchat::wire::refusal::Refusal;
use qchat::wire::rendezvous::{DialAnnounced, Direct, Purpose};
use tokio::sync::oneshot;

use crate::hostile_directory::{HostileDirectory, new_key, pin, said, try_to_say};
use crate::world::{TestPeer, file_name, in_time, name};

/// Announces that somebody is about to connect, to talk.
async fn announces(directory: &HostileDirectory, from: &str, key: PeerKey) -> PushAnswer {
    let dial = DialId::from_bytes(qchat::seal::random::array(&mut qchat::seal::random::OsRandom));
    let direct = Direct::Candidates(Vec::new());
    let announced = DialAnnounced { dial, from: name(from), key, purpose: Purpose::Talk, direct, relay: None };
    directory.answer_to(DirectoryPush::Dial(announced)).await
}

fn presence_of(text: &str, presence: Presence) -> DirectoryPush {
    DirectoryPush::Presence { name: name(text), presence }
}

/// A line of the directory's list of alice's friends.
fn listed(key: PeerKey, state: FriendState) -> Friend {
    Friend { name: name("bob"), key, state, presence: Presence::Online, last_seen: None, legacy: false }
}

/// The state of the first message that alice has written to bob.
async fn state_of_message(alice: &TestPeer) -> MessageState {
    let with = Some(name("bob"));
    let rows = alice.ask(Command::History { with, limit: 9, before: None, search: None }).await.unwrap();
    match &rows[..] {
        [Event::History(row), ..] => row.state,
        other => panic!("a message comes first, not {other:?}"),
    }
}

/// Everything that alice is told until the directory says that carol is otherwise than before.
async fn told_until_carol_is(presence: Presence, directory: &HostileDirectory, alice: &mut TestPeer) -> Vec<Event> {
    assert_eq!(directory.pushes(presence_of("carol", presence)).await, PushReply::Taken);
    let mut told = Vec::new();
    alice
        .until(|event| {
            told.push(event.clone());
            matches!(event, Event::Presence { name: who, .. } if *who == name("carol")).then_some(())
        })
        .await;
    told
}

async fn block(alice: &TestPeer) {
    let rows = alice.ask(Command::Block { name: name("bob") }).await.unwrap();
    assert_eq!(rows, [Event::Blocked { name: name("bob") }]);
}

#[tokio::test]
async fn nothing_is_taken_of_somebody_who_is_blocked() {
    let (bob, carol) = (new_key(), new_key());
    let (directory, mut alice) = HostileDirectory::with_alice(&bob).await;
    directory.can_seal().await;
    alice.share("photo.jpg", b"everybody may connect for it").await;
    try_to_say(&alice, "before").await.unwrap();
    let id = directory.lies.lock().unwrap().delivered[0].header.id;
    block(&alice).await;
    assert_eq!(directory.lies.lock().unwrap().blocked, [name("bob")]);
    told_until_carol_is(Presence::Online, &directory, &mut alice).await;

    let letter = directory.sealed(&bob, &alice, "from bob");
    assert_eq!(said(directory.delivers_as_bob(letter.clone()).await), None, "left, without a receipt");
    let other_name = DirectoryPush::Delivery(Box::new(Delivery { from: name("robert"), envelope: letter.clone() }));
    assert_eq!(said(directory.pushes(other_name).await), None, "it is his key under another name");
    let read = Receipt {
        by: bob.public(),
        to: alice.key(),
        id,
        sequence: 1,
        highest: 1,
        kind: ReceiptKind::Read,
        at: now_millis(),
    };
    let receipts = vec![receipt::sign(&bob, read)];
    for push in [
        DirectoryPush::Receipts(receipts.clone()),
        DirectoryPush::FriendAsked { from: name("bob"), key: bob.public() },
        DirectoryPush::FriendAnswered { by: name("bob"), answer: FriendAnswer::Accepted },
        DirectoryPush::ConsentAsked { from: name("bob"), key: bob.public() },
        presence_of("bob", Presence::Online),
    ] {
        assert_eq!(directory.pushes(push).await, PushReply::Taken);
    }
    assert_eq!(announces(&directory, "bob", bob.public()).await, Err(Refusal::Offline));
    assert_eq!(announces(&directory, "robert", bob.public()).await, Err(Refusal::Offline));
    assert_eq!(
        announces(&directory, "carol", carol.public()).await,
        Err(Refusal::NoConsent),
        "nothing is blocked of carol"
    );
    let told = told_until_carol_is(Presence::Away, &directory, &mut alice).await;
    assert_eq!(told.len(), 1, "carol is away, and nothing of bob: {told:?}");
    assert_eq!(state_of_message(&alice).await, MessageState::Stored);

    let rows = alice.ask(Command::Unblock { name: name("bob") }).await.unwrap();
    assert_eq!(rows, [Event::Unblocked { name: name("bob") }]);
    assert_eq!(said(directory.delivers_as_bob(letter).await), Some(ReceiptKind::Delivered));
    assert_eq!(alice.next_line().await, ("bob".to_owned(), "from bob".to_owned()));
    assert_eq!(directory.pushes(DirectoryPush::Receipts(receipts)).await, PushReply::Taken);
    assert_eq!(state_of_message(&alice).await, MessageState::Read);
}

/// How many messages no screen has shown yet.
async fn not_shown(alice: &TestPeer) -> usize {
    alice.ask(Command::Inbox).await.unwrap().iter().filter(|row| matches!(row, Event::Message { .. })).count()
}

#[tokio::test]
async fn what_came_before_a_block_is_on_no_screen_after_it() {
    let bob = new_key();
    let (directory, mut alice) = HostileDirectory::with_alice(&bob).await;
    directory.can_seal().await;
    let letter = directory.sealed(&bob, &alice, "from bob");
    assert_eq!(said(directory.delivers_as_bob(letter).await), Some(ReceiptKind::Delivered));
    alice.next_line().await;
    assert_eq!(not_shown(&alice).await, 1);
    block(&alice).await;
    assert_eq!(not_shown(&alice).await, 0);
    alice.ask(Command::Unblock { name: name("bob") }).await.unwrap();
    assert_eq!(not_shown(&alice).await, 1, "nor is it lost");
}

#[tokio::test]
async fn nothing_goes_to_somebody_who_is_blocked() {
    let (directory, alice) = HostileDirectory::with_alice(&new_key()).await;
    block(&alice).await;
    let path = alice.machine.file("plan", b"secret");
    let source = Source::Named { owner: name("bob"), name: file_name("photo.jpg") };
    for command in [
        Command::Message { to: name("bob"), text: "hello".to_owned() },
        Command::Send { to: name("bob"), paths: vec![path], wait: false, filter: Default::default() },
        Command::Get {
            source,
            folder: alice.machine.downloads(),
            collision: Collision::Refuse,
            executable: Executable::Never,
            once: false,
        },
        Command::Connect { to: name("bob"), wait: false },
        Command::Allow { to: name("bob"), term: Term::Always },
        Command::Befriend { name: name("bob") },
    ] {
        let failure = alice.ask(command.clone()).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::NotAccepted, "{command:?}: {failure}");
        assert_eq!(failure.message, "you have blocked bob", "{command:?}");
        assert_eq!(failure.hint.as_deref(), Some("`unblock bob` first"), "{command:?}");
    }
    assert_eq!(directory.carried(), 0);
    assert!(!directory.lies.lock().unwrap().dialled);
}

#[tokio::test]
async fn a_block_is_told_again_to_a_directory_that_has_forgotten_it() {
    let (directory, alice) = HostileDirectory::with_alice(&new_key()).await;
    block(&alice).await;
    let machine = alice.stop().await;
    directory.lies.lock().unwrap().blocked.clear();
    let alice = machine.resident().await;
    in_time(async {
        while directory.lies.lock().unwrap().blocked != [name("bob")] {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(try_to_say(&alice, "hello").await.unwrap_err().message, "you have blocked bob");
}

#[tokio::test]
async fn whom_the_directory_blocks_already_is_blocked_on_a_new_machine() {
    let (directory, alice) = HostileDirectory::with_alice(&new_key()).await;
    let machine = alice.stop().await;
    directory.lies.lock().unwrap().blocked = vec![name("bob")];
    let mut alice = machine.resident().await;
    let note = alice
        .until(|event| match event {
            Event::Note { text } => Some(text.clone()),
            _ => None,
        })
        .await;
    assert!(note.contains("blocks bob for you"), "{note}");
    assert_eq!(alice.ask(Command::Blocked).await.unwrap(), [Event::Blocked { name: name("bob") }]);
    assert_eq!(try_to_say(&alice, "hello").await.unwrap_err().message, "you have blocked bob");
}

#[tokio::test]
async fn what_another_session_has_blocked_is_blocked_here_at_once() {
    let (directory, mut alice) = HostileDirectory::with_alice(&new_key()).await;
    try_to_say(&alice, "before").await.unwrap();
    directory.lies.lock().unwrap().blocked = vec![name("bob")];
    assert_eq!(directory.pushes(DirectoryPush::PeopleChanged).await, PushReply::Taken);
    let note = |event: &Event| matches!(event, Event::Note { text } if text.contains("blocks bob")).then_some(());
    alice.until(note).await;
    assert_eq!(try_to_say(&alice, "hello").await.unwrap_err().message, "you have blocked bob");
}

/// Whether bob, or whoever shows this key in his name, may learn where alice is.
async fn may_connect(directory: &HostileDirectory, key: &IdentityKey) -> bool {
    match announces(directory, "bob", key.public()).await {
        Ok(PushReply::Candidates(candidates)) => candidates.is_some(),
        Err(Refusal::NoConsent) => false,
        other => panic!("a dial was answered with {other:?}"),
    }
}

fn asked(event: &Event) -> Option<()> {
    matches!(event, Event::FriendAsked { from, .. } if *from == name("bob")).then_some(())
}

fn answered(event: &Event) -> Option<FriendAnswer> {
    match event {
        Event::FriendAnswered { by, answer } if *by == name("bob") => Some(*answer),
        _ => None,
    }
}

async fn state(alice: &TestPeer) -> FriendState {
    match alice.ask(Command::Friends).await.unwrap()[..] {
        [Event::Friend { state, .. }] => state,
        ref other => panic!("one friend, not {other:?}"),
    }
}

#[tokio::test]
async fn no_directory_makes_friends() {
    let (bob, mallory) = (new_key(), new_key());
    let (directory, alice) = HostileDirectory::with_alice(&bob).await;
    let machine = alice.stop().await;
    directory.lies.lock().unwrap().friends = vec![listed(bob.public(), FriendState::Friends)];
    let mut alice = machine.resident().await;
    alice.until(asked).await;
    assert_eq!(state(&alice).await, FriendState::AsksUs, "it is taken for a request");
    assert!(!may_connect(&directory, &bob).await);
    let accepted = DirectoryPush::FriendAnswered { by: name("bob"), answer: FriendAnswer::Accepted };
    assert_eq!(directory.pushes(accepted).await, PushReply::Taken);
    assert!(!may_connect(&directory, &bob).await, "nobody has asked him");

    directory.lies.lock().unwrap().befriended = FriendState::Friends;
    let rows = alice.ask(Command::Befriend { name: name("bob") }).await.unwrap();
    assert!(matches!(rows[..], [Event::Friend { state: FriendState::Friends, .. }]), "{rows:?}");
    assert_eq!(state(&alice).await, FriendState::Friends);
    assert!(may_connect(&directory, &bob).await);
    assert!(!may_connect(&directory, &mallory).await, "a friendship is with a key");

    let ended = DirectoryPush::FriendAnswered { by: name("bob"), answer: FriendAnswer::Ended };
    assert_eq!(directory.pushes(ended).await, PushReply::Taken);
    assert_eq!(alice.until(answered).await, FriendAnswer::Ended);
    assert!(!may_connect(&directory, &bob).await);
}

#[tokio::test]
async fn what_has_become_of_a_friendship_meanwhile_is_told_at_the_next_login() {
    let bob = new_key();
    let (directory, alice) = HostileDirectory::with_alice(&bob).await;
    alice.ask(Command::Befriend { name: name("bob") }).await.unwrap();
    let mut machine = alice.stop().await;
    let friends = vec![listed(bob.public(), FriendState::Friends)];
    for (now, told) in [(friends.clone(), FriendAnswer::Accepted), (Vec::new(), FriendAnswer::Ended)] {
        directory.lies.lock().unwrap().friends = now;
        let mut alice = machine.resident().await;
        assert_eq!(alice.until(answered).await, told);
        machine = alice.stop().await;
    }
    directory.lies.lock().unwrap().friends = vec![listed(bob.public(), FriendState::Asked)];
    let alice = machine.resident().await;
    alice.ask(Command::Befriend { name: name("bob") }).await.unwrap();
    let machine = alice.stop().await;
    directory.lies.lock().unwrap().friends.clear();
    let mut alice = machine.resident().await;
    assert_eq!(alice.until(answered).await, FriendAnswer::Declined);
}

#[tokio::test]
async fn a_friendship_ends_with_the_key_whatever_the_directory_says() {
    let (bob, mallory) = (new_key(), new_key());
    let (directory, alice) = HostileDirectory::with_alice(&bob).await;
    directory.lies.lock().unwrap().befriended = FriendState::Friends;
    alice.ask(Command::Befriend { name: name("bob") }).await.unwrap();
    assert!(may_connect(&directory, &bob).await);
    let machine = alice.stop().await;
    directory.lies.lock().unwrap().friends = vec![listed(mallory.public(), FriendState::Friends)];
    let mut alice = machine.resident().await;
    alice.until(asked).await;
    assert!(!may_connect(&directory, &mallory).await && !may_connect(&directory, &bob).await);
}

#[tokio::test]
async fn whoever_does_not_accept_messages_is_written_to_in_vain_and_at_once() {
    let (directory, alice) = HostileDirectory::with_alice(&new_key()).await;
    directory.says(|bob| (bob.accepts, bob.prekey, bob.online) = (false, None, false));
    let path = alice.machine.file("plan", b"secret");
    for command in [
        Command::Message { to: name("bob"), text: "hello".to_owned() },
        Command::Send { to: name("bob"), paths: vec![path], wait: false, filter: Default::default() },
    ] {
        let failure = alice.ask(command.clone()).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::NotAccepted, "{command:?}: {failure}");
        assert_eq!(failure.message, "bob does not accept messages from you", "{command:?}");
    }
    assert_eq!(directory.carried(), 0);
    let with = Some(name("bob"));
    let rows = alice.ask(Command::History { with, limit: 9, before: None, search: None }).await.unwrap();
    let reason = |row: &Event| match row {
        Event::History(row) => row.reason.as_ref().map(|reason| reason.message.clone()),
        other => panic!("{other:?} is no message"),
    };
    assert_eq!(rows.iter().map(reason).collect::<Vec<_>>(), [Some("bob does not accept messages from you".to_owned())]);
}

#[tokio::test]
async fn whoever_was_just_allowed_may_dial_before_alice_hears_that_it_is_known() {
    let bob = new_key();
    let (directory, alice) = HostileDirectory::with_alice(&bob).await;
    pin(&alice).await;
    let (goes_on, waits) = oneshot::channel();
    directory.lies.lock().unwrap().allowing_waits = Some(waits);
    let allowing = alice.ask(Command::Allow { to: name("bob"), term: Term::Always });
    let dialling = async {
        in_time(async {
            while directory.lies.lock().unwrap().allowing_waits.is_some() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let mut announced = pinned!(announces(&directory, "bob", bob.public()));
        // An answer that does not wait for what alice is about to say comes at once.
        let early = tokio::time::timeout(Duration::from_millis(300), announced.as_mut()).await;
        goes_on.send(()).unwrap();
        match early {
            Ok(answer) => answer,
            Err(_) => announced.await,
        }
    };
    let (allowed, answer) = tokio::join!(allowing, dialling);
    allowed.unwrap();
    assert!(matches!(answer, Ok(PushReply::Candidates(Some(_)))), "{answer:?}");
}
