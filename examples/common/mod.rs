//! What the examples share: a directory and peers within one program, on 127.0.0.1 and in a folder that is removed.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use qchat::directory::server::{Directory, Settings};
use qchat::peer::context::{Account, PathChoice};
use qchat::peer::directory_link::Admission;
use qchat::peer::driver::Peer;
use qchat::peer::event::Event;
use qchat::peer::handle::PeerHandle;
use qchat::seal::random::OsRandom;
use qchat::storage::profile::{Home, Profile};
use qchat::transport::tuning::Network;
use qchat::wire::account::LoginKind;
use qchat::wire::ids::{DirectoryFingerprint, Password, PeerName};
use tempfile::TempDir;
use tokio::sync::{broadcast, oneshot};
use tokio::task::JoinSet;

/// A task that runs until its sender is dropped.
struct Running {
    stop: oneshot::Sender<()>,
    task: JoinSet<Result<()>>,
}

/// A directory that runs within this program.
pub(crate) struct LocalDirectory {
    address: SocketAddr,
    fingerprint: DirectoryFingerprint,
    running: Running,
    folder: TempDir,
}

/// A peer that runs within this program.
pub(crate) struct LocalPeer {
    /// To give it commands and hear its events.
    pub(crate) handle: PeerHandle,
    running: Running,
}

impl LocalDirectory {
    /// Starts a directory on a free port.
    pub(crate) fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let directory = Directory::start(Settings {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            certificate_folder: folder.path().join("certificate"),
            data: folder.path().join("data"),
            admission: Default::default(),
            limits: Default::default(),
            network: Network::default(),
            relay: Default::default(),
        })?;
        let (address, fingerprint) = (directory.local_address(), directory.fingerprint());
        let (stop, stopped) = oneshot::channel::<()>();
        let mut task = JoinSet::new();
        task.spawn(async { Ok(directory.run(async { drop(stopped.await) }).await?) });
        Ok(Self { address, fingerprint, running: Running { stop, task }, folder })
    }

    /// Makes an account with a new key, and starts its peer.
    pub(crate) async fn peer(&self, name: &str) -> Result<LocalPeer> {
        let name = PeerName::parse(name)?;
        let home = Home::at(self.folder.path().join("people"));
        let profile = Profile::open(&home, self.fingerprint, &name, &mut OsRandom)?;
        let directory = self.address.into();
        let account = Account {
            name,
            directory,
            fingerprint: self.fingerprint,
            kind: LoginKind::Resident,
            collects_mail: true,
            sends_read_receipts: true,
            paths: PathChoice::Any,
        };
        let admission = Admission {
            password: Some(Password::parse("correct horse battery staple")?),
            register: true,
            ..Admission::default()
        };
        let peer = Peer::start(account, Arc::new(profile), &admission, Network::default()).await?;
        let handle = peer.handle();
        let (stop, stopped) = oneshot::channel::<()>();
        let mut task = JoinSet::new();
        task.spawn(async { Ok(peer.run(async { drop(stopped.await) }).await?) });
        Ok(LocalPeer { handle, running: Running { stop, task } })
    }

    /// Stops the directory and removes everything.
    pub(crate) async fn stop(self) -> Result<()> {
        self.running.stop().await?;
        Ok(self.folder.close()?)
    }
}

impl LocalPeer {
    /// Logs out and stops.
    pub(crate) async fn leave(self) -> Result<()> {
        self.running.stop().await
    }
}

impl Running {
    async fn stop(mut self) -> Result<()> {
        drop(self.stop);
        self.task.join_next().await.context("nothing was running")??
    }
}

/// Waits for the first event that `wanted` makes something of.
pub(crate) async fn hear<T>(events: &mut broadcast::Receiver<Event>, wanted: impl Fn(Event) -> Option<T>) -> Result<T> {
    let heard = async {
        loop {
            if let Some(found) = wanted(events.recv().await?) {
                return Ok(found);
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), heard).await.context("nothing was heard within 30 s")?
}
