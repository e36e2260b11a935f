//! Files over ways that take time and lose packets, beside TCP streams of the kernel over the same ways; who gets how much
//! of a way that both use; and whether a connection fails where packets are lost.

mod errors;
mod fairness;
mod goodput;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::far::cable::{Narrow, Nature};
use crate::far::{self, tcp};
use crate::figures::Spread;
use crate::report::Report;

/// The argument that makes this program the one inside the namespaces.
pub(crate) const INSIDE: &str = "links-inside";

/// What else is measured over every link.
const CUBIC: &str = "cubic";
const BBR: &str = "bbr";

/// Of links without another length.
const ROUND_TRIP: Duration = Duration::from_millis(50);

/// What can be measured alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Part {
    Goodput,
    Fairness,
    Errors,
}

impl Part {
    pub(crate) const ALL: &[Self] = &[Self::Goodput, Self::Fairness, Self::Errors];
}

/// How much, how often and how long.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Settings {
    parts: Vec<Part>,
    rounds: usize,
    /// Megabytes on links of 100 and of 1,000 Mbit/s.
    megabytes: [usize; 2],
    /// A TCP stream that takes longer than this is measured by what came in it.
    tcp_seconds: u64,
    fairness_seconds: u64,
    fairness_rounds: usize,
    lossy_runs: usize,
    lossy_megabytes: usize,
}

impl Settings {
    fn new(is_quick: bool, parts: &[Part]) -> Self {
        let parts = parts.to_vec();
        if is_quick {
            let (rounds, megabytes, tcp_seconds) = (1, [30, 200], 3);
            let (fairness_seconds, fairness_rounds, lossy_runs, lossy_megabytes) = (10, 2, 3, 10);
            return Self {
                parts,
                rounds,
                megabytes,
                tcp_seconds,
                fairness_seconds,
                fairness_rounds,
                lossy_runs,
                lossy_megabytes,
            };
        }
        let (rounds, megabytes, tcp_seconds) = (5, [150, 500], 13);
        let (fairness_seconds, fairness_rounds, lossy_runs, lossy_megabytes) = (20, 4, 50, 20);
        Self { parts, rounds, megabytes, tcp_seconds, fairness_seconds, fairness_rounds, lossy_runs, lossy_megabytes }
    }

    fn has(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }
}

/// What was found in the namespaces.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Found {
    /// Megabits in a second that one TCP stream gets through a cable that does nothing.
    cable: Vec<f64>,
    /// Whether the kernel has BBR.
    has_bbr: bool,
    goodput: Vec<goodput::Measured>,
    fairness: Vec<fairness::Measured>,
    errors: Vec<String>,
}

pub(crate) fn measure(is_quick: bool, parts: &[Part]) -> anyhow::Result<Report> {
    let settings = Settings::new(is_quick, parts);
    let found: Found = far::inside_with_places(INSIDE, &settings)?;
    let mut report = Report::new(&settings);
    report.note(format!(
        "a cable in user space between two namespaces, 1,500 bytes to a packet; by itself it carries {} Mbit/s of one TCP \
         stream; its queue holds what the link carries in a round trip; losses both ways",
        Spread::of(found.cable)
    ));
    report.note("TCP may have 64 MiB under way (tcp_rmem, tcp_wmem); the program is as it comes");
    if !found.has_bbr {
        report.note("TCP BBR is left out: the kernel does not have it, or does not let us use it");
    }
    if settings.has(Part::Goodput) {
        goodput::tell(&mut report, &settings, &found.goodput);
    }
    if settings.has(Part::Fairness) {
        fairness::tell(&mut report, &settings, &found.fairness);
    }
    if settings.has(Part::Errors) {
        errors::tell(&mut report, &settings, &found.errors);
    }
    Ok(report)
}

/// Measures, inside the namespaces.
pub(crate) fn find(settings: Settings) -> anyhow::Result<Found> {
    let (cable, has_bbr) = cable_itself(&settings)?;
    let controls: &[&str] = if has_bbr { &[CUBIC, BBR] } else { &[CUBIC] };
    Ok(Found {
        cable,
        has_bbr,
        goodput: if settings.has(Part::Goodput) { goodput::find(&settings, controls)? } else { Vec::new() },
        fairness: if settings.has(Part::Fairness) { fairness::find(&settings)? } else { Vec::new() },
        errors: if settings.has(Part::Errors) { errors::find(&settings)? } else { Vec::new() },
    })
}

/// What the cable itself can carry, and whether the kernel has BBR.
fn cable_itself(settings: &Settings) -> anyhow::Result<(Vec<f64>, bool)> {
    let places = far::Places::connect(Nature { delay: Duration::ZERO, narrow: None, lost_of_a_million: 0, seed: 0 });
    let once = |_| tcp::megabits(&places, CUBIC, u64::MAX, Duration::from_secs(1));
    let rates: anyhow::Result<Vec<f64>> = (0..settings.rounds).map(once).collect();
    Ok((rates?, tcp::has(&places, BBR)))
}

/// A link with a queue that holds what it carries in a round trip.
fn link(megabits: u64, round_trip: Duration, lost_percent: u64, seed: u64) -> Nature {
    let narrow = Narrow { bits_per_second: megabits * 1_000_000, queue: round_trip };
    Nature { delay: round_trip / 2, narrow: Some(narrow), lost_of_a_million: lost_percent * 10_000, seed }
}
