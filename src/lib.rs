//! The layers of qchat, lowest first.

pub mod clock;
pub mod database;
pub mod directory;
pub mod peer;
pub mod protocol;
pub mod seal;
pub mod storage;
pub mod transport;
pub mod wire;
