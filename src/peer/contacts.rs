//! The one place that decides whose key is talked to: messages, offers and files of both directions ask here.

use super::blocks;
use super::commands::Rows;
use super::context::{Context, not_oneself};
use super::event::Event;
use super::failure::{Failure, FailureKind};
use crate::clock::now_millis;
use crate::protocol::trust::{Trust, Verdict};
use crate::seal::safety_number::SafetyNumber;
use crate::storage::contacts;
use crate::wire::account::{Identity, LoginKind};
use crate::wire::directory::{PushAnswer, PushReply};
use crate::wire::ids::{PeerKey, PeerName};
use crate::wire::refusal::{CloseCode, Refusal};

/// Judges a key that a person shows, or that the directory shows for them, and tells of a change. What comes back may
/// be talked to.
pub(super) async fn meet(context: &Context, name: &PeerName, shown: PeerKey) -> Result<PeerKey, Failure> {
    match contacts::meet(context.database(), name, shown, now_millis()).await? {
        Verdict::First | Verdict::Same => {}
        Verdict::Replaced { old } => {
            context.links.close_others(name, shown);
            context.tell(Event::KeyChanged { name: name.clone(), old, new: shown, held: false });
        }
        Verdict::Held { pinned, is_news } => {
            context.links.close_others(name, pinned);
            if is_news {
                context.tell(Event::KeyChanged { name: name.clone(), old: pinned, new: shown, held: true });
            }
            return Err(held(name));
        }
    }
    Ok(shown)
}

/// Judges the key of a person as the directory knows them, and remembers what else it says of them.
pub(super) async fn meet_as(context: &Context, identity: &Identity) -> Result<PeerKey, Failure> {
    let key = meet(context, &identity.name, identity.key).await?;
    contacts::learn_legacy(context.database(), &identity.name, key, identity.legacy).await?;
    Ok(key)
}

/// Whether somebody uses an older program through the directory's gateway. The directory is asked once for each key of a
/// contact, and each time for others; as long as it does not answer nobody knows.
pub(super) async fn is_legacy(context: &Context, name: &PeerName) -> Result<bool, Failure> {
    if let Some(known) = contacts::legacy(context.database(), name).await? {
        return Ok(known);
    }
    match context.identify(name).await {
        Ok(Identity { key, legacy, .. }) => {
            contacts::learn_legacy(context.database(), name, key, legacy).await?;
            Ok(legacy)
        }
        Err(failure) => {
            tracing::debug!(%name, %failure, "not known whether they use an older program");
            Ok(false)
        }
    }
}

/// Says that somebody who is talked to uses an older program, if they do.
pub(super) async fn tell_if_legacy(name: &PeerName, is_legacy: bool, rows: &Rows) {
    if is_legacy {
        rows.row(Event::Legacy { name: name.clone() }).await;
    }
}

/// Takes the directory's word that somebody has another key; only contacts matter.
pub(super) async fn key_changed(context: &Context, name: &PeerName, key: PeerKey) -> PushAnswer {
    if let Err(refusal) = meet_if_known(context, name, key).await {
        // It is held back, which the person was told; or it is met again when it is talked to.
        tracing::info!(%name, %key, %refusal, "the new key is not talked to");
    }
    Ok(PushReply::Taken)
}

/// Judges a key that a person shows by what is pinned, if anything is: whoever is unknown stays so. Refused with
/// `NotAccepted` when it is held back.
pub(super) async fn meet_if_known(context: &Context, name: &PeerName, shown: PeerKey) -> Result<(), Refusal> {
    let met = async {
        match contacts::known(context.database(), name).await? {
            Some(_) => meet(context, name, shown).await.map(drop),
            None => Ok(()),
        }
    };
    met.await.map_err(|failure| {
        tracing::info!(%name, %failure, "nothing is taken of this key");
        if failure.kind == FailureKind::Authentication { Refusal::NotAccepted } else { Refusal::Storage }
    })
}

/// A person as the directory knows them, with a key that may be talked to.
pub(super) async fn identify(context: &Context, name: &PeerName) -> Result<Identity, Failure> {
    let identity = context.identify(name).await?;
    meet_as(context, &identity).await.map_err(|failure| failure.about(name))?;
    Ok(identity)
}

/// The pinned key of a person; the first time the directory's word is taken for it.
pub(super) async fn pinned_key(context: &Context, name: &PeerName) -> Result<PeerKey, Failure> {
    match contacts::known(context.database(), name).await? {
        Some(trust) => Ok(trust.key),
        None => Ok(identify(context, name).await?.key),
    }
}

/// Whether there is such a person to talk to, whose key is pinned then.
pub(super) async fn find(context: &Context, name: &PeerName, rows: &Rows) -> Result<(), Failure> {
    not_oneself(context, name)?;
    blocks::check(context, name, None)?;
    pinned_key(context, name).await?;
    tell_if_legacy(name, is_legacy(context, name).await?, rows).await;
    Ok(())
}

/// Whether somebody passes for a contact whose verified key is another one.
pub(super) async fn is_impostor(context: &Context, name: &PeerName, key: PeerKey) -> Result<bool, Failure> {
    let known = contacts::known(context.database(), name).await?;
    Ok(known.is_some_and(|trust| trust.verified_at.is_some() && trust.key != key))
}

fn held(name: &PeerName) -> Failure {
    Failure::new(
        FailureKind::Authentication,
        "the key is another one than the one you verified, so nothing is sent to it or taken from it",
    )
    .hint(format!("ask {name} whether it is theirs (`verify {name}` shows the numbers); `trust {name}` accepts it"))
}

/// Shows what is known of a person's key, and with `mark` notes that it was compared.
pub(super) async fn verify(context: &Context, name: PeerName, mark: bool, rows: &Rows) -> Result<(), Failure> {
    if name == context.account.name {
        return Err(Failure::new(FailureKind::Usage, "this is yourself: name the person whose key you want to verify"));
    }
    pinned_key(context, &name).await?;
    let legacy = is_legacy(context, &name).await?;
    if mark && legacy {
        return Err(no_own_key(&name));
    }
    if mark {
        let now = now_millis();
        contacts::change(context.database(), &name, now, move |trust| trust.verify(now).ok())
            .await?
            .ok_or_else(|| held(&name).about(&name))?;
    }
    show(context, name, legacy, rows).await
}

/// Nobody who could compare numbers has the key of somebody with an older program.
fn no_own_key(name: &PeerName) -> Failure {
    Failure::new(
        FailureKind::Other,
        format!("{name} uses an older program, so there is no key of their own to compare"),
    )
    .hint("what you write to them is not end-to-end encrypted: the directory's gateway can read it")
}

/// Accepts the other key of a contact, which is not verified then.
pub(super) async fn trust(context: &Context, name: PeerName, rows: &Rows) -> Result<(), Failure> {
    contacts::change(context.database(), &name, now_millis(), Trust::accept).await?.ok_or_else(|| {
        Failure::new(FailureKind::Other, format!("{name} has shown no other key that you could accept"))
            .hint(format!("`verify {name}` shows what is known of their key"))
    })?;
    let legacy = is_legacy(context, &name).await?;
    show(context, name, legacy, rows).await?;
    let session = context.session.borrow().clone();
    if let (LoginKind::Resident, Some(session)) = (context.account.kind, session) {
        // What was kept back lies at the directory, which pushes it again to the next session only.
        session.close(CloseCode::Done);
    }
    Ok(())
}

/// Shows what is known of a person's key, and leaves no connection to another one open.
async fn show(context: &Context, name: PeerName, legacy: bool, rows: &Rows) -> Result<(), Failure> {
    let Some(trust) = contacts::known(context.database(), &name).await? else { return Ok(()) };
    context.links.close_others(&name, trust.key);
    let number = |key| SafetyNumber::of((&context.account.name, &context.key()), (&name, key)).digits().to_owned();
    rows.row(Event::Contact {
        key: trust.key,
        safety_number: number(&trust.key),
        verified_at: trust.verified_at,
        offered_key: trust.offered,
        offered_safety_number: trust.offered.as_ref().map(number),
        name: name.clone(),
        legacy,
    })
    .await;
    Ok(())
}
