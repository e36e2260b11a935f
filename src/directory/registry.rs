//! Who is connected now: one resident session and a few errands for each account, in memory only.
//!
//! ```text
//! enter: resident --takes over an older resident, which is closed--> online
//!        errand   --up to 8 of an account--> here, but not online
//! leave: resident --unless it was taken over--> offline, which the others are told
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc};

use super::shared::Shared;
use crate::transport::connection::Connection;
use crate::wire::account::LoginKind;
use crate::wire::directory::DirectoryPush;
use crate::wire::ids::{Epoch, PeerKey, PeerName, UnixMillis};
use crate::wire::limits::{ERRANDS_PER_ACCOUNT_MAX, PRESENCE_TO_ALL_MAX};
use crate::wire::refusal::{CloseCode, Refusal};

/// A connection that has logged in.
#[derive(Debug)]
pub(super) struct Session {
    /// The account.
    pub(super) name: PeerName,
    /// The key it has proven to hold.
    pub(super) key: PeerKey,
    /// What it is for.
    pub(super) kind: LoginKind,
    /// The account's resident login it is, or was made after.
    pub(super) epoch: Epoch,
    /// How to reach it.
    pub(super) connection: Connection,
    /// When it logged in.
    pub(super) since: UnixMillis,
    /// Where its pushes wait that are no envelopes.
    pub(super) pushes: mpsc::Sender<DirectoryPush>,
    /// Rings when something may wait in its account's mailbox, or the account has another prekey.
    pub(super) mail: Notify,
    /// Set before that when receipts or returned messages may wait for it.
    pub(super) news: AtomicBool,
    /// Where the directory has seen its socket: of the connection first, then as the relay's ports observed it.
    pub(super) seen_at: Mutex<Vec<SocketAddr>>,
    /// Set when a newer login has replaced it.
    pub(super) replaced: AtomicBool,
}

/// What may wait for an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    /// A message, or another prekey to be told of.
    Message,
    /// A receipt or a message that came back.
    News,
}

/// A session's place in the registry: it leaves when this is dropped.
pub(super) struct Membership {
    shared: Arc<Shared>,
    /// The session.
    pub(super) session: Arc<Session>,
    /// Held by the one session of the account that is pushed its mailbox.
    pub(super) mailbox_turn: Arc<tokio::sync::Mutex<()>>,
}

/// Everyone who is connected.
#[derive(Debug, Default)]
pub(super) struct Registry {
    present: Mutex<Present>,
}

#[derive(Debug, Default)]
struct Present {
    accounts: BTreeMap<PeerName, Sessions>,
    /// How many of them have a resident.
    online: usize,
}

/// The sessions of one account.
#[derive(Debug, Default)]
struct Sessions {
    resident: Option<Arc<Session>>,
    errands: Vec<Arc<Session>>,
    mailbox_turn: Arc<tokio::sync::Mutex<()>>,
}

impl Session {
    /// Whether it is the account's one peer.
    pub(super) fn is_resident(&self) -> bool {
        match self.kind {
            LoginKind::Resident => true,
            LoginKind::Errand { .. } => false,
        }
    }

    /// Where the directory has seen its socket, the connection's address first.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.seen_at.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the mailbox may be pushed to it.
    pub(super) fn wants_mail(&self) -> bool {
        match self.kind {
            LoginKind::Resident => true,
            LoginKind::Errand { collects } => collects,
        }
    }

    /// Whether a newer login has replaced it: its late requests must not count any more.
    pub(super) fn is_replaced(&self) -> bool {
        self.replaced.load(Ordering::Acquire)
    }

    fn replace(&self) {
        self.end(CloseCode::LoggedInElsewhere);
    }

    fn end(&self, code: CloseCode) {
        self.replaced.store(true, Ordering::Release);
        self.connection.close(code);
    }
}

impl Membership {
    /// Brings a session into the registry.
    pub(super) fn enter(shared: &Arc<Shared>, session: Session) -> Result<Self, Refusal> {
        let session = Arc::new(session);
        let mailbox_turn = shared.registry.enter(&session)?;
        Ok(Self { shared: shared.clone(), session, mailbox_turn })
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.shared.registry.leave(&self.session);
    }
}

impl Registry {
    fn enter(&self, session: &Arc<Session>) -> Result<Arc<tokio::sync::Mutex<()>>, Refusal> {
        let mut present = self.lock();
        match session.kind {
            LoginKind::Resident => present.enter_resident(session)?,
            LoginKind::Errand { .. } => present.enter_errand(session)?,
        }
        let sessions = present.accounts.entry(session.name.clone()).or_default();
        sessions.wake(Waits::News);
        Ok(sessions.mailbox_turn.clone())
    }

    fn leave(&self, session: &Arc<Session>) {
        let mut present = self.lock();
        let Some(sessions) = present.accounts.get_mut(&session.name) else { return };
        sessions.errands.retain(|errand| !Arc::ptr_eq(errand, session));
        let was_online = sessions.resident.take_if(|resident| Arc::ptr_eq(resident, session)).is_some();
        sessions.wake(Waits::News);
        if sessions.resident.is_none() && sessions.errands.is_empty() {
            present.accounts.remove(&session.name);
        }
        if was_online {
            present.online -= 1;
            present.announce(&session.name, false);
        }
    }

    /// Ends the sessions of an account that hold another key than the one it has now, and tells the others of it.
    pub(super) fn key_changed(&self, name: &PeerName, key: PeerKey) {
        let present = self.lock();
        present.tell_others(name, &DirectoryPush::KeyChanged { name: name.clone(), key });
        let Some(sessions) = present.accounts.get(name) else { return };
        for session in sessions.all().filter(|session| session.key != key) {
            session.replace();
        }
    }

    /// All sessions of an account, the resident first.
    pub(super) fn sessions(&self, name: &PeerName) -> Vec<Arc<Session>> {
        self.lock().accounts.get(name).map_or_else(Vec::new, |sessions| sessions.all().cloned().collect())
    }

    /// Ends all sessions of an account but one, which says so itself.
    pub(super) fn end_others(&self, session: &Session) {
        for other in self.sessions(&session.name) {
            if !std::ptr::eq(other.as_ref(), session) {
                other.replace();
            }
        }
    }

    /// Everyone who is connected, by name.
    pub(super) fn everyone(&self) -> Vec<Arc<Session>> {
        self.lock().accounts.values().flat_map(|sessions| sessions.all().cloned()).collect()
    }

    /// Ends all sessions of an account as a newer login would.
    pub(super) fn end_all(&self, name: &PeerName) {
        for session in self.sessions(name) {
            session.replace();
        }
    }

    /// Ends all sessions of an account; the one that asked for it still gets its answer.
    pub(super) fn close_account(&self, name: &PeerName, asker: Option<&Session>) {
        for session in self.sessions(name) {
            if asker.is_some_and(|asker| std::ptr::eq(session.as_ref(), asker)) {
                session.replaced.store(true, Ordering::Release);
            } else {
                session.end(CloseCode::AccountClosed);
            }
        }
    }

    /// An account's resident peer, when it is online.
    pub(super) fn resident(&self, name: &PeerName) -> Option<Arc<Session>> {
        self.lock().accounts.get(name).and_then(|sessions| sessions.resident.clone())
    }

    /// Whether an account's resident peer is online.
    pub(super) fn is_online(&self, name: &PeerName) -> bool {
        self.lock().accounts.get(name).is_some_and(|sessions| sessions.resident.is_some())
    }

    /// A page of those who are online, by name, and whether there are more.
    pub(super) fn online(&self, after: Option<&PeerName>, limit: usize) -> (Vec<PeerName>, bool) {
        let present = self.lock();
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut names: Vec<_> = present
            .accounts
            .range::<PeerName, _>((begin, Bound::Unbounded))
            .filter(|(_, sessions)| sessions.resident.is_some())
            .map(|(name, _)| name.clone())
            .take(limit + 1)
            .collect();
        let more = names.len() > limit;
        names.truncate(limit);
        (names, more)
    }

    /// Whom a dial goes to: the resident, else every errand; never the asker itself.
    pub(super) fn dialled(&self, name: &PeerName, asker: &Session) -> Vec<Arc<Session>> {
        let present = self.lock();
        let Some(sessions) = present.accounts.get(name) else { return Vec::new() };
        let other = |session: &&Arc<Session>| !std::ptr::eq(session.as_ref(), asker);
        match sessions.resident.as_ref().filter(other) {
            Some(resident) => vec![resident.clone()],
            None => sessions.errands.iter().filter(other).cloned().collect(),
        }
    }

    /// Tells the session that is pushed an account's mailbox that something may wait there.
    pub(super) fn wake(&self, name: &PeerName, what: Waits) {
        if let Some(sessions) = self.lock().accounts.get(name) {
            sessions.wake(what);
        }
    }

    /// Tells senders that there is news of their messages.
    pub(super) fn tell_senders(&self, senders: &[PeerName]) {
        for sender in senders {
            self.wake(sender, Waits::News);
        }
    }

    /// Whether a session is the one that is pushed its account's mailbox.
    pub(super) fn collects(&self, session: &Session) -> bool {
        let present = self.lock();
        let collector = present.accounts.get(&session.name).and_then(Sessions::collector);
        collector.is_some_and(|collector| std::ptr::eq(collector.as_ref(), session))
    }

    fn lock(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Present {
    fn enter_resident(&mut self, session: &Arc<Session>) -> Result<(), Refusal> {
        let sessions = self.accounts.entry(session.name.clone()).or_default();
        // Two logins at once may come here in the other order than they got their numbers.
        if sessions.resident.as_ref().is_some_and(|resident| resident.epoch > session.epoch) {
            return Err(Refusal::SessionEnded);
        }
        match sessions.resident.replace(session.clone()) {
            Some(older) => older.replace(),
            None => {
                self.online += 1;
                self.announce(&session.name, true);
            }
        }
        Ok(())
    }

    fn enter_errand(&mut self, session: &Arc<Session>) -> Result<(), Refusal> {
        let sessions = self.accounts.entry(session.name.clone()).or_default();
        if sessions.errands.len() >= ERRANDS_PER_ACCOUNT_MAX {
            return Err(Refusal::Busy);
        }
        sessions.errands.push(session.clone());
        Ok(())
    }

    fn announce(&self, name: &PeerName, online: bool) {
        self.tell_others(name, &DirectoryPush::Presence { name: name.clone(), online });
    }

    /// Tells every other resident about somebody, while the directory is small. A hint: whoever has too many waiting
    /// misses it.
    fn tell_others(&self, name: &PeerName, push: &DirectoryPush) {
        if self.online > PRESENCE_TO_ALL_MAX {
            return;
        }
        let residents = self.accounts.values().filter_map(|sessions| sessions.resident.as_ref());
        for resident in residents.filter(|resident| resident.name != *name) {
            if resident.pushes.try_send(push.clone()).is_err() {
                tracing::debug!(peer = %resident.name, about = %name, "push dropped");
            }
        }
    }
}

impl Sessions {
    fn all(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.resident.iter().chain(&self.errands)
    }

    /// The resident; without one, the first errand that asked for it.
    fn collector(&self) -> Option<&Arc<Session>> {
        self.all().find(|session| session.wants_mail())
    }

    fn wake(&self, what: Waits) {
        if let Some(collector) = self.collector() {
            if what == Waits::News {
                collector.news.store(true, Ordering::Release);
            }
            collector.mail.notify_one();
        }
    }
}
