//! `qchat serve`: starts a directory, prints one line when it is ready, and runs until it is told to stop.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;

use super::stop_signal;
use crate::cli::operator_args::Serve;
use crate::cli::output::Output;
use crate::cli::settings::data_folder;
use crate::compat::Compat;
use crate::compat::gateway::{Accounts, Home};
use crate::compat::settings::{CompatSettings, Dialect};
use crate::directory::gate::Limits;
use crate::directory::invitations::Admission;
use crate::directory::legacy::LegacyAccounts;
use crate::directory::relay::RelaySettings;
use crate::directory::server::{Directory, DirectoryError, Settings};
use crate::peer::directory_link::DirectoryAddress;
use crate::peer::failure::{Failure, FailureKind};
use crate::transport::tuning::Network;
use crate::wire::ids::{DirectoryFingerprint, PeerKey, PeerName};
use crate::wire::refusal::Refusal;

/// What a program that starts a directory waits for.
#[derive(Serialize, Deserialize)]
#[serde(tag = "event", rename = "listening")]
pub(super) struct Listening {
    /// The UDP address.
    pub(super) address: SocketAddr,
    /// The directory's key.
    pub(super) fingerprint: DirectoryFingerprint,
    /// What people give to `--server`.
    pub(super) link: String,
    /// The UDP ports at which it relays; none when it does not.
    pub(super) relay_ports: Vec<u16>,
    /// Where programs of the older systems are let in.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(super) compat: Vec<CompatDoor>,
}

/// A dialect of the older systems, and where it is spoken.
#[derive(Serialize, Deserialize)]
pub(super) struct CompatDoor {
    /// Which.
    pub(super) dialect: Dialect,
    /// Where.
    pub(super) address: SocketAddr,
}

/// Runs a directory until SIGINT or SIGTERM.
pub(super) async fn run(args: Serve, output: &Output) -> Result<(), Failure> {
    let relay = relay(&args);
    let compat = compat(&args);
    compat.check()?;
    let data = match args.data.clone() {
        Some(data) => data,
        None => data_folder("qchat-directory")?,
    };
    let admission = if args.invite_only { Admission::InviteOnly } else { Admission::Open };
    let default = Limits::default();
    let limits = Limits {
        unauthenticated: args.max_unauthenticated.unwrap_or(default.unauthenticated),
        unauthenticated_per_source: args.max_unauthenticated_per_source.unwrap_or(default.unauthenticated_per_source),
        retry_above: args.retry_above.unwrap_or(default.retry_above),
        new_accounts_per_hour: args.new_accounts_per_hour.unwrap_or(default.new_accounts_per_hour),
    };
    let network = Network { segmentation_offload: !args.no_gso, ..Network::default() };
    let (listen, certificate_folder) = (args.listen, args.cert);
    let settings = Settings { listen, certificate_folder, data: data.clone(), admission, limits, network, relay };
    let directory = Directory::start(settings).map_err(failure)?;
    let (address, fingerprint) = (directory.local_address(), directory.fingerprint());
    let host = args.public_host.unwrap_or_else(|| directory.reachable_ip().to_string());
    let token = directory.first_invitation().await.map_err(failure)?;
    let link = DirectoryAddress { host, port: address.port() }.link(None, fingerprint, token.as_ref());
    let relay_ports = directory.relay_ports();
    let compat = if compat.doors.is_empty() {
        None
    } else {
        let home = Home { data: data.join("gateway"), directory: own_address(address).into(), fingerprint, network };
        Some(Compat::bind(compat, home, Arc::new(LegacyNames(directory.legacy_accounts()))).await?)
    };
    let addresses = compat.as_ref().map(Compat::addresses).unwrap_or_default();
    let doors: Vec<_> = addresses.into_iter().map(|(dialect, address)| CompatDoor { dialect, address }).collect();
    if output.is_json() {
        output.json(&Listening { address, fingerprint, link, relay_ports, compat: doors });
    } else {
        let relay = runs(&relay_ports);
        let doors: String =
            doors.iter().map(|CompatDoor { dialect, address }| format!("{dialect:<5} {address}\n")).collect();
        output.line(&format!("key   {fingerprint}\nlink  {link}\nrelay {relay}\n{doors}listening on {address}"));
    }
    let stdin_closed = args.stop_with_stdin;
    let stopped = async move {
        tokio::select! { () = stop_signal() => {}, () = stdin_ended(), if stdin_closed => {} }
    };
    let stopped = async move {
        match compat {
            // Older programs' users leave first, while there still is a directory to leave.
            Some(compat) => compat.run(stopped).await,
            None => stopped.await,
        }
    };
    directory.run(stopped).await.map_err(failure)
}

/// What the operator asks for on behalf of older programs.
fn compat(args: &Serve) -> CompatSettings {
    CompatSettings {
        doors: args.compat.clone(),
        ports: args.compat_ports.clone(),
        allowed: args.compat_allow.clone(),
        credentials: args.compat_credentials.clone(),
    }
}

/// Where this machine reaches its own directory.
fn own_address(listening: SocketAddr) -> SocketAddr {
    match listening.ip() {
        ip if !ip.is_unspecified() => listening,
        IpAddr::V4(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, listening.port())),
        IpAddr::V6(_) => SocketAddr::from((Ipv6Addr::LOCALHOST, listening.port())),
    }
}

/// Makes accounts for legacy names at this process's own directory.
#[derive(Debug)]
struct LegacyNames(LegacyAccounts);

#[async_trait]
impl Accounts for LegacyNames {
    async fn create(&self, name: &PeerName, key: PeerKey) -> Result<(), Refusal> {
        self.0.create(name, key).await
    }

    async fn remove(&self, name: &PeerName) -> Result<(), Refusal> {
        self.0.remove(name).await
    }
}

fn relay(args: &Serve) -> RelaySettings {
    let mut relay = RelaySettings { ports: args.relay_ports.unwrap_or_default(), ..RelaySettings::default() };
    let limits = &mut relay.limits;
    limits.sessions = args.relay_sessions.unwrap_or(limits.sessions);
    limits.bytes_per_second = args.relay_rate.unwrap_or(limits.bytes_per_second);
    limits.bytes_per_day = args.relay_daily.unwrap_or(limits.bytes_per_day);
    limits.total_bytes_per_second = args.relay_rate_total.unwrap_or(limits.total_bytes_per_second);
    relay
}

/// Ports as people open them in a firewall: `UDP ports 4434-4449`.
fn runs(ports: &[u16]) -> String {
    let mut sorted = ports.to_vec();
    sorted.sort_unstable();
    let runs = sorted.chunk_by(|one, next| one.checked_add(1) == Some(*next)).filter_map(|run| {
        let (first, last) = (run.first()?, run.last()?);
        Some(if first == last { first.to_string() } else { format!("{first}-{last}") })
    });
    let runs: Vec<_> = runs.collect();
    if runs.is_empty() { "off".to_owned() } else { format!("UDP ports {}", runs.join(", ")) }
}

async fn stdin_ended() {
    let mut buffer = [0; 256];
    let mut stdin = tokio::io::stdin();
    while stdin.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
}

fn failure(error: DirectoryError) -> Failure {
    let failure = Failure::new(FailureKind::Other, error.to_string());
    match error {
        DirectoryError::InUse { .. } => failure.hint("each directory needs a folder of its own: --data DIR"),
        DirectoryError::RelayPort(_) => {
            failure.hint("choose others with --relay-ports A-B, or relay nothing with --relay-ports off")
        }
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_printed_as_runs() {
        let check = |ports: &[u16], expected: &str| assert_eq!(runs(ports), expected);
        check(&[], "off");
        check(&[4434], "UDP ports 4434");
        check(&[4436, 4434, 4435, 65_535, 9], "UDP ports 9, 4434-4436, 65535");
    }
}
