//! The table of uploads: one row for each object, the latest upload's.

use std::time::Duration;

use upcall_consumer::Verdict;
use upcall_sink_sql::{Effect, Options, SqlSink, TableName};

use crate::events::{Published, apply, deliver, oracle, upload};
use crate::site::{Site, on_each_database, uploads};

on_each_database! {
    a_later_upload_wins_and_an_older_one_that_comes_late_does_not
    a_row_holds_what_the_event_says
    objects_that_differ_in_case_or_space_only_are_different
    an_event_that_comes_again_has_no_second_effect
    a_row_that_the_database_refuses_is_found_and_the_others_go_on
    a_row_too_large_for_the_database_holds_nobody_up
    the_history_has_every_event_once
    batches_of_several_processes_at_once_are_all_applied_once
    old_ids_are_forgotten_and_young_ones_are_not
}

async fn a_later_upload_wins_and_an_older_one_that_comes_late_does_not(mut site: Site) {
    let sink = site.sink(uploads()).await;
    let (old, new) = (upload(1, "o", 1), upload(2, "o", 2));
    apply(&sink, &[old.clone(), old]).await;
    apply(&sink, std::slice::from_ref(&new)).await;
    assert_eq!(site.winners().await, oracle([&new]));
    apply(&sink, &[upload(3, "o", 0)]).await;
    assert_eq!(site.winners().await, oracle([&new]), "it is older");
    let same_time = upload(4, "o", 2);
    apply(&sink, std::slice::from_ref(&same_time)).await;
    assert_eq!(site.winners().await, oracle([&same_time]), "the place on the bus decides");
    let [a, b] = [5, 6].map(|number| Published { sequence: 4, ..upload(number, "o", 2) });
    let winner = oracle([&same_time, &a, &b]);
    apply(&sink, &[a]).await;
    apply(&sink, &[b]).await;
    assert_eq!(site.winners().await, winner, "the id decides");
    assert_eq!(site.texts("etag", "uploads", "etag").await.len(), 1);
}

async fn a_row_holds_what_the_event_says(mut site: Site) {
    let sink = site.sink(uploads()).await;
    let mut published = upload(7, "a/b é 🖼.jpg", 120);
    published.event.data.extra = [("quoted\"'\\".to_owned(), 1.into())].into();
    apply(&sink, std::slice::from_ref(&published)).await;
    let id = published.event.id.to_string();
    for (column, expected) in [
        ("bucket", "examplebucket"),
        ("object", "a/b é 🖼.jpg"),
        ("event_id", id.as_str()),
        ("etag", "ETAG7"),
        ("size", "1024"),
        ("mime_type", "image/jpeg"),
        ("crc64", "17834398232350201234"),
        ("content_md5", "-"),
        ("image_width", "200"),
        ("image_height", "-"),
        ("image_format", "jpg"),
        ("operation", "PutObject"),
        ("request_id", "7"),
        ("client_ip", "203.0.113.7"),
        ("vpc_id", "-"),
        ("route", "avatars"),
        ("bucket_from", "body"),
        ("origin", "callback"),
        ("sequence", "7"),
    ] {
        assert_eq!(site.texts(column, "uploads", "object").await, [expected], "{column}");
    }
    for (column, expected) in [
        ("vars", serde_json::json!({"user": "42"})),
        ("extra", serde_json::json!({"quoted\"'\\": 1})),
        ("proof", serde_json::json!(["signature", "grant"])),
    ] {
        let [text] = &site.texts(column, "uploads", "object").await[..] else { panic!("one row") };
        assert_eq!(serde_json::from_str::<serde_json::Value>(text).unwrap(), expected, "{column}");
    }
    let time = site.says("uploaded_at", "uploaded_at AT TIME ZONE 'UTC'", "uploaded_at");
    let expected = site.says("2026-01-01T00:00:00.000120Z", "2026-01-01 00:00:00.00012", "2026-01-01 00:00:00.000120");
    assert_eq!(site.texts(time, "uploads", "object").await, [expected]);
}

async fn objects_that_differ_in_case_or_space_only_are_different(mut site: Site) {
    let sink = site.sink(uploads()).await;
    let long = "ä/".repeat(341);
    let names = ["a", "A", "a ", "á", &long, &format!("{}b", &long[..long.len() - 1])];
    let batch: Vec<Published> = (1..).zip(names).map(|(number, name)| upload(number, name, 0)).collect();
    apply(&sink, &batch).await;
    apply(&sink, &[upload(9, "a ", 5)]).await;
    assert_eq!(site.count("uploads").await, names.len() as i64);
}

/// A process that dies between the commit and the acknowledgement has the whole batch delivered again.
async fn an_event_that_comes_again_has_no_second_effect(mut site: Site) {
    let batch: Vec<Published> = (1..=1_200).map(|number| upload(number, &number.to_string(), 0)).collect();
    apply(&site.sink(uploads()).await, &batch).await;
    site.execute("DELETE FROM uploads WHERE object < '2'").await;
    let left = site.winners().await;
    let beyond: Vec<Published> = (1_201..=1_210).map(|number| upload(number, "beyond", 0)).collect();
    let again: Vec<Published> = batch.iter().chain(&beyond).chain(&beyond).cloned().collect();
    apply(&site.sink(uploads()).await, &again).await;
    let mut expected = left;
    expected.extend(oracle(&beyond));
    expected.sort();
    assert_eq!(site.winners().await, expected, "what was deleted stays so, what is new is there");
    assert_eq!(site.count("uploads_applied").await, 1_210);
}

async fn a_row_that_the_database_refuses_is_found_and_the_others_go_on(mut site: Site) {
    let sink = site.sink(uploads()).await;
    let refuse = site.says(
        "CREATE TRIGGER no BEFORE INSERT ON uploads WHEN new.object LIKE 'bad%' BEGIN SELECT raise(ABORT, 'no_bad'); END",
        "ALTER TABLE uploads ADD CONSTRAINT no_bad CHECK (object NOT LIKE 'bad%')",
        "ALTER TABLE uploads ADD CONSTRAINT no_bad CHECK (object NOT LIKE 'bad%')",
    );
    site.execute(refuse).await;
    let is_bad = |number: u64| [0, 31, 32, 99].contains(&number);
    let name = |number: u64| format!("{}{number}", if is_bad(number) { "bad" } else { "good" });
    let batch: Vec<Published> = (0..100).map(|number| upload(number, &name(number), 0)).collect();
    for (number, verdict) in (0..).zip(deliver(&sink, &batch).await) {
        match verdict {
            Verdict::Done => assert!(!is_bad(number)),
            Verdict::Retry { reason, .. } => assert!(is_bad(number) && reason.contains("no_bad"), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((site.count("uploads").await, site.count("uploads_applied").await), (96, 96));
    let allow = site.says(
        "DROP TRIGGER no",
        "ALTER TABLE uploads DROP CONSTRAINT no_bad",
        "ALTER TABLE uploads DROP CONSTRAINT no_bad",
    );
    site.execute(allow).await;
    apply(&sink, &batch).await;
    assert_eq!((site.count("uploads").await, site.count("uploads_applied").await), (100, 100));
}

async fn a_row_too_large_for_the_database_holds_nobody_up(mut site: Site) {
    if !site.is_mariadb() {
        // Only MySQL hangs up on who sends it too much.
        return;
    }
    site.execute("SET GLOBAL max_allowed_packet = 1048576").await;
    let sink = site.sink(uploads()).await;
    let with_extra = |number: u64, size: usize| {
        let mut published = upload(number, &number.to_string(), 0);
        published.event.data.extra = [("text".to_owned(), "x".repeat(size).into())].into();
        published
    };
    let batch = [with_extra(1, 700_000), with_extra(2, 2_000_000), with_extra(3, 700_000), with_extra(4, 10)];
    let verdicts = deliver(&sink, &batch).await;
    site.execute("SET GLOBAL max_allowed_packet = DEFAULT").await;
    let [Verdict::Done, Verdict::Retry { reason, .. }, Verdict::Done, Verdict::Done] = &verdicts[..] else {
        panic!("{verdicts:?}")
    };
    assert!(reason.contains("max_allowed_packet"), "{reason}");
}

async fn the_history_has_every_event_once(mut site: Site) {
    let effect = || Effect::Table {
        table: uploads(),
        history: Some("every_upload".parse::<TableName>().unwrap()),
        applied: None,
    };
    let batch: Vec<Published> =
        (0..50).map(|number| upload(number, &(number % 7).to_string(), 50 - number as i64)).collect();
    let sink = site.sink(effect()).await;
    apply(&sink, &batch).await;
    apply(&sink, &batch[10..20]).await;
    let mut expected: Vec<String> = batch.iter().map(|published| published.event.id.to_string()).collect();
    expected.sort();
    let mut kept = site.texts("event_id", "every_upload", "event_id").await;
    kept.sort();
    assert_eq!(kept, expected);
    assert_eq!(site.winners().await, oracle(&batch));
    // Ids that were forgotten are applied again; what the history has stays.
    site.execute("DELETE FROM uploads_applied").await;
    apply(&sink, &batch).await;
    assert_eq!(site.count("every_upload").await, 50);
}

async fn batches_of_several_processes_at_once_are_all_applied_once(mut site: Site) {
    let patient = |site: &Site| Options { statement_timeout: Duration::from_secs(60), ..site.options(uploads()) };
    let processes = 4;
    let sinks: Vec<SqlSink> = (0..processes).map(|_| SqlSink::new(patient(&site)).unwrap()).collect();
    drop(site.sink(uploads()).await);
    let events: Vec<Published> =
        (0..600).map(|number| upload(number, &(number * 7 % 90).to_string(), (number * 13 % 50) as i64)).collect();
    // Each process is given every event, in an order of its own: all want the same ids and objects at once.
    let work = sinks.iter().enumerate().map(|(process, sink)| {
        let mut events = events.clone();
        events.rotate_left(process * 150);
        if process % 2 == 1 {
            events.reverse();
        }
        async move {
            for batch in events.chunks(60) {
                apply(sink, batch).await;
            }
        }
    });
    futures_util::future::join_all(work).await;
    assert_eq!(site.winners().await, oracle(&events));
    assert_eq!(site.count("uploads_applied").await, 600);
}

async fn old_ids_are_forgotten_and_young_ones_are_not(mut site: Site) {
    apply(&site.sink(uploads()).await, &[upload(1, "a", 0), upload(2, "b", 0)]).await;
    let id = upload(1, "a", 0).event.id;
    let literal = site.says("x'ID'", "'\\xID'", "x'ID'").replace("ID", &format!("00000000{}", &id.to_string()[..24]));
    site.execute(&format!(
        "UPDATE uploads_applied SET applied_at = applied_at - 91 * 86400 WHERE event_id = {literal}"
    ))
    .await;
    apply(&site.sink(uploads()).await, &[upload(3, "c", 0)]).await;
    assert_eq!(site.count("uploads_applied").await, 2);
    assert_eq!(site.count("uploads").await, 3);
}
