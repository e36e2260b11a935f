//! Which way connections go between real peers and a real directory on this machine, and what strangers who know a peer's
//! address can do about it.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use qchat::peer::event::Event;
use qchat::peer::handle::Command;
use qchat::peer::path::{PathInfo, PathKind, StatusRow, WhyNotDirect};
use qchat::storage::partial_file::Collision;
use qchat::wire::account::LoginKind;
use qchat::wire::catalog::Query;
use qchat::wire::datagram::Datagram;
use qchat::wire::directory::{DirectoryReply, DirectoryRequest};
use qchat::wire::ids::{DialId, FileDigest, Ticket};
use qchat::wire::rendezvous::{DialRequest, Purpose};

use crate::world::{RawClient, TestDirectory, TestPeer, content, file_name, in_time, name};

async fn status(of: &TestPeer) -> (StatusRow, Vec<PathInfo>) {
    let mut rows = of.ask(Command::Status).await.unwrap().into_iter();
    let Some(Event::Status(row)) = rows.next() else { panic!("the first row is the peer's own") };
    let links = rows.map(|row| match row {
        Event::Link { via, .. } => via,
        other => panic!("{other:?} is no link"),
    });
    (*row, links.collect())
}

/// Waits until the links of a peer are as wanted.
async fn links_until(of: &TestPeer, wanted: impl Fn(&[PathInfo]) -> bool) {
    in_time(async {
        while !wanted(&status(of).await.1) {
            tokio::task::yield_now().await
        }
    })
    .await;
}

fn is_direct(link: Option<&PathInfo>) -> bool {
    link.is_some_and(|link| link.path == PathKind::Direct)
}

/// Alice publishes a file that bob can fetch through the relay only, and he has.
async fn relayed() -> (TestDirectory, TestPeer, TestPeer) {
    let directory = TestDirectory::start();
    let (alice, bob) = (TestPeer::join(&directory, "alice").await, TestPeer::join(&directory, "bob").await);
    let path = alice.machine.file("hidden", &content(700_000));
    alice.ask(Command::Share { path, hides_address: true, filter: Default::default() }).await.unwrap();
    bob.get("alice", "hidden", Collision::Refuse).await.unwrap();
    let links = status(&bob).await.1;
    assert_eq!((links.len(), links[0].path, links[0].why_relayed), (1, PathKind::Relay, Some(WhyNotDirect::NoConsent)));
    (directory, alice, bob)
}

#[tokio::test]
async fn what_may_be_direct_becomes_so_beside_a_relayed_link() {
    let (_directory, alice, bob) = relayed().await;
    alice.share("open", &content(10)).await;
    bob.get("alice", "open", Collision::Refuse).await.unwrap();
    links_until(&bob, |links| is_direct(links.first())).await;
    assert_eq!(status(&bob).await.1[1].why_relayed, Some(WhyNotDirect::StandsBy));
}

#[tokio::test]
async fn what_is_taken_back_goes_on_through_the_relay() {
    let (_directory, alice, bob) = relayed().await;
    alice.allow("bob").await;
    let connected = bob.ask(Command::Connect { to: name("alice"), wait: true }).await.unwrap();
    let direct = connected.iter().any(|row| matches!(row, Event::Connected { via, .. } if is_direct(Some(via))));
    assert!(direct, "{connected:?}");
    alice.ask(Command::Deny { to: name("bob") }).await.unwrap();
    let no_consent = Some(WhyNotDirect::NoConsent);
    links_until(&bob, |links| matches!(links, [only] if only.why_relayed == no_consent)).await;
    bob.get("alice", "hidden", Collision::Rename).await.unwrap();
    assert!(!is_direct(status(&bob).await.1.first()), "what was taken back is not asked for by itself");
}

#[tokio::test]
async fn forged_punches_and_answers_of_a_relay_are_counted_and_draw_nothing() {
    const FORGED: u64 = 3_000;
    let directory = TestDirectory::start();
    let (alice, bob) = (TestPeer::join(&directory, "alice").await, TestPeer::join(&directory, "bob").await);
    alice.share("file", &content(2_000_000)).await;
    let bobs = status(&bob).await.0.seen_at.unwrap();
    let mallory = UdpSocket::bind("127.0.0.66:0").unwrap();
    mallory.set_nonblocking(true).unwrap();
    let forging = async {
        for number in 0..FORGED {
            let guess: [u8; 16] = std::array::from_fn(|place| number.to_le_bytes()[place % 8]);
            let ticket = Ticket::from_bytes(guess);
            let forged = match number % 3 {
                0 => Datagram::Punch { dial: DialId::from_bytes(guess) },
                1 => Datagram::Challenge { ticket, nonce: guess },
                _ => Datagram::Joined { ticket, both: true },
            };
            drop(mallory.send_to(&forged.encode(), bobs));
            tokio::task::yield_now().await;
        }
    };
    let (fetched, ()) = tokio::join!(bob.get("alice", "file", Collision::Refuse), forging);
    fetched.unwrap();
    let mut answer = [0; 2_000];
    assert!(mallory.recv_from(&mut answer).is_err(), "nobody answers a stranger");
    // The kernel and the queue may lose some of a flood.
    in_time(async {
        while status(&bob).await.0.strays < FORGED / 10 {
            tokio::task::yield_now().await
        }
    })
    .await;
}

#[tokio::test]
async fn a_third_party_that_is_listed_as_a_candidate_gets_a_few_punches_and_no_handshake() {
    let directory = TestDirectory::start();
    let alice = TestPeer::join(&directory, "alice").await;
    alice.share("bait", &content(10)).await;
    let mallory = RawClient::registered(&directory, "mallory", LoginKind::Resident).await;
    let victim = tokio::net::UdpSocket::bind("127.0.0.77:0").await.unwrap();
    let listed: SocketAddr = victim.local_addr().unwrap();
    let digest = digest_of("bait", &mallory).await;
    let request = DialRequest {
        to: name("alice"),
        key: alice.key(),
        purpose: Purpose::Fetch { digest },
        candidates: Some(vec![listed]),
        relay: false,
    };
    let granted = mallory.ask(DirectoryRequest::Dial(request)).await;
    assert!(matches!(granted, Ok(DirectoryReply::DialGranted(_))), "{granted:?}");
    let mut bytes = 0;
    let mut datagram = [0; 2_000];
    // Until alice has given up, which takes her ten seconds.
    while let Ok(came) = tokio::time::timeout(Duration::from_secs(4), victim.recv_from(&mut datagram)).await {
        let length = came.unwrap().0;
        bytes += length;
        let said = Datagram::decode(&datagram[..length]);
        assert!(matches!(said, Some(Datagram::Opener | Datagram::Punch { .. })), "{length} bytes: {said:?}");
    }
    assert!(bytes > 0 && bytes < 1_000, "{bytes} bytes");
}

async fn digest_of(file: &str, client: &RawClient) -> FileDigest {
    let query = Query::Exact { owner: name("alice"), name: file_name(file) };
    match client.ask(DirectoryRequest::Find { query, after: None }).await {
        Ok(DirectoryReply::Entries { found, .. }) => found[0].entry.digest,
        other => panic!("a search was answered with {other:?}"),
    }
}
