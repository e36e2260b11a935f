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
pub mod transfers;
pub mod welcome;

pub mod digest_cache;
pub mod folder_shares;
pub mod walk;

pub mod partial_file;
pub mod parts;
pub mod receive_folder;
pub mod safe_name;

pub mod receive_tree;
pub mod whole;

mod beneath;
mod local_paths;
mod records;
mod schema;
