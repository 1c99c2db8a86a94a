//! The tables, and how a file gets them.

use std::path::Path;

use rusqlite::types::ToSqlOutput;
use rusqlite::{Connection, params};
use upcall_event::Event;

use crate::OpenError;
use crate::index::Key;

/// The database, in the journal's folder. SQLite puts `-wal` and `-shm` beside it.
pub(crate) const DATABASE: &str = "journal.db";
/// Its write-ahead log.
pub(crate) const LOG: &str = "journal.db-wal";
/// Locked while a process has the journal open for writing.
pub(crate) const LOCK: &str = "journal.lock";

/// `UPCJ`: tells our files from other databases.
const APPLICATION_ID: i64 = 0x5550_434A;

/// What leads from each schema to the next; `user_version` is the number of those that were run.
/// An entry that was released is never changed: a new one is added.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
    include_str!("schema/5.sql"),
];

/// Gives a new file its tables, and an older one those that it lacks.
pub(crate) fn migrate(db: &mut Connection, file: &Path) -> Result<(), OpenError> {
    let error = |source| OpenError::database(file.to_owned(), source);
    let found = check(db, file)?;
    if found == version() {
        // Nothing is written: a journal opens on a full disk, too.
        return Ok(());
    }
    let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(error)?;
    for (number, migration) in (1..).zip(MIGRATIONS).skip(usize::try_from(found).unwrap_or(usize::MAX)) {
        transaction.execute_batch(migration).map_err(error)?;
        if number == 2 {
            carry_events_over(&transaction).map_err(error)?;
        }
    }
    transaction.pragma_update(None, "user_version", version()).map_err(error)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(error)?;
    transaction.commit().map_err(error)
}

/// The part of the second schema that SQL can't do: an event gets the time of its id.
fn carry_events_over(db: &Connection) -> rusqlite::Result<()> {
    let mut old = db.prepare("SELECT sequence, id, subject, stored_at, payload FROM event_1 ORDER BY sequence")?;
    let mut new = db.prepare(
        "INSERT INTO event (sequence, id, epoch, subject, stored_at, payload) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    let mut rows = old.query(())?;
    while let Some(row) = rows.next()? {
        let column = |index| row.get_ref(index);
        // What is no event was put there by hand; nobody publishes it again.
        let event = Event::from_structured(row.get_ref(4)?.as_bytes().unwrap_or_default());
        let epoch = event.map_or(0, |event| Key::new(&event).epoch);
        new.execute(params![
            row.get::<_, u64>(0)?,
            ToSqlOutput::Borrowed(column(1)?),
            epoch,
            ToSqlOutput::Borrowed(column(2)?),
            ToSqlOutput::Borrowed(column(3)?),
            ToSqlOutput::Borrowed(column(4)?),
        ])?;
    }
    drop(rows);
    db.execute_batch("DROP TABLE event_1")
}

/// Tells the schema of a file, 0 for an empty one, after making sure that it is ours and not newer than we are.
pub(crate) fn check(db: &Connection, file: &Path) -> Result<i64, OpenError> {
    let error = |source| OpenError::database(file.to_owned(), source);
    let number = |pragma| db.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).map_err(error);
    let (application, found, changes) = (number("application_id")?, number("user_version")?, number("schema_version")?);
    let empty = application == 0 && found == 0 && changes == 0;
    match found {
        _ if !empty && application != APPLICATION_ID => Err(OpenError::Foreign { file: file.to_owned() }),
        found if found > version() => Err(OpenError::Newer { file: file.to_owned(), found, known: version() }),
        found => Ok(found),
    }
}

/// The newest schema.
pub(crate) fn version() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}
