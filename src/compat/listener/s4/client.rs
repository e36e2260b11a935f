//! Somebody's program while they are here: what happens to its resident is pushed to its own port, in order, and a program
//! that is not there any more is noticed.
//!
//! ```text
//! held (has not said where it listens) --greeted--> told --three pushes in a row fail, or silence--> its name leaves
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::{broadcast, mpsc};
use tokio::time::{MissedTickBehavior, interval};

use super::connection::{Connection, answers, push};
use super::login::{Session, listens_at};
use super::{Office, stand_in};
use crate::compat::dialect::s4;
use crate::compat::gateway::Departure;
use crate::compat::resident::{Mail, Resident};
use crate::peer::event::Event;
use crate::peer::failure::{Failure, FailureKind};
use crate::wire::ids::PeerName;

/// Answers that wait for a client; a client that asks more before it takes them is told no more.
const ORDERS_MAX: usize = 64;

/// How often a client is looked after.
const ROUND: Duration = Duration::from_secs(5);

/// A client says `HEY` every 20 or 30 s. One that says nothing for so long is looked for at its port.
const SILENCE_MAX: Duration = Duration::from_secs(90);

/// A client that has not said where it listens by now never will.
const HELD_MAX: Duration = Duration::from_secs(30);

/// Pushes in a row that fail before a client is taken for gone.
const FAILURES_MAX: u32 = 3;

/// How long somebody who asked for an address waits for it: as long as `connect` does.
const ASKED_FOR: Duration = Duration::from_secs(60);

/// People who may be waiting like that, and whose presence is remembered: more are no help to anybody who reads a terminal.
const PEOPLE_MAX: usize = 4_096;

/// Somebody's program, as the requests see it.
pub(super) struct Client {
    resident: Resident,
    orders: mpsc::Sender<Order>,
    heard: Mutex<Instant>,
    /// Who has asked for the address, and when.
    asked: Mutex<BTreeMap<PeerName, Instant>>,
    /// Held while something that it asked is done.
    busy: tokio::sync::Mutex<()>,
}

/// What the requests want done.
enum Order {
    /// It has said where it listens: its mail goes there.
    Greet,
    /// Pushes this.
    Tell(String),
}

/// Begins to attend to somebody; the future is to be run.
pub(super) fn attend(office: Arc<Office>, resident: Resident) -> (Arc<Client>, impl Future<Output = ()> + Send) {
    let (sender, orders) = mpsc::channel(ORDERS_MAX);
    let events = resident.events();
    // After a restart of the gateway it is known already.
    let is_greeted = listens_at(&resident).is_some();
    let client = Arc::new(Client {
        resident,
        orders: sender,
        heard: Mutex::new(Instant::now()),
        asked: Mutex::default(),
        busy: tokio::sync::Mutex::default(),
    });
    let attendant = Attendant {
        office,
        client: client.clone(),
        seen: BTreeSet::new(),
        failed_at: None,
        failures: 0,
        is_greeted,
        owes_mail: is_greeted,
    };
    (client, attendant.run(orders, events))
}

impl Client {
    /// Who it is.
    pub(super) fn resident(&self) -> &Resident {
        &self.resident
    }

    /// Whether it is this resident's, and not that of an earlier stay.
    pub(super) fn is_of(&self, resident: &Resident) -> bool {
        Arc::ptr_eq(&self.resident.0, &resident.0)
    }

    /// Waits until what it asked earlier is done.
    pub(super) async fn turn(&self, connection: &mut Connection) -> tokio::sync::MutexGuard<'_, ()> {
        let mut turn = pin!(self.busy.lock());
        // Takes its place among those who wait before the next connection can.
        let at_once = poll_fn(|context| Poll::Ready(turn.as_mut().poll(context))).await;
        connection.pass();
        match at_once {
            Poll::Ready(turn) => turn,
            Poll::Pending => turn.await,
        }
    }

    /// Notes that it has said something.
    pub(super) fn is_heard(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Pushes something, after everything before it.
    pub(super) fn tell(&self, payload: String) {
        self.order(Order::Tell(payload));
    }

    /// Begins to push: it has said where it listens.
    pub(super) fn greet(&self) {
        self.is_heard();
        self.order(Order::Greet);
    }

    fn order(&self, order: Order) {
        if self.orders.try_send(order).is_err() {
            tracing::debug!(name = %self.resident.name(), "a client is not told: it has too much to take");
        }
    }

    /// Whether somebody waits for the address; with programs that are not seen in a list, too.
    pub(super) fn is_asked_by(&self, name: &PeerName) -> bool {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.get(name).is_some_and(|at| at.elapsed() < ASKED_FOR)
    }

    fn note_asked(&self, name: &PeerName) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.retain(|_, at| at.elapsed() < ASKED_FOR);
        if asked.len() < PEOPLE_MAX {
            asked.insert(name.clone(), Instant::now());
        }
    }

    fn silence(&self) -> Duration {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

/// What tells one client what happens.
struct Attendant {
    office: Arc<Office>,
    client: Arc<Client>,
    /// Who was here when it was last said how they are: that somebody is away for a while is no news in this dialect.
    seen: BTreeSet<PeerName>,
    failed_at: Option<SocketAddr>,
    failures: u32,
    is_greeted: bool,
    owes_mail: bool,
}

impl Attendant {
    /// Until its resident is gone.
    async fn run(mut self, mut orders: mpsc::Receiver<Order>, mut events: broadcast::Receiver<Event>) {
        let resident = self.client.resident().clone();
        self.look_around(&mut events).await;
        let mut rounds = interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_there = true;
        while is_there && self.failures < FAILURES_MAX {
            tokio::select! {
                event = events.recv() => match event {
                    Ok(event) => self.take(event).await,
                    Err(broadcast::error::RecvError::Lagged(_)) => self.owes_mail = true,
                    Err(broadcast::error::RecvError::Closed) => break,
                },
                Some(order) = orders.recv() => match order {
                    Order::Greet => self.greet().await,
                    Order::Tell(payload) => drop(self.push(&payload).await),
                },
                _ = rounds.tick() => is_there = self.look_after().await,
                () = resident.gone() => break,
            }
        }
        if !resident.has_ended() {
            tracing::info!(name = %resident.name(), "a client of s4 is not there any more");
            if let Err(failure) = self.office.gateway.leave(resident.name(), Departure::Kept).await {
                tracing::warn!(name = %resident.name(), %failure, "not taken out");
            }
        }
        self.office.forget(&self.client);
    }

    /// Who is here already is no news.
    async fn look_around(&mut self, events: &mut broadcast::Receiver<Event>) {
        match self.client.resident().people().await {
            Ok(people) => self.seen.extend(people.into_iter().map(|person| person.name).take(PEOPLE_MAX)),
            Err(failure) => tracing::debug!(%failure, "not known who is here"),
        }
        let meanwhile: Vec<Event> = std::iter::from_fn(|| events.try_recv().ok()).collect();
        for event in meanwhile {
            // Whoever came while that was asked is in the list too.
            if let Event::Presence { name, online: true, is_news: true, .. } = &event {
                self.seen.remove(name);
            }
            self.take(event).await;
        }
    }

    async fn take(&mut self, event: Event) {
        match event {
            Event::Message { .. } => self.deliver_mail().await,
            Event::Announcement { from, text, .. } => {
                let payload = s4::message(&self.spelled(&from), &text);
                self.push(&payload).await;
            }
            Event::Presence { name, online, is_news, .. } => self.presence(name, online, is_news).await,
            Event::ConsentAsked { from, .. } => {
                self.client.note_asked(&from);
                let payload = s4::wants_address(&self.spelled(&from));
                self.push(&payload).await;
            }
            Event::ConsentAnswered { by, allowed: true } => self.tell_address(&by).await,
            Event::NotSent { to, failure, .. } => {
                let payload = self.why_not_sent(&to, failure);
                self.push(&payload).await;
            }
            // The dialect has no words for anything else.
            _ => {}
        }
    }

    async fn presence(&mut self, name: PeerName, online: bool, is_news: bool) {
        let spelled = self.spelled(&name);
        let has_changed =
            if online { self.seen.len() < PEOPLE_MAX && self.seen.insert(name) } else { self.seen.remove(&name) };
        if has_changed && is_news {
            let payload = if online { s4::logged_on(&spelled) } else { s4::offline(&spelled) };
            self.push(&payload).await;
        }
    }

    /// Somebody's own port when they have one in this dialect, else the one that stands for them.
    async fn tell_address(&mut self, of: &PeerName) {
        let at = match self.office.client(of) {
            Some(other) => listens_at(other.resident()),
            None => self.stand_in(of).await,
        };
        let spelled = self.spelled(of);
        let payload = match at {
            Some(at) => s4::address(&spelled, at),
            None => s4::notice(&format!(
                "{spelled} allows it, but has no address that this program can use: write a message"
            )),
        };
        self.push(&payload).await;
    }

    async fn stand_in(&self, name: &PeerName) -> Option<SocketAddr> {
        let session = Session::of(self.client.resident())?;
        let port = stand_in::port(&self.office, name).await?;
        Some(SocketAddr::new(session.here, port))
    }

    fn why_not_sent(&self, to: &PeerName, failure: Failure) -> String {
        if failure.kind == FailureKind::NotAccepted {
            return s4::NOT_ACCEPTED.to_owned();
        }
        s4::notice(&failure.about(self.spelled(to)).message)
    }

    fn spelled(&self, name: &PeerName) -> String {
        self.office.gateway.spelled(name)
    }

    /// A new session: what came meanwhile comes first, together.
    async fn greet(&mut self) {
        self.is_greeted = true;
        self.failures = 0;
        let mail = self.mail().await;
        let lines: Vec<String> = mail.iter().map(|mail| s4::message(&self.spelled(&mail.from), &mail.text)).collect();
        let mut done = 0;
        while done < lines.len() {
            let (payload, taken) = s4::while_away(&lines[done..]);
            if !self.deliver(&mail[done..done + taken], &payload).await {
                return;
            }
            done += taken;
        }
    }

    /// Everything that was not shown, oldest first, so that no event has to be trusted for it.
    async fn deliver_mail(&mut self) {
        if !self.is_greeted {
            return;
        }
        for mail in self.mail().await {
            let payload = s4::message(&self.spelled(&mail.from), &mail.text);
            if !self.deliver(std::slice::from_ref(&mail), &payload).await {
                return;
            }
        }
        self.owes_mail = false;
    }

    async fn mail(&self) -> Vec<Mail> {
        self.client.resident().mail().await.unwrap_or_else(|failure| {
            tracing::warn!(name = %self.client.resident().name(), %failure, "mail cannot be read");
            Vec::new()
        })
    }

    /// Pushes messages, which count as shown only then; else they stay mail.
    async fn deliver(&mut self, mail: &[Mail], payload: &str) -> bool {
        let resident = self.client.resident().clone();
        for mail in mail {
            if let Err(failure) = resident.begin_showing(mail.id).await {
                tracing::warn!(name = %resident.name(), %failure, "a message is not noted as shown");
            }
        }
        self.owes_mail = !self.push(payload).await;
        if self.owes_mail {
            return false;
        }
        for mail in mail {
            if let Err(failure) = resident.shown(mail.id).await {
                tracing::warn!(name = %resident.name(), %failure, "a message will be shown again");
            }
        }
        true
    }

    /// Pushes a frame; whether the client has it.
    async fn push(&mut self, payload: &str) -> bool {
        // Who has not said where it listens is told when it has.
        let Some(at) = listens_at(self.client.resident()) else { return false };
        let result = push(&self.office.gateway, at, payload).await;
        if self.failed_at != Some(at) {
            self.failures = 0;
        }
        match result {
            Ok(()) => self.failures = 0,
            Err(error) => {
                tracing::debug!(name = %self.client.resident().name(), %at, %error, "not pushed");
                self.failed_at = Some(at);
                self.failures += 1;
            }
        }
        self.failures == 0
    }

    /// Tries again what did not go, and looks for a client that has been silent. Whether it is there.
    async fn look_after(&mut self) -> bool {
        if self.owes_mail {
            self.deliver_mail().await;
        }
        let silence = self.client.silence();
        match listens_at(self.client.resident()) {
            None => silence < HELD_MAX,
            Some(_) if silence < SILENCE_MAX => true,
            Some(at) if answers(at).await => {
                self.client.is_heard();
                true
            }
            Some(_) => false,
        }
    }
}
