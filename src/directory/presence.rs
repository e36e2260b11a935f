//! Who is here and what is said to everybody: the requests of both. By the rules of `protocol::presence` and
//! `protocol::people`; only what the store must know of those who are not here is asked of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::registry::Session;
use super::shared::Shared;
use super::store::StoreError;
use crate::clock::now_millis;
use crate::protocol::presence::{Listed, Sought};
use crate::protocol::rate::Rate;
use crate::protocol::recent::last_seen;
use crate::seal::announcement;
use crate::wire::directory::{DirectoryAnswer, DirectoryPush, DirectoryReply};
use crate::wire::ids::{Pattern, PeerName, UnixMillis};
use crate::wire::limits::{PAGE_ENTRIES_MAX, RECENT, RECENT_MAX, WATCHED_MAX};
use crate::wire::people::{Person, Presence, SignedAnnouncement};
use crate::wire::refusal::Refusal;

/// How often accounts have made others hear of them.
#[derive(Debug)]
pub(super) struct Heard {
    announcements: Mutex<Rate>,
    presence: Mutex<Rate>,
}

impl Default for Heard {
    fn default() -> Self {
        Self { announcements: Mutex::new(Rate::of_announcements()), presence: Mutex::new(Rate::of_presence()) }
    }
}

fn lock(rate: &Mutex<Rate>) -> MutexGuard<'_, Rate> {
    rate.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets others see a resident otherwise. Nobody can look as if they were gone: whoever wants that leaves.
pub(super) fn set(shared: &Shared, session: &Arc<Session>, presence: Presence) -> DirectoryAnswer {
    if !presence.is_online() {
        return Err(Refusal::UnknownRequest);
    }
    lock(&shared.heard.presence).take(&session.name, now_millis())?;
    shared.registry.set_presence(session, presence)?;
    Ok(DirectoryReply::Done)
}

/// Remembers whose presence a resident wants to hear of; it is told at once how those are who are new to it.
pub(super) fn watch(shared: &Shared, session: &Arc<Session>, names: Vec<PeerName>) -> DirectoryAnswer {
    if names.len() > WATCHED_MAX {
        return Err(Refusal::UnknownRequest);
    }
    shared.registry.watch(session, names.into_iter().collect())?;
    Ok(DirectoryReply::Done)
}

/// A page of those who are here, or were lately. Pages are filled whoever is left out of them, so that nobody sees by
/// their length that somebody is.
pub(super) async fn who(
    shared: &Shared,
    session: &Session,
    recent: bool,
    pattern: Option<Pattern>,
    mut after: Option<PeerName>,
) -> DirectoryAnswer {
    let mut people = Vec::new();
    loop {
        let sought = Sought { by: &session.name, recent, pattern: pattern.as_ref(), after: after.as_ref() };
        let (listed, more) = shared.registry.listed(sought, PAGE_ENTRIES_MAX + 1, now_millis());
        after = listed.last().map(|last| last.name.clone());
        people.extend(visible(shared, session, listed).await?);
        if people.len() > PAGE_ENTRIES_MAX || !more {
            break;
        }
    }
    let more = people.len() > PAGE_ENTRIES_MAX;
    people.truncate(PAGE_ENTRIES_MAX);
    Ok(DirectoryReply::People { people, more })
}

/// Those of a listing whom the asker may see. When somebody left is for their friends to know.
async fn visible(shared: &Shared, asker: &Session, listed: Vec<Listed>) -> Result<Vec<Person>, StoreError> {
    let gone: Vec<_> =
        listed.iter().filter(|person| person.left_at.is_some()).map(|person| person.name.clone()).collect();
    // Also of nobody: by the time it takes nobody finds out whether somebody whom they may not see has left.
    let relations: BTreeMap<_, _> = shared.store.relations(&asker.name, gone).await?.into_iter().collect();
    let legacy = shared.store.legacy_among(listed.iter().map(|person| person.name.clone()).collect()).await?;
    let person = |Listed { name, presence, left_at }: Listed| {
        let legacy = legacy.contains(&name);
        let Some(left_at) = left_at else { return Some(Person { name, presence, last_seen: None, legacy }) };
        let relation = relations.get(&name)?;
        let is_own = name == asker.name;
        let last_seen = (relation.are_friends || is_own).then(|| last_seen(left_at));
        (relation.is_open() || is_own).then_some(Person { name, presence, last_seen, legacy })
    };
    Ok(listed.into_iter().filter_map(person).collect())
}

/// Tells everyone who is here what somebody says, but for those whom one of both sides hides from the other.
pub(super) async fn announce(shared: &Shared, session: &Session, signed: SignedAnnouncement) -> DirectoryAnswer {
    if signed.announcement.sender != session.key {
        return Err(Refusal::NotYourName);
    }
    lock(&shared.heard.announcements).take(&session.name, now_millis())?;
    announcement::verify(&signed).map_err(|_| Refusal::BadSignature)?;
    let circle = shared.store.circle(&session.name).await?;
    let from = session.name.clone();
    let legacy = shared.store.account(&from).await?.is_some_and(|account| account.legacy);
    let push = DirectoryPush::Announcement { from, signed: Box::new(signed), legacy };
    let to_everyone = shared.registry.announce(&session.name, &circle, push);
    tracing::info!(peer = %session.name, to_everyone, "said to everybody");
    Ok(DirectoryReply::Announced { to_everyone })
}

/// Notes that these accounts' peers are here now, so that their friends can be told when they were here last.
pub(super) async fn note_seen(shared: &Shared, names: Vec<PeerName>) {
    if let Err(error) = shared.store.seen(names, last_seen(now_millis())).await {
        tracing::warn!(%error, "not noted who is here");
    }
}

/// Goes on from what an earlier process noted of those who were here lately.
pub(super) async fn restore(shared: &Shared) -> Result<(), StoreError> {
    let hour_millis = u64::try_from(RECENT.as_millis()).unwrap_or(u64::MAX);
    let since = UnixMillis(now_millis().0.saturating_sub(hour_millis));
    shared.registry.were_here(shared.store.seen_since(since, RECENT_MAX).await?);
    Ok(())
}
