//! Congestion control for everything but the machine itself and its neighbours: as fast as the way allows with a queue
//! that whoever talks beside it does not notice, and without taking every lost packet for a full way.
//!
//! CUBIC fills the queue before the narrowest part of the way until it overflows, a tenth of a second and more, in which
//! messages wait too; and where radio loses one packet in a hundred, it falls to a thirtieth of what is there. This one
//! measures the queue instead: it is what a round trip takes beyond the shortest one (as in LEDBAT++ and HyStart++).
//!
//! ```text
//! starting --queue or loss--> draining --queue gone--------------------------> probing, a little more each round trip
//!                                ^  `---not gone in 3 round trips: not ours--->  |
//!                                `-----------------queue too long---------------'
//! ```
//! To drain it sends what fits into the way without a queue, so everybody who does the same sees the shortest round trip
//! again, and the larger one gives up more. A queue that does not go away is that of somebody who does otherwise: then
//! the round trip with it counts as the shortest one until a shorter one is seen, so that others get no more than their
//! share, and a lost packet is a full way.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;

/// How long the queue may become: half of what people notice in a conversation.
const QUEUE_MAX: Duration = Duration::from_millis(15);

/// A queue of this length ends the doubling at the start: what is under way by then doubles it once more.
const QUEUE_AT_START: Duration = Duration::from_millis(7);

/// A queue is gone when no more is left of it: timers and neighbours make as much.
const QUEUE_GONE: Duration = Duration::from_millis(4);

/// After so many round trips a queue would be gone if it were ours.
const DRAINING_ROUNDS: u32 = 3;

/// More than this of a round trip's bytes lost is a full way, whatever the queue: radio loses less, and a router with a
/// short queue more.
const LOSS_MAX_PERCENT: u64 = 3;

/// As few packets as this lost at a time prove nothing.
const LOSS_MIN_PACKETS: u64 = 2;

/// What is left of the window after a loss that counts, as of CUBIC's: with more left it would get more than that.
const KEPT_AFTER_LOSS_PERCENT: u64 = 70;

/// What is sent to drain: a little less than fits, so that the queue shrinks although the measurement is not exact.
const DRAINING_PERCENT: u64 = 95;

/// Measured over less than this a rate is that of a burst.
const ROUND_MIN: Duration = Duration::from_millis(5);

/// A round trip at the start is judged by the first of its acknowledgements, but not by fewer (RFC 9406).
const SAMPLES_MIN: u32 = 8;

/// The shortest round trip is that of the last one or two of these: ways change.
const SHORTEST_FOR: Duration = Duration::from_secs(15);

/// Packets that may be under way however full the way is.
const PACKETS_MIN: u64 = 4;

/// Makes a [`ShortQueue`] for each connection.
#[derive(Debug)]
pub(super) struct ShortQueueConfig {
    /// Bytes that a new connection may have under way.
    pub(super) initial_window: u64,
}

impl ControllerFactory for ShortQueueConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(ShortQueue::new(self.initial_window, now, current_mtu))
    }
}

/// The state of one connection.
#[derive(Debug, Clone)]
struct ShortQueue {
    initial_window: u64,
    /// Bytes that may be under way.
    window: u64,
    mtu: u64,
    phase: Phase,
    round: Round,
    /// What a round trip takes without a queue of ours.
    base: Duration,
    shortest: Shortest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The window doubles with each round trip.
    Starting,
    /// It grows a little.
    Probing,
    /// It becomes what the way holds without a queue.
    Draining {
        /// Round trips since it is.
        rounds: u32,
        /// The window that the way holds without a queue.
        fits: u64,
        /// The window to go back to if the queue is somebody else's.
        before: u64,
        /// The window to go on with once it is gone: a little more than fits, so that timers that ring late leave no gap.
        after: u64,
    },
}

/// What is seen during one round trip.
#[derive(Debug, Clone)]
struct Round {
    start: Instant,
    acked: u64,
    lost: u64,
    samples: u32,
    /// The shortest round trip within it: what all others had in addition was jitter.
    shortest: Duration,
    /// Whether less was sent than was allowed.
    is_idle: bool,
    /// Whether a router has marked a packet instead of dropping it (ECN).
    is_marked: bool,
    is_over: bool,
}

/// The shortest round trip of late.
#[derive(Debug, Clone)]
struct Shortest {
    current: Duration,
    before: Duration,
    since: Instant,
}

impl Shortest {
    fn note(&mut self, round_trip: Duration, now: Instant) {
        if now.saturating_duration_since(self.since) >= SHORTEST_FOR {
            *self = Self { current: Duration::MAX, before: self.current, since: now };
        }
        self.current = self.current.min(round_trip);
    }

    fn get(&self) -> Duration {
        self.current.min(self.before)
    }
}

impl Round {
    fn new(start: Instant) -> Self {
        let (acked, lost, samples, shortest) = (0, 0, 0, Duration::MAX);
        Self { start, acked, lost, samples, shortest, is_idle: false, is_marked: false, is_over: false }
    }

    /// The bytes that this rate brings in some time.
    fn bytes_in(&self, time: Duration, now: Instant) -> u64 {
        let took = now.saturating_duration_since(self.start).as_nanos().max(1);
        let bytes = u128::from(self.acked).saturating_mul(time.as_nanos()) / took;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

impl ShortQueue {
    fn new(initial_window: u64, now: Instant, mtu: u16) -> Self {
        Self {
            initial_window,
            window: initial_window,
            mtu: mtu.into(),
            phase: Phase::Starting,
            round: Round::new(now),
            base: Duration::MAX,
            shortest: Shortest { current: Duration::MAX, before: Duration::MAX, since: now },
        }
    }

    /// Whether the current round trip has shown what it can.
    fn is_round_over(&self, now: Instant, sent: Instant) -> bool {
        let Round { start, samples, shortest, .. } = self.round;
        let is_queueing = shortest.saturating_sub(self.base) > QUEUE_AT_START;
        match self.phase {
            Phase::Starting if samples >= SAMPLES_MIN && is_queueing && now > start => true,
            Phase::Starting | Phase::Probing => sent >= start && now.saturating_duration_since(start) >= ROUND_MIN,
            Phase::Draining { .. } => sent >= start && now > start,
        }
    }

    /// Draws the conclusion from a round trip.
    fn end_round(&mut self, now: Instant) {
        let round = std::mem::replace(&mut self.round, Round::new(now));
        let queue = round.shortest.saturating_sub(self.base);
        let is_full = self.is_full(&round);
        match self.phase {
            Phase::Starting if is_full || queue > QUEUE_AT_START => {
                self.drain(&round, round.bytes_in(round.shortest, now).min(self.window), now);
            }
            Phase::Starting => {}
            Phase::Probing if is_full => self.window = self.window / 100 * KEPT_AFTER_LOSS_PERCENT,
            Phase::Probing if queue > QUEUE_MAX => self.drain(&round, self.window, now),
            Phase::Probing if round.is_idle => {}
            // By the root of the packets: the smaller of two grows the faster for its size, so both become alike.
            Phase::Probing => self.window = self.window.saturating_add(self.mtu * (self.window / self.mtu).isqrt()),
            Phase::Draining { after, .. } if queue < QUEUE_GONE => {
                self.window = self.window.max(after);
                self.phase = Phase::Probing;
            }
            Phase::Draining { rounds, fits, before, after } => {
                let before = if is_full { before / 100 * KEPT_AFTER_LOSS_PERCENT } else { before };
                if rounds < DRAINING_ROUNDS {
                    let rounds = rounds + u32::from(self.window <= fits);
                    self.phase = Phase::Draining { rounds, fits, before, after };
                    self.shrink_to(fits);
                } else {
                    self.base = round.shortest;
                    self.window = before;
                    self.phase = Phase::Probing;
                }
            }
        }
        self.bound();
    }

    /// Whether what was lost in a round trip was lost because the way is full.
    fn is_full(&self, round: &Round) -> bool {
        let Round { lost, acked, shortest, is_marked, .. } = *round;
        let much = lost > LOSS_MIN_PACKETS * self.mtu && lost * 100 > (lost + acked) * LOSS_MAX_PERCENT;
        let has_queue = shortest.saturating_sub(self.shortest.get()) > QUEUE_MAX;
        // Somebody keeps a queue there: what is lost did not fit into it, however long it is by now.
        let is_shared = self.base.saturating_sub(self.shortest.get()) > QUEUE_GONE;
        is_marked || much || (lost > 0 && (has_queue || is_shared))
    }

    /// Sends what fits without a queue, until it is gone.
    fn drain(&mut self, round: &Round, before: u64, now: Instant) {
        let fits = (round.bytes_in(self.base, now) / 100 * DRAINING_PERCENT).max(PACKETS_MIN * self.mtu);
        let after = round.bytes_in(self.base.saturating_add(QUEUE_GONE), now).min(self.window);
        self.phase = Phase::Draining { rounds: 0, fits, before, after };
        self.shrink_to(fits);
    }

    /// Makes the window smaller, by half at a time: quinn spreads it over a round trip that it knows by an average, which
    /// takes a while to follow, and would send next to nothing until then.
    fn shrink_to(&mut self, fits: u64) {
        self.window = self.window.min(fits.max(self.window / 2));
    }

    /// Notes that a packet came to the other side, and whether more could have been sent.
    fn note_acked(&mut self, now: Instant, sent: Instant, bytes: u64, is_idle: bool) {
        let round_trip = now.saturating_duration_since(sent);
        self.base = self.base.min(round_trip);
        self.shortest.note(round_trip, now);
        self.round.acked += bytes;
        self.round.samples = self.round.samples.saturating_add(1);
        self.round.shortest = self.round.shortest.min(round_trip);
        self.round.is_idle |= is_idle;
        if self.phase == Phase::Starting && !is_idle {
            self.window = self.window.saturating_add(bytes);
        }
        self.round.is_over |= self.is_round_over(now, sent);
    }

    fn bound(&mut self) {
        self.window = self.window.max(PACKETS_MIN * self.mtu);
    }
}

impl Controller for ShortQueue {
    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, _smoothed: &RttEstimator) {
        self.note_acked(now, sent, bytes, app_limited);
    }

    fn on_end_acks(&mut self, now: Instant, _in_flight: u64, _app_limited: bool, _largest: Option<u64>) {
        if self.round.is_over {
            self.end_round(now);
        }
    }

    fn on_congestion_event(&mut self, now: Instant, _sent: Instant, is_persistent: bool, lost_bytes: u64) {
        self.round.lost += lost_bytes;
        // None lost: a router has marked one.
        self.round.is_marked |= lost_bytes == 0;
        if is_persistent {
            *self = Self::new(self.initial_window, now, u16::try_from(self.mtu).unwrap_or(u16::MAX));
            self.window = PACKETS_MIN * self.mtu;
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = new_mtu.into();
        self.bound();
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.initial_window
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
#[path = "congestion_tests.rs"]
mod tests;
