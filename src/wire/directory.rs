//! Between a peer and its directory: requests with their answers, and pushes with theirs.

use serde::{Deserialize, Serialize};

use super::account::{Identity, LoggedIn, Login, SessionInfo, SignedPrekey};
use super::catalog::{Cursor, Entry, Found, Query};
use super::ids::{
    DialId, FileName, InviteToken, MessageId, Password, Pattern, PeerKey, PeerName, PrekeyId, UnixMillis,
};
use super::message::{Delivery, Envelope, SignedReceipt};
use super::people::{Audience, Friend, FriendAnswer, FriendState, Person, Presence, SignedAnnouncement};
use super::refusal::Refusal;
use super::rendezvous::{DialAnnounced, DialGranted, DialRequest, Grant};

/// The ALPN of a peer's connection to its directory.
pub const DIRECTORY_ALPN: &[u8] = b"qchat-dir/1";

/// What a peer asks of its directory: one per stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DirectoryRequest {
    /// First of all. Answer: [`DirectoryReply::LoggedIn`].
    Login(Box<Login>),
    /// Publishes the key that others seal to. Answer: [`DirectoryReply::Done`].
    PutPrekey(Box<SignedPrekey>),
    /// Who is here, by name, after this one. Answer: [`DirectoryReply::People`].
    Who {
        /// In the last hour too, or only now.
        recent: bool,
        /// Only names that contain this.
        pattern: Option<Pattern>,
        /// The last name of the page before.
        after: Option<PeerName>,
    },
    /// The key and prekey of a person. Answer: [`DirectoryReply::Identity`].
    Identify {
        /// Whose.
        name: PeerName,
    },
    /// Keeps an envelope until its recipient has it. Answer: [`DirectoryReply::Done`] once it is on disk.
    Deliver {
        /// For whom.
        to: PeerName,
        /// What.
        envelope: Box<Envelope>,
    },
    /// Receipts for messages of one person, 64 at most. Answer: [`DirectoryReply::Done`].
    Receipts {
        /// Who sent the messages.
        to: PeerName,
        /// What became of them.
        receipts: Vec<SignedReceipt>,
    },
    /// Which of the asker's messages the directory does not have any more, nor a receipt for them; 512 at most. Answer:
    /// [`DirectoryReply::Missing`].
    Missing {
        /// Recipients and messages.
        messages: Vec<(PeerName, MessageId)>,
    },
    /// Publishes a file, or replaces the entry of that name. Answer: [`DirectoryReply::Done`].
    Publish(Entry),
    /// Takes a file back. Answer: [`DirectoryReply::Done`], or `UnknownFile`.
    Unpublish {
        /// Its name.
        name: FileName,
    },
    /// Searches the catalogue. Answer: [`DirectoryReply::Entries`].
    Find {
        /// What to look for.
        query: Query,
        /// Where to go on.
        after: Option<Cursor>,
    },
    /// Announces a dial. Answer: [`DirectoryReply::DialGranted`].
    Dial(DialRequest),
    /// The asker of a dial has opened its NAT: the other side, which hears it as [`DirectoryPush::Opened`], may punch now.
    /// Answer: [`DirectoryReply::Done`].
    Opened {
        /// Which dial.
        dial: DialId,
    },
    /// Asks a person for a direct connection, which hears it as [`DirectoryPush::ConsentAsked`]. Answer:
    /// [`DirectoryReply::Done`].
    AskConsent {
        /// Whom.
        to: PeerName,
    },
    /// Lets a person learn this account's address. Answer: [`DirectoryReply::Done`].
    Allow(Grant),
    /// Takes that back, and turns down what the person has asked. Answer: [`DirectoryReply::Done`].
    Deny {
        /// Who.
        to: PeerName,
    },
    /// Who may learn this account's address. Answer: [`DirectoryReply::Grants`].
    Grants {
        /// The last name of the page before.
        after: Option<PeerName>,
    },
    /// Lets a key in that was announced by [`DirectoryPush::KeyRequested`], or not. Answer: [`DirectoryReply::Done`].
    AnswerKeyRequest {
        /// Which key.
        key: PeerKey,
        /// Whether it may replace the account's.
        allow: bool,
    },
    /// Makes a token that admits one new account. Answer: [`DirectoryReply::Invited`].
    Invite,
    /// Replaces the account's password. Answer: [`DirectoryReply::Done`].
    ChangePassword {
        /// The new one.
        new: Password,
    },
    /// Removes the account with its keys, waiting messages and shares; its name is kept back for 90 days. Answer:
    /// [`DirectoryReply::Done`], after which the session ends.
    DeleteAccount {
        /// The account, again, so that nothing else can be mistaken for this.
        name: PeerName,
    },
    /// Where the account is logged in. Answer: [`DirectoryReply::Sessions`].
    Sessions,
    /// Ends all of the account's sessions but this one. Answer: [`DirectoryReply::Done`].
    EndOtherSessions,
    /// How others shall see this account while this session lasts; a resident's only. Refused with `UnknownRequest` when
    /// it is `Offline`. Answer: [`DirectoryReply::Done`].
    SetPresence(Presence),
    /// Whose presence this session wants to hear of beside its friends': 256 at most, in the place of those before.
    /// Answer: [`DirectoryReply::Done`].
    Watch {
        /// Who.
        names: Vec<PeerName>,
    },
    /// Says something to everyone who is online. Answer: [`DirectoryReply::Announced`].
    Announce(Box<SignedAnnouncement>),
    /// Keeps a person out: nothing of them comes here, and they see nothing of this account. Answer:
    /// [`DirectoryReply::Done`].
    Block {
        /// Who.
        name: PeerName,
    },
    /// Takes that back. Answer: [`DirectoryReply::Done`], or `NotBlocked`.
    Unblock {
        /// Who.
        name: PeerName,
    },
    /// Whom the account keeps out. Answer: [`DirectoryReply::Names`].
    Blocked {
        /// The last name of the page before.
        after: Option<PeerName>,
    },
    /// Asks a person to be friends, or accepts when they have asked. Answer: [`DirectoryReply::Friendship`].
    Befriend {
        /// Whom.
        name: PeerName,
    },
    /// Ends a friendship, declines a request or takes one's own back. Answer: [`DirectoryReply::Done`], or `NotFriends`.
    Unfriend {
        /// With whom.
        name: PeerName,
    },
    /// Tells somebody who asks to be friends that the answer comes later. Answer: [`DirectoryReply::Done`], or
    /// `NotFriends`.
    PutOff {
        /// Whom.
        name: PeerName,
    },
    /// The account's friends, and who may become one. Answer: [`DirectoryReply::Friends`].
    Friends {
        /// The last name of the page before.
        after: Option<PeerName>,
    },
    /// Who may see this account and write to it. Answer: [`DirectoryReply::Done`].
    SetAudience(Audience),
    /// Who may. Answer: [`DirectoryReply::Audience`].
    Audience,
}

/// What a directory answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DirectoryReply {
    /// It is done, and durable.
    Done,
    /// To a login.
    LoggedIn(LoggedIn),
    /// A page of people.
    People {
        /// In alphabetical order of names.
        people: Vec<Person>,
        /// Whether there are more after the last.
        more: bool,
    },
    /// A person's keys.
    Identity(Box<Identity>),
    /// Messages that the directory does not have.
    Missing {
        /// Of those it was asked for.
        messages: Vec<MessageId>,
    },
    /// A page of a search.
    Entries {
        /// Ordered by name, then owner.
        found: Vec<Found>,
        /// Whether there are more after the last.
        more: bool,
    },
    /// The dial is announced.
    DialGranted(DialGranted),
    /// A page of grants.
    Grants {
        /// In alphabetical order of names.
        grants: Vec<Grant>,
        /// Whether there are more after the last.
        more: bool,
    },
    /// The account's sessions.
    Sessions {
        /// The resident first.
        sessions: Vec<SessionInfo>,
    },
    /// A token that admits one new account.
    Invited {
        /// The token.
        token: InviteToken,
        /// It admits nobody after this time.
        expires: UnixMillis,
    },
    /// It was said.
    Announced {
        /// Whether everyone who is online hears it.
        to_everyone: bool,
    },
    /// A page of names.
    Names {
        /// In alphabetical order.
        names: Vec<PeerName>,
        /// Whether there are more after the last.
        more: bool,
    },
    /// How far a friendship is now.
    Friendship(FriendState),
    /// A page of friends.
    Friends {
        /// In alphabetical order of names.
        friends: Vec<Friend>,
        /// Whether there are more after the last.
        more: bool,
    },
    /// Who may see the account.
    Audience(Audience),
}

/// The answer frame to a [`DirectoryRequest`].
pub type DirectoryAnswer = Result<DirectoryReply, Refusal>;

/// What a directory asks of a peer: one per stream that the directory opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DirectoryPush {
    /// A message. Answer: [`PushReply::Receipt`] once it is on the recipient's disk or cannot be opened there, or
    /// [`PushReply::Left`].
    Delivery(Box<Delivery>),
    /// What became of messages that the account sent, 64 at most. Answer: [`PushReply::Taken`] once that is on disk.
    Receipts(Vec<SignedReceipt>),
    /// Nothing waits any more that this session has not been pushed. Answer: [`PushReply::Taken`].
    Drained {
        /// The account's prekey at that moment: nothing that is sealed to an older one will come.
        prekey: Option<PrekeyId>,
    },
    /// Somebody is about to connect. Answer: [`PushReply::Candidates`], or a refusal.
    Dial(DialAnnounced),
    /// The other side of an announced dial has opened its NAT. A hint: without it, punch all the same after a while.
    /// Answer: [`PushReply::Taken`].
    Opened {
        /// Which dial.
        dial: DialId,
    },
    /// Somebody asks for a direct connection. Answer: [`PushReply::Taken`], at once; the person's answer comes as
    /// [`DirectoryRequest::Allow`] or [`DirectoryRequest::Deny`].
    ConsentAsked {
        /// Who.
        from: PeerName,
        /// The key they have.
        key: PeerKey,
    },
    /// What a person answers to [`DirectoryRequest::AskConsent`]. Answer: [`PushReply::Taken`].
    ConsentAnswered {
        /// Who.
        by: PeerName,
        /// Whether a direct connection may be made now.
        allowed: bool,
    },
    /// Somebody came or went. Answer: [`PushReply::Taken`].
    Presence {
        /// Who.
        name: PeerName,
        /// What they are now.
        presence: Presence,
    },
    /// Somebody with the right password wants to replace the account's key. Answer: [`PushReply::Taken`], at once;
    /// the person's answer comes as [`DirectoryRequest::AnswerKeyRequest`].
    KeyRequested {
        /// The key they bring.
        key: PeerKey,
        /// Where they are.
        source: std::net::IpAddr,
    },
    /// A message of ours that was stored will not arrive. Answer: [`PushReply::Taken`] once that is on the sender's
    /// disk, or [`PushReply::Left`].
    Returned {
        /// For whom it was.
        to: PeerName,
        /// Which it is.
        id: MessageId,
        /// Why.
        refusal: Refusal,
    },
    /// The key of an account is another one now. A hint, as presence is. Answer: [`PushReply::Taken`].
    KeyChanged {
        /// Whose.
        name: PeerName,
        /// The key it has now.
        key: PeerKey,
    },
    /// Somebody says something to everyone who is online. A hint, as presence is. Answer: [`PushReply::Taken`].
    Announcement {
        /// Who.
        from: PeerName,
        /// What.
        signed: Box<SignedAnnouncement>,
        /// Whether they use an older program through the directory's gateway.
        legacy: bool,
    },
    /// Somebody asks to be friends; also told at each login until it is answered. Answer: [`PushReply::Taken`], at once;
    /// the person's answer comes as [`DirectoryRequest::Befriend`], [`DirectoryRequest::Unfriend`] or
    /// [`DirectoryRequest::PutOff`].
    FriendAsked {
        /// Who.
        from: PeerName,
        /// The key they have.
        key: PeerKey,
    },
    /// What became of a friendship. A hint: [`DirectoryRequest::Friends`] says how it is. Answer: [`PushReply::Taken`].
    FriendAnswered {
        /// With whom.
        by: PeerName,
        /// What.
        answer: FriendAnswer,
    },
    /// Another session of the account has changed whom it blocks, who its friends are or who may see it. Answer:
    /// [`PushReply::Taken`], at once; what is asked for then says how it is.
    PeopleChanged,
}

/// What a peer answers to a push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PushReply {
    /// Done and durable: the directory may forget it.
    Taken,
    /// A message is done with here: the directory forgets it, and keeps this for its sender.
    Receipt(Box<SignedReceipt>),
    /// Not for this session: the directory keeps it for the next.
    Left,
    /// Where the dialler can reach this peer; `None` when it shall not.
    Candidates(Option<Vec<std::net::SocketAddr>>),
}

/// The answer frame to a [`DirectoryPush`].
pub type PushAnswer = Result<PushReply, Refusal>;
