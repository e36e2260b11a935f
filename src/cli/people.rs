//! The lines of friends, of their requests and answers, and of who may see an account, as people read them.

use super::face::Face;
use super::legacy;
use super::times::day_and_time;
use crate::wire::ids::{PeerName, UnixMillis};
use crate::wire::people::{Audience, FriendAnswer, FriendState, Presence};

/// A friend, or somebody who may become one.
pub(super) fn friend(
    name: &PeerName,
    state: FriendState,
    presence: Option<Presence>,
    last_seen: Option<UnixMillis>,
    face: Face,
) -> String {
    match (state, presence, last_seen) {
        (FriendState::Asked, _, _) => format!("{name}  asked, and has not answered"),
        (FriendState::AsksUs, _, _) => {
            face.hint(&format!("{name}  asks you: `friend {name}` accepts, `unfriend {name}` declines"))
        }
        (FriendState::Friends, None, _) => format!("{name}  friend"),
        (FriendState::Friends, Some(Presence::Online), _) => format!("{name}  friend, online"),
        (FriendState::Friends, Some(Presence::Away), _) => format!("{name}  friend, away"),
        (FriendState::Friends, Some(Presence::Busy), _) => format!("{name}  friend, busy"),
        (FriendState::Friends, Some(Presence::Offline), None) => format!("{name}  friend, offline"),
        (FriendState::Friends, Some(Presence::Offline), Some(time)) => {
            format!("{name}  friend, offline, here last {}", day_and_time(time))
        }
    }
}

/// Somebody asks to be friends.
pub(super) fn request(from: &PeerName, is_legacy: bool) -> String {
    let mark = legacy::mark(is_legacy);
    format!(
        "* {from}{mark} asks to be friends: /friend {from} accepts, /friend {from} later lets it wait, /unfriend {from} \
         declines; a friend may connect directly and see your IP address"
    )
}

/// What became of a friendship.
pub(super) fn answer(by: &PeerName, answer: FriendAnswer) -> String {
    match answer {
        FriendAnswer::Accepted => format!("* {by} is your friend now"),
        FriendAnswer::Declined => format!("* {by} does not want to be friends"),
        FriendAnswer::Busy => format!("* {by} is busy: your request waits"),
        FriendAnswer::Ended => format!("* {by} is no longer your friend"),
    }
}

/// Who may see an account.
pub(super) fn privacy(audience: Audience) -> &'static str {
    match audience {
        Audience::Everyone => "everyone may see you, find your files and write to you, but those you have blocked",
        Audience::Friends => "only your friends may see you, find your files and write to you",
    }
}
