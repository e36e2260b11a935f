//! The layers of qchat, lowest first.

pub mod clock;
pub mod database;
pub mod seal;
pub mod transport;
pub mod wire;
