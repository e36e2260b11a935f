//! Programs that speak `s2`: of the kinds K, A and J, with each other and with people who use qchat.

mod files;
mod messages;
pub(super) mod program;
mod trouble;

use std::net::SocketAddr;

use serde_json::Value;

use super::{directory_for, door};
use crate::program::{DEADLINE, Directory, Person, World};

/// A directory with a door for this dialect.
fn directory(world: &World) -> (Directory, SocketAddr) {
    let directory = directory_for(world, &["s2"], "");
    let server = door(&directory, "s2");
    (directory, server)
}

/// Waits until somebody finds a file: it is fetched from the program that lists it behind the answer.
#[track_caller]
pub(super) fn found(person: &Person<'_>, file: &str) -> Value {
    let began = std::time::Instant::now();
    while began.elapsed() < DEADLINE {
        if let Some(row) = person.rows("find", &[file]).into_iter().find(|row| row["name"] == file) {
            return row;
        }
    }
    panic!("nobody publishes {file}");
}

/// Where a row of K's table says that somebody is.
pub(super) fn address(row: &Value) -> SocketAddr {
    let (ip, port) = (row[1].as_str().expect("an address"), row[3].as_u64().expect("a port"));
    SocketAddr::new(ip.parse().expect("an address"), u16::try_from(port).expect("a port"))
}
