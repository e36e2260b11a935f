//! The program at a terminal: questions, passwords that do not show, and a line being typed that nothing breaks.

use expectrl::process::unix::WaitStatus;
use expectrl::session::OsSession;
use expectrl::{ControlCode, Eof, Expect as _, Session};

use crate::program::{DEADLINE, Directory, Person, Process, World};

#[test]
fn a_directory_that_is_not_known_is_asked_about_and_no_means_no() {
    let world = World::new();
    let directory = world.directory();
    let alice = world.person("alice", &directory);

    let mut terminal = Terminal::open(&alice, "peer");
    terminal.shows("is not known yet. Its key is");
    terminal.shows("Trust it from now on? [y/N]");
    terminal.types_line("n");
    terminal.shows("is not trusted");
    assert_eq!(terminal.exit_code(), 7);
    assert!(!alice.home().join("known_servers").exists());
}

#[test]
fn a_new_account_asks_for_a_password_twice_and_shows_it_never() {
    let world = World::new();
    let directory = world.directory();
    let alice = world.person("alice", &directory);

    let mut terminal = Terminal::open(&alice, "peer");
    terminal.shows("[y/N]");
    terminal.types_line("y");
    terminal.shows("alice is new here: create it? [y/N]");
    terminal.types_line("y");
    terminal.shows("New password for alice");
    terminal.types_line("hunter2 hunter2");
    terminal.shows("The same again:");
    terminal.types_line("something else");
    terminal.shows("two different passwords");
    terminal.shows("New password for alice");
    terminal.types_line("hunter2 hunter2");
    terminal.shows("The same again:");
    terminal.types_line("hunter2 hunter2");
    terminal.shows("logged in to");
    terminal.shows("alice> ");
    assert!(!terminal.seen.contains("hunter2") && !terminal.seen.contains("something else"), "{}", terminal.seen);
    terminal.leaves();

    let mut again = Terminal::open(&alice, "peer");
    again.shows("alice> ");
    again.leaves();
}

#[test]
fn tab_completes_commands_and_people() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (known(&world, "alice", &directory), known(&world, "bob", &directory));
    let mut bob = bob.peer();
    let mut terminal = Terminal::open(&alice, "peer");
    terminal.shows("alice> ");

    terminal.types("/wh\t");
    terminal.shows("/who ");
    terminal.types_line("");
    terminal.shows("bob");
    bob.say("/msg alice know me");
    terminal.shows("bob: know me");
    terminal.types("/ms\tbo\t");
    terminal.shows("/msg bob ");
    terminal.types_line("completed");
    assert_eq!(bob.messages(1), ["completed"]);
    terminal.leaves();
}

#[test]
fn a_message_does_not_break_the_line_being_typed() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (known(&world, "alice", &directory), known(&world, "bob", &directory));
    let mut bob = bob.peer();
    let mut terminal = Terminal::open(&alice, "peer");
    terminal.shows("alice> ");

    terminal.types("/msg bob first half");
    terminal.shows("first half");
    bob.say("/msg alice in between");
    terminal.shows("bob: in between");
    terminal.shows("/msg bob first half");
    terminal.types_line(", second half");

    assert_eq!(bob.messages(1), ["first half, second half"]);
    terminal.leaves();
}

#[test]
fn the_prompt_says_to_whom_a_line_goes() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (known(&world, "alice", &directory), known(&world, "bob", &directory));
    let mut bob = bob.peer();
    let mut terminal = Terminal::open(&alice, "peer");
    terminal.shows("alice> ");

    terminal.types_line("/query bob");
    terminal.shows("* what you type goes to bob");
    terminal.shows("alice to bob> ");
    terminal.types_line("without naming him");
    assert_eq!(bob.messages(1), ["without naming him"]);
    terminal.types_line("/close");
    terminal.shows("alice> ");
    bob.say("/query --exclusive alice");
    terminal.shows("* bob has opened an exclusive conversation with you: /query bob answers, /close ends it");
    terminal.types_line("/query bob");
    terminal.shows("* what you type goes to bob");
    terminal.shows("alice to bob> ");
    terminal.types_line("at once");
    assert_eq!(bob.messages(1), ["at once"]);
    bob.quit();
    terminal.shows("* bob has left: the exclusive conversation is over");
    terminal.types_line("/close");
    terminal.shows("alice> ");
    terminal.leaves();
}

#[test]
fn a_word_that_leaves_is_a_text_while_a_conversation_is_open() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (known(&world, "alice", &directory), known(&world, "bob", &directory));
    let mut bob = bob.peer();
    let mut terminal = Terminal::open(&alice, "peer");
    terminal.shows("alice> ");

    terminal.types_line("GET_CLIENT_INFO <bob>");
    terminal.shows("alice to bob> ");
    terminal.types_line("logout");
    assert_eq!(bob.messages(1), ["logout"]);
    terminal.types_line("/close");
    terminal.shows("alice> ");
    terminal.types_line("reg alice");
    terminal.shows("* you are registered as alice");
    terminal.types_line("send bob bye");
    assert_eq!(bob.messages(1), ["bye"]);
    terminal.types_line("logout");
    assert_eq!(terminal.exit_code(), 0);
}

#[test]
fn control_c_empties_the_line_and_control_d_leaves() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (known(&world, "alice", &directory), known(&world, "bob", &directory));
    let mut bob = bob.peer();
    let mut terminal = Terminal::open(&alice, "peer");
    terminal.shows("logged in to"); // it may come above the prompt, and bring another one
    terminal.shows("alice> ");

    terminal.types("/msg bob never sent");
    terminal.shows("never sent");
    terminal.presses(ControlCode::EndOfText);
    terminal.shows("\n"); // not the prompt of the line that was given up
    terminal.shows("alice> ");
    terminal.types_line("/msg bob sent");

    assert_eq!(bob.messages(1), ["sent"]);
    terminal.leaves();
}

#[test]
fn a_control_sequence_in_a_message_arrives_escaped() {
    let world = World::new();
    let directory = world.directory();
    let (alice, bob) = (known(&world, "alice", &directory), known(&world, "bob", &directory));
    let mut bob = bob.peer();
    let mut terminal = Terminal::open(&alice, "peer");
    terminal.shows("alice> ");

    bob.say("/msg alice a\u{1b}]0;owned\u{7}b\u{1b}[2Jc\rd");

    terminal.shows(r"a\u{1b}]0;owned\u{7}b\u{1b}[2Jc\rd");
    assert!(!terminal.seen.contains("\u{1b}]0;owned") && !terminal.seen.contains("\u{1b}[2J"), "{:?}", terminal.seen);
    terminal.leaves();
}

#[test]
fn a_safety_number_comes_with_a_code_for_the_telephone() {
    let world = World::new();
    let directory = world.directory();
    let (alice, _bob) = (known(&world, "alice", &directory), known(&world, "bob", &directory));

    let mut terminal = Terminal::open(&alice, "verify bob");
    terminal.shows("safety number with bob:");
    terminal.shows("█ ▄▄▄▄▄ █");
    terminal.shows("not verified");
    assert_eq!(terminal.exit_code(), 0);
}

#[test]
fn an_export_asks_for_its_passphrase_twice_and_shows_it_never() {
    let world = World::new();
    let directory = world.directory();
    let alice = known(&world, "alice", &directory);

    let mut terminal = Terminal::open(&alice, "export-identity moved");
    terminal.shows("Passphrase for the file");
    terminal.types_line("four words or so");
    terminal.shows("The same again:");
    terminal.types_line("four words or more");
    terminal.shows("two different passphrases");
    terminal.shows("Passphrase for the file");
    terminal.types_line("four words or so");
    terminal.shows("The same again:");
    terminal.types_line("four words or so");
    terminal.shows("use qchat as this person there only");
    assert!(!terminal.seen.contains("four words"), "{}", terminal.seen);
    assert_eq!(terminal.exit_code(), 0);
    assert!(world.folder("work").join("moved").exists());
}

#[test]
fn a_wrong_password_can_be_typed_again() {
    let world = World::new();
    let directory = world.directory();
    known(&world, "alice", &directory);
    let other_machine = World::new();
    let alice = other_machine.person("alice", &directory);

    let mut terminal = Terminal::open(&alice, "who");
    terminal.shows("[y/N]");
    terminal.types_line("y");
    terminal.shows("Password of alice (its key is on another machine)");
    terminal.types_line("wrong one");
    terminal.shows("Wrong password, 2 more tries");
    terminal.types_line(crate::program::PASSWORD);
    assert_eq!(terminal.exit_code(), 0);
}

#[test]
fn an_owner_takes_the_account_back_and_is_told_to_change_the_password() {
    let (world, other_machine) = (World::new(), World::new());
    let directory = world.directory();
    let owner = known(&world, "alice", &directory);
    let thief = other_machine.person("alice", &directory);
    let mut theft = Terminal::open(&thief, "who");
    theft.shows("[y/N]");
    theft.types_line("y");
    theft.shows("Password of alice");
    theft.types_line(crate::program::PASSWORD);
    assert_eq!(theft.exit_code(), 0);

    for (answer, then) in [("n", "it can be undone for 168 h"), ("y", "change it with `qchat account password`")] {
        let mut terminal = Terminal::open(&owner, "who");
        terminal.shows("The key of alice was replaced 0 hours ago from elsewhere: take the account back? [y/N]");
        terminal.types_line(answer);
        terminal.shows(then);
        assert_eq!(terminal.exit_code(), if answer == "y" { 0 } else { 7 });
    }
}

#[test]
fn an_invitation_comes_with_a_code_for_the_telephone() {
    let world = World::new();
    let directory = world.directory();
    let alice = known(&world, "alice", &directory);

    let mut terminal = Terminal::open(&alice, "invite bob");
    terminal.shows("█ ▄▄▄▄▄ █");
    terminal.shows("qchat://127.0.0.1");
    terminal.shows("/bob#");
    assert_eq!(terminal.exit_code(), 0);
}

/// Somebody who has an account and trusts the directory.
fn known<'a>(world: &'a World, name: &'a str, directory: &Directory) -> Person<'a> {
    let person = world.person(name, directory);
    Process::spawn(person.command("who", &[])).outcome().expect_code(0);
    person
}

/// A terminal in which the program runs; it is killed when it is dropped.
struct Terminal {
    session: OsSession,
    /// Everything that was on the screen up to what was waited for last.
    seen: String,
}

impl Terminal {
    /// Starts a verb of a person, who answers questions by themselves.
    fn open(person: &Person<'_>, verb: &str) -> Self {
        let Person { name, server, world } = person;
        let home = person.home();
        let mut command = world.qchat(&format!("{verb} --user {name} --server {server} --home {}", home.display()));
        command.env("TERM", "xterm").env("NO_COLOR", "1");
        let mut session = Session::spawn(command).expect("a terminal");
        session.set_expect_timeout(Some(DEADLINE));
        session.get_process_mut().set_window_size(120, 40).expect("a terminal has a size");
        Self { session, seen: String::new() }
    }

    /// Waits until this is on the screen.
    #[track_caller]
    fn shows(&mut self, text: &str) {
        match self.session.expect(text) {
            Ok(found) => self.seen.push_str(&String::from_utf8_lossy(found.as_bytes())),
            Err(error) => panic!("{text:?} did not come: {error}\nbefore that: {}", self.seen),
        }
    }

    fn types(&mut self, text: &str) {
        self.session.send(text).expect("it reads");
    }

    fn types_line(&mut self, text: &str) {
        self.types(&format!("{text}\r"));
    }

    fn presses(&mut self, key: ControlCode) {
        self.session.send(key).expect("it reads");
    }

    /// Leaves with Ctrl-D.
    #[track_caller]
    fn leaves(mut self) {
        self.presses(ControlCode::EndOfTransmission);
        assert_eq!(self.exit_code(), 0);
    }

    #[track_caller]
    fn exit_code(mut self) -> i32 {
        self.session.expect(Eof).expect("it ends");
        match self.session.get_process().wait().expect("it is ours") {
            WaitStatus::Exited(_, code) => code,
            other => panic!("it ended by {other:?}"),
        }
    }
}
