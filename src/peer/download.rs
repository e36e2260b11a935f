//! Fetches a file from its owner: the hash tree first, then the missing groups in 200-byte chunks, each group verified
//! before it is written. An interrupted transfer goes on from what is in the part file.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::context::Context;
use super::event::{Activity, Event};
use super::failure::{Failure, FailureKind};
use super::links::{InUse, Link};
use super::peer_links;
use super::progress::Progress;
use crate::protocol::groups::Groups;
use crate::seal::digest::{GroupHasher, HashTree};
use crate::storage::partial_file::{Collision, PartialFile, ReceiveError};
use crate::transport::connection::{Connection, TransportError};
use crate::transport::stream::Stream;
use crate::wire::chunk::{ChunkViolation, Decoder, Step};
use crate::wire::codec::{self, HEADER_BYTES};
use crate::wire::ids::{FileDigest, FileName, PeerKey, PeerName};
use crate::wire::limits::PROGRESS_DEADLINE;
use crate::wire::refusal::{CloseCode, Refusal};
use crate::wire::transfer::{
    Fetch, FetchAnswer, FetchPart, GROUP_BYTES, PeerRequest, ReceivedAnswer, group_bytes, group_count, tree_bytes,
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

/// Why a transfer stopped; each becomes a sentence that names the other side.
#[derive(Debug)]
enum Stopped {
    Network(TransportError),
    Refused(Refusal),
    Violation(ChunkViolation),
    WrongBytes,
    Here(Failure),
}

impl From<TransportError> for Stopped {
    fn from(error: TransportError) -> Self {
        Self::Network(error)
    }
}

impl From<ChunkViolation> for Stopped {
    fn from(violation: ChunkViolation) -> Self {
        Self::Violation(violation)
    }
}

impl From<ReceiveError> for Stopped {
    fn from(error: ReceiveError) -> Self {
        Self::Here(error.into())
    }
}

/// A fetch under way.
struct Transfer {
    wanted: Wanted,
    partial: PartialFile,
    rows: mpsc::Sender<Event>,
}

/// Fetches a file over a link to its owner; progress goes to `rows`. The last word is [`Event::Received`].
pub(super) async fn fetch(context: &Arc<Context>, wanted: Wanted, rows: mpsc::Sender<Event>) -> Result<Event, Failure> {
    let started = Instant::now();
    let begin = async move {
        let partial = PartialFile::open(&wanted.folder, &wanted.name, wanted.size, wanted.collision)?;
        Ok::<_, Failure>(Transfer { wanted, partial, rows })
    };
    let transfer = context.on_transfer_thread(begin).await??;
    let (link, transfer, resumed) = connect_and_receive(context, transfer).await?;
    let Transfer { wanted, partial, .. } = transfer;
    let path = context.on_transfer_thread(async move { partial.complete() }).await??;
    let received = PeerRequest::Received { digest: wanted.digest };
    let told: Result<ReceivedAnswer, _> = link.connection.request(&received).await;
    if !matches!(told, Ok(Ok(()))) {
        tracing::info!(from = %wanted.from, ?told, "the sender could not be told that the file is complete");
    }
    Ok(Event::Received {
        from: wanted.from,
        name: wanted.name,
        path,
        size: wanted.size,
        digest: wanted.digest,
        resumed,
        millis: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

/// Moves the missing bytes, over another link when the first one turns out to be gone. Says over which one, and how many
/// bytes were here before.
async fn connect_and_receive(context: &Context, mut transfer: Transfer) -> Result<(InUse, Transfer, u64), Failure> {
    let mut may_dial_again = true;
    loop {
        let opened = peer_links::open(context, &transfer.wanted.from, transfer.wanted.key).await;
        let (link, is_new) = match opened {
            Ok(opened) => opened,
            Err(failure) => return give_up(context, transfer, failure).await,
        };
        let work = async move {
            let received = receive(&link, &transfer).await;
            (link, transfer, received)
        };
        let (link, returned, received) = context.on_transfer_thread(work).await?;
        transfer = returned;
        match received {
            Ok(resumed) => return Ok((link, transfer, resumed)),
            Err(Stopped::Network(error)) if may_dial_again && is_gone(&error, is_new) => {
                may_dial_again = false;
                link.replace();
            }
            Err(stopped) => {
                let failure = failure_of(stopped, &transfer.wanted);
                return give_up(context, transfer, failure).await;
            }
        }
    }
}

async fn give_up<T>(context: &Context, transfer: Transfer, failure: Failure) -> Result<T, Failure> {
    context.on_transfer_thread(async move { transfer.partial.discard_if_empty() }).await?;
    Err(failure)
}

/// Whether a link has ended for another reason than this transfer: it was there before and nobody answers, or the other
/// side saw nobody use it, for instance while we looked at what an earlier transfer had left.
fn is_gone(error: &TransportError, is_new: bool) -> bool {
    match error {
        TransportError::Closed(CloseCode::Done) => true,
        TransportError::Closed(_)
        | TransportError::ClosedHere
        | TransportError::TimedOut
        | TransportError::NoAnswer(_)
        | TransportError::Restarted => !is_new,
        TransportError::Bind { .. }
        | TransportError::IdentityMismatch { .. }
        | TransportError::NotAnnounced
        | TransportError::Handshake(_)
        | TransportError::Tls(_)
        | TransportError::Refused
        | TransportError::Reset(_)
        | TransportError::BadFrame(_)
        | TransportError::Truncated => false,
    }
}

/// Receives what is missing. Says how many bytes an earlier transfer had left.
async fn receive(link: &Link, Transfer { wanted, partial, rows }: &Transfer) -> Result<u64, Stopped> {
    let connection = &link.connection;
    let _turn = link.fetches.acquire().await;
    let tell = |event| {
        // A face that is behind misses a step of the bar, not the end.
        if rows.try_send(event).is_err() {
            tracing::trace!("a progress event was dropped");
        }
    };
    let tree = fetch_tree(connection, wanted).await?;
    let mut groups = Groups::none_of(group_count(wanted.size));
    let mut checking = Progress::new(Activity::Checking, wanted.name.as_str(), None, wanted.size, tell);
    for group in partial.groups_here(&tree, &mut |done| checking.reach(done))? {
        groups.mark(group);
    }
    let resumed = wanted.size - missing_bytes(&groups, wanted.size);
    let mut done = resumed;
    let mut progress = Progress::new(Activity::Receiving, wanted.name.as_str(), Some(&wanted.from), wanted.size, tell);
    let mut buffer = Vec::new();
    while let Some((first, count)) = groups.next_missing_run() {
        let part = FetchPart::Groups { first, count };
        let mut source = ChunkSource::open(connection, wanted, part).await?;
        for group in first..first + count {
            receive_group(&mut source, wanted.size, group, &tree, partial, &mut buffer).await?;
            groups.mark(group);
            done += group_bytes(wanted.size, group);
            progress.reach(done);
        }
        source.end().await?;
    }
    Ok(resumed)
}

fn missing_bytes(groups: &Groups, size: u64) -> u64 {
    (0..group_count(size)).filter(|group| !groups.is_here(*group)).map(|group| group_bytes(size, group)).sum()
}

/// Fetches the hashes of all groups and proves them against the file's digest.
async fn fetch_tree(connection: &Connection, wanted: &Wanted) -> Result<HashTree, Stopped> {
    let bytes = usize::try_from(tree_bytes(wanted.size)).unwrap_or(usize::MAX);
    let mut hashes = Vec::new();
    if bytes > 0 {
        let mut source = ChunkSource::open(connection, wanted, FetchPart::Tree).await?;
        source.next_group(bytes, &mut hashes).await?;
        source.end().await?;
    }
    HashTree::from_bytes(wanted.size, &hashes, &wanted.digest).map_err(|_| Stopped::WrongBytes)
}

/// Receives a group, and writes it once it is proven: BLAKE3 and the disk take one large piece at a fraction of the cost
/// of many small ones, and nothing wrong gets on the disk.
async fn receive_group(
    source: &mut ChunkSource,
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

/// A file stream, read as groups of payload bytes.
struct ChunkSource {
    stream: Stream,
    decoder: Decoder,
    /// Bytes that came and are not decoded yet.
    input: Bytes,
    has_ended: bool,
}

impl Drop for ChunkSource {
    /// Tells the owner to stop: the link lives on, so nothing else does.
    fn drop(&mut self) {
        if !self.has_ended {
            self.stream.abort(CloseCode::Cancelled);
        }
    }
}

impl ChunkSource {
    async fn open(connection: &Connection, wanted: &Wanted, part: FetchPart) -> Result<Self, Stopped> {
        let mut stream = connection.open_stream().await?;
        let request = PeerRequest::Fetch(Fetch { digest: wanted.digest, part });
        stream.write_frame(&request).await?;
        stream.finish();
        let answer = tokio::time::timeout(PROGRESS_DEADLINE, stream.read_frame::<FetchAnswer>()).await;
        let answer = answer.map_err(|_| TransportError::NoAnswer(PROGRESS_DEADLINE))??;
        match answer {
            Ok(reply) if reply.size.bytes() == wanted.size => {
                Ok(Self { stream, decoder: Decoder::default(), input: Bytes::new(), has_ended: false })
            }
            Ok(_) => Err(Stopped::WrongBytes),
            Err(refusal) => Err(Stopped::Refused(refusal)),
        }
    }

    /// Appends the next group's bytes.
    async fn next_group(&mut self, bytes: usize, out: &mut Vec<u8>) -> Result<(), Stopped> {
        self.decoder.expect_group(bytes);
        loop {
            let mut rest: &[u8] = &self.input;
            let step = self.decoder.decode(&mut rest, out)?;
            let used = self.input.len() - rest.len();
            self.input = self.input.split_off(used);
            match step {
                Step::GroupComplete => return Ok(()),
                Step::RefusalFollows => return Err(self.refusal().await?),
                Step::NeedInput => self.read_more().await?,
            }
        }
    }

    /// Reads the end marker: nothing may follow it.
    async fn end(&mut self) -> Result<(), Stopped> {
        loop {
            let mut rest: &[u8] = &self.input;
            if self.decoder.expect_end(&mut rest)?.is_some() {
                return match self.stream.expect_end().await {
                    Err(TransportError::BadFrame(_)) => Err(ChunkViolation::AfterEnd.into()),
                    ended => {
                        self.has_ended = true;
                        Ok(ended?)
                    }
                };
            }
            self.read_more().await?;
        }
    }

    /// Reads the refusal that ends a range early.
    async fn refusal(&mut self) -> Result<Stopped, Stopped> {
        while self.input.len() < HEADER_BYTES + refusal_bytes(&self.input)? {
            let before = std::mem::take(&mut self.input);
            self.read_more().await?;
            self.input = [before, self.input.split_off(0)].concat().into();
        }
        let refusal = codec::decode(&self.input[HEADER_BYTES..]).map_err(TransportError::from)?;
        Ok(Stopped::Refused(refusal))
    }

    async fn read_more(&mut self) -> Result<(), Stopped> {
        let read = tokio::time::timeout(PROGRESS_DEADLINE, self.stream.read()).await;
        match read.map_err(|_| TransportError::NoAnswer(PROGRESS_DEADLINE))?? {
            Some(bytes) => {
                self.input = bytes;
                Ok(())
            }
            None => Err(TransportError::Truncated.into()),
        }
    }
}

/// The announced length of a refusal frame; 0 while its header has not come.
fn refusal_bytes(input: &[u8]) -> Result<usize, Stopped> {
    match input.first_chunk::<HEADER_BYTES>() {
        Some(header) => Ok(codec::body_bytes(*header).map_err(TransportError::from)?),
        None => Ok(0),
    }
}

fn failure_of(stopped: Stopped, wanted: &Wanted) -> Failure {
    let Wanted { from, name, .. } = wanted;
    match stopped {
        Stopped::Here(failure) => failure,
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
