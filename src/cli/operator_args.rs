//! The command line of whoever runs a directory.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};
use ipnet::IpNet;

use super::sizes;
use crate::compat::settings::DoorAt;
use crate::directory::relay::RelayPorts;
use crate::wire::ids::PeerName;

#[derive(Debug, ClapArgs)]
pub(super) struct Serve {
    /// The folder of the certificate; cert.pem and key.pem are made there when it has none.
    #[arg(long, value_name = "DIR")]
    pub(super) cert: PathBuf,
    /// The UDP address to listen on; port 0 takes a free one. [::] is every address, of IPv4 too.
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:4433")]
    pub(super) listen: SocketAddr,
    /// Where accounts and waiting messages are kept [default: qchat-directory in your data folder].
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
    /// The host name that the printed link shows to others [default: this machine's address].
    #[arg(long, value_name = "HOST")]
    pub(super) public_host: Option<String>,
    /// Make new accounts for people with an invitation only (`qchat invite`).
    #[arg(long)]
    pub(super) invite_only: bool,
    /// Connections that have not logged in, of all addresses together [default: 1024].
    #[arg(long, value_name = "N")]
    pub(super) max_unauthenticated: Option<usize>,
    /// Connections that have not logged in, of one address [default: 64].
    #[arg(long, value_name = "N")]
    pub(super) max_unauthenticated_per_source: Option<usize>,
    /// Handshakes under way before newcomers must prove their address (QUIC Retry) [default: 64].
    #[arg(long, value_name = "N")]
    pub(super) retry_above: Option<usize>,
    /// New accounts from one network (IPv4 /24, IPv6 /48) in an hour [default: 30].
    #[arg(long, value_name = "N")]
    pub(super) new_accounts_per_hour: Option<usize>,
    /// The UDP ports at which people meet who cannot reach each other: FIRST-LAST, `any` that are free, or `off`
    /// [default: the 16 after the one of --listen].
    #[arg(long, value_name = "A-B|any|off", value_parser = sizes::ports)]
    pub(super) relay_ports: Option<RelayPorts>,
    /// Bytes in a second that are relayed for one account, both ways together [default: 12.5M].
    #[arg(long, value_name = "BYTES", value_parser = sizes::bytes)]
    pub(super) relay_rate: Option<u64>,
    /// Bytes in a second that are relayed for all [default: 62.5M].
    #[arg(long, value_name = "BYTES", value_parser = sizes::bytes)]
    pub(super) relay_rate_total: Option<u64>,
    /// Bytes in a day that are relayed for one account [default: 10Gi].
    #[arg(long, value_name = "BYTES", value_parser = sizes::bytes)]
    pub(super) relay_daily: Option<u64>,
    /// Pairs of people who are relayed at a time [default: 256].
    #[arg(long, value_name = "N", value_parser = sizes::relay_sessions)]
    pub(super) relay_sessions: Option<usize>,
    /// Let programs of the older systems in: json, s2, s3 or s4, and where. Can be given once for each.
    #[arg(long, value_name = "DIALECT=ADDR:PORT")]
    pub(super) compat: Vec<DoorAt>,
    /// Ports that stand for people whom older programs could not address otherwise: one for each person and dialect.
    #[arg(long, value_name = "A-B", value_parser = sizes::port_range)]
    pub(super) compat_ports: Option<RangeInclusive<u16>>,
    /// From where older programs may come, beside this machine and private networks. Can be given more than once.
    #[arg(long, value_name = "CIDR")]
    pub(super) compat_allow: Vec<IpNet>,
    /// Names and passwords for older programs that log in with one: `name password` in each line.
    #[arg(long, value_name = "FILE")]
    pub(super) compat_credentials: Option<PathBuf>,
    /// Send UDP packets one by one, for network cards that mishandle batches.
    #[arg(long)]
    pub(super) no_gso: bool,
    /// Stop when standard input is closed: for a program that runs a directory as its child.
    #[arg(long)]
    pub(super) stop_with_stdin: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Admin {
    /// The directory's data folder [default: qchat-directory in your data folder].
    #[arg(long, value_name = "DIR", global = true)]
    pub(super) data: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) action: AdminAction,
}

#[derive(Debug, Subcommand)]
pub(super) enum AdminAction {
    /// List accounts and change them.
    User {
        #[command(subcommand)]
        action: UserAction,
    },
    /// Print a link that admits one new account.
    Invite {
        /// The name that the link proposes.
        name: Option<PeerName>,
        /// The host name that the link shows [default: this machine's address].
        #[arg(long, value_name = "HOST")]
        public_host: Option<String>,
    },
    /// List who is connected, or end an account's sessions.
    Sessions {
        #[command(subcommand)]
        action: Option<SessionsAction>,
    },
    /// Show what is relayed, and what was dropped and why.
    Relay,
}

#[derive(Debug, Subcommand)]
pub(super) enum UserAction {
    /// List all accounts.
    List,
    /// Keep an account out, and end its sessions.
    Disable { name: PeerName },
    /// Let a disabled account in again.
    Enable { name: PeerName },
    /// Remove an account; its name is kept back for 90 days.
    Delete { name: PeerName },
    /// Print a new random password; it lets nobody read what was already sent.
    ResetPassword { name: PeerName },
}

#[derive(Debug, Subcommand)]
pub(super) enum SessionsAction {
    /// End all sessions of an account.
    End { name: PeerName },
}
