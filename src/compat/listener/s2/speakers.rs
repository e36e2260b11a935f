//! Whose datagrams come from where. Most requests of this dialect do not say who asks, and several people may sit at one
//! machine, so what counts is the address that a name was last said from.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::compat::resident::Resident;
use crate::wire::ids::PeerName;

/// Who spoke last from where; only of names that are here, so there are no more than those.
#[derive(Debug, Default)]
pub(super) struct Speakers {
    spoken: Mutex<Spoken>,
}

#[derive(Debug, Default)]
struct Spoken {
    count: u64,
    /// From where a name spoke, and when, counted in requests.
    last: HashMap<PeerName, (SocketAddr, u64)>,
}

impl Speakers {
    /// Notes that a name that is here spoke.
    pub(super) fn note(&self, name: &PeerName, from: SocketAddr) {
        let mut spoken = self.spoken();
        spoken.count += 1;
        let count = spoken.count;
        spoken.last.insert(name.clone(), (from, count));
    }

    /// Forgets a name that leaves.
    pub(super) fn forget(&self, name: &PeerName) {
        self.spoken().last.remove(name);
    }

    /// Who of those at one machine a datagram is from: the one who spoke from this very port, else the one who said that
    /// it is theirs, else the one who spoke last.
    pub(super) fn asker(&self, there: &[Resident], from: SocketAddr) -> Option<Resident> {
        let spoke_from =
            |resident: &&Resident| self.spoken().last.get(resident.name()).is_some_and(|(at, _)| *at == from);
        let owns_port = |resident: &&Resident| resident.contact().udp == Some(from.port());
        let asker = there.iter().filter(spoke_from).max_by_key(|resident| self.when(resident));
        asker.or_else(|| there.iter().find(owns_port)).cloned().or_else(|| self.latest(there))
    }

    /// Who of those at one machine spoke last: it is they who open a connection now.
    pub(super) fn latest(&self, there: &[Resident]) -> Option<Resident> {
        there.iter().max_by_key(|resident| self.when(resident)).cloned()
    }

    fn when(&self, resident: &Resident) -> u64 {
        self.spoken().last.get(resident.name()).map_or(0, |(_, when)| *when)
    }

    fn spoken(&self) -> MutexGuard<'_, Spoken> {
        self.spoken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
