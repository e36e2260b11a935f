//! Who may see whom, and how two become friends: what one person is to another, and what follows from it. Whom somebody
//! has blocked, and whom they do not show themselves to, see the same of them: an account whose owner never comes.
//!
//! ```text
//! nothing --we ask---> asked -----they ask too---> friends --either ends it--> nothing
//!    |                   `--we take it back--> nothing
//!    `---they ask--> asks us --we ask too--> friends
//!                        |`--we put it off--> asks us, and they know that it waits
//!                        `---we decline--> nothing
//! ```
//! Whoever blocks somebody takes back what they have said themselves. What the other one says is not shown to them, and
//! the other one does not learn that: nobody answers.

use std::collections::BTreeSet;

use crate::wire::ids::PeerName;
use crate::wire::limits::FRIEND_REQUESTS_MAX;
use crate::wire::people::{Audience, FriendAnswer, FriendState};
use crate::wire::refusal::Refusal;

/// What a person is to somebody who asks for them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Relation {
    /// Whether the person has blocked the asker.
    pub blocks: bool,
    /// Whether both are friends.
    pub are_friends: bool,
    /// Who may see the person.
    pub audience: Audience,
}

impl Relation {
    /// Whether the asker may see the person, find what they publish, and write to them.
    #[must_use]
    pub fn is_open(self) -> bool {
        !self.blocks && (self.are_friends || self.audience == Audience::Everyone)
    }
}

/// Whom a person knows and keeps out, while they are online.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Circle {
    /// Who may see the person.
    pub audience: Audience,
    /// Both have said so.
    pub friends: BTreeSet<PeerName>,
    /// Whom they keep out.
    pub blocked: BTreeSet<PeerName>,
}

impl Circle {
    /// What the person is to somebody.
    #[must_use]
    pub fn relation_to(&self, asker: &PeerName) -> Relation {
        Relation {
            blocks: self.blocked.contains(asker),
            are_friends: self.friends.contains(asker),
            audience: self.audience,
        }
    }
}

/// How a person takes somebody who wants to reach them: with a message, a question or a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reception {
    /// What the person is to them.
    pub relation: Relation,
    /// Whether they keep the person out themselves.
    pub is_kept_out: bool,
    /// Whether the person has written to them.
    pub has_written: bool,
    /// Whether the person lets them learn where they are.
    pub has_allowed: bool,
}

impl Reception {
    /// Whether they may reach the person.
    ///
    /// # Errors
    /// `YouBlock` when they keep the person out, else what an account is answered with whose owner never comes.
    pub fn admits(self, otherwise: Refusal) -> Result<(), Refusal> {
        match (self.is_kept_out, self.relation.is_open()) {
            (true, _) => Err(Refusal::YouBlock),
            (false, true) => Ok(()),
            (false, false) => Err(otherwise),
        }
    }

    /// Whether the person has never had to do with them.
    #[must_use]
    pub fn is_stranger(self) -> bool {
        !(self.relation.are_friends || self.has_written || self.has_allowed)
    }
}

/// What two people have said of each other, from the side of one of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bond {
    /// Whether we want to be friends.
    pub we_ask: bool,
    /// Whether they want it.
    pub they_ask: bool,
    /// Whether we have told them that our answer comes later.
    pub is_put_off: bool,
    /// Whether we keep them out.
    pub we_block: bool,
    /// Whether they keep us out.
    pub they_block: bool,
}

/// What a person says of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Let us be friends.
    Befriend,
    /// We are friends no longer, or shall not be.
    Unfriend,
    /// The answer comes later.
    PutOff,
    /// Keep them out.
    Block,
    /// Keep them out no longer.
    Unblock,
}

/// What the other one is told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// They are asked to be friends.
    Asked,
    /// What they have asked is answered, or what they had is over.
    Answered(FriendAnswer),
}

impl Bond {
    /// How far the friendship is, as we see it.
    #[must_use]
    pub fn state(self) -> Option<FriendState> {
        match (self.we_ask, self.they_ask && !self.we_block) {
            (true, true) => Some(FriendState::Friends),
            (true, false) => Some(FriendState::Asked),
            (false, true) => Some(FriendState::AsksUs),
            (false, false) => None,
        }
    }

    /// What is between the two after we said something, and what the other one is told.
    ///
    /// # Errors
    /// `YouBlock`, `NotFriends` or `NotBlocked` when it means nothing here.
    pub fn after(self, word: Word) -> Result<(Self, Option<News>), Refusal> {
        match word {
            Word::Befriend => self.befriended(),
            Word::Unfriend => self.unfriended(),
            Word::PutOff if self.state() != Some(FriendState::AsksUs) => Err(Refusal::NotFriends),
            Word::PutOff => {
                // Once is enough: whoever asks must not be told again and again.
                let news = (!self.is_put_off).then_some(News::Answered(FriendAnswer::Busy));
                Ok((Self { is_put_off: true, ..self }, news))
            }
            Word::Block => Ok(self.blocked()),
            Word::Unblock if !self.we_block => Err(Refusal::NotBlocked),
            Word::Unblock => Ok((Self { we_block: false, ..self }, None)),
        }
    }

    fn befriended(self) -> Result<(Self, Option<News>), Refusal> {
        if self.we_block {
            return Err(Refusal::YouBlock);
        }
        let news = match self.state() {
            Some(FriendState::Friends | FriendState::Asked) => None,
            Some(FriendState::AsksUs) => Some(News::Answered(FriendAnswer::Accepted)),
            None => (!self.they_block).then_some(News::Asked),
        };
        Ok((Self { we_ask: true, is_put_off: false, ..self }, news))
    }

    fn unfriended(self) -> Result<(Self, Option<News>), Refusal> {
        let news = match self.state() {
            Some(FriendState::Friends) => Some(News::Answered(FriendAnswer::Ended)),
            Some(FriendState::AsksUs) => Some(News::Answered(FriendAnswer::Declined)),
            Some(FriendState::Asked) => None,
            None => return Err(Refusal::NotFriends),
        };
        Ok((Self { we_ask: false, they_ask: false, is_put_off: false, ..self }, news))
    }

    /// A friend learns what a friend learns with whom it is over. Whoever only asked goes on waiting.
    fn blocked(self) -> (Self, Option<News>) {
        let were_friends = self.state() == Some(FriendState::Friends);
        let news = were_friends.then_some(News::Answered(FriendAnswer::Ended));
        (Self { we_ask: false, they_ask: self.they_ask && !were_friends, we_block: true, ..self }, news)
    }
}

/// Whether a request to be friends is shown to a person whom so many ask already.
///
/// # Errors
/// `TooManyAsk`; but who may not see the person does not learn how many do.
pub fn is_shown(person: Relation, waiting: u64) -> Result<bool, Refusal> {
    match (waiting < FRIEND_REQUESTS_MAX, person.is_open()) {
        (true, _) => Ok(true),
        (false, true) => Err(Refusal::TooManyAsk),
        (false, false) => Ok(false),
    }
}

#[cfg(test)]
#[path = "people_tests.rs"]
mod tests;
