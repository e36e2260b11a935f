//! What all parts of a running peer share.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore, broadcast, mpsc, watch};
use tokio::task::JoinSet;

use super::announcements::Heard;
use super::blocks::Blocks;
use super::consent::Asking;
use super::directory_link::DirectoryAddress;
use super::event::Event;
use super::exclusive::Exclusives;
use super::failure::{Failure, FailureKind};
use super::friends::Friends;
use super::limits::Limits;
use super::links::Links;
use super::observation::Observations;
use super::outbox::Enqueue;
use super::presence::Following;
use super::rendezvous::Meetings;
use super::transfers::Transfers;
use crate::database::Database;
use crate::seal::identity::IdentityKey;
use crate::storage::profile::Profile;
use crate::transport::connection::Connection;
use crate::transport::endpoint::Endpoint;
use crate::transport::verify::AnnouncedDials;
use crate::wire::account::{Identity, LoginKind};
use crate::wire::directory::{DirectoryAnswer, DirectoryReply, DirectoryRequest};
use crate::wire::ids::{DirectoryFingerprint, PeerKey, PeerName, PrekeyId};
use crate::wire::refusal::Refusal;

/// Which account at which directory, and as what.
#[derive(Debug, Clone)]
pub struct Account {
    /// The account's name.
    pub name: PeerName,
    /// Where the directory is.
    pub directory: DirectoryAddress,
    /// The directory's pinned key.
    pub fingerprint: DirectoryFingerprint,
    /// What the session is for.
    pub kind: LoginKind,
    /// Whether it takes what waits for this account: a resident does, and an errand that is for that.
    pub collects_mail: bool,
    /// Whether senders are told when their messages were on the screen.
    pub sends_read_receipts: bool,
    /// Which ways to other peers are taken.
    pub paths: PathChoice,
}

/// Which ways to other peers are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PathChoice {
    /// Direct where that is allowed and works, else through the relay.
    #[default]
    Any,
    /// Never through the relay.
    DirectOnly,
    /// Never direct: nobody learns this peer's address.
    RelayOnly,
}

#[derive(Debug)]
pub(super) struct Context {
    pub(super) account: Account,
    pub(super) profile: Arc<Profile>,
    pub(super) endpoint: Endpoint,
    pub(super) dials: AnnouncedDials,
    pub(super) events: broadcast::Sender<Event>,
    /// The session at the directory, while there is one.
    pub(super) session: watch::Sender<Option<Connection>>,
    pub(super) outbox: mpsc::Sender<Enqueue>,
    pub(super) delivering: Delivering,
    /// The connections to other peers.
    pub(super) links: Links,
    /// The rendezvous under way.
    pub(super) meetings: Meetings,
    /// Where this peer's socket is seen from.
    pub(super) observations: Observations,
    /// What is received and sent.
    pub(super) traffic: Transfers,
    /// File streams run on a thread of their own, so that a slow disk does not stall chat.
    pub(super) transfers: tokio::runtime::Handle,
    pub(super) uploads: Semaphore,
    /// How fast files may go and come.
    pub(super) limits: Limits,
    /// Keys that want this account and wait for its owner's answer.
    pub(super) key_requests: Mutex<Vec<PeerKey>>,
    /// Who is asked for a direct connection, and who asks.
    pub(super) asking: Asking,
    /// Whom this account keeps out.
    pub(super) blocks: Blocks,
    /// Who asks to be friends.
    pub(super) friends: Friends,
    /// Whose presence is followed, and what this person shows of theirs.
    pub(super) following: Following,
    /// What was said to everybody.
    pub(super) heard: Heard,
    /// The one exclusive conversation.
    pub(super) exclusives: Exclusives,
    /// Held while a folder is read and kept: one at a time.
    pub(super) sharing: tokio::sync::Mutex<()>,
}

/// By which the parts that move messages wake each other and wait for each other.
#[derive(Debug, Default)]
pub(super) struct Delivering {
    /// Rings when a message is to be sent again.
    pub(super) unsent: Notify,
    /// Rings when a message is held until those before it come.
    pub(super) held: Notify,
    /// Rings when senders are to be told that their messages were read.
    pub(super) read: Notify,
    /// Held while a message is taken and told, so that everybody hears of messages in the order of the disk.
    pub(super) arrivals: tokio::sync::Mutex<()>,
    /// The prekey that the directory hands out. Held while it is replaced, so that one is on its way at a time.
    pub(super) prekeys: tokio::sync::Mutex<Option<PrekeyId>>,
    /// Whether this session has left a message at the directory, which may need an old prekey in the next.
    pub(super) has_left: AtomicBool,
}

/// Notes that nobody wants the rest of what is being done, once whoever asked for it has gone.
#[derive(Debug, Default)]
pub(super) struct CancelsWhenDropped(pub(super) Arc<AtomicBool>);

impl Drop for CancelsWhenDropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Context {
    pub(super) fn identity(&self) -> &IdentityKey {
        self.profile.identity()
    }

    pub(super) fn key(&self) -> PeerKey {
        self.identity().public()
    }

    pub(super) fn database(&self) -> &Database {
        self.profile.database()
    }

    pub(super) fn key_requests(&self) -> MutexGuard<'_, Vec<PeerKey>> {
        self.key_requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells every face. It is no error when nobody listens. Whoever is talked to is followed from then on.
    pub(super) fn tell(&self, event: Event) {
        self.following.notice(&event);
        if self.events.send(event).is_err() {
            tracing::trace!("an event that nobody hears");
        }
    }

    /// Asks the directory, if there is a session; its no is an answer too.
    pub(super) async fn exchange(&self, request: &DirectoryRequest) -> Result<DirectoryAnswer, Failure> {
        let session = self.session.borrow().clone();
        let Some(session) = session else {
            return Err(unreachable_directory(&self.account.directory, "the connection is lost"));
        };
        session
            .request(request)
            .await
            .map_err(|error| unreachable_directory(&self.account.directory, &error.to_string()))
    }

    /// Asks the directory, if there is a session.
    pub(super) async fn ask_directory(&self, request: &DirectoryRequest) -> Result<DirectoryReply, Failure> {
        Ok(self.exchange(request).await??)
    }

    /// Asks the directory for something whose only answer is "done".
    pub(super) async fn tell_directory(&self, request: &DirectoryRequest) -> Result<(), Failure> {
        match self.ask_directory(request).await? {
            DirectoryReply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// The keys of a person as the directory knows them.
    pub(super) async fn identify(&self, name: &PeerName) -> Result<Identity, Failure> {
        let request = DirectoryRequest::Identify { name: name.clone() };
        match self.ask_directory(&request).await.map_err(|failure| failure.about(name))? {
            DirectoryReply::Identity(identity) if identity.name == *name => Ok(*identity),
            other => Err(unexpected(&other)),
        }
    }

    /// Runs work that reads the disk for long on a thread of its own, beside the transfers.
    pub(super) async fn beside_transfers<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let stopped = |_| Failure::new(FailureKind::Other, "reading the disk was stopped");
        self.transfers.spawn_blocking(work).await.map_err(stopped)
    }

    /// The same for work that looks now and then whether nobody waits for it any more.
    pub(super) async fn beside_transfers_while_wanted<T: Send + 'static>(
        &self,
        work: impl FnOnce(&AtomicBool) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let cancels = CancelsWhenDropped::default();
        let is_cancelled = cancels.0.clone();
        self.beside_transfers(move || work(&is_cancelled)).await
    }

    /// Runs work that moves file bytes on the transfer thread.
    pub(super) async fn on_transfer_thread<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Failure> {
        // A set of one task, so that dropping this future ends the work.
        let mut tasks = JoinSet::new();
        tasks.spawn_on(work, &self.transfers);
        match tasks.join_next().await {
            Some(Ok(result)) => Ok(result),
            Some(Err(_)) | None => Err(Failure::new(FailureKind::Other, "the transfer was stopped")),
        }
    }
}

/// Refuses what somebody would do to themselves.
pub(super) fn not_oneself(context: &Context, name: &PeerName) -> Result<(), Failure> {
    if *name == context.account.name {
        return Err(Failure::new(FailureKind::Usage, "this is yourself: name another person"));
    }
    Ok(())
}

/// The failure of everything that needs a directory that does not answer.
pub(super) fn unreachable_directory(directory: &DirectoryAddress, reason: &str) -> Failure {
    Failure::new(FailureKind::DirectoryUnreachable, format!("cannot reach the directory at {directory}: {reason}"))
        .hint(format!("is `qchat serve` running there, and is UDP port {} open?", directory.port))
}

/// The failure of a directory that answers something else than it was asked.
pub(super) fn unexpected(_reply: &DirectoryReply) -> Failure {
    Failure::from(Refusal::UnknownRequest).about("the directory's answer")
}
