//! `cargo bench --bench files`: files and folders from one process to another, side by side with a plain QUIC stream, scp
//! and rsync, on this machine. bench/README.md says how to read it. Arguments come after `--`: names of suites (all, when
//! none is named), `--quick` for fewer bytes, `--json` for one JSON object instead of tables. Fails when a gate does not hold.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "printing figures is what this program is for")]

#[expect(dead_code, reason = "the other benchmarks read more of it")]
mod directory_process;
mod figures;
#[expect(dead_code, reason = "the other benchmark has another kind of gate")]
mod gate;
mod goal;
mod measured;
mod over_ssh;
mod room;
mod side;
mod two_people;
mod unframed;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde::Serialize;
use tokio::runtime::Runtime;

use figures::{Machine, Row, Spread, report, table};
use gate::Gate;
use goal::Goal;
use over_ssh::{OverSsh, Sshd, Tool};
use room::Room;
use side::{Run, Side};
use two_people::TwoPeople;
use unframed::Unframed;

/// As in the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MIB: u64 = 1 << 20;

/// How much more memory 4 GiB may take than 64 MiB: its hashes are 512 KiB, twice while they come.
const MIB_MORE_MAX: f64 = 4.0;

/// How much is moved, and how often.
#[derive(Debug, Clone, Copy, Serialize)]
struct Settings {
    rounds: usize,
    file_mib: u64,
    small_files: usize,
    small_file_bytes: u64,
    /// Of the two files whose transfers must take the same memory.
    memory_mib: [u64; 2],
}

impl Settings {
    fn new(is_quick: bool) -> Self {
        let (rounds, file_mib, memory_mib) = if is_quick { (2, 256, [64, 512]) } else { (5, 1_024, [64, 4_096]) };
        Self { rounds, file_mib, small_files: 2_000, small_file_bytes: 10 * 1024, memory_mib }
    }
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    settings: Settings,
    room: String,
    /// Tools that are not here and were left out.
    absent: Vec<&'static str>,
    suites: Vec<Suite>,
    gates: Vec<Gate>,
    goals: Vec<Goal>,
}

#[derive(Debug, Serialize)]
struct Suite {
    title: String,
    rows: Vec<Row>,
}

/// What all suites have in common.
struct Bench {
    settings: Settings,
    room: Room,
    /// `None` where there is none.
    sshd: Option<Sshd>,
    gates: Vec<Gate>,
    goals: Vec<Goal>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let helped = match arguments.as_slice() {
        [measured::MEASURE, program @ ..] => return run_measured(program),
        [unframed::SEND, file] => unframed::send(Path::new(file)),
        [unframed::RECEIVE, address, target] => unframed::receive(address, Path::new(target)),
        suites => {
            let all_hold = report(|is_quick| measure(suites, Settings::new(is_quick)), print)
                .is_some_and(|report| report.gates.iter().all(|gate| gate.holds));
            return if all_hold { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
    };
    match helped {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs another program in this one's place, and prints what it used last.
fn run_measured(program: &[&str]) -> ExitCode {
    match measured::measure(program) {
        Ok((status, used)) => {
            println!("{}", serde_json::json!(used));
            if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints a line for the process that started this one.
fn say(line: &str) {
    println!("{line}");
}

fn one_thread() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn measure(arguments: &[&str], settings: Settings) -> anyhow::Result<Report> {
    let named: Vec<&str> = arguments.iter().copied().filter(|argument| !argument.starts_with("--")).collect();
    let names = if named.is_empty() { vec!["one-gib", "small", "memory"] } else { named };
    let absent: Vec<&str> =
        [Tool::Scp, Tool::Rsync].into_iter().filter(|tool| !tool.is_here()).map(Tool::name).collect();
    let sshd = if Tool::Scp.is_here() { Some(Sshd::start()?) } else { None };
    let mut bench = Bench { settings, room: Room::make()?, sshd, gates: Vec::new(), goals: Vec::new() };
    let mut suites = Vec::new();
    for name in names {
        suites.push(match name {
            "one-gib" => bench.one_file()?,
            "small" => bench.small_files()?,
            "memory" => bench.memory()?,
            other => bail!("there is no suite {other}: one-gib, small, memory"),
        });
    }
    let Bench { room, gates, goals, .. } = bench;
    Ok(Report { machine: Machine::here(), settings, room: room.to_string(), absent, suites, gates, goals })
}

impl Bench {
    /// One large file.
    fn one_file(&mut self) -> anyhow::Result<Suite> {
        let mib = self.settings.file_mib;
        let file = self.room.file("large", mib * MIB)?;
        let people = TwoPeople::start(self.room.path(), &file)?;
        let mut sides: Vec<Box<dyn Side>> = vec![Box::new(people), Box::new(Unframed::start(&file)?)];
        sides.extend(self.over_ssh(&file));
        let measured = interleave(&self.room, self.settings.rounds, &mut sides, &file)?;
        drop(sides);
        self.expect(&measured, "unframed quinn stream", 0.90, 0.95);
        self.expect(&measured, "scp", 1.5, 1.8);
        self.room.remove(&file)?;
        Ok(Suite { title: format!("One file of {mib} MiB"), rows: rows(&measured) })
    }

    /// Many small files, all different, as one folder.
    fn small_files(&mut self) -> anyhow::Result<Suite> {
        let Settings { small_files, small_file_bytes, rounds, .. } = self.settings;
        let folder = self.room.folder_of_files("small", small_files, small_file_bytes)?;
        let mut sides: Vec<Box<dyn Side>> = vec![Box::new(TwoPeople::start(self.room.path(), &folder)?)];
        sides.extend(self.over_ssh(&folder));
        let measured = interleave(&self.room, rounds, &mut sides, &folder)?;
        drop(sides);
        self.expect(&measured, "scp", 5.0, 8.0);
        self.expect(&measured, "rsync", 2.0, 3.0);
        self.room.remove(&folder)?;
        Ok(Suite { title: format!("{small_files} different files of {small_file_bytes} bytes"), rows: rows(&measured) })
    }

    /// What both sides hold at most, each time with a sender that has served nothing else.
    fn memory(&mut self) -> anyhow::Result<Suite> {
        let mut table = Vec::new();
        let mut peaks = Vec::new();
        for mib in self.settings.memory_mib {
            let file = self.room.file("memory", mib * MIB)?;
            let mut held = [const { Vec::new() }; 2];
            for _ in 0..self.settings.rounds.min(3) {
                let mut people = TwoPeople::start(self.room.path(), &file)?;
                let run = fetch(&self.room, &mut people, None)?;
                held[0].push(people.sender_peak_mib()?);
                held[1].push(run.used.peak_mib);
            }
            self.room.remove(&file)?;
            let [sender, receiver] = held.map(Spread::of);
            peaks.push(sender.median.max(receiver.median));
            let figures = vec![("MiB, sender", sender), ("MiB, receiver", receiver)];
            table.push(Row { variant: format!("{mib} MiB"), figures });
        }
        let [small, large] = peaks.as_slice() else { bail!("two files were measured") };
        let most = small.max(*large);
        self.gates.push(Gate::at_most("MiB at most, the larger side".to_owned(), most, 48.0));
        self.goals.push(Goal::at_most("MiB at most, the larger side", most, 24.0));
        self.gates.push(Gate::at_most("MiB more with the larger file".to_owned(), large - small, MIB_MORE_MAX));
        Ok(Suite { title: "Physical memory at most".to_owned(), rows: table })
    }

    fn over_ssh(&self, path: &Path) -> Vec<Box<dyn Side + '_>> {
        let Some(sshd) = &self.sshd else { return Vec::new() };
        let tools = [Tool::Scp, Tool::Rsync].into_iter().filter(|tool| tool.is_here());
        tools.map(|tool| Box::new(OverSsh { sshd, tool, path: path.to_owned() }) as Box<dyn Side>).collect()
    }

    /// How many times as fast as another side the program must be, and shall be.
    fn expect(&mut self, measured: &[Measured], other: &str, gate: f64, goal: f64) {
        let ratio = measured.iter().find(|side| side.name == other).map(|side| side.times_slower(&measured[0]).median);
        let what = format!("times as fast as {other}, whole processes");
        if let Some(ratio) = ratio {
            self.gates.push(Gate::at_least(what.clone(), ratio, gate));
            self.goals.push(Goal::at_least(&what, ratio, goal));
        }
    }
}

/// What was measured of one side.
struct Measured {
    name: &'static str,
    runs: Vec<Run>,
}

impl Measured {
    /// Against another side, round by round: what slows the machine down for a while slows both.
    fn times_slower(&self, than: &Self) -> Spread {
        self.ratio(than, |run| Some(run.used.seconds)).unwrap_or(Spread::of([]))
    }

    fn ratio(&self, to: &Self, of: impl Fn(&Run) -> Option<f64>) -> Option<Spread> {
        let pairs = self.runs.iter().zip(&to.runs);
        let ratios: Option<Vec<f64>> = pairs.map(|(this, other)| Some(of(this)? / of(other)?)).collect();
        ratios.map(Spread::of)
    }
}

/// Lets every side fetch in turn, so many times. What the first round brings is compared byte by byte, and not counted.
fn interleave(
    room: &Room,
    rounds: usize,
    sides: &mut [Box<dyn Side + '_>],
    original: &Path,
) -> anyhow::Result<Vec<Measured>> {
    let mut measured: Vec<Measured> =
        sides.iter().map(|side| Measured { name: side.name(), runs: Vec::new() }).collect();
    for round in 0..=rounds {
        for (side, measured) in sides.iter_mut().zip(&mut measured) {
            let compared = (round == 0).then_some(original);
            let run = fetch(room, side.as_mut(), compared).with_context(|| side.name())?;
            if round > 0 {
                measured.runs.push(run);
            }
        }
    }
    Ok(measured)
}

/// Fetches into a new folder, which is removed again.
fn fetch(room: &Room, side: &mut dyn Side, compared: Option<&Path>) -> anyhow::Result<Run> {
    let target = tempfile::tempdir_in(room.path())?;
    let run = side.fetch(target.path())?;
    if let Some(original) = compared {
        let name = original.file_name().context("what is fetched has a name")?;
        room::compare(original, &target.path().join(name))?;
    }
    target.close()?;
    Ok(run)
}

/// One row for each side; the program itself is the first.
fn rows(measured: &[Measured]) -> Vec<Row> {
    let row = |side: &Measured| {
        let spread = |of: fn(&Run) -> f64| Spread::of(side.runs.iter().map(of));
        let transfer: Option<Vec<f64>> = side.runs.iter().map(|run| run.transfer_seconds).collect();
        let none = Spread::of([]);
        let figures = vec![
            ("s", spread(|run| run.used.seconds)),
            ("x of qchat", side.times_slower(&measured[0])),
            ("s of it transfer", transfer.map_or(none, Spread::of)),
            ("x of qchat", side.ratio(&measured[0], |run| run.transfer_seconds).unwrap_or(none)),
            ("CPU s, all", spread(Run::cpu_seconds)),
            ("x of qchat", side.ratio(&measured[0], |run| Some(run.cpu_seconds())).unwrap_or(none)),
            ("receiver's CPU s", spread(|run| run.used.cpu_seconds)),
            ("receiver's MiB", spread(|run| run.used.peak_mib)),
        ];
        Row { variant: side.name.to_owned(), figures }
    };
    measured.iter().map(row).collect()
}

fn print(report: &Report) {
    let Report { machine, settings, room, absent, suites, gates, goals } = report;
    println!("{machine}\n{room}");
    println!("{} rounds; medians, in brackets the least and the most\n", settings.rounds);
    for tool in absent {
        println!("{tool} is left out: it is not installed here, or ssh or sshd is not\n");
    }
    for (number, suite) in suites.iter().enumerate() {
        println!("{}. {}\n", number + 1, suite.title);
        println!("{}", table(&suite.rows));
    }
    println!("Gates\n");
    gates.iter().for_each(|gate| println!("{gate}"));
    println!("\nGoals\n");
    goals.iter().for_each(|goal| println!("{goal}"));
}
