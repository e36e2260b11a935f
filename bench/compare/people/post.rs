//! Senders who send as fast as they are answered: each has as many messages under way as a session may have requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{anyhow, bail};
use qchat::wire::directory::DirectoryRequest;
use qchat::wire::ids::{MessageId, PeerName};
use qchat::wire::message::Envelope;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::people::ask;
use crate::people::crowd::{Person, Present};

/// Messages of one sender that are under way: the streams that a directory gives a session.
pub(crate) const UNDER_WAY: usize = 8;

/// When messages are sealed.
#[derive(Debug)]
pub(crate) enum Sealing {
    /// Before anything is measured: one envelope for each recipient, sent again and again under other ids.
    Beforehand(Vec<Envelope>),
    /// Each by its sender, on the way.
    AsTheyGo,
}

/// What is sent to whom, and how far it has come.
#[derive(Debug)]
pub(crate) struct Post {
    recipients: Vec<Arc<Person>>,
    sealing: Sealing,
    /// Messages that are to be sent at most.
    limit: u64,
    /// Sets the ids apart from those of other batches.
    batch: u32,
    begun: AtomicU64,
    is_over: AtomicBool,
    /// Messages that the directory has on disk.
    pub(crate) stored: AtomicU64,
    /// What each sender may have under way until it is received, if that is bounded.
    windows: Vec<Semaphore>,
}

impl Post {
    /// Sends until [`Self::end`], or until so many messages are stored.
    pub(crate) fn new(recipients: &[Arc<Person>], sealing: Sealing, limit: u64) -> Self {
        Self {
            recipients: recipients.to_vec(),
            sealing,
            limit,
            batch: 0,
            begun: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            stored: AtomicU64::new(0),
            windows: Vec::new(),
        }
    }

    /// Gives the messages other ids than those of other batches.
    pub(crate) fn in_batch(self, batch: u32) -> Self {
        Self { batch, ..self }
    }

    /// Counts what a sender has under way until [`Self::received`], and not only until it is stored.
    pub(crate) fn until_received(self, senders: usize) -> Self {
        Self { windows: (0..senders).map(|_| Semaphore::new(UNDER_WAY)).collect(), ..self }
    }

    /// Starts all senders. Each task ends with the milliseconds that its messages waited for the directory's answer.
    pub(crate) fn send(self: &Arc<Self>, senders: &[Present]) -> JoinSet<anyhow::Result<Vec<f64>>> {
        let mut lanes = JoinSet::new();
        for (number, (person, connection)) in senders.iter().enumerate() {
            for _ in 0..UNDER_WAY {
                let (post, person, connection) = (self.clone(), person.clone(), connection.clone());
                lanes.spawn(async move {
                    let mut waits = Vec::new();
                    while let Some((to, envelope)) = post.next(number, &person).await? {
                        let started = Instant::now();
                        if let Err(refusal) = ask(&connection, DirectoryRequest::Deliver { to, envelope }).await? {
                            bail!("a message was not stored: {refusal}");
                        }
                        waits.push(started.elapsed().as_secs_f64() * 1e3);
                        post.stored.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(waits)
                });
            }
        }
        lanes
    }

    /// Lets every sender finish what it has begun.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.windows.iter().for_each(Semaphore::close);
    }

    /// Notes that a recipient has a message, so that its sender may send another.
    pub(crate) fn received(&self, id: &MessageId) {
        let sender = id.as_bytes().last_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        let window = sender.and_then(|number| self.windows.get(usize::try_from(number).ok()?));
        if let Some(window) = window {
            window.add_permits(1);
        }
    }

    /// The next message of a sender, to the recipients in turn.
    async fn next(&self, sender: usize, person: &Person) -> anyhow::Result<Option<(PeerName, Box<Envelope>)>> {
        if let Some(window) = self.windows.get(sender) {
            match window.acquire().await {
                Ok(permit) => permit.forget(),
                Err(_) => return Ok(None),
            }
        }
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        if number >= self.limit || self.is_over.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let place = usize::try_from(number)? % self.recipients.len();
        let to = self.recipients.get(place).ok_or_else(|| anyhow!("there are no recipients"))?;
        let id = id_of(number, self.batch, u32::try_from(sender)?);
        let envelope = match &self.sealing {
            Sealing::Beforehand(sealed) => person.readdress(&sealed[place], id),
            Sealing::AsTheyGo => person.seal(to, id)?,
        };
        Ok(Some((to.name.clone(), Box::new(envelope))))
    }
}

/// Waits for all senders to end, and collects what their messages waited.
pub(crate) async fn all_waits(mut lanes: JoinSet<anyhow::Result<Vec<f64>>>) -> anyhow::Result<Vec<f64>> {
    let mut waits = Vec::new();
    while let Some(lane) = lanes.join_next().await {
        waits.extend(lane??);
    }
    Ok(waits)
}

/// One envelope for each recipient, sealed by any one person.
pub(crate) fn seal_for_all(by: &Person, recipients: &[Arc<Person>]) -> anyhow::Result<Sealing> {
    let sealed = recipients.iter().map(|to| by.seal(to, id_of(u64::MAX, 0, 0))).collect::<anyhow::Result<_>>()?;
    Ok(Sealing::Beforehand(sealed))
}

fn id_of(number: u64, batch: u32, sender: u32) -> MessageId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes[8..12].copy_from_slice(&batch.to_be_bytes());
    bytes[12..].copy_from_slice(&sender.to_be_bytes());
    MessageId::from_bytes(bytes)
}
