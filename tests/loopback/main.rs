//! Directory and peers over real QUIC on loopback: what people do, what the bytes are, and what hostile clients try.
#![cfg(test)]

mod world;

mod accounts;
mod chunks;
mod exclusive;
mod files;
mod folders;
mod going_on;
mod hostile;
mod hostile_directory;
mod hostile_people;
mod legacy;
mod links;
mod paths;
mod people;
mod profiles;
mod receipts;
mod receiving;
mod redacted;
mod secrecy;
mod sources;
mod streams;
mod transfers;
mod trust;
