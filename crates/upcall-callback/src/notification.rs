//! OSS's event notifications, in the JSON that its triggers hand over: what OSS tells afterwards about an upload.
//!
//! Nobody signs a notification. Whoever can hand one over decides what it says.

use serde::Deserialize;
use serde_json::Value;

/// How many notifications one list may have. OSS hands over one at a time.
const NOTIFICATIONS_MAX: usize = 100;
/// How the names of the events begin that tell of an object.
const CREATED: &str = "ObjectCreated:";

/// What OSS tells about one upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// The operation, as a callback names it: `PutObject`, `PostObject`, `CompleteMultipartUpload`, `CopyObject`, ….
    pub operation: String,
    /// When OSS says that it happened, in RFC 3339.
    pub time: String,
    /// The bucket's name.
    pub bucket: String,
    /// The object's full key.
    pub object: String,
    /// The object's ETag.
    pub etag: Option<String>,
    /// The whole object's size in bytes.
    pub size: Option<u64>,
    /// The upload's request id at OSS: that of its callback.
    pub request_id: String,
    /// The uploader's address.
    pub client_ip: Option<String>,
}

/// A list of notifications.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notifications {
    /// Those of uploads, in their order. One that can't be read leaves the others as they are.
    pub uploads: Vec<Result<Notification, NotificationError>>,
    /// How many are of something else, such as of a removal.
    pub others: usize,
}

/// Why something is no list of notifications, or no notification in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotificationError {
    /// It has another form.
    #[error("it is not the JSON of an OSS trigger")]
    Form,
    /// A field is missing without which there is no event.
    #[error("a notification names no {field}")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// The list is too long.
    #[error("there are more than {NOTIFICATIONS_MAX} notifications in one")]
    TooMany,
}

impl Notifications {
    /// Reads what an OSS trigger hands over. What OSS adds to it some day is no mistake.
    ///
    /// # Errors
    /// If it is something else, or too long.
    pub fn parse(json: &[u8]) -> Result<Self, NotificationError> {
        let list: List = serde_json::from_slice(json).map_err(|_| NotificationError::Form)?;
        if list.events.len() > NOTIFICATIONS_MAX {
            return Err(NotificationError::TooMany);
        }
        let mut read = Self { uploads: Vec::new(), others: 0 };
        for entry in list.events {
            // What names no event may be of an upload.
            let Ok(entry) = serde_json::from_value::<Entry>(entry) else {
                read.uploads.push(Err(NotificationError::Form));
                continue;
            };
            match entry.event_name.strip_prefix(CREATED).map(str::to_owned) {
                Some(operation) => read.uploads.push(entry.upload(operation)),
                None => read.others += 1,
            }
        }
        Ok(read)
    }
}

#[derive(Deserialize)]
struct List {
    events: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    event_name: String,
    #[serde(default)]
    event_time: Option<String>,
    #[serde(default)]
    oss: Value,
    #[serde(default)]
    request_parameters: Value,
    #[serde(default)]
    response_elements: Value,
}

impl Entry {
    fn upload(self, operation: String) -> Result<Notification, NotificationError> {
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let needed = |field, value: Option<String>| value.ok_or(NotificationError::Missing { field });
        let object = &self.oss["object"];
        Ok(Notification {
            operation: needed("operation", Some(operation).filter(|operation| !operation.is_empty()))?,
            time: needed("time", self.event_time.filter(|time| !time.is_empty()))?,
            bucket: needed("bucket", text(&self.oss["bucket"]["name"]))?,
            object: needed("object", text(&object["key"]))?,
            etag: text(&object["eTag"]),
            size: object["size"].as_u64(),
            request_id: needed("request id", text(&self.response_elements["requestId"]))?,
            client_ip: text(&self.request_parameters["sourceIPAddress"]),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// As Alibaba Cloud documents it.
    const DOCUMENTED: &str = r#"{"events":[{"eventName":"ObjectCreated:PutObject","eventSource":"acs:oss","eventTime":"2022-08-13T06:45:43.000Z",
        "eventVersion":"1.0","oss":{"bucket":{"arn":"acs:oss:cn-hangzhou:123456789:testbucket","name":"testbucket","ownerIdentity":"164901546557"},
        "object":{"deltaSize":122539,"eTag":"688A7BF4F233DC9C88A80BF985AB0000","key":"source/a.png","size":122539},"ossSchemaVersion":"1.0","ruleId":"9adac8"},
        "region":"cn-hangzhou","requestParameters":{"sourceIPAddress":"140.205.0.1"},"responseElements":{"requestId":"58F9FF2D3DF792092E12044C"},
        "userIdentity":{"principalId":"164901546557"}}]}"#;

    fn upload() -> Notification {
        Notification {
            operation: "PutObject".into(),
            time: "2022-08-13T06:45:43.000Z".into(),
            bucket: "testbucket".into(),
            object: "source/a.png".into(),
            etag: Some("688A7BF4F233DC9C88A80BF985AB0000".into()),
            size: Some(122_539),
            request_id: "58F9FF2D3DF792092E12044C".into(),
            client_ip: Some("140.205.0.1".into()),
        }
    }

    #[test]
    fn the_documented_notification_is_read() {
        let read = Notifications::parse(DOCUMENTED.as_bytes());
        assert_eq!(read, Ok(Notifications { uploads: vec![Ok(upload())], others: 0 }));
    }

    #[test]
    fn what_is_no_upload_is_counted_and_left_out() {
        let text = DOCUMENTED.replace("ObjectCreated:PutObject", "ObjectRemoved:DeleteObject");
        assert_eq!(Notifications::parse(text.as_bytes()), Ok(Notifications { uploads: vec![], others: 1 }));
    }

    #[test]
    fn an_upload_that_is_not_fully_named_makes_no_event() {
        let missing = |from: &str, to: &str| {
            Notifications::parse(DOCUMENTED.replace(from, to).as_bytes()).unwrap().uploads.remove(0).unwrap_err()
        };
        assert_eq!(missing("\"requestId\"", "\"other\""), NotificationError::Missing { field: "request id" });
        assert_eq!(missing("\"key\":\"source/a.png\"", "\"key\":\"\""), NotificationError::Missing { field: "object" });
        assert_eq!(missing("\"name\":\"testbucket\"", "\"name\":7"), NotificationError::Missing { field: "bucket" });
        assert_eq!(missing("\"eventTime\"", "\"when\""), NotificationError::Missing { field: "time" });
        for other in ["", "[]", "{}", "{\"events\":{}}", "\"events\""] {
            assert_eq!(Notifications::parse(other.as_bytes()), Err(NotificationError::Form), "{other}");
        }
        let many = json!({ "events": vec![json!({ "eventName": "x" }); NOTIFICATIONS_MAX + 1] }).to_string();
        assert_eq!(Notifications::parse(many.as_bytes()), Err(NotificationError::TooMany));
    }

    #[test]
    fn one_that_cannot_be_read_takes_no_other_with_it() {
        let mut list: Value = serde_json::from_str(DOCUMENTED).unwrap();
        let good = list["events"][0].clone();
        let mut unnamed = good.clone();
        unnamed["responseElements"] = json!({});
        list["events"] = json!([7, {}, good, unnamed, good]);
        let read = Notifications::parse(list.to_string().as_bytes()).unwrap();
        let missing = NotificationError::Missing { field: "request id" };
        let form = NotificationError::Form;
        assert_eq!(read.uploads, [Err(form), Err(form), Ok(upload()), Err(missing), Ok(upload())]);
    }

    proptest! {
        /// Whatever a key holds, it is in the event as it is in the notification.
        #[test]
        fn an_object_comes_through_unchanged(key in "\\PC{1,40}", bucket in "[a-z0-9-]{3,20}", size: u64) {
            let text = json!({ "events": [{ "eventName": "ObjectCreated:PostObject", "eventTime": "2022-08-13T06:45:43Z",
                "oss": { "bucket": { "name": bucket }, "object": { "key": key, "size": size } },
                "responseElements": { "requestId": "58F9FF2D3DF792092E12044C" } }] });
            let read = Notifications::parse(text.to_string().as_bytes()).unwrap().uploads.remove(0).unwrap();
            prop_assert_eq!((read.object, read.bucket, read.size), (key, bucket, Some(size)));
        }

        #[test]
        fn nothing_that_is_handed_over_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Notifications::parse(&bytes);
        }
    }
}
