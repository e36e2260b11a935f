//! A connection: requests and answers on streams of their own, and why it ended.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use quinn::crypto::rustls::HandshakeData;
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::endpoint::quinn_code;
use super::socket::canonical;
use super::stream::Stream;
use super::tuning;
use crate::seal::identity::key_from_spki;
use crate::wire::codec::CodecError;
use crate::wire::ids::{DialId, DirectoryFingerprint, PeerKey};
use crate::wire::limits::{FRAME_BYTES_MAX, REQUEST_DEADLINE};
use crate::wire::refusal::CloseCode;

/// The label of the TLS exporter (RFC 8446, section 7.5) that a login signs.
const LOGIN_EXPORTER: &[u8] = b"EXPORTER-qchat-login";

/// Why the network did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The local address cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
    /// Nobody answered.
    #[error("timed out")]
    TimedOut,
    /// Another directory answered than the one that is trusted.
    #[error("the directory presented key {found}, expected {expected}")]
    IdentityMismatch {
        /// The pinned key's fingerprint.
        expected: DirectoryFingerprint,
        /// The fingerprint of the key that answered.
        found: DirectoryFingerprint,
    },
    /// The connection came from somebody whose dial was not announced.
    #[error("nobody announced this connection")]
    NotAnnounced,
    /// The other side speaks QUIC, but not this version of our protocol.
    #[error("the other side speaks another version of the protocol")]
    OtherVersion,
    /// The handshake failed.
    #[error("the handshake failed: {0}")]
    Handshake(String),
    /// The TLS library refuses the configuration or the key.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The other side closed the connection.
    #[error("the other side closed the connection: {0}")]
    Closed(CloseCode),
    /// The other side takes no new connections now.
    #[error("too many connections there at the moment")]
    Refused,
    /// The other side reset the stream.
    #[error("the other side ended the stream: {0}")]
    Reset(CloseCode),
    /// The other side knows nothing of the connection any more (stateless reset).
    #[error("the other side has restarted")]
    Restarted,
    /// This side closed the connection.
    #[error("the connection was closed here")]
    ClosedHere,
    /// The other side sent something else than a frame of the right kind.
    #[error("the other side sent a bad frame: {0}")]
    BadFrame(#[from] CodecError),
    /// The stream ended within a frame.
    #[error("the stream ended within a frame")]
    Truncated,
    /// No answer came in time.
    #[error("no answer within {} s", .0.as_secs())]
    NoAnswer(Duration),
}

impl From<quinn::ConnectionError> for TransportError {
    fn from(error: quinn::ConnectionError) -> Self {
        use quinn::ConnectionError as Q;
        match error {
            Q::ApplicationClosed(close) => Self::Closed(CloseCode::from_number(close.error_code.into_inner())),
            Q::TimedOut => Self::TimedOut,
            Q::LocallyClosed => Self::ClosedHere,
            Q::Reset => Self::Restarted,
            Q::ConnectionClosed(close) if close.error_code == quinn::TransportErrorCode::CONNECTION_REFUSED => {
                Self::Refused
            }
            Q::VersionMismatch => Self::OtherVersion,
            Q::ConnectionClosed(close) if close.error_code == no_common_protocol() => Self::OtherVersion,
            Q::TransportError(error) if error.code == no_common_protocol() => Self::OtherVersion,
            Q::TransportError(_) | Q::ConnectionClosed(_) | Q::CidsExhausted => Self::Handshake(error.to_string()),
        }
    }
}

/// The alert of TLS when the two sides have no ALPN in common (RFC 7301, section 3.2).
fn no_common_protocol() -> quinn::TransportErrorCode {
    quinn::TransportErrorCode::crypto(120)
}

impl From<quinn::ConnectError> for TransportError {
    fn from(error: quinn::ConnectError) -> Self {
        Self::Handshake(error.to_string())
    }
}

/// A QUIC connection that has shaken hands. Clones share it.
#[derive(Debug, Clone)]
pub struct Connection {
    pub(super) quinn: quinn::Connection,
}

impl Connection {
    /// Sends one request on a stream of its own and waits for the one answer.
    ///
    /// # Errors
    /// [`TransportError::NoAnswer`] after 15 s, and whatever ends the connection.
    pub async fn request<Q, A>(&self, request: &Q) -> Result<A, TransportError>
    where
        Q: Serialize + Sync,
        A: DeserializeOwned,
    {
        let exchange = async {
            let mut stream = self.open_stream().await?;
            stream.write_frame(request).await?;
            stream.finish();
            stream.read_only_frame(FRAME_BYTES_MAX).await
        };
        tokio::time::timeout(REQUEST_DEADLINE, exchange)
            .await
            .unwrap_or(Err(TransportError::NoAnswer(REQUEST_DEADLINE)))
    }

    /// Opens a bidirectional stream.
    ///
    /// # Errors
    /// Whatever ended the connection.
    pub async fn open_stream(&self) -> Result<Stream, TransportError> {
        let (send, receive) = self.quinn.open_bi().await?;
        Ok(Stream::new(send, receive))
    }

    /// Waits for the other side to open a bidirectional stream.
    ///
    /// # Errors
    /// Whatever ended the connection.
    pub async fn accept_stream(&self) -> Result<Stream, TransportError> {
        let (send, receive) = self.quinn.accept_bi().await?;
        Ok(Stream::new(send, receive))
    }

    /// 32 bytes that both ends of this connection share with nobody else: what a login signs.
    #[must_use]
    pub fn login_binding(&self) -> [u8; 32] {
        let mut binding = [0; 32];
        self.quinn
            .export_keying_material(&mut binding, LOGIN_EXPORTER, b"")
            .expect("the exporter gives any 32 bytes once the handshake is done");
        binding
    }

    /// Gives a connection that has logged in its streams and window.
    pub fn raise_limits_after_login(&self) {
        tuning::raise_after_login(&self.quinn);
    }

    /// The address of the other side.
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        canonical(self.quinn.remote_address())
    }

    /// The round-trip time as last measured.
    #[must_use]
    pub fn round_trip(&self) -> Duration {
        self.quinn.rtt()
    }

    /// Datagrams that have come over this connection: while they do, the path is alive.
    #[must_use]
    pub fn datagrams_received(&self) -> u64 {
        self.quinn.stats().udp_rx.datagrams
    }

    /// The largest UDP payload that the path is known to carry, in bytes.
    #[must_use]
    pub fn mtu(&self) -> u16 {
        self.quinn.stats().path.current_mtu
    }

    /// The key that the other side proved to hold, when it is a peer.
    #[must_use]
    pub fn peer_key(&self) -> Option<PeerKey> {
        let identity = self.quinn.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
        key_from_spki(identity.first()?)
    }

    /// A number that no other connection of this process has while this one is held.
    #[must_use]
    pub fn number(&self) -> usize {
        self.quinn.stable_id()
    }

    /// Whether the connection is still there.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.quinn.close_reason().is_none()
    }

    /// Closes the connection with a code; what was not acknowledged by the other side's program may be lost.
    pub fn close(&self, code: CloseCode) {
        self.quinn.close(quinn_code(code), code.to_string().as_bytes());
    }

    /// Waits until the connection ends and says why.
    pub async fn closed(&self) -> TransportError {
        self.quinn.closed().await.into()
    }

    /// Waits until the close of this connection by [`Endpoint::close`](super::endpoint::Endpoint::close) is on its way. One
    /// packet says it; the drain period of QUIC after it is for late packets, and nobody needs to wait for that.
    pub async fn wait_close_sent(&self) {
        self.quinn.closed().await;
        // quinn notes the close and sends it while it holds the lock of the connection, which this takes after it.
        let datagrams = self.quinn.stats().udp_tx.datagrams;
        tracing::trace!(datagrams, "the close of a connection was sent");
    }

    /// The dial that the other side named in its ClientHello.
    pub(super) fn dial_id(&self) -> Option<DialId> {
        let handshake = self.quinn.handshake_data()?.downcast::<HandshakeData>().ok()?;
        DialId::from_server_name(handshake.server_name.as_deref()?)
    }
}
