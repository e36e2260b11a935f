//! One stream between two peers of the product's transport, memory to memory: unframed, in chunks, and with a write for
//! every chunk. Each side has a thread and a runtime of its own.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use bytes::Bytes;
use qchat::seal::identity::IdentityKey;
use qchat::seal::random::OsRandom;
use qchat::transport::connection::{Connection, TransportError};
use qchat::transport::endpoint::Endpoint;
use qchat::transport::stream::Stream;
use qchat::transport::tuning::{HANDSHAKE_DEADLINE, Network};
use qchat::transport::verify::AnnouncedDials;
use qchat::wire::chunk::{self, BATCH_BYTES, CHUNK_BYTES, Decoder, Step};
use qchat::wire::ids::{DialId, PeerKey, PeerName};
use qchat::wire::refusal::CloseCode;
use qchat::wire::rendezvous::{DialAnnounced, Direct, Purpose};
use qchat::wire::transfer::GROUP_BYTES;
use rustix::time::ClockId;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::figures::Spread;
use crate::one_thread;
use crate::process::cpu_time::cpu_time;

/// Pieces that are taken at a time, as many as for a file.
const PIECES: usize = 32;

const DIAL: DialId = DialId::from_bytes([7; 16]);

/// How the bytes lie on the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Framing {
    /// As they are, without a copy on either side: the most that a stream can do.
    Unframed,
    /// As they are, but with a new buffer for each write and a copy on arrival, like chunks.
    Copied,
    /// As the product does it.
    Chunks,
    /// As nobody should do it.
    WritePerChunk,
}

impl Framing {
    fn is_chunked(self) -> bool {
        matches!(self, Self::Chunks | Self::WritePerChunk)
    }
}

/// The first frame of a stream: what follows.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) framing: Framing,
    pub(super) bytes: u64,
}

/// What one run took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) mib_per_second: f64,
    /// Of both sides.
    pub(super) cpu_seconds_per_gib: f64,
}

/// What was measured of one plan, run after run.
pub(super) type Runs = Vec<Run>;

/// Measures each plan in turn, over one connection with packets of at most this size.
pub(super) fn measure<const PLANS: usize>(
    rounds: usize,
    packet_bytes_max: u16,
    plans: [Plan; PLANS],
) -> anyhow::Result<[Runs; PLANS]> {
    let link = Link::open(Network { packet_bytes_max, ..Network::default() })?;
    let mut runs = [const { Vec::new() }; PLANS];
    for round in 0..=rounds {
        for (plan, runs) in plans.iter().zip(&mut runs) {
            let run = link.run(*plan)?;
            // The first round finds the path's packet size and opens the congestion window.
            if round > 0 {
                runs.push(run);
            }
        }
    }
    link.close()?;
    Ok(runs)
}

/// How many times as much as the base, in each round.
pub(super) fn ratios(runs: &[Run], base: &[Run], of: fn(&Run) -> f64) -> Spread {
    Spread::of(runs.iter().zip(base).map(|(run, base)| of(run) / of(base)))
}

/// A sender here, and a receiver on a thread of its own.
struct Link {
    runtime: Runtime,
    endpoint: Endpoint,
    connection: Connection,
    receiver: JoinHandle<anyhow::Result<()>>,
}

impl Link {
    /// Connects two peers as the product does: through an announced dial, with the settings of a peer link.
    fn open(network: Network) -> anyhow::Result<Self> {
        let identity = IdentityKey::generate(&mut OsRandom);
        let key = identity.public();
        let (ready, address) = mpsc::channel();
        let receiver = thread::spawn(move || one_thread()?.block_on(receive_all(key, network, ready)));
        let Ok((address, receiver_key)) = address.recv() else {
            return Err(receiver
                .join()
                .map_err(|_| anyhow!("the receiver panicked"))?
                .expect_err("it sent no address"));
        };
        let runtime = one_thread()?;
        let (endpoint, connection) = runtime.block_on(async {
            let endpoint = Endpoint::peer(loopback(), &identity, AnnouncedDials::default(), network)?;
            let connection = endpoint.dial(address, DIAL, receiver_key, HANDSHAKE_DEADLINE, None).await?;
            Ok::<_, TransportError>((endpoint, connection))
        })?;
        Ok(Self { runtime, endpoint, connection, receiver })
    }

    /// Sends once, and waits until the other side has counted everything.
    fn run(&self, plan: Plan) -> anyhow::Result<Run> {
        self.runtime.block_on(async {
            // The process is both sides.
            let (started, cpu_before) = (Instant::now(), cpu_time(ClockId::ProcessCPUTime));
            let mut stream = self.connection.open_stream().await?;
            stream.write_frame(&plan).await?;
            stream.yield_to_control();
            send(&mut stream, plan).await?;
            stream.finish();
            let received: u64 = stream.read_frame().await?;
            ensure!(received == plan.bytes, "{received} of {} bytes arrived", plan.bytes);
            let seconds = started.elapsed().as_secs_f64();
            let cpu_seconds = (cpu_time(ClockId::ProcessCPUTime) - cpu_before).as_secs_f64();
            #[expect(clippy::cast_precision_loss, reason = "a count below 2^52")]
            let mib = plan.bytes as f64 / f64::from(1 << 20);
            Ok(Run { mib_per_second: mib / seconds, cpu_seconds_per_gib: cpu_seconds * 1024.0 / mib })
        })
    }

    fn close(self) -> anyhow::Result<()> {
        self.endpoint.close(CloseCode::Done);
        self.runtime.block_on(self.endpoint.wait_closed());
        self.receiver.join().map_err(|_| anyhow!("the receiver panicked"))?
    }
}

async fn send(stream: &mut Stream, plan: Plan) -> Result<(), TransportError> {
    let piece_bytes = if plan.framing == Framing::WritePerChunk { CHUNK_BYTES } else { BATCH_BYTES };
    let source: Bytes = (0..=u8::MAX).cycle().take(piece_bytes).collect();
    for _ in 0..plan.bytes / GROUP_BYTES {
        let mut left = usize::try_from(GROUP_BYTES).unwrap_or(usize::MAX);
        while left > 0 {
            let piece = source.slice(..left.min(piece_bytes));
            left -= piece.len();
            let batch = match plan.framing {
                Framing::Unframed => piece,
                Framing::Copied => Bytes::copy_from_slice(&piece),
                Framing::Chunks | Framing::WritePerChunk => encoded(&piece),
            };
            stream.write(batch).await?;
        }
    }
    if plan.framing.is_chunked() { stream.write(vec![chunk::END].into()).await } else { Ok(()) }
}

fn encoded(piece: &[u8]) -> Bytes {
    let mut batch = Vec::with_capacity(chunk::encoded_bytes(piece.len()));
    chunk::encode(piece, &mut batch);
    batch.into()
}

/// Serves runs until the sender closes the connection.
async fn receive_all(
    sender: PeerKey,
    network: Network,
    ready: mpsc::Sender<(SocketAddr, PeerKey)>,
) -> anyhow::Result<()> {
    let identity = IdentityKey::generate(&mut OsRandom);
    let dials = AnnouncedDials::default();
    let announced = DialAnnounced {
        dial: DIAL,
        from: PeerName::parse("sender")?,
        key: sender,
        purpose: Purpose::Talk,
        direct: Direct::Candidates(Vec::new()),
        relay: None,
    };
    ensure!(dials.expect(announced, Instant::now() + Duration::from_secs(10)), "the first dial is one too many");
    let endpoint = Endpoint::peer(loopback(), &identity, dials, network)?;
    ready.send((endpoint.local_address()?, identity.public()))?;
    let (connection, _) = endpoint.accept().await.context("the endpoint was closed")?.accept_peer().await?;
    loop {
        let mut stream = match connection.accept_stream().await {
            Ok(stream) => stream,
            Err(TransportError::Closed(CloseCode::Done)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let plan: Plan = stream.read_frame().await?;
        let received = match plan.framing {
            Framing::Unframed => count(&mut stream).await?,
            Framing::Copied => copy(&mut stream).await?,
            Framing::Chunks | Framing::WritePerChunk => decode(&mut stream, plan.bytes).await?,
        };
        stream.write_frame(&received).await?;
        stream.finish();
    }
}

async fn count(stream: &mut Stream) -> anyhow::Result<u64> {
    let mut received = 0;
    let mut pieces = [const { Bytes::new() }; PIECES];
    while let Some(count) = stream.read_pieces(&mut pieces).await? {
        received += pieces[..count].iter().map(|piece| piece.len() as u64).sum::<u64>();
    }
    Ok(received)
}

async fn copy(stream: &mut Stream) -> anyhow::Result<u64> {
    let mut payload = Vec::new();
    let mut received = 0;
    let mut pieces = [const { Bytes::new() }; PIECES];
    while let Some(count) = stream.read_pieces(&mut pieces).await? {
        for piece in &pieces[..count] {
            payload.extend_from_slice(piece);
            received += black_box(&payload).len() as u64;
            payload.clear();
        }
    }
    Ok(received)
}

/// Takes groups of chunks off the stream as the product does, up to the end marker.
async fn decode(stream: &mut Stream, bytes: u64) -> anyhow::Result<u64> {
    let mut decoder = Decoder::default();
    let mut payload = Vec::new();
    let mut received = 0;
    let mut pieces = [const { Bytes::new() }; PIECES];
    decoder.expect_group(usize::try_from(GROUP_BYTES)?);
    while let Some(count) = stream.read_pieces(&mut pieces).await? {
        for piece in &pieces[..count] {
            let mut input: &[u8] = piece;
            while !input.is_empty() && received < bytes {
                let step = decoder.decode(&mut input, &mut payload)?;
                received += black_box(&payload).len() as u64;
                payload.clear();
                match step {
                    Step::NeedInput => {}
                    Step::GroupComplete => decoder.expect_group(usize::try_from(GROUP_BYTES)?),
                    Step::RefusalFollows => bail!("the sender refused"),
                }
            }
            decoder.expect_end(&mut input)?;
        }
    }
    Ok(received)
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}
