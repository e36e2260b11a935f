//! What is done with a transfer that stopped, and whose turn is next. Knows no files and no network: what happened comes in
//! as a [`Trouble`], and time as how long the peer has run.
//!
//! ```text
//!             turn                  whole
//!  waiting ----------> running ----------------> (forgotten)
//!     ^                   |
//!     |<-- time heals it -|-- a person can -----> paused --resume--> waiting
//!     |                   `-- nothing can ------> failed --resume--> waiting
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use crate::wire::ids::TransferId;
use crate::wire::limits::TRANSFERS_AT_ONCE;

/// Before the first new attempt: a program that is started again is back by then.
pub const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// And the longest pause. Whoever comes back is seen before, mostly; this is for those who do not show themselves.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Why a transfer stopped, as far as it matters for what is done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// What time heals: nobody who has it is here, the way to them broke, somebody is at a limit.
    Passing,
    /// What the person at this machine can put right, and nobody else: the disk does not take it.
    Here,
    /// What nobody can put right by waiting: it is not shared any more, or its bytes are not what they were said to be.
    Final,
}

/// Where a transfer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Bytes move, or somebody is dialled.
    Running,
    /// It runs when this time has come and it is its turn.
    Waiting {
        /// When.
        due: Duration,
    },
    /// A person has to say that it goes on.
    Paused,
    /// It has ended without the file.
    Failed,
    /// The program that ran it has ended, and nobody said that another one should go on.
    Interrupted,
}

#[derive(Debug)]
struct Entry {
    standing: Standing,
    /// Whose turn is first of those that are due: the lower number.
    turn: u64,
    /// Attempts in a row that brought nothing.
    failures: u32,
}

/// Where all transfers of a peer stand.
#[derive(Debug, Default)]
pub struct Schedule {
    entries: BTreeMap<TransferId, Entry>,
    last_turn: u64,
}

impl Schedule {
    /// Adds a transfer, or puts one that is there elsewhere; its turn is after all others'.
    pub fn put(&mut self, id: TransferId, standing: Standing) {
        self.last_turn += 1;
        self.entries.insert(id, Entry { standing, turn: self.last_turn, failures: 0 });
    }

    /// Forgets a transfer.
    pub fn remove(&mut self, id: TransferId) {
        self.entries.remove(&id);
    }

    /// Where a transfer stands; `None` when there is no such one.
    #[must_use]
    pub fn standing(&self, id: TransferId) -> Option<Standing> {
        self.entries.get(&id).map(|entry| entry.standing)
    }

    /// Attempts of a transfer in a row that brought nothing.
    #[must_use]
    pub fn failures(&self, id: TransferId) -> u32 {
        self.entries.get(&id).map_or(0, |entry| entry.failures)
    }

    /// Lets the next one run whose time has come, if not too many do.
    pub fn take_turn(&mut self, now: Duration) -> Option<TransferId> {
        if self.running() >= TRANSFERS_AT_ONCE {
            return None;
        }
        let is_due = |entry: &Entry| matches!(entry.standing, Standing::Waiting { due } if due <= now);
        let next = self.entries.iter_mut().filter(|(_, entry)| is_due(entry)).min_by_key(|(_, entry)| entry.turn);
        let (id, entry) = next?;
        entry.standing = Standing::Running;
        Some(*id)
    }

    /// When [`Self::take_turn`] has something to say again, unless something happens before.
    #[must_use]
    pub fn wakes_at(&self) -> Option<Duration> {
        if self.running() >= TRANSFERS_AT_ONCE {
            return None;
        }
        let due = |entry: &Entry| if let Standing::Waiting { due } = entry.standing { Some(due) } else { None };
        self.entries.values().filter_map(due).min()
    }

    /// A running transfer stopped before it was whole: says where it stands now. `has_moved` when it had brought
    /// anything, so that the next pause is a short one again; `spread` is a random number, by which those who wait for the
    /// same person do not come all at once.
    pub fn stopped(
        &mut self,
        id: TransferId,
        trouble: Trouble,
        has_moved: bool,
        spread: u8,
        now: Duration,
    ) -> Option<Standing> {
        let entry = self.entries.get_mut(&id)?;
        if entry.standing != Standing::Running {
            return Some(entry.standing);
        }
        entry.failures = if has_moved { 1 } else { entry.failures.saturating_add(1) };
        entry.standing = match trouble {
            Trouble::Passing => Standing::Waiting { due: now + pause(entry.failures, spread) },
            Trouble::Here => Standing::Paused,
            Trouble::Final => Standing::Failed,
        };
        Some(entry.standing)
    }

    /// A person wants it to go on, or somebody who has it is back: what does not run is due. Says whether that changes
    /// anything.
    pub fn hurry(&mut self, id: TransferId, now: Duration) -> bool {
        self.last_turn += 1;
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        let waits = match entry.standing {
            Standing::Running => return false,
            Standing::Waiting { due } => due > now,
            Standing::Paused | Standing::Failed | Standing::Interrupted => {
                entry.turn = self.last_turn;
                true
            }
        };
        if waits {
            entry.standing = Standing::Waiting { due: now };
            entry.failures = 0;
        }
        waits
    }

    /// How many run.
    fn running(&self) -> usize {
        self.entries.values().filter(|entry| entry.standing == Standing::Running).count()
    }
}

/// The pause after so many attempts in a row that brought nothing: twice as long each time, of which the last fifth is
/// left to chance.
fn pause(failures: u32, spread: u8) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(LONGEST_PAUSE);
    doubled.mul_f64(0.8 + 0.2 * f64::from(spread) / 255.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(100);
    const WAITS: Standing = Standing::Waiting { due: START };

    fn id(number: u8) -> TransferId {
        TransferId::from_bytes([number; 16])
    }

    fn schedule(count: u8) -> Schedule {
        let mut schedule = Schedule::default();
        (0..count).for_each(|number| schedule.put(id(number), WAITS));
        schedule
    }

    #[test]
    fn only_so_many_run_at_a_time_and_the_others_in_their_turn() {
        let mut schedule = schedule(12);
        let begun: Vec<_> = std::iter::from_fn(|| schedule.take_turn(START)).collect();
        assert_eq!(begun, (0..8).map(id).collect::<Vec<_>>());
        assert_eq!(schedule.wakes_at(), None, "whoever ends wakes it");
        schedule.remove(id(3));
        assert_eq!((schedule.take_turn(START), schedule.take_turn(START)), (Some(id(8)), None));
        // Whoever stopped comes after those who have not begun.
        schedule.stopped(id(8), Trouble::Passing, true, 0, START);
        schedule.hurry(id(8), START);
        schedule.put(id(8), WAITS);
        assert_eq!(schedule.take_turn(START), Some(id(9)));
    }

    #[test]
    fn what_time_heals_is_tried_again_ever_later_and_soon_after_something_came() {
        let mut schedule = schedule(1);
        let mut now = START;
        let mut pauses = Vec::new();
        for attempt in 0..9 {
            assert_eq!(schedule.take_turn(now), Some(id(0)), "attempt {attempt}");
            let standing = schedule.stopped(id(0), Trouble::Passing, false, 255, now);
            let Some(Standing::Waiting { due }) = standing else { panic!("{standing:?}") };
            pauses.push((due - now).as_secs());
            assert_eq!((schedule.take_turn(due - Duration::from_millis(1)), schedule.wakes_at()), (None, Some(due)));
            now = due;
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
        schedule.take_turn(now);
        let after_bytes = schedule.stopped(id(0), Trouble::Passing, true, 0, now);
        assert_eq!(after_bytes, Some(Standing::Waiting { due: now + Duration::from_secs(4) }));
    }

    #[test]
    fn whoever_is_back_is_asked_at_once_and_what_is_over_only_when_somebody_says_so() {
        for (trouble, standing) in [(Trouble::Here, Standing::Paused), (Trouble::Final, Standing::Failed)] {
            let mut schedule = schedule(1);
            schedule.take_turn(START);
            assert!(!schedule.hurry(id(0), START), "it runs");
            assert_eq!(schedule.stopped(id(0), trouble, false, 0, START), Some(standing));
            assert_eq!((schedule.take_turn(START * 100), schedule.wakes_at()), (None, None));
            assert!(schedule.hurry(id(0), START));
            assert_eq!((schedule.take_turn(START), schedule.failures(id(0))), (Some(id(0)), 0));
        }
        let mut schedule = schedule(1);
        schedule.take_turn(START);
        schedule.stopped(id(0), Trouble::Passing, false, 0, START);
        assert!(schedule.hurry(id(0), START));
        assert_eq!(schedule.take_turn(START), Some(id(0)));
    }

    #[test]
    fn what_was_put_elsewhere_while_it_ran_stays_there() {
        let mut schedule = schedule(1);
        schedule.take_turn(START);
        schedule.put(id(0), Standing::Paused);
        let standing = schedule.stopped(id(0), Trouble::Passing, true, 0, START);
        assert_eq!(standing, Some(Standing::Paused), "a pause is not undone by the end of what was paused");
        assert_eq!(schedule.stopped(id(7), Trouble::Passing, true, 0, START), None);
    }

    /// Anything in any order: never too many at once, nothing runs that nobody wants, and nobody waits for ever.
    #[test]
    fn whatever_happens_the_rules_hold() {
        let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
        let mut throw = |sides: u64| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) % sides
        };
        for _ in 0..500 {
            let mut schedule = Schedule::default();
            let mut now = START;
            for _ in 0..200 {
                let one = id(u8::try_from(throw(20)).unwrap());
                let before = schedule.standing(one);
                match throw(8) {
                    0 => schedule.put(one, Standing::Waiting { due: now }),
                    1 => schedule.put(one, Standing::Paused),
                    2 => schedule.remove(one),
                    3 => drop(schedule.hurry(one, now)),
                    4 | 5 => {
                        let trouble =
                            [Trouble::Passing, Trouble::Here, Trouble::Final][usize::try_from(throw(3)).unwrap()];
                        let spread = u8::try_from(throw(256)).unwrap();
                        let after = schedule.stopped(one, trouble, throw(2) == 0, spread, now);
                        if before != Some(Standing::Running) {
                            assert_eq!(after, before, "only what runs can stop");
                        } else if let Some(Standing::Waiting { due }) = after {
                            assert!((FIRST_PAUSE * 4 / 5..=LONGEST_PAUSE).contains(&(due - now)));
                        }
                    }
                    6 => now += Duration::from_secs(throw(400)),
                    _ => {
                        if let Some(begun) = schedule.take_turn(now) {
                            assert_eq!(schedule.standing(begun), Some(Standing::Running));
                        }
                    }
                }
                assert!(schedule.running() <= TRANSFERS_AT_ONCE);
                if before == Some(Standing::Paused) && schedule.standing(one) == Some(Standing::Running) {
                    panic!("a paused transfer runs without having been resumed");
                }
            }
            // Time alone lets everyone have a turn who waits.
            let waiting = |schedule: &Schedule| {
                schedule.entries.values().filter(|entry| matches!(entry.standing, Standing::Waiting { .. })).count()
            };
            now += LONGEST_PAUSE;
            while waiting(&schedule) > 0 {
                match schedule.take_turn(now) {
                    Some(begun) => schedule.remove(begun),
                    None => {
                        let runs = schedule.entries.iter().find(|(_, entry)| entry.standing == Standing::Running);
                        let one = *runs.expect("somebody runs, or else a turn is free").0;
                        schedule.remove(one);
                    }
                }
            }
        }
    }
}
