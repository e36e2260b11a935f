//! The ports that stand for people whom an old program cannot address otherwise: it dials what its table says, and nothing
//! in its message says whom it means. A port once given to somebody is theirs for ever, so that an old table never leads to
//! another person.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::RangeInclusive;

use super::records::Records;
use super::settings::Dialect;
use crate::database::DatabaseError;
use crate::wire::ids::PeerName;

/// Who has which port.
#[derive(Debug)]
pub(super) struct Ports {
    range: Option<RangeInclusive<u16>>,
    records: Records,
    /// Held while a port is given away, so that nobody gets two.
    given: tokio::sync::Mutex<BTreeMap<(Dialect, PeerName), u16>>,
}

impl Ports {
    /// Goes on from what was given away earlier.
    pub(super) async fn open(range: Option<RangeInclusive<u16>>, records: Records) -> Result<Self, DatabaseError> {
        let given = records.ports().await?.into_iter().map(|(dialect, name, port)| ((dialect, name), port)).collect();
        Ok(Self { range, records, given: tokio::sync::Mutex::new(given) })
    }

    /// Everybody who has a port in a dialect: old tables lead there, so it is to be served after a restart too.
    pub(super) async fn people(&self, dialect: Dialect) -> Vec<PeerName> {
        let given = self.given.lock().await;
        given.keys().filter(|(of, _)| *of == dialect).map(|(_, name)| name.clone()).collect()
    }

    /// The port that stands for somebody in a dialect, bound by `bind` when the caller does not serve it yet. `None` when
    /// there is none left, or somebody else on this machine has it.
    pub(super) async fn port<S>(
        &self,
        dialect: Dialect,
        name: &PeerName,
        mut bind: impl FnMut(u16) -> io::Result<S>,
    ) -> Option<(u16, S)> {
        let range = self.range.clone()?;
        let mut given = self.given.lock().await;
        if let Some(port) = given.get(&(dialect, name.clone())).copied() {
            // Outside a range that was changed it is not served any more.
            return if range.contains(&port) { bind(port).ok().map(|socket| (port, socket)) } else { None };
        }
        let taken: BTreeSet<u16> = given.values().copied().collect();
        for port in range.filter(|port| !taken.contains(port)) {
            let Ok(socket) = bind(port) else { continue };
            return match self.records.put_port(dialect, name, port).await {
                Ok(true) => {
                    given.insert((dialect, name.clone()), port);
                    Some((port, socket))
                }
                Ok(false) => continue,
                Err(error) => {
                    tracing::error!(%error, "a port cannot be given away");
                    None
                }
            };
        }
        tracing::warn!(%dialect, %name, "no port is left for this person: --compat-ports is too small");
        None
    }
}
