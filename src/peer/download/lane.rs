//! One lane of a transfer: stream after stream over one link to one source, each group verified and written at its place.
//! Runs on the transfer thread.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, SemaphorePermit};

use super::What;
use crate::peer::context::Context;
use crate::peer::event::Event;
use crate::peer::file_stream::{ChunkSource, Source, Stopped};
use crate::peer::links::InUse;
use crate::peer::path::PathInfo;
use crate::peer::progress::Progress;
use crate::protocol::transfer::pull::{LaneNumber, Next, Pull, Run, SourceNumber};
use crate::seal::digest::{GroupHasher, HashTree};
use crate::storage::partial_file::PartialFile;
use crate::wire::ids::FileDigest;
use crate::wire::transfer::{FetchPart, GROUP_BYTES, group_bytes, tree_bytes};

/// How soon a lane that has nothing to do asks again.
const IDLE_AGAIN: Duration = Duration::from_millis(50);

/// A lane asks for its next run this long before it has the last group of the one before, beside two round trips.
const ASK_AHEAD: Duration = Duration::from_millis(100);

/// What all lanes of a transfer share.
pub(super) struct Shared {
    pub(super) context: Arc<Context>,
    pub(super) digest: FileDigest,
    /// For what links are asked for.
    announced: FileDigest,
    pub(super) partial: Arc<PartialFile>,
    pub(super) tree: HashTree,
    pub(super) started: Instant,
    /// Nobody wants the rest of the file; else it comes from elsewhere when a stream is left.
    pub(super) is_cancelled: Arc<AtomicBool>,
    /// Rings when groups are to be asked for again.
    pub(super) released: Notify,
    state: Mutex<State>,
}

/// What changes with each group.
pub(super) struct State {
    pub(super) pull: Pull,
    /// Bytes that are here.
    done: u64,
    progress: Progress<Box<dyn Fn(Event) + Send>>,
    /// When the first byte came, and which way.
    pub(super) first: Option<(Duration, PathInfo)>,
    /// Who gave groups that were missing.
    pub(super) gave: Vec<SourceNumber>,
}

impl State {
    pub(super) fn new(pull: Pull, done: u64, progress: Progress<Box<dyn Fn(Event) + Send>>) -> Mutex<Self> {
        Mutex::new(Self { pull, done, progress, first: None, gave: Vec::new() })
    }
}

impl Shared {
    pub(super) fn new(
        context: &Arc<Context>,
        what: &What,
        partial: &Arc<PartialFile>,
        tree: HashTree,
        started: Instant,
        is_cancelled: &Arc<AtomicBool>,
        state: Mutex<State>,
    ) -> Arc<Self> {
        Arc::new(Self {
            context: context.clone(),
            digest: what.digest,
            announced: what.announced,
            partial: partial.clone(),
            tree,
            started,
            is_cancelled: is_cancelled.clone(),
            released: Notify::new(),
            state,
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since the transfer began.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

/// One stream after another over one link to one source.
pub(super) struct Lane {
    pub(super) number: LaneNumber,
    pub(super) source: SourceNumber,
    pub(super) link: InUse,
    pub(super) shared: Arc<Shared>,
}

/// A stream that was asked for a run.
struct Asked<'a> {
    run: Run,
    stream: ChunkSource<'a>,
    /// Its place among the file streams of its link.
    _turn: SemaphorePermit<'a>,
}

impl Lane {
    /// Carries what it is given until nothing is left for it.
    pub(super) async fn carry(&self) -> Result<(), Stopped> {
        let mut buffer = Vec::with_capacity(usize::try_from(GROUP_BYTES).unwrap_or(0));
        let mut ahead = None;
        loop {
            let asked = match ahead.take() {
                Some(asked) => asked,
                None => match self.ask_when_there_is_something().await? {
                    Some(asked) => asked,
                    None => return Ok(()),
                },
            };
            ahead = self.receive(asked, &mut buffer).await?;
        }
    }

    async fn ask_when_there_is_something(&self) -> Result<Option<Asked<'_>>, Stopped> {
        loop {
            // Before the run: what waits here for its turn is not held back from others.
            let Ok(turn) = self.link.fetches.acquire().await else { return Ok(None) };
            match self.next_run() {
                Next::Ask(run) => return Ok(Some(self.ask(run, turn).await?)),
                Next::Leave => return Ok(None),
                Next::Wait => drop(turn),
            }
            tokio::select! {
                () = self.shared.released.notified() => {}
                () = tokio::time::sleep(IDLE_AGAIN) => {}
            }
        }
    }

    fn next_run(&self) -> Next {
        self.shared.lock().pull.next_run(self.number, self.shared.now())
    }

    async fn ask<'a>(&'a self, run: Run, turn: SemaphorePermit<'a>) -> Result<Asked<'a>, Stopped> {
        let Shared { context, digest, announced, is_cancelled, .. } = &*self.shared;
        let source = Source { context, link: &self.link, digest: *digest, announced: *announced, is_cancelled };
        let part = FetchPart::Groups { first: run.first, count: run.count };
        Ok(Asked { run, stream: ChunkSource::ask(source, part).await?, _turn: turn })
    }

    /// Receives a run, as much of it as is still wanted from here. Gives the one that was asked for meanwhile.
    async fn receive<'a>(&'a self, asked: Asked<'a>, buffer: &mut Vec<u8>) -> Result<Option<Asked<'a>>, Stopped> {
        let Asked { run, mut stream, _turn } = asked;
        let Shared { tree, partial, .. } = &*self.shared;
        if stream.answer().await? != tree.size() {
            return Err(Stopped::WrongBytes);
        }
        let mut ahead = None;
        for group in run.first..run.first + run.count {
            if !self.shared.lock().pull.is_owed(self.number, group) {
                stream.leave();
                return Ok(ahead);
            }
            receive_group(&mut stream, tree, group, buffer).await?;
            partial.write_at(buffer, group * GROUP_BYTES)?;
            if self.arrived(group) && ahead.is_none() {
                ahead = self.ask_ahead().await?;
            }
        }
        stream.end().await?;
        Ok(ahead)
    }

    /// Notes that a group is here. Says whether the lane will soon have brought all that it was asked for.
    fn arrived(&self, group: u64) -> bool {
        let Self { number, source, link, shared } = self;
        let now = shared.now();
        let mut state = shared.lock();
        if state.pull.arrived(*number, group, now) {
            state.done += group_bytes(shared.tree.size(), group);
            state.first.get_or_insert_with(|| (now, link.path_info()));
            if !state.gave.contains(source) {
                state.gave.push(*source);
            }
            let done = state.done;
            state.progress.reach(done, || Some(link.path_info()));
        }
        let soon = ASK_AHEAD + link.connection.round_trip() * 2;
        state.pull.carries_in(*number, soon, now).is_some_and(|carried| state.pull.owed(*number) <= carried)
    }

    /// Asks for the next run before the one before has come, so that no round trip is idle between them.
    async fn ask_ahead(&self) -> Result<Option<Asked<'_>>, Stopped> {
        let Ok(turn) = self.link.fetches.try_acquire() else { return Ok(None) };
        match self.next_run() {
            Next::Ask(run) => Ok(Some(self.ask(run, turn).await?)),
            Next::Wait | Next::Leave => Ok(None),
        }
    }
}

/// Receives a group and proves it: BLAKE3 and the disk take one large piece at a fraction of the cost of many small ones,
/// and nothing wrong gets on the disk.
pub(super) async fn receive_group(
    source: &mut ChunkSource<'_>,
    tree: &HashTree,
    group: u64,
    buffer: &mut Vec<u8>,
) -> Result<(), Stopped> {
    let bytes = usize::try_from(group_bytes(tree.size(), group)).unwrap_or(usize::MAX);
    buffer.clear();
    source.next_group(bytes, buffer).await?;
    let mut hasher = GroupHasher::new(group);
    hasher.update(buffer);
    if tree.verifies(group, hasher) { Ok(()) } else { Err(Stopped::WrongBytes) }
}

/// Receives the hashes of all groups and proves them against the file's digest.
pub(super) async fn receive_tree(
    stream: &mut ChunkSource<'_>,
    size: u64,
    digest: &FileDigest,
) -> Result<HashTree, Stopped> {
    let mut hashes = Vec::new();
    stream.next_group(usize::try_from(tree_bytes(size)).unwrap_or(usize::MAX), &mut hashes).await?;
    stream.end().await?;
    HashTree::from_bytes(size, &hashes, digest).map_err(|_| Stopped::WrongBytes)
}
