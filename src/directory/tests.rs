//! A directory on loopback and clients made by hand: what a session may do, and how it ends.

#[path = "consent_tests.rs"]
mod consent;
#[path = "legacy_tests.rs"]
mod legacy;
#[path = "people_tests.rs"]
mod people;
#[path = "presence_tests.rs"]
mod presence;
#[path = "sight_tests.rs"]
mod sight;

use std::net::SocketAddr;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::relay::{RelayPorts, RelaySettings};
use super::server::{Directory, DirectoryError, Settings};
use super::shared::Shared;
use super::store::Account;
use crate::clock::now_millis;
use crate::seal::identity::{IdentityKey, Label, login_statement};
use crate::seal::prekey::PrekeySecret;
use crate::seal::random::OsRandom;
use crate::seal::receipt;
use crate::transport::connection::{Connection, TransportError};
use crate::transport::endpoint::Endpoint;
use crate::transport::tuning::Network;
use crate::transport::verify::AnnouncedDials;
use crate::wire::account::{LoggedIn, Login, LoginKind};
use crate::wire::directory::{DirectoryAnswer, DirectoryPush, DirectoryReply, DirectoryRequest, PushAnswer, PushReply};
use crate::wire::ids::{DirectoryFingerprint, MessageId, Password, PeerKey, PeerName, PrekeyId};
use crate::wire::message::{Envelope, EnvelopeHeader, Receipt, ReceiptKind};
use crate::wire::people::{Person, Presence};
use crate::wire::refusal::{CloseCode, Refusal};
use crate::wire::rendezvous::{Allowance, DialRequest, Grant, Purpose};

const ERRAND: LoginKind = LoginKind::Errand { collects: false };

/// A directory that runs until it is stopped.
pub(super) struct World {
    pub(super) address: SocketAddr,
    pub(super) shared: Arc<Shared>,
    fingerprint: DirectoryFingerprint,
    running: JoinSet<Result<(), DirectoryError>>,
    stop: oneshot::Sender<()>,
    folder: TempDir,
}

/// A machine with a key and a connection.
pub(super) struct Client {
    identity: IdentityKey,
    endpoint: Endpoint,
    pub(super) connection: Connection,
    directory: DirectoryFingerprint,
}

pub(super) fn settings(folder: &TempDir) -> Settings {
    Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        certificate_folder: folder.path().join("certs"),
        data: folder.path().join("data"),
        admission: Default::default(),
        limits: Default::default(),
        network: Network::default(),
        relay: RelaySettings { ports: RelayPorts::Any(2), ..Default::default() },
    }
}

impl World {
    pub(super) fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap())
    }

    fn start_in(folder: TempDir) -> Self {
        let settings = settings(&folder);
        Self::start_with(settings, folder)
    }

    pub(super) fn start_with(settings: Settings, folder: TempDir) -> Self {
        let directory = Directory::start(settings).unwrap();
        let (address, fingerprint, shared) =
            (directory.local_address(), directory.fingerprint(), directory.shared.clone());
        let (stop, stopped) = oneshot::channel();
        let mut running = JoinSet::new();
        running.spawn(directory.run(async move { drop(stopped.await) }));
        Self { address, shared, fingerprint, running, stop, folder }
    }

    pub(super) async fn stop(mut self) -> TempDir {
        self.stop.send(()).unwrap();
        drop(self.shared);
        self.running.join_next().await.unwrap().unwrap().unwrap();
        self.folder
    }

    async fn connect(&self, identity: IdentityKey) -> Client {
        let any = "127.0.0.1:0".parse().unwrap();
        let endpoint = Endpoint::peer(any, &identity, AnnouncedDials::default(), Network::default()).unwrap();
        let (connection, directory) = endpoint.connect_directory(self.address, Some(self.fingerprint)).await.unwrap();
        Client { identity, endpoint, connection, directory }
    }

    pub(super) async fn stranger(&self) -> Client {
        self.connect(IdentityKey::generate(&mut OsRandom)).await
    }

    /// A new account, logged in.
    pub(super) async fn registered(&self, text: &str, kind: LoginKind) -> Client {
        let client = self.stranger().await;
        client.log_in(Login { register: true, ..client.login(text, kind, Some("secret")) }).await.unwrap();
        client
    }

    /// The same without a password, which nobody hashes.
    async fn member(&self, text: &str, kind: LoginKind, identity: IdentityKey) -> Client {
        let (key, created_at) = (identity.public(), now_millis());
        let password = String::new();
        let account = Account { name: name(text), key, password, created_at, disabled: false, legacy: false };
        self.shared.store.create_account(account, None).await.unwrap();
        let client = self.connect(identity).await;
        client.log_in(client.login(text, kind, None)).await.unwrap();
        client
    }

    /// The same machine once more.
    pub(super) async fn again(&self, client: &Client) -> Client {
        self.connect(IdentityKey::from_seed(client.identity.seed())).await
    }
}

impl Client {
    pub(super) fn login(&self, text: &str, kind: LoginKind, password: Option<&str>) -> Login {
        let statement = login_statement(&self.directory, &name(text), &self.connection.login_binding());
        Login {
            name: name(text),
            key: self.identity.public(),
            kind,
            proof: self.identity.sign(Label::Login, &statement),
            password: password.map(|password| Password::parse(password).unwrap()),
            register: false,
            token: None,
            undo: false,
        }
    }

    pub(super) async fn log_in(&self, login: Login) -> Result<LoggedIn, Refusal> {
        let reply = self.ask(DirectoryRequest::Login(Box::new(login))).await?;
        let DirectoryReply::LoggedIn(logged_in) = reply else { panic!("a login was answered with {reply:?}") };
        Ok(logged_in)
    }

    async fn ask(&self, request: DirectoryRequest) -> DirectoryAnswer {
        self.connection.request(&request).await.unwrap()
    }

    /// Publishes a new prekey.
    async fn put_prekey(&self, text: &str) -> PrekeyId {
        let secret = PrekeySecret::generate(&mut OsRandom);
        let signed = secret.publish(&self.identity, &name(text), now_millis().plus_millis(60_000));
        let id = signed.prekey.id;
        assert_eq!(self.ask(DirectoryRequest::PutPrekey(Box::new(signed))).await, Ok(DirectoryReply::Done));
        id
    }

    async fn deliver(&self, to: &str, envelope: Envelope) -> DirectoryAnswer {
        self.ask(DirectoryRequest::Deliver { to: name(to), envelope: Box::new(envelope) }).await
    }

    /// Answers the next push, beside those that only say that nothing waits.
    async fn pushed(&self, answer: PushAnswer) -> DirectoryPush {
        self.pushed_and(|_| answer.clone()).await
    }

    /// Takes the next message and answers with a receipt for it.
    async fn received(&self) -> DirectoryPush {
        self.pushed_and(|push| {
            let DirectoryPush::Delivery(delivery) = push else { panic!("{push:?} is no delivery") };
            let EnvelopeHeader { sender, id, .. } = delivery.envelope.header;
            let (by, kind, at) = (self.identity.public(), ReceiptKind::Delivered, now_millis());
            let said = Receipt { by, to: sender, id, sequence: 1, highest: 1, kind, at };
            Ok(PushReply::Receipt(Box::new(receipt::sign(&self.identity, said))))
        })
        .await
    }

    async fn pushed_and(&self, answer: impl Fn(&DirectoryPush) -> PushAnswer) -> DirectoryPush {
        loop {
            let mut stream = self.connection.accept_stream().await.unwrap();
            let push = stream.read_frame().await.unwrap();
            let is_drained = matches!(push, DirectoryPush::Drained { .. });
            let answer = if is_drained { Ok(PushReply::Taken) } else { answer(&push) };
            stream.write_frame(&answer).await.unwrap();
            stream.finish();
            if !is_drained {
                return push;
            }
        }
    }

    async fn closed_with(&self) -> CloseCode {
        let reason = self.connection.closed().await;
        let TransportError::Closed(code) = reason else { panic!("the connection ended otherwise: {reason}") };
        code
    }
}

pub(super) fn name(text: &str) -> PeerName {
    PeerName::parse(text).unwrap()
}

fn envelope(sender: &Client, recipient: PeerKey, prekey: PrekeyId, id: u8) -> Envelope {
    let id = MessageId::from_bytes([id; 16]);
    let header = EnvelopeHeader { version: 1, sender: sender.identity.public(), recipient, id, prekey };
    Envelope { header, encapsulated: vec![0; 1_120], sealed: vec![0; 300] }
}

fn delivered_id(push: DirectoryPush) -> u8 {
    let DirectoryPush::Delivery(delivery) = push else { panic!("{push:?} is no delivery") };
    delivery.envelope.header.id.as_bytes()[0]
}

fn presence(text: &str, online: bool) -> DirectoryPush {
    let presence = if online { Presence::Online } else { Presence::Offline };
    DirectoryPush::Presence { name: name(text), presence }
}

#[tokio::test]
async fn an_account_is_registered_once_and_the_key_gets_in_after_a_restart() {
    let world = World::start();
    let alice = world.stranger().await;
    let login = |register, password| Login { register, ..alice.login("alice", LoginKind::Resident, password) };
    assert_eq!(alice.log_in(login(false, None)).await, Err(Refusal::UnknownName));
    assert_eq!(alice.log_in(login(true, None)).await, Err(Refusal::PasswordNeeded));
    let logged_in = alice.log_in(login(true, Some("secret"))).await.unwrap();
    assert!(logged_in.created && logged_in.epoch.0 == 1 && logged_in.waiting == 0);
    assert_eq!(logged_in.observed, alice.endpoint.local_address().unwrap());
    assert_eq!(alice.log_in(login(false, None)).await, Err(Refusal::AlreadyLoggedIn));

    let fingerprint = world.fingerprint;
    let world = World::start_in(world.stop().await);
    assert_eq!(alice.closed_with().await, CloseCode::ShuttingDown);
    assert_eq!(world.fingerprint, fingerprint);
    let alice = world.again(&alice).await;
    let logged_in = alice.log_in(alice.login("alice", LoginKind::Resident, None)).await.unwrap();
    assert!(!logged_in.created && logged_in.epoch.0 == 2);
    world.stop().await;
}

#[tokio::test]
async fn another_key_needs_the_password_and_replaces_the_old_one() {
    let world = World::start();
    let old = world.registered("alice", ERRAND).await;
    let new = world.stranger().await;
    let login = |password| new.login("alice", ERRAND, password);
    assert_eq!(new.log_in(Login { register: true, ..login(Some("secret")) }).await, Err(Refusal::NameTaken));
    assert_eq!(new.log_in(login(None)).await, Err(Refusal::PasswordNeeded));
    assert_eq!(new.log_in(login(Some("wrong"))).await, Err(Refusal::WrongPassword { tries_left: 2 }));
    new.log_in(login(Some("secret"))).await.unwrap();
    assert_eq!(old.closed_with().await, CloseCode::LoggedInElsewhere);
    let old = world.again(&old).await;
    let replaced = old.log_in(old.login("alice", ERRAND, None)).await;
    assert_eq!(replaced, Err(Refusal::KeyReplaced { hours_left: 168 }));
    world.stop().await;
}

#[tokio::test]
async fn three_wrong_passwords_lock_new_keys_out_and_not_the_known_one() {
    let world = World::start();
    let alice = world.registered("alice", ERRAND).await;
    let thief = world.stranger().await;
    for refusal in [
        Refusal::WrongPassword { tries_left: 2 },
        Refusal::WrongPassword { tries_left: 1 },
        Refusal::LockedOut { seconds: 60 },
    ] {
        assert_eq!(thief.log_in(thief.login("alice", ERRAND, Some("guess"))).await, Err(refusal));
    }
    let right = thief.log_in(thief.login("alice", ERRAND, Some("secret"))).await;
    assert!(matches!(right, Err(Refusal::LockedOut { .. })));
    let alice = world.again(&alice).await;
    alice.log_in(alice.login("alice", ERRAND, None)).await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn a_proof_for_another_connection_is_refused() {
    let world = World::start();
    let alice = world.registered("alice", ERRAND).await;
    let replayed = alice.login("alice", ERRAND, None);
    let thief = world.stranger().await;
    assert_eq!(
        thief.ask(DirectoryRequest::Who { recent: false, pattern: None, after: None }).await,
        Err(Refusal::NotLoggedIn)
    );
    assert_eq!(thief.log_in(replayed).await, Err(Refusal::BadProof));
    world.stop().await;
}

#[tokio::test]
async fn a_second_resident_takes_over_and_nobody_else_notices() {
    let world = World::start();
    let bob = world.registered("bob", LoginKind::Resident).await;
    let first = world.registered("alice", LoginKind::Resident).await;
    assert_eq!(bob.pushed(Ok(PushReply::Taken)).await, presence("alice", true));
    let second = world.again(&first).await;
    second.log_in(second.login("alice", LoginKind::Resident, None)).await.unwrap();
    assert_eq!(first.closed_with().await, CloseCode::LoggedInElsewhere);
    let people = DirectoryReply::People { people: vec![person("alice"), person("bob")], more: false };
    assert_eq!(bob.ask(DirectoryRequest::Who { recent: false, pattern: None, after: None }).await, Ok(people));
    second.connection.close(CloseCode::Done);
    assert_eq!(bob.pushed(Ok(PushReply::Taken)).await, presence("alice", false));
    world.stop().await;
}

#[tokio::test]
async fn what_is_taken_is_gone_and_what_is_left_waits_for_the_next_session() {
    let world = World::start();
    let bob = world.registered("bob", LoginKind::Resident).await;
    let (key, prekey) = (bob.identity.public(), bob.put_prekey("bob").await);
    let alice = world.registered("alice", ERRAND).await;
    for id in 1..=3 {
        assert_eq!(alice.deliver("bob", envelope(&alice, key, prekey, id)).await, Ok(DirectoryReply::Done));
    }
    assert_eq!(delivered_id(bob.received().await), 1);
    assert_eq!(delivered_id(bob.pushed(Ok(PushReply::Left)).await), 2);
    assert_eq!(delivered_id(bob.received().await), 3);
    // Only now is the third known to be deleted: the fourth comes after it.
    assert_eq!(alice.deliver("bob", envelope(&alice, key, prekey, 4)).await, Ok(DirectoryReply::Done));
    assert_eq!(delivered_id(bob.pushed(Ok(PushReply::Left)).await), 4);

    let errand = world.again(&bob).await;
    let collects = LoginKind::Errand { collects: true };
    let logged_in = errand.log_in(errand.login("bob", collects, None)).await.unwrap();
    assert_eq!((logged_in.waiting, logged_in.prekey), (2, Some(prekey)));
    bob.connection.close(CloseCode::Done); // while the resident was there, the errand got nothing
    for id in [2, 4] {
        assert_eq!(delivered_id(errand.received().await), id);
    }
    world.stop().await;
}

#[tokio::test]
async fn an_envelope_in_another_name_or_shape_is_refused() {
    let world = World::start();
    let alice = world.registered("alice", ERRAND).await;
    let bob = world.registered("bob", LoginKind::Resident).await;
    let (key, prekey) = (bob.identity.public(), bob.put_prekey("bob").await);
    let good = envelope(&alice, key, prekey, 1);
    assert_eq!(alice.deliver("bob", envelope(&bob, key, prekey, 1)).await, Err(Refusal::NotYourName));
    let short = Envelope { encapsulated: vec![0; 1_119], ..good.clone() };
    assert_eq!(alice.deliver("bob", short).await, Err(Refusal::UnknownRequest));
    let long = Envelope { sealed: vec![0; 20 * 1_024 + 1], ..good };
    assert_eq!(alice.deliver("bob", long).await, Err(Refusal::UnknownRequest));
    let forged = PrekeySecret::generate(&mut OsRandom).publish(&alice.identity, &name("bob"), now_millis());
    assert_eq!(bob.ask(DirectoryRequest::PutPrekey(Box::new(forged))).await, Err(Refusal::BadSignature));
    world.stop().await;
}

#[tokio::test]
async fn a_dial_is_announced_and_granted() {
    let world = World::start();
    let bob = world.registered("bob", LoginKind::Resident).await;
    let alice = world.registered("alice", ERRAND).await;
    let grant = Grant { to: name("alice"), allowance: Allowance::Always };
    assert_eq!(bob.ask(DirectoryRequest::Allow(grant)).await, Ok(DirectoryReply::Done));
    let local: SocketAddr = "10.0.0.7:4433".parse().unwrap();
    let request = DialRequest {
        to: name("bob"),
        key: bob.identity.public(),
        purpose: Purpose::Talk,
        candidates: Some(vec![local]),
        relay: false,
    };
    let dial = DirectoryRequest::Dial(request.clone());
    let (pushed, answered) =
        tokio::join!(bob.pushed(Ok(PushReply::Candidates(Some(vec![local])))), alice.ask(dial.clone()));
    let (DirectoryPush::Dial(announced), Ok(DirectoryReply::DialGranted(granted))) = (pushed, answered) else {
        panic!("announced and granted");
    };
    assert_eq!((&announced.dial, announced.key), (&granted.dial, alice.identity.public()));
    assert_eq!(announced.direct.candidates(), [alice.endpoint.local_address().unwrap(), local]);
    assert_eq!(granted.direct.candidates(), [bob.endpoint.local_address().unwrap(), local]);

    let (_, refused) = tokio::join!(bob.pushed(Err(Refusal::NotAccepted)), alice.ask(dial.clone()));
    assert_eq!(refused, Err(Refusal::NotAccepted));
    let other_key = DialRequest { key: alice.identity.public(), ..request };
    assert_eq!(alice.ask(DirectoryRequest::Dial(other_key)).await, Err(Refusal::KeyChanged));
    bob.connection.close(CloseCode::Done);
    bob.endpoint.wait_closed().await;
    while alice.ask(DirectoryRequest::Who { recent: false, pattern: None, after: None }).await
        != Ok(DirectoryReply::People { people: vec![], more: false })
    {
        tokio::task::yield_now().await;
    }
    assert_eq!(alice.ask(dial).await, Err(Refusal::Offline));
    world.stop().await;
}

#[tokio::test]
async fn a_malformed_frame_closes_the_connection() {
    let world = World::start();
    for client in [world.stranger().await, world.registered("alice", ERRAND).await] {
        let mut stream = client.connection.open_stream().await.unwrap();
        stream.write(vec![1, 0, 0, 0, 99].into()).await.unwrap();
        stream.finish();
        assert_eq!(client.closed_with().await, CloseCode::BadFrame);
    }
    world.stop().await;
}

#[tokio::test]
async fn a_data_folder_serves_one_directory() {
    let world = World::start();
    let error = Directory::start(settings(&world.folder)).err().unwrap().to_string();
    assert_eq!(error, format!("another qchat serve uses {}", world.folder.path().join("data").display()));
    let folder = world.stop().await;
    assert!(Directory::start(settings(&folder)).is_ok());
}

/// Somebody who is here, in a listing.
fn person(text: &str) -> Person {
    Person { name: name(text), presence: Presence::Online, last_seen: None, legacy: false }
}
