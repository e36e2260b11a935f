//! `cargo bench --bench attack`: what strangers can do to a directory and to those who use it, from this machine.
//! bench/README.md says how to read it. Arguments come after `--`: `--quick` takes less time, `--json` prints one JSON
//! object instead of tables. Fails when a gate does not hold.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "printing figures is what this program is for")]

mod amplification;
#[expect(dead_code, reason = "the other benchmark kills it and reads more of it")]
mod directory_process;
mod figures;
#[expect(dead_code, reason = "the other benchmark has another kind of gate")]
mod gate;
mod half_logins;
mod people;
mod wrong_logins;

use std::process::ExitCode;

use serde::Serialize;

use figures::{Machine, Row, report, table};
use gate::Gate;

/// How long and how much.
#[derive(Debug, Clone, Copy, Serialize)]
struct Settings {
    /// Of each attack, and of the peace before it.
    seconds: u64,
    /// Accounts that are attacked together.
    accounts: usize,
}

impl Settings {
    fn new(is_quick: bool) -> Self {
        if is_quick { Self { seconds: 3, accounts: 50 } } else { Self { seconds: 10, accounts: 200 } }
    }
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    settings: Settings,
    wrong_logins: Vec<Row>,
    half_logins: Vec<Row>,
    amplification: Vec<Row>,
    gates: Vec<Gate>,
}

fn main() -> ExitCode {
    let report = report(|is_quick| measure(Settings::new(is_quick)), print);
    let all_hold = report.is_some_and(|report| report.gates.iter().all(|gate| gate.holds));
    if all_hold { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn measure(settings: Settings) -> anyhow::Result<Report> {
    let mut gates = Vec::new();
    let wrong_logins = wrong_logins::measure(settings, &mut gates)?;
    let half_logins = half_logins::measure(settings, &mut gates)?;
    let amplification = amplification::measure(settings, &mut gates)?;
    Ok(Report { machine: Machine::here(), settings, wrong_logins, half_logins, amplification, gates })
}

fn print(report: &Report) {
    println!("{}", report.machine);
    println!(
        "attacks of {} s; medians, in brackets the least and the most; each attack at a directory of its own\n",
        report.settings.seconds
    );
    println!(
        "1. 200 wrong passwords a second from one address: what honest people wait, and what the attacker is told\n"
    );
    println!("{}", table(&report.wrong_logins));
    println!("2. 1,000 connections that never finish their login, and are opened again when they are closed\n");
    println!("{}", table(&report.half_logins));
    println!("3. First packets from 250 addresses that never answer\n");
    println!("{}", table(&report.amplification));
    println!("Gates\n");
    for gate in &report.gates {
        println!("{gate}");
    }
}
