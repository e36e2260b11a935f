//! A thousand connections that shake hands, begin to log in and go no further: what they make the directory hold.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use qchat::seal::identity::IdentityKey;
use qchat::seal::random::OsRandom;
use qchat::transport::connection::Connection;
use qchat::transport::endpoint::Endpoint;
use qchat::wire::codec;
use qchat::wire::directory::DirectoryRequest;
use qchat::wire::ids::PeerName;
use qchat::wire::limits::{STRANGER_FRAME_BYTES_MAX, UNAUTHENTICATED_PER_SOURCE_MAX};
use tokio::task::JoinSet;

use super::Settings;
use crate::bounds::Bound;
use crate::figures::{Row, Spread};
use crate::one_thread;
use crate::people::{HonestPeople, connect, endpoint, errand};
use crate::process::directory::{DirectoryProcess, Place};

const CONNECTIONS: usize = 1_000;

/// How much all of them together may make the directory hold.
const MEMORY_MIB_MAX: f64 = 128.0;

/// What an attacker sends and then says no more.
#[derive(Debug, Clone, Copy)]
enum Burden {
    /// Half of the frame of a login.
    HalfLogin,
    /// As much as the directory takes: the longest frame but for its last byte, and a second stream that nobody reads.
    AllItTakes,
}

/// Holds a thousand connections open, at a directory of its own for each kind.
pub(crate) fn measure(settings: Settings, bounds: &mut Vec<Bound>) -> anyhow::Result<Vec<Row>> {
    let burdens = [("half a login", Burden::HalfLogin), ("all it takes", Burden::AllItTakes)];
    burdens.into_iter().map(|(what, burden)| besiege(what, burden, settings, bounds)).collect()
}

fn besiege(what: &'static str, burden: Burden, settings: Settings, bounds: &mut Vec<Bound>) -> anyhow::Result<Row> {
    let directory = DirectoryProcess::start()?;
    let place = directory.place;
    let runtime = one_thread()?;
    let mut honest = runtime.block_on(HonestPeople::arrive(place))?;
    let idle = runtime.block_on(honest.wait_for(Duration::from_secs(settings.seconds)))?;
    let before = directory.resident_mib()?;

    let siege = Arc::new(Siege::default());
    let attacker = thread::spawn({
        let siege = siege.clone();
        move || one_thread()?.block_on(hold(place, burden, &siege))
    });
    let patience = Instant::now() + Duration::from_secs(20);
    while siege.held.load(Ordering::Relaxed) < CONNECTIONS && Instant::now() < patience {
        thread::sleep(Duration::from_millis(20));
    }
    let most_held = siege.held.load(Ordering::Relaxed);
    let mut logins = Vec::new();
    let mut peak = directory.resident_mib()?;
    // Long enough for every connection to run into its deadline and be opened again.
    let deadline = Instant::now() + Duration::from_secs(settings.seconds.max(12));
    while Instant::now() < deadline {
        logins.extend(runtime.block_on(honest.wait_for(Duration::from_millis(250)))?.logins);
        peak = peak.max(directory.resident_mib()?);
    }
    siege.is_over.store(true, Ordering::Relaxed);
    attacker.join().map_err(|_| anyhow!("the attackers panicked"))??;
    ensure!(most_held >= CONNECTIONS, "only {most_held} connections were held at once");

    bounds.push(Bound::at_most(format!("MiB more, {what}"), peak - before).gate(MEMORY_MIB_MAX));
    let count =
        |of: &AtomicUsize| u32::try_from(of.load(Ordering::Relaxed)).map(|count| Spread::of([f64::from(count)]));
    Ok(Row {
        variant: what.to_owned(),
        figures: vec![
            ("held at once", Spread::of([f64::from(u32::try_from(most_held)?)])),
            ("opened", count(&siege.opened)?),
            ("MiB before", Spread::of([before])),
            ("MiB at most", Spread::of([peak])),
            ("MiB more", Spread::of([peak - before])),
            ("login ms idle", Spread::of(idle.logins)),
            ("login ms meanwhile", Spread::of(logins)),
        ],
    })
}

/// What the attackers have come to.
#[derive(Debug, Default)]
struct Siege {
    held: AtomicUsize,
    opened: AtomicUsize,
    is_over: AtomicBool,
}

/// Holds the connections from as many addresses as they need, and opens each again when it is closed.
async fn hold(place: Place, burden: Burden, siege: &Arc<Siege>) -> anyhow::Result<()> {
    let identity = Arc::new(IdentityKey::generate(&mut OsRandom));
    let sources = CONNECTIONS.div_ceil(UNAUTHENTICATED_PER_SOURCE_MAX);
    let endpoints = (1..=sources)
        .map(|source| endpoint(Ipv4Addr::new(127, 10, 0, u8::try_from(source)?), &identity))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut holders = JoinSet::new();
    for endpoint in endpoints.iter().cycle().take(CONNECTIONS) {
        holders.spawn(hold_one(endpoint.clone(), identity.clone(), place, burden, siege.clone()));
    }
    while !siege.is_over.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    holders.shutdown().await;
    Ok(())
}

async fn hold_one(endpoint: Endpoint, identity: Arc<IdentityKey>, place: Place, burden: Burden, siege: Arc<Siege>) {
    loop {
        match connect(&endpoint, place).await {
            Ok(connection) => {
                siege.opened.fetch_add(1, Ordering::Relaxed);
                siege.held.fetch_add(1, Ordering::Relaxed);
                tokio::select! {
                    _ = connection.closed() => {}
                    error = lay(&connection, &identity, place, burden) => {
                        tracing::debug!(?error, "not all could be sent");
                        connection.closed().await;
                    }
                }
                siege.held.fetch_sub(1, Ordering::Relaxed);
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Sends what is to be held, and waits for ever.
async fn lay(connection: &Connection, identity: &IdentityKey, place: Place, burden: Burden) -> anyhow::Result<()> {
    let name = PeerName::parse("comer")?;
    let login = DirectoryRequest::Login(Box::new(errand(identity, place, connection, &name)));
    let frame = codec::encode_frame(&login)?;
    let mut first = connection.open_stream().await?;
    match burden {
        Burden::HalfLogin => {
            first.write(frame[..frame.len() / 2].to_vec().into()).await?;
            std::future::pending().await
        }
        Burden::AllItTakes => {
            let mut longest = u32::try_from(STRANGER_FRAME_BYTES_MAX)?.to_le_bytes().to_vec();
            longest.resize(longest.len() + STRANGER_FRAME_BYTES_MAX - 1, 7);
            let mut second = connection.open_stream().await?;
            first.write(longest.into()).await?;
            second.write(vec![7; 1 << 20].into()).await?;
            std::future::pending().await
        }
    }
}
