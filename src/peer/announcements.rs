//! What is said to everybody who is online: ours is signed and handed to the directory, which can read it; others' are
//! checked and shown once. Nothing of it is kept.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use super::commands::Rows;
use super::contacts;
use super::context::{Context, unexpected};
use super::event::Event;
use super::failure::{Failure, FailureKind};
use crate::clock::now_millis;
use crate::seal::announcement;
use crate::seal::random::{self, OsRandom};
use crate::wire::directory::{DirectoryReply, DirectoryRequest, PushAnswer, PushReply};
use crate::wire::ids::{MessageId, PeerKey, PeerName};
use crate::wire::people::{Announcement, AnnouncementText, SignedAnnouncement};
use crate::wire::refusal::Refusal;

/// Announcements that are known when they come again.
const HEARD_MAX: usize = 4_096;

/// What was heard, so that no directory makes anybody say something twice.
#[derive(Debug, Default)]
pub(super) struct Heard(Mutex<Order>);

#[derive(Debug, Default)]
struct Order {
    ids: BTreeSet<(PeerKey, MessageId)>,
    /// The oldest first.
    order: VecDeque<(PeerKey, MessageId)>,
}

impl Heard {
    /// Notes an announcement, and says whether it is new.
    fn is_new(&self, sender: PeerKey, id: MessageId) -> bool {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !heard.ids.insert((sender, id)) {
            return false;
        }
        heard.order.push_back((sender, id));
        if heard.order.len() > HEARD_MAX
            && let Some(oldest) = heard.order.pop_front()
        {
            heard.ids.remove(&oldest);
        }
        true
    }
}

/// Says something to everyone who is online.
pub(super) async fn say(context: &Context, text: &str, rows: &Rows) -> Result<(), Failure> {
    let text = AnnouncementText::parse(text).map_err(|error| Failure::new(FailureKind::Usage, error.to_string()))?;
    if text.as_str().trim().is_empty() {
        return Err(Failure::new(FailureKind::Usage, "this has nothing but blanks"));
    }
    let (sender, id) = (context.key(), MessageId::from_bytes(random::array(&mut OsRandom)));
    let said = Announcement { sender, id, sent_at: now_millis(), text };
    let signed = Box::new(announcement::sign(context.identity(), said));
    match context.ask_directory(&DirectoryRequest::Announce(signed)).await? {
        DirectoryReply::Announced { to_everyone } => {
            rows.row(Event::Announced { to_everyone }).await;
            Ok(())
        }
        other => Err(unexpected(&other)),
    }
}

/// Takes what somebody says to everyone, if it is theirs.
pub(super) async fn take(context: &Context, from: PeerName, signed: SignedAnnouncement, legacy: bool) -> PushAnswer {
    announcement::verify(&signed).map_err(|_| Refusal::BadSignature)?;
    let Announcement { sender, id, sent_at, text } = signed.announcement;
    contacts::meet_if_known(context, &from, sender).await?;
    if context.heard.is_new(sender, id) {
        context.tell(Event::Announcement { from, id, sent_at, text: text.as_str().to_owned(), legacy });
    }
    Ok(PushReply::Taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_once_is_heard_once() {
        let (heard, alice, bob) = (Heard::default(), PeerKey::from_bytes([1; 32]), PeerKey::from_bytes([2; 32]));
        let id = |number: usize| {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            MessageId::from_bytes(bytes)
        };
        assert!(heard.is_new(alice, id(0)) && heard.is_new(bob, id(0)) && !heard.is_new(alice, id(0)));
        for number in 1..HEARD_MAX {
            assert!(heard.is_new(alice, id(number)));
        }
        let order = heard.0.lock().unwrap();
        assert_eq!((order.ids.len(), order.order.len()), (HEARD_MAX, HEARD_MAX));
        drop(order);
        assert!(heard.is_new(alice, id(0)), "the oldest made room");
    }
}
