//! What a directory keeps: accounts, prekeys, mailboxes and the catalogue. A trait, so that several directory nodes can
//! share another database one day; the rules that must hold in one transaction are part of its contract.

pub mod sqlite;

mod accounts;
mod catalogue;
mod grants;
mod people;
mod receipts;
mod returned;
mod schema;
mod search;
mod seen;
mod shelf;

use std::collections::BTreeSet;

use async_trait::async_trait;

use crate::protocol::lockout::Remembered;
use crate::protocol::people::{Bond, Circle, News, Reception, Relation, Word};
use crate::wire::account::SignedPrekey;
use crate::wire::catalog::{Cursor, Entry, Query};
use crate::wire::ids::{Epoch, FileDigest, FileName, MessageId, PeerKey, PeerName, PrekeyId, UnixMillis};
use crate::wire::message::{Delivery, Envelope, SignedReceipt};
use crate::wire::people::{Audience, FriendState};
use crate::wire::refusal::Refusal;
use crate::wire::rendezvous::Grant;

/// Why the store did not do what was asked. Nothing was changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The rules say no.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The disk is full.
    #[error("the disk is full")]
    Full,
    /// The database failed.
    #[error("{0}")]
    Failed(String),
}

impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<StoreError> for Refusal {
    /// What the asker is told. A failure is for the operator, so its cause goes to the log.
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(refusal) => refusal,
            StoreError::Full | StoreError::Failed(_) => {
                tracing::error!(%error, "the store failed");
                Self::Storage
            }
        }
    }
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: PeerName,
    /// The key bound to it.
    pub key: PeerKey,
    /// The hash of its password, a PHC string.
    pub password: String,
    /// When it was made.
    pub created_at: UnixMillis,
    /// Whether the operator keeps it out.
    pub disabled: bool,
    /// Whether the gateway has it on behalf of somebody with an older program.
    pub legacy: bool,
}

/// What a session is told when it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The key bound to the account now.
    pub key: PeerKey,
    /// Whether the operator keeps it out.
    pub disabled: bool,
    /// Its current prekey.
    pub prekey: Option<PrekeyId>,
    /// Envelopes that wait for it.
    pub waiting: u64,
}

/// An envelope that waits for its recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its place in the order of arrival.
    pub number: i64,
    /// What is pushed.
    pub delivery: Delivery,
}

/// A message that came back, which its sender is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Returned {
    /// Its place in the order in which they came back.
    pub number: i64,
    /// For whom it was.
    pub to: PeerName,
    /// Which it is.
    pub id: MessageId,
    /// Why.
    pub refusal: Refusal,
}

/// A receipt that waits for the sender of its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingReceipt {
    /// Its place in the order in which they came.
    pub number: i64,
    /// What is pushed.
    pub receipt: SignedReceipt,
}

/// What the end of an account, or of its key, has meant for others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parted {
    /// To whom messages went back.
    pub senders: Vec<PeerName>,
    /// With whom it was friends, and is no longer.
    pub friends: Vec<PeerName>,
}

/// What became of something that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// How far a friendship is now.
    pub state: Option<FriendState>,
    /// What the other one is told.
    pub news: Option<News>,
    /// To whom messages went back.
    pub senders: Vec<PeerName>,
}

/// A friend, or somebody who may become one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Befriended {
    /// Who.
    pub name: PeerName,
    /// Their key.
    pub key: PeerKey,
    /// How far it is.
    pub state: FriendState,
    /// When their peer was here last.
    pub last_seen: Option<UnixMillis>,
    /// Whether theirs is an account of the gateway.
    pub legacy: bool,
}

/// What waited for too long.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expired {
    /// How many envelopes are forgotten.
    pub count: usize,
    /// To whom they went back.
    pub senders: Vec<PeerName>,
}

/// A page of a search, ordered by name, then owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Owners and entries.
    pub entries: Vec<(PeerName, Entry)>,
    /// Whether there are more after the last.
    pub more: bool,
}

/// Everything a directory keeps. Every change is durable when its method returns.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The account of that name.
    async fn account(&self, name: &PeerName) -> Result<Option<Account>, StoreError>;

    /// Makes an account; refused with `NameTaken` when there is one of that name, with
    /// `NameKeptBack` when there was one lately. An invitation is used up by it, and
    /// refused with `InvitationInvalid` when it is not open.
    async fn create_account(&self, account: Account, invitation: Option<[u8; 32]>) -> Result<(), StoreError>;

    /// Replaces an account's password; refused with `SessionEnded` when the key is not the account's.
    async fn set_password(&self, name: &PeerName, key: PeerKey, password: String) -> Result<(), StoreError>;

    /// Removes an account and all that is kept for it, and keeps its name back; refused with `UnknownName`, and with
    /// `SessionEnded` when a key is named that is not the account's. What waits for it goes back to its senders.
    async fn delete_account(
        &self,
        name: &PeerName,
        key: Option<PeerKey>,
        now: UnixMillis,
    ) -> Result<Parted, StoreError>;

    /// Frees the names of accounts that were deleted before a time, and says how many.
    async fn expire_deleted_names(&self, before: UnixMillis) -> Result<usize, StoreError>;

    /// Keeps the name of a deleted account back no longer.
    async fn free_name(&self, name: &PeerName) -> Result<(), StoreError>;

    /// Keeps an account out, or lets it in again; refused with `UnknownName`.
    async fn set_disabled(&self, name: &PeerName, disabled: bool) -> Result<(), StoreError>;

    /// Accounts by name, after one.
    async fn account_page(&self, after: Option<PeerName>, limit: usize) -> Result<Vec<Account>, StoreError>;

    /// How many accounts there are of people: those of the gateway do not count.
    async fn accounts_of_people(&self) -> Result<u64, StoreError>;

    /// Which of these names are accounts of the gateway.
    async fn legacy_among(&self, names: Vec<PeerName>) -> Result<BTreeSet<PeerName>, StoreError>;

    /// Keeps the hash of an invitation; without an inviter it is the operator's. Refused with `TooManyInvitations`.
    async fn invite(
        &self,
        token: [u8; 32],
        inviter: Option<PeerName>,
        now: UnixMillis,
        expires: UnixMillis,
    ) -> Result<(), StoreError>;

    /// Whether an invitation can be used.
    async fn is_invited(&self, token: [u8; 32], now: UnixMillis) -> Result<bool, StoreError>;

    /// Forgets invitations that ended before a time, and says how many.
    async fn expire_invitations(&self, before: UnixMillis) -> Result<usize, StoreError>;

    /// Binds a new key to an account, forgets the old key's prekey, all grants given by and to the account, its friends
    /// and to whom it has written, and notes when it was replaced. Whom it keeps out, and who keeps it out, stays so.
    /// Envelopes that are sealed to another key go back to their senders. Refused with `Busy` when the old key is not
    /// the account's any more, or the account is kept out.
    async fn replace_key(
        &self,
        name: &PeerName,
        old: PeerKey,
        new: PeerKey,
        now: UnixMillis,
    ) -> Result<Parted, StoreError>;

    /// When a key was replaced, if it was the account's once.
    async fn replaced_at(&self, name: &PeerName, key: PeerKey) -> Result<Option<UnixMillis>, StoreError>;

    /// Makes a key that was replaced since a time the account's again; what came after it may not undo that, the same is
    /// forgotten as when a key is replaced, and what is sealed to it goes back to its senders. Refused with
    /// `PasswordNeeded` when it was not replaced since then.
    async fn take_back(
        &self,
        name: &PeerName,
        key: PeerKey,
        since: UnixMillis,
        now: UnixMillis,
    ) -> Result<Parted, StoreError>;

    /// Forgets replaced keys that can be undone no more, and says how many.
    async fn expire_key_changes(&self, before: UnixMillis) -> Result<usize, StoreError>;

    /// Keeps what is remembered of wrong passwords, in order. What is about an account that is gone is passed over.
    async fn keep_lockout(&self, changes: Vec<Remembered>) -> Result<(), StoreError>;

    /// What is remembered of wrong passwords, the latest first.
    async fn lockout(&self) -> Result<Vec<Remembered>, StoreError>;

    /// Forgets sources that have not tried since a time, and says how many.
    async fn expire_lockout(&self, before: UnixMillis) -> Result<usize, StoreError>;

    /// What a session of the account is told; refused with `UnknownName` when there is no account.
    async fn standing(&self, name: &PeerName) -> Result<Standing, StoreError>;

    /// The number of the account's last resident login, 0 before the first.
    async fn epoch(&self, name: &PeerName) -> Result<Epoch, StoreError>;

    /// Takes the next number for a resident login.
    async fn next_epoch(&self, name: &PeerName) -> Result<Epoch, StoreError>;

    /// Makes a prekey the account's current one; refused with `SessionEnded` when its identity is not the account's key.
    async fn put_prekey(&self, prekey: SignedPrekey) -> Result<(), StoreError>;

    /// The account's current prekey.
    async fn prekey(&self, name: &PeerName) -> Result<Option<SignedPrekey>, StoreError>;

    /// Keeps an envelope for its recipient, by the rules of [`crate::protocol::mailbox::deliver`], and refused as there.
    async fn deliver(
        &self,
        to: &PeerName,
        from: &PeerName,
        envelope: Envelope,
        now: UnixMillis,
    ) -> Result<(), StoreError>;

    /// The next envelope that waits for a recipient after a number, and the recipient's prekey at the same moment.
    async fn next_waiting(
        &self,
        recipient: &PeerName,
        after: i64,
    ) -> Result<(Option<Waiting>, Option<PrekeyId>), StoreError>;

    /// Forgets an envelope and keeps its receipt for the sender, both or neither, by the rule of
    /// [`crate::protocol::mailbox::hand_over`].
    async fn hand_over(
        &self,
        number: i64,
        sender: &PeerName,
        receipt: SignedReceipt,
        now: UnixMillis,
    ) -> Result<(), StoreError>;

    /// Gives the oldest envelopes that were stored before a time back to their senders, as `Expired`: at most so many.
    async fn expire_envelopes(&self, before: UnixMillis, limit: usize, now: UnixMillis) -> Result<Expired, StoreError>;

    /// Of these recipients and messages of a sender, those for which there is neither an envelope nor a receipt, and
    /// which did not come back either.
    async fn missing(
        &self,
        sender: &PeerName,
        sender_key: PeerKey,
        messages: Vec<(PeerName, MessageId)>,
    ) -> Result<Vec<MessageId>, StoreError>;

    /// Keeps the receipts of a key for an account, as far as they are for the account's key: one for each message, a
    /// later kind in the place of an earlier. Refused with `UnknownName`.
    async fn put_receipts(
        &self,
        to: &PeerName,
        by: PeerKey,
        receipts: Vec<SignedReceipt>,
        now: UnixMillis,
    ) -> Result<(), StoreError>;

    /// Receipts that wait for an account after a number, in the order in which they came.
    async fn receipts(&self, name: &PeerName, after: i64, limit: usize) -> Result<Vec<WaitingReceipt>, StoreError>;

    /// Forgets receipts by their numbers.
    async fn delete_receipts(&self, numbers: Vec<i64>) -> Result<(), StoreError>;

    /// Forgets receipts that were kept before a time, and says how many.
    async fn expire_receipts(&self, before: UnixMillis) -> Result<usize, StoreError>;

    /// Messages of a sender that came back after a number, in that order.
    async fn returned(&self, sender: &PeerName, after: i64, limit: usize) -> Result<Vec<Returned>, StoreError>;

    /// Forgets a message that came back.
    async fn delete_returned(&self, number: i64) -> Result<(), StoreError>;

    /// Forgets messages that came back before a time, and says how many.
    async fn expire_returned(&self, before: UnixMillis) -> Result<usize, StoreError>;

    /// Publishes an entry, or replaces the owner's entry of that name; refused with `TooManyShares`.
    async fn publish(&self, owner: &PeerName, entry: Entry, now: UnixMillis) -> Result<(), StoreError>;

    /// Takes an entry back; refused with `UnknownFile` when there is none of that name.
    async fn unpublish(&self, owner: &PeerName, name: &FileName) -> Result<(), StoreError>;

    /// Searches the catalogue, of which nobody finds what belongs to people they may not see.
    async fn find(
        &self,
        asker: &PeerName,
        query: Query,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, StoreError>;

    /// Whether an owner publishes a file to everyone and does not hide where it is. When one entry of the same bytes hides
    /// that, all do.
    async fn publishes_openly(&self, owner: &PeerName, digest: FileDigest) -> Result<bool, StoreError>;

    /// Lets a person learn an account's address, in the place of what it allowed them before. Refused with `SessionEnded`
    /// when the key is not the account's, with `UnknownName` when there is no such person, and with `Busy` when the
    /// account has allowed too many; with `YouBlock` when it keeps the person out.
    async fn allow(&self, granter: &PeerName, key: PeerKey, grant: Grant, now: UnixMillis) -> Result<(), StoreError>;

    /// Takes that back, if there was anything; refused with `SessionEnded` when the key is not the account's.
    async fn deny(&self, granter: &PeerName, key: PeerKey, grantee: &PeerName) -> Result<(), StoreError>;

    /// Who may learn an account's address now, by name, after one.
    async fn grants(
        &self,
        granter: &PeerName,
        after: Option<PeerName>,
        limit: usize,
        now: UnixMillis,
    ) -> Result<Vec<Grant>, StoreError>;

    /// Whether a person may learn an account's address now, by a grant or as a friend. Uses nothing up.
    async fn may_dial(&self, granter: &PeerName, grantee: &PeerName, now: UnixMillis) -> Result<bool, StoreError>;

    /// Says the same, and what was allowed once is gone after it: of several who use it at a time, one is told that it
    /// may.
    async fn use_grant(&self, granter: &PeerName, grantee: &PeerName, now: UnixMillis) -> Result<bool, StoreError>;

    /// Forgets what was allowed up to a time that is over, and says how many.
    async fn expire_grants(&self, now: UnixMillis) -> Result<usize, StoreError>;

    /// Whom an account knows and keeps out.
    async fn circle(&self, name: &PeerName) -> Result<Circle, StoreError>;

    /// What a person is to somebody who asks for them.
    async fn relation(&self, person: &PeerName, asker: &PeerName) -> Result<Relation, StoreError>;

    /// How a person takes somebody who wants to reach them; nothing when there is no such person.
    async fn reception(
        &self,
        person: &PeerName,
        asker: &PeerName,
        now: UnixMillis,
    ) -> Result<Option<Reception>, StoreError>;

    /// What an account and another have said of each other; refused with `UnknownName` when there is no other.
    async fn bond(&self, name: &PeerName, other: &PeerName) -> Result<Bond, StoreError>;

    /// Says something of another by the rules of [`Bond::after`], and is refused as there; with `SessionEnded` when the
    /// key is not the account's, with `UnknownName`, `TooManyFriends`, `TooManyAsk` or `TooManyBlocked`. Whoever is kept
    /// out has no grant any more, and what waits of those who may not write any more goes back to them.
    async fn say(
        &self,
        name: &PeerName,
        key: PeerKey,
        other: &PeerName,
        word: Word,
        now: UnixMillis,
    ) -> Result<Said, StoreError>;

    /// An account's friends, whom it has asked and who asks it, by name, after one.
    async fn friends(
        &self,
        name: &PeerName,
        after: Option<PeerName>,
        limit: usize,
    ) -> Result<Vec<Befriended>, StoreError>;

    /// Who asks an account to be friends, and their keys: the first to ask first, and no more than it is shown.
    async fn friend_requests(&self, name: &PeerName) -> Result<Vec<(PeerName, PeerKey)>, StoreError>;

    /// Whom an account keeps out, by name, after one.
    async fn blocked(
        &self,
        name: &PeerName,
        after: Option<PeerName>,
        limit: usize,
    ) -> Result<Vec<PeerName>, StoreError>;

    /// Who may see an account.
    async fn audience(&self, name: &PeerName) -> Result<Audience, StoreError>;

    /// Changes that; refused with `SessionEnded` when the key is not the account's. What waits of those who may not write
    /// any more goes back to them, who are named.
    async fn set_audience(
        &self,
        name: &PeerName,
        key: PeerKey,
        audience: Audience,
        now: UnixMillis,
    ) -> Result<Vec<PeerName>, StoreError>;

    /// What people are to somebody who asks for them; those without an account are left out.
    async fn relations(
        &self,
        asker: &PeerName,
        persons: Vec<PeerName>,
    ) -> Result<Vec<(PeerName, Relation)>, StoreError>;

    /// Notes that accounts' peers are here at a time.
    async fn seen(&self, names: Vec<PeerName>, at: UnixMillis) -> Result<(), StoreError>;

    /// Whose peers were here since a time, and when; at most so many, those who left last first.
    async fn seen_since(&self, since: UnixMillis, limit: usize) -> Result<Vec<(PeerName, UnixMillis)>, StoreError>;

    /// Waits until all that was asked for is done and the database is closed; nothing can be asked for after it.
    async fn close(&self);
}
