//! Killing the consumer and the database under load, again and again: each event is applied once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use sqlx::{AnyConnection, AssertSqlSafe, Connection};
use upcall_bus::{Deadline, Message, Publisher};
use upcall_bus_journal::{Journal, Options};
use upcall_tests::executable::{PATIENCE, Running};
use upcall_tests::signer::Signer;
use upcall_tests::sql::{Engine, SqlServer};

use crate::events::{Published, oracle, upload};
use crate::site::new_database;

const EVENTS: u64 = 12_000;
const OBJECTS: u64 = 1_000;
/// How often the consumer dies; where there is a server, it dies in every other life.
const KILLS: u32 = 6;

#[test]
fn on_postgres_each_event_is_applied_once_whoever_dies() {
    on_server(Engine::Postgres);
}

#[test]
fn on_mariadb_each_event_is_applied_once_whoever_dies() {
    on_server(Engine::MariaDb);
}

#[test]
fn on_sqlite_each_event_is_applied_once_though_the_consumer_dies() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("catalog.db").display());
    runtime().block_on(check(&url, None));
}

fn on_server(engine: Engine) {
    if engine.is_missing("killing the database") {
        return;
    }
    let server = SqlServer::start(engine);
    runtime().block_on(async { check(&new_database(&server).await, Some(&server)).await });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

async fn check(url: &str, server: Option<&SqlServer>) {
    let folder = tempfile::tempdir().unwrap();
    let events = backlog(&folder.path().join("journal")).await;
    let configuration = configuration(folder.path(), url);
    {
        let mut database = connect(url).await;
        let create = "CREATE TABLE effects (event_id VARCHAR(32), object VARCHAR(100))";
        sqlx::query(create).execute(&mut database).await.unwrap();
    }
    let mut applied_before = 0;
    for life in 0..KILLS {
        let mut process = Running::start(&["serve", "-c", configuration.to_str().unwrap()]);
        // It has done something in this life, and is in the midst of more.
        applied_before = wait_for_effects(url, applied_before + 300).await;
        if let Some(server) = server.filter(|_| life % 2 == 1) {
            server.kill();
            tokio::time::sleep(Duration::from_millis(50 * u64::from(life))).await;
            server.restart();
            applied_before = wait_for_effects(url, applied_before + 300).await;
        }
        process.kill();
    }
    let mut process = Running::start(&["serve", "-c", configuration.to_str().unwrap()]);
    wait_for_effects(url, events.len()).await;
    let mut database = connect(url).await;
    let end = Instant::now() + PATIENCE;
    while texts(&mut database, "event_id", "uploads_history").await.len() < events.len() {
        assert!(Instant::now() < end, "the history is not complete in time");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(process.terminate().success());

    let ids: BTreeSet<String> = events.iter().map(|published| published.event.id.to_string()).collect();
    for table in ["effects", "uploads_history"] {
        let found = texts(&mut database, "event_id", table).await;
        assert_eq!(found.len(), ids.len(), "{table}: something twice");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), ids, "{table}");
    }
    let objects = texts(&mut database, "object", "uploads").await;
    let mut winners: Vec<_> = objects.into_iter().zip(texts(&mut database, "event_id", "uploads").await).collect();
    winners.sort();
    assert_eq!(winners, oracle(&events), "each object has its latest event");
}

/// Fills a journal with uploads of few objects, so that what comes later replaces what came before.
async fn backlog(folder: &Path) -> Vec<Published> {
    let journal = Journal::open(Options::new(folder)).unwrap();
    // The time grows with the number, as the order of publishing need not.
    let events: Vec<Published> = (0..EVENTS)
        .map(|number| upload(number, &format!("o{:04}", number * 7 % OBJECTS), i64::try_from(number).unwrap()))
        .collect();
    for some in events.chunks(500) {
        let published = some.iter().map(|published| {
            let subject = "upcall.uploads.examplebucket.PutObject".parse().unwrap();
            journal.publish(Message { subject, event: published.event.clone() }, Deadline::after(PATIENCE))
        });
        for receipt in join_all(published).await {
            receipt.unwrap();
        }
    }
    journal.close().await;
    events
}

fn configuration(folder: &Path, url: &str) -> PathBuf {
    let file = folder.join("upcall.toml");
    let text = format!(
        "[gateway]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\n[bus]\njournal = \"./journal\"\n\n{keys}\n\
         [[route]]\nname = \"test\"\npath = \"/oss/test\"\n\n\
         [[consumer]]\nname = \"catalog\"\nbatch_max = 100\nsql = {{ url = \"{url}\", history = true }}\n\n\
         [[consumer]]\nname = \"effects\"\nbatch_max = 50\n[consumer.sql]\nurl = \"{url}\"\napplied = \"effects_applied\"\n\
         statement = \"INSERT INTO effects (event_id, object) VALUES (${{event.id}}, ${{object}})\"\n",
        keys = Signer::new().configuration(),
    );
    std::fs::write(&file, text).unwrap();
    file
}

async fn wait_for_effects(url: &str, at_least: usize) -> usize {
    let at_least = at_least.min(usize::try_from(EVENTS).unwrap());
    let mut database = connect(url).await;
    let end = Instant::now() + PATIENCE;
    loop {
        let counted: i64 = sqlx::query_scalar("SELECT count(*) FROM effects").fetch_one(&mut database).await.unwrap();
        let counted = usize::try_from(counted).unwrap();
        if counted >= at_least {
            return counted;
        }
        assert!(Instant::now() < end, "{counted} effects of {at_least} in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn connect(url: &str) -> AnyConnection {
    sqlx::any::install_default_drivers();
    let creating = if url.starts_with("sqlite:") { "?mode=rwc" } else { "" };
    AnyConnection::connect(&format!("{url}{creating}")).await.unwrap()
}

async fn texts(database: &mut AnyConnection, column: &str, table: &str) -> Vec<String> {
    let text = if database.backend_name() == "MySQL" { "CHAR" } else { "TEXT" };
    // The driver takes a collation of bytes for bytes.
    let collation = if database.backend_name() == "MySQL" { "COLLATE utf8mb4_general_ci" } else { "" };
    let sql = format!("SELECT CAST({column} AS {text}) {collation} FROM {table} ORDER BY event_id");
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(database).await.unwrap()
}
