//! scp and rsync over a private sshd: a port, keys and settings made for the run, nothing of the user's own.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use crate::measured;
use crate::side::{Run, Side};

/// Where distributions put it; few have it in the search path.
const SSHD: &str = "/usr/sbin/sshd";

/// A program that is ready within this time is waited for.
const READY_WITHIN: Duration = Duration::from_secs(5);

/// What fetches over ssh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    Scp,
    Rsync,
}

impl Tool {
    /// As one types it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Scp => "scp",
            Self::Rsync => "rsync",
        }
    }

    /// Whether it can be run here, with what it needs.
    pub(crate) fn is_here(self) -> bool {
        let answers =
            |program: &str, argument: &str| Command::new(program).arg(argument).stdin(Stdio::null()).output().is_ok();
        Path::new(SSHD).exists() && answers("ssh", "-V") && answers(self.name(), "--version")
    }
}

/// A private sshd.
pub(crate) struct Sshd {
    folder: TempDir,
    port: u16,
    process: Child,
}

impl Sshd {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        for key in ["host", "user"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(folder.path().join(key))
                .status()?;
            ensure!(made.success(), "ssh-keygen failed");
        }
        // It is free now, and hardly anybody asks for a port in between.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        fs::write(folder.path().join("settings"), settings(folder.path(), port)?)?;
        // sshd of root wants the folder that its package makes at boot.
        if rustix::process::geteuid().is_root() {
            fs::create_dir_all("/run/sshd")?;
        }
        let process = Command::new(SSHD)
            .args(["-D", "-f"])
            .arg(folder.path().join("settings"))
            .arg("-E")
            .arg(folder.path().join("log"))
            .stdin(Stdio::null())
            .spawn()?;
        let sshd = Self { folder, port, process };
        sshd.wait_until_ready()?;
        Ok(sshd)
    }

    fn wait_until_ready(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            let log = || fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            ensure!(Instant::now() < deadline, "sshd does not answer: {}", log());
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// What makes ssh use this sshd, and nothing of the user's own.
    fn options(&self) -> Vec<String> {
        let key = self.folder.path().join("user");
        let mut options = vec!["-F".to_owned(), "none".to_owned(), "-i".to_owned(), key.display().to_string()];
        for option in [
            format!("Port={}", self.port),
            "IdentitiesOnly=yes".to_owned(),
            "StrictHostKeyChecking=no".to_owned(),
            "UserKnownHostsFile=/dev/null".to_owned(),
            "LogLevel=ERROR".to_owned(),
        ] {
            options.extend(["-o".to_owned(), option]);
        }
        options
    }

    /// Processor time of all sessions, once all have ended.
    fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let process = self.process.id();
        let children = PathBuf::from(format!("/proc/{process}/task/{process}/children"));
        let deadline = Instant::now() + READY_WITHIN;
        while fs::read_to_string(&children).is_ok_and(|children| !children.trim().is_empty()) {
            ensure!(Instant::now() < deadline, "a session does not end");
            thread::sleep(Duration::from_millis(5));
        }
        measured::cpu_seconds(process)
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        if let Err(error) = self.process.kill().and_then(|()| self.process.wait()) {
            tracing::warn!(%error, "sshd is not waited for");
        }
    }
}

fn settings(folder: &Path, port: u16) -> Result<String, std::fmt::Error> {
    let folder = folder.display();
    let mut settings = String::new();
    writeln!(settings, "ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder}/host")?;
    writeln!(settings, "AuthorizedKeysFile {folder}/user.pub\nPidFile none\nSubsystem sftp internal-sftp")?;
    writeln!(settings, "StrictModes no\nUsePAM no\nPermitRootLogin yes\nPasswordAuthentication no")?;
    Ok(settings)
}

/// One tool that fetches one file or folder.
pub(crate) struct OverSsh<'a> {
    pub(crate) sshd: &'a Sshd,
    pub(crate) tool: Tool,
    pub(crate) path: PathBuf,
}

impl Side for OverSsh<'_> {
    fn name(&self) -> &'static str {
        self.tool.name()
    }

    fn fetch(&mut self, into: &Path) -> anyhow::Result<Run> {
        let mut command = Command::new(self.tool.name());
        match self.tool {
            Tool::Scp => command.args(["-q", "-r"]).args(self.sshd.options()),
            Tool::Rsync => command.arg("-a").arg("-e").arg(format!("ssh {}", self.sshd.options().join(" "))),
        };
        command.arg(format!("127.0.0.1:{}", self.path.display())).arg(into);
        let before = self.sshd.cpu_seconds()?;
        let (used, _) = measured::run(&command).context(self.tool.name())?;
        Ok(Run { used, transfer_seconds: None, others_cpu_seconds: self.sshd.cpu_seconds()? - before })
    }
}
