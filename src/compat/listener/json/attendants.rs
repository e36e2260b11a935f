//! Each name that is here has an attendant: a task that tells its owner what happens, and notices when they are gone.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinSet;

use super::entrance::address_of;
use super::pushes::{Acknowledged, Desk};
use super::{Shared, uploads};
use crate::compat::dialect::json::Keys;
use crate::compat::dialect::json::answer::{Answer, room_for_text};
use crate::compat::dialect::json::chunks::cut;
use crate::compat::gateway::Gateway;
use crate::compat::resident::{Mail, Resident};
use crate::compat::settings::Dialect;
use crate::peer::event::Event;
use crate::peer::failure::Failure;
use crate::peer::rows::WhyClosed;
use crate::wire::ids::PeerName;
use crate::wire::people::FriendAnswer;

/// Words for an attendant that wait; more are dropped, as the network might have.
const WORDS_MAX: usize = 64;

/// What an attendant hears of its name's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// They have sent something.
    Spoke,
    /// They have got the message of this number.
    Acknowledged(u64),
    /// They have files for others.
    Promised,
}

/// Who attends to whom.
#[derive(Debug, Default)]
pub(super) struct Attendants(Mutex<HashMap<PeerName, (Resident, Sender<Heard>)>>);

impl Attendants {
    /// Makes a place for a name's attendant, unless it has one.
    pub(super) fn begin(&self, resident: &Resident) -> Option<Receiver<Heard>> {
        let mut all = self.all();
        if let Some((attended, words)) = all.get(resident.name())
            && attended.is_same(resident)
            && !words.is_closed()
        {
            return None;
        }
        let (words, heard) = mpsc::channel(WORDS_MAX);
        all.insert(resident.name().clone(), (resident.clone(), words));
        Some(heard)
    }

    /// Tells those who are reached at an address that they were heard.
    pub(super) fn spoke(&self, gateway: &Gateway, from: SocketAddr) {
        self.tell_at(gateway, from, Heard::Spoke);
    }

    /// Tells them that they have got a message.
    pub(super) fn acknowledged(&self, gateway: &Gateway, from: SocketAddr, number: u64) {
        self.tell_at(gateway, from, Heard::Acknowledged(number));
    }

    /// Tells a name's attendant that there are files to be fetched.
    pub(super) fn promised(&self, name: &PeerName) {
        self.tell(name, Heard::Promised);
    }

    fn tell_at(&self, gateway: &Gateway, from: SocketAddr, word: Heard) {
        for resident in gateway.residents_at(Dialect::Json, from.ip()) {
            if address_of(&resident) == Some(SocketAddr::new(from.ip().to_canonical(), from.port())) {
                self.tell(resident.name(), word);
            }
        }
    }

    fn tell(&self, name: &PeerName, word: Heard) {
        if let Some((_, words)) = self.all().get(name)
            && let Err(error) = words.try_send(word)
        {
            tracing::debug!(%name, %error, "an attendant has enough to do");
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<PeerName, (Resident, Sender<Heard>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, resident: &Resident) {
        let mut all = self.all();
        if all.get(resident.name()).is_some_and(|(attended, _)| attended.is_same(resident)) {
            all.remove(resident.name());
        }
    }
}

/// Attends to a name for as long as it is here.
pub(super) async fn attend(shared: Arc<Shared>, resident: Resident, heard: Receiver<Heard>) {
    let mut bringing = JoinSet::new();
    let wake = Arc::new(uploads::Wake::default());
    bringing.spawn(uploads::bring_all(shared.clone(), resident.clone(), wake.clone()));
    let attendant = Attendant { desk: Desk::new(Instant::now()), has_mail: true, shared, resident, wake };
    attendant.live(heard).await;
}

struct Attendant {
    shared: Arc<Shared>,
    resident: Resident,
    desk: Desk,
    /// Whether there may be a message that was not shown.
    has_mail: bool,
    wake: Arc<uploads::Wake>,
}

impl Attendant {
    async fn live(mut self, mut heard: Receiver<Heard>) {
        let mut events = self.resident.events();
        loop {
            self.fill().await;
            self.send_due();
            let wake_at = tokio::time::Instant::from_std(self.desk.wake_at());
            tokio::select! {
                event = events.recv() => match event {
                    Ok(event) => self.note(event),
                    Err(RecvError::Lagged(_)) => self.has_mail = true,
                    Err(RecvError::Closed) => break,
                },
                Some(word) = heard.recv() => self.hear(word).await,
                () = tokio::time::sleep_until(wake_at) => {}
                () = self.resident.gone() => break,
            }
            if self.desk.is_gone(Instant::now()) {
                self.let_go().await;
                break;
            }
        }
        self.shared.attendants.end(&self.resident);
    }

    /// Begins with what is next, when nothing is on its way.
    async fn fill(&mut self) {
        let now = Instant::now();
        self.desk.probe(now);
        if !self.desk.is_idle() || self.desk.begin_notice(self.shared.next_number(), now) || !self.has_mail {
            return;
        }
        match self.next_mail().await {
            Ok(Some(mail)) => {
                let parts = parts_of(&mail, &self.shared.gateway.spelled(&mail.from));
                self.desk.begin_mail(parts, mail.id, self.shared.next_number(), now);
            }
            Ok(None) => self.has_mail = false,
            // The next word or event tries again.
            Err(failure) => tracing::warn!(name = %self.resident.name(), %failure, "mail cannot be shown"),
        }
    }

    async fn next_mail(&self) -> Result<Option<Mail>, Failure> {
        for mail in self.resident.mail().await? {
            if self.resident.begin_showing(mail.id).await? {
                return Ok(Some(mail));
            }
        }
        Ok(None)
    }

    fn send_due(&mut self) {
        if let Some((message, number)) = self.desk.due(Instant::now())
            && let Some(address) = address_of(&self.resident)
        {
            self.shared.send_to(address, None, &message.print(Keys::default(), Some(&number.into())));
        }
    }

    async fn hear(&mut self, word: Heard) {
        match word {
            Heard::Spoke => {
                self.has_mail |= self.desk.spoke(Instant::now());
                self.wake.spoke();
            }
            Heard::Promised => self.wake.promised(),
            Heard::Acknowledged(number) => self.acknowledge(number).await,
        }
    }

    async fn acknowledge(&mut self, number: u64) {
        let next = self.shared.next_number();
        let Acknowledged::Part { part, mail } = self.desk.acknowledged(number, next, Instant::now()) else { return };
        if let Some(address) = address_of(&self.resident) {
            let printed = part.print(Keys::default(), Some(&number.into()));
            self.shared.gateway.door.has_got(address, printed.len());
        }
        if let Some(id) = mail
            && let Err(failure) = self.resident.shown(id).await
        {
            tracing::warn!(name = %self.resident.name(), %failure, "a message may be shown again");
        }
    }

    /// Takes out whoever has not been heard for long: what comes for them waits.
    async fn let_go(&self) {
        let name = self.resident.name();
        tracing::info!(%name, "a legacy name is silent");
        if let Err(failure) = self.shared.gateway.leave(name, self.shared.departure(name)).await {
            tracing::warn!(%name, %failure, "a legacy name does not leave");
        }
    }

    fn note(&mut self, event: Event) {
        self.has_mail |= matches!(event, Event::Message { .. });
        let spelled = |name: &PeerName| self.shared.gateway.spelled(name);
        if let Some(notice) = notice_of(&event, spelled) {
            self.desk.notice(notice);
        } else if let Event::ConsentAnswered { by, allowed: true } = &event {
            let (ip, udp) = self.shared.address_told_of(by);
            let told = Answer::new("ADR").with("name", self.shared.gateway.spelled(by));
            self.desk.notice(told.with("ip", ip.to_string()).with("udp", udp));
        } else if let Event::Announcement { from, id, sent_at, text, .. } = event {
            let mail = Mail { from, id, sent_at, text };
            for part in parts(Answer::new("BRD"), &mail, &self.shared.gateway.spelled(&mail.from)) {
                self.desk.notice(part);
            }
        }
    }
}

/// What its owner is told of an event, if it is one that needs no look at anything else.
fn notice_of(event: &Event, spelled: impl Fn(&PeerName) -> String) -> Option<Answer> {
    let about = |kind, name: &PeerName| Answer::new(kind).with("name", spelled(name));
    let notice = match event {
        Event::Presence { name, online, is_news: true, .. } => about("PRESENCE", name).with("online", *online),
        Event::FriendAsked { from, .. } => about("FRIEND", from),
        Event::FriendAnswered { by, answer } => match answer {
            FriendAnswer::Accepted => about("CONFIRM", by),
            FriendAnswer::Busy => about("BUSY", by),
            FriendAnswer::Declined => about("FRIEND-DENIED", by).with("reason", "they do not want it"),
            FriendAnswer::Ended => about("FRIEND-DENIED", by).with("reason", "they are friends no longer"),
        },
        Event::ConsentAsked { from, .. } => about("GET", from),
        Event::ConsentAnswered { by, allowed: false } => about("GET-DENIED", by).with("reason", "they do not want it"),
        Event::ExclusiveOpened { with, by } if with == by => about("OPEN_SESSION", with),
        Event::ExclusiveClosed { why: WhyClosed::Here, .. } => return None,
        Event::ExclusiveClosed { with, .. } => about("CLOSE_SESSION", with),
        Event::NotSent { to, failure, .. } => about("SEND-DENIED", to).with("reason", short(&failure.message)),
        _ => return None,
    };
    Some(notice)
}

fn short(text: &str) -> Option<String> {
    cut(text, 600).into_iter().next()
}

fn parts_of(mail: &Mail, from: &str) -> Vec<Answer> {
    parts(Answer::new("MSG"), mail, from)
}

/// A message in as many datagrams as it needs. Each has its id, by which a program knows one that came twice.
fn parts(message: Answer, mail: &Mail, from: &str) -> Vec<Answer> {
    let head = message.with("from", from).with("id", mail.id.to_string()).with("sent_at", mail.sent_at.0);
    // The numbers of the parts are short beside that: a text has 15 KiB at most.
    let room = room_for_text(&head, Keys::default(), Some(&u64::MAX.into())).saturating_sub(32);
    let texts = cut(&mail.text, room);
    let count = texts.len();
    let part = |(index, text): (usize, String)| {
        let part = head.clone().with("text", text);
        if count == 1 { part } else { part.with("part", index).with("parts", count) }
    };
    texts.into_iter().enumerate().map(part).collect()
}
