//! The SQL of accounts: their making and its invitations, their keys and the undo, and wrong passwords.

use std::collections::BTreeSet;
use std::net::IpAddr;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::sqlite::{account_key, column, decoded, encoded, one, parsed, refused};
use super::{Account, Parted, StoreError, grants, people, returned};
use crate::protocol::lockout::{Remembered, Source};
use crate::protocol::source::SourcePrefix;
use crate::wire::ids::{PeerKey, PeerName, UnixMillis};
use crate::wire::limits::{DELETED_NAME_DAYS, INVITATIONS_PER_ACCOUNT_MAX};
use crate::wire::refusal::Refusal;

const DAY_MILLIS: u64 = 24 * 3_600_000;

pub(super) fn account(sql: &Connection, name: PeerName) -> Result<Option<Account>, StoreError> {
    let mut statement =
        sql.prepare_cached("SELECT key, password_phc, created_at, disabled, legacy FROM account WHERE name = ?1")?;
    let row = statement.query_row([name.as_str()], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?, row.get(3)?, row.get(4)?))
    });
    Ok(row.optional()?.map(|(key, password, created_at, disabled, legacy)| Account {
        name,
        key: PeerKey::from_bytes(key),
        password,
        created_at: UnixMillis(created_at.cast_unsigned()),
        disabled,
        legacy,
    }))
}

pub(super) fn create_account(
    sql: &Connection,
    account: &Account,
    invitation: Option<[u8; 32]>,
) -> Result<(), StoreError> {
    let name = account.name.as_str();
    let deleted: Option<i64> = one(sql, "SELECT deleted_at FROM deleted_name WHERE name = ?1", [name])?;
    if let Some(deleted) = deleted {
        let free = UnixMillis(deleted.cast_unsigned()).plus_millis(DELETED_NAME_DAYS * DAY_MILLIS);
        let left = free.0.saturating_sub(account.created_at.0).div_ceil(DAY_MILLIS);
        if left > 0 {
            return refused(Refusal::NameKeptBack { days: u32::try_from(left).unwrap_or(u32::MAX) });
        }
    }
    let created = sql.execute(
        "INSERT INTO account (name, key, password_phc, created_at, legacy) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO NOTHING",
        params![
            account.name.as_str(),
            account.key.as_bytes(),
            account.password,
            account.created_at.0.cast_signed(),
            account.legacy
        ],
    )?;
    if created == 0 {
        return refused(Refusal::NameTaken);
    }
    if let Some(token) = invitation {
        let open = "DELETE FROM invitation WHERE token = ?1 AND expires_at > ?2";
        if sql.execute(open, params![token, account.created_at.0.cast_signed()])? == 0 {
            return refused(Refusal::InvitationInvalid); // which also undoes the account
        }
    }
    Ok(())
}

pub(super) fn set_password(sql: &Connection, name: &PeerName, key: PeerKey, password: &str) -> Result<(), StoreError> {
    let changed = sql.execute(
        "UPDATE account SET password_phc = ?3 WHERE name = ?1 AND key = ?2",
        params![name.as_str(), key.as_bytes(), password],
    )?;
    if changed == 0 { refused(Refusal::SessionEnded) } else { Ok(()) }
}

pub(super) fn delete_account(
    sql: &Connection,
    name: &PeerName,
    key: Option<PeerKey>,
    now: UnixMillis,
) -> Result<Parted, StoreError> {
    match (account_key(sql, name)?, key) {
        (None, _) => return refused(Refusal::UnknownName),
        (Some(current), Some(key)) if current != key => return refused(Refusal::SessionEnded),
        (Some(_), _) => {}
    }
    let friends = people::forget(sql, name)?;
    let senders = returned::give_all_back(sql, name, now)?;
    sql.execute("DELETE FROM account WHERE name = ?1", [name.as_str()])?; // and with it all that refers to it
    sql.execute(
        "INSERT OR REPLACE INTO deleted_name (name, deleted_at) VALUES (?1, ?2)",
        params![name.as_str(), now.0.cast_signed()],
    )?;
    Ok(Parted { senders, friends })
}

pub(super) fn invite(
    sql: &Connection,
    token: [u8; 32],
    inviter: Option<&PeerName>,
    now: UnixMillis,
    expires: UnixMillis,
) -> Result<(), StoreError> {
    let inviter = inviter.map(PeerName::as_str);
    let open = "SELECT count(*) FROM invitation WHERE inviter = ?1 AND expires_at > ?2";
    let open: Option<i64> = one(sql, open, params![inviter, now.0.cast_signed()])?;
    if open.is_some_and(|open| open.cast_unsigned() >= INVITATIONS_PER_ACCOUNT_MAX) {
        return refused(Refusal::TooManyInvitations);
    }
    sql.execute(
        "INSERT INTO invitation (token, inviter, expires_at) VALUES (?1, ?2, ?3)",
        params![token, inviter, expires.0.cast_signed()],
    )?;
    Ok(())
}

pub(super) fn replace_key(
    sql: &Connection,
    name: &PeerName,
    old: PeerKey,
    new: PeerKey,
    now: UnixMillis,
) -> Result<Parted, StoreError> {
    let replaced = sql.execute(
        "UPDATE account SET key = ?3 WHERE name = ?1 AND key = ?2 AND disabled = 0",
        params![name.as_str(), old.as_bytes(), new.as_bytes()],
    )?;
    if replaced == 0 {
        return refused(Refusal::Busy);
    }
    let friends = forget(sql, name)?;
    sql.execute("DELETE FROM key_change WHERE name = ?1 AND old_key = ?2", params![name.as_str(), new.as_bytes()])?;
    sql.execute(
        "INSERT OR REPLACE INTO key_change (name, old_key, replaced_at) VALUES (?1, ?2, ?3)",
        params![name.as_str(), old.as_bytes(), now.0.cast_signed()],
    )?;
    Ok(Parted { senders: returned::give_back(sql, name, new, now)?, friends })
}

/// Forgets what was the old key's, and says who were its friends.
fn forget(sql: &Connection, name: &PeerName) -> Result<Vec<PeerName>, StoreError> {
    grants::forget(sql, name)?;
    sql.execute("DELETE FROM prekey WHERE name = ?1", [name.as_str()])?;
    people::forget(sql, name)
}

pub(super) fn replaced_at(sql: &Connection, name: &PeerName, key: PeerKey) -> Result<Option<UnixMillis>, StoreError> {
    let query = "SELECT replaced_at FROM key_change WHERE name = ?1 AND old_key = ?2";
    let at: Option<i64> = one(sql, query, params![name.as_str(), key.as_bytes()])?;
    Ok(at.map(|at| UnixMillis(at.cast_unsigned())))
}

pub(super) fn take_back(
    sql: &Connection,
    name: &PeerName,
    key: PeerKey,
    since: UnixMillis,
    now: UnixMillis,
) -> Result<Parted, StoreError> {
    let Some(at) = replaced_at(sql, name, key)?.filter(|at| *at >= since) else {
        return refused(Refusal::PasswordNeeded);
    };
    sql.execute("UPDATE account SET key = ?2 WHERE name = ?1", params![name.as_str(), key.as_bytes()])?;
    let friends = forget(sql, name)?;
    // This key is the account's again; those that came after it were not its owner's.
    sql.execute(
        "DELETE FROM key_change WHERE name = ?1 AND replaced_at >= ?2",
        params![name.as_str(), at.0.cast_signed()],
    )?;
    Ok(Parted { senders: returned::give_back(sql, name, key, now)?, friends })
}

pub(super) fn keep_lockout(sql: &Connection, change: &Remembered) -> Result<(), StoreError> {
    match change {
        Remembered::Source { name, source, state: None } => {
            sql.prepare_cached("DELETE FROM lockout_source WHERE name = ?1 AND source = ?2")?
                .execute(params![name.as_str(), source.address().to_string()])?;
        }
        Remembered::Source { name, source, state: Some(state) } => {
            sql.prepare_cached(
                "INSERT OR REPLACE INTO lockout_source (name, source, wrong, locks, locked_until, last_try)
                 SELECT name, ?2, ?3, ?4, ?5, ?6 FROM account WHERE name = ?1",
            )?
            .execute(params![
                name.as_str(),
                source.address().to_string(),
                state.wrong,
                state.locks,
                state.locked_until.0.cast_signed(),
                state.last_try.0.cast_signed()
            ])?;
        }
        Remembered::Account { name, wrong } if wrong.is_empty() => {
            sql.prepare_cached("DELETE FROM lockout_account WHERE name = ?1")?.execute([name.as_str()])?;
        }
        Remembered::Account { name, wrong } => {
            sql.prepare_cached(
                "INSERT OR REPLACE INTO lockout_account (name, wrong) SELECT name, ?2 FROM account WHERE name = ?1",
            )?
            .execute(params![name.as_str(), encoded(wrong)?])?;
        }
    }
    Ok(())
}

pub(super) fn lockout(sql: &Connection) -> Result<Vec<Remembered>, StoreError> {
    let mut statement = sql.prepare_cached(
        "SELECT name, source, wrong, locks, locked_until, last_try FROM lockout_source ORDER BY last_try DESC",
    )?;
    let sources = statement.query_and_then([], |row| -> Result<_, StoreError> {
        let time = |index| Ok::<_, StoreError>(UnixMillis(column::<i64>(row, index)?.cast_unsigned()));
        Ok(Remembered::Source {
            name: parsed(&column::<String>(row, 0)?)?,
            source: SourcePrefix::of(parsed::<IpAddr>(&column::<String>(row, 1)?)?),
            state: Some(Source {
                wrong: column(row, 2)?,
                locks: column(row, 3)?,
                locked_until: time(4)?,
                last_try: time(5)?,
            }),
        })
    })?;
    let mut kept = sources.collect::<Result<Vec<_>, _>>()?;
    let mut statement = sql.prepare_cached("SELECT name, wrong FROM lockout_account")?;
    let accounts = statement.query_and_then([], |row| -> Result<_, StoreError> {
        let wrong = decoded("time of a try", &column::<Vec<u8>>(row, 1)?)?;
        Ok(Remembered::Account { name: parsed(&column::<String>(row, 0)?)?, wrong })
    })?;
    for account in accounts {
        kept.push(account?);
    }
    Ok(kept)
}

pub(super) fn page(sql: &Connection, after: Option<&PeerName>, limit: usize) -> Result<Vec<Account>, StoreError> {
    let mut statement = sql.prepare_cached(
        "SELECT name, key, password_phc, created_at, disabled, legacy FROM account WHERE name > ?1
         ORDER BY name LIMIT ?2",
    )?;
    let after = after.map_or("", PeerName::as_str);
    let rows = statement.query_and_then(params![after, i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
        Ok(Account {
            name: parsed(&column::<String>(row, 0)?)?,
            key: PeerKey::from_bytes(column(row, 1)?),
            password: column(row, 2)?,
            created_at: UnixMillis(column::<i64>(row, 3)?.cast_unsigned()),
            disabled: column(row, 4)?,
            legacy: column(row, 5)?,
        })
    })?;
    rows.collect()
}

/// Which of these names are accounts of the gateway.
pub(super) fn legacy_among(sql: &Connection, names: Vec<PeerName>) -> Result<BTreeSet<PeerName>, StoreError> {
    let mut statement = sql.prepare_cached("SELECT 1 FROM account WHERE name = ?1 AND legacy = 1")?;
    let mut legacy = BTreeSet::new();
    for name in names {
        if statement.exists([name.as_str()])? {
            legacy.insert(name);
        }
    }
    Ok(legacy)
}
