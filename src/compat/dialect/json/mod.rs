//! The dialect `json`: the union of the five older vocabularies, one JSON object in each datagram. `examples/json-shim.md`
//! shows every message. This folder only translates.

pub mod answer;
pub mod ask;
pub mod chunks;
mod object;
#[cfg(test)]
mod tests;

use serde_json::Value;

use ask::{Ask, Word};
use object::Object;

use crate::wire::limits::{LEGACY_JSON_BYTES_MAX, LEGACY_JSON_NUMBER_BYTES_MAX};

/// Words for the key of a message's type; the first is canonical.
const TYPE_KEYS: [&str; 4] = ["type", "service", "TYPE", "header"];

/// Words for the key of a request's number; the first is canonical.
const NUMBER_KEYS: [&str; 4] = ["rq", "request_#", "RQ", "RQ#"];

/// What is no message of this dialect: it is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no message of the JSON dialect")]
pub struct Malformed;

/// The words by which a program calls type and number, in which it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    /// For the type.
    pub kind: &'static str,
    /// For the number.
    pub number: &'static str,
}

impl Default for Keys {
    fn default() -> Self {
        Self { kind: TYPE_KEYS[0], number: NUMBER_KEYS[0] }
    }
}

/// The number of a request: a number, or a text of at most 64 bytes without control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Number(Value);

impl Number {
    fn parse(value: Value) -> Result<Self, Malformed> {
        let is_right = match &value {
            Value::Number(_) => true,
            Value::String(text) => text.len() <= LEGACY_JSON_NUMBER_BYTES_MAX && !text.contains(char::is_control),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
        };
        if is_right { Ok(Self(value)) } else { Err(Malformed) }
    }

    /// As JSON.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.0
    }

    /// As a number of ours, if it is one.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        self.0.as_u64()
    }
}

impl From<u64> for Number {
    fn from(number: u64) -> Self {
        Self(number.into())
    }
}

/// A message that somebody sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// In which words.
    pub keys: Keys,
    /// Its number: answers carry it.
    pub number: Option<Number>,
    /// Who says that they speak.
    pub from: Option<String>,
    /// By which they prove it, when their name has a password.
    pub token: Option<String>,
    /// By which they prove that they receive at their address.
    pub cookie: Option<String>,
    /// Everything but the cookie, in one order: two that are equal are one request sent twice.
    pub content: String,
    /// The type of an answer that says no.
    pub denial: &'static str,
    /// What it asks, or why it asks nothing.
    pub ask: Result<Ask, String>,
}

impl Datagram {
    /// Reads a message.
    ///
    /// # Errors
    /// [`Malformed`] when it is not to be answered: no JSON as it must be, no type, or the error of somebody else.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > LEGACY_JSON_BYTES_MAX {
            return Err(Malformed);
        }
        let mut object = Object::parse(bytes)?;
        let printed = object.without("cookie").print();
        let (kind_key, kind) = object.take_one_of(&TYPE_KEYS)?.ok_or(Malformed)?;
        let number = object.take_one_of(&NUMBER_KEYS)?;
        let number_key = number.as_ref().map_or(0, |(key, _)| *key);
        let number = number.map(|(_, value)| Number::parse(value)).transpose()?;
        let kind = kind.as_str().ok_or(Malformed)?.to_ascii_uppercase().replace('_', "-");
        // An error that answers an error would be answered for ever.
        if kind.ends_with("ERROR") || kind.ends_with("DENIED") {
            return Self::of_an_error(&kind, &object.canonical()?, number, printed);
        }
        let keys = Keys { kind: TYPE_KEYS[kind_key], number: NUMBER_KEYS[number_key] };
        let fields = object.canonical()?;
        let word = Word::parse(&kind);
        let text = |key| fields.text(key).map_err(|_| Malformed);
        let from = match (text("from")?, word) {
            (Some(from), _) => Some(from),
            (None, Some(word)) if word.is_by_name() => text("name")?,
            (None, _) => None,
        };
        let (token, cookie) = (text("token")?, text("cookie")?);
        let denial = word.map_or("ERROR", Word::denial);
        let ask = match word {
            Some(word) => Ask::read(word, &fields),
            None => Err("there is no such message".to_owned()),
        };
        Ok(Self { keys, number, from, token, cookie, content: printed, denial, ask })
    }

    /// The one error that is read: by which somebody says that they do not bring a file that they were asked for.
    fn of_an_error(kind: &str, fields: &Object, number: Option<Number>, content: String) -> Result<Self, Malformed> {
        if kind != "DOWNLOAD-ERROR" {
            return Err(Malformed);
        }
        let text = |key| fields.text(key).map_err(|_| Malformed);
        let ask = Ok(Ask::NotBrought { reason: text("reason")?.unwrap_or_default() });
        let (from, token, cookie) = (text("from")?, text("token")?, text("cookie")?);
        Ok(Self { keys: Keys::default(), number, from, token, cookie, content, denial: "ERROR", ask })
    }
}
