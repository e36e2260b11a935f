//! What a directory keeps for people until they take it: which envelopes it accepts, and in which order a session gets
//! them.
//!
//! ```text
//! deliver --accepted--> waits --pushed--> receipt: forgotten, and the receipt waits for the sender
//!            | refused             |----> left: waits for the next session
//!            v                     `----> refused: pushed again after a pause, before any later one
//! ```
//! [`deliver`] and [`hand_over`] work on a [`Shelf`]: a transaction of the directory's store, or tables in memory in the
//! simulation. [`Collection`] is the order of the pushes to one session.

use super::people::Reception;
use crate::wire::ids::{MessageId, PeerKey, PeerName, PrekeyId, UnixMillis};
use crate::wire::limits::{MAILBOX_BYTES_MAX, MAILBOX_MESSAGES_MAX, MAILBOX_PER_SENDER_MAX, MAILBOX_PER_STRANGER_MAX};
use crate::wire::message::{Envelope, Receipt, SignedReceipt};
use crate::wire::refusal::Refusal;

/// What waits for one account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Envelopes.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Envelopes of the sender in question.
    pub from_sender: u64,
}

/// What a directory keeps of envelopes. Every method may fail as the store does; a refusal undoes what was changed.
pub trait Shelf {
    /// Why not: a refusal, or a failure of the store.
    type Error: From<Refusal>;

    /// The key of an account, if there is one of that name.
    ///
    /// # Errors
    /// Those of the store, here and below.
    fn key_of(&mut self, account: &PeerName) -> Result<Option<PeerKey>, Self::Error>;
    /// The current prekey of an account.
    fn prekey_of(&mut self, account: &PeerName) -> Result<Option<PrekeyId>, Self::Error>;
    /// How an account takes somebody who writes to it.
    fn reception(&mut self, to: &PeerName, from: &PeerName, now: UnixMillis) -> Result<Reception, Self::Error>;
    /// Number and prekey of a message that waits already.
    fn waiting_copy(
        &mut self,
        to: &PeerName,
        sender: PeerKey,
        id: MessageId,
    ) -> Result<Option<(i64, PrekeyId)>, Self::Error>;
    /// What waits for an account.
    fn load(&mut self, to: &PeerName, from: &PeerName) -> Result<Load, Self::Error>;
    /// Adds an envelope behind all others. What its sender was told of an earlier attempt counts no more, and its
    /// recipient is no stranger to its sender from now on.
    fn add(&mut self, to: &PeerName, from: &PeerName, envelope: &Envelope, now: UnixMillis) -> Result<(), Self::Error>;
    /// Takes an envelope away.
    fn remove(&mut self, number: i64) -> Result<(), Self::Error>;
    /// Keeps a receipt for an account, one for each message: a later kind takes the place of an earlier.
    fn add_receipt(&mut self, to: &PeerName, receipt: &SignedReceipt) -> Result<(), Self::Error>;
}

/// Keeps an envelope of `bytes` bytes for its recipient. One that waits already, sealed to the same prekey, is success
/// without a second copy; one that was sealed again takes the place of the older.
///
/// # Errors
/// Refused with `UnknownName`, `YouBlock`, `NotAccepted`, `KeyChanged`, `NoPrekey`, `PrekeyChanged`, `StrangerLimit` or
/// `MailboxFull`; and those of the store. Whether the recipient takes it comes before all that changes while they are
/// online, so that nobody learns it who may not see them.
pub fn deliver<S: Shelf>(
    shelf: &mut S,
    to: &PeerName,
    from: &PeerName,
    envelope: &Envelope,
    bytes: u64,
    now: UnixMillis,
) -> Result<(), S::Error> {
    let header = &envelope.header;
    let Some(key) = shelf.key_of(to)? else { return Err(Refusal::UnknownName.into()) };
    let reception = shelf.reception(to, from, now)?;
    reception.admits(Refusal::NotAccepted)?;
    let earlier = shelf.waiting_copy(to, header.sender, header.id)?;
    if earlier.is_some_and(|(_, prekey)| prekey == header.prekey) {
        return Ok(());
    }
    if key != header.recipient {
        return Err(Refusal::KeyChanged.into());
    }
    match shelf.prekey_of(to)? {
        None => return Err(Refusal::NoPrekey.into()),
        Some(prekey) if prekey != header.prekey => return Err(Refusal::PrekeyChanged.into()),
        Some(_) => {}
    }
    if let Some((number, _)) = earlier {
        shelf.remove(number)?;
    }
    let load = shelf.load(to, from)?;
    if reception.is_stranger() && load.from_sender >= MAILBOX_PER_STRANGER_MAX {
        return Err(Refusal::StrangerLimit.into());
    }
    let is_full = load.messages >= MAILBOX_MESSAGES_MAX
        || load.bytes.saturating_add(bytes) > MAILBOX_BYTES_MAX
        || load.from_sender >= MAILBOX_PER_SENDER_MAX;
    if is_full {
        return Err(Refusal::MailboxFull.into());
    }
    shelf.add(to, from, envelope, now)
}

/// Whether a receipt is the one for this envelope. Its signature is for the sender to check.
#[must_use]
pub fn is_receipt_for(receipt: &Receipt, envelope: &Envelope) -> bool {
    let header = &envelope.header;
    (receipt.by, receipt.to, receipt.id) == (header.recipient, header.sender, header.id)
}

/// Forgets an envelope that its recipient is done with, and keeps the receipt for its sender.
///
/// # Errors
/// Those of the store.
pub fn hand_over<S: Shelf>(
    shelf: &mut S,
    number: i64,
    sender: &PeerName,
    receipt: &SignedReceipt,
) -> Result<(), S::Error> {
    shelf.remove(number)?;
    // A sender whose account was deleted, or has another key now, is told nothing.
    if shelf.key_of(sender)? == Some(receipt.receipt.to) { shelf.add_receipt(sender, receipt) } else { Ok(()) }
}

/// What a session says to an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is done with.
    Receipt,
    /// It is for the next session.
    Left,
    /// Not now: the disk is full, perhaps.
    Refused,
}

/// What to do next for a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Wait until something may have come: [`Collection::mail_came`].
    Wait,
    /// Look for the next envelope after this number, and for the account's prekey at the same moment:
    /// [`Collection::found`].
    Look {
        /// The number of the last one.
        after: i64,
    },
    /// Push the envelope of this number: [`Collection::answered`].
    Push {
        /// Its number.
        number: i64,
    },
    /// Leave the session alone for a while: [`Collection::rested`].
    Rest,
    /// Tell the session that nothing waits: [`Collection::told`].
    TellDrained {
        /// The account's prekey.
        prekey: Option<PrekeyId>,
    },
}

/// The order in which one session gets what waits for its account: one envelope at a time, each once.
#[derive(Debug)]
pub struct Collection {
    /// What the session left stays on the shelf, and is for the next session only.
    after: i64,
    step: Step,
    has_mail: bool,
    told: Option<Option<PrekeyId>>,
}

impl Default for Collection {
    /// Looks at once: something may have waited before the session.
    fn default() -> Self {
        Self { after: 0, step: Step::Look { after: 0 }, has_mail: false, told: None }
    }
}

impl Collection {
    /// What to do next; the same until it is reported as done.
    #[must_use]
    pub fn step(&self) -> Step {
        self.step
    }

    /// Something may have come, or the account's prekey is another one.
    pub fn mail_came(&mut self) {
        match self.step {
            Step::Wait => self.look(),
            Step::Look { .. } | Step::Push { .. } | Step::Rest | Step::TellDrained { .. } => self.has_mail = true,
        }
    }

    /// The result of [`Step::Look`].
    pub fn found(&mut self, number: Option<i64>, prekey: Option<PrekeyId>) {
        match number {
            Some(number) => self.step = Step::Push { number },
            // It may have come after the shelf was looked at.
            None if self.has_mail => self.look(),
            None if self.told == Some(prekey) => self.step = Step::Wait,
            None => self.step = Step::TellDrained { prekey },
        }
    }

    /// The answer to [`Step::Push`].
    pub fn answered(&mut self, answer: Answer) {
        let Step::Push { number } = self.step else { return };
        match answer {
            Answer::Refused => self.step = Step::Rest,
            Answer::Receipt | Answer::Left => {
                self.after = number;
                self.told = None;
                self.look();
            }
        }
    }

    /// The end of [`Step::Rest`]. Also whenever a session was left alone for another reason: what was found then may be
    /// gone.
    pub fn rested(&mut self) {
        self.look();
    }

    /// The end of [`Step::TellDrained`].
    pub fn told(&mut self) {
        let Step::TellDrained { prekey } = self.step else { return };
        self.told = Some(prekey);
        if self.has_mail { self.look() } else { self.step = Step::Wait }
    }

    fn look(&mut self) {
        self.has_mail = false;
        self.step = Step::Look { after: self.after };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(collection: &mut Collection, prekey: Option<PrekeyId>) {
        collection.found(None, prekey);
        assert_eq!(collection.step(), Step::TellDrained { prekey });
        collection.told();
    }

    #[test]
    fn everything_is_pushed_once_and_in_order_and_then_the_session_hears_of_it() {
        let mut collection = Collection::default();
        for (after, number) in [(0, 3), (3, 4), (4, 9)] {
            assert_eq!(collection.step(), Step::Look { after });
            collection.found(Some(number), None);
            assert_eq!(collection.step(), Step::Push { number });
            collection.answered(Answer::Receipt);
        }
        drained(&mut collection, None);
        assert_eq!(collection.step(), Step::Wait);
    }

    #[test]
    fn what_is_refused_comes_again_before_any_later_one_and_what_is_left_does_not() {
        let mut collection = Collection::default();
        collection.found(Some(1), None);
        collection.answered(Answer::Refused);
        assert_eq!(collection.step(), Step::Rest);
        collection.rested();
        assert_eq!(collection.step(), Step::Look { after: 0 });
        collection.found(Some(1), None);
        collection.answered(Answer::Left);
        assert_eq!(collection.step(), Step::Look { after: 1 });
    }

    #[test]
    fn mail_that_comes_at_any_moment_is_looked_for() {
        let mut collection = Collection::default();
        collection.found(None, None);
        collection.mail_came(); // while the session is being told that nothing waits
        collection.told();
        assert_eq!(collection.step(), Step::Look { after: 0 });
        collection.found(None, None);
        assert_eq!(collection.step(), Step::Wait, "the session knows that nothing waits");
        collection.mail_came();
        assert_eq!(collection.step(), Step::Look { after: 0 });
    }

    #[test]
    fn mail_that_comes_while_the_shelf_is_looked_at_is_looked_for_again() {
        let mut collection = Collection::default();
        collection.mail_came();
        collection.found(None, None); // as it was a moment before
        assert_eq!(collection.step(), Step::Look { after: 0 });
        drained(&mut collection, None);
        assert_eq!(collection.step(), Step::Wait);
    }

    #[test]
    fn what_was_found_is_looked_for_again_after_the_session_was_left_alone() {
        let mut collection = Collection::default();
        collection.found(Some(1), None);
        collection.rested();
        assert_eq!(collection.step(), Step::Look { after: 0 });
        drained(&mut collection, None);
    }

    #[test]
    fn a_new_prekey_is_told_even_when_nothing_came() {
        let (old, new) = (PrekeyId::from_bytes([1; 16]), PrekeyId::from_bytes([2; 16]));
        let mut collection = Collection::default();
        drained(&mut collection, Some(old));
        collection.mail_came();
        drained(&mut collection, Some(new));
        assert_eq!(collection.step(), Step::Wait);
    }
}
