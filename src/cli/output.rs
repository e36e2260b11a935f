//! The only file that prints: data on standard output, talk on standard error, JSON when asked. Text from other people
//! loses its control characters here.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal as _, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

use super::args::{Color, Look};
use super::face::Face;
use super::progress::{self, Amount, Bar};
use super::times::{clock_time, day_and_time};
use super::{legacy, look_back, paths, people, profiles, qr_code, sizes, transfers};
use crate::peer::event::{Event, HowLong, What};
use crate::peer::failure::{Failure, FailureKind};
use crate::peer::rows::WhyClosed;
use crate::wire::ids::{FileName, PeerName, UnixMillis, is_unprintable};
use crate::wire::people::Presence;

/// What prints lines above a line that is being typed.
pub(super) type LinePrinter = Box<dyn FnMut(String) -> io::Result<()> + Send>;

/// Where and how a command speaks.
pub(super) struct Output {
    json: bool,
    quiet: bool,
    color: bool,
    /// Whether who reads it types at the prompt of a peer.
    is_at_prompt: AtomicBool,
    /// Replaces standard output while a line is being typed.
    above_prompt: Mutex<Option<LinePrinter>>,
    bar: Mutex<Bar>,
    /// Why standard output took no more, if it did not.
    broken: Mutex<Option<io::ErrorKind>>,
    /// Of whom was said already that they use an older program.
    legacy: Mutex<BTreeSet<PeerName>>,
}

/// People with older programs who are remembered; with more, all are said again.
const LEGACY_MAX: usize = 10_000;

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
            is_at_prompt: AtomicBool::new(false),
            above_prompt: Mutex::default(),
            bar: Mutex::default(),
            broken: Mutex::default(),
            legacy: Mutex::default(),
        }
    }

    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// Commands are typed at the prompt of a peer from now on.
    pub(super) fn opens_prompt(&self) {
        self.is_at_prompt.store(true, Ordering::Relaxed);
    }

    /// Where commands are typed.
    fn face(&self) -> Face {
        if self.is_at_prompt.load(Ordering::Relaxed) { Face::Prompt } else { Face::Shell }
    }

    /// Prints through an editor from now on, so that incoming lines never break the line being typed.
    pub(super) fn print_above_prompt(&self, printer: LinePrinter) {
        *lock(&self.above_prompt) = Some(printer);
    }

    /// Prints to standard output again, for somebody in a shell.
    pub(super) fn prompt_ended(&self) {
        *lock(&self.above_prompt) = None;
        self.is_at_prompt.store(false, Ordering::Relaxed);
    }

    /// Shows an event: one line of JSON, or what a person wants to read of it.
    pub(super) fn event(&self, event: &Event) {
        match event {
            Event::Progress { activity, name, done, total, files, via, .. } if !self.json => {
                let title = progress::title(*activity, name, via.as_ref());
                self.progress(title, Amount { done: *done, total: *total, files: *files });
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

    /// Says that somebody uses an older program, once in a run.
    pub(super) fn legacy(&self, name: &PeerName) {
        let is_news = {
            let mut told = lock(&self.legacy);
            if told.len() >= LEGACY_MAX {
                told.clear();
            }
            told.insert(name.clone())
        };
        if is_news {
            self.talk_event(&Event::Legacy { name: name.clone() });
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
        let mut stdout = io::stdout().lock();
        if let Err(error) = writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
            *lock(&self.broken) = Some(error.kind());
        }
    }

    /// Whether everything that was printed got there: what did not must not count as shown.
    ///
    /// # Errors
    /// The [`Failure`] of standard output.
    pub(super) fn check_shown(&self) -> Result<(), Failure> {
        match *lock(&self.broken) {
            None => Ok(()),
            Some(io::ErrorKind::BrokenPipe) => {
                Err(Failure::new(FailureKind::Other, "whoever read the output has closed it"))
            }
            Some(kind) => Err(Failure::new(FailureKind::Disk, format!("standard output takes no more: {kind}"))
                .hint("what could not be printed is still new")),
        }
    }

    /// Whether the output of a command is complete. Whoever closes it does not want to read on: that is no failure.
    ///
    /// # Errors
    /// As [`Self::check_shown`], but for a closed pipe.
    pub(super) fn check_complete(&self) -> Result<(), Failure> {
        if *lock(&self.broken) == Some(io::ErrorKind::BrokenPipe) { Ok(()) } else { self.check_shown() }
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

    /// Says what is wrong while the program goes on.
    pub(super) fn warning(&self, text: &str) {
        self.end_bar();
        if lock(&self.above_prompt).is_some() {
            self.line(text);
        } else {
            to_stderr(text);
        }
    }

    /// Says something that a person may pass over.
    pub(super) fn aside(&self, text: &str) {
        self.talk(&self.paint("2", text));
    }

    /// Reports why a command failed, with what to do about it.
    pub(super) fn failure(&self, failure: &Failure) {
        self.end_bar();
        let hint = failure.hint.as_ref().map(|hint| self.face().hint(hint));
        let failure = &Failure { hint, ..failure.clone() };
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

    fn progress(&self, title: String, amount: Amount) {
        if self.quiet {
            return;
        }
        let mut bar = lock(&self.bar);
        if lock(&self.above_prompt).is_some() {
            if let Some(line) = bar.line_due(title, amount) {
                self.line(&line);
            }
        } else {
            bar.draw(title, amount);
        }
    }

    fn end_bar(&self) {
        lock(&self.bar).clear();
    }

    /// The line a person reads; `None` for what they need not know.
    fn sentence(&self, event: &Event) -> Option<String> {
        let face = self.face();
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
            Event::Presence { name, presence, is_news: true, .. } => {
                format!("* {name} is {}", presence_word(*presence))
            }
            // Who talks to somebody who is there need not read that they are.
            Event::Presence { is_news: false, .. } => return None,
            Event::PresenceSet { presence } => format!("* others see you as {}", presence_word(*presence)),
            Event::Announcement { from, sent_at, text, legacy, .. } => {
                let (name, mark) = (self.paint("1;33", from.as_str()), legacy::mark(*legacy));
                format!("[{}] {name}{mark} to everyone: {}", clock_time(*sent_at), printable(text))
            }
            Event::Announced { to_everyone: true } => "* said to everyone who is online".to_owned(),
            Event::Announced { to_everyone: false } => "* said, but not to everyone".to_owned(),
            Event::Message { from, sent_at, text, legacy, .. } => {
                let (name, mark) = (self.paint("1;32", from.as_str()), legacy::mark(*legacy));
                format!("[{}] {name}{mark}: {}", clock_time(*sent_at), printable(text))
            }
            Event::Legacy { name } => legacy::warning(name),
            Event::Queued { to, .. } => format!("* queued for {to}: it waits here, and goes as soon as there is a way"),
            Event::Stored { to, what, .. } => match what {
                What::Text => format!("* stored for {to}: the directory keeps it until they take it"),
                // The command that offers or declines says so itself.
                What::Offer | What::OfferDeclined | What::OfferWithdrawn => return None,
            },
            Event::Delivered { to, what, .. } => match what {
                What::Text => format!("* {to} has your message"),
                What::Offer | What::OfferDeclined | What::OfferWithdrawn => return None,
            },
            Event::Read { to, what, .. } => match what {
                What::Text => format!("* {to} has read your message"),
                What::Offer | What::OfferDeclined | What::OfferWithdrawn => return None,
            },
            Event::Missing { from, first, last } if first == last => {
                format!("* a message from {from} (number {first}) did not come")
            }
            Event::Missing { from, first, last } => {
                let count = last.saturating_sub(*first).saturating_add(1);
                format!("* {count} messages from {from} (numbers {first}-{last}) did not come")
            }
            Event::History(row) => look_back::history_line(row),
            Event::Audit(row) => look_back::audit_table(row),
            Event::AuditFinding(row) => look_back::finding_line(row),
            Event::Again { .. } => "* perhaps shown before the program was stopped:".to_owned(),
            Event::NotSent { to, failure, .. } => {
                let hint = failure.hint.as_ref().map(|hint| format!("; {}", face.hint(hint))).unwrap_or_default();
                format!("* not sent to {to}: {}{hint}", printable(&failure.message))
            }
            Event::KeyChanged { name, old, new, held: false } => {
                format!("! the key of {name} has changed: {old} is now {new}; ask them whether that is right")
            }
            Event::KeyChanged { name, old, new, held: true } => format!(
                "! {name} shows another key than the one you verified: {old} is now {new}; nothing is sent to it or \
                 taken from it until `{}`; ask them first whether it is theirs",
                face.command(&format!("trust {name}"))
            ),
            Event::Contact { name, legacy: true, .. } => legacy::contact(name),
            Event::Contact { name, safety_number, verified_at, offered_safety_number, .. } => {
                face.hint(&contact(name, safety_number, *verified_at, offered_safety_number.as_deref()))
            }
            Event::KeyRequested { key, source } => format!(
                "! somebody at {source} who knows your password wants to take this account to another machine (key \
                 {key:.16}): /deny-key {key:.8}, or /allow-key {key:.8} if it is you; without an answer it is let in \
                 after a minute, and `--take-back` undoes it for seven days"
            ),
            Event::Session { kind, since, address, this } => {
                let this = if *this { "  (this one)" } else { "" };
                format!("{kind:<8}  {address}  since {}{this}", day_and_time(*since))
            }
            Event::Invited { link, .. } => {
                let link = link.expose();
                let picture = if is_read_by_a_person() { qr_code::lines(link) } else { None };
                picture.map_or_else(|| link.to_owned(), |picture| format!("{picture}\n{link}"))
            }
            event @ (Event::Offer { .. }
            | Event::Offered { .. }
            | Event::OfferDeclined { .. }
            | Event::Declined { .. }
            | Event::OfferWithdrawn { .. }
            | Event::OpenOffer { .. }
            | Event::Welcome { .. }
            | Event::Unwelcome { .. }) => return transfers::offer(event, face),
            Event::Transfer(row) => transfers::line(row, face),
            Event::Received { from, path, size, files, resumed, millis, via, .. } => {
                let rate = rate(size - resumed, *millis);
                let path = printable(&path.display().to_string());
                let resumed =
                    if *resumed > 0 { format!(", {} were here", HumanBytes(*resumed)) } else { String::new() };
                format!(
                    "* received {path} from {from}: {}{resumed}, verified, {rate}{}",
                    amount(*size, *files),
                    via.as_ref().map_or_else(String::new, |via| format!(", {}", paths::kind(via)))
                )
            }
            Event::Sent { to, name, size, files, .. } => {
                format!("* {to} has {} ({})", titled(name, *files), amount(*size, *files))
            }
            Event::NotReceived { from, name, failure } => {
                format!("* {} from {from}: {}", printable(name.as_str()), printable(&failure.message))
            }
            Event::SourceDropped { name, file, reason } => {
                let (reason, file) = (printable(reason), printable(file.as_str()));
                format!("* {name} {reason} of {file}: dropped, the others go on")
            }
            Event::Status(row) => paths::status(row),
            Event::Link { name, via, .. } => format!("{name}: {}", paths::path(via)),
            Event::Person { name, presence, last_seen, legacy } => {
                format!("{}{}", person(name, *presence, *last_seen), legacy::note(*legacy))
            }
            Event::Found { owner, online, name, size, files, legacy, .. } => {
                let when = if *online { "" } else { "  (offline)" };
                let legacy = if *legacy { "  legacy" } else { "" };
                format!("{owner}:{}  {}{legacy}{when}", titled(name, *files), amount(*size, *files))
            }
            Event::Shared { name, path, size, files, hides_address, replaces, .. } => {
                let path = printable(&path.display().to_string());
                let hidden = if *hides_address { "  (relayed only)" } else { "" };
                let (name, amount) = (titled(name, *files), amount(*size, *files));
                let replaced = replaces.as_ref().map(|before| {
                    format!(
                        "  (in place of {}, which is not shared any more)",
                        printable(&before.display().to_string())
                    )
                });
                format!("{name}  {amount}  {path}{hidden}{}", replaced.unwrap_or_default())
            }
            Event::Skipped { path, why, others } => {
                let others = others.map_or_else(String::new, |others| format!("; and {others} more"));
                format!("* skipped {}: {}{others}", printable(path), printable(why))
            }
            Event::Unshared { name } => format!("{} is not shared any more", printable(name.as_str())),
            Event::ConsentAsked { from, legacy, .. } => format!(
                "* {from}{} asks for a direct connection, and would see your IP address: /allow {from} once|1h|always, or \
                 /deny {from}",
                legacy::mark(*legacy)
            ),
            Event::Asked { to } => format!("* asked {to}: they see it on their screen"),
            Event::ConsentAnswered { by, allowed: true } => format!("* {by} allows a direct connection"),
            Event::ConsentAnswered { by, allowed: false } => format!("* {by} does not want a direct connection"),
            Event::Allowed { name, allowance, until } => match (allowance, until) {
                (_, Some(end)) => format!("{name}  until {}", day_and_time(*end)),
                (HowLong::Friend, None) => format!("{name}  friend"),
                (HowLong::Once, None) => format!("{name}  once"),
                (HowLong::Until | HowLong::Always, None) => format!("{name}  always"),
            },
            Event::Denied { name } => format!("{name} may not learn your IP address"),
            Event::Blocked { name } => format!("{name} is blocked"),
            Event::Unblocked { name } => format!("{name} is not blocked any more"),
            Event::Friend { name, state, presence, last_seen, legacy, .. } => {
                format!("{}{}", people::friend(name, *state, *presence, *last_seen, face), legacy::note(*legacy))
            }
            Event::Unfriended { name } => format!("{name} is no friend of yours"),
            Event::PutOff { name } => format!("{name} is told that you are busy: their request waits"),
            Event::FriendAsked { from, legacy, .. } => people::request(from, *legacy),
            Event::FriendAnswered { by, answer } => people::answer(by, *answer),
            Event::Limit { bytes_per_second } => sizes::limit(*bytes_per_second),
            Event::Privacy { audience } => people::privacy(*audience).to_owned(),
            Event::Connected { name, via } => format!("* connected to {name}: {}", paths::path(via)),
            Event::Profile(row) => profiles::lines(row),
            Event::ExclusiveOpened { with, by } if with == by => {
                format!("* {with} has opened an exclusive conversation with you: /query {with} answers, /close ends it")
            }
            Event::ExclusiveOpened { with, .. } => format!("* exclusive conversation with {with}: /close ends it"),
            Event::ExclusiveClosed { with, why } => match why {
                WhyClosed::Here => format!("* the exclusive conversation with {with} is over"),
                WhyClosed::There => format!("* {with} has closed the exclusive conversation"),
                WhyClosed::Left => format!("* {with} has left: the exclusive conversation is over"),
                WhyClosed::Lost => format!("* {with} cannot be reached: the exclusive conversation is over"),
            },
            Event::Note { text } => printable(text),
            Event::Progress { .. } | Event::Drained | Event::Done | Event::Failed { .. } => return None,
        })
    }
}

/// A shared thing's name, from which one sees whether it is a folder: `photos/`.
pub(super) fn titled(name: &FileName, files: Option<u64>) -> String {
    let slash = if files.is_some() { "/" } else { "" };
    format!("{}{slash}", printable(name.as_str()))
}

/// How much there is of it: `1.20 GiB`, of a folder `20,000 files, 1.20 GiB`.
pub(super) fn amount(size: u64, files: Option<u64>) -> String {
    match files {
        None => HumanBytes(size).to_string(),
        Some(1) => format!("1 file, {}", HumanBytes(size)),
        Some(files) => format!("{} files, {}", HumanCount(files), HumanBytes(size)),
    }
}

/// A line of who is here.
fn person(name: &PeerName, presence: Presence, last_seen: Option<UnixMillis>) -> String {
    match (presence, last_seen) {
        (Presence::Online, _) => name.to_string(),
        (Presence::Offline, Some(time)) => format!("{name}  (here last {})", day_and_time(time)),
        (presence, _) => format!("{name}  ({})", presence_word(presence)),
    }
}

/// How somebody is, in a word.
fn presence_word(presence: Presence) -> &'static str {
    match presence {
        Presence::Offline => "offline",
        Presence::Online => "online",
        Presence::Away => "away",
        Presence::Busy => "busy",
    }
}

/// What two people compare, and what there is to do next.
fn contact(name: &PeerName, number: &str, verified_at: Option<UnixMillis>, offered: Option<&str>) -> String {
    let mut text = format!("safety number with {name}:\n{}", in_groups(number));
    if is_read_by_a_person()
        && let Some(code) = qr_code::lines(number)
    {
        text.push_str(&format!("\n{code}"));
    }
    text.push_str(&match (verified_at, offered) {
        (_, Some(other)) => format!(
            "\nTHE KEY HAS CHANGED since you verified it. With the new key the number is\n{}\nNothing is sent to the \
             new key or taken from it. Ask {name}, not through qchat, whether it is theirs: `trust {name}` accepts it.",
            in_groups(other)
        ),
        (Some(when), None) => format!("\nverified since {}", date(when)),
        (None, None) => format!(
            "\nnot verified. Compare it with what {name} sees, on the telephone or side by side: if it is the same, \
             nobody is in between, and `verify {name} --mark` notes that."
        ),
    });
    text
}

/// Digits in groups of five, four groups a line.
fn in_groups(digits: &str) -> String {
    let groups: Vec<&str> = digits.as_bytes().chunks(5).filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.chunks(4).map(|line| format!("    {}", line.join(" "))).collect::<Vec<_>>().join("\n")
}

/// The day of a time, UTC (the civil calendar from days, H. Hinnant, 2013).
fn date(UnixMillis(millis): UnixMillis) -> String {
    let days = millis / 86_400_000 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Shows clap's help, version or complaint where each belongs.
pub(super) fn usage(error: &clap::Error) {
    drop(error.print());
}

/// Where logs go.
pub(super) fn log_writer() -> io::Stderr {
    io::stderr()
}

/// Whether a person reads standard error.
pub(super) fn is_log_read_by_a_person() -> bool {
    io::stderr().is_terminal()
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
pub(super) fn per_second(bytes: u64, millis: u64) -> u64 {
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
    let mut rest = text.chars().peekable();
    let mut before = ' ';
    while let Some(c) = rest.next() {
        let was_before = std::mem::replace(&mut before, c);
        match c {
            // Joins pictures to one, such as a family; anywhere else it hides.
            '\u{200d}' if is_picture(was_before) && rest.peek().is_some_and(|next| is_picture(*next)) => safe.push(c),
            '\n' => safe.push_str("\n    "),
            '\t' => safe.push(' '),
            c if is_unprintable(c) => safe.extend(c.escape_default()),
            c => safe.push(c),
        }
    }
    safe
}

/// Whether a character is an emoji, or what chooses its look.
fn is_picture(c: char) -> bool {
    matches!(c, '\u{1f000}'..='\u{1faff}' | '\u{2190}'..='\u{2bff}' | '\u{fe0f}')
}

#[expect(clippy::cast_precision_loss, reason = "a number of milliseconds for people to read")]
fn seconds(millis: u64) -> f64 {
    millis as f64 / 1_000.0
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
