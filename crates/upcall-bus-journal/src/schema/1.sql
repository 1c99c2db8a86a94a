CREATE TABLE event (
    sequence INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    subject TEXT NOT NULL,
    stored_at INTEGER NOT NULL,
    payload TEXT NOT NULL
) STRICT;

CREATE TABLE consumer (
    name TEXT PRIMARY KEY,
    filter TEXT NOT NULL,
    floor INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE settled (
    consumer TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (consumer, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE retry (
    consumer TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (consumer, sequence)
) STRICT, WITHOUT ROWID;
CREATE INDEX retry_due ON retry (consumer, due_at);
CREATE INDEX retry_sequence ON retry (sequence);

CREATE TABLE dead_letter (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    consumer TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    id BLOB NOT NULL,
    subject TEXT NOT NULL,
    stored_at INTEGER NOT NULL,
    payload TEXT NOT NULL,
    reason TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    died_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX dead_letter_consumer ON dead_letter (consumer, sequence);

CREATE TABLE state (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    sequence_removed INTEGER NOT NULL,
    probe BLOB
) STRICT;
INSERT INTO state (one, sequence_removed) VALUES (1, 0);
