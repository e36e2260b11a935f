//! The tables of a directory, as the migrations that make them: what was released is never changed.

/// Times are Unix milliseconds, ids are their bytes, blobs are `wire::codec::encode`.
pub(super) const MIGRATIONS: &[&str] = &[
    "
CREATE TABLE account (
    name         TEXT PRIMARY KEY,
    key          BLOB NOT NULL,
    password_phc TEXT NOT NULL,
    created_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE prekey (
    name   TEXT PRIMARY KEY REFERENCES account (name) ON DELETE CASCADE,
    id     BLOB NOT NULL,
    signed BLOB NOT NULL
) STRICT;

CREATE TABLE session (
    name  TEXT PRIMARY KEY REFERENCES account (name) ON DELETE CASCADE,
    epoch INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- AUTOINCREMENT: a number is never given to a second envelope, so 'after' stays true while rows are deleted.
CREATE TABLE envelope (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    recipient  TEXT NOT NULL REFERENCES account (name) ON DELETE CASCADE,
    sender     TEXT NOT NULL,
    sender_key BLOB NOT NULL,
    id         BLOB NOT NULL,
    prekey     BLOB NOT NULL,
    bytes      INTEGER NOT NULL,
    stored_at  INTEGER NOT NULL,
    envelope   BLOB NOT NULL,
    UNIQUE (recipient, sender_key, id)
) STRICT;
CREATE INDEX envelope_waiting ON envelope (recipient, number);
CREATE INDEX envelope_quota ON envelope (recipient, sender, bytes);
CREATE INDEX envelope_age ON envelope (stored_at);

CREATE TABLE share (
    owner        TEXT NOT NULL REFERENCES account (name) ON DELETE CASCADE,
    name         TEXT NOT NULL,
    size         INTEGER NOT NULL,
    digest       BLOB NOT NULL,
    kind         TEXT NOT NULL,
    scope        TEXT NOT NULL,
    published_at INTEGER NOT NULL,
    PRIMARY KEY (owner, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX share_by_name ON share (name, owner);
CREATE INDEX share_by_digest ON share (digest, name, owner);
",
    "
CREATE TABLE lockout_source (
    name         TEXT NOT NULL REFERENCES account (name) ON DELETE CASCADE,
    source       TEXT NOT NULL,
    wrong        INTEGER NOT NULL,
    locks        INTEGER NOT NULL,
    locked_until INTEGER NOT NULL,
    last_try     INTEGER NOT NULL,
    PRIMARY KEY (name, source)
) STRICT, WITHOUT ROWID;

-- The times of the last wrong passwords from everywhere.
CREATE TABLE lockout_account (
    name  TEXT PRIMARY KEY REFERENCES account (name) ON DELETE CASCADE,
    wrong BLOB NOT NULL
) STRICT;
",
    "
-- Keys that were an account's, and may be again for some days.
CREATE TABLE key_change (
    name        TEXT NOT NULL REFERENCES account (name) ON DELETE CASCADE,
    old_key     BLOB NOT NULL,
    replaced_at INTEGER NOT NULL,
    PRIMARY KEY (name, old_key)
) STRICT, WITHOUT ROWID;
",
    "
-- Tokens that admit one account each, as hashes; the operator's have no inviter.
CREATE TABLE invitation (
    token      BLOB PRIMARY KEY,
    inviter    TEXT REFERENCES account (name) ON DELETE CASCADE,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX invitation_of ON invitation (inviter, expires_at);
",
    "
CREATE TABLE deleted_name (
    name       TEXT PRIMARY KEY,
    deleted_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
",
    "
ALTER TABLE account ADD COLUMN disabled INTEGER NOT NULL DEFAULT 0;
",
    "
-- Messages that cannot be opened any more, because their recipient's key was replaced: their senders are told.
CREATE TABLE returned (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    sender      TEXT NOT NULL REFERENCES account (name) ON DELETE CASCADE,
    recipient   TEXT NOT NULL,
    id          BLOB NOT NULL,
    returned_at INTEGER NOT NULL
) STRICT;
CREATE INDEX returned_waiting ON returned (sender, number);
CREATE INDEX returned_message ON returned (sender, recipient, id);
CREATE INDEX returned_age ON returned (returned_at);
",
    "
-- What recipients have signed of an account's messages, until one of its sessions has it: one row for each message.
-- AUTOINCREMENT, because a later receipt takes the place of an earlier one under a new number.
CREATE TABLE receipt (
    number    INTEGER PRIMARY KEY AUTOINCREMENT,
    recipient TEXT NOT NULL REFERENCES account (name) ON DELETE CASCADE,
    by_key    BLOB NOT NULL,
    id        BLOB NOT NULL,
    kind      INTEGER NOT NULL,
    signed    BLOB NOT NULL,
    stored_at INTEGER NOT NULL,
    UNIQUE (recipient, id, by_key)
) STRICT;
CREATE INDEX receipt_waiting ON receipt (recipient, number);
CREATE INDEX receipt_age ON receipt (stored_at);

-- The number of the refusal; until now there was one reason only.
ALTER TABLE returned ADD COLUMN refusal INTEGER NOT NULL DEFAULT 23;
",
    "
-- Who may learn whose address: once, until a time, or always.
CREATE TABLE grants (
    granter   TEXT NOT NULL REFERENCES account (name) ON DELETE CASCADE,
    grantee   TEXT NOT NULL REFERENCES account (name) ON DELETE CASCADE,
    allowance TEXT NOT NULL CHECK (allowance IN ('once', 'until', 'always')),
    ends_at   INTEGER,
    PRIMARY KEY (granter, grantee)
) STRICT, WITHOUT ROWID;
CREATE INDEX grants_to ON grants (grantee);
CREATE INDEX grants_end ON grants (ends_at) WHERE ends_at IS NOT NULL;

-- Whether a file is to be fetched through the relay only.
ALTER TABLE share ADD COLUMN hides_address INTEGER NOT NULL DEFAULT 0;
",
    "
-- Who may see an account, and when its peer was here last.
ALTER TABLE account ADD COLUMN audience TEXT NOT NULL DEFAULT 'everyone' CHECK (audience IN ('everyone', 'friends'));
ALTER TABLE account ADD COLUMN last_seen INTEGER;

-- Whom an account keeps out.
CREATE TABLE block (
    blocker TEXT NOT NULL REFERENCES account (name) ON DELETE CASCADE,
    blocked TEXT NOT NULL REFERENCES account (name) ON DELETE CASCADE,
    PRIMARY KEY (blocker, blocked)
) STRICT, WITHOUT ROWID;
CREATE INDEX block_of ON block (blocked);

-- Who wants to be friends with whom: two are friends when both rows are there.
CREATE TABLE friend (
    name     TEXT NOT NULL REFERENCES account (name) ON DELETE CASCADE,
    other    TEXT NOT NULL REFERENCES account (name) ON DELETE CASCADE,
    asked_at INTEGER NOT NULL,
    -- Whether the other one has said that the answer comes later.
    put_off  INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (name, other)
) STRICT, WITHOUT ROWID;
CREATE INDEX friend_of ON friend (other, asked_at);

-- To whom an account has written: they are no strangers to it.
CREATE TABLE acquaintance (
    name  TEXT NOT NULL REFERENCES account (name) ON DELETE CASCADE,
    other TEXT NOT NULL REFERENCES account (name) ON DELETE CASCADE,
    PRIMARY KEY (name, other)
) STRICT, WITHOUT ROWID;
CREATE INDEX acquaintance_of ON acquaintance (other);
",
    "
-- Whether it is an account of the gateway, which has its key on behalf of a program of an older system.
ALTER TABLE account ADD COLUMN legacy INTEGER NOT NULL DEFAULT 0 CHECK (legacy IN (0, 1));
",
    "
-- Of a folder: how many files there are in it.
ALTER TABLE share ADD COLUMN files INTEGER;
",
    "
-- Every three characters in a row of every name that is published, so that few entries are looked at for what few names
-- have. The last two begin a term too: two characters follow that no name has.
CREATE TABLE share_name (
    number INTEGER PRIMARY KEY,
    name   TEXT NOT NULL UNIQUE
) STRICT;
CREATE VIRTUAL TABLE share_text USING fts5 (name, content = '', columnsize = 0, detail = none, tokenize = 'trigram');
CREATE VIRTUAL TABLE share_term USING fts5vocab (share_text, row);
-- What is deleted is overwritten here as well.
INSERT INTO share_text (share_text, rank) VALUES ('secure-delete', 1);

CREATE TRIGGER share_named AFTER INSERT ON share
    WHEN NOT EXISTS (SELECT 1 FROM share_name WHERE name = new.name)
BEGIN
    INSERT INTO share_name (name) VALUES (new.name);
    INSERT INTO share_text (rowid, name) SELECT number, name || char(2, 2) FROM share_name WHERE name = new.name;
END;
CREATE TRIGGER share_forgotten AFTER DELETE ON share
    WHEN NOT EXISTS (SELECT 1 FROM share WHERE name = old.name)
BEGIN
    INSERT INTO share_text (share_text, rowid, name)
        SELECT 'delete', number, name || char(2, 2) FROM share_name WHERE name = old.name;
    DELETE FROM share_name WHERE name = old.name;
END;

INSERT INTO share_name (name) SELECT DISTINCT name FROM share;
INSERT INTO share_text (rowid, name) SELECT number, name || char(2, 2) FROM share_name;
",
    "
-- All names that are published, ASCII letters as small ones, each between line feeds: some kilobytes of text for each
-- stretch of the alphabet, from the first name of one to that of the next. A search reads them instead of every entry.
DROP TRIGGER share_named;
DROP TRIGGER share_forgotten;
DROP TABLE share_term;
DROP TABLE share_text;
DROP TABLE share_name;
CREATE TABLE share_block (
    first TEXT PRIMARY KEY,
    text  TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER share_named AFTER INSERT ON share
    WHEN NOT EXISTS (SELECT 1 FROM share WHERE name = new.name AND owner != new.owner)
BEGIN
    UPDATE share_block SET text = text || lower(new.name) || char(10)
        WHERE first = (SELECT max(first) FROM share_block WHERE first <= new.name);
END;
-- The second half becomes a block of its own. Any text is less than a blob.
CREATE TRIGGER share_block_full AFTER UPDATE OF text ON share_block WHEN length(new.text) > 4000
BEGIN
    INSERT INTO share_block
        SELECT min(name), char(10) || group_concat(lower(name), char(10)) || char(10)
        FROM (SELECT name, ntile(2) OVER (ORDER BY name) AS half FROM (
            SELECT DISTINCT name FROM share WHERE name >= new.first
            AND name < coalesce((SELECT min(first) FROM share_block WHERE first > new.first), x'')))
        WHERE half = 2;
    UPDATE share_block
        SET text = char(10) || (SELECT group_concat(lower(name), char(10)) FROM (SELECT DISTINCT name FROM share
            WHERE name >= new.first AND name < (SELECT min(first) FROM share_block WHERE first > new.first))) || char(10)
        WHERE first = new.first;
END;
-- Names that differ in the case of letters are there as often as there are such names: one of them goes.
CREATE TRIGGER share_forgotten AFTER DELETE ON share
    WHEN NOT EXISTS (SELECT 1 FROM share WHERE name = old.name)
BEGIN
    UPDATE share_block
        SET text = substr(text, 1, instr(text, char(10) || lower(old.name) || char(10)))
            || substr(text, instr(text, char(10) || lower(old.name) || char(10)) + length(old.name) + 2)
        WHERE first = (SELECT max(first) FROM share_block WHERE first <= old.name);
    DELETE FROM share_block
        WHERE first = (SELECT max(first) FROM share_block WHERE first <= old.name) AND first != '' AND text = char(10);
END;

INSERT INTO share_block VALUES ('', char(10));
INSERT INTO share_block
    SELECT min(name), char(10) || group_concat(lower(name), char(10)) || char(10)
    FROM (SELECT name, (row_number() OVER (ORDER BY name) - 1) / 64 AS block FROM (SELECT DISTINCT name FROM share))
    GROUP BY block;
",
];
