//! Trees of hostile names, received into a folder in which links, pipes and other names of precious files were planted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use qchat::storage::partial_file::{Collision, PartialFile, ReceiveError};
use qchat::storage::receive_folder::ReceiveFolder;
use qchat::storage::safe_name::SafeName;
use qchat::wire::ids::FileName;
use rustix::fs::{CWD, FileType, Mode};

use crate::arena::{Arena, Seen};
use crate::cases::{case_failed, run_all};
use crate::chance::Chance;
use crate::names;

/// One thing that a stranger sends.
pub(crate) struct Entry {
    pub(crate) parents: Vec<SafeName>,
    pub(crate) name: SafeName,
    pub(crate) content: Content,
}

pub(crate) enum Content {
    Folder,
    File(Vec<u8>),
}

/// How files are received.
type Receive = fn(&Path, &ReceiveFolder, &Entry, Collision) -> Result<PathBuf, ReceiveError>;

#[test]
fn no_tree_changes_anything_outside_or_anything_that_was_there() {
    run_all(1, || {
        let arena = Arena::new();
        move |case| run(&arena, case, |_, root, entry, collision| receive(root, entry, collision))
    });
}

#[test]
fn a_receiver_that_goes_by_paths_is_found_out() {
    let arena = Arena::new();
    let found = (0..2_000).find_map(|case| run(&arena, case, receive_by_path).err());
    assert!(found.expect("a link that was planted leads outside").contains("outside"));
}

/// Receives as the program does.
pub(crate) fn receive(root: &ReceiveFolder, entry: &Entry, collision: Collision) -> Result<PathBuf, ReceiveError> {
    let mut folder = root.clone();
    for parent in &entry.parents {
        folder = folder.subfolder(parent)?;
    }
    match &entry.content {
        Content::Folder => Ok(folder.subfolder(&entry.name)?.path().to_owned()),
        Content::File(content) => {
            let partial = PartialFile::open(&folder, &entry.name, content.len() as u64, collision)?;
            partial.write_at(content, 0)?;
            partial.complete_unsynced()
        }
    }
}

/// Receives as many programs do: the names are safe, and what lies there is not looked at.
fn receive_by_path(root: &Path, _: &ReceiveFolder, entry: &Entry, _: Collision) -> Result<PathBuf, ReceiveError> {
    let folder = entry.parents.iter().fold(root.to_owned(), |folder, parent| folder.join(parent.as_str()));
    let path = folder.join(entry.name.as_str());
    let failed = |source| ReceiveError::Write { path: path.clone(), source };
    match &entry.content {
        Content::Folder => fs::create_dir_all(&path).map_err(failed)?,
        Content::File(content) => {
            fs::create_dir_all(&folder).map_err(failed)?;
            // A pipe would wait for a reader.
            if path.exists() && !path.is_file() {
                return Err(ReceiveError::Exists(path));
            }
            fs::write(&path, content).map_err(failed)?;
        }
    }
    Ok(path)
}

fn run(arena: &Arena, case: u64, receive: Receive) -> Result<(), String> {
    let mut chance = Chance::new(case);
    arena.clear();
    let collision = *chance.one_of(&[Collision::Refuse, Collision::Rename, Collision::Overwrite]);
    let mut names = Names::of_case(&mut chance);
    plant(arena, &mut names, &mut chance);
    let (outside, inside) = (arena.look_outside(Path::new("")), arena.look_inside());
    let root = ReceiveFolder::open(&arena.inside()).expect("our own folder");
    let mut received = BTreeMap::new();
    for _ in 0..=chance.below(6) {
        let entry = names.entry(&mut chance);
        if let (Ok(path), Content::File(content)) = (receive(&arena.inside(), &root, &entry, collision), &entry.content)
            && received.insert(path.clone(), content.clone()).is_some()
            && collision != Collision::Overwrite
        {
            return Err(case_failed(case, &format!("{} was received twice", path.display())));
        }
    }
    let checked = check(arena, collision, &outside, &inside, &received);
    checked.map_err(|why| case_failed(case, &why))
}

/// Compares with what was there before.
fn check(
    arena: &Arena,
    collision: Collision,
    outside: &BTreeMap<PathBuf, Seen>,
    inside: &BTreeMap<PathBuf, Seen>,
    received: &BTreeMap<PathBuf, Vec<u8>>,
) -> Result<(), String> {
    if arena.look_outside(Path::new("")) != *outside {
        return Err(format!("outside changed: {:#?}, before {outside:#?}", arena.look_outside(Path::new(""))));
    }
    let now = arena.look_inside();
    for (path, before) in inside {
        let may_change =
            is_part_file(path, before) || (collision == Collision::Overwrite && received.contains_key(path));
        if !may_change && now.get(path) != Some(before) {
            return Err(format!("{} changed: {:?}, before {before:?}", path.display(), now.get(path)));
        }
    }
    received.iter().try_for_each(|(path, content)| check_received(arena, path, content))
}

/// What was received lies below the folder, in folders and no links, with its bytes and harmless permissions.
fn check_received(arena: &Arena, path: &Path, content: &[u8]) -> Result<(), String> {
    let below = path.strip_prefix(arena.inside()).map_err(|_| format!("{} is not inside", path.display()))?;
    let mut here = arena.inside();
    for component in below.components() {
        here.push(component);
        let found = here.symlink_metadata().map_err(|error| format!("{}: {error}", here.display()))?;
        if found.is_symlink() {
            return Err(format!("{} is a link", here.display()));
        }
    }
    let mode = path.metadata().map_err(|error| error.to_string())?.permissions().mode();
    let found = fs::read(path).map_err(|error| error.to_string())?;
    if found != content { Err(format!("{} has other bytes", path.display())) } else { Ok(()) }?;
    if mode & 0o111 == 0 { Ok(()) } else { Err(format!("{} is executable", path.display())) }
}

/// A plain file that an earlier transfer seems to have left is what the next one goes on with.
fn is_part_file(path: &Path, seen: &Seen) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.') && name.ends_with(".qpart") && seen.is_plain_file()
}

/// Puts things of all kinds where files and folders will want to be.
fn plant(arena: &Arena, names: &mut Names, chance: &mut Chance) {
    let (inside, outside) = (arena.inside(), arena.outside());
    for _ in 0..chance.below(6) {
        let name = names.safe(chance);
        let is_part = chance.once_in(3);
        let name = if is_part { name.partial() } else { name.as_str().to_owned() };
        let path = inside.join(name);
        // Where something was planted already, or the name is too long, nothing is.
        drop(match chance.below(8) {
            0 => symlink(&outside, &path),
            1 => symlink(outside.join("canary"), &path),
            2 => symlink("../outside/folder", &path),
            3 => symlink(outside.join("not there yet"), &path),
            4 if is_part => fs::hard_link(outside.join("canary"), &path),
            5 => rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).map_err(Into::into),
            4 | 6 => fs::create_dir(&path).and_then(|()| symlink(&outside, path.join("a"))),
            _ if path.symlink_metadata().is_err() => fs::write(&path, "precious too"),
            _ => Ok(()),
        });
    }
}

/// The few names of one case, so that they meet each other.
pub(crate) struct Names(Vec<FileName>);

impl Names {
    pub(crate) fn of_case(chance: &mut Chance) -> Self {
        let mut names: Vec<FileName> = ["a", "b"].map(|name| FileName::parse(name).expect("a plain name")).into();
        while names.len() < 6 {
            names.extend(FileName::parse(&names::hostile(chance)));
        }
        Self(names)
    }

    fn safe(&mut self, chance: &mut Chance) -> SafeName {
        SafeName::from_remote(chance.one_of(&self.0))
    }

    pub(crate) fn entry(&mut self, chance: &mut Chance) -> Entry {
        let depth = [0, 0, 1, 1, 2, 5][chance.below(6)];
        let parents = (0..depth).map(|_| self.safe(chance)).collect();
        let bytes = chance.below(600);
        let is_folder = chance.once_in(5);
        let content = if is_folder { Content::Folder } else { Content::File(vec![b'x'; bytes]) };
        Entry { parents, name: self.safe(chance), content }
    }
}

#[test]
fn cases_differ() {
    let first_names = |case| names::hostile(&mut Chance::new(case));
    let different: BTreeSet<String> = (0..200).map(first_names).collect();
    assert!(different.len() > 100, "{}", different.len());
}
