//! The event as S3 and what is compatible with it notify of uploads, for consumers that understand that already.

use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use upcall_event::Event;

/// Keys are encoded as in a form, but for the slash. Source: Amazon S3 User Guide, "Event message structure".
const KEY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'*').remove(b'/').remove(b' ');

/// The event as a message with one record. `EventName` and `Key` beside the records are MinIO's.
pub(crate) fn records(event: &Event) -> Value {
    let data = &event.data;
    let name = event_name(data.operation.as_deref());
    let mut object = json!({ "key": key(&data.object), "sequencer": sequencer(event.time) });
    let optional = [
        ("size", data.size.map(Value::from)),
        ("eTag", data.etag.as_deref().map(Value::from)),
        ("contentType", data.mime_type.as_deref().map(Value::from)),
    ];
    for (field, value) in optional {
        if let Some(value) = value {
            object[field] = value;
        }
    }
    let request_id = data.request_id.clone().unwrap_or_else(|| event.id.to_string());
    json!({
        "EventName": format!("s3:{name}"),
        "Key": format!("{}/{}", data.bucket, data.object),
        "Records": [{
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": "",
            "eventTime": format!("{:.3}", event.time),
            "eventName": name,
            "userIdentity": { "principalId": "" },
            "requestParameters": { "sourceIPAddress": data.client_ip.as_deref().unwrap_or_default() },
            "responseElements": { "x-amz-request-id": request_id, "x-amz-id-2": event.id.to_string() },
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": data.route,
                "bucket": {
                    "name": data.bucket,
                    "ownerIdentity": { "principalId": "" },
                    "arn": format!("arn:aws:s3:::{}", data.bucket),
                },
                "object": object,
            },
        }],
    })
}

/// What S3 calls the operation. One that it does not know is called as the simplest is.
fn event_name(operation: Option<&str>) -> &'static str {
    match operation {
        Some("PostObject") => "ObjectCreated:Post",
        Some("CopyObject") => "ObjectCreated:Copy",
        Some("CompleteMultipartUpload") => "ObjectCreated:CompleteMultipartUpload",
        _ => "ObjectCreated:Put",
    }
}

fn key(object: &str) -> String {
    utf8_percent_encode(object, KEY).to_string().replace(' ', "+")
}

/// Hexadecimal digits whose order, as text, is the order of the events of one object.
fn sequencer(time: Timestamp) -> String {
    format!("{:016X}", time.as_nanosecond().max(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::event;

    #[test]
    fn an_event_is_the_record_that_s3_sends() {
        let mut event = event("photos/red flower.jpg");
        event.data.request_id = Some("5CF3E7821AB22D0FDB86704D".into());
        event.data.client_ip = Some("203.0.113.7".into());
        event.data.etag = Some("D8E8FCA2DC0F896FD7CB4CB0031BA249".into());
        event.data.mime_type = Some("image/jpeg".into());
        event.data.operation = Some("CompleteMultipartUpload".into());
        let expected = json!({
            "EventName": "s3:ObjectCreated:CompleteMultipartUpload",
            "Key": "examplebucket/photos/red flower.jpg",
            "Records": [{
                "eventVersion": "2.1",
                "eventSource": "aws:s3",
                "awsRegion": "",
                "eventTime": "2026-01-01T00:00:00.123Z",
                "eventName": "ObjectCreated:CompleteMultipartUpload",
                "userIdentity": {"principalId": ""},
                "requestParameters": {"sourceIPAddress": "203.0.113.7"},
                "responseElements": {"x-amz-request-id": "5CF3E7821AB22D0FDB86704D", "x-amz-id-2": event.id.to_string()},
                "s3": {
                    "s3SchemaVersion": "1.0",
                    "configurationId": "avatars",
                    "bucket": {
                        "name": "examplebucket",
                        "ownerIdentity": {"principalId": ""},
                        "arn": "arn:aws:s3:::examplebucket"
                    },
                    "object": {
                        "key": "photos/red+flower.jpg",
                        "size": 1024,
                        "eTag": "D8E8FCA2DC0F896FD7CB4CB0031BA249",
                        "contentType": "image/jpeg",
                        "sequencer": "18867251F555CA00"
                    }
                }
            }]
        });
        assert_eq!(records(&event), expected);
    }

    #[test]
    fn what_nobody_reported_is_left_out() {
        let mut event = event("a");
        event.data.size = None;
        let object = &records(&event)["Records"][0]["s3"]["object"];
        assert_eq!(object.as_object().unwrap().keys().collect::<Vec<_>>(), ["key", "sequencer"]);
    }

    #[test]
    fn a_key_reads_back_as_a_form_value_does() {
        for (object, written) in [
            ("a/b-c_d.e*", "a/b-c_d.e*"),
            ("red flower+1.jpg", "red+flower%2B1.jpg"),
            ("ä/ü&=%", "%C3%A4/%C3%BC%26%3D%25"),
        ] {
            assert_eq!(key(object), written);
        }
    }

    #[test]
    fn a_later_event_has_a_greater_sequencer() {
        let times =
            ["1970-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000001Z", "2200-01-01T00:00:00Z"];
        let sequencers: Vec<String> = times.iter().map(|time| sequencer(time.parse().unwrap())).collect();
        assert!(sequencers.is_sorted() && sequencers.iter().all(|sequencer| sequencer.len() == 16), "{sequencers:?}");
    }
}
