use proptest::prelude::*;
use serde_json::json;
use upcall_event::{BucketSource, EventId, Origin, Proof, UploadCompleted};

use super::*;

pub(crate) fn event() -> Event {
    Event {
        id: EventId::from_request("b", "o", "r"),
        time: "2026-01-01T00:00:00Z".parse().unwrap(),
        data: UploadCompleted {
            bucket: "b".into(),
            object: "dir/a \"b\".txt".into(),
            etag: None,
            size: Some(1024),
            mime_type: None,
            crc64: None,
            content_md5: None,
            image: None,
            operation: None,
            request_id: None,
            client_ip: None,
            vpc_id: None,
            vars: [("user".to_owned(), "42".to_owned())].into(),
            extra: [("tags".to_owned(), json!(["x", 1]))].into(),
            route: "r".into(),
            bucket_from: BucketSource::Body,
            proof: vec![Proof::Signature],
            origin: Origin::Callback,
        },
        trace: None,
    }
}

#[track_caller]
fn check(answer: Value, expected: Value) {
    let json = AnswerTemplate::new(&answer).unwrap().fill(&event()).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&json).unwrap(), expected);
}

#[test]
fn values_are_filled_in_as_json() {
    check(
        json!({"Status": "OK", "size": "${size}", "url": "https://cdn.example.com/${object}", "tags": "${extra.tags}"}),
        json!({"Status": "OK", "size": 1024, "url": "https://cdn.example.com/dir/a \"b\".txt", "tags": ["x", 1]}),
    );
}

#[test]
fn a_missing_value_is_null_alone_and_empty_inside_a_text() {
    check(json!(["${etag}", "[${etag}]", "${vars.nobody}"]), json!([null, "[]", null]));
}

#[test]
fn anything_else_stays_as_it_is() {
    check(
        json!({"a": [1, 2.5, true, null, "", {"${size}": "x"}]}),
        json!({"a": [1, 2.5, true, null, "", {"${size}": "x"}]}),
    );
    check(json!("${event.id}"), json!(event().id.to_string()));
    assert_eq!(AnswerTemplate::default().fill(&event()).unwrap(), br#"{"Status":"OK"}"#);
}

#[test]
fn every_mistake_is_reported_with_its_place() {
    let mistakes = AnswerTemplate::new(&json!({"a": "${sise}", "b": [0, "${"], "c": "${size}"})).unwrap_err();
    let places: Vec<&str> = mistakes.iter().map(|mistake| mistake.path.as_str()).collect();
    assert_eq!(places, ["a", "b[1]"]);
    assert!(mistakes[0].to_string().starts_with("a: ${sise} is no field"), "{}", mistakes[0]);
}

#[test]
fn an_answer_that_oss_would_drop_is_an_error() {
    let mut event = event();
    event.data.object = "\u{1}".repeat(200_000); // six bytes each, as JSON
    let template = AnswerTemplate::new(&json!({"o": "${object}"})).unwrap();
    assert!(matches!(template.fill(&event), Err(AnswerTooLarge { bytes }) if bytes > ANSWER_BYTES_MAX));
}

fn any_answer() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        any::<String>().prop_map(|text| text.replace("${", "$${")),
        prop::sample::select(vec!["${object}", "x${object}y${vars.user}", "${size}", "${extra.tags}", "a${etag}"])
            .prop_map(str::to_owned),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text.prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..4).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

/// What the answer must be, computed the plain way: fill in every string of the tree.
fn fill(answer: &Value, event: &Event) -> Value {
    match answer {
        Value::String(text) => text.parse::<Template>().unwrap().fill(event),
        Value::Array(items) => items.iter().map(|item| fill(item, event)).collect(),
        Value::Object(members) => members.iter().map(|(key, member)| (key.clone(), fill(member, event))).collect(),
        other => other.clone(),
    }
}

proptest! {
    #[test]
    fn the_answer_is_json_whatever_the_event_holds(answer in any_answer(), object in any::<String>(), user in any::<String>()) {
        let mut event = event();
        event.data.object = object;
        event.data.vars.insert("user".into(), user);
        let json = AnswerTemplate::new(&answer).unwrap().fill(&event).unwrap();
        prop_assert_eq!(serde_json::from_slice::<Value>(&json).unwrap(), fill(&answer, &event));
    }
}
