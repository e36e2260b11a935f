//! Time for a request with more and more people online, each of whom says nothing.

use std::time::{Duration, Instant};

use anyhow::anyhow;
use qchat::transport::connection::Connection;
use qchat::wire::directory::DirectoryRequest;
use tokio::task::JoinSet;

use super::{Series, Settings};
use crate::all_cores;
use crate::bounds::Bound;
use crate::figures::Spread;
use crate::people::ask;
use crate::people::crowd::{arrive, directory_of, people};

/// How many times as long a request may take with the most people as with the fewest.
const TIMES_MOST: f64 = 2.0;

/// After people came, who are told of each other while they are few: until that is over.
const REST: Duration = Duration::from_secs(1);

const KINDS: [&str; 3] = ["own sessions", "who somebody is", "who is here"];

/// Seconds at each number of people, of one kind.
type Medians = Vec<f64>;

pub(super) fn measure(settings: Settings, bounds: &mut Vec<Bound>) -> anyhow::Result<Vec<Series>> {
    let mut rounds: Vec<[Medians; 3]> = Vec::new();
    for _ in 0..settings.rounds {
        rounds.push(all_cores()?.block_on(grow(settings))?);
    }
    let mut series = Vec::new();
    for (kind, name) in KINDS.into_iter().enumerate() {
        let ratio = |round: &[Medians; 3]| {
            let medians = &round[kind];
            medians.last().zip(medians.first()).map_or(f64::NAN, |(most, fewest)| most / fewest)
        };
        let (fewest, most) = (settings.online.first().unwrap_or(&0), settings.online.last().unwrap_or(&0));
        let what = format!("{name}: with {most} sessions, times as long as with {fewest}");
        bounds.push(Bound::at_most(what, Spread::of(rounds.iter().map(ratio)).median).gate(TIMES_MOST));
        let at = settings
            .online
            .iter()
            .enumerate()
            .map(|(number, size)| (*size, Spread::of(rounds.iter().map(|round| round[kind][number] * 1e3))));
        series.push(Series { name, at: at.collect() });
    }
    Ok(series)
}

/// One directory, at which more and more people arrive.
async fn grow(settings: Settings) -> anyhow::Result<[Medians; 3]> {
    let most = settings.online.last().copied().unwrap_or(1);
    let (asker, crowd) = (people("asker", 1)?, people("quiet", most)?);
    let directory = directory_of(&[&asker, &crowd]).await?;
    let (mut taking, mut present) = (JoinSet::new(), Vec::new());
    let asking = arrive(directory.place, &asker, &mut taking).await?.pop().ok_or_else(|| anyhow!("nobody asks"))?;
    let mut medians = [const { Medians::new() }; 3];
    for &size in settings.online {
        present.extend(arrive(directory.place, &crowd[present.len()..size], &mut taking).await?);
        tokio::time::sleep(REST).await;
        let requests = |number: usize| {
            let name = crowd[number % size].name.clone();
            let who = DirectoryRequest::Who { recent: false, pattern: None, after: None };
            [DirectoryRequest::Sessions, DirectoryRequest::Identify { name }, who]
        };
        for (median, taken) in medians.iter_mut().zip(ask_in_turn(&asking, settings.requests, requests).await?) {
            median.push(Spread::of(taken).median);
        }
    }
    Ok(medians)
}

/// Seconds that each kind of request took, one after the other.
async fn ask_in_turn(
    connection: &Connection,
    times: usize,
    requests: impl Fn(usize) -> [DirectoryRequest; 3],
) -> anyhow::Result<[Vec<f64>; 3]> {
    let mut taken = [const { Vec::new() }; 3];
    for number in 0..times {
        for (request, taken) in requests(number).into_iter().zip(&mut taken) {
            let started = Instant::now();
            ask(connection, request).await?.map_err(|refusal| anyhow!("refused: {refusal}"))?;
            taken.push(started.elapsed().as_secs_f64());
        }
    }
    Ok(taken)
}
