//! A database of a test's own, and a connection beside the sink's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{AnyConnection, AssertSqlSafe, Connection};
use tempfile::TempDir;
use upcall_consumer::Sink;
use upcall_sink_sql::{Effect, Options, SqlSink, TableName};
use upcall_telemetry::error_chain;
use upcall_tests::sql::{Engine, SqlServer};

/// A kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Server(Engine),
}

/// A database of a test's own.
pub(crate) struct Site {
    pub(crate) kind: Kind,
    pub(crate) url: String,
    beside: AnyConnection,
    _place: Place,
}

#[expect(dead_code, reason = "it keeps the database there")]
enum Place {
    Folder(TempDir),
    Server(Arc<SqlServer>),
}

/// Runs tests on each kind of database: `on_each_database!(one two)` for functions that take a [`Site`].
macro_rules! on_each_database {
    ($($test:ident)+) => {
        mod sqlite {
            $(#[test] fn $test() { crate::site::check(crate::site::Kind::Sqlite, super::$test); })+
        }
        mod postgres {
            $(#[test] fn $test() {
                crate::site::check(crate::site::Kind::Server(upcall_tests::sql::Engine::Postgres), super::$test);
            })+
        }
        mod mariadb {
            $(#[test] fn $test() {
                crate::site::check(crate::site::Kind::Server(upcall_tests::sql::Engine::MariaDb), super::$test);
            })+
        }
    };
}
pub(crate) use on_each_database;

/// Runs a test with a database of this kind, where that can run here.
pub(crate) fn check<T: Future<Output = ()>>(kind: Kind, test: impl FnOnce(Site) -> T) {
    if let Kind::Server(engine) = kind
        && engine.is_missing("the SQL sink")
    {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { test(Site::new(kind).await).await });
}

impl Site {
    pub(crate) async fn new(kind: Kind) -> Self {
        sqlx::any::install_default_drivers();
        let (url, place) = match kind {
            Kind::Sqlite => {
                let folder = tempfile::tempdir().unwrap();
                (format!("sqlite://{}?mode=rwc", folder.path().join("catalog.db").display()), Place::Folder(folder))
            }
            Kind::Server(engine) => {
                let server = tokio::task::spawn_blocking(move || SqlServer::shared(engine)).await.unwrap();
                (new_database(&server).await, Place::Server(server))
            }
        };
        Self { kind, beside: AnyConnection::connect(&url).await.unwrap(), url, _place: place }
    }

    /// The kind's own way to say something.
    pub(crate) fn says<'a>(&self, sqlite: &'a str, postgres: &'a str, mysql: &'a str) -> &'a str {
        match self.kind {
            Kind::Sqlite => sqlite,
            Kind::Server(Engine::Postgres) => postgres,
            Kind::Server(Engine::MariaDb) => mysql,
        }
    }

    pub(crate) fn is_mariadb(&self) -> bool {
        self.kind == Kind::Server(Engine::MariaDb)
    }

    pub(crate) fn options(&self, effect: impl Into<Effect>) -> Options {
        Options::new(self.url.clone(), effect)
    }

    /// A sink that has never seen the database: as after a restart.
    pub(crate) async fn sink(&self, effect: impl Into<Effect>) -> SqlSink {
        let sink = SqlSink::new(self.options(effect)).unwrap();
        sink.prepare().await.unwrap_or_else(|error| panic!("{}", error_chain(&*error)));
        sink
    }

    /// What is wrong with the database, as a sink that prepares it says.
    pub(crate) async fn complaint(&self, effect: impl Into<Effect>) -> String {
        let sink = SqlSink::new(self.options(effect)).unwrap();
        sink.prepare().await.err().map(|error| error_chain(&*error)).unwrap_or_default()
    }

    pub(crate) async fn execute(&mut self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        sqlx::raw_sql(sql).execute(&mut self.beside).await.unwrap();
    }

    pub(crate) async fn count(&mut self, of: &str) -> i64 {
        let sql = AssertSqlSafe(format!("SELECT count(*) FROM {of}"));
        sqlx::query_scalar(sql).fetch_one(&mut self.beside).await.unwrap()
    }

    /// Values of an expression over a table, as text, in the order of another; null is `-`.
    pub(crate) async fn texts(&mut self, expression: &str, table: &str, order: &str) -> Vec<String> {
        // Without a collation of bytes, which the driver takes for bytes.
        let text = self.says("TEXT", "TEXT", "CHAR CHARACTER SET utf8mb4");
        let collation = self.says("", "", "COLLATE utf8mb4_general_ci");
        let sql =
            format!("SELECT COALESCE(CAST({expression} AS {text}), '-') {collation} FROM {table} ORDER BY {order}");
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut self.beside).await.unwrap()
    }

    /// Each object's key and the id of the event that its row is from, in the order of the keys.
    pub(crate) async fn winners(&mut self) -> Vec<(String, String)> {
        let objects = self.texts("object", "uploads", "object, event_id").await;
        let events = self.texts("event_id", "uploads", "object, event_id").await;
        let mut winners: Vec<_> = objects.into_iter().zip(events).collect();
        winners.sort();
        winners
    }
}

/// The table that most tests use.
pub(crate) fn uploads() -> TableName {
    "uploads".parse().unwrap()
}

/// Makes a database on a server, and returns its URL.
pub(crate) async fn new_database(server: &SqlServer) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    sqlx::any::install_default_drivers();
    let name = format!("upcall_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let mut admin = AnyConnection::connect(&server.admin_url()).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut admin).await.unwrap();
    admin.close().await.unwrap();
    server.url(&name)
}
