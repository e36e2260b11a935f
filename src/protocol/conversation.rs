//! What becomes of the messages of two people: stages that never go back, order with named gaps, and once on the screen
//! however often a message comes.
//!
//! ```text
//! out: sending --> stored --> delivered --> read        a later stage may come first, an earlier one changes nothing
//!         `--> refused <--'      ^
//!                 `--------------'                      it arrived after all: another copy was on its way
//! in:  comes --its turn--> released (to the screen, once)
//!        `--one before it is missing--> held --it comes, is named as skipped, or 10 s pass--> released
//! ```
//! Works on [`Records`]: a transaction of the profile's database, or tables in memory in the simulation. What one
//! function changes is durable together or not at all, so a crash leaves no half of a decision.

use crate::wire::ids::{MessageId, PeerKey, PeerName, UnixMillis};
use crate::wire::limits::{HELD_PER_SENDER_MAX, OUTBOX_MESSAGES_MAX, SEQUENCE_MAX};
use crate::wire::message::{Body, InnerMessage, Receipt, ReceiptKind, Run, Skipped};

/// How often a message is sealed again for a recipient who cannot open it.
const RESEALS_MAX: u32 = 16;

/// How far a message of ours has come, in the order in which stages follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// It lies on this disk.
    Sending,
    /// It lies on the directory's disk.
    Stored,
    /// It will not arrive, as far as anybody knows.
    Refused,
    /// It lies on its recipient's disk.
    Delivered,
    /// It was on its recipient's screen.
    Read,
}

/// What is kept of a message of ours beside its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Its number.
    pub sequence: u64,
    /// How far it has come.
    pub stage: Stage,
    /// Whether it is to be sent, or sent again.
    pub waits: bool,
    /// How often it had to be sent again, so that a late answer to an earlier attempt is known as such.
    pub attempt: u32,
}

/// What happens to a message of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The directory has it on disk.
    Stored {
        /// The [`Sent::attempt`] that this is the answer to.
        attempt: u32,
    },
    /// Somebody who can know says that it will not arrive.
    Refused,
    /// The directory said once that it had it, and has it no more, nor a receipt for it.
    Lost,
    /// Its recipient has signed this.
    Receipt(ReceiptKind),
}

impl Sent {
    /// A message that was just written.
    #[must_use]
    pub fn new(sequence: u64) -> Self {
        Self { sequence, stage: Stage::Sending, waits: true, attempt: 0 }
    }

    /// What it is after something happened to it.
    #[must_use]
    pub fn after(self, fate: Fate) -> Self {
        let reaches = |stage: Stage| Self { stage: self.stage.max(stage), waits: false, ..self };
        let is_under_way = self.stage < Stage::Refused;
        match fate {
            // The answer to an attempt that could not be opened says nothing of the next one.
            Fate::Stored { attempt } if attempt != self.attempt => {
                Self { stage: self.stage.max(Stage::Stored), ..self }
            }
            Fate::Stored { .. } => reaches(Stage::Stored),
            Fate::Refused => reaches(Stage::Refused),
            Fate::Receipt(ReceiptKind::Delivered) => reaches(Stage::Delivered),
            Fate::Receipt(ReceiptKind::Read) => reaches(Stage::Read),
            Fate::Receipt(ReceiptKind::CannotOpen) if is_under_way && self.attempt >= RESEALS_MAX => {
                reaches(Stage::Refused)
            }
            Fate::Receipt(ReceiptKind::CannotOpen) | Fate::Lost if is_under_way => {
                Self { waits: true, attempt: self.attempt.saturating_add(1), ..self }
            }
            Fate::Receipt(ReceiptKind::CannotOpen) | Fate::Lost => self,
        }
    }
}

/// What is kept of a conversation with one key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conversation {
    /// The number of our newest message, or a higher one that the other side has seen.
    pub last: u64,
    /// Every number of theirs up to this one is released or given up.
    pub released: u64,
    /// Their highest number that ever came.
    pub highest: u64,
    /// Numbers above [`Self::released`] that will not come; 64 runs at most.
    pub skipped: Skipped,
}

/// What a peer keeps of its messages. Every method may fail as the database does.
pub trait Records {
    /// Why a record cannot be read or written.
    type Error;

    /// The conversation with a key; a new one when there is none.
    ///
    /// # Errors
    /// Those of the database, here and below.
    fn conversation(&mut self, with: PeerKey) -> Result<Conversation, Self::Error>;
    /// Keeps it.
    fn keep_conversation(&mut self, with: PeerKey, conversation: &Conversation) -> Result<(), Self::Error>;

    /// How many messages wait to be sent.
    fn outbox_length(&mut self) -> Result<u64, Self::Error>;
    /// Adds a message of ours, as [`Sent::new`].
    fn add_sent(&mut self, to: &PeerName, message: &InnerMessage) -> Result<(), Self::Error>;
    /// A message of ours.
    fn sent(&mut self, to: PeerKey, id: MessageId) -> Result<Option<Sent>, Self::Error>;
    /// Keeps what it has come to.
    fn keep_sent(&mut self, to: PeerKey, id: MessageId, sent: Sent) -> Result<(), Self::Error>;
    /// The newest numbers below one whose messages were refused, as [`Skipped::of_falling`] has them.
    fn refused_below(&mut self, to: PeerKey, sequence: u64) -> Result<Skipped, Self::Error>;

    /// Whether a message has come before.
    fn has_come(&mut self, from: PeerKey, id: MessageId) -> Result<bool, Self::Error>;
    /// Notes that it came once more.
    fn came_again(&mut self, from: PeerKey, id: MessageId) -> Result<(), Self::Error>;
    /// Adds a message of theirs, held. One that is late has a number that was released or given up before.
    fn add_received(&mut self, from: &PeerName, message: &InnerMessage, is_late: bool) -> Result<(), Self::Error>;
    /// What is held of a sender, by number.
    fn held(&mut self, from: PeerKey) -> Result<Vec<(u64, MessageId)>, Self::Error>;
    /// Lets a held message go to the screen, behind those that were released before.
    fn release(&mut self, from: PeerKey, id: MessageId) -> Result<(), Self::Error>;
}

/// A message that has no number yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Who writes.
    pub sender: PeerKey,
    /// To whom.
    pub recipient: PeerKey,
    /// Its id.
    pub id: MessageId,
    /// When, by the sender's clock.
    pub sent_at: UnixMillis,
    /// What.
    pub body: Body,
}

/// Numbers a message and puts it into the outbox. `None` when that is full.
///
/// # Errors
/// Those of the database, here and below.
pub fn write<R: Records>(records: &mut R, to: &PeerName, draft: Draft) -> Result<Option<InnerMessage>, R::Error> {
    if records.outbox_length()? >= OUTBOX_MESSAGES_MAX {
        return Ok(None);
    }
    let Draft { sender, recipient, id, sent_at, body } = draft;
    let mut conversation = records.conversation(recipient)?;
    conversation.last += 1;
    records.keep_conversation(recipient, &conversation)?;
    let skipped = Skipped::default();
    let message = InnerMessage { sender, recipient, id, sequence: conversation.last, skipped, sent_at, body };
    records.add_sent(to, &message)?;
    Ok(Some(message))
}

/// Names the numbers that will not come in a message that is about to be signed.
#[expect(clippy::missing_errors_doc, reason = "see `write`")]
pub fn name_skipped<R: Records>(records: &mut R, message: InnerMessage) -> Result<InnerMessage, R::Error> {
    let skipped = records.refused_below(message.recipient, message.sequence)?;
    Ok(InnerMessage { skipped, ..message })
}

/// Notes what happened to a message of ours. The stage it has come to, when that is another one.
#[expect(clippy::missing_errors_doc, reason = "see `write`")]
pub fn settle<R: Records>(records: &mut R, to: PeerKey, id: MessageId, fate: Fate) -> Result<Option<Stage>, R::Error> {
    let Some(before) = records.sent(to, id)? else { return Ok(None) };
    let after = before.after(fate);
    if after != before {
        records.keep_sent(to, id, after)?;
    }
    Ok((after.stage != before.stage).then_some(after.stage))
}

/// Takes a receipt, whose signature the caller has checked. The stage that its message has come to, when that is another.
#[expect(clippy::missing_errors_doc, reason = "see `write`")]
pub fn take_receipt<R: Records>(records: &mut R, receipt: &Receipt) -> Result<Option<Stage>, R::Error> {
    let mut conversation = records.conversation(receipt.by)?;
    // A stranger's receipt; but somebody we talk to may mean a message that was forgotten with a restored disk.
    if conversation == Conversation::default() && records.sent(receipt.by, receipt.id)?.is_none() {
        return Ok(None);
    }
    let seen = receipt.highest.min(SEQUENCE_MAX);
    if conversation.last < seen {
        conversation.last = seen;
        records.keep_conversation(receipt.by, &conversation)?;
    }
    settle(records, receipt.by, receipt.id, Fate::Receipt(receipt.kind))
}

/// What taking a message came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Whether it has come before; then nothing else has happened.
    pub is_known: bool,
    /// What goes to the screen now, in this order.
    pub released: Vec<MessageId>,
    /// Numbers that were waited for long enough, when too many others were held; first and last of each run.
    pub missing: Vec<Run>,
    /// The highest number that ever came from this sender.
    pub highest: u64,
}

impl Taken {
    /// Whether the message waits for others: give up waiting for them after [`crate::wire::limits::GAP_HELD`].
    #[must_use]
    pub fn is_held(&self, id: MessageId) -> bool {
        !self.is_known && !self.released.contains(&id)
    }
}

/// Takes a message, whose signature and recipient the caller has checked.
#[expect(clippy::missing_errors_doc, reason = "see `write`")]
pub fn take<R: Records>(records: &mut R, from: &PeerName, message: &InnerMessage) -> Result<Taken, R::Error> {
    let sender = message.sender;
    let mut conversation = records.conversation(sender)?;
    if records.has_come(sender, message.id)? {
        records.came_again(sender, message.id)?;
        let highest = conversation.highest;
        return Ok(Taken { is_known: true, released: Vec::new(), missing: Vec::new(), highest });
    }
    conversation.highest = conversation.highest.max(message.sequence);
    conversation.skip(message.skipped.runs(), message.sequence);
    let is_late = message.sequence <= conversation.released;
    records.add_received(from, message, is_late)?;
    let mut released = release_in_turn(records, sender, &mut conversation)?;
    let mut missing = Vec::new();
    let held = records.held(sender)?;
    if let [.., (newest, _)] = held[..]
        && held.len() > HELD_PER_SENDER_MAX
    {
        let given_up = give_up_up_to(records, sender, &mut conversation, newest)?;
        released.extend(given_up.released);
        missing = given_up.missing;
    }
    records.keep_conversation(sender, &conversation)?;
    Ok(Taken { is_known: false, released, missing, highest: conversation.highest })
}

/// What giving up came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GivenUp {
    /// Numbers that did not come; first and last of each run.
    pub missing: Vec<Run>,
    /// What goes to the screen now, in this order.
    pub released: Vec<MessageId>,
}

/// Waits no longer for what should have come before a held message of this number.
#[expect(clippy::missing_errors_doc, reason = "see `write`")]
pub fn give_up<R: Records>(records: &mut R, sender: PeerKey, sequence: u64) -> Result<GivenUp, R::Error> {
    let mut conversation = records.conversation(sender)?;
    let given_up = give_up_up_to(records, sender, &mut conversation, sequence)?;
    if !given_up.released.is_empty() {
        records.keep_conversation(sender, &conversation)?;
    }
    Ok(given_up)
}

impl Conversation {
    /// Remembers numbers below `sequence` that will not come, and forgets those that are waited for no longer.
    fn skip(&mut self, runs: &[Run], sequence: u64) {
        let (lowest, highest) = (self.released + 1, sequence.saturating_sub(1));
        let known = self.skipped.runs().iter().map(|&(first, last)| (first.max(lowest), last));
        let named = runs.iter().map(|&(first, last)| (first.max(lowest), last.min(highest)));
        self.skipped = Skipped::newest_runs(known.chain(named).collect());
    }

    /// The last number of the run of skipped ones that a number lies in.
    fn last_skipped_with(&self, number: u64) -> Option<u64> {
        let around = self.skipped.runs().iter().find(|&&(first, last)| first <= number && number <= last);
        around.map(|&(_, last)| last)
    }

    /// The runs of numbers between what was released and this one that were not named as skipped.
    fn missing_before(&self, sequence: u64) -> Vec<Run> {
        let mut runs = Vec::new();
        let mut first = self.released + 1;
        for &(skipped, last) in self.skipped.runs().iter().filter(|&&(skipped, _)| skipped < sequence) {
            runs.extend((first < skipped).then(|| (first, skipped - 1)));
            first = last + 1;
        }
        runs.extend((first < sequence).then(|| (first, sequence - 1)));
        runs
    }
}

/// Releases what is held and in its turn: also what is late, and two of the same number.
fn release_in_turn<R: Records>(
    records: &mut R,
    sender: PeerKey,
    conversation: &mut Conversation,
) -> Result<Vec<MessageId>, R::Error> {
    let mut released = Vec::new();
    let mut held = records.held(sender)?.into_iter().peekable();
    loop {
        let next = conversation.released + 1;
        if let Some((sequence, id)) = held.next_if(|&(sequence, _)| sequence <= next) {
            records.release(sender, id)?;
            released.push(id);
            conversation.released = conversation.released.max(sequence);
        } else if let Some(last) = conversation.last_skipped_with(next) {
            conversation.released = last;
        } else {
            break;
        }
    }
    conversation.skip(&[], 0);
    Ok(released)
}

fn give_up_up_to<R: Records>(
    records: &mut R,
    sender: PeerKey,
    conversation: &mut Conversation,
    sequence: u64,
) -> Result<GivenUp, R::Error> {
    let mut given_up = GivenUp::default();
    while let Some(&(first, _)) = records.held(sender)?.first()
        && first <= sequence
    {
        given_up.missing.extend(conversation.missing_before(first));
        conversation.released = first - 1;
        given_up.released.extend(release_in_turn(records, sender, conversation)?);
    }
    Ok(given_up)
}

#[cfg(test)]
#[path = "conversation_tests.rs"]
pub(crate) mod tests;
