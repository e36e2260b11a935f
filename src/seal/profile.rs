//! Profiles: what a person says about themselves, signed, so that it may come by way of anybody.

use super::identity::{self, IdentityKey, Label};
use crate::wire::codec::{self, CodecError};
use crate::wire::limits::{PROFILE_BYTES_MAX, PROFILE_VERSION_MAX};
use crate::wire::profile::{Profile, SignedProfile};

/// Why bytes are not a profile that somebody signed.
#[derive(Debug, thiserror::Error)]
pub enum ProfileFault {
    /// More bytes than a profile may have.
    #[error("it has {0} bytes, {PROFILE_BYTES_MAX} at most")]
    TooLong(usize),
    /// Cut off, damaged, or with a part that is over its bound.
    #[error("it cannot be read: {0}")]
    Malformed(#[from] CodecError),
    /// A version that no owner can have given it.
    #[error("it has version {0}, which is none from 1 to {PROFILE_VERSION_MAX}")]
    BadVersion(u64),
    /// It is not signed by the key it names: somebody else made or changed it.
    #[error("it is forged: its signature does not fit")]
    Forged,
}

/// Signs a profile; [`Profile::key`] must be this identity.
#[must_use]
pub fn sign(identity: &IdentityKey, profile: &Profile) -> SignedProfile {
    let document = codec::encode(profile).expect("a profile with all its parts at their bounds fits a frame");
    let signature = identity.sign(Label::Profile, &document);
    SignedProfile { document, signature }
}

/// Reads a profile and checks that the key in it has signed it. Whether it is the right key is left to the caller, who
/// knows what it should be.
///
/// # Errors
/// [`ProfileFault`].
pub fn open(signed: &SignedProfile) -> Result<Profile, ProfileFault> {
    let SignedProfile { document, signature } = signed;
    if document.len() > PROFILE_BYTES_MAX {
        return Err(ProfileFault::TooLong(document.len()));
    }
    let profile: Profile = codec::decode(document)?;
    identity::verify(&profile.key, Label::Profile, document, signature).map_err(|_| ProfileFault::Forged)?;
    if !(1..=PROFILE_VERSION_MAX).contains(&profile.version) {
        return Err(ProfileFault::BadVersion(profile.version));
    }
    Ok(profile)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::random::OsRandom;
    use crate::wire::ids::{PeerName, Signature};
    use crate::wire::profile::DisplayName;

    fn profile(identity: &IdentityKey) -> Profile {
        let name = PeerName::parse("bob").unwrap();
        let display_name = Some(DisplayName::parse("Bob").unwrap());
        Profile { version: 3, display_name, ..Profile::empty(name, identity.public()) }
    }

    #[test]
    fn a_profile_is_good_as_it_was_signed_and_no_other_way() {
        let [bob, mallory] = [(); 2].map(|()| IdentityKey::generate(&mut OsRandom));
        let signed = sign(&bob, &profile(&bob));
        assert_eq!(open(&signed).unwrap(), profile(&bob));
        for place in 0..signed.document.len() {
            let mut changed = signed.clone();
            changed.document[place] ^= 1;
            let fault = open(&changed).unwrap_err();
            assert!(matches!(fault, ProfileFault::Forged | ProfileFault::Malformed(_)), "{place}: {fault}");
        }
        let under_his_key = SignedProfile { signature: sign(&mallory, &profile(&bob)).signature, ..signed.clone() };
        assert!(matches!(open(&under_his_key), Err(ProfileFault::Forged)));
        let message = bob.sign(Label::Message, &signed.document);
        let other_purpose = SignedProfile { signature: message, ..signed.clone() };
        assert!(matches!(open(&other_purpose), Err(ProfileFault::Forged)));
        let truncated = SignedProfile { document: signed.document[..20].to_vec(), ..signed };
        assert!(matches!(open(&truncated), Err(ProfileFault::Malformed(_))));
    }

    #[test]
    fn what_is_over_a_bound_is_named_even_when_its_owner_signed_it() {
        let bob = IdentityKey::generate(&mut OsRandom);
        for version in [0, PROFILE_VERSION_MAX + 1, u64::MAX] {
            let signed = sign(&bob, &Profile { version, ..profile(&bob) });
            assert!(matches!(open(&signed), Err(ProfileFault::BadVersion(found)) if found == version));
        }
        let long = vec![0; PROFILE_BYTES_MAX + 1];
        let signed = SignedProfile { signature: bob.sign(Label::Profile, &long), document: long };
        assert!(matches!(open(&signed), Err(ProfileFault::TooLong(bytes)) if bytes == PROFILE_BYTES_MAX + 1));
        let empty = SignedProfile { document: Vec::new(), signature: Signature::from_bytes([0; 64]) };
        assert!(matches!(open(&empty), Err(ProfileFault::Malformed(_))));
    }
}
