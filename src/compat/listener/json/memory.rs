//! What was answered to whom, so that a request that is repeated has one effect and the same answer. Bounded: what is
//! older than two minutes, or too much, is forgotten. Time comes in as an argument.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::wire::limits::{LEGACY_JSON_ANSWERS_MAX, LEGACY_JSON_ANSWERS_PER_SOURCE_MAX};

/// Longer than any program goes on repeating.
const KEPT: Duration = Duration::from_secs(120);

/// A request: where it came from, and a hash of its content that strangers cannot aim at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RequestId {
    from: SocketAddr,
    content: u64,
}

/// What there is to do about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Begun {
    /// Everything: nobody has seen it.
    New,
    /// Nothing: it is being worked on.
    UnderWay,
    /// To give this answer again.
    Answered(Vec<u8>),
}

/// Requests of late, and their answers.
#[derive(Debug, Default)]
pub(super) struct Memory {
    hasher: RandomState,
    sources: HashMap<IpAddr, VecDeque<Entry>>,
    count: usize,
}

#[derive(Debug)]
struct Entry {
    id: RequestId,
    begun: Instant,
    answer: Option<Vec<u8>>,
}

impl Memory {
    /// What stands for a request, whose content includes its number.
    pub(super) fn id(&self, from: SocketAddr, content: &str) -> RequestId {
        RequestId { from, content: self.hasher.hash_one(content) }
    }

    /// Notes that a request came, and says what there is to do.
    pub(super) fn begin(&mut self, id: RequestId, now: Instant) -> Begun {
        self.forget_old(id.from.ip(), now);
        if let Some(entry) = self.entry(id) {
            return entry.answer.clone().map_or(Begun::UnderWay, Begun::Answered);
        }
        if self.count >= LEGACY_JSON_ANSWERS_MAX {
            self.forget_one_of_most(now);
        }
        self.sources.entry(id.from.ip()).or_default().push_back(Entry { id, begun: now, answer: None });
        self.count += 1;
        Begun::New
    }

    /// Keeps the answer to a request.
    pub(super) fn answered(&mut self, id: RequestId, answer: Vec<u8>) {
        if let Some(entry) = self.entry(id) {
            entry.answer = Some(answer);
        }
    }

    /// Forgets a request that had no effect, so that it may be made again.
    pub(super) fn forget(&mut self, id: RequestId) {
        if let Some(entries) = self.sources.get_mut(&id.from.ip())
            && let Some(place) = entries.iter().position(|entry| entry.id == id)
        {
            entries.remove(place);
            self.count -= 1;
        }
    }

    fn entry(&mut self, id: RequestId) -> Option<&mut Entry> {
        self.sources.get_mut(&id.from.ip())?.iter_mut().find(|entry| entry.id == id)
    }

    fn forget_old(&mut self, source: IpAddr, now: Instant) {
        let Some(entries) = self.sources.get_mut(&source) else { return };
        let is_old = |entry: &Entry| now.saturating_duration_since(entry.begun) > KEPT;
        while entries.front().is_some_and(is_old) || entries.len() >= LEGACY_JSON_ANSWERS_PER_SOURCE_MAX {
            entries.pop_front();
            self.count -= 1;
        }
        if entries.is_empty() {
            self.sources.remove(&source);
        }
    }

    /// Makes room at the cost of whoever takes most of it.
    fn forget_one_of_most(&mut self, now: Instant) {
        for source in self.sources.keys().copied().collect::<Vec<_>>() {
            self.forget_old(source, now);
        }
        if self.count < LEGACY_JSON_ANSWERS_MAX {
            return;
        }
        if let Some(most) = self.sources.values_mut().max_by_key(|entries| entries.len())
            && most.pop_front().is_some()
        {
            self.count -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_request_is_done_once_and_answered_as_often_as_it_comes() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        let request = memory.id(at("127.0.0.1:5000"), "one");
        assert_eq!(memory.begin(request, now), Begun::New);
        assert_eq!(memory.begin(request, now), Begun::UnderWay);
        memory.answered(request, b"yes".to_vec());
        assert_eq!(memory.begin(request, now), Begun::Answered(b"yes".to_vec()));
        for other in [memory.id(at("127.0.0.1:5001"), "one"), memory.id(at("127.0.0.1:5000"), "two")] {
            assert_eq!(memory.begin(other, now), Begun::New, "another socket, another request");
        }
        assert_eq!(memory.begin(request, now + Duration::from_secs(121)), Begun::New, "that was long ago");
    }

    #[test]
    fn what_had_no_effect_may_be_tried_again() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        let request = memory.id(at("127.0.0.1:5000"), "one");
        assert_eq!(memory.begin(request, now), Begun::New);
        memory.forget(request);
        memory.forget(request);
        assert_eq!(memory.begin(request, now), Begun::New);
        assert_eq!(memory.count, 1);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_greedy_pay_for_it() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        let honest = memory.id(at("127.0.0.1:5000"), "honest");
        assert_eq!(memory.begin(honest, now), Begun::New);
        memory.answered(honest, b"yes".to_vec());
        for number in 0..20_000_u32 {
            let [.., a, b] = number.to_be_bytes();
            let from = SocketAddr::from(([10, 0, 0, b % 32], 5_000 + u16::from(a)));
            let request = memory.id(from, &number.to_string());
            memory.begin(request, now);
        }
        let held: usize = memory.sources.values().map(VecDeque::len).sum();
        assert_eq!(held, memory.count);
        assert!(memory.count <= LEGACY_JSON_ANSWERS_MAX, "{}", memory.count);
        assert!(memory.sources.values().all(|entries| entries.len() <= LEGACY_JSON_ANSWERS_PER_SOURCE_MAX));
        assert_eq!(memory.begin(honest, now), Begun::Answered(b"yes".to_vec()));
    }
}
