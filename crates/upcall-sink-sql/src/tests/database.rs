//! A database file, its sink, and a look into it.

use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions, SqliteConnection};
use tempfile::TempDir;
use upcall_consumer::{Sink, Verdict, conformance};
use upcall_event::{Image, Proof};

use crate::{Options, SqlSink, TableName};
pub(super) use upcall_consumer::conformance::{Published, deliver};

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

/// An upload of an object: the number makes the event's id and its place on the bus.
pub(super) fn upload(number: u64, object: &str, time_us: i64) -> Published {
    let mut published = conformance::upload_of(number, object);
    published.event.time = jiff::Timestamp::from_microsecond(1_767_225_600_000_000 + time_us).unwrap();
    let data = &mut published.event.data;
    data.image = data.image.take().map(|image| Image { height: None, ..image });
    data.route = "avatars".into();
    data.proof.push(Proof::Grant);
    published
}

/// Delivers a batch all of which has to go well.
pub(super) async fn apply(sink: &SqlSink, batch: &[Published]) {
    assert_eq!(deliver(sink, batch).await, vec![Verdict::Done; batch.len()]);
}
