//! What the doctor makes of a network that answers, lies or is silent.

use tokio::task::JoinSet;

use super::*;
use crate::wire::ids::Ticket;

const TICKET: Ticket = Ticket::from_bytes([7; 16]);

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[track_caller]
fn check_nat(local: &str, first: &str, second: Option<&str>, verdict: Verdict, beginning: &str) {
    let finding = nat_finding(Some(address(local)), address(first), second.map(address));
    assert_eq!(finding.verdict, verdict, "{finding:?}");
    assert!(finding.text.starts_with(beginning), "{finding:?}");
}

#[test]
fn addresses_tell_the_kind_of_nat() {
    let (local, seen) = ("192.168.1.2:5000", "203.0.113.9:6000");
    check_nat("203.0.113.9:6000", seen, Some(seen), Verdict::Ok, "no NAT");
    check_nat("203.0.113.9:6000", seen, None, Verdict::Ok, "no NAT");
    check_nat(local, seen, Some(seen), Verdict::Ok, "NAT that keeps your port");
    check_nat(local, seen, Some("203.0.113.9:6001"), Verdict::Warn, "NAT with a port per destination");
    check_nat(local, seen, Some("203.0.113.10:6000"), Verdict::Warn, "NAT with a port per destination");
    check_nat(local, seen, None, Verdict::Warn, "there is a NAT");
}

#[test]
fn clocks_may_differ_a_little() {
    assert_eq!(clock_finding(CLOCK_DIFFERENCE_MAX).verdict, Verdict::Ok);
    let off = clock_finding(CLOCK_DIFFERENCE_MAX + Duration::from_secs(60));
    assert_eq!((off.verdict, off.text.contains("6 minutes apart")), (Verdict::Warn, true));
}

#[test]
fn only_the_smallest_packets_are_worth_a_word() {
    assert_eq!(size_finding(1_452).verdict, Verdict::Ok);
    assert_eq!(size_finding(SMALLEST_PACKET).verdict, Verdict::Warn);
}

#[test]
fn a_finding_is_an_event_for_scripts() {
    let finding = Finding::new(Check::PacketSize, Verdict::Ok, "packets pass");
    let json = r#"{"event":"finding","check":"packet_size","verdict":"ok","text":"packets pass"}"#;
    assert_eq!(serde_json::to_string(&finding).unwrap(), json);
}

/// An endpoint, and a relay's port that answers each datagram with what `answers` makes of it.
async fn relay(
    answers: impl Fn(SocketAddr, Datagram) -> Vec<Datagram> + Send + 'static,
) -> (Endpoint, PortTicket, JoinSet<()>) {
    let identity = IdentityKey::generate(&mut OsRandom);
    let endpoint = Endpoint::peer_any(&identity, &AnnouncedDials::default(), Network::default()).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut bytes = [0; 2_048];
        loop {
            let (length, from) = socket.recv_from(&mut bytes).await.unwrap();
            for answer in answers(from, Datagram::decode(&bytes[..length]).unwrap()) {
                socket.send_to(&answer.encode(), from).await.unwrap();
            }
        }
    });
    (endpoint, PortTicket { port, ticket: TICKET }, tasks)
}

#[tokio::test]
async fn the_relay_is_asked_and_only_its_answer_to_this_question_counts() {
    let (endpoint, observe, _tasks) = relay(|from, asked| {
        assert_eq!(asked, Datagram::Observe { ticket: TICKET });
        let other = Ticket::from_bytes([8; 16]);
        let lie = Datagram::Observed { ticket: other, address: address("192.0.2.1:1") };
        vec![Datagram::Opener, lie, Datagram::Observed { ticket: TICKET, address: from }]
    })
    .await;
    let seen = observed_from(&endpoint, [127, 0, 0, 1].into(), observe).await.unwrap();
    let local = endpoint.local_address_towards(address("127.0.0.1:9")).unwrap();
    assert_eq!(seen, local);
    assert_eq!(relay_finding(Some(observe), Some(seen)).verdict, Verdict::Ok);
    assert_eq!(nat_finding(Some(local), seen, Some(seen)).verdict, Verdict::Ok);
}

#[tokio::test]
async fn a_lost_question_is_asked_again_and_a_silent_relay_is_told() {
    let mut asked = 0;
    let lossy = std::sync::Mutex::new(move || {
        asked += 1;
        asked > 1
    });
    let (endpoint, observe, _tasks) = relay(move |from, _| {
        let arrives = (lossy.lock().unwrap())();
        if arrives { vec![Datagram::Observed { ticket: TICKET, address: from }] } else { Vec::new() }
    })
    .await;
    assert!(observed_from(&endpoint, [127, 0, 0, 1].into(), observe).await.is_some());

    let (endpoint, observe, _tasks) = relay(|_, _| Vec::new()).await;
    assert_eq!(observed_from(&endpoint, [127, 0, 0, 1].into(), observe).await, None);
    assert_eq!(relay_finding(Some(observe), None).verdict, Verdict::Warn);
    assert_eq!(relay_finding(None, None).verdict, Verdict::Warn);
}

#[tokio::test]
async fn a_machine_without_a_directory_is_told_from_silence() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    assert!(!is_port_closed(silent.local_addr().unwrap()).await);
    let closed = silent.local_addr().unwrap();
    drop(silent);
    assert!(is_port_closed(closed).await);
}
