//! Uploads that are refused for their callback: 400, and nothing is stored.

use serde_json::{Value, json};

use crate::support::{Harness, Message, callback};

#[track_caller]
fn assert_refused(answer: &Message, message: &str, ec: &str) {
    assert_eq!(answer.status(), 400, "{}", answer.text());
    assert_eq!(answer.element("Code"), "InvalidArgument");
    assert_eq!(answer.element("Message"), message);
    assert_eq!(answer.element("EC"), ec);
    assert_eq!(answer.header("x-oss-ec"), ec);
}

/// A callback that is right but for one member.
fn but(name: &str, value: Value) -> String {
    let mut members = json!({"callbackUrl": "http://127.0.0.1:1/", "callbackBody": "a=${object}"});
    members[name] = value;
    callback(&members)
}

#[tokio::test]
async fn every_fault_of_the_parameter_is_named_and_nothing_is_stored() {
    let simulator = Harness::start().await;
    let base64 = "The callback configuration is not base64 encoded.";
    let json = "The callback configuration is not json format.";
    let url = "The callback url configuration is invalid.";
    let host = "The callback host configuration is invalid.";
    let body_type = "The callback body type configuration is invalid.";
    let long = "The length of callback exceed max value.";
    for (parameter, message, ec) in [
        ("%%%".to_owned(), base64, "0007-00000002"),
        ("ü".to_owned(), base64, "0007-00000002"),
        ("aGVsbG8=".to_owned(), json, "0007-00000003"),
        (but("callbackUrl", json!("")), url, "0007-00000004"),
        (but("callbackUrl", json!("ftp://example.com/")), url, "0007-00000004"),
        // Such a path could be taken for another request than the one that is signed.
        (but("callbackUrl", json!("http://127.0.0.1:1/a%3Fb")), url, "0007-00000004"),
        (but("callbackUrl", json!("http://127.0.0.1:1/<a>")), url, "0007-00000004"),
        (but("callbackUrl", json!("a;b;c;d;e;f")), "The number of callback url exceed max value.", "0007-00000005"),
        (but("callbackHost", json!(1)), host, "0007-00000009"),
        (but("callbackBody", json!("${nonsense}")), "The callback body is invalid.", "0007-00000010"),
        (but("callbackBody", json!("")), "The callback body is empty.", "0007-00000011"),
        (but("callbackBodyType", json!(1)), body_type, "0007-00000012"),
        (but("callbackBodyType", json!("text/plain")), "The body type of callback is not supported.", "0007-00000013"),
        (but("callbackBody", json!("a".repeat(6000))), long, "0007-00000001"),
        (but("callbackBody", json!("a=$object")), "Left brace must be adjacent to dollar sign.", "0007-00000105"),
    ] {
        assert_refused(&simulator.put("a.txt", &parameter).await, message, ec);
        assert!(!simulator.has("a.txt").await);
    }
}

#[tokio::test]
async fn a_callback_comes_one_way_at_a_time() {
    let simulator = Harness::start().await;
    let parameter = but("callbackBody", json!("a"));
    let query = serde_urlencoded::to_string([("callback", &parameter)]).unwrap();
    let headers = [("x-oss-callback", parameter.as_str())];
    let answer = simulator.send("PUT", &format!("/examplebucket/a.txt?{query}"), &headers, b"x").await;
    let message =
        "Either the callback query string parameter or the x-oss-callback header should be specified, not both.";
    assert_refused(&answer, message, "0007-00000027");
}

#[tokio::test]
async fn callback_var_has_its_own_faults() {
    let simulator = Harness::start().await;
    let parameter = but("callbackBody", json!("a"));
    let long = callback(&json!({"x:a": "a".repeat(6000)}));
    let upload = async |vars: &str| {
        let headers = [("x-oss-callback", parameter.as_str()), ("x-oss-callback-var", vars)];
        simulator.send("PUT", "/examplebucket/a.txt", &headers, b"x").await
    };
    assert_refused(&upload(&long).await, "The length of callback var exceed max value.", "0007-00000101");
    let base64 = "The callback var configuration is not base64 encoded.";
    assert_refused(&upload("%").await, base64, "0007-00000102");
}

#[tokio::test]
async fn a_large_upload_gets_to_read_why_it_is_refused() {
    let simulator = Harness::start().await;
    let body = vec![b'x'; 8 * 1024 * 1024];
    let answer = simulator.send("PUT", "/examplebucket/a.txt", &[("x-oss-callback", "%")], &body).await;
    assert_refused(&answer, "The callback configuration is not base64 encoded.", "0007-00000002");
}

#[tokio::test]
async fn completing_a_multipart_upload_is_refused_and_can_be_done_again() {
    let simulator = Harness::start().await;
    let initiated = simulator.send("POST", "/examplebucket/a?uploads", &[], b"").await;
    let id = initiated.element("UploadId");
    let part = format!("/examplebucket/a?partNumber=1&uploadId={id}");
    simulator.send("PUT", &part, &[], b"x").await;
    let target = format!("/examplebucket/a?uploadId={id}");
    let all = ("x-oss-complete-all", "yes");
    let refused = simulator.send("POST", &target, &[("x-oss-callback", "%"), all], b"").await;
    assert_refused(&refused, "The callback configuration is not base64 encoded.", "0007-00000002");
    assert!(!simulator.has("a").await);
    assert_eq!(simulator.send("POST", &target, &[all], b"").await.status(), 200);
    assert!(simulator.has("a").await);
}
