//! magic-wormhole, between a mailbox server and a transit relay of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use tempfile::TempDir;

use super::side::{Run, Side};
use crate::process::kept::Kept;
use crate::process::loopback::Loopback;
use crate::process::measured::Running;
use crate::process::{installed, measured};

/// In a network of their own, they may have any port.
const MAILBOX_PORT: u16 = 4_000;
const RELAY_PORT: u16 = 4_001;

/// What both people need to meet. The relay is there for those who cannot connect, which over loopback nobody is.
pub(crate) struct Servers {
    loopback: Rc<Loopback>,
    wormhole: PathBuf,
    mailbox: Kept,
    relay: Kept,
    /// For what they keep, and for what people pack and unpack.
    folder: TempDir,
}

impl Servers {
    /// Says why it cannot be measured here.
    pub(crate) fn missing() -> Option<String> {
        installed::find_all(["wormhole", "twist"]).err()
    }

    /// Starts both, with a folder of their own below `base`.
    pub(crate) fn start(loopback: Rc<Loopback>, base: &Path) -> anyhow::Result<Self> {
        let [wormhole, twist] = installed::find_all(["wormhole", "twist"]).map_err(anyhow::Error::msg)?;
        let folder = tempfile::tempdir_in(base)?;
        let server = |arguments: &[&str], port: u16| {
            let mut server = Command::new(&twist);
            server.arg("--log-format=text").args(arguments).arg(format!("--port=tcp:{port}:interface=127.0.0.1"));
            let server = Kept::start(&loopback.enter(), server.current_dir(folder.path()))?;
            server.wait_for(|line| line.ends_with(&format!("starting on {port}")).then_some(()))?;
            anyhow::Ok(server)
        };
        let mailbox = server(&["wormhole-mailbox", "--channel-db=mailbox.sqlite"], MAILBOX_PORT)?;
        let relay = server(&["transitrelay"], RELAY_PORT)?;
        Ok(Self { loopback, wormhole, mailbox, relay, folder })
    }

    /// One of the people: `wormhole` with what it needs to reach these servers and nothing else.
    fn person(&self, arguments: &[&str]) -> Command {
        let mut person = Command::new(&self.wormhole);
        person
            .arg(format!("--relay-url=ws://127.0.0.1:{MAILBOX_PORT}/v1"))
            .arg(format!("--transit-helper=tcp:127.0.0.1:{RELAY_PORT}"))
            .args(arguments)
            .env("TMPDIR", self.folder.path());
        person
    }

    fn cpu_seconds(&self) -> anyhow::Result<f64> {
        Ok(self.mailbox.cpu_seconds()? + self.relay.cpu_seconds()?)
    }
}

/// One file or folder, sent anew for each who fetches.
pub(crate) struct Wormhole<'a> {
    pub(crate) servers: &'a Servers,
    pub(crate) path: PathBuf,
}

impl Side for Wormhole<'_> {
    fn name(&self) -> &'static str {
        "magic-wormhole"
    }

    fn fetch(&mut self, into: &Path) -> anyhow::Result<Run> {
        let Self { servers, path } = self;
        let before = servers.cpu_seconds()?;
        let mut send = servers.person(&["send", "--hide-progress", "--no-qr"]);
        let sender = Running::start(&servers.loopback.with(send.arg(path)))?;
        // It says so when it has packed a folder and the mailbox knows it.
        let code = sender.wait_for(|line| line.strip_prefix("wormhole receive ").map(str::to_owned))?;
        let mut receive = servers.person(&["receive", "--hide-progress", "--accept-file", "--output-file"]);
        let (used, _) = measured::run(&servers.loopback.with(receive.arg(into).arg(code)))?;
        let (sent, _) = sender.finish()?;
        let others_cpu_seconds = sent.cpu_seconds + servers.cpu_seconds()? - before;
        Ok(Run { used, transfer_seconds: None, others_cpu_seconds })
    }
}
