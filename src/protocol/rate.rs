//! How often an account may do something: a bucket of tokens for each, which fills again at an even pace. Does not know
//! what is asked for, or whether it comes about.

use std::collections::HashMap;

use crate::wire::ids::{PeerName, UnixMillis};
use crate::wire::limits::{
    ANNOUNCEMENT_PAUSE, ANNOUNCEMENTS_AT_ONCE, DIALS_PER_MINUTE, FRIEND_REQUESTS_PER_HOUR, PRESENCE_CHANGES_PER_MINUTE,
    QUESTIONS_PER_MINUTE,
};
use crate::wire::refusal::Refusal;

const MINUTE_MILLIS: u64 = 60_000;

/// Accounts whose buckets are remembered, about 2 MiB: a full bucket need not be. When more than these have asked while
/// a bucket fills, nobody new may ask.
const REMEMBERED_MAX: usize = 16_384;

/// The buckets of all accounts that are not full.
#[derive(Debug)]
pub struct Rate {
    /// In which an empty bucket is full again.
    filled_in: u64,
    /// In which a bucket gets one token more.
    millis_per_token: u64,
    /// When each will be full again. A bucket that is full at `t` lacks one token for each such time before it.
    full_at: HashMap<PeerName, UnixMillis>,
}

impl Rate {
    /// Of dials.
    #[must_use]
    pub fn of_dials() -> Self {
        Self::new(DIALS_PER_MINUTE, MINUTE_MILLIS)
    }

    /// Of questions for a direct connection, and for an exclusive conversation.
    #[must_use]
    pub fn of_questions() -> Self {
        Self::new(QUESTIONS_PER_MINUTE, MINUTE_MILLIS)
    }

    /// Of requests to be friends.
    #[must_use]
    pub fn of_friend_requests() -> Self {
        Self::new(FRIEND_REQUESTS_PER_HOUR, 60 * MINUTE_MILLIS)
    }

    /// Of what is said to everybody.
    #[must_use]
    pub fn of_announcements() -> Self {
        let pause = u64::try_from(ANNOUNCEMENT_PAUSE.as_millis()).unwrap_or(u64::MAX);
        Self::new(ANNOUNCEMENTS_AT_ONCE, pause.saturating_mul(ANNOUNCEMENTS_AT_ONCE.into()))
    }

    /// Of changes of how somebody is seen.
    #[must_use]
    pub fn of_presence() -> Self {
        Self::new(PRESENCE_CHANGES_PER_MINUTE, MINUTE_MILLIS)
    }

    fn new(tokens: u32, filled_in: u64) -> Self {
        Self { filled_in, millis_per_token: filled_in / u64::from(tokens), full_at: HashMap::new() }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// [`Refusal::TooOften`] when the account has none left, with the time until it has.
    pub fn take(&mut self, account: &PeerName, now: UnixMillis) -> Result<(), Refusal> {
        self.make_room(account, now)?;
        // A clock that was set back would leave a bucket empty for as long: nobody waits for longer than it takes to fill.
        let latest = now.plus_millis(self.filled_in);
        let full_at = self.full_at.entry(account.clone()).or_insert(now);
        *full_at = (*full_at).clamp(now, latest);
        let after = full_at.plus_millis(self.millis_per_token);
        if after > latest {
            let wait = after.0.saturating_sub(latest.0).div_ceil(1_000);
            return Err(Refusal::TooOften { seconds: u32::try_from(wait).unwrap_or(u32::MAX) });
        }
        *full_at = after;
        Ok(())
    }

    fn make_room(&mut self, account: &PeerName, now: UnixMillis) -> Result<(), Refusal> {
        if self.full_at.len() < REMEMBERED_MAX || self.full_at.contains_key(account) {
            return Ok(());
        }
        let filled_in = self.filled_in;
        self.full_at.retain(|_, full_at| now < *full_at && full_at.0.saturating_sub(now.0) <= filled_in);
        if self.full_at.len() < REMEMBERED_MAX { Ok(()) } else { Err(Refusal::Busy) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> PeerName {
        PeerName::parse(text).unwrap()
    }

    const START: UnixMillis = UnixMillis(1_000_000);

    /// Alice takes so many at once, and waits so many seconds for the next.
    #[track_caller]
    fn check_at_once(rate: &mut Rate, tokens: u32, seconds: u32) {
        for _ in 0..tokens {
            assert_eq!(rate.take(&name("alice"), START), Ok(()));
        }
        assert_eq!(rate.take(&name("alice"), START), Err(Refusal::TooOften { seconds }));
    }

    #[test]
    fn a_minutes_dials_at_once_then_one_every_second() {
        let mut rate = Rate::of_dials();
        let (alice, start) = (name("alice"), START);
        check_at_once(&mut rate, DIALS_PER_MINUTE, 1);
        assert_eq!(rate.take(&alice, start.plus_millis(999)), Err(Refusal::TooOften { seconds: 1 }));
        assert_eq!(rate.take(&name("bob"), start), Ok(()));
        assert_eq!(rate.take(&alice, start.plus_millis(1_000)), Ok(()));
        assert!(rate.take(&alice, start.plus_millis(1_000)).is_err());
    }

    #[test]
    fn ten_questions_in_a_minute_then_one_every_six_seconds() {
        check_at_once(&mut Rate::of_questions(), QUESTIONS_PER_MINUTE, 6);
    }

    #[test]
    fn thirty_friends_may_be_asked_at_once_then_one_every_two_minutes() {
        let mut rate = Rate::of_friend_requests();
        let (alice, start) = (name("alice"), START);
        check_at_once(&mut rate, FRIEND_REQUESTS_PER_HOUR, 120);
        assert_eq!(rate.take(&alice, start.plus_millis(120_000)), Ok(()));
    }

    #[test]
    fn ten_changes_of_presence_in_a_minute_then_one_every_six_seconds() {
        check_at_once(&mut Rate::of_presence(), PRESENCE_CHANGES_PER_MINUTE, 6);
    }

    #[test]
    fn announcements_are_three_at_once_then_one_every_ten_seconds() {
        let mut rate = Rate::of_announcements();
        let mut taken = |second: u64| rate.take(&name("alice"), UnixMillis(second * 1_000));
        for _ in 0..3 {
            assert_eq!(taken(100), Ok(()));
        }
        assert_eq!(taken(100), Err(Refusal::TooOften { seconds: 10 }));
        assert_eq!(taken(110), Ok(()));
        assert_eq!(taken(111), Err(Refusal::TooOften { seconds: 9 }));
    }

    #[test]
    fn no_minute_lets_more_than_two_buckets_through_however_it_is_asked() {
        for pause in [1, 7, 100, 999, 5_999, 6_000, 6_001, 20_000] {
            let mut rate = Rate::of_dials();
            let times = (0..2_000).map(|number| UnixMillis(number * pause));
            let taken: Vec<_> = times.filter(|now| rate.take(&name("alice"), *now).is_ok()).collect();
            for first in &taken {
                let end = first.plus_millis(MINUTE_MILLIS);
                let within = taken.iter().filter(|at| (first..&end).contains(at)).count();
                assert!(
                    within <= 2 * usize::try_from(DIALS_PER_MINUTE).unwrap(),
                    "{within} with a pause of {pause} ms"
                );
            }
        }
    }

    #[test]
    fn a_clock_that_was_set_back_locks_nobody_out() {
        let mut rate = Rate::of_dials();
        for _ in 0..DIALS_PER_MINUTE {
            rate.take(&name("alice"), UnixMillis(900_000_000)).unwrap();
        }
        assert_eq!(rate.take(&name("alice"), UnixMillis(5)), Err(Refusal::TooOften { seconds: 1 }));
        assert_eq!(rate.take(&name("alice"), UnixMillis(1_005)), Ok(()));
    }

    #[test]
    fn many_accounts_take_bounded_memory_and_full_buckets_make_room() {
        let mut rate = Rate::of_dials();
        for number in 0..REMEMBERED_MAX {
            rate.take(&name(&format!("a{number}")), UnixMillis(0)).unwrap();
        }
        assert_eq!(rate.take(&name("late"), UnixMillis(1)), Err(Refusal::Busy));
        assert_eq!(rate.take(&name("a7"), UnixMillis(1)), Ok(()));
        assert_eq!(rate.take(&name("late"), UnixMillis(1_000)), Ok(()));
        assert_eq!(rate.full_at.len(), 2, "those that are not full again");
    }
}
