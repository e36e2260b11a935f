//! One JSON object, whose keys are found under any of the words that the older programs have for them.

use serde_json::{Map, Value};

use super::Malformed;
use crate::compat::strict_json;

/// Canonical names of fields, each followed by other words for it, as [`plain`] writes them.
const SYNONYMS: &[(&str, &[&str])] = &[
    ("name", &["user", "username", "clientname"]),
    ("from", &["sender", "ownname"]),
    ("to", &["target", "recipient", "peer"]),
    ("filename", &["file"]),
    ("files", &["listoffiles", "listoffilestoremove"]),
    ("text", &["message", "content"]),
    ("chunk", &["chunknumber"]),
    ("ip", &["ipaddress", "host"]),
    ("udp", &["udpsocket", "udpport"]),
    ("tcp", &["tcpsocket", "tcpport"]),
];

/// An object, its keys by their canonical names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object(Map<String, Value>);

impl Object {
    /// Reads an object and nothing after it but white space.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        strict_json::parse(bytes).map(Self).map_err(|_| Malformed)
    }

    /// Takes the one key of a choice out that is there, with its place in the choice.
    pub(super) fn take_one_of(&mut self, keys: &[&str]) -> Result<Option<(usize, Value)>, Malformed> {
        let mut found = None;
        for (place, key) in keys.iter().enumerate() {
            if let Some(value) = self.0.remove(*key)
                && found.replace((place, value)).is_some()
            {
                return Err(Malformed);
            }
        }
        Ok(found)
    }

    /// Gives every key its canonical name; two that mean the same are malformed.
    pub(super) fn canonical(self) -> Result<Self, Malformed> {
        let mut fields = Map::new();
        for (key, value) in self.0 {
            if fields.insert(canonical(&plain(&key)), value).is_some() {
                return Err(Malformed);
            }
        }
        Ok(Self(fields))
    }

    /// The same without a key.
    pub(super) fn without(&self, key: &str) -> Self {
        let mut fields = self.0.clone();
        fields.retain(|known, _| plain(known) != key);
        Self(fields)
    }

    /// As text, with its keys in alphabetical order.
    pub(super) fn print(&self) -> String {
        Value::Object(self.0.clone()).to_string()
    }

    /// Whether there is such a field.
    pub(super) fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// A text that may be missing.
    pub(super) fn text(&self, key: &str) -> Result<Option<String>, String> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                Err(format!("the field {key} is no text"))
            }
        }
    }

    /// A text that must be there.
    pub(super) fn needed(&self, key: &str) -> Result<String, String> {
        self.text(key)?.ok_or_else(|| format!("the field {key} is missing"))
    }

    /// A number that may be missing.
    pub(super) fn number(&self, key: &str) -> Result<Option<u32>, String> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
                number.map(Some).ok_or_else(|| format!("the field {key} is no number from 0 to {}", u32::MAX))
            }
        }
    }

    /// Yes or no, as `true`, `false`, 1 or 0.
    pub(super) fn choice(&self, key: &str, otherwise: bool) -> Result<bool, String> {
        match self.0.get(key) {
            None => Ok(otherwise),
            Some(Value::Bool(choice)) => Ok(*choice),
            Some(value) => match value.as_u64() {
                Some(0) => Ok(false),
                Some(1) => Ok(true),
                Some(_) | None => Err(format!("the field {key} is neither true nor false")),
            },
        }
    }

    /// A list of texts that must be there; one text alone is a list too.
    pub(super) fn texts(&self, key: &str) -> Result<Vec<String>, String> {
        let wrong = || format!("the field {key} is no list of texts");
        match self.0.get(key) {
            None => Err(format!("the field {key} is missing")),
            Some(Value::String(text)) => Ok(vec![text.clone()]),
            Some(Value::Array(list)) => {
                list.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
            }
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => Err(wrong()),
        }
    }
}

/// A key without what the older programs write differently: `File-name`, `file_name` and `filename` are one.
fn plain(key: &str) -> String {
    key.chars().filter(|c| !matches!(c, '_' | '-' | ' ' | '#')).map(|c| c.to_ascii_lowercase()).collect()
}

fn canonical(plain: &str) -> String {
    let canonical = SYNONYMS.iter().find(|(_, words)| words.contains(&plain)).map_or(plain, |(canonical, _)| canonical);
    canonical.to_owned()
}
