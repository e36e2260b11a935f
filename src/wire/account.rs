//! Getting in: login and the prekey an account publishes so that others can seal to it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::ids::{Epoch, InviteToken, Password, PeerKey, PeerName, PrekeyId, Signature, UnixMillis};
use super::rendezvous::PortTicket;

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LoginKind {
    /// The one peer of the account: has presence and mailbox; a second one takes over.
    Resident,
    /// A one-shot verb: no presence, takes nothing over. With `collects` it is pushed the mailbox and takes from it
    /// only what belongs to the verb.
    Errand {
        /// Whether waiting envelopes are pushed to it.
        collects: bool,
    },
}

/// The first request on every connection to a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The account.
    pub name: PeerName,
    /// The key the peer proves to hold.
    pub key: PeerKey,
    /// What the session is for.
    pub kind: LoginKind,
    /// Signature over (`qchat login v1`, directory fingerprint, name, TLS exporter of this connection).
    pub proof: Signature,
    /// Needed to create an account, and to bring a new key to an existing one.
    pub password: Option<Password>,
    /// Whether to create the account; refused with `NameTaken` when it exists with another key.
    pub register: bool,
    /// Admits a new account where one is needed for that.
    pub token: Option<InviteToken>,
    /// Whether to undo the replacement of this key, which it may for seven days without the password.
    pub undo: bool,
}

/// One of an account's sessions, as its owner sees them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionInfo {
    /// What it is for.
    pub kind: LoginKind,
    /// When it logged in, by the directory's clock.
    pub since: UnixMillis,
    /// Where it comes from.
    pub address: SocketAddr,
    /// Whether it is the one that asks.
    pub this: bool,
}

/// The answer to a login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedIn {
    /// This login's number.
    pub epoch: Epoch,
    /// Whether the account was made just now.
    pub created: bool,
    /// The peer's address as the directory sees it.
    pub observed: SocketAddr,
    /// The prekey the directory hands out for this account.
    pub prekey: Option<PrekeyId>,
    /// Envelopes that wait and will be pushed.
    pub waiting: u64,
    /// Where to ask from which other address this session's socket is seen; `None` when the directory has no relay.
    pub observe: Option<PortTicket>,
}

/// A public key to seal messages to, signed by the identity it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedPrekey {
    /// What is signed.
    pub prekey: Prekey,
    /// By `prekey.identity`, over the encoded [`Prekey`].
    pub signature: Signature,
}

/// The signed part of a [`SignedPrekey`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prekey {
    /// The account it belongs to.
    pub account: PeerName,
    /// The account's identity.
    pub identity: PeerKey,
    /// Which prekey this is.
    pub id: PrekeyId,
    /// The X-Wing public key (draft-connolly-cfrg-xwing-kem): 1,216 bytes.
    #[serde(with = "serde_bytes")]
    pub public: Vec<u8>,
    /// Not to be sealed to after this time.
    pub expires: UnixMillis,
}

/// What a directory knows of a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The account.
    pub name: PeerName,
    /// The key bound to it.
    pub key: PeerKey,
    /// The key to seal to, once a peer of the account has been online.
    pub prekey: Option<SignedPrekey>,
    /// Whether its resident peer is online.
    pub online: bool,
    /// Whether it takes messages from the asker.
    pub accepts: bool,
    /// Whether it is an account of the directory's gateway: its key is the gateway's, and what is sealed to it is opened
    /// there for a program of an older system.
    pub legacy: bool,
}
