//! UdpChat: programs that take a table and a few words from the server's address, messages from everybody else's, and stop
//! listening when anything else comes. So does the one here.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{directory_for, door, flood};
use crate::program::{DEADLINE, Directory, World, text};

/// What a program takes.
#[derive(Debug, Clone, PartialEq)]
enum Got {
    /// From the server: who there is.
    Table(String),
    /// From the server: `ACK <what>`, `offlineACK <uuid>` or `rereg <text>`.
    Word(String),
    /// From the server, to `register` alone.
    Error(String),
    /// From anybody else: `ACK <uuid>`.
    Ack(SocketAddr, String),
    /// From anybody else.
    Chat { from: SocketAddr, sender: String, id: String, text: String },
}

/// A program: its listener reads all the time, acknowledges what is said to it, and breaks where an original would.
pub(super) struct Client {
    socket: UdpSocket,
    server: SocketAddr,
    got: Receiver<Got>,
    is_deaf: Arc<AtomicBool>,
    is_over: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
    /// What came before what was waited for.
    passed: Vec<Got>,
    /// The table that it has.
    table: String,
    numbers: u32,
}

impl Client {
    fn new(directory: &Directory) -> Self {
        Self::at("127.0.0.1:0", door(directory, "s3"))
    }

    fn at(address: &str, server: SocketAddr) -> Self {
        let socket = UdpSocket::bind(address).expect("a port of ours");
        let (is_deaf, is_over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (sender, got) = channel();
        let (listening, deaf, over) = (socket.try_clone().expect("a clone"), is_deaf.clone(), is_over.clone());
        listening.set_read_timeout(Some(Duration::from_millis(20))).expect("a time");
        let listener = std::thread::spawn(move || {
            let mut buffer = [0; 2_048];
            while !over.load(Ordering::Relaxed) {
                let Ok((length, from)) = listening.recv_from(&mut buffer) else { continue };
                let taken = take(&buffer[..length], from, server);
                if let Got::Chat { id, .. } = &taken
                    && !deaf.load(Ordering::Relaxed)
                {
                    listening.send_to(format!("ACK {id}").as_bytes(), from).expect("it is sent");
                }
                if sender.send(taken).is_err() {
                    return;
                }
            }
        });
        Self {
            socket,
            server,
            got,
            is_deaf,
            is_over,
            listener: Some(listener),
            passed: Vec::new(),
            table: "{}".to_owned(),
            numbers: 0,
        }
    }

    /// A program whose name is in the server's table.
    pub(super) fn registered(name: &str, directory: &Directory) -> Self {
        let mut client = Self::new(directory);
        client.say(&format!("register: {name}"));
        client.table_where(|table| table.contains_key(name));
        client
    }

    fn port(&self) -> u16 {
        self.socket.local_addr().expect("it is bound").port()
    }

    fn number(&mut self) -> String {
        self.numbers += 1;
        format!("{:08x}-2fa1-41d2-883f-0016d3cc{:04x}", self.numbers, self.port())
    }

    fn say(&self, datagram: &str) {
        self.say_to(self.server, datagram.as_bytes());
    }

    fn say_to(&self, to: SocketAddr, datagram: &[u8]) {
        self.socket.send_to(datagram, to).expect("it is sent");
    }

    #[track_caller]
    fn next(&mut self) -> Got {
        match self.got.recv_timeout(DEADLINE) {
            Ok(got) => {
                if let Got::Table(table) = &got {
                    self.table.clone_from(table);
                }
                got
            }
            Err(error) => panic!("nothing came ({error}); before it came {:#?}", self.passed),
        }
    }

    /// The first that is meant; others are passed over.
    #[track_caller]
    fn wait<T>(&mut self, meant: impl Fn(&Got) -> Option<T>) -> T {
        loop {
            let got = self.next();
            if let Some(found) = meant(&got) {
                return found;
            }
            self.passed.push(got);
        }
    }

    /// Waits until the table that it has is one that is meant.
    #[track_caller]
    pub(super) fn table_where(
        &mut self,
        is_meant: impl Fn(&BTreeMap<String, Value>) -> bool,
    ) -> BTreeMap<String, Value> {
        loop {
            let table = rows(&self.table);
            if is_meant(&table) {
                return table;
            }
            let got = self.next();
            self.passed.push(got);
        }
    }

    /// Waits until it has exactly this table.
    #[track_caller]
    fn table(&mut self, expected: &str) {
        while self.table != expected {
            let got = self.next();
            self.passed.push(got);
        }
    }

    #[track_caller]
    fn word(&mut self, expected: &str) {
        self.wait(|got| (*got == Got::Word(expected.to_owned())).then_some(()));
    }

    /// The next text that is said to it, by whom and from where.
    #[track_caller]
    pub(super) fn chat(&mut self) -> (SocketAddr, String, String) {
        self.wait(|got| match got {
            Got::Chat { from, sender, text, .. } => Some((*from, sender.clone(), text.clone())),
            _ => None,
        })
    }

    /// Says something at somebody's port and waits for the acknowledgement from there.
    #[track_caller]
    pub(super) fn chat_to(&mut self, name: &str, port: SocketAddr, text: &str) {
        let id = self.number();
        self.say_to(port, format!("send {name} {id} {text}").as_bytes());
        self.wait(|got| (*got == Got::Ack(port, id.clone())).then_some(()));
    }

    /// Has the server keep a message.
    #[track_caller]
    fn save(&mut self, name: &str, to: &str, text: &str) {
        let id = self.number();
        self.say(&format!("send {name} {to} {id} {text}"));
        self.word(&format!("offlineACK {id}"));
    }

    /// Says something as an original does: once to the person, and when that is not acknowledged in 500 ms, up to five times
    /// to the server.
    #[track_caller]
    fn say_as_people_do(&mut self, name: &str, to: &str, port: SocketAddr, text: &str) {
        let id = self.number();
        self.say_to(port, format!("send {name} {id} {text}").as_bytes());
        if self.is_answered(&Got::Ack(port, id.clone()), Duration::from_millis(500)) {
            return;
        }
        let is_kept = (0..5).any(|_| {
            self.say(&format!("send {name} {to} {id} {text}"));
            self.is_answered(&Got::Word(format!("offlineACK {id}")), Duration::from_secs(1))
        });
        assert!(is_kept, "an original would have ended; before it came {:#?}", self.passed);
    }

    fn is_answered(&mut self, answer: &Got, within: Duration) -> bool {
        let until = Instant::now() + within;
        while let Ok(got) = self.got.recv_timeout(until.saturating_duration_since(Instant::now())) {
            if got == *answer {
                return true;
            }
            self.passed.push(got);
        }
        false
    }

    fn has_passed(&self, is_meant: impl Fn(&Got) -> bool) -> bool {
        self.passed.iter().any(is_meant)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let ended = self.listener.take().expect("it was started").join();
        assert!(ended.is_ok() || std::thread::panicking(), "an original would have stopped listening");
    }
}

/// Takes a datagram as the originals do.
fn take(datagram: &[u8], from: SocketAddr, server: SocketAddr) -> Got {
    let text = std::str::from_utf8(datagram).expect("UTF-8").to_owned();
    if from == server {
        return match text.split(' ').next() {
            Some("ACK" | "offlineACK" | "rereg") => Got::Word(text),
            Some("error:") => Got::Error(text),
            _ => {
                assert!(!rows(&text).is_empty(), "{text:?} is no table");
                Got::Table(text)
            }
        };
    }
    let words: Vec<&str> = text.splitn(4, ' ').collect();
    match words[..] {
        ["ACK", id] => Got::Ack(from, id.to_owned()),
        ["send", sender, id, said] if id.len() == 36 => {
            Got::Chat { from, sender: sender.to_owned(), id: id.to_owned(), text: said.to_owned() }
        }
        _ => panic!("{text:?} came from {from}"),
    }
}

fn rows(table: &str) -> BTreeMap<String, Value> {
    serde_json::from_str(table).unwrap_or_else(|error| panic!("{table:?} is no table: {error}"))
}

fn row(name: &str, port: u16, online: bool) -> String {
    format!(r#""{name}": {{"ip": "127.0.0.1", "port": {port}, "online": {online}}}"#)
}

/// Where messages to somebody go.
pub(super) fn place(table: &BTreeMap<String, Value>, name: &str) -> SocketAddr {
    let row = &table[name];
    format!("{}:{}", text(row, "ip"), row["port"]).parse().expect("an address")
}

fn is_online(name: &str, online: bool) -> impl Fn(&BTreeMap<String, Value>) -> bool {
    move |table| table.get(name).is_some_and(|row| row["online"] == online)
}

/// The texts of a `rereg`, after checking that it is one with the times of C.
#[track_caller]
fn mail(client: &mut Client) -> Vec<(String, String)> {
    let word = client.wait(|got| match got {
        Got::Word(word) => word.strip_prefix("rereg You Have Messages:\n").map(str::to_owned),
        _ => None,
    });
    let lines = word.strip_suffix('\n').expect("each line ends").split('\n');
    let parsed = lines.map(|line| {
        let (sender, rest) = line.strip_prefix(">>> ").expect(">>> ").split_once(": ").expect("a sender");
        let (time, said) = rest.split_at(24);
        let fields: Vec<&str> = time.split_whitespace().collect();
        assert!(fields.len() == 5 && fields[3].len() == 8 && fields[4].starts_with("20"), "{time:?} is no time");
        (sender.to_owned(), said.strip_prefix(' ').expect("a space").to_owned())
    });
    parsed.collect()
}

fn letters(sender: &str, texts: &[&str]) -> Vec<(String, String)> {
    texts.iter().map(|text| (sender.to_owned(), (*text).to_owned())).collect()
}

const TAKEN: &str = "error: this username has already registered, choose another one!";

#[test]
fn two_programs_register_leave_and_find_their_mail() {
    let world = World::new();
    let directory = directory_for(&world, &["s3"], "");
    let (mut a, mut b) = (Client::new(&directory), Client::new(&directory));
    let (row_a, row_b) = (row("a", a.port(), true), row("b", b.port(), true));

    a.say("register: a");
    assert_eq!(a.next(), Got::Table(format!("{{{row_a}}}")));
    b.say("register: a");
    assert_eq!(b.next(), Got::Error(TAKEN.to_owned()));
    b.say("register: b");
    assert_eq!(b.next(), Got::Table(format!("{{{row_a}, {row_b}}}")));
    a.table(&format!("{{{row_a}, {row_b}}}"));

    // What comes from another port than theirs is not theirs.
    a.say("dereg b");
    let forged = b.number();
    b.say(&format!("send a b {forged} not from a"));
    b.say("dereg b");
    assert_eq!(b.next(), Got::Word("ACK dereg".to_owned()));
    let away = format!("{{{row_a}, {}}}", row("b", b.port(), false));
    a.table(&away);
    assert!(!a.has_passed(|got| matches!(got, Got::Word(_))), "{:?}", a.passed);

    a.save("a", "b", "while you  were | away: \u{fc}");
    a.save("a", "b", "second");
    b.say("reg b");
    assert_eq!(mail(&mut b), letters("a", &["while you  were | away: \u{fc}", "second"]));
    assert_eq!(b.next(), Got::Table(format!("{{{row_a}, {row_b}}}")));
    a.table(&format!("{{{row_a}, {row_b}}}"));

    b.say("dereg b");
    b.word("ACK dereg");
    b.say("dereg b");
    b.word("ACK dereg");
    let mut moved = Client::new(&directory);
    moved.say("reg b");
    assert_eq!(moved.next(), Got::Table(format!("{{{row_a}, {}}}", row("b", moved.port(), true))), "no mail twice");
    a.table(&format!("{{{row_a}, {}}}", row("b", moved.port(), true)));
    assert!(!a.has_passed(|got| matches!(got, Got::Word(word) if word.starts_with("rereg"))), "{:?}", a.passed);

    // From the same address also without having left; then the port before is nobody's.
    let mut again = Client::new(&directory);
    again.say("reg b");
    assert_eq!(again.next(), Got::Table(format!("{{{row_a}, {}}}", row("b", again.port(), true))));
    moved.say("dereg b");
    moved.say("register: c");
    moved.table_where(|table| table.contains_key("c"));
    a.table_where(|table| is_online("c", true)(table) && is_online("b", true)(table));
    assert!(!moved.has_passed(|got| matches!(got, Got::Word(_))), "{:?}", moved.passed);
    a.save("a", "b", "at the new port");
    assert_eq!(again.chat().2, "at the new port");
}

#[test]
fn names_that_cannot_be_had_are_denied_and_nobody_speaks_for_others() {
    let world = World::new();
    let directory = directory_for(&world, &["s3"], "");
    let alice = world.person("alice", &directory).peer();
    let mut a = Client::registered("a", &directory);
    let mut other = Client::new(&directory);
    for (asked, says) in [("../x", "name"), ("a b", "name"), ("", "name"), ("-a", "name"), ("A", TAKEN), ("alice", "")]
    {
        other.say(&format!("register: {asked}"));
        let got = other.next();
        assert!(matches!(&got, Got::Error(error) if error.contains(says)), "{asked}: {got:?}");
    }
    // Nobody loses a name by asking for another one in vain.
    a.say("register: alice");
    a.wait(|got| matches!(got, Got::Error(_)).then_some(()));
    a.save("a", "alice", "I am still a");

    // From another address nobody takes a name, and nobody there is answered.
    let mut elsewhere = Client::at("127.0.0.2:0", a.server);
    elsewhere.say("reg a");
    elsewhere.say("dereg a");
    elsewhere.say("register: a");
    assert_eq!(elsewhere.next(), Got::Error(TAKEN.to_owned()));
    elsewhere.say("reg nobody");
    elsewhere.say("register: c");
    let table = elsewhere.table_where(|table| table.contains_key("c"));
    assert!(is_online("a", true)(&table) && elsewhere.passed.len() == 1, "{:?}", elsewhere.passed);
    assert_eq!(place(&table, "c").ip().to_string(), "127.0.0.2");
    a.table_where(is_online("c", true));
    alice.quit();
}

#[test]
fn people_of_both_systems_talk() {
    let world = World::new();
    let directory = directory_for(&world, &["s3"], "");
    let (alice_is, bob_is) = (world.person("alice", &directory), world.person("bob", &directory));
    let (mut alice, mut bob) = (alice_is.peer(), bob_is.peer());
    let mut a = Client::registered("Ann", &directory);
    let table = a.table_where(|table| is_online("alice", true)(table) && is_online("bob", true)(table));
    let (at_alice, at_bob) = (place(&table, "alice"), place(&table, "bob"));
    let mut b = Client::registered("b", &directory);

    a.chat_to("Ann", at_alice, "hello alice");
    a.chat_to("Ann", at_bob, "hello bob");
    let heard = alice.event("message");
    assert_eq!((text(&heard, "from"), text(&heard, "text")), ("ann", "hello alice"));
    assert_eq!(bob.messages(1), ["hello bob"]);
    alice.say("/msg ann hello  Ann");
    assert_eq!(a.chat(), (at_alice, "alice".to_owned(), "hello  Ann".to_owned()));
    alice.event("read");
    bob.say("/msg ann and from me");
    assert_eq!(a.chat(), (at_bob, "bob".to_owned(), "and from me".to_owned()));

    // Somebody else's name, and somebody who is nobody, get nothing at these ports.
    let forged = b.number();
    b.say_to(at_alice, format!("send Ann {forged} not from Ann").as_bytes());
    b.table_where(|table| table.contains_key("alice"));
    b.chat_to("b", at_alice, "from b");
    assert_eq!(alice.messages(1), ["from b"]);

    // Whoever leaves is away, and what is said then waits: once, though it is sent to port and server.
    bob.quit();
    a.table_where(is_online("bob", false));
    let unheard = a.number();
    a.say_to(at_bob, format!("send Ann {unheard} see you").as_bytes());
    a.say(&format!("send Ann bob {unheard} see you"));
    a.word(&format!("offlineACK {unheard}"));
    a.save("Ann", "bob", "tomorrow");
    assert!(!a.has_passed(|got| *got == Got::Ack(at_bob, unheard.clone())), "{:?}", a.passed);
    let mut bob = bob_is.peer();
    assert_eq!(bob.messages(2), ["see you", "tomorrow"]);
    a.table_where(is_online("bob", true));
    a.chat_to("Ann", at_bob, "there you are");
    assert_eq!(bob.messages(1), ["there you are"], "and nothing twice");
}

#[test]
fn answers_come_from_the_address_that_was_asked() {
    let world = World::new();
    let everywhere = "--compat s3=0.0.0.0:0 --compat-allow 127.0.0.0/8 --compat-ports 20000-29999";
    let directory = world.directory_that("127.0.0.1:0", everywhere);
    let mut alice = world.person("alice", &directory).peer();
    let server = SocketAddr::from(([127, 0, 0, 5], door(&directory, "s3").port()));
    let mut a = Client::at("127.0.0.1:0", server);
    a.say("register: a");
    let at_alice = place(&a.table_where(is_online("alice", true)), "alice");
    assert_eq!(at_alice.ip(), server.ip());
    a.chat_to("a", at_alice, "hello");
    assert_eq!(alice.messages(1), ["hello"]);
    alice.say("/msg a hello yourself");
    assert_eq!(a.chat(), (at_alice, "alice".to_owned(), "hello yourself".to_owned()));
    a.say("dereg a");
    a.word("ACK dereg");
}

#[test]
fn whoever_is_kept_out_sees_somebody_who_is_away_and_takes_no_messages() {
    let world = World::new();
    let directory = directory_for(&world, &["s3"], "");
    let mut alice = world.person("alice", &directory).peer();
    let mut a = Client::registered("a", &directory);
    let at_alice = place(&a.table_where(is_online("alice", true)), "alice");
    a.chat_to("a", at_alice, "hello");
    alice.messages(1);
    // The word to a program is the same in both cases, and so is what its table shows.
    for (closes, opens, closed, opened) in [
        ("/block a", "/unblock a", "blocked", "unblocked"),
        ("/privacy friends", "/privacy everyone", "privacy", "privacy"),
    ] {
        alice.say(closes);
        alice.event(closed);
        a.table_where(is_online("alice", false));
        let id = a.number();
        a.say_to(at_alice, format!("send a {id} hello {closes}").as_bytes());
        a.say(&format!("send a alice {id} hello {closes}"));
        a.word(&format!("offlineACK {id}"));
        a.word("rereg \n>>> [alice does not accept messages from you]");
        alice.say(opens);
        alice.event(opened);
        a.table_where(is_online("alice", true));
    }
    a.chat_to("a", at_alice, "at last");
    assert_eq!(alice.messages(1), ["at last"]);
    a.save("a", "nobody", "who?");
    a.wait(|got| {
        matches!(got, Got::Word(word) if word.starts_with("rereg \n>>> [") && word.contains("nobody")).then_some(())
    });
}

#[test]
fn a_program_that_does_not_answer_is_away_and_gets_its_mail_once() {
    let world = World::new();
    let directory = directory_for(&world, &["s3"], "");
    let (mut alice, mut bob) = (world.person("alice", &directory).peer(), world.person("bob", &directory).peer());
    let mut a = Client::registered("a", &directory);
    let mut b = Client::registered("b", &directory);
    a.table_where(is_online("b", true));

    b.is_deaf.store(true, Ordering::Relaxed);
    alice.say("/msg b one");
    for _ in 0..3 {
        assert_eq!(b.chat().2, "one", "three tries");
    }
    a.table_where(is_online("b", false));
    alice.say("/msg b two");
    alice.event_where("stored", |event| event["to"] == "b");
    bob.say("/msg b three");
    bob.event_where("stored", |event| event["to"] == "b");
    a.save("a", "b", "four");

    let mut b_again = Client::new(&directory);
    b_again.say("reg b");
    let mut all = letters("alice", &["one", "two"]);
    all.extend(letters("bob", &["three"]));
    all.extend(letters("a", &["four"]));
    assert_eq!(mail(&mut b_again), all);
    a.table_where(is_online("b", true));
    // They are here again, and what is kept for them goes to them.
    a.save("a", "b", "you exist");
    assert_eq!(b_again.chat().1, "a");
    a.word("rereg \n>>> [Client b exists!!]");
    alice.say("/msg b five");
    assert_eq!(b_again.chat().2, "five", "and nothing of the mail again");
}

#[test]
fn whoever_was_given_up_and_speaks_is_here_again() {
    let world = World::new();
    let directory = directory_for(&world, &["s3"], "");
    let mut alice = world.person("alice", &directory).peer();
    let mut a = Client::registered("a", &directory);
    let at_alice = place(&a.table_where(is_online("alice", true)), "alice");
    a.is_deaf.store(true, Ordering::Relaxed);
    alice.say("/msg a unheard");
    alice.event_where("presence", |event| event["name"] == "a" && event["online"] == false);
    a.is_deaf.store(false, Ordering::Relaxed);

    let id = a.number();
    a.say_to(at_alice, format!("send a {id} I never left").as_bytes());
    a.say(&format!("send a alice {id} I never left"));
    assert_eq!(alice.messages(1), ["I never left"]);
    for _ in 0..4 {
        assert_eq!(
            a.chat(),
            (at_alice, "alice".to_owned(), "unheard".to_owned()),
            "three tries, and one that is heard"
        );
    }
    a.say("dereg a");
    a.word("ACK dereg");
    a.say("reg a");
    a.wait(|got| matches!(got, Got::Table(_)).then_some(()));
    let is_mail = |got: &Got| matches!(got, Got::Word(word) if word.starts_with("rereg"));
    assert!(!a.has_passed(is_mail), "nothing of it waits any more: {:?}", a.passed);
}

#[test]
fn long_and_odd_texts_arrive_whole() {
    let world = World::new();
    let directory = directory_for(&world, &["s3"], "");
    let mut alice = world.person("alice", &directory).peer();
    let mut a = Client::registered("a", &directory);
    let at_alice = place(&a.table_where(is_online("alice", true)), "alice");
    let long = |bytes: usize| "äb |c ".chars().cycle().take(bytes * 6 / 7).collect::<String>() + "end";
    for said in ["a|b||c", "\\u00fc \"quoted\" {}", "Grüße 👋", &long(1_100), &long(2_100), &long(7_500)] {
        a.chat_to("a", at_alice, said);
        assert_eq!(alice.messages(1), [said]);
    }
    for said in ["a|b||c", "Grüße 👋", &long(1_100)] {
        alice.say(&format!("/msg a {said}"));
        assert_eq!(a.chat(), (at_alice, "alice".to_owned(), said.to_owned()));
    }
    let said = long(6_000);
    alice.say(&format!("/msg a {said}"));
    let parts: Vec<String> = (0..4).map(|_| a.chat().2).collect();
    let whole: String = parts
        .iter()
        .enumerate()
        .map(|(before, part)| part.strip_prefix(&format!("({}/4) ", before + 1)).expect("its number"))
        .collect();
    assert_eq!(whole, said);

    // The same as mail.
    a.say("dereg a");
    a.word("ACK dereg");
    alice.say(&format!("/msg a {said}"));
    alice.event_where("stored", |event| event["to"] == "a");
    a.say("reg a");
    let mut whole = String::new();
    for number in 1..=4 {
        let part = mail(&mut a);
        assert_eq!(part.len(), 1);
        whole.push_str(part[0].1.strip_prefix(&format!("({number}/4) ")).expect("its number"));
    }
    assert_eq!(whole, said);
}

#[test]
fn everybody_hears_what_is_said_to_all_those_away_later() {
    let world = World::new();
    let directory = directory_for(&world, &["s3"], "");
    let mut alice = world.person("alice", &directory).peer();
    let mut a = Client::registered("a", &directory);
    let (mut b, mut c) = (Client::registered("b", &directory), Client::registered("c", &directory));
    let mut deaf = Client::registered("deaf", &directory);
    c.say("dereg c");
    c.word("ACK dereg");
    deaf.is_deaf.store(true, Ordering::Relaxed);
    a.table_where(|table| is_online("c", false)(table) && is_online("deaf", true)(table));

    let id = a.number();
    a.say(&format!("send_all a {id} dinner | at eight"));
    a.word(&format!("ACK {id}"));
    let said = "[Channel_Message a: dinner | at eight]";
    assert_eq!(text(&alice.event("announcement"), "text"), "dinner | at eight");
    let (_, sender, heard) = b.chat();
    assert_eq!((sender.as_str(), heard.as_str()), ("a", said));
    a.table_where(is_online("deaf", false));
    a.say(&format!("send_all a {id} dinner | at eight"));
    a.word(&format!("ACK {id}"));
    for (client, name) in [(&mut c, "c"), (&mut deaf, "deaf")] {
        client.is_deaf.store(false, Ordering::Relaxed);
        client.say(&format!("reg {name}"));
        assert_eq!(mail(client), letters("a", &[said]));
    }
    alice.say("/broadcast to everybody");
    for client in [&mut a, &mut b, &mut c, &mut deaf] {
        let (_, sender, heard) = client.chat();
        assert_eq!((sender.as_str(), heard.as_str()), ("alice", "[Channel_Message alice: to everybody]"));
    }
}

#[test]
fn a_killed_server_knows_everybody_and_their_ports_again() {
    let world = World::new();
    let flags = |door: SocketAddr| format!("--compat s3={door} --compat-ports 31200-31299 --relay-ports any");
    let mut directory = world.directory_that("127.0.0.1:0", &flags("127.0.0.1:0".parse().expect("an address")));
    let alice_is = world.person("alice", &directory);
    let mut alice = alice_is.peer();
    let (mut a, mut b) = (Client::registered("a", &directory), Client::registered("b", &directory));
    let table = a.table_where(|table| is_online("alice", true)(table) && is_online("b", true)(table));
    let at_alice = place(&table, "alice");
    a.chat_to("a", at_alice, "before");
    b.say("dereg b");
    b.word("ACK dereg");

    let (address, s3) = (directory.address.to_string(), door(&directory, "s3"));
    directory.process.kill();
    directory = world.directory_that(&address, &flags(s3));
    assert_eq!(door(&directory, "s3"), s3);
    let table = a.table_where(|table| is_online("alice", true)(table) && is_online("b", false)(table));
    assert_eq!(place(&table, "alice"), at_alice);
    a.chat_to("a", at_alice, "after");
    assert_eq!(alice.messages(2), ["before", "after"]);
    alice.say("/msg a and you");
    assert_eq!(a.chat(), (at_alice, "alice".to_owned(), "and you".to_owned()));
    a.save("a", "b", "later");
    b.say("reg b");
    assert_eq!(mail(&mut b), letters("a", &["later"]));
}

#[test]
fn a_room_full_of_people_makes_few_tables_that_all_fit() {
    let world = World::new();
    let directory = directory_for(&world, &["s3"], "");
    let alice = world.person("alice", &directory).peer();
    let mut a = Client::registered("a", &directory);
    a.table_where(is_online("alice", true));
    a.passed.clear();
    let began = Instant::now();
    let mut pupils = Vec::new();
    for number in 0..40 {
        let pupil = UdpSocket::bind("127.0.0.1:0").expect("a port of ours");
        pupil.set_read_timeout(Some(DEADLINE)).expect("a time");
        pupil.send_to(format!("register: pupil-{number:02}-of-forty").as_bytes(), a.server).expect("it is sent");
        let mut table = [0; 4_096];
        let (length, _) = pupil.recv_from(&mut table).expect("the table");
        assert!(length <= 2_048, "{length}");
        let table = rows(std::str::from_utf8(&table[..length]).expect("UTF-8"));
        assert!(table.contains_key(&format!("pupil-{number:02}-of-forty")), "everybody is in their own table");
        pupils.push(pupil);
    }
    let table = a.table_where(|table| table.len() > 20 && !table.contains_key("alice"));
    assert!(table.contains_key("a"), "programs of this kind come first, and oneself before all");
    let tables = a.passed.iter().filter(|got| matches!(got, Got::Table(_))).count();
    assert!(tables <= 2 + usize::try_from(began.elapsed().as_millis() / 500).expect("a time"), "{tables} tables");
    alice.quit();
}

#[test]
fn nothing_that_comes_ends_the_door_and_a_flood_leaves_it_open() {
    let world = World::new();
    let directory = directory_for(&world, &["s3"], "");
    let mut alice = world.person("alice", &directory).peer();
    let mut a = Client::registered("a", &directory);
    let at_alice = place(&a.table_where(is_online("alice", true)), "alice");
    let id = a.number();
    let odd: Vec<Vec<u8>> = vec![
        vec![],
        vec![0xff; 100],
        vec![b'x'; 60_000],
        b"send".to_vec(),
        b"send a".to_vec(),
        format!("send a {id}").into_bytes(),
        format!("send a ../x {id} up").into_bytes(),
        format!("send a alice {id} ").into_bytes(),
        format!("ACK {id}").into_bytes(),
        b"ACK dereg".to_vec(),
        b"{\"a\": {\"ip\": \"127.0.0.1\"}}".to_vec(),
        b"error: this username".to_vec(),
        b"rereg x".to_vec(),
        b"send server are you there".to_vec(),
    ];
    for datagram in &odd {
        for to in [a.server, at_alice] {
            a.say_to(to, datagram);
        }
    }
    a.wait(|got| (*got == Got::Word(format!("offlineACK {id}"))).then_some(()));
    a.chat_to("a", at_alice, "still here");
    assert_eq!(alice.messages(1), ["still here"]);

    // One line of an honest person in every 2,000 datagrams of the other.
    let odd: Vec<_> = odd.into_iter().filter(|datagram| datagram.len() < 200).collect();
    let doors = [a.server, at_alice];
    let (ticks, flood) = flood(move |number| {
        let name = || format!("register: x{number}/").into_bytes();
        let at = usize::try_from(number).expect("a number");
        (doors[usize::from(number % 4 < 2)], if at % 2 == 0 { name() } else { odd[at % odd.len()].clone() })
    });
    for round in 0..50 {
        ticks.recv_timeout(DEADLINE).expect("the flood goes on");
        let said = format!("round {round}");
        a.say_as_people_do("a", "alice", at_alice, &said);
        assert_eq!(alice.messages(1), [said]);
    }
    assert!(flood.join().expect("it only sends") > 90_000, "nearly all was sent");
}
