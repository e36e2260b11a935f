//! A directory's certificate is renewed while it runs: what newcomers are shown, seen by a client that trusts anybody.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use quinn::crypto::rustls::QuicClientConfig;
use rcgen::{CertificateParams, KeyPair};
use rustix::process::Signal;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

use crate::program::{DEADLINE, World};

#[test]
fn a_renewed_certificate_is_shown_to_the_next_newcomer_and_no_other_is() {
    let world = World::new();
    let directory = world.directory();
    let (certificate, key) = (world.path("cert").join("cert.pem"), world.path("cert").join("key.pem"));
    let own_key = std::fs::read_to_string(&key).unwrap();
    let hang_up = |pem: &str| {
        std::fs::write(&certificate, pem).unwrap();
        directory.process.signal(Signal::HUP);
    };
    let first = shown(directory.address);

    let (renewed, pem) = certificate_of(&KeyPair::from_pem(&own_key).unwrap(), 2);
    hang_up(&pem);
    let until = Instant::now() + DEADLINE;
    while shown(directory.address) != renewed {
        assert!(Instant::now() < until, "the renewed certificate is not shown");
    }
    assert_ne!(first, renewed);

    let other_key = KeyPair::generate().unwrap();
    std::fs::write(&key, other_key.serialize_pem()).unwrap();
    hang_up(&certificate_of(&other_key, 3).1);
    stays(directory.address, &renewed);
    std::fs::write(&key, own_key).unwrap();
    hang_up("garbage");
    stays(directory.address, &renewed);

    directory.process.signal(Signal::TERM);
    let log = directory.process.outcome().stderr;
    assert!(log.contains("another key") && log.contains("cannot be used"), "{log}");
}

/// More newcomers than it needs to notice a signal.
fn stays(directory: SocketAddr, certificate: &[u8]) {
    for _ in 0..20 {
        assert_eq!(shown(directory), certificate);
    }
}

/// A certificate of this key: its bytes, and the file.
fn certificate_of(key: &KeyPair, serial: u64) -> (Vec<u8>, String) {
    let mut params = CertificateParams::new(vec!["directory.qchat.invalid".to_owned()]).expect("a host name");
    params.serial_number = Some(serial.into());
    let signed = params.self_signed(key).expect("the key signs");
    (signed.der().to_vec(), signed.pem())
}

/// The certificate that a newcomer is shown.
fn shown(directory: SocketAddr) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut tls = rustls::ClientConfig::builder_with_provider(default_provider().into())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider speaks TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TrustsAnybody))
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"qchat-dir/1".to_vec()];
        let config = quinn::ClientConfig::new(Arc::new(
            QuicClientConfig::try_from(tls).expect("TLS 1.3 has QUIC's cipher suite"),
        ));
        let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let connecting = endpoint.connect_with(config, directory, "directory.qchat.invalid").expect("a host name");
        let connection = connecting.await.expect("the directory answers");
        let identity = connection.peer_identity().expect("a server shows a certificate");
        connection.close(0_u32.into(), b"");
        endpoint.wait_idle().await;
        identity.downcast::<Vec<CertificateDer<'static>>>().expect("rustls gives certificates")[0].to_vec()
    })
}

#[derive(Debug)]
struct TrustsAnybody;

impl ServerCertVerifier for TrustsAnybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}
