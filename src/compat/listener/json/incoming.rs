//! A file that comes in chunks, in any order, some of them twice.

use std::collections::BTreeMap;

use crate::wire::limits::{LEGACY_CHUNK_CHARS, LEGACY_FILE_BYTES_MAX};

/// Chunks of one file: those of the largest, when each is full. Short ones make a smaller file.
const CHUNKS_MAX: usize = LEGACY_FILE_BYTES_MAX / LEGACY_CHUNK_CHARS + 1;

/// A file on its way in.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    chunks: BTreeMap<u32, String>,
    bytes: usize,
    last: Option<u32>,
}

/// What became of a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is kept, and others are missing.
    Kept,
    /// It was the last that was missing: this is the file.
    Complete(Vec<u8>),
    /// It belongs to no file that can be kept.
    Refused,
}

impl Incoming {
    /// Takes a chunk; of two with one number the first counts.
    pub(super) fn take(&mut self, chunk: u32, text: String, is_last: bool) -> Taken {
        let is_beyond = self.last.is_some_and(|last| chunk > last);
        let contradicts = is_last && self.chunks.last_key_value().is_some_and(|(highest, _)| *highest > chunk);
        if is_beyond || contradicts {
            return Taken::Refused;
        }
        if is_last {
            self.last = Some(chunk);
        }
        if !self.chunks.contains_key(&chunk) {
            if self.bytes + text.len() > LEGACY_FILE_BYTES_MAX || self.chunks.len() >= CHUNKS_MAX {
                return Taken::Refused;
            }
            self.bytes += text.len();
            self.chunks.insert(chunk, text);
        }
        let is_complete =
            self.last.is_some_and(|last| usize::try_from(last).is_ok_and(|last| self.chunks.len() > last));
        if is_complete {
            Taken::Complete(std::mem::take(&mut self.chunks).into_values().collect::<String>().into_bytes())
        } else {
            Taken::Kept
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_in_any_order_and_twice_are_the_file() {
        let mut incoming = Incoming::default();
        let mut take = |chunk, text: &str, is_last| incoming.take(chunk, text.to_owned(), is_last);
        assert_eq!(take(2, "c", true), Taken::Kept);
        assert_eq!(take(0, "a", false), Taken::Kept);
        assert_eq!(take(0, "x", false), Taken::Kept);
        assert_eq!(take(3, "d", false), Taken::Refused, "nothing comes after the last");
        assert_eq!(take(1, "ü", false), Taken::Complete("aüc".into()));
        assert_eq!(Incoming::default().take(0, String::new(), true), Taken::Complete(Vec::new()));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut incoming = Incoming::default();
        let refused = (0..u32::MAX).find(|chunk| incoming.take(*chunk, "x".repeat(4_096), false) == Taken::Refused);
        assert_eq!(refused, Some(4_096), "bytes");
        let mut incoming = Incoming::default();
        let refused = (0..u32::MAX).find(|chunk| incoming.take(*chunk, String::new(), false) == Taken::Refused);
        assert_eq!(refused.map(|count| usize::try_from(count).unwrap()), Some(CHUNKS_MAX), "chunks");
    }
}
