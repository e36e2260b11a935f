//! WHAT IS SAID: plain data, its encoding and its bounds. Knows no network, no file, no key operation.

pub mod ids;

#[macro_use]
mod text;

pub mod account;
pub mod catalog;
pub mod datagram;
pub mod directory;
pub mod manifest;
pub mod message;
pub mod people;
pub mod profile;
pub mod rendezvous;
pub mod transfer;

pub mod chunk;
pub mod codec;
pub mod limits;
pub mod refusal;
