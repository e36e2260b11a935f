//! Stored messages per second: from a sender's sealed envelope to the directory's answer that it is on disk; and all the
//! way to recipients who are online, and back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use qchat::wire::account::LoginKind;
use qchat::wire::directory::DirectoryPush;
use rustix::time::ClockId;
use tokio::task::JoinSet;

use super::Settings;
use crate::all_cores;
use crate::bounds::Bound;
use crate::figures::{Row, Spread};
use crate::people::crowd::{Present, directory_of, log_in_all, people};
use crate::people::post::{Post, Sealing, all_waits, seal_for_all};
use crate::process::cpu_time::cpu_time;
use crate::process::directory::{Cpu, DirectoryProcess};

/// Who is written to while nobody reads: no mailbox fills up within a run, neither by one sender nor by all.
const AWAY: usize = 256;

/// Senders, and recipients who are online: together few enough that all are told of everyone's coming.
const ONLINE: usize = 64;

/// Before each run is measured: of those that go all the way, until the first have gone it.
const WARM_UP: Duration = Duration::from_millis(250);
const WARM_UP_ALL_THE_WAY: Duration = Duration::from_secs(1);

/// How much longer than the others a run is that goes all the way.
const ALL_THE_WAY_IS_LONGER: u32 = 3;

/// When envelopes are sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sealed {
    Beforehand,
    AsTheyGo,
}

/// What is under way in one kind of run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    /// From this many sessions, to people who are away.
    Stored(usize, Sealed),
    /// To people who are online, who open and receipt.
    Received,
}

/// What one run came to.
#[derive(Debug, Default, Clone, Copy)]
struct Outcome {
    stored_per_s: f64,
    received_per_s: f64,
    receipts_per_s: f64,
    /// Half of the messages waited less for the directory's answer.
    wait_ms: f64,
    /// CPU milliseconds per 1,000 messages, which are microseconds for each: of the directory, of its database thread, of this process.
    directory_cpu: f64,
    database_cpu: f64,
    clients_cpu: f64,
}

/// Both tables: what is stored, and what goes all the way.
pub(crate) fn measure(settings: Settings, bounds: &mut Vec<Bound>) -> anyhow::Result<(Vec<Row>, Vec<Row>)> {
    let each = [Sealed::Beforehand, Sealed::AsTheyGo];
    let stored = settings.sessions.iter().flat_map(|&count| each.map(|sealed| Variant::Stored(count, sealed)));
    let variants: Vec<Variant> = stored.chain([Variant::Received]).collect();
    let mut outcomes: Vec<Vec<Outcome>> = vec![Vec::new(); variants.len()];
    for _ in 0..settings.rounds {
        for (variant, outcomes) in variants.iter().zip(&mut outcomes) {
            outcomes.push(all_cores()?.block_on(run(*variant, settings.run))?);
        }
    }
    let (mut stored, mut received) = (Vec::new(), Vec::new());
    for (variant, outcomes) in variants.iter().zip(&outcomes) {
        match variant {
            Variant::Stored(count, sealed) => stored.push(stored_row(*count, *sealed, outcomes)),
            Variant::Received => received.push(received_row(outcomes)),
        }
    }
    for sealed in each {
        let rates = variants.iter().zip(&outcomes).filter(|(variant, _)| match variant {
            Variant::Stored(_, of_this) => *of_this == sealed,
            Variant::Received => false,
        });
        let medians = rates.map(|(_, outcomes)| Spread::of(outcomes.iter().map(|one| one.stored_per_s)).median);
        let best = medians.fold(0.0, f64::max);
        bounds.push(Bound::at_least(format!("stored per second, sealed {}", words(sealed)), best).goal(20_000.0));
    }
    Ok((stored, received))
}

fn words(sealed: Sealed) -> &'static str {
    match sealed {
        Sealed::Beforehand => "beforehand",
        Sealed::AsTheyGo => "as they go",
    }
}

fn spread(outcomes: &[Outcome], of: impl Fn(&Outcome) -> f64) -> Spread {
    Spread::of(outcomes.iter().map(of))
}

fn stored_row(sessions: usize, sealed: Sealed, outcomes: &[Outcome]) -> Row {
    let senders = if sessions == 1 { "1 session".to_owned() } else { format!("{sessions} sessions") };
    Row {
        variant: format!("{senders}, sealed {}", words(sealed)),
        figures: vec![
            ("stored/s", spread(outcomes, |one| one.stored_per_s)),
            ("ms to the answer", spread(outcomes, |one| one.wait_ms)),
            ("directory, CPU ms per 1,000", spread(outcomes, |one| one.directory_cpu)),
            ("its database", spread(outcomes, |one| one.database_cpu)),
            ("all senders", spread(outcomes, |one| one.clients_cpu)),
        ],
    }
}

fn received_row(outcomes: &[Outcome]) -> Row {
    Row {
        variant: format!("{ONLINE} to {ONLINE} people"),
        figures: vec![
            ("stored/s", spread(outcomes, |one| one.stored_per_s)),
            ("opened and receipted/s", spread(outcomes, |one| one.received_per_s)),
            ("receipts back/s", spread(outcomes, |one| one.receipts_per_s)),
            ("directory, CPU ms per 1,000", spread(outcomes, |one| one.directory_cpu)),
            ("its database", spread(outcomes, |one| one.database_cpu)),
            ("all people", spread(outcomes, |one| one.clients_cpu)),
        ],
    }
}

/// One run at a directory of its own.
async fn run(variant: Variant, duration: Duration) -> anyhow::Result<Outcome> {
    match variant {
        Variant::Stored(sessions, sealed) => store(sessions, sealed, duration).await,
        Variant::Received => all_the_way(duration).await,
    }
}

async fn store(sessions: usize, sealed: Sealed, duration: Duration) -> anyhow::Result<Outcome> {
    let (senders, recipients) = (people("sender", sessions)?, people("away", AWAY)?);
    let directory = directory_of(&[&senders, &recipients]).await?;
    let errand = LoginKind::Errand { collects: false };
    let present = log_in_all(directory.place, &senders, errand).await?;
    let sealing = match sealed {
        Sealed::Beforehand => seal_for_all(&senders[0], &recipients)?,
        Sealed::AsTheyGo => Sealing::AsTheyGo,
    };
    let post = Arc::new(Post::new(&recipients, sealing, u64::MAX));
    watch(&directory, &post, &present, &Seen::default(), (WARM_UP, duration)).await
}

async fn all_the_way(duration: Duration) -> anyhow::Result<Outcome> {
    let (senders, recipients) = (people("sender", ONLINE)?, people("reader", ONLINE)?);
    let directory = directory_of(&[&senders, &recipients]).await?;
    let readers = log_in_all(directory.place, &recipients, LoginKind::Resident).await?;
    let writers = log_in_all(directory.place, &senders, LoginKind::Resident).await?;
    let post = Arc::new(Post::new(&recipients, Sealing::AsTheyGo, u64::MAX).until_received(ONLINE));
    let seen = Arc::new(Seen::default());
    // Dropped at the end, which ends its tasks.
    let mut taking = JoinSet::new();
    for person in readers.iter().chain(&writers).cloned() {
        taking.spawn(take_pushes(person, post.clone(), seen.clone()));
    }
    seen.rest().await;
    watch(&directory, &post, &writers, &seen, (WARM_UP_ALL_THE_WAY, duration * ALL_THE_WAY_IS_LONGER)).await
}

/// What has come to those who are online.
#[derive(Debug, Default)]
struct Seen {
    received: AtomicU64,
    receipts: AtomicU64,
    news: AtomicU64,
}

impl Seen {
    /// Waits until nobody is told any more who else has come, for 10 s at most.
    async fn rest(&self) {
        for _ in 0..50 {
            let before = self.news.load(Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(200)).await;
            if self.news.load(Ordering::Relaxed) == before {
                return;
            }
        }
    }
}

async fn take_pushes((person, connection): Present, post: Arc<Post>, seen: Arc<Seen>) {
    while let Ok(push) = person.take_push(&connection).await {
        match push {
            DirectoryPush::Delivery(delivery) => {
                seen.received.fetch_add(1, Ordering::Relaxed);
                post.received(&delivery.envelope.header.id);
            }
            DirectoryPush::Receipts(receipts) => {
                seen.receipts.fetch_add(u64::try_from(receipts.len()).unwrap_or(0), Ordering::Relaxed);
            }
            DirectoryPush::Drained { .. }
            | DirectoryPush::Dial(_)
            | DirectoryPush::Opened { .. }
            | DirectoryPush::ConsentAsked { .. }
            | DirectoryPush::ConsentAnswered { .. }
            | DirectoryPush::Presence { .. }
            | DirectoryPush::Announcement { .. }
            | DirectoryPush::FriendAsked { .. }
            | DirectoryPush::FriendAnswered { .. }
            | DirectoryPush::PeopleChanged
            | DirectoryPush::KeyRequested { .. }
            | DirectoryPush::Returned { .. }
            | DirectoryPush::KeyChanged { .. } => {
                seen.news.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Everything that is counted, at one moment.
struct Counts {
    at: Instant,
    stored: f64,
    received: f64,
    receipts: f64,
    directory: Cpu,
    clients: f64,
}

impl Counts {
    fn read(directory: &DirectoryProcess, post: &Post, seen: &Seen) -> anyhow::Result<Self> {
        let count = |of: &AtomicU64| u32::try_from(of.load(Ordering::Relaxed)).map(f64::from);
        Ok(Self {
            at: Instant::now(),
            stored: count(&post.stored)?,
            received: count(&seen.received)?,
            receipts: count(&seen.receipts)?,
            directory: directory.cpu()?,
            clients: cpu_time(ClockId::ProcessCPUTime).as_secs_f64(),
        })
    }
}

/// Lets people send for a while and reads the counts around the time after the warm-up.
async fn watch(
    directory: &DirectoryProcess,
    post: &Arc<Post>,
    senders: &[Present],
    seen: &Seen,
    (warm_up, duration): (Duration, Duration),
) -> anyhow::Result<Outcome> {
    let lanes = post.send(senders);
    tokio::time::sleep(warm_up).await;
    let before = Counts::read(directory, post, seen)?;
    tokio::time::sleep(duration).await;
    let after = Counts::read(directory, post, seen)?;
    post.end();
    let waits = all_waits(lanes).await?;
    let stored = after.stored - before.stored;
    ensure!(stored > 0.0, "no message was stored within {duration:?}");
    let seconds = (after.at - before.at).as_secs_f64();
    let per_thousand = |seconds: f64| seconds * 1e6 / stored;
    Ok(Outcome {
        stored_per_s: stored / seconds,
        received_per_s: (after.received - before.received) / seconds,
        receipts_per_s: (after.receipts - before.receipts) / seconds,
        wait_ms: Spread::of(waits).median,
        directory_cpu: per_thousand(after.directory.all - before.directory.all),
        database_cpu: per_thousand(after.directory.database - before.directory.database),
        clients_cpu: per_thousand(after.clients - before.clients),
    })
}
