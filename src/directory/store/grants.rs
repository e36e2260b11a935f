//! The SQL of grants: who may learn whose address, by the rules of `protocol::consent`.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::sqlite::{account_key, column, malformed, one, parsed, refused};
use super::{StoreError, people};
use crate::protocol::consent;
use crate::wire::ids::{PeerKey, PeerName, UnixMillis};
use crate::wire::limits::GRANTS_PER_ACCOUNT_MAX;
use crate::wire::refusal::Refusal;
use crate::wire::rendezvous::{Allowance, Grant};

pub(super) fn allow(
    sql: &Connection,
    granter: &PeerName,
    key: PeerKey,
    grant: &Grant,
    now: UnixMillis,
) -> Result<(), StoreError> {
    check_key(sql, granter, key)?;
    if account_key(sql, &grant.to)?.is_none() {
        return refused(Refusal::UnknownName);
    }
    if people::relation(sql, granter, &grant.to)?.blocks {
        return refused(Refusal::YouBlock);
    }
    // A grant to the same person is replaced, and what is over counts no more.
    let others =
        "SELECT count(*) FROM grants WHERE granter = ?1 AND grantee != ?2 AND (ends_at IS NULL OR ends_at > ?3)";
    let others: Option<i64> = one(sql, others, params![granter.as_str(), grant.to.as_str(), now.0.cast_signed()])?;
    if others.is_some_and(|others| others.cast_unsigned() >= GRANTS_PER_ACCOUNT_MAX) {
        return refused(Refusal::Busy);
    }
    let (allowance, ends_at) = allowance_columns(grant.allowance);
    sql.prepare_cached("INSERT OR REPLACE INTO grants (granter, grantee, allowance, ends_at) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![granter.as_str(), grant.to.as_str(), allowance, ends_at])?;
    Ok(())
}

pub(super) fn deny(sql: &Connection, granter: &PeerName, key: PeerKey, grantee: &PeerName) -> Result<(), StoreError> {
    check_key(sql, granter, key)?;
    remove(sql, granter, grantee)
}

pub(super) fn page(
    sql: &Connection,
    granter: &PeerName,
    after: Option<&PeerName>,
    limit: usize,
    now: UnixMillis,
) -> Result<Vec<Grant>, StoreError> {
    let mut statement = sql.prepare_cached(
        "SELECT grantee, allowance, ends_at FROM grants
         WHERE granter = ?1 AND grantee > ?2 AND (ends_at IS NULL OR ends_at > ?3) ORDER BY grantee LIMIT ?4",
    )?;
    let after = after.map_or("", PeerName::as_str);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_and_then(params![granter.as_str(), after, now.0.cast_signed(), limit], |row| {
        Ok(Grant { to: parsed(&column::<String>(row, 0)?)?, allowance: allowance(row, 1)? })
    })?;
    rows.collect()
}

/// What one person allows another now, by a grant or as a friend.
pub(super) fn valid(
    sql: &Connection,
    granter: &PeerName,
    grantee: &PeerName,
    now: UnixMillis,
) -> Result<Option<Allowance>, StoreError> {
    let relation = people::relation(sql, granter, grantee)?;
    Ok(consent::allowed(relation, granted(sql, granter, grantee)?, now))
}

/// What one person has granted another, if it was only until a time that is over, too.
pub(super) fn granted(
    sql: &Connection,
    granter: &PeerName,
    grantee: &PeerName,
) -> Result<Option<Allowance>, StoreError> {
    let query = "SELECT allowance, ends_at FROM grants WHERE granter = ?1 AND grantee = ?2";
    let mut statement = sql.prepare_cached(query)?;
    let found = statement.query_row([granter.as_str(), grantee.as_str()], |row| Ok(allowance(row, 0))).optional()?;
    found.transpose()
}

pub(super) fn use_up(
    sql: &Connection,
    granter: &PeerName,
    grantee: &PeerName,
    now: UnixMillis,
) -> Result<bool, StoreError> {
    let Some(allowance) = valid(sql, granter, grantee, now)? else { return Ok(false) };
    if consent::after_use(allowance).is_none() {
        remove(sql, granter, grantee)?;
    }
    Ok(true)
}

/// Forgets what an account with another key was allowed and has allowed: identity is a key, and a name alone grants
/// nothing. Others allowed the holder of the old key, and who has only the password must not use that. What the account
/// itself has allowed was the word of the old key too: the new one's machine does not know of it, and must not be found
/// by whoever a thief, or an owner before, let in.
pub(super) fn forget(sql: &Connection, name: &PeerName) -> Result<(), StoreError> {
    sql.execute("DELETE FROM grants WHERE granter = ?1 OR grantee = ?1", [name.as_str()])?;
    Ok(())
}

/// A session whose key was replaced a moment ago must not speak for the account.
pub(super) fn check_key(sql: &Connection, name: &PeerName, key: PeerKey) -> Result<(), StoreError> {
    if account_key(sql, name)? == Some(key) { Ok(()) } else { refused(Refusal::SessionEnded) }
}

pub(super) fn remove(sql: &Connection, granter: &PeerName, grantee: &PeerName) -> Result<(), StoreError> {
    sql.prepare_cached("DELETE FROM grants WHERE granter = ?1 AND grantee = ?2")?
        .execute([granter.as_str(), grantee.as_str()])?;
    Ok(())
}

fn allowance_columns(allowance: Allowance) -> (&'static str, Option<i64>) {
    match allowance {
        Allowance::Once => ("once", None),
        Allowance::Until(end) => ("until", Some(i64::try_from(end.0).unwrap_or(i64::MAX))),
        Allowance::Always => ("always", None),
    }
}

fn allowance(row: &Row<'_>, first: usize) -> Result<Allowance, StoreError> {
    match (column::<String>(row, first)?.as_str(), column::<Option<i64>>(row, first + 1)?) {
        ("once", None) => Ok(Allowance::Once),
        ("until", Some(end)) => Ok(Allowance::Until(UnixMillis(end.cast_unsigned()))),
        ("always", None) => Ok(Allowance::Always),
        (other, _) => Err(malformed("allowance", &other)),
    }
}

#[cfg(test)]
#[path = "grants_tests.rs"]
mod tests;
