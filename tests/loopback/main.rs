//! Directory and peers over real QUIC on loopback: what people do, what the bytes are, and what hostile clients try.
#![cfg(test)]

mod world;

mod accounts;
mod chunks;
mod files;
mod hostile;
mod hostile_directory;
mod links;
mod paths;
mod people;
mod receipts;
mod redacted;
mod secrecy;
mod streams;
mod trust;
