//! Whose fault an error of a database is: a row's, which costs its event an attempt while the others go on, or the
//! database's, which costs none.

use std::time::{Duration, Instant};

use upcall_consumer::{Sink, Verdict};
use upcall_sink_sql::{Effect, Options, SqlSink};
use upcall_tests::sql::{Engine, SqlServer};

use crate::events::{Published, apply, deliver, upload};
use crate::site::{Kind, Site, check, uploads};

fn statement(text: &str) -> Effect {
    Effect::Statement { statement: text.parse().unwrap(), applied: "things_applied".parse().unwrap() }
}

fn of_user(number: u64, user: &str) -> Published {
    let mut published = upload(number, &number.to_string(), 0);
    published.event.data.vars.insert("user".into(), user.into());
    published
}

/// Asserts that the second of three is refused, and the others are done.
async fn only_the_second_is_refused(sink: &SqlSink, batch: &[Published], why: &str) {
    let verdicts = deliver(sink, batch).await;
    let [Verdict::Done, Verdict::Retry { reason, .. }, Verdict::Done] = &verdicts[..] else { panic!("{verdicts:?}") };
    assert!(reason.contains(why), "{reason}");
}

#[test]
fn texts_that_mariadb_cannot_compare_are_their_events_fault() {
    check(Kind::Server(Engine::MariaDb), async |mut site: Site| {
        site.execute("CREATE TABLE things (name VARCHAR(40) CHARACTER SET utf8mb3, n INTEGER)").await;
        let sink = site.sink(statement("UPDATE things SET n = n + 1 WHERE name = ${vars.user}")).await;
        let batch = [of_user(1, "one"), of_user(2, "\u{1f600}"), of_user(3, "three")];
        only_the_second_is_refused(&sink, &batch, "collations").await;
    });
}

#[test]
fn a_value_outside_of_a_tables_partitions_is_its_events_fault() {
    check(Kind::Server(Engine::MariaDb), async |mut site: Site| {
        site.execute("CREATE TABLE things (n INTEGER) PARTITION BY RANGE (n) (PARTITION few VALUES LESS THAN (10))")
            .await;
        let sink = site.sink(statement("INSERT INTO things VALUES (${vars.user})")).await;
        let batch = [of_user(1, "1"), of_user(2, "100"), of_user(3, "3")];
        only_the_second_is_refused(&sink, &batch, "partition").await;
    });
}

/// Has the table of uploads do something before each row.
async fn trigger(site: &mut Site, body: &str) {
    let function =
        format!("CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NEW; END $$");
    site.execute(&function).await;
    site.execute("CREATE TRIGGER act BEFORE INSERT ON uploads FOR EACH ROW EXECUTE FUNCTION act()").await;
}

#[test]
fn what_a_trigger_refuses_with_a_code_of_its_own_is_its_events_fault() {
    check(Kind::Server(Engine::Postgres), async |mut site: Site| {
        let sink = site.sink(uploads()).await;
        trigger(&mut site, "IF NEW.object = '2' THEN RAISE 'not this one' USING ERRCODE = 'UT404'; END IF;").await;
        let batch = [of_user(1, "a"), of_user(2, "b"), of_user(3, "c")];
        only_the_second_is_refused(&sink, &batch, "not this one").await;
    });
}

#[test]
fn rows_that_take_long_to_be_refused_leave_the_others_their_attempts() {
    check(Kind::Server(Engine::Postgres), async |mut site: Site| {
        site.sink(uploads()).await;
        trigger(&mut site, "PERFORM pg_sleep(0.1); RAISE 'never';").await;
        let time = Duration::from_millis(500);
        let sink = SqlSink::new(Options { statement_timeout: time, ..site.options(uploads()) }).unwrap();
        sink.prepare().await.unwrap();
        let batch: Vec<_> = (0..64).map(|number| of_user(number, "a")).collect();
        let started = Instant::now();
        let verdicts = deliver(&sink, &batch).await;
        assert!(started.elapsed() < Duration::from_secs(4), "64 rows by themselves would take 6 s");
        assert!(matches!(verdicts[0], Verdict::Retry { .. }), "{:?}", verdicts[0]);
        assert!(verdicts.iter().any(|verdict| matches!(verdict, Verdict::Unavailable { .. })), "{verdicts:?}");
    });
}

#[test]
fn a_standby_is_no_events_fault() {
    check(Kind::Server(Engine::Postgres), async |_site: Site| {
        let server = SqlServer::start(Engine::Postgres);
        let sink = SqlSink::new(Options::new(server.admin_url(), uploads())).unwrap();
        sink.prepare().await.unwrap();
        apply(&sink, &[of_user(1, "a")]).await;
        server.restart_as_standby(true);
        let end = Instant::now() + Duration::from_secs(30);
        let batch = [of_user(2, "a"), of_user(3, "a")];
        loop {
            let verdicts = deliver(&sink, &batch).await;
            let Verdict::Unavailable { reason } = &verdicts[0] else { panic!("{verdicts:?}") };
            // The first may meet a connection that the server has ended.
            if reason.contains("during recovery") {
                break;
            }
            assert!(Instant::now() < end, "it does not come to the standby");
        }
        server.restart_as_standby(false);
        while deliver(&sink, &batch).await != [Verdict::Done, Verdict::Done] {
            assert!(Instant::now() < end + Duration::from_secs(30), "it does not come back");
        }
    });
}
