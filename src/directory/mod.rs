//! SERVICE: the directory. Who is who, who is online, what waits for whom, who shares what. Never a message's text, a
//! file's byte or a private key.

pub mod server;
pub mod store;

mod session;

mod care;
mod consent;
mod login;
mod mailbox;
mod other_key;
mod people;
mod presence;
mod rendezvous;
mod requests;

pub mod admin;
mod dials;
pub mod gate;
mod hints;
pub mod invitations;
pub mod legacy;
mod registry;
pub mod relay;
mod shared;

#[cfg(test)]
mod chance;
#[cfg(test)]
mod relay_tests;
#[cfg(test)]
mod tests;
