//! A conversation that is being opened or closed: the steps that a peer does for it, one after the other.

use std::collections::VecDeque;

use tokio::sync::{mpsc, oneshot};

use crate::peer::event::Event;
use crate::peer::failure::{Failure, FailureKind};
use crate::peer::handle::{Command, PeerHandle};
use crate::wire::ids::PeerName;

/// Until it ends, no further line is read, because that may be for it.
pub(super) struct Settling {
    /// What is to be done after this.
    steps: VecDeque<Command>,
    /// What the peer says of what it does now.
    rows: mpsc::Receiver<Event>,
    /// Who is talked to then, and whether to no other; `None` after a closing.
    then: Option<PeerName>,
    /// Who waits for the end of it.
    settled: Option<oneshot::Sender<()>>,
}

/// How far it is.
pub(super) enum Step {
    /// There is more to be done.
    On(Settling),
    /// All is done: who is talked to now. Whoever waits goes on when the last part is dropped.
    Done(Option<PeerName>, Option<oneshot::Sender<()>>),
    /// It came to nothing: who was to be talked to.
    Failed(Failure, Option<PeerName>, Option<oneshot::Sender<()>>),
}

impl Settling {
    /// Begins with the first step. `None` when there is nothing to do.
    pub(super) async fn begin(
        handle: &PeerHandle,
        mut steps: VecDeque<Command>,
        then: Option<PeerName>,
        settled: Option<oneshot::Sender<()>>,
    ) -> Option<Self> {
        let rows = handle.run(steps.pop_front()?).await;
        Some(Self { steps, rows, then, settled })
    }

    /// What the peer says next of the conversation that is being opened or closed; for ever when there is none.
    pub(super) async fn next_row(settling: &mut Option<Self>) -> Option<Event> {
        match settling {
            Some(settling) => settling.rows.recv().await,
            None => std::future::pending().await,
        }
    }

    /// Goes on with what the peer says.
    pub(super) async fn advance(mut self, row: Option<Event>, handle: &PeerHandle) -> Step {
        match row {
            Some(Event::Done) => match self.steps.pop_front() {
                Some(next) => {
                    self.rows = handle.run(next).await;
                    Step::On(self)
                }
                None => Step::Done(self.then, self.settled),
            },
            Some(Event::Failed { failure }) => Step::Failed(failure, self.then, self.settled),
            Some(_) => Step::On(self),
            None => Step::Failed(Failure::new(FailureKind::Other, "the peer has stopped"), self.then, self.settled),
        }
    }
}
