//! What was said, in the order of the screen: pages of it, and the search for words in it. Changes nothing.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};
use serde::{Deserialize, Serialize};

use super::records::{COLUMNS, StoredRow, stage_from};
use crate::database::{Database, DatabaseError};
use crate::protocol::conversation::Stage;
use crate::wire::ids::{MessageId, PeerKey, PeerName, UnixMillis};
use crate::wire::message::InnerMessage;

/// Words of one search: each is one more list that the index goes through.
pub const SEARCH_WORDS_MAX: usize = 32;

/// Messages read at a time.
const PAGE: usize = 200;

/// Where older messages begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Before {
    /// Before a message: its id, or how that begins.
    Message(String),
    /// Before a time, by the clock of whoever wrote the message.
    Time(UnixMillis),
}

/// Which messages are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Those of one person; of everybody when there is none.
    pub with: Option<PeerName>,
    /// Those before a place in the order of the screen, as [`places_of`] knows it.
    pub before_place: Option<i64>,
    /// Those written before a time.
    pub before_time: Option<UnixMillis>,
    /// Those with all of these words.
    pub words: Option<Words>,
}

/// A message as it lies on this disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The other person.
    pub with: PeerName,
    /// The message.
    pub message: InnerMessage,
    /// Which way it went, and what became of it.
    pub fate: EntryFate,
}

/// Which way a message went, and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryFate {
    /// It is ours.
    Sent {
        /// How far it has come.
        stage: Stage,
        /// The number of the refusal, when it was refused.
        reason: Option<u16>,
    },
    /// It is theirs.
    Came {
        /// Whether it was on a screen.
        is_shown: bool,
        /// Whether it came after its turn.
        is_late: bool,
    },
}

/// A part of the history, and the place at which the next part begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Oldest first.
    pub entries: Vec<Entry>,
    /// `None` when this is the last part.
    pub next: Option<i64>,
}

/// The words of a search, made harmless: what they mean to the index's own language is not heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    /// A query of FTS5: each word in quotes, and the last one may go on.
    query: Option<String>,
    /// What the index does not know, such as emoji: looked for as it is.
    symbols: Vec<String>,
}

/// A search that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// It has neither letters nor digits nor symbols.
    #[error("there is nothing to search for: a search needs a letter, a digit or a symbol such as an emoji")]
    Empty,
    /// It has more than [`SEARCH_WORDS_MAX`].
    #[error("a search has at most {SEARCH_WORDS_MAX} words, not {0}")]
    TooMany(usize),
}

impl Words {
    /// Reads what a person typed.
    ///
    /// # Errors
    /// [`WordsError`] when there is nothing to search for, or too much.
    pub fn parse(text: &str) -> Result<Self, WordsError> {
        // SQLite ends a query at a zero byte.
        let words: Vec<&str> =
            text.split(|c: char| c.is_whitespace() || c == '\0').filter(|word| !word.is_empty()).collect();
        if words.len() > SEARCH_WORDS_MAX {
            return Err(WordsError::TooMany(words.len()));
        }
        let is_indexed = |word: &&str| word.contains(char::is_alphanumeric);
        let (indexed, others): (Vec<&str>, Vec<&str>) = words.into_iter().partition(is_indexed);
        // Punctuation alone says nothing.
        let symbols: Vec<String> =
            others.into_iter().filter(|word| !word.is_ascii()).map(|word| word.replace('"', "")).collect();
        let quoted: Vec<String> = indexed.iter().map(|word| format!("\"{}\"", word.replace('"', "\"\""))).collect();
        // Without an operator between them all must occur; the star lets the last one go on.
        let query = (!quoted.is_empty()).then(|| format!("{} *", quoted.join(" ")));
        if query.is_none() && symbols.is_empty() { Err(WordsError::Empty) } else { Ok(Self { query, symbols }) }
    }
}

/// Whether anything was ever said with a person, or their key is known.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be read, here and below.
pub async fn knows(database: &Database, name: &PeerName) -> Result<bool, DatabaseError> {
    let name = name.clone();
    database
        .run(move |sql| {
            let query = "SELECT 1 FROM contact WHERE name = ?1 UNION ALL SELECT 1 FROM message WHERE peer = ?1 LIMIT 1";
            Ok(sql.prepare_cached(query)?.exists([name.as_str()])?)
        })
        .await
}

/// The places of the messages whose id begins like this; two at most.
#[expect(clippy::missing_errors_doc, reason = "see `knows`")]
pub async fn places_of(database: &Database, beginning: &str) -> Result<Vec<i64>, DatabaseError> {
    let beginning = beginning.to_ascii_lowercase();
    database
        .run(move |sql| {
            let query = "SELECT place FROM message
                 WHERE substr(lower(hex(id)), 1, length(?1)) = ?1 AND place NOT NULL LIMIT 2";
            let mut rows = sql.prepare_cached(query)?;
            Ok(rows.query_map([beginning], |row| row.get(0))?.collect::<Result<Vec<_>, _>>()?)
        })
        .await
}

/// The place at which the newest `limit` of the messages meant begin; `None` when there are none.
#[expect(clippy::missing_errors_doc, reason = "see `knows`")]
pub async fn newest(database: &Database, selection: Selection, limit: u64) -> Result<Option<i64>, DatabaseError> {
    database
        .run(move |sql| {
            let (clauses, values) = selection.clauses();
            let query = format!("SELECT place FROM message WHERE {clauses} ORDER BY place DESC");
            let nth = |offset: u64| {
                let query = format!("{query} LIMIT 1 OFFSET {offset}");
                sql.prepare_cached(&query)?.query_row(params_from_iter(&values), |row| row.get(0)).optional()
            };
            if let Some(place) = nth(limit.saturating_sub(1).min(u64::from(u32::MAX)))? {
                return Ok(Some(place));
            }
            // There are fewer: all of them.
            let query = format!("SELECT min(place) FROM message WHERE {clauses}");
            Ok(sql.prepare_cached(&query)?.query_row(params_from_iter(&values), |row| row.get(0))?)
        })
        .await
}

/// The messages meant from a place on; `own` is the key of this profile.
#[expect(clippy::missing_errors_doc, reason = "see `knows`")]
pub async fn page(database: &Database, own: PeerKey, selection: Selection, from: i64) -> Result<Page, DatabaseError> {
    database.run(move |sql| Ok(read_page(sql, own, &selection, from)?)).await
}

fn read_page(sql: &Connection, own: PeerKey, selection: &Selection, from: i64) -> rusqlite::Result<Page> {
    let (clauses, mut values) = selection.clauses();
    values.push(Value::Integer(from));
    let query = format!(
        "SELECT {COLUMNS}, direction = 'out', state, reason, late, place FROM message
         WHERE {clauses} AND place >= ? ORDER BY place LIMIT {PAGE}"
    );
    let mut rows = sql.prepare_cached(&query)?;
    let found = rows.query_map(params_from_iter(&values), |row| Ok((read_entry(row, own)?, row.get::<_, i64>(10)?)))?;
    let found = found.collect::<Result<Vec<_>, _>>()?;
    let next = if found.len() < PAGE { None } else { found.last().map(|(_, place)| place + 1) };
    Ok(Page { entries: found.into_iter().filter_map(|(entry, _)| entry).collect(), next })
}

/// `None` for a message that is damaged.
fn read_entry(row: &Row<'_>, own: PeerKey) -> rusqlite::Result<Option<Entry>> {
    let (stored, is_ours, state) = (StoredRow::read(row)?, row.get::<_, bool>(6)?, row.get::<_, String>(7)?);
    let (found, fate) = if is_ours {
        (stored.outgoing(own), EntryFate::Sent { stage: stage_from(&state)?, reason: row.get(8)? })
    } else {
        (stored.incoming(own), EntryFate::Came { is_shown: state == "shown", is_late: row.get(9)? })
    };
    Ok(found.map(|(with, message)| Entry { with, message, fate }))
}

impl Selection {
    /// The conditions, and the values of their question marks in order. What is held has no place on a screen yet.
    fn clauses(&self) -> (String, Vec<Value>) {
        let mut clauses = vec!["place NOT NULL"];
        let mut values = Vec::new();
        let mut add = |clause, value| {
            clauses.push(clause);
            values.push(value);
        };
        if let Some(name) = &self.with {
            add("peer = ?", Value::Text(name.to_string()));
        }
        if let Some(place) = self.before_place {
            add("place < ?", Value::Integer(place));
        }
        if let Some(time) = self.before_time {
            add("sent_at < ?", Value::Integer(time.0.cast_signed()));
        }
        if let Some(query) = self.words.as_ref().and_then(|words| words.query.clone()) {
            let found = "number IN (SELECT rowid FROM message_words WHERE message_words MATCH ?)";
            add(found, Value::Text(query));
        }
        for symbol in self.words.iter().flat_map(|words| &words.symbols) {
            add("instr(body, ?) > 0", Value::Blob(symbol.clone().into_bytes()));
        }
        (clauses.join(" AND "), values)
    }
}

/// The id that a text is the beginning of, as [`places_of`] takes it; `None` when it cannot be one.
#[must_use]
pub fn id_beginning(text: &str) -> Option<&str> {
    let digits_max = 2 * size_of::<MessageId>();
    let fits = (1..=digits_max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    fits.then_some(text)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::protocol::conversation::Draft;
    use crate::storage::messages::{self, Incoming};
    use crate::storage::schema::MIGRATIONS;
    use crate::wire::ids::Signature;
    use crate::wire::message::{Body, Receipt, ReceiptKind, SignedReceipt, Skipped, Text};
    use crate::wire::refusal::Refusal;

    const ALICE: PeerKey = PeerKey::from_bytes([1; 32]);
    const BOB: PeerKey = PeerKey::from_bytes([2; 32]);

    fn bob() -> PeerName {
        PeerName::parse("bob").unwrap()
    }

    async fn wrote(database: &Database, number: u8, text: &str) {
        let body = Body::Text(Text::parse(text).unwrap());
        let id = MessageId::from_bytes([number; 16]);
        let draft = Draft { sender: ALICE, recipient: BOB, id, sent_at: UnixMillis(u64::from(number)), body };
        assert!(messages::write(database, &bob(), draft).await.unwrap().is_some());
    }

    async fn came(database: &Database, number: u8, sequence: u64, text: &str) {
        let message = InnerMessage {
            sender: BOB,
            recipient: ALICE,
            id: MessageId::from_bytes([number; 16]),
            sequence,
            skipped: Skipped::default(),
            sent_at: UnixMillis(u64::from(number)),
            body: Body::Text(Text::parse(text).unwrap()),
        };
        let incoming = Incoming { from: bob(), message };
        messages::take(database, incoming, true, UnixMillis(9)).await.unwrap();
    }

    async fn texts(database: &Database, selection: Selection, limit: u64) -> Vec<String> {
        let mut at = newest(database, selection.clone(), limit).await.unwrap();
        let mut texts = Vec::new();
        while let Some(from) = at {
            let Page { entries, next } = page(database, ALICE, selection.clone(), from).await.unwrap();
            texts.extend(entries.into_iter().map(|entry| match entry.message.body {
                Body::Text(text) => text.as_str().to_owned(),
                other => panic!("{other:?}"),
            }));
            at = next;
        }
        texts
    }

    fn open() -> (TempDir, Database) {
        let folder = TempDir::new().unwrap();
        let database = Database::open(&folder.path().join("profile.sqlite"), MIGRATIONS).unwrap();
        (folder, database)
    }

    fn search(words: &str) -> Selection {
        Selection { words: Some(Words::parse(words).unwrap()), ..Selection::default() }
    }

    #[tokio::test]
    async fn both_directions_come_in_the_order_of_the_screen_the_newest_last() {
        let (_folder, database) = open();
        wrote(&database, 1, "one").await;
        came(&database, 2, 2, "held until its turn").await;
        wrote(&database, 3, "two").await;
        came(&database, 4, 1, "three").await;
        let all = Selection::default;

        assert_eq!(texts(&database, all(), 50).await, ["one", "two", "three", "held until its turn"]);
        assert_eq!(texts(&database, all(), 2).await, ["three", "held until its turn"]);
        let first_two = Selection { before_place: Some(places_of(&database, "0404").await.unwrap()[0]), ..all() };
        assert_eq!(texts(&database, first_two, 50).await, ["one", "two"]);
        let early = Selection { before_time: Some(UnixMillis(2)), ..all() };
        assert_eq!(texts(&database, early, 50).await, ["one"]);
        let carol = Selection { with: Some(PeerName::parse("carol").unwrap()), ..all() };
        assert_eq!(texts(&database, carol, 50).await, [""; 0]);
        assert!(
            knows(&database, &bob()).await.unwrap()
                && !knows(&database, &PeerName::parse("carol").unwrap()).await.unwrap()
        );
    }

    #[tokio::test]
    async fn a_message_that_its_recipient_cannot_open_says_why_it_was_refused() {
        let (_folder, database) = open();
        wrote(&database, 1, "sealed in vain").await;
        let (id, kind, at) = (MessageId::from_bytes([1; 16]), ReceiptKind::CannotOpen, UnixMillis(3));
        let receipt = Receipt { by: BOB, to: ALICE, id, sequence: 0, highest: 0, kind, at };
        let signed = SignedReceipt { receipt, signature: Signature::from_bytes([0; 64]) };
        for _ in 0..20 {
            messages::take_receipts(&database, vec![signed.clone()], at).await.unwrap();
        }

        let from = newest(&database, Selection::default(), 1).await.unwrap().unwrap();
        let page = page(&database, ALICE, Selection::default(), from).await.unwrap();
        let reason = Some(Refusal::CannotOpen.number());
        assert_eq!(page.entries[0].fate, EntryFate::Sent { stage: Stage::Refused, reason });
    }

    #[tokio::test]
    async fn more_than_a_page_comes_whole() {
        let (_folder, database) = open();
        for sequence in 1..=u64::try_from(2 * PAGE + 7).unwrap() {
            let body = Body::Text(Text::parse(&sequence.to_string()).unwrap());
            let mut id = [0; 16];
            id[..8].copy_from_slice(&sequence.to_le_bytes());
            let draft =
                Draft { sender: ALICE, recipient: BOB, id: MessageId::from_bytes(id), sent_at: UnixMillis(1), body };
            messages::write(&database, &bob(), draft).await.unwrap();
        }
        let found = texts(&database, Selection::default(), 1_000).await;
        assert_eq!((found.len(), found[0].as_str()), (2 * PAGE + 7, "1"));
        assert_eq!(texts(&database, Selection::default(), 205).await.len(), 205);
    }

    #[tokio::test]
    async fn a_search_finds_all_words_and_hears_no_syntax_in_them() {
        let (_folder, database) = open();
        wrote(&database, 1, "Dinner AND wine at seven 🍷").await;
        came(&database, 2, 1, "dinner at eight-thirty, \"Café\" NEAR the column: text").await;
        let (both, wine, cafe) = (2, 1, 1);
        for (words, count) in [
            ("dinner", both),
            ("DIN", both),
            ("din wine", 0),
            ("dinner win", wine),
            ("AND", wine),
            ("dinner AND", wine),
            ("dinner OR nothing", 0),
            ("NOT wine", 0),
            ("cafe", cafe),
            ("\"café\"", cafe),
            ("\"", usize::MAX),
            ("*", usize::MAX),
            ("", usize::MAX),
            (" \t ", usize::MAX),
            ("dinner \"", both),
            ("dinner *", both),
            ("* dinner", both),
            ("-wine", wine),
            ("^dinner", both),
            ("{text} : text", cafe),
            ("text:", cafe),
            ("NEAR(the column)", cafe),
            ("eight-thirty", cafe),
            ("(", usize::MAX),
            ("🍷", wine),
            ("🍷 dinner", wine),
            ("🍺", 0),
            ("seven\0wine", wine),
        ] {
            match Words::parse(words) {
                Err(WordsError::Empty) => assert_eq!(count, usize::MAX, "{words:?}"),
                Err(error) => panic!("{words:?}: {error}"),
                Ok(_) => assert_eq!(texts(&database, search(words), 50).await.len(), count, "{words:?}"),
            }
        }
        assert_eq!(texts(&database, search(&"x".repeat(10_000)), 50).await.len(), 0);
        assert_eq!(texts(&database, search(&"dinner ".repeat(SEARCH_WORDS_MAX)), 50).await.len(), both);
        assert_eq!(Words::parse(&"a ".repeat(33)), Err(WordsError::TooMany(33)));
    }

    #[test]
    fn an_id_is_named_by_its_beginning() {
        assert_eq!(id_beginning("0aF"), Some("0aF"));
        for text in ["", "xyz", "0a%", &"0".repeat(33)] {
            assert_eq!(id_beginning(text), None, "{text:?}");
        }
    }
}
