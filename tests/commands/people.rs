//! Friends, blocks and privacy, as people say them: `friend`, `unfriend`, `friends`, `block`, `unblock`, `blocked` and
//! `privacy`, with and without a running peer.

use serde_json::Value;

use crate::program::{Person, Process, World, text};

fn names(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| text(row, "name")).collect()
}

/// Names and states of the rows of `friends`.
fn friends(person: &Person<'_>) -> Vec<(String, String)> {
    let rows = person.rows("friends", &[]);
    rows.iter().map(|row| (text(row, "name").to_owned(), text(row, "state").to_owned())).collect()
}

fn state(name: &str, state: &str) -> Vec<(String, String)> {
    vec![(name.to_owned(), state.to_owned())]
}

#[test]
fn whoever_is_blocked_writes_in_vain_and_is_written_to_no_more() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    bob.rows("who", &[]);
    let mut alice_peer = alice.peer();
    alice_peer.say("/block bob");
    assert_eq!(text(&alice_peer.event("blocked"), "name"), "bob");
    bob.file("a file", "for alice");
    bob.run("msg", &["alice", "hello"]).expect_error(8, "error: alice does not accept messages from you");
    bob.run("send", &["alice", "a file"]).expect_error(8, "error: alice does not accept messages from you");
    bob.run("connect", &["alice"]).expect_error(4, "alice: not online");
    for (verb, last) in [("msg", vec!["bob", "hello"]), ("connect", vec!["bob"]), ("friend", vec!["bob"])] {
        alice.run(verb, &last).expect_error(8, "error: you have blocked bob\nhint: `qchat unblock bob` first");
    }
    alice_peer.say("/msg bob hello");
    let failed = alice_peer.event("failed");
    assert_eq!(text(&failed["failure"], "message"), "you have blocked bob");
    alice_peer.say("/blocked");
    assert_eq!(text(&alice_peer.event("blocked"), "name"), "bob");

    assert_eq!(alice.run("unblock", &["bob"]).stdout, "bob is not blocked any more");
    bob.run("msg", &["alice", "hello again"]).expect_code(0);
    assert_eq!(alice_peer.messages(1), ["hello again"], "and nothing of what was said before");
    alice.run("unblock", &["bob"]).expect_error(1, "bob is not blocked");
}

#[test]
fn privacy_holds_for_whoever_is_connected_already() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    bob.rows("profile", &["edit", "name", "Bob"]);
    let (mut alice_peer, mut bob_peer) = (alice.peer(), bob.peer());
    for ends in ["privacy friends", "unfriend"] {
        alice_peer.say("/profile bob");
        alice_peer.event("profile");
        assert!(alice.rows("status", &[]).iter().any(|row| row["event"] == "link"), "they are connected");
        let last: &[&str] = if ends == "unfriend" { &["alice"] } else { &[] };
        bob.rows(ends, last);
        alice_peer.say("/msg bob over what was open");
        let refused = alice_peer.event("not_sent");
        assert_eq!(text(&refused["failure"], "message"), "bob does not accept messages from you");
        alice.run("profile", &["bob"]).expect_code(0);
        assert_eq!(alice.rows("profile", &["bob"]).last().unwrap()["source"], "stored", "what she has seen before");
        if ends == "privacy friends" {
            alice_peer.say("/friend bob");
            bob_peer.event("friend_asked");
            bob_peer.say("/friend alice");
            alice_peer.event("friend_answered");
        }
    }
    assert!(!bob_peer.kinds_so_far().contains(&"message".to_owned()));
}

#[test]
fn blocks_outlive_both_programs() {
    let world = World::new();
    let mut directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let mut bob_peer = bob.peer();
    assert_eq!(alice.run("block", &["bob"]).stdout, "bob is blocked");
    let mut alice_peer = alice.peer();
    alice_peer.kill();
    directory.process.kill();
    directory.start_again(&world);
    let mut alice_peer = alice.peer();
    bob_peer.event("logged_in");
    bob_peer.say("/msg alice hello");
    let not_sent = bob_peer.event("not_sent");
    assert_eq!(text(&not_sent["failure"], "message"), "alice does not accept messages from you");
    assert_eq!(names(&alice.rows("blocked", &[])), ["bob"]);
    alice_peer.say("/unblock bob");
    alice_peer.event("unblocked");
    assert!(alice.rows("blocked", &[]).is_empty());
}

#[test]
fn a_block_holds_at_once_while_the_directory_is_away() {
    let world = World::new();
    let mut directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let (mut alice_peer, mut bob_peer) = (alice.peer(), bob.peer());
    alice_peer.say("/msg bob before");
    assert_eq!(bob_peer.messages(1), ["before"]);
    directory.process.kill();
    alice_peer.event("directory_lost");
    alice_peer.say("/block bob");
    assert_eq!(text(&alice_peer.event("blocked"), "name"), "bob");
    alice_peer.say("/msg bob after");
    assert_eq!(text(&alice_peer.event("failed")["failure"], "message"), "you have blocked bob");
    alice_peer.say("/unblock bob");
    assert_eq!(text(&alice_peer.event("failed")["failure"], "kind"), "directory_unreachable");
    directory.start_again(&world);
    alice_peer.event("logged_in");
    bob_peer.event("logged_in");
    // It is told to the directory beside everything else: until then alice's peer keeps what comes out by itself.
    let refused = (0..50).find(|number| {
        let outcome = bob.run("msg", &["alice", &format!("number {number}")]);
        outcome.code == Some(8) && outcome.stderr.contains("alice does not accept messages from you")
    });
    assert!(refused.is_some(), "the directory was told");
    assert!(!alice_peer.kinds_so_far().contains(&"message".to_owned()));
    assert!(alice.rows("inbox", &[]).is_empty());
}

#[test]
fn what_has_already_come_of_somebody_is_shown_no_more_once_they_are_blocked() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let mut alice_peer = alice.peer();
    bob.file("a file", "for alice");
    let mut bob_peer = bob.peer();
    bob_peer.say("/send alice a file");
    alice_peer.event("offer");
    assert_eq!(alice.rows("inbox", &[]).len(), 1);
    alice_peer.say("/block bob");
    alice_peer.event("blocked");
    assert!(alice.rows("inbox", &[]).is_empty(), "their offers are dropped");
    alice.run("block", &["bob"]).expect_code(0);
    assert_eq!(names(&alice.rows("blocked", &[])), ["bob"], "twice is once");
}

#[test]
fn two_become_friends_and_friends_connect_without_a_question() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let (mut alice_peer, mut bob_peer) = (alice.peer(), bob.peer());
    alice_peer.say("/friend bob");
    assert_eq!(text(&alice_peer.event("friend"), "state"), "asked");
    assert_eq!(text(&bob_peer.event("friend_asked"), "from"), "alice");
    assert_eq!((friends(&alice), friends(&bob)), (state("bob", "asked"), state("alice", "asks_us")));
    assert!(alice.rows("allowed", &[]).is_empty());

    bob_peer.say("/friend alice later");
    bob_peer.event("put_off");
    assert_eq!(text(&alice_peer.event("friend_answered"), "answer"), "busy");
    bob_peer.say("/friend alice");
    assert_eq!(text(&bob_peer.event("friend"), "state"), "friends");
    assert_eq!(text(&alice_peer.event("friend_answered"), "answer"), "accepted");

    let listed = alice.rows("friends", &[]);
    assert_eq!((text(&listed[0], "state"), text(&listed[0], "presence")), ("friends", "online"));
    for (person, other) in [(&alice, "bob"), (&bob, "alice")] {
        assert_eq!(person.run("friends", &[]).stdout, format!("{other}  friend, online"));
        assert_eq!(person.run("allowed", &[]).stdout, format!("{other}  friend"));
    }
    alice.run("deny", &["bob"]).expect_error(1, "bob is your friend");
    alice_peer.say("/connect bob");
    let connected = alice_peer.event("connected");
    assert_eq!(text(&connected["via"], "path"), "direct");

    bob_peer.say("/unfriend alice");
    bob_peer.event("unfriended");
    assert_eq!(text(&alice_peer.event("friend_answered"), "answer"), "ended");
    assert!(friends(&alice).is_empty() && friends(&bob).is_empty());
    assert!(alice.rows("allowed", &[]).is_empty() && bob.rows("allowed", &[]).is_empty());
}

#[test]
fn a_request_is_declined_or_taken_back() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let (mut alice_peer, mut bob_peer) = (alice.peer(), bob.peer());
    alice_peer.say("/friend bob");
    bob_peer.event("friend_asked");
    assert_eq!(bob.run("unfriend", &["alice"]).stdout, "alice is no friend of yours");
    assert_eq!(text(&alice_peer.event("friend_answered"), "answer"), "declined");
    bob.run("unfriend", &["alice"]).expect_error(1, "alice is no friend of yours and has not asked to be");

    alice_peer.say("/friend bob");
    assert_eq!(text(&bob_peer.event("friend_asked"), "from"), "alice", "a new question is shown again");
    alice.run("unfriend", &["bob"]).expect_code(0);
    assert!(friends(&alice).is_empty() && friends(&bob).is_empty());
    bob.run("friend --later", &["alice"]).expect_error(1, "alice is no friend of yours and has not asked to be");
}

#[test]
fn requests_and_answers_wait_for_whoever_is_away() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    bob.rows("who", &[]);
    assert_eq!(alice.run("friend", &["bob"]).stdout, "bob  asked, and has not answered");
    let mut bob_peer = bob.peer();
    assert_eq!(text(&bob_peer.event("friend_asked"), "from"), "alice");
    bob_peer.quit();
    let asks = "alice  asks you: `qchat friend alice` accepts, `qchat unfriend alice` declines";
    assert_eq!(bob.run("friends", &[]).stdout, asks);
    bob.peer().event("friend_asked");
    assert_eq!(bob.run("friend", &["alice"]).stdout, "alice  friend");

    let mut alice_peer = alice.peer();
    let answered = alice_peer.event("friend_answered");
    assert_eq!((text(&answered, "by"), text(&answered, "answer")), ("bob", "accepted"));
    alice_peer.quit();
    bob.run("unfriend", &["alice"]).expect_code(0);
    assert_eq!(text(&alice.peer().event("friend_answered"), "answer"), "ended");
}

#[test]
fn a_block_ends_a_friendship() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    bob.rows("who", &[]);
    alice.rows("friend", &["bob"]);
    bob.rows("friend", &["alice"]);
    assert_eq!(friends(&alice), state("bob", "friends"));
    alice.rows("block", &["bob"]);
    assert!(friends(&alice).is_empty() && alice.rows("allowed", &[]).is_empty());
    assert!(
        friends(&bob).is_empty() && bob.rows("allowed", &[]).is_empty(),
        "nor is bob told more than that it is over"
    );
    alice.rows("unblock", &["bob"]);
    assert!(friends(&alice).is_empty(), "nor is it there again");
}

#[test]
fn only_friends_write_to_somebody_who_wants_no_others() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let carol = world.person("carol", &directory);
    let everyone = "everyone may see you, find your files and write to you, but those you have blocked";
    assert_eq!(alice.run("privacy", &[]).stdout, everyone);
    let mut alice_peer = alice.peer();
    alice_peer.say("/privacy friends");
    assert_eq!(text(&alice_peer.event("privacy"), "audience"), "friends");
    assert_eq!(alice.run("privacy", &[]).stdout, "only your friends may see you, find your files and write to you");

    bob.run("msg", &["alice", "hello"]).expect_error(8, "alice does not accept messages from you");
    bob.rows("friend", &["alice"]);
    assert_eq!(text(&alice_peer.event("friend_asked"), "from"), "bob");
    alice_peer.say("/friend bob");
    alice_peer.event("friend");
    bob.run("msg", &["alice", "hello, friend"]).expect_code(0);
    assert_eq!(alice_peer.messages(1), ["hello, friend"]);
    carol.run("msg", &["alice", "hello"]).expect_error(8, "alice does not accept messages from you");

    alice.run("privacy", &["everyone"]).expect_code(0);
    carol.run("msg", &["alice", "hello, everyone"]).expect_code(0);
    assert_eq!(alice_peer.messages(1), ["hello, everyone"]);
}

#[test]
fn wrong_uses_are_named() {
    let world = World::new();
    let directory = world.directory();
    let alice = world.person("alice", &directory);
    alice.rows("who", &[]);
    for verb in ["block", "friend", "unfriend", "friend --later"] {
        alice.run(verb, &["alice"]).expect_error(2, "this is yourself");
        alice.run(verb, &["nobody2"]).expect_error(1, "nobody2: nobody of that name has an account here");
        alice.run(verb, &[]).expect_code(2);
    }
    alice.run("unblock", &["nobody2"]).expect_code(1);
    alice.run("privacy", &["nobody"]).expect_code(2);
    assert!(alice.rows("blocked", &[]).is_empty() && friends(&alice).is_empty());
    let mut peer = alice.peer();
    for line in ["/block", "/friend bob soon", "/privacy nobody", "/friends bob"] {
        peer.say(line);
        assert_eq!(text(&peer.event("failed")["failure"], "kind"), "usage", "{line}");
    }
}

#[test]
fn a_person_reads_who_asks_and_what_to_type() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    bob.rows("who", &[]);
    alice.rows("friend", &["bob"]);
    let mut bob_peer = Process::spawn(bob.command("peer --plain", &[]));
    let line = bob_peer.line_with("asks to be friends");
    assert!(line.contains("/friend alice accepts") && line.contains("/unfriend alice declines"), "{line}");
}
