//! Folders cross with the real program: equal, filtered, resumable, and in little memory.

#![expect(clippy::print_stdout, reason = "how long it took is worth knowing, and how much memory")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::program::{Process, World, content, text};

/// Writes a tree of small files, some of them nested, and says how many bytes they have.
fn many_files(folder: &Path, count: usize, bytes: usize) -> u64 {
    let mut all = 0;
    for number in 0..count {
        let path = folder.join(format!("{:02}/{}/Grüße {number}.txt", number % 50, number % 7));
        fs::create_dir_all(path.parent().expect("it is in a folder")).expect("the folder takes it");
        // Each is another one, so that nothing is saved by sameness.
        let mut text = format!("{number}\n").into_bytes();
        text.extend(content(bytes));
        all += text.len() as u64;
        fs::write(path, text).expect("the disk takes it");
    }
    all
}

#[track_caller]
fn assert_same(one: &Path, other: &Path) {
    let difference = Command::new("diff").arg("-r").args([one, other]).output().expect("diff is there");
    assert!(difference.status.success(), "{}", String::from_utf8_lossy(&difference.stdout));
}

#[test]
fn two_thousand_files_arrive_with_equal_bytes() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let _peer = bob.peer();
    let bytes = many_files(&bob.folder().join("tree"), 2_000, 10 * 1_024);
    fs::create_dir(bob.folder().join("tree/empty")).unwrap();
    let shared = bob.rows("share", &["tree"]);
    let shared = shared.last().unwrap();
    assert_eq!((shared["files"].as_u64(), shared["size"].as_u64()), (Some(2_000), Some(bytes)));
    let found = alice.rows("find", &["tree"]);
    assert_eq!(found[0]["files"], 2_000);

    let begun = Instant::now();
    let rows = alice.rows("get", &["bob:tree"]);
    println!("2,000 files of 10 KiB took {:.3} s as a whole process", begun.elapsed().as_secs_f64());
    let received = rows.iter().find(|row| row["event"] == "received").unwrap();
    assert_eq!((received["files"].as_u64(), received["resumed"].as_u64()), (Some(2_000), Some(0)));
    assert_same(&bob.folder().join("tree"), &alice.folder().join("tree"));

    let refused = alice.run("get", &["bob:tree"]);
    refused.expect_error(1, "tree exists already");
    assert!(refused.stderr.contains("in a folder only what is missing or different"), "{}", refused.stderr);
    let again = alice.rows("get --overwrite", &["bob:tree"]);
    let received = again.iter().find(|row| row["event"] == "received").unwrap();
    assert_eq!(received["resumed"].as_u64(), Some(bytes), "what was there was fetched again");
}

#[test]
fn a_folder_leaves_out_what_it_is_told_to() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let _peer = bob.peer();
    for (path, text) in [("src/main.c", "x"), ("src/main.o", "x"), ("target/big", "x"), ("src/.gitignore", "/secret\n")]
    {
        let path = bob.folder().join("code").join(path);
        fs::create_dir_all(path.parent().expect("it is in a folder")).expect("the folder takes it");
        fs::write(path, text).unwrap();
    }
    fs::write(bob.folder().join("code/src/secret"), "x").unwrap();
    std::os::unix::fs::symlink("/etc", bob.folder().join("code/etc")).unwrap();
    let rows = bob.rows("share --exclude *.o --exclude /target --gitignore", &["code"]);
    let skipped = rows.iter().find(|row| row["event"] == "skipped").unwrap();
    assert!(text(skipped, "path").ends_with("code/etc") && text(skipped, "why").contains("links"), "{skipped}");
    assert_eq!(rows.last().unwrap()["files"], 2);
    alice.rows("get", &["bob:code"]);
    let came = alice.folder().join("code");
    assert!(came.join("src/main.c").exists() && came.join("src/.gitignore").exists());
    assert!(!came.join("target").exists() && !came.join("src/secret").exists() && !came.join("etc").exists());
    bob.run("share --exclude a[", &["code"]).expect_error(2, "a[");
}

/// The most memory that a process has had, in KiB.
fn peak(process: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says it");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Fetches something between two running peers. Gives the peak memory of who serves and of who receives.
fn memory(make: impl FnOnce(&Path)) -> (u64, u64) {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let (alice_peer, bob_peer) = (alice.peer(), bob.peer());
    make(&bob.folder().join("thing"));
    bob.rows("share", &["thing"]);
    let begun = Instant::now();
    alice.rows("get", &["bob:thing"]);
    println!("{:.3} s", begun.elapsed().as_secs_f64());
    assert_same(&bob.folder().join("thing"), &alice.folder().join("thing"));
    (peak(&bob_peer), peak(&alice_peer))
}

/// `cargo nextest run --test commands --run-ignored only twenty_thousand --no-capture`
#[test]
#[ignore = "20,000 files take a while; prints the memory of both sides"]
fn twenty_thousand_files_take_little_more_memory_than_one_of_as_many_bytes() {
    let mut bytes = 0;
    let many = memory(|folder| bytes = many_files(folder, 20_000, 3_000));
    let one = memory(|file| fs::write(file, content(usize::try_from(bytes).unwrap())).unwrap());
    println!("peak KiB of who serves and who receives: 20,000 files {many:?}, one file {one:?}");
    let bound = 24 * 1_024;
    assert!(many.0 <= one.0 + bound && many.1 <= one.1 + bound, "{many:?} is more than {bound} KiB over {one:?}");
}

#[test]
fn a_folder_of_which_no_file_is_shared_is_warned_about_unless_it_is_empty() {
    let world = World::new();
    let directory = world.directory();
    let bob = world.person("bob", &directory);
    let folder = |name: &str| {
        let folder = bob.folder().join(name);
        fs::create_dir(&folder).expect("a folder in our own folder");
        folder
    };
    fs::write(folder("code").join("main.o"), "x").unwrap();
    std::os::unix::fs::symlink("/etc", folder("links").join("etc")).unwrap();
    folder("empty");
    let note = |rows: &[serde_json::Value]| {
        rows.iter().find(|row| row["event"] == "note").map(|row| text(row, "text").to_owned())
    };

    let excluded = note(&bob.rows("share --exclude *.o", &["code"])).expect("a warning");
    assert!(excluded.contains("no file of code is shared"), "{excluded}");
    let skipped = note(&bob.rows("share", &["links"])).expect("a warning");
    assert!(skipped.contains("no file of links is shared"), "{skipped}");
    assert_eq!(note(&bob.rows("share --exclude *.o", &["empty"])), None);
    assert_eq!(note(&bob.rows("share", &["code"])), None);
}

#[test]
fn a_folder_that_lacks_a_file_is_not_waited_for_and_says_so_once() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let (_alice_peer, _bob_peer) = (alice.peer(), bob.peer());
    many_files(&bob.folder().join("tree"), 20, 100);
    bob.rows("share", &["tree"]);
    fs::remove_file(bob.folder().join("tree/07/0/Grüße 7.txt")).unwrap();

    let outcome = alice.run("get --json", &["bob:tree"]);
    outcome.expect_error(5, "tree is not complete: tree/07/0/Grüße 7.txt");
    let said: Vec<_> = outcome.events().into_iter().filter(|event| event["event"] != "progress").collect();
    assert!(matches!(&said[..], [only] if only["event"] == "failed"), "one line for one reason:\n{}", outcome.stdout);
}
