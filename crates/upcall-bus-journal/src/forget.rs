//! Forgetting a consumer, so that nothing is kept for it any more.

use std::path::Path;

use rusqlite::Connection;
use upcall_bus::ConsumerName;

use crate::schema::DATABASE;
use crate::{OpenError, database, lock};

/// Every table with a row for each thing that is kept for a consumer, but for its dead letters.
const TABLES: [&str; 4] = ["settled", "retry", "redelivery", "replay"];

/// Forgets a consumer of the journal that nobody has open: how far it is, what waits for it, and what it was given again.
/// Nothing is kept for it from then on; its dead letters stay. One of its name begins anew. Returns whether there was one.
///
/// # Errors
/// If a process has the journal open, there is none, or it can't be written.
pub fn forget(folder: &Path, consumer: &ConsumerName) -> Result<bool, OpenError> {
    let file = folder.join(DATABASE);
    if !file.exists() {
        return Err(OpenError::Missing { folder: folder.to_owned() });
    }
    let _lock = lock::lock(folder)?;
    let mut db = database::open(folder)?;
    delete(&mut db, consumer.as_str()).map_err(|source| OpenError::database(file, source))
}

fn delete(db: &mut Connection, consumer: &str) -> rusqlite::Result<bool> {
    let transaction = db.transaction()?;
    transaction
        .execute("DELETE FROM replayed WHERE replay IN (SELECT number FROM replay WHERE consumer = ?1)", [consumer])?;
    for table in TABLES {
        transaction.execute(&format!("DELETE FROM {table} WHERE consumer = ?1"), [consumer])?;
    }
    let forgotten = transaction.execute("DELETE FROM consumer WHERE name = ?1", [consumer])? > 0;
    transaction.commit()?;
    Ok(forgotten)
}
