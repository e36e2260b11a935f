//! Who learns what: with `--relay-only` no peer learns the other's address, and the relay learns nothing that is said.

use std::net::IpAddr;
use std::time::Duration;

use crate::capture::{Capture, Packet};
use crate::cells::{Cell, Path};
use crate::lab::SERVER;
use crate::people::{Person, directory};
use crate::program::{Process, World, text};
use crate::routers::Kind;
use crate::sockets::Probe;

/// Stands in a message, and nowhere else.
const SAID: &str = "marker-of-a-message-c0ffee";
/// Stands in a file, again and again.
const WRITTEN: &str = "marker-of-a-file-5eaf00d";
/// Stands in the file's name.
const NAMED: &str = "marker-of-a-name-f11e.txt";
/// Goes past the capture in a plain packet.
const PLAIN: &str = "marker-of-a-plain-packet-0";

/// How often the marker stands in the file: a few hundred packets.
const TIMES: usize = 20_000;

/// Both routers let everything through, so that an address would be of use to whoever learned it.
const OPEN: Cell = Cell::Apart(Kind::FullCone, Kind::FullCone);

lab_tests! {
    with_relay_only_at_the_asking_side_no_address_is_learned => no_address_is_learned("", "", "--relay-only");
    with_relay_only_at_the_asked_side_no_address_is_learned => no_address_is_learned("--relay-only", "", "");
    without_consent_no_address_is_learned => no_address_is_learned("", "--hide-address", "");

    peers_that_may_learn_addresses_do_send_packets_to_each_other => {
        // What the tests of `--relay-only` look for is there without it.
        let Heard { at_alices_router, logs: [alice_log, bob_log], addresses, .. } = talk("", "", "", Path::Direct);
        assert!(between(&at_alices_router, addresses) > 0);
        assert!(names(&alice_log, addresses[1]), "{alice_log}");
        assert!(names(&bob_log, addresses[0]), "{bob_log}");
    };

    the_relay_carries_nothing_that_it_could_read => {
        let lab = Cell::Apart(Kind::Symmetric, Kind::Symmetric).lab(Duration::ZERO);
        let world = World::new();
        let _directory = directory(&world, &lab);
        let [alice, bob] = Person::both(&world, &lab);
        let capture = Capture::start(&lab.server);
        let (mut alice_peer, mut bob_peer) = (alice.peer(""), bob.peer(""));

        alice.file(NAMED, WRITTEN.repeat(TIMES));
        alice_peer.say(&format!("/send bob {NAMED}"));
        let offer = bob_peer.event("offer");
        bob_peer.say(&format!("/accept {}", text(&offer, "id")));
        let received = bob_peer.event("received");
        alice_peer.say(&format!("/msg bob {SAID}"));
        assert_eq!(bob_peer.messages(1), [SAID]);
        let (probe, server) = (Probe::peer(&lab.alice.peer), Probe::new(&lab.server, SERVER, 7_001));
        probe.send(PLAIN, server.address());
        server.next();

        let packets = capture.end();
        let with = |marker: &str| packets.iter().filter(|packet| packet.contains(marker.as_bytes())).count();
        assert_eq!(with(PLAIN), 1, "the search finds what there is");
        for marker in [SAID, WRITTEN, NAMED] {
            assert_eq!(with(marker), 0, "{marker} among {} packets", packets.len());
        }
        assert_eq!(Path::of(&received["via"]), Path::Relay, "{received}");
        assert_eq!(bob.bytes(NAMED), alice.bytes(NAMED));
    };
}

/// Talks with these flags, one of which keeps addresses secret, and looks for addresses.
fn no_address_is_learned(alice_flags: &str, share_flags: &str, bob_flags: &str) {
    let heard = talk(alice_flags, share_flags, bob_flags, Path::Relay);
    let Heard { at_alices_router, logs: [alice_log, bob_log], addresses, in_lan: [alice_lan, bob_lan] } = heard;
    assert_eq!(between(&at_alices_router, addresses), 0);
    let [alice_address, bob_address] = addresses;
    for address in [bob_address, bob_lan] {
        assert!(!names(&alice_log, address), "{address} in Alice's log:\n{alice_log}");
    }
    for address in [alice_address, alice_lan] {
        assert!(!names(&bob_log, address), "{address} in Bob's log:\n{bob_log}");
    }
}

/// What was heard of a transfer and a message each way.
struct Heard {
    at_alices_router: Vec<Packet>,
    /// What Alice and Bob logged.
    logs: [String; 2],
    /// The public addresses of Alice and Bob.
    addresses: [IpAddr; 2],
    /// Their own addresses, behind their routers.
    in_lan: [IpAddr; 2],
}

/// With these flags of Alice's peer, of what she shares, and of Bob's peer, bytes must end up going by a path.
fn talk(alice_flags: &str, share_flags: &str, bob_flags: &str, expected: Path) -> Heard {
    let lab = OPEN.lab(Duration::ZERO);
    let world = World::new();
    let _directory = directory(&world, &lab);
    let [alice, bob] = Person::both(&world, &lab);
    let router = lab.alice.router.as_ref().expect("she has a home");
    let capture = Capture::start(router);
    let (mut alice_peer, mut bob_peer) =
        (alice.peer(&format!("-vv {alice_flags}")), bob.peer(&format!("-vv {bob_flags}")));

    alice.file("file.txt", WRITTEN.repeat(TIMES));
    alice.share_with("file.txt", share_flags);
    let mut get = bob.start("get", &["alice:file.txt"]);
    let received = get.event("received");
    get.outcome().expect_code(0);
    alice_peer.say("/msg bob to bob");
    assert_eq!(bob_peer.messages(1), ["to bob"]);
    bob_peer.say("/msg alice to alice");
    assert_eq!(alice_peer.messages(1), ["to alice"]);
    let link = bob.settled_path_to("alice");

    assert_eq!(Path::of(link.as_ref().unwrap_or(&received["via"])), expected, "{received}");
    let logs = [alice_peer, bob_peer].map(log_of);
    Heard {
        at_alices_router: capture.end(),
        logs,
        addresses: [lab.alice.wan, lab.bob.wan],
        in_lan: [lab.alice.lan, lab.bob.lan],
    }
}

/// Ends a peer and takes all that it said, on both channels.
fn log_of(peer: Process) -> String {
    let ended = peer.outcome();
    ended.expect_code(0);
    assert!(ended.stderr.lines().count() > 1, "-vv logs nothing: {}", ended.stderr);
    format!("{}\n{}", ended.stdout, ended.stderr)
}

fn between(packets: &[Packet], [one, other]: [IpAddr; 2]) -> usize {
    packets.iter().filter(|packet| packet.is_between(one, other)).count()
}

fn names(log: &str, address: IpAddr) -> bool {
    log.contains(&address.to_string())
}
