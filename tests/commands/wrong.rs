//! What people get wrong and what breaks under them: one clear line, the documented exit code, and never a hang.

use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::program::{Outcome, Person, Process, World, content, names_in, text};

#[test]
fn a_directory_that_is_not_there_is_named_with_what_to_check() {
    let world = World::new();
    let mut directory = world.directory();
    let mut alice = world.person("alice", &directory);
    alice.rows("who", &[]);
    directory.process.kill();

    let known = alice.run("who", &[]);
    known.expect_error(10, &format!("cannot reach the directory at {}: timed out", directory.address));
    assert!(known.stderr.contains("hint: is `qchat serve` running there"), "{}", known.stderr);
    alice.server = format!("localhost:{}", directory.address.port());
    alice.run("peer", &[]).expect_error(10, "cannot reach the directory at localhost");
    alice.server = "nowhere.invalid".to_owned();
    alice.run("who", &[]).expect_error(10, "cannot find the directory's host \"nowhere.invalid\"");
}

#[test]
fn a_wrong_password_is_refused_and_tries_are_counted() {
    let world = World::new();
    let directory = world.directory();
    world.person("alice", &directory).rows("who", &[]);

    let thief_world = World::new();
    let thief = thief_world.person("alice", &directory);
    thief_world.write("password", "not the password\n");
    for _ in 0..3 {
        without_register(&thief).expect_error(7, "password");
    }
    let locked = without_register(&thief);
    locked.expect_code(7);
    assert!(locked.stderr.contains("locked for 60 s"), "{}", locked.stderr);
    world.person("alice", &directory).rows("who", &[]);
}

#[test]
fn an_account_that_exists_is_not_made_again_and_one_that_does_not_is_not_made_unasked() {
    let world = World::new();
    let directory = world.directory();
    let alice = world.person("alice", &directory);

    let unasked = without_register(&alice);
    unasked.expect_code(1);
    assert!(unasked.stderr.contains("--register makes the account"), "{}", unasked.stderr);
    alice.rows("who", &[]);
    let other_world = World::new();
    other_world.person("alice", &directory).run("who", &[]).expect_error(7, "alice");
}

#[test]
fn people_and_files_that_nobody_knows_are_named() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let _peer = bob.peer();

    alice.run("msg", &["carol", "hi"]).expect_error(1, "carol");
    alice.run("get", &["bob:nothing.txt"]).expect_error(1, "bob:nothing.txt");
    alice.run("get", &["carol:nothing.txt"]).expect_error(1, "carol:nothing.txt");
    alice.run("get", &["neither name nor digest"]).expect_error(2, "neither NAME:FILE nor a digest");
    alice.run("unshare", &["nothing.txt"]).expect_error(1, "you share no file named nothing.txt");
    alice.run("share", &["nothing.txt"]).expect_error(1, "nothing.txt");
    alice.run("share", &["/dev/null"]).expect_code(2);
    alice.run("send", &["bob", "nothing.txt"]).expect_error(1, "nothing.txt");
    alice.run("msg", &["alice", "hi"]).expect_error(2, "this is yourself");
    alice.run("msg", &["bob", ""]).expect_code(2);
    alice.run("msg", &["bob", &"x".repeat(100_000)]).expect_code(2);
}

#[test]
fn arguments_that_make_no_sense_are_explained() {
    let world = World::new();
    let usage = |arguments: &str, says: &str| {
        let outcome = Process::spawn(world.qchat(arguments)).outcome();
        outcome.expect_code(2);
        assert!(outcome.stderr.contains(says), "{says:?} should be in:\n{}", outcome.stderr);
        assert_eq!(outcome.stdout, "", "talk goes to standard error");
    };

    usage("", "Usage: qchat");
    usage("nonsense", "unrecognized subcommand 'nonsense'");
    usage("who", "which directory?");
    usage("who --server localhost", "who are you?");
    for name in ["Bad!Name", "-x", "a/b", "all", "", &"a".repeat(33)] {
        usage(&format!("who --server localhost --user={name}"), "error:");
    }
    for server in ["", "http://host", "host:0", "host:port", "host:70000", "[::1", "qchat://host", "qchat://host/#abc"]
    {
        usage(&format!("who --user alice --server={server}"), "error:");
    }
    usage("serve", "--cert");
    usage("serve --cert x --listen nonsense", "--listen");
    usage("serve --cert x --relay-ports 4449-4434", "ports are a range of UDP ports such as 4434-4449");
    usage("serve --cert x --relay-daily 10T", "an amount of bytes is a number");
    usage("get", "NAME:FILE|DIGEST");
    let help = Process::spawn(world.qchat("--help")).outcome();
    help.expect_code(0);
    assert!(help.stdout.contains("Exit codes: 0 done"), "{}", help.stdout);
}

#[test]
fn two_at_once_on_one_folder_or_port_are_one_too_many() {
    let world = World::new();
    let directory = world.directory();
    let alice = world.person("alice", &directory);
    let mut peer = alice.peer();
    let (cert, data) = (world.path("cert"), world.path("data"));

    let same_data = format!("serve --cert {} --data {} --listen 127.0.0.1:0", cert.display(), data.display());
    Process::spawn(world.qchat(&same_data)).outcome().expect_error(1, "another qchat serve uses");
    let other_data = world.path("other-data");
    let same_port =
        format!("serve --cert {} --data {} --listen {}", cert.display(), other_data.display(), directory.address);
    Process::spawn(world.qchat(&same_port))
        .outcome()
        .expect_error(1, &format!("cannot listen on {}", directory.address));
    let second = alice.run("peer", &[]);
    second.expect_error(1, "another qchat uses the profile");
    assert!(second.stderr.contains("another command or peer of this account is running"), "{}", second.stderr);

    peer.say("/who");
    peer.event("person");
}

#[test]
fn certificates_that_cannot_be_used_are_named() {
    let world = World::new();
    let serve = |folder: &Path| {
        let data = world.path("data");
        let arguments = format!("serve --cert {} --data {} --listen 127.0.0.1:0", folder.display(), data.display());
        Process::spawn(world.qchat(&arguments)).outcome()
    };
    drop(world.directory());
    let good = world.path("cert");

    let half = world.folder("half");
    std::fs::copy(good.join("cert.pem"), half.join("cert.pem")).unwrap();
    serve(&half).expect_error(1, "key.pem is not");
    std::fs::write(half.join("key.pem"), "garbage").unwrap();
    serve(&half).expect_error(1, "key.pem is not usable");
    std::fs::copy(good.join("key.pem"), half.join("key.pem")).unwrap();
    std::fs::write(half.join("cert.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    serve(&half).expect_error(1, "cert.pem is not usable");
    let other_world = World::new();
    drop(other_world.directory());
    std::fs::copy(other_world.path("cert").join("cert.pem"), half.join("cert.pem")).unwrap();
    serve(&half).expect_error(1, "");
}

#[test]
fn a_directory_with_another_key_is_not_trusted() {
    let world = World::new();
    let mut directory = world.directory();
    let alice = world.person("alice", &directory);
    let first = fingerprint(&alice.peer().outcome());
    directory.process.kill();
    std::fs::remove_dir_all(world.path("cert")).unwrap();
    directory.start_again(&world);

    let refused = alice.run("who", &[]);

    refused.expect_error(7, "has another key than the trusted one");
    let known = std::fs::read_to_string(alice.home().join("known_servers")).unwrap();
    assert!(refused.stderr.contains(&format!("trusted {first}")) && known.contains(&first), "{}", refused.stderr);
    let found = refused.stderr.lines().find_map(|line| line.trim().strip_prefix("found ")).unwrap().trim();
    assert!(found.len() == 64 && found != first, "{found}");
    assert!(refused.stderr.contains("known_servers"), "says what to do:\n{}", refused.stderr);
}

#[test]
fn a_mistyped_link_is_refused_and_spoils_nothing() {
    let world = World::new();
    let directory = world.directory();
    let home = world.path("home-of-alice");
    let visit = |fingerprint: &str| {
        let link = format!("qchat://{}/#{fingerprint}", directory.address);
        let arguments = format!("who --user alice --home {} --server {link}", home.display());
        Process::spawn(world.qchat(&arguments)).outcome()
    };
    let right = fingerprint(&world.person("bob", &directory).peer().outcome());

    visit(&"ab".repeat(32)).expect_error(7, "has another key than the trusted one");

    // Known again, and only then is it asked who alice is.
    visit(&right).expect_error(1, "nobody of that name has an account here");
}

#[test]
fn an_unknown_directory_is_not_trusted_without_a_yes() {
    let world = World::new();
    let directory = world.directory();
    let home = world.path("home-of-alice");
    let who = format!("who --user alice --server {} --home {}", directory.address, home.display());

    let refused = Process::spawn(world.qchat(&who)).outcome();

    refused.expect_error(7, "is not known yet");
    assert!(refused.stderr.contains("--accept-new"), "{}", refused.stderr);
    assert!(!home.join("known_servers").exists());
}

#[test]
fn a_profile_that_is_damaged_or_open_to_others_is_not_used() {
    let world = World::new();
    let directory = world.directory();
    let alice = world.person("alice", &directory);
    alice.rows("who", &[]);
    let key = find(&alice.home(), "identity");

    set_mode(&key, 0o644);
    alice.run("who", &[]).expect_error(7, "chmod 600");
    set_mode(&key, 0o600);
    alice.rows("who", &[]);

    std::fs::write(&key, "short").unwrap();
    alice.run("who", &[]).expect_error(7, "is damaged");
    std::fs::write(find(&alice.home(), "known_servers"), "not a line of pins\n").unwrap();
    alice.run("who", &[]).expect_error(1, "line 1 of");
}

#[test]
fn a_pipe_in_the_place_of_the_known_servers_is_refused_and_not_waited_for() {
    let world = World::new();
    let directory = world.directory();
    let alice = world.person("alice", &directory);
    std::fs::create_dir(alice.home()).unwrap();
    let made = Command::new("mkfifo").arg(alice.home().join("known_servers")).status().expect("mkfifo is there");
    assert!(made.success());
    for verb in ["who", "peer"] {
        alice.run(verb, &[]).expect_error(13, "known_servers is no plain file");
    }
}

#[test]
fn a_profile_whose_database_is_garbage_is_reported() {
    let world = World::new();
    let directory = world.directory();
    let alice = world.person("alice", &directory);
    alice.rows("who", &[]);
    let database = find(&alice.home(), "profile.sqlite");
    std::fs::write(&database, content(50_000)).unwrap();
    for journal in ["sqlite-wal", "sqlite-shm"] {
        drop(std::fs::remove_file(database.with_extension(journal)));
    }

    alice.run("who", &[]).expect_error(13, "profile.sqlite");
}

#[test]
fn a_password_file_that_cannot_be_read_is_named() {
    let world = World::new();
    let directory = world.directory();
    let home = world.path("home-of-alice");
    let who = |file: &Path| {
        let login =
            format!("--user alice --server {} --home {} --accept-new --register", directory.address, home.display());
        let arguments = format!("who {login} --password-file {}", file.display());
        Process::spawn(world.qchat(&arguments)).outcome()
    };

    who(&world.path("no-such-file")).expect_error(2, "no-such-file");
    who(&world.write("empty", "")).expect_error(2, "password");
    who(&world.folder("a-folder")).expect_error(2, "a-folder");
}

#[test]
fn a_peer_whose_input_is_closed_leaves_and_an_odd_log_filter_is_only_a_warning() {
    let world = World::new();
    let directory = world.directory();
    let alice = world.person("alice", &directory);
    alice.run("peer --json", &[]).expect_code(0);

    let mut command = alice.command("who", &[]);
    command.env("QCHAT_DEBUG", "=,[garbage=");
    let outcome = Process::spawn(command).outcome();
    outcome.expect_code(0);
    assert!(outcome.stderr.starts_with("warning: QCHAT_DEBUG"), "{}", outcome.stderr);
}

#[test]
fn what_is_typed_wrong_in_a_peer_is_an_error_and_never_sent() {
    let world = World::new();
    let directory = world.directory();
    let mut alice = world.person("alice", &directory).peer();
    let mut bob = world.person("bob", &directory).peer();

    for line in ["/nonsense bob hi", "hello", "/msg bob", "/msg", "/get", "/send bob", "/accept", "/share nothing.txt"]
    {
        alice.say(line);
        let failed = alice.event("failed");
        assert!(!text(&failed["failure"], "message").is_empty(), "{failed}");
    }
    alice.say("/msg bob the only one");
    assert_eq!(bob.messages(1), ["the only one"]);
    alice.say("/quit");
    let outcome = alice.outcome();
    outcome.expect_code(0);
    assert_eq!(outcome.stderr.lines().filter(|line| line.starts_with("error:")).count(), 8, "{}", outcome.stderr);
}

#[test]
fn garbage_on_the_port_disturbs_nobody() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let mut bob_peer = bob.peer();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let noise = content(60_000);
    for round in 0..20 {
        for length in [0, 1, 19, 20, 21, 200, 1_199, 1_200, 1_472] {
            let mut packet = noise[round * 1_500..round * 1_500 + length].to_vec();
            // Long and short headers, version 1 and none, in turn.
            if let Some(first) = packet.first_mut() {
                *first = [0xc0, 0x40, 0xff, *first][round % 4];
            }
            if round % 2 == 0 && packet.len() > 5 {
                packet[1..5].copy_from_slice(&1_u32.to_be_bytes());
            }
            socket.send_to(&packet, directory.address).unwrap();
        }
        if round % 5 == 0 {
            alice.rows("msg", &["bob", &format!("round {round}")]);
            assert_eq!(bob_peer.messages(1), [format!("round {round}")]);
        }
    }
}

#[test]
fn a_file_without_room_is_refused_at_once_and_the_same_command_fetches_it_when_there_is_room() {
    let world = World::new();
    let mount = world.folder("small");
    let Some(_tmpfs) = Tmpfs::mount(&mount) else { return };
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let _peer = bob.peer();
    bob.file("wide.bin", content(900_000));
    bob.rows("share", &["wide.bin"]);
    std::fs::write(mount.join("ballast"), vec![1; 600_000]).unwrap();

    let get = format!("get --out {}", mount.display());
    let full = alice.run(&get, &["bob:wide.bin"]);
    full.expect_error(13, "wide.bin needs 878.90 KiB, 436.00 KiB are free in ");
    assert!(full.stderr.contains("free some space"), "{}", full.stderr);
    assert_eq!(names_in(&mount), ["ballast"]);

    std::fs::remove_file(mount.join("ballast")).unwrap();
    alice.rows(&get, &["bob:wide.bin"]);
    assert_eq!(std::fs::read(mount.join("wide.bin")).unwrap(), content(900_000));
}

#[test]
fn a_transfer_that_is_paused_because_the_disk_is_full_says_what_to_do() {
    let world = World::new();
    let mount = world.folder("small");
    let Some(_tmpfs) = Tmpfs::mount(&mount) else { return };
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let (_alice_peer, _bob_peer) = (alice.peer(), bob.peer());
    bob.file("wide.bin", content(900_000));
    bob.rows("share", &["wide.bin"]);
    std::fs::write(mount.join("ballast"), vec![1; 600_000]).unwrap();

    let full = alice.run(&format!("get --out {}", mount.display()), &["bob:wide.bin"]);
    full.expect_error(13, "wide.bin needs 878.90 KiB");
    let listed = alice.run("transfers", &[]);
    for (said, state) in [(&full.stderr, "free some space"), (&listed.stdout, "paused: wide.bin needs 878.90 KiB")] {
        assert!(said.contains(state) && said.contains("another folder; `qchat resume "), "{said}");
    }
    std::fs::remove_file(mount.join("ballast")).unwrap();
    alice.rows("resume", &["wide.bin"]);
    assert_eq!(std::fs::read(mount.join("wide.bin")).unwrap(), content(900_000));
}

#[test]
fn what_lies_in_the_place_of_a_part_file_is_named_and_not_followed() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let _peer = bob.peer();
    bob.file("notes.txt", "new");
    bob.rows("share", &["notes.txt"]);
    let victim = world.write("victim", "precious");
    let part = alice.folder().join(".notes.txt.qpart");
    std::os::unix::fs::symlink(&victim, &part).unwrap();

    let refused = alice.run("get", &["bob:notes.txt"]);
    refused.expect_error(1, ".notes.txt.qpart is not the one this transfer writes");
    assert!(refused.stderr.contains("remove it"), "{}", refused.stderr);
    assert_eq!(std::fs::read(&victim).unwrap(), b"precious");

    std::fs::remove_file(&part).unwrap();
    alice.rows("get", &["bob:notes.txt"]);
    assert_eq!(std::fs::read(alice.folder().join("notes.txt")).unwrap(), b"new");
}

#[test]
fn files_and_folders_without_permission_are_named() {
    let world = World::new();
    let directory = world.directory();
    let bob = world.person("bob", &directory);
    let _peer = bob.peer();
    bob.file("open.txt", "open");
    bob.rows("share", &["open.txt"]);
    let elsewhere = World::new();
    let alice = OrdinaryUser::new(elsewhere.person("alice", &directory));
    let (locked, secret) = (elsewhere.folder("locked"), elsewhere.write("secret.txt", "closed"));
    set_mode(&secret, 0o000);
    set_mode(&locked, 0o555);

    let share = alice.run("share", &[secret.to_str().unwrap()]);
    share.expect_error(13, "secret.txt: Permission denied");
    let get = alice.run(&format!("get --out {}", locked.display()), &["bob:open.txt"]);
    get.expect_error(13, "Permission denied");
    assert!(names_in(&locked).is_empty());
}

#[test]
fn another_user_of_the_machine_gets_nothing_from_a_running_peer() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let world = World::new();
    let directory = world.directory();
    let person = world.person("alice", &directory);
    let _peer = person.peer();

    let intruder = OrdinaryUser::new(person).run("who", &[]);

    intruder.expect_error(13, "Permission denied");
    assert_eq!(intruder.stdout, "");
}

/// A verb of this person, without the flag that makes accounts.
fn without_register(person: &Person<'_>) -> Outcome {
    let login = person.login().replace("--register", "");
    Process::spawn(person.world.qchat(&format!("who {login}"))).outcome()
}

fn fingerprint(outcome: &Outcome) -> String {
    outcome.expect_code(0);
    let events = outcome.events();
    text(events.iter().find(|event| event["event"] == "logged_in").expect("it logged in"), "fingerprint").to_owned()
}

fn find(folder: &Path, name: &str) -> PathBuf {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in names_in(&folder) {
            let path = folder.join(&entry);
            if entry == name {
                return path;
            }
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    panic!("no {name} below {}", folder.display());
}

/// A file system of one megabyte; unmounted when it is dropped.
struct Tmpfs<'a>(&'a Path);

impl<'a> Tmpfs<'a> {
    /// `None` where the tests may not mount.
    fn mount(on: &'a Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(on);
        mount.output().is_ok_and(|output| output.status.success()).then_some(Self(on))
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(self.0).output());
    }
}

/// A person whom file permissions bind, also when the tests run as root.
struct OrdinaryUser<'a> {
    person: Person<'a>,
    binary: PathBuf,
}

impl<'a> OrdinaryUser<'a> {
    fn new(person: Person<'a>) -> Self {
        let root = person.world.path("");
        let binary = root.join("qchat");
        std::fs::copy(env!("CARGO_BIN_EXE_qchat"), &binary).expect("the binary is there");
        set_mode(&root, 0o755);
        for folder in [person.home(), root.join("run"), root.join("home"), root.join("work")] {
            std::fs::create_dir_all(&folder).expect("a folder in our own folder");
            set_mode(&folder, 0o777);
        }
        Self { person, binary }
    }

    fn run(&self, arguments: &str, last: &[&str]) -> Outcome {
        let mut command = Command::new(&self.binary);
        if rustix::process::geteuid().is_root() {
            command = Command::new("setpriv");
            command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]).arg(&self.binary);
        }
        let mut command = self.person.world.set_up(command, arguments);
        command.args(self.person.login().split_whitespace()).arg("--").args(last);
        Process::spawn(command).outcome()
    }
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
}
