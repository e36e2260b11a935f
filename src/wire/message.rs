//! Messages between people: the signed inner message, and the envelope that carries it through a directory.

use serde::{Deserialize, Serialize};

use super::ids::{FileDigest, FileName, FileSize, MessageId, PeerKey, PeerName, PrekeyId, Signature, UnixMillis};
use super::limits::{SKIPPED_MAX, TEXT_BYTES_MAX};

/// The version of envelopes, which outlive connections because they are stored.
pub const ENVELOPE_VERSION: u8 = 1;

/// A text that fits one message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Text(String);

/// A text that is empty or does not fit one message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a message has 1 to {TEXT_BYTES_MAX} bytes, not {0}")]
pub struct TextError(usize);

impl Text {
    /// Takes a text of 1 to 15,360 bytes.
    ///
    /// # Errors
    /// [`TextError`] when it is empty or longer.
    pub fn parse(text: &str) -> Result<Self, TextError> {
        if text.is_empty() || text.len() > TEXT_BYTES_MAX {
            Err(TextError(text.len()))
        } else {
            Ok(Self(text.to_owned()))
        }
    }

    /// The text as it was written: remove control characters before printing.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Text {
    type Error = TextError;
    fn try_from(text: String) -> Result<Self, TextError> {
        Self::parse(&text)
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
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
}

/// A file offered to one person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Its name at the sender.
    pub name: FileName,
    /// Its size.
    pub size: FileSize,
    /// Its BLAKE3 root: the file is asked for by it.
    pub digest: FileDigest,
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
    /// Numbers before this one that will not come: their messages were refused or expired.
    pub skipped: Skipped,
    /// When it was written, by the sender's clock.
    pub sent_at: UnixMillis,
    /// What it says.
    pub body: Body,
}

/// Sequence numbers that will not come, in rising order: the newest 64 at most.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<u64>", into = "Vec<u64>")]
pub struct Skipped(Vec<u64>);

/// More skipped numbers than one message may name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a message names at most {SKIPPED_MAX} numbers that will not come, not {0}")]
pub struct TooManySkipped(usize);

impl Skipped {
    /// Keeps the newest 64 of these numbers.
    #[must_use]
    pub fn newest(mut numbers: Vec<u64>) -> Self {
        numbers.sort_unstable();
        numbers.dedup();
        Self(numbers.split_off(numbers.len().saturating_sub(SKIPPED_MAX)))
    }

    /// The numbers, in rising order.
    #[must_use]
    pub fn numbers(&self) -> &[u64] {
        &self.0
    }
}

impl TryFrom<Vec<u64>> for Skipped {
    type Error = TooManySkipped;
    fn try_from(numbers: Vec<u64>) -> Result<Self, TooManySkipped> {
        if numbers.len() > SKIPPED_MAX { Err(TooManySkipped(numbers.len())) } else { Ok(Self::newest(numbers)) }
    }
}

impl From<Skipped> for Vec<u64> {
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
