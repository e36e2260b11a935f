//! The words of the older systems' programs, typed without a slash while no conversation is open, so that whoever knows
//! them by heart need learn no others. Once one is open, a plain line is a text for somebody and none of these.

use super::words::{Line, usage};
use crate::peer::failure::{Failure, FailureKind};
use crate::peer::handle::{Command, Term};
use crate::wire::ids::PeerName;

/// A word with its arguments, what it does here, and in which system people typed it.
struct OldWord {
    system: &'static str,
    name: &'static str,
    arguments: &'static str,
    meaning: Meaning,
    purpose: &'static str,
}

/// What a word is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Message,
    Broadcast,
    Who,
    Connect,
    Allow,
    Block,
    Unblock,
    Register,
    Deregister,
    Leave,
    Talk,
    SendFile,
    Close,
    Help,
}

const fn word(
    system: &'static str,
    name: &'static str,
    arguments: &'static str,
    meaning: Meaning,
    purpose: &'static str,
) -> OldWord {
    OldWord { system, name, arguments, meaning, purpose }
}

const CHAT_SERVICE: &str = "Peer to Peer Chat Service";
const UDP_CHAT: &str = "UdpChat";
const MESSAGE_CENTER: &str = "Message Center";

/// All of them, in the order of `/help old`.
const OLD_WORDS: &[OldWord] = &[
    word(CHAT_SERVICE, "GET_CLIENT_LIST", "", Meaning::Who, "who is online, as /who"),
    word(
        CHAT_SERVICE,
        "GET_CLIENT_INFO",
        "<NAME>",
        Meaning::Talk,
        "a session with somebody, as /query --exclusive: what you type goes to them until /close",
    ),
    word(CHAT_SERVICE, "SEND_FILE", "<PATH>", Meaning::SendFile, "says how to send a file: /send NAME PATH"),
    word(CHAT_SERVICE, "CLOSE_SESSION", "", Meaning::Close, "end a session that is still there, as /close"),
    word(CHAT_SERVICE, "DISCONNECT_CLIENT", "", Meaning::Leave, "leave, as /quit"),
    word(CHAT_SERVICE, "#HELP", "", Meaning::Help, "all commands, as /help"),
    word(UDP_CHAT, "send", "NAME TEXT", Meaning::Message, "send a message, as /msg; a file goes by /send"),
    word(UDP_CHAT, "send_all", "TEXT", Meaning::Broadcast, "say something to everyone who is online, as /broadcast"),
    word(UDP_CHAT, "reg", "NAME", Meaning::Register, "nothing: you are registered while this peer runs"),
    word(UDP_CHAT, "dereg", "NAME", Meaning::Deregister, "leave, as /quit; the NAME is your own"),
    word(MESSAGE_CENTER, "message", "NAME TEXT", Meaning::Message, "send a message, as /msg"),
    word(
        MESSAGE_CENTER,
        "private",
        "NAME TEXT",
        Meaning::Message,
        "the same: a message always goes the best way, directly where you may",
    ),
    word(
        MESSAGE_CENTER,
        "broadcast",
        "TEXT",
        Meaning::Broadcast,
        "say something to everyone who is online, as /broadcast",
    ),
    word(MESSAGE_CENTER, "online", "", Meaning::Who, "who is online, as /who"),
    word(MESSAGE_CENTER, "getaddress", "NAME", Meaning::Connect, "ask for a direct connection, as /connect"),
    word(MESSAGE_CENTER, "allow", "NAME", Meaning::Allow, "accept one such request, as /allow NAME once"),
    word(MESSAGE_CENTER, "block", "NAME", Meaning::Block, "nothing of theirs comes to you, as /block"),
    word(MESSAGE_CENTER, "unblock", "NAME", Meaning::Unblock, "let them in again, as /unblock"),
    word(MESSAGE_CENTER, "logout", "", Meaning::Leave, "leave, as /quit"),
];

/// The text of `/help old`.
pub(super) fn help() -> String {
    let mut rows = vec!["words of older systems, typed without a slash while no conversation is open".to_owned()];
    let mut system = "";
    for old in OLD_WORDS {
        if old.system != system {
            system = old.system;
            rows.push(format!("{system}:"));
        }
        rows.push(format!("  {:<40} {}", old.form(), old.purpose));
    }
    rows.join("\n")
}

/// Reads a line that begins with one of these words; `None` when it does not. `user` is who types it.
pub(super) fn parse(line: &str, user: &PeerName) -> Option<Result<Line, Failure>> {
    let line = line.trim();
    let end = line.find(|c: char| c.is_whitespace() || c == '<').unwrap_or(line.len());
    let (word, rest) = line.split_at(end);
    let old = OLD_WORDS.iter().find(|old| old.name == word)?;
    Some(old.parse(rest.trim(), user))
}

/// Whether the name of somebody comes next, for completion.
pub(super) fn takes_a_person(word: &str) -> bool {
    OLD_WORDS.iter().any(|old| old.name == word && old.arguments.starts_with("NAME"))
}

impl OldWord {
    fn parse(&self, rest: &str, user: &PeerName) -> Result<Line, Failure> {
        if rest.is_empty() != self.arguments.is_empty() {
            return Err(self.misused(rest));
        }
        let command = match self.meaning {
            Meaning::Message => {
                let (to, text) = rest.split_once(char::is_whitespace).ok_or_else(|| self.misused(rest))?;
                Command::Message { to: PeerName::parse(to).map_err(usage)?, text: text.trim_start().to_owned() }
            }
            Meaning::Broadcast => Command::Broadcast { text: rest.to_owned() },
            Meaning::Who => Command::Who { recent: false, pattern: String::new() },
            Meaning::Connect => Command::Connect { to: PeerName::parse(rest).map_err(usage)?, wait: false },
            // There an address was told for each request that was allowed, and for no other.
            Meaning::Allow => Command::Allow { to: PeerName::parse(rest).map_err(usage)?, term: Term::Once },
            Meaning::Block => Command::Block { name: PeerName::parse(rest).map_err(usage)? },
            Meaning::Unblock => Command::Unblock { name: PeerName::parse(rest).map_err(usage)? },
            Meaning::Register => return registered(rest, user),
            Meaning::Deregister => return deregistered(rest, user),
            Meaning::Leave => return Ok(Line::Quit),
            // A session there was with one person at a time.
            Meaning::Talk => {
                return Ok(Line::Query { to: PeerName::parse(unbracketed(rest)).map_err(usage)?, exclusive: true });
            }
            Meaning::SendFile => return Err(sent_to_nobody(unbracketed(rest))),
            Meaning::Close => return Ok(Line::Close),
            Meaning::Help => return Ok(Line::Help),
        };
        Ok(Line::Run(command))
    }

    /// The word as it is typed: what stands in brackets there follows `SEND_FILE` without a space.
    fn form(&self) -> String {
        let space = if self.arguments.is_empty() || self.meaning == Meaning::SendFile { "" } else { " " };
        format!("{}{space}{}", self.name, self.arguments)
    }

    fn misused(&self, rest: &str) -> Failure {
        let message = if self.arguments.is_empty() {
            format!("{} takes nothing more, not {rest:?}", self.name)
        } else {
            format!("{} needs {}", self.name, self.arguments)
        };
        Failure::new(FailureKind::Usage, message).hint("/help old lists the words of older systems")
    }
}

fn registered(name: &str, user: &PeerName) -> Result<Line, Failure> {
    if PeerName::parse(name).map_err(usage)? == *user {
        Ok(Line::Tell(format!("* you are registered as {user} for as long as this peer runs")))
    } else {
        Err(Failure::new(FailureKind::Usage, "you cannot register other users!")
            .hint(format!("`qchat peer --user {name}` in another terminal registers somebody else")))
    }
}

fn deregistered(name: &str, user: &PeerName) -> Result<Line, Failure> {
    if PeerName::parse(name).map_err(usage)? == *user {
        Ok(Line::Quit)
    } else {
        Err(Failure::new(FailureKind::Usage, "you cannot deregister other users!")
            .hint(format!("`dereg {user}` or /quit leaves")))
    }
}

/// Files were sent within a session, in which a line is a text here.
fn sent_to_nobody(path: &str) -> Failure {
    Failure::new(FailureKind::Usage, "nobody was named to send this file to")
        .hint(format!("`/send NAME {path}` offers it; `/query NAME` opens a conversation"))
}

/// What is in angle brackets, which many leave out.
fn unbracketed(text: &str) -> &str {
    text.strip_prefix('<').and_then(|text| text.strip_suffix('>')).unwrap_or(text).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> PeerName {
        PeerName::parse(text).unwrap()
    }

    fn line(text: &str) -> Line {
        match parse(text, &name("alice")) {
            Some(Ok(line)) => line,
            other => panic!("{text:?} became {other:?}"),
        }
    }

    #[track_caller]
    fn check(text: &str, command: Command) {
        assert_eq!(line(text), Line::Run(command));
    }

    #[track_caller]
    fn check_wrong(text: &str, says: &str) {
        match parse(text, &name("alice")) {
            Some(Err(failure)) if failure.message.contains(says) => {}
            other => panic!("{text:?} became {other:?}, not {says:?}"),
        }
    }

    #[test]
    fn messages_go_to_somebody_or_to_everybody() {
        let message = |text: &str| Command::Message { to: name("bob"), text: text.to_owned() };
        check("send bob hi", message("hi"));
        check("  send  bob   hi  there ", message("hi  there"));
        check("message bob a|b <c>", message("a|b <c>"));
        check("private bob psst", message("psst"));
        for text in ["send_all yo all", "broadcast yo all"] {
            check(text, Command::Broadcast { text: "yo all".to_owned() });
        }
        for (text, says) in [
            ("send", "send needs NAME TEXT"),
            ("send bob", "send needs NAME TEXT"),
            ("message bob ", "message needs NAME TEXT"),
            ("private", "private needs NAME TEXT"),
            ("send B*b hi", "B*b"),
            ("broadcast", "broadcast needs TEXT"),
            ("send_all  ", "send_all needs TEXT"),
        ] {
            check_wrong(text, says);
        }
    }

    #[test]
    fn people_are_listed_asked_let_in_and_kept_out() {
        for text in ["online", "GET_CLIENT_LIST"] {
            check(text, Command::Who { recent: false, pattern: String::new() });
        }
        check("getaddress bob", Command::Connect { to: name("bob"), wait: false });
        check("allow bob", Command::Allow { to: name("bob"), term: Term::Once });
        check("block bob", Command::Block { name: name("bob") });
        check("unblock bob", Command::Unblock { name: name("bob") });
        check_wrong("online bob", "online takes nothing more, not \"bob\"");
        check_wrong("GET_CLIENT_LIST x", "takes nothing more");
        for word in ["getaddress", "allow", "block", "unblock"] {
            check_wrong(word, &format!("{word} needs NAME"));
            check_wrong(&format!("{word} bob carol"), "bob carol");
        }
    }

    #[test]
    fn one_leaves_under_ones_own_name() {
        for text in ["dereg alice", "dereg ALICE", "logout", "DISCONNECT_CLIENT"] {
            assert_eq!(line(text), Line::Quit, "{text}");
        }
        assert!(matches!(line("reg alice"), Line::Tell(said) if said.contains("registered as alice")));
        check_wrong("dereg bob", "you cannot deregister other users!");
        check_wrong("reg bob", "you cannot register other users!");
        check_wrong("dereg", "dereg needs NAME");
        check_wrong("reg", "reg needs NAME");
        check_wrong("logout alice", "takes nothing more");
        check_wrong("DISCONNECT_CLIENT <alice>", "takes nothing more");
    }

    #[test]
    fn a_session_is_an_exclusive_conversation() {
        for text in ["GET_CLIENT_INFO <bob>", "GET_CLIENT_INFO<bob>", "GET_CLIENT_INFO bob", "GET_CLIENT_INFO < bob >"]
        {
            assert_eq!(line(text), Line::Query { to: name("bob"), exclusive: true }, "{text}");
        }
        assert_eq!(line("CLOSE_SESSION"), Line::Close);
        assert_eq!(line("#HELP"), Line::Help);
        check_wrong("GET_CLIENT_INFO", "GET_CLIENT_INFO needs <NAME>");
        check_wrong("GET_CLIENT_INFO <>", "");
        check_wrong("CLOSE_SESSION bob", "takes nothing more");
        check_wrong("SEND_FILE", "SEND_FILE needs <PATH>");
        let Some(Err(failure)) = parse("SEND_FILE<my notes.txt>", &name("alice")) else { panic!("it was sent") };
        assert_eq!(failure.message, "nobody was named to send this file to");
        assert!(failure.hint.unwrap().contains("/send NAME my notes.txt"));
    }

    #[test]
    fn another_line_is_none_of_them() {
        for text in
            ["", "hello", "sender bob hi", "SEND bob hi", "/send bob hi", "on line", "allowed", "#help", "<bob>"]
        {
            assert!(parse(text, &name("alice")).is_none(), "{text:?}");
        }
    }

    #[test]
    fn the_help_names_each_word_as_it_is_typed_and_whose_it_was() {
        let help = help();
        for said in [
            "Peer to Peer Chat Service:",
            "UdpChat:",
            "Message Center:",
            "  SEND_FILE<PATH> ",
            "  GET_CLIENT_INFO <NAME> ",
            "  send NAME TEXT ",
            "always goes the best way",
        ] {
            assert!(help.contains(said), "{said:?} is missing in {help}");
        }
        assert_eq!(help.lines().count(), 1 + 3 + OLD_WORDS.len());
        assert!(help.lines().all(|row| !row.ends_with(' ')));
    }

    #[test]
    fn names_are_completed_where_one_comes_next() {
        for (word, takes) in [("send", true), ("allow", true), ("broadcast", false), ("online", false), ("x", false)] {
            assert_eq!(takes_a_person(word), takes, "{word}");
        }
    }
}
