//! This account's prekeys: published when one is due, deleted when nothing that is sealed to them can come.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::context::Context;
use super::event::Event;
use super::failure::Failure;
use crate::clock::now_millis;
use crate::protocol::backoff::Backoff;
use crate::protocol::prekeys::{is_new_one_due, obsolete};
use crate::seal::prekey::PrekeySecret;
use crate::seal::random::{self, OsRandom};
use crate::storage::prekeys;
use crate::wire::account::LoginKind;
use crate::wire::directory::{DirectoryRequest, PushAnswer, PushReply};
use crate::wire::ids::PrekeyId;

/// How long others may seal to a prekey: a person may be away as long as the mailbox keeps messages.
const LIFETIME_MILLIS: u64 = 31 * 24 * 3_600_000;

/// How often a session looks whether a new one is due. A machine that slept may be late by as much.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(3_600);

/// Publishes a new prekey when one is due, knowing which one the directory has; says which it has then.
pub(super) async fn refresh(context: &Context, published: Option<PrekeyId>) -> Result<Option<PrekeyId>, Failure> {
    let mut known = context.delivering.prekeys.lock().await;
    *known = published;
    publish_if_due(context, &mut known).await?;
    Ok(*known)
}

async fn publish_if_due(context: &Context, published: &mut Option<PrekeyId>) -> Result<(), Failure> {
    let now = now_millis();
    let kept = prekeys::kept(context.database()).await?;
    if !is_new_one_due(kept.last().copied(), *published, now) {
        return Ok(());
    }
    let secret = PrekeySecret::generate(&mut OsRandom);
    prekeys::keep(context.database(), &secret, now).await?;
    let signed = secret.publish(context.identity(), &context.account.name, now.plus_millis(LIFETIME_MILLIS));
    context.tell_directory(&DirectoryRequest::PutPrekey(Box::new(signed))).await?;
    *published = Some(secret.id());
    Ok(())
}

/// Somebody sealed to a prekey that is not here: perhaps the directory hands out another one than it was given last.
pub(super) async fn replace_unknown(context: &Context) -> Result<(), Failure> {
    let published = context.identify(&context.account.name).await?.prekey;
    refresh(context, published.map(|signed| signed.prekey.id)).await.map(drop)
}

/// Keeps the prekey fresh for as long as a session lasts.
pub(super) async fn keep_fresh(context: Arc<Context>, published: Option<PrekeyId>) {
    *context.delivering.prekeys.lock().await = published;
    let mut backoff = Backoff::default();
    loop {
        let refreshed = publish_if_due(&context, &mut *context.delivering.prekeys.lock().await).await;
        let pause = match refreshed {
            Ok(()) => {
                backoff.succeeded();
                LOOKED_AT_EVERY
            }
            Err(failure) => {
                tracing::warn!(%failure, "no fresh prekey was published");
                let [spread] = random::array(&mut OsRandom);
                backoff.failed(spread)
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Takes the news that nothing waits: what is sealed to an older prekey than the directory's cannot come any more. But
/// what this session has left comes again in the next.
pub(super) async fn take_drained(context: &Context, published: Option<PrekeyId>) -> PushAnswer {
    context.tell(Event::Drained);
    let leaves_nothing = !context.delivering.has_left.load(Ordering::Relaxed);
    if let (LoginKind::Resident, Some(published), true) = (context.account.kind, published, leaves_nothing)
        && let Err(failure) = replace(context, published).await
    {
        tracing::warn!(%failure, "old prekeys stay for now");
    }
    Ok(PushReply::Taken)
}

async fn replace(context: &Context, published: PrekeyId) -> Result<(), Failure> {
    let kept = prekeys::kept(context.database()).await?;
    prekeys::delete(context.database(), obsolete(&kept, published)).await?;
    if kept.last().is_some_and(|newest| newest.id == published) {
        refresh(context, Some(published)).await?;
    }
    Ok(())
}
