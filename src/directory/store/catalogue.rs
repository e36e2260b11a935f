//! The SQL of the catalogue: what is published, by whom, and the searches in it.

use rusqlite::{Connection, Params, Row, params};

use super::sqlite::{column, malformed, one, parsed, refused};
use super::{Page, StoreError, search};
use crate::wire::catalog::{Cursor, Entry, EntryKind, Query, Scope};
use crate::wire::ids::{FileDigest, FileName, FileSize, PeerName, UnixMillis};
use crate::wire::limits::SHARES_PER_ACCOUNT_MAX;
use crate::wire::refusal::Refusal;

const COLUMNS: &str = "owner, name, size, digest, kind, scope, hides_address, files";

pub(super) fn publish(sql: &Connection, owner: &PeerName, entry: &Entry, now: UnixMillis) -> Result<(), StoreError> {
    // An entry of the same name is replaced, so it does not count.
    let others = "SELECT count(*) FROM share WHERE owner = ?1 AND name != ?2";
    let others: Option<i64> = one(sql, others, [owner.as_str(), entry.name.as_str()])?;
    if others.is_some_and(|others| others.cast_unsigned() >= SHARES_PER_ACCOUNT_MAX) {
        return refused(Refusal::TooManyShares);
    }
    sql.prepare_cached(
        "INSERT INTO share (owner, name, size, digest, kind, scope, published_at, hides_address,
             files)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (owner, name) DO UPDATE SET size = excluded.size, digest = excluded.digest, kind = excluded.kind,
             scope = excluded.scope, published_at = excluded.published_at, hides_address = excluded.hides_address,
             files = excluded.files",
    )?
    .execute(params![
        owner.as_str(),
        entry.name.as_str(),
        entry.size.bytes().cast_signed(),
        entry.digest.as_bytes(),
        kind_text(entry.kind),
        scope_text(entry.scope),
        now.0.cast_signed(),
        entry.hides_address,
        entry.kind.files().map(u64::cast_signed)
    ])?;
    Ok(())
}

/// The rule of `protocol::people::Relation::is_open` for what somebody publishes: whether ?3 may see its owner.
const IN_SIGHT: &str = "(owner = ?3 OR (
        NOT EXISTS (SELECT 1 FROM block WHERE block.blocker = share.owner AND block.blocked = ?3)
        AND ((SELECT audience FROM account WHERE account.name = share.owner) = 'everyone'
            OR (EXISTS (SELECT 1 FROM friend WHERE friend.name = share.owner AND friend.other = ?3)
                AND EXISTS (SELECT 1 FROM friend WHERE friend.name = ?3 AND friend.other = share.owner)))))";

/// Whether an owner publishes a file of this digest, and under no name with a hidden address.
pub(super) fn publishes_openly(sql: &Connection, owner: &PeerName, digest: FileDigest) -> Result<bool, StoreError> {
    let hidden = "SELECT max(hides_address) FROM share INDEXED BY share_by_digest WHERE digest = ?1 AND owner = ?2";
    let hidden: Option<Option<bool>> = one(sql, hidden, params![digest.as_bytes(), owner.as_str()])?;
    Ok(hidden.flatten() == Some(false))
}

pub(super) fn find(
    sql: &Connection,
    asker: &PeerName,
    query: &Query,
    after: Option<&Cursor>,
    limit: usize,
) -> Result<Page, StoreError> {
    let asker = asker.as_str();
    // No name and no owner is empty, so the first page begins after two empty texts.
    let (name, owner) = after.map_or(("", ""), |cursor| (cursor.name.as_str(), cursor.owner.as_str()));
    match query {
        Query::Substring(pattern) => search::find(sql, asker, pattern.as_str(), (name, owner), limit),
        Query::Exact { owner: of, name: exact } => {
            let matches = "name = ?4 AND owner = ?5";
            page(sql, "share_by_name", matches, params![name, owner, asker, exact.as_str(), of.as_str()], limit)
        }
        Query::Owner(of) => {
            let sql_by_owner = format!(
                "SELECT {COLUMNS} FROM share WHERE (name, owner) > (?1, ?2) AND owner = ?4 AND {IN_SIGHT} ORDER BY name"
            );
            entries(sql, &sql_by_owner, params![name, owner, asker, of.as_str()], limit)
        }
        Query::Digest(digest) => {
            page(sql, "share_by_digest", "digest = ?4", params![name, owner, asker, digest.as_bytes()], limit)
        }
    }
}

/// Reads matching entries in the order of an index, so that nothing is sorted and what lies behind the page not read.
pub(super) fn page(
    sql: &Connection,
    index: &'static str,
    matches: &str,
    values: impl Params,
    limit: usize,
) -> Result<Page, StoreError> {
    let query = format!(
        "SELECT {COLUMNS} FROM share INDEXED BY {index}
         WHERE (name, owner) > (?1, ?2) AND {matches} AND {IN_SIGHT} ORDER BY name, owner"
    );
    entries(sql, &query, values, limit)
}

fn entries(sql: &Connection, query: &str, values: impl Params, limit: usize) -> Result<Page, StoreError> {
    let mut statement = sql.prepare_cached(query)?;
    let mut rows = statement.query(values)?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        match entry_row(row) {
            Ok(_) if entries.len() == limit => return Ok(Page { entries, more: true }),
            Ok(entry) => entries.push(entry),
            Err(error) => tracing::error!(%error, "catalogue entry skipped"),
        }
    }
    Ok(Page { entries, more: false })
}

fn entry_row(row: &Row<'_>) -> Result<(PeerName, Entry), StoreError> {
    let owner = parsed(&column::<String>(row, 0)?)?;
    let entry = Entry {
        name: parsed::<FileName>(&column::<String>(row, 1)?)?,
        size: FileSize::try_from(column::<i64>(row, 2)?.cast_unsigned()).map_err(|error| malformed("size", &error))?,
        digest: FileDigest::from_bytes(column(row, 3)?),
        kind: kind_from(&column::<String>(row, 4)?, column(row, 7)?)?,
        scope: scope_from(&column::<String>(row, 5)?)?,
        hides_address: column(row, 6)?,
    };
    Ok((owner, entry))
}

fn kind_text(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::File => "file",
        EntryKind::Folder { .. } => "folder",
    }
}

fn kind_from(text: &str, files: Option<i64>) -> Result<EntryKind, StoreError> {
    match (text, files) {
        ("file", None) => Ok(EntryKind::File),
        ("folder", Some(files)) => Ok(EntryKind::Folder { files: files.cast_unsigned() }),
        (other, _) => Err(malformed("kind", &other)),
    }
}

fn scope_text(scope: Scope) -> &'static str {
    match scope {
        Scope::Everyone => "everyone",
    }
}

fn scope_from(text: &str) -> Result<Scope, StoreError> {
    match text {
        "everyone" => Ok(Scope::Everyone),
        other => Err(malformed("scope", &other)),
    }
}
