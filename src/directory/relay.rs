//! The relay: UDP ports at which two sessions that cannot reach each other directly meet. It forwards what it cannot read;
//! `protocol::relay` decides. And it tells sessions from where their datagrams come.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::login::observed;
use super::registry::Session;
use crate::protocol::address_proof::Challenges;
use crate::protocol::relay::{self as table, Batch, Bucket, Counters, DropReason, Limits, Overview, Party, Route};
use crate::seal::random::{self, OsRandom};
use crate::transport::batch_socket::{BATCHES, BatchSocket, Buffers, Received};
use crate::transport::tuning::Network;
use crate::wire::datagram::{Datagram, is_beside_quic};
use crate::wire::ids::{PeerName, Ticket};
use crate::wire::limits::{CANDIDATES_MAX, OBSERVATIONS_PER_SECOND, OBSERVERS_MAX, RELAY_PORTS, RELAY_PORTS_MAX};
use crate::wire::rendezvous::PortTicket;

/// How often sessions that are over are looked for.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(1);

/// What a relay needs to know to start.
#[derive(Debug, Clone, Copy, Default)]
pub struct RelaySettings {
    /// At which UDP ports.
    pub ports: RelayPorts,
    /// How much.
    pub limits: Limits,
}

/// The UDP ports of a relay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RelayPorts {
    /// Those that follow the directory's own; any when that is any.
    #[default]
    Following,
    /// So many that are free.
    Any(u16),
    /// These, both ends included.
    Range(u16, u16),
    /// None: nothing is relayed.
    Off,
}

/// A port that the relay cannot have.
#[derive(Debug, thiserror::Error)]
#[error("the relay cannot have UDP port {port}: {source}")]
pub struct RelayPortError {
    /// Which.
    pub port: u16,
    /// Why.
    source: io::Error,
}

/// The relay of one directory.
#[derive(Debug)]
pub(super) struct Relay {
    sockets: Vec<(u16, BatchSocket)>,
    state: Mutex<State>,
    began: Instant,
}

/// The two legs of a relayed session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Legs {
    /// Of whoever asked for the connection: its budget is charged.
    pub(super) asker: PortTicket,
    /// Of the other side.
    pub(super) asked: PortTicket,
}

#[derive(Debug)]
struct State {
    relay: table::Relay,
    observers: HashMap<Ticket, Observer>,
}

/// A session that may ask where it is seen.
#[derive(Debug)]
struct Observer {
    session: Weak<Session>,
    port: u16,
    /// Addresses that have asked and not echoed.
    challenged: Challenges,
    answers: Bucket,
}

impl RelayPorts {
    /// The ports for a directory that listens at one; 0 stands for any that is free.
    fn numbers(self, listen: u16) -> Vec<u16> {
        match self {
            Self::Following if listen == 0 => vec![0; RELAY_PORTS.into()],
            Self::Following => (1..=RELAY_PORTS).filter_map(|number| listen.checked_add(number)).collect(),
            Self::Any(count) => vec![0; count.into()],
            Self::Range(first, last) => (first..=last).collect(),
            Self::Off => Vec::new(),
        }
    }
}

impl Relay {
    /// Takes the ports on the directory's address; `asked` is the port that it was asked to listen at. Needs a tokio
    /// runtime.
    pub(super) fn bind(
        directory: SocketAddr,
        asked: u16,
        settings: RelaySettings,
        network: Network,
    ) -> Result<Self, RelayPortError> {
        let mut sockets = Vec::new();
        for port in settings.ports.numbers(asked).into_iter().take(RELAY_PORTS_MAX) {
            let bound = BatchSocket::bind(SocketAddr::new(directory.ip(), port), network);
            let named = bound.and_then(|socket| Ok((socket.local_address()?.port(), socket)));
            sockets.push(named.map_err(|source| RelayPortError { port, source })?);
        }
        let ports = sockets.iter().map(|(port, _)| *port).collect();
        let state =
            State { relay: table::Relay::new(settings.limits, ports, Duration::ZERO), observers: HashMap::new() };
        Ok(Self { sockets, state: Mutex::new(state), began: Instant::now() })
    }

    /// Its ports; none when nothing is relayed.
    pub(super) fn ports(&self) -> Vec<u16> {
        self.sockets.iter().map(|(port, _)| *port).collect()
    }

    /// Opens a session; `None` when there is no room for it, or the asker's budget is used up.
    pub(super) fn open(&self, asker: &Session, asked: &Session) -> Option<Legs> {
        let tickets = [(), ()].map(|()| Ticket::from_bytes(random::array(&mut OsRandom)));
        let [asker, asked] = self.lock().relay.open(party(asker), party(asked), tickets, self.now())?;
        Some(Legs { asker, asked })
    }

    /// Ends a session that nobody will join.
    pub(super) fn end(&self, legs: Legs) {
        self.lock().relay.end(legs.asker.ticket);
    }

    /// Where a session may ask from which other addresses its socket is seen; what is seen is added to its
    /// [`Session::addresses`]. The session is given one such place, and it is forgotten with it.
    pub(super) fn observe(&self, session: &Arc<Session>) -> Option<PortTicket> {
        let ticket = Ticket::from_bytes(random::array(&mut OsRandom));
        let mut state = self.lock();
        let place = state.observers.len().checked_rem(self.sockets.len())?;
        let (port, _) = self.sockets.get(place)?;
        if state.observers.len() >= OBSERVERS_MAX {
            state.forget_gone();
        }
        if state.observers.len() >= OBSERVERS_MAX {
            return None;
        }
        let answers = Bucket::new(OBSERVATIONS_PER_SECOND, OBSERVATIONS_PER_SECOND, self.now());
        let observer =
            Observer { session: Arc::downgrade(session), port: *port, challenged: Challenges::default(), answers };
        state.observers.insert(ticket, observer);
        Some(PortTicket { port: *port, ticket })
    }

    /// Ends what is relayed for an account.
    pub(super) fn end_account(&self, name: &PeerName) {
        self.lock().relay.end_account(name);
    }

    /// What became of everything, and the sessions that are open.
    pub(super) fn report(&self) -> (Counters, Vec<Overview>) {
        let state = self.lock();
        (state.relay.counters(), state.relay.overview(self.now()))
    }

    /// Starts its tasks, which end when their owner ends them.
    pub(super) fn start(self: &Arc<Self>, tasks: &mut JoinSet<()>) {
        for place in 0..self.sockets.len() {
            tasks.spawn(self.clone().serve(place));
        }
        tasks.spawn(self.clone().expire_again_and_again());
    }

    async fn serve(self: Arc<Self>, place: usize) {
        let Some((port, socket)) = self.sockets.get(place) else { return };
        let mut buffers = Buffers::default();
        loop {
            match socket.receive(&mut buffers).await {
                Ok(batches) => {
                    let taken = batches.map(|batch| self.take(*port, socket, batch)).count();
                    // More waits: in a flood others on this thread have their turn, too.
                    if taken == BATCHES {
                        tokio::task::yield_now().await;
                    }
                }
                Err(error) => {
                    tracing::debug!(port, %error, "nothing received");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }

    async fn expire_again_and_again(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(EXPIRY_INTERVAL);
        loop {
            ticks.tick().await;
            self.expire_after(Duration::ZERO);
        }
    }

    /// Ends what will be over in a while, or now.
    pub(super) fn expire_after(&self, wait: Duration) {
        let mut state = self.lock();
        state.relay.expire(self.now() + wait);
        state.forget_gone();
    }

    /// Deals with what came together from one address: mostly QUIC of a session, and then all of it.
    fn take(&self, port: u16, socket: &BatchSocket, batch: Received<'_>) {
        if !batch.datagrams().any(is_beside_quic) {
            return self.forward(port, socket, batch);
        }
        for datagram in batch.datagrams() {
            if is_beside_quic(datagram) {
                self.answer(port, socket, batch.part(datagram));
            } else {
                self.forward(port, socket, batch.part(datagram));
            }
        }
    }

    fn forward(&self, port: u16, socket: &BatchSocket, batch: Received<'_>) {
        let size = Batch { bytes: batch.bytes.len(), datagram_bytes: batch.datagram_bytes };
        let Some(pass) = self.lock().relay.forward(port, batch.from, size, self.now()) else { return };
        let passed = batch.bytes.get(..pass.bytes).unwrap_or(batch.bytes);
        let lost = socket.forward(pass.to.remote, pass.to.local, batch.part(passed));
        if lost > 0 {
            self.lock().relay.count(DropReason::NotSent, lost as u64);
        }
    }

    fn answer(&self, port: u16, socket: &BatchSocket, datagram: Received<'_>) {
        let from = Route { remote: datagram.from, local: datagram.to };
        let now = self.now();
        let mut state = self.lock();
        let answers = match Datagram::decode(datagram.bytes) {
            Some(Datagram::Join { ticket }) => {
                state.relay.join(port, from, ticket, random::array(&mut OsRandom)).into_iter().collect()
            }
            Some(Datagram::Echo { ticket, nonce }) if state.observers.contains_key(&ticket) => {
                state.observed(port, from, ticket, nonce).into_iter().collect()
            }
            Some(Datagram::Echo { ticket, nonce }) => state.relay.echo(port, from, ticket, nonce, now),
            Some(Datagram::Observe { ticket }) => {
                state.observe(port, from, ticket, random::array(&mut OsRandom), now).into_iter().collect()
            }
            Some(
                Datagram::Opener
                | Datagram::Punch { .. }
                | Datagram::Challenge { .. }
                | Datagram::Joined { .. }
                | Datagram::Observed { .. },
            )
            | None => {
                state.relay.count(DropReason::Malformed, 1);
                Vec::new()
            }
        };
        drop(state);
        for (to, answer) in answers {
            if !socket.send(to.remote, to.local, &answer.encode()) {
                self.lock().relay.count(DropReason::NotSent, 1);
            }
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Has a session prove that it receives where its question comes from: a source may be forged.
    fn observe(
        &mut self,
        port: u16,
        from: Route,
        ticket: Ticket,
        nonce: [u8; 16],
        now: Duration,
    ) -> Option<(Route, Datagram)> {
        let (_, observer) = self.observer(port, ticket)?;
        if observer.answers.left(now) == 0 {
            self.relay.count(DropReason::OverRate, 1);
            return None;
        }
        observer.answers.take(1);
        let nonce = observer.challenged.challenge(from.remote, nonce);
        Some((from, Datagram::Challenge { ticket, nonce }))
    }

    /// Notes where a session is seen that has proved it, and tells it.
    fn observed(&mut self, port: u16, from: Route, ticket: Ticket, nonce: [u8; 16]) -> Option<(Route, Datagram)> {
        let (session, observer) = self.observer(port, ticket)?;
        if !observer.challenged.is_proof(from.remote, nonce) {
            self.relay.count(DropReason::BadEcho, 1);
            return None;
        }
        note_address(&session, from.remote);
        Some((from, Datagram::Observed { ticket, address: from.remote }))
    }

    fn observer(&mut self, port: u16, ticket: Ticket) -> Option<(Arc<Session>, &mut Observer)> {
        let observer = self.observers.get_mut(&ticket).filter(|observer| observer.port == port);
        let found = observer.and_then(|observer| Some((observer.session.upgrade()?, observer)));
        if found.is_none() {
            self.relay.count(DropReason::BadTicket, 1);
        }
        found
    }

    fn forget_gone(&mut self) {
        self.observers.retain(|_, observer| observer.session.strong_count() > 0);
    }
}

fn party(session: &Session) -> Party {
    // A session stays where it is in memory, so no two that live have the same number; one that comes later may, and then
    // only avoids a port without need.
    let login = std::ptr::from_ref(session).addr();
    Party { name: session.name.clone(), login, address: observed(&session.connection) }
}

/// Adds an address to those of a session: the connection's stays the first, the oldest of the others makes room.
pub(super) fn note_address(session: &Session, address: SocketAddr) {
    let mut seen = session.seen_at.lock().unwrap_or_else(PoisonError::into_inner);
    if seen.contains(&address) {
        return;
    }
    if seen.len() >= CANDIDATES_MAX {
        seen.remove(1);
    }
    seen.push(address);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_follow_the_one_that_was_asked_for() {
        let check = |ports: RelayPorts, listen: u16, expected: Vec<u16>| assert_eq!(ports.numbers(listen), expected);
        check(RelayPorts::Following, 4_433, (4_434..=4_449).collect());
        check(RelayPorts::Following, 0, vec![0; 16]);
        check(RelayPorts::Following, 65_533, vec![65_534, 65_535]);
        check(RelayPorts::Any(2), 4_433, vec![0, 0]);
        check(RelayPorts::Range(9, 11), 4_433, vec![9, 10, 11]);
        check(RelayPorts::Off, 4_433, vec![]);
    }
}
