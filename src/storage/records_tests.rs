//! The records in SQLite do what records in memory do, whatever is asked of them and however often the file is closed.

use std::collections::BTreeSet;

use crate::protocol::conversation::tests::Table;
use crate::protocol::conversation::{self, Draft, Fate};
use crate::seal::random::{OsRandom, Random as _};
use crate::storage::schema::MIGRATIONS;
use crate::wire::limits::SEQUENCE_MAX;
use crate::wire::message::{Receipt, ReceiptKind, Text};

use super::*;

const US: PeerKey = PeerKey::from_bytes([9; 32]);
const STEPS: usize = 1_500;

/// Numbers from a seed (xorshift64*, Vigna 2016), so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }
}

fn key(number: u64) -> PeerKey {
    PeerKey::from_bytes([u8::try_from(number).unwrap(); 32])
}

/// Ids of few messages, so that the same ones come again.
fn id(number: u64) -> MessageId {
    MessageId::from_bytes([u8::try_from(number).unwrap(); 16])
}

fn name() -> PeerName {
    PeerName::parse("bob").unwrap()
}

fn body() -> Body {
    Body::Text(Text::parse("hi").unwrap())
}

fn message(dice: &mut Dice) -> InnerMessage {
    let sequence = match dice.below(20) {
        0 => SEQUENCE_MAX,
        _ => 1 + dice.below(40),
    };
    let count = dice.below(4);
    let skipped = runs(dice, count, 40);
    let (sender, id) = (key(1 + dice.below(3)), id(dice.below(250)));
    InnerMessage { sender, recipient: US, id, sequence, skipped, sent_at: UnixMillis(1), body: body() }
}

/// So many runs of up to four numbers, which begin below an end.
fn runs(dice: &mut Dice, count: u64, end: u64) -> Skipped {
    let mut run = |_| {
        let first = dice.below(end);
        (first, first + dice.below(4))
    };
    Skipped::newest_runs((0..count).map(&mut run).collect())
}

fn fate(dice: &mut Dice) -> Fate {
    match dice.below(4) {
        0 => Fate::Stored { attempt: u32::try_from(dice.below(2)).unwrap() },
        1 => Fate::Refused,
        2 => Fate::Lost,
        _ => Fate::Receipt(ReceiptKind::Delivered),
    }
}

/// One step on either kind of records, told as text so that the two can be compared.
fn step<R: Records<Error: std::fmt::Debug>>(records: &mut R, dice: &mut Dice) -> String {
    let kinds = [ReceiptKind::CannotOpen, ReceiptKind::Delivered, ReceiptKind::Read];
    match dice.below(6) {
        0 => {
            let id = id(dice.below(250));
            let recipient = key(1 + dice.below(3));
            if records.sent(recipient, id).unwrap().is_some() {
                return String::new();
            }
            let draft = Draft { sender: US, recipient, id, sent_at: UnixMillis(2), body: body() };
            format!("{:?}", conversation::write(records, &name(), draft).unwrap())
        }
        1 => {
            let (to, id, fate) = (key(1 + dice.below(3)), id(dice.below(250)), fate(dice));
            format!("{:?}", conversation::settle(records, to, id, fate).unwrap())
        }
        2 => {
            let kind = kinds[usize::try_from(dice.below(3)).unwrap()];
            let (by, id, highest) = (key(1 + dice.below(3)), id(dice.below(250)), dice.below(60));
            let receipt = Receipt { by, to: US, id, sequence: 1, highest, kind, at: UnixMillis(3) };
            format!("{:?}", conversation::take_receipt(records, &receipt).unwrap())
        }
        3 => {
            let (sender, sequence) = (key(1 + dice.below(3)), dice.below(60));
            format!("{:?}", conversation::give_up(records, sender, sequence).unwrap())
        }
        _ => {
            let message = message(dice);
            let named = conversation::name_skipped(records, InnerMessage { recipient: key(1), ..message.clone() });
            format!("{:?} {:?}", named.unwrap().skipped, conversation::take(records, &name(), &message).unwrap())
        }
    }
}

#[test]
fn in_a_file_and_in_memory_the_same_happens() {
    let mut seed = [0; 8];
    OsRandom.fill(&mut seed);
    let seed = u64::from_le_bytes(seed) | 1;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("profile.sqlite");
    let mut table = Table::default();
    let (mut ours, mut theirs) = (Dice(seed), Dice(seed));
    let open = || {
        let sql = Connection::open(&path).unwrap();
        sql.pragma_update(None, "synchronous", "OFF").unwrap();
        sql
    };
    let mut sql = open();
    MIGRATIONS.iter().for_each(|migration| sql.execute_batch(migration).unwrap());
    for number in 0..STEPS {
        if number % 100 == 99 {
            sql = open();
        }
        let mut records = SqlRecords { sql: &sql, now: UnixMillis(5), is_direct: false };
        assert_eq!(step(&mut records, &mut ours), step(&mut table, &mut theirs), "step {number} of seed {seed}");
    }

    let mut shown = sql.prepare("SELECT id FROM message WHERE state = 'new' ORDER BY place").unwrap();
    let shown = shown.query_map([], |row| Ok(MessageId::from_bytes(row.get(0)?))).unwrap();
    let shown: Vec<MessageId> = shown.map(Result::unwrap).collect();
    assert!(shown.len() > 50, "{} messages are no test", shown.len());
    assert_eq!(shown, table.screen, "seed {seed}");
}

fn in_memory() -> Connection {
    let sql = Connection::open_in_memory().unwrap();
    MIGRATIONS.iter().for_each(|migration| sql.execute_batch(migration).unwrap());
    sql
}

#[test]
fn runs_that_were_named_are_joined_whatever_their_order() {
    let mut seed = [0; 8];
    OsRandom.fill(&mut seed);
    let seed = u64::from_le_bytes(seed) | 1;
    let (sql, mut dice, mut numbers) = (in_memory(), Dice(seed), BTreeSet::new());
    let records = SqlRecords { sql: &sql, now: UnixMillis(5), is_direct: false };
    for step in 0..300 {
        let skipped = runs(&mut dice, 2, 400);
        let sequence = 1 + dice.below(400);
        let named = skipped.runs().iter().flat_map(|&(first, last)| first..=last);
        numbers.extend(named.filter(|&number| number < sequence));
        let message = InnerMessage { sender: key(1), sequence, skipped, ..message(&mut dice) };
        records.note_skipped(&message).unwrap();
        let mut rows = sql.prepare("SELECT first, last FROM skipped_run ORDER BY first").unwrap();
        let rows: Vec<Run> = rows.query_map([], run_in).unwrap().map(Result::unwrap).collect();
        let mut expected: Vec<Run> = Vec::new();
        for &number in &numbers {
            match expected.last_mut() {
                Some((_, last)) if *last + 1 == number => *last = number,
                _ => expected.push((number, number)),
            }
        }
        assert_eq!(rows, expected, "step {step} of seed {seed}");
    }
    let skipped = Skipped::newest_runs(vec![(1, SEQUENCE_MAX)]);
    let message = InnerMessage { sender: key(1), sequence: SEQUENCE_MAX, skipped, ..message(&mut dice) };
    records.note_skipped(&message).unwrap();
    let rows = "SELECT count(*) FROM skipped_run WHERE first = 1 AND last = ?1";
    let rows: i64 = sql.query_row(rows, [SEQUENCE_MAX.cast_signed() - 1], |row| row.get(0)).unwrap();
    assert_eq!(rows, 1);
}

#[test]
fn the_refused_are_read_downwards_from_the_index_and_no_further_than_the_limit() {
    let sql = in_memory();
    let insert = "WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ?2)
         INSERT INTO message (direction, peer, peer_key, id, sequence, sent_at, body, state)
         SELECT 'out', 'bob', ?1, CAST(n AS BLOB), n * ?3, 1, x'', 'refused' FROM number";
    let refuse = |to: PeerKey, count: i64, step: i64| sql.execute(insert, params![to.as_bytes(), count, step]).unwrap();
    refuse(key(1), 25_000, 1);
    refuse(key(2), 100, 2);
    let mut records = SqlRecords { sql: &sql, now: UnixMillis(5), is_direct: false };
    assert_eq!(records.refused_below(key(1), 101).unwrap().runs(), [(1, 100)]);
    assert_eq!(records.refused_below(key(1), 25_001).unwrap().runs(), [(5_001, 25_000)]);
    let apart = records.refused_below(key(2), 1_000).unwrap();
    assert_eq!((apart.runs().len(), apart.runs()[0]), (64, (74, 74)));
}
