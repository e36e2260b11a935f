//! What arguments and environment come to: every setting with its value, checked once.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use etcetera::BaseStrategy as _;

use super::args::{Login, Reading, Speed};
use crate::peer::context::PathChoice;
use crate::peer::directory_link::{DEFAULT_PORT, DirectoryAddress};
use crate::peer::failure::{Failure, FailureKind};
use crate::storage::profile::Home;
use crate::transport::tuning::Network;
use crate::wire::ids::{DirectoryFingerprint, InviteToken, PeerName};

/// A directory as a person names it: `HOST[:PORT]` or `qchat://HOST[:PORT]/[NAME]#FINGERPRINT[.TOKEN]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerAddress {
    pub(super) directory: DirectoryAddress,
    /// The account that the link is for.
    pub(super) name: Option<PeerName>,
    /// The key that the link promises.
    pub(super) fingerprint: Option<DirectoryFingerprint>,
    /// The invitation that the link carries.
    pub(super) token: Option<InviteToken>,
}

impl FromStr for ServerAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("qchat://") {
            None => Ok(Self { directory: parse_host(text)?, name: None, fingerprint: None, token: None }),
            Some(rest) => {
                let (place, fingerprint) = rest.split_once('#').ok_or("the link has no #FINGERPRINT: copy it whole")?;
                let (fingerprint, token) = match fingerprint.split_once('.') {
                    None => (fingerprint, None),
                    Some((fingerprint, token)) => (fingerprint, Some(InviteToken::parse(token))),
                };
                let (host, name) = place.split_once('/').unwrap_or((place, ""));
                let name = if name.is_empty() { None } else { Some(name.parse()) };
                Ok(Self {
                    directory: parse_host(host)?,
                    name: name.transpose().map_err(|error: crate::wire::ids::IdError| error.to_string())?,
                    fingerprint: Some(
                        fingerprint.parse().map_err(|_| "the link's fingerprint is damaged: copy it whole")?,
                    ),
                    token: token.transpose().map_err(|_| "the link's invitation is damaged: copy it whole")?,
                })
            }
        }
    }
}

fn parse_host(text: &str) -> Result<DirectoryAddress, String> {
    if text.contains('/') {
        return Err("a directory is HOST or HOST:PORT, or the whole qchat:// link; nothing like http://".to_owned());
    }
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
    pub(super) take_back: bool,
    pub(super) accept_new: bool,
    /// Whether senders are told when their messages were on the screen.
    pub(super) sends_read_receipts: bool,
    pub(super) network: Network,
    /// Which ways to other peers are taken.
    pub(super) paths: PathChoice,
    /// Bytes of files that may go in a second, and as many that may come.
    pub(super) limit: Option<u64>,
}

impl Settings {
    pub(super) fn from_login(login: Login) -> Result<Self, Failure> {
        let usage = |message: &str, hint: &str| Failure::new(FailureKind::Usage, message).hint(hint);
        let server = Self::server(login.whose.server)?;
        let user = login
            .whose
            .user
            .or_else(|| server.name.clone())
            .ok_or_else(|| usage("who are you?", "--user NAME, or QCHAT_USER in the environment"))?;
        let home = Self::home(login.whose.home)?;
        Ok(Self {
            user,
            server,
            home,
            password_file: login.password_file,
            register: login.register,
            take_back: login.take_back,
            accept_new: login.accept_new,
            sends_read_receipts: true,
            network: Network { segmentation_offload: !login.no_gso, ..Network::default() },
            paths: match (login.direct_only, login.relay_only) {
                (true, _) => PathChoice::DirectOnly,
                (false, true) => PathChoice::RelayOnly,
                (false, false) => PathChoice::Any,
            },
            limit: None,
        })
    }

    /// The same, with how fast files may move.
    #[must_use]
    pub(super) fn moving_at(self, Speed { limit }: Speed) -> Self {
        Self { limit, ..self }
    }

    /// The same, with what others are told of this person's reading.
    #[must_use]
    pub(super) fn reading(self, Reading { no_read_receipts }: Reading) -> Self {
        Self { sends_read_receipts: !no_read_receipts, ..self }
    }

    /// The directory, which has no default.
    pub(super) fn server(given: Option<ServerAddress>) -> Result<ServerAddress, Failure> {
        given.ok_or_else(|| {
            Failure::new(FailureKind::Usage, "which directory?")
                .hint("--server HOST, or QCHAT_SERVER in the environment; `qchat serve` runs one")
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
        let home = Home::at(root);
        check_known_servers(&home.pins())?;
        Ok(home)
    }
}

/// Refuses what cannot be read to its end in the place of the file of trusted directories, such as a pipe.
fn check_known_servers(path: &Path) -> Result<(), Failure> {
    match std::fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => {
            Err(Failure::new(FailureKind::Disk, format!("{} is no plain file", path.display()))
                .hint("move it away: directories are asked about again then"))
        }
        // What cannot be looked at is refused when it is read.
        Ok(_) | Err(_) => Ok(()),
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
    /// Links of every shape, from numbers that look random and are the same in every run (xorshift64*).
    fn links(count: usize) -> Vec<String> {
        let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut roll = move || {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            state.wrapping_mul(0x2545_f491_4f6c_dd1d)
        };
        let hosts = ["example.org", "192.0.2.7", "2001:db8::1", "localhost", "a-b.c"];
        let names = [None, Some("alice"), Some("x"), Some("a.b_c-9")];
        (0..count)
            .map(|_| {
                let host = hosts[usize::try_from(roll() % 5).unwrap()].to_owned();
                let port = if roll() % 2 == 0 { DEFAULT_PORT } else { u16::try_from(1 + roll() % 65_535).unwrap() };
                let name = names[usize::try_from(roll() % 4).unwrap()].map(|name| PeerName::parse(name).unwrap());
                let fingerprint = DirectoryFingerprint::from_bytes(std::array::from_fn(|_| roll().to_le_bytes()[3]));
                let token = InviteToken::from_bytes(std::array::from_fn(|_| roll().to_le_bytes()[3]));
                let token = (roll() % 2 == 0).then_some(token);
                DirectoryAddress { host, port }.link(name.as_ref(), fingerprint, token.as_ref())
            })
            .collect()
    }

    #[test]
    fn every_link_reads_back_as_itself() {
        for link in links(2_000) {
            let ServerAddress { directory, name, fingerprint, token } = link.parse().unwrap();
            assert_eq!(directory.link(name.as_ref(), fingerprint.unwrap(), token.as_ref()), link);
        }
    }

    #[test]
    fn a_damaged_link_never_pins_another_key_or_carries_another_token() {
        for link in links(200) {
            let whole: ServerAddress = link.parse().unwrap();
            for end in 0..link.len() {
                let Ok(cut) = link[..end].parse::<ServerAddress>() else { continue };
                // What is left is no link at all, or one whose invitation was cut off with its dot.
                let same = cut.fingerprint.is_none() || (cut.fingerprint == whole.fingerprint && cut.token.is_none());
                assert!(same, "{link} cut to {}", &link[..end]);
            }
            for bad in ["!", " ", "\n", "."] {
                assert!(format!("{link}{bad}").parse::<ServerAddress>().is_err(), "{link}{bad:?}");
            }
        }
    }

    #[test]
    fn an_invitation_is_not_shown_by_accident() {
        let link: ServerAddress =
            links(50).iter().find(|link| link.contains('.') && link.len() > 100).unwrap().parse().unwrap();
        let token = link.token.clone().map(|token| token.link_text()).unwrap_or_default();
        assert!(!token.is_empty() && !format!("{link:?}").contains(&token));
    }
}
