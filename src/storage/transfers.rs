//! What this peer is receiving or was to receive: kept until the file is whole or nobody wants it any more, so that another
//! run of the program goes on with it.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use rusqlite::{Row, params};

use super::partial_file::Collision;
use super::receive_folder::FolderId;
use super::receive_tree::Executable;
use crate::database::{Database, DatabaseError};
use crate::wire::catalog::EntryKind;
use crate::wire::codec;
use crate::wire::ids::{FileDigest, FileName, FileSize, MessageId, PeerKey, PeerName, TransferId, UnixMillis};
use crate::wire::limits::{SOURCES_PER_FILE_MAX, TRANSFERS_MAX};

/// A file that is to come here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptTransfer {
    /// Which transfer.
    pub id: TransferId,
    /// When it was asked for.
    pub begun_at: UnixMillis,
    /// Who has the file, as far as was known then; each with the key that was talked to.
    pub sources: Vec<(PeerName, PeerKey)>,
    /// Its name.
    pub name: FileName,
    /// Bytes.
    pub size: FileSize,
    /// Its BLAKE3 root; of a folder that of its manifest.
    pub digest: FileDigest,
    /// What it is.
    pub kind: EntryKind,
    /// Into which folder; absolute.
    pub folder: PathBuf,
    /// Which folder that was when it began or went on last; `None` when it was not there.
    pub folder_id: Option<FolderId>,
    /// What to do when there is a file of that name.
    pub collision: Collision,
    /// Whether files of a folder may be executed.
    pub executable: Executable,
    /// The offer that was accepted, if it was one.
    pub offer: Option<MessageId>,
    /// How it stands.
    pub state: KeptState,
    /// Why it does not run, if it does not.
    pub reason: Option<String>,
    /// Bytes that were here when it stopped last.
    pub done: u64,
}

/// How a transfer stands when no program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptState {
    /// A peer goes on with it as soon as it runs.
    Active,
    /// Until a person says that it goes on.
    Paused,
    /// It has ended without the file.
    Failed,
    /// A one-shot verb began it and has ended.
    Interrupted,
}

impl KeptState {
    fn text(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::Paused, Self::Failed, Self::Interrupted].into_iter().find(|state| state.text() == text)
    }
}

/// Keeps a transfer, or what has changed of it. Says `false` when there are too many.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be used, here and below.
pub async fn put(database: &Database, transfer: KeptTransfer) -> Result<bool, DatabaseError> {
    database
        .run(move |sql| {
            let others = "SELECT count(*) FROM transfer WHERE id != ?1";
            let others: i64 = sql.prepare_cached(others)?.query_row([transfer.id.as_bytes()], |row| row.get(0))?;
            if usize::try_from(others).is_ok_and(|others| others >= TRANSFERS_MAX) {
                return Ok(false);
            }
            let KeptTransfer { id, sources, folder, offer, .. } = &transfer;
            let insert = "INSERT OR REPLACE INTO transfer (id, begun_at, sources, name, size, digest, folder, \
                          collision, offer, state, reason, done, files, executable, folder_device, folder_inode)
                          VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";
            sql.prepare_cached(insert)?.execute(params![
                id.as_bytes(),
                transfer.begun_at.0.cast_signed(),
                codec::encode(sources).unwrap_or_default(),
                transfer.name.as_str(),
                transfer.size.bytes().cast_signed(),
                transfer.digest.as_bytes(),
                folder.as_os_str().as_bytes(),
                collision_text(transfer.collision),
                offer.as_ref().map(MessageId::as_bytes),
                transfer.state.text(),
                transfer.reason,
                transfer.done.cast_signed(),
                transfer.kind.files().map(u64::cast_signed),
                transfer.executable == Executable::Kept,
                transfer.folder_id.map(|id| id.device.cast_signed()),
                transfer.folder_id.map(|id| id.inode.cast_signed()),
            ])?;
            Ok(true)
        })
        .await
}

/// Forgets a transfer; of one whose file is whole the offer too, which is answered by that.
#[expect(clippy::missing_errors_doc, reason = "see `put`")]
pub async fn remove(database: &Database, id: TransferId, answered: Option<MessageId>) -> Result<(), DatabaseError> {
    database
        .run(move |sql| {
            sql.prepare_cached("DELETE FROM transfer WHERE id = ?1")?.execute([id.as_bytes()])?;
            if let Some(offer) = answered {
                sql.prepare_cached("DELETE FROM offer WHERE id = ?1")?.execute([offer.as_bytes()])?;
            }
            Ok(())
        })
        .await
}

/// All transfers, oldest first.
#[expect(clippy::missing_errors_doc, reason = "see `put`")]
pub async fn all(database: &Database) -> Result<Vec<KeptTransfer>, DatabaseError> {
    database
        .run(|sql| {
            let query = "SELECT id, begun_at, sources, name, size, digest, folder, collision, offer, state, reason, done, \
                         files, executable, folder_device, folder_inode FROM transfer ORDER BY begun_at, id";
            let mut rows = sql.prepare_cached(query)?;
            let found = rows.query_map([], read_row)?.collect::<Result<Vec<_>, _>>()?;
            Ok(found.into_iter().flatten().collect())
        })
        .await
}

/// Reads a row; `None` when a part of it is damaged.
fn read_row(row: &Row<'_>) -> rusqlite::Result<Option<KeptTransfer>> {
    let (sources, name): (Vec<u8>, String) = (row.get(2)?, row.get(3)?);
    let files: Option<i64> = row.get(12)?;
    let folder: (Option<i64>, Option<i64>) = (row.get(14)?, row.get(15)?);
    let id = |(device, inode): (i64, i64)| FolderId { device: device.cast_unsigned(), inode: inode.cast_unsigned() };
    let (collision, state): (String, String) = (row.get(7)?, row.get(9)?);
    let sources: Option<Vec<(PeerName, PeerKey)>> = codec::decode(&sources).ok();
    let sources = sources.filter(|sources| (1..=SOURCES_PER_FILE_MAX).contains(&sources.len()));
    let size = FileSize::try_from(row.get::<_, i64>(4)?.cast_unsigned()).ok();
    let (Some(sources), Ok(name), Some(size)) = (sources, FileName::parse(&name), size) else { return Ok(None) };
    let (Some(collision), Some(state)) = (collision_of(&collision), KeptState::parse(&state)) else { return Ok(None) };
    Ok(Some(KeptTransfer {
        id: TransferId::from_bytes(row.get(0)?),
        begun_at: UnixMillis(row.get::<_, i64>(1)?.cast_unsigned()),
        sources,
        name,
        size,
        digest: FileDigest::from_bytes(row.get(5)?),
        folder: PathBuf::from(OsString::from_vec(row.get(6)?)),
        folder_id: folder.0.zip(folder.1).map(id),
        collision,
        offer: row.get::<_, Option<[u8; 16]>>(8)?.map(MessageId::from_bytes),
        state,
        reason: row.get(10)?,
        done: row.get::<_, i64>(11)?.cast_unsigned(),
        kind: files.map_or(EntryKind::File, |files| EntryKind::Folder { files: files.cast_unsigned() }),
        executable: if row.get(13)? { Executable::Kept } else { Executable::Never },
    }))
}

fn collision_text(collision: Collision) -> &'static str {
    match collision {
        Collision::Refuse => "refuse",
        Collision::Overwrite => "overwrite",
        Collision::Rename => "rename",
    }
}

fn collision_of(text: &str) -> Option<Collision> {
    [Collision::Refuse, Collision::Overwrite, Collision::Rename]
        .into_iter()
        .find(|collision| collision_text(*collision) == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::offers;
    use crate::storage::schema::MIGRATIONS;
    use crate::wire::message::Offer;

    fn opened() -> (tempfile::TempDir, Database) {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("profile.sqlite"), MIGRATIONS).unwrap();
        (folder, database)
    }

    fn transfer(number: u16) -> KeptTransfer {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&number.to_be_bytes());
        KeptTransfer {
            id: TransferId::from_bytes(id),
            begun_at: UnixMillis(number.into()),
            sources: vec![(PeerName::parse("bob").unwrap(), PeerKey::from_bytes([7; 32]))],
            name: FileName::parse("a file").unwrap(),
            size: FileSize::try_from(1 << 40).unwrap(),
            digest: FileDigest::from_bytes([9; 32]),
            folder: PathBuf::from(OsString::from_vec(b"/tmp/not \xff UTF-8".to_vec())),
            folder_id: Some(FolderId { device: u64::MAX, inode: 4 }),
            kind: EntryKind::Folder { files: 3 },
            collision: Collision::Rename,
            executable: Executable::Kept,
            offer: Some(MessageId::from_bytes([3; 16])),
            state: KeptState::Paused,
            reason: Some("the disk is full".to_owned()),
            done: 7,
        }
    }

    #[tokio::test]
    async fn a_transfer_comes_back_as_it_was_kept_and_goes_with_its_offer() {
        let (_folder, database) = opened();
        let mut kept = transfer(1);
        let offer = Offer { name: kept.name.clone(), size: kept.size, digest: kept.digest, kind: kept.kind };
        let id = kept.offer.unwrap();
        let from = PeerName::parse("bob").unwrap();
        database.run(move |sql| Ok::<_, DatabaseError>(offers::add(sql, &from, id, &offer)?)).await.unwrap();
        assert!(put(&database, kept.clone()).await.unwrap());
        assert!(put(&database, transfer(0)).await.unwrap());
        (kept.state, kept.reason, kept.done) = (KeptState::Active, None, 1 << 39);
        assert!(put(&database, kept.clone()).await.unwrap());
        assert_eq!(all(&database).await.unwrap(), [transfer(0), kept.clone()]);

        remove(&database, transfer(0).id, None).await.unwrap();
        assert_eq!(offers::open_offers(&database).await.unwrap().len(), 1, "it may be accepted again");
        remove(&database, kept.id, kept.offer).await.unwrap();
        assert_eq!((all(&database).await.unwrap(), offers::open_offers(&database).await.unwrap()), (vec![], vec![]));
    }

    #[tokio::test]
    async fn no_more_are_kept_than_fit_and_those_that_are_can_change() {
        let (_folder, database) = opened();
        for number in 0..u16::try_from(TRANSFERS_MAX).unwrap() {
            assert!(put(&database, transfer(number)).await.unwrap());
        }
        assert!(!put(&database, transfer(u16::MAX)).await.unwrap());
        assert!(put(&database, transfer(0)).await.unwrap());
        remove(&database, transfer(0).id, None).await.unwrap();
        assert!(put(&database, transfer(u16::MAX)).await.unwrap());
    }

    #[tokio::test]
    async fn damaged_rows_are_passed_over() {
        let (_folder, database) = opened();
        for (number, damage) in ["state = 'odd'", "sources = x'00'", "name = '../x'", "size = -1"].iter().enumerate() {
            let kept = transfer(u16::try_from(number).unwrap());
            let id = kept.id;
            put(&database, kept).await.unwrap();
            let update = format!("UPDATE transfer SET {damage} WHERE id = ?1");
            database.run(move |sql| Ok::<_, DatabaseError>(sql.execute(&update, [id.as_bytes()])?)).await.unwrap();
        }
        assert!(put(&database, transfer(9)).await.unwrap());
        assert_eq!(all(&database).await.unwrap(), [transfer(9)]);
    }
}
