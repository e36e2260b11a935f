//! Somebody with a program of this kind who is here: it is told of everybody in tables, and of what is said to them one
//! message at a time.
//!
//! ```text
//! message --send, 3 tries--> ACK: shown
//!                       \--> none: gone; the message is mail for `reg`
//! change --100 ms--> table, when it is another one and may be sent
//! ```

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use super::people::stand_in;
use super::post::{Post, fresh_number};
use super::room::{Announcement, Extra, Room, Welcome};
use super::table;
use crate::compat::dialect::s3::{self, Letter, Uuid};
use crate::compat::resident::{Mail, Resident};
use crate::compat::settings::Dialect;
use crate::peer::event::Event;
use crate::peer::failure::Failure;
use crate::wire::ids::{MessageId, PeerName};

/// How often a message is sent, and how long each is waited for: as the originals among themselves.
const TRIES: usize = 3;
const ACK_PATIENCE: Duration = Duration::from_millis(500);

/// Changes that come together make one table.
const TABLE_AFTER: Duration = Duration::from_millis(100);

/// Then none for so long, which makes two in a second.
const TABLE_PAUSE: Duration = Duration::from_millis(400);

/// When something may not be sent, or people are not known, it is tried again so soon.
const LATER: Duration = Duration::from_secs(1);

/// Somebody at their program.
struct Seat {
    room: Arc<Room>,
    resident: Resident,
    /// Where it listens.
    address: SocketAddr,
    /// The address of this machine that it takes for the server's.
    server: Option<IpAddr>,
    /// Where the server listens: only what comes from there does it take as the server's.
    door: Arc<Post>,
}

/// Attends to somebody until they leave, or do not answer.
pub(super) async fn attend(room: Arc<Room>, door: Arc<Post>, resident: Resident, welcome: Welcome) {
    let contact = resident.contact();
    let Some(port) = contact.udp else { return };
    let address = SocketAddr::new(contact.ip, port);
    let server = Extra::of(&resident.extra()).server;
    let seat = Seat { room, resident, address, server, door };
    let (events, changes) = (seat.resident.events(), seat.resident.events());
    seat.room.has_changed();
    let gone = seat.resident.clone();
    tokio::select! {
        () = seat.serve(welcome, events, changes) => {},
        () = gone.gone() => {},
    }
}

impl Seat {
    async fn serve(&self, welcome: Welcome, events: Receiver<Event>, changes: Receiver<Event>) {
        let known = self.room.changes();
        if welcome == Welcome::MailAndTable {
            self.send_mail().await;
        }
        let mut told = Vec::new();
        if welcome != Welcome::None {
            told = self.tell(told).await.unwrap_or_default();
        }
        tokio::join!(self.keep_told(told, known, changes), self.hand_over_all(events));
    }

    // --- tables

    /// Sends a table when something has changed that it shows.
    async fn keep_told(&self, mut told: Vec<u8>, mut changes: watch::Receiver<u64>, mut events: Receiver<Event>) {
        if !told.is_empty() {
            self.change(&mut changes, &mut events).await;
        }
        loop {
            tokio::time::sleep(TABLE_AFTER).await;
            changes.mark_unchanged();
            // What was said up to here is in this table.
            events = events.resubscribe();
            match self.tell(told.clone()).await {
                Some(now) => told = now,
                None => {
                    tokio::time::sleep(LATER).await;
                    continue;
                }
            }
            tokio::time::sleep(TABLE_PAUSE).await;
            self.change(&mut changes, &mut events).await;
        }
    }

    /// Waits until somebody may have come or gone. What is missed here is looked at anyway.
    async fn change(&self, changes: &mut watch::Receiver<u64>, events: &mut Receiver<Event>) {
        loop {
            tokio::select! {
                changed = changes.changed() => match changed {
                    Ok(()) => return,
                    Err(_) => std::future::pending().await,
                },
                event = events.recv() => match event {
                    Ok(Event::Presence { .. } | Event::LoggedIn { .. } | Event::Message { .. }) | Err(RecvError::Lagged(_)) => return,
                    Ok(_) => {}
                    Err(RecvError::Closed) => std::future::pending().await,
                },
            }
        }
    }

    /// Sends the table, unless it is what it was told already. `None` when it is to be tried again.
    async fn tell(&self, told: Vec<u8>) -> Option<Vec<u8>> {
        let table = match table::of(&self.room, &self.resident, self.server).await {
            Ok(table) => table.datagram(),
            Err(failure) => {
                tracing::debug!(name = %self.resident.name(), %failure, "who is here is not known");
                return None;
            }
        };
        if table == told || self.send(&self.door, &table) { Some(table) } else { None }
    }

    /// Sends something from a port of this door, if so much may be sent.
    fn send(&self, post: &Post, datagram: &[u8]) -> bool {
        self.room.gateway.door.may_send(self.address, datagram.len())
            && post.socket.send(self.address, self.server, datagram)
    }

    // --- mail

    /// Sends what waited, in the form for those who are back. What may not be sent now, they get as messages.
    async fn send_mail(&self) {
        let announcements = Extra::of(&self.resident.extra()).announcements;
        let waiting = match self.resident.mail().await {
            Ok(waiting) => waiting,
            Err(failure) => return self.note(Err(failure)),
        };
        let mut letters: Vec<_> = waiting.iter().map(|mail| (self.letter(mail), Some(mail.id))).collect();
        letters.extend(announcements.iter().map(|announcement| (self.announced(announcement), None)));
        letters.sort_by_key(|(letter, _)| letter.sent_at);
        let (letters, ids): (Vec<Letter>, Vec<Option<MessageId>>) = letters.into_iter().unzip();
        let mut ids = ids.into_iter();
        for datagram in s3::mail(&letters) {
            let ended: Vec<_> = ids.by_ref().take(datagram.letters_ended).flatten().collect();
            if !self.send_letters(&datagram.bytes, ended).await {
                return;
            }
        }
        if !announcements.is_empty() {
            let forgotten = self.resident.change(|record| {
                record.extra = Extra { announcements: Vec::new(), ..Extra::of(&record.extra) }.to_value();
            });
            self.note(forgotten.await);
        }
    }

    /// Sends a datagram of mail and notes which messages were shown by it; whether it was sent.
    async fn send_letters(&self, datagram: &[u8], ended: Vec<MessageId>) -> bool {
        for id in &ended {
            self.note(self.resident.begin_showing(*id).await.map(drop));
        }
        let is_sent = self.send(&self.door, datagram);
        for id in ended.into_iter().filter(|_| is_sent) {
            self.note(self.resident.shown(id).await);
        }
        is_sent
    }

    fn letter(&self, mail: &Mail) -> Letter {
        Letter { sender: self.room.gateway.spelled(&mail.from), sent_at: mail.sent_at, text: mail.text.clone() }
    }

    fn announced(&self, announcement: &Announcement) -> Letter {
        let sender = self.room.gateway.spelled(&announcement.from);
        let text = s3::channel_message(&sender, &announcement.text);
        Letter { sender, sent_at: announcement.sent_at, text }
    }

    fn note(&self, done: Result<(), Failure>) {
        if let Err(failure) = done {
            tracing::warn!(name = %self.resident.name(), %failure, "what waits cannot be read, or what was shown not noted");
        }
    }

    // --- messages

    /// Hands over what is said to them, in order, until they do not answer.
    async fn hand_over_all(&self, mut events: Receiver<Event>) {
        let mut is_here = self.hand_over_mail().await;
        while is_here {
            is_here = match events.recv().await {
                Ok(Event::Message { from, id, sent_at, text, .. }) => {
                    self.hand_over(&Mail { from, id, sent_at, text }).await
                }
                Ok(Event::Announcement { from, sent_at, text, .. }) => {
                    self.announce(Announcement { from, sent_at, text }).await
                }
                Ok(_) => true,
                Err(RecvError::Lagged(_)) => self.hand_over_mail().await,
                Err(RecvError::Closed) => return,
            };
        }
        // Until the peer has ended, by which this ends too.
        std::future::pending().await
    }

    /// What waits; whether they are here.
    async fn hand_over_mail(&self) -> bool {
        match self.resident.mail().await {
            Ok(waiting) => {
                for mail in waiting {
                    if !self.hand_over(&mail).await {
                        return false;
                    }
                }
            }
            Err(failure) => self.note(Err(failure)),
        }
        true
    }

    async fn hand_over(&self, mail: &Mail) -> bool {
        match self.resident.begin_showing(mail.id).await {
            Ok(true) => {}
            // It was shown a moment ago.
            Ok(false) => return true,
            Err(failure) => {
                self.note(Err(failure));
                return true;
            }
        }
        let number = self.room.number_of(&mail.from, self.resident.name(), &mail.text);
        if self.say(&mail.from, &mail.text, number).await {
            self.note(self.resident.shown(mail.id).await);
            return true;
        }
        self.room.lose(&self.resident, None).await;
        false
    }

    async fn announce(&self, announcement: Announcement) -> bool {
        let text = s3::channel_message(&self.room.gateway.spelled(&announcement.from), &announcement.text);
        if self.say(&announcement.from, &text, None).await {
            return true;
        }
        self.room.lose(&self.resident, Some(announcement)).await;
        false
    }

    /// Says something, in as many messages as it takes; whether all were acknowledged. The number is kept when one is enough.
    async fn say(&self, from: &PeerName, text: &str, number: Option<Uuid>) -> bool {
        let sender = self.room.gateway.spelled(from);
        let post = self.post_of(from).await;
        let texts = s3::chat_texts(&sender, text);
        let mut number = number.filter(|_| texts.len() == 1);
        for text in texts {
            let number = number.take().unwrap_or_else(fresh_number);
            if !self.send_until_acknowledged(&post, &number, &s3::chat(&sender, &number, &text)).await {
                return false;
            }
        }
        true
    }

    /// The port from which somebody's messages come: their own, if one stands for them.
    async fn post_of(&self, from: &PeerName) -> Arc<Post> {
        let is_at_a_program = self.room.gateway.record(from).is_some_and(|record| record.dialect == Dialect::S3);
        if is_at_a_program {
            return self.room.courier.clone();
        }
        stand_in(&self.room, from).await.map_or_else(|| self.room.courier.clone(), |(_, post)| post)
    }

    async fn send_until_acknowledged(&self, post: &Post, number: &Uuid, datagram: &[u8]) -> bool {
        let mut waiting = self.room.wait_for(self.address, number);
        for _ in 0..TRIES {
            while !self.send(post, datagram) {
                tokio::time::sleep(LATER).await;
            }
            if let Ok(acknowledged) = tokio::time::timeout(ACK_PATIENCE, &mut waiting.acknowledged).await {
                // Nobody else knows the number, so they are where they say.
                self.room.gateway.door.has_got(self.address, datagram.len());
                return acknowledged.is_ok();
            }
        }
        tracing::debug!(name = %self.resident.name(), "a program of s3 does not answer");
        false
    }
}
