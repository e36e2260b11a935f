//! One attempt at receiving a file: who may be asked for it, the fetch itself, and what is told of it meanwhile. What becomes
//! of a transfer whose attempt failed is the keeper's business.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::commands::Rows;
use super::context::Context;
use super::download::failures::has_nothing_for_us;
use super::download::{Destination, Others, Provider, Wanted};
use super::event::Event;
use super::failure::{Failure, FailureKind};
use super::rows::{Activity, TransferRow};
use super::transfer_steps::{Step, Steps, put};
use super::{blocks, catalogue, contacts, folder_download};
use crate::storage::partial_file::ReceiveError;
use crate::storage::parts;
use crate::storage::safe_name::SafeName;
use crate::storage::transfers::KeptTransfer;
use crate::wire::ids::{FileDigest, FileName, MessageId, PeerKey, PeerName};
use crate::wire::limits::SOURCES_PER_FILE_MAX;
use crate::wire::refusal::Refusal;

/// Steps of a bar that wait to be passed on; what exceeds it is dropped.
const PROGRESS_MAX: usize = 16;

/// A task that was stopped lets go of its part within a moment; who holds it longer is another transfer.
const LET_GO_PATIENCE: Duration = Duration::from_secs(5);
const LET_GO_INTERVAL: Duration = Duration::from_millis(10);

/// Receives a file, from those of its sources who may be asked; tells how it goes. What was tried before may be whole
/// already; what stopped a moment ago may still be let go.
pub(super) async fn receive(
    context: Arc<Context>,
    kept: KeptTransfer,
    was_tried: bool,
    stopped: Option<Instant>,
    steps: watch::Sender<Steps>,
    mut announced: Option<TransferRow>,
) -> Result<Event, Failure> {
    if !let_go(&context, &kept, stopped).await? {
        let name = SafeName::from_remote(&kept.name);
        return Err(ReceiveError::InUse(kept.folder.join(name.as_str())).into());
    }
    let sources = sources(&context, &kept).await?;
    let (rows, mut progress) = mpsc::channel(PROGRESS_MAX);
    let others = if kept.offer.is_some() { Others::Unasked } else { Others::Ask };
    let KeptTransfer { name, size, digest, kind, folder, collision, executable, offer, .. } = kept;
    let from = sources.first().map(|source| source.name.clone());
    let into = Destination { folder, collision, executable };
    let (size, may_be_whole) = (size.bytes(), was_tried);
    let wanted = Wanted { sources, others, name: name.clone(), size, digest, kind, into, offer, may_be_whole };
    let rows = Rows(rows);
    let mut fetching = Box::pin(folder_download::receive(&context, wanted, &rows));
    let result = loop {
        tokio::select! {
            result = &mut fetching => break result,
            Some(event) = progress.recv() => tell_progress(&context, &steps, &mut announced, event),
        }
    };
    match (result, from) {
        (Err(failure), Some(from)) => Err(explained(&context, failure, &from, &name, digest, offer).await),
        (result, _) => result,
    }
}

/// Why nothing comes from whoever was asked first, as far as more is known than they say.
async fn explained(
    context: &Context,
    failure: Failure,
    from: &PeerName,
    name: &FileName,
    digest: FileDigest,
    offer: Option<MessageId>,
) -> Failure {
    let is = |refusal: Refusal| failure.refusal == Some(refusal.number());
    if is(Refusal::Offline) {
        Failure { message: format!("{from} is not online"), ..failure }
    } else if offer.is_some() && has_nothing_for_us(&failure) {
        withdrawn(from, name)
    } else if is(Refusal::UnknownFile) && catalogue::is_another_now(context, from, name, digest).await {
        Failure { message: format!("{from} has changed {name} and shared it again"), ..failure }
            .hint(format!("`get {from}:{name}` fetches it as it is now, and keeps what has come and is the same"))
    } else if is(Refusal::UnknownFile) {
        gone(from, name, failure)
    } else {
        failure
    }
}

/// What ends the transfer of an offer that is no more.
pub(super) fn withdrawn(by: &PeerName, name: &FileName) -> Failure {
    Failure { message: format!("{by} does not offer {name} any more"), ..Refusal::Withdrawn.into() }
}

/// What is said when somebody publishes a file that they cannot read any more.
fn gone(from: &PeerName, name: &FileName, failure: Failure) -> Failure {
    Failure { message: format!("{from} cannot give {name} any more: it was moved or deleted there"), ..failure }
        .hint(format!("ask {from} to share it again"))
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

/// Waits until nothing writes the part of a transfer any more that stopped then, and says whether that is so.
async fn let_go(context: &Context, kept: &KeptTransfer, stopped: Option<Instant>) -> Result<bool, Failure> {
    let (folder, name) = (kept.folder.clone(), kept.name.clone());
    let waits = async move {
        let until = stopped.map(|stopped| stopped + LET_GO_PATIENCE);
        while parts::is_being_written(&folder, &name) {
            if until.is_none_or(|until| Instant::now() >= until) {
                return false;
            }
            tokio::time::sleep(LET_GO_INTERVAL).await;
        }
        true
    };
    context.on_transfer_thread(waits).await
}

/// Removes what came of a transfer that stopped then, and that nobody wants any more; says why, if it stays.
pub(super) async fn remove_part(context: &Context, kept: KeptTransfer, stopped: Instant) -> Option<String> {
    let removed = match let_go(context, &kept, Some(stopped)).await {
        Ok(_) => context.beside_transfers(move || parts::remove_of(&kept)).await,
        Err(failure) => Err(failure),
    };
    match removed {
        Ok(removed) => removed.err().map(|stays| stays.to_string()),
        Err(failure) => Some(failure.message),
    }
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
