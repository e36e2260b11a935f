//! Everything that any verb prints with `--json` is in `events.schema.json`: each event with the fields that it has to
//! have, those that it may have, and no other. That the events of the program are all in it is checked in
//! `src/peer/event_tests.rs`.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Map, Value};

use crate::program::{Directory, Outcome, Person, Process, World, content, text};

/// Events that take a fault, a theft, a refusal that comes late, an older program, or a command on the local socket:
/// `src/peer/event_tests.rs` alone sees to them.
const NOT_PROVOKED: &[&str] = &[
    "again",
    "audit_finding",
    "done",
    "key_changed",
    "key_requested",
    "legacy",
    "logged_in_elsewhere",
    "missing",
    "not_received",
    "not_sent",
    "source_dropped",
];

/// Verbs that print no event.
const SILENT: &[&str] = &["help"];

/// The schema on file.
struct Schema(Value);

impl Schema {
    fn on_file() -> Self {
        Self(serde_json::from_str(include_str!("events.schema.json")).expect("the schema is JSON"))
    }

    /// Checks one printed line.
    fn check(&self, section: &str, event: &Value) -> Result<(), String> {
        let name = event["event"].as_str().ok_or("there is no event")?;
        let fields = self.0[section][name].as_object().ok_or_else(|| format!("{section} has no event {name:?}"))?;
        let mut object = event.as_object().ok_or("this is no object")?.clone();
        object.remove("event");
        self.check_object(fields, &object).map_err(|error| format!("{name}: {error}"))
    }

    fn check_object(&self, fields: &Map<String, Value>, object: &Map<String, Value>) -> Result<(), String> {
        for (name, kind) in fields {
            let (name, may_be_missing) = name.strip_suffix('?').map_or((name.as_str(), false), |name| (name, true));
            match object.get(name) {
                Some(value) => self.check_value(kind, value).map_err(|error| format!("{name}: {error}"))?,
                None if may_be_missing => {}
                None => return Err(format!("{name} is missing")),
            }
        }
        let is_known = |name: &str| fields.contains_key(name) || fields.contains_key(&format!("{name}?"));
        match object.keys().find(|name| !is_known(name)) {
            Some(name) => Err(format!("{name} is not in the schema")),
            None => Ok(()),
        }
    }

    fn check_value(&self, kind: &Value, value: &Value) -> Result<(), String> {
        let fits = match kind {
            Value::Array(words) => words.contains(value),
            Value::Object(fields) => {
                return self.check_object(fields, value.as_object().ok_or_else(|| format!("{value} is no object"))?);
            }
            Value::String(name) => match name.strip_suffix("|null") {
                Some(_) if value.is_null() => true,
                Some(kind) => return self.check_value(&Value::from(kind), value),
                None => match is_plain(name, value) {
                    Some(fits) => fits,
                    None => return self.check_value(&self.0["types"][name], value),
                },
            },
            other => return Err(format!("{other} is no type")),
        };
        if fits { Ok(()) } else { Err(format!("{value} is not {kind}")) }
    }
}

/// Whether a value is of a plain type; `None` when the type is not plain.
fn is_plain(kind: &str, value: &Value) -> Option<bool> {
    let is_hex = |digits: usize| {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        value.as_str().is_some_and(|text| text.len() == digits && text.bytes().all(digit))
    };
    let parses = |parse: fn(&str) -> bool| value.as_str().is_some_and(parse);
    Some(match kind {
        "text" => value.is_string(),
        "file" => parses(|text| !text.is_empty() && !text.contains('/')),
        "name" => parses(|text| {
            let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
            (1..=32).contains(&text.len()) && text.bytes().all(allowed)
        }),
        "names" => value.as_array().is_some_and(|all| all.iter().all(|name| is_plain("name", name) == Some(true))),
        "key" | "digest" | "fingerprint" => is_hex(64),
        "id" => is_hex(32),
        "number" => value.is_u64(),
        "numbers" => value.as_array().is_some_and(|all| all.iter().all(Value::is_u64)),
        "bool" => value.is_boolean(),
        "true" => *value == Value::Bool(true),
        "labels" => value.as_object().is_some_and(|all| all.values().all(Value::is_string)),
        "address" => parses(|text| text.parse::<SocketAddr>().is_ok()),
        "ip" => parses(|text| text.parse::<IpAddr>().is_ok()),
        _ => return None,
    })
}

/// What was run and what it printed.
struct Seen {
    schema: Schema,
    verbs: BTreeSet<String>,
    events: BTreeSet<String>,
}

impl Seen {
    /// Runs a verb to its end, and checks everything that it prints.
    #[track_caller]
    fn run(&mut self, section: &str, command: Command, verb: &str, code: i32) -> Outcome {
        self.ended(section, Process::spawn(command), verb, code)
    }

    /// The same of a verb that runs already.
    #[track_caller]
    fn ended(&mut self, section: &str, process: Process, verb: &str, code: i32) -> Outcome {
        let outcome = process.outcome();
        outcome.expect_code(code);
        for event in outcome.events() {
            self.schema.check(section, &event).unwrap_or_else(|error| panic!("{verb}: {error}\n{event}"));
            if section == "events" {
                self.events.insert(text(&event, "event").to_owned());
            }
        }
        self.verbs.insert(verb.split(' ').next().expect("a verb has a name").to_owned());
        outcome
    }

    /// Runs a verb of a person.
    #[track_caller]
    fn verb(&mut self, person: &Person<'_>, verb: &str, last: &[&str], code: i32) {
        self.run("events", person.command(&format!("{verb} --json"), last), verb, code);
    }

    /// Runs a verb of a person that knows nothing of passwords.
    #[track_caller]
    fn on_disk(&mut self, person: &Person<'_>, section: &str, verb: &str, last: &[&str], code: i32) {
        self.run(section, whose(person, verb, last), verb, code);
    }

    /// What is there to be asked of somebody who is online and somebody who is not, by a person with a peer or without.
    fn ask_everything(&mut self, person: &Person<'_>) {
        person.file("a file", "to share");
        for verb in ["who --hour", "status", "shared", "allowed", "inbox", "invite", "account sessions"] {
            self.verb(person, verb, &[], 0);
        }
        self.verb(person, "share", &["a file"], 0);
        let link = person.folder().join("a folder/link");
        if !link.is_symlink() {
            std::fs::create_dir(person.folder().join("a folder")).expect("there is room for a folder");
            std::os::unix::fs::symlink("nowhere", link).expect("the folder takes a link");
        }
        self.verb(person, "share", &["a folder"], 0);
        self.verb(person, "unshare", &["a folder"], 0);
        self.verb(person, "find", &["file"], 0);
        self.verb(person, "shared", &[], 0);
        self.verb(person, "get", &["bob:a large file"], 0);
        self.verb(person, "get", &["bob:nothing"], 1);
        self.verb(person, "unshare", &["a file"], 0);
        for verb in ["offers", "transfers", "accept --always"] {
            self.verb(person, verb, &[], 0);
        }
        for verb in ["decline", "cancel", "pause", "resume"] {
            self.verb(person, verb, &["ffff"], 2);
        }
        self.verb(person, "msg", &["bob", "hello"], 0);
        self.verb(person, "msg", &["nobody2", "hello"], 1);
        self.verb(person, "verify --mark", &["bob"], 0);
        self.verb(person, "trust", &["bob"], 1);
        for term in ["once", "1h", "always"] {
            self.verb(person, "allow", &["bob", term], 0);
            self.verb(person, "allowed", &[], 0);
        }
        self.verb(person, "deny", &["bob"], 0);
        self.verb(person, "connect", &["nobody2"], 1);
        self.ask_about_people(person);
        self.verb(person, "account end-sessions", &[], 0);
        self.on_disk(person, "events", "history", &["bob"], 0);
        self.on_disk(person, "events", "audit", &["bob"], 0);
        self.on_disk(person, "doctor", "doctor", &[], 0);
    }

    /// What is between people, and what they say about themselves.
    fn ask_about_people(&mut self, person: &Person<'_>) {
        self.verb(person, "broadcast", &["hello"], 0);
        for (verb, code) in [("friend", 0), ("friends", 0), ("friend --later", 1), ("unfriend", 0), ("unfriend", 1)] {
            let last: &[&str] = if verb == "friends" { &[] } else { &["dave"] };
            self.verb(person, verb, last, code);
        }
        self.verb(person, "block", &["bob"], 0);
        self.verb(person, "blocked", &[], 0);
        self.verb(person, "msg", &["bob", "hello"], 8);
        self.verb(person, "unblock", &["bob"], 0);
        self.verb(person, "unblock", &["bob"], 1);
        for last in [&["friends"], &["everyone"], &[][..]] {
            self.verb(person, "privacy", last, 0);
        }
        self.verb(person, "profile", &["edit", "town", "Oxford"], 0);
        self.verb(person, "profile", &["bob"], 0);
    }

    /// A person offers two files to somebody, who takes one and not the other.
    fn offer(&mut self, person: &Person<'_>, bob: &mut Process) {
        for (answer, code) in [("/accept --rename", 0), ("/decline", 3)] {
            person.file("an offer", content(300_000));
            let send = Process::spawn(person.command("send --json", &["bob", "an offer"]));
            bob.event("offer");
            bob.say(&format!("{answer} {}", person.name));
            if code == 0 {
                bob.event("received");
            }
            self.ended("events", send, "send", code);
        }
    }

    /// Somebody is offered a file while they are away, and it is taken back when they are here again; what waits for them
    /// is listed, paused and ended.
    fn wait(&mut self, alice: &Person<'_>, erin: &Person<'_>) {
        let mut erin_peer = erin.peer();
        alice.rows("msg", &["erin", "until later"]);
        erin_peer.messages(1);
        self.ended("events", erin_peer, "peer", 0);
        alice.file("for later", content(300_000));
        self.verb(alice, "send", &["erin", "for later"], 0);
        self.verb(alice, "offers", &[], 0);
        let mut erin_peer = erin.peer();
        erin_peer.event("offer");
        self.verb(alice, "cancel", &["for later"], 0);
        erin_peer.event("offer_withdrawn");
        self.ended("events", erin_peer, "peer", 0);
    }

    /// What a friend offers is taken without asking.
    fn welcome(&mut self, alice: &Person<'_>, bob: &Person<'_>, bob_peer: &mut Process) {
        self.verb(bob, "accept --max 1M --always alice", &[], 0);
        alice.file("welcome", content(1_000));
        self.verb(alice, "send", &["bob", "welcome"], 0);
        bob_peer.event("received");
        self.verb(bob, "accept --never alice", &[], 0);
    }

    fn administer(&mut self, world: &World) {
        let admin = |words: &str| world.qchat(&format!("admin --data {} --json {words}", world.path("data").display()));
        for words in ["user list", "sessions", "relay", "invite", "user reset-password carol", "user disable carol"] {
            self.run("admin", admin(words), "admin", 0);
        }
        self.run("admin", admin("user delete nobody2"), "admin", 1);
    }

    /// Two people move closer: one asks for a connection and gets it, another does not; then they talk alone.
    fn meet(&mut self, carol: &Person<'_>, alice: &mut Process, bob: &mut Process) {
        let connect = Process::spawn(carol.command("connect --json", &["bob"]));
        bob.event("consent_asked");
        bob.say("/deny carol");
        bob.say("/limit 5M");
        bob.event("limit");
        bob.say("/limit off");
        bob.event("limit");
        self.ended("events", connect, "connect", 8);
        alice.say("/connect bob");
        bob.event("consent_asked");
        bob.say("/allow alice");
        alice.event("connected");
        alice.say("/friend bob");
        bob.event("friend_asked");
        bob.say("/friend alice later");
        alice.event("friend_answered");
        bob.say("/friend alice");
        alice.event("friend_answered");
        alice.say("/query --exclusive bob");
        bob.event("exclusive_opened");
        alice.say("between us");
        bob.event("message");
        alice.event("read");
        alice.say("/close");
        bob.event("exclusive_closed");
    }

    /// A person moves to another machine.
    fn move_away(&mut self, person: &Person<'_>, directory: &Directory) {
        let file = person.world.path("moved").display().to_string();
        let passphrase = person.world.write("passphrase", "a long passphrase\n").display().to_string();
        let last = [file.as_str(), "--passphrase-file", passphrase.as_str()];
        self.on_disk(person, "events", "export-identity", &last, 0);
        let other_machine = World::new();
        self.on_disk(&other_machine.person(person.name, directory), "events", "import-identity", &last, 0);
    }
}

/// A command of a person without what answers questions.
fn whose(person: &Person<'_>, verb: &str, last: &[&str]) -> Command {
    let (name, server, home) = (person.name, &person.server, person.home());
    let mut command =
        person.world.qchat(&format!("{verb} --json --user {name} --server {server} --home {}", home.display()));
    command.args(last).current_dir(person.folder());
    command
}

/// The verbs that the program says it has.
fn all_verbs(world: &World) -> BTreeSet<String> {
    let help = Process::spawn(world.qchat("--help")).outcome().stdout;
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // What is indented more is the rest of a purpose.
    let verbs = lines.filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    verbs.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn everything_that_any_verb_prints_is_in_the_schema() {
    let world = World::new();
    let directory = world.directory();
    let [alice, bob, carol, dave, erin] =
        ["alice", "bob", "carol", "dave", "erin"].map(|name| world.person(name, &directory));
    let mut seen = Seen { schema: Schema::on_file(), verbs: BTreeSet::new(), events: BTreeSet::new() };
    let (mut alice_peer, mut bob_peer) = (alice.peer(), bob.peer());
    bob.file("a large file", content(600_000));
    bob.rows("share", &["a large file"]);
    dave.rows("who", &[]);
    bob.rows("profile", &["edit", "name", "Bob"]);

    // Through a running peer, and alone.
    for person in [&alice, &carol] {
        seen.ask_everything(person);
        seen.offer(person, &mut bob_peer);
    }
    seen.verb(&alice, "status", &[], 0);
    seen.verb(&alice, "presence", &["away"], 0);
    seen.verb(&carol, "presence", &["away"], 1);
    seen.wait(&alice, &erin);
    seen.meet(&carol, &mut alice_peer, &mut bob_peer);
    seen.welcome(&alice, &bob, &mut bob_peer);
    seen.administer(&world);
    seen.move_away(&carol, &directory);
    let demo = world.write("crossing", "to cross");
    seen.run("events", world.qchat(&format!("demo --json {}", demo.display())), "demo", 0);

    bob_peer.say("/quit");
    seen.ended("events", bob_peer, "peer", 0);
    let serve = directory.process;
    serve.signal(Signal::TERM);
    seen.ended("serve", serve, "serve", 0);
    alice_peer.event("directory_lost");
    seen.ended("events", alice_peer, "peer", 0);
    seen.verb(&alice, "who", &[], 10);

    let silent = SILENT.iter().map(|verb| (*verb).to_owned());
    let verbs: BTreeSet<String> = seen.verbs.iter().cloned().chain(silent).collect();
    assert_eq!(verbs, all_verbs(&world), "a verb whose output nobody has looked at");
    let events = seen.schema.0["events"].as_object().expect("events by name").keys();
    let not_seen: Vec<&String> = events.filter(|name| !seen.events.contains(*name)).collect();
    assert_eq!(not_seen, NOT_PROVOKED, "the rest is printed by something");
}

#[test]
fn what_is_not_in_the_schema_is_found() {
    let schema = Schema::on_file();
    let check = |line: &str, says: &str| {
        let error = schema.check("events", &serde_json::from_str(line).expect("JSON")).expect_err(line);
        assert!(error.contains(says), "{error:?} should say {says:?}");
    };
    check(r#"{"event":"nonsense"}"#, "no event");
    check(r#"{"event":"person"}"#, "name is missing");
    check(r#"{"event":"person","name":"Not A Name"}"#, "is not");
    check(r#"{"event":"person","name":"bob","presence":"away","age":7}"#, "age is not in the schema");
    check(r#"{"event":"logged_in_elsewhere","why":"x"}"#, "why is not in the schema");
    check(r#"{"event":"failed","failure":{"kind":"odd","message":"x"}}"#, "failure: kind");
    check(r#"{"event":"sent","to":"bob","name":"x","size":1,"digest":null,"offer":null}"#, "digest");
    let good = r#"{"event":"failed","failure":{"kind":"usage","message":"x","hint":"y"}}"#;
    schema.check("events", &serde_json::from_str(good).expect("JSON")).expect("this is in the schema");
}
