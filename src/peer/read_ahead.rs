//! Reads what goes to other peers, and makes chunks of it: on the transfer thread, while what was read before is on its way.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::context::Context;
use crate::database::DatabaseError;
use crate::storage::folder_shares::{self, FolderRoot, SharedFolder};
use crate::storage::shares::{ServedFile, ShareError};
use crate::wire::chunk::{self, BATCH_BYTES};
use crate::wire::transfer::{GROUP_BYTES, group_bytes};

/// Batches that wait while one is being sent and another one is being read. With one, whoever sends waits for whoever reads
/// when both cores are busy; with three, it is no faster, and holds more.
const WAITING_MAX: usize = 2;

/// Files of a folder that are read from the database at a time.
const PAGE_FILES: usize = 1_024;

/// Whole chunks that are ready to go: a group of a file, or several small files.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) encoded: Bytes,
    /// Bytes of files in it.
    pub(super) payload: u64,
}

/// Why no more can be read.
#[derive(Debug)]
pub(super) enum Unreadable {
    File(ShareError),
    /// The folder, or one of its files.
    InFolder(ShareError),
    Profile(DatabaseError),
}

impl From<DatabaseError> for Unreadable {
    fn from(error: DatabaseError) -> Self {
        Self::Profile(error)
    }
}

/// One batch after the other; reading ends when this is dropped.
#[derive(Debug)]
pub(super) struct ReadAhead {
    batches: mpsc::Receiver<Read>,
    _reading: JoinSet<()>,
}

type Read = Result<Batch, Unreadable>;

impl ReadAhead {
    /// Reads groups of a file.
    pub(super) fn of_file(context: &Context, file: ServedFile, size: u64, groups: Range<u64>) -> Self {
        Self::begin(context, |ready| async move {
            for group in groups {
                let read = read_group(&file, group * GROUP_BYTES, group_bytes(size, group));
                if !hand_over(&ready, read.map_err(Unreadable::File)).await {
                    return;
                }
            }
        })
    }

    /// Reads the small files among a run of a folder's entries.
    pub(super) fn of_folder(context: &Arc<Context>, folder: SharedFolder, entries: Range<u64>) -> Self {
        let context = context.clone();
        Self::begin(&context.clone(), |ready| async move {
            if let Err(unreadable) = read_small_files(&context, &folder, entries, &ready).await {
                hand_over(&ready, Err(unreadable)).await;
            }
        })
    }

    fn begin<Reading>(context: &Context, read: impl FnOnce(mpsc::Sender<Read>) -> Reading) -> Self
    where
        Reading: Future<Output = ()> + Send + 'static,
    {
        let (ready, batches) = mpsc::channel(WAITING_MAX);
        let mut reading = JoinSet::new();
        reading.spawn_on(read(ready), &context.transfers);
        Self { batches, _reading: reading }
    }

    /// Waits for the next batch, or for the reason why there is none. `None` after the last.
    pub(super) async fn next(&mut self) -> Option<Read> {
        self.batches.recv().await
    }
}

/// Says whether more is wanted.
async fn hand_over(ready: &mpsc::Sender<Read>, read: Read) -> bool {
    let is_last = read.is_err();
    ready.send(read).await.is_ok() && !is_last
}

/// Reads to where chunks are made of it.
fn read_group(file: &ServedFile, offset: u64, payload: u64) -> Result<Batch, ShareError> {
    let bytes = usize::try_from(payload).unwrap_or(0);
    let mut encoded = Vec::with_capacity(chunk::encoded_bytes(bytes));
    file.read_at(bytes, offset, &mut encoded)?;
    chunk::encode_in_place(&mut encoded);
    // Before the group is whole over there: what was read of another file is never served as this one.
    file.check_unchanged()?;
    Ok(Batch { encoded: encoded.into(), payload })
}

/// Reads beneath the folder, and checks that each file is what was shared; those before one that is not go first.
async fn read_small_files(
    context: &Context,
    folder: &SharedFolder,
    mut entries: Range<u64>,
    ready: &mpsc::Sender<Read>,
) -> Result<(), Unreadable> {
    let root = FolderRoot::open(&folder.root).map_err(Unreadable::InFolder)?;
    let mut bytes = Vec::new();
    let mut batch = Filling::default();
    loop {
        let page = folder_shares::small_files(context.database(), folder, entries.clone(), PAGE_FILES).await?;
        for (_, member) in &page {
            if let Err(error) = root.read(member, &mut bytes) {
                batch.hand_over(ready).await;
                return Err(Unreadable::InFolder(error));
            }
            chunk::encode(&bytes, &mut batch.encoded);
            batch.payload += member.size();
            if batch.encoded.len() >= BATCH_BYTES && !batch.hand_over(ready).await {
                return Ok(());
            }
        }
        match page.last() {
            Some((last, _)) if page.len() == PAGE_FILES => entries.start = last + 1,
            Some(_) | None => break,
        }
    }
    batch.hand_over(ready).await;
    Ok(())
}

/// A batch that more files go into.
#[derive(Default)]
struct Filling {
    encoded: Vec<u8>,
    payload: u64,
}

impl Filling {
    /// Hands over what is in it. Says whether more is wanted.
    async fn hand_over(&mut self, ready: &mpsc::Sender<Read>) -> bool {
        let Self { encoded, payload } = std::mem::take(self);
        encoded.is_empty() || hand_over(ready, Ok(Batch { encoded: encoded.into(), payload })).await
    }
}
