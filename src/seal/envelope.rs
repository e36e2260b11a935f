//! Messages: signed by their sender, then sealed so that a directory can carry and not read them.
//!
//! ```text
//! InnerMessage --sign--> SignedMessage --pad--> 256, 1024, 4096 or 16384 bytes --HPKE--> Envelope
//! padded := length of the signed message (u32, little-endian), signed message, zeros
//! ```
//! HPKE base mode (RFC 9180) with X-Wing, HKDF-SHA256 and ChaCha20-Poly1305; the header is the AAD.

use std::convert::Infallible;

use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::XWing;
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{Deserializable as _, HpkeError, Kem, OpModeR, OpModeS, Serializable as _};
use zeroize::Zeroizing;

use super::identity::{self, IdentityKey, Label};
use super::prekey::PrekeySecret;
use super::random::{self, Random};
use crate::wire::account::SignedPrekey;
use crate::wire::codec::{self, CodecError};
use crate::wire::ids::{PeerKey, PrekeyId};
use crate::wire::limits::SEQUENCE_MAX;
use crate::wire::message::{ENVELOPE_VERSION, Envelope, EnvelopeHeader, InnerMessage, SignedMessage};

/// Binds the seal to this use and version (RFC 9180, section 8.1).
const INFO: &[u8] = b"qchat envelope v1";

/// Lengths an envelope can have before it is sealed, so that its length says little about the text.
const BUCKETS: [usize; 4] = [256, 1_024, 4_096, 16_384];

/// Bytes of the length that stands before the padded message.
const LENGTH_BYTES: usize = 4;

/// Why a message cannot be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The message names another sender than the identity that signs it.
    #[error("the message names another sender")]
    OtherSender,
    /// The message is for somebody else than the prekey's owner.
    #[error("the message is for another identity than the prekey's")]
    OtherRecipient,
    /// The signed message does not fit the largest bucket.
    #[error("the signed message has {bytes} bytes, more than an envelope holds")]
    TooLong {
        /// What it has with its length.
        bytes: usize,
    },
    /// The prekey is not an X-Wing public key.
    #[error("the prekey is not a valid public key")]
    BadPrekey,
    /// The message cannot be encoded.
    #[error(transparent)]
    Encoding(#[from] CodecError),
}

/// Why a signed message is not believed.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// Whoever should have signed it did not.
    #[error("the message is not signed by its sender")]
    BadSignature,
    /// The signed bytes are not a message.
    #[error("the signed message is malformed: {0}")]
    Malformed(#[from] CodecError),
    /// The message names another sender than the key that signed it.
    #[error("the message names another sender than who signed it")]
    OtherSender,
    /// The message has a number that no honest sender comes to.
    #[error("the message has the impossible number {0}")]
    BadSequence(u64),
}

/// Why an envelope is not opened, or what was in it not believed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// An envelope of another version.
    #[error("the envelope has version {found}, this program knows {ENVELOPE_VERSION}")]
    Version {
        /// The version it has.
        found: u8,
    },
    /// It is addressed to somebody else.
    #[error("the envelope is for another recipient")]
    OtherRecipient,
    /// It is sealed to another prekey.
    #[error("the envelope is sealed to prekey {found}")]
    OtherPrekey {
        /// The prekey it names.
        found: PrekeyId,
    },
    /// The seal is broken, or not made for this prekey and header.
    #[error("the envelope's seal is broken")]
    BrokenSeal,
    /// The padding does not have its shape.
    #[error("the envelope's padding is malformed")]
    BadPadding,
    /// What was sealed is not a signed message.
    #[error("the envelope's contents are malformed: {0}")]
    Malformed(#[from] CodecError),
    /// The message inside is not believed.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The signed message is for somebody else: its recipient sealed it on to us.
    #[error("the message inside was signed for another recipient")]
    RecipientDiffers,
    /// The signed message has another id than the header.
    #[error("the message inside has another id than the envelope")]
    IdDiffers,
}

/// Signs a message: the form a direct link carries, and what is inside an envelope.
///
/// # Errors
/// [`SealError::OtherSender`] when it is not the identity's own message, [`SealError::Encoding`] when it is too long.
pub fn sign_message(identity: &IdentityKey, message: &InnerMessage) -> Result<SignedMessage, SealError> {
    if message.sender != identity.public() {
        return Err(SealError::OtherSender);
    }
    let message = codec::encode(message)?;
    let signature = identity.sign(Label::Message, &message);
    Ok(SignedMessage { message, signature })
}

/// Checks that `sender` signed a message, and reads it.
///
/// # Errors
/// [`MessageError`]; the recipient and the id are left to the caller, who knows what they should be.
pub fn verify_message(signed: &SignedMessage, sender: &PeerKey) -> Result<InnerMessage, MessageError> {
    identity::verify(sender, Label::Message, &signed.message, &signed.signature)
        .map_err(|_| MessageError::BadSignature)?;
    let message: InnerMessage = codec::decode(&signed.message)?;
    if message.sender != *sender {
        return Err(MessageError::OtherSender);
    }
    if (1..=SEQUENCE_MAX).contains(&message.sequence) {
        Ok(message)
    } else {
        Err(MessageError::BadSequence(message.sequence))
    }
}

/// Signs, pads and seals a message to a prekey, which the caller has verified for the recipient's account.
///
/// # Errors
/// [`SealError`].
pub fn seal(
    identity: &IdentityKey,
    message: &InnerMessage,
    prekey: &SignedPrekey,
    random: &mut dyn Random,
) -> Result<Envelope, SealError> {
    let prekey = &prekey.prekey;
    if message.recipient != prekey.identity {
        return Err(SealError::OtherRecipient);
    }
    let signed = Zeroizing::new(codec::encode(&sign_message(identity, message)?)?);
    let padded = pad(&signed)?;
    let header = EnvelopeHeader {
        version: ENVELOPE_VERSION,
        sender: message.sender,
        recipient: message.recipient,
        id: message.id,
        prekey: prekey.id,
    };
    let (encapsulated, sealed) =
        hpke_seal(&prekey.public, &padded, &codec::encode(&header)?, random).map_err(|_| SealError::BadPrekey)?;
    Ok(Envelope { header, encapsulated, sealed })
}

/// Opens an envelope that was sealed to this prekey for this recipient, and checks who signed what is inside.
///
/// # Errors
/// [`OpenError`] names the first thing that does not fit.
pub fn open(secret: &PrekeySecret, envelope: &Envelope, recipient: &PeerKey) -> Result<InnerMessage, OpenError> {
    let header = &envelope.header;
    if header.version != ENVELOPE_VERSION {
        return Err(OpenError::Version { found: header.version });
    }
    if header.recipient != *recipient {
        return Err(OpenError::OtherRecipient);
    }
    if header.prekey != secret.id() {
        return Err(OpenError::OtherPrekey { found: header.prekey });
    }
    let padded = hpke_open(secret, envelope, &codec::encode(header)?).map_err(|_| OpenError::BrokenSeal)?;
    let signed: SignedMessage = codec::decode(unpad(&padded)?)?;
    let message = verify_message(&signed, &header.sender)?;
    if message.recipient != header.recipient {
        return Err(OpenError::RecipientDiffers);
    }
    if message.id != header.id {
        return Err(OpenError::IdDiffers);
    }
    Ok(message)
}

/// Puts the length before and zeros after a message, up to the smallest bucket that holds it.
fn pad(message: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let bytes = LENGTH_BYTES + message.len();
    let bucket = BUCKETS.into_iter().find(|&bucket| bytes <= bucket).ok_or(SealError::TooLong { bytes })?;
    let length = u32::try_from(message.len()).map_err(|_| SealError::TooLong { bytes })?;
    let mut padded = Zeroizing::new(Vec::with_capacity(bucket));
    padded.extend_from_slice(&length.to_le_bytes());
    padded.extend_from_slice(message);
    padded.resize(bucket, 0);
    Ok(padded)
}

/// Takes the message out of its padding, which must be all zeros.
fn unpad(padded: &[u8]) -> Result<&[u8], OpenError> {
    let (length, rest) = padded.split_first_chunk::<LENGTH_BYTES>().ok_or(OpenError::BadPadding)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| OpenError::BadPadding)?;
    let (message, zeros) = rest.split_at_checked(length).ok_or(OpenError::BadPadding)?;
    if zeros.iter().all(|&byte| byte == 0) { Ok(message) } else { Err(OpenError::BadPadding) }
}

/// Seals to an X-Wing public key: the encapsulated key, then the ciphertext with its tag.
fn hpke_seal(
    public: &[u8],
    plain: &[u8],
    aad: &[u8],
    random: &mut dyn Random,
) -> Result<(Vec<u8>, Vec<u8>), HpkeError> {
    let public = <XWing as Kem>::PublicKey::from_bytes(public)?;
    let (encapsulated, sealed) = hpke::single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, XWing>(
        &OpModeS::Base,
        &public,
        INFO,
        plain,
        aad,
        &mut HpkeRandom(random),
    )?;
    Ok((encapsulated.to_bytes().to_vec(), sealed))
}

fn hpke_open(secret: &PrekeySecret, envelope: &Envelope, aad: &[u8]) -> Result<Zeroizing<Vec<u8>>, HpkeError> {
    let encapsulated = <XWing as Kem>::EncappedKey::from_bytes(&envelope.encapsulated)?;
    hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, XWing>(
        &OpModeR::Base,
        &secret.private(),
        &encapsulated,
        INFO,
        &envelope.sealed,
        aad,
    )
    .map(Zeroizing::new)
}

/// Our random bytes in the shape that hpke takes them.
struct HpkeRandom<'a>(&'a mut dyn Random);

impl TryRng for HpkeRandom<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes(random::array(self.0)))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_le_bytes(random::array(self.0)))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(bytes);
        Ok(())
    }
}

impl TryCryptoRng for HpkeRandom<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::random::OsRandom;
    use crate::wire::ids::{MessageId, PeerName, UnixMillis};
    use crate::wire::limits::{SEALED_BYTES_MAX, TEXT_BYTES_MAX};
    use crate::wire::message::{Body, Skipped, Text};

    /// Alice writes to Bob.
    struct Pair {
        alice: IdentityKey,
        bob: IdentityKey,
        secret: PrekeySecret,
        prekey: SignedPrekey,
    }

    impl Pair {
        fn new() -> Self {
            let bob = IdentityKey::generate(&mut OsRandom);
            let secret = PrekeySecret::generate(&mut OsRandom);
            let prekey = secret.publish(&bob, &PeerName::parse("bob").unwrap(), UnixMillis(u64::MAX));
            Self { alice: IdentityKey::generate(&mut OsRandom), bob, secret, prekey }
        }

        fn message(&self, text: &str) -> InnerMessage {
            InnerMessage {
                sender: self.alice.public(),
                recipient: self.bob.public(),
                id: MessageId::from_bytes(random::array(&mut OsRandom)),
                sequence: 1,
                skipped: Default::default(),
                sent_at: UnixMillis(1_700_000_000_000),
                body: Body::Text(Text::parse(text).unwrap()),
            }
        }

        fn seal(&self, message: &InnerMessage) -> Envelope {
            seal(&self.alice, message, &self.prekey, &mut OsRandom).unwrap()
        }

        fn open(&self, envelope: &Envelope) -> Result<InnerMessage, OpenError> {
            open(&self.secret, envelope, &self.bob.public())
        }

        /// Seals whatever bytes with an honest header, as a dishonest sender could.
        fn seal_raw(&self, message: &InnerMessage, padded: &[u8]) -> Envelope {
            let mut envelope = self.seal(message);
            let aad = codec::encode(&envelope.header).unwrap();
            let sealed = hpke_seal(&self.prekey.prekey.public, padded, &aad, &mut OsRandom).unwrap();
            (envelope.encapsulated, envelope.sealed) = sealed;
            envelope
        }

        fn seal_signed(&self, header_of: &InnerMessage, signed: &SignedMessage) -> Envelope {
            self.seal_raw(header_of, &pad(&codec::encode(signed).unwrap()).unwrap())
        }
    }

    #[test]
    fn a_sealed_message_opens_as_what_was_written() {
        let pair = Pair::new();
        let message = pair.message("hello");
        let envelope = pair.seal(&message);
        assert_eq!(envelope.encapsulated.len(), 1_120);
        assert_eq!(pair.open(&envelope).unwrap(), message);
    }

    #[test]
    fn the_text_occurs_nowhere_in_the_envelope() {
        let pair = Pair::new();
        let text = "the quick brown fox";
        let encoded = codec::encode(&pair.seal(&pair.message(text))).unwrap();
        assert!(!encoded.windows(5).any(|window| text.as_bytes().windows(5).any(|part| part == window)));
    }

    #[test]
    fn a_changed_header_is_refused() {
        let pair = Pair::new();
        let envelope = pair.seal(&pair.message("hello"));
        let check = |change: &dyn Fn(&mut EnvelopeHeader)| {
            let mut changed = envelope.clone();
            change(&mut changed.header);
            pair.open(&changed).unwrap_err()
        };
        assert!(matches!(check(&|header| header.version = 2), OpenError::Version { found: 2 }));
        assert!(matches!(check(&|header| header.recipient = header.sender), OpenError::OtherRecipient));
        assert!(matches!(
            check(&|header| header.prekey = PrekeyId::from_bytes([9; 16])),
            OpenError::OtherPrekey { .. }
        ));
        assert!(matches!(check(&|header| header.sender = header.recipient), OpenError::BrokenSeal));
        assert!(matches!(check(&|header| header.id = MessageId::from_bytes([0; 16])), OpenError::BrokenSeal));
    }

    #[test]
    fn every_changed_byte_breaks_the_seal() {
        let pair = Pair::new();
        let mut envelope = pair.seal(&pair.message("hello"));
        for index in 0..envelope.sealed.len() {
            envelope.sealed[index] ^= 1;
            assert!(matches!(pair.open(&envelope), Err(OpenError::BrokenSeal)), "sealed byte {index}");
            envelope.sealed[index] ^= 1;
        }
        for index in 0..envelope.encapsulated.len() {
            envelope.encapsulated[index] ^= 0x80;
            assert!(matches!(pair.open(&envelope), Err(OpenError::BrokenSeal)), "encapsulated byte {index}");
            envelope.encapsulated[index] ^= 0x80;
        }
        assert!(pair.open(&envelope).is_ok());
    }

    #[test]
    fn a_cut_or_empty_envelope_is_refused() {
        let pair = Pair::new();
        let envelope = pair.seal(&pair.message("hello"));
        for length in [0, 1, 16, 17, envelope.sealed.len() - 1] {
            let mut cut = envelope.clone();
            cut.sealed.truncate(length);
            assert!(matches!(pair.open(&cut), Err(OpenError::BrokenSeal)));
            let mut cut = envelope.clone();
            cut.encapsulated.truncate(length);
            assert!(matches!(pair.open(&cut), Err(OpenError::BrokenSeal)));
        }
    }

    #[test]
    fn another_prekey_with_the_same_id_opens_nothing() {
        let pair = Pair::new();
        let envelope = pair.seal(&pair.message("hello"));
        let mut bytes = pair.secret.to_bytes();
        *bytes.last_mut().unwrap() ^= 1;
        let other = PrekeySecret::from_bytes(&bytes).unwrap();
        assert!(matches!(open(&other, &envelope, &pair.bob.public()), Err(OpenError::BrokenSeal)));
    }

    #[test]
    fn the_longest_text_fits() {
        let pair = Pair::new();
        let message = pair.message(&"x".repeat(TEXT_BYTES_MAX));
        let envelope = pair.seal(&message);
        assert!(envelope.sealed.len() <= SEALED_BYTES_MAX);
        assert_eq!(pair.open(&envelope).unwrap(), message);
    }

    #[test]
    fn the_longest_text_fits_whatever_it_names_as_skipped() {
        let pair = Pair::new();
        for newest in [u64::from(u32::MAX), SEQUENCE_MAX] {
            let falling = (0..1_000).map(|number| Ok::<_, ()>(newest - 2 * number));
            let skipped = Skipped::of_falling(falling).unwrap();
            let message = InnerMessage { sequence: SEQUENCE_MAX, skipped, ..pair.message(&"x".repeat(TEXT_BYTES_MAX)) };
            assert_eq!(pair.open(&pair.seal(&message)).unwrap(), message);
        }
    }

    #[test]
    fn short_texts_have_the_same_length_when_sealed() {
        let pair = Pair::new();
        let length = |bytes: usize| pair.seal(&pair.message(&"x".repeat(bytes))).sealed.len();
        assert_eq!(length(1), length(40));
        assert_eq!(length(1), 256 + 16);
        assert_eq!(length(300), 1_024 + 16);
    }

    #[test]
    fn a_message_fills_its_bucket_to_the_last_byte_and_no_further() {
        for bucket in BUCKETS {
            let full = vec![7; bucket - LENGTH_BYTES];
            let padded = pad(&full).unwrap();
            assert_eq!((padded.len(), unpad(&padded).unwrap()), (bucket, &full[..]));
        }
        let bytes = BUCKETS[3] + 1;
        let error = pad(&vec![7; bytes - LENGTH_BYTES]).unwrap_err();
        assert!(matches!(error, SealError::TooLong { bytes: found } if found == bytes));
    }

    #[test]
    fn what_another_key_signed_is_refused() {
        let pair = Pair::new();
        let mallory = IdentityKey::generate(&mut OsRandom);
        let message = pair.message("send me your password");
        let bytes = codec::encode(&message).unwrap();
        let forged = SignedMessage { signature: mallory.sign(Label::Message, &bytes), message: bytes };
        let verdict = pair.open(&pair.seal_signed(&message, &forged));
        assert!(matches!(verdict, Err(OpenError::Message(MessageError::BadSignature))));
    }

    #[test]
    fn a_message_signed_for_somebody_else_cannot_be_sealed_on() {
        let pair = Pair::new();
        let message = pair.message("to carol");
        let carol = IdentityKey::generate(&mut OsRandom).public();
        let to_carol = sign_message(&pair.alice, &InnerMessage { recipient: carol, ..message.clone() }).unwrap();
        let verdict = pair.open(&pair.seal_signed(&message, &to_carol));
        assert!(matches!(verdict, Err(OpenError::RecipientDiffers)));
    }

    #[test]
    fn a_message_cannot_be_shown_again_under_another_id() {
        let pair = Pair::new();
        let (first, second) = (pair.message("yes"), pair.message("no"));
        let signed = sign_message(&pair.alice, &first).unwrap();
        assert!(matches!(pair.open(&pair.seal_signed(&second, &signed)), Err(OpenError::IdDiffers)));
    }

    #[test]
    fn a_message_that_names_another_sender_is_refused() {
        let pair = Pair::new();
        let message = pair.message("hello");
        let bytes = codec::encode(&InnerMessage { sender: pair.bob.public(), ..message.clone() }).unwrap();
        let signed = SignedMessage { signature: pair.alice.sign(Label::Message, &bytes), message: bytes };
        let verdict = pair.open(&pair.seal_signed(&message, &signed));
        assert!(matches!(verdict, Err(OpenError::Message(MessageError::OtherSender))));
    }

    #[test]
    fn malformed_padding_and_contents_are_refused() {
        let pair = Pair::new();
        let message = pair.message("hello");
        let check = |padded: &[u8]| pair.open(&pair.seal_raw(&message, padded)).unwrap_err();
        assert!(matches!(check(&[]), OpenError::BadPadding));
        assert!(matches!(check(&[0, 0, 0]), OpenError::BadPadding));
        assert!(matches!(check(&[0xff; 256]), OpenError::BadPadding));
        assert!(matches!(check(&[1, 0, 0, 0, 7, 0, 1]), OpenError::BadPadding));
        assert!(matches!(check(&[1, 0, 0, 0, 7, 0, 0]), OpenError::Malformed(_)));
    }

    #[test]
    fn a_message_is_sealed_only_by_its_sender_and_to_its_recipient() {
        let pair = Pair::new();
        let message = pair.message("hello");
        let by_bob = seal(&pair.bob, &message, &pair.prekey, &mut OsRandom);
        assert!(matches!(by_bob, Err(SealError::OtherSender)));
        let to_alice = InnerMessage { recipient: pair.alice.public(), ..message };
        let sealed = seal(&pair.alice, &to_alice, &pair.prekey, &mut OsRandom);
        assert!(matches!(sealed, Err(SealError::OtherRecipient)));
    }
}
