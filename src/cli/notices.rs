//! Which states of our messages are worth a line on a screen. Whoever writes to somebody who is there reads nothing of
//! stored, delivered and read; only what has to wait is told, once, and told again when it has arrived.
//!
//! ```text
//! queued --> stored --delivered within 2 s of being written--> (nothing)
//!               `--they are offline, or 2 s pass--> "waits", once a person --delivered--> "bob has 3 of your messages now"
//! ```
//! All states are in `--json`, in the activity log and in the history.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::peer::event::{Event, What};
use crate::wire::ids::{MessageId, PeerName};

/// A message to somebody online is on their disk sooner, also across oceans.
const SLOW_AFTER: Duration = Duration::from_secs(2);

/// What arrives within this time is told in one line.
const GATHER: Duration = Duration::from_secs(1);

/// Messages that are followed; what is beyond is told by the history only.
const FOLLOWED_MAX: usize = 10_000;

/// A line for the person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Notice {
    /// What was written to them waits.
    Waits { to: PeerName, place: Place },
    /// What had waited has arrived.
    Arrived { to: PeerName, count: u64 },
}

/// Where a message waits, as far as its writer wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// On this disk: there is no way to them.
    Here,
    /// At the directory, because they are offline.
    DirectoryForOffline,
    /// At the directory, and nobody knows why.
    Directory,
}

impl Notice {
    pub(super) fn sentence(&self) -> String {
        match self {
            Self::Waits { to, place: Place::Here } => {
                format!("* {to} cannot be reached now: what you write waits here, and goes as soon as there is a way")
            }
            Self::Waits { to, place: Place::DirectoryForOffline } => {
                format!("* {to} is offline: what you write waits at the directory")
            }
            Self::Waits { to, place: Place::Directory } => {
                format!("* {to} has not got what you wrote yet: it waits at the directory")
            }
            Self::Arrived { to, count: 1 } => format!("* {to} has your message now"),
            Self::Arrived { to, count } => format!("* {to} has {count} of your messages now"),
        }
    }
}

/// How far a message of ours is.
enum Stage {
    /// On this disk; told when it is still there then.
    Queued(Instant),
    /// At the directory; told when it is still there then.
    Stored(Instant),
    /// The person knows that it waits.
    Waits,
}

/// What is known of somebody we write to.
#[derive(Default)]
struct Reader {
    is_offline: bool,
    /// Whether it was told that messages wait.
    was_told: bool,
    arrived: u64,
    /// When to say how many arrived.
    tell_at: Option<Instant>,
}

/// The messages that are under way, and their readers.
#[derive(Default)]
pub(super) struct Notices {
    messages: HashMap<MessageId, (PeerName, Stage)>,
    readers: HashMap<PeerName, Reader>,
}

impl Notices {
    /// Takes an event; what is to be told of it comes at once or from [`Self::due`].
    pub(super) fn notice(&mut self, event: &Event, now: Instant) -> Option<Notice> {
        match event {
            // Whose peer is there gets messages, also while they are away or busy.
            Event::Presence { name, online, .. } => {
                if self.readers.len() < FOLLOWED_MAX || self.readers.contains_key(name) {
                    self.reader(name).is_offline = !online;
                }
                None
            }
            Event::Queued { to, id, what: What::Text } => {
                if self.messages.len() < FOLLOWED_MAX {
                    self.messages.insert(*id, (to.clone(), Stage::Queued(now + SLOW_AFTER)));
                }
                None
            }
            Event::Stored { id, .. } => self.stored(*id, now),
            Event::Delivered { to, id, what: What::Text } => {
                self.delivered(to, *id, now);
                None
            }
            // It may come without the other; what came with the other is followed no longer.
            Event::Read { to, id, .. } if self.messages.contains_key(id) => {
                self.delivered(to, *id, now);
                None
            }
            Event::NotSent { id, .. } => {
                self.messages.remove(id);
                None
            }
            _ => None,
        }
    }

    /// When [`Self::due`] is to be asked next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let slow = self.messages.values().filter_map(|(_, stage)| match stage {
            Stage::Queued(deadline) | Stage::Stored(deadline) => Some(*deadline),
            Stage::Waits => None,
        });
        slow.chain(self.readers.values().filter_map(|reader| reader.tell_at)).min()
    }

    /// What is to be told now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Notice> {
        let mut notices = Vec::new();
        for (to, stage) in self.messages.values_mut() {
            let reader = self.readers.entry(to.clone()).or_default();
            let place = match stage {
                Stage::Queued(deadline) if *deadline <= now => Place::Here,
                Stage::Stored(deadline) if *deadline <= now => reader.place_at_the_directory(),
                Stage::Queued(_) | Stage::Stored(_) | Stage::Waits => continue,
            };
            *stage = Stage::Waits;
            notices.extend(reader.tell_that_it_waits(to, place));
        }
        for (to, reader) in &mut self.readers {
            if reader.tell_at.is_some_and(|time| time <= now) {
                reader.tell_at = None;
                reader.was_told = false;
                notices.push(Notice::Arrived { to: to.clone(), count: std::mem::take(&mut reader.arrived) });
            }
        }
        notices
    }

    fn stored(&mut self, id: MessageId, now: Instant) -> Option<Notice> {
        let (to, stage) = self.messages.get_mut(&id)?;
        let reader = self.readers.entry(to.clone()).or_default();
        match stage {
            Stage::Queued(_) if reader.is_offline => {
                *stage = Stage::Waits;
                reader.tell_that_it_waits(to, Place::DirectoryForOffline)
            }
            Stage::Queued(_) => {
                *stage = Stage::Stored(now + SLOW_AFTER);
                None
            }
            Stage::Stored(_) | Stage::Waits => None,
        }
    }

    fn delivered(&mut self, to: &PeerName, id: MessageId, now: Instant) {
        // One that nobody follows was written in an earlier run: it has waited.
        let has_waited = self.messages.remove(&id).is_none_or(|(_, stage)| matches!(stage, Stage::Waits));
        if has_waited {
            let reader = self.reader(to);
            reader.arrived += 1;
            reader.tell_at = Some(now + GATHER);
        }
    }

    fn reader(&mut self, name: &PeerName) -> &mut Reader {
        self.readers.entry(name.clone()).or_default()
    }
}

impl Reader {
    fn place_at_the_directory(&self) -> Place {
        if self.is_offline { Place::DirectoryForOffline } else { Place::Directory }
    }

    fn tell_that_it_waits(&mut self, name: &PeerName, place: Place) -> Option<Notice> {
        let was_told = std::mem::replace(&mut self.was_told, true);
        (!was_told).then(|| Notice::Waits { to: name.clone(), place })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::people::Presence;

    fn bob() -> PeerName {
        PeerName::parse("bob").unwrap()
    }

    fn id(number: u8) -> MessageId {
        MessageId::from_bytes([number; 16])
    }

    fn queued(number: u8) -> Event {
        Event::Queued { to: bob(), id: id(number), what: What::Text }
    }

    fn stored(number: u8) -> Event {
        Event::Stored { to: bob(), id: id(number), what: What::Text }
    }

    fn delivered(number: u8) -> Event {
        Event::Delivered { to: bob(), id: id(number), what: What::Text }
    }

    fn read(number: u8) -> Event {
        Event::Read { to: bob(), id: id(number), what: What::Text }
    }

    fn presence(presence: Presence) -> Event {
        Event::Presence { name: bob(), online: presence.is_online(), presence, is_news: true }
    }

    fn waits(place: Place) -> Notice {
        Notice::Waits { to: bob(), place }
    }

    fn after(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn who_writes_to_somebody_who_is_there_reads_nothing_of_states() {
        let (mut notices, now) = (Notices::default(), Instant::now());
        for event in [queued(1), stored(1), delivered(1), read(1), queued(2), delivered(2), read(2), queued(3), read(3)]
        {
            assert_eq!(notices.notice(&event, now), None, "{event:?}");
        }
        assert_eq!(notices.deadline(), None);
        assert_eq!(notices.due(after(now, 60_000)), []);
    }

    #[test]
    fn who_writes_to_somebody_who_is_offline_is_told_once_and_once_more_when_it_arrived() {
        let (mut notices, now) = (Notices::default(), Instant::now());
        notices.notice(&presence(Presence::Offline), now);
        notices.notice(&queued(1), now);
        assert_eq!(notices.notice(&stored(1), now), Some(waits(Place::DirectoryForOffline)));
        notices.notice(&queued(2), now);
        assert_eq!(notices.notice(&stored(2), now), None);
        assert_eq!(notices.deadline(), None);

        notices.notice(&presence(Presence::Away), now);
        for event in [delivered(1), delivered(2), read(1), read(2)] {
            assert_eq!(notices.notice(&event, now), None);
        }
        assert_eq!(notices.due(now), []);
        let later = notices.deadline().unwrap();
        assert_eq!(notices.due(later), [Notice::Arrived { to: bob(), count: 2 }]);
        assert_eq!(notices.deadline(), None);
    }

    #[test]
    fn what_takes_long_is_told_as_waiting() {
        let (mut notices, now) = (Notices::default(), Instant::now());
        for number in [1, 2] {
            notices.notice(&queued(number), now);
            notices.notice(&stored(number), after(now, 100));
        }
        assert_eq!(notices.due(after(now, 2_000)), []);
        assert_eq!(notices.due(after(now, 2_100)), [waits(Place::Directory)]);
        notices.notice(&delivered(2), after(now, 9_000));
        assert_eq!(notices.due(after(now, 10_000)), [Notice::Arrived { to: bob(), count: 1 }]);
    }

    #[test]
    fn what_waited_in_the_outbox_or_since_an_earlier_run_is_told_when_it_arrives() {
        let (mut notices, now) = (Notices::default(), Instant::now());
        notices.notice(&queued(1), now);
        notices.notice(&queued(2), now);
        assert_eq!(notices.due(after(now, 2_000)), [waits(Place::Here)]);
        assert_eq!(notices.notice(&stored(1), now), None);
        notices.notice(&delivered(1), now);
        notices.notice(&delivered(7), now);
        assert_eq!(notices.due(after(now, 1_000)), [Notice::Arrived { to: bob(), count: 2 }]);
    }

    #[test]
    fn what_was_refused_is_followed_no_longer() {
        let (mut notices, now) = (Notices::default(), Instant::now());
        notices.notice(&queued(1), now);
        notices.notice(&stored(1), now);
        let failure = crate::peer::failure::Failure::new(crate::peer::failure::FailureKind::Other, "no");
        notices.notice(&Event::NotSent { to: bob(), id: id(1), what: What::Text, failure }, now);
        assert_eq!(notices.due(after(now, 5_000)), []);
    }

    #[test]
    fn sentences_count() {
        let sentence = |count| Notice::Arrived { to: bob(), count }.sentence();
        assert_eq!(sentence(1), "* bob has your message now");
        assert_eq!(sentence(3), "* bob has 3 of your messages now");
    }
}
