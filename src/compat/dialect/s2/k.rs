//! The words of K: flat rows, owners of a file in lists of their own, reasons as it writes them.

use super::Words;
use super::answers::{Denial, Row};
use super::object::Json;

pub(super) const WORDS: Words = Words {
    kind: "service",
    number: "request_#",
    name: "name",
    ip: "IP",
    udp: "UDP_socket",
    tcp: "TCP_socket",
    asker: None,
    published: "list of files",
    removed: "list of files",
    wanted: "name",
    searched: "File-name",
    rows: "list",
    files: "list",
    reason: "reason",
    file: "filename",
    chunk: "chunk_#",
    first_chunk: 0,
    text: "Text",
    download_reason: "Reason",
    is_finding_nothing_an_error: true,
    people,
    owners,
    denial,
};

/// `[["alice", "127.0.0.1", 5061, 5071, "demo1.txt", "505char.txt"], ["bob", "127.0.0.1", 5062, 5072]]`
fn people(rows: &[Row]) -> Json {
    let flat = |row: &Row| {
        let mut values = contact(row);
        values.extend(row.files.iter().map(|file| Json::plain(file.as_str())));
        Json::List(values)
    };
    Json::List(rows.iter().map(flat).collect())
}

/// `[[["alice", "127.0.0.1", 5061, 5071]]]`: for each owner what its database gives for them, a list of one row.
fn owners(rows: &[Row]) -> Json {
    Json::List(rows.iter().map(|row| Json::List(vec![Json::List(contact(row))])).collect())
}

fn contact(row: &Row) -> Vec<Json> {
    vec![Json::plain(row.name.as_str()), Json::plain(row.ip.to_string()), Json::plain(row.udp), Json::plain(row.tcp)]
}

fn denial(denial: &Denial) -> String {
    match denial {
        Denial::NameInUse => "CLIENT ALREADY EXISTS".to_owned(),
        Denial::Unregistered(_) | Denial::NobodyToUpdate(_) => "Client does not exist!".to_owned(),
        Denial::NoSuchPerson(_) => "No such client exists".to_owned(),
        Denial::NoSuchFile(_) | Denial::NotListed(_) => "File name does not exist!".to_owned(),
        Denial::Because(reason) => reason.clone(),
    }
}
