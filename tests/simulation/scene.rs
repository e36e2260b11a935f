//! What everybody in the simulation shares: the clock, chance, the queue of what will happen, the network and the log.
//! The same seed gives the same run: nothing here reads a clock, draws from the system or iterates over a hash map.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use qchat::seal::random::Random;
use qchat::wire::ids::UnixMillis;

use crate::auditor::{Auditor, Fact, Stage};
use crate::directory::DirectoryEvent;
use crate::network::{End, Frame, LinkId, Network, Stream};
use crate::peer::PeerEvent;
use crate::seal::Seal;
use crate::weather::{Fault, Weather};

/// The wall clock at the beginning of a run.
const BEGINNING: UnixMillis = UnixMillis(1_700_000_000_000);

/// Events that a failed run prints.
const TRACE_LINES: usize = 80;

/// Pseudo-random numbers of a seed (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bf0_3635)
    }

    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound.max(1)
    }

    /// One of a slice's places.
    pub(crate) fn place(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("it is below a usize")
    }

    /// Whether something happens that does so in so many of 10,000 cases.
    pub(crate) fn happens(&mut self, of_ten_thousand: u64) -> bool {
        self.below(10_000) < of_ten_thousand
    }

    /// A time between two, in milliseconds.
    pub(crate) fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(from * 1_000 + self.below((to - from) * 1_000 + 1))
    }
}

impl Random for Chance {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let drawn = self.draw().to_le_bytes();
            chunk.copy_from_slice(&drawn[..chunk.len()]);
        }
    }
}

/// Which process of an end an event belongs to: a crash makes those of the life before it void.
pub(crate) type Life = u32;

/// Everything that can happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// A frame comes out of a link.
    Arrives { link: LinkId, to: End, stream: Stream, frame: Box<Frame> },
    /// One end notices that a link is dead.
    Notices { link: LinkId, end: End },
    /// Something in the directory's process.
    Directory(Life, DirectoryEvent),
    /// Something in a peer's process.
    Peer(usize, Life, PeerEvent),
    /// A person writes.
    Write,
    /// Something breaks, or is put right again.
    Fault(Fault),
}

/// What is broken on purpose, to see that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sabotage {
    None,
    /// A peer signs its receipt before it has committed.
    PeerAcknowledgesFirst,
    /// The directory says that it is done before it has committed.
    DirectoryAcknowledgesFirst,
    /// A peer does not know a message that came before.
    ForgetsWhatCame,
    /// A peer takes a late answer to an earlier attempt for one to the last.
    IgnoresAttempt,
    /// A peer does not ask a directory that was restored what it still has.
    NeverAsksWhatIsMissing,
    /// A peer shows at once what comes out of order.
    HoldsNothing,
}

/// The shared part of a run.
pub(crate) struct Scene {
    pub(crate) now: Duration,
    pub(crate) chance: Chance,
    pub(crate) network: Network,
    pub(crate) weather: Weather,
    pub(crate) seal: Box<dyn Seal>,
    pub(crate) sabotage: Sabotage,
    pub(crate) auditor: Auditor,
    queue: BTreeMap<(Duration, u64), Event>,
    next: u64,
    next_stream: u64,
    trace: Option<VecDeque<String>>,
    /// How often what was seen, so that a fault that never comes is noticed.
    pub(crate) seen: BTreeMap<&'static str, usize>,
}

impl Scene {
    pub(crate) fn new(seed: u64, weather: Weather, seal: Box<dyn Seal>, sabotage: Sabotage, is_traced: bool) -> Self {
        Self {
            now: Duration::ZERO,
            chance: Chance::new(seed),
            network: Network::default(),
            weather,
            seal,
            sabotage,
            auditor: Auditor::default(),
            queue: BTreeMap::new(),
            next: 0,
            next_stream: 0,
            trace: is_traced.then(VecDeque::new),
            seen: BTreeMap::new(),
        }
    }

    /// Puts an event into the queue.
    pub(crate) fn after(&mut self, wait: Duration, event: Event) {
        self.at(self.now + wait, event);
    }

    /// Puts an event into the queue, not before now.
    pub(crate) fn at(&mut self, when: Duration, event: Event) {
        self.next += 1;
        self.queue.insert((when.max(self.now), self.next), event);
    }

    /// The next event; the clock moves to it.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let ((when, _), event) = self.queue.pop_first()?;
        self.now = when;
        self.trace(|| format!("{event:?}"));
        Some(event)
    }

    /// What a wall clock shows that is off by so many milliseconds.
    pub(crate) fn wall(&self, skew: i64) -> UnixMillis {
        let millis = u64::try_from(self.now.as_millis()).expect("a run is shorter than 500 million years");
        UnixMillis(BEGINNING.0.saturating_add(millis).saturating_add_signed(skew))
    }

    /// A new stream, of any link.
    pub(crate) fn stream(&mut self) -> Stream {
        self.next_stream += 1;
        Stream(self.next_stream)
    }

    /// Sends a frame; it gets lost with its link.
    pub(crate) fn send(&mut self, link: LinkId, from: End, stream: Stream, frame: Frame) {
        let Some(to) = self.network.other_end(link, from) else { return };
        let mut wait = self.chance.millis(2, 60);
        if self.chance.happens(self.weather.stalls) {
            wait += self.chance.millis(100, 20_000);
        }
        self.after(wait, Event::Arrives { link, to, stream, frame: Box::new(frame) });
        if self.chance.happens(self.weather.links_die) {
            let wait = self.chance.millis(0, 80);
            self.after(wait, Event::Fault(Fault::LinkDies(link)));
        }
    }

    /// Ends a link: what is under way on it is lost, and each end notices in its own time.
    pub(crate) fn kill(&mut self, link: LinkId) {
        for end in self.network.kill(link) {
            let wait = self.chance.millis(0, 20_000);
            self.after(wait, Event::Notices { link, end });
        }
    }

    /// Writes a fact into the log.
    pub(crate) fn fact(&mut self, fact: Fact) {
        self.trace(|| format!("    FACT {fact:?}"));
        *self.seen.entry(kind_of(&fact)).or_default() += 1;
        self.auditor.hear(&fact);
    }

    /// Notes a line for whoever reads a failed run.
    pub(crate) fn trace<T: fmt::Display>(&mut self, line: impl FnOnce() -> T) {
        let Some(trace) = &mut self.trace else { return };
        if trace.len() == TRACE_LINES {
            trace.pop_front();
        }
        let line: String = format!("{:>14.6} {}", self.now.as_secs_f64(), line()).chars().take(400).collect();
        trace.push_back(line);
    }

    /// The last events.
    pub(crate) fn traced(&self) -> String {
        self.trace.iter().flatten().map(|line| format!("{line}\n")).collect()
    }
}

fn kind_of(fact: &Fact) -> &'static str {
    match fact {
        Fact::Written { .. } => "written",
        Fact::State { stage, .. } => match stage {
            Stage::Sending => "sending",
            Stage::Stored => "stored",
            Stage::Refused => "refused",
            Stage::Delivered => "delivered",
            Stage::Read => "read",
        },
        Fact::Kept { .. } => "kept",
        Fact::Shown { .. } => "shown",
        Fact::Missing { .. } => "missing",
        Fact::CannotOpen { .. } => "cannot open",
        Fact::GivenBack { .. } => "given back",
        Fact::PeerRestored { .. } => "peer restored",
        Fact::DirectoryRestored => "directory restored",
        Fact::End => "end",
    }
}
