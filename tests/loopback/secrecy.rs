//! What a directory and the network get to see: every byte of both is searched for what was said.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use qchat::peer::event::Event;
use qchat::peer::handle::Command;
use qchat::seal::random::{self, OsRandom};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use crate::world::{PASSWORD, Place, TestDirectory, TestPeer, in_time, name};

/// Stands in front of a directory, and keeps every byte that goes through in either direction.
struct Wiretap {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<u8>>>,
    _forwarding: JoinSet<()>,
}

impl Wiretap {
    async fn before(directory: SocketAddr) -> Self {
        let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let address = front.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let mut forwarding = JoinSet::new();
        forwarding.spawn(forward(front, directory, heard.clone()));
        Self { address, heard, _forwarding: forwarding }
    }

    fn heard(&self) -> Vec<u8> {
        self.heard.lock().unwrap().clone()
    }
}

/// Gives each peer a socket of its own towards the directory.
async fn forward(front: Arc<UdpSocket>, directory: SocketAddr, heard: Arc<Mutex<Vec<u8>>>) {
    let mut behind: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut answers = JoinSet::new();
    let mut datagram = vec![0; 65_536];
    loop {
        let (length, peer) = front.recv_from(&mut datagram).await.unwrap();
        heard.lock().unwrap().extend_from_slice(&datagram[..length]);
        let socket = match behind.entry(peer) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
                socket.connect(directory).await.unwrap();
                answers.spawn(forward_answers(socket.clone(), front.clone(), peer, heard.clone()));
                new.insert(socket)
            }
        };
        socket.send(&datagram[..length]).await.unwrap();
    }
}

async fn forward_answers(socket: Arc<UdpSocket>, front: Arc<UdpSocket>, peer: SocketAddr, heard: Arc<Mutex<Vec<u8>>>) {
    let mut datagram = vec![0; 65_536];
    loop {
        let length = socket.recv(&mut datagram).await.unwrap();
        heard.lock().unwrap().extend_from_slice(&datagram[..length]);
        front.send_to(&datagram[..length], peer).await.unwrap();
    }
}

fn contains(haystack: &[u8], needle: &str) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle.as_bytes())
}

/// The files of a folder that contain a text.
fn files_saying(folder: &Path, text: &str) -> Vec<String> {
    let mut saying = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            saying.extend(files_saying(&path, text));
        } else if path.is_file() && contains(&fs::read(&path).unwrap(), text) {
            saying.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    saying
}

#[tokio::test]
async fn neither_the_directory_nor_the_network_sees_what_is_said() {
    let directory = TestDirectory::start();
    let wiretap = Wiretap::before(directory.place.address).await;
    let through = Place { address: wiretap.address, ..directory.place };
    // In lower case, as names of accounts are, so that the same text serves as the control.
    let secret = format!("secret{:016x}", u64::from_le_bytes(random::array(&mut OsRandom)));
    let control = format!("name{:016x}", u64::from_le_bytes(random::array(&mut OsRandom)));

    let alice = TestPeer::join_at(through, "alice").await;
    let mut bob = TestPeer::join_at(through, &control).await;
    alice.say(&control, &format!("{secret} while you are here")).await;
    assert!(bob.next_line().await.1.contains(&secret));
    let bobs = bob.stop().await;
    alice.say(&control, &format!("{secret} while you are away")).await;
    let path = alice.machine.file(&format!("{secret}.txt"), secret.as_bytes());
    alice
        .ask(Command::Send { to: name(&control), paths: vec![path], wait: false, filter: Default::default() })
        .await
        .unwrap();

    // Both wait in the mailbox now. The control shows that a search finds what is there.
    let data = directory.data();
    assert_ne!(files_saying(&data, &control), [""; 0]);
    assert_eq!(files_saying(&data, &secret), [""; 0]);

    let mut bob = bobs.resident().await;
    assert!(bob.next_line().await.1.contains(&secret));
    bob.until(|event| matches!(event, Event::Offer { name, .. } if name.as_str().contains(&secret)).then_some(()))
        .await;
    alice.stop().await;
    bob.stop().await;
    let stopped = directory.stop().await;
    assert_ne!(files_saying(&stopped.data(), &control), [""; 0]);
    assert_eq!(files_saying(&stopped.data(), &secret), [""; 0]);

    // A datagram in the clear is the control of the other search.
    let shout = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    shout.send_to(b"heard in the clear", wiretap.address).await.unwrap();
    in_time(async {
        while !contains(&wiretap.heard(), "heard in the clear") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let heard = wiretap.heard();
    assert!(heard.len() > 20_000, "the whole conversation went through: {} bytes", heard.len());
    assert!(!contains(&heard, &secret) && !contains(&heard, &control) && !contains(&heard, PASSWORD));
}
