//! Answers computed by services on NATS.

use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use futures_util::StreamExt;
use upcall_bus::Deadline;
use upcall_bus::conformance::message;
use upcall_bus_nats::{NatsBus, NatsService, Options};
use upcall_responder::{AskErrorKind, Reply, Service};
use upcall_telemetry::error_chain;
use upcall_tests::nats::NatsServer;
use upcall_tests::{executable::PATIENCE, nats};

use crate::harness;

const SUBJECT: &str = "app.avatars.answer";
const TIMEOUT: Duration = Duration::from_millis(400);

async fn connect(server: &NatsServer) -> NatsBus {
    harness::connect(Options::new(server.url())).await.0
}

/// A service that replies to everything with these headers and bytes.
async fn serve(bus: &NatsBus, headers: &[(&'static str, &'static str)], payload: &'static [u8]) {
    let client = bus.client().clone();
    let mut questions = client.subscribe(SUBJECT).await.unwrap();
    client.flush().await.unwrap();
    let mut reply_headers = HeaderMap::new();
    for (name, value) in headers {
        reply_headers.insert(*name, *value);
    }
    tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            let (reply, headers) = (question.reply.unwrap(), reply_headers.clone());
            client.publish_with_headers(reply, headers, payload.into()).await.unwrap();
        }
    });
}

#[tokio::test]
async fn a_reply_is_the_answer_and_a_services_error_is_a_veto_or_a_failure() {
    if nats::is_missing("answers by services on NATS") {
        return;
    }
    let server = NatsServer::start();
    let bus = connect(&server).await;
    let service = NatsService::new(bus.clone(), SUBJECT.parse().unwrap());
    let ask = async || service.ask(&message(1).event, TIMEOUT).await;

    let started = Instant::now();
    let nobody = ask().await.unwrap_err();
    assert_eq!(nobody.kind, AskErrorKind::Unreachable);
    assert_eq!(error_chain(&nobody), format!("the service can't be reached: nobody answers on {SUBJECT}"));
    assert!(started.elapsed() < TIMEOUT, "nobody there is known at once");

    serve(&bus, &[], b"{\"from\":\"service\"}").await;
    assert_eq!(ask().await.unwrap(), Reply::Answer(b"{\"from\":\"service\"}"[..].into()));
}

#[tokio::test]
async fn the_services_api_says_no_with_an_error_code() {
    if nats::is_missing("vetoes by services on NATS") {
        return;
    }
    let server = NatsServer::start();
    for (code, veto) in [("403", true), ("499", true), ("429", false), ("500", false), ("none", false)] {
        let bus = connect(&server).await;
        serve(&bus, &[("Nats-Service-Error-Code", code), ("Nats-Service-Error", "too large")], b"{}").await;
        let service = NatsService::new(bus.clone(), SUBJECT.parse().unwrap());
        match service.ask(&message(1).event, TIMEOUT).await {
            Ok(Reply::Veto(given)) => assert!(veto && given.reason() == "too large", "{code}"),
            Err(error) => assert!(!veto && error.kind == AskErrorKind::Failed, "{code}: {error}"),
            other => panic!("{code}: {other:?}"),
        }
        bus.close().await;
    }
}

#[tokio::test]
async fn an_error_whose_code_is_missing_or_no_number_is_a_failure_in_the_services_words() {
    if nats::is_missing("errors without a code by services on NATS") {
        return;
    }
    let server = NatsServer::start();
    const TEXT: (&str, &str) = ("Nats-Service-Error", "the album is locked");
    for (headers, told) in [
        (vec![TEXT], "it answered with an error that has no code: the album is locked"),
        (vec![TEXT, ("Nats-Service-Error-Code", "")], "it answered with the error : the album is locked"),
        (vec![TEXT, ("Nats-Service-Error-Code", "E17")], "it answered with the error E17: the album is locked"),
        (vec![("Nats-Service-Error-Code", "E17")], "it answered with the error E17: "),
    ] {
        let bus = connect(&server).await;
        serve(&bus, &headers, b"{\"looks\":\"like an answer\"}").await;
        let service = NatsService::new(bus.clone(), SUBJECT.parse().unwrap());
        let error = service.ask(&message(1).event, TIMEOUT).await.unwrap_err();
        assert_eq!(error.kind, AskErrorKind::Failed, "{headers:?}");
        assert!(error_chain(&error).ends_with(told), "{headers:?}: {error:?}");
        bus.close().await;
    }
}

#[tokio::test]
async fn a_service_that_is_silent_is_given_up_in_time() {
    if nats::is_missing("slow services on NATS") {
        return;
    }
    let server = NatsServer::start();
    let bus = connect(&server).await;
    let _silent = bus.client().subscribe(SUBJECT).await.unwrap();
    bus.client().flush().await.unwrap();
    let service = NatsService::new(bus.clone(), SUBJECT.parse().unwrap());
    let asked = tokio::time::timeout(PATIENCE, service.ask(&message(1).event, TIMEOUT)).await.unwrap();
    assert_eq!(asked.unwrap_err().kind, AskErrorKind::Timeout);

    server.kill();
    let patience = Deadline::after(PATIENCE);
    while bus.is_connected() {
        assert!(!patience.has_passed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(service.ask(&message(1).event, TIMEOUT).await.unwrap_err().kind, AskErrorKind::Unreachable);
}

#[tokio::test]
async fn a_stream_that_answers_in_the_services_place_is_found_out() {
    if nats::is_missing("streams that capture a service's subject") {
        return;
    }
    let server = NatsServer::start();
    let mut options = Options::new(server.url());
    options.subjects = vec!["app.>".to_owned()];
    let bus = NatsBus::connect(options).await.unwrap();
    tokio::time::timeout(PATIENCE, bus.link().wait_for(|link| link.connected)).await.unwrap().unwrap();
    bus.provision(&[]).await.unwrap();
    let service = NatsService::new(bus.clone(), SUBJECT.parse().unwrap());
    assert_eq!(service.ask(&message(1).event, TIMEOUT).await.unwrap_err().kind, AskErrorKind::Failed);
}
