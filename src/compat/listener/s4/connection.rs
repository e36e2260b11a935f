//! One TCP connection of the dialect, in either direction: frames in, frames out, each with its patience.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::line::{Line, Place};
use crate::compat::dialect::s4::{frame, payload_bytes};
use crate::compat::gateway::Gateway;
use crate::compat::turns::Turn;

/// How long a push takes at most: whoever tells somebody something waits for it.
const PUSH_PATIENCE: Duration = Duration::from_secs(2);

/// How long a client may go on sending after its answer. Closing at once would take back the answer from a client that is
/// not done yet.
const CLOSING_PATIENCE: Duration = Duration::from_secs(10);

/// And how much.
const CLOSING_BYTES_MAX: u64 = 128 * 1024;

/// A connection that a client has made.
pub(super) struct Connection {
    stream: TcpStream,
    source: SocketAddr,
    here: IpAddr,
    /// Its place among the connections of its address, until it has said what it has to say.
    place: Option<Place>,
    _turn: Turn,
}

impl Connection {
    /// Lets a connection in, if its address may speak and has not too many of them.
    pub(super) fn take(gateway: &Gateway, line: &Line, stream: TcpStream, source: SocketAddr) -> Option<Self> {
        let source = SocketAddr::new(source.ip().to_canonical(), source.port());
        if !gateway.door.knows(source.ip()) {
            tracing::info!(%source, "not let in: --compat-allow does not name this network");
            return None;
        }
        if !gateway.door.admits(source, 0) {
            tracing::debug!(%source, "not let in: too many requests");
            return None;
        }
        let here = stream.local_addr().ok()?.ip().to_canonical();
        let turn = gateway.connection(source.ip())?;
        Some(Self { stream, source, here, place: Some(line.join(source.ip())), _turn: turn })
    }

    /// From where it comes.
    pub(super) fn source(&self) -> SocketAddr {
        self.source
    }

    /// By which address of this machine its client knows us.
    pub(super) fn here(&self) -> IpAddr {
        self.here
    }

    /// The next frame, however TCP has cut it. `None` when the client has closed or is silent for too long.
    pub(super) async fn frame(&mut self, patience: Duration) -> io::Result<Option<Vec<u8>>> {
        let whole = async {
            let mut head = [0; 4];
            self.stream.read_exact(&mut head).await?;
            let bytes =
                payload_bytes(head).map_err(|malformed| io::Error::new(io::ErrorKind::InvalidData, malformed))?;
            let mut payload = vec![0; bytes];
            self.stream.read_exact(&mut payload).await?;
            Ok::<_, io::Error>(payload)
        };
        match timeout(patience, whole).await {
            Ok(Ok(payload)) => Ok(Some(payload)),
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Ok(Err(error)) => Err(error),
            Err(_elapsed) => Ok(None),
        }
    }

    /// Waits until the connections of this address that came earlier have said what they have to say, or are too slow.
    pub(super) async fn turn(&mut self) {
        if let Some(place) = &mut self.place {
            place.turn().await;
        }
    }

    /// Lets the next connection of this address have its turn.
    pub(super) fn pass(&mut self) {
        self.place = None;
    }

    /// Answers with a frame. All answers are so short that they stay below what may be sent for what was asked.
    pub(super) async fn answer(&mut self, payload: &str) -> io::Result<()> {
        let bytes = frame(payload);
        timeout(CLOSING_PATIENCE, self.stream.write_all(&bytes))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Closes in good order: our side first, then whatever the client still sends is read and passed over.
    pub(super) async fn finish(mut self) -> io::Result<()> {
        self.pass();
        self.stream.shutdown().await?;
        let rest = async { tokio::io::copy(&mut self.stream.take(CLOSING_BYTES_MAX), &mut tokio::io::sink()).await };
        timeout(CLOSING_PATIENCE, rest).await.map_or(Ok(()), |read| read.map(drop))
    }
}

/// Connects to a client's own port and leaves one frame there.
pub(super) async fn push(gateway: &Gateway, to: SocketAddr, payload: &str) -> io::Result<()> {
    let bytes = frame(payload);
    let whole = async {
        let mut stream = TcpStream::connect(to).await?;
        if !gateway.door.may_send(to, bytes.len()) {
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "more than may be sent there"));
        }
        stream.write_all(&bytes).await?;
        stream.shutdown().await
    };
    timeout(PUSH_PATIENCE, whole).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    // Whoever accepts a connection is there and takes it.
    gateway.door.has_got(to, bytes.len());
    Ok(())
}

/// Whether a client's own port answers.
pub(super) async fn answers(at: SocketAddr) -> bool {
    matches!(timeout(PUSH_PATIENCE, TcpStream::connect(at)).await, Ok(Ok(_)))
}
