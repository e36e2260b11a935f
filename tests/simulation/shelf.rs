//! The simulated directory's disk: accounts, envelopes, receipts and what was given back, in memory.

use std::collections::{BTreeMap, BTreeSet};

use qchat::protocol::mailbox::{self, Load, Shelf};
use qchat::protocol::people::{Reception, Relation};
use qchat::wire::account::SignedPrekey;
use qchat::wire::ids::{MessageId, PeerKey, PeerName, PrekeyId, UnixMillis};
use qchat::wire::limits::{MAILBOX_DAYS, RECEIPTS_PER_FRAME_MAX};
use qchat::wire::message::{Envelope, SignedReceipt};
use qchat::wire::refusal::Refusal;

/// How long anything waits.
const KEPT_MILLIS: u64 = MAILBOX_DAYS * 24 * 3_600_000;

/// An envelope that waits.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub(crate) to: PeerName,
    pub(crate) from: PeerName,
    pub(crate) envelope: Envelope,
    stored_at: UnixMillis,
}

/// A message that will not arrive, for its sender.
#[derive(Debug, Clone)]
pub(crate) struct Returned {
    pub(crate) sender: PeerName,
    pub(crate) to: PeerName,
    pub(crate) id: MessageId,
    at: UnixMillis,
}

#[derive(Debug, Clone)]
struct Account {
    key: PeerKey,
    prekey: Option<SignedPrekey>,
}

/// A receipt by its number.
pub(crate) type NumberedReceipt = (i64, SignedReceipt);

/// The tables.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tables {
    accounts: BTreeMap<PeerName, Account>,
    envelopes: BTreeMap<i64, Waiting>,
    of_recipient: BTreeMap<PeerName, BTreeSet<i64>>,
    copies: BTreeMap<(PeerName, PeerKey, MessageId), i64>,
    from_sender: BTreeMap<(PeerName, PeerName), u64>,
    receipts: BTreeMap<PeerName, BTreeMap<(PeerKey, MessageId), NumberedReceipt>>,
    returned: BTreeMap<i64, Returned>,
    next: i64,
    /// What the transaction under way has taken off, for a refusal that undoes it.
    removed: Vec<(i64, Waiting)>,
}

impl Tables {
    pub(crate) fn add_account(&mut self, name: &PeerName, key: PeerKey) {
        self.accounts.insert(name.clone(), Account { key, prekey: None });
    }

    pub(crate) fn account_prekey(&self, name: &PeerName) -> Option<&SignedPrekey> {
        self.accounts.get(name)?.prekey.as_ref()
    }

    pub(crate) fn account_key(&self, name: &PeerName) -> Option<PeerKey> {
        self.accounts.get(name).map(|account| account.key)
    }

    pub(crate) fn put_prekey(&mut self, name: &PeerName, prekey: SignedPrekey) {
        if let Some(account) = self.accounts.get_mut(name) {
            account.prekey = Some(prekey);
        }
    }

    /// A whole transaction: a refusal leaves everything as it was.
    pub(crate) fn deliver(
        &mut self,
        to: &PeerName,
        from: &PeerName,
        envelope: &Envelope,
        now: UnixMillis,
    ) -> Result<(), Refusal> {
        self.removed.clear();
        let bytes = (envelope.sealed.len() + envelope.encapsulated.len()) as u64;
        let result = mailbox::deliver(self, to, from, envelope, bytes, now);
        for (number, waiting) in std::mem::take(&mut self.removed) {
            if result.is_err() {
                self.insert(number, waiting);
            }
        }
        result
    }

    /// A whole transaction.
    pub(crate) fn hand_over(&mut self, number: i64, sender: &PeerName, receipt: &SignedReceipt) {
        mailbox::hand_over(self, number, sender, receipt).expect("nothing in it is refused");
    }

    pub(crate) fn next_after(&self, to: &PeerName, after: i64) -> Option<i64> {
        self.of_recipient.get(to)?.range(after + 1..).next().copied()
    }

    pub(crate) fn envelope(&self, number: i64) -> Option<&Waiting> {
        self.envelopes.get(&number)
    }

    /// A frame full of receipts, oldest first.
    pub(crate) fn receipts(&self, to: &PeerName) -> Vec<NumberedReceipt> {
        let mut all: Vec<_> = self.receipts.get(to).into_iter().flat_map(BTreeMap::values).cloned().collect();
        all.sort_by_key(|&(number, _)| number);
        all.truncate(RECEIPTS_PER_FRAME_MAX);
        all
    }

    /// Forgets receipts that their account has taken, but not a newer one that came in their place.
    pub(crate) fn receipts_taken(&mut self, account: &PeerName, taken: &[NumberedReceipt]) {
        let Some(all) = self.receipts.get_mut(account) else { return };
        for (number, signed) in taken {
            let key = (signed.receipt.by, signed.receipt.id);
            if all.get(&key).is_some_and(|(kept, _)| kept == number) {
                all.remove(&key);
            }
        }
    }

    pub(crate) fn returned(&self, sender: &PeerName) -> Option<(i64, Returned)> {
        let mut all = self.returned.iter().filter(|(_, returned)| returned.sender == *sender);
        all.next().map(|(&number, returned)| (number, returned.clone()))
    }

    pub(crate) fn returned_taken(&mut self, number: i64) {
        self.returned.remove(&number);
    }

    /// Whether nothing is known of a message: it does not wait, was not given back, and no receipt came for it.
    pub(crate) fn is_missing(&self, sender: &PeerName, to: &PeerName, id: MessageId) -> bool {
        let (Some(from), Some(by)) = (self.account_key(sender), self.account_key(to)) else { return true };
        let waits = self.copies.contains_key(&(to.clone(), from, id));
        let is_receipted = self.receipts.get(sender).is_some_and(|all| all.contains_key(&(by, id)));
        let is_returned = self.returned.values().any(|returned| returned.sender == *sender && returned.id == id);
        !(waits || is_receipted || is_returned)
    }

    /// Gives back what has waited for too long; whose messages, and which.
    pub(crate) fn expire(&mut self, now: UnixMillis) -> Vec<(PeerName, MessageId)> {
        let before = UnixMillis(now.0.saturating_sub(KEPT_MILLIS));
        self.returned.retain(|_, returned| returned.at >= before);
        let old = self.envelopes.iter().filter(|(_, waiting)| waiting.stored_at < before);
        let old: Vec<i64> = old.map(|(&number, _)| number).collect();
        let mut given_back = Vec::new();
        for number in old {
            let Some(waiting) = self.take(number) else { continue };
            let id = waiting.envelope.header.id;
            given_back.push((waiting.from.clone(), id));
            self.next += 1;
            let returned = Returned { sender: waiting.from, to: waiting.to, id, at: now };
            self.returned.insert(self.next, returned);
        }
        given_back
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.envelopes.is_empty() && self.returned.is_empty() && self.receipts.values().all(BTreeMap::is_empty)
    }

    fn insert(&mut self, number: i64, waiting: Waiting) {
        let header = &waiting.envelope.header;
        self.copies.insert((waiting.to.clone(), header.sender, header.id), number);
        self.of_recipient.entry(waiting.to.clone()).or_default().insert(number);
        *self.from_sender.entry((waiting.to.clone(), waiting.from.clone())).or_default() += 1;
        self.envelopes.insert(number, waiting);
    }

    fn take(&mut self, number: i64) -> Option<Waiting> {
        let waiting = self.envelopes.remove(&number)?;
        let header = &waiting.envelope.header;
        self.copies.remove(&(waiting.to.clone(), header.sender, header.id));
        self.of_recipient.entry(waiting.to.clone()).or_default().remove(&number);
        *self.from_sender.entry((waiting.to.clone(), waiting.from.clone())).or_default() -= 1;
        Some(waiting)
    }
}

impl Shelf for Tables {
    type Error = Refusal;

    fn key_of(&mut self, account: &PeerName) -> Result<Option<PeerKey>, Refusal> {
        Ok(self.account_key(account))
    }

    fn prekey_of(&mut self, account: &PeerName) -> Result<Option<PrekeyId>, Refusal> {
        Ok(self.account_prekey(account).map(|signed| signed.prekey.id))
    }

    /// All of them are friends.
    fn reception(&mut self, _: &PeerName, _: &PeerName, _: UnixMillis) -> Result<Reception, Refusal> {
        let relation = Relation { are_friends: true, ..Relation::default() };
        Ok(Reception { relation, ..Reception::default() })
    }

    fn waiting_copy(
        &mut self,
        to: &PeerName,
        sender: PeerKey,
        id: MessageId,
    ) -> Result<Option<(i64, PrekeyId)>, Refusal> {
        let number = self.copies.get(&(to.clone(), sender, id)).copied();
        Ok(number.map(|number| (number, self.envelopes[&number].envelope.header.prekey)))
    }

    fn load(&mut self, to: &PeerName, from: &PeerName) -> Result<Load, Refusal> {
        let messages = self.of_recipient.get(to).map_or(0, BTreeSet::len) as u64;
        let from_sender = self.from_sender.get(&(to.clone(), from.clone())).copied().unwrap_or_default();
        Ok(Load { messages, bytes: 0, from_sender })
    }

    fn add(&mut self, to: &PeerName, from: &PeerName, envelope: &Envelope, now: UnixMillis) -> Result<(), Refusal> {
        let header = &envelope.header;
        if let Some(receipts) = self.receipts.get_mut(from) {
            receipts.remove(&(header.recipient, header.id));
        }
        self.returned.retain(|_, returned| !(returned.sender == *from && returned.id == header.id));
        self.next += 1;
        let waiting = Waiting { to: to.clone(), from: from.clone(), envelope: envelope.clone(), stored_at: now };
        self.insert(self.next, waiting);
        Ok(())
    }

    fn remove(&mut self, number: i64) -> Result<(), Refusal> {
        if let Some(waiting) = self.take(number) {
            self.removed.push((number, waiting));
        }
        Ok(())
    }

    fn add_receipt(&mut self, to: &PeerName, receipt: &SignedReceipt) -> Result<(), Refusal> {
        self.next += 1;
        let key = (receipt.receipt.by, receipt.receipt.id);
        let all = self.receipts.entry(to.clone()).or_default();
        if all.get(&key).is_none_or(|(_, kept)| kept.receipt.kind <= receipt.receipt.kind) {
            all.insert(key, (self.next, receipt.clone()));
        }
        Ok(())
    }
}
