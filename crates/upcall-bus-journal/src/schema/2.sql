-- Ids are hashes: an index of them alone is written to in random order, a page for nearly every event. By the time in
-- the request id they lie together, and are put there many at a time.
ALTER TABLE event RENAME TO event_1;
CREATE TABLE event (
    sequence INTEGER PRIMARY KEY, -- its place; never used twice, also not after the event is removed
    id BLOB NOT NULL,             -- the event's id, 16 bytes: the same upload has the same id, and is one event
    epoch INTEGER NOT NULL,       -- the time in the request id that the id is made of, in seconds since 1970, or 0
    subject TEXT NOT NULL,        -- what it was published on
    stored_at INTEGER NOT NULL,   -- when
    payload TEXT NOT NULL         -- the event: a CloudEvent as JSON
) STRICT;

-- Finds events by their ids.
CREATE TABLE event_id (
    epoch INTEGER NOT NULL,
    id BLOB NOT NULL,
    sequence INTEGER NOT NULL,    -- its event's
    PRIMARY KEY (epoch, id)
) STRICT, WITHOUT ROWID;

ALTER TABLE state RENAME TO state_1;
CREATE TABLE state (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    sequence_removed INTEGER NOT NULL, -- the newest sequence that retention has removed
    indexed_up_to INTEGER NOT NULL,    -- every event up to here is in `event_id`; some above are, too
    probe BLOB                         -- written to find out whether there is room again; empty otherwise
) STRICT;
INSERT INTO state (one, sequence_removed, indexed_up_to) SELECT one, sequence_removed, 0 FROM state_1;
DROP TABLE state_1;
