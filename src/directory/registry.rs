//! Who is connected now: one resident session and a few errands for each account, in memory only.
//!
//! ```text
//! enter: resident --takes over an older resident, which is closed--> online
//!        errand   --up to 8 of an account--> here, but not online
//! load_circle: resident --whom its account knows and keeps out--> seen by others, as `protocol::presence` says
//! leave: resident --unless it was taken over--> offline, which others are told
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc};

use super::hints::Hints;
use super::shared::Shared;
use super::store::{Store, StoreError};
use crate::clock::now_millis;
use crate::protocol::people::Circle;
use crate::protocol::presence::{Attendance, Listed, News, Sought};
use crate::transport::connection::Connection;
use crate::wire::account::LoginKind;
use crate::wire::directory::DirectoryPush;
use crate::wire::ids::{Epoch, PeerKey, PeerName, UnixMillis};
use crate::wire::limits::ERRANDS_PER_ACCOUNT_MAX;
use crate::wire::people::Presence;
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
    /// Where its pushes wait that are no envelopes. Shared: a queue has room for 32 of them from the beginning.
    pub(super) pushes: mpsc::Sender<Arc<DirectoryPush>>,
    /// What else it is still to be told that is no message.
    pub(super) hints: Hints,
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
    /// How often circles were asked for.
    loads: AtomicU64,
}

#[derive(Debug, Default)]
struct Present {
    accounts: BTreeMap<PeerName, Sessions>,
    /// Who of them is seen, and by whom.
    attendance: Attendance,
}

/// The sessions of one account.
#[derive(Debug, Default)]
struct Sessions {
    resident: Option<Arc<Session>>,
    errands: Vec<Arc<Session>>,
    mailbox_turn: Arc<tokio::sync::Mutex<()>>,
    /// Which circle of the account is in use: the one that was asked for last.
    circle: Option<u64>,
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
            let news = present.attendance.leave(&session.name, now_millis());
            present.spread(news);
        }
    }

    /// Ends the sessions of an account that hold another key than the one it has now, and tells the others of it who may
    /// see the account.
    pub(super) fn key_changed(&self, name: &PeerName, key: PeerKey, circle: &Circle) {
        let present = self.lock();
        let push = Arc::new(DirectoryPush::KeyChanged { name: name.clone(), key });
        present.tell_others(name, &push, |other| circle.relation_to(other).is_open());
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

    /// Ends all sessions of an account because the operator wants it, and says how many there were.
    pub(super) fn end_all(&self, name: &PeerName) -> usize {
        let sessions = self.sessions(name);
        for session in &sessions {
            session.end(CloseCode::EndedByOperator);
        }
        sessions.len()
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

    /// The accounts whose resident peers are online.
    pub(super) fn residents(&self) -> Vec<PeerName> {
        let present = self.lock();
        let online = present.accounts.iter().filter(|(_, sessions)| sessions.resident.is_some());
        online.map(|(name, _)| name.clone()).collect()
    }

    /// Asks the store whom an account knows and keeps out, after its resident has entered and after each change: others
    /// see it by that from then on, and are told what is different.
    pub(super) async fn load_circle(&self, store: &dyn Store, name: &PeerName) -> Result<(), StoreError> {
        // Answers may come in another order than they were asked for: of two, the one that was asked for later knows
        // everything that was written before the other was asked for.
        let number = self.loads.fetch_add(1, Ordering::Relaxed);
        if !self.is_online(name) {
            return Ok(());
        }
        let circle = store.circle(name).await?;
        self.lock().take_circle(name, circle, number);
        Ok(())
    }

    /// How an account is, as far as another may see.
    pub(super) fn presence_to(&self, asker: &PeerName, name: &PeerName) -> Presence {
        self.lock().attendance.presence_to(asker, name)
    }

    /// A resident lets others see it otherwise.
    pub(super) fn set_presence(&self, session: &Arc<Session>, presence: Presence) -> Result<(), Refusal> {
        self.lock().change(session, |all| all.set_presence(&session.name, presence))
    }

    /// A resident wants to hear of these people.
    pub(super) fn watch(&self, session: &Arc<Session>, names: BTreeSet<PeerName>) -> Result<(), Refusal> {
        self.lock().change(session, |all| all.watch(&session.name, names))
    }

    /// The first people of a listing, and whether there may be more.
    pub(super) fn listed(&self, sought: Sought<'_>, limit: usize, now: UnixMillis) -> (Vec<Listed>, bool) {
        self.lock().attendance.listed(sought, limit, now)
    }

    /// Takes over who was here before this process began, those who left last first.
    pub(super) fn were_here(&self, seen: Vec<(PeerName, UnixMillis)>) {
        let mut present = self.lock();
        for (name, at) in seen.into_iter().rev() {
            present.attendance.was_here(&name, at);
        }
    }

    /// Tells all who are to hear it what somebody with this circle says, and whether that is everyone who is online.
    pub(super) fn announce(&self, speaker: &PeerName, circle: &Circle, push: DirectoryPush) -> bool {
        let present = self.lock();
        let (listeners, is_everyone) = present.attendance.listeners(speaker, circle);
        let push = Arc::new(push);
        let residents = listeners.iter().filter_map(|name| present.resident(name));
        residents.fold(is_everyone, |all, resident| resident.hints.announcement(push.clone()) && all)
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
        if let Some(older) = sessions.resident.replace(session.clone()) {
            older.replace();
            let news = self.attendance.begin_anew(&session.name);
            self.spread(news);
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

    fn resident(&self, name: &PeerName) -> Option<&Arc<Session>> {
        self.accounts.get(name).and_then(|sessions| sessions.resident.as_ref())
    }

    /// Takes a circle, if no other was asked for after it. With its first an account is seen.
    fn take_circle(&mut self, name: &PeerName, circle: Circle, number: u64) {
        let Some(sessions) = self.accounts.get_mut(name) else { return };
        if sessions.resident.is_some() && sessions.circle.is_none_or(|used| used < number) {
            sessions.circle = Some(number);
            let news = self.attendance.enter(name, circle);
            self.spread(news);
        }
    }

    /// Changes what a session shows or hears, if it is its account's resident still.
    fn change(
        &mut self,
        session: &Arc<Session>,
        change: impl FnOnce(&mut Attendance) -> Vec<News>,
    ) -> Result<(), Refusal> {
        match session.kind {
            LoginKind::Resident => {}
            LoginKind::Errand { .. } => return Err(Refusal::UnknownRequest),
        }
        if !self.resident(&session.name).is_some_and(|resident| Arc::ptr_eq(resident, session)) {
            return Err(Refusal::SessionEnded);
        }
        let news = change(&mut self.attendance);
        self.spread(news);
        Ok(())
    }

    /// Has those told who are to be told something.
    fn spread(&self, news: Vec<News>) {
        for News { to, about } in news {
            if let Some(resident) = self.resident(&to) {
                resident.hints.presence(about);
            }
        }
    }

    /// Tells every other resident about somebody who may hear it, while the directory is small. A hint: whoever has too
    /// many waiting misses it.
    fn tell_others(&self, name: &PeerName, push: &Arc<DirectoryPush>, may_hear: impl Fn(&PeerName) -> bool) {
        if !self.attendance.is_small() {
            return;
        }
        let residents = self.accounts.values().filter_map(|sessions| sessions.resident.as_ref());
        for resident in residents.filter(|resident| resident.name != *name && may_hear(&resident.name)) {
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
