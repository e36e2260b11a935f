//! What a peer makes of what its directory says of a friendship. It believes that two are friends only when its own person
//! has said so here: otherwise a directory could make friends, to whom an address and profiles are given.
//!
//! ```text
//! nothing --we ask, or accept--> asked --they have said so too--> friends --either ends it--> nothing
//!                                  `-------they do not want it------------------------------> nothing
//! ```

use crate::wire::people::{FriendAnswer, FriendState};

/// A friendship that this account's person wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The other side has not said so.
    Asked,
    /// Both have said so.
    Friends,
}

/// What is kept of a friendship, and what there is to tell of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// What this peer believes from now on.
    pub state: Option<Wanted>,
    /// What the person is told.
    pub news: Option<News>,
}

/// What a person is told of a friendship.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// What the other side has answered, or that it has ended.
    Answered(FriendAnswer),
    /// The directory says that both are friends, which nobody has asked for here: it is taken for a request of theirs.
    AsksUs,
}

/// Judges how far a friendship is at the directory, `None` when it knows of none. That somebody asks is no news here:
/// the directory tells it of its own accord.
#[must_use]
pub fn hear(known: Option<Wanted>, said: Option<FriendState>) -> Heard {
    let (state, news) = match (known, said) {
        (Some(Wanted::Friends), Some(FriendState::Friends)) => (known, None),
        (Some(Wanted::Asked), Some(FriendState::Friends)) => (Some(Wanted::Friends), answered(FriendAnswer::Accepted)),
        (None, Some(FriendState::Friends)) => (None, Some(News::AsksUs)),
        (Some(Wanted::Friends), Some(FriendState::Asked)) => (Some(Wanted::Asked), answered(FriendAnswer::Ended)),
        // Whoever has not asked here does not want it here.
        (Some(Wanted::Asked) | None, Some(FriendState::Asked)) => (known, None),
        (Some(Wanted::Friends), Some(FriendState::AsksUs) | None) => (None, answered(FriendAnswer::Ended)),
        // They have said no, and ask now.
        (Some(Wanted::Asked) | None, Some(FriendState::AsksUs)) => (None, None),
        (Some(Wanted::Asked), None) => (None, answered(FriendAnswer::Declined)),
        (None, None) => (None, None),
    };
    Heard { state, news }
}

/// Judges an answer that the directory passes on.
#[must_use]
pub fn hear_answer(known: Option<Wanted>, answer: FriendAnswer) -> Heard {
    match answer {
        FriendAnswer::Accepted => hear(known, Some(FriendState::Friends)),
        FriendAnswer::Declined | FriendAnswer::Ended => hear(known, None),
        FriendAnswer::Busy => Heard { state: known, news: answered(answer).filter(|_| known == Some(Wanted::Asked)) },
    }
}

/// How a friendship is shown that the directory lists.
#[must_use]
pub fn shown(known: Option<Wanted>, listed: FriendState) -> FriendState {
    match (known, listed) {
        (None, FriendState::Friends) => FriendState::AsksUs,
        (Some(_), FriendState::Friends) | (_, FriendState::Asked | FriendState::AsksUs) => listed,
    }
}

fn answered(answer: FriendAnswer) -> Option<News> {
    Some(News::Answered(answer))
}

#[cfg(test)]
#[path = "friendship_tests.rs"]
mod tests;
