//! Whose the ids of applied events are.

use futures_util::future::join_all;
use upcall_consumer::Sink;
use upcall_sink_sql::{Effect, Options, SqlSink, TableName};
use upcall_telemetry::error_chain;
use upcall_tests::executable::workspace;

use crate::events::{Published, apply, upload};
use crate::site::{Site, on_each_database, uploads};

on_each_database! {
    what_one_consumer_has_applied_does_not_count_for_another
    processes_of_one_consumer_share_their_ids
    ids_of_an_older_version_go_to_the_first_that_comes
    a_consumer_with_another_name_is_handed_its_ids_by_the_statement_that_is_said
    of_consumers_that_begin_at_once_one_gets_the_ids
    a_table_of_ids_of_the_users_is_taken_as_it_is
    the_documented_statement_has_what_was_deleted_applied_again
}

fn sink(site: &Site, consumer: &str, effect: impl Into<Effect>) -> SqlSink {
    SqlSink::new(Options { consumer: Some(consumer.to_owned()), ..site.options(effect) }).unwrap()
}

async fn ready(site: &Site, consumer: &str, effect: impl Into<Effect>) -> SqlSink {
    let sink = sink(site, consumer, effect);
    sink.prepare().await.unwrap_or_else(|error| panic!("{consumer}: {}", error_chain(&*error)));
    sink
}

async fn complaint(site: &Site, consumer: &str, effect: impl Into<Effect>) -> String {
    let error = sink(site, consumer, effect).prepare().await;
    error_chain(&*error.expect_err("the ids are another's"))
}

fn batch() -> Vec<Published> {
    (1..=20).map(|number| upload(number, &number.to_string(), 0)).collect()
}

fn statement(applied: &str) -> Effect {
    let statement = "INSERT INTO seen (event_id) VALUES (${event.id})".parse().unwrap();
    Effect::Statement { statement, applied: applied.parse().unwrap() }
}

async fn what_one_consumer_has_applied_does_not_count_for_another(mut site: Site) {
    site.execute("CREATE TABLE seen (event_id CHAR(32))").await;
    apply(&ready(&site, "catalog", uploads()).await, &batch()).await;
    let with_history = Effect::Table { table: uploads(), history: Some("kept".parse().unwrap()), applied: None };
    for (consumer, effect) in [("images", statement("uploads_applied")), ("history", with_history)] {
        let complaint = complaint(&site, consumer, effect).await;
        for expected in ["the table uploads_applied has the ids of what the consumer catalog has applied", consumer] {
            assert!(complaint.contains(expected), "{complaint}");
        }
    }
    // With a table of ids of its own each gets everything.
    apply(&ready(&site, "images", statement("images_applied")).await, &batch()).await;
    let applied = Some("history_applied".parse::<TableName>().unwrap());
    let with_history = Effect::Table { table: uploads(), history: Some("kept".parse().unwrap()), applied };
    apply(&ready(&site, "history", with_history).await, &batch()).await;
    for table in ["uploads", "seen", "kept", "uploads_applied", "images_applied", "history_applied"] {
        assert_eq!(site.count(table).await, 20, "{table}");
    }
}

async fn processes_of_one_consumer_share_their_ids(mut site: Site) {
    site.execute("CREATE TABLE seen (event_id CHAR(32))").await;
    for _ in 0..3 {
        apply(&ready(&site, "images", statement("images_applied")).await, &batch()).await;
    }
    assert_eq!(site.count("seen").await, 20, "each event once");
}

async fn ids_of_an_older_version_go_to_the_first_that_comes(mut site: Site) {
    apply(&site.sink(uploads()).await, &batch()).await;
    site.execute("ALTER TABLE upcall_tables DROP COLUMN consumer").await;
    site.execute("DELETE FROM uploads").await;
    apply(&ready(&site, "catalog", uploads()).await, &batch()).await;
    assert_eq!(site.count("uploads").await, 0, "they are known");
    let complaint = complaint(&site, "images", uploads()).await;
    assert!(complaint.contains("the consumer catalog has applied"), "{complaint}");
}

async fn a_consumer_with_another_name_is_handed_its_ids_by_the_statement_that_is_said(mut site: Site) {
    apply(&ready(&site, "catalog", uploads()).await, &batch()).await;
    let complaint = complaint(&site, "catalogue", uploads()).await;
    let said = complaint.split('`').find(|text| text.starts_with("UPDATE ")).expect("there is a statement");
    site.execute(said).await;
    site.execute("DELETE FROM uploads").await;
    apply(&ready(&site, "catalogue", uploads()).await, &batch()).await;
    assert_eq!(site.count("uploads").await, 0, "what it had applied before is known");
}

async fn of_consumers_that_begin_at_once_one_gets_the_ids(site: Site) {
    let begun = (0..6).map(|number| {
        let sink = sink(&site, &format!("consumer-{number}"), uploads());
        async move { sink.prepare().await.map_err(|error| error_chain(&*error)) }
    });
    let begun = join_all(begun).await;
    let refused: Vec<_> = begun.iter().filter_map(|begun| begun.as_ref().err()).collect();
    assert_eq!(refused.len(), 5, "{begun:?}");
    assert!(refused.iter().all(|refused| refused.contains("has the ids of what the consumer")), "{refused:?}");
}

async fn a_table_of_ids_of_the_users_is_taken_as_it_is(mut site: Site) {
    site.execute("CREATE TABLE seen (event_id CHAR(32))").await;
    let id = site.says("BLOB", "BYTEA", "BINARY(16)");
    site.execute(&format!("CREATE TABLE mine (event_id {id} NOT NULL PRIMARY KEY, applied_at BIGINT NOT NULL)")).await;
    for _ in 0..2 {
        apply(&ready(&site, "images", statement("mine")).await, &batch()).await;
    }
    assert_eq!((site.count("seen").await, site.count("mine").await), (20, 20));
    assert!(complaint(&site, "others", statement("mine")).await.contains("the consumer images"));
}

async fn the_documented_statement_has_what_was_deleted_applied_again(mut site: Site) {
    let reference = std::fs::read_to_string(workspace().join("docs/reference/sql-sink.md")).unwrap();
    let heading = site.says("\n## SQLite\n", "\n## PostgreSQL\n", "\n## MySQL and MariaDB\n");
    let (_, section) = reference.split_once(heading).unwrap();
    let (_, statement) = section.split_once("```sql\nDELETE ").unwrap();
    let statement = format!("DELETE {}", statement.split("```").next().unwrap());
    for layout in [2, 1] {
        drop(site.sink(uploads()).await);
        site.execute("DELETE FROM uploads").await;
        site.execute("DELETE FROM uploads_applied").await;
        site.execute(&format!("UPDATE upcall_tables SET version = {layout}")).await;
        let sink = site.sink(uploads()).await;
        apply(&sink, &batch()).await;
        site.execute("DELETE FROM uploads WHERE object IN ('3', '7', '11')").await;
        site.execute(&statement).await;
        assert_eq!(site.count("uploads_applied").await, 17, "layout {layout}: those whose rows are there stay");
        // What is there is known, what is not comes back.
        site.execute("UPDATE uploads SET mime_type = 'mine'").await;
        apply(&sink, &batch()).await;
        assert_eq!(site.count("uploads").await, 20, "layout {layout}");
        assert_eq!(site.count("uploads WHERE mime_type = 'mine'").await, 17, "layout {layout}");
    }
}
