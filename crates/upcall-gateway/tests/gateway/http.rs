//! HTTP as it comes off the wire.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::io::AsyncWriteExt;

use crate::support::{BODY, LONG, callback, headers, route, signed_callback, start};

#[tokio::test]
async fn http_1_0_is_answered_and_closed() {
    let gateway = start(|_| {}).await;
    let mut connection = gateway.connect().await;
    connection.write(callback("/oss/avatars").replace("HTTP/1.1", "HTTP/1.0")).await;
    let answer = connection.answer().await;
    answer.assert_accepted();
    assert_eq!(answer.version, "HTTP/1.0");
    connection.closed().await;
}

#[tokio::test]
async fn a_connection_is_kept_until_the_client_asks_to_close_it() {
    let gateway = start(|_| {}).await;
    let mut connection = gateway.connect().await;
    for _ in 0..3 {
        connection.write(callback("/oss/avatars")).await;
        connection.answer().await.assert_accepted();
    }
    connection.write(signed_callback("/oss/avatars", "/oss/avatars", "connection: close\r\n")).await;
    connection.answer().await.assert_accepted();
    connection.closed().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let gateway = start(|_| {}).await;
    let mut connection = gateway.connect().await;
    let forged = callback("/oss/avatars").replace("size=7", "size=8");
    connection.write([callback("/oss/avatars"), forged, callback("/none"), callback("/oss/avatars")].concat()).await;
    connection.answer().await.assert_accepted();
    connection.answer().await.assert_error(403, "signature_mismatch");
    connection.answer().await.assert_error(404, "route_unknown");
    connection.answer().await.assert_accepted();
}

#[tokio::test]
async fn a_pipelined_request_that_is_no_http_gets_json_behind_the_others() {
    let gateway = start(|_| {}).await;
    let mut connection = gateway.connect().await;
    connection.write([callback("/oss/avatars"), "nonsense\r\n\r\n".to_owned()].concat()).await;
    connection.answer().await.assert_accepted();
    connection.answer().await.assert_error(400, "request_malformed");
    connection.closed().await;
}

#[tokio::test]
async fn a_body_in_chunks_and_in_single_bytes_is_the_same_body() {
    let gateway = start(|_| {}).await;
    let headers = headers("/oss/avatars", BODY);
    let (first, second) = BODY.split_at(10);
    let chunked = format!(
        "POST /oss/avatars HTTP/1.1\r\n{headers}transfer-encoding: chunked\r\n\r\n{:x}\r\n{first}\r\n{:x};a=b\r\n{second}\r\n0\r\n\r\n",
        first.len(),
        second.len()
    );
    gateway.send(&chunked).await.assert_accepted();
    for request in [chunked, callback("/oss/avatars")] {
        let mut connection = gateway.connect().await;
        connection.stream.set_nodelay(true).unwrap();
        for byte in request.bytes() {
            connection.write([byte]).await;
            connection.stream.flush().await.unwrap();
        }
        connection.answer().await.assert_accepted();
    }
}

#[tokio::test]
async fn lengths_that_contradict_each_other_are_refused() {
    let gateway = start(|_| {}).await;
    let length = format!("content-length: {}\r\n", BODY.len());
    let twice = callback("/oss/avatars").replace(&length, &format!("{length}content-length: 3\r\n"));
    gateway.send(twice).await.assert_error(400, "request_malformed");
    for wrong in ["-1", "+1", "1x", "99999999999999999999999"] {
        let request = callback("/oss/avatars").replace(&length, &format!("content-length: {wrong}\r\n"));
        gateway.send(request).await.assert_error(400, "request_malformed");
    }
    assert_eq!(gateway.published(), 0);
}

#[tokio::test]
async fn a_request_without_a_length_has_no_body() {
    let gateway = start(|_| {}).await;
    let request = format!("POST /oss/avatars HTTP/1.1\r\n{}\r\n", headers("/oss/avatars", BODY));
    gateway.send(request).await.assert_error(403, "signature_mismatch");
}

#[tokio::test]
async fn what_is_no_http_is_answered_with_json() {
    let gateway = start(|_| {}).await;
    for nonsense in [
        "nonsense\r\n\r\n",
        "POST /oss/avatars HTTP/9.9\r\n\r\n",
        "POST /a b HTTP/1.1\r\n\r\n",
        "POST /a HTTP/1.1\r\n:\r\n\r\n",
    ] {
        let mut connection = gateway.connect().await;
        connection.write(nonsense).await;
        connection.answer().await.assert_error(400, "request_malformed");
        connection.closed().await;
    }
}

#[tokio::test]
async fn a_client_that_closes_its_side_still_gets_its_answer() {
    let gateway = start(|_| {}).await;
    let mut connection = gateway.connect().await;
    connection.write(callback("/oss/avatars")).await;
    connection.stream.shutdown().await.unwrap();
    connection.answer().await.assert_accepted();
}

#[tokio::test]
async fn a_target_that_could_stand_for_several_is_refused() {
    let gateway = start(|_| {}).await;
    for target in
        ["/oss/avatars%3Fa=1", "/oss/avatars%3fa=1", "/oss/avatars%0A", "/oss/avatars%0Dx", "/%0a/oss/avatars"]
    {
        let request = signed_callback(target, "/oss/avatars", "");
        gateway.send(request).await.assert_error(400, "target_ambiguous");
    }
    for target in ["http://127.0.0.1/oss/avatars", "*"] {
        let request = signed_callback(target, "/oss/avatars", "");
        gateway.send(request).await.assert_error(400, "target_form");
    }
    gateway.send(signed_callback("/oss/%ff", "/oss/avatars", "")).await.assert_error(400, "target_encoding");
    assert_eq!(gateway.published(), 0);
}

/// The HTTP library drops a fragment before anybody sees it. What is verified is what is left, and nothing else of the
/// request is used: a signature over the fragment does not verify.
#[tokio::test]
async fn a_fragment_is_no_part_of_what_is_verified() {
    let gateway = start(|_| {}).await;
    gateway.send(callback("/oss/avatars?a=1").replace("a=1 ", "a=1#b ")).await.assert_accepted();
    gateway
        .send(signed_callback("/oss/avatars?a=1#b", "/oss/avatars?a=1%23b", ""))
        .await
        .assert_error(403, "signature_mismatch");
}

/// Whatever bytes stand in path and query: what was signed is what is verified.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_target_is_verified_as_it_came() {
    let gateway = start(|options| options.routes = vec![route("strange", "/a+b/%C3%A9/c%25d", None)]).await;
    let address = gateway.address;
    // Whatever `http` takes for a query; what it does not take is refused as no HTTP.
    let query = proptest::option::of("[!$-;=?-~é]{0,40}");
    let path = proptest::collection::vec(any::<(bool, bool)>(), 11);
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
        let result = runner.run(&(path, query), |(escapes, query)| {
            let decoded = "/a+b/é/c%d".as_bytes();
            let mut target = String::new();
            for (byte, (escape, lower)) in decoded.iter().zip(escapes) {
                match byte {
                    b'/' if target.is_empty() => target.push('/'),
                    byte if escape || *byte == b'%' || !byte.is_ascii() => {
                        target.push_str(&if lower { format!("%{byte:02x}") } else { format!("%{byte:02X}") });
                    }
                    byte => target.push(char::from(*byte)),
                }
            }
            if let Some(query) = query {
                target = format!("{target}?{query}");
            }
            let answer = runtime.block_on(async {
                let mut connection = crate::support::Connection::open(address).await;
                connection.write(callback(&target)).await;
                tokio::time::timeout(LONG, connection.answer()).await.unwrap()
            });
            prop_assert_eq!(answer.status, 200, "{}: {:?}", target, answer);
            Ok(())
        });
        result.unwrap();
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn connections_that_break_concern_nobody_else() {
    let gateway = start(|options| options.limits.head_time = Duration::from_secs(5)).await;
    for _ in 0..20 {
        let mut connection = gateway.connect().await;
        connection.write(&callback("/oss/avatars").as_bytes()[..50]).await;
    }
    gateway.send(callback("/oss/avatars")).await.assert_accepted();
}
