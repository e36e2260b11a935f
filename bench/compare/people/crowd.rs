//! Many people at one directory. Their accounts are in its store before it starts, so that no password is hashed; from
//! there on everything goes through its real interface.

use std::fs::DirBuilder;
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{anyhow, bail};
use qchat::clock::now_millis;
use qchat::directory::store::sqlite::SqliteStore;
use qchat::directory::store::{Account, Store as _};
use qchat::seal::identity::IdentityKey;
use qchat::seal::prekey::PrekeySecret;
use qchat::seal::random::OsRandom;
use qchat::seal::{envelope, receipt};
use qchat::transport::connection::Connection;
use qchat::transport::endpoint::Endpoint;
use qchat::wire::account::{LoginKind, SignedPrekey};
use qchat::wire::directory::{DirectoryPush, DirectoryRequest, PushAnswer, PushReply};
use qchat::wire::ids::{MessageId, PeerName};
use qchat::wire::message::{Body, Envelope, InnerMessage, SignedReceipt, Skipped, Text};
use qchat::wire::rendezvous::{Allowance, Grant};
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::people::{ask, connect, endpoint, login, sign_receipt};
use crate::process::directory::{DirectoryProcess, Place, data_of};

/// Logins under way at a time: half of what a directory lets one address have.
const LOGINS_AT_ONCE: usize = 32;

/// A prekey is good for longer than any of this takes.
const HOUR_MILLIS: u64 = 3_600_000;

/// Somebody with an account and a prekey.
#[derive(Debug)]
pub(crate) struct Person {
    pub(crate) name: PeerName,
    identity: IdentityKey,
    secret: PrekeySecret,
    prekey: SignedPrekey,
}

/// A person who has logged in.
pub(crate) type Present = (Arc<Person>, Connection);

impl Person {
    fn new(name: &str) -> anyhow::Result<Self> {
        let name = PeerName::parse(name)?;
        let identity = IdentityKey::generate(&mut OsRandom);
        let secret = PrekeySecret::generate(&mut OsRandom);
        let prekey = secret.publish(&identity, &name, now_millis().plus_millis(HOUR_MILLIS));
        Ok(Self { name, identity, secret, prekey })
    }

    /// Signs and seals a line of chat to somebody.
    pub(crate) fn seal(&self, to: &Self, id: MessageId) -> anyhow::Result<Envelope> {
        let message = InnerMessage {
            sender: self.identity.public(),
            recipient: to.identity.public(),
            id,
            sequence: 1,
            skipped: Skipped::default(),
            sent_at: now_millis(),
            body: Body::Text(Text::parse("Shall we meet at the station at half past six?")?),
        };
        Ok(envelope::seal(&self.identity, &message, &to.prekey, &mut OsRandom)?)
    }

    /// Puts this sender's name and another id on an envelope that somebody sealed: no directory sees the difference.
    pub(crate) fn readdress(&self, sealed: &Envelope, id: MessageId) -> Envelope {
        let mut envelope = sealed.clone();
        envelope.header.sender = self.identity.public();
        envelope.header.id = id;
        envelope
    }

    /// Opens an envelope and says what became of it.
    fn receive(&self, envelope: &Envelope) -> SignedReceipt {
        let opened = envelope::open(&self.secret, envelope, &self.identity.public());
        sign_receipt(&self.identity, &envelope.header, opened.ok().map(|message| message.sequence))
    }

    /// Waits for the next push to this person, answers it as a peer does, and says what it was.
    pub(crate) async fn take_push(&self, connection: &Connection) -> anyhow::Result<DirectoryPush> {
        let mut stream = connection.accept_stream().await?;
        let push: DirectoryPush = stream.read_frame().await?;
        let answer: PushAnswer = Ok(match &push {
            DirectoryPush::Delivery(delivery) => PushReply::Receipt(Box::new(self.receive(&delivery.envelope))),
            DirectoryPush::Receipts(receipts) => {
                receipts.iter().try_for_each(receipt::verify).map_err(|_| anyhow!("a receipt is not signed"))?;
                PushReply::Taken
            }
            DirectoryPush::Drained { .. }
            | DirectoryPush::Dial(_)
            | DirectoryPush::Opened { .. }
            | DirectoryPush::ConsentAsked { .. }
            | DirectoryPush::ConsentAnswered { .. }
            | DirectoryPush::Presence { .. }
            | DirectoryPush::Announcement { .. }
            | DirectoryPush::FriendAsked { .. }
            | DirectoryPush::FriendAnswered { .. }
            | DirectoryPush::PeopleChanged
            | DirectoryPush::KeyRequested { .. }
            | DirectoryPush::Returned { .. }
            | DirectoryPush::KeyChanged { .. } => PushReply::Taken,
        });
        stream.write_frame(&answer).await?;
        stream.finish();
        Ok(push)
    }

    /// Connects and logs in with the key that the directory knows.
    pub(crate) async fn log_in(&self, from: &Endpoint, place: Place, kind: LoginKind) -> anyhow::Result<Connection> {
        let connection = connect(from, place).await?;
        let login = login(&self.identity, place.fingerprint, &connection, &self.name, kind);
        match ask(&connection, DirectoryRequest::Login(Box::new(login))).await? {
            Ok(_) => Ok(connection),
            Err(refusal) => bail!("{} was not let in: {refusal}", self.name),
        }
    }
}

/// Makes people whose names begin alike.
pub(crate) fn people(prefix: &str, count: usize) -> anyhow::Result<Vec<Arc<Person>>> {
    (0..count).map(|number| Ok(Arc::new(Person::new(&format!("{prefix}{number}"))?))).collect()
}

/// Starts a directory that knows these people. The later ones let the first ones find them: who is no stranger may fill
/// a mailbox.
pub(crate) async fn directory_of(people: &[&[Arc<Person>]]) -> anyhow::Result<DirectoryProcess> {
    directory_with(people, |_| Ok(())).await
}

/// The same, with what is put into its database's file before it starts.
pub(crate) async fn directory_with(
    people: &[&[Arc<Person>]],
    fill: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<DirectoryProcess> {
    let folder = Arc::new(tempfile::tempdir()?);
    enrol(&folder, people).await?;
    fill(&database_of(&folder))?;
    tokio::task::spawn_blocking(move || DirectoryProcess::start_in(folder)).await?
}

async fn enrol(folder: &TempDir, people: &[&[Arc<Person>]]) -> anyhow::Result<()> {
    let data = data_of(folder);
    DirBuilder::new().mode(0o700).create(&data)?;
    let store = Arc::new(SqliteStore::open(&database_of(folder))?);
    let mut writing = JoinSet::new();
    for person in people.iter().flat_map(|group| group.iter()).cloned() {
        let store = store.clone();
        writing.spawn(async move {
            let (name, key) = (person.name.clone(), person.identity.public());
            let (password, created_at) = (String::new(), now_millis());
            let account = Account { name, key, password, created_at, disabled: false, legacy: false };
            store.create_account(account, None).await?;
            store.put_prekey(person.prekey.clone()).await
        });
    }
    while let Some(written) = writing.join_next().await {
        written??;
    }
    if let Some((first, later)) = people.split_first() {
        acquaint(&store, first, later).await?;
    }
    store.close().await;
    Ok(())
}

fn database_of(folder: &TempDir) -> PathBuf {
    data_of(folder).join("directory.sqlite")
}

/// Has the later ones let the first ones find them.
async fn acquaint(store: &Arc<SqliteStore>, first: &[Arc<Person>], later: &[&[Arc<Person>]]) -> anyhow::Result<()> {
    let mut writing = JoinSet::new();
    for person in later.iter().flat_map(|group| group.iter()).cloned() {
        let (store, known) = (store.clone(), first.to_vec());
        writing.spawn(async move {
            for other in known {
                let grant = Grant { to: other.name.clone(), allowance: Allowance::Always };
                store.allow(&person.name, person.identity.public(), grant, now_millis()).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(written) = writing.join_next().await {
        written??;
    }
    Ok(())
}

/// Logs people in from one socket, and keeps their order.
pub(crate) async fn log_in_all(place: Place, people: &[Arc<Person>], kind: LoginKind) -> anyhow::Result<Vec<Present>> {
    log_in_each(place, people, kind, |_| ()).await
}

/// The same, and does something for everybody who is in, at once.
async fn log_in_each(
    place: Place,
    people: &[Arc<Person>],
    kind: LoginKind,
    mut is_in: impl FnMut(&Present),
) -> anyhow::Result<Vec<Present>> {
    let socket = endpoint(Ipv4Addr::LOCALHOST, &IdentityKey::generate(&mut OsRandom))?;
    let turns = Arc::new(Semaphore::new(LOGINS_AT_ONCE));
    let mut logins = JoinSet::new();
    for (number, person) in people.iter().cloned().enumerate() {
        let (socket, turns) = (socket.clone(), turns.clone());
        logins.spawn(async move {
            let turn = turns.acquire().await?;
            let connection = person.log_in(&socket, place, kind).await?;
            drop(turn);
            anyhow::Ok((number, person, connection))
        });
    }
    let mut present = Vec::with_capacity(people.len());
    while let Some(login) = logins.join_next().await {
        let (number, person, connection) = login??;
        let arrived = (person, connection);
        is_in(&arrived);
        present.push((number, arrived));
    }
    present.sort_by_key(|(number, _)| *number);
    Ok(present.into_iter().map(|(_, arrived)| arrived).collect())
}

/// Logs people in from one socket, who then take what they are told for as long as the tasks run.
pub(crate) async fn arrive(
    place: Place,
    people: &[Arc<Person>],
    taking: &mut JoinSet<()>,
) -> anyhow::Result<Vec<Connection>> {
    // Whoever leaves a push untaken for long is logged out.
    let take = |arrived: &Present| {
        let (person, connection) = arrived.clone();
        taking.spawn(async move { while person.take_push(&connection).await.is_ok() {} });
    };
    let present = log_in_each(place, people, LoginKind::Resident, take).await?;
    Ok(present.into_iter().map(|(_, connection)| connection).collect())
}
