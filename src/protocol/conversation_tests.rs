//! What the rules of a conversation promise, on records in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use super::*;
use crate::wire::limits::SKIPPED_RUNS_MAX;
use crate::wire::message::Text;

const ALICE: PeerKey = PeerKey::from_bytes([1; 32]);
const BOB: PeerKey = PeerKey::from_bytes([2; 32]);

/// One peer's records in memory.
#[derive(Debug, Default)]
pub(crate) struct Table {
    conversations: BTreeMap<PeerKey, Conversation>,
    sent: BTreeMap<(PeerKey, MessageId), Sent>,
    received: BTreeSet<(PeerKey, MessageId)>,
    held: Vec<(PeerKey, u64, MessageId)>,
    pub(crate) screen: Vec<MessageId>,
    again: u64,
    late: u64,
}

impl Records for Table {
    type Error = Infallible;

    fn conversation(&mut self, with: PeerKey) -> Result<Conversation, Infallible> {
        Ok(self.conversations.get(&with).cloned().unwrap_or_default())
    }

    fn keep_conversation(&mut self, with: PeerKey, conversation: &Conversation) -> Result<(), Infallible> {
        self.conversations.insert(with, conversation.clone());
        Ok(())
    }

    fn outbox_length(&mut self) -> Result<u64, Infallible> {
        Ok(self.sent.values().filter(|sent| sent.waits).count() as u64)
    }

    fn add_sent(&mut self, _to: &PeerName, message: &InnerMessage) -> Result<(), Infallible> {
        self.sent.insert((message.recipient, message.id), Sent::new(message.sequence));
        Ok(())
    }

    fn sent(&mut self, to: PeerKey, id: MessageId) -> Result<Option<Sent>, Infallible> {
        Ok(self.sent.get(&(to, id)).copied())
    }

    fn keep_sent(&mut self, to: PeerKey, id: MessageId, sent: Sent) -> Result<(), Infallible> {
        self.sent.insert((to, id), sent);
        Ok(())
    }

    fn refused_below(&mut self, to: PeerKey, sequence: u64) -> Result<Skipped, Infallible> {
        let refused = self.sent.iter().filter(|((recipient, _), sent)| {
            *recipient == to && sent.stage == Stage::Refused && sent.sequence < sequence
        });
        Ok(Skipped::newest(refused.map(|(_, sent)| sent.sequence).collect()))
    }

    fn has_come(&mut self, from: PeerKey, id: MessageId) -> Result<bool, Infallible> {
        Ok(self.received.contains(&(from, id)))
    }

    fn came_again(&mut self, _from: PeerKey, _id: MessageId) -> Result<(), Infallible> {
        self.again += 1;
        Ok(())
    }

    fn add_received(&mut self, _from: &PeerName, message: &InnerMessage, is_late: bool) -> Result<(), Infallible> {
        self.received.insert((message.sender, message.id));
        self.held.push((message.sender, message.sequence, message.id));
        // By number; of the same number, whichever came first.
        self.held.sort_by_key(|&(_, sequence, _)| sequence);
        self.late += u64::from(is_late);
        Ok(())
    }

    fn held(&mut self, from: PeerKey) -> Result<Vec<(u64, MessageId)>, Infallible> {
        let of_sender = self.held.iter().filter(|&&(sender, _, _)| sender == from);
        Ok(of_sender.map(|&(_, sequence, id)| (sequence, id)).collect())
    }

    fn release(&mut self, from: PeerKey, id: MessageId) -> Result<(), Infallible> {
        self.held.retain(|&(sender, _, held)| (sender, held) != (from, id));
        self.screen.push(id);
        Ok(())
    }
}

fn id(byte: u8) -> MessageId {
    MessageId::from_bytes([byte; 16])
}

fn name(text: &str) -> PeerName {
    PeerName::parse(text).unwrap()
}

/// Alice's message of this number, whose id says so too.
fn message(sequence: u8, skipped: &[u64]) -> InnerMessage {
    InnerMessage {
        sender: ALICE,
        recipient: BOB,
        id: id(sequence),
        sequence: sequence.into(),
        skipped: Skipped::newest(skipped.to_vec()),
        sent_at: UnixMillis(0),
        body: Body::Text(Text::parse("hi").unwrap()),
    }
}

fn came(table: &mut Table, sequence: u8, skipped: &[u64]) -> Taken {
    take(table, &name("alice"), &message(sequence, skipped)).unwrap()
}

fn draft(byte: u8) -> Draft {
    let body = Body::Text(Text::parse("hi").unwrap());
    Draft { sender: ALICE, recipient: BOB, id: id(byte), sent_at: UnixMillis(0), body }
}

fn receipt(byte: u8, kind: ReceiptKind, highest: u64) -> Receipt {
    Receipt { by: BOB, to: ALICE, id: id(byte), sequence: 0, highest, kind, at: UnixMillis(0) }
}

#[test]
fn in_order_everything_goes_to_the_screen_at_once() {
    let mut table = Table::default();
    for sequence in 1..=3 {
        let taken = came(&mut table, sequence, &[]);
        assert_eq!((taken.released, taken.highest), (vec![id(sequence)], sequence.into()));
    }
}

#[test]
fn what_comes_again_is_known_and_changes_nothing() {
    let mut table = Table::default();
    came(&mut table, 1, &[]);
    let again = came(&mut table, 1, &[]);
    assert!(again.is_known && again.released.is_empty());
    assert_eq!((table.screen.len(), table.again), (1, 1));
}

#[test]
fn a_message_waits_for_the_one_before_it() {
    let mut table = Table::default();
    let taken = came(&mut table, 2, &[]);
    assert!(taken.is_held(id(2)) && table.screen.is_empty());
    let taken = came(&mut table, 1, &[]);
    assert_eq!(taken.released, [id(1), id(2)]);
}

#[test]
fn a_number_that_was_named_is_not_waited_for() {
    let mut table = Table::default();
    assert_eq!(came(&mut table, 3, &[1, 2]).released, [id(3)]);
    assert!(came(&mut table, 6, &[4]).is_held(id(6)));
    assert_eq!(came(&mut table, 5, &[]).released, [id(5), id(6)], "the fourth was named by the sixth");
}

#[test]
fn after_waiting_long_enough_what_is_held_is_shown_and_what_is_missing_is_named() {
    let mut table = Table::default();
    came(&mut table, 1, &[]);
    came(&mut table, 7, &[4]);
    came(&mut table, 9, &[]);
    let given_up = give_up(&mut table, ALICE, 7).unwrap();
    assert_eq!(given_up, GivenUp { missing: vec![(2, 3), (5, 6)], released: vec![id(7)] });
    assert_eq!(give_up(&mut table, ALICE, 7).unwrap(), GivenUp::default());
    let taken = came(&mut table, 2, &[]);
    assert_eq!((taken.released, table.late), (vec![id(2)], 1), "late, but not lost");
    assert_eq!(give_up(&mut table, ALICE, 9).unwrap(), GivenUp { missing: vec![(8, 8)], released: vec![id(9)] });
}

#[test]
fn no_sender_makes_us_hold_more_than_the_limit() {
    let mut table = Table::default();
    let mut missing = Vec::new();
    for number in 0..300_u64 {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        let message = InnerMessage { sequence: 2 + 2 * number, id: MessageId::from_bytes(bytes), ..message(1, &[]) };
        missing.extend(take(&mut table, &name("alice"), &message).unwrap().missing);
        assert!(table.held.len() <= HELD_PER_SENDER_MAX);
    }
    assert_eq!(missing.len(), HELD_PER_SENDER_MAX + 1);
}

#[test]
fn a_restored_sender_is_shown_and_goes_on_above_what_was_seen() {
    let mut bob = Table::default();
    for sequence in 1..=8 {
        came(&mut bob, sequence, &[]);
    }
    // From a backup that knew five messages only.
    let sixth_again = InnerMessage { id: id(60), ..message(6, &[]) };
    let taken = take(&mut bob, &name("alice"), &sixth_again).unwrap();
    assert_eq!((taken.released, taken.highest), (vec![id(60)], 8));
    let mut alice = Table::default();
    write(&mut alice, &name("bob"), draft(60)).unwrap();
    take_receipt(&mut alice, &receipt(60, ReceiptKind::Delivered, 8)).unwrap();
    let next = write(&mut alice, &name("bob"), draft(61)).unwrap().unwrap();
    assert_eq!(next.sequence, 9);
}

#[test]
fn a_receipt_for_nothing_of_ours_changes_nothing() {
    let mut alice = Table::default();
    assert_eq!(take_receipt(&mut alice, &receipt(1, ReceiptKind::Read, u64::MAX)).unwrap(), None);
    assert!(alice.conversations.is_empty());
    write(&mut alice, &name("bob"), draft(1)).unwrap();
    take_receipt(&mut alice, &receipt(1, ReceiptKind::Read, u64::MAX)).unwrap();
    assert_eq!(alice.conversations[&BOB].last, SEQUENCE_MAX);
}

#[test]
fn stages_never_go_back() {
    use ReceiptKind::{CannotOpen, Delivered, Read};
    let fates = [
        Fate::Stored { attempt: 0 },
        Fate::Stored { attempt: 1 },
        Fate::Refused,
        Fate::Lost,
        Fate::Receipt(CannotOpen),
        Fate::Receipt(Delivered),
        Fate::Receipt(Read),
    ];
    // Every sequence of five fates.
    for mut script in 0..fates.len().pow(5) {
        let mut sent = Sent::new(1);
        for _ in 0..5 {
            let after = sent.after(fates[script % fates.len()]);
            script /= fates.len();
            assert!(after.stage >= sent.stage, "{sent:?} became {after:?}");
            assert!(!(after.waits && after.stage >= Stage::Refused), "{after:?} is finished, and sent all the same");
            sent = after;
        }
    }
}

#[test]
fn an_answer_to_an_attempt_that_could_not_be_opened_does_not_stop_the_next() {
    let sent = Sent::new(1).after(Fate::Receipt(ReceiptKind::CannotOpen)).after(Fate::Stored { attempt: 0 });
    assert_eq!((sent.stage, sent.waits), (Stage::Stored, true));
    assert!(!sent.after(Fate::Stored { attempt: 1 }).waits);
}

#[test]
fn the_next_message_names_the_refused_ones() {
    let mut alice = Table::default();
    for byte in 1..=4 {
        write(&mut alice, &name("bob"), draft(byte)).unwrap().unwrap();
    }
    for byte in [1, 3] {
        assert_eq!(settle(&mut alice, BOB, id(byte), Fate::Refused).unwrap(), Some(Stage::Refused));
    }
    let fourth = name_skipped(&mut alice, message(4, &[])).unwrap();
    assert_eq!(fourth.skipped.runs(), [(1, 1), (3, 3)]);
}

#[test]
fn after_a_hundred_that_were_refused_in_a_row_the_next_is_shown_at_once() {
    let (mut alice, mut bob) = (Table::default(), Table::default());
    came(&mut bob, 1, &[]);
    for byte in 1..=102 {
        write(&mut alice, &name("bob"), draft(byte)).unwrap().unwrap();
    }
    for byte in 2..=101 {
        settle(&mut alice, BOB, id(byte), Fate::Refused).unwrap();
    }
    let next = name_skipped(&mut alice, message(102, &[])).unwrap();
    assert_eq!(next.skipped.runs(), [(2, 101)]);
    let taken = take(&mut bob, &name("alice"), &next).unwrap();
    assert_eq!((taken.released, taken.missing), (vec![id(102)], Vec::new()));
    assert_eq!(bob.conversations[&ALICE].skipped, Skipped::default());
}

#[test]
fn a_run_over_all_numbers_costs_nothing_and_loses_nothing() {
    let mut table = Table::default();
    came(&mut table, 1, &[]);
    came(&mut table, 4, &[]);
    let skipped = Skipped::newest_runs(vec![(1, SEQUENCE_MAX)]);
    let hostile = InnerMessage { sequence: SEQUENCE_MAX, skipped, ..message(200, &[]) };
    let taken = take(&mut table, &name("alice"), &hostile).unwrap();
    assert_eq!((taken.released, taken.missing), (vec![id(4), id(200)], Vec::new()), "what was held comes first");
    assert_eq!(table.conversations[&ALICE].skipped, Skipped::default());
    assert_eq!((came(&mut table, 2, &[]).released, table.late), (vec![id(2)], 1), "late, but not lost");
    assert_eq!(came(&mut table, 250, &[3]).released, [id(250)]);
}

#[test]
fn what_is_remembered_of_skipped_numbers_is_bounded() {
    let mut table = Table::default();
    for sequence in 0..200 {
        let skipped = Skipped::newest((1..=64).map(|number| 10_000 + 200 * number + 2 * sequence).collect());
        let bytes = [sequence.to_le_bytes(); 2].concat().try_into().unwrap();
        let (id, sequence) = (MessageId::from_bytes(bytes), 100_000 + 2 * sequence);
        let message = InnerMessage { sequence, id, skipped, ..message(1, &[]) };
        take(&mut table, &name("alice"), &message).unwrap();
        assert!(table.conversations[&ALICE].skipped.runs().len() <= SKIPPED_RUNS_MAX);
    }
}
