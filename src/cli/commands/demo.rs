//! `qchat demo`: a throw-away directory and two people on this machine, each a process of its own, who chat and send a
//! file. What it prints happened; its exit code says whether all of it held. Leaves nothing behind.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::serve::Listening;
use super::stop_signal;
use crate::cli::args::Demo;
use crate::cli::output::{Output, rate};
use crate::peer::event::Event;
use crate::peer::failure::{Failure, FailureKind};
use crate::storage::shares::HashedFile;

/// Nothing in the demo takes longer without saying something.
const PATIENCE: Duration = Duration::from_secs(30);
/// What the directory must not be able to read.
const SECRET: &str = "the spare key lies under the third flower pot";

/// Runs the demo.
pub(super) async fn run(args: Demo, output: &Output) -> Result<(), Failure> {
    tokio::select! {
        result = play(&args.file, output) => result,
        () = stop_signal() => Err(Failure::new(FailureKind::Interrupted, "stopped")),
    }
}

async fn play(file: &Path, output: &Output) -> Result<(), Failure> {
    let original = HashedFile::hash(file, &mut |_| {}).map_err(|error| {
        Failure::from(error).hint("qchat demo FILE takes any file; without one it takes the README.md of this folder")
    })?;
    let home = TempDir::with_prefix("qchat-demo-").map_err(|error| broken(&format!("no temporary folder: {error}")))?;
    let say = |text: String| output.event(&Event::Note { text });
    let mut stage = Stage::open(home.path()).await?;
    say(format!("directory  runs at {}, key {:.16}...", stage.listening.address, stage.listening.fingerprint));
    let mut alice = stage.enter("alice", &say).await?;
    let mut bob = stage.enter("bob", &say).await?;

    talk(&mut alice, &mut bob, &say).await?;
    bob.leave().await?;
    say("bob        goes offline".to_owned());
    write_to_absent(&mut alice, &stage, &say).await?;
    let mut bob = stage.enter("bob", &say).await?;
    for expected in [SECRET, "and feed the cat"] {
        bob.expect_text(expected, &say).await?;
    }

    let received = send_file(&mut alice, &mut bob, &original, output, &say).await?;
    check_equal(&original, &received)?;
    say(format!("both       have BLAKE3 {}", original.digest));
    bob.leave().await?;
    alice.leave().await?;
    stage.close().await?;
    home.close().map_err(|error| broken(&format!("the temporary folder could not be removed: {error}")))?;
    say("encrypted  messages from person to person (HPKE with X-Wing, signed with Ed25519); the file inside TLS 1.3 \
         between the two peers, each proving its key; the directory saw names, sizes and times"
        .to_owned());
    Ok(())
}

async fn talk(alice: &mut Person, bob: &mut Person, say: &impl Fn(String)) -> Result<(), Failure> {
    alice.type_line("/msg bob hello bob").await?;
    bob.expect_text("hello bob", say).await?;
    bob.type_line("/msg alice hello alice, nice to see you").await?;
    alice.expect_text("hello alice, nice to see you", say).await
}

/// Writes while the other is away, and looks whether the directory could read it.
async fn write_to_absent(alice: &mut Person, stage: &Stage, say: &impl Fn(String)) -> Result<(), Failure> {
    for text in [SECRET, "and feed the cat"] {
        alice.type_line(&format!("/msg bob {text}")).await?;
        alice.expect("the directory to store it", |event| matches!(event, Event::Stored { .. }).then_some(())).await?;
        say(format!("alice      writes to bob, who is offline: {text}"));
    }
    let kept = bytes_below(&stage.data).map_err(|error| broken(&format!("cannot look into its folder: {error}")))?;
    if kept.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()) {
        return Err(broken("the directory's folder holds the text of a message"));
    }
    if !kept.windows(3).any(|window| window == b"bob") {
        return Err(broken("the directory's folder does not even hold bob's name: nothing was searched"));
    }
    say("directory  keeps both messages sealed: their text is nowhere in its folder".to_owned());
    Ok(())
}

async fn send_file(
    alice: &mut Person,
    bob: &mut Person,
    original: &HashedFile,
    output: &Output,
    say: &impl Fn(String),
) -> Result<PathBuf, Failure> {
    alice.type_line(&format!("/share {}", original.path.display())).await?;
    let name = alice
        .expect("the file to be shared", |event| match event {
            Event::Shared { name, .. } => Some(name),
            _ => None,
        })
        .await?;
    say(format!("alice      shares {name}, {} bytes", original.size.bytes()));
    bob.type_line(&format!("/find {name}")).await?;
    let owner = bob
        .expect("the file to be found", |event| match event {
            Event::Found { owner, name: found, .. } if found == name => Some(owner),
            _ => None,
        })
        .await?;
    say(format!("bob        finds {owner}:{name}"));
    bob.type_line(&format!("/get {owner}:{name}")).await?;
    let (path, size, millis) = bob
        .expect("the file to arrive", |event| match event {
            Event::Received { path, size, millis, .. } => Some((path, size, millis)),
            progress @ Event::Progress { .. } => {
                output.event(&progress);
                None
            }
            _ => None,
        })
        .await?;
    say(format!(
        "bob        has it: {size} bytes in {} chunks of up to 200 bytes, every group verified, {millis} ms, {}",
        size.div_ceil(200),
        rate(size, millis),
    ));
    Ok(path)
}

fn check_equal(original: &HashedFile, received: &Path) -> Result<(), Failure> {
    let copy = HashedFile::hash(received, &mut |_| {})?;
    if (copy.digest, copy.size) == (original.digest, original.size) {
        Ok(())
    } else {
        Err(Failure::new(FailureKind::Integrity, "the file that arrived is another one"))
    }
}

/// All bytes of all files in a folder and below.
fn bytes_below(folder: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            bytes.extend(bytes_below(&path)?);
        } else if kind.is_file() {
            bytes.extend(fs::read(&path)?); // the administration's socket lies there too, and cannot be read
        }
    }
    Ok(bytes)
}

/// The throw-away directory, and where everything of the demo lies.
struct Stage {
    process: Process,
    listening: Listening,
    data: PathBuf,
    home: PathBuf,
}

impl Stage {
    async fn open(home: &Path) -> Result<Self, Failure> {
        let data = home.join("directory");
        let mut command = qchat()?;
        command.arg("serve").arg("--cert").arg(home.join("certs")).arg("--data").arg(&data);
        command.args(["--listen", "127.0.0.1:0", "--json", "--stop-with-stdin"]);
        let mut process = Process::start("the directory", command)?;
        let listening = process.read().await?;
        Ok(Self { process, listening, data, home: home.to_owned() })
    }

    /// Starts somebody's peer and waits until it has logged in; a new account is made on the first visit.
    async fn enter(&mut self, name: &str, say: &impl Fn(String)) -> Result<Person, Failure> {
        let folder = self.home.join(format!("{name}'s folder"));
        fs::create_dir_all(&folder).map_err(|error| broken(&format!("no folder for {name}: {error}")))?;
        let mut command = qchat()?;
        command.arg("peer").arg("--home").arg(self.home.join(name)).current_dir(folder);
        command.args(["--user", name, "--server", &self.listening.link]);
        command.args(["--json", "--register", "--password-file", "-"]);
        let mut person = Person { process: Process::start(name, command)?, name: name.to_owned() };
        person.type_line("a password for the demo").await?;
        let (key, created) = person
            .expect("the login", |event| match event {
                Event::LoggedIn { key, created, .. } => Some((key, created)),
                _ => None,
            })
            .await?;
        let how = if created { "registers" } else { "is back" };
        say(format!("{name:<10} {how}, key {key:.16}..."));
        Ok(person)
    }

    async fn close(self) -> Result<(), Failure> {
        self.process.end().await
    }
}

/// Somebody's peer.
struct Person {
    process: Process,
    name: String,
}

impl Person {
    async fn type_line(&mut self, line: &str) -> Result<(), Failure> {
        let line = format!("{line}\n");
        let written = self.process.stdin.write_all(line.as_bytes()).await;
        written.map_err(|error| broken(&format!("{} does not listen: {error}", self.name)))
    }

    /// Waits for an event; what fails meanwhile fails the demo.
    async fn expect<T>(&mut self, what: &str, mut wanted: impl FnMut(Event) -> Option<T>) -> Result<T, Failure> {
        loop {
            let event =
                self.process.read::<Event>().await.map_err(|failure| failure.about(format!("waiting for {what}")))?;
            if let Event::Failed { failure } | Event::NotSent { failure, .. } = event {
                return Err(failure.about(&self.name));
            }
            if let Some(found) = wanted(event) {
                return Ok(found);
            }
        }
    }

    /// The next message must be this one: nothing lost, doubled or out of order.
    async fn expect_text(&mut self, expected: &str, say: &impl Fn(String)) -> Result<(), Failure> {
        let message = self.expect("a message", |event| match event {
            Event::Message { from, text, .. } => Some((from, text)),
            _ => None,
        });
        let (from, text) = message.await?;
        say(format!("{:<10} reads from {from}: {text}", self.name));
        if text == expected { Ok(()) } else { Err(broken(&format!("{} should have read {expected:?}", self.name))) }
    }

    async fn leave(self) -> Result<(), Failure> {
        self.process.end().await
    }
}

/// A child that prints JSON and ends when its standard input is closed; killed when it is dropped.
struct Process {
    name: String,
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(name: &str, mut command: Command) -> Result<Self, Failure> {
        let failed = |error: io::Error| broken(&format!("{name} cannot be started: {error}"));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(broken(&format!("{name} has no pipes")));
        };
        Ok(Self { name: name.to_owned(), child, stdin, lines: BufReader::new(stdout).lines() })
    }

    async fn read<T: for<'de> Deserialize<'de>>(&mut self) -> Result<T, Failure> {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line())
            .await
            .map_err(|_| Failure::new(FailureKind::TimedOut, format!("{} says nothing", self.name)))?;
        let line = line.ok().flatten().ok_or_else(|| broken(&format!("{} has stopped", self.name)))?;
        serde_json::from_str(&line).map_err(|error| broken(&format!("{} says {line:?}: {error}", self.name)))
    }

    /// Closes its standard input and waits for its end.
    async fn end(self) -> Result<(), Failure> {
        let Self { name, mut child, stdin, lines } = self;
        drop((stdin, lines));
        match tokio::time::timeout(PATIENCE, child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(broken(&format!("{name} ended with {status}"))),
            Ok(Err(error)) => Err(broken(&format!("{name}: {error}"))),
            Err(_) => Err(broken(&format!("{name} does not end"))),
        }
    }
}

/// This very program, with none of the settings of whoever runs the demo.
fn qchat() -> Result<Command, Failure> {
    let program = std::env::current_exe().map_err(|error| broken(&format!("cannot find this program: {error}")))?;
    let mut command = Command::new(program);
    for name in ["QCHAT_USER", "QCHAT_SERVER", "QCHAT_HOME", "QCHAT_PASSWORD_FILE", "XDG_RUNTIME_DIR"] {
        command.env_remove(name);
    }
    Ok(command)
}

fn broken(what: &str) -> Failure {
    Failure::new(FailureKind::Other, what)
}
