//! What programs of S4 put into a frame, on a connection to the server and on one between two of them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qchat_fuzz::dialect::s4::{self, Opening, Private, Request, Wish};
use qchat_fuzz::wire::limits::LEGACY_FRAME_BYTES_MAX;

fuzz_target!(|payload: &[u8]| {
    if let Some(head) = payload.first_chunk()
        && let Ok(bytes) = s4::payload_bytes(*head)
    {
        assert!(bytes <= LEGACY_FRAME_BYTES_MAX, "{bytes} bytes would be read");
    }
    if let Ok(opening) = Opening::parse(payload) {
        assert_eq!(Opening::parse(printed(&opening).as_bytes()), Ok(opening));
    }
    if let Ok(private) = Private::parse(payload) {
        assert_eq!(format!("<{}>: {}", private.from, private.text).as_bytes(), payload);
    }
    if let Ok(text) = s4::text(payload) {
        check_shown(text);
    }
});

/// A frame as the original client writes it.
fn printed(opening: &Opening) -> String {
    let Opening::Request(Request { name, token, wish }) = opening else { return "LIN".to_owned() };
    let (verb, rest) = match wish {
        Wish::Message { to, text } => ("MSG", format!("{to}|{text}")),
        Wish::Broadcast { text } => ("BRD", text.clone()),
        Wish::Online => ("ONL", String::new()),
        Wish::Block { name } => ("BLC", format!("1|{name}")),
        Wish::Unblock { name } => ("BLC", format!("0|{name}")),
        Wish::Leave => ("OUT", String::new()),
        Wish::Address { of } => ("GET", of.clone()),
        Wish::Allow { to } => ("ALL", to.clone()),
        Wish::Hey => ("HEY", String::new()),
    };
    format!("{verb}|{name}|{token}|{rest}")
}

/// Old programs print a push as it is: it must not speak to a terminal, nor with somebody else's voice.
fn check_shown(text: &str) {
    let push = s4::message("bob", text);
    assert!(!push.contains(|c: char| c.is_control() && !"\n\t".contains(c)), "{push:?}");
    assert!(push.split('\n').skip(1).all(|line| line.starts_with("  ")), "{push:?}");
    let frame = s4::frame(&push);
    let (head, rest) = frame.split_first_chunk().expect("a frame begins with its length");
    assert_eq!(usize::try_from(u32::from_be_bytes(*head)), Ok(rest.len()));
}
