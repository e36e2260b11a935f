//! What goes wrong in a run, and how often: drawn from its seed, so that some runs are calm and some are wild.

use std::time::Duration;

use crate::network::LinkId;
use crate::scene::Chance;

/// Something that breaks, or is put right again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The next fault is chosen.
    Next,
    LinkDies(LinkId),
    SomeLinkDies,
    StraightLink,
    PeerCrashes,
    PeerStarts(usize),
    PeerBackup,
    PeerRestored,
    DirectoryCrashes,
    DirectoryStarts,
    DirectoryBackup,
    DirectoryRestored,
    /// Somebody's wall clock is set.
    ClockJumps,
    /// The directory pushes again what it pushed before.
    Replay,
    /// Everything is put right.
    Heal,
    /// Is everything done?
    Look,
}

/// How often what happens. Rates are of 10,000 cases.
#[derive(Debug, Clone)]
pub(crate) struct Weather {
    /// Frames that are late by up to 20 s.
    pub(crate) stalls: u64,
    /// Frames with which their link dies.
    pub(crate) links_die: u64,
    /// Commits that take up to 3 s.
    pub(crate) slow_disks: u64,
    /// Pushes for which there is no room.
    pub(crate) full_disks: u64,
    /// Envelopes that are damaged on their way, so that they cannot be opened.
    pub(crate) damages: u64,
    /// Messages after which nobody writes, and nothing breaks, for a minute to 25 hours.
    pub(crate) pauses: u64,
    /// Messages of one pair, who fill a mailbox when the other is away.
    pub(crate) favourites: u64,
    /// Milliseconds between faults, on average.
    fault_every: u64,
    /// Milliseconds between two messages, at most.
    write_every: u64,
    faults: Vec<(Fault, u64)>,
}

impl Weather {
    pub(crate) fn of(chance: &mut Chance) -> Self {
        let mut some = |most: u64| if chance.happens(3_000) { 0 } else { chance.below(most + 1) };
        let (stalls, links_die, slow_disks, full_disks) = (some(1_000), some(120), some(200), some(200));
        let (damages, pauses, favourites) = (some(600), some(300), some(8_000));
        let faults = vec![
            (Fault::SomeLinkDies, some(20)),
            (Fault::StraightLink, some(60)),
            (Fault::PeerCrashes, some(20)),
            (Fault::PeerBackup, some(10)),
            (Fault::PeerRestored, some(10)),
            (Fault::DirectoryCrashes, some(8)),
            (Fault::DirectoryBackup, some(6)),
            (Fault::DirectoryRestored, some(5)),
            (Fault::ClockJumps, some(6)),
            (Fault::Replay, some(30)),
        ];
        let fault_every = 100 + chance.below(3_000);
        let write_every = 20 + chance.below(2_000);
        Self {
            stalls,
            links_die,
            slow_disks,
            full_disks,
            damages,
            pauses,
            favourites,
            fault_every,
            write_every,
            faults,
        }
    }

    /// A weather in which nothing happens by itself.
    pub(crate) fn calm() -> Self {
        Self {
            stalls: 0,
            links_die: 0,
            slow_disks: 0,
            full_disks: 0,
            damages: 0,
            pauses: 0,
            favourites: 0,
            fault_every: 1,
            write_every: 1,
            faults: Vec::new(),
        }
    }

    /// The next fault, and how long it is until it.
    pub(crate) fn next_fault(&self, chance: &mut Chance) -> Option<(Duration, Fault)> {
        let total: u64 = self.faults.iter().map(|(_, weight)| weight).sum();
        let wait = chance.millis(0, 2 * self.fault_every);
        let mut left = chance.below(total);
        for &(fault, weight) in &self.faults {
            match left.checked_sub(weight) {
                None => return Some((wait, fault)),
                Some(less) => left = less,
            }
        }
        None
    }

    /// How long it is until somebody writes again.
    pub(crate) fn next_write(&self, chance: &mut Chance) -> Duration {
        if chance.happens(7_000) { chance.millis(0, 30) } else { chance.millis(0, self.write_every) }
    }
}
