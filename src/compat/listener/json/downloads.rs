//! Files on their way to those who asked for them, 200 characters at a time.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{self, Receiver, Sender};

use super::outgoing::Outgoing;
use super::{Call, Reply, Shared};
use crate::compat::dialect::json::Number;
use crate::compat::dialect::json::answer::{Answer, room_for_text};
use crate::compat::dialect::json::chunks::cut;
use crate::compat::resident::Resident;
use crate::wire::ids::PeerName;
use crate::wire::limits::{LEGACY_JSON_DOWNLOADS_PER_SOURCE_MAX, LEGACY_JSON_WINDOW};

/// How long a file may take to come here.
const FETCH_PATIENCE: Duration = Duration::from_secs(120);

/// When the allowance of an address is used up: it fills with what is acknowledged, and with time.
const NO_ALLOWANCE_PAUSE: Duration = Duration::from_millis(50);

/// Who is being sent what.
#[derive(Debug, Default)]
pub(super) struct Downloads(Mutex<HashMap<Key, Sender<u32>>>);

/// A request for a file: from where, and its number as JSON.
type Key = (SocketAddr, String);

/// A place among them, free again when it is dropped.
struct Place<'a> {
    downloads: &'a Downloads,
    key: Key,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.downloads.all().remove(&self.key);
    }
}

impl Downloads {
    /// Notes that a chunk has come there.
    pub(super) fn acknowledged(&self, from: SocketAddr, number: &Number, chunk: u32) {
        if let Some(chunks) = self.all().get(&(from, number.value().to_string()))
            && let Err(error) = chunks.try_send(chunk)
        {
            tracing::debug!(%from, %error, "an acknowledgement is lost");
        }
    }

    fn begin(&self, call: &Call, number: &Number) -> Result<(Place<'_>, Receiver<u32>), String> {
        let key = (call.from, number.value().to_string());
        let mut all = self.all();
        let of_source = all.keys().filter(|(from, _)| from.ip() == call.from.ip()).count();
        if of_source >= LEGACY_JSON_DOWNLOADS_PER_SOURCE_MAX {
            return Err("too many files at once: try again when one has come".to_owned());
        }
        if all.contains_key(&key) {
            return Err("a file is coming under this number already".to_owned());
        }
        let (chunks, acknowledged) = mpsc::channel(4 * LEGACY_JSON_WINDOW);
        all.insert(key.clone(), chunks);
        Ok((Place { downloads: self, key }, acknowledged))
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Key, Sender<u32>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Fetches a file and sends it, if it is text.
    pub(super) async fn download(
        &self,
        call: &Call,
        resident: &Resident,
        owner: Option<&str>,
        file: &str,
    ) -> Result<Reply, String> {
        let Some(number) = &call.number else {
            return Err("a download needs a number: add rq".to_owned());
        };
        let (_place, acknowledged) = self.downloads.begin(call, number)?;
        let _in_memory = self.files.acquire().await.map_err(|_| "the door closes".to_owned())?;
        let fetching = self.fetch(resident, owner, file);
        let fetched = tokio::time::timeout(FETCH_PATIENCE, fetching).await;
        let bytes = fetched.map_err(|_| "the file did not come in time".to_owned())??;
        let text =
            String::from_utf8(bytes).map_err(|_| format!("{file} is no text: this dialect carries none else"))?;
        let head = Answer::new("FILE-END").with("filename", file);
        let pieces = cut(&text, room_for_text(&head, call.keys, Some(number)));
        drop(text);
        Ok(self.stream(call, file, &pieces, acknowledged).await)
    }

    async fn fetch(&self, resident: &Resident, owner: Option<&str>, file: &str) -> Result<Vec<u8>, String> {
        let owner = match owner {
            Some(owner) => PeerName::parse(owner).map_err(|error| error.to_string())?,
            None => {
                let files = resident.files(file).await.map_err(|failure| failure.message)?;
                let found = files.into_iter().find(|found| found.is_online && found.name.as_str() == file);
                found.ok_or_else(|| format!("nobody who is here shares a file named {file}"))?.owner
            }
        };
        resident.fetch(&owner, file).await.map_err(|failure| failure.message)
    }

    /// Sends all pieces until each is acknowledged.
    async fn stream(&self, call: &Call, file: &str, pieces: &[String], mut acknowledged: Receiver<u32>) -> Reply {
        let message = |chunk: usize| {
            let kind = if chunk + 1 == pieces.len() { "FILE-END" } else { "FILE" };
            let text = pieces.get(chunk).cloned().unwrap_or_default();
            let message = Answer::new(kind).with("filename", file).with("chunk", chunk).with("text", text);
            message.print(call.keys, call.number.as_ref())
        };
        let mut outgoing = Outgoing::new(pieces.len(), Instant::now());
        while !outgoing.is_done() {
            let mut now = Instant::now();
            if outgoing.is_lost(now) {
                // With the same number it may be asked for again.
                return Reply::Void;
            }
            let mut wake_at = None;
            while let Some(chunk) = outgoing.due(now) {
                if !self.send(call, &message(chunk)) {
                    wake_at = Some(now + NO_ALLOWANCE_PAUSE);
                    break;
                }
                outgoing.sent(chunk, now);
            }
            let wake_at = wake_at.unwrap_or_else(|| outgoing.wake_at(now));
            tokio::select! {
                Some(chunk) = acknowledged.recv() => {
                    now = Instant::now();
                    let chunk = usize::try_from(chunk).unwrap_or(usize::MAX);
                    if outgoing.acknowledged(chunk, now) {
                        self.gateway.door.has_got(call.from, message(chunk).len());
                    }
                }
                () = tokio::time::sleep_until(wake_at.into()) => {}
            }
        }
        Reply::Sent
    }
}
