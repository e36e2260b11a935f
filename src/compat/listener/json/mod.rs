//! The door of `json`: one UDP socket, a task for each request, and one for each name that is here.
//!
//! ```text
//! datagram --door, parse, cookie, memory--> a task --entrance.rs, asks.rs--> answer
//!     \--acknowledgement, chunk--> attendants (pushes.rs), downloads.rs, uploads.rs
//! ```

mod asks;
mod attendants;
mod cookies;
mod downloads;
mod entrance;
mod incoming;
mod lists;
mod memory;
mod outgoing;
mod pushes;
mod uploads;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;

use attendants::Attendants;
use cookies::{Cookies, Proof};
use downloads::Downloads;
use entrance::Entrance;
use memory::{Begun, Memory, RequestId};
use uploads::Uploads;

use crate::clock::now_millis;
use crate::compat::dialect::json::answer::Answer;
use crate::compat::dialect::json::ask::Ask;
use crate::compat::dialect::json::{Datagram, Keys, Number};
use crate::compat::gateway::Gateway;
use crate::compat::listener::taken;
use crate::compat::settings::Dialect;
use crate::compat::turns::Turns;
use crate::peer::failure::Failure;
use crate::seal::random::{OsRandom, array};
use crate::transport::batch_socket::{BatchSocket, Buffers};
use crate::transport::tuning::Network;
use crate::wire::limits::{
    LEGACY_FILES_AT_ONCE, LEGACY_JSON_SENT_BYTES_MAX, LEGACY_JSON_TASKS_MAX, LEGACY_JSON_TASKS_PER_SOURCE_MAX,
};

/// After an error of the socket, so that one that stays does not keep a processor busy.
const PAUSE: Duration = Duration::from_millis(50);

/// A door that is bound.
#[derive(Debug)]
pub(super) struct Door {
    socket: BatchSocket,
    address: SocketAddr,
}

/// What all tasks of the door share.
#[derive(Debug)]
struct Shared {
    gateway: Arc<Gateway>,
    socket: BatchSocket,
    address: SocketAddr,
    cookies: Cookies,
    memory: Mutex<Memory>,
    entrance: Entrance,
    attendants: Attendants,
    downloads: Downloads,
    uploads: Uploads,
    /// Files in memory that are fetched here; those that are brought here are counted by `uploads`.
    files: Semaphore,
}

/// Where a request comes from, and how it is answered.
#[derive(Debug, Clone)]
struct Call {
    from: SocketAddr,
    /// The address of this machine that it was sent to.
    to: Option<IpAddr>,
    keys: Keys,
    number: Option<Number>,
}

/// What becomes of a request.
#[derive(Debug)]
enum Reply {
    /// It is answered.
    Answer(Answer),
    /// It was answered by what was sent on the way.
    Sent,
    /// It had no effect: made again, it is begun again.
    Void,
}

impl Door {
    /// Binds it.
    pub(super) fn bind(address: SocketAddr) -> Result<Self, Failure> {
        let failed = |error| taken(Dialect::Json, address, &error);
        let socket = BatchSocket::bind(address, Network::default()).map_err(failed)?;
        let address = socket.local_address().map_err(failed)?;
        Ok(Self { socket, address })
    }

    /// Where it is.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves for as long as it is awaited; dropping the future ends all of its tasks.
    pub(super) async fn serve(self, gateway: Arc<Gateway>) {
        let Self { socket, address } = self;
        let mut arrivals = gateway.arrivals();
        let shared = Arc::new(Shared::new(gateway, socket, address));
        let mut work = Work::default();
        let mut attending = JoinSet::new();
        let mut buffers = Buffers::default();
        shared.attend_to_all(&mut attending);
        loop {
            tokio::select! {
                batches = shared.socket.receive(&mut buffers) => match batches {
                    Ok(batches) => {
                        for batch in batches {
                            for datagram in batch.datagrams() {
                                shared.take(batch.from, batch.to, datagram, &mut work);
                            }
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the JSON door cannot read");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
                Some(ended) = work.tasks.join_next() => note_end(&ended),
                Some(ended) = attending.join_next() => note_end(&ended),
                arrival = arrivals.recv() => match arrival {
                    Ok(_) | Err(RecvError::Lagged(_)) => shared.attend_to_all(&mut attending),
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }
}

fn note_end(ended: &Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a task of the JSON door broke");
    }
}

/// Requests that are being worked on.
#[derive(Debug)]
struct Work {
    tasks: JoinSet<()>,
    turns: Turns,
}

impl Default for Work {
    fn default() -> Self {
        let turns = Turns::new(LEGACY_JSON_TASKS_MAX, LEGACY_JSON_TASKS_PER_SOURCE_MAX);
        Self { tasks: JoinSet::new(), turns }
    }
}

impl Shared {
    fn new(gateway: Arc<Gateway>, socket: BatchSocket, address: SocketAddr) -> Self {
        Self {
            gateway,
            socket,
            address,
            cookies: Cookies::new(),
            memory: Mutex::default(),
            entrance: Entrance::default(),
            attendants: Attendants::default(),
            downloads: Downloads::default(),
            uploads: Uploads::default(),
            files: Semaphore::new(LEGACY_FILES_AT_ONCE),
        }
    }

    /// Sees to everybody who is here and has no attendant.
    fn attend_to_all(self: &Arc<Self>, attending: &mut JoinSet<()>) {
        for resident in self.gateway.residents(Dialect::Json) {
            if let Some(heard) = self.attendants.begin(&resident) {
                attending.spawn(attendants::attend(self.clone(), resident, heard));
            }
        }
    }

    /// Takes a datagram; never waits.
    fn take(self: &Arc<Self>, from: SocketAddr, to: Option<IpAddr>, bytes: &[u8], work: &mut Work) {
        let is_ours = from.port() == self.address.port() && from.ip() == self.address.ip();
        if is_ours || !self.gateway.door.admits(from, bytes.len()) {
            return;
        }
        let Ok(datagram) = Datagram::parse(bytes) else { return };
        let call = Call { from, to, keys: datagram.keys, number: datagram.number.clone() };
        if !self.is_proven(&call, datagram.cookie.as_deref(), bytes.len()) {
            return;
        }
        self.attendants.spoke(&self.gateway, from);
        match datagram.ask {
            Ok(Ask::Acknowledge { chunk }) => self.acknowledged(&call, chunk),
            Ok(Ask::Chunk { chunk, text, is_last }) => self.take_chunk(&call, chunk, text, is_last),
            Ok(Ask::NotBrought { reason }) => self.uploads.not_brought(&call, &reason),
            Ok(_) | Err(_) => self.begin(call, datagram, work),
        }
    }

    /// Whether a source is known, or has echoed its cookie. Else it is told the cookie.
    fn is_proven(&self, call: &Call, cookie: Option<&str>, bytes: usize) -> bool {
        if self.gateway.door.knows(call.from.ip()) {
            return true;
        }
        match self.cookies.judge(call, cookie, bytes, now_millis()) {
            Proof::Given => true,
            Proof::Asked(challenge) => {
                self.send(call, &challenge);
                false
            }
            Proof::Missing => false,
        }
    }

    /// A message or a chunk of ours has come there.
    fn acknowledged(&self, call: &Call, chunk: Option<u32>) {
        match (chunk, call.number.as_ref()) {
            (Some(chunk), Some(number)) => self.downloads.acknowledged(call.from, number, chunk),
            (None, Some(number)) => {
                if let Some(number) = number.as_u64() {
                    self.attendants.acknowledged(&self.gateway, call.from, number);
                }
            }
            (_, None) => {}
        }
    }

    /// A chunk came of a file that we have asked for: it is acknowledged as often as it comes.
    fn take_chunk(&self, call: &Call, chunk: u32, text: String, is_last: bool) {
        if self.uploads.take(call, chunk, text, is_last) {
            let answer = Answer::new("ACK").with("chunk", chunk);
            self.send(call, &answer.print(call.keys, call.number.as_ref()));
        }
    }

    /// Begins to work on a request, unless that was done.
    fn begin(self: &Arc<Self>, call: Call, datagram: Datagram, work: &mut Work) {
        let Some(turn) = work.turns.take(call.from.ip()) else { return };
        let id = call.number.is_some().then(|| self.memory().id(call.from, &datagram.content));
        let begun = id.map_or(Begun::New, |id| self.memory().begin(id, Instant::now()));
        match begun {
            Begun::New => {}
            Begun::UnderWay => return,
            Begun::Answered(answer) => {
                self.send(&call, &answer);
                return;
            }
        }
        let shared = self.clone();
        work.tasks.spawn(async move {
            let _turn = turn;
            shared.work(&call, datagram, id).await;
        });
    }

    async fn work(&self, call: &Call, datagram: Datagram, id: Option<RequestId>) {
        let reply = self.reply(call, datagram).await;
        let answer = match reply {
            Reply::Answer(answer) => answer.print(call.keys, call.number.as_ref()),
            // A repetition that was on its way meanwhile is not a new request.
            Reply::Sent => Vec::new(),
            Reply::Void => {
                if let Some(id) = id {
                    self.memory().forget(id);
                }
                return;
            }
        };
        if let Some(id) = id {
            self.memory().answered(id, answer.clone());
        }
        self.send(call, &answer);
    }

    async fn reply(&self, call: &Call, datagram: Datagram) -> Reply {
        let denial = datagram.denial;
        let denied = |reason: String| Reply::Answer(Answer::denial(denial, &reason));
        let result = match datagram.ask {
            Err(reason) => Err(reason),
            Ok(Ask::Register { name, password }) => self.register(call, &name, password.as_deref()).await,
            Ok(Ask::LogIn { name, password }) => self.log_in(call, "LOGIN_OKAY", &name, &password).await,
            Ok(ask) => match self.speaker(call, datagram.from.as_deref(), datagram.token.as_deref()).await {
                Ok(resident) => return self.asked(call, &resident, ask).await.unwrap_or_else(denied),
                Err(reason) => Err(reason),
            },
        };
        result.map_or_else(denied, Reply::Answer)
    }

    /// Sends a datagram back; `false` when it may not go, or not now.
    fn send(&self, call: &Call, datagram: &[u8]) -> bool {
        self.send_to(call.from, call.to, datagram)
    }

    fn send_to(&self, to: SocketAddr, from: Option<IpAddr>, datagram: &[u8]) -> bool {
        if datagram.len() > LEGACY_JSON_SENT_BYTES_MAX {
            tracing::error!(bytes = datagram.len(), "a message of the JSON door is too long");
            return false;
        }
        !datagram.is_empty() && self.gateway.door.may_send(to, datagram.len()) && self.socket.send(to, from, datagram)
    }

    /// A number for something that the door says by itself. Whoever acknowledges it has seen it: nobody guesses it.
    fn next_number(&self) -> u64 {
        let [a, b, c, d, e, f] = array(&mut OsRandom);
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
