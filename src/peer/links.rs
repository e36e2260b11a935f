//! The open links: connections to the peers of others, direct or through the relay, whoever dialled them. Knows who uses
//! which, and closes what nobody uses; does not dial and does not answer.
//!
//! ```text
//! added --another of the same path to the same key is added--> replaced --unused for 10 s--> closed
//!   `---neither it nor another link to that key used for two minutes-----------------------------^
//! ```
//! A relayed link stays beside a direct one, for when that breaks. Both sides may ask for a connection at once; of two
//! links of the same path the side with the smaller key replaces one, so that not both are replaced.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc, watch};

use super::failure::Failure;
use super::path::{Family, PathInfo, PathKind, WhyNotDirect};
use super::rendezvous::Meeting;
use crate::protocol::patience::Patience;
use crate::protocol::rendezvous::Path;
use crate::transport::connection::Connection;
use crate::wire::ids::{PeerKey, PeerName};
use crate::wire::limits::{FETCHES_PER_LINK_MAX, LINK_REPLACED_IDLE, LINKS_MAX, LINKS_PER_KEY_MAX};
use crate::wire::refusal::CloseCode;
use crate::wire::rendezvous::Purpose;

/// An open connection to a peer that has proven its key.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) name: PeerName,
    pub(super) key: PeerKey,
    pub(super) connection: Connection,
    pub(super) path: Path,
    /// For file streams that this side opens.
    pub(super) fetches: Semaphore,
    /// Held by the one of its file streams that waits for the limit: whoever fetches over several gets no more for it.
    pub(super) turn: tokio::sync::Mutex<()>,
    usage: watch::Sender<Usage>,
    /// How many datagrams had come when it was found to be silent; [`NOT_SILENT`] when it was not.
    silent_at: AtomicU64,
    /// Why it is not direct, when it is not.
    why_relayed: watch::Sender<Option<WhyNotDirect>>,
    /// What the peer has shown over all links to it.
    patience: Arc<Mutex<Patience>>,
    /// When another link was last looked for beside it, a direct one or one that is not silent.
    sought: Mutex<Option<Instant>>,
}

/// How often a direct path is looked for beside a link that was not allowed to be direct.
const SOUGHT_AGAIN: Duration = Duration::from_secs(60);
/// How often another link is made beside one that is silent.
const RESTORED_AGAIN: Duration = Duration::from_secs(3);

const NOT_SILENT: u64 = u64::MAX;

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

    /// Notes that nothing comes any more although something should: until a datagram comes, others are better.
    pub(super) fn note_silence(&self, datagrams: u64) {
        self.silent_at.store(datagrams, Ordering::Relaxed);
    }

    /// Whether nothing has come since it was found to be silent.
    fn is_silent(&self) -> bool {
        let silent_at = self.silent_at.load(Ordering::Relaxed);
        silent_at != NOT_SILENT && silent_at == self.connection.datagrams_received()
    }

    /// How much the peer is to be waited for, and what it shows of that.
    pub(super) fn patience(&self) -> MutexGuard<'_, Patience> {
        self.patience.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes why there is no direct path.
    pub(super) fn note_why_relayed(&self, why: WhyNotDirect) {
        self.why_relayed.send_replace(Some(why));
    }

    /// Whether a direct path is worth another question: there was no consent, but there may be for something else or by
    /// now. Says so once a minute at most.
    fn may_be_allowed(&self) -> bool {
        *self.why_relayed.borrow() == Some(WhyNotDirect::NoConsent) && self.may_be_sought(SOUGHT_AGAIN)
    }

    /// Whether no other link was looked for beside this one for this long.
    fn may_be_sought(&self, pause: Duration) -> bool {
        let mut sought = self.sought.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = sought.is_none_or(|at| at.elapsed() >= pause);
        if is_due {
            *sought = Some(Instant::now());
        }
        is_due
    }

    /// Waits until no direct path is being looked for.
    pub(super) async fn settled(&self) {
        let mut why = self.why_relayed.subscribe();
        if why.wait_for(|why| *why != Some(WhyNotDirect::Trying)).await.is_err() {
            tracing::trace!("the link has ended");
        }
    }

    /// How it goes, for people.
    pub(super) fn path_info(&self) -> PathInfo {
        let path = match self.path {
            Path::Direct => PathKind::Direct,
            Path::Relayed => PathKind::Relay,
        };
        let why_relayed = *self.why_relayed.borrow();
        let family = if self.connection.remote_address().is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
        let rtt_us = u64::try_from(self.connection.round_trip().as_micros()).unwrap_or(u64::MAX);
        PathInfo { path, family, rtt_us, why_relayed }
    }

    /// What makes one link to a key better than another.
    fn rank(&self) -> (bool, bool) {
        (!self.is_silent(), self.path == Path::Direct)
    }

    /// Whether it takes requests of ours.
    pub(super) fn is_usable(&self) -> bool {
        !self.usage().is_replaced && self.connection.is_open()
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

/// What runs beside everything else until its connection ends.
#[derive(Debug)]
pub(super) enum Work {
    /// A link is served: what the other side asks is answered.
    Serve(Arc<Link>),
    /// A rendezvous is seen through.
    Meet(Box<Meeting>),
    /// A direct path is looked for beside a relayed link, for this purpose.
    Seek(Arc<Link>, Purpose),
    /// Another link is made beside one that fell silent, for this purpose.
    Restore(Arc<Link>, Purpose),
}

/// The registry of all open links, the newest last.
#[derive(Debug)]
pub(super) struct Links {
    own_key: PeerKey,
    open: Mutex<Vec<Arc<Link>>>,
    dialling: Mutex<HashMap<PeerKey, Weak<Dialling>>>,
    /// Rings when there is a new one.
    added: watch::Sender<()>,
    work: mpsc::Sender<Work>,
}

impl Links {
    /// No links yet; and what is to run beside everything else.
    pub(super) fn new(own_key: PeerKey) -> (Self, mpsc::Receiver<Work>) {
        let (work, done) = mpsc::channel(LINKS_MAX);
        let added = watch::Sender::default();
        (Self { own_key, open: Mutex::default(), dialling: Mutex::default(), added, work }, done)
    }

    /// The best usable link to a key: one that is not silent, direct, the newest.
    pub(super) fn find(&self, key: PeerKey) -> Option<InUse> {
        // Within the lock, so that nobody closes it as unused meanwhile.
        best(&self.lock(), key).map(Link::in_use)
    }

    /// Rings whenever a link is added.
    pub(super) fn additions(&self) -> watch::Receiver<()> {
        self.added.subscribe()
    }

    /// Whether a link is the one that is used for new requests.
    pub(super) fn is_best(&self, link: &Link) -> bool {
        best(&self.lock(), link.key).is_some_and(|best| std::ptr::eq(&**best, link))
    }

    /// Whether there is a better link to the same key: what goes on for long moves there.
    pub(super) fn has_better(&self, link: &Link) -> bool {
        best(&self.lock(), link.key).is_some_and(|best| best.rank() > link.rank())
    }

    /// Whether there is another usable link to the same key from which something comes.
    pub(super) fn has_other(&self, link: &Link) -> bool {
        let is_other = |other: &Link| !std::ptr::eq(other, link) && other.key == link.key;
        self.lock().iter().any(|other| is_other(other) && other.is_usable() && !other.is_silent())
    }

    /// The usable direct link to a key.
    pub(super) fn direct(&self, key: PeerKey) -> Option<Arc<Link>> {
        let open = self.lock();
        open.iter().rev().find(|link| link.key == key && link.path == Path::Direct && link.is_usable()).cloned()
    }

    /// Whether anybody uses a link to a key.
    pub(super) fn is_wanted(&self, key: PeerKey) -> bool {
        self.lock().iter().any(|link| link.key == key && link.usage().users > 0)
    }

    /// Every usable link by the name of who is there; of several to one person the one that is used comes first.
    pub(super) fn all(&self) -> Vec<Arc<Link>> {
        let mut all: Vec<_> = self.lock().iter().rev().filter(|link| link.is_usable()).cloned().collect();
        all.sort_by(|one, other| (&one.name, other.rank()).cmp(&(&other.name, one.rank())));
        all
    }

    /// The connections of all links that are there, whether they take requests of ours or not.
    pub(super) fn connections(&self) -> Vec<Connection> {
        self.lock().iter().map(|link| link.connection.clone()).collect()
    }

    /// Adds a link, whose key was proven, in place of earlier ones of that path to that key. `None` when too many others
    /// are in use.
    pub(super) fn add(&self, name: PeerName, key: PeerKey, connection: Connection, path: Path) -> Option<Arc<Link>> {
        let mut open = self.lock();
        open.retain(|link| link.connection.is_open());
        if self.own_key < key {
            open.iter().filter(|link| link.key == key && link.path == path).for_each(|link| link.replace());
        }
        if open.iter().filter(|link| link.key == key).count() >= LINKS_PER_KEY_MAX {
            if !close_first(&mut open, |link| link.key == key && link.usage().users == 0) {
                close_first(&mut open, |link| link.key == key);
            }
        } else if open.len() >= LINKS_MAX {
            close_first(&mut open, |link| link.usage().users == 0);
        }
        if open.len() >= LINKS_MAX {
            return None;
        }
        let known = open.iter().find(|link| link.key == key).map(|link| link.patience.clone());
        let patience = known.unwrap_or_default();
        let link = Arc::new(Link {
            name,
            key,
            connection,
            path,
            fetches: Semaphore::new(FETCHES_PER_LINK_MAX),
            turn: tokio::sync::Mutex::default(),
            usage: watch::Sender::default(),
            silent_at: AtomicU64::new(NOT_SILENT),
            why_relayed: watch::Sender::default(),
            patience,
            sought: Mutex::default(),
        });
        open.push(link.clone());
        drop(open);
        self.added.send_replace(());
        Some(link)
    }

    /// Looks for a direct path for this purpose, when the best link is one that was not allowed to be direct.
    pub(super) fn seek_direct(&self, link: &InUse, purpose: Purpose) {
        if link.path == Path::Relayed && link.may_be_allowed() && !self.hand_over(Work::Seek(link.0.clone(), purpose)) {
            tracing::debug!(name = %link.name, "too busy to look for a direct path");
        }
    }

    /// Makes another link beside one that is silent and stands alone.
    pub(super) fn restore(&self, link: &InUse, purpose: Purpose) {
        if link.may_be_sought(RESTORED_AGAIN) && !self.hand_over(Work::Restore(link.0.clone(), purpose)) {
            tracing::debug!(name = %link.name, "too busy to make another link");
        }
    }

    /// Gives work to whom runs it. Says `false` when there is too much of it, or the peer stops.
    pub(super) fn hand_over(&self, work: Work) -> bool {
        self.work.try_send(work).is_ok()
    }

    /// The round-trip time of the best usable link to a key.
    pub(super) fn round_trip(&self, key: PeerKey) -> Option<Duration> {
        best(&self.lock(), key).map(|link| link.connection.round_trip())
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

    /// Closes a link unless somebody uses it, or another link to the same key for which it stands by. Says whether it did.
    pub(super) fn close_if_unused(&self, link: &Arc<Link>) -> bool {
        let mut open = self.lock();
        let stands_by = !link.usage().is_replaced;
        let counts = |other: &Arc<Link>| Arc::ptr_eq(other, link) || (stands_by && other.key == link.key);
        let is_unused = !open.iter().any(|other| counts(other) && other.usage().users > 0);
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

    /// Closes everything to a person, by name or key, as if this peer had left.
    pub(super) fn close_person(&self, name: &PeerName, key: PeerKey) {
        self.lock().retain(|link| {
            let goes = link.name == *name || link.key == key;
            if goes {
                link.connection.close(CloseCode::ShuttingDown);
            }
            !goes
        });
    }

    /// Closes the links to some people, as if this peer left.
    pub(super) fn close_people(&self, whom: impl Fn(&PeerName) -> bool) {
        self.lock().retain(|link| {
            let goes = whom(&link.name);
            if goes {
                link.connection.close(CloseCode::ShuttingDown);
            }
            !goes
        });
    }

    /// Closes the direct links to a person, whatever runs over them: it goes on through the relay.
    pub(super) fn close_direct(&self, name: &PeerName) {
        self.lock().retain(|link| {
            let goes = link.name == *name && link.path == Path::Direct;
            if goes {
                link.connection.close(CloseCode::Denied);
            } else if link.name == *name {
                link.note_why_relayed(WhyNotDirect::NoConsent);
            }
            !goes
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

fn best(open: &[Arc<Link>], key: PeerKey) -> Option<&Arc<Link>> {
    // Of equals the last one, which is the newest.
    open.iter().filter(|link| link.key == key && link.is_usable()).max_by_key(|link| link.rank())
}

/// Says whether there was one.
fn close_first(open: &mut Vec<Arc<Link>>, goes: impl Fn(&Link) -> bool) -> bool {
    let place = open.iter().position(|link| goes(link));
    if let Some(place) = place {
        open.remove(place).connection.close(CloseCode::Done);
    }
    place.is_some()
}

#[cfg(test)]
#[path = "links_tests.rs"]
mod tests;
