//! Twenty thousand hostile datagrams in a second from one address, while somebody at another is served.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;

use super::client::Client;
use super::directory;
use crate::compat::door;
use crate::program::World;

const PER_SECOND: u32 = 20_000;
const SECONDS: u32 = 5;

/// What the flood is made of.
fn hostile(number: u32) -> Vec<u8> {
    let text = match number % 8 {
        0 => json!({"type": "REGISTER", "rq": number, "name": format!("h{number}")}).to_string(),
        1 => json!({"type": "LIN", "rq": number, "name": "seas", "password": format!("{number}")}).to_string(),
        2 => json!({"type": "RETRIEVE-ALL", "rq": number, "from": "carol"}).to_string(),
        3 => json!({"type": "DOWNLOAD", "rq": number, "from": "carol", "filename": "x"}).to_string(),
        4 => json!({"type": "ACK", "rq": number, "chunk": number}).to_string(),
        5 => format!("{}{number}", "[".repeat(500)),
        6 => format!("{{\"type\":\"HEY\",\"rq\":{number},\"x\":\"{}\"}}", "x".repeat(1_000)),
        _ => return number.to_be_bytes().repeat(40),
    };
    text.into_bytes()
}

/// Sends at the rate; says how many bytes went.
fn flood(socket: Arc<UdpSocket>) -> JoinHandle<usize> {
    std::thread::spawn(move || {
        let (begun, mut sent, mut bytes) = (Instant::now(), 0, 0);
        while sent < PER_SECOND * SECONDS {
            let due = (begun.elapsed().as_secs_f64() * f64::from(PER_SECOND)).min(f64::from(PER_SECOND * SECONDS));
            while f64::from(sent) < due {
                let datagram = hostile(sent);
                bytes += datagram.len();
                // What the kernel does not take does not count against the door.
                drop(socket.send(&datagram));
                sent += 1;
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        bytes
    })
}

/// Counts what comes back until it is told to stop.
fn count(socket: Arc<UdpSocket>, stopped: Arc<AtomicBool>) -> JoinHandle<usize> {
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a time");
    std::thread::spawn(move || {
        let (mut bytes, mut buffer) = (0, [0; 65_536]);
        loop {
            match socket.recv(&mut buffer) {
                Ok(count) => bytes += count,
                Err(_) if stopped.load(Ordering::Relaxed) => return bytes,
                Err(_) => {}
            }
        }
    })
}

#[test]
#[expect(clippy::print_stdout, reason = "how long they waited is worth knowing")]
fn honest_people_are_served_while_strangers_flood_the_door() {
    let world = World::new();
    let directory = directory(&world);
    let door: SocketAddr = door(&directory, "json");
    let mut carol = Client::registered(door, "carol");
    let socket = Arc::new(UdpSocket::bind("127.0.0.2:0").expect("this machine's second address"));
    socket.connect(door).expect("an address of this machine");
    let stopped = Arc::new(AtomicBool::new(false));
    let (counting, flooding, begun) = (count(socket.clone(), stopped.clone()), flood(socket), Instant::now());
    let mut times = Vec::new();
    while !flooding.is_finished() {
        let asked = Instant::now();
        let answer = carol.ask(json!({"type": "HEY"}));
        assert_eq!(answer["type"], "ACK", "{answer}");
        times.push(asked.elapsed());
        carol.quiet_for(Duration::from_millis(10));
    }
    let (sent, took) = (flooding.join().expect("it does not panic"), begun.elapsed());
    stopped.store(true, Ordering::Relaxed);
    let got = counting.join().expect("it does not panic");
    times.sort();
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    println!("{} requests served in {took:?}: median {median:?}, longest {longest:?}", times.len());
    println!("{sent} bytes of the flood, {got} bytes back");
    assert!(longest < Duration::from_secs(3), "the longest took {longest:?}, half of them {median:?}");
    let seconds = usize::try_from(took.as_secs()).expect("a few") + 1;
    assert!(got <= 3 * sent + 64 * 1024 + seconds * 1024, "{sent} bytes went in, {got} came out");
    assert_eq!(carol.ask(json!({"type": "ONL"}))["type"], "ONLINE", "and all goes on");
}
