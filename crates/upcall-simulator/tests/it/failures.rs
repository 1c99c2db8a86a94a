//! Callbacks that fail: the object is stored, and the uploader is told as OSS tells it.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::net::TcpListener;
use upcall_callback::CallbackFailure;
use upcall_simulator::CallbackOutcome;

use crate::support::{App, Harness, Message, callback, callback_to, ok};

#[track_caller]
fn assert_failed(answer: &Message, message: &str, ec: Option<&str>) {
    assert_eq!(answer.status(), 203, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/xml");
    assert_eq!(answer.element("Code"), "CallbackFailed");
    assert_eq!(answer.element("Message"), message);
    assert_eq!(answer.elements("EC").first().map(String::as_str), ec);
    assert_eq!(answer.element("RequestId"), answer.header("x-oss-request-id"));
    assert!(!answer.element("HostId").is_empty());
    // The upload itself went well.
    assert_eq!(answer.header("etag"), "\"5D41402ABC4B2A76B9719D911017C592\"");
}

#[tokio::test]
async fn answers_that_oss_refuses_are_named() {
    let long = 1024 * 1024 + 1;
    let long = [format!("HTTP/1.1 200 OK\r\nContent-Length: {long}\r\n\r\n").into_bytes(), vec![b' '; long]].concat();
    let no_length = "Error Status : 400.User server missing content-length.";
    let wrong_length = "Error Status : 400.User server return invalid conent-length value.";
    let long_length = "Error Status : 400.User server return too long content-length value.";
    let not_json = "Response body is not valid json format.";
    for (answer, message, ec) in [
        (
            b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n".to_vec(),
            "Error status : 502.",
            Some("0007-00000203"),
        ),
        (b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), "Error status : 204.", Some("0007-00000203")),
        (
            b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1/\r\nContent-Length: 2\r\n\r\n{}".to_vec(),
            "Error status : 301.",
            Some("0007-00000203"),
        ),
        (ok("hello"), not_json, Some("0007-00000205")),
        (ok("\u{feff}{}"), not_json, Some("0007-00000205")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}".to_vec(), not_json, Some("0007-00000205")),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n".to_vec(), no_length, None),
        (b"HTTP/1.1 200 OK\r\n\r\n{}".to_vec(), no_length, None),
        (b"HTTP/1.0 200 OK\r\n\r\n{}".to_vec(), no_length, None),
        (ok(""), wrong_length, None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\n{}".to_vec(), wrong_length, None),
        (long, long_length, None),
        // Connected, but no HTTP came back.
        (b"hello\r\n\r\n".to_vec(), "Error status : 502.", Some("0007-00000203")),
    ] {
        let (simulator, app) = (Harness::start().await, App::answering(answer.clone()).await);
        let relayed = simulator.put("a.txt", &callback_to(&app.url("/"))).await;
        assert_failed(&relayed, message, ec);
        assert_eq!(app.received().len(), 1, "OSS never retries");
        assert!(simulator.has("a.txt").await);
    }
}

#[tokio::test]
async fn nobody_there_is_named() {
    let simulator = Harness::start().await;
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let message = "Error status : -1.OSS can not connect to your callbackUrl, please check it.";
    for url in [format!("http://127.0.0.1:{port}/"), "http://nobody.invalid/".to_owned()] {
        assert_failed(&simulator.put("a.txt", &callback_to(&url)).await, message, Some("0007-00000203"));
    }
    assert!(simulator.has("a.txt").await);
}

#[tokio::test]
async fn a_slow_application_server_is_given_up_on() {
    let simulator = Harness::with(|options| options.callback_timeout = Duration::from_millis(200)).await;
    let mut reports = simulator.handle.reports();
    let (silent, spare) = (App::answering("").await, App::answering(ok("{}")).await);
    let start = Instant::now();
    // The time is for all URLs together.
    let urls = format!("{};{}", silent.url("/"), spare.url("/"));
    let answer = simulator.put("a.txt", &callback_to(&urls)).await;
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert_eq!((answer.status(), answer.element("EC").as_str()), (203, "0007-00000202"));
    assert!(answer.element("Message").starts_with("Callback reply timeout, cost:"), "{}", answer.text());
    assert!(answer.element("Message").contains("timeout:200ms"));
    let CallbackOutcome::Failed(CallbackFailure::Timeout { cost, limit }) = reports.recv().await.unwrap().outcome
    else {
        panic!("another failure");
    };
    assert!(cost >= limit);
    assert_eq!(spare.received().len(), 0);
}

#[tokio::test]
async fn an_object_that_is_no_image_although_it_says_so_has_no_callback() {
    let (simulator, app) = (Harness::start().await, App::answering(ok("{}")).await);
    let parameter = callback(&json!({"callbackUrl": app.url("/"), "callbackBody": "w=${imageInfo.width}"}));
    let headers = [("x-oss-callback", parameter.as_str()), ("Content-Type", "image/png")];
    let answer = simulator.send("PUT", "/examplebucket/a.png", &headers, b"hello").await;
    assert_failed(&answer, "Get image info failed.", Some("0007-00000301"));
    assert_eq!(app.received().len(), 0);
    assert!(simulator.has("a.png").await);
}
