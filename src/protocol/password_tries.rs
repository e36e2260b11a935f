//! How many passwords one network may have looked at in a minute, over all accounts: each costs the directory tens of
//! milliseconds of a processor, which everybody else waits for. Does not know which of them were right.

use std::collections::{HashMap, VecDeque};

use super::lockout::LockedOut;
use super::source::SourcePrefix;
use crate::wire::ids::UnixMillis;
use crate::wire::limits::PASSWORDS_PER_PREFIX_PER_MINUTE;

const MINUTE_MILLIS: u64 = 60_000;

/// Networks that are remembered; when more come within a minute, the one that is over soonest is forgotten.
const REMEMBERED_MAX: usize = 16_384;

/// When passwords from each network were looked at within the last minute.
#[derive(Debug, Default)]
pub struct PasswordTries {
    looked_at: HashMap<SourcePrefix, VecDeque<UnixMillis>>,
}

impl PasswordTries {
    /// Whether one more would be looked at now; it is not counted.
    ///
    /// # Errors
    /// [`LockedOut`] when the network has had its share.
    pub fn check(&mut self, source: SourcePrefix, now: UnixMillis) -> Result<(), LockedOut> {
        let Some(times) = self.looked_at.get_mut(&source) else { return Ok(()) };
        forget_old(times, now);
        match times.front() {
            Some(oldest) if times.len() >= PASSWORDS_PER_PREFIX_PER_MINUTE => {
                let wait = oldest.plus_millis(MINUTE_MILLIS).0.saturating_sub(now.0);
                Err(LockedOut { seconds: u32::try_from(wait.div_ceil(1_000)).unwrap_or(u32::MAX) })
            }
            _ => Ok(()),
        }
    }

    /// Counts one that is about to be looked at.
    pub fn count(&mut self, source: SourcePrefix, now: UnixMillis) {
        self.make_room(source, now);
        let times = self.looked_at.entry(source).or_default();
        forget_old(times, now);
        times.push_back(now);
    }

    fn make_room(&mut self, source: SourcePrefix, now: UnixMillis) {
        if self.looked_at.len() < REMEMBERED_MAX || self.looked_at.contains_key(&source) {
            return;
        }
        self.looked_at.retain(|_, times| {
            forget_old(times, now);
            !times.is_empty()
        });
        if self.looked_at.len() >= REMEMBERED_MAX
            && let Some(oldest) = self.looked_at.iter().min_by_key(|(_, times)| times.back()).map(|(source, _)| *source)
        {
            self.looked_at.remove(&oldest);
        }
    }
}

/// A clock that was set back forgets too: nobody may wait for longer than a minute.
fn forget_old(times: &mut VecDeque<UnixMillis>, now: UnixMillis) {
    times.retain(|at| now.0.abs_diff(at.0) < MINUTE_MILLIS);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_its_share_in_a_minute() {
        let mut tries = PasswordTries::default();
        let [guesser, other] = ["192.0.2.1", "192.0.3.1"].map(|text| SourcePrefix::of(text.parse().unwrap()));
        for number in 0..PASSWORDS_PER_PREFIX_PER_MINUTE {
            let now = UnixMillis(u64::try_from(number).unwrap());
            assert_eq!(tries.check(guesser, now), Ok(()));
            tries.count(guesser, now);
        }
        assert_eq!(tries.check(guesser, UnixMillis(45_000)), Err(LockedOut { seconds: 15 }));
        assert_eq!(tries.check(other, UnixMillis(45_000)), Ok(()));
        assert_eq!(tries.check(guesser, UnixMillis(MINUTE_MILLIS)), Ok(()));
    }

    #[test]
    fn many_networks_take_bounded_memory() {
        let mut tries = PasswordTries::default();
        for number in 0..20_000_u32 {
            let address = std::net::Ipv4Addr::from_bits(number << 8);
            tries.count(SourcePrefix::of(address.into()), UnixMillis(u64::from(number) / 1_000));
        }
        assert_eq!(tries.looked_at.len(), REMEMBERED_MAX);
    }
}
