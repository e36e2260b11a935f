//! THE NETWORK: QUIC endpoints, connections and streams, and who is at the other end. Only here quinn and rustls.
//! Knows frames and keys, but not what a request means.

pub mod endpoint;

pub mod connection;
pub mod stream;

pub mod certificate;
pub mod verify;

mod congestion;
mod connection_id;
pub mod tuning;

pub mod batch_socket;
pub mod socket;
