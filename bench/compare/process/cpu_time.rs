//! The processor time that a thread or process has used so far.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Reads one of the clocks that count processor time.
pub(crate) fn cpu_time(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or_default(), nanos.unwrap_or_default())
}
