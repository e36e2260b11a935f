//! Who finds a direct path to whom, and that everybody else keeps the relay.

use std::env;
use std::time::Duration;

use qchat::protocol::rendezvous::NoDirectPath;

use crate::nat::{KINDS, Kind};
use crate::nat_world::{Case, Fate, Flaw, Home, Outcome, run};
use crate::scene::Chance;

/// A case in fair weather; the rest is drawn from the seed.
fn case(seed: u64, homes: [Home; 2]) -> Case {
    let mut chance = Chance::new(seed);
    let delay = 2 + chance.below(80);
    Case {
        seed,
        homes,
        is_shared: false,
        asker: 0,
        controlling: 0,
        relay: true,
        direct: true,
        remembers_early: false,
        hairpins: false,
        tells_local: false,
        nat_timeout: Duration::from_secs(30),
        loss: 0,
        duplicates: 500,
        delay,
        jitter: chance.below(delay),
        skew: chance.below(401),
        lists_a_stranger: false,
        loses: None,
        flaw: Flaw::None,
    }
}

/// A case, whoever asks and whoever controls.
fn sides(case: &Case) -> [Case; 4] {
    [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(asker, controlling)| Case { asker, controlling, ..case.clone() })
}

fn pairs() -> impl Iterator<Item = [Kind; 2]> {
    KINDS.into_iter().flat_map(|one| KINDS.map(|other| [one, other]))
}

/// Whether a direct path can be: a port that is different for each destination cannot be let in by a port.
fn theory_allows(pair: [Kind; 2]) -> bool {
    let [one, other] = pair;
    let cannot = |one, other| one == Kind::Symmetric && matches!(other, Kind::PortRestricted | Kind::Symmetric);
    !cannot(one, other) && !cannot(other, one)
}

/// What holds in every run; a failure says how to see it again.
#[track_caller]
fn verified(case: &Case) -> Outcome {
    let outcome = run(case);
    if let Err(broken) = outcome.verify(case.loss > 0) {
        panic!("{broken}\n{case:?}\n{outcome:#?}\nSIMULATION_SEED={}", case.seed);
    }
    outcome
}

#[track_caller]
fn becomes(case: &Case, is_relayed: bool, is_direct: bool) -> Outcome {
    let outcome = verified(case);
    let failed = outcome.fates.iter().filter(|fate| fate.direct_failed.is_some()).count();
    let as_expected = outcome.is_relayed() == is_relayed
        && outcome.is_direct() == is_direct
        && failed == if is_direct || !case.direct { 0 } else { 2 };
    assert!(as_expected, "{case:?}\n{outcome:#?}\nSIMULATION_SEED={}", case.seed);
    outcome
}

/// Whoever asks and whoever controls, the relay is used on both sides, and a direct path where it can be.
#[track_caller]
fn all_become(case: &Case, is_direct: bool) {
    for case in sides(case) {
        becomes(&case, true, is_direct);
    }
}

/// The first usable connection comes no later than it would without a direct path.
#[track_caller]
fn is_never_later(case: &Case, outcome: &Outcome) {
    let relay_only = run(&Case { direct: false, ..case.clone() });
    for (fate, alone) in outcome.fates.iter().zip(&relay_only.fates) {
        let is_later = alone.first().is_some_and(|alone| fate.first().is_none_or(|first| first > alone));
        assert!(!is_later, "{case:?}\n{fate:#?}\nalone: {alone:#?}\nSIMULATION_SEED={}", case.seed);
    }
}

/// Where nothing is lost a direct path takes three ways, for punch, handshake and nomination, as long as datagrams that
/// overtake each other cost no more than a retransmission of QUIC.
#[track_caller]
fn is_soon(case: &Case, outcome: &Outcome) {
    let latest = Duration::from_millis(case.skew + 10 * (case.delay + case.jitter) + 350);
    for (_, when) in outcome.fates.iter().filter_map(|fate| fate.direct) {
        assert!(when <= latest, "{when:?} > {latest:?}\n{case:?}\n{outcome:#?}\nSIMULATION_SEED={}", case.seed);
    }
}

fn every_pair(seeds: std::ops::Range<u64>, remembers_early: bool) {
    for seed in seeds {
        for pair in pairs() {
            for case in sides(&Case { remembers_early, ..case(seed, pair.map(Home::Behind)) }) {
                let outcome = becomes(&case, true, theory_allows(pair));
                is_never_later(&case, &outcome);
                is_soon(&case, &outcome);
            }
        }
    }
}

#[test]
fn every_pair_is_relayed_and_direct_where_theory_allows_it() {
    every_pair(0..30, false);
}

#[test]
fn routers_that_remember_an_early_packet_change_nothing() {
    every_pair(100..130, true);
}

/// The same model without the openers: whoever begins sends what the other router is spoilt by.
#[test]
fn without_openers_routers_that_remember_an_early_packet_spoil_the_path() {
    let home = Home::Behind(Kind::PortRestricted);
    let direct = |flaw| {
        // The skew is longer than any datagram takes, so that none cross.
        let early = |seed| Case { remembers_early: true, skew: 300, flaw, ..case(seed, [home; 2]) };
        (0..50).flat_map(|seed| sides(&early(seed))).filter(|case| verified(case).is_direct()).count()
    };
    assert_eq!((direct(Flaw::None), direct(Flaw::NoOpeners)), (200, 0));
}

#[test]
fn two_sides_that_both_nominate_are_found_to_disagree() {
    let home = Home::Behind(Kind::FullCone);
    let disagrees = |seed| run(&Case { flaw: Flaw::BothNominate, ..case(seed, [home; 2]) }).verify(false).is_err();
    assert!((0..50).any(disagrees));
}

/// Each of the first datagrams in turn; QUIC has its own ways with those that are lost of it.
#[test]
fn no_single_lost_datagram_costs_a_fifth_of_a_second() {
    let most = Duration::from_millis(200);
    for pair in pairs().filter(|&pair| theory_allows(pair)) {
        let fair = Case { duplicates: 0, delay: 20, jitter: 0, skew: 150, ..case(1, pair.map(Home::Behind)) };
        for fair in sides(&fair) {
            let undisturbed = becomes(&fair, true, true);
            for number in 1..60 {
                let outcome = becomes(&Case { loses: Some(number), ..fair.clone() }, true, true);
                for (fate, undisturbed) in outcome.fates.iter().zip(&undisturbed.fates) {
                    let times = |fate: &Fate| [fate.relayed, fate.direct].map(|used| used.expect("it is used").1);
                    let pairs = times(fate).into_iter().zip(times(undisturbed));
                    let worst = pairs.map(|(now, before)| now.saturating_sub(before)).max();
                    assert!(worst <= Some(most), "without {number}: {worst:?}\n{fair:?}\n{fate:#?}\n{undisturbed:#?}");
                }
            }
        }
    }
}

/// What heavy loss costs.
#[derive(Debug, Default)]
struct Misses {
    /// Runs of pairs that theory allows a direct path.
    pairs: u32,
    not_direct: u32,
    /// Seeds: pairs of one seed have the same fate at the relay.
    seeds: u32,
    not_relayed: u32,
}

fn misses(seeds: std::ops::Range<u64>, loss: u64) -> Misses {
    let mut misses = Misses::default();
    for seed in seeds {
        let mut is_relayed = true;
        for pair in pairs() {
            let sides = usize::try_from(seed % 4).expect("it is below four");
            let case = Case { asker: sides / 2, controlling: sides % 2, loss, ..case(seed, pair.map(Home::Behind)) };
            let outcome = verified(&case);
            is_never_later(&case, &outcome);
            assert!(theory_allows(pair) || !outcome.is_direct(), "SIMULATION_SEED={seed}");
            misses.pairs += u32::from(theory_allows(pair));
            misses.not_direct += u32::from(theory_allows(pair) && !outcome.is_direct());
            is_relayed &= outcome.is_relayed();
        }
        misses.seeds += 1;
        misses.not_relayed += u32::from(!is_relayed);
    }
    misses
}

#[test]
fn a_tenth_of_all_datagrams_lost_costs_no_path() {
    let misses = misses(0..100, 1_000);
    assert!(misses.not_direct == 0 && misses.not_relayed == 0, "{misses:?}");
}

/// Each way through the relay loses half then.
#[test]
fn three_tenths_lost_leave_nearly_all_paths() {
    let misses = misses(0..250, 3_000);
    assert!(misses.not_direct * 500 <= misses.pairs && misses.not_relayed * 100 <= misses.seeds, "{misses:?}");
}

#[test]
fn who_has_no_nat_is_reached_from_everywhere() {
    for seed in 0..10 {
        for home in KINDS.map(Home::Behind).into_iter().chain([Home::Open]) {
            for homes in [[Home::Open, home], [home, Home::Open]] {
                all_become(&case(seed, homes), true);
            }
        }
    }
}

/// Home routers that remember what nobody asked for, behind the provider's.
#[test]
fn two_nats_in_a_row_are_opened_both() {
    for seed in 0..10 {
        for pair in pairs().filter(|pair| !pair.contains(&Kind::Symmetric)) {
            let homes = pair.map(|kind| Home::Twice(Kind::PortRestricted, kind));
            all_become(&Case { remembers_early: true, ..case(seed, homes) }, true);
        }
    }
}

#[test]
fn two_peers_behind_one_nat_meet_inside_or_by_its_hairpin() {
    for seed in 0..10 {
        for kind in KINDS {
            for (tells_local, hairpins) in [(true, false), (true, true), (false, true), (false, false)] {
                let homes = [Home::Behind(kind); 2];
                let case = Case { is_shared: true, tells_local, hairpins, ..case(seed, homes) };
                let is_direct = tells_local || hairpins && kind != Kind::Symmetric;
                all_become(&case, is_direct);
            }
        }
    }
}

#[test]
fn nats_that_forget_within_a_second_are_kept_awake() {
    for seed in 0..10 {
        for pair in pairs().filter(|&pair| theory_allows(pair)) {
            let short = Case { nat_timeout: Duration::from_secs(1), ..case(3 * seed + 1, pair.map(Home::Behind)) };
            all_become(&short, true);
        }
    }
}

#[test]
fn with_only_one_way_allowed_there_is_no_other() {
    for seed in 0..10 {
        for pair in pairs() {
            let both = case(seed, pair.map(Home::Behind));
            for case in sides(&Case { direct: false, ..both.clone() }) {
                becomes(&case, true, false);
            }
            for case in sides(&Case { relay: false, ..both }) {
                let outcome = becomes(&case, false, theory_allows(pair));
                assert!(outcome.fates.iter().all(|fate| !fate.relay_failed), "SIMULATION_SEED={seed}");
            }
        }
    }
}

#[test]
fn a_stranger_who_is_listed_gets_a_few_punches_and_no_handshake() {
    for seed in 0..10 {
        for pair in pairs() {
            for case in sides(&Case { lists_a_stranger: true, ..case(seed, pair.map(Home::Behind)) }) {
                let outcome = becomes(&case, true, theory_allows(pair));
                let again = format!("SIMULATION_SEED={seed}");
                assert!(outcome.stranger_bytes > 0 && outcome.stranger_bytes < 10_000, "{again} {outcome:#?}");
                assert_eq!(outcome.stranger_initials, 0, "{again}");
            }
        }
    }
}

#[test]
fn who_is_not_heard_says_so() {
    let outcome = becomes(&case(1, [Home::Behind(Kind::Symmetric); 2]), true, false);
    assert!(outcome.fates.iter().all(|fate| fate.direct_failed == Some(NoDirectPath::NoPunch)), "{outcome:#?}");
}

#[test]
fn the_same_seed_gives_the_same_rendezvous() {
    let lossy = Case { loss: 3_000, ..case(7, [Home::Behind(Kind::Symmetric), Home::Behind(Kind::FullCone)]) };
    assert_eq!(run(&lossy), run(&lossy));
}

#[test]
#[ignore = "run by hand, see the top of main.rs"]
#[expect(clippy::print_stdout, reason = "whoever runs it wants the numbers")]
fn by_hand() {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().expect("it is a number"));
    let seeds = match number("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIMULATION_SEEDS").unwrap_or(200),
    };
    every_pair(seeds.clone(), false);
    every_pair(seeds.clone(), true);
    for loss in [1_000, 3_000] {
        println!("{loss} of 10,000 lost: {:?}", misses(seeds.clone(), loss));
    }
}
