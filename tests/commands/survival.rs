//! What is promised of messages while everything is killed: the auditor of the simulation reads what real processes say.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::auditor::{Auditor, Fact, Stage};
use crate::program::{Directory, Person, Process, World, all_bytes_below, text};
use crate::wiretap::Wiretap;

const MESSAGES: usize = 2_000;
const KILLS: usize = 20;
/// Messages that were written and not shown: fewer than one sender may leave in a mailbox.
const ON_THEIR_WAY_MAX: usize = 60;
/// In every text, and nowhere else.
const MARKER: &str = "qv7-marker-of-a-private-line";
/// The whole test, on a slow machine with others at work.
const PATIENCE: Duration = Duration::from_secs(400);

/// What the writer and the recipient say, as facts for the auditor.
#[derive(Default)]
struct Witness {
    auditor: Auditor,
    written: u64,
    shown: usize,
    final_states: usize,
    /// The next message may have been on the screen before its program was killed.
    perhaps_again: Option<String>,
    on_screen: std::collections::BTreeSet<String>,
}

impl Witness {
    fn hear_alice(&mut self, event: &Value) {
        let by = "alice".to_owned();
        let stage = match text(event, "event") {
            "queued" => {
                self.written += 1;
                let (to, id) = ("bob".to_owned(), text(event, "id").to_owned());
                return self.auditor.hear(&Fact::Written { by, to, id, number: self.written });
            }
            "stored" => Stage::Stored,
            "delivered" => Stage::Delivered,
            "read" => Stage::Read,
            "not_sent" => Stage::Refused,
            _ => return,
        };
        self.final_states += usize::from(matches!(stage, Stage::Read | Stage::Refused));
        self.auditor.hear(&Fact::State { by, id: text(event, "id").to_owned(), stage });
    }

    fn hear_bob(&mut self, event: &Value) {
        let at = "bob".to_owned();
        match text(event, "event") {
            "again" => self.perhaps_again = Some(text(event, "id").to_owned()),
            "message" => {
                let id = text(event, "id").to_owned();
                let is_repeated = self.perhaps_again.take().as_ref() == Some(&id) && self.on_screen.contains(&id);
                if !is_repeated {
                    self.shown += 1;
                    self.on_screen.insert(id.clone());
                    self.auditor.hear(&Fact::Shown { at, id });
                }
            }
            "missing" => {
                let number = |field: &str| event[field].as_u64().expect("a number");
                let (first, last) = (number("first"), number("last"));
                self.auditor.hear(&Fact::Missing { at, from: "alice".to_owned(), first, last });
            }
            _ => {}
        }
    }

    /// Hears everything that was printed until now.
    fn hear_all(&mut self, alice: &mut Process, bob: &mut Process) {
        while let Some(event) = alice.event_within(Duration::ZERO) {
            self.hear_alice(&event);
        }
        while let Some(event) = bob.event_within(Duration::ZERO) {
            self.hear_bob(&event);
        }
    }

    #[track_caller]
    fn expect_nothing_broken(&self) {
        let violations: Vec<String> = self.auditor.violations().iter().map(ToString::to_string).collect();
        assert_eq!(violations, Vec::<String>::new());
    }
}

#[test]
fn two_thousand_messages_survive_twenty_kills_unread_by_the_directory() {
    let world = World::new();
    let mut directory = world.directory_that("127.0.0.1:0", "-vv");
    let tap = Wiretap::before(directory.address, MARKER);
    let server = tap.address.to_string();
    let person = |name| Person { world: &world, name, server: server.clone() };
    let (alice, bob) = (person("alice"), person("bob"));
    let (mut alice, mut bob_peer) = (alice.peer(), bob.peer());
    let mut witness = Witness::default();
    let mut log = String::new();
    let until = Instant::now() + PATIENCE;
    let (mut written, mut kills) = (0, 0);
    let mut dice = 0x9e37_79b9_u64;

    while witness.shown < MESSAGES {
        assert!(Instant::now() < until, "{} of {written} messages shown after {kills} kills", witness.shown);
        while written < MESSAGES && written < witness.shown + ON_THEIR_WAY_MAX {
            alice.say(&format!("/msg bob {MARKER} {written}"));
            written += 1;
        }
        if let Some(event) = bob_peer.event_within(Duration::from_millis(100)) {
            witness.hear_bob(&event);
        }
        witness.hear_all(&mut alice, &mut bob_peer);
        if kills < KILLS && witness.shown * (KILLS + 1) > (kills + 1) * MESSAGES {
            kills += 1;
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if dice >> 63 == 0 {
                log.push_str(&kill(&mut directory));
                directory = world.directory_that(&directory.address.to_string(), "-vv");
            } else {
                bob_peer.kill();
                while let Some(event) = bob_peer.event_within(Duration::from_secs(5)) {
                    witness.hear_bob(&event);
                }
                bob_peer = Process::spawn(bob.command("peer --json", &[]));
            }
        }
    }
    while witness.final_states < MESSAGES {
        assert!(Instant::now() < until, "alice knows the fate of {} messages", witness.final_states);
        if let Some(event) = alice.event_within(Duration::from_millis(100)) {
            witness.hear_alice(&event);
        }
    }
    witness.hear_all(&mut alice, &mut bob_peer);
    witness.auditor.hear(&Fact::End);

    witness.expect_nothing_broken();
    assert_eq!((kills, witness.shown), (KILLS, MESSAGES));
    log.push_str(&kill(&mut directory));
    assert!(log.contains("alice"), "the directory did log");
    assert!(!log.contains(MARKER));
    assert!(tap.datagrams() > MESSAGES as u64, "only {} datagrams went through", tap.datagrams());
    assert_eq!(tap.found(), 0);
    let kept = all_bytes_below(&world.path("data"));
    assert!(kept.len() > 10_000, "{} bytes are no database", kept.len());
    assert!(!kept.windows(MARKER.len()).any(|window| window == MARKER.as_bytes()));
}

/// `kill -9`, and what it had logged.
fn kill(directory: &mut Directory) -> String {
    directory.process.kill();
    directory.process.take_stderr()
}

#[test]
fn what_is_written_to_somebody_whose_machine_sleeps_is_stored_and_comes_once() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (world.person("alice", &directory), world.person("bob", &directory));
    let mut alice = alice.peer();
    let mut bob = bob.peer();
    alice.say("/msg bob before");
    assert_eq!(bob.messages(1), ["before"]);
    alice.event("delivered");

    bob.signal(Signal::STOP);
    let stopped = Instant::now();
    alice.say("/msg bob while you sleep");
    alice.event("stored");
    alice.event_where("presence", |event| event["name"] == "bob" && event["online"] == false);
    assert!(stopped.elapsed() < Duration::from_secs(35), "it took {:?} to notice", stopped.elapsed());
    bob.signal(Signal::CONT);

    assert_eq!(bob.messages(1), ["while you sleep"]);
    alice.event("delivered");
    alice.say("/msg bob awake?");
    assert_eq!(bob.messages(1), ["awake?"], "nothing came twice");
}
