//! Requests that wait. Each address is answered in the order in which it asked, because some requests have no answer to wait
//! for; addresses do not wait for each other.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Addresses that are answered at a time.
const ADDRESSES_MAX: usize = 256;

/// And of one machine, so that others are answered too.
const ADDRESSES_PER_SOURCE_MAX: usize = 64;

/// Requests of one address that wait: programs send the next when they have the answer, or gave up.
const WAITING_MAX: usize = 16;

/// Requests by address.
#[derive(Debug)]
pub(super) struct Queues<J> {
    waiting: Mutex<HashMap<SocketAddr, VecDeque<J>>>,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It is the first of its address: somebody has to begin, with [`Turn`].
    First,
    /// It waits.
    Waits,
    /// There is no room.
    Dropped,
}

impl<J> Default for Queues<J> {
    fn default() -> Self {
        Self { waiting: Mutex::default() }
    }
}

impl<J> Queues<J> {
    /// Takes a request in.
    pub(super) fn push(&self, from: SocketAddr, job: J) -> Place {
        let mut waiting = self.waiting();
        if let Some(queue) = waiting.get_mut(&from) {
            if queue.len() >= WAITING_MAX {
                return Place::Dropped;
            }
            queue.push_back(job);
            return Place::Waits;
        }
        let of_this_machine = waiting.keys().filter(|other| other.ip() == from.ip()).count();
        if waiting.len() >= ADDRESSES_MAX || of_this_machine >= ADDRESSES_PER_SOURCE_MAX {
            return Place::Dropped;
        }
        waiting.insert(from, VecDeque::from([job]));
        Place::First
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<SocketAddr, VecDeque<J>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to work off the requests of an address, for whoever was told [`Place::First`].
#[derive(Debug)]
pub(super) struct Turn<'a, J> {
    queues: &'a Queues<J>,
    from: SocketAddr,
    is_over: bool,
}

impl<'a, J> Turn<'a, J> {
    /// Begins.
    pub(super) fn of(queues: &'a Queues<J>, from: SocketAddr) -> Self {
        Self { queues, from, is_over: false }
    }

    /// The next request; when there is none, the turn is over.
    pub(super) fn next(&mut self) -> Option<J> {
        let mut waiting = self.queues.waiting();
        let job = waiting.get_mut(&self.from).and_then(VecDeque::pop_front);
        if job.is_none() {
            waiting.remove(&self.from);
            self.is_over = true;
        }
        job
    }
}

impl<J> Drop for Turn<'_, J> {
    fn drop(&mut self) {
        // A turn that was cut short leaves nobody waiting for ever.
        if !self.is_over {
            self.queues.waiting().remove(&self.from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, u8::try_from(number % 200).unwrap()], u16::try_from(5_000 + number).unwrap()))
    }

    #[test]
    fn requests_of_an_address_keep_their_order() {
        let queues = Queues::default();
        assert_eq!((queues.push(address(1), 1), queues.push(address(1), 2)), (Place::First, Place::Waits));
        let mut turn = Turn::of(&queues, address(1));
        assert_eq!(turn.next(), Some(1));
        assert_eq!((queues.push(address(1), 3), queues.push(address(2), 4)), (Place::Waits, Place::First));
        assert_eq!((turn.next(), turn.next(), turn.next()), (Some(2), Some(3), None));
        assert_eq!(queues.push(address(1), 5), Place::First, "a turn that ended begins anew");
        drop(Turn::of(&queues, address(2)));
        assert_eq!(queues.push(address(2), 6), Place::First, "and so does one that broke");
    }

    #[test]
    fn there_are_bounds() {
        let queues = Queues::default();
        let places = (0..=WAITING_MAX + 1).map(|job| queues.push(address(1), job));
        assert_eq!(places.filter(|place| *place == Place::Dropped).count(), 2);
        let machine = |port| SocketAddr::from(([10, 0, 0, 1], port));
        let first = (5_000..6_000).filter(|port| queues.push(machine(*port), 0) == Place::First).count();
        assert_eq!(first, ADDRESSES_PER_SOURCE_MAX);
        let all = (2..2_000).filter(|number| queues.push(address(*number), 0) == Place::First).count();
        assert_eq!(all, ADDRESSES_MAX - 1 - ADDRESSES_PER_SOURCE_MAX);
    }
}
