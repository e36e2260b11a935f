//! When a prekey is replaced, and when the private half of an old one is deleted: what is deleted cannot be stolen, so
//! the sooner, the fewer messages can be read by whoever copies the disk.
//!
//! One prekey at a time is on its way to the directory. Of two, the older may arrive last, be handed out, and have no
//! private half any more: everything sealed to it comes back as "cannot open" and is sealed to it again, so the mailbox is
//! never drained, and its owner never hears which prekey is handed out. So who gets an envelope to a prekey that is not
//! here asks the directory for its own, one question at a time, and lets [`is_new_one_due`] judge the answer.

use crate::wire::ids::{PrekeyId, UnixMillis};

/// How old a prekey may get.
const FRESH_MILLIS: u64 = 24 * 3_600_000;

/// How old one may get that a drained mailbox has used. Not at once, because the sender of the next message pays for a
/// new one with three round trips.
const USED_FRESH_MILLIS: u64 = 5 * 60_000;

/// A private half on this disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Its prekey.
    pub id: PrekeyId,
    /// When it was made.
    pub made: UnixMillis,
    /// Whether a message was opened with it.
    pub is_used: bool,
}

/// Whether a new prekey is due: `newest` is the newest one here, `published` the one that the directory hands out.
#[must_use]
pub fn is_new_one_due(newest: Option<Kept>, published: Option<PrekeyId>, now: UnixMillis) -> bool {
    let Some(newest) = newest else { return true };
    let fresh = if newest.is_used { USED_FRESH_MILLIS } else { FRESH_MILLIS };
    // A clock that was set back makes a prekey of the future, which is as good as an old one.
    published != Some(newest.id) || now.0.abs_diff(newest.made.0) >= fresh
}

/// Which private halves nothing needs any more, when the mailbox is drained and the directory hands out `published`:
/// those older than that one. `kept` is ordered from the oldest to the newest.
#[must_use]
pub fn obsolete(kept: &[Kept], published: PrekeyId) -> Vec<PrekeyId> {
    let older = kept.iter().position(|kept| kept.id == published).unwrap_or(0);
    kept[..older].iter().map(|kept| kept.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(byte: u8, made: u64, is_used: bool) -> Kept {
        Kept { id: PrekeyId::from_bytes([byte; 16]), made: UnixMillis(made), is_used }
    }

    #[test]
    fn a_prekey_is_replaced_after_a_day_or_when_it_was_used_or_is_not_what_others_get() {
        const MINUTE: u64 = 60_000;
        let due = |kept: Kept, now: u64| is_new_one_due(Some(kept), Some(kept.id), UnixMillis(now));
        assert!(is_new_one_due(None, None, UnixMillis(0)));
        assert!(!due(kept(1, 0, false), 23 * 60 * MINUTE));
        assert!(due(kept(1, 0, false), 24 * 60 * MINUTE));
        assert!(!due(kept(1, 0, true), 4 * MINUTE));
        assert!(due(kept(1, 0, true), 5 * MINUTE));
        assert!(due(kept(1, 48 * 60 * MINUTE, false), 0), "the clock was set back by two days");
        let (ours, theirs) = (kept(1, 0, false), kept(2, 0, false));
        assert!(is_new_one_due(Some(ours), Some(theirs.id), UnixMillis(0)));
        assert!(is_new_one_due(Some(ours), None, UnixMillis(0)));
    }

    #[test]
    fn only_what_is_older_than_the_published_one_is_obsolete() {
        let all = [kept(1, 10, true), kept(2, 20, true), kept(3, 30, false)];
        assert_eq!(obsolete(&all, all[1].id), [all[0].id]);
        assert_eq!(obsolete(&all, all[2].id), [all[0].id, all[1].id]);
        assert_eq!(obsolete(&all, all[0].id), []);
        assert_eq!(obsolete(&all, kept(9, 0, false).id), [], "of one that is not here nothing is known");
    }
}
