//! The network that a request comes from, as coarse as one person can have it: limits count by it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The first 24 bits of an IPv4 address or the first 48 of an IPv6 address: what one customer of a provider may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SourcePrefix(IpAddr);

impl SourcePrefix {
    /// The prefix of an address; an IPv4 address in IPv6 form counts as IPv4.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & (u32::MAX << (32 - 24)))),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << (128 - 48)))),
        })
    }

    /// The first address of the prefix, from which [`Self::of`] makes the prefix again.
    #[must_use]
    pub fn address(self) -> IpAddr {
        self.0
    }

    /// Whether it is this machine.
    #[must_use]
    pub fn is_loopback(self) -> bool {
        // ::1 without its last bits is ::, which is no source of anything else.
        self.0.is_loopback() || self.0.is_unspecified()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(one: &str, other: &str, same: bool) {
        let prefix = |text: &str| SourcePrefix::of(text.parse().unwrap());
        assert_eq!(prefix(one) == prefix(other), same, "{one} and {other}");
    }

    #[test]
    fn neighbours_share_a_prefix() {
        check("192.0.2.1", "192.0.2.254", true);
        check("192.0.2.1", "192.0.3.1", false);
        check("2001:db8:1:2::1", "2001:db8:1:ffff::2", true);
        check("2001:db8:1::1", "2001:db8:2::1", false);
        check("::ffff:192.0.2.1", "192.0.2.9", true);
    }

    #[test]
    fn this_machine_is_recognised() {
        for (address, loopback) in [("127.0.0.1", true), ("127.9.9.9", true), ("::1", true), ("192.0.2.1", false)] {
            assert_eq!(SourcePrefix::of(address.parse().unwrap()).is_loopback(), loopback, "{address}");
        }
    }
}
