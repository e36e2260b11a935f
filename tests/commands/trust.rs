//! People who make sure of each other from the command line: the numbers they compare, and the marks they keep.

use crate::program::{World, text};

#[test]
fn both_print_the_same_number_and_a_mark_is_kept() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    bob.peer().quit();

    let hers = alice.run("verify", &["bob"]);
    hers.expect_code(0);
    let his = bob.run("verify", &["alice"]);
    let digits = |output: &str| -> String { output.lines().skip(1).take(3).collect::<Vec<_>>().join("\n") };
    assert_eq!(digits(&hers.stdout), digits(&his.stdout));
    assert_eq!(digits(&hers.stdout).split_whitespace().filter(|group| group.len() == 5).count(), 12);
    assert!(hers.stdout.contains("not verified") && hers.stdout.contains("verify bob --mark"), "{}", hers.stdout);
    assert!(!hers.stdout.contains('█'), "a file or pipe reads no QR code");

    let marked = alice.run("verify --mark", &["bob"]);
    marked.expect_code(0);
    assert!(marked.stdout.contains("verified since 2"), "{}", marked.stdout);
    let rows = alice.rows("verify", &["bob"]);
    assert_eq!(text(&rows[0], "event"), "contact");
    assert_eq!(text(&rows[0], "safety_number"), digits(&hers.stdout).split_whitespace().collect::<String>());
    assert!(rows[0]["verified_at"].is_u64() && rows[0]["offered_key"].is_null(), "{rows:?}");
    assert!(bob.rows("verify", &["alice"])[0]["verified_at"].is_null());
}

#[test]
fn a_running_peer_answers_for_the_verb_and_by_its_own_word() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let mut peer = alice.peer();
    let _bob = bob.peer();
    peer.say("/verify bob --mark");
    assert!(peer.event("contact")["verified_at"].is_u64());
    assert!(alice.rows("verify", &["bob"])[0]["verified_at"].is_u64());
    peer.quit();
}

#[test]
fn oneself_nobody_and_a_key_that_never_changed_are_clear_errors() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    bob.peer().quit();
    alice.run("verify", &["alice"]).expect_error(2, "this is yourself");
    alice.run("verify", &["nemo"]).expect_error(1, "nemo: nobody of that name");
    alice.run("verify", &["No/Name"]).expect_code(2);
    alice.run("trust", &["bob"]).expect_error(1, "no other key");
}
