//! Who lets whom learn where they are: a person is asked, allows it or takes it back. Only an account's own sessions write
//! its grants.

use std::time::Instant;

use tokio::task::JoinSet;

use super::people;
use super::registry::Session;
use super::rendezvous::push;
use super::shared::Shared;
use crate::clock::now_millis;
use crate::wire::directory::{DirectoryAnswer, DirectoryPush, DirectoryReply};
use crate::wire::ids::PeerName;
use crate::wire::limits::PAGE_ENTRIES_MAX;
use crate::wire::refusal::Refusal;
use crate::wire::rendezvous::Grant;

/// Asks a person for a direct connection; the answer comes as a push. Counted apart from dials.
pub(super) async fn ask(shared: &Shared, asker: &Session, to: PeerName) -> DirectoryAnswer {
    shared.dials.count_question(&asker.name, now_millis())?;
    if to == asker.name {
        return Err(Refusal::NotAccepted);
    }
    people::reach(shared, asker, &to).await?;
    if shared.store.may_dial(&to, &asker.name, now_millis()).await? {
        let answer = DirectoryPush::ConsentAnswered { by: to, allowed: true };
        push(asker, &answer).await?;
        return Ok(DirectoryReply::Done);
    }
    let resident = shared.registry.resident(&to).ok_or(Refusal::Offline)?;
    // Before it is asked: the answer may be faster than the word that it was asked.
    shared.dials.ask(&to, &asker.name, Instant::now())?;
    let question = DirectoryPush::ConsentAsked { from: asker.name.clone(), key: asker.key };
    match push(&resident, &question).await {
        Ok(_) => Ok(DirectoryReply::Done),
        Err(refusal) => {
            shared.dials.answered(&to, &asker.name, Instant::now());
            Err(refusal)
        }
    }
}

/// Lets a person learn the account's address, and tells them if they have asked.
pub(super) async fn allow(shared: &Shared, session: &Session, grant: Grant) -> DirectoryAnswer {
    if grant.to == session.name {
        return Err(Refusal::NotAccepted);
    }
    let to = grant.to.clone();
    shared.store.allow(&session.name, session.key, grant, now_millis()).await?;
    tell(shared, session, &to, true).await;
    Ok(DirectoryReply::Done)
}

/// Takes that back, or turns the person down. It is no error when there was nothing to take back.
pub(super) async fn deny(shared: &Shared, session: &Session, to: &PeerName) -> DirectoryAnswer {
    shared.store.deny(&session.name, session.key, to).await?;
    if shared.store.account(to).await?.is_none() {
        // A slip of the finger should not look as if something had been taken back.
        return Err(Refusal::UnknownName);
    }
    tell(shared, session, to, false).await;
    Ok(DirectoryReply::Done)
}

/// A page of those whom the account allows it.
pub(super) async fn grants(shared: &Shared, session: &Session, after: Option<PeerName>) -> DirectoryAnswer {
    let mut grants = shared.store.grants(&session.name, after, PAGE_ENTRIES_MAX + 1, now_millis()).await?;
    let more = grants.len() > PAGE_ENTRIES_MAX;
    grants.truncate(PAGE_ENTRIES_MAX);
    Ok(DirectoryReply::Grants { grants, more })
}

/// Tells every session of a person what they are answered, if they have asked.
async fn tell(shared: &Shared, by: &Session, to: &PeerName, allowed: bool) {
    if !shared.dials.answered(&by.name, to, Instant::now()) {
        return;
    }
    let mut told = JoinSet::new();
    for session in shared.registry.sessions(to) {
        let answer = DirectoryPush::ConsentAnswered { by: by.name.clone(), allowed };
        told.spawn(async move { push(&session, &answer).await });
    }
    while let Some(pushed) = told.join_next().await {
        if let Ok(Err(refusal)) = pushed {
            tracing::debug!(peer = %to, %refusal, "not told what was answered");
        }
    }
}
