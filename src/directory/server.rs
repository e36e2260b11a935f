//! The directory as a service: its folder, its certificate, its endpoint, and the loop that accepts connections.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use super::dials::Dials;
use super::gate::{Address, Gate, Limits, Verdict};
use super::invitations::{self, Admission};
use super::legacy::LegacyAccounts;
use super::login::LoginLimits;
use super::other_key::undo_since;
use super::people::People;
use super::registry::{Registry, Waits};
use super::relay::{Relay, RelayPortError, RelaySettings};
use super::session;
use super::shared::Shared;
use super::store::StoreError;
use super::store::sqlite::SqliteStore;
use super::{admin, presence};
use crate::clock::now_millis;
use crate::database::DatabaseError;
use crate::lines;
use crate::transport::certificate::{CertificateError, DirectoryCertificate};
use crate::transport::connection::TransportError;
use crate::transport::endpoint::{Endpoint, Incoming};
use crate::transport::tuning::Network;
use crate::wire::ids::{DirectoryFingerprint, InviteToken, UnixMillis};
use crate::wire::limits::{DELETED_NAME_DAYS, MAILBOX_DAYS};
use crate::wire::refusal::CloseCode;

/// How often envelopes that nobody has fetched are looked for.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(3_600);

/// Envelopes that one transaction gives back to their senders.
const EXPIRED_AT_ONCE: usize = 256;

const DAY_MILLIS: u64 = 24 * 3_600_000;

/// What a directory needs to know to start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen; port 0 takes any that is free.
    pub listen: SocketAddr,
    /// Where `cert.pem` and `key.pem` are, or will be made.
    pub certificate_folder: PathBuf,
    /// Where everything else is kept: one folder for one directory.
    pub data: PathBuf,
    /// Whether strangers may make accounts.
    pub admission: Admission,
    /// What strangers may cost.
    pub limits: Limits,
    /// How to use the network.
    pub network: Network,
    /// What is relayed, and where.
    pub relay: RelaySettings,
}

/// Why a directory does not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// A file or folder cannot be made.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// "create" or "lock".
        action: &'static str,
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The data folder is taken.
    #[error("another qchat serve uses {path}")]
    InUse {
        /// The data folder.
        path: PathBuf,
    },
    /// There is no usable certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// What the database holds cannot be read.
    #[error("the database cannot be read: {0}")]
    Store(#[from] StoreError),
    /// SIGHUP cannot be caught.
    #[error("cannot listen for SIGHUP: {0}")]
    Signal(#[source] io::Error),
    /// The network cannot be used.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The relay cannot listen.
    #[error(transparent)]
    RelayPort(#[from] RelayPortError),
    /// The operating system does not say where the socket is bound.
    #[error("cannot read the address of the socket on {listen}: {source}")]
    LocalAddress {
        /// The address that was asked for.
        listen: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The socket was lost.
    #[error("the socket on {address} was closed")]
    EndpointLost {
        /// Where it was bound.
        address: SocketAddr,
    },
}

/// A directory that listens, and accepts connections while [`Directory::run`] does.
pub struct Directory {
    pub(super) shared: Arc<Shared>,
    endpoint: Endpoint,
    address: SocketAddr,
    gate: Gate,
    certificate_folder: PathBuf,
    admin: UnixListener,
    admin_path: PathBuf,
    /// Keeps the data folder locked.
    lock: File,
}

impl Directory {
    /// Takes the data folder and the socket. Blocks for a few files; needs a tokio runtime.
    ///
    /// # Errors
    /// [`DirectoryError`] names what cannot be had and why.
    pub fn start(settings: Settings) -> Result<Self, DirectoryError> {
        let Settings { listen, certificate_folder, data, admission, limits, network, relay } = settings;
        let lock = lock_folder(&data)?;
        let store = SqliteStore::open(&data.join("directory.sqlite"))?;
        let certificate = DirectoryCertificate::load_or_create(&certificate_folder)?;
        let endpoint = listen_at(listen, &certificate, network)?;
        let admin_path = data.join(admin::SOCKET);
        let admin = lines::listen(&admin_path).map_err(|source| DirectoryError::File {
            action: "listen on",
            path: admin_path.clone(),
            source,
        })?;
        let address = endpoint.local_address().map_err(|source| DirectoryError::LocalAddress { listen, source })?;
        let relay = Arc::new(Relay::bind(address, listen.port(), relay, network)?);
        let shared = Shared {
            fingerprint: certificate.fingerprint(),
            admission,
            store: Box::new(store),
            registry: Registry::default(),
            login_limits: LoginLimits::new(limits),
            heard: Default::default(),
            dials: Dials::default(),
            people: People::default(),
            relay,
        };
        Ok(Self {
            shared: Arc::new(shared),
            endpoint,
            address,
            gate: Gate::new(limits),
            certificate_folder,
            admin,
            admin_path,
            lock,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// The UDP ports at which it relays; none when it does not.
    #[must_use]
    pub fn relay_ports(&self) -> Vec<u16> {
        self.shared.relay.ports()
    }

    /// What peers pin.
    #[must_use]
    pub fn fingerprint(&self) -> DirectoryFingerprint {
        self.shared.fingerprint
    }

    /// By which the gateway in this process makes its accounts.
    #[must_use]
    pub fn legacy_accounts(&self) -> LegacyAccounts {
        LegacyAccounts::new(self.shared.clone())
    }

    /// An invitation for the operator, while nobody has an account at a directory that wants invitations.
    ///
    /// # Errors
    /// [`DirectoryError::Store`] when it cannot be kept.
    pub async fn first_invitation(&self) -> Result<Option<InviteToken>, DirectoryError> {
        let is_wanted =
            self.shared.admission == Admission::InviteOnly && self.shared.store.accounts_of_people().await? == 0;
        if !is_wanted {
            return Ok(None);
        }
        let (token, _) = invitations::invite(&self.shared, None).await.map_err(StoreError::Refused)?;
        Ok(Some(token))
    }

    /// The IP address that others most likely reach this directory at: its own, or the one that packets leave from.
    #[must_use]
    pub fn reachable_ip(&self) -> IpAddr {
        let own = self.address.ip();
        if !own.is_unspecified() {
            return own;
        }
        // Nothing is sent: an address of a documentation network (RFC 5737, RFC 3849) selects the route. Both families
        // are listened to at the unspecified IPv6 address, and more people have IPv4.
        let far = [SocketAddr::from(([192, 0, 2, 1], 9)), SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 9))];
        let families = if own.is_ipv4() { &far[..1] } else { &far[..] };
        let found = families.iter().find_map(|far| self.endpoint.local_address_towards(*far).ok());
        found.map_or(own, |address| address.ip())
    }

    /// Where others most likely reach it.
    fn reachable(&self) -> SocketAddr {
        SocketAddr::new(self.reachable_ip(), self.address.port())
    }

    /// Accepts connections until `stop` resolves; then closes them, waits for their tasks and closes the database.
    ///
    /// # Errors
    /// [`DirectoryError::EndpointLost`] when the socket fails before that, [`DirectoryError::Store`] when what must be
    /// known before anybody is let in cannot be read.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), DirectoryError> {
        let (mut tasks, mut relaying) = (JoinSet::new(), JoinSet::new());
        self.shared.relay.start(&mut relaying);
        let result = match self.restore().await {
            Ok(()) => {
                let (accept, reachable) = (self.accept_until(stop, &mut tasks), self.reachable());
                tokio::select! {
                    result = accept => result,
                    () = admin::serve(&self.admin, self.shared.clone(), reachable) => Ok(()),
                    () = report_panics(&mut relaying) => Ok(()),
                }
            }
            Err(error) => Err(error.into()),
        };
        self.endpoint.close(CloseCode::ShuttingDown);
        while let Some(ended) = tasks.join_next().await {
            report_panic(ended);
        }
        relaying.shutdown().await;
        self.endpoint.wait_closed().await;
        self.shared.store.close().await;
        if let Err(error) = fs::remove_file(&self.admin_path) {
            tracing::debug!(%error, "the administration's socket was gone already");
        }
        drop(self.lock);
        result
    }

    /// Goes on from what an earlier process has kept.
    async fn restore(&self) -> Result<(), StoreError> {
        self.shared.login_limits.restore(self.shared.store.as_ref()).await?;
        presence::restore(&self.shared).await
    }

    async fn accept_until(
        &self,
        stop: impl Future<Output = ()>,
        tasks: &mut JoinSet<()>,
    ) -> Result<(), DirectoryError> {
        let mut stop = pin!(stop);
        let mut hangup = signal(SignalKind::hangup()).map_err(DirectoryError::Signal)?;
        let mut expiry = tokio::time::interval(EXPIRY_INTERVAL);
        loop {
            tokio::select! {
                () = &mut stop => return Ok(()),
                Some(()) = hangup.recv() => self.renew_certificate(),
                incoming = self.endpoint.accept() => match incoming {
                    Some(incoming) => self.decide(incoming, tasks),
                    None => return Err(DirectoryError::EndpointLost { address: self.address }),
                },
                Some(ended) = tasks.join_next() => report_panic(ended),
                _ = expiry.tick() => {
                    tasks.spawn(expire(self.shared.clone()));
                }
            }
        }
    }

    /// Reads the certificate again. Peers pin its key, and logins are signed for it, so it must be of the same key; one
    /// that is not, or that cannot be used, is reported and the one before stays.
    fn renew_certificate(&self) {
        let renewed = DirectoryCertificate::reload(&self.certificate_folder);
        match renewed {
            Ok(new) if new.fingerprint() != self.shared.fingerprint => {
                tracing::error!(found = %new.fingerprint(), "the new certificate has another key: restart to change it");
            }
            Ok(new) => match self.endpoint.renew_certificate(&new) {
                Ok(()) => tracing::info!("certificate renewed"),
                Err(error) => tracing::error!(%error, "the new certificate cannot be used, the old one stays"),
            },
            Err(error) => tracing::error!(%error, "the new certificate cannot be used, the old one stays"),
        }
    }

    /// Lets a newcomer in, asks it to prove its address, or turns it away.
    fn decide(&self, incoming: Incoming, tasks: &mut JoinSet<()>) {
        let source = incoming.remote_address();
        let proof = if incoming.is_validated() { Address::Proven } else { Address::Claimed };
        match self.gate.ask(source.ip(), proof) {
            Verdict::Welcome(stranger) => {
                tasks.spawn(session::run(self.shared.clone(), incoming, stranger));
            }
            Verdict::ProveAddress => incoming.ask_to_prove_address(),
            Verdict::TurnAway => {
                tracing::debug!(%source, "too many connections without a login");
                incoming.refuse();
            }
        }
    }
}

/// Opens the endpoint; where the system has no IPv6, at every IPv4 address instead of every address.
fn listen_at(
    listen: SocketAddr,
    certificate: &DirectoryCertificate,
    network: Network,
) -> Result<Endpoint, TransportError> {
    match Endpoint::directory(listen, certificate, network) {
        Err(TransportError::Bind { source, .. })
            if listen.is_ipv6() && listen.ip().is_unspecified() && is_without_family(&source) =>
        {
            tracing::info!(%source, "no IPv6 here: listening on IPv4 only");
            Endpoint::directory(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), listen.port()), certificate, network)
        }
        opened => opened,
    }
}

/// Whether a socket failed because the system does not know its family of addresses, or has none of it.
fn is_without_family(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL].iter().any(|without| code == Some(without.raw_os_error()))
}

/// Makes the data folder for its owner only, and locks it for this process.
fn lock_folder(data: &Path) -> Result<File, DirectoryError> {
    let failed = |action, path: &Path, source| DirectoryError::File { action, path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(|source| failed("create", data, source))?;
    let path = data.join("lock");
    let lock = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|source| failed("create", &path, source))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(DirectoryError::InUse { path: data.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed("lock", &path, source)),
    }
}

/// Forgets what was kept for long enough: envelopes that nobody fetched, sources that tried no password for a day. And
/// notes who is here.
async fn expire(shared: Arc<Shared>) {
    presence::note_seen(&shared, shared.registry.residents()).await;
    let days_ago = |days: u64| UnixMillis(now_millis().0.saturating_sub(days * DAY_MILLIS));
    expire_envelopes(&shared, days_ago(MAILBOX_DAYS)).await;
    report_expired("receipts", shared.store.expire_receipts(days_ago(MAILBOX_DAYS)).await);
    report_expired("returned messages", shared.store.expire_returned(days_ago(MAILBOX_DAYS)).await);
    report_expired("replaced keys", shared.store.expire_key_changes(undo_since(now_millis())).await);
    report_expired("invitations", shared.store.expire_invitations(now_millis()).await);
    report_expired("deleted names", shared.store.expire_deleted_names(days_ago(DELETED_NAME_DAYS)).await);
    report_expired("grants", shared.store.expire_grants(now_millis()).await);
    report_expired("wrong passwords", shared.store.expire_lockout(days_ago(1)).await);
}

/// Gives what nobody fetched back to its senders, some at a time so that nobody waits long for the store.
async fn expire_envelopes(shared: &Shared, before: UnixMillis) {
    loop {
        let expired = shared.store.expire_envelopes(before, EXPIRED_AT_ONCE, now_millis()).await;
        let is_last = !matches!(&expired, Ok(expired) if expired.count == EXPIRED_AT_ONCE);
        for sender in expired.iter().flat_map(|expired| &expired.senders) {
            shared.registry.wake(sender, Waits::News);
        }
        report_expired("envelopes", expired.map(|expired| expired.count));
        if is_last {
            return;
        }
    }
}

fn report_expired(what: &'static str, expired: Result<usize, StoreError>) {
    match expired {
        Ok(0) => {}
        Ok(count) => tracing::info!(what, count, "expired"),
        Err(error) => tracing::error!(what, %error, "not expired"),
    }
}

async fn report_panics(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        report_panic(ended);
    }
}

fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a task failed");
    }
}
