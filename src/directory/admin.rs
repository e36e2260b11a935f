//! The operator's way in: a Unix socket in the data folder, never the network. One request a connection, then rows.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::invitations;
use super::login::observed;
use super::people;
use super::shared::Shared;
use crate::clock::now_millis;
use crate::lines;
use crate::protocol::relay::{Counters, Overview};
use crate::seal::password;
use crate::seal::random::{self, OsRandom};
use crate::wire::account::LoginKind;
use crate::wire::ids::{DirectoryFingerprint, Password, PeerKey, PeerName, UnixMillis};
use crate::wire::refusal::Refusal;

/// The socket's name in the data folder.
pub const SOCKET: &str = "admin.sock";

/// A request with the longest name fits.
const REQUEST_BYTES_MAX: u64 = 4 * 1024;
/// Operators at a time.
const CLIENTS_MAX: usize = 8;
/// Whoever says nothing this long is turned away.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// Accounts read from the store at a time.
const PAGE: usize = 1_000;

/// What an operator asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "admin", rename_all = "snake_case")]
pub enum AdminRequest {
    /// All accounts. Rows: [`AdminRow::User`].
    Users,
    /// Keeps an account out and ends its sessions.
    Disable {
        /// Whose.
        name: PeerName,
    },
    /// Lets it in again.
    Enable {
        /// Whose.
        name: PeerName,
    },
    /// Removes an account as its owner could.
    Delete {
        /// Whose.
        name: PeerName,
    },
    /// Gives an account a random password. Row: [`AdminRow::Password`].
    ResetPassword {
        /// Whose.
        name: PeerName,
    },
    /// Makes an invitation. Row: [`AdminRow::Invited`].
    Invite,
    /// Who is connected. Rows: [`AdminRow::Session`].
    Sessions,
    /// What is relayed. Rows: [`AdminRow::Relayed`], then [`AdminRow::Relay`].
    Relay,
    /// Ends all sessions of an account.
    EndSessions {
        /// Whose.
        name: PeerName,
    },
}

/// What an operator is answered: rows, then `done` or `refused`. Not `Debug`, because it may hold a password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum AdminRow {
    /// An account.
    User {
        /// Its name.
        name: PeerName,
        /// Its key.
        key: PeerKey,
        /// When it was made.
        created_at: UnixMillis,
        /// Whether it is kept out.
        disabled: bool,
        /// Whether its resident peer is online.
        online: bool,
        /// Whether the gateway has it on behalf of somebody with an older program.
        #[serde(skip_serializing_if = "std::ops::Not::not", default)]
        legacy: bool,
    },
    /// A session.
    Session {
        /// Whose.
        name: PeerName,
        /// `resident` or `errand`.
        kind: String,
        /// When it logged in.
        since: UnixMillis,
        /// Where it comes from.
        address: SocketAddr,
    },
    /// A new password, shown once.
    Password {
        /// Whose.
        name: PeerName,
        /// The password.
        password: String,
    },
    /// An invitation: what its link is made of.
    Invited {
        /// The token as a link writes it.
        token: String,
        /// The directory's key.
        fingerprint: DirectoryFingerprint,
        /// Where the directory most likely is.
        address: SocketAddr,
    },
    /// A relayed session.
    Relayed {
        /// Who asked for it, and is charged.
        asker: PeerName,
        /// Who was asked.
        asked: PeerName,
        /// At which UDP port.
        port: u16,
        /// Whether both sides are there.
        joined: bool,
        /// What was passed on, both ways together.
        bytes: u64,
        /// How long it is open.
        age_seconds: u64,
        /// How long nothing was passed on.
        idle_seconds: u64,
    },
    /// The relay since the directory's start.
    Relay {
        /// Its UDP ports; none when it is off.
        ports: Vec<u16>,
        /// What became of everything.
        #[serde(flatten)]
        counters: Counters,
    },
    /// The last row.
    Done,
    /// The last row of what was not done.
    Refused {
        /// The refusal's number.
        refusal: u16,
        /// Why.
        message: String,
    },
}

/// Serves operators until it is dropped.
pub(super) async fn serve(listener: &UnixListener, shared: Arc<Shared>, address: SocketAddr) {
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if clients.len() < CLIENTS_MAX => match accepted {
                Ok((stream, _)) if lines::is_same_user(&stream) => {
                    clients.spawn(answer(stream, shared.clone(), address));
                }
                Ok(_) => tracing::warn!("another user tried the administration's socket"),
                Err(error) => {
                    tracing::warn!(%error, "the administration's socket does not accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = clients.join_next() => {}
        }
    }
}

async fn answer(mut stream: UnixStream, shared: Arc<Shared>, address: SocketAddr) {
    if let Err(error) = answer_one(&mut stream, &shared, address).await {
        tracing::debug!(%error, "an operator went away");
    }
}

async fn answer_one(stream: &mut UnixStream, shared: &Shared, address: SocketAddr) -> io::Result<()> {
    let (read, mut write) = stream.split();
    let mut reader = BufReader::new(read.take(REQUEST_BYTES_MAX));
    let Some(request) = tokio::time::timeout(REQUEST_DEADLINE, lines::read(&mut reader)).await?? else { return Ok(()) };
    let rows = match run(shared, request, address).await {
        Ok(mut rows) => {
            rows.push(AdminRow::Done);
            rows
        }
        Err(refusal) => vec![AdminRow::Refused { refusal: refusal.number(), message: refusal.to_string() }],
    };
    for row in rows {
        lines::write(&mut write, &row).await?;
    }
    Ok(())
}

async fn run(shared: &Shared, request: AdminRequest, address: SocketAddr) -> Result<Vec<AdminRow>, Refusal> {
    tracing::info!(?request, "administration");
    match request {
        AdminRequest::Users => return users(shared).await,
        AdminRequest::Disable { name } => {
            shared.store.set_disabled(&name, true).await?;
            close(shared, &name);
        }
        AdminRequest::Enable { name } => shared.store.set_disabled(&name, false).await?,
        AdminRequest::Delete { name } => {
            let parted = shared.store.delete_account(&name, None, now_millis()).await?;
            close(shared, &name);
            people::parted(shared, &name, &parted).await;
        }
        AdminRequest::ResetPassword { name } => return Ok(vec![reset_password(shared, name).await?]),
        AdminRequest::Invite => {
            let (token, _) = invitations::invite(shared, None).await?;
            let (token, fingerprint) = (token.link_text(), shared.fingerprint);
            return Ok(vec![AdminRow::Invited { token, fingerprint, address }]);
        }
        AdminRequest::Sessions => return Ok(sessions(shared)),
        AdminRequest::Relay => return Ok(relayed(shared)),
        AdminRequest::EndSessions { name } => {
            if shared.registry.end_all(&name) == 0 {
                let account = shared.store.account(&name).await?;
                return Err(if account.is_some() { Refusal::Offline } else { Refusal::UnknownName });
            }
        }
    }
    Ok(Vec::new())
}

/// Ends what an account has going on: its sessions, and the keys that wait for its owner's answer.
fn close(shared: &Shared, name: &PeerName) {
    shared.login_limits.key_requests().forget(name);
    shared.registry.close_account(name, None);
    shared.relay.end_account(name);
}

fn relayed(shared: &Shared) -> Vec<AdminRow> {
    let (counters, sessions) = shared.relay.report();
    let row = |session: Overview| AdminRow::Relayed {
        asker: session.asker,
        asked: session.asked,
        port: session.port,
        joined: session.is_joined,
        bytes: session.bytes,
        age_seconds: session.age.as_secs(),
        idle_seconds: session.idle.as_secs(),
    };
    let mut rows: Vec<_> = sessions.into_iter().map(row).collect();
    rows.push(AdminRow::Relay { ports: shared.relay.ports(), counters });
    rows
}

async fn users(shared: &Shared) -> Result<Vec<AdminRow>, Refusal> {
    let mut rows = Vec::new();
    let mut after = None;
    loop {
        let page = shared.store.account_page(after, PAGE).await?;
        after = page.last().map(|account| account.name.clone());
        let is_last = page.len() < PAGE;
        rows.extend(page.into_iter().map(|account| AdminRow::User {
            online: shared.registry.is_online(&account.name),
            name: account.name,
            key: account.key,
            created_at: account.created_at,
            disabled: account.disabled,
            legacy: account.legacy,
        }));
        if is_last {
            return Ok(rows);
        }
    }
}

async fn reset_password(shared: &Shared, name: PeerName) -> Result<AdminRow, Refusal> {
    let account = shared.store.account(&name).await?.ok_or(Refusal::UnknownName)?;
    if account.legacy {
        return Err(Refusal::LegacyAccount);
    }
    let text = BASE32_NOPAD.encode(&random::array::<10>(&mut OsRandom)).to_ascii_lowercase();
    let new = Password::parse(&text).expect("sixteen characters are a password");
    let hashed = shared.login_limits.hash(move || password::hash(&new, &mut OsRandom)).await?;
    shared.store.set_password(&name, account.key, hashed).await?;
    shared.login_limits.key_requests().forget(&name);
    Ok(AdminRow::Password { name, password: text })
}

fn sessions(shared: &Shared) -> Vec<AdminRow> {
    let row = |session: &super::registry::Session| AdminRow::Session {
        name: session.name.clone(),
        kind: match session.kind {
            LoginKind::Resident => "resident".to_owned(),
            LoginKind::Errand { .. } => "errand".to_owned(),
        },
        since: session.since,
        address: observed(&session.connection),
    };
    shared.registry.everyone().iter().map(|session| row(session)).collect()
}
