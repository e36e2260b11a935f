//! Everything a peer tells its faces. The JSON form of these is what `--json` prints and what scripts depend on: fields
//! are added, never renamed.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::path::{PathInfo, StatusRow};
use super::rows::{Activity, AuditFindingRow, AuditRow, Counted, HistoryRow, ProfileRow, TransferRow, WhyClosed};
use crate::wire::ids::{DirectoryFingerprint, FileDigest, FileName, MessageId, PeerKey, PeerName, UnixMillis};
use crate::wire::message::Body;
use crate::wire::people::{Audience, FriendAnswer, FriendState, Presence};

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
    /// Somebody came or went, or lets others see them otherwise.
    Presence {
        /// Who.
        name: PeerName,
        /// Whether their peer is online now.
        online: bool,
        /// How they are.
        presence: Presence,
        /// Whether that has changed. Else it is how they were already when this peer began to follow them, because it
        /// talks to them.
        is_news: bool,
    },
    /// Others see this peer's person so, from now on and until they say otherwise or their peer ends.
    PresenceSet {
        /// How.
        presence: Presence,
    },
    /// Somebody says something to everyone who is online.
    Announcement {
        /// Who.
        from: PeerName,
        /// Its id.
        id: MessageId,
        /// When it was written, by the sender's clock.
        sent_at: UnixMillis,
        /// What it says.
        text: String,
        /// Whether they use an older program: what is said with them is not end-to-end encrypted.
        #[serde(skip_serializing_if = "std::ops::Not::not", default)]
        legacy: bool,
    },
    /// What this person said to everyone was said.
    Announced {
        /// Whether everyone who is online hears it.
        to_everyone: bool,
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
        /// Whether they use an older program: what is said with them is not end-to-end encrypted.
        #[serde(skip_serializing_if = "std::ops::Not::not", default)]
        legacy: bool,
    },
    /// Whoever is talked to uses an older program: what is said with them is not end-to-end encrypted.
    Legacy {
        /// Who.
        name: PeerName,
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
    /// Somebody offers a file or folder.
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
        /// How many files there are in it: of a folder.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        files: Option<u64>,
        /// Whether they use an older program: what is said with them is not end-to-end encrypted.
        #[serde(skip_serializing_if = "std::ops::Not::not", default)]
        legacy: bool,
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
        /// How many files there are in it: of a folder.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        files: Option<u64>,
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
    /// We do not want what somebody offers.
    Declined {
        /// Who.
        from: PeerName,
        /// The offer.
        offer: MessageId,
        /// The offered file's name.
        name: FileName,
    },
    /// Whoever offered a file does not offer it any more.
    OfferWithdrawn {
        /// Who.
        from: PeerName,
        /// The message that says so.
        id: MessageId,
        /// The offer.
        offer: MessageId,
        /// The offered file's name.
        name: FileName,
    },
    /// An offer of ours that was neither taken nor declined.
    OpenOffer {
        /// For whom.
        to: PeerName,
        /// The offer, by which it is cancelled.
        id: MessageId,
        /// Its name.
        name: FileName,
        /// Bytes.
        size: u64,
        /// How many files are in it, when it is a folder.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        files: Option<u64>,
        /// When it was made.
        since: UnixMillis,
    },
    /// Offers of a friend are taken without asking.
    Welcome {
        /// Whose.
        name: PeerName,
        /// Those of at most so many bytes.
        bytes_max: u64,
        /// Into which folder.
        folder: PathBuf,
    },
    /// Offers of somebody are asked about.
    Unwelcome {
        /// Whose.
        name: PeerName,
    },
    /// A file on its way to or from this peer, in a list or because it stands otherwise now.
    Transfer(Box<TransferRow>),
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
        /// Files done, and in all: of a folder that is received.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        files: Option<Counted>,
        /// How they go, when they go to or come from another peer.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        via: Option<PathInfo>,
    },
    /// A file or folder came, is verified and on disk.
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
        /// How many files there are in it: of a folder.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        files: Option<u64>,
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
        /// How the last bytes came; of what had come to its end earlier, how its giver was told.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        via: Option<PathInfo>,
    },
    /// One of several who have a file gave something else: nothing more is asked of them, and the others go on.
    SourceDropped {
        /// Who.
        name: PeerName,
        /// The file.
        file: FileName,
        /// What they did, as the end of a sentence that begins with their name.
        reason: String,
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
        /// How many files there are in it: of a folder.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        files: Option<u64>,
        /// The offer it was for, if it was one.
        offer: Option<MessageId>,
    },
    /// How fast files may go and come, each way.
    Limit {
        /// Bytes in a second; as fast as they can when there is none.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        bytes_per_second: Option<u64>,
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
    /// A person who is online, or was in the last hour.
    Person {
        /// Who.
        name: PeerName,
        /// How they are.
        presence: Presence,
        /// When they were here last, to the minute: of friends who are not here.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        last_seen: Option<UnixMillis>,
        /// Whether they use an older program: what is said with them is not end-to-end encrypted.
        #[serde(skip_serializing_if = "std::ops::Not::not", default)]
        legacy: bool,
    },
    /// A file or folder that somebody shares.
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
        /// How many files there are in it: of a folder.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        files: Option<u64>,
        /// Whether its owner uses an older program.
        #[serde(skip_serializing_if = "std::ops::Not::not", default)]
        legacy: bool,
    },
    /// A file or folder of ours that others can fetch.
    Shared {
        /// Its name for others.
        name: FileName,
        /// Where it lies.
        path: PathBuf,
        /// Bytes.
        size: u64,
        /// Its BLAKE3 root.
        digest: FileDigest,
        /// How many files there are in it: of a folder.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        files: Option<u64>,
        /// Whether it is served through the relay only, so that nobody learns where this peer is.
        hides_address: bool,
        /// What was shared under this name until now, and is not any more: another file of this machine.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        replaces: Option<PathBuf>,
    },
    /// Something in a folder cannot be shared: a link, for instance.
    Skipped {
        /// Where it lies.
        path: String,
        /// Why.
        why: String,
        /// How many more were skipped that are not named.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        others: Option<u64>,
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
        /// Whether they use an older program: then the key is not theirs, but the directory's gateway has it for them.
        #[serde(skip_serializing_if = "std::ops::Not::not", default)]
        legacy: bool,
    },
    /// Somebody asks for a direct connection, by which they learn where this peer is: allow it or deny it.
    ConsentAsked {
        /// Who.
        from: PeerName,
        /// The key they have.
        key: PeerKey,
        /// Whether they use an older program: what is said with them is not end-to-end encrypted.
        #[serde(skip_serializing_if = "std::ops::Not::not", default)]
        legacy: bool,
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
    /// Somebody is kept out.
    Blocked {
        /// Who.
        name: PeerName,
    },
    /// Somebody is kept out no longer.
    Unblocked {
        /// Who.
        name: PeerName,
    },
    /// A friend, or somebody who may become one.
    Friend {
        /// Who.
        name: PeerName,
        /// Their key.
        key: PeerKey,
        /// How far it is.
        state: FriendState,
        /// Whether they are here: of friends in a list.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        presence: Option<Presence>,
        /// When they were here last: of friends in a list who are not here now.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        last_seen: Option<UnixMillis>,
        /// Whether they use an older program: what is said with them is not end-to-end encrypted.
        #[serde(skip_serializing_if = "std::ops::Not::not", default)]
        legacy: bool,
    },
    /// A friendship or a request is over.
    Unfriended {
        /// With whom.
        name: PeerName,
    },
    /// Somebody who asks to be friends was told that the answer comes later.
    PutOff {
        /// Who.
        name: PeerName,
    },
    /// Somebody asks to be friends: accept, put off or decline.
    FriendAsked {
        /// Who.
        from: PeerName,
        /// The key they have.
        key: PeerKey,
        /// Whether they use an older program: what is said with them is not end-to-end encrypted.
        #[serde(skip_serializing_if = "std::ops::Not::not", default)]
        legacy: bool,
    },
    /// What became of a friendship.
    FriendAnswered {
        /// With whom.
        by: PeerName,
        /// What.
        answer: FriendAnswer,
    },
    /// Who may see this account and write to it.
    Privacy {
        /// Who; nobody who is kept out.
        audience: Audience,
    },
    /// There is a connection to somebody's peer.
    Connected {
        /// Whose.
        name: PeerName,
        /// How it goes.
        via: PathInfo,
    },
    /// What somebody says about themselves.
    Profile(Box<ProfileRow>),
    /// An exclusive conversation has begun: each side has no other one.
    ExclusiveOpened {
        /// With whom.
        with: PeerName,
        /// Who opened it.
        by: PeerName,
    },
    /// An exclusive conversation is over.
    ExclusiveClosed {
        /// With whom.
        with: PeerName,
        /// Why.
        why: WhyClosed,
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
    /// The end of an offer by whoever made it.
    OfferWithdrawn,
}

impl What {
    /// What a message with this body is.
    #[must_use]
    pub fn of(body: &Body) -> Self {
        match body {
            Body::Text(_) => Self::Text,
            Body::Offer(_) => Self::Offer,
            Body::OfferDeclined { .. } => Self::OfferDeclined,
            Body::OfferWithdrawn { .. } => Self::OfferWithdrawn,
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
    /// As long as they are a friend.
    Friend,
}

impl Event {
    /// A transfer that stands otherwise now.
    pub(super) fn changed(row: TransferRow) -> Self {
        Self::Transfer(Box::new(TransferRow { is_news: true, ..row }))
    }

    /// Whether this is the last event of a command.
    #[must_use]
    pub fn is_last(&self) -> bool {
        matches!(self, Self::Done | Self::Failed { .. })
    }
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
