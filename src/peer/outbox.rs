//! Sends what was written: first to this disk, then straight to its recipient or to the directory, again and again until
//! it is settled. Messages to one person go one after another, those to others meanwhile.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::context::{Context, unexpected};
use super::event::{Event, What};
use super::failure::{Failure, FailureKind};
use super::sending::{self, KnownPrekeys, Outcome, SEND_AGAIN};
use super::{blocks, contacts, receipts};
use crate::clock::now_millis;
use crate::protocol::conversation::{Draft, Fate, Stage};
use crate::protocol::lanes::Lanes;
use crate::seal::random::{self, OsRandom};
use crate::storage::messages::{self, Outgoing, ToSend, Unreceipted};
use crate::storage::shares;
use crate::wire::account::LoginKind;
use crate::wire::directory::{DirectoryReply, DirectoryRequest, PushAnswer, PushReply};
use crate::wire::ids::{MessageId, PeerKey, PeerName};
use crate::wire::limits::MISSING_PER_FRAME_MAX;
use crate::wire::message::Body;
use crate::wire::refusal::Refusal;

/// Messages that are on their way at a time, each to somebody else: some of the session's streams stay free.
const SENT_AT_ONCE: usize = 5;

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

/// Runs until nobody can write any more. `delivering.unsent` rings when something is to be sent again.
pub(super) async fn run(context: Arc<Context>, mut requests: mpsc::Receiver<Enqueue>) {
    let mut session = context.session.subscribe();
    let mut sender = Sender::new(context.clone());
    loop {
        sender.start_what_can_go().await;
        let rested = sender.next_wake();
        tokio::select! {
            request = requests.recv() => match request {
                Some(request) => {
                    enqueue(&context, request).await;
                    while let Ok(request) = requests.try_recv() {
                        enqueue(&context, request).await;
                    }
                }
                None => return,
            },
            Some(ended) = sender.running.join_next() => sender.ended(ended).await,
            () = context.delivering.unsent.notified() => {}
            changed = session.changed() => {
                if changed.is_err() { return }
                sender.begin_session();
            }
            () = sleep_until(rested) => {}
        }
    }
}

async fn sleep_until(rested: Option<Instant>) {
    match rested {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Who is being sent to, and who rests.
struct Sender {
    context: Arc<Context>,
    prekeys: Arc<KnownPrekeys>,
    lanes: Lanes,
    started: Instant,
    running: JoinSet<(ToSend, Outcome)>,
    /// Messages that did not get there straight.
    detours: HashSet<MessageId>,
}

impl Sender {
    fn new(context: Arc<Context>) -> Self {
        Self {
            context,
            prekeys: Arc::default(),
            lanes: Lanes::default(),
            started: Instant::now(),
            running: JoinSet::new(),
            detours: HashSet::new(),
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn next_wake(&self) -> Option<Instant> {
        self.lanes.next_wake(self.now()).map(|at| self.started + at)
    }

    fn begin_session(&mut self) {
        self.prekeys.forget_all();
        self.detours.clear();
        self.lanes.wake();
    }

    /// Starts an attempt for the first message of everyone who is not being sent to and does not rest.
    async fn start_what_can_go(&mut self) {
        if self.running.len() >= SENT_AT_ONCE {
            return;
        }
        let context = self.context.clone();
        let waiting = match messages::to_send(context.database(), context.key()).await {
            Ok(waiting) => waiting,
            Err(error) => return tracing::error!(%error, "the outbox cannot be read"),
        };
        for item in waiting {
            let recipient = item.outgoing.message.recipient;
            if self.running.len() >= SENT_AT_ONCE || !self.lanes.is_free(recipient, self.now()) {
                continue;
            }
            let failed_direct = self.detours.contains(&item.outgoing.message.id);
            let Some(way) = sending::way(&context, &item, failed_direct) else { continue };
            self.lanes.begin(recipient);
            let (context, prekeys) = (context.clone(), self.prekeys.clone());
            self.running.spawn(async move {
                let outcome = sending::attempt(&context, &prekeys, &item, way).await;
                (item, outcome)
            });
        }
    }

    async fn ended(&mut self, ended: Result<(ToSend, Outcome), JoinError>) {
        let (item, outcome) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                // Whose lane it was is not known: all are tried again, and what was taken already is not taken twice.
                tracing::error!(%error, "an attempt to send ended");
                self.lanes = Lanes::default();
                return;
            }
        };
        let (recipient, id) = (item.outgoing.message.recipient, item.outgoing.message.id);
        let settled = match outcome {
            Outcome::Stored => settle(&self.context, &item, Fate::Stored { attempt: item.attempt }, None).await,
            Outcome::Refused(failure) => settle(&self.context, &item, Fate::Refused, Some(failure)).await,
            Outcome::Delivered(receipt) => receipts::take(&self.context, vec![receipt]).await,
            Outcome::Detour => {
                self.detours.insert(id);
                if self.context.session.borrow().is_some() { Ok(()) } else { Err(no_way(&item)) }
            }
            Outcome::Failed(failure) => Err(failure),
        };
        match settled {
            Ok(()) => self.lanes.settled(recipient),
            Err(failure) => {
                tracing::info!(to = %item.outgoing.to, %failure, "a message waits");
                let [spread] = random::array(&mut OsRandom);
                self.lanes.failed(recipient, self.now(), spread);
            }
        }
    }
}

fn no_way(item: &ToSend) -> Failure {
    Failure::new(FailureKind::NoPath, format!("{} did not answer, and there is no directory", item.outgoing.to))
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
    blocks::check(context, to, None)?;
    let recipient = contacts::pinned_key(context, to).await?;
    let draft = Draft { sender: context.key(), recipient, id, sent_at: now_millis(), body };
    messages::write(context.database(), to, draft)
        .await?
        .map(drop)
        .ok_or_else(|| Failure::new(FailureKind::Quota, "the outbox is full: too many messages wait to be sent"))
}

/// Notes what an attempt came to, and tells it when that is news.
async fn settle(context: &Context, item: &ToSend, fate: Fate, failure: Option<Failure>) -> Result<(), Failure> {
    let message = (item.outgoing.message.recipient, item.outgoing.message.id);
    let reason = failure.as_ref().and_then(|failure| failure.refusal);
    if let Some((outgoing, stage)) = note(context, message, fate, reason).await? {
        tell_stage(context, &outgoing, stage, failure).await;
    }
    Ok(())
}

/// Notes what happened to a message. What it has come to, when that is news.
async fn note(
    context: &Context,
    message: (PeerKey, MessageId),
    fate: Fate,
    reason: Option<u16>,
) -> Result<Option<(Outgoing, Stage)>, Failure> {
    Ok(messages::settle(context.database(), message, context.key(), fate, reason, now_millis()).await?)
}

/// Tells the person how far a message has come. Offers that will not be taken are taken back.
pub(super) async fn tell_stage(context: &Context, outgoing: &Outgoing, stage: Stage, failure: Option<Failure>) {
    let Outgoing { to, message } = outgoing.clone();
    let (id, what) = (message.id, What::of(&message.body));
    let event = match stage {
        Stage::Sending => return,
        Stage::Stored => Event::Stored { to, id, what },
        Stage::Delivered => Event::Delivered { to, id, what },
        Stage::Read => Event::Read { to, id, what },
        Stage::Refused => {
            if let Err(error) = take_offer_back(context, outgoing).await {
                tracing::error!(%error, "an offer that was refused is still there to be fetched");
            }
            Event::NotSent { to, id, what, failure: failure.unwrap_or_else(|| Failure::from(Refusal::CannotOpen)) }
        }
    };
    context.tell(event);
}

async fn take_offer_back(context: &Context, outgoing: &Outgoing) -> Result<(), Failure> {
    if messages::offer_in(outgoing).is_some() {
        let (id, recipient) = (outgoing.message.id, outgoing.message.recipient);
        shares::remove_offered(context.database(), id, recipient).await?;
    }
    Ok(())
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
    let changed = note(context, (recipient, id), Fate::Refused, Some(refusal.number())).await?;
    let Some((outgoing, stage)) = changed else { return Ok(()) };
    let failure = match refusal {
        Refusal::KeyChanged => {
            // What is sent again is then for the key they have now.
            if let Err(failure) = contacts::identify(context, &to).await {
                tracing::info!(%failure, "the key that a returned message should be sent to is not known yet");
            }
            Failure::from(refusal).hint(SEND_AGAIN)
        }
        other => Failure::of_message(&to, other),
    };
    tell_stage(context, &outgoing, stage, Some(failure)).await;
    Ok(())
}

/// Asks the directory whether it still has what it said it had: one that was restored from a backup does not. What is
/// missing is sent again under the same id; whoever has it already knows it by that.
pub(super) async fn send_lost_again(context: Arc<Context>) {
    if let Err(failure) = find_lost(&context).await {
        tracing::info!(%failure, "not known whether the directory has lost messages");
    }
}

async fn find_lost(context: &Context) -> Result<(), Failure> {
    let mut after = 0;
    loop {
        let page = messages::unreceipted(context.database(), after, MISSING_PER_FRAME_MAX).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.number;
        let asked = page.iter().map(|message| (message.to.clone(), message.id)).collect();
        let missing = match context.ask_directory(&DirectoryRequest::Missing { messages: asked }).await? {
            DirectoryReply::Missing { messages } => messages,
            other => return Err(unexpected(&other)),
        };
        // Of what went to people who are blocked by now nobody can say what became of it: their receipts are not taken.
        let is_lost = |message: &&Unreceipted| {
            missing.contains(&message.id) && !context.blocks.has(&message.to, message.recipient)
        };
        let lost = page.iter().filter(is_lost);
        let lost: Vec<(PeerKey, MessageId)> = lost.map(|message| (message.recipient, message.id)).collect();
        if lost.is_empty() {
            continue;
        }
        tracing::warn!(count = lost.len(), "the directory has lost messages that it had stored: they are sent again");
        for message in lost {
            note(context, message, Fate::Lost, None).await?;
        }
        context.delivering.unsent.notify_one();
    }
}
