//! The words that people typed into the older systems' programs, typed into a peer.

use crate::program::{Process, World, text};

#[track_caller]
fn failed(peer: &mut Process, says: &str) {
    let event = peer.event("failed");
    let message = text(&event["failure"], "message");
    assert!(message.contains(says), "{says:?} should be in {message:?}");
}

#[test]
fn people_talk_by_the_words_that_they_know() {
    let world = World::new();
    let directory = world.directory();
    let (mut alice, mut bob) = (world.person("alice", &directory).peer(), world.person("bob", &directory).peer());

    for line in ["send bob hi", "message bob one | two", "private bob psst"] {
        alice.say(line);
    }
    assert_eq!(bob.messages(3), ["hi", "one | two", "psst"]);
    for line in ["broadcast to all of you", "send_all to all of you"] {
        alice.say(line);
        let heard = bob.event("announcement");
        assert_eq!((text(&heard, "from"), text(&heard, "text")), ("alice", "to all of you"));
    }
    for line in ["online", "GET_CLIENT_LIST"] {
        alice.say(line);
        alice.event_where("person", |person| text(person, "name") == "bob");
    }
    alice.say("block bob");
    assert_eq!(text(&alice.event("blocked"), "name"), "bob");
    alice.say("unblock bob");
    assert_eq!(text(&alice.event("unblocked"), "name"), "bob");
}

#[test]
fn an_address_is_asked_for_and_told_once() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let (mut alice_peer, mut bob_peer) = (alice.peer(), bob.peer());

    alice_peer.say("getaddress bob");
    assert_eq!(text(&bob_peer.event("consent_asked"), "from"), "alice");
    bob_peer.say("allow alice");
    assert_eq!(text(&bob_peer.event("allowed"), "allowance"), "once");
    assert_eq!(alice_peer.event("consent_answered")["allowed"], true);
}

#[test]
fn a_session_takes_every_line_until_it_is_closed() {
    let world = World::new();
    let directory = world.directory();
    let (mut alice, mut bob) = (world.person("alice", &directory).peer(), world.person("bob", &directory).peer());

    alice.say("GET_CLIENT_INFO <bob>");
    assert_eq!(text(&bob.event("exclusive_opened"), "by"), "alice");
    let lines = ["send carol hi", "GET_CLIENT_LIST", "SEND_FILE<notes.txt>", "CLOSE_SESSION", "logout"];
    for line in lines {
        alice.say(line);
    }
    assert_eq!(bob.messages(lines.len()), lines);
    bob.say("CLOSE_SESSION");
    assert_eq!(text(&alice.event("exclusive_closed"), "why"), "there");
    bob.say("CLOSE_SESSION");
    failed(&mut bob, "no conversation is open");
    bob.say("GET_CLIENT_INFO <nobody2>");
    failed(&mut bob, "nobody2: nobody of that name has an account here");
}

#[test]
fn whoever_leaves_leaves_alone() {
    let world = World::new();
    let directory = world.directory();
    let alice = world.person("alice", &directory);
    let mut bob = world.person("bob", &directory).peer();

    for word in ["dereg alice", "logout", "DISCONNECT_CLIENT"] {
        let mut peer = alice.peer();
        peer.say("dereg bob");
        failed(&mut peer, "you cannot deregister other users!");
        peer.say("reg alice");
        peer.say("send bob before");
        assert_eq!(bob.messages(1), ["before"], "{word}");
        peer.say(&format!("{word}\nsend bob after it had left"));
        peer.outcome().expect_code(0);
    }
    let mut peer = alice.peer();
    peer.say("send bob the last one");
    assert_eq!(bob.messages(1), ["the last one"], "what follows such a word is not read");
}

#[test]
fn wrong_uses_are_named() {
    let world = World::new();
    let directory = world.directory();
    let mut alice = world.person("alice", &directory).peer();
    for (line, says) in [
        ("send", "send needs NAME TEXT"),
        ("message bob", "message needs NAME TEXT"),
        ("private nobody2 psst", "nobody2: nobody of that name has an account here"),
        ("send B*b hi", "B*b"),
        ("send_all", "send_all needs TEXT"),
        ("online now", "online takes nothing more"),
        ("getaddress", "getaddress needs NAME"),
        ("allow bob always", "bob always"),
        ("block", "block needs NAME"),
        ("reg bob", "you cannot register other users!"),
        ("dereg", "dereg needs NAME"),
        ("logout now", "logout takes nothing more"),
        ("GET_CLIENT_INFO", "GET_CLIENT_INFO needs <NAME>"),
        ("SEND_FILE<notes.txt>", "nobody was named to send this file to"),
        ("CLOSE_SESSION", "no conversation is open"),
        ("Send bob hi", "nobody was named to send this to"),
    ] {
        alice.say(line);
        failed(&mut alice, says);
    }
}

#[test]
fn the_help_lists_them_with_the_system_they_are_from() {
    let world = World::new();
    let directory = world.directory();
    let alice = world.person("alice", &directory);
    let mut peer = Process::spawn(alice.command("peer --plain", &[]));
    for line in ["/help", "#HELP"] {
        peer.say(line);
        peer.line_with("/help [old]");
        peer.line_with("/quit");
    }
    peer.say("/help old");
    for says in
        ["Peer to Peer Chat Service:", "SEND_FILE<PATH>", "UdpChat:", "send NAME TEXT", "Message Center:", "logout"]
    {
        peer.line_with(says);
    }
    peer.quit();
}
