//! Accounts of the gateway: names of people whose programs belong to older systems. The gateway has a key for each name
//! and logs in with it over QUIC like any peer; what is sealed to such a name is opened at the gateway, so others are told
//! that it is one.
//!
//! No message on the wire makes such an account. Only the process that runs the directory holds a [`LegacyAccounts`].

use std::fmt;
use std::sync::Arc;

use super::people;
use super::shared::Shared;
use super::store::Account;
use crate::clock::now_millis;
use crate::wire::ids::{PeerKey, PeerName};
use crate::wire::refusal::Refusal;

/// In the place of a password's hash: no PHC string, so no password fits it.
const NO_PASSWORD: &str = "*";

/// Makes accounts for the gateway of the same process; clones make them at the same directory.
#[derive(Clone)]
pub struct LegacyAccounts {
    shared: Arc<Shared>,
}

impl fmt::Debug for LegacyAccounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LegacyAccounts").field("directory", &self.shared.fingerprint).finish()
    }
}

impl LegacyAccounts {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Makes an account of this name for a key of the gateway. That it is there already is no failure, when it is the
    /// gateway's with this key.
    ///
    /// Needs no invitation, and is no new account of any network: the gateway itself counts who may register.
    ///
    /// # Errors
    /// [`Refusal::NameTaken`] when the name is somebody else's, or was lately; [`Refusal::Storage`].
    pub async fn create(&self, name: &PeerName, key: PeerKey) -> Result<(), Refusal> {
        let account = Account {
            name: name.clone(),
            key,
            password: NO_PASSWORD.to_owned(),
            created_at: now_millis(),
            disabled: false,
            legacy: true,
        };
        match self.shared.store.create_account(account, None).await.map_err(Refusal::from) {
            Ok(()) => {
                tracing::info!(peer = %name, %key, "legacy account created");
                Ok(())
            }
            Err(Refusal::NameTaken) => self.check_is_own(name, key).await,
            Err(Refusal::NameKeptBack { .. }) => Err(Refusal::NameTaken),
            Err(refusal) => Err(refusal),
        }
    }

    /// Removes an account of the gateway with all that belongs to it: its owner has given the name up, and whoever has it next is
    /// somebody else. It is no failure when there is none.
    ///
    /// # Errors
    /// [`Refusal::NameTaken`] when it is a person's; [`Refusal::Storage`].
    pub async fn remove(&self, name: &PeerName) -> Result<(), Refusal> {
        match self.shared.store.account(name).await? {
            None => return Ok(()),
            Some(account) if !account.legacy => return Err(Refusal::NameTaken),
            Some(_) => {}
        }
        let parted = self.shared.store.delete_account(name, None, now_millis()).await?;
        // Nobody could pass for them: there is no key of their own.
        self.shared.store.free_name(name).await?;
        self.shared.registry.close_account(name, None);
        people::parted(&self.shared, name, &parted).await;
        tracing::info!(peer = %name, "legacy account removed");
        Ok(())
    }

    /// Whether the account of a name is the gateway's with this key.
    async fn check_is_own(&self, name: &PeerName, key: PeerKey) -> Result<(), Refusal> {
        let account = self.shared.store.account(name).await?;
        let is_own = account.is_some_and(|account| account.legacy && account.key == key);
        if is_own { Ok(()) } else { Err(Refusal::NameTaken) }
    }
}

/// Refuses what only people do with their account.
pub(super) async fn check_is_not(shared: &Shared, name: &PeerName) -> Result<(), Refusal> {
    let is_legacy = shared.store.account(name).await?.is_some_and(|account| account.legacy);
    if is_legacy { Err(Refusal::LegacyAccount) } else { Ok(()) }
}
