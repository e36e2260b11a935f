//! Takes what comes: opens the seal, keeps it on disk, and only then signs the receipt with which its sender and the
//! directory may forget it. What comes before its turn is held for a while.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::contacts;
use super::context::Context;
use super::event::Event;
use super::failure::{Failure, FailureKind};
use super::receipts;
use crate::clock::now_millis;
use crate::seal::envelope;
use crate::storage::messages::{self, Incoming, Receipted, Released};
use crate::storage::{self, offers, prekeys, shares};
use crate::wire::directory::{PushAnswer, PushReply};
use crate::wire::ids::{PeerKey, PeerName};
use crate::wire::limits::{GAP_HELD, OPEN_OFFERS_MAX};
use crate::wire::message::{Body, Delivery, InnerMessage, Offer, ReceiptKind, SignedReceipt};
use crate::wire::refusal::Refusal;
use crate::wire::transfer::MessageAnswer;

/// Takes a delivery. The directory forgets it only after a receipt.
pub(super) async fn take(context: &Context, delivery: Delivery) -> PushAnswer {
    let taken = if context.account.collects_mail {
        take_delivery(context, delivery).await
    } else {
        take_own(context, delivery).await
    };
    match taken {
        Ok(Some(receipt)) => Ok(PushReply::Receipt(Box::new(receipt))),
        Ok(None) => {
            context.delivering.has_left.store(true, Ordering::Relaxed);
            Ok(PushReply::Left)
        }
        Err(failure) => {
            tracing::error!(%failure, "a message was left at the directory");
            Err(Refusal::Storage)
        }
    }
}

/// Takes a message that came straight from its sender, who has proven the key and signed it.
pub(super) async fn take_direct(context: &Context, from: &PeerName, message: InnerMessage) -> MessageAnswer {
    let taken = take_message(context, from.clone(), message, true).await.map_err(|failure| {
        tracing::error!(%failure, "a message was not taken");
        Refusal::Storage
    })?;
    taken.ok_or(Refusal::NotAccepted)
}

/// Takes receipts that came straight from whom they name.
pub(super) async fn take_receipts(context: &Context, receipts: Vec<SignedReceipt>) -> Result<(), Refusal> {
    receipts::take(context, receipts).await.map_err(|failure| {
        tracing::error!(%failure, "receipts were not taken");
        Refusal::Storage
    })
}

async fn take_delivery(context: &Context, delivery: Delivery) -> Result<Option<SignedReceipt>, Failure> {
    let header = &delivery.envelope.header;
    if let Some(known) = messages::come_again(context.database(), header.sender, header.id, false).await? {
        return Ok(Some(receipts::sign(context, &known, ReceiptKind::Delivered)));
    }
    match open(context, &delivery).await? {
        Some(message) => take_message(context, delivery.from, message, false).await,
        None => Ok(Some(cannot_open(context, &delivery))),
    }
}

/// Keeps a message and shows what is in its turn. `None` when it is not taken from its sender now.
async fn take_message(
    context: &Context,
    from: PeerName,
    message: InnerMessage,
    is_direct: bool,
) -> Result<Option<SignedReceipt>, Failure> {
    if matches!(message.body, Body::Offer(_)) && offers::open_offers(context.database()).await?.len() >= OPEN_OFFERS_MAX
    {
        tracing::warn!(%from, "an offer was not taken: too many wait for an answer");
        return Ok(None);
    }
    match contacts::meet(context, &from, message.sender).await {
        Ok(_) => {}
        Err(failure) if failure.kind == FailureKind::Authentication => {
            tracing::warn!(%from, key = %message.sender, "a message signed by an unaccepted key was not taken");
            return Ok(None);
        }
        Err(failure) => return Err(failure),
    }
    // Before it is told: whoever reads it must see at once when it came from an older program.
    let legacy = contacts::is_legacy(context, &from).await?;
    let (sender, id, sequence) = (message.sender, message.id, message.sequence);
    let incoming = Incoming { from: from.clone(), message };
    // One at a time, so that the screen has them in the order of the disk.
    let _in_order = context.delivering.arrivals.lock().await;
    let (taken, released) = messages::take(context.database(), incoming, is_direct, now_millis()).await?;
    show(context, &from, legacy, released).await?;
    if taken.is_held(id) {
        context.delivering.held.notify_one();
    }
    let of = Receipted { from, sender, id, sequence, highest: taken.highest };
    Ok(Some(receipts::sign(context, &of, ReceiptKind::Delivered)))
}

/// An errand hears only the answers to its own offers. It leaves all of it for the resident peer, which has what came
/// before.
async fn take_own(context: &Context, delivery: Delivery) -> Result<Option<SignedReceipt>, Failure> {
    let Some(message) = open(context, &delivery).await? else { return Ok(None) };
    if let Body::OfferDeclined { offer, .. } = message.body
        && shares::remove_offered(context.database(), offer, message.sender).await?.is_some()
    {
        // Nothing is said in it that could be marked.
        context.tell(event_of(Incoming { from: delivery.from, message }, false));
    }
    Ok(None)
}

/// Opens the seal. `None` when it cannot be opened here, now or ever.
async fn open(context: &Context, delivery: &Delivery) -> Result<Option<InnerMessage>, Failure> {
    let header = &delivery.envelope.header;
    let Some(secret) = prekeys::secret(context.database(), header.prekey).await? else {
        tracing::warn!(from = %delivery.from, id = %header.id, "a message is sealed to a prekey that is not here");
        if let Err(failure) = super::prekeys::replace_unknown(context).await {
            tracing::warn!(%failure, "not known which prekey the directory hands out");
        }
        return Ok(None);
    };
    match envelope::open(&secret, &delivery.envelope, &context.key()) {
        Ok(message) => {
            prekeys::mark_used(context.database(), header.prekey).await?;
            Ok(Some(message))
        }
        Err(error) => {
            tracing::warn!(from = %delivery.from, id = %header.id, %error, "a message cannot be opened");
            Ok(None)
        }
    }
}

fn cannot_open(context: &Context, delivery: &Delivery) -> SignedReceipt {
    let header = &delivery.envelope.header;
    let (from, sender, id) = (delivery.from.clone(), header.sender, header.id);
    receipts::sign(context, &Receipted { from, sender, id, sequence: 0, highest: 0 }, ReceiptKind::CannotOpen)
}

/// Tells the faces what is in its turn, and what is missing before it.
async fn show(context: &Context, from: &PeerName, legacy: bool, released: Released) -> Result<(), Failure> {
    if context.blocks.has_name(from) {
        // What was held when they were blocked stays new, and is on no screen.
        return Ok(());
    }
    for (first, last) in released.missing {
        context.tell(Event::Missing { from: from.clone(), first, last });
    }
    for incoming in released.messages {
        let sender = incoming.message.sender;
        match &incoming.message.body {
            Body::Text(_) | Body::Offer(_) => {}
            Body::OfferDeclined { offer, .. } => {
                shares::remove_offered(context.database(), *offer, sender).await?;
            }
            Body::OfferWithdrawn { offer, .. } => context.traffic.withdrawn(*offer, from.clone()).await?,
        }
        let offered = match &incoming.message.body {
            Body::Offer(offer) => Some((incoming.message.id, offer.clone())),
            Body::Text(_) | Body::OfferDeclined { .. } | Body::OfferWithdrawn { .. } => None,
        };
        context.tell(event_of(incoming, legacy));
        if let Some((id, offer)) = offered
            && let Err(failure) = super::offers::take_if_welcome(context, from, sender, id, offer).await
        {
            tracing::warn!(%from, %failure, "an offer was not taken without asking");
        }
    }
    Ok(())
}

/// Waits no longer than ten seconds for what should have come before a held message. After a restart that is ten seconds
/// from then, so that no clock that jumps shortens or lengthens it.
pub(super) async fn give_up_on_gaps(context: Arc<Context>) {
    let mut waiting: HashMap<(PeerKey, u64), Instant> = HashMap::new();
    loop {
        match messages::held(context.database()).await {
            Ok(held) => {
                let deadline = Instant::now() + GAP_HELD;
                waiting = held.into_iter().map(|held| (held, *waiting.get(&held).unwrap_or(&deadline))).collect();
            }
            Err(error) => tracing::error!(%error, "what is held cannot be read"),
        }
        let next = waiting.iter().min_by_key(|(_, deadline)| **deadline).map(|(held, deadline)| (*held, *deadline));
        let due = async {
            match next {
                Some((held, deadline)) => {
                    tokio::time::sleep_until(deadline).await;
                    held
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = context.delivering.held.notified() => {}
            (sender, sequence) = due => {
                waiting.remove(&(sender, sequence));
                if let Err(failure) = give_up(&context, sender, sequence).await {
                    tracing::error!(%failure, "a held message is not shown yet");
                    tokio::time::sleep(GAP_HELD).await;
                }
            }
        }
    }
}

/// Waits no longer for anything that should have come before a held message.
pub(super) async fn give_up_on_all(context: &Context) -> Result<(), Failure> {
    for (sender, sequence) in messages::held(context.database()).await? {
        give_up(context, sender, sequence).await?;
    }
    Ok(())
}

async fn give_up(context: &Context, sender: PeerKey, sequence: u64) -> Result<(), Failure> {
    let _in_order = context.delivering.arrivals.lock().await;
    let released = messages::give_up(context.database(), sender, context.key(), sequence).await?;
    let Some(from) = released.messages.first().map(|first| first.from.clone()) else { return Ok(()) };
    // Asked for when it came: nobody waits for the directory here.
    let legacy = storage::contacts::legacy(context.database(), &from).await? == Some(true);
    show(context, &from, legacy, released).await
}

fn event_of(Incoming { from, message }: Incoming, legacy: bool) -> Event {
    let (id, sent_at) = (message.id, message.sent_at);
    match message.body {
        Body::Text(text) => Event::Message { from, id, sent_at, text: text.as_str().to_owned(), legacy },
        Body::Offer(offer) => {
            let Offer { name, size, digest, kind } = offer;
            Event::Offer { from, id, name, size: size.bytes(), digest, files: kind.files(), legacy }
        }
        Body::OfferDeclined { offer, name } => Event::OfferDeclined { by: from, id, offer, name },
        Body::OfferWithdrawn { offer, name } => Event::OfferWithdrawn { from, id, offer, name },
    }
}

/// What came earlier and was on no screen yet, in the order of the screen; each with whether it was about to be shown.
/// Nothing of those who are blocked by now.
pub(super) async fn not_shown(context: &Context) -> Result<Vec<(Event, bool)>, Failure> {
    let waiting = messages::not_shown(context.database(), context.key()).await?;
    let is_taken = |(incoming, _): &(Incoming, bool)| !context.blocks.has(&incoming.from, incoming.message.sender);
    let legacy = storage::contacts::legacy_names(context.database()).await?;
    let event = |(incoming, perhaps): (Incoming, bool)| {
        let is_legacy = legacy.contains(&incoming.from);
        (event_of(incoming, is_legacy), perhaps)
    };
    Ok(waiting.into_iter().filter(is_taken).map(event).collect())
}
