//! The event's types.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{EventId, TraceContext};

/// One upload, completed and authenticated, with the identity that every reader of it shares.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Same upload, same id, however often and by whichever way it is reported.
    pub id: EventId,
    /// When the gateway took the callback in: OSS calls when an upload is complete, and signs no time. Of a notification, when
    /// OSS says that the upload was complete.
    pub time: Timestamp,
    /// What is known about the upload.
    pub data: UploadCompleted,
    /// The trace of the callback that it came by, and what published it. It stays with the event wherever that goes.
    pub trace: Option<TraceContext>,
}

/// OSS's request ids are this long, and begin with so many digits of time.
const REQUEST_ID_DIGITS: usize = 24;
const SECOND_DIGITS: usize = 8;

impl Event {
    /// About how many bytes its texts take in memory. A callback's body is bounded; how many events somebody holds at
    /// once should be, too.
    #[must_use]
    pub fn weight(&self) -> usize {
        let data = &self.data;
        let texts = [
            &data.etag,
            &data.mime_type,
            &data.crc64,
            &data.content_md5,
            &data.operation,
            &data.request_id,
            &data.client_ip,
            &data.vpc_id,
        ];
        let texts: usize = texts.into_iter().flatten().map(String::len).sum();
        let vars: usize = data.vars.iter().map(|(name, value)| name.len() + value.len()).sum();
        let extra: usize = data.extra.iter().map(|(name, value)| name.len() + weight(value)).sum();
        size_of::<Self>() + data.bucket.len() + data.object.len() + data.route.len() + texts + vars + extra
    }

    /// When OSS took the request that the id is made of, in seconds since 1970; none where it is made of something else.
    ///
    /// It comes from what the id itself comes from and from nothing else, so that an id has one such second for ever.
    /// Whoever stores ids and orders them by it has new ones side by side; by themselves, they are hashes.
    #[must_use]
    pub fn request_second(&self) -> Option<u32> {
        let data = &self.data;
        let request_id = data.request_id.as_deref()?;
        let is_one = request_id.len() == REQUEST_ID_DIGITS && request_id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_one || EventId::from_request(&data.bucket, &data.object, request_id) != self.id {
            return None;
        }
        u32::from_str_radix(&request_id[..SECOND_DIGITS], 16).ok()
    }
}

fn weight(value: &Value) -> usize {
    let inside = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(weight).sum(),
        Value::Object(fields) => fields.iter().map(|(name, value)| name.len() + weight(value)).sum(),
    };
    size_of::<Value>() + inside
}

/// What is known about one completed upload. A field that nobody reported is null, never invented.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UploadCompleted {
    /// The bucket's name. `bucket_from` tells who said so.
    pub bucket: String,
    /// The object's full key, without a leading slash.
    pub object: String,
    /// The object's ETag, as OSS writes it, without quotes.
    pub etag: Option<String>,
    /// The whole object's size in bytes.
    pub size: Option<u64>,
    /// The object's media type.
    pub mime_type: Option<String>,
    /// The object's CRC-64/ECMA in decimal; a string, since it exceeds what JSON numbers carry safely.
    pub crc64: Option<String>,
    /// Base64 of the MD5 of the content that was sent.
    pub content_md5: Option<String>,
    /// What OSS found out about an image; null for anything else.
    pub image: Option<Image>,
    /// The operation that completed the upload: `PutObject`, `PostObject`, `CompleteMultipartUpload`.
    pub operation: Option<String>,
    /// The upload's request id at OSS, from the signed body.
    pub request_id: Option<String>,
    /// The uploader's address, as OSS saw it.
    pub client_ip: Option<String>,
    /// The VPC that the upload came from.
    pub vpc_id: Option<String>,
    /// The uploader's custom variables (`x:name`), without their prefix.
    #[serde(default)]
    pub vars: BTreeMap<String, String>,
    /// Whatever else the callback's body carried, under the names it used.
    #[serde(default)]
    pub extra: BTreeMap<String, Value>,
    /// The route that took the callback.
    pub route: String,
    /// Who named the bucket. Only `body` was signed.
    pub bucket_from: BucketSource,
    /// What was established about this event, in a fixed order.
    pub proof: Vec<Proof>,
    /// How Upcall learnt of the upload.
    pub origin: Origin,
}

/// Dimensions and format of an uploaded image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Image {
    /// Width in pixels.
    pub width: Option<u64>,
    /// Height in pixels.
    pub height: Option<u64>,
    /// Format as OSS names it, such as `jpg`.
    pub format: Option<String>,
}

/// Something that was established about an event, beyond what it claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// OSS signed the callback's path, query and body: what the body says, some OSS account caused it to say.
    /// It covers neither headers nor the bucket's owner, so a bucket whose `bucket_from` is not `body` is outside it.
    Signature,
    /// The body carried a grant that the application gave to this uploader.
    Grant,
    /// The object was looked up in the bucket and is as the event says.
    Confirmed,
}

/// Who named the event's bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BucketSource {
    /// The callback's body, which OSS signed.
    Body,
    /// The route's configuration, which allows exactly one bucket. The body named none.
    Route,
    /// The `x-oss-bucket` header, which nobody signed. Only routes that allow it.
    Header,
    /// OSS's event notification, which nobody signed. Only routes that allow it.
    Notification,
}

/// How Upcall learnt of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// OSS called back inside the upload request.
    Callback,
    /// OSS notified afterwards (an event notification), as when a callback was lost.
    Notification,
}

macro_rules! wire_name {
    ($type:ty { $($variant:ident => $name:literal),+ $(,)? }) => {
        impl $type {
            /// The name on the wire and in the configuration.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}

wire_name!(Proof { Signature => "signature", Grant => "grant", Confirmed => "confirmed" });
wire_name!(BucketSource { Body => "body", Route => "route", Header => "header", Notification => "notification" });
wire_name!(Origin { Callback => "callback", Notification => "notification" });

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn example() -> Event {
        Event {
            id: EventId::from_request("examplebucket", "exampledir/exampleobject.txt", "5CF3E7821AB22D0FDB86704D"),
            time: "2026-01-01T00:00:00.123456Z".parse().unwrap(),
            data: UploadCompleted {
                bucket: "examplebucket".into(),
                object: "exampledir/exampleobject.txt".into(),
                etag: Some("D8E8FCA2DC0F896FD7CB4CB0031BA249".into()),
                size: Some(1024),
                mime_type: Some("text/plain".into()),
                crc64: Some("17834398232350201234".into()),
                content_md5: None,
                image: Some(Image { width: Some(200), height: Some(278), format: Some("jpg".into()) }),
                operation: Some("PutObject".into()),
                request_id: Some("5CF3E7821AB22D0FDB86704D".into()),
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

    #[test]
    fn wire_names_are_what_serde_writes() {
        for proof in [Proof::Signature, Proof::Grant, Proof::Confirmed] {
            assert_eq!(serde_json::to_value(proof).unwrap(), proof.as_str());
        }
        for source in [BucketSource::Body, BucketSource::Route, BucketSource::Header, BucketSource::Notification] {
            assert_eq!(serde_json::to_value(source).unwrap(), source.as_str());
        }
        for origin in [Origin::Callback, Origin::Notification] {
            assert_eq!(serde_json::to_value(origin).unwrap(), origin.as_str());
        }
    }
}
