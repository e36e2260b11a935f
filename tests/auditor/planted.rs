//! Plants each violation in a log and sees the auditor find it: one that cannot fail proves nothing.

use super::{Fact, Promise, Stage, audit};

const ALICE: &str = "alice";
const BOB: &str = "bob";

fn written(number: u64) -> Fact {
    Fact::Written { by: ALICE.into(), to: BOB.into(), id: format!("m{number}"), number }
}

fn told(id: &str, stage: Stage) -> Fact {
    Fact::State { by: ALICE.into(), id: id.into(), stage }
}

fn kept(id: &str) -> Fact {
    Fact::Kept { at: BOB.into(), id: id.into() }
}

fn shown(id: &str) -> Fact {
    Fact::Shown { at: BOB.into(), id: id.into() }
}

fn missing(first: u64, last: u64) -> Fact {
    Fact::Missing { at: BOB.into(), from: ALICE.into(), first, last }
}

fn restored(peer: &str, point: usize) -> Fact {
    Fact::PeerRestored { peer: peer.into(), point }
}

/// Which promises a log breaks.
#[track_caller]
fn check(facts: &[Fact], expected: &[Promise]) {
    let violations = audit(facts);
    let found: Vec<Promise> = violations.iter().map(|violation| violation.promise).collect();
    assert_eq!(found, expected, "{violations:?}");
}

#[test]
fn an_honest_log_breaks_nothing() {
    let log = [
        written(1),
        told("m1", Stage::Stored),
        kept("m1"),
        shown("m1"),
        told("m1", Stage::Delivered),
        told("m1", Stage::Read),
        Fact::End,
    ];
    check(&log, &[]);
}

#[test]
fn a_stored_message_that_is_never_shown_is_lost() {
    check(&[written(1), told("m1", Stage::Stored), Fact::End], &[Promise::Stages, Promise::NothingLost]);
    check(&[written(1), told("m1", Stage::Delivered), Fact::End], &[Promise::NothingLost]);
    check(&[written(1), told("m1", Stage::Stored), told("m1", Stage::Refused), Fact::End], &[]);
}

#[test]
fn a_message_is_shown_once_and_again_only_on_a_screen_that_was_set_back() {
    check(&[written(1), shown("m1"), shown("m1")], &[Promise::NothingTwice]);
    check(&[written(1), shown("m1"), restored(BOB, 1), shown("m1")], &[]);
    check(&[written(1), shown("m1"), restored(BOB, 2), shown("m1")], &[Promise::NothingTwice]);
    check(&[written(1), shown("m1"), restored(ALICE, 1), shown("m1")], &[Promise::NothingTwice]);
}

#[test]
fn a_later_message_is_shown_first_only_when_the_earlier_was_named() {
    let (first, second) = (written(1), written(2));
    check(&[first.clone(), second.clone(), shown("m2"), shown("m1")], &[Promise::Order]);
    check(&[first.clone(), second.clone(), missing(1, 1), shown("m2"), shown("m1")], &[]);
    check(&[first.clone(), second.clone(), missing(2, 2), shown("m2"), shown("m1")], &[Promise::Order]);
    let refused = told("m1", Stage::Refused);
    check(&[first.clone(), second.clone(), refused, shown("m2"), shown("m1")], &[]);
    // Bob's disk lost m2, so that m1 comes first on the screen he has now.
    check(&[first, second, missing(1, 1), shown("m2"), restored(BOB, 2), shown("m1"), shown("m2")], &[]);
}

#[test]
fn a_number_is_named_as_missing_once() {
    let start = [written(1), written(2), missing(1, 2)];
    check(&[&start[..], &[missing(3, 3)]].concat(), &[]);
    check(&[&start[..], &[missing(2, 3)]].concat(), &[Promise::Order]);
    check(&[&start[..], &[restored(BOB, 1), missing(1, 1)]].concat(), &[]);
}

#[test]
fn what_was_refused_is_not_waited_for_by_what_was_written_later() {
    let refused = told("m1", Stage::Refused);
    let late = [written(1), refused.clone(), written(2), kept("m2"), missing(1, 1)];
    check(&late, &[Promise::Order]);
    check(&[written(1), written(2), refused, kept("m2"), missing(1, 1)], &[]);
}

#[test]
fn stages_that_go_back_are_untrue_or_do_not_end_are_found() {
    check(&[written(1), told("m1", Stage::Refused), told("m1", Stage::Stored)], &[Promise::Stages]);
    check(&[written(1), Fact::End], &[Promise::Stages]);
    check(&[written(1), told("m1", Stage::Read)], &[Promise::Stages]);
    let keeps = [written(1), written(2), kept("m2")];
    check(&[&keeps[..], &[told("m1", Stage::Delivered)]].concat(), &[Promise::Stages]);
    // A writer whose disk was set back may hear the same again.
    let log = [written(1), shown("m1"), told("m1", Stage::Read), restored(ALICE, 1), told("m1", Stage::Stored)];
    check(&log, &[]);
    check(&[&log[..], &[Fact::End]].concat(), &[Promise::Stages]);
}

#[test]
fn only_what_was_kept_and_never_shown_is_lost_with_a_disk() {
    let log = |tail: &[Fact]| [&[written(1), kept("m1"), told("m1", Stage::Delivered)], tail].concat();
    check(&log(&[Fact::End]), &[Promise::NothingLost]);
    check(&log(&[restored(BOB, 1), Fact::End]), &[]);
    check(&log(&[restored(BOB, 2), Fact::End]), &[Promise::NothingLost]);
    check(&log(&[restored(ALICE, 1), told("m1", Stage::Delivered), Fact::End]), &[Promise::NothingLost]);
}

#[test]
fn what_its_writer_forgot_is_shown_all_the_same() {
    let log = |tail: &[Fact]| [&[written(1), told("m1", Stage::Stored), restored(ALICE, 0)], tail].concat();
    check(&log(&[shown("m1"), Fact::End]), &[]);
    check(&log(&[Fact::End]), &[Promise::NothingLost]);
    check(&log(&[Fact::DirectoryRestored, Fact::End]), &[]);
    check(&log(&[Fact::CannotOpen { id: "m1".into() }, Fact::End]), &[]);
    check(&log(&[Fact::GivenBack { id: "m1".into() }, Fact::End]), &[]);
    check(&log(&[told("m1", Stage::Delivered)]), &[Promise::Sense]);
}

#[test]
fn a_number_that_is_used_again_keeps_no_order_but_the_next_new_one_does() {
    let again = |id: &str, number| Fact::Written { by: ALICE.into(), to: BOB.into(), id: id.into(), number };
    let start = [written(1), written(2), restored(ALICE, 1), again("n2", 2), again("n3", 3), again("n4", 4)];
    check(&[&start[..], &[shown("n3"), shown("m2"), shown("n2")]].concat(), &[]);
    check(&[&start[..], &[shown("n4"), shown("n3")]].concat(), &[Promise::Order]);
}

#[test]
fn a_writer_that_was_told_how_far_the_other_is_goes_on_above_it() {
    let again = |id: &str, number| Fact::Written { by: ALICE.into(), to: BOB.into(), id: id.into(), number };
    let start = [written(1), written(2), written(3), kept("m1"), kept("m2"), kept("m3"), restored(ALICE, 1)];
    let is_told = told("n2", Stage::Delivered);
    let told = [again("n2", 2), kept("n2"), is_told.clone()];
    check(&[&start[..], &told, &[again("n4", 4)]].concat(), &[]);
    check(&[&start[..], &told, &[again("n3", 3)]].concat(), &[Promise::Order]);
    // Seed 74 of 10,000 messages: the directory was set back too, and had a receipt from before the other messages.
    let old = [again("n2", 2), kept("n2"), Fact::DirectoryRestored, is_told];
    check(&[&start[..], &old, &[again("n3", 3)]].concat(), &[]);
}

#[test]
fn a_log_without_sense_is_found() {
    check(&[shown("m1")], &[Promise::Sense]);
    check(&[written(1), written(1)], &[Promise::Sense]);
    check(&[written(1), Fact::Shown { at: ALICE.into(), id: "m1".into() }], &[Promise::Sense]);
    check(&[written(1), Fact::State { by: BOB.into(), id: "m1".into(), stage: Stage::Stored }], &[Promise::Sense]);
    check(&[missing(1, 1)], &[Promise::Sense]);
}
