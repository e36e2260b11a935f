//! Which chunks of a file are sent when, to somebody who acknowledges each. At most 16 are on their way; one that is not
//! acknowledged in time is sent again. Knows no socket; time comes in as an argument.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::wire::limits::LEGACY_JSON_WINDOW;

/// Before anything is known of the way there.
const FIRST_WAIT: Duration = Duration::from_millis(300);
/// A program on a loaded machine needs so long to acknowledge.
const SHORTEST_WAIT: Duration = Duration::from_millis(50);
/// Nothing on the way is slower.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// Whoever acknowledges nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest file over a bad line; whoever needs longer only keeps the place from others.
const LONGEST: Duration = Duration::from_secs(30 * 60);

/// A file on its way out.
#[derive(Debug)]
pub(super) struct Outgoing {
    count: usize,
    /// The first that was never sent.
    next: usize,
    flying: BTreeMap<usize, Flight>,
    smoothed: Option<Duration>,
    variation: Duration,
    begun: Instant,
    progress: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Flight {
    sent: Instant,
    tries: u32,
}

impl Outgoing {
    /// A file of so many chunks, of which none was sent.
    pub(super) fn new(count: usize, now: Instant) -> Self {
        let (flying, variation) = (BTreeMap::new(), Duration::ZERO);
        Self { count, next: 0, flying, smoothed: None, variation, begun: now, progress: now }
    }

    /// The chunk that should be sent now, if any.
    pub(super) fn due(&self, now: Instant) -> Option<usize> {
        let late = self.flying.iter().find(|(_, flight)| self.deadline(flight) <= now).map(|(chunk, _)| *chunk);
        late.or_else(|| (self.next < self.count && self.flying.len() < LEGACY_JSON_WINDOW).then_some(self.next))
    }

    /// Notes that a chunk was sent.
    pub(super) fn sent(&mut self, chunk: usize, now: Instant) {
        let tries = self.flying.get(&chunk).map_or(0, |flight| flight.tries) + 1;
        self.flying.insert(chunk, Flight { sent: now, tries });
        self.next = self.next.max(chunk + 1);
    }

    /// Notes that a chunk has come there; `false` when it was not on its way.
    pub(super) fn acknowledged(&mut self, chunk: usize, now: Instant) -> bool {
        let Some(flight) = self.flying.remove(&chunk) else { return false };
        self.progress = now;
        // Of one that was sent twice nobody knows which has come (Karn's rule).
        if flight.tries == 1 {
            self.measure(now.saturating_duration_since(flight.sent));
        }
        true
    }

    /// Whether everything has come there.
    pub(super) fn is_done(&self) -> bool {
        self.next == self.count && self.flying.is_empty()
    }

    /// When to look again.
    pub(super) fn wake_at(&self, now: Instant) -> Instant {
        self.flying.values().map(|flight| self.deadline(flight)).min().unwrap_or(now)
    }

    /// Whether nobody is there any more.
    pub(super) fn is_lost(&self, now: Instant) -> bool {
        let since = |then| now.saturating_duration_since(then);
        since(self.progress) > PATIENCE || since(self.begun) > LONGEST
    }

    /// As in RFC 6298, section 2.
    fn measure(&mut self, took: Duration) {
        match self.smoothed {
            None => (self.smoothed, self.variation) = (Some(took), took / 2),
            Some(smoothed) => {
                self.variation = (self.variation * 3 + smoothed.abs_diff(took)) / 4;
                self.smoothed = Some((smoothed * 7 + took) / 8);
            }
        }
    }

    fn deadline(&self, flight: &Flight) -> Instant {
        let wait = self.smoothed.map_or(FIRST_WAIT, |smoothed| smoothed + self.variation * 4).max(SHORTEST_WAIT);
        let backed_off = wait.saturating_mul(1 << flight.tries.saturating_sub(1).min(5));
        flight.sent + backed_off.min(LONGEST_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends to somebody who gets four of five and acknowledges four of five; says how many were sent in how long.
    fn sent_over_a_bad_line(count: usize) -> (usize, Duration) {
        let start = Instant::now();
        let (mut now, mut sent, mut state) = (start, 0, 7_u64);
        let mut outgoing = Outgoing::new(count, now);
        let mut returning = Vec::new();
        while !outgoing.is_done() {
            assert!(!outgoing.is_lost(now), "{outgoing:?}");
            while let Some(chunk) = outgoing.due(now) {
                outgoing.sent(chunk, now);
                sent += 1;
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                if (state >> 33) % 25 < 16 {
                    returning.push((now + Duration::from_millis(20), chunk));
                }
            }
            now += Duration::from_millis(5);
            for (_, chunk) in returning.extract_if(.., |(at, _)| *at <= now) {
                outgoing.acknowledged(chunk, now);
            }
        }
        (sent, now - start)
    }

    #[test]
    fn everything_comes_over_a_bad_line_soon_and_without_waste() {
        let (sent, took) = sent_over_a_bad_line(500);
        assert!(sent < 1_000, "{sent} were sent");
        assert!(took < Duration::from_secs(20), "{took:?}");
    }

    #[test]
    fn no_more_than_a_window_is_on_its_way() {
        let now = Instant::now();
        let mut outgoing = Outgoing::new(100, now);
        let first: Vec<usize> = std::iter::from_fn(|| {
            let chunk = outgoing.due(now)?;
            outgoing.sent(chunk, now);
            Some(chunk)
        })
        .collect();
        assert_eq!(first, (0..LEGACY_JSON_WINDOW).collect::<Vec<_>>());
        assert!(outgoing.acknowledged(3, now) && !outgoing.acknowledged(3, now) && !outgoing.acknowledged(99, now));
        assert_eq!(outgoing.due(now), Some(LEGACY_JSON_WINDOW));
    }

    #[test]
    fn whoever_is_silent_is_asked_ever_more_slowly_and_given_up() {
        let start = Instant::now();
        let (mut now, mut sent) = (start, 0);
        let mut outgoing = Outgoing::new(1, start);
        while !outgoing.is_lost(now) {
            if let Some(chunk) = outgoing.due(now) {
                outgoing.sent(chunk, now);
                sent += 1;
            }
            now += Duration::from_millis(10);
        }
        assert!((15..=25).contains(&sent), "{sent}");
        assert!(!outgoing.is_done());
    }
}
