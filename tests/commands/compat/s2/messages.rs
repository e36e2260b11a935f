//! Every message of every kind of program with its errors, in the bytes that are known of them.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};

use super::program::{Kind, Program};
use super::{directory, found};
use crate::program::World;

/// Another address of this machine.
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

#[test]
fn two_programs_of_kind_k_say_everything_there_is_to_say() {
    let world = World::new();
    let (_directory, server) = directory(&world);
    let (alice, bob) = (Program::start(Kind::K, server), Program::start(Kind::K, server));

    // Who is not registered is not answered; the first answer is to what comes after.
    alice.say(r#"{"service": "RETRIEVE-ALL", "request_#": "EARLY"}"#);
    alice.say(r#"{"service": "SEARCH-FILE", "request_#": "EARLY", "File-name": "demo1.txt"}"#);
    let publish = r#"{"service": "PUBLISH", "request_#": "1QE37FT1V9", "name": "alice", "list of files": ["demo1.txt", "505char.txt"]}"#;
    alice.asks(
        publish,
        r#"{"service": "PUBLISH-DENIED", "request_#": "1QE37FT1V9", "reason": "Client does not exist!"}"#,
    );
    alice.asks(alice.registration("7H62QRXRYU", "alice"), r#"{"service": "REGISTERED", "request_#": "7H62QRXRYU"}"#);
    bob.asks(bob.registration("BBBBBBBBBB", "Bob"), r#"{"service": "REGISTERED", "request_#": "BBBBBBBBBB"}"#);
    bob.asks(
        bob.registration("VVSA6LM9H7", "alice"),
        r#"{"service": "REGISTER-DENIED", "request_#": "VVSA6LM9H7", "reason": "CLIENT ALREADY EXISTS"}"#,
    );
    let denied = bob.answer(bob.registration("X1", "al ice"));
    assert_eq!(denied["service"], "REGISTER-DENIED", "{denied}");
    let low = r#"{"service": "REGISTER", "request_#": "X2", "name": "dora", "IP": "127.0.0.1", "UDP_socket": 5061, "TCP_socket": 80}"#;
    bob.asks(
        low,
        r#"{"service": "REGISTER-DENIED", "request_#": "X2", "reason": "a port is a number from 1024 to 65535"}"#,
    );

    let publish = publish.replace("1QE37FT1V9", "1QE37FT1VA");
    alice.asks(&publish, r#"{"service": "PUBLISHED", "request_#": "1QE37FT1VA"}"#);
    alice.asks(&publish, r#"{"service": "PUBLISHED", "request_#": "1QE37FT1VA"}"#);
    let (a_udp, a_tcp, b_udp, b_tcp) = (alice.udp_port(), alice.tcp_port(), bob.udp_port(), bob.tcp_port());
    let everybody = format!(
        r#"{{"service": "RETRIEVE", "request_#": "BCSPWDT03T", "list": [["alice", "127.0.0.1", {a_udp}, {a_tcp}, "demo1.txt", "505char.txt"], ["Bob", "127.0.0.1", {b_udp}, {b_tcp}]]}}"#
    );
    bob.asks(r#"{"service": "RETRIEVE-ALL", "request_#": "BCSPWDT03T"}"#, &everybody);
    bob.asks(
        r#"{"service": "RETRIEVE-INFOT", "request_#": "TSD1FFIF6K", "name": "alice"}"#,
        &format!(
            r#"{{"service": "RETRIEVE-INFOT", "request_#": "TSD1FFIF6K", "name": "alice", "IP": "127.0.0.1", "TCP_socket": {a_tcp}, "list": ["demo1.txt", "505char.txt"]}}"#
        ),
    );
    bob.asks(
        r#"{"service": "RETRIEVE-INFOT", "request_#": "C3CH0AP9LX", "name": "dora"}"#,
        r#"{"service": "RETRIEVE-ERROR", "request_#": "C3CH0AP9LX", "reason": "No such client exists"}"#,
    );
    bob.asks(
        r#"{"service": "SEARCH-FILE", "request_#": "S1", "File-name": "505char.txt"}"#,
        &format!(
            r#"{{"service": "SEARCH-FILE", "request_#": "S1", "list": [[["alice", "127.0.0.1", {a_udp}, {a_tcp}]]]}}"#
        ),
    );
    bob.asks(
        r#"{"service": "SEARCH-FILE", "request_#": "S2", "File-name": "505"}"#,
        r#"{"service": "SEARCH-ERROR", "request_#": "S2", "reason": "File name does not exist!"}"#,
    );
    bob.asks(
        r#"{"service": "UPDATE-CONTACT", "request_#": "U1", "name": "bob", "IP": "127.0.0.1", "UDP_socket": 5062, "TCP_socket": "5073"}"#,
        r#"{"service": "UPDATE-CONFIRMED", "request_#": "U1", "name": "bob", "IP": "127.0.0.1", "UDP_socket": 5062, "TCP_socket": "5073"}"#,
    );
    bob.asks(
        r#"{"service": "UPDATE-CONTACT", "request_#": "U2", "name": "dora", "IP": "127.0.0.1", "UDP_socket": 5062, "TCP_socket": "5073"}"#,
        r#"{"service": "UPDATE-DENIED", "request_#": "U2", "name": "dora", "reason": "Client does not exist!"}"#,
    );
    alice.asks(
        r#"{"service": "RETRIEVE-INFOT", "request_#": "I2", "name": "bob"}"#,
        r#"{"service": "RETRIEVE-INFOT", "request_#": "I2", "name": "Bob", "IP": "127.0.0.1", "TCP_socket": 5073, "list": []}"#,
    );
    let remove = |number: &str, file: &str| {
        format!(r#"{{"service": "REMOVE", "request_#": "{number}", "name": "alice", "list of files": ["{file}"]}}"#)
    };
    alice.asks(remove("R1", "demo1.txt"), r#"{"service": "REMOVED", "request_#": "R1"}"#);
    alice.asks(remove("R1", "demo1.txt"), r#"{"service": "REMOVED", "request_#": "R1"}"#);
    alice.asks(
        remove("R2", "demo1.txt"),
        r#"{"service": "REMOVE-DENIED", "request_#": "R2", "reason": "File name does not exist!"}"#,
    );
}

#[test]
fn leaving_has_no_answer_and_one_may_come_back_at_once() {
    let world = World::new();
    let (_directory, server) = directory(&world);
    let alice = Program::start(Kind::K, server).registers("alice");
    alice.publishes("alice", &[("notes.txt", "some notes")]);
    let elsewhere = Program::start_at(ELSEWHERE, Kind::K, server);

    // A name is its program's: from elsewhere nobody can take it out, and others cannot have it.
    elsewhere.say(r#"{"service": "DE-REGISTER", "request_#": "D1", "name": "alice"}"#);
    let wrong = elsewhere
        .answer(r#"{"service": "REMOVE", "request_#": "D2", "name": "alice", "list of files": ["notes.txt"]}"#);
    assert_eq!(wrong["reason"], "this name is registered from another address");
    let denied = elsewhere.answer(
        r#"{"service": "UPDATE-CONTACT", "request_#": "D3", "name": "alice", "IP": "127.0.0.2", "UDP_socket": 6000, "TCP_socket": 6001}"#,
    );
    assert_eq!((&denied["service"], &denied["name"]), (&json!("UPDATE-DENIED"), &json!("alice")));
    let info = alice.answer(r#"{"service": "RETRIEVE-INFOT", "request_#": "I1", "name": "ALICE"}"#);
    assert_eq!(info["list"], json!(["notes.txt"]));

    // It gives it up itself: no answer, and the next answer is to the next request.
    alice.say(r#"{"service": "DE-REGISTER", "request_#": "D4", "name": "alice"}"#);
    alice.say(r#"{"service": "DE-REGISTER", "request_#": "D5", "name": "nobody"}"#);
    alice.asks(alice.registration("AGAIN", "alice"), r#"{"service": "REGISTERED", "request_#": "AGAIN"}"#);
    let info = alice.answer(r#"{"service": "RETRIEVE-INFOT", "request_#": "I2", "name": "alice"}"#);
    assert_eq!(info["list"], json!([]), "everything was taken back");
    alice.say(r#"{"service": "DE-REGISTER", "request_#": "D6", "name": "alice"}"#);
    let gone = alice.answer(r#"{"service": "PUBLISH", "request_#": "P3", "name": "alice", "list of files": []}"#);
    assert_eq!(gone["reason"], "Client does not exist!", "a name that was given up is free");
    elsewhere.registers("alice");
}

#[test]
fn programs_of_kind_a_have_everything_in_their_words() {
    let world = World::new();
    let (_directory, server) = directory(&world);
    let (anna, other) = (Program::start(Kind::A, server), Program::start(Kind::A, server));
    anna.asks(
        r#"{"TYPE": "UPDATE-CONTACT", "rq": 0, "name": "anna", "ip_address": "127.0.0.1", "udp_socket": 5000, "tcp_socket": 5001}"#,
        r#"{"TYPE": "UPDATE-DENIED", "rq": 0, "name": "anna", "reason": "Client anna is not registered"}"#,
    );
    anna.asks(anna.registration("1", "anna"), r#"{"TYPE": "REGISTERED", "rq": 1}"#);
    other.asks(
        other.registration("0", "anna"),
        r#"{"TYPE": "REGISTER-DENIED", "rq": 0, "reason": "Client with same name already registered!"}"#,
    );
    anna.asks(
        r#"{"TYPE": "PUBLISH", "rq": 2, "name": "anna", "list_of_files": ["caf\u00e9.txt", " b.txt"]}"#,
        r#"{"TYPE": "PUBLISHED", "rq": 2}"#,
    );
    let tcp = anna.tcp_port();
    anna.asks(
        r#"{"TYPE": "RETRIEVE-ALL", "rq": 3}"#,
        &format!(
            r#"{{"TYPE": "RETRIEVE", "rq": 3, "list_of_clients": ["{{\"name\": \"anna\", \"ip_address\": \"127.0.0.1\", \"tcp_socket\": {tcp}, \"list_of_available_files\": [\"caf\\u00e9.txt\", \"b.txt\"]}}"]}}"#
        ),
    );
    anna.asks(
        r#"{"TYPE": "RETRIEVE-INFOT", "rq": 4, "name": "anna"}"#,
        &format!(
            r#"{{"TYPE": "RETRIEVE-INFOT", "rq": 4, "name": "anna", "ip_address": "127.0.0.1", "tcp_socket": {tcp}, "list_of_available_files": ["caf\u00e9.txt", "b.txt"]}}"#
        ),
    );
    anna.asks(
        r#"{"TYPE": "SEARCH-FILE", "rq": 5, "file_name": "b.txt"}"#,
        &format!(
            r#"{{"TYPE": "SEARCH-FILE", "rq": 5, "list_of_clients": [{{"name": "anna", "ip_address": "127.0.0.1", "tcp_socket": {tcp}}}]}}"#
        ),
    );
    anna.asks(
        r#"{"TYPE": "SEARCH-FILE", "rq": 6, "file_name": "c.txt"}"#,
        r#"{"TYPE": "SEARCH-ERROR", "rq": 6, "reason": "c.txt is not published"}"#,
    );
    anna.asks(
        r#"{"TYPE": "REMOVE", "rq": 7, "name": "anna", "list_of_files_to_remove": ["b.txt"]}"#,
        r#"{"TYPE": "REMOVED", "rq": 7}"#,
    );
    anna.asks(
        r#"{"TYPE": "REMOVE", "rq": 8, "name": "anna", "list_of_files_to_remove": ["b.txt"]}"#,
        r#"{"TYPE": "REMOVE-DENIED", "rq": 8, "reason": "One or many files name unmatched."}"#,
    );
    anna.say(r#"{"TYPE": "DANCE", "rq": 9}"#);
    anna.say(r#"{"TYPE": "DE-REGISTER", "rq": 10, "name": "anna"}"#);
    anna.asks(
        r#"{"TYPE": "PUBLISH", "rq": 11, "name": "anna", "list_of_files": []}"#,
        r#"{"TYPE": "PUBLISH-DENIED", "rq": 11, "reason": "Client anna is not registered"}"#,
    );
}

#[test]
fn programs_of_kind_j_have_everything_in_their_words() {
    let world = World::new();
    let (_directory, server) = directory(&world);
    let (jane, kate) = (Program::start(Kind::J, server), Program::start(Kind::K, server).registers("kate"));
    jane.asks(jane.registration("e7-1", "jane"), r#"{"header": "REGISTERED", "RQ": "e7-1"}"#);
    kate.answer(kate.registration("x", "jane"));
    jane.asks(
        jane.registration("e7-2", "jane"),
        r#"{"header": "REGISTER-DENIED", "RQ": "e7-2", "reason": "Already registered."}"#,
    );
    jane.asks(
        r#"{"header": "PUBLISH", "RQ": "e7-3", "name": "jane", "files": ["a.txt"]}"#,
        r#"{"header": "PUBLISHED", "RQ": "e7-3"}"#,
    );
    let all = jane.answer(r#"{"header": "RETRIEVE-ALL", "RQ": "e7-4", "name": "jane"}"#);
    let (me, tcp) = (json!({"name": "jane", "ip": "127.0.0.1", "tcp_socket": jane.tcp_port()}), jane.tcp_port());
    assert_eq!(all["data"]["files"], json!([{"name": "a.txt", "clients": [me]}]));
    let clients = all["data"]["clients"].as_array().unwrap();
    assert_eq!(clients[0], json!({"name": "jane", "ip": "127.0.0.1", "tcp_socket": tcp, "files": ["a.txt"]}));
    assert_eq!((&clients[1]["name"], clients.len()), (&json!("kate"), 2));
    assert_ne!(clients[1]["tcp_socket"], kate.tcp_port(), "they would not understand each other");
    jane.asks(
        r#"{"header": "RETRIEVE-INFOT", "RQ": "e7-5", "name": "jane", "client_name": "jane"}"#,
        &format!(
            r#"{{"header": "RETRIEVE-INFOT", "RQ": "e7-5", "name": "jane", "ip": "127.0.0.1", "tcp_socket": {tcp}, "files": ["a.txt"]}}"#
        ),
    );
    jane.asks(
        r#"{"header": "RETRIEVE-INFOT", "RQ": "e7-6", "name": "jane", "client_name": "dora"}"#,
        r#"{"header": "RETRIEVE-ERROR", "RQ": "e7-6", "reason": "Client not registered."}"#,
    );
    jane.asks(
        r#"{"header": "SEARCH-FILE", "RQ": "e7-7", "name": "jane", "file_name": "a.txt"}"#,
        &format!(
            r#"{{"header": "SEARCH-FILE", "RQ": "e7-7", "data": [{{"name": "jane", "ip": "127.0.0.1", "tcp_socket": {tcp}}}]}}"#
        ),
    );
    jane.asks(
        r#"{"header": "SEARCH-FILE", "RQ": "e7-8", "name": "jane", "file_name": "none.txt"}"#,
        r#"{"header": "SEARCH-FILE", "RQ": "e7-8", "data": []}"#,
    );
    jane.asks(
        r#"{"header": "UPDATE-CONTACT", "RQ": "e7-9", "name": "jane", "ip": "127.0.0.1", "udp_socket": 5000, "tcp_socket": 5001}"#,
        r#"{"header": "UPDATE-CONFIRMED", "RQ": "e7-9", "name": "jane", "ip": "127.0.0.1", "udp_socket": 5000, "tcp_socket": 5001}"#,
    );
    jane.asks(r#"{"header": "DANCE", "RQ": "e7-a"}"#, r#"{"header": "ERROR", "reason": "Invalid header: DANCE"}"#);
    jane.say(r#"{"header": "ERROR", "reason": "x"}"#);
    jane.say(r#"{"header": "RETRIEVE-ALL", "RQ": "e7-b", "name": "kat"}"#);
    jane.asks(r#"{"header": "DE-REGISTER", "RQ": "e7-c", "name": "nobody"}"#, "null");
    jane.asks(r#"{"header": "DE-REGISTER", "RQ": "e7-d", "name": "jane"}"#, "null");
    jane.asks(
        r#"{"header": "REMOVE", "RQ": "e7-e", "name": "jane", "files": "a.txt"}"#,
        r#"{"header": "REMOVE-DENIED", "RQ": "e7-e", "reason": "Not registered"}"#,
    );
}

#[test]
fn lists_beyond_the_originals_buffers_work_and_answers_stay_within_them() {
    let world = World::new();
    let (_directory, server) = directory(&world);
    let bob = Program::start(Kind::K, server).registers("bob");
    let files: Vec<String> = (0..60).map(|number| format!("{number}-{}.txt", "long".repeat(12))).collect();
    let publish = |number: &str, files: &[String]| {
        json!({"service": "PUBLISH", "request_#": number, "name": "bob", "list of files": files}).to_string()
    };
    assert!(publish("P1", &files).len() > 2_048);
    bob.asks(publish("P1", &files), r#"{"service": "PUBLISHED", "request_#": "P1"}"#);
    let more: Vec<String> = (0..5).map(|number| format!("more{number}.txt")).collect();
    bob.asks(
        publish("P2", &more),
        r#"{"service": "PUBLISH-DENIED", "request_#": "P2", "reason": "a list has at most 64 files"}"#,
    );
    for bad in ["../../etc/passwd", "a/b.txt", "", ".."] {
        let denied = bob.answer(publish(&format!("X{bad}"), &[bad.to_owned()]));
        assert_eq!(denied["service"], "PUBLISH-DENIED", "{denied}");
        assert!(denied["reason"].as_str().unwrap().contains("file name"), "{denied}");
    }
    let all = bob.answer(r#"{"service": "RETRIEVE-ALL", "request_#": "R1"}"#);
    let shown = all["list"][0].as_array().unwrap().len() - 4;
    assert!((10..60).contains(&shown), "as many as fit: {shown}");
    let one: Value =
        bob.answer(json!({"service": "SEARCH-FILE", "request_#": "S1", "File-name": files[59]}).to_string());
    assert_eq!(one["list"][0][0][0], "bob", "what is not shown is found: {one}");
}

#[test]
fn people_of_qchat_are_shown_when_they_publish_and_let_themselves_be_seen() {
    let world = World::new();
    let (directory, server) = directory(&world);
    let alice = world.person("alice", &directory);
    let _peer = alice.peer();
    let kate = Program::start(Kind::K, server).registers("kate");
    let all = || kate.answer(json!({"service": "RETRIEVE-ALL", "request_#": uuid()}).to_string());
    let info = || kate.answer(json!({"service": "RETRIEVE-INFOT", "request_#": uuid(), "name": "alice"}).to_string());

    assert_eq!(all()["list"].as_array().unwrap().len(), 1, "who publishes nothing is not in the table");
    let on_demand = info();
    assert_eq!((&on_demand["IP"], &on_demand["list"]), (&json!("127.0.0.1"), &json!([])));
    alice.file("shared.txt", "some text");
    alice.rows("share", &["shared.txt"]);
    found(&alice, "shared.txt");
    let row = all()["list"][0].clone();
    assert_eq!(row, json!(["alice", "127.0.0.1", server.port(), on_demand["TCP_socket"], "shared.txt"]));

    alice.rows("block", &["kate"]);
    assert_eq!(all()["list"].as_array().unwrap().len(), 1, "whom alice blocks does not see her");
    assert_eq!(info()["reason"], "No such client exists");
    let denied = kate.answer(kate.registration("N1", "alice"));
    assert_eq!(denied["service"], "REGISTER-DENIED", "a name with a key is nobody else's: {denied}");
}

/// A number that no other request has.
fn uuid() -> String {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    format!("N{}", COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
}
