//! The page of the dialect is true: what it sends is sent, and what it says that comes back comes back.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::Client;
use super::directory;
use crate::compat::door;
use crate::program::{DEADLINE, World};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/json-shim.md");

/// Every message that the issue and the page promise.
const WORDS: [&str; 36] = [
    "REGISTER",
    "DE-REGISTER",
    "UPDATE-CONTACT",
    "PUBLISH",
    "REMOVE",
    "RETRIEVE-ALL",
    "RETRIEVE-INFOT",
    "SEARCH-FILE",
    "DOWNLOAD",
    "FILE",
    "FILE-END",
    "QUERY",
    "LOGOUT",
    "FRIEND",
    "CONFIRM",
    "BUSY",
    "REQUEST",
    "RELAY",
    "PROFILE",
    "GET",
    "ALL",
    "CHAT",
    "DELIVERED",
    "SEND",
    "ACK",
    "LIN",
    "MSG",
    "BRD",
    "ONL",
    "BLC",
    "OUT",
    "HEY",
    "GET_CLIENT_LIST",
    "GET_CLIENT_INFO",
    "OPEN_SESSION",
    "CLOSE_SESSION",
];

/// Fields whose values differ from one run to the next.
const DIFFERENT: [&str; 6] = ["rq", "token", "id", "sent_at", "udp", "version"];

/// Somebody of the page.
struct Actor {
    client: Client,
    waiting: VecDeque<Value>,
}

/// What stands in the page for numbers and tokens of this run.
#[derive(Default)]
struct Names {
    numbers: BTreeMap<u64, Value>,
    token: Value,
}

#[test]
fn the_page_is_true() {
    let world = World::new();
    let directory = directory(&world);
    let door = door(&directory, "json");
    let mut actors: BTreeMap<String, Actor> = BTreeMap::new();
    let mut names = Names::default();
    for (actor, direction, message) in lines() {
        let new = || Actor { client: Client::at(door), waiting: VecDeque::new() };
        let actor = actors.entry(actor).or_insert_with(new);
        match direction {
            '>' => actor.client.send(&names.in_this_run(message)),
            _ => actor.expect(&message, &mut names),
        }
    }
}

#[test]
fn the_page_shows_every_message() {
    let sent: Vec<Value> =
        lines().into_iter().filter(|(_, direction, _)| *direction == '>').map(|(.., message)| message).collect();
    for word in WORDS {
        let shows = |message: &Value| message["type"] == word || message["service"] == word;
        assert!(sent.iter().any(shows), "{word} is nowhere sent in the page");
    }
}

/// Who sends or gets what.
fn lines() -> Vec<(String, char, Value)> {
    let page = std::fs::read_to_string(PAGE).expect("the page is there");
    let mut is_session = false;
    let session = page.lines().filter(|line| {
        if line.starts_with("```") {
            is_session = *line == "```session";
        }
        is_session && !line.starts_with("```")
    });
    let lines = session.map(|line| {
        let (head, message) = line.split_once(' ').expect("a name and a message");
        let (actor, direction) = head.split_at(head.len() - 1);
        let message = serde_json::from_str(message).unwrap_or_else(|error| panic!("{message}: {error}"));
        (actor.to_owned(), direction.chars().next().expect("a direction"), message)
    });
    lines.collect()
}

impl Names {
    /// A message of the page with the numbers and the token of this run.
    fn in_this_run(&self, mut message: Value) -> Value {
        if let Some(number) = message["rq"].as_u64() {
            message["rq"] = self.numbers[&number].clone();
        }
        if message.get("token").is_some() {
            message["token"] = self.token.clone();
        }
        message
    }
}

impl Actor {
    /// Waits for what the page says that comes.
    fn expect(&mut self, wanted: &Value, names: &mut Names) {
        let until = Instant::now() + DEADLINE;
        loop {
            let mut passed = VecDeque::new();
            while let Some(message) = self.waiting.pop_front() {
                if is_meant(&message, wanted, names) {
                    passed.append(&mut self.waiting);
                    self.waiting = passed;
                    return check(&message, wanted, names);
                }
                passed.push_back(message);
            }
            self.waiting = passed;
            assert!(Instant::now() < until, "{wanted} does not come; {:?} has", self.waiting);
            if let Some(message) = self.client.receive(Duration::from_millis(500)) {
                self.take(message);
            }
        }
    }

    /// Keeps what came, once, and acknowledges what the door says by itself: the page says so only where it is expected.
    fn take(&mut self, message: Value) {
        if message["rq"].is_number() && message["type"] != "ACK" {
            self.client.send(&json!({"type": "ACK", "rq": message["rq"]}));
        }
        if !self.waiting.contains(&message) {
            self.waiting.push_back(message);
        }
    }
}

fn is_meant(message: &Value, wanted: &Value, names: &Names) -> bool {
    let is_of_type = ["type", "service"].iter().any(|key| message.get(key).is_some() && message[key] == wanted[key]);
    let has_number = match wanted["rq"].as_u64() {
        // A number of the door's own: the page's is another, and an acknowledgement repeats one that is known.
        Some(number) => names.numbers.get(&number).map_or(message["rq"].is_number(), |known| *known == message["rq"]),
        None => message.get("rq") == wanted.get("rq") && message.get("request_#") == wanted.get("request_#"),
    };
    is_of_type && has_number
}

/// Whether a message is as the page says, but for what differs from run to run.
#[track_caller]
fn check(message: &Value, wanted: &Value, names: &mut Names) {
    if let Some(number) = wanted["rq"].as_u64() {
        names.numbers.entry(number).or_insert_with(|| message["rq"].clone());
    }
    if let Some(token) = message.get("token") {
        names.token = token.clone();
    }
    assert_eq!(alike(message), alike(wanted), "{message}\nis not as the page says:\n{wanted}");
}

/// A message with nothing in it that differs from run to run; keys and kinds of values stay.
fn alike(message: &Value) -> Value {
    match message {
        Value::Object(fields) => {
            let alike = |(key, value): (&String, &Value)| {
                let kind = if value.is_string() { "a text" } else { "a number" };
                let is_open = DIFFERENT.contains(&key.as_str()) && !(key == "rq" && value.is_string());
                (key.clone(), if is_open { kind.into() } else { alike(value) })
            };
            fields.iter().map(alike).collect()
        }
        Value::Array(items) => items.iter().map(alike).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => message.clone(),
    }
}
