//! `--limit` and `/limit`: how fast files go, how several share that, and what is no limit.

use std::time::{Duration, Instant};

use crate::program::{Process, World, content};

/// What the sender allows in a second, as it is typed and as a number.
const LIMIT: (&str, f64) = ("2M", 2e6);
const FILE_BYTES: usize = 6_000_000;
/// Bytes that the first of two fetches meanwhile.
const COMPARED: u64 = 2_000_000;

#[test]
fn two_who_fetch_at_once_get_the_same_and_no_more_than_the_limit() {
    let world = World::new();
    let directory = world.directory();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| world.person(name, &directory));
    let mut peer = Process::spawn(alice.command(&format!("peer --json --limit {}", LIMIT.0), &[]));
    peer.event("logged_in");
    alice.file("large.bin", content(FILE_BYTES));
    alice.run("share", &["large.bin"]).expect_code(0);

    let [mut bobs, mut carols] =
        [&bob, &carol].map(|person| Process::spawn(person.command("get --json", &["alice:large.bin"])));
    let mut at_first = [next(&mut bobs, 0), next(&mut carols, 0)];
    at_first[0] = newest(&mut bobs, at_first[0]);
    let begun = Instant::now();
    let bob_has = next(&mut bobs, at_first[0] + COMPARED);
    let (carol_has, took) = (newest(&mut carols, at_first[1]), begun.elapsed());
    let [bob_got, carol_got] = [bob_has - at_first[0], carol_has - at_first[1]];
    let both = bob_got + carol_got;

    assert!((35..=65).contains(&(100 * carol_got / both)), "carol got {carol_got} while bob got {bob_got}");
    // The first of them may come before the clock is looked at: what is said is a tenth of a second old.
    let most = LIMIT.1 * (took + Duration::from_millis(300)).as_secs_f64();
    assert!(Duration::from_secs(1) < took && both as f64 <= most, "{both} bytes in {took:?}");

    peer.say("/limit off");
    assert!(peer.event("limit")["bytes_per_second"].is_null());
    for process in [bobs, carols] {
        process.outcome().expect_code(0);
    }
    assert_eq!(std::fs::read(carol.folder().join("large.bin")).unwrap(), content(FILE_BYTES));
}

#[test]
fn whoever_fetches_may_limit_that_too() {
    let world = World::new();
    let directory = world.directory();
    let [alice, bob] = ["alice", "bob"].map(|name| world.person(name, &directory));
    let _peer = alice.peer();
    alice.file("file.bin", content(3_000_000));
    alice.run("share", &["file.bin"]).expect_code(0);
    let begun = Instant::now();
    bob.run("get --limit 1.5M", &["alice:file.bin"]).expect_code(0);
    // The first group comes at once.
    assert!(begun.elapsed() >= Duration::from_millis(1_700), "{:?}", begun.elapsed());
}

#[test]
fn what_is_no_limit_is_said_in_one_line() {
    let world = World::new();
    let directory = world.directory();
    let alice = world.person("alice", &directory);
    for wrong in ["fast", "0", "49K", "5MB", "-1M"] {
        let outcome = alice.run(&format!("get --limit={wrong}"), &["bob:x"]);
        outcome.expect_code(2);
        assert!(outcome.stderr.contains("bytes in a second, such as 500K or 1.5M"), "{}", outcome.stderr);
    }
    let mut peer = alice.peer();
    peer.say("/limit 1.5M");
    assert_eq!(peer.event("limit")["bytes_per_second"], 1_500_000);
    peer.say("/limit");
    assert_eq!(peer.event("limit")["bytes_per_second"], 1_500_000);
    alice.run("get --limit 1M", &["bob:x"]).expect_error(2, "your peer runs here, and it decides how fast files go");
}

/// Bytes that are here, of the next word that there are so many.
#[track_caller]
fn next(get: &mut Process, at_least: u64) -> u64 {
    let is_enough = |done: Option<u64>| done.is_some_and(|done| done >= at_least);
    let event =
        get.event_where("progress", |event| event["activity"] == "receiving" && is_enough(event["done"].as_u64()));
    event["done"].as_u64().expect("a number of bytes")
}

/// Bytes that are here by what was said of it meanwhile.
fn newest(get: &mut Process, mut done: u64) -> u64 {
    while let Some(event) = get.event_within(Duration::ZERO) {
        done = event["done"].as_u64().unwrap_or(done);
    }
    done
}
