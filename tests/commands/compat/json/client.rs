//! A program that speaks the JSON dialect over a plain socket: it repeats what is not answered, and acknowledges.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::program::DEADLINE;

/// Before a request is repeated.
const PATIENCE: Duration = Duration::from_millis(200);

/// Somebody at a door.
pub(in crate::compat) struct Client {
    socket: UdpSocket,
    count: u32,
    /// What came unasked, each once.
    pushes: VecDeque<Value>,
    seen: BTreeSet<String>,
}

impl Client {
    pub(in crate::compat) fn at(door: SocketAddr) -> Self {
        Self::from([127, 0, 0, 1], door)
    }

    /// From an address of its own.
    pub(in crate::compat) fn from(ip: [u8; 4], door: SocketAddr) -> Self {
        let socket = UdpSocket::bind((IpAddr::from(ip), 0)).expect("a free port");
        socket.connect(door).expect("an address of this machine");
        Self { socket, count: 0, pushes: VecDeque::new(), seen: BTreeSet::new() }
    }

    #[track_caller]
    pub(in crate::compat) fn registered(door: SocketAddr, name: &str) -> Self {
        let mut client = Self::at(door);
        client.register(name);
        client
    }

    #[track_caller]
    pub(in crate::compat) fn register(&mut self, name: &str) {
        let answer = self.ask(json!({"type": "REGISTER", "name": name}));
        assert_eq!(answer["type"], "REGISTERED", "{answer}");
    }

    pub(in crate::compat) fn port(&self) -> u16 {
        self.socket.local_addr().expect("it is bound").port()
    }

    pub(in crate::compat) fn send(&self, message: &Value) {
        self.socket.send(message.to_string().as_bytes()).expect("the door is open");
    }

    /// The next datagram within a time.
    pub(in crate::compat) fn receive(&self, within: Duration) -> Option<Value> {
        self.socket.set_read_timeout(Some(within.max(Duration::from_millis(1)))).expect("a time");
        let mut bytes = [0; 65_536];
        let count = self.socket.recv(&mut bytes).ok()?;
        assert!(count <= 1_200, "{count} bytes");
        assert_eq!(bytes[count - 1], b'\n', "a person reads it");
        Some(serde_json::from_slice(&bytes[..count]).expect("the door speaks JSON"))
    }

    /// Asks until there is an answer.
    #[track_caller]
    pub(in crate::compat) fn ask(&mut self, message: Value) -> Value {
        let number = self.begin(message);
        let until = Instant::now() + DEADLINE;
        loop {
            assert!(Instant::now() < until, "no answer to {number}");
            self.send(&number);
            let again = Instant::now() + PATIENCE;
            while let Some(answer) = self.receive(again.saturating_duration_since(Instant::now())) {
                if answer["rq"] == number["rq"] {
                    return answer;
                }
                self.take(answer);
            }
        }
    }

    fn begin(&mut self, mut message: Value) -> Value {
        self.count += 1;
        message["rq"] = json!(format!("c{}", self.count));
        message
    }

    /// Takes what came unasked: acknowledged each time, kept once.
    pub(in crate::compat) fn take(&mut self, push: Value) {
        if push["rq"].is_number() {
            self.send(&json!({"type": "ACK", "rq": push["rq"]}));
        } else if push["chunk"].is_number() {
            self.send(&json!({"type": "ACK", "rq": push["rq"], "chunk": push["chunk"]}));
        }
        // A number may be used again after a restart; an id never is.
        let is_message = push["id"].is_string();
        let which = if is_message { json!([push["id"], push["part"]]) } else { push.clone() };
        if !push["rq"].is_string() && self.seen.insert(which.to_string()) {
            self.pushes.push_back(push);
        }
    }

    /// The next thing of a type that came unasked; others are passed over.
    #[track_caller]
    pub(in crate::compat) fn pushed(&mut self, kind: &str) -> Value {
        let until = Instant::now() + DEADLINE;
        loop {
            while let Some(push) = self.pushes.pop_front() {
                if push["type"] == kind {
                    return push;
                }
            }
            assert!(Instant::now() < until, "no {kind} came");
            if let Some(push) = self.receive(PATIENCE) {
                self.take(push);
            }
        }
    }

    /// Whether nothing new comes for a time.
    pub(in crate::compat) fn quiet_for(&mut self, time: Duration) -> bool {
        let until = Instant::now() + time;
        while let Some(push) = self.receive(until.saturating_duration_since(Instant::now())) {
            self.take(push);
        }
        self.pushes.is_empty()
    }

    /// Fetches a file, or says why not.
    #[track_caller]
    pub(in crate::compat) fn download(&mut self, owner: &str, file: &str) -> Result<String, String> {
        let request = self.begin(json!({"type": "DOWNLOAD", "to": owner, "filename": file}));
        let (mut chunks, mut last) = (BTreeMap::new(), None);
        let until = Instant::now() + DEADLINE;
        while last != Some(chunks.len()) {
            assert!(Instant::now() < until, "{file} does not come: {} chunks", chunks.len());
            let Some(message) = self.receive(PATIENCE) else {
                self.send(&request);
                continue;
            };
            if message["rq"] != request["rq"] {
                self.take(message);
            } else if let Some(text) = message["text"].as_str() {
                let chunk = usize::try_from(message["chunk"].as_u64().expect("a number")).expect("a small one");
                assert!(text.chars().count() == 200 || message["type"] == "FILE-END", "{message}");
                chunks.insert(chunk, text.to_owned());
                if message["type"] == "FILE-END" {
                    last = Some(chunk + 1);
                }
                self.take(message);
            } else {
                return Err(message["reason"].as_str().expect("a reason").to_owned());
            }
        }
        Ok(chunks.into_values().collect())
    }

    /// Brings a file that the door asks for, until each chunk is acknowledged.
    #[track_caller]
    pub(in crate::compat) fn bring(&mut self, file: &str, content: &str) {
        let request = loop {
            let request = self.pushed("DOWNLOAD");
            if request["filename"] == file {
                break request;
            }
        };
        let characters: Vec<char> = content.chars().collect();
        let pieces: Vec<String> = characters.chunks(200).map(|piece| piece.iter().collect()).collect();
        let mut missing: BTreeSet<usize> = (0..pieces.len()).collect();
        let until = Instant::now() + DEADLINE;
        while !missing.is_empty() {
            assert!(Instant::now() < until, "{} chunks are not acknowledged", missing.len());
            for chunk in missing.iter().take(16) {
                let kind = if chunk + 1 == pieces.len() { "FILE-END" } else { "FILE" };
                let (number, text) = (&request["rq"], &pieces[*chunk]);
                self.send(&json!({"type": kind, "rq": number, "filename": file, "chunk": chunk, "text": text}));
            }
            while let Some(answer) = self.receive(Duration::from_millis(30)) {
                match answer["chunk"].as_u64() {
                    Some(chunk) if answer["type"] == "ACK" => {
                        missing.remove(&usize::try_from(chunk).expect("a small number"));
                    }
                    _ => self.take(answer),
                }
            }
        }
    }
}
