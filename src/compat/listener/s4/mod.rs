//! The door of `s4`: frames over TCP. A request comes on a connection of its own; what its sender is told goes to the port
//! that they named at their login, at the address that they came from.
//!
//! ```text
//! connection --frame--> login.rs or requests.rs --command--> resident --event--> client.rs --push--> the client's own port
//! somebody's private words --> stand_in.rs, a port for each person whom an old program cannot reach otherwise
//! ```

mod client;
mod connection;
mod line;
mod login;
mod requests;
mod stand_in;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use client::Client;
use connection::Connection;
use line::Line;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc};
use tokio::task::{JoinError, JoinSet};

use super::taken;
use crate::compat::dialect::s4::Opening;
use crate::compat::gateway::Gateway;
use crate::compat::resident::Resident;
use crate::compat::settings::Dialect;
use crate::peer::failure::Failure;
use crate::wire::ids::PeerName;

/// Before the next connection is taken when the machine has no room for this one.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a client has to send its request.
const REQUEST_PATIENCE: Duration = Duration::from_secs(10);

/// A door that is bound.
#[derive(Debug)]
pub(super) struct Door {
    listener: TcpListener,
    address: SocketAddr,
}

/// A task of this door.
type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What the tasks of this door share.
struct Office {
    gateway: Arc<Gateway>,
    /// Where the door is; the ports that stand for people are at the same address.
    address: IpAddr,
    line: Line,
    /// Everybody who is here with a program of this family: as many as the gateway lets in.
    clients: Mutex<BTreeMap<PeerName, Arc<Client>>>,
    /// The ports that are served for others: as many as the operator gives. Held while one is bound.
    standing_in: tokio::sync::Mutex<BTreeMap<PeerName, u16>>,
    /// What is to be run beside: a client's attendant, or a port. Of both there are only so many, so it needs no bound.
    tasks: mpsc::UnboundedSender<Task>,
}

impl Door {
    /// Binds it.
    pub(super) async fn bind(address: SocketAddr) -> Result<Self, Failure> {
        let listener = TcpListener::bind(address).await.map_err(|error| taken(Dialect::S4, address, &error))?;
        let address = listener.local_addr().map_err(|error| taken(Dialect::S4, address, &error))?;
        Ok(Self { listener, address })
    }

    /// Where it is.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves for as long as it is awaited; dropping the future ends all of its tasks.
    pub(super) async fn serve(self, gateway: Arc<Gateway>) {
        let (tasks, mut asked) = mpsc::unbounded_channel();
        let mut running = JoinSet::new();
        let mut arrivals = gateway.arrivals();
        let office = Arc::new(Office {
            gateway,
            address: self.address.ip(),
            line: Line::default(),
            clients: Mutex::default(),
            standing_in: tokio::sync::Mutex::default(),
            tasks,
        });
        office.attend_to_all();
        running.spawn(stand_in::restore(office.clone()));
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, source)) => drop(office.take(stream, source).map(|task| running.spawn(task))),
                    Err(error) => {
                        tracing::warn!(%error, "s4 cannot take a connection");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
                Some(task) = asked.recv() => drop(running.spawn(task)),
                Some(ended) = running.join_next() => report(ended),
                arrived = arrivals.recv() => match arrived {
                    Ok(resident) => drop(office.attend_to(&resident)),
                    Err(broadcast::error::RecvError::Lagged(_)) => office.attend_to_all(),
                    // The gateway is gone, and this door with it.
                    Err(broadcast::error::RecvError::Closed) => return,
                },
            }
        }
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a task of s4 broke");
    }
}

impl Office {
    /// What is to be done about a connection, if it is let in.
    fn take(self: &Arc<Self>, stream: TcpStream, source: SocketAddr) -> Option<Task> {
        let connection = Connection::take(&self.gateway, &self.line, stream, source)?;
        let office = self.clone();
        Some(Box::pin(async move {
            if let Err(error) = office.serve(connection).await {
                tracing::debug!(%source, %error, "a connection of s4 ended");
            }
        }))
    }

    /// One login or one request, then the end.
    async fn serve(self: Arc<Self>, mut connection: Connection) -> std::io::Result<()> {
        let Some(payload) = connection.frame(REQUEST_PATIENCE).await? else { return Ok(()) };
        connection.turn().await;
        match Opening::parse(&payload) {
            Ok(Opening::Login) => {
                connection.pass();
                login::converse(&self, &mut connection).await?;
            }
            Ok(Opening::Request(request)) => requests::serve(&self, request, &mut connection).await?,
            Err(malformed) => tracing::debug!(source = %connection.source(), %malformed, "not understood"),
        }
        connection.finish().await
    }

    /// Begins to tell somebody what happens, unless that has begun already. `None` for people with other programs.
    fn attend_to(self: &Arc<Self>, resident: &Resident) -> Option<Arc<Client>> {
        if resident.dialect() != Dialect::S4 {
            return None;
        }
        let mut clients = self.clients();
        if let Some(client) = clients.get(resident.name()).filter(|client| client.is_of(resident)) {
            return Some(client.clone());
        }
        let (client, attendant) = client::attend(self.clone(), resident.clone());
        clients.insert(resident.name().clone(), client.clone());
        self.begin(attendant);
        Some(client)
    }

    fn attend_to_all(self: &Arc<Self>) {
        for resident in self.gateway.residents(Dialect::S4) {
            drop(self.attend_to(&resident));
        }
    }

    fn begin(&self, task: impl Future<Output = ()> + Send + 'static) {
        if self.tasks.send(Box::pin(task)).is_err() {
            tracing::debug!("the door of s4 has closed");
        }
    }

    /// Whoever is here under a name with a program of this family.
    fn client(&self, name: &PeerName) -> Option<Arc<Client>> {
        let client = self.clients().get(name).cloned()?;
        let resident = self.gateway.resident(name)?;
        client.is_of(&resident).then_some(client)
    }

    /// Forgets a client who has gone.
    fn forget(&self, client: &Arc<Client>) {
        let mut clients = self.clients();
        let name = client.resident().name();
        if clients.get(name).is_some_and(|known| Arc::ptr_eq(known, client)) {
            clients.remove(name);
        }
    }

    fn clients(&self) -> MutexGuard<'_, BTreeMap<PeerName, Arc<Client>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
