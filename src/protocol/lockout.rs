//! Slows down whoever guesses passwords. A try is counted before its hash is computed, so that many at once gain nothing.
//! Does not know passwords, hashes or disks; it hands out what must be kept, and takes it back after a restart.
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
    changes: Vec<Remembered>,
}

/// What is remembered of one source or one account: the caller keeps it, so that a restart forgets nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remembered {
    /// One source that tries the passwords of one account.
    Source {
        /// The account.
        name: PeerName,
        /// From where.
        source: SourcePrefix,
        /// What is known of it; `None` when it is forgotten.
        state: Option<Source>,
    },
    /// The tries of all sources of one account.
    Account {
        /// The account.
        name: PeerName,
        /// When, the oldest first; empty when it is forgotten.
        wrong: Vec<UnixMillis>,
    },
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// Wrong passwords since the last lock.
    pub wrong: u32,
    /// How often it was locked.
    pub locks: u32,
    /// No password is looked at before this.
    pub locked_until: UnixMillis,
    /// When a password was looked at last.
    pub last_try: UnixMillis,
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
        if let Some((name, source)) = make_room(&mut self.sources, &key, now) {
            self.changes.push(Remembered::Source { name, source, state: None });
        }
        if let Some(name) = make_room(&mut self.accounts, name, now) {
            self.changes.push(Remembered::Account { name, wrong: Vec::new() });
        }
        self.accounts.entry(name.clone()).or_default().count(now);
        let (left, lock) = self.sources.entry(key).or_insert_with(|| Source::new(now)).count(now);
        self.changed(name, source);
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
        let key = (name, source);
        self.sources.remove(&key);
        self.changed(&key.0, source);
    }

    /// What must be kept since the last call, in order: after each try before anything is hashed, and after a success.
    pub fn take_changes(&mut self) -> Vec<Remembered> {
        std::mem::take(&mut self.changes)
    }

    /// Takes back what was kept, after a restart.
    pub fn restore(&mut self, kept: Vec<Remembered>) {
        for remembered in kept {
            match remembered {
                Remembered::Source { name, source, state: Some(state) } if self.sources.len() < REMEMBERED_MAX => {
                    self.sources.insert((name, source), state);
                }
                Remembered::Account { name, wrong } if self.accounts.len() < REMEMBERED_MAX => {
                    self.accounts.insert(name, Account { wrong: wrong.into() });
                }
                Remembered::Source { .. } | Remembered::Account { .. } => {}
            }
        }
    }

    fn changed(&mut self, name: &PeerName, source: SourcePrefix) {
        let state = self.sources.get(&(name.clone(), source)).copied();
        let wrong = self.accounts.get(name).map_or_else(Vec::new, |account| account.wrong.iter().copied().collect());
        self.changes.push(Remembered::Source { name: name.clone(), source, state });
        self.changes.push(Remembered::Account { name: name.clone(), wrong });
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

/// Makes room for a new key, and says which one was forgotten for it. A look at all of them is cheap beside the hash that each try costs.
fn make_room<K: Hash + Eq + Clone, V: Forgettable>(
    remembered: &mut HashMap<K, V>,
    key: &K,
    now: UnixMillis,
) -> Option<K> {
    if remembered.len() < REMEMBERED_MAX || remembered.contains_key(key) {
        return None;
    }
    let lightest = remembered.iter().min_by_key(|(_, value)| value.weight(now)).map(|(key, _)| key.clone())?;
    remembered.remove(&lightest);
    Some(lightest)
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
    fn a_restart_forgets_nothing_that_was_kept() {
        let mut world = World::new();
        let mut kept: Vec<Remembered> = Vec::new();
        for source in [1, 1, 2, 1, 3, 3] {
            world.wrong(source);
            for change in world.lockout.take_changes() {
                kept.retain(|known| place(known) != place(&change));
                kept.push(change);
            }
        }
        world.lockout = Lockout::default();
        world.lockout.restore(kept);
        world.pass(1);
        assert_eq!([1, 2, 3].map(|source| world.wrong(source)), [locked(59), left(1), locked(60)]);
    }

    #[test]
    fn a_right_password_is_kept_as_forgotten() {
        let mut world = World::new();
        let tried = world.begin(1).unwrap();
        world.lockout.take_changes();
        world.lockout.succeeded(tried);
        let forgotten = [
            Remembered::Source { name: alice(), source: network(1), state: None },
            Remembered::Account { name: alice(), wrong: Vec::new() },
        ];
        assert_eq!(world.lockout.take_changes(), forgotten);
    }

    /// What a change is about: a later one of the same place replaces it.
    fn place(change: &Remembered) -> (PeerName, Option<SourcePrefix>) {
        match change {
            Remembered::Source { name, source, .. } => (name.clone(), Some(*source)),
            Remembered::Account { name, .. } => (name.clone(), None),
        }
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
