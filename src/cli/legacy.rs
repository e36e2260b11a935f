//! What a person reads of somebody who uses an older program: that what is said with them is not end-to-end encrypted, in
//! the same words everywhere.

use crate::wire::ids::PeerName;

/// Behind a name in a line of what they say.
pub(super) fn mark(is_legacy: bool) -> &'static str {
    if is_legacy { " (legacy)" } else { "" }
}

/// At the end of a row about them.
pub(super) fn note(is_legacy: bool) -> &'static str {
    if is_legacy { "  legacy: not end-to-end encrypted" } else { "" }
}

/// Before the first thing that is said with them.
pub(super) fn warning(name: &PeerName) -> String {
    format!("* {name} uses an older program: legacy: not end-to-end encrypted")
}

/// In the place of numbers that could be compared.
pub(super) fn contact(name: &PeerName) -> String {
    format!(
        "{name} uses an older program: legacy: not end-to-end encrypted\nThe directory's gateway has the key for them, so \
         there is no safety number to compare."
    )
}
