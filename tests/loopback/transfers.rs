//! Transfers that are listed, paused, ended and joined, that wait for somebody, and that nobody has to ask for.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use qchat::peer::event::Event;
use qchat::peer::failure::{Failure, FailureKind};
use qchat::peer::handle::{Command, Source};
use qchat::peer::rows::{Direction, TransferRow, TransferState};
use qchat::storage::partial_file::{Collision, PartialFile};
use qchat::storage::receive_folder::ReceiveFolder;
use qchat::storage::receive_tree::Executable;
use qchat::storage::safe_name::SafeName;
use qchat::wire::people::FriendAnswer;
use qchat::wire::refusal::Refusal;
use tokio::sync::mpsc;

use crate::world::{TestDirectory, TestPeer, content, file_name, in_time, name, received};

const GROUP: usize = 256 * 1_024;
/// Too much to cross before the first step of the progress has been answered.
const LARGE: usize = 400 * GROUP;

async fn alice_and_bob(directory: &TestDirectory) -> (TestPeer, TestPeer) {
    (TestPeer::join(directory, "alice").await, TestPeer::join(directory, "bob").await)
}

fn get(file: &str, folder: PathBuf, collision: Collision) -> Command {
    let source = Source::Named { owner: name("alice"), name: file_name(file) };
    Command::Get { source, folder, collision, executable: Executable::Never, once: false }
}

/// Begins to fetch a file of alice, and waits until bytes of it come.
async fn getting(bob: &TestPeer, file: &str) -> mpsc::Receiver<Event> {
    let mut rows = bob.handle.run(get(file, bob.machine.downloads(), Collision::Refuse)).await;
    until(&mut rows, |row| matches!(row, Event::Progress { .. })).await;
    rows
}

async fn until(rows: &mut mpsc::Receiver<Event>, is_meant: impl Fn(&Event) -> bool) -> Event {
    loop {
        let row = in_time(rows.recv()).await.expect("another row comes");
        if is_meant(&row) {
            return row;
        }
    }
}

/// What ends a command, and the row before it.
async fn ended(rows: &mut mpsc::Receiver<Event>) -> (Option<Event>, Result<(), Failure>) {
    let mut before = None;
    loop {
        match in_time(rows.recv()).await.expect("another row comes") {
            Event::Done => return (before, Ok(())),
            Event::Failed { failure } => return (before, Err(failure)),
            row => before = Some(row),
        }
    }
}

async fn transfers(peer: &TestPeer) -> Vec<TransferRow> {
    let rows = peer.ask(Command::Transfers).await.unwrap();
    let row = |event| if let Event::Transfer(row) = event { *row } else { panic!("{event:?} is no transfer") };
    rows.into_iter().map(row).collect()
}

async fn only(peer: &TestPeer) -> TransferRow {
    let mut all = transfers(peer).await;
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn downloaded(peer: &TestPeer) -> Vec<String> {
    let entries = fs::read_dir(peer.machine.downloads()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn came(event: &Event) -> Option<(String, u64)> {
    match event {
        Event::Received { name, resumed, .. } => Some((name.to_string(), *resumed)),
        _ => None,
    }
}

fn offered(event: &Event) -> Option<String> {
    if let Event::Offer { id, .. } = event { Some(id.to_string()) } else { None }
}

async fn offer(alice: &TestPeer, file: &str, size: usize) {
    let path = alice.machine.file(file, &content(size));
    alice
        .ask(Command::Send { to: name("bob"), paths: vec![path], wait: false, filter: Default::default() })
        .await
        .unwrap();
}

fn accept(bob: &TestPeer, offer: &str) -> Command {
    Command::Accept {
        offer: offer.to_owned(),
        folder: bob.machine.downloads(),
        collision: Collision::Refuse,
        executable: Executable::Never,
    }
}

fn which(which: &str) -> String {
    which.to_owned()
}

#[tokio::test]
async fn a_transfer_is_paused_and_goes_on_from_there() {
    let directory = TestDirectory::start();
    let (alice, bob) = alice_and_bob(&directory).await;
    let path = alice.share("large", &content(LARGE)).await;
    let mut get = getting(&bob, "large").await;
    let running = only(&bob).await;
    assert_eq!((running.direction, running.state, running.size), (Direction::In, TransferState::Running, LARGE as u64));
    assert_eq!(running.with, [name("alice")]);
    let sending = only(&alice).await;
    assert_eq!((sending.direction, sending.with.clone()), (Direction::Out, vec![name("bob")]));
    let failure = alice.ask(Command::Pause { which: which("") }).await.unwrap_err();
    assert!(failure.message.contains("only what comes to you"), "{failure}");

    bob.ask(Command::Pause { which: running.id.to_string()[..6].to_owned() }).await.unwrap();

    let (_, end) = ended(&mut get).await;
    assert_eq!(end.unwrap_err().kind, FailureKind::Partial);
    let paused = only(&bob).await;
    assert_eq!((paused.id, paused.state), (running.id, TransferState::Paused));
    assert_eq!(downloaded(&bob), [".large.qpart"]);
    let rows = bob.ask(Command::Resume { which: which("") }).await.unwrap();
    let (target, resumed) = received(rows);
    assert!(resumed > 0, "what had come was kept");
    assert!(fs::read(target).unwrap() == fs::read(path).unwrap());
    assert_eq!((transfers(&bob).await, downloaded(&bob)), (vec![], vec![which("large")]));
}

#[tokio::test]
async fn a_pause_outlives_the_program() {
    let directory = TestDirectory::start();
    let (alice, bob) = alice_and_bob(&directory).await;
    alice.share("large", &content(LARGE)).await;
    let _get = getting(&bob, "large").await;
    bob.ask(Command::Pause { which: which("large") }).await.unwrap();
    let bob = bob.stop().await.resident().await;
    assert_eq!(only(&bob).await.state, TransferState::Paused);
    let (_, resumed) = received(bob.ask(Command::Resume { which: which("") }).await.unwrap());
    assert!(resumed > 0);
}

#[tokio::test]
async fn a_cancelled_transfer_leaves_nothing() {
    let directory = TestDirectory::start();
    let (alice, bob) = alice_and_bob(&directory).await;
    alice.share("large", &content(LARGE)).await;
    let mut get = getting(&bob, "large").await;

    let rows = bob.ask(Command::Cancel { which: which("") }).await.unwrap();

    let [Event::Transfer(row)] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!((row.state, row.is_news), (TransferState::Cancelled, true));
    let (_, end) = ended(&mut get).await;
    assert_eq!(end.unwrap_err().message, "large was cancelled");
    assert_eq!((transfers(&bob).await, downloaded(&bob)), (vec![], Vec::<String>::new()));
    let failure = bob.ask(Command::Cancel { which: which("") }).await.unwrap_err();
    assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Usage, "no transfer is under way"));
    let bob = bob.stop().await.resident().await;
    assert_eq!(transfers(&bob).await, []);
}

#[tokio::test]
async fn who_asks_for_what_is_coming_already_joins() {
    let directory = TestDirectory::start();
    let (alice, bob) = alice_and_bob(&directory).await;
    alice.share("large", &content(LARGE)).await;
    let mut first = getting(&bob, "large").await;
    let mut second = getting(&bob, "large").await;
    assert_eq!(transfers(&bob).await.len(), 1);
    for get in [&mut first, &mut second] {
        let (last, end) = ended(get).await;
        assert_eq!(end, Ok(()));
        assert!(matches!(last, Some(Event::Received { .. })), "{last:?}");
    }
    assert_eq!(downloaded(&bob), ["large"]);
}

/// Writes a part into what bob receives into, as another program would.
fn writing(bob: &TestPeer, file: &str, size: usize) -> PartialFile {
    let folder = ReceiveFolder::open(&bob.machine.downloads()).unwrap();
    let name = SafeName::from_remote(&file_name(file));
    PartialFile::open(&folder, &name, size as u64, Collision::Refuse).unwrap()
}

fn waits(event: &Event) -> Option<String> {
    match event {
        Event::Transfer(row) if row.state == TransferState::Waiting => row.reason.clone(),
        _ => None,
    }
}

#[tokio::test]
async fn what_another_program_receives_at_the_same_place_is_waited_for_and_not_removed() {
    let directory = TestDirectory::start();
    let (alice, mut bob) = alice_and_bob(&directory).await;
    alice.share("file", &content(GROUP)).await;
    let other = writing(&bob, "file", GROUP);
    other.write_at(&content(GROUP), 0).unwrap();
    let because = format!("another transfer is receiving {}", bob.machine.downloads().join("file").display());

    let mut waiting = bob.handle.run(get("file", bob.machine.downloads(), Collision::Refuse)).await;
    let row = until(&mut waiting, |row| waits(row).is_some()).await;
    assert_eq!(waits(&row), Some(because.clone()));
    let row = only(&bob).await;
    assert_eq!((row.state, row.done, row.reason), (TransferState::Waiting, 0, Some(because.clone())));
    bob.ask(Command::Cancel { which: which("file") }).await.unwrap();
    assert_eq!(downloaded(&bob), [".file.qpart"]);

    offer(&alice, "file", GROUP).await;
    let id = bob.until(offered).await;
    let mut taking = bob.handle.run(accept(&bob, &id)).await;
    until(&mut taking, |row| waits(row) == Some(because.clone())).await;
    alice.ask(Command::Cancel { which: id }).await.unwrap();
    let (_, end) = ended(&mut taking).await;
    assert_eq!(end.unwrap_err().refusal, Some(Refusal::Withdrawn.number()));
    assert_eq!((transfers(&bob).await, downloaded(&bob)), (vec![], vec![which(".file.qpart")]));

    let mut waiting = bob.handle.run(get("file", bob.machine.downloads(), Collision::Refuse)).await;
    until(&mut waiting, |row| waits(row).is_some()).await;
    let target = other.complete().unwrap();
    let (path, resumed) = received(bob.ask(Command::Resume { which: which("") }).await.unwrap());
    assert_eq!((path, resumed), (target, GROUP as u64), "what the other one has received counts");
}

#[tokio::test]
async fn what_another_program_goes_on_with_outlives_a_cancel() {
    let directory = TestDirectory::start();
    let (alice, bob) = alice_and_bob(&directory).await;
    alice.share("large", &content(LARGE)).await;
    let _get = getting(&bob, "large").await;
    let other = loop {
        bob.ask(Command::Pause { which: which("large") }).await.unwrap();
        let folder = ReceiveFolder::open(&bob.machine.downloads()).unwrap();
        let name = SafeName::from_remote(&file_name("large"));
        if let Ok(other) = PartialFile::open(&folder, &name, LARGE as u64, Collision::Refuse) {
            break other;
        }
    };

    let rows = bob.ask(Command::Cancel { which: which("large") }).await.unwrap();

    let [Event::Transfer(row)] = &rows[..] else { panic!("{rows:?}") };
    let part = bob.machine.downloads().join(".large.qpart");
    let stays = format!("another transfer writes {}, which stays", part.display());
    assert_eq!((row.state, row.reason.as_deref()), (TransferState::Cancelled, Some(&stays[..])));
    other.write_at(b"a byte", 0).unwrap();
}

#[tokio::test]
async fn a_folder_is_one_by_each_path_and_what_takes_its_place_is_another() {
    let directory = TestDirectory::start();
    let (alice, bob) = alice_and_bob(&directory).await;
    alice.share("large", &content(LARGE)).await;
    let _get = getting(&bob, "large").await;
    let downloads = bob.machine.downloads();
    let (link, moved) = (downloads.with_extension("link"), downloads.with_extension("moved"));
    symlink(&downloads, &link).unwrap();
    let mut joined = bob.handle.run(get("large", link, Collision::Rename)).await;
    until(&mut joined, |row| matches!(row, Event::Progress { .. })).await;
    assert_eq!(only(&bob).await.state, TransferState::Running);
    bob.ask(Command::Pause { which: which("") }).await.unwrap();

    fs::rename(&downloads, &moved).unwrap();
    fs::create_dir(&downloads).unwrap();
    drop(writing(&bob, "large", LARGE));
    let rows = bob.ask(Command::Cancel { which: which("") }).await.unwrap();

    let [Event::Transfer(row)] = &rows[..] else { panic!("{rows:?}") };
    assert!(row.reason.as_ref().is_some_and(|reason| reason.contains("another folder")), "{row:?}");
    assert!(downloads.join(".large.qpart").exists() && moved.join(".large.qpart").exists());
}

#[tokio::test]
async fn what_was_taken_back_ends_where_it_is() {
    let directory = TestDirectory::start();
    let (alice, mut bob) = alice_and_bob(&directory).await;
    alice.share("large", &content(LARGE)).await;
    let mut get = getting(&bob, "large").await;
    alice.ask(Command::Unshare { name: file_name("large") }).await.unwrap();
    let (_, end) = ended(&mut get).await;
    assert_eq!(end.unwrap_err().refusal, Some(Refusal::Withdrawn.number()));
    assert_eq!(only(&bob).await.state, TransferState::Failed);
    bob.ask(Command::Cancel { which: which("") }).await.unwrap();

    offer(&alice, "offered", LARGE).await;
    bob.until(offered).await;
    let mut taking = bob.handle.run(accept(&bob, "")).await;
    until(&mut taking, |row| matches!(row, Event::Progress { .. })).await;
    alice.ask(Command::Cancel { which: which("offered") }).await.unwrap();
    let (_, end) = ended(&mut taking).await;
    assert_eq!(end.unwrap_err().message, "alice does not offer offered any more");
    bob.until(|event| matches!(event, Event::OfferWithdrawn { .. }).then_some(())).await;
    assert_eq!(bob.ask(Command::Offers).await.unwrap(), []);
    assert_eq!(alice.ask(Command::Offers).await.unwrap(), []);
}

#[tokio::test]
async fn an_offer_is_taken_back_before_it_was_answered() {
    let directory = TestDirectory::start();
    let (alice, mut bob) = alice_and_bob(&directory).await;
    offer(&alice, "a file", 7).await;
    let id = bob.until(offered).await;
    let open = alice.ask(Command::Offers).await.unwrap();
    let [Event::OpenOffer { to, id: own, size: 7, .. }] = &open[..] else { panic!("{open:?}") };
    assert_eq!((to, own.to_string()), (&name("bob"), id.clone()));

    alice.ask(Command::Cancel { which: id[..8].to_owned() }).await.unwrap();

    bob.until(|event| matches!(event, Event::OfferWithdrawn { .. }).then_some(())).await;
    assert_eq!(bob.ask(accept(&bob, &id)).await.unwrap_err().kind, FailureKind::Usage);
    let failure = alice.ask(Command::Cancel { which: id }).await.unwrap_err();
    assert!(failure.message.contains("no transfer or offer of yours"), "{failure}");
}

#[tokio::test]
async fn an_offer_that_is_accepted_while_its_owner_is_away_comes_when_they_are_back() {
    let directory = TestDirectory::start();
    let (alice, mut bob) = alice_and_bob(&directory).await;
    offer(&alice, "later", 3 * GROUP).await;
    let id = bob.until(offered).await;
    let alice = alice.stop().await;

    let failure = bob.ask(accept(&bob, &id)).await.unwrap_err();

    assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Partial, "later waits: alice is not online"));
    assert_eq!(only(&bob).await.state, TransferState::Waiting);
    assert_eq!(bob.ask(Command::Offers).await.unwrap(), [], "it was answered");
    // Both come again; nobody asks.
    let bob = bob.stop().await;
    let _alice = alice.resident().await;
    let mut bob = bob.resident().await;
    assert_eq!(bob.until(came).await.0, "later");
    assert_eq!(transfers(&bob).await, []);
}

#[tokio::test]
async fn what_waits_for_somebody_begins_when_they_come() {
    let directory = TestDirectory::start();
    let (alice, mut bob) = alice_and_bob(&directory).await;
    offer(&alice, "later", 3 * GROUP).await;
    let id = bob.until(offered).await;
    let alice = alice.stop().await;
    bob.ask(accept(&bob, &id)).await.unwrap_err();
    let _alice = alice.resident().await;
    assert_eq!(bob.until(came).await.0, "later");
}

#[tokio::test]
async fn files_of_a_friend_come_without_asking_up_to_a_size_and_no_longer_than_the_friendship() {
    let directory = TestDirectory::start();
    let (mut alice, mut bob) = alice_and_bob(&directory).await;
    let welcome = |bob: &TestPeer| Command::Welcome {
        name: name("alice"),
        bytes_max: GROUP as u64,
        folder: bob.machine.downloads(),
    };
    assert_eq!(bob.ask(welcome(&bob)).await.unwrap_err().kind, FailureKind::Usage, "she is no friend");
    alice.ask(Command::Befriend { name: name("bob") }).await.unwrap();
    bob.until(|event| matches!(event, Event::FriendAsked { .. }).then_some(())).await;
    bob.ask(Command::Befriend { name: name("alice") }).await.unwrap();
    alice
        .until(|event| matches!(event, Event::FriendAnswered { answer: FriendAnswer::Accepted, .. }).then_some(()))
        .await;
    assert_eq!(bob.ask(welcome(&bob)).await.unwrap(), bob.ask(Command::Welcomes).await.unwrap());

    offer(&alice, "too large", GROUP + 1).await;
    offer(&alice, "small", GROUP).await;
    assert_eq!(bob.until(came).await.0, "small");
    let open = bob.ask(Command::Offers).await.unwrap();
    assert!(matches!(&open[..], [Event::Offer { name, .. }] if name.as_str() == "too large"), "{open:?}");

    bob.ask(Command::Unfriend { name: name("alice") }).await.unwrap();
    assert_eq!(bob.ask(Command::Welcomes).await.unwrap(), []);
    offer(&alice, "small too", 1).await;
    bob.until(offered).await;
    assert_eq!(bob.ask(Command::Offers).await.unwrap().len(), 2, "it is asked about");
    assert_eq!(transfers(&bob).await, []);
}
