//! The account itself: who may bring another key to it, and whom its owner invites.

use std::net::IpAddr;

use super::commands::Rows;
use super::context::{Context, unexpected};
use super::event::{Event, InviteLink};
use super::failure::{Failure, FailureKind};
use crate::wire::account::{LoginKind, SessionInfo};
use crate::wire::directory::{DirectoryReply, DirectoryRequest, PushAnswer, PushReply};
use crate::wire::ids::{PeerKey, PeerName};
use crate::wire::limits::KEY_REQUESTS_PER_ACCOUNT_MAX;

/// Tells the person that another key wants their account.
pub(super) fn key_requested(context: &Context, key: PeerKey, source: IpAddr) -> PushAnswer {
    let mut requests = context.key_requests();
    requests.retain(|known| *known != key);
    if requests.len() >= KEY_REQUESTS_PER_ACCOUNT_MAX {
        requests.remove(0); // the oldest is over: the directory asks no more than this at a time
    }
    requests.push(key);
    drop(requests);
    context.tell(Event::KeyRequested { key, source });
    Ok(PushReply::Taken)
}

/// Gives the directory the person's answer.
pub(super) async fn answer_key_request(context: &Context, prefix: &str, allow: bool) -> Result<(), Failure> {
    let key = requested(context, prefix)?;
    context.tell_directory(&DirectoryRequest::AnswerKeyRequest { key, allow }).await?;
    context.key_requests().retain(|known| *known != key);
    Ok(())
}

/// The one key that is meant by the beginning of its digits; nothing means the only one.
fn requested(context: &Context, prefix: &str) -> Result<PeerKey, Failure> {
    let requests = context.key_requests();
    let mut meant = requests.iter().filter(|key| key.to_string().starts_with(&prefix.to_ascii_lowercase()));
    match (meant.next(), meant.next()) {
        (Some(key), None) => Ok(*key),
        (None, _) => Err(Failure::new(FailureKind::Usage, format!("no key {prefix} asks for this account"))),
        (Some(_), Some(_)) => Err(Failure::new(FailureKind::Usage, "several keys ask for this account: name one")),
    }
}

/// Has the directory make an invitation, and makes it a link to the directory as this person knows it.
pub(super) async fn invite(context: &Context, name: Option<&PeerName>, rows: &Rows) -> Result<(), Failure> {
    match context.ask_directory(&DirectoryRequest::Invite).await? {
        DirectoryReply::Invited { token, expires } => {
            let link = context.account.directory.link(name, context.account.fingerprint, Some(&token));
            rows.row(Event::Invited { link: InviteLink::new(link), expires }).await;
            Ok(())
        }
        other => Err(unexpected(&other)),
    }
}

/// Lists where the account is logged in.
pub(super) async fn sessions(context: &Context, rows: &Rows) -> Result<(), Failure> {
    match context.ask_directory(&DirectoryRequest::Sessions).await? {
        DirectoryReply::Sessions { sessions } => {
            for SessionInfo { kind, since, address, this } in sessions {
                let kind = match kind {
                    LoginKind::Resident => "resident",
                    LoginKind::Errand { .. } => "errand",
                };
                rows.row(Event::Session { kind: kind.to_owned(), since, address, this }).await;
            }
            Ok(())
        }
        other => Err(unexpected(&other)),
    }
}
