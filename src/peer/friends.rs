//! Friends: who is asked and who asks, who has accepted, and who may see this account. The directory knows all of it; what
//! counts for addresses and profiles is what this peer believes of it (`protocol/friendship.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::commands::Rows;
use tokio::sync::Notify;

use super::context::{Context, not_oneself, unexpected};
use super::event::Event;
use super::failure::{Failure, FailureKind};
use super::{blocks, contacts};
use crate::clock::now_millis;
use crate::protocol::friendship::{self, News, Wanted};
use crate::storage::{consent, people};
use crate::wire::account::{Identity, LoginKind};
use crate::wire::directory::{DirectoryReply, DirectoryRequest, PushAnswer, PushReply};
use crate::wire::ids::{PeerKey, PeerName};
use crate::wire::limits::{FRIEND_REQUESTS_MAX, FRIENDS_MAX};
use crate::wire::people::{Audience, Friend, FriendAnswer, FriendState};
use crate::wire::refusal::Refusal;

/// Friends and requests of one account: no directory lists more.
const LISTED_MAX: u64 = FRIENDS_MAX + FRIEND_REQUESTS_MAX;

/// What goes on between this account and those who may become friends, in memory only.
#[derive(Debug, Default)]
pub(super) struct Friends {
    /// Whose request was on the screen and is not answered: the directory tells it at each login.
    shown: Mutex<BTreeSet<PeerName>>,
    /// Held while friendships change here and at the directory, so that both end up with the same.
    changing: tokio::sync::Mutex<()>,
    /// Who may see this account, as the directory said last.
    audience: Mutex<Audience>,
    /// Rings when the directory may know something else of people than is known here.
    pub(super) changed: Notify,
}

impl Friends {
    /// Whether a request is to be shown: once, until it is answered.
    fn is_news(&self, from: &PeerName) -> bool {
        let mut shown = self.shown();
        let has_room = u64::try_from(shown.len()).is_ok_and(|count| count < FRIEND_REQUESTS_MAX);
        has_room && shown.insert(from.clone())
    }

    /// A request is answered, or taken back: another one is shown again.
    pub(super) fn forget_question(&self, from: &PeerName) {
        self.shown().remove(from);
    }

    fn audience(&self) -> Audience {
        *self.lock_audience()
    }

    fn lock_audience(&self) -> MutexGuard<'_, Audience> {
        self.audience.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shown(&self) -> MutexGuard<'_, BTreeSet<PeerName>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks a person to be friends, or accepts when they have asked. What is wanted is noted first: only then is the
/// directory believed.
pub(super) async fn befriend(context: &Context, name: PeerName, rows: &Rows) -> Result<(), Failure> {
    not_oneself(context, &name)?;
    blocks::check(context, &name, None)?;
    // It is for whoever has this key.
    let Identity { key, legacy, .. } = contacts::identify(context, &name).await?;
    let _changing = context.friends.changing.lock().await;
    let was_wanted = people::want_friend(context.database(), &name).await?;
    let said = context.ask_directory(&DirectoryRequest::Befriend { name: name.clone() }).await;
    check_if_lost(context, &said);
    let said = match said {
        Ok(DirectoryReply::Friendship(state)) => Ok(state),
        Ok(other) => Err(unexpected(&other)),
        Err(failure) => Err(failure.about(&name)),
    };
    let said = match said {
        Ok(state) => state,
        Err(failure) => {
            if !was_wanted {
                people::unwant_friend(context.database(), &name).await?;
            }
            return Err(failure);
        }
    };
    let heard = people::hear_of_friend(context.database(), &name, move |known| friendship::hear(known, Some(said)));
    let state = match heard.await?.state {
        Some(Wanted::Friends) => FriendState::Friends,
        Some(Wanted::Asked) => FriendState::Asked,
        // Their key has changed meanwhile.
        None => FriendState::AsksUs,
    };
    context.friends.forget_question(&name);
    rows.row(Event::Friend { name, key, state, presence: None, last_seen: None, legacy }).await;
    Ok(())
}

/// Ends a friendship, declines a request or takes one's own back: at the directory first, which would let them see this
/// account otherwise.
pub(super) async fn unfriend(context: &Context, name: PeerName, rows: &Rows) -> Result<(), Failure> {
    not_oneself(context, &name)?;
    let _changing = context.friends.changing.lock().await;
    let told = context.tell_directory(&DirectoryRequest::Unfriend { name: name.clone() }).await;
    check_if_lost(context, &told);
    let is_none = told.as_ref().is_err_and(|failure| failure.refusal == Some(Refusal::NotFriends.number()));
    if !is_none {
        told.clone().map_err(|failure| failure.about(&name))?;
    }
    let before = people::unwant_friend(context.database(), &name).await?;
    if is_none && before.is_none() {
        return told.map_err(|failure| failure.about(&name));
    }
    context.friends.forget_question(&name);
    if before == Some(Wanted::Friends) {
        end_consent(context, &name).await?;
    }
    rows.row(Event::Unfriended { name }).await;
    Ok(())
}

/// Nobody knows whether the directory has done what it has not answered: then it is asked how things are.
pub(super) fn check_if_lost<T>(context: &Context, told: &Result<T, Failure>) {
    if told.as_ref().is_err_and(|failure| failure.refusal.is_none()) {
        context.friends.changed.notify_one();
    }
}

/// Friends may connect directly; whoever is none any more may not, unless they were allowed it beside. Where only friends
/// may write, they have no connection at all.
async fn end_consent(context: &Context, name: &PeerName) -> Result<(), Failure> {
    if context.friends.audience() == Audience::Friends {
        context.links.close_people(|link| link == name);
    } else if !consent::allows(context.database(), name, now_millis()).await? {
        context.links.close_direct(name);
    }
    Ok(())
}

/// Tells somebody who asks that the answer comes later.
pub(super) async fn put_off(context: &Context, name: PeerName, rows: &Rows) -> Result<(), Failure> {
    not_oneself(context, &name)?;
    if people::is_friend(context.database(), &name).await? {
        return Err(Failure::new(FailureKind::Usage, format!("{name} is your friend already")));
    }
    let told = context.tell_directory(&DirectoryRequest::PutOff { name: name.clone() }).await;
    told.map_err(|failure| failure.about(&name))?;
    rows.row(Event::PutOff { name }).await;
    Ok(())
}

/// Lists friends, and who may become one.
pub(super) async fn list(context: &Context, rows: &Rows) -> Result<(), Failure> {
    let listed = at_directory(context).await?;
    let known = people::friends(context.database()).await?;
    for Friend { name, key, state, presence, last_seen, legacy } in listed {
        let state = friendship::shown(known.get(&name).copied(), state);
        let presence = (state == FriendState::Friends).then_some(presence);
        rows.row(Event::Friend { name, key, state, presence, last_seen, legacy }).await;
    }
    Ok(())
}

/// Who is a friend, as both the directory and this disk say.
pub(super) async fn agreed(context: &Context) -> Result<Vec<PeerName>, Failure> {
    let listed = at_directory(context).await?;
    let known = people::friends(context.database()).await?;
    let is_agreed =
        |friend: &Friend| friend.state == FriendState::Friends && known.get(&friend.name) == Some(&Wanted::Friends);
    Ok(listed.into_iter().filter(is_agreed).map(|friend| friend.name).collect())
}

async fn at_directory(context: &Context) -> Result<Vec<Friend>, Failure> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        match context.ask_directory(&DirectoryRequest::Friends { after }).await? {
            DirectoryReply::Friends { friends, more } => {
                after = friends.last().map(|last| last.name.clone());
                all.extend(friends);
                let is_enough = u64::try_from(all.len()).is_ok_and(|count| count > LISTED_MAX);
                if !more || is_enough || after.is_none() {
                    return Ok(all);
                }
            }
            other => return Err(unexpected(&other)),
        }
    }
}

/// Brings what is known here of friends and of blocked people together with what the directory knows.
pub(super) async fn follow(context: Arc<Context>) {
    if context.account.kind != LoginKind::Resident {
        return;
    }
    loop {
        let followed = async {
            blocks::reconcile(&context).await?;
            reconcile(&context).await?;
            hear_audience(&context).await
        };
        match followed.await {
            Ok(()) => context.friends.changed.notified().await,
            Err(failure) => {
                tracing::warn!(%failure, "not known whether the directory knows the same of people");
                tokio::time::sleep(FOLLOW_PAUSE).await;
            }
        }
    }
}

/// Hears who may see this account. Whoever may not any more has no connection to it.
async fn hear_audience(context: &Context) -> Result<(), Failure> {
    let audience = audience_at_directory(context).await?;
    *context.friends.lock_audience() = audience;
    if audience == Audience::Friends {
        let friends = people::friends(context.database()).await?;
        context.links.close_people(|name| friends.get(name) != Some(&Wanted::Friends));
    }
    Ok(())
}

/// Whether whoever is at the other end of a link may write to this account and ask who it is: checked again, because a
/// link outlives what let it be made.
pub(super) async fn admits(context: &Context, name: &PeerName, key: PeerKey) -> Result<bool, Failure> {
    match context.friends.audience() {
        Audience::Everyone => Ok(true),
        Audience::Friends => Ok(people::is_friend_with_key(context.database(), name, key).await?),
    }
}

/// Between two attempts to hear from the directory how things are.
const FOLLOW_PAUSE: Duration = Duration::from_secs(5);

/// Hears what has become of friendships while this peer was away.
async fn reconcile(context: &Context) -> Result<(), Failure> {
    let _changing = context.friends.changing.lock().await;
    let mut listed = BTreeMap::new();
    for friend in at_directory(context).await? {
        // A friendship is with a key: another one ends it, whatever the directory says of the name.
        if let Err(Refusal::Storage) = contacts::meet_if_known(context, &friend.name, friend.key).await {
            return Err(Failure::from(Refusal::Storage));
        }
        listed.insert(friend.name.clone(), friend);
    }
    let known = people::friends(context.database()).await?;
    let names: BTreeSet<&PeerName> = known.keys().chain(listed.keys()).collect();
    context.friends.shown().retain(|name| listed.contains_key(name));
    for name in names.into_iter().filter(|name| !context.blocks.has_name(name)) {
        let said = listed.get(name).map(|friend| friend.state);
        let heard = people::hear_of_friend(context.database(), name, move |known| friendship::hear(known, said));
        if let Some(news) = heard.await?.news {
            tell(context, name, listed.get(name).map(|friend| friend.key), news).await?;
        }
    }
    Ok(())
}

async fn tell(context: &Context, name: &PeerName, key: Option<PeerKey>, news: News) -> Result<(), Failure> {
    match news {
        News::Answered(answer) => {
            if answer == FriendAnswer::Ended {
                end_consent(context, name).await?;
            }
            context.tell(Event::FriendAnswered { by: name.clone(), answer });
        }
        News::AsksUs if context.friends.is_news(name) => {
            let key = match key {
                Some(key) => key,
                None => context.identify(name).await?.key,
            };
            let legacy = contacts::is_legacy(context, name).await?;
            context.tell(Event::FriendAsked { from: name.clone(), key, legacy });
        }
        News::AsksUs => {}
    }
    Ok(())
}

/// Shows a person's request. The answer is a command of its own.
pub(super) async fn take_request(context: &Context, from: PeerName, key: PeerKey) -> PushAnswer {
    if context.account.kind != LoginKind::Resident {
        return Ok(PushReply::Taken);
    }
    contacts::meet_if_known(context, &from, key).await?;
    if context.friends.is_news(&from) {
        let legacy = contacts::is_legacy(context, &from).await.map_err(|failure| unreadable(&failure))?;
        context.tell(Event::FriendAsked { from, key, legacy });
    }
    Ok(PushReply::Taken)
}

/// Takes what has become of a friendship. An errand leaves it to the resident, which hears at its login how it is.
pub(super) async fn take_answer(context: &Context, by: PeerName, answer: FriendAnswer) -> PushAnswer {
    if context.account.kind != LoginKind::Resident {
        return Ok(PushReply::Taken);
    }
    hear_answer(context, &by, answer).await.map(|()| PushReply::Taken).map_err(|failure| unreadable(&failure))
}

async fn hear_answer(context: &Context, by: &PeerName, answer: FriendAnswer) -> Result<(), Failure> {
    // Not in the middle of a command of ours that it answers.
    let _changing = context.friends.changing.lock().await;
    if matches!(answer, FriendAnswer::Declined | FriendAnswer::Ended) {
        context.friends.forget_question(by);
    }
    let heard = people::hear_of_friend(context.database(), by, move |known| friendship::hear_answer(known, answer));
    match heard.await?.news {
        Some(news) => tell(context, by, None, news).await,
        None => Ok(()),
    }
}

fn unreadable(failure: &Failure) -> Refusal {
    tracing::error!(%failure, "what the directory says of a friendship is not taken");
    Refusal::Storage
}

/// Says who may see this account and write to it.
pub(super) async fn set_privacy(context: &Context, audience: Audience, rows: &Rows) -> Result<(), Failure> {
    let told = context.tell_directory(&DirectoryRequest::SetAudience(audience)).await;
    check_if_lost(context, &told);
    told?;
    hear_audience(context).await?;
    rows.row(Event::Privacy { audience }).await;
    Ok(())
}

/// Shows who may.
pub(super) async fn privacy(context: &Context, rows: &Rows) -> Result<(), Failure> {
    let audience = audience_at_directory(context).await?;
    rows.row(Event::Privacy { audience }).await;
    Ok(())
}

async fn audience_at_directory(context: &Context) -> Result<Audience, Failure> {
    match context.ask_directory(&DirectoryRequest::Audience).await? {
        DirectoryReply::Audience(audience) => Ok(audience),
        other => Err(unexpected(&other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> PeerName {
        PeerName::parse(text).unwrap()
    }

    #[test]
    fn a_request_is_shown_once_until_it_is_answered() {
        let friends = Friends::default();
        assert!(friends.is_news(&name("alice")) && friends.is_news(&name("bob")));
        assert!(!friends.is_news(&name("alice")));
        friends.forget_question(&name("alice"));
        assert!(friends.is_news(&name("alice")));
        for number in 0..FRIEND_REQUESTS_MAX {
            friends.is_news(&name(&format!("a{number}")));
        }
        assert!(!friends.is_news(&name("late")), "no directory lists so many");
    }
}
