//! Stands between peers and their directory, and searches every datagram of both directions for a text.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the threads look whether they are to end.
const LOOKED_AT_EVERY: Duration = Duration::from_millis(100);

/// A socket that forwards to a directory; it ends when it is dropped.
pub(super) struct Wiretap {
    pub(super) address: SocketAddr,
    heard: Arc<Heard>,
    forwarding: Option<JoinHandle<()>>,
}

/// What went through.
struct Heard {
    wanted: Vec<u8>,
    datagrams: AtomicU64,
    found: AtomicU64,
    has_ended: AtomicBool,
}

impl Heard {
    fn hear(&self, datagram: &[u8]) {
        self.datagrams.fetch_add(1, Ordering::Relaxed);
        if datagram.windows(self.wanted.len()).any(|window| window == self.wanted) {
            self.found.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Wiretap {
    pub(super) fn before(directory: SocketAddr, wanted: &str) -> Self {
        let front = Arc::new(socket());
        let address = front.local_addr().expect("it is bound");
        let heard = Arc::new(Heard {
            wanted: wanted.as_bytes().to_vec(),
            datagrams: AtomicU64::new(0),
            found: AtomicU64::new(0),
            has_ended: AtomicBool::new(false),
        });
        let on_thread = heard.clone();
        let forwarding = std::thread::spawn(move || forward(&front, directory, &on_thread));
        Self { address, heard, forwarding: Some(forwarding) }
    }

    pub(super) fn datagrams(&self) -> u64 {
        self.heard.datagrams.load(Ordering::Relaxed)
    }

    /// Datagrams that contained the text.
    pub(super) fn found(&self) -> u64 {
        self.heard.found.load(Ordering::Relaxed)
    }
}

impl Drop for Wiretap {
    fn drop(&mut self) {
        self.heard.has_ended.store(true, Ordering::Relaxed);
        drop(self.forwarding.take().map(JoinHandle::join));
    }
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(LOOKED_AT_EVERY)).expect("it takes a timeout");
    socket
}

/// Gives each peer a socket of its own towards the directory.
fn forward(front: &Arc<UdpSocket>, directory: SocketAddr, heard: &Arc<Heard>) {
    let mut behind: HashMap<SocketAddr, (Arc<UdpSocket>, JoinHandle<()>)> = HashMap::new();
    let mut datagram = vec![0; 65_536];
    while !heard.has_ended.load(Ordering::Relaxed) {
        let Ok((length, peer)) = front.recv_from(&mut datagram) else { continue };
        heard.hear(&datagram[..length]);
        let (socket, _) = behind.entry(peer).or_insert_with(|| {
            let socket = Arc::new(socket());
            socket.connect(directory).expect("an address of this machine");
            let (answers, front, heard) = (socket.clone(), front.clone(), heard.clone());
            (socket, std::thread::spawn(move || forward_answers(&answers, &front, peer, &heard)))
        });
        // The directory may be down: then the datagram is lost, as in a network.
        drop(socket.send(&datagram[..length]));
    }
    for (_, answers) in behind.into_values() {
        drop(answers.join());
    }
}

fn forward_answers(socket: &UdpSocket, front: &UdpSocket, peer: SocketAddr, heard: &Heard) {
    let mut datagram = vec![0; 65_536];
    while !heard.has_ended.load(Ordering::Relaxed) {
        let Ok(length) = socket.recv(&mut datagram) else { continue };
        heard.hear(&datagram[..length]);
        drop(front.send_to(&datagram[..length], peer));
    }
}

#[test]
fn it_finds_what_goes_through_in_the_clear() {
    let directory = socket();
    let tap = Wiretap::before(directory.local_addr().unwrap(), "marker");
    let peer = socket();
    peer.connect(tap.address).unwrap();
    peer.send(b"a marker in between").unwrap();
    let mut buffer = [0; 100];
    let (length, behind) = directory.recv_from(&mut buffer).unwrap();
    directory.send_to(&buffer[..length], behind).unwrap();
    peer.recv(&mut buffer).unwrap();
    assert_eq!((tap.found(), tap.datagrams()), (2, 2));
}
