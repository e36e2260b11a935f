//! What the operator asks for: which dialects at which addresses, for whom.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::peer::failure::{Failure, FailureKind};

/// A family of older programs that understand each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// The union of all vocabularies, one JSON object in a datagram.
    Json,
    /// The file system of peers: JSON over UDP, files over TCP.
    S2,
    /// Text over UDP, with a table that everybody has.
    S3,
    /// Frames over TCP, with pushes to the client's own listener.
    S4,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Json, Self::S2, Self::S3, Self::S4];

    /// As it is written in options and records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::S2 => "s2",
            Self::S3 => "s3",
            Self::S4 => "s4",
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Dialect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|dialect| dialect.as_str() == text)
            .ok_or_else(|| format!("there is no dialect {text:?}: json, s2, s3 or s4"))
    }
}

/// A dialect and where it is spoken: `json=127.0.0.1:9000`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DoorAt {
    /// Which.
    pub dialect: Dialect,
    /// Where; port 0 takes any that is free.
    pub address: SocketAddr,
}

impl FromStr for DoorAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (dialect, address) =
            text.split_once('=').ok_or_else(|| "a dialect and an address, as in json=127.0.0.1:9000".to_owned())?;
        let dialect = dialect.parse()?;
        let address =
            address.parse().map_err(|_| format!("{address:?} is not an address with a port, as in 127.0.0.1:9000"))?;
        Ok(Self { dialect, address })
    }
}

/// What the operator asks for.
#[derive(Debug, Clone, Default)]
pub struct CompatSettings {
    /// Which dialects, and where.
    pub doors: Vec<DoorAt>,
    /// The ports that stand for people whom an old program cannot address otherwise.
    pub ports: Option<RangeInclusive<u16>>,
    /// From where old programs may speak, beside this machine and private networks.
    pub allowed: Vec<IpNet>,
    /// Names and passwords for those who log in with one: `name password` in each line.
    pub credentials: Option<PathBuf>,
}

impl CompatSettings {
    /// Refuses what makes no sense, and what would open an unprotected door to the world by mistake.
    ///
    /// # Errors
    /// A [`Failure`] that says what is wrong, and what to say instead.
    pub fn check(&self) -> Result<(), Failure> {
        for (index, DoorAt { dialect, address }) in self.doors.iter().enumerate() {
            let is_open_door = *dialect != Dialect::Json && !is_private(address.ip());
            if is_open_door && self.allowed.is_empty() {
                return Err(usage(format!(
                    "{dialect} has neither passwords nor encryption: {address} is no private address"
                ))
                .hint("listen on a loopback or private address, or say who may use it: --compat-allow CIDR"));
            }
            if self.doors[..index].iter().any(|other| other.dialect == *dialect) {
                return Err(usage(format!("{dialect} is named twice")).hint("each dialect has one address"));
            }
            if address.port() != 0 && self.doors[..index].iter().any(|other| other.address == *address) {
                return Err(usage(format!("two dialects cannot share {address}")).hint("give each a port of its own"));
            }
        }
        if self.doors.is_empty() && (self.ports.is_some() || self.credentials.is_some() || !self.allowed.is_empty()) {
            return Err(usage("the settings for older programs need a dialect")
                .hint("add --compat json=127.0.0.1:9000, or s2, s3, s4"));
        }
        if self.credentials.is_none() && self.doors.iter().any(|door| door.dialect == Dialect::S4) {
            return Err(usage("without names and passwords nobody can log in to s4")
                .hint("a file with a line `name password` for each: --compat-credentials FILE"));
        }
        if self.credentials.is_some()
            && !self.doors.iter().any(|door| matches!(door.dialect, Dialect::S4 | Dialect::Json))
        {
            return Err(usage("--compat-credentials is for the dialects s4 and json")
                .hint("add --compat s4=127.0.0.1:PORT, or leave it out"));
        }
        Ok(())
    }
}

fn usage(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Usage, message)
}

/// This machine, or a network that nobody outside can send from: RFC 1918, RFC 3927, RFC 4193, link-local.
pub(super) fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_loopback() || address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local(),
    }
}
