//! What is read of strangers, and what is said in which words.

use serde_json::json;

use super::answer::{Answer, room_for_text};
use super::*;
use crate::wire::limits::LEGACY_JSON_SENT_BYTES_MAX;

#[track_caller]
fn read(text: &str) -> Datagram {
    Datagram::parse(text.as_bytes()).unwrap_or_else(|_| panic!("{text} is malformed"))
}

#[track_caller]
fn asks(text: &str) -> Ask {
    read(text).ask.unwrap()
}

#[test]
fn what_is_malformed_is_malformed() {
    let deep = |levels: usize| format!(r#"{{"type":"HEY","x":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
    for text in [
        "",
        "null",
        "[]",
        r#""HEY""#,
        "{}",
        r#"{"rq":1}"#,
        r#"{"type":"HEY""#,
        r#"{"type":"HEY"}{}"#,
        r#"{"type":"HEY","type":"HEY"}"#,
        r#"{"type":"HEY","x":{"a":1,"a":2}}"#,
        r#"{"type":"HEY","service":"HEY"}"#,
        r#"{"type":"HEY","rq":1,"RQ":1}"#,
        r#"{"type":"HEY","File-name":"a","file_name":"b"}"#,
        r#"{"type":7}"#,
        r#"{"type":"HEY","rq":1.5}"#,
        r#"{"type":"HEY","x":1e3}"#,
        r#"{"type":"HEY","x":99999999999999999999}"#,
        r#"{"type":"HEY","rq":null}"#,
        r#"{"type":"HEY","rq":[1]}"#,
        r#"{"type":"HEY","rq":"a\u0007"}"#,
        r#"{"type":"HEY","x":"\ud800"}"#,
        "\u{feff}{\"type\":\"HEY\"}",
        r#"{"type":"REGISTER-DENIED","rq":1,"reason":"x"}"#,
        r#"{"type":"error","rq":1}"#,
        &deep(8),
        &"[".repeat(8_000),
        &format!(r#"{{"type":"HEY","rq":"{}"}}"#, "x".repeat(65)),
        &format!(r#"{{"type":"HEY","x":"{}"}}"#, "x".repeat(8_192)),
    ] {
        assert_eq!(Datagram::parse(text.as_bytes()), Err(Malformed), "{text}");
    }
    assert_eq!(Datagram::parse(b"{\"type\":\"HEY\xff\"}"), Err(Malformed));
    assert!(Datagram::parse(deep(7).as_bytes()).is_ok());
}

#[test]
fn every_program_is_answered_in_its_own_words() {
    for (text, expected) in [
        (r#"{"type":"HEY","rq":1}"#, r#"{"type": "ACK", "rq": 1}"#),
        (r#"{"service":"HEY","request_#":"7H62QRXRYU"}"#, r#"{"service": "ACK", "request_#": "7H62QRXRYU"}"#),
        (r#"{"TYPE":"HEY","rq":-3}"#, r#"{"TYPE": "ACK", "rq": -3}"#),
        (r#"{"header":"HEY","RQ":"ü"}"#, r#"{"header": "ACK", "RQ": "\u00fc"}"#),
        (" {\"type\":\"hey\"}\r\n", r#"{"type": "ACK"}"#),
    ] {
        let asked = read(text);
        assert_eq!(asked.ask, Ok(Ask::Heartbeat));
        let printed = Answer::new("ACK").print(asked.keys, asked.number.as_ref());
        assert_eq!(String::from_utf8(printed).unwrap(), format!("{expected}\n"));
    }
}

#[test]
fn fields_have_many_names() {
    let files = Ask::Publish { files: vec!["a".to_owned(), "b".to_owned()], text: None };
    for key in ["files", "list of files", "list_of_files", "List-of-files"] {
        assert_eq!(asks(&format!(r#"{{"type":"PUBLISH","{key}":["a","b"]}}"#)), files, "{key}");
    }
    for key in ["filename", "File-name", "file_name"] {
        let search = Ask::SearchFile { file: "a".to_owned(), after: 0 };
        assert_eq!(asks(&format!(r#"{{"type":"SEARCH-FILE","{key}":"a"}}"#)), search, "{key}");
    }
}

#[test]
fn one_word_of_two_systems_is_told_apart_by_its_fields() {
    let file = Ask::Download { owner: Some("bob".to_owned()), file: "a".to_owned() };
    assert_eq!(asks(r#"{"type":"GET","to":"bob","filename":"a"}"#), file);
    assert_eq!(asks(r#"{"type":"GET","to":"bob"}"#), Ask::Address { to: "bob".to_owned() });
    assert_eq!(asks(r#"{"type":"ALL","to":"bob","allow":0}"#), Ask::Allow { to: "bob".to_owned(), allow: false });
    assert_eq!(asks(r#"{"type":"ALL","after":3}"#), Ask::RetrieveAll { after: 3 });
    let edit = Ask::EditProfile { display_name: None, info: Some("x".to_owned()) };
    assert_eq!(asks(r#"{"type":"PROFILE","info":"x"}"#), edit);
    let own = Ask::Profile { name: None, via: None, after: 0 };
    assert_eq!(asks(r#"{"type":"PROFILE"}"#), own);
}

#[test]
fn who_speaks_is_named_by_from_or_where_nobody_else_is_meant_by_name() {
    assert_eq!(read(r#"{"type":"LOGOUT","name":"ann"}"#).from.as_deref(), Some("ann"));
    assert_eq!(read(r#"{"type":"QUERY","name":"bob"}"#).from, None);
    assert_eq!(read(r#"{"type":"QUERY","name":"bob","from":"ann"}"#).from.as_deref(), Some("ann"));
}

#[test]
fn what_can_be_read_and_makes_no_sense_is_denied_with_a_reason() {
    for (text, denial, reason) in [
        (r#"{"type":"REGISTER"}"#, "REGISTER-DENIED", "the field name is missing"),
        (r#"{"type":"RETRIEVE-INFOT"}"#, "RETRIEVE-ERROR", "the field to is missing"),
        (r#"{"type":"SEND","to":"b","text":7}"#, "SEND-DENIED", "the field text is no text"),
        (r#"{"type":"PUBLISH","files":[]}"#, "PUBLISH-DENIED", "a message names 1 to 64 files"),
        (r#"{"type":"BLC","to":"b","block":2}"#, "BLC-DENIED", "the field block is neither true nor false"),
        (r#"{"type":"ONL","after":-1}"#, "ONL-DENIED", "the field after is no number from 0 to 4294967295"),
        (r#"{"type":"DANCE"}"#, "ERROR", "there is no such message"),
    ] {
        let asked = read(text);
        assert_eq!((asked.denial, asked.ask), (denial, Err(reason.to_owned())), "{text}");
    }
}

#[test]
fn a_request_is_the_same_whatever_its_cookie_and_its_spaces() {
    let content = |text| read(text).content;
    let one = content(r#"{"type":"SEND","rq":1,"to":"b","text":"x"}"#);
    assert_eq!(content(r#"{ "rq":1, "type":"SEND","text":"x","to":"b", "cookie":"0123456789abcdef"}"#), one);
    assert_ne!(content(r#"{"type":"SEND","rq":2,"to":"b","text":"x"}"#), one);
    assert_ne!(content(r#"{"type":"SEND","rq":1,"to":"b","text":"y"}"#), one);
}

#[test]
fn long_lists_come_in_pages_that_fit_and_together_are_the_list() {
    let number = Number::parse(json!("n".repeat(64))).unwrap();
    let rows: Vec<Value> = (0..300).map(|row| json!([format!("row {row} \u{1f600}")])).collect();
    let (mut after, mut collected, mut pages) = (0, Vec::new(), 0);
    loop {
        let page = Answer::new("ONLINE").with_page("list", &rows, after, Keys::default(), Some(&number));
        let printed = page.print(Keys::default(), Some(&number));
        assert!(printed.len() <= LEGACY_JSON_SENT_BYTES_MAX, "{} bytes", printed.len());
        let read: Value = serde_json::from_slice(&printed).unwrap();
        collected.extend(read["list"].as_array().unwrap().clone());
        pages += 1;
        if read.get("more").is_none() {
            break;
        }
        after = u32::try_from(read["after"].as_u64().unwrap()).unwrap();
    }
    assert_eq!(collected, rows);
    assert!(pages < 20, "{pages}");
    let beyond = Answer::new("ONLINE").with_page("list", &rows, u32::MAX, Keys::default(), None);
    assert_eq!(beyond, Answer::new("ONLINE").with("list", json!([])));
}

#[test]
fn reasons_and_chunks_fit_a_datagram_whatever_is_in_them() {
    let number = Number::parse(json!("\u{1f600}".repeat(16))).unwrap();
    let keys = Keys { kind: "service", number: "request_#" };
    let printed = Answer::denial("GET_CLIENT_LIST-DENIED", &"\u{1}".repeat(8_000)).print(keys, Some(&number));
    assert!(printed.len() <= LEGACY_JSON_SENT_BYTES_MAX);
    let head = Answer::new("FILE-END").with("filename", "ü".repeat(127));
    let room = room_for_text(&head, keys, Some(&number));
    for piece in chunks::cut(&"\u{1f600}\u{1}\"x".repeat(300), room) {
        let printed = head.clone().with("chunk", u32::MAX).with("text", piece).print(keys, Some(&number));
        assert!(printed.len() <= LEGACY_JSON_SENT_BYTES_MAX, "{} bytes", printed.len());
    }
}
