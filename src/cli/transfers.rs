//! Transfers and offers as typed and read: the arguments of their verbs, and their lines on the screen.

use std::path::{Path, PathBuf};

use clap::Args as ClapArgs;
use indicatif::HumanBytes;

use super::args::{Login, Place};
use super::face::Face;
use super::legacy;
use super::output::{amount, printable, titled};
use super::sizes;
use super::times::day_and_time;
use super::words::{local_path, usage};
use crate::peer::event::Event;
use crate::peer::failure::{Failure, FailureKind};
use crate::peer::handle::Command;
use crate::peer::rows::{Direction, TransferRow, TransferState};
use crate::wire::ids::PeerName;

/// A verb that is about one offer of somebody.
#[derive(Debug, ClapArgs)]
pub(super) struct WhichOffer {
    /// The beginning of its id, the name of the file or of who offers it; the only one when it is left out.
    #[arg(value_name = "ID|NAME", default_value = "")]
    pub(super) offer: String,
    #[command(flatten)]
    pub(super) login: Login,
}

/// A verb that is about one transfer.
#[derive(Debug, ClapArgs)]
pub(super) struct WhichTransfer {
    /// The beginning of its id, or the name of the file; the only one when it is left out.
    #[arg(value_name = "ID|FILE", default_value = "")]
    pub(super) which: String,
    #[command(flatten)]
    pub(super) login: Login,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  qchat accept bob                            the file that bob offers\n  \
                  qchat accept --always bob --max 100M        from now on files of bob, a friend, without asking\n  \
                  qchat accept --always                       whose files are taken so\n  \
                  qchat accept --never bob                    asks again\n\n\
                  When whoever offers it is away your running peer fetches the file as soon as they are back; this \
                  ends with exit code 5 then.")]
pub(super) struct Accept {
    /// The beginning of the offer's id, the name of the file or of who offers it; the only one when it is left out.
    #[arg(value_name = "ID|NAME", default_value = "")]
    pub(super) offer: String,
    #[command(flatten)]
    pub(super) how: Accepting,
    #[command(flatten)]
    pub(super) login: Login,
}

/// What is accepted beside one offer, and where it goes.
#[derive(Debug, ClapArgs)]
pub(super) struct Accepting {
    #[command(flatten)]
    pub(super) place: Place,
    /// Take this friend's files without asking from now on; without a name it lists of whom that is so.
    #[arg(long, value_name = "FRIEND", num_args = 0..=1, conflicts_with = "never")]
    pub(super) always: Option<Option<PeerName>>,
    /// But none that is larger: 100M, 2G.
    #[arg(long, value_name = "SIZE", value_parser = sizes::bytes, requires = "always")]
    pub(super) max: Option<u64>,
    /// Ask about this friend's files again.
    #[arg(long, value_name = "FRIEND")]
    pub(super) never: Option<PeerName>,
}

impl Accepting {
    /// The command that this comes to, of an offer where none is accepted in advance; `folder` is absolute.
    pub(super) fn command(self, offer: String, folder: PathBuf) -> Result<Command, Failure> {
        if !offer.is_empty() && (self.always.is_some() || self.never.is_some()) {
            let text = format!("{offer:?} is one offer, --always and --never are for all of a friend's");
            return Err(Failure::new(FailureKind::Usage, text));
        }
        Ok(match (self.always, self.never) {
            (Some(Some(name)), _) => {
                let bytes_max = self.max.ok_or_else(|| no_bound(&name))?;
                Command::Welcome { name, bytes_max, folder }
            }
            (Some(None), _) => Command::Welcomes,
            (None, Some(name)) => Command::Unwelcome { name },
            (None, None) => {
                let (collision, executable) = (self.place.collision(), self.place.executable());
                Command::Accept { offer, folder, collision, executable }
            }
        })
    }
}

fn no_bound(name: &PeerName) -> Failure {
    Failure::new(
        FailureKind::Usage,
        format!("up to which size? nothing of {name} is taken without asking until you say"),
    )
    .hint(format!("`accept --always {name} --max 100M`: you are asked about what is larger"))
}

/// Reads what follows `/accept always` or `/accept never`; `None` when it is about an offer.
pub(super) fn accept_in_advance(rest: &str, folder: &Path) -> Option<Result<Command, Failure>> {
    let (word, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    match word {
        "always" => Some(always(rest.trim(), folder)),
        "never" => Some(PeerName::parse(rest.trim()).map_err(usage).map(|name| Command::Unwelcome { name })),
        _ => None,
    }
}

/// Reads `NAME SIZE [DIR]`.
fn always(rest: &str, folder: &Path) -> Result<Command, Failure> {
    if rest.is_empty() {
        return Ok(Command::Welcomes);
    }
    let Some((name, rest)) = rest.split_once(char::is_whitespace) else {
        return Err(no_bound(&PeerName::parse(rest).map_err(usage)?));
    };
    let (size, into) = rest.trim().split_once(char::is_whitespace).unwrap_or((rest.trim(), ""));
    let bytes_max = sizes::bytes(size).map_err(|error| Failure::new(FailureKind::Usage, error))?;
    let folder = if into.trim().is_empty() { folder.to_owned() } else { local_path(into.trim(), folder) };
    Ok(Command::Welcome { name: PeerName::parse(name).map_err(usage)?, bytes_max, folder })
}

/// The line of a transfer.
pub(super) fn line(row: &TransferRow, face: Face) -> String {
    if row.is_news { changed(row, face) } else { listed(row, face) }
}

/// The line of a transfer in a list.
fn listed(row: &TransferRow, face: Face) -> String {
    let way = if row.direction == Direction::In { "from" } else { "to" };
    let state = match (row.state, row.direction) {
        (TransferState::Running, Direction::In) => "receiving",
        (TransferState::Running, Direction::Out) => "sending",
        (TransferState::Waiting, _) => "waiting",
        (TransferState::Paused, _) => "paused",
        (TransferState::Failed, _) => "failed",
        (TransferState::Interrupted, _) => "interrupted",
        (TransferState::Cancelled, _) => "cancelled",
    };
    let resume = face.command(&format!("resume {:.8}", row.id));
    let because = row.reason.as_deref().map(|reason| format!(": {}", printable(reason)));
    let reason = match (because, row.state) {
        (Some(because), TransferState::Paused) => format!("{because}; `{resume}` goes on"),
        (Some(because), TransferState::Failed) => format!("{because}; `{resume}` tries again"),
        (because, _) => because.unwrap_or_default(),
    };
    let via = row.via.as_ref().map(|via| format!(", {}", super::paths::kind(via))).unwrap_or_default();
    format!("{:.8}  {} {way} {}  {}  {state}{via}{reason}", row.id, name(row), people(row), moved(row))
}

/// The line that says that a transfer stands otherwise now.
fn changed(row: &TransferRow, face: Face) -> String {
    let (what, who) = (name(row), people(row));
    let reason = row.reason.as_deref().map(printable);
    let because = reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let (cancel, resume) = (format!("cancel {:.8}", row.id), format!("resume {:.8}", row.id));
    let (cancel, resume) = (face.command(&cancel), face.command(&resume));
    match (row.state, row.direction) {
        (TransferState::Running, _) => format!("* going on with {what} from {who}: {}", moved(row)),
        (TransferState::Waiting, _) => {
            format!("* {what} from {who} waits{because}; it goes on by itself, `{cancel}` ends it")
        }
        (TransferState::Paused, _) => format!("* {what} from {who} is paused{because}; `{resume}` goes on"),
        (TransferState::Failed | TransferState::Interrupted, _) => {
            format!("* {what} from {who} has stopped{because}; `{resume}` tries again")
        }
        (TransferState::Cancelled, Direction::In) => format!("* {what} from {who} was cancelled{because}"),
        (TransferState::Cancelled, Direction::Out) => format!("* {what} is not sent to {who} any more"),
    }
}

fn name(row: &TransferRow) -> String {
    titled(&row.name, row.files)
}

fn people(row: &TransferRow) -> String {
    row.with.iter().map(PeerName::as_str).collect::<Vec<_>>().join(", ")
}

fn moved(row: &TransferRow) -> String {
    // How much has come of one that has stopped is known when it goes on: a program that was killed has not written it down.
    if row.done == 0 && row.state != TransferState::Running {
        return HumanBytes(row.size).to_string();
    }
    format!("{} of {}", HumanBytes(row.done), HumanBytes(row.size))
}

/// The line of an event about offers; `None` when it is about something else.
pub(super) fn offer(event: &Event, face: Face) -> Option<String> {
    Some(match event {
        Event::Offered { to, name, size, files, online, .. } => {
            let when = if *online {
                "waiting for their answer".to_owned()
            } else {
                format!("queued, starts when {to} is back and accepts; your peer has to run then")
            };
            format!("* offered {} ({}) to {to}: {when}", titled(name, *files), amount(*size, *files))
        }
        Event::Offer { from, id, name, size, files, legacy, .. } => format!(
            "* {from}{} offers {} ({}): `{}` or `{}`",
            legacy::mark(*legacy),
            titled(name, *files),
            amount(*size, *files),
            face.command(&format!("accept {id:.8}")),
            face.command(&format!("decline {id:.8}"))
        ),
        Event::OfferDeclined { by, name, .. } => format!("* {by} declined {}", printable(name.as_str())),
        Event::Declined { from, name, .. } => format!("* {} of {from} is declined", printable(name.as_str())),
        Event::OfferWithdrawn { from, name, .. } => {
            format!("* {from} does not offer {} any more", printable(name.as_str()))
        }
        Event::OpenOffer { to, id, name, size, files, since } => format!(
            "{id:.8}  {} ({}) to {to}, since {}: not taken yet, `{}` takes it back",
            titled(name, *files),
            amount(*size, *files),
            day_and_time(*since),
            face.command(&format!("cancel {id:.8}"))
        ),
        Event::Welcome { name, bytes_max, folder } => format!(
            "files of {name} up to {} go to {} without asking, as long as you are friends",
            HumanBytes(*bytes_max),
            printable(&folder.display().to_string())
        ),
        Event::Unwelcome { name } => format!("you are asked about files of {name}"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ids::{FileName, TransferId};

    fn row(state: TransferState, reason: Option<&str>) -> TransferRow {
        TransferRow {
            id: TransferId::from_bytes([0xab; 16]),
            direction: Direction::In,
            name: FileName::parse("a b").unwrap(),
            with: vec![PeerName::parse("bob").unwrap(), PeerName::parse("carol").unwrap()],
            size: 2 << 30,
            files: None,
            done: 812 << 20,
            state,
            reason: reason.map(str::to_owned),
            via: None,
            offer: None,
            is_news: false,
        }
    }

    #[test]
    fn a_line_says_what_goes_on_and_how_to_end_it() {
        let bob = TransferRow { with: vec![PeerName::parse("bob").unwrap()], ..row(TransferState::Running, None) };
        let bob = TransferRow { name: FileName::parse("x").unwrap(), ..bob };
        assert_eq!(changed(&bob, Face::Prompt), "* going on with x from bob: 812.00 MiB of 2.00 GiB");
        let waits = row(TransferState::Waiting, Some("bob is not online"));
        assert_eq!(
            changed(&waits, Face::Shell),
            "* a b from bob, carol waits: bob is not online; it goes on by itself, `qchat cancel abababab` ends it"
        );
        let full = row(TransferState::Paused, Some("the disk is full; free some space"));
        let says = "paused: the disk is full; free some space; `/resume abababab` goes on";
        assert!(listed(&full, Face::Prompt).ends_with(says), "{}", listed(&full, Face::Prompt));
        assert_eq!(
            listed(&waits, Face::Prompt),
            "abababab  a b from bob, carol  812.00 MiB of 2.00 GiB  waiting: bob is not online"
        );
    }

    #[test]
    fn files_of_a_friend_are_taken_in_advance_up_to_a_size() {
        let read = |rest| accept_in_advance(rest, Path::new("/here"));
        let bob = || PeerName::parse("bob").unwrap();
        let welcome = |folder: &str| Command::Welcome { name: bob(), bytes_max: 100_000_000, folder: folder.into() };
        assert_eq!(read("always bob 100M").unwrap().unwrap(), welcome("/here"));
        assert_eq!(read("always  bob  100M  in box").unwrap().unwrap(), welcome("/here/in box"));
        assert_eq!(read("always").unwrap().unwrap(), Command::Welcomes);
        assert_eq!(read("never bob").unwrap().unwrap(), Command::Unwelcome { name: bob() });
        for wrong in ["always bob", "always bob much", "always B*b 1M", "never", "never bob carol"] {
            assert!(read(wrong).unwrap().is_err(), "{wrong:?} should be refused");
        }
        assert!(read("bob").is_none() && read("").is_none() && read("alwaysbob").is_none());
    }
}
