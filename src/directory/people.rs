//! What people say of each other: who is kept out, who is a friend, who may see whom. Only an account's own sessions speak
//! for it. What follows from it is in `protocol::people`; what others see of it changes at once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::registry::Session;
use super::shared::Shared;
use super::store::{Befriended, Parted};
use crate::clock::now_millis;
use crate::protocol::people::{News, Word};
use crate::protocol::rate::Rate;
use crate::wire::directory::{DirectoryAnswer, DirectoryPush, DirectoryReply};
use crate::wire::ids::{PeerName, UnixMillis};
use crate::wire::limits::PAGE_ENTRIES_MAX;
use crate::wire::people::{Audience, Friend, FriendAnswer, FriendState, Presence};
use crate::wire::refusal::Refusal;

/// What is remembered of people beside the store, for one directory.
#[derive(Debug)]
pub(super) struct People {
    /// How often accounts have asked others to be friends.
    rate: Mutex<Rate>,
}

impl Default for People {
    fn default() -> Self {
        Self { rate: Mutex::new(Rate::of_friend_requests()) }
    }
}

impl People {
    fn count_request(&self, account: &PeerName, now: UnixMillis) -> Result<(), Refusal> {
        self.rate.lock().unwrap_or_else(PoisonError::into_inner).take(account, now)
    }
}

/// Keeps a person out. Questions that one of the two has put to the other are answered by nobody any more.
pub(super) async fn block(shared: &Shared, session: &Session, name: &PeerName) -> DirectoryAnswer {
    say(shared, session, name, Word::Block).await?;
    shared.dials.forget_questions(&session.name, name, Instant::now());
    tracing::info!(peer = %session.name, "blocks somebody");
    Ok(DirectoryReply::Done)
}

/// Asks a person to be friends, or accepts. Whoever asks too many has to wait; an answer never has to.
pub(super) async fn befriend(shared: &Shared, session: &Session, name: &PeerName) -> DirectoryAnswer {
    let bond = shared.store.bond(&session.name, name).await?;
    if bond.state().is_none() && !bond.we_block && *name != session.name {
        shared.people.count_request(&session.name, now_millis())?;
    }
    let state = say(shared, session, name, Word::Befriend).await?;
    Ok(DirectoryReply::Friendship(state.ok_or(Refusal::NotFriends)?))
}

/// Says something of a person, and has everybody know whom it concerns: how far a friendship is now.
pub(super) async fn say(
    shared: &Shared,
    session: &Session,
    other: &PeerName,
    word: Word,
) -> Result<Option<FriendState>, Refusal> {
    if *other == session.name {
        return Err(Refusal::Yourself);
    }
    let said = shared.store.say(&session.name, session.key, other, word, now_millis()).await?;
    match said.news {
        Some(News::Asked) => {
            tell(shared, other, DirectoryPush::FriendAsked { from: session.name.clone(), key: session.key });
        }
        Some(News::Answered(answer)) => {
            tell(shared, other, DirectoryPush::FriendAnswered { by: session.name.clone(), answer });
        }
        None => {}
    }
    shared.registry.tell_senders(&said.senders);
    match word {
        Word::PutOff => {}
        Word::Befriend | Word::Unfriend | Word::Block | Word::Unblock => {
            refresh_circle(shared, &session.name).await?;
            refresh_circle(shared, other).await?;
            tell_resident(shared, session);
        }
    }
    Ok(said.state)
}

/// A page of the account's friends, and of who may become one.
pub(super) async fn friends(shared: &Shared, session: &Session, after: Option<PeerName>) -> DirectoryAnswer {
    let mut page = shared.store.friends(&session.name, after, PAGE_ENTRIES_MAX + 1).await?;
    let more = page.len() > PAGE_ENTRIES_MAX;
    page.truncate(PAGE_ENTRIES_MAX);
    let friends = page.into_iter().map(|befriended| friend(shared, session, befriended)).collect();
    Ok(DirectoryReply::Friends { friends, more })
}

/// Only friends see when the other one is here, and was.
fn friend(shared: &Shared, session: &Session, befriended: Befriended) -> Friend {
    let Befriended { name, key, state, last_seen, legacy } = befriended;
    let presence = match state {
        FriendState::Friends => shared.registry.presence_to(&session.name, &name),
        FriendState::Asked | FriendState::AsksUs => Presence::Offline,
    };
    let last_seen = last_seen.filter(|_| state == FriendState::Friends && !presence.is_online());
    Friend { name, key, state, presence, last_seen, legacy }
}

/// A page of those whom the account keeps out.
pub(super) async fn blocked(shared: &Shared, session: &Session, after: Option<PeerName>) -> DirectoryAnswer {
    let mut names = shared.store.blocked(&session.name, after, PAGE_ENTRIES_MAX + 1).await?;
    let more = names.len() > PAGE_ENTRIES_MAX;
    names.truncate(PAGE_ENTRIES_MAX);
    Ok(DirectoryReply::Names { names, more })
}

/// Who may see the account from now on.
pub(super) async fn set_audience(shared: &Shared, session: &Session, audience: Audience) -> DirectoryAnswer {
    let senders = shared.store.set_audience(&session.name, session.key, audience, now_millis()).await?;
    shared.registry.tell_senders(&senders);
    refresh_circle(shared, &session.name).await?;
    tell_resident(shared, session);
    Ok(DirectoryReply::Done)
}

/// Tells the account's peer what another of its sessions has changed: it checks again what the directory lets through.
fn tell_resident(shared: &Shared, by: &Session) {
    if !by.is_resident() {
        tell(shared, &by.name, DirectoryPush::PeopleChanged);
    }
}

/// Who may see it now.
pub(super) async fn audience(shared: &Shared, session: &Session) -> DirectoryAnswer {
    Ok(DirectoryReply::Audience(shared.store.audience(&session.name).await?))
}

/// Whether somebody may reach a person with anything but a message.
///
/// # Errors
/// `UnknownName`, `YouBlock`; and `Offline`, as if their owner never came, for whoever may not see them.
pub(super) async fn reach(shared: &Shared, asker: &Session, person: &PeerName) -> Result<(), Refusal> {
    let reception = shared.store.reception(person, &asker.name, now_millis()).await?;
    reception.ok_or(Refusal::UnknownName)?.admits(Refusal::Offline)
}

/// Tells a session which requests to be friends wait for an answer.
pub(super) async fn tell_requests(shared: &Shared, session: &Session) {
    match shared.store.friend_requests(&session.name).await {
        Ok(requests) => {
            for (from, key) in requests {
                queue(session, DirectoryPush::FriendAsked { from, key });
            }
        }
        Err(error) => tracing::error!(peer = %session.name, %error, "requests to be friends not read"),
    }
}

/// Tells everybody whom it concerns that an account is gone, or belongs to another key.
pub(super) async fn parted(shared: &Shared, name: &PeerName, parted: &Parted) {
    shared.registry.tell_senders(&parted.senders);
    for friend in &parted.friends {
        tell(shared, friend, DirectoryPush::FriendAnswered { by: name.clone(), answer: FriendAnswer::Ended });
    }
    for one in parted.friends.iter().chain([name]) {
        if let Err(refusal) = refresh_circle(shared, one).await {
            tracing::error!(peer = %one, %refusal, "goes on with the friends it had");
        }
    }
}

/// Has the registry know whom an account knows and keeps out.
async fn refresh_circle(shared: &Shared, name: &PeerName) -> Result<(), Refusal> {
    Ok(shared.registry.load_circle(shared.store.as_ref(), name).await?)
}

/// Tells an account's peer something, if it is online. A hint: it asks how things are at each login.
fn tell(shared: &Shared, name: &PeerName, push: DirectoryPush) {
    if let Some(resident) = shared.registry.resident(name) {
        queue(&resident, push);
    }
}

fn queue(session: &Session, push: DirectoryPush) {
    if session.pushes.try_send(Arc::new(push)).is_err() {
        tracing::debug!(peer = %session.name, "push dropped");
    }
}
