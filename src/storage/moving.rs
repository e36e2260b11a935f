//! A profile on its way to another machine: whose it is, the key, and the database as a whole. Sealing is done elsewhere.
//!
//! ```text
//! {"name":..,"directory":"HOST:PORT","fingerprint":..} LF, 32 bytes of key, the SQLite file
//! ```

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, MAIN_DB};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::profile::{DATABASE, Home, IDENTITY, Profile, ProfileError, lock, make_private_folder, write_new_key};
use crate::database::DatabaseError;
use crate::wire::ids::{DirectoryFingerprint, PeerName};

/// Bytes of the identity's seed.
const KEY_BYTES: usize = 32;

/// What every SQLite file begins with (sqlite.org/fileformat.html, section 1.3).
const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";

/// Whose profile it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whose {
    /// The account.
    pub name: PeerName,
    /// Its directory, as the person named it: HOST:PORT.
    pub directory: String,
    /// The directory's pinned key.
    pub fingerprint: DirectoryFingerprint,
}

/// A profile that can be installed.
pub struct Moved<'a> {
    /// Whose it is.
    pub whose: Whose,
    key: Zeroizing<[u8; KEY_BYTES]>,
    database: &'a [u8],
}

/// Bytes that are not a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what is in it is not a profile")]
pub struct Malformed;

/// Everything of a profile as bytes, which hold its secrets.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be read.
pub fn pack(profile: &Profile, whose: &Whose) -> Result<Zeroizing<Vec<u8>>, DatabaseError> {
    let whose = serde_json::to_vec(whose).expect("three texts are JSON");
    // A connection of its own, because a copy takes it whole; the profile's lock keeps other programs away.
    let mut connection = Connection::open(profile.folder().join(DATABASE))?;
    let database = connection.serialize(MAIN_DB)?;
    // At its full size at once, so that no copy of a part is left where it grew.
    let mut packed = Zeroizing::new(Vec::with_capacity(whose.len() + 1 + KEY_BYTES + database.len()));
    for part in [&whose[..], b"\n", profile.identity().seed(), &database] {
        packed.extend_from_slice(part);
    }
    Ok(packed)
}

/// Reads what [`pack`] made.
///
/// # Errors
/// [`Malformed`].
pub fn unpack(packed: &[u8]) -> Result<Moved<'_>, Malformed> {
    let end = packed.iter().position(|&byte| byte == b'\n').ok_or(Malformed)?;
    let whose = serde_json::from_slice(&packed[..end]).map_err(|_| Malformed)?;
    let (key, database) = packed[end + 1..].split_first_chunk::<KEY_BYTES>().ok_or(Malformed)?;
    if !database.starts_with(SQLITE_MAGIC) {
        return Err(Malformed);
    }
    Ok(Moved { whose, key: Zeroizing::new(*key), database })
}

/// Puts a profile into a home. Only with `replace` in the place of one that has a key.
///
/// # Errors
/// [`ProfileError::Exists`] when there is one, [`ProfileError::InUse`] while a process uses it.
pub fn install(home: &Home, moved: &Moved<'_>, replace: bool) -> Result<PathBuf, ProfileError> {
    let Whose { name, fingerprint, .. } = &moved.whose;
    let folder = home.profile_folder(*fingerprint, name);
    make_private_folder(&folder)?;
    let _lock = lock(&folder)?;
    let (identity, database) = (folder.join(IDENTITY), folder.join(DATABASE));
    if identity.exists() && !replace {
        return Err(ProfileError::Exists { name: name.clone(), folder });
    }
    let written = write_database(&database, moved.database);
    written.map_err(|source| ProfileError::File { action: "write", path: database, source })?;
    // Last: without a key it is no profile, so an import that was interrupted can be done again.
    let written = write_new_key(&identity, &moved.key);
    written.map_err(|source| ProfileError::File { action: "write", path: identity, source })?;
    Ok(folder)
}

fn write_database(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // What belongs to a database that was there would be taken for a part of this one.
    for side in ["-wal", "-shm"] {
        let side = PathBuf::from(format!("{}{side}", path.display()));
        match fs::remove_file(side) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    write_private(path, bytes, true)
}

/// Writes a file for its owner only, whole or not at all.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] when there is one and it is not to be replaced, or what the disk says.
pub fn write_private(path: &Path, bytes: &[u8], replace: bool) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    let kept = if replace { file.persist(path) } else { file.persist_noclobber(path) };
    kept.map_err(|error| error.error)?;
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::now_millis;
    use crate::protocol::trust::Trust;
    use crate::seal::random::OsRandom;
    use crate::storage::contacts;
    use crate::wire::ids::PeerKey;

    fn whose() -> Whose {
        Whose {
            name: PeerName::parse("alice").unwrap(),
            directory: "example.org:4433".to_owned(),
            fingerprint: DirectoryFingerprint::from_bytes([3; 32]),
        }
    }

    fn open(home: &Home) -> Profile {
        Profile::open(home, whose().fingerprint, &whose().name, &mut OsRandom).unwrap()
    }

    #[tokio::test]
    async fn a_moved_profile_is_the_same_and_never_replaces_another_unasked() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (here, there) = (Home::at(here.path().join("qchat")), Home::at(there.path().join("qchat")));
        let bob = PeerName::parse("bob").unwrap();
        let old = open(&here);
        contacts::meet(old.database(), &bob, PeerKey::from_bytes([2; 32]), now_millis()).await.unwrap();
        let packed = pack(&old, &whose()).unwrap();

        let moved = unpack(&packed).unwrap();
        assert_eq!(moved.whose, whose());
        install(&there, &moved, false).unwrap();
        let new = open(&there);
        assert_eq!(new.identity().public(), old.identity().public());
        let known = contacts::known(new.database(), &bob).await.unwrap();
        assert_eq!(known, Some(Trust::first(PeerKey::from_bytes([2; 32]))));
        assert!(matches!(install(&there, &moved, true), Err(ProfileError::InUse(_))));
        drop(new);
        assert!(matches!(install(&there, &moved, false), Err(ProfileError::Exists { .. })));
        install(&there, &moved, true).unwrap();
    }

    #[test]
    fn bytes_that_are_no_profile_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let packed = pack(&open(&Home::at(folder.path().join("qchat"))), &whose()).unwrap();
        let start = packed.iter().position(|&byte| byte == b'\n').unwrap();
        for length in [0, 10, start, start + 1, start + 33, start + 40] {
            assert!(unpack(&packed[..length]).is_err(), "{length} bytes");
        }
        assert!(unpack(b"{}\n").is_err());
    }
}
