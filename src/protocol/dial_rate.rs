//! How often an account may ask for a connection: a bucket of tokens for each, which fills again by one every six seconds.
//! Does not know what is asked for, or whether it comes about.

use std::collections::HashMap;

use crate::wire::ids::{PeerName, UnixMillis};
use crate::wire::limits::DIALS_PER_MINUTE;
use crate::wire::refusal::Refusal;

const MINUTE_MILLIS: u64 = 60_000;

/// In which a bucket gets one token more.
const MILLIS_PER_TOKEN: u64 = MINUTE_MILLIS / widened(DIALS_PER_MINUTE);

/// Accounts whose buckets are remembered, about 2 MiB: a full bucket need not be. When more than these have asked within
/// the last minute, nobody new may ask.
const REMEMBERED_MAX: usize = 16_384;

const fn widened(number: u32) -> u64 {
    number as u64
}

/// The buckets of all accounts that are not full.
#[derive(Debug, Default)]
pub struct DialRate {
    /// When each will be full again. A bucket that is full at `t` lacks one token for each six seconds before it.
    full_at: HashMap<PeerName, UnixMillis>,
}

impl DialRate {
    /// Takes a token.
    ///
    /// # Errors
    /// [`Refusal::TooOften`] when the account has none left, with the time until it has.
    pub fn take(&mut self, account: &PeerName, now: UnixMillis) -> Result<(), Refusal> {
        self.make_room(account, now)?;
        // A clock that was set back would leave a bucket empty for as long: nobody may wait for longer than a minute.
        let latest = now.plus_millis(MINUTE_MILLIS);
        let full_at = self.full_at.entry(account.clone()).or_insert(now);
        *full_at = (*full_at).clamp(now, latest);
        let after = full_at.plus_millis(MILLIS_PER_TOKEN);
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
        self.full_at.retain(|_, full_at| now < *full_at && full_at.0.saturating_sub(now.0) <= MINUTE_MILLIS);
        if self.full_at.len() < REMEMBERED_MAX { Ok(()) } else { Err(Refusal::Busy) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> PeerName {
        PeerName::parse(text).unwrap()
    }

    #[test]
    fn ten_at_once_then_one_every_six_seconds() {
        let mut rate = DialRate::default();
        let (alice, start) = (name("alice"), UnixMillis(1_000_000));
        for _ in 0..DIALS_PER_MINUTE {
            assert_eq!(rate.take(&alice, start), Ok(()));
        }
        assert_eq!(rate.take(&alice, start), Err(Refusal::TooOften { seconds: 6 }));
        assert_eq!(rate.take(&alice, start.plus_millis(5_001)), Err(Refusal::TooOften { seconds: 1 }));
        assert_eq!(rate.take(&name("bob"), start), Ok(()));
        assert_eq!(rate.take(&alice, start.plus_millis(6_000)), Ok(()));
        assert!(rate.take(&alice, start.plus_millis(6_000)).is_err());
    }

    #[test]
    fn no_minute_lets_more_than_two_buckets_through_however_it_is_asked() {
        for pause in [1, 7, 100, 999, 5_999, 6_000, 6_001, 20_000] {
            let mut rate = DialRate::default();
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
        let mut rate = DialRate::default();
        for _ in 0..DIALS_PER_MINUTE {
            rate.take(&name("alice"), UnixMillis(900_000_000)).unwrap();
        }
        assert_eq!(rate.take(&name("alice"), UnixMillis(5)), Err(Refusal::TooOften { seconds: 6 }));
        assert_eq!(rate.take(&name("alice"), UnixMillis(6_005)), Ok(()));
    }

    #[test]
    fn many_accounts_take_bounded_memory_and_full_buckets_make_room() {
        let mut rate = DialRate::default();
        for number in 0..REMEMBERED_MAX {
            rate.take(&name(&format!("a{number}")), UnixMillis(0)).unwrap();
        }
        assert_eq!(rate.take(&name("late"), UnixMillis(1)), Err(Refusal::Busy));
        assert_eq!(rate.take(&name("a7"), UnixMillis(1)), Ok(()));
        assert_eq!(rate.take(&name("late"), UnixMillis(MILLIS_PER_TOKEN)), Ok(()));
        assert_eq!(rate.full_at.len(), 2, "those that are not full again");
    }
}
