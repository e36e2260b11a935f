//! Exclusive conversations with people made by hand: what others may not do to them, and what silence comes to.

use std::time::Duration;

use qchat::peer::event::Event;
use qchat::peer::failure::FailureKind;
use qchat::peer::handle::Command;
use qchat::peer::rows::WhyClosed;
use qchat::transport::connection::Connection;
use qchat::wire::account::LoginKind;
use qchat::wire::directory::{DirectoryPush, DirectoryReply, DirectoryRequest, PushAnswer, PushReply};
use qchat::wire::people::Exclusive;
use qchat::wire::refusal::{CloseCode, Refusal};
use qchat::wire::rendezvous::{Allowance, Grant};
use qchat::wire::transfer::{PeerRequest, ReceivedAnswer};

use crate::world::{ERRAND, RawClient, TestDirectory, TestPeer, in_time, name};

/// What people may have to wait until they are told that the other side is gone.
const GONE_WITHIN: Duration = Duration::from_secs(30);

/// Somebody who has connected to a peer, and the connection.
async fn connected(directory: &TestDirectory, peer: &TestPeer, text: &str) -> (RawClient, Connection) {
    let client = RawClient::registered(directory, text, ERRAND).await;
    peer.allow(text).await;
    let link = client.dial(peer.machine.name().as_str(), peer.key()).await;
    (client, link)
}

async fn say(link: &Connection, what: Exclusive) -> ReceivedAnswer {
    in_time(link.request(&PeerRequest::Exclusive(what))).await.unwrap()
}

/// What is told of an exclusive conversation: with whom, and why it is over if it is.
fn told(event: &Event) -> Option<(String, Option<WhyClosed>)> {
    match event {
        Event::ExclusiveOpened { with, .. } => Some((with.to_string(), None)),
        Event::ExclusiveClosed { with, why } => Some((with.to_string(), Some(*why))),
        _ => None,
    }
}

#[tokio::test]
async fn who_is_not_in_it_neither_ends_it_nor_learns_with_whom_it_is() {
    let directory = TestDirectory::start();
    let mut alice = TestPeer::join(&directory, "alice").await;
    let (_bob, bobs) = connected(&directory, &alice, "bob").await;
    let (_carol, carols) = connected(&directory, &alice, "carol").await;

    assert_eq!(say(&carols, Exclusive::Still).await, Err(Refusal::NotAccepted), "the same as while there is another");
    assert_eq!(say(&bobs, Exclusive::Open).await, Ok(()));
    assert_eq!(alice.until(told).await, ("bob".to_owned(), None));
    assert_eq!(say(&carols, Exclusive::Still).await, Err(Refusal::NotAccepted));
    assert_eq!(say(&carols, Exclusive::Open).await, Err(Refusal::Engaged));
    assert_eq!(say(&carols, Exclusive::Close).await, Ok(()), "there is none with her");
    assert_eq!(say(&bobs, Exclusive::Still).await, Ok(()));
    assert_eq!(say(&bobs, Exclusive::Close).await, Ok(()));
    assert_eq!(alice.until(told).await, ("bob".to_owned(), Some(WhyClosed::There)));
    assert_eq!(say(&carols, Exclusive::Open).await, Ok(()));
    assert_eq!(alice.until(told).await, ("carol".to_owned(), None));
    carols.close(CloseCode::ShuttingDown);
    assert_eq!(alice.until(told).await, ("carol".to_owned(), Some(WhyClosed::Left)));
}

#[tokio::test]
async fn nobody_fills_a_screen_by_opening_and_closing() {
    let directory = TestDirectory::start();
    let mut alice = TestPeer::join(&directory, "alice").await;
    let (_bob, bobs) = connected(&directory, &alice, "bob").await;
    let mut openings = 0;
    while say(&bobs, Exclusive::Open).await == Ok(()) {
        assert_eq!(say(&bobs, Exclusive::Open).await, Ok(()), "said twice, it is the same one");
        assert_eq!(alice.until(told).await, ("bob".to_owned(), None));
        assert_eq!(say(&bobs, Exclusive::Close).await, Ok(()));
        assert_eq!(alice.until(told).await, ("bob".to_owned(), Some(WhyClosed::There)));
        openings += 1;
        assert!(openings < 20, "there is no end of it");
    }
    assert!(matches!(say(&bobs, Exclusive::Open).await, Err(Refusal::TooOften { .. })));
    let (_carol, carols) = connected(&directory, &alice, "carol").await;
    assert_eq!(say(&carols, Exclusive::Open).await, Ok(()), "others may");
}

/// Somebody who lets alice connect, and answers what is said of exclusive conversations as they are told to.
struct Bob {
    client: RawClient,
}

impl Bob {
    async fn join(directory: &TestDirectory) -> Self {
        let client = RawClient::registered(directory, "bob", LoginKind::Resident).await;
        let grant = Grant { to: name("alice"), allowance: Allowance::Always };
        assert_eq!(client.ask(DirectoryRequest::Allow(grant)).await, Ok(DirectoryReply::Done));
        Self { client }
    }

    /// Takes the next connection.
    async fn accept(&self) -> Connection {
        loop {
            tokio::select! {
                connection = self.client.next_connection() => return connection,
                stream = self.client.connection.accept_stream() => {
                    let mut stream = stream.unwrap();
                    let mut answer: PushAnswer = Ok(PushReply::Taken);
                    if let DirectoryPush::Dial(announced) = stream.read_frame().await.unwrap() {
                        answer = self.client.expect(announced);
                    }
                    stream.answer(&answer).await;
                }
            }
        }
    }

    /// Waits for what is said next, and answers it.
    async fn hears(link: &Connection, expected: Exclusive, answer: ReceivedAnswer) {
        let mut stream = in_time(link.accept_stream()).await.unwrap();
        assert_eq!(stream.read_frame::<PeerRequest>().await.unwrap(), PeerRequest::Exclusive(expected));
        stream.answer(&answer).await;
    }
}

fn open_with_bob() -> Command {
    Command::OpenExclusive { to: name("bob") }
}

#[tokio::test]
async fn a_no_is_told_and_leaves_nothing_behind() {
    let directory = TestDirectory::start();
    let mut alice = TestPeer::join(&directory, "alice").await;
    let bob = Bob::join(&directory).await;
    let answering = async {
        let link = bob.accept().await;
        Bob::hears(&link, Exclusive::Open, Err(Refusal::Engaged)).await;
        Bob::hears(&link, Exclusive::Open, Ok(())).await;
        // He knows nothing of it any more, as after a restart.
        Bob::hears(&link, Exclusive::Still, Err(Refusal::NotAccepted)).await;
        link
    };
    let opening = async {
        let failure = alice.ask(open_with_bob()).await.unwrap_err();
        assert_eq!(failure.message, "bob is in an exclusive conversation with somebody else");
        alice.ask(open_with_bob()).await.unwrap();
        assert_eq!(alice.until(told).await, ("bob".to_owned(), None));
        assert_eq!(alice.until(told).await, ("bob".to_owned(), Some(WhyClosed::There)));
    };
    let (link, ()) = tokio::join!(answering, opening);
    assert!(link.is_open());
}

#[tokio::test]
async fn who_says_nothing_more_is_lost_although_the_connection_lives() {
    let directory = TestDirectory::start();
    let alice = TestPeer::join(&directory, "alice").await;
    let bob = Bob::join(&directory).await;
    let mut events = alice.handle.events();
    let answering = async {
        let link = bob.accept().await;
        Bob::hears(&link, Exclusive::Open, Ok(())).await;
        link
    };
    let (link, opened) = tokio::join!(answering, alice.ask(open_with_bob()));
    opened.unwrap();
    let lost = async {
        loop {
            if let Some((with, Some(why))) = told(&events.recv().await.unwrap()) {
                return (with, why);
            }
        }
    };
    let lost = tokio::time::timeout(GONE_WITHIN, lost).await.expect("it is told in time");
    assert_eq!(lost, ("bob".to_owned(), WhyClosed::Lost));
    assert!(link.is_open(), "only the person is gone");
    let oneself = alice.ask(Command::OpenExclusive { to: name("alice") }).await.unwrap_err();
    assert_eq!(oneself.kind, FailureKind::Usage);
}
