//! What all sessions of one directory share.

use std::sync::Arc;

use super::dials::Dials;
use super::invitations::Admission;
use super::login::LoginLimits;
use super::people::People;
use super::presence::Heard;
use super::registry::Registry;
use super::relay::Relay;
use super::store::Store;
use crate::wire::ids::DirectoryFingerprint;

/// One directory's state; sessions hold it in an `Arc`.
pub(super) struct Shared {
    /// Who this directory is: what logins are signed for.
    pub(super) fingerprint: DirectoryFingerprint,
    /// Whether strangers may make accounts.
    pub(super) admission: Admission,
    /// What outlives the process.
    pub(super) store: Box<dyn Store>,
    /// Who is connected now.
    pub(super) registry: Registry,
    /// What slows down guessing and mass registration.
    pub(super) login_limits: LoginLimits,
    /// How often accounts have made others hear of them.
    pub(super) heard: Heard,
    /// What is remembered of dials, and of who asked whom.
    pub(super) dials: Dials,
    /// What is remembered of what people say of each other.
    pub(super) people: People,
    /// Where those meet who cannot reach each other directly.
    pub(super) relay: Arc<Relay>,
}
