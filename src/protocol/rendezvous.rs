//! How two peers find a way to each other: through the relay at once, and directly as soon as that works. One machine for
//! each announced dial and side; the other side runs the same.
//!
//! ```text
//! asker:  grant --> openers --> Opened (told to the directory) --> punching --.
//! asked:  announcement --> openers --> answer .... Opened, a punch, 1 s --> punching --+--> a punch came: dial where it
//!                                                                                    |    came from; accept as well
//!         one proven connection --controlling side nominates it--> direct  <---------'
//! relay:  Join --> Challenge --> Echo --> Joined; then the asker dials it like any other address
//! ```
//!
//! * The opener is one byte with so few hops left that it opens the sender's own NAT and dies before the other one: a
//!   router that sees an unsolicited packet first would keep an entry that the mapping then collides with.
//! * Nothing but punches of 17 bytes goes to an address from which no punch with this dial has come: whoever lists a
//!   stranger as a candidate makes nobody send it a handshake. Even a forged punch costs less than 10 kB.
//! * Both sides dial and both accept, so that it does not matter whose NAT gives each destination a port of its own. The
//!   controlling side, the one with the smaller key, says which connection is used; the others are closed.
//!
//! `relay_leg` and `direct_search` do the two halves; this says what they have in common. Times count from any fixed
//! moment, by a clock that never goes back.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::direct_search::DirectSearch;
use super::relay_leg::RelayLeg;
use crate::wire::datagram::Datagram;
use crate::wire::ids::{DialId, Ticket};

/// Which side of a dial this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It asked the directory for the dial.
    Asker,
    /// It was announced the dial.
    Asked,
}

/// What a rendezvous begins with.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The announced dial.
    pub dial: DialId,
    /// Which side this is.
    pub side: Side,
    /// Whether this side nominates: its key is the smaller one.
    pub is_controlling: bool,
    /// Where the other side may be, filtered for what this machine may send to; `None` when there shall be no direct path.
    pub candidates: Option<Vec<SocketAddr>>,
    /// The relay's port and this side's ticket.
    pub relay: Option<(SocketAddr, Ticket)>,
    /// The round-trip time to the directory.
    pub round_trip: Duration,
}

/// One connection of a rendezvous, by a number that the driver draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionNumber(pub u32);

/// How far one half of a rendezvous is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It goes on.
    Open,
    /// It has led to this connection.
    Used(ConnectionNumber),
    /// It has come to nothing.
    Failed,
}

/// How a connection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Path {
    /// From peer to peer.
    Direct,
    /// Through the directory's relay.
    Relayed,
}

/// Why there is no direct path although one was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NoDirectPath {
    /// The other side gave no address that this machine may send to.
    NoCandidate,
    /// No punch came: the NATs between let none through.
    NoPunch,
    /// Punches came, but no connection.
    NoConnection,
}

/// What a rendezvous wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this beside QUIC, with so many hops left if that is named. Nobody minds when it is lost.
    Send {
        /// Where to.
        to: SocketAddr,
        /// The time to live (RFC 791) or hop limit (RFC 8200); the usual one when there is none.
        hops: Option<u8>,
        /// What.
        datagram: Datagram,
    },
    /// Tell the directory that this side's NAT is open.
    TellOpened,
    /// Connect to an address. Ends as [`Rendezvous::handle_connected`] or [`Rendezvous::handle_dial_failed`].
    Dial {
        /// Where to.
        to: SocketAddr,
        /// How it goes.
        path: Path,
        /// When to give up.
        within: Duration,
    },
    /// Tell the other side over a direct connection that this is the one, and use it from now on.
    Nominate(ConnectionNumber),
    /// Use a connection from now on: the relayed one, or a direct one that the other side has nominated.
    Use(ConnectionNumber, Path),
    /// Close a connection that is not used: there is another.
    Close(ConnectionNumber),
    /// There will be no relayed connection.
    RelayFailed,
    /// There will be no direct connection.
    DirectFailed(NoDirectPath),
    /// Nothing more will come of it. The last output.
    Ended,
}

/// The machine of one dial on one side.
#[derive(Debug)]
pub struct Rendezvous {
    leg: Option<RelayLeg>,
    search: Option<DirectSearch>,
    /// Bounded by what the two halves can ever want, and by how many connections the endpoint lets in.
    outputs: VecDeque<Output>,
    has_ended: bool,
}

impl Rendezvous {
    /// Begins at a time.
    #[must_use]
    pub fn new(terms: Terms, now: Duration) -> Self {
        let mut outputs = VecDeque::new();
        // The relay first: it is what surely comes.
        let leg = terms.relay.map(|(relay, ticket)| RelayLeg::begin(relay, ticket, &terms, now, &mut outputs));
        let search = terms.candidates.as_ref().map(|candidates| {
            // Punches through the relay would look like punches of the relay itself.
            let is_relay = |at: SocketAddr| leg.as_ref().is_some_and(|leg| leg.is_at(at));
            let candidates: Vec<_> = candidates.iter().map(|&at| canonical(at)).filter(|&at| !is_relay(at)).collect();
            DirectSearch::begin(&candidates, &terms, now, &mut outputs)
        });
        let mut rendezvous = Self { leg, search, outputs, has_ended: false };
        rendezvous.end_when_decided();
        rendezvous
    }

    /// A datagram beside QUIC came: a punch with this dial, or what the relay says to this side's ticket.
    pub fn handle_datagram(&mut self, from: SocketAddr, datagram: &Datagram, now: Duration) {
        let from = canonical(from);
        match (&mut self.leg, &mut self.search) {
            (Some(leg), _) if leg.is_at(from) => leg.handle_datagram(datagram, now, &mut self.outputs),
            (_, Some(search)) => search.handle_datagram(from, datagram, now, &mut self.outputs),
            (_, None) => {}
        }
    }

    /// The directory says that the other side's NAT is open.
    pub fn handle_opened(&mut self, now: Duration) {
        if let Some(search) = &mut self.search {
            search.start_punching(now, &mut self.outputs);
        }
    }

    /// A connection has shaken hands, whichever side dialled it. `from` is where the other end is.
    pub fn handle_connected(&mut self, number: ConnectionNumber, from: SocketAddr, now: Duration) {
        let from = canonical(from);
        match (&mut self.leg, &mut self.search) {
            _ if self.has_ended => self.outputs.push_back(Output::Close(number)),
            (Some(leg), _) if leg.is_at(from) => leg.handle_connected(number, &mut self.outputs),
            (_, Some(search)) => search.handle_connected(number, now, &mut self.outputs),
            // No direct path is wanted.
            (_, None) => self.outputs.push_back(Output::Close(number)),
        }
        self.end_when_decided();
    }

    /// An [`Output::Dial`] came to nothing. A direct one is not repeated: see `direct_search`.
    pub fn handle_dial_failed(&mut self, to: SocketAddr, now: Duration) {
        if let Some(leg) = self.leg.as_mut().filter(|leg| leg.is_at(canonical(to))) {
            leg.handle_dial_failed(now);
        }
    }

    /// The other side says that this direct connection is the one.
    pub fn handle_nominated(&mut self, number: ConnectionNumber, _now: Duration) {
        if let Some(search) = self.search.as_mut().filter(|_| !self.has_ended) {
            search.handle_nominated(number, &mut self.outputs);
        }
        self.end_when_decided();
    }

    /// A connection has ended.
    pub fn handle_lost(&mut self, number: ConnectionNumber, now: Duration) {
        if self.has_ended {
            return;
        }
        if let Some(leg) = &mut self.leg {
            leg.handle_lost(number, now);
        }
        if let Some(search) = &mut self.search {
            search.handle_lost(number);
        }
    }

    /// The time that [`Self::poll_timeout`] named has come.
    pub fn handle_timeout(&mut self, now: Duration) {
        if let Some(leg) = &mut self.leg {
            leg.handle_timeout(now, &mut self.outputs);
        }
        if let Some(search) = &mut self.search {
            search.handle_timeout(now, &mut self.outputs);
        }
        self.end_when_decided();
    }

    /// What to do next; `None` until something else happens.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Self::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let leg = self.leg.as_ref().and_then(RelayLeg::poll_timeout);
        let search = self.search.as_ref().and_then(DirectSearch::poll_timeout);
        leg.into_iter().chain(search).min().filter(|_| !self.has_ended)
    }

    fn end_when_decided(&mut self) {
        let leg = self.leg.as_ref().is_none_or(RelayLeg::is_decided);
        let search = self.search.as_ref().is_none_or(DirectSearch::is_decided);
        if leg && search && !self.has_ended {
            self.has_ended = true;
            self.outputs.push_back(Output::Ended);
        }
    }
}

/// A socket for both families shows IPv4 addresses as IPv6 ones (RFC 4291, section 2.5.5.2); here they have one form.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// How long after a search in vain the next one begins while the relay is in use, by how often it was repeated already:
/// after a minute, five and then every fifteen.
#[must_use]
pub fn retry_after(repeated: u32) -> Duration {
    Duration::from_secs(match repeated {
        0 => 60,
        1 => 5 * 60,
        _ => 15 * 60,
    })
}

#[cfg(test)]
#[path = "rendezvous_tests.rs"]
mod tests;
