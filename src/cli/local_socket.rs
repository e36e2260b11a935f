//! One-shot verbs go through the resident peer of the same account and machine, so that none of them takes its session.
//!
//! ```text
//! peer -> verb   {"qchat_socket":1}
//! verb -> peer   one command as JSON
//! peer -> verb   events as JSON, one a line, the last one `done` or `failed`
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use crate::lines;
use crate::peer::event::Event;
use crate::peer::failure::{Failure, FailureKind};
use crate::peer::handle::{Command, PeerHandle};
use crate::storage::profile::{ProfileError, make_private_folder};

/// The version of this protocol.
const VERSION: u32 = 1;
/// A command with as many paths as a shell hands to a program (2 MiB on Linux) fits, as JSON.
const COMMAND_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Verbs that run through one peer at a time.
const CLIENTS_MAX: usize = 64;
/// A verb that says nothing this long after connecting is turned away.
const COMMAND_DEADLINE: Duration = Duration::from_secs(10);

/// The first line.
#[derive(Serialize, Deserialize)]
struct Greeting {
    qchat_socket: u32,
}

/// The listening side. The socket's file is removed when it is dropped.
pub(super) struct LocalSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl LocalSocket {
    /// Listens; the caller holds the profile's lock, so a file that lies there is left over from a crash.
    pub(super) fn bind(path: PathBuf) -> Result<Self, Failure> {
        let failed = |source| ProfileError::File { action: "listen on", path: path.clone(), source };
        if let Some(folder) = path.parent() {
            make_private_folder(folder)?;
        }
        let listener = lines::listen(&path).map_err(failed)?;
        Ok(Self { listener, path })
    }

    /// Serves the verbs of this user until it is dropped.
    pub(super) async fn serve(self, peer: PeerHandle) {
        let mut clients = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if clients.len() < CLIENTS_MAX => match accepted {
                    Ok((stream, _)) if lines::is_same_user(&stream) => { clients.spawn(answer(stream, peer.clone())); }
                    Ok(_) => tracing::warn!("another user tried the local socket"),
                    Err(error) => {
                        tracing::warn!(%error, "the local socket does not accept");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(_) = clients.join_next() => {}
            }
        }
    }
}

impl Drop for LocalSocket {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "the local socket's file was gone already");
        }
    }
}

async fn answer(mut stream: UnixStream, peer: PeerHandle) {
    if let Err(error) = answer_one(&mut stream, &peer).await {
        tracing::debug!(%error, "a verb on the local socket went away");
    }
}

async fn answer_one(stream: &mut UnixStream, peer: &PeerHandle) -> io::Result<()> {
    let (read, mut write) = stream.split();
    lines::write(&mut write, &Greeting { qchat_socket: VERSION }).await?;
    let mut reader = BufReader::new(read.take(COMMAND_BYTES_MAX));
    let command = match tokio::time::timeout(COMMAND_DEADLINE, lines::read::<Command>(&mut reader)).await? {
        Ok(Some(command)) => command,
        Ok(None) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            let failure = Failure::new(FailureKind::Usage, format!("not a command: {error}"));
            return lines::write(&mut write, &Event::Failed { failure }).await;
        }
        Err(error) => return Err(error),
    };
    let mut events = peer.run(command).await;
    while let Some(event) = events.recv().await {
        lines::write(&mut write, &event).await?;
    }
    Ok(())
}

/// A verb's connection to the resident peer.
pub(super) struct LocalPeer {
    stream: BufReader<UnixStream>,
}

impl LocalPeer {
    /// Connects to the resident peer; `None` when none runs here.
    pub(super) async fn connect(path: &Path) -> Result<Option<Self>, Failure> {
        let stream = match UnixStream::connect(path).await {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(source) => return Err(ProfileError::File { action: "reach", path: path.to_owned(), source }.into()),
        };
        if !lines::is_same_user(&stream) {
            let message = format!("the socket {} belongs to another user", path.display());
            return Err(Failure::new(FailureKind::Authentication, message));
        }
        let mut local = Self { stream: BufReader::new(stream) };
        let greeting = tokio::time::timeout(COMMAND_DEADLINE, local.read::<Greeting>()).await.map_err(|_| {
            Failure::new(FailureKind::TimedOut, "the running peer does not answer")
                .hint("is it stopped, or its terminal stuck?")
        })?;
        match greeting? {
            Some(Greeting { qchat_socket: VERSION }) => Ok(Some(local)),
            Some(Greeting { qchat_socket }) => {
                let message = format!("the running peer speaks version {qchat_socket} on its socket, not {VERSION}");
                Err(Failure::new(FailureKind::Other, message).hint("restart it: it is another version of qchat"))
            }
            None => Ok(None),
        }
    }

    /// Gives the one command.
    pub(super) async fn give(&mut self, command: &Command) -> Result<(), Failure> {
        lines::write(self.stream.get_mut(), command).await.map_err(gone)
    }

    /// The next event; `None` when the peer has stopped.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, Failure> {
        self.read().await
    }

    async fn read<T: for<'de> Deserialize<'de>>(&mut self) -> Result<Option<T>, Failure> {
        lines::read(&mut self.stream).await.map_err(gone)
    }
}

fn gone(error: io::Error) -> Failure {
    Failure::new(FailureKind::Other, format!("the running peer went away: {error}"))
}
