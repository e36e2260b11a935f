//! Who may learn where this peer is, as its person said: checked here again, whatever a directory believes.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::database::{Database, DatabaseError};
use crate::protocol::consent;
use crate::wire::ids::{PeerKey, PeerName, UnixMillis};
use crate::wire::rendezvous::{Allowance, Grant};

/// Lets a person learn it, in the place of what they were allowed before. What is over by now is forgotten.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be written.
pub async fn allow(database: &Database, grant: Grant, now: UnixMillis) -> Result<(), DatabaseError> {
    database
        .run(move |sql| {
            sql.execute("DELETE FROM grants WHERE ends_at <= ?1", [now.0.cast_signed()])?;
            let (allowance, ends_at) = match grant.allowance {
                Allowance::Once => ("once", None),
                Allowance::Until(end) => ("until", Some(i64::try_from(end.0).unwrap_or(i64::MAX))),
                Allowance::Always => ("always", None),
            };
            sql.execute(
                "INSERT OR REPLACE INTO grants (name, allowance, ends_at) VALUES (?1, ?2, ?3)",
                params![grant.to.as_str(), allowance, ends_at],
            )?;
            Ok(())
        })
        .await
}

/// Takes that back, if there was anything.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be written.
pub async fn deny(database: &Database, name: &PeerName) -> Result<(), DatabaseError> {
    let name = name.clone();
    database.run(move |sql| Ok(remove(sql, &name)?)).await
}

/// Whether a person may learn it now. Uses nothing up.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be read.
pub async fn allows(database: &Database, name: &PeerName, now: UnixMillis) -> Result<bool, DatabaseError> {
    let name = name.clone();
    database.run(move |sql| Ok(valid(sql, &name, now)?.is_some())).await
}

/// Whether whoever shows this key in a person's name may learn it now: what a person was allowed is for the key that is
/// talked to, and for no other.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be read.
pub async fn allows_key(
    database: &Database,
    name: &PeerName,
    key: PeerKey,
    now: UnixMillis,
) -> Result<bool, DatabaseError> {
    let name = name.clone();
    database
        .run(move |sql| {
            let is_theirs = "SELECT EXISTS (SELECT 1 FROM contact WHERE name = ?1 AND key = ?2)";
            let is_theirs =
                sql.prepare_cached(is_theirs)?.query_row(params![name.as_str(), key.as_bytes()], |row| row.get(0));
            Ok(is_theirs? && valid(sql, &name, now)?.is_some())
        })
        .await
}

/// Notes that a person has learned it: what was allowed once is gone. Says whether it was allowed until then.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be written.
pub async fn used(database: &Database, name: &PeerName, now: UnixMillis) -> Result<bool, DatabaseError> {
    let name = name.clone();
    database
        .run(move |sql| {
            let Some(allowance) = valid(sql, &name, now)? else { return Ok(false) };
            if consent::after_use(allowance).is_none() {
                remove(sql, &name)?;
            }
            Ok(true)
        })
        .await
}

fn valid(sql: &Connection, name: &PeerName, now: UnixMillis) -> rusqlite::Result<Option<Allowance>> {
    let query = "SELECT allowance, ends_at FROM grants WHERE name = ?1";
    let found = sql.prepare_cached(query)?.query_row([name.as_str()], read_row).optional()?;
    Ok(found.flatten().filter(|allowance| consent::holds(*allowance, now)))
}

/// Reads a row; `None` when it is damaged, which allows nothing.
fn read_row(row: &Row<'_>) -> rusqlite::Result<Option<Allowance>> {
    Ok(match (row.get::<_, String>(0)?.as_str(), row.get::<_, Option<i64>>(1)?) {
        ("once", None) => Some(Allowance::Once),
        ("until", Some(end)) => Some(Allowance::Until(UnixMillis(end.cast_unsigned()))),
        ("always", None) => Some(Allowance::Always),
        _ => None,
    })
}

pub(super) fn remove(sql: &Connection, name: &PeerName) -> rusqlite::Result<()> {
    sql.execute("DELETE FROM grants WHERE name = ?1", [name.as_str()]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::contacts;
    use crate::storage::schema::MIGRATIONS;

    const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

    fn opened() -> (tempfile::TempDir, Database) {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("profile.sqlite"), MIGRATIONS).unwrap();
        (folder, database)
    }

    fn grant(text: &str, allowance: Allowance) -> Grant {
        Grant { to: PeerName::parse(text).unwrap(), allowance }
    }

    #[tokio::test]
    async fn a_grant_holds_as_long_as_it_says() {
        let (_folder, database) = opened();
        let alice = PeerName::parse("alice").unwrap();
        assert!(!allows(&database, &alice, NOW).await.unwrap());
        allow(&database, grant("alice", Allowance::Once), NOW).await.unwrap();
        assert!(allows(&database, &alice, NOW).await.unwrap() && allows(&database, &alice, NOW).await.unwrap());
        assert!(used(&database, &alice, NOW).await.unwrap() && !used(&database, &alice, NOW).await.unwrap());
        allow(&database, grant("alice", Allowance::Until(NOW.plus_millis(1))), NOW).await.unwrap();
        assert!(
            used(&database, &alice, NOW).await.unwrap() && !used(&database, &alice, NOW.plus_millis(1)).await.unwrap()
        );
        allow(&database, grant("alice", Allowance::Always), NOW).await.unwrap();
        assert!(used(&database, &alice, NOW).await.unwrap() && allows(&database, &alice, NOW).await.unwrap());
        deny(&database, &alice).await.unwrap();
        deny(&database, &alice).await.unwrap();
        assert!(!allows(&database, &alice, NOW).await.unwrap());
    }

    #[tokio::test]
    async fn a_grant_is_for_the_key_that_is_talked_to() {
        let (_folder, database) = opened();
        let alice = PeerName::parse("alice").unwrap();
        let [own, other] = [1, 2].map(|byte| PeerKey::from_bytes([byte; 32]));
        let may = async |key| allows_key(&database, &alice, key, NOW).await.unwrap();
        allow(&database, grant("alice", Allowance::Until(NOW.plus_millis(1))), NOW).await.unwrap();
        assert!(!may(own).await, "a name alone grants nothing");
        contacts::meet(&database, &alice, own, NOW).await.unwrap();
        assert!(!may(own).await, "nor is it for whoever comes first in that name");
        allow(&database, grant("alice", Allowance::Until(NOW.plus_millis(1))), NOW).await.unwrap();
        assert!(may(own).await && !may(other).await);
        assert!(!allows_key(&database, &alice, own, NOW.plus_millis(1)).await.unwrap());
    }

    #[tokio::test]
    async fn grants_lie_on_the_disk_as_this_version_will_always_read_them() {
        let (_folder, database) = opened();
        let gone = Allowance::Until(UnixMillis(NOW.0 - 1));
        for grant in [
            grant("gone", gone),
            grant("alice", Allowance::Once),
            grant("bob", Allowance::Until(UnixMillis(NOW.0 + 5))),
            grant("carol", Allowance::Always),
        ] {
            allow(&database, grant, NOW).await.unwrap();
        }
        let rows: Result<Vec<String>, DatabaseError> = database
            .run(|sql| {
                let mut rows =
                    sql.prepare("SELECT name || ' ' || allowance || ' ' || ifnull(ends_at, '') FROM grants")?;
                let rows = rows.query_map([], |row| row.get(0))?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await;
        assert_eq!(rows.unwrap(), ["alice once ", "bob until 1700000000005", "carol always "]);
        let damage: Result<usize, DatabaseError> =
            database.run(|sql| Ok(sql.execute("UPDATE grants SET ends_at = NULL WHERE name = 'bob'", [])?)).await;
        assert_eq!(damage.unwrap(), 1);
        assert!(
            !allows(&database, &PeerName::parse("bob").unwrap(), NOW).await.unwrap(),
            "what is damaged allows nothing"
        );
    }
}
