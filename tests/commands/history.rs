//! What people see of their messages afterwards: history, search, inbox, audit and the activity log.

use std::os::unix::fs::PermissionsExt as _;

use crate::program::{Outcome, Person, Process, World, text};

/// A conversation of three lines and an offer, seen by both.
fn talk(alice: &mut Process, bob: &mut Process) {
    alice.say("/msg bob Dinner AND wine at seven? 🍷");
    assert_eq!(bob.messages(1).len(), 1);
    bob.say("/msg alice \"Café\" at eight, (not) seven*");
    assert_eq!(alice.messages(1).len(), 1);
    alice.say("/msg bob fine");
    assert_eq!(bob.messages(1), ["fine"]);
}

/// Asks what lies on the disk: such a verb knows nothing of passwords.
fn on_disk(person: &Person<'_>, verb: &str, last: &[&str]) -> Outcome {
    let (name, server, home) = (person.name, &person.server, person.home());
    let whose = format!("{verb} --user {name} --server {server} --home {}", home.display());
    let mut command = person.world.qchat(&whose);
    command.args(last).current_dir(person.folder());
    Process::spawn(command).outcome()
}

/// The texts of the history that it shows with `--json`.
#[track_caller]
fn texts(person: &Person<'_>, last: &[&str]) -> Vec<String> {
    let outcome = on_disk(person, "history --json", last);
    outcome.expect_code(0);
    outcome.events().iter().map(|row| text(row, "text").to_owned()).collect()
}

#[test]
fn both_sides_have_the_history_with_a_peer_running_and_without_a_directory() {
    let world = World::new();
    let mut directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let (mut alice_peer, mut bob_peer) = (alice.peer(), bob.peer());
    talk(&mut alice_peer, &mut bob_peer);
    alice.file("plan.txt", "a plan");
    alice_peer.say("/send bob plan.txt");
    bob_peer.event("offer");

    let through_peer = on_disk(&bob, "history --json", &["alice"]);
    through_peer.expect_code(0);
    alice_peer.say("/history bob");
    assert_eq!(text(&alice_peer.event("history"), "direction"), "out");
    alice_peer.quit();
    bob_peer.quit();
    directory.process.kill();

    let rows = on_disk(&bob, "history --json", &["alice"]).events();
    assert_eq!(rows, through_peer.events());
    assert_eq!(rows.len(), 4);
    let (first, offer) = (&rows[0], &rows[3]);
    for (field, value) in
        [("event", "history"), ("direction", "in"), ("from", "alice"), ("to", "bob"), ("what", "text")]
    {
        assert_eq!(text(first, field), value);
    }
    assert_eq!(
        (text(first, "state"), first["late"].as_bool(), first["number"].as_u64()),
        ("shown", Some(false), Some(1))
    );
    assert_eq!((text(first, "id").len(), first["sent_at"].is_u64()), (32, true));
    assert_eq!((text(offer, "what"), text(offer, "name"), offer["size"].as_u64()), ("offer", "plan.txt", Some(6)));
    assert_eq!(text(offer, "digest").len(), 64);

    let ours = on_disk(&alice, "history --json", &["bob", "--limit", "2"]).events();
    assert_eq!(ours.iter().map(|row| text(row, "what")).collect::<Vec<_>>(), ["text", "offer"]);
    let states = ["stored", "delivered", "read"];
    assert!(ours.iter().all(|row| states.contains(&text(row, "state"))), "{ours:?}");
    let older = texts(&alice, &["--before", text(&ours[0], "id")]);
    assert_eq!(older, ["Dinner AND wine at seven? 🍷", "\"Café\" at eight, (not) seven*"]);
    assert_eq!(texts(&alice, &["bob", "--before", "2001-01-01"]), [""; 0]);

    let read = on_disk(&alice, "history", &["bob", "--limit", "3"]);
    assert!(
        read.stdout.contains("] bob: \"Café\" at eight") && read.stdout.contains(" offers plan.txt (6 B)"),
        "{read:?}"
    );
    assert_eq!(read.stderr, "");
}

#[test]
fn a_search_takes_any_words_for_words() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let (mut alice_peer, mut bob_peer) = (alice.peer(), bob.peer());
    talk(&mut alice_peer, &mut bob_peer);
    bob_peer.quit();

    let count = |words: &str| texts(&alice, &[&format!("--search={words}")]).len();
    for (words, expected) in [
        ("seven", 2),
        ("SEV", 2),
        ("AND", 1),
        ("wine AND", 1),
        ("cafe", 1),
        ("\"caf", 1),
        ("seven*", 2),
        ("🍷", 1),
        ("-fine", 1),
    ] {
        assert_eq!(count(words), expected, "{words:?}");
    }
    assert_eq!(count(&"x".repeat(10_000)), 0);
    for nothing in ["", " ", "\"", "*", "(", "--"] {
        on_disk(&alice, "history", &[&format!("--search={nothing}")]).expect_error(2, "nothing to search for");
    }
    on_disk(&alice, "history", &["--search", &"word ".repeat(2_000)]).expect_error(2, "at most 32 words");
    alice_peer.say("/history --search eight");
    assert!(text(&alice_peer.event("history"), "text").contains("eight"));
    alice_peer.say("/history bob \"");
    assert!(text(&alice_peer.event("failed")["failure"], "message").contains("nothing to search for"));
    alice_peer.quit();
    assert_eq!(count("eight"), 1, "without a peer too");
}

#[test]
fn what_cannot_be_looked_up_is_said_clearly() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    alice.peer().quit();

    on_disk(&bob, "history", &[]).expect_error(1, "bob at");
    on_disk(&bob, "audit", &["alice"]).expect_error(1, "has no key on this machine");
    on_disk(&alice, "history", &["carol"]).expect_error(1, "nothing was ever said with carol");
    on_disk(&alice, "audit", &["carol"]).expect_error(1, "nothing was ever said with carol");
    on_disk(&alice, "history", &["--before", "00"]).expect_error(2, "no message has the id 00");
    assert_eq!(texts(&alice, &[]), [""; 0]);
    for (verb, last) in [
        ("history", &["B*b"][..]),
        ("history", &["bob", "--limit", "-1"]),
        ("history", &["bob", "--limit", "many"]),
        ("history", &["bob", "--before", "yesterday"]),
        ("history", &["bob", "carol"]),
        ("audit", &[]),
        ("audit", &["bob", "carol"]),
        ("inbox", &["bob"]),
    ] {
        on_disk(&alice, verb, last).expect_code(2);
    }
}

#[test]
fn an_audit_of_an_honest_directory_is_clean() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let (mut alice_peer, mut bob_peer) = (alice.peer(), bob.peer());
    talk(&mut alice_peer, &mut bob_peer);

    alice_peer.say("/audit bob");
    let row = alice_peer.event("audit");
    assert_eq!((row["sent"].as_u64(), row["received"].as_u64(), row["missing"].as_u64()), (Some(2), Some(1), Some(0)));
    assert_eq!((row["clean"].as_bool(), row["keys"].as_u64()), (Some(true), Some(1)));
    alice_peer.quit();
    bob_peer.quit();

    let outcome = on_disk(&bob, "audit", &["alice"]);
    outcome.expect_code(0);
    assert!(outcome.stdout.contains("nothing lost, replayed or reordered"), "{outcome:?}");
    assert_eq!(on_disk(&bob, "audit --json", &["alice"]).events().len(), 1);
}

#[test]
fn the_inbox_of_a_running_peer_is_what_it_has_not_shown() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let (mut alice_peer, mut bob_peer) = (alice.peer(), bob.peer());
    talk(&mut alice_peer, &mut bob_peer);
    alice.file("plan.txt", "a plan");
    alice_peer.say("/send bob plan.txt");
    bob_peer.event("offer");

    let rows = bob.rows("inbox", &[]);
    assert_eq!(rows.iter().map(|row| text(row, "event")).collect::<Vec<_>>(), ["offer"], "the rest is on the screen");
    assert_eq!(alice.rows("inbox", &[]).len(), 0);
    bob_peer.say("/inbox");
    assert_eq!(text(&bob_peer.event("offer"), "name"), "plan.txt");
    bob_peer.quit();
    alice_peer.quit();
}

#[test]
fn an_inbox_without_a_peer_takes_nothing_when_nothing_waits() {
    let world = World::new();
    let directory = world.directory();
    let alice = world.person("alice", &directory);
    alice.peer().quit();
    assert_eq!(alice.rows("inbox --no-read-receipts", &[]).len(), 0);
}

#[test]
fn an_inbox_without_a_peer_takes_all_that_waits_and_shows_it_once() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    bob.peer().quit();
    for line in ["one", "two", "three"] {
        alice.rows("msg", &["bob", line]);
    }

    let rows = bob.rows("inbox", &[]);
    assert_eq!(rows.iter().map(|row| text(row, "text")).collect::<Vec<_>>(), ["one", "two", "three"]);

    assert_eq!(bob.rows("inbox", &[]).len(), 0, "each is shown once");
    let mut bob_peer = bob.peer();
    alice.rows("msg", &["bob", "four"]);
    assert_eq!(bob_peer.messages(1), ["four"]);
    assert_eq!(texts(&bob, &["alice"]), ["one", "two", "three", "four"]);
}

#[test]
fn what_could_not_be_printed_is_still_new_and_read_receipts_come_at_once() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    bob.peer().quit();
    let mut alice = alice.peer();
    alice.say("/msg bob not lost");
    alice.event("stored");

    let inbox = bob.command("inbox --json", &[]);
    let mut to_full_disk = std::process::Command::new("sh");
    to_full_disk.args(["-c", "exec \"$@\" >/dev/full", "sh"]).arg(inbox.get_program()).args(inbox.get_args());
    let mut to_full_disk = world.set_up(to_full_disk, "");
    to_full_disk.current_dir(bob.folder());
    Process::spawn(to_full_disk).outcome().expect_error(13, "standard output takes no more");

    let kinds: Vec<_> = bob.rows("inbox", &[]).iter().map(|row| text(row, "event").to_owned()).collect();
    assert_eq!(kinds, ["again", "message"]);
    alice.event("read");
    assert_eq!(bob.rows("inbox", &[]).len(), 0);
}

#[test]
fn the_activity_log_has_a_line_for_each_state_and_no_text_of_a_message() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let logged = |person: &Person<'_>| {
        let path = person.folder().join("activity.log");
        let mut peer = Process::spawn(person.command(&format!("peer --json --log {}", "activity.log"), &[]));
        peer.event("logged_in");
        (peer, path)
    };
    let ((mut alice_peer, alice_log), (mut bob_peer, bob_log)) = (logged(&alice), logged(&bob));
    talk(&mut alice_peer, &mut bob_peer);
    let id = text(&alice_peer.event("queued"), "id").to_owned();
    alice_peer.quit();
    bob_peer.quit();

    for (path, line) in
        [(alice_log, format!("out text bob {id} queued")), (bob_log, format!("in text alice {id} shown"))]
    {
        let log = std::fs::read_to_string(&path).unwrap();
        assert!(log.lines().any(|found| found.ends_with(&line)), "{line:?} should be in:\n{log}");
        for word in ["Dinner", "wine", "Café", "eight", "fine", "🍷"] {
            assert!(!log.contains(word), "{word:?} is in:\n{log}");
        }
        assert!(log.lines().all(|line| line.split(' ').count() == 6), "{log}");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_log_that_cannot_be_written_is_an_error_at_the_start() {
    let world = World::new();
    let directory = world.directory();
    let alice = world.person("alice", &directory);
    alice.run("peer --log nowhere/activity", &[]).expect_error(2, "nowhere/activity");
    alice.run("peer --log .", &[]).expect_error(2, "activity log .");
    alice.run("peer --log /dev/full", &[]).expect_error(13, "/dev/full");

    let mut command = alice.command("peer --json", &[]);
    command.env("QCHAT_LOG", "by-environment");
    Process::spawn(command).outcome().expect_code(0);
    let log = std::fs::read_to_string(alice.folder().join("by-environment")).unwrap();
    assert!(log.ends_with(" - session alice - started\n"), "{log}");
}
