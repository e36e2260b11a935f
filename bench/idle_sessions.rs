//! What a session costs the directory's memory while nobody says anything.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use qchat::wire::account::LoginKind;
use tokio::task::JoinSet;

use crate::Settings;
use crate::crowd::{Person, Present, all_cores, directory_of, log_in_all, people};
use crate::directory_process::DirectoryProcess;
use crate::figures::{Row, Spread};

/// Memory is at rest when it has not changed for so long by more than this.
const REST: Duration = Duration::from_secs(2);
const REST_MIB: f64 = 0.25;

/// How long that is waited for.
const PATIENCE: Duration = Duration::from_secs(15);

/// What one directory held.
struct Held {
    none: f64,
    half: f64,
    all: f64,
    files_before: f64,
    files: f64,
}

/// Lets people come and do nothing, half of them first.
pub(crate) fn measure(settings: Settings) -> anyhow::Result<Vec<Row>> {
    let held: Vec<Held> = (0..settings.idle_rounds)
        .map(|_| all_cores()?.block_on(host(settings.idle_sessions)))
        .collect::<anyhow::Result<_>>()?;
    let spread = |of: &dyn Fn(&Held) -> f64| Spread::of(held.iter().map(of));
    let sessions = f64::from(u32::try_from(settings.idle_sessions)?);
    Ok(vec![Row {
        variant: format!("{sessions} sessions"),
        figures: vec![
            ("MiB without any", spread(&|held| held.none)),
            ("MiB with half", spread(&|held| held.half)),
            ("MiB with all", spread(&|held| held.all)),
            ("KiB per session", spread(&|held| (held.all - held.none) * 1024.0 / sessions)),
            ("KiB, second half", spread(&|held| (held.all - held.half) * 1024.0 / (sessions / 2.0))),
            ("files without", spread(&|held| held.files_before)),
            ("files with all", spread(&|held| held.files)),
        ],
    }])
}

async fn host(sessions: usize) -> anyhow::Result<Held> {
    let crowd = people("idle", sessions)?;
    let directory = directory_of(&[&crowd]).await?;
    let files = |directory: &DirectoryProcess| anyhow::Ok(f64::from(u32::try_from(directory.open_files()?)?));
    let (none, files_before) = (at_rest(&directory).await?, files(&directory)?);
    let (first, second) = crowd.split_at(sessions / 2);
    // Dropped at the end, which ends its tasks.
    let mut taking = JoinSet::new();
    let mut present = arrive(&directory, first, &mut taking).await?;
    let half = at_rest(&directory).await?;
    present.extend(arrive(&directory, second, &mut taking).await?);
    let all = at_rest(&directory).await?;
    let lost = present.iter().filter(|(_, connection)| !connection.is_open()).count();
    ensure!(lost == 0, "{lost} of {sessions} sessions were lost");
    Ok(Held { none, half, all, files_before, files: files(&directory)? })
}

/// Logs people in, who then take what they are told.
async fn arrive(
    directory: &DirectoryProcess,
    people: &[Arc<Person>],
    taking: &mut JoinSet<()>,
) -> anyhow::Result<Vec<Present>> {
    let present = log_in_all(directory.place, people, LoginKind::Resident).await?;
    for (person, connection) in present.clone() {
        taking.spawn(async move { while person.take_push(&connection).await.is_ok() {} });
    }
    Ok(present)
}

/// The directory's memory once it does not change any more, or when the patience is over.
async fn at_rest(directory: &DirectoryProcess) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let (mut since, mut held) = (begun, directory.resident_mib()?);
    while since.elapsed() < REST && begun.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = directory.resident_mib()?;
        if (now - held).abs() > REST_MIB {
            (since, held) = (Instant::now(), now);
        }
    }
    directory.resident_mib()
}
