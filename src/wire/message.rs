//! Messages between people: the signed inner message, and the envelope that carries it through a directory.

use serde::{Deserialize, Serialize};

use super::catalog::EntryKind;
use super::ids::{FileDigest, FileName, FileSize, MessageId, PeerKey, PeerName, PrekeyId, Signature, UnixMillis};
use super::limits::{SEQUENCE_MAX, SKIPPED_RUNS_MAX, TEXT_BYTES_MAX};

/// The version of envelopes, which outlive connections because they are stored.
pub const ENVELOPE_VERSION: u8 = 1;

/// A text that is empty or does not fit one message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a message has 1 to {TEXT_BYTES_MAX} bytes, not {0}")]
pub struct TextError(usize);

text_type! {
    /// A text that fits one message: 1 to 15,360 bytes.
    Text, TextError, text => {
        let fits = (1..=TEXT_BYTES_MAX).contains(&text.len());
        if fits { Ok(text.to_owned()) } else { Err(TextError(text.len())) }
    }
}

/// What one person tells another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// A line of chat.
    Text(Text),
    /// A file the sender would like the recipient to fetch.
    Offer(Offer),
    /// The recipient of an offer does not want it.
    OfferDeclined {
        /// The offer's message id.
        offer: MessageId,
        /// The offered file's name.
        name: FileName,
    },
    /// Whoever made an offer takes it back.
    OfferWithdrawn {
        /// The offer's message id.
        offer: MessageId,
        /// The offered file's name.
        name: FileName,
    },
}

/// A file or folder offered to one person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Its name at the sender.
    pub name: FileName,
    /// Its size: of a folder, that of all files in it.
    pub size: FileSize,
    /// Its BLAKE3 root, by which it is asked for: of a folder, that of its [`super::manifest::Manifest`].
    pub digest: FileDigest,
    /// What it is.
    pub kind: EntryKind,
}

/// The message proper, as its sender signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InnerMessage {
    /// Who wrote it.
    pub sender: PeerKey,
    /// For whom.
    pub recipient: PeerKey,
    /// The same for every attempt to deliver it.
    pub id: MessageId,
    /// 1, 2, 3 ... for each (sender, recipient).
    pub sequence: u64,
    /// Runs of numbers before this one that will not come: their messages were refused or expired.
    pub skipped: Skipped,
    /// When it was written, by the sender's clock.
    pub sent_at: UnixMillis,
    /// What it says.
    pub body: Body,
}

/// First and last of numbers that follow each other.
pub type Run = (u64, u64);

/// Sequence numbers that will not come, as runs in rising order that do not touch: the newest 64 at most. What is done
/// with it costs as much as it has runs, however long they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Run>", into = "Vec<Run>")]
pub struct Skipped(Vec<Run>);

/// Runs of skipped numbers that no honest sender names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SkippedError {
    /// Too many.
    #[error("a message names at most {SKIPPED_RUNS_MAX} runs of numbers that will not come, not {0}")]
    TooMany(usize),
    /// Not numbers of messages, or not apart and in rising order.
    #[error("{0} to {1} is no run of numbers, or not above the run before it")]
    Run(u64, u64),
}

impl Skipped {
    /// The newest 64 runs of these numbers, as tests name them.
    #[cfg(test)]
    pub(crate) fn newest(numbers: Vec<u64>) -> Self {
        Self::newest_runs(numbers.into_iter().map(|number| (number, number)).collect())
    }

    /// The newest 64 runs of the numbers in these, which may be in any order and overlap.
    #[must_use]
    pub fn newest_runs(mut runs: Vec<Run>) -> Self {
        runs.retain_mut(|(first, last)| {
            (*first, *last) = ((*first).max(1), (*last).min(SEQUENCE_MAX));
            first <= last
        });
        runs.sort_unstable();
        runs.dedup_by(|(first, last), before| {
            let touches = *first <= before.1 + 1;
            if touches {
                before.1 = before.1.max(*last);
            }
            touches
        });
        Self(runs.split_off(runs.len().saturating_sub(SKIPPED_RUNS_MAX)))
    }

    /// The newest runs of numbers that are read downwards, as far as needed: 64, or half as many of numbers that take
    /// nine bytes, so that they and the longest text fit an envelope.
    ///
    /// # Errors
    /// The first that reading them gives.
    pub fn of_falling<E>(numbers: impl IntoIterator<Item = Result<u64, E>>) -> Result<Self, E> {
        let mut runs: Vec<Run> = Vec::new();
        for number in numbers {
            let number = number?;
            let is_long = runs.first().is_some_and(|&(_, newest)| newest > u32::MAX.into());
            let most = if is_long { SKIPPED_RUNS_MAX / 2 } else { SKIPPED_RUNS_MAX };
            let is_full = runs.len() == most;
            match runs.last_mut() {
                Some((first, _)) if number.saturating_add(1) >= *first => *first = number.min(*first),
                _ if is_full => break,
                _ => runs.push((number, number)),
            }
        }
        Ok(Self::newest_runs(runs))
    }

    /// The runs, in rising order.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.0
    }
}

impl TryFrom<Vec<Run>> for Skipped {
    type Error = SkippedError;
    fn try_from(runs: Vec<Run>) -> Result<Self, SkippedError> {
        if runs.len() > SKIPPED_RUNS_MAX {
            return Err(SkippedError::TooMany(runs.len()));
        }
        let mut lowest = 1;
        for &(first, last) in &runs {
            if first < lowest || last < first || last > SEQUENCE_MAX {
                return Err(SkippedError::Run(first, last));
            }
            // At least one number that is not named lies between two runs.
            lowest = last + 2;
        }
        Ok(Self(runs))
    }
}

impl From<Skipped> for Vec<Run> {
    fn from(skipped: Skipped) -> Self {
        skipped.0
    }
}

/// An encoded [`InnerMessage`] and its sender's signature over it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedMessage {
    /// The encoded message, kept as the bytes that were signed.
    #[serde(with = "serde_bytes")]
    pub message: Vec<u8>,
    /// By the sender's identity key.
    pub signature: Signature,
}

/// What a directory needs to know of an envelope; authenticated by the seal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvelopeHeader {
    /// [`ENVELOPE_VERSION`].
    pub version: u8,
    /// Who sealed it.
    pub sender: PeerKey,
    /// For whom.
    pub recipient: PeerKey,
    /// The message's id.
    pub id: MessageId,
    /// The prekey it is sealed to.
    pub prekey: PrekeyId,
}

/// A sealed message: readable by the recipient only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// In the clear, and the additional authenticated data of the seal.
    pub header: EnvelopeHeader,
    /// The encapsulated key of HPKE (RFC 9180) with X-Wing: 1,120 bytes.
    #[serde(with = "serde_bytes")]
    pub encapsulated: Vec<u8>,
    /// The padded [`SignedMessage`], sealed.
    #[serde(with = "serde_bytes")]
    pub sealed: Vec<u8>,
}

/// An envelope on its way from the directory to its recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The account whose key the sender's key is, as the directory says.
    pub from: PeerName,
    /// The envelope as the sender sealed it.
    pub envelope: Envelope,
}

/// What a recipient says of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ReceiptKind {
    /// It cannot be opened here: seal it again, under the same id.
    CannotOpen,
    /// It is on the recipient's disk.
    Delivered,
    /// It was on the recipient's screen.
    Read,
}

/// What a recipient signs of a message. Never sealed, never receipted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Whose receipt it is: the message's recipient.
    pub by: PeerKey,
    /// For whom: the message's sender.
    pub to: PeerKey,
    /// The message.
    pub id: MessageId,
    /// Its number; 0 when it cannot be opened.
    pub sequence: u64,
    /// The highest number that ever came from that sender, so that one who was restored from a backup goes on above it.
    pub highest: u64,
    /// What is said.
    pub kind: ReceiptKind,
    /// When, by the recipient's clock.
    pub at: UnixMillis,
}

/// A [`Receipt`] and its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedReceipt {
    /// What is said.
    pub receipt: Receipt,
    /// By [`Receipt::by`].
    pub signature: Signature,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::codec;

    fn decoded(runs: &[Run]) -> Option<Vec<Run>> {
        let skipped: Option<Skipped> = codec::decode(&codec::encode(&runs.to_vec()).unwrap()).ok();
        skipped.map(Vec::from)
    }

    #[test]
    fn only_runs_that_an_honest_sender_names_are_decoded() {
        let all = (1..=64).map(|number| (2 * number, 2 * number)).collect::<Vec<Run>>();
        for honest in [&[][..], &[(1, SEQUENCE_MAX)], &[(1, 1), (3, 9)], &all] {
            assert_eq!(decoded(honest).as_deref(), Some(honest));
        }
        let too_many: Vec<Run> = (1..=65).map(|number| (2 * number, 2 * number)).collect();
        let hostile: [&[Run]; 9] = [
            &[(0, 1)],
            &[(0, 0)],
            &[(5, 4)],
            &[(1, SEQUENCE_MAX + 1)],
            &[(1, u64::MAX)],
            &[(1, 5), (5, 9)],
            &[(1, 5), (6, 9)],
            &[(7, 9), (1, 2)],
            &too_many,
        ];
        for hostile in hostile {
            assert_eq!(decoded(hostile), None, "{hostile:?}");
        }
    }

    #[test]
    fn runs_that_touch_or_overlap_become_one_and_the_newest_stay() {
        let runs = vec![(7, 9), (1, 2), (3, 3), (8, 8), (0, 0), (5, 4), (12, u64::MAX)];
        assert_eq!(Skipped::newest_runs(runs).runs(), [(1, 3), (7, 9), (12, SEQUENCE_MAX)]);
        let apart = Skipped::newest((1..=100).map(|number| 2 * number).collect());
        assert_eq!((apart.runs().len(), apart.runs()[0], apart.runs()[63]), (64, (74, 74), (200, 200)));
        let all = Skipped::newest_runs(vec![(1, 1 << 48), (1, 1 << 47), (1, 1 << 48)]);
        assert_eq!(all.runs(), [(1, 1 << 48)]);
    }

    #[test]
    fn no_more_is_read_than_is_named() {
        let mut read = 0;
        let mut falling = |step: u64, from: u64| {
            read = 0;
            let numbers = (0..1_000).map(|place| Ok::<_, ()>(from - step * place)).inspect(|_| read += 1);
            (Skipped::of_falling(numbers).unwrap(), read)
        };
        let (together, read) = falling(1, 1_500);
        assert_eq!((together.runs(), read), (&[(501, 1_500)][..], 1_000));
        let (apart, read) = falling(2, 3_000);
        assert_eq!((apart.runs().len(), apart.runs()[63], read), (64, (3_000, 3_000), 65));
        let (long, read) = falling(2, SEQUENCE_MAX);
        assert_eq!((long.runs().len(), read), (32, 33));
        let failing = [Ok(9), Err("broken")];
        assert_eq!(Skipped::of_falling(failing), Err("broken"));
    }
}
