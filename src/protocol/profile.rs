//! Which profile takes the place of which: the same owner, the same key, a higher version. Whose signature it has was
//! checked before; who handed it on does not matter.

use crate::wire::ids::{PeerKey, PeerName};
use crate::wire::profile::Profile;

/// What a profile that came is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It takes the place of what is held.
    New,
    /// It is what is held.
    Same,
}

/// Why a profile that came is not taken. What is held stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is somebody else's.
    #[error("it is the profile of {0}")]
    OtherName(PeerName),
    /// It is signed by another key than theirs.
    #[error("it is signed by the key {0}, which is not theirs")]
    OtherKey(PeerKey),
    /// A newer one was there before.
    #[error("it is older, version {found} where {held} is known")]
    Older {
        /// Its version.
        found: u64,
        /// The version that is held.
        held: u64,
    },
    /// It says something else than the one of the same version that was there before.
    #[error("it is another one of the same version, {0}")]
    SameVersion(u64),
}

/// The version to ask for a newer one than; 0 when nothing is held, or only something under another key.
#[must_use]
pub fn known(key: PeerKey, held: Option<&Profile>) -> u64 {
    held.filter(|held| held.key == key).map_or(0, |held| held.version)
}

/// Whether somebody who has this version is told of what is held.
#[must_use]
pub fn is_news(held: &Profile, known: u64) -> bool {
    held.version > known
}

/// Judges a profile that came for one of a person with this name and key. What is held under an earlier key of theirs
/// counts for nothing: identity is a key.
///
/// # Errors
/// [`Unfit`].
pub fn judge(of: &PeerName, key: PeerKey, held: Option<&Profile>, found: &Profile) -> Result<Verdict, Unfit> {
    if found.name != *of {
        return Err(Unfit::OtherName(found.name.clone()));
    }
    if found.key != key {
        return Err(Unfit::OtherKey(found.key));
    }
    match held.filter(|held| held.key == key) {
        None => Ok(Verdict::New),
        Some(held) if is_news(found, held.version) => Ok(Verdict::New),
        Some(held) if held == found => Ok(Verdict::Same),
        Some(held) if held.version == found.version => Err(Unfit::SameVersion(held.version)),
        Some(held) => Err(Unfit::Older { found: found.version, held: held.version }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::profile::ProfileInfo;

    fn name(text: &str) -> PeerName {
        PeerName::parse(text).unwrap()
    }

    fn key(byte: u8) -> PeerKey {
        PeerKey::from_bytes([byte; 32])
    }

    fn profile(of: &str, byte: u8, version: u64, info: &str) -> Profile {
        let info = Some(ProfileInfo::parse(info).unwrap());
        Profile { version, info, ..Profile::empty(name(of), key(byte)) }
    }

    #[track_caller]
    fn check(held: Option<Profile>, found: Profile, expected: Result<Verdict, Unfit>) {
        assert_eq!(judge(&name("bob"), key(1), held.as_ref(), &found), expected);
    }

    #[test]
    fn only_the_owners_higher_version_takes_the_place_of_another() {
        let held = || Some(profile("bob", 1, 5, "five"));
        check(None, profile("bob", 1, 1, "one"), Ok(Verdict::New));
        check(held(), profile("bob", 1, 6, "six"), Ok(Verdict::New));
        check(held(), profile("bob", 1, 5, "five"), Ok(Verdict::Same));
        check(held(), profile("bob", 1, 5, "another five"), Err(Unfit::SameVersion(5)));
        check(held(), profile("bob", 1, 4, "four"), Err(Unfit::Older { found: 4, held: 5 }));
        check(held(), profile("bob", 2, 6, "forged"), Err(Unfit::OtherKey(key(2))));
        check(None, profile("bob", 2, 1, "forged"), Err(Unfit::OtherKey(key(2))));
        check(held(), profile("carol", 1, 6, "hers"), Err(Unfit::OtherName(name("carol"))));
        check(None, profile("carol", 3, 6, "hers"), Err(Unfit::OtherName(name("carol"))));
    }

    #[test]
    fn what_was_held_under_an_earlier_key_counts_for_nothing() {
        let earlier = profile("bob", 9, 700, "on my old machine");
        assert_eq!((known(key(1), Some(&earlier)), known(key(9), Some(&earlier)), known(key(1), None)), (0, 700, 0));
        check(Some(earlier), profile("bob", 1, 1, "on my new one"), Ok(Verdict::New));
    }

    /// Every order of five of nine profiles, some of them of others, under other keys or twice of one version: what is
    /// held at the end is bob's own with the highest version that came, and of that version the one that came first.
    #[test]
    fn in_whatever_order_they_come_the_owners_newest_is_held() {
        let offered = [
            profile("bob", 1, 1, "one"),
            profile("bob", 1, 2, "two"),
            profile("bob", 1, 2, "another two"),
            profile("bob", 1, 3, "three"),
            profile("bob", 2, 1, "forged"),
            profile("bob", 2, 9, "forged and high"),
            profile("carol", 1, 9, "under his key"),
            profile("carol", 3, 9, "hers"),
            profile("bob", 1, 9, "nine"),
        ];
        for mut script in 0..offered.len().pow(5) {
            let (mut held, mut came): (Option<Profile>, Vec<&Profile>) = (None, Vec::new());
            for _ in 0..5 {
                let found = &offered[script % offered.len()];
                script /= offered.len();
                came.push(found);
                if judge(&name("bob"), key(1), held.as_ref(), found) == Ok(Verdict::New) {
                    assert!(is_news(found, known(key(1), held.as_ref())), "only news travels");
                    held = Some(found.clone());
                }
            }
            let his = || came.iter().filter(|found| found.name == name("bob") && found.key == key(1));
            let newest = his().map(|found| found.version).max();
            let expected = his().find(|found| Some(found.version) == newest);
            assert_eq!(held.as_ref(), expected.copied(), "{came:?}");
        }
    }
}
