//! Sending a file: an offer that the other side accepts by fetching, or declines.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::catalogue::{file_name, hash};
use super::commands::Rows;
use super::contacts::tell_if_legacy;
use super::context::{Context, not_oneself};
use super::download::{self, Wanted};
use super::event::Event;
use super::failure::{Failure, FailureKind};
use super::{blocks, contacts, messages};
use crate::seal::random::{self, OsRandom};
use crate::storage::contacts::legacy_names;
use crate::storage::offers::{OpenOffer, close_offer, open_offers};
use crate::storage::partial_file::Collision;
use crate::storage::shares::{self, Audience, SharedFile};
use crate::wire::account::LoginKind;
use crate::wire::ids::{MessageId, PeerName};
use crate::wire::message::{Body, Offer};
use crate::wire::refusal::Refusal;

/// Offers a file to a person, and waits for the outcome when asked to.
pub(super) async fn send(
    context: &Arc<Context>,
    to: PeerName,
    path: PathBuf,
    wait: bool,
    rows: &Rows,
) -> Result<(), Failure> {
    let name = file_name(&path)?;
    not_oneself(context, &to)?;
    blocks::check(context, &to, None)?;
    let identity = contacts::identify(context, &to).await?;
    if !identity.accepts {
        return Err(Failure::of_message(&to, Refusal::NotAccepted));
    }
    let is_errand = matches!(context.account.kind, LoginKind::Errand { .. });
    if is_errand && !identity.online {
        return Err(Failure::new(FailureKind::Offline, format!("{to} is not online"))
            .hint("an offer waits for them while your peer runs: start `qchat peer`, then send it again"));
    }
    tell_if_legacy(&to, identity.legacy, rows).await;
    let file = hash(context, path, rows).await?;
    let id = MessageId::from_bytes(random::array(&mut OsRandom));
    let offer = Offer { name: name.clone(), size: file.size, digest: file.digest };
    let size = file.size.bytes();
    let audience = Audience::One { recipient: identity.key, offer: id };
    shares::put(context.database(), SharedFile { name: name.clone(), audience, file }).await?;
    let mut events = context.events.subscribe();
    // Of its own, because somebody quick has the file before we hear that the offer was stored.
    let outcomes = context.events.subscribe();
    messages::send(context, &to, id, Body::Offer(offer), &mut events).await?;
    rows.row(Event::Offered { to: to.clone(), id, name, size, online: identity.online }).await;
    if wait && identity.online { outcome(context, &to, id, outcomes, rows).await } else { Ok(()) }
}

/// Waits until the recipient of an offer has the file, declines it, or is gone.
async fn outcome(
    context: &Context,
    to: &PeerName,
    id: MessageId,
    mut events: broadcast::Receiver<Event>,
    rows: &Rows,
) -> Result<(), Failure> {
    // Asking also tells the directory that this errand is not idle.
    let mut still_online = tokio::time::interval(STILL_ONLINE_INTERVAL);
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            _ = still_online.tick() => {
                if !context.identify(to).await?.online {
                    return Err(Failure::new(FailureKind::Offline, format!("{to} went offline before taking the file")));
                }
                continue;
            }
        };
        match event {
            Ok(Event::Sent { to, name, size, digest, offer }) if offer == Some(id) => {
                rows.row(Event::Sent { to, name, size, digest, offer }).await;
                return Ok(());
            }
            Ok(Event::NotSent { to, id: returned, what, failure }) if returned == id => {
                rows.row(Event::NotSent { to, id, what, failure: failure.clone() }).await;
                return Err(failure);
            }
            Ok(Event::OfferDeclined { offer, .. }) if offer == id => {
                return Err(Failure::new(FailureKind::Declined, format!("{to} declined the file")));
            }
            Ok(Event::Progress { activity, name, peer: Some(peer), done, total, via }) if peer == *to => {
                rows.hint(Event::Progress { activity, name, peer: Some(peer), done, total, via });
            }
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return Err(Failure::new(FailureKind::Other, "the peer has stopped")),
        }
    }
}

/// How often a sender looks whether the other side is still there: twice within an errand's idle time.
const STILL_ONLINE_INTERVAL: Duration = Duration::from_secs(25);

/// Lists the offers that wait for an answer.
pub(super) async fn list(context: &Context, rows: &Rows) -> Result<(), Failure> {
    list_others(context, &HashSet::new(), rows).await
}

/// Lists the offers that wait for an answer but these.
pub(super) async fn list_others(context: &Context, but: &HashSet<MessageId>, rows: &Rows) -> Result<(), Failure> {
    let open = open_offers(context.database()).await?;
    let names = legacy_names(context.database()).await?;
    for OpenOffer { id, from, offer } in open.into_iter().filter(|offer| !but.contains(&offer.id)) {
        let (Offer { name, size, digest }, legacy) = (offer, names.contains(&from));
        rows.row(Event::Offer { from, id, name, size: size.bytes(), digest, legacy }).await;
    }
    Ok(())
}

/// Fetches an offered file. The offer stays open when that fails, so that it can be accepted again.
pub(super) async fn accept(
    context: &Arc<Context>,
    which: &str,
    folder: PathBuf,
    collision: Collision,
    rows: &Rows,
) -> Result<(), Failure> {
    let OpenOffer { id, from, offer } = choose(context, which).await?;
    let key = contacts::identify(context, &from).await?.key;
    let Offer { name, size, digest } = offer;
    let wanted = Wanted { from, key, name, size: size.bytes(), digest, folder, collision };
    let received = download::fetch(context, wanted, rows.sender()).await?;
    close_offer(context.database(), id).await?;
    rows.row(received).await;
    Ok(())
}

/// Turns an offer down, and tells who made it.
pub(super) async fn decline(context: &Arc<Context>, which: &str) -> Result<(), Failure> {
    let offer = choose(context, which).await?;
    let mut events = context.events.subscribe();
    let id = MessageId::from_bytes(random::array(&mut OsRandom));
    let body = Body::OfferDeclined { offer: offer.id, name: offer.offer.name.clone() };
    messages::send(context, &offer.from, id, body, &mut events).await?;
    Ok(close_offer(context.database(), offer.id).await?)
}

/// The open offer that a person means: by the beginning of its id, by who makes it, or the only one.
async fn choose(context: &Context, which: &str) -> Result<OpenOffer, Failure> {
    let mut offers = open_offers(context.database()).await?;
    offers.retain(|offer| {
        let names = [offer.from.as_str(), offer.offer.name.as_str()];
        names.contains(&which) || offer.id.to_string().starts_with(which)
    });
    match (offers.len(), offers.pop()) {
        (1, Some(offer)) => Ok(offer),
        (0, _) if which.is_empty() => Err(Failure::new(FailureKind::Usage, "no offer waits for an answer")),
        (0, _) => Err(Failure::new(
            FailureKind::Usage,
            format!("no open offer is {which:?}, nor comes from somebody of that name"),
        )),
        _ => Err(Failure::new(FailureKind::Usage, "more than one offer fits")
            .hint("name one by the beginning of its id: `/offers` lists them")),
    }
}
