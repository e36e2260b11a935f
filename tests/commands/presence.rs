//! Who is here, as people say it: `who`, `/away`, `/busy`, `/back`, `presence`, and what is said to everybody.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::program::{Process, World, text};

/// A peer that says nothing any more is gone by then.
const NOTICED_WITHIN: Duration = Duration::from_secs(30);

/// Waits until somebody's face is told that somebody is so, and gives what it was told.
#[track_caller]
fn told(peer: &mut Process, name: &str, presence: &str) -> Value {
    peer.event_where("presence", |event| event["name"] == name && event["presence"] == presence)
}

/// Names with how they are.
fn people(rows: &[Value]) -> Vec<(&str, &str)> {
    rows.iter().map(|row| (text(row, "name"), text(row, "presence"))).collect()
}

#[test]
fn others_see_who_is_away_or_busy_until_they_are_back() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let (mut alice_peer, mut bob_peer) = (alice.peer(), bob.peer());
    assert_eq!(told(&mut alice_peer, "bob", "online")["is_news"], true);

    bob_peer.say("/away");
    assert_eq!(bob_peer.event("presence_set")["presence"], "away");
    assert_eq!(told(&mut alice_peer, "bob", "away")["online"], true);
    assert_eq!(people(&alice.rows("who", &[])), [("alice", "online"), ("bob", "away")]);
    assert_eq!(text(&bob.rows("presence busy", &[])[0], "presence"), "busy");
    told(&mut alice_peer, "bob", "busy");
    assert_eq!(alice.run("who", &["bo"]).stdout, "bob  (busy)");
    alice_peer.say("/msg bob are you there?");
    assert_eq!(bob_peer.messages(1), ["are you there?"], "whoever is busy gets messages all the same");
    bob_peer.say("/back");
    told(&mut alice_peer, "bob", "online");

    bob_peer.quit();
    told(&mut alice_peer, "bob", "offline");
    assert_eq!(people(&alice.rows("who", &[])), [("alice", "online")]);
    assert_eq!(people(&alice.rows("who --hour", &["b"])), [("bob", "offline")]);
    assert_eq!(alice.run("who --hour", &[]).stdout, "alice\nbob  (offline)");
    assert_eq!(people(&alice.rows("who --hour", &["nobody-like-that"])), []);
}

#[test]
fn what_somebody_shows_outlives_the_directory_and_needs_a_peer() {
    let world = World::new();
    let mut directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let (mut alice_peer, mut bob_peer) = (alice.peer(), bob.peer());
    bob_peer.say("/msg alice hello");
    alice_peer.messages(1);
    bob_peer.say("/busy");
    told(&mut alice_peer, "bob", "busy");
    directory.process.kill();
    alice_peer.event("directory_lost");
    bob_peer.event("directory_lost");
    bob_peer.say("/away");
    bob_peer.event("presence_set");
    directory.start_again(&world);
    // She talks to him, so she is told how he is as soon as both are back.
    told(&mut alice_peer, "bob", "away");

    bob_peer.quit();
    bob.run("presence away", &[]).expect_error(1, "your peer does not run here");
    bob.run("presence gone", &[]).expect_code(2);
    alice.run("who", &["a", "b"]).expect_code(2);
}

#[test]
fn whom_we_talk_to_we_are_told_of_without_a_line_for_it() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let bob_peer = bob.peer();
    let mut alice_peer = alice.peer();
    alice_peer.say("/msg bob hello");
    assert_eq!(told(&mut alice_peer, "bob", "online")["is_news"], false, "he was there before her");
    bob_peer.quit();
    assert_eq!(told(&mut alice_peer, "bob", "offline")["is_news"], true);
}

#[test]
fn a_peer_that_leaves_is_gone_at_once_and_one_that_dies_or_sleeps_soon() {
    let world = World::new();
    let directory = world.directory();
    let mut alice = world.person("alice", &directory).peer();
    let mut peer = |name| {
        let peer = world.person(name, &directory).peer();
        told(&mut alice, name, "online");
        peer
    };
    let (bob, mut carol, dave) = (peer("bob"), peer("carol"), peer("dave"));

    let left = Instant::now();
    bob.quit();
    told(&mut alice, "bob", "offline");
    assert!(left.elapsed() < Duration::from_secs(5), "it took {:?}", left.elapsed());

    let died = Instant::now();
    carol.kill();
    dave.signal(Signal::STOP);
    let mut gone = Vec::new();
    while gone.len() < 2 {
        let event = alice.event_where("presence", |event| event["online"] == false);
        gone.push(text(&event, "name").to_owned());
    }
    assert!(died.elapsed() < NOTICED_WITHIN, "it took {:?}", died.elapsed());
    gone.sort();
    assert_eq!(gone, ["carol", "dave"]);
    dave.signal(Signal::CONT);
    told(&mut alice, "dave", "online");
}

#[test]
fn everyone_who_is_online_hears_what_is_said_to_everyone() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let (mut alice_peer, mut bob_peer) = (alice.peer(), bob.peer());
    alice_peer.say("/broadcast the door is \u{1b}[31mopen");
    assert_eq!(alice_peer.event("announced")["to_everyone"], true);
    let heard = bob_peer.event("announcement");
    assert_eq!((text(&heard, "from"), text(&heard, "text")), ("alice", "the door is \u{1b}[31mopen"));

    let said = bob.run("broadcast", &["and", "closed", "again"]);
    said.expect_code(0);
    assert_eq!((said.stdout.as_str(), said.stderr.trim_end()), ("", "* said to everyone who is online"));
    assert_eq!(text(&alice_peer.event("announcement"), "text"), "and closed again");
    bob_peer.quit();
    assert_eq!(bob.rows("broadcast", &["as an errand"])[0]["to_everyone"], true);
    assert_eq!(text(&alice_peer.event("announcement"), "text"), "as an errand");

    let mut screen = Process::spawn(bob.command("peer --plain", &[]));
    told(&mut alice_peer, "bob", "online");
    alice_peer.say("/broadcast a\u{1b}[2Jb");
    screen.line_with(" alice to everyone: a\\u{1b}[2Jb");
    screen.quit();
}

#[test]
fn who_says_too_much_or_nothing_is_refused() {
    let world = World::new();
    let directory = world.directory();
    let bob = world.person("bob", &directory);
    bob.run("broadcast", &["  "]).expect_error(2, "nothing but blanks");
    bob.run("broadcast", &[&"x".repeat(2_049)]).expect_error(2, "1 to 2048 bytes, not 2049");
    let mut peer = bob.peer();
    for _ in 0..10 {
        peer.say("/broadcast listen!");
    }
    let refused = peer.event("failed");
    assert_eq!(refused["failure"]["kind"], "quota");
    bob.run("broadcast", &["listen!"]).expect_error(9, "too often");
}
