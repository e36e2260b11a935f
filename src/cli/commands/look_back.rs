//! `qchat history`, `audit` and `inbox`: what was said and what waits, through the resident peer when one runs. History
//! and audit lie on this disk, so without a peer they need no directory either.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};

use super::peer::message_id;
use super::stop_signal;
use super::verb::{beside, peer_stopped, show, through_resident};
use crate::cli::args;
use crate::cli::entrance::{self, Purpose};
use crate::cli::local_socket::LocalPeer;
use crate::cli::output::Output;
use crate::cli::settings::Settings;
use crate::peer::event::Event;
use crate::peer::failure::{Failure, FailureKind};
use crate::peer::handle::{Command, PeerHandle};
use crate::peer::history::answer_from_disk;
use crate::wire::account::LoginKind;
use crate::wire::ids::MessageId;

/// How long the directory has to hand over what waits: a full mailbox of 16 MiB over a slow line.
const MAIL_DEADLINE: Duration = Duration::from_secs(15);

/// Messages that are marked by one command: it fits a line of the local socket.
const MARKED_AT_A_TIME: usize = 500;

/// Shows what was said.
pub(super) async fn history(args: args::History, output: &Output) -> Result<(), Failure> {
    let args::History { name, limit, before, search, whose } = args;
    let settings = Settings::from_login(whose.into())?;
    let command = Command::History { with: name, limit, before, search };
    until_stopped(from_disk(command, &settings, output)).await
}

/// Shows what this disk proves of a conversation.
pub(super) async fn audit(args: args::Audit, output: &Output) -> Result<(), Failure> {
    let settings = Settings::from_login(args.whose.into())?;
    until_stopped(from_disk(Command::Audit { with: args.name }, &settings, output)).await
}

/// Shows what waits and what no screen has shown yet.
pub(super) async fn inbox(args: args::Inbox, output: &Output) -> Result<(), Failure> {
    let settings = Settings::from_login(args.login)?.reading(args.reading);
    until_stopped(collect(&settings, output)).await
}

async fn until_stopped(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::select! {
        result = work => result,
        () = stop_signal() => Err(Failure::new(FailureKind::Interrupted, "stopped")),
    }
}

async fn from_disk(command: Command, settings: &Settings, output: &Output) -> Result<(), Failure> {
    let fingerprint = entrance::known_fingerprint(settings)?;
    let socket = settings.home.local_socket(fingerprint, &settings.user);
    if let Some(first) = LocalPeer::connect(&socket).await? {
        return through_resident(vec![command], &socket, first, output).await;
    }
    let errand = LoginKind::Errand { collects: false };
    let profile = entrance::open_profile(settings, fingerprint, errand).await?;
    let (events, mut rows) = mpsc::channel(64);
    let showing = async {
        while let Some(event) = rows.recv().await {
            if let Some(end) = show(event, output) {
                return end;
            }
        }
        Err(Failure::new(FailureKind::Other, "the records ended without an answer"))
    };
    let ((), shown) = tokio::join!(answer_from_disk(&profile, &settings.user, command, events), showing);
    shown
}

async fn collect(settings: &Settings, output: &Output) -> Result<(), Failure> {
    let fingerprint = entrance::trusted_fingerprint(settings, output).await?;
    let socket = settings.home.local_socket(fingerprint, &settings.user);
    if let Some(first) = LocalPeer::connect(&socket).await? {
        return show_and_mark(Through::Resident(socket, Some(first)), output).await;
    }
    let peer = entrance::log_in(settings, fingerprint, Purpose::Mail, output).await?;
    let handle = peer.handle();
    let mut heard = handle.events();
    let work = async {
        let drained = tokio::time::timeout(MAIL_DEADLINE, drained(&mut heard)).await;
        show_and_mark(Through::Own(handle), output).await?;
        drained.map_err(|_| {
            let message = format!("the directory has not handed everything over within {MAIL_DEADLINE:?}");
            Failure::new(FailureKind::TimedOut, message).hint("what came is shown; the same command goes on from there")
        })
    };
    beside(peer, work).await
}

/// Waits until the directory has handed over what waited.
async fn drained(heard: &mut broadcast::Receiver<Event>) {
    loop {
        match heard.recv().await {
            Ok(Event::Drained | Event::LoggedIn { waiting: 0, .. }) | Err(RecvError::Closed) => return,
            Ok(_) | Err(RecvError::Lagged(_)) => {}
        }
    }
}

/// Shows what is new, and only then marks it: what an interruption keeps off this screen is shown the next time.
async fn show_and_mark(mut peer: Through, output: &Output) -> Result<(), Failure> {
    let mut shown: Vec<MessageId> = Vec::new();
    let show = |event: Event| {
        shown.extend(message_id(&event));
        output.event(&event);
    };
    peer.run(Command::Inbox, show).await?;
    output.check_shown()?;
    for ids in shown.chunks(MARKED_AT_A_TIME) {
        peer.run(Command::MarkShown { ids: ids.to_vec() }, |_| {}).await?;
    }
    Ok(())
}

/// Who answers commands.
enum Through {
    /// The resident peer, by its socket; the first connection is there already.
    Resident(PathBuf, Option<LocalPeer>),
    /// A peer of this process.
    Own(PeerHandle),
}

impl Through {
    /// Gives a command, and each of its rows to `row`.
    async fn run(&mut self, command: Command, mut row: impl FnMut(Event)) -> Result<(), Failure> {
        let mut each = |event| match event {
            Event::Done => Some(Ok(())),
            Event::Failed { failure } => Some(Err(failure)),
            event => {
                row(event);
                None
            }
        };
        match self {
            Self::Own(handle) => {
                let mut events = handle.run(command).await;
                while let Some(event) = events.recv().await {
                    if let Some(end) = each(event) {
                        return end;
                    }
                }
            }
            Self::Resident(socket, first) => {
                let mut local = match first.take() {
                    Some(local) => local,
                    None => LocalPeer::connect(socket).await?.ok_or_else(|| peer_stopped(false))?,
                };
                local.give(&command).await?;
                while let Some(event) = local.next().await? {
                    if let Some(end) = each(event) {
                        return end;
                    }
                }
            }
        }
        Err(peer_stopped(false))
    }
}
