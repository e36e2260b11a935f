//! Fetches the files on a name's list from the program that listed them, once, so that everybody else can have them.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Service;
use super::kept::{self, Kept};
use super::streams::{PATIENCE, Stream, malformed};
use crate::compat::dialect::s2::frames::ACKNOWLEDGEMENT;
use crate::compat::dialect::s2::transfers::{Content, Transfer, download};
use crate::compat::dialect::s2::{Malformed, Variant};
use crate::compat::resident::Resident;
use crate::compat::turns::Turns;
use crate::wire::ids::PeerName;
use crate::wire::limits::{LEGACY_FILE_BYTES_MAX, LEGACY_FILES_AT_ONCE};

/// When a program that could not be asked is asked again, beside its own next request.
const RETRIES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30), Duration::from_secs(120)];

/// How soon its own requests make it be asked again: every request costs it a connection otherwise.
const PAUSE: Duration = Duration::from_secs(1);

/// How long one file may take: J sends 2,000 characters in a second, so this is a text of 1.2 million.
const FILE_PATIENCE: Duration = Duration::from_secs(600);

/// Files of one machine that are fetched at a time, so that a slow one leaves room for others.
const PER_SOURCE_MAX: usize = 2;

/// Whose files are being fetched, and how to make the fetcher try again at once.
#[derive(Debug)]
pub(super) struct Fetching {
    running: Mutex<HashMap<PeerName, mpsc::Sender<()>>>,
    turns: Turns,
}

impl Fetching {
    pub(super) fn new() -> Self {
        Self { running: Mutex::default(), turns: Turns::new(LEGACY_FILES_AT_ONCE, PER_SOURCE_MAX) }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<PeerName, mpsc::Sender<()>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a name's files again. `None` when its fetcher runs already.
    pub(super) fn wake(&self, name: &PeerName) -> Option<mpsc::Receiver<()>> {
        let mut running = self.running();
        if let Some(fetcher) = running.get(name) {
            if fetcher.try_send(()).is_err() {
                tracing::trace!(%name, "its fetcher is awake");
            }
            return None;
        }
        let (fetcher, woken) = mpsc::channel(1);
        running.insert(name.clone(), fetcher);
        Some(woken)
    }

    /// Ends a fetcher, unless it was woken in the meantime.
    fn ends(&self, name: &PeerName, woken: &mut mpsc::Receiver<()>) -> bool {
        let mut running = self.running();
        let ends = woken.try_recv().is_err();
        if ends {
            running.remove(name);
        }
        ends
    }
}

impl Service {
    /// Fetches what a name lists and the gateway does not have; for a program that cannot be asked again and again.
    pub(super) async fn collect(self: Arc<Self>, resident: Resident, mut woken: mpsc::Receiver<()>) {
        let mut retries = RETRIES.into_iter();
        loop {
            let is_complete = self.fetch_missing(&resident).await || resident.has_ended();
            let delay = if is_complete { None } else { retries.next() };
            let Some(delay) = delay else {
                if self.fetching.ends(resident.name(), &mut woken) {
                    return;
                }
                retries = RETRIES.into_iter();
                continue;
            };
            let pause = async {
                tokio::time::sleep(PAUSE).await;
                drop(timeout(delay.saturating_sub(PAUSE), woken.recv()).await);
            };
            tokio::select! { () = pause => {}, () = resident.gone() => {} }
        }
    }

    /// Whether nothing is missing any more.
    async fn fetch_missing(&self, resident: &Resident) -> bool {
        let missing = Kept::of(resident).map(|kept| kept.missing()).unwrap_or_default();
        let mut is_complete = true;
        for file in missing {
            if resident.has_ended() {
                return true;
            }
            if let Err(error) = self.fetch_listed(resident, &file).await {
                tracing::info!(name = %resident.name(), %error, "a listed file could not be fetched");
                is_complete = false;
            }
        }
        is_complete
    }

    /// Fetches a file on a name's list and publishes it as theirs, if it is still on the list then.
    pub(super) async fn fetch_listed(&self, resident: &Resident, file: &str) -> io::Result<()> {
        let Some(kept) = Kept::of(resident) else { return Ok(()) };
        // Whoever leaves may come back at once, and nothing of them must be left here then.
        let text = tokio::select! {
            text = self.fetch_in_turn(resident, kept.variant, file) => text?,
            () = resident.gone() => return Ok(()),
        };
        let still_listed = || Kept::of(resident).is_some_and(|kept| kept.lists(file));
        if !still_listed() {
            return Ok(());
        }
        resident.publish(file, text.into_bytes()).await.map_err(io::Error::other)?;
        kept::change(resident, |kept| kept.arrived(file)).await.map_err(io::Error::other)?;
        // It may have been taken off the list meanwhile, when there was nothing to take back yet.
        if !still_listed() {
            resident.unpublish(file).await.map_err(io::Error::other)?;
        }
        Ok(())
    }

    async fn fetch_in_turn(&self, resident: &Resident, variant: Variant, file: &str) -> io::Result<String> {
        let contact = resident.contact();
        let at = SocketAddr::new(contact.ip, contact.tcp.ok_or(io::ErrorKind::AddrNotAvailable)?);
        let _turn = loop {
            match self.fetching.turns.take(contact.ip) {
                Some(turn) => break turn,
                None => tokio::time::sleep(PAUSE).await,
            }
        };
        timeout(FILE_PATIENCE, fetch(at, variant, file)).await?
    }
}

/// Fetches a file from a program of some kind.
async fn fetch(at: SocketAddr, variant: Variant, file: &str) -> io::Result<String> {
    let tcp = timeout(PATIENCE, TcpStream::connect(at)).await??;
    let mut stream = Stream::new(tcp)?;
    stream.send(variant, download(variant, &1.into(), file)).await?;
    let mut text = String::new();
    loop {
        let message = stream.message().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let Transfer { variant: says, content, .. } = Transfer::parse(&message).map_err(malformed)?;
        match content {
            Content::Chunk { text: part, is_last } if says == variant => {
                // Every chunk brings it nearer to its end, and there is one.
                if part.is_empty() && !is_last || text.len() + part.len() > LEGACY_FILE_BYTES_MAX {
                    return Err(malformed(Malformed));
                }
                text.push_str(&part);
                if is_last {
                    return Ok(text);
                }
                if variant == Variant::A {
                    stream.send_plain(ACKNOWLEDGEMENT).await?;
                }
            }
            Content::Refused { reason } => return Err(io::Error::other(reason)),
            Content::Chunk { .. } | Content::Download { .. } | Content::Other => return Err(malformed(Malformed)),
        }
    }
}
