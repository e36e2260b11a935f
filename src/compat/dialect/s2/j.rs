//! The words of J: everything in objects, the list of all both by person and by file.

use std::collections::BTreeMap;

use super::Words;
use super::answers::{Denial, Row, contact};
use super::object::Json;

pub(super) const WORDS: Words = Words {
    kind: "header",
    number: "RQ",
    name: "name",
    ip: "ip",
    udp: "udp_socket",
    tcp: "tcp_socket",
    asker: Some("name"),
    published: "files",
    removed: "files",
    wanted: "client_name",
    searched: "file_name",
    rows: "data",
    files: "files",
    reason: "reason",
    file: "file_name",
    chunk: "chunk_number",
    first_chunk: 1,
    text: "text",
    download_reason: "reason",
    is_finding_nothing_an_error: false,
    people,
    owners,
    denial,
};

/// `{"clients": [everybody with their files], "files": [every file with those who have it]}`
fn people(rows: &[Row]) -> Json {
    let mut by_file: BTreeMap<&str, Vec<Json>> = BTreeMap::new();
    for row in rows {
        for file in &row.files {
            by_file.entry(file).or_default().push(Json::Object(contact(&WORDS, row)));
        }
    }
    let person = |row: &Row| {
        let mut fields = contact(&WORDS, row);
        let files = row.files.iter().map(|file| Json::plain(file.as_str())).collect();
        fields.push((WORDS.files, Json::List(files)));
        Json::Object(fields)
    };
    let file = |(name, owners): (&str, Vec<Json>)| {
        Json::Object(vec![(WORDS.name, Json::plain(name)), ("clients", Json::List(owners))])
    };
    let people = rows.iter().map(person).collect();
    let files = by_file.into_iter().map(file).collect();
    Json::Object(vec![("clients", Json::List(people)), ("files", Json::List(files))])
}

fn owners(rows: &[Row]) -> Json {
    Json::List(rows.iter().map(|row| Json::Object(contact(&WORDS, row))).collect())
}

fn denial(denial: &Denial) -> String {
    match denial {
        Denial::NameInUse => "Already registered.".to_owned(),
        Denial::Unregistered(_) | Denial::NobodyToUpdate(_) => "Not registered".to_owned(),
        Denial::NoSuchPerson(_) => "Client not registered.".to_owned(),
        Denial::NoSuchFile(file) => format!("{file} is not published"),
        Denial::NotListed(file) => format!("{file} is not in the list"),
        Denial::Because(reason) => reason.clone(),
    }
}
