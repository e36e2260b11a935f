//! The store in a SQLite file of its own. A row that cannot be read is reported and skipped, so that one bad row does
//! not keep the rest from its owner.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use rusqlite::types::FromSql;
use rusqlite::{Connection, OptionalExtension, Params, Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::schema::MIGRATIONS;
use super::{Account, Befriended, Expired, Page, Returned, Said, Standing, Store, StoreError, Waiting, WaitingReceipt};
use super::{Parted, accounts, catalogue, grants, people, receipts, returned, seen, shelf};
use crate::database::{Database, DatabaseError};
use crate::protocol::lockout::Remembered;
use crate::protocol::people::{Bond, Circle, Reception, Relation, Word};
use crate::wire::account::SignedPrekey;
use crate::wire::catalog::{Cursor, Entry, Query};
use crate::wire::codec;
use crate::wire::ids::{Epoch, FileDigest, FileName, MessageId, PeerKey, PeerName, PrekeyId, UnixMillis};
use crate::wire::message::{Envelope, SignedReceipt};
use crate::wire::people::Audience;
use crate::wire::refusal::Refusal;
use crate::wire::rendezvous::Grant;

/// A [`Store`] in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    /// Taken by whoever closes it.
    database: Mutex<Option<Database>>,
}

impl SqliteStore {
    /// Opens the file, or makes it. Blocks until that is done.
    ///
    /// # Errors
    /// [`DatabaseError`] when the file cannot be used or is of a newer version.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        Ok(Self { database: Mutex::new(Some(Database::open(path, MIGRATIONS)?)) })
    }

    async fn run<R: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, StoreError> {
        let database = self.database.lock().unwrap_or_else(PoisonError::into_inner).clone();
        database.ok_or(DatabaseError::Stopped)?.run(job).await
    }
}

impl From<DatabaseError> for StoreError {
    fn from(error: DatabaseError) -> Self {
        if error.is_full() { Self::Full } else { Self::Failed(error.to_string()) }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        DatabaseError::from(error).into()
    }
}

pub(super) fn refused<T>(refusal: Refusal) -> Result<T, StoreError> {
    Err(StoreError::Refused(refusal))
}

#[async_trait]
impl Store for SqliteStore {
    async fn account(&self, name: &PeerName) -> Result<Option<Account>, StoreError> {
        let name = name.clone();
        self.run(move |sql| accounts::account(sql, name)).await
    }

    async fn create_account(&self, account: Account, invitation: Option<[u8; 32]>) -> Result<(), StoreError> {
        self.run(move |sql| accounts::create_account(sql, &account, invitation)).await
    }

    async fn set_password(&self, name: &PeerName, key: PeerKey, password: String) -> Result<(), StoreError> {
        let name = name.clone();
        self.run(move |sql| accounts::set_password(sql, &name, key, &password)).await
    }

    async fn delete_account(
        &self,
        name: &PeerName,
        key: Option<PeerKey>,
        now: UnixMillis,
    ) -> Result<Parted, StoreError> {
        let name = name.clone();
        self.run(move |sql| accounts::delete_account(sql, &name, key, now)).await
    }

    async fn free_name(&self, name: &PeerName) -> Result<(), StoreError> {
        let name = name.clone();
        self.run(move |sql| {
            sql.execute("DELETE FROM deleted_name WHERE name = ?1", [name.as_str()])?;
            Ok(())
        })
        .await
    }

    async fn expire_deleted_names(&self, before: UnixMillis) -> Result<usize, StoreError> {
        self.run(
            move |sql| Ok(sql.execute("DELETE FROM deleted_name WHERE deleted_at < ?1", [before.0.cast_signed()])?),
        )
        .await
    }

    async fn set_disabled(&self, name: &PeerName, disabled: bool) -> Result<(), StoreError> {
        let name = name.clone();
        self.run(move |sql| {
            let update = "UPDATE account SET disabled = ?2 WHERE name = ?1";
            let changed = sql.execute(update, params![name.as_str(), disabled])?;
            if changed == 0 { refused(Refusal::UnknownName) } else { Ok(()) }
        })
        .await
    }

    async fn account_page(&self, after: Option<PeerName>, limit: usize) -> Result<Vec<Account>, StoreError> {
        self.run(move |sql| accounts::page(sql, after.as_ref(), limit)).await
    }

    async fn accounts_of_people(&self) -> Result<u64, StoreError> {
        self.run(move |sql| {
            let count: Option<i64> = one(sql, "SELECT count(*) FROM account WHERE legacy = 0", [])?;
            Ok(count.map_or(0, i64::cast_unsigned))
        })
        .await
    }

    async fn legacy_among(&self, names: Vec<PeerName>) -> Result<BTreeSet<PeerName>, StoreError> {
        self.run(move |sql| accounts::legacy_among(sql, names)).await
    }

    async fn invite(
        &self,
        token: [u8; 32],
        inviter: Option<PeerName>,
        now: UnixMillis,
        expires: UnixMillis,
    ) -> Result<(), StoreError> {
        self.run(move |sql| accounts::invite(sql, token, inviter.as_ref(), now, expires)).await
    }

    async fn is_invited(&self, token: [u8; 32], now: UnixMillis) -> Result<bool, StoreError> {
        self.run(move |sql| {
            let query = "SELECT 1 FROM invitation WHERE token = ?1 AND expires_at > ?2";
            Ok(one::<i64>(sql, query, params![token, now.0.cast_signed()])?.is_some())
        })
        .await
    }

    async fn expire_invitations(&self, before: UnixMillis) -> Result<usize, StoreError> {
        self.run(move |sql| Ok(sql.execute("DELETE FROM invitation WHERE expires_at < ?1", [before.0.cast_signed()])?))
            .await
    }

    async fn replace_key(
        &self,
        name: &PeerName,
        old: PeerKey,
        new: PeerKey,
        now: UnixMillis,
    ) -> Result<Parted, StoreError> {
        let name = name.clone();
        self.run(move |sql| accounts::replace_key(sql, &name, old, new, now)).await
    }

    async fn replaced_at(&self, name: &PeerName, key: PeerKey) -> Result<Option<UnixMillis>, StoreError> {
        let name = name.clone();
        self.run(move |sql| accounts::replaced_at(sql, &name, key)).await
    }

    async fn take_back(
        &self,
        name: &PeerName,
        key: PeerKey,
        since: UnixMillis,
        now: UnixMillis,
    ) -> Result<Parted, StoreError> {
        let name = name.clone();
        self.run(move |sql| accounts::take_back(sql, &name, key, since, now)).await
    }

    async fn expire_key_changes(&self, before: UnixMillis) -> Result<usize, StoreError> {
        self.run(move |sql| Ok(sql.execute("DELETE FROM key_change WHERE replaced_at < ?1", [before.0.cast_signed()])?))
            .await
    }

    async fn keep_lockout(&self, changes: Vec<Remembered>) -> Result<(), StoreError> {
        self.run(move |sql| changes.iter().try_for_each(|change| accounts::keep_lockout(sql, change))).await
    }

    async fn lockout(&self) -> Result<Vec<Remembered>, StoreError> {
        self.run(accounts::lockout).await
    }

    async fn expire_lockout(&self, before: UnixMillis) -> Result<usize, StoreError> {
        self.run(
            move |sql| Ok(sql.execute("DELETE FROM lockout_source WHERE last_try < ?1", [before.0.cast_signed()])?),
        )
        .await
    }

    async fn standing(&self, name: &PeerName) -> Result<Standing, StoreError> {
        let name = name.clone();
        self.run(move |sql| standing(sql, &name)).await
    }

    async fn epoch(&self, name: &PeerName) -> Result<Epoch, StoreError> {
        let name = name.clone();
        self.run(move |sql| {
            let epoch = one(sql, "SELECT epoch FROM session WHERE name = ?1", [name.as_str()])?;
            Ok(Epoch(epoch.map_or(0, i64::cast_unsigned)))
        })
        .await
    }

    async fn next_epoch(&self, name: &PeerName) -> Result<Epoch, StoreError> {
        let name = name.clone();
        self.run(move |sql| next_epoch(sql, &name)).await
    }

    async fn put_prekey(&self, prekey: SignedPrekey) -> Result<(), StoreError> {
        self.run(move |sql| put_prekey(sql, &prekey)).await
    }

    async fn prekey(&self, name: &PeerName) -> Result<Option<SignedPrekey>, StoreError> {
        let name = name.clone();
        self.run(move |sql| {
            let signed: Option<Vec<u8>> = one(sql, "SELECT signed FROM prekey WHERE name = ?1", [name.as_str()])?;
            signed.map(|signed| decoded("prekey", &signed)).transpose()
        })
        .await
    }

    async fn deliver(
        &self,
        to: &PeerName,
        from: &PeerName,
        envelope: Envelope,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let (to, from) = (to.clone(), from.clone());
        self.run(move |sql| shelf::deliver(sql, &to, &from, &envelope, now)).await
    }

    async fn next_waiting(
        &self,
        recipient: &PeerName,
        after: i64,
    ) -> Result<(Option<Waiting>, Option<PrekeyId>), StoreError> {
        let recipient = recipient.clone();
        self.run(move |sql| Ok((shelf::next_waiting(sql, &recipient, after)?, current_prekey(sql, &recipient)?))).await
    }

    async fn hand_over(
        &self,
        number: i64,
        sender: &PeerName,
        receipt: SignedReceipt,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let sender = sender.clone();
        self.run(move |sql| shelf::hand_over(sql, number, &sender, &receipt, now)).await
    }

    async fn expire_envelopes(&self, before: UnixMillis, limit: usize, now: UnixMillis) -> Result<Expired, StoreError> {
        self.run(move |sql| returned::expire(sql, before, limit, now)).await
    }

    async fn missing(
        &self,
        sender: &PeerName,
        sender_key: PeerKey,
        messages: Vec<(PeerName, MessageId)>,
    ) -> Result<Vec<MessageId>, StoreError> {
        let sender = sender.clone();
        self.run(move |sql| shelf::missing(sql, &sender, sender_key, messages)).await
    }

    async fn put_receipts(
        &self,
        to: &PeerName,
        by: PeerKey,
        receipts: Vec<SignedReceipt>,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let to = to.clone();
        self.run(move |sql| receipts::put(sql, &to, by, &receipts, now)).await
    }

    async fn receipts(&self, name: &PeerName, after: i64, limit: usize) -> Result<Vec<WaitingReceipt>, StoreError> {
        let name = name.clone();
        self.run(move |sql| receipts::waiting(sql, &name, after, limit)).await
    }

    async fn delete_receipts(&self, numbers: Vec<i64>) -> Result<(), StoreError> {
        self.run(move |sql| receipts::delete(sql, &numbers)).await
    }

    async fn expire_receipts(&self, before: UnixMillis) -> Result<usize, StoreError> {
        self.run(move |sql| Ok(sql.execute("DELETE FROM receipt WHERE stored_at < ?1", [before.0.cast_signed()])?))
            .await
    }

    async fn returned(&self, sender: &PeerName, after: i64, limit: usize) -> Result<Vec<Returned>, StoreError> {
        let sender = sender.clone();
        self.run(move |sql| returned::waiting(sql, &sender, after, limit)).await
    }

    async fn delete_returned(&self, number: i64) -> Result<(), StoreError> {
        self.run(move |sql| {
            sql.prepare_cached("DELETE FROM returned WHERE number = ?1")?.execute([number])?;
            Ok(())
        })
        .await
    }

    async fn expire_returned(&self, before: UnixMillis) -> Result<usize, StoreError> {
        self.run(move |sql| Ok(sql.execute("DELETE FROM returned WHERE returned_at < ?1", [before.0.cast_signed()])?))
            .await
    }

    async fn publish(&self, owner: &PeerName, entry: Entry, now: UnixMillis) -> Result<(), StoreError> {
        let owner = owner.clone();
        self.run(move |sql| catalogue::publish(sql, &owner, &entry, now)).await
    }

    async fn unpublish(&self, owner: &PeerName, name: &FileName) -> Result<(), StoreError> {
        let (owner, name) = (owner.clone(), name.clone());
        self.run(move |sql| {
            let key = params![owner.as_str(), name.as_str()];
            let removed = sql.prepare_cached("DELETE FROM share WHERE owner = ?1 AND name = ?2")?.execute(key)?;
            if removed == 0 { refused(Refusal::UnknownFile) } else { Ok(()) }
        })
        .await
    }

    async fn find(
        &self,
        asker: &PeerName,
        query: Query,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let asker = asker.clone();
        self.run(move |sql| catalogue::find(sql, &asker, &query, after.as_ref(), limit)).await
    }

    async fn publishes_openly(&self, owner: &PeerName, digest: FileDigest) -> Result<bool, StoreError> {
        let owner = owner.clone();
        self.run(move |sql| catalogue::publishes_openly(sql, &owner, digest)).await
    }

    async fn allow(&self, granter: &PeerName, key: PeerKey, grant: Grant, now: UnixMillis) -> Result<(), StoreError> {
        let granter = granter.clone();
        self.run(move |sql| grants::allow(sql, &granter, key, &grant, now)).await
    }

    async fn deny(&self, granter: &PeerName, key: PeerKey, grantee: &PeerName) -> Result<(), StoreError> {
        let (granter, grantee) = (granter.clone(), grantee.clone());
        self.run(move |sql| grants::deny(sql, &granter, key, &grantee)).await
    }

    async fn grants(
        &self,
        granter: &PeerName,
        after: Option<PeerName>,
        limit: usize,
        now: UnixMillis,
    ) -> Result<Vec<Grant>, StoreError> {
        let granter = granter.clone();
        self.run(move |sql| grants::page(sql, &granter, after.as_ref(), limit, now)).await
    }

    async fn circle(&self, name: &PeerName) -> Result<Circle, StoreError> {
        let name = name.clone();
        self.run(move |sql| people::circle(sql, &name)).await
    }

    async fn relation(&self, person: &PeerName, asker: &PeerName) -> Result<Relation, StoreError> {
        let (person, asker) = (person.clone(), asker.clone());
        self.run(move |sql| people::relation(sql, &person, &asker)).await
    }

    async fn reception(
        &self,
        person: &PeerName,
        asker: &PeerName,
        now: UnixMillis,
    ) -> Result<Option<Reception>, StoreError> {
        let (person, asker) = (person.clone(), asker.clone());
        self.run(move |sql| match account_key(sql, &person)? {
            Some(_) => people::reception(sql, &person, &asker, now).map(Some),
            None => Ok(None),
        })
        .await
    }

    async fn bond(&self, name: &PeerName, other: &PeerName) -> Result<Bond, StoreError> {
        let (name, other) = (name.clone(), other.clone());
        self.run(move |sql| people::bond(sql, &name, &other)).await
    }

    async fn say(
        &self,
        name: &PeerName,
        key: PeerKey,
        other: &PeerName,
        word: Word,
        now: UnixMillis,
    ) -> Result<Said, StoreError> {
        let (name, other) = (name.clone(), other.clone());
        self.run(move |sql| people::say(sql, &name, key, &other, word, now)).await
    }

    async fn friends(
        &self,
        name: &PeerName,
        after: Option<PeerName>,
        limit: usize,
    ) -> Result<Vec<Befriended>, StoreError> {
        let name = name.clone();
        self.run(move |sql| people::friends(sql, &name, after.as_ref(), limit)).await
    }

    async fn friend_requests(&self, name: &PeerName) -> Result<Vec<(PeerName, PeerKey)>, StoreError> {
        let name = name.clone();
        self.run(move |sql| people::requests(sql, &name)).await
    }

    async fn blocked(
        &self,
        name: &PeerName,
        after: Option<PeerName>,
        limit: usize,
    ) -> Result<Vec<PeerName>, StoreError> {
        let name = name.clone();
        self.run(move |sql| people::blocked(sql, &name, after.as_ref(), limit)).await
    }

    async fn audience(&self, name: &PeerName) -> Result<Audience, StoreError> {
        let name = name.clone();
        self.run(move |sql| people::audience(sql, &name)).await
    }

    async fn set_audience(
        &self,
        name: &PeerName,
        key: PeerKey,
        audience: Audience,
        now: UnixMillis,
    ) -> Result<Vec<PeerName>, StoreError> {
        let name = name.clone();
        self.run(move |sql| people::set_audience(sql, &name, key, audience, now)).await
    }

    async fn relations(
        &self,
        asker: &PeerName,
        persons: Vec<PeerName>,
    ) -> Result<Vec<(PeerName, Relation)>, StoreError> {
        let asker = asker.clone();
        self.run(move |sql| seen::relations(sql, &asker, persons)).await
    }

    async fn seen(&self, names: Vec<PeerName>, at: UnixMillis) -> Result<(), StoreError> {
        self.run(move |sql| seen::seen(sql, &names, at)).await
    }

    async fn seen_since(&self, since: UnixMillis, limit: usize) -> Result<Vec<(PeerName, UnixMillis)>, StoreError> {
        self.run(move |sql| seen::since(sql, since, limit)).await
    }

    async fn may_dial(&self, granter: &PeerName, grantee: &PeerName, now: UnixMillis) -> Result<bool, StoreError> {
        let (granter, grantee) = (granter.clone(), grantee.clone());
        self.run(move |sql| Ok(grants::valid(sql, &granter, &grantee, now)?.is_some())).await
    }

    async fn use_grant(&self, granter: &PeerName, grantee: &PeerName, now: UnixMillis) -> Result<bool, StoreError> {
        let (granter, grantee) = (granter.clone(), grantee.clone());
        self.run(move |sql| grants::use_up(sql, &granter, &grantee, now)).await
    }

    async fn expire_grants(&self, now: UnixMillis) -> Result<usize, StoreError> {
        self.run(move |sql| Ok(sql.execute("DELETE FROM grants WHERE ends_at <= ?1", [now.0.cast_signed()])?)).await
    }

    async fn close(&self) {
        let database = self.database.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(database) = database {
            database.close().await;
        }
    }
}

fn standing(sql: &Connection, name: &PeerName) -> Result<Standing, StoreError> {
    let Some(key) = account_key(sql, name)? else { return refused(Refusal::UnknownName) };
    let disabled: Option<bool> = one(sql, "SELECT disabled FROM account WHERE name = ?1", [name.as_str()])?;
    let waiting = one(sql, "SELECT count(*) FROM envelope WHERE recipient = ?1", [name.as_str()])?;
    Ok(Standing {
        key,
        disabled: disabled.unwrap_or(false),
        prekey: current_prekey(sql, name)?,
        waiting: waiting.map_or(0, i64::cast_unsigned),
    })
}

fn next_epoch(sql: &Connection, name: &PeerName) -> Result<Epoch, StoreError> {
    let next = "INSERT INTO session (name, epoch) VALUES (?1, 1)
                ON CONFLICT (name) DO UPDATE SET epoch = epoch + 1 RETURNING epoch";
    let epoch: i64 = sql.prepare_cached(next)?.query_row([name.as_str()], |row| row.get(0))?;
    Ok(Epoch(epoch.cast_unsigned()))
}

fn put_prekey(sql: &Connection, signed: &SignedPrekey) -> Result<(), StoreError> {
    let prekey = &signed.prekey;
    // A session whose key was replaced a moment ago must not bring its prekey back.
    if account_key(sql, &prekey.account)? != Some(prekey.identity) {
        return refused(Refusal::SessionEnded);
    }
    sql.execute(
        "INSERT INTO prekey (name, id, signed) VALUES (?1, ?2, ?3)
         ON CONFLICT (name) DO UPDATE SET id = excluded.id, signed = excluded.signed",
        params![prekey.account.as_str(), prekey.id.as_bytes(), encoded(signed)?],
    )?;
    Ok(())
}

pub(super) fn account_key(sql: &Connection, name: &PeerName) -> Result<Option<PeerKey>, StoreError> {
    Ok(one(sql, "SELECT key FROM account WHERE name = ?1", [name.as_str()])?.map(PeerKey::from_bytes))
}

pub(super) fn current_prekey(sql: &Connection, name: &PeerName) -> Result<Option<PrekeyId>, StoreError> {
    Ok(one(sql, "SELECT id FROM prekey WHERE name = ?1", [name.as_str()])?.map(PrekeyId::from_bytes))
}

/// The one value of the one row that a query finds.
pub(super) fn one<T: FromSql>(sql: &Connection, query: &str, values: impl Params) -> Result<Option<T>, StoreError> {
    Ok(sql.prepare_cached(query)?.query_row(values, |row| row.get(0)).optional()?)
}

pub(super) fn column<T: FromSql>(row: &Row<'_>, index: usize) -> Result<T, StoreError> {
    Ok(row.get(index)?)
}

pub(super) fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, StoreError> {
    text.parse().map_err(|error: T::Err| malformed("name", &error))
}

pub(super) fn encoded<T: Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    codec::encode(value).map_err(|error| StoreError::Failed(error.to_string()))
}

pub(super) fn decoded<T: DeserializeOwned>(what: &str, blob: &[u8]) -> Result<T, StoreError> {
    codec::decode(blob).map_err(|error| malformed(what, &error))
}

pub(super) fn malformed(what: &str, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Failed(format!("a stored {what} cannot be read: {error}"))
}

#[cfg(test)]
#[path = "sqlite_tests.rs"]
pub(in crate::directory) mod tests;
