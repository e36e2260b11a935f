//! Proves from a log of facts that no message was lost, doubled, put out of order or taken back. Plain data in, verdict
//! out: it knows neither the library nor the network, so that the simulation and `--json` lines of real processes feed it.
//!
//! * I1 a message whose writer was told `stored` or more, and not `refused`, is shown at its recipient by the end.
//! * I2 nothing is shown twice.
//! * I3 of one writer's messages the order shown is the order written.
//! * I5 stages never go back, are true, and at the end each message is `refused`, `delivered` or `read`.
//!
//! What no program can keep, because a disk was set back to a backup, is excused as narrowly as this:
//! * A peer's screen and what it was told go back with its disk: showing again what the backup had not shown is right,
//!   being told an earlier stage again too. What was shown before counts as shown.
//! * What a recipient had kept after its backup and shown nowhere is gone with its disk (`lost_with_disk`).
//! * What a writer wrote after its backup is forgotten by it (`forgotten`): nobody hears of it or sends it again. It must
//!   be shown all the same if it was stored, unless the directory was set back too or gave it back, or its recipient
//!   could not open it.
//! * The writer numbers its next messages as it did the forgotten ones, until it hears how far the other side has seen:
//!   messages of a number that was used before (`renumbered`), and the forgotten ones themselves, may come out of order.
//!   Once it was told that one of its messages is `delivered`, it knows the highest number that had come by then,
//!   unless the receipt may be older: from a directory that was set back.
//!
//! And without any backup, a message may come late when its number was named as missing, or its writer was told that
//! it is `refused`: then it was no longer waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

#[cfg(test)]
mod planted;

/// How far a message has come, as its writer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Sending,
    Stored,
    Refused,
    Delivered,
    Read,
}

/// Something that was seen from outside, in the order of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fact {
    /// A message is on its writer's disk. It is the `number`th to that recipient, counted from 1.
    Written { by: String, to: String, id: String, number: u64 },
    /// The writer was told how far a message has come.
    State { by: String, id: String, stage: Stage },
    /// A message is on its recipient's disk. A log without these facts is judged by the others.
    Kept { at: String, id: String },
    /// A message is on its recipient's screen.
    Shown { at: String, id: String },
    /// The screen said that these numbers of a writer did not come.
    Missing { at: String, from: String, first: u64, last: u64 },
    /// A recipient told that it cannot open a message.
    CannotOpen { id: String },
    /// The directory gave a message back: it expired, or its recipient's key is another one.
    GivenBack { id: String },
    /// A peer's disk was set back to what it was when the log had `point` facts.
    PeerRestored { peer: String, point: usize },
    /// The directory's disk was set back.
    DirectoryRestored,
    /// Everybody is up, and nothing is under way.
    End,
}

/// Which promise is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promise {
    /// I1.
    NothingLost,
    /// I2.
    NothingTwice,
    /// I3.
    Order,
    /// I5.
    Stages,
    /// The log itself makes no sense: a message that nobody wrote, or at the wrong person.
    Sense,
}

/// A broken promise, as a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) promise: Promise,
    pub(crate) sentence: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.promise, self.sentence)
    }
}

/// What is known of one message. Pairs hold the place in the log, so that a restore can take back what came after.
#[derive(Debug, Default)]
struct Message {
    by: String,
    to: String,
    number: u64,
    /// Which it is of all that its writer wrote to its recipient, forgotten ones included.
    ordinal: u64,
    written_at: usize,
    told: Vec<(usize, Stage)>,
    kept: Option<usize>,
    on_screen: Option<usize>,
    /// The highest number that its recipient had when it came.
    highest_then: u64,
    was_kept: bool,
    was_shown: bool,
    was_stored: bool,
    was_refused: bool,
    refused_at: Option<usize>,
    was_named_missing: bool,
    is_forgotten: bool,
    is_renumbered: bool,
    is_lost_with_disk: bool,
    is_nobodys: bool,
}

/// What is known of one writer and recipient.
#[derive(Debug, Default)]
struct Pair {
    written: u64,
    highest_number: u64,
    by_ordinal: BTreeMap<u64, String>,
    by_number: BTreeMap<u64, Vec<String>>,
    screen: BTreeSet<u64>,
    /// The highest number that came.
    highest_kept: u64,
    /// What the writer was told of it: it may use no such number again.
    highest_told: u64,
    /// The last number that was named as missing: what is named is not waited for again.
    named_up_to: u64,
    was_restored: bool,
}

/// Reads facts one by one.
#[derive(Debug, Default)]
pub(crate) struct Auditor {
    facts: usize,
    has_kept: bool,
    messages: BTreeMap<String, Message>,
    pairs: BTreeMap<(String, String), Pair>,
    violations: Vec<Violation>,
}

/// Reads a whole log.
pub(crate) fn audit(facts: &[Fact]) -> Vec<Violation> {
    let mut auditor = Auditor::default();
    for fact in facts {
        auditor.hear(fact);
    }
    auditor.violations
}

impl Auditor {
    /// How many facts it has heard: the point of a backup that is taken now.
    pub(crate) fn point(&self) -> usize {
        self.facts
    }

    /// What is broken so far.
    pub(crate) fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Takes the next fact of the log.
    pub(crate) fn hear(&mut self, fact: &Fact) {
        self.facts += 1;
        match fact {
            Fact::Written { by, to, id, number } => self.written(by, to, id, *number),
            Fact::State { by, id, stage } => self.told(by, id, *stage),
            Fact::Kept { at, id } => self.kept(at, id),
            Fact::Shown { at, id } => self.shown(at, id),
            Fact::Missing { at, from, first, last } => self.named_missing(at, from, *first, *last),
            Fact::CannotOpen { id } | Fact::GivenBack { id } => {
                if let Some(message) = self.messages.get_mut(id) {
                    message.is_nobodys = true;
                }
            }
            Fact::PeerRestored { peer, point } => self.peer_restored(peer, *point),
            Fact::DirectoryRestored => self.messages.values_mut().for_each(|message| {
                message.is_nobodys = true;
                message.highest_then = 0; // it may hand out an old receipt, which knows less
            }),
            Fact::End => self.end(),
        }
    }

    fn broken(&mut self, promise: Promise, sentence: String) {
        self.violations.push(Violation { promise, sentence });
    }

    fn written(&mut self, by: &str, to: &str, id: &str, number: u64) {
        if self.messages.contains_key(id) {
            return self.broken(Promise::Sense, format!("{by} wrote two messages with the id {id}"));
        }
        let pair = self.pairs.entry((by.to_owned(), to.to_owned())).or_default();
        pair.written += 1;
        let is_renumbered = number <= pair.highest_number;
        let highest_told = pair.highest_told;
        pair.highest_number = pair.highest_number.max(number);
        pair.by_ordinal.insert(pair.written, id.to_owned());
        pair.by_number.entry(number).or_default().push(id.to_owned());
        let message = Message {
            by: by.to_owned(),
            to: to.to_owned(),
            number,
            ordinal: pair.written,
            written_at: self.facts,
            told: vec![(self.facts, Stage::Sending)],
            is_renumbered,
            ..Message::default()
        };
        self.messages.insert(id.to_owned(), message);
        if number <= highest_told {
            let sentence = format!("{by} gave {id} the number {number} after it was told that {to} has {highest_told}");
            self.broken(Promise::Order, sentence);
        }
    }

    fn told(&mut self, by: &str, id: &str, stage: Stage) {
        let (facts, has_kept) = (self.facts, self.has_kept);
        let Some(message) = self.messages.get_mut(id).filter(|message| message.by == by && !message.is_forgotten)
        else {
            return self.broken(Promise::Sense, format!("{by} was told {stage:?} of {id}, which it did not write"));
        };
        let before = message.told.last().map_or(Stage::Sending, |&(_, stage)| stage);
        message.told.push((facts, stage));
        message.was_stored |= stage == Stage::Stored;
        if stage == Stage::Refused {
            message.was_refused = true;
            message.refused_at = message.refused_at.or(Some(facts));
        }
        let (to, was_kept, was_shown) = (message.to.clone(), message.was_kept, message.was_shown);
        if stage >= Stage::Delivered {
            let pair = self.pairs.get_mut(&(by.to_owned(), to.clone())).expect("the message was written to it");
            pair.highest_told = pair.highest_told.max(message.highest_then);
        }
        if stage < before {
            self.broken(Promise::Stages, format!("{by} was told {before:?} of {id}, and then {stage:?}"));
        }
        if stage >= Stage::Delivered && has_kept && !was_kept {
            self.broken(Promise::Stages, format!("{by} was told {stage:?} of {id}, which {to} never had on disk"));
        }
        if stage == Stage::Read && !was_shown {
            self.broken(Promise::Stages, format!("{by} was told Read of {id}, which {to} never showed"));
        }
    }

    fn kept(&mut self, at: &str, id: &str) {
        self.has_kept = true;
        let facts = self.facts;
        match self.messages.get_mut(id) {
            Some(message) if message.to == at => {
                let pair = self.pairs.get_mut(&(message.by.clone(), at.to_owned()));
                let pair = pair.expect("the message was written to it");
                pair.highest_kept = pair.highest_kept.max(message.number);
                message.highest_then = pair.highest_kept;
                message.kept = Some(facts);
                message.was_kept = true;
            }
            Some(_) | None => self.broken(Promise::Sense, format!("{at} kept {id}, which nobody wrote to it")),
        }
    }

    fn shown(&mut self, at: &str, id: &str) {
        let facts = self.facts;
        let Some(message) = self.messages.get_mut(id).filter(|message| message.to == at) else {
            return self.broken(Promise::Sense, format!("{at} showed {id}, which nobody wrote to it"));
        };
        if message.on_screen.replace(facts).is_some() {
            let by = message.by.clone();
            return self.broken(Promise::NothingTwice, format!("{at} showed {id} of {by} twice"));
        }
        message.was_shown = true;
        let may_be_late =
            message.was_refused || message.was_named_missing || message.is_forgotten || message.is_renumbered;
        let (by, ordinal) = (message.by.clone(), message.ordinal);
        let pair = self.pairs.get_mut(&(by.clone(), at.to_owned())).expect("the message was written to it");
        pair.screen.insert(ordinal);
        let later = pair.screen.last().filter(|&&last| last > ordinal && !may_be_late);
        if let Some(later) = later.and_then(|last| pair.by_ordinal.get(last)) {
            let later = later.clone();
            self.broken(
                Promise::Order,
                format!(
                    "{at} showed {later} and then {id}, which {by} wrote before it, and did not name it as missing"
                ),
            );
        }
    }

    fn named_missing(&mut self, at: &str, from: &str, first: u64, last: u64) {
        let Some(pair) = self.pairs.get_mut(&(from.to_owned(), at.to_owned())) else {
            return self.broken(Promise::Sense, format!("{at} misses messages of {from}, who wrote none"));
        };
        let should_know = (first..=last).find(|&number| !pair.was_restored && is_skipped(pair, &self.messages, number));
        for id in pair.by_number.range(first..=last).flat_map(|(_, ids)| ids) {
            self.messages.get_mut(id).expect("a numbered message was written").was_named_missing = true;
        }
        let named_up_to = std::mem::replace(&mut pair.named_up_to, last);
        if first <= named_up_to {
            let sentence =
                format!("{at} named {first} to {last} of {from} as missing after it had named {named_up_to}");
            self.broken(Promise::Order, sentence);
        }
        if let Some(number) = should_know {
            let sentence = format!("{at} named {number} of {from} as missing, which later messages say was refused");
            self.broken(Promise::Order, sentence);
        }
    }

    fn peer_restored(&mut self, peer: &str, point: usize) {
        for ((by, to), pair) in &mut self.pairs {
            pair.was_restored |= by == peer || to == peer;
            if by == peer {
                pair.highest_told = 0;
            }
            if to == peer {
                pair.highest_kept = 0;
                pair.named_up_to = 0;
            }
        }
        for message in self.messages.values_mut() {
            if message.by == peer {
                message.told.retain(|&(at, _)| at <= point);
                message.is_forgotten |= message.written_at > point;
            }
            if message.to == peer {
                message.highest_then = 0; // it may be receipted again, by a disk that knows less
                let came_after = |at: Option<usize>| at.is_some_and(|at| at > point);
                if came_after(message.kept) {
                    message.kept = None;
                    message.is_lost_with_disk |= !message.was_shown;
                }
                if came_after(message.on_screen) {
                    message.on_screen = None;
                    let pair = self.pairs.get_mut(&(message.by.clone(), message.to.clone()));
                    pair.expect("the message was written to it").screen.remove(&message.ordinal);
                }
            }
        }
    }

    fn end(&mut self) {
        let mut broken = Vec::new();
        for (id, message) in &self.messages {
            let Message { by, to, number, .. } = message;
            let stage = message.told.last().map_or(Stage::Sending, |&(_, stage)| stage);
            if !message.is_forgotten && stage < Stage::Refused {
                let sentence =
                    format!("{by} was last told {stage:?} of {id} (number {number} to {to}): that is no end");
                broken.push(Violation { promise: Promise::Stages, sentence });
            }
            let is_promised = if message.is_forgotten {
                message.was_stored && !message.was_refused && !message.is_nobodys
            } else {
                stage != Stage::Refused && (message.was_stored || stage >= Stage::Stored)
            };
            if is_promised && !message.was_shown && !message.is_lost_with_disk {
                let sentence = format!("{by} was told {stage:?} of {id} (number {number} to {to}): it was never shown");
                broken.push(Violation { promise: Promise::NothingLost, sentence });
            }
        }
        self.violations.append(&mut broken);
    }
}

/// Whether all that came after a number was written when its writer knew that it will not come, and so says it. A message
/// names 64 runs of numbers at most; where there may be so many, this asks for nothing.
fn is_skipped(pair: &Pair, messages: &BTreeMap<String, Message>, number: u64) -> bool {
    let of = |range: &[String]| range.iter().filter_map(|id| messages.get(id)).collect::<Vec<_>>();
    let Some(refused_at) = pair.by_number.get(&number).and_then(|ids| of(ids).first()?.refused_at) else {
        return false;
    };
    let later: Vec<_> = pair.by_number.range(number + 1..).flat_map(|(_, ids)| of(ids)).collect();
    // A run begins behind a number that was not refused, or arrived after all.
    let was_refused =
        |number: u64| pair.by_number.get(&number).is_some_and(|ids| of(ids).iter().any(|m| m.was_refused));
    let begins_run =
        |message: &&&Message| message.was_refused && (message.was_kept || !was_refused(message.number - 1));
    let runs = later.iter().filter(begins_run).count();
    runs < 32 && later.iter().filter(|message| message.was_kept).all(|message| message.written_at > refused_at)
}
