//! Starts a peer and owns all of its tasks: the session, the outbox, the links with other peers, and the commands.

use std::future::Future;
use std::sync::{Arc, Mutex};

use tokio::sync::{Semaphore, broadcast, mpsc, watch};
use tokio::task::JoinSet;

use super::blocks::Blocks;
use super::consent::Asking;
use super::context::{Account, Context, Delivering};
use super::directory_link::{self, Admission, LoginFailure, Session};
use super::exclusive::Exclusives;
use super::failure::{Failure, FailureKind};
use super::handle::{Asked, PeerHandle};
use super::links::{Links, Work};
use super::outbox::Enqueue;
use super::transfer_steps::Ask;
use super::transfers::Transfers;
use super::{commands, exclusive, inbox, outbox, peer_links, receipts, rendezvous, transfer_keeper};
use crate::one_thread::OneThread;
use crate::storage::profile::Profile;
use crate::transport::tuning::Network;
use crate::transport::verify::AnnouncedDials;
use crate::wire::limits::{LINK_IDLE, UPLOADS_MAX};
use crate::wire::refusal::CloseCode;

/// Events that a slow listener may be behind before it misses the oldest.
const EVENTS_MAX: usize = 1_024;
/// Commands that run at a time, and as many that wait to be started.
const COMMANDS_MAX: usize = 64;

/// A peer that has logged in: it lives while [`Self::run`] is awaited.
#[derive(Debug)]
pub struct Peer {
    context: Arc<Context>,
    handle: PeerHandle,
    session: Session,
    commands: mpsc::Receiver<Asked>,
    outbox: mpsc::Receiver<Enqueue>,
    work: mpsc::Receiver<Work>,
    asks: mpsc::Receiver<Ask>,
    /// Reads, hashes and writes files. Blocking there stalls nothing but other transfers.
    transfers: OneThread,
}

impl Peer {
    /// Connects to the directory and logs in.
    ///
    /// # Errors
    /// [`LoginFailure::Refused`] when the directory says no, perhaps only for want of a password.
    pub async fn start(
        account: Account,
        profile: Arc<Profile>,
        admission: &Admission,
        network: Network,
    ) -> Result<Self, LoginFailure> {
        let dials = AnnouncedDials::default();
        let (endpoint, connection, _) = directory_link::connect_first(
            &account.directory,
            Some(account.fingerprint),
            profile.identity(),
            &dials,
            network,
        )
        .await
        .map_err(LoginFailure::Failed)?;
        let transfers = OneThread::start("transfer").map_err(|error| {
            LoginFailure::Failed(Failure::new(FailureKind::Other, format!("cannot start the transfer thread: {error}")))
        })?;
        let (traffic, asks) = Transfers::new();
        let blocks = Blocks::load(profile.database()).await.map_err(|error| LoginFailure::Failed(error.into()))?;
        let (outbox, outbox_requests) = mpsc::channel(COMMANDS_MAX);
        let (links, work) = Links::new(profile.identity().public());
        let context = Arc::new(Context {
            account,
            profile,
            endpoint,
            dials,
            events: broadcast::Sender::new(EVENTS_MAX),
            session: watch::Sender::new(None),
            outbox,
            delivering: Delivering::default(),
            links,
            meetings: Default::default(),
            observations: Default::default(),
            traffic,
            transfers: transfers.handle().clone(),
            uploads: Semaphore::new(UPLOADS_MAX),
            limits: Default::default(),
            key_requests: Mutex::default(),
            asking: Asking::default(),
            blocks,
            friends: Default::default(),
            following: Default::default(),
            heard: Default::default(),
            exclusives: Exclusives::default(),
            sharing: Default::default(),
        });
        let logged_in = match directory_link::log_in(&context, &connection, admission).await {
            Ok(logged_in) => logged_in,
            Err(failure) => {
                connection.close(CloseCode::Done);
                return Err(failure);
            }
        };
        let mut session = (connection, logged_in);
        directory_link::begin(&context, &mut session).await;
        let (commands, asked) = mpsc::channel(COMMANDS_MAX);
        let handle = PeerHandle { context: context.clone(), commands };
        Ok(Self { context, handle, session, commands: asked, outbox: outbox_requests, work, asks, transfers })
    }

    /// What faces hold of this peer.
    #[must_use]
    pub fn handle(&self) -> PeerHandle {
        self.handle.clone()
    }

    /// Runs until `stop` is done, or until the session ends for good; then tells the other sides and ends every task.
    ///
    /// # Errors
    /// The [`Failure`] that ended the session, such as a newer login elsewhere.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), Failure> {
        let Self { context, handle, session, commands, outbox, work, asks, transfers } = self;
        drop(handle);
        let mut services = JoinSet::new();
        services.spawn(outbox::run(context.clone(), outbox));
        services.spawn(inbox::give_up_on_gaps(context.clone()));
        services.spawn(receipts::send_read(context.clone()));
        services.spawn(peer_links::run(context.clone(), work, LINK_IDLE));
        services.spawn(rendezvous::route_datagrams(context.clone()));
        services.spawn(exclusive::keep(context.clone()));
        services.spawn(transfer_keeper::run(context.clone(), asks));
        services.spawn(serve_commands(context.clone(), commands));
        let link = directory_link::run(context.clone(), session);
        let result = tokio::select! {
            failure = link => Err(failure),
            () = stop => Ok(()),
            Some(ended) = services.join_next() => Err(Failure::new(
                FailureKind::Other,
                format!("a part of the peer stopped unexpectedly: {ended:?}"),
            )),
        };
        close(&context, services).await;
        drop(transfers);
        result
    }
}

/// Closes every connection, links to peers included, and ends every task. Waits no longer than it takes to tell the other
/// sides.
async fn close(context: &Context, mut services: JoinSet<()>) {
    let session = context.session.borrow().clone();
    let connections = context.links.connections().into_iter().chain(session);
    // The close of a connection over which a file is being sent waits for its turn behind that.
    let is_sending = context.uploads.available_permits() < UPLOADS_MAX;
    context.endpoint.close(CloseCode::ShuttingDown);
    services.shutdown().await;
    if is_sending {
        return context.endpoint.wait_closed().await;
    }
    for connection in connections {
        connection.wait_close_sent().await;
    }
}

/// Starts commands in the order they come; each then runs in its own time.
async fn serve_commands(context: Arc<Context>, mut commands: mpsc::Receiver<Asked>) {
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            asked = commands.recv(), if running.len() < COMMANDS_MAX => match asked {
                Some(asked) => { running.spawn(commands::begin(context.clone(), asked).await); }
                // No handle is left: nobody can ask any more, but the peer goes on serving.
                None => std::future::pending().await,
            },
            Some(_) = running.join_next() => {}
        }
    }
}
