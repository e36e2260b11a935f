//! Decides which groups of a file are asked for over which lane, so that all of them end at the same time, however fast
//! each is, and whichever of them fails. Knows no clock, no link and no byte.
//!
//! ```text
//! missing --next_run--> owed by a lane --arrived--> here
//!    ^                      |  `--next_run of an idle lane: its tail changes hands, its last group is asked for twice
//!    `------ended-----------'
//! ```
//! A lane is one stream after another over one link to one source. A run is about a second of what its lane carries, so
//! the slowest gets least; a lane that is alone gets everything at once. What a lane owes when it ends is missing again.
//! A lane whose link has been superseded by a better one leaves: it brings what was on its way, and is asked for more only
//! until the better one has shown that it works.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use super::groups::Groups;
use super::speed::Speed;

/// A run is what its lane carries in this time: the request costs nothing then, and no source is waited for much longer.
const RUN_TIME: Duration = Duration::from_secs(1);

/// And no more than 64 MiB, so that a fast source leaves something for those that come later.
const RUN_GROUPS_MAX: u64 = 256;

/// The first run of a lane that has carried nothing yet: 1 MiB.
const FIRST_RUN_GROUPS: u64 = 4;

/// What a leaving lane goes on with is what it carries in this time: a cold link beside it needs seven round trips for its
/// first group, and shares the narrowest place with it.
const LEAVING_TIME: Duration = Duration::from_secs(1);
/// And no more than 4 MiB: most of that is on its way already.
const LEAVING_GROUPS_MAX: u64 = 16;

/// A lane has shown that it works when it has brought this many groups.
const PROVEN_GROUPS: u64 = 2;

/// Lanes that one group is asked for over at a time.
const COPIES_MAX: usize = 2;

/// Streams over one link on a long path, where the window of one is used up before the first byte is acknowledged.
const STREAMS_PER_LINK_MAX: usize = 4;

/// On a shorter path one stream is enough at any speed that two processors reach.
const LONG_ROUND_TRIP: Duration = Duration::from_millis(10);

/// What one stream may have on its way, in groups: its window of 2 MiB.
const WINDOW_GROUPS: u32 = 8;

/// Which source, by its place in the list of sources.
pub type SourceNumber = usize;

/// Which link; no two links of a transfer have the same number.
pub type LinkNumber = usize;

/// Which lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneNumber(u64);

/// Groups that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The first of them.
    pub first: u64,
    /// How many.
    pub count: u64,
}

impl Run {
    fn of(groups: Range<u64>) -> Self {
        Self { first: groups.start, count: groups.end.saturating_sub(groups.start) }
    }

    fn end(&self) -> u64 {
        self.first + self.count
    }

    /// Their numbers.
    pub fn groups(self) -> Range<u64> {
        self.first..self.end()
    }

    fn within(&self, groups: &Range<u64>) -> Range<u64> {
        self.first.max(groups.start)..self.end().min(groups.end)
    }

    /// What is before these groups, and what is after them.
    fn without(&self, groups: &Range<u64>) -> [Self; 2] {
        let (before, after) = (self.first..self.end().min(groups.start), self.first.max(groups.end)..self.end());
        [Self::of(before), Self::of(after)]
    }
}

/// What a lane is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Ask for these groups.
    Ask(Run),
    /// Nothing now; ask again soon.
    Wait,
    /// Nothing any more: the lane may end.
    Leave,
}

/// Whether a lane is to carry what it can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Stays,
    /// There is a better link to the same source.
    Leaves,
}

#[derive(Debug)]
struct Lane {
    source: SourceNumber,
    link: LinkNumber,
    standing: Standing,
    /// What was asked for and has not come, in that order.
    owed: Vec<Run>,
    /// Groups that came.
    brought: u64,
    speed: Speed,
}

impl Lane {
    fn owed_groups(&self) -> u64 {
        self.owed.iter().map(|run| run.count).sum()
    }

    fn owes(&self, group: u64) -> bool {
        self.owed.iter().any(|run| run.groups().contains(&group))
    }

    /// When everything it owes will be here, from now on.
    fn ends_in(&self, now: Duration) -> Duration {
        let after_the_first = u32::try_from(self.owed_groups().saturating_sub(1)).unwrap_or(u32::MAX);
        self.speed.rest_of_group(now).saturating_add(self.speed.per_group(now).saturating_mul(after_the_first))
    }

    /// Takes groups from the end of what it owes.
    fn give_up_tail(&mut self, count: u64) -> Option<Run> {
        let last = self.owed.iter_mut().rev().find(|run| run.count > 0)?;
        let count = count.min(last.count);
        last.count -= count;
        Some(Run { first: last.end(), count })
    }
}

/// One file that is being pulled.
#[derive(Debug)]
pub struct Pull {
    here: Groups,
    /// Here, or owed by a lane.
    taken: Groups,
    lanes: BTreeMap<LaneNumber, Lane>,
    lanes_begun: u64,
    dropped: BTreeSet<SourceNumber>,
    awaits_sources: bool,
}

impl Pull {
    /// A file of which these groups are here. While other sources may come, nobody is asked for all of it.
    #[must_use]
    pub fn new(here: Groups, awaits_sources: bool) -> Self {
        Self {
            taken: here.clone(),
            here,
            lanes: BTreeMap::new(),
            lanes_begun: 0,
            dropped: BTreeSet::new(),
            awaits_sources,
        }
    }

    /// Whether other sources may come yet.
    pub fn await_sources(&mut self, awaits: bool) {
        self.awaits_sources = awaits;
    }

    /// How many groups are missing.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.here.missing()
    }

    /// Whether a group is here.
    #[must_use]
    pub fn is_here(&self, group: u64) -> bool {
        self.here.is_here(group)
    }

    /// Begins a lane over a link to a source; to one that was dropped there is none.
    pub fn begin_lane(&mut self, source: SourceNumber, link: LinkNumber, now: Duration) -> Option<LaneNumber> {
        if self.dropped.contains(&source) {
            return None;
        }
        self.lanes_begun += 1;
        let number = LaneNumber(self.lanes_begun);
        let (standing, speed) = (Standing::Stays, Speed::begin(now));
        self.lanes.insert(number, Lane { source, link, standing, owed: Vec::new(), brought: 0, speed });
        Some(number)
    }

    /// The lane ends: what it owes is missing again.
    pub fn end_lane(&mut self, lane: LaneNumber) {
        let Some(ended) = self.lanes.remove(&lane) else { return };
        ended.owed.into_iter().flat_map(Run::groups).for_each(|group| self.release(group));
    }

    /// A source has given a wrong group: it is asked for nothing any more.
    pub fn drop_source(&mut self, source: SourceNumber) {
        self.dropped.insert(source);
        let its: Vec<_> = self.lanes.iter().filter(|(_, lane)| lane.source == source).map(|(lane, _)| *lane).collect();
        its.into_iter().for_each(|lane| self.end_lane(lane));
    }

    /// The best link to a source is this one: lanes over others leave.
    pub fn prefer_link(&mut self, source: SourceNumber, link: LinkNumber) {
        for lane in self.lanes.values_mut().filter(|lane| lane.source == source) {
            lane.standing = if lane.link == link { Standing::Stays } else { Standing::Leaves };
        }
    }

    /// How many lanes go over a link.
    #[must_use]
    pub fn lanes_over(&self, link: LinkNumber) -> usize {
        self.lanes.values().filter(|lane| lane.link == link).count()
    }

    /// Whether one stream more over a link would carry more: every one there is held up by its window.
    #[must_use]
    pub fn wants_another_stream(&self, link: LinkNumber, round_trip: Duration, now: Duration) -> bool {
        // A third of a window in each round trip: where packets are lost, each window waits for one of them for a round trip
        // or two, and nothing else slows it down.
        let held_up = (round_trip / WINDOW_GROUPS).saturating_mul(3);
        let mut lanes = self.lanes.values().filter(|lane| lane.link == link).peekable();
        round_trip >= LONG_ROUND_TRIP
            && (1..STREAMS_PER_LINK_MAX).contains(&self.lanes_over(link))
            && lanes.peek().is_some()
            && lanes.all(|lane| lane.speed.is_measured() && lane.speed.per_group(now) <= held_up)
    }

    /// What a lane asks for next. It may ask before it has everything that it asked for before.
    pub fn next_run(&mut self, lane: LaneNumber, now: Duration) -> Next {
        let Some(asker) = self.lanes.get(&lane) else { return Next::Leave };
        if self.here.missing() == 0 || (asker.standing == Standing::Leaves && self.has_successor(asker)) {
            return Next::Leave;
        }
        let run = self.free_run(lane, now).or_else(|| self.run_of_another(lane, now));
        let (Some(run), Some(asker)) = (run, self.lanes.get_mut(&lane)) else { return Next::Wait };
        asker.speed.ask(now);
        asker.owed.retain(|run| run.count > 0);
        asker.owed.push(run);
        run.groups().for_each(|group| self.taken.mark(group));
        Next::Ask(run)
    }

    /// Whether a stream of a lane is to bring more of a run, of which these groups are left: they may have come from elsewhere,
    /// or be asked for there. When it is not, the lane owes none of them any more.
    pub fn is_wanted(&mut self, lane: LaneNumber, rest: Range<u64>) -> bool {
        let Some(lane) = self.lanes.get_mut(&lane) else { return false };
        if lane.owed.iter().any(|run| run.within(&rest).any(|group| !self.here.is_here(group))) {
            return true;
        }
        lane.owed = lane.owed.iter().flat_map(|run| run.without(&rest)).filter(|run| run.count > 0).collect();
        false
    }

    /// Groups that a lane still owes.
    #[must_use]
    pub fn owed(&self, lane: LaneNumber) -> u64 {
        self.lanes.get(&lane).map_or(0, Lane::owed_groups)
    }

    /// How many groups a lane carries within a time, as far as is known.
    #[must_use]
    pub fn carries_in(&self, lane: LaneNumber, time: Duration, now: Duration) -> Option<u64> {
        let lane = self.lanes.get(&lane).filter(|lane| lane.speed.is_known())?;
        Some(lane.speed.groups_in(time, now))
    }

    /// A group came over a lane and was right. Says whether it was missing.
    pub fn arrived(&mut self, lane: LaneNumber, group: u64, now: Duration) -> bool {
        if let Some(lane) = self.lanes.get_mut(&lane) {
            let mut passed = Vec::new();
            for run in lane.owed.iter_mut().filter(|run| run.groups().contains(&group)) {
                // Groups come in order: what is before this one in its run will not come.
                passed.push(run.first..group);
                (run.first, run.count) = (group + 1, run.end() - (group + 1));
            }
            lane.owed.retain(|run| run.count > 0);
            lane.brought += 1;
            lane.speed.arrive(now, lane.owed.is_empty());
            passed.into_iter().flatten().for_each(|group| self.release(group));
        }
        let was_missing = !self.here.is_here(group);
        self.here.mark(group);
        self.taken.mark(group);
        was_missing
    }

    /// Whether another lane of the same source has shown that it works.
    fn has_successor(&self, leaving: &Lane) -> bool {
        self.lanes.values().any(|lane| {
            lane.source == leaving.source && lane.standing == Standing::Stays && lane.brought >= PROVEN_GROUPS
        })
    }

    fn copies(&self, group: u64) -> usize {
        self.lanes.values().filter(|lane| lane.owes(group)).count()
    }

    /// A group that a lane owed is missing again, unless another one owes it too.
    fn release(&mut self, group: u64) {
        if !self.here.is_here(group) && self.copies(group) == 0 {
            self.taken.unmark(group);
        }
    }

    /// Groups that nobody owes.
    fn free_run(&self, lane: LaneNumber, now: Duration) -> Option<Run> {
        let (first, count) = self.taken.next_missing_run()?;
        Some(Run { first, count: count.min(self.fair_share(lane, now)) })
    }

    /// About a second's worth, and towards the end what lets all lanes end at the same time.
    fn fair_share(&self, lane: LaneNumber, now: Duration) -> u64 {
        if self.lanes.len() == 1 && !self.awaits_sources {
            return u64::MAX;
        }
        let Some(asker) = self.lanes.get(&lane).filter(|lane| lane.speed.is_known()) else { return FIRST_RUN_GROUPS };
        let second = asker.speed.groups_in(RUN_TIME, now).min(RUN_GROUPS_MAX);
        let together: u64 =
            self.lanes.values().map(|lane| lane.speed.groups_in(RUN_TIME, now)).fold(0, u64::saturating_add);
        let left = u128::from(self.taken.missing());
        let share = left * u128::from(asker.speed.groups_in(RUN_TIME, now)) / u128::from(together.max(1));
        second.min(u64::try_from(share).unwrap_or(u64::MAX)).max(1)
    }

    /// When nothing is free: a part of what the lane owes that would end last, or a copy of its last group.
    fn run_of_another(&mut self, lane: LaneNumber, now: Duration) -> Option<Run> {
        let asker = self.lanes.get(&lane)?;
        if asker.owed_groups() > 0 {
            return None;
        }
        let may_help = |other: &Lane| self.help(asker, other, now).is_some();
        let slowest = self.lanes.iter().filter(|(number, other)| **number != lane && may_help(other));
        let (victim, help) = slowest
            .max_by_key(|(_, other)| (self.leaves_to(other, asker), other.ends_in(now)))
            .and_then(|(number, other)| Some((*number, self.help(asker, other, now)?)))?;
        match help {
            Help::Tail(count) => self.lanes.get_mut(&victim)?.give_up_tail(count),
            Help::Copy(group) => Some(Run { first: group, count: 1 }),
        }
    }

    /// Whether a lane makes room for another one, of the same source over a better link.
    fn leaves_to(&self, leaving: &Lane, other: &Lane) -> bool {
        leaving.source == other.source && leaving.standing == Standing::Leaves && other.standing == Standing::Stays
    }

    /// What an idle lane may take of what another one owes, so that it is here earlier.
    fn help(&self, idle: &Lane, other: &Lane, now: Duration) -> Option<Help> {
        let owed = other.owed_groups();
        let theirs = other.speed.per_group(now);
        let ours = if idle.speed.is_known() { idle.speed.per_group(now) } else { theirs };
        if owed >= 2 && self.leaves_to(other, idle) {
            let on_its_way = other.speed.groups_in(LEAVING_TIME, now).min(LEAVING_GROUPS_MAX);
            return Some(Help::Tail(owed - on_its_way.min(owed.div_ceil(2))));
        }
        if owed == 0 || ours >= other.ends_in(now) {
            return None;
        }
        if owed >= 2 {
            let even = u128::from(owed) * theirs.as_nanos() / (ours + theirs).as_nanos();
            let even = u64::try_from(even).unwrap_or(u64::MAX).clamp(1, owed - 1);
            let run = if idle.speed.is_known() { idle.speed.groups_in(RUN_TIME, now) } else { FIRST_RUN_GROUPS };
            return Some(Help::Tail(even.min(run).min(RUN_GROUPS_MAX)));
        }
        let last = other.owed.iter().find(|run| run.count > 0)?.first;
        (idle.link != other.link && self.copies(last) < COPIES_MAX).then_some(Help::Copy(last))
    }
}

#[derive(Debug, Clone, Copy)]
enum Help {
    /// So many groups of its end change hands.
    Tail(u64),
    /// This group is asked for twice.
    Copy(u64),
}

#[cfg(test)]
#[path = "pull_tests.rs"]
mod tests;
