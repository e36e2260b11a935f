//! Clients that break every rule: the directory and the peers answer or hang up, and go on serving honest people.

use std::collections::{BTreeMap, BTreeSet};
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use qchat::clock::now_millis;
use qchat::seal::identity::{IdentityKey, spki};
use qchat::seal::prekey::PrekeySecret;
use qchat::seal::random::OsRandom;
use qchat::seal::{announcement, receipt};
use qchat::storage::partial_file::Collision;
use qchat::transport::connection::{Connection, TransportError};
use qchat::transport::endpoint::Endpoint;
use qchat::transport::tuning::Network;
use qchat::transport::verify::AnnouncedDials;
use qchat::wire::account::Login;
use qchat::wire::catalog::{Cursor, Entry, EntryKind, Query, Scope};
use qchat::wire::codec;
use qchat::wire::directory::{DirectoryAnswer, DirectoryReply, DirectoryRequest};
use qchat::wire::ids::{
    DialId, DirectoryFingerprint, FileDigest, FileSize, InviteToken, MessageId, Password, Pattern, PeerKey, PrekeyId,
    UnixMillis,
};
use qchat::wire::limits::{
    FRAME_BYTES_MAX, PASSWORD_BYTES_MAX, PASSWORDS_PER_PREFIX_PER_MINUTE, STRANGER_FRAME_BYTES_MAX,
};
use qchat::wire::message::{Envelope, EnvelopeHeader, Receipt, ReceiptKind};
use qchat::wire::people::{Announcement, AnnouncementText, Presence};
use qchat::wire::refusal::{CloseCode, Refusal};
use qchat::wire::rendezvous::{Allowance, DialRequest, Grant, Purpose};
use qchat::wire::transfer::PEER_ALPN;
use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::task::JoinSet;

use crate::world::{Dice, ERRAND, Place, RawClient, TestDirectory, TestPeer, file_name, in_time, kind_of, name};

/// Fewer than the tries to log in that one connection has.
const STRANGER_REQUESTS: usize = 4;

/// One well-formed request of every kind. None of them makes the directory wait for somebody else.
fn one_of_each(identity: &IdentityKey) -> Vec<DirectoryRequest> {
    let prekey = PrekeySecret::generate(&mut OsRandom).publish(identity, &name("mallory"), now_millis());
    let digest = FileDigest::from_bytes([7; 32]);
    let size = FileSize::try_from(300_000).unwrap();
    let entry = Entry {
        name: file_name("a file"),
        size,
        digest,
        kind: EntryKind::File,
        scope: Scope::Everyone,
        hides_address: false,
    };
    let header = EnvelopeHeader {
        version: 1,
        sender: identity.public(),
        recipient: identity.public(),
        id: MessageId::from_bytes([1; 16]),
        prekey: PrekeyId::from_bytes([2; 16]),
    };
    let login = Login {
        name: name("mallory"),
        key: identity.public(),
        kind: ERRAND,
        proof: prekey.signature,
        password: Some(Password::parse("secret").unwrap()),
        register: true,
        token: None,
        undo: false,
    };
    let said = Receipt {
        by: identity.public(),
        to: PeerKey::from_bytes([8; 32]),
        id: MessageId::from_bytes([1; 16]),
        sequence: 1,
        highest: 2,
        kind: ReceiptKind::Read,
        at: now_millis(),
    };
    let receipt = receipt::sign(identity, said);
    let announced = Announcement {
        sender: identity.public(),
        id: MessageId::from_bytes([1; 16]),
        sent_at: now_millis(),
        text: AnnouncementText::parse("everybody listen").unwrap(),
    };
    let cursor = Cursor { name: file_name("b"), owner: name("nemo") };
    let query = Query::Substring(Pattern::parse("file").unwrap());
    let candidates = Some(vec!["192.0.2.1:9".parse().unwrap(), "[2001:db8::1]:9".parse().unwrap()]);
    let requests = vec![
        DirectoryRequest::Login(Box::new(login)),
        DirectoryRequest::PutPrekey(Box::new(prekey)),
        DirectoryRequest::Who { recent: false, pattern: None, after: Some(name("alice")) },
        DirectoryRequest::Identify { name: name("nemo") },
        DirectoryRequest::Deliver {
            to: name("nemo"),
            envelope: Box::new(Envelope { header, encapsulated: vec![3; 1_120], sealed: vec![4; 272] }),
        },
        DirectoryRequest::Receipts { to: name("nemo"), receipts: vec![receipt] },
        DirectoryRequest::Missing { messages: vec![(name("nemo"), MessageId::from_bytes([1; 16]))] },
        DirectoryRequest::Publish(entry),
        DirectoryRequest::Unpublish { name: file_name("a file") },
        DirectoryRequest::Find { query, after: Some(cursor) },
        DirectoryRequest::Invite,
        DirectoryRequest::ChangePassword { new: Password::parse("other").unwrap() },
        DirectoryRequest::Sessions,
        DirectoryRequest::EndOtherSessions,
        DirectoryRequest::DeleteAccount { name: name("nemo") },
        DirectoryRequest::AnswerKeyRequest { key: identity.public(), allow: true },
        DirectoryRequest::Dial(DialRequest {
            to: name("nemo"),
            key: identity.public(),
            purpose: Purpose::Talk,
            candidates,
            relay: true,
        }),
        DirectoryRequest::Opened { dial: DialId::from_bytes([5; 16]) },
        DirectoryRequest::AskConsent { to: name("nemo") },
        DirectoryRequest::Allow(Grant { to: name("nemo"), allowance: Allowance::Until(UnixMillis(1)) }),
        DirectoryRequest::Deny { to: name("nemo") },
        DirectoryRequest::Grants { after: Some(name("nemo")) },
        DirectoryRequest::SetPresence(Presence::Away),
        DirectoryRequest::Watch { names: vec![name("nemo"), name("honest")] },
        DirectoryRequest::Announce(Box::new(announcement::sign(identity, announced))),
    ];
    let kinds: BTreeSet<_> = requests.iter().map(kind_of).collect();
    assert_eq!(kinds.len(), 25, "there is one of every kind");
    requests
}

/// What can be wrong with a frame.
fn malformed(frame: &[u8], dice: &mut Dice) -> Vec<Vec<u8>> {
    let body = &frame[4..];
    let announcing = |length: u32, body: &[u8]| [&length.to_le_bytes()[..], body].concat();
    let length = u32::try_from(body.len()).unwrap();
    let mut all: Vec<Vec<u8>> =
        [0, 1, 3, 4, 5, frame.len() / 2, frame.len() - 1].map(|cut| frame[..cut].to_vec()).into();
    all.push(announcing(length + 1, &[body, &[0]].concat()));
    all.push([frame, &[0]].concat());
    all.push([frame, frame].concat());
    all.push(announcing(u32::MAX, body));
    all.push(announcing(u32::try_from(FRAME_BYTES_MAX).unwrap() + 1, body));
    all.push(announcing(length + 100, body));
    all.push(announcing(length - 1, body));
    all.push(announcing(0, &[]));
    for variant in [9, 200, 251, 252, 253, 255] {
        all.push(announcing(length, &[&[variant], &body[1..]].concat()));
    }
    // Every byte of the beginning, where lengths and variants are, and some of the long keys and ciphertexts.
    for place in (0..frame.len().min(48)).chain((48..frame.len()).step_by(41)) {
        let mut flipped = frame.to_vec();
        flipped[place] ^= 1 << dice.below(8);
        all.push(flipped);
    }
    for _ in 0..4 {
        let size = dice.below(200);
        let random = dice.bytes(size);
        all.push(announcing(u32::try_from(size).unwrap(), &random));
        all.push(random);
    }
    all
}

/// How a directory reacted to a stream.
#[derive(Debug)]
enum Reaction {
    Answered(DirectoryAnswer),
    HungUp(CloseCode),
}

/// Sends bytes on a stream of their own, and insists on a reaction that the protocol knows.
async fn react(connection: &Connection, bytes: &[u8], what: &str) -> Reaction {
    let exchange = async {
        let mut stream = connection.open_stream().await?;
        if !bytes.is_empty() {
            stream.write(bytes.to_vec().into()).await?;
        }
        stream.finish();
        let answer: DirectoryAnswer = stream.read_frame().await?;
        stream.expect_end().await?;
        Ok(answer)
    };
    match in_time(exchange).await {
        Ok(answer) => Reaction::Answered(answer),
        Err(TransportError::Closed(code @ (CloseCode::BadFrame | CloseCode::TooManyConnections))) => {
            Reaction::HungUp(code)
        }
        Err(error) => panic!("{what}, {bytes:02x?}: {error}"),
    }
}

#[tokio::test]
async fn malformed_requests_of_strangers_are_answered_or_hung_up_on() {
    let directory = TestDirectory::start();
    let mut dice = Dice(1);
    let mut stranger = RawClient::stranger(&directory).await;
    let mut left = STRANGER_REQUESTS;
    for request in one_of_each(&stranger.identity) {
        for bytes in malformed(&codec::encode_frame(&request).unwrap(), &mut dice) {
            let hung_up = match react(&stranger.connection, &bytes, kind_of(&request)).await {
                Reaction::Answered(Ok(reply)) => panic!("a stranger got {reply:?} for {bytes:02x?}"),
                Reaction::Answered(Err(_)) => false,
                Reaction::HungUp(_) => true,
            };
            left -= 1;
            if hung_up || left == 0 {
                stranger.connection.close(CloseCode::Done);
                stranger = RawClient::stranger(&directory).await;
                left = STRANGER_REQUESTS;
            }
        }
    }
    honest_people_get_in(&directory).await;
}

#[tokio::test]
async fn malformed_requests_of_somebody_logged_in_are_answered_or_hung_up_on() {
    let directory = TestDirectory::start();
    let mut dice = Dice(2);
    let mut mallory = RawClient::registered(&directory, "mallory", ERRAND).await;
    for request in one_of_each(&mallory.identity) {
        for bytes in malformed(&codec::encode_frame(&request).unwrap(), &mut dice) {
            if let Reaction::HungUp(code) = react(&mallory.connection, &bytes, kind_of(&request)).await {
                assert_eq!(code, CloseCode::BadFrame);
                mallory = RawClient::connect(directory.place, IdentityKey::from_seed(mallory.identity.seed())).await;
                mallory.log_in(mallory.login("mallory", ERRAND)).await.unwrap();
            }
        }
    }
    honest_people_get_in(&directory).await;
}

async fn honest_people_get_in(directory: &TestDirectory) {
    let honest = RawClient::registered(directory, "honest", ERRAND).await;
    let answer = honest.ask(DirectoryRequest::Who { recent: false, pattern: None, after: None }).await;
    assert!(matches!(answer, Ok(DirectoryReply::People { .. })), "{answer:?}");
}

#[tokio::test]
async fn nothing_but_a_login_is_taken_before_the_login() {
    let directory = TestDirectory::start();
    for request in one_of_each(&IdentityKey::generate(&mut OsRandom)) {
        let expected = if kind_of(&request) == "login" { Refusal::BadProof } else { Refusal::NotLoggedIn };
        let stranger = RawClient::stranger(&directory).await;
        assert_eq!(stranger.ask(request).await, Err(expected));
    }
}

#[tokio::test]
async fn a_request_that_is_never_finished_holds_up_nobody() {
    let directory = TestDirectory::start();
    let mallory = RawClient::registered(&directory, "mallory", ERRAND).await;
    let mut unfinished = Vec::new();
    // QUIC gives streams back by twos, so one of the eight is left for the request.
    for _ in 0..6 {
        let mut stream = mallory.connection.open_stream().await.unwrap();
        stream.write(vec![100, 0, 0, 0, 1].into()).await.unwrap();
        unfinished.push(stream);
    }
    let answer = mallory.ask(DirectoryRequest::Who { recent: false, pattern: None, after: None }).await;
    assert!(matches!(answer, Ok(DirectoryReply::People { .. })), "{answer:?}");
    honest_people_get_in(&directory).await;
}

#[tokio::test]
async fn a_login_is_good_for_one_connection_at_one_directory() {
    let directory = TestDirectory::start();
    let alice = RawClient::registered(&directory, "alice", ERRAND).await;
    let replayed = alice.login("alice", ERRAND);
    let thief = RawClient::stranger(&directory).await;
    assert_eq!(thief.log_in(replayed).await, Err(Refusal::BadProof));
    let again = RawClient::connect(directory.place, IdentityKey::from_seed(alice.identity.seed())).await;
    let elsewhere = DirectoryFingerprint::from_bytes([9; 32]);
    assert_eq!(again.log_in(again.login_signed_for(&elsewhere, "alice", ERRAND)).await, Err(Refusal::BadProof));
    let other_name = Login { name: name("bob"), ..again.login("alice", ERRAND) };
    assert_eq!(again.log_in(other_name).await, Err(Refusal::BadProof));
    assert!(again.log_in(again.login("alice", ERRAND)).await.is_ok());
}

#[tokio::test]
async fn datagrams_of_garbage_harm_nobody() {
    let directory = TestDirectory::start();
    let inside = RawClient::registered(&directory, "inside", ERRAND).await;
    let address = directory.place.address;
    let sending = tokio::task::spawn_blocking(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut dice = Dice(3);
        for number in 0..10_000_u32 {
            let size = dice.below(1_500);
            let mut datagram = dice.bytes(size);
            // Every other one begins like an Initial packet of QUIC version 1.
            if number.is_multiple_of(2) && size > 20 {
                datagram[..6].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8]);
            }
            socket.send_to(&datagram, address).unwrap();
        }
    });
    while !sending.is_finished() {
        let answer = inside.ask(DirectoryRequest::Who { recent: false, pattern: None, after: None }).await;
        assert!(matches!(answer, Ok(DirectoryReply::People { .. })), "{answer:?}");
    }
    sending.await.unwrap();
    honest_people_get_in(&directory).await;
}

/// First packets of connections that will never be continued: as a real client sends them.
async fn first_packets(count: usize) -> Vec<Vec<u8>> {
    first_flights(count).await.into_iter().map(|mut flight| flight.swap_remove(0)).collect()
}

/// The two packets that each of them begins with.
async fn first_flights(count: usize) -> Vec<Vec<Vec<u8>>> {
    let nowhere = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = nowhere.local_addr().unwrap();
    let identity = IdentityKey::generate(&mut OsRandom);
    let any = "127.0.0.1:0".parse().unwrap();
    let endpoint = Endpoint::peer(any, &identity, AnnouncedDials::default(), Network::default()).unwrap();
    let mut attempts = JoinSet::new();
    let mut begun: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
    let mut flights = Vec::new();
    let mut datagram = vec![0; 2_048];
    while flights.len() < count {
        let endpoint = endpoint.clone();
        attempts.spawn(async move { endpoint.connect_directory(address, None).await.map(|_| ()) });
        // The ClientHello takes two packets.
        for _ in 0..2 {
            let (length, _) = in_time(nowhere.recv_from(&mut datagram)).await.unwrap();
            let packets = begun.entry(datagram[6..26].to_vec()).or_default();
            packets.push(datagram[..length].to_vec());
            if packets.len() == 2 {
                flights.push(packets.clone());
            }
        }
    }
    flights
}

#[tokio::test]
async fn half_handshakes_do_not_keep_honest_people_out() {
    let directory = TestDirectory::start();
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for packet in first_packets(300).await {
        socket.send_to(&packet, directory.place.address).await.unwrap();
    }
    // The directory answers these, and hears no more of them.
    in_time(socket.recv_from(&mut vec![0; 2_048])).await.unwrap();
    honest_people_get_in(&directory).await;
}

#[tokio::test]
async fn those_who_never_answer_are_sent_less_than_came_in_their_name() {
    let directory = TestDirectory::start();
    let victim = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut forged = 0;
    for packet in first_flights(100).await.concat() {
        forged += victim.send_to(&packet, directory.place.address).await.unwrap();
    }
    let mut sent = 0;
    let mut datagram = vec![0; 65_536];
    // The directory sends again what it hears no answer to, later and later, until it may not or gives up.
    while let Ok(length) = tokio::time::timeout(Duration::from_secs(2), victim.recv(&mut datagram)).await {
        sent += length.unwrap();
    }
    assert!(sent > 0 && sent <= forged, "{sent} bytes were sent for {forged}");
    honest_people_get_in(&directory).await;
}

#[tokio::test]
async fn a_stranger_cannot_make_the_directory_wait_for_a_long_frame() {
    let directory = TestDirectory::start();
    let stranger = RawClient::stranger(&directory).await;
    let mut stream = stranger.connection.open_stream().await.unwrap();
    let announced = u32::try_from(STRANGER_FRAME_BYTES_MAX + 1).unwrap();
    stream.write(announced.to_le_bytes().to_vec().into()).await.unwrap();
    let reason = in_time(stranger.connection.closed()).await;
    assert!(matches!(reason, TransportError::Closed(CloseCode::BadFrame)), "{reason}");
}

#[tokio::test]
async fn the_longest_login_fits() {
    let directory = TestDirectory::start();
    let stranger = RawClient::stranger(&directory).await;
    let password = Some(Password::parse(&"p".repeat(PASSWORD_BYTES_MAX)).unwrap());
    let token = Some(InviteToken::from_bytes([7; 16]));
    let login = Login { password, token, register: true, ..stranger.login("the-longest-name-of-32-letters-x", ERRAND) };
    assert!(stranger.log_in(login).await.is_ok());
}

#[tokio::test]
async fn whoever_guesses_at_many_accounts_is_soon_refused_at_all() {
    let directory = TestDirectory::start();
    let guess = async |victim: &str| {
        let thief = RawClient::stranger(&directory).await;
        let password = Some(Password::parse("a guess").unwrap());
        thief.log_in(Login { password, ..thief.login(victim, ERRAND) }).await.unwrap_err()
    };
    for number in 0..PASSWORDS_PER_PREFIX_PER_MINUTE / 2 {
        let victim = format!("victim-{number}");
        RawClient::registered(&directory, &victim, ERRAND).await;
        for tries_left in [2, 1] {
            assert_eq!(guess(&victim).await, Refusal::WrongPassword { tries_left });
        }
    }
    let untouched = RawClient::registered(&directory, "untouched", ERRAND).await;
    assert!(matches!(guess("untouched").await, Refusal::LockedOut { seconds: 1..=60 }));
    let again = RawClient::connect(directory.place, IdentityKey::from_seed(untouched.identity.seed())).await;
    assert!(again.log_in(again.login("untouched", ERRAND)).await.is_ok(), "the owner needs no password");
}

/// Believes any server, and notes whether one showed a key.
#[derive(Debug)]
struct Onlooker {
    raw_keys: bool,
    was_shown_a_key: AtomicBool,
}

impl ServerCertVerifier for Onlooker {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.was_shown_a_key.store(true, Ordering::SeqCst);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP256_SHA256]
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.raw_keys
    }
}

/// Knocks at a port with a plain TLS client. Says whether the handshake worked, and whether a key was shown.
async fn knock(place: std::net::SocketAddr, server_name: Option<&str>, alpn: &[u8], raw_keys: bool) -> (bool, bool) {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap());
    let onlooker = Arc::new(Onlooker { raw_keys, was_shown_a_key: AtomicBool::new(false) });
    let builder = rustls::ClientConfig::builder().dangerous().with_custom_certificate_verifier(onlooker.clone());
    let mut tls = if raw_keys {
        let identity = IdentityKey::generate(&mut OsRandom);
        let pkcs8 = PrivateKeyDer::Pkcs8(identity.pkcs8().to_vec().into());
        let public = vec![CertificateDer::from(spki(&identity.public()).to_vec())];
        let key = CertifiedKey::new(public, any_supported_type(&pkcs8).unwrap());
        builder.with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(Arc::new(key))))
    } else {
        builder.with_no_client_auth()
    };
    tls.alpn_protocols = vec![alpn.to_vec()];
    tls.enable_sni = server_name.is_some();
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let connecting = endpoint.connect_with(config, place, server_name.unwrap_or("nobody.invalid")).unwrap();
    let shook_hands = in_time(connecting).await.is_ok();
    (shook_hands, onlooker.was_shown_a_key.load(Ordering::SeqCst))
}

/// A peer that shares a file, and somebody who has learned its address.
async fn shared_by_alice(directory: &TestDirectory) -> (TestPeer, RawClient, std::net::SocketAddr) {
    let alice = TestPeer::join(directory, "alice").await;
    alice.share("bait", b"public").await;
    let mallory = RawClient::registered(directory, "mallory", ERRAND).await;
    alice.allow("mallory").await;
    let address = mallory.announce("alice", alice.key()).await.unwrap().direct.candidates()[0];
    (alice, mallory, address)
}

#[tokio::test]
async fn a_scan_of_a_peers_port_learns_no_key() {
    let directory = TestDirectory::start();
    let (_alice, mallory, address) = shared_by_alice(&directory).await;
    let unknown = DialId::from_bytes([5; 16]).server_name();
    for server_name in [None, Some(unknown.as_str()), Some("example.org"), Some("directory.qchat.invalid")] {
        for raw_keys in [true, false] {
            assert_eq!(knock(address, server_name, PEER_ALPN, raw_keys).await, (false, false), "{server_name:?}");
        }
    }
    // The control: who names an announced dial is shown the key.
    let alice = mallory.identify("alice").await.key;
    let announced = mallory.announce("alice", alice).await.unwrap().dial.server_name();
    assert!(knock(address, Some(&announced), PEER_ALPN, true).await.1);
    assert_eq!(knock(address, Some(&announced), b"qchat-dir/1", true).await, (false, false));
    assert_eq!(knock(address, Some(&announced), b"h3", true).await, (false, false));

    let bob = TestPeer::join(&directory, "bob").await;
    bob.get("alice", "bait", Collision::Refuse).await.unwrap();
}

#[tokio::test]
async fn only_the_announced_key_gets_in() {
    let directory = TestDirectory::start();
    let (alice, mallory, _) = shared_by_alice(&directory).await;
    let granted = mallory.announce("alice", alice.key()).await.unwrap();
    let (address, dial) = (granted.direct.candidates()[0], granted.dial);
    let thief = RawClient::registered(&directory, "thief", ERRAND).await;
    let turned_away = |dialled: Result<Connection, TransportError>| async {
        match dialled {
            Ok(connection) => drop(in_time(connection.closed()).await),
            Err(error) => assert!(!matches!(error, TransportError::TimedOut), "{error}"),
        }
    };
    // A key that nobody announced, and one that was announced for another dial.
    turned_away(thief.dial_at(address, dial, alice.key()).await).await;
    alice.allow("thief").await;
    thief.announce("alice", alice.key()).await.unwrap();
    turned_away(thief.dial_at(address, dial, alice.key()).await).await;
    // A dial announced to somebody else has another key at its other end.
    let other: PeerKey = thief.identity.public();
    assert!(mallory.dial_at(address, dial, other).await.is_err());
    let bob = TestPeer::join(&directory, "bob").await;
    bob.get("alice", "bait", Collision::Refuse).await.unwrap();
}

#[tokio::test]
async fn garbage_on_a_peers_port_harms_nobody() {
    let directory = TestDirectory::start();
    let (_alice, _, address) = shared_by_alice(&directory).await;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut dice = Dice(4);
    for _ in 0..2_000 {
        let size = dice.below(1_500);
        socket.send_to(&dice.bytes(size), address).unwrap();
    }
    for packet in first_packets(100).await {
        socket.send_to(&packet, address).unwrap();
    }
    let bob = TestPeer::join(&directory, "bob").await;
    bob.get("alice", "bait", Collision::Refuse).await.unwrap();
}

#[tokio::test]
async fn another_directory_on_the_same_address_is_not_trusted() {
    let directory = TestDirectory::start();
    let identity = IdentityKey::generate(&mut OsRandom);
    let any = "127.0.0.1:0".parse().unwrap();
    let endpoint = Endpoint::peer(any, &identity, AnnouncedDials::default(), Network::default()).unwrap();
    let Place { address, fingerprint } = directory.place;
    let expected = DirectoryFingerprint::from_bytes([1; 32]);
    let error = in_time(endpoint.connect_directory(address, Some(expected))).await.unwrap_err();
    let TransportError::IdentityMismatch { found, .. } = error else { panic!("{error}") };
    assert_eq!(found, fingerprint);
}
