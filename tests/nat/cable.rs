//! A cable between two namespaces in which packets take their time, wait before a narrow part, and are lost: a TUN device
//! at each end, and for each way a thread that takes packets in and one that gives them out. The kernel of a test machine
//! need not be able to do that itself (netem).
//!
//! The kernel hands over what a program sent in one call as one piece, as to a network card, and takes packets that follow
//! each other back as one; in between each packet is one of its own. That is how two cores carry a gigabit in a second.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tun_rs::{DeviceBuilder, GROTable, IDEAL_BATCH_SIZE, Layer, SyncDevice, VIRTIO_NET_HDR_LEN};

use super::namespaces::Namespace;

/// Packets under way in one direction; what comes beyond them is lost. A gigabit takes 12,500 for 150 ms.
const UNDER_WAY_MAX: usize = 16_384;

/// Pieces that wait for the thread that takes them in while the machine does something else.
const DEVICE_QUEUE: u32 = 10_000;

/// The longest piece that the kernel hands over.
const PIECE_BYTES: usize = VIRTIO_NET_HDR_LEN + 65_535;

/// The longest packet on these devices: an MTU of 1,500, with some room.
const PACKET_BYTES: usize = 2_048;

/// Losses are of a million packets, so that one in ten thousand can be said.
const MILLION: u64 = 1_000_000;

/// An interface of a namespace, by the name it is to have.
pub(crate) type End<'a> = (&'a Namespace, &'a str);

/// What a cable does to packets, each way alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Nature {
    /// How long each is under way.
    pub(crate) delay: Duration,
    /// `None` is as fast as the machine can.
    pub(crate) narrow: Option<Narrow>,
    /// How many of a million are lost wherever they are; what the narrow part has no room for comes on top of that.
    pub(crate) lost_of_a_million: u64,
    /// Which ones: two cables with the same seed lose the same packets of the same traffic.
    pub(crate) seed: u64,
}

/// The narrowest part of a way, and the queue before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Narrow {
    pub(crate) bits_per_second: u64,
    /// How long the last packet of a full queue waits; packets that come then are lost.
    pub(crate) queue: Duration,
}

impl Nature {
    /// Nothing but a delay.
    pub(crate) fn delay(delay: Duration) -> Self {
        Self { delay, narrow: None, lost_of_a_million: 0, seed: 0 }
    }
}

/// Lays a cable; it is gone with either of its namespaces.
pub(crate) fn lay(ends: [End<'_>; 2], nature: Nature) {
    let [one, other] = ends.map(|(namespace, name)| Arc::new(namespace.within(|| device(name))));
    carry(one.clone(), other.clone(), nature, nature.seed);
    carry(other, one, nature, !nature.seed);
}

fn device(name: &str) -> SyncDevice {
    let built = DeviceBuilder::new().name(name).layer(Layer::L3).offload(true).build_sync();
    let device = built.unwrap_or_else(|error| {
        panic!("no TUN device {name}, with which the NAT lab delays packets: {error}; it needs /dev/net/tun")
    });
    device.set_tx_queue_len(DEVICE_QUEUE).expect("whoever made a device may set it up");
    device
}

/// One way through the cable.
fn carry(from: Arc<SyncDevice>, to: Arc<SyncDevice>, nature: Nature, seed: u64) {
    let (entered, leaving) = sync_channel(UNDER_WAY_MAX);
    let way = Way { nature, is_busy_until: Instant::now(), dice: seed };
    thread::spawn(move || take_in(&from, &entered, way));
    thread::spawn(move || give_out(&leaving, &to));
}

/// A packet that is under way, with room in front for what the kernel wants to know of it.
struct Packet {
    due: Instant,
    bytes: Vec<u8>,
}

/// Decides what becomes of packets.
struct Way {
    nature: Nature,
    /// When the narrow part has sent what waits.
    is_busy_until: Instant,
    dice: u64,
}

impl Way {
    /// When a packet that comes now gets to the other end. `None` when it is lost.
    fn due(&mut self, now: Instant, bytes: usize) -> Option<Instant> {
        let mut leaves = now;
        if let Some(Narrow { bits_per_second, queue }) = self.nature.narrow {
            let starts = self.is_busy_until.max(now);
            if starts - now > queue {
                return None;
            }
            let bits = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(8);
            leaves = starts + Duration::from_nanos(bits.saturating_mul(1_000_000_000) / bits_per_second);
            self.is_busy_until = leaves;
        }
        (self.throw() % MILLION >= self.nature.lost_of_a_million).then_some(leaves + self.nature.delay)
    }

    /// The next number of SplitMix64.
    fn throw(&mut self) -> u64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.dice ^ (self.dice >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Until the device is gone.
fn take_in(from: &SyncDevice, entered: &SyncSender<Packet>, mut way: Way) {
    let mut piece = vec![0; PIECE_BYTES];
    let mut packets = vec![[0; PACKET_BYTES]; IDEAL_BATCH_SIZE];
    let mut sizes = [0; IDEAL_BATCH_SIZE];
    loop {
        let count = match from.recv_multiple(&mut piece, &mut packets, &mut sizes, 0) {
            Ok(count) => count,
            Err(error) if is_gone(&error) => return,
            Err(_) => continue, // a piece that is no packet
        };
        let now = Instant::now();
        for (packet, size) in packets.iter().zip(sizes).take(count) {
            let Some(due) = way.due(now, size) else { continue };
            let mut bytes = Vec::with_capacity(VIRTIO_NET_HDR_LEN + size);
            bytes.resize(VIRTIO_NET_HDR_LEN, 0);
            bytes.extend_from_slice(&packet[..size]);
            // Full is a packet lost.
            if let Err(TrySendError::Disconnected(_)) = entered.try_send(Packet { due, bytes }) {
                return;
            }
        }
    }
}

/// Until nothing more is taken in, or the device is gone. What is due at the same time goes out together.
fn give_out(leaving: &Receiver<Packet>, to: &SyncDevice) {
    let mut table = GROTable::default();
    let mut together = Vec::with_capacity(IDEAL_BATCH_SIZE);
    let mut next = leaving.recv().ok();
    while let Some(first) = next.take() {
        thread::sleep(first.due.saturating_duration_since(Instant::now()));
        let now = Instant::now();
        together.push(first.bytes);
        while let Ok(packet) = leaving.try_recv() {
            if packet.due > now || together.len() == IDEAL_BATCH_SIZE {
                next = Some(packet);
                break;
            }
            together.push(packet.bytes);
        }
        // An interface that is down takes nothing: those packets are lost.
        if to.send_multiple(&mut table, &mut together, VIRTIO_NET_HDR_LEN).is_err_and(|error| is_gone(&error)) {
            return;
        }
        together.clear();
        next = next.or_else(|| leaving.recv().ok());
    }
}

fn is_gone(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(Errno::BADFD.raw_os_error())
}
