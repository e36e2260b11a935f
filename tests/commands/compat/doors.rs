//! What an operator may ask for, and what is refused with a word.

use std::net::UdpSocket;

use super::directory_for;
use crate::program::{Process, World};

fn serve(world: &World, flags: &str) -> crate::program::Outcome {
    let (cert, data) = (world.path("cert"), world.path("data"));
    let (cert, data) = (cert.display(), data.display());
    let command = format!("serve --cert {cert} --data {data} --listen 127.0.0.1:0 --relay-ports any {flags}");
    Process::spawn(world.qchat(&command)).outcome()
}

#[test]
fn wrong_doors_are_named() {
    let world = World::new();
    let wrong = |flags: &str, says: &str| serve(&world, flags).expect_error(2, says);
    wrong("--compat s9=127.0.0.1:9", "there is no dialect \"s9\": json, s2, s3 or s4");
    wrong("--compat 127.0.0.1:9", "a dialect and an address, as in json=127.0.0.1:9000");
    wrong("--compat json=localhost", "is not an address with a port");
    wrong("--compat s2=8.8.8.8:9000", "s2 has neither passwords nor encryption: 8.8.8.8:9000 is no private address");
    wrong("--compat s3=0.0.0.0:0", "0.0.0.0:0 is no private address");
    wrong("--compat s2=127.0.0.1:0 --compat s2=127.0.0.1:0", "s2 is named twice");
    wrong("--compat s2=127.0.0.1:9000 --compat s3=127.0.0.1:9000", "two dialects cannot share 127.0.0.1:9000");
    wrong("--compat-ports 20000-29999", "the settings for older programs need a dialect");
    wrong("--compat s2=127.0.0.1:0 --compat-ports 29999-20000", "ports are a range such as 9100-9199");
    wrong("--compat s2=127.0.0.1:0 --compat-allow everybody", "invalid value 'everybody' for '--compat-allow <CIDR>'");
    wrong("--compat s4=127.0.0.1:0", "without names and passwords nobody can log in to s4");
    wrong("--compat s2=127.0.0.1:0 --compat-credentials x", "--compat-credentials is for the dialects s4 and json");
    wrong("--compat s4=127.0.0.1:0 --compat-credentials nowhere", "cannot read nowhere");
    let credentials = |lines: &str| {
        let file = world.write("credentials", lines);
        format!("--compat s4=127.0.0.1:0 --compat-credentials {}", file.display())
    };
    wrong(&credentials("seas winning\nalice\n"), "line 2 of");
    wrong(&credentials("Bad/Name secret\n"), "line 1 of");
    wrong(&credentials("seas winning\nSeas other\n"), "seas is there twice");
}

#[test]
fn a_door_that_somebody_else_has_is_named() {
    let world = World::new();
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let holder = UdpSocket::bind(taken).unwrap();
    serve(&world, &format!("--compat s3={taken}")).expect_error(1, &format!("s3 cannot listen on {taken}"));
    drop(holder);
}

#[test]
fn doors_are_closed_unless_asked_for_and_printed_when_open() {
    let world = World::new();
    let credentials = world.write("credentials", "seas winning\n");
    let flags = format!("--compat-credentials {}", credentials.display());
    let directory = directory_for(&world, &["json", "s2", "s3", "s4"], &flags);
    let open: Vec<_> = directory.doors.keys().cloned().collect();
    assert_eq!(open, ["json", "s2", "s3", "s4"]);
    assert!(directory.doors.values().all(|door| door.ip().is_loopback() && door.port() != 0));
    let other = World::new();
    assert!(other.directory().doors.is_empty());
}
