//! What the tasks of this door share: who comes, which ports there are, which messages wait for an acknowledgement.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use super::post::Post;
use super::recent::{Outcome, Recent, Sent, Turn};
use crate::clock::now_millis;
use crate::compat::dialect::s3::Uuid;
use crate::compat::gateway::{Arrival, Departure, Gateway};
use crate::compat::names::NotIn;
use crate::compat::records::{Contact, Record};
use crate::compat::resident::{LegacyName, Resident};
use crate::compat::settings::Dialect;
use crate::compat::turns::Turns;
use crate::wire::ids::{PeerName, UnixMillis};
use crate::wire::limits::{S3_ANNOUNCEMENTS_KEPT_MAX, S3_REQUESTS_MAX, S3_REQUESTS_PER_SOURCE_MAX};

/// How long somebody who is just leaving, or coming, is waited for, and how often it is looked.
pub(super) const LEAVING_PATIENCE: Duration = Duration::from_secs(3);
pub(super) const LEAVING_STEP: Duration = Duration::from_millis(50);

/// What is shared.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) gateway: Arc<Gateway>,
    /// Where the door listens: one address, or all of this machine.
    pub(super) ip: IpAddr,
    /// From where messages come whose senders have no port.
    pub(super) courier: Arc<Post>,
    pub(super) turns: Turns,
    /// The ports that stand for people.
    pub(super) stand_ins: tokio::sync::Mutex<BTreeMap<PeerName, (u16, Arc<Post>)>>,
    /// Where new ones go, to be attended to.
    pub(super) opening: mpsc::Sender<Arc<Post>>,
    sitting: mpsc::Sender<Sitting>,
    /// Who is coming, and from where.
    expected: Mutex<BTreeMap<PeerName, SocketAddr>>,
    waiting: Mutex<HashMap<(SocketAddr, Uuid), oneshot::Sender<()>>>,
    recent: Mutex<Recent>,
    changed: watch::Sender<u64>,
}

/// Somebody takes a seat.
#[derive(Debug)]
pub(super) struct Sitting {
    pub(super) resident: Resident,
    pub(super) welcome: Welcome,
}

/// What somebody is told who comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Welcome {
    /// The table at once: they have registered.
    Table,
    /// What waited for them, and the table: they are back.
    MailAndTable,
    /// Nothing at once: they do not know that they were away.
    None,
}

/// What this dialect remembers of a name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Extra {
    /// The address of this machine that its program takes for the server's.
    #[serde(default)]
    pub(super) server: Option<IpAddr>,
    /// Whether it left because it did not answer, and not by its own wish.
    #[serde(default)]
    pub(super) is_lost: bool,
    /// What was said to everybody when it did not answer.
    #[serde(default)]
    pub(super) announcements: Vec<Announcement>,
}

/// What was said to everybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Announcement {
    pub(super) from: PeerName,
    pub(super) sent_at: UnixMillis,
    pub(super) text: String,
}

impl Extra {
    pub(super) fn of(value: &serde_json::Value) -> Self {
        // What another dialect has left, or nobody, says nothing here.
        Self::deserialize(value).unwrap_or_default()
    }

    pub(super) fn to_value(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// Keeps what was said to everybody; of too many the newest.
    fn keep(&mut self, announcement: Option<Announcement>) {
        self.announcements.extend(announcement);
        let too_many = self.announcements.len().saturating_sub(S3_ANNOUNCEMENTS_KEPT_MAX);
        self.announcements.drain(..too_many);
    }
}

impl Room {
    pub(super) fn new(
        gateway: Arc<Gateway>,
        ip: IpAddr,
        courier: Arc<Post>,
        sitting: mpsc::Sender<Sitting>,
        opening: mpsc::Sender<Arc<Post>>,
    ) -> Self {
        Self {
            gateway,
            ip,
            courier,
            turns: Turns::new(S3_REQUESTS_MAX, S3_REQUESTS_PER_SOURCE_MAX),
            stand_ins: tokio::sync::Mutex::default(),
            opening,
            sitting,
            expected: Mutex::default(),
            waiting: Mutex::default(),
            recent: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }

    /// Notes that somebody came, went or moved, for everybody's table.
    pub(super) fn has_changed(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Hears of that.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Whether somebody's request to come in is being worked on.
    pub(super) fn is_expected(&self, name: &PeerName) -> bool {
        lock(&self.expected).contains_key(name)
    }

    /// Lets somebody come; `None` while another request does.
    pub(super) fn expect(&self, name: &PeerName, source: SocketAddr) -> Option<Expected<'_>> {
        let mut expected = lock(&self.expected);
        if expected.contains_key(name) {
            return None;
        }
        expected.insert(name.clone(), source);
        Some(Expected { room: self, name: name.clone() })
    }

    /// Whether it is somebody at this address who is coming under a name: then the same datagram has come twice.
    pub(super) fn is_coming_from(&self, name: &PeerName, source: SocketAddr) -> bool {
        lock(&self.expected).get(name) == Some(&source)
    }

    /// Who speaks from an address under a name: it must be theirs, and they must be here. Whoever was only given up
    /// because they did not answer is here again.
    pub(super) async fn speaker(&self, source: SocketAddr, at: Option<IpAddr>, name: &str) -> Option<Resident> {
        let name = LegacyName::parse(name).ok()?;
        let looking = async {
            loop {
                if let Some(resident) = self.gateway.resident(&name.name) {
                    return is_at(&resident.record_now(), source).then_some(resident);
                }
                let record = self.gateway.record(&name.name).filter(|record| is_at(record, source))?;
                if !Extra::of(&record.extra).is_lost {
                    return None;
                }
                if let Some(expected) = self.expect(&name.name, source) {
                    match expected.enter(name.clone(), source, at, Welcome::None).await {
                        Ok(resident) => return Some(resident),
                        Err(NotIn::UnderWay | NotIn::Here(_)) => {}
                        Err(NotIn::Elsewhere | NotIn::Taken | NotIn::Full | NotIn::Failed(_)) => return None,
                    }
                }
                tokio::time::sleep(LEAVING_STEP).await;
            }
        };
        tokio::time::timeout(LEAVING_PATIENCE, looking).await.unwrap_or_default()
    }

    /// What to do with a message that comes to somebody's port.
    pub(super) fn chat(&self, sent: Sent) -> Turn {
        lock(&self.recent).chat(sent, now_millis())
    }

    /// What to do with a message that comes to the server, and whether it came there for the first time.
    pub(super) fn save(&self, sent: Sent) -> (Turn, bool) {
        lock(&self.recent).save(sent, now_millis())
    }

    /// The number under which a text came.
    pub(super) fn number_of(&self, from: &PeerName, to: &PeerName, text: &str) -> Option<Uuid> {
        lock(&self.recent).number_of(from, to, text)
    }

    /// Waits for a message's acknowledgement for as long as what this gives lives.
    pub(super) fn wait_for(&self, from: SocketAddr, id: &Uuid) -> Waiting<'_> {
        let (told, acknowledged) = oneshot::channel();
        lock(&self.waiting).insert((from, id.clone()), told);
        Waiting { room: self, key: (from, id.clone()), acknowledged }
    }

    /// Somebody has got a message.
    pub(super) fn is_acknowledged(&self, from: SocketAddr, id: &Uuid) {
        if let Some(told) = lock(&self.waiting).remove(&(from, id.clone()))
            && told.send(()).is_err()
        {
            tracing::trace!(%from, "an acknowledgement came too late");
        }
    }

    /// Takes somebody out who does not answer: their mail waits until they come back.
    pub(super) async fn lose(&self, resident: &Resident, unheard: Option<Announcement>) {
        let noted = resident.change(|record| {
            let mut extra = Extra::of(&record.extra);
            extra.is_lost = true;
            extra.keep(unheard);
            record.extra = extra.to_value();
        });
        if let Err(failure) = noted.await {
            tracing::warn!(name = %resident.name(), %failure, "it is not noted that this name does not answer");
        }
        self.take_out(resident.name()).await;
    }

    /// Gives somebody who is here a seat, in place of the one that they had.
    async fn sit(&self, resident: Resident, welcome: Welcome) {
        if self.sitting.send(Sitting { resident, welcome }).await.is_err() {
            tracing::debug!("the door is closed");
        }
    }

    /// Takes somebody out; their name stays theirs. Whether they are.
    pub(super) async fn take_out(&self, name: &PeerName) -> bool {
        match self.gateway.leave(name, Departure::Kept).await {
            Ok(()) => true,
            Err(failure) => {
                tracing::warn!(%name, %failure, "a name of s3 cannot leave");
                false
            }
        }
    }
}

/// A request to come in that is being worked on, until it is dropped.
#[derive(Debug)]
pub(super) struct Expected<'a> {
    room: &'a Room,
    name: PeerName,
}

impl Expected<'_> {
    /// Lets them in, once they have left if they are just leaving.
    pub(super) async fn enter(
        &self,
        name: LegacyName,
        source: SocketAddr,
        at: Option<IpAddr>,
        welcome: Welcome,
    ) -> Result<Resident, NotIn> {
        let room = self.room;
        let before = room.gateway.record(&name.name).map(|record| Extra::of(&record.extra)).unwrap_or_default();
        let extra = Extra { server: at, is_lost: false, ..before }.to_value();
        let contact = Contact { ip: source.ip().to_canonical(), udp: Some(source.port()), tcp: None };
        let arrival = Arrival { name, dialect: Dialect::S3, contact, extra };
        let resident = room.gateway.enter(arrival).await?;
        self.take_others_out(source).await;
        room.sit(resident.clone(), welcome).await;
        Ok(resident)
    }

    /// Whoever else spoke from this port is gone: no two programs have one.
    async fn take_others_out(&self, source: SocketAddr) {
        for other in self.room.gateway.residents_at(Dialect::S3, source.ip()) {
            if other.contact().udp == Some(source.port()) && *other.name() != self.name {
                self.room.take_out(other.name()).await;
            }
        }
    }

    /// Somebody who is here is heard from another port, or anew from the same.
    pub(super) async fn move_to(&self, resident: Resident, source: SocketAddr, at: Option<IpAddr>, welcome: Welcome) {
        let moved = resident.change(|record| {
            record.contact.udp = Some(source.port());
            record.last_here = now_millis();
            record.extra = Extra { server: at, ..Extra::of(&record.extra) }.to_value();
        });
        match moved.await {
            Ok(()) => {
                self.take_others_out(source).await;
                self.room.sit(resident, welcome).await;
            }
            Err(failure) => tracing::warn!(name = %resident.name(), %failure, "a name of s3 cannot move"),
        }
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        lock(&self.room.expected).remove(&self.name);
    }
}

/// A message that waits for its acknowledgement, until it is dropped.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    room: &'a Room,
    key: (SocketAddr, Uuid),
    pub(super) acknowledged: oneshot::Receiver<()>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(&self.room.waiting).remove(&self.key);
    }
}

/// Waits for what becomes of a message that another request says; `None` when that one broke.
pub(super) async fn outcome_of(mut outcome: watch::Receiver<Outcome>) -> Outcome {
    outcome.wait_for(Option::is_some).await.ok().and_then(|known| known.clone())
}

/// Whether a name of this dialect is spoken from an address.
pub(super) fn is_at(record: &Record, source: SocketAddr) -> bool {
    record.dialect == Dialect::S3
        && record.contact.ip == source.ip().to_canonical()
        && record.contact.udp == Some(source.port())
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
