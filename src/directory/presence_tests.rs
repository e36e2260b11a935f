//! Who sees whom come and go, as a session hears it: presence, whom it watches, listings, and what is said to everybody.

use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::directory::store::Account;
use crate::directory::store::sqlite::tests::meddle_with;
use crate::seal::announcement;
use crate::wire::ids::{Pattern, UnixMillis};
use crate::wire::limits::{ANNOUNCEMENTS_AT_ONCE, PAGE_ENTRIES_MAX, PRESENCE_CHANGES_PER_MINUTE, WATCHED_MAX};
use crate::wire::people::{Announcement, AnnouncementText, SignedAnnouncement};

/// Longer than anything takes here.
const PATIENCE: Duration = Duration::from_secs(20);

impl World {
    /// Writes to the store what its people's requests would, and has the directory look.
    async fn meddle(&self, sql: &str, about: &[&str]) {
        meddle_with(&self.folder.path().join("data/directory.sqlite"), sql);
        for text in about {
            self.shared.registry.load_circle(self.shared.store.as_ref(), &name(text)).await.unwrap();
        }
    }

    /// Accounts that nobody has logged in to.
    async fn with_accounts(&self, names: &[PeerName]) {
        for name in names {
            let (name, key) = (name.clone(), PeerKey::from_bytes([1; 32]));
            let (password, created_at) = (String::new(), now_millis());
            let account = Account { name, key, password, created_at, disabled: false, legacy: false };
            self.shared.store.create_account(account, None).await.unwrap();
        }
    }
}

impl Client {
    /// Who somebody is told is how, next.
    async fn hears(&self) -> (String, Presence) {
        let push = timeout(PATIENCE, self.pushed(Ok(PushReply::Taken))).await.unwrap();
        let DirectoryPush::Presence { name, presence } = push else { panic!("{push:?} is no presence") };
        (name.to_string(), presence)
    }

    async fn shows(&self, presence: Presence) -> DirectoryAnswer {
        self.ask(DirectoryRequest::SetPresence(presence)).await
    }

    async fn watches(&self, texts: &[&str]) -> DirectoryAnswer {
        self.ask(DirectoryRequest::Watch { names: texts.iter().map(|text| name(text)).collect() }).await
    }

    async fn who(&self, recent: bool, pattern: &str, after: Option<PeerName>) -> (Vec<Person>, bool) {
        let pattern = Some(Pattern::parse(pattern).unwrap());
        let answer = self.ask(DirectoryRequest::Who { recent, pattern, after }).await;
        let Ok(DirectoryReply::People { people, more }) = answer else { panic!("{answer:?}") };
        (people, more)
    }

    /// The names of those who are here, or were in the last hour.
    async fn sees(&self, recent: bool) -> String {
        let names: Vec<_> = self.who(recent, "", None).await.0.into_iter().map(|person| person.name).collect();
        names.iter().map(PeerName::as_str).collect::<Vec<_>>().join(" ")
    }

    fn announcement(&self, text: &str) -> SignedAnnouncement {
        let text = AnnouncementText::parse(text).unwrap();
        let (sender, id) = (self.identity.public(), MessageId::from_bytes([7; 16]));
        announcement::sign(&self.identity, Announcement { sender, id, sent_at: now_millis(), text })
    }

    async fn announces(&self, signed: SignedAnnouncement) -> DirectoryAnswer {
        self.ask(DirectoryRequest::Announce(Box::new(signed))).await
    }
}

async fn resident(world: &World, text: &str) -> Client {
    world.registered(text, LoginKind::Resident).await
}

fn said(to_everyone: bool) -> DirectoryAnswer {
    Ok(DirectoryReply::Announced { to_everyone })
}

#[tokio::test]
async fn a_resident_shows_how_it_is_until_its_session_ends() {
    let world = World::start();
    let bob = resident(&world, "bob").await;
    let alice = resident(&world, "alice").await;
    assert_eq!(bob.hears().await, ("alice".to_owned(), Presence::Online));
    assert_eq!(alice.shows(Presence::Away).await, Ok(DirectoryReply::Done));
    assert_eq!(bob.hears().await, ("alice".to_owned(), Presence::Away));
    assert_eq!(bob.who(false, "ALI", None).await.0, [Person { presence: Presence::Away, ..person("alice") }]);
    assert_eq!(alice.shows(Presence::Offline).await, Err(Refusal::UnknownRequest));
    let errand = world.again(&alice).await;
    errand.log_in(errand.login("alice", ERRAND, None)).await.unwrap();
    assert_eq!(errand.shows(Presence::Busy).await, Err(Refusal::UnknownRequest));

    let second = world.again(&alice).await;
    second.log_in(second.login("alice", LoginKind::Resident, None)).await.unwrap();
    assert_eq!(bob.hears().await, ("alice".to_owned(), Presence::Online), "the new session has said nothing yet");
    second.connection.close(CloseCode::Done);
    assert_eq!(bob.hears().await, ("alice".to_owned(), Presence::Offline));
    world.stop().await;
}

#[tokio::test]
async fn whoever_is_watched_is_told_of_at_once_here_or_not() {
    let world = World::start();
    let bob = resident(&world, "bob").await;
    let alice = resident(&world, "alice").await;
    bob.shows(Presence::Busy).await.unwrap();
    assert_eq!(alice.hears().await, ("bob".to_owned(), Presence::Busy));
    assert_eq!(alice.watches(&["alice", "bob", "carol"]).await, Ok(DirectoryReply::Done));
    assert_eq!(alice.hears().await, ("bob".to_owned(), Presence::Busy));
    assert_eq!(alice.hears().await, ("carol".to_owned(), Presence::Offline));
    let many: Vec<_> = (0..=WATCHED_MAX).map(|number| name(&format!("p{number}"))).collect();
    assert_eq!(alice.ask(DirectoryRequest::Watch { names: many }).await, Err(Refusal::UnknownRequest));
    world.stop().await;
}

#[tokio::test]
async fn whoever_is_kept_out_sees_somebody_who_is_gone() {
    let world = World::start();
    let eve = resident(&world, "eve").await;
    let alice = resident(&world, "alice").await;
    assert_eq!(eve.hears().await, ("alice".to_owned(), Presence::Online));
    eve.watches(&["alice"]).await.unwrap();
    assert_eq!(eve.hears().await, ("alice".to_owned(), Presence::Online));

    world.meddle("INSERT INTO block (blocker, blocked) VALUES ('alice', 'eve')", &["alice"]).await;
    assert_eq!(eve.hears().await, ("alice".to_owned(), Presence::Offline));
    assert_eq!((eve.sees(false).await, alice.sees(false).await), ("eve".to_owned(), "alice eve".to_owned()));
    alice.shows(Presence::Away).await.unwrap();
    alice.connection.close(CloseCode::Done);
    let bob = resident(&world, "bob").await;
    assert_eq!(eve.hears().await, ("bob".to_owned(), Presence::Online), "of alice she hears nothing any more");
    while bob.sees(false).await != "bob eve" {
        tokio::task::yield_now().await;
    }
    assert_eq!((eve.sees(true).await, bob.sees(true).await), ("bob eve".to_owned(), "alice bob eve".to_owned()));
    let alice = world.again(&alice).await;
    alice.log_in(alice.login("alice", LoginKind::Resident, None)).await.unwrap();
    assert_eq!(bob.hears().await, ("alice".to_owned(), Presence::Online));
    assert_eq!(eve.sees(false).await, "bob eve");

    world.meddle("DELETE FROM block", &["alice"]).await;
    assert_eq!(eve.hears().await, ("alice".to_owned(), Presence::Online));
    world.stop().await;
}

#[tokio::test]
async fn when_somebody_left_is_for_their_friends_to_know_also_after_a_restart() {
    let world = World::start();
    let bob = world.registered("bob", ERRAND).await;
    let eve = world.registered("eve", ERRAND).await;
    let alice = resident(&world, "alice").await;
    let friends = "INSERT INTO friend (name, other, asked_at) VALUES ('alice', 'bob', 1), ('bob', 'alice', 2)";
    world.meddle(friends, &["alice"]).await;
    let before = now_millis();
    alice.connection.close(CloseCode::Done);
    while !bob.sees(false).await.is_empty() {
        tokio::task::yield_now().await;
    }
    let gone = Person { presence: Presence::Offline, ..person("alice") };
    assert_eq!(eve.who(true, "", None).await.0, std::slice::from_ref(&gone));
    let is_to_the_minute = |people: &[Person]| {
        let seen = people[0].last_seen.unwrap();
        seen.0.is_multiple_of(60_000) && seen <= now_millis() && seen.plus_millis(60_000) > before
    };
    assert!(is_to_the_minute(&bob.who(true, "", None).await.0));

    let world = World::start_in(world.stop().await);
    let (bob, eve) = (world.again(&bob).await, world.again(&eve).await);
    bob.log_in(bob.login("bob", ERRAND, None)).await.unwrap();
    eve.log_in(eve.login("eve", ERRAND, None)).await.unwrap();
    assert_eq!(eve.who(true, "", None).await.0, [gone]);
    assert!(is_to_the_minute(&bob.who(true, "", None).await.0));
    world.meddle("UPDATE account SET audience = 'friends' WHERE name = 'alice'", &[]).await;
    assert_eq!((eve.sees(true).await, bob.sees(true).await), (String::new(), "alice".to_owned()));
    world.stop().await;
}

#[tokio::test]
async fn pages_are_full_whoever_is_left_out_of_them() {
    let world = World::start();
    let eve = world.registered("eve", ERRAND).await;
    let people: Vec<_> = (0..3 * PAGE_ENTRIES_MAX).map(|number| name(&format!("p{number:03}"))).collect();
    world.with_accounts(&people).await;
    world.shared.registry.were_here(people.iter().map(|name| (name.clone(), now_millis())).collect());
    let hidden = PAGE_ENTRIES_MAX + 6;
    let hide = format!(
        "INSERT INTO block (blocker, blocked) SELECT name, 'eve' FROM account WHERE name < 'p{hidden:03}' AND name > 'p'"
    );
    world.meddle(&hide, &[]).await;

    let (first, more) = eve.who(true, "", None).await;
    assert_eq!((first.len(), more, first[0].name.clone()), (PAGE_ENTRIES_MAX, true, people[hidden].clone()));
    let (second, more) = eve.who(true, "", first.last().map(|last| last.name.clone())).await;
    assert_eq!((second.len(), more), (people.len() - hidden - PAGE_ENTRIES_MAX, false));
    assert_eq!(eve.who(true, "p00", None).await, (Vec::new(), false));
    world.stop().await;
}

#[tokio::test]
async fn the_last_word_on_somebody_is_true_however_much_was_said_before() {
    let world = World::start();
    let bob = resident(&world, "bob").await;
    let alice = resident(&world, "alice").await;
    // Faster than she may ask for it.
    let session = world.shared.registry.resident(&name("alice")).unwrap();
    for _ in 0..400 {
        for presence in [Presence::Away, Presence::Online] {
            world.shared.registry.set_presence(&session, presence).unwrap();
        }
    }
    drop(session);
    for _ in 0..PRESENCE_CHANGES_PER_MINUTE {
        alice.shows(Presence::Busy).await.unwrap();
    }
    let refused = alice.shows(Presence::Online).await;
    assert!(matches!(refused, Err(Refusal::TooOften { seconds: 1..=6 })), "{refused:?}");
    let mut told = 0;
    while bob.hears().await.1 != Presence::Busy {
        told += 1;
    }
    assert!(told <= 2, "what is out of date is not told: {told} of 800");
    world.stop().await;
}

#[tokio::test]
async fn what_is_said_to_everybody_is_heard_by_those_who_may_and_its_sender_is_told_no_more() {
    let world = World::start();
    let bob = resident(&world, "bob").await;
    let alice = world.registered("alice", ERRAND).await;
    assert_eq!(alice.announces(alice.announcement("one")).await, said(true));
    let push = bob.pushed(Ok(PushReply::Taken)).await;
    let DirectoryPush::Announcement { from, signed, legacy: false } = push else { panic!("{push:?}") };
    assert_eq!((from, signed.announcement.text.as_str()), (name("alice"), "one"));
    assert_eq!(announcement::verify(&signed), Ok(()));

    world.meddle("INSERT INTO block (blocker, blocked) VALUES ('bob', 'alice')", &["bob"]).await;
    assert_eq!(alice.announces(alice.announcement("two")).await, said(false));
    world.meddle("DELETE FROM block", &["bob"]).await;
    assert_eq!(bob.hears().await, ("alice".to_owned(), Presence::Offline), "he may hear of her again");
    world.meddle("UPDATE account SET audience = 'friends' WHERE name = 'alice'", &[]).await;
    assert_eq!(alice.announces(alice.announcement("three")).await, said(false), "she hides from him");
    world.meddle("UPDATE account SET audience = 'everyone'", &[]).await;
    let carol = world.registered("carol", ERRAND).await;
    assert_eq!(carol.announces(carol.announcement("four")).await, said(true));
    let push = bob.pushed(Ok(PushReply::Taken)).await;
    assert!(matches!(&push, DirectoryPush::Announcement { from, .. } if *from == name("carol")), "{push:?}");
    world.stop().await;
}

#[tokio::test]
async fn nobody_says_anything_in_anothers_name_or_too_often() {
    let world = World::start();
    let bob = resident(&world, "bob").await;
    let eve = world.registered("eve", ERRAND).await;
    assert_eq!(eve.announces(bob.announcement("I am bob")).await, Err(Refusal::NotYourName));
    let mut forged = bob.announcement("I am bob");
    forged.announcement.sender = eve.identity.public();
    assert_eq!(eve.announces(forged).await, Err(Refusal::BadSignature));
    for _ in 1..ANNOUNCEMENTS_AT_ONCE {
        assert_eq!(eve.announces(eve.announcement("hear me")).await, said(true));
    }
    let refused = eve.announces(eve.announcement("hear me")).await;
    assert!(matches!(refused, Err(Refusal::TooOften { seconds: 1..=10 })), "{refused:?}");
    assert_eq!(bob.announces(bob.announcement("enough")).await, said(true));
    world.stop().await;
}

#[tokio::test]
async fn who_is_here_is_noted_so_that_a_crash_loses_little() {
    let world = World::start();
    let alice = resident(&world, "alice").await;
    let begin = UnixMillis(now_millis().0 - 120_000);
    let noted = async {
        while world.shared.store.seen_since(begin, 1).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, noted).await.unwrap();
    drop(alice);
    world.stop().await;
}
