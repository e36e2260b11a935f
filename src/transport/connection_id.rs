//! Connection ids (RFC 9000, section 5.1) that nobody is likely to draw twice, and that an endpoint knows as its own after a restart.
//!
//! ```text
//! id := 6 random bytes, 2 bytes of HMAC(key, "connection id", random bytes)
//! ```
//! quinn's own have three random bytes. With 10,000 connections, and several ids for each, one in 200 newcomers who has to prove
//! their address is then given the id of somebody else by its Retry packet, under which nobody answers them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::HmacKey;
use quinn::{ConnectionId, ConnectionIdGenerator};
use quinn_proto::InvalidCid;

use crate::seal::random::{self, OsRandom};

const RANDOM_BYTES: usize = 6;

/// One in 65,536 packets of garbage is taken for one of an earlier process, and answered by a packet that is smaller.
const SIGNATURE_BYTES: usize = 2;

const ID_BYTES: usize = RANDOM_BYTES + SIGNATURE_BYTES;

/// Draws connection ids and knows them again, with a key that outlives the process.
#[derive(Clone)]
pub(super) struct SignedIds {
    key: Arc<dyn HmacKey>,
}

impl SignedIds {
    pub(super) fn new(key: Arc<dyn HmacKey>) -> Self {
        Self { key }
    }

    fn sign(&self, random: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let mut signature = vec![0; self.key.signature_len()];
        self.key.sign(&[b"connection id", random].concat(), &mut signature);
        signature.first_chunk().copied().expect("a signature is longer than two bytes")
    }
}

impl fmt::Debug for SignedIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedIds").finish_non_exhaustive()
    }
}

impl ConnectionIdGenerator for SignedIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let random: [u8; RANDOM_BYTES] = random::array(&mut OsRandom);
        ConnectionId::new(&[&random[..], &self.sign(&random)].concat())
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        match id.split_at_checked(RANDOM_BYTES) {
            Some((random, signature)) if self.sign(random) == signature => Ok(()),
            _ => Err(InvalidCid),
        }
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::seal::identity::reset_key;

    fn ids(of: &[u8]) -> SignedIds {
        SignedIds::new(Arc::new(reset_key(of)))
    }

    #[test]
    fn an_endpoint_knows_its_own_after_a_restart_and_nobody_elses() {
        let (mut before, after, other) = (ids(b"one"), ids(b"one"), ids(b"another"));
        let drawn: Vec<_> = (0..1_000).map(|_| before.generate_cid()).collect();
        assert!(drawn.iter().all(|id| id.len() == after.cid_len() && after.validate(id).is_ok()));
        let mistaken = drawn.iter().filter(|id| other.validate(id).is_ok()).count();
        assert!(mistaken <= 3, "{mistaken} of 1,000");
        assert!(after.validate(&ConnectionId::new(&[7; 3])).is_err());
    }

    #[test]
    fn those_of_many_thousand_connections_differ() {
        let mut ids = ids(b"one");
        let drawn: HashSet<Vec<u8>> = (0..100_000).map(|_| ids.generate_cid().to_vec()).collect();
        assert_eq!(drawn.len(), 100_000);
    }
}
