//! Files cross with equal bytes, never replace what nobody asked to replace, and survive a sender that dies.

use std::io::Write as _;
use std::time::{Duration, Instant};

use crate::program::{Process, World, content, names_in, text};

#[test]
fn files_of_every_odd_size_and_name_arrive_with_equal_bytes() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let (_alice_peer, _bob_peer) = (alice.peer(), bob.peer());
    let sizes = [0, 1, 199, 200, 201, 262_143, 262_144, 262_145, 1_000_000];
    let mut names: Vec<String> = sizes.iter().map(|size| format!("{size}.bin")).collect();
    names.push("Grüße an 日本 (final) & co.txt".to_owned());
    for (name, size) in names.iter().zip(sizes.into_iter().chain([777])) {
        bob.file(name, content(size));
        bob.rows("share", &[name]);
    }

    for name in &names {
        alice.rows("get", &[&format!("bob:{name}")]);
        let (sent, came) = (bob.folder().join(name), alice.folder().join(name));
        assert_eq!(std::fs::read(sent).unwrap(), std::fs::read(came).unwrap(), "{name}");
    }
    assert_eq!(names_in(&alice.folder()), names_in(&bob.folder()), "nothing else is left behind");
}

#[test]
fn a_file_can_be_fetched_by_its_digest_into_any_folder() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let _peer = bob.peer();
    bob.file("pearl", "found by what it is");
    let shared = bob.rows("share", &["pearl"]);
    let digest = text(shared.last().unwrap(), "digest").to_owned();

    let into = world.folder("into");
    let rows = alice.rows(&format!("get --out {}", into.display()), &[&digest]);

    assert_eq!(text(rows.last().unwrap(), "path"), into.join("pearl").to_str().unwrap());
    assert_eq!(std::fs::read(into.join("pearl")).unwrap(), b"found by what it is");
}

#[test]
fn a_file_that_is_there_stays_unless_its_owner_says_otherwise() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let _peer = bob.peer();
    bob.file("notes.txt", "new");
    bob.rows("share", &["notes.txt"]);
    let target = alice.file("notes.txt", "old");

    let refused = alice.run("get", &["bob:notes.txt"]);
    refused.expect_error(1, "notes.txt exists already");
    assert!(refused.stderr.contains("--overwrite"), "{}", refused.stderr);
    assert_eq!(std::fs::read(&target).unwrap(), b"old");

    alice.rows("get --rename", &["bob:notes.txt"]);
    assert_eq!(std::fs::read(&target).unwrap(), b"old");
    assert_eq!(std::fs::read(alice.folder().join("notes (1).txt")).unwrap(), b"new");

    alice.rows("get --overwrite", &["bob:notes.txt"]);
    assert_eq!(std::fs::read(&target).unwrap(), b"new");
    assert_eq!(names_in(&alice.folder()), ["notes (1).txt", "notes.txt"]);
}

#[test]
fn a_transfer_whose_sender_is_killed_ends_soon_and_goes_on_later() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let mut bob_peer = bob.peer();
    large_file(&bob.file("large.bin", ""));
    bob.rows("share", &["large.bin"]);

    let mut get = Process::spawn(alice.command("get --json", &["bob:large.bin"]));
    get.event_where("progress", |event| event["activity"] == "receiving");
    bob_peer.kill();
    let killed = Instant::now();
    let ended = get.outcome();

    assert!(killed.elapsed() < Duration::from_secs(12), "{:?}", killed.elapsed());
    ended.expect_error(5, "bob is not responding");
    assert_eq!(names_in(&alice.folder()), [".large.bin.qpart"]);

    let _bob_peer = bob.peer();
    let rows = alice.rows("get", &["bob:large.bin"]);
    let received = rows.last().unwrap();
    assert!(received["resumed"].as_u64().unwrap() > 0, "{received}");
    assert_eq!(names_in(&alice.folder()), ["large.bin"]);
    assert!(same_bytes(&bob.folder().join("large.bin"), &alice.folder().join("large.bin")));
}

#[test]
fn a_file_that_changed_after_it_was_shared_is_not_sent() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let _peer = bob.peer();
    bob.file("draft.txt", "first words");
    bob.rows("share", &["draft.txt"]);
    bob.file("draft.txt", "other words entirely");

    let outcome = alice.run("get", &["bob:draft.txt"]);

    outcome.expect_error(6, "bob:draft.txt");
    assert!(!alice.folder().join("draft.txt").exists());
}

/// 320 MiB without two equal groups, written fast: too much to cross within one step of the progress.
fn large_file(path: &std::path::Path) {
    let mut block = content(1 << 20);
    let mut file = std::fs::File::create(path).expect("a file in our own folder");
    for number in 0..320_u32 {
        for start in (0..block.len()).step_by(1 << 18) {
            block[start..start + 4].copy_from_slice(&number.to_le_bytes());
        }
        file.write_all(&block).expect("the disk has room");
    }
}

fn same_bytes(one: &std::path::Path, other: &std::path::Path) -> bool {
    std::fs::read(one).expect("it is there") == std::fs::read(other).expect("it is there")
}

#[test]
fn a_shared_file_that_was_deleted_is_said_to_be_gone_and_at_whose() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let _peer = bob.peer();
    let path = bob.file("plan.txt", "7 pm");
    bob.rows("share", &["plan.txt"]);
    std::fs::remove_file(path).unwrap();

    let gone = alice.run("get", &["bob:plan.txt"]);
    gone.expect_error(1, "bob cannot give plan.txt any more: it was moved or deleted there");
    assert!(gone.stderr.contains("ask bob to share it again"), "{}", gone.stderr);
}

#[test]
fn what_takes_the_name_of_another_share_is_said_to() {
    let world = World::new();
    let directory = world.directory();
    let bob = world.person("bob", &directory);
    let in_folder = |name: &str| {
        std::fs::create_dir(bob.folder().join(name)).expect("a folder in our own folder");
        let path = bob.folder().join(name).join("plan.txt");
        std::fs::write(&path, name).expect("a file in our own folder");
        path
    };
    let (old, new) = (in_folder("old"), in_folder("new"));
    let replaces = |path: &std::path::Path| {
        let rows = bob.rows("share", &[path.to_str().expect("a path of ours")]);
        rows.last().expect("a row")["replaces"].as_str().map(str::to_owned)
    };

    assert_eq!(replaces(&old), None);
    assert_eq!(replaces(&old), None, "the same again");
    assert_eq!(replaces(&new), Some(old.display().to_string()));
    let shared = bob.run("share", &["old/plan.txt"]);
    assert!(shared.stdout.contains(&format!("(in place of {}, which is not", new.display())), "{}", shared.stdout);
    bob.run("share", &["old/plan.txt", "new/plan.txt"]).expect_error(2, "two of them would be shared as plan.txt");
}
