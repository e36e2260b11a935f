//! Cookies: short proofs that somebody receives at the address that they send from, which need not be remembered.

use super::random::{self, Random};

/// The context of BLAKE3's key derivation, which keeps these apart from all other hashes.
const CONTEXT: &str = "qchat 2026 cookie of the JSON dialect v1";

/// Makes cookies and knows them again. Lives as long as the process.
pub struct CookieKey([u8; 32]);

impl std::fmt::Debug for CookieKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CookieKey(..)")
    }
}

impl CookieKey {
    /// A key that nobody else knows.
    pub fn fresh(random: &mut dyn Random) -> Self {
        Self(blake3::derive_key(CONTEXT, &random::array::<32>(random)))
    }

    /// The cookie of whoever these bytes stand for, at a time.
    #[must_use]
    pub fn cookie(&self, whose: &[u8], epoch: u64) -> [u8; 8] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&epoch.to_be_bytes()).update(whose);
        let mut cookie = [0; 8];
        hasher.finalize_xof().fill(&mut cookie);
        cookie
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::random::OsRandom;

    #[test]
    fn a_cookie_is_of_its_key_its_owner_and_its_time_alone() {
        let (key, other) = (CookieKey::fresh(&mut OsRandom), CookieKey::fresh(&mut OsRandom));
        let cookie = key.cookie(b"192.0.2.1:5000", 7);
        assert_eq!(key.cookie(b"192.0.2.1:5000", 7), cookie);
        assert_ne!(key.cookie(b"192.0.2.1:5000", 8), cookie);
        assert_ne!(key.cookie(b"192.0.2.1:5001", 7), cookie);
        assert_ne!(other.cookie(b"192.0.2.1:5000", 7), cookie);
    }
}
