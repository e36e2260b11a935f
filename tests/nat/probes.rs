//! The lab itself: each kind of router does what its name says, so that what the peers do behind it means something.

use std::net::SocketAddr;

use crate::capture::Capture;
use crate::lab::{Lab, SERVER, SERVER_TOO};
use crate::routers::{CLASSIC, Kind};
use crate::sockets::{PEER_PORT, Probe};

/// Enough to show that none is missed.
const PACKETS: usize = 500;

/// A second port of the server.
const OTHER_PORT: u16 = 7_002;

lab_tests! {
    a_cone_keeps_its_port_and_a_symmetric_nat_takes_another_for_each_destination => {
        use Kind::{Address, Double, FullCone, Home, Open, Port, Remembering, Symmetric};
        for kind in [Open, FullCone, Address, Port, Remembering, Home, Double] {
            assert_eq!(Servers::in_front_of(kind).ports_seen(), (PEER_PORT, PEER_PORT), "{kind}");
        }
        let (one, other) = Servers::in_front_of(Symmetric).ports_seen();
        assert_ne!(one, other);
    };

    each_nat_lets_in_what_its_name_says => {
        use Kind::{Address, Double, FullCone, Home, Open, Port, Remembering, Symmetric};
        for kind in [Open, FullCone] {
            assert_eq!(Servers::in_front_of(kind).let_in(), ["asked", "other port", "other address"], "{kind}");
        }
        assert_eq!(Servers::in_front_of(Address).let_in(), ["asked", "other port"]);
        for kind in [Port, Symmetric, Remembering, Home, Double] {
            assert_eq!(Servers::in_front_of(kind).let_in(), ["asked"], "{kind}");
        }
    };

    an_early_packet_takes_the_port_away_behind_a_router_that_remembers_it => {
        assert_eq!(port_after_an_early_packet(Kind::Port), PEER_PORT);
        assert_ne!(port_after_an_early_packet(Kind::Remembering), PEER_PORT);
    };

    openers_leave_their_own_router_and_reach_no_other => {
        for kind in [Kind::Port, Kind::Double, Kind::Open] {
            let servers = Servers::in_front_of(kind);
            let Servers { peer, server, .. } = &servers;
            peer.send_opener(server.address());
            peer.send_end(server.address());
            assert_eq!(server.until_the_end(), [], "{kind}");
        }
    };

    an_opener_opens_the_way_back => {
        for kind in [Kind::Address, Kind::Port, Kind::Double, Kind::Remembering] {
            let servers = Servers::in_front_of(kind);
            let Servers { peer, server, other, .. } = &servers;
            let mapped = peer.seen_by(other);
            peer.send_opener(server.address());
            server.send("through", mapped);
            assert_eq!(peer.next().0, "through", "{kind}");
        }
    };

    no_udp_leaves_a_router_that_blocks_it => {
        let lab = Lab::new(Kind::UdpBlocked, Kind::Port);
        let (blocked, free) = (Probe::peer(&lab.alice.peer), Probe::peer(&lab.bob.peer));
        let server = Probe::new(&lab.server, SERVER, 7_001);

        blocked.send("blocked", server.address());
        free.send_end(server.address());

        assert_eq!(server.until_the_end(), []);
    };

    plain_packets_get_through_between_thirteen_of_the_sixteen_pairs => {
        let mut through = 0;
        for alice in CLASSIC {
            for bob in CLASSIC {
                let met = punch(&Lab::new(alice, bob));
                assert_eq!(met, alice.meets(bob), "{alice} to {bob}");
                through += u32::from(met);
            }
        }
        assert_eq!(through, 13);
    };

    openers_save_the_pair_whose_router_remembers_early_packets => {
        let (port, remembering) = (Kind::Port, Kind::Remembering);
        assert!(punch(&Lab::new(remembering, remembering)));
        assert!(punch(&Lab::new(port, remembering)));
        assert!(!punch_unopened(&Lab::new(port, remembering)), "without openers it fails, or they are for nothing");
    };

    a_cut_stops_what_goes_from_home_to_home_and_nothing_else => {
        let lab = Lab::new(Kind::Open, Kind::Open);
        let (alice, bob, server) = (Probe::peer(&lab.alice.peer), Probe::peer(&lab.bob.peer), server_of(&lab));
        let (at_alice, at_bob) = (alice.seen_by(&server), bob.seen_by(&server));
        lab.cut();
        alice.send("cut", at_bob);
        bob.send("cut", at_alice);
        assert_eq!((alice.seen_by(&server), bob.seen_by(&server)), (at_alice, at_bob));
        lab.mend();
        alice.send_end(at_bob);
        bob.send_end(at_alice);
        assert_eq!((alice.until_the_end(), bob.until_the_end()), (vec![], vec![]));
        let bytes_of_one = 20 + 8 + 3;
        assert_eq!(lab.bytes_between_homes(), [bytes_of_one; 2], "what is cut off is not counted");
    };

    a_capture_hears_every_packet_whole => {
        let lab = Lab::new(Kind::Port, Kind::Port);
        let (alice, server) = (Probe::peer(&lab.alice.peer), server_of(&lab));
        let capture = Capture::start(lab.alice.router.as_ref().expect("she has a home"));
        for number in 0..PACKETS {
            alice.send(&format!("packet {number:04} ends here"), server.address());
        }

        let packets = capture.end();
        for number in 0..PACKETS {
            let whole = format!("packet {number:04} ends here");
            // Once in the LAN and once outside.
            assert!(packets.iter().filter(|packet| packet.contains(whole.as_bytes())).count() >= 2, "{whole}");
        }
        assert!(packets.iter().any(|packet| packet.is_between(lab.alice.wan, server.address().ip())));
        assert!(!packets.iter().any(|packet| packet.is_between(lab.alice.wan, lab.bob.wan)));
    };

    a_lab_leaves_nothing_behind => {
        drop(Lab::new(Kind::Double, Kind::Symmetric));
        let names = std::fs::read_dir("/run/netns").expect("the lab's namespaces had their names there");
        assert_eq!(names.count(), 0);
    };
}

/// A peer behind a router, and sockets of the server.
struct Servers {
    _lab: Lab,
    peer: Probe,
    server: Probe,
    /// At the same address.
    other_port: Probe,
    /// At the second address.
    other: Probe,
}

impl Servers {
    fn in_front_of(kind: Kind) -> Self {
        let lab = Lab::new(kind, Kind::Port);
        let peer = Probe::peer(&lab.alice.peer);
        let server = Probe::new(&lab.server, SERVER, 7_001);
        let other_port = Probe::new(&lab.server, SERVER, OTHER_PORT);
        let other = Probe::new(&lab.server, SERVER_TOO, OTHER_PORT);
        Self { _lab: lab, peer, server, other_port, other }
    }

    /// The peer's port as two servers see it.
    fn ports_seen(&self) -> (u16, u16) {
        (self.peer.seen_by(&self.server).port(), self.peer.seen_by(&self.other).port())
    }

    /// Which packets come in once the peer has written to one port of one address.
    fn let_in(&self) -> Vec<String> {
        let mapped = self.peer.seen_by(&self.server);
        self.server.send("asked", mapped);
        self.other_port.send("other port", mapped);
        self.other.send("other address", mapped);
        self.server.send_end(mapped);
        self.peer.until_the_end().into_iter().map(|(what, _)| what).collect()
    }
}

/// The port that a server sees when it has itself written to the peer's usual port before.
fn port_after_an_early_packet(kind: Kind) -> u16 {
    let lab = Lab::new(kind, Kind::Port);
    let peer = Probe::peer(&lab.alice.peer);
    let server = Probe::new(&lab.server, SERVER, 7_001);
    server.send("early", SocketAddr::new(lab.alice.wan, PEER_PORT));
    peer.seen_by(&server).port()
}

/// Whether two peers reach each other with openers and punches.
fn punch(lab: &Lab) -> bool {
    let (alice, bob, server) = (Probe::peer(&lab.alice.peer), Probe::peer(&lab.bob.peer), server_of(lab));
    let (at_alice, at_bob) = (alice.seen_by(&server), bob.seen_by(&server));
    alice.send_opener(at_bob);
    bob.send_opener(at_alice);
    exchange(&server, (&alice, at_alice), (&bob, at_bob))
}

/// The same without openers, and Alice is the first.
fn punch_unopened(lab: &Lab) -> bool {
    let (alice, bob, server) = (Probe::peer(&lab.alice.peer), Probe::peer(&lab.bob.peer), server_of(lab));
    let (at_alice, at_bob) = (alice.seen_by(&server), bob.seen_by(&server));
    alice.send("punch", at_bob);
    exchange(&server, (&alice, at_alice), (&bob, at_bob))
}

fn server_of(lab: &Lab) -> Probe {
    Probe::new(&lab.server, SERVER, 7_001)
}

/// Both send to where the server sees the other, and to wherever a packet came from, three times. Through is what came
/// there and was answered.
fn exchange(server: &Probe, alice: (&Probe, SocketAddr), bob: (&Probe, SocketAddr)) -> bool {
    let mut targets = [alice.1, bob.1];
    let (mut heard, mut answered) = ([false; 2], [false; 2]);
    for _ in 0..3 {
        for (me, (probe, seen)) in [alice, bob].into_iter().enumerate() {
            let you = 1 - me;
            probe.send(if heard[me] { "heard you" } else { "punch" }, targets[you]);
            let (other, other_seen) = if me == 0 { bob } else { alice };
            // What the server sends takes the longer way, so it comes after what went before it.
            probe.send("wait", server.address());
            let (_, from) = server.next();
            assert_eq!(from, seen, "the way to the server stays as it is");
            server.send_end(other_seen);
            for (what, from) in other.until_the_end() {
                heard[you] = true;
                answered[you] |= what == "heard you";
                targets[me] = from;
            }
        }
    }
    answered == [true, true]
}
