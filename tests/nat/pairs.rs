//! Every pair of routers: 13 of the 16 classic ones meet directly, the other three through the relay. A file arrives
//! behind all of them.

use crate::cells::{Cell, Mode, Path};
use crate::routers::Kind::{Address, Double, FullCone, Home, Open, Port, Remembering, Symmetric};

lab_tests! {
    full_cone_and_full_cone_meet => check(Cell::Apart(FullCone, FullCone));
    full_cone_and_address_restricted_meet => check(Cell::Apart(FullCone, Address));
    full_cone_and_port_restricted_meet => check(Cell::Apart(FullCone, Port));
    full_cone_and_symmetric_meet => check(Cell::Apart(FullCone, Symmetric));
    address_restricted_and_full_cone_meet => check(Cell::Apart(Address, FullCone));
    address_restricted_and_address_restricted_meet => check(Cell::Apart(Address, Address));
    address_restricted_and_port_restricted_meet => check(Cell::Apart(Address, Port));
    address_restricted_and_symmetric_meet => check(Cell::Apart(Address, Symmetric));
    port_restricted_and_full_cone_meet => check(Cell::Apart(Port, FullCone));
    port_restricted_and_address_restricted_meet => check(Cell::Apart(Port, Address));
    port_restricted_and_port_restricted_meet => check(Cell::Apart(Port, Port));
    port_restricted_and_symmetric_are_relayed => check(Cell::Apart(Port, Symmetric));
    symmetric_and_full_cone_meet => check(Cell::Apart(Symmetric, FullCone));
    symmetric_and_address_restricted_meet => check(Cell::Apart(Symmetric, Address));
    symmetric_and_port_restricted_are_relayed => check(Cell::Apart(Symmetric, Port));
    symmetric_and_symmetric_are_relayed => check(Cell::Apart(Symmetric, Symmetric));

    peers_without_nat_meet => check(Cell::Apart(Open, Open));
    homes_with_the_same_private_addresses_meet => check(Cell::Apart(Home, Home));
    routers_that_remember_early_packets_meet => check(Cell::Apart(Remembering, Remembering));
    a_router_that_remembers_meets_one_that_does_not => check(Cell::Apart(Remembering, Port));
    a_router_that_does_not_remember_meets_one_that_does => check(Cell::Apart(Port, Remembering));
    a_double_nat_meets_a_home => check(Cell::Apart(Double, Home));
    a_home_meets_a_double_nat => check(Cell::Apart(Home, Double));
    two_double_nats_meet => check(Cell::Apart(Double, Double));
    peers_behind_one_router_meet => check(Cell::OneRouter);
}

fn check(cell: Cell) {
    cell.check();
}

#[test]
fn thirteen_of_the_sixteen_pairs_are_expected_to_meet() {
    let paths: Vec<Path> = Cell::classic().into_iter().map(|cell| cell.expected(Mode::Race)).collect();
    assert_eq!((paths.len(), paths.iter().filter(|path| **path == Path::Direct).count()), (16, 13));
}
