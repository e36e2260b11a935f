//! JSON as Python's `json.dumps` prints it, byte for byte: old programs take replies apart in ways that depend on it.

use std::io;

use serde::Serialize;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter};

/// Separators `, ` and `: `, everything outside ASCII as `\uXXXX`, keys in the order in which they are declared.
#[must_use]
pub fn dumps<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, Python(CompactFormatter));
    // Writing to memory does not fail, and what dialects answer has no keys but texts.
    if value.serialize(&mut serializer).is_err() {
        tracing::error!("an answer that is no JSON");
        bytes.clear();
    }
    bytes
}

struct Python(CompactFormatter);

impl Formatter for Python {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        for character in fragment.chars() {
            if character.is_ascii() {
                let mut byte = [0; 4];
                writer.write_all(character.encode_utf8(&mut byte).as_bytes())?;
            } else {
                let mut units = [0; 2];
                for unit in character.encode_utf16(&mut units) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }

    fn write_char_escape<W: ?Sized + io::Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        self.0.write_char_escape(writer, escape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_python_prints() {
        #[derive(Serialize)]
        struct Reply<'a> {
            service: &'a str,
            list: Vec<(&'a str, u16)>,
            none: Option<u8>,
        }
        let reply = Reply { service: "a\"b\\\n\u{1}ü\u{1f600}\u{7f}", list: vec![("x", 1), ("y", 2)], none: None };
        let printed = String::from_utf8(dumps(&reply)).unwrap();
        let expected = concat!(
            r#"{"service": "a\"b\\\n\u0001\u00fc\ud83d\ude00"#,
            "\u{7f}",
            r#"", "list": [["x", 1], ["y", 2]], "none": null}"#
        );
        assert_eq!(printed, expected);
        assert_eq!(dumps(&Vec::<u8>::new()), b"[]");
    }
}
