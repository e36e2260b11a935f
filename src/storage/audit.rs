//! The records that an audit reads, a part at a time. What they prove is `protocol/audit.rs`; signatures are checked by
//! whoever asks.

use rusqlite::params;

use super::records::{SqlRecords, stage_from, unsigned};
use crate::database::{Database, DatabaseError};
use crate::protocol::audit::{Accounted, Theirs};
use crate::protocol::conversation::{Conversation, Records as _, Stage};
use crate::wire::codec;
use crate::wire::ids::{MessageId, PeerKey, PeerName, UnixMillis};
use crate::wire::message::SignedReceipt;

/// Rows read at a time.
const PAGE: usize = 500;

/// After which row of a conversation to go on: its number among its sender's, and its place in the table.
pub type Cursor = (u64, i64);

/// A message of ours with its receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentRecord {
    /// Its number.
    pub sequence: u64,
    /// Its id.
    pub id: MessageId,
    /// How far it has come.
    pub stage: Stage,
    /// When the directory said that it has it, by our clock.
    pub stored_at: Option<UnixMillis>,
    /// Its receipt; `Some(None)` for one that is damaged.
    pub receipt: Option<Option<SignedReceipt>>,
}

/// The keys of a person that were ever talked to, the present one first.
///
/// # Errors
/// [`DatabaseError`] when the profile cannot be read, here and below.
pub async fn keys(database: &Database, name: &PeerName) -> Result<Vec<PeerKey>, DatabaseError> {
    let name = name.clone();
    database
        .run(move |sql| {
            let query = "SELECT key FROM (
                     SELECT key, 0 AS age FROM contact WHERE name = ?1
                     UNION ALL SELECT peer_key, 1 FROM message WHERE peer = ?1
                 ) GROUP BY key ORDER BY min(age)";
            let mut rows = sql.prepare_cached(query)?;
            let keys = rows.query_map([name.as_str()], |row| Ok(PeerKey::from_bytes(row.get(0)?)))?;
            Ok(keys.collect::<Result<Vec<_>, _>>()?)
        })
        .await
}

/// What is kept of the conversation with a key.
#[expect(clippy::missing_errors_doc, reason = "see `keys`")]
pub async fn conversation(database: &Database, with: PeerKey) -> Result<Conversation, DatabaseError> {
    database
        .run(move |sql| {
            let mut records = SqlRecords { sql, now: UnixMillis(0), is_direct: false };
            Ok(records.conversation(with)?)
        })
        .await
}

/// Messages of ours to a key by number, and where to go on; no rows are left after an empty part.
#[expect(clippy::missing_errors_doc, reason = "see `keys`")]
pub async fn sent(database: &Database, to: PeerKey, after: Cursor) -> Result<(Vec<SentRecord>, Cursor), DatabaseError> {
    database
        .run(move |sql| {
            let query = format!(
                "SELECT sequence, number, id, state, stored_at, receipt FROM message
                 WHERE direction = 'out' AND peer_key = ?1 AND (sequence, number) > (?2, ?3)
                 ORDER BY sequence, number LIMIT {PAGE}"
            );
            let mut rows = sql.prepare_cached(&query)?;
            let mut rows = rows.query(params![to.as_bytes(), after.0.cast_signed(), after.1])?;
            let (mut found, mut cursor) = (Vec::new(), after);
            while let Some(row) = rows.next()? {
                cursor = (unsigned(row, 0)?, row.get(1)?);
                found.push(SentRecord {
                    sequence: cursor.0,
                    id: MessageId::from_bytes(row.get(2)?),
                    stage: stage_from(&row.get::<_, String>(3)?)?,
                    stored_at: row.get::<_, Option<i64>>(4)?.map(|millis| UnixMillis(millis.cast_unsigned())),
                    receipt: row.get::<_, Option<Vec<u8>>>(5)?.map(|bytes| codec::decode(&bytes).ok()),
                });
            }
            Ok((found, cursor))
        })
        .await
}

/// What is known of a key's numbers, rising, and where to go on; no rows are left after an empty part.
#[expect(clippy::missing_errors_doc, reason = "see `keys`")]
pub async fn accounted(
    database: &Database,
    from: PeerKey,
    after: Cursor,
) -> Result<(Vec<Accounted>, Cursor), DatabaseError> {
    database
        .run(move |sql| {
            let query = format!(
                "SELECT sequence, number, id, came_at, arrivals, late, NULL FROM message
                 WHERE direction = 'in' AND peer_key = ?1 AND (sequence, number) > (?2, ?3)
                 UNION ALL SELECT first, 0, NULL, NULL, 0, 0, last FROM skipped_run
                 WHERE peer_key = ?1 AND (first, 0) > (?2, ?3)
                 ORDER BY 1, 2 LIMIT {PAGE}"
            );
            let mut rows = sql.prepare_cached(&query)?;
            let mut rows = rows.query(params![from.as_bytes(), after.0.cast_signed(), after.1])?;
            let (mut found, mut cursor) = (Vec::new(), after);
            while let Some(row) = rows.next()? {
                cursor = (unsigned(row, 0)?, row.get(1)?);
                let sequence = cursor.0;
                found.push(match row.get::<_, Option<[u8; 16]>>(2)? {
                    None => Accounted::Named { first: sequence, last: unsigned(row, 6)? },
                    Some(id) => Accounted::Came(Theirs {
                        sequence,
                        id: MessageId::from_bytes(id),
                        came_at: row.get::<_, Option<i64>>(3)?.map(|millis| UnixMillis(millis.cast_unsigned())),
                        arrivals: unsigned(row, 4)?,
                        is_late: row.get(5)?,
                    }),
                });
            }
            Ok((found, cursor))
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::audit::Auditor;
    use crate::seal::random::OsRandom;
    use crate::storage::messages::{self, Incoming};
    use crate::storage::profile::{Home, Profile};
    use crate::wire::ids::DirectoryFingerprint;
    use crate::wire::limits::SEQUENCE_MAX;
    use crate::wire::message::{Body, InnerMessage, Run, Skipped, Text};

    const BOB: PeerKey = PeerKey::from_bytes([2; 32]);

    /// How many messages of bob's go to the screen when this one comes.
    async fn came(profile: &Profile, sequence: u64, skipped: Vec<Run>) -> usize {
        let message = InnerMessage {
            sender: BOB,
            recipient: profile.identity().public(),
            id: MessageId::from_bytes([sequence.to_le_bytes(); 2].concat().try_into().unwrap()),
            sequence,
            skipped: Skipped::newest_runs(skipped),
            sent_at: UnixMillis(1),
            body: Body::Text(Text::parse("hello").unwrap()),
        };
        let incoming = Incoming { from: PeerName::parse("bob").unwrap(), message };
        messages::take(profile.database(), incoming, false, UnixMillis(4)).await.unwrap().0.released.len()
    }

    /// How many came, were missing and were late.
    async fn audit(profile: &Profile) -> (u64, u64, u64) {
        let released = conversation(profile.database(), BOB).await.unwrap().released;
        let (mut auditor, mut after) = (Auditor::new(released, UnixMillis(5)), (0, -1));
        loop {
            let (found, next) = accounted(profile.database(), BOB, after).await.unwrap();
            if found.is_empty() {
                let (counts, _) = auditor.finish();
                return (counts.received, counts.missing, counts.late);
            }
            found.into_iter().for_each(|number| auditor.theirs(number));
            after = next;
        }
    }

    #[tokio::test]
    async fn runs_of_any_length_are_accounted_for() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().join("home"));
        let directory = DirectoryFingerprint::from_bytes([9; 32]);
        let alice = PeerName::parse("alice").unwrap();
        let profile = Profile::open(&home, directory, &alice, &mut OsRandom).unwrap();
        assert_eq!(came(&profile, 1, vec![]).await, 1);
        assert_eq!(came(&profile, 102, vec![(2, 101)]).await, 1, "a full mailbox refused a hundred");
        assert_eq!(audit(&profile).await, (2, 0, 0));
        assert_eq!(came(&profile, 104, vec![(2, 101)]).await, 0, "nobody has named the one before");
        assert_eq!(came(&profile, SEQUENCE_MAX, vec![(103, SEQUENCE_MAX)]).await, 2);
        assert_eq!(audit(&profile).await, (4, 0, 0));
        assert_eq!(came(&profile, 103, vec![]).await, 1, "late, but not lost");
        assert_eq!(audit(&profile).await, (5, 0, 1));
    }
}
