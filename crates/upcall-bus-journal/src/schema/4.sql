-- Callbacks that were rejected, to be looked at; bounded, and the oldest go first.
CREATE TABLE quarantine (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    rejected_at INTEGER NOT NULL,
    code TEXT NOT NULL,           -- what was answered
    route TEXT,                   -- null where no route was found
    size_bytes INTEGER NOT NULL,  -- what `callback` takes
    callback TEXT NOT NULL        -- the request and why it was rejected, as JSON
) STRICT;
-- Their number, sizes and ages are looked at every few seconds: this has them together.
CREATE INDEX quarantine_bounds ON quarantine (number, rejected_at, size_bytes);
