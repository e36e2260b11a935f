//! Reads JSON as strictly as a stranger's must be read: one object and nothing after it, no key twice, eight levels, whole numbers.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::wire::limits::LEGACY_JSON_DEPTH_MAX;

/// What is no such object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotJson;

/// Reads one object and nothing after it.
///
/// # Errors
/// [`NotJson`] for anything else.
pub fn parse(bytes: &[u8]) -> Result<Map<String, Value>, NotJson> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    match Level(0).deserialize(&mut reader) {
        Ok(Value::Object(object)) if reader.end().is_ok() => Ok(object),
        Ok(_) | Err(_) => Err(NotJson),
    }
}

/// A value at some depth.
#[derive(Debug, Clone, Copy)]
struct Level(u8);

impl Level {
    fn inner<E: de::Error>(self) -> Result<Self, E> {
        if self.0 < LEGACY_JSON_DEPTH_MAX { Ok(Self(self.0 + 1)) } else { Err(E::custom("it is too deep")) }
    }
}

impl<'de> DeserializeSeed<'de> for Level {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a whole number, a list or an object")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(inner)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut values = Map::new();
        while let Some(key) = object.next_key::<String>()? {
            if values.contains_key(&key) {
                return Err(de::Error::custom("it has a key twice"));
            }
            let value = object.next_value_seed(inner)?;
            values.insert(key, value);
        }
        Ok(Value::Object(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_plain_object_is_read_and_nothing_else() {
        let read = parse(br#" {"a": [1, -2, "x\u00fc\ud83d\ude00", null, true, {"b": {}}]} "#).unwrap();
        assert_eq!(Value::Object(read).to_string(), "{\"a\":[1,-2,\"xü😀\",null,true,{\"b\":{}}]}");
        let refused: [&[u8]; 10] = [
            b"",
            b"null",
            b"[{}]",
            b"{} {}",
            b"{\"a\": 1",
            br#"{"a": 1, "a": 1}"#,
            br#"{"a": {"b": 1, "b": 2}}"#,
            br#"{"a": 1.5}"#,
            b"{\"a\": \"\xff\"}",
            br#"{"a": "\ud83d"}"#,
        ];
        for bytes in refused {
            assert_eq!(parse(bytes), Err(NotJson), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn depth_has_an_end() {
        let depth = usize::from(LEGACY_JSON_DEPTH_MAX);
        let deep = |levels: usize| format!("{{\"a\": {}{}}}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse(deep(depth - 1).as_bytes()).is_ok());
        assert_eq!(parse(deep(depth).as_bytes()), Err(NotJson));
        assert_eq!(parse(&b"{\"a\": ".repeat(10_000)), Err(NotJson));
    }
}
