//! Whether the key that somebody shows is the one to talk to.
//!
//! ```text
//! nobody --first key--> pinned --compared--> verified --another key--> held --accepted--> pinned
//!                       |    ^                   ^                      |
//!                       `----' another key:      `----------------------' the verified key again
//!                              shown, and used
//! ```
//! A person who compared the safety number is told of another key and talks to it only after accepting it; nobody else
//! can tell a new machine from somebody in between, so there another key is told and used.

use crate::wire::ids::{PeerKey, UnixMillis};

/// What is known of a person's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trust {
    /// The key that is talked to.
    pub key: PeerKey,
    /// When its owner was made sure of, if ever.
    pub verified_at: Option<UnixMillis>,
    /// Another key that was shown since, and not accepted.
    pub offered: Option<PeerKey>,
}

/// What a key that somebody shows comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody had a key here: it is pinned.
    First,
    /// It is the pinned key.
    Same,
    /// It replaces the pinned key, which was never verified.
    Replaced {
        /// The key before.
        old: PeerKey,
    },
    /// It is not to be used: the pinned key was verified.
    Held {
        /// The verified key.
        pinned: PeerKey,
        /// Whether this key was not shown before, so that the person must be told.
        is_news: bool,
    },
}

/// A key that cannot be marked as verified: another one was shown since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("another key was shown since and is not accepted")]
pub struct NotAccepted;

impl Trust {
    /// A key that is seen for the first time.
    #[must_use]
    pub fn first(key: PeerKey) -> Self {
        Self { key, verified_at: None, offered: None }
    }

    /// Its owner was made sure of.
    ///
    /// # Errors
    /// [`NotAccepted`] while another key waits to be accepted.
    pub fn verify(self, now: UnixMillis) -> Result<Self, NotAccepted> {
        match self.offered {
            None => Ok(Self { verified_at: Some(now), ..self }),
            Some(_) => Err(NotAccepted),
        }
    }

    /// The other key becomes the one that is talked to, unverified. `None` when there is no other.
    #[must_use]
    pub fn accept(self) -> Option<Self> {
        self.offered.map(Self::first)
    }
}

/// Judges a key that a person shows, or that a directory shows for them; says what to remember.
#[must_use]
pub fn meet(known: Option<Trust>, shown: PeerKey) -> (Trust, Verdict) {
    match known {
        None => (Trust::first(shown), Verdict::First),
        // What was offered in between is withdrawn.
        Some(trust) if trust.key == shown => (Trust { offered: None, ..trust }, Verdict::Same),
        Some(Trust { key: old, verified_at: None, .. }) => (Trust::first(shown), Verdict::Replaced { old }),
        Some(trust) => {
            let verdict = Verdict::Held { pinned: trust.key, is_news: trust.offered != Some(shown) };
            (Trust { offered: Some(shown), ..trust }, verdict)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(7);

    fn key(byte: u8) -> PeerKey {
        PeerKey::from_bytes([byte; 32])
    }

    fn verified(byte: u8) -> Trust {
        Trust::first(key(byte)).verify(NOW).unwrap()
    }

    #[test]
    fn the_first_key_is_pinned_and_stays() {
        let (trust, verdict) = meet(None, key(1));
        assert_eq!((trust, verdict), (Trust::first(key(1)), Verdict::First));
        assert_eq!(meet(Some(trust), key(1)), (trust, Verdict::Same));
    }

    #[test]
    fn before_verification_another_key_is_used() {
        let (trust, verdict) = meet(Some(Trust::first(key(1))), key(2));
        assert_eq!((trust, verdict), (Trust::first(key(2)), Verdict::Replaced { old: key(1) }));
    }

    #[test]
    fn after_verification_another_key_is_told_once_and_never_used() {
        let (held, verdict) = meet(Some(verified(1)), key(2));
        assert_eq!(verdict, Verdict::Held { pinned: key(1), is_news: true });
        assert_eq!((held.key, held.verified_at, held.offered), (key(1), Some(NOW), Some(key(2))));
        assert_eq!(meet(Some(held), key(2)), (held, Verdict::Held { pinned: key(1), is_news: false }));
        assert_eq!(meet(Some(held), key(3)).1, Verdict::Held { pinned: key(1), is_news: true });
    }

    #[test]
    fn the_verified_key_again_withdraws_the_other() {
        let (held, _) = meet(Some(verified(1)), key(2));
        assert_eq!(meet(Some(held), key(1)), (verified(1), Verdict::Same));
    }

    #[test]
    fn an_accepted_key_is_not_verified_and_a_held_one_cannot_be() {
        let (held, _) = meet(Some(verified(1)), key(2));
        assert_eq!(held.verify(NOW), Err(NotAccepted));
        assert_eq!(held.accept(), Some(Trust::first(key(2))));
        assert_eq!(verified(1).accept(), None);
    }

    /// Every sequence of five of four keys, and of marking and accepting: a verified key is left by accepting only.
    #[test]
    fn nothing_but_the_person_replaces_a_verified_key() {
        for mut script in 0..6_u32.pow(5) {
            let mut trust = Trust::first(key(0));
            for _ in 0..5 {
                let (before, step) = (trust, script % 6);
                script /= 6;
                match u8::try_from(step).unwrap() {
                    4 => trust = trust.verify(NOW).unwrap_or(trust),
                    5 => trust = trust.accept().unwrap_or(trust),
                    shown => trust = meet(Some(trust), key(shown)).0,
                }
                let replaced = trust.key != before.key;
                assert!(!replaced || before.verified_at.is_none() || step == 5, "{before:?} became {trust:?}");
                assert!(!replaced || trust.verified_at.is_none());
            }
        }
    }
}
