//! What programs of S3 send in a datagram, and what they are sent, which none of them may take for more than it reads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qchat_fuzz::dialect::s3::{self, Letter, Place, Request, Table};
use qchat_fuzz::wire::ids::UnixMillis;
use qchat_fuzz::wire::limits::S3_TAKEN_BYTES_MAX;

/// The longest name.
const NAME: &str = "abcdefghijklmnopqrstuvwxyz012345";

fuzz_target!(|datagram: &[u8]| {
    if let Ok(request) = Request::parse(datagram) {
        assert_eq!(Request::parse(printed(&request).as_bytes()).as_ref(), Ok(&request));
        if let Request::Chat { sender, id, text } = &request {
            assert_eq!(s3::chat(sender, id, text), datagram, "it would be handed on as something else");
        }
    }
    let Ok(text) = std::str::from_utf8(datagram) else { return };
    let id = s3::Uuid::random([7; 16]);
    let chats = s3::chat_texts(NAME, text).into_iter().map(|text| s3::chat(NAME, &id, &text));
    let letter = Letter { sender: NAME.to_owned(), sent_at: time(datagram), text: text.to_owned() };
    let letters = [letter.clone(), letter];
    let mail = s3::mail(&letters);
    assert_eq!(mail.iter().map(|datagram| datagram.letters_ended).sum::<usize>(), letters.len());
    let said = [s3::error(text), s3::notice(text), table(text)];
    for bytes in said.into_iter().chain(chats).chain(mail.into_iter().map(|datagram| datagram.bytes)) {
        assert!(bytes.len() <= S3_TAKEN_BYTES_MAX, "{} bytes are cut off", bytes.len());
        assert!(std::str::from_utf8(&bytes).is_ok(), "a client stops at what is no text");
    }
});

/// A datagram as the original client writes it.
fn printed(request: &Request) -> String {
    match request {
        Request::Register { name } => format!("register: {name}"),
        Request::Leave { name } => format!("dereg {name}"),
        Request::Return { name } => format!("reg {name}"),
        Request::Chat { sender, id, text } => format!("send {sender} {id} {text}"),
        Request::Save { sender, receiver, id, text } => format!("send {sender} {receiver} {id} {text}"),
        Request::ToAll { sender, id, text } => format!("send_all {sender} {id} {text}"),
        Request::Ack { id } => format!("ACK {id}"),
    }
}

/// A table of everybody whose name is a word of the text, as long as there is room.
fn table(text: &str) -> Vec<u8> {
    let mut table = Table::default();
    for name in text.split_whitespace() {
        table.add(name.to_owned(), Place { ip: "255.255.255.255".to_owned(), port: u16::MAX, online: false });
    }
    table.datagram()
}

fn time(bytes: &[u8]) -> UnixMillis {
    UnixMillis(bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)))
}
