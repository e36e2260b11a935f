//! Owns what this peer receives: each transfer is a row of the profile and, when it is its turn, a task. What stopped is
//! tried again when `protocol/transfer_fate.rs` says so, when somebody who has it comes back, and when a person says so; a
//! resident peer also goes on with it after its own end, however it came.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinError, JoinSet};

use super::context::Context;
use super::download::Provider;
use super::event::Event;
use super::failure::{Failure, FailureKind};
use super::rows::{Activity, Direction, TransferRow, TransferState};
use super::transfer_attempt::{receive, remove_part, withdrawn};
use super::transfer_steps::{Ask, Begin, Keep, Step, Steps, put, reason_of, then_resume};
use crate::clock::now_millis;
use crate::protocol::transfer_fate::{Schedule, Standing, Trouble};
use crate::seal::random::{self, OsRandom};
use crate::storage::parts;
use crate::storage::receive_folder::FolderId;
use crate::storage::safe_name::SafeName;
use crate::storage::transfers::{self, KeptState, KeptTransfer};
use crate::wire::ids::{FileName, FileSize, MessageId, PeerName, TransferId};
use crate::wire::limits::{SOURCES_PER_FILE_MAX, TRANSFERS_MAX};
use crate::wire::refusal::Refusal;

/// Attempts in a row that bring nothing, after which it may take long.
const SHORT_ATTEMPTS: u32 = 3;

/// A transfer and those who follow it.
#[derive(Debug)]
struct Entry {
    kept: KeptTransfer,
    keep: Keep,
    steps: watch::Sender<Steps>,
    /// The task that receives it, while there is one.
    task: Option<AbortHandle>,
    /// Whether it goes on without having been asked: that is told once it does.
    goes_on: bool,
    /// Whether it was told that it waits, since something came last.
    told_waiting: bool,
    /// Whether there was an attempt before, in this run of the program or an earlier one.
    was_tried: bool,
    /// Whether it was begun in an earlier one: who was killed has not noted how much of it came.
    is_old: bool,
    /// When it stopped writing its part; `None` while nothing says that a part there is its own.
    stopped: Option<Instant>,
}

impl Entry {
    fn new(kept: KeptTransfer, keep: Keep) -> Self {
        let steps = Steps::begin();
        Self {
            kept,
            keep,
            steps,
            task: None,
            goes_on: false,
            told_waiting: false,
            was_tried: false,
            is_old: false,
            stopped: None,
        }
    }

    /// Ends the task that receives it, if there is one.
    fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            self.stopped = Some(Instant::now());
        }
    }

    fn row(&self, standing: Option<Standing>) -> TransferRow {
        let state = match standing {
            Some(Standing::Running) => TransferState::Running,
            Some(Standing::Waiting { .. }) => TransferState::Waiting,
            Some(Standing::Paused) => TransferState::Paused,
            Some(Standing::Interrupted) => TransferState::Interrupted,
            Some(Standing::Failed) => TransferState::Failed,
            None => TransferState::Cancelled,
        };
        let (done, via) = match &self.steps.borrow().step {
            Step::Moves(Some(Event::Progress { activity: Activity::Receiving, done, via, .. })) => (*done, via.clone()),
            _ => (self.kept.done, None),
        };
        let reason = if state == TransferState::Running { None } else { self.kept.reason.clone() };
        TransferRow {
            id: self.kept.id,
            direction: Direction::In,
            name: self.kept.name.clone(),
            with: self.kept.sources.iter().map(|(name, _)| name.clone()).collect(),
            size: self.kept.size.bytes(),
            files: self.kept.kind.files(),
            done,
            state,
            reason,
            via,
            offer: self.kept.offer,
            is_news: false,
        }
    }

    fn is_from(&self, name: &PeerName) -> bool {
        self.kept.sources.iter().any(|(source, _)| source == name)
    }
}

/// What the task of a transfer came to.
type Ended = (TransferId, Result<Event, Failure>);

struct Keeper {
    context: Arc<Context>,
    began: Instant,
    entries: BTreeMap<TransferId, Entry>,
    schedule: Schedule,
    running: JoinSet<Ended>,
}

/// Keeps the transfers of a peer until it ends.
pub(super) async fn run(context: Arc<Context>, mut asks: mpsc::Receiver<Ask>) {
    let mut events = context.events.subscribe();
    let mut keeper = Keeper {
        context,
        began: Instant::now(),
        entries: BTreeMap::new(),
        schedule: Schedule::default(),
        running: JoinSet::new(),
    };
    keeper.load().await;
    loop {
        while let Some(id) = keeper.schedule.take_turn(keeper.now()) {
            keeper.start(id);
        }
        let wakes_at = keeper.schedule.wakes_at().map(|due| keeper.began + due);
        tokio::select! {
            Some(ask) = asks.recv() => keeper.answer(ask).await,
            Some(ended) = keeper.running.join_next() => keeper.take(ended).await,
            event = events.recv() => keeper.hear(event),
            () = until(wakes_at) => {}
        }
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

impl Keeper {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Reads what earlier runs have left. A resident peer goes on with it; a one-shot verb only with what it is told to.
    async fn load(&mut self) {
        let kept = match transfers::all(self.context.database()).await {
            Ok(kept) => kept,
            Err(error) => {
                tracing::error!(%error, "earlier transfers cannot be read");
                return;
            }
        };
        let keep = Keep::by(&self.context);
        for mut kept in kept {
            let standing = match (kept.state, keep) {
                (KeptState::Active, Keep::GoesOn) => Standing::Waiting { due: self.now() },
                (KeptState::Active, Keep::Nothing | Keep::Interrupted) | (KeptState::Interrupted, _) => {
                    Standing::Interrupted
                }
                (KeptState::Paused, _) => Standing::Paused,
                (KeptState::Failed, _) => Standing::Failed,
            };
            if matches!(standing, Standing::Waiting { .. }) {
                (kept.folder, kept.folder_id) = find_folder(&self.context, kept.folder).await;
            }
            self.schedule.put(kept.id, standing);
            let id = kept.id;
            let stopped = Some(self.began);
            let entry = Entry { goes_on: true, was_tried: true, is_old: true, stopped, ..Entry::new(kept, keep) };
            self.entries.insert(id, entry);
        }
    }

    async fn answer(&mut self, ask: Ask) {
        // Whoever does not wait for the answer any more has no use for it.
        match ask {
            Ask::Begin(begin, answer) => drop(answer.send(self.begin(*begin).await)),
            Ask::List(answer) => drop(answer.send(self.rows())),
            Ask::Cancel(id, answer) => drop(answer.send(self.cancel(id).await)),
            Ask::Pause(id, answer) => drop(answer.send(self.pause(id).await)),
            Ask::Resume(id, keep, answer) => drop(answer.send(self.resume(id, keep).await)),
            Ask::Withdrawn { offer, by, answer } => {
                self.withdrawn(offer, &by).await;
                if answer.send(()).is_err() {
                    tracing::trace!("nobody waits for the end of an offer");
                }
            }
        }
    }

    fn rows(&self) -> Vec<TransferRow> {
        let mut entries: Vec<&Entry> = self.entries.values().collect();
        entries.sort_by_key(|entry| (entry.kept.begun_at, entry.kept.id));
        entries.into_iter().map(|entry| entry.row(self.schedule.standing(entry.kept.id))).collect()
    }

    /// Begins a transfer. One of the same file into the same folder is joined, and goes on with what is known now.
    async fn begin(&mut self, Begin { wanted, keep }: Begin) -> Result<watch::Receiver<Steps>, Failure> {
        let offer = wanted.offer;
        let found = find_folder(&self.context, wanted.into.folder.clone()).await;
        let same = |entry: &&mut Entry| {
            let kept = &entry.kept;
            is_in(kept, &found) && (kept.digest, &kept.name) == (wanted.digest, &wanted.name)
        };
        if let Some(entry) = self.entries.values_mut().find(same) {
            let id = entry.kept.id;
            for Provider { name, key } in wanted.sources {
                entry.kept.sources.retain(|(known, _)| *known != name);
                entry.kept.sources.insert(0, (name, key));
            }
            entry.kept.sources.truncate(SOURCES_PER_FILE_MAX);
            (entry.kept.collision, entry.kept.executable) = (wanted.into.collision, wanted.into.executable);
            entry.kept.offer = entry.kept.offer.or(offer);
            if entry.task.is_none() {
                // It may lie elsewhere by now.
                entry.kept.folder = found.0;
            }
            return self.resume(id, keep).await;
        }
        let stopped = self.make_way(&wanted.name, &found).await?;
        if self.entries.len() >= TRANSFERS_MAX {
            return Err(too_many());
        }
        let kept = KeptTransfer {
            id: TransferId::from_bytes(offer.map_or_else(|| random::array(&mut OsRandom), |offer| *offer.as_bytes())),
            begun_at: now_millis(),
            sources: wanted.sources.into_iter().map(|Provider { name, key }| (name, key)).collect(),
            name: wanted.name,
            size: FileSize::try_from(wanted.size)
                .map_err(|error| Failure::new(FailureKind::Quota, error.to_string()))?,
            digest: wanted.digest,
            kind: wanted.kind,
            folder: found.0,
            folder_id: found.1,
            collision: wanted.into.collision,
            executable: wanted.into.executable,
            offer,
            state: KeptState::Active,
            reason: None,
            done: 0,
        };
        let id = kept.id;
        self.entries.insert(id, Entry { stopped, ..Entry::new(kept, keep) });
        if let Err(failure) = self.save(id, Standing::Running).await {
            self.entries.remove(&id);
            return Err(failure);
        }
        self.schedule.put(id, Standing::Waiting { due: self.now() });
        Ok(self.entry(id)?.steps.subscribe())
    }

    /// Sees to it that nothing else is to come into the place of what is wanted: what has ended there is forgotten, and what
    /// came of it is gone on from as far as it is the same. Says when that was written last.
    async fn make_way(&mut self, name: &FileName, found: &Found) -> Result<Option<Instant>, Failure> {
        let is_there = |kept: &KeptTransfer| SafeName::from_remote(&kept.name) == SafeName::from_remote(name);
        let in_the_way: Vec<TransferId> = self
            .entries
            .values()
            .filter(|entry| is_in(&entry.kept, found) && is_there(&entry.kept))
            .map(|entry| entry.kept.id)
            .collect();
        let mut stopped = None;
        for id in in_the_way {
            match self.schedule.standing(id) {
                Some(Standing::Failed | Standing::Interrupted) | None => {
                    stopped = stopped.max(self.forget(id, false).await.and_then(|entry| entry.stopped));
                }
                Some(Standing::Running | Standing::Waiting { .. } | Standing::Paused) => {
                    let text = format!("another {name} is on its way to {}", found.0.display());
                    return Err(Failure::new(FailureKind::Other, text)
                        .hint(format!("`cancel {id:.8}` ends that one; or receive into another folder")));
                }
            }
        }
        Ok(stopped)
    }

    fn entry(&mut self, id: TransferId) -> Result<&mut Entry, Failure> {
        self.entries.get_mut(&id).ok_or_else(gone)
    }

    /// Writes how a transfer stands to the profile, if it is to stay.
    async fn save(&mut self, id: TransferId, standing: Standing) -> Result<(), Failure> {
        let Some(entry) = self.entries.get_mut(&id) else { return Ok(()) };
        entry.kept.state = match (entry.keep, standing) {
            (Keep::Nothing, _) => return Ok(()),
            (_, Standing::Paused) => KeptState::Paused,
            (_, Standing::Failed) => KeptState::Failed,
            (Keep::GoesOn, Standing::Running | Standing::Waiting { .. }) => KeptState::Active,
            // So that a verb that is killed leaves it so.
            (Keep::Interrupted, Standing::Running | Standing::Waiting { .. }) | (_, Standing::Interrupted) => {
                KeptState::Interrupted
            }
        };
        if transfers::put(self.context.database(), entry.kept.clone()).await? { Ok(()) } else { Err(too_many()) }
    }

    /// Lets a transfer run: it is its turn.
    fn start(&mut self, id: TransferId) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        put(&entry.steps, Step::Moves(None));
        let announced = (entry.goes_on || entry.told_waiting).then(|| entry.row(Some(Standing::Running)));
        let was_tried = std::mem::replace(&mut entry.was_tried, true);
        let (context, kept, steps) = (self.context.clone(), entry.kept.clone(), entry.steps.clone());
        let work = receive(context, kept, was_tried, entry.stopped, steps, announced);
        entry.task = Some(self.running.spawn(async move { (id, work.await) }));
    }

    /// A task ended without a word: it was stopped here, or by a fault of its own.
    async fn stopped(&mut self, error: &JoinError) {
        let faulty = |entry: &&Entry| entry.task.as_ref().is_some_and(|task| task.id() == error.id());
        let Some(id) = self.entries.values().find(faulty).map(|entry| entry.kept.id) else { return };
        tracing::error!(%error, "a transfer was stopped by a fault");
        self.ended(id, Err(Failure::new(FailureKind::Other, "the transfer was stopped by a fault"))).await;
    }

    async fn take(&mut self, ended: Result<Ended, JoinError>) {
        match ended {
            Ok((id, result)) => self.ended(id, result).await,
            Err(error) => self.stopped(&error).await,
        }
    }

    /// Takes the result of a transfer's task.
    async fn ended(&mut self, id: TransferId, result: Result<Event, Failure>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if self.schedule.standing(id) != Some(Standing::Running) {
            return;
        }
        entry.task = None;
        match result {
            Ok(received) => self.received(id, received).await,
            Err(failure) => self.failed(id, failure).await,
        }
    }

    async fn received(&mut self, id: TransferId, received: Event) {
        let Some(entry) = self.forget(id, true).await else { return };
        self.tell_unless_followed(&entry, received.clone());
        put(&entry.steps, Step::Received(Box::new(received)));
    }

    /// Decides what becomes of a transfer that stopped.
    async fn failed(&mut self, id: TransferId, failure: Failure) {
        let now = self.now();
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let (done, has_moved) = match &entry.steps.borrow().step {
            Step::Moves(Some(Event::Progress { activity: Activity::Receiving, done, .. })) => (*done, true),
            _ => (entry.kept.done, false),
        };
        entry.kept.done = done;
        entry.kept.reason = Some(reason_of(&failure));
        entry.told_waiting &= !has_moved;
        if has_moved {
            entry.stopped = Some(Instant::now());
        }
        let trouble = trouble_of(&failure);
        let [spread] = random::array(&mut OsRandom);
        let standing = self.schedule.stopped(id, trouble, has_moved, spread, now).unwrap_or(Standing::Failed);
        let is_told = entry.steps.receiver_count() > 0;
        let is_nothing_here = done == 0 && !entry.is_old;
        match (entry.keep, standing) {
            (Keep::Nothing, _) => return self.end(id, failure).await,
            // Whoever asked hears why, and nothing of it is here.
            (_, Standing::Failed) if is_nothing_here && is_told => return self.end(id, failure).await,
            (Keep::Interrupted, _) => self.schedule.put(id, Standing::Interrupted),
            (Keep::GoesOn, _) => {}
        }
        let standing = self.schedule.standing(id).unwrap_or(Standing::Failed);
        if let Err(failure) = self.save(id, standing).await {
            tracing::error!(%failure, "not noted how a transfer stands");
        }
        self.tell_standing(id, standing, failure);
    }

    /// Tells how a transfer stands that does not run any more.
    fn tell_standing(&mut self, id: TransferId, standing: Standing, failure: Failure) {
        let failures = self.schedule.failures(id);
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let row = Box::new(entry.row(Some(standing)));
        let is_waiting = matches!(standing, Standing::Waiting { .. });
        let is_followed = entry.steps.receiver_count() > 0;
        if !is_followed && (!is_waiting || !entry.told_waiting) {
            self.context.tell(Event::changed((*row).clone()));
        }
        if is_waiting {
            entry.told_waiting = true;
            for (name, _) in &entry.kept.sources {
                self.context.following.follow(name);
            }
            let is_away = matches!(failure.kind, FailureKind::Offline | FailureKind::DirectoryUnreachable);
            let is_for_long = is_away || failures >= SHORT_ATTEMPTS;
            put(&entry.steps, Step::Waits { row, is_for_long });
        } else {
            let failure = if standing == Standing::Paused { then_resume(failure, id) } else { failure };
            put(&entry.steps, Step::Ended(failure));
        }
    }

    fn tell_unless_followed(&self, entry: &Entry, event: Event) {
        if entry.keep == Keep::GoesOn && entry.steps.receiver_count() == 0 {
            self.context.tell(event);
        }
    }

    /// Ends a transfer of which nothing stays.
    async fn end(&mut self, id: TransferId, failure: Failure) {
        if let Some(entry) = self.forget(id, false).await {
            put(&entry.steps, Step::Ended(failure));
        }
    }

    /// Forgets a transfer, and with `is_whole` the offer that is answered by it.
    async fn forget(&mut self, id: TransferId, is_whole: bool) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        self.schedule.remove(id);
        let answered = entry.kept.offer.filter(|_| is_whole);
        if let Err(error) = transfers::remove(self.context.database(), id, answered).await {
            tracing::error!(%error, "a transfer that is over is still in the profile");
        }
        Some(entry)
    }

    async fn cancel(&mut self, id: TransferId) -> Result<TransferRow, Failure> {
        // What has arrived already is not cancelled.
        while let Some(ended) = self.running.try_join_next() {
            self.take(ended).await;
        }
        let Some(mut entry) = self.forget(id, false).await else { return Err(gone()) };
        entry.stop();
        let row = entry.row(None);
        let failure = Failure::new(FailureKind::Interrupted, format!("{} was cancelled", entry.kept.name));
        put(&entry.steps, Step::Ended(failure));
        let reason = match entry.stopped {
            Some(stopped) => remove_part(&self.context, entry.kept, stopped).await,
            None => None,
        };
        Ok(TransferRow { via: None, reason, ..row })
    }

    async fn pause(&mut self, id: TransferId) -> Result<TransferRow, Failure> {
        let standing = self.schedule.standing(id);
        let entry = self.entry(id)?;
        if standing == Some(Standing::Paused) {
            return Ok(entry.row(standing));
        }
        let done = entry.row(standing).done;
        (entry.kept.done, entry.kept.reason) = (done, None);
        entry.stop();
        let failure = Failure::new(FailureKind::Partial, format!("{} is paused", entry.kept.name));
        let failure = then_resume(failure, id);
        put(&entry.steps, Step::Ended(failure));
        let row = entry.row(Some(Standing::Paused));
        self.schedule.put(id, Standing::Paused);
        self.save(id, Standing::Paused).await?;
        Ok(row)
    }

    /// Goes on with a transfer, for those who follow it from now on.
    async fn resume(&mut self, id: TransferId, keep: Keep) -> Result<watch::Receiver<Steps>, Failure> {
        let now = self.now();
        let is_running = self.schedule.standing(id) == Some(Standing::Running);
        let path = self.entry(id)?.kept.folder.clone();
        let found = find_folder(&self.context, path).await;
        let entry = self.entry(id)?;
        if !is_running {
            (entry.kept.folder, entry.kept.folder_id) = found;
        }
        if matches!(entry.steps.borrow().step, Step::Waits { .. } | Step::Ended(_)) && !is_running {
            // Those who followed until now have seen its end.
            entry.steps = Steps::begin();
        }
        (entry.goes_on, entry.told_waiting, entry.keep) = (false, false, entry.keep.max(keep));
        let steps = entry.steps.subscribe();
        self.schedule.hurry(id, now);
        self.save(id, Standing::Running).await?;
        Ok(steps)
    }

    /// Ends the transfer of an offer that whoever made it has taken back.
    async fn withdrawn(&mut self, offer: MessageId, by: &PeerName) {
        let is_meant = |entry: &&mut Entry| entry.kept.offer == Some(offer) && entry.is_from(by);
        let Some(entry) = self.entries.values_mut().find(is_meant) else { return };
        let id = entry.kept.id;
        entry.stop();
        let (kept, stopped) = (entry.kept.clone(), entry.stopped);
        self.end(id, withdrawn(by, &kept.name)).await;
        if let Some(stopped) = stopped
            && let Some(why) = remove_part(&self.context, kept, stopped).await
        {
            tracing::warn!(why, "what came of an offer that was taken back is still here");
        }
    }

    /// Goes on with what waits for somebody who is back.
    fn hear(&mut self, event: Result<Event, RecvError>) {
        let now = self.now();
        let is_back: Box<dyn Fn(&Entry) -> bool> = match event {
            Ok(Event::Presence { name, online: true, .. }) => Box::new(move |entry| entry.is_from(&name)),
            // Nobody knows who came and went meanwhile.
            Ok(Event::LoggedIn { .. }) | Err(RecvError::Lagged(_)) => Box::new(|_| true),
            Ok(_) | Err(RecvError::Closed) => return,
        };
        for entry in self.entries.values().filter(|entry| is_back(entry)) {
            if matches!(self.schedule.standing(entry.kept.id), Some(Standing::Waiting { .. })) {
                self.schedule.hurry(entry.kept.id, now);
            }
        }
    }
}

/// Where a folder lies, and which one it is.
type Found = (PathBuf, Option<FolderId>);

async fn find_folder(context: &Context, path: PathBuf) -> Found {
    let as_named = (path.clone(), None);
    context.beside_transfers(move || parts::find_folder(&path)).await.unwrap_or(as_named)
}

/// Whether a transfer comes into this folder.
fn is_in(kept: &KeptTransfer, (folder, id): &Found) -> bool {
    kept.folder == *folder || (id.is_some() && kept.folder_id == *id)
}

fn gone() -> Failure {
    Failure::new(FailureKind::Other, "this transfer has just ended")
}

fn too_many() -> Failure {
    Failure::new(FailureKind::Quota, format!("{TRANSFERS_MAX} transfers are kept here, and no more"))
        .hint("`transfers` lists them, `cancel ID` ends one")
}

/// What a failure means for the transfer.
fn trouble_of(failure: &Failure) -> Trouble {
    match failure.kind {
        // A file of a folder is not what it was: that stays so until the folder is shared again.
        FailureKind::Partial if failure.refusal == Some(Refusal::FileChanged.number()) => Trouble::Final,
        FailureKind::Partial
        | FailureKind::Offline
        | FailureKind::Quota
        | FailureKind::DirectoryUnreachable
        | FailureKind::NoPath
        | FailureKind::TimedOut
        | FailureKind::LoggedInElsewhere
        | FailureKind::Interrupted => Trouble::Passing,
        FailureKind::Disk => Trouble::Here,
        FailureKind::Other
        | FailureKind::Usage
        | FailureKind::Declined
        | FailureKind::Integrity
        | FailureKind::Authentication
        | FailureKind::NotAccepted => Trouble::Final,
    }
}
