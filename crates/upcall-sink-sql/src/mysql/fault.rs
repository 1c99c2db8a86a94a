//! What MySQL's and MariaDB's errors mean.

use sqlx::mysql::MySqlDatabaseError;

use crate::database::Fault;

/// Numbers of errors (<https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html>,
/// <https://mariadb.com/kb/en/mariadb-error-code-reference/>), as far as their SQLSTATE does not say enough.
mod number {
    /// A deadlock, a lock that was not to be had in time, a row that changed since the snapshot.
    pub(super) const CONFLICTS: [u16; 3] = [1213, 1205, 1020];
    /// Access denied to the database, the command, the column, the privilege, the routine.
    pub(super) const DENIED: [u16; 5] = [1044, 1142, 1143, 1227, 1370];
    /// Access denied as the user.
    pub(super) const REFUSED: [u16; 2] = [1045, 1698];
    /// The statement's time is over: MySQL's `max_execution_time`, MariaDB's `max_statement_time`.
    pub(super) const TIMEOUTS: [u16; 3] = [3024, 1969, 1317];
    /// No value for a column without a default; a value or text that does not fit its column; a row that is too
    /// large; JSON that is none; a check that fails; a `SIGNAL`.
    pub(super) const ROWS: [u16; 10] = [1364, 1366, 1118, 3140, 3141, 3819, 4025, 1644, 1265, 1411];
    /// The server as it is: full, without memory, shutting down, read-only, of too many connections, with a table that
    /// is broken, a storage engine that fails, a binary log that can't be written so, a connection that was ended.
    pub(super) const SERVER: [u16; 27] = [
        1021, 1026, 1030, 1034, 1035, 1037, 1038, 1040, 1041, 1053, 1114, 1129, 1130, 1158, 1159, 1160, 1161, 1180,
        1194, 1195, 1203, 1226, 1290, 1665, 1792, 1836, 1927,
    ];
}

/// What an error means.
pub(super) fn of(error: &sqlx::Error) -> Fault {
    if is_too_large(error) {
        return Fault::Row;
    }
    let Some(database) = error.as_database_error() else { return Fault::Unavailable };
    let number = database.try_downcast_ref::<MySqlDatabaseError>().map_or(0, MySqlDatabaseError::number);
    let state = database.code();
    match number {
        _ if number::CONFLICTS.contains(&number) => Fault::Conflict,
        _ if number::DENIED.contains(&number) => Fault::Denied,
        _ if number::REFUSED.contains(&number) => Fault::Unavailable,
        _ if number::TIMEOUTS.contains(&number) => Fault::Timeout,
        _ if number::ROWS.contains(&number) => Fault::Row,
        _ if number::SERVER.contains(&number) => Fault::Unavailable,
        _ => match state.as_deref().and_then(|state| state.get(..2)) {
            Some("21" | "22" | "23" | "44" | "45") => Fault::Row,
            Some("08" | "25" | "28" | "70") => Fault::Unavailable,
            // Whatever else it is, such as texts that can't be compared: if the tables are in order, it is the row.
            _ => Fault::Schema,
        },
    }
}

/// A row that the server does not take at once.
#[derive(Debug, thiserror::Error)]
#[error("the row has about {size} bytes, and the server takes {max} at once (max_allowed_packet)")]
struct TooLarge {
    size: usize,
    max: usize,
}

/// Refuses a row that the server would hang up on.
pub(super) fn too_large(size: usize, max: usize) -> sqlx::Error {
    sqlx::Error::Encode(Box::new(TooLarge { size, max }))
}

fn is_too_large(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Encode(source) if source.is::<TooLarge>())
}
