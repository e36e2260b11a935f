//! Who gets how much of a link that a file and a TCP stream with CUBIC use at the same time.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use super::{CUBIC, Settings, link};
use crate::bounds::Bound;
use crate::far::people::{Between, Fetch, People};
use crate::far::tcp::Stream;
use crate::far::{Places, megabits};
use crate::figures::{Row, Spread};
use crate::report::Report;

const MEGABITS: u64 = 100;

const ROUND_TRIPS: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(50)];

/// Whoever comes second finds the other at full speed, and both have found their shares after as long again.
const ALONE: Duration = Duration::from_secs(4);
const TOGETHER: Duration = Duration::from_secs(8);

/// How long a transfer takes to begin, at most: two logins, a dial and the tree of hashes.
const BEGUN_WITHIN: Duration = Duration::from_secs(15);

/// One round: megabits in a second of both.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Measured {
    round_trip_ms: u64,
    is_qchat_first: bool,
    qchat: f64,
    tcp: f64,
}

impl Measured {
    fn share(&self) -> f64 {
        self.qchat / (self.qchat + self.tcp)
    }
}

pub(super) fn find(settings: &Settings) -> anyhow::Result<Vec<Measured>> {
    let mut measured = Vec::new();
    for round_trip in ROUND_TRIPS {
        for round in 0..settings.fairness_rounds {
            measured.push(once(settings, round_trip, round % 2 == 0)?);
        }
    }
    Ok(measured)
}

fn once(settings: &Settings, round_trip: Duration, is_qchat_first: bool) -> anyhow::Result<Measured> {
    let places = Places::connect(link(MEGABITS, round_trip, 0, 0));
    let people = People::start(Between::Cable(&places))?;
    let time = Duration::from_secs(settings.fairness_seconds);
    people.share("file", bytes_in(BEGUN_WITHIN + ALONE + TOGETHER + time)?)?;
    let (mut fetch, stream) = if is_qchat_first {
        let fetch = begin(&people)?;
        thread::sleep(ALONE);
        (fetch, Stream::start(&places, CUBIC)?)
    } else {
        let stream = Stream::start(&places, CUBIC)?;
        thread::sleep(ALONE);
        (begin(&people)?, stream)
    };
    let (before, begun) = fetch.listen(Instant::now() + TOGETHER)?;
    let tcp_before = (stream.came(), Instant::now());
    let (after, ended) = fetch.listen(Instant::now() + time)?;
    let tcp = megabits(stream.came() - tcp_before.0, tcp_before.1.elapsed());
    ensure!(!fetch.is_here() && ended > begun, "the transfer does not last as long as the measurement");
    let qchat = megabits(after - before, ended - begun);
    let round_trip_ms = u64::try_from(round_trip.as_millis()).context("a round trip of less than an age")?;
    Ok(Measured { round_trip_ms, is_qchat_first, qchat, tcp })
}

/// Begins a transfer, and waits for its first bytes.
fn begin(people: &People<'_>) -> anyhow::Result<Fetch> {
    let mut fetch = people.begin("file")?;
    fetch.await_first_bytes(Instant::now() + BEGUN_WITHIN)?;
    Ok(fetch)
}

/// What the whole link carries in a time.
fn bytes_in(time: Duration) -> anyhow::Result<usize> {
    Ok(usize::try_from(MEGABITS * 125_000 * time.as_secs())?)
}

pub(super) fn tell(report: &mut Report, settings: &Settings, measured: &[Measured]) {
    let mut rows = Vec::new();
    for round_trip in ROUND_TRIPS {
        let here = || measured.iter().filter(|round| u128::from(round.round_trip_ms) == round_trip.as_millis());
        for is_qchat_first in [true, false] {
            let rounds = || here().filter(|round| round.is_qchat_first == is_qchat_first);
            let who = if is_qchat_first { "qchat first" } else { "TCP first" };
            rows.push(Row {
                variant: format!("{} ms, {who}", round_trip.as_millis()),
                figures: vec![
                    ("Mbit/s, qchat get", Spread::of(rounds().map(|round| round.qchat))),
                    ("Mbit/s, TCP CUBIC", Spread::of(rounds().map(|round| round.tcp))),
                    ("share of qchat", Spread::of(rounds().map(Measured::share))),
                ],
            });
        }
        let share = Spread::of(here().map(Measured::share)).median;
        let what = format!("share of whoever has less, {} ms", round_trip.as_millis());
        report.bounds.push(Bound::at_least(what, share.min(1.0 - share)).gate(0.25).goal(0.3));
    }
    let seconds = settings.fairness_seconds;
    report.table(format!("One file beside one TCP stream on {MEGABITS} Mbit/s, {seconds} s"), rows);
}
