//! Files that those who published them bring here: each is asked for once, comes in chunks, and is shared when it is whole.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::entrance::address_of;
use super::incoming::{Incoming, Taken};
use super::{Call, Shared};
use crate::compat::dialect::json::Keys;
use crate::compat::dialect::json::answer::Answer;
use crate::compat::records::Record;
use crate::compat::resident::Resident;
use crate::compat::turns::Turns;
use crate::peer::failure::Failure;
use crate::wire::limits::LEGACY_FILES_AT_ONCE;

/// Between the tries to fetch what did not come; after the last it is tried when its owner speaks.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30), Duration::from_secs(120)];

/// Before the second request for a file; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_millis(300);

/// Whoever brings nothing for so long does not bring it.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long chunks that come again are acknowledged after the last.
const LINGER: Duration = Duration::from_secs(60);

/// The largest file over a bad line; whoever needs longer only keeps the place from others.
const LONGEST: Duration = Duration::from_secs(30 * 60);

/// Files that come from one address at a time, so that others come too.
const BROUGHT_PER_SOURCE_MAX: usize = 4;

/// Files that are coming, or came lately.
#[derive(Debug)]
pub(super) struct Uploads {
    all: Mutex<HashMap<u64, Upload>>,
    turns: Turns,
}

impl Default for Uploads {
    fn default() -> Self {
        Self { all: Mutex::default(), turns: Turns::new(LEGACY_FILES_AT_ONCE, BROUGHT_PER_SOURCE_MAX) }
    }
}

#[derive(Debug)]
struct Upload {
    from: SocketAddr,
    stage: Stage,
    heard: Instant,
    changed: Arc<Notify>,
    /// The words and the number of its last chunk, once that has come. It is acknowledged when the file is shared: then nothing
    /// of it is lost any more.
    last: Option<(Keys, u32)>,
}

#[derive(Debug)]
enum Stage {
    Coming(Incoming),
    Whole(Vec<u8>),
    /// Its owner does not bring it.
    Refused,
    /// It was taken away to be shared.
    Sharing,
    /// Others can fetch it.
    Shared,
    /// It was given up.
    Over,
}

/// By which an attendant tells that it may be worth trying.
#[derive(Debug, Default)]
pub(super) struct Wake {
    notify: Notify,
    waits_for_word: AtomicBool,
}

impl Wake {
    /// There are new files.
    pub(super) fn promised(&self) {
        self.notify.notify_one();
    }

    /// The owner is there.
    pub(super) fn spoke(&self) {
        if self.waits_for_word.load(Ordering::Relaxed) {
            self.notify.notify_one();
        }
    }
}

impl Uploads {
    /// Takes a chunk; whether it is to be acknowledged.
    pub(super) fn take(&self, call: &Call, chunk: u32, text: String, is_last: bool) -> bool {
        let mut all = self.all();
        let Some(upload) = find(&mut all, call) else { return false };
        upload.heard = Instant::now();
        if is_last {
            upload.last = Some((call.keys, chunk));
        }
        let taken = match &mut upload.stage {
            Stage::Coming(incoming) => incoming.take(chunk, text, is_last),
            // It came before: the acknowledgement was lost.
            Stage::Shared => return true,
            Stage::Whole(_) | Stage::Sharing => return !is_last,
            Stage::Refused | Stage::Over => return false,
        };
        let is_kept = taken != Taken::Refused;
        match taken {
            Taken::Kept => {}
            Taken::Complete(bytes) => upload.stage = Stage::Whole(bytes),
            Taken::Refused => upload.stage = Stage::Refused,
        }
        upload.changed.notify_one();
        is_kept && !is_last
    }

    /// Notes that a file does not come.
    pub(super) fn not_brought(&self, call: &Call, reason: &str) {
        let mut all = self.all();
        if let Some(upload) = find(&mut all, call).filter(|upload| matches!(upload.stage, Stage::Coming(_))) {
            tracing::info!(reason, "a published file is not brought");
            upload.stage = Stage::Refused;
            upload.changed.notify_one();
        }
    }

    fn begin(&self, number: u64, from: SocketAddr) -> Arc<Notify> {
        let (changed, now) = (Arc::new(Notify::new()), Instant::now());
        let mut all = self.all();
        all.retain(|_, upload| !upload.is_over() || now.saturating_duration_since(upload.heard) < LINGER);
        let stage = Stage::Coming(Incoming::default());
        all.insert(number, Upload { from, stage, heard: now, changed: changed.clone(), last: None });
        changed
    }

    /// Notes how it ended; gives the last chunk, if that has come.
    fn ended(&self, number: u64, stage: Stage) -> Option<(Keys, u32)> {
        let mut all = self.all();
        let upload = all.get_mut(&number)?;
        upload.stage = stage;
        upload.last
    }

    fn all(&self) -> MutexGuard<'_, HashMap<u64, Upload>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upload {
    fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Shared | Stage::Over | Stage::Refused)
    }
}

fn find<'a>(all: &'a mut HashMap<u64, Upload>, call: &Call) -> Option<&'a mut Upload> {
    let number = call.number.as_ref()?.as_u64()?;
    all.get_mut(&number).filter(|upload| upload.from == call.from)
}

/// How the fetching of a file ended.
enum Brought {
    Whole(Vec<u8>),
    Refused,
    NotNow,
}

/// Fetches what a name has promised, for as long as it is awaited.
pub(super) async fn bring_all(shared: Arc<Shared>, resident: Resident, wake: Arc<Wake>) {
    let mut tries = 0;
    loop {
        let mut is_all_here = true;
        for file in &promised(&resident) {
            is_all_here &= shared.bring(&resident, file).await;
        }
        if is_all_here {
            tries = 0;
            wake.notify.notified().await;
            continue;
        }
        if let Some(pause) = PAUSES.get(tries) {
            tries += 1;
            drop(tokio::time::timeout(*pause, wake.notify.notified()).await);
        } else {
            wake.waits_for_word.store(true, Ordering::Relaxed);
            wake.notify.notified().await;
            wake.waits_for_word.store(false, Ordering::Relaxed);
            tries = PAUSES.len() - 1;
        }
    }
}

/// The files that a name has promised and not brought yet.
pub(super) fn promised(resident: &Resident) -> Vec<String> {
    promised_in(&resident.extra())
}

fn promised_in(extra: &serde_json::Value) -> Vec<String> {
    let files = extra.get("files").and_then(|files| files.as_array()).into_iter().flatten();
    files.filter_map(|file| file.as_str().map(str::to_owned)).collect()
}

impl Shared {
    /// Fetches a file and shares it; whether nothing is left to be done about it.
    async fn bring(&self, resident: &Resident, file: &str) -> bool {
        let Some(address) = address_of(resident) else { return false };
        let Some(_turn) = self.uploads.turns.take(address.ip()) else { return false };
        let number = self.next_number();
        let changed = self.uploads.begin(number, address);
        let brought = self.bring_from(address, number, file, &changed).await;
        let done = match brought {
            Brought::Whole(bytes) => self.share(resident, file, bytes).await,
            Brought::Refused => self.forget_promises(resident, &[file]).await,
            Brought::NotNow => {
                self.uploads.ended(number, Stage::Over);
                return false;
            }
        };
        let last = self.uploads.ended(number, if done.is_ok() { Stage::Shared } else { Stage::Over });
        if let Some((keys, chunk)) = last.filter(|_| done.is_ok()) {
            let answer = Answer::new("ACK").with("chunk", chunk);
            self.send_to(address, None, &answer.print(keys, Some(&number.into())));
        }
        if let Err(failure) = &done {
            tracing::warn!(name = %resident.name(), file, %failure, "a published file cannot be shared");
        }
        done.is_ok()
    }

    async fn share(&self, resident: &Resident, file: &str, bytes: Vec<u8>) -> Result<(), Failure> {
        // It may have been taken back meanwhile.
        if promised(resident).iter().any(|promised| promised == file) {
            resident.publish(file, bytes).await?;
            self.forget_promises(resident, &[file]).await?;
        }
        Ok(())
    }

    async fn bring_from(&self, address: SocketAddr, number: u64, file: &str, changed: &Notify) -> Brought {
        let request = Answer::new("DOWNLOAD").with("filename", file).print(Keys::default(), Some(&number.into()));
        let begun = Instant::now();
        let mut wait = FIRST_WAIT;
        loop {
            let has_begun = {
                let mut all = self.uploads.all();
                let Some(upload) = all.get_mut(&number) else { return Brought::NotNow };
                match &mut upload.stage {
                    Stage::Whole(bytes) => {
                        let bytes = std::mem::take(bytes);
                        upload.stage = Stage::Sharing;
                        return Brought::Whole(bytes);
                    }
                    Stage::Refused => return Brought::Refused,
                    Stage::Sharing | Stage::Shared | Stage::Over => return Brought::NotNow,
                    Stage::Coming(_) if upload.heard.elapsed() > PATIENCE || begun.elapsed() > LONGEST => {
                        return Brought::NotNow;
                    }
                    Stage::Coming(_) => upload.heard > begun,
                }
            };
            if !has_begun {
                self.send_to(address, None, &request);
            }
            drop(tokio::time::timeout(wait, changed.notified()).await);
            wait = wait.saturating_mul(2).min(PATIENCE);
        }
    }

    /// Notes that these files need not be fetched, or not any more.
    pub(super) async fn forget_promises(&self, resident: &Resident, files: &[&str]) -> Result<(), Failure> {
        self.change_promises(resident, |promised| promised.retain(|file| !files.contains(&file.as_str()))).await
    }

    /// Notes that files are to be fetched.
    pub(super) async fn promise(&self, resident: &Resident, files: &[String]) -> Result<(), Failure> {
        let change = |promised: &mut Vec<String>| {
            for file in files {
                if !promised.contains(file) {
                    promised.push(file.clone());
                }
            }
        };
        self.change_promises(resident, change).await?;
        self.attendants.promised(resident.name());
        Ok(())
    }

    async fn change_promises(&self, resident: &Resident, change: impl FnOnce(&mut Vec<String>)) -> Result<(), Failure> {
        let change = |record: &mut Record| {
            let mut files = promised_in(&record.extra);
            change(&mut files);
            record.extra = serde_json::json!({ "files": files });
        };
        resident.change(change).await?;
        Ok(())
    }
}
