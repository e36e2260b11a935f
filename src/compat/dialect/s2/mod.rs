//! The dialect `s2`: programs that tell a server over UDP which text files they have, and fetch them from each other over
//! TCP. Three kinds of them are known that say the same in other words; each has a file that only names its words.
//!
//! | | type | number | one request |
//! |---|---|---|---|
//! | K | `service` | `request_#` | `{"service": "SEARCH-FILE", "request_#": "7H62QRXRYU", "File-name": "a.txt"}` |
//! | A | `TYPE` | `rq` | `{"TYPE": "SEARCH-FILE", "rq": 7, "file_name": "a.txt"}` |
//! | J | `header` | `RQ` | `{"header": "SEARCH-FILE", "RQ": "e7c1...", "name": "bob", "file_name": "a.txt"}` |

pub mod answers;
pub mod frames;
pub mod transfers;

mod a;
mod j;
mod k;
mod object;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use answers::{Denial, Row};
use object::Json;

use crate::compat::strict_json;
use crate::wire::limits::FILE_NAME_BYTES_MAX;

/// The longest datagram that is read. The originals stop at 1,024 or 4,096 bytes; lists of files are longer.
pub const DATAGRAM_BYTES_MAX: usize = 8 * 1024;

/// The longest number of a request: a UUID has 36 characters.
const NUMBER_BYTES_MAX: usize = 256;

/// What only answers say. They are not answered themselves, or two servers would talk for ever.
const ANSWERS: [&str; 13] = [
    "ERROR",
    "REGISTERED",
    "REGISTER-DENIED",
    "PUBLISHED",
    "PUBLISH-DENIED",
    "REMOVED",
    "REMOVE-DENIED",
    "RETRIEVE",
    "RETRIEVE-ERROR",
    "SEARCH-ERROR",
    "UPDATE-CONFIRMED",
    "UPDATE-DENIED",
    "DOWNLOAD-ERROR",
];

/// Bytes that are no message of this dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no message of the dialect s2")]
pub struct Malformed;

/// A kind of program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Variant {
    /// The first of its kind, whose literal bytes are known.
    K,
    /// Keys in lower case, numbers that count.
    A,
    /// UUIDs for numbers, and the asker's name in every request.
    J,
}

impl Variant {
    const ALL: [Self; 3] = [Self::K, Self::A, Self::J];

    /// What its programs take at once. They read an answer with one call, and what is longer comes to them cut off.
    fn answer_bytes_max(self) -> usize {
        match self {
            Self::K => 1_024,
            Self::A | Self::J => 4_096,
        }
    }

    /// The characters of the longest file that its programs take: those of K stop at 1,000 chunks and would keep a file
    /// without its end. The others read until the end comes.
    #[must_use]
    pub fn file_characters_max(self) -> Option<usize> {
        match self {
            Self::K => Some(1_000 * transfers::CHUNK_CHARACTERS),
            Self::A | Self::J => None,
        }
    }

    fn words(self) -> &'static Words {
        match self {
            Self::K => &k::WORDS,
            Self::A => &a::WORDS,
            Self::J => &j::WORDS,
        }
    }

    /// Which kind of program writes its types under a key of this object.
    fn of(object: &Map<String, Value>) -> Result<Self, Malformed> {
        let mut variants = Self::ALL.into_iter().filter(|variant| object.contains_key(variant.words().kind));
        match (variants.next(), variants.next()) {
            (Some(variant), None) => Ok(variant),
            (Some(_), Some(_)) | (None, _) => Err(Malformed),
        }
    }
}

/// The words of one kind of program.
#[derive(Debug)]
struct Words {
    kind: &'static str,
    number: &'static str,
    name: &'static str,
    ip: &'static str,
    udp: &'static str,
    tcp: &'static str,
    /// Who asks, where they say it.
    asker: Option<&'static str>,
    published: &'static str,
    removed: &'static str,
    /// Of whom they want to know.
    wanted: &'static str,
    searched: &'static str,
    /// The list of an answer to RETRIEVE-ALL and to SEARCH-FILE.
    rows: &'static str,
    /// The files in an answer to RETRIEVE-INFOT.
    files: &'static str,
    reason: &'static str,
    file: &'static str,
    chunk: &'static str,
    /// The number of a file's first chunk.
    first_chunk: u64,
    text: &'static str,
    /// Why a download is refused.
    download_reason: &'static str,
    is_finding_nothing_an_error: bool,
    people: fn(&[Row]) -> Json,
    owners: fn(&[Row]) -> Json,
    denial: fn(&Denial) -> String,
}

/// A request as it came in a datagram.
#[derive(Debug, Clone, PartialEq)]
pub struct Datagram {
    /// From which kind of program.
    pub variant: Variant,
    /// The request's number, which its answer repeats: text, a whole number, or none.
    pub number: Value,
    /// What is asked.
    pub request: Request,
}

/// What is asked of the server. Ports are as they were typed.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// To be known under a name.
    Register {
        /// The name.
        name: String,
        /// Its UDP port.
        udp: Value,
        /// Its TCP port.
        tcp: Value,
    },
    /// Not to be known any more.
    DeRegister {
        /// The name.
        name: String,
    },
    /// To add files to a list.
    Publish {
        /// Whose.
        name: String,
        /// Which.
        files: Vec<String>,
    },
    /// To take files off a list.
    Remove {
        /// Whose.
        name: String,
        /// Which.
        files: Vec<String>,
    },
    /// Everybody with their files.
    RetrieveAll {
        /// Who asks, if they say it.
        asker: Option<String>,
    },
    /// One person with their files.
    RetrieveInfo {
        /// Who asks, if they say it.
        asker: Option<String>,
        /// Of whom.
        name: String,
    },
    /// Who has a file.
    SearchFile {
        /// Who asks, if they say it.
        asker: Option<String>,
        /// Its name.
        file: String,
    },
    /// To be reached elsewhere.
    UpdateContact {
        /// Who.
        name: String,
        /// Its UDP port.
        udp: Value,
        /// Its TCP port.
        tcp: Value,
    },
    /// Something that programs of kind J are told is wrong.
    Unknown {
        /// The word for it.
        kind: String,
    },
}

impl Datagram {
    /// Reads a request.
    ///
    /// # Errors
    /// [`Malformed`] for everything that is not answered.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > DATAGRAM_BYTES_MAX {
            return Err(Malformed);
        }
        let fields = Fields::read(bytes)?;
        let request = fields.request()?;
        // What cannot be understood need not have a number either.
        let number = match &request {
            Request::Unknown { .. } => Value::Null,
            _ => fields.number()?,
        };
        Ok(Self { variant: fields.variant, number, request })
    }
}

/// An object of a message, and the words for what is in it.
struct Fields {
    variant: Variant,
    words: &'static Words,
    object: Map<String, Value>,
}

impl Fields {
    fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let object = strict_json::parse(bytes).map_err(|_| Malformed)?;
        let variant = Variant::of(&object)?;
        Ok(Self { variant, words: variant.words(), object })
    }

    fn request(&self) -> Result<Request, Malformed> {
        let words = self.words;
        let kind = self.name(words.kind)?;
        Ok(match kind.as_str() {
            "REGISTER" => {
                let (udp, tcp) = (self.port(words.udp)?, self.port(words.tcp)?);
                Request::Register { name: self.name(words.name)?, udp, tcp }
            }
            "DE-REGISTER" => Request::DeRegister { name: self.name(words.name)? },
            "PUBLISH" => Request::Publish { name: self.name(words.name)?, files: self.files(words.published)? },
            "REMOVE" => Request::Remove { name: self.name(words.name)?, files: self.files(words.removed)? },
            "RETRIEVE-ALL" => Request::RetrieveAll { asker: self.asker() },
            // Its answer has the same name, and two servers would answer each other for ever.
            "RETRIEVE-INFOT" if self.object.contains_key(words.files) => return Err(Malformed),
            "RETRIEVE-INFOT" => Request::RetrieveInfo { asker: self.asker(), name: self.name(words.wanted)? },
            "SEARCH-FILE" => Request::SearchFile { asker: self.asker(), file: self.name(words.searched)? },
            "UPDATE-CONTACT" => {
                let (udp, tcp) = (self.port(words.udp)?, self.port(words.tcp)?);
                Request::UpdateContact { name: self.name(words.name)?, udp, tcp }
            }
            _ if self.variant == Variant::J && !ANSWERS.contains(&kind.as_str()) => Request::Unknown { kind },
            _ => return Err(Malformed),
        })
    }

    fn number(&self) -> Result<Value, Malformed> {
        match self.object.get(self.words.number) {
            Some(Value::String(number)) if number.len() > NUMBER_BYTES_MAX => Err(Malformed),
            Some(number @ (Value::String(_) | Value::Number(_))) => Ok(number.clone()),
            Some(Value::Null) => Ok(Value::Null),
            Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => Err(Malformed),
        }
    }

    fn text(&self, key: &str) -> Result<String, Malformed> {
        self.object.get(key).and_then(Value::as_str).map(str::to_owned).ok_or(Malformed)
    }

    /// A name of somebody or something, or what is asked: answers repeat it, so it has an end.
    fn name(&self, key: &str) -> Result<String, Malformed> {
        self.text(key).and_then(bounded)
    }

    /// A port as it was typed: whether it is one is for the answer to say.
    fn port(&self, key: &str) -> Result<Value, Malformed> {
        match self.object.get(key) {
            Some(port @ (Value::String(_) | Value::Number(_))) => Ok(port.clone()),
            Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => Err(Malformed),
        }
    }

    /// A list of names; one name alone is a list too. Blanks around a name are those of the prompt where it was typed.
    fn files(&self, key: &str) -> Result<Vec<String>, Malformed> {
        let name = |value: &Value| value.as_str().map(|name| name.trim().to_owned()).ok_or(Malformed).and_then(bounded);
        match self.object.get(key) {
            Some(Value::Array(names)) => names.iter().map(name).collect(),
            Some(one @ Value::String(_)) => Ok(vec![name(one)?]),
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => Err(Malformed),
        }
    }

    fn asker(&self) -> Option<String> {
        self.words.asker.and_then(|key| self.name(key).ok())
    }
}

/// A text that is no longer than the name of a file may be.
fn bounded(text: String) -> Result<String, Malformed> {
    if text.len() > FILE_NAME_BYTES_MAX { Err(Malformed) } else { Ok(text) }
}

/// A port that was typed, as a number.
///
/// # Errors
/// A reason to deny what was asked. Ports below 1,024 belong to services, to which nobody is sent.
pub fn port(typed: &Value) -> Result<u16, Denial> {
    let number = match typed {
        Value::String(digits) => digits.trim().parse().ok(),
        Value::Number(number) => number.as_u64().and_then(|number| u16::try_from(number).ok()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    let refused = || Denial::Because("a port is a number from 1024 to 65535".to_owned());
    number.filter(|port| *port >= 1_024).ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(bytes: &str, variant: Variant, number: Value, request: Request) {
        assert_eq!(Datagram::parse(bytes.as_bytes()), Ok(Datagram { variant, number, request }), "{bytes}");
    }

    #[test]
    fn every_request_is_read_in_every_dialect() {
        let (name, files) = (|| "alice".to_owned(), || vec!["demo1.txt".to_owned(), "505char.txt".to_owned()]);
        check(
            r#"{"service": "REGISTER", "request_#": "7H62QRXRYU", "name": "alice", "IP": "127.0.0.1", "UDP_socket": 5061, "TCP_socket": 5071}"#,
            Variant::K,
            json!("7H62QRXRYU"),
            Request::Register { name: name(), udp: json!(5061), tcp: json!(5071) },
        );
        check(
            r#"{"TYPE": "REGISTER", "rq": 0, "name": "alice", "ip_address": "127.0.0.1", "udp_socket": "5061", "tcp_socket": 5071}"#,
            Variant::A,
            json!(0),
            Request::Register { name: name(), udp: json!("5061"), tcp: json!(5071) },
        );
        check(
            r#"{"header": "DE-REGISTER", "RQ": "e7", "name": "alice"}"#,
            Variant::J,
            json!("e7"),
            Request::DeRegister { name: name() },
        );
        check(
            r#"{"service": "PUBLISH", "request_#": "1QE37FT1V9", "name": "alice", "list of files": ["demo1.txt", "505char.txt"]}"#,
            Variant::K,
            json!("1QE37FT1V9"),
            Request::Publish { name: name(), files: files() },
        );
        check(
            r#"{"TYPE": "REMOVE", "rq": 4, "name": "alice", "list_of_files_to_remove": [" demo1.txt", "505char.txt "]}"#,
            Variant::A,
            json!(4),
            Request::Remove { name: name(), files: files() },
        );
        check(
            r#"{"header": "REMOVE", "RQ": null, "name": "alice", "files": "demo1.txt"}"#,
            Variant::J,
            Value::Null,
            Request::Remove { name: name(), files: vec!["demo1.txt".to_owned()] },
        );
        check(
            r#"{"service": "RETRIEVE-ALL", "request_#": 1}"#,
            Variant::K,
            json!(1),
            Request::RetrieveAll { asker: None },
        );
        check(
            r#"{"header": "RETRIEVE-INFOT", "RQ": "e7", "name": "bob", "client_name": "alice"}"#,
            Variant::J,
            json!("e7"),
            Request::RetrieveInfo { asker: Some("bob".to_owned()), name: name() },
        );
        check(
            r#"{"TYPE": "SEARCH-FILE", "rq": 5, "file_name": "é.txt"}"#,
            Variant::A,
            json!(5),
            Request::SearchFile { asker: None, file: "é.txt".to_owned() },
        );
        check(
            r#"{"service": "UPDATE-CONTACT", "request_#": "X", "name": "bob", "IP": "127.0.0.1", "UDP_socket": 5062, "TCP_socket": "5073"}"#,
            Variant::K,
            json!("X"),
            Request::UpdateContact { name: "bob".to_owned(), udp: json!(5062), tcp: json!("5073") },
        );
        check(r#"{"header": "DANCE"}"#, Variant::J, Value::Null, Request::Unknown { kind: "DANCE".to_owned() });
    }

    #[test]
    fn what_is_no_request_is_not_answered() {
        let long = format!(r#"{{"service": "RETRIEVE-ALL", "request_#": "{}"}}"#, "x".repeat(NUMBER_BYTES_MAX + 1));
        let longer = format!(r#"{{"service": "RETRIEVE-ALL", "request_#": "x"}}{}"#, " ".repeat(DATAGRAM_BYTES_MAX));
        let refused = [
            r#"{"service": "DANCE", "request_#": "x"}"#,
            r#"{"TYPE": "DANCE", "rq": 1}"#,
            r#"{"header": "ERROR", "reason": "x"}"#,
            r#"{"header": "REGISTERED", "RQ": "x"}"#,
            r#"{"request_#": "x"}"#,
            r#"{"service": "RETRIEVE-ALL"}"#,
            r#"{"service": "RETRIEVE-ALL", "request_#": ["x"]}"#,
            r#"{"service": "RETRIEVE-ALL", "request_#": "x", "TYPE": "RETRIEVE-ALL", "rq": 1}"#,
            r#"{"service": "REGISTER", "request_#": "x", "name": "a", "UDP_socket": null, "TCP_socket": 5071}"#,
            r#"{"service": "PUBLISH", "request_#": "x", "name": "a", "list of files": [1]}"#,
            r#"{"service": "PUBLISH", "request_#": "x", "name": 1, "list of files": []}"#,
            r#"{"service": 1, "request_#": "x"}"#,
            r#"{"service": "RETRIEVE-INFOT", "request_#": "x", "name": "a", "IP": "127.0.0.1", "list": []}"#,
            &long,
            &longer,
        ];
        for bytes in refused {
            assert_eq!(Datagram::parse(bytes.as_bytes()), Err(Malformed), "{bytes}");
        }
    }

    #[test]
    fn ports_are_numbers_from_1024() {
        for (typed, read) in [(json!(1024), 1_024), (json!("65535"), 65_535), (json!(" 5071"), 5_071)] {
            assert_eq!(port(&typed), Ok(read));
        }
        for typed in [json!(1023), json!(0), json!(-1), json!(65_536), json!("http"), json!(""), Value::Null] {
            assert!(port(&typed).is_err(), "{typed}");
        }
    }
}
