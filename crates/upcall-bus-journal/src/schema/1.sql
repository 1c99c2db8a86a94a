-- The log: every event, in the order of publishing. Times are milliseconds since 1970 (UTC).
CREATE TABLE event (
    sequence INTEGER PRIMARY KEY, -- its place; never used twice, also not after the event is removed
    id BLOB NOT NULL UNIQUE,      -- the event's id, 16 bytes: the same upload has the same id
    subject TEXT NOT NULL,        -- what it was published on
    stored_at INTEGER NOT NULL,   -- when
    payload TEXT NOT NULL         -- the event: a CloudEvent as JSON
) STRICT;

-- How far every consumer is.
CREATE TABLE consumer (
    name TEXT PRIMARY KEY,
    filter TEXT NOT NULL,         -- the subjects that it wants
    floor INTEGER NOT NULL,       -- every event up to this sequence is settled, in `retry`, or not selected
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Events above a consumer's floor that it has settled out of order.
CREATE TABLE settled (
    consumer TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (consumer, sequence)
) STRICT, WITHOUT ROWID;

-- Events that wait for another attempt of a consumer, above and below its floor.
CREATE TABLE retry (
    consumer TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    due_at INTEGER NOT NULL,      -- when it is delivered again
    attempts INTEGER NOT NULL,    -- how many have failed
    reason TEXT NOT NULL,         -- why the last one did
    PRIMARY KEY (consumer, sequence)
) STRICT, WITHOUT ROWID;
CREATE INDEX retry_due ON retry (consumer, due_at);
CREATE INDEX retry_sequence ON retry (sequence);

-- Events that a consumer could not take, with all that is needed to send them again.
CREATE TABLE dead_letter (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    consumer TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    id BLOB NOT NULL,
    subject TEXT NOT NULL,
    stored_at INTEGER NOT NULL,
    payload TEXT NOT NULL,
    reason TEXT NOT NULL,         -- why it was given up
    attempts INTEGER NOT NULL,    -- how many there were
    died_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX dead_letter_consumer ON dead_letter (consumer, sequence);

-- One row.
CREATE TABLE state (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    sequence_removed INTEGER NOT NULL, -- the newest sequence that retention has removed
    probe BLOB                         -- written to find out whether there is room again; empty otherwise
) STRICT;
INSERT INTO state (one, sequence_removed) VALUES (1, 0);
