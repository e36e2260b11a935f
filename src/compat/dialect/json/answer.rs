//! What is said in the JSON dialect: answers, and messages that nobody asked for. Each fits one datagram and ends with a
//! line feed, so that a person reads them one below the other.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

use super::chunks::cut;
use super::{Keys, Number};
use crate::compat::python_json::dumps;
use crate::wire::limits::LEGACY_JSON_SENT_BYTES_MAX;

/// A reason as JSON, so that it fits beside everything else.
const REASON_BYTES_MAX: usize = 600;

/// A message of ours, without its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    kind: &'static str,
    fields: Vec<(&'static str, Value)>,
}

impl Answer {
    /// A message of a type, without fields.
    #[must_use]
    pub fn new(kind: &'static str) -> Self {
        Self { kind, fields: Vec::new() }
    }

    /// A no, and why: at most 200 characters of it.
    #[must_use]
    pub fn denial(kind: &'static str, reason: &str) -> Self {
        Self::new(kind).with("reason", cut(reason, REASON_BYTES_MAX).into_iter().next())
    }

    /// With one more field.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.fields.push((key, value.into()));
        self
    }

    /// With as many rows as fit, beginning after so many; `more` and `after` say how to ask for the rest.
    #[must_use]
    pub fn with_page(self, key: &'static str, rows: &[Value], after: u32, keys: Keys, number: Option<&Number>) -> Self {
        let after = usize::try_from(after).unwrap_or(usize::MAX).min(rows.len());
        let page = |rows: &[Value], is_more: bool, next: usize| {
            let listed = self.clone().with(key, rows.to_vec());
            if is_more { listed.with("more", true).with("after", next) } else { listed }
        };
        let rest = rows.get(after..).unwrap_or_default();
        let mut bytes = page(&[], true, rows.len()).print(keys, number).len();
        let fitting = rest.iter().take_while(|row| {
            bytes += dumps(*row).len() + ", ".len();
            bytes <= LEGACY_JSON_SENT_BYTES_MAX
        });
        // A row that fits nowhere is passed over, so that whoever asks on comes to the end.
        let count = fitting.count();
        let next = after + if count == 0 { rest.len().min(1) } else { count };
        page(rest.get(..count).unwrap_or_default(), next < rows.len(), next)
    }

    /// As a datagram, in the words of whoever asked.
    #[must_use]
    pub fn print(&self, keys: Keys, number: Option<&Number>) -> Vec<u8> {
        let mut bytes = dumps(&Said { answer: self, keys, number });
        bytes.push(b'\n');
        bytes
    }
}

/// How many bytes of a text fit a message beside everything else in it.
#[must_use]
pub fn room_for_text(message: &Answer, keys: Keys, number: Option<&Number>) -> usize {
    // A chunk's number has ten digits at most, and the text its quotes, key and separators.
    let rest = message.print(keys, number).len() + ", \"text\": \"\", \"chunk\": 4294967295".len();
    LEGACY_JSON_SENT_BYTES_MAX.saturating_sub(rest)
}

struct Said<'a> {
    answer: &'a Answer,
    keys: Keys,
    number: Option<&'a Number>,
}

impl Serialize for Said<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(self.keys.kind, self.answer.kind)?;
        if let Some(number) = self.number {
            map.serialize_entry(self.keys.number, number.value())?;
        }
        for (key, value) in &self.answer.fields {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}
