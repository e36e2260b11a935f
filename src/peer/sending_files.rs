//! Sending files: an offer for each, and the outcome of all of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};

use super::catalogue::file_name;
use super::commands::Rows;
use super::contacts::tell_if_legacy;
use super::context::{Context, not_oneself};
use super::event::Event;
use super::failure::{Failure, FailureKind};
use super::rows::{Activity, TransferState};
use super::{blocks, contacts, folders, messages};
use crate::seal::random::{self, OsRandom};
use crate::storage::shares::{self, Audience, SharedFile};
use crate::storage::walk::Filter;
use crate::wire::account::{Identity, LoginKind};
use crate::wire::ids::{FileName, MessageId, PeerName};
use crate::wire::message::{Body, Offer};
use crate::wire::refusal::Refusal;

/// How often a sender looks whether the other side is still there: twice within an errand's idle time.
const STILL_ONLINE_INTERVAL: Duration = Duration::from_secs(25);

/// Files that are being offered while the outcome of earlier ones is awaited.
const OFFERING_MAX: usize = 1;

/// Offers files to a person, and waits for the outcome of all when asked to.
pub(super) async fn send(
    context: &Arc<Context>,
    to: PeerName,
    paths: Vec<PathBuf>,
    wait: bool,
    filter: Filter,
    rows: &Rows,
) -> Result<(), Failure> {
    let files = paths.into_iter().map(|path| Ok((file_name(&path)?, path)));
    let files: Vec<(FileName, PathBuf)> = files.collect::<Result<_, Failure>>()?;
    let recipient = recipient(context, &to).await?;
    tell_if_legacy(&to, recipient.legacy, rows).await;
    let waits = wait && recipient.online;
    // Of its own, and before the first offer, because somebody quick has the file before we hear that it was stored.
    let events = context.events.subscribe();
    let (said, heard) = mpsc::channel(OFFERING_MAX);
    let mut outcomes =
        Outcomes { to: to.clone(), waits, count: files.len(), open: BTreeMap::new(), failed: Vec::new() };
    let offering = Offering { context, to: &to, recipient: &recipient, filter: &filter, rows };
    let ((), result) = tokio::join!(offering.all(files, said), outcomes.follow(context, events, heard, rows));
    result.and(outcomes.result())
}

/// Whoever is to get something, if they may and can.
async fn recipient(context: &Context, to: &PeerName) -> Result<Identity, Failure> {
    not_oneself(context, to)?;
    blocks::check(context, to, None)?;
    let identity = contacts::identify(context, to).await?;
    if !identity.accepts {
        return Err(Failure::of_message(to, Refusal::NotAccepted));
    }
    let is_errand = matches!(context.account.kind, LoginKind::Errand { .. });
    if is_errand && !identity.online {
        return Err(Failure::new(FailureKind::Offline, format!("{to} is not online"))
            .hint("an offer waits for them while your peer runs: start `qchat peer`, then send it again"));
    }
    Ok(identity)
}

/// The offers of one command.
struct Offering<'a> {
    context: &'a Arc<Context>,
    to: &'a PeerName,
    recipient: &'a Identity,
    filter: &'a Filter,
    rows: &'a Rows,
}

impl Offering<'_> {
    /// Makes one after the other, and says so.
    async fn all(&self, files: Vec<(FileName, PathBuf)>, said: mpsc::Sender<Said>) {
        for (name, path) in files {
            let id = MessageId::from_bytes(random::array(&mut OsRandom));
            if said.send(Said::Begins(id, name.clone())).await.is_err() {
                return;
            }
            let result = self.one(id, name, path).await;
            if said.send(Said::Made(id, result)).await.is_err() {
                return;
            }
        }
    }

    async fn one(&self, id: MessageId, name: FileName, path: PathBuf) -> Result<(), Failure> {
        let Self { context, to, recipient, filter, rows } = *self;
        let (file, folder) = folders::read(context, path, filter.clone(), rows).await?;
        let audience = Audience::One { recipient: recipient.key, offer: id };
        let share = SharedFile { name: name.clone(), audience, file, folder };
        let (kind, size) = (share.kind(), share.place().1);
        let offer = Offer { name: name.clone(), size, digest: share.file.digest, kind };
        shares::put(context.database(), share).await?;
        let mut events = context.events.subscribe();
        messages::send(context, to, id, Body::Offer(offer), &mut events).await?;
        let (size, files, online) = (size.bytes(), kind.files(), recipient.online);
        rows.row(Event::Offered { to: to.clone(), id, name, size, files, online }).await;
        Ok(())
    }
}

/// How far the offers are.
enum Said {
    /// This one is being made.
    Begins(MessageId, FileName),
    /// It was made, or not.
    Made(MessageId, Result<(), Failure>),
}

/// An offer of which it is not known yet what becomes of it.
struct Open {
    name: FileName,
    is_made: bool,
    /// Why it came back, when that was heard before it was known to be made.
    returned: Option<Failure>,
}

/// What becomes of the offers of one command.
struct Outcomes {
    to: PeerName,
    /// Whether the answers are waited for.
    waits: bool,
    /// How many there are.
    count: usize,
    open: BTreeMap<MessageId, Open>,
    /// Those that do not go, and why, in the order in which that was known.
    failed: Vec<(FileName, Failure)>,
}

impl Outcomes {
    /// Notes what becomes of each, until all offers are made and all answers are here.
    async fn follow(
        &mut self,
        context: &Context,
        mut events: broadcast::Receiver<Event>,
        mut heard: mpsc::Receiver<Said>,
        rows: &Rows,
    ) -> Result<(), Failure> {
        // Asking also tells the directory that this errand is not idle.
        let mut still_online = tokio::time::interval(STILL_ONLINE_INTERVAL);
        let mut are_made = false;
        while !(are_made && self.open.is_empty()) {
            tokio::select! {
                said = heard.recv(), if !are_made => match said {
                    Some(Said::Begins(id, name)) => drop(self.open.insert(id, Open { name, is_made: false, returned: None })),
                    Some(Said::Made(id, result)) => self.made(id, result, rows).await,
                    None => are_made = true,
                },
                event = events.recv() => match event {
                    Ok(event) => self.hear(event, rows).await,
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return Err(Failure::new(FailureKind::Other, "the peer has stopped")),
                },
                _ = still_online.tick(), if self.waits && are_made => {
                    if !context.identify(&self.to).await?.online {
                        self.all_fail(rows).await;
                    }
                }
            }
        }
        Ok(())
    }

    async fn made(&mut self, id: MessageId, result: Result<(), Failure>, rows: &Rows) {
        let returned = self.open.get_mut(&id).and_then(|open| {
            open.is_made = true;
            open.returned.take()
        });
        match result.err().or(returned) {
            Some(failure) => self.fails(id, failure, rows).await,
            None if !self.waits => drop(self.open.remove(&id)),
            None => {}
        }
    }

    /// Takes what the peer tells, as far as it is about one of the offers.
    async fn hear(&mut self, event: Event, rows: &Rows) {
        match event {
            event @ Event::Sent { offer: Some(offer), .. } if self.waits && self.open.contains_key(&offer) => {
                rows.row(event).await;
                self.open.remove(&offer);
            }
            Event::NotSent { to, id, what, failure } => match self.open.get_mut(&id) {
                Some(open) if !open.is_made => open.returned = Some(failure),
                Some(_) => {
                    rows.row(Event::NotSent { to, id, what, failure: failure.clone() }).await;
                    self.fails(id, failure, rows).await;
                }
                None => {}
            },
            Event::OfferDeclined { offer, .. } if self.waits && self.open.contains_key(&offer) => {
                let failure = Failure::new(FailureKind::Declined, format!("{} declined the file", self.to));
                self.fails(offer, failure, rows).await;
            }
            Event::Transfer(row) if row.state == TransferState::Cancelled => {
                if let Some(offer) = row.offer {
                    let failure = Failure::new(FailureKind::Interrupted, format!("{} was cancelled", row.name));
                    self.fails(offer, failure, rows).await;
                }
            }
            event @ Event::Progress { activity: Activity::Sending, .. } if self.waits && self.is_of_these(&event) => {
                rows.hint(event);
            }
            _ => {}
        }
    }

    /// Whether progress is that of one of the offers: other transfers to the same person may run.
    fn is_of_these(&self, progress: &Event) -> bool {
        let Event::Progress { name, peer: Some(peer), .. } = progress else { return false };
        *peer == self.to && self.open.values().any(|open| open.name.as_str() == name)
    }

    /// Notes that one does not go. Of several that is told at once: it may take long until all have been answered.
    async fn fails(&mut self, id: MessageId, failure: Failure, rows: &Rows) {
        let Some(Open { name, .. }) = self.open.remove(&id) else { return };
        if self.count > 1 {
            rows.row(Event::Note { text: format!("* {name} is not sent: {failure}") }).await;
        }
        self.failed.push((name, failure));
    }

    async fn all_fail(&mut self, rows: &Rows) {
        let open: Vec<MessageId> = self.open.keys().copied().collect();
        for id in open {
            let text = format!("{} went offline before taking the file", self.to);
            self.fails(id, Failure::new(FailureKind::Offline, text), rows).await;
        }
    }

    /// What the command ends with: of several, how many did not go, with the kind of the first.
    fn result(self) -> Result<(), Failure> {
        let (count, failed) = (self.count, self.failed.len());
        let Some((name, first)) = self.failed.into_iter().next() else { return Ok(()) };
        if count == 1 {
            return Err(first);
        }
        Err(Failure { message: format!("{failed} of {count} were not sent, the first is {name}: {first}"), ..first })
    }
}
