//! From which addresses this peer's socket is seen: the directory's second port says whether a NAT in between gives each
//! destination a port of its own, and the directory's other address family whether this machine has that too.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::context::Context;
use super::path::Nat;
use crate::wire::account::LoggedIn;
use crate::wire::datagram::Datagram;
use crate::wire::ids::Ticket;
use crate::wire::limits::CANDIDATES_MAX;
use crate::wire::rendezvous::PortTicket;

/// How often an observation is asked for, and how long an answer is waited for each time.
const ASKED_MAX: usize = 5;
const PATIENCE: Duration = Duration::from_millis(400);

/// Where this peer's socket is seen from.
#[derive(Debug, Default)]
pub(super) struct Observations {
    seen: Mutex<Seen>,
    came: Notify,
}

/// What was seen in the present session.
#[derive(Debug, Default)]
struct Seen {
    /// Shown by whoever observes.
    ticket: Option<Ticket>,
    /// Where the second port is: nobody else's challenge is answered.
    asked: Vec<SocketAddr>,
    /// By the directory itself.
    by_directory: Option<SocketAddr>,
    /// At its second port, in each family.
    at_second_port: Vec<SocketAddr>,
}

impl Observations {
    /// Begins anew with a session.
    fn begin(&self, by_directory: SocketAddr, ticket: Option<Ticket>) {
        *self.lock() = Seen { ticket, by_directory: Some(by_directory), ..Seen::default() };
    }

    /// Hears what is said beside QUIC: what to send back where it came from.
    pub(super) fn hear(&self, from: SocketAddr, datagram: Datagram) -> Option<Datagram> {
        if let Datagram::Observed { ticket, address } = datagram {
            self.take(ticket, address);
        }
        let seen = self.lock();
        if seen.asked.contains(&from) { proof(seen.ticket?, datagram) } else { None }
    }

    fn ask(&self, address: SocketAddr) {
        let mut seen = self.lock();
        if !seen.asked.contains(&address) && seen.asked.len() < CANDIDATES_MAX {
            seen.asked.push(address);
        }
    }

    /// Takes an answer of the second port, if it is one.
    fn take(&self, ticket: Ticket, address: SocketAddr) {
        let mut seen = self.lock();
        let is_news = seen.ticket == Some(ticket) && !seen.at_second_port.contains(&address);
        if is_news && seen.at_second_port.len() < CANDIDATES_MAX {
            seen.at_second_port.push(address);
            drop(seen);
            self.came.notify_one();
        }
    }

    /// The address at which the directory sees this peer.
    pub(super) fn by_directory(&self) -> Option<SocketAddr> {
        self.lock().by_directory
    }

    /// What lies between this machine and the directory, given the socket's own address on the way to it.
    pub(super) fn nat(&self, local: SocketAddr) -> Option<Nat> {
        let seen = self.lock();
        let first = seen.by_directory?;
        let second = seen.at_second_port.iter().find(|second| second.is_ipv4() == first.is_ipv4());
        nat_between(Some(local), first, second.copied())
    }

    fn has(&self, is_ipv4: bool) -> bool {
        self.lock().at_second_port.iter().any(|address| address.is_ipv4() == is_ipv4)
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What lies between a socket with this address of its own and two ports of one machine that see it at these addresses.
pub(super) fn nat_between(local: Option<SocketAddr>, first: SocketAddr, second: Option<SocketAddr>) -> Option<Nat> {
    match second {
        Some(second) if second != first => Some(Nat::AddressDependent),
        _ if local == Some(first) => Some(Nat::None),
        Some(_) => Some(Nat::EndpointIndependent),
        None => None,
    }
}

/// What to answer to whoever was sent an [`Datagram::Observe`] with this ticket: the proof that this socket receives where
/// it sends from, when that is asked for.
pub(super) fn proof(observe: Ticket, heard: Datagram) -> Option<Datagram> {
    match heard {
        Datagram::Challenge { ticket, nonce } if ticket == observe => Some(Datagram::Echo { ticket, nonce }),
        _ => None,
    }
}

/// Asks the directory's second port, at each of its addresses, where this socket is seen.
pub(super) async fn observe(context: &Context, logged_in: &LoggedIn) {
    let observations = &context.observations;
    observations.begin(logged_in.observed, logged_in.observe.map(|second| second.ticket));
    let Some(PortTicket { port, ticket }) = logged_in.observe else { return };
    let Ok(addresses) = context.account.directory.resolve().await else { return };
    for _ in 0..ASKED_MAX {
        let unanswered = addresses.iter().filter(|address| !observations.has(address.is_ipv4()));
        let unanswered: Vec<_> = unanswered.map(|address| SocketAddr::new(address.ip(), port)).collect();
        if unanswered.is_empty() {
            return;
        }
        for address in unanswered {
            observations.ask(address);
            context.endpoint.send_datagram(address, &Datagram::Observe { ticket }, None);
        }
        // Woken early by any answer, and then the others are asked again.
        drop(tokio::time::timeout(PATIENCE, observations.came.notified()).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICKET: Ticket = Ticket::from_bytes([7; 16]);

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn observing(own: &str) -> Observations {
        let observations = Observations::default();
        observations.begin(at(own), Some(TICKET));
        observations.ask(at("192.0.2.1:4434"));
        observations
    }

    #[test]
    fn only_the_second_port_is_given_a_proof() {
        let observations = observing("198.51.100.1:9");
        let challenge = |ticket| Datagram::Challenge { ticket, nonce: [5; 16] };
        let echo = Datagram::Echo { ticket: TICKET, nonce: [5; 16] };
        assert_eq!(observations.hear(at("192.0.2.1:4434"), challenge(TICKET)), Some(echo));
        assert_eq!(observations.hear(at("192.0.2.2:4434"), challenge(TICKET)), None, "somebody else");
        assert_eq!(
            observations.hear(at("192.0.2.1:4434"), challenge(Ticket::from_bytes([8; 16]))),
            None,
            "or for else"
        );
        observations.begin(at("198.51.100.1:9"), Some(TICKET));
        assert_eq!(observations.hear(at("192.0.2.1:4434"), challenge(TICKET)), None, "a session before asked it");
    }

    #[test]
    fn two_ports_tell_what_lies_between() {
        let (inside, second) = (at("10.0.0.7:9"), at("192.0.2.1:4434"));
        for (address, nat) in [("198.51.100.1:9", Nat::EndpointIndependent), ("198.51.100.1:10", Nat::AddressDependent)]
        {
            let observations = observing("198.51.100.1:9");
            assert_eq!(observations.nat(inside), None, "it is not known yet");
            let observed = Datagram::Observed { ticket: TICKET, address: at(address) };
            assert_eq!(observations.hear(second, observed), None);
            assert_eq!(observations.nat(inside), Some(nat));
        }
        assert_eq!(observing("10.0.0.7:9").nat(inside), Some(Nat::None));
    }
}
