//! Whom this account keeps out and who its friends are, as this disk knows it: what a directory says is checked by it.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::consent;
use crate::database::{Database, DatabaseError};
use crate::protocol::friendship::{Heard, Wanted};
use crate::wire::ids::{PeerKey, PeerName};

/// Keeps a person out, by name and by the key they have now. What they were allowed, their friendship and what they offer
/// is forgotten with it. Says whether they were not kept out before.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be used, here and below.
pub async fn block(database: &Database, name: &PeerName, key: PeerKey) -> Result<bool, DatabaseError> {
    let name = name.clone();
    database
        .run(move |sql| {
            let is_new = "INSERT OR IGNORE INTO blocked (name, key) VALUES (?1, ?2)";
            let is_new = sql.execute(is_new, params![name.as_str(), key.as_bytes()])? > 0;
            consent::remove(sql, &name)?;
            forget_friend(sql, &name)?;
            sql.execute("DELETE FROM offer WHERE peer = ?1", [name.as_str()])?;
            Ok(is_new)
        })
        .await
}

/// Lets a person in again. Says whether they were kept out.
#[expect(clippy::missing_errors_doc, reason = "see `block`")]
pub async fn unblock(database: &Database, name: &PeerName) -> Result<bool, DatabaseError> {
    let name = name.clone();
    database.run(move |sql| Ok(sql.execute("DELETE FROM blocked WHERE name = ?1", [name.as_str()])? > 0)).await
}

/// Whom this account keeps out, each with the key they had then.
#[expect(clippy::missing_errors_doc, reason = "see `block`")]
pub async fn blocked(database: &Database) -> Result<Vec<(PeerName, PeerKey)>, DatabaseError> {
    database
        .run(|sql| {
            let mut rows = sql.prepare_cached("SELECT name, key FROM blocked ORDER BY name")?;
            let rows = rows.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, [u8; 32]>(1)?)))?;
            let rows = rows.collect::<Result<Vec<_>, _>>()?;
            let valid = |(name, key): (String, _)| Some((PeerName::parse(&name).ok()?, PeerKey::from_bytes(key)));
            Ok(rows.into_iter().filter_map(valid).collect())
        })
        .await
}

/// The friendships that this account's person wants.
#[expect(clippy::missing_errors_doc, reason = "see `block`")]
pub async fn friends(database: &Database) -> Result<BTreeMap<PeerName, Wanted>, DatabaseError> {
    database
        .run(|sql| {
            let mut rows = sql.prepare_cached("SELECT name, state FROM friend")?;
            let rows = rows.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
            let rows = rows.collect::<Result<Vec<_>, _>>()?;
            let valid = |(name, state): (String, String)| Some((PeerName::parse(&name).ok()?, state_of(&state)?));
            Ok(rows.into_iter().filter_map(valid).collect())
        })
        .await
}

/// Notes that a friendship is wanted: a request, unless it is more already. Says whether it was wanted before.
#[expect(clippy::missing_errors_doc, reason = "see `block`")]
pub async fn want_friend(database: &Database, name: &PeerName) -> Result<bool, DatabaseError> {
    let name = name.clone();
    database
        .run(move |sql| {
            let insert = "INSERT OR IGNORE INTO friend (name, state) VALUES (?1, 'asked')";
            Ok(sql.execute(insert, [name.as_str()])? == 0)
        })
        .await
}

/// Notes that a friendship is not wanted. Comes back with how far it was.
#[expect(clippy::missing_errors_doc, reason = "see `block`")]
pub async fn unwant_friend(database: &Database, name: &PeerName) -> Result<Option<Wanted>, DatabaseError> {
    let name = name.clone();
    database
        .run(move |sql| {
            let before = read(sql, &name)?;
            forget_friend(sql, &name)?;
            Ok(before)
        })
        .await
}

/// Lets what the directory says of a friendship be judged by what is known here, and keeps what comes of it.
#[expect(clippy::missing_errors_doc, reason = "see `block`")]
pub async fn hear_of_friend(
    database: &Database,
    name: &PeerName,
    judge: impl FnOnce(Option<Wanted>) -> Heard + Send + 'static,
) -> Result<Heard, DatabaseError> {
    let name = name.clone();
    database
        .run(move |sql| {
            let known = read(sql, &name)?;
            let heard = judge(known);
            if heard.state != known {
                write(sql, &name, heard.state)?;
            }
            Ok(heard)
        })
        .await
}

/// Whether a person is a friend, under the key that is talked to.
#[expect(clippy::missing_errors_doc, reason = "see `block`")]
pub async fn is_friend(database: &Database, name: &PeerName) -> Result<bool, DatabaseError> {
    let name = name.clone();
    database.run(move |sql| Ok(friend_key(sql, &name)?.is_some())).await
}

/// Whether whoever shows this key in a person's name is a friend.
#[expect(clippy::missing_errors_doc, reason = "see `block`")]
pub async fn is_friend_with_key(database: &Database, name: &PeerName, key: PeerKey) -> Result<bool, DatabaseError> {
    let name = name.clone();
    database.run(move |sql| Ok(friend_key(sql, &name)? == Some(key))).await
}

/// The key of a friend.
fn friend_key(sql: &Connection, name: &PeerName) -> rusqlite::Result<Option<PeerKey>> {
    let query = "SELECT contact.key FROM friend JOIN contact USING (name) WHERE name = ?1 AND state = 'friends'";
    let key = sql.prepare_cached(query)?.query_row([name.as_str()], |row| row.get(0)).optional()?;
    Ok(key.map(PeerKey::from_bytes))
}

/// Ends a friendship, and forgets a request: identity is a key, and a name alone is nobody's friend. What was taken of a
/// friend without asking is asked about again.
pub(super) fn forget_friend(sql: &Connection, name: &PeerName) -> rusqlite::Result<()> {
    sql.execute("DELETE FROM welcome WHERE name = ?1", [name.as_str()])?;
    sql.execute("DELETE FROM friend WHERE name = ?1", [name.as_str()]).map(drop)
}

fn read(sql: &Connection, name: &PeerName) -> rusqlite::Result<Option<Wanted>> {
    let query = "SELECT state FROM friend WHERE name = ?1";
    let state: Option<String> = sql.prepare_cached(query)?.query_row([name.as_str()], |row| row.get(0)).optional()?;
    Ok(state.as_deref().and_then(state_of))
}

fn write(sql: &Connection, name: &PeerName, state: Option<Wanted>) -> rusqlite::Result<()> {
    let state = match state {
        None => return forget_friend(sql, name),
        Some(Wanted::Asked) => "asked",
        Some(Wanted::Friends) => "friends",
    };
    sql.execute("INSERT OR REPLACE INTO friend (name, state) VALUES (?1, ?2)", [name.as_str(), state]).map(drop)
}

/// Reads a state; `None` when it is damaged, which makes nobody a friend.
fn state_of(text: &str) -> Option<Wanted> {
    match text {
        "asked" => Some(Wanted::Asked),
        "friends" => Some(Wanted::Friends),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::friendship::{News, hear};
    use crate::storage::schema::MIGRATIONS;
    use crate::storage::{contacts, offers};
    use crate::wire::catalog::EntryKind;
    use crate::wire::ids::{FileDigest, FileName, FileSize, MessageId, UnixMillis};
    use crate::wire::message::Offer;
    use crate::wire::people::{FriendAnswer, FriendState};
    use crate::wire::rendezvous::{Allowance, Grant};

    const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
    const OLD: PeerKey = PeerKey::from_bytes([1; 32]);
    const NEW: PeerKey = PeerKey::from_bytes([2; 32]);

    fn opened() -> (tempfile::TempDir, Database) {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("profile.sqlite"), MIGRATIONS).unwrap();
        (folder, database)
    }

    fn name(text: &str) -> PeerName {
        PeerName::parse(text).unwrap()
    }

    async fn befriended(database: &Database, text: &str) {
        contacts::meet(database, &name(text), OLD, NOW).await.unwrap();
        becomes_friend(database, text).await;
    }

    async fn becomes_friend(database: &Database, text: &str) {
        let name = name(text);
        want_friend(database, &name).await.unwrap();
        let heard = hear_of_friend(database, &name, |known| hear(known, Some(FriendState::Friends)));
        assert_eq!(heard.await.unwrap().state, Some(Wanted::Friends));
    }

    #[tokio::test]
    async fn whoever_is_blocked_is_no_friend_and_has_nothing_allowed_or_offered() {
        let (_folder, database) = opened();
        for who in ["bob", "carol"] {
            befriended(&database, who).await;
            let grant = Grant { to: name(who), allowance: Allowance::Always };
            consent::allow(&database, grant, NOW).await.unwrap();
            let id = MessageId::from_bytes([who.as_bytes()[0]; 16]);
            let (size, digest) = (FileSize::try_from(5).unwrap(), FileDigest::from_bytes([5; 32]));
            let offer = Offer { name: FileName::parse("photo").unwrap(), size, digest, kind: EntryKind::File };
            let from = name(who);
            let added = database.run(move |sql| Ok::<_, DatabaseError>(offers::add(sql, &from, id, &offer)?)).await;
            added.unwrap();
        }
        assert!(block(&database, &name("bob"), OLD).await.unwrap());
        assert!(!block(&database, &name("bob"), NEW).await.unwrap(), "once is enough");
        assert_eq!(blocked(&database).await.unwrap(), [(name("bob"), OLD)]);
        assert!(!is_friend(&database, &name("bob")).await.unwrap());
        assert!(!consent::allows(&database, &name("bob"), NOW).await.unwrap());
        assert!(is_friend(&database, &name("carol")).await.unwrap(), "nothing happened to carol");
        assert!(consent::allows(&database, &name("carol"), NOW).await.unwrap());
        let open = offers::open_offers(&database).await.unwrap();
        assert_eq!(open.iter().map(|offer| &offer.from).collect::<Vec<_>>(), [&name("carol")]);

        contacts::meet(&database, &name("bob"), NEW, NOW).await.unwrap();
        assert_eq!(blocked(&database).await.unwrap().len(), 1, "another key does not let them in");
        assert!(unblock(&database, &name("bob")).await.unwrap() && !unblock(&database, &name("bob")).await.unwrap());
        assert!(!is_friend(&database, &name("bob")).await.unwrap(), "nor is a friendship there again");
    }

    #[tokio::test]
    async fn a_friendship_is_with_the_key_that_is_talked_to() {
        let (_folder, database) = opened();
        let bob = name("bob");
        let is_theirs = async |key| is_friend_with_key(&database, &bob, key).await.unwrap();
        becomes_friend(&database, "bob").await;
        assert!(!is_theirs(OLD).await && !is_friend(&database, &bob).await.unwrap(), "a name alone is nobody's friend");
        contacts::meet(&database, &bob, OLD, NOW).await.unwrap();
        assert!(!is_theirs(OLD).await, "nor is whoever comes first in that name");
        want_friend(&database, &bob).await.unwrap();
        assert!(!is_theirs(OLD).await, "who was asked is no friend yet");
        becomes_friend(&database, "bob").await;
        assert!(is_theirs(OLD).await && !is_theirs(NEW).await && is_friend(&database, &bob).await.unwrap());
        assert!(want_friend(&database, &bob).await.unwrap() && is_theirs(OLD).await, "to ask a friend changes nothing");
        contacts::meet(&database, &bob, NEW, NOW).await.unwrap();
        assert!(!is_theirs(OLD).await && !is_theirs(NEW).await, "it ends with the key");
        contacts::meet(&database, &bob, OLD, NOW).await.unwrap();
        assert!(!is_theirs(OLD).await, "and is not there again with it");
    }

    #[tokio::test]
    async fn what_the_directory_says_is_judged_by_what_is_known() {
        let (_folder, database) = opened();
        let bob = name("bob");
        let says = async |said| hear_of_friend(&database, &bob, move |known| hear(known, said)).await.unwrap();
        let friends_now = Some(FriendState::Friends);
        assert_eq!(says(friends_now).await, Heard { state: None, news: Some(News::AsksUs) });
        assert!(friends(&database).await.unwrap().is_empty(), "what a directory says alone takes no room");
        assert!(!want_friend(&database, &bob).await.unwrap());
        assert_eq!(says(friends_now).await.news, Some(News::Answered(FriendAnswer::Accepted)));
        assert_eq!(friends(&database).await.unwrap(), BTreeMap::from([(bob.clone(), Wanted::Friends)]));
        assert_eq!(says(None).await.news, Some(News::Answered(FriendAnswer::Ended)));
        assert_eq!((unwant_friend(&database, &bob).await.unwrap(), says(None).await.news), (None, None));
    }

    #[tokio::test]
    async fn people_lie_on_the_disk_as_this_version_will_always_read_them() {
        let (_folder, database) = opened();
        befriended(&database, "bob").await;
        want_friend(&database, &name("carol")).await.unwrap();
        block(&database, &name("eve"), OLD).await.unwrap();
        let rows: Result<Vec<String>, DatabaseError> = database
            .run(|sql| {
                let mut rows = sql.prepare(
                    "SELECT name || ' ' || state FROM friend UNION ALL SELECT name || ' ' || hex(key) FROM blocked",
                )?;
                let rows = rows.query_map([], |row| row.get(0))?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await;
        let eve = format!("eve {}", "01".repeat(32));
        assert_eq!(rows.unwrap(), ["bob friends", "carol asked", &eve]);
    }
}
