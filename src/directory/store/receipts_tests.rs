//! What becomes of an envelope that its recipient is done with, or that nobody came for.

use super::*;
use crate::directory::store::sqlite::SqliteStore;
use crate::directory::store::sqlite::tests::{NOW, World, envelope, is_refused, key_of, name, prekey_of, receipt};
use crate::directory::store::{Expired, Store as _};
use crate::wire::ids::{PrekeyId, Signature};

impl World {
    async fn hand_over(&self, to: &str, from: &str, signed: SignedReceipt) {
        let number = self.waiting(to, 0).await[0].number;
        self.store.hand_over(number, &name(from), signed, NOW).await.unwrap();
    }

    async fn put(&self, to: &str, by: &str, receipts: Vec<SignedReceipt>) {
        self.store.put_receipts(&name(to), key_of(by), receipts, NOW).await.unwrap();
    }

    async fn receipts(&self, of: &str) -> Vec<SignedReceipt> {
        said(&self.store, of).await.into_iter().map(|waiting| waiting.receipt).collect()
    }

    async fn returned(&self, to: &str) -> Vec<(PeerName, MessageId, Refusal)> {
        let returned = self.store.returned(&name(to), 0, 1_000).await.unwrap();
        returned.into_iter().map(|returned| (returned.to, returned.id, returned.refusal)).collect()
    }

    async fn missing(&self, sender: &str, messages: &[(&str, u64)]) -> Vec<MessageId> {
        let asked = messages.iter().map(|&(to, id)| (name(to), id_of(id))).collect();
        self.store.missing(&name(sender), key_of(sender), asked).await.unwrap()
    }

    async fn reopened(self) -> Self {
        self.store.close().await;
        let path = self.folder.path().join("test.sqlite");
        Self { store: SqliteStore::open(&path).unwrap(), folder: self.folder }
    }
}

async fn said(store: &SqliteStore, of: &str) -> Vec<WaitingReceipt> {
    store.receipts(&name(of), 0, 20_000).await.unwrap()
}

fn id_of(id: u64) -> MessageId {
    envelope("alice", "bob", id).header.id
}

#[tokio::test]
async fn a_receipt_takes_the_place_of_its_message_and_outlives_the_process() {
    let world = World::with(&["alice", "bob"]).await;
    world.deliver("bob", "alice", envelope("alice", "bob", 1)).await.unwrap();
    let delivered = receipt("bob", "alice", 1, ReceiptKind::Delivered);
    world.hand_over("bob", "alice", delivered.clone()).await;
    let world = world.reopened().await;
    assert_eq!(world.waiting("bob", 0).await, []);
    assert_eq!(world.receipts("alice").await, [delivered]);

    let numbers = said(&world.store, "alice").await.iter().map(|waiting| waiting.number).collect();
    world.store.delete_receipts(numbers).await.unwrap();
    let world = world.reopened().await;
    assert_eq!(world.receipts("alice").await, []);
}

#[tokio::test]
async fn a_receipt_that_cannot_be_kept_leaves_the_message() {
    let world = World::with(&["alice", "bob"]).await;
    world.deliver("bob", "alice", envelope("alice", "bob", 1)).await.unwrap();
    world.meddle("DROP TABLE receipt");
    let number = world.waiting("bob", 0).await[0].number;
    let delivered = receipt("bob", "alice", 1, ReceiptKind::Delivered);
    assert!(world.store.hand_over(number, &name("alice"), delivered, NOW).await.is_err());
    assert_eq!(world.waiting("bob", 0).await.len(), 1);
}

#[tokio::test]
async fn a_later_kind_takes_the_place_of_an_earlier_one_behind_all_others() {
    let world = World::with(&["alice", "bob"]).await;
    let of = |id, kind| receipt("bob", "alice", id, kind);
    world.put("alice", "bob", vec![of(1, ReceiptKind::CannotOpen), of(2, ReceiptKind::Delivered)]).await;
    let passed = said(&world.store, "alice").await[1].number;
    world.put("alice", "bob", vec![of(1, ReceiptKind::Read)]).await;
    assert_eq!(world.receipts("alice").await, [of(2, ReceiptKind::Delivered), of(1, ReceiptKind::Read)]);
    let new = world.store.receipts(&name("alice"), passed, 10).await.unwrap();
    assert_eq!(new.len(), 1, "a session that was pushed the earlier one gets it");

    let before = said(&world.store, "alice").await;
    let later = SignedReceipt { signature: Signature::from_bytes([4; 64]), ..of(1, ReceiptKind::Read) };
    world.put("alice", "bob", vec![of(1, ReceiptKind::Delivered), of(1, ReceiptKind::CannotOpen), later]).await;
    assert_eq!(said(&world.store, "alice").await, before, "no news changes nothing");
}

#[tokio::test]
async fn the_numbers_of_receipts_rise_even_when_the_last_one_is_deleted() {
    let world = World::with(&["alice", "bob"]).await;
    world.put("alice", "bob", vec![receipt("bob", "alice", 1, ReceiptKind::Delivered)]).await;
    let first = said(&world.store, "alice").await[0].number;
    world.store.delete_receipts(vec![first]).await.unwrap();
    world.put("alice", "bob", vec![receipt("bob", "alice", 1, ReceiptKind::Read)]).await;
    assert_eq!(world.store.receipts(&name("alice"), first, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_message_that_was_sealed_again_may_turn_out_unreadable_again() {
    let world = World::with(&["alice", "bob"]).await;
    let cannot_open = receipt("bob", "alice", 1, ReceiptKind::CannotOpen);
    let mut sealed = envelope("alice", "bob", 1);
    world.deliver("bob", "alice", sealed.clone()).await.unwrap();
    world.hand_over("bob", "alice", cannot_open.clone()).await;
    let first = said(&world.store, "alice").await[0].number;

    world.store.put_prekey(prekey_of("bob", 7)).await.unwrap();
    sealed.header.prekey = PrekeyId::from_bytes([7; 16]);
    world.deliver("bob", "alice", sealed).await.unwrap();
    assert_eq!(world.receipts("alice").await, [], "it is on its way again");
    world.hand_over("bob", "alice", cannot_open.clone()).await;
    world.store.delete_receipts(vec![first]).await.unwrap(); // late
    assert_eq!(world.receipts("alice").await, [cannot_open]);
}

#[tokio::test]
async fn receipts_are_kept_for_the_key_that_sent_the_message_only() {
    let world = World::with(&["alice", "bob", "carol"]).await;
    world.deliver("bob", "alice", envelope("alice", "bob", 1)).await.unwrap();
    let new = PeerKey::from_bytes([9; 32]);
    world.store.replace_key(&name("alice"), key_of("alice"), new, NOW).await.unwrap();
    world.hand_over("bob", "alice", receipt("bob", "alice", 1, ReceiptKind::Delivered)).await;
    world.put("alice", "bob", vec![receipt("bob", "alice", 2, ReceiptKind::Read)]).await;
    world.put("carol", "bob", vec![receipt("alice", "carol", 3, ReceiptKind::Read)]).await;
    assert_eq!((world.receipts("alice").await, world.receipts("carol").await), (vec![], vec![]));
    assert_eq!(world.waiting("bob", 0).await, [], "the message has arrived all the same");
    let nobody = world.store.put_receipts(&name("nobody2"), key_of("bob"), vec![], NOW).await;
    is_refused(nobody, Refusal::UnknownName);

    world.store.delete_account(&name("alice"), None, NOW).await.unwrap();
    world.deliver("bob", "carol", envelope("carol", "bob", 4)).await.unwrap();
    let number = world.waiting("bob", 0).await[0].number;
    let gone = receipt("bob", "alice", 4, ReceiptKind::Delivered);
    assert_eq!(world.store.hand_over(number, &name("alice"), gone, NOW).await, Ok(()), "its sender's account is gone");
}

#[tokio::test]
async fn the_oldest_receipts_of_an_account_make_room() {
    let world = World::with(&["alice", "bob"]).await;
    world.meddle(&format!(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {RECEIPTS_WAITING_MAX})
         INSERT INTO receipt (recipient, by_key, id, kind, signed, stored_at)
         SELECT 'alice', zeroblob(32), CAST(printf('%016d', i) AS BLOB), 1, zeroblob(1), 0 FROM n"
    ));
    let count = "UPDATE receipt SET stored_at = 1 WHERE recipient = 'alice'";
    world.put("alice", "bob", vec![receipt("bob", "alice", 1, ReceiptKind::Read)]).await;
    assert_eq!(world.meddle(count).to_string(), RECEIPTS_WAITING_MAX.to_string());
    assert_eq!(world.meddle("DELETE FROM receipt WHERE number = 1"), 0, "it was the oldest");
    assert_eq!(world.receipts("alice").await.len(), 1, "those that cannot be read hold up nothing");
}

#[tokio::test]
async fn receipts_that_nobody_fetches_are_forgotten() {
    let world = World::with(&["alice", "bob"]).await;
    world.put("alice", "bob", vec![receipt("bob", "alice", 1, ReceiptKind::Read)]).await;
    assert_eq!(world.store.expire_receipts(NOW).await, Ok(0));
    assert_eq!(world.store.expire_receipts(NOW.plus_millis(1)).await, Ok(1));
}

#[tokio::test]
async fn a_message_is_missing_when_nothing_tells_of_it() {
    let world = World::with(&["alice", "bob", "carol"]).await;
    for id in 1..=3 {
        world.deliver("bob", "alice", envelope("alice", "bob", id)).await.unwrap();
    }
    world.hand_over("bob", "alice", receipt("bob", "alice", 1, ReceiptKind::Delivered)).await;
    let all = [("bob", 1), ("bob", 2), ("bob", 3), ("bob", 4), ("nobody2", 2), ("carol", 2)];
    assert_eq!(world.missing("alice", &all).await, [id_of(4), id_of(2), id_of(2)]);
    assert_eq!(world.missing("carol", &all[1..2]).await, [id_of(2)], "it is not hers");
    world.store.replace_key(&name("bob"), key_of("bob"), PeerKey::from_bytes([9; 32]), NOW).await.unwrap();
    assert_eq!(world.missing("alice", &all[..4]).await, [id_of(4)], "the others came back, and she will hear of it");
    world.store.delete_account(&name("bob"), None, NOW).await.unwrap();
    assert_eq!(world.missing("alice", &all[..4]).await, [id_of(4)]);
}

#[tokio::test]
async fn what_waited_for_too_long_goes_back_to_its_sender() {
    let world = World::with(&["alice", "bob", "carol"]).await;
    for id in 1..=3 {
        world.deliver("bob", "alice", envelope("alice", "bob", id)).await.unwrap();
    }
    world.deliver("bob", "carol", envelope("carol", "bob", 4)).await.unwrap();
    let (later, nothing) = (NOW.plus_millis(1), Expired::default());
    assert_eq!(world.store.expire_envelopes(NOW, 10, later).await, Ok(nothing.clone()), "it is not time yet");
    let expired = world.store.expire_envelopes(later, 2, later).await;
    assert_eq!(expired, Ok(Expired { count: 2, senders: vec![name("alice")] }));

    let world = world.reopened().await;
    assert_eq!(world.waiting("bob", 0).await.len(), 2);
    let back = |id| (name("bob"), id_of(id), Refusal::Expired);
    assert_eq!(world.returned("alice").await, [back(1), back(2)]);
    let expired = world.store.expire_envelopes(later, 2, later).await;
    assert_eq!(expired, Ok(Expired { count: 2, senders: vec![name("alice"), name("carol")] }));
    assert_eq!(world.returned("alice").await, [back(1), back(2), back(3)]);
    assert_eq!(world.store.expire_envelopes(later, 2, later).await, Ok(nothing));
}

#[tokio::test]
async fn what_expires_and_tells_nobody_holds_up_nothing() {
    let world = World::with(&["alice", "bob"]).await;
    for id in 1..=2 {
        world.deliver("bob", "alice", envelope("alice", "bob", id)).await.unwrap();
    }
    world.meddle("UPDATE envelope SET sender = '..' WHERE number = 1");
    world.store.delete_account(&name("alice"), None, NOW).await.unwrap();
    let later = NOW.plus_millis(1);
    let expired = world.store.expire_envelopes(later, 10, later).await;
    assert_eq!(expired, Ok(Expired { count: 2, senders: vec![name("alice")] }));
    assert_eq!((world.waiting("bob", 0).await, world.returned("alice").await), (vec![], vec![]));
}

#[tokio::test]
async fn a_message_that_came_back_before_reasons_were_kept_had_the_only_one() {
    let world = World::with(&["alice", "bob"]).await;
    world.meddle("INSERT INTO returned (sender, recipient, id, returned_at) VALUES ('alice', 'bob', zeroblob(16), 0)");
    world.meddle(
        "INSERT INTO returned (sender, recipient, id, returned_at, refusal)
         VALUES ('alice', 'bob', zeroblob(16), 0, 999)",
    );
    let reasons: Vec<_> = world.returned("alice").await.into_iter().map(|(_, _, refusal)| refusal).collect();
    assert_eq!(reasons, [Refusal::KeyChanged, Refusal::Unknown(999)]);
}
