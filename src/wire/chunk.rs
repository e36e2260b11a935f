//! The 200-byte application chunk: one length byte, then 1 to 200 bytes of the file.
//!
//! ```text
//! stream   := chunk* ( END | REFUSAL frame )
//! chunk    := length (1..=200), then that many bytes
//! ```
//! All chunks but the last of a verification group carry 200 bytes, so both sides know every length beforehand, and
//! the chunk's number within its group is its offset / 200. Encoders take many chunks for each write and decoders
//! many for each read: one call for each chunk costs eight times as much (`cargo bench`).

/// Bytes of the file in a full chunk.
pub const CHUNK_BYTES: usize = 200;

/// Ends a range.
pub const END: u8 = 0;

/// Ends a range early: a frame with a `Refusal` follows.
pub const REFUSAL: u8 = 255;

/// A full chunk's length byte.
const FULL: u8 = 200;

/// Bytes of the file in one encoded batch: 640 full chunks. Each batch takes the lock of its connection and wakes who sends
/// it; with less there is more of that, with more the batch falls out of the processor's cache before it is sent.
pub const BATCH_BYTES: usize = 640 * CHUNK_BYTES;

/// How many bytes a payload takes on the stream, without an end marker.
#[must_use]
pub fn encoded_bytes(payload: usize) -> usize {
    payload + payload.div_ceil(CHUNK_BYTES)
}

/// Appends a payload as chunks: all full but the last.
///
/// Within a group every call but the last one takes a multiple of 200 bytes.
pub fn encode(payload: &[u8], out: &mut Vec<u8>) {
    out.reserve(encoded_bytes(payload.len()));
    let (full, rest) = payload.as_chunks::<CHUNK_BYTES>();
    for chunk in full {
        out.push(FULL);
        out.extend_from_slice(chunk);
    }
    if let (false, Ok(length)) = (rest.is_empty(), u8::try_from(rest.len())) {
        out.push(length);
        out.extend_from_slice(rest);
    }
}

/// Makes chunks of a payload where it is, all full but the last: what comes from a disk is copied once less than with [`encode`].
/// It takes [`encoded_bytes`] then.
pub fn encode_in_place(payload: &mut Vec<u8>) {
    let (full, rest) = (payload.len() / CHUNK_BYTES, payload.len() % CHUNK_BYTES);
    payload.resize(encoded_bytes(payload.len()), 0);
    let places = |chunk| (chunk * CHUNK_BYTES, chunk * (CHUNK_BYTES + 1));
    // From the last to the first: none is overwritten before it has moved.
    if let (Ok(length @ 1..), (from, to)) = (u8::try_from(rest), places(full)) {
        payload.copy_within(from..from + rest, to + 1);
        payload[to] = length;
    }
    for (from, to) in (0..full).rev().map(places) {
        payload.copy_within(from..from + CHUNK_BYTES, to + 1);
        payload[to] = FULL;
    }
}

/// The other side broke the chunk framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkViolation {
    /// A chunk whose length is not the one its place demands.
    #[error("a chunk of {found} bytes where one of {expected} belongs")]
    Length {
        /// The length byte that came.
        found: u8,
        /// The length that belongs there.
        expected: u8,
    },
    /// The range ended within a group.
    #[error("the range ended {missing} bytes too early")]
    EarlyEnd {
        /// Bytes of the group that are missing.
        missing: usize,
    },
    /// More bytes after the last group.
    #[error("bytes follow after the end of the range")]
    AfterEnd,
}

/// What a [`Decoder`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// All input was used and the group is not complete.
    NeedInput,
    /// The group is complete.
    GroupComplete,
    /// A refusal frame follows in the input.
    RefusalFollows,
}

/// Takes the length bytes out of a stream of chunks, one verification group after another.
///
/// ```text
/// expect_group(n) -> decode* -> GroupComplete -> expect_group(m) -> ... -> expect_end
/// ```
#[derive(Debug, Default)]
pub struct Decoder {
    /// Bytes of the group that have not come yet.
    group_left: usize,
    /// Bytes of a chunk that was cut by the end of the input.
    chunk_left: usize,
}

impl Decoder {
    /// Makes a decoder that expects a group of this many bytes next.
    pub fn expect_group(&mut self, bytes: usize) {
        self.group_left = bytes;
    }

    /// Decodes as much of the input as belongs to the group, and moves `input` past it.
    ///
    /// # Errors
    /// [`ChunkViolation`] when a length byte is not the one its place demands.
    pub fn decode(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<Step, ChunkViolation> {
        while self.group_left > 0 {
            if self.chunk_left == 0 {
                self.decode_full(input, out);
                if self.group_left == 0 {
                    break;
                }
                let Some((&length, rest)) = input.split_first() else { return Ok(Step::NeedInput) };
                *input = rest;
                match self.begin_chunk(length)? {
                    Begun::Chunk(bytes) => self.chunk_left = bytes,
                    Begun::Refusal => return Ok(Step::RefusalFollows),
                }
            }
            let take = self.chunk_left.min(input.len());
            let (payload, rest) = input.split_at(take);
            out.extend_from_slice(payload);
            *input = rest;
            self.chunk_left -= take;
            self.group_left -= take;
            if self.chunk_left > 0 {
                return Ok(Step::NeedInput);
            }
        }
        Ok(Step::GroupComplete)
    }

    /// Decodes the full chunks that are there as a whole, up to one that is not: of a length that the compiler knows they are
    /// copied in a third of the time.
    fn decode_full(&mut self, input: &mut &[u8], out: &mut Vec<u8>) {
        let (framed, _) = input.as_chunks::<{ CHUNK_BYTES + 1 }>();
        let before = self.group_left;
        for [length, payload @ ..] in framed.iter().take(before / CHUNK_BYTES) {
            if *length != FULL {
                break;
            }
            out.extend_from_slice(payload);
            self.group_left -= CHUNK_BYTES;
        }
        *input = &input[(before - self.group_left) / CHUNK_BYTES * (CHUNK_BYTES + 1)..];
    }

    /// Takes the end marker that must follow the last group. `None` when it has not come yet.
    ///
    /// # Errors
    /// [`ChunkViolation::AfterEnd`] when something else comes.
    pub fn expect_end(&self, input: &mut &[u8]) -> Result<Option<()>, ChunkViolation> {
        match **input {
            [] => Ok(None),
            [END] => {
                *input = &[];
                Ok(Some(()))
            }
            [..] => Err(ChunkViolation::AfterEnd),
        }
    }

    fn begin_chunk(&self, length: u8) -> Result<Begun, ChunkViolation> {
        let bytes = self.group_left.min(CHUNK_BYTES);
        let expected = u8::try_from(bytes).unwrap_or(FULL);
        match length {
            _ if length == expected => Ok(Begun::Chunk(bytes)),
            REFUSAL => Ok(Begun::Refusal),
            END => Err(ChunkViolation::EarlyEnd { missing: self.group_left }),
            found => Err(ChunkViolation::Length { found, expected }),
        }
    }
}

enum Begun {
    Chunk(usize),
    Refusal,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(count: usize) -> Vec<u8> {
        (0..count).map(|i| u8::try_from(i % 251).unwrap()).collect()
    }

    #[track_caller]
    fn check_round_trip(size: usize, cut: usize) {
        let payload = bytes(size);
        let mut stream = Vec::new();
        encode(&payload, &mut stream);
        assert_eq!(stream.len(), encoded_bytes(size));
        let mut decoder = Decoder::default();
        decoder.expect_group(size);
        let mut out = Vec::new();
        let mut last = Step::NeedInput;
        for part in stream.chunks(cut) {
            let mut input = part;
            last = decoder.decode(&mut input, &mut out).unwrap();
            assert!(input.is_empty());
        }
        assert_eq!(last, Step::GroupComplete);
        assert_eq!(out, payload);
    }

    #[test]
    fn chunks_read_back_however_the_stream_is_cut() {
        for size in [1, 199, 200, 201, 399, 400, 401, 64_000, 262_144] {
            for cut in [1, 2, 7, 200, 201, 202, 4_096, 300_000] {
                check_round_trip(size, cut);
            }
        }
    }

    #[test]
    fn chunks_are_the_same_where_the_payload_is() {
        for size in [0, 1, 199, 200, 201, 399, 400, 401, 64_000, 262_144] {
            let payload = bytes(size);
            let mut expected = Vec::new();
            encode(&payload, &mut expected);
            let mut coded = payload;
            encode_in_place(&mut coded);
            assert!(coded == expected, "{size} bytes");
        }
    }

    #[test]
    fn a_length_byte_out_of_place_is_a_violation() {
        let check = |group: usize, stream: &[u8], violation| {
            let mut decoder = Decoder::default();
            decoder.expect_group(group);
            assert_eq!(decoder.decode(&mut &*stream, &mut Vec::new()), Err(violation));
        };
        check(400, &[199], ChunkViolation::Length { found: 199, expected: 200 });
        check(50, &[51], ChunkViolation::Length { found: 51, expected: 50 });
        check(400, &[201], ChunkViolation::Length { found: 201, expected: 200 });
        check(400, &[END], ChunkViolation::EarlyEnd { missing: 400 });
    }

    #[test]
    fn a_refusal_may_come_instead_of_a_chunk() {
        let mut decoder = Decoder::default();
        decoder.expect_group(10);
        let mut input: &[u8] = &[REFUSAL, 1, 2, 3];
        assert_eq!(decoder.decode(&mut input, &mut Vec::new()), Ok(Step::RefusalFollows));
        assert_eq!(input, [1, 2, 3]);
    }

    #[test]
    fn nothing_may_follow_the_end() {
        let decoder = Decoder::default();
        assert_eq!(decoder.expect_end(&mut &[][..]), Ok(None));
        assert_eq!(decoder.expect_end(&mut &[END][..]), Ok(Some(())));
        assert_eq!(decoder.expect_end(&mut &[END, 1][..]), Err(ChunkViolation::AfterEnd));
        assert_eq!(decoder.expect_end(&mut &[7][..]), Err(ChunkViolation::AfterEnd));
    }
}
