//! Two peers with the rendezvous machine that the program has, a relay, and NATs between them. QUIC is modelled as its
//! handshake: an Initial, a reply, a confirmation and its acknowledgement, each sent again when nothing comes.
//!
//! What becomes of a datagram on its way is drawn by its sender, by whether it goes by the relay, and by how many there
//! were before: so a run without a direct path has the same fate for the relay as one with.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use qchat::protocol::rendezvous::{ConnectionNumber, NoDirectPath, Output, Path, Rendezvous, Side, Terms};
use qchat::wire::datagram::Datagram;
use qchat::wire::ids::{DialId, Ticket};
use qchat::wire::limits::CONNECTIONS_PER_DIAL_MAX;

use crate::nat::{Flight, Kind, Networks, Traits};
use crate::scene::Chance;

const DIAL: DialId = DialId::from_bytes([5; 16]);
const RELAY: usize = 2;
const STRANGER: usize = 4;
/// What QUIC assumes before it has measured: its first retransmission comes after three of these.
const INITIAL_ROUND_TRIP: Duration = Duration::from_millis(100);
/// From one socket to another in one home.
const LOCAL_DELAY: Duration = Duration::from_millis(1);
/// How long an end may take to acknowledge what it got.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_millis(25);
/// No machine may want more at a time.
const OUTPUTS_MAX: usize = 100;
/// Nor be woken more often in all.
const WAKES_MAX: usize = 200;
/// The run is over by then, whatever happens.
const END: Duration = Duration::from_secs(20);

/// Where a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    Open,
    Behind(Kind),
    /// Behind its own router, and that behind the provider's.
    Twice(Kind, Kind),
}

/// What is broken on purpose, to see that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// Nobody opens its NAT first, nor waits for the other.
    NoOpeners,
    /// Each side nominates.
    BothNominate,
}

/// A run.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) seed: u64,
    pub(crate) homes: [Home; 2],
    /// Both are behind the first home's NAT.
    pub(crate) is_shared: bool,
    pub(crate) asker: usize,
    pub(crate) controlling: usize,
    pub(crate) relay: bool,
    pub(crate) direct: bool,
    pub(crate) remembers_early: bool,
    pub(crate) hairpins: bool,
    /// Whether both know local addresses of each other.
    pub(crate) tells_local: bool,
    pub(crate) nat_timeout: Duration,
    /// Of 10,000 datagrams on the way between two homes, or a home and the relay.
    pub(crate) loss: u64,
    pub(crate) duplicates: u64,
    /// One way, in milliseconds, and by how much it varies.
    pub(crate) delay: u64,
    pub(crate) jitter: u64,
    /// How much later the asker begins.
    pub(crate) skew: u64,
    /// The first peer lists an address that is not its own.
    pub(crate) lists_a_stranger: bool,
    /// Of the datagrams beside QUIC on far ways just this one is lost, by its number.
    pub(crate) loses: Option<u64>,
    pub(crate) flaw: Flaw,
}

/// What became of one peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) relayed: Option<(ConnectionNumber, Duration)>,
    pub(crate) direct: Option<(ConnectionNumber, Duration)>,
    pub(crate) relay_failed: bool,
    pub(crate) direct_failed: Option<NoDirectPath>,
    pub(crate) ended: Option<Duration>,
    closed: BTreeSet<ConnectionNumber>,
    /// It used a direct connection that the other side then closed.
    was_left: bool,
    wakes: usize,
    broken: Vec<String>,
}

impl Fate {
    pub(crate) fn first(&self) -> Option<Duration> {
        self.relayed.into_iter().chain(self.direct).map(|(_, when)| when).min()
    }
}

/// What became of everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) fates: [Fate; 2],
    /// What came to the address of somebody who has nothing to do with it.
    pub(crate) stranger_bytes: usize,
    pub(crate) stranger_initials: usize,
}

impl Outcome {
    pub(crate) fn is_relayed(&self) -> bool {
        self.fates.iter().all(|fate| fate.relayed.is_some())
    }

    pub(crate) fn is_direct(&self) -> bool {
        self.fates.iter().all(|fate| fate.direct.is_some())
    }

    /// What holds in every run. Where datagrams get lost, all that tell of a nomination may be among them, and then one
    /// side uses for a while what the other has closed; but never do they use two.
    pub(crate) fn verify(&self, is_lossy: bool) -> Result<(), String> {
        for (peer, fate) in self.fates.iter().enumerate() {
            if let Some(broken) = fate.broken.first() {
                return Err(format!("peer {peer}: {broken}"));
            }
            // The asker begins up to 0.4 s late; the last word of the other side is awaited for a second, the last
            // relayed dial for five.
            let latest = Duration::from_millis(if is_lossy { 15_000 } else { 11_400 });
            if fate.ended.is_none_or(|ended| ended > latest) {
                return Err(format!("peer {peer} ended at {:?}", fate.ended));
            }
            if fate.direct.is_some() && fate.direct_failed.is_some() {
                return Err(format!("peer {peer} is both direct and not"));
            }
            if fate.relayed.is_some_and(|(number, _)| fate.closed.contains(&number)) {
                return Err(format!("peer {peer} closed the relayed connection"));
            }
            if fate.was_left && !is_lossy {
                return Err(format!("peer {peer} used what the other side closed"));
            }
        }
        let [one, other] = self.fates.each_ref().map(|fate| fate.direct.map(|(number, _)| number));
        let may_differ = is_lossy && (one.is_none() || other.is_none());
        if one != other && !may_differ {
            return Err(format!("they do not agree: {one:?} and {other:?}"));
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quic {
    Initial,
    Reply,
    Confirm,
    Confirmed,
    Nominate,
    Nominated,
    Close,
}

#[derive(Debug, Clone, Copy)]
enum Payload {
    Beside(Datagram),
    Quic(u32, Quic),
}

impl Payload {
    /// With IPv6 and UDP headers. A ClientHello with a post-quantum key takes two datagrams.
    fn bytes(self) -> usize {
        match self {
            Self::Beside(datagram) => datagram.encode().len() + 48,
            Self::Quic(_, Quic::Initial) => 2 * (1_200 + 48),
            Self::Quic(..) => 100 + 48,
        }
    }
}

/// One end of a connection.
#[derive(Debug)]
struct End {
    remote: SocketAddr,
    is_connected: bool,
    is_dialler: bool,
    /// Sent again until it is answered.
    unanswered: Vec<Quic>,
    retries: u32,
    /// Which timer counts.
    timer: u32,
    was_nominated: bool,
}

#[derive(Debug)]
enum Event {
    Begins(usize),
    Opened(usize),
    Arrives(Flight, Payload),
    Wakes(usize),
    Retransmits(usize, u32, u32),
    GivesUp(usize, u32),
}

struct Peer {
    machine: Option<Rendezvous>,
    wakes_at: Option<Duration>,
    ends: BTreeMap<u32, End>,
    gone: BTreeSet<u32>,
    let_in: usize,
}

/// A run under way.
pub(crate) struct World {
    case: Case,
    now: Duration,
    queue: BTreeMap<(Duration, u64), Event>,
    next: u64,
    networks: Networks,
    /// For what NATs draw.
    chance: Chance,
    sent: BTreeMap<(usize, bool), u64>,
    peers: [Peer; 2],
    candidates: [Vec<SocketAddr>; 2],
    joined: [Option<SocketAddr>; 2],
    connections: u32,
    /// Datagrams beside QUIC that went far.
    beside: u64,
    outcome: Outcome,
}

fn ticket(peer: usize) -> Ticket {
    Ticket::from_bytes([u8::try_from(peer).expect("there are two"); 16])
}

/// Runs a case to its end.
pub(crate) fn run(case: &Case) -> Outcome {
    let mut world = World::new(case);
    while let Some(((when, _), event)) = world.queue.pop_first() {
        if when > END {
            break;
        }
        world.now = when;
        world.happens(event);
    }
    world.outcome
}

impl World {
    fn new(case: &Case) -> Self {
        let peer = || Peer { machine: None, wakes_at: None, ends: BTreeMap::new(), gone: BTreeSet::new(), let_in: 0 };
        let mut world = Self {
            case: case.clone(),
            now: Duration::ZERO,
            queue: BTreeMap::new(),
            next: 0,
            networks: Networks::default(),
            chance: Chance::new(case.seed),
            sent: BTreeMap::new(),
            peers: [peer(), peer()],
            candidates: [Vec::new(), Vec::new()],
            joined: [None, None],
            connections: 0,
            beside: 0,
            outcome: Outcome::default(),
        };
        world.build();
        world.at(Duration::ZERO, Event::Begins(1 - case.asker));
        world.at(Duration::from_millis(case.skew), Event::Begins(case.asker));
        world
    }

    /// Homes, relay, directory and stranger; then both peers have been at the directory, which saw their addresses.
    fn build(&mut self) {
        let case = self.case.clone();
        let mut inside = 0;
        for (peer, home) in (0_u8..).zip(case.homes) {
            let traits = |kind| Traits {
                kind,
                remembers_early: case.remembers_early,
                hairpins: case.hairpins,
                preserves_ports: !case.seed.is_multiple_of(3),
                timeout: case.nat_timeout,
            };
            let outer = Ipv4Addr::new(8, 0, 0, peer);
            inside = match home {
                _ if peer == 1 && case.is_shared => inside,
                Home::Open => 0,
                Home::Behind(kind) => self.networks.add_nat(traits(kind), 0, outer),
                Home::Twice(own, providers) => {
                    let provider = self.networks.add_nat(traits(providers), 0, outer);
                    self.networks.add_nat(traits(own), provider, Ipv4Addr::new(100, 64, 0, peer))
                }
            };
            let ip = if inside == 0 { outer } else { Ipv4Addr::new(10, 0, peer, 2) };
            self.networks.add_host(inside, SocketAddr::from((ip, 40_000)));
        }
        let relay_ip = Ipv4Addr::new(9, 0, 0, 1);
        self.networks.add_host(0, SocketAddr::from((relay_ip, 4_000)));
        let directory = self.networks.add_host(0, SocketAddr::from((relay_ip, 443)));
        self.networks.add_host(0, SocketAddr::from((Ipv4Addr::new(9, 9, 9, 9), 53)));
        for peer in 0..2 {
            let to = self.networks.address(directory);
            let flight = self.networks.send(peer, to, None, self.now, &mut self.chance);
            self.candidates[peer].push(flight.expect("it has hops enough").from);
            if case.tells_local {
                self.candidates[peer].push(self.networks.address(peer));
            }
        }
        if case.lists_a_stranger {
            self.candidates[0].push(self.networks.address(STRANGER));
        }
    }

    fn at(&mut self, when: Duration, event: Event) {
        self.next += 1;
        self.queue.insert((when, self.next), event);
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Begins(peer) => self.begins(peer),
            Event::Opened(peer) => self.tell(peer, |machine, now| machine.handle_opened(now)),
            Event::Arrives(flight, payload) => self.arrives(flight, payload),
            Event::Wakes(peer) if self.peers[peer].wakes_at == Some(self.now) => {
                self.outcome.fates[peer].wakes += 1;
                if self.outcome.fates[peer].wakes == WAKES_MAX {
                    self.broken(peer, "it is woken for ever".into());
                    self.peers[peer].machine = None;
                }
                self.peers[peer].wakes_at = None;
                self.tell(peer, Rendezvous::handle_timeout);
            }
            Event::Wakes(_) => {}
            Event::Retransmits(peer, number, timer) => {
                let due = self.peers[peer].ends.get(&number).is_some_and(|end| end.timer == timer);
                if due {
                    self.send_unanswered(peer, number);
                }
            }
            Event::GivesUp(peer, number) => {
                if let Some(end) = self.peers[peer].ends.get(&number).filter(|end| !end.is_connected) {
                    let to = end.remote;
                    self.peers[peer].ends.remove(&number);
                    self.tell(peer, |machine, now| machine.handle_dial_failed(to, now));
                }
            }
        }
    }

    fn begins(&mut self, peer: usize) {
        let case = &self.case;
        let terms = Terms {
            dial: DIAL,
            side: if peer == case.asker { Side::Asker } else { Side::Asked },
            is_controlling: peer == case.controlling || case.flaw == Flaw::BothNominate,
            candidates: case.direct.then(|| self.candidates[1 - peer].clone()),
            relay: case.relay.then(|| (self.networks.address(RELAY), ticket(peer))),
            round_trip: Duration::from_millis(2 * case.delay),
        };
        self.peers[peer].machine = Some(Rendezvous::new(terms, self.now));
        let waits = self.case.flaw != Flaw::NoOpeners;
        self.tell(peer, |machine, now| {
            if !waits {
                machine.handle_opened(now)
            }
        });
    }

    fn tell(&mut self, peer: usize, what: impl FnOnce(&mut Rendezvous, Duration)) {
        let now = self.now;
        let Some(machine) = &mut self.peers[peer].machine else { return };
        what(machine, now);
        let outputs: Vec<_> = std::iter::from_fn(|| machine.poll_output()).take(OUTPUTS_MAX).collect();
        let wakes_at = machine.poll_timeout();
        if outputs.len() == OUTPUTS_MAX {
            self.broken(peer, "it wants too much at a time".into());
        }
        for output in outputs {
            self.does(peer, output);
        }
        if self.peers[peer].wakes_at != wakes_at {
            self.peers[peer].wakes_at = wakes_at.map(|when| when.max(now));
            if let Some(when) = self.peers[peer].wakes_at {
                self.at(when, Event::Wakes(peer));
            }
        }
    }

    fn broken(&mut self, peer: usize, what: String) {
        self.outcome.fates[peer].broken.push(format!("{what} at {:?}", self.now));
    }

    fn does(&mut self, peer: usize, output: Output) {
        let now = self.now;
        if self.outcome.fates[peer].ended.is_some() && !matches!(output, Output::Close(_)) {
            self.broken(peer, format!("after the end: {output:?}"));
        }
        match output {
            Output::Send { datagram: Datagram::Opener, .. } if self.case.flaw == Flaw::NoOpeners => {}
            Output::Send { to, hops, datagram } => self.send(peer, to, hops, Payload::Beside(datagram)),
            Output::TellOpened => {
                let later = now + Duration::from_millis(2 * self.case.delay);
                self.at(later, Event::Opened(1 - peer));
            }
            Output::Dial { to, within, .. } => {
                self.connections += 1;
                let number = self.connections;
                self.open(peer, number, to, true, Quic::Initial);
                self.at(now + within, Event::GivesUp(peer, number));
            }
            Output::Nominate(number) => {
                self.outcome.fates[peer].direct = Some((number, now));
                if let Some(end) = self.peers[peer].ends.get_mut(&number.0) {
                    end.unanswered.push(Quic::Nominate);
                    end.retries = 0;
                    self.send_unanswered(peer, number.0);
                }
            }
            Output::Use(number, Path::Relayed) => self.outcome.fates[peer].relayed = Some((number, now)),
            Output::Use(number, Path::Direct) => self.outcome.fates[peer].direct = Some((number, now)),
            Output::Close(number) => {
                self.outcome.fates[peer].closed.insert(number);
                self.peers[peer].gone.insert(number.0);
                if let Some(end) = self.peers[peer].ends.remove(&number.0) {
                    self.send(peer, end.remote, None, Payload::Quic(number.0, Quic::Close));
                }
            }
            Output::RelayFailed => self.outcome.fates[peer].relay_failed = true,
            Output::DirectFailed(why) => self.outcome.fates[peer].direct_failed = Some(why),
            Output::Ended => self.outcome.fates[peer].ended = Some(now),
        }
    }

    // --- the network

    fn send(&mut self, host: usize, to: SocketAddr, hops: Option<u8>, payload: Payload) {
        let relay = self.networks.address(RELAY);
        let by_relay = host == RELAY || to == relay;
        let before = self.sent.entry((host, by_relay)).or_default();
        *before += 1;
        let lane = *before * 8 + host as u64 * 2 + u64::from(by_relay);
        let mut chance = Chance::new(self.case.seed.wrapping_mul(1_000_003).wrapping_add(lane.wrapping_mul(7_919)));
        let Some(flight) = self.networks.send(host, to, hops, self.now, &mut self.chance) else { return };
        if flight.is_far && matches!(payload, Payload::Beside(_)) {
            self.beside += 1;
            if self.case.loses == Some(self.beside) {
                return;
            }
        }
        let copies = 1 + usize::from(chance.happens(self.case.duplicates));
        for _ in 0..copies {
            let jitter = chance.millis(0, self.case.jitter);
            let is_lost = chance.happens(self.case.loss);
            if flight.is_far && is_lost {
                continue;
            }
            let delay = if flight.is_far { Duration::from_millis(self.case.delay) + jitter } else { LOCAL_DELAY };
            self.at(self.now + delay, Event::Arrives(flight, payload));
        }
    }

    fn arrives(&mut self, flight: Flight, payload: Payload) {
        if flight.to == self.networks.address(STRANGER) {
            self.outcome.stranger_bytes += payload.bytes();
            self.outcome.stranger_initials += usize::from(matches!(payload, Payload::Quic(..)));
        }
        match (self.networks.deliver(flight, self.now), payload) {
            (Some(RELAY), payload) => self.relay_hears(flight.from, payload),
            (Some(peer @ (0 | 1)), Payload::Beside(datagram)) => {
                self.tell(peer, |machine, now| machine.handle_datagram(flight.from, &datagram, now));
            }
            (Some(peer @ (0 | 1)), Payload::Quic(number, quic)) => self.quic(peer, flight.from, number, quic),
            _ => {}
        }
    }

    fn relay_hears(&mut self, from: SocketAddr, payload: Payload) {
        let nonce = [1; 16];
        let mut answers = Vec::new();
        match payload {
            Payload::Beside(Datagram::Join { ticket }) => answers.push((from, Datagram::Challenge { ticket, nonce })),
            Payload::Beside(Datagram::Echo { ticket: shown, .. }) => {
                let Some(peer) = (0..2).find(|&peer| ticket(peer) == shown) else { return };
                self.joined[peer] = Some(from);
                let both = self.joined.iter().all(Option::is_some);
                answers.push((from, Datagram::Joined { ticket: shown, both }));
                if let Some(other) = self.joined[1 - peer] {
                    answers.push((other, Datagram::Joined { ticket: ticket(1 - peer), both }));
                }
            }
            payload => {
                let leg = self.joined.iter().position(|&joined| joined == Some(from));
                if let Some(to) = leg.and_then(|leg| self.joined[1 - leg]) {
                    self.send(RELAY, to, None, payload);
                }
            }
        }
        for (to, datagram) in answers {
            self.send(RELAY, to, None, Payload::Beside(datagram));
        }
    }

    // --- QUIC

    fn open(&mut self, peer: usize, number: u32, remote: SocketAddr, is_dialler: bool, first: Quic) {
        let unanswered = vec![first];
        let end =
            End { remote, is_connected: false, is_dialler, unanswered, retries: 0, timer: 0, was_nominated: false };
        self.peers[peer].ends.insert(number, end);
        self.send_unanswered(peer, number);
    }

    /// Sends what was not answered, and again after three round trips, six, twelve ...
    fn send_unanswered(&mut self, peer: usize, number: u32) {
        let Some(end) = self.peers[peer].ends.get_mut(&number) else { return };
        if end.unanswered.is_empty() {
            return;
        }
        let measured = Duration::from_millis(2 * self.case.delay);
        let round_trip = if end.is_connected { measured } else { INITIAL_ROUND_TRIP };
        let wait = (round_trip * 3 + ACKNOWLEDGED_WITHIN) * (1 << end.retries.min(5));
        end.retries += 1;
        end.timer += 1;
        let (remote, unanswered, timer) = (end.remote, end.unanswered.clone(), end.timer);
        // Two probes for each timeout (RFC 9002, section 6.2.4); those of an Initial are the two halves of one.
        let copies = if end.is_connected && end.retries > 1 { 2 } else { 1 };
        for quic in unanswered.into_iter().flat_map(|quic| std::iter::repeat_n(quic, copies)) {
            self.send(peer, remote, None, Payload::Quic(number, quic));
        }
        self.at(self.now + wait, Event::Retransmits(peer, number, timer));
    }

    fn quic(&mut self, peer: usize, from: SocketAddr, number: u32, quic: Quic) {
        let is_known = self.peers[peer].ends.contains_key(&number);
        if quic == Quic::Initial && !is_known {
            let accepts = self.peers[peer].machine.is_some() && !self.peers[peer].gone.contains(&number);
            if accepts && self.peers[peer].let_in < CONNECTIONS_PER_DIAL_MAX {
                self.peers[peer].let_in += 1;
                self.open(peer, number, from, false, Quic::Reply);
            }
            return;
        }
        // In a handshake nothing counts that comes from elsewhere.
        let Some(end) = self.peers[peer].ends.get_mut(&number).filter(|end| end.remote == from) else { return };
        let answered = |end: &mut End, what: Quic| end.unanswered.retain(|&unanswered| unanswered != what);
        match quic {
            Quic::Initial => self.send(peer, from, None, Payload::Quic(number, Quic::Reply)),
            Quic::Reply if end.is_dialler && !end.is_connected => {
                answered(end, Quic::Initial);
                end.unanswered.push(Quic::Confirm);
                end.retries = 0;
                self.send_unanswered(peer, number);
                self.connected(peer, number);
            }
            Quic::Confirm if !end.is_dialler => {
                answered(end, Quic::Reply);
                let is_new = !end.is_connected;
                self.send(peer, from, None, Payload::Quic(number, Quic::Confirmed));
                if is_new {
                    self.connected(peer, number);
                }
            }
            Quic::Confirmed => answered(end, Quic::Confirm),
            // Data of a handshake that is not done here is dropped, and comes again.
            Quic::Nominate if end.is_connected => {
                let is_new = !std::mem::replace(&mut end.was_nominated, true);
                self.send(peer, from, None, Payload::Quic(number, Quic::Nominated));
                if is_new {
                    self.tell(peer, |machine, now| machine.handle_nominated(ConnectionNumber(number), now));
                }
            }
            Quic::Nominated => answered(end, Quic::Nominate),
            Quic::Close => {
                let (was_connected, was_dialled) = (end.is_connected, end.is_dialler);
                self.peers[peer].ends.remove(&number);
                self.peers[peer].gone.insert(number);
                let fate = &mut self.outcome.fates[peer];
                fate.was_left |= fate.direct.is_some_and(|(used, _)| used.0 == number);
                fate.direct = fate.direct.filter(|&(used, _)| used.0 != number);
                fate.relayed = fate.relayed.filter(|&(used, _)| used.0 != number);
                if was_connected {
                    self.tell(peer, |machine, now| machine.handle_lost(ConnectionNumber(number), now));
                } else if was_dialled {
                    self.tell(peer, |machine, now| machine.handle_dial_failed(from, now));
                }
            }
            Quic::Reply | Quic::Confirm | Quic::Nominate => {}
        }
    }

    fn connected(&mut self, peer: usize, number: u32) {
        let Some(end) = self.peers[peer].ends.get_mut(&number) else { return };
        end.is_connected = true;
        let from = end.remote;
        self.tell(peer, |machine, now| machine.handle_connected(ConnectionNumber(number), from, now));
    }
}
