//! A process that only consumes, beside one that takes callbacks.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use rusqlite::Connection;
use upcall_tests::conservation::sum;
use upcall_tests::executable::Running;
use upcall_tests::http::{exchange, get, wait_until};
use upcall_tests::nats::{NatsServer, is_missing};
use upcall_tests::signer::Signer;

use crate::serve::Served;

#[test]
fn whoever_only_consumes_needs_no_route_and_listens_for_no_callbacks() {
    if is_missing("a process that only consumes") {
        return;
    }
    let (server, folder, signer) = (NatsServer::start(), tempfile::tempdir().unwrap(), Signer::new());
    let write = |name: &str, listen: &str, more: &str| {
        let file = folder.path().join(name);
        let text = format!(
            "[bus.nats]\nurl = \"{}\"\n[gateway]\nlisten = \"{listen}\"\nadmin = \"127.0.0.1:0\"\n{more}\n",
            server.url()
        );
        std::fs::write(&file, text).unwrap();
        file
    };
    // It would fail if it listened here.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let table = "sql = { url = \"sqlite://catalog.db\", table = \"uploads\" }";
    let consumer = format!(
        "[[consumer]]\nname = \"catalog\"\nfilter = \"app.uploads.>\"\n{table}\n\
         [[consumer]]\nname = \"failing\"\nfilter = \"app.uploads.>\"\ncommand = {{ program = \"/bin/false\" }}\n"
    );
    let file = write("consumer.toml", &taken.local_addr().unwrap().to_string(), &consumer);
    let mut consumer = Running::start(&["serve", "-c", file.to_str().unwrap()]);
    let admin: SocketAddr = consumer.wait_for("line with its address", |line| {
        assert!(!line.contains("callbacks="), "{line}");
        line.split("admin=").nth(1)?.split_whitespace().next()?.trim_matches('"').parse().ok()
    });
    wait_until("it says what it waits for", || {
        get(admin, "/ready").unwrap().text().contains("whoever publishes makes it")
    });

    let component = |admin: SocketAddr, name: &str| {
        let ready = get(admin, "/ready").unwrap().json();
        let components = ready["components"].as_array().unwrap().clone();
        components.into_iter().find(|component| component["name"] == name).unwrap_or_else(|| panic!("{ready:#}"))
    };
    let of_consumer = component(admin, "consumer catalog");
    assert_eq!(of_consumer["ready"], false, "it reads no events: {of_consumer}");
    assert!(of_consumer["reason"].is_string(), "{of_consumer}");

    // Only the gateway knows what the stream is to capture.
    let route = "[[route]]\nname = \"test\"\npath = \"/oss/test\"\nsubject = \"app.uploads.${bucket}\"";
    let gateway = Served::start(&write("gateway.toml", "127.0.0.1:0", &format!("{}\n{route}", signer.configuration())));
    wait_until("both are ready", || {
        [admin, gateway.admin].map(|admin| get(admin, "/ready").unwrap().status) == [200; 2]
    });
    let upload = signer.upload("/oss/test", "examplebucket", "a.png", "5CF3E7821AB22D0FDB867000");
    assert_eq!(exchange(gateway.callbacks, &upload).unwrap().status, 200);
    let catalog = folder.path().join("catalog.db");
    wait_until("the row is there", || {
        let count =
            || Connection::open(&catalog)?.query_row("SELECT count(*) FROM uploads", (), |row| row.get::<_, u64>(0));
        catalog.exists() && count().is_ok_and(|count| count == 1)
    });
    let done = "upcall_consumer_deliveries_total{consumer=\"catalog\",outcome=\"done\"} 1";
    let fine = serde_json::json!({ "name": "consumer catalog", "ready": true, "reason": null });
    assert_eq!(component(admin, "consumer catalog"), fine);
    wait_until("it counts what it consumed", || get(admin, "/metrics").unwrap().text().contains(done));
    wait_until("it says what is tried again", || {
        let failing = component(admin, "consumer failing");
        failing["ready"] == true
            && failing["reason"].as_str().is_some_and(|why| why.starts_with("1 event has failed and is tried again"))
    });
    consumer.wait_for("line about the first failure", |line| {
        let parts = ["WARN", "an event has failed", "failing", "5CF3E7821AB22D0FDB867000", "a.png", "again_in_s"];
        parts.iter().all(|part| line.contains(part)).then_some(())
    });
    let metrics = |admin| get(admin, "/metrics").unwrap().text();
    wait_until("it says how far its consumers are", || {
        let page = metrics(admin);
        let lag = |name: &str| sum(&page, "upcall_consumer_lag_events", &[("consumer", name)]);
        let is_said = page.contains("upcall_consumer_oldest_unsettled_age_seconds{consumer=\"failing\"}");
        is_said && (lag("catalog"), lag("failing")) == (0.0, 1.0)
    });
    std::thread::sleep(Duration::from_millis(1_100));
    let age = sum(&metrics(admin), "upcall_consumer_oldest_unsettled_age_seconds", &[("consumer", "failing")]);
    assert!(age >= 1.0, "{age}");
    for (page, strange) in [(metrics(admin), "upcall_connections_open"), (metrics(gateway.admin), "upcall_consumer_")] {
        assert!(!page.contains(strange) && !page.contains("upcall_journal_"), "{strange}: {page}");
        assert!(page.contains("upcall_nats_ready 1"), "{page}");
    }
    server.kill();
    wait_until("what is known stays while nobody answers", || metrics(admin).contains("upcall_nats_ready 0"));
    assert!(metrics(admin).contains("upcall_consumer_lag_events{consumer=\"failing\"} 1"));
    assert!(consumer.terminate().success());
}
