//! scp and rsync over a private sshd: a port, keys and settings made for the run, nothing of the user's own.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use tempfile::TempDir;

use super::side::{Run, Side};
use crate::process::kept::Kept;
use crate::process::{installed, measured};

/// A program that is ready within this time is waited for.
const READY_WITHIN: Duration = Duration::from_secs(5);

/// What fetches over ssh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    Scp,
    /// With the cipher that processors have instructions for, instead of the default one.
    ScpAes,
    Rsync,
}

impl Tool {
    /// What it is called in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Scp => "scp",
            Self::ScpAes => "scp aes128-gcm",
            Self::Rsync => "rsync",
        }
    }

    /// As one types it.
    fn program(self) -> &'static str {
        match self {
            Self::Scp | Self::ScpAes => "scp",
            Self::Rsync => "rsync",
        }
    }

    /// Says why it cannot be measured here.
    pub(crate) fn missing(self) -> Option<String> {
        installed::find_all([self.program(), "ssh", "sshd", "ssh-keygen", "setpriv"]).err()
    }
}

/// A private sshd.
pub(crate) struct Sshd {
    folder: TempDir,
    port: u16,
    process: Kept,
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
        let [program] = installed::find_all(["sshd"]).map_err(anyhow::Error::msg)?;
        let mut program = Command::new(program);
        program.args(["-D", "-f"]).arg(folder.path().join("settings")).arg("-E").arg(folder.path().join("log"));
        let process = Kept::start(&[], &program)?;
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
            "BatchMode=yes".to_owned(),
            "IdentitiesOnly=yes".to_owned(),
            "StrictHostKeyChecking=no".to_owned(),
            "UserKnownHostsFile=/dev/null".to_owned(),
            "LogLevel=ERROR".to_owned(),
        ] {
            options.extend(["-o".to_owned(), option]);
        }
        options
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
        let mut command = Command::new(self.tool.program());
        match self.tool {
            Tool::Scp => command.args(["-q", "-r"]).args(self.sshd.options()),
            Tool::ScpAes => command.args(["-q", "-r", "-c", "aes128-gcm@openssh.com"]).args(self.sshd.options()),
            Tool::Rsync => command.arg("-a").arg("-e").arg(format!("ssh {}", self.sshd.options().join(" "))),
        };
        command.arg(format!("127.0.0.1:{}", self.path.display())).arg(into);
        let before = self.sshd.process.cpu_seconds()?;
        let (used, _) = measured::run(&command)?;
        Ok(Run { used, transfer_seconds: None, others_cpu_seconds: self.sshd.process.cpu_seconds()? - before })
    }
}
