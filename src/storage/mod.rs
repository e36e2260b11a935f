//! THE DISK of a peer: its profile with history, contacts and shares, and the files it receives.

pub mod moving;
pub mod profile;

pub mod audit;
pub mod consent;
pub mod contacts;
pub mod history;
pub mod messages;
pub mod offers;
pub mod people;
pub mod prekeys;
pub mod profiles;
pub mod shares;

pub mod partial_file;
pub mod safe_name;

mod records;
mod schema;
