//! What people see of their messages: the history, the inbox, and the audit of a conversation. History and audit lie on
//! this disk, so they are answered without a directory too.

use std::collections::HashSet;

use tokio::sync::mpsc;

use super::commands::Rows;
use super::context::Context;
use super::event::{Event, What};
use super::failure::{Failure, FailureKind};
use super::handle::Command;
use super::rows::{Direction, HistoryRow, MessageState};
use super::{audit, inbox, offers, receipts};
use crate::database::Database;
use crate::protocol::conversation::Stage;
use crate::storage::history::{self as records, Before, Entry, EntryFate, Selection, Words};
use crate::storage::profile::Profile;
use crate::storage::{contacts, messages};
use crate::wire::account::LoginKind;
use crate::wire::ids::{MessageId, PeerKey, PeerName};
use crate::wire::message::Body;
use crate::wire::refusal::Refusal;

/// The records of an account on this disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct OnDisk<'a> {
    pub(super) database: &'a Database,
    pub(super) name: &'a PeerName,
    pub(super) key: PeerKey,
}

/// Answers [`Command::History`] or [`Command::Audit`] from a profile that no peer uses.
pub async fn answer_from_disk(profile: &Profile, name: &PeerName, command: Command, events: mpsc::Sender<Event>) {
    let on_disk = OnDisk { database: profile.database(), name, key: profile.identity().public() };
    let rows = Rows(events);
    let result = on_disk.answer(command, &rows).await;
    rows.row(result.map_or_else(|failure| Event::Failed { failure }, |()| Event::Done)).await;
}

impl<'a> OnDisk<'a> {
    /// The records of a running peer.
    pub(super) fn of(context: &'a Context) -> Self {
        Self { database: context.database(), name: &context.account.name, key: context.key() }
    }

    /// Answers what needs nothing but the disk.
    pub(super) async fn answer(self, command: Command, rows: &Rows) -> Result<(), Failure> {
        match command {
            Command::History { with, limit, before, search } => {
                let selection = self.select(with, before, search).await?;
                self.history(selection, limit, rows).await
            }
            Command::Audit { with } => {
                self.check_known(&with).await?;
                audit::audit(self, with, rows).await
            }
            _ => Err(Failure::new(FailureKind::Other, "this needs a running peer")),
        }
    }

    async fn select(
        self,
        with: Option<PeerName>,
        before: Option<Before>,
        search: Option<String>,
    ) -> Result<Selection, Failure> {
        if let Some(name) = &with {
            self.check_known(name).await?;
        }
        let words = search.map(|text| Words::parse(&text)).transpose();
        let words = words.map_err(|error| Failure::new(FailureKind::Usage, error.to_string()))?;
        let selection = Selection { with, words, ..Selection::default() };
        Ok(match before {
            None => selection,
            Some(Before::Time(time)) => Selection { before_time: Some(time), ..selection },
            Some(Before::Message(id)) => Selection { before_place: Some(self.place_of(&id).await?), ..selection },
        })
    }

    async fn check_known(self, name: &PeerName) -> Result<(), Failure> {
        if records::knows(self.database, name).await? {
            return Ok(());
        }
        Err(Failure::new(FailureKind::Other, format!("nothing was ever said with {name} on this machine"))
            .hint("is the name spelled right? `history` without a name shows what was said with everybody"))
    }

    async fn place_of(self, id: &str) -> Result<i64, Failure> {
        let usage = |message| Failure::new(FailureKind::Usage, message);
        let Some(beginning) = records::id_beginning(id) else {
            return Err(usage(format!("{id:?} is no message id: --json shows them")));
        };
        match records::places_of(self.database, beginning).await?[..] {
            [place] => Ok(place),
            [] => Err(usage(format!("no message has the id {id}"))),
            _ => Err(usage(format!("more than one message has an id that begins with {id}"))),
        }
    }

    async fn history(self, selection: Selection, limit: u64, rows: &Rows) -> Result<(), Failure> {
        let mut at = if limit == 0 { None } else { records::newest(self.database, selection.clone(), limit).await? };
        let legacy = contacts::legacy_names(self.database).await?;
        while let Some(from) = at {
            let page = records::page(self.database, self.key, selection.clone(), from).await?;
            for entry in page.entries {
                let is_legacy = legacy.contains(&entry.with);
                rows.row(Event::History(Box::new(row_of(self.name, entry, is_legacy)))).await;
            }
            at = page.next;
        }
        Ok(())
    }
}

fn row_of(own: &PeerName, Entry { with, message, fate }: Entry, legacy: bool) -> HistoryRow {
    let what = What::of(&message.body);
    let (direction, from, to) = match fate {
        EntryFate::Sent { .. } => (Direction::Out, own.clone(), with),
        EntryFate::Came { .. } => (Direction::In, with, own.clone()),
    };
    let (state, late, reason) = match fate {
        EntryFate::Sent { stage, reason } => {
            let reason = reason.filter(|_| stage == Stage::Refused).map(Refusal::from_number);
            let reason = reason.map(|refusal| Failure::of_message(&to, refusal));
            (state_of(stage), false, reason)
        }
        EntryFate::Came { is_shown, is_late } => {
            (if is_shown { MessageState::Shown } else { MessageState::New }, is_late, None)
        }
    };
    let (mut text, mut name, mut size, mut digest, mut offer) = (None, None, None, None, None);
    match message.body {
        Body::Text(said) => text = Some(said.as_str().to_owned()),
        Body::Offer(offered) => {
            (name, size, digest) = (Some(offered.name), Some(offered.size.bytes()), Some(offered.digest));
        }
        Body::OfferDeclined { offer: meant, name: of } | Body::OfferWithdrawn { offer: meant, name: of } => {
            (offer, name) = (Some(meant), Some(of));
        }
    }
    HistoryRow {
        direction,
        from,
        to,
        id: message.id,
        number: message.sequence,
        sent_at: message.sent_at,
        state,
        late,
        reason,
        what,
        text,
        name,
        size,
        digest,
        offer,
        legacy,
    }
}

fn state_of(stage: Stage) -> MessageState {
    match stage {
        Stage::Sending => MessageState::Sending,
        Stage::Stored => MessageState::Stored,
        Stage::Refused => MessageState::Refused,
        Stage::Delivered => MessageState::Delivered,
        Stage::Read => MessageState::Read,
    }
}

/// Lists what no screen has shown, and the other offers that wait for an answer.
pub(super) async fn inbox(context: &Context, rows: &Rows) -> Result<(), Failure> {
    // An errand is gone before the time to wait is over, and comes again with a new one: what waits for others is shown.
    if let LoginKind::Errand { .. } = context.account.kind {
        inbox::give_up_on_all(context).await?;
    }
    let mut listed = HashSet::new();
    for (event, is_perhaps_shown) in inbox::not_shown(context).await? {
        let (Event::Message { id, .. }
        | Event::Offer { id, .. }
        | Event::OfferDeclined { id, .. }
        | Event::OfferWithdrawn { id, .. }) = event
        else {
            continue;
        };
        if !messages::begin_showing(context.database(), id).await? {
            continue;
        }
        if is_perhaps_shown {
            rows.row(Event::Again { id }).await;
        }
        listed.insert(id);
        rows.row(event).await;
    }
    offers::list_others(context, &listed, rows).await
}

/// Notes that messages were on a screen.
pub(super) async fn mark_shown(context: &Context, ids: Vec<MessageId>) -> Result<(), Failure> {
    for id in ids {
        messages::mark_shown(context.database(), id, context.account.sends_read_receipts).await?;
    }
    match context.account.kind {
        LoginKind::Resident => context.delivering.read.notify_one(),
        LoginKind::Errand { .. } => receipts::send_all_due(context).await,
    }
    Ok(())
}
