//! What the SQLite store keeps, refuses and orders.

use tempfile::TempDir;

use super::*;
use crate::wire::account::Prekey;
use crate::wire::catalog::{EntryKind, Scope};
use crate::wire::ids::{FileSize, MessageId, Pattern, Signature};
use crate::wire::limits::{MAILBOX_MESSAGES_MAX, MAILBOX_PER_SENDER_MAX, SHARES_PER_ACCOUNT_MAX};
use crate::wire::message::{EnvelopeHeader, Receipt, ReceiptKind};

pub(in crate::directory::store) const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

pub(in crate::directory::store) struct World {
    pub(in crate::directory::store) store: SqliteStore,
    pub(in crate::directory::store) folder: TempDir,
}

impl World {
    /// Accounts whose key and prekey are the same byte over and over: 'a' for alice.
    pub(in crate::directory::store) async fn with(names: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let world = Self { store: SqliteStore::open(&folder.path().join("test.sqlite")).unwrap(), folder };
        for text in names {
            world.store.create_account(account_of(text), None).await.unwrap();
            world.store.put_prekey(prekey_of(text, text.as_bytes()[0])).await.unwrap();
        }
        world
    }

    pub(in crate::directory::store) async fn deliver(
        &self,
        to: &str,
        from: &str,
        envelope: Envelope,
    ) -> Result<(), StoreError> {
        self.store.deliver(&name(to), &name(from), envelope, NOW).await
    }

    pub(in crate::directory::store) async fn waiting(&self, recipient: &str, mut after: i64) -> Vec<Waiting> {
        let mut all = Vec::new();
        while let (Some(next), _) = self.store.next_waiting(&name(recipient), after).await.unwrap() {
            after = next.number;
            all.push(next);
        }
        all
    }

    /// Another program changes the file.
    pub(in crate::directory::store) fn meddle(&self, sql: &str) -> usize {
        meddle_with(&self.folder.path().join("test.sqlite"), sql)
    }
}

/// Changes a directory's database beside it.
pub(in crate::directory) fn meddle_with(file: &Path, sql: &str) -> usize {
    Connection::open(file).unwrap().execute(sql, []).unwrap()
}

pub(in crate::directory::store) fn name(text: &str) -> PeerName {
    PeerName::parse(text).unwrap()
}

pub(in crate::directory::store) fn key_of(text: &str) -> PeerKey {
    PeerKey::from_bytes([text.as_bytes()[0]; 32])
}

pub(in crate::directory::store) fn account_of(text: &str) -> Account {
    let password = "phc".to_owned();
    Account { name: name(text), key: key_of(text), password, created_at: NOW, disabled: false, legacy: false }
}

pub(in crate::directory::store) fn prekey_of(text: &str, id: u8) -> SignedPrekey {
    let prekey = Prekey {
        account: name(text),
        identity: key_of(text),
        id: PrekeyId::from_bytes([id; 16]),
        public: vec![id; 1_216],
        expires: NOW,
    };
    SignedPrekey { prekey, signature: Signature::from_bytes([0; 64]) }
}

pub(in crate::directory::store) fn envelope(from: &str, to: &str, id: u64) -> Envelope {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&id.to_le_bytes());
    let header = EnvelopeHeader {
        version: 1,
        sender: key_of(from),
        recipient: key_of(to),
        id: MessageId::from_bytes(bytes),
        prekey: PrekeyId::from_bytes([to.as_bytes()[0]; 16]),
    };
    Envelope { header, encapsulated: vec![1; 1_120], sealed: vec![2; 300] }
}

/// What `by` says to `to` of a message. The store trusts that others have checked who signed it.
pub(in crate::directory::store) fn receipt(by: &str, to: &str, id: u64, kind: ReceiptKind) -> SignedReceipt {
    let id = envelope(to, by, id).header.id;
    let receipt = Receipt { by: key_of(by), to: key_of(to), id, sequence: 1, highest: 2, kind, at: NOW };
    SignedReceipt { receipt, signature: Signature::from_bytes([3; 64]) }
}

fn entry(text: &str, digest: u8) -> Entry {
    Entry {
        name: FileName::parse(text).unwrap(),
        size: FileSize::try_from(7).unwrap(),
        digest: FileDigest::from_bytes([digest; 32]),
        kind: EntryKind::File,
        scope: Scope::Everyone,
        hides_address: false,
    }
}

type Change = fn(&mut EnvelopeHeader);

pub(in crate::directory::store) fn is_refused<T: std::fmt::Debug + PartialEq>(
    result: Result<T, StoreError>,
    refusal: Refusal,
) {
    assert_eq!(result, refused(refusal));
}

#[tokio::test]
async fn an_account_is_made_once_and_outlives_the_process() {
    let World { store, folder } = World::with(&["alice"]).await;
    is_refused(store.create_account(account_of("alice"), None).await, Refusal::NameTaken);
    assert_eq!(store.next_epoch(&name("alice")).await, Ok(Epoch(1)));
    store.close().await;
    assert!(matches!(store.account(&name("alice")).await, Err(StoreError::Failed(_))), "it is closed");
    let store = SqliteStore::open(&folder.path().join("test.sqlite")).unwrap();
    assert_eq!(store.account(&name("alice")).await, Ok(Some(account_of("alice"))));
    assert_eq!(store.account(&name("bob")).await, Ok(None));
    assert_eq!(store.next_epoch(&name("alice")).await, Ok(Epoch(2)));
    assert_eq!(store.epoch(&name("alice")).await, Ok(Epoch(2)));
}

#[tokio::test]
async fn a_new_key_ends_what_the_old_one_could_do() {
    let World { store, .. } = World::with(&["alice"]).await;
    let new = PeerKey::from_bytes([9; 32]);
    store.replace_key(&name("alice"), key_of("alice"), new, NOW).await.unwrap();
    let standing = store.standing(&name("alice")).await.unwrap();
    assert_eq!(standing, Standing { disabled: false, key: new, prekey: None, waiting: 0 });
    is_refused(store.put_prekey(prekey_of("alice", 1)).await, Refusal::SessionEnded);
    is_refused(store.replace_key(&name("alice"), key_of("alice"), new, NOW).await, Refusal::Busy);
}

#[tokio::test]
async fn what_was_sealed_to_a_replaced_key_goes_back() {
    let world = World::with(&["alice", "bob", "carol"]).await;
    for id in 1..=2 {
        world.deliver("bob", "alice", envelope("alice", "bob", id)).await.unwrap();
    }
    world.deliver("bob", "carol", envelope("carol", "bob", 1)).await.unwrap();
    let (bob, new, store) = (name("bob"), PeerKey::from_bytes([9; 32]), &world.store);
    let parted = store.replace_key(&bob, key_of("bob"), new, NOW).await.unwrap();
    assert_eq!(parted.senders, [name("alice"), name("carol")]);
    assert_eq!(world.waiting("bob", 0).await, []);
    let returned = store.returned(&name("alice"), 0, 10).await.unwrap();
    let ids: Vec<_> = returned.iter().map(|returned| (&returned.to, returned.id, returned.refusal)).collect();
    let id = |id| envelope("alice", "bob", id).header.id;
    assert_eq!(ids, [(&bob, id(1), Refusal::KeyChanged), (&bob, id(2), Refusal::KeyChanged)]);
    store.delete_returned(returned[0].number).await.unwrap();

    let parted = store.take_back(&bob, key_of("bob"), NOW, NOW).await;
    assert_eq!(parted, Ok(Parted::default()), "nothing was sealed to the other key");
    store.put_prekey(prekey_of("bob", b'b')).await.unwrap();
    world.deliver("bob", "alice", envelope("alice", "bob", 2)).await.unwrap();
    assert_eq!(store.returned(&name("alice"), 0, 10).await, Ok(vec![]), "it was sent again under its id");
    assert_eq!(store.expire_returned(NOW).await, Ok(0));
    assert_eq!(store.expire_returned(NOW.plus_millis(1)).await, Ok(1), "carol's");
}

#[tokio::test]
async fn the_account_of_a_sender_holds_so_many_returned_messages_and_no_more() {
    let world = World::with(&["alice", "bob"]).await;
    world.meddle(&format!(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {MAILBOX_MESSAGES_MAX})
         INSERT INTO returned (sender, recipient, id, returned_at) SELECT 'alice', 'other', zeroblob(16), 0 FROM n"
    ));
    world.deliver("bob", "alice", envelope("alice", "bob", 1)).await.unwrap();
    world.store.replace_key(&name("bob"), key_of("bob"), PeerKey::from_bytes([9; 32]), NOW).await.unwrap();
    let returned = world.store.returned(&name("alice"), 0, 10_000).await.unwrap();
    assert_eq!(returned.len().to_string(), MAILBOX_MESSAGES_MAX.to_string());
    assert_eq!(returned.last().map(|returned| &returned.to), Some(&name("bob")));
}

#[tokio::test]
async fn the_last_prekey_is_the_current_one() {
    let World { store, .. } = World::with(&["alice"]).await;
    let next = prekey_of("alice", 2);
    store.put_prekey(next.clone()).await.unwrap();
    assert_eq!(store.standing(&name("alice")).await.unwrap().prekey, Some(next.prekey.id));
    assert_eq!(store.prekey(&name("alice")).await, Ok(Some(next)));
    assert_eq!(store.prekey(&name("bob")).await, Ok(None));
}

#[tokio::test]
async fn envelopes_wait_in_order_until_they_are_deleted() {
    let world = World::with(&["alice", "bob"]).await;
    for id in [30, 10, 20] {
        world.deliver("bob", "alice", envelope("alice", "bob", id)).await.unwrap();
    }
    let waiting = world.waiting("bob", 0).await;
    let sent: Vec<_> = waiting.iter().map(|waiting| waiting.delivery.envelope.clone()).collect();
    assert_eq!(sent, [30, 10, 20].map(|id| envelope("alice", "bob", id)));
    assert_eq!(waiting[0].delivery.from, name("alice"));
    let receipt = receipt("bob", "alice", 30, ReceiptKind::Delivered);
    world.store.hand_over(waiting[0].number, &name("alice"), receipt, NOW).await.unwrap();
    assert_eq!(world.waiting("bob", 0).await, waiting[1..]);
    assert_eq!(world.waiting("bob", waiting[1].number).await, waiting[2..]);
    let prekey = Some(PrekeyId::from_bytes([b'b'; 16]));
    assert_eq!(world.store.next_waiting(&name("bob"), 0).await, Ok((Some(waiting[1].clone()), prekey)));
    assert_eq!(world.store.standing(&name("bob")).await.unwrap().waiting, 2);
    assert_eq!(world.waiting("alice", 0).await, []);
}

#[tokio::test]
async fn a_repeated_envelope_is_kept_once() {
    let world = World::with(&["alice", "bob"]).await;
    world.deliver("bob", "alice", envelope("alice", "bob", 1)).await.unwrap();
    world.store.put_prekey(prekey_of("bob", 7)).await.unwrap();
    world.deliver("bob", "alice", envelope("alice", "bob", 1)).await.unwrap();
    assert_eq!(world.waiting("bob", 0).await.len(), 1, "although its prekey is not the current one any more");
    let mut again = envelope("alice", "bob", 1);
    again.header.prekey = PrekeyId::from_bytes([7; 16]);
    world.deliver("bob", "alice", again.clone()).await.unwrap();
    let waiting = world.waiting("bob", 0).await;
    assert_eq!(waiting.iter().map(|waiting| &waiting.delivery.envelope).collect::<Vec<_>>(), [&again]);
}

#[tokio::test]
async fn an_envelope_must_be_sealed_to_the_current_keys() {
    let world = World::with(&["alice", "bob"]).await;
    world.store.create_account(account_of("carol"), None).await.unwrap();
    let cases: [(&str, Change, Refusal); 4] = [
        ("nobody2", |_| {}, Refusal::UnknownName),
        ("bob", |header| header.recipient = key_of("alice"), Refusal::KeyChanged),
        ("bob", |header| header.prekey = PrekeyId::from_bytes([0; 16]), Refusal::PrekeyChanged),
        ("carol", |header| header.recipient = key_of("carol"), Refusal::NoPrekey),
    ];
    for (to, change, refusal) in cases {
        let mut envelope = envelope("alice", "bob", 1);
        change(&mut envelope.header);
        is_refused(world.deliver(to, "alice", envelope).await, refusal);
    }
}

#[tokio::test]
async fn a_sender_has_a_share_of_a_mailbox_and_a_mailbox_an_end() {
    let world = World::with(&["alice", "bob", "carol"]).await;
    world.deliver("alice", "bob", envelope("bob", "alice", 1)).await.unwrap();
    world.deliver("carol", "bob", envelope("bob", "carol", 1)).await.unwrap();
    for id in 0..MAILBOX_PER_SENDER_MAX {
        world.deliver("bob", "alice", envelope("alice", "bob", id)).await.unwrap();
    }
    is_refused(world.deliver("bob", "alice", envelope("alice", "bob", 999)).await, Refusal::MailboxFull);
    world.deliver("bob", "alice", envelope("alice", "bob", 0)).await.unwrap();
    world.deliver("bob", "carol", envelope("carol", "bob", 1)).await.unwrap();
    // The rest of the mailbox, as other senders would fill it.
    world.meddle("UPDATE envelope SET sender = 'other', bytes = 170000 WHERE recipient = 'bob'");
    is_refused(world.deliver("bob", "carol", envelope("carol", "bob", 2)).await, Refusal::MailboxFull);
    world.meddle("UPDATE envelope SET bytes = 100");
    for id in MAILBOX_PER_SENDER_MAX + 1..MAILBOX_MESSAGES_MAX {
        world.deliver("bob", "carol", envelope("carol", "bob", id)).await.unwrap();
        world.meddle("UPDATE envelope SET sender = 'other' WHERE sender = 'carol'");
    }
    is_refused(world.deliver("bob", "carol", envelope("carol", "bob", 9_999)).await, Refusal::MailboxFull);
}

#[tokio::test]
async fn an_unreadable_row_does_not_hold_the_others_up() {
    let world = World::with(&["alice", "bob"]).await;
    for id in 0..3 {
        world.deliver("bob", "alice", envelope("alice", "bob", id)).await.unwrap();
    }
    let first = world.waiting("bob", 0).await[0].number;
    world.meddle(&format!("UPDATE envelope SET envelope = x'00' WHERE number = {first}"));
    world.meddle(&format!("UPDATE envelope SET sender = '..' WHERE number = {}", first + 1));
    let numbers: Vec<_> = world.waiting("bob", 0).await.iter().map(|waiting| waiting.number).collect();
    assert_eq!(numbers, [first + 2]);
}

/// Owners and names that a query finds, on pages of two.
async fn found(store: &SqliteStore, query: Query) -> Vec<String> {
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = store.find(&name("alice"), query.clone(), after, 2).await.unwrap();
        assert!(page.entries.len() == 2 || !page.more, "a page before the last is full");
        found.extend(page.entries.iter().map(|(owner, entry)| format!("{owner}:{}", entry.name)));
        let Some((owner, entry)) = page.entries.last().filter(|_| page.more) else { return found };
        after = Some(Cursor { name: entry.name.clone(), owner: owner.clone() });
    }
}

async fn catalogue() -> World {
    let world = World::with(&["alice", "bob"]).await;
    for (owner, text, digest) in [
        ("bob", "Report.pdf", 1),
        ("bob", "100%_sure.txt", 2),
        ("bob", "a.txt", 3),
        ("alice", "Report.pdf", 1),
        ("alice", "1000 sure.txt", 4),
        ("alice", "b.txt", 3),
    ] {
        world.store.publish(&name(owner), entry(text, digest), NOW).await.unwrap();
    }
    world
}

#[tokio::test]
async fn a_search_finds_by_every_query_in_pages() {
    let store = catalogue().await.store;
    let substring = |text: &str| Query::Substring(Pattern::parse(text).unwrap());
    let reports = ["alice:Report.pdf", "bob:Report.pdf"];
    let all = ["bob:100%_sure.txt", "alice:1000 sure.txt", reports[0], reports[1], "bob:a.txt", "alice:b.txt"];
    assert_eq!(found(&store, substring("")).await, all);
    assert_eq!(found(&store, substring("rEPORT")).await, reports);
    assert_eq!(found(&store, substring("0%_s")).await, ["bob:100%_sure.txt"]);
    assert_eq!(found(&store, substring("%")).await, ["bob:100%_sure.txt"]);
    assert_eq!(found(&store, substring("nothing")).await, [""; 0]);
    let digest = |byte| Query::Digest(FileDigest::from_bytes([byte; 32]));
    assert_eq!(found(&store, digest(1)).await, reports);
    assert_eq!(found(&store, digest(3)).await, ["bob:a.txt", "alice:b.txt"]);
    let owner = Query::Owner(name("alice"));
    assert_eq!(found(&store, owner).await, ["alice:1000 sure.txt", "alice:Report.pdf", "alice:b.txt"]);
    let exact = |owner, text| Query::Exact { owner: name(owner), name: FileName::parse(text).unwrap() };
    assert_eq!(found(&store, exact("bob", "a.txt")).await, ["bob:a.txt"]);
    assert_eq!(found(&store, exact("alice", "a.txt")).await, [""; 0]);
}

#[tokio::test]
async fn an_entry_is_replaced_and_taken_back() {
    let world = catalogue().await;
    let (bob, file) = (name("bob"), FileName::parse("a.txt").unwrap());
    world.store.publish(&bob, entry("a.txt", 9), NOW).await.unwrap();
    let digest = Query::Digest(FileDigest::from_bytes([9; 32]));
    assert_eq!(found(&world.store, digest).await, ["bob:a.txt"]);
    world.store.unpublish(&bob, &file).await.unwrap();
    is_refused(world.store.unpublish(&bob, &file).await, Refusal::UnknownFile);
}

#[tokio::test]
async fn an_owner_publishes_so_many_files_and_no_more() {
    let world = World::with(&["alice"]).await;
    world.meddle(&format!(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {SHARES_PER_ACCOUNT_MAX})
         INSERT INTO share SELECT 'alice', 'file' || i, 1, zeroblob(32), 'file', 'everyone', 0, 0, NULL FROM n"
    ));
    let alice = name("alice");
    is_refused(world.store.publish(&alice, entry("one more", 1), NOW).await, Refusal::TooManyShares);
    world.store.publish(&alice, entry("file7", 1), NOW).await.unwrap();
}
