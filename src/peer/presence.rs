//! Who is here, as far as this peer follows it: those it talks to, at the directory's word; and how its own person lets
//! others see them.
//!
//! ```text
//! somebody is talked to --> watched, 256 at most --Watch, at each login too--> the directory says how they are now
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::commands::Rows;
use super::context::Context;
use super::event::Event;
use super::failure::{Failure, FailureKind};
use crate::wire::account::LoginKind;
use crate::wire::directory::{DirectoryRequest, PushAnswer, PushReply};
use crate::wire::ids::PeerName;
use crate::wire::limits::WATCHED_MAX;
use crate::wire::people::Presence;

/// People of whom is remembered how they were last. Of others every word is news.
const KNOWN_MAX: usize = 4_096;

/// Before a directory that did not take the list is asked again.
const PAUSE: Duration = Duration::from_secs(5);

/// Whom this peer follows, in memory only.
#[derive(Debug, Default)]
pub(super) struct Following {
    people: Mutex<People>,
    /// Rings when somebody else is talked to.
    changed: Notify,
    /// What the person wants others to see, while the peer runs. Held while the directory is told, so that its last word is
    /// the person's.
    mine: tokio::sync::Mutex<Mine>,
}

/// How the person lets others see them.
#[derive(Debug)]
struct Mine(Presence);

impl Default for Mine {
    fn default() -> Self {
        Self(Presence::Online)
    }
}

#[derive(Debug, Default)]
struct People {
    /// Who was talked to, and when: a number that grows.
    talked_to: BTreeMap<PeerName, u64>,
    turn: u64,
    /// Those of them whom the directory was asked about, so that its next word says how they are, and no more.
    asked: BTreeSet<PeerName>,
    /// How people were last, since this session began.
    known: BTreeMap<PeerName, Presence>,
    /// What the directory has of `talked_to`.
    told: BTreeSet<PeerName>,
}

impl Following {
    fn people(&self) -> MutexGuard<'_, People> {
        self.people.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that somebody is talked to, if that is what the event says.
    pub(super) fn notice(&self, event: &Event) {
        let (Event::Message { from: name, .. } | Event::Offer { from: name, .. } | Event::Queued { to: name, .. }) =
            event
        else {
            return;
        };
        self.follow(name);
    }

    /// Follows somebody from now on.
    pub(super) fn follow(&self, name: &PeerName) {
        if self.people().talk_to(name) {
            self.changed.notify_one();
        }
    }
}

impl People {
    /// Says whether that is somebody new. Whoever was talked to longest ago makes room.
    fn talk_to(&mut self, name: &PeerName) -> bool {
        self.turn += 1;
        let is_new = self.talked_to.insert(name.clone(), self.turn).is_none();
        if self.talked_to.len() > WATCHED_MAX
            && let Some(oldest) = self.talked_to.iter().min_by_key(|(_, turn)| **turn).map(|(name, _)| name.clone())
        {
            self.talked_to.remove(&oldest);
        }
        is_new
    }

    /// A session begins: the directory knows of nobody, and what was heard of others may be out of date.
    fn begin(&mut self) {
        self.told.clear();
        self.asked.clear();
        let talked_to = &self.talked_to;
        self.known.retain(|name, _| talked_to.contains_key(name));
    }

    /// The people to follow, when the directory does not have them yet.
    fn untold(&mut self) -> Option<Vec<PeerName>> {
        let names: BTreeSet<PeerName> = self.talked_to.keys().cloned().collect();
        if names == self.told {
            return None;
        }
        self.asked.retain(|name| names.contains(name));
        self.asked.extend(names.difference(&self.told).cloned());
        self.told = names;
        Some(self.told.iter().cloned().collect())
    }

    /// Takes a word of the directory. `None` when it says nothing new; else whether something has changed since this peer
    /// knows of it.
    fn learn(&mut self, name: &PeerName, presence: Presence) -> Option<bool> {
        let was_asked = self.asked.remove(name);
        if self.known.len() >= KNOWN_MAX && !self.known.contains_key(name) {
            self.known.clear();
        }
        match self.known.insert(name.clone(), presence) {
            Some(before) if before == presence => None,
            Some(_) => Some(true),
            None => Some(!was_asked),
        }
    }
}

/// Keeps the directory told of whom this peer follows, and how its person is, for as long as the session lasts.
pub(super) async fn keep(context: Arc<Context>) {
    if context.account.kind != LoginKind::Resident {
        return;
    }
    loop {
        context.following.people().begin();
        let Err(failure) = keep_told(&context).await;
        tracing::info!(%failure, "the directory does not know whom we follow");
        tokio::time::sleep(PAUSE).await;
    }
}

async fn keep_told(context: &Context) -> Result<Infallible, Failure> {
    let mine = context.following.mine.lock().await;
    // A session begins as online.
    if mine.0 != Presence::Online {
        context.tell_directory(&DirectoryRequest::SetPresence(mine.0)).await?;
    }
    drop(mine);
    loop {
        let names = context.following.people().untold();
        if let Some(names) = names {
            context.tell_directory(&DirectoryRequest::Watch { names }).await?;
        }
        context.following.changed.notified().await;
    }
}

/// Takes the directory's word of how somebody is.
pub(super) fn take(context: &Context, name: PeerName, presence: Presence) -> PushAnswer {
    let is_news = if name == context.account.name { None } else { context.following.people().learn(&name, presence) };
    if let Some(is_news) = is_news {
        context.tell(Event::Presence { name, online: presence.is_online(), presence, is_news });
    }
    Ok(PushReply::Taken)
}

/// Lets others see the person otherwise. Without a directory they see it when there is one again.
pub(super) async fn set(context: &Context, presence: Presence, rows: &Rows) -> Result<(), Failure> {
    if context.account.kind != LoginKind::Resident {
        let text = "your peer does not run here, so nobody sees how you are";
        return Err(Failure::new(FailureKind::Other, text).hint("start it with `qchat peer`"));
    }
    if !presence.is_online() {
        let text = "whoever runs a peer is seen as online, away or busy";
        return Err(Failure::new(FailureKind::Usage, text).hint("`privacy friends` hides it from all but your friends"));
    }
    let mut mine = context.following.mine.lock().await;
    match context.tell_directory(&DirectoryRequest::SetPresence(presence)).await {
        Ok(()) => {}
        Err(failure) if failure.kind == FailureKind::DirectoryUnreachable => {
            tracing::info!(%failure, "others are told when the directory is back");
        }
        Err(failure) => return Err(failure),
    }
    mine.0 = presence;
    drop(mine);
    rows.row(Event::PresenceSet { presence }).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> PeerName {
        PeerName::parse(text).unwrap()
    }

    fn names(texts: &[&str]) -> Vec<PeerName> {
        texts.iter().map(|text| name(text)).collect()
    }

    #[test]
    fn the_directory_is_told_of_each_new_person_and_of_all_at_a_login() {
        let mut people = People::default();
        people.begin();
        assert_eq!(people.untold(), None, "nobody was talked to");
        assert!(people.talk_to(&name("bob")));
        assert_eq!(people.untold(), Some(names(&["bob"])));
        assert!(!people.talk_to(&name("bob")));
        assert_eq!(people.untold(), None);
        assert!(people.talk_to(&name("alice")));
        assert_eq!(people.untold(), Some(names(&["alice", "bob"])));
        people.begin();
        assert_eq!(people.untold(), Some(names(&["alice", "bob"])));
    }

    #[test]
    fn whoever_was_talked_to_longest_ago_makes_room() {
        let mut people = People::default();
        for number in 0..WATCHED_MAX {
            people.talk_to(&name(&format!("p{number}")));
        }
        people.talk_to(&name("p0"));
        people.talk_to(&name("late"));
        let told = people.untold().unwrap();
        assert_eq!(told.len(), WATCHED_MAX);
        assert!(told.contains(&name("p0")) && told.contains(&name("late")) && !told.contains(&name("p1")));
    }

    #[test]
    fn the_first_word_of_whom_we_asked_about_is_no_news_and_neither_is_a_repeated_one() {
        let mut people = People::default();
        assert_eq!(people.learn(&name("carol"), Presence::Online), Some(true), "she came");
        people.talk_to(&name("bob"));
        people.untold();
        assert_eq!(people.learn(&name("bob"), Presence::Online), Some(false), "he was there");
        assert_eq!(people.learn(&name("bob"), Presence::Online), None);
        assert_eq!(people.learn(&name("bob"), Presence::Away), Some(true));
        people.begin();
        people.untold();
        assert_eq!(people.learn(&name("bob"), Presence::Away), None, "he was away before the link was lost");
        assert_eq!(people.learn(&name("carol"), Presence::Online), Some(true), "she may have left meanwhile");
    }
}
