//! What a file is: its BLAKE3 root, and the tree below it by which each group of 256 KiB is proven alone.
//!
//! ```text
//! groups:  g0 g1 g2 g3 g4      The left half of every node holds the largest power of two of chunks that is
//!           \ /   \ /  |       smaller than the whole (BLAKE3 paper, section 2.1): full groups, so that a group
//!            \    /    |       is always a whole subtree.
//!             root ----+
//! ```
//! In a file of one group that group is the root itself, and an empty file has only a root; both stay in this file.

use std::io::{self, Read};

use blake3::Hasher;
use blake3::hazmat::{self, HasherExt as _, Mode};

use crate::wire::ids::FileDigest;
use crate::wire::limits::FILE_BYTES_MAX;
use crate::wire::transfer::{GROUP_BYTES, group_bytes, group_count, tree_bytes};

/// Bytes of one hash.
const HASH_BYTES: usize = 32;

/// Bytes that are read and hashed at a time: one group.
#[expect(clippy::cast_possible_truncation, reason = "256 KiB fit every usize")]
const STEP_BYTES: usize = GROUP_BYTES as usize;

/// Why a hash tree is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// A file of that size has a tree of another length.
    #[error("the hash tree has {found} bytes instead of {expected}")]
    Length {
        /// The bytes it has.
        found: u64,
        /// The bytes it should have.
        expected: u64,
    },
    /// It leads to another root than the file's.
    #[error("the hash tree is of the file {found}, not {expected}")]
    OtherFile {
        /// The root it leads to.
        found: FileDigest,
        /// The root it should lead to.
        expected: FileDigest,
    },
}

/// Hashes one group, in as many pieces as it comes.
#[derive(Debug, Clone)]
pub struct GroupHasher {
    group: u64,
    /// Bytes that were given, also those over a full group.
    bytes: u64,
    hasher: Hasher,
}

impl GroupHasher {
    /// Begins a group of a file, counted from 0.
    #[must_use]
    pub fn new(group: u64) -> Self {
        let mut hasher = Hasher::new();
        // A number over the file's groups may wrap, because `HashTree::verifies` refuses it anyway.
        hasher.set_input_offset(group.wrapping_mul(GROUP_BYTES));
        Self { group, bytes: 0, hasher }
    }

    /// Takes the next bytes of the group; a group with too many is never proven.
    pub fn update(&mut self, bytes: &[u8]) {
        // BLAKE3 panics on more bytes than a subtree has, so these are counted and not hashed.
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        if self.bytes <= GROUP_BYTES {
            self.hasher.update(bytes);
        }
    }

    /// The hash of a group among others: a chaining value, for a group that is not empty.
    fn finish(&self) -> [u8; HASH_BYTES] {
        self.hasher.finalize_non_root()
    }

    /// The hash of a file that has no other group than this first one.
    fn finish_root(&self) -> FileDigest {
        FileDigest::from_bytes(*self.hasher.finalize().as_bytes())
    }
}

/// The hashes of all groups of one file, checked against its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashTree {
    size: u64,
    digest: FileDigest,
    /// One for each group; none where the digest alone proves the only group.
    groups: Vec<[u8; HASH_BYTES]>,
}

impl HashTree {
    /// Hashes a file to its end, and reports how many bytes were read after every group.
    ///
    /// # Errors
    /// What the reader returns, and [`io::ErrorKind::FileTooLarge`] over 1 TiB.
    pub fn of_reader(reader: &mut impl Read, progress: &mut dyn FnMut(u64)) -> io::Result<(FileDigest, Self)> {
        let mut buffer = vec![0; STEP_BYTES];
        let mut first = GroupHasher::new(0);
        let mut groups = Vec::new();
        let mut size = 0;
        loop {
            let read = fill(reader, &mut buffer)?;
            if read == 0 {
                break;
            }
            size += read as u64;
            if size > FILE_BYTES_MAX {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            let mut hasher = GroupHasher::new(groups.len() as u64);
            hasher.update(&buffer[..read]);
            groups.push(hasher.finish());
            if groups.len() == 1 {
                first = hasher;
            }
            progress(size);
        }
        let tree = Self::of_groups(size, groups, &first);
        Ok((tree.digest, tree))
    }

    /// The tree of a whole file. A single group is no part of any tree: its hash as the root takes the place.
    fn of_groups(size: u64, groups: Vec<[u8; HASH_BYTES]>, first: &GroupHasher) -> Self {
        if groups.len() <= 1 {
            return Self { size, digest: first.finish_root(), groups: Vec::new() };
        }
        Self { size, digest: root(&groups, size), groups }
    }

    /// Reads a tree that somebody sent, and checks that it is the tree of the expected file.
    ///
    /// # Errors
    /// [`TreeError`] when it is not.
    pub fn from_bytes(size: u64, bytes: &[u8], expected: &FileDigest) -> Result<Self, TreeError> {
        if bytes.len() as u64 != tree_bytes(size) {
            return Err(TreeError::Length { found: bytes.len() as u64, expected: tree_bytes(size) });
        }
        let groups = bytes.as_chunks::<HASH_BYTES>().0.to_vec();
        let found = match group_count(size) {
            // No group will come that could prove it.
            0 => GroupHasher::new(0).finish_root(),
            // The only group will.
            1 => *expected,
            _ => root(&groups, size),
        };
        if found != *expected {
            return Err(TreeError::OtherFile { found, expected: *expected });
        }
        Ok(Self { size, digest: found, groups })
    }

    /// The tree as it is sent and stored: 32 bytes for each group, nothing for a file of one group or none.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.groups.concat()
    }

    /// The root.
    #[must_use]
    pub fn digest(&self) -> FileDigest {
        self.digest
    }

    /// The file's size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether what was hashed is this group of the file, complete and unchanged.
    #[must_use]
    pub fn verifies(&self, group: u64, hasher: GroupHasher) -> bool {
        let expected_bytes = group_bytes(self.size, group);
        if hasher.group != group || hasher.bytes != expected_bytes {
            return false;
        }
        if group_count(self.size) <= 1 {
            return group == 0 && hasher.finish_root() == self.digest;
        }
        let hash = usize::try_from(group).ok().and_then(|group| self.groups.get(group));
        hash.is_some_and(|hash| *hash == hasher.finish())
    }
}

/// The root of a file that is in memory as a whole.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> FileDigest {
    FileDigest::from_bytes(*blake3::hash(bytes).as_bytes())
}

/// Reads until the buffer is full or the reader at its end, and says how many bytes there are.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The root of two groups or more.
fn root(groups: &[[u8; HASH_BYTES]], bytes: u64) -> FileDigest {
    let (left, right) = halves(groups, bytes);
    FileDigest::from_bytes(*hazmat::merge_subtrees_root(&left, &right, Mode::Hash).as_bytes())
}

/// The chaining value of a part of the tree that is not the root.
fn subtree(groups: &[[u8; HASH_BYTES]], bytes: u64) -> [u8; HASH_BYTES] {
    if let [group] = groups {
        return *group;
    }
    let (left, right) = halves(groups, bytes);
    hazmat::merge_subtrees_non_root(&left, &right, Mode::Hash)
}

/// The chaining values below a node of two groups or more. The left half of such a node is a power of two of groups.
fn halves(groups: &[[u8; HASH_BYTES]], bytes: u64) -> ([u8; HASH_BYTES], [u8; HASH_BYTES]) {
    let left_bytes = hazmat::left_subtree_len(bytes);
    let left_groups = usize::try_from(left_bytes / GROUP_BYTES).expect("these groups are in memory");
    let (left, right) = groups.split_at(left_groups);
    (subtree(left, left_bytes), subtree(right, bytes - left_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [usize; 16] = [
        0,
        1,
        199,
        200,
        201,
        1_024,
        1_025,
        262_143,
        262_144,
        262_145,
        524_287,
        524_288,
        524_289,
        3 * 262_144 + 5,
        5 * 1_024 * 1_024,
        5 * 1_024 * 1_024 + 1,
    ];

    fn file(size: usize) -> Vec<u8> {
        (0..size).map(|i| u8::try_from(i % 251).unwrap() ^ u8::try_from(i / 251 % 256).unwrap()).collect()
    }

    fn tree(file: &[u8]) -> HashTree {
        HashTree::of_reader(&mut &*file, &mut |_| ()).unwrap().1
    }

    fn group(file: &[u8], group: u64) -> &[u8] {
        let begin = usize::try_from(group * GROUP_BYTES).unwrap();
        &file[begin..][..usize::try_from(group_bytes(file.len() as u64, group)).unwrap()]
    }

    /// Hashes a group in pieces as they come from the network.
    fn hashed(number: u64, bytes: &[u8]) -> GroupHasher {
        let mut hasher = GroupHasher::new(number);
        bytes.chunks(64_000).for_each(|piece| hasher.update(piece));
        hasher
    }

    /// Which groups of the bytes the tree proves.
    fn proven(tree: &HashTree, bytes: &[u8]) -> Vec<bool> {
        (0..group_count(tree.size())).map(|n| tree.verifies(n, hashed(n, group(bytes, n)))).collect()
    }

    #[test]
    fn the_digest_is_the_blake3_hash_of_the_file() {
        for size in SIZES {
            let file = file(size);
            let (digest, tree) = HashTree::of_reader(&mut &*file, &mut |_| ()).unwrap();
            assert_eq!(digest.as_bytes(), blake3::hash(&file).as_bytes(), "{size} bytes");
            assert_eq!((tree.digest(), tree.size()), (digest, size as u64));
        }
    }

    #[test]
    fn a_tree_survives_its_bytes_and_proves_every_group() {
        for size in SIZES {
            let file = file(size);
            let sent = tree(&file).to_bytes();
            assert_eq!(sent.len() as u64, tree_bytes(size as u64));
            let digest = FileDigest::from_bytes(*blake3::hash(&file).as_bytes());
            let received = HashTree::from_bytes(size as u64, &sent, &digest).unwrap();
            assert_eq!(received, tree(&file));
            assert!(proven(&received, &file).into_iter().all(|proven| proven), "{size} bytes");
        }
    }

    #[test]
    fn a_flipped_bit_fails_exactly_its_group() {
        for size in SIZES.into_iter().filter(|&size| size > 0) {
            let good = file(size);
            for index in [0, size / 2, size - 1] {
                let mut bad = good.clone();
                bad[index] ^= 1;
                let spoilt = index as u64 / GROUP_BYTES;
                let expected: Vec<bool> = (0..group_count(size as u64)).map(|n| n != spoilt).collect();
                assert_eq!(proven(&tree(&good), &bad), expected, "{size} bytes, flipped at {index}");
            }
        }
    }

    #[test]
    fn a_group_of_another_length_or_place_is_not_proven() {
        let file = file(3 * 262_144 + 5);
        let tree = tree(&file);
        assert!(!tree.verifies(0, hashed(0, &[])));
        assert!(!tree.verifies(0, hashed(0, &file[..262_143])));
        assert!(!tree.verifies(1, hashed(1, &file[262_144..][..262_145])));
        assert!(!tree.verifies(1, hashed(0, group(&file, 0))));
        assert!(!tree.verifies(3, hashed(3, &[])));
        assert!(!tree.verifies(4, hashed(4, &[])));
        assert!(!tree.verifies(u64::MAX, hashed(u64::MAX, &[])));
    }

    #[test]
    fn an_empty_file_has_its_own_digest_and_no_other() {
        let empty = FileDigest::from_bytes(*blake3::hash(b"").as_bytes());
        assert!(HashTree::from_bytes(0, &[], &empty).unwrap().verifies(0, GroupHasher::new(0)));
        let other = FileDigest::from_bytes([7; 32]);
        let error = TreeError::OtherFile { found: empty, expected: other };
        assert_eq!(HashTree::from_bytes(0, &[], &other), Err(error));
    }

    #[test]
    fn a_tampered_tree_is_refused_wherever_it_was_changed() {
        let size = 5 * 262_144 + 1;
        let tree = tree(&file(size));
        let mut bytes = tree.to_bytes();
        for index in 0..bytes.len() {
            bytes[index] ^= 1;
            let verdict = HashTree::from_bytes(size as u64, &bytes, &tree.digest());
            assert!(matches!(verdict, Err(TreeError::OtherFile { .. })), "byte {index}");
            bytes[index] ^= 1;
        }
    }

    #[test]
    fn a_tree_of_another_length_is_refused() {
        let size = 5 * GROUP_BYTES + 1;
        let tree = tree(&file(usize::try_from(size).unwrap()));
        let bytes = tree.to_bytes();
        let check = |size, bytes: &[u8], expected| {
            let error = TreeError::Length { found: bytes.len() as u64, expected };
            assert_eq!(HashTree::from_bytes(size, bytes, &tree.digest()), Err(error));
        };
        check(size, &bytes[..bytes.len() - 1], 192);
        check(size, &bytes[..bytes.len() - 32], 192);
        check(size, &[], 192);
        check(size, &[&bytes[..], &[0; 32]].concat(), 192);
        check(GROUP_BYTES, &[0; 32], 0);
        check(0, &[0; 32], 0);
    }

    #[test]
    fn progress_counts_up_to_the_size() {
        let mut seen = Vec::new();
        HashTree::of_reader(&mut &*file(524_289), &mut |bytes| seen.push(bytes)).unwrap();
        assert_eq!(seen, [262_144, 524_288, 524_289]);
    }
}
