//! Cuts texts into pieces of 200 characters, or fewer when they would not fit a datagram as JSON.

use crate::wire::limits::LEGACY_CHUNK_CHARS;

/// The pieces of a text that JSON prints in at most so many bytes each; an empty text is one empty piece.
#[must_use]
pub fn cut(text: &str, bytes_max: usize) -> Vec<String> {
    let mut pieces = Vec::with_capacity(text.len() / LEGACY_CHUNK_CHARS + 1);
    let (mut piece, mut characters, mut bytes) = (String::new(), 0, 0);
    for character in text.chars() {
        let more = printed_bytes(character);
        if characters == LEGACY_CHUNK_CHARS || (bytes + more > bytes_max && characters > 0) {
            pieces.push(std::mem::take(&mut piece));
            (characters, bytes) = (0, 0);
        }
        piece.push(character);
        (characters, bytes) = (characters + 1, bytes + more);
    }
    pieces.push(piece);
    pieces
}

/// How long `python_json` prints a character.
fn printed_bytes(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        _ if character.is_ascii() => 1,
        _ => 6 * character.len_utf16(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compat::python_json::dumps;

    #[test]
    fn pieces_have_200_characters_and_are_the_text_again() {
        let text: String = ("a\"\\\n\u{1}ü\u{1f600}€\u{7f}").chars().cycle().take(1_001).collect();
        let pieces = cut(&text, 10_000);
        assert_eq!(pieces.concat(), text);
        let lengths: Vec<usize> = pieces.iter().map(|piece| piece.chars().count()).collect();
        assert_eq!(lengths, [200, 200, 200, 200, 200, 1]);
        assert_eq!(cut("", 100), [""]);
        assert_eq!(cut(&"x".repeat(200), 1_000).len(), 1, "no empty piece at the end");
    }

    #[test]
    fn what_grows_as_json_is_cut_shorter() {
        let text: String = ("\u{1f600}\u{1}").chars().cycle().take(500).collect();
        let pieces = cut(&text, 900);
        assert_eq!(pieces.concat(), text);
        assert!(pieces.iter().all(|piece| dumps(piece).len() <= 902 && !piece.is_empty()), "{pieces:?}");
    }
}
