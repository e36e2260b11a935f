//! How things go, as events say it: this peer and its directory, and the way to another peer.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::wire::ids::PeerName;

/// This peer and its directory, as [`Event::Status`](super::event::Event::Status).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusRow {
    /// The account.
    pub name: PeerName,
    /// The directory as the user named it.
    pub directory: String,
    /// Whether there is a session with it now.
    pub online: bool,
    /// The round-trip time to it as last measured, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rtt_us: Option<u64>,
    /// The address at which the directory sees this peer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seen_at: Option<SocketAddr>,
    /// What lies between, as far as that shows.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub nat: Option<Nat>,
    /// Datagrams beside QUIC that belonged to nothing, since the start: forged ones, and a few that came late.
    pub strays: u64,
}

/// How a NAT maps a socket to addresses of its own (RFC 4787, section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nat {
    /// There is none.
    None,
    /// To one address, whatever the destination: direct paths to almost everybody.
    EndpointIndependent,
    /// To another one for each destination: direct paths to some.
    AddressDependent,
}

/// How a connection to another peer goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathInfo {
    /// `direct`, or `relay` through the directory, which cannot read it.
    pub path: PathKind,
    /// `ipv4` or `ipv6`.
    pub family: Family,
    /// The round-trip time as last measured, in microseconds.
    pub rtt_us: u64,
    /// Why it is not direct, when it is not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub why_relayed: Option<WhyNotDirect>,
}

/// Whether a connection needs the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathKind {
    /// From peer to peer.
    Direct,
    /// Through the directory's relay.
    Relay,
}

/// The family of an IP address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// RFC 791.
    Ipv4,
    /// RFC 8200.
    Ipv6,
}

/// Why a connection goes through the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhyNotDirect {
    /// A direct path is still being looked for.
    Trying,
    /// The other side has not allowed this one to learn its address.
    NoConsent,
    /// This side was told not to (`--relay-only`).
    HiddenHere,
    /// The other side does not want it.
    HiddenThere,
    /// The other side gave no address that this machine can send to.
    NoAddress,
    /// The NATs in between let nothing through.
    Nat,
    /// There was one, and it broke.
    Lost,
    /// There is one, and this one is for when that breaks.
    StandsBy,
}
