//! A one-shot verb: through the resident peer of this account when one runs on this machine, else as an errand.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::{broadcast, oneshot};

use super::stop_signal;
use crate::cli::args::{self, AccountAction, Shown, Verb};
use crate::cli::entrance::{self, Purpose};
use crate::cli::local_socket::LocalPeer;
use crate::cli::output::Output;
use crate::cli::profiles;
use crate::cli::prompt;
use crate::cli::settings::Settings;
use crate::cli::words;
use crate::peer::context::PathChoice;
use crate::peer::driver::Peer;
use crate::peer::event::Event;
use crate::peer::failure::{Failure, FailureKind};
use crate::peer::handle::Command;
use crate::storage::walk::Filter;
use crate::wire::ids::PeerName;
use crate::wire::limits::TEXT_BYTES_MAX;
use crate::wire::people::Presence;

/// Runs a verb to its end, or until the user stops it.
pub(super) async fn run(verb: Verb, output: &Output) -> Result<(), Failure> {
    let speed = speed(&verb);
    let (commands, login) = translate(verb)?;
    let settings = Settings::from_login(login)?.moving_at(speed);
    let follows = commands.iter().any(Command::follows_a_transfer);
    let offers = commands.iter().any(|command| matches!(command, Command::Send { .. }));
    let is_left_to_a_peer = AtomicBool::new(false);
    tokio::select! {
        result = run_all(commands, &settings, &is_left_to_a_peer, output) => result,
        () = stop_signal() => Err(stopped(follows, offers, is_left_to_a_peer.load(Ordering::Relaxed))),
    }
}

/// What is left of a verb that its user stops.
fn stopped(follows: bool, offers: bool, is_left_to_a_peer: bool) -> Failure {
    let (text, hint) = match (follows, offers, is_left_to_a_peer) {
        (true, _, true) => (
            "stopped watching: your running peer goes on with the transfer",
            "`qchat transfers` shows it, `qchat cancel` ends it",
        ),
        (_, true, true) => {
            ("stopped waiting: what was offered stays offered", "`qchat offers` lists it, `qchat cancel` takes it back")
        }
        (true, _, false) => ("stopped", "what arrived is kept: the same command goes on from there"),
        (false, ..) => return Failure::new(FailureKind::Interrupted, "stopped"),
    };
    Failure::new(FailureKind::Interrupted, text).hint(hint)
}

/// Refuses several paths of which two have one name: one would take the other's place.
fn all_named_differently(paths: &[PathBuf]) -> Result<(), Failure> {
    let mut names = BTreeSet::new();
    let twice = paths.iter().filter_map(|path| path.file_name()).find(|name| !names.insert(*name));
    let Some(name) = twice else { return Ok(()) };
    let text = format!("two of them would be shared as {}: nothing was done", name.display());
    Err(Failure::new(FailureKind::Usage, text).hint("rename one, or share the folder that they are in"))
}

/// Refuses several paths of which one is not there, before anything is done with the others.
fn all_there(paths: &[PathBuf]) -> Result<(), Failure> {
    let missing = paths.iter().find(|path| path.symlink_metadata().is_err());
    match missing.filter(|_| paths.len() > 1) {
        Some(path) => {
            Err(Failure::new(FailureKind::Other, format!("there is no {}: nothing was done", path.display())))
        }
        None => Ok(()),
    }
}

/// The commands that a verb comes to, and who gives them.
fn translate(verb: Verb) -> Result<(Vec<Command>, args::Login), Failure> {
    Ok(match verb {
        Verb::Who(args) => (vec![Command::Who { recent: args.hour, pattern: args.text }], args.login),
        Verb::Presence(args) => (vec![Command::SetPresence { presence: shown(args.shown) }], args.login),
        Verb::Broadcast(args) => (vec![Command::Broadcast { text: text(&args.text)? }], args.login),
        Verb::Status(args) => (vec![Command::Status], args.login),
        Verb::Find(args) => (vec![Command::Find { pattern: args.pattern }], args.login),
        Verb::Shared(args) => (vec![Command::Shared], args.login),
        Verb::Share(args) => {
            all_there(&args.paths)?;
            all_named_differently(&args.paths)?;
            let hides_address = args.how.hide_address;
            let filter = Filter::from(args.how.left_out);
            let share = |path| Ok(Command::Share { path: absolute(path)?, hides_address, filter: filter.clone() });
            (args.paths.into_iter().map(share).collect::<Result<_, Failure>>()?, args.login)
        }
        Verb::Unshare(args) => (args.names.into_iter().map(|name| Command::Unshare { name }).collect(), args.login),
        Verb::Msg(args) => (vec![Command::Message { to: args.name, text: text(&args.text)? }], args.login),
        Verb::Send(args) => {
            all_there(&args.paths)?;
            let paths = args.paths.into_iter().map(absolute).collect::<Result<_, Failure>>()?;
            (vec![Command::Send { to: args.name, paths, wait: true, filter: args.left_out.into() }], args.login)
        }
        Verb::Get(args) => {
            let source = words::source(&args.source)?;
            let (collision, executable) = (args.place.collision(), args.place.executable());
            let folder = absolute(args.place.out)?;
            (vec![Command::Get { source, folder, collision, executable, once: false }], args.login)
        }
        Verb::Offers(args) => (vec![Command::Offers], args.login),
        Verb::Accept(args) => {
            let folder = absolute(args.how.place.out.clone())?;
            (vec![args.how.command(args.offer, folder)?], args.login)
        }
        Verb::Decline(args) => (vec![Command::Decline { offer: args.offer }], args.login),
        Verb::Transfers(args) => (vec![Command::Transfers], args.login),
        Verb::Cancel(args) => (vec![Command::Cancel { which: args.which }], args.login),
        Verb::Pause(args) => (vec![Command::Pause { which: args.which }], args.login),
        Verb::Resume(args) => (vec![Command::Resume { which: args.which }], args.login),
        Verb::Verify(args) => (vec![Command::Verify { name: args.name, mark: args.mark }], args.login),
        Verb::Trust(args) => (vec![Command::Trust { name: args.name }], args.login),
        Verb::Connect(args) => (vec![Command::Connect { to: args.name, wait: true }], args.login),
        Verb::Allow(args) => (vec![Command::Allow { to: args.name, term: args.term }], args.login),
        Verb::Deny(args) => (vec![Command::Deny { to: args.name }], args.login),
        Verb::Allowed(args) => (vec![Command::Allowed], args.login),
        Verb::Friend(args) if args.later => (vec![Command::PutOff { name: args.name }], args.login),
        Verb::Friend(args) => (vec![Command::Befriend { name: args.name }], args.login),
        Verb::Unfriend(args) => (vec![Command::Unfriend { name: args.name }], args.login),
        Verb::Friends(args) => (vec![Command::Friends], args.login),
        Verb::Block(args) => (vec![Command::Block { name: args.name }], args.login),
        Verb::Unblock(args) => (vec![Command::Unblock { name: args.name }], args.login),
        Verb::Blocked(args) => (vec![Command::Blocked], args.login),
        Verb::Privacy(args) => {
            let command = args.audience.map_or(Command::Privacy, |audience| Command::SetPrivacy { audience });
            (vec![command], args.login)
        }
        Verb::Invite(args) => (vec![Command::Invite { name: args.name }], args.login),
        Verb::Profile(args) => profile(args)?,
        Verb::Account(args) => account(args.action)?,
        Verb::Admin(_)
        | Verb::Inbox(_)
        | Verb::History(_)
        | Verb::Audit(_)
        | Verb::Serve(_)
        | Verb::Peer(_)
        | Verb::Doctor(_)
        | Verb::Demo(_)
        | Verb::ExportIdentity(_)
        | Verb::ImportIdentity(_) => {
            return Err(Failure::new(FailureKind::Usage, "this is not a one-shot verb"));
        }
    })
}

/// How fast a verb's files may move.
fn speed(verb: &Verb) -> args::Speed {
    match verb {
        Verb::Get(args) => args.speed,
        Verb::Send(args) => args.speed,
        _ => args::Speed { limit: None },
    }
}

fn shown(shown: Shown) -> Presence {
    match shown {
        Shown::Online => Presence::Online,
        Shown::Away => Presence::Away,
        Shown::Busy => Presence::Busy,
    }
}

/// What is asked of a profile, or changed in our own.
fn profile(args: args::Profile) -> Result<(Vec<Command>, args::Login), Failure> {
    let args::Profile { words, via, picture_to, login } = args;
    let usage = |text: &str| Failure::new(FailureKind::Usage, text);
    let command = match words.as_slice() {
        [word, ..] if word == "edit" && (via.is_some() || picture_to.is_some()) => {
            return Err(usage("--via and --picture-to are for looking at a profile, not for changing yours"));
        }
        [word, part @ ..] if word == "edit" => {
            let (field, value) = part.split_first().ok_or_else(profiles::no_field)?;
            profiles::edit(field, &value.join(" "), &absolute(PathBuf::from("."))?)?
        }
        [] | [_] => {
            let name = words.first().map(|name| PeerName::parse(name)).transpose();
            let name = name.map_err(|error| usage(&error.to_string()))?;
            Command::Profile { name, via, picture_to: picture_to.map(absolute).transpose()? }
        }
        [_, ..] => return Err(usage("one name at a time").hint("`qchat profile edit FIELD VALUE` changes your own")),
    };
    Ok((vec![command], login))
}

/// What is done with the account, after the questions that it needs.
fn account(action: AccountAction) -> Result<(Vec<Command>, args::Login), Failure> {
    Ok(match action {
        AccountAction::Password { new_password_file, login } => {
            let new = match new_password_file {
                Some(file) => prompt::password_from(&file)?,
                None if prompt::can_ask() => prompt::new_password("New password: ")?,
                None => {
                    return Err(
                        Failure::new(FailureKind::Usage, "which new password?").hint("--new-password-file FILE")
                    );
                }
            };
            (vec![Command::ChangePassword { new }], login)
        }
        AccountAction::Delete { yes, login } => {
            let question = "Remove this account, its waiting messages and shares at the directory, for good?";
            if !yes && !prompt::can_ask() {
                return Err(
                    Failure::new(FailureKind::Usage, "nobody was asked").hint("--yes deletes without a question")
                );
            }
            if !yes && !prompt::confirm(question)? {
                return Err(Failure::new(FailureKind::Declined, "the account was not deleted"));
            }
            (vec![Command::DeleteAccount], login)
        }
        AccountAction::Sessions { login } => (vec![Command::Sessions], login),
        AccountAction::EndSessions { login } => (vec![Command::EndOtherSessions], login),
    })
}

fn absolute(path: PathBuf) -> Result<PathBuf, Failure> {
    std::path::absolute(&path).map_err(|error| Failure::new(FailureKind::Usage, format!("{}: {error}", path.display())))
}

/// The words of a message; a single `-` stands for standard input.
fn text(words: &[String]) -> Result<String, Failure> {
    if words != ["-"] {
        return Ok(words.join(" "));
    }
    let mut text = String::new();
    let bound = u64::try_from(TEXT_BYTES_MAX).unwrap_or(u64::MAX) + 2;
    std::io::stdin()
        .take(bound)
        .read_to_string(&mut text)
        .map_err(|error| Failure::new(FailureKind::Usage, format!("cannot read the message: {error}")))?;
    Ok(text.trim_end_matches('\n').to_owned())
}

async fn run_all(
    commands: Vec<Command>,
    settings: &Settings,
    is_left_to_a_peer: &AtomicBool,
    output: &Output,
) -> Result<(), Failure> {
    let fingerprint = entrance::trusted_fingerprint(settings, output).await?;
    let socket = settings.home.local_socket(fingerprint, &settings.user);
    let shares = commands.iter().any(|command| matches!(command, Command::Share { .. }));
    if let Some(first) = LocalPeer::connect(&socket).await? {
        if settings.paths != PathChoice::Any {
            let text = "your peer runs here, and it decides whether connections are direct or relayed";
            return Err(Failure::new(FailureKind::Usage, text)
                .hint("start it with --direct-only or --relay-only, or leave that out here"));
        }
        if settings.limit.is_some() {
            let text = "your peer runs here, and it decides how fast files go and come";
            return Err(Failure::new(FailureKind::Usage, text)
                .hint("type `/limit RATE` there, or start it with --limit RATE; or leave that out here"));
        }
        is_left_to_a_peer.store(true, Ordering::Relaxed);
        return through_resident(commands, &socket, first, output).await;
    }
    let waits = commands.iter().any(|command| matches!(command, Command::Send { .. }));
    let purpose = if waits { Purpose::Answer } else { Purpose::Errand };
    let peer = entrance::log_in(settings, fingerprint, purpose, output).await?;
    as_errand(commands, peer, output).await?;
    if shares {
        output.talk("* files are served while your peer runs: `qchat peer`");
    }
    Ok(())
}

pub(super) async fn through_resident(
    commands: Vec<Command>,
    socket: &std::path::Path,
    first: LocalPeer,
    output: &Output,
) -> Result<(), Failure> {
    let mut first = Some(first);
    for command in commands {
        let follows = command.follows_a_transfer();
        let mut local = match first.take() {
            Some(local) => local,
            None => LocalPeer::connect(socket).await?.ok_or_else(|| peer_stopped(follows))?,
        };
        local.give(&command).await?;
        loop {
            let event = local.next().await?.ok_or_else(|| peer_stopped(follows))?;
            if let Some(end) = show(event, output) {
                end?;
                break;
            }
        }
    }
    Ok(())
}

/// The failure of a verb whose peer stopped; `follows` says that it was fetching something.
pub(super) fn peer_stopped(follows: bool) -> Failure {
    if follows {
        return Failure::new(FailureKind::Partial, "the running peer stopped before all was here")
            .hint("what came is kept: the same command goes on from there, and so does your peer when it runs again");
    }
    Failure::new(FailureKind::Other, "the running peer stopped before it had answered")
        .hint("it may have done it all the same: `history` shows what was sent")
}

async fn as_errand(commands: Vec<Command>, peer: Peer, output: &Output) -> Result<(), Failure> {
    let handle = peer.handle();
    let mut heard = handle.events();
    let work = async {
        for command in commands {
            let mut events = handle.run(command).await;
            while let Some(event) = events.recv().await {
                if event.is_last() {
                    show_warnings(&mut heard, output);
                }
                if let Some(end) = show(event, output) {
                    end?;
                    break;
                }
            }
        }
        Ok(())
    };
    beside(peer, work).await
}

/// Does some work while a peer runs, and stops the peer when it is done.
pub(super) async fn beside(peer: Peer, work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let (finished, stop) = oneshot::channel::<()>();
    let work = async {
        // Dropped at the end, however it comes: that stops the peer.
        let _finished = finished;
        work.await
    };
    let running = peer.run(async {
        // It only ever ends by being dropped.
        drop(stop.await);
    });
    let (done, ended) = tokio::join!(work, running);
    done.and(ended)
}

/// Shows what must not be missed of the peer's own events.
fn show_warnings(heard: &mut broadcast::Receiver<Event>, output: &Output) {
    loop {
        match heard.try_recv() {
            Ok(event @ Event::KeyChanged { .. }) => drop(show(event, output)),
            Ok(_) | Err(TryRecvError::Lagged(_)) => {}
            Err(TryRecvError::Empty | TryRecvError::Closed) => return,
        }
    }
}

/// Shows an event; the last one of a command gives its result.
pub(super) fn show(event: Event, output: &Output) -> Option<Result<(), Failure>> {
    match event {
        Event::Done => Some(Ok(())),
        Event::Failed { failure } => Some(Err(failure)),
        Event::Legacy { name } => {
            output.legacy(&name);
            None
        }
        event => {
            if is_talk(&event) && !output.is_json() {
                output.talk_event(&event);
            } else {
                output.event(&event);
            }
            None
        }
    }
}

/// What is said to a person rather than asked for by a script.
fn is_talk(event: &Event) -> bool {
    let is_news = matches!(event, Event::Transfer(row) if row.is_news);
    is_news
        || matches!(
            event,
            Event::Stored { .. }
                | Event::Delivered { .. }
                | Event::Read { .. }
                | Event::Queued { .. }
                | Event::Offered { .. }
                | Event::Note { .. }
                | Event::Skipped { .. }
                | Event::Asked { .. }
                | Event::PresenceSet { .. }
                | Event::Announced { .. }
                | Event::Connected { .. }
                | Event::Sent { .. }
                | Event::KeyChanged { .. }
        )
}
