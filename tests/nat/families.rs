//! Peers that have no family of addresses in common, and a network without UDP.

use std::time::{Duration, Instant};

use crate::cells::Cell;
use crate::lab::Lab;
use crate::people::{Person, directory};
use crate::program::World;
use crate::routers::Kind;

/// A peer that cannot reach its directory says so within this.
const TOLD_WITHIN: Duration = Duration::from_secs(15);

lab_tests! {
    peers_with_ipv6_meet => {
        let seen = Cell::Apart(Kind::Ipv6, Kind::Ipv6).check();
        assert_eq!(seen.family(), Some("ipv6"), "{seen}");
    };
    a_peer_with_ipv6_only_fetches_from_one_with_ipv4_only_through_the_relay => {
        let seen = Cell::Apart(Kind::Home, Kind::Ipv6).check();
        assert_eq!(seen.family(), Some("ipv6"), "{seen}");
    };
    a_peer_with_ipv4_only_fetches_from_one_with_ipv6_only_through_the_relay => {
        let seen = Cell::Apart(Kind::Ipv6, Kind::Home).check();
        assert_eq!(seen.family(), Some("ipv4"), "{seen}");
    };

    where_udp_is_blocked_a_peer_says_so_and_ends => {
        let lab = Lab::new(Kind::UdpBlocked, Kind::Port);
        let world = World::new();
        let _directory = directory(&world, &lab);
        let [alice, bob] = Person::both(&world, &lab);
        let _bob_peer = bob.peer("");

        let started = Instant::now();
        let ended = alice.start_peer("").outcome();

        assert!(started.elapsed() < TOLD_WITHIN, "{:?}", started.elapsed());
        ended.expect_error(10, "UDP");
    };
}
