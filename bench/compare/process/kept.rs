//! Programs that wait until they are used: listens to what they say, and sees to it that they end.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::measured;

/// A program says within this time what is waited for: hashing 4 GiB takes a few seconds on any machine worth measuring.
const SAID_WITHIN: Duration = Duration::from_secs(120);

/// A program that was asked to end has this time; then it is killed.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// What was used of a program is known within this time.
const IDLE_WITHIN: Duration = Duration::from_secs(5);

/// How often is looked for what nothing tells.
const LOOKED_AGAIN_AFTER: Duration = Duration::from_millis(5);

/// A program that waits for others. It is killed when this is dropped, and by the kernel when this process ends without.
pub(crate) struct Kept {
    name: String,
    process: Child,
    said: Lines,
}

impl Kept {
    /// Starts a program, through another one that becomes it (`env`, `nsenter`), if there is any.
    pub(crate) fn start(through: &[String], program: &Command) -> anyhow::Result<Self> {
        // Nearest to the program: what enters a namespace forgets it.
        let with_us = after(&["setpriv", "--pdeathsig", "KILL"].map(OsStr::new), program);
        let through: Vec<&OsStr> = through.iter().map(OsStr::new).collect();
        let name = program.get_program().display().to_string();
        let mut process = after(&through, &with_us)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| name.clone())?;
        let stdout = process.stdout.take().context("it has a standard output")?;
        let stderr = process.stderr.take().context("it has a standard error")?;
        let said = Lines::of([Box::new(stdout) as Box<dyn Read + Send>, Box::new(stderr)]);
        Ok(Self { name, process, said })
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits for a line of what it prints.
    pub(crate) fn wait_for<T>(&self, is_it: impl Fn(&str) -> Option<T>) -> anyhow::Result<T> {
        self.said.wait_for(is_it).with_context(|| self.name.clone())
    }

    /// Processor time with that of all that it has started for somebody, once they have ended.
    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let process = self.id();
        let children = PathBuf::from(format!("/proc/{process}/task/{process}/children"));
        let deadline = Instant::now() + IDLE_WITHIN;
        while fs::read_to_string(&children).is_ok_and(|children| !children.trim().is_empty()) {
            ensure!(Instant::now() < deadline, "what {} has started does not end", self.name);
            thread::sleep(LOOKED_AGAIN_AFTER);
        }
        measured::cpu_seconds(process)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Err(error) = self.process.kill().and_then(|()| self.process.wait()) {
            tracing::warn!(%error, "{} is not waited for", self.name);
        }
    }
}

/// Lines that a program prints, read as they come, so that it never waits for us.
pub(crate) struct Lines(mpsc::Receiver<String>);

impl Lines {
    /// Reads all of these until their ends.
    pub(crate) fn of(printed: impl IntoIterator<Item = impl Read + Send + 'static>) -> Self {
        let (say, said) = mpsc::channel();
        for printed in printed {
            let say = say.clone();
            thread::spawn(move || {
                for line in BufReader::new(printed).split(b'\n').map_while(Result::ok) {
                    if say.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                        return;
                    }
                }
            });
        }
        Self(said)
    }

    /// Waits for a line. What comes before it is lost, unless it does not come.
    pub(crate) fn wait_for<T>(&self, is_it: impl Fn(&str) -> Option<T>) -> anyhow::Result<T> {
        let (deadline, mut before) = (Instant::now() + SAID_WITHIN, Vec::new());
        loop {
            match self.0.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => match is_it(&line) {
                    Some(found) => return Ok(found),
                    None => before.push(line),
                },
                Err(why) => bail!("it does not say what is waited for ({why}), but: {}", before.join("; ")),
            }
        }
    }

    /// All that has not been waited for, to the end.
    pub(crate) fn rest(self) -> String {
        self.0.into_iter().collect::<Vec<_>>().join("; ")
    }
}

/// Waits for a program that was asked to end. One that does not is killed.
pub(crate) fn end(process: &mut Child) {
    let deadline = Instant::now() + ENDS_WITHIN;
    let ended = loop {
        match process.try_wait() {
            Ok(None) if Instant::now() < deadline => thread::sleep(LOOKED_AGAIN_AFTER),
            Ok(None) => break process.kill().and_then(|()| process.wait()).map(drop),
            Ok(Some(_)) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    if let Err(error) = ended {
        tracing::warn!(%error, "a program is not waited for");
    }
}

/// A program after words that start it, in its folder and with its variables.
pub(crate) fn after(words: &[&OsStr], program: &Command) -> Command {
    let words = words.iter().copied().chain([program.get_program()]).chain(program.get_args());
    let mut words = words.peekable();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    if let Some(folder) = program.get_current_dir() {
        command.current_dir(folder);
    }
    command
}
