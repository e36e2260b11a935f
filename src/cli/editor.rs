//! Line editing on a terminal: history, completion of commands and names, and output above the line being typed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, ExternalPrinter as _, Helper};
use tokio::sync::{mpsc, oneshot};

use super::old_words;
use super::output::Output;
use super::windows::prompt;
use super::words::{self, Line, Place, WORDS};
use crate::peer::event::Event;
use crate::peer::failure::{Failure, FailureKind};
use crate::wire::ids::PeerName;

/// Lines kept for the next run.
const HISTORY_LINES_MAX: usize = 1_000;

/// A line that was typed.
pub(super) struct Typed {
    pub(super) line: String,
    /// Dropped once it is known to whom the next line goes: whoever types it shall see that before.
    pub(super) settled: Option<oneshot::Sender<()>>,
}

/// Says before the line being typed to whom it goes. A line that is begun keeps what stands before it.
#[derive(Debug, Clone)]
pub(super) struct Prompt {
    user: PeerName,
    open: Arc<Mutex<Option<PeerName>>>,
}

impl Prompt {
    pub(super) fn new(user: PeerName) -> Self {
        Self { user, open: Arc::default() }
    }

    /// Who gets the next line, if it is no command.
    pub(super) fn set(&self, open: Option<&PeerName>) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = open.cloned();
    }

    fn open(&self) -> Option<PeerName> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn text(&self) -> String {
        prompt(&self.user, self.open().as_ref())
    }
}

/// What Tab can complete beside commands: people, and files that were found.
#[derive(Debug, Clone, Default)]
pub(super) struct Names(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    people: BTreeSet<String>,
    files: BTreeSet<String>,
    /// Files that come or were to come here.
    transfers: BTreeSet<String>,
}

/// What may stand before a name after `/query`.
const EXCLUSIVE: &str = "--exclusive ";
/// And after `/accept`.
const ALWAYS: [&str; 2] = ["always ", "never "];

/// Names kept for completion; more would not be looked through.
const NAMES_MAX: usize = 10_000;

impl Names {
    /// Learns people.
    pub(super) fn add(&self, people: Vec<PeerName>) {
        self.lock().people.extend(people.into_iter().map(String::from));
    }

    /// Learns from what is shown.
    pub(super) fn notice(&self, event: &Event) {
        let mut known = self.lock();
        if known.people.len() + known.files.len() + known.transfers.len() >= NAMES_MAX {
            return;
        }
        match event {
            Event::Presence { name, .. }
            | Event::Person { name, .. }
            | Event::Message { from: name, .. }
            | Event::Announcement { from: name, .. }
            | Event::Friend { name, .. }
            | Event::FriendAsked { from: name, .. }
            | Event::Blocked { name }
            | Event::ExclusiveOpened { with: name, .. } => {
                known.people.insert(name.to_string());
            }
            Event::Found { owner, name, .. } => {
                known.files.insert(format!("{owner}:{name}"));
            }
            Event::Transfer(row) => {
                known.transfers.insert(row.name.to_string());
            }
            _ => {}
        }
    }

    /// What a line could go on with: where the completed part begins, and its possible values.
    fn complete(&self, line: &str) -> (usize, Vec<String>) {
        let known = self.lock();
        let matching = |words: &BTreeSet<String>, start: &str, end: &str| {
            words.iter().filter(|word| word.starts_with(start)).map(|word| format!("{word}{end}")).collect()
        };
        match line.split_once(' ') {
            None => {
                let commands = WORDS.iter().map(|word| word.name).filter(|name| name.starts_with(line));
                let mut commands: Vec<_> = commands.map(|name| format!("{name} ")).collect();
                // One that can be followed by different things stands there once for each.
                commands.dedup();
                (0, commands)
            }
            Some((command @ "/get", start)) => (command.len() + 1, matching(&known.files, start, "")),
            Some((command @ "/query", rest)) if rest.starts_with(EXCLUSIVE) => {
                (command.len() + 1 + EXCLUSIVE.len(), matching(&known.people, &rest[EXCLUSIVE.len()..], " "))
            }
            Some((command @ "/accept", rest)) if ALWAYS.iter().any(|word| rest.starts_with(word)) => {
                let word = rest.find(' ').map_or(0, |end| end + 1);
                (command.len() + 1 + word, matching(&known.people, &rest[word..], " "))
            }
            Some((command @ ("/cancel" | "/pause" | "/resume"), start)) => {
                (command.len() + 1, matching(&known.transfers, start, ""))
            }
            Some((command, start)) if !start.contains(' ') && takes_a_person(command) => {
                (command.len() + 1, matching(&known.people, start, " "))
            }
            Some(("/share", start)) => local_files("/share".len() + 1, start),
            Some((command @ "/send", rest)) => {
                let (name, start) = rest.split_once(' ').unwrap_or((rest, ""));
                local_files(command.len() + name.len() + 2, start)
            }
            Some(_) => (line.len(), Vec::new()),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a command begins with the name of somebody. Who is invited has none yet.
fn takes_a_person(command: &str) -> bool {
    let begins = |arguments: &str| arguments.trim_start_matches('[').starts_with("NAME");
    command == "/query"
        || old_words::takes_a_person(command)
        || command != "/invite" && WORDS.iter().any(|word| word.name == command && begins(word.arguments))
}

/// Files whose path begins like this.
fn local_files(position: usize, start: &str) -> (usize, Vec<String>) {
    let (folder, name) = start.rsplit_once('/').map_or(("", start), |(folder, name)| (&start[..=folder.len()], name));
    let listed = std::fs::read_dir(if folder.is_empty() { Path::new(".") } else { Path::new(folder) });
    let entries = listed.into_iter().flatten().flatten();
    let matching = entries.filter_map(|entry| {
        let found = entry.file_name().into_string().ok()?;
        let end = if entry.file_type().ok()?.is_dir() { "/" } else { "" };
        found.starts_with(name).then(|| format!("{folder}{found}{end}"))
    });
    (position, matching.take(100).collect())
}

impl Helper for Names {}
impl Hinter for Names {
    type Hint = String;
}
impl Highlighter for Names {}
impl Validator for Names {}
impl Completer for Names {
    type Candidate = String;

    fn complete(&self, line: &str, position: usize, _context: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(Self::complete(self, &line[..position]))
    }
}

/// The terminal's own settings: they come back when this is dropped, even while the editor waits for a key.
pub(super) struct TerminalSettings(Option<Termios>);

impl TerminalSettings {
    /// Notes the settings as they are now.
    pub(super) fn keep() -> Self {
        Self(tcgetattr(std::io::stdin()).ok())
    }
}

impl Drop for TerminalSettings {
    fn drop(&mut self) {
        let restored = self.0.as_ref().map(|settings| tcsetattr(std::io::stdin(), OptionalActions::Now, settings));
        tracing::trace!(?restored, "terminal settings");
    }
}

/// Reads lines on a thread of its own until the user ends the input.
pub(super) fn lines(
    prompt: Prompt,
    history: PathBuf,
    names: Names,
    output: &Arc<Output>,
) -> Result<mpsc::Receiver<Typed>, Failure> {
    let mut editor = editor(&history, names).map_err(failed)?;
    let mut printer = editor.create_external_printer().map_err(failed)?;
    output.print_above_prompt(Box::new(move |text| printer.print(text).map_err(std::io::Error::other)));
    let (sender, lines) = mpsc::channel(16);
    let output = output.clone();
    std::thread::Builder::new()
        .name("editor".to_owned())
        .spawn(move || read_lines(&mut editor, &prompt, &history, &sender, &output))
        .map_err(|error| failed(ReadlineError::Io(error)))?;
    Ok(lines)
}

fn editor(history: &Path, names: Names) -> rustyline::Result<Editor<Names, FileHistory>> {
    let config = Config::builder()
        .completion_type(CompletionType::List)
        .max_history_size(HISTORY_LINES_MAX)?
        .auto_add_history(true)
        .build();
    let mut editor = Editor::with_config(config)?;
    editor.set_helper(Some(names));
    if editor.load_history(history).is_err() {
        tracing::debug!("no typed lines from earlier");
    }
    Ok(editor)
}

fn read_lines(
    editor: &mut Editor<Names, FileHistory>,
    prompt: &Prompt,
    history: &Path,
    sender: &mpsc::Sender<Typed>,
    output: &Output,
) {
    loop {
        match editor.readline(&prompt.text()) {
            Ok(line) => {
                if !hand_over(line, prompt, sender) {
                    break;
                }
            }
            Err(ReadlineError::Interrupted) => output.talk("* Ctrl-C empties the line; Ctrl-D or /quit leaves"),
            Err(_) => break,
        }
        if let Err(error) = editor.append_history(history) {
            tracing::debug!(%error, "the typed lines are not kept");
        }
    }
}

/// Hands a line over, and waits where it decides to whom the next one goes. Says whether there may be a next one.
fn hand_over(line: String, prompt: &Prompt, sender: &mpsc::Sender<Typed>) -> bool {
    let (settled, wait) = oneshot::channel::<()>();
    // Nothing but a line that was waited for changes whether one is open.
    let open = prompt.open();
    let settled = match words::parse(&line, Place { user: &prompt.user, folder: Path::new(""), window: open.as_ref() })
    {
        // No new prompt after the last command.
        Ok(Line::Quit) => {
            drop(sender.blocking_send(Typed { line, settled: None }));
            return false;
        }
        Ok(Line::Query { .. } | Line::Close) => Some(settled),
        Err(_) if words::is_query(&line) => Some(settled),
        Ok(Line::Empty | Line::Run(_) | Line::Inbox | Line::Help | Line::OldHelp | Line::Tell(_)) | Err(_) => None,
    };
    let waits = settled.is_some();
    let is_taken = sender.blocking_send(Typed { line, settled }).is_ok();
    if is_taken && waits {
        // It only ever ends by being dropped.
        drop(wait.blocking_recv());
    }
    is_taken
}

fn failed(error: ReadlineError) -> Failure {
    Failure::new(FailureKind::Other, format!("the terminal cannot be used: {error}"))
        .hint("--plain reads lines without editing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_people_and_files_are_completed() {
        let names = Names::default();
        names.add(vec![PeerName::parse("bob").unwrap(), PeerName::parse("bert").unwrap()]);
        assert_eq!(names.complete("/wh"), (0, vec!["/who ".to_owned()]));
        assert_eq!(names.complete("/msg b"), (5, vec!["bert ".to_owned(), "bob ".to_owned()]));
        assert_eq!(names.complete("/msg bob h"), (10, Vec::new()));
        for command in ["/history", "/allow", "/friend", "/unfriend", "/block", "/unblock", "/decline"] {
            let line = format!("{command} be");
            assert_eq!(names.complete(&line), (command.len() + 1, vec!["bert ".to_owned()]), "{line}");
        }
        for line in ["/invite be", "/privacy be", "/friends be", "/blocked be"] {
            assert_eq!(names.complete(line), (line.len(), Vec::new()), "{line}");
        }
        assert_eq!(names.complete("getaddress bo"), (11, vec!["bob ".to_owned()]));
        assert_eq!(names.complete("broadcast bo"), (12, Vec::new()));
        assert_eq!(names.complete("/query bo"), (7, vec!["bob ".to_owned()]));
        assert_eq!(names.complete("/query --exclusive be"), (19, vec!["bert ".to_owned()]));
        assert_eq!(names.complete("/accept always be"), (15, vec!["bert ".to_owned()]));
        assert_eq!(names.complete("/accept never bo"), (14, vec!["bob ".to_owned()]));
        let row = serde_json::json!({
            "event": "transfer", "id": "00".repeat(16), "direction": "in", "name": "a film", "with": ["bob"],
            "size": 7, "done": 0, "state": "paused", "is_news": false,
        });
        names.notice(&serde_json::from_value(row).unwrap());
        assert_eq!(names.complete("/resume a f"), (8, vec!["a film".to_owned()]));
    }
}
