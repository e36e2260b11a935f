//! How long to wait before the next attempt: 1, 2, 4 ... 60 s, spread so that peers of a restarted directory do not
//! all come back at once. Draws no random number itself.

use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait: a person who reopens a laptop is back within a minute.
const LONGEST: Duration = Duration::from_secs(60);

/// Counts attempts that failed in a row.
#[derive(Debug, Clone, Copy, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Counts a failure and says how long to wait: between half and all of the current step.
    ///
    /// `spread` is a random number; 0 waits half of the step, 255 all of it.
    #[must_use]
    pub fn failed(&mut self, spread: u8) -> Duration {
        let step = FIRST.saturating_mul(1 << self.failures.min(6)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        step / 2 + (step / 2).mul_f64(f64::from(spread) / 255.0)
    }

    /// Starts again from the first wait.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_start_again_after_success() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..9).map(|_| backoff.failed(255).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        backoff.succeeded();
        assert_eq!(backoff.failed(0), Duration::from_millis(500));
    }
}
