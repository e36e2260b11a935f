//! Conversation windows: `/query`, `/close` and the lines in between; exclusive ones, and how they end.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::program::{Process, World, text};

/// What people may have to wait until they are told that the other side is gone.
const GONE_WITHIN: Duration = Duration::from_secs(30);

#[track_caller]
fn opened(peer: &mut Process, with: &str, by: &str) {
    let event = peer.event("exclusive_opened");
    assert_eq!((text(&event, "with"), text(&event, "by")), (with, by));
}

#[track_caller]
fn closed(peer: &mut Process, with: &str, why: &str) {
    let event = peer.event("exclusive_closed");
    assert_eq!((text(&event, "with"), text(&event, "why")), (with, why));
}

/// It is over with somebody who says nothing any more, which the directory may notice first.
#[track_caller]
fn gone(peer: &mut Process, with: &str) {
    let event = peer.event("exclusive_closed");
    assert_eq!(text(&event, "with"), with);
    assert!(["lost", "left"].contains(&text(&event, "why")), "{event}");
}

#[track_caller]
fn failed(peer: &mut Process, says: &str) {
    let event = peer.event("failed");
    let message = text(&event["failure"], "message");
    assert!(message.contains(says), "{says:?} should be in {message:?}");
}

#[test]
fn plain_lines_go_to_the_open_window() {
    let world = World::new();
    let directory = world.directory();
    let mut alice = world.person("alice", &directory).peer();
    let (mut bob, mut carol) = (world.person("bob", &directory).peer(), world.person("carol", &directory).peer());

    alice.say("to nobody");
    failed(&mut alice, "nobody was named to send this to");
    alice.say("/query bob");
    for line in ["hello bob", "//who do you think?", "    indented", "/msg carol beside that"] {
        alice.say(line);
    }
    assert_eq!(bob.messages(3), ["hello bob", "/who do you think?", "    indented"]);
    assert_eq!(carol.messages(1), ["beside that"]);

    alice.say("/query carol");
    alice.say("hello carol");
    assert_eq!(carol.messages(1), ["hello carol"]);
    alice.say("/close");
    alice.say("to nobody again");
    failed(&mut alice, "nobody was named to send this to");
    alice.say("/close");
    failed(&mut alice, "no conversation is open");
    alice.say("/msg bob the last one");
    assert_eq!(bob.messages(1), ["the last one"]);
}

#[test]
fn who_is_not_there_has_no_window_and_gets_no_line_that_was_for_another() {
    let world = World::new();
    let directory = world.directory();
    let mut alice = world.person("alice", &directory).peer();
    let bob = world.person("bob", &directory);
    bob.peer().quit();

    for (line, says) in [
        ("/query nobody2", "nobody2: nobody of that name has an account here"),
        ("/query alice", "this is yourself"),
        ("/query B*b", "B*b"),
        ("/query", "/query needs [--exclusive] NAME"),
    ] {
        alice.say("/query bob");
        alice.say(line);
        failed(&mut alice, says);
        alice.say("for somebody else");
        failed(&mut alice, "nobody was named to send this to");
    }
    alice.say("/query bob");
    alice.say("/query --exclusive bob");
    failed(&mut alice, "bob: not online");
    alice.say("for bob, when he is back");
    assert_eq!(bob.peer().messages(1), ["for bob, when he is back"]);
}

#[test]
fn an_exclusive_conversation_is_one_at_a_time_and_others_may_still_write() {
    let world = World::new();
    let directory = world.directory();
    let (mut alice, mut bob) = (world.person("alice", &directory).peer(), world.person("bob", &directory).peer());
    let mut carol = world.person("carol", &directory).peer();

    alice.say("/query --exclusive bob");
    opened(&mut bob, "alice", "alice");
    alice.say("are you there?");
    assert_eq!(bob.messages(1), ["are you there?"]);
    opened(&mut alice, "bob", "alice");
    bob.say("to nobody");
    failed(&mut bob, "nobody was named to send this to");
    bob.say("/query alice");
    bob.say("yes");
    assert_eq!(alice.messages(1), ["yes"]);

    for name in ["alice", "bob"] {
        carol.say(&format!("/query --exclusive {name}"));
        failed(&mut carol, &format!("{name} is in an exclusive conversation with somebody else"));
    }
    carol.say("/msg bob a word beside");
    assert_eq!(bob.messages(1), ["a word beside"]);

    bob.say("/close");
    closed(&mut bob, "alice", "here");
    closed(&mut alice, "bob", "there");
    bob.say("to nobody");
    failed(&mut bob, "nobody was named to send this to");
    alice.say("it was me who opened this window");
    assert_eq!(bob.messages(1), ["it was me who opened this window"]);
    carol.say("/query --exclusive alice");
    opened(&mut alice, "carol", "carol");
}

#[test]
fn who_turns_to_somebody_else_ends_the_exclusive_conversation() {
    let world = World::new();
    let directory = world.directory();
    let (mut alice, mut bob) = (world.person("alice", &directory).peer(), world.person("bob", &directory).peer());
    let mut carol = world.person("carol", &directory).peer();

    alice.say("/query --exclusive bob");
    opened(&mut bob, "alice", "alice");
    alice.say("/query --exclusive carol");
    closed(&mut bob, "alice", "there");
    opened(&mut carol, "alice", "alice");
    alice.say("hello carol");
    assert_eq!(carol.messages(1), ["hello carol"]);
    alice.say("/query bob");
    closed(&mut carol, "alice", "there");
    alice.say("hello bob");
    assert_eq!(bob.messages(1), ["hello bob"]);
}

#[test]
fn a_line_that_is_meant_for_another_does_not_go_to_whoever_opens_a_conversation() {
    let world = World::new();
    let directory = world.directory();
    let (mut alice, mut bob) = (world.person("alice", &directory).peer(), world.person("bob", &directory).peer());
    let mut carol = world.person("carol", &directory).peer();

    alice.say("/query carol");
    alice.say("one");
    assert_eq!(carol.messages(1), ["one"]);
    bob.say("/query --exclusive alice");
    opened(&mut alice, "bob", "bob");
    alice.say("two");
    assert_eq!(carol.messages(1), ["two"]);
    alice.say("/query bob");
    alice.say("three");
    assert_eq!(bob.messages(1), ["three"]);
}

#[test]
fn when_both_open_one_at_once_they_meet() {
    let world = World::new();
    let directory = world.directory();
    let (mut alice, mut bob) = (world.person("alice", &directory).peer(), world.person("bob", &directory).peer());

    alice.say("/query --exclusive bob");
    bob.say("/query --exclusive alice");
    assert_eq!(text(&alice.event("exclusive_opened"), "with"), "bob");
    assert_eq!(text(&bob.event("exclusive_opened"), "with"), "alice");
    alice.say("from alice");
    bob.say("from bob");
    assert_eq!((alice.messages(1), bob.messages(1)), (vec!["from bob".to_owned()], vec!["from alice".to_owned()]));
    assert!(!alice.kinds_so_far().contains(&"exclusive_closed".to_owned()));
}

#[test]
fn who_quits_ends_it_at_once() {
    let world = World::new();
    let directory = world.directory();
    let (mut alice, bob) = (world.person("alice", &directory).peer(), world.person("bob", &directory));
    let mut bob_peer = bob.peer();

    alice.say("/query --exclusive bob");
    opened(&mut bob_peer, "alice", "alice");
    opened(&mut alice, "bob", "alice");
    let quits = Instant::now();
    bob_peer.quit();
    closed(&mut alice, "bob", "left");
    assert!(quits.elapsed() < GONE_WITHIN / 3, "{:?}", quits.elapsed());
    alice.say("for when he is back");
    assert_eq!(text(&alice.event("queued"), "to"), "bob");
}

#[test]
fn who_is_killed_is_gone_within_thirty_seconds_whoever_has_opened_it() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    for opener_is_killed in [true, false] {
        let (mut alice, mut bob) = (alice.peer(), bob.peer());
        alice.say("/query --exclusive bob");
        opened(&mut alice, "bob", "alice");
        opened(&mut bob, "alice", "alice");
        let (killed, mut left, name) =
            if opener_is_killed { (&mut alice, bob, "alice") } else { (&mut bob, alice, "bob") };
        let kills = Instant::now();
        killed.kill();
        gone(&mut left, name);
        assert!(kills.elapsed() < GONE_WITHIN, "{:?}", kills.elapsed());
        left.quit();
    }
}

#[test]
fn who_sleeps_and_wakes_learns_that_it_is_over() {
    let world = World::new();
    let directory = world.directory();
    let (mut alice, mut bob) = (world.person("alice", &directory).peer(), world.person("bob", &directory).peer());

    alice.say("/query --exclusive bob");
    opened(&mut alice, "bob", "alice");
    opened(&mut bob, "alice", "alice");
    bob.signal(Signal::STOP);
    gone(&mut alice, "bob");
    bob.signal(Signal::CONT);
    assert_eq!(text(&bob.event("exclusive_closed"), "with"), "alice");
}
