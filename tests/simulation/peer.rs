//! A simulated peer: its disk, which a crash keeps, its memory, which a crash loses, and what wakes it.
//! How it sends is in `sending`, how it receives in `receiving`. The person's screen is part of the same process, and
//! what it shows is marked as shown in the same moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use qchat::protocol::backoff::Backoff;
use qchat::protocol::conversation::{Fate, Stage};
use qchat::protocol::lanes::Lanes;
use qchat::protocol::prekeys::{self, Kept};
use qchat::seal::identity::IdentityKey;
use qchat::seal::random;
use qchat::wire::account::{Identity, SignedPrekey};
use qchat::wire::directory::DirectoryRequest;
use qchat::wire::ids::{MessageId, PeerKey, PeerName, PrekeyId, UnixMillis};
use qchat::wire::limits::REQUEST_DEADLINE;
use qchat::wire::message::{InnerMessage, SignedReceipt};

use crate::auditor::{self, Fact};
use crate::disk::Disk;
use crate::network::{End, Frame, LinkId, Stream};
use crate::scene::{Event, Life, Scene};

/// How long a prekey may be sealed to.
const PREKEY_LIFETIME_MILLIS: u64 = 60 * 24 * 3_600_000;

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// What happens within a peer's process.
#[derive(Debug)]
pub(crate) enum PeerEvent {
    Commit(Box<Work>),
    Connect,
    /// A request was not answered in time.
    Deadline(Stream),
    /// A recipient's pause is over; void when another time was planned since.
    Wake(Duration),
    /// A held message has waited long enough.
    GiveUp(PeerKey, u64),
    /// Read receipts are tried again.
    Receipts,
    Daily,
}

/// What the database does next, in one transaction, and to which stream its commit is the answer.
#[derive(Debug)]
pub(crate) enum Work {
    Write { to: PeerName, key: PeerKey },
    Settle { to: PeerKey, id: MessageId, fate: Fate },
    Take { from: PeerName, message: InnerMessage, reply: Option<Reply> },
    Again { from: PeerKey, id: MessageId, reply: Reply },
    GiveUp { from: PeerKey, sequence: u64 },
    Show,
    TakeReceipts { receipts: Vec<SignedReceipt>, reply: Reply },
    ReceiptsSent { to: PeerKey, ids: Vec<MessageId> },
    Returned { to: PeerKey, id: MessageId, reply: Reply },
    Lost { messages: Vec<(PeerKey, MessageId)> },
    KeepPrekey { kept: Kept, secret: Vec<u8>, publish: SignedPrekey },
    Drained { prekey: PrekeyId, reply: Reply },
}

/// Where an answer goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reply {
    pub(crate) link: LinkId,
    pub(crate) stream: Stream,
    /// Whether it came straight from its sender.
    pub(crate) is_straight: bool,
}

/// What an open request is about.
#[derive(Debug)]
pub(crate) enum Asked {
    Login,
    PutPrekey,
    /// Which of our own prekeys is handed out.
    OwnPrekey,
    /// What the directory does not have any more.
    Missing,
    Receipts(PeerKey, Vec<MessageId>),
    Identify(Attempt),
    /// Whether a recipient whose mailbox is full is online.
    IsOnline(Attempt),
    Deliver(Attempt),
    Straight(Attempt),
}

/// A message that is being sent.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) to: PeerKey,
    pub(crate) name: PeerName,
    pub(crate) id: MessageId,
    /// Which of the message's attempts.
    pub(crate) attempt: u32,
    /// How often this one has sealed it.
    pub(crate) sealed: u32,
    pub(crate) message: InnerMessage,
}

/// What a crash loses.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) lanes: Lanes,
    pub(crate) next_wake: Option<Duration>,
    /// The link to the directory, and whether the login on it was answered.
    pub(crate) session: Option<(LinkId, bool)>,
    pub(crate) published: Option<PrekeyId>,
    /// A prekey is on its way to the directory. Two at a time may arrive in the wrong order: see [`prekeys`].
    pub(crate) publishing: Option<PrekeyId>,
    /// The directory is being asked which prekey it hands out.
    is_checking: bool,
    backoff: Backoff,
    pub(crate) cached: BTreeMap<PeerKey, SignedPrekey>,
    pub(crate) failed_direct: BTreeSet<MessageId>,
    /// Links straight to others, with their round-trip times.
    pub(crate) direct: BTreeMap<PeerKey, (LinkId, Duration)>,
    pub(crate) asked: BTreeMap<Stream, (LinkId, Asked)>,
    /// To whom read receipts are on their way.
    pub(crate) receipting: BTreeSet<PeerKey>,
    disk_free: Duration,
}

/// A peer.
pub(crate) struct Peer {
    pub(crate) index: usize,
    pub(crate) name: PeerName,
    pub(crate) identity: IdentityKey,
    /// Who has which key: in the simulation nobody changes it.
    pub(crate) people: BTreeMap<PeerKey, PeerName>,
    pub(crate) disk: Disk,
    pub(crate) memory: Memory,
    pub(crate) skew: i64,
    pub(crate) is_up: bool,
    pub(crate) tells_read: bool,
    pub(crate) backup: Option<(Disk, usize)>,
    pub(crate) life: Life,
}

impl Peer {
    pub(crate) fn new(index: usize, scene: &mut Scene) -> Self {
        let name = PeerName::parse(&format!("peer{index}")).expect("it is a name");
        Self {
            index,
            name,
            identity: IdentityKey::from_seed(&random::array(&mut scene.chance)),
            people: BTreeMap::new(),
            disk: Disk::default(),
            memory: Memory::default(),
            skew: 0,
            is_up: false,
            tells_read: scene.chance.happens(8_000),
            backup: None,
            life: 0,
        }
    }

    pub(crate) fn end(&self) -> End {
        End::Peer(self.index)
    }

    pub(crate) fn key(&self) -> PeerKey {
        self.identity.public()
    }

    pub(crate) fn now(&self, scene: &Scene) -> UnixMillis {
        scene.wall(self.skew)
    }

    pub(crate) fn later(&self, scene: &mut Scene, wait: Duration, event: PeerEvent) {
        scene.after(wait, Event::Peer(self.index, self.life, event));
    }

    /// Puts work before the database, which does it in order and takes a while to commit it.
    pub(crate) fn write(&mut self, scene: &mut Scene, work: Work) {
        let slowest = if scene.chance.happens(scene.weather.slow_disks) { 3_000 } else { 4 };
        self.memory.disk_free = self.memory.disk_free.max(scene.now + scene.chance.millis(0, slowest));
        let event = Event::Peer(self.index, self.life, PeerEvent::Commit(Box::new(work)));
        scene.at(self.memory.disk_free, event);
    }

    /// Asks something on a link, and waits for so long.
    pub(crate) fn ask(&mut self, scene: &mut Scene, link: LinkId, asked: Asked, frame: Frame, patience: Duration) {
        let stream = scene.stream();
        self.memory.asked.insert(stream, (link, asked));
        scene.send(link, self.end(), stream, frame);
        self.later(scene, patience, PeerEvent::Deadline(stream));
    }

    pub(crate) fn ask_directory(&mut self, scene: &mut Scene, asked: Asked, request: DirectoryRequest) {
        let Some(link) = self.directory() else { return self.failed(scene, asked) };
        self.ask(scene, link, asked, Frame::Request(request), REQUEST_DEADLINE);
    }

    /// The link on which this peer is logged in.
    pub(crate) fn directory(&self) -> Option<LinkId> {
        self.memory.session.filter(|&(_, is_in)| is_in).map(|(link, _)| link)
    }

    // --- its life

    pub(crate) fn start(&mut self, scene: &mut Scene) {
        self.is_up = true;
        self.memory = Memory::default();
        self.later(scene, Duration::from_millis(5), PeerEvent::Connect);
        self.later(scene, DAY, PeerEvent::Daily);
        for (sender, sequence) in self.disk.all_held() {
            self.wait_for_gap(scene, sender, sequence);
        }
        if self.disk.has_fresh() {
            self.write(scene, Work::Show);
        }
    }

    pub(crate) fn crash(&mut self, scene: &mut Scene) {
        self.is_up = false;
        self.life += 1;
        self.memory = Memory::default();
        for link in scene.network.of(self.end()) {
            scene.kill(link);
            scene.network.forget(link, self.end());
        }
    }

    /// The disk is set back to the backup.
    pub(crate) fn restore(&mut self, scene: &mut Scene) {
        if let Some((disk, point)) = self.backup.clone() {
            self.disk = disk;
            scene.fact(Fact::PeerRestored { peer: self.name.to_string(), point });
        }
    }

    /// Whether nothing is left to do.
    pub(crate) fn is_quiet(&self) -> bool {
        let disk = &self.disk;
        let is_silent = disk.waiting.is_empty() && disk.all_held().is_empty() && !disk.has_fresh();
        self.is_up && self.directory().is_some() && is_silent && disk.read_due.is_empty()
    }

    pub(crate) fn happens(&mut self, scene: &mut Scene, life: Life, event: PeerEvent) {
        if life != self.life || !self.is_up {
            return;
        }
        match event {
            PeerEvent::Commit(work) => self.commit(scene, *work),
            PeerEvent::Connect => self.connect(scene),
            PeerEvent::Deadline(stream) => {
                if let Some((_, asked)) = self.memory.asked.remove(&stream) {
                    self.failed(scene, asked);
                }
            }
            PeerEvent::Wake(planned) => {
                if self.memory.next_wake == Some(planned) {
                    self.memory.next_wake = None;
                    self.send_waiting(scene);
                }
            }
            PeerEvent::GiveUp(from, sequence) => self.write(scene, Work::GiveUp { from, sequence }),
            PeerEvent::Receipts => self.send_read_receipts(scene),
            PeerEvent::Daily => {
                self.rotate_if_due(scene);
                self.later(scene, DAY, PeerEvent::Daily);
            }
        }
    }

    pub(crate) fn arrives(&mut self, scene: &mut Scene, link: LinkId, stream: Stream, frame: Frame) {
        if !self.is_up {
            return;
        }
        let (is_straight, reply) = (matches!(frame, Frame::Straight(_)), Reply { link, stream, is_straight: true });
        match frame {
            Frame::Push(push) => self.pushed(scene, Reply { is_straight, ..reply }, push),
            Frame::Straight(request) => self.straight(scene, reply, request),
            Frame::LoggedIn { .. } | Frame::Answer(_) | Frame::Receipt(_) | Frame::ReceiptsTaken => {
                if let Some((_, asked)) = self.memory.asked.remove(&stream) {
                    self.answered(scene, asked, frame);
                }
            }
            Frame::Login | Frame::Request(_) | Frame::PushAnswer(_) => unreachable!("nobody sends this to a peer"),
        }
    }

    /// A link is dead: what was asked on it is not answered any more.
    pub(crate) fn notices(&mut self, scene: &mut Scene, link: LinkId) {
        if !self.is_up {
            return;
        }
        self.memory.direct.retain(|_, (direct, _)| *direct != link);
        let is_session = self.memory.session.is_some_and(|(session, _)| session == link);
        if is_session {
            self.memory.session = None;
        }
        let open = self.memory.asked.iter().filter(|(_, (asked_on, _))| *asked_on == link);
        let open: Vec<Stream> = open.map(|(&stream, _)| stream).collect();
        for stream in open {
            if let Some((_, asked)) = self.memory.asked.remove(&stream) {
                self.failed(scene, asked);
            }
        }
        if is_session {
            self.come_back(scene);
        }
    }

    // --- its session

    fn connect(&mut self, scene: &mut Scene) {
        if self.memory.session.is_none() {
            let link = scene.network.connect(self.end(), End::Directory);
            self.memory.session = Some((link, false));
            self.ask(scene, link, Asked::Login, Frame::Login, REQUEST_DEADLINE);
        }
    }

    /// Connects again after a pause.
    pub(crate) fn come_back(&mut self, scene: &mut Scene) {
        let [spread] = random::array(&mut scene.chance);
        let pause = self.memory.backoff.failed(spread);
        self.later(scene, pause, PeerEvent::Connect);
    }

    /// The login was not answered.
    pub(crate) fn not_logged_in(&mut self, scene: &mut Scene) {
        if let Some((link, false)) = self.memory.session.take() {
            scene.kill(link);
            scene.network.forget(link, self.end());
        }
        self.come_back(scene);
    }

    pub(crate) fn logged_in(&mut self, scene: &mut Scene, prekey: Option<PrekeyId>) {
        let Some((link, _)) = self.memory.session else { return };
        self.memory.session = Some((link, true));
        self.memory.backoff.succeeded();
        self.memory.published = prekey;
        self.memory.publishing = None;
        self.memory.is_checking = false;
        self.memory.cached.clear();
        self.memory.lanes.wake();
        self.rotate_if_due(scene);
        self.ask_what_is_missing(scene);
        self.send_waiting(scene);
        self.send_read_receipts(scene);
    }

    /// Makes a new prekey when one is due; it is published once its private half is on disk.
    pub(crate) fn rotate_if_due(&mut self, scene: &mut Scene) {
        let now = self.now(scene);
        let newest = self.disk.kept_prekeys().last().copied();
        if self.directory().is_none() || self.memory.publishing.is_some() {
            return;
        }
        if !prekeys::is_new_one_due(newest, self.memory.published, now) {
            return;
        }
        let expires = now.plus_millis(PREKEY_LIFETIME_MILLIS);
        let (publish, secret) = scene.seal.new_prekey(&self.identity, &self.name, expires, &mut scene.chance);
        let kept = Kept { id: publish.prekey.id, made: now, is_used: false };
        self.memory.publishing = Some(kept.id);
        self.write(scene, Work::KeepPrekey { kept, secret, publish });
    }

    /// Asks which prekey is handed out, because somebody has sealed to one that is not here.
    pub(crate) fn check_prekey(&mut self, scene: &mut Scene) {
        if self.directory().is_some() && self.memory.publishing.is_none() && !self.memory.is_checking {
            self.memory.is_checking = true;
            let name = self.name.clone();
            self.ask_directory(scene, Asked::OwnPrekey, DirectoryRequest::Identify { name });
        }
    }

    /// The answer, if there was one.
    pub(crate) fn checked_prekey(&mut self, scene: &mut Scene, identity: Option<&Identity>) {
        self.memory.is_checking = false;
        if let Some(identity) = identity {
            self.memory.published = identity.prekey.as_ref().map(|signed| signed.prekey.id);
            self.rotate_if_due(scene);
        }
    }

    // --- what it says

    /// Tells the person how far a message has come.
    pub(crate) fn tell(&self, scene: &mut Scene, id: MessageId, stage: Option<Stage>) {
        let Some(stage) = stage else { return };
        scene.fact(Fact::State { by: self.name.to_string(), id: id.to_string(), stage: told(stage) });
    }
}

fn told(stage: Stage) -> auditor::Stage {
    match stage {
        Stage::Sending => auditor::Stage::Sending,
        Stage::Stored => auditor::Stage::Stored,
        Stage::Refused => auditor::Stage::Refused,
        Stage::Delivered => auditor::Stage::Delivered,
        Stage::Read => auditor::Stage::Read,
    }
}
