//! One stream that brings a part of a file: the request, its answer, then chunks read as groups of payload bytes. Notices
//! when its link falls silent, and when there is a better one.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Instant;

use bytes::{Buf as _, Bytes};
use tokio::task::coop::consume_budget;

use super::context::{CancelsWhenDropped, Context};
use super::failure::Failure;
use super::links::InUse;
use crate::storage::partial_file::ReceiveError;
use crate::transport::connection::TransportError;
use crate::transport::stream::Stream;
use crate::wire::chunk::{ChunkViolation, Decoder, Step};
use crate::wire::codec::{self, HEADER_BYTES};
use crate::wire::ids::FileDigest;
use crate::wire::limits::PROGRESS_DEADLINE;
use crate::wire::refusal::{CloseCode, Refusal};
use crate::wire::rendezvous::Purpose;
use crate::wire::transfer::{Fetch, FetchAnswer, FetchPart, PeerRequest};

/// After so many times that long, when there is no other link, one is made.
const SILENT_ALONE: u32 = 3;

/// Pieces that are taken from a stream at a time, one for each packet: of the largest packets somewhat more than a group.
const PIECES_MAX: usize = 64;

/// Why a transfer stopped; each becomes a sentence that names the other side.
#[derive(Debug)]
pub(super) enum Stopped {
    /// There is a better link; so it goes on.
    Moves,
    Network(TransportError),
    Refused(Refusal),
    Violation(ChunkViolation),
    WrongBytes,
    /// It is larger than whoever asked can hold.
    TooLarge {
        size: u64,
        bytes_max: u64,
    },
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

/// Runs work whose streams look at this: when it is dropped in the middle, nobody wants the rest.
pub(super) async fn cancelled_when_dropped<T>(is_cancelled: &Arc<AtomicBool>, work: impl Future<Output = T>) -> T {
    let work = pin!(work);
    // After the work, so that it is dropped before that is.
    let cancels = CancelsWhenDropped(is_cancelled.clone());
    let done = work.await;
    drop(cancels);
    done
}

/// The link that a file stream uses, and where others are found.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) context: &'a Context,
    pub(super) link: &'a InUse,
    pub(super) digest: FileDigest,
    /// For what a link is asked for when this one falls silent: the file, or the folder that it is in.
    pub(super) announced: FileDigest,
    /// Whether nobody wants the rest when a stream is left; else that is asked for elsewhere.
    pub(super) is_cancelled: &'a AtomicBool,
}

impl Source<'_> {
    /// Stops when there is a better link by now: for whoever has a moment at which nothing is lost by moving.
    pub(super) fn move_if_better(&self) -> Result<(), Stopped> {
        if self.context.links.has_better(self.link) { Err(Stopped::Moves) } else { Ok(()) }
    }

    /// Waits for something from the other side. When nothing at all comes over the link, and there is another one, a transfer
    /// goes on over that.
    async fn hear<T>(&self, heard: impl Future<Output = Result<T, TransportError>>) -> Result<T, Stopped> {
        let Self { context, link, announced, .. } = *self;
        let mut silent = 0;
        let mut heard = pin!(heard);
        // While bytes flow there is mostly something already: then nobody looks at clock and connection. Other transfers have
        // their turn all the same.
        consume_budget().await;
        if let Poll::Ready(heard) = poll_fn(|cx| Poll::Ready(heard.as_mut().poll(cx))).await {
            return Ok(heard?);
        }
        let deadline = Instant::now() + PROGRESS_DEADLINE;
        while Instant::now() < deadline {
            let before = link.connection.datagrams_received();
            let now = Instant::now();
            let patience = link.patience().over(link.connection.round_trip(), now).min(deadline - now);
            if let Ok(heard) = tokio::time::timeout(patience, &mut heard).await {
                return Ok(heard?);
            }
            if link.connection.datagrams_received() != before {
                silent = 0;
                continue;
            }
            silent += 1;
            if context.links.has_other(link) {
                tracing::debug!(name = %link.name, path = ?link.path, "silent");
                // A link that a better one has superseded may well be starved by that: it is still the way out when that breaks.
                if context.links.is_best(link) {
                    link.note_silence(before);
                }
                link.patience().left();
                return Err(Stopped::Moves);
            }
            if silent >= SILENT_ALONE {
                context.links.restore(link, Purpose::Fetch { digest: announced });
            }
        }
        Err(TransportError::NoAnswer(PROGRESS_DEADLINE).into())
    }
}

/// A file stream, read as groups of payload bytes.
pub(super) struct ChunkSource<'a> {
    source: Source<'a>,
    part: FetchPart,
    stream: Stream,
    decoder: Decoder,
    /// Bytes that came and are not decoded yet.
    input: Bytes,
    /// What came after these.
    waiting: VecDeque<Bytes>,
    has_ended: bool,
}

impl Drop for ChunkSource<'_> {
    /// Tells the owner to stop: the link lives on, so nothing else does. Whether the rest is asked for elsewhere.
    fn drop(&mut self) {
        if !self.has_ended {
            let is_cancelled = self.source.is_cancelled.load(Ordering::Relaxed);
            self.stream.abort(if is_cancelled { CloseCode::Cancelled } else { CloseCode::Duplicate });
        }
    }
}

impl<'a> ChunkSource<'a> {
    /// Asks for a part of the source's file, and takes its answer: the size of the whole file.
    pub(super) async fn open(source: Source<'a>, part: FetchPart) -> Result<(Self, u64), Stopped> {
        let mut asked = Self::ask(source, part).await?;
        let size = asked.answer().await?;
        Ok((asked, size))
    }

    /// Asks for a part of the source's file. The answer is to be taken before anything else.
    pub(super) async fn ask(source: Source<'a>, part: FetchPart) -> Result<Self, Stopped> {
        let mut stream = source.link.connection.open_stream().await?;
        let request = PeerRequest::Fetch(Fetch { digest: source.digest, part });
        stream.write_frame(&request).await?;
        stream.finish();
        let (decoder, input, waiting) = (Decoder::default(), Bytes::new(), VecDeque::with_capacity(PIECES_MAX));
        Ok(Self { source, part, stream, decoder, input, waiting, has_ended: false })
    }

    /// Takes the answer: the size of the whole file.
    pub(super) async fn answer(&mut self) -> Result<u64, Stopped> {
        let answer = self.source.hear(self.stream.read_frame::<FetchAnswer>()).await?;
        Ok(answer.map_err(Stopped::Refused)?.size.bytes())
    }

    /// Leaves what is still to come: it comes from elsewhere.
    pub(super) fn leave(mut self) {
        self.has_ended = true;
        self.stream.abort(CloseCode::Duplicate);
    }

    /// Appends the next group's bytes.
    pub(super) async fn next_group(&mut self, bytes: usize, out: &mut Vec<u8>) -> Result<(), Stopped> {
        // What is not read is not sent.
        self.source.context.limits.download.take(bytes as u64).await;
        self.decoder.expect_group(bytes);
        loop {
            let mut rest: &[u8] = &self.input;
            let before = out.len();
            let step = self.decoder.decode(&mut rest, out)?;
            // `tests/kill/run` adds these up.
            tracing::trace!(part = ?self.part, bytes = out.len() - before, "came");
            let used = self.input.len() - rest.len();
            self.input.advance(used);
            match step {
                Step::GroupComplete => return Ok(()),
                Step::RefusalFollows => return Err(self.refusal().await?),
                Step::NeedInput => self.read_more().await?,
            }
        }
    }

    /// Reads the end marker: nothing may follow it.
    pub(super) async fn end(&mut self) -> Result<(), Stopped> {
        loop {
            let mut rest: &[u8] = &self.input;
            if self.decoder.expect_end(&mut rest)?.is_some() {
                if !self.waiting.is_empty() {
                    return Err(ChunkViolation::AfterEnd.into());
                }
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
        if self.waiting.is_empty() {
            let mut pieces = [const { Bytes::new() }; PIECES_MAX];
            let asked = Instant::now();
            let count = self.source.hear(self.stream.read_pieces(&mut pieces)).await?;
            self.source.link.patience().heard(asked.elapsed(), Instant::now());
            self.waiting.extend(pieces.into_iter().take(count.unwrap_or(0)));
        }
        self.input = self.waiting.pop_front().ok_or(TransportError::Truncated)?;
        Ok(())
    }
}

/// The announced length of a refusal frame; 0 while its header has not come.
fn refusal_bytes(input: &[u8]) -> Result<usize, Stopped> {
    match input.first_chunk::<HEADER_BYTES>() {
        Some(header) => Ok(codec::body_bytes(*header).map_err(TransportError::from)?),
        None => Ok(0),
    }
}
