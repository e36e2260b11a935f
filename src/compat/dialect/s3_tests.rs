//! What the dialect `s3` makes of bytes, and which bytes it makes.

use super::*;

const ID: &str = "1b4e28ba-2fa1-41d2-883f-0016d3cca427";

fn id() -> Uuid {
    Uuid::parse(ID).unwrap()
}

#[track_caller]
fn check(datagram: &str, expected: Result<Request, Malformed>) {
    assert_eq!(Request::parse(datagram.as_bytes()), expected, "{datagram:?}");
}

#[test]
fn requests_are_told_apart() {
    let [a, b, hi] = ["a", "b", "hi  there | \u{fc} "].map(str::to_owned);
    check("register: a", Ok(Request::Register { name: a.clone() }));
    check("register:a\n", Ok(Request::Register { name: a.clone() }));
    check("register: ../x y", Ok(Request::Register { name: "../x y".to_owned() }));
    check("dereg a", Ok(Request::Leave { name: a.clone() }));
    check("reg a", Ok(Request::Return { name: a.clone() }));
    check(&format!("ACK {ID}"), Ok(Request::Ack { id: id() }));
    let chat = Request::Chat { sender: a.clone(), id: id(), text: hi.clone() };
    check(&format!("send a {ID} {hi}"), Ok(chat));
    let save = Request::Save { sender: a.clone(), receiver: b.clone(), id: id(), text: hi.clone() };
    check(&format!("send a b {ID} {hi}"), Ok(save));
    let both = Request::Chat { sender: a.clone(), id: id(), text: format!("{ID} hi") };
    check(&format!("send a {ID} {ID} hi"), Ok(both));
    check(&format!("send_all a {ID} {hi}"), Ok(Request::ToAll { sender: a, id: id(), text: hi }));
}

#[test]
fn what_means_nothing_is_malformed() {
    for datagram in [
        "",
        " ",
        "register a",
        "send",
        "send a",
        "send a b",
        "send a b c hi",
        "ACK",
        "ACK dereg",
        "REG a",
        "hello there",
        "send_all a hi",
        "{\"type\": \"REGISTER\"}",
    ] {
        check(datagram, Err(Malformed));
    }
    check(&format!("send a {ID}"), Err(Malformed));
    let nothing = Request::Chat { sender: "a".to_owned(), id: Uuid::parse(ID).unwrap(), text: String::new() };
    check(&format!("send a {ID} "), Ok(nothing));
    check(&format!("send a b {}g text", &ID[..35]), Err(Malformed));
    assert_eq!(Request::parse(b"register: \xff"), Err(Malformed));
    let long = format!("send a {ID} {}", "x".repeat(S3_DATAGRAM_BYTES_MAX));
    check(&long, Err(Malformed));
    check(&long[..S3_DATAGRAM_BYTES_MAX], Request::parse(&long.as_bytes()[..S3_DATAGRAM_BYTES_MAX]));
    assert!(Request::parse(&long.as_bytes()[..S3_DATAGRAM_BYTES_MAX]).is_ok());
}

#[test]
fn answers_are_the_bytes_of_the_originals() {
    let mut table = Table::default();
    let place = |port, online| Place { ip: "127.0.0.1".to_owned(), port, online };
    assert!(table.add("b".to_owned(), place(20_003, false)));
    assert!(table.add("a".to_owned(), place(20_002, true)));
    let expected = r#"{"a": {"ip": "127.0.0.1", "port": 20002, "online": true}, "b": {"ip": "127.0.0.1", "port": 20003, "online": false}}"#;
    assert_eq!(String::from_utf8(table.datagram()).unwrap(), expected);
    assert_eq!(ack(&id()), format!("ACK {ID}").as_bytes());
    assert_eq!(saved(&id()), format!("offlineACK {ID}").as_bytes());
    assert_eq!(notice("Client b exists!!"), b"rereg \n>>> [Client b exists!!]");
    assert_eq!(chat("alice", &id(), "hi"), format!("send alice {ID} hi").as_bytes());
    assert_eq!(error("no\nroom"), b"error: no room");
}

#[test]
fn a_table_is_never_longer_than_a_client_takes() {
    let mut table = Table::default();
    let place = Place { ip: "192.168.100.100".to_owned(), port: 20_000, online: false };
    let added = (0..100).take_while(|number| table.add(format!("somebody-{number}"), place.clone())).count();
    let bytes = table.datagram();
    assert!((20..=30).contains(&added), "{added}");
    assert!((1_900..=S3_TAKEN_BYTES_MAX).contains(&bytes.len()), "{}", bytes.len());
}

#[test]
fn times_are_those_of_ctime() {
    let check = |seconds: u64, expected: &str| assert_eq!(ctime(UnixMillis(seconds * 1_000 + 999)), expected);
    check(0, "Thu Jan  1 00:00:00 1970");
    check(1_606_586_273, "Sat Nov 28 17:57:53 2020");
    check(951_782_399, "Mon Feb 28 23:59:59 2000");
    check(951_782_400, "Tue Feb 29 00:00:00 2000");
    check(4_107_542_400, "Mon Mar  1 00:00:00 2100");
    check(1_735_689_599, "Tue Dec 31 23:59:59 2024");
    assert_eq!(ctime(UnixMillis(u64::MAX)), "Fri Dec 31 23:59:59 9999");
}

#[test]
fn mail_is_cut_into_what_a_client_takes_and_no_letter_is_lost() {
    let letter =
        |text: &str| Letter { sender: "b".to_owned(), sent_at: UnixMillis(1_606_586_273_000), text: text.to_owned() };
    let expected =
        "rereg You Have Messages:\n>>> b: Sat Nov 28 17:57:53 2020 hi\n>>> b: Sat Nov 28 17:57:53 2020 a b\n";
    let short = mail(&[letter("hi"), letter("a\nb")]);
    assert_eq!(short, [MailDatagram { bytes: expected.as_bytes().to_vec(), letters_ended: 2 }]);
    assert_eq!(mail(&[]), []);
    let letters: Vec<_> = (0..9).map(|number| letter(&"ä".repeat(number * 400 + 1))).collect();
    let datagrams = mail(&letters);
    assert!(datagrams.iter().all(|datagram| datagram.bytes.len() <= S3_TAKEN_BYTES_MAX));
    assert_eq!(datagrams.iter().map(|datagram| datagram.letters_ended).sum::<usize>(), 9);
    let all: String = datagrams.iter().map(|datagram| String::from_utf8(datagram.bytes.clone()).unwrap()).collect();
    assert_eq!(all.matches('ä').count(), (0..9).map(|number| number * 400 + 1).sum::<usize>());
}

#[test]
fn long_texts_are_numbered_and_whole() {
    assert_eq!(chat_texts("alice", "hi\u{1b}[2J\tthere"), ["hi [2J\tthere"]);
    let longest = "x".repeat(S3_TAKEN_BYTES_MAX - "send alice ".len() - 37);
    assert_eq!(chat_texts("alice", &longest), std::slice::from_ref(&longest));
    let text: String = ('a'..='z').cycle().take(5_000).chain("äöü😀".chars().cycle().take(2_000)).collect();
    let texts = chat_texts("alice", &text);
    assert!(texts.len() > 1);
    let mut whole = String::new();
    for (before, part) in texts.iter().enumerate() {
        assert!(chat("alice", &id(), part).len() <= S3_TAKEN_BYTES_MAX);
        whole.push_str(part.strip_prefix(&format!("({}/{}) ", before + 1, texts.len())).unwrap());
    }
    assert_eq!(whole, text);
}

#[test]
fn random_numbers_are_uuids_of_version_4() {
    let made = Uuid::random([0xff; 16]);
    assert_eq!(made.to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    assert_eq!(Uuid::parse(&made.to_string()), Ok(made));
}
