//! The JSON dialect against the real directory: every message of its page, the client of examples/, loss, and a flood.

pub(super) mod client;
mod flood;
mod loss;
mod page;

use std::time::Duration;

use serde_json::{Value, json};

use super::{directory_for, door};
use crate::program::{Directory, Process, World, text};
use client::Client;

/// A directory with names that have passwords.
fn directory(world: &World) -> Directory {
    let credentials = world.write("credentials", "seas blue\ncolumbia red\n");
    directory_for(world, &["json"], &format!("--compat-credentials {}", credentials.display()))
}

#[test]
fn people_on_both_sides_see_each_other_and_chat_and_fetch_files() {
    let world = World::new();
    let directory = directory(&world);
    let mut carol = Client::registered(door(&directory, "json"), "Carol");
    let alice = world.person("alice", &directory);
    let mut peer = alice.peer();
    let shared = alice.file("plan.txt", "Über 9 Brücken\n");
    peer.say(&format!("/share {}", shared.display()));
    peer.event("shared");

    let listed = carol.ask(json!({"type": "ONL"}));
    assert_eq!(listed["list"], json!(["alice", "Carol"]), "{listed}");
    assert_eq!(
        carol.ask(json!({"type": "CHAT", "to": "alice", "text": "Grüße | \"x\" \n\u{1f600}"}))["type"],
        "DELIVERED"
    );
    let said = peer.event("message");
    assert_eq!((text(&said, "from"), text(&said, "text")), ("carol", "Grüße | \"x\" \n\u{1f600}"));
    peer.say("/msg carol hi there");
    let heard = carol.pushed("MSG");
    assert_eq!((&heard["from"], &heard["text"]), (&json!("alice"), &json!("hi there")));

    assert_eq!(carol.download("alice", "plan.txt"), Ok("Über 9 Brücken\n".to_owned()));
    assert_eq!(carol.ask(json!({"type": "PUBLISH", "filename": "empty.txt", "text": ""}))["type"], "PUBLISHED");
    let rows = alice.rows("get carol:empty.txt", &[]);
    assert_eq!(rows.last().map(|row| &row["size"]), Some(&json!(0)), "{rows:?}");

    let picture = alice.file("picture.bin", [0xff, 0xfe, 0]);
    peer.say(&format!("/share {}", picture.display()));
    peer.event("shared");
    assert_eq!(
        carol.download("alice", "picture.bin"),
        Err("picture.bin is no text: this dialect carries none else".to_owned())
    );
}

#[test]
fn a_long_line_comes_in_parts_and_is_the_line() {
    let world = World::new();
    let directory = directory(&world);
    let mut carol = Client::registered(door(&directory, "json"), "carol");
    let mut peer = world.person("alice", &directory).peer();
    let line: String = "äöü\u{1f600}x\\".chars().cycle().take(3_000).collect();
    peer.say(&format!("/msg carol {line}"));
    let mut heard = String::new();
    loop {
        let part = carol.pushed("MSG");
        heard += text(&part, "text");
        if part["part"].as_u64().map(|part| part + 1) == part["parts"].as_u64() {
            break;
        }
    }
    assert_eq!(heard, line);
}

#[test]
fn mail_waits_for_whoever_is_away_and_is_shown_once() {
    let world = World::new();
    let directory = directory(&world);
    let mut carol = Client::registered(door(&directory, "json"), "carol");
    let mut peer = world.person("alice", &directory).peer();
    assert_eq!(carol.ask(json!({"type": "LOGOUT"}))["type"], "ACK");
    peer.say("/msg carol one");
    peer.say("/msg carol two");
    for _ in 0..2 {
        peer.event("stored");
    }
    carol.register("carol");
    assert_eq!([carol.pushed("MSG")["text"].clone(), carol.pushed("MSG")["text"].clone()], ["one", "two"]);
    // What was acknowledged does not come again.
    assert_eq!(carol.ask(json!({"type": "LOGOUT"}))["type"], "ACK");
    carol.register("carol");
    peer.say("/msg carol three");
    assert_eq!(carol.pushed("MSG")["text"], "three");
}

#[test]
fn whoever_takes_a_name_that_was_given_up_is_somebody_else() {
    let world = World::new();
    let directory = directory(&world);
    let mut carol = Client::registered(door(&directory, "json"), "carol");
    let alice_is = world.person("alice", &directory);
    let mut alice = alice_is.peer();
    carol.ask(json!({"type": "FRIEND", "name": "alice"}));
    alice.event("friend_asked");
    alice.say("/friend carol");
    carol.pushed("CONFIRM");
    carol.ask(json!({"type": "PUBLISH", "filename": "mine.txt", "text": "of carol"}));
    carol.ask(json!({"type": "LOGOUT"}));
    alice.say("/msg carol for your eyes only");
    alice.event("stored");
    carol.register("carol");
    carol.ask(json!({"type": "DE-REGISTER", "name": "carol"}));

    let mut other = Client::from([127, 0, 0, 2], door(&directory, "json"));
    other.register("carol");
    // To another key than she knows nothing goes before she has heard of it.
    alice.say("/msg carol is it you?");
    alice.event("key_changed");
    alice.event_where("not_sent", |event| event["to"] == "carol");
    alice.say("/msg carol who are you?");
    let heard = other.pushed("MSG");
    assert_eq!(heard["text"], "who are you?", "what was meant for the former is not told");
    assert!(alice_is.rows("friends", &[]).is_empty(), "nor are they friends");
    assert!(alice_is.rows("find", &["mine.txt"]).is_empty(), "nor do they have the former's files");

    // And a person may have it next.
    other.ask(json!({"type": "DE-REGISTER", "name": "carol"}));
    let person = world.person("carol", &directory);
    assert_eq!(person.rows("profile", &["edit", "name", "Carol"]).len(), 1);
}

#[test]
fn a_name_with_a_password_is_of_whoever_logged_in_last() {
    let world = World::new();
    let directory = directory(&world);
    let door = door(&directory, "json");
    let (mut old, mut new) = (Client::at(door), Client::at(door));
    let log_in = json!({"type": "LIN", "name": "seas", "password": "blue"});
    let first = old.ask(log_in.clone())["token"].clone();
    let second = new.ask(log_in)["token"].clone();
    assert!(first.is_string() && second.is_string() && first != second);
    assert_eq!(old.pushed("OUT")["reason"], "logged in from another address");
    assert_eq!(old.ask(json!({"type": "HEY", "name": "seas", "token": first}))["type"], "HEY-DENIED");
    assert_eq!(new.ask(json!({"type": "HEY", "name": "seas", "token": second}))["type"], "ACK");

    let wrong = json!({"type": "REGISTER", "name": "columbia", "password": "wrong"});
    let denied: Vec<Value> = (0..4).map(|_| old.ask(wrong.clone())["reason"].clone()).collect();
    assert_eq!(denied[2], "too many wrong passwords: try again in 60 s");
    let right = json!({"type": "LIN", "name": "columbia", "password": "red"});
    let locked = old.ask(right.clone());
    assert!(text(&locked, "reason").starts_with("too many wrong passwords"), "{denied:?} {locked}");
    let mut elsewhere = Client::from([127, 0, 0, 2], door);
    let answer = elsewhere.ask(right);
    assert_eq!(answer["type"], "LOGIN_OKAY", "others are not locked out: {answer}");
    assert_eq!(old.ask(json!({"type": "REGISTER", "name": "seas"}))["type"], "REGISTER-DENIED");
}

#[test]
fn a_name_belongs_to_its_address_and_moves_between_its_ports() {
    let world = World::new();
    let directory = directory(&world);
    let door = door(&directory, "json");
    let mut ann = Client::registered(door, "ann");
    let mut thief = Client::from([127, 0, 0, 2], door);
    for kind in ["UPDATE-CONTACT", "LOGOUT", "DE-REGISTER", "HEY"] {
        let denied = thief.ask(json!({"type": kind, "name": "ann"}));
        assert_eq!(denied["reason"], "this name belongs to somebody at another address");
    }
    let mut moved = Client::at(door);
    assert_eq!(moved.ask(json!({"type": "UPDATE-CONTACT", "name": "ann"}))["udp"], json!(moved.port()));
    assert_eq!(ann.ask(json!({"type": "ONL"}))["type"], "ONL-DENIED");
    let mut peer = world.person("alice", &directory).peer();
    peer.say("/msg ann hi");
    assert_eq!(moved.pushed("MSG")["text"], "hi");
    assert_eq!(thief.ask(json!({"type": "REGISTER", "name": "alice"}))["type"], "REGISTER-DENIED");
}

#[test]
fn the_client_in_examples_does_what_it_says() {
    let world = World::new();
    let directory = directory(&world);
    let alice = world.person("alice", &directory);
    let mut peer = alice.peer();
    let plan = "x".repeat(1_000);
    peer.say(&format!("/share {}", alice.file("plan.txt", &plan).display()));
    peer.event("shared");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/json_client.py");
    let door = door(&directory, "json");
    let mut python = world.set_up(std::process::Command::new("python3"), "");
    python.arg(script).args([door.ip().to_string(), door.port().to_string(), "carol".to_owned()]);
    let mut client = Process::spawn(python);
    client.line_with("REGISTERED");
    client.say("list");
    assert_eq!(client.line_with("carol"), "alice carol");
    client.say("chat alice good morning");
    client.line_with("DELIVERED");
    assert_eq!(text(&peer.event("message"), "text"), "good morning");
    peer.say("/msg carol and to you");
    assert_eq!(client.line_with("alice:"), "alice: and to you");
    client.say("download alice plan.txt");
    client.line_with("plan.txt is here");
    assert_eq!(std::fs::read_to_string(world.folder("work").join("plan.txt")).unwrap(), plan);
    client.say("download alice none.txt");
    client.line_with("shares no file named none.txt");
    client.say("quit");
    client.outcome().expect_code(0);
}

#[test]
fn what_came_and_was_shared_is_there_again_after_a_restart() {
    let world = World::new();
    let mut directory = directory(&world);
    let door = door(&directory, "json");
    let mut carol = Client::registered(door, "carol");
    assert_eq!(carol.ask(json!({"type": "PUBLISH", "filename": "a.txt", "text": "a"}))["type"], "PUBLISHED");
    directory.process.kill();
    let flags = format!("--relay-ports any --compat json={door}");
    directory = world.directory_that(&directory.address.to_string(), &flags);
    let mut peer = world.person("alice", &directory).peer();
    let until = std::time::Instant::now() + crate::program::DEADLINE;
    while carol.ask(json!({"type": "HEY"}))["type"] != "ACK" {
        assert!(std::time::Instant::now() < until, "carol is not brought back");
        carol.quiet_for(Duration::from_millis(50));
    }
    peer.say("/msg carol hi");
    assert_eq!(carol.pushed("MSG")["text"], "hi");
    let rows = world.person("bob", &directory).rows("get carol:a.txt", &[]);
    assert_eq!(rows.last().map(|row| &row["size"]), Some(&json!(1)), "{rows:?}");
    assert!(carol.quiet_for(Duration::from_millis(200)), "nothing else comes");
}
