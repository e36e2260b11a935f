//! Control frames: a length of 4 bytes, little-endian, then a bincode body. The only file that names bincode.
//!
//! bincode alone would believe a length inside the body and accept trailing bytes; both are refused here, and what
//! we encode is held to the same bound as what we decode.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian, Varint};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::limits::FRAME_BYTES_MAX;

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 4;

/// Integers take as few bytes as they need; nothing decoded may claim more than the bound of its kind.
const fn config<const BYTES_MAX: usize>() -> Configuration<LittleEndian, Varint, Limit<BYTES_MAX>> {
    bincode::config::standard().with_limit::<BYTES_MAX>()
}

/// The header is a plain `u32`, so that a reader knows the length after exactly four bytes.
const HEADER: Configuration<LittleEndian, Fixint, Limit<HEADER_BYTES>> =
    bincode::config::standard().with_fixed_int_encoding().with_limit::<HEADER_BYTES>();

/// Why bytes are not a frame, or a value cannot become one.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The announced or encoded length is over the bound.
    #[error("{bytes} bytes are over the limit of what they encode")]
    TooLong {
        /// The length that was announced or would be needed.
        bytes: usize,
    },
    /// Bytes are left over after the value.
    #[error("{0} bytes are left over after the value")]
    Trailing(usize),
    /// The body is not a value of the expected type.
    #[error("the frame's body is malformed: {0}")]
    Malformed(#[from] bincode::error::DecodeError),
    /// The value cannot be encoded.
    #[error("the value cannot be encoded: {0}")]
    Unencodable(#[from] bincode::error::EncodeError),
}

/// Encodes a value as the body of a frame, without the header: also the form that is signed, sealed and stored.
///
/// # Errors
/// [`CodecError::TooLong`] when it does not fit a frame.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    encode_within::<FRAME_BYTES_MAX, _>(value)
}

/// Encodes a value that is no frame's body and has a bound of its own.
///
/// # Errors
/// [`CodecError::TooLong`] when it exceeds it.
pub fn encode_within<const BYTES_MAX: usize, T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let body = bincode::serde::encode_to_vec(value, config::<BYTES_MAX>())?;
    if body.len() > BYTES_MAX { Err(CodecError::TooLong { bytes: body.len() }) } else { Ok(body) }
}

/// Decodes the body of a frame; every byte must belong to the value.
///
/// # Errors
/// [`CodecError`] when it is too long, malformed or followed by more bytes.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, CodecError> {
    decode_within::<FRAME_BYTES_MAX, _>(body)
}

/// Decodes what [`encode_within`] has made.
///
/// # Errors
/// As [`decode`].
pub fn decode_within<const BYTES_MAX: usize, T: DeserializeOwned>(body: &[u8]) -> Result<T, CodecError> {
    if body.len() > BYTES_MAX {
        return Err(CodecError::TooLong { bytes: body.len() });
    }
    let (value, used) = bincode::serde::decode_from_slice(body, config::<BYTES_MAX>())?;
    if used == body.len() { Ok(value) } else { Err(CodecError::Trailing(body.len() - used)) }
}

/// Encodes a value as a whole frame: header and body.
///
/// # Errors
/// [`CodecError::TooLong`] when it does not fit a frame.
pub fn encode_frame<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut frame = vec![0; HEADER_BYTES];
    let bytes = bincode::serde::encode_into_std_write(value, &mut frame, config::<FRAME_BYTES_MAX>())?;
    match u32::try_from(bytes) {
        Ok(length) if bytes <= FRAME_BYTES_MAX => {
            frame[..HEADER_BYTES].copy_from_slice(&length.to_le_bytes());
            Ok(frame)
        }
        Ok(_) | Err(_) => Err(CodecError::TooLong { bytes }),
    }
}

/// Decodes what one direction of a stream carried: one whole frame and nothing else. `None` when its end is missing.
///
/// # Errors
/// As [`decode`].
pub fn decode_frame<T: DeserializeOwned>(frame: &[u8]) -> Result<Option<T>, CodecError> {
    let Some((header, body)) = frame.split_first_chunk() else { return Ok(None) };
    let bytes = body_bytes(*header)?;
    match body.len().checked_sub(bytes) {
        None => Ok(None),
        Some(0) => decode(body).map(Some),
        Some(more) => Err(CodecError::Trailing(more)),
    }
}

/// Reads a frame's header: how many bytes the body has, checked before anything is allocated for it.
///
/// # Errors
/// [`CodecError::TooLong`] when a frame may not be that long.
pub fn body_bytes(header: [u8; HEADER_BYTES]) -> Result<usize, CodecError> {
    let (length, _): (u32, usize) = bincode::serde::decode_from_slice(&header, HEADER)?;
    let bytes = usize::try_from(length).unwrap_or(usize::MAX);
    if bytes > FRAME_BYTES_MAX { Err(CodecError::TooLong { bytes }) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_reads_back_as_what_was_written() {
        let frame = encode_frame(&("hello".to_owned(), 7_u64)).unwrap();
        let (header, body) = frame.split_at(HEADER_BYTES);
        assert_eq!(body_bytes(header.try_into().unwrap()).unwrap(), body.len());
        assert_eq!(decode::<(String, u64)>(body).unwrap(), ("hello".to_owned(), 7));
    }

    #[test]
    fn a_direction_of_a_stream_is_one_frame_and_no_more() {
        let mut frame = encode_frame(&"hello").unwrap();
        for end in 0..frame.len() {
            assert!(decode_frame::<String>(&frame[..end]).unwrap().is_none(), "{end} bytes");
        }
        assert_eq!(decode_frame::<String>(&frame).unwrap().unwrap(), "hello");
        frame.push(0);
        assert!(matches!(decode_frame::<String>(&frame), Err(CodecError::Trailing(1))));
    }

    #[test]
    fn four_gibibytes_are_refused_before_they_are_allocated() {
        assert!(matches!(body_bytes([0xff; 4]), Err(CodecError::TooLong { .. })));
    }

    #[test]
    fn a_length_inside_the_body_is_not_believed() {
        // A vector that claims 2^32 - 1 elements in a body of five bytes.
        assert!(decode::<Vec<u64>>(&[252, 255, 255, 255, 255]).is_err());
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut body = encode(&7_u64).unwrap();
        body.push(0);
        assert!(matches!(decode::<u64>(&body), Err(CodecError::Trailing(1))));
    }

    #[test]
    fn what_does_not_fit_a_frame_is_not_encoded() {
        assert!(matches!(encode(&vec![0_u8; FRAME_BYTES_MAX]), Err(CodecError::TooLong { .. })));
    }
}
