//! The short-lived key pair that others seal messages to: X-Wing, which is X25519 and ML-KEM-768 together
//! (draft-connolly-cfrg-xwing-kem), signed by the identity it belongs to.
//!
//! An X-Wing private key is a seed of 32 bytes; both halves are made from it again whenever they are needed.

use std::fmt;

use hpke::kem::XWing;
use hpke::{Deserializable as _, Kem, Serializable as _};
use zeroize::{Zeroize as _, Zeroizing};

use super::identity::{self, IdentityKey, Label};
use super::random::{self, Random};
use crate::wire::account::{Prekey, SignedPrekey};
use crate::wire::codec;
use crate::wire::ids::{PeerKey, PeerName, PrekeyId, UnixMillis};

/// Bytes of an X-Wing public key: 1,184 of ML-KEM-768 and 32 of X25519.
pub const PUBLIC_BYTES: usize = 1_216;

const ID_BYTES: usize = 16;
const PRIVATE_BYTES: usize = 32;

/// Bytes of a stored [`PrekeySecret`]: its id, then the X-Wing private key.
pub const SECRET_BYTES: usize = ID_BYTES + PRIVATE_BYTES;

/// Why a prekey is not to be sealed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PrekeyError {
    /// It was signed for another account.
    #[error("the prekey belongs to another account")]
    WrongAccount,
    /// It was signed by another identity.
    #[error("the prekey belongs to another identity")]
    WrongIdentity,
    /// It is no X-Wing public key.
    #[error("the prekey has {found} bytes instead of {PUBLIC_BYTES}")]
    BadLength {
        /// The bytes it has.
        found: usize,
    },
    /// Its time is over.
    #[error("the prekey has expired")]
    Expired,
    /// Its owner did not sign it.
    #[error("the prekey's signature does not fit")]
    BadSignature,
}

/// Stored bytes that are not a prekey's secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a stored prekey has {SECRET_BYTES} bytes, not {0}")]
pub struct MalformedSecret(usize);

/// The private half of a prekey. Wiped when dropped, never shown.
pub struct PrekeySecret {
    id: PrekeyId,
    private: Zeroizing<[u8; PRIVATE_BYTES]>,
    public: Vec<u8>,
}

impl PrekeySecret {
    /// Draws a new prekey and its id.
    pub fn generate(random: &mut dyn Random) -> Self {
        let id = PrekeyId::from_bytes(random::array(random));
        let seed = Zeroizing::new(random::array::<PRIVATE_BYTES>(random));
        let (private, _) = XWing::derive_keypair(&seed[..]);
        let mut bytes = private.to_bytes();
        let secret = Self::from_parts(id, &bytes);
        bytes.zeroize();
        secret
    }

    /// Which prekey this is.
    #[must_use]
    pub fn id(&self) -> PrekeyId {
        self.id
    }

    /// The secret as it is stored: 48 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new([&self.id.as_bytes()[..], &self.private[..]].concat())
    }

    /// Reads a stored secret.
    ///
    /// # Errors
    /// [`MalformedSecret`] when it does not have 48 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MalformedSecret> {
        match bytes.split_first_chunk::<ID_BYTES>() {
            Some((id, private)) if private.len() == PRIVATE_BYTES => {
                Ok(Self::from_parts(PrekeyId::from_bytes(*id), private))
            }
            Some(_) | None => Err(MalformedSecret(bytes.len())),
        }
    }

    /// Signs the public half, to be handed out until it expires.
    #[must_use]
    pub fn publish(&self, identity: &IdentityKey, account: &PeerName, expires: UnixMillis) -> SignedPrekey {
        let prekey = Prekey {
            account: account.clone(),
            identity: identity.public(),
            id: self.id,
            public: self.public.clone(),
            expires,
        };
        let signature = identity.sign(Label::Prekey, &statement(&prekey));
        SignedPrekey { prekey, signature }
    }

    /// The private half as HPKE takes it.
    pub(super) fn private(&self) -> <XWing as Kem>::PrivateKey {
        private_key(&self.private[..])
    }

    /// Takes 32 bytes of private key and makes the public half from them.
    fn from_parts(id: PrekeyId, private: &[u8]) -> Self {
        let public = XWing::sk_to_pk(&private_key(private)).to_bytes().to_vec();
        let mut bytes = Zeroizing::new([0; PRIVATE_BYTES]);
        bytes.copy_from_slice(private);
        Self { id, private: bytes, public }
    }
}

impl fmt::Debug for PrekeySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrekeySecret({})", self.id)
    }
}

/// Checks that a prekey is this account's, by this identity, and not expired.
///
/// # Errors
/// [`PrekeyError`] says what is wrong with it; one with an error is never to be sealed to.
pub fn verify(
    signed: &SignedPrekey,
    account: &PeerName,
    identity: &PeerKey,
    now: UnixMillis,
) -> Result<(), PrekeyError> {
    let prekey = &signed.prekey;
    if prekey.account != *account {
        return Err(PrekeyError::WrongAccount);
    }
    if prekey.identity != *identity {
        return Err(PrekeyError::WrongIdentity);
    }
    if prekey.public.len() != PUBLIC_BYTES {
        return Err(PrekeyError::BadLength { found: prekey.public.len() });
    }
    if now >= prekey.expires {
        return Err(PrekeyError::Expired);
    }
    identity::verify(identity, Label::Prekey, &statement(prekey), &signed.signature)
        .map_err(|_| PrekeyError::BadSignature)
}

fn private_key(bytes: &[u8]) -> <XWing as Kem>::PrivateKey {
    <XWing as Kem>::PrivateKey::from_bytes(bytes).expect("every 32 bytes are an X-Wing private key")
}

/// What an identity signs of its prekey.
fn statement(prekey: &Prekey) -> Vec<u8> {
    codec::encode(prekey).expect("a name, 1,216 bytes of key and three numbers fit a frame")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::random::OsRandom;

    const EXPIRES: UnixMillis = UnixMillis(1_000);

    fn bob() -> PeerName {
        PeerName::parse("bob").unwrap()
    }

    fn signed() -> (IdentityKey, SignedPrekey) {
        let identity = IdentityKey::generate(&mut OsRandom);
        let signed = PrekeySecret::generate(&mut OsRandom).publish(&identity, &bob(), EXPIRES);
        (identity, signed)
    }

    #[test]
    fn a_stored_secret_makes_the_same_pair_again() {
        let secret = PrekeySecret::generate(&mut OsRandom);
        let again = PrekeySecret::from_bytes(&secret.to_bytes()).unwrap();
        assert_eq!(again.id(), secret.id());
        assert_eq!(again.public, secret.public);
        assert_eq!(again.public.len(), PUBLIC_BYTES);
        assert_eq!(again.to_bytes(), secret.to_bytes());
    }

    #[test]
    fn stored_bytes_of_another_length_are_refused() {
        for length in [0, 15, 16, 47, 49] {
            assert_eq!(PrekeySecret::from_bytes(&vec![0; length]).err(), Some(MalformedSecret(length)));
        }
    }

    #[test]
    fn a_prekey_is_good_for_its_owner_until_it_expires() {
        let (identity, signed) = signed();
        let check = |name: &PeerName, key: &PeerKey, now| verify(&signed, name, key, UnixMillis(now));
        let (alice, other) = (PeerName::parse("alice").unwrap(), IdentityKey::generate(&mut OsRandom).public());
        assert_eq!(check(&bob(), &identity.public(), 999), Ok(()));
        assert_eq!(check(&bob(), &identity.public(), 1_000), Err(PrekeyError::Expired));
        assert_eq!(check(&alice, &identity.public(), 0), Err(PrekeyError::WrongAccount));
        assert_eq!(check(&bob(), &other, 0), Err(PrekeyError::WrongIdentity));
    }

    #[test]
    fn a_prekey_that_a_directory_changed_is_refused() {
        let (identity, signed) = signed();
        let check = |change: &dyn Fn(&mut Prekey)| {
            let mut changed = signed.clone();
            change(&mut changed.prekey);
            verify(&changed, &bob(), &identity.public(), UnixMillis(0))
        };
        assert_eq!(check(&|prekey| prekey.public[700] ^= 1), Err(PrekeyError::BadSignature));
        assert_eq!(check(&|prekey| prekey.expires = UnixMillis(2_000)), Err(PrekeyError::BadSignature));
        assert_eq!(check(&|prekey| prekey.id = PrekeyId::from_bytes([0; 16])), Err(PrekeyError::BadSignature));
        assert_eq!(check(&|prekey| prekey.public.truncate(32)), Err(PrekeyError::BadLength { found: 32 }));
    }

    #[test]
    fn another_identity_cannot_sign_for_this_one() {
        let (identity, _) = signed();
        let directory = IdentityKey::generate(&mut OsRandom);
        let mut forged = PrekeySecret::generate(&mut OsRandom).publish(&directory, &bob(), EXPIRES);
        forged.prekey.identity = identity.public();
        let verdict = verify(&forged, &bob(), &identity.public(), UnixMillis(0));
        assert_eq!(verdict, Err(PrekeyError::BadSignature));
    }
}
