//! Tells faces how far a transfer is: at most ten times a second, and at the end.

use std::time::{Duration, Instant};

use super::event::Event;
use super::path::PathInfo;
use super::rows::{Activity, Counted};
use crate::wire::ids::PeerName;

/// Faces draw no faster than people see.
const INTERVAL: Duration = Duration::from_millis(100);

pub(super) struct Progress<Tell: Fn(Event)> {
    activity: Activity,
    name: String,
    peer: Option<PeerName>,
    total: u64,
    files: Option<Counted>,
    told: Instant,
    tell: Tell,
}

impl<Tell: Fn(Event)> Progress<Tell> {
    pub(super) fn new(activity: Activity, name: &str, peer: Option<&PeerName>, total: u64, tell: Tell) -> Self {
        Self { activity, name: name.to_owned(), peer: peer.cloned(), total, files: None, told: Instant::now(), tell }
    }

    /// Counts files, too: of a folder.
    pub(super) fn of_files(self, total: u64) -> Self {
        Self { files: Some(Counted { done: 0, total }), ..self }
    }

    /// Notes that this many files are done: it is told with the bytes.
    pub(super) fn reach_files(&mut self, done: u64) {
        if let Some(files) = &mut self.files {
            files.done = done;
        }
    }

    /// Tells that this many bytes were there before anything was done.
    pub(super) fn begin(&mut self, done: u64) {
        self.tell(done, None);
    }

    /// Notes that this many bytes are done, and tells it when it is time, with the way they go.
    pub(super) fn reach(&mut self, done: u64, via: impl FnOnce() -> Option<PathInfo>) {
        if done < self.total && self.told.elapsed() < INTERVAL {
            return;
        }
        self.tell(done, via());
    }

    fn tell(&mut self, done: u64, via: Option<PathInfo>) {
        self.told = Instant::now();
        (self.tell)(Event::Progress {
            activity: self.activity,
            name: self.name.clone(),
            peer: self.peer.clone(),
            done,
            total: self.total,
            files: self.files,
            via,
        });
    }
}
