//! Fetches a folder: its manifest first, then what is not here of it. Small files come many to a stream, several streams at
//! a time, from whoever of the sources is free; large ones through the engine that fetches any file. The folder gets its
//! name when every file is here.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::catalogue;
use super::commands::Rows;
use super::context::Context;
use super::download::blob::fetch_blob;
use super::download::failures::{failure_over, is_gone, no_source};
use super::download::{self, Others, Provider, Wanted};
use super::event::Event;
use super::failure::{Failure, FailureKind};
use super::file_stream::{ChunkSource, Source, Stopped, cancelled_when_dropped};
use super::large_files;
use super::links::InUse;
use super::path::PathInfo;
use super::peer_links;
use super::progress::Progress;
use super::rows::Activity;
use crate::seal::digest::digest_of;
use crate::storage::partial_file::ReceiveError;
use crate::storage::parts;
use crate::storage::receive_folder::ReceiveFolder;
use crate::storage::receive_tree::ReceiveTree;
use crate::storage::safe_name::SafeName;
use crate::storage::whole;
use crate::wire::catalog::EntryKind;
use crate::wire::limits::MANIFEST_BYTES_MAX;
use crate::wire::manifest::{FileContent, Manifest};
use crate::wire::refusal::Refusal;
use crate::wire::rendezvous::Purpose;
use crate::wire::transfer::FetchPart;

/// Streams of small files at a time: while one waits for its next range, the others fill the path.
const STREAMS: usize = 4;

/// Sources that are asked at a time.
const SOURCES_MAX: usize = 8;

/// Files of one range: many to a round trip, few enough that a source that stops does not hold much.
const RANGE_FILES_MAX: usize = 256;

/// Bytes of one range.
const RANGE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A folder on its way.
pub(super) struct Download {
    pub(super) wanted: Wanted,
    pub(super) manifest: Arc<Manifest>,
    pub(super) tree: ReceiveTree,
    started: Instant,
    state: Mutex<State>,
}

struct State {
    /// Runs of entries with small files that are not here.
    ranges: VecDeque<Range<usize>>,
    progress: Progress<Box<dyn Fn(Event) + Send>>,
    bytes: u64,
    files: u64,
    /// Bytes that an earlier transfer left.
    resumed: u64,
    /// The first file that no source could serve, why, and how many there are.
    failed: Option<(usize, Refusal)>,
    failed_count: u64,
    /// Sources that are asked nothing more, and why.
    dropped: Vec<(Provider, Failure)>,
    /// When the first bytes came, and which way.
    first: Option<(Duration, PathInfo)>,
    /// How the last ones came: at first how they can.
    via: PathInfo,
    givers: Vec<Provider>,
}

/// Fetches what somebody has, a file or a folder. The last word is [`Event::Received`].
pub(super) async fn receive(context: &Arc<Context>, wanted: Wanted, rows: &Rows) -> Result<Event, Failure> {
    match wanted.kind {
        EntryKind::File => download::fetch(context, wanted, rows.sender()).await,
        EntryKind::Folder { files } => fetch(context, wanted, files, rows).await,
    }
}

/// Fetches a folder of so many files; progress goes to `rows`. The last word is [`Event::Received`].
async fn fetch(context: &Arc<Context>, mut wanted: Wanted, files: u64, rows: &Rows) -> Result<Event, Failure> {
    let started = Instant::now();
    if !wanted.may_be_whole {
        let (name, into) = (SafeName::from_remote(&wanted.name), wanted.into.clone());
        let check = async move { ReceiveTree::check_name(&ReceiveFolder::open(&into.folder)?, &name, into.collision) };
        context.on_transfer_thread(check).await??;
    }
    let others = async {
        match wanted.others {
            Others::Ask => catalogue::owners(context, wanted.digest).await,
            Others::Unasked => Vec::new(),
        }
    };
    let (manifest, mut others) = tokio::join!(fetch_manifest(context, &wanted, files), others);
    let manifest = Arc::new(manifest?);
    if wanted.may_be_whole
        && let Some(path) = find_whole(context, &wanted, &manifest).await?
    {
        return download::received_earlier(context, &wanted, path, started).await;
    }
    others.retain(|other| wanted.sources.iter().all(|source| source.key != other.key));
    wanted.sources.extend(others);
    let way = wanted.sources.iter().find_map(|source| context.links.find(source.key));
    let via = way.ok_or_else(no_source)?.path_info();
    let told = rows.sender();
    // It hashes what is here: beside the transfer thread, where others move meanwhile.
    let begin = move |is_cancelled: &AtomicBool| Download::begin(wanted, manifest, via, started, told, is_cancelled);
    let (download, large) = context.beside_transfers_while_wanted(begin).await??;
    let download = Arc::new(download);
    let fetched = fetch_files(context, &download, large, rows).await;
    if let Err(failure) = fetched {
        context.on_transfer_thread(async move { download.tree.discard_if_empty() }).await?;
        return Err(failure);
    }
    let finishing = download.clone();
    let path = context.beside_transfers(move || finishing.tree.finish()).await??;
    tell_givers(context, &download).await;
    Ok(download.received(path))
}

/// Looks whether an earlier run has received the folder to its end. What that left beside it is removed.
async fn find_whole(
    context: &Arc<Context>,
    wanted: &Wanted,
    manifest: &Arc<Manifest>,
) -> Result<Option<PathBuf>, Failure> {
    let (wanted, manifest) = (wanted.clone(), manifest.clone());
    let look = move || {
        let parent = ReceiveFolder::open(&wanted.into.folder)?;
        let found =
            whole::find_folder(&parent, &SafeName::from_remote(&wanted.name), &manifest, wanted.into.collision)?;
        if found.is_some()
            && let Err(error) = parts::remove(&parent, &wanted.name)
        {
            tracing::warn!(%error, "what is left of a transfer could not be removed");
        }
        Ok::<_, ReceiveError>(found)
    };
    Ok(context.beside_transfers(look).await??)
}

/// Fetches the manifest from the first source that has it, and checks that it is the folder that was announced.
async fn fetch_manifest(context: &Arc<Context>, wanted: &Wanted, files: u64) -> Result<Manifest, Failure> {
    let mut last = None;
    for source in &wanted.sources {
        let bytes_max = u64::try_from(MANIFEST_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
        let bytes = match fetch_blob(context, source, wanted.digest, bytes_max).await {
            Ok(bytes) => bytes,
            Err(failure) => {
                last = Some(failure);
                continue;
            }
        };
        let lie = |why: String| Failure::new(FailureKind::Integrity, format!("{}:{}: {why}", source.name, wanted.name));
        let manifest = Manifest::from_bytes(&bytes).map_err(|error| lie(error.to_string()))?;
        if (manifest.files(), manifest.bytes()) != (files, wanted.size) {
            return Err(lie("what is in the folder is not what was announced".to_owned()));
        }
        return Ok(manifest);
    }
    Err(last.unwrap_or_else(no_source))
}

/// Fetches what is missing: small files first, then large ones.
async fn fetch_files(
    context: &Arc<Context>,
    download: &Arc<Download>,
    large: Vec<usize>,
    rows: &Rows,
) -> Result<(), Failure> {
    fetch_small(context, download, rows).await?;
    large_files::fetch(context, download, large).await?;
    let state = download.state();
    let Some((index, refusal)) = state.failed else { return Ok(()) };
    let (name, first) = (&download.wanted.name, download.path_of(index));
    let count = state.failed_count;
    let text = match count {
        1 => format!("{name} is not complete: {first}: {refusal}"),
        _ => format!("{name} is not complete: {count} files could not be had, the first is {first}: {refusal}"),
    };
    let failure = Failure { refusal: Some(refusal.number()), ..Failure::new(FailureKind::Partial, text) };
    Err(failure.hint("what arrived is kept: when its owner has shared it again, the same command goes on from there"))
}

/// Fetches the ranges of small files, as long as there is a source for them.
async fn fetch_small(context: &Arc<Context>, download: &Arc<Download>, rows: &Rows) -> Result<(), Failure> {
    while !download.state().ranges.is_empty() {
        let sources = download.sources()?;
        let mut workers = JoinSet::new();
        for source in sources.iter().cycle().take(STREAMS.max(sources.len())).cloned() {
            let (context, download) = (context.clone(), download.clone());
            workers.spawn(async move {
                let worked = work(&context, &download, &source).await;
                (source, worked)
            });
        }
        while let Some(ended) = workers.join_next().await {
            match ended {
                Ok((_, Ok(()))) => {}
                Ok((source, Err(failure))) if failure.kind == FailureKind::Disk => {
                    tracing::debug!(from = %source.name, "the disk takes no more");
                    return Err(failure);
                }
                Ok((source, Err(failure))) => {
                    if let Some(event) = download.drop_source(source, failure) {
                        rows.row(event).await;
                    }
                }
                Err(_) => return Err(Failure::new(FailureKind::Other, "the transfer was stopped")),
            }
        }
    }
    Ok(())
}

/// Fetches one range after another from a source, each over the link that is the best then.
async fn work(context: &Arc<Context>, download: &Arc<Download>, source: &Provider) -> Result<(), Failure> {
    let (mut may_dial_again, mut has_dialled) = (true, false);
    while let Some(range) = download.next_range(source) {
        let purpose = Purpose::Fetch { digest: download.wanted.digest };
        let opened = peer_links::open(context, &source.name, source.key, purpose).await;
        let (link, is_new) = opened.inspect_err(|_| download.put_back(range.clone()))?;
        has_dialled |= is_new;
        let (shared, receiving) = (context.clone(), download.clone());
        let work = async move {
            let mut range = range;
            let received = receiving.receive(&shared, &link, &mut range).await;
            (link, range, received)
        };
        let (link, rest, received) = context.on_transfer_thread(work).await?;
        let about = download.path_of(rest.start);
        download.put_back(rest);
        match received {
            Ok(()) => download.note_giver(source),
            Err(Stopped::Moves) => {}
            Err(Stopped::Network(_)) if context.links.has_other(&link) => link.replace(),
            Err(Stopped::Network(error)) if may_dial_again && is_gone(&error, has_dialled) => {
                may_dial_again = false;
                link.replace();
            }
            Err(stopped) => return Err(failure_over(&link, stopped, &about)),
        }
    }
    Ok(())
}

/// Tells those who gave files that the folder is complete and on disk.
async fn tell_givers(context: &Arc<Context>, download: &Download) {
    let digest = download.wanted.digest;
    let mut givers = std::mem::take(&mut download.state().givers);
    if givers.is_empty() {
        givers.extend(download.wanted.sources.first().cloned());
    }
    // Over the links that are there: the folder is complete, whether they hear of it or not.
    let links = givers.iter().filter_map(|giver| context.links.find(giver.key)).collect();
    download::tell_givers(links, digest, download.wanted.offer).await;
}

impl Download {
    /// Opens the folder's place and looks what is here. Says which large files are not. Blocks.
    fn begin(
        wanted: Wanted,
        manifest: Arc<Manifest>,
        via: PathInfo,
        started: Instant,
        rows: mpsc::Sender<Event>,
        is_cancelled: &AtomicBool,
    ) -> Result<(Self, Vec<usize>), Failure> {
        let parent = ReceiveFolder::open(&wanted.into.folder)?;
        let name = SafeName::from_remote(&wanted.name);
        let tree = ReceiveTree::open(&parent, &name, manifest.clone(), wanted.into.collision, wanted.into.executable)?;
        let from = wanted.sources.first().map(|source| source.name.clone());
        let tell: Box<dyn Fn(Event) + Send> = Box::new(move |event| {
            // A face that is behind misses a step of the bar, not the end.
            if rows.try_send(event).is_err() {
                tracing::trace!("a progress event was dropped");
            }
        });
        let progress = Progress::new(Activity::Receiving, wanted.name.as_str(), from.as_ref(), wanted.size, tell);
        let state = State {
            ranges: VecDeque::new(),
            progress: progress.of_files(manifest.files()),
            bytes: 0,
            files: 0,
            resumed: 0,
            failed: None,
            failed_count: 0,
            dropped: Vec::new(),
            first: None,
            via,
            givers: Vec::new(),
        };
        let download = Self { wanted, manifest, tree, started, state: Mutex::new(state) };
        let large = download.look(is_cancelled).inspect_err(|_| download.tree.discard_if_empty())?;
        Ok((download, large))
    }

    /// Looks which files are here, makes the empty ones, and notes the ranges of the small ones that are not.
    fn look(&self, is_cancelled: &AtomicBool) -> Result<Vec<usize>, Failure> {
        let may_be_here = self.tree.prepare()?;
        let mut large = Vec::new();
        let mut missing = Ranges::default();
        for (index, entry) in self.manifest.entries().iter().enumerate() {
            let Some(file) = entry.file() else { continue };
            if may_be_here && self.tree.is_here(index)? {
                missing.cut();
                self.count(file, None);
            } else if file.size.bytes() == 0 {
                self.tree.write(index, &[])?;
                self.count(file, None);
            } else if entry.is_small() {
                missing.add(index, file.size.bytes());
            } else {
                large.push(index);
            }
            if is_cancelled.load(Ordering::Relaxed) {
                return Err(Failure::new(FailureKind::Interrupted, "nobody waits for this folder any more"));
            }
        }
        let mut state = self.state();
        state.ranges = missing.ranges;
        state.resumed = state.bytes;
        self.tree.check_room(self.manifest.bytes() - state.bytes)?;
        Ok(large)
    }

    /// Receives what is missing of a range, which is moved past what has come.
    async fn receive(&self, context: &Context, link: &InUse, range: &mut Range<usize>) -> Result<(), Stopped> {
        let (is_cancelled, digest) = (Arc::default(), self.wanted.digest);
        let source = Source { context, link, digest, announced: digest, is_cancelled: &is_cancelled };
        cancelled_when_dropped(&is_cancelled, self.receive_range(source, range)).await
    }

    async fn receive_range(&self, source: Source<'_>, range: &mut Range<usize>) -> Result<(), Stopped> {
        let _turn = source.link.fetches.acquire().await;
        while range.start < range.end {
            let (first, count) = (range.start as u64, range.len() as u64);
            let (mut stream, _) = ChunkSource::open(source, FetchPart::Files { first, count }).await?;
            match self.receive_files(&mut stream, source, range).await {
                Ok(()) => stream.end().await?,
                Err(Stopped::Refused(refusal)) => {
                    self.note_failed(range.start, refusal);
                    range.start += 1;
                }
                Err(stopped) => return Err(stopped),
            }
        }
        Ok(())
    }

    async fn receive_files(
        &self,
        stream: &mut ChunkSource<'_>,
        source: Source<'_>,
        range: &mut Range<usize>,
    ) -> Result<(), Stopped> {
        let mut bytes = Vec::new();
        while range.start < range.end {
            let entry = &self.manifest.entries()[range.start];
            if let Some(file) = entry.file().filter(|file| entry.is_small() && file.size.bytes() > 0) {
                bytes.clear();
                stream.next_group(usize::try_from(file.size.bytes()).unwrap_or(usize::MAX), &mut bytes).await?;
                if digest_of(&bytes) != file.digest {
                    return Err(Stopped::WrongBytes);
                }
                self.tree.write(range.start, &bytes)?;
                self.count(file, Some(source.link));
            }
            range.start += 1;
            if range.start < range.end {
                source.move_if_better()?;
            }
        }
        Ok(())
    }

    /// Counts a file that is here now, and came over this link.
    fn count(&self, file: &FileContent, link: Option<&InUse>) {
        let mut state = self.state();
        state.files += 1;
        self.add(&mut state, file.size.bytes(), link.map(|link| link.path_info()));
    }

    /// Counts a large file whose bytes were counted as they came.
    pub(super) fn count_large(&self, source: &Provider) {
        self.note_giver(source);
        let mut state = self.state();
        state.files += 1;
        self.add(&mut state, 0, None);
    }

    /// Notes that bytes of a large file had come earlier.
    pub(super) fn note_resumed(&self, bytes: u64) {
        self.state().resumed += bytes;
    }

    /// Counts bytes that came.
    pub(super) fn count_bytes(&self, bytes: u64, via: Option<PathInfo>) {
        self.add(&mut self.state(), bytes, via);
    }

    fn add(&self, state: &mut State, bytes: u64, via: Option<PathInfo>) {
        state.bytes += bytes;
        if let Some(via) = &via {
            state.first.get_or_insert_with(|| (self.started.elapsed(), via.clone()));
            state.via = via.clone();
        }
        let (bytes, files) = (state.bytes, state.files);
        state.progress.reach_files(files);
        state.progress.reach(bytes, || via);
    }

    /// Notes that a file could not be served: the others come all the same.
    pub(super) fn note_failed(&self, index: usize, refusal: Refusal) {
        let mut state = self.state();
        state.failed.get_or_insert((index, refusal));
        state.failed_count += 1;
    }

    fn note_giver(&self, source: &Provider) {
        let mut state = self.state();
        if !state.givers.contains(source) {
            state.givers.push(source.clone());
        }
    }

    /// The sources that are still asked.
    pub(super) fn sources(&self) -> Result<Vec<Provider>, Failure> {
        let state = self.state();
        let is_dropped = |source: &Provider| state.dropped.iter().any(|(dropped, _)| dropped == source);
        let left = self.wanted.sources.iter().filter(|source| !is_dropped(source)).take(SOURCES_MAX);
        let left: Vec<Provider> = left.cloned().collect();
        match state.dropped.last() {
            Some((_, failure)) if left.is_empty() => Err(failure.clone()),
            Some(_) | None => Ok(left),
        }
    }

    /// Asks a source nothing more. Says so when others go on.
    fn drop_source(&self, source: Provider, failure: Failure) -> Option<Event> {
        let mut state = self.state();
        if state.dropped.iter().any(|(dropped, _)| *dropped == source) {
            return None;
        }
        let reason = match failure.kind {
            FailureKind::Integrity => "sent other bytes than those",
            _ => "gave no more",
        };
        let (name, reason) = (source.name.clone(), reason.to_owned());
        state.dropped.push((source, failure));
        let others_go_on = state.dropped.len() < self.wanted.sources.len();
        others_go_on.then(|| Event::SourceDropped { name, file: self.wanted.name.clone(), reason })
    }

    fn next_range(&self, source: &Provider) -> Option<Range<usize>> {
        let mut state = self.state();
        let is_dropped = state.dropped.iter().any(|(dropped, _)| dropped == source);
        if is_dropped { None } else { state.ranges.pop_front() }
    }

    fn put_back(&self, range: Range<usize>) {
        if !range.is_empty() {
            self.state().ranges.push_front(range);
        }
    }

    /// An entry's path with the folder's name, for people.
    pub(super) fn path_of(&self, index: usize) -> String {
        match self.manifest.entries().get(index) {
            Some(entry) => format!("{}/{}", self.wanted.name, entry.path),
            None => self.wanted.name.to_string(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn received(&self, path: PathBuf) -> Event {
        let state = self.state();
        let (first_byte, first_via) = state.first.clone().unzip();
        Event::Received {
            from: state.givers.first().unwrap_or(&self.wanted.sources[0]).name.clone(),
            name: self.wanted.name.clone(),
            path,
            size: self.wanted.size,
            digest: self.wanted.digest,
            files: Some(self.manifest.files()),
            resumed: state.resumed,
            millis: download::millis(self.started.elapsed()),
            first_byte_us: first_byte.map(|after| u64::try_from(after.as_micros()).unwrap_or(u64::MAX)),
            first_via,
            via: Some(state.via.clone()),
        }
    }
}

/// Runs of entries between which no small file is here already.
#[derive(Default)]
struct Ranges {
    ranges: VecDeque<Range<usize>>,
    files: usize,
    bytes: u64,
}

impl Ranges {
    fn add(&mut self, index: usize, bytes: u64) {
        let is_full = self.files >= RANGE_FILES_MAX || self.bytes + bytes > RANGE_BYTES_MAX;
        match self.ranges.back_mut() {
            Some(last) if self.files > 0 && !is_full => last.end = index + 1,
            Some(_) | None => {
                self.ranges.push_back(index..index + 1);
                (self.files, self.bytes) = (0, 0);
            }
        }
        self.files += 1;
        self.bytes += bytes;
    }

    /// The next one begins a run of its own.
    fn cut(&mut self) {
        self.files = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_what_is_missing_and_nothing_that_is_here() {
        let mut ranges = Ranges::default();
        for (index, bytes) in [(1, 10), (3, 10)] {
            ranges.add(index, bytes);
        }
        ranges.cut();
        ranges.add(5, 10);
        assert_eq!(ranges.ranges, [1..4, 5..6]);
    }

    #[test]
    fn a_range_is_bounded_by_files_and_by_bytes() {
        let mut ranges = Ranges::default();
        (0..RANGE_FILES_MAX + 1).for_each(|index| ranges.add(index, 1));
        assert_eq!(ranges.ranges, [0..RANGE_FILES_MAX, RANGE_FILES_MAX..RANGE_FILES_MAX + 1]);
        let mut ranges = Ranges::default();
        (0..3).for_each(|index| ranges.add(index, RANGE_BYTES_MAX / 2));
        assert_eq!(ranges.ranges, [0..2, 2..3]);
    }
}
