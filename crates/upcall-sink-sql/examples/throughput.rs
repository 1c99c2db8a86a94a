//! Measures events per second into SQLite: through the sink, and through bare multi-row inserts of the same columns
//! into a table with the same key and index, both in durable transactions of one batch each.
//!
//! `cargo run --release -p upcall-sink-sql --example throughput -- [EVENTS] [BATCH]`

use std::error::Error;
use std::time::Instant;

use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Arguments, AssertSqlSafe, ConnectOptions, Connection};
use upcall_consumer::{Item, Sink, Verdict};
use upcall_event::{Event, Subject};
use upcall_sink_sql::{Options, SqlSink, TableName};

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1).filter_map(|argument| argument.parse::<usize>().ok());
    let (count, batch) = (arguments.next().unwrap_or(100_000), arguments.next().unwrap_or(500));
    let events: Vec<Event> = (0..count).map(event).collect::<Result<_, _>>()?;
    for _ in 0..3 {
        let bare = bare(&events, batch).await?;
        let sink = through_the_sink(&events, batch).await?;
        println!("batches of {batch}: sink {sink:.0}/s, bare {bare:.0}/s, {:.0} %", 100.0 * sink / bare);
    }
    Ok(())
}

async fn through_the_sink(events: &[Event], batch: usize) -> Result<f64, Failure> {
    let directory = tempfile::tempdir()?;
    let url = format!("sqlite://{}", directory.path().join("catalog.db").display());
    let sink = SqlSink::new(Options::new(url, "uploads".parse::<TableName>()?))?;
    sink.prepare().await?;
    let subject: Subject = "upcall.uploads.examplebucket.PutObject".parse()?;
    let started = Instant::now();
    let mut sequence = 0;
    for chunk in events.chunks(batch) {
        let items: Vec<Item<'_>> = chunk
            .iter()
            .map(|event| {
                sequence += 1;
                Item { subject: &subject, event, attempt: 1, sequence, span: None }
            })
            .collect();
        let verdicts = sink.deliver(&items).await;
        assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Done), "the sink refused events");
    }
    let rate = per_second(events.len(), started);
    sink.close().await;
    Ok(rate)
}

/// What an application without the sink would do: text columns, one row per event, no ordering, no ids.
async fn bare(events: &[Event], batch: usize) -> Result<f64, Failure> {
    let directory = tempfile::tempdir()?;
    let mut connection = SqliteConnectOptions::new()
        .filename(directory.path().join("catalog.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        // As the sink has them: what is compared is the work, not the settings.
        .pragma("cache_size", "-65536")
        .pragma("wal_autocheckpoint", "8192")
        .disable_statement_logging()
        .connect()
        .await?;
    let create = upcall_sink_sql::reference();
    let create = create
        .split("```sql\n")
        .nth(1)
        .and_then(|sql| sql.split("CREATE TABLE IF NOT EXISTS \"uploads_applied\"").next());
    sqlx::raw_sql(AssertSqlSafe(create.unwrap_or_default().to_owned())).execute(&mut connection).await?;
    let columns = "bucket, object, event_id, etag, size, mime_type, crc64, image_width, image_height, image_format, operation, request_id, client_ip, vars, extra, route, bucket_from, proof, origin, uploaded_at, sequence, updated_at";
    let row = format!("({})", vec!["?"; columns.split(", ").count()].join(", "));
    let started = Instant::now();
    let mut sequence = 0_i64;
    for chunk in events.chunks(batch) {
        let mut transaction = connection.begin().await?;
        let sql = format!("INSERT INTO uploads ({columns}) VALUES {}", vec![row.as_str(); chunk.len()].join(", "));
        let mut values = SqliteArguments::default();
        for event in chunk {
            sequence += 1;
            let data = &event.data;
            let image = data.image.clone().unwrap_or_default();
            values.add(data.bucket.as_str())?;
            values.add(data.object.as_str())?;
            values.add(event.id.to_string())?;
            values.add(data.etag.as_deref())?;
            values.add(data.size.map(|size| size.cast_signed()))?;
            values.add(data.mime_type.as_deref())?;
            values.add(data.crc64.as_deref())?;
            values.add(image.width.map(|size| size.cast_signed()))?;
            values.add(image.height.map(|size| size.cast_signed()))?;
            values.add(image.format)?;
            values.add(data.operation.as_deref())?;
            values.add(data.request_id.as_deref())?;
            values.add(data.client_ip.as_deref())?;
            values.add(serde_json::to_string(&data.vars)?)?;
            values.add(serde_json::to_string(&data.extra)?)?;
            values.add(data.route.as_str())?;
            values.add(data.bucket_from.as_str())?;
            values.add(serde_json::to_string(&data.proof)?)?;
            values.add(data.origin.as_str())?;
            values.add(event.time.to_string())?;
            values.add(sequence)?;
            values.add(event.time.to_string())?;
        }
        sqlx::query_with(AssertSqlSafe(sql), values).execute(&mut *transaction).await?;
        transaction.commit().await?;
    }
    Ok(per_second(events.len(), started))
}

fn event(number: usize) -> Result<Event, Failure> {
    let id = upcall_event::EventId::from_request("examplebucket", "o", &number.to_string());
    let json = format!(
        r#"{{"specversion":"1.0","id":"{id}","type":"upcall.upload.completed.v1","source":"/oss/examplebucket","subject":"o","time":"2026-01-01T00:00:00.{:06}Z","datacontenttype":"application/json",
        "data":{{"bucket":"examplebucket","object":"users/{}/{number}.jpg","etag":"D8E8FCA2DC0F896FD7CB4CB0031BA249","size":1024,"mime_type":"image/jpeg","crc64":"17834398232350201234","content_md5":null,
        "image":{{"width":200,"height":278,"format":"jpg"}},"operation":"PutObject","request_id":"5CF3E7821AB22D0FDB8670{number}","client_ip":"203.0.113.7","vpc_id":null,
        "vars":{{"user":"42"}},"extra":{{}},"route":"avatars","bucket_from":"body","proof":["signature"],"origin":"callback"}}}}"#,
        number % 1_000_000,
        number % 1_000,
    );
    Ok(Event::from_structured(json.as_bytes())?)
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
fn per_second(events: usize, since: Instant) -> f64 {
    events as f64 / since.elapsed().as_secs_f64()
}
