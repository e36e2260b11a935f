//! One stream that brings a part of a file: the request, its answer, then chunks read as groups of payload bytes. Notices
//! when its link falls silent, and when there is a better one.

use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::context::Context;
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

/// A link over which nothing at all came for this long, or for three round trips, is silent: a transfer goes on over
/// another one, if there is one.
const SILENT_AFTER: Duration = Duration::from_millis(200);

/// After so many times that long, when there is no other link, one is made.
const SILENT_ALONE: u32 = 3;

/// Why a transfer stopped; each becomes a sentence that names the other side.
#[derive(Debug)]
pub(super) enum Stopped {
    /// There is a better link; so it goes on.
    Moves,
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

/// The link that a file stream uses, and where others are found.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) context: &'a Context,
    pub(super) link: &'a InUse,
    pub(super) digest: FileDigest,
}

impl Source<'_> {
    /// Waits for something from the other side. When nothing at all comes over the link, and there is another one, that
    /// one is better.
    async fn hear<T>(&self, heard: impl Future<Output = Result<T, TransportError>>) -> Result<T, Stopped> {
        let Self { context, link, digest } = *self;
        let mut silent = 0;
        let mut heard = pin!(heard);
        let deadline = Instant::now() + PROGRESS_DEADLINE;
        while Instant::now() < deadline {
            let before = link.connection.datagrams_received();
            let patience = SILENT_AFTER.max(link.connection.round_trip() * 3);
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
                link.note_silence(before);
                return Err(Stopped::Moves);
            }
            if silent >= SILENT_ALONE {
                context.links.restore(link, Purpose::Fetch { digest });
            }
        }
        Err(TransportError::NoAnswer(PROGRESS_DEADLINE).into())
    }
}

/// A file stream, read as groups of payload bytes.
pub(super) struct ChunkSource<'a> {
    source: Source<'a>,
    stream: Stream,
    decoder: Decoder,
    /// Bytes that came and are not decoded yet.
    input: Bytes,
    has_ended: bool,
}

impl Drop for ChunkSource<'_> {
    /// Tells the owner to stop: the link lives on, so nothing else does. Whether the rest is asked for over a better one.
    fn drop(&mut self) {
        let Source { context, link, .. } = self.source;
        if !self.has_ended {
            let moves = context.links.has_better(link);
            self.stream.abort(if moves { CloseCode::Duplicate } else { CloseCode::Cancelled });
        }
    }
}

impl<'a> ChunkSource<'a> {
    /// Asks for a part of the source's file, whose whole size the answer says.
    pub(super) async fn open(source: Source<'a>, part: FetchPart) -> Result<(Self, u64), Stopped> {
        let mut stream = source.link.connection.open_stream().await?;
        let request = PeerRequest::Fetch(Fetch { digest: source.digest, part });
        stream.write_frame(&request).await?;
        stream.finish();
        let answer = source.hear(stream.read_frame::<FetchAnswer>()).await?;
        let reply = answer.map_err(Stopped::Refused)?;
        let opened = Self { source, stream, decoder: Decoder::default(), input: Bytes::new(), has_ended: false };
        Ok((opened, reply.size.bytes()))
    }

    /// Appends the next group's bytes.
    pub(super) async fn next_group(&mut self, bytes: usize, out: &mut Vec<u8>) -> Result<(), Stopped> {
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
    pub(super) async fn end(&mut self) -> Result<(), Stopped> {
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
        match self.source.hear(self.stream.read()).await? {
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
