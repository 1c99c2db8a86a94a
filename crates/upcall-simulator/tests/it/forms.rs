//! PostObject, as browsers do it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use serde_json::json;
use sha1::Sha1;
use upcall_simulator::Credentials;

use crate::support::{App, Harness, Message, callback, ok};

/// Posts a form whose file is `hello`, called `pictures/cat.txt`.
async fn post(simulator: &Harness, fields: &[(&str, &str)]) -> Message {
    let mut body = String::new();
    for (name, value) in fields {
        body.push_str(&format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"));
    }
    body.push_str(
        "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"pictures/cat.txt\"\r\nContent-Type: text/plain\r\n\r\nhello\r\n\
         --XX\r\nContent-Disposition: form-data; name=\"submit\"\r\n\r\nUpload\r\n--XX--\r\n",
    );
    let headers = [
        ("Content-Type", "multipart/form-data; boundary=XX"),
        ("Host", "examplebucket.localhost"),
        ("Origin", "http://app.example"),
    ];
    simulator.send("POST", "/", &headers, body.as_bytes()).await
}

#[tokio::test]
async fn a_form_is_answered_as_it_asks_for() {
    let simulator = Harness::start().await;
    let plain = post(&simulator, &[("key", "dir/${filename}")]).await;
    assert_eq!((plain.status(), plain.body.len()), (204, 0));
    assert_eq!(plain.header("access-control-allow-origin"), "*");
    let object = simulator.send("GET", "/examplebucket/dir/cat.txt", &[], b"").await;
    assert_eq!((object.text(), object.header("content-type")), ("hello", "text/plain"));

    assert_eq!(post(&simulator, &[("key", "a"), ("success_action_status", "200")]).await.status(), 200);
    let created = post(&simulator, &[("key", "a"), ("success_action_status", "201")]).await;
    assert_eq!((created.status(), created.element("Key").as_str()), (201, "a"));
    let redirected = post(&simulator, &[("key", "a"), ("success_action_redirect", "http://app.example/done")]).await;
    assert_eq!(redirected.status(), 303);
    assert!(redirected.header("location").starts_with("http://app.example/done?bucket=examplebucket&key=a&etag="));
}

#[tokio::test]
async fn a_callback_replaces_the_answer_of_a_form() {
    let (simulator, app) = (Harness::start().await, App::answering(ok(r#"{"Status":"OK"}"#)).await);
    let parameter = callback(&json!({
        "callbackUrl": app.url("/"),
        "callbackBody": "o=${object}&t=${mimeType}&u=${x:user}&m=${contentMd5}&op=${operation}",
    }));
    let fields =
        [("key", "a"), ("Content-Type", "image/x"), ("x-oss-meta-k", "v"), ("callback", &parameter), ("x:user", "4 2")];
    let answer = post(&simulator, &fields).await;
    assert_eq!((answer.status(), answer.text()), (200, r#"{"Status":"OK"}"#));
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(app.received()[0].text(), "o=a&t=image%2Fx&u=4%202&m=XUFAKrxLKna5cZ2REBfFkg%3D%3D&op=PostObject");
    let object = simulator.send("GET", "/examplebucket/a", &[], b"").await;
    assert_eq!(object.header("x-oss-meta-k"), "v");

    let refused = post(&simulator, &[("key", "b"), ("callback", "%")]).await;
    assert_eq!((refused.status(), refused.element("EC").as_str()), (400, "0007-00000002"));
    assert!(!simulator.has("b").await);
}

#[tokio::test]
async fn a_form_that_is_none_is_refused() {
    let simulator = Harness::start().await;
    assert_eq!(post(&simulator, &[]).await.element("Code"), "MalformedPOSTRequest");
    let long = "a".repeat(8 * 1024 + 1);
    assert_eq!(post(&simulator, &[("key", "a"), ("x:long", &long)]).await.element("Code"), "FieldItemTooLong");
    let headers = [("Content-Type", "multipart/form-data; boundary=XX")];
    for body in ["", "--XX\r\n\r\n", "--XX\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\na\r\n--XX--\r\n"] {
        let answer = simulator.send("POST", "/examplebucket", &headers, body.as_bytes()).await;
        assert_eq!((answer.status(), answer.element("Code").as_str()), (400, "MalformedPOSTRequest"), "{body:?}");
    }
    assert_eq!(simulator.send("POST", "/examplebucket", &[], b"x").await.element("Code"), "MalformedPOSTRequest");
}

#[tokio::test]
async fn a_browser_may_ask_beforehand() {
    let simulator = Harness::start().await;
    let headers = [
        ("Origin", "http://app.example"),
        ("Access-Control-Request-Method", "PUT"),
        ("Access-Control-Request-Headers", "x-oss-callback, content-type"),
    ];
    let allowed = simulator.send("OPTIONS", "/examplebucket/a", &headers, b"").await;
    assert_eq!(allowed.status(), 200);
    assert_eq!(allowed.header("access-control-allow-origin"), "*");
    assert!(allowed.header("access-control-allow-methods").contains("PUT"));
    assert_eq!(allowed.header("access-control-allow-headers"), "x-oss-callback, content-type");
    let own = simulator.send("OPTIONS", "/_simulator/faults", &headers, b"").await;
    assert_eq!(own.optional("access-control-allow-origin"), None, "no web page may change the faults");
}

#[tokio::test]
async fn with_a_secret_the_policy_is_checked() {
    let credentials = Credentials { access_key_id: "ak".to_owned(), access_key_secret: "secret".to_owned() };
    let simulator = Harness::with(|options| options.credentials = Some(credentials)).await;
    let upload = async |max: u64, min: u64, key: &str, id: &str| {
        let policy = STANDARD.encode(format!(
            r#"{{"expiration":"2099-01-01T00:00:00.000Z","conditions":[{{"bucket":"examplebucket"}},["starts-with","$key","dir/"],["content-length-range",{min},{max}]]}}"#
        ));
        let mut mac = Hmac::<Sha1>::new_from_slice(b"secret").unwrap();
        mac.update(policy.as_bytes());
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        let fields = [("key", key), ("OSSAccessKeyId", id), ("policy", &policy), ("Signature", &signature)];
        let answer = post(&simulator, &fields).await;
        if answer.status() == 204 { "stored".to_owned() } else { answer.element("Code") }
    };
    assert_eq!(upload(5, 5, "dir/a", "ak").await, "stored");
    for (max, min, key, id, code) in [
        (4, 0, "dir/b", "ak", "EntityTooLarge"),
        (9, 6, "dir/b", "ak", "EntityTooSmall"),
        (9, 0, "b", "ak", "AccessDenied"),
        (9, 0, "dir/b", "other", "InvalidAccessKeyId"),
    ] {
        assert_eq!(upload(max, min, key, id).await, code);
    }
    let list = simulator.send("GET", "/examplebucket?list-type=2", &[], b"").await;
    assert_eq!(list.elements("Key"), ["dir/a"]);
}
