//! A file over one stream of the product's own transport as it is: no chunks, no hashes, no directory, no profile. Sender and
//! receiver are processes of their own, with one thread each, which is the fastest on two cores; or with two, as the product
//! has them.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use bytes::Bytes;
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
use tokio::sync::mpsc;

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

/// Bytes that go from one thread to the other at a time.
const HANDED_OVER_BYTES: usize = 2 * PIECE_BYTES;

/// And how many of these may wait.
const WAITING_MAX: usize = 4;

/// How many threads a process has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    /// A disk that makes it wait keeps its packets waiting.
    One,
    /// One for the network and one for the disk.
    Two,
}

impl Threads {
    pub(crate) const ALL: [Self; 2] = [Self::One, Self::Two];

    /// What a stream between such processes is called.
    pub(crate) fn side(self) -> &'static str {
        match self {
            Self::One => "unframed quinn stream",
            Self::Two => "the same, network and disk on two threads",
        }
    }

    /// As an argument.
    fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Two => "two",
        }
    }

    pub(crate) fn parse(name: &str) -> anyhow::Result<Self> {
        Self::ALL.into_iter().find(|threads| threads.name() == name).with_context(|| format!("{name} threads"))
    }
}

/// A sender that waits for receivers. It stops when its standard input is closed.
pub(crate) struct Unframed {
    sender: Child,
    address: String,
    file: PathBuf,
    threads: Threads,
}

impl Unframed {
    pub(crate) fn start(file: &Path, threads: Threads) -> anyhow::Result<Self> {
        let mut sender = Command::new(std::env::current_exe()?)
            .args([SEND, threads.name()])
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let said = kept::Lines::of(sender.stdout.take());
        let address = said.wait_for(|line| Some(line.trim().to_owned()))?;
        Ok(Self { sender, address, file: file.to_owned(), threads })
    }
}

impl Side for Unframed {
    fn name(&self) -> &'static str {
        self.threads.side()
    }

    fn is_peer(&self) -> bool {
        false
    }

    fn fetch(&mut self, into: &Path) -> anyhow::Result<Run> {
        let before = measured::cpu_seconds(self.sender.id())?;
        let target = into.join(self.file.file_name().context("a file has a name")?);
        let mut receiver = Command::new(std::env::current_exe()?);
        receiver.args([RECEIVE, self.threads.name(), &self.address]).arg(target);
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
pub(crate) fn send(threads: Threads, file: &Path) -> anyhow::Result<()> {
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
                serve(&connection, file, threads).await?;
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

async fn serve(connection: &Connection, path: &Path, threads: Threads) -> anyhow::Result<()> {
    let mut stream = connection.accept_stream().await?;
    let () = stream.read_frame().await?;
    let file = File::open(path)?;
    match threads {
        Threads::One => {
            let mut offset = 0;
            while let Some(piece) = read(&file, PIECE_BYTES, &mut offset)? {
                stream.write(piece).await?;
            }
        }
        Threads::Two => {
            let (ready, mut pieces) = mpsc::channel(WAITING_MAX);
            let reading = thread::spawn(move || read_ahead(&file, &ready));
            while let Some(mut pieces) = pieces.recv().await {
                while !Bytes::is_empty(&pieces) {
                    stream.write(pieces.split_to(PIECE_BYTES.min(pieces.len()))).await?;
                }
            }
            reading.join().map_err(|_| anyhow!("reading has panicked"))??;
        }
    }
    stream.finish();
    stream.wait_sent().await;
    match connection.closed().await {
        TransportError::Closed(CloseCode::Done) => Ok(()),
        other => Err(other.into()),
    }
}

/// The next bytes of a file; `None` at its end.
fn read(file: &File, bytes: usize, offset: &mut u64) -> anyhow::Result<Option<Bytes>> {
    let mut piece = Vec::with_capacity(bytes);
    let read = pread(file, spare_capacity(&mut piece), *offset)?;
    *offset += u64::try_from(read)?;
    Ok((read > 0).then(|| piece.into()))
}

fn read_ahead(file: &File, ready: &mpsc::Sender<Bytes>) -> anyhow::Result<()> {
    let mut offset = 0;
    while let Some(pieces) = read(file, HANDED_OVER_BYTES, &mut offset)? {
        ready.blocking_send(pieces)?;
    }
    Ok(())
}

/// The receiver's process: fetches the file, and prints in how many seconds, from the dial to the file's final name.
pub(crate) fn receive(threads: Threads, address: &str, target: &Path) -> anyhow::Result<()> {
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
        write_to(&mut stream, target, threads).await?;
        crate::say(&started.elapsed().as_secs_f64().to_string());
        endpoint.close(CloseCode::Done);
        connection.wait_close_sent().await;
        Ok(())
    })
}

/// Writes what comes, until the end, under another name first.
async fn write_to(stream: &mut Stream, target: &Path, threads: Threads) -> anyhow::Result<()> {
    let part = target.with_extension("part");
    let file = File::create(&part)?;
    match threads {
        Threads::One => {
            let mut offset = 0;
            while let Some(bytes) = stream.read().await? {
                write(&file, &bytes, &mut offset)?;
            }
            file.sync_all()?;
        }
        Threads::Two => {
            let (came, waiting) = mpsc::channel(WAITING_MAX);
            let writing = thread::spawn(move || write_behind(&file, waiting));
            let mut pieces = Vec::with_capacity(HANDED_OVER_BYTES);
            while let Some(bytes) = stream.read().await? {
                pieces.extend_from_slice(&bytes);
                if pieces.len() >= HANDED_OVER_BYTES {
                    let full = std::mem::replace(&mut pieces, Vec::with_capacity(HANDED_OVER_BYTES));
                    if came.send(full).await.is_err() {
                        bail!("nobody writes any more");
                    }
                }
            }
            came.send(pieces).await?;
            drop(came);
            writing.join().map_err(|_| anyhow!("writing has panicked"))??;
        }
    }
    Ok(fs::rename(part, target)?)
}

fn write(file: &File, bytes: &[u8], offset: &mut u64) -> anyhow::Result<()> {
    file.write_all_at(bytes, *offset)?;
    *offset += u64::try_from(bytes.len())?;
    Ok(())
}

fn write_behind(file: &File, mut waiting: mpsc::Receiver<Vec<u8>>) -> anyhow::Result<()> {
    let mut offset = 0;
    while let Some(pieces) = waiting.blocking_recv() {
        write(file, &pieces, &mut offset)?;
    }
    Ok(file.sync_all()?)
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}
