//! Messages of the last seconds, so that each has one effect however often it comes: a program that has no acknowledgement
//! in time sends its message to the server, perhaps under another number, and that again until it is answered.

use std::collections::VecDeque;

use tokio::sync::watch;

use crate::compat::dialect::s3::Uuid;
use crate::compat::resident::Said;
use crate::peer::failure::Failure;
use crate::wire::ids::{PeerName, UnixMillis};
use crate::wire::limits::S3_RECENT_MAX;

/// For how long a message may come again: five tries, a second apart, and as long once more for a slow machine.
const AGAIN_WITHIN_MILLIS: u64 = 10_000;

/// For how long when it was acknowledged: the acknowledgement crosses with the second message, or is lost. Later it is a
/// message of its own that says the same.
const AGAIN_AFTER_ACK_WITHIN_MILLIS: u64 = 2_000;

/// What became of a message; nothing yet while it is on its way.
pub(super) type Outcome = Option<Result<Said, Failure>>;

/// A message, as far as it tells it from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) from: PeerName,
    /// To whom; nobody in particular when it is for everybody.
    pub(super) to: Option<PeerName>,
    pub(super) id: Uuid,
    pub(super) text: String,
}

/// What is to be done with a message that has come.
#[derive(Debug)]
pub(super) enum Turn {
    /// It is the first time: it is said, and what becomes of it noted here.
    First(watch::Sender<Outcome>),
    /// It is being said, or was.
    Again(watch::Receiver<Outcome>),
}

#[derive(Debug)]
struct Entry {
    sent: Sent,
    /// The number under which it came to the server, once it has.
    saved_as: Option<Uuid>,
    at: UnixMillis,
    outcome: watch::Receiver<Outcome>,
}

/// Messages of the last seconds, oldest first.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<Entry>);

impl Recent {
    /// A message came to the port of the person it is for, or is for everybody.
    pub(super) fn chat(&mut self, sent: Sent, now: UnixMillis) -> Turn {
        self.forget(now);
        let is_it = |entry: &&Entry| entry.is_between(&sent) && entry.sent.id == sent.id;
        match self.0.iter().rev().find(is_it) {
            Some(entry) => Turn::Again(entry.outcome.clone()),
            None => self.first(sent, None, now),
        }
    }

    /// A message came to the server, to be kept for somebody; also says whether that is the first time there.
    pub(super) fn save(&mut self, sent: Sent, now: UnixMillis) -> (Turn, bool) {
        self.forget(now);
        let of_this_number = |entry: &&mut Entry| {
            entry.is_between(&sent) && (entry.sent.id == sent.id || entry.saved_as.as_ref() == Some(&sent.id))
        };
        if let Some(entry) = self.0.iter_mut().rev().find(of_this_number) {
            let is_new = entry.saved_as.replace(sent.id).is_none();
            return (Turn::Again(entry.outcome.clone()), is_new);
        }
        let of_this_text = |entry: &&mut Entry| {
            entry.is_between(&sent) && entry.sent.text == sent.text && entry.saved_as.is_none() && entry.is_open(now)
        };
        if let Some(entry) = self.0.iter_mut().rev().find(of_this_text) {
            let is_new = entry.saved_as.replace(sent.id).is_none();
            return (Turn::Again(entry.outcome.clone()), is_new);
        }
        let saved_as = Some(sent.id.clone());
        (self.first(sent, saved_as, now), true)
    }

    /// The number under which a text came that goes to somebody: passed on with it, it lets their program see that it
    /// has the message already.
    pub(super) fn number_of(&self, from: &PeerName, to: &PeerName, text: &str) -> Option<Uuid> {
        let is_it =
            |entry: &&Entry| entry.sent.from == *from && entry.sent.to.as_ref() == Some(to) && entry.sent.text == text;
        self.0.iter().rev().find(is_it).map(|entry| entry.sent.id.clone())
    }

    fn first(&mut self, sent: Sent, saved_as: Option<Uuid>, now: UnixMillis) -> Turn {
        if self.0.len() >= S3_RECENT_MAX {
            self.0.pop_front();
        }
        let (sender, outcome) = watch::channel(None);
        self.0.push_back(Entry { sent, saved_as, at: now, outcome });
        Turn::First(sender)
    }

    fn forget(&mut self, now: UnixMillis) {
        let is_old = |entry: &Entry| now.0.saturating_sub(entry.at.0) > AGAIN_WITHIN_MILLIS;
        while self.0.front().is_some_and(is_old) {
            self.0.pop_front();
        }
    }
}

impl Entry {
    fn is_between(&self, other: &Sent) -> bool {
        self.sent.from == other.from && self.sent.to == other.to
    }

    /// Whether the same text may still be this message.
    fn is_open(&self, now: UnixMillis) -> bool {
        let is_acknowledged = matches!(*self.outcome.borrow(), Some(Ok(Said::Delivered)));
        !is_acknowledged || now.0.saturating_sub(self.at.0) <= AGAIN_AFTER_ACK_WITHIN_MILLIS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(number: u8, to: &str, text: &str) -> Sent {
        let to = Some(PeerName::parse(to).unwrap());
        Sent { from: PeerName::parse("a").unwrap(), to, id: Uuid::random([number; 16]), text: text.to_owned() }
    }

    fn is_first(turn: &Turn) -> bool {
        matches!(turn, Turn::First(_))
    }

    #[test]
    fn a_message_without_acknowledgement_is_saved_under_any_number_and_said_once() {
        let mut recent = Recent::default();
        let Turn::First(outcome) = recent.chat(sent(1, "b", "hi"), UnixMillis(0)) else { panic!("it is new") };
        assert!(!is_first(&recent.chat(sent(1, "b", "hi"), UnixMillis(100))), "a datagram that came twice");
        outcome.send_replace(Some(Ok(Said::Waits)));
        let (Turn::Again(known), true) = recent.save(sent(2, "b", "hi"), UnixMillis(600)) else {
            panic!("it was said")
        };
        assert_eq!(*known.borrow(), Some(Ok(Said::Waits)));
        assert!(matches!(recent.save(sent(2, "b", "hi"), UnixMillis(1_600)), (Turn::Again(_), false)), "asked again");
        assert!(is_first(&recent.save(sent(3, "b", "hi"), UnixMillis(1_700)).0), "the same words once more");
        assert!(is_first(&recent.save(sent(2, "c", "hi"), UnixMillis(1_700)).0), "to somebody else");
        assert!(is_first(&recent.save(sent(2, "b", "hi"), UnixMillis(20_000)).0), "much later");
    }

    #[test]
    fn what_was_acknowledged_is_soon_a_message_of_its_own() {
        let mut recent = Recent::default();
        for (now, again) in [(1_900, true), (2_100, false)] {
            let Turn::First(outcome) = recent.chat(sent(1, "b", "hi"), UnixMillis(0)) else { panic!("it is new") };
            outcome.send_replace(Some(Ok(Said::Delivered)));
            assert_eq!(!is_first(&recent.save(sent(2, "b", "hi"), UnixMillis(now)).0), again);
            recent = Recent::default();
        }
    }

    #[test]
    fn two_equal_lines_are_two_messages() {
        let mut recent = Recent::default();
        let turns: Vec<_> = [1, 2].map(|number| recent.chat(sent(number, "b", "hi"), UnixMillis(0))).into();
        assert!(turns.iter().all(is_first));
        assert!(!is_first(&recent.save(sent(3, "b", "hi"), UnixMillis(600)).0));
        assert!(!is_first(&recent.save(sent(4, "b", "hi"), UnixMillis(600)).0));
        assert!(is_first(&recent.save(sent(5, "b", "hi"), UnixMillis(600)).0));
        let name = |name| PeerName::parse(name).unwrap();
        assert_eq!(recent.number_of(&name("a"), &name("b"), "hi"), Some(Uuid::random([5; 16])));
        assert_eq!(recent.number_of(&name("a"), &name("b"), "ho"), None);
    }

    #[test]
    fn few_are_remembered() {
        let mut recent = Recent::default();
        for number in 0..5_000 {
            assert!(is_first(&recent.chat(sent(1, "b", "hi"), UnixMillis(number * 11_000))));
        }
        assert_eq!(recent.0.len(), 1);
        for number in 0..5_000_u64 {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&number.to_be_bytes());
            let sent = Sent { id: Uuid::random(id), ..sent(0, "b", "hi") };
            drop(recent.chat(sent, UnixMillis(60_000_000)));
        }
        assert_eq!(recent.0.len(), S3_RECENT_MAX);
    }
}
