//! The order in which connections of one address came. A program says one thing after the other, each on a connection of its
//! own, and does not wait: so what comes later is not to be done earlier because its task happens to run first.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::wire::limits::LEGACY_SOURCES_MAX;

/// How long a connection waits for the one before it: one that is silent holds nobody up.
const PATIENCE: Duration = Duration::from_millis(100);

/// The last connection of each address.
#[derive(Debug, Default)]
pub(super) struct Line(Mutex<HashMap<IpAddr, oneshot::Receiver<()>>>);

/// A connection's place. The next one's turn comes when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    before: Option<oneshot::Receiver<()>>,
    _next: oneshot::Sender<()>,
}

impl Line {
    /// Takes the place behind the last connection of an address.
    pub(super) fn join(&self, source: IpAddr) -> Place {
        let (next, behind) = oneshot::channel();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= LEGACY_SOURCES_MAX {
            // Whoever waits goes on waiting; only who comes now does not.
            last.clear();
        }
        Place { before: last.insert(source, behind), _next: next }
    }
}

impl Place {
    /// Waits until the connection before has said what it has to say.
    pub(super) async fn turn(&mut self) {
        if let Some(before) = self.before.take()
            && timeout(PATIENCE, before).await.is_err()
        {
            tracing::debug!("a connection is not waited for");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test]
    async fn turns_come_in_order_and_nobody_waits_for_long() {
        let line = Line::default();
        let source = IpAddr::from([127, 0, 0, 1]);
        let (mut first, mut second, mut third) = (line.join(source), line.join(source), line.join(source));
        first.turn().await;
        let begun = Instant::now();
        {
            let mut turn = pin!(second.turn());
            assert!(timeout(Duration::ZERO, &mut turn).await.is_err(), "the first is not done");
            drop(first);
            turn.await;
        }
        assert!(begun.elapsed() < PATIENCE, "it did not have to wait");
        line.join(IpAddr::from([127, 0, 0, 2])).turn().await;
        assert!(begun.elapsed() < PATIENCE, "other addresses have lines of their own");
        let begun = Instant::now();
        third.turn().await;
        assert!(begun.elapsed() >= PATIENCE, "the second had its time");
        drop(second);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let line = Line::default();
        let places: Vec<Place> = (0..10_000_u32).map(|number| line.join(IpAddr::from(number.to_be_bytes()))).collect();
        assert!(line.0.lock().unwrap().len() <= LEGACY_SOURCES_MAX);
        drop(places);
    }
}
