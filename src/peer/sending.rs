//! One attempt to send a message: straight to its recipient, or sealed through the directory.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::context::{Context, unexpected};
use super::direct;
use super::failure::{Failure, FailureKind};
use super::{blocks, contacts};
use crate::clock::now_millis;
use crate::protocol::lanes::{AfterRefusal, Way, Ways, after_refusal};
use crate::seal::envelope;
use crate::seal::prekey::{self, PrekeyError};
use crate::seal::random::OsRandom;
use crate::storage::messages::{Outgoing, ToSend};
use crate::wire::account::SignedPrekey;
use crate::wire::directory::{DirectoryReply, DirectoryRequest};
use crate::wire::ids::{PeerKey, PeerName};
use crate::wire::message::{InnerMessage, SignedReceipt};
use crate::wire::refusal::Refusal;

/// What there is to do when a message was for a key that its recipient does not have any more.
pub(super) const SEND_AGAIN: &str = "send it again to use the new key";

/// Prekeys that are remembered: with more, all are asked for again.
const PREKEYS_MAX: usize = 1_024;

/// What an attempt came to.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The directory has it on disk.
    Stored,
    /// Its recipient has it on disk.
    Delivered(SignedReceipt),
    /// It will not arrive.
    Refused(Failure),
    /// It did not get there straight: the directory is next.
    Detour,
    /// It is to be tried again after a pause.
    Failed(Failure),
}

/// The prekeys that were handed out in this session.
#[derive(Debug, Default)]
pub(super) struct KnownPrekeys(Mutex<HashMap<PeerName, SignedPrekey>>);

impl KnownPrekeys {
    pub(super) fn forget_all(&self) {
        self.lock().clear();
    }

    fn forget(&self, name: &PeerName) {
        self.lock().remove(name);
    }

    /// One from before the person's key changed, or that has expired, is of no use.
    fn get(&self, name: &PeerName, key: PeerKey) -> Option<SignedPrekey> {
        let fits = |known: &&SignedPrekey| known.prekey.identity == key && now_millis() < known.prekey.expires;
        self.lock().get(name).filter(fits).cloned()
    }

    fn put(&self, name: &PeerName, signed: SignedPrekey) {
        let mut known = self.lock();
        if known.len() >= PREKEYS_MAX {
            known.clear();
        }
        known.insert(name.clone(), signed);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PeerName, SignedPrekey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way a message would go now, if there is one.
pub(super) fn way(context: &Context, item: &ToSend, failed_direct: bool) -> Option<Way> {
    let ways = Ways {
        direct: direct::round_trip(context, item.outgoing.message.recipient),
        directory: context.session.borrow().is_some(),
        has_earlier_under_way: item.has_earlier_under_way,
        failed_direct,
    };
    ways.choose()
}

/// Sends a message once.
pub(super) async fn attempt(context: &Context, known: &KnownPrekeys, item: &ToSend, way: Way) -> Outcome {
    let Outgoing { to, message } = &item.outgoing;
    if let Err(failure) = blocks::check(context, to, Some(message.recipient)) {
        return Outcome::Refused(failure);
    }
    match way {
        Way::Direct { patience } => straight(context, &item.outgoing.message, patience).await,
        Way::Directory => through_directory(context, known, item).await,
    }
}

async fn straight(context: &Context, message: &InnerMessage, patience: Duration) -> Outcome {
    match direct::deliver(context, message, patience).await {
        Ok(receipt) => Outcome::Delivered(receipt),
        Err(failure) => {
            tracing::debug!(%failure, id = %message.id, "not delivered straight");
            Outcome::Detour
        }
    }
}

async fn through_directory(context: &Context, known: &KnownPrekeys, item: &ToSend) -> Outcome {
    let Outgoing { to, message } = &item.outgoing;
    for sealed in 1.. {
        let refusal = match seal_and_deliver(context, known, to, message).await {
            Ok(()) => return Outcome::Stored,
            Err(Stop::Never(failure)) => return Outcome::Refused(failure),
            Err(Stop::NotNow(failure)) => return Outcome::Failed(failure),
            Err(Stop::No(refusal)) => refusal,
        };
        match after_refusal(refusal, sealed, item.was_stored) {
            AfterRefusal::SealAgain => known.forget(to),
            AfterRefusal::Rest => return Outcome::Failed(Failure::from(refusal)),
            AfterRefusal::GiveUp => return Outcome::Refused(Failure::of_message(to, refusal)),
            AfterRefusal::AskIfOnline => return full_mailbox(context, to, refusal).await,
        }
    }
    Outcome::Failed(Failure::from(Refusal::Busy))
}

/// Why a message did not get to the directory.
enum Stop {
    /// The directory says no.
    No(Refusal),
    /// This peer says no.
    Never(Failure),
    /// Something failed that may pass.
    NotNow(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        match failure.kind {
            FailureKind::Authentication | FailureKind::Integrity => Self::Never(failure),
            _ => Self::NotNow(failure),
        }
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::No(refusal)
    }
}

/// Somebody who is online empties the mailbox: the message waits here meanwhile.
async fn full_mailbox(context: &Context, to: &PeerName, full: Refusal) -> Outcome {
    match context.identify(to).await {
        Ok(identity) if !identity.online => Outcome::Refused(Failure::from(full)),
        Ok(_) => Outcome::Failed(Failure::from(full)),
        Err(failure) => Outcome::Failed(failure),
    }
}

async fn seal_and_deliver(
    context: &Context,
    known: &KnownPrekeys,
    to: &PeerName,
    message: &InnerMessage,
) -> Result<(), Stop> {
    let signed = match known.get(to, message.recipient) {
        Some(signed) => signed,
        None => fetch_prekey(context, to).await?,
    };
    // What was written for the old key does not go to the new one before its writer has heard of the change.
    if signed.prekey.identity != message.recipient {
        return Err(Stop::Never(Failure::from(Refusal::KeyChanged).hint(SEND_AGAIN)));
    }
    let sealed = envelope::seal(context.identity(), message, &signed, &mut OsRandom)
        .map_err(|error| Stop::Never(Failure::new(FailureKind::Integrity, error.to_string())))?;
    known.put(to, signed);
    let request = DirectoryRequest::Deliver { to: to.clone(), envelope: Box::new(sealed) };
    match context.exchange(&request).await?? {
        DirectoryReply::Done => Ok(()),
        other => Err(Stop::NotNow(unexpected(&other))),
    }
}

/// The prekey of a person, proven to be theirs: one without the signature of their key is never sealed to, nor is one
/// of a key that may not be talked to.
async fn fetch_prekey(context: &Context, to: &PeerName) -> Result<SignedPrekey, Stop> {
    let identity = match context.exchange(&DirectoryRequest::Identify { name: to.clone() }).await?? {
        DirectoryReply::Identity(identity) if identity.name == *to => identity,
        other => return Err(Stop::NotNow(unexpected(&other))),
    };
    let key = contacts::meet_as(context, &identity).await?;
    // They have no prekey for us either, and there is nothing to wait for.
    if !identity.accepts {
        return Err(Stop::No(Refusal::NotAccepted));
    }
    let signed = identity.prekey.ok_or(Refusal::NoPrekey)?;
    match prekey::verify(&signed, to, &key, now_millis()) {
        Ok(()) => Ok(signed),
        // Its owner was away for a month, or a clock is wrong: a new one comes with them.
        Err(PrekeyError::Expired) => Err(Stop::No(Refusal::NoPrekey)),
        Err(error) => {
            let message = format!("the directory handed out a false prekey: {error}");
            Err(Stop::Never(Failure::new(FailureKind::Authentication, message)))
        }
    }
}
