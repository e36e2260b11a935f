//! Rows of answers that have many fields: part of the schema of `--json`, as `event.rs`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::event::What;
use super::failure::Failure;
use super::path::PathInfo;
use crate::wire::ids::{FileDigest, FileName, MessageId, PeerKey, PeerName, TransferId, UnixMillis};
use crate::wire::profile::PictureKind;

/// A message of the history, as [`super::event::Event::History`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryRow {
    /// `out` when it is ours.
    pub direction: Direction,
    /// Who wrote it.
    pub from: PeerName,
    /// For whom.
    pub to: PeerName,
    /// Its id.
    pub id: MessageId,
    /// Its number among those of its sender to its recipient.
    pub number: u64,
    /// When it was written, by its sender's clock.
    pub sent_at: UnixMillis,
    /// What became of it.
    pub state: MessageState,
    /// Whether it came after its turn.
    pub late: bool,
    /// Why it was refused, if it was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<Failure>,
    /// What it is.
    pub what: What,
    /// What it says: of a `text`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub text: Option<String>,
    /// The file's name: of an `offer`, an `offer_declined` and an `offer_withdrawn`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<FileName>,
    /// The file's bytes: of an `offer`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub size: Option<u64>,
    /// The file's BLAKE3 root: of an `offer`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub digest: Option<FileDigest>,
    /// The offer that is meant: of an `offer_declined` and an `offer_withdrawn`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub offer: Option<MessageId>,
    /// Whether the other one uses an older program: it was not end-to-end encrypted.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub legacy: bool,
}

/// What an audit counted, as [`super::event::Event::Audit`]. Each message of ours counts once, as what it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRow {
    /// With whom.
    pub with: PeerName,
    /// Their keys that were talked to, the present one and earlier ones.
    pub keys: u64,
    /// Messages of ours.
    pub sent: u64,
    /// Those on this disk only.
    pub sending: u64,
    /// Those that the directory has, as it says.
    pub stored: u64,
    /// Those on their disk.
    pub delivered: u64,
    /// Those that were on their screen.
    pub read: u64,
    /// Those that were refused.
    pub refused: u64,
    /// Those without a receipt although a later one was receipted.
    pub unaccounted: u64,
    /// Messages of theirs that came.
    pub received: u64,
    /// Numbers of theirs that neither came nor were named as not coming.
    pub missing: u64,
    /// Messages that came through the directory more than once.
    pub repeated: u64,
    /// Messages that came after their turn.
    pub late: u64,
    /// Whether nothing was lost, replayed or reordered as far as this disk shows.
    pub clean: bool,
}

/// Something odd in a conversation, as [`super::event::Event::AuditFinding`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditFindingRow {
    /// With whom.
    pub with: PeerName,
    /// The key of theirs that it was with.
    pub key: PeerKey,
    /// `out` when it is about messages of ours.
    pub direction: Direction,
    /// What it is.
    pub finding: FindingKind,
    /// The number of the message, or of the first.
    pub first: u64,
    /// The number of the last.
    pub last: u64,
    /// The message.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<MessageId>,
    /// When the directory had it or when it came, by the clock of this machine.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub at: Option<UnixMillis>,
    /// How often it came, or the later number that is proved to have come.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub count: Option<u64>,
    /// Whether the directory is to blame for it, as far as this disk shows.
    pub blames_directory: bool,
    /// A sentence that says what is proved and what is only likely.
    pub text: String,
}

/// What somebody says about themselves, as [`super::event::Event::Profile`]. Their key has signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileRow {
    /// Who.
    pub name: PeerName,
    /// Their key.
    pub key: PeerKey,
    /// Which version it is: the higher is the newer.
    pub version: u64,
    /// What they want to be called.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub display_name: Option<String>,
    /// A paragraph about themselves.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub info: Option<String>,
    /// Whatever else they say, each under its label.
    pub fields: BTreeMap<String, String>,
    /// Their picture, if they have one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub picture: Option<PictureRow>,
    /// Who has said that there is none newer.
    pub source: ProfileSource,
    /// The friend who was asked: of `friend`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub via: Option<PeerName>,
    /// Whether it was not here before.
    pub news: bool,
}

/// The picture of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PictureRow {
    /// What it is encoded as.
    pub kind: PictureKind,
    /// Bytes.
    pub size: u64,
    /// Where it was saved, when that was asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<PathBuf>,
}

/// Who has said that a profile is the newest there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProfileSource {
    /// It is our own.
    Own,
    /// Its owner, just now.
    Owner,
    /// A friend, just now, as far as they know.
    Friend,
    /// Nobody: it is the copy that lies here.
    Stored,
}

/// Which way a message went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// It came.
    In,
    /// It is ours.
    Out,
}

/// A file on its way to or from this peer, as [`super::event::Event::Transfer`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferRow {
    /// Which transfer: for cancel, pause and resume.
    pub id: TransferId,
    /// `in` when it comes here.
    pub direction: Direction,
    /// The file's name.
    pub name: FileName,
    /// From whom, as far as is known; or to whom.
    pub with: Vec<PeerName>,
    /// Bytes in all.
    pub size: u64,
    /// How many files are in it, when it is a folder.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub files: Option<u64>,
    /// Bytes that are here, or that went there.
    pub done: u64,
    /// How it stands.
    pub state: TransferState,
    /// Why it does not run, when it does not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// How the bytes go, while they go.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub via: Option<PathInfo>,
    /// The offer it is for, if it is for one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub offer: Option<MessageId>,
    /// Whether that has changed just now; else it is a row of a list.
    pub is_news: bool,
}

/// Files of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// How many are done.
    pub done: u64,
    /// How many there are.
    pub total: u64,
}

/// What is done with the bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activity {
    /// Read to compute its digest.
    Hashing,
    /// What an earlier transfer left is read and verified.
    Checking,
    /// Received.
    Receiving,
    /// Sent.
    Sending,
}

/// Why an exclusive conversation is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhyClosed {
    /// It was closed here.
    Here,
    /// They have closed it.
    There,
    /// Their program has left.
    Left,
    /// They were not heard any more.
    Lost,
}

/// How a transfer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferState {
    /// Bytes go, or somebody is dialled.
    Running,
    /// It goes on by itself: when somebody who has the file is back, or when it is its turn.
    Waiting,
    /// It goes on when its person says so.
    Paused,
    /// It has ended without the file.
    Failed,
    /// A one-shot verb began it and has ended.
    Interrupted,
    /// Its person does not want it any more.
    Cancelled,
}

/// What became of a message: of ours the first five, of theirs the last two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageState {
    /// It lies on this disk.
    Sending,
    /// It lies on the directory's disk.
    Stored,
    /// It will not arrive.
    Refused,
    /// It lies on its recipient's disk.
    Delivered,
    /// It was on its recipient's screen.
    Read,
    /// It was on no screen here.
    New,
    /// It was on a screen here.
    Shown,
}

/// What an audit finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// A message of ours has no receipt, and a later one has.
    Unaccounted,
    /// A receipt on this disk is not signed by whom it should be.
    BadReceipt,
    /// Numbers of theirs did not come.
    Missing,
    /// A message came through the directory more than once.
    Repeated,
    /// A message came after its turn.
    Late,
    /// Two messages of theirs have one number.
    NumberTwice,
}
