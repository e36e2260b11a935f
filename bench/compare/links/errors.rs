//! Whether a connection fails where one packet in a hundred is lost.

use std::time::Duration;

use super::{ROUND_TRIP, Settings, link};
use crate::bounds::Bound;
use crate::far::Places;
use crate::far::people::{Between, People};
use crate::figures::{Row, Spread};
use crate::report::Report;

const MEGABITS: u64 = 100;
const LOST_PERCENT: u64 = 1;

/// A transfer of a few seconds that takes longer has failed.
const FETCHED_WITHIN: Duration = Duration::from_secs(60);

/// Fetches a file again and again. Gives what was said of each transfer that failed or was interrupted.
pub(super) fn find(settings: &Settings) -> anyhow::Result<Vec<String>> {
    let places = Places::connect(link(MEGABITS, ROUND_TRIP, LOST_PERCENT, 1));
    let people = People::start(Between::Cable(&places))?;
    people.share("file", settings.lossy_megabytes * 1_000_000)?;
    let fetch = |_| people.fetch("file", FETCHED_WITHIN).err().map(|error| format!("{error:#}"));
    Ok((0..settings.lossy_runs).filter_map(fetch).collect())
}

pub(super) fn tell(report: &mut Report, settings: &Settings, errors: &[String]) {
    for error in errors {
        report.note(format!("a transfer over the lossy link failed: {error}"));
    }
    let count = |count: usize| u32::try_from(count).map_or(f64::NAN, f64::from);
    let (runs, failed) = (count(settings.lossy_runs), count(errors.len()));
    let row = Row {
        variant: format!("{MEGABITS} Mbit/s, {LOST_PERCENT} % loss"),
        figures: vec![("transfers", Spread::of([runs])), ("failed or interrupted", Spread::of([failed]))],
    };
    report.table(format!("{} MB again and again", settings.lossy_megabytes), vec![row]);
    report.bounds.push(Bound::at_most(format!("errors in {runs} transfers with loss"), failed).gate(0.0));
}
