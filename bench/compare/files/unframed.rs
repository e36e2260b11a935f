//! A file over one stream of the product's own transport as it is: no chunks, no hashes, no directory, no profile. Sender and
//! receiver are processes of their own, with one thread each, which is the fastest on two cores.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use qchat::seal::identity::IdentityKey;
use qchat::transport::connection::{Connection, TransportError};
use qchat::transport::endpoint::Endpoint;
use qchat::transport::stream::Stream;
use qchat::transport::tuning::{HANDSHAKE_DEADLINE, Network};
use qchat::transport::verify::AnnouncedDials;
use qchat::wire::chunk::BATCH_BYTES;
use qchat::wire::ids::{DialId, PeerName};
use qchat::wire::refusal::CloseCode;
use qchat::wire::rendezvous::{DialAnnounced, Direct, Purpose};
use rustix::buffer::spare_capacity;
use rustix::io::pread;
use tokio::io::AsyncReadExt as _;

use super::side::{Run, Side};
use crate::one_thread;
use crate::process::{kept, measured};

/// The arguments that make this program a sender or a receiver.
pub(crate) const SEND: &str = "send-unframed";
pub(crate) const RECEIVE: &str = "receive-unframed";

const DIAL: DialId = DialId::from_bytes([7; 16]);
const SENDER: [u8; 32] = [1; 32];
const RECEIVER: [u8; 32] = [2; 32];

/// Bytes of a file in one write to the stream: as large as a batch of chunks.
const PIECE_BYTES: usize = BATCH_BYTES;

/// A sender that waits for receivers. It stops when its standard input is closed.
pub(crate) struct Unframed {
    sender: Child,
    address: String,
    file: PathBuf,
}

impl Unframed {
    pub(crate) fn start(file: &Path) -> anyhow::Result<Self> {
        let mut sender = Command::new(std::env::current_exe()?)
            .arg(SEND)
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let said = kept::Lines::of(sender.stdout.take());
        Ok(Self { sender, address: said.wait_for(|line| Some(line.trim().to_owned()))?, file: file.to_owned() })
    }
}

impl Side for Unframed {
    fn name(&self) -> &'static str {
        "unframed quinn stream"
    }

    fn is_peer(&self) -> bool {
        false
    }

    fn fetch(&mut self, into: &Path) -> anyhow::Result<Run> {
        let before = measured::cpu_seconds(self.sender.id())?;
        let target = into.join(self.file.file_name().context("a file has a name")?);
        let mut receiver = Command::new(std::env::current_exe()?);
        receiver.arg(RECEIVE).arg(&self.address).arg(target);
        let (used, printed) = measured::run(&receiver)?;
        let others_cpu_seconds = measured::cpu_seconds(self.sender.id())? - before;
        Ok(Run { used, transfer_seconds: Some(printed.trim().parse()?), others_cpu_seconds })
    }
}

impl Drop for Unframed {
    fn drop(&mut self) {
        drop(self.sender.stdin.take());
        kept::end(&mut self.sender);
    }
}

/// The sender's process: sends the file to whoever connects, one after the other.
pub(crate) fn send(file: &Path) -> anyhow::Result<()> {
    let identity = IdentityKey::from_seed(&SENDER);
    one_thread()?.block_on(async {
        let dials = AnnouncedDials::default();
        let endpoint = Endpoint::peer(loopback(), &identity, dials.clone(), Network::default())?;
        expect(&dials)?;
        crate::say(&endpoint.local_address()?.to_string());
        let served = async {
            loop {
                let (connection, _) = endpoint.accept().await.context("the endpoint was closed")?.accept_peer().await?;
                expect(&dials)?;
                serve(&connection, file).await?;
            }
        };
        let (mut byte, mut stdin) = ([0], tokio::io::stdin());
        tokio::select! {
            served = served => served,
            ended = stdin.read(&mut byte) => Ok(ended.map(drop)?),
        }
    })
}

/// Expects the next receiver.
fn expect(dials: &AnnouncedDials) -> anyhow::Result<()> {
    let announced = DialAnnounced {
        dial: DIAL,
        from: PeerName::parse("receiver")?,
        key: IdentityKey::from_seed(&RECEIVER).public(),
        purpose: Purpose::Talk,
        direct: Direct::Candidates(Vec::new()),
        relay: None,
    };
    ensure!(dials.expect(announced, Instant::now() + Duration::from_secs(3_600)), "one dial is too many");
    Ok(())
}

async fn serve(connection: &Connection, path: &Path) -> anyhow::Result<()> {
    let mut stream = connection.accept_stream().await?;
    let () = stream.read_frame().await?;
    let (file, mut offset) = (File::open(path)?, 0);
    loop {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        let bytes = pread(&file, spare_capacity(&mut piece), offset)?;
        if bytes == 0 {
            break;
        }
        offset += u64::try_from(bytes)?;
        stream.write(piece.into()).await?;
    }
    stream.finish();
    stream.wait_sent().await;
    match connection.closed().await {
        TransportError::Closed(CloseCode::Done) => Ok(()),
        other => Err(other.into()),
    }
}

/// The receiver's process: fetches the file, and prints in how many seconds, from the dial to the file's final name.
pub(crate) fn receive(address: &str, target: &Path) -> anyhow::Result<()> {
    let address: SocketAddr = address.parse()?;
    let identity = IdentityKey::from_seed(&RECEIVER);
    one_thread()?.block_on(async {
        let endpoint = Endpoint::peer(loopback(), &identity, AnnouncedDials::default(), Network::default())?;
        let sender = IdentityKey::from_seed(&SENDER).public();
        let started = Instant::now();
        let connection = endpoint.dial(address, DIAL, sender, HANDSHAKE_DEADLINE, None).await?;
        let mut stream = connection.open_stream().await?;
        stream.write_frame(&()).await?;
        stream.finish();
        write_to(&mut stream, target).await?;
        crate::say(&started.elapsed().as_secs_f64().to_string());
        endpoint.close(CloseCode::Done);
        connection.wait_close_sent().await;
        Ok(())
    })
}

/// Writes what comes, until the end, under another name first.
async fn write_to(stream: &mut Stream, target: &Path) -> anyhow::Result<()> {
    let part = target.with_extension("part");
    let (file, mut offset) = (File::create(&part)?, 0);
    while let Some(bytes) = stream.read().await? {
        file.write_all_at(&bytes, offset)?;
        offset += u64::try_from(bytes.len())?;
    }
    file.sync_all()?;
    Ok(fs::rename(part, target)?)
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}
