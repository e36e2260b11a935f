//! Searches in a catalogue with more and more entries, and what it costs to publish one more. The entries are in the
//! directory's file before it starts: publishing a million would take an hour of somebody else's time.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{anyhow, ensure};
use qchat::transport::connection::Connection;
use qchat::wire::catalog::{Entry, EntryKind, Query, Scope};
use qchat::wire::directory::{DirectoryReply, DirectoryRequest};
use qchat::wire::ids::{FileDigest, FileName, FileSize, Pattern};
use rusqlite::params;
use tokio::task::JoinSet;

use super::{Series, Settings};
use crate::all_cores;
use crate::bounds::Bound;
use crate::figures::Spread;
use crate::people::ask;
use crate::people::crowd::{Person, arrive, directory_with, people};

/// Who publishes the entries, each as many as the others.
const OWNERS: usize = 100;

/// How long the slowest of 20 searches may take in the largest catalogue, in milliseconds.
const MS_MOST: f64 = 50.0;

/// Words of the names: 32 x 32 pairs, and a number that no other name has.
const FIRST: [&str; 32] = [
    "winter", "summer", "annual", "family", "final", "draft", "old", "new", "blue", "green", "northern", "southern",
    "first", "second", "short", "long", "public", "private", "early", "late", "small", "large", "quiet", "loud",
    "monday", "tuesday", "friday", "sunday", "april", "may", "june", "august",
];
const SECOND: [&str; 32] = [
    "report", "holiday", "invoice", "lecture", "recipe", "concert", "garden", "letter", "budget", "meeting", "photo",
    "song", "map", "plan", "review", "diary", "manual", "poster", "talk", "walk", "beach", "mountain", "river", "city",
    "house", "bridge", "train", "bicycle", "kitchen", "school", "museum", "market",
];

/// What is looked for.
#[derive(Debug, Clone, Copy)]
enum Sought {
    /// One name in 32 has it.
    Word,
    /// One name in 1,024 has both words.
    Words,
    /// One name has it.
    Number,
    /// No name has it.
    Nothing,
    /// Two letters in a row that no name has.
    TwoLetters,
}

const SEARCHES: [(&str, Sought); 5] = [
    ("a common word", Sought::Word),
    ("two words", Sought::Words),
    ("one name's number", Sought::Number),
    ("what no name has", Sought::Nothing),
    ("2 letters no name has", Sought::TwoLetters),
];

const PUBLISHING: &str = "publishing one more";

impl Sought {
    fn pattern(self, number: usize) -> String {
        let (first, second) = (FIRST[number % 32], SECOND[number * 7 % 32]);
        match self {
            Self::Word => first.to_uppercase(),
            Self::Words => format!("{first} {second}"),
            Self::Number => format!("{number:07}."),
            Self::Nothing => format!("{second} {first}"),
            Self::TwoLetters => "qz".to_owned(),
        }
    }

    /// Whether something must be found in a catalogue of this size.
    fn is_there(self, entries: usize) -> bool {
        match self {
            Self::Word | Self::Number => true,
            Self::Words => entries >= 1 << 15,
            Self::Nothing | Self::TwoLetters => false,
        }
    }
}

pub(super) fn measure(settings: Settings, bounds: &mut Vec<Bound>) -> anyhow::Result<Vec<Series>> {
    let names = SEARCHES.iter().map(|(name, _)| *name).chain([PUBLISHING]);
    let mut series: Vec<Series> = names.map(|name| Series { name, at: Vec::new() }).collect();
    for &entries in settings.entries {
        let taken = all_cores()?.block_on(search_all(entries, settings))?;
        for (one, rounds) in series.iter_mut().zip(taken) {
            one.at.push((entries, Spread::of(rounds)));
        }
    }
    for Series { name, at } in series.iter().filter(|one| one.name != PUBLISHING) {
        if let Some((entries, slowest)) = at.last() {
            let what = format!("ms for {name}, p95, in {entries} entries");
            bounds.push(Bound::at_most(what, slowest.median).gate(MS_MOST));
        }
    }
    Ok(series)
}

/// Milliseconds at p95 of each kind of search and of publishing, in each round, at one catalogue.
async fn search_all(entries: usize, settings: Settings) -> anyhow::Result<Vec<Vec<f64>>> {
    let (owners, asker) = (people("owner", OWNERS)?, people("asker", 1)?);
    let directory = directory_with(&[&asker, &owners], |file| fill(file, &owners, entries)).await?;
    let mut taking = JoinSet::new();
    let asking = arrive(directory.place, &asker, &mut taking).await?.pop().ok_or_else(|| anyhow!("nobody asks"))?;
    let mut taken = vec![Vec::new(); SEARCHES.len() + 1];
    for round in 0..settings.rounds {
        for ((_, sought), taken) in SEARCHES.iter().zip(&mut taken) {
            let mut waits = Vec::new();
            for number in 0..settings.requests {
                // Numbers that lie far apart, all below the number of entries.
                let number = (round + number * settings.rounds) * 7_919 % entries;
                waits.push(search(&asking, sought.pattern(number), sought.is_there(entries)).await?);
            }
            taken.push(p95(waits));
        }
        let mut waits = Vec::new();
        for number in 0..settings.requests {
            let name = format!("another {round} {number}");
            let started = Instant::now();
            let reply = ask(&asking, DirectoryRequest::Publish(entry(&name)?)).await?;
            reply.map_err(|refusal| anyhow!("refused: {refusal}"))?;
            waits.push(started.elapsed().as_secs_f64() * 1e3);
        }
        taken[SEARCHES.len()].push(p95(waits));
    }
    Ok(taken)
}

async fn search(asking: &Connection, pattern: String, is_there: bool) -> anyhow::Result<f64> {
    let query = Query::Substring(Pattern::parse(&pattern)?);
    let started = Instant::now();
    let reply = ask(asking, DirectoryRequest::Find { query, after: None }).await?;
    let taken = started.elapsed().as_secs_f64() * 1e3;
    let Ok(DirectoryReply::Entries { found, .. }) = reply else { anyhow::bail!("{reply:?}") };
    ensure!(!is_there || !found.is_empty(), "nothing was found for {pattern}");
    Ok(taken)
}

fn p95(mut waits: Vec<f64>) -> f64 {
    waits.sort_by(f64::total_cmp);
    waits.get(waits.len().saturating_sub(1) * 95 / 100).copied().unwrap_or(f64::NAN)
}

fn entry(name: &str) -> anyhow::Result<Entry> {
    let digest = FileDigest::from_bytes(*blake3::hash(name.as_bytes()).as_bytes());
    let (name, size) = (FileName::parse(name)?, FileSize::try_from(1_000)?);
    Ok(Entry { name, size, digest, kind: EntryKind::File, scope: Scope::Everyone, hides_address: false })
}

/// Puts entries into a directory's file as publishing would.
fn fill(file: &Path, owners: &[Arc<Person>], entries: usize) -> anyhow::Result<()> {
    let mut database = rusqlite::Connection::open(file)?;
    let transaction = database.transaction()?;
    let mut insert = transaction.prepare(
        "INSERT INTO share (owner, name, size, digest, kind, scope, published_at)
         VALUES (?1, ?2, 1000, ?3, 'file', 'everyone', 0)",
    )?;
    for number in 0..entries {
        // Every pair of words comes equally often, and what is next to each other in time is not so in the alphabet.
        let (first, second) = (FIRST[number % 32], SECOND[number / 32 % 32]);
        let (owner, name) = (&owners[number % owners.len()], format!("{first} {second} {number:07}.pdf"));
        let digest = blake3::hash(name.as_bytes());
        insert.execute(params![owner.name.as_str(), name, digest.as_bytes()])?;
    }
    drop(insert);
    Ok(transaction.commit()?)
}
