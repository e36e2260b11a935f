//! SERVICE: a running peer. Faces give it commands and hear events; it keeps the session, delivers, shares and fetches.

pub mod event;
pub mod failure;
pub mod handle;
pub mod path;
pub mod rows;

pub mod directory_link;
pub mod doctor;
pub mod driver;
pub mod history;

mod account;
mod announcements;
mod audit;
mod blocks;
mod catalogue;
mod commands;
mod consent;
mod contacts;
pub mod context;
mod direct;
mod exclusive;
mod friends;
mod inbox;
mod limits;
mod messages;
mod outbox;
mod prekeys;
mod presence;
mod profiles;
mod read_ahead;
mod receipts;
mod sending;
mod sending_files;
mod status;

mod candidates;
mod links;
mod observation;
mod peer_links;
mod rendezvous;

mod download;
mod file_stream;
mod folder_download;
mod folders;
mod large_files;
mod offers;
mod progress;
mod transfer_attempt;
mod transfer_keeper;
mod transfer_steps;
mod transfers;
mod upload;
mod uploads;
