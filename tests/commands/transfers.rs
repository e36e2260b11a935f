//! Transfers from outside: they survive whatever is killed, and verbs list, pause and end them. The large version, with
//! 50 kills in 2 GiB, is `tests/kill/run`.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::program::{DEADLINE, Directory, Person, Process, World, content, names_in, text};

/// Bytes of a file that takes long enough to be killed in.
const LARGE: usize = 96 << 20;

fn alice_and_bob<'a>(world: &'a World, directory: &Directory) -> (Person<'a>, Person<'a>) {
    (world.person("alice", directory), world.person("bob", directory))
}

/// Waits until bytes of a file come.
fn receiving(peer: &mut Process) -> Value {
    peer.event_where("progress", |event| event["activity"] == "receiving")
}

fn transfer_that_is(peer: &mut Process, state: &str) -> Value {
    peer.event_where("transfer", |event| event["state"] == state)
}

fn same_bytes(alice: &Person<'_>, bob: &Person<'_>, name: &str) -> bool {
    let read = |person: &Person<'_>| std::fs::read(person.folder().join(name)).expect("it is there");
    read(alice) == read(bob)
}

#[test]
fn a_transfer_survives_kills_of_both_sides_without_being_asked_again() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = alice_and_bob(&world, &directory);
    alice.file("large.bin", content(LARGE));
    let (mut alice_peer, mut bob_peer) = (alice.peer(), bob.peer());
    alice.rows("share", &["large.bin"]);
    bob_peer.say("/get alice:large.bin");
    receiving(&mut bob_peer);

    for kill in 0..5 {
        if kill % 2 == 0 {
            bob_peer.kill();
            bob_peer = bob.peer();
            let goes_on = transfer_that_is(&mut bob_peer, "running");
            assert!(goes_on["done"].as_u64().unwrap() > 0, "{goes_on}");
            receiving(&mut bob_peer);
        } else {
            alice_peer.kill();
            alice_peer = alice.peer();
        }
    }
    let received = bob_peer.event("received");

    assert!(received["resumed"].as_u64().unwrap() > 0, "{received}");
    assert!(same_bytes(&alice, &bob, "large.bin"));
    assert_eq!(names_in(&bob.folder()), ["large.bin"], "no part file is left");
    assert_eq!(bob.rows("transfers", &[]), Vec::<Value>::new());
}

#[test]
fn an_offer_survives_kills_of_both_between_offer_and_acceptance_and_after_it() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = alice_and_bob(&world, &directory);
    let mut bob_peer = bob.peer();
    let mut alice_peer = alice.peer();
    alice_peer.say("/msg bob hello");
    bob_peer.messages(1);
    bob_peer.kill();
    alice_peer.event_where("presence", |event| event["name"] == "bob" && event["online"] == false);
    alice.file("offered.bin", content(700_000));

    let queued = alice.run("send", &["bob", "offered.bin"]);
    queued.expect_code(0);
    assert!(queued.stderr.contains("queued, starts when bob is back"), "{}", queued.stderr);
    alice_peer.kill();
    let mut bob_peer = bob.peer();
    bob_peer.event("offer");
    bob_peer.kill();
    let mut bob_peer = bob.peer();
    // Nobody has told the directory that she is gone.
    let until = Instant::now() + DEADLINE;
    while !bob.rows("who", &["alice"]).is_empty() {
        assert!(Instant::now() < until, "alice is still listed");
    }
    let accepted = bob.run("accept", &["alice"]);
    accepted.expect_error(5, "offered.bin waits: alice is not online");
    let listed = bob.rows("transfers", &[]);
    assert_eq!((listed.len(), text(&listed[0], "state")), (1, "waiting"));
    bob_peer.kill();
    let _alice_peer = alice.peer();
    let mut bob_peer = bob.peer();

    bob_peer.event("received");
    assert!(same_bytes(&alice, &bob, "offered.bin"));
    assert_eq!(bob.rows("offers", &[]), Vec::<Value>::new());
    assert_eq!(alice.rows("offers", &[]), Vec::<Value>::new());
}

#[test]
fn a_verb_that_is_stopped_leaves_the_transfer_to_the_peer_and_another_ends_it() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = alice_and_bob(&world, &directory);
    alice.file("large.bin", content(LARGE));
    let (_alice_peer, mut bob_peer) = (alice.peer(), bob.peer());
    alice.rows("share", &["large.bin"]);
    let mut get = Process::spawn(bob.command("get --json", &["alice:large.bin"]));
    receiving(&mut get);

    get.signal(Signal::INT);
    let stopped = get.outcome();
    stopped.expect_error(130, "your running peer goes on with the transfer");
    bob.run("pause", &["large.bin"]).expect_code(0);
    let paused = bob.rows("transfers", &[]);
    assert_eq!(text(&paused[0], "state"), "paused");
    bob.run("cancel", &["ffff"]).expect_error(2, "begins with \"ffff\"");
    bob.rows("cancel", &[&text(&paused[0], "id")[..8]]);

    assert_eq!(bob.rows("transfers", &[]), Vec::<Value>::new());
    assert_eq!(names_in(&bob.folder()), Vec::<String>::new());
    assert!(bob_peer.event_within(Duration::ZERO).is_none_or(|event| event["event"] != "received"));
}

#[test]
fn without_a_peer_an_interrupted_transfer_is_listed_and_resumed() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = alice_and_bob(&world, &directory);
    alice.file("large.bin", content(LARGE));
    let _alice_peer = alice.peer();
    alice.rows("share", &["large.bin"]);
    let mut get = Process::spawn(bob.command("get --json", &["alice:large.bin"]));
    receiving(&mut get);
    get.kill();

    let listed = bob.rows("transfers", &[]);
    assert_eq!((listed.len(), text(&listed[0], "state")), (1, "interrupted"));
    let rows = bob.rows("resume", &[&text(&listed[0], "id")[..8]]);

    let received = rows.last().unwrap();
    assert_eq!(text(received, "event"), "received");
    assert!(same_bytes(&alice, &bob, "large.bin"));
    assert_eq!(bob.rows("transfers", &[]), Vec::<Value>::new());
}

#[test]
fn a_pause_is_said_once_and_the_sender_lists_nothing_that_stands_still() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = alice_and_bob(&world, &directory);
    alice.file("large.bin", content(LARGE));
    let mut alice_peer = alice.peer();
    alice.rows("share", &["large.bin"]);
    let mut bob_peer = Process::spawn(bob.command("peer --limit 5M", &[]));
    bob_peer.line_with("logged in");

    bob_peer.say("/get alice:large.bin");
    alice_peer.event_where("progress", |event| event["activity"] == "sending");
    bob_peer.say("/pause");
    // The stream is broken off, and nobody waits for what might come instead.
    let end = "* bob has stopped taking large.bin: it was paused or cancelled there";
    alice_peer.event_where("note", |event| text(event, "text") == end);
    assert_eq!(alice.rows("transfers", &[]), Vec::<Value>::new());

    bob_peer.line_with("large.bin from alice is paused; `/resume ");
    bob_peer.say("/quit");
    let outcome = bob_peer.outcome();
    let said = format!("{}\n{}", outcome.stdout, outcome.stderr);
    assert_eq!(said.matches("is paused").count(), 1, "{said}");
}

#[test]
fn a_sender_lists_nothing_that_has_arrived() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = alice_and_bob(&world, &directory);
    alice.file("small.bin", content(700_000));
    let mut alice_peer = alice.peer();
    alice.rows("share", &["small.bin"]);
    bob.rows("get", &["alice:small.bin"]);
    alice_peer.event("sent");
    assert_eq!(alice.rows("transfers", &[]), Vec::<Value>::new());
}

/// A file of which bob's peer has fetched some bytes, slowly, before it was killed.
fn killed_while_fetching(alice: &Person<'_>, bob: &Person<'_>) -> Process {
    alice.file("large.bin", content(LARGE));
    let alice_peer = alice.peer();
    alice.rows("share", &["large.bin"]);
    let mut bob_peer = Process::spawn(bob.command("peer --limit 5M --json", &[]));
    bob_peer.event("logged_in");
    bob_peer.say("/get alice:large.bin");
    receiving(&mut bob_peer);
    bob_peer.kill();
    alice_peer
}

#[test]
fn what_arrives_after_a_kill_is_not_cancelled_by_its_sender_any_more() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = alice_and_bob(&world, &directory);
    let mut alice_peer = killed_while_fetching(&alice, &bob);
    bob.rows("resume", &["large.bin"]);
    alice_peer.event("sent");
    // The stream to the program that was killed is still open.
    assert_eq!(alice.rows("transfers", &[]), Vec::<Value>::new());
    alice.run("cancel", &["large.bin"]).expect_code(2);
    bob.rows("get --rename", &["alice:large.bin"]);
}

#[test]
fn what_has_come_in_part_stays_listed_when_it_cannot_go_on() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = alice_and_bob(&world, &directory);
    let _alice_peer = killed_while_fetching(&alice, &bob);
    bob.file("large.bin", "another");
    bob.run("resume", &["large.bin"]).expect_error(1, "large.bin exists already");
    let part = bob.folder().join(".large.bin.qpart");
    assert_eq!((bob.rows("transfers", &[]).len(), part.exists()), (1, true));
    bob.rows("cancel", &["large.bin"]);
    assert_eq!((bob.rows("transfers", &[]).len(), part.exists()), (0, false));
}

#[test]
fn a_verb_whose_peer_is_killed_says_that_what_came_is_kept() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = alice_and_bob(&world, &directory);
    alice.file("large.bin", content(LARGE));
    let (_alice_peer, mut bob_peer) = (alice.peer(), bob.peer());
    alice.rows("share", &["large.bin"]);
    let mut get = Process::spawn(bob.command("get --json", &["alice:large.bin"]));
    receiving(&mut get);

    bob_peer.kill();
    let outcome = get.outcome();
    outcome.expect_error(5, "what came is kept: the same command goes on from there");
    assert!(!outcome.stderr.contains("all the same"), "{}", outcome.stderr);
}

#[test]
fn an_offer_that_was_accepted_waits_for_no_answer_any_more() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = alice_and_bob(&world, &directory);
    for name in ["one.txt", "two.txt"] {
        alice.file(name, name);
    }
    let (mut alice_peer, mut bob_peer) = (alice.peer(), bob.peer());
    alice_peer.say("/send bob one.txt");
    let first = bob_peer.event("offer");
    alice_peer.kill();
    bob_peer.event_where("presence", |event| event["name"] == "alice" && event["online"] == false);
    bob.run("accept", &["one.txt"]).expect_error(5, "one.txt waits");

    bob.run("accept", &[]).expect_error(2, "no offer waits for an answer");
    bob.run("decline", &[]).expect_error(2, "no offer waits for an answer");
    bob.run("accept", &["alice"]).expect_error(5, "one.txt waits");
    let mut alice_peer = alice.peer();
    bob_peer.event_where("received", |event| text(event, "path").ends_with("one.txt"));
    alice_peer.say("/send bob two.txt");
    let second = bob_peer.event("offer");
    assert_ne!(first["id"], second["id"]);
    bob.rows("accept", &["alice"]);
    assert!(same_bytes(&alice, &bob, "two.txt"));
}

#[test]
fn a_name_that_is_taken_is_said_at_once_and_nothing_is_left_to_go_on_with() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = alice_and_bob(&world, &directory);
    for person in [&alice, &bob] {
        std::fs::create_dir(person.folder().join("photos")).unwrap();
        person.file("note.txt", person.name);
        person.file("photos/one.txt", person.name);
    }
    let (mut alice_peer, mut bob_peer) = (alice.peer(), bob.peer());
    alice.rows("share", &["note.txt"]);
    bob.run("get", &["alice:note.txt"]).expect_error(1, "note.txt exists already");
    alice_peer.say("/send bob photos");
    bob_peer.event("offer");
    alice_peer.kill();
    bob_peer.event_where("presence", |event| event["name"] == "alice" && event["online"] == false);
    // Before anybody is waited for.
    bob.run("accept", &["photos"]).expect_error(1, "photos exists already");
    assert_eq!(bob.rows("transfers", &[]), Vec::<Value>::new());
    let _alice_peer = alice.peer();
    bob.rows("accept --rename", &["photos"]);
    assert_eq!(std::fs::read(bob.folder().join("photos (1)/one.txt")).unwrap(), b"alice");
}

#[test]
fn a_transfer_that_lost_its_folder_says_what_to_do() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = alice_and_bob(&world, &directory);
    alice.file("large.bin", content(LARGE));
    let (_alice_peer, mut bob_peer) = (alice.peer(), bob.peer());
    alice.rows("share", &["large.bin"]);
    let into = world.folder("into");
    bob_peer.say("/limit 5M");
    bob_peer.say(&format!("/get alice:large.bin --out '{}'", into.display()));
    receiving(&mut bob_peer);
    bob.run("pause", &["large.bin"]).expect_code(0);
    std::fs::remove_dir_all(&into).unwrap();
    bob.run("resume", &["large.bin"]).expect_error(2, "there is no folder");

    let listed = bob.run("transfers", &[]);
    for says in ["there is no folder", "make it first", "; `qchat resume "] {
        assert!(listed.stdout.contains(says), "{says:?} should be in {}", listed.stdout);
    }
    std::fs::create_dir(&into).unwrap();
    bob_peer.say("/limit off");
    bob.rows("resume", &["large.bin"]);
    assert_eq!(std::fs::read(into.join("large.bin")).unwrap(), content(LARGE));
}
