//! What a person says about transfers: begin, list, cancel, pause, resume. `transfer_keeper.rs` owns those that come here,
//! `uploads.rs` knows those that go.

use tokio::sync::{mpsc, oneshot, watch};

use super::commands::Rows;
use super::context::Context;
use super::download::Wanted;
use super::event::Event;
use super::failure::{Failure, FailureKind};
use super::offers::several_fit;
use super::rows::{Direction, TransferRow, TransferState};
use super::transfer_steps::{Ask, Begin, Keep, Step, Steps};
use super::{messages, uploads};
use crate::seal::random::{self, OsRandom};
use crate::storage::shares;
use crate::wire::ids::{FileDigest, MessageId, PeerName, TransferId};
use crate::wire::message::Body;

/// By which commands talk to the keeper of transfers.
#[derive(Debug)]
pub(super) struct Transfers {
    asks: mpsc::Sender<Ask>,
    /// What goes from here.
    pub(super) uploads: uploads::Uploads,
}

/// Questions that wait for the keeper: each is answered without waiting for anybody but the disk.
const ASKS_MAX: usize = 64;

impl Transfers {
    pub(super) fn new() -> (Self, mpsc::Receiver<Ask>) {
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        (Self { asks, uploads: uploads::Uploads::default() }, asked)
    }

    /// Asks the keeper, and waits for the answer.
    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, Failure> {
        let stopped = || Failure::new(FailureKind::Other, "the peer has stopped");
        let (answer, answered) = oneshot::channel();
        self.asks.send(question(answer)).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())
    }

    /// Begins a transfer without following it.
    pub(super) async fn begin(&self, begin: Begin) -> Result<watch::Receiver<Steps>, Failure> {
        self.ask(|answer| Ask::Begin(Box::new(begin), answer)).await?
    }

    /// Ends the transfer of an offer that whoever made it has taken back.
    pub(super) async fn withdrawn(&self, offer: MessageId, by: PeerName) -> Result<(), Failure> {
        self.ask(|answer| Ask::Withdrawn { offer, by, answer }).await
    }

    /// Ends a transfer, and removes what has come of it.
    pub(super) async fn cancel(&self, id: TransferId) -> Result<TransferRow, Failure> {
        self.ask(|answer| Ask::Cancel(id, answer)).await?
    }

    /// What is on its way here.
    pub(super) async fn incoming(&self) -> Result<Vec<TransferRow>, Failure> {
        self.ask(Ask::List).await
    }
}

/// Receives a file, and reports how that goes until it is here, fails, or has to wait for somebody who is away.
pub(super) async fn run(context: &Context, wanted: Wanted, keep: Keep, rows: &Rows) -> Result<(), Failure> {
    let steps = context.traffic.begin(Begin { wanted, keep }).await?;
    follow(steps, rows).await
}

/// Reports how a transfer goes. It goes on when nobody reads that any more.
async fn follow(mut steps: watch::Receiver<Steps>, rows: &Rows) -> Result<(), Failure> {
    let mut told = 0;
    let mut waited_for = None;
    loop {
        let Steps { news, step } = steps.borrow_and_update().clone();
        for event in news.iter().skip(told) {
            rows.row(event.clone()).await;
        }
        told = news.len();
        match step {
            Step::Moves(progress) => {
                if let Some(progress) = progress {
                    rows.hint(progress);
                }
            }
            Step::Waits { row, is_for_long } => {
                let failure = waits(&row);
                if waited_for.as_ref() != Some(&row.reason) {
                    waited_for = Some(row.reason.clone());
                    rows.row(Event::changed(*row)).await;
                }
                if is_for_long {
                    return Err(failure);
                }
            }
            Step::Received(event) => {
                rows.row(*event).await;
                return Ok(());
            }
            Step::Ended(failure) => return Err(failure),
        }
        tokio::select! {
            changed = steps.changed() => {
                changed.map_err(|_| Failure::new(FailureKind::Other, "the peer has stopped"))?;
            }
            () = rows.left() => return Ok(()),
        }
    }
}

/// What is said when a command does not wait any longer, but the peer does.
fn waits(row: &TransferRow) -> Failure {
    let reason = row.reason.as_deref().unwrap_or("it is not its turn yet");
    Failure::new(FailureKind::Partial, format!("{} waits: {reason}", row.name))
        .hint(format!("your peer goes on with it by itself: `transfers` shows it, `cancel {:.8}` ends it", row.id))
}

/// Lists what is on its way.
pub(super) async fn list(context: &Context, rows: &Rows) -> Result<(), Failure> {
    for row in all(context).await? {
        rows.row(Event::Transfer(Box::new(row))).await;
    }
    Ok(())
}

async fn all(context: &Context) -> Result<Vec<TransferRow>, Failure> {
    let mut all = context.traffic.incoming().await?;
    all.extend(context.traffic.uploads.rows());
    Ok(all)
}

/// Ends a transfer, or takes an offer back.
pub(super) async fn cancel(context: &Context, which: &str, rows: &Rows) -> Result<(), Failure> {
    let open = all(context).await?;
    let named = |row: &&TransferRow| is_named(row, which);
    if !which.is_empty() && !open.iter().any(|row| named(&row)) {
        let row = withdraw_named(context, which).await?;
        tell_all(context, row, rows).await;
        return Ok(());
    }
    let row = choose(open, which)?;
    let ended = match row.direction {
        Direction::In => context.traffic.cancel(row.id).await?,
        Direction::Out => stop_sending(context, row).await?,
    };
    tell_all(context, ended, rows).await;
    Ok(())
}

/// Tells what somebody did to a transfer also to all faces: another command follows it or waits for its outcome.
async fn tell_all(context: &Context, row: TransferRow, rows: &Rows) {
    context.tell(Event::changed(row.clone()));
    rows.row(Event::changed(row)).await;
}

/// Lets what comes here wait.
pub(super) async fn pause(context: &Context, which: &str, rows: &Rows) -> Result<(), Failure> {
    let id = incoming(choose(all(context).await?, which)?, "paused")?;
    let row = context.traffic.ask(|answer| Ask::Pause(id, answer)).await??;
    tell_all(context, row, rows).await;
    Ok(())
}

/// Goes on with it, and follows it.
pub(super) async fn resume(context: &Context, which: &str, rows: &Rows) -> Result<(), Failure> {
    let id = incoming(choose(all(context).await?, which)?, "resumed")?;
    let keep = Keep::by(context);
    let steps = context.traffic.ask(|answer| Ask::Resume(id, keep, answer)).await??;
    follow(steps, rows).await
}

/// Only whoever receives a file can say when it goes on.
fn incoming(row: TransferRow, done: &str) -> Result<TransferId, Failure> {
    match row.direction {
        Direction::In => Ok(row.id),
        Direction::Out => Err(Failure::new(
            FailureKind::Usage,
            format!("{} goes from here: only what comes to you can be {done}", row.name),
        )
        .hint(format!("`cancel {:.8}` ends it", row.id))),
    }
}

/// The transfer that a person means: by the beginning of its id, by its name, or the only one.
fn choose(mut open: Vec<TransferRow>, which: &str) -> Result<TransferRow, Failure> {
    open.retain(|row| is_named(row, which));
    let usage = |text: String| Failure::new(FailureKind::Usage, text);
    match (open.len(), open.pop()) {
        (1, Some(row)) => Ok(row),
        (0, _) if which.is_empty() => Err(usage("no transfer is under way".to_owned())),
        (0, _) => Err(no_transfer(which)),
        _ => Err(usage("more than one transfer fits".to_owned())
            .hint("name one by the beginning of its id: `transfers` lists them")),
    }
}

fn is_named(row: &TransferRow, which: &str) -> bool {
    row.name.as_str() == which || row.id.to_string().starts_with(which)
}

fn no_transfer(which: &str) -> Failure {
    Failure::new(FailureKind::Usage, format!("no transfer or offer of yours has an id that begins with {which:?}"))
        .hint("`transfers` and `offers` list them")
}

/// Stops sending something: of an offer there is nothing left then, a published file may be asked for again later.
async fn stop_sending(context: &Context, row: TransferRow) -> Result<TransferRow, Failure> {
    if let Some(offer) = row.offer
        && let Some(ended) = withdraw(context, offer).await?
    {
        return Ok(TransferRow { done: row.done, ..ended });
    }
    context.traffic.uploads.take_back(|id, _, _| id == row.id);
    Ok(TransferRow { state: TransferState::Cancelled, via: None, ..row })
}

/// Takes back the offer of ours that a person means.
async fn withdraw_named(context: &Context, which: &str) -> Result<TransferRow, Failure> {
    let mut offered = shares::offered(context.database()).await?;
    offered.retain(|open| open.share.name.as_str() == which || open.offer.to_string().starts_with(which));
    match (offered.len(), offered.pop()) {
        (1, Some(open)) => withdraw(context, open.offer).await?.ok_or_else(|| no_transfer(which)),
        (0, _) => Err(no_transfer(which)),
        (_, last) => Err(several_fit(offered.iter().chain(&last).map(|open| (open.offer, open.share.name.as_str())))),
    }
}

/// Takes an offer back: it is served no more, and its recipient is told. `None` when there is no such one.
async fn withdraw(context: &Context, offer: MessageId) -> Result<Option<TransferRow>, Failure> {
    let mut own = shares::offered(context.database()).await?;
    own.retain(|open| open.offer == offer);
    let Some(open) = own.pop() else { return Ok(None) };
    shares::remove_offered(context.database(), offer, open.recipient).await?;
    let id = TransferId::from_bytes(*offer.as_bytes());
    context.traffic.uploads.take_back(|upload, _, _| upload == id);
    let (size, files) = (open.share.place().1.bytes(), open.share.kind().files());
    let name = open.share.name;
    let body = Body::OfferWithdrawn { offer, name: name.clone() };
    let message = MessageId::from_bytes(random::array(&mut OsRandom));
    let mut events = context.events.subscribe();
    messages::send(context, &open.to, message, body, &mut events).await?;
    Ok(Some(TransferRow {
        id,
        direction: Direction::Out,
        name,
        with: vec![open.to],
        size,
        files,
        done: 0,
        state: TransferState::Cancelled,
        reason: None,
        via: None,
        offer: Some(offer),
        is_news: true,
    }))
}

/// Ends what is being sent of a file to those who may not have it any more, because it was taken back.
pub(super) async fn end_unshared(context: &Context, digest: FileDigest) -> Result<(), Failure> {
    for taker in context.traffic.uploads.takers(digest) {
        if shares::fetchable(context.database(), digest, taker).await?.is_empty() {
            for row in context.traffic.uploads.take_back(|_, of, to| (of, to) == (digest, taker)) {
                context.tell(Event::changed(row));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ids::FileName;

    fn row(first: u8, name: &str, direction: Direction) -> TransferRow {
        let mut id = [0; 16];
        id[0] = first;
        TransferRow {
            id: TransferId::from_bytes(id),
            direction,
            name: FileName::parse(name).unwrap(),
            with: vec![PeerName::parse("bob").unwrap()],
            size: 7,
            files: None,
            done: 3,
            state: TransferState::Running,
            reason: None,
            via: None,
            offer: None,
            is_news: false,
        }
    }

    #[test]
    fn a_transfer_is_named_by_its_id_its_name_or_as_the_only_one() {
        let open = || vec![row(0x12, "a", Direction::In), row(0x13, "b c", Direction::Out)];
        assert_eq!(choose(open(), "12").unwrap().name.as_str(), "a");
        assert_eq!(choose(open(), "b c").unwrap().name.as_str(), "b c");
        assert_eq!(choose(open().split_off(1), "").unwrap().name.as_str(), "b c");
        for (which, says) in [("1", "more than one"), ("", "more than one"), ("2", "begins with \"2\"")] {
            let failure = choose(open(), which).unwrap_err();
            assert!(failure.message.contains(says) && failure.hint.is_some(), "{failure:?}");
        }
        assert_eq!(choose(Vec::new(), "").unwrap_err().message, "no transfer is under way");
    }

    #[test]
    fn only_what_comes_here_can_be_paused() {
        assert!(incoming(row(1, "a", Direction::In), "paused").is_ok());
        let failure = incoming(row(1, "a", Direction::Out), "paused").unwrap_err();
        assert_eq!(failure.message, "a goes from here: only what comes to you can be paused");
    }
}
