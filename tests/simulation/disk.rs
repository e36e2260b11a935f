//! A simulated peer's disk: the tables of its profile in memory. Only a commit changes it, so a crash never leaves half.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::rc::Rc;

use qchat::protocol::conversation::{Conversation, Records, Sent, Stage};
use qchat::protocol::prekeys::Kept;
use qchat::wire::ids::{MessageId, PeerKey, PeerName, UnixMillis};
use qchat::wire::message::{InnerMessage, Skipped};

/// A message of ours.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) to: PeerName,
    pub(crate) message: InnerMessage,
    pub(crate) sent: Sent,
    stored_at: Option<UnixMillis>,
}

/// A message of theirs.
#[derive(Debug, Clone, Copy)]
struct Came {
    sequence: u64,
    /// Its row, which orders two of the same number.
    number: u64,
}

/// A message in a conversation, by number.
type Numbered = BTreeSet<(u64, MessageId)>;

/// The tables, with the indexes that the program's database has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    conversations: BTreeMap<PeerKey, Conversation>,
    written: BTreeMap<(PeerKey, MessageId), Written>,
    pub(crate) waiting: BTreeMap<PeerKey, Numbered>,
    stored: BTreeMap<PeerKey, BTreeMap<(u64, MessageId), Option<UnixMillis>>>,
    refused: BTreeMap<PeerKey, Numbered>,
    came: BTreeMap<(PeerKey, MessageId), Came>,
    held: BTreeMap<PeerKey, BTreeMap<(u64, u64), MessageId>>,
    /// Released and on no screen yet, in the order of the screen.
    fresh: BTreeMap<u64, (PeerKey, MessageId)>,
    pub(crate) read_due: BTreeMap<PeerKey, BTreeSet<MessageId>>,
    /// Private halves, oldest first.
    pub(crate) prekeys: Vec<(Kept, Rc<[u8]>)>,
    next: u64,
}

impl Disk {
    pub(crate) fn written(&self, to: PeerKey, id: MessageId) -> Option<&Written> {
        self.written.get(&(to, id))
    }

    /// Whether a message before this one was stored, and not delivered.
    pub(crate) fn has_earlier_under_way(&self, to: PeerKey, sequence: u64) -> bool {
        let Some(stored) = self.stored.get(&to) else { return false };
        stored.range(..(sequence, MessageId::from_bytes([0; 16]))).next().is_some()
    }

    /// What was stored, was not receipted and is not to be sent again.
    pub(crate) fn unreceipted(&self) -> Vec<(PeerName, PeerKey, MessageId)> {
        let stored = self.stored.iter().flat_map(|(&to, stored)| stored.keys().map(move |&(_, id)| (to, id)));
        let found = stored.map(|(to, id)| (to, id, &self.written[&(to, id)]));
        found.filter(|(.., written)| !written.sent.waits).map(|(to, id, w)| (w.to.clone(), to, id)).collect()
    }

    pub(crate) fn sequence_of(&self, from: PeerKey, id: MessageId) -> Option<u64> {
        self.came.get(&(from, id)).map(|came| came.sequence)
    }

    /// The highest number that ever came from a sender.
    pub(crate) fn highest(&self, from: PeerKey) -> u64 {
        self.conversations.get(&from).map_or(0, |conversation| conversation.highest)
    }

    /// Senders and numbers of what is held.
    pub(crate) fn all_held(&self) -> Vec<(PeerKey, u64)> {
        self.held.iter().flat_map(|(&from, held)| held.keys().map(move |&(sequence, _)| (from, sequence))).collect()
    }

    pub(crate) fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// Marks all that was on no screen as shown, in the order of the screen.
    pub(crate) fn show(&mut self, tells_senders: bool) -> Vec<(PeerKey, MessageId)> {
        let shown: Vec<_> = std::mem::take(&mut self.fresh).into_values().collect();
        for &(from, id) in shown.iter().filter(|_| tells_senders) {
            self.read_due.entry(from).or_default().insert(id);
        }
        shown
    }

    pub(crate) fn read_receipts_sent(&mut self, to: PeerKey, ids: &[MessageId]) {
        if let Some(due) = self.read_due.get_mut(&to) {
            due.retain(|id| !ids.contains(id));
            if due.is_empty() {
                self.read_due.remove(&to);
            }
        }
    }

    pub(crate) fn kept_prekeys(&self) -> Vec<Kept> {
        self.prekeys.iter().map(|(kept, _)| *kept).collect()
    }

    /// The same, with the clock that stamps what is stored.
    pub(crate) fn at(&mut self, now: UnixMillis, forgets_what_came: bool) -> Transaction<'_> {
        Transaction { disk: self, now, forgets_what_came }
    }

    fn index(&mut self, to: PeerKey, id: MessageId, before: Option<Sent>, written: &Written) {
        let (sent, key) = (written.sent, (written.sent.sequence, id));
        let keep = |numbered: &mut BTreeMap<PeerKey, Numbered>, is_in: bool| {
            let all = numbered.entry(to).or_default();
            if is_in {
                all.insert(key)
            } else {
                all.remove(&key)
            };
            if all.is_empty() {
                numbered.remove(&to);
            }
        };
        keep(&mut self.waiting, sent.waits);
        keep(&mut self.refused, sent.stage == Stage::Refused);
        let stored = self.stored.entry(to).or_default();
        match (before.map(|before| before.stage), sent.stage) {
            (_, Stage::Stored) => drop(stored.insert(key, written.stored_at)),
            (Some(Stage::Stored), _) => drop(stored.remove(&key)),
            _ => {}
        }
    }
}

/// One transaction of a [`Disk`].
pub(crate) struct Transaction<'a> {
    disk: &'a mut Disk,
    now: UnixMillis,
    forgets_what_came: bool,
}

impl Records for Transaction<'_> {
    type Error = Infallible;

    fn conversation(&mut self, with: PeerKey) -> Result<Conversation, Infallible> {
        Ok(self.disk.conversations.get(&with).cloned().unwrap_or_default())
    }

    fn keep_conversation(&mut self, with: PeerKey, conversation: &Conversation) -> Result<(), Infallible> {
        self.disk.conversations.insert(with, conversation.clone());
        Ok(())
    }

    fn outbox_length(&mut self) -> Result<u64, Infallible> {
        Ok(self.disk.waiting.values().map(|waiting| waiting.len() as u64).sum())
    }

    fn add_sent(&mut self, to: &PeerName, message: &InnerMessage) -> Result<(), Infallible> {
        let (recipient, id) = (message.recipient, message.id);
        let sent = Sent::new(message.sequence);
        let written = Written { to: to.clone(), message: message.clone(), sent, stored_at: None };
        self.disk.index(recipient, id, None, &written);
        self.disk.written.insert((recipient, id), written);
        Ok(())
    }

    fn sent(&mut self, to: PeerKey, id: MessageId) -> Result<Option<Sent>, Infallible> {
        Ok(self.disk.written.get(&(to, id)).map(|written| written.sent))
    }

    fn keep_sent(&mut self, to: PeerKey, id: MessageId, sent: Sent) -> Result<(), Infallible> {
        let Some(mut written) = self.disk.written.remove(&(to, id)) else { return Ok(()) };
        let before = std::mem::replace(&mut written.sent, sent);
        if sent.stage == Stage::Stored {
            written.stored_at = written.stored_at.or(Some(self.now));
        }
        self.disk.index(to, id, Some(before), &written);
        self.disk.written.insert((to, id), written);
        Ok(())
    }

    fn refused_below(&mut self, to: PeerKey, sequence: u64) -> Result<Skipped, Infallible> {
        let Some(refused) = self.disk.refused.get(&to) else { return Ok(Skipped::default()) };
        let below = refused.range(..(sequence, MessageId::from_bytes([0; 16]))).rev();
        Skipped::of_falling(below.map(|&(sequence, _)| Ok(sequence)))
    }

    fn has_come(&mut self, from: PeerKey, id: MessageId) -> Result<bool, Infallible> {
        Ok(!self.forgets_what_came && self.disk.came.contains_key(&(from, id)))
    }

    fn came_again(&mut self, _from: PeerKey, _id: MessageId) -> Result<(), Infallible> {
        Ok(())
    }

    fn add_received(&mut self, _from: &PeerName, message: &InnerMessage, _is_late: bool) -> Result<(), Infallible> {
        self.disk.next += 1;
        let came = Came { sequence: message.sequence, number: self.disk.next };
        self.disk.came.insert((message.sender, message.id), came);
        self.disk.held.entry(message.sender).or_default().insert((came.sequence, came.number), message.id);
        Ok(())
    }

    fn held(&mut self, from: PeerKey) -> Result<Vec<(u64, MessageId)>, Infallible> {
        let Some(held) = self.disk.held.get(&from) else { return Ok(Vec::new()) };
        Ok(held.iter().map(|(&(sequence, _), &id)| (sequence, id)).collect())
    }

    fn release(&mut self, from: PeerKey, id: MessageId) -> Result<(), Infallible> {
        let Came { sequence, number } = self.disk.came[&(from, id)];
        if let Some(held) = self.disk.held.get_mut(&from) {
            held.remove(&(sequence, number));
            if held.is_empty() {
                self.disk.held.remove(&from);
            }
        }
        self.disk.next += 1;
        self.disk.fresh.insert(self.disk.next, (from, id));
        Ok(())
    }
}
