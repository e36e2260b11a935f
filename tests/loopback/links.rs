//! Links that live on: who is dialled how often, counted by an owner of files made by hand.

use std::fs;

use qchat::peer::handle::Command;
use qchat::seal::digest::HashTree;
use qchat::storage::partial_file::Collision;
use qchat::transport::connection::{Connection, TransportError};
use qchat::wire::account::LoginKind;
use qchat::wire::catalog::{Entry, EntryKind, Scope};
use qchat::wire::chunk;
use qchat::wire::directory::{DirectoryPush, DirectoryReply, DirectoryRequest, PushAnswer, PushReply};
use qchat::wire::ids::{FileDigest, FileSize};
use qchat::wire::refusal::{CloseCode, Refusal};
use qchat::wire::transfer::{Fetch, FetchAnswer, FetchPart, FetchReply, PeerRequest, ReceivedAnswer};

use crate::world::{ERRAND, RawClient, TestDirectory, TestPeer, content, file_name, in_time, name};

/// The content of every file that carol has: a single group, which needs no tree.
const FILE: &[u8] = b"one group";

/// Somebody who publishes files and counts how often she is dialled.
struct Carol {
    client: RawClient,
    digest: FileDigest,
    size: FileSize,
    dials: usize,
}

impl Carol {
    async fn publishing(directory: &TestDirectory, files: &[&str]) -> Self {
        let client = RawClient::registered(directory, "carol", LoginKind::Resident).await;
        let (digest, _) = HashTree::of_reader(&mut &*FILE, &mut |_| {}).unwrap();
        let size = FileSize::try_from(FILE.len() as u64).unwrap();
        for name in files {
            let (name, kind, scope) = (file_name(name), EntryKind::File, Scope::Everyone);
            let entry = Entry { name, size, digest, kind, scope, hides_address: false };
            assert_eq!(client.ask(DirectoryRequest::Publish(entry)).await, Ok(DirectoryReply::Done));
        }
        Self { client, digest, size, dials: 0 }
    }

    /// Takes the next connection.
    async fn accept(&mut self) -> Connection {
        loop {
            tokio::select! {
                connection = self.client.next_connection() => return connection,
                stream = self.client.connection.accept_stream() => {
                    let mut stream = stream.unwrap();
                    let mut answer: PushAnswer = Ok(PushReply::Taken);
                    if let DirectoryPush::Dial(announced) = stream.read_frame().await.unwrap() {
                        self.dials += 1;
                        answer = self.client.expect(announced);
                    }
                    stream.answer(&answer).await;
                }
            }
        }
    }

    /// Serves one file from its fetch to the news that it is complete.
    async fn serve_one(&self, connection: &Connection) {
        loop {
            let mut stream = in_time(connection.accept_stream()).await.unwrap();
            match stream.read_frame().await.unwrap() {
                PeerRequest::Fetch(Fetch { digest, part: FetchPart::Groups { first: 0, count: 1 } }) => {
                    assert_eq!(digest, self.digest);
                    let answer: FetchAnswer = Ok(FetchReply { size: self.size });
                    stream.write_frame(&answer).await.unwrap();
                    let mut chunks = Vec::new();
                    chunk::encode(FILE, &mut chunks);
                    chunks.push(chunk::END);
                    stream.write(chunks.into()).await.unwrap();
                    stream.finish();
                    stream.wait_sent().await;
                }
                PeerRequest::Received { .. } => {
                    let answer: ReceivedAnswer = Ok(());
                    stream.answer(&answer).await;
                    return;
                }
                other => panic!("nobody asks this here: {other:?}"),
            }
        }
    }
}

async fn get(alice: &TestPeer, file: &str) {
    let (path, _) = alice.get("carol", file, Collision::Refuse).await.unwrap();
    assert_eq!(fs::read(path).unwrap(), FILE);
}

#[tokio::test]
async fn a_second_fetch_goes_over_the_link_of_the_first_and_a_third_dials_when_that_was_closed() {
    let directory = TestDirectory::start();
    let alice = TestPeer::join(&directory, "alice").await;
    let mut carol = Carol::publishing(&directory, &["first", "second", "third"]).await;
    let serving = async {
        let link = carol.accept().await;
        carol.serve_one(&link).await;
        carol.serve_one(&link).await;
        assert_eq!(carol.dials, 1);
        link.close(CloseCode::Done);
        let another = carol.accept().await;
        carol.serve_one(&another).await;
        assert_eq!(carol.dials, 2);
        another
    };
    let fetching = async {
        for file in ["first", "second", "third"] {
            get(&alice, file).await;
        }
    };
    let (link, ()) = in_time(async { tokio::join!(serving, fetching) }).await;
    assert!(link.is_open(), "whoever fetched leaves the link open");
    alice.stop().await;
    in_time(link.closed()).await;
}

#[tokio::test]
async fn who_was_dialled_fetches_over_the_same_link() {
    let directory = TestDirectory::start();
    let alice = TestPeer::join(&directory, "alice").await;
    alice.share("hers", &content(1_000)).await;
    let carol = Carol::publishing(&directory, &["for alice"]).await;
    alice.allow("carol").await;
    let link = carol.client.dial("alice", alice.key()).await;
    // An answer over it says that it is in use.
    let received = PeerRequest::Received { digest: carol.digest, offer: None };
    let _no: ReceivedAnswer = in_time(link.request(&received)).await.unwrap();
    // Nobody answers what the directory pushes to carol: a dial would not be granted.
    let fetching = get(&alice, "for alice");
    in_time(async { tokio::join!(carol.serve_one(&link), fetching) }).await;
    assert!(link.is_open());
}

#[tokio::test]
async fn what_is_not_shared_stays_so_over_a_link_of_the_other_direction() {
    let directory = TestDirectory::start();
    let alice = TestPeer::join(&directory, "alice").await;
    let mut carol = Carol::publishing(&directory, &["bait"]).await;
    let serving = async {
        let link = carol.accept().await;
        carol.serve_one(&link).await;
        link
    };
    let (link, ()) = in_time(async { tokio::join!(serving, get(&alice, "bait")) }).await;
    // Alice fetched it and shares nothing: it is not hers to give.
    let fetch = PeerRequest::Fetch(Fetch { digest: carol.digest, part: FetchPart::Groups { first: 0, count: 1 } });
    let answer: FetchAnswer = in_time(link.request(&fetch)).await.unwrap();
    assert_eq!(answer.unwrap_err(), Refusal::UnknownFile);
}

#[tokio::test]
async fn a_peer_that_was_started_again_is_dialled_again() {
    let directory = TestDirectory::start();
    let (alice, bob) = (TestPeer::join(&directory, "alice").await, TestPeer::join(&directory, "bob").await);
    for name in ["one", "two"] {
        bob.share(name, FILE).await;
    }
    alice.get("bob", "one", Collision::Refuse).await.unwrap();
    let bob = bob.stop().await.resident().await;
    let (path, _) = alice.get("bob", "two", Collision::Refuse).await.unwrap();
    assert_eq!(fs::read(path).unwrap(), FILE);
    drop(bob);
}

/// How a connection has ended.
async fn end_of(connection: &Connection) -> CloseCode {
    match in_time(connection.closed()).await {
        TransportError::Closed(code) => code,
        other => panic!("it was not closed but {other:?}"),
    }
}

#[tokio::test]
async fn to_somebody_who_is_blocked_a_peer_looks_as_if_it_had_left() {
    let directory = TestDirectory::start();
    let alice = TestPeer::join(&directory, "alice").await;
    let (bob, carol) = (
        RawClient::registered(&directory, "bob", ERRAND).await,
        RawClient::registered(&directory, "carol", ERRAND).await,
    );
    alice.allow("bob").await;
    alice.allow("carol").await;
    let (to_bob, to_carol) = (bob.dial("alice", alice.key()).await, carol.dial("alice", alice.key()).await);
    alice.ask(Command::Block { name: name("bob") }).await.unwrap();
    let blocked = (end_of(&to_bob).await, bob.announce("alice", alice.key()).await.err());
    assert!(to_carol.is_open(), "nothing happens to carol");
    let key = alice.key();
    alice.stop().await;
    let left = (end_of(&to_carol).await, carol.announce("alice", key).await.err());
    assert_eq!(blocked, left);
    assert_eq!(left, (CloseCode::ShuttingDown, Some(Refusal::Offline)));
}
