//! Messages over one TCP connection, with an end to every wait.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::compat::dialect::s2::frames::{Inflow, Piece};
use crate::compat::dialect::s2::{Malformed, Variant, frames};

/// How long the other side may say nothing, or take nothing: as long as the originals wait.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// A connection with an old program.
#[derive(Debug)]
pub(super) struct Stream {
    tcp: TcpStream,
    inflow: Inflow,
}

impl Stream {
    /// Takes a connection over.
    pub(super) fn new(tcp: TcpStream) -> io::Result<Self> {
        // Programs that know no lengths take what one read gives for one message.
        tcp.set_nodelay(true)?;
        Ok(Self { tcp, inflow: Inflow::default() })
    }

    /// Whether the other side puts a length before each message.
    pub(super) fn has_lengths(&self) -> bool {
        self.inflow.has_lengths()
    }

    /// The next message, beyond acknowledgements that nobody waits for; `None` when the other side has ended.
    pub(super) async fn message(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            match self.piece().await? {
                Some(Piece::Message(message)) => return Ok(Some(message)),
                Some(Piece::Acknowledgement) => {}
                None => return Ok(None),
            }
        }
    }

    /// Waits until the last message is acknowledged.
    pub(super) async fn acknowledged(&mut self) -> io::Result<()> {
        match self.piece().await? {
            Some(Piece::Acknowledgement) => Ok(()),
            Some(Piece::Message(_)) | None => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    async fn piece(&mut self) -> io::Result<Option<Piece>> {
        let mut part = [0; 4_096];
        tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(piece) = self.inflow.piece().map_err(malformed)? {
                    return Ok(Some(piece));
                }
                match self.tcp.read(&mut part).await? {
                    0 => return Ok(None),
                    count => self.inflow.push(&part[..count]).map_err(malformed)?,
                }
            }
        })
        .await?
    }

    /// Sends a message in one piece.
    pub(super) async fn send(&mut self, variant: Variant, message: Vec<u8>) -> io::Result<()> {
        self.send_plain(&frames::framed(variant, message)).await
    }

    /// Sends bytes as they are.
    pub(super) async fn send_plain(&mut self, bytes: &[u8]) -> io::Result<()> {
        tokio::time::timeout(PATIENCE, self.tcp.write_all(bytes)).await?
    }
}

/// An error for what can never become a message.
pub(super) fn malformed(error: Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
