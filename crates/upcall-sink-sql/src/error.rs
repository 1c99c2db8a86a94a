//! What can be wrong with the options and with the database.

use upcall_consumer::Source;

/// Why there can be no sink with these options.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// The URL names no database that this sink speaks to.
    #[error("the database's URL begins with `sqlite:`, not with {0:?}")]
    Scheme(String),
    /// The URL can't be read.
    #[error("the database's URL can't be read")]
    Url(#[source] Source),
}

/// Why the database did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct StoreError {
    /// What to do about it.
    pub kind: StoreErrorKind,
    /// What the database said.
    #[source]
    pub source: Option<Source>,
}

/// The kinds of trouble with the database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreErrorKind {
    /// The database is out of order: locked, full, unreachable. Later it may go.
    #[error("the database {database} is not available")]
    Unavailable {
        /// Which one, without its password.
        database: String,
    },
    /// What is called the database is not one.
    #[error("{database} is not a database")]
    NotADatabase {
        /// Which one.
        database: String,
    },
    /// There is a table of that name that is not as the sink needs it.
    #[error("the table {table} lacks the columns {}; rename it, or name another", columns.join(", "))]
    MissingColumns {
        /// Which table.
        table: String,
        /// What it lacks.
        columns: Vec<String>,
    },
    /// The sink's statements don't go with the tables as they are.
    #[error("the table {table} does not take the sink's statements: its key has to be (bucket, object)")]
    Unfit {
        /// Which table.
        table: String,
    },
    /// A transaction took too long.
    #[error("the database {database} took too long")]
    Timeout {
        /// Which one.
        database: String,
    },
    /// A row is refused: a constraint, a trigger, a type.
    #[error("the database refuses the row")]
    Row,
}
