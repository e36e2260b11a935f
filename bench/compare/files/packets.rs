//! One large file in packets as most networks carry them: those of loopback are four times as large, and what a packet costs is
//! most of what QUIC costs.

use std::process::Command;

use anyhow::ensure;
use serde::{Deserialize, Serialize};

use super::room::Room;
use super::side::Side;
use super::turns::{self, Measured};
use super::two_people::TwoPeople;
use super::unframed::{Threads, Unframed};
use crate::far;

/// The argument that makes this program the one inside the namespace.
pub(crate) const INSIDE: &str = "files-inside";

/// Of an IP packet on loopback, as on Ethernet.
pub(super) const PACKET_BYTES: u16 = 1_500;

/// How much is moved, and how often.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(super) bytes: u64,
    pub(super) rounds: usize,
}

/// Lets the program and the plain stream move a file, in a network namespace of their own.
pub(super) fn measure(settings: Settings) -> anyhow::Result<Vec<Measured>> {
    far::inside(INSIDE, &settings)
}

/// Measures, inside the namespace.
pub(crate) fn find(Settings { bytes, rounds }: Settings) -> anyhow::Result<Vec<Measured>> {
    let set = Command::new("ip").args(["link", "set", "lo", "mtu", &PACKET_BYTES.to_string(), "up"]).status()?;
    ensure!(set.success(), "loopback does not take packets of {PACKET_BYTES} bytes");
    let room = Room::make()?;
    let file = room.file("large", bytes)?;
    let mut sides: Vec<Box<dyn Side>> = vec![Box::new(TwoPeople::start(room.path(), &file)?)];
    for threads in Threads::ALL {
        sides.push(Box::new(Unframed::start(&file, threads)?));
    }
    turns::interleave(&room, rounds, &mut sides, &file)
}
