//! What requests, logins and sessions cost the directory, beside a bare quinn loop built alike.

pub(crate) mod bare;
mod handshakes;
mod idle_sessions;
mod requests;

use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;

use crate::report::Report;

/// How long, how often and how many.
#[derive(Debug, Clone, Copy, Serialize)]
struct Settings {
    rounds: usize,
    /// Of each run in which requests or logins are counted.
    run: Duration,
    /// Requests under way at a time.
    in_flight: &'static [usize],
    /// Sessions that say nothing: some first, then more.
    idle_sessions: [usize; 2],
}

impl Settings {
    fn new(is_quick: bool) -> Self {
        let in_flight = &[1, 32, 256];
        if is_quick {
            Self { rounds: 3, run: Duration::from_millis(500), in_flight, idle_sessions: [200, 2_000] }
        } else {
            Self { rounds: 5, run: Duration::from_secs(1), in_flight, idle_sessions: [1_000, 10_000] }
        }
    }
}

pub(crate) fn measure(is_quick: bool) -> anyhow::Result<Report> {
    let settings = Settings::new(is_quick);
    let Settings { rounds, run, .. } = settings;
    let mut report = Report::new(settings);
    report.note(format!("{rounds} rounds, runs of {run:?}; medians, in brackets the least and the most"));
    requests::measure(settings, &mut report).context("requests")?;
    handshakes::measure(settings, &mut report).context("new connections")?;
    idle_sessions::measure(settings, &mut report).context("sessions that say nothing")?;
    Ok(report)
}
