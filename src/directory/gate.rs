//! Who may begin a handshake: bounds what connections that have not logged in can cost. Those that have do not count.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::wire::limits::{
    ABANDONED_REMEMBERED, HANDSHAKES_BEFORE_RETRY, NEW_ACCOUNTS_PER_PREFIX_PER_HOUR, UNAUTHENTICATED_MAX,
    UNAUTHENTICATED_PER_SOURCE_MAX,
};

/// What strangers may cost before they have logged in; an operator may choose other values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections of all sources that have not logged in.
    pub unauthenticated: usize,
    /// Connections from one source address that have not logged in.
    pub unauthenticated_per_source: usize,
    /// Handshakes under way before each newcomer must prove its address (QUIC Retry).
    pub retry_above: usize,
    /// New accounts from one source prefix in an hour.
    pub new_accounts_per_hour: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            unauthenticated: UNAUTHENTICATED_MAX,
            unauthenticated_per_source: UNAUTHENTICATED_PER_SOURCE_MAX,
            retry_above: HANDSHAKES_BEFORE_RETRY,
            new_accounts_per_hour: NEW_ACCOUNTS_PER_PREFIX_PER_HOUR,
        }
    }
}

impl Limits {
    /// A source with more than half of its share must prove its address first, because anybody can forge the first
    /// packet: so nobody can use up the share of another.
    fn per_source_before_retry(self) -> usize {
        self.unauthenticated_per_source / 2
    }
}

/// Counts the connections that have not logged in. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Gate {
    limits: Limits,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    per_source: HashMap<IpAddr, usize>,
    strangers: usize,
    handshakes: usize,
    /// When handshakes came to nothing whose first packet may have been forged, the oldest first. As long as these are
    /// many, nobody is answered at length who has not proven their address: so it is bounded by the number of handshakes
    /// that are begun without.
    abandoned: VecDeque<Instant>,
}

/// What to do with a newcomer.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Shake hands, and keep this until it has logged in or is gone.
    Welcome(Stranger),
    /// Let it come again with proof that it receives at its address.
    ProveAddress,
    /// Turn it away.
    TurnAway,
}

/// Whether a newcomer has proven that it receives at its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Address {
    /// It has.
    Proven,
    /// It may be forged.
    Claimed,
}

/// One connection that has not logged in; it is counted until this is dropped.
#[derive(Debug)]
pub(super) struct Stranger {
    counts: Arc<Mutex<Counts>>,
    source: IpAddr,
    proof: Address,
    shaking_hands: bool,
}

impl Gate {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, counts: Arc::default() }
    }

    /// Decides on a newcomer.
    pub(super) fn ask(&self, address: IpAddr, proof: Address) -> Verdict {
        let source = household(address);
        let mut counts = lock(&self.counts);
        let from_source = counts.per_source.get(&source).copied().unwrap_or(0);
        let crowded = counts.handshakes + counts.abandoned_lately(Instant::now()) >= self.limits.retry_above
            || from_source >= self.limits.per_source_before_retry();
        if crowded && proof == Address::Claimed {
            return Verdict::ProveAddress;
        }
        if counts.strangers >= self.limits.unauthenticated || from_source >= self.limits.unauthenticated_per_source {
            return Verdict::TurnAway;
        }
        *counts.per_source.entry(source).or_default() += 1;
        counts.strangers += 1;
        counts.handshakes += 1;
        Verdict::Welcome(Stranger { counts: self.counts.clone(), source, proof, shaking_hands: true })
    }
}

impl Counts {
    /// Handshakes that came to nothing a short while ago.
    fn abandoned_lately(&mut self, now: Instant) -> usize {
        while self.abandoned.front().is_some_and(|at| now.duration_since(*at) >= ABANDONED_REMEMBERED) {
            self.abandoned.pop_front();
        }
        self.abandoned.len()
    }
}

impl Stranger {
    /// Notes that the handshake is over.
    pub(super) fn hands_shaken(&mut self) {
        if std::mem::take(&mut self.shaking_hands) {
            lock(&self.counts).handshakes -= 1;
        }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let was_abandoned = self.shaking_hands && self.proof == Address::Claimed;
        self.hands_shaken();
        let mut counts = lock(&self.counts);
        if was_abandoned {
            counts.abandoned.push_back(Instant::now());
        }
        counts.strangers -= 1;
        let left = counts.per_source.get_mut(&self.source).map(|count| {
            *count -= 1;
            *count
        });
        if left == Some(0) {
            counts.per_source.remove(&self.source);
        }
    }
}

/// One IPv4 address, or the /64 of an IPv6 address, all of which belongs to one network at least.
fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn source(number: usize) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(number).unwrap()))
    }

    fn welcome(gate: &Gate, address: IpAddr, proof: Address) -> Option<Stranger> {
        match gate.ask(address, proof) {
            Verdict::Welcome(mut stranger) => {
                stranger.hands_shaken();
                Some(stranger)
            }
            Verdict::ProveAddress | Verdict::TurnAway => None,
        }
    }

    #[test]
    fn a_source_has_its_share_and_others_theirs() {
        let gate = Gate::default();
        let mut strangers: Vec<_> = (0..100).filter_map(|_| welcome(&gate, source(1), Address::Proven)).collect();
        assert_eq!(strangers.len(), UNAUTHENTICATED_PER_SOURCE_MAX);
        assert!(matches!(gate.ask(source(1), Address::Proven), Verdict::TurnAway));
        assert!(welcome(&gate, source(2), Address::Claimed).is_some());
        strangers.pop();
        assert!(welcome(&gate, source(1), Address::Proven).is_some());
    }

    #[test]
    fn forged_packets_do_not_use_up_the_share_of_a_source() {
        let gate = Gate::default();
        let forged: Vec<_> = (0..1_000).filter_map(|_| welcome(&gate, source(1), Address::Claimed)).collect();
        assert_eq!(forged.len(), Limits::default().per_source_before_retry());
        assert!(matches!(gate.ask(source(1), Address::Claimed), Verdict::ProveAddress));
        assert!(welcome(&gate, source(1), Address::Proven).is_some());
    }

    /// As many handshakes as may begin without proof of an address.
    fn begin_all(gate: &Gate) -> Vec<Stranger> {
        let begin = |number| match gate.ask(source(number), Address::Claimed) {
            Verdict::Welcome(stranger) => stranger,
            other => panic!("newcomer {number}: {other:?}"),
        };
        (0..HANDSHAKES_BEFORE_RETRY).map(begin).collect()
    }

    #[test]
    fn many_handshakes_at_once_make_everyone_prove_their_address() {
        let gate = Gate::default();
        let mut shaking = begin_all(&gate);
        assert!(matches!(gate.ask(source(9_999), Address::Claimed), Verdict::ProveAddress));
        assert!(matches!(gate.ask(source(9_999), Address::Proven), Verdict::Welcome(_)));
        shaking.iter_mut().for_each(Stranger::hands_shaken);
        assert!(matches!(gate.ask(source(9_999), Address::Claimed), Verdict::Welcome(_)));
    }

    #[test]
    fn forged_handshakes_count_for_a_minute_after_their_end() {
        let gate = Gate::default();
        drop(begin_all(&gate));
        assert!(matches!(gate.ask(source(9_999), Address::Claimed), Verdict::ProveAddress));
        assert!(welcome(&gate, source(9_999), Address::Proven).is_some());
        assert_eq!(lock(&gate.counts).abandoned_lately(Instant::now() + ABANDONED_REMEMBERED), 0);
        assert!(matches!(gate.ask(source(9_999), Address::Claimed), Verdict::Welcome(_)));
    }

    #[test]
    fn all_sources_together_are_bounded_and_nothing_is_left_behind() {
        let gate = Gate::default();
        let strangers: Vec<_> =
            (0..UNAUTHENTICATED_MAX + 10).filter_map(|n| welcome(&gate, source(n), Address::Proven)).collect();
        assert_eq!(strangers.len(), UNAUTHENTICATED_MAX);
        drop(strangers);
        let counts = lock(&gate.counts);
        assert_eq!((counts.strangers, counts.handshakes, counts.per_source.len()), (0, 0, 0));
    }

    #[test]
    fn an_operator_chooses_other_limits() {
        let gate = Gate::new(Limits { unauthenticated: 3, unauthenticated_per_source: 2, ..Limits::default() });
        let strangers = [1, 1, 1, 2, 3].map(|number| welcome(&gate, source(number), Address::Proven));
        assert_eq!(strangers.map(|stranger| stranger.is_some()), [true, true, false, true, false]);
    }
}
