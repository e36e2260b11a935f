//! Frames: whatever a directory, a peer or whoever reaches one of their sockets may put into one. Its corpus is the golden
//! files, so that no message is forgotten.
#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use qchat_fuzz::wire::codec::{self, HEADER_BYTES};
use qchat_fuzz::wire::directory::{DirectoryAnswer, DirectoryPush, DirectoryRequest, PushAnswer};
use qchat_fuzz::wire::limits::FRAME_BYTES_MAX;
use qchat_fuzz::wire::message::{Envelope, InnerMessage, SignedMessage, SignedReceipt};
use qchat_fuzz::wire::people::SignedAnnouncement;
use qchat_fuzz::wire::profile::SignedProfile;
use qchat_fuzz::wire::transfer::{FetchAnswer, MessageAnswer, PeerRequest, ProfileAnswer, ReceivedAnswer};
use serde::Serialize;
use serde::de::DeserializeOwned;

fuzz_target!(|frame: &[u8]| {
    let Some((header, body)) = frame.split_first_chunk::<HEADER_BYTES>() else { return };
    if let Ok(bytes) = codec::body_bytes(*header) {
        assert!(bytes <= FRAME_BYTES_MAX, "{bytes} bytes would be read");
    }
    check::<DirectoryRequest>(body);
    check::<DirectoryAnswer>(body);
    check::<DirectoryPush>(body);
    check::<PushAnswer>(body);
    check::<PeerRequest>(body);
    check::<FetchAnswer>(body);
    check::<MessageAnswer>(body);
    check::<ProfileAnswer>(body);
    check::<ReceivedAnswer>(body);
    check::<Envelope>(body);
    check::<SignedMessage>(body);
    check::<InnerMessage>(body);
    check::<SignedReceipt>(body);
    check::<SignedAnnouncement>(body);
    check::<SignedProfile>(body);
});

/// What is understood is encoded again, fits a frame, and is understood as the same.
fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(body: &[u8]) {
    let Ok(value) = codec::decode::<T>(body) else { return };
    let again = codec::encode(&value).expect("what came in a frame fits one");
    assert!(again.len() <= body.len(), "{} bytes became {}", body.len(), again.len());
    assert_eq!(codec::decode::<T>(&again).expect("our own encoding"), value);
}
