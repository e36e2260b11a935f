//! How the bytes of a file are pulled: which groups are here, and which are asked for over what. Moves no bytes.

pub mod groups;
pub mod pull;
mod speed;
