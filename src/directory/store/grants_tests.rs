//! What the SQLite store keeps of grants and of hidden addresses.

use crate::directory::store::sqlite::tests::{NOW, World, is_refused, key_of, name};
use crate::directory::store::{Store as _, StoreError};
use crate::wire::catalog::{Entry, EntryKind, Query, Scope};
use crate::wire::ids::{FileDigest, FileName, FileSize, PeerKey, PeerName, UnixMillis};
use crate::wire::limits::GRANTS_PER_ACCOUNT_MAX;
use crate::wire::refusal::Refusal;
use crate::wire::rendezvous::{Allowance, Grant};

const HOUR: u64 = 3_600_000;

async fn allow(world: &World, granter: &str, to: &str, allowance: Allowance) -> Result<(), StoreError> {
    world.store.allow(&name(granter), key_of(granter), Grant { to: name(to), allowance }, NOW).await
}

async fn may(world: &World, granter: &str, grantee: &str, now: UnixMillis) -> bool {
    world.store.may_dial(&name(granter), &name(grantee), now).await.unwrap()
}

async fn uses(world: &World, granter: &str, grantee: &str, now: UnixMillis) -> bool {
    world.store.use_grant(&name(granter), &name(grantee), now).await.unwrap()
}

async fn granted(world: &World, granter: &str, after: Option<PeerName>, now: UnixMillis) -> Vec<String> {
    let page = world.store.grants(&name(granter), after, 2, now).await.unwrap();
    page.into_iter().map(|grant| format!("{} {:?}", grant.to, grant.allowance)).collect()
}

#[tokio::test]
async fn a_grant_is_for_one_direction_and_the_last_word_counts() {
    let world = World::with(&["alice", "bob"]).await;
    allow(&world, "bob", "alice", Allowance::Until(NOW.plus_millis(HOUR))).await.unwrap();
    assert!(may(&world, "bob", "alice", NOW).await && !may(&world, "alice", "bob", NOW).await);
    assert!(!may(&world, "bob", "alice", NOW.plus_millis(HOUR)).await);
    allow(&world, "bob", "alice", Allowance::Always).await.unwrap();
    assert!(uses(&world, "bob", "alice", NOW.plus_millis(HOUR)).await);
    allow(&world, "bob", "alice", Allowance::Once).await.unwrap();
    assert!(
        may(&world, "bob", "alice", NOW).await && may(&world, "bob", "alice", NOW).await,
        "looking uses nothing up"
    );
    world.store.deny(&name("bob"), key_of("bob"), &name("alice")).await.unwrap();
    assert!(!uses(&world, "bob", "alice", NOW).await);
    world.store.deny(&name("bob"), key_of("bob"), &name("alice")).await.unwrap();
}

#[tokio::test]
async fn of_many_that_use_what_is_allowed_once_one_may() {
    let world = World::with(&["alice", "bob"]).await;
    allow(&world, "bob", "alice", Allowance::Once).await.unwrap();
    let (bob, alice) = (name("bob"), name("alice"));
    let used = tokio::join!(
        world.store.use_grant(&bob, &alice, NOW),
        world.store.use_grant(&bob, &alice, NOW),
        world.store.use_grant(&bob, &alice, NOW)
    );
    let used = [used.0, used.1, used.2].map(Result::unwrap);
    assert_eq!(used.iter().filter(|used| **used).count(), 1);
}

#[tokio::test]
async fn another_key_and_an_unknown_person_are_refused() {
    let world = World::with(&["alice", "bob"]).await;
    let grant = Grant { to: name("alice"), allowance: Allowance::Always };
    let forged = world.store.allow(&name("bob"), key_of("alice"), grant, NOW).await;
    is_refused(forged, Refusal::SessionEnded);
    is_refused(allow(&world, "bob", "carol", Allowance::Always).await, Refusal::UnknownName);
    allow(&world, "bob", "alice", Allowance::Always).await.unwrap();
    is_refused(world.store.deny(&name("bob"), key_of("alice"), &name("alice")).await, Refusal::SessionEnded);
    assert!(may(&world, "bob", "alice", NOW).await);
}

#[tokio::test]
async fn grants_come_in_pages_without_those_that_are_over() {
    let world = World::with(&["alice", "bob", "carol", "dave", "erin"]).await;
    let end = NOW.plus_millis(HOUR);
    for (to, allowance) in [
        ("erin", Allowance::Always),
        ("carol", Allowance::Until(end)),
        ("alice", Allowance::Once),
        ("dave", Allowance::Until(NOW)),
    ] {
        allow(&world, "bob", to, allowance).await.unwrap();
    }
    let first = [format!("alice {:?}", Allowance::Once), format!("carol {:?}", Allowance::Until(end))];
    assert_eq!(granted(&world, "bob", None, NOW).await, first);
    assert_eq!(granted(&world, "bob", Some(name("carol")), NOW).await, ["erin Always"]);
    assert_eq!(granted(&world, "alice", None, NOW).await, [""; 0]);
    assert_eq!(world.store.expire_grants(NOW).await, Ok(1));
    assert_eq!(world.store.expire_grants(end).await, Ok(1));
    assert_eq!(granted(&world, "bob", None, NOW).await, ["alice Once", "erin Always"]);
}

#[tokio::test]
async fn grants_go_with_the_account_of_either_side() {
    let world = World::with(&["alice", "bob", "carol"]).await;
    for (granter, to) in [("alice", "bob"), ("bob", "alice"), ("bob", "carol"), ("carol", "alice")] {
        allow(&world, granter, to, Allowance::Always).await.unwrap();
    }
    world.store.delete_account(&name("alice"), None, NOW).await.unwrap();
    assert_eq!(granted(&world, "bob", None, NOW).await, ["carol Always"]);
    assert_eq!(world.meddle("DELETE FROM grants"), 1);
}

#[tokio::test]
async fn a_grant_ends_with_the_key_of_either_side() {
    let world = World::with(&["alice", "bob", "carol"]).await;
    let allow_all = async || {
        for (granter, to) in [("alice", "bob"), ("carol", "bob"), ("carol", "alice")] {
            allow(&world, granter, to, Allowance::Always).await.unwrap();
        }
    };
    let left = async || {
        let mut left = Vec::new();
        for (granter, to) in [("bob", "alice"), ("alice", "bob"), ("carol", "bob"), ("carol", "alice")] {
            left.extend(may(&world, granter, to, NOW).await.then(|| format!("{granter} {to}")));
        }
        left
    };
    allow_all().await;
    allow(&world, "bob", "alice", Allowance::Always).await.unwrap();
    assert_eq!(left().await.len(), 4);
    let thief = PeerKey::from_bytes([9; 32]);
    world.store.replace_key(&name("bob"), key_of("bob"), thief, NOW).await.unwrap();
    assert_eq!(left().await, ["carol alice"], "nothing is left for the new key, or of the old one");

    allow_all().await;
    world
        .store
        .allow(&name("bob"), thief, Grant { to: name("alice"), allowance: Allowance::Always }, NOW)
        .await
        .unwrap();
    world.store.take_back(&name("bob"), key_of("bob"), NOW, NOW).await.unwrap();
    assert_eq!(left().await, ["carol alice"], "nor of what the thief was allowed and has allowed");
}

#[tokio::test]
async fn an_account_allows_so_many_people_and_no_more() {
    let world = World::with(&["alice", "bob"]).await;
    let numbers =
        format!("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {GRANTS_PER_ACCOUNT_MAX})");
    world.meddle(&format!("{numbers} INSERT INTO account (name, key, password_phc, created_at) SELECT 'p' || i, zeroblob(32), 'phc', 0 FROM n"));
    let end = NOW.0 + 1;
    world.meddle(&format!("{numbers} INSERT INTO grants SELECT 'bob', 'p' || i, 'until', {end} FROM n"));
    is_refused(allow(&world, "bob", "alice", Allowance::Once).await, Refusal::Busy);
    let later = Grant { to: name("alice"), allowance: Allowance::Once };
    world.store.allow(&name("bob"), key_of("bob"), later, NOW.plus_millis(1)).await.unwrap();
}

#[tokio::test]
async fn an_entry_says_whether_it_hides_where_it_is() {
    let world = World::with(&["alice", "bob"]).await;
    let digest = FileDigest::from_bytes([1; 32]);
    let publish = |owner, text, hides_address| {
        let entry = Entry {
            name: FileName::parse(text).unwrap(),
            size: FileSize::try_from(7).unwrap(),
            digest,
            kind: EntryKind::File,
            scope: Scope::Everyone,
            hides_address,
        };
        let (store, owner) = (&world.store, name(owner));
        async move { store.publish(&owner, entry, NOW).await.unwrap() }
    };
    let hidden = || async {
        let found = world.store.find(&name("alice"), Query::Digest(digest), None, 9).await.unwrap().entries;
        found.into_iter().map(|(_, entry)| entry.hides_address).collect::<Vec<_>>()
    };
    let open = || async { world.store.publishes_openly(&name("bob"), digest).await.unwrap() };
    publish("alice", "a", false).await;
    assert!(!open().await, "it is of somebody else");
    publish("bob", "b", true).await;
    assert_eq!(hidden().await, [false, true]);
    assert!(!open().await);
    publish("bob", "b", false).await;
    assert_eq!(hidden().await, [false, false]);
    assert!(open().await);
    publish("bob", "c", true).await;
    assert!(!open().await, "the same bytes are hidden under another name");
}
