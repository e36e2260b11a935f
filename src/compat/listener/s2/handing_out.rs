//! Hands out files at the ports that stand for people: whoever of this dialect connects there means the person whose port it
//! is, and gets what that person publishes, in their own program's words.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::kept::Kept;
use super::streams::{Stream, malformed};
use super::{Service, Work};
use crate::compat::dialect::s2::transfers::{Content, Transfer, chunks, download_error};
use crate::compat::dialect::s2::{Malformed, Variant};
use crate::compat::resident::{PublishedFile, Resident};
use crate::compat::settings::Dialect;
use crate::wire::ids::PeerName;
use crate::wire::limits::LEGACY_FILE_BYTES_MAX;

/// What K's own programs say of a file that they do not have; the others are told the same.
const NO_SUCH_FILE: &str = "Requested file does not exist";

/// What K's own programs say of what is no object.
const NO_REQUEST: &str = "Expected valid JSON request for DOWNLOAD";

/// And of any other request.
const NO_DOWNLOAD: &str = "Peer can only provide DOWNLOAD service";

/// Programs of kind J know neither lengths nor acknowledgements, and take what one read gives for one message: they wait so
/// long themselves between chunks.
const PAUSE_BETWEEN_CHUNKS: Duration = Duration::from_millis(100);

/// How long a file may take to come from its owner.
const OWNER_PATIENCE: Duration = Duration::from_secs(60);

/// Requests on one connection: programs of kind A go on asking on the same.
const REQUESTS_MAX: usize = 64;

/// KiB of files in memory while they are handed out; some programs take their time.
const HELD_KIB_MAX: usize = 64 * 1024;

/// After the machine has no connection left to give, so that this does not go round and round.
const AFTER_ERROR: Duration = Duration::from_millis(50);

/// The ports that are served.
#[derive(Debug)]
pub(super) struct HandingOut {
    /// Held while a port is bound, so that nobody gets two.
    served: tokio::sync::Mutex<HashMap<PeerName, u16>>,
    held: Semaphore,
}

impl HandingOut {
    pub(super) fn new() -> Self {
        Self { served: tokio::sync::Mutex::default(), held: Semaphore::new(HELD_KIB_MAX) }
    }
}

impl Service {
    /// The port that stands for somebody, which is served from now on. `None` when there is none for them.
    pub(super) async fn stand_in(&self, name: &PeerName) -> Option<u16> {
        let mut served = self.handing_out.served.lock().await;
        if let Some(port) = served.get(name) {
            return Some(*port);
        }
        let bind = |port| {
            let listener = std::net::TcpListener::bind(SocketAddr::new(self.address.ip(), port))?;
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        };
        let (port, listener) = self.gateway.ports().port(Dialect::S2, name, bind).await?;
        self.work.send(Work::HandOut(name.clone(), listener)).await.ok()?;
        served.insert(name.clone(), port);
        Some(port)
    }

    /// Serves one person's port for as long as it is awaited.
    pub(super) async fn hand_out(self: Arc<Self>, owner: PeerName, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((tcp, from)) => {
                        let source = from.ip().to_canonical();
                        let is_known = self.downloader(source, &owner).is_some();
                        let Some(turn) = self.gateway.connection(source).filter(|_| is_known) else { continue };
                        let (service, owner) = (self.clone(), owner.clone());
                        connections.spawn(async move {
                            let ended = async { service.answer_downloads(&owner, Stream::new(tcp)?, source).await };
                            if let Err(error) = ended.await {
                                tracing::debug!(%error, "a download ended early");
                            }
                            drop(turn);
                        });
                    }
                    Err(error) => {
                        tracing::debug!(%error, "a connection of an old program did not come about");
                        tokio::time::sleep(AFTER_ERROR).await;
                    }
                },
                Some(ended) = connections.join_next() => if let Err(error) = ended {
                    tracing::error!(%error, "a download broke");
                },
            }
        }
    }

    /// On whose behalf a connection from an address fetches: it does not say, so it is who spoke last from there. Nobody
    /// fetches from themselves.
    fn downloader(&self, source: IpAddr, owner: &PeerName) -> Option<Resident> {
        let mut there = self.gateway.residents_at(Dialect::S2, source);
        there.retain(|resident| resident.name() != owner);
        self.speakers.latest(&there)
    }

    async fn answer_downloads(&self, owner: &PeerName, mut stream: Stream, source: IpAddr) -> io::Result<()> {
        for _ in 0..REQUESTS_MAX {
            let Some(message) = stream.message().await? else { return Ok(()) };
            let Some(asker) = self.downloader(source, owner) else { return Ok(()) };
            let Ok(transfer) = Transfer::parse(&message) else {
                if stream.has_lengths() {
                    stream.send(Variant::K, download_error(Variant::K, &Value::Null, NO_REQUEST)).await?;
                }
                return Err(malformed(Malformed));
            };
            let Transfer { variant, number, content } = transfer;
            if (variant == Variant::K) != stream.has_lengths() {
                return Err(malformed(Malformed));
            }
            let text = match &content {
                Content::Download { file } => self.text(&asker, owner, file, variant).await,
                Content::Chunk { .. } | Content::Refused { .. } | Content::Other => Err(NO_DOWNLOAD.to_owned()),
            };
            match (content, text) {
                (Content::Download { file }, Ok((text, _held))) => {
                    give(&mut stream, variant, &number, &file, &text).await?;
                }
                (_, Err(reason)) => stream.send(variant, download_error(variant, &number, &reason)).await?,
                (_, Ok(_)) => return Ok(()),
            }
        }
        Ok(())
    }

    /// A file of somebody as text, held in memory; or a reason for why there is none.
    async fn text(
        &self,
        asker: &Resident,
        owner: &PeerName,
        file: &str,
        variant: Variant,
    ) -> Result<(String, SemaphorePermit<'_>), String> {
        let size = self.size(asker, owner, file).await?;
        let characters_max = variant.file_characters_max();
        // A character has four bytes at most.
        let bytes_max = characters_max.map_or(LEGACY_FILE_BYTES_MAX, |characters| 4 * characters);
        let size = usize::try_from(size).ok().filter(|size| *size <= bytes_max);
        let size = size.ok_or_else(|| too_long(characters_max))?;
        let kib = u32::try_from(size.div_ceil(1_024)).map_err(|error| error.to_string())?;
        let busy = |_| "too many files are under way: try again later".to_owned();
        let held = self.handing_out.held.try_acquire_many(kib).map_err(busy)?;
        let bytes = match timeout(OWNER_PATIENCE, asker.fetch(owner, file)).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(failure)) => return Err(failure.message),
            Err(_) => return Err(format!("{owner} does not send it")),
        };
        let text = String::from_utf8(bytes).map_err(|_| format!("{file} is no text"))?;
        match characters_max {
            Some(characters_max) if text.chars().count() > characters_max => Err(too_long(Some(characters_max))),
            Some(_) | None => Ok((text, held)),
        }
    }

    /// How long a file is that somebody publishes. One that a program of this dialect lists, and that has not come yet, is
    /// fetched now.
    async fn size(&self, asker: &Resident, owner: &PeerName, file: &str) -> Result<u64, String> {
        for is_first in [true, false] {
            let found = asker.files(file).await.map_err(|failure| failure.message)?;
            let is_meant = |found: &&PublishedFile| found.owner == *owner && found.name.as_str() == file;
            if let Some(found) = found.iter().find(is_meant) {
                return Ok(found.size);
            }
            let lists = |resident: &Resident| Kept::of(resident).is_some_and(|kept| kept.lists(file));
            let lister = self.gateway.resident(owner).filter(|resident| resident.dialect() == Dialect::S2);
            let Some(lister) = lister.filter(lists).filter(|_| is_first) else { break };
            let fetched = timeout(OWNER_PATIENCE, self.fetch_listed(&lister, file)).await;
            fetched.map_err(io::Error::from).flatten().map_err(|error| error.to_string())?;
        }
        Err(NO_SUCH_FILE.to_owned())
    }
}

fn too_long(characters_max: Option<usize>) -> String {
    match characters_max {
        Some(characters) => format!("it is longer than {characters} characters"),
        None => format!("it is longer than {LEGACY_FILE_BYTES_MAX} bytes"),
    }
}

/// Sends a file, each chunk when the program at the other end is ready for it.
async fn give(stream: &mut Stream, variant: Variant, number: &Value, file: &str, text: &str) -> io::Result<()> {
    for (message, is_last) in chunks(variant, number, file, text) {
        stream.send(variant, message).await?;
        match variant {
            Variant::A if !is_last => stream.acknowledged().await?,
            // After the last too: the next file may be asked for already.
            Variant::J => tokio::time::sleep(PAUSE_BETWEEN_CHUNKS).await,
            Variant::K | Variant::A => {}
        }
    }
    Ok(())
}
