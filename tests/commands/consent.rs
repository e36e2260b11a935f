//! Who may see whose address, as people say it: `allow`, `deny`, `allowed`, `connect` and `share --hide-address`.

use serde_json::Value;

use crate::program::{Process, World, text};

fn names(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| text(row, "name")).collect()
}

#[test]
fn what_is_allowed_is_listed_until_it_is_taken_back() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let carol = world.person("carol", &directory);
    for person in [&alice, &carol] {
        person.rows("who", &[]);
    }
    let allowed = bob.rows("allow", &["alice"]);
    assert_eq!((text(&allowed[0], "event"), text(&allowed[0], "allowance")), ("allowed", "until"));
    assert!(allowed[0]["until"].is_u64(), "an hour unless something else is said: {allowed:?}");
    assert_eq!(bob.run("allow", &["carol", "always"]).stdout, "carol  always");
    assert_eq!(names(&bob.rows("allowed", &[])), ["alice", "carol"]);
    assert!(alice.rows("allowed", &[]).is_empty(), "it is for one direction");

    let mut peer = bob.peer();
    peer.say("/allow alice once");
    assert_eq!(text(&peer.event("allowed"), "allowance"), "once");
    assert_eq!(bob.run("deny", &["carol"]).stdout, "carol may not learn your IP address");
    bob.run("deny", &["carol"]).expect_code(0);
    let left = bob.rows("allowed", &[]);
    assert_eq!((names(&left), text(&left[0], "allowance")), (vec!["alice"], "once"));
}

#[test]
fn wrong_uses_are_named() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    bob.rows("who", &[]);
    alice.run("allow", &["bob", "soon"]).expect_code(2);
    alice.run("allow", &["bob", "0h"]).expect_code(2);
    alice.run("allow", &[]).expect_code(2);
    for verb in ["allow", "deny", "connect"] {
        alice.run(verb, &["alice"]).expect_error(2, "this is yourself");
    }
    alice.run("allow", &["nobody2"]).expect_error(1, "nobody2: nobody of that name has an account here");
    alice.run("connect", &["nobody2"]).expect_error(1, "nobody2");
    alice.run("connect", &["bob"]).expect_error(4, "bob: not online");
    alice.run("share --hide-address", &[]).expect_code(2);
    assert!(alice.rows("allowed", &[]).is_empty());
}

#[test]
fn who_connects_is_asked_for_and_denied() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let mut bob_peer = bob.peer();
    let connect = Process::spawn(alice.command("connect", &["bob"]));
    assert_eq!(text(&bob_peer.event("consent_asked"), "from"), "alice");
    bob_peer.say("/deny alice");
    connect.outcome().expect_error(8, "bob does not want a direct connection");
}

#[test]
fn who_connects_is_asked_for_and_allowed_once() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let mut bob_peer = bob.peer();
    bob.file("a file", "that alice could fetch");
    bob.rows("share", &["a file"]);
    let connect = Process::spawn(alice.command("connect --json", &["bob"]));
    bob_peer.event("consent_asked");
    bob_peer.say("/allow alice once");
    let outcome = connect.outcome();
    outcome.expect_code(0);
    let connected = outcome.events().pop().unwrap();
    assert_eq!((text(&connected, "event"), text(&connected, "name")), ("connected", "bob"));
    assert_eq!(text(&connected["via"], "path"), "direct");
    assert!(bob.rows("allowed", &[]).is_empty(), "it is used up");
}

#[test]
fn a_running_peer_asks_and_goes_on_and_connects_when_it_is_allowed() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let (mut alice_peer, mut bob_peer) = (alice.peer(), bob.peer());
    bob.file("a file", "that alice could fetch");
    bob.rows("share", &["a file"]);
    alice_peer.say("/connect bob");
    assert_eq!(text(&alice_peer.event("asked"), "to"), "bob");
    bob_peer.event("consent_asked");
    bob_peer.say("/allow alice");
    assert_eq!(alice_peer.event("consent_answered")["allowed"], true);
    assert_eq!(text(&alice_peer.event("connected"), "name"), "bob");
}

#[test]
fn a_file_says_whether_it_hides_where_it_is() {
    let world = World::new();
    let directory = world.directory();
    let bob = world.person("bob", &directory);
    bob.file("open", "1");
    let hidden = bob.file("hidden", "2");
    assert_eq!(bob.rows("share", &["open"])[0]["hides_address"], false);
    assert_eq!(
        bob.run("share --hide-address", &["hidden"]).stdout,
        format!("hidden  1 B  {}  (relayed only)", hidden.display())
    );
    let shared = bob.rows("shared", &[]);
    assert_eq!(shared.iter().map(|row| &row["hides_address"]).collect::<Vec<_>>(), [true, false]);
}
