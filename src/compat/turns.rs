//! How many things are under way at a time, in all and for one address: requests, connections, arrivals. Whoever finds no turn is
//! not served, as on a busy network, and nobody takes the turns of others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The turns there are. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Turns {
    max: usize,
    per_source_max: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_source: HashMap<IpAddr, usize>,
}

/// One of them, free again when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    taken: Arc<Mutex<Taken>>,
    source: IpAddr,
}

impl Turns {
    /// At most so many.
    pub(super) fn new(max: usize, per_source_max: usize) -> Self {
        Self { max, per_source_max, taken: Arc::default() }
    }

    /// One more, if there is room.
    pub(super) fn take(&self, source: IpAddr) -> Option<Turn> {
        let source = source.to_canonical();
        let mut taken = lock(&self.taken);
        let from_there = taken.by_source.get(&source).copied().unwrap_or(0);
        if taken.all >= self.max || from_there >= self.per_source_max {
            return None;
        }
        taken.all += 1;
        taken.by_source.insert(source, from_there + 1);
        Some(Turn { taken: self.taken.clone(), source })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.all -= 1;
        match taken.by_source.get_mut(&self.source) {
            Some(from_there) if *from_there > 1 => *from_there -= 1,
            Some(_) | None => drop(taken.by_source.remove(&self.source)),
        }
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_does_not_keep_the_others_out_and_what_ends_makes_room() {
        let turns = Turns::new(20, 8);
        let source = |last| IpAddr::from([127, 0, 0, last]);
        let mut held: Vec<_> = (0..1_000).map_while(|_| turns.take(source(1))).collect();
        assert_eq!(held.len(), 8);
        assert!(turns.take("::ffff:127.0.0.1".parse().unwrap()).is_none(), "the same address, otherwise written");
        assert!(turns.take(source(2)).is_some());
        held.pop();
        held.extend(turns.take(source(1)));
        assert_eq!(held.len(), 8);
        held.extend((2..200).map_while(|last| turns.take(source(last))));
        assert_eq!(held.len(), 20);
        drop(held);
        let taken = lock(&turns.taken);
        assert!(taken.all == 0 && taken.by_source.is_empty());
    }
}
