//! One file from several owners: all give bytes, and whoever lies, leaves or dawdles costs neither the file nor much time.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use qchat::peer::event::Event;
use qchat::peer::failure::{Failure, FailureKind};
use qchat::peer::handle::{Command, Source};
use qchat::seal::digest::HashTree;
use qchat::storage::partial_file::Collision;
use qchat::storage::receive_tree::Executable;
use qchat::transport::connection::{Connection, TransportError};
use qchat::transport::stream::Stream;
use qchat::wire::account::LoginKind;
use qchat::wire::catalog::{Entry, EntryKind, Scope};
use qchat::wire::chunk;
use qchat::wire::directory::{DirectoryReply, DirectoryRequest};
use qchat::wire::ids::{FileDigest, FileSize};
use qchat::wire::refusal::{CloseCode, Refusal};
use qchat::wire::transfer::{Fetch, FetchAnswer, FetchPart, FetchReply, PeerRequest};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::world::{RawClient, TestDirectory, TestPeer, content, file_name, in_time, name};

const GROUP: usize = 256 * 1_024;

/// Large enough that several are asked for it.
const GROUPS: usize = 48;

/// How an owner serves.
#[derive(Debug, Clone, Copy)]
enum Manner {
    /// A group each so many milliseconds.
    Paced(u64),
    /// Bytes that are not the file's, from this group on.
    LiesAfter(usize),
    /// Hangs up after so many groups, and is gone.
    LeavesAfter(usize),
    /// One chunk after another, so slowly that a group takes a minute.
    Trickles,
}

/// A file as its owners have it.
struct SharedFile {
    content: Vec<u8>,
    tree: Vec<u8>,
    digest: FileDigest,
}

impl SharedFile {
    fn of_groups(groups: usize) -> Arc<Self> {
        let content = content(groups * GROUP - 77);
        let (digest, tree) = HashTree::of_reader(&mut &*content, &mut |_| {}).unwrap();
        Arc::new(Self { content, tree: tree.to_bytes(), digest })
    }

    fn size(&self) -> FileSize {
        FileSize::try_from(self.content.len() as u64).unwrap()
    }
}

/// Somebody who publishes the file and serves it in their manner until this is dropped.
struct Owner {
    /// Groups that were sent.
    served: Arc<AtomicUsize>,
    /// Rings when they are told that the file is complete.
    told: Arc<Notify>,
    _running: JoinSet<()>,
}

impl Owner {
    async fn publishing(directory: &TestDirectory, who: &str, file: &Arc<SharedFile>, manner: Manner) -> Self {
        let client = RawClient::registered(directory, who, LoginKind::Resident).await;
        let entry = Entry {
            name: file_name("bait"),
            size: file.size(),
            digest: file.digest,
            kind: EntryKind::File,
            scope: Scope::Everyone,
            hides_address: false,
        };
        assert_eq!(client.ask(DirectoryRequest::Publish(entry)).await, Ok(DirectoryReply::Done));
        let (served, told) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let hands = Arc::new(Hands { file: file.clone(), manner, served: served.clone(), told: told.clone() });
        let mut running = JoinSet::new();
        running.spawn(async move {
            let mut connections = JoinSet::new();
            let mut next = Box::pin(client.next_connection());
            loop {
                tokio::select! {
                    connection = &mut next => {
                        connections.spawn(hands.clone().serve(connection));
                        next = Box::pin(client.next_connection());
                    }
                    // A directory that has stopped asks nothing.
                    Ok(stream) = client.connection.accept_stream() => client.answer_directory(stream).await,
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Self { served, told, _running: running }
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }
}

/// What an owner does on every stream.
struct Hands {
    file: Arc<SharedFile>,
    manner: Manner,
    served: Arc<AtomicUsize>,
    told: Arc<Notify>,
}

impl Hands {
    async fn serve(self: Arc<Self>, connection: Connection) {
        let mut streams = JoinSet::new();
        while let Ok(stream) = connection.accept_stream().await {
            let (hands, connection) = (self.clone(), connection.clone());
            // The other side may hang up in the middle: then there is nothing more to do.
            streams.spawn(async move { drop(hands.answer(stream, &connection).await) });
        }
    }

    async fn answer(&self, mut stream: Stream, connection: &Connection) -> Result<(), TransportError> {
        match stream.read_frame().await? {
            PeerRequest::Fetch(Fetch { part, .. }) => {
                let answer: FetchAnswer = Ok(FetchReply { size: self.file.size() });
                stream.write_frame(&answer).await?;
                match part {
                    FetchPart::Tree => stream.write(encoded(&self.file.tree).into()).await?,
                    FetchPart::Files { .. } => panic!("this is no folder"),
                    FetchPart::Groups { first, count } => {
                        for group in first..first + count {
                            self.send_group(usize::try_from(group).unwrap(), &mut stream, connection).await?;
                        }
                    }
                }
                stream.write(vec![chunk::END].into()).await?;
            }
            PeerRequest::Received { .. } => {
                self.told.notify_one();
                stream.write_frame(&Ok::<(), Refusal>(())).await?;
            }
            PeerRequest::Nominate
            | PeerRequest::Receipts(_)
            | PeerRequest::Message(_)
            | PeerRequest::Profile(_)
            | PeerRequest::Exclusive(_) => stream.abort(CloseCode::BadFrame),
        }
        stream.finish();
        stream.wait_sent().await;
        Ok(())
    }

    async fn send_group(&self, group: usize, stream: &mut Stream, gone: &Connection) -> Result<(), TransportError> {
        let before = self.served.fetch_add(1, Ordering::Relaxed);
        let end = self.file.content.len().min((group + 1) * GROUP);
        let mut chunks = encoded(&self.file.content[group * GROUP..end]);
        match self.manner {
            Manner::Paced(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
            Manner::LiesAfter(groups) if before >= groups => chunks[77] ^= 1,
            Manner::LeavesAfter(groups) if before >= groups => gone.close(CloseCode::ShuttingDown),
            Manner::LiesAfter(_) | Manner::LeavesAfter(_) => {}
            Manner::Trickles => {
                for chunk in chunks.chunks(201) {
                    stream.write(chunk.to_vec().into()).await?;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                return Ok(());
            }
        }
        stream.write(chunks.into()).await
    }
}

fn encoded(payload: &[u8]) -> Vec<u8> {
    let mut chunks = Vec::new();
    chunk::encode(payload, &mut chunks);
    chunks
}

/// What a command for somebody's file comes to.
async fn get(by: &TestPeer, owner: &str) -> Result<Vec<Event>, Failure> {
    let source = Source::Named { owner: name(owner), name: file_name("bait") };
    by.ask(Command::Get {
        source,
        folder: by.machine.downloads(),
        collision: Collision::Refuse,
        executable: Executable::Never,
        once: false,
    })
    .await
}

#[track_caller]
fn check_received(rows: &[Event], file: &SharedFile, dropped: &[&str]) {
    let Some(Event::Received { path, .. }) = rows.last() else { panic!("{rows:?}") };
    assert!(fs::read(path).unwrap() == file.content, "the file that came is another one");
    let dropped_rows = rows.iter().filter_map(|row| match row {
        Event::SourceDropped { name, reason, .. } => {
            assert_eq!(reason, "sent wrong bytes");
            Some(name.as_str())
        }
        _ => None,
    });
    assert_eq!(dropped_rows.collect::<Vec<_>>(), dropped);
}

#[tokio::test]
async fn four_owners_of_one_file_all_give_bytes_and_are_told_of_its_end() {
    let directory = TestDirectory::start();
    let bob = TestPeer::join(&directory, "bob").await;
    let file = SharedFile::of_groups(GROUPS);
    let mut owners = Vec::new();
    for who in ["carol", "dave", "erin", "frank"] {
        owners.push(Owner::publishing(&directory, who, &file, Manner::Paced(60)).await);
    }
    check_received(&get(&bob, "carol").await.unwrap(), &file, &[]);
    let served: Vec<_> = owners.iter().map(Owner::served).collect();
    assert!(served.iter().all(|groups| *groups > 0), "{served:?}");
    assert!(served.iter().sum::<usize>() <= GROUPS + 12, "much came twice: {served:?}");
    for owner in &owners {
        in_time(owner.told.notified()).await;
    }
}

#[tokio::test]
async fn a_file_is_fetched_by_its_digest_from_all_who_have_it() {
    let directory = TestDirectory::start();
    let bob = TestPeer::join(&directory, "bob").await;
    let file = SharedFile::of_groups(GROUPS);
    let carol = Owner::publishing(&directory, "carol", &file, Manner::Paced(60)).await;
    let dave = Owner::publishing(&directory, "dave", &file, Manner::Paced(60)).await;
    let (source, folder) = (Source::Digest { digest: file.digest }, bob.machine.downloads());
    let rows = bob
        .ask(Command::Get { source, folder, collision: Collision::Refuse, executable: Executable::Never, once: false })
        .await
        .unwrap();
    check_received(&rows, &file, &[]);
    assert!(carol.served() > 0 && dave.served() > 0, "{} and {}", carol.served(), dave.served());
}

/// What one who is honest gives in a second beside one who lies.
const SLOW: u64 = 8 << 20;

#[tokio::test]
async fn who_lies_is_dropped_by_name_and_the_file_is_right() {
    for lies_after in [0, 3] {
        let directory = TestDirectory::start();
        let bob = TestPeer::join(&directory, "bob").await;
        let file = SharedFile::of_groups(GROUPS);
        let _mallory = Owner::publishing(&directory, "mallory", &file, Manner::LiesAfter(lies_after)).await;
        let carol = TestPeer::join(&directory, "carol").await;
        carol.share("the same by another name", &file.content).await;
        // Faster, she would have given everything before anybody lies.
        carol.ask(Command::SetLimit { bytes_per_second: Some(SLOW) }).await.unwrap();
        check_received(&get(&bob, "mallory").await.unwrap(), &file, &["mallory"]);
    }
}

#[tokio::test]
async fn when_everybody_lies_there_is_no_file() {
    let directory = TestDirectory::start();
    let bob = TestPeer::join(&directory, "bob").await;
    let file = SharedFile::of_groups(GROUPS);
    let _liars = [
        Owner::publishing(&directory, "mallory", &file, Manner::LiesAfter(5)).await,
        Owner::publishing(&directory, "oscar", &file, Manner::LiesAfter(0)).await,
    ];
    let failure = get(&bob, "mallory").await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Integrity, "{failure}");
    assert!(!bob.machine.downloads().join("bait").exists());
}

#[tokio::test]
async fn who_leaves_in_the_middle_is_replaced_by_the_others() {
    let directory = TestDirectory::start();
    let bob = TestPeer::join(&directory, "bob").await;
    let file = SharedFile::of_groups(GROUPS);
    let carol = Owner::publishing(&directory, "carol", &file, Manner::LeavesAfter(6)).await;
    let dave = Owner::publishing(&directory, "dave", &file, Manner::Paced(20)).await;
    check_received(&get(&bob, "carol").await.unwrap(), &file, &[]);
    assert!(carol.served() > 0 && dave.served() > 0);
}

#[tokio::test]
async fn who_dawdles_is_not_waited_for() {
    let directory = TestDirectory::start();
    let bob = TestPeer::join(&directory, "bob").await;
    let file = SharedFile::of_groups(GROUPS);
    let _slow = Owner::publishing(&directory, "carol", &file, Manner::Trickles).await;
    let dave = Owner::publishing(&directory, "dave", &file, Manner::Paced(10)).await;
    check_received(&get(&bob, "carol").await.unwrap(), &file, &[]);
    assert!(dave.served() >= GROUPS, "{}", dave.served());
}

#[tokio::test]
async fn who_is_away_is_stood_in_for_by_others_who_have_the_same() {
    let directory = TestDirectory::start();
    let bob = TestPeer::join(&directory, "bob").await;
    let file = SharedFile::of_groups(2);
    let carol = TestPeer::join(&directory, "carol").await;
    carol.share("bait", &file.content).await;
    carol.stop().await;
    let failure = get(&bob, "carol").await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Offline, "{failure}");
    let _dave = Owner::publishing(&directory, "dave", &file, Manner::Paced(0)).await;
    check_received(&get(&bob, "carol").await.unwrap(), &file, &[]);
}
