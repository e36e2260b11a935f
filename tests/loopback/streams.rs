//! One request, one stream: what a real peer sends to a directory, counted by a fake one.

use std::path::Path;

use qchat::clock::now_millis;
use qchat::peer::event::Event;
use qchat::peer::handle::Command;
use qchat::seal::identity::IdentityKey;
use qchat::seal::prekey::PrekeySecret;
use qchat::seal::random::OsRandom;
use qchat::transport::certificate::DirectoryCertificate;
use qchat::transport::endpoint::Endpoint;
use qchat::transport::stream::Stream;
use qchat::transport::tuning::Network;
use qchat::wire::account::{Identity, LoggedIn, LoginKind};
use qchat::wire::codec;
use qchat::wire::directory::{DirectoryAnswer, DirectoryReply, DirectoryRequest};
use qchat::wire::ids::{Epoch, PeerName};
use qchat::wire::people::{Audience, FriendState, Person, Presence};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::world::{Machine, PASSWORD, Place, in_time, kind_of, name};

/// A directory that says yes to everything, and reports what each stream carried.
struct FakeDirectory {
    place: Place,
    requests: mpsc::UnboundedReceiver<DirectoryRequest>,
    serving: JoinSet<()>,
}

impl FakeDirectory {
    fn start(certificate: &Path) -> Self {
        let certificate = DirectoryCertificate::load_or_create(certificate).unwrap();
        let listen = "127.0.0.1:0".parse().unwrap();
        let endpoint = Endpoint::directory(listen, &certificate, Network::default()).unwrap();
        let place = Place { address: endpoint.local_address().unwrap(), fingerprint: certificate.fingerprint() };
        let (counted, requests) = mpsc::unbounded_channel();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let connection = endpoint.accept().await.unwrap().accept().await.unwrap();
            connection.raise_limits_after_login();
            let bob = IdentityKey::generate(&mut OsRandom);
            while let Ok(mut stream) = connection.accept_stream().await {
                let request = only_request(&mut stream).await;
                stream.write_frame(&yes_to(&request, &bob)).await.unwrap();
                stream.finish();
                counted.send(request).unwrap();
            }
        });
        Self { place, requests, serving }
    }

    /// Everything that was asked, once the peer is gone.
    async fn all_requests(mut self) -> Vec<DirectoryRequest> {
        in_time(self.serving.join_next()).await.unwrap().unwrap();
        let mut all = Vec::new();
        while let Some(request) = self.requests.recv().await {
            all.push(request);
        }
        all
    }
}

/// Reads a stream to its end: it must be one frame and not a byte more.
async fn only_request(stream: &mut Stream) -> DirectoryRequest {
    let mut bytes = Vec::new();
    while let Some(more) = stream.read().await.unwrap() {
        bytes.extend_from_slice(&more);
    }
    let (length, body) = bytes.split_first_chunk::<4>().expect("a frame begins with four bytes of length");
    assert_eq!(usize::try_from(u32::from_le_bytes(*length)).unwrap(), body.len(), "one frame and nothing else");
    codec::decode(body).unwrap()
}

fn yes_to(request: &DirectoryRequest, bob: &IdentityKey) -> DirectoryAnswer {
    Ok(match request {
        DirectoryRequest::Login(_) => DirectoryReply::LoggedIn(LoggedIn {
            epoch: Epoch(1),
            created: true,
            observed: "127.0.0.1:9".parse().unwrap(),
            prekey: None,
            waiting: 0,
            observe: None,
        }),
        DirectoryRequest::Who { .. } => DirectoryReply::People { people: vec![person("bob")], more: false },
        DirectoryRequest::Identify { name } => DirectoryReply::Identity(Box::new(identity_of(name.clone(), bob))),
        DirectoryRequest::Find { .. } => DirectoryReply::Entries { found: Vec::new(), more: false },
        DirectoryRequest::Missing { .. } => DirectoryReply::Missing { messages: Vec::new() },
        DirectoryRequest::Grants { .. } => DirectoryReply::Grants { grants: Vec::new(), more: false },
        DirectoryRequest::PutPrekey(_)
        | DirectoryRequest::Opened { .. }
        | DirectoryRequest::AskConsent { .. }
        | DirectoryRequest::Allow(_)
        | DirectoryRequest::Deny { .. }
        | DirectoryRequest::Receipts { .. }
        | DirectoryRequest::Deliver { .. }
        | DirectoryRequest::Publish(_)
        | DirectoryRequest::Unpublish { .. }
        | DirectoryRequest::AnswerKeyRequest { .. }
        | DirectoryRequest::ChangePassword { .. }
        | DirectoryRequest::DeleteAccount { .. }
        | DirectoryRequest::SetPresence(_)
        | DirectoryRequest::Watch { .. }
        | DirectoryRequest::Block { .. }
        | DirectoryRequest::Unblock { .. }
        | DirectoryRequest::Unfriend { .. }
        | DirectoryRequest::PutOff { .. }
        | DirectoryRequest::SetAudience(_)
        | DirectoryRequest::EndOtherSessions => DirectoryReply::Done,
        DirectoryRequest::Friends { .. } => DirectoryReply::Friends { friends: Vec::new(), more: false },
        DirectoryRequest::Blocked { .. } => DirectoryReply::Names { names: Vec::new(), more: false },
        DirectoryRequest::Audience => DirectoryReply::Audience(Audience::Everyone),
        DirectoryRequest::Announce(_) => DirectoryReply::Announced { to_everyone: true },
        DirectoryRequest::Befriend { .. } => DirectoryReply::Friendship(FriendState::Asked),
        DirectoryRequest::Invite | DirectoryRequest::Sessions => panic!("nobody asks this here"),
        DirectoryRequest::Dial(_) => panic!("nobody is dialled here"),
    })
}

fn identity_of(name: PeerName, key: &IdentityKey) -> Identity {
    let expires = now_millis().plus_millis(60_000);
    let prekey = Some(PrekeySecret::generate(&mut OsRandom).publish(key, &name, expires));
    Identity { name, key: key.public(), prekey, online: true, accepts: true, legacy: false }
}

#[tokio::test]
async fn every_request_of_a_real_peer_has_a_stream_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let directory = FakeDirectory::start(folder.path());
    let machine = Machine::new(directory.place, "alice");
    let alice = machine.start(LoginKind::Resident, Some(PASSWORD), true).await.unwrap();

    assert_eq!(
        alice.ask(Command::Who { recent: false, pattern: String::new() }).await.unwrap(),
        [Event::Person { name: name("bob"), presence: Presence::Online, last_seen: None, legacy: false }]
    );
    alice.say("bob", "the first").await;
    alice.say("bob", "the second, sealed to the same prekey").await;
    alice.ask(Command::Find { pattern: "anything".to_owned() }).await.unwrap();
    alice.share("a file", b"its content").await;
    alice.ask(Command::Unshare { name: crate::world::file_name("a file") }).await.unwrap();
    alice.stop().await;

    let requests = directory.all_requests().await;
    let mut kinds: Vec<_> = requests.iter().map(kind_of).collect();
    assert_eq!(kinds[0], "login");
    kinds.sort_unstable();
    // She identifies bob twice: to pin his key, and to fetch the prekey. Grants, blocks, friends and who may see her are compared
    // with her own at login, and the directory is told whom she follows.
    let expected = [
        "audience",
        "blocked",
        "deliver",
        "deliver",
        "find",
        "friends",
        "grants",
        "identify",
        "identify",
        "login",
        "publish",
        "put prekey",
        "unpublish",
        "watch",
        "who",
    ];
    assert_eq!(kinds, expected);
}

/// Somebody who is here, in a listing.
fn person(text: &str) -> Person {
    Person { name: name(text), presence: Presence::Online, last_seen: None, legacy: false }
}
