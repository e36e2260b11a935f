//! Who may in: the proof of a key, and the password where the key is not the account's. What slows down guessing is
//! asked, and counts the try, before anything is hashed.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore, mpsc};

use super::gate::Limits;
use super::hints::Hints;
use super::registry::{Membership, Session};
use super::shared::Shared;
use super::store::{Account, Store, StoreError};
use super::{invitations, other_key};
use crate::clock::now_millis;
use crate::protocol::key_change::KeyRequests;
use crate::protocol::lockout::{Lockout, Try};
use crate::protocol::new_accounts::NewAccounts;
use crate::protocol::password_tries::PasswordTries;
use crate::protocol::source::SourcePrefix;
use crate::seal::identity::{self, Label, login_statement};
use crate::seal::password::{self, PasswordError};
use crate::seal::random::OsRandom;
use crate::transport::connection::Connection;
use crate::wire::account::{LoggedIn, Login, LoginKind};
use crate::wire::directory::DirectoryPush;
use crate::wire::ids::{Epoch, Password, PeerName};
use crate::wire::limits::PUSH_QUEUE_MAX;
use crate::wire::refusal::Refusal;

/// Passwords hashed at a time: each takes a processor and the memory of Argon2.
const HASHES_AT_ONCE: usize = 2;

/// What all logins share.
#[derive(Debug)]
pub(super) struct LoginLimits {
    /// Held while a try is written, so that what is kept has the order in which it happened.
    lockout: tokio::sync::Mutex<Lockout>,
    /// Asked and counted while `lockout` is held.
    password_tries: Mutex<PasswordTries>,
    new_accounts: Mutex<NewAccounts>,
    key_requests: Mutex<KeyRequests>,
    hashing: Arc<Semaphore>,
}

/// A login that was let in.
pub(super) struct Admitted {
    /// Its place among those who are connected.
    pub(super) membership: Membership,
    /// The pushes that wait for it, beside its mailbox.
    pub(super) pushes: mpsc::Receiver<Arc<DirectoryPush>>,
    /// What it is answered.
    pub(super) answer: LoggedIn,
}

/// Whether the account was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AccountIs {
    Known,
    New,
}

impl LoginLimits {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            lockout: tokio::sync::Mutex::default(),
            password_tries: Mutex::default(),
            new_accounts: Mutex::new(NewAccounts::new(limits.new_accounts_per_hour)),
            key_requests: Mutex::default(),
            hashing: Arc::new(Semaphore::new(HASHES_AT_ONCE)),
        }
    }

    /// Goes on from what an earlier process remembered of wrong passwords.
    pub(super) async fn restore(&self, store: &dyn Store) -> Result<(), StoreError> {
        let kept = store.lockout().await?;
        self.lockout.lock().await.restore(kept);
        Ok(())
    }

    /// Counts a try and has it on disk before anybody looks at the password: so neither many tries at once nor a
    /// crash gains one.
    pub(super) async fn begin_try(
        &self,
        store: &dyn Store,
        name: &PeerName,
        source: SourcePrefix,
    ) -> Result<Try, Refusal> {
        let mut lockout = self.lockout.lock().await;
        let now = now_millis();
        self.password_tries().check(source, now)?;
        let tried = lockout.begin_try(name, source, now)?;
        self.password_tries().count(source, now);
        store.keep_lockout(lockout.take_changes()).await?;
        Ok(tried)
    }

    /// Takes a try back whose password was right.
    pub(super) async fn succeeded(&self, store: &dyn Store, tried: Try) -> Result<(), Refusal> {
        let mut lockout = self.lockout.lock().await;
        lockout.succeeded(tried);
        Ok(store.keep_lockout(lockout.take_changes()).await?)
    }

    fn password_tries(&self) -> MutexGuard<'_, PasswordTries> {
        self.password_tries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys that wait for an owner's answer.
    pub(super) fn key_requests(&self) -> MutexGuard<'_, KeyRequests> {
        self.key_requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs Argon2 off the async threads. The permit goes along, so that a caller who gives up does not make room for
    /// a third hash.
    pub(super) async fn hash<R: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<R, PasswordError> + Send + 'static,
    ) -> Result<R, Refusal> {
        let permit = self.hashing.clone().acquire_owned().await.map_err(|_| Refusal::Busy)?;
        let hashed = tokio::task::spawn_blocking(move || {
            let result = job();
            drop(permit);
            result
        });
        match hashed.await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(error)) => {
                tracing::error!(%error, "password not checked");
                Err(Refusal::Busy)
            }
            Err(error) => {
                tracing::error!(%error, "password not checked");
                Err(Refusal::Busy)
            }
        }
    }
}

/// Decides on a login, and brings its session into the registry when it is let in.
pub(super) async fn log_in(
    shared: &Arc<Shared>,
    connection: &Connection,
    mut login: Login,
) -> Result<Admitted, Refusal> {
    prove(shared, connection, &login)?;
    let source = observed(connection).ip();
    let password = login.password.take();
    let account_is = authenticate(shared, source, &login, password).await?;
    let epoch = match login.kind {
        LoginKind::Resident => shared.store.next_epoch(&login.name).await?,
        LoginKind::Errand { .. } => shared.store.epoch(&login.name).await?,
    };
    enter(shared, connection, login, epoch, account_is).await
}

/// Only the holder of the key can have signed for this connection at this directory.
fn prove(shared: &Shared, connection: &Connection, login: &Login) -> Result<(), Refusal> {
    let statement = login_statement(&shared.fingerprint, &login.name, &connection.login_binding());
    identity::verify(&login.key, Label::Login, &statement, &login.proof).map_err(|_| Refusal::BadProof)
}

async fn authenticate(
    shared: &Shared,
    source: IpAddr,
    login: &Login,
    password: Option<Password>,
) -> Result<AccountIs, Refusal> {
    let Some(account) = shared.store.account(&login.name).await? else {
        return register(shared, source, login, password).await;
    };
    if account.key == login.key && account.disabled {
        return Err(Refusal::Disabled);
    }
    if account.key != login.key {
        other_key::bring(shared, source, login, password, account).await?;
    }
    Ok(AccountIs::Known)
}

async fn register(
    shared: &Shared,
    source: IpAddr,
    login: &Login,
    password: Option<Password>,
) -> Result<AccountIs, Refusal> {
    let invitation = invitations::check(shared, login.token.as_ref()).await?;
    if !login.register {
        return Err(Refusal::UnknownName);
    }
    let password = password.ok_or(Refusal::PasswordNeeded)?;
    let limits = &shared.login_limits;
    limits.new_accounts.lock().unwrap_or_else(PoisonError::into_inner).count(SourcePrefix::of(source), now_millis())?;
    let password = limits.hash(move || password::hash(&password, &mut OsRandom)).await?;
    let account = Account {
        name: login.name.clone(),
        key: login.key,
        password,
        created_at: now_millis(),
        disabled: false,
        legacy: false,
    };
    match shared.store.create_account(account, invitation).await.map_err(Refusal::from) {
        Ok(()) => {
            tracing::info!(peer = %login.name, key = %login.key, "account created");
            Ok(AccountIs::New)
        }
        // An earlier attempt of the same key was still being hashed when its connection broke.
        Err(Refusal::NameTaken) => match shared.store.account(&login.name).await? {
            Some(account) if account.key == login.key => Ok(AccountIs::Known),
            Some(_) | None => Err(Refusal::NameTaken),
        },
        Err(refusal) => Err(refusal),
    }
}

async fn enter(
    shared: &Arc<Shared>,
    connection: &Connection,
    login: Login,
    epoch: Epoch,
    account_is: AccountIs,
) -> Result<Admitted, Refusal> {
    let (sender, pushes) = mpsc::channel(PUSH_QUEUE_MAX);
    let session = Session {
        name: login.name,
        key: login.key,
        kind: login.kind,
        epoch,
        connection: connection.clone(),
        since: now_millis(),
        pushes: sender,
        hints: Hints::default(),
        mail: Notify::new(),
        news: AtomicBool::new(true),
        seen_at: Mutex::new(vec![observed(connection)]),
        replaced: AtomicBool::new(false),
    };
    let membership = Membership::enter(shared, session)?;
    // Looked at after entering: a key replaced before this is seen here, one replaced later finds the session there.
    let standing = shared.store.standing(&membership.session.name).await?;
    if standing.key != membership.session.key {
        return Err(Refusal::SessionEnded);
    }
    if standing.disabled {
        return Err(Refusal::Disabled);
    }
    // Now that it is the account's: from here on others see it.
    shared.registry.load_circle(shared.store.as_ref(), &membership.session.name).await?;
    let answer = LoggedIn {
        epoch,
        created: account_is == AccountIs::New,
        observed: observed(connection),
        prekey: standing.prekey,
        waiting: standing.waiting,
        observe: shared.relay.observe(&membership.session),
    };
    Ok(Admitted { membership, pushes, answer })
}

/// A session's address as the directory sees it, IPv4 in its plain form.
pub(super) fn observed(connection: &Connection) -> SocketAddr {
    let address = connection.remote_address();
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
