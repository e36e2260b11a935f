//! JSON as it goes: it keeps the order of its keys, because old programs take replies apart in ways that depend on it.

use serde::ser::{SerializeMap as _, SerializeSeq as _};
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::compat::python_json::dumps;

/// A value on its way out.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    /// Something without keys.
    Plain(Value),
    /// Several.
    List(Vec<Self>),
    /// With its keys in this order.
    Object(Vec<(&'static str, Self)>),
}

impl Json {
    /// Something without keys.
    pub(super) fn plain(value: impl Into<Value>) -> Self {
        Self::Plain(value.into())
    }

    /// The value as the text that Python would print.
    pub(super) fn printed(&self) -> String {
        String::from_utf8(dumps(self)).unwrap_or_default()
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Plain(value) => value.serialize(serializer),
            Self::List(values) => {
                let mut list = serializer.serialize_seq(Some(values.len()))?;
                for value in values {
                    list.serialize_element(value)?;
                }
                list.end()
            }
            Self::Object(values) => {
                let mut object = serializer.serialize_map(Some(values.len()))?;
                for (key, value) in values {
                    object.serialize_entry(key, value)?;
                }
                object.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_order() {
        let list = Json::List(vec![Json::plain("ü"), Json::plain(Value::Null)]);
        let value = Json::Object(vec![("z", Json::plain(1)), ("a", list)]);
        assert_eq!(value.printed(), r#"{"z": 1, "a": ["\u00fc", null]}"#);
    }
}
