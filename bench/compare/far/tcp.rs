//! A TCP stream from far to near, by the kernel: what else goes over the same way.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::net::sockopt::set_tcp_congestion;

use super::{NEAR, Places};

/// What is written and read at a time.
const PIECE_BYTES: usize = 256 * 1024;

/// How often it is looked whether everything has come.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A stream that always has something to send; it ends when it is dropped.
pub(crate) struct Stream {
    came: Arc<AtomicU64>,
    ends: [TcpStream; 2],
    threads: Vec<JoinHandle<()>>,
}

impl Stream {
    /// Connects, and begins to send with a congestion control that the kernel has.
    pub(crate) fn start(places: &Places, congestion: &str) -> anyhow::Result<Self> {
        let listener = places.near.within(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
        let port = listener.local_addr()?.port();
        let sender = places.far.within(|| TcpStream::connect((NEAR, port)))?;
        set_tcp_congestion(&sender, congestion).with_context(|| format!("no {congestion}"))?;
        let (receiver, _) = listener.accept()?;
        let came = Arc::new(AtomicU64::new(0));
        let ends = [sender.try_clone()?, receiver.try_clone()?];
        let counter = came.clone();
        let threads = vec![thread::spawn(move || send(sender)), thread::spawn(move || receive(receiver, &counter))];
        Ok(Self { came, ends, threads })
    }

    /// Bytes that have come so far.
    pub(crate) fn came(&self) -> u64 {
        self.came.load(Ordering::Relaxed)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        for end in &self.ends {
            // The other may have ended it already.
            drop(end.shutdown(Shutdown::Both));
        }
        for thread in self.threads.drain(..) {
            thread.join().expect("a stream's thread reads and writes, no more");
        }
    }
}

/// Whether the kernel has a congestion control and lets us use it.
pub(crate) fn has(places: &Places, congestion: &str) -> bool {
    Stream::start(places, congestion).is_ok()
}

/// Sends so many bytes, for at most some time. Gives the megabits of them that came in a second.
pub(crate) fn megabits(places: &Places, congestion: &str, bytes: u64, at_most: Duration) -> anyhow::Result<f64> {
    let started = Instant::now();
    let stream = Stream::start(places, congestion)?;
    while stream.came() < bytes && started.elapsed() < at_most {
        thread::sleep(LOOK_EVERY);
    }
    Ok(super::megabits(stream.came(), started.elapsed()))
}

/// Until the stream is ended.
fn send(mut to: TcpStream) {
    let piece = vec![0; PIECE_BYTES];
    while to.write_all(&piece).is_ok() {}
}

/// Until the stream is ended.
fn receive(mut from: TcpStream, came: &AtomicU64) {
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(length) = from.read(&mut piece) {
        if length == 0 {
            return;
        }
        came.fetch_add(u64::try_from(length).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}
