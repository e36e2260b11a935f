//! Blocks, friends and privacy: what the two people are told, and what follows for everything they ask.

use super::*;
use crate::wire::catalog::{Entry, EntryKind, Query, Scope};
use crate::wire::ids::{FileDigest, FileName, FileSize};
use crate::wire::limits::FRIEND_REQUESTS_PER_HOUR;
use crate::wire::people::{Audience, Friend, FriendAnswer, FriendState};

/// Two people who are online.
struct Two {
    world: World,
    alice: Client,
    bob: Client,
}

impl Two {
    async fn start() -> Self {
        let world = World::start();
        let bob = world.member("bob", LoginKind::Resident, IdentityKey::generate(&mut OsRandom)).await;
        let alice = world.member("alice", LoginKind::Resident, IdentityKey::generate(&mut OsRandom)).await;
        Self { world, alice, bob }
    }

    async fn befriend(&self) {
        done(&self.alice, befriend("bob"), DirectoryReply::Friendship(FriendState::Asked)).await;
        let key = self.alice.identity.public();
        assert_eq!(self.bob.told().await, DirectoryPush::FriendAsked { from: name("alice"), key });
        done(&self.bob, befriend("alice"), DirectoryReply::Friendship(FriendState::Friends)).await;
        assert_eq!(self.alice.told().await, answered("bob", FriendAnswer::Accepted));
    }

    fn dial(&self) -> DirectoryRequest {
        let (to, key) = (name("bob"), self.bob.identity.public());
        DirectoryRequest::Dial(DialRequest { to, key, purpose: Purpose::Talk, candidates: Some(vec![]), relay: false })
    }

    /// Alice dials bob, who takes it: whether both hear addresses.
    async fn is_direct(&self) -> bool {
        let taken = Ok(PushReply::Candidates(Some(Vec::new())));
        let mut asked = std::pin::pin!(self.alice.ask(self.dial()));
        let answered = tokio::select! {
            answered = &mut asked => answered,
            pushed = self.bob.pushed(taken) => {
                assert!(matches!(pushed, DirectoryPush::Dial(_)), "{pushed:?}");
                asked.await
            }
        };
        match answered {
            Ok(DirectoryReply::DialGranted(granted)) => !granted.direct.candidates().is_empty(),
            Err(Refusal::NoConsent) => false,
            other => panic!("{other:?}"),
        }
    }
}

impl Client {
    /// Takes the next push that does not say who came or went.
    async fn told(&self) -> DirectoryPush {
        loop {
            let pushed = self.pushed(Ok(PushReply::Taken)).await;
            if !matches!(pushed, DirectoryPush::Presence { .. }) {
                return pushed;
            }
        }
    }
}

fn befriend(text: &str) -> DirectoryRequest {
    DirectoryRequest::Befriend { name: name(text) }
}

fn unfriend(text: &str) -> DirectoryRequest {
    DirectoryRequest::Unfriend { name: name(text) }
}

fn put_off(text: &str) -> DirectoryRequest {
    DirectoryRequest::PutOff { name: name(text) }
}

fn block(text: &str) -> DirectoryRequest {
    DirectoryRequest::Block { name: name(text) }
}

fn unblock(text: &str) -> DirectoryRequest {
    DirectoryRequest::Unblock { name: name(text) }
}

fn answered(by: &str, answer: FriendAnswer) -> DirectoryPush {
    DirectoryPush::FriendAnswered { by: name(by), answer }
}

async fn done(client: &Client, request: DirectoryRequest, reply: DirectoryReply) {
    assert_eq!(client.ask(request).await, Ok(reply));
}

async fn refused(client: &Client, request: DirectoryRequest, refusal: Refusal) {
    assert_eq!(client.ask(request.clone()).await, Err(refusal), "{request:?}");
}

async fn friends(client: &Client) -> Vec<(String, FriendState, Presence)> {
    match client.ask(DirectoryRequest::Friends { after: None }).await {
        Ok(DirectoryReply::Friends { friends, more: false }) => {
            let row = |Friend { name, state, presence, .. }: Friend| (name.to_string(), state, presence);
            friends.into_iter().map(row).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_request_is_shown_at_each_login_until_it_is_answered_and_the_asker_hears_the_answer() {
    let two = Two::start().await;
    done(&two.alice, befriend("bob"), DirectoryReply::Friendship(FriendState::Asked)).await;
    let asked = DirectoryPush::FriendAsked { from: name("alice"), key: two.alice.identity.public() };
    assert_eq!(two.bob.told().await, asked);
    let again = two.world.again(&two.bob).await;
    again.log_in(again.login("bob", LoginKind::Resident, None)).await.unwrap();
    assert_eq!(again.told().await, asked);
    assert_eq!(friends(&again).await, [("alice".to_owned(), FriendState::AsksUs, Presence::Offline)]);
    done(&again, put_off("alice"), DirectoryReply::Done).await;
    assert_eq!(two.alice.told().await, answered("bob", FriendAnswer::Busy));
    done(&again, befriend("alice"), DirectoryReply::Friendship(FriendState::Friends)).await;
    assert_eq!(two.alice.told().await, answered("bob", FriendAnswer::Accepted));
    assert_eq!(friends(&two.alice).await, [("bob".to_owned(), FriendState::Friends, Presence::Online)]);
    let last = two.world.again(&again).await;
    last.log_in(last.login("bob", LoginKind::Resident, None)).await.unwrap();
    done(&last, unfriend("alice"), DirectoryReply::Done).await;
    assert_eq!(two.alice.told().await, answered("bob", FriendAnswer::Ended));
    // Nothing of the request was told to the last session: its next news is a new one.
    done(&two.alice, befriend("bob"), DirectoryReply::Friendship(FriendState::Asked)).await;
    assert_eq!(last.told().await, asked);
    done(&last, unfriend("alice"), DirectoryReply::Done).await;
    assert_eq!(two.alice.told().await, answered("bob", FriendAnswer::Declined));
    refused(&last, unfriend("alice"), Refusal::NotFriends).await;
    refused(&last, put_off("alice"), Refusal::NotFriends).await;
    two.world.stop().await;
}

#[tokio::test]
async fn the_peer_hears_that_another_session_of_its_account_has_changed_something() {
    let two = Two::start().await;
    let errand = two.world.again(&two.bob).await;
    errand.log_in(errand.login("bob", ERRAND, None)).await.unwrap();
    for request in [
        DirectoryRequest::Block { name: name("alice") },
        DirectoryRequest::Unblock { name: name("alice") },
        DirectoryRequest::SetAudience(Audience::Friends),
    ] {
        done(&errand, request, DirectoryReply::Done).await;
        assert_eq!(two.bob.told().await, DirectoryPush::PeopleChanged);
    }
    done(&two.bob, DirectoryRequest::SetAudience(Audience::Everyone), DirectoryReply::Done).await;
    done(&two.alice, befriend("bob"), DirectoryReply::Friendship(FriendState::Asked)).await;
    let asked = DirectoryPush::FriendAsked { from: name("alice"), key: two.alice.identity.public() };
    assert_eq!(two.bob.told().await, asked, "nothing of what it has said itself");
    two.world.stop().await;
}

#[tokio::test]
async fn nobody_blocks_or_befriends_themselves_or_nobody() {
    let Two { world, alice, .. } = Two::start().await;
    for request in [block, unblock, befriend, unfriend, put_off] {
        refused(&alice, request("alice"), Refusal::Yourself).await;
        refused(&alice, request("nobody2"), Refusal::UnknownName).await;
    }
    refused(&alice, unblock("bob"), Refusal::NotBlocked).await;
    world.stop().await;
}

#[tokio::test]
async fn friends_hear_each_others_addresses_for_as_long_as_they_are_friends() {
    let two = Two::start().await;
    // That alice came is the first thing bob hears.
    assert_eq!(two.bob.pushed(Ok(PushReply::Taken)).await, presence("alice", true));
    assert!(!two.is_direct().await);
    two.befriend().await;
    assert!(two.is_direct().await && two.is_direct().await);
    done(&two.alice, DirectoryRequest::Grants { after: None }, DirectoryReply::Grants { grants: vec![], more: false })
        .await;
    done(&two.alice, unfriend("bob"), DirectoryReply::Done).await;
    assert_eq!(two.bob.told().await, answered("alice", FriendAnswer::Ended));
    assert!(!two.is_direct().await);
    two.world.stop().await;
}

/// What somebody learns of bob who may not see him.
async fn sees_nothing(two: &Two) {
    let Two { alice, bob, .. } = two;
    let identity = alice.ask(DirectoryRequest::Identify { name: name("bob") }).await;
    let Ok(DirectoryReply::Identity(identity)) = identity else { panic!("{identity:?}") };
    assert_eq!(identity.key, bob.identity.public());
    assert_eq!((identity.prekey, identity.online, identity.accepts), (None, false, false));
    refused(alice, two.dial(), Refusal::Offline).await;
    let other_key = DialRequest {
        to: name("bob"),
        key: alice.identity.public(),
        purpose: Purpose::Talk,
        candidates: None,
        relay: true,
    };
    refused(alice, DirectoryRequest::Dial(other_key), Refusal::Offline).await;
    refused(alice, DirectoryRequest::AskConsent { to: name("bob") }, Refusal::Offline).await;
    assert_eq!(found(alice).await, [""; 0]);
}

async fn found(client: &Client) -> Vec<String> {
    let query = Query::Owner(name("bob"));
    match client.ask(DirectoryRequest::Find { query, after: None }).await {
        Ok(DirectoryReply::Entries { found, .. }) => {
            found.into_iter().map(|found| found.entry.name.to_string()).collect()
        }
        other => panic!("{other:?}"),
    }
}

async fn publish(client: &Client) {
    let entry = Entry {
        name: FileName::parse("notes").unwrap(),
        size: FileSize::try_from(5).unwrap(),
        digest: FileDigest::from_bytes([1; 32]),
        kind: EntryKind::File,
        scope: Scope::Everyone,
        hides_address: false,
    };
    done(client, DirectoryRequest::Publish(entry), DirectoryReply::Done).await;
}

#[tokio::test]
async fn who_is_blocked_and_who_is_no_friend_see_nothing_and_friends_see_everything() {
    let two = Two::start().await;
    let Two { alice, bob, .. } = &two;
    let prekey = bob.put_prekey("bob").await;
    publish(bob).await;
    let written = |id| alice.deliver("bob", envelope(alice, bob.identity.public(), prekey, id));
    assert_eq!(found(alice).await, ["notes"]);

    done(bob, DirectoryRequest::SetAudience(Audience::Friends), DirectoryReply::Done).await;
    done(bob, DirectoryRequest::Audience, DirectoryReply::Audience(Audience::Friends)).await;
    sees_nothing(&two).await;
    assert_eq!(written(1).await, Err(Refusal::NotAccepted));
    two.befriend().await;
    assert_eq!(found(alice).await, ["notes"]);
    assert_eq!(written(2).await, Ok(DirectoryReply::Done));
    assert_eq!(delivered_id(bob.received().await), 2);
    assert!(matches!(alice.told().await, DirectoryPush::Receipts(_)));
    assert!(two.is_direct().await);

    done(bob, block("alice"), DirectoryReply::Done).await;
    assert_eq!(alice.told().await, answered("bob", FriendAnswer::Ended));
    done(bob, DirectoryRequest::SetAudience(Audience::Everyone), DirectoryReply::Done).await;
    sees_nothing(&two).await;
    assert_eq!(written(3).await, Err(Refusal::NotAccepted));
    done(alice, befriend("bob"), DirectoryReply::Friendship(FriendState::Asked)).await;
    assert_eq!(friends(bob).await, [], "she is not shown");
    let names = vec![name("alice")];
    done(bob, DirectoryRequest::Blocked { after: None }, DirectoryReply::Names { names, more: false }).await;
    refused(bob, befriend("alice"), Refusal::YouBlock).await;
    refused(bob, DirectoryRequest::AskConsent { to: name("alice") }, Refusal::YouBlock).await;

    done(bob, unblock("alice"), DirectoryReply::Done).await;
    assert_eq!(found(alice).await, ["notes"]);
    assert_eq!(friends(bob).await, [("alice".to_owned(), FriendState::AsksUs, Presence::Offline)]);
    two.world.stop().await;
}

#[tokio::test]
async fn a_block_gives_back_what_waits_and_ends_what_was_begun() {
    let two = Two::start().await;
    let Two { alice, bob, world } = &two;
    let prekey = bob.put_prekey("bob").await;
    bob.ask(DirectoryRequest::Allow(Grant { to: name("alice"), allowance: Allowance::Always })).await.unwrap();
    assert_eq!(bob.pushed(Ok(PushReply::Taken)).await, presence("alice", true));
    let taken = Ok(PushReply::Candidates(Some(Vec::new())));
    let (_, granted) = tokio::join!(bob.pushed(taken), alice.ask(two.dial()));
    let Ok(DirectoryReply::DialGranted(granted)) = granted else { panic!("{granted:?}") };
    let question = DirectoryRequest::AskConsent { to: name("alice") };
    let (asked, answer) = tokio::join!(alice.told(), bob.ask(question));
    assert!(matches!(asked, DirectoryPush::ConsentAsked { .. }) && answer.is_ok(), "{asked:?} {answer:?}");
    assert_eq!(alice.deliver("bob", envelope(alice, bob.identity.public(), prekey, 7)).await, Ok(DirectoryReply::Done));
    assert_eq!(delivered_id(bob.pushed(Ok(PushReply::Left)).await), 7);

    done(bob, block("alice"), DirectoryReply::Done).await;
    let returned =
        DirectoryPush::Returned { to: name("bob"), id: MessageId::from_bytes([7; 16]), refusal: Refusal::NotAccepted };
    assert_eq!(alice.told().await, returned);
    refused(alice, DirectoryRequest::Opened { dial: granted.dial }, Refusal::Offline).await;
    // He has asked her, and hears nothing of her any more: the next that he hears is of somebody else.
    let allow = DirectoryRequest::Allow(Grant { to: name("bob"), allowance: Allowance::Always });
    done(alice, allow, DirectoryReply::Done).await;
    let carol = world.member("carol", LoginKind::Resident, IdentityKey::generate(&mut OsRandom)).await;
    done(&carol, befriend("bob"), DirectoryReply::Friendship(FriendState::Asked)).await;
    assert_eq!(bob.told().await, DirectoryPush::FriendAsked { from: name("carol"), key: carol.identity.public() });
    two.world.stop().await;
}

#[tokio::test]
async fn neither_of_two_hears_of_the_others_receipts_when_one_keeps_the_other_out() {
    let two = Two::start().await;
    let Two { alice, bob, .. } = &two;
    done(bob, block("alice"), DirectoryReply::Done).await;
    let receipt = |from: &Client, to: &Client, id: u8| {
        let (by, to, id) = (from.identity.public(), to.identity.public(), MessageId::from_bytes([id; 16]));
        let said = Receipt { by, to, id, sequence: 1, highest: 1, kind: ReceiptKind::Read, at: now_millis() };
        receipt::sign(&from.identity, said)
    };
    let read = |to: &str, signed| DirectoryRequest::Receipts { to: name(to), receipts: vec![signed] };
    done(bob, read("alice", receipt(bob, alice, 1)), DirectoryReply::Done).await;
    done(alice, read("bob", receipt(alice, bob, 1)), DirectoryReply::Done).await;
    done(bob, unblock("alice"), DirectoryReply::Done).await;
    for (from, to, text) in [(alice, bob, "bob"), (bob, alice, "alice")] {
        let signed = receipt(from, to, 2);
        done(from, read(text, signed.clone()), DirectoryReply::Done).await;
        assert_eq!(to.told().await, DirectoryPush::Receipts(vec![signed]), "and nothing of the first");
    }
    two.world.stop().await;
}

#[tokio::test]
async fn a_new_key_has_no_friends_who_hear_of_it_and_whoever_may_not_see_the_account_does_not() {
    let world = World::start();
    let old = world.registered("bob", ERRAND).await;
    let member = |text: &'static str| world.member(text, LoginKind::Resident, IdentityKey::generate(&mut OsRandom));
    let (alice, carol) = (member("alice").await, member("carol").await);
    done(&alice, befriend("bob"), DirectoryReply::Friendship(FriendState::Asked)).await;
    done(&old, befriend("alice"), DirectoryReply::Friendship(FriendState::Friends)).await;
    assert_eq!(alice.told().await, answered("bob", FriendAnswer::Accepted));
    done(&old, block("carol"), DirectoryReply::Done).await;
    let new = world.stranger().await;
    new.log_in(new.login("bob", ERRAND, Some("secret"))).await.unwrap();
    assert_eq!(alice.told().await, DirectoryPush::KeyChanged { name: name("bob"), key: new.identity.public() });
    assert_eq!(alice.told().await, answered("bob", FriendAnswer::Ended));
    assert_eq!(friends(&new).await, []);
    let names = vec![name("carol")];
    done(&new, DirectoryRequest::Blocked { after: None }, DirectoryReply::Names { names, more: false }).await;
    done(&alice, befriend("carol"), DirectoryReply::Friendship(FriendState::Asked)).await;
    let asked = DirectoryPush::FriendAsked { from: name("alice"), key: alice.identity.public() };
    assert_eq!(carol.told().await, asked, "the first that she hears");

    done(&new, befriend("alice"), DirectoryReply::Friendship(FriendState::Asked)).await;
    done(&alice, befriend("bob"), DirectoryReply::Friendship(FriendState::Friends)).await;
    done(&new, DirectoryRequest::DeleteAccount { name: name("bob") }, DirectoryReply::Done).await;
    assert!(matches!(alice.told().await, DirectoryPush::FriendAsked { .. }));
    assert_eq!(alice.told().await, answered("bob", FriendAnswer::Ended));
    world.stop().await;
}

#[tokio::test]
async fn who_asks_too_many_to_be_friends_has_to_wait_and_whoever_answers_does_not() {
    let Two { world, alice, bob } = Two::start().await;
    for number in 0..FRIEND_REQUESTS_PER_HOUR {
        let (text, identity) = (format!("p{number}"), IdentityKey::generate(&mut OsRandom));
        let account = Account {
            name: name(&text),
            key: identity.public(),
            password: String::new(),
            created_at: now_millis(),
            disabled: false,
            legacy: false,
        };
        world.shared.store.create_account(account, None).await.unwrap();
        done(&alice, befriend(&text), DirectoryReply::Friendship(FriendState::Asked)).await;
        done(&alice, befriend(&text), DirectoryReply::Friendship(FriendState::Asked)).await; // is the same request
    }
    let refused = alice.ask(befriend("bob")).await;
    assert!(matches!(refused, Err(Refusal::TooOften { seconds: 1..=120 })), "{refused:?}");
    done(&bob, befriend("alice"), DirectoryReply::Friendship(FriendState::Asked)).await;
    done(&alice, befriend("bob"), DirectoryReply::Friendship(FriendState::Friends)).await;
    world.stop().await;
}
