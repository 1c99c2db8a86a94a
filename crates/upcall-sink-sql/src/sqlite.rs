//! SQLite: a file.

use std::collections::HashSet;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{
    Arguments, AssertSqlSafe, ConnectOptions, Encode, Executor as _, Row as _, SqlSafeStr, Sqlite, Statement as _,
    Transaction, Type,
};

use crate::applied::Key;
use crate::column::{COLUMNS, KEY, Value, rfc3339};
use crate::database::{Database, End, Fault, Session, Unfit};
use crate::dialect::Dialect;
use crate::row::{Row, pieces};
use crate::schema::{Present, Schema};
use crate::statement::Statements;
use crate::{Options, OptionsError, StoreErrorKind};

/// How many ids one transaction forgets at most: it holds up the events that come next.
const FORGET_MAX: u32 = 2_000;
/// How many statements stay prepared. A statement is as large as its batch; under load, batches are of one size.
const STATEMENTS_MAX: usize = 16;
/// SQLite's page cache, in KiB where negative. A batch touches a few hundred pages, which stand side by side where objects
/// are named in order; 64 MiB were not faster, and are memory that each consumer takes.
const CACHE_SIZE: &str = "-8192";
/// How many pages the write-ahead log gathers before they are written to their places: pages that many batches
/// touched are then written once. 32 MiB at the usual page size.
const CHECKPOINT_PAGES: &str = "8192";
/// The most rows of one statement: SQLite takes 32,766 parameters (`SQLITE_MAX_VARIABLE_NUMBER` since 3.32).
const ROWS_MAX: usize = 1_000;
const _: () = assert!(ROWS_MAX * COLUMNS.len() <= 32_766, "a statement has more parameters than SQLite takes");
/// The most bytes of one statement's values, unless a single row has more.
const BYTES_MAX: usize = 8 << 20;

/// SQLite's result codes (<https://www.sqlite.org/rescode.html>), as far as they matter here.
mod code {
    pub(super) const ERROR: u32 = 1;
    pub(super) const TOO_BIG: u32 = 18;
    pub(super) const CONSTRAINT: u32 = 19;
    pub(super) const MISMATCH: u32 = 20;
    pub(super) const NOT_A_DATABASE: u32 = 26;
    /// The low byte is the primary code; the rest tells more.
    pub(super) const PRIMARY: u32 = 0xff;
}

/// A database in an SQLite file.
pub(crate) struct SqliteDatabase {
    connect: SqliteConnectOptions,
    options: Options,
    statements: Statements,
    /// Made when it is first needed: a pool belongs to a running runtime.
    pool: OnceLock<SqlitePool>,
}

impl SqliteDatabase {
    pub(crate) fn new(options: Options) -> Result<Self, OptionsError> {
        let connect = SqliteConnectOptions::from_str(&options.url)
            .map_err(|error| OptionsError::Url(error.into()))?
            .create_if_missing(true)
            // Readers of the user's go on while the sink writes.
            .journal_mode(SqliteJournalMode::Wal)
            // A commit is acknowledged to the bus, so it has to outlive a power cut.
            .synchronous(SqliteSynchronous::Full)
            .statement_cache_capacity(STATEMENTS_MAX)
            .pragma("cache_size", CACHE_SIZE)
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
            // Shorter than the transaction's own limit, so that SQLite gets to say who holds it up.
            .busy_timeout(options.statement_timeout / 2)
            .disable_statement_logging();
        let statements = Statements::new(Dialect::Sqlite, options.effect.clone());
        Ok(Self { connect, options, statements, pool: OnceLock::new() })
    }

    fn pool(&self) -> &SqlitePool {
        self.pool.get_or_init(|| {
            SqlitePoolOptions::new()
                .max_connections(self.options.pool_max.get())
                .acquire_timeout(self.options.statement_timeout)
                // A local file's connection does not go stale, and a database in memory lives as long as it.
                .test_before_acquire(false)
                .idle_timeout(None::<Duration>)
                .max_lifetime(None::<Duration>)
                .connect_lazy_with(self.connect.clone())
        })
    }

    /// Compiles a statement: a table without the right key fails here, and nothing is written. Returns how many
    /// parameters it has.
    async fn compile(&self, sql: String) -> Result<usize, sqlx::Error> {
        let mut connection = self.pool().acquire().await?;
        let statement = connection.prepare(AssertSqlSafe(sql).into_sql_str()).await?;
        Ok(statement.parameters().map_or(0, |parameters| parameters.either(<[_]>::len, |count| count)))
    }
}

#[async_trait]
impl Database for SqliteDatabase {
    fn name(&self) -> String {
        self.connect.get_filename().display().to_string()
    }

    async fn begin(&self) -> Result<Box<dyn Session>, sqlx::Error> {
        let transaction = self.pool().begin_with(BEGIN).await?;
        Ok(Box::new(SqliteSession { transaction, statements: self.statements.clone() }))
    }

    async fn present(&self, schema: &Schema) -> Result<Present, sqlx::Error> {
        let columns_of = async |table: &str| -> Result<HashSet<String>, sqlx::Error> {
            let names = sqlx::query_scalar("SELECT lower(name) FROM pragma_table_info(?)").bind(table.to_owned());
            Ok(names.fetch_all(self.pool()).await?.into_iter().collect())
        };
        let mut present = Present::default();
        for table in schema.names() {
            present.columns.insert(table.clone(), columns_of(&table).await?);
        }
        present.folds_case = true;
        if let Some(notes) = schema.select_notes(&present) {
            present.take_notes(sqlx::query_as(AssertSqlSafe(notes)).fetch_all(self.pool()).await?);
        }
        Ok(present)
    }

    async fn define(&self, statements: &[String]) -> Result<(), sqlx::Error> {
        let mut transaction = self.pool().begin_with(BEGIN).await?;
        for sql in statements {
            sqlx::query(AssertSqlSafe(sql.clone())).execute(&mut *transaction).await?;
        }
        transaction.commit().await
    }

    async fn execute(&self, sql: String, values: [&str; 2]) -> Result<(), sqlx::Error> {
        let [first, second] = values.map(str::to_owned);
        sqlx::query(AssertSqlSafe(sql)).bind(first).bind(second).execute(self.pool()).await.map(drop)
    }

    /// A file's pool lacks a connection only where its own are all at work.
    async fn try_connect(&self) -> Result<(), sqlx::Error> {
        Ok(())
    }

    async fn check(&self) -> Result<(), Unfit> {
        let keys: [(_, &[&str]); 2] = [(self.statements.upsert(1), &KEY), (self.statements.keep(1), &["event_id"])];
        for (statement, key) in keys {
            let Some((table, sql)) = statement else { continue };
            if let Err(error) = self.compile(sql).await {
                return Err(Unfit::if_schema(self.fault(&error), error, Unfit::key(table.as_str(), key)));
            }
        }
        if let Some(users) = self.statements.users() {
            let seen = match self.compile(users.sql(|_| "?".to_owned())).await {
                Ok(seen) => seen,
                Err(error) => return Err(Unfit::if_schema(self.fault(&error), error, StoreErrorKind::Statement)),
            };
            if seen != users.parameters() {
                return Err(Unfit::parameters(users.parameters(), seen));
            }
        }
        Ok(())
    }

    async fn forget(&self, before: i64) -> Result<bool, sqlx::Error> {
        let sql = AssertSqlSafe(self.statements.forget_applied(FORGET_MAX));
        let result = sqlx::query(sql).bind(before).execute(self.pool()).await?;
        Ok(result.rows_affected() >= u64::from(FORGET_MAX))
    }

    fn fault(&self, error: &sqlx::Error) -> Fault {
        match primary_code(error) {
            Some(code::ERROR) => Fault::Schema,
            Some(code::TOO_BIG | code::CONSTRAINT | code::MISMATCH) => Fault::Row,
            Some(code::NOT_A_DATABASE) => Fault::NotADatabase,
            _ => Fault::Unavailable,
        }
    }

    /// A file's connection is never in doubt, and a database in memory would be lost with it.
    async fn reset(&self) {}

    async fn close(&self) {
        if let Some(pool) = self.pool.get() {
            pool.close().await;
        }
    }
}

struct SqliteSession {
    transaction: Transaction<'static, Sqlite>,
    statements: Statements,
}

impl SqliteSession {
    async fn execute(&mut self, sql: String, values: SqliteArguments) -> Result<u64, sqlx::Error> {
        let result = sqlx::query_with(AssertSqlSafe(sql), values).execute(&mut *self.transaction).await?;
        Ok(result.rows_affected())
    }
}

#[async_trait]
impl Session for SqliteSession {
    async fn insert_applied(&mut self, keys: &[Key], now: i64) -> Result<u64, sqlx::Error> {
        let mut inserted = 0;
        for piece in keys.chunks(ROWS_MAX) {
            let mut values = SqliteArguments::default();
            for key in piece {
                add(&mut values, key.as_bytes())?;
                add(&mut values, now)?;
            }
            inserted += self.execute(self.statements.insert_applied(piece.len()), values).await?;
        }
        Ok(inserted)
    }

    async fn known(&mut self, keys: &[Key]) -> Result<HashSet<Key>, sqlx::Error> {
        let mut known = HashSet::new();
        for piece in keys.chunks(ROWS_MAX) {
            let mut values = SqliteArguments::default();
            for key in piece {
                add(&mut values, key.as_bytes())?;
            }
            let sql = AssertSqlSafe(self.statements.select_applied(piece.len()));
            for found in sqlx::query_with(sql, values).fetch_all(&mut *self.transaction).await? {
                known.extend(Key::read(found.try_get(0)?));
            }
        }
        Ok(known)
    }

    async fn begin_anew(&mut self) -> Result<(), sqlx::Error> {
        self.transaction.execute("ROLLBACK").await?;
        self.transaction.execute(BEGIN).await.map(drop)
    }

    async fn upsert(&mut self, rows: &[&Row<'_>]) -> Result<(), sqlx::Error> {
        for piece in pieces(rows, ROWS_MAX, BYTES_MAX) {
            let Some((_, sql)) = self.statements.upsert(piece.len()) else { return Ok(()) };
            self.execute(sql, arguments(piece)?).await?;
        }
        Ok(())
    }

    async fn keep(&mut self, rows: &[&Row<'_>]) -> Result<(), sqlx::Error> {
        for piece in pieces(rows, ROWS_MAX, BYTES_MAX) {
            let Some((_, sql)) = self.statements.keep(piece.len()) else { return Ok(()) };
            self.execute(sql, arguments(piece)?).await?;
        }
        Ok(())
    }

    async fn run(&mut self, row: &Row<'_>) -> Result<(), sqlx::Error> {
        let Some(users) = self.statements.users() else { return Ok(()) };
        self.execute(users.sql(|_| "?".to_owned()), arguments(&[row])?).await.map(drop)
    }

    fn end(self: Box<Self>) -> Box<dyn End> {
        Box::new(self.transaction)
    }
}

fn arguments(rows: &[&Row<'_>]) -> Result<SqliteArguments, sqlx::Error> {
    let mut values = SqliteArguments::default();
    values.reserve(rows.iter().map(|row| row.values().len()).sum(), 0);
    for value in rows.iter().flat_map(|row| row.values()) {
        match value {
            Value::Null => add(&mut values, None::<i64>)?,
            Value::Bool(flag) => add(&mut values, i64::from(*flag))?,
            Value::Integer(integer) => add(&mut values, *integer)?,
            Value::Decimal(decimal) => match decimal.parse::<f64>() {
                Ok(number) => add(&mut values, number)?,
                Err(_) => add(&mut values, decimal.as_str())?,
            },
            // As a shared slice, which is made in one piece.
            Value::Text(text) => add(&mut values, Arc::<str>::from(&**text))?,
            Value::Time(time) => add(&mut values, rfc3339(*time))?,
        }
    }
    Ok(values)
}

/// Takes the write lock at once: a transaction that began by reading could not wait for it later.
const BEGIN: &str = "BEGIN IMMEDIATE";

/// SQLite's primary result code, if SQLite it was that failed.
fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let code: u32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & code::PRIMARY)
}

fn add<'v, V: Encode<'v, Sqlite> + Type<Sqlite>>(values: &mut SqliteArguments, value: V) -> Result<(), sqlx::Error> {
    values.add(value).map_err(sqlx::Error::Encode)
}
