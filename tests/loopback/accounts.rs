//! Accounts over real QUIC: guessing passwords, bringing another key, and taking an account back.

use std::net::IpAddr;
use std::time::Duration;

use qchat::clock::now_millis;
use qchat::peer::directory_link::LoginFailure;
use qchat::peer::event::Event;
use qchat::peer::failure::FailureKind;
use qchat::peer::handle::Command;
use qchat::seal::identity::IdentityKey;
use qchat::wire::account::{Login, LoginKind};
use qchat::wire::directory::{DirectoryReply, DirectoryRequest};
use qchat::wire::ids::{InviteToken, MessageId, Password, PeerKey};
use qchat::wire::refusal::Refusal;
use tokio::task::JoinSet;

use crate::world::{ERRAND, Machine, PASSWORD, RawClient, TestDirectory, TestPeer, name};

/// A login with a key that the account does not have, and this password.
async fn try_password(directory: &TestDirectory, name: &str, password: &str) -> Result<(), Refusal> {
    let thief = RawClient::stranger(directory).await;
    let password = Some(Password::parse(password).unwrap());
    thief.log_in(Login { password, ..thief.login(name, ERRAND) }).await.map(drop)
}

#[tokio::test]
async fn a_restart_in_the_middle_of_a_lock_out_keeps_it() {
    let directory = TestDirectory::start();
    let alice = TestPeer::join(&directory, "alice").await;
    assert_eq!(try_password(&directory, "alice", "1").await, Err(Refusal::WrongPassword { tries_left: 2 }));
    assert_eq!(try_password(&directory, "alice", "2").await, Err(Refusal::WrongPassword { tries_left: 1 }));
    let alice = alice.stop().await;

    let directory = directory.stop().await.start_again();
    assert_eq!(try_password(&directory, "alice", "3").await, Err(Refusal::LockedOut { seconds: 60 }));

    let directory = directory.stop().await.start_again();
    let locked = try_password(&directory, "alice", PASSWORD).await;
    assert!(matches!(locked, Err(Refusal::LockedOut { seconds: 40..=60 })), "{locked:?}");
    let owner = alice.resident().await;
    assert_eq!(
        RawClient::registered(&directory, "bob", LoginKind::Resident).await.identify("alice").await.key,
        owner.key()
    );
}

#[tokio::test]
async fn many_tries_at_once_gain_none() {
    let directory = TestDirectory::start();
    let _alice = RawClient::registered(&directory, "alice", ERRAND).await;
    let mut tries = JoinSet::new();
    for number in 0..20 {
        let thief = RawClient::stranger(&directory).await;
        tries.spawn(async move {
            let password = Some(Password::parse(&format!("guess {number}")).unwrap());
            thief.log_in(Login { password, ..thief.login("alice", ERRAND) }).await.unwrap_err()
        });
    }
    let mut looked_at = 0;
    while let Some(refusal) = tries.join_next().await {
        match refusal.unwrap() {
            Refusal::WrongPassword { .. } | Refusal::LockedOut { seconds: 60 } => looked_at += 1,
            Refusal::LockedOut { .. } => {}
            other => panic!("{other}"),
        }
    }
    assert!(looked_at >= 3, "three are answered one by one");
    let owner_passes = try_password(&directory, "alice", PASSWORD).await;
    assert!(matches!(owner_passes, Err(Refusal::LockedOut { .. })), "the right one came too late: {owner_passes:?}");
}

/// The key that somebody wants to bring to this peer's account, and from where.
async fn asked(peer: &mut TestPeer) -> (String, IpAddr) {
    peer.until(|event| match event {
        Event::KeyRequested { key, source } => Some((key.to_string(), *source)),
        _ => None,
    })
    .await
}

fn refusal(result: Result<TestPeer, LoginFailure>) -> Refusal {
    match result {
        Err(LoginFailure::Refused(refusal)) => refusal,
        Err(LoginFailure::Failed(failure)) => panic!("{failure}"),
        Ok(_) => panic!("it was let in"),
    }
}

#[tokio::test]
async fn an_owner_who_is_online_is_asked_and_allows() {
    let directory = TestDirectory::start();
    let mut old = TestPeer::join(&directory, "alice").await;
    let laptop = Machine::new(directory.place, "alice");
    let first = laptop.start(LoginKind::Resident, Some(PASSWORD), false).await;
    assert!(matches!(refusal(first), Refusal::OwnerAsked { seconds: 50..=60 }));
    let (key, source) = asked(&mut old).await;
    assert_eq!(source, IpAddr::from([127, 0, 0, 1]));
    let second = laptop.start(LoginKind::Resident, None, false).await;
    assert!(matches!(refusal(second), Refusal::OwnerAsked { .. }), "its password was right a moment ago");

    old.ask(Command::AnswerKeyRequest { key: key[..8].to_owned(), allow: true }).await.unwrap();
    let new = laptop.start(LoginKind::Resident, None, false).await.unwrap();
    assert_eq!(new.key().to_string(), key);
    assert_eq!(old.ended().await.unwrap_err().kind, FailureKind::LoggedInElsewhere);
}

#[tokio::test]
async fn an_owner_who_declines_stays_and_is_not_asked_again() {
    let directory = TestDirectory::start();
    let mut alice = TestPeer::join(&directory, "alice").await;
    let thief = Machine::new(directory.place, "alice");
    refusal(thief.start(LoginKind::Resident, Some(PASSWORD), false).await);
    asked(&mut alice).await;
    let nonsense = alice.ask(Command::AnswerKeyRequest { key: "zz".to_owned(), allow: true }).await;
    assert_eq!(nonsense.unwrap_err().kind, FailureKind::Usage);
    alice.ask(Command::AnswerKeyRequest { key: String::new(), allow: false }).await.unwrap();
    let told = thief.start(LoginKind::Resident, Some(PASSWORD), false).await;
    assert_eq!(refusal(told), Refusal::OwnerDeclined);
    let again = tokio::time::timeout(Duration::from_millis(200), asked(&mut alice)).await;
    assert!(again.is_err(), "she was asked again");
}

#[tokio::test]
async fn only_the_accounts_own_session_can_answer_for_it() {
    let directory = TestDirectory::start();
    let mut alice = TestPeer::join(&directory, "alice").await;
    let mallory = RawClient::registered(&directory, "mallory", ERRAND).await;
    let thief = Machine::new(directory.place, "alice");
    refusal(thief.start(LoginKind::Resident, Some(PASSWORD), false).await);
    let key = asked(&mut alice).await.0.parse().unwrap();
    let answer = mallory.ask(DirectoryRequest::AnswerKeyRequest { key, allow: true }).await;
    assert_eq!(answer, Err(Refusal::NoKeyRequest));
    assert!(matches!(refusal(thief.start(ERRAND, None, false).await), Refusal::OwnerAsked { .. }));
}

#[tokio::test]
async fn a_replaced_key_takes_its_account_back_without_the_password() {
    let directory = TestDirectory::start();
    let alice = RawClient::registered(&directory, "alice", ERRAND).await;
    let thief = RawClient::stranger(&directory).await;
    let password = || Some(Password::parse(PASSWORD).unwrap());
    thief.log_in(Login { password: password(), ..thief.login("alice", LoginKind::Resident) }).await.unwrap();

    let owner = RawClient::connect(directory.place, IdentityKey::from_seed(alice.identity.seed())).await;
    let login = owner.login("alice", ERRAND);
    let replaced = Err(Refusal::KeyReplaced { hours_left: 168 });
    assert_eq!(owner.log_in(login.clone()).await, replaced);
    assert_eq!(owner.log_in(Login { password: password(), ..login.clone() }).await, replaced);
    owner.log_in(Login { undo: true, ..login }).await.unwrap();
    assert_eq!(owner.identify("alice").await.key, alice.identity.public());
    let closed = thief.connection.closed().await.to_string();
    assert!(closed.contains("logged in elsewhere"), "{closed}");

    // What replaced it has no undo of its own, and a stranger has none at all.
    for seed in [thief.identity.seed(), &[7; 32]] {
        let back = RawClient::connect(directory.place, IdentityKey::from_seed(seed)).await;
        let undo = Login { undo: true, ..back.login("alice", ERRAND) };
        assert_eq!(back.log_in(undo).await, Err(Refusal::PasswordNeeded));
    }
    assert!(matches!(
        owner.ask(DirectoryRequest::Who { recent: false, pattern: None, after: None }).await,
        Ok(DirectoryReply::People { .. })
    ));
}

/// A new account with an invitation.
async fn register(directory: &TestDirectory, name: &str, token: Option<InviteToken>) -> Result<RawClient, Refusal> {
    let client = RawClient::stranger(directory).await;
    let password = Some(Password::parse(PASSWORD).unwrap());
    client.log_in(Login { password, token, register: true, ..client.login(name, ERRAND) }).await?;
    Ok(client)
}

async fn invite(client: &RawClient) -> Result<InviteToken, Refusal> {
    match client.ask(DirectoryRequest::Invite).await? {
        DirectoryReply::Invited { token, expires } => {
            assert!(expires > now_millis().plus_millis(6 * 24 * 3_600_000));
            Ok(token)
        }
        other => panic!("an invitation was answered with {other:?}"),
    }
}

#[tokio::test]
async fn an_invitation_admits_one_account_and_survives_a_restart() {
    let (directory, first) = TestDirectory::start_invite_only().await;
    assert_eq!(register(&directory, "alice", None).await.err(), Some(Refusal::InvitationNeeded));
    let forged = InviteToken::from_bytes([7; 16]);
    assert_eq!(register(&directory, "alice", Some(forged)).await.err(), Some(Refusal::InvitationInvalid));
    let alice = register(&directory, "alice", Some(first.clone())).await.unwrap();
    assert_eq!(register(&directory, "bob", Some(first)).await.err(), Some(Refusal::InvitationInvalid));

    let for_bob = invite(&alice).await.unwrap();
    // A name that is taken does not use the invitation up.
    assert_eq!(register(&directory, "alice", Some(for_bob.clone())).await.err(), Some(Refusal::NameTaken));
    let directory = directory.stop().await.start_again();
    register(&directory, "bob", Some(for_bob)).await.unwrap();
}

#[tokio::test]
async fn an_account_has_twenty_open_invitations() {
    let directory = TestDirectory::start();
    let alice = RawClient::registered(&directory, "alice", ERRAND).await;
    for _ in 0..20 {
        invite(&alice).await.unwrap();
    }
    assert_eq!(invite(&alice).await.err(), Some(Refusal::TooManyInvitations));
    let bob = RawClient::registered(&directory, "bob", ERRAND).await;
    invite(&bob).await.unwrap();
}

#[tokio::test]
async fn a_new_password_is_the_only_one_and_ends_what_waits_by_the_old() {
    let directory = TestDirectory::start();
    let mut alice = TestPeer::join(&directory, "alice").await;
    let thief = Machine::new(directory.place, "alice");
    refusal(thief.start(ERRAND, Some(PASSWORD), false).await);
    asked(&mut alice).await;
    alice.ask(Command::ChangePassword { new: Password::parse("another").unwrap() }).await.unwrap();
    let old = thief.start(ERRAND, Some(PASSWORD), false).await;
    assert_eq!(refusal(old), Refusal::WrongPassword { tries_left: 2 });
    let new = thief.start(ERRAND, Some("another"), false).await;
    assert!(matches!(refusal(new), Refusal::OwnerAsked { .. }));
}

#[tokio::test]
async fn a_deleted_account_is_gone_with_its_sessions_and_its_name_kept_back() {
    let directory = TestDirectory::start();
    let mut alice = TestPeer::join(&directory, "alice").await;
    let bob = RawClient::registered(&directory, "bob", ERRAND).await;
    let errand = alice.machine.raw_errand().await;
    let delete = |text| DirectoryRequest::DeleteAccount { name: name(text) };
    assert_eq!(bob.ask(delete("alice")).await, Err(Refusal::NotYourName));
    assert_eq!(errand.ask(delete("alice")).await, Ok(DirectoryReply::Done));
    assert_eq!(alice.ended().await.unwrap_err().kind, FailureKind::Authentication);
    let closed = errand.connection.closed().await.to_string();
    assert!(closed.contains("deleted"), "{closed}");
    let gone = bob.ask(DirectoryRequest::Identify { name: name("alice") }).await;
    assert_eq!(gone, Err(Refusal::UnknownName));
    assert_eq!(register(&directory, "alice", None).await.err(), Some(Refusal::NameKeptBack { days: 90 }));
}

#[tokio::test]
async fn an_owner_sees_their_sessions_and_ends_the_others() {
    let directory = TestDirectory::start();
    let mut alice = TestPeer::join(&directory, "alice").await;
    let errand = alice.machine.raw_errand().await;
    let Ok(DirectoryReply::Sessions { sessions }) = errand.ask(DirectoryRequest::Sessions).await else { panic!() };
    let this = sessions.iter().filter(|session| session.this).map(|session| session.kind);
    assert_eq!(this.collect::<Vec<_>>(), [ERRAND]);
    assert_eq!(sessions[0].kind, LoginKind::Resident);
    assert_eq!(errand.ask(DirectoryRequest::EndOtherSessions).await, Ok(DirectoryReply::Done));
    assert_eq!(alice.ended().await.unwrap_err().kind, FailureKind::LoggedInElsewhere);
    assert!(errand.ask(DirectoryRequest::Sessions).await.is_ok());
}

/// The next message of this peer that did not arrive, with the refusal's number.
async fn not_sent(peer: &mut TestPeer) -> (MessageId, Option<u16>) {
    peer.until(|event| match event {
        Event::NotSent { id, failure, .. } => {
            assert!(failure.hint.as_ref().is_some_and(|hint| hint.contains("again")), "{failure:?}");
            Some((*id, failure.refusal))
        }
        _ => None,
    })
    .await
}

/// Writes a line and says which message it is.
async fn write(peer: &TestPeer, to: &str, text: &str) -> MessageId {
    let rows = peer.ask(Command::Message { to: name(to), text: text.to_owned() }).await.unwrap();
    match rows[..] {
        [Event::Stored { id, .. }] => id,
        _ => panic!("{rows:?}"),
    }
}

/// Whoever is told of something twice hears of it before this line comes.
async fn hears_of_nothing_more(peer: &mut TestPeer, writer: &TestPeer) {
    writer.say(peer.machine.name().as_str(), "the last").await;
    let twice = peer.until(|event| match event {
        Event::Message { text, .. } if text == "the last" => Some(false),
        Event::NotSent { .. } => Some(true),
        _ => None,
    });
    assert!(!twice.await, "it was told again");
}

#[tokio::test]
async fn what_was_sealed_to_a_replaced_key_comes_back_once_and_is_sent_again() {
    let directory = TestDirectory::start();
    let mut alice = TestPeer::join(&directory, "alice").await;
    let bobs_old = TestPeer::join(&directory, "bob").await.stop().await;
    let (one, two) = (write(&alice, "bob", "one").await, write(&alice, "bob", "two").await);

    let bobs_new = Machine::new(directory.place, "bob");
    let mut bob = bobs_new.start(LoginKind::Resident, Some(PASSWORD), false).await.unwrap();
    let key_changed = Some(Refusal::KeyChanged.number());
    assert_eq!(not_sent(&mut alice).await, (one, key_changed));
    assert_eq!(not_sent(&mut alice).await, (two, key_changed));
    write(&alice, "bob", "one and two").await;
    assert_eq!(bob.next_line().await.1, "one and two");

    // The next session is not told again.
    let mut alice = alice.stop().await.resident().await;
    hears_of_nothing_more(&mut alice, &bob).await;
    drop(bobs_old);
}

/// The news of another key: whose, and whether it is kept out.
async fn key_change(peer: &mut TestPeer) -> (String, PeerKey, bool) {
    peer.until(|event| match event {
        Event::KeyChanged { name, new, held, .. } => Some((name.to_string(), *new, *held)),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn contacts_are_told_of_a_new_key_at_once_and_strangers_are_not() {
    let directory = TestDirectory::start();
    let mut alice = TestPeer::join(&directory, "alice").await;
    let mut carol = TestPeer::join(&directory, "carol").await;
    let mut dave = TestPeer::join(&directory, "dave").await;
    let bobs = TestPeer::join(&directory, "bob").await.stop().await;
    for (peer, mark) in [(&alice, false), (&carol, true)] {
        peer.ask(Command::Verify { name: name("bob"), mark }).await.unwrap();
    }
    let bob = Machine::new(directory.place, "bob").start(LoginKind::Resident, Some(PASSWORD), false).await.unwrap();
    assert_eq!(key_change(&mut alice).await, ("bob".to_owned(), bob.key(), false));
    assert_eq!(key_change(&mut carol).await, ("bob".to_owned(), bob.key(), true));
    bob.say("dave", "hello, stranger").await;
    let told = dave.until(|event| match event {
        Event::Message { .. } => Some(false),
        Event::KeyChanged { .. } => Some(true),
        _ => None,
    });
    assert!(!told.await, "dave has never heard of bob");
    drop(bobs);
}

#[tokio::test]
async fn a_sender_who_was_offline_is_told_after_a_restart_and_a_resident_only() {
    let directory = TestDirectory::start();
    let alice = TestPeer::join(&directory, "alice").await;
    let bobs = TestPeer::join(&directory, "bob").await.stop().await;
    let sent = write(&alice, "bob", "one").await;
    let alices = alice.stop().await;
    Machine::new(directory.place, "bob").start(ERRAND, Some(PASSWORD), false).await.unwrap().stop().await;

    let directory = directory.stop().await.start_again();
    let errand = alices.start(LoginKind::Errand { collects: true }, None, false).await.unwrap();
    errand.ask(Command::Who { recent: false, pattern: String::new() }).await.unwrap();
    errand.stop().await;
    let mut alice = alices.resident().await;
    assert_eq!(not_sent(&mut alice).await.0, sent);
    drop((bobs, directory));
}

#[tokio::test]
async fn taking_back_returns_what_was_sealed_to_the_other_key() {
    let directory = TestDirectory::start();
    let mut alice = TestPeer::join(&directory, "alice").await;
    let bobs = TestPeer::join(&directory, "bob").await.stop().await;
    let thief = Machine::new(directory.place, "bob");
    thief.start(LoginKind::Resident, Some(PASSWORD), false).await.unwrap().stop().await;
    let sent = write(&alice, "bob", "for the thief").await;
    let mut bob = bobs.take_back().await;
    assert_eq!(not_sent(&mut alice).await.0, sent);
    write(&alice, "bob", "for bob").await;
    assert_eq!(bob.next_line().await.1, "for bob");
}
