//! The simulated directory: durable tables, and sessions in memory that are gone after a crash. Everything goes through
//! one writer that commits in groups; an answer leaves only after its commit.

use std::collections::BTreeMap;
use std::time::Duration;

use qchat::protocol::mailbox::{Answer, Collection, Step, is_receipt_for};
use qchat::wire::account::Identity;
use qchat::wire::directory::{DirectoryPush, DirectoryReply, DirectoryRequest, PushAnswer, PushReply};
use qchat::wire::ids::{MessageId, PeerName};
use qchat::wire::limits::REQUEST_DEADLINE;
use qchat::wire::message::{Delivery, SignedReceipt};
use qchat::wire::refusal::Refusal;

use crate::auditor::Fact;
use crate::network::{End, Frame, LinkId, Stream};
use crate::scene::{Event, Life, Sabotage, Scene};
use crate::shelf::{NumberedReceipt, Tables};

/// How long a session is left alone that could not take a push.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// How often the directory looks for what has waited too long.
const EXPIRY_EVERY: Duration = Duration::from_secs(600);

/// Envelopes and receipts that a hostile directory remembers, to push them again.
const REMEMBERED_MAX: usize = 64;

/// What happens within the directory's process.
#[derive(Debug)]
pub(crate) enum DirectoryEvent {
    Commit(Work),
    /// A session is left alone no longer.
    Rested(PeerName),
    /// A push was not answered in time.
    Deadline(LinkId, Stream),
    Expire,
}

/// What the writer does next.
#[derive(Debug)]
pub(crate) enum Work {
    Request { from: PeerName, link: LinkId, stream: Stream, request: DirectoryRequest, is_answered: bool },
    HandOver { to: PeerName, link: LinkId, number: i64, receipt: SignedReceipt },
    ReceiptsTaken { by: PeerName, link: LinkId, receipts: Vec<NumberedReceipt> },
    ReturnedTaken { by: PeerName, link: LinkId, number: i64 },
}

/// What a session is being pushed.
#[derive(Debug)]
enum Pushing {
    Nothing,
    /// The answer is being written down.
    Settling,
    Envelope(Stream, i64),
    Receipts(Stream, Vec<NumberedReceipt>),
    Returned(Stream, i64),
    Drained(Stream),
}

impl Pushing {
    fn stream(&self) -> Option<Stream> {
        match self {
            Self::Nothing | Self::Settling => None,
            Self::Envelope(stream, _)
            | Self::Receipts(stream, _)
            | Self::Returned(stream, _)
            | Self::Drained(stream) => Some(*stream),
        }
    }
}

#[derive(Debug)]
struct Session {
    link: LinkId,
    collection: Collection,
    pushing: Pushing,
    is_resting: bool,
}

/// The directory.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    pub(crate) tables: Tables,
    pub(crate) skew: i64,
    pub(crate) is_up: bool,
    pub(crate) backup: Option<Tables>,
    life: Life,
    names: BTreeMap<usize, PeerName>,
    sessions: BTreeMap<PeerName, Session>,
    writer_free: Duration,
    /// What was pushed lately, for a directory that turns hostile.
    envelopes_seen: Vec<(PeerName, Delivery)>,
    receipts_seen: Vec<(PeerName, SignedReceipt)>,
}

impl Directory {
    pub(crate) fn add_account(&mut self, index: usize, name: &PeerName, key: qchat::wire::ids::PeerKey) {
        self.names.insert(index, name.clone());
        self.tables.add_account(name, key);
    }

    pub(crate) fn start(&mut self, scene: &mut Scene) {
        self.is_up = true;
        self.writer_free = scene.now;
        self.later(scene, Duration::from_secs(1), DirectoryEvent::Expire);
    }

    /// The process ends: what was not committed and every session is gone.
    pub(crate) fn crash(&mut self, scene: &mut Scene) {
        self.is_up = false;
        self.life += 1;
        self.sessions.clear();
        for link in scene.network.of(End::Directory) {
            scene.kill(link);
            scene.network.forget(link, End::Directory);
        }
    }

    /// The disk is set back to the backup.
    pub(crate) fn restore(&mut self, scene: &mut Scene) {
        if let Some(backup) = self.backup.clone() {
            self.tables = backup;
            scene.fact(Fact::DirectoryRestored);
        }
    }

    pub(crate) fn is_quiet(&self) -> bool {
        let is_quiet = |session: &Session| matches!(session.pushing, Pushing::Nothing) && !session.is_resting;
        self.is_up && self.tables.is_empty() && self.sessions.values().all(is_quiet)
    }

    fn later(&self, scene: &mut Scene, wait: Duration, event: DirectoryEvent) {
        scene.after(wait, Event::Directory(self.life, event));
    }

    pub(crate) fn happens(&mut self, scene: &mut Scene, life: Life, event: DirectoryEvent) {
        if life != self.life || !self.is_up {
            return;
        }
        match event {
            DirectoryEvent::Commit(work) => self.commit(scene, work),
            DirectoryEvent::Rested(name) => self.rested(scene, &name),
            DirectoryEvent::Deadline(link, stream) => {
                let is_late = |session: &Session| session.link == link && session.pushing.stream() == Some(stream);
                if let Some(name) = self.sessions.iter().find(|(_, session)| is_late(session)).map(|(name, _)| name) {
                    let name = name.clone();
                    self.end_session(scene, &name);
                }
            }
            DirectoryEvent::Expire => self.expire(scene),
        }
    }

    // --- what comes

    pub(crate) fn arrives(&mut self, scene: &mut Scene, link: LinkId, stream: Stream, frame: Frame) {
        let Some(End::Peer(peer)) = scene.network.other_end(link, End::Directory) else { return };
        let name = self.names[&peer].clone();
        match frame {
            Frame::Login => self.log_in(scene, name, link, stream),
            Frame::Request(request) if self.session(&name, link).is_some() => {
                let is_early = scene.sabotage == Sabotage::DirectoryAcknowledgesFirst
                    && matches!(request, DirectoryRequest::Deliver { .. });
                if is_early {
                    scene.send(link, End::Directory, stream, Frame::Answer(Ok(DirectoryReply::Done)));
                }
                self.write(scene, Work::Request { from: name, link, stream, request, is_answered: is_early });
            }
            Frame::Request(_) => {
                scene.send(link, End::Directory, stream, Frame::Answer(Err(Refusal::SessionEnded)));
            }
            Frame::PushAnswer(answer) => self.answered(scene, &name, link, stream, answer),
            Frame::LoggedIn { .. }
            | Frame::Answer(_)
            | Frame::Push(_)
            | Frame::Straight(_)
            | Frame::Receipt(_)
            | Frame::ReceiptsTaken => unreachable!("nobody sends this to a directory"),
        }
    }

    pub(crate) fn notices(&mut self, link: LinkId) {
        self.sessions.retain(|_, session| session.link != link);
    }

    fn session(&mut self, name: &PeerName, link: LinkId) -> Option<&mut Session> {
        self.sessions.get_mut(name).filter(|session| session.link == link)
    }

    fn end_session(&mut self, scene: &mut Scene, name: &PeerName) {
        if let Some(session) = self.sessions.remove(name) {
            scene.kill(session.link);
        }
    }

    fn log_in(&mut self, scene: &mut Scene, name: PeerName, link: LinkId, stream: Stream) {
        self.end_session(scene, &name);
        let (collection, pushing) = (Collection::default(), Pushing::Nothing);
        self.sessions.insert(name.clone(), Session { link, collection, pushing, is_resting: false });
        let prekey = self.tables.account_prekey(&name).map(|signed| signed.prekey.id);
        scene.send(link, End::Directory, stream, Frame::LoggedIn { prekey });
        self.push_next(scene, &name);
    }

    /// Puts work before the writer, who does it in order and takes a while to commit it.
    fn write(&mut self, scene: &mut Scene, work: Work) {
        let slowest = if scene.chance.happens(scene.weather.slow_disks) { 3_000 } else { 4 };
        self.writer_free = self.writer_free.max(scene.now + scene.chance.millis(0, slowest));
        scene.at(self.writer_free, Event::Directory(self.life, DirectoryEvent::Commit(work)));
    }

    // --- what is written down

    fn commit(&mut self, scene: &mut Scene, work: Work) {
        match work {
            Work::Request { from, link, stream, request, is_answered } => {
                let answer = self.request(scene, &from, request);
                if !is_answered {
                    scene.send(link, End::Directory, stream, Frame::Answer(answer));
                }
            }
            Work::HandOver { to, link, number, receipt } => {
                let waiting = self.tables.envelope(number);
                if let Some(sender) = waiting.filter(|w| is_receipt_for(&receipt.receipt, &w.envelope)) {
                    let sender = sender.from.clone();
                    self.tables.hand_over(number, &sender, &receipt);
                    self.push_next(scene, &sender);
                }
                self.collected(scene, &to, link, Answer::Receipt);
            }
            Work::ReceiptsTaken { by, link, receipts } => {
                self.tables.receipts_taken(&by, &receipts);
                self.settled(scene, &by, link);
            }
            Work::ReturnedTaken { by, link, number } => {
                self.tables.returned_taken(number);
                self.settled(scene, &by, link);
            }
        }
    }

    fn request(
        &mut self,
        scene: &mut Scene,
        from: &PeerName,
        request: DirectoryRequest,
    ) -> Result<DirectoryReply, Refusal> {
        match request {
            DirectoryRequest::PutPrekey(prekey) => {
                self.tables.put_prekey(from, *prekey);
                self.mail_came(scene, from);
                Ok(DirectoryReply::Done)
            }
            DirectoryRequest::Identify { name } => Ok(DirectoryReply::Identity(Box::new(Identity {
                key: self.tables.account_key(&name).ok_or(Refusal::UnknownName)?,
                prekey: self.tables.account_prekey(&name).cloned(),
                online: self.sessions.contains_key(&name),
                accepts: true,
                legacy: false,
                name,
            }))),
            DirectoryRequest::Deliver { to, envelope } => {
                self.tables.deliver(&to, from, &envelope, scene.wall(self.skew))?;
                self.mail_came(scene, &to);
                Ok(DirectoryReply::Done)
            }
            DirectoryRequest::Receipts { to, receipts } => {
                for receipt in &receipts {
                    // Number 0 is no envelope's.
                    self.tables.hand_over(0, &to, receipt);
                }
                self.push_next(scene, &to);
                Ok(DirectoryReply::Done)
            }
            DirectoryRequest::Missing { messages } => {
                let missing = |(to, id): &(PeerName, MessageId)| self.tables.is_missing(from, to, *id).then_some(*id);
                Ok(DirectoryReply::Missing { messages: messages.iter().filter_map(missing).collect() })
            }
            _ => Err(Refusal::UnknownRequest),
        }
    }

    fn expire(&mut self, scene: &mut Scene) {
        for (sender, id) in self.tables.expire(scene.wall(self.skew)) {
            scene.fact(Fact::GivenBack { id: id.to_string() });
            self.push_next(scene, &sender);
        }
        self.later(scene, EXPIRY_EVERY, DirectoryEvent::Expire);
    }

    // --- what is pushed

    fn mail_came(&mut self, scene: &mut Scene, name: &PeerName) {
        if let Some(session) = self.sessions.get_mut(name) {
            session.collection.mail_came();
        }
        self.push_next(scene, name);
    }

    /// Pushes what is next for a session: what was given back, receipts, then its mailbox.
    fn push_next(&mut self, scene: &mut Scene, name: &PeerName) {
        let Some(session) = self.sessions.get_mut(name) else { return };
        if session.is_resting || !matches!(session.pushing, Pushing::Nothing) {
            return;
        }
        if let Some((number, returned)) = self.tables.returned(name) {
            let push = DirectoryPush::Returned { to: returned.to, id: returned.id, refusal: Refusal::Expired };
            return self.push(scene, name, push, |stream| Pushing::Returned(stream, number));
        }
        let receipts = self.tables.receipts(name);
        if !receipts.is_empty() {
            let signed: Vec<_> = receipts.iter().map(|(_, signed)| signed.clone()).collect();
            remember(&mut self.receipts_seen, signed.iter().map(|signed| (name.clone(), signed.clone())));
            let push = DirectoryPush::Receipts(signed);
            return self.push(scene, name, push, |stream| Pushing::Receipts(stream, receipts));
        }
        self.collect(scene, name);
    }

    fn collect(&mut self, scene: &mut Scene, name: &PeerName) {
        loop {
            let Some(session) = self.sessions.get_mut(name) else { return };
            match session.collection.step() {
                Step::Wait => return,
                Step::Look { after } => {
                    let prekey = self.tables.account_prekey(name).map(|signed| signed.prekey.id);
                    session.collection.found(self.tables.next_after(name, after), prekey);
                }
                Step::Push { number } => {
                    let Some(waiting) = self.tables.envelope(number) else {
                        session.collection.answered(Answer::Left); // it expired, or was sealed again
                        continue;
                    };
                    let delivery = Delivery { from: waiting.from.clone(), envelope: waiting.envelope.clone() };
                    remember(&mut self.envelopes_seen, [(name.clone(), delivery.clone())]);
                    let push = DirectoryPush::Delivery(Box::new(delivery));
                    return self.push(scene, name, push, |stream| Pushing::Envelope(stream, number));
                }
                Step::Rest => return self.rest(scene, name),
                Step::TellDrained { prekey } => {
                    return self.push(scene, name, DirectoryPush::Drained { prekey }, Pushing::Drained);
                }
            }
        }
    }

    fn push(
        &mut self,
        scene: &mut Scene,
        name: &PeerName,
        push: DirectoryPush,
        pushing: impl FnOnce(Stream) -> Pushing,
    ) {
        let Some(session) = self.sessions.get_mut(name) else { return };
        let (stream, link) = (scene.stream(), session.link);
        session.pushing = pushing(stream);
        scene.send(link, End::Directory, stream, Frame::Push(push));
        self.later(scene, REQUEST_DEADLINE, DirectoryEvent::Deadline(link, stream));
    }

    fn answered(&mut self, scene: &mut Scene, name: &PeerName, link: LinkId, stream: Stream, answer: PushAnswer) {
        let Some(session) = self.session(name, link).filter(|session| session.pushing.stream() == Some(stream)) else {
            return;
        };
        let pushed = std::mem::replace(&mut session.pushing, Pushing::Settling);
        let (by, to) = (name.clone(), name.clone());
        match (pushed, answer) {
            (Pushing::Envelope(_, number), Ok(PushReply::Receipt(receipt))) => {
                self.write(scene, Work::HandOver { to, link, number, receipt: *receipt });
            }
            (Pushing::Envelope(..), Err(_)) => self.collected(scene, name, link, Answer::Refused),
            (Pushing::Receipts(_, receipts), Ok(_)) => self.write(scene, Work::ReceiptsTaken { by, link, receipts }),
            (Pushing::Returned(_, number), Ok(_)) => self.write(scene, Work::ReturnedTaken { by, link, number }),
            (Pushing::Drained(_), _) => {
                session.collection.told();
                self.settled(scene, name, link);
            }
            (Pushing::Receipts(..) | Pushing::Returned(..), Err(_)) => {
                session.pushing = Pushing::Nothing;
                self.rest(scene, name);
            }
            (pushed, answer) => unreachable!("no peer answers {pushed:?} with {answer:?}"),
        }
    }

    fn collected(&mut self, scene: &mut Scene, name: &PeerName, link: LinkId, answer: Answer) {
        if let Some(session) = self.session(name, link) {
            session.collection.answered(answer);
        }
        self.settled(scene, name, link);
    }

    fn settled(&mut self, scene: &mut Scene, name: &PeerName, link: LinkId) {
        if let Some(session) = self.session(name, link) {
            session.pushing = Pushing::Nothing;
            self.push_next(scene, name);
        }
    }

    fn rest(&mut self, scene: &mut Scene, name: &PeerName) {
        if let Some(session) = self.sessions.get_mut(name) {
            session.is_resting = true;
            self.later(scene, REFUSED_PAUSE, DirectoryEvent::Rested(name.clone()));
        }
    }

    fn rested(&mut self, scene: &mut Scene, name: &PeerName) {
        let Some(session) = self.sessions.get_mut(name) else { return };
        session.is_resting = false;
        if session.collection.step() == Step::Rest {
            session.collection.rested();
        }
        self.push_next(scene, name);
    }

    /// Pushes again what was pushed before, whatever became of it.
    pub(crate) fn replay(&mut self, scene: &mut Scene) {
        let is_receipt = scene.chance.happens(3_000);
        let (seen, length) = (&self.envelopes_seen, self.envelopes_seen.len());
        let again = if is_receipt && !self.receipts_seen.is_empty() {
            let (to, receipt) = self.receipts_seen[scene.chance.place(self.receipts_seen.len())].clone();
            Some((to, DirectoryPush::Receipts(vec![receipt])))
        } else {
            let place = scene.chance.place(length);
            seen.get(place).map(|(to, delivery)| (to.clone(), DirectoryPush::Delivery(Box::new(delivery.clone()))))
        };
        let Some((to, push)) = again else { return };
        let Some(session) = self.sessions.get(&to) else { return };
        let (link, stream) = (session.link, scene.stream());
        scene.send(link, End::Directory, stream, Frame::Push(push));
    }
}

fn remember<T>(seen: &mut Vec<T>, more: impl IntoIterator<Item = T>) {
    seen.extend(more);
    let too_many = seen.len().saturating_sub(REMEMBERED_MAX);
    seen.drain(..too_many);
}
