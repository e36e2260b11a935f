//! How a simulated peer sends: one message at a time to each recipient, straight or through the directory, until
//! somebody who can know has said what became of it.

use std::convert::Infallible;
use std::time::Duration;

use qchat::protocol::conversation::{self, Draft, Fate};
use qchat::protocol::lanes::{AfterRefusal, Way, Ways, after_refusal};
use qchat::seal::random;
use qchat::wire::directory::{DirectoryReply, DirectoryRequest};
use qchat::wire::ids::{MessageId, PeerKey, PeerName};
use qchat::wire::limits::{MISSING_PER_FRAME_MAX, RECEIPTS_PER_FRAME_MAX, REQUEST_DEADLINE};
use qchat::wire::message::{Body, Receipt, ReceiptKind, SignedReceipt, Text};
use qchat::wire::refusal::Refusal;
use qchat::wire::transfer::PeerRequest;

use crate::auditor::Fact;
use crate::network::Frame;
use crate::peer::{Asked, Attempt, Peer, PeerEvent, Work};
use crate::scene::{Sabotage, Scene};

/// How long read receipts wait after a failure.
const RECEIPTS_PAUSE: Duration = Duration::from_secs(5);

/// The value of a transaction on tables in memory, which cannot fail.
pub(crate) fn done<T>(Ok(value): Result<T, Infallible>) -> T {
    value
}

impl Peer {
    /// Writes a message for a person.
    pub(crate) fn write_message(&mut self, scene: &mut Scene, to: PeerName, key: PeerKey) {
        self.write(scene, Work::Write { to, key });
    }

    pub(crate) fn commit_write(&mut self, scene: &mut Scene, to: &PeerName, key: PeerKey) {
        let id = MessageId::from_bytes(random::array(&mut scene.chance));
        let sent_at = self.now(scene);
        let body = Body::Text(Text::parse("hello").expect("it is a text"));
        let draft = Draft { sender: self.key(), recipient: key, id, sent_at, body };
        let Some(message) = done(conversation::write(&mut self.disk.at(sent_at, false), to, draft)) else { return };
        scene.fact(Fact::Written {
            by: self.name.to_string(),
            to: to.to_string(),
            id: id.to_string(),
            number: message.sequence,
        });
        self.send_waiting(scene);
    }

    /// Begins to send to everybody who is free.
    pub(crate) fn send_waiting(&mut self, scene: &mut Scene) {
        let recipients: Vec<PeerKey> = self.disk.waiting.keys().copied().collect();
        for to in recipients {
            if self.memory.lanes.is_free(to, scene.now) {
                self.send_first(scene, to);
            }
        }
        if let Some(wake) = self.memory.lanes.next_wake(scene.now)
            && self.memory.next_wake.is_none_or(|planned| wake < planned)
        {
            self.memory.next_wake = Some(wake);
            self.later(scene, wake.saturating_sub(scene.now), PeerEvent::Wake(wake));
        }
    }

    fn send_first(&mut self, scene: &mut Scene, to: PeerKey) {
        let Some(&(sequence, id)) = self.disk.waiting.get(&to).and_then(|waiting| waiting.first()) else { return };
        let now = self.now(scene);
        let ways = Ways {
            direct: self.memory.direct.get(&to).map(|&(_, round_trip)| round_trip),
            directory: self.directory().is_some(),
            has_earlier_under_way: self.disk.has_earlier_under_way(to, sequence),
            failed_direct: self.memory.failed_direct.contains(&id),
        };
        let Some(way) = ways.choose() else { return };
        let written = self.disk.written(to, id).expect("what waits was written").clone();
        let message = done(conversation::name_skipped(&mut self.disk.at(now, false), written.message));
        self.memory.lanes.begin(to);
        let attempt = Attempt { to, name: written.to, id, attempt: written.sent.attempt, sealed: 0, message };
        match (way, self.memory.direct.get(&to)) {
            (Way::Direct { patience }, Some(&(link, _))) => {
                let signed = scene.seal.sign(&self.identity, &attempt.message);
                let frame = Frame::Straight(PeerRequest::Message(Box::new(signed)));
                self.ask(scene, link, Asked::Straight(attempt), frame, patience);
            }
            (Way::Direct { .. } | Way::Directory, _) => self.seal(scene, attempt),
        }
    }

    /// Seals to the prekey at hand, or asks for one.
    fn seal(&mut self, scene: &mut Scene, attempt: Attempt) {
        let now = self.now(scene);
        let cached = self.memory.cached.get(&attempt.to);
        let Some(prekey) = cached.filter(|signed| now < signed.prekey.expires) else {
            let name = attempt.name.clone();
            return self.ask_directory(scene, Asked::Identify(attempt), DirectoryRequest::Identify { name });
        };
        let envelope = scene.seal.seal(&self.identity, &attempt.message, prekey, &mut scene.chance);
        let to = attempt.name.clone();
        let asked = Asked::Deliver(Attempt { sealed: attempt.sealed + 1, ..attempt });
        self.ask_directory(scene, asked, DirectoryRequest::Deliver { to, envelope: Box::new(envelope) });
    }

    /// An answer that came in time.
    pub(crate) fn answered(&mut self, scene: &mut Scene, asked: Asked, frame: Frame) {
        match (asked, frame) {
            (Asked::Login, Frame::LoggedIn { prekey }) => self.logged_in(scene, prekey),
            (Asked::PutPrekey, Frame::Answer(Ok(_))) => self.memory.published = self.memory.publishing.take(),
            (Asked::OwnPrekey, Frame::Answer(Ok(DirectoryReply::Identity(identity)))) => {
                self.checked_prekey(scene, Some(&identity));
            }
            (Asked::Missing, Frame::Answer(Ok(DirectoryReply::Missing { messages }))) => {
                let known = self.disk.unreceipted();
                let lost = known.into_iter().map(|(_, to, id)| (to, id)).filter(|(_, id)| messages.contains(id));
                self.write(scene, Work::Lost { messages: lost.collect() });
            }
            (Asked::Receipts(to, ids), Frame::Answer(Ok(_)) | Frame::ReceiptsTaken) => {
                self.write(scene, Work::ReceiptsSent { to, ids });
            }
            (Asked::Identify(attempt), Frame::Answer(Ok(DirectoryReply::Identity(identity)))) => {
                self.identified(scene, attempt, &identity);
            }
            (Asked::IsOnline(attempt), Frame::Answer(Ok(DirectoryReply::Identity(identity)))) => {
                if identity.online {
                    self.rest(scene, attempt.to);
                } else {
                    self.settle(scene, &attempt, Fate::Refused);
                }
            }
            (Asked::Deliver(attempt), Frame::Answer(Ok(_))) => {
                let fate = Fate::Stored { attempt: attempt.attempt };
                self.settle(scene, &attempt, fate);
            }
            (Asked::Deliver(attempt), Frame::Answer(Err(refusal))) => self.refused(scene, attempt, refusal),
            (Asked::Straight(attempt), Frame::Receipt(signed)) => {
                let receipt = signed.receipt;
                let is_for_it = (receipt.by, receipt.to, receipt.id) == (attempt.to, self.key(), attempt.id);
                assert!(is_for_it && scene.seal.is_signed(&signed), "an honest peer's receipt fits");
                self.took_receipt(scene, &signed);
                self.memory.lanes.settled(attempt.to);
                self.send_waiting(scene);
            }
            (asked, _) => self.failed(scene, asked),
        }
    }

    /// A receipt that came as an answer is a transaction of its own; the answer waits for nothing.
    fn took_receipt(&mut self, scene: &mut Scene, signed: &SignedReceipt) {
        let now = self.now(scene);
        let stage = done(conversation::take_receipt(&mut self.disk.at(now, false), &signed.receipt));
        self.tell(scene, signed.receipt.id, stage);
    }

    fn identified(&mut self, scene: &mut Scene, attempt: Attempt, identity: &qchat::wire::account::Identity) {
        let now = self.now(scene);
        if identity.key != attempt.to {
            return self.settle(scene, &attempt, Fate::Refused);
        }
        let good =
            |signed: &&qchat::wire::account::SignedPrekey| scene.seal.is_good(signed, &attempt.name, &attempt.to, now);
        match identity.prekey.as_ref().filter(good) {
            Some(signed) => {
                self.memory.cached.insert(attempt.to, signed.clone());
                self.seal(scene, attempt);
            }
            // None yet, or one that this peer's clock says has expired.
            None => self.rest(scene, attempt.to),
        }
    }

    fn refused(&mut self, scene: &mut Scene, attempt: Attempt, refusal: Refusal) {
        let was_stored = self
            .disk
            .written(attempt.to, attempt.id)
            .is_some_and(|written| written.sent.stage == conversation::Stage::Stored);
        match after_refusal(refusal, attempt.sealed, was_stored) {
            AfterRefusal::SealAgain => {
                self.memory.cached.remove(&attempt.to);
                self.seal(scene, attempt);
            }
            AfterRefusal::Rest => self.rest(scene, attempt.to),
            AfterRefusal::GiveUp => self.settle(scene, &attempt, Fate::Refused),
            AfterRefusal::AskIfOnline => {
                let name = attempt.name.clone();
                self.ask_directory(scene, Asked::IsOnline(attempt), DirectoryRequest::Identify { name });
            }
        }
    }

    /// The lane goes on when it is written down what became of the message.
    fn settle(&mut self, scene: &mut Scene, attempt: &Attempt, fate: Fate) {
        self.write(scene, Work::Settle { to: attempt.to, id: attempt.id, fate });
    }

    pub(crate) fn commit_settle(&mut self, scene: &mut Scene, to: PeerKey, id: MessageId, fate: Fate) {
        let now = self.now(scene);
        let last = self.disk.written(to, id).map_or(0, |written| written.sent.attempt);
        let fate = match fate {
            Fate::Stored { .. } if scene.sabotage == Sabotage::IgnoresAttempt => Fate::Stored { attempt: last },
            fate => fate,
        };
        let stage = done(conversation::settle(&mut self.disk.at(now, false), to, id, fate));
        self.tell(scene, id, stage);
        self.memory.lanes.settled(to);
        self.send_waiting(scene);
    }

    fn rest(&mut self, scene: &mut Scene, to: PeerKey) {
        let [spread] = random::array(&mut scene.chance);
        self.memory.lanes.failed(to, scene.now, spread);
        self.send_waiting(scene);
    }

    /// A request that was not answered, or with a no that means nothing more.
    pub(crate) fn failed(&mut self, scene: &mut Scene, asked: Asked) {
        match asked {
            Asked::Login => self.not_logged_in(scene),
            // Both are asked again with the next session: this one is not worth keeping.
            Asked::PutPrekey | Asked::Missing => {
                if let Some(link) = self.directory() {
                    scene.kill(link);
                }
            }
            Asked::OwnPrekey => self.checked_prekey(scene, None),
            Asked::Receipts(to, _) => {
                self.memory.receipting.remove(&to);
                self.later(scene, RECEIPTS_PAUSE, PeerEvent::Receipts);
            }
            Asked::Straight(attempt) if self.directory().is_some() => {
                self.memory.failed_direct.insert(attempt.id);
                self.memory.lanes.settled(attempt.to);
                self.send_waiting(scene);
            }
            Asked::Straight(attempt) => {
                self.memory.failed_direct.insert(attempt.id);
                self.rest(scene, attempt.to);
            }
            Asked::Identify(attempt) | Asked::IsOnline(attempt) | Asked::Deliver(attempt) => {
                self.rest(scene, attempt.to);
            }
        }
    }

    // --- after a login

    /// A directory that was restored from a backup may not have what it said it had.
    pub(crate) fn ask_what_is_missing(&mut self, scene: &mut Scene) {
        if scene.sabotage == Sabotage::NeverAsksWhatIsMissing {
            return;
        }
        for page in self.disk.unreceipted().chunks(MISSING_PER_FRAME_MAX) {
            let messages = page.iter().map(|(name, _, id)| (name.clone(), *id)).collect();
            self.ask_directory(scene, Asked::Missing, DirectoryRequest::Missing { messages });
        }
    }

    // --- read receipts

    /// Tells senders what was on the screen, a frame at a time to each.
    pub(crate) fn send_read_receipts(&mut self, scene: &mut Scene) {
        let due = self.disk.read_due.iter().filter(|(to, _)| !self.memory.receipting.contains(*to));
        let due: Vec<(PeerKey, Vec<MessageId>)> =
            due.map(|(&to, ids)| (to, ids.iter().take(RECEIPTS_PER_FRAME_MAX).copied().collect())).collect();
        for (to, ids) in due {
            let direct = self.memory.direct.get(&to).map(|&(link, _)| link);
            if direct.is_none() && self.directory().is_none() {
                continue;
            }
            let read = ids.iter().map(|&id| self.receipt(scene, to, id, ReceiptKind::Read));
            let receipts: Vec<SignedReceipt> = read.collect();
            self.memory.receipting.insert(to);
            let asked = Asked::Receipts(to, ids);
            match direct {
                Some(link) => {
                    let frame = Frame::Straight(PeerRequest::Receipts(receipts));
                    self.ask(scene, link, asked, frame, REQUEST_DEADLINE);
                }
                None => {
                    let to = self.people[&to].clone();
                    self.ask_directory(scene, asked, DirectoryRequest::Receipts { to, receipts });
                }
            }
        }
    }

    /// Signs what became of a message of theirs.
    pub(crate) fn receipt(&self, scene: &Scene, to: PeerKey, id: MessageId, kind: ReceiptKind) -> SignedReceipt {
        let sequence = self.disk.sequence_of(to, id).unwrap_or_default();
        let highest = self.disk.highest(to);
        let receipt = Receipt { by: self.key(), to, id, sequence, highest, kind, at: self.now(scene) };
        scene.seal.sign_receipt(&self.identity, receipt)
    }
}
