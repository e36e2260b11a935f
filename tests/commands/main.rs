//! The real binary from outside: processes, pipes, signals, terminals, exit codes. Nothing here calls the library.

#[path = "../auditor/mod.rs"]
mod auditor;

mod accounts;
mod chat;
mod compat;
mod consent;
mod doctor;
mod files;
mod folders;
mod history;
mod identity;
mod legacy;
mod limit;
mod old_words;
mod people;
mod presence;
mod profiles;
mod program;
mod renewal;
mod schema;
mod secrets;
mod survival;
mod terminal;
mod transfers;
mod trust;
mod verbs;
mod windows;
mod wiretap;
mod wrong;
