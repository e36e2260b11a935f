//! Accounts of the gateway: whose a name is, what may be done with such an account, and who is told that it is one.

use std::collections::BTreeMap;

use tokio::io::BufReader;
use tokio::net::UnixStream;

use super::*;
use crate::directory::admin::{AdminRequest, AdminRow, SOCKET};
use crate::directory::invitations::Admission;
use crate::directory::legacy::LegacyAccounts;
use crate::lines;
use crate::seal::announcement;
use crate::wire::catalog::{Entry, EntryKind, Found, Query, Scope};
use crate::wire::ids::{FileDigest, FileName, FileSize, UnixMillis};
use crate::wire::people::{Announcement, AnnouncementText, Friend};

const RESIDENT: LoginKind = LoginKind::Resident;

impl World {
    fn legacy_accounts(&self) -> LegacyAccounts {
        LegacyAccounts::new(self.shared.clone())
    }

    /// A name of the gateway, logged in with the key that it has for it.
    async fn legacy(&self, text: &str) -> Client {
        let client = self.stranger().await;
        self.legacy_accounts().create(&name(text), client.identity.public()).await.unwrap();
        client.log_in(client.login(text, RESIDENT, None)).await.unwrap();
        client
    }

    /// Asks as the operator does; the rows up to the last.
    async fn administer(&self, request: &AdminRequest) -> Vec<AdminRow> {
        let socket = self.folder.path().join("data").join(SOCKET);
        let mut stream = BufReader::new(UnixStream::connect(socket).await.unwrap());
        lines::write(stream.get_mut(), request).await.unwrap();
        let mut rows = Vec::new();
        while let Some(row) = lines::read(&mut stream).await.unwrap() {
            rows.push(row);
        }
        rows
    }
}

#[tokio::test]
async fn a_name_is_the_gateways_for_good_or_somebody_elses() {
    let world = World::start();
    let accounts = world.legacy_accounts();
    let alice = world.registered("alice", RESIDENT).await;
    let [carol, other] = [1, 2].map(|byte| PeerKey::from_bytes([byte; 32]));
    assert_eq!(accounts.create(&name("carol"), carol).await, Ok(()));
    assert_eq!(accounts.create(&name("carol"), carol).await, Ok(()), "it is there already");
    assert_eq!(accounts.create(&name("carol"), other).await, Err(Refusal::NameTaken));
    for key in [carol, alice.identity.public()] {
        assert_eq!(accounts.create(&name("alice"), key).await, Err(Refusal::NameTaken), "a person has it");
    }
    let stranger = world.stranger().await;
    for (register, undo) in [(true, false), (false, false), (false, true)] {
        let login = Login { register, undo, ..stranger.login("carol", RESIDENT, Some("*")) };
        assert_eq!(stranger.log_in(login).await, Err(Refusal::NameTaken), "register: {register}, undo: {undo}");
    }
    let without_password = stranger.login("carol", RESIDENT, None);
    assert_eq!(stranger.log_in(without_password).await, Err(Refusal::NameTaken));

    let delete = DirectoryRequest::DeleteAccount { name: name("alice") };
    assert_eq!(alice.ask(delete).await, Ok(DirectoryReply::Done));
    assert_eq!(accounts.create(&name("alice"), carol).await, Err(Refusal::NameTaken), "the name is kept back");
    drop(accounts);
    world.stop().await;
}

#[tokio::test]
async fn its_key_lets_it_in_and_it_does_nothing_that_only_people_do() {
    let world = World::start();
    let carol = world.legacy("carol").await;
    let again = world.again(&carol).await;
    let login = again.login("carol", LoginKind::Errand { collects: false }, None);
    assert!(!again.log_in(Login { register: true, ..login }).await.unwrap().created, "it is there already");
    let password = DirectoryRequest::ChangePassword { new: Password::parse("secret").unwrap() };
    for request in [password, DirectoryRequest::Invite] {
        assert_eq!(carol.ask(request.clone()).await, Err(Refusal::LegacyAccount), "{request:?}");
    }
    world.stop().await;
}

#[tokio::test]
async fn people_come_first_to_a_directory_that_wants_invitations() {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::start(Settings { admission: Admission::InviteOnly, ..settings(&folder) }).unwrap();
    let key = PeerKey::from_bytes([1; 32]);
    assert_eq!(directory.legacy_accounts().create(&name("carol"), key).await, Ok(()), "it needs no invitation");
    assert!(directory.first_invitation().await.unwrap().is_some(), "nobody is here who could invite");
    let alice = Account {
        name: name("alice"),
        key: PeerKey::from_bytes([2; 32]),
        password: String::new(),
        created_at: now_millis(),
        disabled: false,
        legacy: false,
    };
    directory.shared.store.create_account(alice, None).await.unwrap();
    assert!(directory.first_invitation().await.unwrap().is_none());
}

#[tokio::test]
async fn whoever_hears_of_it_is_told_that_it_is_one() {
    let world = World::start();
    let alice = world.registered("alice", RESIDENT).await;
    let carol = world.legacy("carol").await;
    assert_eq!(legacy_in_who(&alice, false).await, [("alice", false), ("carol", true)].map(owned).into());
    for (text, legacy) in [("alice", false), ("carol", true)] {
        let reply = alice.ask(DirectoryRequest::Identify { name: name(text) }).await.unwrap();
        let DirectoryReply::Identity(identity) = reply else { panic!("{reply:?}") };
        assert_eq!(identity.legacy, legacy, "{text}");
    }
    for client in [&alice, &carol] {
        assert_eq!(client.ask(DirectoryRequest::Publish(entry())).await, Ok(DirectoryReply::Done));
    }
    assert_eq!(legacy_in_catalogue(&alice).await, [("alice", false), ("carol", true)].map(owned).into());
    alice.ask(DirectoryRequest::Befriend { name: name("carol") }).await.unwrap();
    let reply = alice.ask(DirectoryRequest::Friends { after: None }).await.unwrap();
    let DirectoryReply::Friends { friends, .. } = reply else { panic!("{reply:?}") };
    assert!(matches!(friends[..], [Friend { legacy: true, .. }]), "{friends:?}");

    let (sender, id) = (carol.identity.public(), MessageId::from_bytes([7; 16]));
    let text = AnnouncementText::parse("dinner").unwrap();
    let said = announcement::sign(&carol.identity, Announcement { sender, id, sent_at: UnixMillis(1), text });
    carol.ask(DirectoryRequest::Announce(Box::new(said))).await.unwrap();
    let push = loop {
        match alice.pushed(Ok(PushReply::Taken)).await {
            DirectoryPush::Presence { .. } => {}
            push => break push,
        }
    };
    assert!(matches!(push, DirectoryPush::Announcement { legacy: true, .. }), "{push:?}");

    drop(carol);
    while world.shared.registry.is_online(&name("carol")) {
        tokio::task::yield_now().await;
    }
    let recent = legacy_in_who(&alice, true).await;
    assert_eq!(recent, [("alice", false), ("carol", true)].map(owned).into(), "also when they have left");
    world.stop().await;
}

#[tokio::test]
async fn the_operator_sees_it_and_gives_it_no_password() {
    let world = World::start();
    let carol = world.legacy("carol").await;
    let users = world.administer(&AdminRequest::Users).await;
    assert!(matches!(users[..], [AdminRow::User { legacy: true, online: true, .. }, AdminRow::Done]));
    let rows = world.administer(&AdminRequest::ResetPassword { name: name("carol") }).await;
    let [AdminRow::Refused { refusal: 72, message }] = &rows[..] else { panic!("it is not refused") };
    assert!(message.contains("has no password"), "{message}");

    world.administer(&AdminRequest::Disable { name: name("carol") }).await;
    let again = world.again(&carol).await;
    assert_eq!(again.log_in(again.login("carol", RESIDENT, None)).await, Err(Refusal::Disabled));
    world.administer(&AdminRequest::Enable { name: name("carol") }).await;
    again.log_in(again.login("carol", RESIDENT, None)).await.unwrap();
    world.administer(&AdminRequest::Delete { name: name("carol") }).await;
    let created = world.legacy_accounts().create(&name("carol"), carol.identity.public()).await;
    assert_eq!(created, Err(Refusal::NameTaken), "the operator's word holds for the gateway, too");
    world.stop().await;
}

fn owned((text, legacy): (&str, bool)) -> (String, bool) {
    (text.to_owned(), legacy)
}

/// Who is listed, and whether as legacy.
async fn legacy_in_who(client: &Client, recent: bool) -> BTreeMap<String, bool> {
    let reply = client.ask(DirectoryRequest::Who { recent, pattern: None, after: None }).await.unwrap();
    let DirectoryReply::People { people, .. } = reply else { panic!("{reply:?}") };
    people.into_iter().map(|person| (person.name.to_string(), person.legacy)).collect()
}

/// Whose files are found, and whether as legacy.
async fn legacy_in_catalogue(client: &Client) -> BTreeMap<String, bool> {
    let query = Query::Substring(crate::wire::ids::Pattern::parse("notes").unwrap());
    let reply = client.ask(DirectoryRequest::Find { query, after: None }).await.unwrap();
    let DirectoryReply::Entries { found, .. } = reply else { panic!("{reply:?}") };
    found.into_iter().map(|Found { owner, legacy, .. }| (owner.to_string(), legacy)).collect()
}

fn entry() -> Entry {
    Entry {
        name: FileName::parse("notes.txt").unwrap(),
        size: FileSize::try_from(3).unwrap(),
        digest: FileDigest::from_bytes([3; 32]),
        kind: EntryKind::File,
        scope: Scope::Everyone,
        hides_address: false,
    }
}
