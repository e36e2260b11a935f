//! Why a command did not do what it was asked: a kind for scripts, a sentence and a hint for people.

use serde::{Deserialize, Serialize};

use crate::database::DatabaseError;
use crate::storage::folder_shares::FolderError;
use crate::storage::partial_file::ReceiveError;
use crate::storage::profile::ProfileError;
use crate::storage::shares::ShareError;
use crate::storage::walk::WalkError;
use crate::transport::connection::TransportError;
use crate::wire::ids::PeerName;
use crate::wire::refusal::Refusal;

/// The kinds of failure that a caller can tell apart; each has an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// None of the others.
    Other,
    /// The command makes no sense as given.
    Usage,
    /// The other person does not want it.
    Declined,
    /// The other person is offline, and nothing waits for them.
    Offline,
    /// A part arrived and is kept; the same command goes on from there.
    Partial,
    /// The bytes are not those that were promised.
    Integrity,
    /// The login failed, or a key is not the one that is trusted.
    Authentication,
    /// The other person does not accept this from us.
    NotAccepted,
    /// A quota or rate is used up.
    Quota,
    /// The directory does not answer.
    DirectoryUnreachable,
    /// The other peer cannot be reached directly.
    NoPath,
    /// Something took too long.
    TimedOut,
    /// The disk does not take or give the bytes.
    Disk,
    /// A newer login or the directory's operator ended the session.
    LoggedInElsewhere,
    /// The user stopped it.
    Interrupted,
}

/// Why a command did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What a script looks at.
    pub kind: FailureKind,
    /// What failed, and the cause.
    pub message: String,
    /// What to do about it. A command in `backquotes` stands there by its verb alone: faces type it differently.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hint: Option<String>,
    /// The refusal's number, when the other side said no.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refusal: Option<u16>,
}

impl Failure {
    /// A failure without a hint.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, refusal: None }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says whom or what it was about: `a file: no such file is shared`, `bob has no profile yet`.
    #[must_use]
    pub fn about(mut self, about: impl std::fmt::Display) -> Self {
        let says_what_it_does = ["is ", "has ", "does "].iter().any(|verb| self.message.starts_with(verb));
        let colon = if says_what_it_does { "" } else { ":" };
        self.message = format!("{about}{colon} {}", self.message);
        self
    }

    /// Why nothing goes from here to somebody, or no message.
    pub(super) fn of_message(to: &PeerName, refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotAccepted => {
                Self { message: format!("{to} does not accept messages from you"), ..refusal.into() }
            }
            Refusal::YouBlock => Self {
                message: format!("you have blocked {to}"),
                hint: Some(format!("`unblock {to}` first")),
                ..refusal.into()
            },
            refusal => refusal.into(),
        }
    }

    /// Says whom it was about, unless it says so itself.
    pub(super) fn about_recipient(self, to: &PeerName) -> Self {
        if self.kind == FailureKind::NotAccepted { self } else { self.about(to) }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self {
            kind: kind_of(refusal),
            message: refusal.to_string(),
            hint: refusal.hint().map(str::to_owned),
            refusal: Some(refusal.number()),
        }
    }
}

fn kind_of(refusal: Refusal) -> FailureKind {
    match refusal {
        Refusal::PasswordNeeded
        | Refusal::WrongPassword { .. }
        | Refusal::LockedOut { .. }
        | Refusal::BadProof
        | Refusal::NameTaken
        | Refusal::OwnerAsked { .. }
        | Refusal::OwnerDeclined
        | Refusal::Disabled
        | Refusal::NameKeptBack { .. }
        | Refusal::InvitationNeeded
        | Refusal::InvitationInvalid
        | Refusal::KeyReplaced { .. }
        | Refusal::KeyChanged
        | Refusal::BadSignature
        | Refusal::NotYourName
        | Refusal::NotLoggedIn => FailureKind::Authentication,
        Refusal::SessionEnded => FailureKind::LoggedInElsewhere,
        Refusal::TooManyAccounts { .. }
        | Refusal::TooOften { .. }
        | Refusal::MailboxFull
        | Refusal::TooManyShares
        | Refusal::TooManyInvitations
        | Refusal::TooManyTransfers
        | Refusal::RelayFull
        | Refusal::StrangerLimit
        | Refusal::TooManyFriends
        | Refusal::TooManyBlocked
        | Refusal::TooManyAsk
        | Refusal::Busy => FailureKind::Quota,
        Refusal::Offline => FailureKind::Offline,
        Refusal::Withdrawn => FailureKind::Declined,
        Refusal::NotAccepted | Refusal::NoConsent | Refusal::YouBlock => FailureKind::NotAccepted,
        Refusal::Storage => FailureKind::Disk,
        Refusal::FileChanged => FailureKind::Integrity,
        _ => FailureKind::Other,
    }
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Self {
        Self::new(FailureKind::Disk, error.to_string())
    }
}

impl From<ProfileError> for Failure {
    fn from(error: ProfileError) -> Self {
        let kind = match &error {
            ProfileError::File { .. } | ProfileError::Database(_) => FailureKind::Disk,
            ProfileError::KeyReadableByOthers { .. }
            | ProfileError::OpenToOthers { .. }
            | ProfileError::DamagedKey(_) => FailureKind::Authentication,
            ProfileError::InUse(_) | ProfileError::Exists { .. } | ProfileError::DamagedPins { .. } => {
                FailureKind::Other
            }
        };
        Self::new(kind, error.to_string())
    }
}

impl From<ShareError> for Failure {
    fn from(error: ShareError) -> Self {
        let kind = match &error {
            ShareError::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => FailureKind::Other,
            ShareError::Read { .. } => FailureKind::Disk,
            ShareError::NotAFile(_) => FailureKind::Usage,
            ShareError::TooLarge(..) => FailureKind::Quota,
            ShareError::Changed(_) => FailureKind::Integrity,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<FolderError> for Failure {
    fn from(error: FolderError) -> Self {
        let text = error.to_string();
        match error {
            FolderError::Walk(WalkError::Glob { .. }) => Self::new(FailureKind::Usage, text),
            FolderError::Walk(WalkError::TooMany(_)) | FolderError::Entry(..) | FolderError::Manifest(..) => {
                Self::new(FailureKind::Quota, text)
            }
            FolderError::Walk(WalkError::Read { .. }) | FolderError::Write { .. } => Self::new(FailureKind::Disk, text),
            FolderError::Share(error) => error.into(),
            FolderError::Database(error) => error.into(),
        }
    }
}

impl From<ReceiveError> for Failure {
    fn from(error: ReceiveError) -> Self {
        let failure = Self::new(FailureKind::Disk, error.to_string());
        match error {
            ReceiveError::Exists(_) => Self {
                kind: FailureKind::Other,
                ..failure.hint(
                    "the same with --overwrite replaces it, in a folder only what is missing or different; with --rename \
                     it takes another name",
                )
            },
            ReceiveError::PartReplaced(_) => {
                Self { kind: FailureKind::Other, ..failure.hint("remove it when nothing else uses it, then try again") }
            }
            ReceiveError::NoFolder(_) => {
                Self { kind: FailureKind::Usage, ..failure.hint("make it first, or name another one") }
            }
            ReceiveError::InTheWay { .. } => {
                Self { kind: FailureKind::Other, ..failure.hint("move it away, or receive into another folder") }
            }
            ReceiveError::NoSpace { .. } => failure.hint("free some space, or receive into another folder"),
            ReceiveError::PartRemoved(_) => {
                Self { kind: FailureKind::Other, ..failure.hint("the same command begins again") }
            }
            ReceiveError::PartTouched(_) => Self {
                kind: FailureKind::Partial,
                ..failure.hint("the same command looks what is right of it, and fetches the rest again")
            },
            ReceiveError::InUse(_) => {
                Self { kind: FailureKind::Partial, ..failure.hint("the same command goes on when that one has ended") }
            }
            ReceiveError::Write { source, .. } if is_disk_full(&source) => {
                failure.hint("free some space: the same command then goes on from where it stopped")
            }
            ReceiveError::Write { .. } => failure,
        }
    }
}

fn is_disk_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

impl From<TransportError> for Failure {
    fn from(error: TransportError) -> Self {
        let kind = match &error {
            TransportError::IdentityMismatch { .. } | TransportError::NotAnnounced => FailureKind::Authentication,
            TransportError::TimedOut | TransportError::NoAnswer(_) => FailureKind::TimedOut,
            TransportError::Bind { .. }
            | TransportError::Handshake(_)
            | TransportError::OtherVersion
            | TransportError::Tls(_)
            | TransportError::Closed(_)
            | TransportError::Reset(_)
            | TransportError::ClosedHere
            | TransportError::Restarted
            | TransportError::Refused
            | TransportError::BadFrame(_)
            | TransportError::Truncated => FailureKind::Other,
        };
        Self::new(kind, error.to_string())
    }
}
