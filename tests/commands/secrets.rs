//! What must stay secret shows up in no argument list, no output and no log, and lies in files for its owner only.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::program::{PASSWORD, Process, World, names_in};

#[test]
fn passwords_and_keys_are_in_no_argument_list_output_or_log() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let mut bob_peer = bob.peer();

    let mut peer = Process::spawn(alice.command("peer --json -vv", &[]));
    peer.event("logged_in");
    let arguments = std::fs::read(format!("/proc/{}/cmdline", peer.id())).unwrap();
    peer.say("/msg bob between us");
    peer.event("stored");
    bob_peer.event("message");
    peer.say("/quit");
    let outcome = peer.outcome();

    let key = profile(&alice.home()).join("identity");
    let seed = std::fs::read(key).unwrap();
    let hex: String = seed.iter().map(|byte| format!("{byte:02x}")).collect();
    let everything = format!("{}\n{}\n{}", String::from_utf8_lossy(&arguments), outcome.stdout, outcome.stderr);
    assert_eq!(seed.len(), 32);
    for secret in [PASSWORD, &hex, &hex.to_uppercase(), &format!("{seed:?}")] {
        assert!(!everything.contains(secret), "{secret} is in:\n{everything}");
    }
    assert!(!outcome.stderr.contains("between us"), "logs hold no messages:\n{}", outcome.stderr);
    assert!(outcome.stderr.contains("logged in"), "it did log:\n{}", outcome.stderr);
}

#[test]
fn a_directory_logs_neither_passwords_nor_messages() {
    let world = World::new();
    let directory = world.directory_that("127.0.0.1:0", "-vv");
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let mut bob_peer = bob.peer();
    alice.rows("msg", &["bob", "between us"]);
    bob_peer.event("message");
    bob_peer.quit();

    directory.process.signal(rustix::process::Signal::TERM);
    let outcome = directory.process.outcome();

    outcome.expect_code(0);
    assert!(outcome.stderr.contains("alice"), "it did log:\n{}", outcome.stderr);
    for secret in [PASSWORD, "between us", "BEGIN"] {
        assert!(!outcome.stderr.contains(secret), "{secret} is in:\n{}", outcome.stderr);
    }
}

#[test]
fn the_directory_never_holds_the_text_of_a_message_or_a_password() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    bob.peer().quit();
    alice.rows("msg", &["bob", "meet me at the old mill"]);

    for path in files_below(&world.path("data")).into_iter().filter(|path| path.is_file()) {
        let bytes = std::fs::read(&path).unwrap();
        for secret in ["meet me at the old mill", PASSWORD] {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{secret:?} is in {}", path.display());
        }
    }
}

#[test]
fn files_are_for_their_owner_only() {
    let world = World::new();
    let directory = world.directory();
    let alice = world.person("alice", &directory);
    let _peer = alice.peer();

    let mut private = files_below(&alice.home());
    private.extend(files_below(&world.path("data")));
    private.push(world.path("cert").join("key.pem"));
    assert!(private.len() > 5, "{private:?}");
    for path in private {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        let folder = path.parent().unwrap();
        if folder != world.path("cert") {
            assert_eq!(mode(folder), 0o700, "{}", folder.display());
        }
    }
}

#[test]
fn a_profile_or_directory_key_that_others_can_use_is_refused() {
    let world = World::new();
    let directory = world.directory();
    let alice = world.person("alice", &directory);
    alice.rows("who", &[]);
    let profile = profile(&alice.home());
    for (path, open, private) in [
        (profile.clone(), 0o750, 0o700),
        (profile.join("profile.sqlite"), 0o644, 0o600),
        (profile.join("identity"), 0o640, 0o600),
    ] {
        set_mode(&path, open);
        alice.run("who", &[]).expect_error(7, &format!("chmod {private:03o}` on it"));
        set_mode(&path, private);
        alice.rows("who", &[]);
    }

    let (cert, data) = (world.path("cert"), world.path("other data"));
    set_mode(&cert.join("key.pem"), 0o644);
    let mut serve = world.qchat(&format!("serve --cert {} --listen 127.0.0.1:0", cert.display()));
    serve.arg("--data").arg(data);
    Process::spawn(serve).outcome().expect_error(1, "everybody can read");
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
}

fn mode(path: &Path) -> u32 {
    path.metadata().expect("it is there").permissions().mode() & 0o777
}

/// The folder of the one account in a home.
fn profile(home: &Path) -> PathBuf {
    files_below(home)
        .into_iter()
        .find(|path| path.ends_with("identity"))
        .expect("a key")
        .parent()
        .expect("a folder")
        .into()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (folders, files): (Vec<_>, Vec<_>) =
        names_in(folder).into_iter().map(|name| folder.join(name)).partition(|path| path.is_dir());
    files.into_iter().chain(folders.iter().flat_map(|folder| files_below(folder))).collect()
}
