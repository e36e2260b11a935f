//! The keys of the people this account has talked to: pinned on first conversation, verified by comparing numbers.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, params};

use super::{consent, people};
use crate::database::{Database, DatabaseError};
use crate::protocol::trust::{self, Trust, Verdict};
use crate::wire::ids::{PeerKey, PeerName, UnixMillis};

/// Judges a key that a person shows, and remembers it. What the person was allowed and their friendship end when it is
/// another one: identity is a key, and a name alone grants nothing.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be written.
pub async fn meet(
    database: &Database,
    name: &PeerName,
    shown: PeerKey,
    now: UnixMillis,
) -> Result<Verdict, DatabaseError> {
    let name = name.clone();
    database
        .run(move |sql| {
            let known = read(sql, &name)?;
            let (trust, verdict) = trust::meet(known, shown);
            if known != Some(trust) {
                write(sql, &name, known, trust, now)?;
            }
            Ok(verdict)
        })
        .await
}

/// What is known of a person's key.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be read.
pub async fn known(database: &Database, name: &PeerName) -> Result<Option<Trust>, DatabaseError> {
    let name = name.clone();
    database.run(move |sql| Ok(read(sql, &name)?)).await
}

/// Changes what is known of a contact, and says what it was changed to; `None` from `change` leaves it.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be written.
pub async fn change(
    database: &Database,
    name: &PeerName,
    now: UnixMillis,
    change: impl FnOnce(Trust) -> Option<Trust> + Send + 'static,
) -> Result<Option<Trust>, DatabaseError> {
    let name = name.clone();
    database
        .run(move |sql| {
            let known = read(sql, &name)?;
            let changed = known.and_then(change);
            if let Some(trust) = changed {
                write(sql, &name, known, trust, now)?;
            }
            Ok(changed)
        })
        .await
}

/// Remembers whether a contact's key is the gateway's, for somebody with an older program, as the directory says now. What
/// it says of another key than the one that is talked to is passed over.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be written.
pub async fn learn_legacy(
    database: &Database,
    name: &PeerName,
    key: PeerKey,
    legacy: bool,
) -> Result<(), DatabaseError> {
    let name = name.clone();
    database
        .run(move |sql| {
            sql.prepare_cached("UPDATE contact SET legacy = ?3 WHERE name = ?1 AND key = ?2 AND legacy IS NOT ?3")?
                .execute(params![name.as_str(), key.as_bytes(), legacy])?;
            Ok(())
        })
        .await
}

/// Whether a contact uses an older program; `None` as long as nobody has said.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be read.
pub async fn legacy(database: &Database, name: &PeerName) -> Result<Option<bool>, DatabaseError> {
    let name = name.clone();
    database
        .run(move |sql| {
            let mut query = sql.prepare_cached("SELECT legacy FROM contact WHERE name = ?1")?;
            let known: Option<Option<bool>> = query.query_row([name.as_str()], |row| row.get(0)).optional()?;
            Ok(known.flatten())
        })
        .await
}

/// The contacts who use an older program.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be read.
pub async fn legacy_names(database: &Database) -> Result<BTreeSet<PeerName>, DatabaseError> {
    database.run(|sql| Ok(names_of(sql, "SELECT name FROM contact WHERE legacy = 1")?.into_iter().collect())).await
}

/// The names of all contacts.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be read.
pub async fn names(database: &Database) -> Result<Vec<PeerName>, DatabaseError> {
    database.run(|sql| Ok(names_of(sql, "SELECT name FROM contact ORDER BY name")?)).await
}

fn names_of(sql: &Connection, query: &str) -> rusqlite::Result<Vec<PeerName>> {
    let mut rows = sql.prepare_cached(query)?;
    let names = rows.query_map([], |row| row.get::<_, String>(0))?;
    Ok(names.filter_map(|name| PeerName::parse(&name.ok()?).ok()).collect())
}

fn read(sql: &Connection, name: &PeerName) -> rusqlite::Result<Option<Trust>> {
    sql.query_row("SELECT key, verified_at, offered_key FROM contact WHERE name = ?1", [name.as_str()], |row| {
        Ok(Trust {
            key: PeerKey::from_bytes(row.get(0)?),
            verified_at: row.get::<_, Option<i64>>(1)?.map(|millis| UnixMillis(millis.cast_unsigned())),
            offered: row.get::<_, Option<[u8; 32]>>(2)?.map(PeerKey::from_bytes),
        })
    })
    .optional()
}

/// `pinned_at` is when the key became the one that is talked to. Whether it is the gateway's is to be heard again of
/// another key.
fn write(
    sql: &Connection,
    name: &PeerName,
    known: Option<Trust>,
    trust: Trust,
    now: UnixMillis,
) -> rusqlite::Result<()> {
    let is_other_key = known.is_none_or(|known| known.key != trust.key);
    let is_other_offered = trust.offered.is_some() && known.and_then(|known| known.offered) != trust.offered;
    if is_other_key || is_other_offered {
        consent::remove(sql, name)?;
        people::forget_friend(sql, name)?;
    }
    sql.execute(
        "INSERT INTO contact (name, key, pinned_at, verified_at, offered_key) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (name) DO UPDATE SET
         pinned_at = iif(key = ?2, pinned_at, ?3), legacy = iif(key = ?2, legacy, NULL), key = ?2, verified_at = ?4,
         offered_key = ?5",
        params![
            name.as_str(),
            trust.key.as_bytes(),
            now.0.cast_signed(),
            trust.verified_at.map(|time| time.0.cast_signed()),
            trust.offered.as_ref().map(PeerKey::as_bytes)
        ],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::schema::MIGRATIONS;
    use crate::wire::rendezvous::{Allowance, Grant};

    const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
    const OLD: PeerKey = PeerKey::from_bytes([1; 32]);
    const NEW: PeerKey = PeerKey::from_bytes([2; 32]);

    /// Whether bob, who had the old key, is allowed anything after something happened.
    async fn is_allowed_after(happens: impl AsyncFnOnce(&Database, &PeerName)) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("profile.sqlite"), MIGRATIONS).unwrap();
        let [bob, carol] = ["bob", "carol"].map(|text| PeerName::parse(text).unwrap());
        for name in [&bob, &carol] {
            meet(&database, name, OLD, NOW).await.unwrap();
            let grant = Grant { to: name.clone(), allowance: Allowance::Always };
            consent::allow(&database, grant, NOW).await.unwrap();
        }
        happens(&database, &bob).await;
        assert!(consent::allows(&database, &carol, NOW).await.unwrap(), "nothing happened to carol");
        consent::allows(&database, &bob, NOW).await.unwrap()
    }

    async fn shows(database: &Database, name: &PeerName, key: PeerKey) {
        meet(database, name, key, NOW).await.unwrap();
    }

    async fn verify(database: &Database, name: &PeerName) {
        change(database, name, NOW, |trust| trust.verify(NOW).ok()).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn whether_somebody_uses_an_older_program_is_known_of_their_key() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("profile.sqlite"), MIGRATIONS).unwrap();
        let bob = PeerName::parse("bob").unwrap();
        learn_legacy(&database, &bob, OLD, true).await.unwrap();
        assert_eq!(legacy(&database, &bob).await.unwrap(), None, "nobody has talked to them");
        shows(&database, &bob, OLD).await;
        assert_eq!(legacy(&database, &bob).await.unwrap(), None, "nobody has said");
        learn_legacy(&database, &bob, OLD, true).await.unwrap();
        learn_legacy(&database, &bob, NEW, false).await.unwrap();
        assert_eq!(legacy(&database, &bob).await.unwrap(), Some(true), "that was said of another key");
        assert_eq!(legacy_names(&database).await.unwrap(), BTreeSet::from([bob.clone()]));
        learn_legacy(&database, &bob, OLD, false).await.unwrap();
        assert_eq!(legacy(&database, &bob).await.unwrap(), Some(false), "what is said now holds");
        learn_legacy(&database, &bob, OLD, true).await.unwrap();
        shows(&database, &bob, OLD).await;
        assert_eq!(legacy(&database, &bob).await.unwrap(), Some(true), "the same key");
        shows(&database, &bob, NEW).await;
        assert_eq!(legacy(&database, &bob).await.unwrap(), None, "it is to be heard of the new key");
        assert_eq!(legacy_names(&database).await.unwrap(), BTreeSet::new());
    }

    #[tokio::test]
    async fn what_a_person_was_allowed_ends_with_their_key() {
        assert!(is_allowed_after(async |_, _| {}).await);
        assert!(is_allowed_after(async |database, bob| shows(database, bob, OLD).await).await);
        assert!(is_allowed_after(async |database, bob| verify(database, bob).await).await);
        assert!(!is_allowed_after(async |database, bob| shows(database, bob, NEW).await).await);
        let held = is_allowed_after(async |database, bob| {
            verify(database, bob).await;
            shows(database, bob, NEW).await;
            shows(database, bob, OLD).await;
        });
        assert!(!held.await, "nor is it there again with the key");
        let accepted = is_allowed_after(async |database, bob| {
            verify(database, bob).await;
            shows(database, bob, NEW).await;
            let grant = Grant { to: bob.clone(), allowance: Allowance::Always };
            consent::allow(database, grant, NOW).await.unwrap();
            change(database, bob, NOW, Trust::accept).await.unwrap().unwrap();
        });
        assert!(!accepted.await, "what was allowed to the verified key is not for the accepted one");
    }
}
