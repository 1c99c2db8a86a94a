//! `docs/reference/asyncapi.json`: what is on NATS, for programs. Generated from the code, read by AsyncAPI's own parser.

use std::path::PathBuf;

use serde_json::{Map, Value, json};
use upcall_bus_nats::Options;
use upcall_bus_nats::names::{DEAD_PREFIX, Names, REDELIVERY_PREFIX, header};
use upcall_event::{
    BucketSource, EVENT_TYPE, Event, EventId, Image, Origin, Proof, SPEC_VERSION, SubjectTemplate, UploadCompleted,
};
use upcall_tests::executable::workspace;
use upcall_tests::skip;

use crate::example::{document as consumers_document, node};

const EXAMPLE_CONSUMER: &str = "thumbnails";

/// Writes the document anew where it differs, and fails: the repaired file belongs in the commit.
#[test]
fn the_asyncapi_document_in_the_reference_is_this_one() {
    let generated = serde_json::to_string_pretty(&document()).unwrap() + "\n";
    if std::fs::read_to_string(path()).ok().as_deref() != Some(&generated) {
        std::fs::write(path(), generated).unwrap();
        panic!("{} was out of date and has been written anew: commit it", path().display());
    }
}

#[test]
fn asyncapis_own_parser_finds_nothing_wrong_with_it() {
    let folder = workspace().join(".cache/node");
    if !node().arg("--version").output().is_ok_and(|said| said.status.success()) || !folder.is_dir() {
        return skip(
            "the AsyncAPI document: Node.js and AsyncAPI's parser are not installed (tests/run installs them)",
        );
    }
    let script = workspace().join("tests/languages/asyncapi.mjs");
    let output = node().arg(script).arg(folder).arg(path()).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("it is valid, with 3 examples"), "{said}");
}

#[test]
fn the_page_for_people_names_every_header_and_shows_the_same_upload() {
    let page = consumers_document();
    let document = document();
    for message in ["UploadCompleted", "Redelivery", "DeadLetter"] {
        let headers = &document["components"]["messages"][message]["headers"]["properties"];
        for name in headers.as_object().unwrap().keys() {
            assert!(page.contains(&format!("`{name}`")), "docs/consumers.md does not tell about the header {name}");
        }
    }
    let shown: Value = serde_json::from_str(&crate::example::block("json", "bucket")).unwrap();
    assert_eq!(shown, payload(&example()));
}

fn path() -> PathBuf {
    workspace().join("docs/reference/asyncapi.json")
}

fn document() -> Value {
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Upcall",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Completed uploads to object storage, as messages in streams of NATS JetStream. \
                What Upcall sends, you receive, as a durable pull consumer; docs/consumers.md says how, \
                with complete examples.",
            "license": { "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0" },
            "tags": [{ "name": "uploads" }, { "name": "cloudevents" }],
        },
        "defaultContentType": "application/json",
        "servers": {
            "nats": {
                "host": "localhost:4222",
                "protocol": "nats",
                "description": "The servers of bus.nats.url, with JetStream.",
            },
        },
        "channels": channels(),
        "operations": operations(),
        "components": { "messages": messages(), "schemas": schemas() },
    })
}

fn channels() -> Value {
    let names = Names::new(Options::new("").stream);
    let channel = |address: String, stream: &str, message: &str, description: &str, parameters: Value| {
        let message = json!({ message: { "$ref": format!("#/components/messages/{message}") } });
        let server = json!({ "$ref": "#/servers/nats" });
        json!({
            "address": address, "description": description, "servers": [server], "messages": message,
            "parameters": parameters, "x-jetstream-stream": stream,
        })
    };
    let token = "Escaped: letters, digits, `_` and `-` of ASCII stand for themselves, every other byte is `%` and two \
        hex digits; `_` alone is an empty or absent value.";
    let value = |what: &str, example: &str, field: &str| {
        let location = format!("$message.payload#/{field}");
        json!({ "description": format!("{what} {token}"), "examples": [example], "location": location })
    };
    let consumer = json!({ "consumer": { "description": "The consumer's name.", "examples": [EXAMPLE_CONSUMER] } });
    json!({
        "uploads": channel(
            SubjectTemplate::DEFAULT.replace("${", "{"), names.uploads(), "UploadCompleted",
            "Every completed upload. A route can have another template behind the same literal prefix.",
            json!({
                "bucket": value("The bucket.", "examplebucket", "bucket"),
                "operation": value("What completed the upload.", "PutObject", "operation"),
            }),
        ),
        "redelivery": channel(
            format!("{REDELIVERY_PREFIX}.{{consumer}}"), &names.redelivery(), "Redelivery",
            "Uploads that one consumer is given again: a dead letter retried, or a replay. A work queue.",
            consumer.clone(),
        ),
        "deadLetters": channel(
            format!("{DEAD_PREFIX}.{{consumer}}"), &names.dead(), "DeadLetter",
            "Uploads that a consumer could not take, with the reason.",
            consumer,
        ),
    })
}

fn operations() -> Value {
    let operation = |action: &str, channel: &str, message: &str, summary: &str| {
        let messages = json!([{ "$ref": format!("#/channels/{channel}/messages/{message}") }]);
        let channel = json!({ "$ref": format!("#/channels/{channel}") });
        json!({ "action": action, "channel": channel, "messages": messages, "summary": summary })
    };
    json!({
        "publishUpload": operation("send", "uploads", "UploadCompleted",
            "Upcall publishes every completed upload, at least once. You receive it, and do its effect once, by ce-id."),
        "giveAgain": operation("send", "redelivery", "Redelivery",
            "Operators give a consumer an upload again, with `upcall dead retry` or `upcall replay`."),
        "bury": operation("send", "deadLetters", "DeadLetter",
            "Upcall's own consumers publish what they give up."),
        "listDeadLetters": operation("receive", "deadLetters", "DeadLetter",
            "`upcall dead` reads them. Consumers of your own publish what they give up here, too."),
    })
}

fn messages() -> Value {
    let event = example();
    let binary = event.to_binary();
    let own: Map<String, Value> = binary
        .headers
        .iter()
        // AsyncAPI has a place of its own for it.
        .filter(|(name, _)| *name != "content-type")
        .map(|(name, value)| ((*name).to_owned(), json!(value)))
        .collect();
    let subject = SubjectTemplate::default().fill(&event).unwrap().to_string();
    let place =
        [(header::SUBJECT, subject), (header::SEQUENCE, "42".into()), (header::STORED_AT, event.time.to_string())];
    let death = [
        (header::CONSUMER, EXAMPLE_CONSUMER.to_owned()),
        (header::REASON, "the image has no pixels".to_owned()),
        (header::ATTEMPTS, "20".to_owned()),
        (header::DIED_AT, "2026-01-01T01:00:00Z".to_owned()),
    ];
    let with = |added: Vec<(&str, String)>| {
        let mut headers = own.clone();
        headers.extend(added.into_iter().map(|(name, value)| (name.to_owned(), json!(value))));
        headers
    };
    let message = |title: &str, headers: Map<String, Value>, optional: &[&str]| {
        json!({
            "name": title, "title": title, "contentType": "application/json",
            "headers": header_schema(&headers, optional),
            "payload": { "$ref": "#/components/schemas/UploadCompleted" },
            "examples": [{ "name": "example", "headers": headers, "payload": payload(&event) }],
        })
    };
    json!({
        "UploadCompleted": message("UploadCompleted", with(vec![("Nats-Msg-Id", event.id.to_string())]), &[]),
        "Redelivery": message("Redelivery", with(place.to_vec()), &[]),
        "DeadLetter": message(
            "DeadLetter", with([place.as_slice(), death.as_slice()].concat()), &[header::REFERENCE],
        ),
    })
}

/// Says what these headers are. Each has to be there, but for the optional ones.
fn header_schema(headers: &Map<String, Value>, optional: &[&str]) -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    let moment = |description: &str| json!({ "type": "string", "format": "date-time", "description": description });
    let number = |description: &str| json!({ "type": "string", "pattern": "^[0-9]+$", "description": description });
    let property = |name: &str| match name {
        "ce-specversion" => json!({ "type": "string", "const": SPEC_VERSION }),
        "ce-type" => json!({ "type": "string", "const": EVENT_TYPE }),
        "ce-id" => json!({
            "type": "string", "pattern": "^[0-9a-f]{32}$",
            "description": "The event's id: the same upload has the same id, however often it is reported.",
        }),
        "ce-source" => text("`/oss/BUCKET`, percent-encoded."),
        "ce-subject" => text("The object's key, percent-encoded."),
        "ce-time" => moment("When the gateway took the callback in (UTC)."),
        "Nats-Msg-Id" => text("The same as ce-id: within its duplicate window the stream stores an id once."),
        header::CONSUMER => text("Which consumer could not take the event."),
        header::SUBJECT => text("The subject that the event was published on."),
        header::SEQUENCE => number("The event's sequence in the stream of uploads."),
        header::STORED_AT => moment("When the stream of uploads stored the event."),
        header::REASON => text("Why the consumer could not take it, on one line."),
        header::ATTEMPTS => number("How many attempts there were."),
        header::DIED_AT => moment("When it was given up."),
        header::REFERENCE => json!({
            "type": "string", "const": "event",
            "description": "The letter has no data: they are the event's in the stream of uploads, at its sequence.",
        }),
        other => panic!("say here what the header {other} is"),
    };
    let names = headers.keys().map(String::as_str).chain(optional.iter().copied());
    let properties: Map<String, Value> = names.map(|name| (name.to_owned(), property(name))).collect();
    json!({ "type": "object", "properties": properties, "required": headers.keys().collect::<Vec<_>>() })
}

/// The schemas of the data, as AsyncAPI has them.
fn schemas() -> Value {
    let mut schemas = upcall_event::json_schema()["$defs"].take();
    place_references(&mut schemas);
    schemas
}

/// AsyncAPI keeps schemas elsewhere, and drops what stands beside a reference.
fn place_references(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(place_references),
        Value::Object(members) => {
            members.values_mut().for_each(place_references);
            if let Some(Value::String(target)) = members.remove("$ref") {
                let target = json!({ "$ref": target.replace("#/$defs/", "#/components/schemas/") });
                if members.is_empty() {
                    *schema = target;
                } else {
                    members.insert("allOf".to_owned(), json!([target]));
                }
            }
        }
        _ => {}
    }
}

fn payload(event: &Event) -> Value {
    serde_json::from_slice(&event.to_binary().data).unwrap()
}

fn example() -> Event {
    let (bucket, object, request_id) = ("examplebucket", "exampledir/exampleobject.txt", "5CF3E7821AB22D0FDB86704D");
    Event {
        id: EventId::from_request(bucket, object, request_id),
        time: "2026-01-01T00:00:00.123456Z".parse().unwrap(),
        data: UploadCompleted {
            bucket: bucket.into(),
            object: object.into(),
            etag: Some("D8E8FCA2DC0F896FD7CB4CB0031BA249".into()),
            size: Some(1024),
            mime_type: Some("text/plain".into()),
            crc64: Some("17834398232350201234".into()),
            content_md5: None,
            image: Some(Image { width: Some(200), height: Some(278), format: Some("jpg".into()) }),
            operation: Some("PutObject".into()),
            request_id: Some(request_id.into()),
            client_ip: Some("203.0.113.7".into()),
            vpc_id: None,
            vars: [("user".to_owned(), "42".to_owned())].into(),
            extra: [("anything".to_owned(), "else the body carried".into())].into(),
            route: "avatars".into(),
            bucket_from: BucketSource::Body,
            proof: vec![Proof::Signature],
            origin: Origin::Callback,
        },
        trace: None,
    }
}
