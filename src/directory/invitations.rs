//! Tokens that admit one account each, to a directory that wants that. The store has their hashes only.

use super::shared::Shared;
use crate::clock::now_millis;
use crate::seal::random::{self, OsRandom};
use crate::seal::token;
use crate::wire::ids::{InviteToken, PeerName, UnixMillis};
use crate::wire::limits::INVITATION_DAYS;
use crate::wire::refusal::Refusal;

const DAY_MILLIS: u64 = 24 * 3_600_000;

/// Whether strangers may make accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Admission {
    /// Whoever comes.
    #[default]
    Open,
    /// Whoever has an invitation.
    InviteOnly,
}

/// Makes an invitation: the operator's when nobody is named.
pub(super) async fn invite(shared: &Shared, inviter: Option<PeerName>) -> Result<(InviteToken, UnixMillis), Refusal> {
    let token = InviteToken::from_bytes(random::array(&mut OsRandom));
    let now = now_millis();
    let expires = now.plus_millis(INVITATION_DAYS * DAY_MILLIS);
    shared.store.invite(token::hash(&token), inviter, now, expires).await?;
    Ok((token, expires))
}

/// Whether a new account may be made, before its password costs anything; says which invitation it uses up.
pub(super) async fn check(shared: &Shared, token: Option<&InviteToken>) -> Result<Option<[u8; 32]>, Refusal> {
    match shared.admission {
        Admission::Open => Ok(None),
        Admission::InviteOnly => {
            let token = token::hash(token.ok_or(Refusal::InvitationNeeded)?);
            let is_open = shared.store.is_invited(token, now_millis()).await?;
            if is_open { Ok(Some(token)) } else { Err(Refusal::InvitationInvalid) }
        }
    }
}
