//! How fast the bytes of files may go when somebody has set a limit. Whoever wants to move a piece is told when its turn
//! comes: turns follow each other as the bytes take time, in the order in which they were asked for. So several transfers
//! get the same, piece by piece, and nothing comes in bursts.

use std::time::{Duration, Instant};

/// Turns that nobody took are kept for this long: a timer that rings late does not slow a transfer down.
const KEPT: Duration = Duration::from_millis(50);

/// How long the bytes of one piece may take, so that nobody's pause looks like silence (`peer/file_stream.rs`).
const PIECE: Duration = Duration::from_millis(50);

/// The turns of one direction.
#[derive(Debug, Default)]
pub struct Pace {
    /// Bytes in a second; any number when there is none.
    limit: Option<u64>,
    /// When the next turn begins.
    free_at: Option<Instant>,
}

impl Pace {
    /// The bytes in a second that may be moved, if there is a limit.
    #[must_use]
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Sets the limit or takes it away. Turns that were given before count no more.
    pub fn set(&mut self, limit: Option<u64>) {
        *self = Self { limit, free_at: None };
    }

    /// Takes the next turn, for so many bytes: how long to wait for it.
    pub fn take(&mut self, bytes: u64, now: Instant) -> Duration {
        let Some(limit) = self.limit else { return Duration::ZERO };
        let earliest = now.checked_sub(KEPT).unwrap_or(now);
        let turn = self.free_at.map_or(earliest, |free_at| free_at.max(earliest));
        let micros = bytes.saturating_mul(1_000_000) / limit.max(1);
        self.free_at = turn.checked_add(Duration::from_micros(micros));
        turn.saturating_duration_since(now)
    }

    /// How many bytes each of several transfers should ask for at a time, so that all have their turn soon.
    #[must_use]
    pub fn piece(&self, transfers: usize) -> Option<u64> {
        let transfers = u64::try_from(transfers.max(1)).unwrap_or(u64::MAX);
        let millis = u64::try_from(PIECE.as_millis()).unwrap_or(u64::MAX);
        self.limit.map(|limit| limit.saturating_mul(millis) / 1_000 / transfers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that each of some transfers moves within a time, when each wants pieces of its own size.
    fn moved(pace: &mut Pace, pieces: &[u64], time: Duration) -> Vec<u64> {
        let start = Instant::now();
        let mut next: Vec<Instant> = vec![start; pieces.len()];
        let mut moved = vec![0; pieces.len()];
        loop {
            let (who, now) = next.iter().copied().enumerate().min_by_key(|(_, at)| *at).unwrap();
            if now >= start + time {
                return moved;
            }
            next[who] = now + pace.take(pieces[who], now);
            moved[who] += pieces[who];
            // What is asked for at one time is asked for by all in turn.
            next[who] += Duration::from_nanos(1);
        }
    }

    #[test]
    fn without_a_limit_nobody_waits() {
        let mut pace = Pace::default();
        assert_eq!(pace.take(u64::MAX, Instant::now()), Duration::ZERO);
        assert_eq!((pace.limit(), pace.piece(3)), (None, None));
    }

    #[test]
    fn the_limit_is_kept_and_used() {
        for limit in [50_000, 1_500_000, 125_000_000] {
            let mut pace = Pace::default();
            pace.set(Some(limit));
            let piece = pace.piece(1).unwrap();
            let bytes = moved(&mut pace, &[piece], Duration::from_secs(10))[0];
            let most = limit * 10 + limit / 20 + 2 * piece;
            assert!((limit * 99 / 10..=most).contains(&bytes), "{bytes} at {limit}");
        }
    }

    #[test]
    fn several_get_the_same() {
        let mut pace = Pace::default();
        pace.set(Some(1_000_000));
        let piece = pace.piece(4).unwrap();
        let bytes = moved(&mut pace, &[piece; 4], Duration::from_secs(5));
        assert!(bytes.iter().all(|bytes| (1_200_000..=1_300_000).contains(bytes)), "{bytes:?}");
    }

    #[test]
    fn a_pause_is_not_made_up_for() {
        let mut pace = Pace::default();
        pace.set(Some(1_000_000));
        let start = Instant::now();
        pace.take(10_000, start);
        let later = start + Duration::from_secs(60);
        pace.take(100_000, later);
        assert_eq!(pace.take(1, later), Duration::from_millis(50), "all but the kept turns");
    }

    #[test]
    fn another_limit_counts_at_once() {
        let mut pace = Pace::default();
        pace.set(Some(1_000));
        let now = Instant::now();
        pace.take(1_000_000, now);
        assert!(pace.take(1, now) > Duration::from_secs(900));
        pace.set(Some(1_000_000));
        assert_eq!(pace.take(1, now), Duration::ZERO);
    }
}
