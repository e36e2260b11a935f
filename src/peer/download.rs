//! Fetches a file from its owner: the hash tree first, then the missing groups in 200-byte chunks, each group verified
//! before it is written. An interrupted transfer goes on from what is in the part file. Between two groups it moves to a
//! better link, and when its link falls silent to another one: what is verified stays.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::context::Context;
use super::event::{Activity, Event};
use super::failure::{Failure, FailureKind};
use super::file_stream::{ChunkSource, Source, Stopped};
use super::links::InUse;
use super::path::PathInfo;
use super::peer_links;
use super::progress::Progress;
use crate::protocol::groups::Groups;
use crate::protocol::rendezvous::Path;
use crate::seal::digest::{GroupHasher, HashTree};
use crate::storage::partial_file::{Collision, PartialFile};
use crate::transport::connection::TransportError;
use crate::wire::ids::{FileDigest, FileName, PeerKey, PeerName};
use crate::wire::refusal::CloseCode;
use crate::wire::rendezvous::Purpose;
use crate::wire::transfer::{
    FetchPart, GROUP_BYTES, PeerRequest, ReceivedAnswer, group_bytes, group_count, tree_bytes,
};

/// A file to fetch, and where to put it.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) from: PeerName,
    pub(super) key: PeerKey,
    pub(super) name: FileName,
    pub(super) size: u64,
    pub(super) digest: FileDigest,
    pub(super) folder: PathBuf,
    pub(super) collision: Collision,
}

/// What to do about a transfer that stopped while it was relayed.
const RELAYED_HINT: &str = "what arrived is kept: the same command goes on from there; \
    if it stops again, the directory's relay may have used up what it carries for you today";

/// A fetch under way, over whichever link.
struct Transfer {
    wanted: Wanted,
    partial: PartialFile,
    rows: mpsc::Sender<Event>,
    started: Instant,
    /// What is here of the file, once its hash tree has come.
    here: Option<Here>,
    /// When the first byte of the file came, and which way.
    first: Option<(Duration, PathInfo)>,
}

/// Which groups of a file are here.
struct Here {
    tree: HashTree,
    groups: Groups,
    /// Bytes that an earlier transfer left.
    resumed: u64,
}

/// Fetches a file over a link to its owner; progress goes to `rows`. The last word is [`Event::Received`].
pub(super) async fn fetch(context: &Arc<Context>, wanted: Wanted, rows: mpsc::Sender<Event>) -> Result<Event, Failure> {
    let started = Instant::now();
    let begin = async move {
        let partial = PartialFile::open(&wanted.folder, &wanted.name, wanted.size, wanted.collision)?;
        Ok::<_, Failure>(Transfer { wanted, partial, rows, started, here: None, first: None })
    };
    let transfer = context.on_transfer_thread(begin).await??;
    let (link, transfer) = connect_and_receive(context, transfer).await?;
    let Transfer { wanted, partial, here, first, .. } = transfer;
    let path = context.on_transfer_thread(async move { partial.complete() }).await??;
    let received = PeerRequest::Received { digest: wanted.digest };
    let told: Result<ReceivedAnswer, _> = link.connection.request(&received).await;
    if !matches!(told, Ok(Ok(()))) {
        tracing::info!(from = %wanted.from, ?told, "the sender could not be told that the file is complete");
    }
    let (first_byte, first_path) = first.unzip();
    Ok(Event::Received {
        from: wanted.from,
        name: wanted.name,
        path,
        size: wanted.size,
        digest: wanted.digest,
        resumed: here.map_or(0, |here| here.resumed),
        millis: millis(started.elapsed()),
        first_byte_us: first_byte.map(|after| u64::try_from(after.as_micros()).unwrap_or(u64::MAX)),
        first_via: first_path,
        via: link.path_info(),
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Moves the missing bytes, over another link when the first one turns out to be gone, silent or worse than a newer one.
/// Says over which one the last of them came.
async fn connect_and_receive(context: &Arc<Context>, mut transfer: Transfer) -> Result<(InUse, Transfer), Failure> {
    let (mut may_dial_again, mut has_dialled) = (true, false);
    loop {
        let Wanted { from, key, digest, .. } = &transfer.wanted;
        let opened = peer_links::open(context, from, *key, Purpose::Fetch { digest: *digest }).await;
        let (link, is_new) = match opened {
            Ok(opened) => opened,
            Err(failure) => return give_up(context, transfer, failure).await,
        };
        has_dialled |= is_new;
        let shared = context.clone();
        let work = async move {
            let received = receive(&shared, &link, &mut transfer).await;
            (link, transfer, received)
        };
        let (link, returned, received) = context.on_transfer_thread(work).await?;
        transfer = returned;
        match received {
            Ok(()) => return Ok((link, transfer)),
            Err(Stopped::Moves) => {}
            // A direct path broke, and the relay is still there, or the other way round.
            Err(Stopped::Network(_)) if context.links.has_other(&link) => link.replace(),
            Err(Stopped::Network(error)) if may_dial_again && is_gone(&error, has_dialled) => {
                may_dial_again = false;
                link.replace();
            }
            Err(stopped) => {
                let mut failure = failure_of(stopped, &transfer.wanted);
                if link.path == Path::Relayed && failure.kind == FailureKind::Partial {
                    failure = failure.hint(RELAYED_HINT);
                }
                return give_up(context, transfer, failure).await;
            }
        }
    }
}

async fn give_up<T>(context: &Context, transfer: Transfer, failure: Failure) -> Result<T, Failure> {
    context.on_transfer_thread(async move { transfer.partial.discard_if_empty() }).await?;
    Err(failure)
}

/// Whether a link has ended for another reason than what is asked over it: all were there before it and nobody answers, or
/// the other side saw nobody use it, for instance while we looked at what an earlier transfer had left.
pub(super) fn is_gone(error: &TransportError, has_dialled: bool) -> bool {
    match error {
        TransportError::Closed(CloseCode::Done) => true,
        TransportError::Closed(_)
        | TransportError::ClosedHere
        | TransportError::TimedOut
        | TransportError::NoAnswer(_)
        | TransportError::Restarted
        | TransportError::Reset(CloseCode::ShuttingDown) => !has_dialled,
        TransportError::Bind { .. }
        | TransportError::IdentityMismatch { .. }
        | TransportError::NotAnnounced
        | TransportError::Handshake(_)
        | TransportError::OtherVersion
        | TransportError::Tls(_)
        | TransportError::Refused
        | TransportError::Reset(_)
        | TransportError::BadFrame(_)
        | TransportError::Truncated => false,
    }
}

/// Receives what is missing, as long as there is no better link.
async fn receive(context: &Context, link: &InUse, transfer: &mut Transfer) -> Result<(), Stopped> {
    let _turn = link.fetches.acquire().await;
    let source = Source { context, link, digest: transfer.wanted.digest };
    if transfer.here.is_none() {
        transfer.here = Some(look(&source, transfer).await?);
    }
    let Transfer { wanted, partial, rows, started, here: Some(here), first } = transfer else { return Ok(()) };
    let mut done = wanted.size - missing_bytes(&here.groups, wanted.size);
    let mut progress =
        Progress::new(Activity::Receiving, wanted.name.as_str(), Some(&wanted.from), wanted.size, teller(rows));
    let mut buffer = Vec::new();
    while let Some((run, count)) = here.groups.next_missing_run() {
        let part = FetchPart::Groups { first: run, count };
        let mut stream = open_part(source, wanted, part).await?;
        for group in run..run + count {
            receive_group(&mut stream, wanted.size, group, &here.tree, partial, &mut buffer).await?;
            first.get_or_insert_with(|| (started.elapsed(), link.path_info()));
            here.groups.mark(group);
            done += group_bytes(wanted.size, group);
            progress.reach(done, || Some(link.path_info()));
            if here.groups.missing() > 0 && context.links.has_better(link) {
                return Err(Stopped::Moves);
            }
        }
        stream.end().await?;
    }
    Ok(())
}

/// Fetches the hash tree, and looks what an earlier transfer has left.
async fn look(source: &Source<'_>, transfer: &Transfer) -> Result<Here, Stopped> {
    let Transfer { wanted, partial, rows, .. } = transfer;
    let tree = fetch_tree(source, wanted).await?;
    let mut groups = Groups::none_of(group_count(wanted.size));
    let mut checking = Progress::new(Activity::Checking, wanted.name.as_str(), None, wanted.size, teller(rows));
    for group in partial.groups_here(&tree, &mut |done| checking.reach(done, || None))? {
        groups.mark(group);
    }
    let resumed = wanted.size - missing_bytes(&groups, wanted.size);
    Ok(Here { tree, groups, resumed })
}

fn teller(rows: &mpsc::Sender<Event>) -> impl Fn(Event) + '_ {
    |event| {
        // A face that is behind misses a step of the bar, not the end.
        if rows.try_send(event).is_err() {
            tracing::trace!("a progress event was dropped");
        }
    }
}

fn missing_bytes(groups: &Groups, size: u64) -> u64 {
    (0..group_count(size)).filter(|group| !groups.is_here(*group)).map(|group| group_bytes(size, group)).sum()
}

/// Asks for a part of the wanted file, which must have the wanted size.
async fn open_part<'a>(source: Source<'a>, wanted: &Wanted, part: FetchPart) -> Result<ChunkSource<'a>, Stopped> {
    let (stream, size) = ChunkSource::open(source, part).await?;
    if size == wanted.size { Ok(stream) } else { Err(Stopped::WrongBytes) }
}

/// Fetches the hashes of all groups and proves them against the file's digest.
async fn fetch_tree(source: &Source<'_>, wanted: &Wanted) -> Result<HashTree, Stopped> {
    let bytes = usize::try_from(tree_bytes(wanted.size)).unwrap_or(usize::MAX);
    let mut hashes = Vec::new();
    if bytes > 0 {
        let mut stream = open_part(*source, wanted, FetchPart::Tree).await?;
        stream.next_group(bytes, &mut hashes).await?;
        stream.end().await?;
    }
    HashTree::from_bytes(wanted.size, &hashes, &wanted.digest).map_err(|_| Stopped::WrongBytes)
}

/// Receives a group, and writes it once it is proven: BLAKE3 and the disk take one large piece at a fraction of the cost
/// of many small ones, and nothing wrong gets on the disk.
async fn receive_group(
    source: &mut ChunkSource<'_>,
    size: u64,
    group: u64,
    tree: &HashTree,
    partial: &PartialFile,
    buffer: &mut Vec<u8>,
) -> Result<(), Stopped> {
    let bytes = usize::try_from(group_bytes(size, group)).unwrap_or(usize::MAX);
    buffer.clear();
    source.next_group(bytes, buffer).await?;
    let mut hasher = GroupHasher::new(group);
    hasher.update(buffer);
    if !tree.verifies(group, hasher) {
        return Err(Stopped::WrongBytes);
    }
    Ok(partial.write_at(buffer, group * GROUP_BYTES)?)
}

fn failure_of(stopped: Stopped, wanted: &Wanted) -> Failure {
    let Wanted { from, name, .. } = wanted;
    match stopped {
        Stopped::Here(failure) => failure,
        Stopped::Moves => Failure::new(FailureKind::Other, format!("{from}:{name}: the transfer did not move on")),
        Stopped::Refused(refusal) => Failure::from(refusal).about(format!("{from}:{name}")),
        Stopped::WrongBytes => Failure::new(FailureKind::Integrity, format!("{from} sent bytes that are not {name}"))
            .hint("what was right is kept; try another source, or ask its owner to share it again"),
        Stopped::Violation(violation) => {
            Failure::new(FailureKind::Integrity, format!("{from} broke the protocol while sending {name}: {violation}"))
        }
        Stopped::Network(error) => interrupted(&error, from, name),
    }
}

fn interrupted(error: &TransportError, from: &PeerName, name: &FileName) -> Failure {
    let reason = match error {
        TransportError::TimedOut | TransportError::NoAnswer(_) => format!("{from} is not responding"),
        TransportError::Closed(code) | TransportError::Reset(code) => format!("{from} ended the transfer ({code})"),
        TransportError::BadFrame(_) | TransportError::Truncated => format!("{from} broke the protocol ({error})"),
        error => format!("the connection to {from} ended ({error})"),
    };
    Failure::new(FailureKind::Partial, format!("{name} is not complete: {reason}"))
        .hint("what arrived is kept: the same command goes on from there")
}
