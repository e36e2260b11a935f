//! WHAT IS DECIDED: state machines; messages and time in, actions out; no I/O.

pub mod address_proof;
pub mod audit;
pub mod backoff;
pub mod consent;
pub mod conversation;
mod direct_search;
pub mod exclusive;
pub mod friendship;
pub mod groups;
pub mod key_change;
pub mod lanes;
pub mod lockout;
pub mod mailbox;
pub mod new_accounts;
pub mod password_tries;
pub mod people;
pub mod prekeys;
pub mod presence;
pub mod profile;
pub mod rate;
pub mod recent;
pub mod relay;
mod relay_leg;
pub mod rendezvous;
pub mod source;
pub mod trust;
