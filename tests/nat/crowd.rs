//! Chat beside a transfer that fills the way: messages must not wait in the queue that the transfer makes.

use std::time::{Duration, Instant};

use crate::cells::Path;
use crate::gate::Gate;
use crate::lab::Lab;
use crate::people::{Person, directory};
use crate::program::{Process, World, content, text};
use crate::routers::Kind;

/// What leaves Alice's home in a second, and how long a queue her router has for it: longer than anybody who talks likes.
const SHAPE: &str = "rate 100mbit burst 128kb latency 100ms";

/// How much longer than on an idle link all but one in a hundred messages may take at most; without care for them it is more
/// than 100 ms.
const DELAY_MAX: Gate<Duration> = Gate { strict: Duration::from_millis(30), loose: Duration::from_millis(75) };

/// Messages of each side on the idle link, and as many beside the transfer.
const MESSAGES: usize = 200;

/// Crosses in more time than the messages take; what is left of it is not fetched.
const FILE_BYTES: usize = 512 << 20;

/// Bits that must come in a second for the way to count as full: a transfer that leaves room proves nothing.
const FULL: Gate<f64> = Gate { strict: 80e6, loose: 60e6 };

/// By then the transfer has the speed that it keeps.
const WARM_UP_BYTES: u64 = 32 << 20;

lab_tests! {
    a_transfer_that_fills_the_way_does_not_delay_messages => {
        let lab = Lab::new(Kind::Port, Kind::Port);
        lab.alice.shape(SHAPE);
        let world = World::new();
        let _directory = directory(&world, &lab);
        let [alice, bob] = Person::both(&world, &lab);
        let mut chat = Chat { peers: [alice.peer(""), bob.peer("")], said: 0 };
        alice.file("small.bin", content(1 << 20));
        alice.file("large.bin", content(FILE_BYTES));
        alice.share("small.bin");
        alice.share("large.bin");
        bob.start("get", &["alice:small.bin"]).outcome().expect_code(0);
        assert_eq!(bob.settled_path_to("alice").map(|via| Path::of(&via)), Some(Path::Direct));

        let idle = chat.times();
        let mut get = bob.start("get", &["alice:large.bin"]);
        while progress(&mut get) < WARM_UP_BYTES {}
        let (begun, before) = (Instant::now(), progress(&mut get));
        let loaded = chat.times();
        let took = begun.elapsed();
        let rate = 8e6 * last_progress(&mut get, before).saturating_sub(before) as f64 / took.as_micros() as f64;

        println!("idle: {idle}; beside a transfer of {:.0} Mbit/s: {loaded}", rate / 1e6);
        assert!(rate >= FULL.value(), "the transfer does not fill the way: {rate:.0} bit/s");
        let gate = idle.p99 + DELAY_MAX.value();
        assert!(loaded.p99 <= gate, "{:?} beside the transfer, at most {gate:?} would be right", loaded.p99);
    };
}

/// Two people whose programs are told what to say and asked what came.
struct Chat {
    peers: [Process; 2],
    said: usize,
}

/// How long messages were under way.
struct Times {
    p50: Duration,
    p99: Duration,
}

impl Chat {
    /// Lets each say something in turn, from one program to the other.
    fn times(&mut self) -> Times {
        let mut times: Vec<Duration> =
            (0..MESSAGES).flat_map(|_| [self.say(0, 1, "bob"), self.say(1, 0, "alice")]).collect();
        times.sort();
        Times { p50: times[times.len() / 2], p99: times[times.len() * 99 / 100] }
    }

    fn say(&mut self, from: usize, to: usize, name: &str) -> Duration {
        self.said += 1;
        let line = format!("message {}", self.said);
        let said = Instant::now();
        self.peers[from].say(&format!("/msg {name} {line}"));
        let came = self.peers[to].event("message");
        let took = said.elapsed();
        assert_eq!(text(&came, "text"), line);
        took
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p50 {:.1} ms, p99 {:.1} ms", self.p50.as_secs_f64() * 1e3, self.p99.as_secs_f64() * 1e3)
    }
}

/// Bytes that are here, of the next word of it.
#[track_caller]
fn progress(get: &mut Process) -> u64 {
    let event = get.event_where("progress", |event| event["activity"] == "receiving");
    event["done"].as_u64().expect("a number of bytes")
}

/// Bytes that are here by what was said of it meanwhile; the transfer must still be under way.
#[track_caller]
fn last_progress(get: &mut Process, mut done: u64) -> u64 {
    while let Some(event) = get.event_within(Duration::ZERO) {
        assert_ne!(event["event"], "received", "the transfer ended too early: {event}");
        done = event["done"].as_u64().unwrap_or(done);
    }
    done
}
