//! Pushes to one session: what became of its messages, the envelopes that wait for its account, and who comes and goes.
//! What waits is forgotten only after the peer has it on disk.
//!
//! ```text
//! woken --> receipts, 64 at a time --> messages that came back --> envelopes, one at a time --> drained --> until woken
//!              ^                                                       |
//!              `------------- woken meanwhile: news goes first --------'
//! ```
//! `protocol::mailbox` decides which envelope is next. Nothing is pushed to a session while another one is to get it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};

use super::hints::Hint;
use super::registry::{Session, Waits};
use super::session::is_violation;
use super::shared::Shared;
use super::store::{Returned, StoreError, Waiting, WaitingReceipt};
use crate::clock::now_millis;
use crate::protocol::mailbox::{Answer, Collection, Step, is_receipt_for};
use crate::seal::receipt;
use crate::wire::directory::{DirectoryPush, PushAnswer, PushReply};
use crate::wire::ids::{PeerName, PrekeyId};
use crate::wire::limits::RECEIPTS_PER_FRAME_MAX;
use crate::wire::message::SignedReceipt;
use crate::wire::refusal::CloseCode;

/// Returned messages read from the store at a time.
const RETURNED_BATCH: usize = 8;

/// How long a session is left alone that could not take a push, or that the store could not serve.
const PAUSE: Duration = Duration::from_secs(5);

/// Why a session gets no push now.
enum Stop {
    /// Nothing waits for it, or another session is the one to get it.
    UntilWoken,
    /// It cannot take the next one now, or the store cannot bring it: a disk is full, perhaps.
    ForAWhile,
    /// It did not take a push as it must, so it gets no more.
    NotTaken,
}

/// What waits for one account, on its way to one session.
struct Post<'a> {
    shared: &'a Shared,
    session: &'a Session,
    collection: Collection,
    /// The envelope that [`Step::Push`] is about.
    found: Option<Waiting>,
    /// What the session left stays in the store, and is pushed again to the next session only.
    after_receipt: i64,
    after_returned: i64,
}

/// Pushes an account's mailbox to a session for as long as that is the one to get it; ends with its connection. Never
/// cut off, so that a sender whose receipt was kept is woken.
pub(super) async fn push_mailbox(shared: Arc<Shared>, session: Arc<Session>, turn: Arc<Mutex<()>>) {
    let mut post = Post::new(&shared, &session);
    loop {
        let held = tokio::select! {
            held = turn.lock() => held,
            _ = session.connection.closed() => return,
        };
        // In a box, so that a session which nobody writes to does not hold what pushing needs.
        let stop = Box::pin(post.push_all()).await;
        drop(held);
        let pause = async {
            match stop {
                Stop::UntilWoken => session.mail.notified().await,
                Stop::ForAWhile => tokio::time::sleep(PAUSE).await,
                Stop::NotTaken => std::future::pending().await, // its connection is being closed
            }
        };
        tokio::select! {
            () = pause => post.collection.rested(), // what was found before may be gone
            _ = session.connection.closed() => return,
        }
    }
}

/// Pushes what else a session is told, in order, until its connection ends.
pub(super) async fn push_news(
    shared: Arc<Shared>,
    session: Arc<Session>,
    mut queue: mpsc::Receiver<Arc<DirectoryPush>>,
) {
    loop {
        let pushed = tokio::select! {
            biased;
            _ = session.connection.closed() => return,
            news = queue.recv() => match news {
                Some(news) => push(&session, &news).await,
                None => return,
            },
            hint = session.hints.next() => match hint {
                Hint::Announcement(news) => push(&session, &news).await,
                Hint::Presence(name) => {
                    let presence = shared.registry.presence_to(&session.name, &name);
                    push(&session, &DirectoryPush::Presence { name, presence }).await
                }
            },
        };
        if pushed.is_err() {
            return;
        }
    }
}

impl<'a> Post<'a> {
    fn new(shared: &'a Shared, session: &'a Session) -> Self {
        let collection = Collection::default();
        Self { shared, session, collection, found: None, after_receipt: 0, after_returned: 0 }
    }

    /// Pushes one thing after the other, and says why it stopped.
    async fn push_all(&mut self) -> Stop {
        loop {
            if let Err(stop) = self.push_next().await {
                return stop;
            }
        }
    }

    async fn push_next(&mut self) -> Result<(), Stop> {
        self.check_turn()?;
        if self.is_woken().await {
            self.collection.mail_came();
        }
        self.push_what_is_new().await?;
        match self.collection.step() {
            Step::Wait => Err(Stop::UntilWoken),
            Step::Rest => Err(Stop::ForAWhile),
            Step::Look { after } => self.look(after).await,
            Step::Push { .. } => self.push_envelope().await,
            Step::TellDrained { prekey } => self.tell_drained(prekey).await,
        }
    }

    fn check_turn(&self) -> Result<(), Stop> {
        let is_collector = self.shared.registry.collects(self.session);
        if is_collector { Ok(()) } else { Err(Stop::UntilWoken) }
    }

    /// Whether it was woken since this was asked last.
    async fn is_woken(&self) -> bool {
        tokio::select! {
            biased;
            () = self.session.mail.notified() => true,
            () = std::future::ready(()) => false,
        }
    }

    /// Pushes receipts and returned messages, if any came since. Costs no look into the store when not.
    async fn push_what_is_new(&mut self) -> Result<(), Stop> {
        if !self.session.news.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let pushed = async {
            self.push_receipts().await?;
            self.push_returned().await
        };
        pushed.await.inspect_err(|_| self.session.news.store(true, Ordering::Release)) // it is looked for again
    }

    async fn push_receipts(&mut self) -> Result<(), Stop> {
        loop {
            self.check_turn()?;
            let batch =
                self.shared.store.receipts(&self.session.name, self.after_receipt, RECEIPTS_PER_FRAME_MAX).await;
            let batch = batch.map_err(|error| self.not_served("receipts not read", &error))?;
            let Some(last) = batch.last().map(|waiting| waiting.number) else { return Ok(()) };
            self.push_receipt_batch(batch).await?;
            self.after_receipt = last;
        }
    }

    async fn push_receipt_batch(&self, batch: Vec<WaitingReceipt>) -> Result<(), Stop> {
        let name = &self.session.name;
        let (numbers, receipts): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.number, waiting.receipt)).unzip();
        let count = numbers.len();
        if self.is_taken(&DirectoryPush::Receipts(receipts)).await? {
            if let Err(error) = self.shared.store.delete_receipts(numbers).await {
                // They come again in the next session, where they are no news.
                tracing::error!(peer = %name, %error, "receipts not deleted");
            }
        } else {
            tracing::debug!(peer = %name, count, "receipts left");
        }
        Ok(())
    }

    /// Tells the sender which messages will not arrive.
    async fn push_returned(&mut self) -> Result<(), Stop> {
        loop {
            let batch = self.shared.store.returned(&self.session.name, self.after_returned, RETURNED_BATCH).await;
            let batch = batch.map_err(|error| self.not_served("returned messages not read", &error))?;
            if batch.is_empty() {
                return Ok(());
            }
            for returned in batch {
                self.check_turn()?;
                let number = returned.number;
                self.push_one_returned(returned).await?;
                self.after_returned = number;
            }
        }
    }

    async fn push_one_returned(&self, returned: Returned) -> Result<(), Stop> {
        let Returned { number, to, id, refusal } = returned;
        let name = &self.session.name;
        if self.is_taken(&DirectoryPush::Returned { to, id, refusal }).await? {
            if let Err(error) = self.shared.store.delete_returned(number).await {
                // Its sender is told again in the next session, and knows it by its id.
                tracing::error!(peer = %name, number, %error, "returned message not deleted");
            }
        } else {
            tracing::debug!(peer = %name, number, "returned message left");
        }
        Ok(())
    }

    async fn look(&mut self, after: i64) -> Result<(), Stop> {
        let next = self.shared.store.next_waiting(&self.session.name, after).await;
        let (waiting, prekey) = next.map_err(|error| self.not_served("mailbox not read", &error))?;
        self.collection.found(waiting.as_ref().map(|waiting| waiting.number), prekey);
        self.found = waiting;
        Ok(())
    }

    async fn push_envelope(&mut self) -> Result<(), Stop> {
        let Some(Waiting { number, delivery }) = self.found.take() else {
            self.collection.rested();
            return Ok(());
        };
        let (from, name) = (delivery.from.clone(), &self.session.name);
        let push = DirectoryPush::Delivery(Box::new(delivery));
        let answer = match self.push(&push).await? {
            Ok(PushReply::Receipt(signed)) => {
                self.check_receipt(&signed, &push)?;
                self.hand_over(number, &from, *signed).await
            }
            Ok(PushReply::Left) => {
                tracing::debug!(peer = %name, number, "envelope left");
                Answer::Left
            }
            Err(refusal) => {
                tracing::debug!(peer = %name, number, %refusal, "envelope refused");
                Answer::Refused
            }
            Ok(PushReply::Taken | PushReply::Candidates(_)) => return Err(self.violated()),
        };
        self.collection.answered(answer);
        Ok(())
    }

    /// Nobody but the recipient of the envelope can speak for it, and of this one only.
    fn check_receipt(&self, signed: &SignedReceipt, push: &DirectoryPush) -> Result<(), Stop> {
        if let DirectoryPush::Delivery(delivery) = push
            && is_receipt_for(&signed.receipt, &delivery.envelope)
            && receipt::verify(signed).is_ok()
        {
            return Ok(());
        }
        Err(self.violated())
    }

    async fn hand_over(&self, number: i64, from: &PeerName, signed: SignedReceipt) -> Answer {
        if let Err(error) = self.shared.store.hand_over(number, from, signed, now_millis()).await {
            // Its recipient gets it again, and knows it by its id.
            tracing::error!(peer = %self.session.name, number, %error, "receipt not kept");
            return Answer::Refused;
        }
        self.shared.registry.wake(from, Waits::News);
        Answer::Receipt
    }

    async fn tell_drained(&mut self, prekey: Option<PrekeyId>) -> Result<(), Stop> {
        self.is_taken(&DirectoryPush::Drained { prekey }).await?;
        self.collection.told();
        Ok(())
    }

    /// Pushes what is taken or left; refused, it comes again after a pause, before anything later.
    async fn is_taken(&self, push: &DirectoryPush) -> Result<bool, Stop> {
        match self.push(push).await? {
            Ok(PushReply::Taken) => Ok(true),
            Ok(PushReply::Left) => Ok(false),
            Ok(PushReply::Candidates(_) | PushReply::Receipt(_)) => Err(self.violated()),
            Err(refusal) => {
                tracing::debug!(peer = %self.session.name, %refusal, "push refused");
                Err(Stop::ForAWhile)
            }
        }
    }

    async fn push(&self, news: &DirectoryPush) -> Result<PushAnswer, Stop> {
        push(self.session, news).await.map_err(|NotTaken| Stop::NotTaken)
    }

    fn violated(&self) -> Stop {
        self.session.connection.close(CloseCode::BadFrame);
        Stop::NotTaken
    }

    fn not_served(&self, what: &'static str, error: &StoreError) -> Stop {
        tracing::error!(peer = %self.session.name, %error, "{what}");
        Stop::ForAWhile
    }
}

/// The session did not take a push as it must.
struct NotTaken;

/// Sends one push; a session that does not answer it properly is closed, which changes nothing when it has ended.
async fn push(session: &Session, push: &DirectoryPush) -> Result<PushAnswer, NotTaken> {
    session.connection.request(push).await.map_err(|error| {
        tracing::debug!(peer = %session.name, %error, "push not taken");
        session.connection.close(if is_violation(&error) { CloseCode::BadFrame } else { CloseCode::TooSlow });
        NotTaken
    })
}
