//! Files across: from programs of one kind to those of another, and between them and people who use qchat.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::program::{Kind, Program, connect, receive};
use super::{address, directory, found};
use crate::program::{World, content};

/// Where one person is, by RETRIEVE-INFOT of kind K.
#[track_caller]
fn address_of(kate: &Program, name: &str) -> SocketAddr {
    let info = kate.answer(json!({"service": "RETRIEVE-INFOT", "request_#": name, "name": name}).to_string());
    let port = info["TCP_socket"].as_u64().unwrap_or_else(|| panic!("{info}"));
    SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(port).expect("a port")))
}

#[test]
fn what_people_of_qchat_publish_is_fetched_by_every_kind_of_program() {
    let world = World::new();
    let (directory, server) = directory(&world);
    let alice = world.person("alice", &directory);
    let _peer = alice.peer();
    let large = "0123456789".repeat(10_000);
    let texts = [
        ("505char.txt", "x".repeat(505)),
        ("other.txt", format!("\"{}\\\n|", "ü😀".repeat(150))),
        ("empty.txt", String::new()),
        ("large.txt", large),
        ("long.txt", "y".repeat(200_001)),
    ];
    for (name, text) in &texts {
        alice.file(name, text);
        alice.rows("share", &[name]);
    }
    alice.file("binary.dat", content(3_000));
    alice.rows("share", &["binary.dat"]);
    let kate = Program::start(Kind::K, server).registers("kate");
    let table = kate.answer(r#"{"service": "RETRIEVE-ALL", "request_#": "T"}"#);
    assert_eq!(table["list"][0].as_array().unwrap().len(), 4 + 6, "{table}");
    let at = address(&table["list"][0]);

    for (name, text) in &texts[..4] {
        assert!(kate.fetches(at, name).as_ref() == Ok(text), "{name}");
    }
    assert_eq!(kate.fetches(at, "long.txt"), Err("it is longer than 200000 characters".to_owned()));
    assert_eq!(kate.fetches(at, "binary.dat"), Err("binary.dat is no text".to_owned()));
    assert_eq!(kate.fetches(at, "none.txt"), Err("Requested file does not exist".to_owned()));
    assert_eq!(kate.fetches(at, "../large.txt"), Err("Requested file does not exist".to_owned()));

    let anna = Program::start(Kind::A, server).registers("anna");
    assert!(anna.fetches(at, "long.txt").as_ref() == Ok(&texts[4].1), "only K's programs have an end");
    assert_eq!(anna.fetches(at, "none.txt"), Err("Requested file does not exist".to_owned()));
    let jane = Program::start(Kind::J, server).registers("jane");
    for (name, text) in &texts[..3] {
        let began = Instant::now();
        assert!(jane.fetches(at, name).as_ref() == Ok(text), "{name}");
        let chunks = u32::try_from(text.chars().count().div_ceil(200)).expect("a few");
        let pauses = Duration::from_millis(100) * chunks.saturating_sub(1);
        assert!(began.elapsed() >= pauses, "its chunks come one by one, or it takes two for one");
    }
}

#[test]
fn what_a_program_of_kind_k_lists_is_fetched_by_people_of_qchat() {
    let world = World::new();
    let (directory, server) = directory(&world);
    let alice = world.person("alice", &directory);
    let _peer = alice.peer();
    let carol = Program::start(Kind::K, server).registers("Carol");
    let large = "ä|\"\\ 0123456789\n".repeat(6_000);
    carol.publishes("Carol", &[("notes.txt", "some notes"), ("empty.txt", ""), ("large.txt", &large)]);

    for (name, text) in [("notes.txt", "some notes"), ("empty.txt", ""), ("large.txt", large.as_str())] {
        assert_eq!(found(&alice, name)["owner"], "carol");
        alice.rows("get", &[&format!("carol:{name}")]);
        assert!(std::fs::read_to_string(alice.folder().join(name)).unwrap() == text, "{name}");
    }

    // Listed once more, it is fetched once more.
    carol.has("notes.txt", "other notes");
    carol.asks(
        r#"{"service": "PUBLISH", "request_#": "P2", "name": "carol", "list of files": ["notes.txt", "second.txt"]}"#,
        r#"{"service": "PUBLISHED", "request_#": "P2"}"#,
    );
    carol.has("second.txt", "it came later than its list");
    found(&alice, "second.txt");
    alice.rows("get --overwrite", &["carol:notes.txt"]);
    assert_eq!(std::fs::read_to_string(alice.folder().join("notes.txt")).unwrap(), "other notes");

    carol.asks(
        r#"{"service": "REMOVE", "request_#": "R1", "name": "carol", "list of files": ["notes.txt"]}"#,
        r#"{"service": "REMOVED", "request_#": "R1"}"#,
    );
    assert_ne!(alice.run("get --overwrite", &["carol:notes.txt"]).code, Some(0));
    carol.say(r#"{"service": "DE-REGISTER", "request_#": "D1", "name": "carol"}"#);
    carol.asks(
        r#"{"service": "REMOVE", "request_#": "R2", "name": "carol", "list of files": ["large.txt"]}"#,
        r#"{"service": "REMOVE-DENIED", "request_#": "R2", "reason": "Client does not exist!"}"#,
    );
    assert!(alice.rows("find", &["large.txt"]).iter().all(|row| row["owner"] != "carol"), "all is taken back");
}

#[test]
fn programs_of_different_kinds_fetch_from_each_other() {
    let world = World::new();
    let (_directory, server) = directory(&world);
    let anna = Program::start(Kind::A, server).registers("anna");
    let jane = Program::start(Kind::J, server).registers("jane");
    let kate = Program::start(Kind::K, server).registers("kate");
    let text = "é".repeat(450);
    anna.has("of anna.txt", &text);
    jane.has("of jane.txt", &text);
    kate.publishes("kate", &[("of kate.txt", &text)]);
    anna.asks(
        r#"{"TYPE": "PUBLISH", "rq": 2, "name": "anna", "list_of_files": ["of anna.txt"]}"#,
        r#"{"TYPE": "PUBLISHED", "rq": 2}"#,
    );
    jane.asks(
        r#"{"header": "PUBLISH", "RQ": "2", "name": "jane", "files": ["of jane.txt"]}"#,
        r#"{"header": "PUBLISHED", "RQ": "2"}"#,
    );

    let table = kate.answer(r#"{"service": "RETRIEVE-ALL", "request_#": "T"}"#);
    let rows = table["list"].as_array().unwrap();
    let row = |name: &str| rows.iter().find(|row| row[0] == name).unwrap_or_else(|| panic!("{name}: {table}"));
    assert_eq!(row("kate")[3], kate.tcp_port());
    assert_ne!(row("anna")[3], anna.tcp_port(), "a port stands for her");
    assert_eq!(kate.fetches(address(row("anna")), "of anna.txt").as_ref(), Ok(&text));
    assert_eq!(kate.fetches(address(row("jane")), "of jane.txt").as_ref(), Ok(&text));
    let found: Value = anna.answer(r#"{"TYPE": "SEARCH-FILE", "rq": 3, "file_name": "of kate.txt"}"#);
    let port = u16::try_from(found["list_of_clients"][0]["tcp_socket"].as_u64().unwrap()).unwrap();
    assert_eq!(anna.fetches(SocketAddr::from(([127, 0, 0, 1], port)), "of kate.txt").as_ref(), Ok(&text));
    assert_eq!(jane.fetches(SocketAddr::from(([127, 0, 0, 1], port)), "of kate.txt").as_ref(), Ok(&text));
}

#[test]
fn requests_are_understood_however_tcp_cuts_them() {
    let world = World::new();
    let (directory, server) = directory(&world);
    let alice = world.person("alice", &directory);
    let _peer = alice.peer();
    let text = "z".repeat(505);
    alice.file("505char.txt", &text);
    alice.rows("share", &["505char.txt"]);
    let kate = Program::start(Kind::K, server).registers("kate");
    let at = address_of(&kate, "alice");
    let here = IpAddr::from(Ipv4Addr::LOCALHOST);

    for kind in [Kind::K, Kind::J] {
        let request = kind.framed(&kind.download("505char.txt"));
        let mut bytewise = connect(here, at);
        bytewise.set_nodelay(true).unwrap();
        for byte in &request {
            bytewise.write_all(&[*byte]).unwrap();
        }
        assert_eq!(receive(kind, &mut bytewise, "505char.txt").as_ref(), Ok(&text));
        let mut twice = connect(here, at);
        twice.write_all(&request.repeat(2)).unwrap();
        assert_eq!(receive(kind, &mut twice, "505char.txt").as_ref(), Ok(&text));
        assert_eq!(receive(kind, &mut twice, "505char.txt").as_ref(), Ok(&text));
    }

    // The first bytes that K's programs read, as they were captured.
    let mut literal = connect(here, at);
    literal
        .write_all(b"\0\0\0\x42{\"service\": \"DOWNLOAD\", \"request_#\": 1, \"filename\": \"505char.txt\"}")
        .unwrap();
    let chunk = format!(
        r#"{{"service": "FILE", "request_#": 1, "filename": "505char.txt", "chunk_#": 0, "Text": "{}"}}"#,
        "z".repeat(200)
    );
    let mut frame = vec![0; 4 + chunk.len()];
    literal.read_exact(&mut frame).unwrap();
    assert_eq!(frame, Kind::K.framed(&chunk));

    for (request, reason) in [
        (
            r#"{"service": "REGISTER", "request_#": 7}"#,
            r#""request_#": 7, "Reason": "Peer can only provide DOWNLOAD service""#,
        ),
        ("DOWNLOAD", r#""request_#": null, "Reason": "Expected valid JSON request for DOWNLOAD""#),
    ] {
        let mut wrong = connect(here, at);
        wrong.write_all(&Kind::K.framed(request)).unwrap();
        let error = Kind::K.framed(&format!(r#"{{"service": "DOWNLOAD-ERROR", {reason}}}"#));
        let mut answer = vec![0; error.len()];
        wrong.read_exact(&mut answer).unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), String::from_utf8_lossy(&error));
    }

    // From where nobody is registered, nothing is handed out.
    let stranger = Program::start_at(IpAddr::from([127, 0, 0, 2]), Kind::K, server);
    assert!(stranger.fetches(at, "505char.txt").is_err_and(|error| error.starts_with("connection")));
}
