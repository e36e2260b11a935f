//! What programs of S2 send: datagrams to the server, and between each other a stream that TCP cuts as it likes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qchat_fuzz::dialect::s2::answers::{Answer, Denial};
use qchat_fuzz::dialect::s2::frames::{Inflow, Piece};
use qchat_fuzz::dialect::s2::transfers::{self, CHUNK_CHARACTERS, Content, Transfer};
use qchat_fuzz::dialect::s2::{DATAGRAM_BYTES_MAX, Datagram, Request};
use qchat_fuzz::python_json;
use serde_json::Value;

/// The longest answer that any of these programs reads.
const ANSWER_BYTES_MAX: usize = 4_096;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(datagram) = Datagram::parse(bytes) {
        check_datagram(bytes, datagram);
    }
    if let Ok(transfer) = Transfer::parse(bytes) {
        check_transfer(transfer);
    }
    // Not so many that an object without an end is given up in one way of cutting and not in the other.
    let stream = &bytes[..bytes.len().min(60_000)];
    assert_eq!(pieces(stream, stream.len().max(1)), pieces(stream, 3), "it depends on how the stream was cut");
});

/// It means the same as Python would write it, and whoever says it as a stranger reads the whole answer.
fn check_datagram(bytes: &[u8], datagram: Datagram) {
    let value: Value = serde_json::from_slice(bytes).expect("it was read as JSON");
    let again = python_json::dumps(&value);
    if again.len() <= DATAGRAM_BYTES_MAX {
        assert_eq!(Datagram::parse(&again).as_ref(), Ok(&datagram));
    }
    let Datagram { variant, number, request } = datagram;
    let Some(answer) = answer_to_a_stranger(request).encode(variant, &number) else { return };
    assert!(answer.len() <= ANSWER_BYTES_MAX, "{} bytes are cut off", answer.len());
    assert!(serde_json::from_slice::<Value>(&answer).is_ok());
    assert!(Datagram::parse(&answer).is_err(), "two servers would answer each other for ever");
}

/// With every word of theirs in it that an answer repeats.
fn answer_to_a_stranger(request: Request) -> Answer {
    match request {
        Request::Register { .. } => Answer::RegisterDenied(Denial::NameInUse),
        Request::DeRegister { .. } => Answer::DeRegistered,
        Request::Publish { name, .. } => Answer::PublishDenied(Denial::Unregistered(name)),
        Request::Remove { mut files, .. } => Answer::RemoveDenied(Denial::NotListed(files.pop().unwrap_or_default())),
        Request::RetrieveAll { .. } => Answer::Everybody(Vec::new()),
        Request::RetrieveInfo { name, .. } => Answer::RetrieveError(Denial::NoSuchPerson(name)),
        Request::SearchFile { file, .. } => Answer::Owners { file, rows: Vec::new() },
        Request::UpdateContact { name, .. } => {
            Answer::UpdateDenied { denial: Denial::NobodyToUpdate(name.clone()), name }
        }
        Request::Unknown { kind } => Answer::Unknown { kind },
    }
}

/// What is said between two programs comes back when we say it.
fn check_transfer(transfer: Transfer) {
    let Transfer { variant, number, content } = &transfer;
    let again = match content {
        Content::Download { file } => transfers::download(*variant, number, file),
        Content::Refused { reason } => transfers::download_error(*variant, number, reason),
        Content::Chunk { text, .. } => {
            let parts = transfers::chunks(*variant, number, "a.txt", text);
            let texts = parts.map(|(part, is_last)| match Transfer::parse(&part).map(|transfer| transfer.content) {
                Ok(Content::Chunk { text, is_last: says }) if says == is_last => text,
                other => panic!("a chunk of ours became {other:?}"),
            });
            let texts: Vec<String> = texts.collect();
            assert!(texts.iter().all(|text| text.chars().count() <= CHUNK_CHARACTERS));
            assert_eq!(texts.concat(), *text);
            return;
        }
        Content::Other => return,
    };
    assert_eq!(Transfer::parse(&again), Ok(transfer));
}

/// What a stream is made of, and whether it ends in nonsense.
fn pieces(stream: &[u8], cut: usize) -> (Vec<Piece>, bool) {
    let (mut inflow, mut pieces) = (Inflow::default(), Vec::new());
    for part in stream.chunks(cut) {
        if inflow.push(part).is_err() {
            return (pieces, true);
        }
        loop {
            match inflow.piece() {
                Ok(Some(piece)) => pieces.push(piece),
                Ok(None) => break,
                Err(_) => return (pieces, true),
            }
        }
    }
    (pieces, false)
}
