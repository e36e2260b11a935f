//! The exclusive conversation of this peer, over a link that stays open for it: opens, closes and answers, and notices
//! when the other side is gone. Decides nothing: that is `protocol/exclusive.rs`.

use std::future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::context::{Context, not_oneself};
use super::direct::DirectFailure;
use super::event::Event;
use super::failure::{Failure, FailureKind};
use super::links::{InUse, Link};
use super::rows::WhyClosed;
use super::{contacts, direct, peer_links};
use crate::clock::now_millis;
use crate::protocol::exclusive::{Answered, Ended, Engaged, Engagement, Heard, Opening};
use crate::protocol::rate::Rate;
use crate::transport::connection::TransportError;
use crate::transport::stream::Stream;
use crate::wire::account::LoginKind;
use crate::wire::ids::{PeerKey, PeerName};
use crate::wire::limits::REQUEST_DEADLINE;
use crate::wire::people::Exclusive;
use crate::wire::refusal::{CloseCode, Refusal};
use crate::wire::rendezvous::Purpose;
use crate::wire::transfer::{PeerRequest, ReceivedAnswer};

/// How often the other side is asked whether the conversation still holds, and how long it has to answer, another link
/// included when there is none. A peer that was killed is gone after two of both: within 20 s, and the screen says so
/// within the 30 s that people wait.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
const CHECK_PATIENCE: Duration = Duration::from_secs(5);

/// How long a closing waits to be heard. Whoever does not hear it asks later, and is told then.
const CLOSE_PATIENCE: Duration = Duration::from_secs(3);

/// The state of it, which all parts of a peer share.
#[derive(Debug)]
pub(super) struct Exclusives {
    engagement: Mutex<Engagement>,
    /// With whom there is one. It changes with the engagement locked, so that faces hear of changes in their order.
    with: watch::Sender<Option<(PeerName, PeerKey)>>,
    /// Held while this side opens or closes one: the other side hears both in this order.
    saying: tokio::sync::Mutex<()>,
    /// How often each person opens one with us: every opening is a line on the screen.
    openings: Mutex<Rate>,
}

impl Default for Exclusives {
    fn default() -> Self {
        Self {
            engagement: Mutex::default(),
            with: watch::Sender::default(),
            saying: tokio::sync::Mutex::default(),
            openings: Mutex::new(Rate::of_questions()),
        }
    }
}

impl Exclusives {
    fn lock(&self) -> MutexGuard<'_, Engagement> {
        self.engagement.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens one. Comes back when both sides have it.
pub(super) async fn open(context: &Context, to: &PeerName) -> Result<(), Failure> {
    not_oneself(context, to)?;
    let key = contacts::identify(context, to).await?.key;
    let _in_order = context.exclusives.saying.lock().await;
    let opening = context.exclusives.lock().open(key);
    match opening {
        Ok(Opening::Ask) => {}
        Ok(Opening::IsOpen) => return Ok(()),
        Err(Engaged) => {
            return Err(engaged_here(context));
        }
    }
    let answer = ask_to_open(context, to, key).await;
    let answered = take_answer(context, to, key, answer.is_ok());
    match (answer, answered) {
        // An opening of theirs that came meanwhile counts, whatever became of ours.
        (Ok(()), _) | (Err(_), Answered::Begins | Answered::Unchanged) => Ok(()),
        (Err(failure), Answered::GivenUp) => {
            if failure.kind == FailureKind::TimedOut {
                // Perhaps it was heard all the same.
                tell_closed(context, key).await;
            }
            Err(failure)
        }
    }
}

fn engaged_here(context: &Context) -> Failure {
    let with = context.exclusives.with.borrow();
    let name = with.as_ref().map_or("somebody else", |(name, _)| name.as_str());
    Failure::new(FailureKind::Usage, format!("you are in an exclusive conversation with {name}")).hint("/close ends it")
}

/// Notes the answer, or that there is none.
fn take_answer(context: &Context, to: &PeerName, key: PeerKey, agreed: bool) -> Answered {
    let mut engagement = context.exclusives.lock();
    let answered = engagement.take_answer(key, agreed);
    if answered == Answered::Begins {
        begin(context, &engagement, (to, key), &context.account.name);
    }
    answered
}

async fn ask_to_open(context: &Context, to: &PeerName, key: PeerKey) -> Result<(), Failure> {
    // Held until there is an answer, so that nobody closes the link as unused.
    let (_link, _) = peer_links::open(context, to, key, Purpose::Talk).await?;
    match say(context, key, Exclusive::Open, REQUEST_DEADLINE).await {
        Ok(()) => Ok(()),
        Err(DirectFailure::Refused(refusal)) => {
            Err(Failure { message: format!("{to} {refusal}"), ..Failure::from(refusal) })
        }
        Err(error @ (DirectFailure::NoAnswer(_) | DirectFailure::Broken(_))) => {
            Err(Failure::new(FailureKind::TimedOut, format!("{to} does not answer: {error}"))
                .hint("try again in a moment"))
        }
    }
}

/// Ends it. It is no failure when it is over already.
pub(super) async fn close(context: &Context, with: &PeerName) -> Result<(), Failure> {
    let _in_order = context.exclusives.saying.lock().await;
    let closed = {
        let mut engagement = context.exclusives.lock();
        let is_meant = context.exclusives.with.borrow().as_ref().is_some_and(|(name, _)| name == with);
        let key = if is_meant { engagement.close() } else { None };
        if key.is_some() {
            end(context, &engagement, WhyClosed::Here);
        }
        key
    };
    if let Some(key) = closed {
        tell_closed(context, key).await;
    }
    Ok(())
}

async fn tell_closed(context: &Context, key: PeerKey) {
    if let Err(error) = say(context, key, Exclusive::Close, CLOSE_PATIENCE).await {
        tracing::debug!(%error, "the other side does not know yet that the exclusive conversation is over");
    }
}

async fn say(context: &Context, key: PeerKey, what: Exclusive, patience: Duration) -> Result<(), DirectFailure> {
    let answer: ReceivedAnswer = direct::ask(context, key, &PeerRequest::Exclusive(what), patience).await?;
    Ok(answer?)
}

/// Answers what the other side of a link says of exclusive conversations.
pub(super) async fn answer(context: &Context, link: &Link, said: Exclusive, stream: Stream) {
    let answer: ReceivedAnswer = match said {
        Exclusive::Open => take_open(context, link).await,
        Exclusive::Close => {
            take_close(context, link.key);
            Ok(())
        }
        Exclusive::Still if context.exclusives.lock().holds(link.key) => Ok(()),
        Exclusive::Still => Err(Refusal::NotAccepted),
    };
    stream.answer(&answer).await;
}

async fn take_open(context: &Context, link: &Link) -> Result<(), Refusal> {
    // An errand is gone in a moment.
    if context.account.kind != LoginKind::Resident {
        return Err(Refusal::NotAccepted);
    }
    if let Err(failure) = contacts::meet(context, &link.name, link.key).await {
        let is_held = failure.kind == FailureKind::Authentication;
        tracing::warn!(name = %link.name, %failure, "an exclusive conversation was not opened");
        return Err(if is_held { Refusal::NotAccepted } else { Refusal::Storage });
    }
    let mut engagement = context.exclusives.lock();
    if engagement.with() != Some(link.key) {
        let mut openings = context.exclusives.openings.lock().unwrap_or_else(PoisonError::into_inner);
        openings.take(&link.name, now_millis())?;
    }
    if engagement.take_open(link.key).map_err(|Engaged| Refusal::Engaged)? {
        begin(context, &engagement, (&link.name, link.key), &link.name);
    }
    Ok(())
}

fn take_close(context: &Context, by: PeerKey) {
    let mut engagement = context.exclusives.lock();
    if engagement.take_close(by) {
        end(context, &engagement, WhyClosed::There);
    }
}

/// Tells that it has begun, with the engagement locked.
fn begin(context: &Context, _locked: &MutexGuard<'_, Engagement>, with: (&PeerName, PeerKey), by: &PeerName) {
    let (name, key) = with;
    context.exclusives.with.send_replace(Some((name.clone(), key)));
    context.tell(Event::ExclusiveOpened { with: name.clone(), by: by.clone() });
}

/// Tells that it is over, with the engagement locked.
fn end(context: &Context, _locked: &MutexGuard<'_, Engagement>, why: WhyClosed) {
    if let Some((with, _)) = context.exclusives.with.send_replace(None) {
        context.tell(Event::ExclusiveClosed { with, why });
    }
}

/// Keeps the link of every exclusive conversation open, and ends the conversation when the other side is gone.
pub(super) async fn keep(context: Arc<Context>) {
    let mut with = context.exclusives.with.subscribe();
    loop {
        let other = with.borrow_and_update().clone();
        let watching = async {
            match &other {
                Some((name, key)) => watch_over(&context, name, *key).await,
                None => future::pending().await,
            }
        };
        // The sender lives in the context, so a change is one.
        tokio::select! { _ = with.changed() => {}, () = watching => {} }
    }
}

/// Asks again and again whether it still holds, until it does not.
async fn watch_over(context: &Context, name: &PeerName, key: PeerKey) {
    let mut link = None;
    loop {
        link = context.links.find(key).or(link);
        if has_left(link.as_ref()).await {
            return leave(context, key);
        }
        let Some(heard) = check(context, name, key).await else { return leave(context, key) };
        let mut engagement = context.exclusives.lock();
        match engagement.take_check(key, heard) {
            None => {}
            Some(Ended::ByThem) => return end(context, &engagement, WhyClosed::There),
            Some(Ended::Lost) => return end(context, &engagement, WhyClosed::Lost),
        }
    }
}

/// Waits for the next check, or until the link ends; says whether the other side has ended it because its program leaves.
async fn has_left(link: Option<&InUse>) -> bool {
    let was_open = link.is_some_and(|link| link.connection.is_open());
    let ended = match link {
        Some(link) => tokio::time::timeout(CHECK_INTERVAL, link.connection.closed()).await.ok(),
        None => None,
    };
    if matches!(ended, Some(TransportError::Closed(CloseCode::ShuttingDown))) {
        return true;
    }
    if !was_open {
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
    false
}

fn leave(context: &Context, key: PeerKey) {
    let mut engagement = context.exclusives.lock();
    if engagement.take_close(key) {
        end(context, &engagement, WhyClosed::Left);
    }
}

/// Asks once, over another link when there is none. `None` when the directory knows that they have left.
async fn check(context: &Context, name: &PeerName, key: PeerKey) -> Option<Heard> {
    let asked = async {
        let (_link, _) = peer_links::open(context, name, key, Purpose::Talk).await?;
        Ok::<_, Failure>(say(context, key, Exclusive::Still, CHECK_PATIENCE).await)
    };
    match tokio::time::timeout(CHECK_PATIENCE, asked).await {
        Ok(Ok(Ok(()))) => Some(Heard::Yes),
        Ok(Ok(Err(DirectFailure::Refused(_)))) => Some(Heard::No),
        Ok(Err(failure)) if failure.kind == FailureKind::Offline => None,
        unheard => {
            tracing::debug!(%name, ?unheard, "the other side of an exclusive conversation is silent");
            if let Some(link) = context.links.find(key) {
                context.links.restore(&link, Purpose::Talk);
            }
            Some(Heard::Silence)
        }
    }
}
