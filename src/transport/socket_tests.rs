//! QUIC and the datagrams beside it on one socket: who gets what, in both address families, and how far each may travel.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::*;
use crate::seal::identity::IdentityKey;
use crate::seal::random::OsRandom;
use crate::transport::certificate::DirectoryCertificate;
use crate::transport::connection::{Connection, TransportError};
use crate::transport::endpoint::Endpoint;
use crate::transport::tuning::{HANDSHAKE_DEADLINE, Network};
use crate::transport::verify::AnnouncedDials;
use crate::wire::ids::{DialId, PeerKey, PeerName};
use crate::wire::limits::CONNECTIONS_PER_DIAL_MAX;
use crate::wire::refusal::CloseCode;
use crate::wire::rendezvous::{DialAnnounced, Direct, Purpose};

const LONG: Duration = Duration::from_secs(60);
const DIAL: DialId = DialId::from_bytes([5; 16]);

/// What comes of a wait, or a failed test.
async fn in_time<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, wait).await.expect("it took too long")
}

/// An endpoint of a peer, with its key and whom it expects.
struct Peer {
    identity: IdentityKey,
    dials: AnnouncedDials,
    endpoint: Endpoint,
}

impl Peer {
    fn at(address: &str) -> Self {
        let (identity, dials) = (IdentityKey::generate(&mut OsRandom), AnnouncedDials::default());
        let address = address.parse().unwrap();
        let endpoint = Endpoint::peer(address, &identity, dials.clone(), Network::default()).unwrap();
        Self { identity, dials, endpoint }
    }

    fn any() -> Self {
        let (identity, dials) = (IdentityKey::generate(&mut OsRandom), AnnouncedDials::default());
        let endpoint = Endpoint::peer_any(&identity, &dials, Network::default()).unwrap();
        Self { identity, dials, endpoint }
    }

    fn key(&self) -> PeerKey {
        self.identity.public()
    }

    fn port(&self) -> u16 {
        self.endpoint.local_address().unwrap().port()
    }

    fn on_ipv4(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port()).into()
    }

    fn on_ipv6(&self) -> SocketAddr {
        (std::net::Ipv6Addr::LOCALHOST, self.port()).into()
    }

    fn expect(&self, dial: DialId, key: PeerKey) {
        let from = PeerName::parse("somebody").unwrap();
        let direct = Direct::Candidates(Vec::new());
        let announced = DialAnnounced { dial, from, key, purpose: Purpose::Talk, direct, relay: None };
        assert!(self.dials.expect(announced, Instant::now() + LONG));
    }

    async fn dial(&self, to: &Self, address: SocketAddr) -> Result<Connection, TransportError> {
        in_time(self.endpoint.dial(address, DIAL, to.key(), HANDSHAKE_DEADLINE, None)).await
    }

    /// Connects to another peer, which accepts.
    async fn connect(&self, to: &Self, address: SocketAddr) -> (Connection, Connection) {
        let accepting = async { in_time(to.endpoint.accept()).await.unwrap().accept_peer().await.unwrap().0 };
        let (dialled, accepted) = tokio::join!(self.dial(to, address), accepting);
        (dialled.unwrap(), accepted)
    }

    async fn receive(&self) -> (SocketAddr, Datagram) {
        in_time(self.endpoint.receive_datagram()).await.unwrap()
    }
}

/// The n-th of many punches, each another one.
fn punch(n: u32) -> Datagram {
    let mut dial = [0; 16];
    dial[..4].copy_from_slice(&n.to_le_bytes());
    Datagram::Punch { dial: DialId::from_bytes(dial) }
}

/// A transfer whose bytes depend on their place.
fn content() -> Vec<u8> {
    (0..16 * 1024 * 1024_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Sends the content over a connection while something else goes on, and checks every byte of it.
async fn transfer(from: &Connection, to: &Connection) {
    let expected = content();
    let sending = async {
        let mut stream = from.open_stream().await.unwrap();
        for piece in expected.chunks(64 * 1024) {
            stream.write(piece.to_vec().into()).await.unwrap();
        }
        stream.finish();
    };
    let receiving = async {
        let mut stream = to.accept_stream().await.unwrap();
        let mut received = Vec::new();
        while let Some(more) = stream.read().await.unwrap() {
            received.extend_from_slice(&more);
        }
        received
    };
    let ((), received) = in_time(async { tokio::join!(sending, receiving) }).await;
    assert!(received == expected, "the bytes differ");
}

#[track_caller]
fn check_split(datagrams: &[&[u8]], stride: usize, kept: &[u8], taken: &[&[u8]]) {
    let mut buffer = datagrams.concat();
    let mut found: Vec<Vec<u8>> = Vec::new();
    let length = keep_quic(&mut buffer, stride, |datagram| found.push(datagram.to_vec()));
    assert_eq!(&buffer[..length], kept);
    assert_eq!(found, taken);
}

#[test]
fn a_batch_is_split_into_quic_and_the_rest() {
    let (a, b, c) = (&[0x40, 1, 1, 1][..], &[0xc0, 2, 2, 2][..], &[0x7f, 3][..]);
    let (p, q, short) = (&[1, 7, 7, 7][..], &[0x3f, 8, 8, 8][..], &[0][..]);
    check_split(&[a, b, c], 4, &[a, b, c].concat(), &[]);
    check_split(&[p, a, q, b, c], 4, &[a, b, c].concat(), &[p, q]);
    check_split(&[a, p, b, short], 4, &[a, b].concat(), &[p, short]);
    check_split(&[p, q, short], 4, &[], &[p, q, short]);
    check_split(&[short, short, short], 1, &[], &[short, short, short]);
    check_split(&[p], 4, &[], &[p]);
    // One datagram without offload, and one of no bytes.
    check_split(&[c], 65_535, c, &[]);
    check_split(&[], 0, &[], &[]);
    check_split(&[&[0x7f]], 0, &[0x7f], &[]);
}

#[tokio::test]
async fn punches_and_a_transfer_share_a_socket_and_neither_is_harmed() {
    let (alice, bob) = (Peer::any(), Peer::any());
    bob.expect(DIAL, alice.key());
    let (there, here) = alice.connect(&bob, bob.on_ipv4()).await;
    let done = watch::Sender::new(false);
    let transferring = async {
        transfer(&there, &here).await;
        done.send_replace(true);
    };
    // From the transfer's own socket, so that the kernel may batch them with QUIC; each waits for one before it, so that
    // the queue cannot overflow.
    let punching = async {
        let mut sent = 0;
        while !*done.borrow() {
            alice.endpoint.send_datagram(bob.on_ipv4(), &punch(sent), None);
            let (from, received) = bob.receive().await;
            assert_eq!((from, received), (alice.on_ipv4(), punch(sent)));
            sent += 1;
        }
        sent
    };
    let ((), punches) = tokio::join!(transferring, punching);
    assert!(punches > 100, "only {punches} punches flew");
    assert_eq!(bob.endpoint.datagrams_lost(), DatagramsLost::default());
    assert_eq!(alice.endpoint.datagrams_lost(), DatagramsLost::default());
}

#[tokio::test]
async fn a_full_queue_drops_datagrams_and_does_not_hold_up_quic() {
    let (alice, bob) = (Peer::any(), Peer::any());
    bob.expect(DIAL, alice.key());
    let (there, here) = alice.connect(&bob, bob.on_ipv4()).await;
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let done = watch::Sender::new(false);
    let transferring = async {
        transfer(&there, &here).await;
        done.send_replace(true);
    };
    let flooding = async {
        while !*done.borrow() || bob.endpoint.datagrams_lost().overflowed == 0 {
            for n in 0..64 {
                stranger.send_to(&punch(n).encode(), bob.on_ipv4()).unwrap();
            }
            tokio::task::yield_now().await;
        }
    };
    in_time(async { tokio::join!(transferring, flooding) }).await;
    let waiting = async {
        let mut count = 0;
        while tokio::time::timeout(Duration::ZERO, bob.endpoint.receive_datagram()).await.is_ok() {
            count += 1;
        }
        count
    };
    assert!(in_time(waiting).await >= DATAGRAM_QUEUE_MAX);
}

#[tokio::test]
async fn what_is_neither_quic_nor_ours_is_counted_and_dropped() {
    let bob = Peer::any();
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    for bytes in [&[8; 64][..], &[1; 16], &[0, 0], &[0x3f; 1_500], &[]] {
        stranger.send_to(bytes, bob.on_ipv4()).unwrap();
    }
    stranger.send_to(&punch(1).encode(), bob.on_ipv4()).unwrap();
    assert_eq!(bob.receive().await, (stranger.local_addr().unwrap(), punch(1)));
    assert_eq!(bob.endpoint.datagrams_lost(), DatagramsLost { malformed: 4, ..DatagramsLost::default() });
}

#[tokio::test]
async fn one_socket_serves_both_families_and_shows_addresses_as_they_are_written() {
    let (alice, four, six) = (Peer::any(), Peer::at("127.0.0.1:0"), Peer::at("[::1]:0"));
    for (peer, own, theirs) in [(&four, four.on_ipv4(), alice.on_ipv4()), (&six, six.on_ipv6(), alice.on_ipv6())] {
        for (from, to, at, seen) in [(peer, &alice, theirs, own), (&alice, peer, own, theirs)] {
            to.expect(DIAL, from.key());
            let (dialled, accepted) = from.connect(to, at).await;
            assert_eq!((dialled.remote_address(), accepted.remote_address()), (at, seen));
            from.endpoint.send_datagram(at, &punch(1), None);
            assert_eq!(to.receive().await, (seen, punch(1)));
        }
    }
    assert_eq!(alice.endpoint.local_address_towards(four.on_ipv4()).unwrap(), alice.on_ipv4());
    assert_eq!(alice.endpoint.local_address_towards(six.on_ipv6()).unwrap(), alice.on_ipv6());
    // An address that was asked for by name takes its own family only, and what cannot be sent is counted.
    six.endpoint.send_datagram(alice.on_ipv4(), &punch(2), None);
    assert_eq!(six.endpoint.datagrams_lost(), DatagramsLost { unsent: 1, ..DatagramsLost::default() });
}

#[tokio::test]
async fn an_incoming_connection_shows_its_address_before_it_is_accepted() {
    let (alice, bob) = (Peer::any(), Peer::any());
    let dialling = alice.dial(&bob, bob.on_ipv4());
    let refusing = async {
        let incoming = in_time(bob.endpoint.accept()).await.unwrap();
        assert_eq!(incoming.remote_address(), alice.on_ipv4());
        incoming.refuse();
    };
    let (dialled, ()) = tokio::join!(dialling, refusing);
    assert!(matches!(dialled, Err(TransportError::Refused)));
}

#[tokio::test]
async fn one_dial_lets_in_as_many_connections_as_it_has_paths() {
    let (alice, bob, mallory) = (Peer::any(), Peer::any(), Peer::any());
    bob.expect(DIAL, alice.key());
    bob.expect(DialId::from_bytes([6; 16]), mallory.key());
    let mut open = vec![alice.connect(&bob, bob.on_ipv4()).await, alice.connect(&bob, bob.on_ipv6()).await];
    // Another key, though one that is expected for another dial.
    let accepting = async { in_time(bob.endpoint.accept()).await.unwrap().accept_peer().await.map(|_| ()) };
    let (dialled, accepted) = tokio::join!(mallory.dial(&bob, bob.on_ipv4()), accepting);
    assert!(matches!(accepted, Err(TransportError::NotAnnounced)));
    let closed = in_time(dialled.unwrap().closed()).await;
    assert!(matches!(closed, TransportError::Closed(CloseCode::NotAnnounced)), "{closed}");
    while open.len() < CONNECTIONS_PER_DIAL_MAX {
        open.push(alice.connect(&bob, bob.on_ipv4()).await);
    }
    assert_turned_away(&alice, &bob).await;
    assert!(open.iter().all(|(dialled, accepted)| dialled.is_open() && accepted.is_open()));
}

#[tokio::test]
async fn a_forgotten_dial_lets_nobody_in() {
    let (alice, bob) = (Peer::any(), Peer::any());
    bob.expect(DIAL, alice.key());
    let open = alice.connect(&bob, bob.on_ipv4()).await;
    bob.dials.forget(DIAL);
    assert_turned_away(&alice, &bob).await;
    assert!(open.0.is_open());
}

#[tokio::test]
async fn both_sides_of_a_dial_may_dial_at_once() {
    let (alice, bob) = (Peer::any(), Peer::any());
    bob.expect(DIAL, alice.key());
    alice.expect(DIAL, bob.key());
    let (first, second) = tokio::join!(alice.connect(&bob, bob.on_ipv4()), bob.connect(&alice, alice.on_ipv4()));
    assert_eq!((first.0.peer_key(), second.0.peer_key()), (Some(bob.key()), Some(alice.key())));
}

async fn assert_turned_away(dialler: &Peer, to: &Peer) {
    let accepting = async { in_time(to.endpoint.accept()).await.unwrap().accept_peer().await.map(|_| ()) };
    let (dialled, accepted) = tokio::join!(dialler.dial(to, to.on_ipv4()), accepting);
    assert!(matches!(dialled, Err(TransportError::Handshake(_))), "{dialled:?}");
    assert!(accepted.is_err());
}

#[tokio::test]
async fn a_dial_gives_up_when_its_time_is_over() {
    let (alice, bob) = (Peer::any(), Peer::any());
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (address, within) = (nobody.local_addr().unwrap(), Duration::from_millis(100));
    let began = Instant::now();
    let dialled = in_time(alice.endpoint.dial(address, DIAL, bob.key(), within, None)).await;
    assert!(matches!(dialled, Err(TransportError::TimedOut)));
    assert!(began.elapsed() >= within && began.elapsed() < HANDSHAKE_DEADLINE);
}

#[tokio::test]
async fn another_protocol_is_told_from_a_broken_handshake() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = DirectoryCertificate::load_or_create(folder.path()).unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let directory = Endpoint::directory(any, &certificate, Network::default()).unwrap();
    let (alice, address) = (Peer::any(), directory.local_address().unwrap());
    // It speaks a directory's protocol, and is asked for a peer's.
    let accepting = async { in_time(directory.accept()).await.unwrap().accept().await.map(|_| ()) };
    let key = alice.key();
    let dialling = alice.endpoint.dial(address, DIAL, key, HANDSHAKE_DEADLINE, None);
    let (dialled, accepted) = tokio::join!(dialling, accepting);
    assert!(matches!(dialled, Err(TransportError::OtherVersion)), "{dialled:?}");
    assert!(matches!(accepted, Err(TransportError::OtherVersion)), "{accepted:?}");
}

/// How often the first packet of a dial to nobody came within a time.
async fn first_packets(round_trip: Option<Duration>) -> usize {
    let (alice, bob) = (Peer::any(), Peer::any());
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    let within = Duration::from_millis(450);
    in_time(alice.endpoint.dial(nobody.local_addr().unwrap(), DIAL, bob.key(), within, round_trip)).await.unwrap_err();
    nobody.set_nonblocking(true).unwrap();
    let mut buffer = [0; 2_048];
    std::iter::from_fn(|| nobody.recv(&mut buffer).ok()).count()
}

#[tokio::test]
async fn a_measured_round_trip_decides_when_a_lost_first_packet_is_sent_again() {
    let (near, far) = (first_packets(Some(Duration::from_millis(1))).await, first_packets(Some(LONG)).await);
    assert!(near > far, "{near} packets to a near peer, {far} to a far one");
}

#[tokio::test]
async fn waiting_for_a_datagram_ends_when_the_endpoint_is_closed() {
    let bob = Peer::any();
    let endpoint = bob.endpoint.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { endpoint.receive_datagram().await });
    tokio::task::yield_now().await;
    bob.endpoint.close(CloseCode::Done);
    assert_eq!(in_time(tasks.join_next()).await.unwrap().unwrap(), None);
    assert_eq!(in_time(bob.endpoint.receive_datagram()).await, None);
}

#[cfg(target_os = "linux")]
mod hops {
    use super::*;
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
    use std::io::IoSliceMut;
    use std::os::fd::AsRawFd;

    /// A socket that sees with how many hops left a packet arrives.
    fn receiver(address: &str) -> UdpSocket {
        let socket = UdpSocket::bind(address).unwrap();
        if socket.local_addr().unwrap().is_ipv4() {
            setsockopt(&socket, sockopt::Ipv4RecvTtl, &true).unwrap();
        } else {
            setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true).unwrap();
        }
        socket.set_read_timeout(Some(LONG)).unwrap();
        socket
    }

    fn hops_of_next(socket: &UdpSocket) -> (i32, Vec<u8>) {
        let (mut bytes, mut control) = (vec![0; 2_048], nix::cmsg_space!(i32));
        let mut into = [IoSliceMut::new(&mut bytes)];
        let message =
            recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut into, Some(&mut control), MsgFlags::empty()).unwrap();
        let hops = message.cmsgs().unwrap().find_map(|control| match control {
            ControlMessageOwned::Ipv4Ttl(hops) | ControlMessageOwned::Ipv6HopLimit(hops) => Some(hops),
            _ => None,
        });
        let length = message.bytes;
        (hops.unwrap(), bytes[..length].to_vec())
    }

    #[tokio::test]
    async fn a_hop_limit_arrives_and_leaves_every_other_packet_alone() {
        for (from, to) in [("[::]:0", "127.0.0.1:0"), ("[::]:0", "[::1]:0"), ("0.0.0.0:0", "127.0.0.1:0")] {
            let (peer, receiver) = (Peer::at(from), receiver(to));
            let address = receiver.local_addr().unwrap();
            let mut tasks = JoinSet::new();
            let endpoint = peer.endpoint.clone();
            tasks.spawn(async move { endpoint.dial(address, DIAL, PeerKey::from_bytes([3; 32]), LONG, None).await });
            let (quic, _) = receive(&receiver).await;
            for hops in [2, 3, 255] {
                peer.endpoint.send_datagram(address, &Datagram::Opener, Some(hops));
                peer.endpoint.send_datagram(address, &punch(1), None);
            }
            // Packets of the handshake arrive in between.
            let (mut openers, mut others) = (Vec::new(), BTreeSet::new());
            let mut punches = 0;
            while openers.len() < 3 || punches < 3 {
                match receive(&receiver).await {
                    (hops, bytes) if bytes == [0] => openers.push(hops),
                    (hops, bytes) => {
                        others.insert(hops);
                        punches += usize::from(bytes.len() == 17);
                    }
                }
            }
            assert_eq!(openers, [2, 3, 255], "from {from} to {to}");
            assert_eq!(others, BTreeSet::from([quic]));
            assert!(quic >= 30);
        }
    }

    async fn receive(socket: &UdpSocket) -> (i32, Vec<u8>) {
        let socket = socket.try_clone().unwrap();
        tokio::task::spawn_blocking(move || hops_of_next(&socket)).await.unwrap()
    }
}
