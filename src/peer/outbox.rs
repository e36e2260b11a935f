//! Sends messages one after another: first to this disk, then sealed to the directory, until the directory has them.
//!
//! One task does both, so that the order in which a person writes is the order of the sequence numbers.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::contacts;
use super::context::Context;
use super::event::{Event, What};
use super::failure::{Failure, FailureKind};
use crate::clock::now_millis;
use crate::protocol::backoff::Backoff;
use crate::protocol::conversation::{Draft, Fate};
use crate::seal::random::{self, OsRandom};
use crate::seal::{envelope, prekey};
use crate::storage::messages::{self, Outgoing, ToSend};
use crate::storage::shares;
use crate::wire::account::{LoginKind, SignedPrekey};
use crate::wire::directory::{DirectoryRequest, PushAnswer, PushReply};
use crate::wire::ids::{MessageId, PeerName};
use crate::wire::message::{Body, InnerMessage};
use crate::wire::refusal::Refusal;

/// A message to be written to the outbox.
#[derive(Debug)]
pub(super) struct Enqueue {
    pub(super) to: PeerName,
    /// The message's id, drawn by whoever asks, so that it can wait for its events.
    pub(super) id: MessageId,
    pub(super) body: Body,
    /// Told once the message is on this disk.
    pub(super) written: oneshot::Sender<Result<(), Failure>>,
}

/// What there is to do when a message was for a key that its recipient does not have any more.
const SEND_AGAIN: &str = "send it again to use the new key";

/// A prekey is asked for again after this many attempts that found it changed.
const RESEAL_ATTEMPTS_MAX: u32 = 4;

pub(super) async fn run(context: Arc<Context>, mut requests: mpsc::Receiver<Enqueue>) {
    let mut session = context.session.subscribe();
    let mut prekeys = HashMap::new();
    let mut backoff = Backoff::default();
    let mut next = Next::Send;
    loop {
        while let Ok(request) = requests.try_recv() {
            enqueue(&context, request).await;
            next = next.after_new_message();
        }
        let online = session.borrow_and_update().is_some();
        if online && next == Next::Send {
            let sending = send_oldest(&context, &mut prekeys);
            let (sent, more) = while_writing(&context, &mut requests, sending).await;
            next = match sent {
                Ok(was_sent) => {
                    backoff.succeeded();
                    if was_sent || more { Next::Send } else { Next::NothingWaits }
                }
                Err(failure) => {
                    tracing::info!(%failure, "the outbox waits");
                    let [spread] = random::array(&mut OsRandom);
                    Next::Pause(Instant::now() + backoff.failed(spread))
                }
            };
            continue;
        }
        tokio::select! {
            request = requests.recv() => match request {
                Some(request) => {
                    enqueue(&context, request).await;
                    next = next.after_new_message();
                }
                None => return,
            },
            changed = session.changed() => {
                if changed.is_err() { return }
                prekeys.clear();
                next = Next::Send;
            }
            () = pause_ends(next) => next = Next::Send,
        }
    }
}

/// Waits for a message to be sent, and meanwhile writes others to this disk: a directory that does not answer must not
/// keep a line in memory only. Says also whether there were others.
async fn while_writing<T>(
    context: &Context,
    requests: &mut mpsc::Receiver<Enqueue>,
    sending: impl Future<Output = T>,
) -> (T, bool) {
    let mut sending = pin!(sending);
    let mut more = false;
    loop {
        tokio::select! {
            sent = &mut sending => return (sent, more),
            Some(request) = requests.recv() => {
                enqueue(context, request).await;
                more = true;
            }
        }
    }
}

/// What the outbox does when no request comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Send,
    NothingWaits,
    /// After a failure that may pass.
    Pause(Instant),
}

impl Next {
    /// A new message is sent at once, unless older ones wait for a pause to end.
    fn after_new_message(self) -> Self {
        match self {
            Self::Send | Self::NothingWaits => Self::Send,
            Self::Pause(until) => Self::Pause(until),
        }
    }
}

async fn pause_ends(next: Next) {
    match next {
        Next::Pause(until) => tokio::time::sleep_until(until).await,
        Next::Send | Next::NothingWaits => std::future::pending().await,
    }
}

async fn enqueue(context: &Context, Enqueue { to, id, body, written }: Enqueue) {
    let what = What::of(&body);
    let result = write(context, &to, id, body).await;
    if result.is_ok() {
        context.tell(Event::Queued { to, id, what });
    }
    if written.send(result).is_err() {
        tracing::trace!("nobody waits for this message");
    }
}

async fn write(context: &Context, to: &PeerName, id: MessageId, body: Body) -> Result<(), Failure> {
    let recipient = contacts::pinned_key(context, to).await?;
    let draft = Draft { sender: context.key(), recipient, id, sent_at: now_millis(), body };
    messages::write(context.database(), to, draft)
        .await?
        .map(|_| ())
        .ok_or_else(|| Failure::new(FailureKind::Quota, "the outbox is full: too many messages wait to be sent"))
}

/// Sends the oldest message. Says whether there was one; fails when it should be tried again later.
async fn send_oldest(context: &Context, prekeys: &mut HashMap<PeerName, SignedPrekey>) -> Result<bool, Failure> {
    let waiting = messages::to_send(context.database(), context.key(), now_millis()).await?;
    let Some(ToSend { outgoing: Outgoing { to, message }, attempt, .. }) = waiting.into_iter().next() else {
        return Ok(false);
    };
    let recipient = message.recipient;
    let (id, what) = (message.id, What::of(&message.body));
    let (fate, event) = match deliver(context, prekeys, &to, &message).await {
        Ok(()) => (Fate::Stored { attempt }, Event::Stored { to, id, what }),
        Err(failure) if is_final(&failure) => (Fate::Refused, Event::NotSent { to, id, what, failure }),
        Err(failure) => return Err(failure),
    };
    // It may have come back before the answer that it was stored.
    let settled =
        messages::settle(context.database(), (recipient, id), context.key(), fate, None, now_millis()).await?;
    if settled.is_some() {
        context.tell(event);
    }
    Ok(true)
}

/// Takes the news that a stored message will not arrive. The person is told once, however often it comes.
pub(super) async fn take_returned(context: &Context, to: PeerName, id: MessageId, refusal: Refusal) -> PushAnswer {
    match context.account.kind {
        LoginKind::Resident => {}
        LoginKind::Errand { .. } => return Ok(PushReply::Left),
    }
    note_returned(context, to, id, refusal).await.map(|()| PushReply::Taken).map_err(|failure| {
        tracing::error!(%failure, "the news of a returned message was left at the directory");
        Refusal::Storage
    })
}

async fn note_returned(context: &Context, to: PeerName, id: MessageId, refusal: Refusal) -> Result<(), Failure> {
    let Some(recipient) = messages::recipient_of(context.database(), &to, id).await? else { return Ok(()) };
    let fate = Fate::Refused;
    let returned =
        messages::settle(context.database(), (recipient, id), context.key(), fate, Some(refusal), now_millis()).await?;
    let Some((Outgoing { message, .. }, _)) = returned else { return Ok(()) };
    if matches!(message.body, Body::Offer(_)) {
        shares::remove_offered(context.database(), id, message.recipient).await?;
    }
    // What is sent again is then for the key they have now.
    if let Err(failure) = contacts::identify(context, &to).await {
        tracing::info!(%failure, "the key that a returned message should be sent to is not known yet");
    }
    let failure = match refusal {
        Refusal::KeyChanged => Failure::from(refusal).hint(SEND_AGAIN),
        other => Failure::from(other),
    };
    context.tell(Event::NotSent { to, id, what: What::of(&message.body), failure });
    Ok(())
}

/// Whether another attempt would end the same way.
fn is_final(failure: &Failure) -> bool {
    match failure.kind {
        FailureKind::Authentication | FailureKind::NotAccepted | FailureKind::Integrity => true,
        FailureKind::Other | FailureKind::Quota => {
            let number = failure.refusal;
            let passing = [Refusal::Busy, Refusal::NoPrekey, Refusal::TooOften { seconds: 0 }, Refusal::NotLoggedIn];
            number.is_some() && !passing.iter().any(|refusal| Some(refusal.number()) == number)
        }
        FailureKind::Usage
        | FailureKind::Declined
        | FailureKind::Offline
        | FailureKind::Partial
        | FailureKind::DirectoryUnreachable
        | FailureKind::NoPath
        | FailureKind::TimedOut
        | FailureKind::Disk
        | FailureKind::LoggedInElsewhere
        | FailureKind::Interrupted => false,
    }
}

async fn deliver(
    context: &Context,
    prekeys: &mut HashMap<PeerName, SignedPrekey>,
    to: &PeerName,
    message: &InnerMessage,
) -> Result<(), Failure> {
    for _ in 0..RESEAL_ATTEMPTS_MAX {
        // A prekey from before the person's key changed, or from yesterday, is asked for again.
        let fits =
            |known: &SignedPrekey| known.prekey.identity == message.recipient && now_millis() < known.prekey.expires;
        let signed = match prekeys.remove(to).filter(fits) {
            Some(signed) => signed,
            None => fetch_prekey(context, to).await?,
        };
        // What was written for the old key does not go to the new one before its writer has heard of the change.
        if signed.prekey.identity != message.recipient {
            return Err(Failure::from(Refusal::KeyChanged).hint(SEND_AGAIN));
        }
        let sealed = envelope::seal(context.identity(), message, &signed, &mut OsRandom)
            .map_err(|error| Failure::new(FailureKind::Integrity, error.to_string()))?;
        let request = DirectoryRequest::Deliver { to: to.clone(), envelope: Box::new(sealed) };
        let changed = [Refusal::PrekeyChanged, Refusal::KeyChanged].map(|refusal| Some(refusal.number()));
        match context.tell_directory(&request).await {
            Ok(()) => {
                prekeys.insert(to.clone(), signed);
                return Ok(());
            }
            // Ask for the new one, and decide again.
            Err(failure) if changed.contains(&failure.refusal) => {}
            // Somebody who is online empties the mailbox: the message waits here meanwhile.
            Err(failure)
                if failure.refusal == Some(Refusal::MailboxFull.number()) && context.identify(to).await?.online =>
            {
                prekeys.insert(to.clone(), signed);
                return Err(Failure::from(Refusal::Busy));
            }
            Err(failure) => return Err(failure),
        }
    }
    Err(Failure::from(Refusal::Busy))
}

/// The prekey of a person, proven to be theirs: one without the signature of their key is never sealed to, nor is one
/// of a key that may not be talked to.
async fn fetch_prekey(context: &Context, to: &PeerName) -> Result<SignedPrekey, Failure> {
    let identity = context.identify(to).await?;
    let key = contacts::meet(context, to, identity.key).await?;
    let signed = identity.prekey.ok_or(Refusal::NoPrekey)?;
    prekey::verify(&signed, to, &key, now_millis()).map_err(|error| {
        Failure::new(FailureKind::Authentication, format!("the directory handed out a false prekey: {error}"))
    })?;
    Ok(signed)
}
