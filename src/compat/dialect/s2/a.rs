//! The words of A: everybody is an object, and in the list of all each of them is once more printed into text.

use super::Words;
use super::answers::{Denial, Row, contact};
use super::object::Json;

pub(super) const WORDS: Words = Words {
    kind: "TYPE",
    number: "rq",
    name: "name",
    ip: "ip_address",
    udp: "udp_socket",
    tcp: "tcp_socket",
    asker: None,
    published: "list_of_files",
    removed: "list_of_files_to_remove",
    wanted: "name",
    searched: "file_name",
    rows: "list_of_clients",
    files: "list_of_available_files",
    reason: "reason",
    file: "file_name",
    chunk: "chunk",
    first_chunk: 0,
    text: "text",
    download_reason: "reason",
    is_finding_nothing_an_error: true,
    people,
    owners,
    denial,
};

fn people(rows: &[Row]) -> Json {
    let printed = |row: &Row| {
        let mut fields = contact(&WORDS, row);
        let files = row.files.iter().map(|file| Json::plain(file.as_str())).collect();
        fields.push((WORDS.files, Json::List(files)));
        Json::plain(Json::Object(fields).printed())
    };
    Json::List(rows.iter().map(printed).collect())
}

fn owners(rows: &[Row]) -> Json {
    Json::List(rows.iter().map(|row| Json::Object(contact(&WORDS, row))).collect())
}

fn denial(denial: &Denial) -> String {
    match denial {
        Denial::NameInUse => "Client with same name already registered!".to_owned(),
        Denial::Unregistered(name) | Denial::NobodyToUpdate(name) | Denial::NoSuchPerson(name) => {
            format!("Client {name} is not registered")
        }
        Denial::NoSuchFile(file) => format!("{file} is not published"),
        Denial::NotListed(_) => "One or many files name unmatched.".to_owned(),
        Denial::Because(reason) => reason.clone(),
    }
}
