//! socat: a file over TCP as it is, and over TLS 1.3 with a certificate on both sides; a folder with tar before and behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use super::side::{Run, Side};
use crate::process::kept::Kept;
use crate::process::{installed, measured};

/// What it reads and writes at once: as qchat does. Its own 8 KiB cost it more.
const PIECE_BYTES: &str = "131072";

/// What it sends over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    Tls,
    Tcp,
}

/// A key and a certificate that both sides have, and nobody else.
pub(crate) struct Certificate {
    folder: TempDir,
}

impl Certificate {
    pub(crate) fn make() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let (key, certificate) = (folder.path().join("key"), folder.path().join("certificate"));
        let mut make = Command::new("openssl");
        make.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ]);
        make.args(["-subj", "/CN=localhost", "-keyout"]).arg(&key).arg("-out").arg(&certificate);
        let made = make.output().context("openssl")?;
        ensure!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
        fs::write(folder.path().join("both"), fs::read_to_string(key)? + &fs::read_to_string(certificate)?)?;
        Ok(Self { folder })
    }

    /// What makes socat use it, and believe nobody without it.
    fn options(&self) -> String {
        let file = |name| self.folder.path().join(name).display().to_string();
        format!("cert={},cafile={},verify=1,openssl-min-proto-version=TLS1.3", file("both"), file("certificate"))
    }
}

/// A sender that waits for receivers, one after the other.
pub(crate) struct Socat<'a> {
    over: Over,
    certificate: &'a Certificate,
    path: PathBuf,
    program: PathBuf,
    sender: Kept,
    port: u16,
}

impl<'a> Socat<'a> {
    /// Says why it cannot be measured here.
    pub(crate) fn missing() -> Option<String> {
        installed::find_all(["socat", "openssl", "setpriv", "tar"]).err()
    }

    pub(crate) fn start(over: Over, certificate: &'a Certificate, path: &Path) -> anyhow::Result<Self> {
        let [program] = installed::find_all(["socat"]).map_err(anyhow::Error::msg)?;
        let listen = match over {
            Over::Tls => format!("OPENSSL-LISTEN:0,bind=127.0.0.1,reuseaddr,fork,{}", certificate.options()),
            Over::Tcp => "TCP-LISTEN:0,bind=127.0.0.1,reuseaddr,fork".to_owned(),
        };
        let source = if path.is_dir() {
            let (parent, name) = path.parent().zip(path.file_name()).context("a folder has a name")?;
            format!("EXEC:tar -c -C {} {}", parent.display(), name.display())
        } else {
            format!("OPEN:{},rdonly", path.display())
        };
        // Twice -d: it says where it listens.
        let mut send = Command::new(&program);
        send.args(["-d", "-d", "-b", PIECE_BYTES, "-U", &listen, &source]);
        let sender = Kept::start(&[], &send)?;
        let port = sender.wait_for(|line| {
            line.split_once("listening on ").and_then(|(_, address)| address.rsplit_once(':')?.1.parse().ok())
        })?;
        Ok(Self { over, certificate, path: path.to_owned(), program, sender, port })
    }

    /// What receives into a folder.
    fn receive(&self, into: &Path) -> anyhow::Result<Command> {
        let from = match self.over {
            Over::Tls => format!("OPENSSL:127.0.0.1:{},commonname=localhost,{}", self.port, self.certificate.options()),
            Over::Tcp => format!("TCP:127.0.0.1:{}", self.port),
        };
        if self.path.is_dir() {
            let mut receive = Command::new("sh");
            receive.args(["-c", r#""$0" -u -b "$1" "$2" - | tar -x -C "$3""#]).arg(&self.program);
            receive.args([PIECE_BYTES, &from]).arg(into);
            return Ok(receive);
        }
        let target = into.join(self.path.file_name().context("a file has a name")?);
        let mut receive = Command::new(&self.program);
        receive.args(["-u", "-b", PIECE_BYTES, &from]).arg(format!("OPEN:{},creat,wronly", target.display()));
        Ok(receive)
    }
}

impl Side for Socat<'_> {
    fn name(&self) -> &'static str {
        match (self.over, self.path.is_dir()) {
            (Over::Tls, false) => "socat TLS",
            (Over::Tcp, false) => "socat TCP",
            (Over::Tls, true) => "tar, socat TLS",
            (Over::Tcp, true) => "tar, socat TCP",
        }
    }

    /// With tar it is two programs on each side that somebody has to start at the same time.
    fn is_peer(&self) -> bool {
        self.over == Over::Tls && !self.path.is_dir()
    }

    fn fetch(&mut self, into: &Path) -> anyhow::Result<Run> {
        let before = self.sender.cpu_seconds()?;
        let (used, _) = measured::run(&self.receive(into)?)?;
        Ok(Run { used, transfer_seconds: None, others_cpu_seconds: self.sender.cpu_seconds()? - before })
    }
}
