//! MySQL and MariaDB.

use std::collections::{BTreeMap, HashSet};
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlPool, MySqlPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _, Executor as _, SqlSafeStr, Statement as _};

use crate::column::{COLUMNS, KEY};
use crate::database::{Database, Fault, Session, Unfit};
use crate::dialect::Dialect;
use crate::pool;
use crate::schema::{OBJECT_HASH, Present, Schema};
use crate::statement::Statements;
use crate::{Options, OptionsError, StoreErrorKind};

mod fault;
mod session;

use session::MySqlSession;

/// How many ids one transaction forgets at most: it holds up the events that come next.
const FORGET_MAX: u32 = 2_000;
/// How many statements stay prepared. A statement is as large as its batch; under load, batches are of one size.
const STATEMENTS_MAX: usize = 16;
/// What of `max_allowed_packet` is kept for all that is not values.
const PACKET_RESERVE: usize = 64 << 10;
/// Begins a transaction.
const BEGIN: &str = "START TRANSACTION READ WRITE";

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
            pool::with_limits(MySqlPoolOptions::new(), &self.options)
                .after_connect(move |connection, _| Box::pin(set_up(connection, timeout)))
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
        let transaction = self.pool().begin_with(BEGIN).await?;
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
        for table in schema.names() {
            present.columns.insert(table.clone(), columns_of(&table).await?);
        }
        // As on Windows, and in some clouds.
        let folds: u64 =
            sqlx::query_scalar("SELECT CAST(@@lower_case_table_names AS UNSIGNED)").fetch_one(&pool).await?;
        present.folds_case = folds != 0;
        if let Some(notes) = schema.select_notes(&present) {
            present.take_notes(sqlx::query_as(AssertSqlSafe(notes)).fetch_all(&pool).await?);
        }
        Ok(present)
    }

    async fn define(&self, statements: &[String]) -> Result<(), sqlx::Error> {
        for sql in statements {
            self.pool().execute(AssertSqlSafe(sql.clone())).await?;
        }
        Ok(())
    }

    async fn execute(&self, sql: String, values: [&str; 2]) -> Result<(), sqlx::Error> {
        let [first, second] = values.map(str::to_owned);
        sqlx::query(AssertSqlSafe(sql)).bind(first).bind(second).execute(&self.pool()).await.map(drop)
    }

    async fn try_connect(&self) -> Result<(), sqlx::Error> {
        let mut connection = self.connect.connect().await?;
        set_up(&mut connection, self.options.statement_timeout).await?;
        connection.close().await
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

/// Makes a new connection's session as the sink needs it.
async fn set_up(connection: &mut MySqlConnection, timeout: Duration) -> Result<(), sqlx::Error> {
    let lock_wait = (timeout.as_secs() / 2).max(1);
    let version: String = sqlx::query_scalar("SELECT VERSION()").fetch_one(&mut *connection).await?;
    let is_mariadb = version.contains("MariaDB");
    let isolation = if is_mariadb { "tx_isolation" } else { "transaction_isolation" };
    // Strict: what does not fit is refused, not cut. The server gives up first, so that it gets to say why.
    let settings = format!(
        "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES'), innodb_lock_wait_timeout = {lock_wait}, {isolation} = 'READ-COMMITTED'"
    );
    connection.execute(AssertSqlSafe(settings)).await?;
    if is_mariadb {
        let seconds = timeout.as_secs_f64() * 0.8;
        connection.execute(AssertSqlSafe(format!("SET SESSION max_statement_time = {seconds:.3}"))).await?;
    }
    Ok(())
}
