//! The door of `s2`: one UDP socket for all kinds of its programs, a TCP port for each person whom they cannot reach
//! themselves, and fetchers of the files that they list.
//!
//! ```text
//! datagram --admitted, parsed--> replies.rs --new--> queues.rs --in order--> requests.rs --> table.rs, kept.rs
//!                                     \--known: the same answer                  \--listed--> fetching.rs
//! ```

mod fetching;
mod handing_out;
mod kept;
mod queues;
mod replies;
mod requests;
mod speakers;
mod streams;
mod table;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use fetching::Fetching;
use handing_out::HandingOut;
use kept::Kept;
use queues::{Place, Queues, Turn};
use replies::{Known, Mark, Replies};
use speakers::Speakers;

use super::taken;
use crate::compat::dialect::s2::Datagram;
use crate::compat::gateway::Gateway;
use crate::compat::resident::Resident;
use crate::compat::settings::Dialect;
use crate::peer::failure::Failure;
use crate::transport::batch_socket::{BatchSocket, Buffers};
use crate::transport::tuning::Network;
use crate::wire::ids::PeerName;

/// How long one request may take: coming in is a handshake, and leaving waits for others to be told.
const REQUEST_PATIENCE: Duration = Duration::from_secs(30);

/// How long those who were here are waited for after a restart, before requests are looked at: K asks only once.
const RESTORING_PATIENCE: Duration = Duration::from_secs(20);

/// New tasks that wait to be begun.
const WORK_MAX: usize = 256;

/// A door that is bound.
#[derive(Debug)]
pub(super) struct Door {
    address: SocketAddr,
    socket: BatchSocket,
}

impl Door {
    /// Binds it.
    pub(super) fn bind(address: SocketAddr) -> Result<Self, Failure> {
        // Answers are single datagrams: there is nothing to segment.
        let bound = BatchSocket::bind(address, Network { segmentation_offload: false, ..Network::default() });
        let with_address = bound.and_then(|socket| Ok((socket.local_address()?, socket)));
        let (address, socket) = with_address.map_err(|error| taken(Dialect::S2, address, &error))?;
        Ok(Self { address, socket })
    }

    /// Where it is.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves for as long as it is awaited; dropping the future ends all of its tasks.
    pub(super) async fn serve(self, gateway: Arc<Gateway>) {
        if tokio::time::timeout(RESTORING_PATIENCE, gateway.restored()).await.is_err() {
            tracing::warn!("not all legacy names are back in time");
        }
        let (work, mut asked) = mpsc::channel(WORK_MAX);
        let service = Arc::new(Service::new(self, gateway, work));
        let mut tasks = JoinSet::new();
        tasks.spawn(service.clone().go_on());
        let mut buffers = Buffers::default();
        loop {
            tokio::select! {
                heard = service.hear(&mut buffers) => match heard {
                    Ok(first) => for from in first {
                        tasks.spawn(service.clone().work_off(from));
                    },
                    // An answer did not arrive somewhere, and the network says so here.
                    Err(error) => tracing::debug!(%error, "nothing was received"),
                },
                Some(work) = asked.recv() => service.begin(work, &mut tasks),
                Some(ended) = tasks.join_next() => if let Err(error) = ended {
                    tracing::error!(%error, "a task of the door s2 broke");
                },
            }
        }
    }
}

/// A request and where it came from.
#[derive(Debug)]
struct Job {
    from: SocketAddr,
    /// The gateway's address as the program at the other end sees it.
    gateway: IpAddr,
    /// The address of this machine that it was sent to, which the answer comes from.
    to: Option<IpAddr>,
    /// What remembers its answer; requests without a number are not told apart.
    mark: Option<Mark>,
    datagram: Datagram,
}

/// A task that the door owns.
#[derive(Debug)]
enum Work {
    /// Serve the port that stands for somebody.
    HandOut(PeerName, TcpListener),
    /// Fetch what somebody lists.
    Collect(Resident),
}

/// What all tasks of the door share.
#[derive(Debug)]
struct Service {
    gateway: Arc<Gateway>,
    socket: BatchSocket,
    address: SocketAddr,
    work: mpsc::Sender<Work>,
    replies: Mutex<Replies>,
    queues: Queues<Job>,
    speakers: Speakers,
    fetching: Fetching,
    handing_out: HandingOut,
}

impl Service {
    fn new(Door { address, socket }: Door, gateway: Arc<Gateway>, work: mpsc::Sender<Work>) -> Self {
        Self {
            gateway,
            socket,
            address,
            work,
            replies: Mutex::default(),
            queues: Queues::default(),
            speakers: Speakers::default(),
            fetching: Fetching::new(),
            handing_out: HandingOut::new(),
        }
    }

    /// Serves the ports again that old tables name, and fetches what is missing since the last time.
    async fn go_on(self: Arc<Self>) {
        for resident in self.gateway.residents(Dialect::S2) {
            self.collects(&resident);
        }
        for name in self.gateway.ports().people(Dialect::S2).await {
            if self.stand_in(&name).await.is_none() {
                tracing::debug!(%name, "the port that stood for them cannot be had");
            }
        }
    }

    fn begin(self: &Arc<Self>, work: Work, tasks: &mut JoinSet<()>) {
        match work {
            Work::HandOut(owner, listener) => {
                tasks.spawn(self.clone().hand_out(owner, listener));
            }
            Work::Collect(resident) => {
                if let Some(woken) = self.fetching.wake(resident.name()) {
                    tasks.spawn(self.clone().collect(resident, woken));
                }
            }
        }
    }

    /// Sees to it that what somebody lists is fetched.
    fn collects(&self, resident: &Resident) {
        let is_missing_some = Kept::of(resident).is_some_and(|kept| !kept.missing().is_empty());
        if is_missing_some && self.work.try_send(Work::Collect(resident.clone())).is_err() {
            tracing::debug!(name = %resident.name(), "listed files are fetched at the next request");
        }
    }

    /// Takes what came; gives the addresses whose requests nobody works off yet.
    async fn hear(&self, buffers: &mut Buffers) -> io::Result<Vec<SocketAddr>> {
        let mut first = Vec::new();
        for batch in self.socket.receive(buffers).await? {
            for bytes in batch.datagrams() {
                if self.take(batch.from, batch.to, bytes) == Some(Place::First) {
                    first.push(batch.from);
                }
            }
        }
        Ok(first)
    }

    /// Takes one datagram: what is not admitted or no request is passed over, what came before is answered as before.
    fn take(&self, from: SocketAddr, to: Option<IpAddr>, bytes: &[u8]) -> Option<Place> {
        if !self.gateway.door.knows(from.ip()) || !self.gateway.door.admits(from, bytes.len()) {
            return None;
        }
        let datagram = Datagram::parse(bytes).ok()?;
        let is_numbered = datagram.number != Value::Null;
        let known = is_numbered.then(|| self.replies().look_up(from, bytes, Instant::now()));
        let mark = match known {
            None => None,
            Some(Known::New(mark)) => Some(mark),
            Some(Known::UnderWay) => return None,
            Some(Known::Answered(said)) => {
                self.say(from, to, said.as_deref().unwrap_or_default());
                return None;
            }
        };
        let own = self.address.ip();
        let gateway = if own.is_unspecified() { to.unwrap_or(own) } else { own }.to_canonical();
        let place = self.queues.push(from, Job { from, gateway, to, mark, datagram });
        if place == Place::Dropped
            && let Some(mark) = mark
        {
            self.replies().ignored(mark);
        }
        Some(place)
    }

    /// Works off the requests of an address.
    async fn work_off(self: Arc<Self>, from: SocketAddr) {
        let mut turn = Turn::of(&self.queues, from);
        while let Some(job) = turn.next() {
            self.answer(job).await;
        }
    }

    async fn answer(&self, job: Job) {
        let answer = tokio::time::timeout(REQUEST_PATIENCE, self.carry_out(&job)).await.unwrap_or(None);
        let is_ignored = answer.is_none();
        let Job { from, to, mark, datagram, .. } = job;
        let said = answer.and_then(|answer| answer.encode(datagram.variant, &datagram.number));
        // Before it is said: whoever hears it may ask the same again at once.
        match mark {
            Some(mark) if is_ignored => self.replies().ignored(mark),
            Some(mark) => self.replies().answered(mark, said.clone()),
            None => {}
        }
        self.say(from, to, said.as_deref().unwrap_or_default());
    }

    /// Sends an answer, if there is one and its sender may be told so much.
    fn say(&self, to: SocketAddr, from: Option<IpAddr>, bytes: &[u8]) {
        if !bytes.is_empty() && self.gateway.door.may_send(to, bytes.len()) && !self.socket.send(to, from, bytes) {
            tracing::debug!(%to, "the network did not take an answer");
        }
    }

    fn replies(&self) -> MutexGuard<'_, Replies> {
        self.replies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
