//! Receipts: what others say became of our messages, and what we say of theirs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::context::{Context, unexpected};
use super::direct;
use super::failure::Failure;
use super::outbox;
use crate::clock::now_millis;
use crate::protocol::backoff::Backoff;
use crate::seal::random::{self, OsRandom};
use crate::seal::receipt;
use crate::storage::messages::{self, Receipted};
use crate::wire::directory::{DirectoryReply, DirectoryRequest, PushAnswer, PushReply};
use crate::wire::ids::PeerKey;
use crate::wire::limits::RECEIPTS_PER_FRAME_MAX;
use crate::wire::message::{Receipt, ReceiptKind, SignedReceipt};
use crate::wire::refusal::Refusal;

/// Signs what became of a message that has come.
pub(super) fn sign(context: &Context, of: &Receipted, kind: ReceiptKind) -> SignedReceipt {
    let receipt = Receipt {
        by: context.key(),
        to: of.sender,
        id: of.id,
        sequence: of.sequence,
        highest: of.highest,
        kind,
        at: now_millis(),
    };
    receipt::sign(context.identity(), receipt)
}

/// Takes receipts for our messages: those that nobody signed, or that are for somebody else, are passed over, and those of
/// people who are blocked.
pub(super) async fn take(context: &Context, receipts: Vec<SignedReceipt>) -> Result<(), Failure> {
    let is_good = |signed: &SignedReceipt| signed.receipt.to == context.key() && receipt::verify(signed).is_ok();
    let (good, bad): (Vec<_>, Vec<_>) = receipts.into_iter().partition(is_good);
    if !bad.is_empty() {
        tracing::warn!(count = bad.len(), "receipts that are not signed by whom they name were passed over");
    }
    let good = good.into_iter().filter(|signed| !context.blocks.has_key(signed.receipt.by)).collect();
    for (outgoing, stage) in messages::take_receipts(context.database(), good, now_millis()).await? {
        outbox::tell_stage(context, &outgoing, stage, None).await;
    }
    // Some may ask for a message again.
    context.delivering.unsent.notify_one();
    Ok(())
}

/// Takes receipts that the directory kept for us.
pub(super) async fn take_pushed(context: &Context, receipts: Vec<SignedReceipt>) -> PushAnswer {
    take(context, receipts).await.map(|()| PushReply::Taken).map_err(|failure| {
        tracing::error!(%failure, "receipts were left at the directory");
        Refusal::Storage
    })
}

/// Tells senders what was read, until the peer ends. `delivering.read` rings when there is more to tell.
pub(super) async fn send_read(context: Arc<Context>) {
    let mut session = context.session.subscribe();
    let mut backoff = Backoff::default();
    loop {
        match send_due(&context).await {
            Ok(Sent::Some) => backoff.succeeded(),
            Ok(Sent::NothingDue) => tokio::select! {
                () = context.delivering.read.notified() => {}
                changed = session.changed() => if changed.is_err() { return },
            },
            Err(failure) => {
                tracing::info!(%failure, "read receipts wait");
                let [spread] = random::array(&mut OsRandom);
                tokio::select! {
                    () = tokio::time::sleep(backoff.failed(spread)) => {}
                    changed = session.changed() => if changed.is_err() { return },
                }
            }
        }
    }
}

/// Tells all that is due, for a peer that ends in a moment. What cannot be told now is told by the next one.
pub(super) async fn send_all_due(context: &Context) {
    let telling = async { while matches!(send_due(context).await, Ok(Sent::Some)) {} };
    if tokio::time::timeout(LAST_WORD, telling).await.is_err() {
        tracing::info!("read receipts wait for the next session");
    }
}

/// How long a peer that ends takes for its last receipts.
const LAST_WORD: Duration = Duration::from_secs(3);

/// Whether there was anything to tell.
enum Sent {
    Some,
    NothingDue,
}

async fn send_due(context: &Context) -> Result<Sent, Failure> {
    let due = messages::read_receipts_due(context.database(), RECEIPTS_PER_FRAME_MAX).await?;
    if due.is_empty() {
        return Ok(Sent::NothingDue);
    }
    let mut by_sender: BTreeMap<PeerKey, Vec<Receipted>> = BTreeMap::new();
    for message in due {
        by_sender.entry(message.sender).or_default().push(message);
    }
    for (sender, of) in by_sender {
        let receipts: Vec<_> = of.iter().map(|of| sign(context, of, ReceiptKind::Read)).collect();
        deliver(context, sender, &of, receipts).await?;
        let told = of.iter().map(|of| (sender, of.id)).collect();
        messages::read_receipts_sent(context.database(), told).await?;
    }
    Ok(Sent::Some)
}

/// Straight where there is a link, otherwise to the directory. A no is final: it is news and no message.
async fn deliver(
    context: &Context,
    sender: PeerKey,
    of: &[Receipted],
    receipts: Vec<SignedReceipt>,
) -> Result<(), Failure> {
    if direct::round_trip(context, sender).is_some()
        && direct::send_receipts(context, sender, receipts.clone()).await.is_ok()
    {
        return Ok(());
    }
    let Some(first) = of.first() else { return Ok(()) };
    let request = DirectoryRequest::Receipts { to: first.from.clone(), receipts };
    match context.exchange(&request).await? {
        Ok(DirectoryReply::Done) => Ok(()),
        Ok(other) => Err(unexpected(&other)),
        Err(refusal @ (Refusal::Busy | Refusal::Storage | Refusal::TooOften { .. } | Refusal::SessionEnded)) => {
            Err(Failure::from(refusal))
        }
        Err(refusal) => {
            tracing::debug!(to = %first.from, %refusal, "read receipts were not taken");
            Ok(())
        }
    }
}
