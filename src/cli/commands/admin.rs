//! `qchat admin`: asks the directory that runs on this machine, over the Unix socket in its data folder.

use tokio::io::BufReader;
use tokio::net::UnixStream;

use crate::cli::operator_args::{Admin, AdminAction, SessionsAction, UserAction};
use crate::cli::output::Output;
use crate::cli::settings::data_folder;
use crate::cli::sizes;
use crate::directory::admin::{AdminRequest, AdminRow, SOCKET};
use crate::lines;
use crate::peer::directory_link::DirectoryAddress;
use crate::peer::failure::{Failure, FailureKind};
use crate::wire::ids::{InviteToken, PeerName};
use crate::wire::refusal::Refusal;

/// Asks and prints the rows.
pub(super) async fn run(args: Admin, output: &Output) -> Result<(), Failure> {
    let folder = match args.data {
        Some(data) => data,
        None => data_folder("qchat-directory")?,
    };
    let path = folder.join(SOCKET);
    let unreachable = |error: std::io::Error| {
        Failure::new(FailureKind::DirectoryUnreachable, format!("cannot reach {}: {error}", path.display()))
            .hint("is `qchat serve` running here, with the same --data, as the same user?")
    };
    let mut stream = BufReader::new(UnixStream::connect(&path).await.map_err(unreachable)?);
    if !lines::is_same_user(stream.get_ref()) {
        let message = format!("the socket {} belongs to another user", path.display());
        return Err(Failure::new(FailureKind::Authentication, message));
    }
    let (request, invited, host) = request(args.action);
    lines::write(stream.get_mut(), &request).await.map_err(unreachable)?;
    while let Some(row) = lines::read::<AdminRow>(&mut stream).await.map_err(unreachable)? {
        match row {
            AdminRow::Done => return Ok(()),
            AdminRow::Refused { refusal, .. } if refusal == Refusal::Offline.number() => {
                return Err(Failure::new(FailureKind::Other, "nobody of that name has a session"));
            }
            AdminRow::Refused { refusal, message } => {
                return Err(Failure { refusal: Some(refusal), ..Failure::new(FailureKind::Other, message) });
            }
            row if output.is_json() => output.json(&row),
            row => output.line(&sentence(row, invited.as_ref(), host.as_deref())),
        }
    }
    Err(Failure::new(FailureKind::Other, "the directory stopped before it had answered"))
}

fn request(action: AdminAction) -> (AdminRequest, Option<PeerName>, Option<String>) {
    let request = match action {
        AdminAction::Invite { name, public_host } => return (AdminRequest::Invite, name, public_host),
        AdminAction::User { action: UserAction::List } => AdminRequest::Users,
        AdminAction::User { action: UserAction::Disable { name } } => AdminRequest::Disable { name },
        AdminAction::User { action: UserAction::Enable { name } } => AdminRequest::Enable { name },
        AdminAction::User { action: UserAction::Delete { name } } => AdminRequest::Delete { name },
        AdminAction::User { action: UserAction::ResetPassword { name } } => AdminRequest::ResetPassword { name },
        AdminAction::Relay => AdminRequest::Relay,
        AdminAction::Sessions { action: None } => AdminRequest::Sessions,
        AdminAction::Sessions { action: Some(SessionsAction::End { name }) } => AdminRequest::EndSessions { name },
    };
    (request, None, None)
}

fn sentence(row: AdminRow, invited: Option<&PeerName>, host: Option<&str>) -> String {
    match row {
        AdminRow::User { name, key, disabled, online, legacy, .. } => {
            let state = match (disabled, online) {
                (true, _) => "disabled",
                (false, true) => "online",
                (false, false) => "offline",
            };
            let legacy = if legacy { ", legacy" } else { "" };
            format!("{name:<32}  {key:.16}  {state}{legacy}")
        }
        AdminRow::Session { name, kind, address, .. } => format!("{name:<32}  {kind:<8}  {address}"),
        AdminRow::Password { name, password } => format!(
            "new password of {name}: {password}\nIt is shown once. It lets {name} bring a new key, and lets nobody read what \
             was already sent."
        ),
        AdminRow::Invited { token, fingerprint, address } => {
            let host = host.map_or_else(|| address.ip().to_string(), str::to_owned);
            let token = InviteToken::parse(&token).ok();
            DirectoryAddress { host, port: address.port() }.link(invited, fingerprint, token.as_ref())
        }
        AdminRow::Relayed { asker, asked, joined, bytes, age_seconds, idle_seconds, .. } => {
            let state = if joined { "both there" } else { "waiting" };
            let bytes = sizes::words(bytes);
            format!("{asker} -> {asked}  {state}  {bytes}  open {age_seconds} s  idle {idle_seconds} s")
        }
        AdminRow::Relay { ports, .. } if ports.is_empty() => "the relay is off".to_owned(),
        AdminRow::Relay { counters: c, .. } => format!(
            "since the start\n\
             sessions   {} opened, {} refused, {} joined by both, {} expired\n\
             forwarded  {} datagrams, {}\n\
             dropped    {} unknown source, {} not joined, {} not sent, {} malformed\n\
             budgets    {} over rate, {} over day, {} over total\n\
             tickets    {} replayed, {} bad, {} bad echo, {} address in use",
            c.opened,
            c.refused,
            c.joined,
            c.expired,
            c.forwarded_datagrams,
            sizes::words(c.forwarded_bytes),
            c.dropped_unknown_source,
            c.dropped_not_joined,
            c.dropped_not_sent,
            c.dropped_malformed,
            c.dropped_over_rate,
            c.dropped_over_day,
            c.dropped_over_total,
            c.dropped_replayed_ticket,
            c.dropped_bad_ticket,
            c.dropped_bad_echo,
            c.dropped_address_in_use,
        ),
        AdminRow::Done | AdminRow::Refused { .. } => String::new(),
    }
}
