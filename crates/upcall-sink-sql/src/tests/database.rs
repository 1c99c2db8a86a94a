//! A database file, its sink, and a look into it.

use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions, SqliteConnection};
use tempfile::TempDir;
use upcall_consumer::{Item, Sink, Verdict};
use upcall_event::{BucketSource, Event, EventId, Image, Origin, Proof, Subject, UploadCompleted};

use crate::{Options, SqlSink, TableName};

/// A database file of its own, with a connection beside the sink's.
pub(super) struct Database {
    directory: TempDir,
    pub(super) beside: SqliteConnection,
}

impl Database {
    pub(super) async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let beside = SqliteConnectOptions::new().filename(directory.path().join("catalog.db")).create_if_missing(true);
        Self { beside: beside.connect().await.unwrap(), directory }
    }

    pub(super) fn options(&self) -> Options {
        let url = format!("sqlite://{}", self.directory.path().join("catalog.db").display());
        Options {
            statement_timeout: Duration::from_millis(400),
            ..Options::new(url, "uploads".parse::<TableName>().unwrap())
        }
    }

    /// A sink that has never seen the database: as after a restart.
    pub(super) fn sink(&self) -> SqlSink {
        SqlSink::new(Options { statement_timeout: Duration::from_secs(10), ..self.options() }).unwrap()
    }

    pub(super) async fn ready_sink(&self) -> SqlSink {
        let sink = self.sink();
        sink.prepare().await.unwrap();
        sink
    }

    pub(super) async fn execute(&mut self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut self.beside).await.unwrap();
    }

    pub(super) async fn count(&mut self, of: &str) -> i64 {
        let sql = AssertSqlSafe(format!("SELECT count(*) FROM {of}"));
        sqlx::query_scalar(sql).fetch_one(&mut self.beside).await.unwrap()
    }

    /// Each object's key and the id of the event that its row is from, in the order of the keys.
    pub(super) async fn winners(&mut self) -> Vec<(String, String)> {
        sqlx::query_as("SELECT object, event_id FROM uploads ORDER BY object")
            .fetch_all(&mut self.beside)
            .await
            .unwrap()
    }

    pub(super) async fn only_row(&mut self) -> SqliteRow {
        sqlx::query("SELECT * FROM uploads").fetch_one(&mut self.beside).await.unwrap()
    }
}

/// An event and its place on the bus.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Published {
    pub(super) event: Event,
    pub(super) sequence: u64,
}

/// An upload of an object: the number makes the event's id and its place on the bus.
pub(super) fn upload(number: u64, object: &str, time_us: i64) -> Published {
    let data = UploadCompleted {
        bucket: "examplebucket".into(),
        object: object.into(),
        etag: Some(format!("ETAG{number}")),
        size: Some(1024),
        mime_type: Some("image/jpeg".into()),
        crc64: Some("17834398232350201234".into()),
        content_md5: None,
        image: Some(Image { width: Some(200), height: None, format: Some("jpg".into()) }),
        operation: Some("PutObject".into()),
        request_id: Some(number.to_string()),
        client_ip: Some("203.0.113.7".into()),
        vpc_id: None,
        vars: [("user".to_owned(), "42".to_owned())].into(),
        extra: [("anything".to_owned(), 1.into())].into(),
        route: "avatars".into(),
        bucket_from: BucketSource::Body,
        proof: vec![Proof::Signature, Proof::Grant],
        origin: Origin::Callback,
    };
    let id = EventId::from_request("examplebucket", object, &number.to_string());
    let time = jiff::Timestamp::from_microsecond(1_767_225_600_000_000 + time_us).unwrap();
    Published { event: Event { id, time, data }, sequence: number }
}

pub(super) async fn deliver(sink: &SqlSink, batch: &[Published]) -> Vec<Verdict> {
    let subject: Subject = "upcall.uploads.examplebucket.PutObject".parse().unwrap();
    let items: Vec<Item<'_>> = batch
        .iter()
        .map(|Published { event, sequence }| Item { subject: &subject, event, attempt: 1, sequence: *sequence })
        .collect();
    sink.deliver(&items).await
}

/// Delivers a batch all of which has to go well.
pub(super) async fn apply(sink: &SqlSink, batch: &[Published]) {
    assert_eq!(deliver(sink, batch).await, vec![Verdict::Done; batch.len()]);
}
