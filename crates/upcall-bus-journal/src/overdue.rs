//! Events that stay beyond their retention, since somebody has not settled them.

use std::fmt;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};

use crate::clock;

/// How many consumers are named.
const NAMED_MAX: usize = 10;

/// Events that stay beyond their retention, since a consumer has not settled them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overdue {
    /// The consumers that have not settled the oldest event: ten at most, by name.
    pub consumers: Vec<String>,
    /// When that event was stored, in milliseconds since 1970.
    pub(crate) stored_at_ms: i64,
}

impl Overdue {
    /// Who keeps the oldest event; `None` where nobody does.
    pub(crate) fn find(db: &Connection) -> rusqlite::Result<Option<Self>> {
        let oldest = db
            .query_row("SELECT sequence, stored_at FROM event ORDER BY sequence LIMIT 1", (), |row| {
                Ok((row.get::<_, u64>(0)?, row.get(1)?))
            })
            .optional()?;
        let Some((sequence, stored_at_ms)) = oldest else { return Ok(None) };
        let mut consumers = unsettled_by(db, sequence)?;
        consumers.truncate(NAMED_MAX);
        Ok((!consumers.is_empty()).then_some(Self { consumers, stored_at_ms }))
    }

    /// How long ago the oldest of them was stored.
    #[must_use]
    pub fn age(&self) -> Duration {
        clock::since(self.stored_at_ms)
    }
}

/// The consumers, by name, that may not have settled everything up to here.
pub(crate) fn unsettled_by(db: &Connection, up_to: u64) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT name FROM consumer WHERE floor < ?1 UNION SELECT consumer FROM retry WHERE sequence <= ?1
               ORDER BY 1";
    db.prepare(sql)?.query_map([up_to], |row| row.get(0))?.collect()
}

/// How many events up to here each consumer has not settled, but for those that have none. Those that its filter has
/// not looked at yet count.
pub(crate) fn count_unsettled(db: &Connection, up_to: u64) -> rusqlite::Result<Vec<(String, u64)>> {
    let sql = "SELECT name, count(*) FROM consumer JOIN event ON event.sequence <= ?1
               WHERE event.sequence > floor AND NOT EXISTS (
                         SELECT 1 FROM settled WHERE settled.consumer = name AND settled.sequence = event.sequence)
                     OR EXISTS (SELECT 1 FROM retry WHERE retry.consumer = name AND retry.sequence = event.sequence)
               GROUP BY name";
    db.prepare(sql)?.query_map([up_to], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

impl fmt::Display for Overdue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (noun, verb) = if self.consumers.len() == 1 { ("consumer", "has") } else { ("consumers", "have") };
        write!(
            f,
            "events stay beyond their retention, since {noun} {} {verb} not settled them: the oldest is {} s old, and the \
             journal grows until they are settled",
            self.consumers.join(", "),
            self.age().as_secs()
        )
    }
}
