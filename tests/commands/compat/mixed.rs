//! One room: a program of each dialect and two people of qchat, who see each other, talk, and have each other's files.

use std::collections::BTreeSet;

use serde_json::json;

use super::json::client::Client as JsonClient;
use super::s2::program::{Kind, Program};
use super::s2::{address, found};
use super::s3::{Client as TextClient, place};
use super::s4::client::{Center, Client as CenterClient};
use super::{directory_for, door};
use crate::program::{Directory, Person, Process, World, text};

const CREDENTIALS: &str = "seas winning\n";

struct Room<'a> {
    alice_is: Person<'a>,
    alice: Process,
    bob: Process,
    kate: Program,
    tom: TextClient,
    seas: CenterClient,
    jo: JsonClient,
}

impl<'a> Room<'a> {
    /// Everybody comes in.
    fn new(world: &'a World, directory: &'a Directory) -> Self {
        let alice_is = world.person("alice", directory);
        let (alice, bob) = (alice_is.peer(), world.person("bob", directory).peer());
        let kate = Program::start(Kind::K, door(directory, "s2")).registers("Kate");
        let tom = TextClient::registered("tom", directory);
        let seas = Center(door(directory, "s4")).log_in("seas", "winning");
        let jo = JsonClient::registered(door(directory, "json"), "Jo");
        Self { alice_is, alice, bob, kate, tom, seas, jo }
    }

    /// What comes next to alice is this line of somebody.
    #[track_caller]
    fn alice_hears(&mut self, from: &str, line: &str) {
        let heard = self.alice.event("message");
        assert_eq!((text(&heard, "from"), text(&heard, "text")), (from, line), "{heard}");
        assert_eq!(heard["legacy"], true);
    }
}

fn room(test: impl FnOnce(&mut Room<'_>)) {
    let world = World::new();
    let credentials = world.write("credentials", CREDENTIALS);
    let flags = format!("--compat-credentials {}", credentials.display());
    let directory = directory_for(&world, &["json", "s2", "s3", "s4"], &flags);
    test(&mut Room::new(&world, &directory));
}

#[test]
fn everybody_sees_everybody() {
    room(|room| {
        let all = ["alice", "bob", "jo", "kate", "seas", "tom"];
        let rows = room.alice_is.rows("who", &[]);
        let seen: BTreeSet<&str> = rows.iter().map(|row| text(row, "name")).collect();
        assert_eq!(seen, BTreeSet::from(all));
        let legacy: Vec<&str> = rows.iter().filter(|row| row["legacy"] == true).map(|row| text(row, "name")).collect();
        assert_eq!(legacy, ["jo", "kate", "seas", "tom"]);

        let table = room
            .tom
            .table_where(|table| ["alice", "bob", "Jo", "Kate", "seas"].iter().all(|who| table.contains_key(*who)));
        assert_eq!(table.len(), all.len());
        room.seas.ask("ONL|seas|TOKEN|");
        room.seas.expect_later("[CURRENTLY ONLINE]: alice bob Jo Kate seas tom ");
        let listed = room.jo.ask(json!({"type": "ONL"}));
        assert_eq!(listed["list"], json!(["alice", "bob", "Jo", "Kate", "seas", "tom"]));
        let tom_of_kate =
            room.kate.answer(json!({"service": "RETRIEVE-INFOT", "request_#": "T", "name": "tom"}).to_string());
        assert_eq!(tom_of_kate["name"], "tom");
    });
}

#[test]
fn lines_go_between_all_who_can_talk() {
    room(|room| {
        // With S2 nobody can: its programs have files only, and whoever writes is told.
        room.bob.say("/msg kate are you there?");
        let told = room.bob.event("message");
        assert_eq!(text(&told, "from"), "kate");
        assert!(text(&told, "text").contains("my program has no chat"), "{told}");
        room.bob.say("/msg kate anybody?");
        room.bob.event_where("delivered", |event| event["to"] == "kate");

        let table = room.tom.table_where(|table| ["alice", "Jo", "seas"].iter().all(|who| table.contains_key(*who)));
        let at = |name: &str| place(&table, name);

        room.tom.chat_to("tom", at("alice"), "tom to alice");
        room.alice_hears("tom", "tom to alice");
        room.seas.ask("MSG|seas|TOKEN|alice|seas to alice");
        room.alice_hears("seas", "seas to alice");
        assert_eq!(room.jo.ask(json!({"type": "CHAT", "to": "alice", "text": "jo to alice"}))["type"], "DELIVERED");
        room.alice_hears("jo", "jo to alice");

        room.alice.say("/msg tom alice to tom");
        assert_eq!(room.tom.chat(), (at("alice"), "alice".to_owned(), "alice to tom".to_owned()));
        room.tom.chat_to("tom", at("seas"), "tom to seas");
        room.seas.expect_later("[tom]: tom to seas");
        room.seas.ask("MSG|seas|TOKEN|tom|seas to tom");
        assert_eq!(room.tom.chat(), (at("seas"), "seas".to_owned(), "seas to tom".to_owned()));
        room.tom.chat_to("tom", at("Jo"), "tom to jo");
        assert_eq!(room.jo.pushed("MSG")["text"], "tom to jo");
        room.jo.ask(json!({"type": "SEND", "to": "tom", "text": "jo to tom"}));
        assert_eq!(room.tom.chat(), (at("Jo"), "Jo".to_owned(), "jo to tom".to_owned()));
        room.jo.ask(json!({"type": "MSG", "to": "seas", "text": "jo to seas"}));
        room.seas.expect_later("[Jo]: jo to seas");
        room.seas.ask("MSG|seas|TOKEN|jo|seas to jo");
        assert_eq!(room.jo.pushed("MSG")["text"], "seas to jo");

        room.bob.say("/broadcast to everyone");
        assert_eq!(room.tom.chat().2, "[Channel_Message bob: to everyone]");
        room.seas.expect_later("[bob]: to everyone");
        assert_eq!(room.jo.pushed("BRD")["text"], "to everyone");
    });
}

#[test]
fn what_a_program_has_no_words_for_is_declined() {
    room(|room| {
        let offered = room.alice_is.file("offer.txt", "take it");
        for name in ["kate", "tom", "seas", "jo"] {
            room.alice.say(&format!("/send {name} {}", offered.display()));
            room.alice.event_where("offer_declined", |event| event["by"] == name);
        }
        for name in ["kate", "tom"] {
            room.alice.say(&format!("/connect {name}"));
            room.alice.event_where("consent_answered", |event| event["by"] == name && event["allowed"] == false);
        }
        for name in ["kate", "tom", "seas"] {
            room.alice.say(&format!("/friend {name}"));
            room.alice.event_where("friend_answered", |event| event["by"] == name && event["answer"] == "declined");
        }
        room.alice.say("/query --exclusive tom");
        room.alice.event_where("exclusive_closed", |event| event["with"] == "tom");
        let table = room.tom.table_where(|table| table.contains_key("alice"));
        room.tom.chat_to("tom", place(&table, "alice"), "");
    });
}

#[test]
fn files_go_between_all_who_have_files() {
    room(|room| {
        let shared = room.alice_is.file("alice.txt", "of alice: Grüße");
        room.alice.say(&format!("/share {}", shared.display()));
        room.alice.event("shared");
        room.kate.publishes("Kate", &[("kate.txt", "of kate")]);
        let published = json!({"type": "PUBLISH", "filename": "jo.txt", "text": "of jo"});
        assert_eq!(room.jo.ask(published)["type"], "PUBLISHED");

        for (owner, file, content) in [("kate", "kate.txt", "of kate"), ("jo", "jo.txt", "of jo")] {
            let row = found(&room.alice_is, file);
            assert_eq!((text(&row, "owner"), &row["legacy"]), (owner, &json!(true)), "{row}");
            room.alice_is.rows("get", &[&format!("{owner}:{file}")]);
            let path = room.alice_is.folder().join(file);
            assert_eq!(std::fs::read_to_string(path).expect("it was fetched"), content);
        }
        let rows = room.kate.answer(r#"{"service": "RETRIEVE-ALL", "request_#": "T"}"#);
        let rows = rows["list"].as_array().expect("a table");
        for (owner, file, content) in [("alice", "alice.txt", "of alice: Grüße"), ("Jo", "jo.txt", "of jo")] {
            let row = rows.iter().find(|row| row[0] == owner).unwrap_or_else(|| panic!("{rows:?}"));
            assert_eq!(room.kate.fetches(address(row), file).as_deref(), Ok(content));
        }
        assert_eq!(room.jo.download("alice", "alice.txt").as_deref(), Ok("of alice: Grüße"));
        assert_eq!(room.jo.download("Kate", "kate.txt").as_deref(), Ok("of kate"));
    });
}
