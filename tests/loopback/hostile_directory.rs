//! A directory that lies: it hands out false keys and prekeys for bob, and delivers what bob never wrote.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use qchat::clock::now_millis;
use qchat::database::DatabaseError;
use qchat::peer::event::Event;
use qchat::peer::failure::{Failure, FailureKind};
use qchat::peer::handle::{Command, Source};
use qchat::peer::rows::FindingKind;
use qchat::seal::envelope;
use qchat::seal::identity::IdentityKey;
use qchat::seal::prekey::PrekeySecret;
use qchat::seal::random::OsRandom;
use qchat::seal::receipt;
use qchat::storage::partial_file::Collision;
use qchat::storage::receive_tree::Executable;
use qchat::transport::certificate::DirectoryCertificate;
use qchat::transport::connection::Connection;
use qchat::transport::endpoint::Endpoint;
use qchat::transport::stream::Stream;
use qchat::transport::tuning::Network;
use qchat::wire::account::{Identity, LoggedIn, LoginKind, SignedPrekey};
use qchat::wire::catalog::{Entry, EntryKind, Found, Scope};
use qchat::wire::directory::{DirectoryAnswer, DirectoryPush, DirectoryReply, DirectoryRequest, PushAnswer, PushReply};
use qchat::wire::ids::{Epoch, FileDigest, FileSize, MessageId, PeerName, Signature, UnixMillis};
use qchat::wire::message::{Body, Delivery, Envelope, InnerMessage, ReceiptKind, Text};
use qchat::wire::people::{Friend, FriendState};
use qchat::wire::refusal::{CloseCode, Refusal};
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::world::{Machine, PASSWORD, Place, TestPeer, file_name, in_time, name};

/// What the directory says of bob and of alice's friends and blocks, what it was given to carry, and alice's prekey, to
/// seal to her.
pub(crate) struct Lies {
    pub(crate) bob: Identity,
    pub(crate) delivered: Vec<Envelope>,
    pub(crate) dialled: bool,
    pub(crate) prekey: Option<SignedPrekey>,
    pub(crate) friends: Vec<Friend>,
    pub(crate) befriended: FriendState,
    pub(crate) blocked: Vec<PeerName>,
    /// Whoever allows something hears only after this that it is known.
    pub(crate) allowing_waits: Option<oneshot::Receiver<()>>,
}

pub(crate) struct HostileDirectory {
    pub(crate) lies: Arc<Mutex<Lies>>,
    session: watch::Receiver<Option<Connection>>,
    _serving: JoinSet<()>,
    _certificate: TempDir,
}

impl HostileDirectory {
    /// Starts it with an honest bob, and alice's peer, who has not talked to him.
    pub(crate) async fn with_alice(bob: &IdentityKey) -> (Self, TestPeer) {
        let folder = tempfile::tempdir().unwrap();
        let certificate = DirectoryCertificate::load_or_create(folder.path()).unwrap();
        let endpoint = Endpoint::directory("127.0.0.1:0".parse().unwrap(), &certificate, Network::default()).unwrap();
        let place = Place { address: endpoint.local_address().unwrap(), fingerprint: certificate.fingerprint() };
        let lies = Lies {
            bob: identity_of(bob),
            delivered: Vec::new(),
            dialled: false,
            prekey: None,
            friends: Vec::new(),
            befriended: FriendState::Asked,
            blocked: Vec::new(),
            allowing_waits: None,
        };
        let lies = Arc::new(Mutex::new(lies));
        let (sessions, session) = watch::channel(None);
        let mut serving = JoinSet::new();
        serving.spawn(serve(endpoint, lies.clone(), sessions));
        let alice = Machine::new(place, "alice").start(LoginKind::Resident, Some(PASSWORD), true).await.unwrap();
        (Self { lies, session, _serving: serving, _certificate: folder }, alice)
    }

    /// What it says of bob from now on.
    pub(crate) fn says(&self, change: impl FnOnce(&mut Identity)) {
        change(&mut self.lies.lock().unwrap().bob);
    }

    /// How many envelopes of alice's it was given.
    pub(crate) fn carried(&self) -> usize {
        self.lies.lock().unwrap().delivered.len()
    }

    /// Seals a text to alice as somebody else would.
    pub(crate) fn sealed(&self, sender: &IdentityKey, alice: &TestPeer, text: &str) -> Envelope {
        self.numbered(sender, alice, text, 1)
    }

    fn numbered(&self, sender: &IdentityKey, alice: &TestPeer, text: &str, sequence: u64) -> Envelope {
        let prekey = self.lies.lock().unwrap().prekey.clone().expect("alice has published one");
        let id = MessageId::from_bytes(qchat::seal::random::array(&mut OsRandom));
        let body = Body::Text(Text::parse(text).unwrap());
        let message = InnerMessage {
            sender: sender.public(),
            recipient: alice.key(),
            id,
            sequence,
            skipped: Default::default(),
            sent_at: now_millis(),
            body,
        };
        envelope::seal(sender, &message, &prekey, &mut OsRandom).unwrap()
    }

    /// Delivers an envelope under bob's name.
    pub(crate) async fn delivers_as_bob(&self, envelope: Envelope) -> PushReply {
        self.pushes(DirectoryPush::Delivery(Box::new(Delivery { from: name("bob"), envelope }))).await
    }

    pub(crate) async fn pushes(&self, push: DirectoryPush) -> PushReply {
        self.answer_to(push).await.unwrap()
    }

    pub(crate) async fn answer_to(&self, push: DirectoryPush) -> PushAnswer {
        let session = self.session.borrow().clone().expect("alice is here");
        in_time(session.request(&push)).await.unwrap()
    }

    /// Waits until alice has published a prekey.
    pub(crate) async fn can_seal(&self) {
        in_time(async {
            while self.lies.lock().unwrap().prekey.is_none() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

/// What a receipt says; `None` when the message was left.
pub(crate) fn said(reply: PushReply) -> Option<ReceiptKind> {
    match reply {
        PushReply::Receipt(signed) => {
            receipt::verify(&signed).unwrap();
            Some(signed.receipt.kind)
        }
        PushReply::Left => None,
        other => panic!("{other:?} is no answer to a delivery"),
    }
}

async fn serve(endpoint: Endpoint, lies: Arc<Mutex<Lies>>, sessions: watch::Sender<Option<Connection>>) {
    while let Some(incoming) = endpoint.accept().await {
        let Ok(connection) = incoming.accept().await else { continue };
        connection.raise_limits_after_login();
        sessions.send_replace(Some(connection.clone()));
        while let Ok(mut stream) = connection.accept_stream().await {
            if answer(&mut stream, &lies).await.is_none() {
                break;
            }
        }
    }
}

async fn answer(stream: &mut Stream, lies: &Mutex<Lies>) -> Option<()> {
    let request: DirectoryRequest = stream.read_frame().await.ok()?;
    if let DirectoryRequest::Allow(_) = request {
        let waits = lies.lock().unwrap().allowing_waits.take();
        if let Some(waits) = waits {
            waits.await.ok()?;
        }
    }
    let answer: DirectoryAnswer = Ok(reply(request, &mut lies.lock().unwrap()));
    stream.write_frame(&answer).await.ok()?;
    stream.finish();
    Some(())
}

fn reply(request: DirectoryRequest, lies: &mut Lies) -> DirectoryReply {
    match request {
        DirectoryRequest::Login(_) => DirectoryReply::LoggedIn(LoggedIn {
            epoch: Epoch(1),
            created: true,
            observed: "127.0.0.1:9".parse().unwrap(),
            prekey: None,
            waiting: 0,
            observe: None,
        }),
        DirectoryRequest::Identify { .. } => DirectoryReply::Identity(Box::new(lies.bob.clone())),
        DirectoryRequest::PutPrekey(prekey) => {
            lies.prekey = Some(*prekey);
            DirectoryReply::Done
        }
        DirectoryRequest::Deliver { envelope, .. } => {
            lies.delivered.push(*envelope);
            DirectoryReply::Done
        }
        DirectoryRequest::Find { .. } => {
            let entry = Entry {
                name: file_name("photo.jpg"),
                size: FileSize::try_from(5).unwrap(),
                digest: FileDigest::from_bytes([5; 32]),
                kind: EntryKind::File,
                scope: Scope::Everyone,
                hides_address: false,
            };
            DirectoryReply::Entries {
                found: vec![Found { owner: name("bob"), online: true, entry, legacy: false }],
                more: false,
            }
        }
        DirectoryRequest::Dial(_) => {
            lies.dialled = true;
            DirectoryReply::Done
        }
        DirectoryRequest::Friends { .. } => DirectoryReply::Friends { friends: lies.friends.clone(), more: false },
        DirectoryRequest::Befriend { .. } => DirectoryReply::Friendship(lies.befriended),
        DirectoryRequest::Blocked { .. } => DirectoryReply::Names { names: lies.blocked.clone(), more: false },
        DirectoryRequest::Block { name } => {
            lies.blocked.push(name);
            DirectoryReply::Done
        }
        DirectoryRequest::Unblock { name } => {
            lies.blocked.retain(|blocked| *blocked != name);
            DirectoryReply::Done
        }
        _ => DirectoryReply::Done,
    }
}

/// What an honest directory would say of somebody called bob with this key.
pub(crate) fn identity_of(key: &IdentityKey) -> Identity {
    let prekey = Some(prekey_of(key, now_millis().plus_millis(3_600_000)));
    Identity { name: name("bob"), key: key.public(), prekey, online: true, accepts: true, legacy: false }
}

fn prekey_of(key: &IdentityKey, expires: UnixMillis) -> SignedPrekey {
    PrekeySecret::generate(&mut OsRandom).publish(key, &name("bob"), expires)
}

pub(crate) fn new_key() -> IdentityKey {
    IdentityKey::generate(&mut OsRandom)
}

pub(crate) async fn try_to_say(alice: &TestPeer, text: &str) -> Result<Vec<Event>, Failure> {
    alice.ask(Command::Message { to: name("bob"), text: text.to_owned() }).await
}

async fn mark_as_verified(alice: &TestPeer) {
    alice.ask(Command::Verify { name: name("bob"), mark: true }).await.unwrap();
}

/// Waits for the news of another key, and says whether it is kept out.
async fn told_of_change(alice: &mut TestPeer) -> bool {
    alice
        .until(|event| match event {
            Event::KeyChanged { held, .. } => Some(*held),
            _ => None,
        })
        .await
}

#[tokio::test]
async fn before_verification_a_false_key_is_told_before_anything_goes_to_it() {
    let (bob, mallory) = (new_key(), new_key());
    let (directory, mut alice) = HostileDirectory::with_alice(&bob).await;
    pin(&alice).await;
    directory.says(|identity| *identity = identity_of(&mallory));
    let failure = try_to_say(&alice, "for bob").await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Authentication);
    assert!(!told_of_change(&mut alice).await, "it is told, and used from now on");
    assert_eq!(directory.carried(), 0, "what was written for the old key is not sent to the new one");
    try_to_say(&alice, "for whoever it is now").await.unwrap();
    assert_eq!(directory.carried(), 1);
}

#[tokio::test]
async fn a_message_that_comes_back_twice_or_was_for_somebody_else_is_told_once() {
    let (directory, mut alice) = HostileDirectory::with_alice(&new_key()).await;
    try_to_say(&alice, "it comes back").await.unwrap();
    let id = directory.lies.lock().unwrap().delivered[0].header.id;
    for to in ["carol", "bob", "bob"] {
        let push = DirectoryPush::Returned { to: name(to), id, refusal: Refusal::KeyChanged };
        assert_eq!(directory.pushes(push).await, PushReply::Taken);
    }
    try_to_say(&alice, "the last").await.unwrap();
    let mut told = Vec::new();
    let mut stored = 0;
    alice
        .until(|event| {
            match event {
                Event::NotSent { to, id, .. } => told.push((to.clone(), *id)),
                Event::Stored { .. } => stored += 1,
                _ => {}
            }
            (stored == 2).then_some(())
        })
        .await;
    assert_eq!(told, [(name("bob"), id)]);
}

/// Pins bob's key without verifying it.
pub(crate) async fn pin(alice: &TestPeer) {
    alice.ask(Command::Verify { name: name("bob"), mark: false }).await.unwrap();
}

#[tokio::test]
async fn after_verification_nothing_goes_to_a_false_key_until_it_is_accepted() {
    let (bob, mallory) = (new_key(), new_key());
    let (directory, mut alice) = HostileDirectory::with_alice(&bob).await;
    mark_as_verified(&alice).await;
    directory.says(|identity| *identity = identity_of(&mallory));
    for attempt in 0..2 {
        let failure = try_to_say(&alice, "for bob only").await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Authentication, "attempt {attempt}");
        assert!(failure.hint.unwrap().contains("trust bob"));
    }
    assert!(told_of_change(&mut alice).await, "it is told, and kept out");

    let path = alice.machine.file("plan", b"secret");
    let send = alice
        .ask(Command::Send { to: name("bob"), paths: vec![path], wait: false, filter: Default::default() })
        .await
        .unwrap_err();
    assert_eq!(send.kind, FailureKind::Authentication);
    let source = Source::Named { owner: name("bob"), name: file_name("photo.jpg") };
    let get = Command::Get {
        source,
        folder: alice.machine.downloads(),
        collision: Collision::Refuse,
        executable: Executable::Never,
        once: false,
    };
    assert_eq!(alice.ask(get).await.unwrap_err().kind, FailureKind::Authentication);
    let marked = alice.ask(Command::Verify { name: name("bob"), mark: true }).await;
    assert_eq!(marked.unwrap_err().kind, FailureKind::Authentication, "a mark is no acceptance");
    assert_eq!(directory.carried(), 0);
    assert!(!directory.lies.lock().unwrap().dialled);

    let rows = alice.ask(Command::Trust { name: name("bob") }).await.unwrap();
    let accepted = |row: &Event| matches!(row, Event::Contact { key, verified_at: None, offered_key: None, .. } if *key == mallory.public());
    assert!(accepted(&rows[0]), "{rows:?}");
    alice.until(|event| matches!(event, Event::LoggedIn { .. }).then_some(())).await;
}

#[tokio::test]
async fn a_key_that_was_learned_from_a_message_is_written_to_at_once() {
    let (bob, new_bob) = (new_key(), new_key());
    let (directory, mut alice) = HostileDirectory::with_alice(&bob).await;
    try_to_say(&alice, "to the old key, whose prekey she keeps").await.unwrap();
    while directory.lies.lock().unwrap().prekey.is_none() {
        tokio::task::yield_now().await;
    }
    directory.says(|identity| *identity = identity_of(&new_bob));
    let from_new = directory.sealed(&new_bob, &alice, "my new machine");
    assert_eq!(said(directory.delivers_as_bob(from_new).await), Some(ReceiptKind::Delivered));
    assert!(!told_of_change(&mut alice).await);
    try_to_say(&alice, "to the new key").await.unwrap();
    let last = directory.lies.lock().unwrap().delivered.last().unwrap().header.recipient;
    assert_eq!(last, new_bob.public());
}

#[tokio::test]
async fn the_true_key_again_is_written_to_as_before() {
    let (bob, mallory) = (new_key(), new_key());
    let (directory, alice) = HostileDirectory::with_alice(&bob).await;
    mark_as_verified(&alice).await;
    directory.says(|identity| *identity = identity_of(&mallory));
    try_to_say(&alice, "not sent").await.unwrap_err();
    directory.says(|identity| *identity = identity_of(&bob));
    try_to_say(&alice, "sent").await.unwrap();
    let carried = directory.lies.lock().unwrap().delivered[0].header.recipient;
    assert_eq!(carried, bob.public());
    let rows = alice.ask(Command::Verify { name: name("bob"), mark: false }).await.unwrap();
    assert!(matches!(rows[0], Event::Contact { verified_at: Some(_), offered_key: None, .. }), "{rows:?}");
}

#[tokio::test]
async fn a_prekey_that_bob_did_not_sign_is_never_sealed_to() {
    let (bob, mallory) = (new_key(), new_key());
    let expires = now_millis().plus_millis(3_600_000);
    let by_another = prekey_of(&mallory, expires);
    let mut under_his_name = by_another.clone();
    under_his_name.prekey.identity = bob.public();
    let mut broken = prekey_of(&bob, expires);
    broken.prekey.public[3] ^= 1;
    let unsigned = SignedPrekey { signature: Signature::from_bytes([0; 64]), ..prekey_of(&bob, expires) };
    let expired = prekey_of(&bob, UnixMillis(1));
    let (directory, alice) = HostileDirectory::with_alice(&bob).await;
    for verified in [false, true] {
        alice.ask(Command::Verify { name: name("bob"), mark: verified }).await.unwrap();
        for prekey in [&by_another, &under_his_name, &broken, &unsigned] {
            directory.says(|identity| identity.prekey = Some(prekey.clone()));
            let failure = try_to_say(&alice, "sealed to nobody").await.unwrap_err();
            assert_eq!(failure.kind, FailureKind::Authentication, "{failure}");
            assert!(failure.message.contains("prekey"), "{failure}");
        }
    }
    // Not false, only old: the message waits until there is a new one.
    directory.says(|identity| identity.prekey = Some(expired));
    try_to_say(&alice, "sealed to nobody").await.unwrap();
    assert_eq!(directory.carried(), 0);
}

#[tokio::test]
async fn what_bob_did_not_write_is_never_shown_as_his() {
    let (bob, mallory) = (new_key(), new_key());
    let (directory, mut alice) = HostileDirectory::with_alice(&bob).await;
    mark_as_verified(&alice).await;
    alice.until(|event| matches!(event, Event::LoggedIn { .. }).then_some(())).await;
    while directory.lies.lock().unwrap().prekey.is_none() {
        tokio::task::yield_now().await;
    }

    let forged = directory.sealed(&mallory, &alice, "signed by mallory");
    assert_eq!(said(directory.delivers_as_bob(forged).await), None, "left: another key than the verified one");
    let mut other_header = directory.sealed(&mallory, &alice, "under bob's key");
    other_header.header.sender = bob.public();
    assert_eq!(said(directory.delivers_as_bob(other_header).await), Some(ReceiptKind::CannotOpen));
    let mut other_id = directory.sealed(&bob, &alice, "under another id");
    other_id.header.id = MessageId::from_bytes([9; 16]);
    assert_eq!(said(directory.delivers_as_bob(other_id).await), Some(ReceiptKind::CannotOpen));
    let mut truncated = directory.sealed(&bob, &alice, "cut off");
    truncated.sealed.truncate(100);
    assert_eq!(said(directory.delivers_as_bob(truncated).await), Some(ReceiptKind::CannotOpen));
    let mut for_another = directory.sealed(&bob, &alice, "for somebody else");
    for_another.header.recipient = mallory.public();
    assert_eq!(said(directory.delivers_as_bob(for_another).await), Some(ReceiptKind::CannotOpen));

    let his = directory.sealed(&bob, &alice, "his own");
    for _ in 0..3 {
        assert_eq!(said(directory.delivers_as_bob(his.clone()).await), Some(ReceiptKind::Delivered));
    }
    let last = directory.sealed(&bob, &alice, "his last");
    assert_eq!(said(directory.delivers_as_bob(last).await), Some(ReceiptKind::Delivered));
    assert_eq!(alice.next_line().await, ("bob".to_owned(), "his own".to_owned()), "and nothing before it");
    assert_eq!(alice.next_line().await, ("bob".to_owned(), "his last".to_owned()), "a replay is shown once");
}

/// A session that ends while a message is being taken: what is then on alice's disk comes to her screen, too.
#[tokio::test]
async fn what_is_taken_while_the_session_ends_comes_to_the_screen() {
    let bob = new_key();
    let (directory, mut alice) = HostileDirectory::with_alice(&bob).await;
    let mut session = directory.session.clone();
    let _busy = keep_busy(alice.machine.clone());
    for round in 0..16_u64 {
        let connection = session.borrow_and_update().clone().expect("alice is here");
        while directory.lies.lock().unwrap().prekey.is_none() {
            tokio::task::yield_now().await;
        }
        let text = format!("round {round}");
        let envelope = directory.sealed(&bob, &alice, &text);
        let push = DirectoryPush::Delivery(Box::new(Delivery { from: name("bob"), envelope: envelope.clone() }));
        // Cut off later in each round: before, while and after it is written.
        let pushed = connection.request::<_, PushAnswer>(&push);
        drop(tokio::time::timeout(Duration::from_millis(4 * round), pushed).await);
        connection.close(CloseCode::ShuttingDown);
        in_time(session.changed()).await.unwrap();
        // As an honest directory does: it was not acknowledged, so it comes again.
        assert_eq!(said(directory.delivers_as_bob(envelope).await), Some(ReceiptKind::Delivered));
        alice.until(|event| matches!(event, Event::Message { text: shown, .. } if *shown == text).then_some(())).await;
    }
}

/// Makes each use of a machine's disk wait a little.
fn keep_busy(machine: Arc<Machine>) -> JoinSet<()> {
    let mut busy = JoinSet::new();
    busy.spawn(async move {
        loop {
            let wait = |_: &rusqlite::Connection| {
                std::thread::sleep(Duration::from_millis(6));
                Ok::<(), DatabaseError>(())
            };
            machine.profile().database().run(wait).await.unwrap();
        }
    });
    busy
}

#[tokio::test]
async fn what_a_directory_drops_replays_and_reorders_is_found_by_the_audit() {
    let bob = new_key();
    let (directory, mut alice) = HostileDirectory::with_alice(&bob).await;
    while directory.lies.lock().unwrap().prekey.is_none() {
        tokio::task::yield_now().await;
    }
    let numbered = |number: u64| directory.numbered(&bob, &alice, &format!("line {number}"), number);
    let [first, late, third, fifth] = [1, 2, 3, 5].map(numbered);
    for envelope in [&first, &first, &third, &fifth] {
        assert_eq!(said(directory.delivers_as_bob(envelope.clone()).await), Some(ReceiptKind::Delivered));
    }
    alice.until(|event| matches!(event, Event::Missing { first: 4, last: 4, .. }).then_some(())).await;
    assert_eq!(said(directory.delivers_as_bob(late).await), Some(ReceiptKind::Delivered));

    let mut rows = alice.handle.run(Command::Audit { with: name("bob") }).await;
    let mut findings = Vec::new();
    while let Some(row) = in_time(rows.recv()).await {
        match row {
            Event::AuditFinding(found) => findings.push((found.finding, found.first, found.last)),
            Event::Failed { failure } => assert_eq!(failure.kind, FailureKind::Integrity),
            _ => {}
        }
    }
    findings.sort_by_key(|(_, first, _)| *first);
    let expected = [(FindingKind::Repeated, 1, 1), (FindingKind::Late, 2, 2), (FindingKind::Missing, 4, 4)];
    assert_eq!(findings, expected);
}
