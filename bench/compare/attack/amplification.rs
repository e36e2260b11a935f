//! First packets from addresses that never answer: how many bytes the directory sends there for each that it received.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use qchat::seal::identity::IdentityKey;
use qchat::seal::random::{OsRandom, Random as _};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};

use super::Settings;
use crate::bounds::Bound;
use crate::figures::{Row, Spread};
use crate::one_thread;
use crate::people::endpoint;
use crate::process::directory::DirectoryProcess;

/// Addresses that are attacked through the directory.
const SOURCES: u8 = 250;

/// How long the directory goes on sending to somebody who does not answer: until the handshake's deadline, and more.
const AFTERMATH: Duration = Duration::from_secs(7);

/// Under attack. Below the threshold of Retry the bound is QUIC's (RFC 9000, section 8.1): three times what came.
const RATIO_MAX: f64 = 1.0;

/// One attempt to connect: the datagrams of its ClientHello.
type Attempt = Vec<Vec<u8>>;

/// Each attack meets a directory of its own.
pub(crate) fn measure(settings: Settings, bounds: &mut Vec<Bound>) -> anyhow::Result<Vec<Row>> {
    let runtime = one_thread()?;
    runtime.block_on(async {
        let seconds = settings.seconds;
        let plans = [
            ("a burst of 12", 12, 12, None),
            ("20 a second", 20 * 2 * seconds, 20, Some(RATIO_MAX)),
            ("60 a second", 60 * seconds, 60, Some(RATIO_MAX)),
            ("500 a second", 500 * seconds.min(5), 500, Some(RATIO_MAX)),
        ];
        let mut rows = Vec::new();
        for (what, attempts, per_second, ratio_max) in plans {
            let attempts = capture(usize::try_from(attempts)?).await?;
            rows.push(attack(what, attempts, per_second, ratio_max, bounds).await?);
        }
        rows.push(attack("10,000 of garbage", garbage(), 2_500, Some(RATIO_MAX), bounds).await?);
        Ok(rows)
    })
}

async fn attack(
    what: &'static str,
    attempts: Vec<Attempt>,
    per_second: u32,
    ratio_max: Option<f64>,
    bounds: &mut Vec<Bound>,
) -> anyhow::Result<Row> {
    let directory = DirectoryProcess::start()?;
    let answered = Arc::new(AtomicU64::new(0));
    let mut victims = JoinSet::new();
    let mut sockets = Vec::new();
    for last in 1..=SOURCES {
        let socket = Arc::new(UdpSocket::bind((Ipv4Addr::new(127, 20, 0, last), 0)).await?);
        victims.spawn(count(socket.clone(), answered.clone()));
        sockets.push(socket);
    }
    let mut sent = 0;
    let mut datagrams: u64 = 0;
    let mut ticks = interval(Duration::from_secs(1) / per_second);
    let started = Instant::now();
    for (attempt, socket) in attempts.iter().zip(sockets.iter().cycle()) {
        ticks.tick().await;
        for datagram in attempt {
            sent += socket.send_to(datagram, directory.place.address).await? as u64;
            datagrams += 1;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    tokio::time::sleep(AFTERMATH).await;
    let dropped = directory.datagrams_dropped()?;
    // What the kernel threw away did not reach the directory: taken off at the size of the largest.
    let largest = attempts.iter().flatten().map(Vec::len).max().unwrap_or(0) as u64;
    let received = sent.saturating_sub(dropped * largest);
    let answered = answered.load(Ordering::Relaxed);
    #[expect(clippy::cast_precision_loss, reason = "counts below 2^52")]
    let [received, answered, datagrams, dropped] = [received, answered, datagrams, dropped].map(|count| count as f64);
    let ratio = answered / received;
    bounds.extend(ratio_max.map(|bound| Bound::at_most(format!("bytes sent / received, {what}"), ratio).gate(bound)));
    Ok(Row {
        variant: what.to_owned(),
        figures: vec![
            ("datagrams", Spread::of([datagrams])),
            ("seconds", Spread::of([seconds])),
            ("KiB received", Spread::of([received / 1024.0])),
            ("KiB sent", Spread::of([answered / 1024.0])),
            ("sent / received", Spread::of([ratio])),
            ("lost in the kernel", Spread::of([dropped])),
        ],
    })
}

async fn count(socket: Arc<UdpSocket>, answered: Arc<AtomicU64>) {
    let mut datagram = vec![0; 65_536];
    while let Ok(bytes) = socket.recv(&mut datagram).await {
        answered.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// Lets a real client try to connect to a socket that never answers, and keeps what it sends.
async fn capture(count: usize) -> anyhow::Result<Vec<Attempt>> {
    let nowhere = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address: SocketAddr = nowhere.local_addr()?;
    let endpoint = endpoint(Ipv4Addr::LOCALHOST, &IdentityKey::generate(&mut OsRandom))?;
    let mut seen: HashMap<Vec<u8>, Attempt> = HashMap::new();
    let mut complete = Vec::new();
    let mut datagram = vec![0; 2_048];
    while complete.len() < count {
        let mut attempt = JoinSet::new();
        attempt.spawn({
            let endpoint = endpoint.clone();
            async move { drop(endpoint.connect_directory(address, None).await) }
        });
        // The ClientHello takes two datagrams, because a post-quantum key share fills one.
        for _ in 0..2 {
            let received = timeout(Duration::from_secs(5), nowhere.recv(&mut datagram)).await;
            let bytes = received.context("the client sends nothing")??;
            let id_bytes = usize::from(datagram[5]);
            let id = datagram[6..6 + id_bytes].to_vec();
            let packets = seen.entry(id).or_default();
            packets.push(datagram[..bytes].to_vec());
            if packets.len() == 2 {
                complete.push(packets.clone());
            }
        }
        attempt.shutdown().await;
    }
    complete.truncate(count);
    Ok(complete)
}

/// Random datagrams; every other one begins like a first packet of QUIC version 1.
fn garbage() -> Vec<Attempt> {
    (0..10_000_u32)
        .map(|number| {
            let mut size = [0; 2];
            OsRandom.fill(&mut size);
            let mut datagram = vec![0; 1 + usize::from(u16::from_le_bytes(size)) % 1_500];
            OsRandom.fill(&mut datagram);
            if number.is_multiple_of(2) && datagram.len() > 20 {
                datagram[..6].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8]);
            }
            vec![datagram]
        })
        .collect()
}
