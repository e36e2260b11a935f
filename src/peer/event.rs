//! Everything a peer tells its faces. The JSON form of these is what `--json` prints and what scripts depend on: fields
//! are added, never renamed.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::path::{PathInfo, StatusRow};
use crate::wire::ids::{DirectoryFingerprint, FileDigest, FileName, MessageId, PeerKey, PeerName, UnixMillis};
use crate::wire::message::Body;

/// One thing that happened, or one row of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The directory has let this peer in.
    LoggedIn {
        /// The account.
        name: PeerName,
        /// The account's key.
        key: PeerKey,
        /// The directory as the user named it.
        directory: String,
        /// The directory's key.
        fingerprint: DirectoryFingerprint,
        /// Whether the account was made just now.
        created: bool,
        /// Messages that wait and come next.
        waiting: u64,
    },
    /// The directory is gone; the peer tries again by itself.
    DirectoryLost {
        /// Why.
        reason: String,
        /// When the next attempt comes.
        retry_in_ms: u64,
    },
    /// A newer login of this account ended this session: the peer stops.
    LoggedInElsewhere,
    /// Somebody came or went.
    Presence {
        /// Who.
        name: PeerName,
        /// Whether they are online now.
        online: bool,
    },
    /// A line of chat came.
    Message {
        /// From whom.
        from: PeerName,
        /// Its id.
        id: MessageId,
        /// When it was written, by the sender's clock.
        sent_at: UnixMillis,
        /// What it says.
        text: String,
    },
    /// A message of ours lies in the outbox on this disk.
    Queued {
        /// For whom.
        to: PeerName,
        /// Its id.
        id: MessageId,
        /// What it is.
        what: What,
    },
    /// A message of ours lies at the directory, on disk: it will arrive.
    Stored {
        /// For whom.
        to: PeerName,
        /// Its id.
        id: MessageId,
        /// What it is.
        what: What,
    },
    /// A message of ours lies on its recipient's disk: they have signed that.
    Delivered {
        /// For whom.
        to: PeerName,
        /// Its id.
        id: MessageId,
        /// What it is.
        what: What,
    },
    /// A message of ours was on its recipient's screen: they have signed that. [`Self::Delivered`] may not have come
    /// before: the later word takes the place of the earlier at the directory.
    Read {
        /// For whom.
        to: PeerName,
        /// Its id.
        id: MessageId,
        /// What it is.
        what: What,
    },
    /// Messages that should have come before the next one that is shown did not come.
    Missing {
        /// From whom.
        from: PeerName,
        /// The number of the first of them.
        first: u64,
        /// The number of the last of them.
        last: u64,
    },
    /// The message that comes next was about to be shown when the program was stopped: perhaps it was on the screen.
    Again {
        /// Which message.
        id: MessageId,
    },
    /// Nothing waits at the directory any more.
    Drained,
    /// A message of the history.
    History(Box<HistoryRow>),
    /// What an audit of a conversation counted.
    Audit(Box<AuditRow>),
    /// Something odd that an audit found.
    AuditFinding(Box<AuditFindingRow>),
    /// A message of ours will not arrive.
    NotSent {
        /// For whom.
        to: PeerName,
        /// Its id.
        id: MessageId,
        /// What it is.
        what: What,
        /// Why.
        failure: Failure,
    },
    /// The key of a person is another one than before.
    KeyChanged {
        /// Whose.
        name: PeerName,
        /// The key that was pinned.
        old: PeerKey,
        /// The key they have now.
        new: PeerKey,
        /// Whether it is kept out until it is accepted, because the one before was verified.
        held: bool,
    },
    /// Somebody who knows our password wants to bring another key to this account: allow it or deny it.
    KeyRequested {
        /// The key they bring.
        key: PeerKey,
        /// Where they are.
        source: IpAddr,
    },
    /// Where the account is logged in.
    Session {
        /// `resident` or `errand`.
        kind: String,
        /// When it logged in, by the directory's clock.
        since: UnixMillis,
        /// Where it comes from.
        address: SocketAddr,
        /// Whether it is the one that asked.
        this: bool,
    },
    /// An invitation was made: it admits one new account.
    Invited {
        /// What the invited person gives to `--server`. It is a secret until it is used.
        link: InviteLink,
        /// It admits nobody after this time.
        expires: UnixMillis,
    },
    /// Somebody offers a file.
    Offer {
        /// Who.
        from: PeerName,
        /// The offer, for accept and decline.
        id: MessageId,
        /// Its name.
        name: FileName,
        /// Bytes.
        size: u64,
        /// Its BLAKE3 root.
        digest: FileDigest,
    },
    /// Our offer lies at the directory for its recipient.
    Offered {
        /// For whom.
        to: PeerName,
        /// The offer.
        id: MessageId,
        /// Its name.
        name: FileName,
        /// Bytes.
        size: u64,
        /// Whether they are online now.
        online: bool,
    },
    /// The recipient of our offer does not want it.
    OfferDeclined {
        /// Who.
        by: PeerName,
        /// The message that says so.
        id: MessageId,
        /// The offer.
        offer: MessageId,
        /// The offered file's name.
        name: FileName,
    },
    /// Bytes of a file are being moved or hashed.
    Progress {
        /// What is done with it.
        activity: Activity,
        /// Its name.
        name: String,
        /// The other side, if there is one.
        peer: Option<PeerName>,
        /// Bytes done.
        done: u64,
        /// Bytes in all.
        total: u64,
        /// How they go, when they go to or come from another peer.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        via: Option<PathInfo>,
    },
    /// A file came, is verified and on disk.
    Received {
        /// From whom.
        from: PeerName,
        /// Its name there.
        name: FileName,
        /// Where it lies.
        path: PathBuf,
        /// Bytes.
        size: u64,
        /// Its BLAKE3 root.
        digest: FileDigest,
        /// Bytes that had come earlier, before an interruption.
        resumed: u64,
        /// Milliseconds from the first request to the rename.
        millis: u64,
        /// Microseconds from the first request to the first verified bytes, when any were missing.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        first_byte_us: Option<u64>,
        /// How those came.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        first_via: Option<PathInfo>,
        /// How the last bytes came.
        via: PathInfo,
    },
    /// Somebody has our file, verified and on their disk.
    Sent {
        /// Who.
        to: PeerName,
        /// Its name.
        name: FileName,
        /// Bytes.
        size: u64,
        /// Its BLAKE3 root.
        digest: FileDigest,
        /// The offer it was for, if it was one.
        offer: Option<MessageId>,
    },
    /// An accepted file did not come.
    NotReceived {
        /// From whom.
        from: PeerName,
        /// Its name there.
        name: FileName,
        /// Why.
        failure: Failure,
    },
    /// This peer and its directory.
    Status(Box<StatusRow>),
    /// An open connection to somebody.
    Link {
        /// Who.
        name: PeerName,
        /// Their key.
        key: PeerKey,
        /// How it goes.
        via: PathInfo,
    },
    /// A person who is online.
    Person {
        /// Who.
        name: PeerName,
    },
    /// A file that somebody shares.
    Found {
        /// Who.
        owner: PeerName,
        /// Whether it can be fetched now.
        online: bool,
        /// Its name.
        name: FileName,
        /// Bytes.
        size: u64,
        /// Its BLAKE3 root.
        digest: FileDigest,
    },
    /// A file of ours that others can fetch.
    Shared {
        /// Its name for others.
        name: FileName,
        /// Where it lies.
        path: PathBuf,
        /// Bytes.
        size: u64,
        /// Its BLAKE3 root.
        digest: FileDigest,
        /// Whether it is served through the relay only, so that nobody learns where this peer is.
        hides_address: bool,
    },
    /// A file of ours that others can fetch no more.
    Unshared {
        /// Its name for others.
        name: FileName,
    },
    /// What is known of a person's key.
    Contact {
        /// Whose.
        name: PeerName,
        /// The key that is talked to.
        key: PeerKey,
        /// The 60 digits that both sides compare.
        safety_number: String,
        /// When they were compared, if ever.
        verified_at: Option<UnixMillis>,
        /// Another key that was shown since, and not accepted.
        offered_key: Option<PeerKey>,
        /// The digits there would be with that key.
        offered_safety_number: Option<String>,
    },
    /// Somebody asks for a direct connection, by which they learn where this peer is: allow it or deny it.
    ConsentAsked {
        /// Who.
        from: PeerName,
        /// The key they have.
        key: PeerKey,
    },
    /// We have asked somebody for a direct connection; their answer comes as [`Self::ConsentAnswered`].
    Asked {
        /// Whom.
        to: PeerName,
    },
    /// What somebody answers whom we have asked for a direct connection.
    ConsentAnswered {
        /// Who.
        by: PeerName,
        /// Whether they allow it.
        allowed: bool,
    },
    /// Somebody may learn where this peer is.
    Allowed {
        /// Who.
        name: PeerName,
        /// For how long.
        allowance: HowLong,
        /// Up to when: of `until`.
        until: Option<UnixMillis>,
    },
    /// Somebody may not learn where this peer is, any more or at all.
    Denied {
        /// Who.
        name: PeerName,
    },
    /// There is a connection to somebody's peer.
    Connected {
        /// Whose.
        name: PeerName,
        /// How it goes.
        via: PathInfo,
    },
    /// Something worth a line that is no row of an answer.
    Note {
        /// The line.
        text: String,
    },
    /// The last event of a command that did what it was asked.
    Done,
    /// The last event of a command that did not.
    Failed {
        /// Why.
        failure: Failure,
    },
}

/// The link of an invitation. It admits whoever has it, so it shows itself to nobody but faces.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InviteLink(String);

impl InviteLink {
    /// Takes the whole link.
    pub fn new(link: String) -> Self {
        Self(link)
    }

    /// The link, to show to the person who asked for it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for InviteLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InviteLink(..)")
    }
}

/// A message of the history, as [`Event::History`].
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
    /// The file's name: of an `offer` and an `offer_declined`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<FileName>,
    /// The file's bytes: of an `offer`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub size: Option<u64>,
    /// The file's BLAKE3 root: of an `offer`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub digest: Option<FileDigest>,
    /// The offer that is meant: of an `offer_declined`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub offer: Option<MessageId>,
}

/// What an audit counted, as [`Event::Audit`]. Each message of ours counts once, as what it is now.
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

/// Something odd in a conversation, as [`Event::AuditFinding`].
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

/// Which way a message went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// It came.
    In,
    /// It is ours.
    Out,
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

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A line of chat.
    Text,
    /// The offer of a file.
    Offer,
    /// The no to an offer.
    OfferDeclined,
}

impl What {
    /// What a message with this body is.
    #[must_use]
    pub fn of(body: &Body) -> Self {
        match body {
            Body::Text(_) => Self::Text,
            Body::Offer(_) => Self::Offer,
            Body::OfferDeclined { .. } => Self::OfferDeclined,
        }
    }
}

/// For how long somebody may learn where this peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HowLong {
    /// For the next connection only.
    Once,
    /// Up to a time.
    Until,
    /// Until it is taken back.
    Always,
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

impl Event {
    /// Whether this is the last event of a command.
    #[must_use]
    pub fn is_last(&self) -> bool {
        matches!(self, Self::Done | Self::Failed { .. })
    }
}
