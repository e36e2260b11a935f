//! Who may speak to the doors, how often, and how much they are sent. Time comes in as an argument.
//!
//! The source of a datagram can be forged, so nobody is sent much more than came in their name: an address has 64 KiB to
//! begin with, three bytes more for each that comes from it, what it proves to have got, and a little with time.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;

use super::settings::is_private;
use crate::clock::now_millis;
use crate::wire::ids::UnixMillis;
use crate::wire::limits::{
    LEGACY_ALLOWANCE_BYTES, LEGACY_ALLOWANCE_FACTOR, LEGACY_ALLOWANCE_PER_SECOND, LEGACY_REQUESTS_AT_ONCE,
    LEGACY_REQUESTS_PER_SECOND, LEGACY_SOURCES_MAX,
};

/// Between two searches for those who need not be remembered.
const SWEEP_PAUSE_MILLIS: u64 = 100;

/// What is remembered of all who speak.
#[derive(Debug)]
pub(super) struct Door {
    allowed: Vec<IpNet>,
    requests: Buckets<IpAddr>,
    bytes: Buckets<SocketAddr>,
}

impl Door {
    /// For this machine, private networks and those that the operator names.
    pub(super) fn new(allowed: Vec<IpNet>) -> Self {
        Self {
            allowed,
            requests: Buckets::new(LEGACY_REQUESTS_AT_ONCE, LEGACY_REQUESTS_PER_SECOND),
            bytes: Buckets::new(LEGACY_ALLOWANCE_BYTES, LEGACY_ALLOWANCE_PER_SECOND),
        }
    }

    /// Whether somebody may use the dialects that have neither passwords nor encryption. For `json` too this is who need not
    /// prove their address first.
    pub(super) fn knows(&self, source: IpAddr) -> bool {
        let source = source.to_canonical();
        is_private(source) || self.allowed.iter().any(|network| network.contains(&source))
    }

    /// Whether a request is looked at; what comes too often is not.
    pub(super) fn admits(&mut self, source: SocketAddr, bytes: usize, now: UnixMillis) -> bool {
        // Ports below 1024 belong to services, which answer each other for ever.
        if source.port() < 1_024 || !self.requests.take(source.ip().to_canonical(), 1, now) {
            return false;
        }
        self.credit(source, bytes, now, LEGACY_ALLOWANCE_FACTOR);
        true
    }

    /// Whether so much may be sent to an address, which is then counted.
    pub(super) fn may_send(&mut self, to: SocketAddr, bytes: usize, now: UnixMillis) -> bool {
        self.bytes.take(to, u64::try_from(bytes).unwrap_or(u64::MAX), now)
    }

    /// Notes that somebody has proven to have got so many bytes, which nobody can who forged their address.
    pub(super) fn has_got(&mut self, source: SocketAddr, bytes: usize, now: UnixMillis) {
        self.credit(source, bytes, now, 1);
    }

    fn credit(&mut self, source: SocketAddr, bytes: usize, now: UnixMillis, factor: u64) {
        self.bytes.give(source, u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(factor), now);
    }
}

/// The door of all listeners, by the wall clock.
#[derive(Debug)]
pub(super) struct SharedDoor(Mutex<Door>);

impl SharedDoor {
    /// See [`Door::new`].
    pub(super) fn new(allowed: Vec<IpNet>) -> Self {
        Self(Mutex::new(Door::new(allowed)))
    }

    /// See [`Door::knows`].
    pub(super) fn knows(&self, source: IpAddr) -> bool {
        self.lock().knows(source)
    }

    /// See [`Door::admits`].
    pub(super) fn admits(&self, source: SocketAddr, bytes: usize) -> bool {
        self.lock().admits(source, bytes, now_millis())
    }

    /// See [`Door::may_send`].
    pub(super) fn may_send(&self, to: SocketAddr, bytes: usize) -> bool {
        self.lock().may_send(to, bytes, now_millis())
    }

    /// See [`Door::has_got`].
    pub(super) fn has_got(&self, source: SocketAddr, bytes: usize) {
        self.lock().has_got(source, bytes, now_millis());
    }

    fn lock(&self) -> MutexGuard<'_, Door> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A bucket of tokens for each key that is not full; a full one need not be remembered.
#[derive(Debug)]
struct Buckets<K> {
    size: u64,
    per_second: u64,
    lacking: HashMap<K, Lacking>,
    /// When full ones were looked for last.
    swept_at: UnixMillis,
}

#[derive(Debug, Clone, Copy)]
struct Lacking {
    /// Thousandths of tokens that are missing from a full bucket.
    thousandths: u64,
    since: UnixMillis,
}

impl<K: Eq + Hash + Copy> Buckets<K> {
    fn new(size: u64, per_second: u64) -> Self {
        Self { size, per_second, lacking: HashMap::new(), swept_at: UnixMillis(0) }
    }

    fn take(&mut self, key: K, tokens: u64, now: UnixMillis) -> bool {
        let lacks = self.lacks(key, now);
        let after = lacks.saturating_add(tokens.saturating_mul(1_000));
        if after > self.size.saturating_mul(1_000) || !self.has_room(key, now) {
            return false;
        }
        self.lacking.insert(key, Lacking { thousandths: after, since: now });
        true
    }

    fn give(&mut self, key: K, tokens: u64, now: UnixMillis) {
        match self.lacks(key, now).saturating_sub(tokens.saturating_mul(1_000)) {
            0 => drop(self.lacking.remove(&key)),
            thousandths => drop(self.lacking.insert(key, Lacking { thousandths, since: now })),
        }
    }

    fn lacks(&self, key: K, now: UnixMillis) -> u64 {
        self.lacking.get(&key).map_or(0, |lacking| self.left(*lacking, now))
    }

    /// What is missing after the time that has passed: a token in a second is a thousandth in a millisecond.
    fn left(&self, lacking: Lacking, now: UnixMillis) -> u64 {
        let passed = now.0.saturating_sub(lacking.since.0);
        lacking.thousandths.saturating_sub(passed.saturating_mul(self.per_second))
    }

    /// Forgets full buckets when there are many. When all are in use, nobody new gets one.
    fn has_room(&mut self, key: K, now: UnixMillis) -> bool {
        if self.lacking.len() < LEGACY_SOURCES_MAX || self.lacking.contains_key(&key) {
            return true;
        }
        // Not for each of a flood of strangers.
        if now.0.saturating_sub(self.swept_at.0) < SWEEP_PAUSE_MILLIS {
            return false;
        }
        self.swept_at = now;
        let (per_second, lacking) = (self.per_second, &mut self.lacking);
        lacking.retain(|_, lacking| {
            let passed = now.0.saturating_sub(lacking.since.0);
            lacking.thousandths > passed.saturating_mul(per_second)
        });
        lacking.len() < LEGACY_SOURCES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_000_000);

    fn source(number: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], number))
    }

    fn sent(door: &mut Door, to: SocketAddr, bytes: usize, now: UnixMillis) -> usize {
        (0..10_000).take_while(|_| door.may_send(to, bytes, now)).count() * bytes
    }

    #[test]
    fn nobody_is_sent_much_more_than_came_from_there() {
        let mut door = Door::new(Vec::new());
        assert_eq!(sent(&mut door, source(5_000), 1_024, NOW), 64 * 1_024);
        for _ in 0..10 {
            assert!(door.admits(source(5_000), 100, NOW));
        }
        assert_eq!(sent(&mut door, source(5_000), 100, NOW), 3_000);
        door.has_got(source(5_000), 500, NOW);
        assert_eq!(sent(&mut door, source(5_000), 100, NOW), 500, "what was got is got");
        assert_eq!(sent(&mut door, source(5_000), 1_024, NOW.plus_millis(10_000)), 10 * 1_024, "a little with time");
        assert_eq!(sent(&mut door, source(5_001), 1_024, NOW), 64 * 1_024, "each socket for itself");
    }

    #[test]
    fn whoever_asks_too_often_is_not_heard_and_others_are() {
        let mut door = Door::new(Vec::new());
        let heard = (0..5_000).filter(|_| door.admits(source(5_000), 10, NOW)).count();
        assert_eq!(heard, 1_000);
        let other = SocketAddr::from(([127, 0, 0, 2], 5_000));
        assert!(door.admits(other, 10, NOW));
        let later = NOW.plus_millis(1_000);
        assert_eq!((0..5_000).filter(|_| door.admits(source(6_000), 10, later)).count(), 500, "ports do not help");
        assert!(!door.admits(source(1_023), 10, NOW.plus_millis(60_000)), "services are not answered");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut door = Door::new(Vec::new());
        for number in 0..20_000_u32 {
            door.admits(SocketAddr::from((number.to_be_bytes(), 5_000)), 10, NOW);
            door.may_send(SocketAddr::from((number.to_be_bytes(), 5_000)), 10, NOW);
        }
        assert!(door.requests.lacking.len() <= LEGACY_SOURCES_MAX);
        assert!(door.bytes.lacking.len() <= LEGACY_SOURCES_MAX);
        let later = NOW.plus_millis(60_000);
        assert!(door.admits(source(5_000), 10, later), "there is room again");
    }

    #[test]
    fn private_networks_and_those_of_the_operator_are_known() {
        let door = Door::new(vec!["203.0.113.0/24".parse().unwrap()]);
        for known in ["127.0.0.9", "10.1.2.3", "192.168.0.7", "::1", "fd00::1", "::ffff:10.0.0.1", "203.0.113.9"] {
            assert!(door.knows(known.parse().unwrap()), "{known}");
        }
        for unknown in ["8.8.8.8", "2001:db8::1", "203.0.114.1", "::ffff:8.8.8.8"] {
            assert!(!door.knows(unknown.parse().unwrap()), "{unknown}");
        }
    }
}
