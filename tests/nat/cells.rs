//! One pair of peers, one file from one to the other, and how it came.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::lab::Lab;
use crate::people::{Person, directory};
use crate::program::{Process, World, content};
use crate::routers::{CLASSIC, Kind};

/// Bytes of the file: a few hundred packets.
const FILE_BYTES: usize = 3 << 20;

/// A direct connection moves more than this each way: both its first packets are full ones.
const DIRECT_BYTES_MIN: u64 = 2_400;

/// What a peer may send to an address that has not answered, 10 kB in each attempt on a candidate, and there are few.
const UNPROVEN_BYTES_MAX: u64 = 30_000;

/// Where the two peers live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cell {
    /// Behind routers of these kinds; the first has the file, the second fetches it.
    Apart(Kind, Kind),
    /// In one LAN.
    OneRouter,
}

/// How they may talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Relayed at first, and directly as soon as that works.
    Race,
    /// Relayed, and nobody's address is given to anybody.
    RelayOnly,
}

/// A way from peer to peer, as the program names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    Direct,
    Relay,
    /// The program says nothing about it.
    Unknown,
}

/// What came of it.
pub(crate) struct Seen {
    /// How the link goes in the end.
    pub(crate) settled: Path,
    /// How the file's first byte came.
    pub(crate) first: Path,
    /// From the command to the first byte.
    pub(crate) first_byte_ms: Option<f64>,
    /// Bytes from home to home as the core counted them, from each.
    between_homes: [u64; 2],
    /// The last row of the transfer, for the message of a test that fails.
    received: Value,
    /// How the program describes the link in the end.
    link: Option<Value>,
}

impl Path {
    /// The path in what an event says about it, if it says something.
    pub(crate) fn of(info: &Value) -> Self {
        match info["path"].as_str() {
            Some("direct") => Self::Direct,
            Some("relay") => Self::Relay,
            _ => Self::Unknown,
        }
    }
}

impl Cell {
    /// All that the table has.
    pub(crate) fn all() -> Vec<Self> {
        use Kind::{Double, Home, Ipv6, Open, Port, Remembering, Symmetric};
        let mut cells: Vec<Self> = Self::classic();
        cells.extend([
            Self::Apart(Open, Open),
            Self::Apart(Home, Home),
            Self::Apart(Remembering, Remembering),
            Self::Apart(Remembering, Port),
            Self::Apart(Port, Remembering),
            Self::Apart(Double, Port),
            Self::Apart(Port, Double),
            Self::Apart(Double, Double),
            Self::Apart(Double, Symmetric),
            Self::OneRouter,
            Self::Apart(Ipv6, Ipv6),
            Self::Apart(Home, Ipv6),
        ]);
        cells
    }

    /// The 16 pairs of the classic kinds.
    pub(crate) fn classic() -> Vec<Self> {
        CLASSIC.iter().flat_map(|alice| CLASSIC.iter().map(|bob| Self::Apart(*alice, *bob))).collect()
    }

    /// The cell with a name as the table prints it.
    pub(crate) fn named(name: &str) -> Option<Self> {
        if name == Self::OneRouter.to_string() {
            return Some(Self::OneRouter);
        }
        let (alice, bob) = name.split_once(':')?;
        Some(Self::Apart(Kind::named(alice)?, Kind::named(bob)?))
    }

    /// Its homes, from which packets take so long to the core of the Internet or back.
    pub(crate) fn lab(self, delay: Duration) -> Lab {
        match self {
            Self::Apart(alice, bob) => Lab::far_apart(alice, bob, delay),
            Self::OneRouter => Lab::behind_one_router(delay),
        }
    }

    /// The path that its peers must end with.
    pub(crate) fn expected(self, mode: Mode) -> Path {
        let meet = match self {
            Self::Apart(alice, bob) => alice.meets(bob),
            Self::OneRouter => true,
        };
        if meet && mode == Mode::Race { Path::Direct } else { Path::Relay }
    }

    /// Runs it once, in a lab of its own.
    pub(crate) fn run(self, mode: Mode, delay: Duration) -> Seen {
        let lab = self.lab(delay);
        let world = World::new();
        let _directory = directory(&world, &lab);
        let [alice, bob] = Person::both(&world, &lab);
        let (_alice_peer, _bob_peer) = (alice.peer(""), bob.peer(mode.flags()));
        alice.file("file.bin", content(FILE_BYTES));
        alice.share("file.bin");

        let mut get = bob.start("get", &["alice:file.bin"]);
        let received = get.event("received");
        Process::outcome(get).expect_code(0);

        assert_eq!(alice.bytes("file.bin"), bob.bytes("file.bin"), "{self}");
        let link = bob.settled_path_to("alice");
        Seen {
            settled: Path::of(link.as_ref().unwrap_or(&received["via"])),
            first: Path::of(&received["first_via"]),
            first_byte_ms: received["first_byte_us"].as_f64().map(|micros| micros / 1e3),
            between_homes: lab.bytes_between_homes(),
            received,
            link,
        }
    }

    /// Runs it once and checks that it ends as it must.
    pub(crate) fn check(self) -> Seen {
        let seen = self.run(Mode::Race, Duration::ZERO);
        println!("{self}: {seen}");
        assert_eq!(seen.settled, self.expected(Mode::Race), "{self}: {seen}");
        assert_ne!(seen.first, Path::Unknown, "{self}: {seen}");
        let [least, most] = [seen.between_homes.iter().min(), seen.between_homes.iter().max()]
            .map(|bytes| *bytes.expect("there are two"));
        match (self, self.expected(Mode::Race)) {
            // What is said within a LAN does not pass the core.
            (Self::OneRouter, _) => assert_eq!(most, 0, "{self}: {seen}"),
            (_, Path::Direct) => assert!(least > DIRECT_BYTES_MIN, "{self}: {seen}"),
            (_, Path::Relay | Path::Unknown) => assert!(most <= UNPROVEN_BYTES_MAX, "{self}: {seen}"),
        }
        if self.expected(Mode::Race) == Path::Relay {
            let why = seen.link.as_ref().map(|link| link["why_relayed"].clone());
            assert!(why.is_some_and(|why| why == "nat" || why == "no_address"), "{self}: {seen}");
        }
        seen
    }
}

impl Seen {
    /// The family of addresses by which the last byte came.
    pub(crate) fn family(&self) -> Option<&str> {
        self.received["via"]["family"].as_str()
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let link = self.link.as_ref().map_or("no link".to_owned(), Value::to_string);
        write!(
            f,
            "in the end {}, at first {}; {:?} bytes between the homes; {link}; {}",
            self.settled, self.first, self.between_homes, self.received
        )
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Apart(alice, bob) => f.pad(&format!("{alice}:{bob}")),
            Self::OneRouter => f.pad("one-router"),
        }
    }
}

impl Mode {
    /// Flags of the peer that fetches.
    fn flags(self) -> &'static str {
        match self {
            Self::Race => "",
            Self::RelayOnly => "--relay-only",
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Direct => "direct",
            Self::Relay => "relay",
            Self::Unknown => "unknown",
        })
    }
}
