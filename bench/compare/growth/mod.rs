//! What a directory's size costs: more people online, more files in its catalogue, more contacts of somebody who comes.

mod catalogue;
mod contacts;
mod online;

use qchat::wire::limits::WATCHED_MAX;
use serde::Serialize;

use crate::figures::{Row, Spread};
use crate::plot::{Kind, Line, Plot};
use crate::report::Report;

/// How often, and up to where.
#[derive(Debug, Clone, Copy, Serialize)]
struct Settings {
    rounds: usize,
    /// Of each kind, at each size, in each round.
    requests: usize,
    /// Sessions at a time.
    online: &'static [usize],
    /// Entries in a catalogue.
    entries: &'static [usize],
    /// Contacts of one person: those who are watched cannot be as many as friends.
    contacts: &'static [usize],
}

impl Settings {
    fn new(is_quick: bool) -> Self {
        let contacts = &[10, 100, WATCHED_MAX, 1_000];
        if is_quick {
            Self { rounds: 2, requests: 100, online: &[10, 100, 1_000], entries: &[1_000, 10_000, 100_000], contacts }
        } else {
            let (online, entries) = (&[10, 100, 1_000, 10_000], &[1_000, 10_000, 100_000, 1_000_000]);
            Self { rounds: 3, requests: 300, online, entries, contacts }
        }
    }
}

/// What one kind of request takes, in milliseconds, at each size.
struct Series {
    name: &'static str,
    at: Vec<(usize, Spread)>,
}

pub(crate) fn measure(is_quick: bool) -> anyhow::Result<Report> {
    let settings = Settings::new(is_quick);
    let Settings { rounds, requests, .. } = settings;
    let mut report = Report::new(settings);
    report.note(format!("{rounds} rounds; medians, in brackets the least and the most; one request at a time"));
    let online = online::measure(settings, &mut report.bounds)?;
    add(&mut report, "online", &format!("Requests, ms at the median of {requests}"), "sessions online", &online)?;
    let searches = catalogue::measure(settings, &mut report.bounds)?;
    add(&mut report, "catalogue", &format!("In a catalogue, ms at p95 of {requests}"), "entries", &searches)?;
    let contacts = contacts::measure(settings)?;
    add(&mut report, "contacts", "Coming, and knowing who is here, ms", "contacts", &contacts)?;
    Ok(report)
}

/// A table with a row for each size and a column for each kind, and the same as a plot.
fn add(report: &mut Report, file: &str, title: &str, x: &'static str, series: &[Series]) -> anyhow::Result<()> {
    let mut rows: Vec<Row> = Vec::new();
    for (number, (size, _)) in series.first().map_or(&[][..], |first| &first.at).iter().enumerate() {
        let figures = series.iter().map(|one| (one.name, one.at.get(number).map_or_else(none, |(_, spread)| *spread)));
        rows.push(Row { variant: format!("{size} {x}"), figures: figures.collect() });
    }
    let mut lines = Vec::new();
    for Series { name, at } in series {
        let points: Result<Vec<_>, std::num::TryFromIntError> =
            at.iter().map(|(size, spread)| Ok((f64::from(u32::try_from(*size)?), *spread))).collect();
        lines.push(Line { name: (*name).to_owned(), points: points? });
    }
    let kind = Kind::Lines { x: x.to_owned(), lines };
    report.plots.push(Plot { file: format!("growth-{file}"), title: title.to_owned(), y: "ms".to_owned(), kind });
    report.table(title, rows);
    Ok(())
}

/// Of what was not measured.
fn none() -> Spread {
    Spread::of([])
}
