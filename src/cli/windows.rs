//! To whom a plain line goes: to whom its writer has said, and nobody else changes that while a line is being typed.
//! Beside the open conversation there may be an exclusive one, which the other side can open and end too. Asks nobody: it
//! says what is to be asked.

use crate::peer::event::Event;
use crate::peer::failure::{Failure, FailureKind};
use crate::peer::handle::Command;
use crate::wire::ids::PeerName;

/// The open conversation, and the exclusive one.
#[derive(Debug, Default)]
pub(super) struct Windows {
    open: Option<PeerName>,
    exclusive: Option<PeerName>,
}

impl Windows {
    /// Who gets a plain line.
    pub(super) fn open(&self) -> Option<&PeerName> {
        self.open.as_ref()
    }

    /// What the peer is to do, one after the other, before [`Self::enter`]. Whoever leaves an exclusive conversation for
    /// another person ends it.
    pub(super) fn to_open(&self, to: &PeerName, exclusive: bool) -> Vec<Command> {
        let mut commands = vec![Command::Query { to: to.clone() }];
        let others = self.exclusive.as_ref().filter(|with| *with != to);
        commands.extend(
            others
                .filter(|with| exclusive || self.open.as_ref() == Some(with))
                .map(|with| Command::CloseExclusive { with: with.clone() }),
        );
        if exclusive && self.exclusive.as_ref() != Some(to) {
            commands.push(Command::OpenExclusive { to: to.clone() });
        }
        commands
    }

    /// Opens a conversation once the peer has done that.
    pub(super) fn enter(&mut self, to: PeerName) {
        self.open = Some(to);
    }

    /// Closes what is open, so that nothing goes to whom it is not meant for. Says who that was. An exclusive
    /// conversation stays, and `/query` goes back to it.
    pub(super) fn leave(&mut self) -> Option<PeerName> {
        self.open.take()
    }

    /// Closes what is open, else the exclusive conversation; says what the peer is to do for that, if anything.
    ///
    /// # Errors
    /// A [`Failure`] when nothing is open.
    pub(super) fn close(&mut self) -> Result<Option<Command>, Failure> {
        let closed = self.open.take().or_else(|| self.exclusive.clone()).ok_or_else(|| {
            Failure::new(FailureKind::Usage, "no conversation is open").hint("/query NAME opens one, /quit leaves")
        })?;
        let is_exclusive = self.exclusive.as_ref() == Some(&closed);
        if is_exclusive {
            self.exclusive = None;
        }
        Ok(is_exclusive.then_some(Command::CloseExclusive { with: closed }))
    }

    /// Follows what the peer tells of exclusive conversations. What is typed goes where it went; says when that is to
    /// somebody else than to whoever opened one.
    pub(super) fn notice(&mut self, event: &Event) -> Option<String> {
        match event {
            Event::ExclusiveOpened { with, by } => {
                self.exclusive = Some(with.clone());
                let to = self.open.as_ref().filter(|to| with == by && *to != with)?;
                Some(format!("* what you type still goes to {to}"))
            }
            Event::ExclusiveClosed { with, .. } if self.exclusive.as_ref() == Some(with) => {
                self.exclusive = None;
                None
            }
            _ => None,
        }
    }
}

/// What stands before a line that goes to `open`, or to nobody.
pub(super) fn prompt(user: &PeerName, open: Option<&PeerName>) -> String {
    match open {
        Some(to) => format!("{user} to {to}> "),
        None => format!("{user}> "),
    }
}

/// Says to whom plain lines go.
pub(super) fn goes_to(to: &PeerName) -> String {
    format!("* what you type goes to {to}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::rows::WhyClosed;

    fn name(text: &str) -> PeerName {
        PeerName::parse(text).unwrap()
    }

    fn opened(with: &str, by: &str) -> Event {
        Event::ExclusiveOpened { with: name(with), by: name(by) }
    }

    fn closed(with: &str) -> Event {
        Event::ExclusiveClosed { with: name(with), why: WhyClosed::There }
    }

    fn open(windows: &Windows) -> Option<&str> {
        windows.open().map(PeerName::as_str)
    }

    #[test]
    fn another_window_takes_the_place_of_the_first() {
        let mut windows = Windows::default();
        assert_eq!(prompt(&name("alice"), windows.open()), "alice> ");
        assert_eq!(windows.to_open(&name("bob"), false), [Command::Query { to: name("bob") }]);
        for to in ["bob", "carol"] {
            windows.enter(name(to));
            assert_eq!(open(&windows), Some(to));
        }
        assert_eq!(prompt(&name("alice"), windows.open()), "alice to carol> ");
        assert_eq!(windows.close().unwrap(), None, "the peer knows nothing of it");
        assert_eq!(open(&windows), None);
        assert_eq!(windows.close().unwrap_err().kind, FailureKind::Usage);
    }

    #[test]
    fn who_goes_to_somebody_else_ends_the_exclusive_conversation() {
        let mut windows = Windows::default();
        let (bob, carol) = (name("bob"), name("carol"));
        let (find, end) = (Command::Query { to: carol.clone() }, Command::CloseExclusive { with: bob.clone() });
        assert_eq!(
            windows.to_open(&bob, true),
            [Command::Query { to: bob.clone() }, Command::OpenExclusive { to: bob.clone() }]
        );
        windows.notice(&opened("bob", "alice"));
        windows.enter(bob.clone());
        assert_eq!(windows.to_open(&bob, true), [Command::Query { to: bob.clone() }], "it is there already");
        assert_eq!(windows.to_open(&carol, false), [find.clone(), end.clone()]);
        assert_eq!(windows.to_open(&carol, true), [find, end.clone(), Command::OpenExclusive { to: carol }]);
        assert_eq!(windows.close().unwrap(), Some(end));
        assert_eq!(windows.notice(&closed("bob")), None);
        assert!(windows.close().is_err());
    }

    #[test]
    fn what_somebody_else_opens_takes_no_line_that_is_meant_for_another() {
        let mut windows = Windows::default();
        assert_eq!(windows.notice(&opened("bob", "bob")), None);
        assert_eq!(open(&windows), None);
        windows.notice(&closed("bob"));

        windows.enter(name("carol"));
        assert_eq!(windows.notice(&opened("bob", "bob")).unwrap(), "* what you type still goes to carol");
        assert_eq!(open(&windows), Some("carol"));
        assert_eq!(windows.close().unwrap(), None, "first what is open");
        assert_eq!(windows.close().unwrap(), Some(Command::CloseExclusive { with: name("bob") }));
    }

    #[test]
    fn the_end_of_an_exclusive_conversation_leaves_an_ordinary_one() {
        let mut windows = Windows::default();
        windows.notice(&opened("bob", "alice"));
        windows.enter(name("bob"));
        windows.notice(&closed("bob"));
        assert_eq!(open(&windows), Some("bob"));
        assert_eq!(windows.to_open(&name("bob"), true).len(), 2, "it can be opened again");
        assert_eq!(windows.leave(), Some(name("bob")));
        assert_eq!(windows.leave(), None);
    }
}
