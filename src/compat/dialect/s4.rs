//! S4, the message center: what its programs ask in a frame, and the exact words they are answered and pushed. A frame is
//! four bytes of length, most significant first, and so many bytes of UTF-8.

use std::net::SocketAddr;

use crate::wire::limits::LEGACY_FRAME_BYTES_MAX;

/// The first frame of a connection that logs in.
const LOGIN: &str = "LIN";

/// A login that worked; the token follows in a frame of its own.
pub const LOGIN_OKAY: &str = "LOGIN_OKAY";

/// The other person is asked for their address.
pub const ASKED: &str = "OKAY";

/// The other person cannot be asked.
pub const NOT_ASKED: &str = "FAIL";

/// The session was taken over.
pub const LOGGED_ELSEWHERE: &str = "Logged on different location!";

/// A message waits.
pub const RECIPIENT_OFFLINE: &str = "The recipient is offline. Messages will be delivered when they log on again.";

/// The recipient does not accept messages from the sender. The old words name a block; qchat says nobody who is blocked that
/// they are. So whoever shows themselves to friends only is answered with the same words, and from them nobody can tell.
pub const NOT_ACCEPTED: &str = "Your message could not be delivered as the recipient has blocked you.";

/// A broadcast did not reach everyone.
pub const NOT_EVERYONE: &str = "Your message could not be delivered to some recipients.";

/// Bytes of texts in one push: old programs take a frame of any length, but nothing larger than what we take ourselves.
const PUSHED_BYTES_MAX: usize = LEGACY_FRAME_BYTES_MAX - 1024;

/// A frame or payload that no program of this family sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The frame is larger than any that makes sense.
    #[error("the frame has {0} bytes, more than {LEGACY_FRAME_BYTES_MAX}")]
    TooLong(u32),
    /// It is no text.
    #[error("it is not UTF-8")]
    NotText,
    /// It is no message of the vocabulary.
    #[error("it is no message of s4")]
    Unknown,
}

/// The number of bytes that follow a frame's head.
///
/// # Errors
/// [`Malformed::TooLong`] when they are too many.
pub fn payload_bytes(head: [u8; 4]) -> Result<usize, Malformed> {
    let bytes = u32::from_be_bytes(head);
    match usize::try_from(bytes) {
        Ok(length) if length <= LEGACY_FRAME_BYTES_MAX => Ok(length),
        Ok(_) | Err(_) => Err(Malformed::TooLong(bytes)),
    }
}

/// The frame of a payload, which is one of this file's and so no longer than a frame may be.
#[must_use]
pub fn frame(payload: &str) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend_from_slice(payload.as_bytes());
    frame
}

/// The first frame of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// A login: frames with name and password follow until they fit, then host and port.
    Login,
    /// The one request of this connection.
    Request(Request),
}

/// What somebody asks who is logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Who, as they say.
    pub name: String,
    /// What shows it.
    pub token: String,
    /// What.
    pub wish: Wish,
}

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// `MSG`: a message to somebody.
    Message {
        /// To whom.
        to: String,
        /// What.
        text: String,
    },
    /// `BRD`: a message to everyone who is here.
    Broadcast {
        /// What.
        text: String,
    },
    /// `ONL`: who is here.
    Online,
    /// `BLC|1`: nothing of somebody's any more.
    Block {
        /// Whose.
        name: String,
    },
    /// `BLC|0`: again.
    Unblock {
        /// Whose.
        name: String,
    },
    /// `OUT`: the end of the session.
    Leave,
    /// `GET`: somebody's address, if they allow it.
    Address {
        /// Whose.
        of: String,
    },
    /// `ALL`: somebody may have ours.
    Allow {
        /// Who.
        to: String,
    },
    /// `HEY`: nothing, but we are still here.
    Hey,
}

impl Opening {
    /// Reads the first frame of a connection.
    ///
    /// # Errors
    /// [`Malformed`] when it is neither a login nor a request.
    pub fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        let text = text(payload)?;
        if text == LOGIN { Ok(Self::Login) } else { Request::read(text).map(Self::Request) }
    }
}

impl Request {
    /// Texts come last, so that a `|` in them is a part of them.
    fn read(text: &str) -> Result<Self, Malformed> {
        let mut parts = text.splitn(4, '|');
        let mut part = || parts.next().ok_or(Malformed::Unknown);
        let (verb, name, token) = (part()?, part()?, part()?);
        let wish = Wish::read(verb, parts.next().unwrap_or_default())?;
        Ok(Self { name: name.to_owned(), token: token.to_owned(), wish })
    }
}

impl Wish {
    fn read(verb: &str, rest: &str) -> Result<Self, Malformed> {
        let owned = rest.to_owned();
        Ok(match verb {
            "MSG" => {
                let (to, text) = rest.split_once('|').ok_or(Malformed::Unknown)?;
                Self::Message { to: to.to_owned(), text: text.to_owned() }
            }
            "BRD" => Self::Broadcast { text: owned },
            "ONL" => Self::Online,
            "BLC" => match rest.split_once('|') {
                Some(("1", name)) => Self::Block { name: name.to_owned() },
                Some(("0", name)) => Self::Unblock { name: name.to_owned() },
                Some(_) | None => return Err(Malformed::Unknown),
            },
            "OUT" => Self::Leave,
            "GET" => Self::Address { of: owned },
            "ALL" => Self::Allow { to: owned },
            "HEY" => Self::Hey,
            _ => return Err(Malformed::Unknown),
        })
    }
}

/// What one program says to another directly: `<alice>: psst`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Private {
    /// Who says it.
    pub from: String,
    /// What.
    pub text: String,
}

impl Private {
    /// Reads it.
    ///
    /// # Errors
    /// [`Malformed`] when it is something else.
    pub fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        let rest = text(payload)?.strip_prefix('<').ok_or(Malformed::Unknown)?;
        let (from, text) = rest.split_once(">: ").ok_or(Malformed::Unknown)?;
        Ok(Self { from: from.to_owned(), text: text.to_owned() })
    }
}

/// A frame that is one word of a login: a name, a password, a host, a port.
///
/// # Errors
/// [`Malformed::NotText`].
pub fn text(payload: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(payload).map_err(|_| Malformed::NotText)
}

/// A wrong name or password.
#[must_use]
pub fn login_failed(tries_left: u32) -> String {
    format!("LOGIN_FAILED|{tries_left}")
}

/// One wrong password too many.
#[must_use]
pub fn now_locked(seconds: u64) -> String {
    format!("JUST_PENNED|{seconds}")
}

/// No password is looked at now.
#[must_use]
pub fn locked(seconds: u64) -> String {
    format!("PENNED|{seconds}")
}

/// A message or a broadcast.
#[must_use]
pub fn message(from: &str, text: &str) -> String {
    format!("[{from}]: {}", of_one_voice(text))
}

/// Who is here, with a blank after each.
#[must_use]
pub fn online<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut answer = "[CURRENTLY ONLINE]: ".to_owned();
    for name in names.take_while(|name| name.len() <= PUSHED_BYTES_MAX) {
        if answer.len() + name.len() >= PUSHED_BYTES_MAX {
            break;
        }
        answer.push_str(name);
        answer.push(' ');
    }
    answer
}

/// Somebody is kept out.
#[must_use]
pub fn blocked(name: &str) -> String {
    format!("You have blocked {name}")
}

/// Somebody is kept out no longer.
#[must_use]
pub fn unblocked(name: &str) -> String {
    format!("You have unblocked {name}")
}

/// Somebody came.
#[must_use]
pub fn logged_on(name: &str) -> String {
    format!("{name} has logged on.")
}

/// Somebody went.
#[must_use]
pub fn offline(name: &str) -> String {
    format!("{name} is offline.")
}

/// Somebody who asked for an address is not here any more.
#[must_use]
pub fn gone_offline(name: &str) -> String {
    format!("{name} has gone offline. Please allow access when they are online again.")
}

/// Somebody asks for an address.
#[must_use]
pub fn wants_address(name: &str) -> String {
    format!("Request: {name} wants your address. [allow {name}] to accept.")
}

/// Somebody's address.
#[must_use]
pub fn address(name: &str, at: SocketAddr) -> String {
    format!("ADR|{name}|{}|{}", at.ip(), at.port())
}

/// What came while somebody was away, each message on a line of its own: as many of them as fit into one push, and how
/// many these are. At least one: no message is longer than a push.
#[must_use]
pub fn while_away(messages: &[String]) -> (String, usize) {
    let mut push = "While you were away...".to_owned();
    let mut taken = 0;
    for message in messages {
        if taken > 0 && push.len() + message.len() >= PUSHED_BYTES_MAX {
            break;
        }
        push.push('\n');
        push.push_str(message);
        taken += 1;
    }
    (push, taken)
}

/// A sentence that the older systems have no words for.
#[must_use]
pub fn notice(sentence: &str) -> String {
    of_one_voice(sentence)
}

/// Old programs print what they get: so nothing in a text can begin a line that looks like somebody else's, and nothing in
/// it speaks to a terminal.
fn of_one_voice(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => shown.push_str("\n  "),
            '\t' => shown.push('\t'),
            control if control.is_control() => shown.push(char::REPLACEMENT_CHARACTER),
            other => shown.push(other),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(payload: &str) -> Result<Wish, Malformed> {
        match Opening::parse(payload.as_bytes())? {
            Opening::Request(Request { name, token, wish }) => {
                assert_eq!((name.as_str(), token.as_str()), ("alice", "0123456789"));
                Ok(wish)
            }
            Opening::Login => panic!("{payload} is no login"),
        }
    }

    #[track_caller]
    fn check(payload: &str, expected: &Wish) {
        assert_eq!(wish(payload).as_ref(), Ok(expected));
    }

    #[test]
    fn requests_are_read_as_they_were_captured() {
        let message = |text: &str| Wish::Message { to: "bob".to_owned(), text: text.to_owned() };
        assert_eq!(Opening::parse(b"LIN"), Ok(Opening::Login));
        check("MSG|alice|0123456789|bob|hi there", &message("hi there"));
        check("MSG|alice|0123456789|bob|a|b||c", &message("a|b||c"));
        check("MSG|alice|0123456789|bob|", &message(""));
        check("MSG|alice|0123456789|bob|grüße 你好", &message("grüße 你好"));
        check("BRD|alice|0123456789|yo|yo", &Wish::Broadcast { text: "yo|yo".to_owned() });
        check("ONL|alice|0123456789|", &Wish::Online);
        check("BLC|alice|0123456789|1|bob", &Wish::Block { name: "bob".to_owned() });
        check("BLC|alice|0123456789|0|bob", &Wish::Unblock { name: "bob".to_owned() });
        check("OUT|alice|0123456789|", &Wish::Leave);
        check("GET|alice|0123456789|bob", &Wish::Address { of: "bob".to_owned() });
        check("ALL|alice|0123456789|bob", &Wish::Allow { to: "bob".to_owned() });
        check("HEY|alice|0123456789|", &Wish::Hey);
        check("HEY|alice|0123456789", &Wish::Hey);
    }

    #[test]
    fn everything_else_is_malformed() {
        for payload in
            ["", "LIN|", "lin", "MSG", "MSG|alice", "MSG|alice|t|bob", "BLC|alice|t|2|bob", "BLC|alice|t|1", "XYZ|a|t|"]
        {
            assert_eq!(Opening::parse(payload.as_bytes()), Err(Malformed::Unknown), "{payload}");
        }
        assert_eq!(Opening::parse(b"MSG|alice|t|bob|\xff"), Err(Malformed::NotText));
    }

    #[test]
    fn private_words_name_their_sender() {
        let private = |from: &str, text: &str| Ok(Private { from: from.to_owned(), text: text.to_owned() });
        assert_eq!(Private::parse(b"<alice>: psst"), private("alice", "psst"));
        assert_eq!(Private::parse(b"<alice>: a>: <b>: c"), private("alice", "a>: <b>: c"));
        assert_eq!(Private::parse(b"<alice>: "), private("alice", ""));
        for payload in ["", "[bob]: hi", "<alice> psst", "alice>: psst"] {
            assert_eq!(Private::parse(payload.as_bytes()), Err(Malformed::Unknown), "{payload}");
        }
    }

    #[test]
    fn frames_have_their_length_first() {
        assert_eq!(frame("LIN"), [0, 0, 0, 3, 0x4c, 0x49, 0x4e]);
        assert_eq!(frame("ü"), [0, 0, 0, 2, 0xc3, 0xbc]);
        assert_eq!(payload_bytes([0, 1, 0, 0]), Ok(65_536));
        assert_eq!(payload_bytes([0, 1, 0, 1]), Err(Malformed::TooLong(65_537)));
        assert_eq!(payload_bytes([255; 4]), Err(Malformed::TooLong(u32::MAX)));
    }

    #[test]
    fn lists_and_mail_fit_a_frame() {
        assert_eq!(online(["seas", "columbia"].into_iter()), "[CURRENTLY ONLINE]: seas columbia ");
        let many: Vec<String> = (0..10_000).map(|number| format!("somebody{number}")).collect();
        let list = online(many.iter().map(String::as_str));
        assert!(list.len() <= LEGACY_FRAME_BYTES_MAX && list.ends_with(' '));
        let mail = vec![message("bob", &"x".repeat(15 * 1_024)); 9];
        let (push, taken) = while_away(&mail);
        assert_eq!((push.lines().count(), taken), (5, 4));
        assert!(push.len() <= LEGACY_FRAME_BYTES_MAX);
        assert_eq!(while_away(&mail[..1]).1, 1);
        let short = ["bob", "carol"].map(|name| message(name, "hi"));
        assert_eq!(while_away(&short), ("While you were away...\n[bob]: hi\n[carol]: hi".to_owned(), 2));
    }

    #[test]
    fn nobody_speaks_with_another_voice() {
        assert_eq!(message("bob", "hi\n[alice]: pay him"), "[bob]: hi\n  [alice]: pay him");
        assert_eq!(message("bob", "\u{1b}[2Jgone\ttab"), "[bob]: \u{fffd}[2Jgone\ttab");
    }
}
