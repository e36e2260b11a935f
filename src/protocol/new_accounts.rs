//! How many accounts one network may make in an hour, so that nobody takes all the names.

use std::collections::{HashMap, VecDeque};

use super::source::SourcePrefix;
use crate::wire::ids::UnixMillis;
use crate::wire::limits::NEW_ACCOUNTS_PER_PREFIX_PER_HOUR;
use crate::wire::refusal::Refusal;

const HOUR_MILLIS: u64 = 3_600_000;

/// Networks that are remembered; when more come within an hour, the one that is over soonest is forgotten.
const REMEMBERED_MAX: usize = 16_384;

/// When each network has made accounts within the last hour.
#[derive(Debug)]
pub struct NewAccounts {
    per_hour: usize,
    made: HashMap<SourcePrefix, VecDeque<UnixMillis>>,
}

impl Default for NewAccounts {
    fn default() -> Self {
        Self::new(NEW_ACCOUNTS_PER_PREFIX_PER_HOUR)
    }
}

impl NewAccounts {
    /// Networks that may make so many accounts in an hour.
    #[must_use]
    pub fn new(per_hour: usize) -> Self {
        Self { per_hour, made: HashMap::new() }
    }

    /// Counts an account that is about to be made. The machine itself is not limited.
    ///
    /// # Errors
    /// [`Refusal::TooManyAccounts`] when the network has made its share.
    pub fn count(&mut self, source: SourcePrefix, now: UnixMillis) -> Result<(), Refusal> {
        if source.is_loopback() {
            return Ok(());
        }
        self.make_room(source, now);
        let made = self.made.entry(source).or_default();
        forget_old(made, now);
        if let Some(oldest) = made.front().filter(|_| made.len() >= self.per_hour) {
            let wait = oldest.plus_millis(HOUR_MILLIS).0.saturating_sub(now.0);
            return Err(Refusal::TooManyAccounts { seconds: u32::try_from(wait.div_ceil(1_000)).unwrap_or(u32::MAX) });
        }
        if self.per_hour == 0 {
            return Err(Refusal::TooManyAccounts { seconds: u32::MAX });
        }
        made.push_back(now);
        Ok(())
    }

    fn make_room(&mut self, source: SourcePrefix, now: UnixMillis) {
        if self.made.len() < REMEMBERED_MAX || self.made.contains_key(&source) {
            return;
        }
        self.made.retain(|_, made| {
            forget_old(made, now);
            !made.is_empty()
        });
        if self.made.len() >= REMEMBERED_MAX
            && let Some(oldest) = self.made.iter().min_by_key(|(_, made)| made.back()).map(|(source, _)| *source)
        {
            self.made.remove(&oldest);
        }
    }
}

fn forget_old(made: &mut VecDeque<UnixMillis>, now: UnixMillis) {
    while made.front().is_some_and(|at| now.0.saturating_sub(at.0) >= HOUR_MILLIS) {
        made.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(address: &str) -> SourcePrefix {
        SourcePrefix::of(address.parse().unwrap())
    }

    #[test]
    fn a_network_makes_its_share_in_an_hour() {
        let mut accounts = NewAccounts::default();
        for minute in 0..NEW_ACCOUNTS_PER_PREFIX_PER_HOUR {
            let now = UnixMillis(u64::try_from(minute).unwrap() * 60_000);
            assert_eq!(accounts.count(prefix("192.0.2.1"), now), Ok(()));
        }
        let half_past = UnixMillis(30 * 60_000);
        let refusal = Refusal::TooManyAccounts { seconds: 30 * 60 };
        assert_eq!(accounts.count(prefix("192.0.2.200"), half_past), Err(refusal));
        assert_eq!(accounts.count(prefix("192.0.3.1"), half_past), Ok(()));
        assert_eq!(accounts.count(prefix("192.0.2.200"), UnixMillis(HOUR_MILLIS)), Ok(()));
    }

    #[test]
    fn the_machine_itself_is_not_limited() {
        let mut accounts = NewAccounts::default();
        for _ in 0..1_000 {
            assert_eq!(accounts.count(prefix("127.0.0.1"), UnixMillis(0)), Ok(()));
        }
    }
}
