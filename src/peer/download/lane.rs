//! One lane of a transfer: stream after stream over one link to one source, each group verified and written at its place.
//!
//! ```text
//! where QUIC's work on the link is done:  stream -> chunks --full buffer--> proven -> part file  :on the transfer thread
//!                                                        `<-empty buffer----'
//! ```

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, SemaphorePermit, mpsc};

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

/// Of a group each: one is being filled while the other is proven and written. What is in them is lost when the program is
/// killed, so there are no more: with four of them a kill costs two groups instead of one (`tests/kill/run`).
const BUFFERS: usize = 2;

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
    /// Which way the last group came that was missing.
    pub(super) last: Option<PathInfo>,
    /// Who gave groups that were missing.
    pub(super) gave: Vec<SourceNumber>,
}

impl State {
    pub(super) fn new(pull: Pull, done: u64, progress: Progress<Box<dyn Fn(Event) + Send>>) -> Mutex<Self> {
        Mutex::new(Self { pull, done, progress, first: None, last: None, gave: Vec::new() })
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

/// One stream after another over one link to one source. Read where QUIC's work on the link is done; proven and written on the
/// transfer thread meanwhile.
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

/// A group that has come.
pub(super) struct Came {
    group: u64,
    bytes: Vec<u8>,
}

/// The end of a lane that reads. Buffers go to the other end full, and come back empty.
pub(super) struct Reading {
    full: mpsc::Sender<Result<Came, Stopped>>,
    emptied: mpsc::Receiver<Vec<u8>>,
    empty: Vec<Vec<u8>>,
}

/// The end that proves and writes.
pub(super) struct Writing {
    full: mpsc::Receiver<Result<Came, Stopped>>,
    emptied: mpsc::Sender<Vec<u8>>,
}

/// Why nothing more is read.
enum Ends {
    Stopped(Stopped),
    /// The other end has stopped, and knows why.
    Nobody,
}

impl From<Stopped> for Ends {
    fn from(stopped: Stopped) -> Self {
        Self::Stopped(stopped)
    }
}

/// Makes both ends of a lane.
pub(super) fn ends() -> (Reading, Writing) {
    let (full, came) = mpsc::channel(BUFFERS);
    let (emptied, returned) = mpsc::channel(BUFFERS);
    let buffer = || Vec::with_capacity(usize::try_from(GROUP_BYTES).unwrap_or(0));
    let empty = std::iter::repeat_with(buffer).take(BUFFERS).collect();
    (Reading { full, emptied: returned, empty }, Writing { full: came, emptied })
}

impl Reading {
    async fn buffer(&mut self) -> Result<Vec<u8>, Ends> {
        match self.empty.pop() {
            Some(buffer) => Ok(buffer),
            None => self.emptied.recv().await.ok_or(Ends::Nobody),
        }
    }

    /// Waits until all that came is written.
    async fn flush(&mut self) -> Result<(), Ends> {
        while self.empty.len() < BUFFERS {
            self.empty.push(self.emptied.recv().await.ok_or(Ends::Nobody)?);
        }
        Ok(())
    }

    async fn hand_over(&self, came: Result<Came, Stopped>) -> Result<(), Ends> {
        self.full.send(came).await.map_err(|_| Ends::Nobody)
    }
}

impl Lane {
    /// Reads what the lane is given until nothing is left for it.
    pub(super) async fn read(&self, mut reading: Reading) {
        if let Err(Ends::Stopped(stopped)) = self.carry(&mut reading).await
            && reading.hand_over(Err(stopped)).await.is_err()
        {
            tracing::trace!("whoever writes has stopped for another reason");
        }
    }

    /// Proves and writes what is read: nothing wrong gets on the disk.
    pub(super) async fn write(&self, mut writing: Writing) -> Result<(), Stopped> {
        let Shared { tree, partial, .. } = &*self.shared;
        while let Some(came) = writing.full.recv().await {
            let Came { group, mut bytes } = came?;
            prove(tree, group, &bytes)?;
            partial.write_at(&bytes, group * GROUP_BYTES)?;
            self.arrived(group);
            bytes.clear();
            if writing.emptied.send(bytes).await.is_err() {
                tracing::trace!("whoever reads has ended");
            }
        }
        Ok(())
    }

    async fn carry(&self, reading: &mut Reading) -> Result<(), Ends> {
        let mut ahead = None;
        loop {
            let asked = match ahead.take() {
                Some(asked) => asked,
                None => {
                    // What is not written is not here: of that nobody should be asked for a copy.
                    reading.flush().await?;
                    match self.ask_when_there_is_something().await? {
                        Some(asked) => asked,
                        None => return Ok(()),
                    }
                }
            };
            ahead = self.receive(asked, reading).await?;
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
    async fn receive<'a>(&'a self, asked: Asked<'a>, reading: &mut Reading) -> Result<Option<Asked<'a>>, Ends> {
        let Asked { run, mut stream, _turn } = asked;
        let size = self.shared.tree.size();
        if stream.answer().await? != size {
            return Err(Stopped::WrongBytes.into());
        }
        let mut ahead = None;
        for group in run.groups() {
            if !self.shared.lock().pull.is_wanted(self.number, group..run.groups().end) {
                stream.leave();
                return Ok(ahead);
            }
            let mut bytes = reading.buffer().await?;
            stream.next_group(length(size, group), &mut bytes).await?;
            reading.hand_over(Ok(Came { group, bytes })).await?;
            if ahead.is_none() && self.ends_soon() {
                ahead = self.ask_ahead().await?;
            }
        }
        stream.end().await?;
        Ok(ahead)
    }

    /// Notes that a group is here.
    fn arrived(&self, group: u64) {
        let Self { number, source, link, shared } = self;
        let now = shared.now();
        let mut state = shared.lock();
        if state.pull.arrived(*number, group, now) {
            state.done += group_bytes(shared.tree.size(), group);
            let via = link.path_info();
            state.first.get_or_insert_with(|| (now, via.clone()));
            state.last = Some(via.clone());
            if !state.gave.contains(source) {
                state.gave.push(*source);
            }
            let done = state.done;
            state.progress.reach(done, || Some(via));
        }
    }

    /// Whether the lane will soon have brought all that it was asked for.
    fn ends_soon(&self) -> bool {
        let soon = ASK_AHEAD + self.link.connection.round_trip() * 2;
        let state = self.shared.lock();
        let carried = state.pull.carries_in(self.number, soon, self.shared.now());
        carried.is_some_and(|carried| state.pull.owed(self.number) <= carried)
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

/// The bytes of a group, in memory.
pub(super) fn length(size: u64, group: u64) -> usize {
    usize::try_from(group_bytes(size, group)).unwrap_or(usize::MAX)
}

/// Proves a whole group: BLAKE3 takes one large piece at a fraction of the cost of many small ones.
pub(super) fn prove(tree: &HashTree, group: u64, bytes: &[u8]) -> Result<(), Stopped> {
    let mut hasher = GroupHasher::new(group);
    hasher.update(bytes);
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
