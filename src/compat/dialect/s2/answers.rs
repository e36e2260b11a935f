//! Answers of the server, in the words of the program that asked, and no longer than it can take.

use std::net::IpAddr;

use serde_json::Value;

use super::object::Json;
use super::{Variant, Words};
use crate::compat::python_json::dumps;

/// Somebody, where a program reaches them, and what they publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Their name, as they write it.
    pub name: String,
    /// Their address.
    pub ip: IpAddr,
    /// Their UDP port.
    pub udp: u16,
    /// Their TCP port.
    pub tcp: u16,
    /// Their files.
    pub files: Vec<String>,
}

/// Why something is denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// Somebody is here under this name.
    NameInUse,
    /// Nobody is here under this name who could have files.
    Unregistered(String),
    /// Nobody is here under this name who could be reached elsewhere.
    NobodyToUpdate(String),
    /// Nobody is here under this name of whom something could be told.
    NoSuchPerson(String),
    /// Nobody publishes this file.
    NoSuchFile(String),
    /// This file is not on the list that it is taken off.
    NotListed(String),
    /// Something that the older systems never said.
    Because(String),
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The name is theirs.
    Registered,
    /// It is not.
    RegisterDenied(Denial),
    /// It is theirs no more, or never was.
    DeRegistered,
    /// The files are on the list.
    Published,
    /// They are not.
    PublishDenied(Denial),
    /// The files are off the list.
    Removed,
    /// They are not.
    RemoveDenied(Denial),
    /// Everybody, the most important first: what does not fit is left out from the end.
    Everybody(Vec<Row>),
    /// One person.
    Person(Row),
    /// There is no such person.
    RetrieveError(Denial),
    /// Who has a file.
    Owners {
        /// Its name.
        file: String,
        /// Who.
        rows: Vec<Row>,
    },
    /// The search did not work.
    SearchError(Denial),
    /// They are reached elsewhere now.
    Updated {
        /// Who.
        name: String,
        /// From where they speak.
        ip: IpAddr,
        /// Their UDP port, as it was typed.
        udp: Value,
        /// Their TCP port, as it was typed.
        tcp: Value,
    },
    /// They are not.
    UpdateDenied {
        /// Who.
        name: String,
        /// Why not.
        denial: Denial,
    },
    /// There is no such request.
    Unknown {
        /// As it was called.
        kind: String,
    },
}

impl Answer {
    /// The datagram that says so, with the request's number; `None` when programs of this kind are told nothing.
    ///
    /// Programs read an answer with one call into a buffer of fixed length, and the older servers sent what they had: beyond
    /// some 15 people the JSON came cut off, and nothing of it could be read. Here the JSON is always whole. Everybody is in
    /// it with one file, in the order given, then with a second, and so on, as long as it fits; one person with long names
    /// of many files does not crowd the others out. Whoever is left out is still found by RETRIEVE-INFOT and SEARCH-FILE.
    #[must_use]
    pub fn encode(self, variant: Variant, number: &Value) -> Option<Vec<u8>> {
        let words = variant.words();
        let message = |kind: &str, fields: Vec<(&'static str, Json)>| dumps(&message(words, number, kind, fields));
        let denied = |kind: &str, denial: &Denial| message(kind, vec![reason(words, denial)]);
        Some(match self {
            Self::Registered => message("REGISTERED", Vec::new()),
            Self::RegisterDenied(denial) => denied("REGISTER-DENIED", &denial),
            Self::DeRegistered => return (variant == Variant::J).then(|| dumps(&Value::Null)),
            Self::Published => message("PUBLISHED", Vec::new()),
            Self::PublishDenied(denial) => denied("PUBLISH-DENIED", &denial),
            Self::Removed => message("REMOVED", Vec::new()),
            Self::RemoveDenied(denial) => denied("REMOVE-DENIED", &denial),
            Self::Everybody(rows) => {
                fitting(rows, variant, |rows| message("RETRIEVE", vec![(words.rows, (words.people)(rows))]))
            }
            Self::Person(row) => fitting(vec![row], variant, |rows| {
                message("RETRIEVE-INFOT", rows.first().map(|row| person(words, row)).unwrap_or_default())
            }),
            Self::RetrieveError(denial) => denied("RETRIEVE-ERROR", &denial),
            Self::Owners { file, rows } if rows.is_empty() && words.is_finding_nothing_an_error => {
                denied("SEARCH-ERROR", &Denial::NoSuchFile(file))
            }
            Self::Owners { file: _, rows } => {
                fitting(rows, variant, |rows| message("SEARCH-FILE", vec![(words.rows, (words.owners)(rows))]))
            }
            Self::SearchError(denial) => denied("SEARCH-ERROR", &denial),
            Self::Updated { name, ip, udp, tcp } => {
                let (name, ip) = ((words.name, Json::plain(name)), (words.ip, Json::plain(ip.to_string())));
                let ports = [(words.udp, Json::plain(udp)), (words.tcp, Json::plain(tcp))];
                message("UPDATE-CONFIRMED", [name, ip].into_iter().chain(ports).collect())
            }
            Self::UpdateDenied { name, denial } => {
                message("UPDATE-DENIED", vec![(words.name, Json::plain(name)), reason(words, &denial)])
            }
            Self::Unknown { kind } => unknown(words, &kind),
        })
    }
}

fn reason(words: &Words, denial: &Denial) -> (&'static str, Json) {
    (words.reason, Json::plain((words.denial)(denial)))
}

/// It has no number: what cannot be understood need not have had one.
fn unknown(words: &Words, kind: &str) -> Vec<u8> {
    let reason = Json::plain(format!("Invalid header: {kind}"));
    dumps(&Json::Object(vec![(words.kind, Json::plain("ERROR")), (words.reason, reason)]))
}

/// An object that begins with its type and its number.
pub(super) fn message(words: &Words, number: &Value, kind: &str, fields: Vec<(&'static str, Json)>) -> Json {
    let mut all = vec![(words.kind, Json::plain(kind)), (words.number, Json::plain(number.clone()))];
    all.extend(fields);
    Json::Object(all)
}

fn person(words: &Words, row: &Row) -> Vec<(&'static str, Json)> {
    let mut fields = contact(words, row);
    let files = row.files.iter().map(|file| Json::plain(file.as_str())).collect();
    fields.push((words.files, Json::List(files)));
    fields
}

/// Who somebody is and where their files are, for programs that have objects for it.
pub(super) fn contact(words: &Words, row: &Row) -> Vec<(&'static str, Json)> {
    vec![
        (words.name, Json::plain(row.name.as_str())),
        (words.ip, Json::plain(row.ip.to_string())),
        (words.tcp, Json::plain(row.tcp)),
    ]
}

/// As much of the rows as programs of this kind take at once.
fn fitting(rows: Vec<Row>, variant: Variant, encode: impl Fn(&[Row]) -> Vec<u8>) -> Vec<u8> {
    let bytes_max = variant.answer_bytes_max();
    let all = encode(&rows);
    if all.len() <= bytes_max {
        return all;
    }
    // Those who fit, each with what is left of their files, from the last to the first.
    let (mut taken, mut left) = (Vec::new(), Vec::new());
    for mut row in rows {
        let mut files = std::mem::take(&mut row.files);
        files.reverse();
        row.files.extend(files.pop());
        taken.push(row);
        if encode(&taken).len() <= bytes_max {
            left.push(files);
        } else {
            taken.pop();
        }
    }
    while left.iter().any(|files| !files.is_empty()) {
        for index in 0..left.len() {
            let Some(file) = left[index].pop() else { continue };
            taken[index].files.push(file);
            if encode(&taken).len() > bytes_max {
                taken[index].files.pop();
                left[index].clear();
            }
        }
    }
    encode(&taken)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(name: &str, udp: u16, tcp: u16, files: &[&str]) -> Row {
        let files = files.iter().map(|file| (*file).to_owned()).collect();
        Row { name: name.to_owned(), ip: IpAddr::from([127, 0, 0, 1]), udp, tcp, files }
    }

    fn people() -> Vec<Row> {
        vec![row("alice", 5061, 5071, &["demo1.txt", "505char.txt"]), row("bob", 5062, 5072, &[])]
    }

    #[track_caller]
    fn check(answer: Answer, variant: Variant, number: Value, says: &str) {
        let bytes = answer.encode(variant, &number).expect("an answer");
        assert_eq!(String::from_utf8(bytes).unwrap(), says);
    }

    #[test]
    fn k_is_answered_in_the_bytes_that_were_captured() {
        let k = |answer, number: &str, says: &str| check(answer, Variant::K, json!(number), says);
        k(Answer::Registered, "7H62QRXRYU", r#"{"service": "REGISTERED", "request_#": "7H62QRXRYU"}"#);
        k(
            Answer::RegisterDenied(Denial::NameInUse),
            "VVSA6LM9H7",
            r#"{"service": "REGISTER-DENIED", "request_#": "VVSA6LM9H7", "reason": "CLIENT ALREADY EXISTS"}"#,
        );
        k(
            Answer::Everybody(people()),
            "BCSPWDT03T",
            r#"{"service": "RETRIEVE", "request_#": "BCSPWDT03T", "list": [["alice", "127.0.0.1", 5061, 5071, "demo1.txt", "505char.txt"], ["bob", "127.0.0.1", 5062, 5072]]}"#,
        );
        k(
            Answer::Person(people().remove(0)),
            "TSD1FFIF6K",
            r#"{"service": "RETRIEVE-INFOT", "request_#": "TSD1FFIF6K", "name": "alice", "IP": "127.0.0.1", "TCP_socket": 5071, "list": ["demo1.txt", "505char.txt"]}"#,
        );
        k(
            Answer::RetrieveError(Denial::NoSuchPerson("dora".to_owned())),
            "C3CH0AP9LX",
            r#"{"service": "RETRIEVE-ERROR", "request_#": "C3CH0AP9LX", "reason": "No such client exists"}"#,
        );
        let rows = vec![row("alice", 5061, 5071, &[]), row("bob", 5062, 5072, &[])];
        k(
            Answer::Owners { file: "505char.txt".to_owned(), rows },
            "X",
            r#"{"service": "SEARCH-FILE", "request_#": "X", "list": [[["alice", "127.0.0.1", 5061, 5071]], [["bob", "127.0.0.1", 5062, 5072]]]}"#,
        );
        k(
            Answer::Owners { file: "none.txt".to_owned(), rows: Vec::new() },
            "X",
            r#"{"service": "SEARCH-ERROR", "request_#": "X", "reason": "File name does not exist!"}"#,
        );
        let ip = IpAddr::from([127, 0, 0, 1]);
        k(
            Answer::Updated { name: "bob".to_owned(), ip, udp: json!(5062), tcp: json!("5073") },
            "X",
            r#"{"service": "UPDATE-CONFIRMED", "request_#": "X", "name": "bob", "IP": "127.0.0.1", "UDP_socket": 5062, "TCP_socket": "5073"}"#,
        );
        k(
            Answer::PublishDenied(Denial::Unregistered("dora".to_owned())),
            "X",
            r#"{"service": "PUBLISH-DENIED", "request_#": "X", "reason": "Client does not exist!"}"#,
        );
        assert_eq!(Answer::DeRegistered.encode(Variant::K, &json!("X")), None);
    }

    #[test]
    fn a_prints_everybody_into_text() {
        let a = |answer, says: &str| check(answer, Variant::A, json!(7), says);
        a(
            Answer::Everybody(vec![row("alice", 5061, 5071, &["ü.txt"])]),
            r#"{"TYPE": "RETRIEVE", "rq": 7, "list_of_clients": ["{\"name\": \"alice\", \"ip_address\": \"127.0.0.1\", \"tcp_socket\": 5071, \"list_of_available_files\": [\"\\u00fc.txt\"]}"]}"#,
        );
        a(
            Answer::Owners { file: "a".to_owned(), rows: vec![row("alice", 5061, 5071, &[])] },
            r#"{"TYPE": "SEARCH-FILE", "rq": 7, "list_of_clients": [{"name": "alice", "ip_address": "127.0.0.1", "tcp_socket": 5071}]}"#,
        );
        a(
            Answer::Person(row("bob", 5062, 5072, &[])),
            r#"{"TYPE": "RETRIEVE-INFOT", "rq": 7, "name": "bob", "ip_address": "127.0.0.1", "tcp_socket": 5072, "list_of_available_files": []}"#,
        );
        a(
            Answer::UpdateDenied { name: "bob".to_owned(), denial: Denial::NobodyToUpdate("bob".to_owned()) },
            r#"{"TYPE": "UPDATE-DENIED", "rq": 7, "name": "bob", "reason": "Client bob is not registered"}"#,
        );
        assert_eq!(Answer::DeRegistered.encode(Variant::A, &json!(7)), None);
    }

    #[test]
    fn j_has_everything_in_data_and_no_error_for_finding_nothing() {
        let j = |answer, says: &str| check(answer, Variant::J, json!("e7"), says);
        j(
            Answer::Everybody(people()),
            r#"{"header": "RETRIEVE", "RQ": "e7", "data": {"clients": [{"name": "alice", "ip": "127.0.0.1", "tcp_socket": 5071, "files": ["demo1.txt", "505char.txt"]}, {"name": "bob", "ip": "127.0.0.1", "tcp_socket": 5072, "files": []}], "files": [{"name": "505char.txt", "clients": [{"name": "alice", "ip": "127.0.0.1", "tcp_socket": 5071}]}, {"name": "demo1.txt", "clients": [{"name": "alice", "ip": "127.0.0.1", "tcp_socket": 5071}]}]}}"#,
        );
        j(
            Answer::Owners { file: "none.txt".to_owned(), rows: Vec::new() },
            r#"{"header": "SEARCH-FILE", "RQ": "e7", "data": []}"#,
        );
        j(Answer::DeRegistered, "null");
        j(Answer::Unknown { kind: "DANCE".to_owned() }, r#"{"header": "ERROR", "reason": "Invalid header: DANCE"}"#);
    }

    #[test]
    fn an_answer_that_is_too_long_is_whole_and_shows_as_many_as_it_can() {
        let long: Vec<String> = (0..64).map(|number| format!("{number}-{}.txt", "x".repeat(200))).collect();
        let long: Vec<&str> = long.iter().map(String::as_str).collect();
        let mut rows = vec![row("alice", 5061, 5071, &long)];
        rows.extend((0..9).map(|number| row(&format!("person{number}"), 5000, 6000, &["a.txt", "b.txt"])));
        let number = json!("BCSPWDT03T");

        let k = Answer::Everybody(rows.clone()).encode(Variant::K, &number).unwrap();
        assert!(k.len() <= 1_024, "{}", k.len());
        let k: Value = serde_json::from_slice(&k).unwrap();
        let shown = k["list"].as_array().unwrap();
        assert_eq!(shown.len(), 10, "one person's long names do not crowd others out: {k}");
        assert!(shown.iter().skip(1).all(|row| row.as_array().unwrap().len() == 6), "{k}");

        let person = Answer::Person(rows.remove(0)).encode(Variant::K, &number).unwrap();
        assert!(person.len() <= 1_024, "{}", person.len());
        let person: Value = serde_json::from_slice(&person).unwrap();
        assert_eq!(person["list"].as_array().unwrap().len(), 4, "{person}");

        let many: Vec<Row> = (0..300).map(|number| row(&format!("person{number}"), 5000, 6000, &[])).collect();
        for variant in Variant::ALL {
            let bytes = Answer::Everybody(many.clone()).encode(variant, &number).unwrap();
            assert!(bytes.len() <= variant.answer_bytes_max() && bytes.len() > variant.answer_bytes_max() - 150);
            let whole: Value = serde_json::from_slice(&bytes).unwrap();
            assert!(whole.is_object());
        }
    }
}
