//! A UDP port of this door, and what is heard there: the server's, one that stands for a person, or the one from which
//! messages come whose senders have neither.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::desk;
use super::people;
use super::room::Room;
use crate::compat::dialect::s3::{Request, Uuid};
use crate::compat::turns::Turn;
use crate::seal::random::{self, OsRandom};
use crate::transport::batch_socket::{BatchSocket, Buffers};
use crate::wire::ids::PeerName;

/// A socket that cannot be read is tried again so soon.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// Who is reached there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Behind {
    /// The server.
    Server,
    /// Somebody who has no program of this kind.
    Person(PeerName),
    /// Nobody: only acknowledgements are heard.
    Nobody,
}

/// A port.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) socket: BatchSocket,
    pub(super) behind: Behind,
}

/// A request, and how to answer it from where it was sent to.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) post: Arc<Post>,
    /// From where.
    pub(super) source: SocketAddr,
    /// To which address of this machine.
    pub(super) at: Option<IpAddr>,
    /// It is worked on as long as this lives.
    _turn: Turn,
}

impl Post {
    pub(super) fn new(socket: BatchSocket, behind: Behind) -> Arc<Self> {
        Arc::new(Self { socket, behind })
    }
}

impl Heard {
    /// Answers, as far as the source may be sent so much.
    pub(super) fn answer(&self, room: &Room, datagram: &[u8]) {
        if !room.gateway.door.may_send(self.source, datagram.len())
            || !self.post.socket.send(self.source, self.at, datagram)
        {
            tracing::debug!(source = %self.source, "an answer was not sent");
        }
    }
}

/// Hears what comes to a port, for as long as it is awaited. Never waits for what follows from it, so that nobody's
/// request holds up those of others.
pub(super) async fn attend(room: Arc<Room>, post: Arc<Post>) {
    let mut buffers = Buffers::default();
    let mut working = JoinSet::new();
    loop {
        tokio::select! {
            received = post.socket.receive(&mut buffers) => match received {
                Ok(batches) => for batch in batches {
                    for datagram in batch.datagrams() {
                        hear(&room, &post, batch.from, batch.to, datagram, &mut working);
                    }
                },
                Err(error) => {
                    tracing::warn!(%error, "a port of s3 cannot be read");
                    tokio::time::sleep(AFTER_ERROR).await;
                }
            },
            Some(ended) = working.join_next() => if let Err(error) = ended {
                tracing::error!(%error, "a request of s3 broke");
            },
        }
    }
}

/// Hears one datagram. What is malformed, comes too often, or from where it may not, is dropped without a word.
fn hear(
    room: &Arc<Room>,
    post: &Arc<Post>,
    source: SocketAddr,
    at: Option<IpAddr>,
    datagram: &[u8],
    working: &mut JoinSet<()>,
) {
    if !room.gateway.door.knows(source.ip()) || !room.gateway.door.admits(source, datagram.len()) {
        return;
    }
    let Ok(request) = Request::parse(datagram) else {
        tracing::trace!(%source, "no message of s3");
        return;
    };
    if let Request::Ack { id } = request {
        return room.is_acknowledged(source, &id);
    }
    let Some(turn) = room.turns.take(source.ip()) else { return };
    let heard = Heard { post: post.clone(), source, at, _turn: turn };
    working.spawn(attend_to(room.clone(), heard, request));
}

async fn attend_to(room: Arc<Room>, heard: Heard, request: Request) {
    let post = heard.post.clone();
    match (&post.behind, request) {
        (Behind::Server, Request::Register { name }) => desk::register(&room, &heard, &name).await,
        (Behind::Server, Request::Return { name }) => desk::come_back(&room, &heard, &name).await,
        (Behind::Server, Request::Leave { name }) => desk::leave(&room, &heard, &name).await,
        (Behind::Server, Request::Save { sender, receiver, id, text }) => {
            desk::save(&room, &heard, &sender, &receiver, id, text).await;
        }
        (Behind::Server, Request::ToAll { sender, id, text }) => desk::to_all(&room, &heard, &sender, id, text).await,
        (Behind::Person(to), Request::Chat { sender, id, text }) => {
            people::chat(&room, &heard, &sender, to, id, text).await;
        }
        // Nobody's program says the rest where it was said.
        (Behind::Server, Request::Chat { .. } | Request::Ack { .. })
        | (
            Behind::Person(_),
            Request::Register { .. }
            | Request::Return { .. }
            | Request::Leave { .. }
            | Request::Save { .. }
            | Request::ToAll { .. }
            | Request::Ack { .. },
        )
        | (Behind::Nobody, _) => tracing::trace!(source = %heard.source, "said at the wrong port"),
    }
}

/// A fresh number for a message that has none.
pub(super) fn fresh_number() -> Uuid {
    Uuid::random(random::array(&mut OsRandom))
}
