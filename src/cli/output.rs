//! The only file that prints: data on standard output, talk on standard error, JSON when asked. Text from other people
//! loses its control characters here.

use std::io::{self, IsTerminal as _, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::args::{Color, Look};
use super::qr;
use crate::peer::event::{Activity, Event};
use crate::peer::failure::Failure;
use crate::wire::ids::{UnixMillis, is_unprintable};

/// What prints lines above a line that is being typed.
pub(super) type LinePrinter = Box<dyn FnMut(String) -> io::Result<()> + Send>;

/// Where and how a command speaks.
pub(super) struct Output {
    json: bool,
    quiet: bool,
    color: bool,
    /// Replaces standard output while a line is being typed.
    above_prompt: Mutex<Option<LinePrinter>>,
    bar: Mutex<Bar>,
}

/// The progress that is on the screen.
#[derive(Default)]
struct Bar {
    drawn: Option<(String, ProgressBar)>,
    /// Where bars cannot be drawn: when the last line of progress was printed, and for which file.
    printed: Option<(String, Instant)>,
}

/// Longer than this without a line of progress looks like a hang.
const PROGRESS_LINE_INTERVAL: Duration = Duration::from_secs(1);

impl Output {
    pub(super) fn new(look: &Look) -> Self {
        let color = match look.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => is_read_by_a_person() && std::env::var_os("NO_COLOR").is_none(),
        };
        Self {
            json: look.json,
            quiet: look.quiet,
            color: color && !look.json,
            above_prompt: Mutex::default(),
            bar: Mutex::default(),
        }
    }

    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints through an editor from now on, so that incoming lines never break the line being typed.
    pub(super) fn print_above_prompt(&self, printer: LinePrinter) {
        *lock(&self.above_prompt) = Some(printer);
    }

    /// Prints to standard output again.
    pub(super) fn prompt_ended(&self) {
        *lock(&self.above_prompt) = None;
    }

    /// Shows an event: one line of JSON, or what a person wants to read of it.
    pub(super) fn event(&self, event: &Event) {
        match event {
            Event::Progress { activity, name, done, total, .. } if !self.json => {
                self.progress(*activity, name, *done, *total);
            }
            event if self.json => self.json(event),
            event => {
                self.end_bar();
                if let Some(line) = self.sentence(event) {
                    self.line(&line);
                }
            }
        }
    }

    /// Shows an event that a person may want to know and a script did not ask for.
    pub(super) fn talk_event(&self, event: &Event) {
        if self.json {
            self.json(event);
        } else if let Some(line) = self.sentence(event) {
            self.talk(&line);
        }
    }

    /// Prints any value as one line of JSON.
    pub(super) fn json<T: Serialize>(&self, value: &T) {
        self.line(&serde_json::to_string(value).expect("our events have string keys and plain values"));
    }

    /// Prints a line of data.
    pub(super) fn line(&self, line: &str) {
        if let Some(printer) = lock(&self.above_prompt).as_mut() {
            // A printer ends every text with a line break, or it waits for one.
            if printer(format!("{line}\n")).is_ok() {
                return;
            }
        }
        // Whoever closes our standard output does not want to read on: that is no failure of the command.
        drop(writeln!(io::stdout().lock(), "{line}"));
    }

    /// Says something to the person, never to a script.
    pub(super) fn talk(&self, text: &str) {
        if self.quiet || self.json {
            return;
        }
        self.end_bar();
        if lock(&self.above_prompt).is_some() {
            self.line(text);
        } else {
            to_stderr(text);
        }
    }

    /// Reports why a command failed, with what to do about it.
    pub(super) fn failure(&self, failure: &Failure) {
        self.end_bar();
        if self.json {
            self.json(&Event::Failed { failure: failure.clone() });
        }
        let mut text = format!("{} {}", self.paint("31", "error:"), printable(&failure.message));
        if let Some(hint) = &failure.hint {
            text.push_str(&format!("\n{} {hint}", self.paint("36", "hint:")));
        }
        if lock(&self.above_prompt).is_some() {
            self.line(&text);
        } else {
            to_stderr(&text);
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    fn progress(&self, activity: Activity, name: &str, done: u64, total: u64) {
        if self.quiet {
            return;
        }
        let verb = match activity {
            Activity::Hashing => "hashing",
            Activity::Checking => "checking",
            Activity::Receiving => "receiving",
            Activity::Sending => "sending",
        };
        let title = format!("{verb} {}", printable(name));
        let mut bar = lock(&self.bar);
        if lock(&self.above_prompt).is_some() {
            if let Some(line) = bar.line_due(&title, done, total) {
                self.line(&line);
            }
        } else {
            bar.draw(title, done, total);
        }
    }

    fn end_bar(&self) {
        if let Some((_, bar)) = lock(&self.bar).drawn.take() {
            bar.finish_and_clear();
        }
    }

    /// The line a person reads; `None` for what they need not know.
    fn sentence(&self, event: &Event) -> Option<String> {
        Some(match event {
            Event::LoggedIn { name, directory, created, waiting, .. } => {
                let made = if *created { ", a new account" } else { "" };
                let waiting = if *waiting > 0 { format!(", {waiting} waiting") } else { String::new() };
                format!("* logged in to {directory} as {name}{made}{waiting}")
            }
            Event::DirectoryLost { reason, retry_in_ms } => {
                format!("* the directory is gone ({reason}), trying again in {:.1} s", seconds(*retry_in_ms))
            }
            Event::LoggedInElsewhere => "* logged in elsewhere".to_owned(),
            Event::Presence { name, online } => {
                format!("* {name} is {}", if *online { "online" } else { "offline" })
            }
            Event::Message { from, sent_at, text, .. } => {
                let name = self.paint("1;32", from.as_str());
                format!("[{}] {name}: {}", clock_time(*sent_at), printable(text))
            }
            Event::Queued { to, .. } => format!("* queued for {to}: in the outbox, sent when the directory is back"),
            Event::Stored { to, .. } => format!("* stored for {to}"),
            Event::NotSent { to, failure, .. } => format!("* not sent to {to}: {}", printable(&failure.message)),
            Event::KeyChanged { name, old, new } => {
                format!("! the key of {name} has changed: {old} is now {new}; ask them whether that is right")
            }
            Event::KeyRequested { key, source } => format!(
                "! somebody at {source} who knows your password wants to take this account to another machine (key \
                 {key:.16}): /deny-key {key:.8}, or /allow-key {key:.8} if it is you; without an answer it is let in \
                 after a minute, and `--take-back` undoes it for seven days"
            ),
            Event::Session { kind, since, address, this } => {
                let this = if *this { "  (this one)" } else { "" };
                format!("{kind:<8}  {address}  since {} UTC{this}", clock_time(*since))
            }
            Event::Invited { link, .. } => {
                let picture = if is_read_by_a_person() { qr::code(link) } else { None };
                picture.map_or_else(|| link.clone(), |picture| format!("{picture}\n{link}"))
            }
            Event::Offer { from, id, name, size, .. } => format!(
                "* {from} offers {} ({}): /accept {id:.8} or /decline {id:.8}",
                printable(name.as_str()),
                HumanBytes(*size)
            ),
            Event::Offered { to, name, size, online, .. } => {
                let when = if *online { "waiting for their answer" } else { "queued, they see it when they are back" };
                format!("* offered {} ({}) to {to}: {when}", printable(name.as_str()), HumanBytes(*size))
            }
            Event::OfferDeclined { by, .. } => format!("* {by} declined the file"),
            Event::Received { from, path, size, resumed, millis, .. } => {
                let rate = rate(size - resumed, *millis);
                let path = printable(&path.display().to_string());
                let resumed =
                    if *resumed > 0 { format!(", {} were here", HumanBytes(*resumed)) } else { String::new() };
                format!("* received {path} from {from}: {}{resumed}, verified, {rate}", HumanBytes(*size))
            }
            Event::Sent { to, name, size, .. } => {
                format!("* {to} has {} ({})", printable(name.as_str()), HumanBytes(*size))
            }
            Event::NotReceived { from, name, failure } => {
                format!("* {} from {from}: {}", printable(name.as_str()), printable(&failure.message))
            }
            Event::Person { name } => name.to_string(),
            Event::Found { owner, online, name, size, .. } => {
                let when = if *online { "" } else { "  (offline)" };
                format!("{owner}:{}  {}{when}", printable(name.as_str()), HumanBytes(*size))
            }
            Event::Shared { name, path, size, .. } => {
                let path = printable(&path.display().to_string());
                format!("{}  {}  {path}", printable(name.as_str()), HumanBytes(*size))
            }
            Event::Unshared { name } => format!("{} is not shared any more", printable(name.as_str())),
            Event::Note { text } => printable(text),
            Event::Progress { .. } | Event::Done | Event::Failed { .. } => return None,
        })
    }
}

impl Bar {
    fn draw(&mut self, title: String, done: u64, total: u64) {
        if !matches!(&self.drawn, Some((drawn, _)) if *drawn == title) {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            let style =
                ProgressStyle::with_template("{msg} {bar:30} {percent:>3} %  {binary_bytes_per_sec}  {eta} left");
            bar.set_style(style.expect("the template is constant and was seen to parse"));
            bar.set_message(title.clone());
            if let Some((_, before)) = self.drawn.replace((title, bar)) {
                before.finish_and_clear();
            }
        }
        if let Some((_, bar)) = &self.drawn {
            bar.set_position(done);
        }
    }

    /// A line of progress once a second, for screens where a bar cannot be drawn.
    fn line_due(&mut self, title: &str, done: u64, total: u64) -> Option<String> {
        let now = Instant::now();
        match &self.printed {
            Some((printed, when)) if printed == title && now - *when < PROGRESS_LINE_INTERVAL => return None,
            Some((printed, _)) if printed == title => {}
            // The first line comes after a second: a fast transfer needs none.
            _ => {
                self.printed = Some((title.to_owned(), now));
                self.drawn = Some((title.to_owned(), ProgressBar::hidden()));
                return None;
            }
        }
        self.printed = Some((title.to_owned(), now));
        let (_, bar) = self.drawn.as_ref()?;
        bar.set_length(total);
        bar.set_position(done);
        let percent = done * 100 / total.max(1);
        let rate = per_second(done, u64::try_from(bar.elapsed().as_millis()).unwrap_or(u64::MAX));
        let left = Duration::from_secs((total - done.min(total)) / rate.max(1));
        Some(format!("* {title}: {percent} %  {}/s  {} left", HumanBytes(rate), HumanDuration(left)))
    }
}

/// Shows clap's help, version or complaint where each belongs.
pub(super) fn usage(error: &clap::Error) {
    drop(error.print());
}

/// Where logs go.
pub(super) fn log_writer() -> io::Stderr {
    io::stderr()
}

/// Whether a person reads standard output.
pub(super) fn is_read_by_a_person() -> bool {
    io::stdout().is_terminal()
}

/// A failure before there is an [`Output`].
pub(super) fn to_stderr(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// Bytes moved in a time, as bytes per second.
fn per_second(bytes: u64, millis: u64) -> u64 {
    u64::try_from(u128::from(bytes) * 1_000 / u128::from(millis.max(1))).unwrap_or(u64::MAX)
}

/// Asks something on the line where the answer will be typed.
pub(super) fn question(text: &str) {
    let mut stderr = io::stderr().lock();
    drop(write!(stderr, "{text} ").and_then(|()| stderr.flush()));
}

/// A speed for people to read: `118.2 MiB/s`.
pub(super) fn rate(bytes: u64, millis: u64) -> String {
    format!("{}/s", HumanBytes(per_second(bytes, millis)))
}

/// Text from somebody else, with everything escaped that could move the cursor, reorder the line or hide in it.
/// Line breaks stay, indented, so that no line can pass for another person's.
pub(super) fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => safe.push_str("\n    "),
            '\t' => safe.push(' '),
            c if is_unprintable(c) => safe.extend(c.escape_default()),
            c => safe.push(c),
        }
    }
    safe
}

#[expect(clippy::cast_precision_loss, reason = "a number of milliseconds for people to read")]
fn seconds(millis: u64) -> f64 {
    millis as f64 / 1_000.0
}

/// Hours and minutes of a time, UTC.
fn clock_time(UnixMillis(millis): UnixMillis) -> String {
    let minutes = millis / 60_000;
    format!("{:02}:{:02}", minutes / 60 % 24, minutes % 60)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_others_cannot_move_the_cursor() {
        assert_eq!(printable("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(printable("a\rb\u{202e}c\u{9b}d"), "a\\rb\\u{202e}c\\u{9b}d");
        assert_eq!(printable("one\ntwo"), "one\n    two");
        assert_eq!(printable("Grüße 👋"), "Grüße 👋");
    }

    #[test]
    fn rates_do_not_overflow() {
        assert_eq!(per_second(1_000, 500), 2_000);
        assert_eq!(per_second(u64::MAX, 0), u64::MAX);
    }
}
