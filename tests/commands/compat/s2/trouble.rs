//! What must not end well for some: crashes, frames that lie, programs that never end. Others are served meanwhile.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener};

use serde_json::json;

use super::program::{Kind, Program, connect};
use super::{address, directory, found};
use crate::compat::{door, flood};
use crate::program::{DEADLINE, World};

#[test]
fn names_contacts_and_lists_survive_a_crash() {
    let world = World::new();
    // Ports of its own: no other test may take one between the crash and the return.
    let doors = |server: &str| format!("--compat s2={server} --compat-ports 18100-18149 --relay-ports any");
    let mut directory = world.directory_that("127.0.0.1:0", &doors("127.0.0.1:0"));
    let server = door(&directory, "s2");
    let alice = world.person("alice", &directory);
    let kate = Program::start(Kind::K, server).registers("Kate");
    let anna = Program::start(Kind::A, server).registers("anna");
    kate.publishes("kate", &[("notes.txt", "some notes")]);
    let mut peer = alice.peer();
    found(&alice, "notes.txt");
    let everybody = r#"{"service": "RETRIEVE-ALL", "request_#": "T"}"#;
    let before = kate.answer(everybody);
    assert_eq!(before["list"].as_array().unwrap().len(), 2, "{before}");

    directory.process.kill();
    directory = world.directory_that(&directory.address.to_string(), &doors(&server.to_string()));

    // Nobody registers again, and ports stand for the same people.
    assert_eq!(kate.answer(everybody), before);
    kate.asks(
        kate.registration("AGAIN", "kate"),
        r#"{"service": "REGISTER-DENIED", "request_#": "AGAIN", "reason": "CLIENT ALREADY EXISTS"}"#,
    );
    anna.has("new.txt", "after the crash");
    anna.asks(
        r#"{"TYPE": "PUBLISH", "rq": 2, "name": "anna", "list_of_files": ["new.txt"]}"#,
        r#"{"TYPE": "PUBLISHED", "rq": 2}"#,
    );
    let row = before["list"].as_array().unwrap().iter().find(|row| row[0] == "anna").unwrap();
    assert_eq!(kate.fetches(address(row), "new.txt").as_deref(), Ok("after the crash"));
    peer.event("logged_in");
    alice.rows("get", &["kate:notes.txt"]);
    assert_eq!(std::fs::read_to_string(alice.folder().join("notes.txt")).unwrap(), "some notes");
    drop(directory);
}

#[test]
fn hostile_frames_and_datagrams_leave_others_served() {
    let world = World::new();
    let (directory, server) = directory(&world);
    let alice = world.person("alice", &directory);
    let _peer = alice.peer();
    alice.file("notes.txt", "some notes");
    alice.rows("share", &["notes.txt"]);
    let kate = Program::start(Kind::K, server).registers("kate");
    let at = address(&kate.answer(r#"{"service": "RETRIEVE-ALL", "request_#": "T1"}"#)["list"][0]);
    let here = IpAddr::from(Ipv4Addr::LOCALHOST);

    // A length that nobody needs, what is neither length nor object, an object without end, and silence.
    let mut ended = Vec::new();
    for bytes in [&b"\0\x10\0\0"[..], b"\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n"] {
        let mut hostile = connect(here, at);
        hostile.write_all(bytes).unwrap();
        ended.push(hostile);
    }
    let mut endless = connect(here, at);
    endless.write_all(&b"{\"a\": ".repeat(5_000)).unwrap();
    let _silent = connect(here, at);
    let mut half = connect(here, at);
    half.write_all(b"\0\0\0\x42{\"service").unwrap();
    let other = Program::start_at(IpAddr::from([127, 0, 0, 3]), Kind::K, server);
    for number in 0_u32..3_000 {
        let deep = "[".repeat(2_000);
        other.say(match number % 4 {
            0 => format!(r#"{{"service": "RETRIEVE-ALL", "request_#": {deep}"#),
            1 => format!(r#"{{"service": "RETRIEVE-ALL", "request_#": "{number}"}}"#),
            2 => r#"{"service": "PUBLISH", "service": "PUBLISH"}"#.to_owned(),
            _ => "\u{0}\u{1}".repeat(4_000),
        });
    }

    assert_eq!(kate.fetches(at, "notes.txt").as_deref(), Ok("some notes"));
    let all = kate.answer(r#"{"service": "RETRIEVE-ALL", "request_#": "T2"}"#);
    assert_eq!(all["list"].as_array().unwrap().len(), 2, "{all}");
    for mut hostile in ended.into_iter().chain([endless, half]) {
        let mut rest = Vec::new();
        // It is closed, gently or not.
        drop(hostile.read_to_end(&mut rest));
        assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    }
}

#[test]
fn a_flood_leaves_the_door_open() {
    let world = World::new();
    let (_directory, server) = directory(&world);
    let kate = Program::start(Kind::K, server).registers("kate");
    let (ticks, flood) = flood(move |number| {
        let request = match number % 4 {
            0 => format!(
                r#"{{"service": "REGISTER", "request_#": "{number}", "name": "x{number}/", "IP": "127.0.0.3", "UDP_socket": 5061, "TCP_socket": 5071}}"#
            ),
            1 => format!(r#"{{"TYPE": "PUBLISH", "rq": {number}, "name": "kate", "list_of_files": ["x"]}}"#),
            2 => format!(r#"{{"header": "DANCE{number}"}}"#),
            _ => "[".repeat(150),
        };
        (server, request.into_bytes())
    });
    for round in 0..50 {
        ticks.recv_timeout(DEADLINE).expect("the flood goes on");
        let asked = format!(r#"{{"service": "RETRIEVE-INFOT", "request_#": "R{round}", "name": "kate"}}"#);
        let answer = kate.answer_after_tries(&asked, 5);
        assert_eq!((&answer["request_#"], &answer["name"]), (&json!(format!("R{round}")), &json!("kate")));
    }
    assert!(flood.join().expect("it only sends") > 90_000, "nearly all was sent");
}

#[test]
fn a_list_that_cannot_be_fetched_does_not_hold_others_up() {
    let world = World::new();
    let (directory, server) = directory(&world);
    let alice = world.person("alice", &directory);
    let _peer = alice.peer();
    // It listens and never says anything.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let mallory = Program::start(Kind::K, server);
    let port = mute.local_addr().unwrap().port();
    let register = json!({"service": "REGISTER", "request_#": "1", "name": "mallory", "IP": "127.0.0.1", "UDP_socket": mallory.udp_port(), "TCP_socket": port});
    mallory.asks(register.to_string(), r#"{"service": "REGISTERED", "request_#": "1"}"#);
    mallory.publishes("mallory", &[("a.txt", ""), ("b.txt", ""), ("c.txt", "")]);
    // And one whose chunks have no end.
    let endless = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = endless.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut tcp in endless.incoming().map_while(Result::ok) {
            let chunk = r#"{"header": "FILE", "RQ": 1, "file_name": "e.txt", "chunk_number": 1, "text": ""}"#;
            while tcp.write_all(chunk.as_bytes()).is_ok() {}
        }
    });
    let eve = Program::start(Kind::J, server);
    let register = json!({"header": "REGISTER", "RQ": "1", "name": "eve", "ip": "127.0.0.1", "udp_socket": eve.udp_port(), "tcp_socket": port});
    eve.asks(register.to_string(), r#"{"header": "REGISTERED", "RQ": "1"}"#);
    eve.asks(
        r#"{"header": "PUBLISH", "RQ": "2", "name": "eve", "files": ["e.txt"]}"#,
        r#"{"header": "PUBLISHED", "RQ": "2"}"#,
    );

    let kate = Program::start(Kind::K, server).registers("kate");
    kate.publishes("kate", &[("notes.txt", "some notes")]);
    assert_eq!(found(&alice, "notes.txt")["owner"], "kate");
    let all = kate.answer(r#"{"service": "RETRIEVE-ALL", "request_#": "T"}"#);
    let eve = all["list"].as_array().unwrap().iter().find(|row| row[0] == "eve").unwrap();
    assert_eq!(kate.fetches(address(eve), "e.txt"), Err("this is no message of the dialect s2".to_owned()));
    assert!(alice.rows("find", &["a.txt"]).is_empty());
}
