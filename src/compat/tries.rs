//! Slows down whoever guesses the passwords of the older systems: the third wrong one in a row locks the name for a minute, from
//! that address only. A lock that held everywhere, as the older systems had it, would let anybody keep anybody out.
//!
//! ```text
//! Counting --third wrong password--> Locked for 60 s --time over--> Counting from the beginning
//!     ^------- a right password -------'
//! ```

use std::collections::HashMap;
use std::net::IpAddr;

use crate::wire::ids::UnixMillis;
use crate::wire::limits::LEGACY_SOURCES_MAX;

/// Wrong passwords in a row before the lock: what the older systems say.
const TRIES: u32 = 3;

/// How long the lock lasts: what the older systems say.
const LOCK_MILLIS: u64 = 60_000;

/// What somebody types as a name may be anything; no name is longer.
const NAME_CHARS_MAX: usize = 32;

/// Names that were tried, with the address that tried them. Whether there is such a name makes no difference here.
#[derive(Debug, Default)]
pub(super) struct Tries(HashMap<(String, IpAddr), Tried>);

#[derive(Debug, Clone, Copy)]
struct Tried {
    wrong: u32,
    locked_until: UnixMillis,
    last: UnixMillis,
}

/// What becomes of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The password is right.
    Right,
    /// It is wrong, and so many tries are left.
    Wrong {
        /// How many.
        left: u32,
    },
    /// It was wrong once too often.
    NowLocked {
        /// For how long.
        seconds: u64,
    },
    /// No password is looked at, the right one neither.
    Locked {
        /// For how long still, at least 1.
        seconds: u64,
    },
}

impl Tries {
    /// Counts a try, of which the caller knows whether the password is right.
    pub(super) fn judge(&mut self, name: &str, source: IpAddr, is_right: bool, now: UnixMillis) -> Verdict {
        let name = name.chars().take(NAME_CHARS_MAX).collect::<String>().to_ascii_lowercase();
        let key = (name, source.to_canonical());
        let tried = self.0.get(&key).copied().unwrap_or(Tried { wrong: 0, locked_until: UnixMillis(0), last: now });
        let wait = tried.locked_until.0.saturating_sub(now.0);
        if wait > 0 {
            return Verdict::Locked { seconds: wait.div_ceil(1_000) };
        }
        if is_right {
            self.0.remove(&key);
            return Verdict::Right;
        }
        self.make_room(&key, now);
        let wrong = tried.wrong + 1;
        if wrong < TRIES {
            self.0.insert(key, Tried { wrong, last: now, ..tried });
            return Verdict::Wrong { left: TRIES - wrong };
        }
        self.0.insert(key, Tried { wrong: 0, locked_until: now.plus_millis(LOCK_MILLIS), last: now });
        Verdict::NowLocked { seconds: LOCK_MILLIS / 1_000 }
    }

    /// Forgets first what holds nobody back, so that a flood of names does not free the one that is locked.
    fn make_room(&mut self, key: &(String, IpAddr), now: UnixMillis) {
        if self.0.len() < LEGACY_SOURCES_MAX || self.0.contains_key(key) {
            return;
        }
        let weight = |tried: &Tried| (tried.locked_until.0.saturating_sub(now.0), tried.last);
        let lightest = self.0.iter().min_by_key(|(_, tried)| weight(tried)).map(|(key, _)| key.clone());
        if let Some(lightest) = lightest {
            self.0.remove(&lightest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

    fn source(last: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, last])
    }

    fn after(seconds: u64) -> UnixMillis {
        NOW.plus_millis(seconds * 1_000)
    }

    #[test]
    fn the_third_wrong_password_in_a_row_locks_for_a_minute_from_there() {
        let mut tries = Tries::default();
        let mut wrong = |name, from, now| tries.judge(name, source(from), false, now);
        assert_eq!(wrong("seas", 1, NOW), Verdict::Wrong { left: 2 });
        assert_eq!(wrong("SEAS", 1, NOW), Verdict::Wrong { left: 1 });
        assert_eq!(wrong("seas", 1, NOW), Verdict::NowLocked { seconds: 60 });
        assert_eq!(wrong("seas", 1, after(20)), Verdict::Locked { seconds: 40 });
        assert_eq!(wrong("seas", 2, NOW), Verdict::Wrong { left: 2 }, "elsewhere it is not locked");
        assert_eq!(wrong("columbia", 1, NOW), Verdict::Wrong { left: 2 }, "and nobody else is");
        assert_eq!(tries.judge("seas", source(1), true, after(59)), Verdict::Locked { seconds: 1 });
        assert_eq!(tries.judge("seas", source(2), true, after(59)), Verdict::Right);
        assert_eq!(tries.judge("seas", source(1), false, after(60)), Verdict::Wrong { left: 2 });
    }

    #[test]
    fn a_right_password_begins_anew() {
        let mut tries = Tries::default();
        for _ in 0..10 {
            assert_eq!(tries.judge("seas", source(1), false, NOW), Verdict::Wrong { left: 2 });
            assert_eq!(tries.judge("seas", source(1), false, NOW), Verdict::Wrong { left: 1 });
            assert_eq!(tries.judge("seas", source(1), true, NOW), Verdict::Right);
        }
        assert!(tries.0.is_empty());
    }

    #[test]
    fn a_flood_of_names_is_bounded_and_does_not_free_the_locked() {
        let mut tries = Tries::default();
        for _ in 0..3 {
            tries.judge("seas", source(1), false, NOW);
        }
        for number in 0..2 * LEGACY_SOURCES_MAX {
            tries.judge(&format!("{number}{}", "x".repeat(100)), source(1), false, after(1));
        }
        assert_eq!(tries.0.len(), LEGACY_SOURCES_MAX);
        assert!(tries.0.keys().all(|(name, _)| name.len() <= NAME_CHARS_MAX));
        assert_eq!(tries.judge("seas", source(1), true, after(1)), Verdict::Locked { seconds: 59 });
    }
}
