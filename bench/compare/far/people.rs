//! Two people with the real program in two places: one who is far shares, and one who is near fetches. The directory is near,
//! too.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::namespaces::Namespace;
use super::program::{Outcome, Person, Process, World, content, text};
use super::{NEAR, Places};

/// The directory's port.
const PORT: u16 = 4433;

/// The names of both.
const NEAR_ONE: &str = "alice";
const FAR_ONE: &str = "bob";

/// How far apart the people are.
#[derive(Clone, Copy)]
pub(crate) enum Between<'a> {
    /// On one machine, in a namespace.
    Loopback(&'a Places),
    /// At the two ends of a cable.
    Cable(&'a Places),
}

impl<'a> Between<'a> {
    fn near(self) -> &'a Namespace {
        let (Self::Loopback(places) | Self::Cable(places)) = self;
        &places.near
    }

    fn far(self) -> &'a Namespace {
        match self {
            Self::Loopback(places) => &places.near,
            Self::Cable(places) => &places.far,
        }
    }

    fn server(self) -> String {
        match self {
            Self::Loopback(_) => format!("127.0.0.1:{PORT}"),
            Self::Cable(_) => format!("{NEAR}:{PORT}"),
        }
    }
}

/// Both people and their directory; all of it ends when it is dropped.
pub(crate) struct People<'a> {
    between: Between<'a>,
    far_peer: Process,
    _directory: Process,
    world: World,
}

/// A file that came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Got {
    pub(crate) bytes: u64,
    /// From the first request to the final name.
    pub(crate) time: Duration,
    /// Whether its last bytes did not come through the relay.
    is_direct: bool,
}

impl<'a> People<'a> {
    pub(crate) fn start(between: Between<'a>) -> anyhow::Result<Self> {
        let world = World::new();
        let (cert, data) = (world.path("cert"), world.path("data"));
        let (cert, data) = (cert.display(), data.display());
        let serve = format!("serve --cert {cert} --data {data} --listen 0.0.0.0:{PORT} --json");
        let mut directory = Process::spawn(world.set_up(qchat(between.near()), &serve));
        directory.event("listening");
        let far_peer = peer(&world, between, FAR_ONE);
        let people = Self { between, far_peer, _directory: directory, world };
        // Makes the account.
        people.run(NEAR_ONE, "who", &[])?;
        Ok(people)
    }

    /// Lets the one who is far share a file of so many bytes.
    pub(crate) fn share(&self, name: &str, bytes: usize) -> anyhow::Result<()> {
        let path = self.world.folder(FAR_ONE).join(name);
        std::fs::write(&path, content(bytes))?;
        self.run(FAR_ONE, "share", &[path.to_str().context("a path of ours is text")?])
    }

    /// Starts to fetch a file into a new folder.
    pub(crate) fn begin(&self, name: &str) -> anyhow::Result<Fetch> {
        let folder = tempfile::tempdir_in(self.world.folder(NEAR_ONE))?;
        let out = folder.path().to_str().context("a path of ours is text")?;
        let from = format!("{FAR_ONE}:{name}");
        let get = Process::spawn(self.command(NEAR_ONE, &format!("get --json --out {out}"), &[&from]));
        Ok(Fetch { get, _folder: folder, done: 0, seen: Instant::now(), got: None })
    }

    /// Fetches a file within a time, directly.
    pub(crate) fn fetch(&self, name: &str, within: Duration) -> anyhow::Result<Got> {
        let got = self.fetch_by_any_path(name, within)?;
        ensure!(got.is_direct, "the file came through the relay");
        Ok(got)
    }

    /// Fetches a file again and again until it comes directly, within a time: the first link is through the relay.
    pub(crate) fn open_link(&self, name: &str, within: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + within;
        while !self.fetch_by_any_path(name, within)?.is_direct {
            ensure!(Instant::now() < until, "no direct path is found");
        }
        Ok(())
    }

    fn fetch_by_any_path(&self, name: &str, within: Duration) -> anyhow::Result<Got> {
        let mut fetch = self.begin(name)?;
        fetch.listen(Instant::now() + within)?;
        fetch.end()
    }

    /// Starts a resident peer of the one who is near, too: then both are in conversation.
    pub(crate) fn talk(self) -> Talk<'a> {
        let near_peer = peer(&self.world, self.between, NEAR_ONE);
        Talk { near_peer, people: self, said: 0 }
    }

    fn run(&self, name: &str, arguments: &str, last: &[&str]) -> anyhow::Result<()> {
        succeeded(&Process::spawn(self.command(name, arguments, last)).outcome())
    }

    fn command(&self, name: &str, arguments: &str, last: &[&str]) -> Command {
        command(&self.world, self.between, name, arguments, last)
    }
}

/// A file that is being fetched.
pub(crate) struct Fetch {
    get: Process,
    _folder: tempfile::TempDir,
    /// Bytes that were here when that was said last.
    done: u64,
    seen: Instant,
    got: Option<Got>,
}

impl Fetch {
    /// Listens until some moment, or until the file is here. Gives the bytes that were here when that was said last, and
    /// when it was.
    pub(crate) fn listen(&mut self, until: Instant) -> anyhow::Result<(u64, Instant)> {
        while let Some(event) = self.get.event_within(until.saturating_duration_since(Instant::now())) {
            self.note(&event)?;
        }
        Ok((self.done, self.seen))
    }

    /// Listens until bytes come.
    pub(crate) fn await_first_bytes(&mut self, until: Instant) -> anyhow::Result<()> {
        while self.done == 0 {
            let event = self.get.event_within(until.saturating_duration_since(Instant::now()));
            self.note(&event.context("the transfer does not begin")?)?;
        }
        Ok(())
    }

    fn note(&mut self, event: &Value) -> anyhow::Result<()> {
        match event["event"].as_str().unwrap_or_default() {
            "progress" if event["activity"] == "receiving" => {
                (self.done, self.seen) = (event["done"].as_u64().unwrap_or_default(), Instant::now());
            }
            "received" => {
                let (bytes, millis) = (event["size"].as_u64(), event["millis"].as_u64());
                let (bytes, millis) =
                    bytes.zip(millis).context("the program says how much came and how long it took")?;
                self.got = Some(Got {
                    bytes,
                    time: Duration::from_millis(millis),
                    is_direct: event["via"]["path"] == "direct",
                });
            }
            "error" | "not_received" | "source_dropped" => bail!("the transfer went wrong: {event}"),
            "transfer" if event["state"] != "running" && event["reason"].is_string() => {
                bail!("the transfer was interrupted: {event}")
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether the file is here.
    pub(crate) fn is_here(&self) -> bool {
        self.got.is_some()
    }

    /// What came, once it is here.
    pub(crate) fn end(mut self) -> anyhow::Result<Got> {
        let Some(got) = self.got else {
            self.get.kill();
            bail!("only {} bytes came in time: {}", self.done, self.get.take_stderr().trim());
        };
        succeeded(&self.get.outcome())?;
        Ok(got)
    }
}

/// Both people with their peers, which are told what to say and asked what came.
pub(crate) struct Talk<'a> {
    near_peer: Process,
    pub(crate) people: People<'a>,
    said: usize,
}

impl Talk<'_> {
    /// Lets each say something in turn, from one program to the other. Gives how long both were under way.
    pub(crate) fn say_both_ways(&mut self) -> anyhow::Result<[Duration; 2]> {
        let (near, far) = (&mut self.near_peer, &mut self.people.far_peer);
        self.said += 1;
        let line = format!("message {}", self.said);
        Ok([say(near, far, FAR_ONE, &line)?, say(far, near, NEAR_ONE, &line)?])
    }
}

fn say(from: &mut Process, to: &mut Process, name: &str, line: &str) -> anyhow::Result<Duration> {
    let said = Instant::now();
    from.say(&format!("/msg {name} {line}"));
    let came = to.event("message");
    let took = said.elapsed();
    ensure!(text(&came, "text") == line, "another message came than {line}: {came}");
    Ok(took)
}

/// A resident peer, logged in.
fn peer(world: &World, between: Between<'_>, name: &str) -> Process {
    let mut process = Process::spawn(command(world, between, name, "peer --json", &[]));
    process.event("logged_in");
    process
}

/// The program as one of them uses it.
fn command(world: &World, between: Between<'_>, name: &str, arguments: &str, last: &[&str]) -> Command {
    let place = if name == NEAR_ONE { between.near() } else { between.far() };
    let login = Person { world, name, server: between.server() }.login();
    let mut command = world.set_up(qchat(place), &format!("{arguments} {login} --"));
    command.args(last);
    command
}

fn qchat(place: &Namespace) -> Command {
    place.command(env!("CARGO_BIN_EXE_qchat"))
}

fn succeeded(outcome: &Outcome) -> anyhow::Result<()> {
    let Outcome { code, stderr, .. } = outcome;
    ensure!(*code == Some(0), "it ended with {code:?}: {}", stderr.trim());
    Ok(())
}
