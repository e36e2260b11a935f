//! Tokens as they are kept: only their hash, so that a copy of the store invites nobody and speaks for nobody.

use crate::wire::ids::{InviteToken, PeerName};

/// The context of BLAKE3's key derivation, which keeps this hash apart from all others.
const CONTEXT: &str = "qchat 2026 invitation token v1";

/// What is kept of a token. It has 128 random bits, so a fast hash is enough.
#[must_use]
pub fn hash(token: &InviteToken) -> [u8; 32] {
    blake3::derive_key(CONTEXT, token.expose())
}

/// And for the sessions of older programs.
const LEGACY_CONTEXT: &str = "qchat 2026 session token of an older program v1";

/// What is kept of the token of an older program's session, with the name whose session it is: two that have the same
/// token do not show it. It has only 40 random bits, as those programs expect; so whoever has a copy of the store finds it
/// by trying, in hours.
#[must_use]
pub fn legacy_hash(name: &PeerName, token: &str) -> [u8; 32] {
    blake3::derive_key(LEGACY_CONTEXT, format!("{name} {token}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_session_is_of_its_name_and_token() {
        let [alice, bob] = ["alice", "bob"].map(|name| PeerName::parse(name).unwrap());
        let hash = legacy_hash(&alice, "0123456789");
        assert_eq!(hash, legacy_hash(&alice, "0123456789"));
        assert_ne!(hash, legacy_hash(&bob, "0123456789"));
        assert_ne!(hash, legacy_hash(&alice, "0123456780"));
    }

    #[test]
    fn a_hash_is_of_its_token_alone() {
        let [one, other] = [1, 2].map(|byte| InviteToken::from_bytes([byte; 16]));
        assert_eq!(hash(&one), hash(&one));
        assert_ne!(hash(&one), hash(&other));
        assert!(!hash(&one).starts_with(one.expose()));
    }
}
