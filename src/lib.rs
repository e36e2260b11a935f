//! The layers of qchat, lowest first.

pub mod seal;
pub mod wire;
