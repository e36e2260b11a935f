//! A cable between two namespaces in which every packet takes its time: a TAP device at each end, and for each way a
//! thread that takes packets in and one that gives them out. The kernel of a test machine need not be able to delay
//! packets itself (netem).

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use crate::namespaces::Namespace;

/// Packets under way in one direction; what comes beyond them is lost.
const UNDER_WAY_MAX: usize = 16_384;

/// The longest Ethernet frame on these devices: an MTU of 1,500, with room for the header.
const FRAME_BYTES: usize = 2_048;

/// An interface of a namespace, by the name it is to have.
pub(crate) type End<'a> = (&'a Namespace, &'a str);

/// Lays a cable; it is gone with either of its namespaces.
pub(crate) fn lay(ends: [End<'_>; 2], delay: Duration) {
    let [one, other] = ends.map(|(namespace, name)| Arc::new(namespace.within(|| device(name))));
    carry(one.clone(), other.clone(), delay);
    carry(other, one, delay);
}

fn device(name: &str) -> SyncDevice {
    DeviceBuilder::new().name(name).layer(Layer::L2).build_sync().unwrap_or_else(|error| {
        panic!("no TAP device {name}, with which the NAT lab delays packets: {error}; it needs /dev/net/tun")
    })
}

/// One way through the cable.
fn carry(from: Arc<SyncDevice>, to: Arc<SyncDevice>, delay: Duration) {
    let (entered, leaving) = sync_channel(UNDER_WAY_MAX);
    thread::spawn(move || take_in(&from, &entered, delay));
    thread::spawn(move || give_out(&leaving, &to));
}

/// Until the device is gone.
fn take_in(from: &SyncDevice, entered: &SyncSender<(Instant, Vec<u8>)>, delay: Duration) {
    let mut frame = [0; FRAME_BYTES];
    while let Ok(length) = from.recv(&mut frame) {
        // Full is a packet lost; without the other thread there is no device to give it to.
        drop(entered.try_send((Instant::now() + delay, frame[..length].to_vec())));
    }
}

/// Until nothing more is taken in, or the device is gone.
fn give_out(leaving: &Receiver<(Instant, Vec<u8>)>, to: &SyncDevice) {
    for (due, frame) in leaving {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.send(&frame).is_err() {
            return;
        }
    }
}
