//! Fetches a file from those who have it: the hash tree first, then the missing groups in 200-byte chunks, each group
//! verified before it is written. An interrupted transfer goes on from what is in the part file.
//! `sources.rs` decides who is asked and over which link, `lane.rs` moves the bytes of one of them;
//! which groups go over which lane is decided in `protocol/transfer/`.

pub(super) mod blob;
pub(super) mod failures;
mod lane;
mod sources;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::failures::{has_nothing_for_us, no_source};
use self::sources::Transfer;
use super::catalogue;
use super::context::Context;
use super::event::Event;
use super::failure::Failure;
use super::links::InUse;
use super::path::PathInfo;
use super::peer_links;
use crate::storage::partial_file::{Collision, PartialFile};
use crate::storage::receive_folder::ReceiveFolder;
use crate::storage::receive_tree::Executable;
use crate::storage::safe_name::SafeName;
use crate::storage::whole;
use crate::wire::catalog::EntryKind;
use crate::wire::ids::{FileDigest, FileName, MessageId, PeerKey, PeerName};
use crate::wire::rendezvous::Purpose;
use crate::wire::transfer::{PeerRequest, ReceivedAnswer};

/// How long several sources are waited for that are told of the end: the file is there already.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

/// And a single one, who may wait for the answer to an offer.
const ALONE_TOLD_WITHIN: Duration = Duration::from_secs(5);

/// Somebody who has a file, and the key that is talked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Provider {
    pub(super) name: PeerName,
    pub(super) key: PeerKey,
}

/// A file or folder to fetch, who has it, and where to put it.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// At least one; the first is asked first.
    pub(super) sources: Vec<Provider>,
    /// Whether the directory is asked who else has it.
    pub(super) others: Others,
    pub(super) name: FileName,
    pub(super) size: u64,
    /// Of a folder: of its manifest.
    pub(super) digest: FileDigest,
    pub(super) kind: EntryKind,
    pub(super) into: Destination,
    /// The offer that was accepted, when it is one.
    pub(super) offer: Option<MessageId>,
    /// Whether it was tried before: that may have been its end, and only the word of it is missing.
    pub(super) may_be_whole: bool,
}

/// Where what is received goes, and how.
#[derive(Debug, Clone)]
pub(super) struct Destination {
    /// Absolute.
    pub(super) folder: PathBuf,
    pub(super) collision: Collision,
    /// Of a folder's files.
    pub(super) executable: Executable,
}

/// Whether the directory is asked who else has a file. It is not for what was offered to one person: the directory knows
/// nothing of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Others {
    Ask,
    Unasked,
}

/// A file whose bytes are pulled into a part file that somebody has opened.
#[derive(Debug, Clone)]
pub(super) struct What {
    /// At least one; the first is asked first.
    pub(super) sources: Vec<Provider>,
    pub(super) digest: FileDigest,
    /// For what links to the sources are asked for: the file, or the folder that it is in.
    pub(super) announced: FileDigest,
    pub(super) size: u64,
    /// What people call it.
    pub(super) name: FileName,
}

/// A part file that holds every byte of its file, verified; it has not got its name yet.
#[derive(Debug)]
pub(super) struct Pulled {
    pub(super) partial: PartialFile,
    /// Bytes that an earlier transfer left.
    pub(super) resumed: u64,
    /// When the first byte of the file came, and which way, if any was missing.
    pub(super) first: Option<(Duration, PathInfo)>,
    /// How the last bytes came.
    pub(super) via: PathInfo,
    /// Who gave bytes, each by the link of its last ones.
    pub(super) givers: Vec<InUse>,
}

/// Fetches a file from those who have it; progress goes to `rows`. The last word is [`Event::Received`].
pub(super) async fn fetch(context: &Arc<Context>, wanted: Wanted, rows: mpsc::Sender<Event>) -> Result<Event, Failure> {
    let started = Instant::now();
    if wanted.may_be_whole
        && let Some(path) = find_whole(context, &wanted).await?
    {
        return received_earlier(context, &wanted, path, started).await;
    }
    let Wanted { sources, others, name, size, digest, into, offer, .. } = wanted;
    let Destination { folder, collision, .. } = into;
    let begin = {
        let name = SafeName::from_remote(&name);
        async move { PartialFile::open(&ReceiveFolder::open(&folder)?, &name, size, collision) }
    };
    let partial = context.on_transfer_thread(begin).await??;
    let what = What { sources, digest, announced: digest, size, name };
    let transfer = Transfer::new(context, &what, partial, &rows, started);
    let pulled = match others {
        Others::Ask => transfer.run(catalogue::owners(context, digest)).await,
        Others::Unasked => transfer.run(async { Vec::new() }).await,
    };
    let Pulled { partial, resumed, first, via, givers } = pulled?;
    let path = context.beside_transfers(move || partial.complete()).await??;
    // Those who gave bytes are named before those who were asked.
    let from = givers.first().map(|link| link.name.clone()).or_else(|| what.sources.first().map(|it| it.name.clone()));
    tell_givers(givers, digest, offer).await;
    let (first_byte, first_path) = first.unzip();
    Ok(Event::Received {
        from: from.ok_or_else(no_source)?,
        name: what.name,
        path,
        size,
        digest,
        files: None,
        resumed,
        millis: millis(started.elapsed()),
        first_byte_us: first_byte.map(|after| u64::try_from(after.as_micros()).unwrap_or(u64::MAX)),
        first_via: first_path,
        via: Some(via),
    })
}

/// Looks whether an earlier run has received the file to its end.
async fn find_whole(context: &Context, wanted: &Wanted) -> Result<Option<PathBuf>, Failure> {
    let Wanted { name, size, digest, into: Destination { folder, collision, .. }, .. } = wanted.clone();
    let look = move || {
        let folder = ReceiveFolder::open(&folder)?;
        whole::find_file(&folder, &SafeName::from_remote(&name), size, digest, collision)
    };
    Ok(context.beside_transfers(look).await??)
}

/// Ends a transfer that an earlier run has brought to its end without a word: the giver is told, unless they know of
/// nothing to tell them.
pub(super) async fn received_earlier(
    context: &Context,
    wanted: &Wanted,
    path: PathBuf,
    started: Instant,
) -> Result<Event, Failure> {
    let mut link = Err(no_source());
    for source in &wanted.sources {
        let purpose = Purpose::Fetch { digest: wanted.digest };
        link = peer_links::open(context, &source.name, source.key, purpose).await.map(|(link, _)| Some(link));
        if link.is_ok() {
            break;
        }
    }
    let link = link.or_else(|failure| if has_nothing_for_us(&failure) { Ok(None) } else { Err(failure) })?;
    let giver =
        link.as_ref().map(|link| link.name.clone()).or_else(|| wanted.sources.first().map(|it| it.name.clone()));
    let via = link.as_ref().map(|link| link.path_info());
    tell_givers(link.into_iter().collect(), wanted.digest, wanted.offer).await;
    Ok(Event::Received {
        from: giver.ok_or_else(no_source)?,
        name: wanted.name.clone(),
        path,
        size: wanted.size,
        digest: wanted.digest,
        files: wanted.kind.files(),
        resumed: wanted.size,
        millis: millis(started.elapsed()),
        first_byte_us: None,
        first_via: None,
        via,
    })
}

/// Pulls what is missing of a file into its part file, every group verified before it is written; progress goes to `rows`.
/// When that fails, what arrived stays in the part file.
pub(super) async fn pull(
    context: &Arc<Context>,
    what: &What,
    partial: PartialFile,
    rows: &mpsc::Sender<Event>,
) -> Result<Pulled, Failure> {
    Transfer::new(context, what, partial, rows, Instant::now()).run(async { Vec::new() }).await
}

/// Tells everybody who gave bytes that the file is complete and on disk.
pub(super) async fn tell_givers(givers: Vec<InUse>, digest: FileDigest, offer: Option<MessageId>) {
    let within = if givers.len() > 1 { TOLD_WITHIN } else { ALONE_TOLD_WITHIN };
    let mut telling = JoinSet::new();
    for link in givers {
        telling.spawn(async move {
            let told: Result<ReceivedAnswer, _> =
                link.connection.request(&PeerRequest::Received { digest, offer }).await;
            if !matches!(told, Ok(Ok(()))) {
                tracing::info!(from = %link.name, ?told, "the sender could not be told that the file is complete");
            }
        });
    }
    let all = async { while telling.join_next().await.is_some() {} };
    if tokio::time::timeout(within, all).await.is_err() {
        tracing::info!("not every source could be told that the file is complete");
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
