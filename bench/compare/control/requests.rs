//! Requests per second, one stream for each, with so many under way at a time; and what each waits.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use bytes::Bytes;
use qchat::seal::identity::IdentityKey;
use qchat::seal::random::OsRandom;
use qchat::transport::connection::Connection;
use qchat::wire::account::LoginKind;
use qchat::wire::codec::encode_frame;
use qchat::wire::directory::{DirectoryAnswer, DirectoryRequest};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::Settings;
use super::bare::{self, BareProcess};
use crate::all_cores;
use crate::bounds::Bound;
use crate::figures::{Row, Spread};
use crate::people::crowd::{directory_of, log_in_all, people};
use crate::people::{ask, connect, endpoint};
use crate::plot::Plot;
use crate::process::directory::DirectoryProcess;
use crate::report::Report;

/// Requests of a session that a directory answers at a time.
const STREAMS: usize = 8;

/// Before each run is measured.
const WARM_UP: Duration = Duration::from_millis(250);

/// At which the gate is.
const JUDGED: usize = 256;

const LEAST_OF_BARE: f64 = 0.9;
const GOAL_OF_BARE: f64 = 1.0;

/// What is asked, and what must come back.
#[derive(Debug, Clone)]
enum Asked {
    /// The product: a request that touches no disk, with its deadline, and its answer read and understood.
    Sessions,
    /// As many bytes each way.
    Bytes { request: Bytes, answer: usize },
}

/// What one run came to.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    per_second: f64,
    half_us: f64,
    p99_us: f64,
}

/// Both sides with their clients, which stay connected from run to run.
struct Sides {
    runtime: Runtime,
    /// Held so that they run.
    servers: (DirectoryProcess, BareProcess),
    product: Vec<Connection>,
    bare: Vec<Connection>,
    bytes: Asked,
}

pub(super) fn measure(settings: Settings, report: &mut Report) -> anyhow::Result<()> {
    let most = settings.in_flight.iter().copied().max().unwrap_or(1);
    let sides = Sides::start(most.div_ceil(STREAMS))?;
    let mut outcomes: Vec<[Vec<Outcome>; 2]> = vec![[const { Vec::new() }; 2]; settings.in_flight.len()];
    for _ in 0..settings.rounds {
        for (&in_flight, [product, bare]) in settings.in_flight.iter().zip(&mut outcomes) {
            product.push(sides.run(&sides.product, &Asked::Sessions, in_flight, settings.run)?);
            bare.push(sides.run(&sides.bare, &sides.bytes, in_flight, settings.run)?);
        }
    }
    let Sides { runtime, servers, .. } = sides;
    drop(runtime);
    drop(servers);
    let mut rows = Vec::new();
    for (&in_flight, [product, bare]) in settings.in_flight.iter().zip(&outcomes) {
        rows.push(row(format!("qchat serve, {in_flight} in flight"), product, bare));
        rows.push(row(format!("bare quinn loop, {in_flight} in flight"), bare, bare));
        if in_flight == JUDGED {
            let what = format!("requests per second, of the bare quinn loop, {in_flight} in flight");
            let ratio = ratios(product, bare).median;
            report.bounds.push(Bound::at_least(what, ratio).gate(LEAST_OF_BARE).goal(GOAL_OF_BARE));
        }
    }
    report.plots.push(Plot::bars("control", "Requests, one stream for each", &rows, "requests/s"));
    report.table(format!("Requests, one stream for each, {STREAMS} at a time in each session"), rows);
    Ok(())
}

fn row(variant: String, runs: &[Outcome], bare: &[Outcome]) -> Row {
    let spread = |of: fn(&Outcome) -> f64| Spread::of(runs.iter().map(of));
    let figures = vec![
        ("requests/s", spread(|run| run.per_second)),
        ("x of bare", ratios(runs, bare)),
        ("us p50", spread(|run| run.half_us)),
        ("us p99", spread(|run| run.p99_us)),
    ];
    Row { variant, figures }
}

fn ratios(runs: &[Outcome], bare: &[Outcome]) -> Spread {
    Spread::of(runs.iter().zip(bare).map(|(run, bare)| run.per_second / bare.per_second))
}

impl Sides {
    fn start(connections: usize) -> anyhow::Result<Self> {
        let runtime = all_cores()?;
        let (directory, product) = runtime.block_on(async {
            let crowd = people("asker", connections)?;
            let directory = directory_of(&[&crowd]).await?;
            let errand = LoginKind::Errand { collects: false };
            let present = log_in_all(directory.place, &crowd, errand).await?;
            anyhow::Ok((directory, present.into_iter().map(|(_, connection)| connection).collect::<Vec<_>>()))
        })?;
        let request = encode_frame(&DirectoryRequest::Sessions)?.into();
        let first = product.first().ok_or_else(|| anyhow!("no connection"))?;
        let answer = runtime.block_on(ask(first, DirectoryRequest::Sessions))?;
        let answer = encode_frame::<DirectoryAnswer>(&answer)?.len();
        let server = BareProcess::start(answer)?;
        let bare = runtime.block_on(async {
            let socket = endpoint(Ipv4Addr::LOCALHOST, &IdentityKey::generate(&mut OsRandom))?;
            let mut bare = Vec::new();
            for _ in 0..connections {
                bare.push(connect(&socket, server.place).await?);
            }
            anyhow::Ok(bare)
        })?;
        Ok(Self { runtime, servers: (directory, server), product, bare, bytes: Asked::Bytes { request, answer } })
    }

    /// Asks for a while, from as few sessions as may have so many requests under way.
    fn run(
        &self,
        connections: &[Connection],
        asked: &Asked,
        in_flight: usize,
        run: Duration,
    ) -> anyhow::Result<Outcome> {
        self.runtime.block_on(async {
            let (is_counted, is_over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
            let mut askers = JoinSet::new();
            for connection in connections.iter().flat_map(|connection| [connection; STREAMS]).take(in_flight) {
                let (connection, asked) = (connection.clone(), asked.clone());
                askers.spawn(keep_asking(connection, asked, is_counted.clone(), is_over.clone()));
            }
            tokio::time::sleep(WARM_UP).await;
            is_counted.store(true, Ordering::Relaxed);
            let started = Instant::now();
            tokio::time::sleep(run).await;
            is_over.store(true, Ordering::Relaxed);
            let seconds = started.elapsed().as_secs_f64();
            let mut waits = Vec::new();
            while let Some(asker) = askers.join_next().await {
                waits.extend(asker??);
            }
            waits.sort_unstable();
            ensure!(!waits.is_empty(), "nothing was answered");
            let at = |percent: usize| waits[(waits.len() - 1) * percent / 100].as_secs_f64() * 1e6;
            let count = f64::from(u32::try_from(waits.len())?);
            Ok(Outcome { per_second: count / seconds, half_us: at(50), p99_us: at(99) })
        })
    }
}

/// Asks again and again, and says what each request waited that was answered while they were counted.
async fn keep_asking(
    connection: Connection,
    asked: Asked,
    is_counted: Arc<AtomicBool>,
    is_over: Arc<AtomicBool>,
) -> anyhow::Result<Vec<Duration>> {
    let mut waits = Vec::new();
    loop {
        let started = Instant::now();
        match &asked {
            Asked::Sessions => {
                let answer = ask(&connection, DirectoryRequest::Sessions).await?;
                answer.map_err(|refusal| anyhow!("refused: {refusal}"))?;
            }
            Asked::Bytes { request, answer } => {
                let received = bare::ask(&connection, request.clone()).await?;
                ensure!(received == *answer, "{received} of {answer} bytes came back");
            }
        }
        if is_over.load(Ordering::Relaxed) {
            return Ok(waits);
        }
        if is_counted.load(Ordering::Relaxed) {
            waits.push(started.elapsed());
        }
    }
}
