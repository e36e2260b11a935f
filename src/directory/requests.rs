//! What each request of a session is answered.

use std::sync::Arc;

use super::registry::{Session, Waits};
use super::rendezvous;
use super::shared::Shared;
use super::store::{Account, StoreError};
use super::{care, consent, invitations, legacy, people, presence};
use crate::clock::now_millis;
use crate::protocol::key_change::Answer;
use crate::protocol::people::Word;
use crate::seal::{prekey, receipt};
use crate::wire::account::{Identity, SignedPrekey};
use crate::wire::catalog::{Cursor, Entry, Found, Query};
use crate::wire::directory::{DirectoryAnswer, DirectoryReply, DirectoryRequest};
use crate::wire::ids::{FileName, MessageId, PeerKey, PeerName};
use crate::wire::limits::{MISSING_PER_FRAME_MAX, PAGE_ENTRIES_MAX, RECEIPTS_PER_FRAME_MAX, SEALED_BYTES_MAX};
use crate::wire::message::{ENVELOPE_VERSION, Envelope, SignedReceipt};
use crate::wire::refusal::Refusal;

/// Bytes of an encapsulated X-Wing key: 1,088 of ML-KEM-768 and 32 of X25519.
const ENCAPSULATED_BYTES: usize = 1_120;

/// Answers one request.
pub(super) async fn answer(shared: &Shared, session: &Arc<Session>, request: DirectoryRequest) -> DirectoryAnswer {
    match request {
        DirectoryRequest::Login(_) => Err(Refusal::AlreadyLoggedIn),
        DirectoryRequest::PutPrekey(prekey) => put_prekey(shared, session, *prekey).await,
        DirectoryRequest::Who { recent, pattern, after } => {
            presence::who(shared, session, recent, pattern, after).await
        }
        DirectoryRequest::Identify { name } => identify(shared, session, name).await,
        DirectoryRequest::Deliver { to, envelope } => deliver(shared, session, to, *envelope).await,
        DirectoryRequest::Receipts { to, receipts } => put_receipts(shared, session, to, receipts).await,
        DirectoryRequest::Missing { messages } => missing(shared, session, messages).await,
        DirectoryRequest::Publish(entry) => publish(shared, session, entry).await,
        DirectoryRequest::Unpublish { name } => unpublish(shared, session, &name).await,
        DirectoryRequest::Find { query, after } => find(shared, session, query, after).await,
        DirectoryRequest::Dial(request) => rendezvous::dial(shared, session, request).await,
        DirectoryRequest::Opened { dial } => rendezvous::opened(shared, session, dial).await,
        DirectoryRequest::AskConsent { to } => consent::ask(shared, session, to).await,
        DirectoryRequest::Allow(grant) => consent::allow(shared, session, grant).await,
        DirectoryRequest::Deny { to } => consent::deny(shared, session, &to).await,
        DirectoryRequest::Grants { after } => consent::grants(shared, session, after).await,
        DirectoryRequest::AnswerKeyRequest { key, allow } => answer_key_request(shared, session, key, allow),
        DirectoryRequest::Invite => invite(shared, session).await,
        DirectoryRequest::ChangePassword { new } => care::change_password(shared, session, new).await,
        DirectoryRequest::DeleteAccount { name } => care::delete(shared, session, &name).await,
        DirectoryRequest::Sessions => Ok(care::sessions(shared, session)),
        DirectoryRequest::EndOtherSessions => Ok(care::end_others(shared, session)),
        DirectoryRequest::SetPresence(presence) => presence::set(shared, session, presence),
        DirectoryRequest::Watch { names } => presence::watch(shared, session, names),
        DirectoryRequest::Announce(signed) => presence::announce(shared, session, *signed).await,
        DirectoryRequest::Block { name } => people::block(shared, session, &name).await,
        DirectoryRequest::Unblock { name } => done(people::say(shared, session, &name, Word::Unblock).await),
        DirectoryRequest::Blocked { after } => people::blocked(shared, session, after).await,
        DirectoryRequest::Befriend { name } => people::befriend(shared, session, &name).await,
        DirectoryRequest::Unfriend { name } => done(people::say(shared, session, &name, Word::Unfriend).await),
        DirectoryRequest::PutOff { name } => done(people::say(shared, session, &name, Word::PutOff).await),
        DirectoryRequest::Friends { after } => people::friends(shared, session, after).await,
        DirectoryRequest::SetAudience(audience) => people::set_audience(shared, session, audience).await,
        DirectoryRequest::Audience => people::audience(shared, session).await,
    }
}

fn done<T>(said: Result<T, Refusal>) -> DirectoryAnswer {
    said.map(|_| DirectoryReply::Done)
}

/// The answer of whoever holds the account's key now to somebody who wants to replace it.
fn answer_key_request(shared: &Shared, session: &Session, key: PeerKey, allow: bool) -> DirectoryAnswer {
    let answer = if allow { Answer::Allowed } else { Answer::Declined };
    shared.login_limits.key_requests().answer(&session.name, key, session.key, answer, now_millis())?;
    tracing::info!(peer = %session.name, %key, allow, "the owner has answered");
    Ok(DirectoryReply::Done)
}

async fn invite(shared: &Shared, session: &Session) -> DirectoryAnswer {
    legacy::check_is_not(shared, &session.name).await?;
    let (token, expires) = invitations::invite(shared, Some(session.name.clone())).await?;
    tracing::info!(peer = %session.name, "invitation made");
    Ok(DirectoryReply::Invited { token, expires })
}

async fn put_prekey(shared: &Shared, session: &Session, signed: SignedPrekey) -> DirectoryAnswer {
    prekey::verify(&signed, &session.name, &session.key, now_millis()).map_err(|error| {
        tracing::debug!(peer = %session.name, %error, "prekey refused");
        Refusal::BadSignature
    })?;
    shared.store.put_prekey(signed).await?;
    // Whoever drains the mailbox is told what it is drained for: the older secrets are needed no more.
    shared.registry.wake(&session.name, Waits::Message);
    Ok(DirectoryReply::Done)
}

/// Whoever may not see a person learns their key, and nothing that changes when they come.
async fn identify(shared: &Shared, session: &Session, name: PeerName) -> DirectoryAnswer {
    let Account { key, legacy, .. } = shared.store.account(&name).await?.ok_or(Refusal::UnknownName)?;
    let accepts = shared.store.relation(&name, &session.name).await?.is_open();
    let prekey = if accepts { shared.store.prekey(&name).await? } else { None };
    let online = accepts && shared.registry.is_online(&name);
    Ok(DirectoryReply::Identity(Box::new(Identity { name, key, prekey, online, accepts, legacy })))
}

async fn deliver(shared: &Shared, session: &Session, to: PeerName, envelope: Envelope) -> DirectoryAnswer {
    if envelope.header.sender != session.key {
        return Err(Refusal::NotYourName);
    }
    let well_formed = envelope.header.version == ENVELOPE_VERSION
        && envelope.encapsulated.len() == ENCAPSULATED_BYTES
        && envelope.sealed.len() <= SEALED_BYTES_MAX;
    if !well_formed {
        return Err(Refusal::UnknownRequest);
    }
    shared.store.deliver(&to, &session.name, envelope, now_millis()).await?;
    // Also for a repeated envelope: its first attempt may have been cut off here.
    shared.registry.wake(&to, Waits::Message);
    Ok(DirectoryReply::Done)
}

async fn put_receipts(
    shared: &Shared,
    session: &Session,
    to: PeerName,
    receipts: Vec<SignedReceipt>,
) -> DirectoryAnswer {
    if receipts.len() > RECEIPTS_PER_FRAME_MAX {
        return Err(Refusal::UnknownRequest);
    }
    if receipts.iter().any(|signed| signed.receipt.by != session.key) {
        return Err(Refusal::NotYourName);
    }
    // Their reader checks them too; what it would throw away does not wait for it.
    if receipts.iter().any(|signed| receipt::verify(signed).is_err()) {
        return Err(Refusal::BadSignature);
    }
    match shared.store.put_receipts(&to, session.key, receipts, now_millis()).await {
        // That there is no room tells that nobody comes to take them, and the other way round.
        Err(StoreError::Refused(Refusal::MailboxFull))
            if !shared.store.relation(&to, &session.name).await?.is_open() => {}
        kept => kept?,
    }
    // Also for repeated ones: the first attempt may have been cut off here.
    shared.registry.wake(&to, Waits::News);
    Ok(DirectoryReply::Done)
}

async fn missing(shared: &Shared, session: &Session, messages: Vec<(PeerName, MessageId)>) -> DirectoryAnswer {
    if messages.len() > MISSING_PER_FRAME_MAX {
        return Err(Refusal::UnknownRequest);
    }
    let messages = shared.store.missing(&session.name, session.key, messages).await?;
    Ok(DirectoryReply::Missing { messages })
}

async fn publish(shared: &Shared, session: &Session, entry: Entry) -> DirectoryAnswer {
    shared.store.publish(&session.name, entry, now_millis()).await?;
    Ok(DirectoryReply::Done)
}

async fn unpublish(shared: &Shared, session: &Session, name: &FileName) -> DirectoryAnswer {
    shared.store.unpublish(&session.name, name).await?;
    Ok(DirectoryReply::Done)
}

async fn find(shared: &Shared, session: &Session, query: Query, after: Option<Cursor>) -> DirectoryAnswer {
    let page = shared.store.find(&session.name, query, after, PAGE_ENTRIES_MAX).await?;
    let owners = page.entries.iter().map(|(owner, _)| owner.clone()).collect();
    let legacy = shared.store.legacy_among(owners).await?;
    let found = page.entries.into_iter().map(|(owner, entry)| {
        let (online, legacy) = (shared.registry.is_online(&owner), legacy.contains(&owner));
        Found { owner, online, entry, legacy }
    });
    Ok(DirectoryReply::Entries { found: found.collect(), more: page.more })
}
