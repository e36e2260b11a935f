//! Hears every packet that a namespace sends, receives or passes on, whole.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketType, recv, socket, sockopt};

use crate::namespaces::Namespace;

/// ETH_P_ALL of packet(7), in the order of the network.
const ALL_PROTOCOLS: u32 = 0x0003_u16.to_be() as u32;

/// How often the thread looks whether it is to end.
const LOOKED_AT_EVERY: Duration = Duration::from_millis(100);

/// More than the kernel hands over as one packet.
const PACKET_BYTES_MAX: usize = 128 * 1024;

/// What waits while the thread is kept off the processor.
const QUEUE_BYTES: usize = 64 * 1024 * 1024;

/// Counts what `Capture` must have heard of.
const COUNTERS: &str = "nft -f - <<'END'\n\
table inet heard {\n counter datagrams { }\n\
chain arriving { type filter hook prerouting priority -400; meta l4proto udp counter name datagrams\n }\n\
chain made_here { type filter hook output priority -400; meta l4proto udp counter name datagrams\n }\n}\nEND\n";

/// A capture that goes on until it is ended.
pub(crate) struct Capture<'a> {
    namespace: &'a Namespace,
    must_end: Arc<AtomicBool>,
    hearing: JoinHandle<Vec<Packet>>,
}

/// A packet from its Ethernet header on.
pub(crate) struct Packet(Vec<u8>);

impl Packet {
    /// Its sender and receiver, if it is of the Internet.
    pub(crate) fn ends(&self) -> Option<[IpAddr; 2]> {
        let version_4 =
            |at: usize| Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(self.0.get(at..at + 4)?).ok()?)));
        let version_6 =
            |at: usize| Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(self.0.get(at..at + 16)?).ok()?)));
        match self.0.get(12..14)? {
            [0x08, 0x00] => Some([version_4(26)?, version_4(30)?]),
            [0x86, 0xdd] => Some([version_6(22)?, version_6(38)?]),
            _ => None,
        }
    }

    pub(crate) fn is_between(&self, one: IpAddr, other: IpAddr) -> bool {
        self.ends().is_some_and(|ends| ends == [one, other] || ends == [other, one])
    }

    pub(crate) fn contains(&self, wanted: &[u8]) -> bool {
        self.0.windows(wanted.len()).any(|window| window == wanted)
    }

    fn is_udp(&self) -> bool {
        const UDP: u8 = 17;
        match self.0.get(12..14) {
            Some([0x08, 0x00]) => self.0.get(23) == Some(&UDP),
            Some([0x86, 0xdd]) => self.0.get(20) == Some(&UDP),
            _ => false,
        }
    }
}

impl<'a> Capture<'a> {
    pub(crate) fn start(namespace: &'a Namespace) -> Self {
        let ears = namespace.within(ears);
        namespace.script(COUNTERS);
        let must_end = Arc::new(AtomicBool::new(false));
        let on_thread = must_end.clone();
        let hearing = std::thread::spawn(move || hear(&ears, &on_thread));
        Self { namespace, must_end, hearing }
    }

    /// All packets. Fails when the kernel had to drop one before it was heard.
    pub(crate) fn end(self) -> Vec<Packet> {
        let counters = self.namespace.script("nft list counters table inet heard");
        self.must_end.store(true, Ordering::Release);
        let packets = self.hearing.join().expect("it only listens");
        let counted: usize = number_after("packets", &counters);
        let heard = packets.iter().filter(|packet| packet.is_udp()).count();
        assert!(heard >= counted && counted > 0, "{heard} of {counted} packets were heard");
        packets
    }
}

/// A socket that is handed a copy of every packet.
fn ears() -> OwnedFd {
    let protocol = NonZeroU32::new(ALL_PROTOCOLS).map(Protocol::from_raw);
    let ears = socket(AddressFamily::PACKET, SocketType::RAW, protocol).expect("root of these namespaces may listen");
    // Only root of the machine gets all of it; whether it was too little is found out at the end.
    sockopt::set_socket_recv_buffer_size_force(&ears, QUEUE_BYTES)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(&ears, QUEUE_BYTES))
        .expect("a socket takes a size");
    sockopt::set_socket_timeout(&ears, sockopt::Timeout::Recv, Some(LOOKED_AT_EVERY))
        .expect("a socket takes a timeout");
    ears
}

fn hear(ears: &OwnedFd, must_end: &AtomicBool) -> Vec<Packet> {
    let mut packets = Vec::new();
    let mut packet = vec![0; PACKET_BYTES_MAX];
    loop {
        // Read before the queue is looked at, so that what was sent before the end is heard.
        let is_the_end = must_end.load(Ordering::Acquire);
        match recv(ears, &mut packet[..], RecvFlags::empty()) {
            Ok((length, _)) => packets.push(Packet(packet[..length].to_vec())),
            Err(Errno::AGAIN | Errno::INTR) if is_the_end => return packets,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => panic!("the capture broke: {error}"),
        }
    }
}

/// The number that follows a word.
fn number_after(word: &str, text: &str) -> usize {
    let mut words = text.split_whitespace().skip_while(|found| *found != word);
    words.nth(1).and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{word} should be in:\n{text}"))
}
