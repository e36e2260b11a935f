//! Every group comes, whatever becomes of the lanes; and how long that takes with sources of different speed.

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
        assert!(pull.is_owed(lane, group));
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
    assert!(!pull.is_owed(first, 3));
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
    assert!(pull.begin_lane(0, 7, now).is_none() && !pull.is_owed(liar, lied.first));
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
    assert!(!pull.is_owed(relayed, rest.first), "its stream goes on with what is asked for elsewhere");
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
}

/// A lane of the simulation: the runs it was given, and when its next group comes.
struct Carrier {
    lane: LaneNumber,
    source: SourceNumber,
    per_group: Duration,
    runs: Vec<Run>,
    due: Option<Duration>,
}

impl Carrier {
    fn begin(pull: &mut Pull, source: SourceNumber, per_group: Duration, now: Duration) -> Option<Self> {
        let lane = pull.begin_lane(source, source, now)?;
        Some(Self { lane, source, per_group, runs: Vec::new(), due: None })
    }

    /// Asks ahead, as the peer does, so that nothing is idle between two runs.
    fn ask(&mut self, pull: &mut Pull, now: Duration) -> bool {
        while self.runs.len() < 2 {
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

    /// Brings its next group; groups that are asked for elsewhere by now are left out.
    fn step(&mut self, pull: &mut Pull, now: Duration) -> u64 {
        self.due = None;
        let Some(run) = self.runs.first_mut() else { return 0 };
        let group = run.first;
        (run.first, run.count) = (run.first + 1, run.count - 1);
        let was_missing = pull.arrived(self.lane, group, now);
        while let Some(run) = self.runs.first() {
            if run.count > 0 && pull.is_owed(self.lane, run.first) {
                break;
            }
            self.runs.remove(0);
        }
        u64::from(!was_missing)
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
            twice += carrier.step(&mut pull, now);
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
    let (mut steps, mut twice) = (0, 0);
    while pull.missing() > 0 {
        steps += 1;
        assert!(steps < 20_000, "seed {seed}: {} groups never come", pull.missing());
        now += MILLI * u32::try_from(dice.below(50)).unwrap();
        match dice.below(40) {
            0..3 if carriers.len() < 6 => {
                let (source, time) = (usize::try_from(dice.below(5)).unwrap(), MILLI);
                let begun = Carrier::begin(&mut pull, source, time, now);
                assert_eq!(begun.is_none(), liars.contains(&source), "seed {seed}");
                carriers.extend(begun);
            }
            3 if !carriers.is_empty() => {
                let gone = carriers.swap_remove(usize::try_from(dice.below(carriers.len() as u64)).unwrap());
                pull.end_lane(gone.lane);
            }
            4 => pull.prefer_link(usize::try_from(dice.below(5)).unwrap(), usize::try_from(dice.below(5)).unwrap()),
            // The last source never lies.
            5 if liars.len() < 3 => {
                let liar = usize::try_from(dice.below(4)).unwrap();
                liars.insert(liar);
                pull.drop_source(liar);
                carriers.retain(|carrier| carrier.source != liar);
            }
            6 => pull.await_sources(false),
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
            // Some are slow, and may be superseded while a group is on its way.
            if dice.below(3) == 0 {
                twice += carrier.step(&mut pull, now);
            }
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
