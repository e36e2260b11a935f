//! Two links between the same two peers, one of them through a relay: which one is used, which one stays, and how a
//! transfer moves between them. Whatever a link must survive happens on a detour, which can be blocked.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::peer::path::PathKind;
use crate::seal::digest::HashTree;
use crate::transport::stream::Stream;
use crate::wire::catalog::EntryKind;
use crate::wire::chunk;
use crate::wire::ids::{FileSize, Ticket};
use crate::wire::rendezvous::WhyRelayed;
use crate::wire::transfer::{Fetch, FetchAnswer, FetchPart, FetchReply, GROUP_BYTES};

const GROUP: usize = 256 * 1_024;
const _: () = assert!(GROUP as u64 == GROUP_BYTES);

/// A machine on the way to a peer: it passes on what comes while it is open, and what the peer answers.
struct Detour {
    address: SocketAddr,
    is_open: Arc<AtomicBool>,
    _running: JoinSet<()>,
}

impl Detour {
    async fn to(peer: &Side) -> Self {
        let peer = peer.context.endpoint.local_address().unwrap();
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (address, is_open) = (socket.local_addr().unwrap(), Arc::new(AtomicBool::new(true)));
        let open = is_open.clone();
        let mut running = JoinSet::new();
        running.spawn(async move {
            let mut other = None;
            let mut datagram = vec![0; 65_536];
            loop {
                let Ok((length, from)) = socket.recv_from(&mut datagram).await else { continue };
                let to = if from == peer { other } else { Some(peer) };
                other = if from == peer { other } else { Some(from) };
                if let Some(to) = to.filter(|_| open.load(Ordering::Relaxed)) {
                    drop(socket.send_to(&datagram[..length], to).await); // as on the network
                }
            }
        });
        Self { address, is_open, _running: running }
    }

    fn block(&self) {
        self.is_open.store(false, Ordering::Relaxed);
    }

    fn unblock(&self) {
        self.is_open.store(true, Ordering::Relaxed);
    }
}

impl Side {
    /// Gives this peer a session at a directory on this machine, which does not answer. It says where the relay is.
    async fn with_session(self) -> Self {
        let session = self.dial(&Self::new("somewhere")).await;
        self.context.session.send_replace(Some(session));
        self
    }

    /// Connects through a relay. The other side has the link then, and here nobody knows of it.
    async fn dial_relayed(&self, to: &Self, relay: &Detour) -> Connection {
        let ticket = Ticket::from_bytes(random::array(&mut OsRandom));
        let leg = PortTicket { port: relay.address.port(), ticket };
        let dial = self.announce(to, Direct::Not(WhyRelayed::NoConsent), Some(leg));
        let connection = self.shake_hands(relay.address, dial, to).await;
        to.knows(connection.clone(), self.key(), Path::Relayed).await;
        connection
    }

    /// A link through a relay and a direct one, the newer of them relayed. Says what this side has of them.
    async fn link_both_ways(&self, to: &Self, direct: &Detour, relay: &Detour) -> (Arc<Link>, Arc<Link>) {
        let direct = self.register(to, self.dial_at(direct.address, to).await, Path::Direct);
        let relayed = self.register(to, self.dial_relayed(to, relay).await, Path::Relayed);
        (direct, relayed)
    }

    fn path_to(&self, other: &Self) -> Option<Path> {
        self.context.links.find(other.key()).map(|link| link.path)
    }

    async fn until_path(&self, other: &Self, path: Path) {
        in_time(async {
            while self.path_to(other) != Some(path) {
                tokio::task::yield_now().await
            }
        })
        .await;
    }
}

async fn talk(alice: &Side, bob: &Side, sequence: u64) {
    for (from, to) in [(alice, bob), (bob, alice)] {
        direct::deliver(&from.context, &from.message(to, sequence), LONG).await.unwrap();
    }
}

#[tokio::test]
async fn a_direct_link_is_preferred_while_anything_comes_over_it() {
    let (alice, bob) = (Side::new("alice"), Side::new("bob").with_session().await);
    let (way, relay) = (Detour::to(&bob).await, Detour::to(&bob).await);
    let (direct, relayed) = alice.link_both_ways(&bob, &way, &relay).await;
    assert_eq!((alice.path_to(&bob), bob.path_to(&alice)), (Some(Path::Direct), Some(Path::Direct)));
    assert!(alice.context.links.has_other(&direct) && alice.context.links.has_other(&relayed));

    way.block();
    in_time(async {
        // What was under way still comes.
        while alice.path_to(&bob) == Some(Path::Direct) {
            direct.note_silence(direct.connection.datagrams_received());
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(alice.path_to(&bob), Some(Path::Relayed));
    assert!(!alice.context.links.has_other(&relayed), "nothing comes over it");
    assert!(direct.connection.is_open());
    direct::deliver(&alice.context, &alice.message(&bob, 1), LONG).await.unwrap();

    way.unblock();
    direct::deliver(&bob.context, &bob.message(&alice, 1), LONG).await.unwrap();
    alice.until_path(&bob, Path::Direct).await;
}

#[tokio::test]
async fn whoever_may_not_know_the_address_any_more_is_left_the_relayed_link() {
    let (alice, bob) = (Side::new("alice"), Side::new("bob").with_session().await);
    let (way, relay) = (Detour::to(&bob).await, Detour::to(&bob).await);
    let (direct, relayed) = alice.link_both_ways(&bob, &way, &relay).await;
    let carol = Side::new("carol");
    let other = alice.link(&carol).await;
    bob.context.links.close_direct(&carol.context.account.name);
    talk(&alice, &bob, 1).await;
    assert_eq!(alice.path_to(&bob), Some(Path::Direct));

    bob.context.links.close_direct(&alice.context.account.name);
    let reason = in_time(direct.connection.closed()).await;
    assert!(matches!(reason, TransportError::Closed(CloseCode::Denied)), "{reason}");
    assert_eq!((alice.path_to(&bob), bob.path_to(&alice)), (Some(Path::Relayed), Some(Path::Relayed)));
    talk(&alice, &bob, 2).await;
    assert!(relayed.connection.is_open() && other.is_open());
}

#[tokio::test]
async fn a_relayed_link_stands_by_while_the_direct_one_is_used_and_both_end_when_neither_is() {
    let idle = Duration::from_millis(200);
    let alice = Side::with("alice", LoginKind::Resident, idle);
    let (bob, carol) = (Side::new("bob").with_session().await, Side::new("carol"));
    let (way, relay) = (Detour::to(&bob).await, Detour::to(&bob).await);
    let direct = alice.register(&bob, alice.dial_at(way.address, &bob).await, Path::Direct);
    let used = direct.in_use();
    let relayed = alice.register(&bob, alice.dial_relayed(&bob, &relay).await, Path::Relayed);
    // Two that nobody uses, one after the other: a link that does not stand by would have ended long before.
    for _ in 0..2 {
        let unused = alice.link(&carol).await;
        let reason = in_time(unused.closed()).await;
        assert!(matches!(reason, TransportError::ClosedHere), "{reason}");
    }
    assert!(direct.connection.is_open() && relayed.connection.is_open());
    drop(used);
    in_time(async { tokio::join!(direct.connection.closed(), relayed.connection.closed()) }).await;
    alice.alone().await;
    bob.alone().await;
}

#[tokio::test]
async fn two_peers_that_meet_are_linked_by_one_direct_connection() {
    let (alice, bob) = (Side::new("alice").with_session().await, Side::new("bob").with_session().await);
    let (asker, asked) = (&alice, &bob);
    for (asker, asked) in [(asker, asked), (asked, asker)] {
        let address = asked.context.endpoint.local_address().unwrap();
        let here = asker.context.endpoint.local_address().unwrap();
        let dial = asker.announce(asked, Direct::Candidates(vec![here]), None);
        let announced = DialAnnounced {
            dial,
            from: asked.context.account.name.clone(),
            key: asked.key(),
            purpose: Purpose::Talk,
            direct: Direct::Candidates(vec![address]),
            relay: None,
        };
        assert!(asker.context.dials.expect(announced.clone(), Instant::now() + LONG));
        let (first, found) = tokio::sync::oneshot::channel();
        let meeting = rendezvous::begin(&asker.context, announced, DialSide::Asker, Some(first)).unwrap();
        assert!(asker.context.links.hand_over(Work::Meet(Box::new(meeting))));
        let link = in_time(found).await.unwrap().unwrap();
        assert_eq!(link.path, Path::Direct);
        // Whichever side nominated: the other one uses it too.
        asked.until_path(asker, Path::Direct).await;
        talk(asker, asked, 1).await;
        drop(link);
        for side in [asker, asked] {
            side.context.links.close_direct(&asker.context.account.name);
            side.context.links.close_direct(&asked.context.account.name);
            side.alone().await;
        }
    }
}

/// A file of whole groups that is served by hand.
struct Served {
    content: Vec<u8>,
    digest: FileDigest,
    tree: Vec<u8>,
}

impl Served {
    fn of_groups(groups: usize) -> Self {
        let content: Vec<u8> = (0..groups * GROUP).map(|at| (at / GROUP * 7 + at / 199).to_le_bytes()[0]).collect();
        let (digest, tree) = HashTree::of_reader(&mut &*content, &mut |_| {}).unwrap();
        Self { content, digest, tree: tree.to_bytes() }
    }

    /// Takes the next request for a part, and says yes to it.
    async fn asked(&self, connection: &Connection) -> (Stream, FetchPart) {
        let mut stream = in_time(connection.accept_stream()).await.unwrap();
        let request: PeerRequest = in_time(stream.read_frame()).await.unwrap();
        let PeerRequest::Fetch(Fetch { digest, part }) = request else { panic!("{request:?}") };
        assert_eq!(digest, self.digest);
        let size = FileSize::try_from(self.content.len() as u64).unwrap();
        stream.write_frame::<FetchAnswer>(&Ok(FetchReply { size })).await.unwrap();
        (stream, part)
    }

    /// Takes the next request for a part, which must be this one.
    async fn asked_for(&self, connection: &Connection, part: FetchPart) -> Stream {
        let (stream, asked) = self.asked(connection).await;
        assert_eq!(asked, part);
        stream
    }

    async fn serve_tree(&self, connection: &Connection) {
        let mut stream = self.asked_for(connection, FetchPart::Tree).await;
        let mut chunks = Vec::new();
        chunk::encode(&self.tree, &mut chunks);
        chunks.push(chunk::END);
        stream.write(chunks.into()).await.unwrap();
        stream.finish();
        stream.wait_sent().await;
    }

    /// The groups from one to before another, as chunks.
    fn chunks(&self, from: usize, to: usize) -> Vec<u8> {
        let mut chunks = Vec::new();
        self.content[from * GROUP..to * GROUP].chunks(GROUP).for_each(|group| chunk::encode(group, &mut chunks));
        chunks
    }

    /// A direct link has come beside the one over which everything was asked for, and `sent` groups were sent: the old
    /// one brings what was on its way, the new one the rest, and nothing is asked for twice.
    async fn hand_over(&self, to: &Side, old: Stream, links: [&Connection; 2], sent: usize) {
        tokio::select! {
            never = self.chatter(links[0]) => match never {},
            never = self.chatter(links[1]) => match never {},
            () = self.hand_over_to(to, old, links[1], sent) => {}
        }
    }

    async fn hand_over_to(&self, to: &Side, mut old: Stream, direct: &Connection, sent: usize) {
        let groups = self.content.len() / GROUP;
        let (mut new, part) = self.asked(direct).await;
        let FetchPart::Groups { first, count } = part else { panic!("{part:?}") };
        let first = usize::try_from(first).unwrap();
        assert!(sent <= first && first + 2 < groups && count == (groups - first) as u64, "{part:?}");
        new.write(self.chunks(first, first + 2).into()).await.unwrap();
        self.are_written(to, sent, first..first + 2).await;
        // The new link has shown that it works; so the old one is asked for nothing more when it has brought this.
        old.write(self.chunks(sent, first).into()).await.unwrap();
        self.are_written(to, first + 2, 0..0).await;
        let stopped = in_time(async {
            loop {
                if let Err(error) = old.write(vec![0; 1_000].into()).await {
                    return error;
                }
            }
        });
        let stopped = stopped.await;
        assert!(matches!(stopped, TransportError::Reset(CloseCode::Duplicate)), "{stopped}");
        let mut chunks = self.chunks(first + 2, groups);
        chunks.push(chunk::END);
        new.write(chunks.into()).await.unwrap();
        new.finish();
        let mut told = in_time(direct.accept_stream()).await.unwrap();
        assert_eq!(
            told.read_frame::<PeerRequest>().await.unwrap(),
            PeerRequest::Received { digest: self.digest, offer: None }
        );
        told.answer(&ReceivedAnswer::Ok(())).await;
    }

    /// Waits until so many groups of the copy and some further ones are on the other side's disk, and no others.
    async fn are_written(&self, by: &Side, groups: usize, further: std::ops::Range<usize>) {
        let part = by.folder.path().join(".copy.qpart");
        let places = [0..groups * GROUP, further.start * GROUP..further.end * GROUP];
        in_time(async {
            loop {
                let (part, places, content) = (part.clone(), places.clone(), self.content.clone());
                // Elsewhere, so that nothing seems silent meanwhile.
                let is_written = tokio::task::spawn_blocking(move || {
                    let Ok(found) = HashedFile::hash(&part, &mut |_| {}) else { return false };
                    let mut expected = vec![0; usize::try_from(found.size.bytes()).unwrap()];
                    for bytes in places {
                        let Some(place) = expected.get_mut(bytes.clone()) else { return false };
                        place.copy_from_slice(&content[bytes]);
                    }
                    found.digest == HashTree::of_reader(&mut &*expected, &mut |_| {}).unwrap().0
                });
                if is_written.await.unwrap() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    /// Keeps a connection from seeming silent.
    async fn chatter(&self, connection: &Connection) -> std::convert::Infallible {
        loop {
            let asked: Result<ReceivedAnswer, _> =
                connection.request(&PeerRequest::Received { digest: self.digest, offer: None }).await;
            assert!(!matches!(asked, Ok(Ok(()))), "she shares nothing");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// What becomes of a fetch: the file's digest, the way of its first group and that of its last.
async fn fetched(alice: &Side, bob: &Side, file: &Served) -> (FileDigest, Option<PathKind>, PathKind) {
    let wanted = Wanted {
        sources: vec![Provider { name: bob.context.account.name.clone(), key: bob.key() }],
        others: Others::Unasked,
        name: FileName::parse("copy").unwrap(),
        size: file.content.len() as u64,
        digest: file.digest,
        kind: EntryKind::File,
        into: Destination {
            folder: alice.folder.path().to_owned(),
            collision: Collision::Refuse,
            executable: Executable::Never,
        },
        offer: None,
        may_be_whole: false,
    };
    let (rows, _unread) = mpsc::channel(1);
    match in_time(download::fetch(&alice.context, wanted, rows)).await.unwrap() {
        Event::Received { path, first_via, via: Some(via), resumed: 0, .. } => {
            let digest = HashedFile::hash(&path, &mut |_| {}).unwrap().digest;
            (digest, first_via.map(|via| via.path), via.path)
        }
        other => panic!("a fetch ended with {other:?}"),
    }
}

#[tokio::test]
async fn a_transfer_moves_to_a_better_link_and_throws_nothing_away() {
    let (alice, bob) = (Side::new("alice").with_session().await, Side::new("bob"));
    let relay = Detour::to(&alice).await;
    let relayed = bob.dial_relayed(&alice, &relay).await;
    let file = Served::of_groups(24);
    let serving = async {
        file.serve_tree(&relayed).await;
        let mut stream = file.asked_for(&relayed, FetchPart::Groups { first: 0, count: 24 }).await;
        let mut chunks = file.chunks(0, 2);
        let rest = chunks.split_off(chunks.len() - 100_000);
        stream.write(chunks.into()).await.unwrap();
        file.are_written(&alice, 1, 0..0).await;
        let direct = bob.dial(&alice).await;
        assert_eq!(alice.path_to(&bob), Some(Path::Direct));
        stream.write(rest.into()).await.unwrap();
        file.hand_over(&alice, stream, [&relayed, &direct], 2).await;
        assert!(relayed.is_open(), "the relayed link stands by");
        direct
    };
    let (received, _direct) = tokio::join!(fetched(&alice, &bob, &file), in_time(serving));
    assert_eq!(received, (file.digest, Some(PathKind::Relay), PathKind::Direct));
}

#[tokio::test]
async fn a_transfer_whose_link_falls_silent_goes_on_over_another_and_comes_back() {
    let (alice, bob) = (Side::new("alice").with_session().await, Side::new("bob"));
    let (way, relay) = (Detour::to(&alice).await, Detour::to(&alice).await);
    let direct = bob.dial_at(way.address, &alice).await;
    let relayed = bob.dial_relayed(&alice, &relay).await;
    let file = Served::of_groups(24);
    let serving = async {
        file.serve_tree(&direct).await;
        let mut stuck = file.asked_for(&direct, FetchPart::Groups { first: 0, count: 24 }).await;
        let mut chunks = file.chunks(0, 3);
        let rest = chunks.split_off(chunks.len() - 100_000);
        stuck.write(chunks.into()).await.unwrap();
        file.are_written(&alice, 2, 0..0).await;
        way.block();

        // What is verified is not asked for again.
        let mut stream = file.asked_for(&relayed, FetchPart::Groups { first: 2, count: 22 }).await;
        assert_eq!(alice.path_to(&bob), Some(Path::Relayed));
        stream.write(file.chunks(2, 4).into()).await.unwrap();
        file.are_written(&alice, 4, 0..0).await;
        way.unblock();
        stuck.write(rest.into()).await.unwrap();
        // Something keeps coming, so that it is not this link that seems silent.
        let mut fifth = file.chunks(4, 5);
        while alice.path_to(&bob) != Some(Path::Direct) {
            let later = fifth.split_off(201);
            stream.write(std::mem::replace(&mut fifth, later).into()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stream.write(fifth.into()).await.unwrap();
        file.hand_over(&alice, stream, [&relayed, &direct], 5).await;
    };
    let (received, ()) = tokio::join!(fetched(&alice, &bob, &file), in_time(serving));
    assert_eq!(received, (file.digest, Some(PathKind::Direct), PathKind::Direct));
    assert!(direct.is_open() && relayed.is_open());
}

#[tokio::test]
async fn who_takes_a_file_over_another_link_is_not_said_to_have_stopped() {
    let (alice, bob) = (Side::new("alice").with_session().await, Side::new("bob"));
    let link = bob.register(&alice, bob.dial(&alice).await, Path::Direct);
    let digest = bob.share("file", &vec![7; 40 * GROUP]).await;
    let mut heard = bob.context.events.subscribe();
    for code in [CloseCode::Duplicate, CloseCode::Cancelled] {
        let mut stream = alice.context.links.find(bob.key()).unwrap().connection.open_stream().await.unwrap();
        let part = FetchPart::Groups { first: 0, count: 40 };
        stream.write_frame(&PeerRequest::Fetch(Fetch { digest, part })).await.unwrap();
        stream.finish();
        let answer: FetchAnswer = in_time(stream.read_frame()).await.unwrap();
        assert!(answer.is_ok());
        stream.abort(code);
        in_time(async {
            while link.usage().users > 0 {
                tokio::task::yield_now().await
            }
        })
        .await;
    }
    let mut notes = Vec::new();
    while let Ok(event) = heard.try_recv() {
        if let Event::Note { text } = event {
            notes.push(text);
        }
    }
    let [note] = &notes[..] else { panic!("{notes:?}") };
    assert!(note.contains("alice has stopped taking file: it was paused or cancelled there"), "{note}");
}
