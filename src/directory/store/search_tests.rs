//! Searches find by the index what they would find by reading everything.

use rusqlite::Connection;

use super::{NAMES_MAX, names};
use crate::directory::store::Store as _;
use crate::directory::store::schema::MIGRATIONS;
use crate::directory::store::sqlite::SqliteStore;
use crate::directory::store::sqlite::tests::{NOW, World, name};
use crate::wire::catalog::{Cursor, Query};
use crate::wire::ids::{FileName, Pattern};

const RARE: [&str; 7] = [
    "zz ÄRGER.txt",
    "zz ends in qx",
    "zz 'quoted' \"twice\" %_*.txt",
    "zz Ä€",
    "zz NEAR AND OR NOT",
    "zz K\u{212a}elvin",
    "q",
];

/// Many entries of two people. Most begin with "file"; what few names have comes behind them.
async fn large_catalogue() -> (World, Vec<String>) {
    let world = World::with(&["alice", "bob"]).await;
    for (owner, from) in [("alice", 0), ("bob", 1_000)] {
        world.meddle(&format!(
            "WITH RECURSIVE n (i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM n WHERE i < {from} + 9000)
             INSERT INTO share SELECT '{owner}', 'file ' || printf('%05d', i), 1, zeroblob(32), 'file', 'everyone', 0, 0,
             NULL FROM n"
        ));
    }
    for text in RARE {
        let text = text.replace('\'', "''");
        world.meddle(&format!(
            "INSERT INTO share VALUES ('bob', '{text}', 1, zeroblob(32), 'file', 'everyone', 0, 0, NULL)"
        ));
    }
    let all = |owner: &'static str, from: u32| (from..=from + 9_000).map(move |i| format!("file {i:05}\u{0}{owner}"));
    let mut all: Vec<_> = all("alice", 0).chain(all("bob", 1_000)).collect();
    all.extend(RARE.map(|text| format!("{text}\u{0}bob")));
    all.sort_unstable();
    (world, all)
}

/// Names and owners that a search finds, page by page.
async fn found(store: &SqliteStore, pattern: &str) -> Vec<String> {
    let query = Query::Substring(Pattern::parse(pattern).unwrap());
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = store.find(&name("alice"), query.clone(), after, 700).await.unwrap();
        assert!(page.entries.len() == 700 || !page.more, "a page before the last is full");
        all.extend(page.entries.iter().map(|(owner, entry)| format!("{}\u{0}{owner}", entry.name.as_str())));
        let Some((owner, entry)) = page.entries.last().filter(|_| page.more) else { return all };
        after = Some(Cursor { name: entry.name.clone(), owner: owner.clone() });
    }
}

#[tokio::test]
async fn every_text_finds_what_reading_all_would_find() {
    let (world, all) = large_catalogue().await;
    let check = async |pattern: &str| {
        let holds = |entry: &&String| {
            let (name, _) = entry.split_once('\u{0}').unwrap();
            name.to_ascii_lowercase().contains(&pattern.to_ascii_lowercase())
        };
        let expected: Vec<_> = all.iter().filter(holds).cloned().collect();
        assert!(found(&world.store, pattern).await == expected, "{pattern:?}");
    };
    for everything in ["", "f", "file", "0"] {
        check(everything).await;
    }
    for few in ["0999", "e 00777", "10000", "ÄRGER", "rger", "ger.", "in QX", "qx", "X", "q", "zz", "z "] {
        check(few).await;
    }
    for odd in ["\"", "\" %", "' \"", "%_*", "\"\"\"", " AND OR N", "NOT", "Ä€", "€", "Ä", "k\u{212a}", "kk", "kke"]
    {
        check(odd).await;
    }
    for nothing in ["ärger", "qxa", "qx\u{2}", "\u{0}", "a\u{0}b", "zzz", "xylophone", "€€", "*", "file  "] {
        check(nothing).await;
    }
}

/// What the index brings for a text.
fn indexed(world: &World, pattern: &str) -> Option<Vec<String>> {
    let sql = Connection::open(world.folder.path().join("test.sqlite")).unwrap();
    names(&sql, pattern, "").unwrap()
}

#[tokio::test]
async fn the_index_brings_few_names_and_says_when_there_are_many() {
    let (world, _) = large_catalogue().await;
    let numbers = [777].into_iter().chain(7_770..7_780);
    assert_eq!(indexed(&world, "0777"), Some(numbers.map(|number| format!("file {number:05}")).collect()));
    assert_eq!(indexed(&world, "qx"), Some(vec!["zz ends in qx".to_owned()]));
    assert_eq!(indexed(&world, "xylophone"), Some(Vec::new()));
    assert_eq!(indexed(&world, "file"), None, "more than {NAMES_MAX}");
}

#[tokio::test]
async fn a_name_is_found_for_as_long_as_anybody_publishes_it() {
    let (world, _) = large_catalogue().await;
    let both = "file 05000";
    for (owner, left) in [("alice", Some(vec![both.to_owned()])), ("bob", Some(Vec::new()))] {
        world.store.unpublish(&name(owner), &FileName::parse(both).unwrap()).await.unwrap();
        assert_eq!(indexed(&world, "05000"), left, "after {owner} took it back");
    }
    world.store.delete_account(&name("bob"), None, NOW).await.unwrap();
    assert_eq!(indexed(&world, "qx"), Some(Vec::new()), "an account that is gone publishes nothing");
}

#[tokio::test]
async fn what_was_published_before_there_was_an_index_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("test.sqlite");
    let before = MIGRATIONS.iter().position(|migration| migration.contains("share_text")).unwrap();
    let sql = Connection::open(&file).unwrap();
    sql.execute_batch(&MIGRATIONS[..before].concat()).unwrap();
    sql.pragma_update(None, "user_version", u32::try_from(before).unwrap()).unwrap();
    sql.execute_batch(
        "INSERT INTO account (name, key, password_phc, created_at) VALUES ('alice', zeroblob(32), '', 0);
         INSERT INTO share VALUES ('alice', 'an old report', 1, zeroblob(32), 'file', 'everyone', 0, 0, NULL);",
    )
    .unwrap();
    drop(sql);
    let store = SqliteStore::open(&file).unwrap();
    assert_eq!(found(&store, "old").await, ["an old report\u{0}alice"]);
    let sql = Connection::open(&file).unwrap();
    assert_eq!(names(&sql, "old", "").unwrap(), Some(vec!["an old report".to_owned()]));
}
