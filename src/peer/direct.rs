//! Messages and receipts over a link: signed like all messages, not sealed, because the link is encrypted from person to
//! person. Whether one goes this way is decided in `protocol/lanes.rs`.

use std::time::Duration;

use super::context::Context;
use super::inbox;
use super::links::Link;
use crate::seal::{envelope, receipt};
use crate::transport::connection::TransportError;
use crate::transport::stream::Stream;
use crate::wire::account::LoginKind;
use crate::wire::ids::PeerKey;
use crate::wire::limits::{RECEIPTS_PER_FRAME_MAX, REQUEST_DEADLINE};
use crate::wire::message::{InnerMessage, SignedMessage, SignedReceipt};
use crate::wire::refusal::{CloseCode, Refusal};
use crate::wire::transfer::{MessageAnswer, PeerRequest, ReceivedAnswer};

/// Why nobody says that something arrived. After all but a refusal it may have arrived all the same.
#[derive(Debug, thiserror::Error)]
pub(super) enum DirectFailure {
    /// Perhaps it arrived and the answer is late: send it another way, under the same id.
    #[error("no answer within {} ms", .0.as_millis())]
    NoAnswer(Duration),
    /// There is no link, it broke, or something else came over it than an answer: use another way.
    #[error("the link does not carry it: {0}")]
    Broken(String),
    /// The other side does not take it.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// The round-trip time to a peer, when there is a link to it.
pub(super) fn round_trip(context: &Context, key: PeerKey) -> Option<Duration> {
    context.links.round_trip(key)
}

/// Sends a message straight to its recipient. Comes back with the recipient's receipt: then it is on their disk.
pub(super) async fn deliver(
    context: &Context,
    message: &InnerMessage,
    patience: Duration,
) -> Result<SignedReceipt, DirectFailure> {
    let signed = envelope::sign_message(context.identity(), message)
        .map_err(|error| DirectFailure::Broken(error.to_string()))?;
    let request = PeerRequest::Message(Box::new(signed));
    let answer: MessageAnswer = ask(context, message.recipient, &request, patience).await?;
    let signed = answer?;
    let fits = is_from_to(&signed, message.recipient, context.key()) && signed.receipt.id == message.id;
    if fits { Ok(signed) } else { Err(DirectFailure::Broken("the receipt does not fit the message".to_owned())) }
}

/// Tells a peer what became of its messages.
pub(super) async fn send_receipts(
    context: &Context,
    key: PeerKey,
    receipts: Vec<SignedReceipt>,
) -> Result<(), DirectFailure> {
    for part in receipts.chunks(RECEIPTS_PER_FRAME_MAX) {
        let request = PeerRequest::Receipts(part.to_vec());
        let answer: ReceivedAnswer = ask(context, key, &request, REQUEST_DEADLINE).await?;
        answer?;
    }
    Ok(())
}

/// Asks over the best link to a key, and waits this long for the answer.
pub(super) async fn ask<A: serde::de::DeserializeOwned>(
    context: &Context,
    key: PeerKey,
    request: &PeerRequest,
    patience: Duration,
) -> Result<A, DirectFailure> {
    let link = context.links.find(key).ok_or_else(|| DirectFailure::Broken("it is gone".to_owned()))?;
    let before = link.connection.datagrams_received();
    match tokio::time::timeout(patience, link.connection.request(request)).await {
        Ok(Ok(answer)) => Ok(answer),
        Err(_) => {
            if link.connection.datagrams_received() == before {
                link.note_silence(before);
            }
            Err(DirectFailure::NoAnswer(patience))
        }
        Ok(Err(TransportError::NoAnswer(waited))) => Err(DirectFailure::NoAnswer(waited)),
        Ok(Err(error)) => Err(DirectFailure::Broken(error.to_string())),
    }
}

fn is_from_to(signed: &SignedReceipt, by: PeerKey, to: PeerKey) -> bool {
    signed.receipt.by == by && signed.receipt.to == to && receipt::verify(signed).is_ok()
}

/// Takes a message of whoever is at the other end of a link.
pub(super) async fn answer_message(context: &Context, link: &Link, signed: SignedMessage, mut stream: Stream) {
    if matches!(context.account.kind, LoginKind::Errand { .. }) {
        // It is gone in a moment, and the account's resident peer takes what comes through the directory.
        return stream.abort(CloseCode::BadStream);
    }
    let message = envelope::verify_message(&signed, &link.key).ok().filter(|found| found.recipient == context.key());
    let answer: MessageAnswer = match message {
        Some(message) => inbox::take_direct(context, &link.name, message).await,
        None => Err(Refusal::BadSignature),
    };
    stream.answer(&answer).await;
}

/// Takes receipts of whoever is at the other end of a link.
pub(super) async fn answer_receipts(context: &Context, link: &Link, receipts: Vec<SignedReceipt>, mut stream: Stream) {
    if receipts.len() > RECEIPTS_PER_FRAME_MAX {
        return stream.abort(CloseCode::BadFrame);
    }
    let are_theirs = receipts.iter().all(|signed| is_from_to(signed, link.key, context.key()));
    let answer: ReceivedAnswer =
        if are_theirs { inbox::take_receipts(context, receipts).await } else { Err(Refusal::BadSignature) };
    stream.answer(&answer).await;
}
