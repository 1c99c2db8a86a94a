//! Forgetting what is past its time: dead letters, what replays have given, and rejected callbacks.

use std::time::{Duration, Instant};

use rusqlite::{Connection, params};

use crate::statements::{Statements, Sync};
use crate::{Options, clock, quarantine};

/// How often is looked for them.
const EVERY: Duration = Duration::from_secs(5);
/// How many rows go in one transaction: few enough that publishers hardly notice.
const BATCH: usize = 256;
/// How long is remembered what a replay has given, since it last gave something: time enough to resume it.
const REPLAY_AGE: Duration = Duration::from_hours(30 * 24);

/// When is looked for what is past its time.
pub(crate) struct Aging {
    next: Instant,
}

impl Aging {
    pub(crate) fn new() -> Self {
        Self { next: Instant::now() }
    }

    /// Removes one batch of each kind, if it is time. The next call is due at once while there are more.
    pub(crate) fn run(&mut self, statements: &mut Statements<'_>, keep: &Options) -> rusqlite::Result<()> {
        let now = Instant::now();
        if now < self.next {
            return Ok(());
        }
        self.next = now + EVERY;
        let (died, given) = (before(keep.dead_letter_age), before(REPLAY_AGE));
        let beyond = quarantine::beyond(statements.db, &keep.quarantine)?;
        if beyond == 0 && !is_past(statements.db, died, given)? {
            return Ok(());
        }
        // Nothing is lost if a power cut undoes it.
        let removed = statements.transaction(Sync::Lazy, |statements| {
            Ok(remove(statements.db, died, given)?.max(quarantine::remove(statements.db, beyond)?))
        })?;
        if removed >= BATCH {
            self.next = now;
        }
        Ok(())
    }
}

fn before(age: Duration) -> i64 {
    clock::now_ms().saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
}

fn is_past(db: &Connection, died: i64, given: i64) -> rusqlite::Result<bool> {
    db.prepare(
        "SELECT EXISTS (SELECT 1 FROM dead_letter WHERE died_at < ?1)
             OR EXISTS (SELECT 1 FROM replay WHERE given_at < ?2)",
    )?
    .query_row([died, given], |row| row.get(0))
}

fn remove(db: &Connection, died: i64, given: i64) -> rusqlite::Result<usize> {
    let letters = db
        .prepare(
            "DELETE FROM dead_letter WHERE number IN
                 (SELECT number FROM dead_letter WHERE died_at < ?1 ORDER BY died_at LIMIT ?2)",
        )?
        .execute(params![died, BATCH])?;
    let replayed = db
        .prepare(
            "DELETE FROM replayed WHERE (replay, sequence) IN
                 (SELECT replay, sequence FROM replayed
                  WHERE replay = (SELECT number FROM replay WHERE given_at < ?1 LIMIT 1) LIMIT ?2)",
        )?
        .execute(params![given, BATCH])?;
    let replays = db
        .prepare(
            "DELETE FROM replay WHERE given_at < ?1
             AND NOT EXISTS (SELECT 1 FROM replayed WHERE replayed.replay = replay.number)",
        )?
        .execute([given])?;
    Ok(letters.max(replayed).max(replays * BATCH))
}
