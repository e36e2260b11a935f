//! The SQL of who was here when, and of what a page of people is to somebody who asks for it.

use rusqlite::{Connection, Row, params};

use super::sqlite::{account_key, column, parsed};
use super::{StoreError, people};
use crate::protocol::people::Relation;
use crate::wire::ids::{PeerName, UnixMillis};

/// Notes that accounts' peers are here.
pub(super) fn seen(sql: &Connection, names: &[PeerName], at: UnixMillis) -> Result<(), StoreError> {
    let mut statement = sql.prepare_cached("UPDATE account SET last_seen = ?2 WHERE name = ?1")?;
    for name in names {
        statement.execute(params![name.as_str(), at.0.cast_signed()])?;
    }
    Ok(())
}

/// Whose peers were here since a time, those who left last first. Reads all accounts: it is asked once, at the start.
pub(super) fn since(
    sql: &Connection,
    since: UnixMillis,
    limit: usize,
) -> Result<Vec<(PeerName, UnixMillis)>, StoreError> {
    let mut statement = sql
        .prepare_cached("SELECT name, last_seen FROM account WHERE last_seen >= ?1 ORDER BY last_seen DESC LIMIT ?2")?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let row =
        |row: &Row<'_>| Ok((parsed(&column::<String>(row, 0)?)?, UnixMillis(column::<i64>(row, 1)?.cast_unsigned())));
    let rows = statement.query_and_then(params![since.0.cast_signed(), limit], row)?;
    rows.collect()
}

/// What people are to somebody who asks for them; those without an account are left out.
pub(super) fn relations(
    sql: &Connection,
    asker: &PeerName,
    persons: Vec<PeerName>,
) -> Result<Vec<(PeerName, Relation)>, StoreError> {
    let mut relations = Vec::with_capacity(persons.len());
    for person in persons {
        if account_key(sql, &person)?.is_some() {
            let relation = people::relation(sql, &person, asker)?;
            relations.push((person, relation));
        }
    }
    Ok(relations)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::store::Store as _;
    use crate::directory::store::sqlite::tests::{World, name};

    #[tokio::test]
    async fn who_was_here_is_remembered_and_those_who_left_last_come_first() {
        let world = World::with(&["alice", "bob", "carol"]).await;
        let store = &world.store;
        assert_eq!(store.seen_since(UnixMillis(0), 9).await, Ok(Vec::new()));
        store.seen(vec![name("alice"), name("bob")], UnixMillis(60_000)).await.unwrap();
        store.seen(vec![name("alice"), name("nobody-else")], UnixMillis(120_000)).await.unwrap();
        let recent = store.seen_since(UnixMillis(60_000), 9).await.unwrap();
        assert_eq!(recent, [(name("alice"), UnixMillis(120_000)), (name("bob"), UnixMillis(60_000))]);
        assert_eq!(store.seen_since(UnixMillis(60_001), 9).await.unwrap().len(), 1);
        assert_eq!(store.seen_since(UnixMillis(0), 1).await.unwrap().len(), 1);
        let known = store.relations(&name("bob"), vec![name("alice"), name("nobody-else")]).await.unwrap();
        assert_eq!(known, [(name("alice"), Relation::default())]);
    }
}
