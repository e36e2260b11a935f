//! Whether somebody receives at the address that they send from: a nonce goes there, and comes back.

use std::net::SocketAddr;

use crate::wire::limits::RELAY_CHALLENGES_MAX;

/// Addresses that were sent a nonce and have not sent it back, the oldest first.
#[derive(Debug, Default)]
pub struct Challenges(Vec<(SocketAddr, [u8; 16])>);

impl Challenges {
    /// The nonce to send to an address: `fresh` when it has none, and then the oldest of too many makes room.
    pub fn challenge(&mut self, address: SocketAddr, fresh: [u8; 16]) -> [u8; 16] {
        if let Some((_, nonce)) = self.0.iter().find(|(challenged, _)| *challenged == address) {
            return *nonce;
        }
        if self.0.len() >= RELAY_CHALLENGES_MAX {
            self.0.remove(0);
        }
        self.0.push((address, fresh));
        fresh
    }

    /// Whether this address sends its nonce back. That is good for one time.
    pub fn is_proof(&mut self, address: SocketAddr, nonce: [u8; 16]) -> bool {
        let found = self.0.iter().position(|challenge| *challenge == (address, nonce));
        found.map(|place| self.0.remove(place)).is_some()
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn only_the_address_that_was_challenged_proves_and_once() {
        let mut challenges = Challenges::default();
        assert!(!challenges.is_proof(at(1), [0; 16]));
        assert_eq!(challenges.challenge(at(1), [7; 16]), [7; 16]);
        assert_eq!(challenges.challenge(at(1), [8; 16]), [7; 16], "asked again, it is told the same");
        assert!(!challenges.is_proof(at(2), [7; 16]) && !challenges.is_proof(at(1), [8; 16]));
        assert!(challenges.is_proof(at(1), [7; 16]) && !challenges.is_proof(at(1), [7; 16]));
    }

    #[test]
    fn the_oldest_of_too_many_makes_room() {
        let mut challenges = Challenges::default();
        for port in 0..100 {
            challenges.challenge(at(port), [7; 16]);
        }
        assert_eq!(challenges.count(), RELAY_CHALLENGES_MAX);
        assert!(!challenges.is_proof(at(0), [7; 16]) && challenges.is_proof(at(99), [7; 16]));
    }
}
