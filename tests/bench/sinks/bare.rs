//! The least that could do a sink's work: a loop of multi-row inserts, and a loop of POST requests. They know nothing of
//! repetitions, order, failures or signatures.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::ensure;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::routing;
use jiff::Timestamp;
use sqlx::any::{AnyArguments, AnyPoolOptions};
use sqlx::{Arguments, AssertSqlSafe};
use tokio::task::JoinSet;
use upcall_event::Event;

use crate::backlog::event;
use crate::target::{BATCH, CONCURRENCY, REQUESTS};
use crate::usage::Usage;

/// The columns that are written; those without a value are left out.
const COLUMNS: [(&str, Of); 20] = [
    ("bucket", |event, _| text(&event.data.bucket)),
    ("object", |event, _| text(&event.data.object)),
    ("event_id", |event, _| text(&event.id.to_string())),
    ("etag", |event, _| optional(event.data.etag.as_deref())),
    ("size", |event, _| Value::Integer(event.data.size.and_then(|size| i64::try_from(size).ok()))),
    ("mime_type", |event, _| optional(event.data.mime_type.as_deref())),
    ("crc64", |event, _| optional(event.data.crc64.as_deref())),
    ("image_width", |_, _| Value::Integer(Some(200))),
    ("image_height", |_, _| Value::Integer(Some(278))),
    ("image_format", |_, _| text("jpg")),
    ("operation", |event, _| optional(event.data.operation.as_deref())),
    ("request_id", |event, _| optional(event.data.request_id.as_deref())),
    ("client_ip", |event, _| optional(event.data.client_ip.as_deref())),
    ("vars", |_, _| text(r#"{"user":"42"}"#)),
    ("extra", |_, _| text("{}")),
    ("route", |event, _| text(&event.data.route)),
    ("bucket_from", |_, _| text("body")),
    ("proof", |_, _| text(r#"["signature"]"#)),
    ("origin", |_, _| text("callback")),
    ("sequence", |_, number| Value::Integer(i64::try_from(number).ok())),
];
/// An event's value, given its number.
type Of = fn(&Event, usize) -> Value;
/// The columns that hold a moment.
const TIMES: [&str; 2] = ["uploaded_at", "updated_at"];

enum Value {
    Text(Option<String>),
    Integer(Option<i64>),
}

fn text(text: &str) -> Value {
    Value::Text(Some(text.to_owned()))
}

fn optional(text: Option<&str>) -> Value {
    Value::Text(text.map(str::to_owned))
}

/// Writes events into a table, each batch in a statement and a transaction of its own.
pub(crate) fn write(url: &str, table: &str, events: usize) -> anyhow::Result<()> {
    sqlx::any::install_default_drivers();
    let batches: Vec<Vec<Event>> = (0..events)
        .collect::<Vec<_>>()
        .chunks(BATCH)
        .map(|numbers| numbers.iter().map(|number| event(*number)).collect())
        .collect::<anyhow::Result<_>>()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let started = runtime.block_on(async {
        let sqlite = url.starts_with("sqlite:");
        // One connection writes to SQLite, whoever waits.
        let writers = if sqlite { 1 } else { CONCURRENCY };
        let pool = AnyPoolOptions::new()
            .max_connections(u32::try_from(writers)?)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    if sqlite {
                        // As the sink has it: readers go on, and a commit outlives a power cut.
                        sqlx::query("PRAGMA journal_mode = wal").execute(&mut *connection).await?;
                        sqlx::query("PRAGMA synchronous = full").execute(&mut *connection).await?;
                    }
                    Ok(())
                })
            })
            .connect(url)
            .await?;
        let types = Types::read(&pool, url, table).await?;
        let started = Started::now()?;
        let (batches, next) = (Arc::new(batches), Arc::new(AtomicUsize::new(0)));
        let mut running = JoinSet::new();
        for _ in 0..writers {
            let (batches, next, pool, types) = (Arc::clone(&batches), Arc::clone(&next), pool.clone(), types.clone());
            let table = table.to_owned();
            running.spawn(async move {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(batch) = batches.get(at) else { return anyhow::Ok(()) };
                    let (sql, arguments) = types.insert(&table, batch, at * BATCH)?;
                    sqlx::query_with(AssertSqlSafe(sql), arguments).execute(&pool).await?;
                }
            });
        }
        while let Some(ended) = running.join_next().await {
            ended??;
        }
        anyhow::Ok(started)
    })?;
    print(events, started)
}

/// How the columns' types are said where a value is text.
#[derive(Clone)]
struct Types {
    postgres: bool,
    /// The types of the columns, in their order, the times' last.
    names: Vec<String>,
}

impl Types {
    async fn read(pool: &sqlx::AnyPool, url: &str, table: &str) -> anyhow::Result<Self> {
        let postgres = url.starts_with("postgres");
        let mut names = Vec::new();
        for column in COLUMNS.iter().map(|(name, _)| *name).chain(TIMES) {
            let name: Option<String> = if postgres {
                let sql =
                    "SELECT data_type::text FROM information_schema.columns WHERE table_name = $1 AND column_name = $2";
                Some(sqlx::query_scalar(sql).bind(table).bind(column).fetch_one(pool).await?)
            } else {
                None
            };
            names.push(name.unwrap_or_default());
        }
        Ok(Self { postgres, names })
    }

    fn insert(&self, table: &str, batch: &[Event], first: usize) -> anyhow::Result<(String, AnyArguments)> {
        let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).chain(TIMES).collect();
        let mut sql = format!("INSERT INTO {table} ({}) VALUES ", names.join(", "));
        let mut arguments = AnyArguments::default();
        let mut parameter = 0;
        let now = Timestamp::now();
        // MariaDB takes no zone.
        let time = if self.postgres { format!("{now:.6}") } else { now.strftime("%Y-%m-%d %H:%M:%S.%6f").to_string() };
        for (at, event) in batch.iter().enumerate() {
            sql.push_str(if at == 0 { "(" } else { ", (" });
            for column in 0..names.len() {
                parameter += 1;
                if column > 0 {
                    sql.push_str(", ");
                }
                if self.postgres {
                    sql.push_str(&format!("${parameter}::{}", self.names[column]));
                } else {
                    sql.push('?');
                }
                let value = COLUMNS.get(column).map_or_else(|| text(&time), |(_, value)| value(event, first + at));
                let added = match value {
                    Value::Text(text) => arguments.add(text),
                    Value::Integer(integer) => arguments.add(integer),
                };
                added.map_err(|error| anyhow::anyhow!(error))?;
            }
            sql.push(')');
        }
        Ok((sql, arguments))
    }
}

/// Posts events, so many at once, each as a CloudEvent that nobody has signed.
pub(crate) fn post(url: &str, events: usize) -> anyhow::Result<()> {
    let bodies: Vec<Vec<u8>> =
        (0..events).map(|number| Ok(event(number)?.to_structured())).collect::<anyhow::Result<_>>()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let started = runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let (bodies, next) = (Arc::new(bodies), Arc::new(AtomicUsize::new(0)));
        let started = Started::now()?;
        let mut running = JoinSet::new();
        for _ in 0..REQUESTS {
            let (bodies, next, client, url) = (Arc::clone(&bodies), Arc::clone(&next), client.clone(), url.to_owned());
            running.spawn(async move {
                loop {
                    let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) else { return anyhow::Ok(()) };
                    let request = client.post(&url).header("content-type", "application/cloudevents+json");
                    let answer = request.body(body.clone()).send().await?;
                    ensure!(answer.status().is_success(), "the receiver answered {}", answer.status());
                    answer.bytes().await?;
                }
            });
        }
        while let Some(ended) = running.join_next().await {
            ended??;
        }
        anyhow::Ok(started)
    })?;
    print(events, started)
}

/// Takes whatever is posted.
pub(crate) fn receive(address: SocketAddr) -> anyhow::Result<()> {
    const BODY_BYTES_MAX: usize = 1 << 20;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let router = Router::new().route(
            "/",
            routing::post(async |body: Body| {
                let _ = to_bytes(body, BODY_BYTES_MAX).await;
            }),
        );
        Ok(axum::serve(tokio::net::TcpListener::bind(address).await?, router).await?)
    })
}

/// When the work began, and what the process had used by then: it had the events to make.
struct Started {
    at: Instant,
    cpu_s: f64,
}

impl Started {
    fn now() -> anyhow::Result<Self> {
        Ok(Self { cpu_s: Usage::of("self").cpu_seconds()?, at: Instant::now() })
    }
}

/// Prints the rate, the processor time of an event in µs, and the most memory in MB.
fn print(events: usize, started: Started) -> anyhow::Result<()> {
    let rate = events as f64 / started.at.elapsed().as_secs_f64();
    let own = Usage::of("self");
    println!("{rate} {} {}", (own.cpu_seconds()? - started.cpu_s) * 1e6 / events as f64, own.peak_memory_mb()?);
    Ok(())
}
