//! The JSON dialect: one object in each datagram, under any of the words that the older programs have for its keys.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qchat_fuzz::dialect::json::answer::Answer;
use qchat_fuzz::dialect::json::{Datagram, chunks};
use qchat_fuzz::python_json;
use qchat_fuzz::wire::limits::{LEGACY_CHUNK_CHARS, LEGACY_JSON_BYTES_MAX, LEGACY_JSON_SENT_BYTES_MAX};
use serde_json::Value;

/// Bytes for a text in a message.
const TEXT_BYTES: usize = 900;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(datagram) = Datagram::parse(bytes) {
        check_repeated(bytes, &datagram);
        check_answer(&datagram);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let pieces = chunks::cut(text, TEXT_BYTES);
        assert_eq!(pieces.concat(), text);
        let fits = |piece: &String| {
            piece.chars().count() <= LEGACY_CHUNK_CHARS && python_json::dumps(piece).len() <= TEXT_BYTES + 2
        };
        assert!(pieces.iter().all(fits), "{pieces:?}");
    }
});

/// A datagram means what its content says, whatever order and spaces it is written with: by that repetitions are known.
fn check_repeated(bytes: &[u8], datagram: &Datagram) {
    assert!(datagram.content.len() <= bytes.len(), "{} bytes became {}", bytes.len(), datagram.content.len());
    let again = Datagram::parse(datagram.content.as_bytes()).expect("it was read before");
    assert_eq!(again, Datagram { cookie: None, ..datagram.clone() });
    let value: Value = serde_json::from_slice(bytes).expect("it was read as JSON");
    let as_python_writes_it = python_json::dumps(&value);
    if as_python_writes_it.len() <= LEGACY_JSON_BYTES_MAX {
        assert_eq!(Datagram::parse(&as_python_writes_it).as_ref(), Ok(datagram));
    }
}

/// A denial in the words of whoever asked fits one packet, and is no request itself.
fn check_answer(datagram: &Datagram) {
    let Err(reason) = &datagram.ask else { return };
    let answer = Answer::denial(datagram.denial, reason).print(datagram.keys, datagram.number.as_ref());
    assert!(answer.len() <= LEGACY_JSON_SENT_BYTES_MAX, "{} bytes", answer.len());
    assert!(serde_json::from_slice::<Value>(&answer).is_ok());
    // Of all errors that one alone is read: it says that a file does not come.
    if datagram.denial != "DOWNLOAD-ERROR" {
        assert!(Datagram::parse(&answer).is_err(), "a denial would be answered");
    }
}
