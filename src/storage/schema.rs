//! The tables of a profile's database. A released migration is never changed; a new one is appended.

/// Applied in order, each once.
pub(super) const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE contact (
        name TEXT PRIMARY KEY,
        key BLOB NOT NULL,
        pinned_at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE message (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        direction TEXT NOT NULL CHECK (direction IN ('in', 'out')),
        peer TEXT NOT NULL,
        peer_key BLOB NOT NULL,
        id BLOB NOT NULL,
        sequence INTEGER NOT NULL,
        sent_at INTEGER NOT NULL,
        body BLOB NOT NULL,
        -- out: sending, stored, refused; in: new, shown
        state TEXT NOT NULL,
        UNIQUE (direction, peer_key, id)
    ) STRICT;
    CREATE INDEX message_by_state ON message (state, number);
    CREATE TABLE sequence (
        peer_key BLOB PRIMARY KEY,
        last INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE prekey (
        id BLOB PRIMARY KEY,
        secret BLOB NOT NULL,
        created_at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE offer (
        id BLOB PRIMARY KEY,
        peer TEXT NOT NULL,
        name TEXT NOT NULL,
        size INTEGER NOT NULL,
        digest BLOB NOT NULL
    ) STRICT;
    CREATE TABLE shared_file (
        -- empty when published to everyone, else the key of the one person it is offered to
        recipient BLOB NOT NULL,
        name TEXT NOT NULL,
        path BLOB NOT NULL,
        size INTEGER NOT NULL,
        modified INTEGER NOT NULL,
        inode INTEGER NOT NULL,
        digest BLOB NOT NULL,
        tree BLOB NOT NULL,
        -- empty when published
        offer BLOB NOT NULL,
        PRIMARY KEY (recipient, name, offer)
    ) STRICT;
    CREATE INDEX shared_file_by_digest ON shared_file (digest);
    ",
    "
    ALTER TABLE contact ADD COLUMN verified_at INTEGER;
    -- another key that was shown for a verified contact, and not accepted
    ALTER TABLE contact ADD COLUMN offered_key BLOB;
    ",
];
