//! What one side of a rendezvous says and does, and what nobody can make it do.

use std::collections::BTreeMap;

use super::*;
use crate::protocol::direct_search::{ANSWERS_MAX, ATTEMPT_BYTES_MAX, PUNCHES_MAX, UNPROVEN_BYTES_MAX};
use crate::wire::limits::CANDIDATES_MAX;

const DIAL: DialId = DialId::from_bytes([5; 16]);
const TICKET: Ticket = Ticket::from_bytes([7; 16]);
const RELAY: &str = "192.0.2.1:4000";
const PUNCH: Datagram = Datagram::Punch { dial: DIAL };
const CHALLENGE: Datagram = Datagram::Challenge { ticket: TICKET, nonce: [9; 16] };
const ECHO: Datagram = Datagram::Echo { ticket: TICKET, nonce: [9; 16] };
const ONE: ConnectionNumber = ConnectionNumber(1);
const TWO: ConnectionNumber = ConnectionNumber(2);

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn address(number: u16) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 1], number))
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Both paths, one candidate, this side says which.
fn terms(side: Side, is_controlling: bool) -> Terms {
    Terms {
        dial: DIAL,
        side,
        is_controlling,
        candidates: Some(vec![address(1)]),
        relay: Some((at(RELAY), TICKET)),
        round_trip: ms(40),
    }
}

fn relay_only(side: Side) -> Terms {
    Terms { candidates: None, ..terms(side, true) }
}

fn direct_only(side: Side, is_controlling: bool) -> Terms {
    Terms { relay: None, ..terms(side, is_controlling) }
}

/// A machine and its outputs with their times.
struct Story {
    machine: Rendezvous,
    now: Duration,
    log: Vec<(Duration, Output)>,
}

impl Story {
    fn of(terms: Terms) -> Self {
        let mut story = Self { machine: Rendezvous::new(terms, ms(0)), now: ms(0), log: Vec::new() };
        story.drain();
        story
    }

    fn drain(&mut self) -> Vec<Output> {
        let new: Vec<_> = std::iter::from_fn(|| self.machine.poll_output()).collect();
        self.log.extend(new.iter().map(|output| (self.now, output.clone())));
        new
    }

    fn until(&mut self, millis: u64) -> Vec<Output> {
        let since = self.log.len();
        let mut wakes = 0;
        while let Some(when) = self.machine.poll_timeout().filter(|&when| when <= ms(millis)) {
            self.now = self.now.max(when);
            self.machine.handle_timeout(self.now);
            self.drain();
            wakes += 1;
            assert!(wakes < 1_000, "it is kept awake at {:?}", self.now);
        }
        self.now = ms(millis);
        self.log[since..].iter().map(|(_, output)| output.clone()).collect()
    }

    fn hears(&mut self, from: SocketAddr, datagram: Datagram) -> Vec<Output> {
        self.machine.handle_datagram(from, &datagram, self.now);
        self.drain()
    }

    fn connects(&mut self, number: ConnectionNumber, from: SocketAddr) -> Vec<Output> {
        self.machine.handle_connected(number, from, self.now);
        self.drain()
    }

    fn times_of(&self, wanted: impl Fn(&Output) -> bool) -> Vec<u64> {
        let times = self.log.iter().filter(|(_, output)| wanted(output));
        times.map(|(when, _)| u64::try_from(when.as_millis()).unwrap()).collect()
    }

    /// What went to each address, with headers; an attempt at a connection at the price that is documented.
    fn bytes(&self) -> BTreeMap<SocketAddr, usize> {
        let mut bytes = BTreeMap::new();
        for (_, output) in &self.log {
            match output {
                Output::Send { to, datagram, .. } => *bytes.entry(*to).or_default() += datagram.encode().len() + 48,
                Output::Dial { to, within, .. } => {
                    assert!(*within <= ms(2_000), "a fourth flight");
                    *bytes.entry(*to).or_default() += ATTEMPT_BYTES_MAX;
                }
                _ => {}
            }
        }
        bytes
    }
}

fn sent(to: SocketAddr, datagram: Datagram) -> Output {
    Output::Send { to, hops: None, datagram }
}

fn opener(hops: u8) -> Output {
    Output::Send { to: address(1), hops: Some(hops), datagram: Datagram::Opener }
}

fn is_punch(output: &Output) -> bool {
    matches!(output, Output::Send { datagram: Datagram::Punch { .. }, .. })
}

fn is_dial(output: &Output) -> bool {
    matches!(output, Output::Dial { .. })
}

fn dials(outputs: &[Output]) -> Vec<SocketAddr> {
    outputs.iter().filter_map(|output| if let Output::Dial { to, .. } = output { Some(*to) } else { None }).collect()
}

// --- the relay

#[test]
fn the_asker_shows_its_ticket_proves_its_address_and_dials_at_once() {
    let mut story = Story::of(relay_only(Side::Asker));
    assert_eq!(story.log, [(ms(0), sent(at(RELAY), Datagram::Join { ticket: TICKET }))]);
    let dial = Output::Dial { to: at(RELAY), path: Path::Relayed, within: ms(3_000) };
    assert_eq!(story.hears(at(RELAY), CHALLENGE), [sent(at(RELAY), ECHO), sent(at(RELAY), ECHO), dial]);
    assert_eq!(story.connects(ONE, at(RELAY)), [Output::Use(ONE, Path::Relayed), Output::Ended]);
    assert_eq!(story.machine.poll_timeout(), None);
}

#[test]
fn the_asked_side_proves_its_address_and_waits() {
    let mut story = Story::of(relay_only(Side::Asked));
    assert_eq!(story.hears(at(RELAY), CHALLENGE), [sent(at(RELAY), ECHO), sent(at(RELAY), ECHO)]);
    story.hears(at(RELAY), Datagram::Joined { ticket: TICKET, both: false });
    assert_eq!(story.until(9_000), []);
    assert_eq!(story.connects(ONE, at(RELAY)), [Output::Use(ONE, Path::Relayed), Output::Ended]);
}

#[test]
fn a_lost_request_to_a_near_relay_costs_a_tenth_of_a_second() {
    let mut story = Story::of(relay_only(Side::Asker));
    story.until(1_000);
    let joins = |output: &Output| matches!(output, Output::Send { datagram: Datagram::Join { .. }, .. });
    assert_eq!(story.times_of(joins)[..4], [0, 100, 250, 475]);
    story.hears(at(RELAY), CHALLENGE);
    story.until(2_000);
    let echoes = story.times_of(|output| *output == sent(at(RELAY), ECHO));
    assert_eq!(echoes[..4], [1_000, 1_000, 1_100, 1_250]);
    // The relay may have forgotten the nonce: the ticket is shown again from time to time.
    assert!(story.times_of(joins).iter().any(|&when| when > 1_000));
    story.hears(at(RELAY), Datagram::Joined { ticket: TICKET, both: true });
    assert_eq!(story.until(9_000), []);
}

#[test]
fn requests_to_a_far_relay_wait_for_its_answers() {
    let mut story = Story::of(Terms { round_trip: ms(3_000), ..relay_only(Side::Asked) });
    story.until(4_500);
    assert_eq!(story.times_of(|_| true), [0, 1_000, 2_000, 3_000, 4_000]);
}

#[test]
fn a_relay_that_says_nothing_is_given_up_after_ten_seconds() {
    let mut story = Story::of(relay_only(Side::Asker));
    let all = story.until(60_000);
    assert_eq!(all[all.len() - 2..], [Output::RelayFailed, Output::Ended]);
    assert_eq!(story.times_of(|output| *output == Output::RelayFailed), [10_000]);
    assert!(all.len() < 20, "{all:?}");
}

#[test]
fn only_the_relay_challenges_and_only_with_this_ticket() {
    let mut story = Story::of(terms(Side::Asker, true));
    assert_eq!(story.hears(address(1), CHALLENGE), []);
    assert_eq!(story.hears(at("192.0.2.1:4001"), CHALLENGE), []);
    let other = Datagram::Challenge { ticket: Ticket::from_bytes([8; 16]), nonce: [9; 16] };
    assert_eq!(story.hears(at(RELAY), other), []);
}

#[test]
fn late_challenges_are_answered_but_not_without_end() {
    let mut story = Story::of(relay_only(Side::Asker));
    story.hears(at(RELAY), CHALLENGE);
    story.hears(at(RELAY), Datagram::Joined { ticket: TICKET, both: false });
    assert_eq!(story.hears(at(RELAY), CHALLENGE), [sent(at(RELAY), ECHO)]);
    for _ in 0..1_000 {
        story.hears(at(RELAY), CHALLENGE);
    }
    assert!(story.log.len() < 30, "{}", story.log.len());
    assert_eq!(story.times_of(is_dial), [0]);
}

#[test]
fn a_relayed_dial_that_fails_is_made_again_until_time_is_up() {
    let mut story = Story::of(relay_only(Side::Asker));
    story.hears(at(RELAY), CHALLENGE);
    while story.times_of(|output| *output == Output::Ended).is_empty() {
        story.machine.handle_dial_failed(at(RELAY), story.now);
        let next = u64::try_from(story.now.as_millis()).unwrap() + 50;
        story.until(next);
    }
    let dials = story.times_of(is_dial);
    assert!((35..=41).contains(&dials.len()), "{dials:?}");
    assert_eq!(story.times_of(|output| *output == Output::RelayFailed), [10_000]);
}

#[test]
fn a_second_relayed_connection_is_closed_and_a_lost_one_replaced() {
    let mut story = Story::of(terms(Side::Asker, true));
    story.hears(at(RELAY), CHALLENGE);
    assert_eq!(story.connects(ONE, at(RELAY)), [Output::Use(ONE, Path::Relayed)]);
    assert_eq!(story.connects(TWO, at(RELAY)), [Output::Close(TWO)]);
    story.machine.handle_lost(ONE, ms(100));
    assert_eq!(dials(&story.until(400)), [at(RELAY)]);
    assert_eq!(story.connects(TWO, at(RELAY)), [Output::Use(TWO, Path::Relayed)]);
}

// --- opening and punching

#[test]
fn the_asker_opens_its_nat_says_so_and_punches() {
    let story = Story::of(direct_only(Side::Asker, true));
    let outputs: Vec<_> = story.log.into_iter().map(|(_, output)| output).collect();
    assert_eq!(outputs, [opener(2), opener(3), opener(4), Output::TellOpened, sent(address(1), PUNCH)]);
}

#[test]
fn the_asked_side_opens_its_nat_and_does_not_punch_before_the_other_is_open() {
    let mut story = Story::of(direct_only(Side::Asked, true));
    assert_eq!(story.log.len(), 3);
    assert_eq!(story.until(999), []);
    assert_eq!(story.until(1_000), [sent(address(1), PUNCH)]);

    let mut story = Story::of(direct_only(Side::Asked, true));
    story.machine.handle_opened(ms(0));
    assert_eq!(story.drain(), [sent(address(1), PUNCH)]);
    story.machine.handle_opened(ms(0));
    assert_eq!(story.drain(), []);
}

#[test]
fn near_by_the_relay_is_dialled_when_both_are_there() {
    let near = || Story::of(Terms { candidates: None, round_trip: ms(1), ..terms(Side::Asker, true) });
    let joined = |both| Datagram::Joined { ticket: TICKET, both };
    let mut story = near();
    assert_eq!(dials(&story.hears(at(RELAY), CHALLENGE)), []);
    assert_eq!(dials(&story.hears(at(RELAY), joined(false))), []);
    assert_eq!(dials(&story.hears(at(RELAY), joined(true))), [at(RELAY)]);
    assert_eq!(dials(&story.hears(at(RELAY), joined(true))), []);
    // The word may be lost.
    let mut story = near();
    story.hears(at(RELAY), CHALLENGE);
    assert_eq!(dials(&story.until(19)), []);
    assert_eq!(dials(&story.until(20)), [at(RELAY)]);
}

#[test]
fn a_punch_is_answered_and_dialled_wherever_it_comes_from() {
    for from in [address(1), address(77)] {
        let mut story = Story::of(direct_only(Side::Asked, false));
        let dial = Output::Dial { to: from, path: Path::Direct, within: ms(2_000) };
        assert_eq!(story.hears(from, PUNCH), [sent(address(1), PUNCH), sent(from, PUNCH), dial]);
        assert_eq!(story.hears(from, PUNCH), [sent(from, PUNCH)]);
    }
}

#[test]
fn punches_are_frequent_at_first_and_become_rare() {
    let mut story = Story::of(direct_only(Side::Asker, true));
    story.until(20_000);
    let times = story.times_of(is_punch);
    assert_eq!(times[..8], [0, 50, 100, 150, 200, 250, 300, 400]);
    assert_eq!(times.len(), PUNCHES_MAX as usize);
    assert!(times.last().is_some_and(|&last| last > 7_000), "{times:?}");
}

#[test]
fn nothing_is_punched_once_there_is_a_connection() {
    for is_controlling in [true, false] {
        let mut story = Story::of(direct_only(Side::Asker, is_controlling));
        story.connects(ONE, address(1));
        assert_eq!(story.hears(address(1), PUNCH), []);
        assert_eq!(story.until(9_000), []);
    }
}

#[test]
fn a_punch_of_another_dial_or_through_the_relay_is_nothing() {
    let mut story = Story::of(terms(Side::Asked, true));
    assert_eq!(story.hears(address(1), Datagram::Punch { dial: DialId::from_bytes([6; 16]) }), []);
    assert_eq!(story.hears(at(RELAY), PUNCH), []);
    assert_eq!(story.hears(address(1), Datagram::Opener), []);
    // Nor is the relay a candidate.
    let story = Story::of(Terms { candidates: Some(vec![at(RELAY)]), ..terms(Side::Asker, true) });
    assert!(story.times_of(is_punch).is_empty());
}

#[test]
fn an_address_counts_the_same_when_a_socket_shows_it_as_ipv6() {
    let mut story = Story::of(terms(Side::Asker, true));
    assert_eq!(dials(&story.hears(at("[::ffff:192.0.2.1]:4000"), CHALLENGE)), [at(RELAY)]);
    assert_eq!(story.hears(at("[::ffff:198.51.100.1]:1"), PUNCH), [sent(address(1), PUNCH)]);
    assert_eq!(story.hears(address(1), PUNCH), [sent(address(1), PUNCH)]);
    assert_eq!(dials(&story.until(100)), [address(1)]);
    assert_eq!(story.connects(ONE, at("[::ffff:192.0.2.1]:4000")), [Output::Use(ONE, Path::Relayed)]);
}

// --- what nobody can make it do

#[test]
fn a_stranger_among_the_candidates_gets_punches_and_nothing_else() {
    for side in [Side::Asker, Side::Asked] {
        let mut story = Story::of(direct_only(side, true));
        story.machine.handle_opened(ms(0));
        story.until(20_000);
        assert!(story.times_of(is_dial).is_empty());
        let bytes = story.bytes()[&address(1)];
        assert!((1_000..2_500).contains(&bytes), "{bytes}");
    }
}

#[test]
fn forged_punches_make_no_address_cost_more_than_it_may() {
    let mut story = Story::of(direct_only(Side::Asker, true));
    for round in 0..2_000 {
        story.until(round * 5);
        story.hears(address(1), PUNCH);
        story.machine.handle_dial_failed(address(1), story.now);
    }
    let bytes = story.bytes()[&address(1)];
    assert!((9_000..=UNPROVEN_BYTES_MAX).contains(&bytes), "{bytes}");
    assert_eq!(story.times_of(is_dial).len(), 1);
}

#[test]
fn punches_from_thousands_of_addresses_reach_a_few() {
    let candidates = (1..=100).map(address).collect();
    let mut story = Story::of(Terms { candidates: Some(candidates), ..direct_only(Side::Asked, true) });
    for from in 1..5_000 {
        for _ in 0..20 {
            story.hears(address(from), PUNCH);
        }
    }
    story.until(20_000);
    let bytes = story.bytes();
    assert_eq!(bytes.len(), CANDIDATES_MAX + 4);
    assert!(bytes.values().all(|&bytes| bytes <= UNPROVEN_BYTES_MAX), "{bytes:?}");
    let punches = story.times_of(is_punch).len();
    assert!(punches <= CANDIDATES_MAX * PUNCHES_MAX as usize + bytes.len() * ANSWERS_MAX as usize, "{punches}");
}

#[test]
fn connections_without_number_are_held_only_up_to_a_bound() {
    let mut story = Story::of(direct_only(Side::Asked, false));
    for number in 0..1_000 {
        story.connects(ConnectionNumber(number), address(1));
    }
    assert_eq!(story.log.iter().filter(|(_, output)| matches!(output, Output::Close(_))).count(), 991);
}

// --- which connection is used

#[test]
fn the_controlling_side_nominates_the_first_and_closes_the_others() {
    let mut story = Story::of(terms(Side::Asked, true));
    assert_eq!(story.connects(ONE, address(1)), [Output::Nominate(ONE)]);
    assert_eq!(story.connects(TWO, address(1)), [Output::Close(TWO)]);
    // What is nominated is used; the relay stands by, and is not closed.
    assert_eq!(
        story.connects(ConnectionNumber(3), at(RELAY)),
        [Output::Use(ConnectionNumber(3), Path::Relayed), Output::Ended]
    );
}

#[test]
fn the_other_side_waits_for_the_nomination() {
    let mut story = Story::of(terms(Side::Asker, false));
    assert_eq!(story.connects(ONE, address(1)), []);
    assert_eq!(story.connects(TWO, address(2)), []);
    story.machine.handle_nominated(TWO, story.now);
    assert_eq!(story.drain(), [Output::Use(TWO, Path::Direct), Output::Close(ONE)]);
    assert_eq!(story.connects(ConnectionNumber(3), address(3)), [Output::Close(ConnectionNumber(3))]);
}

#[test]
fn who_may_not_nominate_is_not_heard() {
    let mut controlling = Story::of(terms(Side::Asker, true));
    controlling.connects(ONE, address(1));
    controlling.machine.handle_nominated(ONE, controlling.now);
    assert_eq!(controlling.drain(), []);
    // A connection that is unknown, relayed, or gone.
    let mut other = Story::of(terms(Side::Asker, false));
    other.connects(ONE, at(RELAY));
    other.connects(TWO, address(1));
    other.machine.handle_lost(TWO, other.now);
    for number in [ONE, TWO, ConnectionNumber(3)] {
        other.machine.handle_nominated(number, other.now);
        assert_eq!(other.drain(), []);
    }
}

#[test]
fn when_the_nominated_one_is_lost_another_is_nominated() {
    let mut controlling = Story::of(terms(Side::Asker, true));
    controlling.connects(ONE, address(1));
    controlling.machine.handle_lost(ONE, controlling.now);
    assert_eq!(controlling.connects(TWO, address(1)), [Output::Nominate(TWO)]);

    // The other side may hear of the second nomination before it notices the loss.
    let mut other = Story::of(terms(Side::Asker, false));
    other.connects(ONE, address(1));
    other.machine.handle_nominated(ONE, other.now);
    other.drain();
    other.machine.handle_lost(ONE, other.now);
    other.connects(TWO, address(1));
    other.machine.handle_nominated(TWO, other.now);
    assert_eq!(other.drain(), [Output::Use(TWO, Path::Direct)]);
}

#[test]
fn without_a_nomination_there_is_no_direct_path() {
    let mut story = Story::of(direct_only(Side::Asked, false));
    story.connects(ONE, address(1));
    assert_eq!(story.until(10_999), []);
    let failed = Output::DirectFailed(NoDirectPath::NoConnection);
    assert_eq!(story.until(11_000), [failed, Output::Close(ONE), Output::Ended]);
}

// --- how it ends

#[track_caller]
fn fails(terms: Terms, punch: bool, why: NoDirectPath, when: u64) {
    let mut story = Story::of(terms);
    if punch {
        story.hears(address(9), PUNCH);
    }
    let all = story.until(60_000);
    assert_eq!(all[all.len() - 2..], [Output::DirectFailed(why), Output::Ended]);
    assert_eq!(story.times_of(|output| *output == Output::Ended), [when]);
    // Nothing comes after the end but the end of what comes late.
    assert_eq!(story.hears(address(1), PUNCH), []);
    story.machine.handle_opened(story.now);
    assert_eq!(story.drain(), []);
    assert_eq!(story.connects(ONE, address(1)), [Output::Close(ONE)]);
    story.machine.handle_nominated(ONE, story.now);
    story.machine.handle_lost(ONE, story.now);
    assert_eq!(story.until(120_000), []);
}

#[test]
fn a_search_ends_in_time_and_says_why() {
    for side in [Side::Asker, Side::Asked] {
        let nowhere = Terms { candidates: Some(Vec::new()), ..direct_only(side, true) };
        fails(nowhere, false, NoDirectPath::NoCandidate, 10_000);
        fails(direct_only(side, true), false, NoDirectPath::NoPunch, 10_000);
        fails(direct_only(side, false), false, NoDirectPath::NoPunch, 10_000);
        fails(direct_only(side, true), true, NoDirectPath::NoConnection, 10_000);
        // The nomination of the controlling side may be under way.
        fails(direct_only(side, false), true, NoDirectPath::NoConnection, 11_000);
    }
}

#[test]
fn who_wants_no_direct_path_gets_none() {
    let mut story = Story::of(relay_only(Side::Asked));
    assert_eq!(story.hears(address(1), PUNCH), []);
    assert_eq!(story.connects(ONE, address(1)), [Output::Close(ONE)]);
    assert_eq!(story.connects(TWO, at(RELAY)), [Output::Use(TWO, Path::Relayed), Output::Ended]);
}

#[test]
fn who_wants_no_path_at_all_is_done() {
    let story = Story::of(Terms { relay: None, ..relay_only(Side::Asker) });
    assert_eq!(story.log, [(ms(0), Output::Ended)]);
}

#[test]
fn a_direct_path_is_tried_again_less_and_less_often() {
    assert_eq!([0, 1, 2, 3, u32::MAX].map(|repeated| retry_after(repeated).as_secs()), [60, 300, 900, 900, 900]);
}
