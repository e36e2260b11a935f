//! The chunks of a file stream: the first three bytes say how long the group is, the fourth into which parts the stream is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qchat_fuzz::wire::chunk::{self, ChunkViolation, Decoder, Step};

fuzz_target!(|bytes: &[u8]| {
    let Some(([high, middle, low, cut], stream)) = bytes.split_first_chunk() else { return };
    // A group has 256 KiB at most.
    let group = usize::from(u16::from_be_bytes([*middle, *low])) + usize::from(high & 3) * 65_536;
    let (whole, payload, left) = decode(group, stream, stream.len().max(1));
    let (parted, parts, _) = decode(group, stream, usize::from(*cut).max(1));
    assert_eq!((&whole, &payload), (&parted, &parts), "it depends on how the stream was cut");
    assert!(payload.len() <= group);
    if whole == Ok(Step::GroupComplete) {
        assert_eq!(payload.len(), group);
        let mut again = Vec::new();
        chunk::encode(&payload, &mut again);
        assert_eq!(again.len(), chunk::encoded_bytes(group));
        assert_eq!(again, stream[..stream.len() - left], "another stream says the same");
    }
});

/// What the decoder came to, the bytes of the file that it found, and how many bytes of the stream it left.
fn decode(group: usize, stream: &[u8], cut: usize) -> (Result<Step, ChunkViolation>, Vec<u8>, usize) {
    let mut decoder = Decoder::default();
    decoder.expect_group(group);
    let mut payload = Vec::new();
    let mut left = stream.len();
    let mut last = decoder.decode(&mut &[][..], &mut payload);
    for part in stream.chunks(cut) {
        if last != Ok(Step::NeedInput) {
            break;
        }
        let mut input = part;
        last = decoder.decode(&mut input, &mut payload);
        left -= part.len() - input.len();
    }
    (last, payload, left)
}
