//! The open links: connections straight to the peers of others, whoever dialled them. Knows who uses which, and closes
//! what nobody uses; does not dial and does not answer.
//!
//! ```text
//! added --another link to the same key is added--> replaced --unused for 10 s--> closed
//!   `-------------------unused for two minutes-------------------------------------^
//! ```
//! Both sides may dial at once; of the two links the side with the smaller key closes one, so that not both are closed.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};

use super::failure::Failure;
use crate::transport::connection::Connection;
use crate::wire::ids::{PeerKey, PeerName};
use crate::wire::limits::{FETCHES_PER_LINK_MAX, LINK_REPLACED_IDLE, LINKS_MAX, LINKS_PER_KEY_MAX};
use crate::wire::refusal::CloseCode;

/// An open connection to a peer that has proven its key.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) name: PeerName,
    pub(super) key: PeerKey,
    pub(super) connection: Connection,
    /// For file streams that this side opens.
    pub(super) fetches: Semaphore,
    usage: watch::Sender<Usage>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Usage {
    /// Who uses the link: our requests, and what of theirs is being answered.
    users: usize,
    is_replaced: bool,
}

impl Link {
    /// Holds the link open until this is dropped.
    pub(super) fn in_use(self: &Arc<Self>) -> InUse {
        self.usage.send_modify(|usage| usage.users += 1);
        InUse(self.clone())
    }

    /// Takes no more requests of ours.
    pub(super) fn replace(&self) {
        self.usage.send_modify(|usage| usage.is_replaced = true);
    }

    /// Waits until nobody has used the link for this long; less when there is a newer one.
    pub(super) async fn unused_for(&self, idle: Duration) {
        let mut changes = self.usage.subscribe();
        loop {
            let usage = *changes.borrow_and_update();
            let idle = if usage.is_replaced { idle.min(LINK_REPLACED_IDLE) } else { idle };
            // The sender lives in this link, so a change is one.
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(idle), if usage.users == 0 => return,
            }
        }
    }

    fn usage(&self) -> Usage {
        *self.usage.borrow()
    }
}

/// A link that somebody uses.
#[derive(Debug)]
pub(super) struct InUse(Arc<Link>);

impl Deref for InUse {
    type Target = Link;
    fn deref(&self) -> &Link {
        &self.0
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.usage.send_modify(|usage| usage.users -= 1);
    }
}

/// Held by who dials a key; how that failed, for those who waited for it.
pub(super) type Dialling = tokio::sync::Mutex<Option<Failure>>;

/// The registry of all open links, the newest last.
#[derive(Debug)]
pub(super) struct Links {
    own_key: PeerKey,
    open: Mutex<Vec<Arc<Link>>>,
    dialling: Mutex<HashMap<PeerKey, Weak<Dialling>>>,
    dialled: mpsc::Sender<Arc<Link>>,
}

impl Links {
    /// No links yet; and where those that this side dials are handed over to whom serves them.
    pub(super) fn new(own_key: PeerKey) -> (Self, mpsc::Receiver<Arc<Link>>) {
        let (dialled, served) = mpsc::channel(LINKS_MAX);
        (Self { own_key, open: Mutex::default(), dialling: Mutex::default(), dialled }, served)
    }

    /// The newest usable link to a key.
    pub(super) fn find(&self, key: PeerKey) -> Option<InUse> {
        // Within the lock, so that nobody closes it as unused meanwhile.
        newest(&self.lock(), key).map(Link::in_use)
    }

    /// Adds a link, whose key was proven, in place of earlier ones to that key. `None` when too many others are in use.
    pub(super) fn add(&self, name: PeerName, key: PeerKey, connection: Connection) -> Option<Arc<Link>> {
        let mut open = self.lock();
        open.retain(|link| link.connection.is_open());
        if self.own_key < key {
            open.iter().filter(|link| link.key == key).for_each(|link| link.replace());
        }
        if open.iter().filter(|link| link.key == key).count() >= LINKS_PER_KEY_MAX {
            close_first(&mut open, |link| link.key == key);
        } else if open.len() >= LINKS_MAX {
            close_first(&mut open, |link| link.usage().users == 0);
        }
        if open.len() >= LINKS_MAX {
            return None;
        }
        let fetches = Semaphore::new(FETCHES_PER_LINK_MAX);
        let link = Arc::new(Link { name, key, connection, fetches, usage: watch::Sender::default() });
        open.push(link.clone());
        Some(link)
    }

    /// Gives a link that was dialled here to whom serves it. Says `false` when the peer stops.
    pub(super) fn hand_over(&self, link: Arc<Link>) -> bool {
        self.dialled.try_send(link).is_ok()
    }

    /// The round-trip time of the newest usable link to a key.
    pub(super) fn round_trip(&self, key: PeerKey) -> Option<Duration> {
        newest(&self.lock(), key).map(|link| link.connection.round_trip())
    }

    /// What whoever dials a key holds meanwhile.
    pub(super) fn dialling(&self, key: PeerKey) -> Arc<Dialling> {
        let mut dialling = self.dialling.lock().unwrap_or_else(PoisonError::into_inner);
        dialling.retain(|_, alone| alone.strong_count() > 0);
        if let Some(alone) = dialling.get(&key).and_then(Weak::upgrade) {
            return alone;
        }
        let alone = Arc::default();
        dialling.insert(key, Arc::downgrade(&alone));
        alone
    }

    /// Closes a link unless somebody uses it. Says whether it did.
    pub(super) fn close_if_unused(&self, link: &Arc<Link>) -> bool {
        let mut open = self.lock();
        let is_unused = link.usage().users == 0;
        if is_unused {
            open.retain(|other| !Arc::ptr_eq(other, link));
            link.connection.close(CloseCode::Done);
        }
        is_unused
    }

    /// Closes what goes by a person's name under any other key than this one, whatever runs over it.
    pub(super) fn close_others(&self, name: &PeerName, key: PeerKey) {
        self.lock().retain(|link| {
            let stays = link.name != *name || link.key == key;
            if !stays {
                link.connection.close(CloseCode::Cancelled);
            }
            stays
        });
    }

    /// Forgets a link that has ended.
    pub(super) fn remove(&self, link: &Arc<Link>) {
        self.lock().retain(|other| !Arc::ptr_eq(other, link));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Link>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn newest(open: &[Arc<Link>], key: PeerKey) -> Option<&Arc<Link>> {
    let is_usable = |link: &Link| link.key == key && !link.usage().is_replaced && link.connection.is_open();
    open.iter().rev().find(|link| is_usable(link))
}

fn close_first(open: &mut Vec<Arc<Link>>, goes: impl Fn(&Link) -> bool) {
    if let Some(place) = open.iter().position(|link| goes(link)) {
        open.remove(place).connection.close(CloseCode::Done);
    }
}

#[cfg(test)]
#[path = "links_tests.rs"]
mod tests;
