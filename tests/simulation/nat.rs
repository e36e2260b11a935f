//! NAT boxes, and the networks that they join: who hears a datagram, and from which address it seems to come. Mapping
//! and filtering as RFC 4787 names them. Loses nothing and takes no time; `nat_world` brings both.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::scene::Chance;

/// Routers between any two homes, so that an opener dies there.
const CORE_HOPS: u8 = 4;
/// The network that all others hang from.
const INTERNET: usize = 0;

/// What a NAT lets in, and whether each destination sees another port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    FullCone,
    AddressRestricted,
    PortRestricted,
    /// A random port for each destination, and nothing comes in but from there.
    Symmetric,
}

pub(crate) const KINDS: [Kind; 4] = [Kind::FullCone, Kind::AddressRestricted, Kind::PortRestricted, Kind::Symmetric];

/// How a NAT behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traits {
    pub(crate) kind: Kind,
    /// It keeps an entry for a datagram that nobody inside asked for; then the port is taken for whoever asks later.
    pub(crate) remembers_early: bool,
    /// Those inside can reach each other at its outer address.
    pub(crate) hairpins: bool,
    /// Whoever is alone with a port inside has the same outside.
    pub(crate) preserves_ports: bool,
    /// A mapping that nobody uses is forgotten.
    pub(crate) timeout: Duration,
}

#[derive(Debug)]
struct Flow {
    port: u16,
    used: Duration,
}

#[derive(Debug)]
struct Nat {
    traits: Traits,
    outer: Ipv4Addr,
    /// In which network its outer address lies. The one behind it has the number of the NAT and one more.
    outside: usize,
    mappings: BTreeMap<SocketAddr, u16>,
    flows: BTreeMap<(SocketAddr, SocketAddr), Flow>,
    early: BTreeSet<(u16, SocketAddr)>,
}

impl Nat {
    /// The address that the outside sees.
    fn outbound(&mut self, inner: SocketAddr, remote: SocketAddr, now: Duration, chance: &mut Chance) -> SocketAddr {
        self.forget(now);
        let known = self.flows.get(&(inner, remote)).map(|flow| flow.port);
        let port = known.unwrap_or_else(|| self.new_flow(inner, remote, chance));
        self.flows.insert((inner, remote), Flow { port, used: now });
        SocketAddr::from((self.outer, port))
    }

    fn new_flow(&mut self, inner: SocketAddr, remote: SocketAddr, chance: &mut Chance) -> u16 {
        if self.traits.kind == Kind::Symmetric {
            return self.free_port(chance);
        }
        let port = match self.mappings.get(&inner) {
            Some(&port) => port,
            None if self.traits.preserves_ports && !self.is_used(inner.port()) => inner.port(),
            None => self.free_port(chance),
        };
        self.mappings.insert(inner, port);
        if self.early.contains(&(port, remote)) { self.free_port(chance) } else { port }
    }

    fn is_used(&self, port: u16) -> bool {
        self.mappings.values().any(|&used| used == port) || self.flows.values().any(|flow| flow.port == port)
    }

    fn free_port(&self, chance: &mut Chance) -> u16 {
        loop {
            let port = 1_024 + u16::try_from(chance.below(60_000)).expect("it is below 60,000");
            if !self.is_used(port) {
                return port;
            }
        }
    }

    /// Who inside gets it.
    fn inbound(&mut self, remote: SocketAddr, port: u16, now: Duration) -> Option<SocketAddr> {
        self.forget(now);
        let lets_in = |wanted: &SocketAddr| match self.traits.kind {
            Kind::FullCone => true,
            Kind::AddressRestricted => wanted.ip() == remote.ip(),
            Kind::PortRestricted | Kind::Symmetric => *wanted == remote,
        };
        let found = self.flows.iter_mut().find(|((_, wanted), flow)| flow.port == port && lets_in(wanted));
        if let Some(((inner, _), flow)) = found {
            flow.used = now;
            return Some(*inner);
        }
        if self.traits.remembers_early {
            self.early.insert((port, remote));
        }
        None
    }

    fn forget(&mut self, now: Duration) {
        let timeout = self.traits.timeout;
        self.flows.retain(|_, flow| flow.used + timeout > now);
        let flows = &self.flows;
        self.mappings.retain(|inner, _| flows.keys().any(|(used, _)| used == inner));
    }
}

/// A socket.
#[derive(Debug, Clone, Copy)]
struct Host {
    network: usize,
    at: SocketAddr,
}

/// A datagram that has left its sender's own networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flight {
    network: usize,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    /// Whether it goes from home to home.
    pub(crate) is_far: bool,
}

/// All networks.
#[derive(Debug, Default)]
pub(crate) struct Networks {
    nats: Vec<Nat>,
    hosts: Vec<Host>,
}

impl Networks {
    /// Adds a NAT with an outer address in a network, and says which network it makes.
    pub(crate) fn add_nat(&mut self, traits: Traits, outside: usize, outer: Ipv4Addr) -> usize {
        let (mappings, flows, early) = Default::default();
        self.nats.push(Nat { traits, outer, outside, mappings, flows, early });
        self.nats.len()
    }

    /// Adds a socket, and says which it is.
    pub(crate) fn add_host(&mut self, network: usize, at: SocketAddr) -> usize {
        self.hosts.push(Host { network, at });
        self.hosts.len() - 1
    }

    pub(crate) fn address(&self, host: usize) -> SocketAddr {
        self.hosts[host].at
    }

    fn nat_at(&self, network: usize, at: SocketAddr) -> Option<usize> {
        self.nats.iter().position(|nat| nat.outside == network && nat.outer == at.ip())
    }

    /// A socket sends: through its own NATs, as long as there are hops left; `None` when it dies there.
    pub(crate) fn send(
        &mut self,
        host: usize,
        to: SocketAddr,
        hops: Option<u8>,
        now: Duration,
        chance: &mut Chance,
    ) -> Option<Flight> {
        let Host { mut network, at: mut from } = self.hosts[host];
        let mut hops = hops.unwrap_or(64);
        let mut passed = None;
        loop {
            let target = self.nat_at(network, to);
            if target.is_some() && target == passed {
                let hairpins = self.nats[passed?].traits.hairpins;
                return hairpins.then_some(Flight { network, from, to, is_far: false });
            }
            if target.is_some() || self.hosts.iter().any(|host| host.network == network && host.at.ip() == to.ip()) {
                break;
            }
            let nat = network.checked_sub(1)?;
            hops = hops.checked_sub(1).filter(|&left| left > 0)?;
            from = self.nats[nat].outbound(from, to, now, chance);
            network = self.nats[nat].outside;
            passed = Some(nat);
        }
        let is_far = network == INTERNET;
        (!is_far || hops > CORE_HOPS).then_some(Flight { network, from, to, is_far })
    }

    /// It comes to the other end's networks: which socket gets it?
    pub(crate) fn deliver(&mut self, flight: Flight, now: Duration) -> Option<usize> {
        let Flight { mut network, from, mut to, .. } = flight;
        loop {
            if let Some(host) = self.hosts.iter().position(|host| host.network == network && host.at == to) {
                return Some(host);
            }
            let nat = self.nat_at(network, to)?;
            to = self.nats[nat].inbound(from, to.port(), now)?;
            network = nat + 1;
        }
    }
}

// --- the model is what it says

fn traits(kind: Kind) -> Traits {
    let timeout = Duration::from_secs(30);
    Traits { kind, remembers_early: false, hairpins: false, preserves_ports: true, timeout }
}

#[test]
fn each_kind_of_nat_lets_in_what_it_should() {
    let (inner, friend) = (SocketAddr::from(([10, 0, 0, 2], 40)), SocketAddr::from(([9, 0, 0, 1], 40)));
    let (friends_other_port, stranger) = (SocketAddr::from(([9, 0, 0, 1], 41)), SocketAddr::from(([9, 0, 0, 2], 40)));
    for kind in KINDS {
        let mut chance = Chance::new(1);
        let mut networks = Networks::default();
        let inside = networks.add_nat(traits(kind), INTERNET, Ipv4Addr::new(8, 0, 0, 1));
        let host = networks.add_host(inside, inner);
        networks.add_host(INTERNET, friend);
        networks.add_host(INTERNET, stranger);
        let seen = networks.send(host, friend, None, Duration::ZERO, &mut chance).unwrap().from;
        let comes = |networks: &mut Networks, from: SocketAddr, now| {
            networks.deliver(Flight { network: INTERNET, from, to: seen, is_far: true }, now).is_some()
        };
        let lets_in = [friend, friends_other_port, stranger].map(|from| comes(&mut networks, from, Duration::ZERO));
        let expected = match kind {
            Kind::FullCone => [true, true, true],
            Kind::AddressRestricted => [true, true, false],
            Kind::PortRestricted | Kind::Symmetric => [true, false, false],
        };
        assert_eq!(lets_in, expected, "{kind:?}");
        assert!(!comes(&mut networks, friend, Duration::from_secs(31)), "{kind:?} forgets");
    }
}

#[test]
fn only_a_symmetric_nat_shows_each_destination_another_port() {
    for kind in KINDS {
        let mut chance = Chance::new(1);
        let mut networks = Networks::default();
        let inside = networks.add_nat(traits(kind), INTERNET, Ipv4Addr::new(8, 0, 0, 1));
        let host = networks.add_host(inside, SocketAddr::from(([10, 0, 0, 2], 40)));
        let others = [1, 2].map(|last| SocketAddr::from(([9, 0, 0, last], 40)));
        for at in others {
            networks.add_host(INTERNET, at);
        }
        let [one, other] = others.map(|to| networks.send(host, to, None, Duration::ZERO, &mut chance).unwrap().from);
        assert_eq!(one == other, kind != Kind::Symmetric, "{kind:?}");
    }
}

#[test]
fn an_opener_opens_its_own_nats_and_dies_before_the_other() {
    let mut chance = Chance::new(1);
    let mut networks = Networks::default();
    let outer = networks.add_nat(traits(Kind::PortRestricted), INTERNET, Ipv4Addr::new(8, 0, 0, 1));
    let inner = networks.add_nat(traits(Kind::PortRestricted), outer, Ipv4Addr::new(100, 64, 0, 1));
    let host = networks.add_host(inner, SocketAddr::from(([10, 0, 0, 2], 40)));
    let to = SocketAddr::from(([9, 0, 0, 1], 40));
    networks.add_host(INTERNET, to);
    for (hops, opens) in [(2, [0, 1]), (3, [1, 1]), (4, [1, 1])] {
        assert_eq!(networks.send(host, to, Some(hops), Duration::ZERO, &mut chance), None);
        assert_eq!([&networks.nats[0], &networks.nats[1]].map(|nat| nat.flows.len()), opens, "{hops} hops");
    }
    assert!(networks.send(host, to, None, Duration::ZERO, &mut chance).is_some());
}
