//! One side's search for a direct path: it opens its NAT, punches, dials where punches come from, and has one of the
//! connections that shook hands nominated.
//!
//! ```text
//! opened --punches start--> searching --connected--> proven --nominated--> used
//!                               `--------- time is up ---`--> failed
//! ```
//! What an address costs that has not shaken hands, so that nobody's candidates become a flood: three openers, at most
//! [`PUNCHES_MAX`] punches and [`ANSWERS_MAX`] answers, and one attempt at a connection, for which a punch must have come
//! from there. An attempt that nobody answers sends flights of two datagrams after 0, 3 and 9 initial round-trip times
//! and would send the next after 21 (RFC 9002, section 6.2); so with an initial round-trip time of 100 ms or more it is
//! [`ATTEMPT_BYTES_MAX`] in [`ATTEMPT_TIME`]. A second attempt would be too much, for a punch is no proof of an address:
//! whoever knows the dial can forge where it comes from. All of it is below [`UNPROVEN_BYTES_MAX`].

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::rendezvous::{ConnectionNumber, NoDirectPath, Outcome, Output, Path, Side, Terms};
use crate::wire::datagram::Datagram;
use crate::wire::ids::DialId;
use crate::wire::limits::{CANDIDATES_MAX, CONNECTIONS_PER_DIAL_MAX};

/// Hops that an opener has left: past one NAT, past a second one, past one more router.
const OPENER_HOPS: [u8; 3] = [2, 3, 4];
/// Addresses beside the candidates from which punches are answered: a NAT may give each of several destinations another
/// port; more than that is a game of the other side.
const OTHER_ADDRESSES_MAX: usize = 4;
/// Punches that are sent to a candidate by the clock.
pub(super) const PUNCHES_MAX: u32 = 28;
/// Punches that are sent to an address because one came from there.
pub(super) const ANSWERS_MAX: u32 = 6;
/// What an attempt at a connection costs that nobody answers, IPv6 and UDP headers included: six datagrams of 1200 bytes.
pub(super) const ATTEMPT_BYTES_MAX: usize = 7_500;
/// What may go to an address that has not shaken hands.
pub(super) const UNPROVEN_BYTES_MAX: usize = 10_000;
/// IPv6 and UDP headers.
const HEADER_BYTES: usize = 48;
const OPENER_BYTES: usize = 1;
const PUNCH_BYTES: usize = 17;

const _: () = assert!(
    OPENER_HOPS.len() * (OPENER_BYTES + HEADER_BYTES)
        + (PUNCHES_MAX + ANSWERS_MAX) as usize * (PUNCH_BYTES + HEADER_BYTES)
        + ATTEMPT_BYTES_MAX
        <= UNPROVEN_BYTES_MAX,
    "an address that has not shaken hands gets no more than it may"
);

/// How long it is searched: most paths come within a second, a handshake in heavy loss within five.
const SEARCH_TIME: Duration = Duration::from_secs(10);
/// The other side's nomination may be under way when the search ends here: it may have begun later, and be far away.
const NOMINATION_PATIENCE: Duration = Duration::from_secs(1);
/// The side that was asked punches by then in any case. No sooner: a grant may take 400 ms, and a punch that comes to
/// the asker's NAT before the asker has opened it can spoil its mapping. Mostly a word or a punch comes much earlier.
const OPENED_PATIENCE: Duration = Duration::from_secs(1);
/// One attempt at a connection: the third flight and its answer fit, the fourth would cost too much.
const ATTEMPT_TIME: Duration = Duration::from_secs(2);

/// How long a dial waits for the relayed connection, whose handshake and first bytes would share the processors with it: on
/// a short path, where that counts, they are through by then; on a long one it is not noticed.
const HEAD_START: Duration = Duration::from_millis(20);
/// And how much longer at the side that nominates: on a short path one handshake is enough, and whoever was dialled knows
/// of a connection that it works both ways.
const SECOND_DIALLER: Duration = Duration::from_millis(30);

/// An address of the other side from which it punches, or from which it may.
#[derive(Debug, Clone, Copy)]
struct Address {
    at: SocketAddr,
    is_candidate: bool,
    answers: u32,
    dialling: Dialling,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialling {
    /// No punch has come from there.
    NotYet,
    /// It is dialled then.
    Due(Duration),
    /// It was dialled, once and for all.
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Punching {
    /// The other NAT may not be open yet.
    From(Duration),
    /// So many rounds were sent; when the next is due.
    Round(u32, Duration),
}

/// The search of one side.
#[derive(Debug)]
pub(super) struct DirectSearch {
    dial: DialId,
    is_controlling: bool,
    round_trip: Duration,
    ends: Duration,
    /// How long a dial waits after the first punch.
    head_start: Duration,
    addresses: Vec<Address>,
    has_candidates: bool,
    has_heard: bool,
    punching: Punching,
    /// Connections that shook hands and wait for a nomination.
    proven: Vec<ConnectionNumber>,
    outcome: Outcome,
}

impl DirectSearch {
    /// Begins: opens this side's NAT.
    pub(super) fn begin(candidates: &[SocketAddr], terms: &Terms, now: Duration, out: &mut VecDeque<Output>) -> Self {
        let mut addresses: Vec<Address> = Vec::new();
        for &at in candidates {
            if addresses.len() < CANDIDATES_MAX && addresses.iter().all(|known| known.at != at) {
                addresses.push(Address { at, is_candidate: true, answers: 0, dialling: Dialling::NotYet });
            }
        }
        for hops in OPENER_HOPS {
            out.extend(addresses.iter().map(|address| Output::Send {
                to: address.at,
                hops: Some(hops),
                datagram: Datagram::Opener,
            }));
        }
        let mut search = Self {
            dial: terms.dial,
            is_controlling: terms.is_controlling,
            round_trip: terms.round_trip,
            ends: now + SEARCH_TIME,
            head_start: if terms.relay.is_some() { HEAD_START } else { Duration::ZERO }
                + if terms.is_controlling { SECOND_DIALLER } else { Duration::ZERO },
            has_candidates: !addresses.is_empty(),
            addresses,
            has_heard: false,
            punching: Punching::From(now + OPENED_PATIENCE),
            proven: Vec::new(),
            outcome: Outcome::Open,
        };
        if terms.side == Side::Asker {
            out.push_back(Output::TellOpened);
            // The other side opened its NAT before it answered the directory.
            search.start_punching(now, out);
        }
        search
    }

    pub(super) fn is_decided(&self) -> bool {
        self.outcome != Outcome::Open
    }

    /// Nothing more is sent once a connection has shaken hands.
    fn is_searching(&self, now: Duration) -> bool {
        !self.is_decided() && self.proven.is_empty() && now < self.ends
    }

    /// The other NAT is open.
    pub(super) fn start_punching(&mut self, now: Duration, out: &mut VecDeque<Output>) {
        if matches!(self.punching, Punching::From(_)) && self.is_searching(now) {
            self.punching = Punching::Round(0, now);
            self.punch(now, out);
        }
    }

    fn punch(&mut self, now: Duration, out: &mut VecDeque<Output>) {
        let Punching::Round(sent, due) = self.punching else { return };
        if sent >= PUNCHES_MAX || now < due {
            return;
        }
        for address in self.addresses.iter().filter(|address| address.is_candidate) {
            out.push_back(punch_to(address.at, self.dial));
        }
        self.punching = Punching::Round(sent + 1, now + pause_after(sent));
    }

    /// A datagram came from an address that is not the relay's.
    pub(super) fn handle_datagram(
        &mut self,
        from: SocketAddr,
        datagram: &Datagram,
        now: Duration,
        out: &mut VecDeque<Output>,
    ) {
        if *datagram != (Datagram::Punch { dial: self.dial }) || !self.is_searching(now) {
            return;
        }
        self.has_heard = true;
        self.start_punching(now, out);
        let (dial, due) = (self.dial, Dialling::Due(now + self.head_start));
        let Some(address) = self.address(from) else { return };
        if address.answers < ANSWERS_MAX {
            address.answers += 1;
            out.push_back(punch_to(from, dial));
        }
        if address.dialling == Dialling::NotYet {
            address.dialling = due;
        }
        self.dial_what_is_due(now, out);
    }

    fn dial_what_is_due(&mut self, now: Duration, out: &mut VecDeque<Output>) {
        let within = ATTEMPT_TIME.min(self.ends.saturating_sub(now));
        for address in &mut self.addresses {
            if matches!(address.dialling, Dialling::Due(due) if due <= now) && !within.is_zero() {
                address.dialling = Dialling::Done;
                out.push_back(Output::Dial { to: address.at, path: Path::Direct, within });
            }
        }
    }

    /// What is known of an address; `None` when there are too many.
    fn address(&mut self, at: SocketAddr) -> Option<&mut Address> {
        let known = self.addresses.iter().position(|address| address.at == at);
        let place = known.unwrap_or(self.addresses.len());
        if known.is_none() {
            let others = self.addresses.iter().filter(|address| !address.is_candidate).count();
            if others >= OTHER_ADDRESSES_MAX {
                return None;
            }
            self.addresses.push(Address { at, is_candidate: false, answers: 0, dialling: Dialling::NotYet });
        }
        self.addresses.get_mut(place)
    }

    pub(super) fn handle_connected(&mut self, number: ConnectionNumber, now: Duration, out: &mut VecDeque<Output>) {
        if self.proven.contains(&number) || self.outcome == Outcome::Used(number) {
            return;
        }
        if self.is_decided() || now >= self.last_moment() || self.proven.len() >= CONNECTIONS_PER_DIAL_MAX {
            out.push_back(Output::Close(number));
        } else if self.is_controlling {
            self.outcome = Outcome::Used(number);
            out.push_back(Output::Nominate(number));
        } else {
            self.proven.push(number);
        }
    }

    /// The other side has chosen. Only it may, and only what has shaken hands; its last word counts, because it chooses
    /// again only when it has lost what it chose before.
    pub(super) fn handle_nominated(&mut self, number: ConnectionNumber, out: &mut VecDeque<Output>) {
        if self.is_controlling || self.outcome == Outcome::Failed || !self.proven.contains(&number) {
            return;
        }
        self.proven.retain(|&proven| proven != number);
        if let Outcome::Used(before) = self.outcome {
            out.push_back(Output::Close(before));
        }
        self.outcome = Outcome::Used(number);
        out.push_back(Output::Use(number, Path::Direct));
        out.extend(self.proven.drain(..).map(Output::Close));
    }

    pub(super) fn handle_lost(&mut self, number: ConnectionNumber) {
        self.proven.retain(|&proven| proven != number);
        if self.outcome == Outcome::Used(number) {
            self.outcome = Outcome::Open;
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Duration, out: &mut VecDeque<Output>) {
        if self.is_decided() {
            return;
        }
        if now >= self.last_moment() {
            self.outcome = Outcome::Failed;
            out.push_back(Output::DirectFailed(self.why_not()));
            out.extend(self.proven.drain(..).map(Output::Close));
            return;
        }
        if now >= self.ends {
            self.punching = Punching::Round(PUNCHES_MAX, now);
        }
        // Also beside a connection that waits for its nomination: the other side may not have it.
        self.dial_what_is_due(now, out);
        if !self.is_searching(now) {
            return;
        }
        match self.punching {
            Punching::From(when) if now >= when => self.start_punching(now, out),
            Punching::From(_) => {}
            Punching::Round(..) => self.punch(now, out),
        }
    }

    /// Whoever is to be told which connection it is waits a little for that.
    fn last_moment(&self) -> Duration {
        let is_told = !self.is_controlling && (self.has_heard || !self.proven.is_empty());
        if is_told { self.ends + NOMINATION_PATIENCE.max(self.round_trip * 2) } else { self.ends }
    }

    fn why_not(&self) -> NoDirectPath {
        match (self.has_heard || !self.proven.is_empty(), self.has_candidates) {
            (true, _) => NoDirectPath::NoConnection,
            (false, true) => NoDirectPath::NoPunch,
            (false, false) => NoDirectPath::NoCandidate,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        if self.is_decided() {
            return None;
        }
        let due = match self.punching {
            Punching::From(when) => Some(when),
            Punching::Round(sent, due) => (sent < PUNCHES_MAX).then_some(due),
        };
        let dials = self.addresses.iter().filter_map(|address| match address.dialling {
            Dialling::Due(due) => Some(due),
            Dialling::NotYet | Dialling::Done => None,
        });
        let due = due.filter(|&due| self.is_searching(due));
        let due = due.into_iter().chain(dials.filter(|&due| due < self.ends)).min();
        Some(due.map_or(self.last_moment(), |due| due.min(self.last_moment())))
    }
}

/// The pause after a round of punches: short at first, because each may be lost, then for NATs that open late.
fn pause_after(round: u32) -> Duration {
    Duration::from_millis(match round {
        0..6 => 50,
        6..12 => 100,
        12..16 => 250,
        _ => 500,
    })
}

fn punch_to(to: SocketAddr, dial: DialId) -> Output {
    Output::Send { to, hops: None, datagram: Datagram::Punch { dial } }
}
