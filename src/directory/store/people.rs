//! The SQL of people: who keeps whom out, who is whose friend, who may see whom. What follows from what is in
//! `protocol::people`.

use std::collections::BTreeSet;

use rusqlite::{Connection, Row, params};

use super::sqlite::{account_key, column, malformed, one, parsed, refused};
use super::{Befriended, Said, StoreError, grants, returned};
use crate::protocol::consent;
use crate::protocol::people::{Bond, Circle, News, Reception, Relation, Word, is_shown};
use crate::wire::ids::{PeerKey, PeerName, UnixMillis};
use crate::wire::limits::{ACQUAINTANCES_MAX, BLOCKED_MAX, FRIEND_REQUESTS_MAX, FRIENDS_MAX};
use crate::wire::people::{Audience, FriendState};
use crate::wire::refusal::Refusal;

/// Those who ask ?1 to be friends and are shown to it: ?2 of them.
const SHOWN: &str = "SELECT name, asked_at FROM friend asks WHERE other = ?1
         AND NOT EXISTS (SELECT 1 FROM friend answered WHERE answered.name = ?1 AND answered.other = asks.name)
         AND NOT EXISTS (SELECT 1 FROM block WHERE blocker = ?1 AND blocked = asks.name)
     ORDER BY asked_at, name LIMIT ?2";

/// Whom an account knows and keeps out.
pub(super) fn circle(sql: &Connection, name: &PeerName) -> Result<Circle, StoreError> {
    Ok(Circle {
        audience: audience(sql, name)?,
        friends: friend_names(sql, name)?,
        blocked: names(sql, "SELECT blocked FROM block WHERE blocker = ?1", name)?,
    })
}

fn friend_names(sql: &Connection, name: &PeerName) -> Result<BTreeSet<PeerName>, StoreError> {
    let both = "SELECT mine.other FROM friend mine
                JOIN friend theirs ON theirs.name = mine.other AND theirs.other = mine.name WHERE mine.name = ?1";
    names(sql, both, name)
}

/// What a person is to an asker. To themselves everybody is a friend.
pub(super) fn relation(sql: &Connection, person: &PeerName, asker: &PeerName) -> Result<Relation, StoreError> {
    let query = "SELECT audience,
            EXISTS (SELECT 1 FROM block WHERE blocker = ?1 AND blocked = ?2),
            EXISTS (SELECT 1 FROM friend WHERE name = ?1 AND other = ?2)
                AND EXISTS (SELECT 1 FROM friend WHERE name = ?2 AND other = ?1)
        FROM account WHERE account.name = ?1";
    let mut statement = sql.prepare_cached(query)?;
    let mut rows = statement.query([person.as_str(), asker.as_str()])?;
    let Some(row) = rows.next()? else { return Ok(Relation::default()) };
    Ok(Relation {
        blocks: column(row, 1)?,
        are_friends: person == asker || column(row, 2)?,
        audience: audience_of(&column::<String>(row, 0)?)?,
    })
}

/// How a person takes an asker.
pub(super) fn reception(
    sql: &Connection,
    person: &PeerName,
    asker: &PeerName,
    now: UnixMillis,
) -> Result<Reception, StoreError> {
    // Programs of the older systems talk past the directory: whether two of them have is not known here.
    let query = "SELECT EXISTS (SELECT 1 FROM block WHERE blocker = ?2 AND blocked = ?1),
                        EXISTS (SELECT 1 FROM acquaintance WHERE name = ?1 AND other = ?2)
                        OR (SELECT count(*) FROM account WHERE name IN (?1, ?2) AND legacy) = 2";
    let (is_kept_out, has_written) = sql
        .prepare_cached(query)?
        .query_row([person.as_str(), asker.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let relation = relation(sql, person, asker)?;
    let granted = grants::granted(sql, person, asker)?;
    let has_allowed = consent::allowed(relation, granted, now).is_some();
    Ok(Reception { relation, is_kept_out, has_written, has_allowed })
}

/// Whether an account keeps whoever has a key out, or the other way round.
pub(super) fn are_apart(sql: &Connection, name: &PeerName, key: PeerKey) -> Result<bool, StoreError> {
    let query = "SELECT EXISTS (SELECT 1 FROM block JOIN account ON account.name = block.blocker
                                WHERE block.blocked = ?1 AND account.key = ?2)
                     OR EXISTS (SELECT 1 FROM block JOIN account ON account.name = block.blocked
                                WHERE block.blocker = ?1 AND account.key = ?2)";
    Ok(sql.prepare_cached(query)?.query_row(params![name.as_str(), key.as_bytes()], |row| row.get(0))?)
}

/// Who may see an account; everyone, when it is not there.
pub(super) fn audience(sql: &Connection, name: &PeerName) -> Result<Audience, StoreError> {
    let stored: Option<String> = one(sql, "SELECT audience FROM account WHERE name = ?1", [name.as_str()])?;
    stored.map_or(Ok(Audience::Everyone), |stored| audience_of(&stored))
}

fn audience_of(stored: &str) -> Result<Audience, StoreError> {
    match stored {
        "everyone" => Ok(Audience::Everyone),
        "friends" => Ok(Audience::Friends),
        other => Err(malformed("audience", &other)),
    }
}

pub(super) fn set_audience(
    sql: &Connection,
    name: &PeerName,
    key: PeerKey,
    audience: Audience,
    now: UnixMillis,
) -> Result<Vec<PeerName>, StoreError> {
    grants::check_key(sql, name, key)?;
    let text = match audience {
        Audience::Everyone => "everyone",
        Audience::Friends => "friends",
    };
    sql.prepare_cached("UPDATE account SET audience = ?2 WHERE name = ?1")?.execute([name.as_str(), text])?;
    returned::give_back_unwanted(sql, name, now)
}

/// What an account and another have said of each other.
pub(super) fn bond(sql: &Connection, name: &PeerName, other: &PeerName) -> Result<Bond, StoreError> {
    if account_key(sql, other)?.is_none() {
        return refused(Refusal::UnknownName);
    }
    let query = "SELECT EXISTS (SELECT 1 FROM friend WHERE name = ?1 AND other = ?2),
                        EXISTS (SELECT 1 FROM friend WHERE name = ?2 AND other = ?1),
                        EXISTS (SELECT 1 FROM friend WHERE name = ?2 AND other = ?1 AND put_off),
                        EXISTS (SELECT 1 FROM block WHERE blocker = ?1 AND blocked = ?2),
                        EXISTS (SELECT 1 FROM block WHERE blocker = ?2 AND blocked = ?1)";
    let bond = sql.prepare_cached(query)?.query_row([name.as_str(), other.as_str()], |row| {
        Ok(Bond {
            we_ask: row.get(0)?,
            they_ask: row.get(1)?,
            is_put_off: row.get(2)?,
            we_block: row.get(3)?,
            they_block: row.get(4)?,
        })
    });
    Ok(bond?)
}

pub(super) fn say(
    sql: &Connection,
    name: &PeerName,
    key: PeerKey,
    other: &PeerName,
    word: Word,
    now: UnixMillis,
) -> Result<Said, StoreError> {
    grants::check_key(sql, name, key)?;
    let before = bond(sql, name, other)?;
    let (after, mut news) = before.after(word)?;
    check_quotas(sql, name, before, after)?;
    if news == Some(News::Asked) && !is_shown(relation(sql, other, name)?, waiting(sql, other)?)? {
        news = None;
    }
    write(sql, name, other, (before, after), now)?;
    let mut senders = Vec::new();
    if after.we_block && !before.we_block {
        grants::remove(sql, name, other)?;
        senders.append(&mut returned::give_back_unwanted(sql, name, now)?);
    }
    if before.state() == Some(FriendState::Friends) && after.state() != before.state() {
        senders.append(&mut returned::give_back_unwanted(sql, name, now)?);
        senders.append(&mut returned::give_back_unwanted(sql, other, now)?);
    }
    Ok(Said { state: after.state(), news, senders })
}

fn check_quotas(sql: &Connection, name: &PeerName, before: Bond, after: Bond) -> Result<(), StoreError> {
    let count = |query| Ok::<_, StoreError>(one::<i64>(sql, query, [name.as_str()])?.unwrap_or(0).cast_unsigned());
    if after.we_ask && !before.we_ask && count("SELECT count(*) FROM friend WHERE name = ?1")? >= FRIENDS_MAX {
        return refused(Refusal::TooManyFriends);
    }
    if after.we_block && !before.we_block && count("SELECT count(*) FROM block WHERE blocker = ?1")? >= BLOCKED_MAX {
        return refused(Refusal::TooManyBlocked);
    }
    Ok(())
}

/// How many ask an account, of those it is shown.
fn waiting(sql: &Connection, name: &PeerName) -> Result<u64, StoreError> {
    let query = format!("SELECT count(*) FROM ({SHOWN})");
    let count: Option<i64> = one(sql, &query, params![name.as_str(), FRIEND_REQUESTS_MAX.cast_signed()])?;
    Ok(count.unwrap_or(0).cast_unsigned())
}

/// Writes down what is otherwise than before.
fn write(
    sql: &Connection,
    name: &PeerName,
    other: &PeerName,
    (before, after): (Bond, Bond),
    now: UnixMillis,
) -> Result<(), StoreError> {
    let (name, other) = (name.as_str(), other.as_str());
    match (before.we_ask, after.we_ask) {
        (false, true) => {
            sql.prepare_cached("INSERT INTO friend (name, other, asked_at) VALUES (?1, ?2, ?3)")?.execute(params![
                name,
                other,
                now.0.cast_signed()
            ])?;
        }
        (true, false) => unask(sql, name, other)?,
        (false, false) | (true, true) => {}
    }
    if before.they_ask && !after.they_ask {
        unask(sql, other, name)?;
    }
    if before.is_put_off != after.is_put_off {
        sql.prepare_cached("UPDATE friend SET put_off = ?3 WHERE name = ?2 AND other = ?1")?.execute(params![
            name,
            other,
            after.is_put_off
        ])?;
    }
    match (before.we_block, after.we_block) {
        (false, true) => {
            sql.prepare_cached("INSERT INTO block (blocker, blocked) VALUES (?1, ?2)")?.execute([name, other])?;
        }
        (true, false) => {
            sql.prepare_cached("DELETE FROM block WHERE blocker = ?1 AND blocked = ?2")?.execute([name, other])?;
        }
        (false, false) | (true, true) => {}
    }
    Ok(())
}

fn unask(sql: &Connection, name: &str, other: &str) -> Result<(), StoreError> {
    sql.prepare_cached("DELETE FROM friend WHERE name = ?1 AND other = ?2")?.execute([name, other])?;
    Ok(())
}

/// Remembers that an account has written to another, who is no stranger to it from now on.
pub(super) fn meet(sql: &Connection, name: &PeerName, other: &PeerName) -> Result<(), StoreError> {
    let pair = [name.as_str(), other.as_str()];
    if one::<i64>(sql, "SELECT 1 FROM acquaintance WHERE name = ?1 AND other = ?2", pair)?.is_some() {
        return Ok(());
    }
    let known: Option<i64> = one(sql, "SELECT count(*) FROM acquaintance WHERE name = ?1", [name.as_str()])?;
    if known.is_some_and(|known| known.cast_unsigned() < ACQUAINTANCES_MAX) {
        // An account that was deleted a moment ago has no acquaintances.
        let insert = "INSERT INTO acquaintance (name, other) SELECT name, ?2 FROM account WHERE name = ?1";
        sql.prepare_cached(insert)?.execute(pair)?;
    }
    Ok(())
}

/// Forgets the friends of an account with another key, who are named, and who it has to do with: identity is a key. Whom
/// it keeps out, and who keeps it out, stays so: that protects people, whatever the key.
pub(super) fn forget(sql: &Connection, name: &PeerName) -> Result<Vec<PeerName>, StoreError> {
    let friends = friend_names(sql, name)?;
    sql.execute("DELETE FROM friend WHERE name = ?1 OR other = ?1", [name.as_str()])?;
    sql.execute("DELETE FROM acquaintance WHERE name = ?1 OR other = ?1", [name.as_str()])?;
    Ok(friends.into_iter().collect())
}

pub(super) fn friends(
    sql: &Connection,
    name: &PeerName,
    after: Option<&PeerName>,
    limit: usize,
) -> Result<Vec<Befriended>, StoreError> {
    let query = format!(
        "SELECT account.name, account.key, account.last_seen,
                EXISTS (SELECT 1 FROM friend WHERE friend.name = ?1 AND friend.other = account.name),
                EXISTS (SELECT 1 FROM friend WHERE friend.name = account.name AND friend.other = ?1),
                account.legacy
         FROM account WHERE account.name > ?3
             AND account.name IN (SELECT other FROM friend WHERE friend.name = ?1 UNION ALL SELECT name FROM ({SHOWN}))
         ORDER BY account.name LIMIT ?4"
    );
    let mut statement = sql.prepare_cached(&query)?;
    let (after, limit) = (after.map_or("", PeerName::as_str), i64::try_from(limit).unwrap_or(i64::MAX));
    let values = params![name.as_str(), FRIEND_REQUESTS_MAX.cast_signed(), after, limit];
    let rows = statement.query_and_then(values, befriended)?;
    rows.collect()
}

fn befriended(row: &Row<'_>) -> Result<Befriended, StoreError> {
    let state = match (column(row, 3)?, column(row, 4)?) {
        (true, true) => FriendState::Friends,
        (true, false) => FriendState::Asked,
        (false, _) => FriendState::AsksUs,
    };
    let last_seen = column::<Option<i64>>(row, 2)?.map(|at| UnixMillis(at.cast_unsigned()));
    let (name, key) = (parsed(&column::<String>(row, 0)?)?, PeerKey::from_bytes(column(row, 1)?));
    Ok(Befriended { name, key, state, last_seen, legacy: column(row, 5)? })
}

pub(super) fn requests(sql: &Connection, name: &PeerName) -> Result<Vec<(PeerName, PeerKey)>, StoreError> {
    let query = format!(
        "SELECT shown.name, account.key FROM ({SHOWN}) shown JOIN account ON account.name = shown.name
         ORDER BY shown.asked_at, shown.name"
    );
    let mut statement = sql.prepare_cached(&query)?;
    let rows = statement.query_and_then(params![name.as_str(), FRIEND_REQUESTS_MAX.cast_signed()], |row| {
        Ok((parsed(&column::<String>(row, 0)?)?, PeerKey::from_bytes(column(row, 1)?)))
    })?;
    rows.collect()
}

pub(super) fn blocked(
    sql: &Connection,
    name: &PeerName,
    after: Option<&PeerName>,
    limit: usize,
) -> Result<Vec<PeerName>, StoreError> {
    let query = "SELECT blocked FROM block WHERE blocker = ?1 AND blocked > ?2 ORDER BY blocked LIMIT ?3";
    let mut statement = sql.prepare_cached(query)?;
    let (after, limit) = (after.map_or("", PeerName::as_str), i64::try_from(limit).unwrap_or(i64::MAX));
    let rows =
        statement.query_and_then(params![name.as_str(), after, limit], |row| parsed(&column::<String>(row, 0)?))?;
    rows.collect()
}

fn names(sql: &Connection, query: &str, name: &PeerName) -> Result<BTreeSet<PeerName>, StoreError> {
    let mut statement = sql.prepare_cached(query)?;
    let rows = statement.query_and_then([name.as_str()], |row: &Row<'_>| parsed(&column::<String>(row, 0)?))?;
    rows.collect()
}

#[cfg(test)]
#[path = "people_tests.rs"]
mod tests;
