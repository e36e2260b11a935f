//! What it costs to deliver messages, with the real directory and fsync on.

mod latency;
mod restart;
mod stored;

use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::figures::Spread;
use crate::report::Report;

/// How long, how often and how much.
#[derive(Debug, Clone, Copy, Serialize)]
struct Settings {
    rounds: usize,
    /// Of senders at once, in the runs of which only storing is measured.
    sessions: &'static [usize],
    /// Of each run in which messages are counted.
    run: Duration,
    /// In each round of the latency.
    messages: usize,
    /// Messages in the store of the directory that is killed.
    waiting: u64,
}

impl Settings {
    fn new(is_quick: bool) -> Self {
        if is_quick {
            Self { rounds: 2, sessions: &[1, 64], run: Duration::from_secs(1), messages: 100, waiting: 20_000 }
        } else {
            Self {
                rounds: 5,
                sessions: &[1, 16, 64, 128],
                run: Duration::from_secs(1),
                messages: 200,
                waiting: 100_000,
            }
        }
    }
}

pub(crate) fn measure(is_quick: bool) -> anyhow::Result<Report> {
    let settings = Settings::new(is_quick);
    let Settings { rounds, run, messages, .. } = settings;
    let mut report = Report::new(settings);
    report.note(format!("{rounds} rounds, runs of {run:?}; medians, in brackets the least and the most; each run at a directory of its own"));
    report.note(format!("writing 4 KiB and waiting for the disk: {} ms", fsync_ms()?));
    let (stored, received) = stored::measure(settings, &mut report.bounds)?;
    report.table(
        "From a sealed message to the directory's answer that it is on disk, 8 under way in each session",
        stored,
    );
    report.table(
        "All the way: sealed, stored, pushed, opened, receipted, 8 under way from each sender until then",
        received,
    );
    let (latency, not_measured) = latency::measure(settings)?;
    let title =
        format!("One message at a time, from the writer's call to the reader's event, {messages} in each round");
    report.table(title, latency);
    report.notes.extend(not_measured);
    let restarts = restart::measure(settings, &mut report.bounds)?;
    report.table("Started again after `kill -9`", restarts);
    Ok(report)
}

/// What every commit waits for at least: 4 KiB, appended to a file where the directories have theirs, and synced.
fn fsync_ms() -> anyhow::Result<Spread> {
    let folder = tempfile::tempdir()?;
    let mut file = File::create(folder.path().join("file"))?;
    let mut waits = Vec::new();
    for _ in 0..100 {
        let started = Instant::now();
        file.write_all(&[7; 4_096])?;
        file.sync_data()?;
        waits.push(started.elapsed().as_secs_f64() * 1e3);
    }
    Ok(Spread::of(waits))
}
