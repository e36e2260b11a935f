//! A person's folder for one account: identity key, database and lock; and the pins of the directories.
//!
//! ```text
//! ROOT/known_servers                  one line for each directory: HOST:PORT FINGERPRINT
//! ROOT/FINGERPRINT16/NAME/identity    the secret key, 0600
//! ROOT/FINGERPRINT16/NAME/profile.sqlite
//! ROOT/FINGERPRINT16/NAME/lock        held while a peer runs
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::schema::MIGRATIONS;
use crate::database::{Database, DatabaseError};
use crate::seal::identity::IdentityKey;
use crate::seal::random::Random;
use crate::wire::ids::{DirectoryFingerprint, PeerName};

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// A file cannot be read or written.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// Which file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Another process holds the profile.
    #[error("another qchat uses the profile {0}")]
    InUse(PathBuf),
    /// Others can read the key.
    #[error("others can read the key file {path} (mode {mode:03o}): run `chmod 600` on it")]
    KeyReadableByOthers {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Others can enter the folder, or read the database.
    #[error("others can use {path} (mode {mode:03o}): run `chmod {wanted:03o}` on it")]
    OpenToOthers {
        /// The folder or file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What they should be.
        wanted: u32,
    },
    /// The key file holds something else.
    #[error("the key file {0} is damaged: restore it from a backup, or move it away to start with a new key")]
    DamagedKey(PathBuf),
    /// There is a profile already.
    #[error("{name} has a key on this machine already, in {folder}")]
    Exists {
        /// Whose.
        name: PeerName,
        /// Where.
        folder: PathBuf,
    },
    /// A line of `known_servers` cannot be understood.
    #[error("line {line} of {path} is not `HOST:PORT FINGERPRINT`: correct or remove it")]
    DamagedPins {
        /// The file.
        path: PathBuf,
        /// Which line, counted from 1.
        line: usize,
    },
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// The name of the key file in a profile.
pub(super) const IDENTITY: &str = "identity";
/// The name of the database in a profile.
pub(super) const DATABASE: &str = "profile.sqlite";

/// The folder that holds all profiles of a person on this machine.
#[derive(Debug, Clone)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// Uses a given folder.
    #[must_use]
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The pinned fingerprint of a directory, by the address it was named with.
    ///
    /// # Errors
    /// [`ProfileError`] when `known_servers` cannot be read or understood.
    pub fn pinned(&self, address: &str) -> Result<Option<DirectoryFingerprint>, ProfileError> {
        let path = self.pins();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ProfileError::File { action: "read", path, source }),
        };
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let pin = line.split_once(' ').and_then(|(host, pin)| Some((host, pin.trim().parse().ok()?)));
            match pin {
                Some((host, pin)) if host == address => return Ok(Some(pin)),
                Some(_) => {}
                None => return Err(ProfileError::DamagedPins { path, line: index + 1 }),
            }
        }
        Ok(None)
    }

    /// Pins a directory that has no pin yet.
    ///
    /// # Errors
    /// [`ProfileError::File`] when `known_servers` cannot be written.
    pub fn pin(&self, address: &str, fingerprint: DirectoryFingerprint) -> Result<(), ProfileError> {
        make_private_folder(&self.root)?;
        let path = self.pins();
        let append = || {
            let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
            file.write_all(format!("{address} {fingerprint}\n").as_bytes())?;
            file.sync_all()
        };
        append().map_err(|source| ProfileError::File { action: "write", path: path.clone(), source })
    }

    /// The folder of one account at one directory.
    #[must_use]
    pub fn profile_folder(&self, directory: DirectoryFingerprint, name: &PeerName) -> PathBuf {
        self.root.join(&directory.to_string()[..16]).join(name.as_str())
    }

    /// Whether an account has a key here.
    #[must_use]
    pub fn has_profile(&self, directory: DirectoryFingerprint, name: &PeerName) -> bool {
        self.profile_folder(directory, name).join(IDENTITY).exists()
    }

    /// Where the account's resident peer listens for the one-shot verbs of its user.
    ///
    /// A socket's path has at most 107 bytes, so it lies in the run-time folder where there is one.
    #[must_use]
    pub fn local_socket(&self, directory: DirectoryFingerprint, name: &PeerName) -> PathBuf {
        let folder = self.profile_folder(directory, name);
        match std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty()) {
            None => folder.join("peer.sock"),
            Some(runtime) => {
                let mut hasher = DefaultHasher::new();
                folder.hash(&mut hasher);
                PathBuf::from(runtime).join("qchat").join(format!("{name}-{:016x}.sock", hasher.finish()))
            }
        }
    }

    /// The file of the directories that are trusted.
    #[must_use]
    pub fn pins(&self) -> PathBuf {
        self.root.join("known_servers")
    }
}

/// An account's open profile. The lock is held until it is dropped.
#[derive(Debug)]
pub struct Profile {
    folder: PathBuf,
    identity: IdentityKey,
    database: Database,
    _lock: File,
}

impl Profile {
    /// Opens a profile; makes folder, key and database on first use.
    ///
    /// # Errors
    /// [`ProfileError::InUse`] while another process has it open; the others name a file and what is wrong with it.
    pub fn open(
        home: &Home,
        directory: DirectoryFingerprint,
        name: &PeerName,
        random: &mut dyn Random,
    ) -> Result<Self, ProfileError> {
        let folder = home.profile_folder(directory, name);
        make_private_folder(&folder)?;
        check_all_private(&folder)?;
        let lock = lock(&folder)?;
        let identity = load_or_create_identity(&folder.join(IDENTITY), random)?;
        let database = Database::open(&folder.join(DATABASE), MIGRATIONS)?;
        Ok(Self { folder, identity, database, _lock: lock })
    }

    /// The person's key.
    #[must_use]
    pub fn identity(&self) -> &IdentityKey {
        &self.identity
    }

    /// The profile's database.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// The profile's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Looks at an account's folder as [`Profile::open`] would, and changes nothing: its key, and whether another process
/// has it open.
///
/// # Errors
/// Those of [`Profile::open`].
pub fn examine(
    home: &Home,
    directory: DirectoryFingerprint,
    name: &PeerName,
) -> Result<(IdentityKey, bool), ProfileError> {
    let folder = home.profile_folder(directory, name);
    check_all_private(&folder)?;
    let path = folder.join(IDENTITY);
    let file = File::open(&path).map_err(|source| ProfileError::File { action: "open", path: path.clone(), source })?;
    let identity = load_identity(file, &path)?;
    match lock(&folder) {
        Ok(_) => Ok((identity, false)),
        Err(ProfileError::InUse(_)) => Ok((identity, true)),
        Err(error) => Err(error),
    }
}

/// Makes a folder that only its owner can enter, with the folders above it.
///
/// # Errors
/// [`ProfileError::File`] names the folder.
pub fn make_private_folder(path: &Path) -> Result<(), ProfileError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| ProfileError::File {
        action: "make the folder",
        path: path.to_owned(),
        source,
    })
}

/// Refuses what somebody else could read or write, as ssh does with its keys. What is not there is made private later.
fn check_private(path: &Path, wanted: u32) -> Result<(), ProfileError> {
    match fs::metadata(path) {
        Ok(found) if found.mode() & 0o077 == 0 => Ok(()),
        Ok(found) => Err(ProfileError::OpenToOthers { path: path.to_owned(), mode: found.mode() & 0o777, wanted }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(ProfileError::File { action: "read", path: path.to_owned(), source }),
    }
}

fn check_all_private(folder: &Path) -> Result<(), ProfileError> {
    check_private(folder, 0o700)?;
    // Prekey secrets and messages are in there.
    for side in ["", "-wal", "-shm"] {
        check_private(&folder.join(format!("{DATABASE}{side}")), 0o600)?;
    }
    Ok(())
}

pub(super) fn lock(folder: &Path) -> Result<File, ProfileError> {
    let path = folder.join("lock");
    let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = open.map_err(|source| ProfileError::File { action: "open", path: path.clone(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ProfileError::InUse(folder.to_owned())),
        Err(TryLockError::Error(source)) => Err(ProfileError::File { action: "lock", path, source }),
    }
}

fn load_or_create_identity(path: &Path, random: &mut dyn Random) -> Result<IdentityKey, ProfileError> {
    let failed = |action, source| ProfileError::File { action, path: path.to_owned(), source };
    match File::open(path) {
        Ok(file) => load_identity(file, path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let identity = IdentityKey::generate(random);
            write_new_key(path, identity.seed()).map_err(|source| failed("write", source))?;
            Ok(identity)
        }
        Err(source) => Err(failed("read", source)),
    }
}

fn load_identity(mut file: File, path: &Path) -> Result<IdentityKey, ProfileError> {
    let metadata = file.metadata();
    let mode = metadata.map_err(|source| ProfileError::File { action: "read", path: path.to_owned(), source })?.mode();
    if mode & 0o077 != 0 {
        return Err(ProfileError::KeyReadableByOthers { path: path.to_owned(), mode: mode & 0o777 });
    }
    let mut seed = Zeroizing::new([0; 32]);
    file.read_exact(&mut *seed).map_err(|_| ProfileError::DamagedKey(path.to_owned()))?;
    Ok(IdentityKey::from_seed(&seed))
}

/// Writes beside the final name first, so that a crash leaves no half key.
pub(super) fn write_new_key(path: &Path, seed: &[u8; 32]) -> io::Result<()> {
    let partial = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
    file.write_all(seed)?;
    file.sync_all()?;
    fs::rename(&partial, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
