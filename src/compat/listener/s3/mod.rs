//! The door of `s3`: one UDP port where the server of those programs would be, and one for each person who has no program
//! of that kind, where messages to them go.
//!
//! ```text
//! register, reg --desk--> gateway --arrival--> seat: mail, table --each change--> table
//! send at a stand-in's port --stand_in--> resident.say --in time--> ACK; else the program sends it to the desk, once more
//! a message for somebody here --seat--> send, ACK, or they are gone and it waits for `reg`
//! ```

mod desk;
mod people;
mod post;
mod recent;
mod room;
mod seat;
mod table;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use super::taken;
use crate::compat::gateway::Gateway;
use crate::compat::resident::Resident;
use crate::compat::settings::Dialect;
use crate::peer::failure::Failure;
use crate::transport::batch_socket::BatchSocket;
use crate::transport::tuning::Network;
use crate::wire::ids::PeerName;
use post::{Behind, Post};
use room::{Room, Sitting, Welcome};

/// Seats and ports that wait to be attended to: what is full lets those wait who bring more.
const QUEUE_MAX: usize = 64;

/// A door that is bound.
#[derive(Debug)]
pub(super) struct Door {
    address: SocketAddr,
    server: BatchSocket,
    courier: BatchSocket,
}

impl Door {
    /// Binds it, and beside it the port from which messages come whose senders have none: an old program takes nothing
    /// but answers from the server's.
    pub(super) fn bind(address: SocketAddr) -> Result<Self, Failure> {
        let bind = |address| {
            BatchSocket::bind(address, Network::default()).and_then(|socket| Ok((socket.local_address()?, socket)))
        };
        let (address, server) = bind(address).map_err(|error| taken(Dialect::S3, address, &error))?;
        let beside = SocketAddr::new(address.ip(), 0);
        let (_, courier) = bind(beside).map_err(|error| taken(Dialect::S3, beside, &error))?;
        Ok(Self { address, server, courier })
    }

    /// Where it is.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves for as long as it is awaited; dropping the future ends all of its tasks.
    pub(super) async fn serve(self, gateway: Arc<Gateway>) {
        let mut arrivals = gateway.arrivals();
        let (sitting, mut sittings) = mpsc::channel(QUEUE_MAX);
        let (opening, mut opened) = mpsc::channel(QUEUE_MAX);
        let server = Post::new(self.server, Behind::Server);
        let courier = Post::new(self.courier, Behind::Nobody);
        let room = Arc::new(Room::new(gateway, self.address.ip(), courier.clone(), sitting, opening));
        let mut posts = JoinSet::new();
        for post in [server.clone(), courier] {
            posts.spawn(post::attend(room.clone(), post));
        }
        let mut seats = Seats { room: room.clone(), server, here: BTreeMap::new(), tasks: JoinSet::new() };
        posts.spawn(people::serve_old_ports(room.clone()));
        loop {
            tokio::select! {
                // Who says how somebody is welcomed comes before the mere news that they are here.
                biased;
                Some(Sitting { resident, welcome }) = sittings.recv() => seats.take(resident, welcome),
                Some(post) = opened.recv() => drop(posts.spawn(post::attend(room.clone(), post))),
                arrival = arrivals.recv() => match arrival {
                    Ok(resident) => seats.take_back(resident),
                    Err(RecvError::Lagged(_)) => {
                        room.gateway.residents(Dialect::S3).into_iter().for_each(|resident| seats.take_back(resident));
                    }
                    Err(RecvError::Closed) => return,
                },
                Some(ended) = seats.tasks.join_next() => seats.has_ended(ended.err()),
                Some(ended) = posts.join_next() => if let Err(error) = ended {
                    tracing::error!(%error, "a port of s3 broke");
                },
            }
        }
    }
}

/// Those who are here, each with a task that tells them what they are to know.
struct Seats {
    room: Arc<Room>,
    server: Arc<Post>,
    here: BTreeMap<PeerName, AbortHandle>,
    tasks: JoinSet<()>,
}

impl Seats {
    /// Somebody comes or comes again, perhaps from another port: what was under way to the old one is begun anew.
    fn take(&mut self, resident: Resident, welcome: Welcome) {
        let name = resident.name().clone();
        let task = self.tasks.spawn(seat::attend(self.room.clone(), self.server.clone(), resident, welcome));
        if let Some(old) = self.here.insert(name, task) {
            old.abort();
        }
    }

    /// Somebody is here who has not just asked for it: they were when the server stopped.
    fn take_back(&mut self, resident: Resident) {
        let is_seated = self.here.get(resident.name()).is_some_and(|task| !task.is_finished());
        if resident.dialect() == Dialect::S3 && !is_seated && !self.room.is_expected(resident.name()) {
            self.take(resident, Welcome::None);
        }
    }

    fn has_ended(&mut self, error: Option<tokio::task::JoinError>) {
        if let Some(error) = error.filter(|error| !error.is_cancelled()) {
            tracing::error!(%error, "a seat of s3 broke");
        }
        self.here.retain(|_, task| !task.is_finished());
        self.room.has_changed();
    }
}
