//! The tables in an SQLite file.

use std::collections::HashSet;
use std::str::FromStr;
use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{Arguments, AssertSqlSafe, ConnectOptions, Encode, Row as _, Sqlite, Type};
use tokio::time::timeout;
use upcall_event::EventId;

use crate::column::{COLUMNS, Value};
use crate::row::{Row, latest_per_object, once_per_event};
use crate::statement::{APPLIED_COLUMNS, Dialect, ROWS_MAX, Statements};
use crate::store::Store;
use crate::{Options, OptionsError, StoreError, StoreErrorKind};

/// How many ids one transaction forgets at most: it holds up the events that come next.
const FORGET_MAX: u32 = 2_000;

/// How many statements stay prepared. A statement is as large as its batch; under load, batches are of one size.
const STATEMENTS_MAX: usize = 16;
/// SQLite's page cache, in KiB where negative. Ids are hashes, so that each batch touches pages all over their index;
/// the default of 2 MB has them read again and again.
const CACHE_SIZE: &str = "-65536";
/// How many pages the write-ahead log gathers before they are written to their places: pages that many batches
/// touched are then written once. 32 MiB at the usual page size.
const CHECKPOINT_PAGES: &str = "8192";

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

/// The tables in an SQLite file.
pub(crate) struct SqliteStore {
    connect: SqliteConnectOptions,
    options: Options,
    statements: Statements,
    /// Made when it is first needed: a pool belongs to a running runtime.
    pool: OnceLock<SqlitePool>,
}

impl SqliteStore {
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
        let statements = Statements::new(Dialect::Sqlite, options.table.clone());
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

    async fn try_prepare(&self) -> Result<(), StoreError> {
        let (uploads, applied) = (self.statements.uploads(), self.statements.applied());
        for (table, create) in
            [(uploads, self.statements.create_uploads()), (applied.as_str(), self.statements.create_applied())]
        {
            if self.columns_of(table).await?.is_empty() {
                self.create(create).await.map_err(|error| self.error(error))?;
            }
        }
        self.check().await
    }

    /// Checks that the tables are as the statements need them.
    async fn check(&self) -> Result<(), StoreError> {
        let ours: Vec<&str> = COLUMNS.iter().map(|column| column.name).collect();
        self.check_columns(self.statements.uploads(), &ours).await?;
        self.check_columns(&self.statements.applied(), &APPLIED_COLUMNS).await?;
        // To explain a statement is to compile it: a table without the right key fails here, and nothing is written.
        let explain = format!("EXPLAIN {}", self.statements.upsert(1));
        let explained = sqlx::query(AssertSqlSafe(explain)).fetch_all(self.pool()).await;
        explained.map(drop).map_err(|error| match primary_code(&error) {
            Some(code::ERROR) => {
                let table = self.statements.uploads().to_owned();
                StoreError { kind: StoreErrorKind::Unfit { table }, source: Some(error.into()) }
            }
            _ => self.error(error),
        })
    }

    async fn check_columns(&self, table: &str, needed: &[&str]) -> Result<(), StoreError> {
        let present = self.columns_of(table).await?;
        let columns: Vec<String> =
            needed.iter().filter(|name| !present.contains(**name)).map(|name| (*name).to_owned()).collect();
        if columns.is_empty() {
            return Ok(());
        }
        Err(StoreError { kind: StoreErrorKind::MissingColumns { table: table.to_owned(), columns }, source: None })
    }

    /// The names of a table's columns; none where there is no such table.
    async fn columns_of(&self, table: &str) -> Result<HashSet<String>, StoreError> {
        let names = sqlx::query_scalar("SELECT lower(name) FROM pragma_table_info(?)").bind(table);
        let names: Vec<String> = names.fetch_all(self.pool()).await.map_err(|error| self.error(error))?;
        Ok(names.into_iter().collect())
    }

    async fn create(&self, statements: [String; 2]) -> Result<(), sqlx::Error> {
        let mut transaction = self.pool().begin_with(BEGIN).await?;
        for sql in statements {
            sqlx::query(AssertSqlSafe(sql)).execute(&mut *transaction).await?;
        }
        transaction.commit().await
    }

    async fn try_apply(&self, rows: &[Row]) -> Result<(), sqlx::Error> {
        let mut transaction = self.pool().begin_with(BEGIN).await?;
        match self.write(&mut transaction, rows).await {
            Ok(()) => transaction.commit().await,
            Err(error) => {
                // What matters is the first error; a transaction that can't be rolled back is dropped with its connection.
                drop(transaction.rollback().await);
                Err(error)
            }
        }
    }

    async fn write(&self, connection: &mut SqliteConnection, rows: &[Row]) -> Result<(), sqlx::Error> {
        let mut rows = once_per_event(rows);
        let mut known: HashSet<EventId> = HashSet::new();
        for piece in rows.chunks(ROWS_MAX) {
            let mut ids = SqliteArguments::default();
            for row in piece {
                add(&mut ids, row.event().as_bytes().to_vec())?;
            }
            let sql = AssertSqlSafe(self.statements.select_applied(piece.len()));
            for found in sqlx::query_with(sql, ids).fetch_all(&mut *connection).await? {
                known.extend(found.try_get::<&[u8], _>(0)?.try_into().map(EventId::from_bytes));
            }
        }
        rows.retain(|row| !known.contains(&row.event()));
        let now = Timestamp::now().as_second();
        for piece in rows.chunks(ROWS_MAX) {
            let mut values = SqliteArguments::default();
            for row in piece {
                add(&mut values, row.event().as_bytes().to_vec())?;
                add(&mut values, now)?;
            }
            let sql = AssertSqlSafe(self.statements.insert_applied(piece.len()));
            sqlx::query_with(sql, values).execute(&mut *connection).await?;
        }
        for piece in latest_per_object(&rows).chunks(ROWS_MAX) {
            let mut values = SqliteArguments::default();
            values.reserve(piece.len() * COLUMNS.len(), 0);
            for value in piece.iter().flat_map(|row| row.values()) {
                match value {
                    Value::Null => add(&mut values, None::<i64>)?,
                    Value::Integer(integer) => add(&mut values, *integer)?,
                    Value::Text(text) => add(&mut values, text.clone())?,
                }
            }
            let sql = AssertSqlSafe(self.statements.upsert(piece.len()));
            sqlx::query_with(sql, values).execute(&mut *connection).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn prepare(&self) -> Result<(), StoreError> {
        self.in_time(self.try_prepare()).await
    }

    async fn apply(&self, rows: &[Row]) -> Result<(), StoreError> {
        let applied = async {
            let Err(error) = self.try_apply(rows).await else { return Ok(()) };
            if primary_code(&error) == Some(code::ERROR) {
                // Either the tables have been changed, or this row made a trigger fail.
                self.check().await?;
            }
            Err(self.error(error))
        };
        self.in_time(applied).await
    }

    async fn forget(&self, before: i64) -> Result<bool, StoreError> {
        let forgotten = async {
            let sql = AssertSqlSafe(self.statements.forget_applied(FORGET_MAX));
            let result = sqlx::query(sql).bind(before).execute(self.pool()).await;
            result.map(|result| result.rows_affected() >= u64::from(FORGET_MAX)).map_err(|error| self.error(error))
        };
        self.in_time(forgotten).await
    }

    async fn close(&self) {
        if let Some(pool) = self.pool.get() {
            pool.close().await;
        }
    }
}

impl SqliteStore {
    async fn in_time<T>(&self, work: impl Future<Output = Result<T, StoreError>> + Send) -> Result<T, StoreError> {
        match timeout(self.options.statement_timeout, work).await {
            Ok(result) => result,
            Err(_) => Err(StoreError { kind: StoreErrorKind::Timeout { database: self.database() }, source: None }),
        }
    }

    fn database(&self) -> String {
        self.connect.get_filename().display().to_string()
    }

    fn error(&self, error: sqlx::Error) -> StoreError {
        let database = self.database();
        let kind = match primary_code(&error) {
            Some(code::ERROR | code::TOO_BIG | code::CONSTRAINT | code::MISMATCH) => StoreErrorKind::Row,
            Some(code::NOT_A_DATABASE) => StoreErrorKind::NotADatabase { database },
            _ => StoreErrorKind::Unavailable { database },
        };
        StoreError { kind, source: Some(error.into()) }
    }
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
