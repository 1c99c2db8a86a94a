//! What the sink needs of a kind of database.

use std::collections::HashSet;

use async_trait::async_trait;
use sqlx::Transaction;

use crate::StoreErrorKind;
use crate::applied::Key;
use crate::row::Row;
use crate::schema::{Present, Schema};

/// A database, reached through a pool of connections.
#[async_trait]
pub(crate) trait Database: Send + Sync {
    /// The database, for people: without its password.
    fn name(&self) -> String;

    /// Begins a transaction that sees what others commit meanwhile, and that other writers wait for.
    async fn begin(&self) -> Result<Box<dyn Session>, sqlx::Error>;

    /// Looks which tables are there.
    async fn present(&self, schema: &Schema) -> Result<Present, sqlx::Error>;

    /// Runs statements that define tables. Where the kind allows it, one process at a time, and all or nothing.
    async fn define(&self, statements: &[String]) -> Result<(), sqlx::Error>;

    /// Runs a statement whose parameters are text.
    async fn execute(&self, sql: String, values: [&str; 2]) -> Result<(), sqlx::Error>;

    /// Connects once, beside the pool, to learn why that had no connection.
    async fn try_connect(&self) -> Result<(), sqlx::Error>;

    /// Checks that the database takes the statements as its tables are.
    async fn check(&self) -> Result<(), Unfit>;

    /// Forgets some ids of events applied before this moment (Unix seconds). Tells whether there may be more.
    async fn forget(&self, before: i64) -> Result<bool, sqlx::Error>;

    /// What an error means.
    fn fault(&self, error: &sqlx::Error) -> Fault;

    /// Lets go of connections that do not answer.
    async fn reset(&self);

    /// Closes the connections.
    async fn close(&self);
}

/// A transaction. Dropped without [`End::commit`], it has no effect.
#[async_trait]
pub(crate) trait Session: Send {
    /// Records keys as applied, and returns how many were not there. Waits for others that record the same keys.
    async fn insert_applied(&mut self, keys: &[Key], now: i64) -> Result<u64, sqlx::Error>;

    /// Which of these are there.
    async fn known(&mut self, keys: &[Key]) -> Result<HashSet<Key>, sqlx::Error>;

    /// Undoes everything, and begins anew.
    async fn begin_anew(&mut self) -> Result<(), sqlx::Error>;

    /// Inserts rows into the table of uploads or updates those there; one for each object, sorted by it.
    async fn upsert(&mut self, rows: &[&Row<'_>]) -> Result<(), sqlx::Error>;

    /// Inserts rows into the history, if there is one.
    async fn keep(&mut self, rows: &[&Row<'_>]) -> Result<(), sqlx::Error>;

    /// Runs the user's statement with an event's values.
    async fn run(&mut self, row: &Row<'_>) -> Result<(), sqlx::Error>;

    /// Ends it.
    fn end(self: Box<Self>) -> Box<dyn End>;
}

/// The two ways in which a transaction ends.
#[async_trait]
pub(crate) trait End: Send {
    /// Makes everything durable.
    async fn commit(self: Box<Self>) -> Result<(), sqlx::Error>;

    /// Undoes everything.
    async fn rollback(self: Box<Self>);
}

#[async_trait]
impl<D: sqlx::Database> End for Transaction<'static, D> {
    async fn commit(self: Box<Self>) -> Result<(), sqlx::Error> {
        Transaction::commit(*self).await
    }

    async fn rollback(self: Box<Self>) {
        // What matters is the first error; a transaction that can't be rolled back is dropped with its connection.
        drop(Transaction::rollback(*self).await);
    }
}

/// What an error of a database means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The row is refused: a constraint, a trigger, a type.
    Row,
    /// Another transaction was in the way; once more may do.
    Conflict,
    /// The statement does not go with the tables; or a trigger's does not.
    Schema,
    /// What is called the database is not one.
    NotADatabase,
    /// The database gave up for lack of time.
    Timeout,
    /// The user may not do that.
    Denied,
    /// The database is out of order: full, unreachable.
    Unavailable,
}

/// Why the database does not take the statements.
#[derive(Debug)]
pub(crate) enum Unfit {
    /// It said so: this is what is wrong.
    Kind(StoreErrorKind, Option<sqlx::Error>),
    /// It could not be asked.
    Error(sqlx::Error),
}

impl From<sqlx::Error> for Unfit {
    fn from(error: sqlx::Error) -> Self {
        Self::Error(error)
    }
}

impl Unfit {
    /// Says of an error while a statement was checked that the statement is at fault, where it is.
    pub(crate) fn if_schema(fault: Fault, error: sqlx::Error, kind: StoreErrorKind) -> Self {
        match fault {
            Fault::Schema | Fault::Row => Self::Kind(kind, Some(error)),
            _ => Self::Error(error),
        }
    }

    /// The table is not as the sink's statements need it.
    pub(crate) fn key(table: &str, key: &[&str]) -> StoreErrorKind {
        StoreErrorKind::Unfit { table: table.to_owned(), key: key.iter().map(|name| (*name).to_owned()).collect() }
    }

    /// The database counts other parameters than the statement has.
    pub(crate) fn parameters(written: usize, seen: usize) -> Self {
        Self::Kind(StoreErrorKind::Parameters { written, seen }, None)
    }
}
