//! The lines of people, friends, rates and texts from others, as they are read.

use super::*;
use crate::wire::ids::{FileDigest, FileName, MessageId, PeerKey};
use crate::wire::people::FriendState;

#[test]
fn text_from_others_cannot_move_the_cursor() {
    assert_eq!(printable("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
    assert_eq!(printable("a\rb\u{202e}c\u{9b}d"), "a\\rb\\u{202e}c\\u{9b}d");
    assert_eq!(printable("one\ntwo"), "one\n    two");
    assert_eq!(printable("Grüße 👋"), "Grüße 👋");
    assert_eq!(printable("👨\u{200d}👩\u{200d}👧 ❤\u{fe0f}\u{200d}🔥"), "👨\u{200d}👩\u{200d}👧 ❤\u{fe0f}\u{200d}🔥");
    assert_eq!(printable("a\u{200d}b 👋\u{200d}"), "a\\u{200d}b 👋\\u{200d}");
}

#[test]
fn people_are_shown_with_what_is_worth_saying_of_them() {
    let look = Look { json: false, quiet: false, verbose: 0, color: Color::Never };
    let output = Output::new(&look);
    let bob = || PeerName::parse("bob").unwrap();
    let sentence =
        |presence, is_news| output.sentence(&Event::Presence { name: bob(), online: true, presence, is_news });
    assert_eq!(sentence(Presence::Busy, true).as_deref(), Some("* bob is busy"));
    assert_eq!(sentence(Presence::Online, false), None, "whoever talks to bob sees that he is there");
    let row = |presence, last_seen| person(&bob(), presence, last_seen);
    assert_eq!(row(Presence::Online, None), "bob");
    assert_eq!(row(Presence::Away, None), "bob  (away)");
    assert_eq!(row(Presence::Offline, None), "bob  (offline)");
    let line = row(Presence::Offline, Some(UnixMillis(0)));
    assert!(line.starts_with("bob  (here last 19"), "{line}");
}

#[test]
fn what_is_said_with_an_older_program_is_marked_wherever_it_is_read() {
    let look = Look { json: false, quiet: false, verbose: 0, color: Color::Never };
    let output = Output::new(&look);
    let carol = || PeerName::parse("carol").unwrap();
    let check = |event: Event, expected: &str| {
        let line = output.sentence(&event).unwrap();
        assert!(line.ends_with(expected), "{line:?} should end with {expected:?}");
    };
    let (id, sent_at, text) = (MessageId::from_bytes([1; 16]), UnixMillis(0), "hi".to_owned());
    let (digest, name) = (FileDigest::from_bytes([2; 32]), FileName::parse("notes.txt").unwrap());
    let said = Event::Announcement { from: carol(), id, sent_at, text: text.clone(), legacy: true };
    check(said, "] carol (legacy) to everyone: hi");
    check(Event::Message { from: carol(), id, sent_at, text, legacy: true }, "] carol (legacy): hi");
    let (size, legacy, key) = (12, true, PeerKey::from_bytes([3; 32]));
    let offer = Event::Offer { from: carol(), id, name: name.clone(), size, digest, files: None, legacy };
    check(offer, "* carol (legacy) offers notes.txt (12 B): `qchat accept 01010101` or `qchat decline 01010101`");
    let found = Event::Found { owner: carol(), online: false, name, size, digest, files: None, legacy };
    check(found, "carol:notes.txt  12 B  legacy  (offline)");
    let person = Event::Person { name: carol(), presence: Presence::Away, last_seen: None, legacy };
    check(person, "carol  (away)  legacy: not end-to-end encrypted");
    let state = FriendState::Friends;
    let friend = Event::Friend { name: carol(), key, state, presence: None, last_seen: None, legacy };
    check(friend, "carol  friend  legacy: not end-to-end encrypted");
    let safety_number = "123456".to_owned();
    let (verified_at, offered_key, offered_safety_number) = (None, None, None);
    let contact =
        Event::Contact { name: carol(), key, safety_number, verified_at, offered_key, offered_safety_number, legacy };
    assert!(!output.sentence(&contact).unwrap().contains("123456"), "there is nobody to compare it with");
    let asks = output.sentence(&Event::FriendAsked { from: carol(), key, legacy }).unwrap();
    assert!(asks.starts_with("* carol (legacy) asks to be friends: /friend carol accepts"), "{asks}");
    let asks = output.sentence(&Event::ConsentAsked { from: carol(), key, legacy }).unwrap();
    assert!(asks.starts_with("* carol (legacy) asks for a direct connection"), "{asks}");
    check(Event::Legacy { name: carol() }, "* carol uses an older program: legacy: not end-to-end encrypted");
}

#[test]
fn days_are_those_of_the_calendar() {
    let check = |seconds: u64, day: &str| assert_eq!(date(UnixMillis(seconds * 1_000)), day);
    check(0, "1970-01-01");
    check(951_782_400, "2000-02-29");
    check(951_868_800, "2000-03-01");
    check(1_767_225_599, "2025-12-31");
    check(4_107_542_400, "2100-03-01");
}

#[test]
fn digits_are_shown_in_groups_of_five() {
    assert_eq!(in_groups("012345678901234567890"), "    01234 56789 01234 56789\n    0");
}

#[test]
fn rates_do_not_overflow() {
    assert_eq!(per_second(1_000, 500), 2_000);
    assert_eq!(per_second(u64::MAX, 0), u64::MAX);
}
