//! A statement of the user's.

use upcall_consumer::Verdict;
use upcall_sink_sql::Effect;
use upcall_tests::executable::workspace;
use upcall_tests::sql::Engine;

use crate::events::{Published, apply, deliver, upload};
use crate::site::{Kind, Site, check, on_each_database};

on_each_database! {
    values_are_bound_with_the_types_of_their_columns
    an_effect_happens_once_though_nothing_in_the_table_says_so
    a_value_that_does_not_go_is_its_events_failure
    what_does_not_go_is_said_at_the_start
    an_upsert_of_the_users_keeps_the_order
}

fn effect(statement: &str) -> Effect {
    Effect::Statement { statement: statement.parse().unwrap(), applied: "avatars_applied".parse().unwrap() }
}

const INSERT: &str = "INSERT INTO avatars (user_id, object, size, vpc, at, ratio, flag, extra) VALUES (${vars.user}, ${object}, ${size}, ${vpc_id}, ${event.time}, ${extra.ratio}, ${extra.flag}, ${extra.more})";

async fn make_avatars(site: &mut Site) {
    let create = site.says(
        "CREATE TABLE avatars (user_id INTEGER, object TEXT, size INTEGER, vpc TEXT, at TEXT, ratio REAL, flag BOOLEAN, extra TEXT)",
        "CREATE TABLE avatars (user_id INTEGER, object VARCHAR(100), size NUMERIC(20), vpc TEXT, at TIMESTAMPTZ, ratio DOUBLE PRECISION, flag BOOLEAN, extra JSONB)",
        "CREATE TABLE avatars (user_id INTEGER, object VARCHAR(100), size BIGINT UNSIGNED, vpc TEXT, at DATETIME(6), ratio DOUBLE, flag BOOLEAN, extra JSON)",
    );
    site.execute(create).await;
}

fn avatar(number: u64, object: &str, user: &str) -> Published {
    let mut published = upload(number, object, 120);
    published.event.data.vars.insert("user".into(), user.into());
    let extra = serde_json::json!({"ratio": 1.5, "flag": true, "more": {"a": [1, "b"]}});
    published.event.data.extra = serde_json::from_value(extra).unwrap();
    published
}

async fn values_are_bound_with_the_types_of_their_columns(mut site: Site) {
    make_avatars(&mut site).await;
    let sink = site.sink(effect(INSERT)).await;
    let evil = "x'); DROP TABLE avatars; -- ${object}";
    apply(&sink, &[avatar(1, evil, "42")]).await;
    for (expression, expected) in [
        ("user_id + 1", "43"),
        ("object", evil),
        ("size + 1", "1025"),
        ("vpc", "-"),
        ("ratio * 2", site.says("3.0", "3", "3")),
    ] {
        assert_eq!(site.texts(expression, "avatars", "object").await, [expected], "{expression}");
    }
    assert_eq!(site.count("avatars WHERE flag").await, 1);
    let [extra] = &site.texts("extra", "avatars", "object").await[..] else { panic!("one row") };
    let extra: serde_json::Value = serde_json::from_str(extra).unwrap();
    assert_eq!(extra, serde_json::json!({"a": [1, "b"]}));
    let at = site.says("at", "at AT TIME ZONE 'UTC'", "at");
    let expected = site.says("2026-01-01T00:00:00.000120Z", "2026-01-01 00:00:00.00012", "2026-01-01 00:00:00.000120");
    assert_eq!(site.texts(at, "avatars", "object").await, [expected]);
}

#[test]
fn a_text_for_a_type_of_fixed_width_is_not_cut() {
    check(Kind::Server(Engine::Postgres), async |mut site| {
        site.execute("CREATE TABLE avatars (fixed CHAR(36), bits BIT(8), varying VARCHAR(8), amount NUMERIC(10, 2), at TIMESTAMPTZ(3))").await;
        let insert =
            "INSERT INTO avatars VALUES (${vars.user}, ${vars.bits}, ${vars.varying}, ${vars.amount}, ${event.time})";
        let sink = site.sink(effect(insert)).await;
        let user = "6f9619ff-8b86-d011-b42d-00c04fc964ff";
        let mut published = avatar(1, "o", user);
        for (name, value) in [("bits", "10110001"), ("varying", "twelve"), ("amount", "1234.56")] {
            published.event.data.vars.insert(name.into(), value.into());
        }
        apply(&sink, &[published]).await;
        for (expression, expected) in
            [("fixed", user), ("bits::text", "10110001"), ("varying", "twelve"), ("amount::text", "1234.56")]
        {
            assert_eq!(site.texts(expression, "avatars", "1").await, [expected], "{expression}");
        }
        // Who is looked for by such a text is found.
        let update = site.sink(effect("UPDATE avatars SET varying = 'found' WHERE fixed = ${vars.user}")).await;
        apply(&update, &[avatar(2, "o", user)]).await;
        assert_eq!(site.count("avatars WHERE varying = 'found'").await, 1);
    });
}

async fn an_effect_happens_once_though_nothing_in_the_table_says_so(mut site: Site) {
    make_avatars(&mut site).await;
    let batch: Vec<Published> = (0..40).map(|number| avatar(number, "o", "42")).collect();
    let twice: Vec<Published> = batch.iter().chain(&batch).cloned().collect();
    apply(&site.sink(effect(INSERT)).await, &twice).await;
    apply(&site.sink(effect(INSERT)).await, &batch).await;
    assert_eq!(site.count("avatars").await, 40);
    assert_eq!(site.count("avatars_applied").await, 40);
}

async fn a_value_that_does_not_go_is_its_events_failure(mut site: Site) {
    make_avatars(&mut site).await;
    site.execute("CREATE TABLE users (user_id INTEGER PRIMARY KEY)").await;
    site.execute("INSERT INTO users VALUES (42)").await;
    // A user that is not there violates the table's own rule.
    let statement = "INSERT INTO users (user_id) VALUES (${vars.user})";
    let sink = site.sink(effect(statement)).await;
    let verdicts = deliver(&sink, &[avatar(1, "a", "7"), avatar(2, "b", "42"), avatar(3, "c", "8")]).await;
    let [Verdict::Done, Verdict::Retry { reason, .. }, Verdict::Done] = &verdicts[..] else { panic!("{verdicts:?}") };
    assert!(reason.to_lowercase().contains("unique") || reason.contains("Duplicate"), "{reason}");
    assert!(!reason.contains("at line"), "a line of the server's own source is nobody's business: {reason}");
    let verdicts = deliver(&sink, &[avatar(4, "a", "9"), avatar(5, "b", "nobody"), avatar(6, "c", "10")]).await;
    assert!(matches!(&verdicts[..], [Verdict::Done, Verdict::Retry { .. }, Verdict::Done]), "{verdicts:?}");
    assert_eq!(site.count("users").await, 5);
}

async fn what_does_not_go_is_said_at_the_start(mut site: Site) {
    make_avatars(&mut site).await;
    for (statement, expected) in [
        ("INSERT INTO avatars (usr_id) VALUES (${vars.user})", "usr_id"),
        ("INSERT INTO avatras (user_id) VALUES (${vars.user})", "avatras"),
        ("INSERT INTO avatars (user_id) VALUES (${vars.user}", "the database does not take the statement"),
        ("INSERT INTO avatars (object) VALUES ('${object}')", "1 `${…}`, of which the database sees 0"),
    ] {
        let complaint = site.complaint(effect(statement)).await;
        assert!(complaint.contains(expected), "{statement}: {complaint}");
    }
}

async fn an_upsert_of_the_users_keeps_the_order(mut site: Site) {
    site.execute("CREATE TABLE avatar (user_id INTEGER PRIMARY KEY, object VARCHAR(100), at VARCHAR(40))").await;
    let statement = site.says(
        "INSERT INTO avatar VALUES (${vars.user}, ${object}, ${event.id}) ON CONFLICT (user_id) DO UPDATE SET object = excluded.object",
        "INSERT INTO avatar VALUES (${vars.user}, ${object}, ${event.id}) ON CONFLICT (user_id) DO UPDATE SET object = excluded.object",
        "INSERT INTO avatar VALUES (${vars.user}, ${object}, ${event.id}) ON DUPLICATE KEY UPDATE object = VALUES(object)",
    );
    let sink = site.sink(effect(statement)).await;
    let batch: Vec<Published> = (0..10).map(|number| avatar(number, &format!("o{number}"), "42")).collect();
    apply(&sink, &batch).await;
    assert_eq!(site.texts("object", "avatar", "user_id").await, ["o9"], "in the order of the batch");
}

#[test]
fn a_parameter_whose_type_postgres_cannot_tell_is_named() {
    check(Kind::Server(Engine::Postgres), async |mut site| {
        make_avatars(&mut site).await;
        let statement = "INSERT INTO avatars (object) SELECT ${object} WHERE ${vars.user} IS NOT NULL";
        let complaint = site.complaint(effect(statement)).await;
        assert!(complaint.contains("add a cast, such as `${vars.user}::text`"), "{complaint}");
    });
}

/// The statement of `docs/sinks.md`.
#[test]
fn the_documented_statement_leaves_out_an_upload_without_the_variable() {
    check(Kind::Server(Engine::Postgres), async |mut site| {
        site.execute(
            "CREATE TABLE avatars (user_id INTEGER PRIMARY KEY, object TEXT, size BIGINT, uploaded_at TIMESTAMPTZ)",
        )
        .await;
        let document = std::fs::read_to_string(workspace().join("docs/sinks.md")).unwrap();
        let (_, section) = document.split_once("\n## Your own statement\n").unwrap();
        let statement = section.split("\"\"\"").nth(1).unwrap();
        let sink = site.sink(effect(statement)).await;
        let mut nobodys = avatar(1, "nobodys", "42");
        nobodys.event.data.vars.clear();
        apply(&sink, &[nobodys, avatar(2, "old", "42"), avatar(3, "other", "7")]).await;
        let mut later = avatar(4, "new", "42");
        later.event.time += jiff::SignedDuration::from_secs(1);
        apply(&sink, &[later]).await;
        assert_eq!(site.texts("object", "avatars", "user_id").await, ["other", "new"]);
    });
}
