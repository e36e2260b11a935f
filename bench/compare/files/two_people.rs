//! Two people with the real program: a directory, a resident peer that shares, and one who comes to fetch.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use serde::Deserialize;
use tempfile::TempDir;

use super::side::{Run, Side};
use crate::process::directory::DirectoryProcess;
use crate::process::kept::{self, Lines};
use crate::process::measured;

/// The lines of the program's `--json` that count here.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Said {
    LoggedIn,
    Shared,
    Error {
        message: String,
    },
    Received {
        millis: f64,
        via: Via,
    },
    #[serde(other)]
    Other,
}

/// The way a file came.
#[derive(Debug, Deserialize)]
struct Via {
    path: String,
}

/// A directory, and `bob` who shares. They stop when their standard input is closed.
pub(crate) struct TwoPeople {
    folder: Arc<TempDir>,
    directory: DirectoryProcess,
    bob: Child,
    said: Lines,
    /// What is fetched from bob, by its name.
    name: String,
    fetched: usize,
    /// How many of these came through the directory's relay.
    relayed: usize,
}

impl TwoPeople {
    /// Starts both, makes both accounts, and shares a file or folder.
    pub(crate) fn start(base: &Path, shared: &Path) -> anyhow::Result<Self> {
        let folder = Arc::new(tempfile::tempdir_in(base)?);
        std::fs::write(folder.path().join("password"), "correct horse\n")?;
        let directory = DirectoryProcess::start_in(folder.clone())?;
        let name = shared.file_name().and_then(|name| name.to_str()).context("what is shared has a name")?.to_owned();
        let mut bob = as_person(&folder, &directory, "bob", "peer");
        bob.args(["--plain", "--register", "--accept-new"]);
        let mut bob = bob
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(folder.path().join("bob.log"))?)
            .spawn()?;
        let said = Lines::of(bob.stdout.take());
        let mut people = Self { folder, directory, bob, said, name, fetched: 0, relayed: 0 };
        people.wait_for(|said| matches!(said, Said::LoggedIn)).context("bob does not log in")?;
        people.share(shared)?;
        // Whoever fetches has an account.
        measured::run(
            as_person(&people.folder, &people.directory, "alice", "who").args(["--register", "--accept-new"]),
        )?;
        Ok(people)
    }

    fn share(&mut self, path: &Path) -> anyhow::Result<()> {
        let bob = self.bob.stdin.as_mut().context("it has a standard input")?;
        writeln!(bob, "/share {}", path.display())?;
        self.wait_for(|said| matches!(said, Said::Shared)).with_context(|| format!("{} is not shared", path.display()))
    }

    fn wait_for(&self, is_it: impl Fn(&Said) -> bool) -> anyhow::Result<()> {
        self.said.wait_for(|line| match serde_json::from_str(line).unwrap_or(Said::Other) {
            said if is_it(&said) => Some(Ok(())),
            Said::Error { message } => Some(Err(anyhow!("bob's peer says: {message}"))),
            _ => None,
        })?
    }

    /// The most memory that bob's peer has held.
    pub(crate) fn sender_peak_mib(&self) -> anyhow::Result<f64> {
        measured::living_peak_mib(self.bob.id())
    }

    /// Processor time of bob's peer and the directory.
    fn others_cpu_seconds(&self) -> anyhow::Result<f64> {
        Ok(measured::cpu_seconds(self.bob.id())? + self.directory.cpu()?.all)
    }
}

impl Side for TwoPeople {
    fn name(&self) -> &'static str {
        "qchat get"
    }

    fn is_peer(&self) -> bool {
        false
    }

    fn remark(&self) -> Option<String> {
        let Self { fetched, relayed, .. } = self;
        (*relayed > 0).then(|| format!("{relayed} of {fetched} times it came through the directory's relay"))
    }

    fn fetch(&mut self, into: &Path) -> anyhow::Result<Run> {
        let before = self.others_cpu_seconds()?;
        let mut alice = as_person(&self.folder, &self.directory, "alice", "get");
        alice.args([&format!("bob:{}", self.name), "--out"]).arg(into);
        let (used, printed) = measured::run(&alice)?;
        let others_cpu_seconds = self.others_cpu_seconds()? - before;
        let said = printed.lines().filter_map(|line| serde_json::from_str(line).ok());
        let mut received = said.filter_map(|said| match said {
            Said::Received { millis, via } => Some((millis, via)),
            _ => None,
        });
        let (millis, via) = received.next().context("nothing was received")?;
        self.fetched += 1;
        self.relayed += usize::from(via.path != "direct");
        Ok(Run { used, transfer_seconds: Some(millis / 1e3), others_cpu_seconds })
    }
}

impl Drop for TwoPeople {
    fn drop(&mut self) {
        drop(self.bob.stdin.take());
        kept::end(&mut self.bob);
    }
}

/// The program as one of them uses it.
fn as_person(folder: &TempDir, directory: &DirectoryProcess, name: &str, verb: &str) -> Command {
    let home: PathBuf = folder.path().join(name);
    let mut program = Command::new(env!("CARGO_BIN_EXE_qchat"));
    program
        .args([verb, "--json", "--user", name, "--server", &directory.place.address.to_string(), "--home"])
        .arg(home);
    program.arg("--password-file").arg(folder.path().join("password"));
    program
}
