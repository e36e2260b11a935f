//! How two peers come together: the directory tells both sides who will connect to whom, so that nobody else can, where
//! to look for each other, and where it relays for them.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::ids::{DialId, FileDigest, PeerKey, PeerName, Ticket, UnixMillis};

/// A request to be connected to a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DialRequest {
    /// Whom.
    pub to: PeerName,
    /// The key the asker expects there.
    pub key: PeerKey,
    /// What for: it decides whether the other side's address may be told.
    pub purpose: Purpose,
    /// Local addresses where the asker can be reached; `None` when it does not want to be reached directly.
    pub candidates: Option<Vec<SocketAddr>>,
    /// Whether the directory shall relay until there is a direct path, or when there is none.
    pub relay: bool,
}

/// What a connection is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// To talk.
    Talk,
    /// To fetch a file.
    Fetch {
        /// Which.
        digest: FileDigest,
    },
}

/// What the directory pushes to the person who is dialled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DialAnnounced {
    /// The dial, also in the dialler's server name and in every punch.
    pub dial: DialId,
    /// Who dials.
    pub from: PeerName,
    /// The key the dialler will present.
    pub key: PeerKey,
    /// What for.
    pub purpose: Purpose,
    /// Addresses of the dialler, or why there shall be no direct path.
    pub direct: Direct,
    /// This side's leg of the relayed session.
    pub relay: Option<PortTicket>,
}

/// What the directory answers to the dialler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DialGranted {
    /// The dial, to be put into the server name and into every punch.
    pub dial: DialId,
    /// Addresses of the person who is dialled, or why there shall be no direct path.
    pub direct: Direct,
    /// This side's leg of the relayed session.
    pub relay: Option<PortTicket>,
}

/// Where the other side can be reached directly, if it may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direct {
    /// At one of these addresses, perhaps.
    Candidates(Vec<SocketAddr>),
    /// Not at all.
    Not(WhyRelayed),
}

impl Direct {
    /// Where to look: nowhere when there shall be no direct path.
    #[must_use]
    pub fn candidates(&self) -> &[SocketAddr] {
        match self {
            Self::Candidates(candidates) => candidates,
            Self::Not(_) => &[],
        }
    }
}

/// Why two peers do not look for a direct path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhyRelayed {
    /// Whoever is dialled has not allowed the dialler to learn its address.
    NoConsent,
    /// The dialler wants it so.
    DiallerHides,
    /// Whoever is dialled wants it so.
    DialledHides,
}

/// A UDP port of the directory, and what to show there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortTicket {
    /// The port, at the address where the directory itself is.
    pub port: u16,
    /// Good for one address.
    pub ticket: Ticket,
}

/// How long somebody may learn the address of whoever allows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Allowance {
    /// For the next connection only.
    Once,
    /// Up to this time.
    Until(UnixMillis),
    /// Until it is taken back.
    Always,
}

/// Somebody who may learn an address, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Who.
    pub to: PeerName,
    /// How long.
    pub allowance: Allowance,
}
