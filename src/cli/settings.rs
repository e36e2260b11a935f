//! What arguments and environment come to: every setting with its value, checked once.

use std::path::PathBuf;
use std::str::FromStr;

use etcetera::BaseStrategy as _;

use super::args::Login;
use crate::peer::directory_link::DirectoryAddress;
use crate::peer::failure::{Failure, FailureKind};
use crate::storage::profile::Home;
use crate::transport::tuning::Network;
use crate::wire::ids::{DirectoryFingerprint, PeerName};

/// The port of a directory that names none.
pub(super) const DEFAULT_PORT: u16 = 4433;

/// A directory as a person names it: `HOST[:PORT]` or `qchat://HOST[:PORT]/[NAME]#FINGERPRINT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerAddress {
    pub(super) directory: DirectoryAddress,
    /// The account that the link is for.
    pub(super) name: Option<PeerName>,
    /// The key that the link promises.
    pub(super) fingerprint: Option<DirectoryFingerprint>,
}

impl FromStr for ServerAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("qchat://") {
            None => Ok(Self { directory: parse_host(text)?, name: None, fingerprint: None }),
            Some(rest) => {
                let (place, fingerprint) = rest.split_once('#').ok_or("the link has no #FINGERPRINT: copy it whole")?;
                let (host, name) = place.split_once('/').unwrap_or((place, ""));
                let name = if name.is_empty() { None } else { Some(name.parse()) };
                Ok(Self {
                    directory: parse_host(host)?,
                    name: name.transpose().map_err(|error: crate::wire::ids::IdError| error.to_string())?,
                    fingerprint: Some(
                        fingerprint.parse().map_err(|_| "the link's fingerprint is damaged: copy it whole")?,
                    ),
                })
            }
        }
    }
}

fn parse_host(text: &str) -> Result<DirectoryAddress, String> {
    let (host, port) = match (text.strip_prefix('['), text.rsplit_once(':')) {
        (Some(rest), _) => match rest.split_once(']') {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => return Err(format!("{text:?} has no closing bracket")),
        },
        (None, Some((host, port))) if !host.contains(':') => (host, Some(port)),
        (None, _) => (text, None),
    };
    if host.is_empty() {
        return Err("a directory is HOST or HOST:PORT".to_owned());
    }
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) => match port.parse() {
            Ok(0) | Err(_) => return Err(format!("{port:?} is not a port: use 1 to 65535")),
            Ok(port) => port,
        },
    };
    Ok(DirectoryAddress { host: host.to_owned(), port })
}

/// The settings of everything that acts as a person.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) user: PeerName,
    pub(super) server: ServerAddress,
    pub(super) home: Home,
    pub(super) password_file: Option<PathBuf>,
    pub(super) register: bool,
    pub(super) accept_new: bool,
    pub(super) network: Network,
}

impl Settings {
    pub(super) fn from_login(login: Login) -> Result<Self, Failure> {
        let usage = |message: &str, hint: &str| Failure::new(FailureKind::Usage, message).hint(hint);
        let server = login.server.ok_or_else(|| {
            usage("which directory?", "--server HOST, or QCHAT_SERVER in the environment; `qchat serve` runs one")
        })?;
        let user = login
            .user
            .or_else(|| server.name.clone())
            .ok_or_else(|| usage("who are you?", "--user NAME, or QCHAT_USER in the environment"))?;
        let home = Self::home(login.home)?;
        Ok(Self {
            user,
            server,
            home,
            password_file: login.password_file,
            register: login.register,
            accept_new: login.accept_new,
            network: Network { segmentation_offload: !login.no_gso },
        })
    }

    /// The folder of all profiles: the given one, or the usual one.
    pub(super) fn home(given: Option<PathBuf>) -> Result<Home, Failure> {
        let root = match given {
            Some(root) => {
                std::path::absolute(root).map_err(|error| Failure::new(FailureKind::Usage, error.to_string()))?
            }
            None => data_folder("qchat")?,
        };
        Ok(Home::at(root))
    }
}

/// A folder of ours in the user's data folder (XDG base directories).
pub(super) fn data_folder(name: &str) -> Result<PathBuf, Failure> {
    let strategy = etcetera::choose_base_strategy().map_err(|_| {
        Failure::new(FailureKind::Usage, "there is no home folder").hint("name a folder with --home or --data")
    })?;
    Ok(strategy.data_dir().join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, host: &str, port: u16) {
        let parsed: ServerAddress = text.parse().unwrap();
        assert_eq!((parsed.directory.host.as_str(), parsed.directory.port), (host, port));
    }

    #[test]
    fn servers_are_hosts_with_or_without_a_port() {
        check("example.org", "example.org", 4433);
        check("example.org:99", "example.org", 99);
        check("192.0.2.7:1", "192.0.2.7", 1);
        check("::1", "::1", 4433);
        check("[::1]", "::1", 4433);
        check("[::1]:5", "::1", 5);
        for bad in ["", ":4433", "a:0", "a:b", "a:65536", "[::1", "qchat://a", "qchat://a/#12"] {
            assert!(bad.parse::<ServerAddress>().is_err(), "{bad:?} should be refused");
        }
    }

    #[test]
    fn a_link_carries_host_name_and_fingerprint() {
        let fingerprint = "ab".repeat(32);
        let link: ServerAddress = format!("qchat://example.org:77/alice#{fingerprint}").parse().unwrap();
        assert_eq!(link.directory.port, 77);
        assert_eq!(link.name.unwrap().as_str(), "alice");
        assert_eq!(link.fingerprint.unwrap().to_string(), fingerprint);
    }
}
