//! `cargo bench --bench delivery`: what it costs to deliver messages, with the real directory and fsync on, on this
//! machine. bench/README.md says how to read it. Arguments come after `--`: `--quick` takes less time, `--json` prints
//! one JSON object instead of tables. Goals that are not reached are no failure.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "printing figures is what this program is for")]

mod cpu_time;
mod crowd;
#[expect(dead_code, reason = "the other benchmark reads more of it")]
mod directory_process;
mod figures;
mod goal;
mod idle_sessions;
mod latency;
#[expect(dead_code, reason = "its honest people are for the other benchmark")]
mod people;
mod post;
mod restart;
mod stored;

use std::fs::File;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;

use figures::{Machine, Row, Spread, report, table};
use goal::Goal;
use latency::Latency;

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
    idle_rounds: usize,
    idle_sessions: usize,
    /// Messages in the store of the directory that is killed.
    waiting: u64,
}

impl Settings {
    fn new(is_quick: bool) -> Self {
        if is_quick {
            Self {
                rounds: 2,
                sessions: &[1, 64],
                run: Duration::from_secs(1),
                messages: 100,
                idle_rounds: 1,
                idle_sessions: 500,
                waiting: 20_000,
            }
        } else {
            Self {
                rounds: 5,
                sessions: &[1, 16, 64, 128],
                run: Duration::from_secs(1),
                messages: 200,
                idle_rounds: 3,
                idle_sessions: 2_000,
                waiting: 100_000,
            }
        }
    }
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    settings: Settings,
    fsync_ms: Spread,
    stored: Vec<Row>,
    received: Vec<Row>,
    latency: Latency,
    idle_sessions: Vec<Row>,
    restart: Vec<Row>,
    goals: Vec<Goal>,
}

fn main() -> ExitCode {
    let report = report(|is_quick| measure(Settings::new(is_quick)), print);
    if report.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn measure(settings: Settings) -> anyhow::Result<Report> {
    let mut goals = Vec::new();
    let fsync_ms = fsync_ms()?;
    let (stored, received) = stored::measure(settings, &mut goals)?;
    let latency = latency::measure(settings)?;
    let idle_sessions = idle_sessions::measure(settings)?;
    let restart = restart::measure(settings, &mut goals)?;
    let machine = Machine::here();
    Ok(Report { machine, settings, fsync_ms, stored, received, latency, idle_sessions, restart, goals })
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

fn print(report: &Report) {
    let Settings { rounds, run, messages, idle_rounds, .. } = report.settings;
    println!("{}", report.machine);
    println!(
        "{rounds} rounds, runs of {run:?}; medians, in brackets the least and the most; each run at a directory of its own"
    );
    println!("writing 4 KiB and waiting for the disk: {} ms\n", report.fsync_ms);
    println!("1. From a sealed message to the directory's answer that it is on disk, 8 under way in each session\n");
    println!("{}", table(&report.stored));
    println!("2. All the way: sealed, stored, pushed, opened, receipted, 8 under way from each sender until then\n");
    println!("{}", table(&report.received));
    println!("3. One message at a time, from the writer's call to the reader's event, {messages} in each round\n");
    println!("{}", table(&report.latency.rows));
    if let Some(why) = &report.latency.not_measured {
        println!("{why}\n");
    }
    println!("4. Sessions that say nothing, {idle_rounds} times\n");
    println!("{}", table(&report.idle_sessions));
    println!("5. Started again after `kill -9`\n");
    println!("{}", table(&report.restart));
    println!("Goals\n");
    for goal in &report.goals {
        println!("{goal}");
    }
}
