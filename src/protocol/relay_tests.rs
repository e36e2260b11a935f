//! Two people, strangers and a thief at a relay without a network.

use super::*;
use crate::wire::datagram::REQUEST_BYTES;
use crate::wire::limits::RELAY_CHALLENGES_MAX;

const PORTS: [u16; 3] = [5001, 5002, 5003];
const ZERO: Duration = Duration::ZERO;

fn name(text: &str) -> PeerName {
    PeerName::parse(text).unwrap()
}

/// Address `number` of a documentation network.
fn at(number: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number], 4433))
}

fn route(number: u8) -> Route {
    Route { remote: at(number), local: None }
}

fn party(text: &str, number: u8) -> Party {
    Party { name: name(text), login: usize::from(number), address: at(number) }
}

fn tickets(seed: u8) -> [Ticket; 2] {
    [Ticket::from_bytes([seed; 16]), Ticket::from_bytes([seed ^ 0x80; 16])]
}

fn single(bytes: usize) -> Batch {
    Batch { bytes, datagram_bytes: bytes }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn relay(limits: Limits) -> Relay {
    Relay::new(limits, PORTS.to_vec(), ZERO)
}

/// Opens a session between alice at address 1 and bob at address 2.
fn opened(relay: &mut Relay) -> [PortTicket; 2] {
    relay.open(party("alice", 1), party("bob", 2), tickets(1), ZERO).unwrap()
}

fn challenge(relay: &mut Relay, leg: PortTicket, number: u8) -> Option<[u8; 16]> {
    match relay.join(leg.port, route(number), leg.ticket, [number; 16]) {
        Some((to, Datagram::Challenge { ticket, nonce })) if to == route(number) && ticket == leg.ticket => Some(nonce),
        Some(other) => panic!("a Join was answered with {other:?}"),
        None => None,
    }
}

#[track_caller]
fn join(relay: &mut Relay, leg: PortTicket, number: u8, now: Duration) {
    let nonce = challenge(relay, leg, number).unwrap();
    assert!(!relay.echo(leg.port, route(number), leg.ticket, nonce, now).is_empty());
}

/// A session between addresses `first` and `first + 1`, joined.
fn joined(relay: &mut Relay, asker: &str, first: u8, now: Duration) -> u16 {
    let legs = relay.open(party(asker, first), party("bob", first + 1), tickets(first), now).unwrap();
    join(relay, legs[0], first, now);
    join(relay, legs[1], first + 1, now);
    legs[0].port
}

#[test]
fn what_one_side_sends_goes_to_the_other_once_both_are_there() {
    let mut relay = relay(Limits::default());
    let [alice, bob] = opened(&mut relay);
    join(&mut relay, alice, 1, ZERO);
    assert_eq!(relay.forward(alice.port, at(1), single(1_200), ZERO), None);
    let nonce = challenge(&mut relay, bob, 2).unwrap();
    let told = relay.echo(bob.port, route(2), bob.ticket, nonce, ZERO);
    let both = |leg: PortTicket| Datagram::Joined { ticket: leg.ticket, both: true };
    assert_eq!(told, [(route(2), both(bob)), (route(1), both(alice))]);
    assert_eq!(relay.forward(alice.port, at(1), single(1_200), ZERO), Some(Pass { to: route(2), bytes: 1_200 }));
    assert_eq!(relay.forward(alice.port, at(2), single(6_500), ZERO), Some(Pass { to: route(1), bytes: 6_500 }));
    let counters = relay.counters();
    assert_eq!((counters.opened, counters.joined, counters.dropped_not_joined), (1, 1, 1));
    assert_eq!((counters.forwarded_datagrams, counters.forwarded_bytes), (2, 7_700));
}

#[test]
fn a_third_party_and_another_port_reach_nobody() {
    let mut relay = relay(Limits::default());
    let port = joined(&mut relay, "alice", 1, ZERO);
    let other = PORTS.into_iter().find(|other| *other != port).unwrap();
    assert_eq!(relay.forward(port, at(9), Batch { bytes: 2_500, datagram_bytes: 1_200 }, ZERO), None);
    assert_eq!(relay.forward(other, at(1), single(1_200), ZERO), None);
    assert_eq!(relay.counters().dropped_unknown_source, 4);
}

#[test]
fn a_ticket_is_for_the_first_address_that_echoes() {
    let mut relay = relay(Limits::default());
    let [leg, _] = opened(&mut relay);
    let thief = challenge(&mut relay, leg, 7).unwrap();
    let own = challenge(&mut relay, leg, 1).unwrap();
    // What was said to one address proves nothing about another.
    assert_eq!(relay.echo(leg.port, route(1), leg.ticket, thief, ZERO), []);
    assert_eq!(relay.counters().dropped_bad_echo, 1);
    let is_joined = [(route(1), Datagram::Joined { ticket: leg.ticket, both: false })];
    assert_eq!(relay.echo(leg.port, route(1), leg.ticket, own, ZERO), is_joined);

    assert_eq!(relay.echo(leg.port, route(7), leg.ticket, thief, ZERO), []);
    assert_eq!(relay.join(leg.port, route(7), leg.ticket, [7; 16]), None);
    assert_eq!(relay.counters().dropped_replayed_ticket, 2);
    // What was lost on the way is answered again.
    assert_eq!(relay.echo(leg.port, route(1), leg.ticket, own, ZERO), is_joined);
    assert_eq!(relay.join(leg.port, route(1), leg.ticket, [8; 16]), Some(is_joined[0]));
}

#[test]
fn a_repeated_join_gets_the_same_challenge() {
    let mut relay = relay(Limits::default());
    let [leg, _] = opened(&mut relay);
    let first = challenge(&mut relay, leg, 1);
    let again = relay.join(leg.port, route(1), leg.ticket, [99; 16]);
    assert_eq!(again, Some((route(1), Datagram::Challenge { ticket: leg.ticket, nonce: first.unwrap() })));
}

#[test]
fn a_flood_of_forged_joins_is_bounded_and_leaves_the_others_alone() {
    let mut relay = relay(Limits::default());
    let [leg, _] = opened(&mut relay);
    for number in 10..=255 {
        assert!(challenge(&mut relay, leg, number).is_some());
    }
    assert_eq!(relay.sessions[&0].asker.challenged.count(), RELAY_CHALLENGES_MAX);
    join(&mut relay, leg, 1, ZERO);
    assert!(relay.sessions[&0].asker.challenged.count() == 0);
}

#[test]
fn a_ticket_that_there_is_not_or_at_another_port_is_dropped() {
    let mut relay = relay(Limits::default());
    let [leg, _] = opened(&mut relay);
    let unknown = Ticket::from_bytes([42; 16]);
    assert_eq!(relay.join(leg.port, route(1), unknown, [1; 16]), None);
    assert_eq!(relay.echo(leg.port, route(1), unknown, [1; 16], ZERO), []);
    let other = PORTS.into_iter().find(|port| *port != leg.port).unwrap();
    assert_eq!(relay.join(other, route(1), leg.ticket, [1; 16]), None);
    assert_eq!(relay.counters().dropped_bad_ticket, 3);
}

#[test]
fn no_login_and_no_address_has_two_sessions_at_one_port() {
    let mut relay = relay(Limits::default());
    let mut ports: Vec<u16> = (0..3_u8)
        .map(|n| relay.open(party("alice", 1), party("bob", 10 + n), tickets(n), ZERO).unwrap()[0].port)
        .collect();
    ports.sort_unstable();
    assert_eq!(ports, PORTS);
    assert_eq!(
        relay.open(party("alice", 1), party("bob", 20), tickets(20), ZERO),
        None,
        "no port is left for this login"
    );
    let reconnected = Party { login: 99, ..party("alice", 1) };
    assert_eq!(relay.open(reconnected, party("bob", 21), tickets(21), ZERO), None, "nor for its socket");
    assert_eq!(relay.counters().refused, 2);
    assert!(relay.open(party("carol", 3), party("dave", 4), tickets(22), ZERO).is_some());
}

#[test]
fn a_join_from_an_address_that_is_in_use_at_the_port_is_refused() {
    let mut relay = Relay::new(Limits::default(), vec![PORTS[0]], ZERO);
    let first = opened(&mut relay);
    join(&mut relay, first[0], 1, ZERO);
    let second = relay.open(party("carol", 3), party("dave", 4), tickets(3), ZERO).unwrap();
    let nonce = challenge(&mut relay, second[0], 2).unwrap();
    join(&mut relay, first[1], 2, ZERO);
    // Carol's leg asks from the address of bob's: before it was joined, and after.
    assert_eq!(relay.echo(second[0].port, route(2), second[0].ticket, nonce, ZERO), []);
    assert_eq!(relay.join(second[0].port, route(2), second[0].ticket, [9; 16]), None);
    assert_eq!(relay.counters().dropped_address_in_use, 2);
    assert_eq!(relay.forward(PORTS[0], at(1), single(100), ZERO), Some(Pass { to: route(2), bytes: 100 }));
}

#[test]
fn a_session_that_nobody_joins_or_uses_ends() {
    let mut relay = relay(Limits { idle: seconds(20), ..Limits::default() });
    let legs = opened(&mut relay);
    join(&mut relay, legs[0], 1, ZERO);
    let port = joined(&mut relay, "carol", 3, ZERO);
    relay.expire(seconds(19));
    for side in [3, 4] {
        assert!(relay.forward(port, at(side), single(100), seconds(19)).is_some());
    }
    relay.expire(seconds(30));
    assert_eq!((relay.counters().expired, relay.overview(seconds(30)).len()), (1, 1));
    assert_eq!(relay.join(legs[0].port, route(1), legs[0].ticket, [1; 16]), None);
    relay.expire(seconds(39));
    assert_eq!(relay.forward(port, at(3), single(100), seconds(39)), None);
    assert_eq!((relay.counters().expired, relay.counters().dropped_unknown_source), (2, 1));
    assert!(relay.tickets.is_empty() && relay.joined.is_empty(), "nothing is left of it");
}

#[test]
fn one_side_alone_holds_no_session() {
    let mut relay = relay(Limits { idle: seconds(20), ..Limits::default() });
    let port = joined(&mut relay, "carol", 3, ZERO);
    for second in 0..20 {
        assert!(relay.forward(port, at(3), single(1), seconds(second)).is_some());
    }
    relay.expire(seconds(20));
    assert_eq!((relay.counters().expired, relay.forward(port, at(3), single(1), seconds(20))), (1, None));
}

#[test]
fn a_session_that_is_ended_leaves_nothing_and_no_other() {
    let mut relay = Relay::new(Limits::default(), vec![PORTS[0]], ZERO);
    let legs = opened(&mut relay);
    join(&mut relay, legs[0], 1, ZERO);
    let other = joined(&mut relay, "carol", 3, ZERO);
    assert_eq!(relay.open(party("alice", 1), party("dave", 5), tickets(5), ZERO), None, "the port is held");
    relay.end(legs[1].ticket);
    relay.end(legs[1].ticket);
    assert_eq!(relay.join(legs[1].port, route(2), legs[1].ticket, [1; 16]), None);
    assert_eq!((relay.tickets.len(), relay.joined.len(), relay.counters().expired), (2, 2, 0));
    assert!(relay.open(party("alice", 1), party("dave", 5), tickets(5), ZERO).is_some());
    assert!(relay.forward(other, at(3), single(100), ZERO).is_some());
}

#[test]
fn an_account_that_is_closed_is_relayed_no_longer() {
    let mut relay = relay(Limits::default());
    let port = joined(&mut relay, "alice", 1, ZERO);
    let other = joined(&mut relay, "carol", 3, ZERO);
    relay.end_account(&name("alice"));
    assert_eq!(relay.forward(port, at(1), single(100), ZERO), None);
    assert!(relay.forward(other, at(3), single(100), ZERO).is_some());
}

#[test]
fn a_budget_lets_its_rate_pass_and_whole_datagrams_only() {
    let mut relay = relay(Limits { bytes_per_second: 1_000_000, ..Limits::default() });
    let port = joined(&mut relay, "alice", 1, ZERO);
    let batch = Batch { bytes: 60_500, datagram_bytes: 1_200 };
    let mut passed = 0;
    for millis in 0..4_000_u64 {
        let now = Duration::from_millis(millis);
        let direction = if millis % 2 == 0 { 1 } else { 2 };
        if let Some(pass) = relay.forward(port, at(direction), batch, now) {
            assert!(pass.bytes % 1_200 == 0 || pass.bytes == batch.bytes);
            passed += pass.bytes;
        }
    }
    // The burst and what was filled in, but for less than one datagram.
    let allowed = 256 * 1024 + 3_999_000;
    assert!(passed <= allowed && passed + 1_200 > allowed, "{passed} of {allowed}");
    let counters = relay.counters();
    assert_eq!(counters.dropped_over_rate + counters.forwarded_datagrams, 4_000 * 51);
    assert_eq!(counters.forwarded_bytes, passed as u64);
}

#[test]
fn a_flood_of_one_account_takes_nothing_from_another() {
    let mut relay = relay(Limits { bytes_per_second: 1_000_000, ..Limits::default() });
    let flood = joined(&mut relay, "mallory", 1, ZERO);
    let honest = joined(&mut relay, "alice", 3, ZERO);
    for millis in 0..1_000 {
        let now = Duration::from_millis(millis);
        for _ in 0..100 {
            relay.forward(flood, at(1), single(1_200), now);
        }
        assert!(relay.forward(honest, at(3), single(900), now).is_some());
    }
    assert!(relay.counters().dropped_over_rate > 90_000);
}

#[test]
fn a_day_has_its_own_budget_and_opens_no_session_when_it_is_used_up() {
    let mut relay = relay(Limits { bytes_per_day: 2_000, ..Limits::default() });
    let port = joined(&mut relay, "alice", 1, ZERO);
    assert!(relay.forward(port, at(2), single(1_500), ZERO).is_some());
    assert_eq!(relay.forward(port, at(1), single(1_500), ZERO), None, "both directions count");
    assert!(relay.forward(port, at(1), single(500), ZERO).is_some());
    assert_eq!(relay.counters().dropped_over_day, 1);
    assert_eq!(relay.open(party("alice", 5), party("bob", 6), tickets(5), ZERO), None);
    assert!(relay.open(party("bob", 7), party("alice", 8), tickets(7), ZERO).is_some(), "bob has his own");
    assert!(relay.open(party("alice", 5), party("bob", 6), tickets(5), DAY).is_some());
}

#[test]
fn what_is_left_of_a_day_must_do_for_a_session() {
    let mut relay = relay(Limits { bytes_per_day: 1_000_000, ..Limits::default() });
    let port = joined(&mut relay, "alice", 1, ZERO);
    let most = 1_000_000 - usize::try_from(DAY_BYTES_LEFT_MIN).unwrap();
    assert!(relay.forward(port, at(1), single(most), ZERO).is_some());
    assert!(relay.open(party("alice", 5), party("bob", 6), tickets(5), ZERO).is_some(), "just enough");
    assert!(relay.forward(port, at(1), single(1), ZERO).is_some());
    assert_eq!(relay.open(party("alice", 7), party("bob", 8), tickets(7), ZERO), None);
}

#[test]
fn all_accounts_together_have_a_budget() {
    let mut relay = relay(Limits { total_bytes_per_second: 1_000, ..Limits::default() });
    let ports = [joined(&mut relay, "alice", 1, ZERO), joined(&mut relay, "carol", 3, ZERO)];
    assert!(relay.forward(ports[0], at(1), single(200_000), ZERO).is_some());
    assert_eq!(relay.forward(ports[1], at(3), single(100_000), ZERO), None);
    assert!(relay.forward(ports[1], at(3), single(60_000), ZERO).is_some());
    assert_eq!(relay.counters().dropped_over_total, 1);
}

#[test]
fn sessions_are_bounded_in_all_of_one_account_and_of_a_pair() {
    let ports = (5_001..5_101).collect();
    let mut relay = Relay::new(Limits { sessions: 40, ..Limits::default() }, ports, ZERO);
    let mut number = 0;
    let mut open = |asker: &str, asked: &str| {
        number += 1;
        let ticket = |side: u8| Ticket::from_bytes([[number, side]; 8].concat().try_into().unwrap());
        relay.open(party(asker, number), party(asked, number), [ticket(0), ticket(1)], ZERO).is_some()
    };
    assert_eq!((0..10).filter(|_| open("alice", "bob")).count(), RELAY_SESSIONS_PER_PAIR_MAX);
    let others = RELAY_SESSIONS_PER_ACCOUNT_MAX - RELAY_SESSIONS_PER_PAIR_MAX;
    assert_eq!((0..30).filter(|n| open("alice", &format!("bob{n}"))).count(), others);
    assert_eq!((0..30).filter(|n| open(&format!("carol{n}"), "bob")).count(), 40 - RELAY_SESSIONS_PER_ACCOUNT_MAX);
}

#[test]
fn remembered_accounts_are_bounded() {
    let mut relay = relay(Limits::default());
    for number in 0..RELAY_ACCOUNTS_MAX {
        assert!(relay.account_has_budget(&name(&format!("user{number}")), ZERO));
    }
    assert!(relay.account_has_budget(&name("another"), ZERO), "those who used nothing make room");
    for number in 1..RELAY_ACCOUNTS_MAX {
        let name = name(&format!("user{number}"));
        relay.account_has_budget(&name, ZERO);
        relay.accounts.get_mut(&name).unwrap().day_bytes = 1;
    }
    relay.accounts.get_mut(&name("another")).unwrap().day_bytes = 1;
    assert!(!relay.account_has_budget(&name("one-more"), ZERO));
    assert_eq!(relay.accounts.len(), RELAY_ACCOUNTS_MAX);
    assert!(relay.account_has_budget(&name("one-more"), DAY), "tomorrow");
}

/// A generator of numbers that are the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn byte(&mut self, bound: u64) -> u8 {
        u8::try_from(self.below(bound)).unwrap()
    }
}

#[test]
fn nobody_gets_more_than_was_sent_and_only_proven_addresses_get_traffic() {
    for seed in 0..50 {
        let mut numbers = Numbers(seed);
        let mut relay = relay(Limits { bytes_per_second: 20_000, sessions: 4, ..Limits::default() });
        let (mut sent, mut received) = (0, 0);
        let mut proven = Vec::new();
        let mut heard = Vec::new();
        for step in 0..2_000_u64 {
            let now = Duration::from_millis(step * 50);
            let port = PORTS[usize::from(numbers.byte(3))];
            let (from, ticket) = (route(numbers.byte(6)), tickets(numbers.byte(4))[usize::from(numbers.byte(2))]);
            let answers = match numbers.below(6) {
                0 => {
                    let seed = numbers.byte(4);
                    let is_free = !relay.tickets.contains_key(&tickets(seed)[0]);
                    if is_free {
                        relay.open(party("alice", numbers.byte(6)), party("bob", numbers.byte(6)), tickets(seed), now);
                    }
                    continue;
                }
                1 => relay.join(port, from, ticket, [numbers.byte(255); 16]).into_iter().collect(),
                2 => match heard.pop() {
                    Some((port, from, ticket, nonce)) => {
                        proven.push((port, from));
                        relay.echo(port, from, ticket, nonce, now)
                    }
                    None => relay.echo(port, from, ticket, [0; 16], now),
                },
                _ => {
                    let bytes = 1 + usize::from(numbers.byte(200)) * 300;
                    sent += bytes;
                    if let Some(pass) = relay.forward(port, from.remote, Batch { bytes, datagram_bytes: 1_200 }, now) {
                        assert!(proven.contains(&(port, from)) && proven.contains(&(port, pass.to)), "seed {seed}");
                        received += pass.bytes;
                    }
                    continue;
                }
            };
            sent += REQUEST_BYTES;
            received += answers.iter().map(|(_, datagram)| datagram.encode().len()).sum::<usize>();
            for (to, datagram) in answers {
                if let Datagram::Challenge { ticket, nonce } = datagram {
                    heard.push((port, to, ticket, nonce));
                }
            }
            assert!(received <= sent, "seed {seed}, step {step}");
            assert!(relay.sessions.len() <= 4 && relay.tickets.len() == 2 * relay.sessions.len());
        }
        assert!(relay.counters().forwarded_bytes > 0, "seed {seed} tested nothing");
    }
}
