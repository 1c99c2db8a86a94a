//! MySQL and MariaDB.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use sqlx::mysql::{MySqlArguments, MySqlConnectOptions, MySqlPool, MySqlPoolOptions};
use sqlx::{
    Arguments, AssertSqlSafe, ConnectOptions, Encode, Executor as _, MySql, Row as _, SqlSafeStr, Statement as _,
    Transaction, Type,
};
use upcall_event::EventId;

use crate::column::{COLUMNS, KEY, Value, datetime};
use crate::database::{Database, Fault, Session, Unfit};
use crate::dialect::Dialect;
use crate::pool;
use crate::row::{Row, pieces};
use crate::schema::{OBJECT_HASH, Present, Schema, VERSIONS};
use crate::statement::Statements;
use crate::{Options, OptionsError, StoreErrorKind};

mod fault;

/// How many ids one transaction forgets at most: it holds up the events that come next.
const FORGET_MAX: u32 = 2_000;
/// How many statements stay prepared. A statement is as large as its batch; under load, batches are of one size.
const STATEMENTS_MAX: usize = 16;
/// The most rows of one statement: MySQL takes 65,535 parameters.
const ROWS_MAX: usize = 1_000;
const _: () = assert!(ROWS_MAX * COLUMNS.len() <= 65_535, "a statement has more parameters than MySQL takes");
/// The most bytes of one statement's values, unless a single row has more.
const BYTES_MAX: usize = 8 << 20;
/// What of `max_allowed_packet` is kept for all that is not values.
const PACKET_RESERVE: usize = 64 << 10;
/// How often the ids of a batch may have been recorded by others between looking and recording.
const RACES_MAX: u32 = 10;

/// A MySQL or MariaDB database.
pub(crate) struct MySqlDatabase {
    connect: MySqlConnectOptions,
    options: Options,
    statements: Statements,
    /// Made when it is first needed: a pool belongs to a running runtime.
    pool: Mutex<Option<MySqlPool>>,
    /// How much the server takes at once; learnt when the database is prepared.
    packet_max: AtomicUsize,
}

impl MySqlDatabase {
    pub(crate) fn new(options: Options) -> Result<Self, OptionsError> {
        // The driver knows MariaDB by MySQL's name.
        let connect = MySqlConnectOptions::from_str(&options.url)
            .map_err(|error| OptionsError::Url(error.into()))?
            // A user's statement means what it means in the user's own client.
            .pipes_as_concat(false)
            .statement_cache_capacity(STATEMENTS_MAX)
            .disable_statement_logging();
        let statements = Statements::new(Dialect::MySql, options.effect.clone());
        Ok(Self { connect, options, statements, pool: Mutex::default(), packet_max: AtomicUsize::new(usize::MAX) })
    }

    fn pool(&self) -> MySqlPool {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        pool.get_or_insert_with(|| {
            let timeout = self.options.statement_timeout;
            let lock_wait = (timeout.as_secs() / 2).max(1);
            // Strict: what does not fit is refused, not cut. The server gives up first, so that it gets to say why.
            let settings = format!(
                "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES'), innodb_lock_wait_timeout = {lock_wait}, transaction_isolation = 'READ-COMMITTED'"
            );
            let mariadb_settings = format!("SET SESSION max_statement_time = {:.3}", timeout.as_secs_f64() * 0.8);
            pool::with_limits(MySqlPoolOptions::new(), &self.options)
                .after_connect(move |connection, _| {
                    let (settings, mariadb_settings) = (settings.clone(), mariadb_settings.clone());
                    Box::pin(async move {
                        let version: String =
                            sqlx::query_scalar("SELECT VERSION()").fetch_one(&mut *connection).await?;
                        if version.contains("MariaDB") {
                            connection.execute(AssertSqlSafe(settings.replace("transaction_isolation", "tx_isolation"))).await?;
                            connection.execute(AssertSqlSafe(mariadb_settings)).await?;
                        } else {
                            connection.execute(AssertSqlSafe(settings)).await?;
                        }
                        Ok(())
                    })
                })
                .connect_lazy_with(self.connect.clone())
        })
        .clone()
    }

    /// Compiles a statement, and returns how many parameters it has.
    async fn compile(&self, sql: String) -> Result<usize, sqlx::Error> {
        let mut connection = self.pool().acquire().await?;
        let statement = connection.prepare(AssertSqlSafe(sql).into_sql_str()).await?;
        Ok(statement.parameters().map_or(0, |parameters| parameters.either(<[_]>::len, |count| count)))
    }

    /// Checks the unique keys of a table: MySQL's upsert follows each of them.
    async fn check_key(&self, table: &str, key: &[&str]) -> Result<(), Unfit> {
        let sql = "SELECT CAST(index_name AS CHAR), CAST(LOWER(column_name) AS CHAR), sub_part IS NOT NULL FROM information_schema.statistics WHERE table_schema = DATABASE() AND table_name = ? AND non_unique = 0";
        let mut indexes: BTreeMap<String, Vec<(String, bool)>> = BTreeMap::new();
        let found: Vec<(String, String, bool)> = sqlx::query_as(sql).bind(table).fetch_all(&self.pool()).await?;
        for (index, column, is_prefix) in found {
            indexes.entry(index).or_default().push((column, is_prefix));
        }
        let stands_for = |column: &str| if column == OBJECT_HASH { "object".to_owned() } else { column.to_owned() };
        let mut is_there = false;
        for (index, columns) in &indexes {
            let whole: HashSet<String> =
                columns.iter().filter(|(_, is_prefix)| !is_prefix).map(|(column, _)| stands_for(column)).collect();
            let has_key = key.iter().all(|name| whole.contains(*name));
            is_there |= has_key && columns.len() == key.len();
            let is_ours = |(column, _): &(String, bool)| COLUMNS.iter().any(|ours| ours.name == stands_for(column));
            if !has_key && columns.iter().any(is_ours) {
                let kind = StoreErrorKind::UniqueKey { table: table.to_owned(), index: index.clone() };
                return Err(Unfit::Kind(kind, None));
            }
        }
        if is_there { Ok(()) } else { Err(Unfit::Kind(Unfit::key(table, key), None)) }
    }
}

#[async_trait]
impl Database for MySqlDatabase {
    fn name(&self) -> String {
        let (host, port) = (self.connect.get_host(), self.connect.get_port());
        format!("mysql://{host}:{port}/{}", self.connect.get_database().unwrap_or_default())
    }

    async fn begin(&self) -> Result<Box<dyn Session>, sqlx::Error> {
        let transaction = self.pool().begin_with("START TRANSACTION READ WRITE").await?;
        let packet_max = self.packet_max.load(Ordering::Relaxed);
        Ok(Box::new(MySqlSession { transaction, statements: self.statements.clone(), packet_max }))
    }

    async fn present(&self, schema: &Schema) -> Result<Present, sqlx::Error> {
        let pool = self.pool();
        let columns_of = async |table: &str| -> Result<HashSet<String>, sqlx::Error> {
            let sql = "SELECT CAST(LOWER(column_name) AS CHAR) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = ?";
            Ok(sqlx::query_scalar(sql).bind(table.to_owned()).fetch_all(&pool).await?.into_iter().collect())
        };
        let mut present = Present::default();
        for table in &schema.tables {
            present.columns.insert(table.name.clone(), columns_of(&table.name).await?);
        }
        if !columns_of(VERSIONS).await?.is_empty() {
            let versions = AssertSqlSafe(format!("SELECT table_name, version FROM `{VERSIONS}`"));
            let versions: HashMap<String, i64> = sqlx::query_as(versions).fetch_all(&pool).await?.into_iter().collect();
            present.versions = versions;
        }
        Ok(present)
    }

    async fn define(&self, statements: &[String]) -> Result<(), sqlx::Error> {
        for sql in statements {
            self.pool().execute(AssertSqlSafe(sql.clone())).await?;
        }
        Ok(())
    }

    async fn check(&self) -> Result<(), Unfit> {
        let packet_max: u64 =
            sqlx::query_scalar("SELECT CAST(@@max_allowed_packet AS UNSIGNED)").fetch_one(&self.pool()).await?;
        let packet_max = usize::try_from(packet_max).unwrap_or(usize::MAX).saturating_sub(PACKET_RESERVE);
        self.packet_max.store(packet_max, Ordering::Relaxed);
        let keys: [(_, &[&str]); 2] = [(self.statements.upsert(1), &KEY), (self.statements.keep(1), &["event_id"])];
        for (statement, key) in keys {
            let Some((table, sql)) = statement else { continue };
            self.check_key(table.as_str(), key).await?;
            self.compile(sql).await?;
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
        let result = sqlx::query(sql).bind(before).execute(&self.pool()).await?;
        Ok(result.rows_affected() >= u64::from(FORGET_MAX))
    }

    fn fault(&self, error: &sqlx::Error) -> Fault {
        fault::of(error)
    }

    async fn reset(&self) {
        let pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner).take();
        pool::abandon(pool);
    }

    async fn close(&self) {
        let pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(pool) = pool {
            pool.close().await;
        }
    }
}

struct MySqlSession {
    transaction: Transaction<'static, MySql>,
    statements: Statements,
    packet_max: usize,
}

impl MySqlSession {
    async fn execute(&mut self, sql: String, values: MySqlArguments) -> Result<u64, sqlx::Error> {
        let result = sqlx::query_with(AssertSqlSafe(sql), values).execute(&mut *self.transaction).await?;
        Ok(result.rows_affected())
    }

    /// Records ids, and tells whether none of them was there.
    async fn insert_applied(&mut self, ids: &[EventId], now: i64) -> Result<bool, sqlx::Error> {
        let mut inserted = 0;
        for piece in ids.chunks(ROWS_MAX) {
            let mut values = MySqlArguments::default();
            for id in piece {
                add(&mut values, id.as_bytes().to_vec())?;
                add(&mut values, now)?;
            }
            inserted += self.execute(self.statements.insert_applied(piece.len()), values).await?;
        }
        Ok(inserted == ids.len() as u64)
    }

    async fn known(&mut self, ids: &[EventId]) -> Result<HashSet<EventId>, sqlx::Error> {
        let mut known = HashSet::new();
        for piece in ids.chunks(ROWS_MAX) {
            let mut values = MySqlArguments::default();
            for id in piece {
                add(&mut values, id.as_bytes().to_vec())?;
            }
            let sql = AssertSqlSafe(self.statements.select_applied(piece.len()));
            for found in sqlx::query_with(sql, values).fetch_all(&mut *self.transaction).await? {
                known.extend(found.try_get::<&[u8], _>(0)?.try_into().map(EventId::from_bytes));
            }
        }
        Ok(known)
    }

    /// A row that the server would not take at once is refused here: the server would hang up on it.
    fn pieces<'a, 'r>(
        &self,
        rows: &'a [&'r Row],
    ) -> Result<impl Iterator<Item = &'a [&'r Row]> + use<'a, 'r>, sqlx::Error> {
        if let Some(row) = rows.iter().find(|row| row.size() > self.packet_max) {
            return Err(fault::too_large(row.size(), self.packet_max));
        }
        Ok(pieces(rows, ROWS_MAX, BYTES_MAX.min(self.packet_max)))
    }
}

#[async_trait]
impl Session for MySqlSession {
    async fn record(&mut self, ids: &[EventId], now: i64) -> Result<HashSet<EventId>, sqlx::Error> {
        if self.insert_applied(ids, now).await? {
            return Ok(ids.iter().copied().collect());
        }
        // Some were there, which is rare, and MySQL does not tell which: begin anew and look first.
        for _ in 0..RACES_MAX {
            self.transaction.execute("ROLLBACK").await?;
            self.transaction.execute("START TRANSACTION READ WRITE").await?;
            let known = self.known(ids).await?;
            let fresh: Vec<EventId> = ids.iter().filter(|id| !known.contains(id)).copied().collect();
            if self.insert_applied(&fresh, now).await? {
                return Ok(fresh.into_iter().collect());
            }
        }
        Err(sqlx::Error::PoolTimedOut)
    }

    async fn upsert(&mut self, rows: &[&Row]) -> Result<(), sqlx::Error> {
        for piece in self.pieces(rows)? {
            let Some((_, sql)) = self.statements.upsert(piece.len()) else { return Ok(()) };
            self.execute(sql, arguments(piece)?).await?;
        }
        Ok(())
    }

    async fn keep(&mut self, rows: &[&Row]) -> Result<(), sqlx::Error> {
        for piece in self.pieces(rows)? {
            let Some((_, sql)) = self.statements.keep(piece.len()) else { return Ok(()) };
            self.execute(sql, arguments(piece)?).await?;
        }
        Ok(())
    }

    async fn run(&mut self, row: &Row) -> Result<(), sqlx::Error> {
        if row.size() > self.packet_max {
            return Err(fault::too_large(row.size(), self.packet_max));
        }
        let Some(users) = self.statements.users() else { return Ok(()) };
        self.execute(users.sql(|_| "?".to_owned()), arguments(&[row])?).await.map(drop)
    }

    async fn commit(self: Box<Self>) -> Result<(), sqlx::Error> {
        self.transaction.commit().await
    }

    async fn rollback(self: Box<Self>) {
        // What matters is the first error; a transaction that can't be rolled back is dropped with its connection.
        drop(self.transaction.rollback().await);
    }
}

fn arguments(rows: &[&Row]) -> Result<MySqlArguments, sqlx::Error> {
    let mut values = MySqlArguments::default();
    let size = rows.iter().map(|row| row.size()).sum();
    values.reserve(rows.iter().map(|row| row.values().len()).sum(), size);
    for value in rows.iter().flat_map(|row| row.values()) {
        match value {
            Value::Null => add(&mut values, None::<i64>)?,
            Value::Bool(flag) => add(&mut values, i64::from(*flag))?,
            Value::Integer(integer) => add(&mut values, *integer)?,
            // As text: MySQL makes of it what the column is.
            Value::Decimal(text) | Value::Text(text) => add(&mut values, &**text)?,
            Value::Time(time) => add(&mut values, datetime(*time))?,
        }
    }
    Ok(values)
}

fn add<'v, V: Encode<'v, MySql> + Type<MySql>>(values: &mut MySqlArguments, value: V) -> Result<(), sqlx::Error> {
    values.add(value).map_err(sqlx::Error::Encode)
}
