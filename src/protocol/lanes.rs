//! Which message goes next, which way, and what an answer means for it.
//!
//! Each recipient has a lane: one message at a time, so that order is kept, and pauses of its own, so that a recipient
//! who cannot be written to now does not hold up the others.

use std::collections::HashMap;
use std::time::Duration;

use super::backoff::Backoff;
use crate::wire::ids::PeerKey;
use crate::wire::limits::DIRECT_PATIENCE;
use crate::wire::refusal::Refusal;

/// New prekeys that one attempt asks for, before it rests.
const PREKEYS_PER_ATTEMPT_MAX: u32 = 4;

/// The lanes of all recipients. Times count from any fixed moment, by a clock that never goes back.
#[derive(Debug, Default)]
pub struct Lanes {
    lanes: HashMap<PeerKey, Lane>,
}

#[derive(Debug, Default)]
struct Lane {
    is_busy: bool,
    backoff: Backoff,
    rests_until: Option<Duration>,
}

impl Lanes {
    /// Whether a message to this recipient may be sent now.
    #[must_use]
    pub fn is_free(&self, to: PeerKey, now: Duration) -> bool {
        self.lanes.get(&to).is_none_or(|lane| !lane.is_busy && lane.rests_until.is_none_or(|until| until <= now))
    }

    /// A message to this recipient is being sent.
    pub fn begin(&mut self, to: PeerKey) {
        let lane = self.lanes.entry(to).or_default();
        lane.is_busy = true;
        lane.rests_until = None;
    }

    /// It is settled, whatever it came to.
    pub fn settled(&mut self, to: PeerKey) {
        self.lanes.remove(&to);
    }

    /// It is to be tried again after a pause. `spread` is a random number, see [`Backoff::failed`].
    pub fn failed(&mut self, to: PeerKey, now: Duration, spread: u8) {
        let lane = self.lanes.entry(to).or_default();
        lane.is_busy = false;
        lane.rests_until = Some(now + lane.backoff.failed(spread));
    }

    /// There is a new way to send: nobody rests any longer.
    pub fn wake(&mut self) {
        for lane in self.lanes.values_mut() {
            lane.rests_until = None;
            lane.backoff.succeeded();
        }
        self.lanes.retain(|_, lane| lane.is_busy);
    }

    /// When the next lane has rested. Those that have are free, and wait for a message or a way to send: waking for them
    /// would be waking for ever.
    #[must_use]
    pub fn next_wake(&self, now: Duration) -> Option<Duration> {
        let resting = self.lanes.values().filter(|lane| !lane.is_busy).filter_map(|lane| lane.rests_until);
        resting.filter(|&until| until > now).min()
    }
}

/// What there is to send a message with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ways {
    /// The round-trip time of a connection straight to its recipient.
    pub direct: Option<Duration>,
    /// Whether this peer is logged in at the directory.
    pub directory: bool,
    /// Whether an earlier message to the recipient may still be at the directory: going past it would change the order.
    pub has_earlier_under_way: bool,
    /// Whether it was sent straight and not acknowledged.
    pub failed_direct: bool,
}

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Straight to its recipient, who has this long to acknowledge it.
    Direct {
        /// After it the message goes through the directory.
        patience: Duration,
    },
    /// Sealed, through the directory.
    Directory,
}

impl Ways {
    /// Which way to go; `None` when there is none now.
    #[must_use]
    pub fn choose(self) -> Option<Way> {
        let detours = self.failed_direct || self.has_earlier_under_way;
        match self.direct {
            Some(round_trip) if !(self.directory && detours) => {
                Some(Way::Direct { patience: DIRECT_PATIENCE.max(round_trip * 4) })
            }
            Some(_) | None => self.directory.then_some(Way::Directory),
        }
    }
}

/// What to do after a no of the directory's to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterRefusal {
    /// Ask for the recipient's keys, and seal it again under the same id.
    SealAgain,
    /// Try again after a pause.
    Rest,
    /// It will not be taken.
    GiveUp,
    /// A mailbox is full: it empties while its owner is online, otherwise it is a no.
    AskIfOnline,
}

/// Decides it; `sealed` counts how often this attempt has sealed the message. What its writer was told is stored, and
/// is only sent again, waits for a place in the mailbox.
#[must_use]
pub fn after_refusal(refusal: Refusal, sealed: u32, was_stored: bool) -> AfterRefusal {
    match refusal {
        Refusal::PrekeyChanged | Refusal::KeyChanged if sealed < PREKEYS_PER_ATTEMPT_MAX => AfterRefusal::SealAgain,
        Refusal::PrekeyChanged
        | Refusal::KeyChanged
        | Refusal::Busy
        | Refusal::NoPrekey
        | Refusal::TooOften { .. }
        | Refusal::NotLoggedIn
        | Refusal::SessionEnded
        | Refusal::Storage => AfterRefusal::Rest,
        Refusal::MailboxFull | Refusal::StrangerLimit if was_stored => AfterRefusal::Rest,
        Refusal::MailboxFull | Refusal::StrangerLimit => AfterRefusal::AskIfOnline,
        _ => AfterRefusal::GiveUp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> PeerKey {
        PeerKey::from_bytes([byte; 32])
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn one_message_at_a_time_to_each_recipient() {
        let mut lanes = Lanes::default();
        lanes.begin(key(1));
        assert!(!lanes.is_free(key(1), seconds(0)) && lanes.is_free(key(2), seconds(0)));
        lanes.settled(key(1));
        assert!(lanes.is_free(key(1), seconds(0)));
    }

    #[test]
    fn a_recipient_who_fails_rests_longer_each_time_and_holds_up_nobody() {
        let mut lanes = Lanes::default();
        for (at, rests) in [(0, 1), (10, 2), (20, 4)] {
            lanes.begin(key(1));
            lanes.failed(key(1), seconds(at), 255);
            assert_eq!(lanes.next_wake(seconds(at)), Some(seconds(at + rests)));
            assert!(!lanes.is_free(key(1), seconds(at)) && lanes.is_free(key(1), seconds(at + rests)));
            assert!(lanes.is_free(key(2), seconds(at)));
        }
        lanes.wake();
        assert!(lanes.is_free(key(1), seconds(20)) && lanes.next_wake(seconds(20)).is_none());
    }

    /// Found by the simulation, seed 0: the message was settled by a receipt, or there was no way to send, while the lane
    /// rested; and then its driver was woken at once, again and again.
    #[test]
    fn a_lane_that_has_rested_wakes_nobody_again() {
        let mut lanes = Lanes::default();
        lanes.begin(key(1));
        lanes.failed(key(1), seconds(0), 255);
        assert_eq!(lanes.next_wake(seconds(0)), Some(seconds(1)));
        assert_eq!(lanes.next_wake(seconds(1)), None);
    }

    #[test]
    fn a_new_way_does_not_send_what_is_being_sent() {
        let mut lanes = Lanes::default();
        lanes.begin(key(1));
        lanes.wake();
        assert!(!lanes.is_free(key(1), seconds(0)));
    }

    #[test]
    fn direct_first_but_never_past_an_earlier_message() {
        let ways = Ways {
            direct: Some(Duration::from_millis(20)),
            directory: true,
            has_earlier_under_way: false,
            failed_direct: false,
        };
        assert_eq!(ways.choose(), Some(Way::Direct { patience: Duration::from_millis(500) }));
        let slow = Ways { direct: Some(Duration::from_millis(200)), ..ways };
        assert_eq!(slow.choose(), Some(Way::Direct { patience: Duration::from_millis(800) }));
        assert_eq!(Ways { has_earlier_under_way: true, ..ways }.choose(), Some(Way::Directory));
        assert_eq!(Ways { failed_direct: true, ..ways }.choose(), Some(Way::Directory));
        assert_eq!(Ways { direct: None, ..ways }.choose(), Some(Way::Directory));
        assert_eq!(Ways { direct: None, directory: false, ..ways }.choose(), None);
        let alone = Ways { directory: false, failed_direct: true, ..ways };
        assert!(matches!(alone.choose(), Some(Way::Direct { .. })), "without a directory there is only one way");
    }

    #[test]
    fn a_no_that_may_pass_is_tried_again_and_any_other_is_final() {
        assert_eq!(after_refusal(Refusal::PrekeyChanged, 1, false), AfterRefusal::SealAgain);
        assert_eq!(after_refusal(Refusal::PrekeyChanged, 4, false), AfterRefusal::Rest);
        assert_eq!(after_refusal(Refusal::NoPrekey, 1, false), AfterRefusal::Rest);
        for full in [Refusal::MailboxFull, Refusal::StrangerLimit] {
            assert_eq!(after_refusal(full, 1, false), AfterRefusal::AskIfOnline);
            assert_eq!(after_refusal(full, 1, true), AfterRefusal::Rest);
        }
        assert_eq!(after_refusal(Refusal::NotAccepted, 1, false), AfterRefusal::GiveUp);
        assert_eq!(after_refusal(Refusal::UnknownName, 1, false), AfterRefusal::GiveUp);
    }
}
