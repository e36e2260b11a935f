//! Directory and peers over real QUIC on loopback: what people do, what the bytes are, and what hostile clients try.
#![cfg(test)]

mod world;

mod accounts;
mod chunks;
mod exclusive;
mod files;
mod hostile;
mod hostile_directory;
mod hostile_people;
mod legacy;
mod links;
mod paths;
mod people;
mod profiles;
mod receipts;
mod redacted;
mod secrecy;
mod streams;
mod trust;
