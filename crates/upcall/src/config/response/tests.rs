use std::path::Path;

use super::*;
use crate::config::{Config, ConfigError};

/// A configuration whose only route has these keys.
fn parse(keys: &str) -> Result<AnswerBy, ConfigError> {
    let text = format!("{keys}\n[bus.nats]\nurl = \"nats://nats\"\n");
    let text = format!("[[route]]\nname = \"avatars\"\npath = \"/oss/avatars\"\n{text}");
    let config = Config::parse(Path::new("/etc/upcall/upcall.toml"), &text, std::iter::empty());
    config.map(|mut config| config.routes.remove(0).answer)
}

#[track_caller]
fn check_mistakes(keys: &str, expected: &[&str]) {
    let error = parse(keys).unwrap_err().to_string();
    for mistake in expected {
        assert!(error.contains(mistake), "{mistake:?} in {error}");
    }
    let count = error.lines().count() - 1;
    assert_eq!(count, expected.len(), "{error}");
}

#[test]
fn a_service_is_asked_as_configured() {
    let Ok(AnswerBy::Http { service, options }) = parse(
        r#"
        [route.response.http]
        url = "http://127.0.0.1:9000/upcall"
        authorization = "Bearer hunter2"
        when = "before"
        timeout = "800ms"
        fallback = { Status = "OK", object = "${object}" }
        veto = "relay"
        concurrency = 64
        "#,
    ) else {
        panic!("no HTTP service")
    };
    assert_eq!(service.url.to_string(), "http://127.0.0.1:9000/upcall");
    assert!(service.authorization.is_some() && !format!("{service:?}").contains("hunter2"));
    assert_eq!((options.when, options.veto), (When::Before, VetoAnswer::Relay));
    assert_eq!((options.timeout, options.concurrency.get()), (Duration::from_millis(800), 64));
    assert!(options.fallback.is_some());

    let Ok(AnswerBy::Request { subject, options }) = parse(r#"response = { request = { subject = "app.answer" } }"#)
    else {
        panic!("no request")
    };
    assert_eq!(subject.as_str(), "app.answer");
    let defaults = AskingOptions::default();
    assert_eq!((options.when, options.veto, options.timeout), (When::After, VetoAnswer::Fail, defaults.timeout));
    assert!(options.fallback.is_none() && options.concurrency == defaults.concurrency);
}

#[test]
fn any_other_answer_is_taken_literally() {
    for keys in [
        "",
        "response = \"${object}\"",
        "response = { http = \"OK\" }",
        "response = { request = [1, 2] }",
        "response = { Status = \"OK\", http = { status = 200 } }",
        "response = { request = { id = \"${request_id}\" }, http = { status = 200 } }",
        "response = { Status = \"OK\", nested = { http = { url = \"http://host/\" } } }",
    ] {
        assert!(matches!(parse(keys), Ok(AnswerBy::Template(_))), "{keys}");
    }
}

#[test]
fn what_is_half_a_service_and_half_an_answer_is_refused() {
    check_mistakes(
        "response = { http = { url = \"http://host/\" }, when = \"before\" }",
        &["route[0].response: asks a service by `http`, and has `when` beside it: move"],
    );
    check_mistakes(
        "response = { http = { url = \"http://host/\" }, request = { subject = \"a\" } }",
        &["by `request`, and has `http` beside it", "by `http`, and has `request` beside it"],
    );
}

#[test]
fn every_mistake_in_a_service_is_reported_with_its_place() {
    check_mistakes(
        r#"
        [route.response.http]
        urll = "http://host/"
        when = "later"
        timeout = "10s"
        fallback = { a = ["${sise}"] }
        veto = "relay"
        concurrency = 0
        "#,
        &[
            "route[0].response.http.url: is missing",
            "route[0].response.http.urll: is not a known key; did you mean `url`?",
            "route[0].response.http.when: takes \"after\" or \"before\"",
            "route[0].response.http.timeout: is no time that a callback has",
            "route[0].response.http.fallback.a[0]: ${sise} is no field",
            "route[0].response.http.veto: has no meaning with `when = \"after\"`",
            "route[0].response.http.concurrency: takes a positive integer",
        ],
    );
    check_mistakes(
        "response.http = { url = \"http://user:hunter2@host/\", authorization = \"a\\nb\", timeout = \"0s\" }",
        &["http.url: holds a user or a password", "http.authorization: can't be", "http.timeout: is no time"],
    );
    check_mistakes(
        "response.request = { subject = \"app.>\" }",
        &["response.request.subject: \"app.>\" is no subject"],
    );
    check_mistakes(
        "response.request = { subject = \"upcall.x\" }",
        &["response.request.subject: begins with `upcall.`"],
    );
    check_mistakes("response = { a = \"${sise}\" }", &["route[0].response.a: ${sise} is no field"]);
}

#[test]
fn a_request_needs_nats() {
    let text = "[[route]]\nname = \"a\"\npath = \"/a\"\nresponse.request = { subject = \"app.answer\" }\n";
    let error = Config::parse(Path::new("upcall.toml"), text, std::iter::empty()).unwrap_err().to_string();
    assert!(error.contains("route[0].response.request: needs `[bus.nats]`"), "{error}");
}

#[test]
fn services_may_not_hold_every_connection() {
    let keys = "response.http = { url = \"http://host/\", concurrency = 64 }\n[gateway.limits]\nconnections = ";
    parse(&format!("{keys}65")).unwrap_or_else(|error| panic!("{error}"));
    check_mistakes(&format!("{keys}64"), &["gateway.limits.connections: leaves no connection to other routes"]);
}
