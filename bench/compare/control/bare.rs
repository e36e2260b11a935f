//! The bare quinn loop: a directory's endpoint with all its settings, and a task for each stream, which gives back as many
//! bytes as a directory answers. No accounts, no frames, no deadlines.

use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use bytes::Bytes;
use qchat::transport::certificate::DirectoryCertificate;
use qchat::transport::connection::{Connection, TransportError};
use qchat::transport::endpoint::{Endpoint, Incoming};
use qchat::transport::stream::Stream;
use qchat::transport::tuning::Network;
use tokio::io::AsyncReadExt as _;

use crate::all_cores;
use crate::process::directory::{Place, resident_mib};

/// The argument that makes this program such a server.
pub(crate) const SERVE: &str = "serve-bare";

/// A server in a process of its own. It stops when its standard input is closed.
pub(super) struct BareProcess {
    pub(super) place: Place,
    child: Child,
}

impl BareProcess {
    /// Starts one whose every answer has this many bytes.
    pub(super) fn start(answer_bytes: usize) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([SERVE, &answer_bytes.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("it has a standard output")?).read_line(&mut line)?;
        let place = serde_json::from_str(&line).context("the bare server does not say where it listens")?;
        Ok(Self { place, child })
    }

    /// Physical memory that it holds now.
    pub(super) fn resident_mib(&self) -> anyhow::Result<f64> {
        resident_mib(self.child.id())
    }
}

impl Drop for BareProcess {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        if let Err(error) = self.child.wait() {
            tracing::warn!(%error, "the bare server is not waited for");
        }
    }
}

/// The server's process: answers whatever comes, until its standard input is closed.
#[expect(
    clippy::disallowed_methods,
    reason = "a bare loop, as the examples of quinn have it; the process ends with it"
)]
pub(crate) fn serve(answer_bytes: &str) -> anyhow::Result<()> {
    let answer = Bytes::from(vec![7; answer_bytes.parse()?]);
    let folder = tempfile::tempdir()?;
    let certificate = DirectoryCertificate::load_or_create(&folder.path().join("certs"))?;
    all_cores()?.block_on(async {
        let endpoint = Endpoint::directory((Ipv4Addr::LOCALHOST, 0).into(), &certificate, Network::default())?;
        let place = Place { address: endpoint.local_address()?, fingerprint: certificate.fingerprint() };
        crate::say(&serde_json::to_string(&place)?);
        let accepting = async {
            while let Some(incoming) = endpoint.accept().await {
                tokio::spawn(answer_all(incoming, answer.clone()));
            }
        };
        let (mut byte, mut stdin) = ([0], tokio::io::stdin());
        tokio::select! {
            () = accepting => Ok(()),
            ended = stdin.read(&mut byte) => Ok(ended.map(drop)?),
        }
    })
}

/// Answers every stream of a connection until it ends.
#[expect(
    clippy::disallowed_methods,
    reason = "a bare loop, as the examples of quinn have it; the process ends with it"
)]
async fn answer_all(incoming: Incoming, answer: Bytes) {
    let Ok(connection) = incoming.accept().await else { return };
    connection.raise_limits_after_login();
    while let Ok(stream) = connection.accept_stream().await {
        tokio::spawn(give_back(stream, answer.clone()));
    }
}

/// Answers one request. A stream that fails ended with its connection, which whoever asked notices.
async fn give_back(mut stream: Stream, answer: Bytes) {
    if read_all(&mut stream).await.is_ok() && stream.write(answer).await.is_ok() {
        stream.finish();
    }
}

/// One request: sends these bytes on a stream of its own, and says how many came back.
pub(super) async fn ask(connection: &Connection, request: Bytes) -> Result<usize, TransportError> {
    let mut stream = connection.open_stream().await?;
    stream.write(request).await?;
    stream.finish();
    read_all(&mut stream).await
}

async fn read_all(stream: &mut Stream) -> Result<usize, TransportError> {
    let mut received = 0;
    while let Some(piece) = stream.read().await? {
        received += piece.len();
    }
    Ok(received)
}
