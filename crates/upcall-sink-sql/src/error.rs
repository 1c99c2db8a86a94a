//! What can be wrong with the options and with the database.

use upcall_consumer::Source;

/// Why there can be no sink with these options.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// The URL names no database that this sink speaks to.
    #[error("the database's URL begins with `sqlite:`, `postgres:`, `mysql:` or `mariadb:`, not with {0:?}")]
    Scheme(String),
    /// The URL can't be read.
    #[error("the database's URL can't be read")]
    Url(#[source] Source),
    /// The URL has a parameter that the database does not know, and that would have no effect.
    #[error("the database's URL has the parameter `{name}`, which there is not; there are: {}", known.join(", "))]
    Parameter {
        /// Its name.
        name: String,
        /// Those that there are.
        known: Vec<&'static str>,
    },
    /// A parameter of the URL has a value that it does not take.
    #[error("the parameter `{name}` of the database's URL takes {takes}")]
    Value {
        /// The parameter's name.
        name: String,
        /// What it takes.
        takes: String,
    },
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
    /// The user of the database may not do what the sink does.
    #[error(
        "the database {database} denies its user a right: SELECT, INSERT, UPDATE and DELETE on {} are needed, and what a statement of yours takes",
        tables.join(", ")
    )]
    Denied {
        /// Which database, without its password.
        database: String,
        /// The sink's tables.
        tables: Vec<String>,
    },
    /// The user of the database may not make or alter tables.
    #[error(
        "the user of the database {database} may not make or alter tables: let it, or have somebody run {statements} who may; after that SELECT, INSERT, UPDATE and DELETE are enough"
    )]
    DeniedDefinition {
        /// Which database, without its password.
        database: String,
        /// What has to be run.
        statements: String,
    },
    /// The tables could not be made or brought up to date.
    #[error("the tables could not be made in the database {database}")]
    Definition {
        /// Which database, without its password.
        database: String,
    },
    /// The table of applied ids is another consumer's: what that one has applied, this one would leave out.
    #[error(
        "the table {table} has the ids of what the consumer {owner} has applied, which {consumer} would leave out: name another table by `applied`. If {owner} is an old name of {consumer} and runs nowhere any more, run `UPDATE {notes} SET consumer = '{consumer}' WHERE table_name = '{table}'`",
        notes = crate::schema::VERSIONS
    )]
    OthersIds {
        /// Which table.
        table: String,
        /// Whose it is.
        owner: String,
        /// Who wants it.
        consumer: String,
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
    #[error("the table {table} does not take the sink's statements: its key has to be ({})", key.join(", "))]
    Unfit {
        /// Which table.
        table: String,
        /// The columns of the key that it needs.
        key: Vec<String>,
    },
    /// A newer Upcall has made the tables.
    #[error(
        "the table {table} was made by a newer Upcall (layout {version}, this one knows {known}): run that, or name another table"
    )]
    Newer {
        /// Which table.
        table: String,
        /// The layout that it has.
        version: i64,
        /// The newest layout that this version knows.
        known: i64,
    },
    /// There is a unique key that the sink's upsert would follow to the row of another object.
    #[error(
        "the table {table} has the unique key {index} besides (bucket, object): MySQL would update the wrong row; make it a plain index"
    )]
    UniqueKey {
        /// Which table.
        table: String,
        /// Which key.
        index: String,
    },
    /// The user's statement does not go with the database.
    #[error("the database does not take the statement")]
    Statement,
    /// The database can't tell which type a parameter of the user's statement has.
    #[error(
        "the database can't tell which type `{name}` has where it stands in the statement: add a cast, such as `{name}::text`"
    )]
    Untyped {
        /// The parameter, as it is written.
        name: String,
    },
    /// The user's statement has its parameters where the database sees none.
    #[error(
        "the statement has {written} `${{…}}`, of which the database sees {seen} as parameters: write them without quotes, outside of comments, and no other placeholders"
    )]
    Parameters {
        /// How many it has.
        written: usize,
        /// How many the database counts.
        seen: usize,
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
