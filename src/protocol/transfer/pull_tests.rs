//! Every group comes, whatever becomes of the lanes; and how long that takes with sources of different speed.

use std::collections::VecDeque;

use super::*;

const MILLI: Duration = Duration::from_millis(1);

fn pull(groups: u64) -> Pull {
    Pull::new(Groups::none_of(groups), false)
}

#[track_caller]
fn asked(next: Next) -> Run {
    match next {
        Next::Ask(run) => run,
        other => panic!("{other:?} instead of a run"),
    }
}

/// Brings the first so many groups of a run, one each millisecond.
fn bring(pull: &mut Pull, lane: LaneNumber, run: Run, count: u64, now: &mut Duration) {
    for group in run.first..run.first + count {
        *now += MILLI;
        assert!(pull.is_wanted(lane, group..run.first + run.count));
        assert!(pull.arrived(lane, group, *now));
    }
}

#[test]
fn a_lane_that_is_alone_is_asked_for_everything_at_once_and_then_leaves() {
    let (mut pull, mut now) = (pull(100_000), Duration::ZERO);
    let lane = pull.begin_lane(0, 0, now).unwrap();
    let run = asked(pull.next_run(lane, now));
    assert_eq!(run, Run { first: 0, count: 100_000 });
    assert_eq!(pull.next_run(lane, now), Next::Wait);
    bring(&mut pull, lane, run, run.count, &mut now);
    assert_eq!((pull.missing(), pull.next_run(lane, now)), (0, Next::Leave));
}

#[test]
fn while_others_may_come_nobody_is_asked_for_everything() {
    let mut now = Duration::ZERO;
    let mut pull = Pull::new(Groups::none_of(100_000), true);
    let lane = pull.begin_lane(0, 0, now).unwrap();
    let run = asked(pull.next_run(lane, now));
    assert_eq!(run, Run { first: 0, count: FIRST_RUN_GROUPS });
    bring(&mut pull, lane, run, run.count, &mut now);
    // A thousand in a second, of which it is trusted with some.
    let second = asked(pull.next_run(lane, now));
    assert_eq!(second, Run { first: 4, count: RUN_GROUPS_MAX });
    pull.await_sources(false);
    assert_eq!(asked(pull.next_run(lane, now)).count, 100_000 - 4 - RUN_GROUPS_MAX);
}

#[test]
fn what_a_lane_owes_when_it_ends_is_asked_for_elsewhere() {
    let (mut pull, mut now) = (pull(10), Duration::ZERO);
    let first = pull.begin_lane(0, 0, now).unwrap();
    let run = asked(pull.next_run(first, now));
    bring(&mut pull, first, run, 3, &mut now);
    pull.end_lane(first);
    assert!(!pull.is_wanted(first, 3..10));
    let second = pull.begin_lane(1, 1, now).unwrap();
    assert_eq!(asked(pull.next_run(second, now)), Run { first: 3, count: 7 });
}

#[test]
fn a_dropped_source_is_never_asked_again() {
    let (mut pull, now) = (pull(10), Duration::ZERO);
    let (liar, honest) = (pull.begin_lane(0, 0, now).unwrap(), pull.begin_lane(1, 1, now).unwrap());
    let lied = asked(pull.next_run(liar, now));
    pull.drop_source(0);
    assert_eq!(pull.next_run(liar, now), Next::Leave);
    assert!(pull.begin_lane(0, 7, now).is_none() && !pull.is_wanted(liar, lied.groups()));
    assert_eq!(asked(pull.next_run(honest, now)).first, lied.first);
}

#[test]
fn a_lane_over_a_worse_link_brings_what_is_on_its_way_and_leaves_when_the_better_one_works() {
    let (mut pull, mut now) = (pull(1_000), Duration::ZERO);
    let relayed = pull.begin_lane(0, 0, now).unwrap();
    let run = asked(pull.next_run(relayed, now));
    bring(&mut pull, relayed, run, 10, &mut now);
    pull.prefer_link(0, 1);
    let direct = pull.begin_lane(0, 1, now).unwrap();
    let rest = asked(pull.next_run(direct, now));
    assert_eq!(rest, Run { first: 10 + LEAVING_GROUPS_MAX, count: 990 - LEAVING_GROUPS_MAX });
    bring(&mut pull, relayed, Run { first: 10, count: LEAVING_GROUPS_MAX }, LEAVING_GROUPS_MAX, &mut now);
    assert!(!pull.is_wanted(relayed, rest.groups()), "its stream goes on with what is asked for elsewhere");
    now += 100 * MILLI;
    // The better link has brought nothing yet: the worse one is of use.
    let more = asked(pull.next_run(relayed, now));
    assert_eq!(more.first + more.count, 1_000);
    bring(&mut pull, direct, rest, PROVEN_GROUPS, &mut now);
    assert_eq!(pull.next_run(relayed, now), Next::Leave);
}

#[test]
fn the_last_group_of_a_silent_source_is_asked_for_twice_and_no_more() {
    let (mut pull, mut now) = (pull(6), Duration::ZERO);
    let lanes: Vec<_> = (0..4).map(|source| pull.begin_lane(source, source, now).unwrap()).collect();
    let owed = asked(pull.next_run(lanes[0], now));
    assert_eq!(owed, Run { first: 0, count: 4 });
    let other = asked(pull.next_run(lanes[1], now));
    bring(&mut pull, lanes[1], other, 2, &mut now);
    // The others bring all that it owes but the group that is on its way; that one is asked for once more.
    let mut copy = None;
    for _ in 0..6 {
        now += 500 * MILLI;
        for lane in &lanes[1..] {
            match pull.next_run(*lane, now) {
                Next::Ask(Run { first: 0, count: 1 }) => assert!(copy.replace(*lane).is_none(), "a third copy"),
                Next::Ask(run) => bring(&mut pull, *lane, run, run.count, &mut now),
                Next::Wait => {}
                Next::Leave => panic!("there is something to do"),
            }
        }
    }
    assert_eq!((pull.missing(), pull.owed(lanes[0])), (1, 1));
    assert!(pull.arrived(copy.unwrap(), 0, now), "the faster one brings it");
    assert!(!pull.arrived(lanes[0], 0, now), "and the slower one once more");
}

#[test]
fn what_changes_hands_while_it_waits_to_be_written_holds_up_nothing_after_it() {
    let (mut pull, mut now) = (pull(23), Duration::ZERO);
    let relayed = pull.begin_lane(0, 0, now).unwrap();
    let run = asked(pull.next_run(relayed, now));
    now += MILLI;
    pull.prefer_link(0, 1);
    let direct = pull.begin_lane(0, 1, now).unwrap();
    let tail = asked(pull.next_run(direct, now));
    // It had been read over the relay.
    (run.first..=tail.first).for_each(|group| assert!(pull.arrived(relayed, group, now)));
    assert!(pull.is_wanted(direct, tail.groups()), "the groups after it come with it");
    assert!(!pull.arrived(direct, tail.first, now));
    assert!(pull.arrived(direct, tail.first + 1, now));
    // Where nothing comes after it, nothing is owed, and the lane can help others.
    (tail.first + 2..23).for_each(|group| assert!(pull.arrived(relayed, group, now)));
    assert!(!pull.is_wanted(direct, tail.first + 2..23));
    assert_eq!((pull.owed(direct), pull.missing()), (0, 0));
}

#[test]
fn streams_are_added_on_a_long_path_while_each_is_held_up_by_its_window() {
    let check = |round_trip: Duration, per_group: Duration, expected: usize| {
        let (mut pull, mut now) = (pull(100_000), Duration::ZERO);
        let mut streams = Vec::new();
        loop {
            let lane = pull.begin_lane(0, 0, now).unwrap();
            streams.push((lane, asked(pull.next_run(lane, now)).first));
            for _ in 0..20 {
                now += per_group;
                for (lane, next) in &mut streams {
                    pull.arrived(*lane, *next, now);
                    *next += 1;
                }
            }
            if !pull.wants_another_stream(0, round_trip, now) {
                break assert_eq!(streams.len(), expected, "{round_trip:?}, a group in {per_group:?}");
            }
        }
    };
    // 2 MiB in 50 ms are a group in 6.25 ms.
    check(50 * MILLI, Duration::from_micros(6_250), 4);
    // In twice that time where one packet in a hundred is lost, whatever the way could carry.
    check(50 * MILLI, Duration::from_micros(12_900), 4);
    check(50 * MILLI, 20 * MILLI, 1);
    check(5 * MILLI, Duration::from_micros(625), 1);
    check(MILLI, Duration::from_micros(10), 1);
}

/// Numbers that look random and are the same in every run (xorshift64*, Vigna 2016).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }

    fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).unwrap()
    }
}

/// A lane of the simulation: what is left of the runs it was given, what has come of them and is not written yet, and when its
/// next group comes.
struct Carrier {
    lane: LaneNumber,
    source: SourceNumber,
    per_group: Duration,
    runs: Vec<Run>,
    unwritten: VecDeque<u64>,
    due: Option<Duration>,
}

impl Carrier {
    fn begin(pull: &mut Pull, source: SourceNumber, per_group: Duration, now: Duration) -> Option<Self> {
        Self::begin_over(pull, source, source, per_group, now)
    }

    fn begin_over(
        pull: &mut Pull,
        source: SourceNumber,
        link: LinkNumber,
        per_group: Duration,
        now: Duration,
    ) -> Option<Self> {
        let lane = pull.begin_lane(source, link, now)?;
        Some(Self { lane, source, per_group, runs: Vec::new(), unwritten: VecDeque::new(), due: None })
    }

    /// Asks ahead, as the peer does, so that nothing is idle between two runs; without a run, when all that came is written.
    fn ask(&mut self, pull: &mut Pull, now: Duration) -> bool {
        while self.runs.len() < 2 && (self.unwritten.is_empty() || !self.runs.is_empty()) {
            match pull.next_run(self.lane, now) {
                Next::Ask(run) => self.runs.push(run),
                Next::Wait => break,
                Next::Leave => return false,
            }
        }
        if self.due.is_none() && !self.runs.is_empty() {
            self.due = Some(now + self.per_group);
        }
        true
    }

    /// Reads its next group.
    fn read(&mut self) {
        self.due = None;
        if let Some(run) = self.runs.first_mut() {
            self.unwritten.push_back(run.first);
            (run.first, run.count) = (run.first + 1, run.count - 1);
        }
    }

    /// Leaves runs of which nothing more is wanted from here.
    fn leave(&mut self, pull: &mut Pull) {
        while self.runs.first().is_some_and(|run| run.count == 0 || !pull.is_wanted(self.lane, run.groups())) {
            self.runs.remove(0);
        }
    }

    /// Writes what it has read first. Says how many of these groups had been there already.
    fn write(&mut self, pull: &mut Pull, now: Duration) -> u64 {
        self.unwritten.pop_front().map_or(0, |group| u64::from(!pull.arrived(self.lane, group, now)))
    }
}

/// Pulls a file from sources that take so long for a group each. Gives how long that took, and how many groups came twice.
fn simulate(groups: u64, sources: &[Duration]) -> (Duration, u64) {
    let (mut pull, mut now, mut twice) = (pull(groups), Duration::ZERO, 0);
    let mut carriers: Vec<_> =
        sources.iter().enumerate().map(|(n, time)| Carrier::begin(&mut pull, n, *time, now).unwrap()).collect();
    while pull.missing() > 0 {
        for carrier in &mut carriers {
            assert!(carrier.ask(&mut pull, now), "nobody leaves before everything is here");
        }
        let next = carriers.iter().filter_map(|carrier| carrier.due).min().unwrap();
        // An idle lane asks again soon.
        now = next.min(now + 50 * MILLI);
        for carrier in carriers.iter_mut().filter(|carrier| carrier.due == Some(now)) {
            carrier.read();
            twice += carrier.write(&mut pull, now);
            carrier.leave(&mut pull);
        }
    }
    (now, twice)
}

#[track_caller]
fn check_simulation(groups: u64, sources: &[u64], percent_over_ideal: u64) {
    let sources: Vec<_> = sources.iter().map(|millis| MILLI * u32::try_from(*millis).unwrap()).collect();
    let rate: f64 = sources.iter().map(|time| 1.0 / time.as_secs_f64()).sum();
    let ideal = Duration::from_secs_f64(f64::from(u32::try_from(groups).unwrap()) / rate);
    let (took, twice) = simulate(groups, &sources);
    assert!(took <= ideal + ideal * u32::try_from(percent_over_ideal).unwrap() / 100, "{took:?} instead of {ideal:?}");
    assert!(twice <= sources.len() as u64, "{twice} groups came twice");
}

#[test]
fn four_equal_sources_take_a_quarter_of_the_time() {
    // A group each 84 ms is 25 Mbit/s.
    check_simulation(400, &[84; 4], 3);
    check_simulation(4_000, &[84; 4], 1);
    check_simulation(4_000, &[3; 4], 3);
}

#[test]
fn a_slow_source_costs_little_and_the_last_group_is_not_waited_for() {
    check_simulation(1_000, &[84, 84, 84, 840], 4);
    check_simulation(1_000, &[84, 84, 84, 20_000], 4);
    check_simulation(1_000, &[10, 30, 100, 300], 6);
    check_simulation(64, &[10, 5_000], 20);
}

/// Lanes begin, end, are superseded and lie, as the dice say.
fn survive(seed: u64) {
    let mut dice = Dice(seed | 1);
    let groups = dice.below(300);
    let mut here = Groups::none_of(groups);
    (0..groups / 3).for_each(|_| here.mark(dice.below(groups)));
    let (mut pull, mut now) = (Pull::new(here, dice.below(2) == 0), Duration::ZERO);
    let mut carriers: Vec<Carrier> = Vec::new();
    let mut liars = BTreeSet::new();
    let (mut steps, mut twice, eventful, disk) = (0, 0, 1 + dice.below(300), 1 + dice.below(4));
    while pull.missing() > 0 {
        steps += 1;
        assert!(steps < 20_000, "seed {seed}: {} groups never come", pull.missing());
        now += MILLI * u32::try_from(dice.below(50)).unwrap();
        let event = if steps < eventful { dice.below(40) } else { 40 };
        match event {
            0..3 if carriers.len() < 6 => {
                let (source, time) = (dice.index(5), MILLI);
                let begun = Carrier::begin_over(&mut pull, source, source + 5 * dice.index(2), time, now);
                assert_eq!(begun.is_none(), liars.contains(&source), "seed {seed}");
                carriers.extend(begun);
            }
            3 if !carriers.is_empty() => {
                let gone = carriers.swap_remove(dice.index(carriers.len()));
                pull.end_lane(gone.lane);
            }
            4 => {
                let source = dice.index(5);
                pull.prefer_link(source, source + 5 * dice.index(2));
            }
            // The last source never lies.
            5 if liars.len() < 3 => {
                let liar = dice.index(4);
                liars.insert(liar);
                pull.drop_source(liar);
                carriers.retain(|carrier| carrier.source != liar);
            }
            6 => pull.await_sources(false),
            // Then one is alone, and nobody sets free what it keeps to itself.
            40 if carriers.is_empty() => carriers.extend(Carrier::begin(&mut pull, 4, MILLI, now)),
            40 => carriers.drain(1..).for_each(|gone| pull.end_lane(gone.lane)),
            _ => {}
        }
        carriers.retain_mut(|carrier| {
            let stays = carrier.ask(&mut pull, now);
            if !stays {
                pull.end_lane(carrier.lane);
            }
            stays
        });
        for carrier in &mut carriers {
            // Some are slow, and may be superseded while a group is on its way, or waits until it is written.
            if carrier.unwritten.len() < 4 && dice.below(3) == 0 {
                carrier.read();
            }
            if dice.below(disk) == 0 {
                twice += carrier.write(&mut pull, now);
            }
            carrier.leave(&mut pull);
        }
        let owed_too_often = (0..groups).find(|group| pull.copies(*group) > COPIES_MAX);
        assert_eq!(owed_too_often, None, "seed {seed}");
        let lost =
            (0..groups).find(|group| pull.taken.is_here(*group) != (pull.is_here(*group) || pull.copies(*group) > 0));
        assert_eq!(lost, None, "seed {seed}: it is asked for, and nobody owes it");
    }
    assert!(twice <= groups, "seed {seed}: {twice} of {groups} groups came twice");
}

#[test]
fn every_group_comes_whatever_becomes_of_the_lanes() {
    (0..300).for_each(survive);
}
