//! How long nothing at all may come from a peer before the link to it is taken for broken. A broken link is to be left at once;
//! a disk that is slow, or asleep, makes the other side silent too, and over no other link it would be faster.

use std::time::{Duration, Instant};

/// What a peer that has shown nothing else is given.
const SILENT_AFTER: Duration = Duration::from_millis(200);

/// And what it is given at most.
const PATIENCE_MAX: Duration = Duration::from_secs(5);

/// A pause that ended with bytes is expected again for this long.
const REMEMBERED: Duration = Duration::from_secs(60);

/// What one peer has shown, over all links to it.
#[derive(Debug, Default)]
pub struct Patience {
    /// The longest pause lately that ended with bytes, and when that was.
    pause: Option<(Duration, Instant)>,
    /// Links that were left as silent since bytes came.
    left: u32,
}

impl Patience {
    /// How long to wait over a link with such a round trip.
    #[must_use]
    pub fn over(&self, round_trip: Duration, now: Instant) -> Duration {
        let expected = self.remembered(now).unwrap_or_default();
        let once = SILENT_AFTER.max(round_trip * 3).max(expected * 2);
        once.saturating_mul(1 << self.left.min(8)).min(PATIENCE_MAX)
    }

    /// A link was left because nothing came: whoever is silent over every link has another reason.
    pub fn left(&mut self) {
        self.left = self.left.saturating_add(1);
    }

    /// Bytes came, after such a pause.
    pub fn heard(&mut self, pause: Duration, now: Instant) {
        self.left = 0;
        if self.remembered(now).is_none_or(|longest| pause >= longest) {
            self.pause = Some((pause, now));
        }
    }

    fn remembered(&self, now: Instant) -> Option<Duration> {
        self.pause.filter(|(_, at)| now.duration_since(*at) < REMEMBERED).map(|(pause, _)| pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn a_broken_link_is_left_soon_and_a_long_way_is_given_three_round_trips() {
        let (mut patience, now) = (Patience::default(), Instant::now());
        assert_eq!(patience.over(20 * MILLI, now), 200 * MILLI);
        assert_eq!(patience.over(300 * MILLI, now), 900 * MILLI);
        patience.heard(30 * MILLI, now);
        assert_eq!(patience.over(20 * MILLI, now), 200 * MILLI);
    }

    #[test]
    fn a_disk_that_takes_two_seconds_for_a_group_is_waited_for_soon_and_from_then_on() {
        let (mut patience, mut now) = (Patience::default(), Instant::now());
        let needs = 2_000 * MILLI;
        let mut lost = Duration::ZERO;
        while patience.over(MILLI, now) < needs {
            lost += patience.over(MILLI, now);
            patience.left();
        }
        assert!(lost <= 2 * needs, "{lost:?}");
        // The bytes of a group come in many packets.
        for pause in [needs, MILLI, MILLI] {
            patience.heard(pause, now);
        }
        assert_eq!(patience.over(MILLI, now), 2 * needs);
        now += REMEMBERED;
        assert_eq!(patience.over(MILLI, now), SILENT_AFTER);
    }

    #[test]
    fn nobody_is_waited_for_without_end() {
        let (mut patience, now) = (Patience::default(), Instant::now());
        (0..100).for_each(|_| patience.left());
        patience.heard(Duration::from_secs(3_600), now);
        patience.left();
        assert_eq!(patience.over(Duration::from_secs(60), now), PATIENCE_MAX);
    }
}
