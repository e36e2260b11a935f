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
    "
    -- direction out: sending, stored, refused, delivered, read; in: held, new, showing, shown
    -- the order on the screen: when it was written, or released
    ALTER TABLE message ADD COLUMN place INTEGER;
    UPDATE message SET place = number;
    -- out: whether it is to be sent (again), and how often that was
    ALTER TABLE message ADD COLUMN waits INTEGER NOT NULL DEFAULT 0;
    UPDATE message SET waits = 1 WHERE state = 'sending';
    ALTER TABLE message ADD COLUMN attempt INTEGER NOT NULL DEFAULT 0;
    -- out: when the directory had it, by our clock; the number of the refusal; the newest signed receipt
    ALTER TABLE message ADD COLUMN stored_at INTEGER;
    ALTER TABLE message ADD COLUMN reason INTEGER;
    ALTER TABLE message ADD COLUMN receipt BLOB;
    -- in: when it came, by our clock; whether straight from its sender; how often through the directory; whether its
    -- number had been released or given up; whether a read receipt is due
    ALTER TABLE message ADD COLUMN came_at INTEGER;
    ALTER TABLE message ADD COLUMN direct INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE message ADD COLUMN arrivals INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE message ADD COLUMN late INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE message ADD COLUMN read_due INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX message_by_place ON message (place);
    CREATE INDEX message_of ON message (peer_key, direction, sequence);
    CREATE INDEX message_to_send ON message (peer_key, sequence) WHERE waits;
    CREATE INDEX message_under_way ON message (peer_key, stored_at) WHERE state = 'stored';
    CREATE INDEX message_refused ON message (peer_key, sequence) WHERE state = 'refused';
    CREATE INDEX message_to_receipt ON message (place) WHERE read_due;
    CREATE TABLE conversation (
        peer_key BLOB PRIMARY KEY,
        last INTEGER NOT NULL,
        released INTEGER NOT NULL,
        highest INTEGER NOT NULL,
        -- first and last of each run, 8 bytes each, little-endian
        skipped BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    INSERT INTO conversation
        SELECT peer_key, max(last), max(highest), max(highest), x'' FROM (
            SELECT peer_key, last, 0 AS highest FROM sequence
            UNION ALL SELECT peer_key, 0, max(sequence) FROM message WHERE direction = 'in' GROUP BY peer_key
        ) GROUP BY peer_key;
    DROP TABLE sequence;
    -- the words of each message, found by message.number
    CREATE VIRTUAL TABLE message_words USING fts5 (text, content = '', tokenize = 'unicode61 remove_diacritics 2');
    -- whether a message was opened with it
    ALTER TABLE prekey ADD COLUMN used INTEGER NOT NULL DEFAULT 0;
    ",
    "
    -- numbers that a sender has said will not come, for the audit; the runs of a sender do not touch
    CREATE TABLE skipped_run (
        peer_key BLOB NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        PRIMARY KEY (peer_key, first, last)
    ) STRICT, WITHOUT ROWID;
    ",
    "
    -- what is asked for with every message, found without reading the history
    CREATE INDEX message_held ON message (peer_key, sequence, number) WHERE state = 'held';
    CREATE INDEX message_by_id ON message (id);
    ",
    "
    -- who may learn where this peer is: once, until a time, or always
    CREATE TABLE grants (
        name TEXT PRIMARY KEY,
        allowance TEXT NOT NULL CHECK (allowance IN ('once', 'until', 'always')),
        ends_at INTEGER
    ) STRICT, WITHOUT ROWID;
    -- of a published file: whether it is served through the relay only
    ALTER TABLE shared_file ADD COLUMN hides_address INTEGER NOT NULL DEFAULT 0;
    ",
    "
    -- whom this account keeps out; the key they had then
    CREATE TABLE blocked (
        name TEXT PRIMARY KEY,
        key BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    -- friendships that this account's person wants: those who were asked, and those who have said so too
    CREATE TABLE friend (
        name TEXT PRIMARY KEY,
        state TEXT NOT NULL CHECK (state IN ('asked', 'friends'))
    ) STRICT, WITHOUT ROWID;
    -- profiles by name: our own, and others' as their owners signed them
    CREATE TABLE profile (
        name TEXT PRIMARY KEY,
        key BLOB NOT NULL,
        version INTEGER NOT NULL,
        signed BLOB NOT NULL,
        asked_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX profile_asked ON profile (asked_at);
    ",
    "
    -- whether the key is the gateway's, for somebody with an older program; NULL until the directory has said so or not
    ALTER TABLE contact ADD COLUMN legacy INTEGER CHECK (legacy IN (0, 1));
    ",
    "
    -- what is to be received, until it is whole or nobody wants it any more
    CREATE TABLE transfer (
        id BLOB PRIMARY KEY,
        begun_at INTEGER NOT NULL,
        -- names and keys, encoded
        sources BLOB NOT NULL,
        name TEXT NOT NULL,
        size INTEGER NOT NULL,
        digest BLOB NOT NULL,
        folder BLOB NOT NULL,
        collision TEXT NOT NULL,
        -- of a folder: how many files there are in it
        files INTEGER,
        executable INTEGER NOT NULL,
        -- NULL when it is for no offer
        offer BLOB,
        state TEXT NOT NULL,
        reason TEXT,
        done INTEGER NOT NULL
    ) STRICT;
    -- friends whose files are taken without asking; gone with the friendship
    CREATE TABLE welcome (
        name TEXT PRIMARY KEY,
        bytes_max INTEGER NOT NULL,
        folder BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    ",
    "
    -- of a folder: how many files there are in it
    ALTER TABLE offer ADD COLUMN files INTEGER;
    ",
    "
    -- shared folders; one that is not ready is being shared, and goes when that was cut short
    CREATE TABLE folder (
        id INTEGER PRIMARY KEY,
        root BLOB NOT NULL,
        -- of its manifest
        digest BLOB NOT NULL,
        entries INTEGER NOT NULL,
        files INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        ready INTEGER NOT NULL DEFAULT 0 CHECK (ready IN (0, 1))
    ) STRICT;
    -- their files, by their number in the manifest
    CREATE TABLE folder_file (
        folder INTEGER NOT NULL,
        number INTEGER NOT NULL,
        path TEXT NOT NULL,
        size INTEGER NOT NULL,
        modified INTEGER NOT NULL,
        inode INTEGER NOT NULL,
        digest BLOB NOT NULL,
        tree BLOB NOT NULL,
        PRIMARY KEY (folder, number)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX folder_file_by_digest ON folder_file (digest);
    -- of a share: the folder that it is
    ALTER TABLE shared_file ADD COLUMN folder INTEGER;
    CREATE INDEX shared_file_by_folder ON shared_file (folder) WHERE folder IS NOT NULL;
    -- what was hashed, and how the file was then
    CREATE TABLE hashed_file (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        path BLOB NOT NULL UNIQUE,
        size INTEGER NOT NULL,
        modified INTEGER NOT NULL,
        changed INTEGER NOT NULL,
        inode INTEGER NOT NULL,
        digest BLOB NOT NULL,
        tree BLOB NOT NULL
    ) STRICT;
    ",
    "
    -- which folder it was into which a transfer came last; NULL when that is not known
    ALTER TABLE transfer ADD COLUMN folder_device INTEGER;
    ALTER TABLE transfer ADD COLUMN folder_inode INTEGER;
    ",
];
