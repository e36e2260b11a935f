//! Those who have no program of this kind: the ports that stand for them, and what is said to them there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::post::{Behind, Heard, Post};
use super::recent::{Outcome, Sent, Turn};
use super::room::{Room, outcome_of};
use crate::compat::dialect::s3::{self, Uuid};
use crate::compat::resident::{Resident, Said};
use crate::compat::settings::Dialect;
use crate::transport::batch_socket::BatchSocket;
use crate::transport::tuning::Network;
use crate::wire::ids::PeerName;
use crate::wire::limits::S3_STAND_INS_MAX;

/// A program waits 500 ms for an acknowledgement; so long it has time to go back.
pub(super) const PATIENCE: Duration = Duration::from_millis(400);

/// A message for the person behind a port. It is acknowledged when they have it in time; when they do not, it waits for them,
/// or cannot be sent at all, and the program asks the server to keep it: there it hears what became of it.
pub(super) async fn chat(room: &Room, heard: &Heard, sender: &str, to: &PeerName, id: Uuid, text: String) {
    let Some(resident) = room.speaker(heard.source, heard.at, sender).await else { return };
    if text.trim().is_empty() {
        // There is nothing to say, and without an answer the program ends.
        return heard.answer(room, &s3::ack(&id));
    }
    let sent = Sent { from: resident.name().clone(), to: Some(to.clone()), id: id.clone(), text };
    let (outcome, is_in_time) = match room.chat(sent.clone()) {
        Turn::First(known) => {
            let mut saying = std::pin::pin!(resident.say(to, &sent.text, PATIENCE));
            let in_time = tokio::time::timeout(PATIENCE, &mut saying).await;
            let is_in_time = in_time.is_ok();
            let outcome = match in_time {
                Ok(outcome) => outcome,
                // Nobody waits for it here any more, but the server is asked next.
                Err(_) => saying.await,
            };
            known.send_replace(Some(outcome.clone()));
            (Some(outcome), is_in_time)
        }
        Turn::Again(known) => match tokio::time::timeout(PATIENCE, outcome_of(known)).await {
            Ok(outcome) => (outcome, true),
            Err(_) => (None, false),
        },
    };
    if is_in_time && matches!(outcome, Some(Ok(Said::Delivered))) {
        heard.answer(room, &s3::ack(&id));
    }
}

/// Says something to somebody once, however often it is asked for.
pub(super) async fn say_once(turn: Turn, resident: &Resident, to: &PeerName, text: &str) -> Outcome {
    match turn {
        Turn::First(known) => {
            let outcome = Some(resident.say(to, text, PATIENCE).await);
            known.send_replace(outcome.clone());
            outcome
        }
        Turn::Again(known) => outcome_of(known).await,
    }
}

/// The port that stands for somebody, opened when it is not yet.
pub(super) async fn stand_in(room: &Room, name: &PeerName) -> Option<(u16, Arc<Post>)> {
    let mut stand_ins = room.stand_ins.lock().await;
    if let Some(known) = stand_ins.get(name) {
        return Some(known.clone());
    }
    if stand_ins.len() >= S3_STAND_INS_MAX {
        return None;
    }
    let bind = |port| BatchSocket::bind(SocketAddr::new(room.ip, port), Network::default());
    let (port, socket) = room.gateway.ports().port(Dialect::S3, name, bind).await?;
    let post = Post::new(socket, Behind::Person(name.clone()));
    stand_ins.insert(name.clone(), (port, post.clone()));
    if room.opening.send(post.clone()).await.is_err() {
        tracing::debug!("the door is closed");
    }
    Some((port, post))
}

/// Opens the ports that were given away before a restart: programs that were here then have them in their tables.
pub(super) async fn serve_old_ports(room: Arc<Room>) {
    for name in room.gateway.ports().people(Dialect::S3).await {
        if stand_in(&room, &name).await.is_none() {
            tracing::warn!(%name, "the port of s3 that stands for this person cannot be had");
        }
    }
}
