-- Events that are given to a consumer again, beside its others: dead letters that are retried, and replays.
CREATE TABLE redelivery (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    consumer TEXT NOT NULL,
    replay TEXT,                  -- what it is given for; null for a dead letter
    sequence INTEGER NOT NULL,    -- the event's place; the event itself may be removed meanwhile
    id BLOB NOT NULL,
    subject TEXT NOT NULL,
    stored_at INTEGER NOT NULL,
    payload TEXT NOT NULL,
    due_at INTEGER NOT NULL,      -- when it is delivered
    attempts INTEGER NOT NULL,    -- how many have failed since it was given
    reason TEXT NOT NULL          -- why the last one did, or why it was a dead letter
) STRICT;
CREATE INDEX redelivery_due ON redelivery (consumer, due_at);

-- What a consumer was given again, and for what: by this an interrupted replay is resumed.
CREATE TABLE replay (
    number INTEGER PRIMARY KEY,
    consumer TEXT NOT NULL,
    name TEXT NOT NULL,
    given_at INTEGER NOT NULL,    -- when it last gave something
    UNIQUE (consumer, name)
) STRICT;

-- What a replay has given, settled or not.
CREATE TABLE replayed (
    replay INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (replay, sequence)
) STRICT, WITHOUT ROWID;

CREATE INDEX dead_letter_died_at ON dead_letter (died_at);
