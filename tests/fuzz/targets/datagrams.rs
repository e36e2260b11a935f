//! What comes beside QUIC on the UDP sockets of peers and of the relay.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qchat_fuzz::wire::datagram::{Datagram, REQUEST_BYTES, is_beside_quic};

fuzz_target!(|bytes: &[u8]| {
    let Some(datagram) = Datagram::decode(bytes) else { return };
    assert!(is_beside_quic(bytes), "QUIC would have taken it");
    assert!(bytes.len() <= REQUEST_BYTES, "more than a request");
    assert_eq!(datagram.encode(), bytes);
});
