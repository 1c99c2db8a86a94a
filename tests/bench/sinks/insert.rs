//! The least that could write to a database: a loop of multi-row inserts, each a transaction of its own, which knows
//! nothing of repetitions, order or failures. The statement is prepared once, and the driver is the sink's.

use std::fmt::Write as _;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::bail;
use jiff::Timestamp;
use sqlx::mysql::MySqlPoolOptions;
use sqlx::pool::PoolOptions;
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Arguments, AssertSqlSafe, Database, Encode, Executor, IntoArguments, Pool, Type};
use tokio::task::JoinSet;
use upcall_event::Event;

use crate::events::event;
use crate::own::Started;
use crate::target::{BATCH, CONCURRENCY};

/// What a column holds; PostgreSQL has it said.
enum Value {
    Text(Option<String>),
    Integer(Option<i64>),
    Json(String),
    Time,
}

/// An event's value, given its number.
type Of = fn(&Event, usize) -> Value;

/// The columns that are written, each with an event's value, given its number; those without a value are left out.
const COLUMNS: [(&str, Of); 22] = [
    ("bucket", |event, _| text(&event.data.bucket)),
    ("object", |event, _| text(&event.data.object)),
    ("event_id", |event, _| text(&event.id.to_string())),
    ("etag", |event, _| Value::Text(event.data.etag.clone())),
    ("size", |event, _| Value::Integer(event.data.size.and_then(|size| i64::try_from(size).ok()))),
    ("mime_type", |event, _| Value::Text(event.data.mime_type.clone())),
    ("crc64", |event, _| Value::Text(event.data.crc64.clone())),
    ("image_width", |_, _| Value::Integer(Some(200))),
    ("image_height", |_, _| Value::Integer(Some(278))),
    ("image_format", |_, _| text("jpg")),
    ("operation", |event, _| Value::Text(event.data.operation.clone())),
    ("request_id", |event, _| Value::Text(event.data.request_id.clone())),
    ("client_ip", |event, _| Value::Text(event.data.client_ip.clone())),
    ("vars", |_, _| Value::Json(r#"{"user":"42"}"#.to_owned())),
    ("extra", |_, _| Value::Json("{}".to_owned())),
    ("route", |event, _| text(&event.data.route)),
    ("bucket_from", |_, _| text("body")),
    ("proof", |_, _| Value::Json(r#"["signature"]"#.to_owned())),
    ("origin", |_, _| text("callback")),
    ("uploaded_at", |_, _| Value::Time),
    ("sequence", |_, number| Value::Integer(i64::try_from(number).ok())),
    ("updated_at", |_, _| Value::Time),
];

fn text(text: &str) -> Value {
    Value::Text(Some(text.to_owned()))
}

/// Writes events into a table, each batch in a statement and a transaction of its own.
pub(crate) fn run(url: &str, table: &str, events: usize) -> anyhow::Result<()> {
    let events: Vec<Event> = (0..events).map(event).collect::<anyhow::Result<_>>()?;
    let count = events.len();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let started = runtime.block_on(async {
        match url.split(':').next() {
            Some("sqlite") => {
                // As the sink has it: readers go on, and a commit outlives a power cut.
                let options = SqliteConnectOptions::from_str(url)?
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(SqliteSynchronous::Full)
                    .pragma("wal_autocheckpoint", "8192");
                // One connection writes to SQLite, whoever waits.
                let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
                write(pool, 1, Says::Sqlite, table, events).await
            }
            Some("postgres") => {
                let pool = connections(PgPoolOptions::new()).connect(url).await?;
                write(pool, CONCURRENCY, Says::Postgres, table, events).await
            }
            Some("mysql") => {
                let pool = connections(MySqlPoolOptions::new()).connect(url).await?;
                write(pool, CONCURRENCY, Says::MySql, table, events).await
            }
            _ => bail!("no database is known by {url}"),
        }
    })?;
    started.print(count)
}

fn connections<DB: Database>(pool: PoolOptions<DB>) -> PoolOptions<DB> {
    pool.max_connections(u32::try_from(CONCURRENCY).unwrap_or(1)).test_before_acquire(false)
}

/// How a database says things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Sqlite,
    Postgres,
    MySql,
}

async fn write<DB>(
    pool: Pool<DB>,
    writers: usize,
    says: Says,
    table: &str,
    events: Vec<Event>,
) -> anyhow::Result<Started>
where
    DB: Database,
    DB::Arguments: IntoArguments<DB>,
    for<'c> &'c Pool<DB>: Executor<'c, Database = DB>,
    Option<String>: for<'v> Encode<'v, DB> + Type<DB>,
    Option<i64>: for<'v> Encode<'v, DB> + Type<DB>,
{
    let (events, next) = (Arc::new(events), Arc::new(AtomicUsize::new(0)));
    let full: Arc<str> = says.insert(table, BATCH).into();
    // A connection for each is there before the clock starts.
    let open = (0..writers).map(|_| pool.acquire());
    drop(futures_util::future::try_join_all(open).await?);
    let started = Started::now()?;
    let mut running = JoinSet::new();
    for _ in 0..writers {
        let (events, next, pool, full) = (Arc::clone(&events), Arc::clone(&next), pool.clone(), Arc::clone(&full));
        let table = table.to_owned();
        running.spawn(async move {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(batch) = events.chunks(BATCH).nth(at) else { return anyhow::Ok(()) };
                let sql = if batch.len() == BATCH { full.to_string() } else { says.insert(&table, batch.len()) };
                let arguments = says.arguments::<DB>(batch, at * BATCH)?;
                sqlx::query_with(AssertSqlSafe(sql), arguments).execute(&pool).await?;
            }
        });
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(started)
}

impl Says {
    fn insert(self, table: &str, rows: usize) -> String {
        let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
        let mut sql = format!("INSERT INTO {table} ({}) VALUES ", names.join(", "));
        for row in 0..rows {
            sql.push_str(if row == 0 { "(" } else { ", (" });
            for (column, name) in names.iter().enumerate() {
                sql.push_str(if column == 0 { "" } else { ", " });
                let cast = match *name {
                    "vars" | "extra" | "proof" => "::jsonb",
                    "uploaded_at" | "updated_at" => "::timestamptz",
                    _ => "",
                };
                if self == Self::Postgres {
                    let _ = write!(sql, "${}{cast}", row * names.len() + column + 1);
                } else {
                    sql.push('?');
                }
            }
            sql.push(')');
        }
        sql
    }

    fn arguments<DB>(self, batch: &[Event], first: usize) -> anyhow::Result<DB::Arguments>
    where
        DB: Database,
        Option<String>: for<'v> Encode<'v, DB> + Type<DB>,
        Option<i64>: for<'v> Encode<'v, DB> + Type<DB>,
    {
        let now = Timestamp::now();
        // MySQL takes no zone.
        let time =
            if self == Self::MySql { now.strftime("%Y-%m-%d %H:%M:%S.%6f").to_string() } else { format!("{now:.6}") };
        let mut arguments = DB::Arguments::default();
        arguments.reserve(batch.len() * COLUMNS.len(), batch.len() * 1024);
        for (number, event) in (first..).zip(batch) {
            for (_, value) in &COLUMNS {
                let added = match value(event, number) {
                    Value::Text(text) => arguments.add(text),
                    Value::Integer(integer) => arguments.add(integer),
                    Value::Json(json) => arguments.add(Some(json)),
                    Value::Time => arguments.add(Some(time.clone())),
                };
                added.map_err(|error| anyhow::anyhow!(error))?;
            }
        }
        Ok(arguments)
    }
}
