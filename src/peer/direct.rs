//! Messages straight to their recipient, over a link that is open.

use std::time::Duration;

use super::context::Context;
use crate::wire::ids::PeerKey;
use crate::wire::message::{InnerMessage, SignedReceipt};
use crate::wire::refusal::Refusal;

#[derive(Debug)]
pub(super) enum DirectFailure {
    NoAnswer,
    Refused(Refusal),
}

pub(super) fn round_trip(_context: &Context, _key: PeerKey) -> Option<Duration> {
    None
}

pub(super) async fn deliver(_: &Context, _: &InnerMessage, _: Duration) -> Result<SignedReceipt, DirectFailure> {
    Err(DirectFailure::NoAnswer)
}

pub(super) async fn send_receipts(_: &Context, _: PeerKey, _: Vec<SignedReceipt>) -> Result<(), DirectFailure> {
    Err(DirectFailure::NoAnswer)
}
