-- Since when something waits, beside until when: a clock that is set back, or was wrong, makes nothing wait for longer.
ALTER TABLE retry RENAME TO retry_4;
CREATE TABLE retry (
    consumer TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    set_at INTEGER NOT NULL,      -- when this was written, by the clock that `due_at` goes by
    due_at INTEGER NOT NULL,      -- when it is delivered again
    attempts INTEGER NOT NULL,    -- how many have failed
    reason TEXT NOT NULL,         -- why the last one did
    PRIMARY KEY (consumer, sequence)
) STRICT, WITHOUT ROWID;
INSERT INTO retry (consumer, sequence, set_at, due_at, attempts, reason)
    SELECT consumer, sequence, CAST(unixepoch('subsec') * 1000 AS INTEGER), due_at, attempts, reason FROM retry_4;
DROP TABLE retry_4;
CREATE INDEX retry_due ON retry (consumer, due_at);
CREATE INDEX retry_sequence ON retry (sequence);

ALTER TABLE redelivery RENAME TO redelivery_4;
CREATE TABLE redelivery (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    consumer TEXT NOT NULL,
    replay TEXT,                  -- what it is given for; null for a dead letter
    sequence INTEGER NOT NULL,    -- the event's place; the event itself may be removed meanwhile
    id BLOB NOT NULL,
    subject TEXT NOT NULL,
    stored_at INTEGER NOT NULL,
    payload TEXT NOT NULL,
    set_at INTEGER NOT NULL,      -- when this was written, by the clock that `due_at` goes by
    due_at INTEGER NOT NULL,      -- when it is delivered
    attempts INTEGER NOT NULL,    -- how many have failed since it was given
    reason TEXT NOT NULL          -- why the last one did, or why it was a dead letter
) STRICT;
INSERT INTO sqlite_sequence (name, seq) SELECT 'redelivery', seq FROM sqlite_sequence WHERE name = 'redelivery_4';
INSERT INTO redelivery
    SELECT number, consumer, replay, sequence, id, subject, stored_at, payload,
           CAST(unixepoch('subsec') * 1000 AS INTEGER), due_at, attempts, reason
    FROM redelivery_4;
DROP TABLE redelivery_4;
CREATE INDEX redelivery_due ON redelivery (consumer, due_at);
