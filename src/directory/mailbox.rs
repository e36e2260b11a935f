//! Pushes to one session: the envelopes that wait for its account, one at a time in the order of their arrival, its
//! messages that came back, and who comes and goes. What waits is forgotten only after the peer has it on disk.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};

use super::registry::Session;
use super::session::is_violation;
use super::shared::Shared;
use super::store::{Returned, Waiting};
use crate::wire::directory::{DirectoryPush, PushAnswer, PushReply};
use crate::wire::refusal::{CloseCode, Refusal};

/// Envelopes read from the store at a time: 200 KiB at most.
const BATCH: usize = 8;

/// The session did not take a push, so it gets no more.
struct NotTaken;

/// How pushing a mailbox ended.
enum Drained {
    /// Nothing waits that the session has not been pushed.
    All,
    /// The session cannot take the next one now: its disk is full, perhaps.
    Refused,
}

/// How long a session is left alone that could not take an envelope.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// Pushes an account's mailbox to a session for as long as that is the one to get it.
pub(super) async fn push_mailbox(shared: Arc<Shared>, session: Arc<Session>, turn: Arc<Mutex<()>>) {
    // What the session left stays in the store, and is pushed again to the next session only.
    let (mut after, mut after_returned) = (0, 0);
    loop {
        session.mail.notified().await;
        let held = turn.lock().await;
        if drain_returned(&shared, &session, &mut after_returned).await.is_err() {
            return;
        }
        match drain(&shared, &session, &mut after).await {
            Ok(Drained::All) => {}
            Ok(Drained::Refused) => {
                drop(held);
                tokio::time::sleep(REFUSED_PAUSE).await;
                session.mail.notify_one();
                continue;
            }
            Err(NotTaken) => return,
        }
        drop(held);
    }
}

/// Pushes what else a session is told, in order.
pub(super) async fn push_news(session: Arc<Session>, mut queue: mpsc::Receiver<DirectoryPush>) {
    while let Some(news) = queue.recv().await {
        if push(&session, &news).await.is_err() {
            return;
        }
    }
}

async fn drain(shared: &Shared, session: &Session, after: &mut i64) -> Result<Drained, NotTaken> {
    loop {
        let waiting = match shared.store.waiting(&session.name, *after, BATCH).await {
            Ok(waiting) => waiting,
            Err(error) => {
                tracing::error!(peer = %session.name, %error, "mailbox not read");
                return Ok(Drained::All);
            }
        };
        if waiting.is_empty() {
            return Ok(Drained::All);
        }
        for envelope in waiting {
            if !shared.registry.collects(session) {
                return Ok(Drained::All);
            }
            let number = envelope.number;
            if !push_envelope(shared, session, envelope).await? {
                return Ok(Drained::Refused);
            }
            *after = number;
        }
    }
}

/// Tells the sender which messages will not arrive.
async fn drain_returned(shared: &Shared, session: &Session, after: &mut i64) -> Result<(), NotTaken> {
    loop {
        let returned = match shared.store.returned(&session.name, *after, BATCH).await {
            Ok(returned) => returned,
            Err(error) => {
                tracing::error!(peer = %session.name, %error, "returned messages not read");
                return Ok(());
            }
        };
        if returned.is_empty() {
            return Ok(());
        }
        for message in returned {
            if !shared.registry.collects(session) {
                return Ok(());
            }
            *after = message.number;
            push_returned(shared, session, message).await?;
        }
    }
}

async fn push_returned(shared: &Shared, session: &Session, returned: Returned) -> Result<(), NotTaken> {
    let Returned { number, to, id } = returned;
    match push(session, &DirectoryPush::Returned { to, id, refusal: Refusal::KeyChanged }).await? {
        Ok(PushReply::Taken) => {
            if let Err(error) = shared.store.delete_returned(number).await {
                // Its sender is told again in the next session, and knows it by its id.
                tracing::error!(peer = %session.name, number, %error, "returned message not deleted");
            }
        }
        Ok(PushReply::Left) => tracing::debug!(peer = %session.name, number, "returned message left"),
        Err(refusal) => tracing::debug!(peer = %session.name, number, %refusal, "returned message refused"),
        Ok(PushReply::Candidates(_) | PushReply::Receipt(_)) => return Err(end(session, CloseCode::BadFrame)),
    }
    Ok(())
}

/// Pushes an envelope. Says `false` when the session cannot take it now: then it comes again, before any later one.
async fn push_envelope(shared: &Shared, session: &Session, waiting: Waiting) -> Result<bool, NotTaken> {
    let Waiting { number, delivery } = waiting;
    match push(session, &DirectoryPush::Delivery(Box::new(delivery))).await? {
        Ok(PushReply::Taken | PushReply::Receipt(_)) => {
            if let Err(error) = shared.store.delete_envelope(number).await {
                // Its recipient gets it again in the next session, and knows it by its id.
                tracing::error!(peer = %session.name, number, %error, "delivered envelope not deleted");
            }
        }
        Ok(PushReply::Left) => tracing::debug!(peer = %session.name, number, "envelope left"),
        Err(refusal) => {
            tracing::debug!(peer = %session.name, number, %refusal, "envelope refused");
            return Ok(false);
        }
        Ok(PushReply::Candidates(_)) => return Err(end(session, CloseCode::BadFrame)),
    }
    Ok(true)
}

/// Sends one push; a session that does not answer it properly is closed, which changes nothing when it has ended.
async fn push(session: &Session, push: &DirectoryPush) -> Result<PushAnswer, NotTaken> {
    session.connection.request(push).await.map_err(|error| {
        tracing::debug!(peer = %session.name, %error, "push not taken");
        end(session, if is_violation(&error) { CloseCode::BadFrame } else { CloseCode::TooSlow })
    })
}

fn end(session: &Session, code: CloseCode) -> NotTaken {
    session.connection.close(code);
    NotTaken
}
