//! Takes what the directory delivers: opens the seal, keeps it on disk, and only then says that it was taken.

use super::contacts;
use super::context::Context;
use super::event::Event;
use super::failure::{Failure, FailureKind};
use crate::clock::now_millis;
use crate::seal::{self, envelope};
use crate::storage::messages::{self, Incoming};
use crate::storage::prekeys;
use crate::wire::account::LoginKind;
use crate::wire::directory::{PushAnswer, PushReply};
use crate::wire::ids::{MessageId, PeerKey, PeerName};
use crate::wire::limits::OPEN_OFFERS_MAX;
use crate::wire::message::{Body, Delivery, InnerMessage, Receipt, ReceiptKind, SignedReceipt};
use crate::wire::refusal::Refusal;
use crate::wire::transfer::MessageAnswer;

/// Takes a delivery. The directory forgets it only after `Taken`.
pub(super) async fn take(context: &Context, delivery: Delivery) -> PushAnswer {
    match context.account.kind {
        LoginKind::Resident => take_all(context, delivery).await,
        LoginKind::Errand { .. } => take_own(context, delivery).await,
    }
    .unwrap_or_else(|failure| {
        tracing::error!(%failure, "a message was left at the directory");
        Err(Refusal::Storage)
    })
}

async fn take_all(context: &Context, delivery: Delivery) -> Result<PushAnswer, Failure> {
    let header = &delivery.envelope.header;
    if messages::come_again(context.database(), header.sender, header.id, false).await?.is_some() {
        return Ok(Ok(PushReply::Taken));
    }
    let Some(message) = open(context, &delivery).await? else { return Ok(Ok(PushReply::Left)) };
    if matches!(message.body, Body::Offer(_))
        && crate::storage::offers::open_offers(context.database()).await?.len() >= OPEN_OFFERS_MAX
    {
        tracing::warn!(from = %delivery.from, "an offer was left at the directory: too many wait for an answer");
        return Ok(Ok(PushReply::Left));
    }
    match contacts::meet(context, &delivery.from, message.sender).await {
        Ok(_) => {}
        Err(failure) if failure.kind == FailureKind::Authentication => {
            tracing::warn!(from = %delivery.from, key = %message.sender, "a message signed by an unaccepted key was left");
            return Ok(Ok(PushReply::Left));
        }
        Err(failure) => return Err(failure),
    }
    let incoming = Incoming { from: delivery.from, message };
    let (taken, _) = messages::take(context.database(), incoming.clone(), false, now_millis()).await?;
    if !taken.is_known {
        settle(context, &incoming).await?;
        context.tell(event_of(incoming));
    }
    Ok(Ok(PushReply::Taken))
}

/// Takes a message that came over a link, whose signature and recipient were checked. The receipt is signed after it is
/// on disk.
pub(super) async fn take_direct(context: &Context, from: &PeerName, message: InnerMessage) -> MessageAnswer {
    keep_direct(context, from, message).await.unwrap_or_else(|failure| {
        tracing::error!(%failure, "a message could not be taken");
        Err(Refusal::Storage)
    })
}

async fn keep_direct(context: &Context, from: &PeerName, message: InnerMessage) -> Result<MessageAnswer, Failure> {
    let (sender, id, sequence) = (message.sender, message.id, message.sequence);
    if let Some(known) = messages::come_again(context.database(), sender, id, true).await? {
        return Ok(Ok(delivered(context, sender, id, known.sequence, known.highest)));
    }
    match contacts::meet(context, from, sender).await {
        Ok(_) => {}
        Err(failure) if failure.kind == FailureKind::Authentication => return Ok(Err(Refusal::NotAccepted)),
        Err(failure) => return Err(failure),
    }
    if matches!(message.body, Body::Offer(_))
        && crate::storage::offers::open_offers(context.database()).await?.len() >= OPEN_OFFERS_MAX
    {
        return Ok(Err(Refusal::MailboxFull));
    }
    let incoming = Incoming { from: from.clone(), message };
    let (taken, released) = messages::take(context.database(), incoming, true, now_millis()).await?;
    for incoming in released.messages {
        settle(context, &incoming).await?;
        context.tell(event_of(incoming));
    }
    Ok(Ok(delivered(context, sender, id, sequence, taken.highest)))
}

fn delivered(context: &Context, to: PeerKey, id: MessageId, sequence: u64, highest: u64) -> SignedReceipt {
    let (by, at) = (context.key(), now_millis());
    let receipt = Receipt { by, to, id, sequence, highest, kind: ReceiptKind::Delivered, at };
    seal::receipt::sign(context.identity(), receipt)
}

/// Takes receipts that came over a link, whose signatures were checked.
pub(super) async fn take_receipts(context: &Context, receipts: Vec<SignedReceipt>) -> Result<(), Refusal> {
    match messages::take_receipts(context.database(), receipts, now_millis()).await {
        Ok(changed) => {
            tracing::debug!(messages = changed.len(), "receipts came");
            Ok(())
        }
        Err(error) => {
            tracing::error!(%error, "receipts could not be taken");
            Err(Refusal::Storage)
        }
    }
}

/// An errand takes only the answers to its own offers; the rest waits for the resident peer.
async fn take_own(context: &Context, delivery: Delivery) -> Result<PushAnswer, Failure> {
    let Some(message) = open(context, &delivery).await? else { return Ok(Ok(PushReply::Left)) };
    let incoming = Incoming { from: delivery.from, message };
    match incoming.message.body {
        Body::OfferDeclined { .. } if settle(context, &incoming).await? => {
            messages::take(context.database(), incoming.clone(), false, now_millis()).await?;
            messages::mark_shown(context.database(), incoming.message.id, false).await?;
            context.tell(event_of(incoming));
            Ok(Ok(PushReply::Taken))
        }
        Body::OfferDeclined { .. } | Body::Text(_) | Body::Offer(_) => Ok(Ok(PushReply::Left)),
    }
}

/// Opens the seal. `None` when it cannot be opened here: it stays at the directory until it expires.
async fn open(context: &Context, delivery: &Delivery) -> Result<Option<InnerMessage>, Failure> {
    let header = &delivery.envelope.header;
    let Some(secret) = prekeys::secret(context.database(), header.prekey).await? else {
        tracing::warn!(from = %delivery.from, id = %header.id, "a message is sealed to a prekey that is not here");
        return Ok(None);
    };
    match envelope::open(&secret, &delivery.envelope, &context.key()) {
        Ok(message) => Ok(Some(message)),
        Err(error) => {
            tracing::warn!(from = %delivery.from, id = %header.id, %error, "a message cannot be opened");
            Ok(None)
        }
    }
}

/// Ends an offer of ours that its recipient declined. Says whether it was ours.
async fn settle(context: &Context, incoming: &Incoming) -> Result<bool, Failure> {
    match incoming.message.body {
        Body::OfferDeclined { offer, .. } => {
            let recipient = incoming.message.sender;
            Ok(crate::storage::shares::remove_offered(context.database(), offer, recipient).await?.is_some())
        }
        Body::Text(_) | Body::Offer(_) => Ok(false),
    }
}

fn event_of(Incoming { from, message }: Incoming) -> Event {
    let (id, sent_at) = (message.id, message.sent_at);
    match message.body {
        Body::Text(text) => Event::Message { from, id, sent_at, text: text.as_str().to_owned() },
        Body::Offer(offer) => {
            Event::Offer { from, id, name: offer.name, size: offer.size.bytes(), digest: offer.digest }
        }
        Body::OfferDeclined { offer, name } => Event::OfferDeclined { by: from, id, offer, name },
    }
}

/// What came earlier and was on no screen yet, in the order it came.
pub(super) async fn not_shown(context: &Context) -> Result<Vec<Event>, Failure> {
    let waiting = messages::not_shown(context.database(), context.key()).await?;
    Ok(waiting.into_iter().map(event_of).collect())
}
