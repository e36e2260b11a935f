//! What the directory remembers of rendezvous, in memory only: how often accounts dialled and asked, which sessions a dial was
//! announced between, and who has asked whom for a direct connection.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::registry::Session;
use crate::protocol::rate::Rate;
use crate::wire::ids::{DialId, PeerName, UnixMillis};
use crate::wire::limits::{CONSENT_ASKED_MAX, DIAL_LIFETIME};
use crate::wire::refusal::Refusal;

/// Dials that are remembered, of all accounts. For one that is not, the other side punches without a hint.
const DIALS_MAX: usize = 16_384;

/// Questions of all accounts together that wait for an answer.
const ASKED_MAX: usize = 16_384;

/// Whoever answers later than this tells only the directory.
const ASKED_LIFETIME: Duration = Duration::from_secs(3_600);

/// All of it, for one directory.
#[derive(Debug)]
pub(super) struct Dials {
    rate_of_dials: Mutex<Rate>,
    rate_of_questions: Mutex<Rate>,
    announced: Mutex<Announced>,
    asked: Mutex<Asked>,
}

/// Dials that were granted lately.
#[derive(Debug, Default)]
struct Announced {
    between: HashMap<DialId, Between>,
    /// The oldest first.
    order: VecDeque<(Instant, DialId)>,
}

#[derive(Debug)]
struct Between {
    asker: Weak<Session>,
    asked: Weak<Session>,
}

/// Who has asked a person and when, by that person.
#[derive(Debug, Default)]
struct Asked {
    askers: HashMap<PeerName, Vec<(PeerName, Instant)>>,
    count: usize,
}

impl Default for Dials {
    fn default() -> Self {
        Self {
            rate_of_dials: Mutex::new(Rate::of_dials()),
            rate_of_questions: Mutex::new(Rate::of_questions()),
            announced: Mutex::default(),
            asked: Mutex::default(),
        }
    }
}

impl Dials {
    /// Counts a dial of an account.
    ///
    /// # Errors
    /// [`Refusal::TooOften`] when the account has had its share.
    pub(super) fn count_dial(&self, account: &PeerName, now: UnixMillis) -> Result<(), Refusal> {
        lock(&self.rate_of_dials).take(account, now)
    }

    /// Counts a question of an account.
    ///
    /// # Errors
    /// [`Refusal::TooOften`] when the account has had its share.
    pub(super) fn count_question(&self, account: &PeerName, now: UnixMillis) -> Result<(), Refusal> {
        lock(&self.rate_of_questions).take(account, now)
    }

    /// Remembers between which sessions a dial was announced.
    pub(super) fn remember(&self, dial: DialId, asker: &Arc<Session>, asked: &Arc<Session>, now: Instant) {
        lock(&self.announced).remember(dial, asker, asked, now);
    }

    /// The session that took a dial, for the session that asked for it, once.
    ///
    /// # Errors
    /// [`Refusal::NotAccepted`] for anybody else, and when there is no such dial any more.
    pub(super) fn taker(&self, dial: DialId, asker: &Session, now: Instant) -> Result<Arc<Session>, Refusal> {
        lock(&self.announced).taker(dial, asker, now)
    }

    /// Remembers that somebody has asked a person.
    ///
    /// # Errors
    /// [`Refusal::Busy`] when too many wait for an answer.
    pub(super) fn ask(&self, asked: &PeerName, asker: &PeerName, now: Instant) -> Result<(), Refusal> {
        lock(&self.asked).ask(asked, asker, now)
    }

    /// Forgets a question, and says whether there was one: it is answered, or could not be put.
    pub(super) fn answered(&self, asked: &PeerName, asker: &PeerName, now: Instant) -> bool {
        lock(&self.asked).answered(asked, asker, now)
    }

    /// Forgets what two people have asked each other: nobody is told any more what the other one says to it.
    pub(super) fn forget_questions(&self, one: &PeerName, other: &PeerName, now: Instant) {
        let mut asked = lock(&self.asked);
        asked.answered(one, other, now);
        asked.answered(other, one, now);
    }
}

impl Announced {
    fn remember(&mut self, dial: DialId, asker: &Arc<Session>, asked: &Arc<Session>, now: Instant) {
        self.forget_old(now);
        if self.order.len() < DIALS_MAX {
            let between = Between { asker: Arc::downgrade(asker), asked: Arc::downgrade(asked) };
            self.between.insert(dial, between);
            self.order.push_back((now + DIAL_LIFETIME, dial));
        }
    }

    fn taker(&mut self, dial: DialId, asker: &Session, now: Instant) -> Result<Arc<Session>, Refusal> {
        self.forget_old(now);
        let is_theirs = |between: &Between| std::ptr::eq(between.asker.as_ptr(), asker);
        if !self.between.get(&dial).is_some_and(is_theirs) {
            return Err(Refusal::NotAccepted);
        }
        let between = self.between.remove(&dial);
        between.and_then(|between| between.asked.upgrade()).ok_or(Refusal::Offline)
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some((_, dial)) = self.order.pop_front_if(|(end, _)| *end <= now) {
            self.between.remove(&dial);
        }
    }
}

impl Asked {
    fn ask(&mut self, asked: &PeerName, asker: &PeerName, now: Instant) -> Result<(), Refusal> {
        self.answered(asked, asker, now);
        if self.count >= ASKED_MAX {
            self.forget_old(now);
        }
        if self.count >= ASKED_MAX {
            return Err(Refusal::Busy);
        }
        let askers = self.askers.entry(asked.clone()).or_default();
        if askers.len() >= CONSENT_ASKED_MAX {
            return Err(Refusal::Busy);
        }
        askers.push((asker.clone(), now));
        self.count += 1;
        Ok(())
    }

    fn answered(&mut self, asked: &PeerName, asker: &PeerName, now: Instant) -> bool {
        let Some(askers) = self.askers.get_mut(asked) else { return false };
        let before = askers.len();
        askers.retain(|(_, at)| now.duration_since(*at) < ASKED_LIFETIME);
        let waiting = askers.len();
        askers.retain(|(name, _)| name != asker);
        let was_asked = askers.len() < waiting;
        self.count -= before - askers.len();
        if askers.is_empty() {
            self.askers.remove(asked);
        }
        was_asked
    }

    fn forget_old(&mut self, now: Instant) {
        self.askers.retain(|_, askers| {
            askers.retain(|(_, at)| now.duration_since(*at) < ASKED_LIFETIME);
            !askers.is_empty()
        });
        self.count = self.askers.values().map(Vec::len).sum();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> PeerName {
        PeerName::parse(text).unwrap()
    }

    #[test]
    fn a_question_is_answered_once() {
        let (dials, now) = (Dials::default(), Instant::now());
        let (alice, bob, carol) = (name("alice"), name("bob"), name("carol"));
        dials.ask(&bob, &alice, now).unwrap();
        dials.ask(&bob, &alice, now).unwrap();
        assert!(!dials.answered(&bob, &carol, now) && !dials.answered(&alice, &bob, now));
        assert!(dials.answered(&bob, &alice, now));
        assert!(!dials.answered(&bob, &alice, now), "it was asked twice and is answered once");
        dials.ask(&bob, &alice, now).unwrap();
        assert!(!dials.answered(&bob, &alice, now + ASKED_LIFETIME), "too late");
    }

    #[test]
    fn so_many_may_wait_for_one_person_and_for_all() {
        let (dials, now) = (Dials::default(), Instant::now());
        for number in 0..CONSENT_ASKED_MAX {
            dials.ask(&name("bob"), &name(&format!("a{number}")), now).unwrap();
        }
        assert_eq!(dials.ask(&name("bob"), &name("late"), now), Err(Refusal::Busy));
        assert_eq!(dials.ask(&name("bob"), &name("a7"), now), Ok(()), "who waits already may ask again");
        for number in CONSENT_ASKED_MAX..ASKED_MAX {
            dials.ask(&name(&format!("b{number}")), &name("alice"), now).unwrap();
        }
        assert_eq!(dials.ask(&name("carol"), &name("late"), now), Err(Refusal::Busy));
        assert_eq!(dials.ask(&name("carol"), &name("late"), now + ASKED_LIFETIME), Ok(()));
        assert_eq!(lock(&dials.asked).count, 1, "what is too old made room");
    }
}
