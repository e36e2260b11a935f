//! The layers of qchat, lowest first.

pub mod wire;
