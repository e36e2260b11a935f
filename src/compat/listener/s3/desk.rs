//! What is asked of the server itself: a name, to leave and to come back, to keep a message, to tell everybody.

use std::net::SocketAddr;
use std::time::Duration;

use super::people::say_once;
use super::post::Heard;
use super::recent::{Sent, Turn};
use super::room::{Room, Welcome, is_at, outcome_of};
use crate::clock::now_millis;
use crate::compat::dialect::s3::{self, Uuid};
use crate::compat::names::NotIn;
use crate::compat::records::Record;
use crate::compat::resident::{LegacyName, Resident, Said};
use crate::compat::settings::Dialect;
use crate::peer::event::Event;
use crate::peer::failure::Failure;
use crate::wire::ids::PeerName;

/// For so long after its owner was here a name is in use, as it is for ever with the originals. After it, whoever starts
/// their program anew at the same address is its owner again: the program has no other way to come back.
const IN_USE_MILLIS: u64 = 60_000;

/// How long a message for somebody who is here may take to be acknowledged by their program: three tries of 500 ms.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);

/// People who are away and get what is said to everybody as mail: those that fit a table.
const AWAY_TOLD_MAX: usize = 30;

/// Somebody wants a name: the seat that they get answers with the table.
pub(super) async fn register(room: &Room, heard: &Heard, name: &str) {
    let name = match LegacyName::parse(name) {
        Ok(name) => name,
        Err(failure) => return heard.answer(room, &s3::error(&failure.message)),
    };
    let known = room.gateway.record(&name.name);
    if known.is_some_and(|record| is_in_use(&record, heard.source)) {
        return heard.answer(room, s3::TAKEN);
    }
    let Some(expected) = room.expect(&name.name, heard.source) else {
        if !room.is_coming_from(&name.name, heard.source) {
            heard.answer(room, s3::TAKEN);
        }
        return;
    };
    match expected.enter(name, heard.source, heard.at, Welcome::Table).await {
        Ok(_) => {}
        Err(NotIn::Here(resident)) if is_at(&resident.record_now(), heard.source) => {
            expected.move_to(resident, heard.source, heard.at, Welcome::Table).await;
        }
        Err(NotIn::Here(_) | NotIn::Elsewhere | NotIn::Taken) => heard.answer(room, s3::TAKEN),
        Err(not_in @ (NotIn::UnderWay | NotIn::Full | NotIn::Failed(_))) => {
            heard.answer(room, &s3::error(&not_in.to_string()));
        }
    }
}

/// Whether a name of this dialect is refused to whoever asks for it from an address.
fn is_in_use(record: &Record, source: SocketAddr) -> bool {
    let is_recent = now_millis().0.saturating_sub(record.last_here.0) < IN_USE_MILLIS;
    let is_same = is_at(record, source);
    record.dialect == Dialect::S3 && if record.is_here { is_recent || !is_same } else { is_recent && !is_same }
}

/// Somebody is back, perhaps at another port: the seat that they get answers with mail and table. Whoever may not have the
/// name hears nothing: there is no answer to that which their program could take.
pub(super) async fn come_back(room: &Room, heard: &Heard, name: &str) {
    let Ok(name) = LegacyName::parse(name) else { return };
    let Some(record) = room.gateway.record(&name.name).filter(|record| record.dialect == Dialect::S3) else { return };
    let Some(expected) = room.expect(&name.name, heard.source) else { return };
    let name = LegacyName { spelled: record.spelled, ..name };
    match expected.enter(name.clone(), heard.source, heard.at, Welcome::MailAndTable).await {
        Ok(_) => {}
        Err(NotIn::Here(resident)) if resident.source() == heard.source.ip().to_canonical() => {
            expected.move_to(resident, heard.source, heard.at, Welcome::MailAndTable).await;
        }
        Err(not_in) => tracing::debug!(name = %name.name, %not_in, "a name of s3 does not come back"),
    }
}

/// Somebody leaves; their name stays theirs. Who is not them is not answered.
pub(super) async fn leave(room: &Room, heard: &Heard, name: &str) {
    let Ok(name) = LegacyName::parse(name) else { return };
    let Some(record) = room.gateway.record(&name.name).filter(|record| is_at(record, heard.source)) else { return };
    match room.gateway.resident(&name.name) {
        Some(resident) if is_at(&resident.record_now(), heard.source) => {
            if room.take_out(&name.name).await {
                heard.answer(room, s3::LEFT);
            }
        }
        // Their first word came, and our answer did not.
        None if !record.is_here => heard.answer(room, s3::LEFT),
        Some(_) | None => {}
    }
}

/// Somebody wants a message kept for somebody who did not acknowledge it. It is acknowledged whatever becomes of it, because
/// a program without that answer ends; then it says in words what else there is to say.
pub(super) async fn save(room: &Room, heard: &Heard, sender: &str, receiver: &str, id: Uuid, text: String) {
    let Some(resident) = room.speaker(heard.source, heard.at, sender).await else { return };
    let to = match LegacyName::parse(receiver) {
        Ok(to) => to.name,
        Err(failure) => {
            heard.answer(room, &s3::saved(&id));
            return heard.answer(room, &s3::notice(&failure.message));
        }
    };
    if text.trim().is_empty() {
        return heard.answer(room, &s3::saved(&id));
    }
    let mut events = resident.events();
    let sent = Sent { from: resident.name().clone(), to: Some(to.clone()), id: id.clone(), text };
    let (turn, is_first) = room.save(sent.clone());
    let Some(outcome) = say_once(turn, &resident, &to, &sent.text).await else { return };
    heard.answer(room, &s3::saved(&id));
    match outcome {
        Err(failure) if is_first => heard.answer(room, &s3::notice(&failure.message)),
        Ok(_) if is_first && is_here(room, &to) => {
            if has_read(&mut events, &to).await {
                heard.answer(room, &s3::notice(&format!("Client {} exists!!", room.gateway.spelled(&to))));
            }
        }
        Ok(Said::Delivered | Said::Waits) | Err(_) => {}
    }
}

fn is_here(room: &Room, name: &PeerName) -> bool {
    room.gateway.resident(name).is_some_and(|resident| resident.dialect() == Dialect::S3)
}

/// Waits until somebody's program has acknowledged something, for a while.
async fn has_read(events: &mut tokio::sync::broadcast::Receiver<Event>, name: &PeerName) -> bool {
    let read = async {
        loop {
            match events.recv().await {
                Ok(Event::Read { to, .. }) if to == *name => return true,
                Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return false,
            }
        }
    };
    tokio::time::timeout(ANSWER_PATIENCE, read).await.unwrap_or(false)
}

/// Somebody tells everybody something: those who are here, and those with programs of this kind who are not, as mail.
/// The originals say no more than that the server has it, and when.
pub(super) async fn to_all(room: &Room, heard: &Heard, sender: &str, id: Uuid, text: String) {
    let Some(resident) = room.speaker(heard.source, heard.at, sender).await else { return };
    let sent = Sent { from: resident.name().clone(), to: None, id: id.clone(), text };
    match room.chat(sent.clone()) {
        Turn::First(known) => {
            let outcome = resident.announce(&sent.text).await.map(|_| Said::Delivered);
            known.send_replace(Some(outcome.clone()));
            heard.answer(room, &s3::ack(&id));
            match outcome {
                Ok(_) => tell_those_who_are_away(room, &resident, &sent.text).await,
                Err(failure) => heard.answer(room, &s3::notice(&failure.message)),
            }
        }
        Turn::Again(known) => {
            if outcome_of(known).await.is_some() {
                heard.answer(room, &s3::ack(&id));
            }
        }
    }
}

async fn tell_those_who_are_away(room: &Room, from: &Resident, text: &str) {
    let mut away = room.gateway.known(Dialect::S3);
    away.retain(|(_, record)| !record.is_here);
    away.sort_by_key(|(_, record)| std::cmp::Reverse(record.last_here));
    let text = s3::channel_message(from.spelled(), text);
    for (name, _) in away.into_iter().take(AWAY_TOLD_MAX) {
        let said: Result<Said, Failure> = from.say(&name, &text, Duration::ZERO).await;
        if let Err(failure) = said {
            tracing::debug!(%name, %failure, "what was said to everybody is not kept for this name");
        }
    }
}
