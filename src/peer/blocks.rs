//! Whom this account keeps out: nothing of theirs is taken and nothing goes to them, whatever the directory lets through,
//! and they see what they would see of a peer that has left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::commands::Rows;
use super::context::{Context, not_oneself, unexpected};
use super::event::Event;
use super::failure::Failure;
use super::{exclusive, friends};
use crate::database::{Database, DatabaseError};
use crate::storage::{contacts, people};
use crate::wire::directory::{DirectoryPush, DirectoryReply, DirectoryRequest, PushAnswer, PushReply};
use crate::wire::ids::{PeerKey, PeerName};
use crate::wire::limits::BLOCKED_MAX;
use crate::wire::refusal::Refusal;

/// Whom this account keeps out, as it lies on the disk: asked for with everything that comes.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    people: Mutex<BTreeMap<PeerName, PeerKey>>,
    /// Held while it changes here and at the directory, so that both end up with the same.
    changing: tokio::sync::Mutex<()>,
}

impl Blocks {
    /// Reads them from the disk.
    pub(super) async fn load(database: &Database) -> Result<Self, DatabaseError> {
        let people = people::blocked(database).await?.into_iter().collect();
        Ok(Self { people: Mutex::new(people), changing: Default::default() })
    }

    /// Whether somebody is kept out, by their name or by the key that they show.
    pub(super) fn has(&self, name: &PeerName, key: PeerKey) -> bool {
        self.has_name(name) || self.has_key(key)
    }

    pub(super) fn has_name(&self, name: &PeerName) -> bool {
        self.people().contains_key(name)
    }

    /// Whether a key was that of somebody who is kept out.
    pub(super) fn has_key(&self, key: PeerKey) -> bool {
        self.people().values().any(|blocked| *blocked == key)
    }

    fn names(&self) -> BTreeSet<PeerName> {
        self.people().keys().cloned().collect()
    }

    fn are_full(&self) -> bool {
        u64::try_from(self.people().len()).is_ok_and(|count| count >= BLOCKED_MAX)
    }

    fn people(&self) -> MutexGuard<'_, BTreeMap<PeerName, PeerKey>> {
        self.people.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses what would go to somebody who is kept out.
pub(super) fn check(context: &Context, name: &PeerName, key: Option<PeerKey>) -> Result<(), Failure> {
    if context.blocks.has_name(name) || key.is_some_and(|key| context.blocks.has_key(key)) {
        return Err(Failure::of_message(name, Refusal::YouBlock));
    }
    Ok(())
}

/// What is answered to a push about somebody who is kept out; `None` when it is about nobody who is.
pub(super) fn passed_over(context: &Context, push: &DirectoryPush) -> Option<PushAnswer> {
    let (from, key, answer) = match push {
        DirectoryPush::Delivery(delivery) => {
            (&delivery.from, Some(delivery.envelope.header.sender), Ok(PushReply::Left))
        }
        // As if nobody were here.
        DirectoryPush::Dial(announced) => (&announced.from, Some(announced.key), Err(Refusal::Offline)),
        DirectoryPush::ConsentAsked { from, key } | DirectoryPush::FriendAsked { from, key } => {
            (from, Some(*key), Ok(PushReply::Taken))
        }
        DirectoryPush::Announcement { from, signed, .. } => {
            (from, Some(signed.announcement.sender), Ok(PushReply::Taken))
        }
        DirectoryPush::ConsentAnswered { by: from, .. }
        | DirectoryPush::FriendAnswered { by: from, .. }
        | DirectoryPush::Presence { name: from, .. }
        | DirectoryPush::KeyChanged { name: from, .. } => (from, None, Ok(PushReply::Taken)),
        // Of these the key of whoever signed counts, or what they tell is of this account.
        DirectoryPush::Receipts(_)
        | DirectoryPush::Drained { .. }
        | DirectoryPush::Opened { .. }
        | DirectoryPush::KeyRequested { .. }
        | DirectoryPush::Returned { .. }
        | DirectoryPush::PeopleChanged => return None,
    };
    let is_blocked = context.blocks.has_name(from) || key.is_some_and(|key| context.blocks.has_key(key));
    if !is_blocked {
        return None;
    }
    tracing::debug!(%from, "passed over: they are blocked");
    if answer == Ok(PushReply::Left) {
        context.delivering.has_left.store(true, Ordering::Relaxed);
    }
    Some(answer)
}

/// Keeps a person out: here first, so that it holds even when the directory cannot be told.
pub(super) async fn block(context: &Context, name: PeerName, rows: &Rows) -> Result<(), Failure> {
    not_oneself(context, &name)?;
    let key = key_of(context, &name).await?;
    let _changing = context.blocks.changing.lock().await;
    if context.blocks.are_full() && !context.blocks.has_name(&name) {
        return Err(Failure::from(Refusal::TooManyBlocked));
    }
    exclusive::close(context, &name).await?;
    let is_new = keep_out(context, &name, key).await?;
    match context.tell_directory(&DirectoryRequest::Block { name: name.clone() }).await {
        Err(failure) if is_new && is_final(&failure) => {
            let_in(context, &name).await?;
            return Err(failure.about(&name));
        }
        Err(failure) => {
            rows.row(Event::Blocked { name }).await;
            context.friends.changed.notify_one();
            let text = format!("* blocked here; the directory is told as soon as it can be ({failure})");
            rows.row(Event::Note { text }).await;
        }
        Ok(()) => rows.row(Event::Blocked { name }).await,
    }
    Ok(())
}

/// Whether the directory will never keep this person out.
fn is_final(failure: &Failure) -> bool {
    [Refusal::UnknownName, Refusal::TooManyBlocked].iter().any(|refusal| failure.refusal == Some(refusal.number()))
}

/// The key of somebody, who becomes no contact by being blocked.
async fn key_of(context: &Context, name: &PeerName) -> Result<PeerKey, Failure> {
    match contacts::known(context.database(), name).await? {
        Some(trust) => Ok(trust.key),
        None => Ok(context.identify(name).await?.key),
    }
}

async fn keep_out(context: &Context, name: &PeerName, key: PeerKey) -> Result<bool, Failure> {
    let is_new = people::block(context.database(), name, key).await?;
    context.blocks.people().entry(name.clone()).or_insert(key);
    context.friends.forget_question(name);
    context.links.close_person(name, key);
    Ok(is_new)
}

async fn let_in(context: &Context, name: &PeerName) -> Result<(), Failure> {
    people::unblock(context.database(), name).await?;
    context.blocks.people().remove(name);
    Ok(())
}

/// Lets a person in again: at the directory first, because whom it keeps out is kept out here too.
pub(super) async fn unblock(context: &Context, name: PeerName, rows: &Rows) -> Result<(), Failure> {
    let _changing = context.blocks.changing.lock().await;
    let told = context.tell_directory(&DirectoryRequest::Unblock { name: name.clone() }).await;
    friends::check_if_lost(context, &told);
    let was_here = context.blocks.has_name(&name);
    let is_over = |refusal: &Refusal| told.as_ref().is_err_and(|failure| failure.refusal == Some(refusal.number()));
    // An account may be gone whose owner is kept out here.
    if !(was_here && [Refusal::NotBlocked, Refusal::UnknownName].iter().any(is_over)) {
        told.map_err(|failure| failure.about(&name))?;
    }
    let_in(context, &name).await?;
    rows.row(Event::Unblocked { name }).await;
    Ok(())
}

/// Lists who is kept out, here or by the directory.
pub(super) async fn blocked(context: &Context, rows: &Rows) -> Result<(), Failure> {
    let mut names = context.blocks.names();
    match at_directory(context).await {
        Ok(there) => names.extend(there),
        Err(failure) => tracing::info!(%failure, "only those are listed who are blocked here"),
    }
    for name in names {
        rows.row(Event::Blocked { name }).await;
    }
    Ok(())
}

async fn at_directory(context: &Context) -> Result<BTreeSet<PeerName>, Failure> {
    let (mut all, mut after) = (BTreeSet::new(), None);
    // A page without a new name is the last, so that no directory answers for ever.
    loop {
        match context.ask_directory(&DirectoryRequest::Blocked { after }).await? {
            DirectoryReply::Names { names, more } => {
                let count = all.len();
                after = names.last().cloned();
                all.extend(names);
                let is_enough = u64::try_from(all.len()).is_ok_and(|count| count > BLOCKED_MAX);
                if !more || is_enough || all.len() == count {
                    return Ok(all);
                }
            }
            other => return Err(unexpected(&other)),
        }
    }
}

/// Keeps the same people out here and at the directory: whoever is kept out at one of them, so that neither a directory
/// from a backup nor a new machine lets anybody in.
pub(super) async fn reconcile(context: &Context) -> Result<(), Failure> {
    let _changing = context.blocks.changing.lock().await;
    let there = at_directory(context).await?;
    let here = context.blocks.names();
    for name in here.difference(&there) {
        match context.tell_directory(&DirectoryRequest::Block { name: name.clone() }).await {
            Err(failure) if failure.refusal.is_none() => return Err(failure),
            Err(failure) => tracing::warn!(%name, %failure, "blocked here, but not at the directory"),
            Ok(()) => {}
        }
    }
    let mut learned = Vec::new();
    for name in there.difference(&here) {
        if context.blocks.are_full() {
            break;
        }
        let key = key_of(context, name).await?;
        keep_out(context, name, key).await?;
        learned.push(name);
    }
    if let [first, others @ ..] = &learned[..] {
        let others = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
        let text =
            format!("* your directory blocks {first}{others} for you, so this machine does now: /blocked lists all");
        context.tell(Event::Note { text });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_blocked_is_known_by_name_and_by_key() {
        let [bob, carol] = ["bob", "carol"].map(|text| PeerName::parse(text).unwrap());
        let [old, new] = [1, 2].map(|byte| PeerKey::from_bytes([byte; 32]));
        let blocks = Blocks::default();
        assert!(!blocks.has(&bob, old));
        blocks.people().insert(bob.clone(), old);
        assert!(blocks.has(&bob, old) && blocks.has(&bob, new), "by name");
        assert!(blocks.has(&carol, old) && !blocks.has(&carol, new), "by key");
    }
}
