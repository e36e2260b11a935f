//! What the gateway keeps: who the legacy names belong to, and which port stands for whom. One small database.

use std::net::IpAddr;
use std::path::Path;

use rusqlite::{OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

use super::settings::Dialect;
use crate::database::{Database, DatabaseError};
use crate::wire::ids::{PeerName, UnixMillis};

/// The tables: what was released is never changed, only added to.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE person (
        name TEXT PRIMARY KEY,
        record TEXT NOT NULL
    ) STRICT;
    CREATE TABLE port (
        dialect TEXT NOT NULL,
        name TEXT NOT NULL,
        port INTEGER NOT NULL UNIQUE,
        PRIMARY KEY (dialect, name)
    ) STRICT;
"];

/// Where an old program can be reached, as it says; its address is always the one that its request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Contact {
    /// From where it registered.
    pub(super) ip: IpAddr,
    /// Its UDP port.
    pub(super) udp: Option<u16>,
    /// Its TCP port.
    pub(super) tcp: Option<u16>,
}

/// A legacy name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// As its owner writes it.
    pub(super) spelled: String,
    /// Which programs it uses.
    pub(super) dialect: Dialect,
    /// Where it is reached.
    pub(super) contact: Contact,
    /// Whether it is here, and comes back by itself after a restart.
    pub(super) is_here: bool,
    /// Whether the name is bound to the address that it came from: until its owner gives it up.
    pub(super) is_bound: bool,
    /// When it came or went last.
    pub(super) last_here: UnixMillis,
    /// What its dialect wants to remember.
    #[serde(default)]
    pub(super) extra: serde_json::Value,
}

impl Record {
    /// Whether a name has gone to another owner, as far as the gateway can tell.
    pub(super) fn is_another(&self, next: &Self) -> bool {
        !self.is_bound || self.contact.ip != next.contact.ip || self.dialect != next.dialect
    }
}

/// The gateway's database.
#[derive(Debug, Clone)]
pub(super) struct Records(Database);

impl Records {
    /// Opens it, or makes it.
    pub(super) fn open(path: &Path) -> Result<Self, DatabaseError> {
        Ok(Self(Database::open(path, MIGRATIONS)?))
    }

    /// All names; what cannot be read is left out with a word in the log.
    pub(super) async fn all(&self) -> Result<Vec<(PeerName, Record)>, DatabaseError> {
        let rows: Vec<(String, String)> = self
            .0
            .run(|sql| {
                let mut statement = sql.prepare("SELECT name, record FROM person ORDER BY name")?;
                let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
                Ok::<_, DatabaseError>(rows.collect::<Result<_, _>>()?)
            })
            .await?;
        Ok(rows
            .into_iter()
            .filter_map(|(name, record)| {
                let read = PeerName::parse(&name).ok().zip(serde_json::from_str(&record).ok());
                if read.is_none() {
                    tracing::warn!(name, "a legacy name's record cannot be read");
                }
                read
            })
            .collect())
    }

    /// Writes a name's record.
    pub(super) async fn put(&self, name: &PeerName, record: &Record) -> Result<(), DatabaseError> {
        let name = name.as_str().to_owned();
        // A record has no keys but texts and no numbers but whole ones.
        let record = serde_json::to_string(record).unwrap_or_default();
        self.0
            .run(move |sql| {
                sql.execute("INSERT OR REPLACE INTO person (name, record) VALUES (?, ?)", params![name, record])?;
                Ok(())
            })
            .await
    }

    /// Forgets a name.
    pub(super) async fn remove(&self, name: &PeerName) -> Result<(), DatabaseError> {
        let name = name.as_str().to_owned();
        self.0
            .run(move |sql| {
                sql.execute("DELETE FROM person WHERE name = ?", [name])?;
                Ok(())
            })
            .await
    }

    /// All ports that stand for somebody.
    pub(super) async fn ports(&self) -> Result<Vec<(Dialect, PeerName, u16)>, DatabaseError> {
        let rows: Vec<(String, String, u16)> = self
            .0
            .run(|sql| {
                let mut statement = sql.prepare("SELECT dialect, name, port FROM port")?;
                let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
                Ok::<_, DatabaseError>(rows.collect::<Result<_, _>>()?)
            })
            .await?;
        let read = |(dialect, name, port): (String, String, u16)| {
            Some((dialect.parse().ok()?, PeerName::parse(&name).ok()?, port))
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }

    /// Notes for whom a port stands, for ever. Says `false` when it stands for somebody else.
    pub(super) async fn put_port(&self, dialect: Dialect, name: &PeerName, port: u16) -> Result<bool, DatabaseError> {
        let name = name.as_str().to_owned();
        self.0
            .run(move |sql| {
                let taken =
                    sql.query_row("SELECT 1 FROM port WHERE port = ?", [port], |_| Ok(())).optional()?.is_some();
                if !taken {
                    let values = params![dialect.as_str(), name, port];
                    sql.execute("INSERT INTO port (dialect, name, port) VALUES (?, ?, ?)", values)?;
                }
                Ok(!taken)
            })
            .await
    }
}
