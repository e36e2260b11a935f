//! Signing and sealing: the real thing, and one that is transparent and therefore fast. Both bind an envelope to one
//! prekey, so that what was sealed to a deleted one cannot be opened.

use qchat::seal::identity::IdentityKey;
use qchat::seal::prekey::{self, PrekeySecret};
use qchat::seal::random::{self, Random};
use qchat::seal::{envelope, receipt};
use qchat::wire::account::{Prekey, SignedPrekey};
use qchat::wire::codec;
use qchat::wire::ids::{PeerKey, PeerName, PrekeyId, Signature, UnixMillis};
use qchat::wire::message::{
    ENVELOPE_VERSION, Envelope, EnvelopeHeader, InnerMessage, Receipt, SignedMessage, SignedReceipt,
};

/// What a simulated peer does with keys.
pub(crate) trait Seal {
    /// A new prekey: its public half, and the bytes of its private half as they are stored.
    fn new_prekey(
        &self,
        identity: &IdentityKey,
        account: &PeerName,
        expires: UnixMillis,
        random: &mut dyn Random,
    ) -> (SignedPrekey, Vec<u8>);
    /// Whether a prekey may be sealed to.
    fn is_good(&self, prekey: &SignedPrekey, account: &PeerName, identity: &PeerKey, now: UnixMillis) -> bool;
    fn sign(&self, identity: &IdentityKey, message: &InnerMessage) -> SignedMessage;
    fn verify(&self, signed: &SignedMessage, sender: &PeerKey) -> Option<InnerMessage>;
    fn seal(
        &self,
        identity: &IdentityKey,
        message: &InnerMessage,
        prekey: &SignedPrekey,
        random: &mut dyn Random,
    ) -> Envelope;
    fn open(&self, secret: &[u8], envelope: &Envelope, recipient: &PeerKey) -> Option<InnerMessage>;
    fn sign_receipt(&self, identity: &IdentityKey, receipt: Receipt) -> SignedReceipt;
    fn is_signed(&self, receipt: &SignedReceipt) -> bool;
}

/// What the program does.
pub(crate) struct RealSeal;

impl Seal for RealSeal {
    fn new_prekey(
        &self,
        identity: &IdentityKey,
        account: &PeerName,
        expires: UnixMillis,
        random: &mut dyn Random,
    ) -> (SignedPrekey, Vec<u8>) {
        let secret = PrekeySecret::generate(random);
        (secret.publish(identity, account, expires), secret.to_bytes().to_vec())
    }

    fn is_good(&self, prekey: &SignedPrekey, account: &PeerName, identity: &PeerKey, now: UnixMillis) -> bool {
        prekey::verify(prekey, account, identity, now).is_ok()
    }

    fn sign(&self, identity: &IdentityKey, message: &InnerMessage) -> SignedMessage {
        envelope::sign_message(identity, message).expect("it is our own message")
    }

    fn verify(&self, signed: &SignedMessage, sender: &PeerKey) -> Option<InnerMessage> {
        envelope::verify_message(signed, sender).ok()
    }

    fn seal(
        &self,
        identity: &IdentityKey,
        message: &InnerMessage,
        prekey: &SignedPrekey,
        random: &mut dyn Random,
    ) -> Envelope {
        envelope::seal(identity, message, prekey, random).expect("the prekey was verified")
    }

    fn open(&self, secret: &[u8], envelope: &Envelope, recipient: &PeerKey) -> Option<InnerMessage> {
        let secret = PrekeySecret::from_bytes(secret).expect("it was stored as bytes of a secret");
        envelope::open(&secret, envelope, recipient).ok()
    }

    fn sign_receipt(&self, identity: &IdentityKey, receipt: Receipt) -> SignedReceipt {
        receipt::sign(identity, receipt)
    }

    fn is_signed(&self, receipt: &SignedReceipt) -> bool {
        receipt::verify(receipt).is_ok()
    }
}

/// Signs with the signer's name, and seals by writing down the prekey.
pub(crate) struct TransparentSeal;

fn signature(of: &PeerKey) -> Signature {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(of.as_bytes());
    Signature::from_bytes(bytes)
}

impl Seal for TransparentSeal {
    fn new_prekey(
        &self,
        identity: &IdentityKey,
        account: &PeerName,
        expires: UnixMillis,
        random: &mut dyn Random,
    ) -> (SignedPrekey, Vec<u8>) {
        let id = PrekeyId::from_bytes(random::array(random));
        let (account, key) = (account.clone(), identity.public());
        let prekey = Prekey { account, identity: key, id, public: Vec::new(), expires };
        (SignedPrekey { prekey, signature: signature(&key) }, id.as_bytes().to_vec())
    }

    fn is_good(&self, signed: &SignedPrekey, account: &PeerName, identity: &PeerKey, now: UnixMillis) -> bool {
        let prekey = &signed.prekey;
        let is_theirs = prekey.account == *account && prekey.identity == *identity;
        is_theirs && now < prekey.expires && signed.signature == signature(identity)
    }

    fn sign(&self, identity: &IdentityKey, message: &InnerMessage) -> SignedMessage {
        let bytes = codec::encode(message).expect("a short text fits");
        SignedMessage { message: bytes, signature: signature(&identity.public()) }
    }

    fn verify(&self, signed: &SignedMessage, sender: &PeerKey) -> Option<InnerMessage> {
        let message: InnerMessage = codec::decode(&signed.message).ok()?;
        (signed.signature == signature(sender) && message.sender == *sender).then_some(message)
    }

    fn seal(
        &self,
        identity: &IdentityKey,
        message: &InnerMessage,
        prekey: &SignedPrekey,
        _random: &mut dyn Random,
    ) -> Envelope {
        let header = EnvelopeHeader {
            version: ENVELOPE_VERSION,
            sender: message.sender,
            recipient: message.recipient,
            id: message.id,
            prekey: prekey.prekey.id,
        };
        let sealed = codec::encode(&self.sign(identity, message)).expect("a short text fits");
        Envelope { header, encapsulated: prekey.prekey.id.as_bytes().to_vec(), sealed }
    }

    fn open(&self, secret: &[u8], envelope: &Envelope, recipient: &PeerKey) -> Option<InnerMessage> {
        let header = &envelope.header;
        let signed: SignedMessage = codec::decode(&envelope.sealed).ok()?;
        let message = self.verify(&signed, &header.sender)?;
        let fits = envelope.encapsulated == secret && message.recipient == *recipient && message.id == header.id;
        fits.then_some(message)
    }

    fn sign_receipt(&self, identity: &IdentityKey, receipt: Receipt) -> SignedReceipt {
        SignedReceipt { receipt, signature: signature(&identity.public()) }
    }

    fn is_signed(&self, receipt: &SignedReceipt) -> bool {
        receipt.signature == signature(&receipt.receipt.by)
    }
}
