//! Who was here in the last hour, so that somebody who has just left can be found. Does not know who may see them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeBounds;

use crate::wire::ids::{PeerName, UnixMillis};
use crate::wire::limits::{RECENT, RECENT_MAX};

/// Nobody needs to know to the second when somebody left.
const BUCKET_MILLIS: u64 = 60_000;

/// A time as others are told it: the minute it is in.
#[must_use]
pub fn last_seen(at: UnixMillis) -> UnixMillis {
    UnixMillis(at.0 - at.0 % BUCKET_MILLIS)
}

/// Those who have left, and when.
#[derive(Debug, Default)]
pub(super) struct Recent {
    left: BTreeMap<PeerName, UnixMillis>,
    by_time: BTreeSet<(UnixMillis, PeerName)>,
}

impl Recent {
    /// Somebody has left. Whoever left first makes room.
    pub(super) fn left(&mut self, name: &PeerName, at: UnixMillis) {
        self.is_back(name);
        self.left.insert(name.clone(), at);
        self.by_time.insert((at, name.clone()));
        while self.left.len() > RECENT_MAX || self.by_time.first().is_some_and(|(first, _)| !is_recent(*first, at)) {
            let Some((_, first)) = self.by_time.pop_first() else { return };
            self.left.remove(&first);
        }
    }

    /// Somebody is here again.
    pub(super) fn is_back(&mut self, name: &PeerName) {
        if let Some(at) = self.left.remove(name) {
            self.by_time.remove(&(at, name.clone()));
        }
    }

    /// Those who left within the last hour, by name.
    pub(super) fn range(
        &self,
        names: impl RangeBounds<PeerName>,
        now: UnixMillis,
    ) -> impl Iterator<Item = (&PeerName, UnixMillis)> {
        self.left.range(names).filter(move |(_, at)| is_recent(**at, now)).map(|(name, at)| (name, *at))
    }
}

/// Whether a time is in the last hour. One that lies ahead was noted before the clock was set back.
fn is_recent(at: UnixMillis, now: UnixMillis) -> bool {
    u128::from(now.0.saturating_sub(at.0)) < RECENT.as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> PeerName {
        PeerName::parse(text).unwrap()
    }

    fn names(recent: &Recent, minute: u64) -> Vec<String> {
        recent.range(.., UnixMillis(minute * 60_000)).map(|(name, _)| name.to_string()).collect()
    }

    #[test]
    fn who_left_is_recent_for_an_hour_or_until_they_are_back() {
        let mut recent = Recent::default();
        recent.left(&name("alice"), UnixMillis(0));
        recent.left(&name("bob"), UnixMillis(10 * 60_000));
        assert_eq!(names(&recent, 59), ["alice", "bob"]);
        assert_eq!(names(&recent, 60), ["bob"]);
        recent.left(&name("alice"), UnixMillis(61 * 60_000));
        recent.is_back(&name("bob"));
        assert_eq!(names(&recent, 62), ["alice"]);
        assert_eq!((recent.left.len(), recent.by_time.len()), (1, 1));
    }

    #[test]
    fn those_who_left_long_ago_are_forgotten_when_somebody_leaves() {
        let mut recent = Recent::default();
        recent.left(&name("alice"), UnixMillis(0));
        recent.left(&name("bob"), UnixMillis(3_600_000));
        assert_eq!((recent.left.len(), recent.by_time.len()), (1, 1));
    }

    #[test]
    fn a_crowd_that_leaves_takes_bounded_memory() {
        let mut recent = Recent::default();
        for number in 0..RECENT_MAX + 7 {
            recent.left(&name(&format!("a{number}")), UnixMillis(u64::try_from(number).unwrap()));
        }
        assert_eq!((recent.left.len(), recent.by_time.len()), (RECENT_MAX, RECENT_MAX));
        assert!(!recent.left.contains_key(&name("a6")) && recent.left.contains_key(&name("a7")));
    }

    #[test]
    fn a_clock_that_was_set_back_forgets_nobody() {
        let mut recent = Recent::default();
        recent.left(&name("alice"), UnixMillis(900_000_000));
        recent.left(&name("bob"), UnixMillis(5));
        assert_eq!(names(&recent, 1), ["alice", "bob"]);
    }

    #[test]
    fn when_somebody_left_is_told_to_the_minute() {
        assert_eq!(last_seen(UnixMillis(125_999)), UnixMillis(120_000));
        assert_eq!(last_seen(UnixMillis(120_000)), UnixMillis(120_000));
    }
}
