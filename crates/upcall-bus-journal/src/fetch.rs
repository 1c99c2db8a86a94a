//! What a subscription reads: returned deliveries, due retries, redeliveries, and new events, with a connection of its
//! own.

use std::collections::BTreeSet;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::oneshot;
use upcall_bus::Settlement;
use upcall_event::{Event, InvalidSubject, Subject};

use crate::clock;
use crate::queue::{Request, SettleRequest};
use crate::redelivery;
use crate::session::{AHEAD_MAX, Item, Session, next_due};

/// How many rows one fetch reads at most, so that a filter that selects little holds no snapshot for long.
const SCAN_MAX: usize = 1_024;
/// What the payloads of one fetch take in memory, about.
pub(crate) const FETCH_BYTES_MAX: usize = 4 << 20;

/// An event that was read for a consumer.
pub(crate) struct Fetched {
    pub(crate) item: Item,
    pub(crate) sequence: u64,
    pub(crate) attempt: u32,
    pub(crate) subject: Subject,
    pub(crate) event: Event,
}

/// The same, as it was written.
pub(crate) struct Row {
    pub(crate) item: Item,
    pub(crate) sequence: u64,
    pub(crate) attempt: u32,
    /// Text that is no subject was put there by hand. It is fetched, and becomes a dead letter.
    pub(crate) subject: Result<Subject, InvalidSubject>,
    pub(crate) payload: String,
}

impl Row {
    pub(crate) fn read(row: &rusqlite::Row<'_>, item: Item, attempt: u32) -> rusqlite::Result<Self> {
        let subject = row.get_ref(1)?.as_str()?.parse();
        Ok(Self { item, sequence: row.get(0)?, attempt, subject, payload: row.get(2)? })
    }
}

/// What a fetch is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// The newest event that may be fetched.
    pub(crate) last: u64,
    /// How many events there may be.
    pub(crate) max: usize,
    /// Whether to find out what other processes have given.
    pub(crate) look: bool,
}

/// Reads events that are due for a consumer: the returned ones, then the retries, then by turns redeliveries and new
/// ones. Only one fetch runs at a time for a session.
pub(crate) fn fetch(db: &Connection, session: &Arc<Session>, wanted: Wanted) -> rusqlite::Result<Vec<Fetched>> {
    let mut rows = Vec::new();
    if let Err(error) = gather(db, session, wanted, &mut rows) {
        // What was taken out before it failed comes with a later fetch.
        rows.iter().for_each(|row| session.hand_back(row.item, row.sequence, row.attempt));
        return Err(error);
    }
    let readable = rows.into_iter().filter_map(|row| {
        let Row { item, sequence, attempt, subject, payload } = row;
        let reason = match (subject, Event::from_structured(payload.as_bytes())) {
            (Ok(subject), Ok(event)) => return Some(Fetched { item, sequence, attempt, subject, event }),
            (_, Err(error)) => format!("the journal's row is no event: {error}"),
            (Err(error), _) => error.to_string(),
        };
        bury(session, (item, sequence, attempt), reason);
        None
    });
    Ok(readable.collect())
}

fn gather(db: &Connection, session: &Session, wanted: Wanted, rows: &mut Vec<Row>) -> rusqlite::Result<()> {
    if wanted.look {
        redelivery::look(db, session)?;
    }
    let given_first = {
        let first = &mut session.lock().redelivered.first;
        *first = !*first;
        *first
    };
    let news: Source = |db, session, wanted, max| news(db, session, wanted.last, max);
    let given: Source = |db, session, _, max| redelivery::due(db, session, max);
    let (third, fourth) = if given_first { (given, news) } else { (news, given) };
    let sources: [Source; 5] = [
        |db, session, _, max| returned(db, session, max),
        |db, session, _, max| redelivery::returned(db, session, max),
        |db, session, _, max| retries(db, session, max),
        third,
        fourth,
    ];
    for source in sources {
        if rows.len() < wanted.max {
            rows.extend(source(db, session, wanted, wanted.max - rows.len())?);
        }
    }
    Ok(())
}

/// Reads up to so many rows.
type Source = fn(&Connection, &Session, Wanted, usize) -> rusqlite::Result<Vec<Row>>;

fn returned(db: &Connection, session: &Session, max: usize) -> rusqlite::Result<Vec<Row>> {
    let wanted: Vec<(u64, u32)> = session.lock().returned.iter().take(max).map(|(s, a)| (*s, *a)).collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let mut statement = db.prepare("SELECT sequence, subject, payload FROM event WHERE sequence = ?1")?;
    let mut rows = Vec::with_capacity(wanted.len());
    for (sequence, attempt) in &wanted {
        rows.push(statement.query_row([sequence], |row| Row::read(row, Item::Event, *attempt)).optional()?);
    }
    let mut state = session.lock();
    for ((sequence, _), row) in wanted.iter().zip(&rows) {
        state.returned.remove(sequence);
        if row.is_none() {
            // Retention was told to take what is unsettled.
            state.fresh.remove(sequence);
            state.retried.remove(sequence);
        }
    }
    Ok(rows.into_iter().flatten().collect())
}

fn retries(db: &Connection, session: &Session, max: usize) -> rusqlite::Result<Vec<Row>> {
    let now = clock::steady_ms();
    // What is settled while we read has still its old row in our snapshot, so that what was held before we began
    // counts as held. A retry that is committed while we read sets `next_due` after we have cleared it.
    let held: BTreeSet<u64> = {
        let mut state = session.lock();
        if state.next_due.is_none_or(|due| due > now) {
            return Ok(Vec::new());
        }
        let held: BTreeSet<u64> = state.fresh.union(&state.retried).copied().collect();
        let room = session.in_flight_max.saturating_sub(state.in_flight());
        if room == 0 {
            return Ok(Vec::new());
        }
        state.next_due = None;
        held
    };
    let read = || {
        let mut statement = db.prepare(
            "SELECT event.sequence, subject, payload, attempts FROM retry JOIN event USING (sequence)
             WHERE consumer = ?1 AND due_at <= ?2 ORDER BY due_at",
        )?;
        let mut rows = statement.query(params![session.name, now])?;
        let (mut found, mut more) = (Vec::new(), false);
        while let Some(row) = rows.next()? {
            if held.contains(&row.get(0)?) {
                continue;
            }
            if found.len() == max {
                more = true;
                break;
            }
            let attempts: u32 = row.get(3)?;
            found.push(Row::read(row, Item::Event, attempts.saturating_add(1))?);
        }
        let next = if more { Some(now) } else { next_due(db, &session.name, now)? };
        Ok((found, next))
    };
    match read() {
        Ok((mut found, next)) => {
            let mut state = session.lock();
            state.due_by(next);
            found.sort_by_key(|row| row.sequence);
            state.retried.extend(found.iter().map(|row| row.sequence));
            Ok(found)
        }
        Err(error) => {
            session.lock().due_by(Some(now));
            Err(error)
        }
    }
}

fn news(db: &Connection, session: &Session, last: u64, max: usize) -> rusqlite::Result<Vec<Row>> {
    let (scanned, room) = {
        let state = session.lock();
        if state.ahead.len() >= AHEAD_MAX || state.scanned >= last {
            return Ok(Vec::new());
        }
        (state.scanned, session.in_flight_max.saturating_sub(state.in_flight()).min(max))
    };
    let mut statement = db.prepare(
        "SELECT sequence, subject, payload FROM event WHERE sequence > ?1 AND sequence <= ?2 ORDER BY sequence LIMIT ?3",
    )?;
    let mut rows = statement.query(params![scanned, last, SCAN_MAX])?;
    let (mut found, mut bytes, mut seen, mut to) = (Vec::new(), 0, 0, scanned);
    let mut state_now = session.lock();
    // Rows above the floor that are settled or wait for a retry: known from before, and not changed by others.
    let ahead: BTreeSet<u64> = state_now.ahead.range(scanned + 1..).copied().collect();
    drop(state_now);
    loop {
        if found.len() >= room || bytes >= FETCH_BYTES_MAX {
            break;
        }
        let Some(row) = rows.next()? else {
            if seen < SCAN_MAX {
                to = to.max(last);
            }
            break;
        };
        seen += 1;
        to = row.get(0)?;
        let Ok(text) = row.get_ref(1)?.as_str() else { continue };
        let subject: Result<Subject, _> = text.parse();
        let is_selected = subject.as_ref().map_or(true, |subject| session.filter.matches(subject));
        if is_selected && !ahead.contains(&to) {
            let payload: String = row.get(2)?;
            bytes += payload.len();
            found.push(Row { item: Item::Event, sequence: to, attempt: 1, subject, payload });
        }
    }
    state_now = session.lock();
    state_now.fresh.extend(found.iter().map(|row| row.sequence));
    state_now.scanned = state_now.scanned.max(to);
    Ok(found)
}

/// Puts aside what somebody has spoilt by hand: it can't be delivered.
fn bury(session: &Arc<Session>, (item, sequence, attempt): (Item, u64, u32), reason: String) {
    let (done, _) = oneshot::channel();
    let request = SettleRequest {
        session: Arc::clone(session),
        item,
        sequence,
        attempt,
        settlement: Settlement::DeadLetter { reason },
        due_at: 0,
        done,
    };
    let _ = session.queue.request(Request::Settle(request));
}
