//! Profiles as their owners signed them: this account's own, and those of others that were asked for. And the files that
//! pictures come from and go to.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _, params};

use super::shares::{self, ShareError};
use crate::database::{Database, DatabaseError};
use crate::protocol::profile::{self as rule, Unfit, Verdict};
use crate::seal::profile::{self, ProfileFault};
use crate::wire::codec;
use crate::wire::ids::{PeerKey, PeerName, UnixMillis};
use crate::wire::limits::{PICTURE_BYTES_MAX, PROFILES_MAX};
use crate::wire::profile::{PartError, Picture, Profile, SignedProfile};

/// A profile whose signature was checked, and the bytes that are handed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    profile: Profile,
    signed: SignedProfile,
}

impl Checked {
    /// Checks what came.
    ///
    /// # Errors
    /// [`ProfileFault`].
    pub fn open(signed: SignedProfile) -> Result<Self, ProfileFault> {
        Ok(Self { profile: profile::open(&signed)?, signed })
    }

    /// What it says.
    #[must_use]
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The bytes that are handed on.
    #[must_use]
    pub fn into_signed(self) -> SignedProfile {
        self.signed
    }
}

/// The profile that is held of a person with this key. One that is held under another key is not theirs any more, and
/// one that was damaged on the disk is none.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be read.
pub async fn held(database: &Database, of: &PeerName, key: PeerKey) -> Result<Option<Checked>, DatabaseError> {
    let of = of.clone();
    database.run(move |sql| Ok(read(sql, &of)?.filter(|held| held.profile.key == key))).await
}

/// Keeps a profile that came for one of a person with this key, when it takes the place of what is held. Of others' the
/// one that was asked for longest ago makes room; `own` is the account whose profile never does.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be written; within, [`Unfit`] when it is not taken and nothing changed.
pub async fn take(
    database: &Database,
    own: &PeerName,
    (of, key): (&PeerName, PeerKey),
    found: Checked,
    now: UnixMillis,
) -> Result<Result<Verdict, Unfit>, DatabaseError> {
    let (own, of) = (own.clone(), of.clone());
    database
        .run(move |sql| {
            let held = read(sql, &of)?;
            let verdict = rule::judge(&of, key, held.as_ref().map(Checked::profile), &found.profile);
            if verdict == Ok(Verdict::New) {
                write(sql, &found, now)?;
                make_room(sql, &own)?;
            }
            Ok(verdict)
        })
        .await
}

/// Notes that a profile was asked for: others make room before it.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be written.
pub async fn note_asked(database: &Database, of: &PeerName, now: UnixMillis) -> Result<(), DatabaseError> {
    let of = of.clone();
    database
        .run(move |sql| {
            let update = "UPDATE profile SET asked_at = ?2 WHERE name = ?1";
            sql.execute(update, params![of.as_str(), now.0.cast_signed()])?;
            Ok(())
        })
        .await
}

fn read(sql: &Connection, of: &PeerName) -> rusqlite::Result<Option<Checked>> {
    let query = "SELECT signed FROM profile WHERE name = ?1";
    let signed: Option<Vec<u8>> = sql.prepare_cached(query)?.query_row([of.as_str()], |row| row.get(0)).optional()?;
    Ok(signed.and_then(|bytes| Checked::open(codec::decode(&bytes).ok()?).ok()))
}

fn write(sql: &Connection, Checked { profile, signed }: &Checked, now: UnixMillis) -> rusqlite::Result<()> {
    let signed = codec::encode(signed).expect("what came in a frame fits a frame");
    sql.execute(
        "INSERT OR REPLACE INTO profile (name, key, version, signed, asked_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            profile.name.as_str(),
            profile.key.as_bytes(),
            profile.version.cast_signed(),
            signed,
            now.0.cast_signed()
        ],
    )?;
    Ok(())
}

fn make_room(sql: &Connection, own: &PeerName) -> rusqlite::Result<()> {
    sql.execute(
        "DELETE FROM profile WHERE name IN (
             SELECT name FROM profile WHERE name != ?1 ORDER BY asked_at DESC, name LIMIT -1 OFFSET ?2)",
        params![own.as_str(), PROFILES_MAX.cast_signed()],
    )?;
    Ok(())
}

/// Why a file cannot be the picture of a profile.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] ShareError),
    /// It is too large, or neither a PNG nor a JPEG.
    #[error("{path}: {why}")]
    Part {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: PartError,
    },
}

/// Reads the picture in a file, of which no more is read than a picture can have. Blocks.
///
/// # Errors
/// [`PictureError`] names the file and what is wrong with it.
pub fn read_picture(path: &Path) -> Result<Picture, PictureError> {
    let read = |source| ShareError::Read { path: path.to_owned(), source };
    let file = shares::open(path)?;
    let part = |why| PictureError::Part { path: path.to_owned(), why };
    let size = usize::try_from(file.metadata().map_err(read)?.len()).unwrap_or(usize::MAX);
    if size > PICTURE_BYTES_MAX {
        return Err(part(PartError::PictureBytes(size)));
    }
    let mut bytes = Vec::new();
    // It may have grown since: one byte more than fits is enough to see that.
    let bound = u64::try_from(PICTURE_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    file.take(bound).read_to_end(&mut bytes).map_err(read)?;
    Picture::parse(bytes).map_err(part)
}

/// Writes a picture to a file of its own; one that is there stays as it is. Blocks.
///
/// # Errors
/// What the operating system says: [`io::ErrorKind::AlreadyExists`] when there is a file of that name.
pub fn save_picture(path: &Path, picture: &Picture) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    // On the disk, or not there at all: half a picture would pass for a whole one.
    file.write_all(picture.bytes()).and_then(|()| file.sync_all()).or_else(|error| {
        fs::remove_file(path)?;
        Err(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::identity::IdentityKey;
    use crate::seal::random::OsRandom;
    use crate::storage::schema::MIGRATIONS;
    use crate::wire::profile::ProfileInfo;

    const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

    fn opened() -> (tempfile::TempDir, Database) {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("profile.sqlite"), MIGRATIONS).unwrap();
        (folder, database)
    }

    fn name(text: &str) -> PeerName {
        PeerName::parse(text).unwrap()
    }

    fn checked(owner: &IdentityKey, of: &str, version: u64) -> Checked {
        let info = Some(ProfileInfo::parse(&format!("version {version}")).unwrap());
        let profile = Profile { version, info, ..Profile::empty(name(of), owner.public()) };
        Checked::open(profile::sign(owner, &profile)).unwrap()
    }

    fn new_key() -> IdentityKey {
        IdentityKey::generate(&mut OsRandom)
    }

    async fn take_as(database: &Database, key: &IdentityKey, found: Checked, millis: u64) -> Result<Verdict, Unfit> {
        let of = found.profile.name.clone();
        take(database, &name("alice"), (&of, key.public()), found, NOW.plus_millis(millis)).await.unwrap()
    }

    #[tokio::test]
    async fn what_is_not_taken_leaves_what_is_held() {
        let (_folder, database) = opened();
        let (bob, mallory) = (new_key(), new_key());
        let held = async || held(&database, &name("bob"), bob.public()).await.unwrap();
        assert_eq!(take_as(&database, &bob, checked(&bob, "bob", 2), 0).await, Ok(Verdict::New));
        for unfit in [checked(&mallory, "bob", 9), checked(&bob, "bob", 1)] {
            take_as(&database, &bob, unfit, 0).await.unwrap_err();
            assert_eq!(held().await, Some(checked(&bob, "bob", 2)));
        }
        assert_eq!(take_as(&database, &bob, checked(&bob, "bob", 3), 0).await, Ok(Verdict::New));
        assert_eq!(held().await, Some(checked(&bob, "bob", 3)));
    }

    #[tokio::test]
    async fn a_profile_is_for_the_key_it_was_signed_with() {
        let (_folder, database) = opened();
        let (old, new) = (new_key(), new_key());
        take_as(&database, &old, checked(&old, "bob", 7), 0).await.unwrap();
        assert_eq!(held(&database, &name("bob"), new.public()).await.unwrap(), None);
        take_as(&database, &new, checked(&new, "bob", 1), 0).await.unwrap();
        assert_eq!(held(&database, &name("bob"), new.public()).await.unwrap(), Some(checked(&new, "bob", 1)));
    }

    #[tokio::test]
    async fn what_was_damaged_on_the_disk_is_not_held_and_not_in_the_way() {
        let (_folder, database) = opened();
        let bob = new_key();
        let good = codec::encode(&checked(&bob, "bob", 2).signed).unwrap();
        let mut forged = good.clone();
        *forged.last_mut().unwrap() ^= 1;
        for damaged in [Vec::new(), good[..30].to_vec(), forged] {
            take_as(&database, &bob, checked(&bob, "bob", 2), 0).await.unwrap();
            let damage: Result<usize, DatabaseError> =
                database.run(move |sql| Ok(sql.execute("UPDATE profile SET signed = ?1", [damaged])?)).await;
            assert_eq!(damage.unwrap(), 1);
            assert_eq!(held(&database, &name("bob"), bob.public()).await.unwrap(), None);
        }
    }

    #[tokio::test]
    async fn the_one_that_was_asked_for_longest_ago_makes_room_and_our_own_never() {
        let (_folder, database) = opened();
        let key = new_key();
        take_as(&database, &key, checked(&key, "alice", 1), 0).await.unwrap();
        let full = i64::try_from(PROFILES_MAX).unwrap();
        let filled: Result<usize, DatabaseError> = database
            .run(move |sql| {
                Ok(sql.execute(
                    "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
                     INSERT INTO profile SELECT 'p' || i, x'00', 1, x'00', ?2 + i FROM n",
                    params![full, NOW.0.cast_signed()],
                )?)
            })
            .await;
        assert_eq!(filled.unwrap(), usize::try_from(PROFILES_MAX).unwrap());
        note_asked(&database, &name("p1"), NOW.plus_millis(PROFILES_MAX + 1)).await.unwrap();
        take_as(&database, &key, checked(&key, "bob", 1), PROFILES_MAX + 2).await.unwrap();
        let names: Result<Vec<String>, DatabaseError> = database
            .run(|sql| {
                let mut rows = sql.prepare("SELECT name FROM profile ORDER BY asked_at LIMIT 2")?;
                let names = rows.query_map([], |row| row.get(0))?;
                Ok(names.collect::<Result<_, _>>()?)
            })
            .await;
        assert_eq!(names.unwrap(), ["alice", "p3"], "p1 was asked for again, so p2 made room");
        assert!(held(&database, &name("bob"), key.public()).await.unwrap().is_some());
    }

    #[test]
    fn a_picture_survives_a_file_and_replaces_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let picture = Picture::parse(b"\x89PNG\r\n\x1a\nlittle".to_vec()).unwrap();
        save_picture(&path("a.png"), &picture).unwrap();
        assert_eq!(read_picture(&path("a.png")).unwrap(), picture);
        fs::write(path("b.txt"), "text").unwrap();
        assert_eq!(save_picture(&path("b.txt"), &picture).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(matches!(read_picture(&path("b.txt")), Err(PictureError::Part { why: PartError::PictureKind, .. })));
        fs::write(path("big"), vec![0; PICTURE_BYTES_MAX + 1]).unwrap();
        assert!(matches!(
            read_picture(&path("big")),
            Err(PictureError::Part { why: PartError::PictureBytes(bytes), .. }) if bytes == PICTURE_BYTES_MAX + 1
        ));
        assert!(matches!(read_picture(folder.path()), Err(PictureError::File(ShareError::NotAFile(_)))));
        assert!(matches!(read_picture(&path("none")), Err(PictureError::File(ShareError::Read { .. }))));
    }
}
