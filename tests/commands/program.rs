//! Starts the binary in a fresh world, waits for what it says, and ends what it started. Every wait has a deadline, and
//! none is a sleep.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything takes here, on a slow machine with others at work.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);

/// The password of everybody.
pub(super) const PASSWORD: &str = "correct horse battery";

/// A machine of its own: folders that nobody else uses, and an environment without settings.
pub(super) struct World {
    root: TempDir,
}

impl World {
    pub(super) fn new() -> Self {
        let world = Self { root: tempfile::Builder::new().prefix("qchat-").tempdir().expect("a temporary folder") };
        world.write("password", format!("{PASSWORD}\n"));
        world
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// A folder of this name, made when it is not there.
    pub(super) fn folder(&self, name: &str) -> PathBuf {
        let folder = self.path(name);
        std::fs::create_dir_all(&folder).expect("a folder in our own folder");
        folder
    }

    pub(super) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        std::fs::write(self.path(name), bytes).expect("a file in our own folder");
        self.path(name)
    }

    /// The binary with these arguments, separated by spaces.
    pub(super) fn qchat(&self, arguments: &str) -> Command {
        self.set_up(Command::new(env!("CARGO_BIN_EXE_qchat")), arguments)
    }

    /// Gives any command this world's folders and environment.
    pub(super) fn set_up(&self, mut command: Command, arguments: &str) -> Command {
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if ["QCHAT_", "XDG_", "NO_COLOR", "RUST_"].iter().any(|prefix| name.starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        command.env("HOME", self.folder("home")).env("XDG_RUNTIME_DIR", self.folder("run"));
        command.current_dir(self.folder("work")).args(arguments.split_whitespace());
        command
    }

    /// A directory that listens.
    pub(super) fn directory(&self) -> Directory {
        self.directory_that("127.0.0.1:0", "")
    }

    /// A directory with more flags.
    pub(super) fn directory_that(&self, listen: &str, flags: &str) -> Directory {
        let (cert, data) = (self.path("cert"), self.path("data"));
        let (cert, data) = (cert.display(), data.display());
        let serve = self.qchat(&format!("serve --cert {cert} --data {data} --listen {listen} --json {flags}"));
        let mut process = Process::spawn(serve);
        let listening = process.event("listening");
        let address = text(&listening, "address").parse().expect("the directory's address");
        let door = |row: &Value| Some((row["dialect"].as_str()?.to_owned(), row["address"].as_str()?.parse().ok()?));
        let doors = listening["compat"].as_array().into_iter().flatten().filter_map(door).collect();
        Directory { process, address, doors }
    }

    /// Somebody with a profile folder of their own.
    pub(super) fn person<'a>(&'a self, name: &'a str, directory: &Directory) -> Person<'a> {
        Person { world: self, name, server: directory.address.to_string() }
    }
}

/// A running `qchat serve`.
pub(super) struct Directory {
    pub(super) process: Process,
    pub(super) address: SocketAddr,
    /// Where older programs are let in, by dialect.
    pub(super) doors: BTreeMap<String, SocketAddr>,
}

impl Directory {
    /// The same directory again, at the same address with the same data, after its process has ended.
    pub(super) fn start_again(&mut self, world: &World) {
        // The relay's ports would be those after it, which somebody else may have by now.
        *self = world.directory_that(&self.address.to_string(), "--relay-ports any");
    }
}

/// A person with a name, a home and a directory.
pub(super) struct Person<'a> {
    pub(super) world: &'a World,
    pub(super) name: &'a str,
    pub(super) server: String,
}

impl Person<'_> {
    pub(super) fn home(&self) -> PathBuf {
        self.world.path(&format!("home-of-{}", self.name))
    }

    /// Where their programs start, and where what they fetch goes.
    pub(super) fn folder(&self) -> PathBuf {
        self.world.folder(&format!("folder of {}", self.name))
    }

    pub(super) fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder().join(name);
        std::fs::write(&path, bytes).expect("a file in our own folder");
        path
    }

    /// The flags that say who this is, and answer every question beforehand.
    pub(super) fn login(&self) -> String {
        let (home, password) = (self.home(), self.world.path("password"));
        let (home, password) = (home.display(), password.display());
        let Self { name, server, .. } = self;
        format!("--user {name} --server {server} --home {home} --password-file {password} --register --accept-new")
    }

    /// A command as this person; `arguments` are separated by spaces, the `last` ones are taken as they are.
    pub(super) fn command(&self, arguments: &str, last: &[&str]) -> Command {
        let mut command = self.world.qchat(arguments);
        command.args(self.login().split_whitespace()).current_dir(self.folder());
        command.arg("--").args(last);
        command
    }

    /// Their resident peer, logged in.
    pub(super) fn peer(&self) -> Process {
        let mut process = Process::spawn(self.command("peer --json", &[]));
        process.event("logged_in");
        process
    }

    /// Runs a one-shot verb to its end.
    pub(super) fn run(&self, arguments: &str, last: &[&str]) -> Outcome {
        Process::spawn(self.command(arguments, last)).outcome()
    }

    /// Runs a one-shot verb that must work, and gives its rows without those of its progress.
    pub(super) fn rows(&self, arguments: &str, last: &[&str]) -> Vec<Value> {
        let outcome = self.run(&format!("{arguments} --json"), last);
        outcome.expect_code(0);
        outcome.events().into_iter().filter(|event| event["event"] != "progress").collect()
    }
}

/// A process of ours with pipes; it is killed when it is dropped.
pub(super) struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    /// What it has printed so far, for the message of a test that fails.
    printed: Vec<String>,
    stderr: Option<JoinHandle<String>>,
}

impl Process {
    pub(super) fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("its output is piped");
        let mut errors = child.stderr.take().expect("its errors are piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let stderr = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            drop(errors.read_to_end(&mut bytes));
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Self { child, stdin, lines, printed: Vec::new(), stderr: Some(stderr) }
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Types a line.
    pub(super) fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("its input is open");
        writeln!(stdin, "{line}").expect("it reads its input");
    }

    pub(super) fn say_bytes(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("its input is open");
        stdin.write_all(bytes).expect("it reads its input");
    }

    pub(super) fn close_input(&mut self) {
        self.stdin = None;
    }

    /// The next line; `None` at the end of its output.
    fn next_line(&mut self, until: Instant) -> Option<String> {
        match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                self.printed.push(line.clone());
                Some(line)
            }
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => None,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                drop(self.child.kill());
                panic!("nothing came in time; so far:\n{}\n{}", self.printed.join("\n"), self.take_stderr());
            }
        }
    }

    /// Waits for the next event of a kind; others are passed over.
    #[track_caller]
    pub(super) fn event(&mut self, kind: &str) -> Value {
        self.event_where(kind, |_| true)
    }

    /// Waits for the next event of a kind that is the one meant.
    #[track_caller]
    pub(super) fn event_where(&mut self, kind: &str, is_meant: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + DEADLINE;
        while let Some(line) = self.next_line(until) {
            let event = json(&line);
            if event["event"] == kind && is_meant(&event) {
                return event;
            }
        }
        panic!("it ended without `{kind}`; it printed:\n{}\n{}", self.printed.join("\n"), self.take_stderr());
    }

    /// Waits for the next line that says this; others are passed over.
    #[track_caller]
    pub(super) fn line_with(&mut self, says: &str) -> String {
        let until = Instant::now() + DEADLINE;
        while let Some(line) = self.next_line(until) {
            if line.contains(says) {
                return line;
            }
        }
        panic!("it ended without {says:?}; it printed:\n{}\n{}", self.printed.join("\n"), self.take_stderr());
    }

    /// The next event, if one comes within a time; `None` also at the end of its output.
    pub(super) fn event_within(&mut self, time: Duration) -> Option<Value> {
        let line = self.lines.recv_timeout(time).ok()?;
        let event = json(&line);
        self.printed.push(line);
        Some(event)
    }

    /// The texts of the next messages.
    #[track_caller]
    pub(super) fn messages(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| text(&self.event("message"), "text").to_owned()).collect()
    }

    /// The kinds of all events that came so far.
    pub(super) fn kinds_so_far(&self) -> Vec<String> {
        self.printed.iter().map(|line| text(&json(line), "event").to_owned()).collect()
    }

    /// Asks to end, closes nothing: SIGTERM, SIGSTOP and the like.
    pub(super) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is running");
    }

    /// `kill -9`, and waits until it is gone.
    pub(super) fn kill(&mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it is ours");
    }

    /// Quits as a person does.
    #[track_caller]
    pub(super) fn quit(mut self) {
        self.say("/quit");
        self.outcome().expect_code(0);
    }

    /// Closes its input and waits until it has ended.
    pub(super) fn outcome(mut self) -> Outcome {
        self.close_input();
        let until = Instant::now() + DEADLINE;
        while self.next_line(until).is_some() {}
        let status = self.child.wait().expect("it is ours");
        Outcome { code: status.code(), stdout: self.printed.join("\n"), stderr: self.take_stderr() }
    }

    /// What it wrote to standard error, once it has ended.
    pub(super) fn take_stderr(&mut self) -> String {
        self.stderr.take().and_then(|reader| reader.join().ok()).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// How a process ended.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Outcome {
    #[track_caller]
    pub(super) fn expect_code(&self, code: i32) {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
    }

    /// Checks that it failed as the manual says: with this code, and one clear line that says this.
    #[track_caller]
    pub(super) fn expect_error(&self, code: i32, says: &str) {
        self.expect_code(code);
        let errors: Vec<&str> = self.stderr.lines().filter(|line| line.starts_with("error:")).collect();
        assert_eq!(errors.len(), 1, "one error line, not:\n{}", self.stderr);
        assert!(self.stderr.contains(says), "{says:?} should be in:\n{}", self.stderr);
    }

    /// Its output, one JSON object a line.
    #[track_caller]
    pub(super) fn events(&self) -> Vec<Value> {
        self.stdout.lines().map(json).collect()
    }
}

/// The value of a field that is text.
#[track_caller]
pub(super) fn text<'a>(event: &'a Value, field: &str) -> &'a str {
    event[field].as_str().unwrap_or_else(|| panic!("{event} should have the text {field:?}"))
}

#[track_caller]
fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?} is not JSON: {error}"))
}

/// Bytes that repeat nowhere, so that a group in the wrong place is noticed.
pub(super) fn content(bytes: usize) -> Vec<u8> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let words = (0..bytes.div_ceil(8)).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(bytes).collect()
}

/// Everything that lies in a folder, as one piece.
pub(super) fn all_bytes_below(folder: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for name in names_in(folder) {
        let path = folder.join(name);
        if path.is_dir() {
            bytes.extend(all_bytes_below(&path));
        } else if path.is_file() {
            bytes.extend(std::fs::read(&path).expect("a file of ours"));
        }
    }
    bytes
}

/// The names of what lies in a folder, hidden files too.
pub(super) fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder of ours");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry of ours").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
