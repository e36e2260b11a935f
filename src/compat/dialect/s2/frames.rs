//! What comes over TCP, cut into messages: TCP joins and splits what was sent as it likes. Programs of kind K put a length
//! before each message; the others send bare objects one after the other, and A answers each with the word `ACK`.

use super::{Malformed, Variant};
use crate::wire::limits::LEGACY_FRAME_BYTES_MAX;

/// What A says when it has got a chunk.
pub const ACKNOWLEDGEMENT: &[u8] = b"ACK";

/// The bytes of K's length.
const LENGTH_BYTES: usize = 4;

/// How messages are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// A length of four bytes, the highest first.
    Length,
    /// None: an object ends where its braces do.
    Bare,
}

/// A piece of what came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// The bytes of one message.
    Message(Vec<u8>),
    /// `ACK`.
    Acknowledgement,
}

/// What came and was not taken yet; the first byte tells how the other side tells messages apart.
#[derive(Debug, Default)]
pub struct Inflow {
    bytes: Vec<u8>,
    framing: Option<Framing>,
    /// How far an object was looked through for its end.
    scanned: Scan,
}

#[derive(Debug, Clone, Copy, Default)]
struct Scan {
    at: usize,
    depth: usize,
    is_in_text: bool,
    is_escaped: bool,
}

impl Inflow {
    /// Takes what came.
    ///
    /// # Errors
    /// [`Malformed`] when more came than one message may have: whoever calls takes pieces out in between.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        if self.bytes.len() + bytes.len() > 2 * LEGACY_FRAME_BYTES_MAX {
            return Err(Malformed);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Whether the other side puts a length before each message; known from its first byte on.
    #[must_use]
    pub fn has_lengths(&self) -> bool {
        self.framing == Some(Framing::Length)
    }

    /// Takes the next piece out; `None` until it is complete.
    ///
    /// # Errors
    /// [`Malformed`] for what can never become a message.
    pub fn piece(&mut self) -> Result<Option<Piece>, Malformed> {
        let framing = match (self.framing, self.bytes.first()) {
            (Some(framing), _) => framing,
            (None, None) => return Ok(None),
            // No message is so long that its length would begin otherwise.
            (None, Some(0)) => *self.framing.insert(Framing::Length),
            (None, Some(_)) => *self.framing.insert(Framing::Bare),
        };
        match framing {
            Framing::Length => self.framed(),
            Framing::Bare => self.bare(),
        }
    }

    fn framed(&mut self) -> Result<Option<Piece>, Malformed> {
        let Some(length) = self.bytes.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if length > LEGACY_FRAME_BYTES_MAX {
            return Err(Malformed);
        }
        if self.bytes.len() < LENGTH_BYTES + length {
            return Ok(None);
        }
        let message = self.bytes[LENGTH_BYTES..LENGTH_BYTES + length].to_vec();
        self.bytes.drain(..LENGTH_BYTES + length);
        Ok(Some(Piece::Message(message)))
    }

    fn bare(&mut self) -> Result<Option<Piece>, Malformed> {
        if self.scanned.at == 0 {
            let blanks = self.bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            self.bytes.drain(..blanks);
        }
        match self.bytes.first() {
            None => Ok(None),
            Some(b'{') => self.object(),
            Some(_) if self.bytes.starts_with(ACKNOWLEDGEMENT) => {
                self.bytes.drain(..ACKNOWLEDGEMENT.len());
                Ok(Some(Piece::Acknowledgement))
            }
            Some(_) if ACKNOWLEDGEMENT.starts_with(&self.bytes) => Ok(None),
            Some(_) => Err(Malformed),
        }
    }

    fn object(&mut self) -> Result<Option<Piece>, Malformed> {
        for byte in self.bytes.iter().skip(self.scanned.at) {
            self.scanned.at += 1;
            self.scanned.step(*byte);
            if self.scanned.depth == 0 {
                let message = self.bytes.drain(..self.scanned.at).collect();
                self.scanned = Scan::default();
                return Ok(Some(Piece::Message(message)));
            }
        }
        if self.scanned.at > LEGACY_FRAME_BYTES_MAX { Err(Malformed) } else { Ok(None) }
    }
}

impl Scan {
    /// Looks at one byte: braces count outside of texts only.
    fn step(&mut self, byte: u8) {
        match byte {
            _ if self.is_escaped => self.is_escaped = false,
            b'\\' if self.is_in_text => self.is_escaped = true,
            b'"' => self.is_in_text = !self.is_in_text,
            b'{' | b'[' if !self.is_in_text => self.depth += 1,
            b'}' | b']' if !self.is_in_text => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

/// A message as it goes over TCP to programs of a kind.
#[must_use]
pub fn framed(variant: Variant, message: Vec<u8>) -> Vec<u8> {
    match variant {
        Variant::K => {
            let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
            let mut frame = length.to_be_bytes().to_vec();
            frame.extend(message);
            frame
        }
        Variant::A | Variant::J => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All pieces of what came in parts of some length.
    fn pieces(bytes: &[u8], part_bytes: usize) -> Result<Vec<String>, Malformed> {
        let (mut inflow, mut all) = (Inflow::default(), Vec::new());
        for part in bytes.chunks(part_bytes) {
            inflow.push(part)?;
            while let Some(piece) = inflow.piece()? {
                all.push(match piece {
                    Piece::Message(bytes) => String::from_utf8(bytes).unwrap(),
                    Piece::Acknowledgement => "ACK".to_owned(),
                });
            }
        }
        Ok(all)
    }

    #[test]
    fn messages_are_the_same_however_tcp_cuts_them() {
        let (one, two) = (r#"{"a": "} \" {\\", "b": [{}]}"#, r#"{"é": "}"}"#);
        let lengths: Vec<u8> =
            [one, two, ""].iter().flat_map(|text| framed(Variant::K, text.as_bytes().to_vec())).collect();
        let bare = format!("{one}{two} \n{one}");
        let acknowledged = format!("{one}ACKACK {two}ACK");
        for part_bytes in 1..=lengths.len() {
            assert_eq!(pieces(&lengths, part_bytes).unwrap(), [one, two, ""]);
            assert_eq!(pieces(bare.as_bytes(), part_bytes).unwrap(), [one, two, one]);
            assert_eq!(pieces(acknowledged.as_bytes(), part_bytes).unwrap(), [one, "ACK", "ACK", two, "ACK"]);
        }
    }

    #[test]
    fn a_length_is_four_bytes() {
        let frame = framed(Variant::K, vec![b'x'; 0x42]);
        assert_eq!((&frame[..4], frame.len()), (&[0, 0, 0, 0x42][..], 4 + 0x42));
    }

    #[test]
    fn what_never_ends_ends() {
        assert_eq!(pieces(&[0xff; 8], 8), Err(Malformed), "neither a length nor an object");
        assert_eq!(pieces(&[0, 1, 0, 1], 4), Err(Malformed), "a length that nobody needs");
        assert_eq!(pieces(b"AXE", 1), Err(Malformed));
        assert_eq!(pieces(&b"{\"a\": ".repeat(20_000), 1_000), Err(Malformed));
        assert_eq!(Inflow::default().push(&vec![b'{'; 2 * LEGACY_FRAME_BYTES_MAX + 1]), Err(Malformed));
    }
}
