//! What this peer is sending to whom, in memory only: listed, and ended when its person takes it back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::links::Link;
use super::path::PathInfo;
use super::rows::{Direction, TransferRow, TransferState};
use crate::storage::shares::{Audience, SharedFile};
use crate::wire::ids::{FileDigest, FileName, MessageId, PeerKey, PeerName, TransferId};
use crate::wire::limits::UPLOADS_MAX;

/// A transfer is many streams, and there may be none for a moment.
const BETWEEN_STREAMS: Duration = Duration::from_secs(3);
/// How long whoever fetches something that was taken back is told so, and not that there is no such thing.
const TAKEN_BACK_FOR: Duration = Duration::from_secs(60);

/// Who is sent what.
#[derive(Debug, Default, Clone)]
pub(super) struct Uploads(Arc<Mutex<BTreeMap<TransferId, Upload>>>);

#[derive(Debug)]
struct Upload {
    name: FileName,
    with: PeerName,
    key: PeerKey,
    digest: FileDigest,
    size: u64,
    files: Option<u64>,
    offer: Option<MessageId>,
    via: Option<PathInfo>,
    sent: u64,
    streams: usize,
    used_at: Instant,
    /// Whether whoever takes it broke the last stream off, and has asked for no other since.
    broken_off: bool,
    /// Whether whoever takes it has said that all of it is there, and has asked for nothing since. A stream to a program that
    /// was killed may be open all the same.
    has_arrived: bool,
    taken_back: bool,
}

impl Upload {
    /// Whether it goes on, as far as one can see now. One that was broken off is remembered for a while: it may go on from
    /// where it was.
    fn is_going(&self) -> bool {
        !self.taken_back && !self.has_arrived && (self.streams > 0 || !self.broken_off && self.sent < self.size)
    }

    fn is_over(&self, now: Instant) -> bool {
        let patience = if self.taken_back { TAKEN_BACK_FOR } else { BETWEEN_STREAMS };
        self.streams == 0 && now.duration_since(self.used_at) > patience
    }
}

impl Uploads {
    /// Begins a stream of a file. `None` when that was taken back while it was being sent.
    pub(super) fn begin(&self, link: &Link, share: &SharedFile) -> Option<Serving> {
        let id = id_of(share, link.key);
        let mut open = self.lock();
        let now = Instant::now();
        if open.len() >= UPLOADS_MAX {
            open.retain(|_, upload| !upload.is_over(now));
        }
        let upload = open.entry(id).or_insert_with(|| Upload {
            name: share.name.clone(),
            with: link.name.clone(),
            key: link.key,
            digest: share.file.digest,
            size: share.place().1.bytes(),
            files: share.kind().files(),
            offer: offer_of(share),
            via: None,
            sent: 0,
            streams: 0,
            used_at: now,
            broken_off: false,
            has_arrived: false,
            taken_back: false,
        });
        if upload.is_over(now) {
            (upload.sent, upload.taken_back) = (0, false);
        }
        if upload.taken_back {
            return None;
        }
        upload.streams += 1;
        (upload.broken_off, upload.has_arrived) = (false, false);
        Some(Serving { uploads: self.clone(), id, is_whole: false })
    }

    /// Notes that all of a file is where it was sent.
    pub(super) fn arrived(&self, share: &SharedFile, with: PeerKey) {
        if let Some(upload) = self.lock().get_mut(&id_of(share, with)) {
            upload.has_arrived = true;
        }
    }

    /// Lets everybody have a file again that was taken back: it was shared once more.
    pub(super) fn allow_again(&self, digest: FileDigest) {
        self.lock().retain(|_, upload| upload.digest != digest || !upload.taken_back);
    }

    /// Whether somebody was being sent a file that was taken back lately.
    pub(super) fn was_taken_back(&self, digest: FileDigest, from: PeerKey) -> bool {
        let now = Instant::now();
        let is_meant = |upload: &Upload| (upload.digest, upload.key) == (digest, from);
        self.lock().values().any(|upload| is_meant(upload) && upload.taken_back && !upload.is_over(now))
    }

    /// What is being sent, as rows of a list.
    pub(super) fn rows(&self) -> Vec<TransferRow> {
        let now = Instant::now();
        let mut open = self.lock();
        open.retain(|_, upload| !upload.is_over(now));
        open.iter().filter(|(_, upload)| upload.is_going()).map(|(id, upload)| row(*id, upload)).collect()
    }

    /// Ends what is being sent and is meant; says what that was. Whoever goes on asking is refused.
    pub(super) fn take_back(&self, is_meant: impl Fn(TransferId, FileDigest, PeerKey) -> bool) -> Vec<TransferRow> {
        let now = Instant::now();
        let mut open = self.lock();
        open.retain(|_, upload| !upload.is_over(now));
        let mut ended = Vec::new();
        for (id, upload) in open.iter_mut() {
            if !upload.taken_back && !upload.has_arrived && is_meant(*id, upload.digest, upload.key) {
                (upload.taken_back, upload.used_at) = (true, now);
                ended.push(TransferRow { state: TransferState::Cancelled, ..row(*id, upload) });
            }
        }
        ended
    }

    /// To whom a file is being sent.
    pub(super) fn takers(&self, digest: FileDigest) -> Vec<PeerKey> {
        self.lock().values().filter(|upload| upload.digest == digest).map(|upload| upload.key).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TransferId, Upload>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One stream of a file on its way to somebody.
#[derive(Debug)]
pub(super) struct Serving {
    uploads: Uploads,
    id: TransferId,
    is_whole: bool,
}

impl Serving {
    /// Notes bytes that went, and says how many that makes over all streams. `None` when the rest is not to be sent.
    pub(super) fn sent(&self, bytes: u64, via: &PathInfo) -> Option<u64> {
        let mut open = self.uploads.lock();
        let upload = open.get_mut(&self.id)?;
        upload.sent = upload.sent.saturating_add(bytes).min(upload.size);
        upload.via = Some(via.clone());
        (!upload.taken_back).then_some(upload.sent)
    }
}

impl Serving {
    /// Notes that nobody takes this stream any more. Says whether that is news: it is not of what has arrived, nor of the
    /// second stream of several.
    pub(super) fn break_off(&self) -> bool {
        let mut open = self.uploads.lock();
        let Some(upload) = open.get_mut(&self.id) else { return false };
        !std::mem::replace(&mut upload.broken_off, true) && !upload.has_arrived
    }

    /// Notes that all went that was asked for on this stream: the next one may come in a moment.
    pub(super) fn finish(mut self) {
        self.is_whole = true;
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(upload) = self.uploads.lock().get_mut(&self.id) {
            upload.streams = upload.streams.saturating_sub(1);
            upload.broken_off |= !self.is_whole;
            if !upload.taken_back {
                upload.used_at = Instant::now();
            }
        }
    }
}

/// The offer's id, or one that is the same for all streams of a file to a person.
fn id_of(share: &SharedFile, asker: PeerKey) -> TransferId {
    let mut id = [0; 16];
    match offer_of(share) {
        Some(offer) => id = *offer.as_bytes(),
        None => {
            let bytes = share.file.digest.as_bytes().iter().zip(asker.as_bytes());
            id.iter_mut().zip(bytes).for_each(|(byte, (digest, key))| *byte = digest ^ key);
        }
    }
    TransferId::from_bytes(id)
}

fn offer_of(share: &SharedFile) -> Option<MessageId> {
    match share.audience {
        Audience::Everyone { .. } => None,
        Audience::One { offer, .. } => Some(offer),
    }
}

fn row(id: TransferId, upload: &Upload) -> TransferRow {
    TransferRow {
        id,
        direction: Direction::Out,
        name: upload.name.clone(),
        with: vec![upload.with.clone()],
        size: upload.size,
        files: upload.files,
        done: upload.sent,
        state: TransferState::Running,
        reason: None,
        via: upload.via.clone(),
        offer: upload.offer,
        is_news: false,
    }
}
