//! One-shot verbs: through the resident peer while one runs, as errands when none does. Scripts live on their exit
//! codes and on a standard output that holds nothing but data.

use std::os::unix::fs::PermissionsExt as _;

use crate::program::{Process, World, names_in, text};

#[test]
fn verbs_go_through_the_running_peer_and_never_take_its_session() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let mut alice_peer = alice.peer();
    let mut bob_peer = bob.peer();
    alice.file("from alice.txt", "alice's bytes");
    bob.file("from bob.txt", "bob's bytes");

    assert_eq!(names_of(&alice.rows("who", &[]), "name"), ["alice", "bob"]);
    assert_eq!(names_of(&alice.rows("share", &["from alice.txt"]), "name"), ["from alice.txt"]);
    bob.rows("share", &["from bob.txt"]);
    assert_eq!(names_of(&alice.rows("find", &["FROM"]), "name"), ["from alice.txt", "from bob.txt"]);
    assert_eq!(names_of(&alice.rows("shared", &[]), "name"), ["from alice.txt"]);
    assert_eq!(
        names_of(&alice.rows("get", &["bob:from bob.txt"]), "event").last().map(String::as_str),
        Some("received")
    );
    assert_eq!(std::fs::read(alice.folder().join("from bob.txt")).unwrap(), b"bob's bytes");
    // The link over which the file came carries it, unless that is gone already.
    let sent = names_of(&alice.rows("msg", &["bob", "hi", "there"]), "event");
    assert!(sent == ["delivered"] || sent == ["stored"], "{sent:?}");
    assert_eq!(bob_peer.messages(1), ["hi there"]);

    let send = Process::spawn(alice.command("send --json", &["bob", "from alice.txt"]));
    assert_eq!(text(&bob_peer.event("offer"), "name"), "from alice.txt");
    bob_peer.say("/accept alice");
    bob_peer.event("received");
    let sent = send.outcome();
    sent.expect_code(0);
    assert!(names_of(&sent.events(), "event").contains(&"sent".to_owned()), "{sent:?}");

    std::fs::remove_file(bob.folder().join("from alice.txt")).unwrap();
    bob.rows("get", &["alice:from alice.txt"]);
    alice.rows("unshare", &["from alice.txt"]);
    assert!(alice.rows("shared", &[]).is_empty());
    bob.run("get", &["alice:from alice.txt"]).expect_error(1, "alice:from alice.txt");

    alice_peer.say("/who");
    alice_peer.event("person");
    assert!(!alice_peer.kinds_so_far().iter().any(|kind| kind == "logged_in_elsewhere" || kind == "directory_lost"));
}

#[test]
fn without_json_standard_output_holds_the_rows_and_nothing_else() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let bob_peer = bob.peer();
    let path = bob.file("plan.txt", "a plan");

    let who = alice.run("who", &[]);
    who.expect_code(0);
    assert_eq!(who.stdout, "bob");
    let shared = bob.run("share", &["plan.txt"]);
    assert_eq!(shared.stdout, format!("plan.txt  6 B  {}", path.display()));
    assert_eq!(shared.stderr, "", "the peer that serves it runs");
    assert_eq!(alice.run("find", &[]).stdout, "bob:plan.txt  6 B");
    assert_eq!(alice.run("find", &["nothing like that"]).stdout, "");
    assert_eq!(alice.run("msg", &["bob", "hello"]).stdout, "");
    bob_peer.quit();
    assert_eq!(alice.run("who --quiet", &[]).stdout, "");
    assert_eq!(alice.run("find", &["plan"]).stdout, "bob:plan.txt  6 B  (offline)");
}

#[test]
fn verbs_work_as_errands_when_no_peer_runs() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    alice.file("list.txt", "milk");
    let mut bob_peer = bob.peer();

    let shared = alice.run("share", &["list.txt"]);
    shared.expect_code(0);
    assert!(shared.stderr.contains("served while your peer runs"), "{}", shared.stderr);
    alice.rows("msg", &["bob", "an errand"]);
    assert_eq!(bob_peer.messages(1), ["an errand"]);
    assert_eq!(names_of(&alice.rows("who", &[]), "name"), ["bob"], "an errand has no presence");
    bob.run("get", &["alice:list.txt"]).expect_error(4, "alice is not online");

    let send = Process::spawn(alice.command("send --json", &["bob", "list.txt"]));
    bob_peer.event("offer");
    bob_peer.say("/accept");
    bob_peer.event("received");
    send.outcome().expect_code(0);
    assert_eq!(std::fs::read(bob.folder().join("list.txt")).unwrap(), b"milk");

    let declined = Process::spawn(alice.command("send", &["bob", "list.txt"]));
    bob_peer.event("offer");
    bob_peer.say("/decline alice");
    declined.outcome().expect_error(3, "bob declined the file");

    bob_peer.quit();
    alice.run("send", &["bob", "list.txt"]).expect_error(4, "bob is not online");
    alice.run("get", &["bob:list.txt"]).expect_error(1, "bob:list.txt");
}

#[test]
fn what_an_errand_finds_in_the_mailbox_stays_for_the_peer() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    bob.peer().quit();
    alice.rows("msg", &["bob", "for your screen"]);

    bob.rows("who", &[]);
    bob.file("x", "y");
    bob.run("send", &["alice", "x"]).expect_error(4, "alice is not online");

    assert_eq!(bob.peer().messages(1), ["for your screen"]);
}

#[test]
fn somebody_who_only_ever_ran_a_verb_can_be_written_to() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    bob.rows("who", &[]);

    assert_eq!(names_of(&alice.rows("msg", &["bob", "welcome"]), "event"), ["stored"]);

    assert_eq!(bob.peer().messages(1), ["welcome"]);
}

#[test]
fn a_message_can_come_from_standard_input() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let mut bob_peer = bob.peer();

    let mut msg = Process::spawn(alice.command("msg", &["bob", "-"]));
    msg.say("two");
    msg.say("lines");
    msg.outcome().expect_code(0);

    assert_eq!(bob_peer.messages(1), ["two\nlines"]);
}

#[test]
fn the_socket_of_a_peer_is_for_its_user_only() {
    let world = World::new();
    let directory = world.directory();
    let alice = world.person("alice", &directory);
    let peer = alice.peer();

    let folder = world.path("run").join("qchat");
    let names = names_in(&folder);
    assert_eq!(names.len(), 1, "{names:?}");
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder.join(&names[0])), 0o600);
    assert_eq!(mode(&folder), 0o700);

    peer.quit();
    assert!(names_in(&folder).is_empty(), "the socket goes with its peer");
}

#[test]
fn a_socket_that_a_killed_peer_left_behind_is_in_nobodys_way() {
    let world = World::new();
    let directory = world.directory();
    let alice = world.person("alice", &directory);
    alice.peer().kill();
    assert_eq!(names_in(&world.path("run").join("qchat")).len(), 1);

    alice.rows("who", &[]);
    let peer = alice.peer();
    assert_eq!(names_of(&alice.rows("who", &[]), "name"), ["alice"]);
    peer.quit();
}

/// One field of every row that has it.
fn names_of(rows: &[serde_json::Value], field: &str) -> Vec<String> {
    rows.iter().filter_map(|row| row[field].as_str()).map(str::to_owned).collect()
}

#[test]
fn several_files_are_offered_at_once_and_all_answers_are_waited_for() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let names = ["one.txt", "two.txt", "three.txt"];
    for name in names {
        alice.file(name, name);
    }
    let (_alice_peer, mut bob_peer) = (alice.peer(), bob.peer());
    let mut arguments = vec!["bob"];
    arguments.extend(names);

    let all = Process::spawn(alice.command("send", &arguments));
    for name in names {
        assert_eq!(text(&bob_peer.event("offer"), "name"), name);
    }
    for name in names {
        bob.rows("accept", &[name]);
    }
    all.outcome().expect_code(0);

    let mut some = Process::spawn(alice.command("send --json", &arguments));
    for name in names {
        assert_eq!(text(&bob_peer.event("offer"), "name"), name);
    }
    let declined = bob.rows("decline", &["two.txt"]);
    assert_eq!((text(&declined[0], "event"), text(&declined[0], "name")), ("declined", "two.txt"));
    // It is said at once, while the others are still open.
    let note = some.event("note");
    assert_eq!(text(&note, "text"), "* two.txt is not sent: bob declined the file");
    bob.rows("accept --overwrite", &["three.txt"]);
    bob.rows("accept --overwrite", &["one.txt"]);
    some.outcome().expect_error(3, "1 of 3 were not sent, the first is two.txt: bob declined the file");
}

#[test]
fn a_hint_names_the_command_that_is_typed_where_it_is_read() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let mut bob_peer = Process::spawn(bob.command("peer", &[]));
    bob_peer.line_with("logged in");
    let _alice_peer = alice.peer();

    bob_peer.say("/get alice:nothing");
    alice.file("list.txt", "milk");
    let send = Process::spawn(alice.command("send", &["bob", "list.txt"]));
    let offer = bob_peer.line_with("alice offers list.txt");
    assert!(offer.contains("`/accept ") && offer.contains("`/decline "), "{offer}");
    let listed = bob.run("offers", &[]);
    assert!(listed.stdout.contains("`qchat accept "), "{}", listed.stdout);
    bob_peer.say("/accept");
    send.outcome().expect_code(0);
    bob_peer.say("/quit");
    let said = bob_peer.outcome().stderr;
    assert!(said.contains("hint: `/find` shows what is shared"), "{said}");
    let said = bob.run("get", &["alice:nothing"]).stderr;
    assert!(said.contains("hint: `qchat find` shows what is shared"), "{said}");
}
