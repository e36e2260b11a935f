//! Programs of the older systems against the real `qchat serve`: scripted byte by byte from what those systems said.

mod doors;
mod json;
mod mixed;
mod s2;
mod s3;
mod s4;

use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::program::{Directory, World};

/// A directory with doors for these dialects, at free ports of this machine.
fn directory_for(world: &World, dialects: &[&str], flags: &str) -> Directory {
    let doors: String = dialects.iter().map(|dialect| format!("--compat {dialect}=127.0.0.1:0 ")).collect();
    // Of this range every test takes what is free.
    world.directory_that("127.0.0.1:0", &format!("{doors}--compat-ports 20000-29999 {flags}"))
}

/// Where a dialect is spoken.
fn door(directory: &Directory, dialect: &str) -> SocketAddr {
    *directory.doors.get(dialect).expect("the directory has this door")
}

/// 20,000 datagrams in a second for five seconds, from an address of its own; says each 2,000, and counts what was sent.
fn flood(what: impl Fn(u32) -> (SocketAddr, Vec<u8>) + Send + 'static) -> (Receiver<()>, JoinHandle<u32>) {
    let (tick, ticks) = channel();
    let sending = std::thread::spawn(move || {
        let socket = UdpSocket::bind("127.0.0.3:0").expect("a port of ours");
        let (began, mut sent) = (Instant::now(), 0);
        for number in 0..100_000_u32 {
            let (to, datagram) = what(number);
            // What the kernel does not take is lost, as on a network.
            sent += u32::from(socket.send_to(&datagram, to).is_ok());
            if number % 2_000 == 0 && tick.send(()).is_err() {
                break;
            }
            if number % 100 == 0 {
                std::thread::sleep((Duration::from_micros(50) * number).saturating_sub(began.elapsed()));
            }
        }
        sent
    });
    (ticks, sending)
}
