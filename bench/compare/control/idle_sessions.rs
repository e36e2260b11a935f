//! What a session costs the directory's memory while nobody says anything, beside a bare quinn connection.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::ensure;
use qchat::seal::identity::IdentityKey;
use qchat::seal::random::OsRandom;
use qchat::transport::connection::Connection;
use tokio::task::JoinSet;

use super::Settings;
use super::bare::BareProcess;
use crate::all_cores;
use crate::bounds::Bound;
use crate::figures::{Row, Spread};
use crate::people::crowd::{arrive, directory_of, people};
use crate::people::{connect, endpoint};
use crate::report::Report;

/// Memory is at rest when it has not changed for so long by more than this.
const REST: Duration = Duration::from_secs(2);
const REST_MIB: f64 = 0.25;

/// How long that is waited for.
const PATIENCE: Duration = Duration::from_secs(15);

/// Bounds on what each of many sessions holds, in KiB.
const KIB_MOST: f64 = 64.0;
const KIB_GOAL: f64 = 40.0;

/// What a server held in MiB: without anybody, with some, and with all.
type Held = [f64; 3];

/// Lets people come and do nothing, some of them first.
pub(super) fn measure(settings: Settings, report: &mut Report) -> anyhow::Result<()> {
    let [some, all] = settings.idle_sessions;
    let (held, files) = all_cores()?.block_on(host(some, all))?;
    let bare = all_cores()?.block_on(host_bare(some, all))?;
    let rows = vec![row("qchat serve", held, [some, all])?, row("bare quinn", bare, [some, all])?];
    let each = kib_each(held[2] - held[0], all)?;
    let what = format!("KiB for each of {all} idle sessions");
    report.bounds.push(Bound::at_most(what, each).gate(KIB_MOST).goal(KIB_GOAL));
    report.note(format!("{all} sessions: {files} files open more than without"));
    report.table(format!("Sessions that say nothing: {some}, then {all}"), rows);
    Ok(())
}

fn row(variant: &str, [none, some, all]: Held, [few, many]: [usize; 2]) -> anyhow::Result<Row> {
    let one = |value: f64| Spread::of([value]);
    Ok(Row {
        variant: variant.to_owned(),
        figures: vec![
            ("MiB without any", one(none)),
            ("MiB with some", one(some)),
            ("MiB with all", one(all)),
            ("KiB each of some", one(kib_each(some - none, few)?)),
            ("KiB each of all", one(kib_each(all - none, many)?)),
            ("KiB each one more", one(kib_each(all - some, many - few)?)),
        ],
    })
}

fn kib_each(mib: f64, sessions: usize) -> anyhow::Result<f64> {
    Ok(mib * 1024.0 / f64::from(u32::try_from(sessions)?))
}

/// What a directory held, and how many files more it had open at the end.
async fn host(some: usize, all: usize) -> anyhow::Result<(Held, usize)> {
    let crowd = people("idle", all)?;
    let directory = directory_of(&[&crowd]).await?;
    let held = || directory.resident_mib();
    let (none, files_before) = (at_rest(held).await?, directory.open_files()?);
    let (first, second) = crowd.split_at(some);
    // Dropped at the end, which ends its tasks.
    let mut taking = JoinSet::new();
    let mut present = arrive(directory.place, first, &mut taking).await?;
    let with_some = at_rest(held).await?;
    present.extend(arrive(directory.place, second, &mut taking).await?);
    let with_all = at_rest(held).await?;
    ensure_open(&present)?;
    Ok(([none, with_some, with_all], directory.open_files()?.saturating_sub(files_before)))
}

async fn host_bare(some: usize, all: usize) -> anyhow::Result<Held> {
    let server = BareProcess::start(1)?;
    let held = || server.resident_mib();
    let none = at_rest(held).await?;
    let socket = endpoint(Ipv4Addr::LOCALHOST, &IdentityKey::generate(&mut OsRandom))?;
    let mut present = Vec::new();
    let mut memory = [none; 3];
    for (until, memory) in [some, all].into_iter().zip(&mut memory[1..]) {
        while present.len() < until {
            present.push(connect(&socket, server.place).await?);
        }
        *memory = at_rest(held).await?;
    }
    ensure_open(&present)?;
    Ok(memory)
}

fn ensure_open(connections: &[Connection]) -> anyhow::Result<()> {
    let lost = connections.iter().filter(|connection| !connection.is_open()).count();
    ensure!(lost == 0, "{lost} of {} connections were lost", connections.len());
    Ok(())
}

/// A server's memory once it does not change any more, or when the patience is over.
async fn at_rest(resident_mib: impl Fn() -> anyhow::Result<f64>) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let (mut since, mut held) = (begun, resident_mib()?);
    while since.elapsed() < REST && begun.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = resident_mib()?;
        if (now - held).abs() > REST_MIB {
            (since, held) = (Instant::now(), now);
        }
    }
    resident_mib()
}
