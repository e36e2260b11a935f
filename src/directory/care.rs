//! What owners do with their account: another password, an end, and a look at where it is logged in.

use super::legacy;
use super::login::observed;
use super::people;
use super::registry::Session;
use super::shared::Shared;
use crate::clock::now_millis;
use crate::seal::password;
use crate::seal::random::OsRandom;
use crate::wire::account::SessionInfo;
use crate::wire::directory::{DirectoryAnswer, DirectoryReply};
use crate::wire::ids::{Password, PeerName};
use crate::wire::refusal::Refusal;

/// Replaces the password: whoever knew the old one and waits for an answer must bring the new one.
pub(super) async fn change_password(shared: &Shared, session: &Session, new: Password) -> DirectoryAnswer {
    legacy::check_is_not(shared, &session.name).await?;
    let hashed = shared.login_limits.hash(move || password::hash(&new, &mut OsRandom)).await?;
    shared.store.set_password(&session.name, session.key, hashed).await?;
    shared.login_limits.key_requests().forget(&session.name);
    tracing::info!(peer = %session.name, "password changed");
    Ok(DirectoryReply::Done)
}

/// Removes the account; its sessions end.
pub(super) async fn delete(shared: &Shared, session: &Session, name: &PeerName) -> DirectoryAnswer {
    if *name != session.name {
        return Err(Refusal::NotYourName);
    }
    let parted = shared.store.delete_account(&session.name, Some(session.key), now_millis()).await?;
    shared.login_limits.key_requests().forget(&session.name);
    shared.registry.close_account(&session.name, Some(session));
    people::parted(shared, &session.name, &parted).await;
    tracing::info!(peer = %session.name, "account deleted");
    Ok(DirectoryReply::Done)
}

/// Where the account is logged in.
pub(super) fn sessions(shared: &Shared, session: &Session) -> DirectoryReply {
    let info = |other: &Session| SessionInfo {
        kind: other.kind,
        since: other.since,
        address: observed(&other.connection),
        this: std::ptr::eq(other, session),
    };
    let sessions = shared.registry.sessions(&session.name);
    DirectoryReply::Sessions { sessions: sessions.iter().map(|other| info(other)).collect() }
}

/// Ends the account's other sessions.
pub(super) fn end_others(shared: &Shared, session: &Session) -> DirectoryReply {
    shared.registry.end_others(session);
    DirectoryReply::Done
}
