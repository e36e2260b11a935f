//! One UDP socket that speaks QUIC: a directory that accepts, or a peer that dials and accepts.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::client::danger::ServerCertVerifier;
use rustls::sign::CertifiedKey;

use super::certificate::DirectoryCertificate;
use super::connection::{Connection, TransportError};
use super::socket::{BesideQuic, DatagramsLost};
use super::tuning::{HANDSHAKE_DEADLINE, Network, Way};
use super::verify::{
    AnnouncedDials, AnnouncedResolver, DirectoryVerifier, ExpectedKeys, PeerVerifier, provider, raw_public_key,
};
use super::{socket, tuning};
use crate::seal::identity::{IdentityKey, reset_key};
use crate::wire::datagram::Datagram;
use crate::wire::directory::DIRECTORY_ALPN;
use crate::wire::ids::{DialId, DirectoryFingerprint, PeerKey};
use crate::wire::refusal::CloseCode;
use crate::wire::rendezvous::DialAnnounced;
use crate::wire::transfer::PEER_ALPN;

/// The server name of every directory: its key is what identifies it.
pub(super) const DIRECTORY_SERVER_NAME: &str = "directory.qchat.invalid";

/// A QUIC endpoint on one UDP socket. Clones share it.
#[derive(Debug, Clone)]
pub struct Endpoint {
    quinn: quinn::Endpoint,
    beside: Arc<BesideQuic>,
    network: Network,
    peer: Option<Arc<PeerSide>>,
}

/// What a peer's endpoint holds beside its socket.
#[derive(Debug)]
struct PeerSide {
    key: Arc<CertifiedKey>,
    dials: AnnouncedDials,
    /// For connections from [`Way::Near`]; the endpoint's own settings are those of the others.
    near: Arc<quinn::ServerConfig>,
}

impl PeerSide {
    /// The way to an address: through a relay, if one of a dial under way is there.
    fn way_to(&self, address: SocketAddr) -> Way {
        if self.dials.are_relayed_at(address.port()) { Way::Far } else { Way::to(address.ip()) }
    }
}

/// A connection attempt that has not shaken hands yet.
#[derive(Debug)]
pub struct Incoming {
    quinn: quinn::Incoming,
    peer: Option<Arc<PeerSide>>,
}

impl Endpoint {
    /// Opens a directory's endpoint, which accepts peers and dials nobody.
    ///
    /// # Errors
    /// [`TransportError::Bind`] when the address cannot be had, [`TransportError::Tls`] when the key does not fit.
    pub fn directory(
        listen: SocketAddr,
        certificate: &DirectoryCertificate,
        network: Network,
    ) -> Result<Self, TransportError> {
        let server = directory_config(certificate, network)?;
        let endpoint = tuning::endpoint(certificate.reset_key(), network);
        let (quinn, beside) = open(listen, endpoint, server)?;
        Ok(Self { quinn, beside, network, peer: None })
    }

    /// Shows another certificate to whoever connects from now on; connections that are there go on.
    ///
    /// # Errors
    /// [`TransportError::Tls`] when its key does not fit; then the one before stays.
    pub fn renew_certificate(&self, certificate: &DirectoryCertificate) -> Result<(), TransportError> {
        self.quinn.set_server_config(Some(directory_config(certificate, self.network)?));
        Ok(())
    }

    /// Opens a peer's endpoint, which dials directories and peers, and accepts announced peers.
    ///
    /// # Errors
    /// [`TransportError::Bind`] when the address cannot be had.
    pub fn peer(
        bind: SocketAddr,
        identity: &IdentityKey,
        dials: AnnouncedDials,
        network: Network,
    ) -> Result<Self, TransportError> {
        let key = raw_public_key(identity)?;
        let verifier = PeerVerifier { expected: ExpectedKeys::Announced(dials.clone()), provider: provider() };
        let mut tls = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(AnnouncedResolver { dials: dials.clone(), key: key.clone() }));
        tls.alpn_protocols = vec![PEER_ALPN.to_vec()];
        let server = server_config(tls, tuning::peer_link(network, Way::Far, None))?;
        let mut near = server.clone();
        near.transport_config(tuning::peer_link(network, Way::Near, None));
        let endpoint = tuning::endpoint(reset_key(identity.seed()), network);
        let (quinn, beside) = open(bind, endpoint, server)?;
        Ok(Self { quinn, beside, network, peer: Some(Arc::new(PeerSide { key, dials, near: Arc::new(near) })) })
    }

    /// Opens a peer's endpoint on a free port of both families, or of IPv4 alone where IPv6 is off.
    ///
    /// # Errors
    /// As [`Self::peer`].
    pub fn peer_any(identity: &IdentityKey, dials: &AnnouncedDials, network: Network) -> Result<Self, TransportError> {
        match Self::peer((Ipv6Addr::UNSPECIFIED, 0).into(), identity, dials.clone(), network) {
            Err(TransportError::Bind { source, .. }) => {
                tracing::debug!(error = %source, "no IPv6 here");
                Self::peer((Ipv4Addr::UNSPECIFIED, 0).into(), identity, dials.clone(), network)
            }
            opened => opened,
        }
    }

    /// The address the socket is bound to; `[::]` stands for both families.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.quinn.local_addr()
    }

    /// The address under which a machine on the way to `remote` would see this socket if there were no NAT.
    ///
    /// # Errors
    /// What the operating system says, for instance that there is no route.
    pub fn local_address_towards(&self, remote: SocketAddr) -> io::Result<SocketAddr> {
        let ip = socket::local_address_towards(remote)?.ip();
        Ok(SocketAddr::new(ip, self.local_address()?.port()))
    }

    /// Connects to a directory: the pinned one, or on first use whichever answers.
    ///
    /// # Errors
    /// [`TransportError::IdentityMismatch`] when another key answers, [`TransportError::TimedOut`] when nobody does.
    pub async fn connect_directory(
        &self,
        address: SocketAddr,
        pinned: Option<DirectoryFingerprint>,
    ) -> Result<(Connection, DirectoryFingerprint), TransportError> {
        let verifier = Arc::new(DirectoryVerifier { pinned, found: OnceLock::new(), provider: provider() });
        let mut tls = client_tls(verifier.clone())?.with_no_client_auth();
        tls.alpn_protocols = vec![DIRECTORY_ALPN.to_vec()];
        let config = client_config(tls, tuning::directory_link(self.network))?;
        let connected = self.connect(config, address, DIRECTORY_SERVER_NAME, HANDSHAKE_DEADLINE).await;
        match (pinned, verifier.found.get()) {
            (Some(expected), Some(&found)) if expected != found => {
                Err(TransportError::IdentityMismatch { expected, found })
            }
            (_, Some(&found)) => {
                let connection = connected?;
                tuning::raise_after_login(&connection.quinn); // the directory's pushes: we trust it by now
                Ok((connection, found))
            }
            (_, None) => connected.and(Err(TransportError::Handshake("no certificate came".to_owned()))),
        }
    }

    /// Connects to a peer through an announced dial within this time; only the expected key will do. With a round-trip time
    /// that was measured, lost first packets are sent again sooner, or less often.
    ///
    /// # Errors
    /// [`TransportError::TimedOut`] when nobody answers there.
    pub async fn dial(
        &self,
        address: SocketAddr,
        dial: DialId,
        key: PeerKey,
        within: Duration,
        round_trip: Option<Duration>,
    ) -> Result<Connection, TransportError> {
        let Some(own) = &self.peer else {
            return Err(TransportError::Handshake("a directory does not dial".to_owned()));
        };
        let verifier = Arc::new(PeerVerifier { expected: ExpectedKeys::One(key), provider: provider() });
        let resolver = AlwaysResolvesClientRawPublicKeys::new(own.key.clone());
        let mut tls = client_tls(verifier)?.with_client_cert_resolver(Arc::new(resolver));
        tls.alpn_protocols = vec![PEER_ALPN.to_vec()];
        let config = client_config(tls, tuning::peer_link(self.network, own.way_to(address), round_trip))?;
        self.connect(config, address, &dial.server_name(), within).await
    }

    /// Sends a datagram beside QUIC from the same socket, with so many hops left if that is named. What the socket does not
    /// take at once is lost, as on the network.
    pub fn send_datagram(&self, to: SocketAddr, datagram: &Datagram, hops: Option<u8>) {
        self.beside.send(to, datagram, hops);
    }

    /// Waits for the next datagram beside QUIC, and says where it came from. One caller at a time. `None` once the endpoint
    /// is closed.
    pub async fn receive_datagram(&self) -> Option<(SocketAddr, Datagram)> {
        self.beside.receive().await
    }

    /// How many datagrams beside QUIC were lost here, and why.
    #[must_use]
    pub fn datagrams_lost(&self) -> DatagramsLost {
        self.beside.lost()
    }

    /// Waits for the next connection attempt. `None` once the endpoint is closed.
    pub async fn accept(&self) -> Option<Incoming> {
        let quinn = self.quinn.accept().await?;
        Some(Incoming { quinn, peer: self.peer.clone() })
    }

    /// Closes every connection with a code.
    pub fn close(&self, code: CloseCode) {
        self.quinn.close(quinn_code(code), code.to_string().as_bytes());
        self.beside.close();
    }

    /// Waits until the other sides were told of the close, for a second at most.
    pub async fn wait_closed(&self) {
        // The drain period of QUIC is for late packets; a process that ends need not wait for it.
        if tokio::time::timeout(Duration::from_secs(1), self.quinn.wait_idle()).await.is_err() {
            tracing::debug!("connections were still draining at exit");
        }
    }

    async fn connect(
        &self,
        config: quinn::ClientConfig,
        address: SocketAddr,
        server_name: &str,
        within: Duration,
    ) -> Result<Connection, TransportError> {
        let connecting = self.quinn.connect_with(config, address, server_name)?;
        let connected = tokio::time::timeout(within, connecting).await;
        Ok(Connection { quinn: connected.map_err(|_| TransportError::TimedOut)?? })
    }
}

impl Incoming {
    /// The address it comes from, which may be forged unless [`Self::is_validated`].
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        socket::canonical(self.quinn.remote_address())
    }

    /// Whether the other side has proven that it receives at its address.
    #[must_use]
    pub fn is_validated(&self) -> bool {
        self.quinn.remote_address_validated()
    }

    /// Asks the other side to prove its address (RFC 9000, section 8.1.2): it comes again.
    pub fn ask_to_prove_address(self) {
        if let Err(error) = self.quinn.retry() {
            error.into_incoming().ignore();
        }
    }

    /// Turns it away.
    pub fn refuse(self) {
        self.quinn.refuse();
    }

    /// Shakes hands with a peer that will log in later.
    ///
    /// # Errors
    /// [`TransportError`] when the handshake fails or takes too long.
    pub async fn accept(self) -> Result<Connection, TransportError> {
        let address = self.remote_address();
        let connecting = match self.peer {
            Some(peer) if peer.way_to(address) == Way::Near => self.quinn.accept_with(peer.near.clone()),
            _ => self.quinn.accept(),
        }?;
        let connected = tokio::time::timeout(HANDSHAKE_DEADLINE, connecting).await;
        Ok(Connection { quinn: connected.map_err(|_| TransportError::TimedOut)?? })
    }

    /// Shakes hands with an announced peer: the key it proves to hold must be the one announced for its dial.
    ///
    /// # Errors
    /// [`TransportError::NotAnnounced`] when it is another one.
    pub async fn accept_peer(self) -> Result<(Connection, DialAnnounced), TransportError> {
        let peer = self.peer.clone();
        let connection = self.accept().await?;
        let named = connection.dial_id().zip(connection.peer_key());
        match named.and_then(|(dial, presented)| peer?.dials.admit(dial, presented)) {
            Some(announced) => Ok((connection, announced)),
            None => {
                connection.close(CloseCode::NotAnnounced);
                Err(TransportError::NotAnnounced)
            }
        }
    }
}

pub(super) fn quinn_code(code: CloseCode) -> quinn::VarInt {
    quinn::VarInt::from_u64(code.number()).unwrap_or(quinn::VarInt::MAX)
}

fn open(
    address: SocketAddr,
    endpoint: quinn::EndpointConfig,
    server: quinn::ServerConfig,
) -> Result<(quinn::Endpoint, Arc<BesideQuic>), TransportError> {
    let bind = |source| TransportError::Bind { address, source };
    let (socket, beside) = socket::bind(address).and_then(BesideQuic::share).map_err(bind)?;
    let runtime = Arc::new(quinn::TokioRuntime);
    let quinn = quinn::Endpoint::new_with_abstract_socket(endpoint, Some(server), socket, runtime).map_err(bind)?;
    Ok((quinn, Arc::new(beside)))
}

fn directory_config(
    certificate: &DirectoryCertificate,
    network: Network,
) -> Result<quinn::ServerConfig, TransportError> {
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(certificate.chain.clone(), certificate.key.clone_key())?;
    tls.alpn_protocols = vec![DIRECTORY_ALPN.to_vec()];
    server_config(tls, tuning::directory_link(network))
}

fn server_config(
    mut tls: rustls::ServerConfig,
    transport: Arc<quinn::TransportConfig>,
) -> Result<quinn::ServerConfig, TransportError> {
    // No tickets: a resumed session would outlive a changed key, and 0-RTT can be replayed.
    tls.send_tls13_tickets = 0;
    tls.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    tls.max_early_data_size = 0;
    let crypto = QuicServerConfig::try_from(tls).map_err(|error| TransportError::Handshake(error.to_string()))?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    tuning::bound_handshakes(&mut config);
    config.transport_config(transport);
    Ok(config)
}

type ClientBuilder = rustls::ConfigBuilder<rustls::ClientConfig, rustls::client::WantsClientCert>;

fn client_tls(verifier: Arc<dyn ServerCertVerifier>) -> Result<ClientBuilder, TransportError> {
    Ok(rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier))
}

fn client_config(
    mut tls: rustls::ClientConfig,
    transport: Arc<quinn::TransportConfig>,
) -> Result<quinn::ClientConfig, TransportError> {
    tls.resumption = rustls::client::Resumption::disabled();
    tls.enable_early_data = false;
    let crypto = QuicClientConfig::try_from(tls).map_err(|error| TransportError::Handshake(error.to_string()))?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport);
    Ok(config)
}
