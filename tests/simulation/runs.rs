//! The runs themselves, and what must be found in runs with a saboteur.

use std::collections::BTreeMap;
use std::env;

use crate::auditor::Promise;
use crate::scene::Sabotage;
use crate::world::Run;

const MESSAGES: u64 = 500;

/// Runs these seeds with the transparent seal.
fn transparent(seeds: impl IntoIterator<Item = u64>) {
    for seed in seeds {
        passes(Run::transparent(seed, MESSAGES));
    }
}

#[track_caller]
fn passes(run: Run) {
    if let Err(report) = run.go() {
        panic!("{report}again: SIMULATION_SEED={} SIMULATION_MESSAGES={}", run.seed, run.messages);
    }
}

#[test]
fn seeds_0_to_49() {
    transparent(0..50);
}

#[test]
fn seeds_50_to_99() {
    transparent(50..100);
}

#[test]
fn seeds_100_to_149() {
    transparent(100..150);
}

#[test]
fn seeds_150_to_199() {
    transparent(150..200);
}

#[test]
fn five_seeds_with_the_real_seal() {
    for seed in 1_000..1_005 {
        passes(Run { is_sealed: true, ..Run::transparent(seed, 200) });
    }
}

#[test]
#[ignore = "run by hand, see the top of main.rs"]
fn by_hand() {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().expect("it is a number"));
    let messages = number("SIMULATION_MESSAGES").unwrap_or(MESSAGES);
    let seeds = match number("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIMULATION_SEEDS").unwrap_or(200),
    };
    for seed in seeds {
        passes(Run::transparent(seed, messages));
    }
}

/// What never happens is not tested.
#[test]
fn all_that_can_happen_happens_in_a_few_runs() {
    let mut seen = BTreeMap::new();
    for seed in 0..20 {
        let outcome = Run::transparent(seed, MESSAGES).go().unwrap_or_else(|report| panic!("{report}"));
        for (what, times) in outcome.seen {
            *seen.entry(what).or_insert(0) += times;
        }
    }
    let rare = ["refused", "missing", "cannot open", "given back", "peer restored", "directory restored", "read"];
    for what in rare {
        assert!(seen.get(what).is_some_and(|&times| times >= 10), "{what} is too rare: {seen:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = Run::transparent(7, MESSAGES);
    assert_eq!(run.go(), run.go());
}

// --- a simulation that cannot fail proves nothing

/// Within so many seeds a run with this saboteur is found to break a promise.
#[track_caller]
fn is_found(sabotage: Sabotage, promises: &[Promise]) {
    let broken = |seed: u64| Run { sabotage, ..Run::transparent(seed, MESSAGES) }.go().err();
    let Some(report) = (0..40).find_map(broken) else { panic!("nobody noticed {sabotage:?}") };
    assert!(promises.iter().any(|promise| report.contains(&format!("\n{promise:?}: "))), "{report}");
}

#[test]
fn the_auditor_finds_a_peer_that_acknowledges_before_it_has_committed() {
    is_found(Sabotage::PeerAcknowledgesFirst, &[Promise::Stages, Promise::NothingLost]);
}

#[test]
fn the_auditor_finds_a_directory_that_acknowledges_before_it_has_committed() {
    is_found(Sabotage::DirectoryAcknowledgesFirst, &[Promise::NothingLost]);
}

#[test]
fn the_auditor_finds_a_peer_that_forgets_what_came() {
    is_found(Sabotage::ForgetsWhatCame, &[Promise::NothingTwice]);
}

#[test]
fn the_auditor_finds_a_peer_that_mistakes_one_attempt_for_another() {
    is_found(Sabotage::IgnoresAttempt, &[Promise::NothingLost]);
}

#[test]
fn the_auditor_finds_a_peer_that_never_asks_what_is_missing() {
    is_found(Sabotage::NeverAsksWhatIsMissing, &[Promise::Stages]);
}

#[test]
fn the_auditor_finds_a_peer_that_holds_nothing() {
    is_found(Sabotage::HoldsNothing, &[Promise::Order]);
}
