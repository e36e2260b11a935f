//! Slows down whoever guesses passwords. A try is counted before its hash is computed, so that many at once gain nothing.
//! Does not know passwords or hashes; keeps what it counts in memory only.
//!
//! ```text
//! Counting --third wrong password--> Locked for 60 s, the next time 120 s ... 1 h --time over--> Counting
//!     ^                                                                                             |
//!     +---------------------------- a right password forgets the source ---------------------------+
//! ```
//! Beside it, for all sources of an account together: after 30 wrong passwords in an hour one try in 30 s.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use super::source::SourcePrefix;
use crate::wire::ids::{PeerName, UnixMillis};
use crate::wire::refusal::Refusal;

/// Wrong passwords from one source before it is locked.
const TRIES: u32 = 3;

/// The first lock; each further one is twice as long.
const FIRST_LOCK_MILLIS: u64 = 60_000;

/// The longest lock.
const LONGEST_LOCK_MILLIS: u64 = 3_600_000;

/// A source that has not tried for a day starts again with the shortest lock.
const FORGET_MILLIS: u64 = 24 * 3_600_000;

/// Wrong passwords from all sources of an account within [`WINDOW_MILLIS`] before tries are spaced out.
const ACCOUNT_TRIES: usize = 30;
const WINDOW_MILLIS: u64 = 3_600_000;
const SPACING_MILLIS: u64 = 30_000;

/// Sources, and accounts, that are remembered: about 2 MiB each. Beyond them the oldest harmless one is forgotten.
const REMEMBERED_MAX: usize = 16_384;

/// What is remembered of everyone who has tried passwords.
#[derive(Debug, Default)]
pub struct Lockout {
    sources: HashMap<(PeerName, SourcePrefix), Source>,
    accounts: HashMap<PeerName, Account>,
}

/// A try that counts as wrong until [`Lockout::succeeded`] takes it back.
#[derive(Debug)]
#[must_use = "the try counts as wrong already; its answer says how many are left"]
pub struct Try {
    name: PeerName,
    source: SourcePrefix,
    at: UnixMillis,
    left: u32,
    lock: u64,
}

/// No password is looked at now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockedOut {
    /// Until the next try is looked at, at least 1.
    pub seconds: u32,
}

impl From<LockedOut> for Refusal {
    fn from(LockedOut { seconds }: LockedOut) -> Self {
        Self::LockedOut { seconds }
    }
}

impl Try {
    /// What to answer when the password turns out to be wrong: how many tries are left, or how long the lock lasts.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        match self.left {
            0 => LockedOut { seconds: seconds(self.lock) }.into(),
            tries_left => Refusal::WrongPassword { tries_left },
        }
    }
}

/// One source that tries the passwords of one account.
#[derive(Debug)]
struct Source {
    /// Since the last lock.
    wrong: u32,
    /// How often it was locked.
    locks: u32,
    locked_until: UnixMillis,
    last_try: UnixMillis,
}

/// The tries of all sources of one account.
#[derive(Debug, Default)]
struct Account {
    /// When, the oldest first; no more than [`ACCOUNT_TRIES`].
    wrong: VecDeque<UnixMillis>,
}

impl Lockout {
    /// Counts a try as wrong, before the password is looked at.
    ///
    /// # Errors
    /// [`LockedOut`] when the source is locked, or the account's tries are spaced out; such a try is not counted.
    pub fn begin_try(&mut self, name: &PeerName, source: SourcePrefix, now: UnixMillis) -> Result<Try, LockedOut> {
        let key = (name.clone(), source);
        let wait = [
            self.sources.get(&key).map_or(0, |source| source.wait(now)),
            self.accounts.get(name).map_or(0, |account| account.wait(now)),
        ];
        if let Some(wait) = wait.into_iter().max().filter(|wait| *wait > 0) {
            return Err(LockedOut { seconds: seconds(wait) });
        }
        make_room(&mut self.sources, &key, now);
        make_room(&mut self.accounts, name, now);
        self.accounts.entry(name.clone()).or_default().count(now);
        let (left, lock) = self.sources.entry(key).or_insert_with(|| Source::new(now)).count(now);
        Ok(Try { name: name.clone(), source, at: now, left, lock })
    }

    /// Takes a try back whose password was right, and forgets the wrong ones of its source.
    pub fn succeeded(&mut self, tried: Try) {
        let Try { name, source, at, .. } = tried;
        if let Some(account) = self.accounts.get_mut(&name) {
            account.take_back(at);
            if account.wrong.is_empty() {
                self.accounts.remove(&name);
            }
        }
        self.sources.remove(&(name, source));
    }
}

impl Source {
    fn new(now: UnixMillis) -> Self {
        Self { wrong: 0, locks: 0, locked_until: UnixMillis(0), last_try: now }
    }

    fn wait(&self, now: UnixMillis) -> u64 {
        self.locked_until.0.saturating_sub(now.0)
    }

    /// Counts one more; says how many tries are left and for how long the source is locked now.
    fn count(&mut self, now: UnixMillis) -> (u32, u64) {
        if now.0.saturating_sub(self.last_try.0) >= FORGET_MILLIS {
            *self = Self::new(now);
        }
        self.last_try = now;
        self.wrong += 1;
        if self.wrong < TRIES {
            return (TRIES - self.wrong, 0);
        }
        let lock = (FIRST_LOCK_MILLIS << self.locks.min(16)).min(LONGEST_LOCK_MILLIS);
        self.locked_until = now.plus_millis(lock);
        self.locks = self.locks.saturating_add(1);
        self.wrong = 0;
        (0, lock)
    }
}

impl Account {
    fn wait(&self, now: UnixMillis) -> u64 {
        let (Some(oldest), Some(newest)) = (self.wrong.front(), self.wrong.back()) else { return 0 };
        let many = self.wrong.len() >= ACCOUNT_TRIES && now.0.saturating_sub(oldest.0) < WINDOW_MILLIS;
        if many { newest.plus_millis(SPACING_MILLIS).0.saturating_sub(now.0) } else { 0 }
    }

    fn count(&mut self, now: UnixMillis) {
        if self.wrong.len() >= ACCOUNT_TRIES {
            self.wrong.pop_front();
        }
        self.wrong.push_back(now);
    }

    fn take_back(&mut self, at: UnixMillis) {
        if let Some(index) = self.wrong.iter().rposition(|tried| *tried == at) {
            self.wrong.remove(index);
        }
    }
}

/// What can be forgotten when there is no room: first what holds nobody back, then what is over soonest.
trait Forgettable {
    /// How long it still holds somebody back, and when it was last used.
    fn weight(&self, now: UnixMillis) -> (u64, UnixMillis);
}

impl Forgettable for Source {
    fn weight(&self, now: UnixMillis) -> (u64, UnixMillis) {
        (self.wait(now), self.last_try)
    }
}

impl Forgettable for Account {
    fn weight(&self, now: UnixMillis) -> (u64, UnixMillis) {
        (self.wait(now), self.wrong.back().copied().unwrap_or(UnixMillis(0)))
    }
}

/// Makes room for a new key. A look at all of them is cheap beside the hash that each try costs.
fn make_room<K: Hash + Eq + Clone, V: Forgettable>(remembered: &mut HashMap<K, V>, key: &K, now: UnixMillis) {
    if remembered.len() < REMEMBERED_MAX || remembered.contains_key(key) {
        return;
    }
    let lightest = remembered.iter().min_by_key(|(_, value)| value.weight(now)).map(|(key, _)| key.clone());
    if let Some(lightest) = lightest {
        remembered.remove(&lightest);
    }
}

fn seconds(millis: u64) -> u32 {
    u32::try_from(millis.div_ceil(1_000)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    const START: u64 = 1_700_000_000_000;

    /// A lock-out with a clock that the test turns.
    struct World {
        lockout: Lockout,
        now: UnixMillis,
    }

    impl World {
        fn new() -> Self {
            Self { lockout: Lockout::default(), now: UnixMillis(START) }
        }

        fn pass(&mut self, seconds: u64) {
            self.now = self.now.plus_millis(seconds * 1_000);
        }

        fn begin(&mut self, source: u32) -> Result<Try, LockedOut> {
            self.lockout.begin_try(&alice(), network(source), self.now)
        }

        /// What a wrong password is answered.
        fn wrong(&mut self, source: u32) -> Refusal {
            self.begin(source).map_or_else(Refusal::from, |tried| tried.refusal())
        }
    }

    fn alice() -> PeerName {
        PeerName::parse("alice").unwrap()
    }

    /// A /24 for each number.
    fn network(number: u32) -> SourcePrefix {
        SourcePrefix::of(IpAddr::V4(Ipv4Addr::from_bits(number << 8 | 7)))
    }

    fn locked(seconds: u32) -> Refusal {
        Refusal::LockedOut { seconds }
    }

    fn left(tries_left: u32) -> Refusal {
        Refusal::WrongPassword { tries_left }
    }

    #[test]
    fn the_third_wrong_password_locks_for_a_minute() {
        let mut world = World::new();
        assert_eq!([1, 1, 1].map(|source| world.wrong(source)), [left(2), left(1), locked(60)]);
        world.pass(59);
        assert_eq!(world.wrong(1), locked(1));
        world.pass(1);
        assert_eq!(world.wrong(1), left(2));
    }

    #[test]
    fn locks_double_up_to_an_hour() {
        let mut world = World::new();
        let mut locks = Vec::new();
        for _ in 0..8 {
            assert_eq!([1, 1].map(|source| world.wrong(source)), [left(2), left(1)]);
            let Refusal::LockedOut { seconds } = world.wrong(1) else { panic!("three tries lock") };
            locks.push(seconds);
            world.pass(u64::from(seconds));
        }
        assert_eq!(locks, [60, 120, 240, 480, 960, 1_920, 3_600, 3_600]);
    }

    #[test]
    fn a_day_without_tries_begins_with_the_shortest_lock_again() {
        let mut world = World::new();
        for _ in 0..3 {
            world.wrong(1);
        }
        world.pass(24 * 3_600);
        assert_eq!([1, 1, 1].map(|source| world.wrong(source)), [left(2), left(1), locked(60)]);
    }

    #[test]
    fn tries_at_the_same_time_do_not_pass() {
        let mut world = World::new();
        let begun: Vec<_> = (0..100).filter_map(|_| world.begin(1).ok()).collect();
        assert_eq!(begun.len(), 3, "all others are refused before any of the three is hashed");
    }

    #[test]
    fn other_networks_and_other_accounts_are_not_locked() {
        let mut world = World::new();
        for _ in 0..3 {
            world.wrong(1);
        }
        assert_eq!(world.wrong(2), left(2));
        let bob = PeerName::parse("bob").unwrap();
        assert_eq!(world.lockout.begin_try(&bob, network(1), world.now).unwrap().refusal(), left(2));
    }

    #[test]
    fn a_right_password_forgets_the_wrong_ones() {
        let mut world = World::new();
        world.wrong(1);
        world.wrong(1);
        let third = world.begin(1).unwrap();
        assert_eq!(world.wrong(1), locked(60), "until the third is hashed");
        world.lockout.succeeded(third);
        assert_eq!(world.wrong(1), left(2));
    }

    #[test]
    fn thirty_wrong_passwords_from_everywhere_space_tries_out() {
        let mut world = World::new();
        for source in 0..30 {
            assert_eq!(world.wrong(source), left(2));
            world.pass(1);
        }
        assert_eq!(world.wrong(100), locked(29));
        world.pass(29);
        assert_eq!(world.wrong(100), left(2));
        assert_eq!(world.wrong(101), locked(30));
        world.pass(3_600);
        assert_eq!(world.wrong(101), left(2));
        assert_eq!(world.wrong(102), left(2), "the hour is over");
    }

    #[test]
    fn right_passwords_do_not_count_for_the_account() {
        let mut world = World::new();
        for source in 0..100 {
            let tried = world.begin(source).unwrap();
            world.lockout.succeeded(tried);
        }
        assert_eq!(world.wrong(1), left(2));
        assert_eq!((world.lockout.sources.len(), world.lockout.accounts.len()), (1, 1));
    }

    #[test]
    fn a_flood_of_networks_is_bounded_and_does_not_free_the_locked() {
        let mut world = World::new();
        for _ in 0..3 {
            world.wrong(1);
        }
        for number in 0..u32::try_from(REMEMBERED_MAX).unwrap() + 100 {
            let name = PeerName::parse(&format!("user{number}")).unwrap();
            assert_eq!(world.lockout.begin_try(&name, network(number), world.now).unwrap().refusal(), left(2));
        }
        assert_eq!(world.lockout.sources.len(), REMEMBERED_MAX);
        assert_eq!(world.lockout.accounts.len(), REMEMBERED_MAX);
        assert_eq!(world.wrong(1), locked(60));
    }
}
