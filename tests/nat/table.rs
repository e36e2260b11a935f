//! The table of pairs: how each ends, and how long the first byte of a file takes. `tests/nat/run` prints it. A run that
//! fails is a line on standard error and counts as one that ended wrong; the others go on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::cells::{Cell, Mode, Path, Seen};

/// What `tests/nat/run` was asked for.
const CELLS: &str = "NAT_LAB_CELLS";
const RUNS: &str = "NAT_LAB_RUNS";
const DELAY_MS: &str = "NAT_LAB_DELAY_MS";

/// With direct paths being looked for, the first byte comes no later than this, times what it takes without.
const LATER_MAX: f64 = 1.10;

/// Fewer runs say nothing about times; nor do runs without delay, which take what two busy processors take.
const RUNS_JUDGED: usize = 5;

lab_tests! {
    #[ignore = "takes minutes: tests/nat/run prints it"]
    of_all_pairs => print();
}

/// All runs of a cell that came to an end.
struct Row {
    cell: Cell,
    /// How many there should be of each.
    runs: usize,
    are_times_judged: bool,
    race: Vec<Seen>,
    relay_only: Vec<Seen>,
}

fn print() {
    let cells = cells_asked_for(&std::env::var(CELLS).unwrap_or_else(|_| "all".to_owned()));
    let runs = std::env::var(RUNS).map_or(1, |runs| runs.parse().expect("--runs takes a number"));
    let delay_ms = std::env::var(DELAY_MS).map_or(0, |delay| delay.parse().expect("--delay takes milliseconds"));
    println!(
        "{runs} runs of each; from a home to the directory and back {} ms, to another home {} ms",
        2 * delay_ms,
        4 * delay_ms
    );
    println!("milliseconds to the first byte: medians, in brackets the least and the most\n");
    println!("| file at : fetched by | path    | direct | race                | relay only          | ratio |");
    println!("| ---                  | ---     | ---    | ---                 | ---                 | ---   |");
    let faults: Vec<String> = cells
        .into_iter()
        .flat_map(|cell| {
            let row = Row::run(cell, runs, Duration::from_millis(delay_ms));
            println!("{}", row.line());
            row.faults()
        })
        .collect();
    if runs < RUNS_JUDGED || delay_ms == 0 {
        println!("\ntimes are judged from {RUNS_JUDGED} runs on, with a delay");
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn cells_asked_for(names: &str) -> Vec<Cell> {
    if names == "all" {
        return Cell::all();
    }
    let named =
        |name: &str| Cell::named(name).unwrap_or_else(|| panic!("there is no cell {name}: tests/nat/run --help"));
    names.split(',').map(named).collect()
}

impl Row {
    /// One run with and one without direct paths, in turn, so that what slows the machine down slows both.
    fn run(cell: Cell, runs: usize, delay: Duration) -> Self {
        let run = |mode| catch_unwind(AssertUnwindSafe(|| cell.run(mode, delay))).ok();
        let (race, relay_only): (Vec<_>, Vec<_>) = (0..runs).map(|_| (run(Mode::Race), run(Mode::RelayOnly))).unzip();
        let completed = |seen: Vec<Option<Seen>>| seen.into_iter().flatten().collect();
        let are_times_judged = runs >= RUNS_JUDGED && !delay.is_zero();
        Self { cell, runs, are_times_judged, race: completed(race), relay_only: completed(relay_only) }
    }

    fn direct(&self) -> usize {
        self.race.iter().filter(|seen| seen.settled == Path::Direct).count()
    }

    /// How much later the first byte came with direct paths than without.
    fn ratio(&self) -> Option<f64> {
        Some(median(&first_bytes(&self.race))? / median(&first_bytes(&self.relay_only))?)
    }

    fn line(&self) -> String {
        let path = self.race.last().map_or(Path::Unknown, |seen| seen.settled);
        format!(
            "| {:<20} | {path:<7} | {:>2}/{:<3} | {:>19} | {:>19} | {:>5} |",
            self.cell,
            self.direct(),
            self.runs,
            spread(&first_bytes(&self.race)),
            spread(&first_bytes(&self.relay_only)),
            self.ratio().map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
        )
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (mode, seen) in [(Mode::Race, &self.race), (Mode::RelayOnly, &self.relay_only)] {
            let wanted = self.cell.expected(mode);
            let others = self.runs - seen.iter().filter(|seen| seen.settled == wanted).count();
            if others > 0 {
                faults.push(format!("{} {mode:?}: {others} of {} not {wanted}", self.cell, self.runs));
            }
        }
        if self.are_times_judged && !self.ratio().is_some_and(|ratio| ratio <= LATER_MAX) {
            faults.push(format!("{}: the first byte is later than {LATER_MAX} x relay only", self.cell));
        }
        faults
    }
}

fn first_bytes(runs: &[Seen]) -> Vec<f64> {
    let mut times: Vec<f64> = runs.iter().filter_map(|seen| seen.first_byte_ms).collect();
    times.sort_by(f64::total_cmp);
    times
}

/// The one in the middle of sorted times, or between the two there.
fn median(times: &[f64]) -> Option<f64> {
    let middle = times.len() / 2;
    let upper = *times.get(middle)?;
    Some(if times.len() % 2 == 1 { upper } else { f64::midpoint(times[middle - 1], upper) })
}

fn spread(times: &[f64]) -> String {
    match (median(times), times.first(), times.last()) {
        (Some(median), Some(least), Some(most)) => format!("{median:.1} [{least:.1} {most:.1}]"),
        _ => "unknown".to_owned(),
    }
}
