//! Searches find by the blocks of names what they would find by reading every entry.

use rusqlite::Connection;

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

/// The blocks: where each begins, and its names.
fn blocks(world: &World) -> Vec<(String, Vec<String>)> {
    let sql = Connection::open(world.folder.path().join("test.sqlite")).unwrap();
    let mut blocks = sql.prepare("SELECT first, text FROM share_block ORDER BY first").unwrap();
    let names = |text: String| {
        let between = text.strip_prefix('\n').unwrap().strip_suffix('\n').unwrap_or_default();
        between.split_terminator('\n').map(str::to_owned).collect()
    };
    let blocks = blocks.query_map([], |row| Ok((row.get(0)?, names(row.get(1)?)))).unwrap();
    blocks.collect::<Result<_, _>>().unwrap()
}

/// Checks that every published name is in its block, as often as there are names which differ in case only.
#[track_caller]
fn assert_true(world: &World, published: &[&str]) {
    let blocks = blocks(world);
    let firsts = blocks.iter().map(|(first, _)| first.as_str());
    let ends: Vec<_> = firsts.clone().skip(1).map(Some).chain([None]).collect();
    for ((first, names), end) in blocks.iter().zip(ends) {
        let mut names = names.clone();
        let mut expected: Vec<_> = published
            .iter()
            .filter(|name| **name >= first.as_str() && end.is_none_or(|end| **name < end))
            .map(|name| name.to_ascii_lowercase())
            .collect();
        names.sort_unstable();
        expected.sort_unstable();
        assert!(names == expected, "the block from {first:?} on");
        assert!(first.is_empty() || !names.is_empty(), "an empty block is left");
        assert!(names.concat().len() <= 4_096, "the block from {first:?} on is too large");
    }
}

#[tokio::test]
async fn blocks_are_true_whatever_comes_and_goes() {
    let (world, all) = large_catalogue().await;
    let name_of = |entry: &String| entry.split_once('\u{0}').unwrap().0.to_owned();
    let mut published: Vec<_> = all.iter().map(name_of).collect();
    published.dedup();
    assert_true(&world, &published.iter().map(String::as_str).collect::<Vec<_>>());
    // What differs in case only lies in one block or in two, and goes by itself.
    for text in ["Case", "case", "cASE", "FILE 05000"] {
        world.meddle(&format!(
            "INSERT INTO share VALUES ('alice', '{text}', 1, zeroblob(32), 'file', 'everyone', 0, 0, NULL)"
        ));
    }
    let unpublish = async |owner: &str, text: &str| {
        world.store.unpublish(&name(owner), &FileName::parse(text).unwrap()).await.unwrap();
    };
    unpublish("alice", "case").await;
    let mut expected: Vec<_> = published.iter().map(String::as_str).chain(["Case", "cASE", "FILE 05000"]).collect();
    assert_true(&world, &expected);
    // As long as anybody publishes it.
    unpublish("alice", "file 05000").await;
    assert_true(&world, &expected);
    unpublish("bob", "file 05000").await;
    expected.retain(|text| *text != "file 05000");
    assert_true(&world, &expected);
    world.store.delete_account(&name("alice"), None, NOW).await.unwrap();
    world.store.delete_account(&name("bob"), None, NOW).await.unwrap();
    assert_eq!(blocks(&world), [(String::new(), Vec::new())]);
}

#[tokio::test]
async fn what_was_published_before_there_were_blocks_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("test.sqlite");
    let before = MIGRATIONS.iter().position(|migration| migration.contains("share_block")).unwrap();
    let sql = Connection::open(&file).unwrap();
    sql.execute_batch(&MIGRATIONS[..before].concat()).unwrap();
    sql.pragma_update(None, "user_version", u32::try_from(before).unwrap()).unwrap();
    sql.execute_batch(
        "INSERT INTO account (name, key, password_phc, created_at) VALUES ('alice', zeroblob(32), '', 0);
         INSERT INTO share VALUES ('alice', 'an old report', 1, zeroblob(32), 'file', 'everyone', 0, 0, NULL);
         WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999)
         INSERT INTO share SELECT 'alice', 'photo ' || i, 1, zeroblob(32), 'file', 'everyone', 0, 0, NULL FROM n;",
    )
    .unwrap();
    drop(sql);
    let store = SqliteStore::open(&file).unwrap();
    assert_eq!(found(&store, "old").await, ["an old report\u{0}alice"]);
    assert_eq!(found(&store, "o").await.len(), 1_001);
}
