//! The directory and the two people of a lab: the real program, each in its namespace.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lab::{Home, Lab, SERVER, SERVER_IPV6};
use crate::namespaces::Namespace;
use crate::program::{Outcome, Process, World};

/// The directory's port.
const PORT: u16 = 4433;

/// A direct path is found by then, or none is.
const SETTLED_WITHIN: Duration = Duration::from_secs(15);

/// How often a peer is asked how its link goes.
const ASKED_EVERY: Duration = Duration::from_millis(200);

/// A running directory that can be reached by the families of addresses that the peers have.
pub(crate) fn directory(world: &World, lab: &Lab) -> Process {
    directory_that(world, lab, "")
}

/// A running directory with more flags.
pub(crate) fn directory_that(world: &World, lab: &Lab, flags: &str) -> Process {
    let (cert, data) = (world.path("cert"), world.path("data"));
    let (cert, data) = (cert.display(), data.display());
    let has_ipv6 = lab.alice.lan.is_ipv6() || lab.bob.lan.is_ipv6();
    let listen = if has_ipv6 { "[::]" } else { "0.0.0.0" };
    let serve = format!("serve --cert {cert} --data {data} --listen {listen}:{PORT} --json {flags}");
    let mut process = Process::spawn(world.set_up(qchat(&lab.server), &serve));
    process.event("listening");
    process
}

/// The program in a namespace.
fn qchat(namespace: &Namespace) -> Command {
    namespace.command(env!("CARGO_BIN_EXE_qchat"))
}

/// A person in a lab.
pub(crate) struct Person<'a> {
    world: &'a World,
    name: &'static str,
    home: &'a Home,
}

impl<'a> Person<'a> {
    /// The two people of a lab.
    pub(crate) fn both(world: &'a World, lab: &'a Lab) -> [Self; 2] {
        [Self { world, name: "alice", home: &lab.alice }, Self { world, name: "bob", home: &lab.bob }]
    }

    /// The people of the other homes of a lab.
    pub(crate) fn others(world: &'a World, lab: &'a Lab) -> Vec<Self> {
        let person = |(name, home)| Self { world, name, home };
        ["carol", "dave", "erin"].into_iter().zip(&lab.others).map(person).collect()
    }

    /// Where their programs start, and where what they fetch goes.
    pub(crate) fn folder(&self) -> PathBuf {
        self.world.folder(&format!("folder of {}", self.name))
    }

    pub(crate) fn file(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.folder().join(name), bytes).expect("a file in our own folder");
    }

    /// The bytes of a file of theirs.
    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder().join(name)).expect("the file is there")
    }

    /// A command as this person; `arguments` are separated by spaces, the `last` ones are taken as they are.
    fn command(&self, arguments: &str, last: &[&str]) -> Command {
        let Self { world, name, home } = self;
        let server = match home.lan.is_ipv6() {
            true => format!("[{SERVER_IPV6}]:{PORT}"),
            false => format!("{SERVER}:{PORT}"),
        };
        let (profile, password) = (world.path(&format!("home-of-{name}")), world.path("password"));
        let (profile, password) = (profile.display(), password.display());
        let login = format!(
            "--user {name} --server {server} --home {profile} --password-file {password} --register --accept-new"
        );
        let mut command = world.set_up(qchat(&home.peer), &format!("{arguments} {login} --"));
        command.args(last).current_dir(self.folder());
        command
    }

    /// Starts their resident peer with more flags.
    pub(crate) fn start_peer(&self, flags: &str) -> Process {
        Process::spawn(self.command(&format!("peer --json {flags}"), &[]))
    }

    /// Their resident peer, logged in.
    pub(crate) fn peer(&self, flags: &str) -> Process {
        let mut process = self.start_peer(flags);
        process.event("logged_in");
        process
    }

    /// Starts a verb.
    pub(crate) fn start(&self, arguments: &str, last: &[&str]) -> Process {
        Process::spawn(self.command(&format!("{arguments} --json"), last))
    }

    fn run(&self, arguments: &str, last: &[&str]) -> Outcome {
        self.start(arguments, last).outcome()
    }

    /// Publishes a file to everybody, who may therefore learn this person's address.
    pub(crate) fn share(&self, name: &str) {
        self.share_with(name, "");
    }

    /// Publishes a file, with flags.
    pub(crate) fn share_with(&self, name: &str, flags: &str) {
        self.run(&format!("share {flags}"), &[name]).expect_code(0);
    }

    /// The digest of the one published file of this name, and how many people have it.
    pub(crate) fn find(&self, name: &str) -> (String, usize) {
        let found = self.run("find", &[name]).events();
        let digests: Vec<&str> = found.iter().filter_map(|row| row["digest"].as_str()).collect();
        let first = digests.first().expect("somebody has it");
        assert!(digests.iter().all(|digest| digest == first), "they have different files: {digests:?}");
        (first.to_string(), digests.len())
    }

    /// How the link to somebody goes, once no better path is being looked for. `None` when nothing is said about it.
    pub(crate) fn settled_path_to(&self, name: &str) -> Option<Value> {
        let until = Instant::now() + SETTLED_WITHIN;
        loop {
            let path = self.path_to(name);
            if path.as_ref().is_none_or(|path| path["why_relayed"] != "trying") || Instant::now() > until {
                return path;
            }
            std::thread::sleep(ASKED_EVERY);
        }
    }

    fn path_to(&self, name: &str) -> Option<Value> {
        let status = self.run("status", &[]);
        let rows = status.stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut links = rows.filter(|row| row["event"] == "link" && row["name"] == name);
        links.next().map(|link| link["via"].clone())
    }
}
