//! What an old program has no words for is declined in its owner's place, so that nobody waits for an answer that cannot come.
//!
//! | asked | s2 | s3 | s4 | json |
//! |---|---|---|---|---|
//! | to read a line | told that nobody does | - | - | - |
//! | to take a file | declined | declined | declined | declined: it fetches files that are published |
//! | for a direct connection | denied | denied | - | - |
//! | to be friends | declined | declined | declined | - |
//! | for an exclusive conversation | closed | closed | closed | - |

use std::collections::HashSet;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;

use super::gateway::Gateway;
use super::resident::Resident;
use super::settings::Dialect;
use crate::peer::event::Event;
use crate::peer::failure::Failure;
use crate::peer::handle::Command;
use crate::wire::ids::PeerName;

/// What those are told who write to a program without chat.
const NO_CHAT: &str = "(my program has no chat: nobody reads what you write here, but it lists and fetches files)";

/// Writers of one name who are remembered; then all are told once more.
const TOLD_MAX: usize = 1_024;

/// Sees to everybody who is here, for as long as it is awaited.
pub(super) async fn keep(gateway: &Gateway) {
    let mut arrivals = gateway.arrivals();
    let mut seen_to = JoinSet::new();
    loop {
        tokio::select! {
            arrived = arrivals.recv() => match arrived {
                Ok(resident) => drop(seen_to.spawn(see_to(resident))),
                Err(RecvError::Lagged(missed)) => tracing::warn!(missed, "some legacy names get no courtesy"),
                Err(RecvError::Closed) => return,
            },
            Some(ended) = seen_to.join_next() => if let Err(error) = ended {
                tracing::error!(%error, "courtesy towards a legacy name's visitors broke");
            },
        }
    }
}

/// Sees to one name until it leaves.
async fn see_to(resident: Resident) {
    let mut events = resident.events();
    let mut told = HashSet::new();
    // What came before it was listened to is asked for; what comes later is heard.
    note(&resident, decline_all(&resident).await);
    loop {
        if resident.dialect() == Dialect::S2 {
            note(&resident, explain(&resident, &mut told).await);
        }
        match events.recv().await {
            Ok(event) => {
                if let Some(refusal) = refusal_of(&event, resident.dialect()) {
                    note(&resident, resident.ask(refusal).await.map(drop));
                }
            }
            Err(RecvError::Lagged(_)) => note(&resident, decline_all(&resident).await),
            Err(RecvError::Closed) => return,
        }
    }
}

fn note(resident: &Resident, done: Result<(), Failure>) {
    if let Err(failure) = done {
        tracing::debug!(name = %resident.name(), %failure, "something that this program has no words for was not declined");
    }
}

/// The answer in the place of somebody whose program has no words for what is asked.
fn refusal_of(event: &Event, dialect: Dialect) -> Option<Command> {
    let is_json = dialect == Dialect::Json;
    let has_consent = matches!(dialect, Dialect::Json | Dialect::S4);
    match event {
        Event::Offer { id, .. } => Some(Command::Decline { offer: id.to_string() }),
        Event::ConsentAsked { from, .. } if !has_consent => Some(Command::Deny { to: from.clone() }),
        Event::FriendAsked { from, .. } if !is_json => Some(Command::Unfriend { name: from.clone() }),
        Event::ExclusiveOpened { with, .. } if !is_json => Some(Command::CloseExclusive { with: with.clone() }),
        _ => None,
    }
}

/// Declines the offers that wait.
async fn decline_all(resident: &Resident) -> Result<(), Failure> {
    for offer in resident.ask(Command::Offers).await? {
        if let Some(refusal) = refusal_of(&offer, resident.dialect()) {
            resident.ask(refusal).await?;
        }
    }
    Ok(())
}

/// Tells whoever wrote that nobody reads it, and puts it away; they are not told that it was read.
async fn explain(resident: &Resident, told: &mut HashSet<PeerName>) -> Result<(), Failure> {
    for mail in resident.mail().await? {
        if resident.begin_showing(mail.id).await? {
            resident.shown(mail.id).await?;
        }
        if told.len() >= TOLD_MAX {
            told.clear();
        }
        if told.insert(mail.from.clone()) {
            resident.say(&mail.from, NO_CHAT, Duration::ZERO).await?;
        }
    }
    Ok(())
}
