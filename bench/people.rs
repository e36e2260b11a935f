//! A real directory in a process of its own, and clients made by hand: honest ones, whose waiting is measured.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use qchat::clock::now_millis;
use qchat::seal::identity::{IdentityKey, Label, login_statement};
use qchat::seal::prekey::PrekeySecret;
use qchat::seal::random::OsRandom;
use qchat::seal::receipt;
use qchat::transport::connection::Connection;
use qchat::transport::endpoint::Endpoint;
use qchat::transport::tuning::Network;
use qchat::transport::verify::AnnouncedDials;
use qchat::wire::account::{Login, LoginKind};
use qchat::wire::directory::{DirectoryAnswer, DirectoryPush, DirectoryReply, DirectoryRequest, PushAnswer, PushReply};
use qchat::wire::ids::{DirectoryFingerprint, MessageId, Password, PeerName, PrekeyId};
use qchat::wire::message::{Envelope, EnvelopeHeader, Receipt, ReceiptKind, SignedReceipt};
use qchat::wire::refusal::CloseCode;
use serde::Deserialize;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// The password of every honest account.
const PASSWORD: &str = "correct horse";

/// Between two exchanges of the honest people: they are to notice a load, not to be one.
const PAUSE: Duration = Duration::from_millis(20);

const ERRAND: LoginKind = LoginKind::Errand { collects: false };

/// Where a directory is, and which one it is.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    fingerprint: DirectoryFingerprint,
}

/// `qchat serve` in a throw-away folder. It stops when its standard input is closed, also when this process is killed.
pub(crate) struct DirectoryProcess {
    pub(crate) place: Place,
    child: Child,
    folder: TempDir,
}

impl DirectoryProcess {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut child = Command::new(env!("CARGO_BIN_EXE_qchat"))
            .args(["serve", "--json", "--listen", "127.0.0.1:0", "--stop-with-stdin", "--cert"])
            .arg(folder.path().join("certs"))
            .arg("--data")
            .arg(folder.path().join("data"))
            .env("QCHAT_DEBUG", "warn,qchat::directory=info")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(folder.path().join("log"))?)
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("it has a standard output")?).read_line(&mut line)?;
        let place = serde_json::from_str(&line).context("the directory does not say where it listens")?;
        Ok(Self { place, child, folder })
    }

    /// Physical memory that it holds now.
    pub(crate) fn resident_mib(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }

    /// Datagrams that the kernel threw away because the directory did not read them in time.
    pub(crate) fn datagrams_dropped(&self) -> anyhow::Result<u64> {
        let port = format!(":{:04X}", self.place.address.port());
        let sockets = fs::read_to_string("/proc/net/udp")?;
        let fields = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let ours = fields.into_iter().find(|fields| fields.get(1).is_some_and(|local| local.ends_with(&port)));
        let dropped = ours.context("the directory has no socket")?;
        Ok(dropped.last().context("a line has fields")?.parse()?)
    }

    /// Passwords that were hashed and found wrong.
    pub(crate) fn wrong_passwords_hashed(&self) -> anyhow::Result<usize> {
        let log = fs::read_to_string(self.folder.path().join("log"))?;
        Ok(log.lines().filter(|line| line.contains("wrong password")).count())
    }
}

impl Drop for DirectoryProcess {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        if let Err(error) = self.child.wait() {
            tracing::warn!(%error, "the directory is not waited for");
        }
    }
}

/// Somebody at an address of their own, connected and not logged in.
pub(crate) struct Client {
    pub(crate) connection: Connection,
    endpoint: Endpoint,
    identity: IdentityKey,
    fingerprint: DirectoryFingerprint,
}

impl Client {
    pub(crate) async fn connect(place: Place, from: Ipv4Addr, identity: IdentityKey) -> anyhow::Result<Self> {
        let endpoint = endpoint(from, &identity)?;
        let connection = connect(&endpoint, place).await?;
        Ok(Self { connection, endpoint, identity, fingerprint: place.fingerprint })
    }

    async fn stranger(place: Place, from: Ipv4Addr) -> anyhow::Result<Self> {
        Self::connect(place, from, IdentityKey::generate(&mut OsRandom)).await
    }

    /// A login that proves this client's key on this connection.
    pub(crate) fn login(&self, name: &PeerName, kind: LoginKind) -> Login {
        login(&self.identity, self.fingerprint, &self.connection, name, kind)
    }

    async fn register(&self, name: &PeerName, kind: LoginKind) -> anyhow::Result<()> {
        let password = Some(Password::parse(PASSWORD)?);
        let login = Login { password, register: true, ..self.login(name, kind) };
        self.ask(DirectoryRequest::Login(Box::new(login))).await?;
        Ok(())
    }

    async fn ask(&self, request: DirectoryRequest) -> anyhow::Result<DirectoryReply> {
        ask(&self.connection, request).await?.map_err(|refusal| anyhow!("refused: {refusal}"))
    }
}

pub(crate) async fn ask(connection: &Connection, request: DirectoryRequest) -> anyhow::Result<DirectoryAnswer> {
    Ok(connection.request(&request).await?)
}

pub(crate) fn endpoint(from: Ipv4Addr, identity: &IdentityKey) -> anyhow::Result<Endpoint> {
    Ok(Endpoint::peer((from, 0).into(), identity, AnnouncedDials::default(), Network::default())?)
}

pub(crate) async fn connect(endpoint: &Endpoint, place: Place) -> anyhow::Result<Connection> {
    Ok(endpoint.connect_directory(place.address, Some(place.fingerprint)).await?.0)
}

pub(crate) fn errand(identity: &IdentityKey, place: Place, connection: &Connection, name: &PeerName) -> Login {
    login(identity, place.fingerprint, connection, name, ERRAND)
}

fn login(
    identity: &IdentityKey,
    directory: DirectoryFingerprint,
    connection: &Connection,
    name: &PeerName,
    kind: LoginKind,
) -> Login {
    let statement = login_statement(&directory, name, &connection.login_binding());
    Login {
        name: name.clone(),
        key: identity.public(),
        kind,
        proof: identity.sign(Label::Login, &statement),
        password: None,
        register: false,
        token: None,
        undo: false,
    }
}

/// Makes accounts, for somebody to attack.
pub(crate) async fn register_all(place: Place, names: &[PeerName]) -> anyhow::Result<()> {
    for name in names {
        let client = Client::stranger(place, Ipv4Addr::new(127, 0, 0, 5)).await?;
        client.register(name, ERRAND).await?;
        client.connection.close(CloseCode::Done);
    }
    Ok(())
}

/// What honest people had to wait, in milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    /// From the first packet to the answer to the login, with a key that the directory knows.
    pub(crate) logins: Vec<f64>,
    /// From one person to the other, each at an address of their own.
    pub(crate) messages: Vec<f64>,
}

/// Three honest people on addresses of their own: one comes and goes, one writes, one reads.
pub(crate) struct HonestPeople {
    place: Place,
    comer: Client,
    comer_name: PeerName,
    writer: Client,
    reader: Client,
    reader_name: PeerName,
    prekey: PrekeyId,
    arrived: mpsc::Receiver<MessageId>,
    sent: u128,
    /// Answered while the runtime runs.
    #[expect(dead_code, reason = "held so that its tasks go on")]
    pushes: JoinSet<()>,
}

impl HonestPeople {
    /// Makes their accounts. The reader reads for as long as the runtime runs.
    pub(crate) async fn arrive(place: Place) -> anyhow::Result<Self> {
        let [comer_name, writer_name, reader_name] =
            ["comer", "writer", "reader"].map(|name| PeerName::parse(name).expect("it is a name"));
        let comer = Client::stranger(place, Ipv4Addr::new(127, 0, 0, 2)).await?;
        comer.register(&comer_name, ERRAND).await?;
        let writer = Client::stranger(place, Ipv4Addr::new(127, 0, 0, 3)).await?;
        writer.register(&writer_name, LoginKind::Resident).await?;
        let reader = Client::stranger(place, Ipv4Addr::new(127, 0, 0, 4)).await?;
        reader.register(&reader_name, LoginKind::Resident).await?;
        let secret = PrekeySecret::generate(&mut OsRandom);
        let prekey = secret.publish(&reader.identity, &reader_name, now_millis().plus_millis(3_600_000));
        let prekey_id = prekey.prekey.id;
        reader.ask(DirectoryRequest::PutPrekey(Box::new(prekey))).await?;
        let (read, arrived) = mpsc::channel(16);
        let mut pushes = JoinSet::new();
        for (client, read) in [(&writer, mpsc::channel(1).0), (&reader, read)] {
            let identity = IdentityKey::from_seed(client.identity.seed());
            pushes.spawn(answer_pushes(client.connection.clone(), identity, read));
        }
        Ok(Self { place, comer, comer_name, writer, reader, reader_name, prekey: prekey_id, arrived, sent: 0, pushes })
    }

    /// The account that logs in again and again.
    pub(crate) fn comer(&self) -> &PeerName {
        &self.comer_name
    }

    /// Logs in and writes, again and again, and says how long each took.
    pub(crate) async fn wait_for(&mut self, duration: Duration) -> anyhow::Result<Waits> {
        let deadline = Instant::now() + duration;
        let mut waits = Waits::default();
        while Instant::now() < deadline {
            let started = Instant::now();
            self.log_in().await.context("an honest login failed")?;
            waits.logins.push(millis(started));
            let started = Instant::now();
            self.write().await.context("an honest message failed")?;
            waits.messages.push(millis(started));
            tokio::time::sleep(PAUSE).await;
        }
        Ok(waits)
    }

    async fn log_in(&self) -> anyhow::Result<()> {
        let connection = connect(&self.comer.endpoint, self.place).await?;
        let login = errand(&self.comer.identity, self.place, &connection, &self.comer_name);
        let answer = ask(&connection, DirectoryRequest::Login(Box::new(login))).await?;
        connection.close(CloseCode::Done);
        answer.map(drop).map_err(|refusal| anyhow!("refused: {refusal}"))
    }

    async fn write(&mut self) -> anyhow::Result<()> {
        self.sent += 1;
        let id = MessageId::from_bytes(self.sent.to_be_bytes());
        let header = EnvelopeHeader {
            version: 1,
            sender: self.writer.identity.public(),
            recipient: self.reader.identity.public(),
            id,
            prekey: self.prekey,
        };
        // The directory cannot open it and does not try.
        let envelope = Box::new(Envelope { header, encapsulated: vec![3; 1_120], sealed: vec![4; 272] });
        self.writer.ask(DirectoryRequest::Deliver { to: self.reader_name.clone(), envelope }).await?;
        let arrived = tokio::time::timeout(Duration::from_secs(15), self.arrived.recv()).await;
        match arrived {
            Ok(Some(arrived)) if arrived == id => Ok(()),
            other => bail!("{id} was awaited, but {other:?} came"),
        }
    }
}

/// Takes whatever the directory pushes, until the connection ends.
async fn answer_pushes(connection: Connection, identity: IdentityKey, read: mpsc::Sender<MessageId>) {
    while let Ok(mut stream) = connection.accept_stream().await {
        let Ok(push) = stream.read_frame().await else { return };
        let answer: PushAnswer = match push {
            DirectoryPush::Delivery(delivery) => {
                let header = delivery.envelope.header;
                if read.send(header.id).await.is_err() {
                    return;
                }
                Ok(PushReply::Receipt(Box::new(receipt_for(&identity, &header))))
            }
            _ => Ok(PushReply::Taken),
        };
        if stream.write_frame(&answer).await.is_err() {
            return;
        }
        stream.finish();
    }
}

fn receipt_for(identity: &IdentityKey, header: &EnvelopeHeader) -> SignedReceipt {
    let EnvelopeHeader { sender, id, .. } = *header;
    let (by, kind, at) = (identity.public(), ReceiptKind::Delivered, now_millis());
    receipt::sign(identity, Receipt { by, to: sender, id, sequence: 1, highest: 1, kind, at })
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// A runtime with one thread, so that honest people and attackers do not wait for each other.
pub(crate) fn one_thread() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
