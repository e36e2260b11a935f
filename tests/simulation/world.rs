//! One run: a directory and five peers in one thread, what goes wrong, and at the end the auditor's verdict.

use std::collections::BTreeMap;
use std::time::Duration;

use qchat::wire::ids::{PeerKey, PeerName};

use crate::auditor::Fact;
use crate::directory::Directory;
use crate::network::{End, LinkId};
use crate::peer::Peer;
use crate::scene::{Chance, Event, Sabotage, Scene};
use crate::seal::{RealSeal, Seal, TransparentSeal};
use crate::weather::{Fault, Weather};

const PEERS: usize = 5;

/// After everything was put right, all is to be done within this time.
const PATIENCE: Duration = Duration::from_secs(2 * 3_600);

/// A run with more events than this does the same again and again.
const EVENTS_PER_MESSAGE_MAX: u64 = 150;

const LOOK_EVERY: Duration = Duration::from_secs(30);

/// What a run is made of; the same run gives the same facts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) seed: u64,
    pub(crate) messages: u64,
    pub(crate) is_sealed: bool,
    pub(crate) sabotage: Sabotage,
}

/// How a run without a violation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// How often what was seen.
    pub(crate) seen: BTreeMap<&'static str, usize>,
    pub(crate) lasted: Duration,
}

impl Run {
    pub(crate) fn transparent(seed: u64, messages: u64) -> Self {
        Self { seed, messages, is_sealed: false, sabotage: Sabotage::None }
    }

    /// Runs it.
    ///
    /// # Errors
    /// The violations, and the last events before the first of them.
    pub(crate) fn go(self) -> Result<Outcome, String> {
        World::new(self, false).run().or_else(|_| World::new(self, true).run())
    }
}

/// Everything there is.
pub(crate) struct World {
    pub(crate) scene: Scene,
    pub(crate) directory: Directory,
    pub(crate) peers: Vec<Peer>,
    run: Run,
    left_to_write: u64,
    /// Nobody writes until then, and nothing more breaks.
    paused_until: Duration,
    /// When everything was put right.
    healed: Option<Duration>,
    is_over: bool,
}

impl World {
    pub(crate) fn new(run: Run, is_traced: bool) -> Self {
        let weather = Weather::of(&mut Chance::new(run.seed ^ 0xfa17));
        Self::with_weather(run, weather, is_traced)
    }

    pub(crate) fn with_weather(run: Run, weather: Weather, is_traced: bool) -> Self {
        let seal: Box<dyn Seal> = if run.is_sealed { Box::new(RealSeal) } else { Box::new(TransparentSeal) };
        let mut scene = Scene::new(run.seed, weather, seal, run.sabotage, is_traced);
        let mut peers: Vec<Peer> = (0..PEERS).map(|index| Peer::new(index, &mut scene)).collect();
        let mut directory = Directory::default();
        let people: Vec<(PeerKey, PeerName)> = peers.iter().map(|peer| (peer.key(), peer.name.clone())).collect();
        for peer in &mut peers {
            peer.people = people.iter().cloned().collect();
            directory.add_account(peer.index, &peer.name, peer.key());
        }
        Self {
            scene,
            directory,
            peers,
            run,
            left_to_write: run.messages,
            paused_until: Duration::ZERO,
            healed: None,
            is_over: false,
        }
    }

    /// Everybody starts.
    pub(crate) fn start(&mut self) {
        self.directory.start(&mut self.scene);
        for peer in &mut self.peers {
            peer.start(&mut self.scene);
        }
    }

    pub(crate) fn run(mut self) -> Result<Outcome, String> {
        self.start();
        self.scene.after(Duration::from_secs(1), Event::Write);
        self.scene.after(Duration::from_secs(2), Event::Fault(Fault::Next));
        let mut events = 0;
        while !self.is_over && self.scene.auditor.violations().is_empty() {
            self.step();
            events += 1;
            if events > EVENTS_PER_MESSAGE_MAX * (self.run.messages + 1_000) {
                return Err(format!("{:?}\n{}it goes round in circles\n", self.run, self.scene.traced()));
            }
        }
        self.verdict()
    }

    /// What the auditor found so far.
    pub(crate) fn verdict(&self) -> Result<Outcome, String> {
        let violations = self.scene.auditor.violations();
        if violations.is_empty() {
            return Ok(Outcome { seen: self.scene.seen.clone(), lasted: self.scene.now });
        }
        let violations: String = violations.iter().map(|violation| format!("{violation}\n")).collect();
        Err(format!("{:?}\n{}{violations}", self.run, self.scene.traced()))
    }

    /// Lets the next thing happen.
    pub(crate) fn step(&mut self) {
        let event = self.scene.next().expect("the directory looks for old envelopes for ever");
        let scene = &mut self.scene;
        match event {
            Event::Arrives { link, to, stream, frame } if scene.network.is_alive(link) => match to {
                End::Directory => self.directory.arrives(scene, link, stream, *frame),
                End::Peer(peer) => self.peers[peer].arrives(scene, link, stream, *frame),
            },
            Event::Arrives { .. } => {}
            Event::Notices { link, end } => {
                scene.network.forget(link, end);
                match end {
                    End::Directory => self.directory.notices(link),
                    End::Peer(peer) => self.peers[peer].notices(scene, link),
                }
            }
            Event::Directory(life, event) => self.directory.happens(scene, life, event),
            Event::Peer(peer, life, event) => self.peers[peer].happens(scene, life, event),
            Event::Write => self.somebody_writes(),
            Event::Fault(fault) => self.breaks(fault),
        }
        // A directory that is down does not answer the door.
        if !self.directory.is_up {
            for link in self.scene.network.of(End::Directory) {
                self.scene.kill(link);
            }
        }
    }

    /// Lets so much time pass.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.scene.now + time;
        while self.scene.now < until {
            self.step();
        }
    }

    fn somebody_writes(&mut self) {
        let (chance, weather) = (&mut self.scene.chance, &self.scene.weather);
        let by = if self.peers[0].is_up && chance.happens(weather.favourites) { 0 } else { chance.place(PEERS) };
        let to = if chance.happens(weather.favourites) { 1 } else { chance.place(PEERS) };
        let to = if to == by { (to + 1) % PEERS } else { to };
        let mut wait = weather.next_write(chance);
        if self.peers[by].is_up {
            self.write(by, to);
            self.left_to_write -= 1;
            if chance_of_pause(&mut self.scene) {
                let longest = if self.scene.chance.happens(1_000) { 90_000_000 } else { 900_000 };
                wait += self.scene.chance.millis(60_000, longest);
                self.paused_until = self.scene.now + wait;
            }
        }
        if !self.peers[by].is_up {
            wait += Duration::from_millis(300);
            // Who wants to write does not wait for ever.
            if self.scene.chance.happens(500) {
                self.start_peer(by);
            }
        }
        let next = if self.left_to_write == 0 { Event::Fault(Fault::Heal) } else { Event::Write };
        self.scene.after(wait, next);
    }

    /// One writes to another.
    pub(crate) fn write(&mut self, by: usize, to: usize) {
        let (name, key) = (self.peers[to].name.clone(), self.peers[to].key());
        self.peers[by].write_message(&mut self.scene, name, key);
    }

    // --- what goes wrong

    /// Lets something go wrong, or right.
    pub(crate) fn breaks(&mut self, fault: Fault) {
        let peer = self.scene.chance.place(PEERS);
        let puts_right = [Fault::DirectoryStarts, Fault::Look, Fault::Heal].contains(&fault)
            || matches!(fault, Fault::PeerStarts(_));
        if self.healed.is_some() && !puts_right {
            return;
        }
        match fault {
            Fault::Next => self.choose_fault(),
            Fault::LinkDies(link) => self.scene.kill(link),
            Fault::SomeLinkDies => {
                let alive = self.scene.network.alive();
                let place = self.scene.chance.place(alive.len());
                if let Some(&link) = alive.get(place) {
                    self.scene.kill(link);
                }
            }
            Fault::StraightLink => {
                let other = (peer + 1 + self.scene.chance.place(PEERS - 1)) % PEERS;
                self.connect(peer, other);
            }
            Fault::PeerCrashes => self.crash_peer(peer),
            Fault::PeerStarts(peer) => self.start_peer(peer),
            Fault::PeerBackup => self.back_up_peer(peer),
            Fault::PeerRestored => self.restore_peer(peer),
            Fault::DirectoryCrashes => self.crash_directory(),
            Fault::DirectoryStarts => self.start_directory(),
            Fault::DirectoryBackup => self.directory.backup = Some(self.directory.tables.clone()),
            Fault::DirectoryRestored => {
                self.crash_directory();
                self.directory.restore(&mut self.scene);
            }
            Fault::ClockJumps => self.set_a_clock(peer),
            Fault::Replay => self.directory.replay(&mut self.scene),
            Fault::Heal => self.heal(),
            Fault::Look => self.look(),
        }
    }

    fn choose_fault(&mut self) {
        if self.scene.now < self.paused_until {
            return self.scene.at(self.paused_until, Event::Fault(Fault::Next));
        }
        let Some((wait, fault)) = self.scene.weather.next_fault(&mut self.scene.chance) else { return };
        self.scene.after(wait, Event::Fault(fault));
        self.scene.after(wait, Event::Fault(Fault::Next));
    }

    /// A link straight between two peers.
    pub(crate) fn connect(&mut self, one: usize, other: usize) -> Option<LinkId> {
        let (a, b) = (self.peers[one].key(), self.peers[other].key());
        let are_up = self.peers[one].is_up && self.peers[other].is_up;
        let is_new =
            !self.peers[one].memory.direct.contains_key(&b) && !self.peers[other].memory.direct.contains_key(&a);
        if !(are_up && is_new) {
            return None;
        }
        let link = self.scene.network.connect(End::Peer(one), End::Peer(other));
        let round_trip = self.scene.chance.millis(5, 150);
        self.peers[one].memory.direct.insert(b, (link, round_trip));
        self.peers[other].memory.direct.insert(a, (link, round_trip));
        for peer in [one, other] {
            self.peers[peer].memory.lanes.wake();
            self.peers[peer].send_waiting(&mut self.scene);
        }
        Some(link)
    }

    pub(crate) fn crash_peer(&mut self, peer: usize) {
        if self.peers[peer].is_up {
            self.peers[peer].crash(&mut self.scene);
            let longest = [5_000, 5_000, 5_000, 120_000, 1_800_000][self.scene.chance.place(5)];
            let wait = self.scene.chance.millis(0, longest);
            self.scene.after(wait, Event::Fault(Fault::PeerStarts(peer)));
        }
    }

    pub(crate) fn start_peer(&mut self, peer: usize) {
        if !self.peers[peer].is_up {
            self.peers[peer].start(&mut self.scene);
        }
    }

    pub(crate) fn back_up_peer(&mut self, peer: usize) {
        self.peers[peer].backup = Some((self.peers[peer].disk.clone(), self.scene.auditor.point()));
    }

    pub(crate) fn restore_peer(&mut self, peer: usize) {
        self.crash_peer(peer);
        self.peers[peer].restore(&mut self.scene);
    }

    pub(crate) fn crash_directory(&mut self) {
        if self.directory.is_up {
            self.directory.crash(&mut self.scene);
            let wait = self.scene.chance.millis(0, 30_000);
            self.scene.after(wait, Event::Fault(Fault::DirectoryStarts));
        }
    }

    pub(crate) fn start_directory(&mut self) {
        if !self.directory.is_up {
            self.directory.start(&mut self.scene);
        }
    }

    /// An hour ahead or back, ten years ahead, or right again.
    fn set_a_clock(&mut self, peer: usize) {
        const HOUR: i64 = 3_600_000;
        let skews = [HOUR, -HOUR, 10 * 365 * 24 * HOUR, 0, 0];
        let skew = skews[self.scene.chance.place(skews.len())];
        if self.scene.chance.happens(3_000) {
            self.directory.skew = skew;
        } else {
            self.peers[peer].skew = skew;
        }
    }

    // --- the end

    fn heal(&mut self) {
        self.healed = Some(self.scene.now);
        self.scene.weather = Weather::calm();
        self.directory.skew = 0;
        self.start_directory();
        for peer in 0..PEERS {
            self.peers[peer].skew = 0;
            self.start_peer(peer);
        }
        self.scene.after(LOOK_EVERY, Event::Fault(Fault::Look));
    }

    fn look(&mut self) {
        let is_quiet = self.directory.is_quiet() && self.peers.iter().all(Peer::is_quiet);
        let is_late = self.healed.is_some_and(|healed| self.scene.now > healed + PATIENCE);
        if is_quiet || is_late {
            self.is_over = true;
            return self.scene.fact(Fact::End);
        }
        self.scene.after(LOOK_EVERY, Event::Fault(Fault::Look));
    }
}

fn chance_of_pause(scene: &mut Scene) -> bool {
    let pauses = scene.weather.pauses;
    scene.chance.happens(pauses)
}
