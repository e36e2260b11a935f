//! Searching for text anywhere in the names of the catalogue, without reading all of its entries: their names lie side by
//! side in blocks of text, one for each stretch of the alphabet.
//!
//! ```text
//! block after block, from where the last page ended --has the text--> the entries of its stretch --> page
//!                                                   `--has not-----> next
//! ```
//! A common text fills a page soon, wherever in the alphabet it is; what nobody has costs the reading of all blocks, which
//! is some dozens of bytes for each name.

use rusqlite::{Connection, Row, params};

use super::catalogue::page;
use super::sqlite::{malformed, one};
use super::{Page, StoreError};
use crate::wire::ids::is_unprintable;

/// lower() knows ASCII only, and instr() no wildcards: both are what a pattern means. Any text is less than a blob.
const MATCHES: &str = "name < coalesce(?5, x'') AND instr(lower(name), ?4) > 0";

/// A page of the entries whose names have a text in them, behind a name and owner.
pub(super) fn find(
    sql: &Connection,
    asker: &str,
    pattern: &str,
    after: (&str, &str),
    limit: usize,
) -> Result<Page, StoreError> {
    let mut found = Page { entries: Vec::new(), more: false };
    if pattern.contains(is_unprintable) {
        return Ok(found); // no name has it, and in the blocks it may stand between names
    }
    let pattern = pattern.to_ascii_lowercase();
    let mut blocks = sql.prepare_cached(
        "SELECT first, text FROM share_block
         WHERE first >= (SELECT max(first) FROM share_block WHERE first <= ?1) ORDER BY first",
    )?;
    let mut blocks = blocks.query([after.0])?;
    while let Some(block) = blocks.next()? {
        if !text(block, 1)?.contains(&pattern) {
            continue;
        }
        let first = text(block, 0)?;
        let (name, owner) = after.max((first, ""));
        let end: Option<String> = one(sql, "SELECT min(first) FROM share_block WHERE first > ?1", [first])?.flatten();
        let left = limit - found.entries.len();
        let more = page(sql, "share_by_name", MATCHES, params![name, owner, asker, pattern, end], left)?;
        found.entries.extend(more.entries);
        if more.more {
            return Ok(Page { more: true, ..found });
        }
    }
    Ok(found)
}

/// Text of a row, where SQLite has it.
fn text<'a>(row: &'a Row<'_>, column: usize) -> Result<&'a str, StoreError> {
    row.get_ref(column)?.as_str().map_err(|error| malformed("block of names", &error))
}

#[cfg(test)]
#[path = "search_tests.rs"]
mod tests;
