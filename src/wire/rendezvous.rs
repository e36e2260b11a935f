//! Announced dials: the directory tells both sides who will connect to whom, so that nobody else can.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::ids::{DialId, PeerKey, PeerName};

/// A request to be connected to a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DialRequest {
    /// Whom.
    pub to: PeerName,
    /// The key the asker expects there.
    pub key: PeerKey,
    /// Local addresses where the asker can be reached.
    pub candidates: Vec<SocketAddr>,
}

/// What the directory pushes to the person who is dialled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DialAnnounced {
    /// The dial, also in the dialler's server name.
    pub dial: DialId,
    /// Who dials.
    pub from: PeerName,
    /// The key the dialler will present.
    pub key: PeerKey,
    /// Addresses of the dialler.
    pub candidates: Vec<SocketAddr>,
}

/// What the directory answers to the dialler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DialGranted {
    /// The dial, to be put into the server name.
    pub dial: DialId,
    /// Addresses of the person who is dialled.
    pub candidates: Vec<SocketAddr>,
}
