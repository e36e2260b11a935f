//! Exclusive conversations: each person has at most one. Decides what an opening, a closing and silence of either side
//! come to. Knows no connection and no clock.
//!
//! ```text
//! Idle --we ask--> Asking --they agree, or ask us too--> With --either closes it, they know nothing of it--> Idle
//!   |                `----they do not, or do not answer----> Idle     `--they are not heard twice in a row---^
//!   `--they ask us---------------------------------------> With
//! ```
//! An answer may be lost, and then only one side believes in a conversation. So each asks the other from time to time
//! whether it still holds, and a no ends it.

use crate::wire::ids::PeerKey;

/// Silences in a row after which the other side counts as gone.
pub const UNHEARD_MAX: u32 = 2;

/// One person's part in exclusive conversations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Engagement {
    stage: Stage,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
enum Stage {
    #[default]
    Idle,
    /// They were asked, and have not answered.
    Asking(PeerKey),
    /// There is one.
    With {
        other: PeerKey,
        /// How often they were not heard since they were heard last.
        unheard: u32,
    },
}

/// There is a conversation with somebody else, or somebody else is asked for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Engaged;

/// What the person opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// The other side is to be asked.
    Ask,
    /// It is there already.
    IsOpen,
}

/// What an answer comes to, or that there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// It begins.
    Begins,
    /// It does not come about.
    GivenUp,
    /// It changes nothing: they have asked us meanwhile, or it was closed.
    Unchanged,
}

/// What was heard of the other side when it was asked whether the conversation still holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It does.
    Yes,
    /// They know nothing of it.
    No,
    /// Nothing.
    Silence,
}

/// Why a conversation is over that nobody here has closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The other side knows nothing of it any more.
    ByThem,
    /// The other side is gone.
    Lost,
}

impl Engagement {
    /// With whom there is a conversation.
    #[must_use]
    pub fn with(self) -> Option<PeerKey> {
        match self.stage {
            Stage::With { other, .. } => Some(other),
            Stage::Idle | Stage::Asking(_) => None,
        }
    }

    /// The person opens one.
    ///
    /// # Errors
    /// [`Engaged`] while there is another one.
    pub fn open(&mut self, with: PeerKey) -> Result<Opening, Engaged> {
        match self.stage {
            Stage::Idle => {
                self.stage = Stage::Asking(with);
                Ok(Opening::Ask)
            }
            Stage::With { other, .. } if other == with => Ok(Opening::IsOpen),
            Stage::Asking(_) | Stage::With { .. } => Err(Engaged),
        }
    }

    /// Takes the answer to what was asked; `false` also when there is none.
    pub fn take_answer(&mut self, by: PeerKey, agreed: bool) -> Answered {
        match self.stage {
            Stage::Asking(asked) if asked == by && agreed => {
                self.stage = Stage::With { other: by, unheard: 0 };
                Answered::Begins
            }
            Stage::Asking(asked) if asked == by => {
                self.stage = Stage::Idle;
                Answered::GivenUp
            }
            Stage::Idle | Stage::Asking(_) | Stage::With { .. } => Answered::Unchanged,
        }
    }

    /// Somebody opens one with us. Says whether it begins by that.
    ///
    /// # Errors
    /// [`Engaged`] while there is another one.
    pub fn take_open(&mut self, by: PeerKey) -> Result<bool, Engaged> {
        match self.stage {
            Stage::With { other, .. } if other == by => Ok(false),
            Stage::Asking(asked) if asked != by => Err(Engaged),
            Stage::With { .. } => Err(Engaged),
            // Both ask each other: that is agreement.
            Stage::Idle | Stage::Asking(_) => {
                self.stage = Stage::With { other: by, unheard: 0 };
                Ok(true)
            }
        }
    }

    /// The person closes it, or stops asking. Comes back with who is to be told.
    pub fn close(&mut self) -> Option<PeerKey> {
        match std::mem::take(&mut self.stage) {
            Stage::Idle => None,
            Stage::Asking(other) | Stage::With { other, .. } => Some(other),
        }
    }

    /// Somebody says that it is over, or has left. Says whether it was there. Whoever is being asked answers all the same.
    pub fn take_close(&mut self, by: PeerKey) -> bool {
        let was_open = self.with() == Some(by);
        if was_open {
            self.stage = Stage::Idle;
        }
        was_open
    }

    /// Whether it holds, which somebody asks. It does also while they are asked: they have agreed, and that is on its way.
    #[must_use]
    pub fn holds(self, with: PeerKey) -> bool {
        match self.stage {
            Stage::Asking(other) | Stage::With { other, .. } => other == with,
            Stage::Idle => false,
        }
    }

    /// Takes what was heard of the other side.
    pub fn take_check(&mut self, of: PeerKey, heard: Heard) -> Option<Ended> {
        let Stage::With { other, unheard } = self.stage else { return None };
        if other != of {
            return None;
        }
        let unheard = match heard {
            Heard::Yes => 0,
            Heard::Silence => unheard + 1,
            Heard::No => UNHEARD_MAX,
        };
        if unheard < UNHEARD_MAX {
            self.stage = Stage::With { other, unheard };
            return None;
        }
        self.stage = Stage::Idle;
        Some(if heard == Heard::No { Ended::ByThem } else { Ended::Lost })
    }
}

#[cfg(test)]
#[path = "exclusive_tests.rs"]
mod tests;
