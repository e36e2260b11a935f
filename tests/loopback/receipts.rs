//! What a directory does with receipts and with what its sessions are to know of their mailbox: peers made by hand say
//! what they like, and everything is decided as it should be.

use qchat::clock::now_millis;
use qchat::seal::identity::IdentityKey;
use qchat::seal::receipt;
use qchat::transport::connection::TransportError;
use qchat::transport::stream::Stream;
use qchat::wire::account::LoginKind;
use qchat::wire::directory::{DirectoryAnswer, DirectoryPush, DirectoryReply, DirectoryRequest, PushAnswer, PushReply};
use qchat::wire::ids::{MessageId, PeerKey, PrekeyId, Signature};
use qchat::wire::limits::{MISSING_PER_FRAME_MAX, RECEIPTS_PER_FRAME_MAX};
use qchat::wire::message::{Envelope, EnvelopeHeader, Receipt, ReceiptKind, SignedReceipt};
use qchat::wire::refusal::{CloseCode, Refusal};

use crate::world::{ERRAND, RawClient, TestDirectory, in_time, name};

const COLLECTS: LoginKind = LoginKind::Errand { collects: true };

/// A push that waits for its answer.
struct Pushed {
    push: DirectoryPush,
    stream: Stream,
}

impl Pushed {
    async fn answer(mut self, answer: PushAnswer) {
        in_time(self.stream.write_frame(&answer)).await.unwrap();
        self.stream.finish();
    }
}

/// Somebody whose mailbox is open: a prekey is published, and the directory has said that nothing waits.
async fn resident(directory: &TestDirectory, text: &str) -> (RawClient, PrekeyId) {
    let client = RawClient::registered(directory, text, LoginKind::Resident).await;
    drained(&client, None).await;
    let prekey = new_prekey(&client, text).await;
    drained(&client, Some(prekey)).await;
    (client, prekey)
}

async fn new_prekey(client: &RawClient, text: &str) -> PrekeyId {
    client.put_prekey(text).await;
    client.identify(text).await.prekey.unwrap().prekey.id
}

/// The same key on another connection.
async fn again(directory: &TestDirectory, client: &RawClient, text: &str, kind: LoginKind) -> RawClient {
    let client = RawClient::connect(directory.place, IdentityKey::from_seed(client.identity.seed())).await;
    client.log_in(client.login(text, kind)).await.unwrap();
    client
}

/// The next push that is about messages.
async fn next(client: &RawClient) -> Pushed {
    loop {
        let mut stream = in_time(client.connection.accept_stream()).await.unwrap();
        let push = in_time(stream.read_frame()).await.unwrap();
        let pushed = Pushed { push, stream };
        if !matches!(pushed.push, DirectoryPush::Presence { .. } | DirectoryPush::KeyChanged { .. }) {
            return pushed;
        }
        pushed.answer(Ok(PushReply::Taken)).await;
    }
}

async fn drained(client: &RawClient, prekey: Option<PrekeyId>) {
    let pushed = next(client).await;
    assert_eq!(pushed.push, DirectoryPush::Drained { prekey });
    pushed.answer(Ok(PushReply::Taken)).await;
}

async fn takes_receipts(client: &RawClient, receipts: &[SignedReceipt]) {
    let pushed = next(client).await;
    assert_eq!(pushed.push, DirectoryPush::Receipts(receipts.to_vec()));
    pushed.answer(Ok(PushReply::Taken)).await;
}

/// Awaits the message of this number.
async fn delivery(client: &RawClient, id: u8) -> Pushed {
    let pushed = next(client).await;
    let DirectoryPush::Delivery(delivery) = &pushed.push else { panic!("{:?} is no delivery", pushed.push) };
    assert_eq!(delivery.envelope.header.id, message(id));
    pushed
}

async fn takes_message(client: &RawClient, from: &RawClient, id: u8, kind: ReceiptKind) -> SignedReceipt {
    let signed = receipt::sign(&client.identity, said(client, from, id, kind));
    delivery(client, id).await.answer(answer(&signed)).await;
    signed
}

fn answer(signed: &SignedReceipt) -> PushAnswer {
    Ok(PushReply::Receipt(Box::new(signed.clone())))
}

fn message(id: u8) -> MessageId {
    MessageId::from_bytes([id; 16])
}

fn said(by: &RawClient, to: &RawClient, id: u8, kind: ReceiptKind) -> Receipt {
    let (by, to) = (by.identity.public(), to.identity.public());
    Receipt { by, to, id: message(id), sequence: 1, highest: 1, kind, at: now_millis() }
}

/// The directory does not look into what is sealed.
fn envelope(from: &RawClient, recipient: PeerKey, prekey: PrekeyId, id: u8) -> Envelope {
    let header = EnvelopeHeader { version: 1, sender: from.identity.public(), recipient, id: message(id), prekey };
    Envelope { header, encapsulated: vec![3; 1_120], sealed: vec![4; 272] }
}

async fn deliver(from: &RawClient, to: &str, envelope: Envelope) -> DirectoryAnswer {
    from.ask(DirectoryRequest::Deliver { to: name(to), envelope: Box::new(envelope) }).await
}

async fn write(from: &RawClient, to: &str, recipient: &RawClient, prekey: PrekeyId, id: u8) {
    let envelope = envelope(from, recipient.identity.public(), prekey, id);
    assert_eq!(deliver(from, to, envelope).await, Ok(DirectoryReply::Done));
}

async fn say(by: &RawClient, to: &str, receipts: Vec<SignedReceipt>) -> DirectoryAnswer {
    by.ask(DirectoryRequest::Receipts { to: name(to), receipts }).await
}

async fn missing(client: &RawClient, messages: &[(&str, u8)]) -> DirectoryAnswer {
    let messages = messages.iter().map(|&(to, id)| (name(to), message(id))).collect();
    client.ask(DirectoryRequest::Missing { messages }).await
}

async fn closed_with(client: &RawClient) -> CloseCode {
    match in_time(client.connection.closed()).await {
        TransportError::Closed(code) => code,
        reason => panic!("the connection ended otherwise: {reason}"),
    }
}

#[tokio::test]
async fn only_the_recipients_own_receipt_for_this_message_is_an_answer() {
    let directory = TestDirectory::start();
    let (alice, _) = resident(&directory, "alice").await;
    let (mut bob, prekey) = resident(&directory, "bob").await;
    let mallory = RawClient::registered(&directory, "mallory", ERRAND).await;
    write(&alice, "bob", &bob, prekey, 1).await;

    let right = said(&bob, &alice, 1, ReceiptKind::Delivered);
    let by_mallory = Receipt { by: mallory.identity.public(), ..right };
    let good = receipt::sign(&bob.identity, right);
    let forged = [
        receipt::sign(&mallory.identity, right),
        receipt::sign(&mallory.identity, by_mallory),
        receipt::sign(&bob.identity, Receipt { id: message(2), ..right }),
        receipt::sign(&bob.identity, Receipt { to: mallory.identity.public(), ..right }),
        SignedReceipt { signature: Signature::from_bytes([0; 64]), ..good.clone() },
        SignedReceipt { receipt: Receipt { kind: ReceiptKind::Read, ..right }, ..good.clone() },
    ];
    let mut lies: Vec<_> = forged.iter().map(answer).collect();
    lies.push(Ok(PushReply::Candidates(None)));
    for lie in lies {
        delivery(&bob, 1).await.answer(lie).await;
        assert_eq!(closed_with(&bob).await, CloseCode::BadFrame);
        bob = again(&directory, &bob, "bob", LoginKind::Resident).await;
    }
    delivery(&bob, 1).await.answer(answer(&good)).await;
    drained(&bob, Some(prekey)).await;
    takes_receipts(&alice, &[good]).await;
}

#[tokio::test]
async fn a_push_without_a_message_takes_no_receipt_for_an_answer() {
    let directory = TestDirectory::start();
    let alice = RawClient::registered(&directory, "alice", LoginKind::Resident).await;
    let own = receipt::sign(&alice.identity, said(&alice, &alice, 1, ReceiptKind::Delivered));
    for lie in [answer(&own), Ok(PushReply::Candidates(None))] {
        let alice = again(&directory, &alice, "alice", LoginKind::Resident).await;
        next(&alice).await.answer(lie).await;
        assert_eq!(closed_with(&alice).await, CloseCode::BadFrame);
    }
}

#[tokio::test]
async fn receipts_wait_for_a_sender_who_is_away_and_come_first() {
    let directory = TestDirectory::start();
    let alice = RawClient::registered(&directory, "alice", ERRAND).await;
    let alices = new_prekey(&alice, "alice").await;
    let (bob, prekey) = resident(&directory, "bob").await;
    let mut receipts = Vec::new();
    for id in 1..=2 {
        write(&alice, "bob", &bob, prekey, id).await;
        receipts.push(takes_message(&bob, &alice, id, ReceiptKind::Delivered).await);
        drained(&bob, Some(prekey)).await; // so it is kept
    }
    write(&bob, "alice", &alice, alices, 9).await;

    let directory = directory.stop().await.start_again();
    let errand = again(&directory, &alice, "alice", COLLECTS).await;
    let pushed = next(&errand).await;
    assert_eq!(pushed.push, DirectoryPush::Receipts(receipts.clone()));
    pushed.answer(Ok(PushReply::Left)).await;
    delivery(&errand, 9).await.answer(Ok(PushReply::Left)).await;
    drained(&errand, Some(alices)).await;

    let alice = again(&directory, &alice, "alice", LoginKind::Resident).await;
    takes_receipts(&alice, &receipts).await;
    takes_message(&alice, &bob, 9, ReceiptKind::Delivered).await;
    drained(&alice, Some(alices)).await;
    let alice = again(&directory, &alice, "alice", LoginKind::Resident).await;
    drained(&alice, Some(alices)).await;
}

#[tokio::test]
async fn a_receipt_does_not_wait_until_a_mailbox_is_drained() {
    let directory = TestDirectory::start();
    let (alice, prekey) = resident(&directory, "alice").await;
    let bob = RawClient::registered(&directory, "bob", ERRAND).await;
    for id in 1..=3 {
        write(&bob, "alice", &alice, prekey, id).await;
    }
    let first = delivery(&alice, 1).await;
    let read = receipt::sign(&bob.identity, said(&bob, &alice, 7, ReceiptKind::Read));
    assert_eq!(say(&bob, "alice", vec![read.clone()]).await, Ok(DirectoryReply::Done));
    let signed = receipt::sign(&alice.identity, said(&alice, &bob, 1, ReceiptKind::Delivered));
    first.answer(answer(&signed)).await;
    takes_receipts(&alice, &[read]).await;
    for id in 2..=3 {
        takes_message(&alice, &bob, id, ReceiptKind::Delivered).await;
    }
    drained(&alice, Some(prekey)).await;
}

#[tokio::test]
async fn receipts_come_in_frames_and_in_order() {
    let directory = TestDirectory::start();
    let alice = RawClient::registered(&directory, "alice", ERRAND).await;
    let bob = RawClient::registered(&directory, "bob", ERRAND).await;
    let all: Vec<_> =
        (0..100).map(|id| receipt::sign(&bob.identity, said(&bob, &alice, id, ReceiptKind::Read))).collect();
    for some in all.chunks(50) {
        assert_eq!(say(&bob, "alice", some.to_vec()).await, Ok(DirectoryReply::Done));
    }
    let alice = again(&directory, &alice, "alice", LoginKind::Resident).await;
    for some in all.chunks(RECEIPTS_PER_FRAME_MAX) {
        takes_receipts(&alice, some).await;
    }
    drained(&alice, None).await;
}

#[tokio::test]
async fn receipts_that_a_full_disk_cannot_take_come_again_before_any_message() {
    let directory = TestDirectory::start();
    let alice = RawClient::registered(&directory, "alice", ERRAND).await;
    let prekey = new_prekey(&alice, "alice").await;
    let bob = RawClient::registered(&directory, "bob", ERRAND).await;
    let read = receipt::sign(&bob.identity, said(&bob, &alice, 7, ReceiptKind::Read));
    say(&bob, "alice", vec![read.clone()]).await.unwrap();
    write(&bob, "alice", &alice, prekey, 1).await;
    let alice = again(&directory, &alice, "alice", LoginKind::Resident).await;
    next(&alice).await.answer(Err(Refusal::Storage)).await;
    takes_receipts(&alice, &[read]).await;
    takes_message(&alice, &bob, 1, ReceiptKind::Delivered).await;
}

#[tokio::test]
async fn receipts_are_kept_from_who_signs_them_and_for_who_they_are_for() {
    let directory = TestDirectory::start();
    let (alice, _) = resident(&directory, "alice").await;
    let bob = RawClient::registered(&directory, "bob", ERRAND).await;
    let carol = RawClient::registered(&directory, "carol", ERRAND).await;
    let said = |id| said(&bob, &alice, id, ReceiptKind::Read);
    let good = receipt::sign(&bob.identity, said(1));
    assert_eq!(say(&carol, "alice", vec![good.clone()]).await, Err(Refusal::NotYourName));
    let unsigned = SignedReceipt { receipt: said(2), ..good.clone() };
    assert_eq!(say(&bob, "alice", vec![good.clone(), unsigned]).await, Err(Refusal::BadSignature));
    let too_many = vec![good.clone(); RECEIPTS_PER_FRAME_MAX + 1];
    assert_eq!(say(&bob, "alice", too_many).await, Err(Refusal::UnknownRequest));
    assert_eq!(say(&bob, "nobody2", vec![good.clone()]).await, Err(Refusal::UnknownName));
    let to_carol = receipt::sign(&bob.identity, Receipt { to: carol.identity.public(), ..said(3) });
    assert_eq!(say(&bob, "alice", vec![to_carol, good.clone()]).await, Ok(DirectoryReply::Done));
    takes_receipts(&alice, &[good]).await;
}

#[tokio::test]
async fn a_session_hears_for_which_prekey_its_mailbox_is_drained() {
    let directory = TestDirectory::start();
    let (alice, _) = resident(&directory, "alice").await;
    let bob = RawClient::registered(&directory, "bob", ERRAND).await;
    let newer = new_prekey(&alice, "alice").await;
    drained(&alice, Some(newer)).await;
    write(&bob, "alice", &alice, newer, 1).await;
    takes_message(&alice, &bob, 1, ReceiptKind::Delivered).await;
    drained(&alice, Some(newer)).await;
    // An errand of the account publishes one: the resident hears of it.
    let errand = again(&directory, &alice, "alice", ERRAND).await;
    let newest = new_prekey(&errand, "alice").await;
    drained(&alice, Some(newest)).await;
}

#[tokio::test]
async fn a_session_that_another_one_follows_gets_no_more() {
    let directory = TestDirectory::start();
    let alice = RawClient::registered(&directory, "alice", ERRAND).await;
    let prekey = new_prekey(&alice, "alice").await;
    let bob = RawClient::registered(&directory, "bob", ERRAND).await;
    for id in 1..=2 {
        write(&bob, "alice", &alice, prekey, id).await;
    }
    let errand = again(&directory, &alice, "alice", COLLECTS).await;
    let first = delivery(&errand, 1).await;
    let resident = again(&directory, &alice, "alice", LoginKind::Resident).await;
    let signed = receipt::sign(&alice.identity, said(&alice, &bob, 1, ReceiptKind::Delivered));
    first.answer(answer(&signed)).await;
    takes_message(&resident, &bob, 2, ReceiptKind::Delivered).await;
    drained(&resident, Some(prekey)).await;
    resident.connection.close(CloseCode::Done);
    drained(&errand, Some(prekey)).await; // it is the one to get it again, and nothing waits
}

#[tokio::test]
async fn a_sender_learns_what_the_directory_does_not_have() {
    let directory = TestDirectory::start();
    let alice = RawClient::registered(&directory, "alice", ERRAND).await;
    let (bob, prekey) = resident(&directory, "bob").await;
    for id in 1..=2 {
        write(&alice, "bob", &bob, prekey, id).await;
    }
    takes_message(&bob, &alice, 1, ReceiptKind::Delivered).await;
    delivery(&bob, 2).await.answer(Ok(PushReply::Left)).await;
    drained(&bob, Some(prekey)).await;
    let none = |messages: Vec<MessageId>| Ok(DirectoryReply::Missing { messages });
    let all = [("bob", 1), ("bob", 2), ("bob", 3), ("nobody2", 2)];
    assert_eq!(missing(&alice, &all).await, none(vec![message(3), message(2)]));
    assert_eq!(missing(&alice, &[]).await, none(vec![]));
    assert_eq!(missing(&bob, &[("bob", 2)]).await, none(vec![message(2)]), "it is not his to ask for");
    let too_many = [("bob", 3); MISSING_PER_FRAME_MAX + 1];
    assert_eq!(missing(&alice, &too_many).await, Err(Refusal::UnknownRequest));
    assert!(missing(&alice, &too_many[1..]).await.is_ok());
}

#[tokio::test]
async fn an_envelope_that_was_tampered_with_is_refused() {
    let directory = TestDirectory::start();
    let alice = RawClient::registered(&directory, "alice", ERRAND).await;
    let mallory = RawClient::registered(&directory, "mallory", ERRAND).await;
    let (bob, old) = resident(&directory, "bob").await;
    let (carol, carols) = resident(&directory, "carol").await;
    let prekey = new_prekey(&bob, "bob").await;
    drained(&bob, Some(prekey)).await;

    let good = envelope(&alice, bob.identity.public(), prekey, 1);
    assert_eq!(deliver(&alice, "carol", good.clone()).await, Err(Refusal::KeyChanged), "moved to another recipient");
    let renamed = envelope(&alice, carol.identity.public(), prekey, 1);
    assert_eq!(deliver(&alice, "carol", renamed).await, Err(Refusal::PrekeyChanged), "it is not sealed to her");
    assert_eq!(deliver(&mallory, "bob", good.clone()).await, Err(Refusal::NotYourName), "a stranger's key");
    let sealed_to_old = envelope(&alice, bob.identity.public(), old, 1);
    assert_eq!(deliver(&alice, "bob", sealed_to_old).await, Err(Refusal::PrekeyChanged));
    let cut = Envelope { encapsulated: vec![3; 1_000], ..good.clone() };
    assert_eq!(deliver(&alice, "bob", cut).await, Err(Refusal::UnknownRequest), "truncated");
    let other_version = EnvelopeHeader { version: 2, ..good.header.clone() };
    let other_version = Envelope { header: other_version, ..good };
    assert_eq!(deliver(&alice, "bob", other_version).await, Err(Refusal::UnknownRequest));

    write(&alice, "carol", &carol, carols, 2).await;
    takes_message(&carol, &alice, 2, ReceiptKind::Delivered).await;
    write(&alice, "bob", &bob, prekey, 3).await;
    takes_message(&bob, &alice, 3, ReceiptKind::Delivered).await; // and nothing came before it
}

#[tokio::test]
async fn an_envelope_that_is_sent_again_is_pushed_again_and_its_receipt_is_one() {
    let directory = TestDirectory::start();
    let alice = RawClient::registered(&directory, "alice", ERRAND).await;
    let (bob, prekey) = resident(&directory, "bob").await;
    for _ in 0..2 {
        write(&alice, "bob", &bob, prekey, 1).await;
        takes_message(&bob, &alice, 1, ReceiptKind::Delivered).await;
        drained(&bob, Some(prekey)).await;
    }
    let alice = again(&directory, &alice, "alice", LoginKind::Resident).await;
    let pushed = next(&alice).await;
    assert!(matches!(&pushed.push, DirectoryPush::Receipts(receipts) if receipts.len() == 1), "{:?}", pushed.push);
}

#[tokio::test]
async fn what_cannot_be_opened_is_said_to_its_sender_each_time() {
    let directory = TestDirectory::start();
    let (alice, _) = resident(&directory, "alice").await;
    let (bob, mut prekey) = resident(&directory, "bob").await;
    for kind in [ReceiptKind::CannotOpen, ReceiptKind::CannotOpen, ReceiptKind::Delivered] {
        write(&alice, "bob", &bob, prekey, 1).await;
        let signed = takes_message(&bob, &alice, 1, kind).await;
        drained(&bob, Some(prekey)).await;
        takes_receipts(&alice, &[signed]).await;
        prekey = new_prekey(&bob, "bob").await;
        drained(&bob, Some(prekey)).await;
    }
}

#[tokio::test]
async fn what_nobody_fetches_comes_back_to_its_sender_with_the_reason() {
    let directory = TestDirectory::start();
    let alice = RawClient::registered(&directory, "alice", ERRAND).await;
    let bob = RawClient::registered(&directory, "bob", ERRAND).await;
    let prekey = new_prekey(&bob, "bob").await;
    write(&alice, "bob", &bob, prekey, 1).await;
    let stopped = directory.stop().await;
    let database = rusqlite::Connection::open(stopped.data().join("directory.sqlite")).unwrap();
    assert_eq!(database.execute("UPDATE envelope SET stored_at = 0", []).unwrap(), 1);
    drop(database);

    let directory = stopped.start_again();
    let alice = again(&directory, &alice, "alice", LoginKind::Resident).await;
    // The login and the first look for what is too old may come in any order.
    let mut pushed = next(&alice).await;
    if matches!(pushed.push, DirectoryPush::Drained { .. }) {
        pushed.answer(Ok(PushReply::Taken)).await;
        pushed = next(&alice).await;
    }
    let back = DirectoryPush::Returned { to: name("bob"), id: message(1), refusal: Refusal::Expired };
    assert_eq!(pushed.push, back);
    pushed.answer(Ok(PushReply::Taken)).await;
    let bob = again(&directory, &bob, "bob", LoginKind::Resident).await;
    drained(&bob, Some(prekey)).await;
}
