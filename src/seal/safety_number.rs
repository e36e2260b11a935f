//! The number that two people compare to know that nobody stands between them: 60 digits made of both names and keys.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA512};

use crate::wire::ids::{PeerKey, PeerName};

/// Rounds of hashing: finding another key with the same 30 digits stays out of reach although 30 digits are only
/// 100 bits (the construction of Signal's numeric fingerprints, 5,200 rounds of SHA-512).
const ROUNDS: usize = 5_200;

/// Digits in a group.
const GROUP_DIGITS: usize = 5;

/// Groups for each person.
const GROUPS: usize = 6;

/// What was hashed, so that no other number of ours can be taken for this one.
const LABEL: &[u8] = b"qchat safety number v1";

/// A number that is the same on both sides, and another one as soon as either key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SafetyNumber(String);

impl SafetyNumber {
    /// Computes the number of two people, whichever is named first.
    #[must_use]
    pub fn of(one: (&PeerName, &PeerKey), other: (&PeerName, &PeerKey)) -> Self {
        let mut halves = [half(one), half(other)];
        halves.sort_unstable();
        Self(halves.concat())
    }

    /// The 60 digits without spaces: what a QR code carries.
    #[must_use]
    pub fn digits(&self) -> &str {
        &self.0
    }
}

/// Twelve groups of five digits, in three lines of four groups.
impl fmt::Display for SafetyNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups: Vec<&str> = (0..2 * GROUPS).map(|group| &self.0[group * GROUP_DIGITS..][..GROUP_DIGITS]).collect();
        let lines: Vec<String> = groups.chunks(4).map(|line| line.join(" ")).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// The 30 digits of one person.
fn half((name, key): (&PeerName, &PeerKey)) -> String {
    let mut hash = [LABEL, key.as_bytes(), name.as_str().as_bytes()].concat();
    for _ in 0..ROUNDS {
        let mut round = Context::new(&SHA512);
        round.update(&hash);
        round.update(key.as_bytes());
        hash = round.finish().as_ref().to_vec();
    }
    hash.chunks_exact(GROUP_DIGITS).take(GROUPS).map(group).collect()
}

/// Five bytes as five digits.
fn group(bytes: &[u8]) -> String {
    let number = bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    format!("{:05}", number % 100_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::random::{self, OsRandom};

    fn person(name: &str, key: u8) -> (PeerName, PeerKey) {
        (PeerName::parse(name).unwrap(), PeerKey::from_bytes([key; 32]))
    }

    fn number(one: &(PeerName, PeerKey), other: &(PeerName, PeerKey)) -> SafetyNumber {
        SafetyNumber::of((&one.0, &one.1), (&other.0, &other.1))
    }

    #[test]
    fn both_sides_see_the_same_number() {
        let (alice, bob) = (person("alice", 1), person("bob", 2));
        assert_eq!(number(&alice, &bob), number(&bob, &alice));
    }

    #[test]
    fn another_key_or_name_on_either_side_is_another_number() {
        let (alice, bob) = (person("alice", 1), person("bob", 2));
        let before = number(&alice, &bob);
        for changed in [
            number(&person("alice", 3), &bob),
            number(&alice, &person("bob", 3)),
            number(&person("alicia", 1), &bob),
            number(&alice, &person("bobby", 2)),
        ] {
            assert_ne!(changed, before);
        }
    }

    /// Of people drawn at random: symmetric, and no bit of either key is without effect.
    #[test]
    fn it_is_symmetric_and_changes_with_every_bit_of_either_key() {
        let draw = |name: &str| (PeerName::parse(name).unwrap(), PeerKey::from_bytes(random::array(&mut OsRandom)));
        for round in 0..24_usize {
            let (one, other) = (draw(&format!("one{round}")), draw(&format!("other{round}")));
            let before = number(&one, &other);
            assert_eq!(before, number(&other, &one), "{one:?} and {other:?}");
            let mut flipped = *one.1.as_bytes();
            flipped[round] ^= 1 << (round % 8);
            let changed = (one.0.clone(), PeerKey::from_bytes(flipped));
            assert_ne!(before, number(&changed, &other), "{one:?} and {changed:?}");
            assert_ne!(before, number(&other, &changed), "{one:?} and {changed:?}");
        }
    }

    #[test]
    fn it_is_sixty_digits_in_groups_of_five() {
        let number = number(&person("alice", 1), &person("bob", 2));
        assert_eq!(number.digits().len(), 60);
        assert!(number.digits().bytes().all(|digit| digit.is_ascii_digit()));
        let shown = number.to_string();
        assert_eq!(shown.lines().count(), 3);
        assert!(shown.split_whitespace().all(|group| group.len() == 5));
    }
}
