//! A line that loses a fifth of all datagrams and doubles another fifth, in both directions, by a seed.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;

use super::client::Client;
use super::directory;
use crate::compat::door;
use crate::program::{DEADLINE, World};

/// Stands between one client and the door.
struct BadLine {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    lost: Arc<AtomicUsize>,
    doubled: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl BadLine {
    fn to(door: SocketAddr, seed: u64) -> Self {
        let front = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let back = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        back.connect(door).expect("an address of this machine");
        let address = front.local_addr().expect("it is bound");
        let mut line = Self {
            address,
            stopped: Arc::default(),
            lost: Arc::default(),
            doubled: Arc::default(),
            threads: Vec::new(),
        };
        // Who asks is whoever sent last to the front.
        let client = Arc::new(std::sync::Mutex::new(None));
        for socket in [&front, &back] {
            socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a time");
        }
        let (front, back) = (Arc::new(front), Arc::new(back));
        let (to_door, from_client, asker) = (back.clone(), front.clone(), client.clone());
        line.carry(seed, from_client, move |from, datagram| {
            *asker.lock().expect("nobody panics") = Some(from);
            drop(to_door.send(datagram));
        });
        line.carry(seed + 1, back, move |_, datagram| {
            if let Some(client) = *client.lock().expect("nobody panics") {
                drop(front.send_to(datagram, client));
            }
        });
        line
    }

    fn carry(&mut self, seed: u64, from: Arc<UdpSocket>, forward: impl Fn(SocketAddr, &[u8]) + Send + 'static) {
        let (stopped, lost, doubled) = (self.stopped.clone(), self.lost.clone(), self.doubled.clone());
        self.threads.push(std::thread::spawn(move || {
            let (mut state, mut bytes) = (seed, [0; 65_536]);
            while !stopped.load(Ordering::Relaxed) {
                let Ok((count, source)) = from.recv_from(&mut bytes) else { continue };
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let copies = match (state >> 33) % 10 {
                    0 | 1 => 0,
                    2 | 3 => 2,
                    _ => 1,
                };
                lost.fetch_add(usize::from(copies == 0), Ordering::Relaxed);
                doubled.fetch_add(usize::from(copies == 2), Ordering::Relaxed);
                for _ in 0..copies {
                    forward(source, &bytes[..count]);
                }
            }
        }));
    }

    /// Ends it; says that it was bad indeed.
    fn end(mut self, at_least: usize) {
        self.stopped.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("a line does not panic");
        }
        let (lost, doubled) = (self.lost.load(Ordering::Relaxed), self.doubled.load(Ordering::Relaxed));
        assert!(lost >= at_least && doubled >= at_least, "{lost} were lost and {doubled} were doubled");
    }
}

/// 100 kB of text that repeats nowhere.
fn long_text() -> String {
    let lines = (0..).map(|line: u64| format!("{line:5} ü {:016x}\n", line.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    let mut text = String::new();
    for line in lines {
        if text.len() + line.len() > 100_000 {
            return text;
        }
        text += &line;
    }
    unreachable!("there is always another line")
}

#[test]
fn a_file_comes_whole_both_ways_over_a_bad_line() {
    let world = World::new();
    let directory = directory(&world);
    let line = BadLine::to(door(&directory, "json"), 7);
    let mut carol = Client::registered(line.address, "carol");
    let alice = world.person("alice", &directory);
    let mut peer = alice.peer();
    let content = long_text();
    peer.say(&format!("/share {}", alice.file("down.txt", &content).display()));
    peer.event("shared");
    assert!(carol.download("alice", "down.txt") == Ok(content.clone()), "the bytes differ");

    assert_eq!(carol.ask(json!({"type": "PUBLISH", "files": ["up.txt"]}))["type"], "PUBLISHED");
    carol.bring("up.txt", &content);
    // It is shared a moment after its last chunk.
    let until = std::time::Instant::now() + DEADLINE;
    while alice.run("get carol:up.txt", &[]).code != Some(0) {
        assert!(std::time::Instant::now() < until, "it is not shared");
    }
    let got = std::fs::read_to_string(alice.folder().join("up.txt")).expect("it came");
    assert!(got == content, "the bytes differ");
    line.end(100);
}

#[test]
fn every_line_is_shown_once_over_a_bad_line() {
    let world = World::new();
    let directory = directory(&world);
    let line = BadLine::to(door(&directory, "json"), 11);
    let mut carol = Client::registered(line.address, "carol");
    let mut peer = world.person("alice", &directory).peer();
    let expected: Vec<String> = (0..50).map(|number| format!("line {number}")).collect();
    for text in &expected {
        let answer = carol.ask(json!({"type": "SEND", "to": "alice", "text": text}));
        assert_eq!(answer["type"], "ACK", "{answer}");
    }
    carol.ask(json!({"type": "SEND", "to": "alice", "text": "the end"}));
    let heard = peer.messages(51);
    assert_eq!((&heard[..50], heard[50].as_str()), (&expected[..], "the end"));

    for text in &expected[..20] {
        peer.say(&format!("/msg carol {text}"));
    }
    let heard: Vec<String> =
        (0..20).map(|_| carol.pushed("MSG")["text"].as_str().expect("a text").to_owned()).collect();
    assert_eq!(heard, expected[..20]);
    assert!(carol.quiet_for(Duration::from_secs(1)), "one came twice");
    line.end(10);
}
