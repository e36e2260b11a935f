//! Two people talk, also while one of them or the directory is away.

use std::os::unix::fs::DirBuilderExt as _;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::program::{Person, Process, World, names_in, text};

#[test]
fn the_demo_holds_what_it_promises() {
    let world = World::new();
    let file = world.write("README.md", "a file to cross");
    let outcome = Process::spawn(world.qchat(&format!("demo {}", file.display()))).outcome();
    outcome.expect_code(0);
    assert!(outcome.stdout.contains("their text is nowhere in its folder"), "{}", outcome.stdout);
}

#[test]
fn two_peers_talk_both_ways() {
    let world = World::new();
    let directory = world.directory();
    let mut alice = world.person("alice", &directory).peer();
    let mut bob = world.person("bob", &directory).peer();

    alice.say("/msg bob hello bob");
    assert_eq!(bob.messages(1), ["hello bob"]);
    bob.say("/msg alice  Grüße,   mit Leerzeichen 👋 ");
    assert_eq!(alice.messages(1), ["Grüße,   mit Leerzeichen 👋"]);

    bob.quit();
    assert_eq!(text(&alice.event_where("presence", |event| event["online"] == false), "name"), "bob");
    alice.quit();
}

#[test]
fn more_lines_than_a_mailbox_holds_reach_somebody_who_is_online_all_and_in_order() {
    let world = World::new();
    let directory = world.directory();
    let mut alice = world.person("alice", &directory).peer();
    let mut bob = world.person("bob", &directory).peer();
    let lines: Vec<String> = (0..400).map(|number| format!("line {number}")).collect();

    for line in &lines {
        alice.say(&format!("/msg bob {line}"));
    }

    assert_eq!(bob.messages(lines.len()), lines);
}

#[test]
fn a_line_that_is_not_utf_8_does_not_end_the_peer() {
    let world = World::new();
    let directory = world.directory();
    let mut alice = world.person("alice", &directory).peer();
    let mut bob = world.person("bob", &directory).peer();

    alice.say_bytes(b"/msg bob caf\xe9\n");
    alice.say("/msg bob and on");

    assert_eq!(bob.messages(2), ["caf\u{fffd}", "and on"]);
}

#[test]
fn what_waits_for_somebody_survives_a_killed_directory_and_comes_once() {
    let world = World::new();
    let mut directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let mut alice = alice.peer();
    bob.peer().quit();
    for line in ["one", "two", "three"] {
        alice.say(&format!("/msg bob {line}"));
        alice.event("stored");
    }

    directory.process.kill();
    directory.start_again(&world);

    let mut first_visit = bob.peer();
    assert_eq!(first_visit.messages(3), ["one", "two", "three"]);
    first_visit.quit();
    let mut second_visit = bob.peer();
    alice.say("/msg bob four");
    assert_eq!(second_visit.messages(1), ["four"]);
}

#[test]
fn what_is_written_while_the_directory_is_down_is_sent_when_it_is_back() {
    let world = World::new();
    let mut directory = world.directory();
    let mut alice = world.person("alice", &directory).peer();
    let mut bob = world.person("bob", &directory).peer();
    alice.say("/msg bob before");
    assert_eq!(bob.messages(1), ["before"]);
    alice.event("stored");

    directory.process.kill();
    for line in ["one", "two", "three"] {
        alice.say(&format!("/msg bob {line}"));
        alice.event("queued");
    }
    directory.start_again(&world);

    assert_eq!(bob.messages(3), ["one", "two", "three"]);
    for _ in 0..3 {
        alice.event("stored");
    }
    alice.say("/msg bob four");
    assert_eq!(bob.messages(1), ["four"], "nothing came twice");
}

#[test]
fn what_is_in_the_outbox_survives_a_killed_peer() {
    let world = World::new();
    let mut directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let mut alice_first = alice.peer();
    let mut bob = bob.peer();
    alice_first.say("/msg bob before");
    assert_eq!(bob.messages(1), ["before"]);
    alice_first.event("stored");

    directory.process.kill();
    let typed = Instant::now();
    for line in ["kept on disk", "also kept"] {
        alice_first.say(&format!("/msg bob {line}"));
        alice_first.event("queued");
    }
    assert!(
        typed.elapsed() < Duration::from_secs(8),
        "the disk does not wait for the directory: {:?}",
        typed.elapsed()
    );
    alice_first.kill();
    directory.start_again(&world);

    let mut alice_second = alice.peer();
    alice_second.event("stored");
    assert_eq!(bob.messages(2), ["kept on disk", "also kept"]);
}

#[test]
fn a_directory_that_is_told_to_stop_does_so_in_good_order_and_its_peers_come_back() {
    let world = World::new();
    let mut directory = world.directory();
    let mut alice = world.person("alice", &directory).peer();
    let mut bob = world.person("bob", &directory).peer();

    directory.process.signal(Signal::TERM);
    let stopped = std::mem::replace(&mut directory.process, Process::spawn(world.qchat("--version")));
    stopped.outcome().expect_code(0);
    alice.event("directory_lost");
    bob.event("directory_lost");

    directory.start_again(&world);
    alice.event("logged_in");
    bob.event("logged_in");
    alice.say("/msg bob we are back");
    assert_eq!(bob.messages(1), ["we are back"]);
}

#[test]
fn a_newer_peer_of_the_same_account_takes_over_and_the_older_one_says_so() {
    let world = World::new();
    let directory = world.directory();
    let here = world.person("alice", &directory);
    let mut older = here.peer();

    let other_machine = World::new();
    let there = other_machine.person("alice", &directory);
    let identity = |person: &Person<'_>, of: &Person<'_>| {
        let folder = names_in(&of.home()).into_iter().find(|name| name.len() == 16);
        person.home().join(folder.expect("a folder for the directory")).join("alice")
    };
    let copy = identity(&there, &here);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&copy).unwrap();
    std::fs::copy(identity(&here, &here).join("identity"), copy.join("identity")).unwrap();
    let mut newer = there.peer();

    older.event("logged_in_elsewhere");
    older.outcome().expect_error(14, "logged in elsewhere");
    newer.say("/who");
    assert_eq!(text(&newer.event("person"), "name"), "alice");
}
