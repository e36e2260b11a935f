//! A person's identity: an Ed25519 key pair (RFC 8032) that signs for one purpose at a time.
//!
//! What is signed is the label's length as one byte, the label, then the message: a signature made for one purpose
//! can never be shown for another.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use aws_lc_rs::{digest, hmac};
use zeroize::{Zeroize as _, Zeroizing};

use super::random::{self, Random};
use crate::wire::ids::{DirectoryFingerprint, PeerKey, PeerName, Signature};

/// Bytes of an Ed25519 public key as SubjectPublicKeyInfo.
const SPKI_BYTES: usize = 44;

/// What stands before the 32 bytes of the public key in a SubjectPublicKeyInfo (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// What stands before the 32 bytes of the seed in a PKCS#8 version 1 private key (RFC 8410, section 7).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// What a signature is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    /// Proof of the key on one connection to one directory, over a [`login_statement`].
    Login,
    /// A prekey that belongs to the identity.
    Prekey,
    /// A message to a person.
    Message,
    /// What became of a message.
    Receipt,
    /// What is said to everybody.
    Announcement,
    /// What a person says about themselves.
    Profile,
}

impl Label {
    fn bytes(self) -> &'static [u8] {
        match self {
            Self::Login => b"qchat login v1",
            Self::Prekey => b"qchat prekey v1",
            Self::Message => b"qchat message v1",
            Self::Receipt => b"qchat receipt v1",
            Self::Announcement => b"qchat announcement v1",
            Self::Profile => b"qchat profile v1",
        }
    }

    /// The bytes that are really signed for a message under this label.
    fn statement(self, message: &[u8]) -> Vec<u8> {
        [&length_byte(self.bytes()), self.bytes(), message].concat()
    }
}

/// A signature that does not fit key, label and message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not fit what it signs")]
pub struct BadSignature;

/// The private half of a person's identity. Wiped when dropped, never shown.
pub struct IdentityKey {
    pair: Ed25519KeyPair,
    seed: Zeroizing<[u8; 32]>,
    public: PeerKey,
}

impl IdentityKey {
    /// Makes the key pair of a seed (RFC 8032, section 5.1.5).
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("every 32 bytes are an Ed25519 seed");
        let public = pair.public_key().as_ref().try_into().expect("an Ed25519 public key has 32 bytes");
        Self { pair, seed: Zeroizing::new(*seed), public: PeerKey::from_bytes(public) }
    }

    /// Draws a new identity.
    pub fn generate(random: &mut dyn Random) -> Self {
        let mut seed = random::array(random);
        let identity = Self::from_seed(&seed);
        seed.zeroize();
        identity
    }

    /// The 32 bytes from which the pair can be made again: for the profile's key file only.
    #[must_use]
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PeerKey {
        self.public
    }

    /// Signs a message for one purpose.
    #[must_use]
    pub fn sign(&self, label: Label, message: &[u8]) -> Signature {
        let signature = self.pair.sign(&label.statement(message));
        Signature::from_bytes(signature.as_ref().try_into().expect("an Ed25519 signature has 64 bytes"))
    }

    /// The private key as PKCS#8 version 1 in DER (RFC 8410, section 7): 48 bytes, what rustls loads.
    #[must_use]
    pub fn pkcs8(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new([&PKCS8_PREFIX[..], &self.seed[..]].concat())
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentityKey({})", self.public)
    }
}

/// Checks that the holder of a key signed a message for this purpose.
///
/// # Errors
/// [`BadSignature`] when not.
pub fn verify(key: &PeerKey, label: Label, message: &[u8], signature: &Signature) -> Result<(), BadSignature> {
    UnparsedPublicKey::new(&ED25519, key.as_bytes())
        .verify(&label.statement(message), signature.as_bytes())
        .map_err(|_| BadSignature)
}

/// What a peer signs to log in: directory, name length, name, and 32 bytes of this connection's TLS exporter
/// (RFC 9266 has the idea), so that the proof fits no other directory, account or connection.
#[must_use]
pub fn login_statement(directory: &DirectoryFingerprint, name: &PeerName, binding: &[u8; 32]) -> Vec<u8> {
    let name = name.as_str().as_bytes();
    [directory.as_bytes(), &length_byte(name)[..], name, binding].concat()
}

/// The public key as SubjectPublicKeyInfo in DER (RFC 8410, section 4): 44 bytes.
#[must_use]
pub fn spki(key: &PeerKey) -> [u8; SPKI_BYTES] {
    let mut spki = [0; SPKI_BYTES];
    let (prefix, rest) = spki.split_at_mut(SPKI_PREFIX.len());
    prefix.copy_from_slice(&SPKI_PREFIX);
    rest.copy_from_slice(key.as_bytes());
    spki
}

/// Reads the key from a SubjectPublicKeyInfo in DER; `None` when it is not an Ed25519 key.
#[must_use]
pub fn key_from_spki(spki: &[u8]) -> Option<PeerKey> {
    let key = spki.strip_prefix(&SPKI_PREFIX)?;
    Some(PeerKey::from_bytes(key.try_into().ok()?))
}

/// The length of a label or name as the one byte that stands before it.
fn length_byte(bytes: &[u8]) -> [u8; 1] {
    [u8::try_from(bytes.len()).expect("labels and names are shorter than 256 bytes")]
}

/// The pin of a directory: SHA-256 (FIPS 180-4) of its key as SubjectPublicKeyInfo in DER.
#[must_use]
pub fn directory_fingerprint(spki: &[u8]) -> DirectoryFingerprint {
    let hash = digest::digest(&digest::SHA256, spki);
    DirectoryFingerprint::from_bytes(hash.as_ref().try_into().expect("SHA-256 gives 32 bytes"))
}

/// The HMAC-SHA-256 key that makes QUIC's stateless reset tokens (RFC 9000, section 10.3): derived from a long-lived
/// secret, so that it is the same after a restart.
#[must_use]
pub fn reset_key(secret: &[u8]) -> hmac::Key {
    let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), b"qchat stateless reset v1");
    hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::random::OsRandom;

    #[test]
    fn a_signature_fits_only_its_key_label_and_message() {
        let alice = IdentityKey::generate(&mut OsRandom);
        let bob = IdentityKey::generate(&mut OsRandom);
        let signature = alice.sign(Label::Message, b"hello");
        assert_eq!(verify(&alice.public(), Label::Message, b"hello", &signature), Ok(()));
        assert_eq!(verify(&bob.public(), Label::Message, b"hello", &signature), Err(BadSignature));
        assert_eq!(verify(&alice.public(), Label::Prekey, b"hello", &signature), Err(BadSignature));
        assert_eq!(verify(&alice.public(), Label::Login, b"hello", &signature), Err(BadSignature));
        assert_eq!(verify(&alice.public(), Label::Message, b"hellO", &signature), Err(BadSignature));
    }

    #[test]
    fn the_seed_makes_the_same_key_again() {
        // RFC 8032, section 7.1, test 1.
        let seed = PeerKey::parse("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60").unwrap();
        let identity = IdentityKey::from_seed(seed.as_bytes());
        assert_eq!(identity.public().to_string(), "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        assert_eq!(IdentityKey::from_seed(identity.seed()).public(), identity.public());
    }

    #[test]
    fn the_private_key_is_written_as_the_library_reads_and_writes_it() {
        let identity = IdentityKey::generate(&mut OsRandom);
        // rustls reads keys with this function.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&identity.pkcs8()).unwrap();
        assert_eq!(pair.public_key().as_ref(), identity.public().as_bytes());
        assert_eq!(pair.to_pkcs8v1().unwrap().as_ref(), &identity.pkcs8()[..]);
    }

    #[test]
    fn a_key_survives_its_spki_and_nothing_else_is_read_as_one() {
        let key = IdentityKey::generate(&mut OsRandom).public();
        let mut bytes = spki(&key).to_vec();
        assert_eq!(key_from_spki(&bytes), Some(key));
        assert_eq!(key_from_spki(&bytes[..43]), None);
        bytes.push(0);
        assert_eq!(key_from_spki(&bytes), None);
        bytes.pop();
        bytes[8] ^= 1; // Another algorithm.
        assert_eq!(key_from_spki(&bytes), None);
    }

    #[test]
    fn a_login_statement_has_every_part_at_its_place() {
        let directory = DirectoryFingerprint::from_bytes([1; 32]);
        let statement = login_statement(&directory, &PeerName::parse("bob").unwrap(), &[2; 32]);
        assert_eq!(statement, [&[1; 32][..], &[3], b"bob", &[2; 32]].concat());
    }

    #[test]
    fn the_private_half_is_never_shown() {
        let identity = IdentityKey::generate(&mut OsRandom);
        assert_eq!(format!("{identity:?}"), format!("IdentityKey({})", identity.public()));
    }
}
