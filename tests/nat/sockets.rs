//! Plain UDP sockets in namespaces. In here packets are handed from one namespace to the next at once and in order, so a
//! packet that did not come before one that was sent after it on the same way does not come at all: nobody waits to see
//! that nothing happens.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::namespaces::Namespace;

/// A packet that is awaited comes at once or never.
const LOST_AFTER: Duration = Duration::from_secs(5);

/// The port of a peer's socket.
pub(crate) const PEER_PORT: u16 = 40_000;

/// Enough hops for anywhere.
const HOPS: u32 = 64;

/// Openers have at most so many hops.
pub(crate) const OPENER_HOPS: u32 = 4;

/// The last packet of those that are looked at.
const END: &str = "end";

/// A socket in a namespace.
pub(crate) struct Probe {
    socket: UdpSocket,
}

impl Probe {
    pub(crate) fn new(namespace: &Namespace, address: impl Into<IpAddr>, port: u16) -> Self {
        let address = SocketAddr::new(address.into(), port);
        let socket = namespace.within(|| UdpSocket::bind(address)).expect("nobody else is in there");
        socket.set_read_timeout(Some(LOST_AFTER)).expect("a socket takes a timeout");
        Self { socket }
    }

    /// A peer's socket.
    pub(crate) fn peer(namespace: &Namespace) -> Self {
        Self::new(namespace, Ipv4Addr::UNSPECIFIED, PEER_PORT)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("it is bound")
    }

    pub(crate) fn send(&self, what: &str, to: SocketAddr) {
        self.socket.send_to(what.as_bytes(), to).expect("there is a route");
    }

    /// Sends a packet that does not get far.
    pub(crate) fn send_opener(&self, to: SocketAddr) {
        self.socket.set_ttl(OPENER_HOPS).expect("a socket takes a number of hops");
        self.send("opener", to);
        self.socket.set_ttl(HOPS).expect("a socket takes a number of hops");
    }

    /// The next packet, and from where.
    #[track_caller]
    pub(crate) fn next(&self) -> (String, SocketAddr) {
        let mut packet = [0; 64];
        let (length, from) = self.socket.recv_from(&mut packet).expect("a packet that comes at once");
        (String::from_utf8_lossy(&packet[..length]).into_owned(), from)
    }

    /// The packets that came before the end.
    #[track_caller]
    pub(crate) fn until_the_end(&self) -> Vec<(String, SocketAddr)> {
        let next = || Some(self.next()).filter(|(what, _)| what != END);
        std::iter::from_fn(next).collect()
    }

    /// Ends what `until_the_end` of the other side looks at.
    pub(crate) fn send_end(&self, to: SocketAddr) {
        self.send(END, to);
    }

    /// Where a server sees this socket.
    #[track_caller]
    pub(crate) fn seen_by(&self, server: &Self) -> SocketAddr {
        self.send("where am I?", server.address());
        server.next().1
    }
}
