//! Four people have a file, each with little upload: whoever fetches it gets the sum. One who lies is found out.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::gate::Gate;
use crate::lab::Lab;
use crate::people::{Person, directory};
use crate::program::{Process, World, content, text};

/// What leaves each of the four homes in a second.
const RATE: &str = "rate 25mbit burst 32kb latency 100ms";

/// Bits of the file that must come in a second, of the 100 million of all four with the headers of packets: what can be had
/// on a machine that does nothing else, and more than three of them could give.
const SUM: Gate<f64> = Gate { strict: 90e6, loose: 76e6 };

/// Crosses in about eight seconds.
const FILE_BYTES: usize = 96 << 20;

/// By then all four are at work, and from here on one after the other has nothing left.
const COMPARED: [u64; 2] = [20 << 20, 80 << 20];

/// What is verified as one.
const GROUP_BYTES: u64 = 256 << 10;

lab_tests! {
    four_slow_sources_are_as_fast_as_their_sum => {
        let (world, lab) = (World::new(), Lab::of_five());
        let scene = Scene::new(&world, &lab);
        let mut get = scene.get();
        let from = progress(&mut get, COMPARED[0]);
        let begun = Instant::now();
        let to = progress(&mut get, COMPARED[1]);
        let rate = 8.0 * (to - from) as f64 / begun.elapsed().as_secs_f64();
        get.event("received");
        get.outcome().expect_code(0);

        println!("{:.1} Mbit/s from four sources of 25", rate / 1e6);
        assert!(scene.bob.bytes("large.bin") == scene.sources[0].bytes("large.bin"), "the file came, but not as it was");
        assert!(rate >= SUM.value(), "{rate:.0} bit/s");
    };

    a_source_that_lies_is_dropped_by_name_and_the_others_give_the_file => {
        let (world, lab) = (World::new(), Lab::of_five());
        let scene = Scene::new(&world, &lab);
        let honest = scene.bob_wants();
        falsify(&scene.sources[2].folder().join("large.bin"));
        let mut get = scene.get();
        let dropped = get.event("source_dropped");
        assert_eq!((text(&dropped, "name"), text(&dropped, "file")), ("dave", "large.bin"));
        get.event("received");
        get.outcome().expect_code(0);

        assert!(scene.bob.bytes("large.bin") == honest, "the file came, but not as it was");
    };
}

/// Alice, Carol, Dave and Erin have a file that Bob wants.
struct Scene<'a> {
    sources: Vec<Person<'a>>,
    bob: Person<'a>,
    digest: String,
    _running: Vec<Process>,
}

impl<'a> Scene<'a> {
    fn new(world: &'a World, lab: &'a Lab) -> Self {
        let mut running = vec![directory(world, lab)];
        let [alice, bob] = Person::both(world, lab);
        let mut sources = vec![alice];
        sources.extend(Person::others(world, lab));
        for home in lab.others.iter().chain([&lab.alice]) {
            home.shape(RATE);
        }
        let file = content(FILE_BYTES);
        for source in &sources {
            running.push(source.peer(""));
            source.file("large.bin", &file);
            source.share("large.bin");
        }
        running.push(bob.peer(""));
        let (digest, owners) = bob.find("large.bin");
        assert_eq!(owners, 4);
        Self { sources, bob, digest, _running: running }
    }

    fn get(&self) -> Process {
        self.bob.start("get", &[&self.digest])
    }

    /// The file as it was shared.
    fn bob_wants(&self) -> Vec<u8> {
        self.sources[0].bytes("large.bin")
    }
}

/// Changes a byte in every group, so that nothing but the bytes shows it.
fn falsify(path: &Path) {
    let file = File::options().read(true).write(true).open(path).expect("the file is ours");
    let before = file.metadata().and_then(|metadata| metadata.modified()).expect("files have times");
    for group in 0..FILE_BYTES as u64 / GROUP_BYTES {
        let (at, mut byte) = (group * GROUP_BYTES + 7, [0]);
        file.read_exact_at(&mut byte, at).expect("it is that long");
        file.write_all_at(&[!byte[0]], at).expect("it is ours");
    }
    file.set_modified(before).expect("it is ours");
}

/// Waits until so many bytes are here, and gives how many it has become.
#[track_caller]
fn progress(get: &mut Process, at_least: u64) -> u64 {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let event = get.event_where("progress", |event| event["activity"] == "receiving");
        let done = event["done"].as_u64().expect("a number of bytes");
        if done >= at_least {
            return done;
        }
        assert!(Instant::now() < until, "only {done} bytes came");
    }
}
