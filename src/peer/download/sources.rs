//! A transfer from one source or several: finds or makes a link to each, moves to the best link of each as links come and
//! go, and goes on as long as any source can.
//!
//! ```text
//! called --link--> tree --proven--> what is here is checked --> lanes over the best link of each source --> complete
//!    `--refuses, ends--> rests --after a while, as long as others work--> called
//!    `--wrong bytes--> dropped, for good
//! ```

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::MissedTickBehavior;

use super::failures::{failure_over, is_gone, no_source};
use super::lane::{self, Lane, Shared, State, receive_tree};
use super::{Provider, Pulled, What};
use crate::peer::context::{CancelsWhenDropped, Context};
use crate::peer::event::Event;
use crate::peer::failure::{Failure, FailureKind};
use crate::peer::file_stream::{ChunkSource, Source, Stopped};
use crate::peer::links::InUse;
use crate::peer::path::PathInfo;
use crate::peer::peer_links;
use crate::peer::progress::Progress;
use crate::peer::rows::Activity;
use crate::protocol::backoff::Backoff;
use crate::protocol::transfer::groups::Groups;
use crate::protocol::transfer::pull::{LinkNumber, Pull, SourceNumber};
use crate::seal::digest::HashTree;
use crate::seal::random::{self, OsRandom};
use crate::storage::partial_file::PartialFile;
use crate::transport::connection::TransportError;
use crate::wire::limits::SOURCES_PER_FILE_MAX;
use crate::wire::refusal::Refusal;
use crate::wire::rendezvous::Purpose;
use crate::wire::transfer::{FetchPart, GROUP_BYTES, group_bytes, group_count, tree_bytes};

/// How often is looked whether a source may be called again, and whether its best link is still the best.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A second source is asked for the hash tree when the first has not given it within this.
const TREE_PATIENCE: Duration = Duration::from_secs(1);

/// Less is not worth a connection to a second source.
const SEVERAL_FROM: u64 = 4 << 20;

/// How often a source is asked again that gave bytes and has no stream to spare now.
const BUSY_TIMES_MAX: u32 = 5;

/// One who has the file.
struct SourceState {
    provider: Provider,
    is_dialling: bool,
    /// Whether a link to it was found or made.
    is_open: bool,
    /// Whether a link to it was made for this transfer.
    has_dialled: bool,
    /// A link that had ended for another reason is replaced by a new one once.
    may_dial_again: bool,
    /// The link that ended last.
    lost: Option<LinkNumber>,
    /// What runs for it.
    jobs: usize,
    is_asked_for_tree: bool,
    is_dropped: bool,
    rests_until: Option<Instant>,
    backoff: Backoff,
    /// How often in a row it was too busy for one stream more, after it had given bytes.
    times_busy: u32,
    failure: Option<Failure>,
}

impl SourceState {
    fn new(provider: Provider) -> Self {
        Self {
            provider,
            is_dialling: false,
            is_open: false,
            has_dialled: false,
            may_dial_again: true,
            lost: None,
            jobs: 0,
            is_asked_for_tree: false,
            is_dropped: false,
            rests_until: None,
            backoff: Backoff::default(),
            times_busy: 0,
            failure: None,
        }
    }

    fn is_at_work(&self) -> bool {
        self.is_dialling || self.jobs > 0
    }

    /// Whether it is asked again although nobody else works meanwhile.
    fn is_waited_for(&self) -> bool {
        (1..=BUSY_TIMES_MAX).contains(&self.times_busy)
    }

    fn may_be_called(&self, now: Instant) -> bool {
        !self.is_dropped && self.rests_until.is_none_or(|until| until <= now)
    }
}

/// How far a transfer is.
enum Stage {
    /// The hash tree is being fetched; since when somebody was asked for it.
    Tree(Option<Instant>),
    /// What an earlier transfer left is being hashed.
    Checking,
    Moving(Arc<Shared>),
}

/// What has ended.
enum Ended {
    Tree(SourceNumber, InUse, Result<HashTree, Stopped>),
    /// With the link, which was in use meanwhile.
    Checked(InUse, HashTree, Result<Groups, Failure>),
    /// The end of a lane that reads. What it saw last, such as a lie behind the last group, the other one says.
    Reading,
    Lane(Arc<Lane>, Result<(), Stopped>),
}

/// What became of looking for a link to a source; and whether it is a new one.
struct Dialled {
    number: SourceNumber,
    link: Result<(InUse, bool), Failure>,
}

/// A file on its way into its part file.
pub(super) struct Transfer<'a> {
    /// Dropped before the streams are, whether the transfer failed or was cancelled.
    is_cancelled: CancelsWhenDropped,
    context: &'a Arc<Context>,
    what: &'a What,
    partial: Arc<PartialFile>,
    rows: mpsc::Sender<Event>,
    started: Instant,
    sources: Vec<SourceState>,
    stage: Stage,
    jobs: JoinSet<Ended>,
    dials: JoinSet<Dialled>,
    resumed: u64,
    /// How the hash tree came.
    tree_via: Option<PathInfo>,
    /// Who was dropped and is not named yet: that waits for somebody else who has the file.
    unsaid: Vec<Event>,
}

impl<'a> Transfer<'a> {
    pub(super) fn new(
        context: &'a Arc<Context>,
        what: &'a What,
        partial: PartialFile,
        rows: &mpsc::Sender<Event>,
        started: Instant,
    ) -> Self {
        Self {
            is_cancelled: CancelsWhenDropped::default(),
            context,
            what,
            partial: Arc::new(partial),
            rows: rows.clone(),
            started,
            sources: what.sources.iter().cloned().map(SourceState::new).collect(),
            stage: Stage::Tree(None),
            jobs: JoinSet::new(),
            dials: JoinSet::new(),
            resumed: 0,
            tree_via: None,
            unsaid: Vec::new(),
        }
    }

    /// Pulls until everything is here, or no source can go on. `others` says who else has the file.
    pub(super) async fn run(mut self, others: impl Future<Output = Vec<Provider>>) -> Result<Pulled, Failure> {
        let moved = self.move_all(others).await;
        if moved.is_err() {
            self.is_cancelled.0.store(true, Ordering::Relaxed);
        }
        self.jobs.shutdown().await;
        let (first, last, givers) = match &self.stage {
            Stage::Moving(shared) => {
                let state = shared.lock();
                (state.first.clone(), state.last.clone(), self.givers(&state.gave))
            }
            Stage::Tree(_) | Stage::Checking => (None, None, Vec::new()),
        };
        let Self { context, stage, partial, resumed, tree_via, .. } = self;
        drop(stage);
        let partial = Arc::into_inner(partial).expect("all that shared it has ended");
        match (moved, last.or(tree_via)) {
            (Ok(()), Some(via)) => Ok(Pulled { partial, resumed, first, via, givers }),
            (moved, _) => {
                context.on_transfer_thread(async move { partial.discard_if_empty() }).await?;
                Err(moved.err().unwrap_or_else(no_source))
            }
        }
    }

    /// The links by which those are told who gave bytes; when nothing was missing, whoever was asked first.
    fn givers(&self, gave: &[SourceNumber]) -> Vec<InUse> {
        let gave = if gave.is_empty() { &[0] } else { gave };
        let sources = gave.iter().filter_map(|number| self.sources.get(*number));
        sources.filter_map(|source| self.context.links.find(source.provider.key)).collect()
    }

    async fn move_all(&mut self, others: impl Future<Output = Vec<Provider>>) -> Result<(), Failure> {
        let mut others = pin!(others);
        let mut all_are_known = false;
        let mut links = self.context.links.additions();
        let mut look_again = tokio::time::interval(LOOK_AGAIN);
        look_again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.step(all_are_known);
            self.name_the_dropped().await;
            if all_are_known && let Some(failure) = self.failure() {
                return Err(failure);
            }
            tokio::select! {
                biased;
                more = &mut others, if !all_are_known => {
                    all_are_known = true;
                    self.learn_of(more);
                }
                Some(dialled) = self.dials.join_next() => self.dialled(dialled),
                Some(ended) = self.jobs.join_next() => {
                    let has_last_word = !matches!(ended, Ok(Ended::Reading));
                    self.ended(ended)?;
                    if has_last_word && self.is_complete() {
                        return Ok(());
                    }
                }
                Ok(()) = links.changed() => {}
                _ = look_again.tick() => {}
            }
        }
    }

    fn learn_of(&mut self, more: Vec<Provider>) {
        for provider in more {
            let is_known = self.sources.iter().any(|source| source.provider.key == provider.key);
            if !is_known && self.sources.len() < SOURCES_PER_FILE_MAX {
                self.sources.push(SourceState::new(provider));
            }
        }
    }

    /// Whether everything is here, from somebody who was not caught lying at the very end.
    fn is_complete(&self) -> bool {
        let Stage::Moving(shared) = &self.stage else { return false };
        shared.lock().pull.missing() == 0 && self.sources.iter().any(|source| !source.is_dropped)
    }

    /// Has every source do what it can.
    fn step(&mut self, all_are_known: bool) {
        let now = Instant::now();
        let missing_bytes = match &self.stage {
            Stage::Moving(shared) => shared.lock().pull.missing().saturating_mul(GROUP_BYTES),
            Stage::Tree(_) | Stage::Checking => self.what.size,
        };
        let mut is_needed = true;
        for number in 0..self.sources.len() {
            let Some(source) = self.sources.get(number) else { break };
            if source.may_be_called(now) && (is_needed || source.is_at_work() || missing_bytes >= SEVERAL_FROM) {
                is_needed = false;
                self.call(number);
            }
        }
        if let Stage::Moving(shared) = &self.stage {
            let are_coming = !all_are_known || self.sources.iter().any(|source| source.is_dialling);
            shared.lock().pull.await_sources(are_coming);
        }
    }

    /// Works over the best link to a source, or has one made.
    fn call(&mut self, number: SourceNumber) {
        let Some(source) = self.sources.get_mut(number).filter(|source| !source.is_dialling) else { return };
        match self.context.links.find(source.provider.key) {
            Some(link) if source.is_open => self.work_over(number, link),
            // What runs over the link that has ended says in a moment why: that decides whether another one is made.
            None if source.jobs > 0 => {}
            Some(_) | None => {
                source.is_dialling = true;
                let (context, Provider { name, key }) = (self.context.clone(), source.provider.clone());
                let purpose = Purpose::Fetch { digest: self.what.announced };
                self.dials.spawn(async move {
                    Dialled { number, link: peer_links::open(&context, &name, key, purpose).await }
                });
            }
        }
    }

    fn dialled(&mut self, dialled: Result<Dialled, JoinError>) {
        let Ok(Dialled { number, link }) = dialled else { return };
        let Some(source) = self.sources.get_mut(number) else { return };
        source.is_dialling = false;
        match link {
            Ok((link, is_new)) => {
                source.is_open = true;
                source.has_dialled |= is_new;
                self.work_over(number, link);
            }
            Err(failure) => self.rest(number, failure),
        }
    }

    fn work_over(&mut self, number: SourceNumber, link: InUse) {
        match &self.stage {
            Stage::Tree(asked) => {
                let is_due = asked.is_none_or(|asked| asked.elapsed() >= TREE_PATIENCE);
                if is_due && self.sources.get(number).is_some_and(|source| !source.is_asked_for_tree) {
                    self.ask_for_tree(number, link);
                }
            }
            Stage::Checking => {}
            Stage::Moving(shared) => {
                let shared = shared.clone();
                self.carry_over(number, link, shared);
            }
        }
    }

    fn ask_for_tree(&mut self, number: SourceNumber, link: InUse) {
        let Some(source) = self.sources.get_mut(number) else { return };
        (source.is_asked_for_tree, source.jobs) = (true, source.jobs + 1);
        self.stage = Stage::Tree(Some(Instant::now()));
        let (context, is_cancelled) = (self.context.clone(), self.is_cancelled.0.clone());
        let What { digest, announced, size, .. } = *self.what;
        let work = async move {
            let source = Source { context: &context, link: &link, digest, announced, is_cancelled: &is_cancelled };
            let fetched = fetch_tree(source, size).await;
            Ended::Tree(number, link, fetched)
        };
        self.jobs.spawn_on(work, &self.context.transfers);
    }

    /// Has a lane go over the best link to a source, several on a long path; those over other links leave.
    fn carry_over(&mut self, number: SourceNumber, link: InUse, shared: Arc<Shared>) {
        let link_number = link.connection.number();
        let begun = {
            let (now, mut state) = (shared.now(), shared.lock());
            state.pull.prefer_link(number, link_number);
            let round_trip = link.connection.round_trip();
            let is_wanted = state.pull.lanes_over(link_number) == 0
                || state.pull.wants_another_stream(link_number, round_trip, now);
            is_wanted.then(|| state.pull.begin_lane(number, link_number, now)).flatten()
        };
        let (Some(lane), Some(source)) = (begun, self.sources.get_mut(number)) else { return };
        source.jobs += 1;
        let lane = Arc::new(Lane { number: lane, source: number, link, shared });
        let (reading, writing) = lane::ends();
        let reads = lane.clone();
        self.jobs.spawn(async move {
            reads.read(reading).await;
            Ended::Reading
        });
        let writes = async move {
            let carried = lane.write(writing).await;
            Ended::Lane(lane, carried)
        };
        self.jobs.spawn_on(writes, &self.context.transfers);
    }

    fn ended(&mut self, ended: Result<Ended, JoinError>) -> Result<(), Failure> {
        let stopped = |_| Failure::new(FailureKind::Other, "the transfer was stopped");
        match ended.map_err(stopped)? {
            Ended::Tree(number, link, fetched) => {
                if let Some(source) = self.sources.get_mut(number) {
                    (source.is_asked_for_tree, source.jobs) = (false, source.jobs.saturating_sub(1));
                }
                self.tree_via = Some(link.path_info());
                match fetched {
                    Ok(tree) if matches!(self.stage, Stage::Tree(_)) => self.check(link, tree),
                    Ok(_) => {}
                    Err(stopped) => {
                        if let Stage::Tree(asked) = &mut self.stage {
                            *asked = None;
                        }
                        self.stopped(number, &link, stopped)?;
                    }
                }
            }
            Ended::Checked(_link, tree, groups) => self.begin_moving(tree, groups?),
            Ended::Reading => {}
            Ended::Lane(lane, carried) => {
                if let Some(source) = self.sources.get_mut(lane.source) {
                    source.jobs = source.jobs.saturating_sub(1);
                    if carried.is_ok() {
                        source.backoff.succeeded();
                        source.times_busy = 0;
                    }
                }
                lane.shared.lock().pull.end_lane(lane.number);
                lane.shared.released.notify_waiters();
                if let Err(stopped) = carried {
                    self.stopped(lane.source, &lane.link, stopped)?;
                }
            }
        }
        Ok(())
    }

    /// Looks what an earlier transfer has left: beside the transfer thread, where others move meanwhile.
    fn check(&mut self, link: InUse, tree: HashTree) {
        self.stage = Stage::Checking;
        let (partial, name, tell) = (self.partial.clone(), self.what.name.clone(), self.teller());
        let is_cancelled = self.is_cancelled.0.clone();
        let work = move || {
            let mut progress = Progress::new(Activity::Checking, name.as_str(), None, tree.size(), tell);
            let mut groups = Groups::none_of(group_count(tree.size()));
            let here = partial.groups_here(&tree, &mut |done| {
                progress.reach(done, || None);
                !is_cancelled.load(Ordering::Relaxed)
            });
            let groups = here.map_err(Failure::from).map(|here| {
                here.into_iter().for_each(|group| groups.mark(group));
                groups
            });
            drop((partial, progress));
            Ended::Checked(link, tree, groups)
        };
        self.jobs.spawn_blocking_on(work, &self.context.transfers);
    }

    fn begin_moving(&mut self, tree: HashTree, here: Groups) {
        let size = tree.size();
        let bytes = |group| group_bytes(size, group);
        self.resumed = (0..here.count()).filter(|group| here.is_here(*group)).map(bytes).sum();
        let from = self.what.sources.first().map(|source| &source.name);
        let mut progress = Progress::new(Activity::Receiving, self.what.name.as_str(), from, size, self.teller());
        if self.resumed > 0 {
            progress.begin(self.resumed);
        }
        let state = State::new(Pull::new(here, true), self.resumed, progress);
        let shared =
            Shared::new(self.context, self.what, &self.partial, tree, self.started, &self.is_cancelled.0, state);
        self.stage = Stage::Moving(shared);
    }

    fn teller(&self) -> Box<dyn Fn(Event) + Send> {
        let rows = self.rows.clone();
        Box::new(move |event| {
            // A face that is behind misses a step of the bar, not the end.
            if rows.try_send(event).is_err() {
                tracing::trace!("a progress event was dropped");
            }
        })
    }

    /// Decides what becomes of a source from which nothing more came over a link.
    fn stopped(&mut self, number: SourceNumber, link: &InUse, stopped: Stopped) -> Result<(), Failure> {
        match stopped {
            // There is another link, or soon will be.
            Stopped::Moves => {}
            Stopped::Here(failure) => return Err(failure),
            Stopped::Network(error) => self.lost(number, link, error),
            Stopped::Refused(_) => self.rest(number, failure_over(link, stopped, self.what.name.as_str())),
            Stopped::WrongBytes | Stopped::TooLarge { .. } => {
                self.drop_source(number, link, stopped, "wrong bytes");
            }
            Stopped::Violation(_) => self.drop_source(number, link, stopped, "broken chunks"),
        }
        Ok(())
    }

    /// A link failed: the source goes on over another one, over a new one, or rests.
    fn lost(&mut self, number: SourceNumber, link: &InUse, error: TransportError) {
        let Some(source) = self.sources.get_mut(number) else { return };
        let link_number = link.connection.number();
        if source.lost == Some(link_number) && !link.is_usable() {
            // Other lanes over it have ended with it.
            return;
        }
        source.lost = Some(link_number);
        if self.context.links.has_other(link) {
            // A direct path broke, and the relay is still there, or the other way round.
            link.replace();
        } else if source.may_dial_again && is_gone(&error, source.has_dialled) {
            source.may_dial_again = false;
            link.replace();
        } else {
            self.rest(number, failure_over(link, Stopped::Network(error), self.what.name.as_str()));
        }
    }

    /// A source is left alone for a while.
    fn rest(&mut self, number: SourceNumber, failure: Failure) {
        let gave = matches!(&self.stage, Stage::Moving(shared) if shared.lock().gave.contains(&number));
        let Some(source) = self.sources.get_mut(number) else { return };
        tracing::debug!(name = %source.provider.name, %failure, "a source rests");
        let is_busy = gave && failure.refusal == Some(Refusal::TooManyTransfers.number());
        source.times_busy = if is_busy { source.times_busy + 1 } else { 0 };
        let [spread] = random::array(&mut OsRandom);
        source.rests_until = Some(Instant::now() + source.backoff.failed(spread));
        source.failure = Some(failure);
    }

    /// A source that lied is asked for nothing any more.
    fn drop_source(&mut self, number: SourceNumber, link: &InUse, stopped: Stopped, what: &str) {
        let Some(source) = self.sources.get_mut(number) else { return };
        let was_dropped = std::mem::replace(&mut source.is_dropped, true);
        source.failure = Some(failure_over(link, stopped, self.what.name.as_str()));
        if let Stage::Moving(shared) = &self.stage {
            shared.lock().pull.drop_source(number);
            shared.released.notify_waiters();
        }
        if !was_dropped {
            let (name, file) = (link.name.clone(), self.what.name.clone());
            self.unsaid.push(Event::SourceDropped { name, file, reason: format!("sent {what}") });
        }
    }

    /// Says who was dropped, once others go on.
    async fn name_the_dropped(&mut self) {
        if self.unsaid.is_empty() || self.sources.iter().all(|source| source.is_dropped) {
            return;
        }
        for dropped in self.unsaid.drain(..) {
            if self.rows.send(dropped).await.is_err() {
                tracing::trace!("a row that nobody reads");
            }
        }
    }

    /// Why nothing goes on, when no source can: what the first one says, unless it lied and another may yet be right.
    fn failure(&self) -> Option<Failure> {
        let now = Instant::now();
        let can_go_on = |source: &SourceState| {
            !source.is_dropped && (source.may_be_called(now) || source.is_at_work() || source.is_waited_for())
        };
        if matches!(self.stage, Stage::Checking) || self.sources.iter().any(can_go_on) {
            return None;
        }
        let mut failures = self.sources.iter().filter_map(|source| source.failure.clone());
        let first = failures.next().unwrap_or_else(no_source);
        let partial = failures.find(|failure| failure.kind == FailureKind::Partial);
        Some(partial.filter(|_| first.kind == FailureKind::Integrity).unwrap_or(first))
    }
}

/// Fetches the hashes of all groups and proves them against the file's digest. There are none of a file of one group.
async fn fetch_tree(source: Source<'_>, size: u64) -> Result<HashTree, Stopped> {
    if tree_bytes(size) == 0 {
        return HashTree::from_bytes(size, &[], &source.digest).map_err(|_| Stopped::WrongBytes);
    }
    let _turn = source.link.fetches.acquire().await;
    let (mut stream, size_there) = ChunkSource::open(source, FetchPart::Tree).await?;
    if size_there != size {
        return Err(Stopped::WrongBytes);
    }
    receive_tree(&mut stream, size, &source.digest).await
}
