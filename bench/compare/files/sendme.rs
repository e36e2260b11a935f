//! sendme, directly: no relay, and in a network where it finds neither its directory nor anything else.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::side::{Run, Side};
use crate::process::kept::Kept;
use crate::process::loopback::Loopback;
use crate::process::{installed, measured};

/// A sender that has taken in a file or folder, and waits.
pub(crate) struct Sendme<'a> {
    loopback: &'a Loopback,
    program: PathBuf,
    sender: Kept,
    /// What whoever fetches is told.
    ticket: String,
    /// Where the sender keeps its hashes; removed after it.
    _folder: TempDir,
}

impl<'a> Sendme<'a> {
    /// Says why it cannot be measured here.
    pub(crate) fn missing() -> Option<String> {
        installed::find_all(["sendme"]).err()
    }

    /// Starts the sender, in a folder of its own below `base`.
    pub(crate) fn start(loopback: &'a Loopback, base: &Path, path: &Path) -> anyhow::Result<Self> {
        let [program] = installed::find_all(["sendme"]).map_err(anyhow::Error::msg)?;
        let folder = tempfile::tempdir_in(base)?;
        let mut send = Command::new(&program);
        send.args(["send", "--no-progress", "--relay", "disabled", "--ticket-type", "addresses"]);
        send.args(["--magic-ipv4-addr", "127.0.0.1:0"]).arg(path).current_dir(folder.path());
        let sender = Kept::start(&loopback.enter(), &send)?;
        let ticket = sender.wait_for(|line| line.strip_prefix("sendme receive ").map(str::to_owned))?;
        Ok(Self { loopback, program, sender, ticket, _folder: folder })
    }
}

impl Side for Sendme<'_> {
    fn name(&self) -> &'static str {
        "sendme"
    }

    fn fetch(&mut self, into: &Path) -> anyhow::Result<Run> {
        let mut receive = Command::new(&self.program);
        receive.args(["receive", "--no-progress", "--relay", "disabled", &self.ticket]).current_dir(into);
        let before = self.sender.cpu_seconds()?;
        let (used, _) = measured::run(&self.loopback.with(&receive))?;
        Ok(Run { used, transfer_seconds: None, others_cpu_seconds: self.sender.cpu_seconds()? - before })
    }
}
