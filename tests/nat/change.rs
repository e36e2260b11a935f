//! A transfer that changes its path on the way: from the relay to a direct path, back when that dies, and to it again.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cells::Path;
use crate::lab::Lab;
use crate::people::{Person, directory};
use crate::program::{Process, World, content, text};
use crate::routers::Kind;

/// A transfer that begins at the relay goes on directly within this.
const DIRECT_WITHIN: Duration = Duration::from_secs(3);

/// No longer do bytes stay away when a path dies.
const STALL_MAX: Duration = Duration::from_millis(500);

/// A direct path that died and lives again is used again within this.
const BACK_WITHIN: Duration = Duration::from_secs(10);

/// A transfer that makes no progress for so long has failed.
const DEAD_AFTER: Duration = Duration::from_secs(30);

/// What leaves the sender's home in a second, so that the transfer is still under way when the last path comes.
const RATE: &str = "rate 32mbit burst 128kb latency 100ms";

/// Crosses in 17 s at that rate.
const FILE_BYTES: usize = 64 << 20;

/// Bytes that come by the relay before the direct path lives again: about two seconds.
const BYTES_BY_RELAY: u64 = 8 << 20;

lab_tests! {
    a_transfer_that_begins_at_the_relay_moves_to_the_direct_path_soon => {
        let scene = Scene::new();
        let [alice, bob] = Person::both(&scene.world, &scene.lab);
        let (_alice_peer, _bob_peer) = (alice.peer(""), bob.peer(""));
        // So that there is no direct path yet when the first byte comes.
        scene.lab.cut();
        let mut transfer = Transfer::start(&alice, &bob);
        assert_eq!(transfer.next_progress(), Path::Relay);
        scene.lab.mend();
        let mended = Instant::now();
        transfer.wait_for(Path::Direct);

        println!("direct after {:?}", mended.elapsed());
        assert!(mended.elapsed() < DIRECT_WITHIN, "{:?}", mended.elapsed());
    };

    a_direct_path_that_dies_and_comes_back_costs_no_stall_and_loses_nothing => {
        let scene = Scene::new();
        let [alice, bob] = Person::both(&scene.world, &scene.lab);
        let (mut alice_peer, mut bob_peer) = (alice.peer(""), bob.peer(""));
        let mut said = Vec::new();
        let mut say = |count: usize| {
            for _ in 0..count {
                let line = format!("message {}", said.len());
                alice_peer.say(&format!("/msg bob {line}"));
                said.push(line);
            }
        };
        let mut transfer = Transfer::start(&alice, &bob);
        transfer.wait_for(Path::Direct);
        transfer.forget_gaps();
        say(5);

        scene.lab.cut();
        say(5);
        let by_relay_from = transfer.wait_for(Path::Relay);
        let stall = transfer.longest_gap();
        say(5);
        transfer.wait_until(by_relay_from + BYTES_BY_RELAY);
        scene.lab.mend();
        let mended = Instant::now();
        say(5);
        transfer.wait_for(Path::Direct);
        let back_after = mended.elapsed();
        say(5);
        let longest_gap = transfer.longest_gap();
        transfer.finish();

        println!("stalled for {stall:?} at the cut, {longest_gap:?} at most; direct again after {back_after:?}");
        assert!(longest_gap <= STALL_MAX, "{longest_gap:?}");
        assert!(back_after <= BACK_WITHIN, "{back_after:?}");
        assert!(alice.bytes("large.bin") == bob.bytes("large.bin"), "the file came, but not as it was");
        assert_eq!(bob_peer.messages(said.len()), said);
        let again: Vec<Value> = bob_peer.outcome().events();
        let came: Vec<&str> =
            again.iter().filter(|event| event["event"] == "message").map(|event| text(event, "text")).collect();
        assert_eq!(came, said, "no message came twice");
    };
}

/// Two homes that find a direct path, one of which has little bandwidth.
struct Scene {
    _directory: Process,
    world: World,
    lab: Lab,
}

impl Scene {
    fn new() -> Self {
        let lab = Lab::new(Kind::Port, Kind::Port);
        lab.alice.shape(RATE);
        let world = World::new();
        let directory = directory(&world, &lab);
        Self { _directory: directory, world, lab }
    }
}

/// Bob fetches a large file of Alice's.
struct Transfer {
    get: Process,
    done: u64,
    grew: Instant,
    longest_gap: Duration,
}

impl Transfer {
    fn start(alice: &Person<'_>, bob: &Person<'_>) -> Self {
        alice.file("large.bin", content(FILE_BYTES));
        alice.share("large.bin");
        let get = bob.start("get", &["alice:large.bin"]);
        Self { get, done: 0, grew: Instant::now(), longest_gap: Duration::ZERO }
    }

    /// The next word of bytes that came, with the path they came by.
    #[track_caller]
    fn next_progress(&mut self) -> Path {
        loop {
            let Some(event) = self.get.event_within(DEAD_AFTER) else {
                self.get.kill();
                panic!("the transfer does not go on at {} bytes: {}", self.done, self.get.take_stderr());
            };
            assert_ne!(event["event"], "received", "the transfer ended too early: {event}");
            if event["event"] == "progress" && event["activity"] == "receiving" {
                self.note(event["done"].as_u64().expect("a number of bytes"));
                return Path::of(&event["via"]);
            }
        }
    }

    fn note(&mut self, done: u64) {
        if done > self.done {
            self.longest_gap = self.longest_gap.max(self.grew.elapsed());
            (self.done, self.grew) = (done, Instant::now());
        }
    }

    /// Waits until bytes come by a path; they may do so `already`. Gives how many have come.
    #[track_caller]
    fn wait_for(&mut self, wanted: Path) -> u64 {
        while self.next_progress() != wanted {}
        self.done
    }

    #[track_caller]
    fn wait_until(&mut self, done: u64) {
        while self.done < done {
            self.next_progress();
        }
    }

    fn forget_gaps(&mut self) {
        self.longest_gap = Duration::ZERO;
    }

    fn longest_gap(&self) -> Duration {
        self.longest_gap
    }

    fn finish(mut self) {
        self.get.event("received");
        self.get.outcome().expect_code(0);
    }
}
