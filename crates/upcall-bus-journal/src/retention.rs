//! Removing events that are past their time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, params};
use tracing::{info, warn};
use upcall_event::EventId;

use crate::index::{Index, Key};
use crate::overdue::{Overdue, count_unsettled};
use crate::session::Session;
use crate::shared::Shared;
use crate::statements::{Statements, Sync};
use crate::{Retention, clock};

/// How many events go in one transaction: few enough that publishers hardly notice.
const BATCH: usize = 256;
/// How often is said that unsettled events are past their retention: that they stay, or that they went.
const WARN_EVERY: Duration = Duration::from_secs(300);
/// After how many looks at which unsettled events were past their retention it is said: a consumer that is at work has
/// settled them by the next one.
const LOOKS: u32 = 3;
/// How long is believed at least what is beside the events, and how many times as long as it took to be found out.
const BESIDE_MIN: Duration = Duration::from_secs(1);
const BESIDE_TIMES: u32 = 100;

/// Tables that are no events' and have bounds of their own, each with its indexes.
const BESIDE_EVENTS: [&str; 8] = [
    "dead_letter",
    "dead_letter_consumer",
    "dead_letter_died_at",
    "redelivery",
    "redelivery_due",
    "replayed",
    "quarantine",
    "quarantine_bounds",
];

/// When events are looked for that are past their time.
pub(crate) struct Schedule {
    every: Duration,
    next: Instant,
    has_more: bool,
    /// What is in the files beside the events, and until when that is to be believed.
    beside: Option<(u64, Instant)>,
    /// At how many looks in a row unsettled events were past their retention.
    looks: u32,
    warned: Option<Instant>,
}

impl Schedule {
    pub(crate) fn new(every: Duration) -> Self {
        Self { every, next: Instant::now(), has_more: false, beside: None, looks: 0, warned: None }
    }

    /// Whether the last batch was a full one.
    pub(crate) fn has_more(&self) -> bool {
        self.has_more
    }

    /// Removes one batch, if it is time, and says whether anything stays that should go.
    pub(crate) fn run(
        &mut self,
        statements: &mut Statements<'_>,
        shared: &Shared,
        sessions: &HashMap<String, Arc<Session>>,
        index: &mut Index,
    ) -> rusqlite::Result<()> {
        let (now, retention) = (Instant::now(), &shared.options.retention);
        if !self.has_more && now < self.next {
            return Ok(());
        }
        self.has_more = false;
        self.next = now + self.every;
        let mut overdue = None;
        if let Some(past) = self.past(statements.db, retention)? {
            let events = past.events(statements.db, retention)?;
            if let Some(last) = events.last().map(|event| event.sequence) {
                self.remove(statements, &events, last, shared)?;
                index.forget(events.iter().map(|event| event.key));
                if retention.drop_unsettled {
                    for session in sessions.values() {
                        session.lock().raise_floor(last);
                    }
                }
            }
            self.has_more = events.len() == BATCH;
            if self.has_more {
                return Ok(());
            }
            // What could go is gone.
            if self.past(statements.db, retention)?.is_some() {
                overdue = Overdue::find(statements.db)?;
            }
        }
        self.tell(overdue, shared);
        Ok(())
    }

    /// Which events are past their time, if any are.
    fn past(&mut self, db: &Connection, retention: &Retention) -> rusqlite::Result<Option<Past>> {
        let oldest: Option<i64> =
            db.query_row("SELECT stored_at FROM event ORDER BY sequence LIMIT 1", (), |row| row.get(0)).optional()?;
        let Some(oldest) = oldest else { return Ok(None) };
        if self.is_too_large(db, retention.size_bytes)? {
            return Ok(Some(Past { stored_before: i64::MAX }));
        }
        let age = i64::try_from(retention.age.as_millis()).unwrap_or(i64::MAX);
        let stored_before = clock::now_ms().saturating_sub(age);
        Ok((oldest < stored_before).then_some(Past { stored_before }))
    }

    /// Whether the events take more than they may. Dead letters, redeliveries and rejected callbacks have bounds of
    /// their own: no event goes for their room.
    fn is_too_large(&mut self, db: &Connection, max: u64) -> rusqlite::Result<bool> {
        let pragma = |name| db.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
        let used = (pragma("page_count")? - pragma("freelist_count")?) * pragma("page_size")?;
        if used <= max {
            return Ok(false);
        }
        let began = Instant::now();
        let beside = match self.beside {
            Some((beside, until)) if began < until => beside,
            _ => {
                let beside = beside_events(db)?;
                let until = Instant::now() + (began.elapsed() * BESIDE_TIMES).max(BESIDE_MIN);
                self.beside.insert((beside, until)).0
            }
        };
        Ok(used.saturating_sub(beside) > max)
    }

    fn remove(
        &mut self,
        statements: &mut Statements<'_>,
        events: &[Removed],
        last: u64,
        shared: &Shared,
    ) -> rusqlite::Result<()> {
        let drop_unsettled = shared.options.retention.drop_unsettled;
        let losers = if drop_unsettled { count_unsettled(statements.db, last)? } else { Vec::new() };
        // Nothing is lost if a power cut undoes it.
        statements.transaction(Sync::Lazy, |statements| remove(statements.db, events, last, drop_unsettled))?;
        shared.add_dropped(&losers);
        if !losers.is_empty() && self.is_time_to_warn() {
            let consumers = losers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
            warn!(consumers, "events past their retention were dropped before these consumers had settled them");
        }
        Ok(())
    }

    /// Says what stays beyond its retention, once it has done so for a while.
    fn tell(&mut self, overdue: Option<Overdue>, shared: &Shared) {
        self.looks = if overdue.is_some() { self.looks.saturating_add(1) } else { 0 };
        let overdue = overdue.filter(|_| self.looks >= LOOKS);
        match &overdue {
            Some(overdue) if self.is_time_to_warn() => warn!("{overdue}"),
            Some(_) => {}
            None if shared.overdue().is_some() => info!("no event stays beyond its retention any more"),
            None => {}
        }
        shared.set_overdue(overdue);
    }

    fn is_time_to_warn(&mut self) -> bool {
        let is_time = self.warned.is_none_or(|warned| warned.elapsed() >= WARN_EVERY);
        if is_time {
            self.warned = Some(Instant::now());
        }
        is_time
    }
}

/// Which events are past their time.
struct Past {
    /// Those stored before this, in milliseconds since 1970.
    stored_before: i64,
}

impl Past {
    /// Some of those that may go.
    fn events(&self, db: &Connection, retention: &Retention) -> rusqlite::Result<Vec<Removed>> {
        let mut statement = db.prepare(
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

/// What is in the files beside the events and what belongs to them. Reads all of it.
fn beside_events(db: &Connection) -> rusqlite::Result<u64> {
    let mut pages = db.prepare("SELECT pgsize FROM dbstat WHERE aggregate = TRUE AND name = ?1")?;
    let mut bytes = 0;
    for name in BESIDE_EVENTS {
        bytes += pages.query_row([name], |row| row.get::<_, u64>(0)).optional()?.unwrap_or(0);
    }
    Ok(bytes)
}

fn remove(db: &Connection, events: &[Removed], last: u64, drop_unsettled: bool) -> rusqlite::Result<()> {
    let mut delete = db.prepare("DELETE FROM event WHERE sequence = ?1")?;
    let mut forget = db.prepare("DELETE FROM event_id WHERE epoch = ?1 AND id = ?2 AND sequence = ?3")?;
    for Removed { sequence, key } in events {
        delete.execute([sequence])?;
        forget.execute(params![key.epoch, key.id.as_bytes(), sequence])?;
    }
    db.execute("UPDATE state SET sequence_removed = max(sequence_removed, ?1)", [last])?;
    if drop_unsettled {
        db.execute("UPDATE consumer SET floor = ?1 WHERE floor < ?1", [last])?;
        db.execute("DELETE FROM settled WHERE sequence <= ?1", [last])?;
        db.execute("DELETE FROM retry WHERE sequence <= ?1", [last])?;
    }
    Ok(())
}
