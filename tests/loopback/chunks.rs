//! The 200-byte chunk on the stream itself: every length byte of a real peer's upload, read by hand; and owners who lie.

use std::convert::Infallible;
use std::fs;

use qchat::peer::failure::FailureKind;
use qchat::seal::digest::HashTree;
use qchat::storage::partial_file::Collision;
use qchat::transport::connection::Connection;
use qchat::transport::stream::Stream;
use qchat::wire::account::LoginKind;
use qchat::wire::catalog::{Entry, EntryKind, Scope};
use qchat::wire::chunk;
use qchat::wire::codec;
use qchat::wire::directory::{DirectoryReply, DirectoryRequest};
use qchat::wire::ids::{FileDigest, FileSize};
use qchat::wire::refusal::{CloseCode, Refusal};
use qchat::wire::transfer::{Fetch, FetchAnswer, FetchPart, FetchReply, PeerRequest};
use tokio::sync::oneshot;

use crate::world::{ERRAND, RawClient, TestDirectory, TestPeer, content, file_name, in_time};

pub(crate) const GROUP: usize = 256 * 1_024;

/// What an answer takes before the chunks, at most.
const ANSWER_BYTES_MAX: usize = 32;

/// Three groups, the last of them of 401 bytes: its last chunk carries one byte.
pub(crate) const FILE_BYTES: usize = 2 * GROUP + 401;

fn digest_of(content: &[u8]) -> (FileDigest, HashTree) {
    HashTree::of_reader(&mut &*content, &mut |_| {}).unwrap()
}

/// Everything that a peer answers on one stream, to its end.
async fn all_bytes(connection: &Connection, request: &PeerRequest) -> Vec<u8> {
    let mut stream = connection.open_stream().await.unwrap();
    stream.write_frame(request).await.unwrap();
    stream.finish();
    let mut all = Vec::new();
    while let Some(bytes) = in_time(stream.read()).await.unwrap() {
        all.extend_from_slice(&bytes);
    }
    all
}

/// Takes the answer frame off and leaves the chunks.
fn after_answer(bytes: &[u8]) -> (FetchAnswer, &[u8]) {
    let (length, rest) = bytes.split_first_chunk::<4>().expect("a frame begins with four bytes of length");
    let (body, chunks) = rest.split_at(usize::try_from(u32::from_le_bytes(*length)).unwrap());
    (codec::decode(body).unwrap(), chunks)
}

/// Reads chunks by hand: in each group all are full but the last, and `0` with nothing behind it ends them.
#[track_caller]
fn payload_of(mut chunks: &[u8], groups: &[usize]) -> Vec<u8> {
    let mut payload = Vec::new();
    for group in groups {
        let mut left = *group;
        while left > 0 {
            let length = usize::from(chunks[0]);
            assert_eq!(length, left.min(200), "the length of the chunk with {left} bytes of its group to go");
            payload.extend_from_slice(&chunks[1..=length]);
            chunks = &chunks[1 + length..];
            left -= length;
        }
    }
    assert_eq!(chunks, [0], "the end marker, and nothing after it");
    payload
}

#[tokio::test]
async fn every_chunk_of_a_real_upload_has_the_length_of_its_place() {
    let directory = TestDirectory::start();
    let alice = TestPeer::join(&directory, "alice").await;
    let content = content(FILE_BYTES);
    alice.share("big", &content).await;
    let (digest, tree) = digest_of(&content);
    let carol = RawClient::registered(&directory, "carol", ERRAND).await;
    alice.allow("carol").await;
    let connection = carol.dial("alice", alice.key()).await;
    let yes: FetchAnswer = Ok(FetchReply { size: FileSize::try_from(FILE_BYTES as u64).unwrap() });

    let hashes = all_bytes(&connection, &PeerRequest::Fetch(Fetch { digest, part: FetchPart::Tree })).await;
    let (answer, chunks) = after_answer(&hashes);
    assert_eq!(answer, yes);
    assert_eq!(payload_of(chunks, &[3 * 32]), tree.to_bytes());

    let sizes = [GROUP, GROUP, 401];
    for (first, count) in [(0, 3), (0, 1), (1, 1), (1, 2), (2, 1)] {
        let part = FetchPart::Groups { first: first as u64, count: count as u64 };
        let bytes = all_bytes(&connection, &PeerRequest::Fetch(Fetch { digest, part })).await;
        let (answer, chunks) = after_answer(&bytes);
        assert_eq!(answer, yes);
        let payload = payload_of(chunks, &sizes[first..first + count]);
        let from = first * GROUP;
        assert!(payload == content[from..FILE_BYTES.min(from + count * GROUP)], "groups {first}+{count} differ");
    }
    for (first, count) in [(0, 0), (0, 4), (3, 1), (u64::MAX, 2)] {
        let part = FetchPart::Groups { first, count };
        let bytes = all_bytes(&connection, &PeerRequest::Fetch(Fetch { digest, part })).await;
        assert_eq!(after_answer(&bytes), (Err(Refusal::BadRange), &[][..]));
    }
}

#[tokio::test]
async fn a_malformed_request_ends_its_stream_only() {
    let directory = TestDirectory::start();
    let alice = TestPeer::join(&directory, "alice").await;
    alice.share("small", b"still served").await;
    let (digest, _) = digest_of(b"still served");
    let carol = RawClient::registered(&directory, "carol", ERRAND).await;
    alice.allow("carol").await;
    let connection = carol.dial("alice", alice.key()).await;
    for malformed in [&[][..], &[0xff; 4], &[1, 0, 0, 0, 99], &[9, 0, 0, 0, 0], &[0, 0, 0, 0]] {
        let mut stream = connection.open_stream().await.unwrap();
        stream.write(malformed.to_vec().into()).await.unwrap();
        stream.finish();
        let answer = in_time(stream.read()).await;
        assert!(answer.is_err(), "{malformed:?} was answered with {answer:?}");
    }
    let part = FetchPart::Groups { first: 0, count: 1 };
    let bytes = all_bytes(&connection, &PeerRequest::Fetch(Fetch { digest, part })).await;
    assert_eq!(payload_of(after_answer(&bytes).1, &[12]), b"still served");
}

/// How an owner of a file may break the word its catalogue entry gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    None,
    /// One bit of the chunks is another, counted from the first one asked for; the end marker is the last byte.
    FlippedBit(usize),
    WrongBytes,
    WrongTree,
    ShortTree,
    /// A hash more than there are groups.
    LongTree,
    /// What the answer gives as the size of the file.
    Size(u64),
    /// The end marker instead of the first chunk.
    NothingButTheEnd,
    /// The first two groups in each other's place.
    SwappedGroups,
    /// The first group twice.
    RepeatedGroup,
    /// The end marker where the last group should begin.
    MissingGroup,
    /// A length byte of 199 where 200 belongs.
    ShortChunk,
    /// 201, which no chunk may carry.
    LongChunk,
    /// The end marker in the middle of a group.
    EarlyEnd,
    /// The stream finishes in the middle of a chunk.
    CutOff,
    /// `255` and the reason in the middle of a group.
    RefusesMidway(Refusal),
    /// `255` and no frame behind it.
    RefusesWithoutReason,
    /// `255` and a frame that is no refusal, or would be too long.
    RefusesWithGarbage(&'static [u8]),
    /// `255` and the reason, but within a chunk.
    RefusesWithinAChunk,
    /// Refuses in the answer frame.
    Refuses(Refusal),
    NotEvenAnAnswer,
    MoreAfterTheEnd,
    /// The same after the tree, but in a packet that comes later.
    MoreLater,
    Vanishes,
}

/// A person who publishes one file and serves it as a lie demands.
pub(crate) struct Owner {
    client: RawClient,
    content: Vec<u8>,
    tree: Vec<u8>,
    open: Option<Connection>,
    /// Done once, before the first chunk of the file goes out: its receiver has opened the part file by then.
    pub(crate) meanwhile: Option<Box<dyn FnOnce()>>,
    /// Its end is awaited once, when the first group that was asked for has gone out.
    pub(crate) held_until: Option<oneshot::Receiver<()>>,
}

impl Owner {
    pub(crate) async fn publishing(directory: &TestDirectory, content: Vec<u8>) -> Self {
        let size = content.len() as u64;
        Self::publishing_as(directory, content, size).await
    }

    /// Publishes a file as one of another size.
    pub(crate) async fn publishing_as(directory: &TestDirectory, content: Vec<u8>, size: u64) -> Self {
        let client = RawClient::registered(directory, "mallory", LoginKind::Resident).await;
        let (digest, tree) = digest_of(&content);
        let size = FileSize::try_from(size).unwrap();
        let entry = Entry {
            name: file_name("bait"),
            size,
            digest,
            kind: EntryKind::File,
            scope: Scope::Everyone,
            hides_address: false,
        };
        assert_eq!(client.ask(DirectoryRequest::Publish(entry)).await, Ok(DirectoryReply::Done));
        Self { client, content, tree: tree.to_bytes(), open: None, meanwhile: None, held_until: None }
    }

    /// Takes dials and lies until it is dropped. The connection stays for the next lie, since nobody may dial all the
    /// time.
    pub(crate) async fn serve(&mut self, lie: Lie) -> Infallible {
        loop {
            while let Some(connection) = self.open.clone() {
                match connection.accept_stream().await {
                    Ok(stream) => self.answer_peer(stream, &connection, lie).await,
                    Err(_) => self.open = None,
                }
            }
            tokio::select! {
                stream = self.client.connection.accept_stream() => self.client.answer_directory(stream.unwrap()).await,
                connection = self.client.next_connection() => self.open = Some(connection),
            }
        }
    }

    async fn answer_peer(&mut self, mut stream: Stream, connection: &Connection, lie: Lie) {
        match stream.read_frame().await.unwrap() {
            PeerRequest::Fetch(Fetch { part, .. }) => {
                if part != FetchPart::Tree
                    && let Some(meanwhile) = self.meanwhile.take()
                {
                    meanwhile();
                }
                let mut bytes = self.answer_to(part, lie);
                if let Some(held) = self.held_until.take_if(|_| part != FetchPart::Tree) {
                    let rest = bytes.split_off(bytes.len().min(ANSWER_BYTES_MAX + chunk::encoded_bytes(GROUP)));
                    stream.write(bytes.into()).await.unwrap();
                    drop(held.await);
                    bytes = rest;
                }
                if lie == Lie::Vanishes && part != FetchPart::Tree {
                    connection.close(CloseCode::Done);
                }
                // The other side may have hung up in the middle: that is what it should do.
                drop(stream.write(bytes.into()).await);
                if lie == Lie::MoreLater && part == FetchPart::Tree {
                    self.client.identify("mallory").await;
                    drop(stream.write(vec![7].into()).await);
                }
            }
            PeerRequest::Message(_) | PeerRequest::Profile(_) | PeerRequest::Exclusive(_) => {
                panic!("nobody writes here")
            }
            PeerRequest::Nominate | PeerRequest::Received { .. } | PeerRequest::Receipts(_) => {
                stream.write_frame(&Ok::<(), Refusal>(())).await.unwrap()
            }
        }
        stream.finish();
    }

    /// The bytes of a whole answer stream.
    fn answer_to(&self, part: FetchPart, lie: Lie) -> Vec<u8> {
        // Sizes that no file has are written, too: a size is a number on the wire.
        let size = if let Lie::Size(size) = lie { size } else { self.content.len() as u64 };
        let answer: Result<u64, Refusal> = if let Lie::Refuses(refusal) = lie { Err(refusal) } else { Ok(size) };
        let mut bytes = codec::encode_frame(&answer).unwrap();
        match part {
            _ if lie == Lie::NotEvenAnAnswer => bytes = vec![0xff; 100],
            _ if answer.is_err() => {}
            FetchPart::Tree => self.tree_chunks(lie, &mut bytes),
            FetchPart::Files { .. } => panic!("this is no folder"),
            FetchPart::Groups { first, count } => {
                let first = usize::try_from(first).unwrap();
                let groups = self.content.chunks(GROUP).skip(first).take(usize::try_from(count).unwrap());
                let group_chunks = |group: &[u8]| {
                    let mut chunks = Vec::new();
                    chunk::encode(group, &mut chunks);
                    chunks
                };
                let mut chunks: Vec<Vec<u8>> = groups.map(group_chunks).collect();
                rearrange(&mut chunks, lie);
                chunks.last_mut().into_iter().for_each(|group| spoil(group, lie));
                let mut chunks = chunks.concat();
                let goes_on = !matches!(
                    lie,
                    Lie::CutOff | Lie::RefusesMidway(_) | Lie::RefusesWithoutReason | Lie::RefusesWithGarbage(_)
                );
                chunks.extend(goes_on.then_some(chunk::END));
                chunks.extend((lie == Lie::MoreAfterTheEnd).then_some(7));
                if let Lie::FlippedBit(bit) = lie {
                    chunks[bit / 8] ^= 1 << (bit % 8);
                }
                bytes.extend(chunks);
            }
        }
        bytes
    }

    fn tree_chunks(&self, lie: Lie, bytes: &mut Vec<u8>) {
        let mut tree = self.tree.clone();
        match lie {
            Lie::WrongTree => tree[40] ^= 1,
            Lie::ShortTree => tree.truncate(64),
            Lie::LongTree => tree.extend([7; 32]),
            _ => {}
        }
        chunk::encode(&tree, bytes);
        bytes.push(chunk::END);
    }
}

/// Changes which groups there are, and in which order.
fn rearrange(groups: &mut Vec<Vec<u8>>, lie: Lie) {
    match lie {
        Lie::NothingButTheEnd => groups.clear(),
        Lie::SwappedGroups if groups.len() > 1 => groups.swap(0, 1),
        Lie::RepeatedGroup => groups.insert(0, groups[0].clone()),
        Lie::MissingGroup => drop(groups.pop()),
        _ => {}
    }
}

/// Changes the encoded chunks of a group: 200 + 1 bytes for each full one.
fn spoil(chunks: &mut Vec<u8>, lie: Lie) {
    let second = 201;
    match lie {
        Lie::WrongBytes => chunks[second + 7] ^= 1,
        Lie::ShortChunk => chunks[second] = 199,
        Lie::LongChunk => chunks[second] = 201,
        Lie::EarlyEnd => chunks[second] = chunk::END,
        Lie::CutOff => chunks.truncate(second + 100),
        Lie::RefusesMidway(refusal) => {
            chunks.truncate(second);
            chunks.push(chunk::REFUSAL);
            chunks.extend(codec::encode_frame(&refusal).unwrap());
        }
        Lie::RefusesWithoutReason => {
            chunks.truncate(second);
            chunks.push(chunk::REFUSAL);
        }
        Lie::RefusesWithGarbage(garbage) => {
            chunks.truncate(second);
            chunks.push(chunk::REFUSAL);
            chunks.extend(garbage);
        }
        Lie::RefusesWithinAChunk => {
            chunks.truncate(second + 100);
            chunks.push(chunk::REFUSAL);
            chunks.extend(codec::encode_frame(&Refusal::FileChanged).unwrap());
        }
        Lie::None
        | Lie::WrongTree
        | Lie::ShortTree
        | Lie::LongTree
        | Lie::Size(_)
        | Lie::FlippedBit(_)
        | Lie::NothingButTheEnd
        | Lie::SwappedGroups
        | Lie::RepeatedGroup
        | Lie::MissingGroup
        | Lie::Refuses(_)
        | Lie::NotEvenAnAnswer
        | Lie::MoreAfterTheEnd
        | Lie::MoreLater
        | Lie::Vanishes => {}
    }
}

#[tokio::test]
async fn no_lie_of_an_owner_becomes_a_file() {
    let directory = TestDirectory::start();
    let alice = TestPeer::join(&directory, "alice").await;
    let mut owner = Owner::publishing(&directory, content(FILE_BYTES)).await;
    for (lie, kind, refusal) in [
        (Lie::WrongBytes, FailureKind::Integrity, None),
        (Lie::WrongTree, FailureKind::Integrity, None),
        (Lie::ShortTree, FailureKind::Integrity, None),
        (Lie::LongTree, FailureKind::Integrity, None),
        (Lie::Size(0), FailureKind::Integrity, None),
        (Lie::Size(1), FailureKind::Integrity, None),
        (Lie::Size(FILE_BYTES as u64 - 1), FailureKind::Integrity, None),
        (Lie::Size(FILE_BYTES as u64 + 1), FailureKind::Integrity, None),
        (Lie::Size(1 << 32), FailureKind::Integrity, None),
        (Lie::Size(1 << 53), FailureKind::Partial, None),
        (Lie::Size(u64::MAX), FailureKind::Partial, None),
        (Lie::NothingButTheEnd, FailureKind::Integrity, None),
        (Lie::SwappedGroups, FailureKind::Integrity, None),
        (Lie::RepeatedGroup, FailureKind::Integrity, None),
        (Lie::MissingGroup, FailureKind::Integrity, None),
        (Lie::RefusesWithGarbage(&[0xff; 4]), FailureKind::Partial, None),
        (Lie::RefusesWithGarbage(&[1, 0, 0, 0, 0xff]), FailureKind::Partial, None),
        (Lie::RefusesWithinAChunk, FailureKind::Partial, None),
        (Lie::ShortChunk, FailureKind::Integrity, None),
        (Lie::LongChunk, FailureKind::Integrity, None),
        (Lie::EarlyEnd, FailureKind::Integrity, None),
        (Lie::MoreAfterTheEnd, FailureKind::Integrity, None),
        (Lie::MoreLater, FailureKind::Integrity, None),
        (Lie::CutOff, FailureKind::Partial, None),
        (Lie::RefusesWithoutReason, FailureKind::Partial, None),
        (Lie::NotEvenAnAnswer, FailureKind::Partial, None),
        (Lie::Vanishes, FailureKind::Partial, None),
        (Lie::RefusesMidway(Refusal::FileChanged), FailureKind::Integrity, Some(Refusal::FileChanged)),
        (Lie::RefusesMidway(Refusal::Storage), FailureKind::Disk, Some(Refusal::Storage)),
        (Lie::Refuses(Refusal::UnknownFile), FailureKind::Other, Some(Refusal::UnknownFile)),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let got = tokio::select! {
            never = owner.serve(lie) => match never {},
            got = alice.get_into(folder.path().to_owned(), "mallory", "bait", Collision::Refuse) => got,
        };
        let failure = got.err().unwrap_or_else(|| panic!("{lie:?} became a file"));
        assert_eq!((failure.kind, failure.refusal), (kind, refusal.map(Refusal::number)), "{lie:?}: {failure}");
        assert!(!folder.path().join("bait").exists(), "{lie:?} became a file");
    }
}

#[tokio::test]
async fn what_was_right_before_a_lie_is_kept_for_an_honest_source() {
    let directory = TestDirectory::start();
    let alice = TestPeer::join(&directory, "alice").await;
    let mut owner = Owner::publishing(&directory, content(FILE_BYTES)).await;
    for (lie, kept) in [(Lie::WrongBytes, None), (Lie::None, Some(2 * GROUP as u64))] {
        let got = tokio::select! {
            never = owner.serve(lie) => match never {},
            got = alice.get("mallory", "bait", Collision::Refuse) => got,
        };
        assert_eq!(got.ok().map(|(_, resumed)| resumed), kept);
    }
    assert!(fs::read(alice.machine.downloads().join("bait")).unwrap() == content(FILE_BYTES));
}
