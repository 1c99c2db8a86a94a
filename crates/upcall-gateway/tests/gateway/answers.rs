//! What is answered to whom.

use std::sync::{Arc, Mutex};

use upcall_bus::PublishErrorKind;
use upcall_event::EventId;

use crate::support::{BODY, Behaviour, REQUEST_ID, callback, headers, route, signed_callback, start};

#[tokio::test]
async fn a_genuine_callback_is_published_and_answered_as_configured() {
    let gateway = start(|_| {}).await;
    gateway.send(callback("/oss/avatars")).await.assert_accepted();
    let published = gateway.bus.published.lock().unwrap();
    assert_eq!(published[0].event.id, EventId::from_request("examplebucket", "dir/a.png", "5CF3E7821AB22D0FDB867000"));
    assert_eq!(published[0].event.data.vars["user"], "42");
}

#[tokio::test]
async fn a_repeated_callback_is_a_success_too() {
    let gateway = start(|_| {}).await;
    gateway.behave(Behaviour::Duplicate);
    gateway.send(callback("/oss/avatars")).await.assert_accepted();
}

#[tokio::test]
async fn what_the_bus_does_not_take_is_not_200() {
    let gateway = start(|_| {}).await;
    for (kind, status, code) in [
        (PublishErrorKind::Busy, 503, "bus_busy"),
        (PublishErrorKind::Timeout, 503, "bus_timeout"),
        (PublishErrorKind::Full, 503, "bus_full"),
        (PublishErrorKind::Unavailable, 503, "bus_unavailable"),
        (PublishErrorKind::Rejected, 422, "bus_rejected"),
    ] {
        gateway.behave(Behaviour::Fail(kind));
        let answer = gateway.send(callback("/oss/avatars")).await;
        answer.assert_error(status, code);
        assert_eq!(answer.json()["error"]["request_id"], REQUEST_ID);
    }
}

#[tokio::test]
async fn a_panic_is_an_answer_and_the_gateway_goes_on() {
    let gateway = start(|_| {}).await;
    gateway.behave(Behaviour::Panic);
    let mut connection = gateway.connect().await;
    connection.write(callback("/oss/avatars")).await;
    connection.answer().await.assert_error(500, "internal");
    gateway.behave(Behaviour::Store);
    connection.write(callback("/oss/avatars")).await;
    connection.answer().await.assert_accepted();
}

#[tokio::test]
async fn a_forged_callback_is_refused_and_nothing_published() {
    let gateway = start(|_| {}).await;
    gateway.send(signed_callback("/oss/avatars", "/oss/other", "")).await.assert_error(403, "signature_mismatch");
    gateway.send(callback("/oss/avatars").replace("size=7", "size=8")).await.assert_error(403, "signature_mismatch");
    gateway.send(callback("/oss/avatars?a=1").replace("a=1", "a=2")).await.assert_error(403, "signature_mismatch");
    let unsigned = format!("POST /oss/avatars HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{BODY}", BODY.len());
    gateway.send(unsigned).await.assert_error(403, "signature_missing");
    let binary =
        [b"POST /oss/avatars HTTP/1.1\r\nauthorization: \xff\r\ncontent-length: 0\r\n\r\n".as_slice()].concat();
    gateway.send(binary).await.assert_error(400, "signature_encoding");
    assert_eq!(gateway.published(), 0);
}

#[tokio::test]
async fn an_authentic_body_that_is_no_use_is_422() {
    let gateway = start(|_| {}).await;
    let body = "bucket=examplebucket&filename=a.png";
    let (headers, length) = (headers("/oss/avatars", body), body.len());
    let answer =
        gateway.send(format!("POST /oss/avatars HTTP/1.1\r\n{headers}content-length: {length}\r\n\r\n{body}")).await;
    answer.assert_error(422, "object_missing");
    assert!(answer.body.contains("object=${object}"), "{answer:?}");
}

#[tokio::test]
async fn a_callback_path_takes_post_only() {
    let gateway = start(|_| {}).await;
    for method in ["GET", "PUT", "DELETE", "OPTIONS", "STRANGE"] {
        let answer = gateway.send(format!("{method} /oss/avatars HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        answer.assert_error(405, "method_not_allowed");
        assert_eq!(answer.headers["allow"], "POST");
    }
    let mut connection = gateway.connect().await;
    connection.write("HEAD /oss/avatars HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    let answer = connection.answer_to("HEAD").await;
    assert_eq!((answer.status, answer.headers["allow"].as_str()), (405, "POST"));
    assert!(answer.headers["content-length"].parse::<usize>().unwrap() > 0);
    connection.closed().await;
}

#[tokio::test]
async fn a_path_without_a_route_is_404_whatever_the_method() {
    let gateway = start(|_| {}).await;
    for path in
        ["/", "/oss/avatars/", "/oss/avatars/x", "//oss/avatars", "/OSS/avatars", "/metrics", "/live", "/oss/avatars;a"]
    {
        gateway.send(callback(path)).await.assert_error(404, "route_unknown");
        // Who looks for pages is told from a callback that went astray.
        gateway.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await.assert_error(404, "page_unknown");
    }
}

#[tokio::test]
async fn an_answer_that_oss_would_not_relay_is_an_error_before_anything_is_published() {
    let gateway = start(|options| {
        let long = serde_json::json!({ "text": "${object}".repeat(200_000) });
        options.routes[0].responder = upcall_responder::Responder::new(&long).unwrap();
    })
    .await;
    gateway.send(callback("/oss/avatars")).await.assert_error(500, "answer_too_large");
    assert_eq!(gateway.published(), 0);
}

#[tokio::test]
async fn an_observer_sees_every_callback_with_its_outcome() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let observer = Arc::clone(&seen);
    let gateway = start(move |options| {
        options.routes.push(route("second", "/second", None));
        options.observer = Some(Arc::new(move |observed| {
            let text = |text: Option<&str>| text.map(str::to_owned);
            let line = (text(observed.route), observed.outcome, text(observed.object), text(observed.request_id));
            observer.lock().unwrap().push((line, observed.event.is_some(), observed.reason.is_some()));
        }));
    })
    .await;
    gateway.send(callback("/oss/avatars")).await.assert_accepted();
    gateway.send(callback("/second").replace("size=7", "size=8")).await.assert_error(403, "signature_mismatch");
    let text = |text: &str| Some(text.to_owned());
    let expected = [
        ((text("avatars"), "accepted", text("dir/a.png"), text(REQUEST_ID)), true, false),
        ((text("second"), "signature_mismatch", None, text(REQUEST_ID)), false, true),
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[tokio::test]
async fn a_subject_that_no_bus_takes_is_422() {
    let gateway = start(|_| {}).await;
    // No operation of OSS's. Escaped, as the event's subject has it, it is thrice as long.
    let body = format!("bucket=examplebucket&object=a.png&operation={}", "/".repeat(1_400));
    let (headers, length) = (headers("/oss/avatars", &body), body.len());
    let answer =
        gateway.send(format!("POST /oss/avatars HTTP/1.1\r\n{headers}content-length: {length}\r\n\r\n{body}")).await;
    answer.assert_error(422, "subject_too_long");
    assert_eq!(gateway.published(), 0);
}
