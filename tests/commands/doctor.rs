//! `qchat doctor`, and what every command says where UDP is blocked.

use std::fs::{Permissions, set_permissions};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::program::{Outcome, Person, Process, World, text};

/// Nobody waits longer to hear that UDP is blocked.
const PATIENCE: Duration = Duration::from_secs(15);

fn doctor(person: &Person<'_>) -> Outcome {
    let Person { name, server, .. } = person;
    let home = person.home();
    Process::spawn(
        person.world.qchat(&format!("doctor --json --user {name} --server {server} --home {}", home.display())),
    )
    .outcome()
}

#[track_caller]
fn verdicts(outcome: &Outcome, check: &str) -> Vec<String> {
    let is_meant = |event: &Value| event["event"] == "finding" && event["check"] == check;
    outcome.events().iter().filter(|event| is_meant(event)).map(|event| text(event, "verdict").to_owned()).collect()
}

#[test]
fn a_healthy_way_to_a_directory_has_no_failure() {
    let world = World::new();
    let directory = world.directory();
    let alice = world.person("alice", &directory);
    let stranger = doctor(&alice);
    stranger.expect_code(0);
    assert_eq!(verdicts(&stranger, "profile"), ["warn"]);
    assert_eq!(verdicts(&stranger, "key"), ["warn"]);
    assert_eq!(verdicts(&stranger, "login"), ["warn"]);

    alice.rows("who", &[]);
    let known = doctor(&alice);
    known.expect_code(0);
    for check in ["profile", "host", "directory", "key", "packet_size", "login", "clock", "nat"] {
        assert_eq!(verdicts(&known, check), ["ok"], "{check}");
    }
    // It stays out of the way of a peer that runs.
    let _peer = alice.peer();
    let beside = doctor(&alice);
    beside.expect_code(0);
    assert_eq!(
        (verdicts(&beside, "profile"), verdicts(&beside, "login")),
        (vec!["ok".to_owned()], vec!["ok".to_owned()])
    );
}

#[test]
fn silence_is_told_as_blocked_udp_by_every_command() {
    let world = World::new();
    let directory = world.directory();
    let mut alice = world.person("alice", &directory);
    alice.rows("who", &[]);
    let fingerprint = pin_of(&alice);
    // It takes every packet and never answers, as a network does that blocks UDP.
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    alice.server = silent.local_addr().expect("its address").to_string();
    std::fs::write(alice.home().join("known_servers"), format!("{} {fingerprint}\n", alice.server))
        .expect("our own file");

    let began = Instant::now();
    let found = doctor(&alice);
    found.expect_error(10, "UDP is blocked on the way, or the directory is off");
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    assert_eq!(verdicts(&found, "directory"), ["fail"]);
    for command in [("who", vec![]), ("msg", vec!["bob", "hi"]), ("peer", vec![])] {
        let began = Instant::now();
        let outcome = alice.run(command.0, &command.1);
        outcome.expect_error(10, "nothing came back over UDP");
        assert!(outcome.stderr.contains("Some networks block UDP"), "{}", outcome.stderr);
        assert!(began.elapsed() < PATIENCE, "{}: {:?}", command.0, began.elapsed());
    }
}

#[test]
fn a_closed_port_is_told_from_silence() {
    let world = World::new();
    let mut directory = world.directory();
    let alice = world.person("alice", &directory);
    directory.process.kill();
    doctor(&alice).expect_error(10, "is closed: no directory runs there");
}

#[test]
fn another_key_and_an_open_folder_are_named() {
    let world = World::new();
    let directory = world.directory();
    let alice = world.person("alice", &directory);
    alice.rows("who", &[]);
    let fingerprint = pin_of(&alice);
    let folder = alice.home().join(&fingerprint[..16]).join("alice");
    set_permissions(&folder, Permissions::from_mode(0o755)).expect("our own folder");
    let open = doctor(&alice);
    open.expect_error(7, "chmod 700");
    assert_eq!(
        (verdicts(&open, "profile"), verdicts(&open, "directory")),
        (vec!["fail".to_owned()], vec!["ok".to_owned()])
    );

    let pins = format!("{} {}\n", alice.server, "ab".repeat(32));
    std::fs::write(alice.home().join("known_servers"), pins).expect("our own file");
    doctor(&alice).expect_error(7, "another key than the trusted one");
}

fn pin_of(person: &Person<'_>) -> String {
    let pins = std::fs::read_to_string(person.home().join("known_servers")).expect("she trusts a directory");
    pins.split_whitespace().nth(1).expect("an address and a fingerprint").to_owned()
}
