//! What the sink promises, on real SQLite files.

mod database;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::Index;
use sqlx::Row as _;
use upcall_consumer::{Sink, Verdict};
use upcall_telemetry::error_chain;

use crate::{Options, OptionsError, SqlSink, TableName};
use database::{Database, Published, apply, deliver, upload};

fn in_runtime<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

/// Whether a verdict blames the database, for a reason that says so.
fn is_unavailable(verdict: &Verdict, expected: &str) -> bool {
    matches!(verdict, Verdict::Unavailable { reason } if reason.contains(expected))
}

/// What the table has to hold: of each object the event with the greatest time, place and id.
fn oracle<'a>(events: impl IntoIterator<Item = &'a Published>) -> Vec<(String, String)> {
    let mut latest: BTreeMap<&str, &Published> = BTreeMap::new();
    let order = |published: &Published| (published.event.time, published.sequence, published.event.id);
    for published in events {
        let kept = latest.entry(&published.event.data.object).or_insert(published);
        if order(published) > order(kept) {
            *kept = published;
        }
    }
    latest.into_iter().map(|(object, published)| (object.to_owned(), published.event.id.to_string())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn whatever_the_order_the_batches_and_the_repetitions_the_table_is_the_same(
        uploads in prop::collection::vec((0_u8..8, 0_i64..5), 1..60), order in prop::collection::vec(any::<Index>(), 0..120), cuts in prop::collection::vec(1_usize..40, 1..10)
    ) {
        in_runtime(async {
            let mut database = Database::new().await;
            let sink = database.ready_sink().await;
            database.execute("CREATE TABLE written (event_id); CREATE TRIGGER i AFTER INSERT ON uploads_applied BEGIN INSERT INTO written VALUES (new.event_id); END").await;
            let events: Vec<Published> = (1..).zip(&uploads).map(|(number, (object, time))| upload(number, &object.to_string(), *time)).collect();
            let deliveries: Vec<Published> = order.iter().map(|index| index.get(&events).clone()).collect();
            let (mut rest, mut cuts) = (&deliveries[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (batch, later) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                apply(&sink, batch).await;
                rest = later;
            }
            prop_assert_eq!(database.winners().await, oracle(&deliveries));
            let distinct: BTreeSet<_> = deliveries.iter().map(|published| published.event.id).collect();
            prop_assert_eq!(database.count("written").await, distinct.len() as i64);
            Ok(())
        })?;
    }

    #[test]
    fn rows_that_the_database_refuses_are_found_and_the_others_go_on(bad in prop::collection::vec(any::<bool>(), 1..150)) {
        in_runtime(async {
            let mut database = Database::new().await;
            let sink = database.ready_sink().await;
            database.execute("CREATE TRIGGER no BEFORE INSERT ON uploads WHEN new.object LIKE 'bad%' BEGIN SELECT raise(ABORT, 'we want no such thing'); END").await;
            let name = |number: u64, bad: bool| format!("{}{number}", if bad { "bad" } else { "good" });
            let batch: Vec<Published> = (1..).zip(&bad).map(|(number, bad)| upload(number, &name(number, *bad), 0)).collect();
            for (verdict, bad) in deliver(&sink, &batch).await.iter().zip(&bad) {
                match verdict {
                    Verdict::Done => prop_assert!(!bad),
                    Verdict::Retry { after: None, reason } => prop_assert!(*bad && reason.contains("we want no such thing"), "{}", reason),
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            let good = bad.iter().filter(|bad| !**bad).count() as i64;
            prop_assert_eq!((database.count("uploads").await, database.count("uploads_applied").await), (good, good));
            database.execute("DROP TRIGGER no").await;
            apply(&sink, &batch).await;
            prop_assert_eq!(database.count("uploads").await, bad.len() as i64);
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_row_holds_what_the_event_says() {
    let mut database = Database::new().await;
    let sink = database.ready_sink().await;
    let published = upload(7, "a/b.jpg", 120);
    apply(&sink, std::slice::from_ref(&published)).await;
    let row = database.only_row().await;
    let id = published.event.id.to_string();
    for (column, expected) in [
        ("bucket", Some("examplebucket")),
        ("object", Some("a/b.jpg")),
        ("event_id", Some(id.as_str())),
        ("etag", Some("ETAG7")),
        ("mime_type", Some("image/jpeg")),
        ("crc64", Some("17834398232350201234")),
        ("content_md5", None),
        ("image_format", Some("jpg")),
        ("operation", Some("PutObject")),
        ("request_id", Some("7")),
        ("client_ip", Some("203.0.113.7")),
        ("vpc_id", None),
        ("vars", Some(r#"{"user":"42"}"#)),
        ("extra", Some(r#"{"anything":1}"#)),
        ("route", Some("avatars")),
        ("bucket_from", Some("body")),
        ("proof", Some(r#"["signature","grant"]"#)),
        ("origin", Some("callback")),
        ("uploaded_at", Some("2026-01-01T00:00:00.000120Z")),
    ] {
        assert_eq!(row.get::<Option<&str>, _>(column), expected, "{column}");
    }
    let integers = ["size", "image_width", "image_height", "sequence"].map(|column| row.get::<Option<i64>, _>(column));
    assert_eq!(integers, [Some(1024), Some(200), None, Some(7)]);
    assert_eq!(row.get::<&str, _>("updated_at").len(), "2026-01-01T00:00:00.000120Z".len());
}

#[tokio::test]
async fn a_later_upload_wins_and_an_older_one_that_comes_late_does_not() {
    let mut database = Database::new().await;
    let sink = database.ready_sink().await;
    let (old, new) = (upload(1, "o", 1), upload(2, "o", 2));
    apply(&sink, std::slice::from_ref(&old)).await;
    apply(&sink, std::slice::from_ref(&new)).await;
    assert_eq!(database.winners().await, oracle([&new]));
    let older = upload(3, "o", 0);
    apply(&sink, &[older]).await;
    assert_eq!(database.winners().await, oracle([&new]));
    let same_time = upload(4, "o", 2);
    apply(&sink, std::slice::from_ref(&same_time)).await;
    assert_eq!(database.winners().await, oracle([&same_time]), "the place on the bus decides");
}

/// A process that dies between the commit and the acknowledgement has the whole batch delivered again.
#[tokio::test]
async fn a_batch_that_was_committed_and_not_acknowledged_has_no_second_effect() {
    let mut database = Database::new().await;
    let batch: Vec<Published> = (1..=1_200).map(|number| upload(number, &number.to_string(), 0)).collect();
    apply(&database.ready_sink().await, &batch).await;
    database.execute("DELETE FROM uploads WHERE object < '2'").await;
    let left = database.winners().await;
    let beyond: Vec<Published> = (1_201..=1_210).map(|number| upload(number, "beyond", 0)).collect();
    let again: Vec<Published> = batch.iter().chain(&beyond).cloned().collect();
    apply(&database.ready_sink().await, &again).await;
    let mut expected = left;
    expected.extend(oracle(&beyond));
    expected.sort();
    assert_eq!(database.winners().await, expected, "what was deleted stays so, what is new is there");
}

#[tokio::test]
async fn a_trigger_that_fails_is_its_rows_failure() {
    let mut database = Database::new().await;
    let sink = database.ready_sink().await;
    database
        .execute("CREATE TRIGGER t AFTER INSERT ON uploads WHEN new.object = 'b' BEGIN SELECT json('{'); END")
        .await;
    let verdicts = deliver(&sink, &["a", "b", "c"].map(|object| upload(1, object, 0))).await;
    let [Verdict::Done, Verdict::Retry { reason, .. }, Verdict::Done] = &verdicts[..] else { panic!("{verdicts:?}") };
    assert!(reason.contains("malformed JSON"), "{reason}");
}

#[tokio::test]
async fn a_number_that_no_column_takes_kills_its_event_alone() {
    let mut database = Database::new().await;
    let sink = database.ready_sink().await;
    let (mut huge, fine) = (upload(1, "huge", 0), upload(2, "fine", 0));
    huge.event.data.size = Some(u64::MAX);
    let verdicts = deliver(&sink, &[huge, fine]).await;
    let reason = "size is 18446744073709551615, more than a 64-bit column takes".to_owned();
    assert_eq!(verdicts, [Verdict::Dead { reason }, Verdict::Done]);
    assert_eq!(database.count("uploads").await, 1);
}

#[tokio::test]
async fn a_locked_database_is_waited_for_and_costs_no_event_anything() {
    let mut database = Database::new().await;
    let sink = SqlSink::new(database.options()).unwrap();
    sink.prepare().await.unwrap();
    let batch = [upload(1, "a", 0), upload(2, "b", 0)];
    database.execute("BEGIN IMMEDIATE").await;
    let verdicts = deliver(&sink, &batch).await;
    assert!(verdicts.iter().all(|verdict| is_unavailable(verdict, "database is locked")), "{verdicts:?}");
    database.execute("COMMIT").await;
    sink.prepare().await.unwrap();
    apply(&sink, &batch).await;
    assert_eq!(database.count("uploads").await, 2);
}

#[tokio::test]
async fn a_table_that_vanishes_is_made_again() {
    let mut database = Database::new().await;
    let sink = database.ready_sink().await;
    apply(&sink, &[upload(1, "a", 0)]).await;
    database.execute("DROP TABLE uploads").await;
    let verdicts = deliver(&sink, &[upload(2, "b", 0), upload(3, "c", 0)]).await;
    assert!(verdicts.iter().all(|verdict| is_unavailable(verdict, "table uploads")), "{verdicts:?}");
    sink.prepare().await.unwrap();
    apply(&sink, &[upload(2, "b", 0), upload(3, "c", 0)]).await;
    assert_eq!(database.count("uploads").await, 2);
}

#[tokio::test]
async fn batches_at_once_are_all_applied() {
    let mut database = Database::new().await;
    let options = Options { pool_max: 4.try_into().unwrap(), url: database.options().url, ..database.options() };
    let sink = SqlSink::new(Options { statement_timeout: std::time::Duration::from_secs(20), ..options }).unwrap();
    sink.prepare().await.unwrap();
    let batches: Vec<Vec<Published>> =
        (0..8).map(|batch| (0..50).map(|n| upload(batch * 50 + n, &(n * 3).to_string(), 0)).collect()).collect();
    let [a, b, c, d, e, f, g, h] = &batches[..] else { panic!("eight batches") };
    tokio::join!(apply(&sink, a), apply(&sink, b), apply(&sink, c), apply(&sink, d));
    tokio::join!(apply(&sink, e), apply(&sink, f), apply(&sink, g), apply(&sink, h));
    assert_eq!(database.winners().await, oracle(batches.iter().flatten()));
    assert_eq!(database.count("uploads_applied").await, 400);
}

#[tokio::test]
async fn old_ids_are_forgotten_and_young_ones_are_not() {
    let mut database = Database::new().await;
    apply(&database.ready_sink().await, &[upload(1, "a", 0), upload(2, "b", 0)]).await;
    let aged = "UPDATE uploads_applied SET applied_at = unixepoch() - 91 * 86400 WHERE substr(lower(hex(event_id)), 9) IN (SELECT substr(event_id, 1, 24) FROM uploads WHERE object = 'a')";
    database.execute(aged).await;
    apply(&database.ready_sink().await, &[upload(3, "c", 0)]).await;
    assert_eq!(database.count("uploads_applied").await, 2);
    assert_eq!(database.count("uploads").await, 3);
}

/// Prepares a sink over what some SQL has made of the database, and tells what is wrong with it.
async fn complaint(sql: &str) -> Option<String> {
    let mut database = Database::new().await;
    database.execute(sql).await;
    database.sink().prepare().await.err().map(|error| error_chain(&*error))
}

#[tokio::test]
async fn a_table_of_the_users_is_taken_if_it_fits_and_named_if_it_does_not() {
    let missing = complaint("CREATE TABLE uploads (bucket TEXT, Object TEXT, etag TEXT, mine TEXT)").await.unwrap();
    assert!(missing.starts_with("the table uploads lacks the columns event_id, size, mime_type, "), "{missing}");
    assert!(!missing.contains("object") && !missing.contains("etag"), "{missing}");
    let columns: Vec<&str> = crate::column::COLUMNS.iter().map(|column| column.name).collect();
    let columns = columns.join(", ");
    let unfit = complaint(&format!("CREATE TABLE uploads ({columns})")).await.unwrap();
    assert!(unfit.contains("its key has to be (bucket, object)") && unfit.contains("ON CONFLICT"), "{unfit}");
    let fits = format!("CREATE TABLE uploads (mine DEFAULT 1, {columns}, UNIQUE (bucket, object))");
    assert_eq!(complaint(&fits).await, None);
}

#[tokio::test]
async fn what_is_no_database_and_what_cannot_be_opened_is_said_plainly() {
    let directory = tempfile::tempdir().unwrap();
    let complaint = async |name: &str| {
        let url = format!("sqlite://{}", directory.path().join(name).display());
        let sink = SqlSink::new(Options::new(url, "uploads".parse::<TableName>().unwrap())).unwrap();
        error_chain(&*sink.prepare().await.unwrap_err())
    };
    std::fs::write(directory.path().join("letter.txt"), "Dear reader, this is a letter. ".repeat(100)).unwrap();
    let letter = complaint("letter.txt").await;
    assert!(letter.contains("letter.txt is not a database"), "{letter}");
    let nowhere = complaint("no/such/directory.db").await;
    assert!(
        nowhere.contains("no/such/directory.db is not available") && nowhere.contains("unable to open"),
        "{nowhere}"
    );
}

#[test]
fn a_url_of_another_database_is_refused() {
    for url in ["", "catalog.db", "oracle://x", "redis://x"] {
        assert!(
            matches!(SqlSink::new(Options::new(url, "t".parse::<TableName>().unwrap())), Err(OptionsError::Scheme(_))),
            "{url}"
        );
    }
}
