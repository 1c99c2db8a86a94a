//! The event as it is posted.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use upcall_event::{Event, TraceContext};

use crate::s3;
use crate::secret::{Secret, signatures};

/// What the body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// A CloudEvent as one JSON document.
    #[default]
    Structured,
    /// A CloudEvent whose attributes are `ce-` headers; the body is the upload. Only the body is signed.
    Binary,
    /// A notification as S3 sends it: `{"Records": […]}`.
    S3,
}

/// The headers, beside those that are configured, and the body. The same event has the same body, however often.
pub(crate) fn message(event: &Event, format: Format) -> (HeaderMap, Bytes) {
    match format {
        Format::Structured => (typed("application/cloudevents+json"), event.to_structured().into()),
        Format::Binary => {
            let binary = event.to_binary();
            let header = |(name, value): &(&'static str, String)| {
                // They are printable ASCII by construction.
                Some((HeaderName::from_static(name), HeaderValue::from_str(value).ok()?))
            };
            (binary.headers.iter().filter_map(header).collect(), binary.data.into())
        }
        Format::S3 => (typed("application/json"), s3::records(event).to_string().into()),
    }
}

/// Signs a body, and puts what the receiver needs to verify it into the headers.
pub(crate) fn sign(headers: &mut HeaderMap, secrets: &[Secret], id: &str, timestamp: i64, body: &[u8]) {
    let signature = signatures(secrets, id, timestamp, body);
    let parts = [("webhook-id", id), ("webhook-timestamp", &timestamp.to_string()), ("webhook-signature", &signature)];
    for (name, value) in parts {
        // Hexadecimal, decimal and base64 digits are.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

/// Tells the receiver which span is waiting for it. Without one, the headers stay as the event has them.
pub(crate) fn carry(headers: &mut HeaderMap, trace: Option<&TraceContext>) {
    let Some(trace) = trace else { return };
    for (name, value) in trace.headers() {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

fn typed(content_type: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))])
}
