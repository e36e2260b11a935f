//! `qchat serve`: starts a directory, prints one line when it is ready, and runs until it is told to stop.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;

use super::stop_signal;
use crate::cli::args::Serve;
use crate::cli::output::Output;
use crate::cli::settings::data_folder;
use crate::directory::gate::Limits;
use crate::directory::invitations::Admission;
use crate::directory::server::{Directory, DirectoryError, Settings};
use crate::peer::directory_link::DirectoryAddress;
use crate::peer::failure::{Failure, FailureKind};
use crate::transport::tuning::Network;
use crate::wire::ids::DirectoryFingerprint;

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
}

/// Runs a directory until SIGINT or SIGTERM.
pub(super) async fn run(args: Serve, output: &Output) -> Result<(), Failure> {
    let data = match args.data {
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
    let network = Network { segmentation_offload: !args.no_gso };
    let settings = Settings { listen: args.listen, certificate_folder: args.cert, data, admission, limits, network };
    let directory = Directory::start(settings).map_err(failure)?;
    let (address, fingerprint) = (directory.local_address(), directory.fingerprint());
    let host = args.public_host.unwrap_or_else(|| directory.reachable_ip().to_string());
    let token = directory.first_invitation().await.map_err(failure)?;
    let link = DirectoryAddress { host, port: address.port() }.link(None, fingerprint, token.as_ref());
    if output.is_json() {
        output.json(&Listening { address, fingerprint, link });
    } else {
        output.line(&format!("key   {fingerprint}\nlink  {link}\nlistening on {address}"));
    }
    let stdin_closed = args.stop_with_stdin;
    directory
        .run(async move {
            tokio::select! { () = stop_signal() => {}, () = stdin_ended(), if stdin_closed => {} }
        })
        .await
        .map_err(failure)
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
        _ => failure,
    }
}
