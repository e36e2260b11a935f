//! The catalogue of published files: entries only, never bytes.

use serde::{Deserialize, Serialize};

use super::ids::{FileDigest, FileName, FileSize, Pattern, PeerName};

/// Who may see and fetch a published file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Everyone with an account at the directory.
    Everyone,
}

/// What a published thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// One file.
    File,
    /// A folder with all that is in it.
    Folder {
        /// How many files there are in it and below.
        files: u64,
    },
}

impl EntryKind {
    /// How many files there are in a folder; `None` for a file.
    #[must_use]
    pub fn files(self) -> Option<u64> {
        match self {
            Self::File => None,
            Self::Folder { files } => Some(files),
        }
    }
}

/// A file or folder its owner publishes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name, unique per owner.
    pub name: FileName,
    /// Its size: of a folder, that of all files in it.
    pub size: FileSize,
    /// Its BLAKE3 root: of a folder, that of its [`super::manifest::Manifest`].
    pub digest: FileDigest,
    /// What it is.
    pub kind: EntryKind,
    /// For whom.
    pub scope: Scope,
    /// Whether it is to be fetched through the relay only, so that nobody learns where its owner is.
    pub hides_address: bool,
}

/// An entry as a search answers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Who publishes it.
    pub owner: PeerName,
    /// Whether it can be fetched now.
    pub online: bool,
    /// The entry.
    pub entry: Entry,
    /// Whether its owner uses an older program through the directory's gateway.
    pub legacy: bool,
}

/// What to look for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query {
    /// File names that contain the pattern, without regard to ASCII case.
    Substring(Pattern),
    /// One file of one person.
    Exact {
        /// Its owner.
        owner: PeerName,
        /// Its name.
        name: FileName,
    },
    /// Everything one person publishes.
    Owner(PeerName),
    /// Everyone who has this file.
    Digest(FileDigest),
}

/// Where the next page of a search begins: after this entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The last entry's name.
    pub name: FileName,
    /// The last entry's owner.
    pub owner: PeerName,
}
