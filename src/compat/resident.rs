//! A legacy name that is here: a peer of its own, with its own key, of which the dialects ask what a person would.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, broadcast, mpsc, oneshot, watch};

use super::records::{Contact, Record, Records};
use super::settings::Dialect;
use crate::peer::event::Event;
use crate::peer::failure::{Failure, FailureKind};
use crate::peer::handle::{Command, PeerHandle, Source};
use crate::storage::partial_file::Collision;
use crate::storage::receive_tree::Executable;
use crate::storage::walk::Filter;
use crate::wire::ids::{FileName, MessageId, PeerName, UnixMillis};
use crate::wire::limits::LEGACY_FILE_BYTES_MAX;
use crate::wire::people::Presence;

/// A name as an older program writes it: letters of both cases, digits, dots, dashes and underscores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LegacyName {
    /// As its owner writes it.
    pub(super) spelled: String,
    /// As everybody else knows it.
    pub(super) name: PeerName,
}

impl LegacyName {
    /// Takes a name as it was typed.
    ///
    /// # Errors
    /// A sentence for the dialect's denial.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        match PeerName::parse(text) {
            Ok(name) => Ok(Self { spelled: text.to_owned(), name }),
            Err(error) => Err(Failure::new(FailureKind::Usage, error.to_string())),
        }
    }
}

/// A resident of the gateway. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Resident(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) name: LegacyName,
    /// Of its peer, until that ends: who still holds a resident that has left does not hold its profile.
    pub(super) handle: Mutex<Option<PeerHandle>>,
    /// What is kept of it; written through [`Resident::change`].
    pub(super) record: Mutex<Record>,
    pub(super) records: Records,
    /// Held while the record is written, so that the disk has the last word.
    pub(super) writing: tokio::sync::Mutex<()>,
    /// Where its files lie.
    pub(super) folder: PathBuf,
    /// Files in memory, of the whole gateway.
    pub(super) files: Arc<Semaphore>,
    /// Ends its peer when it is dropped or used.
    pub(super) stop: Mutex<Option<oneshot::Sender<()>>>,
    /// Whether its peer has ended.
    pub(super) ended: watch::Receiver<bool>,
}

/// What became of a message when its sender has waited long enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// Its recipient has it.
    Delivered,
    /// It waits for its recipient, safely.
    Waits,
}

/// Somebody who is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Person {
    pub(super) name: PeerName,
    pub(super) presence: Presence,
}

/// A file that somebody publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PublishedFile {
    pub(super) owner: PeerName,
    pub(super) name: FileName,
    pub(super) size: u64,
    pub(super) is_online: bool,
}

/// A message that its owner has not seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mail {
    pub(super) from: PeerName,
    pub(super) id: MessageId,
    pub(super) sent_at: UnixMillis,
    pub(super) text: String,
}

impl Resident {
    /// The name as everybody knows it.
    pub(super) fn name(&self) -> &PeerName {
        &self.0.name.name
    }

    /// The name as its owner writes it.
    pub(super) fn spelled(&self) -> &str {
        &self.0.name.spelled
    }

    /// Which programs it uses.
    pub(super) fn dialect(&self) -> Dialect {
        self.record().dialect
    }

    /// Where it is reached.
    pub(super) fn contact(&self) -> Contact {
        self.record().contact
    }

    /// From where it speaks.
    pub(super) fn source(&self) -> IpAddr {
        self.record().contact.ip
    }

    /// What its dialect remembers of it.
    pub(super) fn extra(&self) -> serde_json::Value {
        self.record().extra.clone()
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.0.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is kept of it, on disk too.
    ///
    /// # Errors
    /// A [`Failure`] when the disk does not take it: then the change is undone.
    pub(super) async fn change(&self, change: impl FnOnce(&mut Record)) -> Result<(), Failure> {
        let writing = self.0.writing.lock().await;
        let before = self.record().clone();
        let mut after = before.clone();
        change(&mut after);
        if after != before {
            self.0.records.put(self.name(), &after).await?;
            *self.record() = after;
        }
        drop(writing);
        Ok(())
    }

    /// Everything that happens to it from now on. A message is told again until [`Self::shown`].
    pub(super) fn events(&self) -> broadcast::Receiver<Event> {
        // Of somebody who has left nothing is heard: the channel is closed.
        self.handle().map_or_else(|_| broadcast::channel(1).1, |handle| handle.events())
    }

    fn handle(&self) -> Result<PeerHandle, Failure> {
        let handle = self.0.handle.lock().unwrap_or_else(PoisonError::into_inner).clone();
        handle.ok_or_else(|| Failure::new(FailureKind::Offline, format!("{} has left", self.spelled())))
    }

    /// Anything that a person could ask of a peer.
    ///
    /// # Errors
    /// The [`Failure`] that ended it, a sentence for people.
    pub(super) async fn ask(&self, command: Command) -> Result<Vec<Event>, Failure> {
        self.handle()?.ask(command).await
    }

    /// Gives a command; the last event that comes back is [`Event::Done`] or [`Event::Failed`].
    ///
    /// # Errors
    /// A [`Failure`] when its owner has left.
    pub(super) async fn run(&self, command: Command) -> Result<mpsc::Receiver<Event>, Failure> {
        Ok(self.handle()?.run(command).await)
    }

    /// Says something to somebody, and waits so long for them to have it.
    ///
    /// # Errors
    /// A [`Failure`] when it will not arrive.
    pub(super) async fn say(&self, to: &PeerName, text: &str, patience: Duration) -> Result<Said, Failure> {
        let mut events = self.events();
        let rows = self.ask(Command::Message { to: to.clone(), text: text.to_owned() }).await?;
        let mut sent = None;
        for row in rows {
            match row {
                Event::Delivered { .. } | Event::Read { .. } => return Ok(Said::Delivered),
                Event::Stored { id, .. } | Event::Queued { id, .. } => sent = Some(id),
                _ => {}
            }
        }
        let arrival = async {
            loop {
                match events.recv().await {
                    Ok(Event::Delivered { id, .. } | Event::Read { id, .. }) if Some(id) == sent => {
                        return Ok(Said::Delivered);
                    }
                    Ok(Event::NotSent { id, failure, .. }) if Some(id) == sent => return Err(failure),
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return Ok(Said::Waits),
                }
            }
        };
        tokio::time::timeout(patience, arrival).await.unwrap_or(Ok(Said::Waits))
    }

    /// Says something to everyone; whether everyone hears it.
    ///
    /// # Errors
    /// A [`Failure`], for instance when it is said too often.
    pub(super) async fn announce(&self, text: &str) -> Result<bool, Failure> {
        let rows = self.ask(Command::Broadcast { text: text.to_owned() }).await?;
        Ok(rows.iter().any(|row| matches!(row, Event::Announced { to_everyone: true })))
    }

    /// Who is here, as this name may see it, itself included.
    ///
    /// # Errors
    /// A [`Failure`] when the directory does not answer.
    pub(super) async fn people(&self) -> Result<Vec<Person>, Failure> {
        let rows = self.ask(Command::Who { recent: false, pattern: String::new() }).await?;
        Ok(rows
            .into_iter()
            .filter_map(|row| match row {
                Event::Person { name, presence, .. } => Some(Person { name, presence }),
                _ => None,
            })
            .collect())
    }

    /// The files that this name can find, by a part of their name.
    ///
    /// # Errors
    /// A [`Failure`] when the directory does not answer.
    pub(super) async fn files(&self, pattern: &str) -> Result<Vec<PublishedFile>, Failure> {
        let rows = self.ask(Command::Find { pattern: pattern.to_owned() }).await?;
        Ok(rows
            .into_iter()
            .filter_map(|row| match row {
                // Older programs have no folders.
                Event::Found { files: Some(_), .. } => None,
                Event::Found { owner, online, name, size, .. } => {
                    Some(PublishedFile { owner, name, size, is_online: online })
                }
                _ => None,
            })
            .collect())
    }

    /// Publishes a file to everyone, through the gateway: it goes on being served while the name is here.
    ///
    /// # Errors
    /// A [`Failure`] when it is too large or the disk or the directory do not take it.
    pub(super) async fn publish(&self, name: &str, bytes: Vec<u8>) -> Result<(), Failure> {
        let name = FileName::parse(name).map_err(|error| Failure::new(FailureKind::Usage, error.to_string()))?;
        if bytes.len() > LEGACY_FILE_BYTES_MAX {
            return Err(Failure::new(
                FailureKind::Quota,
                format!("{name} is larger than {LEGACY_FILE_BYTES_MAX} bytes"),
            ));
        }
        let path = super::files::write(self.0.folder.clone(), name, bytes).await?;
        // Nobody's own address is in it: the gateway's host is the directory's.
        self.ask(Command::Share { path, hides_address: false, filter: Filter::default() }).await?;
        Ok(())
    }

    /// Takes a published file back.
    ///
    /// # Errors
    /// A [`Failure`] when there is no such file.
    pub(super) async fn unpublish(&self, name: &str) -> Result<(), Failure> {
        let name = FileName::parse(name).map_err(|error| Failure::new(FailureKind::Usage, error.to_string()))?;
        self.ask(Command::Unshare { name: name.clone() }).await?;
        super::files::remove(self.0.folder.clone(), name).await
    }

    /// The names of what it publishes.
    ///
    /// # Errors
    /// A [`Failure`] when the profile cannot be read.
    pub(super) async fn published(&self) -> Result<Vec<FileName>, Failure> {
        let rows = self.ask(Command::Shared).await?;
        let name = |row| if let Event::Shared { name, .. } = row { Some(name) } else { None };
        Ok(rows.into_iter().filter_map(name).collect())
    }

    /// Fetches a published file of somebody, verified.
    ///
    /// # Errors
    /// A [`Failure`] that says why not.
    pub(super) async fn fetch(&self, owner: &PeerName, name: &str) -> Result<Vec<u8>, Failure> {
        let name = FileName::parse(name).map_err(|error| Failure::new(FailureKind::Usage, error.to_string()))?;
        let found = self.files(name.as_str()).await?;
        let Some(file) = found.iter().find(|file| file.owner == *owner && file.name == name) else {
            return Err(Failure::new(FailureKind::Other, format!("{owner} shares no file named {name}")));
        };
        if file.size > u64::try_from(LEGACY_FILE_BYTES_MAX).unwrap_or(u64::MAX) {
            return Err(Failure::new(
                FailureKind::Quota,
                format!("{name} is larger than {LEGACY_FILE_BYTES_MAX} bytes"),
            ));
        }
        let _in_memory = self.0.files.acquire().await.map_err(|_| Failure::new(FailureKind::Other, "it stops"))?;
        let folder = super::files::scratch().await?;
        let source = Source::Named { owner: owner.clone(), name };
        let (folder_path, collision, executable) = (folder.path().to_owned(), Collision::Refuse, Executable::Never);
        let rows = self.ask(Command::Get { source, folder: folder_path, collision, executable, once: true }).await?;
        let path = rows.into_iter().find_map(|row| match row {
            Event::Received { path, .. } => Some(path),
            _ => None,
        });
        let path = path.ok_or_else(|| Failure::new(FailureKind::Other, "the file did not come"))?;
        super::files::read(folder, path).await
    }

    /// The messages that its owner has not seen, oldest first.
    ///
    /// # Errors
    /// A [`Failure`] when the profile cannot be read.
    pub(super) async fn mail(&self) -> Result<Vec<Mail>, Failure> {
        let waiting = self.handle()?.not_shown().await?;
        Ok(waiting
            .into_iter()
            .filter_map(|(event, _)| match event {
                Event::Message { from, id, sent_at, text, .. } => Some(Mail { from, id, sent_at, text }),
                _ => None,
            })
            .collect())
    }

    /// Whom this name has talked to.
    ///
    /// # Errors
    /// A [`Failure`] when the profile cannot be read.
    pub(super) async fn contacts(&self) -> Result<Vec<PeerName>, Failure> {
        self.handle()?.contacts().await
    }

    /// Notes that a message is about to be shown; `false` when it was shown already.
    ///
    /// # Errors
    /// A [`Failure`] when the profile cannot be written.
    pub(super) async fn begin_showing(&self, id: MessageId) -> Result<bool, Failure> {
        self.handle()?.begin_showing(id).await
    }

    /// Notes that its owner has got a message.
    ///
    /// # Errors
    /// A [`Failure`] when the profile cannot be written.
    pub(super) async fn shown(&self, id: MessageId) -> Result<(), Failure> {
        self.handle()?.mark_shown(id).await
    }

    /// What is kept of it.
    pub(super) fn record_now(&self) -> Record {
        self.record().clone()
    }

    /// Whether it is this very resident, and not one that came later under its name.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether its peer has ended.
    pub(super) fn has_ended(&self) -> bool {
        *self.0.ended.borrow()
    }

    /// Waits until its peer has ended.
    pub(super) async fn gone(&self) {
        let mut ended = self.0.ended.clone();
        // A sender that is gone has ended too.
        drop(ended.wait_for(|ended| *ended).await);
    }

    /// Ends its peer, in good order.
    pub(super) fn stop(&self) {
        drop(self.0.handle.lock().unwrap_or_else(PoisonError::into_inner).take());
        drop(self.0.stop.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
