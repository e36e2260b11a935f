//! Answers that were given lately. A datagram that comes once more, because the network doubled it or its sender lost
//! patience, is answered with the same bytes and has no second effect.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

/// Answers that are remembered: at 4 KiB each no more than 8 MiB.
const REPLIES_MAX: usize = 2_048;

/// How long: three attempts of the most patient program are 15 s, and its user may try once more.
const REMEMBERED: Duration = Duration::from_secs(60);

/// What stands for a datagram and its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Mark(u64);

/// What is known of a datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// It comes for the first time.
    New(Mark),
    /// It is being worked on.
    UnderWay,
    /// This was said; some requests are not answered.
    Answered(Option<Vec<u8>>),
}

#[derive(Debug)]
struct Reply {
    from: SocketAddr,
    said: Option<Option<Vec<u8>>>,
}

/// Answers that were given lately.
#[derive(Debug, Default)]
pub(super) struct Replies {
    /// Senders choose their bytes, not what stands for them.
    marks: RandomState,
    replies: HashMap<Mark, Reply>,
    /// The oldest first.
    came: VecDeque<(Instant, Mark)>,
}

impl Replies {
    /// Looks a datagram up, and remembers it when it is new.
    pub(super) fn look_up(&mut self, from: SocketAddr, bytes: &[u8], now: Instant) -> Known {
        while let Some((came, oldest)) = self.came.front().copied() {
            if self.came.len() < REPLIES_MAX && now.duration_since(came) < REMEMBERED {
                break;
            }
            self.came.pop_front();
            self.replies.remove(&oldest);
        }
        let mark = Mark(self.marks.hash_one((from, bytes)));
        match self.replies.get(&mark) {
            Some(Reply { said: Some(said), .. }) => Known::Answered(said.clone()),
            Some(Reply { said: None, .. }) => Known::UnderWay,
            None => {
                self.replies.insert(mark, Reply { from, said: None });
                self.came.push_back((now, mark));
                Known::New(mark)
            }
        }
    }

    /// Notes what was said.
    pub(super) fn answered(&mut self, mark: Mark, said: Option<Vec<u8>>) {
        if let Some(reply) = self.replies.get_mut(&mark) {
            reply.said = Some(said);
        }
    }

    /// Forgets a datagram that was ignored: the same may have a meaning later.
    pub(super) fn ignored(&mut self, mark: Mark) {
        self.replies.remove(&mark);
        self.came.retain(|(_, other)| *other != mark);
    }

    /// Forgets what was said to an address: a program that has left and comes back counts its requests anew.
    pub(super) fn forget(&mut self, from: SocketAddr) {
        let is_said = |reply: &Reply| reply.from == from && reply.said.is_some();
        self.replies.retain(|_, reply| !is_said(reply));
        let replies = &self.replies;
        self.came.retain(|(_, mark)| replies.contains_key(mark));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(replies: &mut Replies, from: SocketAddr, bytes: &[u8], now: Instant) -> Mark {
        match replies.look_up(from, bytes, now) {
            Known::New(mark) => mark,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_comes_again_is_answered_with_the_same_bytes() {
        let (mut replies, now) = (Replies::default(), Instant::now());
        let (one, other) = (SocketAddr::from(([127, 0, 0, 1], 5_000)), SocketAddr::from(([127, 0, 0, 1], 5_001)));
        let mark = new(&mut replies, one, b"a", now);
        assert_eq!(replies.look_up(one, b"a", now), Known::UnderWay);
        replies.answered(mark, Some(b"said".to_vec()));
        assert_eq!(replies.look_up(one, b"a", now), Known::Answered(Some(b"said".to_vec())));
        new(&mut replies, other, b"a", now);
        let mark = new(&mut replies, one, b"b", now);
        replies.ignored(mark);
        let mark = new(&mut replies, one, b"b", now);
        replies.answered(mark, None);
        assert_eq!(replies.look_up(one, b"b", now), Known::Answered(None));
    }

    #[test]
    fn it_is_forgotten_with_time_and_when_its_sender_leaves() {
        let (mut replies, now) = (Replies::default(), Instant::now());
        let from = SocketAddr::from(([127, 0, 0, 1], 5_000));
        let mark = new(&mut replies, from, b"a", now);
        replies.answered(mark, None);
        let leaving = new(&mut replies, from, b"leave", now);
        replies.forget(from);
        new(&mut replies, from, b"a", now);
        replies.answered(leaving, None);
        assert_eq!(replies.look_up(from, b"leave", now), Known::Answered(None), "what is under way is not forgotten");
        new(&mut replies, from, b"leave", now + REMEMBERED);
    }

    #[test]
    fn there_is_a_bound() {
        let (mut replies, now) = (Replies::default(), Instant::now());
        let from = SocketAddr::from(([127, 0, 0, 1], 5_000));
        for number in 0..3 * REPLIES_MAX {
            new(&mut replies, from, &number.to_be_bytes(), now);
        }
        assert!(replies.replies.len() <= REPLIES_MAX && replies.came.len() <= REPLIES_MAX);
    }
}
