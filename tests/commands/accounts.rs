//! Accounts with the real binary: moving to another machine, taking an account back, invitations.

use crate::program::{Directory, Outcome, Person, Process, World, text};

/// A verb of somebody who has an account and does not want to make one.
fn as_known(person: &Person<'_>, arguments: &str) -> Process {
    let login = person.login().replace(" --register", "");
    let mut command = person.world.qchat(arguments);
    command.args(login.split_whitespace());
    Process::spawn(command)
}

fn run(person: &Person<'_>, arguments: &str) -> Outcome {
    as_known(person, arguments).outcome()
}

#[test]
fn an_owner_is_asked_before_another_machine_takes_the_account() {
    let (world, other_machine) = (World::new(), World::new());
    let directory = world.directory();
    let mut old = world.person("alice", &directory).peer();
    let laptop = other_machine.person("alice", &directory);

    let declined = as_known(&laptop, "who");
    let asked = old.event("key_requested");
    assert_eq!(asked["source"], "127.0.0.1");
    old.say(&format!("/deny-key {}", &asked["key"].as_str().unwrap()[..8]));
    let declined = declined.outcome();
    declined.expect_error(7, "the account's owner has declined this key");
    assert_eq!(declined.stderr.matches("its owner is asked there").count(), 1, "{}", declined.stderr);

    let third_machine = World::new();
    let phone = third_machine.person("alice", &directory);
    let allowed = as_known(&phone, "who");
    old.event("key_requested");
    old.say("/allow-key");
    allowed.outcome().expect_code(0);
    old.outcome().expect_code(14);
}

#[test]
fn a_replaced_key_takes_the_account_back() {
    let (world, other_machine) = (World::new(), World::new());
    let directory = world.directory();
    let owner = world.person("alice", &directory);
    owner.rows("who", &[]);
    let thief = other_machine.person("alice", &directory);
    run(&thief, "who").expect_code(0);

    let replaced = run(&owner, "who");
    replaced.expect_error(7, "this key was replaced from elsewhere; it can be undone for 168 h");
    assert!(replaced.stderr.contains("--take-back"), "{}", replaced.stderr);
    let taken = run(&owner, "who --take-back");
    taken.expect_code(0);
    assert!(taken.stderr.contains("change it with `qchat account password`"), "{}", taken.stderr);
    run(&owner, "who").expect_code(0);
    run(&thief, "who --take-back").expect_code(0); // it knows the password, so it may bring its key again
}

#[test]
fn only_invited_people_get_in_with_a_link_that_works_once() {
    let world = World::new();
    let (cert, data) = (world.path("cert"), world.path("data"));
    let serve = format!("serve --cert {} --data {} --listen 127.0.0.1:0", cert.display(), data.display());
    let mut process = Process::spawn(world.qchat(&format!("{serve} --invite-only --json")));
    let listening = process.event("listening");
    let directory =
        Directory { process, address: text(&listening, "address").parse().unwrap(), doors: Default::default() };
    let mut stranger = world.person("mallory", &directory);
    stranger.run("who", &[]).expect_error(7, "needs an invitation");

    let mut alice = world.person("alice", &directory);
    alice.server = text(&listening, "link").to_owned();
    let _peer = alice.peer();
    let invited = alice.rows("invite", &["bob"]);
    let link = text(&invited[0], "link").to_owned();
    assert!(link.contains("/bob#") && link.contains('.'), "{link}");
    let mut bob = world.person("bob", &directory);
    bob.server = link.clone();
    bob.rows("who", &[]);
    stranger.server = link;
    stranger.run("who", &[]).expect_error(7, "was used already");
}

#[test]
fn people_care_for_their_account() {
    let (world, other_machine) = (World::new(), World::new());
    let directory = world.directory();
    let alice = world.person("alice", &directory);
    let peer = alice.peer();
    let sessions = alice.rows("account sessions", &[]);
    assert_eq!((sessions[0]["kind"].as_str(), sessions[0]["this"].as_bool()), (Some("resident"), Some(true)));
    peer.quit();

    let new = world.write("new-password", "a new one\n");
    alice.run(&format!("account password --new-password-file {}", new.display()), &[]).expect_code(0);
    let laptop = other_machine.person("alice", &directory);
    run(&laptop, "who").expect_error(7, "wrong password (2 more tries)");
    other_machine.write("password", "a new one\n");
    run(&laptop, "who").expect_code(0);

    run(&laptop, "account delete").expect_error(2, "--yes");
    run(&laptop, "account delete --yes").expect_code(0);
    laptop.run("who", &[]).expect_error(7, "the name is free in 90 days");
}

#[test]
fn an_operator_administers_over_the_socket_in_the_data_folder() {
    let world = World::new();
    let directory = world.directory();
    let alice = world.person("alice", &directory);
    let peer = alice.peer();
    let data = world.path("data");
    let admin = |words: &str| {
        let command = world.qchat(&format!("admin --data {} --json {words}", data.display()));
        Process::spawn(command).outcome()
    };
    let users = admin("user list").events();
    assert_eq!((text(&users[0], "name"), users[0]["online"].as_bool()), ("alice", Some(true)));
    assert_eq!(text(&admin("sessions").events()[0], "kind"), "resident");

    let relay = admin("relay").events();
    assert_eq!((text(&relay[0], "event"), &relay[0]["opened"]), ("relay", &0.into()));
    assert_eq!(relay[0]["ports"].as_array().map(Vec::len), Some(16));
    admin("sessions end ghost").expect_error(1, "nobody of that name has an account here");
    admin("sessions end alice").expect_code(0);
    peer.outcome().expect_error(14, "the directory's operator has ended this session");
    admin("sessions end alice").expect_error(1, "nobody of that name has a session");

    let peer = alice.peer();
    admin("user disable alice").expect_code(0);
    peer.outcome().expect_code(7);
    alice.run("who", &[]).expect_error(7, "this account is disabled");
    admin("user enable alice").expect_code(0);
    alice.rows("who", &[]);

    let reset = admin("user reset-password alice").events();
    let other_machine = World::new();
    other_machine.write("password", text(&reset[0], "password"));
    run(&other_machine.person("alice", &directory), "who").expect_code(0);

    assert_eq!(text(&admin("invite").events()[0], "token").len(), 26);
    admin("user delete alice").expect_code(0);
    admin("user delete alice").expect_code(1);
    drop(directory);
    admin("user list").expect_code(10);
}

#[test]
fn a_closed_account_forgets_who_waits_for_its_owners_answer() {
    let (world, other_machine) = (World::new(), World::new());
    let directory = world.directory();
    let alice = world.person("alice", &directory);
    let mut peer = alice.peer();
    let thief = other_machine.person("alice", &directory);
    let waiting = as_known(&thief, "who");
    peer.event("key_requested");
    let admin = |words: &str| {
        let data = world.path("data");
        Process::spawn(world.qchat(&format!("admin --data {} user {words}", data.display()))).outcome()
    };
    admin("disable alice").expect_code(0);
    waiting.outcome().expect_error(7, "this account is disabled");
    admin("enable alice").expect_code(0);
    alice.rows("who", &[]); // her key is still the account's
}

#[test]
fn a_hangup_renews_the_certificate_and_a_bad_one_keeps_the_old() {
    let world = World::new();
    let directory = world.directory();
    let alice = world.person("alice", &directory);
    let mut peer = alice.peer();
    let certificate = world.path("cert").join("cert.pem");
    let good = std::fs::read(&certificate).unwrap();
    for pem in [&b"not a certificate"[..], &good] {
        std::fs::write(&certificate, pem).unwrap();
        directory.process.signal(rustix::process::Signal::HUP);
        world.person("bob", &directory).rows("who", &[]);
        peer.say("/who");
        peer.event("person");
    }
    assert!(!peer.kinds_so_far().contains(&"directory_lost".to_owned()));
    peer.quit();
}
