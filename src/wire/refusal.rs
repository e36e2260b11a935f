//! Every way to say no to a well-formed request, and every code a connection or stream is closed with.
//! Numbers are for ever: a number that was used is never given another meaning.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A no to a well-formed request: on the wire a number and one value, for people a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(from = "RefusalOnWire", into = "RefusalOnWire")]
#[non_exhaustive]
pub enum Refusal {
    /// A request that needs a login came before it.
    NotLoggedIn,
    /// A second login on one connection.
    AlreadyLoggedIn,
    /// The name has no account here.
    UnknownName,
    /// The account exists with another key, and no password was given.
    PasswordNeeded,
    /// The password is not this account's.
    WrongPassword {
        /// Tries before the lock-out begins.
        tries_left: u32,
    },
    /// Too many wrong passwords.
    LockedOut {
        /// Seconds until the next try is looked at.
        seconds: u32,
    },
    /// The proof does not fit key, directory and connection.
    BadProof,
    /// The account exists, so it cannot be created.
    NameTaken,
    /// More accounts than one network may make in an hour.
    TooManyAccounts {
        /// Seconds until the next account can be made.
        seconds: u32,
    },
    /// The directory works at its limit.
    Busy,
    /// The session was taken over by a newer login.
    SessionEnded,
    /// The request goes too often.
    TooOften {
        /// Seconds until the next one is taken.
        seconds: u32,
    },
    /// The owner of the account is asked whether this key may replace theirs: come again in two seconds.
    OwnerAsked {
        /// Seconds until it is let in without an answer.
        seconds: u32,
    },
    /// The owner of the account does not want this key.
    OwnerDeclined,
    /// This key was replaced by another one, and may undo that.
    KeyReplaced {
        /// Hours in which it still may.
        hours_left: u32,
    },
    /// No key waits for this answer.
    NoKeyRequest,
    /// There is no such account, and a new one needs an invitation.
    InvitationNeeded,
    /// The invitation was used, has expired or never was.
    InvitationInvalid,
    /// More open invitations than an account may have.
    TooManyInvitations,
    /// The account of that name was deleted, and its name is kept back.
    NameKeptBack {
        /// Days until it may be taken again.
        days: u32,
    },
    /// The operator keeps this account out.
    Disabled,
    /// The account is the gateway's, which needs no password and invites nobody.
    LegacyAccount,
    /// The other person is not online.
    Offline,
    /// The other person does not take this from us: blocked and friends-only look alike.
    NotAccepted,
    /// The recipient's mailbox is full, or the sender's part of it.
    MailboxFull,
    /// The recipient's identity key is another one now.
    KeyChanged,
    /// The recipient's prekey is another one now: seal again, under the same message id.
    PrekeyChanged,
    /// The recipient has not published a prekey yet.
    NoPrekey,
    /// The message waited as long as a mailbox keeps it, and its recipient did not come.
    Expired,
    /// The recipient has tried several times and cannot open the message.
    CannotOpen,
    /// The other person has not allowed a direct connection, and the relay is not wanted.
    NoConsent,
    /// The relay has no place for another session, or the asker's budget is used up; and there may be no direct path.
    RelayFull,
    /// The envelope's sender is not the session's account.
    NotYourName,
    /// A signature does not fit what it signs.
    BadSignature,
    /// No such file is shared with the asker.
    UnknownFile,
    /// More published files than an account may have.
    TooManyShares,
    /// The file was changed, moved or removed since it was shared.
    FileChanged,
    /// The file is not sent to the asker any more: its owner has stopped that.
    Withdrawn,
    /// The ranges asked for are not in the file.
    BadRange,
    /// The directory or peer cannot write to its disk.
    Storage,
    /// Too many transfers at a time.
    TooManyTransfers,
    /// So many messages of the sender wait, and the recipient has never written to them.
    StrangerLimit,
    /// More friends, or people asked, than an account may have.
    TooManyFriends,
    /// More people kept out than an account may have.
    TooManyBlocked,
    /// The person is not kept out.
    NotBlocked,
    /// There is no friendship and no request.
    NotFriends,
    /// The sender keeps the other person out.
    YouBlock,
    /// Nobody is their own friend, or keeps themselves out.
    Yourself,
    /// More people ask the other person to be friends than may wait for an answer.
    TooManyAsk,
    /// The other person is in an exclusive conversation with somebody else.
    Engaged,
    /// There is no such profile here.
    NoProfile,
    /// The request is of a kind this side does not know.
    UnknownRequest,
    /// A no of a newer version, known by number only.
    Unknown(u16),
}

/// The wire form of a [`Refusal`].
#[derive(Serialize, Deserialize)]
struct RefusalOnWire {
    number: u16,
    value: u32,
}

impl Refusal {
    /// The number that names this refusal on the wire and in `--json`.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::NotLoggedIn => 1,
            Self::AlreadyLoggedIn => 2,
            Self::UnknownName => 3,
            Self::PasswordNeeded => 4,
            Self::WrongPassword { .. } => 5,
            Self::LockedOut { .. } => 6,
            Self::BadProof => 7,
            Self::NameTaken => 8,
            Self::TooManyAccounts { .. } => 9,
            Self::Busy => 10,
            Self::SessionEnded => 11,
            Self::TooOften { .. } => 12,
            Self::OwnerAsked { .. } => 13,
            Self::OwnerDeclined => 14,
            Self::KeyReplaced { .. } => 15,
            Self::NoKeyRequest => 16,
            Self::InvitationNeeded => 17,
            Self::InvitationInvalid => 18,
            Self::TooManyInvitations => 19,
            Self::Offline => 20,
            Self::NotAccepted => 21,
            Self::MailboxFull => 22,
            Self::KeyChanged => 23,
            Self::PrekeyChanged => 24,
            Self::NoPrekey => 25,
            Self::NotYourName => 26,
            Self::BadSignature => 27,
            Self::Expired => 28,
            Self::CannotOpen => 29,
            Self::NoConsent => 30,
            Self::RelayFull => 31,
            Self::UnknownFile => 40,
            Self::TooManyShares => 41,
            Self::FileChanged => 42,
            Self::BadRange => 43,
            Self::Storage => 44,
            Self::TooManyTransfers => 45,
            Self::StrangerLimit => 32,
            Self::TooManyFriends => 33,
            Self::TooManyBlocked => 34,
            Self::NotBlocked => 35,
            Self::NotFriends => 36,
            Self::Engaged => 37,
            Self::YouBlock => 38,
            Self::Yourself => 39,
            Self::TooManyAsk => 47,
            Self::NoProfile => 46,
            Self::Withdrawn => 48,
            Self::UnknownRequest => 60,
            Self::NameKeptBack { .. } => 70,
            Self::Disabled => 71,
            Self::LegacyAccount => 72,
            Self::Unknown(number) => number,
        }
    }

    /// The refusal of a number that was kept without its value.
    #[must_use]
    pub fn from_number(number: u16) -> Self {
        RefusalOnWire { number, value: 0 }.into()
    }

    fn value(self) -> u32 {
        match self {
            Self::WrongPassword { tries_left: value }
            | Self::LockedOut { seconds: value }
            | Self::TooManyAccounts { seconds: value }
            | Self::TooOften { seconds: value }
            | Self::OwnerAsked { seconds: value }
            | Self::NameKeptBack { days: value }
            | Self::KeyReplaced { hours_left: value } => value,
            _ => 0,
        }
    }

    /// What to do about it, where there is something. A command stands in it by its verb alone: faces type it differently.
    #[must_use]
    pub fn hint(self) -> Option<&'static str> {
        Some(match self {
            Self::UnknownName => "is the name spelled right? `who` lists who is online",
            Self::PasswordNeeded => "this machine has no key for the account: its password lets you in",
            Self::OwnerAsked { .. } => "answer there, or wait: whoever does not answer may still undo it",
            Self::OwnerDeclined => "ask whoever runs the account's other peer",
            Self::KeyReplaced { .. } => "if that was not you: --take-back makes this key the account's again",
            Self::InvitationNeeded => "ask somebody there for `qchat invite`, and give the whole link to --server",
            Self::InvitationInvalid => "each admits one account within seven days: ask for another",
            Self::TooManyInvitations => "they end after seven days, or when somebody uses them",
            Self::NameKeptBack { .. } => "choose another name",
            Self::Disabled => "ask the directory's operator",
            Self::NameTaken => "choose another name, or leave out --register to log in",
            Self::Busy | Self::TooManyTransfers => "try again in a moment",
            Self::MailboxFull => "send it again when they have been online and taken what waits",
            Self::Expired => "send it again when they are back",
            Self::FileChanged => "ask its owner to share it again",
            Self::UnknownFile => "`find` shows what is shared",
            Self::TooManyShares => "take some back with `unshare`",
            Self::NoConsent => "`connect NAME` asks for it",
            Self::RelayFull => {
                "its relay is full, off, or has moved your bytes of today: when they `allow` you it goes without"
            }
            Self::CannotOpen => "the other side may run another version of qchat",
            Self::StrangerLimit => "they can take more once they have been online, or have written to you",
            Self::TooManyFriends => "`unfriend` somebody, or take a request back with it",
            Self::TooManyBlocked => "`unblock` somebody, or let only friends write: `privacy friends`",
            Self::NotBlocked => "`blocked` lists who is",
            Self::NotFriends => "`friends` lists them",
            Self::YouBlock => "`unblock` them first",
            Self::TooManyAsk => "they can take it once they have answered some",
            Self::Engaged => "try again later, or send a message: it arrives all the same",
            Self::NoProfile => "`profile NAME --via FRIEND` asks a friend of both of you, who may have it",
            Self::UnknownRequest | Self::Unknown(_) => "the other side runs another version of qchat",
            _ => return None,
        })
    }
}

impl From<RefusalOnWire> for Refusal {
    fn from(RefusalOnWire { number, value }: RefusalOnWire) -> Self {
        match number {
            1 => Self::NotLoggedIn,
            2 => Self::AlreadyLoggedIn,
            3 => Self::UnknownName,
            4 => Self::PasswordNeeded,
            5 => Self::WrongPassword { tries_left: value },
            6 => Self::LockedOut { seconds: value },
            7 => Self::BadProof,
            8 => Self::NameTaken,
            9 => Self::TooManyAccounts { seconds: value },
            10 => Self::Busy,
            11 => Self::SessionEnded,
            12 => Self::TooOften { seconds: value },
            13 => Self::OwnerAsked { seconds: value },
            14 => Self::OwnerDeclined,
            15 => Self::KeyReplaced { hours_left: value },
            16 => Self::NoKeyRequest,
            17 => Self::InvitationNeeded,
            18 => Self::InvitationInvalid,
            19 => Self::TooManyInvitations,
            20 => Self::Offline,
            21 => Self::NotAccepted,
            22 => Self::MailboxFull,
            23 => Self::KeyChanged,
            24 => Self::PrekeyChanged,
            25 => Self::NoPrekey,
            26 => Self::NotYourName,
            27 => Self::BadSignature,
            28 => Self::Expired,
            29 => Self::CannotOpen,
            30 => Self::NoConsent,
            31 => Self::RelayFull,
            40 => Self::UnknownFile,
            41 => Self::TooManyShares,
            42 => Self::FileChanged,
            43 => Self::BadRange,
            44 => Self::Storage,
            45 => Self::TooManyTransfers,
            32 => Self::StrangerLimit,
            33 => Self::TooManyFriends,
            34 => Self::TooManyBlocked,
            35 => Self::NotBlocked,
            36 => Self::NotFriends,
            37 => Self::Engaged,
            38 => Self::YouBlock,
            39 => Self::Yourself,
            47 => Self::TooManyAsk,
            46 => Self::NoProfile,
            48 => Self::Withdrawn,
            60 => Self::UnknownRequest,
            71 => Self::Disabled,
            72 => Self::LegacyAccount,
            70 => Self::NameKeptBack { days: value },
            number => Self::Unknown(number),
        }
    }
}

impl From<Refusal> for RefusalOnWire {
    fn from(refusal: Refusal) -> Self {
        Self { number: refusal.number(), value: refusal.value() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sentence = match self {
            Self::NotLoggedIn => "log in first",
            Self::AlreadyLoggedIn => "this connection is logged in already",
            Self::UnknownName => "nobody of that name has an account here",
            Self::PasswordNeeded => "the account belongs to another key, so it needs the password",
            Self::WrongPassword { tries_left: 1 } => "wrong password (1 more try)",
            Self::WrongPassword { tries_left } => return write!(f, "wrong password ({tries_left} more tries)"),
            Self::LockedOut { seconds } => return write!(f, "too many wrong passwords, locked for {seconds} s"),
            Self::BadProof => "the proof of the key does not fit this connection",
            Self::NameTaken => "an account of that name exists already",
            Self::TooManyAccounts { seconds } => {
                return write!(f, "too many new accounts from your network, the next one in {seconds} s");
            }
            Self::Busy => "the directory is at its limit",
            Self::SessionEnded => "this session was replaced by a newer login",
            Self::TooOften { seconds } => return write!(f, "too often, the next one in {seconds} s"),
            Self::OwnerAsked { seconds } => {
                return write!(f, "the account's owner is asked where it is logged in, for {seconds} s at most");
            }
            Self::OwnerDeclined => "the account's owner has declined this key",
            Self::KeyReplaced { hours_left } => {
                return write!(f, "this key was replaced from elsewhere; it can be undone for {hours_left} h");
            }
            Self::NoKeyRequest => "no such key waits for an answer",
            Self::InvitationNeeded => "nobody of that name has an account here, and a new one needs an invitation",
            Self::InvitationInvalid => "the invitation was used already or has expired",
            Self::TooManyInvitations => "too many open invitations",
            Self::NameKeptBack { days } => {
                return write!(f, "an account of that name was deleted; the name is free in {days} days");
            }
            Self::Disabled => "this account is disabled",
            Self::LegacyAccount => "this account is for an older program: it has no password, and invites nobody",
            Self::Offline => "not online",
            Self::NotAccepted => "does not accept this from you",
            Self::MailboxFull => "the mailbox is full",
            Self::KeyChanged => "the identity key has changed",
            Self::PrekeyChanged => "the prekey has changed",
            Self::NoPrekey => "has no prekey yet, because no peer of that account ever came online",
            Self::Expired => "waited 30 days, and nobody came to take it",
            Self::CannotOpen => "cannot open it, although it was sealed again several times",
            Self::NoConsent => "has not allowed a direct connection",
            Self::RelayFull => "the directory relays nothing more for you now",
            Self::NotYourName => "the sender is not the account that is logged in",
            Self::BadSignature => "a signature does not fit",
            Self::UnknownFile => "no such file is shared",
            Self::TooManyShares => "too many shared files",
            Self::FileChanged => "the file has changed since it was shared",
            Self::Withdrawn => "is not sent any more, because its owner has stopped that",
            Self::BadRange => "the file has no such range",
            Self::Storage => "the other side cannot write to its disk",
            Self::TooManyTransfers => "too many transfers at a time",
            Self::StrangerLimit => "has not written to you yet, and five messages of yours wait already",
            Self::TooManyFriends => "too many friends or requests",
            Self::TooManyBlocked => "too many blocked people",
            Self::NotBlocked => "is not blocked",
            Self::NotFriends => "is no friend of yours and has not asked to be",
            Self::YouBlock => "is blocked by you",
            Self::Yourself => "is yourself",
            Self::TooManyAsk => "is asked by too many people already",
            Self::Engaged => "is in an exclusive conversation with somebody else",
            Self::NoProfile => "has no such profile",
            Self::UnknownRequest => "a request of an unknown kind",
            Self::Unknown(number) => return write!(f, "refused for a reason this version does not know ({number})"),
        };
        f.write_str(sentence)
    }
}

/// Why a connection or a stream is closed: the number travels in QUIC's application error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseCode {
    /// All is done.
    Done,
    /// A frame is longer than its class allows, or cannot be decoded.
    BadFrame,
    /// A stream of a kind that this side does not take.
    BadStream,
    /// No login within the deadline.
    LoginTimeout,
    /// A newer resident login of the same account replaced this session.
    LoggedInElsewhere,
    /// The directory or peer is shutting down.
    ShuttingDown,
    /// An errand session without a request for too long.
    ErrandIdle,
    /// The session did not take what was pushed to it.
    TooSlow,
    /// Too many connections that have not logged in.
    TooManyConnections,
    /// A connection that nobody announced.
    NotAnnounced,
    /// Nothing moved on the stream for too long.
    NoProgress,
    /// The transfer was cancelled.
    Cancelled,
    /// The account was deleted or disabled.
    AccountClosed,
    /// Another connection to the same peer is used instead.
    Duplicate,
    /// The other side may no longer be reached directly.
    Denied,
    /// The directory's operator has ended the session.
    EndedByOperator,
    /// A newer version's code, known by number only.
    Unknown(u64),
}

impl CloseCode {
    /// The application error code (RFC 9000, section 20.2).
    #[must_use]
    pub fn number(self) -> u64 {
        match self {
            Self::Done => 0,
            Self::BadFrame => 1,
            Self::BadStream => 2,
            Self::LoginTimeout => 3,
            Self::LoggedInElsewhere => 4,
            Self::ShuttingDown => 5,
            Self::ErrandIdle => 6,
            Self::TooSlow => 7,
            Self::TooManyConnections => 8,
            Self::NotAnnounced => 9,
            Self::NoProgress => 10,
            Self::Cancelled => 11,
            Self::AccountClosed => 12,
            Self::Duplicate => 13,
            Self::Denied => 14,
            Self::EndedByOperator => 15,
            Self::Unknown(number) => number,
        }
    }

    /// Reads an application error code.
    #[must_use]
    pub fn from_number(number: u64) -> Self {
        match number {
            0 => Self::Done,
            1 => Self::BadFrame,
            2 => Self::BadStream,
            3 => Self::LoginTimeout,
            4 => Self::LoggedInElsewhere,
            5 => Self::ShuttingDown,
            6 => Self::ErrandIdle,
            7 => Self::TooSlow,
            8 => Self::TooManyConnections,
            9 => Self::NotAnnounced,
            10 => Self::NoProgress,
            11 => Self::Cancelled,
            12 => Self::AccountClosed,
            13 => Self::Duplicate,
            14 => Self::Denied,
            15 => Self::EndedByOperator,
            number => Self::Unknown(number),
        }
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sentence = match self {
            Self::Done => "done",
            Self::BadFrame => "a frame was malformed",
            Self::BadStream => "a stream of the wrong kind was opened",
            Self::LoginTimeout => "no login in time",
            Self::LoggedInElsewhere => "logged in elsewhere",
            Self::ShuttingDown => "shutting down",
            Self::ErrandIdle => "idle for too long",
            Self::TooSlow => "pushes were not taken in time",
            Self::TooManyConnections => "too many connections without a login",
            Self::NotAnnounced => "the connection was not announced",
            Self::NoProgress => "no progress",
            Self::Cancelled => "cancelled",
            Self::AccountClosed => "the account was deleted or disabled",
            Self::Duplicate => "another connection is used instead",
            Self::Denied => "a direct connection is not allowed any more",
            Self::EndedByOperator => "the directory's operator has ended the session",
            Self::Unknown(number) => return write!(f, "closed for a reason this version does not know ({number})"),
        };
        f.write_str(sentence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_reads_back_as_itself() {
        for number in 0..=u16::MAX {
            let refusal = Refusal::from(RefusalOnWire { number, value: 7 });
            assert_eq!(refusal.number(), number);
            assert_eq!(Refusal::from(RefusalOnWire::from(refusal)), refusal);
            assert_eq!(CloseCode::from_number(u64::from(number)).number(), u64::from(number));
        }
    }
}
