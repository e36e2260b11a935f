//! Programs of the older systems against the real `qchat serve`: scripted byte by byte from what those systems said.

mod doors;
mod json;
mod mixed;
mod s2;
mod s3;
mod s4;

use std::net::SocketAddr;

use crate::program::{Directory, World};

/// A directory with doors for these dialects, at free ports of this machine.
fn directory_for(world: &World, dialects: &[&str], flags: &str) -> Directory {
    let doors: String = dialects.iter().map(|dialect| format!("--compat {dialect}=127.0.0.1:0 ")).collect();
    // Of this range every test takes what is free.
    world.directory_that("127.0.0.1:0", &format!("{doors}--compat-ports 20000-29999 {flags}"))
}

/// Where a dialect is spoken.
fn door(directory: &Directory, dialect: &str) -> SocketAddr {
    *directory.doors.get(dialect).expect("the directory has this door")
}
