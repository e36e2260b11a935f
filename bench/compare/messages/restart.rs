//! From the start of a directory that was killed to the first message it delivers, with a store that is full.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::ensure;
use qchat::seal::identity::IdentityKey;
use qchat::seal::random::OsRandom;
use qchat::wire::account::LoginKind;
use qchat::wire::directory::DirectoryPush;

use super::Settings;
use crate::all_cores;
use crate::bounds::Bound;
use crate::figures::{Row, Spread};
use crate::people::crowd::{Person, directory_of, log_in_all, people};
use crate::people::endpoint;
use crate::people::post::{Post, all_waits, seal_for_all};
use crate::process::directory::{DirectoryProcess, Place};

const SENDERS: usize = 64;

/// 500 messages for each of them, when there are 100,000.
const RECIPIENTS: usize = 200;

/// Stored right before each kill, so that there is something to recover.
const BEFORE_A_KILL: u64 = 1_000;

/// How long one start took, in milliseconds from the start of the process.
struct Start {
    ready: f64,
    delivered: f64,
}

/// Fills a store through the directory, then kills and starts it again and again.
pub(crate) fn measure(settings: Settings, bounds: &mut Vec<Bound>) -> anyhow::Result<Vec<Row>> {
    let (senders, recipients) = (people("sender", SENDERS)?, people("waiting", RECIPIENTS)?);
    let runtime = all_cores()?;
    let mut directory = runtime.block_on(directory_of(&[&senders, &recipients]))?;
    let filled = Instant::now();
    runtime.block_on(fill(directory.place, &senders, &recipients, settings.waiting, 0))?;
    let fill_s = filled.elapsed().as_secs_f64();
    let mut starts = Vec::new();
    for round in 0..settings.rounds {
        runtime.block_on(fill(directory.place, &senders, &recipients, BEFORE_A_KILL, u32::try_from(round)? + 1))?;
        let folder = directory.kill()?;
        let started = Instant::now();
        directory = DirectoryProcess::start_in(folder)?;
        let ready = millis(started);
        runtime.block_on(fetch_one(directory.place, &recipients[round % RECIPIENTS]))?;
        starts.push(Start { ready, delivered: millis(started) });
    }
    let ready = Spread::of(starts.iter().map(|start| start.ready));
    let delivered = Spread::of(starts.iter().map(|start| start.delivered));
    let what = format!("ms from start to the first delivery, {} messages stored", settings.waiting);
    bounds.push(Bound::at_most(what, delivered.median).goal(1_000.0));
    Ok(vec![Row {
        variant: format!("{} messages", settings.waiting),
        figures: vec![
            ("ms to ready", ready),
            ("ms to a login and a delivery", delivered),
            ("s to fill it", Spread::of([fill_s])),
        ],
    }])
}

/// Stores so many messages; the ids of one batch are not those of another.
async fn fill(
    place: Place,
    senders: &[Arc<Person>],
    recipients: &[Arc<Person>],
    count: u64,
    batch: u32,
) -> anyhow::Result<()> {
    let present = log_in_all(place, senders, LoginKind::Errand { collects: false }).await?;
    let sealing = seal_for_all(&senders[0], recipients)?;
    let post = Arc::new(Post::new(recipients, sealing, count).in_batch(batch));
    all_waits(post.send(&present)).await?;
    let stored = post.stored.load(Ordering::Relaxed);
    ensure!(stored == count, "{stored} of {count} messages were stored");
    Ok(())
}

/// Logs in and waits for one of the messages that wait.
async fn fetch_one(place: Place, person: &Person) -> anyhow::Result<()> {
    let socket = endpoint(Ipv4Addr::LOCALHOST, &IdentityKey::generate(&mut OsRandom))?;
    let connection = person.log_in(&socket, place, LoginKind::Resident).await?;
    while !matches!(person.take_push(&connection).await?, DirectoryPush::Delivery(_)) {}
    Ok(())
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
