//! How fast groups come over a lane: over about the last second, and slower the longer the next one does not come.

use std::time::Duration;

/// What is remembered: half of it is forgotten when it is older.
const REMEMBERED: Duration = Duration::from_secs(1);

/// No fewer groups are a measure.
const GROUPS_MIN: u32 = 8;

/// What has come over a lane and in which time; the time in which nothing was asked for does not count.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Speed {
    groups: u32,
    since: Duration,
    /// When the last group came, or was asked for.
    last: Duration,
    is_idle: bool,
}

impl Speed {
    pub(super) fn begin(now: Duration) -> Self {
        Self { groups: 0, since: now, last: now, is_idle: true }
    }

    /// Something is asked for.
    pub(super) fn ask(&mut self, now: Duration) {
        if self.is_idle {
            self.since += now.saturating_sub(self.last);
            self.last = now;
            self.is_idle = false;
        }
    }

    /// A group came.
    pub(super) fn arrive(&mut self, now: Duration, is_idle: bool) {
        self.groups = self.groups.saturating_add(1);
        self.last = now;
        self.is_idle = is_idle;
        let span = now.saturating_sub(self.since);
        if span > REMEMBERED && self.groups >= 2 * GROUPS_MIN {
            self.groups /= 2;
            self.since += span / 2;
        }
    }

    /// Whether so many groups came that it is a measure.
    pub(super) fn is_measured(&self) -> bool {
        self.groups >= GROUPS_MIN
    }

    /// Whether any group came.
    pub(super) fn is_known(&self) -> bool {
        self.groups > 0
    }

    /// How long a group takes, as far as is known.
    pub(super) fn per_group(&self, now: Duration) -> Duration {
        let until = if self.is_idle { self.last } else { now };
        (until.saturating_sub(self.since) / self.groups.max(1)).max(Duration::from_nanos(1))
    }

    /// How long the group that is on its way will take yet. One that is late will take as much longer as it is late.
    pub(super) fn rest_of_group(&self, now: Duration) -> Duration {
        let usual = (self.last.saturating_sub(self.since) / self.groups.max(1)).max(Duration::from_nanos(1));
        now.saturating_sub(self.last).abs_diff(usual)
    }

    /// How many groups come within a time, at least one.
    pub(super) fn groups_in(&self, time: Duration, now: Duration) -> u64 {
        u64::try_from(time.as_nanos() / self.per_group(now).as_nanos()).unwrap_or(u64::MAX).max(1)
    }
}
