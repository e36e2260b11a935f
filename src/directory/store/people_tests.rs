//! What the SQLite store keeps of people: friends, blocks, strangers, and who finds what of whom.

use crate::directory::chance::Chance;
use crate::directory::store::sqlite::tests::{NOW, World, envelope, is_refused, key_of, name};
use crate::directory::store::{Parted, Returned, Said, Store as _, StoreError};
use crate::protocol::consent;
use crate::protocol::people::{Circle, News, Relation, Word};
use crate::wire::catalog::{Entry, EntryKind, Query, Scope};
use crate::wire::ids::{FileDigest, FileName, FileSize, Pattern, PeerKey, PeerName, UnixMillis};
use crate::wire::limits::{ACQUAINTANCES_MAX, BLOCKED_MAX, FRIEND_REQUESTS_MAX, FRIENDS_MAX, MAILBOX_PER_STRANGER_MAX};
use crate::wire::people::{Audience, FriendAnswer, FriendState};
use crate::wire::refusal::Refusal;
use crate::wire::rendezvous::{Allowance, Grant};

const HOUR: u64 = 3_600_000;

async fn say(world: &World, who: &str, word: Word, other: &str) -> Result<Said, StoreError> {
    world.store.say(&name(who), key_of(who), &name(other), word, NOW).await
}

async fn befriend(world: &World, one: &str, other: &str) {
    say(world, one, Word::Befriend, other).await.unwrap();
    say(world, other, Word::Befriend, one).await.unwrap();
}

async fn hide(world: &World, who: &str, audience: Audience) -> Vec<PeerName> {
    world.store.set_audience(&name(who), key_of(who), audience, NOW).await.unwrap()
}

async fn allow(world: &World, granter: &str, to: &str, allowance: Allowance) -> Result<(), StoreError> {
    world.store.allow(&name(granter), key_of(granter), Grant { to: name(to), allowance }, NOW).await
}

/// Names and states on pages of two.
async fn friends(world: &World, who: &str) -> Vec<String> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = world.store.friends(&name(who), after, 2).await.unwrap();
        let Some(last) = page.last() else { return all };
        after = Some(last.name.clone());
        assert!(page.iter().all(|friend| friend.key == key_of(friend.name.as_str())));
        all.extend(page.iter().map(|friend| format!("{} {:?}", friend.name, friend.state)));
    }
}

async fn requests(world: &World, who: &str) -> Vec<String> {
    let requests = world.store.friend_requests(&name(who)).await.unwrap();
    requests.into_iter().map(|(name, _)| name.to_string()).collect()
}

/// Accounts `p1` to `pN`, whose keys are all the same.
fn crowd(world: &World, count: u64) {
    world.meddle(&format!(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
         INSERT INTO account (name, key, password_phc, created_at) SELECT 'p' || i, zeroblob(32), 'phc', 0 FROM n"
    ));
}

fn news(answer: FriendAnswer) -> Option<News> {
    Some(News::Answered(answer))
}

#[tokio::test]
async fn two_become_friends_and_both_lists_say_so() {
    let world = World::with(&["alice", "bob", "carol", "dave"]).await;
    let asked = say(&world, "alice", Word::Befriend, "bob").await.unwrap();
    assert_eq!((asked.state, asked.news), (Some(FriendState::Asked), Some(News::Asked)));
    assert_eq!(requests(&world, "bob").await, ["alice"]);
    let accepted = say(&world, "bob", Word::Befriend, "alice").await.unwrap();
    assert_eq!((accepted.state, accepted.news), (Some(FriendState::Friends), news(FriendAnswer::Accepted)));
    assert_eq!(requests(&world, "bob").await, [""; 0]);
    say(&world, "carol", Word::Befriend, "bob").await.unwrap();
    say(&world, "bob", Word::Befriend, "dave").await.unwrap();
    assert_eq!(friends(&world, "bob").await, ["alice Friends", "carol AsksUs", "dave Asked"]);
    assert_eq!(friends(&world, "alice").await, ["bob Friends"]);
    let put_off = say(&world, "bob", Word::PutOff, "carol").await.unwrap();
    assert_eq!((put_off.state, put_off.news), (Some(FriendState::AsksUs), news(FriendAnswer::Busy)));
    assert_eq!(say(&world, "bob", Word::PutOff, "carol").await.unwrap().news, None, "she knows");
    say(&world, "carol", Word::Unfriend, "bob").await.unwrap();
    say(&world, "carol", Word::Befriend, "bob").await.unwrap();
    assert_eq!(say(&world, "bob", Word::PutOff, "carol").await.unwrap().news, news(FriendAnswer::Busy));
    let ended = say(&world, "alice", Word::Unfriend, "bob").await.unwrap();
    assert_eq!((ended.state, ended.news), (None, news(FriendAnswer::Ended)));
    assert_eq!(friends(&world, "bob").await, ["carol AsksUs", "dave Asked"]);
    is_refused(say(&world, "alice", Word::Befriend, "nobody2").await, Refusal::UnknownName);
    let forged = world.store.say(&name("alice"), key_of("bob"), &name("carol"), Word::Block, NOW).await;
    is_refused(forged, Refusal::SessionEnded);
}

#[tokio::test]
async fn who_is_blocked_is_not_shown_and_has_no_grant_any_more() {
    let world = World::with(&["alice", "bob", "carol"]).await;
    befriend(&world, "alice", "bob").await;
    allow(&world, "bob", "alice", Allowance::Always).await.unwrap();
    say(&world, "carol", Word::Befriend, "bob").await.unwrap();
    for other in ["alice", "carol"] {
        say(&world, "bob", Word::Block, other).await.unwrap();
        is_refused(say(&world, "bob", Word::Befriend, other).await, Refusal::YouBlock);
        is_refused(allow(&world, "bob", other, Allowance::Once).await, Refusal::YouBlock);
    }
    assert_eq!(world.store.blocked(&name("bob"), None, 1).await, Ok(vec![name("alice")]));
    assert_eq!(world.store.blocked(&name("bob"), Some(name("alice")), 9).await, Ok(vec![name("carol")]));
    assert_eq!((friends(&world, "bob").await, requests(&world, "bob").await), (vec![], vec![]));
    assert_eq!(friends(&world, "alice").await, [""; 0]);
    assert_eq!(friends(&world, "carol").await, ["bob Asked"], "she waits");
    assert!(!world.store.may_dial(&name("bob"), &name("alice"), NOW).await.unwrap());
    let circle = Circle { blocked: [name("alice"), name("carol")].into(), ..Circle::default() };
    assert_eq!(world.store.circle(&name("bob")).await, Ok(circle));
    is_refused(say(&world, "bob", Word::Unfriend, "carol").await, Refusal::NotFriends);
    say(&world, "bob", Word::Unblock, "carol").await.unwrap();
    is_refused(say(&world, "bob", Word::Unblock, "carol").await, Refusal::NotBlocked);
    assert_eq!(requests(&world, "bob").await, ["carol"], "she waits still");
    say(&world, "bob", Word::Unblock, "alice").await.unwrap();
    assert!(!world.store.may_dial(&name("bob"), &name("alice"), NOW).await.unwrap(), "what was allowed is over");
}

#[tokio::test]
async fn nobody_writes_to_whom_they_may_not_see_and_what_waits_goes_back() {
    let world = World::with(&["alice", "bob", "carol", "dave"]).await;
    befriend(&world, "bob", "dave").await;
    let write = async |from: &str, id| world.deliver("bob", from, envelope(from, "bob", id)).await;
    let returned = async |to: &str| {
        let of = |returned: Returned| (returned.to.to_string(), returned.id.as_bytes()[0], returned.refusal);
        world.store.returned(&name(to), 0, 9).await.unwrap().into_iter().map(of).collect::<Vec<_>>()
    };
    for (from, id) in [("alice", 1), ("carol", 2), ("dave", 3), ("alice", 4)] {
        write(from, id).await.unwrap();
    }
    let blocked = say(&world, "bob", Word::Block, "alice").await.unwrap();
    assert_eq!(blocked.senders, [name("alice")]);
    let not_accepted = |id| ("bob".to_owned(), id, Refusal::NotAccepted);
    assert_eq!(returned("alice").await, [not_accepted(1), not_accepted(4)]);
    is_refused(write("alice", 5).await, Refusal::NotAccepted);
    is_refused(world.deliver("alice", "bob", envelope("bob", "alice", 5)).await, Refusal::YouBlock);

    assert_eq!(hide(&world, "bob", Audience::Friends).await, [name("carol")]);
    assert_eq!(world.store.audience(&name("bob")).await, Ok(Audience::Friends));
    assert_eq!(returned("carol").await, [not_accepted(2)]);
    is_refused(write("carol", 5).await, Refusal::NotAccepted);
    write("dave", 5).await.unwrap();
    let ended = say(&world, "dave", Word::Unfriend, "bob").await.unwrap();
    assert_eq!(ended.senders, [name("dave")], "he is no friend any more");
    assert_eq!(returned("dave").await, [not_accepted(3), not_accepted(5)]);
    assert_eq!(world.waiting("bob", 0).await, []);
    assert_eq!(hide(&world, "bob", Audience::Everyone).await, []);
    write("carol", 5).await.unwrap();
    assert_eq!(returned("carol").await, [not_accepted(2)]);
}

#[tokio::test]
async fn whether_a_person_takes_a_message_is_said_before_all_that_tells_whether_they_were_here() {
    let world = World::with(&["alice", "bob"]).await;
    say(&world, "bob", Word::Block, "alice").await.unwrap();
    let mut sealed_long_ago = envelope("alice", "bob", 1);
    sealed_long_ago.header.prekey = crate::wire::ids::PrekeyId::from_bytes([9; 16]);
    is_refused(world.deliver("bob", "alice", sealed_long_ago).await, Refusal::NotAccepted);
    let mut to_another_key = envelope("alice", "bob", 1);
    to_another_key.header.recipient = key_of("alice");
    is_refused(world.deliver("bob", "alice", to_another_key).await, Refusal::NotAccepted);
}

#[tokio::test]
async fn two_with_older_programs_are_no_strangers() {
    let world = World::with(&["alice", "bob"]).await;
    let write = async |id| world.deliver("bob", "alice", envelope("alice", "bob", id)).await;
    for id in 0..MAILBOX_PER_STRANGER_MAX {
        write(id).await.unwrap();
    }
    world.meddle("UPDATE account SET legacy = 1 WHERE name = 'alice'");
    is_refused(write(98).await, Refusal::StrangerLimit);
    world.meddle("UPDATE account SET legacy = 1 WHERE name = 'bob'");
    write(99).await.unwrap();
}

#[tokio::test]
async fn of_a_stranger_only_a_few_messages_wait_until_one_writes_back_allows_or_befriends_them() {
    let known: [(&str, Option<Allowance>); 4] = [
        ("written", None),
        ("allowed", Some(Allowance::Once)),
        ("allowed for a time that is over", Some(Allowance::Until(NOW))),
        ("befriended", None),
    ];
    for (how, allowance) in known {
        let world = World::with(&["alice", "bob"]).await;
        let write = async |id| world.deliver("bob", "alice", envelope("alice", "bob", id)).await;
        for id in 0..MAILBOX_PER_STRANGER_MAX {
            write(id).await.unwrap();
        }
        is_refused(write(99).await, Refusal::StrangerLimit);
        write(0).await.unwrap(); // which waits already
        match (how, allowance) {
            (_, Some(allowance)) => allow(&world, "bob", "alice", allowance).await.unwrap(),
            ("written", None) => world.deliver("alice", "bob", envelope("bob", "alice", 1)).await.unwrap(),
            (_, None) => befriend(&world, "bob", "alice").await,
        }
        match allowance {
            Some(Allowance::Until(_)) => is_refused(write(99).await, Refusal::StrangerLimit),
            Some(Allowance::Once | Allowance::Always) | None => write(99).await.unwrap(),
        }
    }
}

#[tokio::test]
async fn only_so_many_people_are_remembered_as_written_to() {
    let world = World::with(&["alice", "bob", "carol"]).await;
    crowd(&world, ACQUAINTANCES_MAX - 1);
    world.meddle("INSERT INTO acquaintance SELECT 'bob', name FROM account WHERE name LIKE 'p%'");
    for (id, to) in [(1, "alice"), (2, "carol"), (3, "carol")] {
        world.deliver(to, "bob", envelope("bob", to, id)).await.unwrap();
    }
    let has_written =
        async |to: &str| world.store.reception(&name("bob"), &name(to), NOW).await.unwrap().unwrap().has_written;
    assert!(has_written("alice").await && !has_written("carol").await);
    assert_eq!(world.store.reception(&name("nobody2"), &name("bob"), NOW).await, Ok(None));
}

#[tokio::test]
async fn friends_requests_and_blocks_have_an_end() {
    let world = World::with(&["alice", "bob", "carol"]).await;
    crowd(&world, FRIENDS_MAX);
    world
        .meddle("INSERT INTO friend (name, other, asked_at) SELECT 'alice', name, 0 FROM account WHERE name LIKE 'p%'");
    is_refused(say(&world, "alice", Word::Befriend, "bob").await, Refusal::TooManyFriends);
    let first = FRIEND_REQUESTS_MAX;
    world.meddle(&format!(
        "INSERT INTO friend (name, other, asked_at) SELECT name, 'bob', substr(name, 2) FROM account
         WHERE name LIKE 'p%' AND CAST(substr(name, 2) AS INTEGER) <= {first}"
    ));
    is_refused(say(&world, "carol", Word::Befriend, "bob").await, Refusal::TooManyAsk);
    hide(&world, "bob", Audience::Friends).await;
    let asked = say(&world, "carol", Word::Befriend, "bob").await.unwrap();
    assert_eq!((asked.state, asked.news), (Some(FriendState::Asked), None), "she does not learn how many ask him");
    let shown = requests(&world, "bob").await;
    assert_eq!((shown.len().to_string(), shown.contains(&"carol".to_owned())), (first.to_string(), false));
    assert_eq!((shown[0].as_str(), shown[1].as_str()), ("p1", "p2"), "the first to ask first");
    say(&world, "bob", Word::Unfriend, "p1").await.unwrap();
    assert!(requests(&world, "bob").await.contains(&"carol".to_owned()), "there is room for her");

    crowd_blocked(&world);
    is_refused(say(&world, "bob", Word::Block, "alice").await, Refusal::TooManyBlocked);
    say(&world, "bob", Word::Block, "p7").await.unwrap(); // who is blocked already
}

/// Bob blocks as many as he may.
fn crowd_blocked(world: &World) {
    let blocked = world.meddle("INSERT INTO block SELECT 'bob', name FROM account WHERE name LIKE 'p%'");
    assert_eq!(blocked.to_string(), BLOCKED_MAX.to_string());
}

#[tokio::test]
async fn another_key_has_no_friends_and_is_a_stranger_but_stays_blocked_and_goes_on_blocking() {
    let world = World::with(&["alice", "bob", "carol", "dave"]).await;
    befriend(&world, "bob", "alice").await;
    say(&world, "carol", Word::Befriend, "bob").await.unwrap();
    world.deliver("bob", "alice", envelope("alice", "bob", 1)).await.unwrap();
    say(&world, "bob", Word::Block, "dave").await.unwrap();
    say(&world, "dave", Word::Block, "bob").await.unwrap();
    let thief = PeerKey::from_bytes([9; 32]);
    let parted = world.store.replace_key(&name("bob"), key_of("bob"), thief, NOW).await;
    assert_eq!(parted, Ok(Parted { senders: vec![name("alice")], friends: vec![name("alice")] }));
    assert_eq!((friends(&world, "alice").await, friends(&world, "carol").await), (vec![], vec![]));
    let reception = world.store.reception(&name("alice"), &name("bob"), NOW).await.unwrap().unwrap();
    assert!(reception.is_stranger(), "she has written to somebody else: {reception:?}");
    for (person, asker) in [("bob", "dave"), ("dave", "bob")] {
        let relation = world.store.relation(&name(person), &name(asker)).await.unwrap();
        assert!(relation.blocks, "{person} blocks {asker}");
    }
    let deleted = world.store.delete_account(&name("dave"), None, NOW).await;
    assert_eq!(deleted, Ok(Parted::default()));
    assert_eq!(world.store.blocked(&name("bob"), None, 9).await, Ok(vec![]));
}

const PEOPLE: [&str; 4] = ["alice", "bob", "carol", "dave"];

#[tokio::test]
async fn everybody_finds_what_those_publish_whom_they_may_see_and_nothing_else() {
    let world = World::with(&PEOPLE).await;
    let digest = FileDigest::from_bytes([1; 32]);
    for owner in PEOPLE {
        let entry = Entry {
            name: FileName::parse("file").unwrap(),
            size: FileSize::try_from(7).unwrap(),
            digest,
            kind: EntryKind::File,
            scope: Scope::Everyone,
            hides_address: false,
        };
        world.store.publish(&name(owner), entry, NOW).await.unwrap();
    }
    let mut chance = Chance::new(1);
    let mut seen = [0, 0];
    for _ in 0..150 {
        let (who, other) = (PEOPLE[chance.below(4)], PEOPLE[chance.below(4)]);
        let word = [Word::Befriend, Word::Befriend, Word::Unfriend, Word::Block, Word::Unblock][chance.below(5)];
        match chance.below(6) {
            0 => drop(hide(&world, who, Audience::Friends).await),
            1 => drop(hide(&world, who, Audience::Everyone).await),
            _ if who != other => drop(say(&world, who, word, other).await),
            _ => continue,
        }
        for asker in PEOPLE {
            let mut expected = Vec::new();
            for owner in PEOPLE {
                let relation = world.store.relation(&name(owner), &name(asker)).await.unwrap();
                let circle = world.store.circle(&name(owner)).await.unwrap();
                assert!(owner == asker || circle.relation_to(&name(asker)) == relation, "the same rule twice");
                seen[usize::from(relation.is_open())] += 1;
                expected.extend(relation.is_open().then(|| name(owner)));
            }
            for query in [Query::Digest(digest), Query::Substring(Pattern::parse("IL").unwrap())] {
                let found = world.store.find(&name(asker), query, None, 9).await.unwrap().entries;
                assert_eq!(found.into_iter().map(|(owner, _)| owner).collect::<Vec<_>>(), expected, "for {asker}");
            }
            for owner in PEOPLE {
                for query in [
                    Query::Owner(name(owner)),
                    Query::Exact { owner: name(owner), name: FileName::parse("file").unwrap() },
                ] {
                    let found = world.store.find(&name(asker), query, None, 9).await.unwrap().entries;
                    assert_eq!(found.len() == 1, expected.contains(&name(owner)), "{owner} for {asker}");
                }
            }
        }
    }
    assert!(seen.iter().all(|times| *times > 200), "both cases came up: {seen:?}");
}

/// What bob allows alice, as a person would say it who has seen everything.
#[derive(Debug, Default)]
struct LastWord {
    allowance: Option<Allowance>,
    bob_wants_friendship: bool,
    alice_wants_friendship: bool,
    bob_blocks: bool,
    alice_blocks: bool,
}

impl LastWord {
    fn allows(&self, now: UnixMillis) -> bool {
        let are_friends = self.bob_wants_friendship && self.alice_wants_friendship;
        !self.bob_blocks && (are_friends || self.allowance.is_some_and(|allowance| consent::holds(allowance, now)))
    }

    fn ends_friendship(&mut self) {
        if self.bob_wants_friendship && self.alice_wants_friendship {
            (self.bob_wants_friendship, self.alice_wants_friendship) = (false, false);
        }
    }
}

#[tokio::test]
async fn under_any_order_of_what_two_people_say_a_dial_is_direct_as_the_last_word_says() {
    let (bob, alice) = (name("bob"), name("alice"));
    let mut direct = [0, 0];
    for seed in 0..30 {
        let world = World::with(&["alice", "bob"]).await;
        let (mut chance, mut last, mut now) = (Chance::new(seed), LastWord::default(), NOW);
        let mut story = Vec::new();
        for _ in 0..40 {
            let step = chance.below(12);
            story.push(step);
            match step {
                0..=2 => {
                    let allowance = [Allowance::Once, Allowance::Until(now.plus_millis(HOUR)), Allowance::Always][step];
                    let allowed =
                        world.store.allow(&bob, key_of("bob"), Grant { to: alice.clone(), allowance }, now).await;
                    assert_eq!(allowed.is_ok(), !last.bob_blocks, "seed {seed}: {story:?}");
                    last.allowance = if last.bob_blocks { None } else { Some(allowance) };
                }
                3 => {
                    world.store.deny(&bob, key_of("bob"), &alice).await.unwrap();
                    last.allowance = None;
                }
                4 => now = now.plus_millis(HOUR),
                5 => {
                    drop(say(&world, "bob", Word::Befriend, "alice").await);
                    last.bob_wants_friendship |= !last.bob_blocks;
                }
                6 => {
                    drop(say(&world, "alice", Word::Befriend, "bob").await);
                    last.alice_wants_friendship |= !last.alice_blocks;
                }
                7 => {
                    // Without one's own word it declines the other's, as far as that is shown.
                    drop(say(&world, "bob", Word::Unfriend, "alice").await);
                    last.bob_wants_friendship = false;
                    last.alice_wants_friendship &= last.bob_blocks;
                }
                8 => {
                    say(&world, "bob", Word::Block, "alice").await.unwrap();
                    last.ends_friendship();
                    (last.bob_blocks, last.bob_wants_friendship, last.allowance) = (true, false, None);
                }
                9 => {
                    drop(say(&world, "bob", Word::Unblock, "alice").await);
                    last.bob_blocks = false;
                }
                10 => {
                    let word = if last.alice_blocks { Word::Unblock } else { Word::Block };
                    say(&world, "alice", word, "bob").await.unwrap();
                    last.ends_friendship();
                    last.alice_blocks = !last.alice_blocks;
                    last.alice_wants_friendship = false;
                }
                _ => {}
            }
            // Every step may be followed by a dial, which uses up what was allowed once, and that only.
            let is_direct = world.store.may_dial(&bob, &alice, now).await.unwrap();
            assert_eq!(is_direct, last.allows(now), "seed {seed}: {story:?}, {last:?}");
            direct[usize::from(is_direct)] += 1;
            if chance.below(2) == 0 {
                assert_eq!(world.store.use_grant(&bob, &alice, now).await.unwrap(), is_direct);
                let are_friends = last.bob_wants_friendship && last.alice_wants_friendship;
                if last.allowance == Some(Allowance::Once) && !are_friends {
                    last.allowance = None;
                }
            }
        }
    }
    assert!(direct.iter().all(|times| *times > 200), "both cases came up: {direct:?}");
}

#[tokio::test]
async fn to_themselves_everybody_is_a_friend() {
    let world = World::with(&["alice"]).await;
    hide(&world, "alice", Audience::Friends).await;
    let own = world.store.relation(&name("alice"), &name("alice")).await.unwrap();
    assert_eq!(own, Relation { blocks: false, are_friends: true, audience: Audience::Friends });
}
