//! A function that is invoked with events.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use upcall_tests::http::Answer;
use upcall_tests::nats::{NatsServer, is_missing};

use super::Instance;

pub(super) const EVENTS: &str = "invoked_by = \"events\"\nnotification_wait = \"0s\"";
/// How long notifications wait for their callbacks, where a test measures it.
const WAIT: Duration = Duration::from_secs(2);
pub(super) const NOTIFIED: &str = "buckets = [\"examplebucket\"]\nnotifications = true";

/// A request as the HTTP trigger hands it over.
fn of_http(request: &[u8], path: &str, query: Value) -> Value {
    let text = String::from_utf8(request.to_vec()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let headers: serde_json::Map<String, Value> = head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    json!({ "version": "v1", "rawPath": path, "body": body, "isBase64Encoded": false, "headers": headers, "queryParameters": query,
        "requestContext": { "http": { "method": "POST", "path": path, "sourceIp": "203.0.113.7" }, "requestId": "x", "time": "2026-01-01T00:00:00Z" } })
}

/// What the OSS trigger tells of an upload.
pub(super) fn of_oss(bucket: &str, object: &str, request_id: &str) -> Value {
    json!({ "events": [{ "eventName": "ObjectCreated:PutObject", "eventSource": "acs:oss", "eventTime": "2022-08-13T06:45:43.000Z", "eventVersion": "1.0",
        "oss": { "bucket": { "arn": "acs:oss:cn-hangzhou:123456789:testbucket", "name": bucket, "ownerIdentity": "164901546557" },
            "object": { "deltaSize": 1024, "eTag": "688A7BF4F233DC9C88A80BF985AB0000", "key": object, "size": 1024 }, "ossSchemaVersion": "1.0", "ruleId": "9adac8" },
        "region": "cn-hangzhou", "requestParameters": { "sourceIPAddress": "140.205.0.1" }, "responseElements": { "requestId": request_id },
        "userIdentity": { "principalId": "164901546557" } }] })
}

/// Several notifications in one.
fn list(notifications: &[Value]) -> Value {
    json!({ "events": notifications.iter().map(|one| one["events"][0].clone()).collect::<Vec<_>>() })
}

/// What became of each notification.
fn outcomes(answer: &Answer) -> Vec<String> {
    let uploads = answer.json()["uploads"].as_array().cloned().unwrap_or_default();
    uploads.iter().map(|upload| upload["outcome"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_callback_in_the_form_of_an_event_is_answered_in_that_form() {
    if is_missing("a function that takes callbacks as events") {
        return;
    }
    let server = NatsServer::start();
    let mut instance = Instance::start(server.address(), EVENTS, "");
    let callback = instance.callback("a.png", "5CF3E7821AB22D0FDB86704D");
    let answer = instance.invoke(&of_http(&callback, "/oss/test", json!({})));
    assert_eq!((answer.status, answer.json()["statusCode"].as_u64()), (200, Some(200)), "{}", answer.text());
    assert_eq!(answer.json()["headers"]["content-type"], "application/json");
    assert!(serde_json::from_str::<Value>(answer.json()["body"].as_str().unwrap()).is_ok());

    let one = instance.signer.upload("/oss/test?a=1", "examplebucket", "b.png", "5CF3E7821AB22D0FDB86704E");
    let answer = instance.invoke(&of_http(&one, "/oss/test", json!({ "a": "1" }))).json();
    assert_eq!(answer["statusCode"], 200, "{answer}");

    let two = instance.signer.upload("/oss/test?b=2&a=1", "examplebucket", "c.png", "5CF3E7821AB22D0FDB86704F");
    let answer = instance.invoke(&of_http(&two, "/oss/test", json!({ "a": "1", "b": "2" }))).json();
    assert_eq!(answer["statusCode"], 422, "{answer}");
    assert!(answer["body"].as_str().unwrap().contains("\"event_unverifiable\""), "{answer}");

    let forged = instance.invoke(&of_http(&callback, "/oss/other", json!({}))).json();
    assert_eq!(forged["statusCode"], 404, "{forged}");
    assert_eq!(instance.events().len(), 2);
}

#[test]
fn a_lost_callback_comes_back_as_a_notification_with_the_same_id() {
    if is_missing("a function that takes notifications") {
        return;
    }
    let server = NatsServer::start();
    let mut instance = Instance::start(server.address(), EVENTS, NOTIFIED);
    let answer = instance.invoke(&of_oss("examplebucket", "lost.png", "5CF3E7821AB22D0FDB86704D"));
    assert_eq!((answer.status, answer.json()["stored"].as_u64()), (200, Some(1)), "{}", answer.text());
    let event = instance.events().remove(0);
    assert_eq!(event["time"], "2022-08-13T06:45:43Z", "when it happened, which is before it was told");
    let data = &event["data"];
    assert_eq!(
        (&data["origin"], &data["proof"], &data["bucket_from"]),
        (&"notification".into(), &json!([]), &"notification".into())
    );
    assert_eq!((&data["object"], &data["size"], &data["mime_type"]), (&"lost.png".into(), &1024.into(), &Value::Null));

    // The callback of the same upload, and a notification of one whose callback has been taken.
    let callback = instance.callback("lost.png", "5CF3E7821AB22D0FDB86704D");
    assert_eq!(instance.invoke(&of_http(&callback, "/oss/test", json!({}))).json()["statusCode"], 200);
    let callback = instance.callback("kept.png", "5CF3E7821AB22D0FDB86704E");
    assert_eq!(instance.invoke(&of_http(&callback, "/oss/test", json!({}))).json()["statusCode"], 200);
    let answer = instance.invoke(&of_oss("examplebucket", "kept.png", "5CF3E7821AB22D0FDB86704E")).json();
    let uploads = json!([{ "request_id": "5CF3E7821AB22D0FDB86704E", "outcome": "duplicate" }]);
    let expected = json!({ "stored": 0, "duplicates": 1, "refused": 0, "failed": 0, "others": 0, "uploads": uploads });
    assert_eq!(answer, expected);
    let objects: Vec<_> = instance.events().iter().map(|event| event["data"]["object"].clone()).collect();
    assert_eq!(objects, ["lost.png", "kept.png"], "one upload, one event");
}

#[test]
fn notifications_that_no_route_asked_for_are_refused_and_make_no_event() {
    if is_missing("a function that is told of a bucket it does not know") {
        return;
    }
    let server = NatsServer::start();
    let mut instance = Instance::start(server.address(), EVENTS, NOTIFIED);
    let answer = instance.invoke(&of_oss("otherbucket", "a.png", "5CF3E7821AB22D0FDB86704D"));
    assert_eq!((answer.status, outcomes(&answer)), (200, vec!["bucket_not_allowed".to_owned()]), "{}", answer.text());
    assert_eq!(answer.header("x-fc-status"), None, "to be told again would change nothing");
    let quarantined = instance.quarantined();
    assert_eq!(quarantined.len(), 1);
    assert_eq!(quarantined[0]["request_id"], "5CF3E7821AB22D0FDB86704D");
    let answer = instance.invoke(&json!({ "events": [{ "eventName": "ObjectCreated:PutObject" }] }));
    assert_eq!((answer.status, outcomes(&answer)), (200, vec!["event_malformed".to_owned()]), "{}", answer.text());
    assert_eq!(answer.json()["uploads"][0]["message"], "a notification names no time");
    // What is no list at all comes from somewhere else.
    let answer = instance.invoke(&json!({ "event": [] }));
    assert_eq!((answer.status, answer.error_code().as_str()), (400, "event_malformed"));
    // A client of an HTTP trigger that should not be there.
    let answer = instance.pass_on(&instance.callback("a.png", "5CF3E7821AB22D0FDB86704D"), "/http-invoke");
    assert_eq!((answer.status, answer.error_code().as_str()), (403, "invocation_refused"));
    assert!(instance.events().is_empty());
}

#[test]
fn a_notification_that_is_refused_takes_no_other_of_its_list_with_it() {
    if is_missing("a function that is told of several uploads at once") {
        return;
    }
    let server = NatsServer::start();
    let mut instance = Instance::start(server.address(), EVENTS, NOTIFIED);
    let mut unnamed = of_oss("examplebucket", "unnamed.png", "x");
    unnamed["events"][0]["responseElements"] = json!({});
    let list = list(&[
        of_oss("otherbucket", "foreign.png", "5CF3E7821AB22D0FDB867041"),
        of_oss("examplebucket", "one.png", "5CF3E7821AB22D0FDB867042"),
        unnamed,
        of_oss("examplebucket", "two.png", "5CF3E7821AB22D0FDB867043"),
    ]);
    let answer = instance.invoke(&list);
    assert_eq!((answer.status, answer.header("x-fc-status")), (200, None), "{}", answer.text());
    assert_eq!(outcomes(&answer), ["bucket_not_allowed", "stored", "event_malformed", "stored"]);
    assert_eq!(answer.json()["uploads"][0]["request_id"], "5CF3E7821AB22D0FDB867041");
    let mut objects: Vec<_> = instance.events().iter().map(|event| event["data"]["object"].to_string()).collect();
    objects.sort();
    assert_eq!(objects, ["\"one.png\"", "\"two.png\""]);
    let mut kept: Vec<_> = instance.quarantined().iter().map(|kept| kept["code"].to_string()).collect();
    kept.sort();
    assert_eq!(kept, ["\"bucket_not_allowed\"", "\"event_malformed\""], "each with its reason");
}

#[test]
fn only_what_may_be_taken_later_has_a_list_told_again() {
    if is_missing("a function whose bus is away while it is told of uploads") {
        return;
    }
    let server = NatsServer::start();
    let mut instance = Instance::start(server.address(), EVENTS, NOTIFIED);
    let list = list(&[
        of_oss("otherbucket", "foreign.png", "5CF3E7821AB22D0FDB867041"),
        of_oss("examplebucket", "one.png", "5CF3E7821AB22D0FDB867042"),
    ]);
    server.stop();
    let answer = instance.invoke(&list);
    assert_eq!((answer.status, answer.header("x-fc-status")), (503, Some("404")), "{}", answer.text());
    assert_eq!(answer.json()["error"]["request_id"], "5CF3E7821AB22D0FDB867042", "{}", answer.text());
    assert_eq!((&answer.json()["refused"], &answer.json()["failed"]), (&1.into(), &1.into()), "{}", answer.text());
    server.cont();
    let answer = instance.invoke(&list);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(instance.events().len(), 1);
}

#[test]
fn a_list_waits_for_its_callbacks_once() {
    if is_missing("a function that is told of several uploads by a clock that is ahead") {
        return;
    }
    let server = NatsServer::start();
    let function = format!("invoked_by = \"events\"\nnotification_wait = \"{}s\"", WAIT.as_secs());
    let mut instance = Instance::start(server.address(), &function, NOTIFIED);
    let ahead = |number: usize| {
        let mut one = of_oss("examplebucket", &format!("{number}.png"), &format!("5CF3E7821AB22D0FDB86704{number}"));
        one["events"][0]["eventTime"] = "2999-01-01T00:00:00.000Z".into();
        one
    };
    let list = list(&(0..4).map(ahead).collect::<Vec<_>>());
    let begin = Instant::now();
    let answer = instance.invoke(&list);
    assert_eq!(outcomes(&answer), ["stored"; 4], "{}", answer.text());
    assert!((WAIT..2 * WAIT).contains(&begin.elapsed()), "{:?}", begin.elapsed());
}

#[test]
fn an_events_function_does_not_take_notifications_by_itself() {
    if is_missing("a function that does not take notifications") {
        return;
    }
    let server = NatsServer::start();
    let mut instance = Instance::start(server.address(), EVENTS, "buckets = [\"examplebucket\"]");
    let answer = instance.invoke(&of_oss("examplebucket", "a.png", "5CF3E7821AB22D0FDB86704D"));
    assert_eq!((answer.status, outcomes(&answer)), (200, vec!["bucket_not_allowed".to_owned()]), "{}", answer.text());
    assert!(instance.events().is_empty());
}
