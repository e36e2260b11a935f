//! Whose address may be told to whom: what a grant is worth, and whether two peers may look for a direct path. Knows no
//! addresses and no disk.
//!
//! ```text
//! Once ----a direct path was made----> gone        Until --time over--> gone
//!   `------------------denied----------> gone <--------denied--+-------- Always
//! ```
//! Friendship is worth as much as what was allowed always, for as long as it lasts.

use super::people::Relation;
use crate::wire::ids::UnixMillis;
use crate::wire::rendezvous::{Allowance, WhyRelayed};

/// What is known when one peer wants to be connected to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Whether the asker wants to be reached directly.
    pub asker_wants_direct: bool,
    /// Whether the other side wants that; `None` before it was asked.
    pub asked_wants_direct: Option<bool>,
    /// Whether the asker holds a grant of the other side.
    pub is_granted: bool,
    /// Whether the asker wants its own address told: it asks for a connection, or the other side holds a grant of it.
    pub asker_tells: bool,
    /// Whether it asks for a file that the other side publishes to everyone without hiding where it is.
    pub fetches_published: bool,
}

/// Why two peers may learn each other's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// Whoever publishes a file wants it to be fetched: that uses no grant up.
    Published,
    /// By a grant.
    Granted,
}

/// Whether two peers may look for a direct path. Both sides' addresses are told or neither's.
///
/// # Errors
/// Why they may not. What the asker itself wants comes first, then what the other side has not allowed.
pub fn decide(facts: Facts) -> Result<Consent, WhyRelayed> {
    if !facts.asker_wants_direct {
        return Err(WhyRelayed::DiallerHides);
    }
    let consent = match (facts.fetches_published, facts.is_granted && facts.asker_tells) {
        (true, _) => Consent::Published,
        (false, true) => Consent::Granted,
        (false, false) => return Err(WhyRelayed::NoConsent),
    };
    if facts.asked_wants_direct == Some(false) { Err(WhyRelayed::DialledHides) } else { Ok(consent) }
}

/// What a person allows somebody now, of what they have granted them: friends may learn where friends are, and who is
/// kept out nothing.
#[must_use]
pub fn allowed(person: Relation, granted: Option<Allowance>, now: UnixMillis) -> Option<Allowance> {
    match (person.blocks, person.are_friends) {
        (true, _) => None,
        (false, true) => Some(Allowance::Always),
        (false, false) => granted.filter(|allowance| holds(*allowance, now)),
    }
}

/// Whether an allowance still allows anything.
#[must_use]
pub fn holds(allowance: Allowance, now: UnixMillis) -> bool {
    match allowance {
        Allowance::Once | Allowance::Always => true,
        Allowance::Until(end) => now < end,
    }
}

/// What is left of an allowance that was used.
#[must_use]
pub fn after_use(allowance: Allowance) -> Option<Allowance> {
    match allowance {
        Allowance::Once => None,
        Allowance::Until(_) | Allowance::Always => Some(allowance),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_of_facts_is_decided() {
        use Consent::{Granted, Published};
        use WhyRelayed::{DialledHides, DiallerHides, NoConsent};
        // Published, granted, told by the asker; then the verdict before the other side was asked, and when it wants or not.
        let table = [
            ((false, false, false), [Err(NoConsent); 3]),
            ((false, false, true), [Err(NoConsent); 3]),
            ((false, true, false), [Err(NoConsent); 3]),
            ((false, true, true), [Ok(Granted), Ok(Granted), Err(DialledHides)]),
            ((true, false, false), [Ok(Published), Ok(Published), Err(DialledHides)]),
            ((true, false, true), [Ok(Published), Ok(Published), Err(DialledHides)]),
            ((true, true, false), [Ok(Published), Ok(Published), Err(DialledHides)]),
            ((true, true, true), [Ok(Published), Ok(Published), Err(DialledHides)]),
        ];
        for ((fetches_published, is_granted, asker_tells), expected) in table {
            for (asked_wants_direct, expected) in [None, Some(true), Some(false)].into_iter().zip(expected) {
                for (asker_wants_direct, expected) in [(true, expected), (false, Err(DiallerHides))] {
                    let facts =
                        Facts { asker_wants_direct, asked_wants_direct, is_granted, asker_tells, fetches_published };
                    assert_eq!(decide(facts), expected, "{facts:?}");
                }
            }
        }
    }

    /// What may happen to the grants of one person for another.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Allow(Allowance),
        Deny,
        Dial,
        Wait,
    }

    const HOUR: u64 = 10;

    /// Every order of so many steps.
    fn orders(length: u32) -> impl Iterator<Item = Vec<Step>> {
        let step = |choice| match choice {
            0 => Step::Allow(Allowance::Once),
            1 => Step::Allow(Allowance::Until(UnixMillis(HOUR))),
            2 => Step::Allow(Allowance::Always),
            3 => Step::Deny,
            4 => Step::Dial,
            _ => Step::Wait,
        };
        (0..6_usize.pow(length))
            .map(move |number| (0..length).map(|place| step(number / 6_usize.pow(place) % 6)).collect())
    }

    #[test]
    fn under_any_order_a_dial_is_direct_as_the_last_word_says() {
        for steps in orders(6) {
            let (mut grant, mut now) = (None, UnixMillis(0));
            // What a person would say who has seen it all: the last word, and how often it was used.
            let (mut last_word, mut uses) = (None, 0);
            for step in &steps {
                match *step {
                    Step::Allow(allowance) => (grant, last_word, uses) = (Some(allowance), Some(allowance), 0),
                    Step::Deny => (grant, last_word) = (None, None),
                    Step::Wait => now = now.plus_millis(HOUR),
                    Step::Dial => {
                        let is_direct = grant.is_some_and(|allowance| holds(allowance, now));
                        let expected = match last_word {
                            None => false,
                            Some(Allowance::Once) => uses == 0,
                            Some(Allowance::Until(end)) => now.0 < end.0,
                            Some(Allowance::Always) => true,
                        };
                        assert_eq!(is_direct, expected, "{steps:?}");
                        if is_direct {
                            grant = grant.and_then(after_use);
                            uses += 1;
                        }
                    }
                }
            }
        }
    }
}
