//! A person who moves to another machine: one sealed file, the same key, and nothing that a wrong step could lose.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use crate::program::{Directory, Person, Process, World, text};

#[test]
fn on_the_new_machine_the_person_is_the_same_without_a_password() {
    let (old, new) = (World::new(), World::new());
    let directory = old.directory();
    let (alice, bob) = (old.person("alice", &directory), old.person("bob", &directory));
    let bob_peer = bob.peer();
    alice.rows("profile edit", &["town", "Oxford"]);
    alice.rows("verify --mark", &["bob"]);
    let key = text(&bob.rows("verify", &["alice"])[0], "key").to_owned();
    bob_peer.quit();
    bob.rows("msg", &["alice", "waiting at the directory"]);

    let file = export(&alice, "a long passphrase");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let bytes = std::fs::read(&file).unwrap();
    assert!(bytes.starts_with(b"qchat identity v1\n"));
    let seed = std::fs::read(folder_of(&alice, &directory).join("identity")).unwrap();
    for secret in [&seed[..], b"SQLite", b"bob", b"a long passphrase"] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret), "{secret:?} is in the file");
    }
    import(&new, &file, "a long passphrase", "").outcome().expect_code(0);

    let home = new.path("home-of-alice");
    let who = format!("--user alice --server {} --home {}", directory.address, home.display());
    let contact = Process::spawn(new.qchat(&format!("verify bob --json {who}"))).outcome();
    contact.expect_code(0);
    assert!(contact.events()[0]["verified_at"].is_u64(), "what she knows came along: {contact:?}");
    let profile = Process::spawn(new.qchat(&format!("profile --json {who}"))).outcome();
    assert_eq!(profile.events()[0]["fields"]["town"], "Oxford", "what she says about herself, too: {profile:?}");
    let mut peer = Process::spawn(new.qchat(&format!("peer --json {who}")));
    assert_eq!(text(&peer.event("logged_in"), "key"), key);
    assert_eq!(peer.messages(1), ["waiting at the directory"], "the prekey secrets came along");
    peer.quit();
}

#[test]
fn what_does_not_open_is_one_clear_line() {
    let world = World::new();
    let directory = world.directory();
    let alice = world.person("alice", &directory);
    alice.rows("who", &[]);
    let file = export(&alice, "a long passphrase");
    let good = std::fs::read(&file).unwrap();
    let fresh = World::new();
    let try_bytes = |bytes: &[u8], passphrase: &str| {
        let file = fresh.write("tried", bytes);
        import(&fresh, &file, passphrase, "").outcome()
    };
    try_bytes(&good, "another passphrase").expect_error(7, "the passphrase is wrong");
    try_bytes(&good[..good.len() - 100], "a long passphrase").expect_error(6, "damaged or not complete");
    let mut changed = good.clone();
    *changed.last_mut().unwrap() ^= 1;
    try_bytes(&changed, "a long passphrase").expect_error(6, "damaged or not complete");
    try_bytes(b"a holiday photograph", "a long passphrase").expect_error(1, "not an exported identity");
    try_bytes(b"qchat identity v9\n", "a long passphrase").expect_error(1, "a newer version");
    import(&fresh, &fresh.path("nothing"), "a", "").outcome().expect_error(1, "nothing");
    import(&fresh, &file, "a long passphrase", "--user bob").outcome().expect_error(2, "holds alice at");
    assert!(!fresh.path("home-of-alice").exists(), "nothing was made of any of these");
}

#[test]
fn nothing_that_is_there_is_overwritten_unasked() {
    let world = World::new();
    let directory = world.directory();
    let alice = world.person("alice", &directory);
    let peer = alice.peer();
    export_command(&alice, "x", "").outcome().expect_error(1, "leave the running `qchat peer`");
    peer.quit();
    let file = export(&alice, "a long passphrase");
    export_command(&alice, "x", "").outcome().expect_error(1, "exists already");
    export_command(&alice, "a long passphrase", "--overwrite").outcome().expect_code(0);

    import(&world, &file, "a long passphrase", "").outcome().expect_error(1, "has a key on this machine already");
    import(&world, &file, "a long passphrase", "--overwrite").outcome().expect_code(0);
    alice.rows("who", &[]);

    let nobody = world.person("nobody-here", &directory);
    export_command(&nobody, "x", "").outcome().expect_error(1, "has no key on this machine");
    assert!(!nobody.home().exists(), "asking makes no key");
}

/// Exports the identity of somebody, with a passphrase from a file.
fn export(person: &Person<'_>, passphrase: &str) -> PathBuf {
    export_command(person, passphrase, "").outcome().expect_code(0);
    person.world.path("exported")
}

fn export_command(person: &Person<'_>, passphrase: &str, more: &str) -> Process {
    let Person { world, name, server } = person;
    let words = world.write("passphrase", format!("{passphrase}\n"));
    let (file, home, words) = (world.path("exported"), person.home(), words.display().to_string());
    let whose = format!("--user {name} --server {server} --home {}", home.display());
    let command: Command =
        world.qchat(&format!("export-identity {} --passphrase-file {words} {whose} {more}", file.display()));
    Process::spawn(command)
}

fn import(world: &World, file: &std::path::Path, passphrase: &str, more: &str) -> Process {
    let words = world.write("passphrase", format!("{passphrase}\n"));
    let home = world.path("home-of-alice");
    let (file, words, home) = (file.display(), words.display(), home.display());
    Process::spawn(world.qchat(&format!("import-identity {file} --passphrase-file {words} --home {home} {more}")))
}

/// The folder of somebody's profile.
fn folder_of(person: &Person<'_>, directory: &Directory) -> PathBuf {
    let known = std::fs::read_to_string(person.home().join("known_servers")).expect("she knows a directory");
    let (address, fingerprint) = known.trim().split_once(' ').expect("an address and a key");
    assert_eq!(address, directory.address.to_string());
    person.home().join(&fingerprint[..16]).join(person.name)
}
