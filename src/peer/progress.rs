//! Tells faces how far a transfer is: at most ten times a second, and at the end.

use std::time::{Duration, Instant};

use super::event::{Activity, Event};
use super::path::PathInfo;
use crate::wire::ids::PeerName;

/// Faces draw no faster than people see.
const INTERVAL: Duration = Duration::from_millis(100);

pub(super) struct Progress<Tell: Fn(Event)> {
    activity: Activity,
    name: String,
    peer: Option<PeerName>,
    total: u64,
    told: Instant,
    tell: Tell,
}

impl<Tell: Fn(Event)> Progress<Tell> {
    pub(super) fn new(activity: Activity, name: &str, peer: Option<&PeerName>, total: u64, tell: Tell) -> Self {
        Self { activity, name: name.to_owned(), peer: peer.cloned(), total, told: Instant::now(), tell }
    }

    /// Notes that this many bytes are done, and tells it when it is time, with the way they go.
    pub(super) fn reach(&mut self, done: u64, via: impl FnOnce() -> Option<PathInfo>) {
        if done < self.total && self.told.elapsed() < INTERVAL {
            return;
        }
        self.told = Instant::now();
        (self.tell)(Event::Progress {
            activity: self.activity,
            name: self.name.clone(),
            peer: self.peer.clone(),
            done,
            total: self.total,
            via: via(),
        });
    }
}
