//! What is promised of messages while everything is killed: the auditor of the simulation reads what real processes say.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::auditor::{Auditor, Fact, Stage};
use crate::program::{DEADLINE, Directory, Person, Process, World, all_bytes_below, text};
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
    written: BTreeSet<String>,
    shown: usize,
    final_states: usize,
    /// The next message may have been on the screen before its program was killed.
    perhaps_again: Option<String>,
    on_screen: BTreeSet<String>,
    /// What alice said of messages before what bob had said was read from his pipe.
    early: Vec<Fact>,
}

impl Witness {
    fn hear_alice(&mut self, event: &Value) {
        let by = "alice".to_owned();
        let stage = match text(event, "event") {
            "queued" => {
                let (to, id) = ("bob".to_owned(), text(event, "id").to_owned());
                self.written.insert(id.clone());
                return self.auditor.hear(&Fact::Written { by, to, id, number: self.written.len() as u64 });
            }
            "stored" => Stage::Stored,
            "delivered" => Stage::Delivered,
            "read" => Stage::Read,
            "not_sent" => Stage::Refused,
            _ => return,
        };
        self.final_states += usize::from(matches!(stage, Stage::Read | Stage::Refused));
        let id = text(event, "id").to_owned();
        let is_early = stage == Stage::Read && !self.on_screen.contains(&id);
        let fact = Fact::State { by, id, stage };
        if is_early { self.early.push(fact) } else { self.auditor.hear(&fact) }
    }

    fn hear_bob(&mut self, event: &Value, alice: &mut Process) {
        let at = "bob".to_owned();
        match text(event, "event") {
            "again" => self.perhaps_again = Some(text(event, "id").to_owned()),
            "message" => {
                let id = text(event, "id").to_owned();
                // What she has printed about it may not have been read yet.
                while !self.written.contains(&id)
                    && let Some(event) = alice.event_within(DEADLINE)
                {
                    self.hear_alice(&event);
                }
                let is_repeated = self.perhaps_again.take().as_ref() == Some(&id) && self.on_screen.contains(&id);
                if !is_repeated {
                    self.shown += 1;
                    self.on_screen.insert(id.clone());
                    self.auditor.hear(&Fact::Shown { at, id: id.clone() });
                    let (true_now, early) = std::mem::take(&mut self.early)
                        .into_iter()
                        .partition(|fact| matches!(fact, Fact::State { id: of, .. } if *of == id));
                    self.early = early;
                    let true_now: Vec<Fact> = true_now;
                    true_now.iter().for_each(|fact| self.auditor.hear(fact));
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
            self.hear_bob(&event, alice);
        }
    }

    #[track_caller]
    fn expect_nothing_broken(&self) {
        assert_eq!(self.early, [], "bob never showed them");
        let violations: Vec<String> = self.auditor.violations().iter().map(ToString::to_string).collect();
        assert!(violations.is_empty(), "after {} facts: {violations:#?}", self.auditor.point());
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
    // Of a stranger few messages may wait.
    bob_peer.say("/msg alice go on");
    alice.event("message");
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
            witness.hear_bob(&event, &mut alice);
        }
        witness.hear_all(&mut alice, &mut bob_peer);
        if kills < KILLS && witness.shown * (KILLS + 1) > (kills + 1) * MESSAGES {
            kills += 1;
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if dice >> 63 == 0 {
                log.push_str(&kill(&mut directory));
                directory = world.directory_that(&directory.address.to_string(), "-vv --relay-ports any");
            } else {
                bob_peer.kill();
                while let Some(event) = bob_peer.event_within(Duration::from_secs(5)) {
                    witness.hear_bob(&event, &mut alice);
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

/// Two people with a link between them: alice has just fetched a file from bob.
fn linked(world: &World, directory: &Directory) -> (Process, Process) {
    let (alice, bob) = (world.person("alice", directory), world.person("bob", directory));
    let shared = bob.file("shared.txt", "a small file");
    let (mut alice, mut bob) = (alice.peer(), bob.peer());
    bob.say(&format!("/share {}", shared.display()));
    bob.event("shared");
    alice.say("/get bob:shared.txt");
    alice.event("received");
    (alice, bob)
}

#[test]
fn over_a_link_a_message_goes_straight_also_without_a_directory() {
    let world = World::new();
    let mut directory = world.directory();
    let (mut alice, mut bob) = linked(&world, &directory);

    alice.say("/msg bob straight to you");
    assert_eq!(bob.messages(1), ["straight to you"]);
    alice.event("read");
    directory.process.kill();
    bob.say("/msg alice and back, with nobody in between");
    assert_eq!(alice.messages(1), ["and back, with nobody in between"]);
    bob.event("read");

    for peer in [&alice, &bob] {
        assert!(!peer.kinds_so_far().iter().any(|kind| kind == "stored"), "{:?}", peer.kinds_so_far());
    }
    directory.start_again(&world);
    alice.event("logged_in");
    alice.say("/msg bob still there?");
    assert_eq!(bob.messages(1), ["still there?"], "nothing came twice");
}

#[test]
fn what_is_written_to_somebody_whose_machine_sleeps_is_stored_and_comes_once() {
    let world = World::new();
    let directory = world.directory();
    let (mut alice, mut bob) = linked(&world, &directory);

    bob.signal(Signal::STOP);
    let stopped = Instant::now();
    // The link does not know yet: it gets no answer, and the directory has to do.
    alice.say("/msg bob while you sleep");
    alice.event("stored");
    alice.event_where("presence", |event| event["name"] == "bob" && event["online"] == false);
    assert!(stopped.elapsed() < Duration::from_secs(35), "it took {:?} to notice", stopped.elapsed());
    alice.say("/msg bob and still");
    alice.event("stored");
    bob.signal(Signal::CONT);

    assert_eq!(bob.messages(2), ["while you sleep", "and still"]);
    alice.event("read");
    alice.event("read");
    alice.say("/msg bob awake?");
    assert_eq!(bob.messages(1), ["awake?"], "nothing came twice");
}
