//! How long messages are under way while a file fills the way between the same two people, and while nothing does.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde::{Deserialize, Serialize};

use crate::bounds::Bound;
use crate::far::cable::{Narrow, Nature};
use crate::far::people::{Between, People, Talk};
use crate::far::{self, Places, megabits};
use crate::figures::{Row, Spread};
use crate::plot::Plot;
use crate::report::Report;

/// The argument that makes this program the one inside the namespaces.
pub(crate) const INSIDE: &str = "chat-under-load-inside";

/// Two homes in one region, behind uplinks with room for a tenth of a second: longer than anybody who talks likes.
const MEGABITS: u64 = 100;
const ROUND_TRIP: Duration = Duration::from_millis(10);
const QUEUE: Duration = Duration::from_millis(100);

/// How much longer all but one in a hundred messages may take beside a transfer than without.
const MS_MORE_MAX: f64 = 30.0;

/// By then a transfer has the speed that it keeps.
const WARM_UP: Duration = Duration::from_secs(1);

/// A transfer that takes longer has failed.
const FETCHED_WITHIN: Duration = Duration::from_secs(60);

/// Fewer messages beside a transfer say nothing of one in a hundred.
const MESSAGES_MIN: usize = 50;

/// How much and how often.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Settings {
    rounds: usize,
    /// Without a transfer, in each round.
    messages: usize,
    /// Of the file that is fetched over the link, and over loopback.
    megabytes: [usize; 2],
}

/// Where both people are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Where {
    Link,
    Loopback,
}

/// Messages of one round: milliseconds that half of them took at most, and all but one in a hundred.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Times {
    p50: f64,
    p99: f64,
    messages: u32,
}

/// One round.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Round {
    place: Where,
    idle: Times,
    beside: Times,
    /// Of the transfer.
    megabits: f64,
}

pub(crate) fn measure(is_quick: bool) -> anyhow::Result<Report> {
    let (rounds, messages, megabytes) = if is_quick { (1, 100, [60, 500]) } else { (5, 400, [150, 2_000]) };
    let settings = Settings { rounds, messages, megabytes };
    let rounds: Vec<Round> = far::inside_with_places(INSIDE, &settings)?;
    let mut report = Report::new(settings);
    report.note(format!(
        "two resident peers in conversation, one message after another; the link has {MEGABITS} Mbit/s, a round trip of {} ms, \
         and a queue of {} ms",
        ROUND_TRIP.as_millis(),
        QUEUE.as_millis()
    ));
    let mut rows = Vec::new();
    for (place, name) in [(Where::Link, "link"), (Where::Loopback, "loopback")] {
        let here = || rounds.iter().filter(|round| round.place == place);
        rows.push(row(format!("{name}, idle"), here().map(|round| (round.idle, f64::NAN))));
        rows.push(row(format!("{name}, beside a file"), here().map(|round| (round.beside, round.megabits))));
    }
    let more = rounds.iter().filter(|round| round.place == Where::Link).map(|round| round.beside.p99 - round.idle.p99);
    let what = "ms that p99 is longer beside a file, on the link";
    report.bounds.push(Bound::at_most(what, Spread::of(more).median).gate(MS_MORE_MAX));
    report.plots.push(Plot::bars("chat-under-load", "Messages beside a transfer", &rows, "ms p99"));
    report.table("Messages both ways", rows);
    Ok(report)
}

fn row(variant: String, rounds: impl Iterator<Item = (Times, f64)>) -> Row {
    let rounds: Vec<(Times, f64)> = rounds.collect();
    let spread = |of: fn(&(Times, f64)) -> f64| Spread::of(rounds.iter().map(of));
    let figures = vec![
        ("ms p50", spread(|(times, _)| times.p50)),
        ("ms p99", spread(|(times, _)| times.p99)),
        ("messages", spread(|(times, _)| f64::from(times.messages))),
        ("Mbit/s of the file", spread(|(_, megabits)| *megabits)),
    ];
    Row { variant, figures }
}

/// Measures, inside the namespaces.
pub(crate) fn find(settings: Settings) -> anyhow::Result<Vec<Round>> {
    let narrow = Narrow { bits_per_second: MEGABITS * 1_000_000, queue: QUEUE };
    let nature = Nature { delay: ROUND_TRIP / 2, narrow: Some(narrow), lost_of_a_million: 0, seed: 0 };
    let places = Places::connect(nature);
    let mut found = at(Where::Link, Between::Cable(&places), settings, settings.megabytes[0])?;
    found.extend(at(Where::Loopback, Between::Loopback(&places), settings, settings.megabytes[1])?);
    Ok(found)
}

fn at(place: Where, between: Between<'_>, settings: Settings, megabytes: usize) -> anyhow::Result<Vec<Round>> {
    let people = People::start(between)?;
    people.share("small", 1_000_000)?;
    people.share("large", megabytes * 1_000_000)?;
    let mut talk = people.talk();
    // It stays open.
    talk.people.open_link("small", FETCHED_WITHIN)?;
    (0..settings.rounds).map(|_| one_round(place, &mut talk, settings.messages)).collect()
}

fn one_round(place: Where, talk: &mut Talk<'_>, messages: usize) -> anyhow::Result<Round> {
    let mut idle = Vec::new();
    while idle.len() < messages {
        idle.extend(talk.say_both_ways()?);
    }
    let mut fetch = talk.people.begin("large")?;
    let began = Instant::now();
    fetch.await_first_bytes(began + FETCHED_WITHIN)?;
    if place == Where::Link {
        fetch.listen(Instant::now() + WARM_UP)?;
    }
    let mut beside = Vec::new();
    while !fetch.is_here() {
        beside.extend(talk.say_both_ways()?);
        fetch.listen(Instant::now())?;
        ensure!(began.elapsed() < FETCHED_WITHIN, "the transfer does not end");
    }
    ensure!(beside.len() >= MESSAGES_MIN, "the transfer ended too early: only {} messages", beside.len());
    let got = fetch.end()?;
    Ok(Round { place, idle: Times::of(idle), beside: Times::of(beside), megabits: megabits(got.bytes, got.time) })
}

impl Times {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort();
        let at = |hundredths: usize| times.get(times.len() * hundredths / 100).map_or(f64::NAN, millis);
        Self { p50: at(50), p99: at(99), messages: u32::try_from(times.len()).unwrap_or(u32::MAX) }
    }
}

fn millis(time: &Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
