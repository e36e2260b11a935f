//! Who may learn this peer's address: friends, and those to whom its person grants it, checked here again although the
//! directory checks them too; and what others are asked for and answer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;

use super::commands::Rows;
use super::context::{Context, not_oneself, unexpected};
use super::event::{Event, HowLong};
use super::failure::{Failure, FailureKind};
use super::handle::Term;
use super::{blocks, contacts, friends, peer_links};
use crate::clock::now_millis;
use crate::storage::{consent, people, shares};
use crate::wire::account::LoginKind;
use crate::wire::directory::{DirectoryReply, DirectoryRequest, PushAnswer, PushReply};
use crate::wire::ids::{PeerKey, PeerName};
use crate::wire::limits::CONSENT_ASKED_MAX;
use crate::wire::refusal::Refusal;
use crate::wire::rendezvous::{Allowance, Grant, Purpose};

/// How long a verb waits for a person's answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);

/// How often one person's question is shown.
const SHOWN_AGAIN: Duration = Duration::from_secs(60);

/// Pages of grants that are read: more than an account may have.
const PAGES_MAX: usize = 1_000;

/// What is asked and answered now, in memory only.
#[derive(Debug, Default)]
pub(super) struct Asking {
    /// Whom we have asked.
    asked: Mutex<BTreeMap<PeerName, Asked>>,
    /// Rings when one of them has allowed it and nobody waits for that.
    allowed: Notify,
    /// Whose question was on the screen, and when.
    shown: Mutex<BTreeMap<PeerName, Instant>>,
    /// Held while grants change here and at the directory, so that both end up with the same.
    changing: tokio::sync::Mutex<()>,
}

/// What is to be done about an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// A command waits for it.
    Awaited,
    /// A connection is to be made when it comes.
    ToFollow,
    /// It came, and allows one.
    Allowed,
}

impl Asking {
    fn asked(&self) -> MutexGuard<'_, BTreeMap<PeerName, Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that somebody is asked. `false` when too many have not answered.
    fn ask(&self, to: &PeerName, what: Asked) -> bool {
        let mut asked = self.asked();
        let has_room = asked.len() < CONSENT_ASKED_MAX || asked.contains_key(to);
        if has_room {
            asked.insert(to.clone(), what);
        }
        has_room
    }

    /// Whether somebody has not answered yet.
    fn waits_for(&self, to: &PeerName) -> bool {
        matches!(self.asked().get(to), Some(Asked::Awaited | Asked::ToFollow))
    }

    /// Whether a person's question is to be shown: once a minute each.
    fn is_news(&self, from: &PeerName, now: Instant) -> bool {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.retain(|_, at| now.duration_since(*at) < SHOWN_AGAIN);
        if shown.contains_key(from) || shown.len() >= CONSENT_ASKED_MAX {
            return false;
        }
        shown.insert(from.clone(), now);
        true
    }

    /// Somebody whose answer is to be followed by a connection.
    fn next_allowed(&self) -> Option<PeerName> {
        let mut asked = self.asked();
        let name = asked.iter().find(|(_, what)| **what == Asked::Allowed).map(|(name, _)| name.clone())?;
        asked.remove(&name);
        Some(name)
    }
}

/// Whether whoever dials with this key for this purpose may learn where this peer is. What a person was allowed is for
/// the key that was theirs then, and for no other that shows their name; so is a friendship.
pub(super) async fn allows(
    context: &Context,
    dialler: &PeerName,
    key: PeerKey,
    purpose: Purpose,
) -> Result<bool, Failure> {
    if is_published(context, purpose).await?
        || people::is_friend_with_key(context.database(), dialler, key).await?
        || consent::allows_key(context.database(), dialler, key, now_millis()).await?
    {
        return Ok(true);
    }
    // The directory hears of it first: who has just been allowed may dial before it is on this disk.
    drop(context.asking.changing.lock().await);
    Ok(consent::allows_key(context.database(), dialler, key, now_millis()).await?)
}

/// Notes that this peer's address is told to whoever dialled for this purpose: what was allowed once is used up. Says
/// whether it was still allowed.
pub(super) async fn used(context: &Context, dialler: &PeerName, purpose: Purpose) -> Result<bool, Failure> {
    if is_published(context, purpose).await? || people::is_friend(context.database(), dialler).await? {
        return Ok(true);
    }
    Ok(consent::used(context.database(), dialler, now_millis()).await?)
}

/// Whether it is for a file that everyone may fetch from here directly.
async fn is_published(context: &Context, purpose: Purpose) -> Result<bool, Failure> {
    match purpose {
        Purpose::Talk => Ok(false),
        Purpose::Fetch { digest } => Ok(shares::publishes_openly(context.database(), digest).await?),
    }
}

/// Lets a person learn where this peer is: at the directory first, so that what is said here is true.
pub(super) async fn allow(context: &Context, to: PeerName, term: Term, rows: &Rows) -> Result<(), Failure> {
    not_oneself(context, &to)?;
    blocks::check(context, &to, None)?;
    let allowance = match term {
        Term::Once => Allowance::Once,
        Term::For { millis } => Allowance::Until(now_millis().plus_millis(millis)),
        Term::Always => Allowance::Always,
    };
    // It is for whoever has this key.
    contacts::pinned_key(context, &to).await?;
    let grant = Grant { to: to.clone(), allowance };
    let changing = context.asking.changing.lock().await;
    let told = context.tell_directory(&DirectoryRequest::Allow(grant.clone())).await;
    told.map_err(|failure| failure.about(&to))?;
    consent::allow(context.database(), grant, now_millis()).await?;
    drop(changing);
    rows.row(row(to, allowance)).await;
    Ok(())
}

/// Takes that back: here first, so that it is over even when the directory cannot be told.
pub(super) async fn deny(context: &Context, to: PeerName, rows: &Rows) -> Result<(), Failure> {
    not_oneself(context, &to)?;
    let changing = context.asking.changing.lock().await;
    consent::deny(context.database(), &to).await?;
    context.links.close_direct(&to);
    let told = context.tell_directory(&DirectoryRequest::Deny { to: to.clone() }).await;
    told.map_err(|failure| failure.about(&to))?;
    drop(changing);
    if people::is_friend(context.database(), &to).await? {
        return Err(Failure::new(FailureKind::Other, format!("{to} is your friend, and friends may connect directly"))
            .hint(format!("`unfriend {to}` ends that, too")));
    }
    rows.row(Event::Denied { name: to }).await;
    Ok(())
}

/// Lists who may learn where this peer is: both the directory and this disk must say so.
pub(super) async fn allowed(context: &Context, rows: &Rows) -> Result<(), Failure> {
    let mut all = BTreeMap::new();
    for Grant { to, allowance } in at_directory(context).await? {
        if consent::allows(context.database(), &to, now_millis()).await? {
            all.insert(to.clone(), row(to, allowance));
        }
    }
    for name in friends::agreed(context).await? {
        all.insert(name.clone(), Event::Allowed { name, allowance: HowLong::Friend, until: None });
    }
    for row in all.into_values() {
        rows.row(row).await;
    }
    Ok(())
}

fn row(name: PeerName, allowance: Allowance) -> Event {
    let (allowance, until) = match allowance {
        Allowance::Once => (HowLong::Once, None),
        Allowance::Until(end) => (HowLong::Until, Some(end)),
        Allowance::Always => (HowLong::Always, None),
    };
    Event::Allowed { name, allowance, until }
}

async fn at_directory(context: &Context) -> Result<Vec<Grant>, Failure> {
    let (mut all, mut after) = (Vec::new(), None);
    for _ in 0..PAGES_MAX {
        match context.ask_directory(&DirectoryRequest::Grants { after }).await? {
            DirectoryReply::Grants { grants, more } => {
                after = grants.last().map(|last| last.to.clone());
                all.extend(grants);
                if !more || after.is_none() {
                    break;
                }
            }
            other => return Err(unexpected(&other)),
        }
    }
    Ok(all)
}

/// Takes back at the directory what this disk does not know of, and then makes the connections that others come to allow.
pub(super) async fn follow(context: Arc<Context>) {
    if context.account.kind != LoginKind::Resident {
        return;
    }
    if let Err(failure) = reconcile(&context).await {
        tracing::warn!(%failure, "the directory may allow what is not allowed here");
    }
    loop {
        while let Some(name) = context.asking.next_allowed() {
            match open(&context, &name).await {
                Ok(connected) => context.tell(connected),
                Err(failure) => context.tell(Event::Note { text: format!("* not connected: {failure}") }),
            }
        }
        context.asking.allowed.notified().await;
    }
}

async fn reconcile(context: &Context) -> Result<(), Failure> {
    let _changing = context.asking.changing.lock().await;
    for Grant { to, .. } in at_directory(context).await? {
        if !consent::allows(context.database(), &to, now_millis()).await? {
            context.tell_directory(&DirectoryRequest::Deny { to }).await?;
        }
    }
    Ok(())
}

/// Shows a person's question. The answer is a command of its own.
pub(super) async fn take_question(context: &Context, from: PeerName, key: PeerKey) -> PushAnswer {
    match contacts::is_impostor(context, &from, key).await {
        Ok(false) => {}
        Ok(true) => return Err(Refusal::NotAccepted),
        Err(failure) => return Err(unreadable(&failure)),
    }
    if context.asking.is_news(&from, Instant::now()) {
        let legacy = contacts::is_legacy(context, &from).await.map_err(|failure| unreadable(&failure))?;
        context.tell(Event::ConsentAsked { from, key, legacy });
    }
    Ok(PushReply::Taken)
}

fn unreadable(failure: &Failure) -> Refusal {
    tracing::error!(%failure, "the profile cannot be read");
    Refusal::Storage
}

/// Takes a person's answer; one that was not asked for is passed over.
pub(super) fn take_answer(context: &Context, by: PeerName, allowed: bool) -> PushAnswer {
    let mut asked = context.asking.asked();
    let Some(what) = asked.remove(&by) else { return Ok(PushReply::Taken) };
    if allowed && what != Asked::Awaited {
        asked.insert(by.clone(), Asked::Allowed);
        context.asking.allowed.notify_one();
    }
    drop(asked);
    context.tell(Event::ConsentAnswered { by, allowed });
    Ok(PushReply::Taken)
}

/// Connects straight to a person, whom it asks first when they have not allowed it.
pub(super) async fn connect(context: &Context, to: PeerName, wait: bool, rows: &Rows) -> Result<(), Failure> {
    not_oneself(context, &to)?;
    blocks::check(context, &to, None)?;
    contacts::identify(context, &to).await?;
    let mut events = context.events.subscribe();
    if !context.asking.ask(&to, if wait { Asked::Awaited } else { Asked::ToFollow }) {
        return Err(Failure::new(FailureKind::Quota, "too many people were asked and have not answered"));
    }
    if let Err(failure) = context.tell_directory(&DirectoryRequest::AskConsent { to: to.clone() }).await {
        context.asking.asked().remove(&to);
        return Err(failure.about(&to));
    }
    // Whoever has allowed it already is not asked: the answer was here before this one.
    if context.asking.waits_for(&to) {
        rows.row(Event::Asked { to: to.clone() }).await;
    }
    if !wait {
        return Ok(());
    }
    let answer = tokio::time::timeout(ANSWER_PATIENCE, answer_of(&mut events, &to)).await;
    let Ok(answer) = answer else {
        context.asking.asked().remove(&to);
        return Err(Failure::new(FailureKind::TimedOut, format!("{to} has not answered"))
            .hint("they are asked on their screen: try again when they look at it"));
    };
    if !answer? {
        return Err(Failure::new(FailureKind::NotAccepted, format!("{to} does not want a direct connection")));
    }
    let connected = open(context, &to).await?;
    rows.row(connected).await;
    Ok(())
}

async fn answer_of(events: &mut tokio::sync::broadcast::Receiver<Event>, of: &PeerName) -> Result<bool, Failure> {
    loop {
        match events.recv().await {
            Ok(Event::ConsentAnswered { by, allowed }) if by == *of => return Ok(allowed),
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return Err(Failure::new(FailureKind::Other, "the peer has stopped")),
        }
    }
}

/// Makes the connection, and says how it goes.
async fn open(context: &Context, to: &PeerName) -> Result<Event, Failure> {
    let key = contacts::identify(context, to).await?.key;
    let link = peer_links::open_direct(context, to, key).await?;
    Ok(Event::Connected { name: to.clone(), via: link.path_info() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> PeerName {
        PeerName::parse(text).unwrap()
    }

    #[test]
    fn a_question_is_shown_once_a_minute_for_each_person() {
        let (asking, now) = (Asking::default(), Instant::now());
        assert!(asking.is_news(&name("alice"), now) && asking.is_news(&name("bob"), now));
        assert!(!asking.is_news(&name("alice"), now + SHOWN_AGAIN / 2));
        assert!(asking.is_news(&name("alice"), now + SHOWN_AGAIN));
        for number in 0..CONSENT_ASKED_MAX {
            asking.is_news(&name(&format!("a{number}")), now + SHOWN_AGAIN);
        }
        assert!(!asking.is_news(&name("late"), now + SHOWN_AGAIN), "so many questions are no help to anybody");
    }

    #[test]
    fn so_many_may_be_asked_at_a_time() {
        let asking = Asking::default();
        for number in 0..CONSENT_ASKED_MAX {
            assert!(asking.ask(&name(&format!("a{number}")), Asked::ToFollow));
        }
        assert!(!asking.ask(&name("late"), Asked::ToFollow) && asking.ask(&name("a7"), Asked::Allowed));
        assert_eq!((asking.next_allowed(), asking.next_allowed()), (Some(name("a7")), None));
        assert!(asking.ask(&name("late"), Asked::ToFollow));
    }
}
