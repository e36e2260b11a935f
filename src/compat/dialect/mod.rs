//! The dialects, each only translated: bytes to what is asked, answers to bytes. No sockets, no clock, no state.

pub mod json;
pub mod s2;
pub mod s3;
pub mod s4;
