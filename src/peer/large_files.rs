//! Fetches the large files of a folder, each as any file is fetched: by its own digest, into a part file of its own.

use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::context::Context;
use super::download::{self, Pulled, What};
use super::event::Event;
use super::failure::{Failure, FailureKind};
use super::folder_download::Download;
use super::rows::Activity;
use crate::wire::ids::FileDigest;
use crate::wire::refusal::Refusal;

/// Files at a time: while one waits for its hash tree, the others fill the path.
const FILES_AT_ONCE: usize = 3;

/// What is still to be fetched: of files with the same content one after the other, because they share a part file.
type Queue = Arc<Mutex<VecDeque<Vec<usize>>>>;

/// Fetches these entries' files.
pub(super) async fn fetch(context: &Arc<Context>, download: &Arc<Download>, files: Vec<usize>) -> Result<(), Failure> {
    let mut same: BTreeMap<FileDigest, Vec<usize>> = BTreeMap::new();
    for index in files {
        if let Some(file) = download.manifest.entries()[index].file() {
            same.entry(file.digest).or_default().push(index);
        }
    }
    let mut in_order: Vec<Vec<usize>> = same.into_values().collect();
    in_order.sort_unstable();
    let queue: Queue = Arc::new(Mutex::new(in_order.into()));
    let mut workers = JoinSet::new();
    for _ in 0..FILES_AT_ONCE {
        let (context, download, queue) = (context.clone(), download.clone(), queue.clone());
        workers.spawn(async move { work(&context, &download, &queue).await });
    }
    while let Some(ended) = workers.join_next().await {
        ended.unwrap_or_else(|_| Err(Failure::new(FailureKind::Other, "the transfer was stopped")))?;
    }
    Ok(())
}

async fn work(context: &Arc<Context>, download: &Arc<Download>, queue: &Queue) -> Result<(), Failure> {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(files) = next else { return Ok(()) };
        for index in files {
            if let Err(failure) = fetch_one(context, download, index).await {
                let refusal = refused(&failure).ok_or(failure)?;
                download.note_failed(index, refusal);
            }
        }
    }
}

/// Why this one file cannot be had, while others can.
fn refused(failure: &Failure) -> Option<Refusal> {
    [Refusal::FileChanged, Refusal::UnknownFile].into_iter().find(|refusal| failure.refusal == Some(refusal.number()))
}

async fn fetch_one(context: &Arc<Context>, download: &Arc<Download>, index: usize) -> Result<(), Failure> {
    let Some(file) = download.manifest.entries()[index].file().copied() else { return Ok(()) };
    let sources = download.sources()?;
    let name = download.manifest.entries()[index].path.name();
    // Nobody publishes a member by itself: a link that is asked for with its digest would not be allowed to be direct.
    let announced = download.wanted.digest;
    let what = What { sources, digest: file.digest, announced, size: file.size.bytes(), name };
    let opening = download.clone();
    let partial = context.on_transfer_thread(async move { opening.tree.part(&file) }).await??;
    let (rows, mut told) = mpsc::channel(64);
    let mut counted = 0;
    let pulled = {
        let mut pulling = pin!(download::pull(context, &what, partial, &rows));
        loop {
            tokio::select! {
                pulled = &mut pulling => break pulled,
                Some(event) = told.recv() => counted = count(download, &event, counted),
            }
        }
    };
    let Pulled { partial, resumed, via, .. } = pulled?;
    download.note_resumed(resumed);
    download.count_bytes(file.size.bytes() - counted, Some(via));
    let adopting = download.clone();
    context.beside_transfers(move || adopting.tree.adopt(index, partial)).await??;
    if let Some(source) = what.sources.first() {
        download.count_large(source);
    }
    Ok(())
}

/// Counts for the folder what has come of one of its files. Says how much that is in all.
fn count(download: &Download, event: &Event, counted: u64) -> u64 {
    match event {
        Event::Progress { activity: Activity::Receiving, done, via, .. } if *done > counted => {
            download.count_bytes(done - counted, via.clone());
            *done
        }
        _ => counted,
    }
}
