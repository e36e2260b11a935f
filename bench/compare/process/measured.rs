//! Runs a program to its end and says what it used. A copy of this benchmark stands between, whose only child it is: so
//! what the kernel counts for children that have ended is that program's and nobody else's. It also ends the program when it
//! takes too long, and when whoever wants to know is gone.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike as _};
use rustix::process::{Signal, kill_current_process_group};
use serde::{Deserialize, Serialize};

use super::kept::{Lines, after};

/// The argument that makes this program the one that stands between.
pub(crate) const MEASURE: &str = "measure-program";

/// What Linux counts a program's processor time in, on every machine it has run on for decades.
pub(super) const TICKS_PER_SECOND: f64 = 100.0;

/// A program that is not done by then is ended: the slowest side with the largest file takes a tenth of it.
const ENDS_WITHIN: Duration = Duration::from_secs(300);

/// What a program used from its start to its end, with those that it started and waited for.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Used {
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
    /// Of the largest of them, physical memory.
    pub(crate) peak_mib: f64,
}

/// A program that is measured. It is ended when this is dropped before.
pub(crate) struct Running {
    name: String,
    between: Child,
    /// What the copy between ends the program without.
    wanted: ChildStdin,
    /// What the program writes to its standard error.
    said: Lines,
}

/// Runs a program to its end. Comes back with what it used and what it printed.
pub(crate) fn run(program: &Command) -> anyhow::Result<(Used, String)> {
    Running::start(program)?.finish()
}

impl Running {
    pub(crate) fn start(program: &Command) -> anyhow::Result<Self> {
        let this = std::env::current_exe()?;
        let mut between = after(&[this.as_os_str(), MEASURE.as_ref()], program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let wanted = between.stdin.take().context("it has a standard input")?;
        let said = Lines::of([between.stderr.take().context("it has a standard error")?]);
        Ok(Self { name: program.get_program().display().to_string(), between, wanted, said })
    }

    /// Waits for a line of its standard error.
    pub(crate) fn wait_for<T>(&self, is_it: impl Fn(&str) -> Option<T>) -> anyhow::Result<T> {
        self.said.wait_for(is_it).with_context(|| self.name.clone())
    }

    /// Waits for its end. Comes back with what it used and what it printed.
    pub(crate) fn finish(self) -> anyhow::Result<(Used, String)> {
        let Self { name, between, wanted, said } = self;
        let output = between.wait_with_output()?;
        drop(wanted);
        ensure!(output.status.success(), "{name} failed: {}", said.rest());
        let printed = String::from_utf8(output.stdout)?;
        let (before, used) = printed.trim_end().rsplit_once('\n').unwrap_or(("", printed.trim_end()));
        let used = serde_json::from_str(used).with_context(|| format!("nothing was measured of {name}"))?;
        Ok((used, before.to_owned()))
    }
}

/// What the copy between does: runs what the arguments name, and prints what it used after what it printed. Says whether
/// that program succeeded.
pub(crate) fn stand_between(arguments: &[&str]) -> anyhow::Result<bool> {
    let (program, arguments) = arguments.split_first().context("no program")?;
    end_when_unwanted();
    let started = Instant::now();
    let status = Command::new(program).args(arguments).stdin(Stdio::null()).status()?;
    let seconds = started.elapsed().as_secs_f64();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let cpu_seconds = seconds_of(usage.user_time()) + seconds_of(usage.system_time());
    let used = Used { seconds, cpu_seconds, peak_mib: peak_mib(&usage)? };
    crate::say(&serde_json::json!(used).to_string());
    Ok(status.success())
}

/// Ends this process and all that it started, which are a process group, when nobody waits for them any more, or too long.
fn end_when_unwanted() {
    let (wanted, is_wanted) = mpsc::channel::<()>();
    thread::spawn(move || {
        // However it ends: whoever holds the other side is gone.
        if let Err(error) = io::stdin().read_to_end(&mut Vec::new()) {
            tracing::debug!(%error, "standard input");
        }
        drop(wanted);
    });
    thread::spawn(move || {
        if is_wanted.recv_timeout(ENDS_WITHIN) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("it takes more than {} s, and is ended", ENDS_WITHIN.as_secs());
        }
        kill_current_process_group(Signal::KILL)
    });
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
