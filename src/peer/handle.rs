//! What a face holds of a running peer: it gives commands and hears events. Clones share the peer.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc};

use super::context::Context;
use super::event::Event;
use super::failure::{Failure, FailureKind};
use crate::storage::history::Before;
use crate::storage::partial_file::Collision;
use crate::storage::receive_tree::Executable;
use crate::storage::walk::Filter;
use crate::wire::ids::{FileDigest, FileName, MessageId, Password, PeerName};
use crate::wire::people::{Audience, Presence};
use crate::wire::profile::{DisplayName, FieldLabel, FieldValue, ProfileInfo};

/// What a person or program asks of a peer. Paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Who is online. Rows: [`Event::Person`].
    Who {
        /// Those too who were in the last hour.
        #[serde(default)]
        recent: bool,
        /// Only names that contain this; empty finds all.
        #[serde(default)]
        pattern: String,
    },
    /// Lets others see this person otherwise. Row: [`Event::PresenceSet`].
    SetPresence {
        /// How.
        presence: Presence,
    },
    /// Says something to everyone who is online. Row: [`Event::Announced`].
    Broadcast {
        /// What.
        text: String,
    },
    /// Files whose name contains a text. Rows: [`Event::Found`].
    Find {
        /// The text; empty finds all.
        pattern: String,
    },
    /// Publishes a file or folder to everyone. Rows: [`Event::Skipped`] for what of a folder cannot be shared, then
    /// [`Event::Shared`].
    Share {
        /// Which.
        path: PathBuf,
        /// Whether it is served through the relay only, so that nobody learns where this peer is.
        #[serde(default)]
        hides_address: bool,
        /// What of a folder is left out.
        #[serde(default)]
        filter: Filter,
    },
    /// Takes a published file back. Row: [`Event::Unshared`].
    Unshare {
        /// Its name.
        name: FileName,
    },
    /// What is published. Rows: [`Event::Shared`].
    Shared,
    /// Sends a line of chat. Row: [`Event::Stored`], [`Event::Delivered`] or [`Event::Queued`]; before it
    /// [`Event::Legacy`] when it is for an older program.
    Message {
        /// To whom.
        to: PeerName,
        /// What.
        text: String,
    },
    /// Offers files and folders, one after the other and without waiting for an answer in between. Rows:
    /// [`Event::Legacy`] when they are for an older program, for each [`Event::Skipped`] and [`Event::Offered`], and with
    /// `wait` [`Event::Sent`]; of several, [`Event::Note`] for each that does not go.
    Send {
        /// To whom.
        to: PeerName,
        /// Which.
        paths: Vec<PathBuf>,
        /// Whether the command ends only when the other side has all of them or declines.
        wait: bool,
        /// What of a folder is left out.
        #[serde(default)]
        filter: Filter,
    },
    /// Fetches a file or folder. Row: [`Event::Received`]; before it an [`Event::Transfer`] each time when it has to wait. A
    /// resident peer goes on with it when this command has ended with [`FailureKind::Partial`], and when it is started
    /// again.
    Get {
        /// Which.
        source: Source,
        /// Into which folder.
        folder: PathBuf,
        /// What to do when there is a file of that name.
        collision: Collision,
        /// Whether files of a folder may be executed that may be at their owner's.
        #[serde(default)]
        executable: Executable,
        /// Whether it is given up when it stops, so that nothing of it stays.
        #[serde(default)]
        once: bool,
    },
    /// Limits how fast files go and come, each way, all together; or ends that. Row: [`Event::Limit`].
    SetLimit {
        /// Bytes in a second.
        bytes_per_second: Option<u64>,
    },
    /// What limit there is. Row: [`Event::Limit`].
    Limit,
    /// The offers that wait for an answer. Rows: [`Event::Offer`], then [`Event::OpenOffer`] for those of this account.
    Offers,
    /// Fetches an offered file, now or when whoever offers it is back. Rows as of [`Command::Get`].
    Accept {
        /// The offer's id, its beginning, or the name of who offers; the only one when it is empty.
        offer: String,
        /// Into which folder.
        folder: PathBuf,
        /// What to do when there is a file of that name.
        collision: Collision,
        /// Whether files of a folder may be executed that may be at their owner's.
        #[serde(default)]
        executable: Executable,
    },
    /// What was said, oldest first. Rows: [`Event::History`].
    History {
        /// With whom; with everybody when there is none.
        with: Option<PeerName>,
        /// At most so many, the newest.
        limit: u64,
        /// Older ones only.
        before: Option<Before>,
        /// Those with all of these words, of which the last may be the beginning of one.
        search: Option<String>,
    },
    /// What no screen has shown yet. Rows: [`Event::Message`], [`Event::Offer`], [`Event::OfferDeclined`], each after an
    /// [`Event::Again`] when it was perhaps shown, then the other offers that wait for an answer. They stay new until
    /// [`Command::MarkShown`].
    Inbox,
    /// Notes that these were on a screen.
    MarkShown {
        /// Their ids.
        ids: Vec<MessageId>,
    },
    /// What this disk proves of a conversation. Rows: [`Event::Audit`], [`Event::AuditFinding`]; fails with
    /// [`FailureKind::Integrity`] when something was lost, replayed or reordered.
    Audit {
        /// With whom.
        with: PeerName,
    },
    /// Shows what is known of a person's key. Row: [`Event::Contact`].
    Verify {
        /// Whose.
        name: PeerName,
        /// Whether to note that the safety number was compared.
        mark: bool,
    },
    /// Accepts a verified person's other key. Row: [`Event::Contact`].
    Trust {
        /// Whose.
        name: PeerName,
    },
    /// Connects straight to a person, whom it asks first. Rows: [`Event::Asked`], and with `wait` [`Event::Connected`];
    /// else that comes as an event when they have allowed it.
    Connect {
        /// To whom.
        to: PeerName,
        /// Whether the command ends only when they have answered.
        wait: bool,
    },
    /// Lets a person learn where this peer is. Row: [`Event::Allowed`].
    Allow {
        /// Whom.
        to: PeerName,
        /// For how long.
        term: Term,
    },
    /// Takes that back, and turns down what they have asked. Row: [`Event::Denied`].
    Deny {
        /// Whom.
        to: PeerName,
    },
    /// Who may learn where this peer is. Rows: [`Event::Allowed`].
    Allowed,
    /// Keeps a person out: nothing of theirs comes here, and they see nothing of this account. Row: [`Event::Blocked`].
    Block {
        /// Whom.
        name: PeerName,
    },
    /// Lets them in again. Row: [`Event::Unblocked`].
    Unblock {
        /// Whom.
        name: PeerName,
    },
    /// Who is kept out. Rows: [`Event::Blocked`].
    Blocked,
    /// Asks a person to be friends, or accepts when they have asked. Row: [`Event::Friend`].
    Befriend {
        /// Whom.
        name: PeerName,
    },
    /// Ends a friendship, declines a request or takes one's own back. Row: [`Event::Unfriended`].
    Unfriend {
        /// With whom.
        name: PeerName,
    },
    /// Tells somebody who asks to be friends that the answer comes later. Row: [`Event::PutOff`].
    PutOff {
        /// Whom.
        name: PeerName,
    },
    /// Friends, and who may become one. Rows: [`Event::Friend`].
    Friends,
    /// Says who may see this account and write to it. Row: [`Event::Privacy`].
    SetPrivacy {
        /// Who.
        audience: Audience,
    },
    /// Who may. Row: [`Event::Privacy`].
    Privacy,
    /// What somebody says about themselves. Row: [`Event::Profile`], after an [`Event::Note`] when they cannot be asked and
    /// it is the copy that lies here.
    Profile {
        /// Who; oneself when there is none.
        name: Option<PeerName>,
        /// The friend who is asked for it in their place.
        via: Option<PeerName>,
        /// Where their picture is to be saved; a file that is there stays.
        picture_to: Option<PathBuf>,
    },
    /// Changes what this account says about itself, and signs it as the next version. Row: [`Event::Profile`].
    EditProfile {
        /// What changes.
        edit: ProfileEdit,
    },
    /// Whether there is such a person to talk to; their key is pinned by that. Row: [`Event::Legacy`] when they use an
    /// older program.
    Query {
        /// Who.
        to: PeerName,
    },
    /// Opens an exclusive conversation, which [`Event::ExclusiveOpened`] says on both sides. Fails while there is one with
    /// somebody else, here or there.
    OpenExclusive {
        /// With whom.
        to: PeerName,
    },
    /// Ends an exclusive conversation, which [`Event::ExclusiveClosed`] says on both sides. It is no failure when it is
    /// over already.
    CloseExclusive {
        /// With whom.
        with: PeerName,
    },
    /// Turns an offer down. Row: [`Event::Declined`].
    Decline {
        /// As in [`Command::Accept`].
        offer: String,
    },
    /// Takes a friend's offers from now on without asking. Row: [`Event::Welcome`].
    Welcome {
        /// Whose.
        name: PeerName,
        /// Those of at most so many bytes.
        bytes_max: u64,
        /// Into which folder.
        folder: PathBuf,
    },
    /// Asks about a friend's offers again. Row: [`Event::Unwelcome`].
    Unwelcome {
        /// Whose.
        name: PeerName,
    },
    /// Whose offers are taken without asking. Rows: [`Event::Welcome`].
    Welcomes,
    /// What is on its way to and from this peer. Rows: [`Event::Transfer`].
    Transfers,
    /// Ends a transfer, and what has come of it is removed; or takes an offer of this account back. Row:
    /// [`Event::Transfer`].
    Cancel {
        /// The beginning of its id, or the name of the file; the only transfer when it is empty.
        which: String,
    },
    /// Lets what comes here wait until it is resumed. Row: [`Event::Transfer`].
    Pause {
        /// As in [`Command::Cancel`].
        which: String,
    },
    /// Goes on with what was paused, has failed or waits. Rows as of [`Command::Get`].
    Resume {
        /// As in [`Command::Cancel`].
        which: String,
    },
    /// Makes an invitation for a new account. Row: [`Event::Invited`].
    Invite {
        /// The name that the link proposes.
        name: Option<PeerName>,
    },
    /// Replaces the account's password.
    ChangePassword {
        /// The new one.
        new: Password,
    },
    /// Removes the account from the directory. What lies on this machine stays.
    DeleteAccount,
    /// How this peer is connected. Rows: [`Event::Status`], then [`Event::Link`] for each open connection to somebody; of
    /// several to one person the first is used.
    Status,
    /// Where the account is logged in. Rows: [`Event::Session`].
    Sessions,
    /// Ends all of the account's sessions but this one.
    EndOtherSessions,
    /// Answers [`Event::KeyRequested`].
    AnswerKeyRequest {
        /// The beginning of the key; the only one that asks when it is empty.
        key: String,
        /// Whether it may replace this account's key, which ends this peer.
        allow: bool,
    },
}

impl Command {
    /// Whether it fetches something; beside a resident peer it only watches how that does so.
    #[must_use]
    pub fn follows_a_transfer(&self) -> bool {
        matches!(self, Self::Get { .. } | Self::Accept { .. } | Self::Resume { .. })
    }
}

/// For how long a person may learn where this peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Term {
    /// For the next connection only.
    Once,
    /// For a time from now.
    For {
        /// How long.
        millis: u64,
    },
    /// Until it is taken back.
    Always,
}

/// A change to a profile; what has no value is removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProfileEdit {
    /// What one wants to be called.
    DisplayName {
        /// The name.
        name: Option<DisplayName>,
    },
    /// The paragraph about oneself.
    Info {
        /// What it says.
        text: Option<ProfileInfo>,
    },
    /// The picture.
    Picture {
        /// The PNG or JPEG file that it is read from.
        path: Option<PathBuf>,
    },
    /// A free field.
    Field {
        /// What it is called.
        label: FieldLabel,
        /// What it says.
        value: Option<FieldValue>,
    },
}

/// Which file to fetch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A published file of one person.
    Named {
        /// Its owner.
        owner: PeerName,
        /// Its name.
        name: FileName,
    },
    /// A published file of anybody, by its BLAKE3 root.
    Digest {
        /// The root.
        digest: FileDigest,
    },
}

/// A running peer, as its faces see it.
#[derive(Debug, Clone)]
pub struct PeerHandle {
    pub(super) context: Arc<Context>,
    pub(super) commands: mpsc::Sender<Asked>,
}

/// A command on its way to the driver, and where its events go.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) command: Command,
    pub(super) events: mpsc::Sender<Event>,
}

impl PeerHandle {
    /// Hears everything that happens from now on. A listener that falls 1,024 events behind misses the oldest; no
    /// message is lost by that, because it counts as new until [`Self::mark_shown`].
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.context.events.subscribe()
    }

    /// Limits how fast files go and come, each way, before anything moves; later there is [`Command::SetLimit`].
    ///
    /// # Errors
    /// A [`Failure`] when nothing would come at that rate.
    pub fn set_limit(&self, bytes_per_second: Option<u64>) -> Result<(), Failure> {
        self.context.limits.set(bytes_per_second)
    }

    /// Gives a command; the last event that comes back is [`Event::Done`] or [`Event::Failed`].
    pub async fn run(&self, command: Command) -> mpsc::Receiver<Event> {
        let (events, answers) = mpsc::channel(64);
        let asked = Asked { command, events: events.clone() };
        if self.commands.send(asked).await.is_err() {
            let failure = Failure::new(FailureKind::Other, "the peer has stopped");
            events.try_send(Event::Failed { failure }).expect("a new channel has room for one event");
        }
        answers
    }

    /// Gives a command and collects its rows.
    ///
    /// # Errors
    /// The [`Failure`] that ended it.
    pub async fn ask(&self, command: Command) -> Result<Vec<Event>, Failure> {
        let mut answers = self.run(command).await;
        let mut rows = Vec::new();
        while let Some(event) = answers.recv().await {
            match event {
                Event::Done => return Ok(rows),
                Event::Failed { failure } => return Err(failure),
                row => rows.push(row),
            }
        }
        Err(Failure::new(FailureKind::Other, "the peer has stopped"))
    }

    /// Messages that came earlier and that no screen has shown yet, each with whether it was about to be shown.
    ///
    /// # Errors
    /// A [`Failure`] when the profile cannot be read.
    pub async fn not_shown(&self) -> Result<Vec<(Event, bool)>, Failure> {
        super::inbox::not_shown(&self.context).await
    }

    /// Notes that a message is about to be shown: from here to [`Self::mark_shown`] a crash leaves it open whether it was.
    /// Says `false` when another face has shown it already.
    ///
    /// # Errors
    /// A [`Failure`] when the profile cannot be written.
    pub async fn begin_showing(&self, id: MessageId) -> Result<bool, Failure> {
        Ok(crate::storage::messages::begin_showing(self.context.database(), id).await?)
    }

    /// Notes that a message was on the screen, so that it is not shown again after a restart.
    ///
    /// # Errors
    /// A [`Failure`] when the profile cannot be written.
    pub async fn mark_shown(&self, id: MessageId) -> Result<(), Failure> {
        super::history::mark_shown(&self.context, vec![id]).await
    }

    /// The names of the people this account has talked to.
    ///
    /// # Errors
    /// A [`Failure`] when the profile cannot be read.
    pub async fn contacts(&self) -> Result<Vec<PeerName>, Failure> {
        Ok(crate::storage::contacts::names(self.context.database()).await?)
    }
}
