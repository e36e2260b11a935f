//! What one session is still to be told that is no message: how people are, and what is said to everybody. In memory only,
//! and bounded. Of people only the names wait: how they are is read when it is told, so the last word is true, however
//! much was said before it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::wire::directory::DirectoryPush;
use crate::wire::ids::PeerName;
use crate::wire::limits::{ANNOUNCEMENTS_WAITING_MAX, PRESENCE_WAITING_MAX};

/// What waits for one session.
#[derive(Debug, Default)]
pub(super) struct Hints {
    waiting: Mutex<Waiting>,
    rings: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    people: BTreeSet<PeerName>,
    announcements: VecDeque<Arc<DirectoryPush>>,
}

/// One thing to tell.
#[derive(Debug)]
pub(super) enum Hint {
    /// How a person is now.
    Presence(PeerName),
    /// What somebody says to everybody.
    Announcement(Arc<DirectoryPush>),
}

impl Hints {
    /// The session is to be told how somebody is. Whoever asks for more people than it may hear of misses some.
    pub(super) fn presence(&self, about: PeerName) {
        let mut waiting = self.lock();
        if waiting.people.len() >= PRESENCE_WAITING_MAX && !waiting.people.contains(&about) {
            return tracing::debug!(%about, "presence dropped");
        }
        waiting.people.insert(about);
        self.rings.notify_one();
    }

    /// The session is to be told what somebody says. `false` when too much waits for it.
    pub(super) fn announcement(&self, push: Arc<DirectoryPush>) -> bool {
        let mut waiting = self.lock();
        let has_room = waiting.announcements.len() < ANNOUNCEMENTS_WAITING_MAX;
        if has_room {
            waiting.announcements.push_back(push);
            self.rings.notify_one();
        }
        has_room
    }

    /// Waits for the next. Nothing is lost when this is given up while it waits.
    pub(super) async fn next(&self) -> Hint {
        loop {
            if let Some(hint) = self.take() {
                return hint;
            }
            self.rings.notified().await;
        }
    }

    fn take(&self) -> Option<Hint> {
        let mut waiting = self.lock();
        let announcement = waiting.announcements.pop_front().map(Hint::Announcement);
        announcement.or_else(|| waiting.people.pop_first().map(Hint::Presence))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> PeerName {
        PeerName::parse(text).unwrap()
    }

    async fn next_person(hints: &Hints) -> String {
        let Hint::Presence(about) = hints.next().await else { panic!("an announcement") };
        about.to_string()
    }

    #[tokio::test]
    async fn a_person_waits_once_however_often_they_change() {
        let hints = Hints::default();
        for about in ["bob", "alice", "bob", "bob"] {
            hints.presence(name(about));
        }
        assert_eq!((next_person(&hints).await, next_person(&hints).await), ("alice".to_owned(), "bob".to_owned()));
        assert!(hints.take().is_none());
        hints.presence(name("bob"));
        assert_eq!(next_person(&hints).await, "bob");
    }

    #[test]
    fn what_waits_is_bounded() {
        let hints = Hints::default();
        for number in 0..PRESENCE_WAITING_MAX + 5 {
            hints.presence(name(&format!("p{number}")));
        }
        hints.presence(name("p0"));
        assert_eq!(hints.lock().people.len(), PRESENCE_WAITING_MAX);
        let push = Arc::new(DirectoryPush::Drained { prekey: None });
        for _ in 0..ANNOUNCEMENTS_WAITING_MAX {
            assert!(hints.announcement(push.clone()));
        }
        assert!(!hints.announcement(push));
    }
}
