//! Announcements: what a person signs of what they say to everybody, so that no directory says it in their name.

use super::identity::{self, BadSignature, IdentityKey, Label};
use crate::wire::codec;
use crate::wire::people::{Announcement, SignedAnnouncement};

/// Signs an announcement; [`Announcement::sender`] must be this identity.
#[must_use]
pub fn sign(identity: &IdentityKey, announcement: Announcement) -> SignedAnnouncement {
    let signature = identity.sign(Label::Announcement, &statement(&announcement));
    SignedAnnouncement { announcement, signature }
}

/// Checks that an announcement is signed by whom it names.
///
/// # Errors
/// [`BadSignature`] when not.
pub fn verify(signed: &SignedAnnouncement) -> Result<(), BadSignature> {
    let Announcement { sender, .. } = &signed.announcement;
    identity::verify(sender, Label::Announcement, &statement(&signed.announcement), &signed.signature)
}

fn statement(announcement: &Announcement) -> Vec<u8> {
    codec::encode(announcement).expect("a key, an id, a time and 2 KiB of text fit a frame")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::random::OsRandom;
    use crate::wire::ids::{MessageId, UnixMillis};
    use crate::wire::people::AnnouncementText;

    #[test]
    fn an_announcement_is_good_as_it_was_signed_and_no_other_way() {
        let (alice, mallory) = (IdentityKey::generate(&mut OsRandom), IdentityKey::generate(&mut OsRandom));
        let text = |text| AnnouncementText::parse(text).unwrap();
        let (id, sent_at) = (MessageId::from_bytes([2; 16]), UnixMillis(3));
        let said = Announcement { sender: alice.public(), id, sent_at, text: text("dinner is ready") };
        let signed = sign(&alice, said.clone());
        assert_eq!(verify(&signed), Ok(()));
        for changed in [
            Announcement { text: text("dinner is cold"), ..said.clone() },
            Announcement { sent_at: UnixMillis(4), ..said.clone() },
            Announcement { id: MessageId::from_bytes([3; 16]), ..said.clone() },
            Announcement { sender: mallory.public(), ..said.clone() },
        ] {
            assert_eq!(verify(&SignedAnnouncement { announcement: changed, ..signed.clone() }), Err(BadSignature));
        }
        assert_eq!(verify(&sign(&mallory, said)), Err(BadSignature));
    }
}
