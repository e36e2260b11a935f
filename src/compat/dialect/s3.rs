//! The dialect `s3`: lines of text in datagrams, and a table of everybody as JSON. Translates, and decides nothing.
//!
//! ```text
//! to the server      register: a · reg a · dereg a · send <sender> <receiver> <uuid> <text> · send_all <sender> <uuid> <text>
//! to anybody         send <sender> <uuid> <text> · ACK <uuid>
//! from the server    {"a": {"ip": "127.0.0.1", "port": 20002, "online": true}} · ACK <what> · offlineACK <uuid> · rereg <text>
//!                    and to `register` alone: error: <why>
//! ```
//! A client stops listening when anything else comes. So what the originals print on a line of its own, and have no
//! datagram for, goes as `rereg <text>`, which a client prints as it is.

use std::fmt;

use data_encoding::HEXLOWER;
use serde::{Serialize, Serializer};

use crate::compat::python_json;
use crate::wire::ids::UnixMillis;
use crate::wire::limits::{S3_DATAGRAM_BYTES_MAX, S3_TAKEN_BYTES_MAX};

/// The answer to a name that somebody has.
pub const TAKEN: &[u8] = b"error: this username has already registered, choose another one!";

/// The answer to `dereg`.
pub const LEFT: &[u8] = b"ACK dereg";

const MAIL_OPENS: &str = "rereg You Have Messages:\n";

/// What stands beside the text in a line of mail: `>>> `, a name, `: `, a time, a space and the end of the line.
const MAIL_FRAME_BYTES: usize = 4 + 32 + 2 + 24 + 1 + 1;

/// `(99/99) `: more parts than the longest message has.
const PART_NUMBER_BYTES: usize = 8;

/// The last millisecond of the year 9999: a clock that is further ahead is not printed as it is.
const LAST_MILLIS: u64 = 253_402_300_799_999;

/// A datagram that means nothing in this dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no message of this dialect")]
pub struct Malformed;

/// The number of a message: a UUID, written as its sender writes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Uuid(String);

impl Uuid {
    /// Takes 36 characters: hexadecimal digits of either case in groups of 8, 4, 4, 4 and 12.
    ///
    /// # Errors
    /// [`Malformed`] when it is anything else.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let is_right = |(at, byte): (usize, u8)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        };
        if text.len() == 36 && text.bytes().enumerate().all(is_right) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Malformed)
        }
    }

    /// A UUID of version 4 from random bytes.
    #[must_use]
    pub fn random(mut bytes: [u8; 16]) -> Self {
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let hex = HEXLOWER.encode(&bytes);
        Self(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a client says. Names are as they came: perhaps no names at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Wants a name.
    Register {
        /// Which.
        name: String,
    },
    /// Leaves for now.
    Leave {
        /// Who.
        name: String,
    },
    /// Is back.
    Return {
        /// Who.
        name: String,
    },
    /// A message for whoever stands behind the port that it came to.
    Chat {
        /// From whom.
        sender: String,
        /// Its number.
        id: Uuid,
        /// What it says.
        text: String,
    },
    /// A message to keep for somebody who has not acknowledged it.
    Save {
        /// From whom.
        sender: String,
        /// For whom.
        receiver: String,
        /// Its number.
        id: Uuid,
        /// What it says.
        text: String,
    },
    /// A message for everybody.
    ToAll {
        /// From whom.
        sender: String,
        /// Its number.
        id: Uuid,
        /// What it says.
        text: String,
    },
    /// A message has come.
    Ack {
        /// Which.
        id: Uuid,
    },
}

impl Request {
    /// Takes a datagram apart. Two words or three behind `send` are told from each other by where the UUID stands, which
    /// no name can look like: it is longer than a name may be.
    ///
    /// # Errors
    /// [`Malformed`] when it means nothing.
    pub fn parse(datagram: &[u8]) -> Result<Self, Malformed> {
        if datagram.len() > S3_DATAGRAM_BYTES_MAX {
            return Err(Malformed);
        }
        let text = std::str::from_utf8(datagram).map_err(|_| Malformed)?;
        if let Some(name) = text.strip_prefix("register:") {
            return Ok(Self::Register { name: name.trim().to_owned() });
        }
        let (word, rest) = text.split_once(' ').ok_or(Malformed)?;
        match word {
            "dereg" => Ok(Self::Leave { name: rest.trim().to_owned() }),
            "reg" => Ok(Self::Return { name: rest.trim().to_owned() }),
            "ACK" => Ok(Self::Ack { id: Uuid::parse(rest.trim())? }),
            "send_all" => {
                let (sender, rest) = rest.split_once(' ').ok_or(Malformed)?;
                let (id, text) = numbered(rest)?;
                Ok(Self::ToAll { sender: sender.to_owned(), id, text })
            }
            "send" => Self::parse_send(rest),
            _ => Err(Malformed),
        }
    }

    fn parse_send(rest: &str) -> Result<Self, Malformed> {
        let (sender, rest) = rest.split_once(' ').ok_or(Malformed)?;
        let sender = sender.to_owned();
        if let Ok((id, text)) = numbered(rest) {
            return Ok(Self::Chat { sender, id, text });
        }
        let (receiver, rest) = rest.split_once(' ').ok_or(Malformed)?;
        let (id, text) = numbered(rest)?;
        Ok(Self::Save { sender, receiver: receiver.to_owned(), id, text })
    }
}

/// `<uuid> <text>`, where the text may be empty and may contain anything.
fn numbered(rest: &str) -> Result<(Uuid, String), Malformed> {
    let (id, text) = rest.split_once(' ').ok_or(Malformed)?;
    Ok((Uuid::parse(id)?, text.to_owned()))
}

/// Where somebody is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// An IP address.
    pub ip: String,
    /// A UDP port.
    pub port: u16,
    /// Whether messages can go there now; otherwise they go to the server.
    pub online: bool,
}

/// What a client knows of everybody; never longer than a client takes.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<(String, Place)>,
    bytes: usize,
}

impl Table {
    /// Adds somebody. Says `false`, and leaves them out, when that would make it too long.
    pub fn add(&mut self, name: String, place: Place) -> bool {
        // A comma and a space for each but the last, and two braces.
        let row = python_json::dumps(&Rows(&[(name.clone(), place.clone())])).len();
        if self.bytes + row > S3_TAKEN_BYTES_MAX {
            return false;
        }
        self.bytes += row;
        self.rows.push((name, place));
        true
    }

    /// The datagram: sorted by name, so that the same people always make the same bytes.
    #[must_use]
    pub fn datagram(mut self) -> Vec<u8> {
        self.rows.sort_by(|(one, _), (other, _)| one.cmp(other));
        python_json::dumps(&Rows(&self.rows))
    }
}

struct Rows<'a>(&'a [(String, Place)]);

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, place)| (name, place)))
    }
}

/// The answer to a name that cannot be had for another reason.
#[must_use]
pub fn error(why: &str) -> Vec<u8> {
    fitting("error: ", &clean(why), "")
}

/// "It has come": of a message that was sent here.
#[must_use]
pub fn ack(id: &Uuid) -> Vec<u8> {
    format!("ACK {id}").into_bytes()
}

/// "It is kept": of a message for somebody else.
#[must_use]
pub fn saved(id: &Uuid) -> Vec<u8> {
    format!("offlineACK {id}").into_bytes()
}

/// A line that a client prints as it is.
#[must_use]
pub fn notice(text: &str) -> Vec<u8> {
    fitting("rereg \n>>> [", &clean(text), "]")
}

/// What is said to everybody, as its receivers print it.
#[must_use]
pub fn channel_message(sender: &str, text: &str) -> String {
    format!("[Channel_Message {sender}: {text}]")
}

/// A message.
#[must_use]
pub fn chat(sender: &str, id: &Uuid, text: &str) -> Vec<u8> {
    format!("send {sender} {id} {text}").into_bytes()
}

/// The texts of the messages that somebody's message is made of: one, or numbered ones when a client could not take it.
#[must_use]
pub fn chat_texts(sender: &str, text: &str) -> Vec<String> {
    let frame = "send ".len() + sender.len() + 1 + 36 + 1;
    parts(text, S3_TAKEN_BYTES_MAX - frame)
}

/// A message that waited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// From whom.
    pub sender: String,
    /// When it was written.
    pub sent_at: UnixMillis,
    /// What it says.
    pub text: String,
}

/// A datagram of mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailDatagram {
    /// What is sent.
    pub bytes: Vec<u8>,
    /// How many letters are all there once it has come.
    pub letters_ended: usize,
}

/// What waited for somebody, in as few datagrams as a client takes.
#[must_use]
pub fn mail(letters: &[Letter]) -> Vec<MailDatagram> {
    let mut datagrams: Vec<MailDatagram> = Vec::new();
    for Letter { sender, sent_at, text } in letters {
        let texts = parts(text, S3_TAKEN_BYTES_MAX - MAIL_OPENS.len() - MAIL_FRAME_BYTES);
        for text in &texts {
            let line = format!(">>> {sender}: {} {text}\n", ctime(*sent_at));
            match datagrams.last_mut().filter(|last| last.bytes.len() + line.len() <= S3_TAKEN_BYTES_MAX) {
                Some(last) => last.bytes.extend_from_slice(line.as_bytes()),
                None => datagrams
                    .push(MailDatagram { bytes: [MAIL_OPENS.as_bytes(), line.as_bytes()].concat(), letters_ended: 0 }),
            }
        }
        if let Some(last) = datagrams.last_mut() {
            last.letters_ended += 1;
        }
    }
    datagrams
}

/// A time as C's `ctime` prints it, in UTC and without the end of the line.
#[must_use]
pub fn ctime(time: UnixMillis) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = time.0.min(LAST_MILLIS) / 1_000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let named = |names: &[&'static str], at: u64| usize::try_from(at).ok().and_then(|at| names.get(at).copied());
    let weekday = named(&DAYS, days % 7).unwrap_or_default();
    let month = named(&MONTHS, month - 1).unwrap_or_default();
    format!("{weekday} {month} {day:2} {:02}:{:02}:{:02} {year}", second / 3_600, second / 60 % 60, second % 60)
}

/// Year, month and day of a day since 1970-01-01. Counts in eras of 400 years that begin with a March, so that the day
/// that some years do not have is the last one of a year (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months_since_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * months_since_march + 2) / 5 + 1;
    let month = if months_since_march < 10 { months_since_march + 3 } else { months_since_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// Without what would move a terminal's cursor or forge a line of its own: clients print what comes.
fn clean(text: &str) -> String {
    text.chars().map(|character| if character.is_control() && character != '\t' { ' ' } else { character }).collect()
}

/// A sentence with what stands around it, cut when a client could not take it.
fn fitting(before: &str, text: &str, after: &str) -> Vec<u8> {
    let room = S3_TAKEN_BYTES_MAX - before.len() - after.len();
    [before, &text[..text.floor_char_boundary(room)], after].concat().into_bytes()
}

/// A text in pieces of at most so many bytes, numbered when there are several: `(1/3) `. Nothing is lost between them.
fn parts(text: &str, room: usize) -> Vec<String> {
    let text = clean(text);
    if text.len() <= room {
        return vec![text];
    }
    let mut pieces = Vec::new();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(room - PART_NUMBER_BYTES));
        pieces.push(piece);
        rest = after;
    }
    let all = pieces.len();
    pieces.iter().enumerate().map(|(before, piece)| format!("({}/{all}) {piece}", before + 1)).collect()
}

#[cfg(test)]
#[path = "s3_tests.rs"]
mod tests;
