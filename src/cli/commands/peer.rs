//! `qchat peer`: a person's program. Typed lines become commands; what happens appears above the line being typed.

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinSet;

use super::settling::{Settling, Step};
use super::stop_signal;
use crate::cli::activity_log::ActivityLog;
use crate::cli::args;
use crate::cli::editor::{self, Names, Prompt, TerminalSettings, Typed};
use crate::cli::entrance::{self, Purpose};
use crate::cli::exit;
use crate::cli::local_socket::LocalSocket;
use crate::cli::notices::Notices;
use crate::cli::old_words;
use crate::cli::output::{Output, is_read_by_a_person};
use crate::cli::prompt::can_ask;
use crate::cli::settings::Settings;
use crate::cli::windows::{Windows, goes_to};
use crate::cli::words::{self, Line, Place};
use crate::peer::event::Event;
use crate::peer::failure::{Failure, FailureKind};
use crate::peer::handle::{Command, PeerHandle};
use crate::peer::rows::{TransferRow, TransferState};
use crate::wire::ids::{MessageId, PeerName};

/// Runs a peer until its user quits, its input ends, or a newer login takes over.
pub(super) async fn run(args: args::Peer, output: &Arc<Output>) -> Result<(), Failure> {
    let settings = Settings::from_login(args.login)?.reading(args.reading).moving_at(args.speed);
    let log = args.log.map(|path| ActivityLog::open(&path, &settings.user)).transpose()?;
    let folder = std::env::current_dir()
        .map_err(|error| Failure::new(FailureKind::Other, format!("the current folder is gone: {error}")))?;
    let fingerprint = entrance::trusted_fingerprint(&settings, output).await?;
    let peer = entrance::log_in(&settings, fingerprint, Purpose::Resident, output).await?;
    output.opens_prompt();
    let socket = LocalSocket::bind(settings.home.local_socket(fingerprint, &settings.user))?;
    let handle = peer.handle();
    let events = handle.events();
    let names = Names::default();
    let is_terminal = can_ask() && is_read_by_a_person();
    let edits_lines = is_terminal && !args.plain && !output.is_json();
    let _terminal = TerminalSettings::keep();
    let prompt = Prompt::new(settings.user.clone());
    let mut input = JoinSet::new();
    let lines = if edits_lines {
        let history = settings.home.profile_folder(fingerprint, &settings.user).join("typed");
        names.add(handle.contacts().await?);
        editor::lines(prompt.clone(), history, names.clone(), output)?
    } else {
        plain_lines(&mut input)
    };
    let (finished, stop) = oneshot::channel::<()>();
    let (peer_ended, over) = oneshot::channel::<()>();
    let served = handle.clone();
    let face = Face {
        handle,
        output: output.clone(),
        folder,
        names,
        edits_lines,
        log,
        user: settings.user,
        windows: Windows::default(),
        prompt,
        settling: None,
        notices: Notices::default(),
        is_connected: true,
        shown_early: HashSet::new(),
        running: JoinSet::new(),
        show_again_at: None,
        keeps_back: false,
    };
    // A task of its own: a terminal that takes no output does not keep verbs waiting.
    let mut serving = JoinSet::new();
    serving.spawn(socket.serve(served));
    let faces = async move {
        // Dropped at the end, however it comes: that stops the peer.
        let _finished = finished;
        let result = face.live(lines, events, over).await;
        serving.shutdown().await;
        result
    };
    // On threads of its own, so that a terminal that takes no output stops neither chat nor files.
    let mut running = JoinSet::new();
    running.spawn(peer.run(async {
        // It only ever ends by being dropped.
        drop(stop.await);
    }));
    running.spawn(give_up_on_a_stuck_terminal());
    let ended = async {
        match running.join_next().await {
            Some(Ok(ended)) => ended,
            _ => Err(Failure::new(FailureKind::Other, "the peer stopped unexpectedly")),
        }
    };
    let result = first_to_end(faces, ended, peer_ended).await;
    output.prompt_ended();
    if edits_lines && result.is_err() {
        output.line(""); // the error goes below the line that was being typed
    }
    result
}

/// Ends the process some time after it was told to stop, when the face is stuck in printing.
#[expect(clippy::exit, reason = "the one thread that could return an exit code waits for the terminal")]
async fn give_up_on_a_stuck_terminal() -> Result<(), Failure> {
    stop_signal().await;
    tokio::time::sleep(STUCK_AFTER).await;
    std::process::exit(i32::from(exit::number(FailureKind::Interrupted)))
}

/// Longer than a peer takes to tell the others that it leaves.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// How long it may take to show what a peer said that has ended.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(1);

/// The faces end first when the user quits: then the peer stops in good order. The peer ends first when its session is
/// over for good: then nobody need type any more, and the faces show what it said last.
async fn first_to_end(
    faces: impl Future<Output = Result<(), Failure>>,
    peer: impl Future<Output = Result<(), Failure>>,
    peer_ended: oneshot::Sender<()>,
) -> Result<(), Failure> {
    let (mut faces, mut peer) = (Box::pin(faces), Box::pin(peer));
    tokio::select! {
        left = &mut faces => {
            drop(faces);
            left.and(peer.await)
        }
        ended = &mut peer => {
            drop(peer_ended);
            // A terminal that takes no output does not hold up the end.
            if tokio::time::timeout(LAST_WORDS_WITHIN, faces).await.is_err() {
                tracing::debug!("not everything that the peer said last was shown");
            }
            ended
        }
    }
}

/// Lines of a program or file.
fn plain_lines(input: &mut JoinSet<()>) -> mpsc::Receiver<Typed> {
    let (sender, lines) = mpsc::channel(16);
    input.spawn(async move {
        let mut stdin = BufReader::new(tokio::io::stdin());
        let mut line = Vec::new();
        while stdin.read_until(b'\n', &mut line).await.is_ok_and(|count| count > 0) {
            let text = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
            line.clear();
            if sender.send(Typed { line: text, settled: None }).await.is_err() {
                return;
            }
        }
    });
    lines
}

/// What a person sees of a running peer.
struct Face {
    handle: PeerHandle,
    output: Arc<Output>,
    /// Where fetched files go.
    folder: PathBuf,
    /// For completion.
    names: Names,
    edits_lines: bool,
    log: Option<ActivityLog>,
    /// Whose peer it is.
    user: PeerName,
    /// To whom a plain line goes.
    windows: Windows,
    prompt: Prompt,
    /// The conversation that is being opened or closed.
    settling: Option<Settling>,
    /// What a person is told of the states of their messages.
    notices: Notices,
    is_connected: bool,
    /// Messages that were shown before their event came.
    shown_early: HashSet<MessageId>,
    running: JoinSet<()>,
    /// When to try again to show what the profile could not note.
    show_again_at: Option<Instant>,
    /// Whether the person was told that there is such a thing.
    keeps_back: bool,
}

/// Between two attempts to show what the profile could not note.
const UNSHOWN_PAUSE: Duration = Duration::from_secs(5);

impl Face {
    async fn live(
        mut self,
        mut lines: mpsc::Receiver<Typed>,
        mut events: broadcast::Receiver<Event>,
        mut over: oneshot::Receiver<()>,
    ) -> Result<(), Failure> {
        self.show_waiting().await?;
        self.remind_of_offers().await?;
        loop {
            let due = self.notices.deadline();
            tokio::select! {
                typed = lines.recv(), if self.settling.is_none() => {
                    let goes_on = match typed {
                        Some(typed) => self.take_line(typed).await?,
                        None => false,
                    };
                    if !goes_on {
                        return self.leave(events).await;
                    }
                }
                row = Settling::next_row(&mut self.settling) => self.settle(row, &mut events).await?,
                event = events.recv() => match event {
                    Ok(event) => self.show(event).await?,
                    Err(RecvError::Lagged(missed)) => self.catch_up_after(missed).await?,
                    Err(RecvError::Closed) => return Ok(()),
                },
                () = until(due) => self.tell_what_is_due(),
                () = until(self.show_again_at) => self.show_what_was_kept().await?,
                Some(_) = self.running.join_next() => {}
                _ = &mut over => return self.show_all(events).await,
                () = stop_signal() => return Err(Failure::new(FailureKind::Interrupted, "stopped")),
            }
        }
    }

    /// Does what a line says. Says `false` when it was the last one.
    async fn take_line(&mut self, Typed { line, settled }: Typed) -> Result<bool, Failure> {
        let place = Place { user: &self.user, folder: &self.folder, window: self.windows.open() };
        match words::parse(&line, place) {
            Ok(Line::Run(command)) => self.run(command).await,
            Ok(Line::Query { to, exclusive }) => {
                let steps = self.windows.to_open(&to, exclusive).into();
                self.begin_settling(steps, Some(to), settled).await;
            }
            Ok(Line::Close) => match self.windows.close() {
                Ok(step) => self.begin_settling(step.into_iter().collect(), None, settled).await,
                Err(failure) => self.output.failure(&failure),
            },
            Ok(Line::Inbox) => self.inbox().await?,
            Ok(Line::Help) => self.list(&words::help()),
            Ok(Line::OldHelp) => self.list(&old_words::help()),
            Ok(Line::Tell(said)) => self.output.talk(&said),
            Ok(Line::Empty) => {}
            Ok(Line::Quit) => return Ok(false),
            Err(failure) => {
                self.output.failure(&failure);
                if words::is_query(&line) {
                    self.leave_window();
                }
            }
        }
        self.show_prompt();
        Ok(true)
    }

    /// Shows a list of commands, which is none of the rows that a program reads.
    fn list(&self, help: &str) {
        if self.output.is_json() {
            self.output.warning(help);
        } else {
            self.output.line(help);
        }
    }

    /// Begins to open a conversation with somebody, or to close one.
    async fn begin_settling(
        &mut self,
        steps: VecDeque<Command>,
        then: Option<PeerName>,
        settled: Option<oneshot::Sender<()>>,
    ) {
        self.show_prompt();
        self.settling = Settling::begin(&self.handle, steps, then, settled).await;
    }

    /// Goes on with that as the peer says.
    async fn settle(&mut self, row: Option<Event>, events: &mut broadcast::Receiver<Event>) -> Result<(), Failure> {
        if let Some(Event::Legacy { name }) = &row {
            self.output.legacy(name);
        }
        let Some(settling) = self.settling.take() else { return Ok(()) };
        // Dropped at the end, when the prompt is known.
        let _settled = match settling.advance(row, &self.handle).await {
            Step::On(settling) => {
                self.settling = Some(settling);
                None
            }
            Step::Done(then, settled) => {
                // What the peer told before it was done comes first: perhaps it is over already.
                self.catch_up(events).await?;
                if let Some(to) = then {
                    self.output.talk(&goes_to(&to));
                    self.windows.enter(to);
                }
                settled
            }
            Step::Failed(failure, then, settled) => {
                self.output.failure(&failure);
                if then.as_ref() != self.windows.open() {
                    self.leave_window();
                }
                settled
            }
        };
        self.show_prompt();
        Ok(())
    }

    /// Shows what has been told up to now.
    async fn catch_up(&mut self, events: &mut broadcast::Receiver<Event>) -> Result<(), Failure> {
        loop {
            match events.try_recv() {
                Ok(event) => self.show(event).await?,
                Err(TryRecvError::Lagged(missed)) => self.catch_up_after(missed).await?,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return Ok(()),
            }
        }
    }

    /// Shows messages of which the events were missed.
    async fn catch_up_after(&mut self, missed: u64) -> Result<(), Failure> {
        self.log(|log| log.note_overrun(missed));
        self.output.warning(&format!(
            "warning: more happened than could be shown, {missed} events were passed over: /friends, /offers and /status show how it is now"
        ));
        self.show_waiting().await
    }

    /// What was to go to one person must not go to another.
    fn leave_window(&mut self) {
        if let Some(to) = self.windows.leave() {
            self.output.talk(&format!("* what you type does not go to {to} any more"));
        }
    }

    fn show_prompt(&self) {
        self.prompt.set(self.windows.open());
    }

    /// A script's commands are finished first; a person who quits does not want to wait.
    async fn leave(mut self, mut events: broadcast::Receiver<Event>) -> Result<(), Failure> {
        while !self.edits_lines && !self.running.is_empty() {
            tokio::select! {
                Ok(event) = events.recv() => self.show(event).await?,
                Some(_) = self.running.join_next() => {}
                () = stop_signal() => return Err(Failure::new(FailureKind::Interrupted, "stopped")),
                else => break,
            }
        }
        if !self.running.is_empty() {
            self.output.talk("* what was unfinished has stopped; transfers go on when your peer runs again");
        }
        self.show_all(events).await
    }

    /// Shows what was said until now.
    async fn show_all(&mut self, mut events: broadcast::Receiver<Event>) -> Result<(), Failure> {
        while let Ok(event) = events.try_recv() {
            self.show(event).await?;
        }
        Ok(())
    }

    /// Offers wait over restarts, so a person may have forgotten them.
    async fn remind_of_offers(&self) -> Result<(), Failure> {
        let open = self.handle.ask(Command::Offers).await?;
        let waiting = open.iter().filter(|offer| matches!(offer, Event::Offer { .. })).count();
        if waiting > 0 {
            self.output.talk(&format!("* offered files that wait for your answer: {waiting} (/offers)"));
        }
        Ok(())
    }

    /// Starts a command; its rows appear as they come.
    async fn run(&mut self, command: Command) {
        let lists = matches!(
            command,
            Command::Who { .. }
                | Command::Find { .. }
                | Command::Shared
                | Command::Allowed
                | Command::Blocked
                | Command::Friends
                | Command::Offers
                | Command::Transfers
                | Command::Welcomes
                | Command::History { .. }
        );
        let follows = command.follows_a_transfer();
        let mut rows = self.handle.run(command).await;
        let (output, names) = (self.output.clone(), self.names.clone());
        self.running.spawn(async move {
            let mut was_told = false;
            let mut is_empty = true;
            while let Some(row) = rows.recv().await {
                match row {
                    // The fate of a message is an event of the peer, which shows it once.
                    Event::Stored { .. } | Event::Queued { .. } | Event::Delivered { .. } | Event::Read { .. } => {}
                    Event::NotSent { .. } => was_told = true,
                    // What somebody stopped is an event of the peer too.
                    Event::Transfer(row) if row.is_news && is_stopped(&row) => {}
                    Event::Legacy { name } => output.legacy(&name),
                    // The line of the transfer has said it.
                    Event::Failed { failure } if follows && !output.is_json() && was_left(&failure) => {}
                    Event::Failed { failure } if !was_told => output.failure(&failure),
                    Event::Done if lists && is_empty => output.talk("* nothing"),
                    Event::Done | Event::Failed { .. } => {}
                    row => {
                        is_empty = false;
                        names.notice(&row);
                        output.event(&row);
                    }
                }
            }
        });
    }

    /// Shows messages that came before there was a screen, or while it was behind.
    async fn show_waiting(&mut self) -> Result<(), Failure> {
        for (event, perhaps_shown) in self.handle.not_shown().await? {
            if let Some(id) = self.show_message(&event, perhaps_shown).await? {
                self.shown_early.insert(id);
            }
        }
        Ok(())
    }

    /// What no screen has shown yet, and offers that wait for an answer.
    async fn inbox(&mut self) -> Result<(), Failure> {
        self.show_waiting().await?;
        self.run(Command::Offers).await;
        Ok(())
    }

    /// Tells which messages wait, and which of them have arrived.
    fn tell_what_is_due(&mut self) {
        for notice in self.notices.due(Instant::now()) {
            self.output.aside(&notice.sentence());
        }
    }

    /// Notes something in the activity log, if there is one.
    fn log(&mut self, note: impl FnOnce(&mut ActivityLog) -> Option<String>) {
        if let Some(warning) = self.log.as_mut().and_then(note) {
            self.output.warning(&warning);
        }
    }

    async fn show(&mut self, event: Event) -> Result<(), Failure> {
        match &event {
            Event::LoggedIn { .. } => self.is_connected = true,
            // Once is enough, until it is back.
            Event::DirectoryLost { .. }
                if !std::mem::replace(&mut self.is_connected, false) && !self.output.is_json() =>
            {
                return Ok(());
            }
            _ => {}
        }
        self.log(|log| log.note(&event));
        self.names.notice(&event);
        if message_id(&event).is_some_and(|id| self.shown_early.remove(&id)) {
            return Ok(());
        }
        if self.show_message(&event, false).await?.is_none() && !self.is_passed_over(&event) {
            self.output.event(&event);
        }
        if let Some(said) = self.windows.notice(&event) {
            self.output.talk(&said);
        }
        self.show_prompt();
        Ok(())
    }

    /// Whether an event is not worth a line of its own: a person is told only of messages that have to wait.
    fn is_passed_over(&mut self, event: &Event) -> bool {
        if self.output.is_json() {
            return false;
        }
        if let Some(notice) = self.notices.notice(event, Instant::now()) {
            self.output.aside(&notice.sentence());
        }
        matches!(event, Event::Queued { .. } | Event::Stored { .. } | Event::Delivered { .. } | Event::Read { .. })
    }

    /// Shows what must be shown exactly once. Notes before that it is about to be, and afterwards that it was: what a
    /// crash in between leaves is shown again with a word, because nobody can know.
    async fn show_message(&mut self, event: &Event, perhaps_shown: bool) -> Result<Option<MessageId>, Failure> {
        let Some(id) = message_id(event) else { return Ok(None) };
        match self.handle.begin_showing(id).await {
            Ok(true) => {}
            // `qchat inbox` was faster.
            Ok(false) => return Ok(Some(id)),
            Err(failure) => {
                self.keep_for_later(&failure);
                return Ok(Some(id));
            }
        }
        if let Event::Message { from, legacy: true, .. } | Event::Offer { from, legacy: true, .. } = event {
            self.output.legacy(from);
        }
        if perhaps_shown {
            self.output.event(&Event::Again { id });
        }
        self.output.event(event);
        self.output.check_shown()?;
        if let Err(failure) = self.handle.mark_shown(id).await {
            self.keep_for_later(&failure);
        }
        self.log(|log| log.note_shown(event));
        Ok(Some(id))
    }

    /// The profile takes no more, its disk is full perhaps: what is new stays new, and is shown when there is room.
    fn keep_for_later(&mut self, failure: &Failure) {
        if !std::mem::replace(&mut self.keeps_back, true) {
            self.output.warning(&format!("warning: new messages are not shown for now: {failure}"));
        }
        self.show_again_at = Some(Instant::now() + UNSHOWN_PAUSE);
    }

    /// Tries again to show what the profile could not note.
    async fn show_what_was_kept(&mut self) -> Result<(), Failure> {
        self.show_again_at = None;
        self.show_waiting().await?;
        self.keeps_back = self.show_again_at.is_some();
        Ok(())
    }
}

/// Waits for a time; for ever when there is none.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

/// Whether a transfer stands still because somebody wants that.
fn is_stopped(row: &TransferRow) -> bool {
    matches!(row.state, TransferState::Paused | TransferState::Cancelled)
}

/// Whether a command has left a transfer that waits, or that somebody has stopped.
fn was_left(failure: &Failure) -> bool {
    matches!(failure.kind, FailureKind::Partial | FailureKind::Interrupted)
}

/// The id of an event that is a message from somebody.
pub(super) fn message_id(event: &Event) -> Option<MessageId> {
    match event {
        Event::Message { id, .. }
        | Event::Offer { id, .. }
        | Event::OfferDeclined { id, .. }
        | Event::OfferWithdrawn { id, .. } => Some(*id),
        _ => None,
    }
}
