//! The bytes of the wire, one file for each kind of message: a changed byte is a changed protocol.
//! `UPDATE_GOLDEN=1 cargo test --test golden` rewrites the files; CHANGELOG.md then needs a line.
#![cfg(test)]

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use qchat::wire::account::{Identity, LoggedIn, Login, LoginKind, Prekey, SessionInfo, SignedPrekey};
use qchat::wire::catalog::{Cursor, Entry, EntryKind, Found, Query, Scope};
use qchat::wire::chunk;
use qchat::wire::codec::{self, HEADER_BYTES};
use qchat::wire::directory::{DirectoryAnswer, DirectoryPush, DirectoryReply, DirectoryRequest, PushAnswer, PushReply};
use qchat::wire::ids::{
    DialId, Epoch, FileDigest, FileName, FileSize, InviteToken, MessageId, Password, Pattern, PeerKey, PeerName,
    PrekeyId, Signature, Ticket, UnixMillis,
};
use qchat::wire::manifest::{Content, FileContent, Manifest, ManifestEntry, RelativePath};
use qchat::wire::message::{
    Body, Delivery, ENVELOPE_VERSION, Envelope, EnvelopeHeader, InnerMessage, Offer, Receipt, ReceiptKind,
    SignedMessage, SignedReceipt, Skipped, Text,
};
use qchat::wire::people::{
    Announcement, AnnouncementText, Audience, Exclusive, Friend, FriendAnswer, FriendState, Person, Presence,
    SignedAnnouncement,
};
use qchat::wire::profile::{
    DisplayName, FieldLabel, FieldValue, Picture, Profile, ProfileInfo, ProfileReply, ProfileRequest, SignedProfile,
};
use qchat::wire::refusal::Refusal;
use qchat::wire::rendezvous::{
    Allowance, DialAnnounced, DialGranted, DialRequest, Direct, Grant, PortTicket, Purpose, WhyRelayed,
};
use qchat::wire::transfer::{
    Fetch, FetchAnswer, FetchPart, FetchReply, MessageAnswer, PeerRequest, ProfileAnswer, ReceivedAnswer,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

#[test]
fn requests_to_a_directory() {
    let login = |kind, password, register| {
        let login = Login {
            name: name("alice"),
            key: key(),
            kind,
            proof: signature(),
            password,
            register,
            token: None,
            undo: !register,
        };
        DirectoryRequest::Login(Box::new(login))
    };
    let login_of = |register| {
        let (name, kind) = (name("alice"), LoginKind::Resident);
        Login { name, key: key(), kind, proof: signature(), password: None, register, token: None, undo: false }
    };
    let find = |query, after| DirectoryRequest::Find { query, after };
    let cursor = Cursor { name: file_name("a file"), owner: name("bob") };
    let password = Password::parse("correct horse").unwrap();
    let dial =
        DialRequest { to: name("bob"), key: key(), purpose: Purpose::Talk, candidates: Some(addresses()), relay: true };
    let fetch = Purpose::Fetch { digest: digest() };
    let hidden = DialRequest { to: name("bob"), key: key(), purpose: fetch, candidates: None, relay: true };
    golden("request-login-resident", &login(LoginKind::Resident, Some(password), true));
    golden("request-login-errand", &login(LoginKind::Errand { collects: true }, None, false));
    golden("request-put-prekey", &DirectoryRequest::PutPrekey(Box::new(signed_prekey())));
    golden("request-who", &DirectoryRequest::Who { recent: false, pattern: None, after: None });
    golden(
        "request-who-after",
        &DirectoryRequest::Who { recent: true, pattern: Some(Pattern::parse("li").unwrap()), after: Some(name("bob")) },
    );
    golden("request-identify", &DirectoryRequest::Identify { name: name("bob") });
    let messages = vec![(name("bob"), MessageId::from_bytes([3; 16]))];
    golden("request-missing", &DirectoryRequest::Missing { messages });
    golden("request-receipts", &DirectoryRequest::Receipts { to: name("bob"), receipts: vec![receipt()] });
    golden("request-deliver", &DirectoryRequest::Deliver { to: name("bob"), envelope: Box::new(envelope()) });
    golden("request-publish", &DirectoryRequest::Publish(entry()));
    let folder = Entry { name: file_name("photos"), kind: EntryKind::Folder { files: 20_000 }, ..entry() };
    golden("request-publish-folder", &DirectoryRequest::Publish(folder));
    golden("request-unpublish", &DirectoryRequest::Unpublish { name: file_name("a file") });
    golden("request-find-substring", &find(Query::Substring(Pattern::parse("file").unwrap()), Some(cursor)));
    golden("request-find-exact", &find(Query::Exact { owner: name("bob"), name: file_name("a file") }, None));
    golden("request-find-owner", &find(Query::Owner(name("bob")), None));
    golden("request-find-digest", &find(Query::Digest(digest()), None));
    let invited = Login { token: Some(InviteToken::from_bytes([9; 16])), ..login_of(true) };
    golden("request-login-invited", &DirectoryRequest::Login(Box::new(invited)));
    let new = Password::parse("new").unwrap();
    golden("request-change-password", &DirectoryRequest::ChangePassword { new });
    golden("request-delete-account", &DirectoryRequest::DeleteAccount { name: name("alice") });
    golden("request-sessions", &DirectoryRequest::Sessions);
    golden("request-end-other-sessions", &DirectoryRequest::EndOtherSessions);
    golden("request-invite", &DirectoryRequest::Invite);
    golden("request-answer-key-request", &DirectoryRequest::AnswerKeyRequest { key: key(), allow: true });
    golden("request-dial", &DirectoryRequest::Dial(dial));
    golden("request-dial-hidden", &DirectoryRequest::Dial(hidden));
    golden("request-opened", &DirectoryRequest::Opened { dial: self::dial() });
    golden("request-ask-consent", &DirectoryRequest::AskConsent { to: name("bob") });
    let until = Allowance::Until(UnixMillis(1_800_000_000_000));
    golden("request-allow", &DirectoryRequest::Allow(Grant { to: name("bob"), allowance: until }));
    golden("request-deny", &DirectoryRequest::Deny { to: name("bob") });
    golden("request-grants", &DirectoryRequest::Grants { after: Some(name("bob")) });
    golden("request-set-presence", &DirectoryRequest::SetPresence(Presence::Busy));
    golden("request-watch", &DirectoryRequest::Watch { names: vec![name("bob"), name("carol")] });
    golden("request-announce", &DirectoryRequest::Announce(Box::new(announcement())));
}

#[test]
fn answers_of_a_directory() {
    let answer = |file: &str, reply| golden::<DirectoryAnswer>(file, &Ok(reply));
    let logged_in = LoggedIn {
        epoch: Epoch(7),
        created: true,
        observed: addresses()[0],
        prekey: Some(PrekeyId::from_bytes([4; 16])),
        waiting: 300,
        observe: Some(port_ticket()),
    };
    let prekey = Some(signed_prekey());
    let identity = Identity { name: name("bob"), key: key(), prekey, online: true, accepts: true, legacy: false };
    let found = Found { owner: name("bob"), online: true, entry: entry(), legacy: false };
    answer("reply-done", DirectoryReply::Done);
    answer("reply-logged-in", DirectoryReply::LoggedIn(logged_in));
    answer("reply-missing", DirectoryReply::Missing { messages: vec![MessageId::from_bytes([3; 16])] });
    answer("reply-people", DirectoryReply::People { people: vec![person("alice"), person("bob")], more: true });
    answer("reply-identity", DirectoryReply::Identity(Box::new(identity)));
    answer("reply-entries", DirectoryReply::Entries { found: vec![found], more: false });
    let token = InviteToken::from_bytes([9; 16]);
    let since = UnixMillis(1_700_000_000_000);
    let session = SessionInfo { kind: LoginKind::Resident, since, address: addresses()[0], this: true };
    answer("reply-sessions", DirectoryReply::Sessions { sessions: vec![session] });
    answer("reply-invited", DirectoryReply::Invited { token, expires: UnixMillis(1_800_000_000_000) });
    answer(
        "reply-dial-granted",
        DirectoryReply::DialGranted(DialGranted {
            dial: dial(),
            direct: Direct::Not(WhyRelayed::NoConsent),
            relay: Some(port_ticket()),
        }),
    );
    let grants = vec![Grant { to: name("bob"), allowance: Allowance::Once }];
    answer("reply-grants", DirectoryReply::Grants { grants, more: false });
    let gone = Person { presence: Presence::Offline, last_seen: Some(since), ..person("bob") };
    let legacy = Person { legacy: true, ..person("carol") };
    answer("reply-people-legacy", DirectoryReply::People { people: vec![legacy], more: false });
    answer("reply-people-gone", DirectoryReply::People { people: vec![gone], more: false });
    answer("reply-announced", DirectoryReply::Announced { to_everyone: true });
}

#[test]
fn what_people_say_of_each_other_at_a_directory() {
    let bob = || name("bob");
    golden("request-block", &DirectoryRequest::Block { name: bob() });
    golden("request-unblock", &DirectoryRequest::Unblock { name: bob() });
    golden("request-blocked", &DirectoryRequest::Blocked { after: Some(bob()) });
    golden("request-befriend", &DirectoryRequest::Befriend { name: bob() });
    golden("request-unfriend", &DirectoryRequest::Unfriend { name: bob() });
    golden("request-put-off", &DirectoryRequest::PutOff { name: bob() });
    golden("request-friends", &DirectoryRequest::Friends { after: None });
    golden("request-set-audience", &DirectoryRequest::SetAudience(Audience::Friends));
    golden("request-audience", &DirectoryRequest::Audience);
    let answer = |file: &str, reply| golden::<DirectoryAnswer>(file, &Ok(reply));
    let last_seen = Some(UnixMillis(1_800_000_000_000));
    let (state, presence, legacy) = (FriendState::Friends, Presence::Offline, false);
    let friend = Friend { name: bob(), key: key(), state, presence, last_seen, legacy };
    answer("reply-names", DirectoryReply::Names { names: vec![name("alice"), bob()], more: true });
    answer("reply-friendship", DirectoryReply::Friendship(FriendState::AsksUs));
    answer("reply-friends", DirectoryReply::Friends { friends: vec![friend], more: false });
    answer("reply-audience", DirectoryReply::Audience(Audience::Friends));
    golden("push-friend-asked", &DirectoryPush::FriendAsked { from: name("alice"), key: key() });
    golden("push-people-changed", &DirectoryPush::PeopleChanged);
    golden("push-friend-answered", &DirectoryPush::FriendAnswered { by: bob(), answer: FriendAnswer::Busy });
}

#[test]
fn refusals() {
    golden::<DirectoryAnswer>("refusal", &Err(Refusal::PrekeyChanged));
    golden::<DirectoryAnswer>("refusal-with-value", &Err(Refusal::LockedOut { seconds: 60 }));
    golden::<DirectoryAnswer>("refusal-unknown", &Err(Refusal::Unknown(60_000)));
}

#[test]
fn pushes_of_a_directory_and_their_answers() {
    let announced = DialAnnounced {
        dial: dial(),
        from: name("alice"),
        key: key(),
        purpose: Purpose::Fetch { digest: digest() },
        direct: Direct::Candidates(addresses()),
        relay: Some(port_ticket()),
    };
    golden("push-opened", &DirectoryPush::Opened { dial: dial() });
    golden("push-consent-asked", &DirectoryPush::ConsentAsked { from: name("alice"), key: key() });
    golden("push-consent-answered", &DirectoryPush::ConsentAnswered { by: name("alice"), allowed: true });
    let delivery = Delivery { from: name("alice"), envelope: envelope() };
    golden("push-delivery", &DirectoryPush::Delivery(Box::new(delivery)));
    golden("push-dial", &DirectoryPush::Dial(announced));
    golden("push-presence", &DirectoryPush::Presence { name: name("bob"), presence: Presence::Online });
    let signed = Box::new(announcement());
    golden("push-announcement", &DirectoryPush::Announcement { from: name("alice"), signed, legacy: false });
    let source = "192.0.2.1".parse().unwrap();
    golden("push-key-requested", &DirectoryPush::KeyRequested { key: key(), source });
    let id = MessageId::from_bytes([3; 16]);
    golden("push-returned", &DirectoryPush::Returned { to: name("bob"), id, refusal: Refusal::KeyChanged });
    golden("push-key-changed", &DirectoryPush::KeyChanged { name: name("bob"), key: key() });
    golden::<PushAnswer>("push-reply-taken", &Ok(PushReply::Taken));
    golden("push-receipts", &DirectoryPush::Receipts(vec![receipt()]));
    golden("push-drained", &DirectoryPush::Drained { prekey: Some(PrekeyId::from_bytes([6; 16])) });
    golden::<PushAnswer>("push-reply-receipt", &Ok(PushReply::Receipt(Box::new(receipt()))));
    golden::<PushAnswer>("push-reply-left", &Ok(PushReply::Left));
    golden::<PushAnswer>("push-reply-candidates", &Ok(PushReply::Candidates(Some(addresses()))));
    golden::<PushAnswer>("push-reply-refused", &Err(Refusal::NotAccepted));
}

#[test]
fn messages_between_people() {
    let message = |body| InnerMessage {
        sender: key(),
        recipient: PeerKey::from_bytes([2; 32]),
        id: MessageId::from_bytes([3; 16]),
        sequence: 300,
        skipped: Skipped::newest_runs(vec![(297, 298), (1, 100)]),
        sent_at: UnixMillis(1_700_000_000_000),
        body,
    };
    let size = FileSize::try_from(70_000).unwrap();
    golden("message-text", &message(Body::Text(Text::parse("Grüße").unwrap())));
    let offer = Offer { name: file_name("a file"), size, digest: digest(), kind: EntryKind::File };
    golden("message-offer", &message(Body::Offer(offer.clone())));
    let folder = Offer { name: file_name("a folder"), kind: EntryKind::Folder { files: 20_000 }, ..offer };
    golden("message-offer-folder", &message(Body::Offer(folder)));
    golden(
        "message-offer-declined",
        &message(Body::OfferDeclined {
            offer: MessageId::from_bytes([8; 16]),
            name: FileName::parse("recipe.pdf").unwrap(),
        }),
    );
    golden(
        "message-offer-withdrawn",
        &message(Body::OfferWithdrawn {
            offer: MessageId::from_bytes([8; 16]),
            name: FileName::parse("recipe.pdf").unwrap(),
        }),
    );
    golden("message-signed", &SignedMessage { message: vec![1, 2, 3], signature: signature() });
    golden("envelope", &envelope());
    golden("receipt", &receipt());
    golden("prekey-signed", &signed_prekey());
}

#[test]
fn requests_and_answers_between_peers() {
    let fetch = |part| PeerRequest::Fetch(Fetch { digest: digest(), part });
    golden("fetch-tree", &fetch(FetchPart::Tree));
    golden("fetch-groups", &fetch(FetchPart::Groups { first: 3, count: 500 }));
    golden("fetch-files", &fetch(FetchPart::Files { first: 300, count: 256 }));
    golden("received", &PeerRequest::Received { digest: digest(), offer: None });
    golden("received-offer", &PeerRequest::Received { digest: digest(), offer: Some(MessageId::from_bytes([3; 16])) });
    golden("peer-message", &PeerRequest::Message(Box::new(SignedMessage { message: vec![1], signature: signature() })));
    golden("peer-exclusive-open", &PeerRequest::Exclusive(Exclusive::Open));
    golden("peer-exclusive-close", &PeerRequest::Exclusive(Exclusive::Close));
    golden("peer-exclusive-still", &PeerRequest::Exclusive(Exclusive::Still));
    golden("peer-receipts", &PeerRequest::Receipts(vec![receipt()]));
    golden::<MessageAnswer>("message-reply", &Ok(receipt()));
    golden::<FetchAnswer>("fetch-reply", &Ok(FetchReply { size: FileSize::try_from(1 << 33).unwrap() }));
    golden::<FetchAnswer>("fetch-refused", &Err(Refusal::UnknownFile));
    golden::<ReceivedAnswer>("received-reply", &Ok(()));
}

#[test]
fn profiles() {
    let mut profile = Profile { version: 300, ..Profile::empty(name("bob"), key()) };
    golden("profile-empty", &profile);
    profile.display_name = Some(DisplayName::parse("Bob the Builder").unwrap());
    profile.info = Some(ProfileInfo::parse("Gr\u{fc}\u{df}e").unwrap());
    for (label, value) in [("town", "Berlin"), ("age", "41")] {
        profile.fields.set(FieldLabel::parse(label).unwrap(), FieldValue::parse(value).unwrap()).unwrap();
    }
    profile.picture = Some(Picture::parse(b"\x89PNG\r\n\x1a\n...".to_vec()).unwrap());
    golden("profile", &profile);
    let signed = SignedProfile { document: vec![1, 2, 3], signature: signature() };
    golden("peer-profile", &PeerRequest::Profile(ProfileRequest { of: name("bob"), known: 300 }));
    golden::<ProfileAnswer>("profile-reply-new", &Ok(ProfileReply::New(Box::new(signed))));
    golden::<ProfileAnswer>("profile-reply-nothing-new", &Ok(ProfileReply::NothingNew));
    golden::<ProfileAnswer>("profile-refused", &Err(Refusal::NoProfile));
}

#[test]
fn the_list_of_what_is_in_a_folder() {
    let file = |size, executable, modified_nanos| {
        let size = FileSize::try_from(size).unwrap();
        Content::File(FileContent { size, digest: digest(), executable, modified_nanos })
    };
    let mut manifest = Manifest::default();
    for (path, what) in [
        (".empty", file(0, false, -1)),
        ("ä", Content::Folder),
        ("ä/a program", file(300_000, true, 1_700_000_000_123_456_789)),
    ] {
        manifest.push(ManifestEntry { path: RelativePath::parse(path).unwrap(), what }).unwrap();
    }
    let bytes = manifest.to_bytes().unwrap();
    let expected = on_file("manifest", &bytes);
    assert_eq!(bytes, expected);
    assert_eq!(Manifest::from_bytes(&expected).unwrap(), manifest);
}

#[test]
fn chunks_of_201_bytes() {
    let payload: Vec<u8> = (0..=200).collect();
    let mut stream = Vec::new();
    chunk::encode(&payload, &mut stream);
    stream.push(chunk::END);
    assert_eq!((stream[0], stream[201], stream[203], stream.len()), (200, 1, chunk::END, 204));
    assert_eq!(stream, on_file("chunks-201", &stream));

    let mut input = &stream[..];
    let mut decoder = chunk::Decoder::default();
    decoder.expect_group(payload.len());
    let mut decoded = Vec::new();
    assert_eq!(decoder.decode(&mut input, &mut decoded), Ok(chunk::Step::GroupComplete));
    assert_eq!(decoder.expect_end(&mut input), Ok(Some(())));
    assert_eq!(decoded, payload);
}

#[test]
fn every_file_here_belongs_to_a_test() {
    let this = include_str!("main.rs");
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let hex: BTreeSet<PathBuf> = files.filter(|path| path.extension().is_some_and(|end| end == "hex")).collect();
    for path in &hex {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        assert!(this.contains(&format!("\"{stem}\"")), "no test names {stem}.hex: remove it");
    }
}

/// Checks that a value becomes the frame on file, and that the frame on file becomes the value.
#[track_caller]
fn golden<T: Serialize + DeserializeOwned + PartialEq + Debug>(file: &str, value: &T) {
    let frame = codec::encode_frame(value).unwrap();
    let expected = on_file(file, &frame);
    assert_eq!(HEXLOWER.encode(&frame), HEXLOWER.encode(&expected), "{file}: these bytes change the protocol");
    let (header, body) = expected.split_first_chunk::<HEADER_BYTES>().unwrap();
    assert_eq!(codec::body_bytes(*header).unwrap(), body.len());
    assert_eq!(codec::decode::<T>(body).unwrap(), *value);
}

/// The bytes on file, which are rewritten when the environment says so.
#[track_caller]
fn on_file(file: &str, bytes: &[u8]) -> Vec<u8> {
    let path = folder().join(format!("{file}.hex"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let lines: Vec<String> = bytes.chunks(32).map(|line| HEXLOWER.encode(line) + "\n").collect();
        fs::write(&path, lines.concat()).unwrap();
    }
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    HEXLOWER_PERMISSIVE.decode(text.replace('\n', "").as_bytes()).unwrap()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn name(text: &str) -> PeerName {
    PeerName::parse(text).unwrap()
}

fn file_name(text: &str) -> FileName {
    FileName::parse(text).unwrap()
}

fn key() -> PeerKey {
    PeerKey::from_bytes([1; 32])
}

fn digest() -> FileDigest {
    FileDigest::from_bytes([5; 32])
}

fn port_ticket() -> PortTicket {
    PortTicket { port: 4_434, ticket: Ticket::from_bytes([8; 16]) }
}

fn dial() -> DialId {
    DialId::from_bytes([6; 16])
}

/// Its two halves differ, because they are encoded one after the other.
fn signature() -> Signature {
    let mut bytes = [0x11; 64];
    bytes[32..].fill(0x22);
    Signature::from_bytes(bytes)
}

fn addresses() -> Vec<SocketAddr> {
    ["192.0.2.1:4433", "[2001:db8::1]:443"].map(|text| text.parse().unwrap()).into()
}

fn entry() -> Entry {
    let size = FileSize::try_from(1_234).unwrap();
    Entry {
        name: file_name("ä file.txt"),
        size,
        digest: digest(),
        kind: EntryKind::File,
        scope: Scope::Everyone,
        hides_address: false,
    }
}

/// Shorter than a real one: the bound on the public key is the receiver's business.
fn signed_prekey() -> SignedPrekey {
    let prekey = Prekey {
        account: name("bob"),
        identity: key(),
        id: PrekeyId::from_bytes([4; 16]),
        public: vec![0xaa; 5],
        expires: UnixMillis(1_800_000_000_000),
    };
    SignedPrekey { prekey, signature: signature() }
}

fn receipt() -> SignedReceipt {
    let receipt = Receipt {
        by: PeerKey::from_bytes([2; 32]),
        to: key(),
        id: MessageId::from_bytes([3; 16]),
        sequence: 300,
        highest: 301,
        kind: ReceiptKind::Delivered,
        at: UnixMillis(1_700_000_000_000),
    };
    SignedReceipt { receipt, signature: signature() }
}

fn envelope() -> Envelope {
    let header = EnvelopeHeader {
        version: ENVELOPE_VERSION,
        sender: key(),
        recipient: PeerKey::from_bytes([2; 32]),
        id: MessageId::from_bytes([3; 16]),
        prekey: PrekeyId::from_bytes([4; 16]),
    };
    Envelope { header, encapsulated: vec![0xbb; 3], sealed: vec![0xcc; 4] }
}

/// What somebody says to everybody.
fn announcement() -> SignedAnnouncement {
    let text = AnnouncementText::parse("dinner is ready").unwrap();
    let (id, sent_at) = (MessageId::from_bytes([3; 16]), UnixMillis(1_700_000_000_000));
    let announcement = Announcement { sender: key(), id, sent_at, text };
    SignedAnnouncement { announcement, signature: signature() }
}

/// Somebody who is here, in a listing.
fn person(text: &str) -> Person {
    Person { name: name(text), presence: Presence::Online, last_seen: None, legacy: false }
}
