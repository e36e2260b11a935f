//! How much of a link a file gets when nobody else uses it.

use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::{BBR, CUBIC, ROUND_TRIP, Settings, link};
use crate::bounds::Bound;
use crate::far::people::{Between, People};
use crate::far::{Places, megabits, tcp};
use crate::figures::{Row, Spread};
use crate::plot::{Kind, Plot};
use crate::report::Report;

/// Megabits in a second, and how many of a hundred packets are lost.
const LINKS: [(u64, u64); 4] = [(100, 0), (100, 1), (1_000, 0), (1_000, 1)];

/// A transfer that takes longer has failed.
const FETCHED_WITHIN: Duration = Duration::from_secs(120);

/// What each side got of one link, in megabits in a second, round by round.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Measured {
    megabits: u64,
    lost_percent: u64,
    qchat: Vec<f64>,
    /// By congestion control.
    tcp: Vec<(String, Vec<f64>)>,
}

pub(super) fn find(settings: &Settings, controls: &[&str]) -> anyhow::Result<Vec<Measured>> {
    LINKS.iter().map(|(megabits, lost)| of_link(settings, controls, *megabits, *lost)).collect()
}

fn of_link(settings: &Settings, controls: &[&str], rate: u64, lost_percent: u64) -> anyhow::Result<Measured> {
    let places = Places::connect(link(rate, ROUND_TRIP, lost_percent, rate + lost_percent));
    let people = People::start(Between::Cable(&places))?;
    let bytes = settings.megabytes[usize::from(rate > 100)] * 1_000_000;
    people.share("file", bytes)?;
    let mut qchat = Vec::new();
    let mut tcp: Vec<(String, Vec<f64>)> = controls.iter().map(|name| (name.to_string(), Vec::new())).collect();
    for _ in 0..settings.rounds {
        let got =
            people.fetch("file", FETCHED_WITHIN).with_context(|| format!("{rate} Mbit/s, {lost_percent} % loss"))?;
        qchat.push(megabits(got.bytes, got.time));
        for (control, rates) in &mut tcp {
            let at_most = Duration::from_secs(settings.tcp_seconds);
            rates.push(tcp::megabits(&places, control, u64::try_from(bytes)?, at_most)?);
        }
    }
    Ok(Measured { megabits: rate, lost_percent, qchat, tcp })
}

impl Measured {
    fn name(&self) -> String {
        let Self { megabits, lost_percent, .. } = self;
        if *lost_percent == 0 {
            format!("{megabits} Mbit/s")
        } else {
            format!("{megabits} Mbit/s, {lost_percent} % loss")
        }
    }

    fn tcp(&self, control: &str) -> Spread {
        let rates = self.tcp.iter().find(|(name, _)| name == control).map(|(_, rates)| rates.as_slice());
        Spread::of(rates.unwrap_or_default().iter().copied())
    }

    fn sides(&self) -> [(&'static str, Spread); 3] {
        let qchat = Spread::of(self.qchat.iter().copied());
        [("qchat get", qchat), ("TCP CUBIC", self.tcp(CUBIC)), ("TCP BBR", self.tcp(BBR))]
    }

    /// What the program must get, and shall.
    fn bound(&self) -> Option<Bound> {
        let (gate, goal) = match (self.megabits, self.lost_percent) {
            (100, 0) => (80.0, 90.0),
            (100, 1) => (70.0, 78.0),
            (1_000, 1) => (300.0, 450.0),
            _ => return None,
        };
        let median = Spread::of(self.qchat.iter().copied()).median;
        Some(Bound::at_least(format!("Mbit/s of {}", self.name()), median).gate(gate).goal(goal))
    }
}

pub(super) fn tell(report: &mut Report, settings: &Settings, measured: &[Measured]) {
    let row = |link: &Measured| Row { variant: link.name(), figures: link.sides().to_vec() };
    let [slow, fast] = settings.megabytes;
    let seconds = settings.tcp_seconds;
    report.table(
        format!(
            "Mbit/s of a file of {slow} MB, on the faster links {fast} MB, with a round trip of {} ms; TCP for {seconds} s at \
             most",
            ROUND_TRIP.as_millis()
        ),
        measured.iter().map(row).collect(),
    );
    report.bounds.extend(measured.iter().filter_map(Measured::bound));
    for rate in [100, 1_000] {
        let links = measured.iter().filter(|link| link.megabits == rate);
        let bars = links.flat_map(|link| {
            let loss = link.lost_percent;
            link.sides().map(|(side, spread)| (format!("{side}, {loss} % loss"), spread))
        });
        let bars = bars.filter(|(_, spread)| spread.median.is_finite()).collect();
        report.plots.push(Plot {
            file: format!("links-{rate}"),
            title: format!("{rate} Mbit/s, {} ms round trip", ROUND_TRIP.as_millis()),
            y: "Mbit/s".to_owned(),
            kind: Kind::Bars(bars),
        });
    }
}
