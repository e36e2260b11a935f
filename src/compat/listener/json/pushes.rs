//! What one name is told without having asked: one message at a time, again until it is acknowledged, ever more slowly.
//! Knows no socket and no disk; time comes in as an argument.
//!
//! ```text
//! idle --notice, mail--> sending --acknowledged--> idle
//!                           \--eight tries--> given up --they speak--> idle
//! ```

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::compat::dialect::json::answer::Answer;
use crate::wire::ids::MessageId;
use crate::wire::limits::LEGACY_JSON_NOTICES_MAX;

/// Before the second try; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_millis(300);
/// Between the last ones.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// 30 s in all.
const TRIES_MAX: u32 = 8;
/// Whoever says nothing for so long is asked whether they are there.
const ASKED_AFTER: Duration = Duration::from_secs(60);
/// And is gone when they do not answer.
const GONE_AFTER: Duration = Duration::from_secs(90);

/// What waits for one name, and what is on its way.
#[derive(Debug)]
pub(super) struct Desk {
    /// What is forgotten when they are not there to hear it.
    notices: VecDeque<Answer>,
    current: Option<Push>,
    heard: Instant,
    has_given_up: bool,
}

/// A message on its way.
#[derive(Debug)]
struct Push {
    /// It, or its parts when it is long; the first is on its way.
    parts: VecDeque<Answer>,
    number: u64,
    tries: u32,
    due: Instant,
    /// Which message of the mail it is, if it is one.
    mail: Option<MessageId>,
}

impl Desk {
    /// Of somebody who was heard just now.
    pub(super) fn new(now: Instant) -> Self {
        Self { notices: VecDeque::new(), current: None, heard: now, has_given_up: false }
    }

    /// Takes something that they should know if they are there.
    pub(super) fn notice(&mut self, notice: Answer) {
        if self.notices.len() >= LEGACY_JSON_NOTICES_MAX {
            self.notices.pop_front();
        }
        self.notices.push_back(notice);
    }

    /// Whether the next message can go.
    pub(super) fn is_idle(&self) -> bool {
        self.current.is_none() && !self.has_given_up
    }

    /// Begins with the next notice, if there is one.
    pub(super) fn begin_notice(&mut self, number: u64, now: Instant) -> bool {
        let notice = self.notices.pop_front();
        let has_one = notice.is_some();
        if let Some(notice) = notice {
            self.begin(VecDeque::from([notice]), None, number, now);
        }
        has_one
    }

    /// Begins with a message of the mail, in parts when it is long.
    pub(super) fn begin_mail(&mut self, parts: Vec<Answer>, id: MessageId, number: u64, now: Instant) {
        self.begin(parts.into(), Some(id), number, now);
    }

    fn begin(&mut self, parts: VecDeque<Answer>, mail: Option<MessageId>, number: u64, now: Instant) {
        self.current = Some(Push { parts, number, tries: 0, due: now, mail });
    }

    /// What is to be sent now, with its number. It counts as sent.
    pub(super) fn due(&mut self, now: Instant) -> Option<(Answer, u64)> {
        let push = self.current.as_mut().filter(|push| push.due <= now)?;
        if push.tries >= TRIES_MAX {
            // Mail stays on disk; what else there is would be stale when they come back.
            (self.current, self.has_given_up) = (None, true);
            self.notices.clear();
            return None;
        }
        push.due = now + FIRST_WAIT.saturating_mul(1 << push.tries).min(LONGEST_WAIT);
        push.tries += 1;
        push.parts.front().cloned().map(|part| (part, push.number))
    }

    /// Notes that they have got what is on its way, if it is that number; the next part is given the next number.
    pub(super) fn acknowledged(&mut self, number: u64, next: u64, now: Instant) -> Acknowledged {
        self.spoke(now);
        let Some(mut push) = self.current.take_if(|push| push.number == number) else { return Acknowledged::Nothing };
        let Some(part) = push.parts.pop_front() else { return Acknowledged::Nothing };
        let mail = push.mail.filter(|_| push.parts.is_empty());
        if !push.parts.is_empty() {
            self.begin(push.parts, push.mail, next, now);
        }
        Acknowledged::Part { part, mail }
    }

    /// Notes that they are there; whether they had been given up.
    pub(super) fn spoke(&mut self, now: Instant) -> bool {
        self.heard = now;
        std::mem::take(&mut self.has_given_up)
    }

    /// Asks them whether they are there, after a long silence.
    pub(super) fn probe(&mut self, now: Instant) {
        if self.is_idle() && self.notices.is_empty() && now.saturating_duration_since(self.heard) >= ASKED_AFTER {
            self.notice(Answer::new("HEY"));
        }
    }

    /// Whether they are gone.
    pub(super) fn is_gone(&self, now: Instant) -> bool {
        let is_waited_for = self.current.is_some() || self.has_given_up;
        is_waited_for && now.saturating_duration_since(self.heard) >= GONE_AFTER
    }

    /// When to look again.
    pub(super) fn wake_at(&self) -> Instant {
        let silence = match (&self.current, self.has_given_up) {
            (None, false) => self.heard + ASKED_AFTER,
            (Some(_), _) | (None, true) => self.heard + GONE_AFTER,
        };
        self.current.as_ref().map_or(silence, |push| push.due.min(silence))
    }
}

/// What an acknowledgement was for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Acknowledged {
    /// Nothing that is on its way.
    Nothing,
    /// A part, and a whole message of the mail when it was the last of one.
    Part {
        /// What they have got.
        part: Answer,
        /// Which message they have got whole.
        mail: Option<MessageId>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIL: MessageId = MessageId::from_bytes([7; 16]);

    fn said(text: &str) -> Answer {
        Answer::new("MSG").with("text", text)
    }

    /// Lets time pass until somebody is given up who says nothing; says how often they were told.
    fn tries(desk: &mut Desk, now: &mut Instant) -> usize {
        let mut tries = 0;
        while desk.current.is_some() {
            tries += usize::from(desk.due(*now).is_some());
            *now += Duration::from_millis(100);
        }
        tries
    }

    #[test]
    fn one_message_goes_at_a_time_and_each_until_it_is_acknowledged() {
        let start = Instant::now();
        let mut desk = Desk::new(start);
        desk.begin_mail(vec![said("a"), said("b")], MAIL, 1, start);
        assert_eq!(desk.due(start), Some((said("a"), 1)));
        assert_eq!(desk.due(start), None, "not before its time");
        let later = start + FIRST_WAIT;
        assert_eq!(desk.due(later), Some((said("a"), 1)));
        assert_eq!(desk.acknowledged(9, 10, later), Acknowledged::Nothing);
        assert_eq!(desk.acknowledged(1, 2, later), Acknowledged::Part { part: said("a"), mail: None });
        assert_eq!(desk.due(later), Some((said("b"), 2)));
        assert_eq!(desk.acknowledged(1, 3, later), Acknowledged::Nothing, "an old one, late");
        assert_eq!(desk.acknowledged(2, 3, later), Acknowledged::Part { part: said("b"), mail: Some(MAIL) });
        assert!(desk.is_idle());
    }

    #[test]
    fn whoever_does_not_answer_is_left_in_peace_until_they_speak() {
        let start = Instant::now();
        let (mut desk, mut now) = (Desk::new(start), start);
        desk.begin_mail(vec![said("a")], MAIL, 1, now);
        assert_eq!(tries(&mut desk, &mut now), 8);
        assert!(now - start < Duration::from_secs(45), "{:?}", now - start);
        assert!(!desk.is_idle() && !desk.is_gone(now));
        assert!(desk.spoke(now) && desk.is_idle(), "then it is tried again");
        assert!(!desk.spoke(now), "once");
    }

    #[test]
    fn whoever_is_silent_is_asked_after_a_minute_and_gone_after_a_minute_and_a_half() {
        let start = Instant::now();
        let mut desk = Desk::new(start);
        let after = |seconds| start + Duration::from_secs(seconds);
        desk.probe(after(59));
        assert!(!desk.begin_notice(1, after(59)) && !desk.is_gone(after(300)));
        desk.probe(desk.wake_at());
        assert!(desk.begin_notice(1, after(60)));
        assert!(!desk.is_gone(after(89)) && desk.is_gone(after(90)));
        desk.acknowledged(1, 2, after(89));
        assert!(!desk.is_gone(after(90)) && desk.is_idle());
    }

    #[test]
    fn notices_are_bounded_and_the_oldest_go_first() {
        let now = Instant::now();
        let mut desk = Desk::new(now);
        for number in 0..100 {
            desk.notice(said(&number.to_string()));
        }
        assert_eq!(desk.notices.len(), LEGACY_JSON_NOTICES_MAX);
        assert!(desk.begin_notice(1, now));
        assert_eq!(desk.due(now), Some((said("36"), 1)));
    }
}
