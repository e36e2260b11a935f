//! People and what lies between them: who is here, who is a friend, who is kept out, and what is said to everybody.

use serde::{Deserialize, Serialize};

use super::ids::{MessageId, PeerKey, PeerName, Signature, UnixMillis};
use super::limits::ANNOUNCEMENT_BYTES_MAX;

/// Whether somebody is here, as they let others know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// Their peer is not logged in, or they do not show it.
    #[default]
    Offline,
    /// Here.
    Online,
    /// Their peer runs, and they are not at it.
    Away,
    /// Here, and not to be disturbed.
    Busy,
}

impl Presence {
    /// Whether their peer is logged in.
    #[must_use]
    pub fn is_online(self) -> bool {
        self != Self::Offline
    }
}

/// Who may see an account, find what it publishes and write to it. Nobody it has blocked, in either case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// Everyone with an account at the directory.
    #[default]
    Everyone,
    /// Its friends.
    Friends,
}

/// A person in a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// Who.
    pub name: PeerName,
    /// Whether they are here.
    pub presence: Presence,
    /// When they were here last: of friends who are not here now.
    pub last_seen: Option<UnixMillis>,
    /// Whether they use an older program through the directory's gateway: what is said with them is not end-to-end
    /// encrypted.
    pub legacy: bool,
}

/// How far a friendship is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FriendState {
    /// Both have said so.
    Friends,
    /// We have asked them.
    Asked,
    /// They have asked us.
    AsksUs,
}

/// A friend, or somebody who may become one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Friend {
    /// Who.
    pub name: PeerName,
    /// Their key.
    pub key: PeerKey,
    /// How far it is.
    pub state: FriendState,
    /// Whether they are here: of friends.
    pub presence: Presence,
    /// When they were here last: of friends who are not here now.
    pub last_seen: Option<UnixMillis>,
    /// As in [`Person`].
    pub legacy: bool,
}

/// What became of a friendship.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FriendAnswer {
    /// Both are friends now.
    Accepted,
    /// They do not want it.
    Declined,
    /// They are busy: the request waits.
    Busy,
    /// They are friends no longer.
    Ended,
}

/// What is said to everyone who is online. The directory can read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// Who says it.
    pub sender: PeerKey,
    /// Which one it is.
    pub id: MessageId,
    /// When it was written, by the sender's clock.
    pub sent_at: UnixMillis,
    /// What it says.
    pub text: AnnouncementText,
}

/// An announcement as its sender signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedAnnouncement {
    /// What is signed.
    pub announcement: Announcement,
    /// By `announcement.sender`, over the encoded [`Announcement`].
    pub signature: Signature,
}

/// A text that is empty or does not fit an announcement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("what is said to everybody has 1 to {ANNOUNCEMENT_BYTES_MAX} bytes, not {0}")]
pub struct AnnouncementTextError(usize);

text_type! {
    /// A text that fits an announcement: 1 to 2,048 bytes.
    AnnouncementText, AnnouncementTextError, text => {
        let fits = (1..=ANNOUNCEMENT_BYTES_MAX).contains(&text.len());
        if fits { Ok(text.to_owned()) } else { Err(AnnouncementTextError(text.len())) }
    }
}

/// What one peer asks another of an exclusive conversation: each person has at most one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exclusive {
    /// Begin one. Refused with `Engaged` when they have one with somebody else.
    Open,
    /// End it.
    Close,
    /// Whether it still holds: an answer may have been lost. Refused with `NotAccepted` when it does not.
    Still,
}
