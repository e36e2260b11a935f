//! The commands a person types inside `qchat peer`: a slash and a word; the last argument takes the rest of the line.

use std::path::PathBuf;

use super::args::HISTORY_MESSAGES;
use super::{args, flags, old_words, profiles, sizes, transfers};
use crate::peer::failure::{Failure, FailureKind};
use crate::peer::handle::{Command, Source, Term};
use crate::wire::ids::{FileDigest, FileName, IdError, PeerName};
use crate::wire::people::{Audience, Presence};

/// What a typed line means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    /// Nothing was typed.
    Empty,
    /// Something for the peer.
    Run(Command),
    /// Talk to somebody: plain lines go to them from now on.
    Query {
        /// To whom.
        to: PeerName,
        /// Whether each of the two shall have no other such conversation.
        exclusive: bool,
    },
    /// Talk to nobody any more.
    Close,
    /// Show what no screen has shown yet.
    Inbox,
    /// Show the commands.
    Help,
    /// Show the words of the older systems.
    OldHelp,
    /// Show this sentence.
    Tell(String),
    /// Stop the peer.
    Quit,
}

/// A command with its arguments and what it does: for `/help`, completion and mistakes.
pub(super) struct Word {
    pub(super) name: &'static str,
    pub(super) arguments: &'static str,
    pub(super) purpose: &'static str,
}

const fn word(name: &'static str, arguments: &'static str, purpose: &'static str) -> Word {
    Word { name, arguments, purpose }
}

/// All commands, in the order of `/help`.
pub(super) const WORDS: &[Word] = &[
    word("/who", "[--hour] [TEXT]", "who is online; --hour: also who was in the last hour; TEXT: a part of the name"),
    word("/away", "", "others see that you are away; /back ends it"),
    word("/busy", "", "others see that you are busy; /back ends it"),
    word("/back", "", "others see that you are online"),
    word("/status", "", "how you are connected, and to whom directly"),
    word("/msg", "NAME TEXT", "send a message; it waits when they are offline"),
    word("/broadcast", "TEXT", "say something to everyone who is online; the directory can read it"),
    word(
        "/query",
        "[--exclusive] NAME",
        "talk to somebody: what you type goes to them, `//x` as `/x`; --exclusive: neither of you to another",
    ),
    word("/close", "", "end that"),
    word("/inbox", "", "what no screen has shown yet, and offers that wait for your answer"),
    word(
        "/history",
        "[NAME] [WORDS]",
        "what was said, with all of these WORDS; `/history --search WORDS`: with anybody",
    ),
    word("/audit", "NAME", "what a directory lost, replayed or reordered between you"),
    word(
        "/share",
        "[--hide-address] [--exclude GLOB] [--gitignore] PATH",
        "publish a file or folder; --hide-address: through the relay only",
    ),
    word("/unshare", "FILE", "take a published file back"),
    word("/shared", "", "what you publish"),
    word("/find", "[PATTERN]", "search for files that others publish"),
    word(
        "/get",
        "[--out DIR] [--overwrite|--rename] [--executable] NAME:FILE",
        "fetch a file or folder (or a DIGEST), into the folder you started in unless you say DIR",
    ),
    word("/send", "[--exclude GLOB] [--gitignore] NAME PATH", "offer a file or folder; it is sent once they accept"),
    word("/limit", "[RATE|off]", "how fast files go and come, each way: bytes in a second such as 500K or 1.5M"),
    word("/offers", "", "files and folders that others offer you, and yours that were not taken yet"),
    word("/accept", "[--out DIR] [--overwrite|--rename] [--executable] [NAME|ID]", "fetch what is offered"),
    word(
        "/accept",
        "always [NAME SIZE [DIR]]",
        "take a friend's files up to a SIZE such as 100M without asking; `/accept never NAME` asks again",
    ),
    word("/decline", "[NAME|ID]", "turn an offered file down"),
    word("/transfers", "", "files that are on their way to you and from you"),
    word("/cancel", "[ID|FILE]", "end a transfer, or take your offer back; what has come of it is removed"),
    word("/pause", "[ID|FILE]", "let a file that comes to you wait"),
    word("/resume", "[ID|FILE]", "go on with a file that was paused, has stopped or waits"),
    word("/verify", "NAME [--mark]", "the number to compare with them; --mark once you have"),
    word("/trust", "NAME", "accept the other key of somebody you had verified"),
    word("/connect", "NAME", "ask for a direct connection, by which you see each other's IP address"),
    word(
        "/allow",
        "NAME [once|1h|30m|2d|always]",
        "let somebody connect directly and see your IP address; 1h unless you say",
    ),
    word("/deny", "NAME", "take that back, or turn down what they ask"),
    word("/allowed", "", "who may connect directly"),
    word("/friend", "NAME [later]", "ask somebody to be friends, or accept when they ask; later: their request waits"),
    word("/unfriend", "NAME", "end a friendship, decline a request, or take yours back"),
    word("/friends", "", "your friends, and who may become one"),
    word("/block", "NAME", "nothing of theirs comes to you, and they see nothing of you; they are not told"),
    word("/unblock", "NAME", "let them in again"),
    word("/blocked", "", "whom you have blocked"),
    word("/privacy", "[everyone|friends]", "who may see you, find your files and write to you"),
    word("/profile", "[NAME [via FRIEND]]", "what they say about themselves; your own without a NAME"),
    word(
        "/profile",
        "edit FIELD [VALUE]",
        "say it: name, info, picture PATH, or any word; without a VALUE it is removed",
    ),
    word("/invite", "[NAME]", "a link that admits one new account"),
    word("/sessions", "", "where your account is logged in"),
    word("/end-sessions", "", "log it out everywhere else"),
    word("/allow-key", "[KEY]", "let a key take this account that asks for it: you move there"),
    word("/deny-key", "[KEY]", "keep a key out that asks for this account"),
    word("/help", "[old]", "this list; old: what words of older systems do, typed without a slash"),
    word("/quit", "", "leave; messages wait for you at the directory"),
];

/// The text of `/help`.
pub(super) fn help() -> String {
    let row = |word: &Word| format!("{:<42} {}", format!("{} {}", word.name, word.arguments), word.purpose);
    WORDS.iter().map(row).collect::<Vec<_>>().join("\n")
}

/// Where a line is typed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// Whose peer it is.
    pub(super) user: &'a PeerName,
    /// Where fetched files go.
    pub(super) folder: &'a std::path::Path,
    /// Who gets a line that is no command.
    pub(super) window: Option<&'a PeerName>,
}

/// Reads a typed line.
pub(super) fn parse(line: &str, place: Place<'_>) -> Result<Line, Failure> {
    if line.trim().is_empty() {
        return Ok(Line::Empty);
    }
    if let Some(text) = text_of(line) {
        let Some(to) = place.window.cloned() else {
            return old_words::parse(line, place.user).unwrap_or_else(|| Err(nobody_named()));
        };
        return Ok(Line::Run(Command::Message { to, text: text.to_owned() }));
    }
    let line = line.trim();
    let (word, rest) = match line.split_once(char::is_whitespace) {
        Some((word, rest)) => (word, rest.trim()),
        None => (line, ""),
    };
    let takes_nothing = WORDS.iter().any(|known| known.name == word && known.arguments.is_empty());
    if takes_nothing && !rest.is_empty() {
        return Err(Failure::new(FailureKind::Usage, format!("{word} takes nothing more, not {rest:?}")));
    }
    Ok(match word {
        "/help" if rest.is_empty() => Line::Help,
        "/help" if rest == "old" => Line::OldHelp,
        "/help" => return Err(Failure::new(FailureKind::Usage, format!("/help takes nothing or old, not {rest:?}"))),
        "/inbox" => Line::Inbox,
        "/query" => {
            let (exclusive, rest) = flag("--exclusive", rest);
            Line::Query { to: PeerName::parse(one(word, rest)?).map_err(usage)?, exclusive }
        }
        "/close" => Line::Close,
        "/quit" => Line::Quit,
        _ => Line::Run(command(word, rest, place.folder)?),
    })
}

/// What a line says that is no command: all of it, or what follows the first of two slashes.
fn text_of(line: &str) -> Option<&str> {
    match line.trim_start().strip_prefix('/') {
        None => Some(line.trim_end()),
        Some(text) => text.starts_with('/').then(|| text.trim_end()),
    }
}

/// Whether a line names somebody to talk to, rightly or not: what comes after it is for nobody else.
pub(super) fn is_query(line: &str) -> bool {
    line.split_whitespace().next() == Some("/query")
}

fn nobody_named() -> Failure {
    Failure::new(FailureKind::Usage, "nobody was named to send this to").hint(
        "/query NAME opens a conversation, /msg NAME TEXT sends one message, /help lists all commands, \
             /help old the words of older systems",
    )
}

fn command(word: &str, rest: &str, folder: &std::path::Path) -> Result<Command, Failure> {
    let folder = folder.to_owned();
    Ok(match word {
        "/who" => who(rest)?,
        "/away" => Command::SetPresence { presence: Presence::Away },
        "/busy" => Command::SetPresence { presence: Presence::Busy },
        "/back" => Command::SetPresence { presence: Presence::Online },
        "/broadcast" => Command::Broadcast { text: one(word, rest)?.to_owned() },
        "/status" => Command::Status,
        "/shared" => Command::Shared,
        "/offers" => Command::Offers,
        "/limit" if rest.is_empty() => Command::Limit,
        "/limit" => Command::SetLimit { bytes_per_second: limit_of(rest)? },
        "/find" => Command::Find { pattern: rest.to_owned() },
        "/msg" => {
            let (to, text) = two(word, rest)?;
            Command::Message { to, text: text.to_owned() }
        }
        "/send" => {
            let (left_out, rest) = flags::take::<args::LeftOut>(word, rest)?;
            let (to, path) = two(word, rest)?;
            Command::Send { to, paths: vec![local_path(path, &folder)], wait: false, filter: left_out.into() }
        }
        "/share" => {
            let (args::Sharing { left_out, hide_address }, rest) = flags::take(word, rest)?;
            let path = local_path(one(word, rest)?, &folder);
            Command::Share { path, hides_address: hide_address, filter: left_out.into() }
        }
        "/connect" => Command::Connect { to: PeerName::parse(one(word, rest)?).map_err(usage)?, wait: false },
        "/allow" => {
            let (to, term) = one(word, rest)?.split_once(char::is_whitespace).unwrap_or((rest, DEFAULT_TERM));
            let term = term_of(term.trim()).map_err(|error| Failure::new(FailureKind::Usage, error))?;
            Command::Allow { to: PeerName::parse(to).map_err(usage)?, term }
        }
        "/deny" => Command::Deny { to: PeerName::parse(one(word, rest)?).map_err(usage)? },
        "/allowed" => Command::Allowed,
        "/friend" => friend(one(word, rest)?)?,
        "/unfriend" => Command::Unfriend { name: PeerName::parse(one(word, rest)?).map_err(usage)? },
        "/friends" => Command::Friends,
        "/block" => Command::Block { name: PeerName::parse(one(word, rest)?).map_err(usage)? },
        "/unblock" => Command::Unblock { name: PeerName::parse(one(word, rest)?).map_err(usage)? },
        "/blocked" => Command::Blocked,
        "/privacy" if rest.is_empty() => Command::Privacy,
        "/privacy" => {
            let audience = audience_of(rest).map_err(|error| Failure::new(FailureKind::Usage, error))?;
            Command::SetPrivacy { audience }
        }
        "/unshare" => Command::Unshare { name: shared_name(one(word, rest)?).map_err(usage)? },
        "/get" => {
            let (place, rest) = flags::take::<args::Place>(word, rest)?;
            let (collision, executable, folder) = (place.collision(), place.executable(), out_of(&place, &folder));
            Command::Get { source: source(one(word, rest)?)?, folder, collision, executable, once: false }
        }
        "/accept" => match transfers::accept_in_advance(rest, &folder) {
            Some(command) => command?,
            None => {
                let (how, rest) = flags::take::<transfers::Accepting>(word, rest)?;
                let folder = out_of(&how.place, &folder);
                how.command(rest.to_owned(), folder)?
            }
        },
        "/transfers" => Command::Transfers,
        "/cancel" => Command::Cancel { which: rest.to_owned() },
        "/pause" => Command::Pause { which: rest.to_owned() },
        "/resume" => Command::Resume { which: rest.to_owned() },
        "/verify" => {
            let (name, mark) = match one(word, rest)?.split_once(char::is_whitespace) {
                None => (rest, false),
                Some((name, last)) if last.trim() == "--mark" => (name, true),
                Some(_) => return Err(missing(word)),
            };
            Command::Verify { name: PeerName::parse(name).map_err(usage)?, mark }
        }
        "/history" => history(rest)?,
        "/audit" => Command::Audit { with: PeerName::parse(one(word, rest)?).map_err(usage)? },
        "/trust" => Command::Trust { name: PeerName::parse(one(word, rest)?).map_err(usage)? },
        "/decline" => Command::Decline { offer: rest.to_owned() },
        "/profile" => profiles::command(rest, &folder)?,
        "/invite" => {
            let name = if rest.is_empty() { None } else { Some(PeerName::parse(rest).map_err(usage)?) };
            Command::Invite { name }
        }
        "/sessions" => Command::Sessions,
        "/end-sessions" => Command::EndOtherSessions,
        "/allow-key" => Command::AnswerKeyRequest { key: rest.to_owned(), allow: true },
        "/deny-key" => Command::AnswerKeyRequest { key: rest.to_owned(), allow: false },
        word => {
            return Err(
                Failure::new(FailureKind::Usage, format!("there is no command {word}")).hint("/help lists them")
            );
        }
    })
}

/// Reads `RATE` or `off`.
fn limit_of(rest: &str) -> Result<Option<u64>, Failure> {
    if rest == "off" {
        return Ok(None);
    }
    let rate = sizes::rate(rest).map_err(|error| Failure::new(FailureKind::Usage, error))?;
    Ok(Some(rate))
}

/// Reads `NAME [later]`.
fn friend(rest: &str) -> Result<Command, Failure> {
    let (name, later) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let name = PeerName::parse(name).map_err(usage)?;
    match later.trim() {
        "" => Ok(Command::Befriend { name }),
        "later" => Ok(Command::PutOff { name }),
        _ => Err(missing("/friend")),
    }
}

/// Reads who may see an account.
pub(super) fn audience_of(text: &str) -> Result<Audience, String> {
    match text {
        "everyone" => Ok(Audience::Everyone),
        "friends" => Ok(Audience::Friends),
        _ => Err(format!("{text:?} is neither everyone nor friends")),
    }
}

/// Reads `[--hour] [TEXT]`.
fn who(rest: &str) -> Result<Command, Failure> {
    let (recent, pattern) = flag("--hour", rest);
    if pattern.contains(char::is_whitespace) || pattern.starts_with('-') {
        return Err(Failure::new(
            FailureKind::Usage,
            format!("/who takes [--hour] and a part of a name, not {pattern:?}"),
        ));
    }
    Ok(Command::Who { recent, pattern: pattern.to_owned() })
}

/// Reads `[NAME] [WORDS]` or `--search WORDS`.
fn history(rest: &str) -> Result<Command, Failure> {
    let (first, words) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let with = match first {
        "" | "--search" => None,
        name => Some(PeerName::parse(name).map_err(usage)?),
    };
    if first == "--search" && words.trim().is_empty() {
        return Err(Failure::new(FailureKind::Usage, "/history --search needs WORDS"));
    }
    let words = words.trim();
    if let Some(flag) = words.split_whitespace().find(|word| word.starts_with("--")) {
        return Err(Failure::new(FailureKind::Usage, format!("/history does not know {flag}"))
            .hint("`qchat history` in another terminal has --limit, --before and --json"));
    }
    let search = (!words.is_empty()).then(|| words.to_owned());
    Ok(Command::History { with, limit: HISTORY_MESSAGES, before: None, search })
}

/// Reads what `get` takes: NAME:FILE or a digest.
pub(super) fn source(text: &str) -> Result<Source, Failure> {
    if let Ok(digest) = FileDigest::parse(text) {
        return Ok(Source::Digest { digest });
    }
    let (owner, name) = text.split_once(':').ok_or_else(|| {
        Failure::new(FailureKind::Usage, format!("{text:?} is neither NAME:FILE nor a digest"))
            .hint("`find` shows what can be fetched")
    })?;
    let owner = PeerName::parse(owner).map_err(usage)?;
    Ok(Source::Named { owner, name: shared_name(name).map_err(usage)? })
}

/// Reads the name of what is shared: a folder is listed with a slash at its end.
pub(super) fn shared_name(text: &str) -> Result<FileName, IdError> {
    FileName::parse(text.strip_suffix('/').unwrap_or(text))
}

/// How long somebody is allowed to see an address when nothing is said: as long as a conversation.
pub(super) const DEFAULT_TERM: &str = "1h";

/// Reads for how long somebody is allowed to see an address.
pub(super) fn term_of(text: &str) -> Result<Term, String> {
    let wrong = || format!("{text:?} is neither once, always nor a time such as 30m, 1h or 2d");
    let unit_millis = match text.chars().last() {
        Some('m') => 60_000,
        Some('h') => 3_600_000,
        Some('d') => 86_400_000,
        _ if text == "once" => return Ok(Term::Once),
        _ if text == "always" => return Ok(Term::Always),
        _ => return Err(wrong()),
    };
    let number: u64 = text.get(..text.len() - 1).and_then(|digits| digits.parse().ok()).ok_or_else(wrong)?;
    match number.checked_mul(unit_millis) {
        Some(millis) if (1..=TERM_MILLIS_MAX).contains(&millis) => Ok(Term::For { millis }),
        _ => Err(format!("{text:?} is not between 1m and 365d")),
    }
}

/// Whoever wants longer than a year means always.
const TERM_MILLIS_MAX: u64 = 365 * 86_400_000;

/// Whether a flag comes before the rest.
fn flag<'a>(flag: &str, rest: &'a str) -> (bool, &'a str) {
    match rest.strip_prefix(flag).filter(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace)) {
        Some(rest) => (true, rest.trim()),
        None => (false, rest),
    }
}

/// The folder that a flag names, from the one where relative paths begin.
fn out_of(place: &args::Place, folder: &std::path::Path) -> PathBuf {
    // Without the `.` that stands for the folder itself.
    local_path(&place.out.to_string_lossy(), folder).components().collect()
}

pub(super) fn local_path(text: &str, folder: &std::path::Path) -> PathBuf {
    // Quotes are not needed, but many type them.
    let unquoted = ['"', '\''].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote));
    let text = unquoted.unwrap_or(text);
    match (text.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => folder.join(text),
    }
}

fn one<'a>(word: &str, rest: &'a str) -> Result<&'a str, Failure> {
    if rest.is_empty() { Err(missing(word)) } else { Ok(rest) }
}

fn two<'a>(word: &str, rest: &'a str) -> Result<(PeerName, &'a str), Failure> {
    let (name, last) = rest.split_once(char::is_whitespace).ok_or_else(|| missing(word))?;
    Ok((PeerName::parse(name).map_err(usage)?, last.trim_start()))
}

fn missing(word: &str) -> Failure {
    let arguments = WORDS.iter().find(|known| known.name == word).map_or("", |known| known.arguments);
    Failure::new(FailureKind::Usage, format!("{word} needs {arguments}"))
}

pub(super) fn usage(error: IdError) -> Failure {
    Failure::new(FailureKind::Usage, error.to_string())
}

#[cfg(test)]
#[path = "words_tests.rs"]
mod tests;
