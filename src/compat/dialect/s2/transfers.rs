//! How files go from program to program: one asks for a name, the other sends chunks of 200 characters, of which the last
//! says that it is.

use serde_json::Value;

use super::answers::message;
use super::object::Json;
use super::{Fields, Malformed, Variant};
use crate::compat::python_json::dumps;

/// Characters of a chunk, as the assignment of all these programs has it. Not bytes.
pub const CHUNK_CHARACTERS: usize = 200;

/// A message between two programs.
#[derive(Debug, Clone, PartialEq)]
pub struct Transfer {
    /// From which kind of program.
    pub variant: Variant,
    /// The number of the request; null when there is none.
    pub number: Value,
    /// What it says.
    pub content: Content,
}

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Send me this file.
    Download {
        /// Its name.
        file: String,
    },
    /// A part of the file.
    Chunk {
        /// The characters.
        text: String,
        /// Whether it is the last.
        is_last: bool,
    },
    /// There is no file.
    Refused {
        /// Why not.
        reason: String,
    },
    /// Something else.
    Other,
}

impl Transfer {
    /// Reads a message.
    ///
    /// # Errors
    /// [`Malformed`] when it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let fields = Fields::read(bytes)?;
        let words = fields.words;
        let chunk = |is_last| Ok(Content::Chunk { text: fields.text(words.text)?, is_last });
        let content = match fields.text(words.kind)?.as_str() {
            "DOWNLOAD" => Content::Download { file: fields.text(words.file)? },
            "FILE" => chunk(false)?,
            "FILE-END" => chunk(true)?,
            "DOWNLOAD-ERROR" => Content::Refused { reason: fields.text(words.download_reason).unwrap_or_default() },
            _ => Content::Other,
        };
        Ok(Self { variant: fields.variant, number: fields.number().unwrap_or_default(), content })
    }
}

/// Asks for a file.
#[must_use]
pub fn download(variant: Variant, number: &Value, file: &str) -> Vec<u8> {
    let words = variant.words();
    dumps(&message(words, number, "DOWNLOAD", vec![(words.file, Json::plain(file))]))
}

/// A file's chunks, one message each. An empty file has one, which is empty.
pub fn chunks<'a>(
    variant: Variant,
    number: &'a Value,
    file: &'a str,
    text: &'a str,
) -> impl Iterator<Item = (Vec<u8>, bool)> + 'a {
    let words = variant.words();
    let (mut rest, mut numbers) = (Some(text), words.first_chunk..);
    std::iter::from_fn(move || {
        let (text, after) = split(rest?);
        let is_last = after.is_empty();
        rest = (!is_last).then_some(after);
        let fields = vec![
            (words.file, Json::plain(file)),
            (words.chunk, Json::plain(numbers.next()?)),
            (words.text, Json::plain(text)),
        ];
        let kind = if is_last { "FILE-END" } else { "FILE" };
        Some((dumps(&message(words, number, kind, fields)), is_last))
    })
}

/// Says why there is no file.
#[must_use]
pub fn download_error(variant: Variant, number: &Value, reason: &str) -> Vec<u8> {
    let words = variant.words();
    dumps(&message(words, number, "DOWNLOAD-ERROR", vec![(words.download_reason, Json::plain(reason))]))
}

fn split(text: &str) -> (&str, &str) {
    let end = text.char_indices().nth(CHUNK_CHARACTERS).map_or(text.len(), |(at, _)| at);
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn printed(variant: Variant, text: &str) -> Vec<String> {
        let number = json!(1);
        chunks(variant, &number, "a.txt", text).map(|(bytes, _)| String::from_utf8(bytes).unwrap()).collect()
    }

    #[test]
    fn a_download_is_what_was_captured() {
        let bytes = br#"{"service": "DOWNLOAD", "request_#": 1, "filename": "505char.txt"}"#;
        assert_eq!((bytes.len(), download(Variant::K, &json!(1), "505char.txt")), (0x42, bytes.to_vec()));
        let file = "505char.txt".to_owned();
        let read = Transfer { variant: Variant::K, number: json!(1), content: Content::Download { file } };
        assert_eq!(Transfer::parse(bytes), Ok(read));
        let error = download_error(Variant::K, &json!(1), "Requested file does not exist");
        let says = r#"{"service": "DOWNLOAD-ERROR", "request_#": 1, "Reason": "Requested file does not exist"}"#;
        assert_eq!(String::from_utf8(error).unwrap(), says);
    }

    #[test]
    fn chunks_are_characters_and_the_last_says_so() {
        assert_eq!(
            printed(Variant::K, ""),
            [r#"{"service": "FILE-END", "request_#": 1, "filename": "a.txt", "chunk_#": 0, "Text": ""}"#]
        );
        assert_eq!(
            printed(Variant::A, "x\n\"é"),
            [r#"{"TYPE": "FILE-END", "rq": 1, "file_name": "a.txt", "chunk": 0, "text": "x\n\"\u00e9"}"#]
        );
        let long = "é".repeat(2 * CHUNK_CHARACTERS);
        let part = "\\u00e9".repeat(CHUNK_CHARACTERS);
        let chunk = |kind, number| {
            format!(
                r#"{{"header": "{kind}", "RQ": 1, "file_name": "a.txt", "chunk_number": {number}, "text": "{part}"}}"#
            )
        };
        assert_eq!(printed(Variant::J, &long), [chunk("FILE", 1), chunk("FILE-END", 2)]);
        assert_eq!(printed(Variant::K, &"x".repeat(505)).len(), 3);
    }

    #[test]
    fn a_file_comes_back_from_its_chunks() {
        for variant in Variant::ALL {
            for text in ["", "x", &"ü😀\"\\\n".repeat(333)] {
                let number = json!("1");
                let parts = chunks(variant, &number, "a.txt", text).map(|(bytes, is_last)| {
                    let read = Transfer::parse(&bytes).unwrap();
                    assert_eq!((read.variant, &read.number), (variant, &number));
                    match read.content {
                        Content::Chunk { text, is_last: says } if says == is_last => text,
                        other => panic!("{other:?}"),
                    }
                });
                assert_eq!(parts.collect::<String>(), text);
            }
        }
    }

    #[test]
    fn other_messages_are_told_apart() {
        let content = |bytes: &str| Transfer::parse(bytes.as_bytes()).map(|transfer| transfer.content);
        assert_eq!(content(r#"{"service": "REGISTER"}"#), Ok(Content::Other));
        let refused = Content::Refused { reason: "File does not exist.".to_owned() };
        assert_eq!(content(r#"{"TYPE": "DOWNLOAD-ERROR", "rq": 1, "reason": "File does not exist."}"#), Ok(refused));
        assert_eq!(content(r#"{"service": "FILE", "request_#": 1}"#), Err(Malformed), "a chunk without text");
        assert_eq!(content(r#"{"service": "DOWNLOAD", "request_#": 1}"#), Err(Malformed));
        assert_eq!(content("x"), Err(Malformed));
    }
}
