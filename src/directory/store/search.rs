//! Searching for text anywhere in the names of the catalogue, without reading all of it: what many names have is found
//! among the next ones, and what few have by an index of every three letters in a row.
//!
//! ```text
//! the next 8,192 entries fill the page, or are all --> done
//!   otherwise: 4,096 names at most have the letters --> their entries
//!              more do                              --> entry by entry, until the page is full
//! ```

use rusqlite::{Connection, OptionalExtension, params};

use super::catalogue::page;
use super::sqlite::column;
use super::{Page, StoreError};
use crate::wire::ids::is_unprintable;

/// Entries that are looked at one by one before the index is asked: some milliseconds.
const NEAR_ENTRIES: u32 = 8_192;

/// Names that the index may bring: to read and sort them takes some milliseconds too. What more names have comes soon
/// when the entries are looked at one by one, unless all of those are far behind in the alphabet.
const NAMES_MAX: u32 = 4_096;

/// Characters of a term of the index.
const TERM_CHARS: usize = 3;

/// Terms of a pattern that the index is asked for: what it brings is compared with the whole pattern anyway.
const TERMS_OF_PATTERN: usize = 32;

/// Terms that may begin with a pattern which is shorter than they are.
const TERMS_MAX: u32 = 64;

/// lower() knows ASCII only, and instr() no wildcards: both are what a pattern means.
const MATCHES: &str = "instr(lower(name), lower(?4)) > 0";

/// A page of the entries whose names have a text in them, behind a name and owner.
pub(super) fn find(
    sql: &Connection,
    asker: &str,
    pattern: &str,
    (name, owner): (&str, &str),
    limit: usize,
) -> Result<Page, StoreError> {
    if pattern.contains(is_unprintable) {
        return Ok(Page { entries: Vec::new(), more: false }); // no name has it
    }
    let one_by_one = || page(sql, "share_by_name", MATCHES, params![name, owner, asker, pattern], limit);
    let Some((last_name, last_owner)) = last_near(sql, name, owner)? else { return one_by_one() };
    let are_near = format!("(name, owner) <= (?5, ?6) AND {MATCHES}");
    let near = params![name, owner, asker, pattern, last_name, last_owner];
    let near = page(sql, "share_by_name", &are_near, near, limit)?;
    if near.more {
        return Ok(near);
    }
    match names(sql, pattern, name)? {
        Some(names) => entries_of(sql, asker, &names, (name, owner), limit),
        None => one_by_one(),
    }
}

/// The last of the next entries that are looked at one by one. `None` when that would be all of them.
fn last_near(sql: &Connection, name: &str, owner: &str) -> Result<Option<(String, String)>, StoreError> {
    let mut statement = sql.prepare_cached(
        "SELECT name, owner FROM share INDEXED BY share_by_name WHERE (name, owner) > (?1, ?2)
         ORDER BY name, owner LIMIT 1 OFFSET ?3",
    )?;
    Ok(statement.query_row(params![name, owner, NEAR_ENTRIES], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
}

/// Names from one on that have the pattern in them, in their order. `None` when they may be too many.
fn names(sql: &Connection, pattern: &str, from: &str) -> Result<Option<Vec<String>>, StoreError> {
    let Some(terms) = terms(sql, pattern)? else { return Ok(None) };
    if terms.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let found = "SELECT rowid FROM share_text WHERE share_text MATCH ?1 LIMIT ?2";
    let mut count = sql.prepare_cached(&format!("SELECT count(*) FROM ({found})"))?;
    let count: u32 = count.query_row(params![terms, NAMES_MAX + 1], |row| row.get(0))?;
    if count > NAMES_MAX {
        return Ok(None);
    }
    let mut names = sql.prepare_cached(&format!(
        "SELECT name FROM share_name WHERE number IN ({found}) AND name >= ?3 AND {MATCHES} ORDER BY name"
    ))?;
    let names = names.query_map(params![terms, NAMES_MAX, from, pattern], |row| row.get(0))?;
    Ok(Some(names.collect::<Result<_, _>>()?))
}

/// What the index is asked for, in its language: every three characters of the pattern; for shorter ones all terms that
/// begin with it, and nothing when there is none. `None` when those are too many, or how they are written is not known.
fn terms(sql: &Connection, pattern: &str) -> Result<Option<String>, StoreError> {
    let characters: Vec<char> = pattern.chars().collect();
    if characters.len() >= TERM_CHARS {
        let terms = characters.windows(TERM_CHARS).take(TERMS_OF_PATTERN).map(|term| quoted(&String::from_iter(term)));
        return Ok(Some(terms.collect::<Vec<_>>().join(" AND ")));
    }
    if !pattern.is_ascii() {
        return Ok(None);
    }
    let mut statement = sql.prepare_cached("SELECT term FROM share_term WHERE term >= ?1 AND term <= ?2 LIMIT ?3")?;
    let first = pattern.to_ascii_lowercase();
    let mut rows = statement.query(params![first, format!("{first}{}", char::MAX), TERMS_MAX + 1])?;
    let mut terms = Vec::new();
    while let Some(row) = rows.next()? {
        terms.push(quoted(&column::<String>(row, 0)?));
    }
    let are_few = u32::try_from(terms.len()).is_ok_and(|count| count <= TERMS_MAX);
    Ok(are_few.then(|| terms.join(" OR ")))
}

fn quoted(term: &str) -> String {
    format!("\"{}\"", term.replace('"', "\"\""))
}

/// A page of the entries with these names, behind a name and owner.
fn entries_of(
    sql: &Connection,
    asker: &str,
    names: &[String],
    (name, owner): (&str, &str),
    limit: usize,
) -> Result<Page, StoreError> {
    let mut all = Page { entries: Vec::new(), more: false };
    for of in names {
        let left = limit - all.entries.len();
        let found = page(sql, "share_by_name", "name = ?4", params![name, owner, asker, of], left)?;
        all.entries.extend(found.entries);
        if found.more {
            return Ok(Page { more: true, ..all });
        }
    }
    Ok(all)
}

#[cfg(test)]
#[path = "search_tests.rs"]
mod tests;
