//! A consumer that is being read: where its subscription is, and what it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::Notify;
use upcall_event::SubjectFilter;

use crate::queue::{Queue, Request};
use crate::redelivery::Redeliveries;

/// How many events above the floor may be settled out of order before no further ones are fetched: one delivery that
/// is never settled must not fill the memory.
pub(crate) const AHEAD_MAX: usize = 65_536;

/// What a delivery is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Item {
    /// An event, for the first time or out of `retry`.
    Event,
    /// The row of this number in `redelivery`.
    Redelivery(u64),
}

/// A consumer that is being read. The writer changes what is durable, the subscription what is fetched.
pub(crate) struct Session {
    pub(crate) name: String,
    pub(crate) filter: SubjectFilter,
    pub(crate) in_flight_max: usize,
    pub(crate) queue: Arc<Queue>,
    /// The subscription may go on: something was settled, returned or will be due.
    pub(crate) wake: Notify,
    state: Mutex<State>,
}

/// Where a session is.
#[derive(Default)]
pub(crate) struct State {
    /// As in the table: everything up to here is settled, waits for a retry, or is not selected.
    pub(crate) floor: u64,
    /// Everything up to here was looked at. Only fetching moves it.
    pub(crate) scanned: u64,
    /// Fetched for the first time and not settled; all above the floor.
    pub(crate) fresh: BTreeSet<u64>,
    /// Fetched again out of the retries and not settled.
    pub(crate) retried: BTreeSet<u64>,
    /// Handed back, with the number of the attempt; part of `fresh` or `retried`.
    pub(crate) returned: BTreeMap<u64, u32>,
    /// Above the floor, but settled or waiting for a retry.
    pub(crate) ahead: BTreeSet<u64>,
    /// Whether rows of `settled` are in the table.
    pub(crate) has_settled_rows: bool,
    /// Whether rows of `retry` may be there for events that are in `fresh`: a transaction's fate was uncertain.
    pub(crate) retry_rows_uncertain: bool,
    /// When the next retry is due, as far as is known.
    pub(crate) next_due: Option<i64>,
    /// What it was given again.
    pub(crate) redelivered: Redeliveries,
    /// The subscription is gone; what it held is somebody else's.
    pub(crate) released: bool,
}

impl Session {
    /// Loads what is durable of a consumer.
    pub(crate) fn load(
        db: &Connection,
        name: String,
        filter: SubjectFilter,
        in_flight_max: usize,
        queue: Arc<Queue>,
    ) -> rusqlite::Result<Self> {
        let floor: u64 = db.query_row("SELECT floor FROM consumer WHERE name = ?1", [&name], |row| row.get(0))?;
        let mut statement = db.prepare(
            "SELECT sequence, 1 FROM settled WHERE consumer = ?1 AND sequence > ?2
             UNION ALL SELECT sequence, 0 FROM retry WHERE consumer = ?1 AND sequence > ?2",
        )?;
        let mut state = State { floor, scanned: floor, ..State::default() };
        let mut rows = statement.query(params![name, floor])?;
        while let Some(row) = rows.next()? {
            state.ahead.insert(row.get(0)?);
            state.has_settled_rows |= row.get::<_, bool>(1)?;
        }
        state.next_due = next_due(db, &name, i64::MIN)?;
        Ok(Self { name, filter, in_flight_max, queue, wake: Notify::new(), state: Mutex::new(state) })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes over everything up to here, where nothing of it is held.
    pub(crate) fn scan_to(&self, sequence: u64) {
        let mut state = self.lock();
        state.scanned = state.scanned.max(sequence);
    }

    /// Has a delivery come again at once.
    pub(crate) fn hand_back(&self, item: Item, sequence: u64, attempt: u32) {
        let mut state = self.lock();
        if state.holds(item, sequence) {
            match item {
                Item::Event => state.returned.insert(sequence, attempt),
                Item::Redelivery(number) => state.redelivered.returned.insert(number, attempt),
            };
            drop(state);
            self.wake.notify_one();
        }
    }
}

impl State {
    /// Whether the consumer holds a delivery of this.
    pub(crate) fn holds(&self, item: Item, sequence: u64) -> bool {
        !self.released
            && match item {
                Item::Event => self.fresh.contains(&sequence) || self.retried.contains(&sequence),
                Item::Redelivery(number) => self.redelivered.held.contains(&number),
            }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.fresh.len() + self.retried.len() - self.returned.len() + self.redelivered.in_flight()
    }

    /// The floor once these are settled.
    pub(crate) fn floor_without(&self, settled: &BTreeSet<u64>) -> u64 {
        let unsettled = self.fresh.iter().find(|sequence| !settled.contains(sequence));
        let floor = unsettled.map_or(self.scanned, |sequence| sequence - 1);
        floor.max(self.floor)
    }

    /// Takes over a floor that is durable.
    pub(crate) fn raise_floor(&mut self, floor: u64) {
        if floor > self.floor {
            self.floor = floor;
            self.scanned = self.scanned.max(floor);
            if self.ahead.first().is_some_and(|first| *first <= floor) {
                self.ahead = self.ahead.split_off(&(floor + 1));
            }
        }
    }

    pub(crate) fn due_by(&mut self, moment: Option<i64>) {
        self.next_due = [self.next_due, moment].into_iter().flatten().min();
    }
}

/// When the first retry of a consumer after this moment is due.
pub(crate) fn next_due(db: &Connection, consumer: &str, after: i64) -> rusqlite::Result<Option<i64>> {
    db.query_row(
        "SELECT due_at FROM retry WHERE consumer = ?1 AND due_at > ?2 ORDER BY due_at LIMIT 1",
        params![consumer, after],
        |row| row.get(0),
    )
    .optional()
}

/// The right to read a consumer. Given back when dropped.
pub(crate) struct Lease(pub(crate) Arc<Session>);

impl Drop for Lease {
    fn drop(&mut self) {
        // A closed journal has no more use for it.
        let _ = self.0.queue.request(Request::Release(Arc::clone(&self.0)));
    }
}
