//! The commands a person types inside `qchat peer`: a slash and a word; the last argument takes the rest of the line.

use std::path::PathBuf;

use super::args::HISTORY_MESSAGES;
use super::{old_words, profiles};
use crate::peer::failure::{Failure, FailureKind};
use crate::peer::handle::{Command, Source, Term};
use crate::storage::partial_file::Collision;
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
mod tests {
    use std::path::Path;

    use super::*;

    /// Reads a line that alice typed.
    fn parse(line: &str, folder: &Path, window: Option<&PeerName>) -> Result<Line, Failure> {
        super::parse(line, Place { user: &PeerName::parse("alice").unwrap(), folder, window })
    }

    #[track_caller]
    fn run(line: &str) -> Command {
        match parse(line, Path::new("/here"), None) {
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
    fn presence_is_asked_for_and_set() {
        let who = |recent, pattern: &str| Command::Who { recent, pattern: pattern.to_owned() };
        assert_eq!(run("/who"), who(false, ""));
        assert_eq!(run("/who bo"), who(false, "bo"));
        assert_eq!(run("/who --hour"), who(true, ""));
        assert_eq!(run("/who  --hour  bo"), who(true, "bo"));
        assert_eq!(run("/away"), Command::SetPresence { presence: Presence::Away });
        assert_eq!(run("/busy"), Command::SetPresence { presence: Presence::Busy });
        assert_eq!(run("/back"), Command::SetPresence { presence: Presence::Online });
        assert_eq!(run("/broadcast the door is open"), Command::Broadcast { text: "the door is open".to_owned() });
    }

    #[test]
    fn verifying_takes_a_name_and_perhaps_a_mark() {
        let name = PeerName::parse("bob").unwrap();
        assert_eq!(run("/verify bob"), Command::Verify { name: name.clone(), mark: false });
        assert_eq!(run("/verify bob  --mark"), Command::Verify { name: name.clone(), mark: true });
        assert_eq!(run("/trust bob"), Command::Trust { name });
        for line in ["/verify", "/verify bob carol", "/verify bob mark", "/trust", "/trust a b"] {
            assert!(parse(line, Path::new("/"), None).is_err(), "{line:?} should be refused");
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
            assert!(parse(line, Path::new("/"), None).is_err(), "{line:?} should be refused");
        }
    }

    #[test]
    fn friends_blocks_and_privacy_take_a_name_or_a_word() {
        let name = PeerName::parse("bob").unwrap();
        assert_eq!(run("/friend bob"), Command::Befriend { name: name.clone() });
        assert_eq!(run("/friend bob  later"), Command::PutOff { name: name.clone() });
        assert_eq!(run("/unfriend bob"), Command::Unfriend { name: name.clone() });
        assert_eq!(run("/block bob"), Command::Block { name: name.clone() });
        assert_eq!(run("/unblock bob"), Command::Unblock { name });
        assert_eq!((run("/friends"), run("/blocked")), (Command::Friends, Command::Blocked));
        assert_eq!(run("/privacy"), Command::Privacy);
        assert_eq!(run("/privacy friends"), Command::SetPrivacy { audience: Audience::Friends });
        assert_eq!(run("/privacy everyone"), Command::SetPrivacy { audience: Audience::Everyone });
        for line in [
            "/friend",
            "/friend bob soon",
            "/friend bob later today",
            "/unfriend",
            "/unfriend bob later",
            "/friends bob",
            "/block",
            "/block bob carol",
            "/unblock",
            "/blocked bob",
            "/privacy nobody",
            "/privacy friends everyone",
        ] {
            assert!(parse(line, Path::new("/"), None).is_err(), "{line:?} should be refused");
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
        assert_eq!(parse("/inbox", Path::new("/"), None).unwrap(), Line::Inbox);
        for line in [
            "/history --search",
            "/history bob --limit 2",
            "/who bob carol",
            "/who --day",
            "/away now",
            "/back bob",
            "/broadcast",
            "/broadcast  ",
            "/inbox x",
            "/history B*b",
            "/audit",
            "/audit bob carol",
        ] {
            assert!(parse(line, Path::new("/"), None).is_err(), "{line:?} should be refused");
        }
    }

    #[test]
    fn an_unknown_command_is_an_error_and_never_sent_as_text() {
        for line in ["/nonsense", "hello", "/msg", "/msg bob", "/get", "/get bob", "/unshare ../x"] {
            assert!(parse(line, Path::new("/"), None).is_err(), "{line:?} should be refused");
        }
        assert_eq!(parse("  ", Path::new("/"), None).unwrap(), Line::Empty);
    }

    #[test]
    fn a_plain_line_goes_to_the_open_window_and_two_slashes_are_one() {
        let bob = PeerName::parse("bob").unwrap();
        let text_of = |line| match parse(line, Path::new("/"), Some(&bob)) {
            Ok(Line::Run(Command::Message { to, text })) if to == bob => Some(text),
            _ => None,
        };
        assert_eq!(text_of("  hi  there ").as_deref(), Some("  hi  there"), "what is indented stays so");
        assert_eq!(text_of("//who is it?").as_deref(), Some("/who is it?"));
        assert_eq!(text_of(" //").as_deref(), Some("/"));
        assert_eq!(text_of("a/b // c").as_deref(), Some("a/b // c"));
        assert_eq!(
            parse("/who", Path::new("/"), Some(&bob)).unwrap(),
            Line::Run(Command::Who { recent: false, pattern: String::new() })
        );
        assert!(parse("/nonsense", Path::new("/"), Some(&bob)).is_err(), "never sent as text");
        assert_eq!(parse(" ", Path::new("/"), Some(&bob)).unwrap(), Line::Empty);
    }

    #[test]
    fn words_of_older_systems_count_only_while_no_window_is_open() {
        let bob = PeerName::parse("bob").unwrap();
        let message = |text: &str| Line::Run(Command::Message { to: bob.clone(), text: text.to_owned() });
        assert_eq!(parse("send bob hi", Path::new("/"), None).unwrap(), message("hi"));
        assert_eq!(parse("logout", Path::new("/"), None).unwrap(), Line::Quit);
        for line in ["send bob hi", "logout", "dereg alice", "CLOSE_SESSION", "SEND_FILE<x>", "#HELP", "block bob"] {
            assert_eq!(parse(line, Path::new("/"), Some(&bob)).unwrap(), message(line));
        }
        assert_eq!(parse("/help old", Path::new("/"), Some(&bob)).unwrap(), Line::OldHelp);
        assert!(parse("/help new", Path::new("/"), None).is_err());
        let failure = parse("sent bob hi", Path::new("/"), None).unwrap_err();
        assert_eq!(failure.message, "nobody was named to send this to");
        assert!(failure.hint.unwrap().ends_with("/help old the words of older systems"));
    }

    #[test]
    fn a_window_is_for_one_name_and_perhaps_exclusive() {
        let query = |line| parse(line, Path::new("/"), None);
        let to = PeerName::parse("bob").unwrap();
        assert_eq!(query("/query bob").unwrap(), Line::Query { to: to.clone(), exclusive: false });
        assert_eq!(query("/query  --exclusive  bob ").unwrap(), Line::Query { to, exclusive: true });
        assert_eq!(query("/close").unwrap(), Line::Close);
        for line in ["/query", "/query --exclusive", "/query bob carol", "/query B*b", "/close bob", "//x", "x"] {
            assert!(query(line).is_err(), "{line:?} should be refused");
        }
        assert!(is_query(" /query B*b") && !is_query("/queryx bob") && !is_query("query bob"));
    }

    #[test]
    fn help_names_every_command_that_is_understood() {
        for word in WORDS {
            let line = format!("{} {}", word.name, if word.arguments.is_empty() { "" } else { "bob x" });
            let unknown =
                matches!(parse(&line, Path::new("/"), None), Err(failure) if failure.message.contains("no command"));
            assert!(!unknown, "{} is in the help only", word.name);
        }
    }
}
