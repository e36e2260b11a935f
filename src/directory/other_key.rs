//! A login with another key than the account has: the password, the owner's answer when they are online, and the undo.
//!
//! ```text
//! old key of the last 7 days --undo--> it is the account's key again, without a password
//! any other key --right password--> owner online? --yes--> asked, up to 60 s --> replaces the old key
//!                                         \-----no---------------------------------^
//! ```
//! An account of the gateway has the one key it was made with.

use std::net::IpAddr;
use std::sync::Arc;

use super::login::LoginLimits;
use super::people;
use super::shared::Shared;
use super::store::{Account, Parted};
use crate::clock::now_millis;
use crate::protocol::key_change::Standing;
use crate::protocol::people::Circle;
use crate::protocol::source::SourcePrefix;
use crate::seal::password;
use crate::wire::account::Login;
use crate::wire::directory::DirectoryPush;
use crate::wire::ids::{Password, PeerKey, PeerName, UnixMillis};
use crate::wire::limits::UNDO_DAYS;
use crate::wire::refusal::Refusal;

const HOUR_MILLIS: u64 = 3_600_000;

/// Lets a key in that is not the account's, or says why not. When it is let in, it is the account's key.
pub(super) async fn bring(
    shared: &Shared,
    address: IpAddr,
    login: &Login,
    password: Option<Password>,
    account: Account,
) -> Result<(), Refusal> {
    // The gateway has the name for good: no password, and no owner who could be asked, brings another key to it.
    if login.register || account.legacy {
        return Err(Refusal::NameTaken);
    }
    let undo_is_open = !account.disabled;
    if let Some(replaced_at) = shared.store.replaced_at(&login.name, login.key).await? {
        let hours = hours_left(replaced_at, now_millis());
        if hours > 0 && undo_is_open {
            return if login.undo {
                take_back(shared, login).await
            } else {
                Err(Refusal::KeyReplaced { hours_left: hours })
            };
        }
    }
    let standing = shared.login_limits.key_requests().standing(&login.name, login.key, account.key, now_millis());
    match standing {
        Standing::Granted => {}
        Standing::Refused(refusal) => return Err(refusal),
        Standing::Unknown => {
            let password = password.ok_or(Refusal::PasswordNeeded)?;
            check_password(shared, &login.name, address, password, account.password).await?;
            if account.disabled {
                return Err(Refusal::Disabled);
            }
            ask_owner(shared, address, login, account.key)?;
        }
    }
    // A request may be granted that was asked before the operator closed the account.
    if account.disabled {
        return Err(Refusal::Disabled);
    }
    let circle = shared.store.circle(&login.name).await?;
    let parted = shared.store.replace_key(&login.name, account.key, login.key, now_millis()).await?;
    announce(shared, login, &circle, &parted).await;
    tracing::info!(peer = %login.name, key = %login.key, old = %account.key, "key replaced");
    Ok(())
}

/// Has the owner asked who is online with the old key; the newcomer then comes again for the answer.
fn ask_owner(shared: &Shared, address: IpAddr, login: &Login, old: PeerKey) -> Result<(), Refusal> {
    let Some(owner) = shared.registry.resident(&login.name).filter(|owner| owner.key == old) else { return Ok(()) };
    let told = shared.login_limits.key_requests().ask(&login.name, login.key, old, now_millis())?;
    let push = DirectoryPush::KeyRequested { key: login.key, source: address.to_canonical() };
    if owner.pushes.try_send(Arc::new(push)).is_err() {
        tracing::warn!(peer = %login.name, "the owner could not be asked");
    }
    Err(told)
}

async fn check_password(
    shared: &Shared,
    name: &PeerName,
    address: IpAddr,
    password: Password,
    stored: String,
) -> Result<(), Refusal> {
    let (limits, store): (&LoginLimits, _) = (&shared.login_limits, shared.store.as_ref());
    let tried = limits.begin_try(store, name, SourcePrefix::of(address)).await?;
    if !limits.hash(move || password::verify(&password, &stored)).await? {
        tracing::info!(peer = %name, "wrong password");
        return Err(tried.refusal());
    }
    limits.succeeded(store, tried).await
}

/// Undoes the replacement of a key: its holder is the account's owner again, and all others are out.
async fn take_back(shared: &Shared, login: &Login) -> Result<(), Refusal> {
    let now = now_millis();
    let circle = shared.store.circle(&login.name).await?;
    let parted = shared.store.take_back(&login.name, login.key, undo_since(now), now).await?;
    announce(shared, login, &circle, &parted).await;
    tracing::info!(peer = %login.name, key = %login.key, "account taken back");
    Ok(())
}

/// Ends the sessions of the account's other keys, and tells others of the new one: those who might see the account until
/// now, its friends among them.
async fn announce(shared: &Shared, login: &Login, circle: &Circle, parted: &Parted) {
    shared.registry.key_changed(&login.name, login.key, circle);
    people::parted(shared, &login.name, parted).await;
}

/// A key that was replaced before this time may not undo it.
pub(super) fn undo_since(now: UnixMillis) -> UnixMillis {
    UnixMillis(now.0.saturating_sub(UNDO_DAYS * 24 * HOUR_MILLIS))
}

/// Hours in which a key may still undo its replacement, the begun one too.
fn hours_left(replaced_at: UnixMillis, now: UnixMillis) -> u32 {
    let left = replaced_at.0.saturating_sub(undo_since(now).0);
    u32::try_from(left.div_ceil(HOUR_MILLIS)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_undo_is_open_for_seven_days() {
        let replaced = UnixMillis(1_700_000_000_000);
        for (hours, left) in [(0, 168), (1, 167), (167, 1), (168, 0), (1_000, 0)] {
            assert_eq!(hours_left(replaced, replaced.plus_millis(hours * HOUR_MILLIS)), left, "after {hours} h");
        }
    }
}
