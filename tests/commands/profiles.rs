//! What people say about themselves, as they type and read it: `profile`, `profile NAME`, `--via FRIEND`, `profile edit`.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::program::{Person, World, text};

/// The smallest thing that passes for a PNG.
const PICTURE: &[u8] = b"\x89PNG\r\n\x1a\nand what follows";

/// Asks for a profile, and gives its row.
#[track_caller]
fn shown(person: &Person<'_>, arguments: &str, last: &[&str]) -> Value {
    person.rows(arguments, last).pop().expect("a profile is a row")
}

#[test]
fn a_profile_is_made_of_parts_that_are_said_changed_and_removed() {
    let world = World::new();
    let directory = world.directory();
    let alice = world.person("alice", &directory);
    alice.run("profile", &[]).expect_error(1, "you have no profile yet");
    alice.run("profile edit", &["town"]).expect_error(1, "your profile has no field town");
    let first = shown(&alice, "profile edit", &["name", "Alice", "in", "Wonderland"]);
    assert_eq!((&first["version"], text(&first, "display_name")), (&json!(1), "Alice in Wonderland"));
    assert_eq!((text(&first, "event"), text(&first, "source"), &first["news"]), ("profile", "own", &json!(true)));

    let mut peer = alice.peer();
    for line in ["/profile edit info I fell down\u{1b}[2J a hole", "/profile edit Town Oxford", "/profile edit age 7"] {
        peer.say(line);
    }
    peer.event_where("profile", |row| row["version"] == 4);
    let whole = shown(&alice, "profile", &[]);
    assert_eq!(whole["fields"], json!({"age": "7", "town": "Oxford"}));
    peer.say("/profile edit age");
    let removed = peer.event_where("profile", |row| row["version"] == 5);
    assert_eq!(removed["fields"], json!({"town": "Oxford"}));
    let unchanged = shown(&alice, "profile edit", &["town", "Oxford"]);
    assert_eq!((&unchanged["version"], &unchanged["news"]), (&json!(5), &json!(false)), "what is said is no news");
    peer.quit();

    let expected =
        "alice  (version 5)\n  name: Alice in Wonderland\n  info: I fell down\\u{1b}[2J a hole\n  town: Oxford";
    assert_eq!(alice.run("profile", &[]).stdout, expected, "it is kept, and shown without what could draw");
}

#[test]
fn wrong_parts_are_named() {
    let world = World::new();
    let directory = world.directory();
    let alice = world.person("alice", &directory);
    for (parts, says) in [
        (vec!["name", &"x".repeat(65)], "a display name has 1 to 64 characters"),
        (vec!["info", &"x".repeat(1_025)], "1 to 1024 bytes, not 1025"),
        (vec!["two words", "x"], "a field is called by one word"),
        (vec!["town", &"x".repeat(513)], "a field says 1 to 512 bytes, not 513"),
    ] {
        alice.run("profile edit", &parts).expect_error(2, says);
    }
    alice.run("profile edit", &[]).expect_error(2, "which part of the profile?");
    alice.run("profile --via bob", &["edit", "town", "x"]).expect_error(2, "not for changing yours");
    alice.run("profile", &["bob", "carol"]).expect_error(2, "one name at a time");
    alice.run("profile", &["Not a name"]).expect_error(2, "is not a name");
    for number in 0..16 {
        alice.run("profile edit", &[&format!("f{number}"), "x"]).expect_code(0);
    }
    alice.run("profile edit", &["f16", "x"]).expect_error(9, "at most 16 free fields");
    alice.run("profile", &["nemo"]).expect_error(1, "nemo: nobody of that name has an account here");
    alice.run("profile --via alice", &["nemo"]).expect_error(2, "this is yourself");
    alice.run("profile --via nemo", &["alice"]).expect_error(1, "nemo");
    assert_eq!(shown(&alice, "profile", &[])["version"], 16);
}

#[test]
fn a_picture_comes_from_a_file_and_goes_to_another() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    bob.file("my face.png", PICTURE);
    bob.file("text", "no picture");
    bob.file("large", vec![0; 32 * 1_024 + 1]);
    bob.run("profile edit", &["picture", "text"]).expect_error(2, "a picture is a PNG or a JPEG, and this is neither");
    bob.run("profile edit", &["picture", "large"]).expect_error(9, "not 32769");
    bob.run("profile edit", &["picture", "nothing there"]).expect_error(1, "nothing there");
    bob.run("profile edit", &["picture", "."]).expect_error(2, "is not a file");
    let mut peer = bob.peer();
    peer.say("/profile edit picture my face.png");
    let size = PICTURE.len();
    assert_eq!(peer.event("profile")["picture"], json!({"kind": "png", "size": size}));

    let path = alice.folder().join("bob.png");
    let row = shown(&alice, "profile --picture-to bob.png", &["bob"]);
    assert_eq!(row["picture"], json!({"kind": "png", "size": size, "path": path}));
    assert_eq!(std::fs::read(&path).unwrap(), PICTURE);
    std::fs::write(&path, "mine").unwrap();
    let taken = alice.run("profile --picture-to bob.png", &["bob"]);
    taken.expect_error(1, "bob.png exists already");
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    alice.run("profile --picture-to none/bob.png", &["bob"]).expect_error(2, "there is no folder for");

    peer.say("/profile edit picture");
    assert!(peer.event("profile").get("picture").is_none());
    let none = alice.run("profile --picture-to other.png", &["bob"]);
    none.expect_error(1, "the profile of bob has no picture");
    assert!(!alice.folder().join("other.png").exists());
}

#[test]
fn a_profile_is_asked_of_its_owner_and_kept_for_when_they_are_away() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    bob.run("profile edit", &["name", "Bob the Builder"]).expect_code(0);
    alice.run("profile", &["bob"]).expect_error(4, "bob: not online");
    let peer = bob.peer();
    let first = shown(&alice, "profile", &["bob"]);
    assert_eq!((text(&first, "source"), &first["news"], &first["version"]), ("owner", &json!(true), &json!(1)));
    assert_eq!(shown(&alice, "profile", &["bob"])["news"], false, "only news travels");
    bob.rows("profile edit", &["town", "Berlin"]);
    assert_eq!(shown(&alice, "profile", &["bob"])["fields"]["town"], "Berlin");

    peer.quit();
    let kept = alice.run("profile", &["bob"]);
    kept.expect_code(0);
    assert!(kept.stderr.contains("* bob: not online: this is the copy that lies here"), "{}", kept.stderr);
    let expected = "bob  (version 2, the copy that lies here)\n  name: Bob the Builder\n  town: Berlin";
    assert_eq!(kept.stdout, expected);

    let mut alice_peer = alice.peer();
    alice_peer.say("/profile bob");
    assert_eq!(text(&alice_peer.event("profile"), "source"), "stored");
    let peer = bob.peer();
    alice_peer.say("/profile bob");
    assert_eq!(text(&alice_peer.event("profile"), "source"), "owner", "and asked again once they are back");
    peer.quit();

    directory.process.signal(Signal::TERM);
    alice_peer.event("directory_lost");
    alice_peer.say("/profile bob");
    let note = alice_peer.event("note");
    assert!(text(&note, "text").contains("cannot reach the directory"), "{note}");
    assert_eq!(text(&alice_peer.event("profile"), "source"), "stored", "without a directory, too");
}

#[test]
fn a_friend_hands_on_what_they_have_seen() {
    let world = World::new();
    let directory = world.directory();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| world.person(name, &directory));
    bob.run("profile edit", &["town", "Berlin"]).expect_code(0);
    let peer = bob.peer();
    shown(&carol, "profile", &["bob"]);
    peer.quit();
    alice.run("profile --via carol", &["bob"]).expect_error(4, "carol: not online");

    let mut carol_peer = carol.peer();
    let refused = alice.run("profile --via carol", &["bob"]);
    refused.expect_error(1, "carol has no profile of bob for you");
    assert!(refused.stderr.contains("only friends hand on"), "{}", refused.stderr);
    alice.rows("friend", &["carol"]);
    assert_eq!(text(&carol_peer.event("friend_asked"), "from"), "alice");
    carol_peer.say("/friend alice");
    carol_peer.event_where("friend", |row| row["state"] == "friends");
    let row = shown(&alice, "profile --via carol", &["bob"]);
    assert_eq!((text(&row, "source"), text(&row, "via")), ("friend", "carol"));
    assert_eq!((&row["news"], &row["fields"]), (&json!(true), &json!({"town": "Berlin"})));
    let mut alice_peer = alice.peer();
    alice_peer.say("/profile bob via carol");
    assert_eq!(alice_peer.event("profile")["news"], false);
    alice_peer.say("/profile bob");
    assert_eq!(text(&alice_peer.event("profile"), "source"), "stored");
    alice_peer.say("/block carol");
    alice_peer.event("blocked");
    alice_peer.say("/profile bob via carol");
    assert_eq!(text(&alice_peer.event("failed")["failure"], "message"), "you have blocked carol");
}
