//! What is in a folder that is to be shared: regular files and folders, in the order of a manifest. Links are not followed,
//! and what cannot be shared is skipped with a word.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ignore::overrides::{Override, OverrideBuilder};
use ignore::{DirEntry, WalkBuilder};

use crate::wire::ids::FileName;
use crate::wire::limits::MANIFEST_ENTRIES_MAX;
use crate::wire::manifest::RelativePath;

/// What of a folder is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Filter {
    /// What matches one of these globs, as a line of `.gitignore` would.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// What `.gitignore` files in and above it name, and `.git` itself.
    #[serde(default)]
    pub gitignore: bool,
}

/// What is in a folder.
#[derive(Debug, Default)]
pub struct Walked {
    /// Its files and folders in byte order of their paths; with each file that it is one.
    pub entries: Vec<(RelativePath, Kind)>,
    /// What was left out because it cannot be shared.
    pub skipped: Skipped,
}

/// What lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A regular file.
    File,
}

/// What was skipped, and why: the first few by name.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Skipped {
    named: Vec<(PathBuf, String)>,
    count: u64,
}

/// Skipped files that are named; of the others the number is told.
const SKIPPED_NAMED_MAX: usize = 20;

impl Skipped {
    /// Notes that something was skipped.
    pub fn add(&mut self, path: &Path, why: &str) {
        self.count += 1;
        if self.named.len() < SKIPPED_NAMED_MAX {
            self.named.push((path.to_owned(), why.to_owned()));
        }
    }

    /// The first that were skipped, each with the reason.
    #[must_use]
    pub fn named(&self) -> &[(PathBuf, String)] {
        &self.named
    }

    /// How many were skipped that are not named.
    #[must_use]
    pub fn others(&self) -> u64 {
        self.count - self.named.len() as u64
    }
}

/// Why a folder cannot be walked.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// A glob cannot be understood.
    #[error("{glob:?} is no pattern of file names: {reason}")]
    Glob {
        /// Which.
        glob: String,
        /// Why.
        reason: String,
    },
    /// It cannot be read.
    #[error("cannot read the folder {path}: {reason}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// There is more in it than a manifest holds.
    #[error("{0} has more than {MANIFEST_ENTRIES_MAX} files and folders: share its folders one by one")]
    TooMany(PathBuf),
}

/// Lists what is below a folder. Blocks.
///
/// # Errors
/// [`WalkError`] when the folder itself cannot be read, or a glob is none.
pub fn walk(root: &Path, filter: &Filter) -> Result<Walked, WalkError> {
    let skipped = Arc::new(Mutex::new(Skipped::default()));
    let mut entries = Vec::new();
    for found in walker(root, filter, &skipped)?.build() {
        match found {
            Ok(entry) if entry.depth() == 0 => {}
            Ok(entry) => entries.extend(shareable(root, &entry, &skipped)),
            Err(error) if entries.is_empty() && !root.is_dir() => {
                return Err(WalkError::Read { path: root.to_owned(), reason: error.to_string() });
            }
            Err(error) => lock(&skipped).add(path_of(&error).unwrap_or(root), "it cannot be read"),
        }
        if entries.len() > MANIFEST_ENTRIES_MAX {
            return Err(WalkError::TooMany(root.to_owned()));
        }
    }
    entries.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    let skipped = std::mem::take(&mut *lock(&skipped));
    Ok(Walked { entries, skipped })
}

fn walker(root: &Path, filter: &Filter, skipped: &Arc<Mutex<Skipped>>) -> Result<WalkBuilder, WalkError> {
    let mut walker = WalkBuilder::new(root);
    // Whoever shares a folder means all of it: dotfiles, too, unless it is said otherwise.
    walker.standard_filters(false).git_ignore(filter.gitignore).parents(filter.gitignore).require_git(false);
    walker.overrides(excludes(root, filter)?);
    let (root, skipped) = (root.to_owned(), skipped.clone());
    // A folder that cannot be shared is not entered, so that it is one word and not one for each file in it.
    walker.filter_entry(move |entry| {
        let is_folder = entry.file_type().is_some_and(|kind| kind.is_dir());
        entry.depth() == 0 || !is_folder || relative(&root, entry, &skipped).is_some()
    });
    Ok(walker)
}

fn excludes(root: &Path, filter: &Filter) -> Result<Override, WalkError> {
    let mut globs = OverrideBuilder::new(root);
    let git = filter.gitignore.then_some("/.git/");
    for glob in filter.exclude.iter().map(String::as_str).chain(git) {
        let failed = |error: ignore::Error| WalkError::Glob { glob: glob.to_owned(), reason: error.to_string() };
        globs.add(&format!("!{glob}")).map_err(failed)?;
    }
    globs.build().map_err(|error| WalkError::Glob { glob: String::new(), reason: error.to_string() })
}

/// An entry as a manifest has it; `None`, and a word, when it cannot be in one.
fn shareable(root: &Path, entry: &DirEntry, skipped: &Mutex<Skipped>) -> Option<(RelativePath, Kind)> {
    let kind = match entry.file_type() {
        Some(kind) if kind.is_dir() => Kind::Folder,
        Some(kind) if kind.is_file() => Kind::File,
        Some(kind) if kind.is_symlink() => {
            lock(skipped).add(entry.path(), "links are not followed");
            return None;
        }
        Some(_) | None => {
            lock(skipped).add(entry.path(), "it is neither a file nor a folder");
            return None;
        }
    };
    Some((relative(root, entry, skipped)?, kind))
}

fn relative(root: &Path, entry: &DirEntry, skipped: &Mutex<Skipped>) -> Option<RelativePath> {
    let skip = |why: &str| {
        lock(skipped).add(entry.path(), why);
        None
    };
    let Some(path) = entry.path().strip_prefix(root).ok().and_then(Path::to_str) else {
        return skip("its name is not UTF-8");
    };
    match RelativePath::parse(path) {
        Ok(path) => Some(path),
        Err(error) => match entry.file_name().to_str().map(FileName::parse) {
            Some(Err(name)) => skip(&name.to_string()),
            Some(Ok(_)) | None => skip(&error.to_string()),
        },
    }
}

/// The path that an error of the walk is about.
fn path_of(error: &ignore::Error) -> Option<&Path> {
    match error {
        ignore::Error::WithPath { path, .. } => Some(path),
        ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => path_of(err),
        ignore::Error::Loop { child, .. } => Some(child),
        ignore::Error::Partial(errors) => errors.iter().find_map(path_of),
        ignore::Error::Io(_)
        | ignore::Error::Glob { .. }
        | ignore::Error::UnrecognizedFileType(_)
        | ignore::Error::InvalidDefinition => None,
    }
}

fn lock(skipped: &Mutex<Skipped>) -> MutexGuard<'_, Skipped> {
    skipped.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
