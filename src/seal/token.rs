//! Single-use tokens as the directory keeps them: only their hash, so that a copy of its store invites nobody.

use crate::wire::ids::InviteToken;

/// The context of BLAKE3's key derivation, which keeps this hash apart from all others.
const CONTEXT: &str = "qchat 2026 invitation token v1";

/// What is kept of a token. It has 128 random bits, so a fast hash is enough.
#[must_use]
pub fn hash(token: &InviteToken) -> [u8; 32] {
    blake3::derive_key(CONTEXT, token.expose())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_of_its_token_alone() {
        let [one, other] = [1, 2].map(|byte| InviteToken::from_bytes([byte; 16]));
        assert_eq!(hash(&one), hash(&one));
        assert_ne!(hash(&one), hash(&other));
        assert!(!hash(&one).starts_with(one.expose()));
    }
}
