//! What is said at the start.

use std::net::SocketAddr;

use upcall_tests::executable::Running;
use upcall_tests::http::{get, wait_until};
use upcall_tests::nats::{NatsOptions, NatsServer, is_missing};
use upcall_tests::signer::Signer;

use crate::serve::configuration;

/// Starts `upcall serve` with a journal, a consumer and NATS, and returns it with its admin address.
fn serve(folder: &std::path::Path, server: &NatsServer) -> (Running, SocketAddr) {
    let nats = format!("[bus.nats]\nurl = {:?}", server.url());
    let file = configuration(folder, &Signer::new(), &nats);
    let mut process = Running::start(&["serve", "-c", file.to_str().unwrap()]);
    let admin = process.wait_for("line with its address", |line| {
        line.split("admin=").nth(1)?.split_whitespace().next()?.trim_matches('"').parse().ok()
    });
    (process, admin)
}

#[test]
fn a_first_start_on_nats_warns_of_nothing() {
    if is_missing("the words of a first start") {
        return;
    }
    let (server, folder) = (NatsServer::start(), tempfile::tempdir().unwrap());
    let (mut process, admin) = serve(folder.path(), &server);
    wait_until("nothing is amiss", || {
        let ready = get(admin, "/ready").unwrap().json();
        ready["components"].as_array().unwrap().iter().all(|component| component["reason"].is_null())
    });
    let said = process.rest();
    let amiss: Vec<_> = said.iter().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect();
    assert!(amiss.is_empty() && !said.is_empty(), "{said:#?}");
    assert!(!said.iter().any(|line| line.contains("event: connected")), "what the client says: {said:#?}");
}

#[test]
fn a_refused_login_is_told_as_one_in_the_log_and_in_ready() {
    if is_missing("the words of a refused login") {
        return;
    }
    let config = "authorization { users: [{ user: upcall, password: right }] }".to_owned();
    let server = NatsServer::start_with(&NatsOptions { config, ..NatsOptions::default() });
    let folder = tempfile::tempdir().unwrap();
    let (mut process, admin) = serve(folder.path(), &server);
    let refused = format!("NATS at {} refused the login ", server.address());
    wait_until("it is told in /ready", || {
        let ready = get(admin, "/ready").unwrap();
        assert_eq!(ready.status, 200, "the journal takes events");
        // Of NATS, of the relay, and of the consumer.
        ready.text().matches(&refused).count() == 3
    });
    let said = process.rest();
    assert!(said.iter().any(|line| line.contains("WARN") && line.contains(&refused)), "{said:#?}");
    assert!(!said.iter().any(|line| line.contains("no connection to a NATS server")), "{said:#?}");
}
