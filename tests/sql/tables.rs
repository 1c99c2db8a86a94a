//! Tables that are there: those of an older version, and those of the user's.

use upcall_sink_sql::Effect;

use crate::events::{apply, upload};
use crate::site::{Site, on_each_database, uploads};

on_each_database! {
    a_table_of_an_older_version_gets_what_it_lacks
    a_table_of_the_first_layout_keeps_its_keys
    a_table_of_the_users_is_named_if_it_does_not_fit_and_is_never_altered
    a_table_of_a_newer_version_is_left_alone
    several_processes_make_the_tables_at_once
    a_table_that_vanishes_is_made_again
    a_unique_key_that_would_lead_astray_is_refused
}

async fn a_table_of_an_older_version_gets_what_it_lacks(mut site: Site) {
    drop(site.sink(uploads()).await);
    apply(&site.sink(uploads()).await, &[upload(1, "a", 0)]).await;
    for column in ["vpc_id", "origin", "extra", "image_width"] {
        site.execute(&format!("ALTER TABLE uploads DROP COLUMN {column}")).await;
    }
    let sink = site.sink(uploads()).await;
    apply(&sink, &[upload(2, "b", 0)]).await;
    assert_eq!(site.texts("origin", "uploads", "object").await, ["", "callback"]);
    assert_eq!(site.texts("image_width", "uploads", "object").await, ["-", "200"]);
    assert_eq!(site.complaint(uploads()).await, "");
}

async fn a_table_of_the_first_layout_keeps_its_keys(mut site: Site) {
    drop(site.sink(uploads()).await);
    site.execute("UPDATE upcall_tables SET version = 1").await;
    apply(&site.sink(uploads()).await, &[upload(1, "a", 0)]).await;
    let hex = site.says("lower(hex(event_id))", "encode(event_id, 'hex')", "lower(hex(event_id))");
    assert_eq!(site.texts(hex, "uploads_applied", "event_id").await, [upload(1, "a", 0).event.id.to_string()]);
    // It is known there afterwards.
    site.execute("DELETE FROM uploads").await;
    apply(&site.sink(uploads()).await, &[upload(1, "a", 0), upload(2, "b", 0)]).await;
    assert_eq!((site.count("uploads").await, site.count("uploads_applied").await), (1, 2));
}

async fn a_table_of_the_users_is_named_if_it_does_not_fit_and_is_never_altered(mut site: Site) {
    let columns = "bucket VARCHAR(100), Object VARCHAR(100), etag VARCHAR(100), mine VARCHAR(100)";
    site.execute(&format!("CREATE TABLE uploads ({columns})")).await;
    let missing = site.complaint(uploads()).await;
    assert!(missing.starts_with("the table uploads lacks the columns event_id, size, mime_type, "), "{missing}");
    assert!(!missing.contains("object") && !missing.contains("etag"), "{missing}");
    site.execute("DROP TABLE uploads").await;
    // A copy has the columns, but not the key.
    drop(site.sink("other".parse::<upcall_sink_sql::TableName>().unwrap()).await);
    site.execute("CREATE TABLE uploads AS SELECT * FROM other").await;
    let unfit = site.complaint(uploads()).await;
    assert!(unfit.contains("its key has to be (bucket, object)"), "{unfit}");
    site.execute("ALTER TABLE uploads ADD COLUMN mine VARCHAR(10)").await;
    let key = site.says("bucket, object", "bucket, object", "bucket, object_sha256");
    site.execute(&format!("CREATE UNIQUE INDEX fits ON uploads ({key})")).await;
    if !site.is_mariadb() {
        apply(&site.sink(uploads()).await, &[upload(1, "a", 0)]).await;
    }
}

async fn a_table_of_a_newer_version_is_left_alone(mut site: Site) {
    drop(site.sink(uploads()).await);
    site.execute("UPDATE upcall_tables SET version = 99 WHERE table_name = 'uploads'").await;
    let complaint = site.complaint(uploads()).await;
    assert!(complaint.contains("the table uploads was made by a newer Upcall (layout 99"), "{complaint}");
}

async fn several_processes_make_the_tables_at_once(mut site: Site) {
    let effect = || Effect::Table { table: uploads(), history: Some("all_uploads".parse().unwrap()), applied: None };
    let made = (0..6).map(|_| site.sink(effect()));
    let sinks = futures_util::future::join_all(made).await;
    apply(&sinks[5], &[upload(1, "a", 0)]).await;
    assert_eq!(site.count("all_uploads").await, 1);
    assert_eq!(site.count("upcall_tables").await, 3);
}

async fn a_table_that_vanishes_is_made_again(mut site: Site) {
    let sink = site.sink(uploads()).await;
    apply(&sink, &[upload(1, "a", 0)]).await;
    site.execute("DROP TABLE uploads").await;
    let verdicts = crate::events::deliver(&sink, &[upload(2, "b", 0), upload(3, "c", 0)]).await;
    let is_unavailable = |verdict: &_| matches!(verdict, upcall_consumer::Verdict::Unavailable { reason } if reason.contains("table uploads"));
    assert!(verdicts.iter().all(is_unavailable), "{verdicts:?}");
    upcall_consumer::Sink::prepare(&sink).await.unwrap();
    apply(&sink, &[upload(2, "b", 0), upload(3, "c", 0)]).await;
    assert_eq!(site.count("uploads").await, 2);
}

async fn a_unique_key_that_would_lead_astray_is_refused(mut site: Site) {
    if !site.is_mariadb() {
        // Elsewhere an upsert follows the one key that it names.
        return;
    }
    drop(site.sink(uploads()).await);
    site.execute("CREATE UNIQUE INDEX one_etag ON uploads (etag(100))").await;
    let complaint = site.complaint(uploads()).await;
    assert!(complaint.contains("the unique key one_etag besides (bucket, object)"), "{complaint}");
    site.execute("DROP INDEX one_etag ON uploads").await;
    assert_eq!(site.complaint(uploads()).await, "");
}
