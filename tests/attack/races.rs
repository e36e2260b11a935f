//! While files come, another thread exchanges them and their folders for links that lead outside, as fast as it can.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use qchat::storage::partial_file::Collision;
use qchat::storage::receive_folder::ReceiveFolder;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::arena::{Arena, empty};
use crate::cases::{case_failed, run_all};
use crate::chance::Chance;
use crate::trees::{Content, Entry, Names, receive};

/// Cases of this kind are so many times slower than others.
const SHARE: u64 = 10;

/// How often the files of a case come.
const ROUNDS: usize = 4;

#[test]
fn no_exchange_of_folders_and_links_leads_a_write_outside() {
    let swaps = AtomicU64::new(0);
    run_all(SHARE, || {
        let arena = Arena::new();
        let swaps = &swaps;
        move |case| run(&arena, case, swaps)
    });
    assert!(swaps.into_inner() > 0, "nothing was exchanged");
}

fn run(arena: &Arena, case: u64, swaps: &AtomicU64) -> Result<(), String> {
    let hand = arena.root().join("hand");
    arena.clear();
    fs::create_dir_all(&hand).expect("a folder of our own");
    empty(&hand);
    let mut chance = Chance::new(case);
    let mut names = Names::of_case(&mut chance);
    let entries: Vec<Entry> = (0..4).map(|_| names.entry(&mut chance)).collect();
    let mine = arena.inside().join("mine");
    fs::write(&mine, "precious").expect("a file of our own");
    let outside = arena.look_outside(&hand);
    let root = ReceiveFolder::open(&arena.inside()).expect("our own folder");
    let is_over = AtomicBool::new(false);
    let bait: Vec<PathBuf> = entries.iter().flat_map(|entry| names_on_the_way(&arena.inside(), entry)).collect();
    thread::scope(|scope| {
        scope.spawn(|| swap_until(&is_over, arena, &hand, &bait, swaps));
        let collision = *chance.one_of(&[Collision::Refuse, Collision::Rename, Collision::Overwrite]);
        for entry in (0..ROUNDS).flat_map(|_| &entries) {
            // Most fail, since what they need is gone: they must only fail without harm.
            drop(receive(&root, entry, collision));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    if arena.look_outside(&hand) != outside {
        return Err(case_failed(
            case,
            &format!("outside changed: {:#?}, before {outside:#?}", arena.look_outside(&hand)),
        ));
    }
    match fs::read(&mine) {
        Ok(content) if content == b"precious" => Ok(()),
        found => Err(case_failed(case, &format!("a file that nobody sent is {found:?}"))),
    }
}

/// The first folder of an entry's way, or the entry and its part file.
fn names_on_the_way(inside: &Path, entry: &Entry) -> Vec<PathBuf> {
    match (entry.parents.first(), &entry.content) {
        (Some(parent), _) => vec![inside.join(parent.as_str())],
        (None, Content::Folder) => vec![inside.join(entry.name.as_str())],
        (None, Content::File(_)) => vec![inside.join(entry.name.as_str()), inside.join(entry.name.partial())],
    }
}

/// Exchanges what is there, and the target folder itself, for a link, and back.
fn swap_until(is_over: &AtomicBool, arena: &Arena, hand: &Path, bait: &[PathBuf], swaps: &AtomicU64) {
    let (folder, file) = (hand.join("folder"), hand.join("file"));
    symlink(arena.outside(), &folder).expect("a link in our own folder");
    symlink(arena.outside().join("canary"), &file).expect("a link in our own folder");
    let inside = arena.inside();
    let swap = |one: &Path, other: &Path| renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).is_ok();
    while !is_over.load(Ordering::Relaxed) {
        for path in bait {
            // What is opened next would be made there.
            if symlink(arena.outside().join("not there yet"), path).is_ok() {
                drop(fs::remove_file(path));
            }
        }
        for path in bait.iter().chain([&inside]) {
            for link in [&folder, &file] {
                if swap(path, link) {
                    swaps.fetch_add(1, Ordering::Relaxed);
                    // The target folder always comes back: the next swap needs it. Others may be gone or renamed.
                    let is_back = swap(path, link);
                    assert!(is_back || *path != inside, "the folder is lost");
                }
            }
        }
    }
}
