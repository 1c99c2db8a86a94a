//! PostgreSQL.

use std::collections::HashSet;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{
    PgArgumentBuffer, PgArguments, PgConnectOptions, PgHasArrayType, PgPool, PgPoolOptions, PgTypeInfo,
};
use sqlx::{
    Arguments, AssertSqlSafe, ConnectOptions, Connection as _, Either, Encode, Executor as _, Postgres, Row as _,
    SqlSafeStr, Statement as _, Transaction, Type,
};

use crate::applied::Key;
use crate::column::{COLUMNS, KEY, Kind, Value, rfc3339};
use crate::database::{Database, End, Fault, Session, Unfit};
use crate::dialect::Dialect;
use crate::pool;
use crate::row::{Row, pieces};
use crate::schema::{Present, Schema};
use crate::statement::Statements;
use crate::{Options, OptionsError, StoreErrorKind};

/// How many ids one transaction forgets at most: it holds up the events that come next.
const FORGET_MAX: u32 = 10_000;
/// The most rows of one statement. One statement is for any number.
const ROWS_MAX: usize = 10_000;
/// The most bytes of one statement's values, unless a single row has more.
const BYTES_MAX: usize = 8 << 20;

/// Begins the definition of tables. `CREATE TABLE IF NOT EXISTS` fails where another process does the same at that moment: so
/// they go one after the other, by a lock of the database's that nobody else has a use for. What is there already needs
/// no notice.
const DEFINE_ALONE: &str = "SELECT pg_advisory_xact_lock(7597034170514796645); SET LOCAL client_min_messages = error";

/// A PostgreSQL database.
pub(crate) struct PostgresDatabase {
    connect: PgConnectOptions,
    options: Options,
    statements: Statements,
    /// `BEGIN`, with the limits that hold inside.
    begin: String,
    /// Made when it is first needed: a pool belongs to a running runtime.
    pool: Mutex<Option<PgPool>>,
    /// The user's statement, as it was checked: each parameter is cast from text to the type that it has there.
    users: Mutex<Option<String>>,
}

impl PostgresDatabase {
    pub(crate) fn new(options: Options) -> Result<Self, OptionsError> {
        let connect = PgConnectOptions::from_str(&options.url)
            .map_err(|error| OptionsError::Url(error.into()))?
            .application_name("upcall")
            .disable_statement_logging();
        let statements = Statements::new(Dialect::Postgres, options.effect.clone());
        // In the round trip of BEGIN, and for the transaction only: so it goes through PgBouncer, too. The server gives
        // up first, so that it gets to say why.
        let timeout_ms = options.statement_timeout.as_millis() * 8 / 10;
        let begin = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL client_min_messages = error; SET LOCAL statement_timeout = {timeout_ms}; SET LOCAL idle_in_transaction_session_timeout = {}",
            options.statement_timeout.as_millis() * 2
        );
        Ok(Self { connect, options, statements, begin, pool: Mutex::default(), users: Mutex::default() })
    }

    fn pool(&self) -> PgPool {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let made = || pool::with_limits(PgPoolOptions::new(), &self.options).connect_lazy_with(self.connect.clone());
        pool.get_or_insert_with(made).clone()
    }

    /// Lets the database work a statement out. A table without the right key fails here, and nothing is written.
    async fn explain(&self, sql: &str) -> Result<(), sqlx::Error> {
        let sql = AssertSqlSafe(format!("EXPLAIN {sql}"));
        sqlx::query_with(sql, arrays(&[])?).fetch_all(&self.pool()).await.map(drop)
    }

    /// Has the database say which types the parameters of the user's statement have.
    async fn parameter_types(&self, sql: String) -> Result<Vec<String>, sqlx::Error> {
        let mut connection = self.pool().acquire().await?;
        let statement = connection.prepare(AssertSqlSafe(sql).into_sql_str()).await?;
        let Some(Either::Left(types)) = statement.parameters() else { return Ok(Vec::new()) };
        let oids: Vec<_> = types.iter().filter_map(PgTypeInfo::oid).collect();
        drop(statement);
        // With -1 a type is named so that a cast to it cuts nothing off: plain `character` would be of one character.
        let sql =
            "SELECT format_type(oid, -1) FROM UNNEST($1::oid[]) WITH ORDINALITY AS type(oid, place) ORDER BY place";
        sqlx::query_scalar(sql).bind(oids).fetch_all(&mut *connection).await
    }

    async fn check_users(&self) -> Result<(), Unfit> {
        let Some(users) = self.statements.users() else { return Ok(()) };
        let types = match self.parameter_types(users.sql(|number| format!("${number}"))).await {
            Ok(types) => types,
            Err(error) => {
                let untyped = untyped_parameter(&error).and_then(|number| users.parameter(number));
                let kind = untyped.map_or(StoreErrorKind::Statement, |name| StoreErrorKind::Untyped { name });
                return Err(Unfit::if_schema(self.fault(&error), error, kind));
            }
        };
        if types.len() != users.parameters() {
            return Err(Unfit::parameters(users.parameters(), types.len()));
        }
        let sql = users.sql(|number| format!("CAST(${number}::text AS {})", types[number - 1]));
        if let Err(error) = self.parameter_types(sql.clone()).await {
            return Err(Unfit::if_schema(self.fault(&error), error, StoreErrorKind::Statement));
        }
        *self.users.lock().unwrap_or_else(PoisonError::into_inner) = Some(sql);
        Ok(())
    }
}

#[async_trait]
impl Database for PostgresDatabase {
    fn name(&self) -> String {
        let (host, port) = (self.connect.get_host(), self.connect.get_port());
        format!("postgres://{host}:{port}/{}", self.connect.get_database().unwrap_or_default())
    }

    async fn begin(&self) -> Result<Box<dyn Session>, sqlx::Error> {
        let transaction = self.pool().begin_with(AssertSqlSafe(self.begin.clone())).await?;
        let users = self.users.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Box::new(PostgresSession {
            transaction,
            statements: self.statements.clone(),
            begin: self.begin.clone(),
            users,
        }))
    }

    async fn present(&self, schema: &Schema) -> Result<Present, sqlx::Error> {
        let pool = self.pool();
        let columns_of = async |table: &str| -> Result<HashSet<String>, sqlx::Error> {
            let sql = "SELECT lower(attname::text) FROM pg_attribute WHERE attrelid = to_regclass(quote_ident($1)) AND attnum > 0 AND NOT attisdropped";
            Ok(sqlx::query_scalar(sql).bind(table.to_owned()).fetch_all(&pool).await?.into_iter().collect())
        };
        let mut present = Present::default();
        for table in schema.names() {
            present.columns.insert(table.clone(), columns_of(&table).await?);
        }
        if let Some(notes) = schema.select_notes(&present) {
            present.take_notes(sqlx::query_as(AssertSqlSafe(notes)).fetch_all(&pool).await?);
        }
        Ok(present)
    }

    async fn define(&self, statements: &[String]) -> Result<(), sqlx::Error> {
        let mut transaction = self.pool().begin().await?;
        transaction.execute(DEFINE_ALONE).await?;
        for sql in statements {
            sqlx::query(AssertSqlSafe(sql.clone())).execute(&mut *transaction).await?;
        }
        transaction.commit().await
    }

    async fn execute(&self, sql: String, values: [&str; 2]) -> Result<(), sqlx::Error> {
        let [first, second] = values.map(str::to_owned);
        sqlx::query(AssertSqlSafe(sql)).bind(first).bind(second).execute(&self.pool()).await.map(drop)
    }

    async fn try_connect(&self) -> Result<(), sqlx::Error> {
        self.connect.connect().await?.close().await
    }

    async fn check(&self) -> Result<(), Unfit> {
        let keys: [(_, &[&str]); 2] = [(self.statements.upsert(1), &KEY), (self.statements.keep(1), &["event_id"])];
        for (statement, key) in keys {
            let Some((table, sql)) = statement else { continue };
            if let Err(error) = self.explain(&sql).await {
                return Err(Unfit::if_schema(self.fault(&error), error, Unfit::key(table.as_str(), key)));
            }
        }
        self.check_users().await
    }

    async fn forget(&self, before: i64) -> Result<bool, sqlx::Error> {
        let sql = AssertSqlSafe(self.statements.forget_applied(FORGET_MAX));
        let result = sqlx::query(sql).bind(before).execute(&self.pool()).await?;
        Ok(result.rows_affected() >= u64::from(FORGET_MAX))
    }

    fn fault(&self, error: &sqlx::Error) -> Fault {
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        code.map_or(Fault::Unavailable, |code| fault(&code))
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

/// What a code means (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
fn fault(code: &str) -> Fault {
    match code {
        "40001" | "40P01" | "55P03" => Fault::Conflict,
        // The statement's timeout, or an administrator.
        "57014" => Fault::Timeout,
        // No permission: nothing that a row could do about.
        "42501" => Fault::Denied,
        _ => match code.get(..2) {
            // Data, constraints, views that check, limits such as an index's, functions and triggers that raise.
            Some("09" | "21" | "22" | "23" | "27" | "38" | "39" | "44" | "54" | "P0") => Fault::Row,
            // The connection, a lost prepared statement, who one is, what may be done with the server as it is, room, an
            // administrator, the system, a standby's conflicts, corruption.
            Some("08" | "25" | "26" | "28" | "3D" | "40" | "53" | "55" | "57" | "58" | "72" | "F0" | "HV" | "XX") => {
                Fault::Unavailable
            }
            // Whatever else it is, such as a code of a trigger's own: if the tables are in order, it is the row.
            _ => Fault::Schema,
        },
    }
}

/// The number of the parameter whose type the database can't tell, if that is what is wrong.
fn untyped_parameter(error: &sqlx::Error) -> Option<usize> {
    let error = error.as_database_error()?;
    let (_, number) = error.message().rsplit_once('$')?;
    let digits = number.split(|letter: char| !letter.is_ascii_digit()).next()?;
    (error.code()? == "42P18").then(|| digits.parse().ok()).flatten()
}

struct PostgresSession {
    transaction: Transaction<'static, Postgres>,
    statements: Statements,
    begin: String,
    users: Option<String>,
}

#[async_trait]
impl Session for PostgresSession {
    async fn insert_applied(&mut self, keys: &[Key], now: i64) -> Result<u64, sqlx::Error> {
        let mut values = PgArguments::default();
        add(&mut values, keys.iter().map(Key::as_bytes).collect::<Vec<_>>())?;
        add(&mut values, now)?;
        let sql = AssertSqlSafe(self.statements.insert_applied(keys.len()));
        Ok(sqlx::query_with(sql, values).execute(&mut *self.transaction).await?.rows_affected())
    }

    async fn known(&mut self, keys: &[Key]) -> Result<HashSet<Key>, sqlx::Error> {
        let mut values = PgArguments::default();
        add(&mut values, keys.iter().map(Key::as_bytes).collect::<Vec<_>>())?;
        let sql = AssertSqlSafe(self.statements.select_applied(keys.len()));
        let mut known = HashSet::new();
        for row in sqlx::query_with(sql, values).fetch_all(&mut *self.transaction).await? {
            known.extend(Key::read(row.try_get(0)?));
        }
        Ok(known)
    }

    async fn begin_anew(&mut self) -> Result<(), sqlx::Error> {
        self.transaction.execute("ROLLBACK").await?;
        self.transaction.execute(AssertSqlSafe(self.begin.clone())).await.map(drop)
    }

    async fn upsert(&mut self, rows: &[&Row<'_>]) -> Result<(), sqlx::Error> {
        let Some((_, sql)) = self.statements.upsert(0) else { return Ok(()) };
        self.insert(&sql, rows).await
    }

    async fn keep(&mut self, rows: &[&Row<'_>]) -> Result<(), sqlx::Error> {
        let Some((_, sql)) = self.statements.keep(0) else { return Ok(()) };
        self.insert(&sql, rows).await
    }

    async fn run(&mut self, row: &Row<'_>) -> Result<(), sqlx::Error> {
        let Some(users) = &self.users else { return Err(sqlx::Error::WorkerCrashed) };
        let mut values = PgArguments::default();
        for value in row.values() {
            add(&mut values, as_text(value))?;
        }
        sqlx::query_with(AssertSqlSafe(users.clone()), values).execute(&mut *self.transaction).await.map(drop)
    }

    fn end(self: Box<Self>) -> Box<dyn End> {
        Box::new(self.transaction)
    }
}

impl PostgresSession {
    async fn insert(&mut self, sql: &str, rows: &[&Row<'_>]) -> Result<(), sqlx::Error> {
        for piece in pieces(rows, ROWS_MAX, BYTES_MAX) {
            let sql = AssertSqlSafe(sql.to_owned());
            sqlx::query_with(sql, arrays(piece)?).execute(&mut *self.transaction).await?;
        }
        Ok(())
    }
}

/// Rows as one array for each column.
fn arrays(rows: &[&Row<'_>]) -> Result<PgArguments, sqlx::Error> {
    let mut values = PgArguments::default();
    values.reserve(COLUMNS.len(), rows.iter().map(|row| row.size()).sum());
    for (at, column) in COLUMNS.iter().enumerate() {
        let cells = rows.iter().map(|row| &row.values()[at]);
        match column.kind {
            Kind::Integer => {
                let integer = |value: &Value| if let Value::Integer(integer) = value { Some(*integer) } else { None };
                add(&mut values, cells.map(integer).collect::<Vec<Option<i64>>>())?;
            }
            Kind::Time => {
                let moment = |value: &Value<'_>| if let Value::Time(time) = value { Some(Moment(*time)) } else { None };
                add(&mut values, cells.map(moment).collect::<Vec<Option<Moment>>>())?;
            }
            Kind::Text | Kind::Bucket | Kind::Object | Kind::Id | Kind::Json => {
                let texts = cells.map(|value| if let Value::Text(text) = value { Some(text.as_ref()) } else { None });
                add(&mut values, texts.collect::<Vec<Option<&str>>>())?;
            }
        }
    }
    Ok(values)
}

/// A moment, in microseconds since 1970, as PostgreSQL has it: it need not read a text for each.
struct Moment(i64);

impl Moment {
    /// The type's number, and that of its arrays (`pg_type.dat`).
    const TYPE: Oid = Oid(1184);
    const ARRAY_TYPE: Oid = Oid(1185);
    /// PostgreSQL counts from 2000.
    const EPOCH: i64 = 946_684_800_000_000;
}

impl Type<Postgres> for Moment {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Self::TYPE)
    }
}

impl PgHasArrayType for Moment {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Self::ARRAY_TYPE)
    }
}

impl Encode<'_, Postgres> for Moment {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        <i64 as Encode<Postgres>>::encode(self.0.saturating_sub(Self::EPOCH), buffer)
    }
}

/// A value as PostgreSQL reads it from text, whatever type is wanted.
fn as_text(value: &Value<'_>) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Integer(integer) => Some(integer.to_string()),
        Value::Decimal(text) => Some(text.clone()),
        Value::Text(text) => Some(text.to_string()),
        Value::Time(time) => Some(rfc3339(*time)),
    }
}

fn add<'v, V: Encode<'v, Postgres> + Type<Postgres>>(values: &mut PgArguments, value: V) -> Result<(), sqlx::Error> {
    values.add(value).map_err(sqlx::Error::Encode)
}
