//! The addresses at which peers look for each other: which ones are offered, and which ones are worth dialling.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::context::Context;
use crate::wire::limits::CANDIDATES_MAX;

/// The local addresses from which this machine reaches the directory and the internet, one for each family: what peers on
/// the same network, and those with that family, can use.
pub(super) fn own_candidates(context: &Context) -> Vec<SocketAddr> {
    let session = context.session.borrow().clone();
    let Some(directory) = session.map(|session| session.remote_address()) else { return Vec::new() };
    // Nothing is sent there: an address of a documentation network (RFC 5737, RFC 3849) selects the route.
    let far_v4 = SocketAddr::from(([192, 0, 2, 1], 9));
    let far_v6 = SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 9));
    let mut own = Vec::new();
    for towards in [directory, far_v4, far_v6] {
        if let Ok(address) = context.endpoint.local_address_towards(towards)
            && !own.contains(&address)
        {
            own.push(address);
        }
    }
    own
}

/// The addresses worth trying, whatever the other side or the directory says.
pub(super) fn usable_candidates(context: &Context, candidates: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let own = own_candidates(context);
    let mut usable: Vec<SocketAddr> = Vec::new();
    for address in candidates {
        let suits = address.port() != 0 && own.iter().any(|own| is_reachable(address.ip(), own.ip()));
        if suits && !own.contains(&address) && !usable.contains(&address) && usable.len() < CANDIDATES_MAX {
            usable.push(address);
        }
    }
    usable
}

/// Whether an address is unicast, of a family of ours, and on a network that we can be on: nobody can send us knocking at
/// addresses of our own machine or of private networks that are not ours.
fn is_reachable(address: IpAddr, own: IpAddr) -> bool {
    match (address, own) {
        (IpAddr::V4(address), IpAddr::V4(own)) => {
            let is_unicast = !address.is_multicast() && !address.is_broadcast() && address.octets()[0] != 0;
            is_unicast && private_network_v4(address).is_none_or(|network| private_network_v4(own) == Some(network))
        }
        (IpAddr::V6(address), IpAddr::V6(own)) => {
            let is_unicast = !address.is_multicast() && !address.is_unspecified();
            // Of no use without the name of a network interface, which only its own machine knows.
            let is_link_local = address.is_unicast_link_local();
            is_unicast
                && !is_link_local
                && private_network_v6(address).is_none_or(|network| private_network_v6(own) == Some(network))
        }
        _ => false,
    }
}

/// Which network that is not the internet an address belongs to (RFC 1122, RFC 1918, RFC 3927).
fn private_network_v4(address: Ipv4Addr) -> Option<u8> {
    match address.octets() {
        [127, ..] => Some(127),
        [10, ..] => Some(10),
        [172, 16..=31, ..] => Some(172),
        [192, 168, ..] => Some(192),
        [169, 254, ..] => Some(169),
        _ => None,
    }
}

/// The same for IPv6: loopback, unique local by its prefix (RFC 4193).
fn private_network_v6(address: Ipv6Addr) -> Option<[u16; 3]> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Some([0, 0, 1]),
        [first @ 0xfc00..=0xfdff, second, third, ..] => Some([first, second, third]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(address: &str, own: &str, expected: bool) {
        assert_eq!(is_reachable(address.parse().unwrap(), own.parse().unwrap()), expected, "{address} from {own}");
    }

    #[test]
    fn only_the_internet_and_our_own_networks_are_dialled() {
        check("203.0.113.7", "192.168.1.2", true);
        check("192.168.1.9", "192.168.1.2", true);
        check("127.0.0.1", "127.0.0.1", true);
        check("2001:db8::1", "2001:db8::2", true);
        check("fd12:3456:789a::1", "fd12:3456:789a:1::2", true);
        check("127.0.0.1", "192.168.1.2", false);
        check("10.0.0.1", "192.168.1.2", false);
        check("192.168.1.9", "203.0.113.7", false);
        check("224.0.0.1", "192.168.1.2", false);
        check("255.255.255.255", "192.168.1.2", false);
        check("0.0.0.0", "192.168.1.2", false);
        check("fd00::1", "2001:db8::2", false);
        check("fe80::1", "fe80::2", false);
        check("::1", "2001:db8::2", false);
        check("2001:db8::1", "192.168.1.2", false);
    }
}
