//! The commands a person types inside `qchat peer`: a slash and a word; the last argument takes the rest of the line.

use std::path::PathBuf;

use super::args::HISTORY_MESSAGES;
use crate::peer::failure::{Failure, FailureKind};
use crate::peer::handle::{Command, Source, Term};
use crate::storage::partial_file::Collision;
use crate::wire::ids::{FileDigest, FileName, IdError, PeerName};

/// What a typed line means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    /// Nothing was typed.
    Empty,
    /// Something for the peer.
    Run(Command),
    /// Show what no screen has shown yet.
    Inbox,
    /// Show the commands.
    Help,
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
    word("/who", "", "who is online"),
    word("/status", "", "how you are connected, and to whom directly"),
    word("/msg", "NAME TEXT", "send a message; it waits when they are offline"),
    word("/inbox", "", "what no screen has shown yet, and offers that wait for your answer"),
    word(
        "/history",
        "[NAME] [WORDS]",
        "what was said, with all of these WORDS; `/history --search WORDS`: with anybody",
    ),
    word("/audit", "NAME", "what a directory lost, replayed or reordered between you"),
    word("/share", "[--hide-address] PATH", "publish a file; with --hide-address it is fetched through the relay only"),
    word("/unshare", "FILE", "take a published file back"),
    word("/shared", "", "what you publish"),
    word("/find", "[PATTERN]", "search for files that others publish"),
    word("/get", "[--overwrite|--rename] NAME:FILE", "fetch a file into the folder you started in (or a DIGEST)"),
    word("/send", "NAME PATH", "offer a file; it is sent once they accept"),
    word("/offers", "", "files that others offer you"),
    word("/accept", "[--overwrite|--rename] [NAME|ID]", "fetch an offered file"),
    word("/decline", "[NAME|ID]", "turn an offered file down"),
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
    word("/invite", "[NAME]", "a link that admits one new account"),
    word("/sessions", "", "where your account is logged in"),
    word("/end-sessions", "", "log it out everywhere else"),
    word("/allow-key", "[KEY]", "let a key take this account that asks for it: you move there"),
    word("/deny-key", "[KEY]", "keep a key out that asks for this account"),
    word("/help", "", "this list"),
    word("/quit", "", "leave; messages wait for you at the directory"),
];

/// The text of `/help`.
pub(super) fn help() -> String {
    let row = |word: &Word| format!("{:<42} {}", format!("{} {}", word.name, word.arguments), word.purpose);
    WORDS.iter().map(row).collect::<Vec<_>>().join("\n")
}

/// Reads a typed line. `folder` is where fetched files go.
pub(super) fn parse(line: &str, folder: &std::path::Path) -> Result<Line, Failure> {
    let line = line.trim();
    if line.is_empty() {
        return Ok(Line::Empty);
    }
    let (word, rest) = match line.split_once(char::is_whitespace) {
        Some((word, rest)) => (word, rest.trim()),
        None => (line, ""),
    };
    let takes_nothing = WORDS.iter().any(|known| known.name == word && known.arguments.is_empty());
    if takes_nothing && !rest.is_empty() {
        return Err(Failure::new(FailureKind::Usage, format!("{word} takes nothing more, not {rest:?}")));
    }
    Ok(match word {
        "/help" => Line::Help,
        "/inbox" => Line::Inbox,
        "/quit" => Line::Quit,
        _ => Line::Run(command(word, rest, folder)?),
    })
}

fn command(word: &str, rest: &str, folder: &std::path::Path) -> Result<Command, Failure> {
    let folder = folder.to_owned();
    Ok(match word {
        "/who" => Command::Who,
        "/status" => Command::Status,
        "/shared" => Command::Shared,
        "/offers" => Command::Offers,
        "/find" => Command::Find { pattern: rest.to_owned() },
        "/msg" => {
            let (to, text) = two(word, rest)?;
            Command::Message { to, text: text.to_owned() }
        }
        "/send" => {
            let (to, path) = two(word, rest)?;
            Command::Send { to, path: local_path(path, &folder), wait: false }
        }
        "/share" => {
            let (hides_address, rest) = flag("--hide-address", rest);
            Command::Share { path: local_path(one(word, rest)?, &folder), hides_address }
        }
        "/connect" => Command::Connect { to: PeerName::parse(one(word, rest)?).map_err(usage)?, wait: false },
        "/allow" => {
            let (to, term) = one(word, rest)?.split_once(char::is_whitespace).unwrap_or((rest, DEFAULT_TERM));
            let term = term_of(term.trim()).map_err(|error| Failure::new(FailureKind::Usage, error))?;
            Command::Allow { to: PeerName::parse(to).map_err(usage)?, term }
        }
        "/deny" => Command::Deny { to: PeerName::parse(one(word, rest)?).map_err(usage)? },
        "/allowed" => Command::Allowed,
        "/unshare" => Command::Unshare { name: FileName::parse(one(word, rest)?).map_err(usage)? },
        "/get" => {
            let (collision, rest) = collision(rest);
            Command::Get { source: source(one(word, rest)?)?, folder, collision }
        }
        "/accept" => {
            let (collision, rest) = collision(rest);
            Command::Accept { offer: rest.to_owned(), folder, collision }
        }
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
        "/invite" => {
            let name = if rest.is_empty() { None } else { Some(PeerName::parse(rest).map_err(usage)?) };
            Command::Invite { name }
        }
        "/sessions" => Command::Sessions,
        "/end-sessions" => Command::EndOtherSessions,
        "/allow-key" => Command::AnswerKeyRequest { key: rest.to_owned(), allow: true },
        "/deny-key" => Command::AnswerKeyRequest { key: rest.to_owned(), allow: false },
        word if word.starts_with('/') => {
            return Err(
                Failure::new(FailureKind::Usage, format!("there is no command {word}")).hint("/help lists them")
            );
        }
        _ => {
            return Err(Failure::new(FailureKind::Usage, "nobody was named to send this to")
                .hint("/msg NAME TEXT sends a message, /help lists all commands, /quit leaves"));
        }
    })
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
    Ok(Source::Named { owner, name: FileName::parse(name).map_err(usage)? })
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

/// What to do when the file is there already: said before or after the rest.
fn collision(rest: &str) -> (Collision, &str) {
    for (flag, collision) in [("--overwrite", Collision::Overwrite), ("--rename", Collision::Rename)] {
        let before = rest.strip_prefix(flag).filter(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        let after = || rest.strip_suffix(flag).filter(|rest| rest.is_empty() || rest.ends_with(char::is_whitespace));
        if let Some(rest) = before.or_else(after) {
            return (collision, rest.trim());
        }
    }
    (Collision::Refuse, rest)
}

fn local_path(text: &str, folder: &std::path::Path) -> PathBuf {
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

fn usage(error: IdError) -> Failure {
    Failure::new(FailureKind::Usage, error.to_string())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[track_caller]
    fn run(line: &str) -> Command {
        match parse(line, Path::new("/here")) {
            Ok(Line::Run(command)) => command,
            other => panic!("{line:?} became {other:?}"),
        }
    }

    #[test]
    fn the_last_argument_takes_the_rest_of_the_line() {
        let to = PeerName::parse("bob").unwrap();
        assert_eq!(run("/msg bob  hi  there "), Command::Message { to: to.clone(), text: "hi  there".into() });
        assert_eq!(run("/share a b.txt"), Command::Share { path: "/here/a b.txt".into(), hides_address: false });
        assert_eq!(run("/share --hide-address a b"), Command::Share { path: "/here/a b".into(), hides_address: true });
        let name = FileName::parse("my file: 2.txt").unwrap();
        assert!(
            matches!(run("/get bob:my file: 2.txt"), Command::Get { source, .. } if source == Source::Named { owner: to, name })
        );
    }

    #[test]
    fn verifying_takes_a_name_and_perhaps_a_mark() {
        let name = PeerName::parse("bob").unwrap();
        assert_eq!(run("/verify bob"), Command::Verify { name: name.clone(), mark: false });
        assert_eq!(run("/verify bob  --mark"), Command::Verify { name: name.clone(), mark: true });
        assert_eq!(run("/trust bob"), Command::Trust { name });
        for line in ["/verify", "/verify bob carol", "/verify bob mark", "/trust", "/trust a b"] {
            assert!(parse(line, Path::new("/")).is_err(), "{line:?} should be refused");
        }
    }

    #[test]
    fn somebody_is_allowed_once_for_a_time_or_always() {
        let to = PeerName::parse("bob").unwrap();
        let allow = |term| Command::Allow { to: to.clone(), term };
        assert_eq!(run("/allow bob"), allow(Term::For { millis: 3_600_000 }));
        assert_eq!(run("/allow bob  once"), allow(Term::Once));
        assert_eq!(run("/allow bob always"), allow(Term::Always));
        assert_eq!(run("/allow bob 30m"), allow(Term::For { millis: 1_800_000 }));
        assert_eq!(run("/allow bob 2d"), allow(Term::For { millis: 172_800_000 }));
        assert_eq!(run("/deny bob"), Command::Deny { to: to.clone() });
        assert_eq!(run("/connect bob"), Command::Connect { to, wait: false });
        for line in [
            "/allow",
            "/allow bob soon",
            "/allow bob 0h",
            "/allow bob -1h",
            "/allow bob 1h x",
            "/allow bob 366d",
            "/allow bob 99999999999999999999d",
            "/allow bob \u{e4}",
            "/deny",
            "/deny bob once",
            "/connect",
            "/connect bob carol",
            "/allowed bob",
            "/share --hide-address",
        ] {
            assert!(parse(line, Path::new("/")).is_err(), "{line:?} should be refused");
        }
    }

    #[test]
    fn the_history_is_of_somebody_or_of_everybody_and_perhaps_with_words() {
        let bob = PeerName::parse("bob").unwrap();
        let history = |with: Option<&PeerName>, search: Option<&str>| Command::History {
            with: with.cloned(),
            limit: HISTORY_MESSAGES,
            before: None,
            search: search.map(str::to_owned),
        };
        assert_eq!(run("/history bob"), history(Some(&bob), None));
        assert_eq!(run("/history bob  dinner at"), history(Some(&bob), Some("dinner at")));
        assert_eq!(run("/history --search dinner"), history(None, Some("dinner")));
        assert_eq!(run("/history"), history(None, None));
        assert_eq!(run("/audit bob"), Command::Audit { with: bob });
        assert_eq!(parse("/inbox", Path::new("/")).unwrap(), Line::Inbox);
        for line in [
            "/history --search",
            "/history bob --limit 2",
            "/who bob",
            "/inbox x",
            "/history B*b",
            "/audit",
            "/audit bob carol",
        ] {
            assert!(parse(line, Path::new("/")).is_err(), "{line:?} should be refused");
        }
    }

    #[test]
    fn an_unknown_command_is_an_error_and_never_sent_as_text() {
        for line in ["/nonsense", "hello", "/msg", "/msg bob", "/get", "/get bob", "/unshare ../x"] {
            assert!(parse(line, Path::new("/")).is_err(), "{line:?} should be refused");
        }
        assert_eq!(parse("  ", Path::new("/")).unwrap(), Line::Empty);
    }

    #[test]
    fn help_names_every_command_that_is_understood() {
        for word in WORDS {
            let line = format!("{} {}", word.name, if word.arguments.is_empty() { "" } else { "bob x" });
            let unknown =
                matches!(parse(&line, Path::new("/")), Err(failure) if failure.message.contains("no command"));
            assert!(!unknown, "{} is in the help only", word.name);
        }
    }
}
