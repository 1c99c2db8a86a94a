//! Rejected callbacks, kept for somebody to look at.

use std::collections::BTreeMap;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ArchiveError;

/// Keeps rejected callbacks. [`Archive::quarantined`](crate::Archive::quarantined) shows them.
///
/// A quarantine is bounded, and its oldest entries go first: it explains, and is no way to get an event back.
#[async_trait]
pub trait Quarantine: Send + Sync {
    /// Keeps callbacks, in this order. `Ok` means that they outlive this process, not that they outlive a power cut.
    ///
    /// # Errors
    /// If the bus can't be written; some may have been kept.
    async fn quarantine(&self, rejected: &[RejectedCallback]) -> Result<(), ArchiveError>;
}

/// A callback that was rejected, with what is needed to explain it and to try it again. Nothing of it is proved.
///
/// It is kept as JSON, on either bus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedCallback {
    /// When it was rejected.
    pub time: Timestamp,
    /// The code that was answered, such as `signature_mismatch`.
    pub code: String,
    /// Why, as the log has it.
    pub reason: String,
    /// The route, if one was found.
    pub route: Option<String>,
    /// OSS's id of the request, or ours where it had none.
    pub request_id: String,
    /// The address that it came from.
    pub peer: String,
    /// The request's method.
    pub method: String,
    /// The request's target, as it arrived.
    pub target: String,
    /// The headers that explain a callback, by their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body, or its beginning; `None` where the request was rejected before its body was read.
    #[serde(flatten)]
    pub body: Option<RejectedBody>,
}

/// The body of a rejected callback, or its beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WrittenBody", into = "WrittenBody")]
pub struct RejectedBody {
    /// As many of its bytes as are kept.
    pub bytes: Vec<u8>,
    /// How many it had.
    pub length: u64,
}

/// A rejected callback in quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Its number on this bus: larger is later.
    pub number: u64,
    /// The callback.
    pub callback: RejectedCallback,
}

/// A body in JSON: text where it is text.
#[derive(Serialize, Deserialize)]
struct WrittenBody {
    body_length: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

impl RejectedCallback {
    /// Writes it as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        // It has nothing that JSON can't say.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads what [`RejectedCallback::to_json`] wrote.
    ///
    /// # Errors
    /// If it is no such JSON.
    pub fn from_json(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }
}

impl From<RejectedBody> for WrittenBody {
    fn from(RejectedBody { bytes, length: body_length }: RejectedBody) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self { body_length, body: Some(text), body_base64: None },
            Err(error) => Self { body_length, body: None, body_base64: Some(STANDARD.encode(error.as_bytes())) },
        }
    }
}

impl TryFrom<WrittenBody> for RejectedBody {
    type Error = base64::DecodeError;

    fn try_from(written: WrittenBody) -> Result<Self, base64::DecodeError> {
        let bytes = match (written.body, written.body_base64) {
            (Some(text), _) => text.into_bytes(),
            (None, Some(base64)) => STANDARD.decode(base64)?,
            (None, None) => Vec::new(),
        };
        Ok(Self { bytes, length: written.body_length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn callback(body: Option<RejectedBody>) -> RejectedCallback {
        RejectedCallback {
            time: Timestamp::UNIX_EPOCH,
            code: "signature_mismatch".to_owned(),
            reason: "it is \"wrong\"".to_owned(),
            route: None,
            request_id: "5CF3E7821AB22D0FDB867000".to_owned(),
            peer: "[::1]:80".to_owned(),
            method: "POST".to_owned(),
            target: "/oss/a?b=%00".to_owned(),
            headers: [("x-oss-bucket".to_owned(), "ü\u{fffd}".to_owned())].into(),
            body,
        }
    }

    #[test]
    fn a_callback_survives_json_whatever_its_body_is() {
        let bodies =
            [&b""[..], b"bucket=a&object=%FF", "{\"object\": \"\u{0}\u{1b}\u{fc}\"}".as_bytes(), &[0xff, 0, 0xfe]];
        let bodies = bodies.map(|bytes| Some(RejectedBody { bytes: bytes.to_vec(), length: 1 << 20 }));
        for body in bodies.into_iter().chain([None]) {
            let callback = callback(body);
            assert_eq!(RejectedCallback::from_json(callback.to_json().as_bytes()).unwrap(), callback);
        }
    }

    #[test]
    fn a_body_is_text_where_it_is_text() {
        let json = |bytes: &[u8]| callback(Some(RejectedBody { bytes: bytes.to_vec(), length: 2 })).to_json();
        assert!(json(b"a=b").ends_with(r#""body_length":2,"body":"a=b"}"#), "{}", json(b"a=b"));
        assert!(json(b"\xff").ends_with(r#""body_length":2,"body_base64":"/w=="}"#), "{}", json(b"\xff"));
    }
}
