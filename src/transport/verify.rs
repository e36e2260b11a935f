//! Who is at the other end: a pinned directory, or a peer whose dial was announced. No names, dates or path building.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use crate::seal::identity::{IdentityKey, directory_fingerprint, key_from_spki, spki};
use crate::wire::ids::{DialId, DirectoryFingerprint, PeerKey};
use crate::wire::limits::{ANNOUNCED_DIALS_MAX, CONNECTIONS_PER_DIAL_MAX};
use crate::wire::rendezvous::DialAnnounced;

/// The dials under way with this peer, announced to it or asked for by it: nobody else sees its key or gets in. One dial
/// lets in several connections, because both sides try every path at once.
#[derive(Debug, Clone, Default)]
pub struct AnnouncedDials {
    expected: Arc<Mutex<Table>>,
}

type Table = HashMap<DialId, Expected>;

#[derive(Debug)]
struct Expected {
    announced: DialAnnounced,
    deadline: Instant,
    /// Connections let in so far.
    admitted: usize,
}

impl AnnouncedDials {
    /// Expects the key of a dial until a deadline. Says `false` when too many dials are expected already.
    #[must_use]
    pub fn expect(&self, announced: DialAnnounced, deadline: Instant) -> bool {
        let mut expected = self.lock();
        let now = Instant::now();
        expected.retain(|_, expected| expected.deadline > now);
        if expected.len() >= ANNOUNCED_DIALS_MAX {
            return false;
        }
        expected.insert(announced.dial, Expected { announced, deadline, admitted: 0 });
        true
    }

    /// Expects nothing more of a dial.
    pub fn forget(&self, dial: DialId) {
        self.lock().remove(&dial);
    }

    /// Lets in one of the [`CONNECTIONS_PER_DIAL_MAX`] connections of a dial, when the key that was proven is its own.
    pub(super) fn admit(&self, dial: DialId, presented: PeerKey) -> Option<DialAnnounced> {
        let mut table = self.lock();
        let expected = table.get_mut(&dial).filter(|expected| expected.is_open())?;
        if expected.announced.key != presented {
            return None;
        }
        expected.admitted += 1;
        Some(expected.announced.clone())
    }

    /// Whether the relay of a dial under way has this port.
    pub(super) fn are_relayed_at(&self, port: u16) -> bool {
        let is_there = |expected: &Expected| expected.announced.relay.as_ref().is_some_and(|leg| leg.port == port);
        self.lock().values().any(is_there)
    }

    fn is_expected(&self, dial: DialId) -> bool {
        self.lock().get(&dial).is_some_and(Expected::is_open)
    }

    fn expects_key(&self, key: &PeerKey) -> bool {
        self.lock().values().any(|expected| expected.announced.key == *key && expected.is_open())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Expected {
    fn is_open(&self) -> bool {
        self.deadline > Instant::now() && self.admitted < CONNECTIONS_PER_DIAL_MAX
    }
}

/// aws-lc-rs with AES-128-GCM first: the fastest on processors with AES instructions, and strong enough.
pub(super) fn provider() -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}

/// The pin of a certificate: SHA-256 of its SubjectPublicKeyInfo.
pub(super) fn fingerprint_of_certificate(certificate: &CertificateDer<'_>) -> Result<DirectoryFingerprint, Error> {
    let spki = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
    Ok(directory_fingerprint(&spki))
}

/// An identity in the shape that rustls presents as a raw public key (RFC 7250).
pub(super) fn raw_public_key(identity: &IdentityKey) -> Result<Arc<CertifiedKey>, Error> {
    let pkcs8 = PrivateKeyDer::Pkcs8(identity.pkcs8().to_vec().into());
    let key = provider().key_provider.load_private_key(pkcs8)?;
    Ok(Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki(&identity.public()).to_vec())], key)))
}

/// Accepts the directory whose key is pinned, or any on first use; says afterwards which one it was.
#[derive(Debug)]
pub(super) struct DirectoryVerifier {
    pub(super) pinned: Option<DirectoryFingerprint>,
    pub(super) found: OnceLock<DirectoryFingerprint>,
    pub(super) provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for DirectoryVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = fingerprint_of_certificate(end_entity)?;
        let found = *self.found.get_or_init(|| found);
        match self.pinned {
            Some(pinned) if pinned != found => Err(CertificateError::ApplicationVerificationFailure.into()),
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(tls_1_2())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Accepts exactly the keys it is told to, presented as raw public keys (RFC 7250).
#[derive(Debug)]
pub(super) struct PeerVerifier {
    pub(super) expected: ExpectedKeys,
    pub(super) provider: Arc<CryptoProvider>,
}

/// Which keys a [`PeerVerifier`] accepts.
#[derive(Debug)]
pub(super) enum ExpectedKeys {
    /// The one that is dialled.
    One(PeerKey),
    /// Those whose dials were announced.
    Announced(AnnouncedDials),
}

impl PeerVerifier {
    fn check(&self, end_entity: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Result<(), Error> {
        let presented = key_from_spki(end_entity).filter(|_| intermediates.is_empty());
        let expected = presented.is_some_and(|key| match &self.expected {
            ExpectedKeys::One(expected) => key == *expected,
            ExpectedKeys::Announced(dials) => dials.expects_key(&key),
        });
        if expected { Ok(()) } else { Err(CertificateError::ApplicationVerificationFailure.into()) }
    }

    fn check_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(certificate.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.provider.signature_verification_algorithms)
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity, intermediates).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(tls_1_2())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity, intermediates).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(tls_1_2())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

fn tls_1_2() -> Error {
    Error::General("QUIC has no TLS 1.2".to_owned())
}

/// Shows a peer's key only to a dialler that names an announced dial, so that a port scan learns no identity.
#[derive(Debug)]
pub(super) struct AnnouncedResolver {
    pub(super) dials: AnnouncedDials,
    pub(super) key: Arc<CertifiedKey>,
}

impl ResolvesServerCert for AnnouncedResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let dial = DialId::from_server_name(hello.server_name()?)?;
        self.dials.is_expected(dial).then(|| self.key.clone())
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }
}
