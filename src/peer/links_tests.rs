//! Two peers with a link between them and no directory at all: what goes over it, what is refused, and when it ends.

use std::future::Future;
use std::io::Write as _;
use std::net::SocketAddr;
use std::panic::Location;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::{Semaphore, broadcast, mpsc, watch};
use tokio::task::JoinSet;

use super::*;
use crate::clock::now_millis;
use crate::peer::contacts;
use crate::peer::context::{Account, Context};
use crate::peer::direct::{self, DirectFailure};
use crate::peer::directory_link::DirectoryAddress;
use crate::peer::download::{self, Destination, Others, Provider, Wanted};
use crate::peer::event::Event;
use crate::peer::rows::WhyClosed;
use crate::peer::{exclusive, peer_links, rendezvous};
use crate::protocol::rendezvous::Side as DialSide;
use crate::seal::envelope::sign_message;
use crate::seal::identity::IdentityKey;
use crate::seal::random::{self, OsRandom};
use crate::seal::receipt;
use crate::storage::partial_file::Collision;
use crate::storage::profile::{Home, Profile};
use crate::storage::receive_tree::Executable;
use crate::storage::shares::{self, Audience, HashedFile, SharedFile};
use crate::transport::connection::TransportError;
use crate::transport::endpoint::Endpoint;
use crate::transport::tuning::{HANDSHAKE_DEADLINE, Network};
use crate::transport::verify::AnnouncedDials;
use crate::wire::account::LoginKind;
use crate::wire::catalog::EntryKind;
use crate::wire::ids::{DialId, DirectoryFingerprint, FileDigest, FileName, MessageId};
use crate::wire::limits::{LINK_IDLE, RECEIPTS_PER_FRAME_MAX};
use crate::wire::message::{Body, InnerMessage, Receipt, ReceiptKind, SignedReceipt, Text};
use crate::wire::people::Exclusive;
use crate::wire::refusal::Refusal;
use crate::wire::rendezvous::{DialAnnounced, Direct, PortTicket, Purpose};
use crate::wire::transfer::{MessageAnswer, PeerRequest, ReceivedAnswer};

#[path = "links_paths_tests.rs"]
mod paths;

/// Longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(10);

#[track_caller]
fn in_time<F: Future>(awaited: F) -> impl Future<Output = F::Output> {
    let caller = Location::caller();
    async move {
        let result = tokio::time::timeout(2 * LONG, awaited).await;
        result.unwrap_or_else(|_| panic!("what {caller} waits for did not come"))
    }
}

/// A peer whose directory is not there.
struct Side {
    context: Arc<Context>,
    folder: TempDir,
    running: JoinSet<()>,
}

impl Side {
    fn new(name: &str) -> Self {
        Self::with(name, LoginKind::Resident, LINK_IDLE)
    }

    fn with(name: &str, kind: LoginKind, idle: Duration) -> Self {
        Self::on(tokio::runtime::Handle::current(), name, kind, idle)
    }

    /// A peer whose files move on a thread of this runtime.
    fn on(transfers: tokio::runtime::Handle, name: &str, kind: LoginKind, idle: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let name = PeerName::parse(name).unwrap();
        let fingerprint = DirectoryFingerprint::from_bytes([0; 32]);
        let home = Home::at(folder.path().join("home"));
        let profile = Arc::new(Profile::open(&home, fingerprint, &name, &mut OsRandom).unwrap());
        let dials = AnnouncedDials::default();
        let any = "127.0.0.1:0".parse().unwrap();
        let endpoint = Endpoint::peer(any, profile.identity(), dials.clone(), Network::default()).unwrap();
        let directory = DirectoryAddress { host: "directory.invalid".to_owned(), port: 1 };
        let (links, dialled) = Links::new(profile.identity().public());
        let context = Arc::new(Context {
            account: Account {
                name,
                directory,
                fingerprint,
                kind,
                collects_mail: kind == LoginKind::Resident,
                sends_read_receipts: true,
                paths: Default::default(),
            },
            profile,
            endpoint,
            dials,
            events: broadcast::Sender::new(1_024),
            session: watch::Sender::new(None),
            outbox: mpsc::channel(1).0,
            delivering: Default::default(),
            links,
            meetings: Default::default(),
            observations: Default::default(),
            traffic: crate::peer::transfers::Transfers::new().0,
            transfers,
            uploads: Semaphore::new(64),
            limits: Default::default(),
            following: Default::default(),
            heard: Default::default(),
            asking: crate::peer::consent::Asking::default(),
            exclusives: exclusive::Exclusives::default(),
            sharing: Default::default(),
            key_requests: Mutex::default(),
            blocks: Default::default(),
            friends: Default::default(),
        });
        let mut running = JoinSet::new();
        running.spawn(peer_links::run(context.clone(), dialled, idle));
        running.spawn(rendezvous::route_datagrams(context.clone()));
        Self { context, folder, running }
    }

    fn key(&self) -> PeerKey {
        self.context.key()
    }

    /// Connects to another peer as if a directory had announced it. The other side has the link then, and here nobody
    /// knows of it.
    async fn dial(&self, to: &Self) -> Connection {
        self.dial_at(to.context.endpoint.local_address().unwrap(), to).await
    }

    /// The same by way of another address.
    async fn dial_at(&self, address: SocketAddr, to: &Self) -> Connection {
        let dial = self.announce(to, Direct::Candidates(Vec::new()), None);
        let connection = self.shake_hands(address, dial, to).await;
        if self.key() < to.key() {
            let answer: ReceivedAnswer = in_time(connection.request(&PeerRequest::Nominate)).await.unwrap();
            assert_eq!(answer, Ok(()));
        } else {
            let mut stream = in_time(connection.accept_stream()).await.unwrap();
            assert_eq!(stream.read_frame::<PeerRequest>().await.unwrap(), PeerRequest::Nominate);
            stream.answer(&ReceivedAnswer::Ok(())).await;
        }
        to.knows(connection.clone(), self.key(), Path::Direct).await;
        connection
    }

    /// Has a rendezvous begin on the other side, as if a directory had announced a dial.
    fn announce(&self, to: &Self, direct: Direct, relay: Option<PortTicket>) -> DialId {
        let dial = DialId::from_bytes(random::array(&mut OsRandom));
        let from = self.context.account.name.clone();
        let announced = DialAnnounced { dial, from, key: self.key(), purpose: Purpose::Talk, direct, relay };
        assert!(to.context.dials.expect(announced.clone(), Instant::now() + LONG));
        let meeting = rendezvous::begin(&to.context, announced, DialSide::Asked, None).unwrap();
        assert!(to.context.links.hand_over(Work::Meet(Box::new(meeting))));
        dial
    }

    async fn shake_hands(&self, address: SocketAddr, dial: DialId, to: &Self) -> Connection {
        in_time(self.context.endpoint.dial(address, dial, to.key(), HANDSHAKE_DEADLINE, None)).await.unwrap()
    }

    /// Connects as [`Self::dial`] does, and registers the link on both sides.
    async fn link(&self, to: &Self) -> Connection {
        let connection = self.dial(to).await;
        self.register(to, connection.clone(), Path::Direct);
        connection
    }

    /// Uses and serves a connection on this side.
    fn register(&self, to: &Self, connection: Connection, path: Path) -> Arc<Link> {
        let link = self.context.links.add(to.context.account.name.clone(), to.key(), connection, path).unwrap();
        assert!(self.context.links.hand_over(Work::Serve(link.clone())));
        link
    }

    /// Waits until the other end of somebody's connection is a link here.
    async fn knows(&self, connection: Connection, key: PeerKey, path: Path) {
        let ours = |link: &Arc<Link>| link.key == key && link.path == path;
        in_time(async {
            while !self.context.links.all().iter().any(ours) && connection.is_open() {
                tokio::task::yield_now().await
            }
        })
        .await;
    }

    fn message(&self, to: &Self, sequence: u64) -> InnerMessage {
        InnerMessage {
            sender: self.key(),
            recipient: to.key(),
            id: MessageId::from_bytes(random::array(&mut OsRandom)),
            sequence,
            skipped: Default::default(),
            sent_at: now_millis(),
            body: Body::Text(Text::parse(&format!("message {sequence}")).unwrap()),
        }
    }

    fn receipt(&self, to: PeerKey) -> SignedReceipt {
        let id = MessageId::from_bytes([1; 16]);
        let (kind, at) = (ReceiptKind::Read, now_millis());
        receipt::sign(self.context.identity(), Receipt { by: self.key(), to, id, sequence: 1, highest: 1, kind, at })
    }

    /// Shares a file with everyone.
    async fn share(&self, name: &str, content: &[u8]) -> FileDigest {
        let mut written = tempfile::Builder::new().prefix(name).tempfile_in(self.folder.path()).unwrap();
        written.write_all(content).unwrap();
        let file = HashedFile::hash(&written.keep().unwrap().1, &mut |_| {}).unwrap();
        let digest = file.digest;
        let name = FileName::parse(name).unwrap();
        shares::put(
            self.context.database(),
            SharedFile { name, audience: Audience::Everyone { hides_address: false }, file, folder: None },
        )
        .await
        .unwrap();
        digest
    }

    /// Fetches a file to a name of its own, and says what lies there then. Without a directory that works over an open
    /// link only.
    async fn fetch(&self, from: &Self, name: &str, size: usize, digest: FileDigest) -> FileDigest {
        let wanted = Wanted {
            sources: vec![Provider { name: from.context.account.name.clone(), key: from.key() }],
            others: Others::Unasked,
            name: FileName::parse(name).unwrap(),
            size: size as u64,
            digest,
            kind: EntryKind::File,
            into: Destination {
                folder: self.folder.path().to_owned(),
                collision: Collision::Refuse,
                executable: Executable::Never,
            },
            offer: None,
            may_be_whole: false,
        };
        let (rows, _unread) = mpsc::channel(1);
        match in_time(download::fetch(&self.context, wanted, rows)).await.unwrap() {
            Event::Received { path, .. } => HashedFile::hash(&path, &mut |_| {}).unwrap().digest,
            other => panic!("a fetch ended with {other:?}"),
        }
    }

    /// Waits until no link is left.
    async fn alone(&self) {
        in_time(async {
            while !self.context.links.lock().is_empty() {
                tokio::task::yield_now().await
            }
        })
        .await;
    }
}

async fn next_text(events: &mut broadcast::Receiver<Event>) -> String {
    loop {
        if let Event::Message { from, text, .. } = in_time(events.recv()).await.unwrap() {
            return format!("{from}: {text}");
        }
    }
}

async fn tell(connection: &Connection, request: &PeerRequest) -> MessageAnswer {
    in_time(connection.request(request)).await.unwrap()
}

#[tokio::test]
async fn a_message_over_a_link_is_acknowledged_in_both_directions_and_shown_once() {
    let (alice, bob) = (Side::new("alice"), Side::new("bob"));
    alice.link(&bob).await;
    for (from, to, line) in [(&alice, &bob, "alice: message 1"), (&bob, &alice, "bob: message 1")] {
        let mut heard = to.context.events.subscribe();
        let message = from.message(to, 1);
        for _ in 0..3 {
            let signed = direct::deliver(&from.context, &message, LONG).await.unwrap();
            assert_eq!(receipt::verify(&signed), Ok(()));
            let Receipt { by, to: told, id, sequence, highest, kind, .. } = signed.receipt;
            assert_eq!((by, told, id), (to.key(), from.key(), message.id));
            assert_eq!((sequence, highest, kind), (1, 1, ReceiptKind::Delivered));
        }
        direct::deliver(&from.context, &from.message(to, 2), LONG).await.unwrap();
        assert_eq!(next_text(&mut heard).await, line);
        assert!(next_text(&mut heard).await.ends_with("message 2"), "the first is shown once");
        let receipts = vec![to.receipt(from.key()); RECEIPTS_PER_FRAME_MAX + 1];
        direct::send_receipts(&to.context, from.key(), receipts).await.unwrap();
    }
}

#[tokio::test]
async fn many_files_both_ways_and_messages_share_one_link() {
    let (alice, bob) = (Side::new("alice"), Side::new("bob"));
    let connection = alice.link(&bob).await;
    let content = vec![7; 600_000];
    let digest = alice.share("hers", &content).await;
    assert_eq!(bob.share("his", &content).await, digest);
    // More than a link has streams.
    let names: Vec<String> = (0..50).map(|number| format!("copy {number}")).collect();
    let fetches = async {
        let fetch = |name: &String| {
            let (alice, bob) = (&alice, &bob);
            let (name, content) = (name.clone(), &content);
            async move {
                assert_eq!(alice.fetch(bob, &name, content.len(), digest).await, digest);
                assert_eq!(bob.fetch(alice, &name, content.len(), digest).await, digest);
            }
        };
        all(names.iter().map(fetch).map(Box::pin).collect()).await;
    };
    let messages = async {
        for sequence in 1..=20 {
            direct::deliver(&alice.context, &alice.message(&bob, sequence), LONG).await.unwrap();
            direct::deliver(&bob.context, &bob.message(&alice, sequence), LONG).await.unwrap();
        }
    };
    tokio::join!(fetches, messages);
    assert!(connection.is_open());
    assert_eq!(alice.context.links.lock().len(), 1);
}

#[tokio::test]
async fn something_small_is_fetched_into_memory_and_nothing_larger_than_that() {
    let (alice, bob) = (Side::new("alice"), Side::new("bob"));
    alice.link(&bob).await;
    let from = Provider { name: bob.context.account.name.clone(), key: bob.key() };
    for size in [0, 1, 262_144, 600_000] {
        let content = vec![7; size];
        let digest = bob.share("small", &content).await;
        let fetch = |bytes_max| download::blob::fetch_blob(&alice.context, &from, digest, bytes_max);
        assert!(in_time(fetch(size as u64)).await.unwrap() == content, "{size} bytes came as others");
        if let Some(less) = size.checked_sub(1) {
            let failure = in_time(fetch(less as u64)).await.unwrap_err();
            assert_eq!(failure.kind, crate::peer::failure::FailureKind::Integrity, "{failure}");
        }
    }
}

#[tokio::test]
async fn messages_pass_a_transfer_thread_that_is_busy() {
    let transfers = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let side = |name| Side::on(transfers.handle().clone(), name, LoginKind::Resident, LINK_IDLE);
    let (alice, bob) = (side("alice"), side("bob"));
    let (go_on, waits) = std::sync::mpsc::channel::<()>();
    transfers.spawn(async move { waits.recv().unwrap() });
    let digest = bob.share("file", b"what waits").await;
    alice.link(&bob).await;
    let fetching = alice.fetch(&bob, "copy", 10, digest);
    let talking = async {
        for sequence in 1..=3 {
            direct::deliver(&alice.context, &alice.message(&bob, sequence), LONG).await.unwrap();
            direct::deliver(&bob.context, &bob.message(&alice, sequence), LONG).await.unwrap();
        }
        go_on.send(()).unwrap();
    };
    let (fetched, ()) = tokio::join!(fetching, talking);
    assert_eq!(fetched, digest);
    transfers.shutdown_background();
}

/// Drives all of them at the same time.
async fn all<F: Future<Output = ()> + Unpin>(mut running: Vec<F>) {
    std::future::poll_fn(|wake| {
        running.retain_mut(|one| std::pin::Pin::new(one).poll(wake).is_pending());
        if running.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

#[tokio::test]
async fn what_the_other_side_did_not_sign_for_us_is_refused() {
    let (alice, bob, carol) = (Side::new("alice"), Side::new("bob"), Side::new("carol"));
    let connection = alice.link(&bob).await;
    let request = |signer: &Side, message: &InnerMessage| {
        PeerRequest::Message(Box::new(sign_message(signer.context.identity(), message).unwrap()))
    };
    // A stranger's, one for somebody else, one with a broken signature, one with an impossible number.
    let mut broken = sign_message(alice.context.identity(), &alice.message(&bob, 1)).unwrap();
    broken.message[70] ^= 1;
    for refused in [
        request(&carol, &carol.message(&bob, 1)),
        request(&alice, &alice.message(&carol, 1)),
        PeerRequest::Message(Box::new(broken)),
        request(&alice, &alice.message(&bob, 0)),
    ] {
        assert_eq!(tell(&connection, &refused).await, Err(Refusal::BadSignature));
    }
    // The same of receipts; the other side's own are taken.
    let forged = SignedReceipt { receipt: carol.receipt(bob.key()).receipt, ..alice.receipt(bob.key()) };
    for (receipts, expected) in [
        (vec![carol.receipt(bob.key())], Err(Refusal::BadSignature)),
        (vec![alice.receipt(bob.key()), alice.receipt(carol.key())], Err(Refusal::BadSignature)),
        (vec![forged], Err(Refusal::BadSignature)),
        (vec![alice.receipt(bob.key())], Ok(())),
    ] {
        let answer: ReceivedAnswer = in_time(connection.request(&PeerRequest::Receipts(receipts))).await.unwrap();
        assert_eq!(answer, expected);
    }
    assert!(direct::deliver(&alice.context, &alice.message(&bob, 1), LONG).await.is_ok());
}

#[tokio::test]
async fn garbage_ends_its_stream_and_not_the_link() {
    let (alice, bob) = (Side::new("alice"), Side::new("bob"));
    let connection = alice.link(&bob).await;
    let too_many = PeerRequest::Receipts(vec![alice.receipt(bob.key()); RECEIPTS_PER_FRAME_MAX + 1]);
    let answer: Result<ReceivedAnswer, _> = in_time(connection.request(&too_many)).await;
    assert!(matches!(answer, Err(TransportError::Reset(CloseCode::BadFrame))), "{answer:?}");
    let signed = sign_message(alice.context.identity(), &alice.message(&bob, 1)).unwrap();
    let mut and_more = crate::wire::codec::encode_frame(&PeerRequest::Message(Box::new(signed))).unwrap();
    and_more.push(0);
    for garbage in [vec![0xff; 4], vec![0, 0, 2, 0], vec![1, 0, 0, 0, 99], Vec::new(), and_more] {
        let mut stream = connection.open_stream().await.unwrap();
        stream.write(garbage.into()).await.unwrap();
        stream.finish();
        let answer = in_time(stream.read()).await;
        assert!(matches!(answer, Err(TransportError::Reset(CloseCode::BadFrame))), "{answer:?}");
    }
    assert!(direct::deliver(&alice.context, &alice.message(&bob, 1), LONG).await.is_ok());
}

#[tokio::test]
async fn an_errand_leaves_messages_to_the_directory() {
    let errand = LoginKind::Errand { collects: false };
    let (alice, bob) = (Side::new("alice"), Side::with("bob", errand, LINK_IDLE));
    alice.link(&bob).await;
    let left = direct::deliver(&alice.context, &alice.message(&bob, 1), LONG).await;
    assert!(matches!(left, Err(DirectFailure::Broken(_))), "{left:?}");
}

#[tokio::test]
async fn without_an_answer_nobody_waits_longer_than_their_patience() {
    let alice = Side::new("alice");
    let silent = Side::new("bob");
    let gone = direct::deliver(&alice.context, &alice.message(&silent, 1), LONG).await;
    assert!(matches!(gone, Err(DirectFailure::Broken(_))), "{gone:?}");
    // Bob's end is held open by hand, and nobody answers there.
    let connection = silent.dial(&alice).await;
    let patience = Duration::from_millis(50);
    let late = direct::deliver(&alice.context, &alice.message(&silent, 1), patience).await;
    assert!(matches!(late, Err(DirectFailure::NoAnswer(_))), "{late:?}");
    assert!(connection.is_open());
}

#[tokio::test]
async fn a_receipt_that_does_not_fit_counts_for_nothing() {
    let (alice, bob) = (Side::new("alice"), Side::new("bob"));
    let connection = bob.dial(&alice).await;
    let mallory = IdentityKey::generate(&mut OsRandom);
    let message = alice.message(&bob, 1);
    let fitting = Receipt { id: message.id, ..bob.receipt(alice.key()).receipt };
    for wrong in [
        receipt::sign(&mallory, fitting),
        receipt::sign(&mallory, Receipt { by: mallory.public(), ..fitting }),
        bob.receipt(alice.key()),
        receipt::sign(bob.context.identity(), Receipt { to: bob.key(), ..fitting }),
    ] {
        let answering = async {
            let mut stream = connection.accept_stream().await.unwrap();
            drop(stream.read_frame::<PeerRequest>().await.unwrap());
            let answer: MessageAnswer = Ok(wrong);
            stream.answer(&answer).await;
        };
        let (told, ()) = tokio::join!(direct::deliver(&alice.context, &message, LONG), in_time(answering));
        assert!(matches!(told, Err(DirectFailure::Broken(_))), "{told:?}");
    }
}

#[tokio::test]
async fn a_link_that_nobody_uses_is_closed() {
    let idle = Duration::from_millis(200);
    let (alice, bob) = (Side::new("alice"), Side::with("bob", LoginKind::Resident, idle));
    let connection = alice.link(&bob).await;
    direct::deliver(&alice.context, &alice.message(&bob, 1), LONG).await.unwrap();
    let reason = in_time(connection.closed()).await;
    assert!(matches!(reason, TransportError::Closed(CloseCode::Done)), "{reason}");
    alice.alone().await;
    bob.alone().await;
    assert_eq!(direct::round_trip(&alice.context, bob.key()), None);
}

#[tokio::test]
async fn a_peer_that_vanished_is_noticed() {
    let alice = Side::new("alice");
    let elsewhere = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let bob = elsewhere.spawn(async { Side::new("bob") }).await.unwrap();
    let connection = alice.link(&bob).await;
    // His tasks and sockets are gone, and he had no chance to say so.
    elsewhere.shutdown_background();
    let reason = in_time(connection.closed()).await;
    assert!(matches!(reason, TransportError::TimedOut), "{reason}");
    assert_eq!(direct::round_trip(&alice.context, bob.key()), None);
    alice.alone().await;
}

#[tokio::test]
async fn a_stopped_peer_says_so() {
    let (alice, mut bob) = (Side::new("alice"), Side::new("bob"));
    let connection = alice.link(&bob).await;
    bob.context.endpoint.close(CloseCode::ShuttingDown);
    let reason = in_time(connection.closed()).await;
    assert!(matches!(reason, TransportError::Closed(CloseCode::ShuttingDown)), "{reason}");
    alice.alone().await;
    in_time(bob.running.join_next()).await.unwrap().unwrap();
}

#[tokio::test]
async fn when_both_dial_one_link_is_left_to_be_used() {
    let (alice, bob) = (Side::new("alice"), Side::new("bob"));
    alice.link(&bob).await;
    bob.link(&alice).await;
    let (first, second) = if alice.key() < bob.key() { (&alice, &bob) } else { (&bob, &alice) };
    let replaced = |side: &Side| side.context.links.lock().iter().filter(|link| link.usage().is_replaced).count();
    in_time(async {
        while first.context.links.lock().len() < 2 {
            tokio::task::yield_now().await
        }
    })
    .await;
    assert_eq!((replaced(first), replaced(second)), (1, 0), "only the smaller key decides");
    for (from, to) in [(&alice, &bob), (&bob, &alice)] {
        direct::deliver(&from.context, &from.message(to, 1), LONG).await.unwrap();
    }
}

#[tokio::test]
async fn links_to_one_key_are_few_and_none_stays_to_a_key_that_is_not_the_persons() {
    let (alice, bob) = (Side::new("alice"), Side::new("bob"));
    let mut connections = Vec::new();
    for _ in 0..=LINKS_PER_KEY_MAX {
        connections.push(alice.link(&bob).await);
    }
    in_time(connections[0].closed()).await;
    assert_eq!(alice.context.links.lock().len(), LINKS_PER_KEY_MAX);
    alice.context.links.close_others(&bob.context.account.name, bob.key());
    assert_eq!(alice.context.links.lock().len(), LINKS_PER_KEY_MAX, "this is his key");
    alice.context.links.close_others(&bob.context.account.name, alice.key());
    for connection in connections {
        in_time(connection.closed()).await;
    }
    alice.alone().await;
}

#[tokio::test]
async fn a_replaced_key_keeps_no_link() {
    let (alice, bob, mallory) = (Side::new("alice"), Side::new("bob"), Side::new("mallory"));
    let connection = alice.link(&bob).await;
    let name = &bob.context.account.name;
    contacts::meet(&alice.context, name, bob.key()).await.unwrap();
    assert!(connection.is_open());
    contacts::meet(&alice.context, name, mallory.key()).await.unwrap();
    in_time(connection.closed()).await;
    alice.alone().await;
}

#[tokio::test]
async fn who_passes_for_a_verified_contact_is_not_heard() {
    let (alice, bob, mallory) = (Side::new("alice"), Side::new("bob"), Side::new("alice"));
    let (name, now) = (&alice.context.account.name, now_millis());
    contacts::meet(&bob.context, name, alice.key()).await.unwrap();
    let verified =
        crate::storage::contacts::change(bob.context.database(), name, now, move |trust| trust.verify(now).ok());
    assert!(verified.await.unwrap().is_some());
    mallory.link(&bob).await;
    let told = direct::deliver(&mallory.context, &mallory.message(&bob, 1), LONG).await;
    // The link may be gone before its answer is.
    assert!(matches!(told, Err(DirectFailure::Refused(Refusal::NotAccepted) | DirectFailure::Broken(_))), "{told:?}");
    assert_eq!(direct::round_trip(&bob.context, mallory.key()), None);
    alice.link(&bob).await;
    direct::deliver(&alice.context, &alice.message(&bob, 1), LONG).await.unwrap();
}

#[tokio::test]
async fn an_exclusive_conversation_keeps_its_link_and_no_longer_than_it_lasts() {
    let short = Duration::from_millis(100);
    let (mut alice, mut bob) =
        (Side::with("alice", LoginKind::Resident, short), Side::with("bob", LoginKind::Resident, short));
    let mut ended = alice.context.events.subscribe();
    for side in [&mut alice, &mut bob] {
        side.running.spawn(exclusive::keep(side.context.clone()));
    }
    let connection = alice.link(&bob).await;
    let say = async |from: &Side, to: &Side, what| {
        let request = PeerRequest::Exclusive(what);
        let answer: ReceivedAnswer = direct::ask(&from.context, to.key(), &request, LONG).await.unwrap();
        answer
    };
    for (from, to) in [(&alice, &bob), (&bob, &alice)] {
        assert_eq!(say(from, to, Exclusive::Open).await, Ok(()));
    }
    assert!(tokio::time::timeout(short * 10, connection.closed()).await.is_err(), "nobody closes it as unused");
    exclusive::close(&bob.context, &alice.context.account.name).await.unwrap();
    in_time(connection.closed()).await;
    assert!(matches!(ended.recv().await, Ok(Event::ExclusiveOpened { .. })));
    assert!(matches!(ended.recv().await, Ok(Event::ExclusiveClosed { why: WhyClosed::There, .. })));
}
