//! Runs one command and reports its rows and its end.

use std::sync::Arc;

use tokio::sync::{broadcast, mpsc};

use super::context::{Context, not_oneself};
use super::download::Destination;
use super::event::{Event, What};
use super::failure::{Failure, FailureKind};
use super::handle::{Asked, Command};
use super::history::{self, OnDisk};
use super::messages::{self, Fate, Written};
use super::{
    account, announcements, blocks, catalogue, consent, contacts, exclusive, friends, limits, offers, presence,
};
use super::{profiles, sending_files, status, transfers};
use crate::seal::random::{self, OsRandom};
use crate::wire::directory::DirectoryRequest;
use crate::wire::ids::{MessageId, PeerName};
use crate::wire::message::{Body, Text};

/// Where the rows of a command go.
#[derive(Debug, Clone)]
pub(super) struct Rows(pub(super) mpsc::Sender<Event>);

impl Rows {
    /// Reports a row; waits while the face is busy. A face that is gone does not stop the command.
    pub(super) async fn row(&self, event: Event) {
        if self.0.send(event).await.is_err() {
            tracing::trace!("a row that nobody reads");
        }
    }

    /// Reports something that may be dropped, such as progress.
    pub(super) fn hint(&self, event: Event) {
        if self.0.try_send(event).is_err() {
            tracing::trace!("a hint that nobody reads");
        }
    }

    /// The channel itself, for work on another thread.
    pub(super) fn sender(&self) -> mpsc::Sender<Event> {
        self.0.clone()
    }

    /// Waits until nobody reads any more.
    pub(super) async fn left(&self) {
        self.0.closed().await;
    }
}

/// A command whose place in the order of messages is fixed.
pub(super) enum Started {
    /// A line of chat that is on its way to the outbox.
    Message { to: PeerName, id: MessageId, written: Written, events: broadcast::Receiver<Event> },
    /// A change that is made already, and its row.
    Changed(Event),
    /// Any other command.
    Other(Command),
}

/// Begins a command: the part that must happen in the order in which commands were given.
pub(super) async fn start(context: &Context, command: Command) -> Result<Started, Failure> {
    match command {
        Command::Message { to, text } => {
            let text = Text::parse(&text).map_err(|error| Failure::new(FailureKind::Usage, error.to_string()))?;
            if text.as_str().trim().is_empty() {
                return Err(Failure::new(FailureKind::Usage, "this message has nothing but blanks"));
            }
            not_oneself(context, &to)?;
            let id = MessageId::from_bytes(random::array(&mut OsRandom));
            let events = context.events.subscribe();
            let written = messages::enqueue(context, &to, id, Body::Text(text)).await;
            Ok(Started::Message { to, id, written, events })
        }
        // One after the other, so that each is a version of its own.
        Command::EditProfile { edit } => Ok(Started::Changed(profiles::edit(context, edit).await?)),
        command => Ok(Started::Other(command)),
    }
}

/// Runs a command to its end.
pub(super) async fn finish(context: Arc<Context>, started: Result<Started, Failure>, events: mpsc::Sender<Event>) {
    let rows = Rows(events);
    let result = match started {
        Ok(Started::Message { to, id, written, events }) => message(&context, to, id, written, events, &rows).await,
        Ok(Started::Changed(row)) => {
            rows.row(row).await;
            Ok(())
        }
        Ok(Started::Other(command)) => run(&context, command, &rows).await,
        Err(failure) => Err(failure),
    };
    rows.row(result.map_or_else(|failure| Event::Failed { failure }, |()| Event::Done)).await;
}

async fn message(
    context: &Context,
    to: PeerName,
    id: MessageId,
    written: Written,
    mut events: broadcast::Receiver<Event>,
    rows: &Rows,
) -> Result<(), Failure> {
    let fate = messages::settled(context, id, written, &mut events).await?;
    if !matches!(fate, Fate::Refused(_)) {
        contacts::tell_if_legacy(&to, contacts::is_legacy(context, &to).await?, rows).await;
    }
    match fate {
        Fate::Stored => rows.row(Event::Stored { to, id, what: What::Text }).await,
        Fate::Delivered => rows.row(Event::Delivered { to, id, what: What::Text }).await,
        Fate::Queued => rows.row(Event::Queued { to, id, what: What::Text }).await,
        Fate::Refused(failure) => {
            rows.row(Event::NotSent { to: to.clone(), id, what: What::Text, failure: failure.clone() }).await;
            return Err(failure.about_recipient(&to));
        }
    }
    Ok(())
}

async fn run(context: &Arc<Context>, command: Command, rows: &Rows) -> Result<(), Failure> {
    match command {
        Command::Who { recent, pattern } => catalogue::who(context, recent, &pattern, rows).await,
        Command::SetPresence { presence } => presence::set(context, presence, rows).await,
        Command::Broadcast { text } => announcements::say(context, &text, rows).await,
        Command::Find { pattern } => catalogue::find(context, &pattern, rows).await,
        Command::Share { path, hides_address, filter } => {
            catalogue::share(context, path, hides_address, filter, rows).await
        }
        Command::Unshare { name } => catalogue::unshare(context, name, rows).await,
        Command::Shared => catalogue::shared(context, rows).await,
        Command::Send { to, paths, wait, filter } => sending_files::send(context, to, paths, wait, filter, rows).await,
        Command::Get { source, folder, collision, executable, once } => {
            catalogue::get(context, source, Destination { folder, collision, executable }, once, rows).await
        }
        Command::SetLimit { bytes_per_second } => limits::set(context, bytes_per_second, rows).await,
        Command::Limit => limits::show(context, rows).await,
        Command::Offers => offers::list(context, rows).await,
        Command::Accept { offer, folder, collision, executable } => {
            offers::accept(context, &offer, Destination { folder, collision, executable }, rows).await
        }
        Command::Decline { offer } => offers::decline(context, &offer, rows).await,
        Command::Welcome { name, bytes_max, folder } => offers::welcome(context, name, bytes_max, folder, rows).await,
        Command::Unwelcome { name } => offers::unwelcome(context, name, rows).await,
        Command::Welcomes => offers::welcomes(context, rows).await,
        Command::Transfers => transfers::list(context, rows).await,
        Command::Cancel { which } => transfers::cancel(context, &which, rows).await,
        Command::Pause { which } => transfers::pause(context, &which, rows).await,
        Command::Resume { which } => transfers::resume(context, &which, rows).await,
        Command::History { .. } | Command::Audit { .. } => OnDisk::of(context).answer(command, rows).await,
        Command::Inbox => history::inbox(context, rows).await,
        Command::MarkShown { ids } => history::mark_shown(context, ids).await,
        Command::Verify { name, mark } => contacts::verify(context, name, mark, rows).await,
        Command::Trust { name } => contacts::trust(context, name, rows).await,
        Command::Connect { to, wait } => consent::connect(context, to, wait, rows).await,
        Command::Allow { to, term } => consent::allow(context, to, term, rows).await,
        Command::Deny { to } => consent::deny(context, to, rows).await,
        Command::Allowed => consent::allowed(context, rows).await,
        Command::Block { name } => blocks::block(context, name, rows).await,
        Command::Unblock { name } => blocks::unblock(context, name, rows).await,
        Command::Blocked => blocks::blocked(context, rows).await,
        Command::Befriend { name } => friends::befriend(context, name, rows).await,
        Command::Unfriend { name } => friends::unfriend(context, name, rows).await,
        Command::PutOff { name } => friends::put_off(context, name, rows).await,
        Command::Friends => friends::list(context, rows).await,
        Command::SetPrivacy { audience } => friends::set_privacy(context, audience, rows).await,
        Command::Privacy => friends::privacy(context, rows).await,
        Command::Profile { name, via, picture_to } => profiles::show(context, name, via, picture_to, rows).await,
        Command::Query { to } => contacts::find(context, &to, rows).await,
        Command::OpenExclusive { to } => exclusive::open(context, &to).await,
        Command::CloseExclusive { with } => exclusive::close(context, &with).await,
        Command::Invite { name } => account::invite(context, name.as_ref(), rows).await,
        Command::ChangePassword { new } => context.tell_directory(&DirectoryRequest::ChangePassword { new }).await,
        Command::DeleteAccount => {
            let name = context.account.name.clone();
            context.tell_directory(&DirectoryRequest::DeleteAccount { name }).await
        }
        Command::EndOtherSessions => context.tell_directory(&DirectoryRequest::EndOtherSessions).await,
        Command::Status => {
            status::status(context, rows).await;
            Ok(())
        }
        Command::Sessions => account::sessions(context, rows).await,
        Command::AnswerKeyRequest { key, allow } => account::answer_key_request(context, &key, allow).await,
        // `start` has begun them.
        Command::Message { .. } | Command::EditProfile { .. } => {
            Err(Failure::new(FailureKind::Other, "the command was not started"))
        }
    }
}

/// Begins and runs a command that a handle asked for; the first part in order, the second in its own time.
pub(super) async fn begin(context: Arc<Context>, Asked { command, events }: Asked) -> impl Future<Output = ()> {
    let started = start(&context, command).await;
    finish(context, started, events)
}
