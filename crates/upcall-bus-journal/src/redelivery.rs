//! Events that are given to a consumer again: what its subscription reads of them, and how they are settled.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension, Statement, params};
use upcall_bus::Settlement;

use crate::clock;
use crate::fetch::{FETCH_BYTES_MAX, Row};
use crate::queue::SettleRequest;
use crate::session::{Item, Session};

/// What a session knows of its redeliveries. In flight they are held by their numbers: an event may be given again
/// while the consumer holds it.
#[derive(Default)]
pub(crate) struct Redeliveries {
    /// Fetched and not settled.
    pub(crate) held: BTreeSet<u64>,
    /// Handed back, with the number of the attempt; part of `held`.
    pub(crate) returned: BTreeMap<u64, u32>,
    /// When the next one is due, as far as is known.
    pub(crate) next_due: Option<i64>,
    /// Whether they come before new events in the next fetch; they take turns.
    pub(crate) first: bool,
    /// The database's version when it was last looked at.
    seen: Option<i64>,
}

impl Redeliveries {
    pub(crate) fn in_flight(&self) -> usize {
        self.held.len() - self.returned.len()
    }

    pub(crate) fn due_by(&mut self, moment: Option<i64>) {
        self.next_due = [self.next_due, moment].into_iter().flatten().min();
    }

    /// Has the table read at the next fetch: something was given.
    pub(crate) fn look(&mut self) {
        self.next_due = Some(i64::MIN);
    }
}

/// Finds out whether another process may have given something: whether anybody has written since the last call.
pub(crate) fn look(db: &Connection, session: &Session) -> rusqlite::Result<()> {
    let version = db.pragma_query_value(None, "data_version", |row| row.get(0))?;
    let mut state = session.lock();
    if state.redelivered.seen.replace(version) != Some(version) {
        state.redelivered.look();
    }
    Ok(())
}

/// Reads what was handed back.
pub(crate) fn returned(db: &Connection, session: &Session, max: usize) -> rusqlite::Result<Vec<Row>> {
    let wanted: Vec<(u64, u32)> =
        session.lock().redelivered.returned.iter().take(max).map(|(number, attempt)| (*number, *attempt)).collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let mut rows = Vec::with_capacity(wanted.len());
    let mut statement = db.prepare(READ)?;
    for (number, attempt) in &wanted {
        rows.push(read(&mut statement, *number)?.map(|row| Row { attempt: *attempt, ..row }));
    }
    let mut state = session.lock();
    for ((number, _), row) in wanted.iter().zip(&rows) {
        state.redelivered.returned.remove(number);
        if row.is_none() {
            // A settlement that failed was committed after all.
            state.redelivered.held.remove(number);
        }
    }
    Ok(rows.into_iter().flatten().collect())
}

/// Reads what is due.
pub(crate) fn due(db: &Connection, session: &Session, max: usize) -> rusqlite::Result<Vec<Row>> {
    let now = clock::steady_ms();
    // As for retries: what was held before we began counts as held, and what is committed while we read sets
    // `next_due` after we have cleared it.
    let (held, max) = {
        let mut state = session.lock();
        if state.redelivered.next_due.is_none_or(|due| due > now) {
            return Ok(Vec::new());
        }
        let max = session.in_flight_max.saturating_sub(state.in_flight()).min(max);
        if max == 0 {
            return Ok(Vec::new());
        }
        state.redelivered.next_due = None;
        (state.redelivered.held.clone(), max)
    };
    let result = unheld(db, session, &held, now, max);
    let mut state = session.lock();
    match &result {
        Ok((rows, next)) => {
            state.redelivered.due_by(*next);
            state.redelivered.held.extend(rows.iter().filter_map(|row| match row.item {
                Item::Redelivery(number) => Some(number),
                Item::Event => None,
            }));
        }
        Err(_) => state.redelivered.look(),
    }
    drop(state);
    result.map(|(rows, _)| rows)
}

/// Up to `max` that are due and not held, and when the next ones are.
fn unheld(
    db: &Connection,
    session: &Session,
    held: &BTreeSet<u64>,
    now: i64,
    max: usize,
) -> rusqlite::Result<(Vec<Row>, Option<i64>)> {
    // The numbers come out of the index alone: what is held is passed over without being read.
    let mut index =
        db.prepare("SELECT number FROM redelivery WHERE consumer = ?1 AND due_at <= ?2 ORDER BY due_at, number")?;
    let mut numbers = index.query(params![session.name, now])?;
    let (mut statement, mut rows, mut bytes) = (db.prepare(READ)?, Vec::new(), 0);
    while let Some(number) = numbers.next()? {
        let number = number.get(0)?;
        if held.contains(&number) {
            continue;
        }
        if rows.len() == max || bytes >= FETCH_BYTES_MAX {
            return Ok((rows, Some(now)));
        }
        if let Some(row) = read(&mut statement, number)? {
            bytes += row.payload.len();
            rows.push(row);
        }
    }
    drop(numbers);
    Ok((rows, next_due(db, &session.name, now)?))
}

const READ: &str = "SELECT sequence, subject, payload, attempts FROM redelivery WHERE number = ?1";

fn read(statement: &mut Statement<'_>, number: u64) -> rusqlite::Result<Option<Row>> {
    let row = statement.query_row([number], |row| {
        let attempts: u32 = row.get(3)?;
        Row::read(row, Item::Redelivery(number), attempts.saturating_add(1))
    });
    row.optional()
}

/// When the first redelivery of a consumer after this moment is due.
fn next_due(db: &Connection, consumer: &str, after: i64) -> rusqlite::Result<Option<i64>> {
    db.prepare("SELECT due_at FROM redelivery WHERE consumer = ?1 AND due_at > ?2 ORDER BY due_at LIMIT 1")?
        .query_row(params![consumer, after], |row| row.get(0))
        .optional()
}

/// Writes a settlement.
pub(crate) fn settle(db: &Connection, number: u64, request: &SettleRequest) -> rusqlite::Result<()> {
    match &request.settlement {
        Settlement::Retry { .. } => {
            let sql = "UPDATE redelivery SET set_at = ?2, due_at = ?3, attempts = ?4, reason = ?5 WHERE number = ?1";
            let (set_at, due_at) = (clock::steady_ms(), request.due_at);
            db.prepare(sql)?.execute(params![number, set_at, due_at, request.attempt, request.reason()])?;
            return Ok(());
        }
        Settlement::DeadLetter { .. } => {
            // One that is there already is of an earlier death.
            let sql = "INSERT OR REPLACE INTO dead_letter
                           (consumer, sequence, id, subject, stored_at, payload, reason, attempts, died_at)
                       SELECT consumer, sequence, id, subject, stored_at, payload, ?2, ?3, ?4
                       FROM redelivery WHERE number = ?1";
            db.prepare(sql)?.execute(params![number, request.reason(), request.attempt, clock::now_ms()])?;
        }
        Settlement::Ack | Settlement::HandBack => {}
    }
    db.prepare("DELETE FROM redelivery WHERE number = ?1")?.execute([number])?;
    Ok(())
}
