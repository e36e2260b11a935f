//! What the records of one side prove of a conversation: what a directory lost, replayed or reordered on the way.
//! Facts in, findings out; knows no table and checks no signature.
//!
//! ```text
//! ours:   stored, no receipt, and a signed receipt shows that a later one came     --> unaccounted
//! theirs: a number below those released that neither came nor was named as refused --> missing
//! ```

use super::conversation::Stage;
use crate::wire::ids::{MessageId, UnixMillis};
use crate::wire::message::ReceiptKind;

/// A message that was stored so recently may be overtaken by one over a direct link: nothing is concluded yet.
const GRACE_MILLIS: u64 = 60_000;

/// What a receipt on our disk proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// There is none.
    None,
    /// Its recipient has signed it, and it is for this message.
    Signed {
        /// What it says.
        kind: ReceiptKind,
        /// The highest number of ours that had come to them then.
        highest: u64,
    },
    /// It is not signed by the recipient, or is for another message.
    Bad,
}

/// A message of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ours {
    /// Its number.
    pub sequence: u64,
    /// Its id.
    pub id: MessageId,
    /// How far it has come.
    pub stage: Stage,
    /// When the directory said that it has it, by our clock.
    pub stored_at: Option<UnixMillis>,
    /// What its receipt proves.
    pub proof: Proof,
}

/// A message of theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Theirs {
    /// Its number.
    pub sequence: u64,
    /// Its id.
    pub id: MessageId,
    /// When it came first, by our clock.
    pub came_at: Option<UnixMillis>,
    /// How often it came through the directory.
    pub arrivals: u64,
    /// Whether its number had been released or given up when it came.
    pub is_late: bool,
}

/// A number of theirs that is accounted for, or a run of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accounted {
    /// Its message came.
    Came(Theirs),
    /// A later message named it and those up to another as numbers that will not come.
    Named {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
    },
}

/// How many messages of each kind there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are what `crate::peer::event::AuditRow` documents")]
pub struct Counts {
    pub sending: u64,
    pub stored: u64,
    pub delivered: u64,
    pub read: u64,
    pub refused: u64,
    pub unaccounted: u64,
    pub received: u64,
    pub missing: u64,
    pub repeated: u64,
    pub late: u64,
}

/// Something odd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// No receipt for a message of ours, and a signed one for a later one.
    Unaccounted {
        /// Which.
        message: Ours,
        /// The number that is proved to have come.
        seen: u64,
    },
    /// A receipt that proves nothing.
    BadReceipt(Ours),
    /// Numbers of theirs from the first to the last.
    Missing {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
    },
    /// Came through the directory more than once.
    Repeated(Theirs),
    /// Came after its turn.
    Late(Theirs),
    /// The second message of a number.
    NumberTwice(Theirs),
}

impl Finding {
    /// Whether it is the directory that lost, replayed or reordered something, as far as our records show.
    #[must_use]
    pub fn blames_directory(&self) -> bool {
        match self {
            Self::Unaccounted { .. } | Self::Missing { .. } | Self::Repeated(_) => true,
            // What came straight from its sender passed no directory.
            Self::Late(message) => message.arrivals > 0,
            Self::BadReceipt(_) | Self::NumberTwice(_) => false,
        }
    }
}

/// Reads the records of a conversation with one key. Its memory grows with what is odd, not with what was said.
#[derive(Debug, Clone)]
pub struct Auditor {
    now: UnixMillis,
    /// Numbers of theirs that are waited for no longer.
    released: u64,
    counts: Counts,
    findings: Vec<Finding>,
    /// Stored and not receipted, long enough ago.
    waiting: Vec<Ours>,
    /// The highest number of ours that a signed receipt shows to have come.
    seen: u64,
    /// The lowest number of theirs that is not accounted for.
    next: u64,
    /// The number of their last message.
    last_came: Option<u64>,
}

impl Auditor {
    /// Begins, with the number up to which theirs were released or given up.
    #[must_use]
    pub fn new(released: u64, now: UnixMillis) -> Self {
        Self {
            now,
            released,
            counts: Counts::default(),
            findings: Vec::new(),
            waiting: Vec::new(),
            seen: 0,
            next: 1,
            last_came: None,
        }
    }

    /// Takes a message of ours, in any order.
    pub fn ours(&mut self, message: Ours) {
        let counts = &mut self.counts;
        *match message.stage {
            Stage::Sending => &mut counts.sending,
            Stage::Stored => &mut counts.stored,
            Stage::Refused => &mut counts.refused,
            Stage::Delivered => &mut counts.delivered,
            Stage::Read => &mut counts.read,
        } += 1;
        match message.proof {
            Proof::Signed { kind: ReceiptKind::Delivered | ReceiptKind::Read, highest } => {
                self.seen = self.seen.max(highest).max(message.sequence);
            }
            Proof::Bad => self.findings.push(Finding::BadReceipt(message)),
            Proof::None | Proof::Signed { kind: ReceiptKind::CannotOpen, .. } => {
                let is_settled = message.stored_at.is_none_or(|stored| stored.plus_millis(GRACE_MILLIS) < self.now);
                if message.stage == Stage::Stored && is_settled {
                    self.waiting.push(message);
                }
            }
        }
    }

    /// Takes what is known of numbers of theirs, in rising order of the first.
    pub fn theirs(&mut self, number: Accounted) {
        let (first, last) = match number {
            Accounted::Came(Theirs { sequence, .. }) => (sequence, sequence),
            Accounted::Named { first, last } => (first, last),
        };
        self.miss_before(first);
        self.next = self.next.max(last.saturating_add(1));
        if let Accounted::Came(message) = number {
            self.came(message);
        }
    }

    /// What it all comes to.
    #[must_use]
    pub fn finish(mut self) -> (Counts, Vec<Finding>) {
        self.miss_before(self.released.saturating_add(1));
        let seen = self.seen;
        let unaccounted = self.waiting.into_iter().filter(|message| message.sequence < seen);
        let unaccounted: Vec<Finding> = unaccounted.map(|message| Finding::Unaccounted { message, seen }).collect();
        self.counts.unaccounted = u64::try_from(unaccounted.len()).unwrap_or(u64::MAX);
        let mut findings = unaccounted;
        findings.append(&mut self.findings);
        (self.counts, findings)
    }

    fn came(&mut self, message: Theirs) {
        self.counts.received += 1;
        if self.last_came.replace(message.sequence) == Some(message.sequence) {
            self.findings.push(Finding::NumberTwice(message));
        } else if message.is_late {
            self.counts.late += 1;
            self.findings.push(Finding::Late(message));
        }
        if message.arrivals > 1 {
            self.counts.repeated += 1;
            self.findings.push(Finding::Repeated(message));
        }
    }

    /// What is above the released may still come.
    fn miss_before(&mut self, sequence: u64) {
        let (first, last) = (self.next, sequence.saturating_sub(1).min(self.released));
        if first <= last {
            self.counts.missing = self.counts.missing.saturating_add(last - first + 1);
            self.findings.push(Finding::Missing { first, last });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_000_000);

    fn ours(sequence: u64, stage: Stage, proof: Proof) -> Ours {
        Ours { sequence, id: MessageId::from_bytes([1; 16]), stage, stored_at: Some(UnixMillis(1)), proof }
    }

    fn receipt(kind: ReceiptKind, highest: u64) -> Proof {
        Proof::Signed { kind, highest }
    }

    fn theirs(sequence: u64) -> Theirs {
        Theirs { sequence, id: MessageId::from_bytes([2; 16]), came_at: Some(NOW), arrivals: 1, is_late: false }
    }

    fn audit_ours(messages: &[Ours]) -> (Counts, Vec<Finding>) {
        let mut auditor = Auditor::new(0, NOW);
        messages.iter().for_each(|message| auditor.ours(*message));
        auditor.finish()
    }

    fn audit_theirs(released: u64, numbers: &[Accounted]) -> (Counts, Vec<Finding>) {
        let mut auditor = Auditor::new(released, NOW);
        numbers.iter().for_each(|number| auditor.theirs(*number));
        auditor.finish()
    }

    #[test]
    fn what_was_stored_and_overtaken_by_a_receipted_one_is_unaccounted_for() {
        let lost = ours(1, Stage::Stored, Proof::None);
        let delivered = ours(2, Stage::Delivered, receipt(ReceiptKind::Delivered, 2));
        let waits = ours(3, Stage::Stored, Proof::None);
        let (counts, findings) = audit_ours(&[lost, delivered, waits]);
        assert_eq!(findings, [Finding::Unaccounted { message: lost, seen: 2 }]);
        assert_eq!((counts.stored, counts.delivered, counts.unaccounted), (2, 1, 1));
    }

    #[test]
    fn a_receipt_proves_as_much_as_the_highest_number_it_names() {
        let lost = ours(3, Stage::Stored, Proof::None);
        let delivered = ours(1, Stage::Read, receipt(ReceiptKind::Read, 4));
        assert_eq!(audit_ours(&[delivered, lost]).1, [Finding::Unaccounted { message: lost, seen: 4 }]);
    }

    #[test]
    fn nothing_is_concluded_from_what_is_new_refused_or_not_signed() {
        let delivered = ours(9, Stage::Delivered, receipt(ReceiptKind::Delivered, 9));
        let fresh = Ours { stored_at: Some(UnixMillis(NOW.0 - 1_000)), ..ours(1, Stage::Stored, Proof::None) };
        let refused = ours(2, Stage::Refused, Proof::None);
        let sending = ours(3, Stage::Sending, Proof::None);
        assert_eq!(audit_ours(&[fresh, refused, sending, delivered]).1, []);

        let (waits, forged) = (ours(1, Stage::Stored, Proof::None), ours(2, Stage::Delivered, Proof::Bad));
        assert_eq!(audit_ours(&[waits, forged]).1, [Finding::BadReceipt(forged)]);
        let sealed_again = ours(2, Stage::Stored, receipt(ReceiptKind::CannotOpen, 2));
        assert_eq!(audit_ours(&[waits, sealed_again]).1, []);
    }

    #[test]
    fn numbers_that_neither_came_nor_were_named_are_missing() {
        let came = |sequence| Accounted::Came(theirs(sequence));
        let named = |first, last| Accounted::Named { first, last };
        let (counts, findings) = audit_theirs(9, &[came(2), named(3, 3), came(4), came(7), came(9)]);
        let missing = |first, last| Finding::Missing { first, last };
        assert_eq!(findings, [missing(1, 1), missing(5, 6), missing(8, 8)]);
        assert_eq!((counts.received, counts.missing), (4, 4));
        // What came within a run that a sender named is in it, and does not end it.
        let (counts, findings) = audit_theirs(1 << 48, &[named(2, (1 << 48) - 1), came(5), came(6)]);
        assert_eq!(findings, [missing(1, 1), missing(1 << 48, 1 << 48)]);
        assert_eq!((counts.received, counts.missing), (2, 2));
    }

    #[test]
    fn a_gap_that_is_held_open_is_not_missing_yet() {
        let numbers = [Accounted::Came(theirs(1)), Accounted::Came(theirs(3))];
        assert_eq!(audit_theirs(1, &numbers).1, []);
        assert_eq!(audit_theirs(0, &[]).1, []);
        assert_eq!(audit_theirs(2, &[]).1, [Finding::Missing { first: 1, last: 2 }]);
    }

    #[test]
    fn repeated_late_and_doubled_numbers_are_told_apart() {
        let repeated = Theirs { arrivals: 3, ..theirs(1) };
        let late = Theirs { is_late: true, ..theirs(2) };
        let late_and_direct = Theirs { is_late: true, arrivals: 0, ..theirs(3) };
        let second = Theirs { is_late: true, ..theirs(4) };
        let numbers = [repeated, late, late_and_direct, theirs(4), second].map(Accounted::Came);
        let (counts, findings) = audit_theirs(4, &numbers);
        let expected = [
            Finding::Repeated(repeated),
            Finding::Late(late),
            Finding::Late(late_and_direct),
            Finding::NumberTwice(second),
        ];
        assert_eq!(findings, expected);
        let blames: Vec<bool> = findings.iter().map(Finding::blames_directory).collect();
        assert_eq!(blames, [true, true, false, false]);
        assert_eq!((counts.repeated, counts.late, counts.missing), (1, 2, 0));
    }

    #[test]
    fn the_highest_numbers_do_not_overflow() {
        let numbers = [Accounted::Came(theirs(u64::MAX))];
        assert_eq!(audit_theirs(u64::MAX, &numbers).0.missing, u64::MAX - 1);
    }
}
