//! Words with a slash, as people type them.

use std::path::Path;

use super::*;
use crate::storage::partial_file::Collision;
use crate::storage::receive_tree::Executable;

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
    assert_eq!(
        run("/share a b.txt"),
        Command::Share { path: "/here/a b.txt".into(), hides_address: false, filter: Default::default() }
    );
    assert_eq!(
        run("/share --hide-address a b"),
        Command::Share { path: "/here/a b".into(), hides_address: true, filter: Default::default() }
    );
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
fn a_limit_is_asked_for_set_and_ended() {
    assert_eq!(run("/limit"), Command::Limit);
    assert_eq!(run("/limit 1.5M"), Command::SetLimit { bytes_per_second: Some(1_500_000) });
    assert_eq!(run("/limit off"), Command::SetLimit { bytes_per_second: None });
    for line in ["/limit fast", "/limit 1", "/limit 5M 6M", "/limit 5MB"] {
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

#[test]
fn words_take_the_flags_of_their_verbs_before_and_after_the_rest() {
    let get = |line: &str| match run(line) {
        Command::Get { source: Source::Named { name, .. }, folder, collision, executable, once: false } => {
            (name.as_str().to_owned(), folder.display().to_string(), collision, executable)
        }
        other => panic!("{line:?} became {other:?}"),
    };
    let plain = |folder: &str| ("a b".to_owned(), folder.to_owned(), Collision::Refuse, Executable::Never);
    assert_eq!(get("/get bob:a b"), plain("/here"));
    for line in ["/get --out in bob:a b", "/get bob:a b --out in", "/get --out=in bob:a b", "/get bob:a b  --out ./in"]
    {
        assert_eq!(get(line), plain("/here/in"), "{line}");
    }
    assert_eq!(get("/get --out \"in there\" bob:a b"), plain("/here/in there"));
    assert_eq!(get("/get bob:a b --out '/in there'"), plain("/in there"));
    let all = ("a b".to_owned(), "/here/in".to_owned(), Collision::Rename, Executable::Kept);
    assert_eq!(get("/get --rename bob:a b --executable --out in"), all);
    assert_eq!(get("/get bob:a --b").0, "a --b", "no flag of the verb's");
    for (line, says) in [
        ("/get --overwrite --rename bob:a", "'--overwrite' cannot be used with '--rename'"),
        ("/get --frobnicate bob:a", "/get does not know --frobnicate"),
        ("/get --out", "--out"),
        ("/get --rename", "/get needs [--out DIR]"),
    ] {
        let failure = parse(line, Path::new("/here"), None).unwrap_err();
        assert!(failure.message.contains(says) && !failure.message.contains('\n'), "{line}: {failure}");
    }
}

#[test]
fn shares_and_offers_leave_out_what_their_flags_say() {
    let filter = |exclude: &[&str], gitignore| {
        let exclude = exclude.iter().map(|glob| (*glob).to_owned()).collect();
        crate::storage::walk::Filter { exclude, gitignore }
    };
    let share = |path: &str, hides_address, filter| Command::Share { path: path.into(), hides_address, filter };
    let both = filter(&["*.o", "/a b"], true);
    assert_eq!(run("/share --exclude *.o --gitignore --exclude '/a b' my code"), share("/here/my code", false, both));
    assert_eq!(run("/share --hide-address --exclude=*.o x"), share("/here/x", true, filter(&["*.o"], false)));
    assert_eq!(run("/share -- --odd"), share("/here/--odd", false, filter(&[], false)));
    let (to, paths) = (PeerName::parse("bob").unwrap(), vec!["/here/my code".into()]);
    let send = Command::Send { to, paths, wait: false, filter: filter(&[], true) };
    assert_eq!(run("/send --gitignore bob my code"), send);
}

#[test]
fn offers_are_accepted_in_advance_as_with_the_verb() {
    let name = || PeerName::parse("bob").unwrap();
    let welcome = Command::Welcome { name: name(), bytes_max: 100_000_000, folder: "/here/in".into() };
    assert_eq!(run("/accept --always bob --max 100M --out in"), welcome);
    assert_eq!(run("/accept always bob 100M in"), welcome);
    assert_eq!(run("/accept --always"), Command::Welcomes);
    assert_eq!(run("/accept --never bob"), Command::Unwelcome { name: name() });
    for line in ["/accept --always bob", "/accept always bob"] {
        let failure = parse(line, Path::new("/here"), None).unwrap_err();
        assert!(failure.message.contains("nothing of bob is taken without asking until you say"), "{failure}");
    }
    assert!(parse("/accept --never bob 12", Path::new("/here"), None).is_err());
}
