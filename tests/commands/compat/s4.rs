//! Programs that speak `s4`: frames over TCP to the message center, and a listener of their own for what they are pushed.

#[path = "s4/client.rs"]
pub(super) mod client;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use client::{Center, Client, Listener, frame, frame_of};

use super::{directory_for, door};
use crate::program::{Directory, Process, World, text};

const CREDENTIALS: &str = "seas seaspass\nColumbia columbiapass\ngoogle googlepass\nfacebook two words\n";

fn center(world: &World) -> (Directory, Center) {
    let credentials = world.write("credentials.txt", CREDENTIALS);
    let directory = directory_for(world, &["s4"], &format!("--compat-credentials {}", credentials.display()));
    let center = Center(door(&directory, "s4"));
    (directory, center)
}

/// Two clients who know that the other is here.
fn two(center: &Center) -> (Client, Client) {
    let seas = center.log_in("seas", "seaspass");
    let columbia = center.log_in("columbia", "columbiapass");
    seas.expect("Columbia has logged on.");
    (seas, columbia)
}

#[test]
fn who_is_wrong_three_times_waits_and_nobody_else_does() {
    let world = World::new();
    let (_directory, center) = center(&world);
    let mut login = center.connect_from([127, 0, 0, 1]);
    frame(&mut login, "LIN");
    let mut answers = |name: &str, password: &str| {
        frame(&mut login, name);
        frame(&mut login, password);
        frame_of(&mut login).expect("an answer")
    };
    assert_eq!(answers("seas", "wrong"), "LOGIN_FAILED|2");
    assert_eq!(answers("nobody", "wrong"), "LOGIN_FAILED|2", "whether there is such a name is not said");
    assert_eq!(answers("../x|", ""), "LOGIN_FAILED|2");
    assert_eq!(answers("seas", ""), "LOGIN_FAILED|1");
    assert_eq!(answers("seas", "seaspas"), "JUST_PENNED|60");
    let locked = answers("seas", "seaspass");
    let seconds: u64 = locked.strip_prefix("PENNED|").expect("the right password neither").parse().expect("seconds");
    assert!((1..=60).contains(&seconds), "{locked}");
    assert_eq!(answers("nobody", "wrong"), "LOGIN_FAILED|1");
    assert_eq!(answers("nobody", "wrong"), "JUST_PENNED|60");

    let seas = center.log_in_from([127, 0, 0, 2], "seas", "seaspass");
    assert_eq!(answers("columbia", "wrong"), "LOGIN_FAILED|2");
    assert_eq!(answers("columbia", "columbiapass"), "LOGIN_OKAY", "on the same connection");
    let columbia = center.settled(login, Listener::begin(SocketAddr::from(([127, 0, 0, 1], 0))));
    seas.expect("Columbia has logged on.");
    seas.ask("MSG|seas|TOKEN|columbia|in at last");
    columbia.expect("[seas]: in at last");
}

#[test]
fn frames_are_cut_and_joined_by_tcp_as_it_likes() {
    let world = World::new();
    let (_directory, center) = center(&world);
    let seas = center.log_in("seas", "seaspass");
    let (columbia, _pushes) = Listener::begin(SocketAddr::from(([127, 0, 0, 1], 0)));

    // The whole login in one segment: the port is known before the token.
    let mut joined = Vec::new();
    for payload in ["LIN", "columbia", "wrong", "columbia", "columbiapass", "localhost", &columbia.port().to_string()] {
        frame(&mut joined, payload);
    }
    let mut login = center.connect_from([127, 0, 0, 1]);
    login.write_all(&joined).expect("the door is open");
    assert_eq!(frame_of(&mut login).as_deref(), Some("LOGIN_FAILED|2"));
    assert_eq!(frame_of(&mut login).as_deref(), Some("LOGIN_OKAY"));
    let token = frame_of(&mut login).expect("a token");
    assert!(token.len() == 10 && token.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{token}");
    assert_eq!(frame_of(&mut login), None, "then it is closed");
    seas.expect("Columbia has logged on.");

    let mut request = Vec::new();
    frame(&mut request, &format!("MSG|columbia|{token}|seas|byte by byte"));
    let mut slow = center.connect_from([127, 0, 0, 1]);
    slow.set_nodelay(true).expect("an option of TCP");
    for byte in &request {
        slow.write_all(std::slice::from_ref(byte)).expect("the door is open");
    }
    seas.expect("[Columbia]: byte by byte");
}

#[test]
fn whatever_is_said_comes_as_it_was_said() {
    let world = World::new();
    let (_directory, center) = center(&world);
    let (seas, columbia) = two(&center);
    for text in [
        "hi there",
        "a|b||c",
        "grüße 你好 🎉",
        "{\"x\": \"\\n\"}",
        " blanks ",
        &"long ".repeat(600),
        &"x".repeat(15 * 1_024),
    ] {
        assert_eq!(seas.ask(&format!("MSG|seas|TOKEN|Columbia|{text}")), None, "nothing is answered");
        columbia.expect(&format!("[seas]: {text}"));
    }
    seas.ask("MSG|SEAS|TOKEN|seas|to myself");
    seas.expect("[seas]: to myself");
    seas.ask("MSG|seas|TOKEN|columbia|");
    seas.expect_with("1 to 15360 bytes");
    seas.ask(&format!("MSG|seas|TOKEN|columbia|{}", "x".repeat(15 * 1_024 + 1)));
    seas.expect_with("1 to 15360 bytes");
    seas.ask("MSG|seas|TOKEN|nobody2|hi");
    seas.expect("nobody2: nobody of that name has an account here");
    seas.ask("MSG|seas|TOKEN|../x|hi");
    seas.expect_with("../x");
    columbia.ask("MSG|columbia|TOKEN|seas|two\n[google]: voices");
    seas.expect("[Columbia]: two\n  [google]: voices");
}

#[test]
fn what_is_said_at_once_comes_in_order() {
    let world = World::new();
    let (_directory, center) = center(&world);
    let (seas, columbia) = two(&center);
    let said: Vec<String> = (0..40).map(|number| format!("line {number}")).collect();
    // Nobody waits for the end of the connection before: as a script does.
    let connections: Vec<TcpStream> = said
        .iter()
        .map(|line| {
            let mut connection = center.connect_from([127, 0, 0, 1]);
            frame(&mut connection, &format!("MSG|seas|{}|columbia|{line}", seas.token()));
            connection
        })
        .collect();
    for line in said {
        columbia.expect(&format!("[seas]: {line}"));
    }
    drop(connections);
}

#[test]
fn a_broadcast_and_the_list_of_those_who_are_here() {
    let world = World::new();
    let (directory, center) = center(&world);
    let (seas, columbia) = two(&center);
    let mut bob = world.person("bob", &directory).peer();
    for client in [&seas, &columbia] {
        client.expect("bob has logged on.");
    }
    seas.ask("BRD|seas|TOKEN|yo|yo");
    seas.expect("[seas]: yo|yo");
    columbia.expect("[seas]: yo|yo");
    assert_eq!(text(&bob.event("announcement"), "text"), "yo|yo");
    bob.say("/broadcast hello old friends");
    for client in [&seas, &columbia] {
        client.expect("[bob]: hello old friends");
    }
    bob.say("/who");
    bob.event_where("person", |person| person["name"] == "columbia");
    bob.event_where("person", |person| person["name"] == "seas");
    seas.ask("ONL|seas|TOKEN|");
    seas.expect("[CURRENTLY ONLINE]: bob Columbia seas ");
    bob.quit();
    for client in [&seas, &columbia] {
        client.expect("bob is offline.");
    }
    columbia.ask("OUT|columbia|TOKEN|");
    seas.expect("Columbia is offline.");
    columbia.ask("MSG|columbia|TOKEN|seas|not here any more");
    seas.ask("ONL|seas|TOKEN");
    seas.expect("[CURRENTLY ONLINE]: seas ");
}

#[test]
fn who_blocks_is_told_and_who_is_blocked_cannot_tell() {
    let world = World::new();
    let (directory, center) = center(&world);
    let (seas, columbia) = two(&center);
    let mut bob = world.person("bob", &directory).peer();
    for client in [&seas, &columbia] {
        client.expect("bob has logged on.");
    }
    seas.ask("BLC|seas|TOKEN|1|columbia");
    seas.expect("You have blocked Columbia");
    // From there it looks as if seas had left.
    columbia.expect("seas is offline.");
    columbia.ask("MSG|columbia|TOKEN|seas|hello?");
    columbia.expect("Your message could not be delivered as the recipient has blocked you.");
    columbia.ask("ONL|columbia|TOKEN|");
    columbia.expect("[CURRENTLY ONLINE]: bob Columbia ");
    columbia.ask("BRD|columbia|TOKEN|all of you");
    columbia.expect("[Columbia]: all of you");
    columbia.expect("Your message could not be delivered to some recipients.");
    assert_eq!(text(&bob.event("announcement"), "text"), "all of you");
    assert_eq!(columbia.ask("GET|columbia|TOKEN|seas").as_deref(), Some("FAIL"));

    // Whoever shows themselves to friends only is answered the same.
    bob.say("/privacy friends");
    columbia.expect("bob is offline.");
    columbia.ask("MSG|columbia|TOKEN|bob|hello?");
    columbia.expect("Your message could not be delivered as the recipient has blocked you.");
    assert_eq!(columbia.ask("GET|columbia|TOKEN|bob").as_deref(), Some("FAIL"));

    seas.expect("bob is offline.");
    seas.ask("BLC|seas|TOKEN|0|columbia");
    seas.expect("You have unblocked Columbia");
    columbia.expect("seas has logged on.");
    columbia.ask("MSG|columbia|TOKEN|seas|hello again");
    seas.expect("[Columbia]: hello again");
    seas.ask("BLC|seas|TOKEN|1|seas");
    seas.expect_with("yourself");
    seas.ask("BLC|seas|TOKEN|2|columbia");
    seas.ask("MSG|seas|TOKEN|columbia|nothing happened");
    columbia.expect("[seas]: nothing happened");
}

#[test]
fn mail_waits_for_whoever_is_away_and_comes_together() {
    let world = World::new();
    let (directory, center) = center(&world);
    let (seas, columbia) = two(&center);
    let (bob, alice) = (world.person("bob", &directory), world.person("alice", &directory));
    let (mut bob, mut alice) = (bob.peer(), alice.peer());
    seas.expect("bob has logged on.");
    seas.expect("alice has logged on.");
    columbia.ask("OUT|columbia|TOKEN|");
    seas.expect("Columbia is offline.");
    seas.ask("MSG|seas|TOKEN|columbia|first");
    seas.expect("The recipient is offline. Messages will be delivered when they log on again.");
    bob.say("/msg columbia second");
    bob.event("stored");
    seas.ask("MSG|seas|TOKEN|columbia|third|part");
    seas.expect("The recipient is offline. Messages will be delivered when they log on again.");
    alice.say("/msg columbia grüße|你好");
    alice.event("stored");
    // Never here before, and mail waits all the same.
    seas.ask("MSG|seas|TOKEN|google|welcome");
    seas.expect("The recipient is offline. Messages will be delivered when they log on again.");

    let columbia = center.log_in("columbia", "columbiapass");
    columbia.expect("While you were away...\n[seas]: first\n[bob]: second\n[seas]: third|part\n[alice]: grüße|你好");
    seas.expect("Columbia has logged on.");
    let google = center.log_in("google", "googlepass");
    google.expect("While you were away...\n[seas]: welcome");
    columbia.expect("google has logged on.");
    seas.ask("MSG|seas|TOKEN|columbia|and now");
    columbia.expect("[seas]: and now");
    let again = center.log_in("columbia", "columbiapass");
    seas.ask("MSG|seas|TOKEN|columbia|once only");
    again.expect("[seas]: once only");
}

#[test]
fn a_second_login_takes_over() {
    let world = World::new();
    let (_directory, center) = center(&world);
    let (seas, columbia) = two(&center);
    let elsewhere = center.log_in_from([127, 0, 0, 2], "columbia", "columbiapass");
    columbia.expect("Logged on different location!");
    assert_eq!(columbia.ask("GET|columbia|TOKEN|seas"), None, "the token is void");
    columbia.ask("MSG|columbia|TOKEN|seas|from the void");
    elsewhere.ask("MSG|columbia|TOKEN|seas|from elsewhere");
    seas.expect("[Columbia]: from elsewhere");
    seas.ask("MSG|seas|TOKEN|columbia|hi");
    elsewhere.expect("[seas]: hi");
    assert!(columbia.has_nothing_more());

    // A token is worth nothing at another address than that of its login.
    let stolen = elsewhere.token().to_owned();
    let mut thief = center.connect_from([127, 0, 0, 3]);
    frame(&mut thief, &format!("GET|columbia|{stolen}|seas"));
    assert_eq!(frame_of(&mut thief), None);

    // The program that comes back to its own port is not told of itself.
    let back = elsewhere.comes_back("columbia", "columbiapass");
    seas.ask("MSG|seas|TOKEN|columbia|welcome back");
    back.expect("[seas]: welcome back");
}

#[test]
fn an_address_is_told_by_consent_only() {
    let world = World::new();
    let (_directory, center) = center(&world);
    let (seas, columbia) = two(&center);
    assert_eq!(seas.ask("GET|seas|TOKEN|columbia").as_deref(), Some("OKAY"));
    columbia.expect("Request: seas wants your address. [allow seas] to accept.");
    assert_eq!(columbia.ask("ALL|columbia|TOKEN|seas"), None);
    seas.expect(&format!("ADR|Columbia|127.0.0.1|{}", columbia.port()));
    // Asked again within the hour, it is told at once.
    assert_eq!(seas.ask("GET|seas|TOKEN|columbia").as_deref(), Some("OKAY"));
    seas.expect(&format!("ADR|Columbia|127.0.0.1|{}", columbia.port()));
    for nobody in ["google", "nobody2", "seas", "../x", ""] {
        assert_eq!(seas.ask(&format!("GET|seas|TOKEN|{nobody}")).as_deref(), Some("FAIL"), "{nobody}");
    }
    columbia.ask("ALL|columbia|TOKEN|google");
    columbia.expect("google has gone offline. Please allow access when they are online again.");
}

#[test]
fn private_words_reach_people_on_qchat_and_theirs_come_back() {
    let world = World::new();
    let (directory, center) = center(&world);
    let (seas, columbia) = two(&center);
    let mut bob = world.person("bob", &directory).peer();
    for client in [&seas, &columbia] {
        client.expect("bob has logged on.");
    }
    assert_eq!(seas.ask("GET|seas|TOKEN|bob").as_deref(), Some("OKAY"));
    assert_eq!(text(&bob.event("consent_asked"), "from"), "seas");
    bob.say("/allow seas");
    let address = seas.next();
    let port = address.strip_prefix("ADR|bob|127.0.0.1|").unwrap_or_else(|| panic!("{address}"));
    let port: u16 = port.parse().expect("a port");
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    seas.whisper(at, "<seas>: psst|psst");
    let message = bob.event("message");
    assert_eq!((text(&message, "from"), text(&message, "text")), ("seas", "psst|psst"));
    // Neither whoever is not here, nor whoever speaks from elsewhere.
    seas.whisper(at, "<google>: it is me");
    Center(at).say_from([127, 0, 0, 2], "<seas>: it is me");
    seas.whisper(at, "[seas]: it is me");
    seas.whisper(at, "<seas>: only me");
    assert_eq!(text(&bob.event("message"), "text"), "only me");
    bob.say("/msg seas pst yourself");
    seas.expect("[bob]: pst yourself");

    bob.say("/connect columbia");
    columbia.expect("Request: bob wants your address. [allow bob] to accept.");
    columbia.ask("ALL|columbia|TOKEN|bob");
    assert_eq!(bob.event("consent_answered")["allowed"], true);
    bob.event_where("connected", |event| event["name"] == "columbia");

    // Whoever asks with a verb that ends is in no list, and can be allowed all the same.
    let carol = world.person("carol", &directory);
    let connect = Process::spawn(carol.command("connect --json", &["columbia"]));
    columbia.expect("Request: carol wants your address. [allow carol] to accept.");
    columbia.ask("ALL|columbia|TOKEN|carol");
    connect.outcome().expect_code(0);
}

#[test]
fn who_has_no_port_to_be_shown_is_written_to_instead() {
    let world = World::new();
    let credentials = world.write("credentials.txt", CREDENTIALS);
    let flags = format!("--compat s4=127.0.0.1:0 --compat-credentials {}", credentials.display());
    let directory = world.directory_that("127.0.0.1:0", &flags);
    let seas = Center(door(&directory, "s4")).log_in("seas", "seaspass");
    let mut bob = world.person("bob", &directory).peer();
    seas.expect("bob has logged on.");
    assert_eq!(seas.ask("GET|seas|TOKEN|bob").as_deref(), Some("OKAY"));
    bob.event("consent_asked");
    bob.say("/allow seas");
    seas.expect("bob allows it, but has no address that this program can use: write a message");
}

#[test]
fn a_program_that_is_killed_is_missed_and_its_mail_kept() {
    let world = World::new();
    let (directory, center) = center(&world);
    let (seas, mut columbia) = two(&center);
    let mut bob = world.person("bob", &directory).peer();
    columbia.expect("bob has logged on.");
    seas.expect("bob has logged on.");
    columbia.stops_listening();
    for number in 1..=3 {
        bob.say(&format!("/msg columbia {number}"));
    }
    seas.expect("Columbia is offline.");
    let columbia = center.log_in("columbia", "columbiapass");
    columbia.expect("While you were away...\n[bob]: 1\n[bob]: 2\n[bob]: 3");
}

#[test]
fn clients_go_on_after_a_restart_of_the_center() {
    let world = World::new();
    let (directory, center) = center(&world);
    let (seas, columbia) = two(&center);
    let mut bob = world.person("bob", &directory).peer();
    seas.expect("bob has logged on.");
    columbia.expect("bob has logged on.");
    assert_eq!(seas.ask("GET|seas|TOKEN|bob").as_deref(), Some("OKAY"));
    bob.event("consent_asked");
    bob.say("/allow seas");
    let address = seas.next();
    let port: u16 = address.strip_prefix("ADR|bob|127.0.0.1|").expect("an address").parse().expect("a port");

    let flags = format!(
        "--relay-ports any --compat s4={} --compat-ports 20000-29999 --compat-credentials {}",
        center.0,
        world.path("credentials.txt").display()
    );
    directory.process.signal(rustix::process::Signal::TERM);
    directory.process.outcome().expect_code(0);
    let _directory = world.directory_that(&directory.address.to_string(), &flags);
    bob.event("logged_in");
    seas.ask_until("GET|seas|TOKEN|columbia", "OKAY");
    columbia.expect_later("Request: seas wants your address. [allow seas] to accept.");
    seas.ask("MSG|seas|TOKEN|columbia|after the restart");
    columbia.expect_later("[seas]: after the restart");
    seas.whisper(SocketAddr::from(([127, 0, 0, 1], port)), "<seas>: still you?");
    assert_eq!(text(&bob.event("message"), "text"), "still you?");
}

#[test]
fn nothing_hostile_ends_the_door() {
    let world = World::new();
    let (_directory, center) = center(&world);
    let (seas, columbia) = two(&center);
    let too_long = [&[0, 1, 0, 1][..], &[b'x'; 100]].concat();
    let huge = [255; 1_000];
    for bytes in [
        &too_long[..],
        &huge,
        &[0, 0, 0, 0],
        &[0, 0, 0, 3, 0xff, 0xfe, 0xfd],
        b"GET / HTTP/1.1\r\n\r\n",
        &[0, 0, 0, 9, b'M'],
    ] {
        let mut hostile = center.connect_from([127, 0, 0, 3]);
        hostile.write_all(bytes).expect("the door is open");
        // It may have been thrown out already.
        drop(hostile.shutdown(std::net::Shutdown::Write));
        let mut answer = Vec::new();
        match hostile.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
        assert!(answer.is_empty(), "{bytes:?} is answered {answer:?}");
    }
    for request in [
        "MSG|seas|0123456789|columbia|hi",
        "OUT|seas||",
        "OUT|columbia|TOKEN|",
        "XYZ|seas|TOKEN|",
        "MSG|seas|TOKEN|columbia",
    ] {
        assert_eq!(seas.ask(request), None);
    }
    // Connections of one address are counted, and nobody else's.
    let silent: Vec<TcpStream> = (0..200).map(|_| center.connect_from([127, 0, 0, 3])).collect();
    seas.ask("MSG|seas|TOKEN|columbia|still here");
    columbia.expect("[seas]: still here");
    drop(silent);
    seas.ask("HEY|seas|TOKEN|");

    // Ports below 1024 are not pushed to: the session ends before it has begun.
    let mut login = center.connect_from([127, 0, 0, 1]);
    for payload in ["LIN", "google", "googlepass"] {
        frame(&mut login, payload);
    }
    assert_eq!(frame_of(&mut login).as_deref(), Some("LOGIN_OKAY"));
    frame_of(&mut login).expect("a token");
    for payload in ["127.0.0.1", "80"] {
        frame(&mut login, payload);
    }
    assert_eq!(frame_of(&mut login), None);
    for client in [&seas, &columbia] {
        client.expect("google has logged on.");
        client.expect("google is offline.");
    }
}
