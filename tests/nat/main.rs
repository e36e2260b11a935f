//! The real program between NATs: two peers behind home routers of every kind, a directory with a public address, all in
//! network namespaces that each test makes for itself (Linux with nftables; no root is needed where user namespaces are
//! allowed). What a test needs and does not find makes it fail and say what to install.
//!
//! `tests/nat/run` prints a table of times, for all pairs of routers or for some of them.

#![expect(clippy::print_stdout, reason = "a table is printed, and what a test measured")]

#[macro_use]
mod inside;

#[path = "../commands/program.rs"]
#[expect(dead_code, reason = "the tests of the commands use the rest")]
mod program;

mod cable;
mod cables;
mod capture;
mod cells;
mod change;
mod crowd;
mod families;
mod four;
mod gate;
mod lab;
mod namespaces;
mod outage;
mod pairs;
mod people;
mod probes;
mod routers;
mod secrecy;
mod sockets;
mod table;
