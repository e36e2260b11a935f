//! Offers from others that were neither accepted nor declined.

use rusqlite::{Connection, params};

use crate::database::{Database, DatabaseError};
use crate::wire::catalog::EntryKind;
use crate::wire::ids::{FileDigest, FileName, FileSize, MessageId, PeerName};
use crate::wire::message::Offer;

/// An offer that was neither accepted nor declined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenOffer {
    /// The offer's message id.
    pub id: MessageId,
    /// Who offers.
    pub from: PeerName,
    /// What.
    pub offer: Offer,
}

/// Adds an offer that has just come.
pub(super) fn add(sql: &Connection, from: &PeerName, id: MessageId, offer: &Offer) -> rusqlite::Result<()> {
    let insert = "INSERT INTO offer (id, peer, name, size, digest, files) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let values = params![
        id.as_bytes(),
        from.as_str(),
        offer.name.as_str(),
        offer.size.bytes().cast_signed(),
        offer.digest.as_bytes(),
        offer.kind.files().map(u64::cast_signed)
    ];
    sql.prepare_cached(insert)?.execute(values).map(drop)
}

/// Forgets an offer that whoever made it has taken back, and nobody else.
pub(super) fn withdraw(sql: &Connection, from: &PeerName, id: MessageId) -> rusqlite::Result<()> {
    let delete = "DELETE FROM offer WHERE id = ?1 AND peer = ?2";
    sql.prepare_cached(delete)?.execute(params![id.as_bytes(), from.as_str()]).map(drop)
}

/// The offers that wait for an answer, oldest first.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be read.
pub async fn open_offers(database: &Database) -> Result<Vec<OpenOffer>, DatabaseError> {
    database
        .run(|sql| {
            let mut rows =
                sql.prepare_cached("SELECT id, peer, name, size, digest, files FROM offer ORDER BY rowid")?;
            let offers = rows.query_map([], |row| {
                Ok((
                    row.get(0)?,
                    row.get::<_, String>(1)?,
                    row.get::<_, String>(2)?,
                    row.get::<_, i64>(3)?,
                    row.get(4)?,
                    row.get::<_, Option<i64>>(5)?,
                ))
            })?;
            let offers = offers.collect::<Result<Vec<_>, _>>()?;
            let valid = offers.into_iter().filter_map(|(id, from, name, size, digest, files)| {
                Some(OpenOffer {
                    id: MessageId::from_bytes(id),
                    from: PeerName::parse(&from).ok()?,
                    offer: Offer {
                        name: FileName::parse(&name).ok()?,
                        size: FileSize::try_from(size.cast_unsigned()).ok()?,
                        digest: FileDigest::from_bytes(digest),
                        kind: files.map_or(EntryKind::File, |files| EntryKind::Folder { files: files.cast_unsigned() }),
                    },
                })
            });
            Ok(valid.collect())
        })
        .await
}

/// Forgets an offer that was answered.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be written.
pub async fn close_offer(database: &Database, id: MessageId) -> Result<(), DatabaseError> {
    database
        .run(move |sql| {
            sql.execute("DELETE FROM offer WHERE id = ?1", [id.as_bytes()])?;
            Ok(())
        })
        .await
}
