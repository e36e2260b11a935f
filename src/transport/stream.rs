//! A bidirectional stream: frames for control, batches of chunks for files.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::connection::TransportError;
use super::endpoint::quinn_code;
use crate::wire::codec::{self, CodecError, HEADER_BYTES};
use crate::wire::limits::REQUEST_DEADLINE;
use crate::wire::refusal::CloseCode;

/// File streams go behind control streams, which have priority 0.
const FILE_PRIORITY: i32 = -1;

/// Most bytes taken from a stream in one read: a batch of chunks.
const READ_BYTES_MAX: usize = 128 * 1024;

/// Both directions of one stream.
#[derive(Debug)]
pub struct Stream {
    send: quinn::SendStream,
    receive: quinn::RecvStream,
}

impl Stream {
    pub(super) fn new(send: quinn::SendStream, receive: quinn::RecvStream) -> Self {
        Self { send, receive }
    }

    /// Writes one frame.
    ///
    /// # Errors
    /// [`TransportError`] when the value does not fit a frame, or whatever ended stream or connection.
    pub async fn write_frame<T: Serialize + Sync>(&mut self, value: &T) -> Result<(), TransportError> {
        self.write(codec::encode_frame(value)?.into()).await
    }

    /// Reads one frame; its length is checked before anything is allocated for it.
    ///
    /// # Errors
    /// [`TransportError::BadFrame`] or [`TransportError::Truncated`], or whatever ended stream or connection.
    pub async fn read_frame<T: DeserializeOwned>(&mut self) -> Result<T, TransportError> {
        let mut header = [0; HEADER_BYTES];
        self.receive.read_exact(&mut header).await.map_err(read_exact_error)?;
        let bytes = codec::body_bytes(header)?;
        let mut body = vec![0; bytes];
        self.receive.read_exact(&mut body).await.map_err(read_exact_error)?;
        Ok(codec::decode(&body)?)
    }

    /// Reads the one frame that the other side's direction consists of, up to its end. Takes no more of it than a frame with
    /// a body of this length.
    ///
    /// # Errors
    /// As [`Self::read_frame`] and [`Self::expect_end`].
    pub async fn read_only_frame<T: DeserializeOwned>(&mut self, bytes_max: usize) -> Result<T, TransportError> {
        let whole = |frame: &[u8]| codec::decode_frame(frame)?.ok_or(TransportError::Truncated);
        let first = self.read().await?.ok_or(TransportError::Truncated)?;
        // Mostly all of it has come in one packet, and is not copied.
        let Some(second) = self.read_more(&first, bytes_max).await? else { return whole(&first) };
        let mut frame = [first, second].concat();
        while let Some(more) = self.read_more(&frame, bytes_max).await? {
            frame.extend_from_slice(&more);
        }
        whole(&frame)
    }

    /// What follows in a frame; checks first what is there already.
    async fn read_more(&mut self, frame: &[u8], bytes_max: usize) -> Result<Option<Bytes>, TransportError> {
        if let Some(header) = frame.first_chunk() {
            let bytes = codec::body_bytes(*header)?;
            if bytes > bytes_max {
                return Err(CodecError::TooLong { bytes }.into());
            }
            if let Some(more @ 1..) = frame.len().checked_sub(HEADER_BYTES + bytes) {
                return Err(CodecError::Trailing(more).into());
            }
        }
        self.read().await
    }

    /// Waits for the end of the other side's direction: nothing may follow.
    ///
    /// # Errors
    /// [`TransportError::BadFrame`] when something does.
    pub async fn expect_end(&mut self) -> Result<(), TransportError> {
        match self.read().await? {
            None => Ok(()),
            Some(more) => Err(CodecError::Trailing(more.len()).into()),
        }
    }

    /// Writes a batch of bytes without copying it.
    ///
    /// # Errors
    /// Whatever ended stream or connection.
    pub async fn write(&mut self, batch: Bytes) -> Result<(), TransportError> {
        self.send.write_chunk(batch).await.map_err(write_error)
    }

    /// Reads whatever has come, 128 KiB at most. `None` at the end of the stream.
    ///
    /// # Errors
    /// Whatever ended stream or connection.
    pub async fn read(&mut self) -> Result<Option<Bytes>, TransportError> {
        let chunk = self.receive.read_chunk(READ_BYTES_MAX, true).await.map_err(read_error)?;
        Ok(chunk.map(|chunk| chunk.bytes))
    }

    /// Takes what has come, in at most so many pieces: one lock of the connection for many packets. Says how many there
    /// are; `None` at the end of the stream.
    ///
    /// # Errors
    /// Whatever ended stream or connection.
    pub async fn read_pieces(&mut self, pieces: &mut [Bytes]) -> Result<Option<usize>, TransportError> {
        self.receive.read_chunks(pieces).await.map_err(read_error)
    }

    /// Ends this side's direction.
    pub fn finish(&mut self) {
        // It fails only when the other side has stopped or reset the stream already: then there is nothing to end.
        if self.send.finish().is_err() {
            tracing::trace!("finished a stream that had ended");
        }
    }

    /// Writes the one answer to a request, and ends the stream. Gives up after 15 s: whoever asked is gone then.
    pub async fn answer<T: Serialize + Sync>(mut self, answer: &T) {
        let exchange = async {
            self.write_frame(answer).await?;
            self.finish();
            self.wait_sent().await;
            Ok::<_, TransportError>(())
        };
        match tokio::time::timeout(REQUEST_DEADLINE, exchange).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "a request could not be answered");
                self.abort(CloseCode::NoProgress);
            }
            Err(_) => self.abort(CloseCode::NoProgress),
        }
    }

    /// Waits until the other side's QUIC has everything, or has stopped listening.
    pub async fn wait_sent(&mut self) {
        if let Err(error) = self.send.stopped().await {
            tracing::trace!(%error, "the connection ended before the stream");
        }
    }

    /// Ends both directions at once with a code.
    pub fn abort(&mut self, code: CloseCode) {
        let code = quinn_code(code);
        let (reset, stopped) = (self.send.reset(code), self.receive.stop(code));
        tracing::trace!(?reset, ?stopped, "aborted a stream");
    }

    /// Lets control streams go first.
    pub fn yield_to_control(&self) {
        if self.send.set_priority(FILE_PRIORITY).is_err() {
            tracing::trace!("a stream ended before its priority was set");
        }
    }
}

fn write_error(error: quinn::WriteError) -> TransportError {
    match error {
        quinn::WriteError::Stopped(code) => TransportError::Reset(CloseCode::from_number(code.into_inner())),
        quinn::WriteError::ConnectionLost(error) => error.into(),
        quinn::WriteError::ClosedStream | quinn::WriteError::ZeroRttRejected => TransportError::ClosedHere,
    }
}

fn read_error(error: quinn::ReadError) -> TransportError {
    match error {
        quinn::ReadError::Reset(code) => TransportError::Reset(CloseCode::from_number(code.into_inner())),
        quinn::ReadError::ConnectionLost(error) => error.into(),
        quinn::ReadError::ClosedStream | quinn::ReadError::IllegalOrderedRead | quinn::ReadError::ZeroRttRejected => {
            TransportError::ClosedHere
        }
    }
}

fn read_exact_error(error: quinn::ReadExactError) -> TransportError {
    match error {
        quinn::ReadExactError::FinishedEarly(_) => TransportError::Truncated,
        quinn::ReadExactError::ReadError(error) => read_error(error),
    }
}
