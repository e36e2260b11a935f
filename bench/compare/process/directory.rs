//! The real `qchat serve` in a process of its own: starts and ends it, and reads what it uses.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::Context as _;
use qchat::wire::ids::DirectoryFingerprint;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::measured::TICKS_PER_SECOND;

use super::kept::{self, Lines};

/// Where a directory is, and which one it is.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    pub(crate) fingerprint: DirectoryFingerprint,
}

/// `qchat serve` in a throw-away folder. It stops when its standard input is closed, also when this process is killed.
pub(crate) struct DirectoryProcess {
    pub(crate) place: Place,
    child: Child,
    folder: Arc<TempDir>,
}

/// Processor time in seconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cpu {
    /// Of all threads.
    pub(crate) all: f64,
    /// Of the one that owns the database.
    pub(crate) database: f64,
}

impl DirectoryProcess {
    pub(crate) fn start() -> anyhow::Result<Self> {
        Self::start_in(Arc::new(tempfile::tempdir()?))
    }

    /// Starts in a folder where one may have run before. Waits for the line that says it is ready.
    pub(crate) fn start_in(folder: Arc<TempDir>) -> anyhow::Result<Self> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_qchat"))
            .args(["serve", "--json", "--listen", "127.0.0.1:0", "--stop-with-stdin", "--cert"])
            .arg(folder.path().join("certs"))
            .arg("--data")
            .arg(data_of(&folder))
            .env("QCHAT_DEBUG", "warn,qchat::directory=info")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(folder.path().join("log"))?)
            .spawn()?;
        let said = Lines::of(child.stdout.take());
        let place = said.wait_for(|line| serde_json::from_str(line).ok()).context("the directory")?;
        Ok(Self { place, child, folder })
    }

    /// Ends it as `kill -9` does, and leaves its folder as it is then.
    pub(crate) fn kill(mut self) -> anyhow::Result<Arc<TempDir>> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(self.folder.clone())
    }

    /// Physical memory that it holds now.
    pub(crate) fn resident_mib(&self) -> anyhow::Result<f64> {
        resident_mib(self.child.id())
    }

    /// Files and sockets that it has open now.
    pub(crate) fn open_files(&self) -> anyhow::Result<usize> {
        Ok(fs::read_dir(self.proc("fd"))?.count())
    }

    /// Processor time of its threads so far, to a hundredth; of those that have ended, none.
    pub(crate) fn cpu(&self) -> anyhow::Result<Cpu> {
        let mut cpu = Cpu::default();
        for thread in fs::read_dir(self.proc("task"))? {
            // One that ends meanwhile was idle.
            let Ok(line) = fs::read_to_string(thread?.path().join("stat")) else { continue };
            let (name, seconds) = thread_time(&line).context("a line of /proc/PID/task/TID/stat")?;
            cpu.all += seconds;
            if name == "database" {
                cpu.database += seconds;
            }
        }
        Ok(cpu)
    }

    /// Datagrams that the kernel threw away because the directory did not read them in time.
    pub(crate) fn datagrams_dropped(&self) -> anyhow::Result<u64> {
        let port = format!(":{:04X}", self.place.address.port());
        let sockets = fs::read_to_string("/proc/net/udp")?;
        let fields = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let ours = fields.into_iter().find(|fields| fields.get(1).is_some_and(|local| local.ends_with(&port)));
        let dropped = ours.context("the directory has no socket")?;
        Ok(dropped.last().context("a line has fields")?.parse()?)
    }

    /// Passwords that were hashed and found wrong.
    pub(crate) fn wrong_passwords_hashed(&self) -> anyhow::Result<usize> {
        let log = fs::read_to_string(self.folder.path().join("log"))?;
        Ok(log.lines().filter(|line| line.contains("wrong password")).count())
    }

    fn proc(&self, file: &str) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join(file)
    }
}

impl Drop for DirectoryProcess {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        kept::end(&mut self.child);
    }
}

/// Name and processor time of a thread, from its line in proc(5).
fn thread_time(line: &str) -> Option<(&str, f64)> {
    let (name, rest) = line.split_once('(')?.1.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let ticks = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
    Some((name, ticks / TICKS_PER_SECOND))
}

/// Physical memory that a process holds now.
pub(crate) fn resident_mib(process: u32) -> anyhow::Result<f64> {
    let status = fs::read_to_string(Path::new("/proc").join(process.to_string()).join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

/// Where a directory keeps its data in such a folder.
pub(crate) fn data_of(folder: &TempDir) -> PathBuf {
    folder.path().join("data")
}
