//! What a directory relays: which two addresses meet at which of its ports, what may pass between them, and what is
//! dropped and why. It forwards datagrams that it cannot read and never looks into.
//!
//! ```text
//! leg:      open --Join--> challenged --Echo with the nonce--> joined at that address, for good
//! session:  opened --both legs joined--> forwarding --idle--> gone
//!              '--30 s--> gone
//! ```
//!
//! * A ticket is good for the first address that proves to receive there; a Join is answered with one Challenge, which is
//!   shorter: who forges a source makes nobody receive more than was sent, and never a datagram of the session.
//! * The two sides of a session are told apart by their addresses, so no address can have two sessions at one port.
//! * What both sides send counts for the account that asked for the session.
//!
//! Times count from any fixed moment, by a clock that never goes back.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::address_proof::Challenges;
use crate::wire::datagram::Datagram;
use crate::wire::ids::{PeerName, Ticket};
use crate::wire::limits::{
    RELAY_ACCOUNTS_MAX, RELAY_BYTES_PER_DAY, RELAY_BYTES_PER_SECOND, RELAY_IDLE, RELAY_JOIN_DEADLINE,
    RELAY_SESSIONS_MAX, RELAY_SESSIONS_PER_ACCOUNT_MAX, RELAY_SESSIONS_PER_PAIR_MAX, RELAY_TOTAL_BYTES_PER_SECOND,
};
use crate::wire::rendezvous::PortTicket;

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// What a budget lets pass at once, however small it is: a few round trips of a home connection.
const BURST_BYTES_MIN: u64 = 256 * 1024;

/// What an account must have left of its day for a session to be opened: two handshakes and a few answers. With less, its
/// dial would come to nothing without a word.
const DAY_BYTES_LEFT_MIN: u64 = 64 * 1024;

/// What may be relayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Sessions at a time.
    pub sessions: usize,
    /// Bytes of one account in a second.
    pub bytes_per_second: u64,
    /// Bytes of one account in a day.
    pub bytes_per_day: u64,
    /// Bytes of all accounts in a second.
    pub total_bytes_per_second: u64,
    /// How long a session may be silent.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: RELAY_SESSIONS_MAX,
            bytes_per_second: RELAY_BYTES_PER_SECOND,
            bytes_per_day: RELAY_BYTES_PER_DAY,
            total_bytes_per_second: RELAY_TOTAL_BYTES_PER_SECOND,
            idle: RELAY_IDLE,
        }
    }
}

/// One side of a session to be opened.
#[derive(Debug, Clone)]
pub struct Party {
    /// Whose budget or name it is.
    pub name: PeerName,
    /// Its login: two sessions of one login, which have one socket, never share a port.
    pub login: usize,
    /// Where that login comes from: nor do two logins of one socket, as after a reconnect.
    pub address: SocketAddr,
}

/// Where datagrams of one side go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The side's address.
    pub remote: SocketAddr,
    /// The address of this machine that it knows: from another one its NAT would not let us through.
    pub local: Option<IpAddr>,
}

/// Datagrams that came together from one address: all of one length, the last perhaps shorter.
#[derive(Debug, Clone, Copy)]
pub struct Batch {
    /// All of them.
    pub bytes: usize,
    /// Each of them.
    pub datagram_bytes: usize,
}

/// What of a batch passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// To whom.
    pub to: Route,
    /// So many of its first bytes: whole datagrams.
    pub bytes: usize,
}

/// Why a datagram goes nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// It comes from an address that has no session at that port.
    UnknownSource,
    /// The other side is not there yet.
    NotJoined,
    /// The account has used up its bytes of this second.
    OverRate,
    /// And of this day.
    OverDay,
    /// All accounts together have.
    OverTotal,
    /// Another address has used that ticket.
    ReplayedTicket,
    /// There is no such ticket, or not at that port.
    BadTicket,
    /// It proves nothing.
    BadEcho,
    /// Its address has another session at that port.
    AddressInUse,
    /// It is nothing that a relay is told.
    Malformed,
    /// The kernel's buffer was full, or the datagram too long for the way.
    NotSent,
}

/// What became of everything, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Sessions that were opened.
    pub opened: u64,
    /// Sessions that were not, for want of room, a port or a budget.
    pub refused: u64,
    /// Sessions that both sides joined.
    pub joined: u64,
    /// Sessions that ended because they were silent or one side never came.
    pub expired: u64,
    /// Datagrams that were passed on, or given to a network that did not take them.
    pub forwarded_datagrams: u64,
    /// Their bytes.
    pub forwarded_bytes: u64,
    /// Datagrams from an address that has no session at that port.
    pub dropped_unknown_source: u64,
    /// Datagrams whose recipient was not there yet.
    pub dropped_not_joined: u64,
    /// Datagrams beyond what an account may in a second.
    pub dropped_over_rate: u64,
    /// Datagrams beyond what an account may in a day.
    pub dropped_over_day: u64,
    /// Datagrams beyond what all may in a second.
    pub dropped_over_total: u64,
    /// Requests with a ticket that another address has used.
    pub dropped_replayed_ticket: u64,
    /// Requests with a ticket that there is not.
    pub dropped_bad_ticket: u64,
    /// Echoes of what was not said.
    pub dropped_bad_echo: u64,
    /// Requests from an address that has another session at that port.
    pub dropped_address_in_use: u64,
    /// Datagrams that mean nothing.
    pub dropped_malformed: u64,
    /// Datagrams of those, and answers, that the network did not take.
    pub dropped_not_sent: u64,
}

impl Counters {
    /// Counts datagrams that go nowhere.
    pub fn count(&mut self, reason: DropReason, datagrams: u64) {
        *match reason {
            DropReason::UnknownSource => &mut self.dropped_unknown_source,
            DropReason::NotJoined => &mut self.dropped_not_joined,
            DropReason::OverRate => &mut self.dropped_over_rate,
            DropReason::OverDay => &mut self.dropped_over_day,
            DropReason::OverTotal => &mut self.dropped_over_total,
            DropReason::ReplayedTicket => &mut self.dropped_replayed_ticket,
            DropReason::BadTicket => &mut self.dropped_bad_ticket,
            DropReason::BadEcho => &mut self.dropped_bad_echo,
            DropReason::AddressInUse => &mut self.dropped_address_in_use,
            DropReason::Malformed => &mut self.dropped_malformed,
            DropReason::NotSent => &mut self.dropped_not_sent,
        } += datagrams;
    }
}

/// A session as its operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overview {
    /// Who asked for it.
    pub asker: PeerName,
    /// Who was asked.
    pub asked: PeerName,
    /// At which port.
    pub port: u16,
    /// Whether both sides are there.
    pub is_joined: bool,
    /// What was passed on.
    pub bytes: u64,
    /// How long it is open.
    pub age: Duration,
    /// How long nothing was passed on.
    pub idle: Duration,
}

/// A budget that fills evenly up to a quarter of a second's worth.
#[derive(Debug, Clone)]
pub struct Bucket {
    per_second: u64,
    capacity: u64,
    /// In billionths, so that no fraction is lost however often it is looked at.
    level: u128,
    at: Duration,
}

/// Everything that is relayed.
#[derive(Debug)]
pub struct Relay {
    limits: Limits,
    ports: Vec<u16>,
    sessions: HashMap<u64, Session>,
    tickets: HashMap<Ticket, (u64, End)>,
    /// Joined legs by port and address.
    joined: HashMap<(u16, SocketAddr), (u64, End)>,
    accounts: HashMap<PeerName, Account>,
    total: Bucket,
    counters: Counters,
    next: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Asker,
    Asked,
}

#[derive(Debug)]
struct Session {
    port: u16,
    asker: Leg,
    asked: Leg,
    bytes: u64,
    opened: Duration,
}

#[derive(Debug)]
struct Leg {
    party: Party,
    ticket: Ticket,
    /// Addresses that have joined and not echoed.
    challenged: Challenges,
    joined: Option<Route>,
    /// When something of it was forwarded last, or both were there.
    heard: Duration,
}

/// What an account has left.
#[derive(Debug)]
struct Account {
    bucket: Bucket,
    day_began: Duration,
    day_bytes: u64,
}

impl Relay {
    /// A relay at these ports.
    #[must_use]
    pub fn new(limits: Limits, ports: Vec<u16>, now: Duration) -> Self {
        Self {
            limits,
            ports,
            sessions: HashMap::new(),
            tickets: HashMap::new(),
            joined: HashMap::new(),
            accounts: HashMap::new(),
            total: Bucket::bytes(limits.total_bytes_per_second, now),
            counters: Counters::default(),
            next: 0,
        }
    }

    /// Opens a session under two random tickets, the asker's first. `None` when there is no room for it, or the asker's
    /// budget is used up.
    pub fn open(&mut self, asker: Party, asked: Party, tickets: [Ticket; 2], now: Duration) -> Option<[PortTicket; 2]> {
        self.expire(now);
        let port = self.may_open(&asker, &asked, now).then(|| self.free_port(&asker, &asked)).flatten();
        let Some(port) = port else {
            self.counters.refused += 1;
            return None;
        };
        let number = self.next;
        self.next += 1;
        self.counters.opened += 1;
        self.tickets.insert(tickets[0], (number, End::Asker));
        self.tickets.insert(tickets[1], (number, End::Asked));
        let leg = |party, ticket| Leg {
            party,
            ticket,
            challenged: Challenges::default(),
            joined: None,
            heard: Duration::ZERO,
        };
        let (asker, asked) = (leg(asker, tickets[0]), leg(asked, tickets[1]));
        self.sessions.insert(number, Session { port, asker, asked, bytes: 0, opened: now });
        Some(tickets.map(|ticket| PortTicket { port, ticket }))
    }

    /// Hears a Join: where to send what. Draws on `nonce` when it is the address's first.
    pub fn join(&mut self, port: u16, from: Route, ticket: Ticket, nonce: [u8; 16]) -> Option<(Route, Datagram)> {
        let (session, end) = self.leg_for(port, from.remote, ticket)?;
        let (leg, other) = session.ends(end);
        if leg.joined.is_some() {
            return Some((from, Datagram::Joined { ticket, both: other.joined.is_some() }));
        }
        let nonce = leg.challenged.challenge(from.remote, nonce);
        Some((from, Datagram::Challenge { ticket, nonce }))
    }

    /// Hears an Echo: who is to be told that the leg is there, which is both when the other leg was first.
    pub fn echo(
        &mut self,
        port: u16,
        from: Route,
        ticket: Ticket,
        nonce: [u8; 16],
        now: Duration,
    ) -> Vec<(Route, Datagram)> {
        let Some((session, end)) = self.leg_for(port, from.remote, ticket) else { return Vec::new() };
        let (leg, other) = session.ends(end);
        let both = other.joined.is_some();
        let mut answers = vec![(from, Datagram::Joined { ticket, both })];
        if leg.joined.is_some() {
            return answers;
        }
        if !leg.challenged.is_proof(from.remote, nonce) {
            self.counters.count(DropReason::BadEcho, 1);
            return Vec::new();
        }
        leg.joined = Some(from);
        leg.challenged.clear();
        answers.extend(other.joined.map(|route| (route, Datagram::Joined { ticket: other.ticket, both })));
        if both {
            (leg.heard, other.heard) = (now, now);
            self.counters.joined += 1;
        }
        if let Some(&leg) = self.tickets.get(&ticket) {
            self.joined.insert((port, from.remote), leg);
        }
        answers
    }

    /// Decides on datagrams that are not for the relay itself.
    pub fn forward(&mut self, port: u16, source: SocketAddr, batch: Batch, now: Duration) -> Option<Pass> {
        let datagrams = batch.datagrams(batch.bytes);
        let leg = self.joined.get(&(port, source)).copied();
        let Some((session, end)) = leg.and_then(|(number, end)| Some((self.sessions.get_mut(&number)?, end))) else {
            self.counters.count(DropReason::UnknownSource, datagrams);
            return None;
        };
        let Some(to) = session.ends(end).1.joined else {
            self.counters.count(DropReason::NotJoined, datagrams);
            return None;
        };
        let Some(account) = self.accounts.get_mut(&session.asker.party.name) else {
            self.counters.count(DropReason::OverRate, datagrams);
            return None;
        };
        let (left, reason) = account.left(&self.limits, &mut self.total, now);
        let bytes = batch.whole_datagrams(left);
        let passed = batch.datagrams(bytes);
        self.counters.count(reason, datagrams - passed);
        if passed == 0 {
            return None;
        }
        account.take(bytes, &mut self.total);
        session.ends(end).0.heard = now;
        session.bytes += bytes as u64;
        self.counters.forwarded_datagrams += passed;
        self.counters.forwarded_bytes += bytes as u64;
        Some(Pass { to, bytes })
    }

    /// Ends sessions that were silent for too long, or that one side never joined.
    pub fn expire(&mut self, now: Duration) {
        let idle = self.limits.idle;
        let ended = self.end_where(|session| session.is_over(idle, now));
        self.counters.expired += ended;
    }

    /// Ends the session of a ticket, if it is there yet: what it was for has come to nothing.
    pub fn end(&mut self, ticket: Ticket) {
        let Some((number, _)) = self.tickets.get(&ticket).copied() else { return };
        if let Some(session) = self.sessions.remove(&number) {
            self.forget(session);
        }
    }

    /// Ends all sessions of an account.
    pub fn end_account(&mut self, name: &PeerName) {
        self.end_where(|session| session.asker.party.name == *name || session.asked.party.name == *name);
    }

    /// Counts datagrams that went nowhere for a reason found outside.
    pub fn count(&mut self, reason: DropReason, datagrams: u64) {
        self.counters.count(reason, datagrams);
    }

    /// What became of everything.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The sessions that are open, the oldest first.
    #[must_use]
    pub fn overview(&self, now: Duration) -> Vec<Overview> {
        let mut sessions: Vec<&Session> = self.sessions.values().collect();
        sessions.sort_by_key(|session| session.opened);
        let overview = |session: &Session| Overview {
            asker: session.asker.party.name.clone(),
            asked: session.asked.party.name.clone(),
            port: session.port,
            is_joined: session.is_joined(),
            bytes: session.bytes,
            age: now.saturating_sub(session.opened),
            idle: now.saturating_sub(session.asker.heard.max(session.asked.heard)),
        };
        sessions.into_iter().map(overview).collect()
    }

    fn may_open(&mut self, asker: &Party, asked: &Party, now: Duration) -> bool {
        let of_asker = self.sessions.values().filter(|session| session.asker.party.name == asker.name);
        let (of_asker, of_pair) = of_asker
            .fold((0, 0), |(all, pair), session| (all + 1, pair + usize::from(session.asked.party.name == asked.name)));
        self.sessions.len() < self.limits.sessions
            && of_asker < RELAY_SESSIONS_PER_ACCOUNT_MAX
            && of_pair < RELAY_SESSIONS_PER_PAIR_MAX
            && self.account_has_budget(&asker.name, now)
    }

    /// Makes room for an account's budget, and says whether enough of it is left today.
    fn account_has_budget(&mut self, name: &PeerName, now: Duration) -> bool {
        if self.accounts.len() >= RELAY_ACCOUNTS_MAX && !self.accounts.contains_key(name) {
            let sessions = &self.sessions;
            let has_session = |name: &PeerName| sessions.values().any(|session| session.asker.party.name == *name);
            self.accounts.retain(|name, account| account.is_in_use(now) || has_session(name));
            if self.accounts.len() >= RELAY_ACCOUNTS_MAX {
                return false;
            }
        }
        let (rate, day) = (self.limits.bytes_per_second, self.limits.bytes_per_day);
        let account = self.accounts.entry(name.clone()).or_insert_with(|| Account {
            bucket: Bucket::bytes(rate, now),
            day_began: now,
            day_bytes: 0,
        });
        account.day_left(day, now) >= DAY_BYTES_LEFT_MIN.min(day)
    }

    /// A port at which neither login, nor its address, has a session; another one each time.
    fn free_port(&self, asker: &Party, asked: &Party) -> Option<u16> {
        let taken = |port: u16| {
            let mut here = self.sessions.values().filter(|session| session.port == port);
            here.any(|session| [&session.asker, &session.asked].iter().any(|leg| leg.is_of(asker) || leg.is_of(asked)))
        };
        let count = self.ports.len() as u64;
        let first = self.next.checked_rem(count).and_then(|first| usize::try_from(first).ok())?;
        self.ports.iter().cycle().skip(first).take(self.ports.len()).copied().find(|port| !taken(*port))
    }

    /// The leg of a ticket, if this address may speak for it.
    fn leg_for(&mut self, port: u16, from: SocketAddr, ticket: Ticket) -> Option<(&mut Session, End)> {
        let leg = self.tickets.get(&ticket).copied();
        let found = leg.and_then(|(number, end)| Some((self.sessions.get_mut(&number)?, end)));
        let reason = match found {
            Some((session, end)) if session.port == port => match session.ends(end).0.joined {
                Some(joined) if joined.remote == from => return Some((session, end)),
                Some(_) => DropReason::ReplayedTicket,
                None if self.joined.contains_key(&(port, from)) => DropReason::AddressInUse,
                None => return Some((session, end)),
            },
            Some(_) | None => DropReason::BadTicket,
        };
        self.counters.count(reason, 1);
        None
    }

    fn end_where(&mut self, ends: impl Fn(&Session) -> bool) -> u64 {
        let ended: Vec<Session> =
            self.sessions.extract_if(|_, session| ends(session)).map(|(_, ended)| ended).collect();
        let count = ended.len() as u64;
        for session in ended {
            self.forget(session);
        }
        count
    }

    /// Forgets what led to a session.
    fn forget(&mut self, session: Session) {
        for leg in [session.asker, session.asked] {
            self.tickets.remove(&leg.ticket);
            if let Some(route) = leg.joined {
                self.joined.remove(&(session.port, route.remote));
            }
        }
    }
}

impl Session {
    /// A leg and the one across.
    fn ends(&mut self, end: End) -> (&mut Leg, &mut Leg) {
        match end {
            End::Asker => (&mut self.asker, &mut self.asked),
            End::Asked => (&mut self.asked, &mut self.asker),
        }
    }

    fn is_joined(&self) -> bool {
        self.asker.joined.is_some() && self.asked.joined.is_some()
    }

    fn is_over(&self, idle: Duration, now: Duration) -> bool {
        if self.is_joined() {
            // Both: nobody holds a place of somebody who has gone.
            now.saturating_sub(self.asker.heard.min(self.asked.heard)) >= idle
        } else {
            now.saturating_sub(self.opened) >= RELAY_JOIN_DEADLINE
        }
    }
}

impl Leg {
    fn is_of(&self, party: &Party) -> bool {
        let joined_there = self.joined.is_some_and(|route| route.remote == party.address);
        self.party.login == party.login || self.party.address == party.address || joined_there
    }
}

impl Account {
    /// How many bytes may pass now, and which budget says so.
    fn left(&mut self, limits: &Limits, total: &mut Bucket, now: Duration) -> (u64, DropReason) {
        let budgets = [
            (self.day_left(limits.bytes_per_day, now), DropReason::OverDay),
            (self.bucket.left(now), DropReason::OverRate),
            (total.left(now), DropReason::OverTotal),
        ];
        let [first, others @ ..] = budgets;
        others.into_iter().fold(first, |least, budget| if budget.0 < least.0 { budget } else { least })
    }

    fn take(&mut self, bytes: usize, total: &mut Bucket) {
        self.day_bytes += bytes as u64;
        self.bucket.take(bytes as u64);
        total.take(bytes as u64);
    }

    fn day_left(&mut self, per_day: u64, now: Duration) -> u64 {
        if now.saturating_sub(self.day_began) >= DAY {
            (self.day_began, self.day_bytes) = (now, 0);
        }
        per_day.saturating_sub(self.day_bytes)
    }

    /// Whether forgetting it would give it bytes that it has used up.
    fn is_in_use(&self, now: Duration) -> bool {
        self.day_bytes > 0 && now.saturating_sub(self.day_began) < DAY
    }
}

impl Batch {
    fn datagrams(self, bytes: usize) -> u64 {
        bytes.div_ceil(self.datagram_bytes.max(1)) as u64
    }

    /// As many bytes as are at most `left` and end with a datagram.
    fn whole_datagrams(self, left: u64) -> usize {
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        if left >= self.bytes { self.bytes } else { left - left % self.datagram_bytes.max(1) }
    }
}

impl Bucket {
    const PARTS: u128 = 1_000_000_000;

    /// A budget of bytes, full.
    #[must_use]
    pub fn bytes(per_second: u64, now: Duration) -> Self {
        Self::new(per_second, (per_second / 4).max(BURST_BYTES_MIN), now)
    }

    /// A budget of anything, full.
    #[must_use]
    pub fn new(per_second: u64, capacity: u64, now: Duration) -> Self {
        Self { per_second, capacity, level: u128::from(capacity) * Self::PARTS, at: now }
    }

    /// How much may be taken now.
    pub fn left(&mut self, now: Duration) -> u64 {
        let filled = u128::from(self.per_second) * now.saturating_sub(self.at).as_nanos();
        self.level = (self.level + filled).min(u128::from(self.capacity) * Self::PARTS);
        self.at = self.at.max(now);
        u64::try_from(self.level / Self::PARTS).unwrap_or(u64::MAX)
    }

    /// Takes what [`Self::left`] has promised.
    pub fn take(&mut self, amount: u64) {
        self.level = self.level.saturating_sub(u128::from(amount) * Self::PARTS);
    }
}

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;
