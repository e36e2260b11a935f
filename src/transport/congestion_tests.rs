//! A way with a narrow part, packet by packet in virtual time: what comes of one or two transfers over it, and of one beside
//! a transfer with CUBIC.

use std::collections::BTreeMap;

use super::*;

const PACKET: u64 = 1_450;
const MBIT: u64 = 125_000;
const SECOND: Duration = Duration::from_secs(1);

/// What lies between the ends.
struct Way {
    bytes_per_second: u64,
    round_trip: Duration,
    /// How long a packet may wait before the narrow part.
    queue: Duration,
    /// One of so many packets is lost on the way.
    one_lost_of: u64,
    /// When its narrow part has sent what waits.
    busy_until: Instant,
    packets: u64,
    longest_wait: Duration,
    overflown: u64,
}

/// CUBIC (RFC 9438), as far as it matters how much of a way it takes.
struct Cubic {
    window: f64,
    /// Where it was when a packet was lost, and since when it is on its way there again.
    full: f64,
    since: Option<Instant>,
    round_trip: Duration,
}

impl Cubic {
    fn note_acked(&mut self, now: Instant, sent: Instant) {
        self.round_trip = now - sent;
        let packet = PACKET as f64;
        let Some(since) = self.since else { return self.window += packet };
        let back_after = (self.full / packet * 0.3 / 0.4).cbrt();
        let time = (now - since + self.round_trip).as_secs_f64() - back_after;
        let goal = self.full + 0.4 * time.powi(3) * packet;
        let as_reno = self.full * 0.7 + 0.53 * packet * (now - since).as_secs_f64() / self.round_trip.as_secs_f64();
        let goal = goal.max(as_reno).min(self.window * 1.5);
        self.window += (goal - self.window).max(0.0) / self.window * packet;
    }

    /// One lost packet of a round trip counts.
    fn note_lost(&mut self, now: Instant, sent: Instant) {
        if self.since.is_none_or(|since| sent > since) {
            (self.full, self.since) = (self.window, Some(now));
            self.window *= 0.7;
        }
    }
}

enum Control {
    Ours(ShortQueue),
    Cubic(Cubic),
}

impl Control {
    fn window(&self) -> u64 {
        match self {
            Self::Ours(control) => control.window(),
            Self::Cubic(cubic) => {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a window of some packets")]
                let window = cubic.window as u64;
                window
            }
        }
    }

    fn note_acked(&mut self, now: Instant, sent: Instant, under_way: u64) {
        match self {
            Self::Ours(control) => {
                control.note_acked(now, sent, PACKET, false);
                control.on_end_acks(now, under_way, false, None);
            }
            Self::Cubic(cubic) => cubic.note_acked(now, sent),
        }
    }

    fn note_lost(&mut self, now: Instant, sent: Instant) {
        match self {
            Self::Ours(control) => control.on_congestion_event(now, sent, false, PACKET),
            Self::Cubic(cubic) => cubic.note_lost(now, sent),
        }
    }

    fn ours(&mut self) -> &mut ShortQueue {
        match self {
            Self::Ours(control) => control,
            Self::Cubic(_) => panic!("this one has CUBIC"),
        }
    }
}

/// A transfer that always has something to send.
struct Flow {
    control: Control,
    under_way: u64,
    came: u64,
    sends_from: Instant,
}

/// What becomes of a packet: when it was sent, by whom, and whether it comes.
type Fate = (Instant, usize, bool);

struct World {
    now: Instant,
    way: Way,
    flows: Vec<Flow>,
    due: BTreeMap<(Instant, u64), Fate>,
}

impl World {
    /// A way of 100 Mbit/s, with transfers that begin so long after each other.
    fn new(round_trip: Duration, queue: Duration, begins: &[Duration]) -> Self {
        let now = Instant::now();
        let way = Way {
            bytes_per_second: 100 * MBIT,
            round_trip,
            queue,
            one_lost_of: u64::MAX,
            busy_until: now,
            packets: 0,
            longest_wait: Duration::ZERO,
            overflown: 0,
        };
        let flow = |after: &Duration| Flow {
            control: Control::Ours(ShortQueue::new(14_720, now, 1_450)),
            under_way: 0,
            came: 0,
            sends_from: now + *after,
        };
        Self { now, way, flows: begins.iter().map(flow).collect(), due: BTreeMap::new() }
    }

    fn one(round_trip_ms: u64, queue_ms: u64) -> Self {
        Self::new(Duration::from_millis(round_trip_ms), Duration::from_millis(queue_ms), &[Duration::ZERO])
    }

    /// One with CUBIC and one of ours, of which one begins when the other has the way for itself.
    fn beside_cubic(round_trip_ms: u64, queue_ms: u64, is_ours_first: bool) -> Self {
        let begins = if is_ours_first { [4 * SECOND, Duration::ZERO] } else { [Duration::ZERO, 4 * SECOND] };
        let mut world = Self::new(Duration::from_millis(round_trip_ms), Duration::from_millis(queue_ms), &begins);
        let cubic = Cubic { window: 14_500.0, full: 0.0, since: None, round_trip: world.way.round_trip };
        world.flows[0].control = Control::Cubic(cubic);
        world
    }

    /// Lets it run. Gives the megabits that came in each second, for each transfer.
    fn run(&mut self, time: Duration) -> Vec<u64> {
        let end = self.now + time;
        let before: Vec<u64> = self.flows.iter().map(|flow| flow.came).collect();
        (self.way.longest_wait, self.way.overflown, self.way.packets) = (Duration::ZERO, 0, 0);
        while self.now < end {
            for flow in 0..self.flows.len() {
                self.send(flow);
            }
            let starts = self.flows.iter().map(|flow| flow.sends_from).filter(|at| *at > self.now);
            let next = self.due.keys().map(|(at, _)| *at).next().into_iter().chain(starts).min();
            self.now = next.unwrap_or(end);
            self.hear();
        }
        let bits = |(flow, before): (&Flow, u64)| (flow.came - before) * 8 / 1_000_000 / time.as_secs();
        self.flows.iter().zip(before).map(bits).collect()
    }

    fn send(&mut self, number: usize) {
        let (flow, way) = (&mut self.flows[number], &mut self.way);
        while self.now >= flow.sends_from && flow.under_way + PACKET <= flow.control.window() {
            flow.under_way += PACKET;
            way.packets += 1;
            let wait = way.busy_until.saturating_duration_since(self.now);
            let fits = wait <= way.queue;
            if fits {
                let takes = Duration::from_nanos(PACKET * 1_000_000_000 / way.bytes_per_second);
                way.busy_until = way.busy_until.max(self.now) + takes;
                way.longest_wait = way.longest_wait.max(wait);
            } else {
                way.overflown += 1;
            }
            let comes = fits && (way.packets * 7_919) % way.one_lost_of != 1;
            self.due.insert((way.busy_until + way.round_trip, way.packets), (self.now, number, comes));
        }
    }

    /// Takes what is due now.
    fn hear(&mut self) {
        while let Some(entry) = self.due.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (sent, number, comes) = entry.remove();
            let flow = &mut self.flows[number];
            flow.under_way -= PACKET;
            if comes {
                flow.came += PACKET;
                flow.control.note_acked(self.now, sent, flow.under_way);
            } else {
                flow.control.note_lost(self.now, sent);
            }
        }
    }
}

#[test]
fn the_way_is_full_and_the_queue_short() {
    for round_trip in [1, 10, 50, 150] {
        let mut world = World::one(round_trip, 100);
        world.run(4 * SECOND);
        let rates = world.run(16 * SECOND);
        assert!(rates[0] >= 88, "{} Mbit/s at {round_trip} ms", rates[0]);
        let wait = world.way.longest_wait;
        assert!(wait <= Duration::from_millis(30), "{wait:?} at {round_trip} ms");
    }
}

#[test]
fn one_lost_packet_in_a_hundred_is_not_a_full_way() {
    let mut world = World::one(50, 100);
    world.way.one_lost_of = 100;
    world.run(2 * SECOND);
    let rates = world.run(10 * SECOND);
    assert!(rates[0] >= 80, "{} Mbit/s", rates[0]);
}

#[test]
fn a_router_with_little_room_is_not_flooded() {
    let mut world = World::one(50, 5);
    world.run(2 * SECOND);
    let rates = world.run(10 * SECOND);
    let lost = 100 * world.way.overflown / world.way.packets;
    assert!(rates[0] >= 70 && lost <= 3, "{} Mbit/s, {lost} of 100 lost", rates[0]);
}

#[test]
fn a_way_that_becomes_longer_is_still_filled() {
    let mut world = World::one(20, 100);
    world.run(5 * SECOND);
    world.way.round_trip += Duration::from_millis(60);
    world.run(2 * SECOND);
    let rates = world.run(5 * SECOND);
    assert!(rates[0] >= 85, "{} Mbit/s", rates[0]);
}

#[test]
fn a_way_that_becomes_narrower_has_a_short_queue_again() {
    let mut world = World::one(20, 1_000);
    world.run(5 * SECOND);
    world.way.bytes_per_second = 20 * MBIT;
    world.run(5 * SECOND);
    let rates = world.run(5 * SECOND);
    let wait = world.way.longest_wait;
    assert!(rates[0] >= 17 && wait <= Duration::from_millis(40), "{} Mbit/s, {wait:?}", rates[0]);
}

#[test]
fn two_share_whoever_came_first() {
    for round_trip in [5, 50] {
        let mut world = World::new(Duration::from_millis(round_trip), SECOND / 10, &[Duration::ZERO, 3 * SECOND]);
        world.run(8 * SECOND);
        let rates = world.run(20 * SECOND);
        let sum = rates[0] + rates[1];
        assert!(sum >= 85 && rates.iter().all(|rate| (35..=65).contains(&(100 * rate / sum))), "{rates:?}");
    }
}

#[test]
fn beside_cubic_both_get_a_share() {
    for (round_trip, queue) in [(20, 20), (50, 50), (20, 100), (50, 100)] {
        for is_ours_first in [true, false] {
            let mut world = World::beside_cubic(round_trip, queue, is_ours_first);
            world.run(12 * SECOND);
            let rates = world.run(40 * SECOND);
            let sum = rates[0] + rates[1];
            let what =
                format!("{rates:?} Mbit/s at {round_trip} ms, a queue of {queue} ms, ours first: {is_ours_first}");
            assert!(sum >= 85 && rates.iter().all(|rate| (30..=70).contains(&(100 * rate / sum))), "{what}");
        }
    }
}

#[test]
fn whoever_has_little_to_send_gets_no_larger_window_for_it() {
    let start = Instant::now();
    let mut control = ShortQueue::new(14_720, start, 1_450);
    for step in 0..1_000 {
        let now = start + Duration::from_millis(20 * step);
        control.note_acked(now + Duration::from_millis(10), now, PACKET, true);
        control.on_end_acks(now + Duration::from_millis(10), 0, true, None);
    }
    assert_eq!(control.window(), 14_720);
}

#[test]
fn after_silence_it_starts_again_with_few_packets() {
    let mut world = World::one(50, 100);
    world.run(5 * SECOND);
    let now = world.now;
    let control = world.flows[0].control.ours();
    control.on_congestion_event(now, now, true, PACKET);
    assert_eq!(control.window(), PACKETS_MIN * PACKET);
    assert!(world.run(5 * SECOND)[0] >= 85);
}
