//! Sends a message through the outbox and waits until the directory or its recipient has it.

use std::time::Duration;

use tokio::sync::{broadcast, oneshot};

use super::context::Context;
use super::event::Event;
use super::failure::{Failure, FailureKind};
use super::outbox::Enqueue;
use crate::wire::ids::{MessageId, PeerName};
use crate::wire::message::Body;

/// How long a command waits for the directory; then the message goes on waiting in the outbox.
const PATIENCE: Duration = Duration::from_secs(5);

/// And without a session: a link may still carry it.
const PATIENCE_ALONE: Duration = Duration::from_millis(200);

/// What a command can say of its message when it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// The directory has it on disk.
    Stored,
    /// Its recipient has it on disk.
    Delivered,
    /// It is on this disk only.
    Queued,
    /// It will not arrive.
    Refused(Failure),
}

/// A message on its way to the outbox.
pub(super) type Written = oneshot::Receiver<Result<(), Failure>>;

/// Hands a message to the outbox. Messages are numbered in the order of these calls.
pub(super) async fn enqueue(context: &Context, to: &PeerName, id: MessageId, body: Body) -> Written {
    let (written, answer) = oneshot::channel();
    let request = Enqueue { to: to.clone(), id, body, written };
    if context.outbox.send(request).await.is_err() {
        tracing::debug!("the outbox has stopped"); // the dropped sender tells whoever waits
    }
    answer
}

/// Waits until a message is on this disk, and a while longer for the directory to have it, if there is one.
///
/// `events` must have been subscribed before the message was enqueued.
pub(super) async fn settled(
    context: &Context,
    id: MessageId,
    written: Written,
    events: &mut broadcast::Receiver<Event>,
) -> Result<Fate, Failure> {
    written.await.unwrap_or_else(|_| Err(Failure::new(FailureKind::Other, "the peer has stopped")))?;
    let patience = if context.session.borrow().is_some() { PATIENCE } else { PATIENCE_ALONE };
    let fate = async {
        loop {
            match events.recv().await {
                Ok(Event::Stored { id: stored, .. }) if stored == id => return Fate::Stored,
                Ok(Event::Delivered { id: there, .. } | Event::Read { id: there, .. }) if there == id => {
                    return Fate::Delivered;
                }
                Ok(Event::NotSent { id: refused, failure, .. }) if refused == id => return Fate::Refused(failure),
                Err(broadcast::error::RecvError::Closed) => return Fate::Queued,
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            }
        }
    };
    Ok(tokio::time::timeout(patience, fate).await.unwrap_or(Fate::Queued))
}

/// Sends a message that must not be refused.
pub(super) async fn send(
    context: &Context,
    to: &PeerName,
    id: MessageId,
    body: Body,
    events: &mut broadcast::Receiver<Event>,
) -> Result<(), Failure> {
    let written = enqueue(context, to, id, body).await;
    match settled(context, id, written, events).await? {
        Fate::Stored | Fate::Delivered | Fate::Queued => Ok(()),
        Fate::Refused(failure) => Err(failure),
    }
}
