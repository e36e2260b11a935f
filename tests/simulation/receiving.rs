//! How a simulated peer receives: it opens, writes down, and only then answers; and what each commit of its database
//! leads to.

use qchat::protocol::conversation::{self, Fate};
use qchat::protocol::prekeys;
use qchat::wire::directory::{DirectoryPush, DirectoryRequest, PushReply};
use qchat::wire::ids::{PeerKey, PeerName, PrekeyId, UnixMillis};
use qchat::wire::limits::GAP_HELD;
use qchat::wire::message::{Delivery, InnerMessage, ReceiptKind, SignedReceipt};
use qchat::wire::refusal::Refusal;
use qchat::wire::transfer::PeerRequest;

use crate::auditor::Fact;
use crate::network::Frame;
use crate::peer::{Asked, Peer, PeerEvent, Reply, Work};
use crate::scene::{Sabotage, Scene};
use crate::sending::done;

impl Peer {
    /// Something the directory pushes.
    pub(crate) fn pushed(&mut self, scene: &mut Scene, reply: Reply, push: DirectoryPush) {
        if scene.chance.happens(scene.weather.full_disks) {
            return scene.send(reply.link, self.end(), reply.stream, Frame::PushAnswer(Err(Refusal::Storage)));
        }
        match push {
            DirectoryPush::Delivery(delivery) => self.delivered(scene, reply, *delivery),
            DirectoryPush::Receipts(receipts) => self.write(scene, Work::TakeReceipts { receipts, reply }),
            DirectoryPush::Returned { to, id, .. } => {
                let key = self.people.iter().find(|(_, name)| **name == to).map(|(&key, _)| key);
                self.write(scene, Work::Returned { to: key.expect("it was written to"), id, reply });
            }
            DirectoryPush::Drained { prekey: Some(prekey) } => self.write(scene, Work::Drained { prekey, reply }),
            DirectoryPush::Drained { prekey: None } => self.taken(scene, reply),
            _ => unreachable!("the simulated directory pushes nothing else"),
        }
    }

    /// Something a peer says straight.
    pub(crate) fn straight(&mut self, scene: &mut Scene, reply: Reply, request: PeerRequest) {
        match request {
            PeerRequest::Message(signed) => {
                let direct = self.memory.direct.iter().find(|(_, (link, _))| *link == reply.link);
                let Some((&sender, _)) = direct else { return };
                let message = scene.seal.verify(&signed, &sender).expect("an honest peer signs");
                self.came(scene, self.people[&sender].clone(), message, reply);
            }
            PeerRequest::Receipts(receipts) => self.write(scene, Work::TakeReceipts { receipts, reply }),
            PeerRequest::Nominate
            | PeerRequest::Fetch(_)
            | PeerRequest::Received { .. }
            | PeerRequest::Profile(_)
            | PeerRequest::Exclusive(_) => unreachable!("messages only"),
        }
    }

    fn delivered(&mut self, scene: &mut Scene, reply: Reply, delivery: Delivery) {
        let header = &delivery.envelope.header;
        let (from, id) = (header.sender, header.id);
        if self.disk.sequence_of(from, id).is_some() && scene.sabotage != Sabotage::ForgetsWhatCame {
            return self.write(scene, Work::Again { from, id, reply });
        }
        let secret = self.disk.prekeys.iter().find(|(kept, _)| kept.id == header.prekey).map(|(_, secret)| secret);
        let is_damaged = scene.chance.happens(scene.weather.damages);
        let opened =
            secret.filter(|_| !is_damaged).and_then(|secret| scene.seal.open(secret, &delivery.envelope, &self.key()));
        match opened {
            Some(message) => {
                if let Some((kept, _)) = self.disk.prekeys.iter_mut().find(|(kept, _)| kept.id == header.prekey) {
                    kept.is_used = true;
                }
                self.came(scene, delivery.from, message, reply);
            }
            None => {
                if secret.is_none() {
                    self.check_prekey(scene);
                }
                scene.fact(Fact::CannotOpen { id: id.to_string() });
                let receipt = self.receipt(scene, from, id, ReceiptKind::CannotOpen);
                self.give_receipt(scene, reply, receipt);
            }
        }
    }

    /// A message, by either way.
    fn came(&mut self, scene: &mut Scene, from: PeerName, message: InnerMessage, reply: Reply) {
        let is_early = scene.sabotage == Sabotage::PeerAcknowledgesFirst;
        if is_early {
            let receipt = self.receipt(scene, message.sender, message.id, ReceiptKind::Delivered);
            self.give_receipt(scene, reply, receipt);
        }
        self.write(scene, Work::Take { from, message, reply: (!is_early).then_some(reply) });
    }

    fn give_receipt(&self, scene: &mut Scene, reply: Reply, receipt: SignedReceipt) {
        let frame = if reply.is_straight {
            Frame::Receipt(receipt)
        } else {
            Frame::PushAnswer(Ok(PushReply::Receipt(Box::new(receipt))))
        };
        scene.send(reply.link, self.end(), reply.stream, frame);
    }

    fn taken(&self, scene: &mut Scene, reply: Reply) {
        let frame = if reply.is_straight { Frame::ReceiptsTaken } else { Frame::PushAnswer(Ok(PushReply::Taken)) };
        scene.send(reply.link, self.end(), reply.stream, frame);
    }

    // --- what is written down

    pub(crate) fn commit(&mut self, scene: &mut Scene, work: Work) {
        match work {
            Work::Write { to, key } => self.commit_write(scene, &to, key),
            Work::Settle { to, id, fate } => self.commit_settle(scene, to, id, fate),
            Work::Take { from, message, reply } => self.commit_take(scene, &from, &message, reply),
            Work::Again { from, id, reply } => {
                let receipt = self.receipt(scene, from, id, ReceiptKind::Delivered);
                self.give_receipt(scene, reply, receipt);
            }
            Work::GiveUp { from, sequence } => {
                let now = self.now(scene);
                let given_up = done(conversation::give_up(&mut self.disk.at(now, false), from, sequence));
                self.released(scene, from, &given_up.missing);
            }
            Work::Show => self.commit_show(scene),
            Work::TakeReceipts { receipts, reply } => self.commit_receipts(scene, &receipts, reply),
            Work::ReceiptsSent { to, ids } => {
                self.disk.read_receipts_sent(to, &ids);
                self.memory.receipting.remove(&to);
                self.send_read_receipts(scene);
            }
            Work::Returned { to, id, reply } => {
                let now = self.now(scene);
                let stage = done(conversation::settle(&mut self.disk.at(now, false), to, id, Fate::Refused));
                self.tell(scene, id, stage);
                self.taken(scene, reply);
            }
            Work::Lost { messages } => {
                let now = self.now(scene);
                for (to, id) in messages {
                    let stage = done(conversation::settle(&mut self.disk.at(now, false), to, id, Fate::Lost));
                    self.tell(scene, id, stage);
                }
                self.send_waiting(scene);
            }
            Work::KeepPrekey { kept, secret, publish } => {
                self.disk.prekeys.push((kept, secret.into()));
                self.ask_directory(scene, Asked::PutPrekey, DirectoryRequest::PutPrekey(Box::new(publish)));
            }
            Work::Drained { prekey, reply } => self.commit_drained(scene, prekey, reply),
        }
    }

    fn commit_take(&mut self, scene: &mut Scene, from: &PeerName, message: &InnerMessage, reply: Option<Reply>) {
        let now = self.now(scene);
        let forgets = scene.sabotage == Sabotage::ForgetsWhatCame;
        let (sender, id) = (message.sender, message.id);
        let taken = done(conversation::take(&mut self.disk.at(now, forgets), from, message));
        if !taken.is_known {
            scene.fact(Fact::Kept { at: self.name.to_string(), id: id.to_string() });
        }
        if let Some(reply) = reply {
            let receipt = self.receipt(scene, sender, id, ReceiptKind::Delivered);
            self.give_receipt(scene, reply, receipt);
        }
        self.released(scene, sender, &taken.missing);
        if taken.is_held(id) {
            self.wait_for_gap(scene, sender, message.sequence);
        }
    }

    /// Waits so long for those before a held message.
    pub(crate) fn wait_for_gap(&mut self, scene: &mut Scene, sender: PeerKey, sequence: u64) {
        if scene.sabotage == Sabotage::HoldsNothing {
            let mut transaction = self.disk.at(UnixMillis(0), false);
            let given_up = done(conversation::give_up(&mut transaction, sender, sequence));
            return self.released(scene, sender, &given_up.missing[..0]);
        }
        self.later(scene, GAP_HELD, PeerEvent::GiveUp(sender, sequence));
    }

    fn released(&mut self, scene: &mut Scene, from: PeerKey, missing: &[(u64, u64)]) {
        for &(first, last) in missing {
            let (at, from) = (self.name.to_string(), self.people[&from].to_string());
            scene.fact(Fact::Missing { at, from, first, last });
        }
        if self.disk.has_fresh() {
            self.write(scene, Work::Show);
        }
    }

    fn commit_show(&mut self, scene: &mut Scene) {
        for (_, id) in self.disk.show(self.tells_read) {
            scene.fact(Fact::Shown { at: self.name.to_string(), id: id.to_string() });
        }
        self.send_read_receipts(scene);
    }

    fn commit_receipts(&mut self, scene: &mut Scene, receipts: &[SignedReceipt], reply: Reply) {
        let now = self.now(scene);
        for signed in receipts {
            assert!(scene.seal.is_signed(signed) && signed.receipt.to == self.key(), "nobody here forges receipts");
            let stage = done(conversation::take_receipt(&mut self.disk.at(now, false), &signed.receipt));
            self.tell(scene, signed.receipt.id, stage);
        }
        self.taken(scene, reply);
        self.send_waiting(scene);
    }

    fn commit_drained(&mut self, scene: &mut Scene, prekey: PrekeyId, reply: Reply) {
        let obsolete = prekeys::obsolete(&self.disk.kept_prekeys(), prekey);
        self.disk.prekeys.retain(|(kept, _)| !obsolete.contains(&kept.id));
        self.memory.published = Some(prekey);
        self.taken(scene, reply);
        self.rotate_if_due(scene);
    }
}
