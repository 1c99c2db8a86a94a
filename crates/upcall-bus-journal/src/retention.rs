//! Removing events that are past their time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{OptionalExtension, params};
use tracing::warn;
use upcall_event::EventId;

use crate::index::{Index, Key};
use crate::session::Session;
use crate::statements::{Statements, Sync};
use crate::{Retention, clock};

/// How many events go in one transaction: few enough that publishers hardly notice.
const BATCH: usize = 256;
/// How often is said that unsettled events keep the journal above its limits.
const WARN_EVERY: Duration = Duration::from_secs(300);

/// When events are looked for that are past their time.
pub(crate) struct Schedule {
    every: Duration,
    next: Instant,
    has_more: bool,
    warned: Option<Instant>,
}

impl Schedule {
    pub(crate) fn new(every: Duration) -> Self {
        Self { every, next: Instant::now(), has_more: false, warned: None }
    }

    /// Whether the last batch was a full one.
    pub(crate) fn has_more(&self) -> bool {
        self.has_more
    }

    /// Removes one batch, if it is time.
    pub(crate) fn run(
        &mut self,
        statements: &mut Statements<'_>,
        retention: &Retention,
        sessions: &HashMap<String, Arc<Session>>,
        index: &mut Index,
    ) -> rusqlite::Result<()> {
        let now = Instant::now();
        if !self.has_more && now < self.next {
            return Ok(());
        }
        self.has_more = false;
        self.next = now + self.every;
        let Some(past) = Past::find(statements, retention)? else { return Ok(()) };
        let events = past.events(statements, retention)?;
        let Some(last) = events.last().map(|event| event.sequence) else {
            if self.warned.is_none_or(|warned| warned.elapsed() >= WARN_EVERY) {
                self.warned = Some(now);
                warn!("events are past their retention and stay, since a consumer has not settled them");
            }
            return Ok(());
        };
        // Nothing is lost if a power cut undoes it.
        statements.transaction(Sync::Lazy, |statements| remove(statements, &events, last, retention.drop_unsettled))?;
        index.forget(events.iter().map(|event| event.key));
        if retention.drop_unsettled {
            for session in sessions.values() {
                session.lock().raise_floor(last);
            }
        }
        self.has_more = events.len() == BATCH;
        Ok(())
    }
}

/// Which events are past their time.
struct Past {
    /// Those stored before this, in milliseconds since 1970.
    stored_before: i64,
}

impl Past {
    fn find(statements: &Statements<'_>, retention: &Retention) -> rusqlite::Result<Option<Self>> {
        let oldest: Option<i64> = statements
            .db
            .query_row("SELECT stored_at FROM event ORDER BY sequence LIMIT 1", (), |row| row.get(0))
            .optional()?;
        let Some(oldest) = oldest else { return Ok(None) };
        let pragma = |name| statements.db.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
        let used = (pragma("page_count")? - pragma("freelist_count")?) * pragma("page_size")?;
        if used > retention.size_bytes {
            return Ok(Some(Self { stored_before: i64::MAX }));
        }
        let age = i64::try_from(retention.age.as_millis()).unwrap_or(i64::MAX);
        let stored_before = clock::now_ms().saturating_sub(age);
        Ok((oldest < stored_before).then_some(Self { stored_before }))
    }

    fn events(&self, statements: &Statements<'_>, retention: &Retention) -> rusqlite::Result<Vec<Removed>> {
        let mut statement = statements.db.prepare(
            "SELECT sequence, epoch, id FROM (
                 SELECT sequence, epoch, id, stored_at FROM event
                 WHERE ?1 OR (sequence <= coalesce((SELECT min(floor) FROM consumer), sequence)
                              AND NOT EXISTS (SELECT 1 FROM retry WHERE retry.sequence = event.sequence))
                 ORDER BY sequence LIMIT ?2)
             WHERE stored_at < ?3",
        )?;
        let rows = statement.query_map(params![retention.drop_unsettled, BATCH, self.stored_before], |row| {
            let key = Key { epoch: row.get(1)?, id: EventId::from_bytes(row.get(2)?) };
            Ok(Removed { sequence: row.get(0)?, key })
        })?;
        rows.collect()
    }
}

struct Removed {
    sequence: u64,
    key: Key,
}

fn remove(statements: &Statements<'_>, events: &[Removed], last: u64, drop_unsettled: bool) -> rusqlite::Result<()> {
    let mut delete = statements.db.prepare("DELETE FROM event WHERE sequence = ?1")?;
    let mut forget = statements.db.prepare("DELETE FROM event_id WHERE epoch = ?1 AND id = ?2 AND sequence = ?3")?;
    for Removed { sequence, key } in events {
        delete.execute([sequence])?;
        forget.execute(params![key.epoch, key.id.as_bytes(), sequence])?;
    }
    statements.db.execute("UPDATE state SET sequence_removed = max(sequence_removed, ?1)", [last])?;
    if drop_unsettled {
        statements.db.execute("UPDATE consumer SET floor = ?1 WHERE floor < ?1", [last])?;
        statements.db.execute("DELETE FROM settled WHERE sequence <= ?1", [last])?;
        statements.db.execute("DELETE FROM retry WHERE sequence <= ?1", [last])?;
    }
    Ok(())
}
