//! Messages of both directions: the outbox that survives a crash, the history, and the offers that wait for an answer.
//!
//! ```text
//! out: sending -> stored            in: new -> shown
//!         |          | its recipient's key was replaced before they took it
//!         `----------`--> refused
//! ```

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::database::{Database, DatabaseError};
use crate::wire::codec;
use crate::wire::ids::{FileDigest, FileName, FileSize, MessageId, PeerKey, PeerName, UnixMillis};
use crate::wire::limits::OUTBOX_MESSAGES_MAX;
use crate::wire::message::{Body, InnerMessage, Offer};

/// A message that the directory has not taken yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// For whom.
    pub to: PeerName,
    /// The message as it will be signed.
    pub message: InnerMessage,
}

/// A message somebody sent to this account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// Who sent it.
    pub from: PeerName,
    /// The message as it was signed.
    pub message: InnerMessage,
}

/// An offer that was neither accepted nor declined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenOffer {
    /// The offer's message id.
    pub id: MessageId,
    /// Who offers.
    pub from: PeerName,
    /// What.
    pub offer: Offer,
}

/// What became of a message in the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The directory keeps it for its recipient.
    Stored,
    /// It will not be sent.
    Refused,
}

/// Writes a message to the outbox, with the next sequence number for its recipient.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be written; `Ok(None)` when the outbox is full.
pub async fn put_outgoing(
    database: &Database,
    to: &PeerName,
    sender: PeerKey,
    recipient: PeerKey,
    id: MessageId,
    sent_at: UnixMillis,
    body: Body,
) -> Result<Option<InnerMessage>, DatabaseError> {
    let to = to.clone();
    database
        .run(move |sql| {
            let waiting: i64 =
                sql.query_row("SELECT count(*) FROM message WHERE state = 'sending'", [], |row| row.get(0))?;
            if waiting.cast_unsigned() >= OUTBOX_MESSAGES_MAX {
                return Ok(None);
            }
            let sequence: i64 = sql.query_row(
                "INSERT INTO sequence (peer_key, last) VALUES (?1, 1)
                 ON CONFLICT (peer_key) DO UPDATE SET last = last + 1 RETURNING last",
                [recipient.as_bytes()],
                |row| row.get(0),
            )?;
            let message = InnerMessage { sender, recipient, id, sequence: sequence.cast_unsigned(), sent_at, body };
            insert(sql, "out", "sending", &to, recipient, &message)?;
            Ok(Some(message))
        })
        .await
}

/// The oldest messages of the outbox, in the order they were written.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be read.
pub async fn outbox(database: &Database, sender: PeerKey, limit: u32) -> Result<Vec<Outgoing>, DatabaseError> {
    database
        .run(move |sql| {
            let mut rows = sql.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM message WHERE state = 'sending' ORDER BY number LIMIT ?1"
            ))?;
            let found = rows.query_map([limit], StoredRow::read)?.collect::<Result<Vec<_>, _>>()?;
            Ok(found.into_iter().filter_map(|row| row.outgoing(sender)).collect())
        })
        .await
}

/// Notes what became of a message in the outbox. Says `false` when that is known already.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be written.
pub async fn settle_outgoing(database: &Database, id: MessageId, fate: Fate) -> Result<bool, DatabaseError> {
    let state = match fate {
        Fate::Stored => "stored",
        Fate::Refused => "refused",
    };
    database
        .run(move |sql| {
            let settled = sql.execute(
                "UPDATE message SET state = ?2 WHERE direction = 'out' AND id = ?1 AND state = 'sending'",
                params![id.as_bytes(), state],
            )?;
            Ok(settled > 0)
        })
        .await
}

/// Notes that a message came back, and gives it. `None` when there is no such message, or that is known already.
///
/// One that is `sending` may come back too: the directory took it, and its answer is still on the way.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be written.
pub async fn take_returned(
    database: &Database,
    to: &PeerName,
    sender: PeerKey,
    id: MessageId,
) -> Result<Option<Outgoing>, DatabaseError> {
    let to = to.clone();
    database
        .run(move |sql| {
            let returned = sql
                .query_row(
                    &format!(
                        "UPDATE message SET state = 'refused' WHERE direction = 'out' AND peer = ?1 AND id = ?2
                         AND state IN ('sending', 'stored') RETURNING {COLUMNS}"
                    ),
                    params![to.as_str(), id.as_bytes()],
                    StoredRow::read,
                )
                .optional()?;
            Ok(returned.and_then(|row| row.outgoing(sender)))
        })
        .await
}

/// Keeps an incoming message. Says `false` when it is here already: then it is not shown again.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be written.
pub async fn put_incoming(database: &Database, incoming: &Incoming) -> Result<bool, DatabaseError> {
    let Incoming { from, message } = incoming.clone();
    database
        .run(move |sql| {
            if is_known(sql, message.sender, message.id)? {
                return Ok(false);
            }
            insert(sql, "in", "new", &from, message.sender, &message)?;
            if let Body::Offer(offer) = &message.body {
                sql.execute(
                    "INSERT INTO offer (id, peer, name, size, digest) VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![
                        message.id.as_bytes(),
                        from.as_str(),
                        offer.name.as_str(),
                        offer.size.bytes().cast_signed(),
                        offer.digest.as_bytes()
                    ],
                )?;
            }
            Ok(true)
        })
        .await
}

/// Whether a message has come before.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be read.
pub async fn has_incoming(database: &Database, sender: PeerKey, id: MessageId) -> Result<bool, DatabaseError> {
    database.run(move |sql| Ok(is_known(sql, sender, id)?)).await
}

/// Incoming messages that no screen has shown yet, in the order they came.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be read.
pub async fn not_shown(database: &Database, recipient: PeerKey) -> Result<Vec<Incoming>, DatabaseError> {
    database
        .run(move |sql| {
            let mut rows =
                sql.prepare_cached(&format!("SELECT {COLUMNS} FROM message WHERE state = 'new' ORDER BY number"))?;
            let found = rows.query_map([], StoredRow::read)?.collect::<Result<Vec<_>, _>>()?;
            Ok(found.into_iter().filter_map(|row| row.incoming(recipient)).collect())
        })
        .await
}

/// Notes that a message was on the screen.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be written.
pub async fn mark_shown(database: &Database, id: MessageId) -> Result<(), DatabaseError> {
    database
        .run(move |sql| {
            sql.execute(
                "UPDATE message SET state = 'shown' WHERE direction = 'in' AND id = ?1 AND state = 'new'",
                [id.as_bytes()],
            )?;
            Ok(())
        })
        .await
}

/// The offers that wait for an answer, oldest first.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be read.
pub async fn open_offers(database: &Database) -> Result<Vec<OpenOffer>, DatabaseError> {
    database
        .run(|sql| {
            let mut rows = sql.prepare_cached("SELECT id, peer, name, size, digest FROM offer ORDER BY rowid")?;
            let offers = rows.query_map([], |row| {
                Ok((
                    row.get(0)?,
                    row.get::<_, String>(1)?,
                    row.get::<_, String>(2)?,
                    row.get::<_, i64>(3)?,
                    row.get(4)?,
                ))
            })?;
            let offers = offers.collect::<Result<Vec<_>, _>>()?;
            let valid = offers.into_iter().filter_map(|(id, from, name, size, digest)| {
                Some(OpenOffer {
                    id: MessageId::from_bytes(id),
                    from: PeerName::parse(&from).ok()?,
                    offer: Offer {
                        name: FileName::parse(&name).ok()?,
                        size: FileSize::try_from(size.cast_unsigned()).ok()?,
                        digest: FileDigest::from_bytes(digest),
                    },
                })
            });
            Ok(valid.collect())
        })
        .await
}

/// Forgets an offer that was answered.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be written.
pub async fn close_offer(database: &Database, id: MessageId) -> Result<(), DatabaseError> {
    database
        .run(move |sql| {
            sql.execute("DELETE FROM offer WHERE id = ?1", [id.as_bytes()])?;
            Ok(())
        })
        .await
}

const COLUMNS: &str = "peer, peer_key, id, sequence, sent_at, body";

/// A row as it lies in the table, before its parts are parsed.
struct StoredRow {
    peer: String,
    peer_key: [u8; 32],
    id: [u8; 16],
    sequence: i64,
    sent_at: i64,
    body: Vec<u8>,
}

impl StoredRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            peer: row.get(0)?,
            peer_key: row.get(1)?,
            id: row.get(2)?,
            sequence: row.get(3)?,
            sent_at: row.get(4)?,
            body: row.get(5)?,
        })
    }

    fn outgoing(self, sender: PeerKey) -> Option<Outgoing> {
        let (to, recipient) = (PeerName::parse(&self.peer).ok()?, PeerKey::from_bytes(self.peer_key));
        Some(Outgoing { to, message: self.message(sender, recipient)? })
    }

    fn incoming(self, recipient: PeerKey) -> Option<Incoming> {
        let (from, sender) = (PeerName::parse(&self.peer).ok()?, PeerKey::from_bytes(self.peer_key));
        Some(Incoming { from, message: self.message(sender, recipient)? })
    }

    /// A body that cannot be read is left out, so that one damaged row does not stall the rest.
    fn message(self, sender: PeerKey, recipient: PeerKey) -> Option<InnerMessage> {
        let body = codec::decode(&self.body)
            .inspect_err(|error| tracing::error!(%error, "a stored message is damaged and left out"))
            .ok()?;
        Some(InnerMessage {
            sender,
            recipient,
            id: MessageId::from_bytes(self.id),
            sequence: self.sequence.cast_unsigned(),
            sent_at: UnixMillis(self.sent_at.cast_unsigned()),
            body,
        })
    }
}

fn is_known(sql: &Connection, sender: PeerKey, id: MessageId) -> rusqlite::Result<bool> {
    let known = sql
        .query_row(
            "SELECT 1 FROM message WHERE direction = 'in' AND peer_key = ?1 AND id = ?2",
            params![sender.as_bytes(), id.as_bytes()],
            |_| Ok(()),
        )
        .optional()?;
    Ok(known.is_some())
}

fn insert(
    sql: &Connection,
    direction: &str,
    state: &str,
    peer: &PeerName,
    peer_key: PeerKey,
    message: &InnerMessage,
) -> rusqlite::Result<()> {
    let body = codec::encode(&message.body).expect("a body that was parsed or decoded fits a frame");
    sql.execute(
        "INSERT INTO message (direction, state, peer, peer_key, id, sequence, sent_at, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            direction,
            state,
            peer.as_str(),
            peer_key.as_bytes(),
            message.id.as_bytes(),
            message.sequence.cast_signed(),
            message.sent_at.0.cast_signed(),
            body
        ],
    )?;
    Ok(())
}
