//! Somebody with an older program, whom the gateway stands in for as a peer of its own: what they and people with qchat
//! see of each other.

use qchat::peer::event::Event;
use qchat::peer::failure::FailureKind;
use qchat::peer::handle::Command;
use qchat::peer::rows::HistoryRow;
use qchat::storage::partial_file::Collision;
use qchat::wire::account::LoginKind;

use crate::world::{Machine, TestDirectory, TestPeer, name};

/// The peer that stands in for somebody with an older program.
async fn resident(directory: &TestDirectory, text: &str) -> TestPeer {
    let machine = Machine::new(directory.place, text);
    let key = machine.profile().identity().public();
    directory.legacy.create(&name(text), key).await.unwrap();
    let peer = machine.start(LoginKind::Resident, None, false).await.unwrap();
    let errand = machine.raw_errand().await;
    while errand.identify(text).await.prekey.is_none() {}
    peer
}

/// The next line of chat: who wrote it, what, and whether with an older program.
async fn next_line(peer: &mut TestPeer) -> (String, String, bool) {
    peer.until(|event| match event {
        Event::Message { from, text, legacy, .. } => Some((from.to_string(), text.clone(), *legacy)),
        _ => None,
    })
    .await
}

fn line(from: &str, text: &str, legacy: bool) -> (String, String, bool) {
    (from.to_owned(), text.to_owned(), legacy)
}

#[tokio::test]
async fn what_is_said_with_an_older_program_is_marked_from_the_first_line_on() {
    let directory = TestDirectory::start();
    let mut alice = TestPeer::join(&directory, "alice").await;
    let mut bob = TestPeer::join(&directory, "bob").await;
    let mut carol = resident(&directory, "carol").await;

    // One writes first, the other is written to first.
    let said = alice.ask(Command::Message { to: name("carol"), text: "hello".to_owned() }).await.unwrap();
    let [Event::Legacy { name: warned }, Event::Stored { .. }] = &said[..] else { panic!("{said:?}") };
    assert_eq!(*warned, name("carol"));
    assert_eq!(next_line(&mut carol).await, line("alice", "hello", false), "only one of the two is older");
    let said = carol.ask(Command::Message { to: name("bob"), text: "the first".to_owned() }).await.unwrap();
    assert!(matches!(said[..], [Event::Stored { .. }]), "{said:?}");
    assert_eq!(next_line(&mut bob).await, line("carol", "the first", true));
    bob.say("alice", "do you know carol?").await;
    assert_eq!(next_line(&mut alice).await, line("bob", "do you know carol?", false));

    let query = |to| bob.ask(Command::Query { to: name(to) });
    assert_eq!(query("carol").await.unwrap(), [Event::Legacy { name: name("carol") }]);
    assert_eq!(query("alice").await.unwrap(), []);

    // What comes while nobody is there, too.
    let bobs = bob.stop().await;
    carol.say("bob", "the second").await;
    let mut bob = bobs.resident().await;
    assert_eq!(next_line(&mut bob).await, line("carol", "the second", true));
    let waiting = bob.handle.not_shown().await.unwrap();
    let is_marked = |(event, _): &(Event, bool)| matches!(event, Event::Message { legacy: true, .. });
    assert!(waiting.len() == 2 && waiting.iter().all(is_marked), "{waiting:?}");
    let command = Command::History { with: Some(name("carol")), limit: 10, before: None, search: None };
    let rows = bob.ask(command).await.unwrap();
    assert_eq!(rows.len(), 2);
    for row in rows {
        let Event::History(row) = row else { panic!("{row:?}") };
        assert!(matches!(*row, HistoryRow { legacy: true, .. }), "{row:?}");
    }
}

#[tokio::test]
async fn what_comes_straight_from_an_older_program_is_marked_too() {
    let directory = TestDirectory::start();
    let mut bob = TestPeer::join(&directory, "bob").await;
    let carol = resident(&directory, "carol").await;
    bob.share("a file", b"for everyone").await;
    carol.get("bob", "a file", Collision::Refuse).await.unwrap();
    let said = carol.ask(Command::Message { to: name("bob"), text: "thanks".to_owned() }).await.unwrap();
    assert!(matches!(said[..], [Event::Delivered { .. }]), "not over the link: {said:?}");
    assert_eq!(next_line(&mut bob).await, line("carol", "thanks", true));
}

#[tokio::test]
async fn lists_say_who_uses_an_older_program() {
    let directory = TestDirectory::start();
    let mut alice = TestPeer::join(&directory, "alice").await;
    let carol = resident(&directory, "carol").await;
    carol.share("notes.txt", b"of an older program").await;

    let people = alice.ask(Command::Who { recent: false, pattern: String::new() }).await.unwrap();
    let people: Vec<bool> = people.iter().map(|row| matches!(row, Event::Person { legacy: true, .. })).collect();
    assert_eq!(people, [false, true]);
    let found = alice.ask(Command::Find { pattern: "notes".to_owned() }).await.unwrap();
    assert!(matches!(found[..], [Event::Found { legacy: true, .. }]), "{found:?}");
    let (path, _) = alice.get("carol", "notes.txt", Collision::Refuse).await.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), b"of an older program");
    let friend = alice.ask(Command::Befriend { name: name("carol") }).await.unwrap();
    assert!(matches!(friend[..], [Event::Friend { legacy: true, .. }]), "{friend:?}");
    let friends = alice.ask(Command::Friends).await.unwrap();
    assert!(matches!(friends[..], [Event::Friend { legacy: true, .. }]), "{friends:?}");

    let mut bob = TestPeer::join(&directory, "bob").await;
    carol.ask(Command::Befriend { name: name("bob") }).await.unwrap();
    bob.until(|event| matches!(event, Event::FriendAsked { legacy: true, .. }).then_some(())).await;
    carol.ask(Command::Connect { to: name("bob"), wait: false }).await.unwrap();
    bob.until(|event| matches!(event, Event::ConsentAsked { legacy: true, .. }).then_some(())).await;
    carol.ask(Command::Broadcast { text: "dinner".to_owned() }).await.unwrap();
    alice.until(|event| matches!(event, Event::Announcement { legacy: true, .. }).then_some(())).await;
    let path = carol.machine.file("a picture", b"...");
    carol
        .ask(Command::Send { to: name("alice"), paths: vec![path], wait: false, filter: Default::default() })
        .await
        .unwrap();
    alice.until(|event| matches!(event, Event::Offer { legacy: true, .. }).then_some(())).await;
    let offers = alice.ask(Command::Offers).await.unwrap();
    assert!(matches!(offers[..], [Event::Offer { legacy: true, .. }]), "{offers:?}");
    let path = alice.machine.file("an answer", b"!");
    let offered = alice
        .ask(Command::Send { to: name("carol"), paths: vec![path], wait: false, filter: Default::default() })
        .await
        .unwrap();
    assert!(matches!(offered[..], [Event::Legacy { .. }, .., Event::Offered { .. }]), "{offered:?}");
}

#[tokio::test]
async fn there_is_nobodys_own_key_to_compare() {
    let directory = TestDirectory::start();
    let alice = TestPeer::join(&directory, "alice").await;
    let _bob = TestPeer::join(&directory, "bob").await;
    let _carol = resident(&directory, "carol").await;
    let verify = |text, mark| alice.ask(Command::Verify { name: name(text), mark });
    let shown = verify("carol", false).await.unwrap();
    assert!(matches!(shown[..], [Event::Contact { legacy: true, verified_at: None, .. }]), "{shown:?}");
    let refused = verify("carol", true).await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::Other);
    assert!(refused.message.contains("no key of their own to compare"), "{refused}");
    let shown = verify("carol", false).await.unwrap();
    assert!(matches!(shown[..], [Event::Contact { verified_at: None, .. }]), "nothing was noted: {shown:?}");
    let marked = verify("bob", true).await.unwrap();
    assert!(matches!(marked[..], [Event::Contact { legacy: false, verified_at: Some(_), .. }]), "{marked:?}");
}
