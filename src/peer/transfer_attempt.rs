//! One attempt at receiving a file: who may be asked for it, the fetch itself, and what is told of it meanwhile. What becomes
//! of a transfer whose attempt failed is the keeper's business.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::commands::Rows;
use super::context::Context;
use super::download::{Destination, Others, Provider, Wanted};
use super::event::Event;
use super::failure::{Failure, FailureKind};
use super::rows::{Activity, TransferRow};
use super::transfer_keeper::{Step, Steps, put};
use super::{blocks, catalogue, contacts, folder_download};
use crate::storage::transfers::{self, KeptTransfer};
use crate::wire::ids::{FileName, PeerKey, PeerName};
use crate::wire::limits::SOURCES_PER_FILE_MAX;
use crate::wire::refusal::Refusal;

/// Steps of a bar that wait to be passed on; what exceeds it is dropped.
const PROGRESS_MAX: usize = 16;

/// A task that was stopped lets go of its part file within a moment.
const LET_GO_PATIENCE: Duration = Duration::from_secs(5);
const LET_GO_INTERVAL: Duration = Duration::from_millis(10);

/// Receives a file, from those of its sources who may be asked; tells how it goes.
pub(super) async fn receive(
    context: Arc<Context>,
    kept: KeptTransfer,
    steps: watch::Sender<Steps>,
    mut announced: Option<TransferRow>,
) -> Result<Event, Failure> {
    let_go(&context, &kept, false).await?;
    let sources = sources(&context, &kept).await?;
    let (rows, mut progress) = mpsc::channel(PROGRESS_MAX);
    let others = if kept.offer.is_some() { Others::Unasked } else { Others::Ask };
    let KeptTransfer { name, size, digest, kind, folder, collision, executable, offer, .. } = kept;
    let from = sources.first().map(|source| source.name.clone());
    let into = Destination { folder, collision, executable };
    let wanted = Wanted { sources, others, name: name.clone(), size: size.bytes(), digest, kind, into };
    let rows = Rows(rows);
    let mut fetching = Box::pin(folder_download::receive(&context, wanted, &rows));
    let result = loop {
        tokio::select! {
            result = &mut fetching => break result,
            Some(event) = progress.recv() => tell_progress(&context, &steps, &mut announced, event),
        }
    };
    let is_away = |failure: &Failure| failure.refusal == Some(Refusal::Offline.number());
    result.map_err(|failure| match from {
        Some(from) if is_away(&failure) => Failure { message: format!("{from} is not online"), ..failure },
        Some(from) if offer.is_some() && is_withdrawn(&failure) => withdrawn(&from, &name),
        _ => failure,
    })
}

/// What ends the transfer of an offer that is no more.
pub(super) fn withdrawn(by: &PeerName, name: &FileName) -> Failure {
    Failure { message: format!("{by} does not offer {name} any more"), ..Refusal::Withdrawn.into() }
}

/// Whether somebody who has offered a file says that there is nothing for us.
fn is_withdrawn(failure: &Failure) -> bool {
    let refusals = [Refusal::UnknownFile, Refusal::NotAccepted, Refusal::Withdrawn];
    refusals.iter().any(|refusal| failure.refusal == Some(refusal.number()))
}

/// Passes progress on to those who follow; to all faces, when nobody does.
fn tell_progress(context: &Context, steps: &watch::Sender<Steps>, announced: &mut Option<TransferRow>, event: Event) {
    let is_followed = steps.receiver_count() > 0;
    if let Event::Progress { activity: Activity::Receiving, done, .. } = &event
        && let Some(row) = announced.take()
        && !is_followed
    {
        context.tell(Event::changed(TransferRow { done: *done, ..row }));
    }
    if !is_followed {
        context.tell(event.clone());
    }
    match event {
        progress @ Event::Progress { .. } => put(steps, Step::Moves(Some(progress))),
        news => steps.send_modify(|steps| {
            if steps.news.len() < SOURCES_PER_FILE_MAX {
                steps.news.push(news);
            }
        }),
    }
}

/// Waits until nothing of this process writes the part file of a transfer any more, and removes it if it is not wanted.
pub(super) async fn let_go(context: &Context, kept: &KeptTransfer, removes: bool) -> Result<(), Failure> {
    let (folder, name) = (kept.folder.clone(), kept.name.clone());
    let waits = async move {
        let until = Instant::now() + LET_GO_PATIENCE;
        while transfers::is_being_written(&folder, &name) && Instant::now() < until {
            tokio::time::sleep(LET_GO_INTERVAL).await;
        }
        if removes { transfers::remove_part(&folder, &name) } else { Ok(()) }
    };
    context.on_transfer_thread(waits).await?.map_err(|error| {
        Failure::new(FailureKind::Disk, format!("what came of {} cannot be removed: {error}", kept.name))
    })
}

/// Those who have a file and may be asked, each with the key they have now; at least one.
async fn sources(context: &Context, kept: &KeptTransfer) -> Result<Vec<Provider>, Failure> {
    let (mut sources, mut offline, mut last) = (Vec::new(), BTreeSet::new(), None);
    for (name, key) in &kept.sources {
        match source(context, name, *key).await {
            // Whoever offers with a one-shot verb can be dialled, and is not seen online.
            Ok((source, is_online)) if is_online || kept.offer.is_some() => sources.push(source),
            Ok(_) => drop(offline.insert(name.as_str())),
            Err(failure) => last = Some(failure),
        }
    }
    if sources.is_empty() && kept.offer.is_none() {
        // Those who had it are not here: others may be.
        sources = catalogue::owners(context, kept.digest).await;
    }
    if !sources.is_empty() {
        return Ok(sources);
    }
    match last {
        Some(failure) if offline.is_empty() => Err(failure),
        _ => {
            let names: Vec<&str> = offline.into_iter().collect();
            let are = if names.len() == 1 { "is" } else { "are" };
            Err(Failure::new(FailureKind::Offline, format!("{} {are} not online", names.join(", "))))
        }
    }
}

/// Somebody who has a file, with the key they have now, and whether they are here.
async fn source(context: &Context, name: &PeerName, key: PeerKey) -> Result<(Provider, bool), Failure> {
    blocks::check(context, name, Some(key))?;
    if context.links.find(key).is_some() {
        return Ok((Provider { name: name.clone(), key }, true));
    }
    let identity = contacts::identify(context, name).await?;
    Ok((Provider { name: name.clone(), key: identity.key }, identity.online))
}
