//! Folders that people share and offer: equal at the other end, resumed where they stopped, and nothing but what was
//! announced, whatever the other side does.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use qchat::peer::event::Event;
use qchat::peer::failure::{Failure, FailureKind};
use qchat::peer::handle::{Command, Source};
use qchat::peer::path::PathKind;
use qchat::seal::digest::digest_of;
use qchat::storage::partial_file::Collision;
use qchat::storage::receive_tree::Executable;
use qchat::transport::connection::Connection;
use qchat::transport::stream::Stream;
use qchat::wire::account::LoginKind;
use qchat::wire::catalog::{Entry, EntryKind, Scope};
use qchat::wire::chunk;
use qchat::wire::codec;
use qchat::wire::directory::{DirectoryPush, DirectoryReply, DirectoryRequest, PushAnswer, PushReply};
use qchat::wire::ids::FileSize;
use qchat::wire::limits::REQUEST_DEADLINE;
use qchat::wire::manifest::{Content, FileContent, Manifest, ManifestEntry, RelativePath};
use qchat::wire::refusal::{CloseCode, Refusal};
use qchat::wire::rendezvous::Purpose;
use qchat::wire::transfer::{Fetch, FetchAnswer, FetchPart, FetchReply, PeerRequest};
use rustix::fs::{CWD, FileType, Mode};

use crate::world::{Fetched, RawClient, TestDirectory, TestPeer, content, file_name, in_time, name, received};

const GROUP: usize = 256 * 1_024;

/// What is below a folder: of each path the bytes, and the time of a file.
type Tree = BTreeMap<PathBuf, Option<(Vec<u8>, SystemTime)>>;

/// Reads what `diff -r` compares; links and pipes count as what they are not.
fn tree(folder: &Path) -> Tree {
    let mut found = Tree::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let relative = path.strip_prefix(folder).unwrap().to_owned();
            if metadata.is_dir() {
                folders.push(path);
                found.insert(relative, None);
            } else {
                assert!(metadata.is_file(), "{} is no file", path.display());
                found.insert(relative, Some((fs::read(&path).unwrap(), metadata.modified().unwrap())));
            }
        }
    }
    found
}

/// Fails with the paths that differ, not with their bytes.
#[track_caller]
fn assert_same(one: &Tree, other: &Tree) {
    let paths = one.keys().chain(other.keys());
    let differing: Vec<&PathBuf> = paths.filter(|path| one.get(*path) != other.get(*path)).collect();
    assert!(differing.is_empty(), "{differing:?} differ");
}

fn write(folder: &Path, files: &[(&str, Vec<u8>)]) {
    for (index, (path, bytes)) in files.iter().enumerate() {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_600_000_000 + index as u64, 123_456_789);
        File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    }
}

/// A folder of all kinds of files.
fn photos(peer: &TestPeer) -> PathBuf {
    let folder = peer.machine.file("photos", b"").with_file_name("photos");
    fs::remove_file(&folder).unwrap();
    let long = "n".repeat(255);
    write(
        &folder,
        &[
            ("one", content(1)),
            ("empty", Vec::new()),
            (".hidden/.dot", content(200)),
            ("a/b/c/deep", content(10_000)),
            ("a/b-beside", content(GROUP)),
            ("large", content(3 * GROUP + 7)),
            ("a/large again", content(3 * GROUP + 7)),
            ("a/b/larger", content(5 * GROUP)),
            (&long, content(17)),
            ("Grüße/文 (final) & co", content(300)),
            ("a/.large", content(99)),
        ],
    );
    fs::create_dir(folder.join("empty folder")).unwrap();
    folder
}

async fn share(peer: &TestPeer, path: &Path) -> Vec<Event> {
    let share = Command::Share { path: path.to_owned(), hides_address: false, filter: Default::default() };
    peer.ask(share).await.unwrap()
}

/// How many bytes a fetch had here already, of a folder.
async fn get(peer: &TestPeer, owner: &str, folder: &str) -> Fetched {
    peer.get(owner, folder, Collision::Refuse).await
}

async fn alice_and_bob(directory: &TestDirectory) -> (TestPeer, TestPeer) {
    (TestPeer::join(directory, "alice").await, TestPeer::join(directory, "bob").await)
}

#[tokio::test]
async fn a_folder_comes_over_equal() {
    let directory = TestDirectory::start();
    let (mut alice, bob) = alice_and_bob(&directory).await;
    let folder = photos(&alice);
    let expected = tree(&folder);
    symlink("/etc", folder.join("link")).unwrap();
    rustix::fs::mknodat(CWD, folder.join("a/pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    fs::write(folder.join(OsStr::from_bytes(b"not \xff UTF-8")), "x").unwrap();
    fs::create_dir(folder.join(OsStr::from_bytes(b"a/nor \xfe"))).unwrap();
    fs::set_permissions(folder.join("one"), fs::Permissions::from_mode(0o755)).unwrap();

    let rows = share(&alice, &folder).await;
    let skipped = rows.iter().filter(|row| matches!(row, Event::Skipped { .. })).count();
    assert_eq!(skipped, 4, "{rows:?}");
    let is_unnamed = |row: &&Event| matches!(row, Event::Skipped { why, .. } if why == "its name is not UTF-8");
    assert_eq!(rows.iter().filter(is_unnamed).count(), 2, "{rows:?}");
    let Some(Event::Shared { files: Some(11), size, .. }) = rows.last() else { panic!("{rows:?}") };
    let bytes = expected.values().flatten().map(|(bytes, _)| bytes.len() as u64).sum::<u64>();
    assert_eq!(*size, bytes);

    let rows = bob.ask(get_command(&bob, Collision::Refuse, Executable::Never)).await.unwrap();
    let came = bob.machine.downloads().join("photos");
    let Some(Event::Received { path, files: Some(11), resumed: 0, size, .. }) = rows.last() else { panic!("{rows:?}") };
    assert_eq!((path, *size), (&came, bytes));
    assert_same(&tree(&came), &expected);
    assert_eq!(fs::metadata(came.join("one")).unwrap().mode() & 0o111, 0, "executable, though nobody asked");
    assert_eq!(fs::read_dir(bob.machine.downloads()).unwrap().count(), 1, "something is left beside it");
    let sent = alice.until(|event| match event {
        Event::Sent { files, .. } => Some(*files),
        _ => None,
    });
    assert_eq!(sent.await, Some(11));

    let refused = get(&bob, "alice", "photos").await.unwrap_err();
    assert!(refused.message.contains("exists already"), "{refused}");
    let rows = bob.ask(get_command(&bob, Collision::Rename, Executable::Kept)).await.unwrap();
    let (second, _) = received(rows);
    assert_eq!(second, bob.machine.downloads().join("photos (1)"));
    assert_same(&tree(&second), &expected);
    assert_eq!(fs::metadata(second.join("one")).unwrap().mode() & 0o100, 0o100);
}

fn get_command(peer: &TestPeer, collision: Collision, executable: Executable) -> Command {
    let source = Source::Named { owner: name("alice"), name: file_name("photos") };
    Command::Get { source, folder: peer.machine.downloads(), collision, executable, once: false }
}

#[tokio::test]
async fn an_offered_folder_says_how_much_it_is_and_is_accepted_or_declined() {
    let directory = TestDirectory::start();
    let (alice, mut bob) = alice_and_bob(&directory).await;
    let folder = photos(&alice);
    let send =
        || Command::Send { to: name("bob"), paths: vec![folder.clone()], wait: true, filter: Default::default() };
    let bob_accepts = async {
        let offered = bob.until(|event| match event {
            Event::Offer { id, files, .. } => Some((*id, *files)),
            _ => None,
        });
        let (id, files) = offered.await;
        assert_eq!(files, Some(11));
        let (folder, collision, executable) = (bob.machine.downloads(), Collision::Refuse, Executable::Never);
        bob.ask(Command::Accept { offer: id.to_string(), folder, collision, executable }).await.unwrap();
    };
    let (sent, ()) = tokio::join!(alice.ask(send()), bob_accepts);
    let sent = sent.unwrap();
    assert!(sent.iter().any(|row| matches!(row, Event::Offered { files: Some(11), .. })), "{sent:?}");
    assert!(matches!(sent.last(), Some(Event::Sent { files: Some(11), .. })), "{sent:?}");
    assert_same(&tree(&bob.machine.downloads().join("photos")), &tree(&folder));
    let manifests = alice.machine.profile().folder().join("manifests");
    assert_eq!(fs::read_dir(&manifests).unwrap().count(), 0, "the manifest of what was sent is still there");

    let bob_declines = async {
        let id = bob.until(|event| if let Event::Offer { id, .. } = event { Some(*id) } else { None }).await;
        bob.ask(Command::Decline { offer: id.to_string() }).await.unwrap();
    };
    let (declined, ()) = tokio::join!(alice.ask(send()), bob_declines);
    assert_eq!(declined.unwrap_err().kind, FailureKind::Declined);
}

#[tokio::test]
async fn an_interrupted_folder_goes_on_from_what_is_here() {
    let directory = TestDirectory::start();
    let (alice, bob) = alice_and_bob(&directory).await;
    let folder = photos(&alice);
    for number in 0..400 {
        write(&folder, &[(&format!("many/{number}"), content(5_000 + number))]);
    }
    write(&folder, &[("zz", content(64 * GROUP))]);
    share(&alice, &folder).await;
    let part = bob.machine.downloads().join(".photos.qpart/tree");
    let rows = bob.handle.run(get_command(&bob, Collision::Refuse, Executable::Never)).await;
    in_time(async {
        while !part.join("many/0").exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(rows);
    let bob = bob.stop().await.resident().await;
    assert!(!bob.machine.downloads().join("photos").exists(), "half a folder has the final name");
    // What does not belong there, and a file that somebody changed meanwhile.
    fs::write(part.join("stray"), "left by another version").unwrap();
    fs::create_dir_all(part.join("old/folder")).unwrap();
    symlink("/etc/passwd", part.join("old/link")).unwrap();
    fs::write(part.join("one"), "2").unwrap();

    let (path, resumed) = get(&bob, "alice", "photos").await.unwrap();
    assert!(resumed > 0, "everything was fetched again");
    assert_same(&tree(&path), &tree(&folder));
    assert_eq!(fs::read_dir(bob.machine.downloads()).unwrap().count(), 1, "something is left beside it");
}

#[tokio::test]
async fn a_file_that_changes_is_named_and_the_others_come() {
    let directory = TestDirectory::start();
    let (alice, bob) = alice_and_bob(&directory).await;
    let folder = photos(&alice);
    share(&alice, &folder).await;
    fs::write(folder.join("a/b/c/deep"), "changed").unwrap();
    fs::remove_file(folder.join("a/b/larger")).unwrap();

    let failure = get(&bob, "alice", "photos").await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Partial, "{failure:?}");
    assert!(failure.message.contains("2 files") && failure.message.contains("photos/a/b/c/deep"), "{failure}");
    let part = bob.machine.downloads().join(".photos.qpart/tree");
    assert_eq!(fs::read(part.join("large")).unwrap(), content(3 * GROUP + 7));
    assert_eq!(fs::read(part.join("Grüße/文 (final) & co")).unwrap(), content(300));
    assert!(!bob.machine.downloads().join("photos").exists());

    share(&alice, &folder).await;
    let (path, resumed) = get(&bob, "alice", "photos").await.unwrap();
    assert_same(&tree(&path), &tree(&folder));
    let all = tree(&folder).values().flatten().map(|(bytes, _)| bytes.len() as u64).sum::<u64>();
    assert_eq!(resumed, all - "changed".len() as u64);
}

#[tokio::test]
async fn overwriting_a_folder_replaces_what_comes_and_leaves_the_rest() {
    let directory = TestDirectory::start();
    let (alice, bob) = alice_and_bob(&directory).await;
    let folder = photos(&alice);
    share(&alice, &folder).await;
    let target = bob.machine.downloads().join("photos");
    write(&target, &[("one", b"old".to_vec()), ("mine", b"mine".to_vec()), ("large", content(3 * GROUP + 7))]);
    let (path, resumed) = bob.get("alice", "photos", Collision::Overwrite).await.unwrap();
    assert_eq!((path, resumed), (target.clone(), 3 * GROUP as u64 + 7), "what is right already is not fetched");
    let mut came = tree(&target);
    assert!(came.remove(Path::new("mine")).is_some());
    // What was right already has kept its time.
    came.insert("large".into(), tree(&folder)[Path::new("large")].clone());
    assert_same(&came, &tree(&folder));
    assert_eq!(fs::read_dir(bob.machine.downloads()).unwrap().count(), 1, "something is left beside it");
}

#[tokio::test]
async fn members_of_a_folder_are_served_to_whom_it_is_for_and_links_lead_nowhere() {
    let directory = TestDirectory::start();
    let (alice, mut bob) = alice_and_bob(&directory).await;
    let folder = photos(&alice);
    let send = Command::Send { to: name("bob"), paths: vec![folder.clone()], wait: false, filter: Default::default() };
    alice.ask(send).await.unwrap();
    let carol = RawClient::registered(&directory, "carol", crate::world::ERRAND).await;
    alice.allow("carol").await;
    alice.share("public", b"public").await;
    let connection = carol.dial("alice", alice.key()).await;
    for digest in [digest_of(&content(1)), digest_of(&content(300))] {
        let fetch = PeerRequest::Fetch(Fetch { digest, part: FetchPart::Groups { first: 0, count: 1 } });
        let answer: FetchAnswer = in_time(connection.request(&fetch)).await.unwrap();
        assert_eq!(answer, Err(Refusal::UnknownFile), "carol was not offered it");
    }
    // The folder's place is taken by a link to something else with the same names.
    let away = folder.with_file_name("away");
    fs::rename(folder.join("a"), &away).unwrap();
    symlink(&away, folder.join("a")).unwrap();
    let id = bob.until(|event| if let Event::Offer { id, .. } = event { Some(*id) } else { None }).await;
    let (downloads, collision, executable) = (bob.machine.downloads(), Collision::Refuse, Executable::Never);
    let accept = Command::Accept { offer: id.to_string(), folder: downloads, collision, executable };
    let failure = bob.ask(accept).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Partial, "{failure:?}");
    assert!(!bob.machine.downloads().join(".photos.qpart/tree/a/b-beside").exists(), "a link was followed");
    assert!(bob.machine.downloads().join(".photos.qpart/tree/one").exists());
}

/// The path of a folder of so many files, each a group long: more than comes in a second through a limit of 4 MB/s.
fn many(peer: &TestPeer) -> PathBuf {
    let folder = peer.machine.downloads().with_file_name("photos");
    let bytes = content(GROUP);
    (0..64).for_each(|number| write(&folder, &[(&number.to_string(), bytes.clone())]));
    folder
}

#[tokio::test]
async fn small_files_move_to_a_direct_link_as_soon_as_there_is_one() {
    let directory = TestDirectory::start();
    let (mut alice, bob) = alice_and_bob(&directory).await;
    let folder = many(&alice);
    // Through the relay, until alice allows more.
    let share = Command::Share { path: folder.clone(), hides_address: true, filter: Default::default() };
    alice.ask(share).await.unwrap();
    bob.handle.set_limit(Some(4_000_000)).unwrap();
    let mut rows = bob.handle.run(get_command(&bob, Collision::Refuse, Executable::Never)).await;
    let first = in_time(async {
        loop {
            match rows.recv().await.unwrap() {
                Event::Progress { via: Some(via), .. } => return via.path,
                Event::Received { .. } | Event::Failed { .. } => panic!("no file came under way"),
                _ => {}
            }
        }
    });
    assert_eq!(first.await, PathKind::Relay);
    alice.allow("bob").await;
    bob.ask(Command::Connect { to: name("alice"), wait: true }).await.unwrap();
    bob.handle.set_limit(None).unwrap();
    let last = in_time(async {
        loop {
            match rows.recv().await.unwrap() {
                Event::Received { path, via, .. } => return (path, via.unwrap().path),
                Event::Failed { failure } => panic!("{failure}"),
                _ => {}
            }
        }
    });
    let (path, last) = last.await;
    assert_eq!(last, PathKind::Direct);
    assert_same(&tree(&path), &tree(&folder));
    // Nobody is told that bob has left when he goes on over another link.
    let noted = alice.until(|event| match event {
        Event::Note { text } => Some(Some(text.clone())),
        Event::Sent { .. } => Some(None),
        _ => None,
    });
    assert_eq!(noted.await, None);
}

/// Somebody who publishes a folder and serves what they like as its manifest and files.
struct Mallory {
    client: RawClient,
    manifest: Vec<u8>,
    /// What is sent for each small file, in the order of the manifest.
    files: Vec<Vec<u8>>,
    /// Whether they hang up, or say nothing, when they are told that the folder is complete.
    at_the_end: AtTheEnd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AtTheEnd {
    Thanks,
    HangsUp,
    IsSilent,
}

impl Mallory {
    async fn publishing(directory: &TestDirectory, manifest: Vec<u8>, announced: (u64, u64), files: &[&[u8]]) -> Self {
        let client = RawClient::registered(directory, "mallory", LoginKind::Resident).await;
        let entry = Entry {
            name: file_name("bait"),
            size: FileSize::try_from(announced.1).unwrap(),
            digest: digest_of(&manifest),
            kind: EntryKind::Folder { files: announced.0 },
            scope: Scope::Everyone,
            hides_address: false,
        };
        assert_eq!(client.ask(DirectoryRequest::Publish(entry)).await, Ok(DirectoryReply::Done));
        Self {
            client,
            manifest,
            files: files.iter().map(|bytes| bytes.to_vec()).collect(),
            at_the_end: AtTheEnd::Thanks,
        }
    }

    /// Takes dials and serves until it is dropped.
    async fn serve(&self) -> Infallible {
        let mut open: Option<Connection> = None;
        loop {
            while let Some(connection) = open.clone() {
                match connection.accept_stream().await {
                    Ok(stream) => self.answer_peer(stream, &connection).await,
                    Err(_) => open = None,
                }
            }
            tokio::select! {
                stream = self.client.connection.accept_stream() => drop(self.take_push(stream.unwrap()).await),
                connection = self.client.next_connection() => open = Some(connection),
            }
        }
    }

    /// Expects the dial that the directory announces, and says what for; takes everything else.
    async fn take_push(&self, mut stream: Stream) -> Option<Purpose> {
        let (answer, purpose): (PushAnswer, _) = match stream.read_frame().await.unwrap() {
            DirectoryPush::Dial(announced) => {
                let purpose = announced.purpose;
                (self.client.expect(announced), Some(purpose))
            }
            _ => (Ok(PushReply::Taken), None),
        };
        stream.write_frame(&answer).await.unwrap();
        stream.finish();
        purpose
    }

    async fn answer_peer(&self, mut stream: Stream, connection: &Connection) {
        let request = stream.read_frame().await.unwrap();
        self.answer_request(request, stream, connection).await;
    }

    async fn answer_request(&self, request: PeerRequest, mut stream: Stream, connection: &Connection) {
        match request {
            PeerRequest::Fetch(Fetch { part, .. }) => {
                let size = FileSize::try_from(self.manifest.len() as u64).unwrap();
                let answer: FetchAnswer = Ok(FetchReply { size });
                let mut bytes = codec::encode_frame(&answer).unwrap();
                match part {
                    FetchPart::Tree => {}
                    FetchPart::Groups { .. } => chunk::encode(&self.manifest, &mut bytes),
                    FetchPart::Files { .. } => self.files.iter().for_each(|file| chunk::encode(file, &mut bytes)),
                }
                bytes.push(chunk::END);
                // The other side may have hung up in the middle: that is what it should do.
                drop(stream.write(bytes.into()).await);
            }
            PeerRequest::Received { .. } if self.at_the_end == AtTheEnd::HangsUp => {
                return connection.close(CloseCode::ShuttingDown);
            }
            PeerRequest::Received { .. } if self.at_the_end == AtTheEnd::IsSilent => std::future::pending().await,
            _ => stream.write_frame(&Ok::<(), Refusal>(())).await.unwrap(),
        }
        stream.finish();
    }
}

fn entry(path: &str, bytes: &[u8]) -> ManifestEntry {
    let content = FileContent {
        size: FileSize::try_from(bytes.len() as u64).unwrap(),
        digest: digest_of(bytes),
        executable: true,
        modified_nanos: i64::MIN,
    };
    ManifestEntry { path: RelativePath::parse(path).unwrap(), what: Content::File(content) }
}

fn manifest(entries: Vec<ManifestEntry>) -> Manifest {
    let mut manifest = Manifest::default();
    entries.into_iter().for_each(|entry| manifest.push(entry).unwrap());
    manifest
}

/// Fetches the folder of somebody hostile. Gives the outcome and what lies in the folder of downloads then.
async fn bait(manifest: Vec<u8>, announced: (u64, u64), files: &[&[u8]]) -> (Fetched, Tree) {
    let directory = TestDirectory::start();
    let bob = TestPeer::join(&directory, "bob").await;
    let mallory = Mallory::publishing(&directory, manifest, announced, files).await;
    let fetched = tokio::select! {
        fetched = get(&bob, "mallory", "bait") => fetched,
        never = mallory.serve() => match never {},
    };
    let around: Vec<_> = fs::read_dir(bob.machine.downloads().parent().unwrap()).unwrap().collect();
    assert!(around.iter().all(|entry| entry.as_ref().unwrap().file_name() != "escaped"), "it got out");
    (fetched, tree(&bob.machine.downloads()))
}

fn failure(fetched: Fetched, kind: FailureKind) -> Failure {
    let failure = fetched.unwrap_err();
    assert_eq!(failure.kind, kind, "{failure:?}");
    failure
}

#[tokio::test]
async fn a_manifest_that_leads_elsewhere_or_lies_is_refused_before_anything_is_made() {
    let honest = manifest(vec![entry("a", b"12345"), entry("b", b"67")]).to_bytes().unwrap();
    // The path `a` becomes `../escaped`, whose length is one byte before it, and the same for an entry that comes twice.
    let with_path = |path: &str| {
        let mut bytes = honest.clone();
        let place = bytes.windows(2).position(|pair| pair == [1, b'a']).unwrap();
        let length = u8::try_from(path.len()).unwrap();
        bytes.splice(place..place + 2, [&[length], path.as_bytes()].concat());
        bytes
    };
    for path in ["../escaped", "/tmp/escaped", "x/../../escaped", "b", "c", "b/below"] {
        let (fetched, here) = bait(with_path(path), (2, 7), &[b"12345", b"67"]).await;
        failure(fetched, FailureKind::Integrity);
        assert!(here.is_empty(), "{here:?}");
    }
    for announced in [(1, 7), (2, 6), (20_000, 7)] {
        let (fetched, here) = bait(honest.clone(), announced, &[b"12345", b"67"]).await;
        let failure = failure(fetched, FailureKind::Integrity);
        assert!(failure.message.contains("announced"), "{failure}");
        assert!(here.is_empty(), "{here:?}");
    }
    let (fetched, _) = bait(honest, (2, 7), &[b"12345", b"67"]).await;
    fetched.unwrap();
}

#[tokio::test]
async fn a_wrong_small_file_ends_the_transfer_and_has_no_name() {
    let bytes = manifest(vec![entry("right", b"12345"), entry("wrong", b"67")]).to_bytes().unwrap();
    let (fetched, here) = bait(bytes.clone(), (2, 7), &[b"12345", b"6x"]).await;
    let wrong = failure(fetched, FailureKind::Integrity);
    assert!(wrong.message.contains("bait/wrong") && wrong.message.contains("mallory"), "{wrong}");
    assert!(here.contains_key(Path::new(".bait.qpart/tree/right")));
    assert!(!here.contains_key(Path::new(".bait.qpart/tree/wrong")));
    assert!(!here.contains_key(Path::new("bait")));
    let (fetched, _) = bait(bytes, (2, 7), &[b"12345"]).await;
    failure(fetched, FailureKind::Integrity);
}

#[tokio::test]
async fn names_that_are_one_name_here_become_two_files() {
    let entries = vec![entry("A", b"1"), entry("a", b"2"), entry("x:y", b"3"), entry("x?y", b"4"), entry("x_y", b"5")];
    let bytes = manifest(entries).to_bytes().unwrap();
    let (fetched, here) = bait(bytes, (5, 5), &[b"1", b"2", b"3", b"4", b"5"]).await;
    let (path, _) = fetched.unwrap();
    assert_eq!(path.file_name().unwrap(), "bait");
    let found = |name: &str| here[&Path::new("bait").join(name)].clone().unwrap().0;
    let names = ["A", "a", "x_y", "x_y (1)", "x_y (2)"];
    assert_eq!(names.map(found), [b"1", b"2", b"3", b"4", b"5"]);
}

#[tokio::test]
async fn a_folder_is_here_although_its_giver_has_gone_or_says_nothing() {
    let bytes = manifest(vec![entry("a", b"12345")]).to_bytes().unwrap();
    for at_the_end in [AtTheEnd::HangsUp, AtTheEnd::IsSilent] {
        let directory = TestDirectory::start();
        let bob = TestPeer::join(&directory, "bob").await;
        let mallory = Mallory::publishing(&directory, bytes.clone(), (1, 5), &[b"12345"]).await;
        let mallory = Mallory { at_the_end, ..mallory };
        let began = Instant::now();
        let (path, _) = tokio::select! {
            fetched = get(&bob, "mallory", "bait") => fetched.unwrap(),
            never = mallory.serve() => match never {},
        };
        assert_eq!(fs::read(path.join("a")).unwrap(), b"12345", "{at_the_end:?}");
        assert!(began.elapsed() < REQUEST_DEADLINE, "it was waited for a giver who {at_the_end:?}");
    }
}

/// What alice may send in a second, while others are faster.
const SLOW: u64 = 1 << 20;

#[tokio::test]
async fn a_folder_that_two_people_share_comes_from_both() {
    let directory = TestDirectory::start();
    let (mut alice, bob) = alice_and_bob(&directory).await;
    let mut carol = TestPeer::join(&directory, "carol").await;
    let files: Vec<String> = (0..2_000).map(|number| format!("many/{number:04}")).collect();
    for owner in [&alice, &carol] {
        let folder = owner.machine.file("one", b"").with_file_name("photos");
        let files: Vec<(&str, Vec<u8>)> = files.iter().map(|path| (path.as_str(), content(2_048))).collect();
        write(&folder, &files);
        share(owner, &folder).await;
    }
    alice.ask(Command::SetLimit { bytes_per_second: Some(SLOW) }).await.unwrap();
    let (path, _) = get(&bob, "alice", "photos").await.unwrap();
    assert_same(&tree(&path), &tree(&carol.machine.file("one", b"").with_file_name("photos")));
    for owner in [&mut alice, &mut carol] {
        let sent = owner.until(|event| if let Event::Sent { files, .. } = event { Some(*files) } else { None });
        assert_eq!(sent.await, Some(2_000));
    }
}

#[tokio::test]
async fn a_link_that_ends_before_a_large_file_is_asked_for_again_for_the_folder_that_was_published() {
    let directory = TestDirectory::start();
    let bob = TestPeer::join(&directory, "bob").await;
    let large = content(GROUP + 1);
    let bytes = manifest(vec![entry("large", &large)]).to_bytes().unwrap();
    let (published, member) = (digest_of(&bytes), digest_of(&large));
    let mallory = Mallory::publishing(&directory, bytes, (1, large.len() as u64), &[]).await;
    // She gives the manifest, and hangs up when she is asked for the file.
    let hangs_up = async {
        let mut purposes = Vec::new();
        while purposes.len() < 2 {
            tokio::select! {
                stream = mallory.client.connection.accept_stream() => purposes.extend(mallory.take_push(stream.unwrap()).await),
                connection = mallory.client.next_connection() => {
                    while let Ok(mut stream) = connection.accept_stream().await {
                        match stream.read_frame().await.unwrap() {
                            PeerRequest::Fetch(Fetch { digest, .. }) if digest == member => connection.close(CloseCode::Done),
                            request => mallory.answer_request(request, stream, &connection).await,
                        }
                    }
                }
            }
        }
        purposes
    };
    let purposes = tokio::select! {
        purposes = in_time(hangs_up) => purposes,
        fetched = get(&bob, "mallory", "bait") => panic!("it came to an end before: {fetched:?}"),
    };
    assert_eq!(purposes, [Purpose::Fetch { digest: published }; 2]);
}

#[tokio::test]
async fn a_shared_folder_is_served_on_while_it_is_offered_and_after() {
    let directory = TestDirectory::start();
    let (alice, mut bob) = alice_and_bob(&directory).await;
    let carol = TestPeer::join(&directory, "carol").await;
    let folder = photos(&alice);
    let expected = tree(&folder);
    share(&alice, &folder).await;
    let offer = Command::Send { to: name("bob"), paths: vec![folder], wait: false, filter: Default::default() };
    alice.ask(offer).await.unwrap();
    bob.until(|event| matches!(event, Event::Offer { .. }).then_some(())).await;
    let (path, _) = get(&carol, "alice", "photos").await.unwrap();
    assert_same(&tree(&path), &expected);
    bob.ask(Command::Decline { offer: "photos".to_owned() }).await.unwrap();
    let again = carol.get("alice", "photos", Collision::Rename).await.unwrap();
    assert_same(&tree(&again.0), &expected);
}

#[tokio::test]
async fn a_folder_that_lacks_a_file_is_not_waited_for() {
    let directory = TestDirectory::start();
    let (alice, bob) = alice_and_bob(&directory).await;
    let folder = photos(&alice);
    share(&alice, &folder).await;
    let is_file = |path: &PathBuf| path.is_file();
    let changed = tree(&folder).into_keys().map(|path| folder.join(path)).find(is_file).unwrap();
    fs::write(changed, b"something else").unwrap();
    let get = Command::Get {
        source: Source::Named { owner: name("alice"), name: file_name("photos") },
        folder: bob.machine.downloads(),
        collision: Collision::Refuse,
        executable: Executable::Never,
        once: false,
    };
    let failure = in_time(bob.ask(get)).await.unwrap_err();
    assert_eq!((failure.kind, failure.refusal), (FailureKind::Partial, Some(Refusal::FileChanged.number())));
    assert!(!bob.machine.downloads().join("photos").exists());
}
