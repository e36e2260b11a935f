//! Runs a program to its end and says what it used. A copy of this benchmark stands between, whose only child it is: so
//! what the kernel counts for children that have ended is that program's and nobody else's.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike as _};
use serde::{Deserialize, Serialize};

/// The argument that makes this program the one that stands between.
pub(crate) const MEASURE: &str = "measure-program";

/// What Linux counts a program's processor time in, on every machine it has run on for decades.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a program used from its start to its end, with those that it started and waited for.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Used {
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
    /// Of the largest of them, physical memory.
    pub(crate) peak_mib: f64,
}

/// Runs a program to its end. Comes back with what it used and what it printed.
pub(crate) fn run(program: &Command) -> anyhow::Result<(Used, String)> {
    let mut between = Command::new(std::env::current_exe()?);
    between.arg(MEASURE).arg(program.get_program()).args(program.get_args());
    let output = between.output()?;
    let name = program.get_program().display();
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} failed: {}", said.trim());
    let printed = String::from_utf8(output.stdout)?;
    let (before, used) = printed.trim_end().rsplit_once('\n').unwrap_or(("", printed.trim_end()));
    let used = serde_json::from_str(used).with_context(|| format!("nothing was measured of {name}"))?;
    Ok((used, before.to_owned()))
}

/// What the copy between does: runs what the arguments name, and prints what it used after what it printed.
pub(crate) fn measure(arguments: &[&str]) -> anyhow::Result<(ExitStatus, Used)> {
    let (program, arguments) = arguments.split_first().context("no program")?;
    let started = Instant::now();
    let status = Command::new(program).args(arguments).status()?;
    let seconds = started.elapsed().as_secs_f64();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let cpu_seconds = seconds_of(usage.user_time()) + seconds_of(usage.system_time());
    Ok((status, Used { seconds, cpu_seconds, peak_mib: peak_mib(&usage)? }))
}

fn seconds_of(time: TimeVal) -> f64 {
    Duration::from_micros(time.num_microseconds().unsigned_abs()).as_secs_f64()
}

fn peak_mib(usage: &Usage) -> anyhow::Result<f64> {
    Ok(f64::from(u32::try_from(usage.max_rss())?) / 1024.0)
}

/// Processor time so far of a process that lives, with that of its children that have ended, to a hundredth of a second.
pub(crate) fn cpu_seconds(process: u32) -> anyhow::Result<f64> {
    let line = fs::read_to_string(Path::new("/proc").join(process.to_string()).join("stat"))?;
    let (_, fields) = line.rsplit_once(") ").context("a line of /proc/PID/stat")?;
    let ticks: Result<Vec<f64>, _> = fields.split(' ').skip(11).take(4).map(str::parse).collect();
    Ok(ticks?.iter().sum::<f64>() / TICKS_PER_SECOND)
}

/// The most physical memory that a process which lives has held.
pub(crate) fn living_peak_mib(process: u32) -> anyhow::Result<f64> {
    let status = fs::read_to_string(Path::new("/proc").join(process.to_string()).join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
