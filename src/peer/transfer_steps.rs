//! What commands and the keeper of transfers say to each other: questions one way, the steps of a transfer the other.

use tokio::sync::{oneshot, watch};

use super::context::Context;
use super::download::Wanted;
use super::event::Event;
use super::failure::{Failure, FailureKind};
use super::rows::TransferRow;
use crate::wire::account::LoginKind;
use crate::wire::ids::{MessageId, PeerName, TransferId};

/// What commands ask of the keeper.
#[derive(Debug)]
pub(super) enum Ask {
    /// Begin a transfer, or join the one of the same file into the same folder.
    Begin(Box<Begin>, oneshot::Sender<Result<watch::Receiver<Steps>, Failure>>),
    /// What there is.
    List(oneshot::Sender<Vec<TransferRow>>),
    /// End one, and remove what has come of it.
    Cancel(TransferId, oneshot::Sender<Result<TransferRow, Failure>>),
    /// Let one wait.
    Pause(TransferId, oneshot::Sender<Result<TransferRow, Failure>>),
    /// Go on with one.
    Resume(TransferId, Keep, oneshot::Sender<Result<watch::Receiver<Steps>, Failure>>),
    /// Whoever made an offer has taken it back.
    Withdrawn { offer: MessageId, by: PeerName, answer: oneshot::Sender<()> },
}

/// A transfer that is to begin.
#[derive(Debug)]
pub(super) struct Begin {
    pub(super) wanted: Wanted,
    pub(super) keep: Keep,
}

/// What is left of a transfer that stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Keep {
    /// Nothing: whoever wanted it has no use for it later.
    Nothing,
    /// A row that says that it was interrupted.
    Interrupted,
    /// All of it: this peer goes on with it.
    GoesOn,
}

impl Keep {
    /// As it is for this kind of peer: a one-shot verb is gone in a moment.
    pub(super) fn by(context: &Context) -> Self {
        match context.account.kind {
            LoginKind::Resident => Self::GoesOn,
            LoginKind::Errand { .. } => Self::Interrupted,
        }
    }
}

/// How a transfer goes, for those who follow it: the newest step is enough.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// It is its turn or will be, with the last progress.
    Moves(Option<Event>),
    /// It stopped and goes on later; for long, when nobody can say when.
    Waits { row: Box<TransferRow>, is_for_long: bool },
    /// The file is here: [`Event::Received`].
    Received(Box<Event>),
    /// It ended otherwise, or waits for its person.
    Ended(Failure),
}

/// All that those who follow a transfer have to know.
#[derive(Debug, Clone)]
pub(super) struct Steps {
    /// What must not be missed of it, in order: sources that were dropped, each once.
    pub(super) news: Vec<Event>,
    /// The newest step.
    pub(super) step: Step,
}

impl Steps {
    /// Of a transfer that waits for its turn.
    pub(super) fn begin() -> watch::Sender<Self> {
        watch::Sender::new(Self { news: Vec::new(), step: Step::Moves(None) })
    }
}

/// Tells those who follow a transfer how it goes.
pub(super) fn put(steps: &watch::Sender<Steps>, step: Step) {
    steps.send_modify(|steps| steps.step = step);
}

/// Says how a transfer goes on that waits for its person.
pub(super) fn then_resume(failure: Failure, id: TransferId) -> Failure {
    let first = failure.hint.as_ref().map(|hint| format!("{hint}; ")).unwrap_or_default();
    failure.hint(format!("{first}`resume {id:.8}` goes on"))
}

/// Why a transfer stopped, as its row says it: with what to do, where that is on this machine.
pub(super) fn reason_of(failure: &Failure) -> String {
    match (failure.kind, &failure.hint) {
        (FailureKind::Disk | FailureKind::Usage, Some(hint)) => format!("{}; {hint}", failure.message),
        _ => failure.message.clone(),
    }
}
