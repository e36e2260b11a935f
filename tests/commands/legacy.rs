//! What people read of somebody who uses an older program: everywhere that what is said with them is not end-to-end
//! encrypted.

use crate::program::{Person, Process, World, text};

const NOT_ENCRYPTED: &str = "legacy: not end-to-end encrypted";
const WARNING: &str = "* carol uses an older program: legacy: not end-to-end encrypted";

/// Has the directory take somebody's account for one of its gateway, which makes such accounts in the directory's process.
fn use_an_older_program(world: &World, name: &str) {
    let database =
        rusqlite::Connection::open(world.path("data").join("directory.sqlite")).expect("the directory's file");
    let changed = database.execute("UPDATE account SET legacy = 1 WHERE name = ?1", [name]).expect("it takes a change");
    assert_eq!(changed, 1, "{name} has an account");
}

/// Carol, who shares a file with an older program.
fn with_an_older_program(world: &World, carol: &Person<'_>) -> Process {
    carol.file("notes.txt", "abc");
    carol.rows("share", &["notes.txt"]);
    use_an_older_program(world, "carol");
    carol.peer()
}

#[test]
fn verbs_say_who_uses_an_older_program() {
    let world = World::new();
    let directory = world.directory();
    let (alice, carol) = (world.person("alice", &directory), world.person("carol", &directory));
    let mut carol_peer = with_an_older_program(&world, &carol);
    assert_eq!(alice.run("who", &[]).stdout, format!("carol  {NOT_ENCRYPTED}"));
    assert_eq!(alice.run("find", &["notes"]).stdout, "carol:notes.txt  3 B  legacy");
    let said = alice.run("msg", &["carol", "hello"]);
    said.expect_code(0);
    assert_eq!(said.stderr.matches(WARNING).count(), 1, "{}", said.stderr);
    assert_eq!(carol_peer.messages(1), ["hello"]);
    let rows = alice.rows("msg", &["carol", "hello again"]);
    let kinds: Vec<&str> = rows.iter().map(|row| text(row, "event")).collect();
    assert_eq!(kinds, ["legacy", "stored"]);
    let shown = alice.run("verify", &["carol"]);
    assert!(shown.stdout.contains(NOT_ENCRYPTED) && !shown.stdout.contains("--mark"), "{}", shown.stdout);
    alice
        .run("verify --mark", &["carol"])
        .expect_error(1, "carol uses an older program, so there is no key of their own");
    let data = world.path("data");
    let users = Process::spawn(world.qchat(&format!("admin --data {} user list", data.display()))).outcome();
    assert!(
        users.stdout.lines().any(|line| line.starts_with("carol") && line.ends_with("online, legacy")),
        "{users:?}"
    );

    carol.run("msg", &["alice", "hi"]).expect_code(0);
    let mut alice_peer = alice.peer();
    let heard = alice_peer.event("message");
    assert_eq!((text(&heard, "from"), &heard["legacy"]), ("carol", &true.into()));
    carol_peer.quit();
}

#[test]
fn a_peer_says_it_once_and_marks_every_line() {
    let world = World::new();
    let directory = world.directory();
    let (alice, carol) = (world.person("alice", &directory), world.person("carol", &directory));
    let mut carol_peer = with_an_older_program(&world, &carol);
    let mut alice_peer = Process::spawn(alice.command("peer", &[]));
    alice_peer.say("/query carol");
    alice_peer.say("one");
    alice_peer.say("two");
    assert_eq!(carol_peer.messages(2), ["one", "two"]);
    for line in ["three", "four"] {
        carol_peer.say(&format!("/msg alice {line}"));
        alice_peer.line_with(&format!("] carol (legacy): {line}"));
    }
    alice_peer.say("/history carol");
    alice_peer.line_with("alice -> carol (legacy) (");
    alice_peer.line_with("] carol (legacy): four");
    alice_peer.say("/quit");
    let ended = alice_peer.outcome();
    ended.expect_code(0);
    assert_eq!(ended.stderr.matches(WARNING).count(), 1, "{}", ended.stderr);
    carol_peer.quit();
}
