//! A large transfer during which the directory is killed and started again, and the direct path is cut for good: it goes
//! on through the relay of the new directory, and nobody does anything for it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path as FilePath;
use std::time::Duration;

use crate::cells::Path;
use crate::lab::Lab;
use crate::people::{Person, directory_that};
use crate::program::{Process, World};
use crate::routers::Kind;

/// What leaves the sender's home in a second: enough time for everything that happens meanwhile.
const SHAPE: &str = "rate 200mbit burst 256kb latency 50ms";

/// What the relay may carry, both ways together: more than comes.
const RELAY: &str = "--relay-rate 40M --relay-rate-total 80M";

const FILE_BYTES: u64 = 500_000_000;

/// Bytes that are here when the directory is killed, and that come after it runs again before the path is cut.
const BEFORE: u64 = 100_000_000;

/// A transfer of which nothing is heard for so long has failed.
const DEAD_AFTER: Duration = Duration::from_secs(30);

lab_tests! {
    half_a_gigabyte_survives_a_new_directory_and_then_the_end_of_the_direct_path => {
        let world = World::new();
        let lab = Lab::new(Kind::Port, Kind::Port);
        let mut scene = Scene::new(&world, &lab);
        let mut get = scene.get();
        wait_for(&mut get, Path::Direct, BEFORE);
        scene.restart_directory(|| ());
        let here = wait_for(&mut get, Path::Direct, BEFORE);
        for peer in &mut scene.peers {
            peer.event("logged_in");
        }
        lab.cut();
        wait_for(&mut get, Path::Relay, here);
        scene.finish(get);
    };

    half_a_gigabyte_survives_the_end_of_the_direct_path_while_there_is_no_directory => {
        let world = World::new();
        let lab = Lab::new(Kind::Port, Kind::Port);
        let mut scene = Scene::new(&world, &lab);
        let mut get = scene.get();
        let here = wait_for(&mut get, Path::Direct, BEFORE);
        scene.restart_directory(|| lab.cut());
        wait_for(&mut get, Path::Relay, here);
        scene.finish(get);
    };
}

struct Scene<'a> {
    world: &'a World,
    lab: &'a Lab,
    directory: Process,
    people: [Person<'a>; 2],
    peers: [Process; 2],
}

impl<'a> Scene<'a> {
    fn new(world: &'a World, lab: &'a Lab) -> Self {
        lab.alice.shape(SHAPE);
        let directory = directory_that(world, lab, RELAY);
        let people = Person::both(world, lab);
        let peers = [people[0].peer(""), people[1].peer("")];
        random_file(&people[0].folder().join("large.bin"));
        people[0].share("large.bin");
        Self { world, lab, directory, people, peers }
    }

    fn get(&self) -> Process {
        self.people[1].start("get", &["alice:large.bin"])
    }

    /// Kills the directory, lets something happen while there is none, and starts it again as it was.
    fn restart_directory(&mut self, meanwhile: impl FnOnce()) {
        self.directory.kill();
        meanwhile();
        self.directory = directory_that(self.world, self.lab, RELAY);
    }

    fn finish(&self, mut get: Process) {
        get.event("received");
        get.outcome().expect_code(0);
        let [alice, bob] = self.people.each_ref().map(|person| person.folder().join("large.bin"));
        assert!(are_equal(&alice, &bob), "the file came, but not as it was");
    }
}

/// Waits until bytes come by a path and at least so many are here. Gives how many that are.
#[track_caller]
fn wait_for(get: &mut Process, wanted: Path, at_least: u64) -> u64 {
    let mut done = 0;
    loop {
        let Some(event) = get.event_within(DEAD_AFTER) else {
            get.kill();
            panic!("the transfer does not go on at {done} bytes: {}", get.take_stderr());
        };
        assert_ne!(event["event"], "received", "the transfer ended too early: {event}");
        if event["event"] == "progress" && event["activity"] == "receiving" {
            done = event["done"].as_u64().expect("a number of bytes");
            if done >= at_least && Path::of(&event["via"]) == wanted {
                return done;
            }
        }
    }
}

/// Of bytes that repeat nowhere, from the operating system: those of a loop take longer than the transfer.
fn random_file(path: &FilePath) {
    let mut random = File::open("/dev/urandom").expect("every Linux has it").take(FILE_BYTES);
    let mut file = File::create(path).expect("a file in our own folder");
    std::io::copy(&mut random, &mut file).expect("there is room for it");
    file.flush().expect("there is room for it");
}

fn are_equal(one: &FilePath, other: &FilePath) -> bool {
    let [mut one, mut other] = [one, other].map(|path| File::open(path).expect("the file is there"));
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let here = one.read(&mut left).expect("it can be read");
        if here == 0 {
            return other.read(&mut right).expect("it can be read") == 0;
        }
        if other.read_exact(&mut right[..here]).is_err() || left[..here] != right[..here] {
            return false;
        }
    }
}
