//! Receipts: what a recipient signs of a message, so that its sender, and nobody in between, knows what became of it.

use super::identity::{self, BadSignature, IdentityKey, Label};
use crate::wire::codec;
use crate::wire::message::{Receipt, SignedReceipt};

/// Signs a receipt; [`Receipt::by`] must be this identity.
#[must_use]
pub fn sign(identity: &IdentityKey, receipt: Receipt) -> SignedReceipt {
    let signature = identity.sign(Label::Receipt, &statement(&receipt));
    SignedReceipt { receipt, signature }
}

/// Checks that a receipt is signed by whom it names.
///
/// # Errors
/// [`BadSignature`] when not.
pub fn verify(signed: &SignedReceipt) -> Result<(), BadSignature> {
    identity::verify(&signed.receipt.by, Label::Receipt, &statement(&signed.receipt), &signed.signature)
}

fn statement(receipt: &Receipt) -> Vec<u8> {
    codec::encode(receipt).expect("two keys, an id and four numbers fit a frame")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::random::OsRandom;
    use crate::wire::ids::{MessageId, PeerKey, UnixMillis};
    use crate::wire::message::ReceiptKind;

    #[test]
    fn a_receipt_is_good_as_it_was_signed_and_no_other_way() {
        let bob = IdentityKey::generate(&mut OsRandom);
        let receipt = Receipt {
            by: bob.public(),
            to: PeerKey::from_bytes([1; 32]),
            id: MessageId::from_bytes([2; 16]),
            sequence: 7,
            highest: 9,
            kind: ReceiptKind::Delivered,
            at: UnixMillis(3),
        };
        let signed = sign(&bob, receipt);
        assert_eq!(verify(&signed), Ok(()));
        let mallory = IdentityKey::generate(&mut OsRandom);
        for changed in [
            Receipt { kind: ReceiptKind::Read, ..receipt },
            Receipt { highest: 10, ..receipt },
            Receipt { id: MessageId::from_bytes([3; 16]), ..receipt },
            Receipt { by: mallory.public(), ..receipt },
        ] {
            assert_eq!(verify(&SignedReceipt { receipt: changed, ..signed.clone() }), Err(BadSignature));
        }
        assert_eq!(verify(&sign(&mallory, receipt)), Err(BadSignature));
    }
}
