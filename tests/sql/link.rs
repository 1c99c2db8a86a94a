//! What happens between the sink and a server.

use std::time::{Duration, Instant};

use upcall_consumer::{Sink, Verdict};
use upcall_sink_sql::{Options, SqlSink};
use upcall_tests::proxy::{Link, Proxy};
use upcall_tests::sql::{Engine, SqlServer};

use crate::events::{apply, deliver, oracle, upload};
use crate::site::{Kind, Site, check, uploads};

#[test]
fn connections_to_postgres_that_went_silent_are_given_up() {
    check(Kind::Server(Engine::Postgres), silent_connections_are_given_up);
}

#[test]
fn connections_to_mariadb_that_went_silent_are_given_up() {
    check(Kind::Server(Engine::MariaDb), silent_connections_are_given_up);
}

async fn silent_connections_are_given_up(mut site: Site) {
    let Kind::Server(engine) = site.kind else { panic!("a file has no connections") };
    let proxy = Proxy::start(SqlServer::shared(engine).address());
    let database = site.url.rsplit('/').next().unwrap();
    let user = site.url.split('@').next().unwrap();
    let url = format!("{user}@{}/{database}", proxy.address());
    let timeout = Duration::from_secs(2);
    let sink = SqlSink::new(Options {
        statement_timeout: timeout,
        connect_timeout: Duration::from_secs(1),
        pool_max: 1.try_into().unwrap(),
        ..Options::new(url, uploads())
    })
    .unwrap();
    sink.prepare().await.unwrap();
    let batch: Vec<_> = (0..20).map(|number| upload(number, &number.to_string(), 0)).collect();
    apply(&sink, &batch[..1]).await;
    for (link, range) in [(Link::Blackhole, 1..5), (Link::HalfOpen, 5..10), (Link::Cut, 10..15)] {
        proxy.set(link);
        let started = Instant::now();
        let verdicts = deliver(&sink, &batch[range.clone()]).await;
        let are_unavailable = verdicts.iter().all(|verdict| matches!(verdict, Verdict::Unavailable { .. }));
        assert!(are_unavailable && started.elapsed() < timeout * 3, "{link:?}: {verdicts:?}");
        proxy.set(Link::Whole);
        // What was sent into the dark may still hold its locks for as long as the server lets it.
        let end = Instant::now() + timeout * 10;
        while sink.prepare().await.is_err() || deliver(&sink, &batch[range.clone()]).await[0] != Verdict::Done {
            assert!(Instant::now() < end, "{link:?}: it does not come back");
        }
    }
    apply(&sink, &batch).await;
    assert_eq!(site.winners().await, oracle(&batch));
}

#[test]
fn a_wrong_password_is_said_and_not_shown() {
    check(Kind::Server(Engine::MariaDb), async |mut site| {
        site.execute("CREATE USER known IDENTIFIED BY 'right'").await;
        let place = site.url.split_once('@').unwrap().1;
        let options = Options::new(format!("mariadb://known:hunter2@{place}"), uploads());
        let complaint = SqlSink::new(options).unwrap().prepare().await.unwrap_err();
        site.execute("DROP USER known").await;
        let complaint = upcall_telemetry::error_chain(&*complaint);
        assert!(complaint.contains("Access denied") && !complaint.contains("hunter2"), "{complaint}");
    });
}

#[test]
fn a_server_that_is_not_there_is_said_to_refuse_connections() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        for scheme in ["postgres", "mysql"] {
            let url = format!("{scheme}://user:secret@{address}/app");
            let options = Options { connect_timeout: Duration::from_millis(500), ..Options::new(url, uploads()) };
            let complaint = SqlSink::new(options).unwrap().prepare().await.unwrap_err();
            let complaint = upcall_telemetry::error_chain(&*complaint);
            assert!(
                complaint.contains(&format!("{scheme}://{address}/app is not available"))
                    && complaint.contains("Connection refused")
                    && !complaint.contains("secret"),
                "{complaint}"
            );
        }
    });
}
