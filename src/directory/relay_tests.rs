//! The relay of a running directory over real sockets on loopback: two people, and those who would like to be one of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::admin::{AdminRequest, AdminRow, SOCKET};
use super::registry::Session;
use super::relay::{Legs, RelayPorts};
use super::server::{Directory, DirectoryError};
use super::tests::{Client, World, name, settings};
use crate::lines;
use crate::protocol::relay::Counters;
use crate::wire::account::LoginKind;
use crate::wire::datagram::{Datagram, REQUEST_BYTES};
use crate::wire::ids::Ticket;
use crate::wire::limits::{CANDIDATES_MAX, OBSERVATIONS_PER_SECOND};
use crate::wire::refusal::CloseCode;
use crate::wire::rendezvous::PortTicket;

/// The first byte of a QUIC packet with a short header; the rest is whatever.
const SHORT_HEADER: u8 = 0x40;

/// A UDP socket of one person or of a thief.
struct Raw {
    socket: UdpSocket,
    relay: SocketAddr,
}

/// Alice, Bob and a directory.
struct Scene {
    world: World,
    _clients: [Client; 2],
    alice: Arc<Session>,
    bob: Arc<Session>,
}

impl Raw {
    async fn at(local: &str, relay: SocketAddr) -> Self {
        Self { socket: UdpSocket::bind(local).await.unwrap(), relay }
    }

    async fn send(&self, bytes: &[u8]) {
        assert_eq!(self.socket.send_to(bytes, self.relay).await.unwrap(), bytes.len());
    }

    async fn say(&self, datagram: Datagram) {
        self.send(&datagram.encode()).await;
    }

    async fn received(&self) -> Vec<u8> {
        let mut buffer = vec![0; 65_536];
        let receive = self.socket.recv_from(&mut buffer);
        let (count, from) = timeout(Duration::from_secs(5), receive).await.expect("a datagram comes").unwrap();
        assert_eq!(from, self.relay);
        buffer.truncate(count);
        buffer
    }

    async fn heard(&self) -> Datagram {
        Datagram::decode(&self.received().await).expect("the relay says something")
    }

    /// Joins up to the challenge.
    async fn challenged(&self, leg: PortTicket) -> [u8; 16] {
        self.say(Datagram::Join { ticket: leg.ticket }).await;
        match self.heard().await {
            Datagram::Challenge { ticket, nonce } if ticket == leg.ticket => nonce,
            other => panic!("a Join was answered with {other:?}"),
        }
    }

    /// Asks where it is seen, up to the challenge.
    async fn observing(&self, place: PortTicket) -> [u8; 16] {
        self.say(Datagram::Observe { ticket: place.ticket }).await;
        match self.heard().await {
            Datagram::Challenge { ticket, nonce } if ticket == place.ticket => nonce,
            other => panic!("an Observe was answered with {other:?}"),
        }
    }

    async fn join(&self, leg: PortTicket) -> bool {
        let nonce = self.challenged(leg).await;
        self.say(Datagram::Echo { ticket: leg.ticket, nonce }).await;
        self.is_joined(leg).await
    }

    async fn is_joined(&self, leg: PortTicket) -> bool {
        match self.heard().await {
            Datagram::Joined { ticket, both } if ticket == leg.ticket => both,
            other => panic!("an Echo was answered with {other:?}"),
        }
    }

    /// Waits until everything that was sent to this port before has been dealt with, which happens in order.
    async fn settle(&self, leg: PortTicket) {
        self.say(Datagram::Join { ticket: leg.ticket }).await;
        self.heard().await;
    }

    /// Asserts that nothing waits here, by asking the kernel and not what the runtime knows.
    fn hears_nothing(self) {
        let nothing = self.socket.into_std().unwrap().recv(&mut [0; 1]);
        assert_eq!(nothing.map_err(|error| error.kind()), Err(std::io::ErrorKind::WouldBlock));
    }
}

impl Scene {
    async fn start() -> Self {
        Self::of(World::start()).await
    }

    async fn of(world: World) -> Self {
        let clients =
            [world.registered("alice", LoginKind::Resident).await, world.registered("bob", LoginKind::Resident).await];
        let session = |text| world.shared.registry.resident(&name(text)).unwrap();
        let (alice, bob) = (session("alice"), session("bob"));
        Self { world, _clients: clients, alice, bob }
    }

    fn open(&self) -> Legs {
        self.world.shared.relay.open(&self.alice, &self.bob).unwrap()
    }

    async fn raw(&self, leg: PortTicket) -> Raw {
        Raw::at("127.0.0.1:0", SocketAddr::new([127, 0, 0, 1].into(), leg.port)).await
    }

    async fn joined(&self) -> (Legs, Raw, Raw) {
        let legs = self.open();
        let (alice, bob) = (self.raw(legs.asker).await, self.raw(legs.asked).await);
        assert!(!alice.join(legs.asker).await);
        assert!(bob.join(legs.asked).await);
        assert!(alice.is_joined(legs.asker).await, "who was first is told of the second");
        (legs, alice, bob)
    }

    fn counters(&self) -> Counters {
        self.world.shared.relay.report().0
    }
}

fn packet(bytes: usize, number: u8) -> Vec<u8> {
    let mut packet = vec![number; bytes];
    packet[0] = SHORT_HEADER;
    packet
}

#[tokio::test]
async fn two_sockets_join_and_exchange_what_the_relay_leaves_as_it_is() {
    let scene = Scene::start().await;
    let (_, alice, bob) = scene.joined().await;
    for number in 0..50 {
        for (bytes, from, to) in [(1_200, &alice, &bob), (6_500, &bob, &alice), (1, &alice, &bob)] {
            let sent = packet(bytes, number);
            from.send(&sent).await;
            assert!(to.received().await == sent);
        }
    }
    let counters = scene.counters();
    assert_eq!((counters.opened, counters.joined, counters.forwarded_datagrams), (1, 1, 150));
    assert_eq!(counters.forwarded_bytes, 50 * 7_701);
}

#[tokio::test]
async fn forged_and_truncated_requests_are_dropped_and_counted() {
    let scene = Scene::start().await;
    let legs = scene.open();
    let raw = scene.raw(legs.asker).await;
    let nonce = raw.challenged(legs.asker).await;
    let unknown = Ticket::from_bytes([9; 16]);
    raw.say(Datagram::Join { ticket: unknown }).await;
    raw.say(Datagram::Echo { ticket: unknown, nonce }).await;
    raw.say(Datagram::Observe { ticket: legs.asker.ticket }).await;
    raw.say(Datagram::Echo { ticket: legs.asker.ticket, nonce: [0; 16] }).await;
    let join = Datagram::Join { ticket: legs.asker.ticket }.encode();
    for end in 1..REQUEST_BYTES {
        raw.send(&join[..end]).await;
    }
    raw.say(Datagram::Opener).await;
    assert!(!raw.join(legs.asker).await, "the next answer is to the next good request");
    let counters = scene.counters();
    assert_eq!((counters.dropped_bad_ticket, counters.dropped_bad_echo), (3, 1));
    assert_eq!(counters.dropped_malformed, REQUEST_BYTES as u64);
}

#[tokio::test]
async fn a_replayed_ticket_gets_no_answer_and_no_traffic() {
    let scene = Scene::start().await;
    let (legs, alice, bob) = scene.joined().await;
    let thief = scene.raw(legs.asker).await;
    thief.say(Datagram::Join { ticket: legs.asker.ticket }).await;
    thief.say(Datagram::Echo { ticket: legs.asker.ticket, nonce: [0; 16] }).await;
    thief.send(&packet(1_200, 1)).await;
    alice.settle(legs.asker).await;
    thief.hears_nothing();
    bob.send(&packet(800, 2)).await;
    assert!(alice.received().await == packet(800, 2));
    let counters = scene.counters();
    assert_eq!((counters.dropped_replayed_ticket, counters.dropped_unknown_source), (2, 1));
    assert_eq!(counters.forwarded_datagrams, 1);
}

#[tokio::test]
async fn an_address_that_never_echoes_gets_one_short_answer_for_each_join_and_no_traffic() {
    let scene = Scene::start().await;
    let legs = scene.open();
    let (alice, bob) = (scene.raw(legs.asker).await, scene.raw(legs.asked).await);
    assert!(!bob.join(legs.asked).await);
    // Alice's ticket in the name of a victim.
    let victim = Raw::at("127.0.0.2:0", alice.relay).await;
    for _ in 0..3 {
        victim.say(Datagram::Join { ticket: legs.asker.ticket }).await;
    }
    bob.send(&packet(1_200, 1)).await;
    for _ in 0..3 {
        let answer = victim.received().await;
        assert!(matches!(Datagram::decode(&answer), Some(Datagram::Challenge { .. })) && answer.len() < REQUEST_BYTES);
    }
    bob.settle(legs.asked).await;
    victim.hears_nothing();
    assert_eq!(scene.counters().dropped_not_joined, 1);
    // And Alice herself is still let in.
    assert!(alice.join(legs.asker).await);
}

#[tokio::test]
async fn one_address_cannot_have_two_sessions_at_one_port() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(&folder);
    settings.relay.ports = RelayPorts::Any(1);
    let scene = Scene::of(World::start_with(settings, folder)).await;
    let (legs, alice, bob) = scene.joined().await;
    assert!(scene.world.shared.relay.open(&scene.bob, &scene.alice).is_none(), "one port, one session of a login");

    // Other logins have room there, but not from the same socket.
    let mut others = Vec::new();
    let mut clients = Vec::new();
    for text in ["carol", "dave"] {
        clients.push(scene.world.registered(text, LoginKind::Resident).await);
        others.push(scene.world.shared.registry.resident(&name(text)).unwrap());
    }
    let second = scene.world.shared.relay.open(&others[0], &others[1]).unwrap();
    assert_eq!(second.asker.port, legs.asker.port);
    alice.say(Datagram::Join { ticket: second.asker.ticket }).await;
    bob.settle(legs.asked).await;
    alice.hears_nothing();
    assert_eq!(scene.counters().dropped_address_in_use, 1);
    let carol = scene.raw(second.asker).await;
    assert!(!carol.join(second.asker).await);
}

#[tokio::test]
async fn a_flood_over_its_budget_is_dropped_and_another_pair_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(&folder);
    settings.relay.limits.bytes_per_second = 1_000;
    let scene = Scene::of(World::start_with(settings, folder)).await;
    let (flood, mallory, _accomplice) = scene.joined().await;
    let mut clients = Vec::new();
    for text in ["carol", "dave"] {
        clients.push(scene.world.registered(text, LoginKind::Resident).await);
    }
    let session = |text| scene.world.shared.registry.resident(&name(text)).unwrap();
    let legs = scene.world.shared.relay.open(&session("carol"), &session("dave")).unwrap();
    let (carol, dave) = (scene.raw(legs.asker).await, scene.raw(legs.asked).await);
    carol.join(legs.asker).await;
    dave.join(legs.asked).await;
    assert!(carol.is_joined(legs.asker).await);

    for number in 0..200 {
        mallory.send(&packet(6_000, number)).await;
        carol.send(&packet(1_000, number)).await;
        assert!(dave.received().await == packet(1_000, number));
    }
    mallory.settle(flood.asker).await;
    let counters = scene.counters();
    let passed = counters.forwarded_bytes - 200 * 1_000;
    assert!(passed <= 256 * 1024 + 6_000, "{passed} bytes of the flood came through");
    assert_eq!(counters.dropped_over_rate, 200 - passed / 6_000);
}

#[tokio::test]
async fn a_silent_session_ends_and_its_tickets_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(&folder);
    settings.relay.ports = RelayPorts::Any(1);
    let idle = settings.relay.limits.idle;
    let scene = Scene::of(World::start_with(settings, folder)).await;
    let (legs, alice, bob) = scene.joined().await;
    let relay = &scene.world.shared.relay;
    relay.expire_after(idle);
    alice.send(&packet(100, 1)).await;
    alice.say(Datagram::Join { ticket: legs.asker.ticket }).await;
    let legs = scene.open();
    scene.raw(legs.asker).await.settle(legs.asker).await;
    alice.hears_nothing();
    bob.hears_nothing();
    assert_eq!((scene.counters().expired, relay.report().1.len()), (1, 1));
}

#[tokio::test]
async fn peers_of_different_families_are_joined() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(&folder);
    settings.listen = "[::]:0".parse().unwrap();
    let mut world = World::start_with(settings, folder);
    world.address.set_ip([127, 0, 0, 1].into());
    let scene = Scene::of(world).await;
    let legs = scene.open();
    let alice = scene.raw(legs.asker).await;
    let bob = Raw::at("[::1]:0", format!("[::1]:{}", legs.asked.port).parse().unwrap()).await;
    assert!(!alice.join(legs.asker).await);
    assert!(bob.join(legs.asked).await);
    assert!(alice.is_joined(legs.asker).await);
    for (from, to) in [(&alice, &bob), (&bob, &alice)] {
        from.send(&packet(1_200, 5)).await;
        assert!(to.received().await == packet(1_200, 5));
    }
}

#[tokio::test]
async fn a_session_asks_from_where_it_is_seen() {
    let scene = Scene::start().await;
    let client = scene.world.stranger().await;
    let login = client.login("carol", LoginKind::Resident, Some("secret"));
    let place = client.log_in(crate::wire::account::Login { register: true, ..login }).await.unwrap().observe.unwrap();
    let session = scene.world.shared.registry.resident(&name("carol")).unwrap();
    let [connection] = session.addresses()[..] else { panic!("one address before it asked") };

    let mut raws = Vec::new();
    for _ in 0..OBSERVATIONS_PER_SECOND {
        let raw = scene.raw(place).await;
        let nonce = raw.observing(place).await;
        raw.say(Datagram::Echo { ticket: place.ticket, nonce }).await;
        let address = raw.socket.local_addr().unwrap();
        assert_eq!(raw.heard().await, Datagram::Observed { ticket: place.ticket, address });
        raws.push(raw);
    }
    let addresses = session.addresses();
    assert_eq!((addresses[0], addresses.len()), (connection, 5));

    // More in a second are not answered, so a session's tickets make no flood.
    for _ in 0..100 {
        raws[0].say(Datagram::Observe { ticket: place.ticket }).await;
    }
    let legs = loop {
        let legs = scene.open();
        if legs.asker.port == place.port {
            break legs;
        }
    };
    scene.raw(legs.asker).await.settle(legs.asker).await;
    assert!(scene.counters().dropped_over_rate > 0);
    assert_eq!(session.addresses(), addresses, "what is known is not added again");

    drop(session);
    client.connection.close(CloseCode::Done);
    while scene.world.shared.registry.is_online(&name("carol")) {
        tokio::task::yield_now().await;
    }
    let before = scene.counters().dropped_bad_ticket;
    while scene.counters().dropped_bad_ticket == before {
        raws[0].say(Datagram::Observe { ticket: place.ticket }).await;
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn where_a_session_does_not_receive_it_is_not_seen() {
    let scene = Scene::start().await;
    let place = scene.world.shared.relay.observe(&scene.alice).unwrap();
    let before = scene.alice.addresses();
    // Somebody who holds the ticket forges the source of the question: the stranger who lives there does not echo, and
    // the echo comes with a forged source too, but its nonce can only be guessed, or is another address's.
    let (stranger, own) = (scene.raw(place).await, scene.raw(place).await);
    let said = stranger.observing(place).await;
    let nonce = own.observing(place).await;
    assert_ne!(said, nonce);
    let bad = scene.counters().dropped_bad_echo;
    stranger.say(Datagram::Echo { ticket: place.ticket, nonce }).await;
    stranger.say(Datagram::Echo { ticket: place.ticket, nonce: [0; 16] }).await;
    own.say(Datagram::Echo { ticket: place.ticket, nonce: said }).await;
    own.say(Datagram::Echo { ticket: place.ticket, nonce }).await;
    let address = own.socket.local_addr().unwrap();
    assert_eq!(own.heard().await, Datagram::Observed { ticket: place.ticket, address });
    assert_eq!(scene.counters().dropped_bad_echo, bad + 3);
    assert_eq!(scene.alice.addresses(), [&before[..], &[address]].concat());
    stranger.hears_nothing();

    // One proof is good for one answer.
    own.say(Datagram::Echo { ticket: place.ticket, nonce }).await;
    own.observing(place).await;
    own.hears_nothing();
}

#[tokio::test]
async fn addresses_of_a_session_are_bounded_and_the_connection_s_stays_first() {
    let scene = Scene::start().await;
    let first = scene.alice.addresses()[0];
    for number in 1..=20 {
        super::relay::note_address(&scene.alice, SocketAddr::from(([192, 0, 2, number], 9)));
    }
    let addresses = scene.alice.addresses();
    assert_eq!((addresses[0], addresses.len()), (first, CANDIDATES_MAX));
    assert_eq!(addresses.last(), Some(&SocketAddr::from(([192, 0, 2, 20], 9))));
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(&folder);
    settings.relay.ports = RelayPorts::Range(port, port);
    let Err(error) = Directory::start(settings) else { panic!("the port is taken") };
    assert!(matches!(error, DirectoryError::RelayPort(_)) && error.to_string().contains(&port.to_string()), "{error}");
}

#[tokio::test]
async fn a_directory_without_relay_opens_and_observes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(&folder);
    settings.relay.ports = RelayPorts::Off;
    let scene = Scene::of(World::start_with(settings, folder)).await;
    let relay = &scene.world.shared.relay;
    assert!(relay.open(&scene.alice, &scene.bob).is_none() && relay.observe(&scene.alice).is_none());
    assert!(relay.ports().is_empty());
}

#[tokio::test]
async fn an_operator_sees_counters_and_sessions_and_no_address() {
    let folder = tempfile::tempdir().unwrap();
    let path = settings(&folder).data.join(SOCKET);
    let settings = settings(&folder);
    let scene = Scene::of(World::start_with(settings, folder)).await;
    let (_, alice, bob) = scene.joined().await;
    alice.send(&packet(1_000, 1)).await;
    bob.received().await;

    let mut stream = tokio::io::BufReader::new(tokio::net::UnixStream::connect(&path).await.unwrap());
    lines::write(stream.get_mut(), &AdminRequest::Relay).await.unwrap();
    let mut rows = Vec::new();
    while let Some(row) = lines::read::<AdminRow>(&mut stream).await.unwrap() {
        rows.push(row);
    }
    let text: Vec<_> = rows.iter().map(|row| serde_json::to_string(row).unwrap()).collect();
    let [AdminRow::Relayed { asker, asked, joined: true, bytes: 1_000, .. }, AdminRow::Relay { ports, counters }, done] =
        &rows[..]
    else {
        panic!("{text:?}");
    };
    assert!(matches!(done, AdminRow::Done));
    assert_eq!((asker.as_str(), asked.as_str(), ports.len()), ("alice", "bob", 2));
    assert_eq!((counters.opened, counters.joined, counters.forwarded_bytes), (1, 1, 1_000));
    assert!(!text.concat().contains("127.0.0.1"), "{text:?}");
}
