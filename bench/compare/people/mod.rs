//! Clients of a directory made by hand: honest ones, whose waiting is measured.

pub(crate) mod crowd;
pub(crate) mod post;

use std::net::Ipv4Addr;
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
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::process::directory::Place;

/// The password of every honest account.
pub(crate) const PASSWORD: &str = "correct horse";

/// Between two exchanges of the honest people: they are to notice a load, not to be one.
const PAUSE: Duration = Duration::from_millis(20);

const ERRAND: LoginKind = LoginKind::Errand { collects: false };

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

    fn identity_again(&self) -> IdentityKey {
        IdentityKey::from_seed(self.identity.seed())
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

pub(crate) fn login(
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
        pushes.spawn(answer_pushes(writer.connection.clone(), writer.identity_again(), mpsc::channel(1).0));
        pushes.spawn(answer_pushes(reader.connection.clone(), reader.identity_again(), read));
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

/// Takes whatever the directory pushes, until the connection ends. Nothing that comes can be opened.
async fn answer_pushes(connection: Connection, identity: IdentityKey, read: mpsc::Sender<MessageId>) {
    while let Ok(mut stream) = connection.accept_stream().await {
        let Ok(push) = stream.read_frame().await else { return };
        let mut reply = PushReply::Taken;
        if let DirectoryPush::Delivery(delivery) = push {
            let header = delivery.envelope.header;
            reply = PushReply::Receipt(Box::new(sign_receipt(&identity, &header, None)));
            if read.send(header.id).await.is_err() {
                return;
            }
        }
        let answer: PushAnswer = Ok(reply);
        if stream.write_frame(&answer).await.is_err() {
            return;
        }
        stream.finish();
    }
}

/// What a recipient says of a message: its number, or that it cannot be opened.
pub(crate) fn sign_receipt(identity: &IdentityKey, header: &EnvelopeHeader, sequence: Option<u64>) -> SignedReceipt {
    let number = sequence.unwrap_or(0);
    let said = Receipt {
        by: identity.public(),
        to: header.sender,
        id: header.id,
        sequence: number,
        highest: number,
        kind: if sequence.is_some() { ReceiptKind::Delivered } else { ReceiptKind::CannotOpen },
        at: now_millis(),
    };
    receipt::sign(identity, said)
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
