//! Who of the older programs' users is here. Each of them is a peer of its own, with a key and a profile that the gateway
//! keeps, so that everything else is as for anybody: sight, blocks, mail, files.
//!
//! ```text
//! (unknown, or gone) --enter--> arriving --logged in--> here --leave, or its peer ends--> leaving --> gone
//!                                   \--refused---------------------------------------------------^
//! ```

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::credentials::Credentials;
use super::door::SharedDoor;
use super::names::{Claim, Names, NotIn};
use super::ports::Ports;
use super::records::{Contact, Record, Records};
use super::resident::{Inner, LegacyName, Resident};
use super::settings::{CompatSettings, Dialect};
use super::tries::{Tries, Verdict};
use super::turns::{Turn, Turns};
use crate::clock::now_millis;
use crate::peer::context::{Account, PathChoice};
use crate::peer::directory_link::{Admission, DirectoryAddress, LoginFailure};
use crate::peer::driver::Peer;
use crate::peer::event::Event;
use crate::peer::failure::{Failure, FailureKind};
use crate::protocol::new_accounts::NewAccounts;
use crate::protocol::source::SourcePrefix;
use crate::seal::random::OsRandom;
use crate::storage::profile::{self, Profile, ProfileError};
use crate::transport::tuning::Network;
use crate::wire::account::LoginKind;
use crate::wire::ids::{DirectoryFingerprint, PeerKey, PeerName, UnixMillis};
use crate::wire::limits::{
    LEGACY_ARRIVALS_MAX, LEGACY_CONNECTIONS_MAX, LEGACY_CONNECTIONS_PER_SOURCE_MAX, LEGACY_FILES_AT_ONCE,
    LEGACY_NAMES_MAX, LEGACY_NEW_NAMES_PER_HOUR,
};
use crate::wire::refusal::Refusal;

/// How long a name that comes back waits for its mail before it is let in without.
const MAIL_PATIENCE: Duration = Duration::from_secs(3);

/// How long leaving takes at most: the other sides are told.
const LEAVING_PATIENCE: Duration = Duration::from_secs(10);

/// How long a name that is just leaving, and whose profile is still held, is waited for.
const UNDER_WAY_PATIENCE: Duration = Duration::from_secs(3);

/// How often it is tried.
const UNDER_WAY_PAUSE: Duration = Duration::from_millis(25);

/// Makes accounts for legacy names at the directory that this process runs.
#[async_trait]
pub trait Accounts: Send + Sync + fmt::Debug {
    /// Makes the account, or finds that it is there with this key.
    ///
    /// # Errors
    /// [`Refusal::NameTaken`] when somebody else has the name.
    async fn create(&self, name: &PeerName, key: PeerKey) -> Result<(), Refusal>;

    /// Removes the account with all that belongs to it.
    ///
    /// # Errors
    /// [`Refusal::NameTaken`] when somebody else has the name.
    async fn remove(&self, name: &PeerName) -> Result<(), Refusal>;
}

/// The directory that all names log in to, and where the gateway keeps what it knows.
#[derive(Debug, Clone)]
pub struct Home {
    /// The gateway's own folder.
    pub data: PathBuf,
    /// Where the directory is.
    pub directory: DirectoryAddress,
    /// Its key.
    pub fingerprint: DirectoryFingerprint,
    /// How to use the network.
    pub network: Network,
}

/// Somebody who wants in.
#[derive(Debug, Clone)]
pub(super) struct Arrival {
    /// As what.
    pub(super) name: LegacyName,
    /// With which programs.
    pub(super) dialect: Dialect,
    /// Where it is reached; the address is the one that the request came from.
    pub(super) contact: Contact,
    /// What the dialect wants to remember.
    pub(super) extra: serde_json::Value,
}

/// What becomes of a name whose owner leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Departure {
    /// It stays theirs, and mail waits for it.
    Kept,
    /// Anybody may have it next.
    Freed,
}

/// The gateway.
#[derive(Debug)]
pub(super) struct Gateway {
    home: Home,
    profiles: profile::Home,
    accounts: Arc<dyn Accounts>,
    records: Records,
    ports: Ports,
    credentials: Credentials,
    /// Who may speak, and how much they are sent.
    pub(super) door: SharedDoor,
    connections: Turns,
    tries: Mutex<Tries>,
    dialects: Vec<Dialect>,
    names: Mutex<Names>,
    new_names: Mutex<NewAccounts>,
    arriving: Semaphore,
    files: Arc<Semaphore>,
    starting: mpsc::Sender<Starting>,
    /// Whether those who were here when the gateway stopped are back.
    restored: watch::Sender<bool>,
    tasks: tokio::sync::Mutex<Tasks>,
    arrivals: broadcast::Sender<Resident>,
}

/// Peers that run.
#[derive(Debug)]
struct Tasks {
    started: mpsc::Receiver<Starting>,
    running: JoinSet<PeerName>,
}

/// A peer that is to be run.
#[derive(Debug)]
struct Starting {
    name: PeerName,
    peer: Peer,
    stop: oneshot::Receiver<()>,
    ended: watch::Sender<bool>,
}

impl Gateway {
    /// Opens the records; nobody is here yet.
    pub(super) async fn open(
        settings: CompatSettings,
        home: Home,
        accounts: Arc<dyn Accounts>,
    ) -> Result<Self, Failure> {
        profile::make_private_folder(&home.data)?;
        let records = Records::open(&home.data.join("gateway.sqlite"))?;
        let known = records.all().await?;
        let credentials = Credentials::load(settings.credentials.as_deref())?;
        let (starting, started) = mpsc::channel(LEGACY_ARRIVALS_MAX);
        Ok(Self {
            profiles: profile::Home::at(home.data.join("profiles")),
            home,
            accounts,
            ports: Ports::open(settings.ports, records.clone()).await?,
            records,
            credentials,
            door: SharedDoor::new(settings.allowed),
            connections: Turns::new(LEGACY_CONNECTIONS_MAX, LEGACY_CONNECTIONS_PER_SOURCE_MAX),
            tries: Mutex::default(),
            dialects: settings.doors.iter().map(|door| door.dialect).collect(),
            names: Mutex::new(Names::new(known)),
            new_names: Mutex::new(NewAccounts::new(LEGACY_NEW_NAMES_PER_HOUR)),
            arriving: Semaphore::new(LEGACY_ARRIVALS_MAX),
            files: Arc::new(Semaphore::new(LEGACY_FILES_AT_ONCE)),
            starting,
            restored: watch::Sender::new(false),
            tasks: tokio::sync::Mutex::new(Tasks { started, running: JoinSet::new() }),
            arrivals: broadcast::Sender::new(2 * LEGACY_NAMES_MAX),
        })
    }

    /// Runs the peers of everybody who is here, beginning with those who were here when the gateway stopped.
    pub(super) async fn keep(&self) {
        let mut tasks = self.tasks.lock().await;
        let Tasks { started, running } = &mut *tasks;
        let mut restoring = std::pin::pin!(self.restore());
        let mut is_restored = false;
        loop {
            tokio::select! {
                () = &mut restoring, if !is_restored => {
                    is_restored = true;
                    self.restored.send_replace(true);
                },
                Some(Starting { name, peer, stop, ended }) = started.recv() => {
                    running.spawn(async move {
                        // It only ever ends by being dropped.
                        let stopped = async { drop(stop.await) };
                        if let Err(failure) = peer.run(stopped).await {
                            tracing::warn!(%name, %failure, "a legacy name has lost its session");
                        }
                        ended.send_replace(true);
                        name
                    });
                },
                Some(ended) = running.join_next() => match ended {
                    Ok(name) => self.names().has_gone(&name),
                    Err(error) => tracing::error!(%error, "a legacy name's peer broke"),
                },
            }
        }
    }

    /// Ends all peers, in good order, once nobody awaits [`Self::keep`] any more: who was here comes back after a restart.
    pub(super) async fn close(&self) {
        for resident in self.names().residents() {
            resident.stop();
        }
        let mut tasks = self.tasks.lock().await;
        tasks.started.close();
        let all = async { while tasks.running.join_next().await.is_some() {} };
        if tokio::time::timeout(LEAVING_PATIENCE, all).await.is_err() {
            tracing::warn!("some legacy names did not leave in time");
        }
    }

    /// Brings those back who were here, and makes accounts for those who may log in and never did.
    async fn restore(&self) {
        let were_here: Vec<_> = self
            .names()
            .known()
            .filter(|(_, record)| record.is_here && self.dialects.contains(&record.dialect))
            .map(|(_, record)| record)
            .collect();
        for Record { spelled, dialect, contact, extra, .. } in were_here {
            let Ok(name) = LegacyName::parse(&spelled) else { continue };
            if let Err(not_in) = self.let_in(Arrival { name, dialect, contact, extra }, Claim::Address).await {
                tracing::warn!(spelled, %not_in, "a legacy name did not come back");
            }
        }
        for name in self.credentials.names() {
            let is_known = self.names().record(&name.name).is_some();
            if !is_known && let Err(not_in) = self.make_known(name).await {
                tracing::warn!(name = name.spelled, %not_in, "a name of the credentials cannot be used");
            }
        }
    }

    /// What is remembered of a name that was ever here.
    pub(super) fn record(&self, name: &PeerName) -> Option<Record> {
        self.names().record(name)
    }

    /// Everybody who was ever here with one family of programs.
    pub(super) fn known(&self, dialect: Dialect) -> Vec<(PeerName, Record)> {
        self.names().known().filter(|(_, record)| record.dialect == dialect).collect()
    }

    /// How a name is written: as its owner does, if that is known.
    pub(super) fn spelled(&self, name: &PeerName) -> String {
        self.names().spelled(name)
    }

    /// Who is here under a name.
    pub(super) fn resident(&self, name: &PeerName) -> Option<Resident> {
        self.names().resident(name)
    }

    /// Everybody who is here with one family of programs.
    pub(super) fn residents(&self, dialect: Dialect) -> Vec<Resident> {
        self.names().residents().filter(|resident| resident.dialect() == dialect).collect()
    }

    /// Those of them who speak from one address.
    pub(super) fn residents_at(&self, dialect: Dialect, source: IpAddr) -> Vec<Resident> {
        let source = source.to_canonical();
        self.residents(dialect).into_iter().filter(|resident| resident.source() == source).collect()
    }

    /// Hears of everybody who comes from now on, back after a restart included.
    pub(super) fn arrivals(&self) -> broadcast::Receiver<Resident> {
        self.arrivals.subscribe()
    }

    /// Waits until those who were here when the gateway stopped are back, as far as they come back.
    pub(super) async fn restored(&self) {
        // The sender lives as long as the gateway.
        drop(self.restored.subscribe().wait_for(|restored| *restored).await);
    }

    /// The ports that stand for people.
    pub(super) fn ports(&self) -> &Ports {
        &self.ports
    }

    /// Who may log in with a password.
    pub(super) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Counts a connection until what comes back is dropped; `None` when there are too many.
    pub(super) fn connection(&self, source: IpAddr) -> Option<Turn> {
        self.connections.take(source)
    }

    /// Lets a name in: makes its account when it is new, logs its peer in, and collects its mail. A name that has a password
    /// is not had like this.
    pub(super) async fn enter(&self, arrival: Arrival) -> Result<Resident, NotIn> {
        if self.credentials.name(&arrival.name.name).is_some() {
            return Err(NotIn::Elsewhere);
        }
        self.let_in(arrival, Claim::Address).await
    }

    /// Lets a name in whose password the caller has seen, from wherever its owner was last.
    pub(super) async fn enter_with_password(&self, arrival: Arrival) -> Result<Resident, NotIn> {
        self.let_in(arrival, Claim::Password).await
    }

    /// Whether somebody knows a name's password. A name that has none is answered like a wrong password, and whoever is wrong
    /// three times waits.
    pub(super) fn judge(&self, name: &str, source: IpAddr, password: &str) -> Verdict {
        let is_right = PeerName::parse(name).is_ok_and(|name| self.credentials.opens(&name, password));
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        tries.judge(name, source, is_right, now_millis())
    }

    /// Lets somebody in, who may still be just leaving: their program does not ask twice.
    async fn let_in(&self, arrival: Arrival, claim: Claim) -> Result<Resident, NotIn> {
        let until = Instant::now() + UNDER_WAY_PATIENCE;
        loop {
            match self.let_in_now(arrival.clone(), claim).await {
                Err(NotIn::UnderWay) if Instant::now() < until => tokio::time::sleep(UNDER_WAY_PAUSE).await,
                done => return done,
            }
        }
    }

    async fn let_in_now(&self, arrival: Arrival, claim: Claim) -> Result<Resident, NotIn> {
        let name = arrival.name.name.clone();
        let source = arrival.contact.ip.to_canonical();
        let place = self.take_place(&arrival.name, arrival.dialect, source, claim)?;
        let record = Record {
            spelled: arrival.name.spelled.clone(),
            dialect: arrival.dialect,
            contact: Contact { ip: source, ..arrival.contact },
            is_here: true,
            is_bound: true,
            last_here: now_millis(),
            extra: arrival.extra,
        };
        let is_another = |former: &Record| claim == Claim::Address && former.is_another(&record);
        match self.record(&name) {
            Some(former) if is_another(&former) => self.forget(&name).await.map_err(NotIn::Failed)?,
            None => self.count_new(source)?,
            Some(_) => {}
        }
        let resident = self.bring_in(arrival.name, record, LoginKind::Resident).await?;
        place.fill(&resident);
        if self.arrivals.send(resident.clone()).is_err() {
            tracing::debug!(%name, "nobody attends to this name");
        }
        Ok(resident)
    }

    /// Takes a name out; returns when its peer has left the directory.
    pub(super) async fn leave(&self, name: &PeerName, departure: Departure) -> Result<(), Failure> {
        let Some(resident) = self.resident(name) else { return Ok(()) };
        // A name with a password stays its owner's.
        let departure = if self.credentials.name(name).is_some() { Departure::Kept } else { departure };
        resident
            .change(|record| {
                record.is_here = false;
                record.is_bound = departure == Departure::Kept;
                record.last_here = now_millis();
            })
            .await?;
        self.names().leaves(&resident);
        resident.stop();
        if tokio::time::timeout(LEAVING_PATIENCE, resident.gone()).await.is_err() {
            tracing::warn!(%name, "a legacy name leaves slowly");
        }
        let forgotten = match departure {
            Departure::Kept => Ok(()),
            Departure::Freed => self.forget(name).await,
        };
        self.names().has_gone(name);
        forgotten
    }

    /// Forgets who had a name: its account, its key, its mail, its files. Whoever has it next is somebody else.
    async fn forget(&self, name: &PeerName) -> Result<(), Failure> {
        self.accounts.remove(name).await?;
        super::files::remove_folder(self.profiles.profile_folder(self.home.fingerprint, name)).await?;
        self.records.remove(name).await?;
        self.names().forget(name);
        Ok(())
    }

    /// Counts a name that was never here: nobody takes all there are.
    fn count_new(&self, source: IpAddr) -> Result<(), NotIn> {
        let mut new = self.new_names.lock().unwrap_or_else(PoisonError::into_inner);
        new.count(SourcePrefix::of(source), now_millis()).map_err(|refusal| NotIn::Failed(refusal.into()))
    }

    /// Makes an account for a name whose owner has not come yet, so that mail can wait for it.
    async fn make_known(&self, name: &LegacyName) -> Result<(), NotIn> {
        let nowhere = IpAddr::from([0, 0, 0, 0]);
        let place = self.take_place(name, Dialect::S4, nowhere, Claim::Password)?;
        let record = Record {
            spelled: name.spelled.clone(),
            dialect: Dialect::S4,
            contact: Contact { ip: nowhere, udp: None, tcp: None },
            is_here: false,
            is_bound: false,
            last_here: UnixMillis(0),
            extra: serde_json::Value::Null,
        };
        // An errand is seen by nobody: its owner is not here. Nor is it in its place, so that nobody takes its session over.
        let resident = self.bring_in(name.clone(), record, LoginKind::Errand { collects: false }).await?;
        resident.stop();
        if tokio::time::timeout(LEAVING_PATIENCE, resident.gone()).await.is_err() {
            tracing::warn!(name = name.spelled, "a legacy name leaves slowly");
        }
        self.names().remember(&resident);
        // Its profile is closed before somebody else may open it.
        drop(resident);
        drop(place);
        Ok(())
    }

    /// Keeps a name for whoever arrives under it, if it is free and there is room.
    fn take_place(
        &self,
        name: &LegacyName,
        dialect: Dialect,
        source: IpAddr,
        claim: Claim,
    ) -> Result<Place<'_>, NotIn> {
        self.names().expect(name, dialect, source, claim, now_millis())?;
        Ok(Place { gateway: self, name: name.name.clone(), is_filled: false })
    }

    async fn bring_in(&self, name: LegacyName, record: Record, kind: LoginKind) -> Result<Resident, NotIn> {
        let _turn = self.arriving.try_acquire().map_err(|_| NotIn::Full)?;
        let profile = self.profile_of(&name.name).await?;
        match self.accounts.create(&name.name, profile.identity().public()).await {
            Ok(()) => {}
            Err(Refusal::NameTaken) => return Err(NotIn::Taken),
            Err(refusal) => return Err(NotIn::Failed(refusal.into())),
        }
        self.records.put(&name.name, &record).await.map_err(|error| NotIn::Failed(error.into()))?;
        let folder = profile.folder().join("published");
        let account = Account {
            name: name.name.clone(),
            directory: self.home.directory.clone(),
            fingerprint: self.home.fingerprint,
            kind,
            collects_mail: kind == LoginKind::Resident,
            // A program without chat reads nothing.
            sends_read_receipts: record.dialect != Dialect::S2,
            paths: PathChoice::Any,
        };
        let peer = Peer::start(account, profile, &Admission::default(), self.home.network).await.map_err(|error| {
            NotIn::Failed(match error {
                LoginFailure::Refused(refusal) => refusal.into(),
                LoginFailure::Failed(failure) => failure,
            })
        })?;
        let handle = peer.handle();
        let events = handle.events();
        let (stop, stopped) = oneshot::channel();
        let (ended, has_ended) = watch::channel(false);
        let starting = Starting { name: name.name.clone(), peer, stop: stopped, ended };
        if self.starting.send(starting).await.is_err() {
            return Err(NotIn::Failed(Failure::new(FailureKind::Other, "the gateway stops")));
        }
        has_its_mail(events).await;
        Ok(Resident(Arc::new(Inner {
            name,
            handle: Mutex::new(Some(handle)),
            record: Mutex::new(record),
            records: self.records.clone(),
            writing: tokio::sync::Mutex::default(),
            folder,
            files: self.files.clone(),
            stop: Mutex::new(Some(stop)),
            ended: has_ended,
        })))
    }

    /// Opens a name's profile. Whoever had it last may still hold it for a moment after their peer has ended.
    async fn profile_of(&self, name: &PeerName) -> Result<Arc<Profile>, NotIn> {
        let (profiles, fingerprint, name) = (self.profiles.clone(), self.home.fingerprint, name.clone());
        let opening = move || Profile::open(&profiles, fingerprint, &name, &mut OsRandom);
        match tokio::task::spawn_blocking(opening).await {
            Ok(Ok(profile)) => Ok(Arc::new(profile)),
            Ok(Err(ProfileError::InUse(_))) => Err(NotIn::UnderWay),
            Ok(Err(error)) => Err(NotIn::Failed(error.into())),
            Err(error) => Err(NotIn::Failed(Failure::new(FailureKind::Other, error.to_string()))),
        }
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name that is kept for whoever arrives; free again when they do not.
struct Place<'a> {
    gateway: &'a Gateway,
    name: PeerName,
    is_filled: bool,
}

impl Place<'_> {
    fn fill(mut self, resident: &Resident) {
        self.is_filled = true;
        self.gateway.names().arrives(resident);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.is_filled {
            self.gateway.names().does_not_arrive(&self.name);
        }
    }
}

/// Waits until everything that waited at the directory has come.
async fn has_its_mail(mut events: broadcast::Receiver<Event>) {
    let drained = async {
        loop {
            match events.recv().await {
                Ok(Event::LoggedIn { waiting: 0, .. } | Event::Drained) | Err(_) => return,
                Ok(_) => {}
            }
        }
    };
    if tokio::time::timeout(MAIL_PATIENCE, drained).await.is_err() {
        tracing::warn!("a legacy name's mail comes slowly");
    }
}
