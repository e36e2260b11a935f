//! The limit that a person sets to how fast their files go, and come: for all transfers of this process together.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use super::commands::Rows;
use super::context::Context;
use super::event::Event;
use super::failure::{Failure, FailureKind};
use crate::protocol::pace::Pace;
use crate::wire::chunk::CHUNK_BYTES;
use crate::wire::limits::RATE_LIMIT_MIN;

/// Bytes of files in a second, each way.
#[derive(Debug, Default)]
pub(super) struct Limits {
    pub(super) upload: Limit,
    pub(super) download: Limit,
}

/// The limit of one direction.
#[derive(Debug, Default)]
pub(super) struct Limit {
    pace: Mutex<Pace>,
    /// Rings when there is another limit: whoever waits need not any more.
    changed: watch::Sender<()>,
}

impl Limits {
    /// Sets both, or takes them away.
    pub(super) fn set(&self, bytes_per_second: Option<u64>) -> Result<(), Failure> {
        if let Some(rate) = bytes_per_second.filter(|rate| *rate < RATE_LIMIT_MIN) {
            let message = format!("{rate} bytes in a second are too few: transfers would time out");
            return Err(Failure::new(FailureKind::Usage, message)
                .hint(format!("the smallest limit is {}K; `off` ends it", RATE_LIMIT_MIN / 1_000)));
        }
        self.upload.set(bytes_per_second);
        self.download.set(bytes_per_second);
        Ok(())
    }

    /// What is set.
    fn row(&self) -> Event {
        Event::Limit { bytes_per_second: self.upload.pace().limit() }
    }
}

impl Limit {
    fn set(&self, bytes_per_second: Option<u64>) {
        self.pace().set(bytes_per_second);
        self.changed.send_replace(());
    }

    /// Waits until so many bytes may be moved.
    pub(super) async fn take(&self, bytes: u64) {
        let mut changes = self.changed.subscribe();
        let wait = self.pace().take(bytes, Instant::now());
        if wait.is_zero() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            changed = changes.changed() => tracing::trace!(?changed, "another limit"),
        }
    }

    /// How many bytes one of several transfers should move at a time: whole chunks, and no more than a batch.
    pub(super) fn piece(&self, transfers: usize, batch: usize) -> usize {
        let piece = self.pace().piece(transfers).map_or(batch, |bytes| usize::try_from(bytes).unwrap_or(batch));
        (piece / CHUNK_BYTES * CHUNK_BYTES).clamp(CHUNK_BYTES, batch)
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sets the limit, and says what it is now.
pub(super) async fn set(context: &Context, bytes_per_second: Option<u64>, rows: &Rows) -> Result<(), Failure> {
    context.limits.set(bytes_per_second)?;
    show(context, rows).await
}

/// Says what the limit is.
pub(super) async fn show(context: &Context, rows: &Rows) -> Result<(), Failure> {
    rows.row(context.limits.row()).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn pieces_are_whole_chunks_and_soon_everybodys_turn() {
        let limits = Limits::default();
        assert_eq!(limits.upload.piece(1, 64_000), 64_000);
        limits.set(Some(1_000_000)).unwrap();
        assert_eq!(limits.upload.piece(1, 64_000), 50_000);
        assert_eq!(limits.upload.piece(3, 64_000), 16_600);
        limits.set(Some(RATE_LIMIT_MIN)).unwrap();
        assert_eq!(limits.download.piece(64, 64_000), CHUNK_BYTES);
        limits.set(Some(u64::MAX)).unwrap();
        assert_eq!(limits.upload.piece(1, 64_000), 64_000);
    }

    #[test]
    fn a_limit_at_which_nothing_would_come_is_refused() {
        let limits = Limits::default();
        let failure = limits.set(Some(RATE_LIMIT_MIN - 1)).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Usage);
        assert!(limits.upload.pace().limit().is_none());
    }

    #[tokio::test]
    async fn whoever_waits_goes_on_when_the_limit_ends() {
        let limits = Limits::default();
        limits.set(Some(RATE_LIMIT_MIN)).unwrap();
        limits.upload.take(1_000 * RATE_LIMIT_MIN).await;
        let ends = async {
            tokio::task::yield_now().await;
            limits.set(None).unwrap();
        };
        let both = async { tokio::join!(limits.upload.take(1), ends) };
        tokio::time::timeout(Duration::from_secs(60), both).await.expect("its turn would be in 1,000 s");
    }
}
