//! What is in a shared folder: every file and folder below it, in strictly rising byte order of their paths. Its BLAKE3
//! root is the folder's digest. What cannot be in a folder, such as `../x`, two files of one path, or a file below a
//! file, cannot be in a [`Manifest`] either: both sides fill it through [`Manifest::push`].

use std::fmt;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::codec::{self, CodecError};
use super::ids::{FileDigest, FileName, FileSize, IdError};
use super::limits::{FILE_BYTES_MAX, MANIFEST_BYTES_MAX, MANIFEST_ENTRIES_MAX, PATH_BYTES_MAX, PATH_DEPTH_MAX};
use super::transfer::GROUP_BYTES;

/// The version of manifests, which outlive connections because they are stored and compared: their first byte.
pub const MANIFEST_VERSION: u8 = 1;

/// Why a text is no path within a folder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Too long, or too deep.
    #[error("a path has at most {PATH_BYTES_MAX} bytes and {PATH_DEPTH_MAX} names, not {bytes} and {names}")]
    TooLong {
        /// Its bytes.
        bytes: usize,
        /// Its names.
        names: usize,
    },
    /// One of its names is none.
    #[error(transparent)]
    Name(#[from] IdError),
}

text_type! {
    /// A path within a folder: names joined by `/`, of which none leads out of it.
    RelativePath, PathError, text => {
        let names = text.split('/').count();
        if text.len() > PATH_BYTES_MAX || names > PATH_DEPTH_MAX {
            return Err(PathError::TooLong { bytes: text.len(), names });
        }
        text.split('/').try_for_each(|name| FileName::parse(name).map(drop))?;
        Ok::<_, PathError>(text.to_owned())
    }
}

impl RelativePath {
    /// The path of something in a folder, or in the shared folder itself when there is none.
    ///
    /// # Errors
    /// [`PathError::TooLong`] when it is too long or too deep.
    pub fn of(folder: Option<&Self>, name: &FileName) -> Result<Self, PathError> {
        match folder {
            Some(folder) => Self::parse(&format!("{}/{name}", folder.as_str())),
            None => Self::parse(name.as_str()),
        }
    }

    /// The path of the folder it is in; `None` when that is the shared folder itself.
    #[must_use]
    pub fn folder(&self) -> Option<&str> {
        self.as_str().rsplit_once('/').map(|(folder, _)| folder)
    }

    /// Its last name.
    #[must_use]
    pub fn name(&self) -> FileName {
        let name = self.as_str().rsplit_once('/').map_or(self.as_str(), |(_, name)| name);
        FileName::parse(name).expect("each name was parsed when the path was")
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A file or folder below a shared folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestEntry {
    /// Where it lies.
    pub path: RelativePath,
    /// What it is.
    pub what: Content,
}

/// What lies at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// A folder, which may be empty.
    Folder,
    /// A file.
    File(FileContent),
}

/// What is known of a file in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileContent {
    /// Its size.
    pub size: FileSize,
    /// Its BLAKE3 root.
    pub digest: FileDigest,
    /// Whether its owner may execute it.
    pub executable: bool,
    /// When it was changed last, in nanoseconds since 1970.
    pub modified_nanos: i64,
}

impl ManifestEntry {
    /// The file, if it is one.
    #[must_use]
    pub fn file(&self) -> Option<&FileContent> {
        match &self.what {
            Content::Folder => None,
            Content::File(file) => Some(file),
        }
    }

    /// Whether it is a file of one group at most: many of those come in one stream.
    #[must_use]
    pub fn is_small(&self) -> bool {
        self.file().is_some_and(|file| file.size.bytes() <= GROUP_BYTES)
    }
}

/// An entry that does not belong where it is in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryFault {
    /// Its path does not come after the one before it.
    #[error("{0} is not in order, or twice there")]
    Order(RelativePath),
    /// The folder that it is in is not in the manifest, or is a file.
    #[error("{0} is in no folder")]
    NoFolder(RelativePath),
    /// Too many entries.
    #[error("a folder has at most {MANIFEST_ENTRIES_MAX} files and folders")]
    TooMany,
    /// Too many bytes.
    #[error("a folder has at most {FILE_BYTES_MAX} bytes")]
    TooLarge,
}

/// Why bytes are not a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is of another version of qchat.
    #[error("the list of files has version {found:?} instead of {MANIFEST_VERSION}")]
    Version {
        /// Its first byte.
        found: Option<u8>,
    },
    /// It cannot be decoded, or an entry is not where it belongs.
    #[error("the list of files is malformed: {0}")]
    Malformed(#[from] CodecError),
}

/// What is in a shared folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    entries: Vec<ManifestEntry>,
    files: u64,
    bytes: u64,
}

impl Manifest {
    /// Adds an entry, whose path comes after all others and whose folder is there.
    ///
    /// # Errors
    /// [`EntryFault`] when it does not belong there.
    pub fn push(&mut self, entry: ManifestEntry) -> Result<(), EntryFault> {
        if self.entries.len() >= MANIFEST_ENTRIES_MAX {
            return Err(EntryFault::TooMany);
        }
        if self.entries.last().is_some_and(|last| last.path >= entry.path) {
            return Err(EntryFault::Order(entry.path));
        }
        if entry.path.folder().is_some_and(|folder| !self.has_folder(folder)) {
            return Err(EntryFault::NoFolder(entry.path));
        }
        if let Some(file) = entry.file() {
            let bytes = self.bytes.saturating_add(file.size.bytes());
            if bytes > FILE_BYTES_MAX {
                return Err(EntryFault::TooLarge);
            }
            self.bytes = bytes;
            self.files += 1;
        }
        self.entries.push(entry);
        Ok(())
    }

    fn has_folder(&self, path: &str) -> bool {
        let found = self.entries.binary_search_by(|entry| entry.path.as_str().cmp(path));
        found.is_ok_and(|index| self.entries[index].what == Content::Folder)
    }

    /// The entries in the order of their paths; their places are the numbers by which they are asked for.
    #[must_use]
    pub fn entries(&self) -> &[ManifestEntry] {
        &self.entries
    }

    /// How many files there are.
    #[must_use]
    pub fn files(&self) -> u64 {
        self.files
    }

    /// The bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The manifest as it is sent, stored and hashed.
    ///
    /// # Errors
    /// [`CodecError::TooLong`] when names are so long that it exceeds its bound.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CodecError> {
        let mut bytes = codec::encode_within::<MANIFEST_BYTES_MAX, _>(self)?;
        bytes.insert(0, MANIFEST_VERSION);
        Ok(bytes)
    }

    /// Reads a manifest that somebody sent.
    ///
    /// # Errors
    /// [`ManifestError`] when it is none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ManifestError> {
        match bytes.split_first() {
            Some((&MANIFEST_VERSION, body)) => Ok(codec::decode_within::<MANIFEST_BYTES_MAX, _>(body)?),
            other => Err(ManifestError::Version { found: other.map(|(version, _)| *version) }),
        }
    }
}

impl Serialize for Manifest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.entries.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Manifest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Entries)
    }
}

/// Takes entries one by one, so that a lie ends at the first wrong one, before there is memory for those behind it.
struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Manifest;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the entries of a manifest")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Manifest, A::Error> {
        let mut manifest = Manifest::default();
        while let Some(entry) = entries.next_element()? {
            manifest.push(entry).map_err(A::Error::custom)?;
        }
        Ok(manifest)
    }
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
