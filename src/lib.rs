//! The layers of qchat in reading order. The map that follows is ARCHITECTURE.md.
//!
#![doc = include_str!("../ARCHITECTURE.md")]

// What is said.
pub mod wire;

// What is secret, and what is decided.
pub mod protocol;
pub mod seal;

// The network, the clock, the disk, the processor.
pub mod clock;
pub mod database;
pub mod lines;
mod one_thread;
pub mod storage;
pub mod transport;

// The two services, which meet on the wire only.
pub mod directory;
pub mod peer;

// The faces.
pub mod cli;
pub mod compat;
