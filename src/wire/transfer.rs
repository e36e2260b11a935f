//! Between two peers: asking for ranges of a file, telling that it arrived, and messages with their receipts.

use serde::{Deserialize, Serialize};

use super::ids::{FileDigest, FileSize, MessageId};
use super::message::{SignedMessage, SignedReceipt};
use super::people::Exclusive;
use super::profile::{ProfileReply, ProfileRequest};
use super::refusal::Refusal;

/// The ALPN of a connection between two peers.
pub const PEER_ALPN: &[u8] = b"qchat-peer/1";

/// Bytes of a verification group: BLAKE3 subtrees of this size are proven one by one.
pub const GROUP_BYTES: u64 = 256 * 1024;

/// Bytes of one hash in the tree.
pub const GROUP_HASH_BYTES: u64 = 32;

/// The first frame of every stream between peers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerRequest {
    /// Of the connections that a dial led to, this is the one to use; only the side with the smaller key says so, in the
    /// first stream of a direct connection. Answer: a [`ReceivedAnswer`].
    Nominate,
    /// Asks for bytes. Answer: a [`FetchAnswer`], then chunks.
    Fetch(Fetch),
    /// Tells the owner that the file is complete, verified and on disk. Answer: a [`ReceivedAnswer`].
    Received {
        /// Which file.
        digest: FileDigest,
        /// The offer that this ends: others may be of the same bytes.
        offer: Option<MessageId>,
    },
    /// A message of the side that opens the stream. Answer: a [`MessageAnswer`], once it is on disk.
    Message(Box<SignedMessage>),
    /// What became of messages, 64 at most. Answer: a [`ReceivedAnswer`].
    Receipts(Vec<SignedReceipt>),
    /// Asks for a profile. Answer: a [`ProfileAnswer`].
    Profile(ProfileRequest),
    /// Begins or ends an exclusive conversation. Answer: a [`ReceivedAnswer`].
    Exclusive(Exclusive),
}

/// Which bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    /// Which file.
    pub digest: FileDigest,
    /// Which part of it.
    pub part: FetchPart,
}

/// A part of a file that a stream can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FetchPart {
    /// The hashes of all groups in order, 32 bytes each; for a file of one group there is nothing to fetch.
    Tree,
    /// A run of verification groups.
    Groups {
        /// The first one, counted from 0.
        first: u64,
        /// How many, at least one.
        count: u64,
    },
    /// Of a folder, by the digest of its manifest: its small files ([`super::manifest::ManifestEntry::is_small`]) among a
    /// run of the manifest's entries, in its order, each as one group; empty ones take no bytes. When a file cannot be
    /// served the reason comes in the place of its first chunk, and ends the stream.
    Files {
        /// The first entry, counted from 0.
        first: u64,
        /// How many, at least one.
        count: u64,
    },
}

/// The yes to a [`Fetch`]; chunks follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchReply {
    /// The size of the whole file; of a folder, that of its manifest.
    pub size: FileSize,
}

/// The answer frame to [`PeerRequest::Fetch`].
pub type FetchAnswer = Result<FetchReply, Refusal>;

/// The answer frame to [`PeerRequest::Received`], [`PeerRequest::Receipts`] and [`PeerRequest::Exclusive`].
pub type ReceivedAnswer = Result<(), Refusal>;

/// The answer frame to [`PeerRequest::Profile`].
pub type ProfileAnswer = Result<ProfileReply, Refusal>;

/// The answer frame to [`PeerRequest::Message`].
pub type MessageAnswer = Result<SignedReceipt, Refusal>;

/// How many verification groups a file has; an empty file has none.
#[must_use]
pub fn group_count(size: u64) -> u64 {
    size.div_ceil(GROUP_BYTES)
}

/// How many bytes a group has: all but the last are full.
#[must_use]
pub fn group_bytes(size: u64, group: u64) -> u64 {
    size.saturating_sub(group.saturating_mul(GROUP_BYTES)).min(GROUP_BYTES)
}

/// Bytes of the hash tree that a receiver fetches: none where the root alone proves the only group.
#[must_use]
pub fn tree_bytes(size: u64) -> u64 {
    match group_count(size) {
        0 | 1 => 0,
        groups => groups * GROUP_HASH_BYTES,
    }
}
