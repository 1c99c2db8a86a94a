//! Recognising an event by its id.
//!
//! Ids are hashes. An index of them alone is changed in random order: nearly every event would write a page of it to
//! the log. So the table `event_id` is ordered by the time in the request id first, and written in sorted batches;
//! until then an id is in memory, from where a crash takes nothing: it is in the event's row, too.

use std::collections::HashMap;

use rusqlite::{Connection, params};
use upcall_event::{Event, EventId};

use crate::statements::Statements;

/// How many ids go into the table together: at 40,000 events a second each of its pages is then written for ten ids at
/// a time, and not for one.
const BATCH: usize = if cfg!(test) { 64 } else { 4_096 };
/// How many of these one transaction takes, so that no publisher waits for a whole batch.
const SLICE: usize = if cfg!(test) { 8 } else { 256 };
/// How many ids of a batch go into the table for each event that is stored meanwhile: the batch is done before the
/// next one is full.
const PACE: usize = 2;
/// How many ids may be in memory when a journal is opened: more than a batch that is begun and a batch that is not, also
/// after some crashes in the midst of one. They take 2 MB.
const LOAD_MAX: usize = 8 * BATCH;
/// How many ids are put into the table at once when a journal is opened that has them from an older schema.
const CATCH_UP: usize = if cfg!(test) { 600 } else { 65_536 };

const _: () = assert!(CATCH_UP > LOAD_MAX, "else not all ids would be read");

/// An id, with the time that makes it easy to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// When OSS took the request that the id is made of, in seconds since 1970; 0 where that is not known.
    pub(crate) epoch: u32,
    pub(crate) id: EventId,
}

impl Key {
    pub(crate) fn new(event: &Event) -> Self {
        Self { epoch: event.request_second().unwrap_or(0), id: event.id }
    }
}

/// The ids of all events: in memory those of the newest ones, in the table the others.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Ids for a later batch.
    young: HashMap<EventId, Entry>,
    /// Those of `young` that the running transaction has stored.
    added: Vec<EventId>,
    /// Ids that are on their way into the table.
    batch: HashMap<EventId, Entry>,
    /// The same, in the table's order.
    order: Vec<Entry>,
    /// How many of these are in the table, and how many once the running transaction is committed.
    moved: usize,
    moving: usize,
    /// How many may go into the table for what was stored meanwhile.
    owed: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    key: Key,
    sequence: u64,
}

impl Index {
    /// Reads the ids that are not in the table. Those that are too many, as when the table is new, are put into it.
    pub(crate) fn load(db: &Connection) -> rusqlite::Result<Self> {
        loop {
            let mut entries = unindexed(db)?;
            if entries.len() <= LOAD_MAX {
                let young = entries.into_iter().map(|entry| (entry.key.id, entry)).collect();
                return Ok(Self { young, ..Self::default() });
            }
            let last = entries.iter().map(|entry| entry.sequence).max();
            entries.sort_unstable();
            let transaction = db.unchecked_transaction()?;
            let mut put = db.prepare(PUT)?;
            for Entry { key, sequence } in entries {
                put.execute(params![key.epoch, key.id.as_bytes(), sequence])?;
            }
            db.execute(INDEXED, [last])?;
            transaction.commit()?;
        }
    }

    /// Whether an event with this id is stored.
    pub(crate) fn knows(&self, statements: &mut Statements<'_>, key: Key) -> rusqlite::Result<bool> {
        Ok(self.young.contains_key(&key.id) || self.batch.contains_key(&key.id) || statements.has_id(key)?)
    }

    /// Notes an event that the running transaction stores.
    pub(crate) fn add(&mut self, key: Key, sequence: u64) {
        self.young.insert(key.id, Entry { key, sequence });
        self.added.push(key.id);
    }

    /// Puts ids into the table, in the running transaction: as many as are due after what it has stored.
    pub(crate) fn move_on(&mut self, statements: &mut Statements<'_>) -> rusqlite::Result<()> {
        self.moving = self.moved;
        let due = self.owed + PACE * self.added.len();
        if self.order.is_empty() || due < SLICE {
            return Ok(());
        }
        for entry in self.order[self.moved..].iter().take(due) {
            self.moving += 1;
            // Retention may have taken it meanwhile.
            if self.batch.get(&entry.key.id) == Some(entry) {
                statements.put_id(entry.key, entry.sequence)?;
            }
        }
        if self.moving == self.order.len()
            && let Some(last) = self.order.iter().map(|entry| entry.sequence).max()
        {
            statements.set_indexed(last)?;
        }
        Ok(())
    }

    /// The running transaction was committed.
    pub(crate) fn committed(&mut self) {
        let stored = self.added.drain(..).len();
        if self.order.is_empty() {
            return;
        }
        self.owed = if self.moving > self.moved { 0 } else { self.owed + PACE * stored };
        self.moved = self.moving;
        if self.moved == self.order.len() {
            self.batch.clear();
            self.order.clear();
        }
    }

    /// The running transaction has failed.
    pub(crate) fn undone(&mut self) {
        for id in self.added.drain(..) {
            self.young.remove(&id);
        }
        self.moving = self.moved;
    }

    /// Begins a batch if there are enough ids for one. To be called when nobody waits.
    pub(crate) fn tidy(&mut self) {
        if self.order.is_empty() && self.young.len() >= BATCH {
            std::mem::swap(&mut self.young, &mut self.batch);
            self.order.extend(self.batch.values());
            self.order.sort_unstable();
            (self.moved, self.moving, self.owed) = (0, 0, 0);
        }
    }

    /// Forgets events that are removed.
    pub(crate) fn forget(&mut self, keys: impl IntoIterator<Item = Key>) {
        for Key { id, .. } in keys {
            self.young.remove(&id);
            self.batch.remove(&id);
        }
    }
}

/// What puts an id into the table; a part of a batch may be there already from before a crash.
pub(crate) const PUT: &str = "INSERT INTO event_id (epoch, id, sequence) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
pub(crate) const INDEXED: &str = "UPDATE state SET indexed_up_to = ?1";

fn unindexed(db: &Connection) -> rusqlite::Result<Vec<Entry>> {
    let mut statement = db.prepare(
        "SELECT sequence, epoch, id FROM event WHERE sequence > (SELECT indexed_up_to FROM state)
         ORDER BY sequence LIMIT ?1",
    )?;
    let entries = statement.query_map([CATCH_UP], |row| {
        let key = Key { epoch: row.get(1)?, id: EventId::from_bytes(row.get(2)?) };
        Ok(Entry { key, sequence: row.get(0)? })
    })?;
    entries.collect()
}
