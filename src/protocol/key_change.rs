//! Lets the owner of an account answer before another key takes it: whoever brings the right password waits for them.
//! Knows no password, session or store.
//!
//! ```text
//! right password --> Asked --owner allows----------------> the key may replace the old one
//!                      |  \--60 s without an answer------> the same: the owner may still undo it
//!                      \-----owner declines--------------> Declined for 10 minutes
//! ```

use std::collections::HashMap;

use crate::wire::ids::{PeerKey, PeerName, UnixMillis};
use crate::wire::limits::{KEY_REQUESTS_MAX, KEY_REQUESTS_PER_ACCOUNT_MAX};
use crate::wire::refusal::Refusal;

/// How long the owner has to answer.
const ANSWER_MILLIS: u64 = 60_000;

/// How long after that the same key may still come back without its password being looked at again.
const RETURN_MILLIS: u64 = 60_000;

/// How long a declined key is told so without the owner being asked again.
const DECLINED_MILLIS: u64 = 10 * 60_000;

/// The keys that wait for an answer, or got one a moment ago.
#[derive(Debug, Default)]
pub struct KeyRequests {
    requests: HashMap<(PeerName, PeerKey), Request>,
}

#[derive(Debug)]
struct Request {
    /// The key that would be replaced: its owner was asked.
    old: PeerKey,
    asked_at: UnixMillis,
    answer: Option<Answer>,
}

/// What the owner said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The key may come in.
    Allowed,
    /// It may not.
    Declined,
}

/// Where a key stands that comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is known of it: its password must be looked at.
    Unknown,
    /// Its owner is asked, or has declined: what it is told.
    Refused(Refusal),
    /// It may replace the old key: allowed, or the owner did not answer.
    Granted,
}

impl KeyRequests {
    /// Where a key stands that wants to replace `old`. A granted request is used up.
    pub fn standing(&mut self, name: &PeerName, key: PeerKey, old: PeerKey, now: UnixMillis) -> Standing {
        self.forget_old(now);
        let place = (name.clone(), key);
        let Some(request) = self.requests.get(&place).filter(|request| request.old == old) else {
            return Standing::Unknown;
        };
        let wait = request.asked_at.plus_millis(ANSWER_MILLIS).0.saturating_sub(now.0);
        match request.answer {
            Some(Answer::Declined) => Standing::Refused(Refusal::OwnerDeclined),
            None if wait > 0 => Standing::Refused(asked(wait)),
            None | Some(Answer::Allowed) => {
                self.requests.remove(&place);
                Standing::Granted
            }
        }
    }

    /// Notes that the owner of `old` is asked about a key whose password was right; says what the newcomer is told.
    ///
    /// # Errors
    /// [`Refusal::TooOften`] when the owner has been asked too much lately, [`Refusal::Busy`] when everybody has.
    pub fn ask(&mut self, name: &PeerName, key: PeerKey, old: PeerKey, now: UnixMillis) -> Result<Refusal, Refusal> {
        self.forget_old(now);
        let of_account = self.requests.iter().filter(|((known, other), _)| known == name && *other != key);
        let ends = of_account.map(|(_, request)| request.forgotten_at());
        let (count, first_end) = ends.fold((0, u64::MAX), |(count, first), end| (count + 1, first.min(end.0)));
        if count >= KEY_REQUESTS_PER_ACCOUNT_MAX {
            return Err(Refusal::TooOften { seconds: seconds(first_end.saturating_sub(now.0)) });
        }
        if self.requests.len() >= KEY_REQUESTS_MAX {
            return Err(Refusal::Busy);
        }
        self.requests.insert((name.clone(), key), Request { old, asked_at: now, answer: None });
        Ok(asked(ANSWER_MILLIS))
    }

    /// The owner's answer, from a session with the key that would be replaced.
    ///
    /// # Errors
    /// [`Refusal::NoKeyRequest`] when nothing waits for it.
    pub fn answer(
        &mut self,
        name: &PeerName,
        key: PeerKey,
        owner: PeerKey,
        answer: Answer,
        now: UnixMillis,
    ) -> Result<(), Refusal> {
        self.forget_old(now);
        let request = self.requests.get_mut(&(name.clone(), key)).filter(|request| request.old == owner);
        request.ok_or(Refusal::NoKeyRequest)?.answer = Some(answer);
        Ok(())
    }

    /// Forgets what waits for an account whose password is another one now, or which is gone.
    pub fn forget(&mut self, name: &PeerName) {
        self.requests.retain(|(known, _), _| known != name);
    }

    fn forget_old(&mut self, now: UnixMillis) {
        self.requests.retain(|_, request| now < request.forgotten_at());
    }
}

impl Request {
    fn forgotten_at(&self) -> UnixMillis {
        self.asked_at.plus_millis(match self.answer {
            Some(Answer::Declined) => DECLINED_MILLIS,
            None | Some(Answer::Allowed) => ANSWER_MILLIS + RETURN_MILLIS,
        })
    }
}

fn asked(millis: u64) -> Refusal {
    Refusal::OwnerAsked { seconds: seconds(millis) }
}

fn seconds(millis: u64) -> u32 {
    u32::try_from(millis.div_ceil(1_000)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: PeerKey = PeerKey::from_bytes([1; 32]);
    const NEW: PeerKey = PeerKey::from_bytes([2; 32]);

    fn alice() -> PeerName {
        PeerName::parse("alice").unwrap()
    }

    fn at(second: u64) -> UnixMillis {
        UnixMillis(1_700_000_000_000 + second * 1_000)
    }

    /// Requests of which one was asked at second 0.
    fn one_asked() -> KeyRequests {
        let mut requests = KeyRequests::default();
        assert_eq!(requests.standing(&alice(), NEW, OLD, at(0)), Standing::Unknown);
        assert_eq!(requests.ask(&alice(), NEW, OLD, at(0)), Ok(Refusal::OwnerAsked { seconds: 60 }));
        requests
    }

    #[test]
    fn an_allowed_key_gets_in_once() {
        let mut requests = one_asked();
        let waiting = Standing::Refused(Refusal::OwnerAsked { seconds: 58 });
        assert_eq!(requests.standing(&alice(), NEW, OLD, at(2)), waiting);
        requests.answer(&alice(), NEW, OLD, Answer::Allowed, at(3)).unwrap();
        assert_eq!(requests.standing(&alice(), NEW, OLD, at(4)), Standing::Granted);
        assert_eq!(requests.standing(&alice(), NEW, OLD, at(5)), Standing::Unknown);
    }

    #[test]
    fn a_declined_key_is_told_so_for_ten_minutes() {
        let mut requests = one_asked();
        requests.answer(&alice(), NEW, OLD, Answer::Declined, at(3)).unwrap();
        assert_eq!(requests.standing(&alice(), NEW, OLD, at(599)), Standing::Refused(Refusal::OwnerDeclined));
        assert_eq!(requests.standing(&alice(), NEW, OLD, at(600)), Standing::Unknown);
    }

    #[test]
    fn silence_lets_in_after_a_minute_and_is_forgotten_after_two() {
        assert_eq!(one_asked().standing(&alice(), NEW, OLD, at(60)), Standing::Granted);
        assert_eq!(one_asked().standing(&alice(), NEW, OLD, at(120)), Standing::Unknown);
    }

    #[test]
    fn only_the_owner_of_the_asked_key_answers() {
        let mut requests = one_asked();
        let other = PeerKey::from_bytes([9; 32]);
        assert_eq!(requests.answer(&alice(), NEW, other, Answer::Allowed, at(1)), Err(Refusal::NoKeyRequest));
        assert_eq!(requests.answer(&alice(), other, OLD, Answer::Allowed, at(1)), Err(Refusal::NoKeyRequest));
        // The account has changed hands meanwhile: what was asked of the old owner does not count.
        assert_eq!(requests.standing(&alice(), NEW, other, at(1)), Standing::Unknown);
    }

    #[test]
    fn an_owner_is_not_flooded_and_neither_is_the_memory() {
        let mut requests = KeyRequests::default();
        let key = |number: u8| PeerKey::from_bytes([number; 32]);
        for number in 0..u8::try_from(KEY_REQUESTS_PER_ACCOUNT_MAX).unwrap() {
            requests.ask(&alice(), key(number), OLD, at(0)).unwrap();
        }
        assert_eq!(requests.ask(&alice(), key(200), OLD, at(20)), Err(Refusal::TooOften { seconds: 100 }));
        for number in 0..KEY_REQUESTS_MAX {
            let name = PeerName::parse(&format!("user{number}")).unwrap();
            let asked = requests.ask(&name, NEW, OLD, at(20));
            assert_eq!(asked.is_ok(), number + KEY_REQUESTS_PER_ACCOUNT_MAX < KEY_REQUESTS_MAX);
        }
        assert!(requests.ask(&alice(), key(200), OLD, at(500)).is_ok());
    }
}
