//! The tables, and how a file gets them.

use std::path::Path;

use rusqlite::Connection;

use crate::OpenError;

/// The database, in the journal's folder. SQLite puts `-wal` and `-shm` beside it.
pub(crate) const DATABASE: &str = "journal.db";
/// Locked while a process has the journal open for writing.
pub(crate) const LOCK: &str = "journal.lock";

/// `UPCJ`: tells our files from other databases.
const APPLICATION_ID: i64 = 0x5550_434A;

/// What leads from each schema to the next; `user_version` is the number of those that were run.
/// An entry that was released is never changed: a new one is added.
const MIGRATIONS: &[&str] = &[include_str!("schema/1.sql")];

/// Gives a new file its tables, and an older one those that it lacks.
pub(crate) fn migrate(db: &mut Connection, file: &Path) -> Result<(), OpenError> {
    let error = |source| OpenError::database(file.to_owned(), source);
    let found = check(db, file)?;
    if found == version() {
        // Nothing is written: a journal opens on a full disk, too.
        return Ok(());
    }
    let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(error)?;
    for migration in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(usize::MAX)) {
        transaction.execute_batch(migration).map_err(error)?;
    }
    transaction.pragma_update(None, "user_version", version()).map_err(error)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(error)?;
    transaction.commit().map_err(error)
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
